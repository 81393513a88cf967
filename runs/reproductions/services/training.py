"""Training for the figures of joint deployment: schedules, runs, curves, entropy."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxenv.errors import ConfigError
from runs import tables
from runs.jobs import Job
from runs.reproductions import preset, training_job
from runs.reproductions.curves import binned_metrics, until_final
from runs.reproductions.groups import Run, as_given, given, inherited
from runs.reproductions.services import scenarios
from runs.settings import Config, check_names

STEMS = {
    "smoke": {scenarios.HASAC: "services_hasac", scenarios.HAPPO: "services_happo"},
    "paper": {scenarios.HASAC: "services_paper", scenarios.HAPPO: "services_happo"},
}
OWN = {"smoke": "services", "paper": "services_paper"}  # of HISPER and its halves
SWITCHES: dict[str, Config] = {
    scenarios.HASAC: {"hybrid_reward": False, "autoregressive": False},
    scenarios.ONE_VALUE: {"hybrid_reward": False},
    scenarios.INDEPENDENT: {"autoregressive": False},
}
PAPER_ALPHA = {"literal": (0.05, 0.05), "percent": (2.0, 2.5)}  # with 8 and 10 agents
PAPER_DISCOUNT = 0.99


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
    "smoke": Schedule(3, None, 20, (scenarios.at("percent", 8),), (scenarios.at("literal", 8),), 1),
    "paper": Schedule(
        *(5, 300, 100, tuple(scenarios.SCENARIOS)),
        *(tuple(scenarios.at("literal", n) for n in scenarios.AGENTS), 5),
    ),
}


@dataclasses.dataclass(frozen=True)
class Curve:
    """A training run: ``[num_seeds, num_bins]``, bins of equal numbers of updates.

    steps: slots of all environments at the end of each bin. values: by metric, of episodes that
    ended in the bin, by actions drawn from the policy. update_steps: of an update. update_s: the
    median of its seconds without compiling, of all ``runs`` that were trained together.
    """

    steps: np.ndarray
    values: Mapping[str, np.ndarray]
    update_steps: int
    update_s: float
    runs: int


def schedule(config: Config) -> Schedule:
    """What the configuration gives, else the scale's own."""
    own = SCHEDULES[config["scale"]]
    sweep_seeds = config.get("num_seeds") or own.sweep_seeds
    return dataclasses.replace(as_given(own, config), sweep_seeds=sweep_seeds)


def learners(config: Config) -> tuple[str, ...]:
    """Which learners are trained and measured: ``config["learners"]``, or all."""
    names = check_names("learners", config.get("learners") or scenarios.LEARNED)
    for name in names:
        if name not in scenarios.LEARNED:
            raise ConfigError("learners", name, f"choose from {list(scenarios.LEARNED)}")
    return tuple(names)


def agent_of(config: Config, scenario: str, name: str) -> tuple[Config, Config]:
    """``(experiment preset, settings)`` of a learner in a scenario, with the user's settings.

    The two ideas of HISPER belong to the learner: no setting of the user's turns them off.
    """
    scale = config["scale"]
    own = preset(STEMS[scale].get(name, OWN[scale]))
    users = given(config, "agent", own["agent"]["name"])
    users = {k: v for k, v in users.items() if k not in SWITCHES[scenarios.HASAC]}
    paper: Config = {}
    if scale == "paper":
        kind, agents = scenarios.SCENARIOS[scenario]
        alpha = PAPER_ALPHA[kind][scenarios.AGENTS.index(agents)]
        paper = {"discount": PAPER_DISCOUNT} if name == scenarios.HAPPO else {"alpha": alpha}
    return own, own["agent"] | paper | users | SWITCHES.get(name, {})


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
        inherited(config)
        | {
            "env": scenarios.env_of(config, scenario),
            "agent": {"schedule_updates": None} | settings | (agent or {}),
            "num_updates": plan.num_updates or own["num_updates"],
            "num_seeds": num_seeds,
            "eval_episodes": plan.eval_episodes,
            "episodes_per_call": plan.eval_episodes,
            "scenario": scenario,
        },
        folder,
    )


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
    return curve(rows, timing, int(run.job.params.max_steps), agent.num_envs * rounds, run.runs)


def curve(
    rows: Sequence[Mapping[str, str]],
    timing: Sequence[Mapping[str, str]],
    slots: int,
    update_steps: int,
    runs: int,
    num_bins: int = 100,
) -> Curve:
    """The curve of a run's ``metrics.csv`` and ``timing.csv``; slots: of an episode."""
    episodes, values = binned_metrics(
        rows,
        (scenarios.REWARD, scenarios.ACCURACY, scenarios.COST, scenarios.DELAY, scenarios.FAILURE),
        num_bins,
    )
    update, seconds = (
        np.array([float(row[name]) for row in timing]) for name in ("update", "seconds")
    )
    each = np.diff(seconds) / np.diff(update)
    return Curve(
        steps=episodes * slots,
        values=values,
        update_steps=update_steps,
        update_s=float(np.median(each)) if len(each) else float("nan"),
        runs=runs,
    )


def steps_to_final(one: Curve, share: float = 0.05) -> np.ndarray:
    """Steps ``[num_seeds]`` after which the reward is first within ``share`` of the final one.

    The final reward is the mean over the last tenth of the steps; NaN where no episode ended.
    """
    rewards = one.values[scenarios.REWARD]
    return until_final(one.steps, rewards, lambda final: final - share * abs(final))


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
