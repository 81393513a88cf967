"""Figures 4 to 10 of "Joint DNN Model Deployment, Selection, and Configuration for Heterogeneous
Inference Services Toward Edge Intelligence", and what HISPER's parts and its temperature do.

Figures that show the same experiment form a group, and a group is measured once:

    services/tables     figures 4, 5, 6: accuracies and size factors, as embedded
    services/training   figures 7, 8, 10, ablation: every policy with literal and percent
                        accuracies, 8 and 10 agents
    fig09               seconds of a decision, one slot and 1000 at a time, of untrained networks
    temperature         HISPER at five temperatures, trained as one program, literal accuracies

    python -m runs.reproduce figure=services/training scale=smoke
    python -m runs.reproduce figure=services/all scale=paper

Learners are those of ``experiment=services``, ``services_hasac`` and ``services_happo``; with
``paper`` that of ``services_paper``, from which HASAC differs by its two switches. ``smoke`` trains
with percent accuracies and 8 agents alone, for 2 cores, and measures the baselines and the bound
everywhere; ``paper`` trains everywhere, by the paper's schedule, for a GPU. ``num_seeds``,
``num_updates`` and ``eval_episodes`` replace the scale's; ``learners`` are those that are trained;
``agent=hisper`` or ``agent=happo`` and its settings those of the presets of that learner;
``env=services`` and its settings those of every scenario. Every learned policy is measured greedy,
and as ``NAME, sampled``.
"""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from agents import registry as agents_registry
from agents.estimates import EpisodeTerms
from agents.lanes import split_lanes
from agents.learner import Learner, Policy, evaluate
from jaxenv.environment import Environment
from jaxenv.errors import ConfigError
from jaxenv.services import FRAME_RATES, QUALITIES, SCALES, Service, detection, tracking
from runs import evaluate as evaluation
from runs import tables
from runs.jobs import Job
from runs.policies import policies_of
from runs.reproductions import Reproduction, output_folder, preset, trained, training_job
from runs.reproductions import services_claims as claims
from runs.reproductions import services_figures as plots
from runs.reproductions.services_claims import (
    ALPHAS,
    BATCHES,
    DEVIATION,
    ENTROPY,
    HAPPO,
    HASAC,
    HISPER,
    INDEPENDENT,
    LEARNED,
    ONE_VALUE,
    SAMPLED,
    SCENARIOS,
    SECONDS,
    SLACK,
    Curve,
)
from runs.reproductions.sweeps import Table
from runs.settings import Config, build_env, build_learner

STEMS = {
    "smoke": {HASAC: "services_hasac", HAPPO: "services_happo"},
    "paper": {HASAC: "services_paper", HAPPO: "services_happo"},
}
OWN = {"smoke": "services", "paper": "services_paper"}  # of HISPER and its halves
SWITCHES: dict[str, Config] = {
    HASAC: {"hybrid_reward": False, "autoregressive": False},
    ONE_VALUE: {"hybrid_reward": False},
    INDEPENDENT: {"autoregressive": False},
}
PAPER_ALPHA = {"literal": (0.05, 0.05), "percent": (2.0, 2.5)}  # with 8 and 10 agents
PAPER_DISCOUNT = 0.99
LEAST_TIMED_S, MOST_TIMED_S = 0.2, 2.0  # of all repeats together
REPEATS = 5, 100
SECOND_SETTING = {"detection": QUALITIES, "tracking": FRAME_RATES}


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long learners train, where, and how policies are measured.

    num_updates: None = the preset's. trained: scenarios with learners. swept: those in which the
    temperature is swept, by ``sweep_seeds`` each.
    """

    num_seeds: int
    num_updates: int | None
    eval_episodes: int
    trained: tuple[str, ...]
    swept: tuple[str, ...]
    sweep_seeds: int


SCHEDULES = {
    "smoke": Schedule(3, None, 20, (claims.at("percent", 8),), (claims.at("literal", 8),), 1),
    "paper": Schedule(
        *(5, 300, 100, tuple(SCENARIOS)),
        *(tuple(claims.at("literal", n) for n in claims.AGENTS), 5),
    ),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """A training run: its job, the states of its seeds, and how many runs were trained with it."""

    job: Job
    states: Any
    runs: int


@dataclasses.dataclass(frozen=True)
class Measured:
    """A group: rows of ``evaluation.csv``, and training curves by scenario and policy."""

    rows: list[tables.Row]
    curves: dict[tuple[str, str], Curve]


def schedule(config: Config) -> Schedule:
    """What the configuration gives, else the scale's own."""
    own = SCHEDULES[config["scale"]]
    return dataclasses.replace(
        own,
        num_seeds=config.get("num_seeds") or own.num_seeds,
        sweep_seeds=config.get("num_seeds") or own.sweep_seeds,
        num_updates=config.get("num_updates") or own.num_updates,
        eval_episodes=config.get("eval_episodes") or own.eval_episodes,
    )


