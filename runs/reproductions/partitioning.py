"""Figures 6 to 13 of "Distributed DNN Inference with Fine-grained Model Partitioning in Mobile Edge
Computing Networks".

Figures that show the same experiment form a group, and a group is measured once:

    training   figure 6          multi-task A3C, A3C and DQN at the default
    settings   figure 7          learning rates, workers, lengths of rollouts
    servers    figures 8, 11a    2 to 9 edge servers
    blocks     figures 9, 11b    3 to 18 blocks
    rate       figures 10, 11c   30 to 110 tasks per slot
    tolerance  figure 12         tolerated delays of 1 to 7 s
    links      figure 13         links of 0.8 to 2 MB/s, four networks

    python -m runs.reproduce figure=partitioning/fig10 scale=smoke
    python -m runs.reproduce figure=partitioning/all scale=paper

Learners are those of ``experiment=partitioning``, ``partitioning_a3c`` and ``partitioning_dqn``.
With ``smoke`` a sweep trains ONE policy, each worker at its own point, and takes minutes on 2
cores; numbers of blocks change sizes, so each has a short training of its own. ``paper`` trains
every learner that fits at every point, for a GPU. Either way all points of one size are evaluated
in one vmapped call per policy, on the same episodes. ``num_seeds``, ``num_updates`` and
``eval_episodes`` replace the scale's; ``agent=a3c`` and its settings those of the presets;
``env=partitioning`` and its settings those of every scenario.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
from tqdm import tqdm

from agents import registry as agents_registry
from agents.baselines.partitioning import is_enumerable
from agents.estimates import EpisodeTerms
from agents.lanes import split_lanes
from agents.learner import Policy
from jaxenv.environment import Environment
from jaxenv.partitioning import Partitioning
from runs import evaluate as evaluation
from runs import tables
from runs.jobs import Job
from runs.policies import policies_of
from runs.reproductions import Reproduction, output_folder, preset, trained, training_job
from runs.reproductions import partitioning_claims as claims
from runs.reproductions import partitioning_figures as plots
from runs.reproductions.partitioning_claims import (
    BLOCKS,
    DEFAULT,
    LINKS_MBPS,
    NETWORKS,
    OPTIMISERS,
    PROPOSED,
    RATES,
    SERVERS,
    TOLERANCES,
    Curve,
)
from runs.reproductions.sweeps import (
    Point,
    Table,
    resampled,
    resampled_row,
    rollout_points,
    stacked,
)
from runs.settings import Config, build_env, build_learner

GROUPS = {
    "fig06": ("training",),
    "fig07": ("settings",),
    "fig08": ("servers",),
    "fig09": ("blocks",),
    "fig10": ("rate",),
    "fig11": ("servers", "blocks", "rate"),
    "fig12": ("tolerance",),
    "fig13": ("links",),
}
PRESETS = {PROPOSED: "partitioning", "A3C": "partitioning_a3c", "DQN": "partitioning_dqn"}
LEAST_WORKERS = 8
MEGABYTE_BITS = 8e6


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long learners train and how policies are measured.

    episodes: of every worker, by learner. chunk: episodes that run in parallel, and all that the
    optimisers of a slot are measured on.
    """

    num_seeds: int
    episodes: dict[str, int]
    eval_episodes: int
    chunk: int


@dataclasses.dataclass(frozen=True)
class Trained:
    """Policies with an axis of seeds, after one of points where ``per_point``, and where they act.

    curves: of training, by training run.
    """

    env: Environment
    policies: Policy
    per_point: bool
    curves: list[Curve]


@dataclasses.dataclass(frozen=True)
class Measured:
    """A group: rows of ``evaluation.csv``, and training curves by name."""

    rows: list[tables.Row]
    curves: dict[str, Curve]


# ---- the sweeps --------------------------------------------------------------------------------


def families(group: str) -> list[tuple[Config, list[Point]]]:
    """The sizes of a group's environments, each with the points that have these sizes."""
    if group == "servers":
        number = np.arange(max(SERVERS))
        points = [
            Point(claims.at_servers(n), n, "VGG16", {"server_enabled": number < n}) for n in SERVERS
        ]
        return [({"num_servers": max(SERVERS)}, points)]
    if group == "blocks":
        return [({"num_blocks": m}, [Point(claims.at_blocks(m), m, "VGG16", {})]) for m in BLOCKS]
    if group == "rate":
        points = [Point(claims.at_rate(r), r, "VGG16", {"task_rate": r}) for r in RATES]
        return [({}, points)]
    if group == "tolerance":
        points = [
            Point(claims.at_tolerance(s), s, "VGG16", {"tolerated_delay_s": float(s)})
            for s in TOLERANCES
        ]
        return [({}, points)]
    if group == "links":
        points = [
            Point(
                claims.at_link(network, megabytes),
                megabytes,
                network,
                _blocks(network) | {"rate_range_bps": megabytes * MEGABYTE_BITS},
            )
            for network in NETWORKS
            for megabytes in LINKS_MBPS
        ]
        return [({}, points)]
    return [({}, [Point(DEFAULT, 0, "VGG16", {})])]