def learners(config: Config) -> tuple[str, ...]:
    """Which learners are trained and measured: ``config["learners"]``, or all."""
    names = config.get("learners") or LEARNED
    for name in names:
        if name not in LEARNED:
            raise ConfigError("learners", name, f"choose from {list(LEARNED)}")
    return tuple(names)


# ---- training ----------------------------------------------------------------------------------


def env_of(config: Config, scenario: str, **options: Any) -> Config:
    """The settings of a scenario's environment."""
    kind, agents = SCENARIOS[scenario]
    given = config.get("env") or {}
    given = given if given.get("name") == "services" else {}
    return given | {"name": "services", "preset": kind, "num_agents": agents} | options


def agent_of(config: Config, scenario: str, name: str) -> tuple[Config, Config]:
    """``(experiment preset, settings)`` of a learner in a scenario, with the user's settings."""
    scale = config["scale"]
    own = preset(STEMS[scale].get(name, OWN[scale]))
    given = config.get("agent") or {}
    same = given.get("name") == own["agent"]["name"]
    given = {k: v for k, v in given.items() if same and v is not None}
    paper: Config = {}
    if scale == "paper":
        kind, agents = SCENARIOS[scenario]
        alpha = PAPER_ALPHA[kind][claims.AGENTS.index(agents)]
        paper = {"discount": PAPER_DISCOUNT} if name == HAPPO else {"alpha": alpha}
    return own, own["agent"] | paper | given | SWITCHES.get(name, {})


def job_of(
    config: Config,
    folder: Path,
    scenario: str,
    name: str,
    plan: Schedule,
    num_seeds: int,
    agent: Config | None = None,
) -> Job:
    """A training run. agent: settings beyond the preset's and the user's."""
    own, settings = agent_of(config, scenario, name)
    return training_job(
        {key: config[key] for key in ("seed", "precision")}
        | {
            "env": env_of(config, scenario),
            "agent": {"schedule_updates": None} | settings | (agent or {}),
            "num_updates": plan.num_updates or own["num_updates"],
            "num_seeds": num_seeds,
            "plugins": config.get("plugins", []),
            "checkpoint_episodes": 0,
            "eval_episodes": plan.eval_episodes,
            "eval_seed": config.get("eval_seed", 0),
            "episodes_per_call": plan.eval_episodes,
            "scenario": scenario,
        },
        folder,
    )


def trained_together(jobs: dict[Any, Job]) -> dict[Any, Run]:
    """Trains jobs, those that differ in traced leaves alone as one program."""
    groups: dict[Any, list[Any]] = {}
    for name, job in jobs.items():
        groups.setdefault(job.program_key(), []).append(name)
    runs = {}
    for names in groups.values():
        group = [jobs[name] for name in names]
        parts = split_lanes(trained(group), len(group))
        count = sum(job.num_seeds for job in group)
        runs |= {
            name: Run(job, part, count) for name, job, part in zip(names, group, parts, strict=True)
        }
    return runs


def folder_of(path: Path, *names: str) -> Path:
    """Where a training run is written."""
    return path / "training" / re.sub(r"\W+", "_", "_".join(names))


def curve_of(run: Run) -> Curve:
    """The curve of a run."""
    agent = run.job.learner
    rounds = getattr(agent, "rounds", None) or agent.rollout_length
    rows, timing = (
        tables.read_csv(run.job.folder / name) for name in ("metrics.csv", "timing.csv")
    )
    return claims.curve(
        rows, timing, int(run.job.params.max_steps), agent.num_envs * rounds, run.runs
    )


# ---- measuring ---------------------------------------------------------------------------------


def both(policies: dict[str, Policy]) -> dict[str, Policy]:
    """Learned policies, greedy and sampled."""
    return {
        name + kind: dataclasses.replace(policy, sample=bool(kind))
        for name, policy in policies.items()
        for kind in ("", SAMPLED)
    }


def measure(
    config: Config, scenario: str, learned: dict[str, Policy], names: Sequence[str], episodes: int
) -> list[tables.Row]:
    """Rows of learned policies (stacked over seeds), baselines and the bound on the same episodes.

    names: of the baselines; the first also carries the bound, which depends on the trace alone.
    Beside the environment's metrics, of every agent too, each policy has the deviation of its
    episodes' rewards and the least distance of an episode to the bound, in shares of it.
    """
    env, params = build_env(config | {"env": env_of(config, scenario, agent_metrics=True)})
    bound = agents_registry.bound(env)
    key = evaluation.evaluation_key({"eval_seed": config.get("eval_seed", 0)})
    policies = {name: agents_registry.baseline(name, env) for name in names} | learned
    rows, limits = [], None
    with tqdm(policies.items(), unit="policy") as bar:
        for name, policy in bar:
            bar.set_description(f"evaluate {name}, {scenario}")
            carried = bound if limits is None else None
            terms = evaluate(
                *(env, params, policy, key, episodes, carried),
                chunk=episodes,
                seeds=name in learned,
            )
            limits = limits or terms.bound
            terms = terms.replace(bound=limits)
            rows += tables.policy_rows(scenario, name, env.metrics, terms, bound.metric)
            rows += compared_rows(scenario, name, terms)
    return rows + tables.bound_rows(scenario, env.metrics, terms, bound.metric)


def compared_rows(scenario: str, policy: str, terms: EpisodeTerms) -> list[tables.Row]:
    """The deviation of a policy's episodes, and their least distance to the bound."""
    reward = np.atleast_2d(np.asarray(terms.numerator["reward"], np.float64))
    limit = np.asarray(terms.bound[0], np.float64)
    seeds, episodes = reward.shape
    values = {
        DEVIATION: float(np.sqrt(np.mean(np.var(reward, axis=1, ddof=min(1, episodes - 1))))),
        SLACK: float(((limit - reward) / np.abs(limit)).min()),
    }
    return [
        plain_row(scenario, policy, metric, "1", value, value, value)
        | {"episodes": episodes, "seeds": seeds}
        for metric, value in values.items()
    ]


def plain_row(
    scenario: str, policy: str, metric: str, unit: str, mean: float, low: float, high: float
) -> tables.Row:
    """A row of ``evaluation.csv`` that no episodes stand behind."""
    numbers = {"mean": mean, "ci_low": low, "ci_high": high}
    where = {"scenario": scenario, "policy": policy, "metric": metric, "unit": unit}
    return where | numbers | {"gap_to_bound": None, "episodes": None, "seeds": None}


# ---- the groups --------------------------------------------------------------------------------


def run_training(config: Config, path: Path) -> Measured:
    """Trains every learner where the scale says, and measures all policies everywhere."""
    plan = schedule(config)
    jobs = {
        (scenario, name): job_of(
            *(config, folder_of(path, scenario, name), scenario, name, plan, plan.num_seeds)
        )
        for scenario in plan.trained
        for name in learners(config)
    }
    runs = trained_together(jobs)
    baselines = agents_registry.usual_baselines("services")
    rows = []
    for scenario in SCENARIOS:
        learned = {
            name: policies_of(run.job.learner, run.states)
            for (place, name), run in runs.items()
            if place == scenario
        }
        rows += measure(config, scenario, both(learned), baselines, plan.eval_episodes)
    return Measured(rows, {key: curve_of(run) for key, run in runs.items()})


def run_temperature(config: Config, path: Path) -> Measured:
    """Trains HISPER at every temperature, constant from the start, and measures it.

    Adds the mean entropy of the sampled policies over the last tenth of the training, in shares of
    the uniform policy's.
    """
    plan = schedule(config)
    jobs = {}
    for scenario in plan.swept:
        for alpha in ALPHAS[SCENARIOS[scenario][1]]:
            place = claims.at_alpha(scenario, alpha)
            settings = {"alpha": alpha, "schedule_updates": 0, "temperature": "fixed"}
            folder = folder_of(path, place)
            jobs[scenario, place] = job_of(
                *(config, folder, scenario, HISPER, plan, plan.sweep_seeds, settings)
            )
    rows = []
    runs = trained_together(jobs)
    for (scenario, place), run in runs.items():
        policies = both({HISPER: policies_of(run.job.learner, run.states)})
        own = measure(config, scenario, policies, (claims.RANDOM,), plan.eval_episodes)
        low, mean, high = entropy_share(run)
        row = plain_row(place, HISPER + SAMPLED, ENTROPY, "1", mean, low, high)
        rows += [r | {"scenario": place} for r in own] + [row]
    for scenario in plan.swept:
        baselines = agents_registry.usual_baselines("services")
        rows += measure(config, scenario, {}, baselines, plan.eval_episodes)
    return Measured(rows, {key: curve_of(run) for key, run in runs.items()})