def _blocks(network: str) -> Config:
    """The leaves of a scenario that a network gives."""
    _, params = Partitioning.build(network=NETWORKS[network])
    names = ("block_flops", "block_bytes", "block_input_bits")
    return {name: np.asarray(getattr(params, name)) for name in names}


def schedule(config: Config, group: str) -> Schedule:
    """What the configuration gives, else the scale's own: minutes on 2 cores, or for a GPU."""
    if config["scale"] == "paper":
        own = Schedule(5, {PROPOSED: 1600, "A3C": 1600, "DQN": 2000}, 64, 64)
    else:
        seeds = 3 if group == "training" else 1
        length = {"settings": 100, "blocks": 150}.get(group, 400)
        sizes = (64, 64) if group == "training" else (16, 4)
        own = Schedule(seeds, {PROPOSED: length, "A3C": 60, "DQN": 60}, *sizes)
    episodes = config.get("eval_episodes") or own.eval_episodes
    return dataclasses.replace(
        own,
        num_seeds=config.get("num_seeds") or own.num_seeds,
        eval_episodes=episodes,
        chunk=min(own.chunk, episodes),
    )


# ---- training ----------------------------------------------------------------------------------


def job_of(
    config: Config,
    folder: Path,
    learner: str,
    plan: Schedule,
    scenario: str,
    env: Config,
    agent: Config,
) -> Job:
    """A training run. env, agent: settings beyond the learner's preset and the user's."""
    own = preset(PRESETS[learner])
    options = own["env"] | _given(config, "env", own) | env
    settings = {"schedule_updates": None} | own["agent"] | _given(config, "agent", own) | agent
    probe, params = build_env(config | {"env": options})
    built, _ = build_learner({"agent": settings}, probe)
    steps = plan.episodes[learner] * int(params.max_steps)
    return training_job(
        {name: config[name] for name in ("seed", "precision")}
        | {
            "env": options,
            "agent": settings,
            "num_updates": config.get("num_updates") or _updates(steps, built),
            "num_seeds": plan.num_seeds,
            "plugins": config.get("plugins", []),
            "checkpoint_episodes": 0,
            "eval_episodes": plan.eval_episodes,
            "eval_seed": config.get("eval_seed", 0),
            "episodes_per_call": plan.chunk,
            "scenario": scenario,
        },
        folder,
    )


def _given(config: Config, part: str, own: Config) -> Config:
    """What the user set of ``env`` or ``agent``, where it is the preset's."""
    chosen = config.get(part) or {}
    same = chosen.get("name") == own[part]["name"]
    return {name: value for name, value in chosen.items() if same and value is not None}


def _updates(steps: int, learner: Any) -> int:
    """Updates of ``steps`` steps of every worker, a number with some 200 equal intervals."""
    length = getattr(learner, "rollout_length", None) or learner.rounds_per_iteration
    updates = max(1, math.ceil(steps / length))
    interval = max(1, updates // 200)
    return interval * math.ceil(updates / interval)


def workers(points: int) -> int:
    """The least number of workers that puts as many at every point, at least `LEAST_WORKERS`."""
    return points * math.ceil(LEAST_WORKERS / points)


def train_learner(
    config: Config,
    folder: Path,
    learner: str,
    plan: Schedule,
    sizes: Config,
    places: Sequence[Point],
) -> Trained:
    """One learner on the points of one size: over all of them, or on each with ``paper``."""
    several = len(places) > 1
    alone = config["scale"] == "paper" and several
    shared = several and not alone
    # What is swept has to be seen where one policy decides at all points; servers always are.
    hidden = shared and "server_enabled" not in places[0].leaves
    env = sizes | ({"observation": "full"} if hidden else {})
    agent = _workers_of(learner, len(places)) if shared else {}
    jobs = []
    for place in places if alone else places[:1]:
        scenario = "all points" if shared else place.scenario
        path = folder / "training" / re.sub(r"\W", "_", f"{learner}_{scenario}")
        leaves = {k: np.asarray(v).tolist() for k, v in place.leaves.items()} if alone else {}
        jobs.append(job_of(config, path, learner, plan, scenario, env | leaves, agent))
    if shared:
        jobs = [dataclasses.replace(jobs[0], params=randomized(jobs[0].params, places))]
    states = trained(jobs)
    policies = policies_of(jobs[0].learner, states)
    if alone:
        policies = jax.tree.map(
            lambda leaf: leaf.reshape(len(places), plan.num_seeds, *leaf.shape[1:]), policies
        )
    return Trained(jobs[0].env, policies, alone, [curve_of(job) for job in jobs])


def _workers_of(learner: str, points: int) -> Config:
    name = "num_envs" if preset(PRESETS[learner])["agent"]["name"] == "dqn" else "num_workers"
    return {name: workers(points)}


def randomized(params: Any, places: Sequence[Point]) -> Any:
    """``params`` with swept leaves ``[workers, ...]``: worker ``i`` is at point ``i % points``."""
    lane = np.arange(workers(len(places))) % len(places)
    return params.replace(**{name: leaf[lane] for name, leaf in stacked(params, places).items()})


def curve_of(job: Job) -> Curve:
    """The training curve of a run."""
    agent = job.learner
    number = getattr(agent, "num_workers", None) or agent.num_envs
    return claims.curve(tables.read_csv(job.folder / "metrics.csv"), number)


# ---- measuring ---------------------------------------------------------------------------------


def rivals(env: Partitioning) -> list[str]:
    """The baselines; where placements cannot be enumerated Opt1 is LocalSearch, which goes."""
    names = agents_registry.usual_baselines(env.name)
    return [name for name in names if name != "LocalSearch" or is_enumerable(env)]


def measure(
    env: Environment,
    params: Any,
    places: Sequence[Point],
    learned: dict[str, Trained],
    key: chex.PRNGKey,
    plan: Schedule,
) -> tuple[list[tables.Row], dict[str, EpisodeTerms]]:
    """Trained policies, every baseline and the bound at every point, on the same episodes.

    Returns:
        Rows of ``evaluation.csv``, and every policy's terms ``[points, (seeds,) episodes]``.
    """
    bound = agents_registry.bound(env)
    policies = {name: (one.env, one.policies, True, one.per_point) for name, one in learned.items()}
    policies |= {
        name: (env, agents_registry.baseline(name, env), False, False) for name in rivals(env)
    }
    varying = stacked(params, places)
    wanted = {n: plan.chunk if n in OPTIMISERS else plan.eval_episodes for n in policies}
    everything: dict[str, EpisodeTerms] = {}
    with tqdm(total=plan.eval_episodes + sum(wanted.values()), unit="episode") as bar:

        def run(name: str, limit: Any = None) -> EpisodeTerms:
            own, policy, seeds, per_point = policies[name]
            parts = []
            for finished in range(0, wanted[name], plan.chunk):
                size = min(plan.chunk, wanted[name] - finished)
                fold = jax.random.fold_in(key, finished)
                part = rollout_points(
                    *(own, params, varying, policy, fold, size, limit, seeds, per_point)
                )
                parts.append(jax.device_get(part))
                bar.update(size)
            return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=-1), *parts)

        # The bound depends on the trace alone, so it is computed beside one policy for all.
        limits = run("APDI", bound).bound
        for name in policies:
            bar.set_description(f"evaluate {name} at {len(places)} points")
            terms = run(name)
            own = tuple(part[:, : wanted[name]] for part in limits)
            everything[name] = terms.replace(bound=own)
    rows = []
    for index, place in enumerate(places):
        for name, terms in everything.items():
            own = jax.tree.map(lambda leaf, index=index: leaf[index], terms)
            rows += tables.policy_rows(place.scenario, name, env.metrics, own, bound.metric)
        own = jax.tree.map(lambda leaf, index=index: leaf[index], everything["APDI"])
        rows += tables.bound_rows(place.scenario, env.metrics, own, bound.metric)
    return rows, everything


def compared_rows(places: Sequence[Point], terms: dict[str, EpisodeTerms]) -> list[tables.Row]:
    """Cost over that of Opt1 and of Priced on the same episodes, and the least distance of an
    episode to the bound, in percent, of every policy at every point."""
    rows = []
    for index, place in enumerate(places):
        for name, own in terms.items():
            reward = np.asarray(own.numerator["reward"][index], np.float64)
            limit = np.asarray(own.bound[0][index], np.float64)
            slack = 100 * ((limit - reward) / np.abs(limit)).min()
            for rival, metric in claims.OVER.items():
                episodes = min(reward.shape[-1], terms[rival].numerator["reward"].shape[-1])
                mine, other = (
                    resampled(terms[n], "reward", index, episodes) for n in (name, rival)
                )
                over = 100 * (mine / other - 1)
                rows.append(resampled_row(place.scenario, name, metric, "%", over, own))
            values = np.full(3, slack)
            rows.append(resampled_row(place.scenario, name, claims.SLACK, "%", values, own))
    return rows