def entropy_share(run: Run) -> tuple[float, float, float]:
    """Least, mean and highest entropy of the seeds, in shares of the uniform policy's."""
    rows = tables.read_csv(run.job.folder / "metrics.csv")
    last = 0.9 * max(int(row["update"]) for row in rows)
    by_seed: dict[str, list[float]] = {}
    for row in rows:
        if int(row["update"]) >= last:
            by_seed.setdefault(row["seed"], []).append(float(row["entropy"]))
    values = np.array([np.mean(own) for own in by_seed.values()]) / uniform_entropy(run.job)
    return float(values.min()), float(values.mean()), float(values.max())


def uniform_entropy(job: Job) -> float:
    """Of an agent, nat: the mean over agents of the log of the number of its actions."""
    p = job.params
    actions = np.asarray(p.num_configs)[p.service] * np.asarray(p.num_models)[p.service]
    return float(np.mean(np.log(actions))) + math.log(job.env.num_servers)


def run_times(config: Config, path: Path) -> Measured:
    """Medians and quartiles of the seconds of a decision, of 1 slot and of 1000 at a time.

    Networks are those of the start: their weights do not change the time. Observations and masks
    are given, compilation is not timed, and fixed prices are fitted before. The repeats stand in
    the column ``episodes``.
    """
    rows = []
    for agents in claims.AGENTS:
        scenario = claims.at("literal", agents)
        env, params = build_env(config | {"env": env_of(config, scenario)})
        policies = {
            name: untrained(config, scenario, name, env, params) for name in (HISPER, HASAC, HAPPO)
        } | {
            name: agents_registry.baseline(name, env)
            for name in agents_registry.usual_baselines(env.name)
        }
        for name, policy in tqdm(policies.items(), desc=f"time of {agents} agents"):
            for batch, seconds in decision_times(env, params, policy):
                low, median, high = np.quantile(seconds, [0.25, 0.5, 0.75]) / batch
                place = claims.at_batch(agents, batch)
                row = plain_row(place, name, SECONDS, "s", median, low, high)
                rows.append(row | {"episodes": len(seconds)})
    return Measured(rows, {})


def untrained(config: Config, scenario: str, name: str, env: Environment, params: Any) -> Policy:
    """The greedy policy of a learner that has not learned."""
    settings = agent_of(config, scenario, name)[1]
    learner, hp = build_learner(
        {"agent": {k: v for k, v in settings.items() if k != "schedule_updates"}}, env
    )
    if hasattr(learner, "prefill"):
        learner = dataclasses.replace(learner, prefill=1, buffer_size=learner.num_envs)
    return _start(learner, params, hp)


@partial(jax.jit, static_argnums=0)
def _start(learner: Learner, params: Any, hp: Any) -> Policy:
    return learner.policy(learner.init(jax.random.key(0), params, hp))


def decision_times(
    env: Environment, params: Any, policy: Policy, batches: Iterable[int] = BATCHES
) -> Iterable[tuple[int, list[float]]]:
    """Seconds of each of several decisions for so many slots at once."""
    key = jax.random.key(0)
    carry = jax.block_until_ready(jax.jit(partial(policy.init, env=env, params=params))(key))

    @jax.jit
    def slots(keys: jax.Array) -> tuple[Any, ...]:
        observation, state = jax.vmap(env.reset, (0, None))(keys, params)
        return keys, observation, jax.vmap(env.action_mask, (0, None))(state, params), state

    act = jax.jit(jax.vmap(_decide, (None, None, 0, 0, 0, 0, None)))
    for batch in batches:
        given = policy, carry, *slots(jax.random.split(key, batch)), params
        jax.block_until_ready(act(*given))
        seconds: list[float] = []
        while _once_more(len(seconds), sum(seconds)):
            began = time.perf_counter()
            jax.block_until_ready(act(*given))
            seconds.append(time.perf_counter() - began)
        yield batch, seconds


def _once_more(repeats: int, total_s: float) -> bool:
    """Some repeats for a median, many of short ones, but few of what takes long."""
    least, most = REPEATS
    short = repeats < least and total_s < MOST_TIMED_S
    return repeats == 0 or short or (repeats < most and total_s < LEAST_TIMED_S)


def _decide(
    policy: Policy, carry: Any, key: Any, observation: Any, mask: Any, state: Any, params: Any
) -> Any:
    return policy.act(carry, key, observation, mask, state, params)[0]