# ---- the groups --------------------------------------------------------------------------------


_last: dict[str, tuple[str, Measured]] = {}


def measured_group(config: Config, group: str) -> Measured:
    """A group's measurements, kept for the other figures of this process."""
    settings = repr(sorted((name, value) for name, value in config.items() if name != "figure"))
    if group not in _last or _last[group][0] != settings:
        run = run_settings if group == "settings" else partial(run_sweep, group=group)
        with output_folder() as folder:
            path = Path(folder) / group
            measured = run(config, path)
            tables.write_csv(path / "evaluation.csv", tables.EVALUATION, measured.rows)
        _last[group] = (settings, measured)
    return _last[group][1]


def run_sweep(config: Config, path: Path, group: str) -> Measured:
    """Trains and measures a group.

    Within a program its output folder gets ``GROUP/evaluation.csv`` with every measurement, and
    ``GROUP/training/`` with the checkpoints and metrics of every training run.
    """
    plan = schedule(config, group)
    rows, curves = [], {}
    for sizes, places in families(group):
        own = preset(PRESETS[PROPOSED])
        options = own["env"] | _given(config, "env", own) | sizes
        env, params = build_env(config | {"env": options})
        learned = {
            name: train_learner(config, path, name, plan, sizes, places)
            for name in learners_of(config, group, env)
        }
        key = evaluation.evaluation_key(config | {"eval_seed": config.get("eval_seed", 0)})
        more, terms = measure(env, params, places, learned, key, plan)
        rows += more + compared_rows(places, terms)
        curves |= {name: one.curves[0] for name, one in learned.items()}
    return Measured(rows, curves)


def learners_of(config: Config, group: str, env: Partitioning) -> list[str]:
    """With ``smoke`` one in sweeps; joint actions only where they can be enumerated."""
    every = group == "training" or config["scale"] == "paper"
    return list(PRESETS) if every and is_enumerable(env) else [PROPOSED]


def run_settings(config: Config, path: Path) -> Measured:
    """Trains the proposed learner with every setting of figure 7, once with each; measures all."""
    plan = schedule(config, "settings")
    jobs: dict[str, Job] = {}
    of_variant = {}
    for variant, agent in claims.SETTINGS.items():
        folder = path / "training" / re.sub(r"\W", "_", variant)
        job = job_of(config, folder, PROPOSED, plan, variant, {}, agent)
        of_variant[variant] = repr((job.learner, job.hp))
        if jobs.setdefault(of_variant[variant], job) is not job:
            folder.rmdir()
    together: dict[Any, list[str]] = {}
    for name, job in jobs.items():
        together.setdefault(job.program_key(), []).append(name)
    learned = {}
    for names in together.values():
        group = [jobs[name] for name in names]
        parts = split_lanes(trained(group), len(group))
        for name, job, states in zip(names, group, parts, strict=True):
            policies = policies_of(job.learner, states)
            learned[name] = Trained(job.env, policies, False, [curve_of(job)])
    (_, places), *_ = families("settings")
    job = next(iter(jobs.values()))
    named = {variant: learned[name] for variant, name in of_variant.items()}
    key = evaluation.evaluation_key(config | {"eval_seed": config.get("eval_seed", 0)})
    rows, terms = measure(job.env, job.params, places, named, key, plan)
    rows += compared_rows(places, terms)
    return Measured(rows, {variant: one.curves[0] for variant, one in named.items()})


# ---- the figures -------------------------------------------------------------------------------


def reproduce(figure: str, config: Config) -> Reproduction:
    """A figure of the paper: its data, its drawing and the verdicts on its claims.

    Args:
        figure: ``fig06`` to ``fig13``.
        config: of ``runs.reproduce``.
    """
    measured = {group: measured_group(config, group) for group in GROUPS[figure]}
    rows = [row for group in measured.values() for row in group.rows]
    table = Table(rows, PROPOSED)
    curves = {name: curve for group in measured.values() for name, curve in group.curves.items()}
    if figure in ("fig06", "fig07"):
        verdicts = claims.JUDGES[figure](table, curves)
        drawing = plots.draw_training(curves, rows) if figure == "fig06" else None
        drawing = drawing or plots.draw_settings(curves, rows)
        return Reproduction(plots.curve_rows(curves), verdicts, drawing)
    places = {
        place.scenario: (group, place.network, place.x)
        for group in GROUPS[figure]
        for _, points in families(group)
        for place in points
    }
    data = plots.figure_rows(figure, rows, places)
    return Reproduction(data, claims.JUDGES[figure](table), plots.draw(figure, data))


fig06, fig07, fig08, fig09, fig10, fig11, fig12, fig13 = (
    partial(reproduce, f"fig{number:02d}") for number in range(6, 14)
)