RUNS = {"training": run_training, "time": run_times, "temperature": run_temperature}
_last: dict[str, tuple[str, Measured]] = {}


def measured_group(config: Config, group: str) -> Measured:
    """A group's measurements, kept for the other figures of this process.

    Within a program its output folder gets ``GROUP/evaluation.csv`` with every measurement, and
    ``GROUP/training/`` with the checkpoints and metrics of every training run.
    """
    settings = repr(sorted((name, value) for name, value in config.items() if name != "figure"))
    if group not in _last or _last[group][0] != settings:
        with output_folder() as folder:
            path = Path(folder) / group
            measured = RUNS[group](config, path)
            tables.write_csv(path / "evaluation.csv", tables.EVALUATION, measured.rows)
        _last[group] = (settings, measured)
    return _last[group][1]


# ---- the figures -------------------------------------------------------------------------------


def grid(service: Service, table: np.ndarray) -> np.ndarray:
    """``[scales, seconds, ...]`` of a table ``[configurations, ...]``."""
    return table.reshape(len(SCALES), len(SECOND_SETTING[service.name]), *table.shape[1:])


def accuracies(figure: str, config: Config) -> Reproduction:
    """Figures 4 and 5."""
    service, second, models, extremes = {
        "fig04": (detection(), "JPEG quality", plots.DETECTORS, (0.097, 0.42)),
        "fig05": (tracking(), "frame rate", plots.TRACKERS, (0.60, 0.85)),
    }[figure]
    table = grid(service, service.accuracy)
    verdicts = claims.accuracy_table(figure, service.name, second, extremes, table)
    values = SECOND_SETTING[service.name]
    rows = plots.table_rows(service.name, SCALES, second, values, models, table)
    return Reproduction(rows, verdicts, plots.draw_accuracy(rows, second))


def fig06(config: Config) -> Reproduction:
    """Figure 6."""
    rows, verdicts = [], []
    for service, second, least in (
        (detection(), "JPEG quality", 0.024630),
        (tracking(), "frame rate", 0.022593),
    ):
        table = grid(service, service.size_factor)
        verdicts += claims.size_table(service.name, second, least, table)
        values = SECOND_SETTING[service.name]
        rows += plots.table_rows(service.name, SCALES, second, values, ("all",), table[..., None])
    return Reproduction(rows, verdicts, plots.draw_sizes(rows))


def fig07(config: Config) -> Reproduction:
    """Reward, accuracy, cost and delay against training steps, beside every baseline."""
    found = measured_group(config, "training")
    verdicts = claims.fig07(Table(found.rows, HISPER), found.curves)
    drawing = plots.draw_training(found.curves, found.rows)
    return Reproduction(
        plots.curve_rows(found.curves) + plots.level_rows(found.rows), verdicts, drawing
    )


def fig08(config: Config) -> Reproduction:
    """Failure rates."""
    rows = measured_group(config, "training").rows
    data = plots.failure_rows(rows)
    return Reproduction(data, claims.fig08(Table(rows, HISPER)), plots.draw_failures(data))


def fig09(config: Config) -> Reproduction:
    """Seconds of a decision."""
    rows = measured_group(config, "time").rows
    return Reproduction(rows, claims.fig09(Table(rows, HISPER)), plots.draw_times(rows))


def fig10(config: Config) -> Reproduction:
    """Accuracy, delay and cost of every agent's accepted requests."""
    rows = measured_group(config, "training").rows
    data = plots.agent_rows(rows)
    return Reproduction(data, claims.fig10(Table(rows, HISPER)), plots.draw_agents(data))


def ablation(config: Config) -> Reproduction:
    """HISPER with and without each of its two parts."""
    found = measured_group(config, "training")
    names = (HISPER, ONE_VALUE, INDEPENDENT, HASAC)
    rows = plots.part_rows(found.rows, names)
    curves = {key: curve for key, curve in found.curves.items() if key[1] in names}
    verdicts = claims.ablation(Table(found.rows, HISPER))
    return Reproduction(rows, verdicts, plots.draw_parts(curves, rows) if rows else None)


def temperature(config: Config) -> Reproduction:
    """HISPER at every temperature."""
    rows = measured_group(config, "temperature").rows
    places = schedule(config).swept
    data = plots.temperature_rows(rows, places)
    verdicts = claims.temperature(Table(rows, HISPER), places)
    return Reproduction(data, verdicts, plots.draw_temperature(data, rows, places))


fig04, fig05 = partial(accuracies, "fig04"), partial(accuracies, "fig05")
