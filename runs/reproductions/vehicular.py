"""Figures 3 to 16 of "SAFE: Intelligent Online Scheduling for Collaborative DNN Inference in
Vehicular Network".

Figures that show the same experiment form a group, and a group is measured once:

    training    figures 3, 4     learning curves on VGG-16
    cores       figures 5 to 8   4, 8, 12, 16 cores per RSU, three networks
    bandwidth   figures 9 to 12  5, 10, 15, 20 MHz per RSU, three networks
    mix         figures 13, 14   single networks and the mixes 1:1:1 and 1:2:1
    scale       figures 15, 16   10 RSUs with 20, 30, 40, 50 vehicles

    python -m runs.reproduce figure=vehicular/cores scale=smoke
    python -m runs.reproduce figure=vehicular/fig06 scale=smoke lookahead=true
    python -m runs.reproduce figure=vehicular/all scale=paper

``smoke`` trains ONE policy per group, each of the learner's environments at its own place in the
sweep, and takes minutes on 2 cores. ``paper`` trains one policy per point and seed, all in one
compiled program, for at least the paper's 3000 episodes, and is meant for a GPU. Either way all
points of a group are evaluated in one vmapped call per policy, on the same episodes.
``checkpoint=DIR`` takes the policy of a training run instead, whose sizes must be the group's.
Figures of one group that are asked for together share its training and its measurements.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from agents import registry as agents_registry
from agents.estimates import EpisodeTerms
from agents.learner import Policy
from jaxenv.environment import Environment
from jaxenv.errors import ConfigError
from jaxenv.vehicular import Vehicular
from runs import evaluate as evaluation
from runs import tables
from runs.folders import run_folder, stored_config
from runs.jobs import Job
from runs.policies import policies_of, stored_policy
from runs.reproductions import Reproduction, output_folder, trained, training_job
from runs.reproductions import vehicular_claims as claims
from runs.reproductions import vehicular_figures as plots
from runs.reproductions.sweeps import Point, resampled, resampled_row, rollout_points, stacked
from runs.reproductions.vehicular_claims import (
    BANDWIDTHS_MHZ,
    CORES,
    LATENCY_GAIN,
    MIXES,
    NETWORKS,
    SUCCESS_GAIN,
    VEHICLES,
    Table,
)
from runs.settings import Config, build_env

FIGURES = {
    "training": ("fig03", "fig04"),
    "cores": ("fig05", "fig06", "fig07", "fig08"),
    "bandwidth": ("fig09", "fig10", "fig11", "fig12"),
    "mix": ("fig13", "fig14"),
    "scale": ("fig15", "fig16"),
}
BASELINES = ("Local", "Edge", "DSL", "INSGA", "Aware")
LOOK_AHEAD = ("Greedy", "Social")
SLOW = ("INSGA", *LOOK_AHEAD)  # simulate or evolve at every turn: measured on fewer episodes
PAPER_EPISODES = 3000
ONE_HOT = np.eye(len(NETWORKS))


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long a group trains and how it is measured."""

    num_seeds: int
    num_updates: int
    eval_episodes: int


# ---- the sweeps --------------------------------------------------------------------------------


def sizes(group: str) -> dict[str, Any]:
    """The static fields of a group's environment that differ from the defaults."""
    large = {"num_rsus": 10, "num_vehicles": max(VEHICLES)}
    return {"model_onehot": group in ("cores", "bandwidth", "mix")} | (
        large if group == "scale" else {}
    )


def points(group: str) -> list[Point]:
    """Where a group is measured."""
    if group == "cores":
        return [
            Point(claims.at_cores(n, c), c, n, {"rsu_flops": c * 5e9, "mix": ONE_HOT[i]})
            for i, n in enumerate(NETWORKS)
            for c in CORES
        ]
    if group == "bandwidth":
        return [
            Point(claims.at_bandwidth(n, b), b, n, {"bandwidth_hz": b * 1e6, "mix": ONE_HOT[i]})
            for i, n in enumerate(NETWORKS)
            for b in BANDWIDTHS_MHZ
        ]
    if group == "mix":
        return [
            Point(claims.at_mix(ratio), i, "mixed", {"mix": np.array(ratio, float)})
            for i, ratio in enumerate(MIXES)
        ]
    if group == "scale":
        most = np.arange(max(VEHICLES))
        return [
            Point(claims.at_vehicles(v), v, "VGG-16", {"vehicle_enabled": most < v})
            for v in VEHICLES
        ]
    return [Point(claims.DEFAULT, 0, "VGG-16", {})]


def randomized(group: str, params: Any, num_envs: int) -> Any:
    """``params`` with swept leaves ``[num_envs, ...]`` that cover the sweep's ranges.

    Environments are spread evenly: over the networks (the mixes) in turn, and for each of them
    over the whole range of cores, bandwidth or vehicles, both ends included.
    """
    lane = np.arange(num_envs)
    if group == "training":
        return params
    if group == "mix":
        ratios = np.array(MIXES, float)
        return _with_lanes(params, {"mix": ratios[lane % len(ratios)]})
    if group == "scale":
        count = np.round(_spread(lane, num_envs, VEHICLES))
        return _with_lanes(params, {"vehicle_enabled": np.arange(max(VEHICLES)) < count[:, None]})
    name, unit, values = {
        "cores": ("rsu_flops", 5e9, CORES),
        "bandwidth": ("bandwidth_hz", 1e6, BANDWIDTHS_MHZ),
    }[group]
    turns = math.ceil(num_envs / len(NETWORKS))
    amount = unit * _spread(lane // len(NETWORKS), turns, values)
    each = np.broadcast_to(amount[:, None], (num_envs, *getattr(params, name).shape))
    return _with_lanes(params, {name: each, "mix": ONE_HOT[lane % len(NETWORKS)]})


def _spread(place: np.ndarray, count: int, values: Sequence[float]) -> np.ndarray:
    """``place`` of 0..count-1 as a number from the least to the largest of ``values``."""
    return min(values) + (max(values) - min(values)) * place / max(count - 1, 1)


def _with_lanes(params: Any, leaves: dict[str, np.ndarray]) -> Any:
    return params.replace(
        **{name: jnp.asarray(leaf, getattr(params, name).dtype) for name, leaf in leaves.items()}
    )


# ---- measuring ---------------------------------------------------------------------------------


def measure(
    env: Environment,
    params: Any,
    places: Sequence[Point],
    policies: dict[str, tuple[Policy, bool, bool]],
    key: chex.PRNGKey,
    num_episodes: int,
    chunk: int = 256,
) -> tuple[list[tables.Row], dict[str, EpisodeTerms]]:
    """Every policy and the bound at every point.

    Args:
        env, params: the group's environment, and the scenario that its points change.
        places: its points.
        policies: by name, each with ``seeds`` and ``per_point`` of `rollout_points`.
        key: of the episodes; the same for all.
        num_episodes: at each point, but `SLOW` policies run one chunk.
        chunk: episodes that run in parallel at each point.

    Returns:
        Rows of ``evaluation.csv``, and every policy's terms.
    """
    varying = stacked(params, places)
    bound = agents_registry.bound(env)
    rows: list[tables.Row] = []
    everything: dict[str, EpisodeTerms] = {}
    wanted = {n: min(chunk, num_episodes) if n in SLOW else num_episodes for n in policies}
    with tqdm(total=sum(wanted.values()), unit="episode") as bar:
        for name, (policy, seeds, per_point) in policies.items():
            bar.set_description(f"evaluate {name} at {len(places)} points")
            parts, finished = [], 0
            while finished < wanted[name]:
                size = min(chunk, wanted[name] - finished)
                fold = jax.random.fold_in(key, finished)
                part = rollout_points(
                    *(env, params, varying, policy, fold, size, bound, seeds, per_point)
                )
                parts.append(jax.device_get(part))
                finished += size
                bar.update(size)
            terms = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=-1), *parts)
            everything[name] = terms
            for index, place in enumerate(places):
                own = jax.tree.map(lambda leaf, index=index: leaf[index], terms)
                rows += tables.policy_rows(place.scenario, name, env.metrics, own, bound.metric)
                if len(everything) == 1:
                    rows += tables.bound_rows(place.scenario, env.metrics, own, bound.metric)
    return rows, everything


def gain_rows(places: Sequence[Point], terms: dict[str, EpisodeTerms]) -> list[tables.Row]:
    """Success gain over Edge in points and latency gain over Local in percent, of every policy.

    Intervals are bootstraps over seeds and over the episodes, which all policies share: both terms
    of a difference are resampled together. The change of the latency gain from the first to the
    last point of a network's sweep is a row of the scenario ``claims.sweep_of(network)``.
    """
    rows = []
    of_network: dict[str, list[int]] = {}
    for index, place in enumerate(places):
        of_network.setdefault(place.network, []).append(index)
    for name in terms:
        gains = {}
        for index, place in enumerate(places):
            episodes = np.shape(terms[name].numerator["cost_s"])[-1]
            edge, local, own = (
                {m: resampled(terms[n], m, index, episodes) for m in ("success_rate", "latency_s")}
                for n in ("Edge", "Local", name)
            )
            success = own["success_rate"] - edge["success_rate"]
            gains[index] = 100 * (1 - own["latency_s"] / local["latency_s"])
            rows.append(
                resampled_row(place.scenario, name, SUCCESS_GAIN, "points", success, terms[name])
            )
            rows.append(
                resampled_row(place.scenario, name, LATENCY_GAIN, "%", gains[index], terms[name])
            )
        for network, indices in of_network.items():
            if len(indices) > 1:
                change = gains[indices[-1]] - gains[indices[0]]
                scenario = claims.sweep_of(network)
                rows.append(
                    resampled_row(scenario, name, LATENCY_GAIN, "points", change, terms[name])
                )
    return rows


# ---- training ----------------------------------------------------------------------------------


def schedule(config: Config, group: str, num_envs: int = 64) -> Schedule:
    """What the configuration gives, else the scale's own: minutes on 2 cores, or the paper's.

    ``paper`` makes enough decisions for 3000 episodes even if a vehicle asked at every arrival.
    """
    if config["scale"] == "paper":
        vehicles = sizes(group).get("num_vehicles", 10)
        updates = math.ceil(PAPER_EPISODES * vehicles * 200 * 0.1 / num_envs)
        own = Schedule(num_seeds=5, num_updates=updates, eval_episodes=1024)
    else:
        updates = {"cores": 1600, "bandwidth": 1600, "scale": 800}.get(group, 1000)
        own = Schedule(
            num_seeds=3 if group == "training" else 1,
            num_updates=updates,
            eval_episodes=32 if group == "scale" else 64,
        )
    given = {f.name: config.get(f.name) for f in dataclasses.fields(Schedule)}
    return dataclasses.replace(own, **{k: v for k, v in given.items() if v is not None})


def learned_policies(
    config: Config, folder: Path, group: str, plan: Schedule
) -> tuple[Environment, Any, Policy, bool, list[Path]]:
    """``(env, params, policies, per_point, run folders)`` of a group, trained or from a checkpoint.

    Policies have an axis of seeds, after one of points where ``per_point``.
    """
    if config.get("checkpoint") is not None:
        stored = stored_config(run_folder(config["checkpoint"]))
        env, params = build_env(stored | {"precision": config["precision"]})
        wanted = Vehicular(**sizes(group))
        for name in ("num_rsus", "num_vehicles", "model_onehot"):
            if getattr(env, name) != getattr(wanted, name):
                valid = f"vehicular/{group} needs a policy of {name}={getattr(wanted, name)}"
                raise ConfigError("checkpoint", config["checkpoint"], valid)
        settings = {"step": "last", **config}
        return env, params, stored_policy(settings, stored, env, params), False, []
    places = points(group)
    alone = config["scale"] == "paper" and len(places) > 1
    jobs = []
    for place in places if alone else [None]:
        name = "randomized" if place is None else place.scenario
        path = folder / "training" / "".join(c if c.isalnum() else "_" for c in name)
        jobs.append(_job(config, path, group, plan, place))
    states = trained(jobs)
    policies = policies_of(jobs[0].learner, states)
    if alone:
        policies = jax.tree.map(
            lambda leaf: leaf.reshape(len(places), plan.num_seeds, *leaf.shape[1:]), policies
        )
    env, params = build_env(config | {"env": config["env"] | sizes(group)})
    return env, params, policies, alone, [job.folder for job in jobs]


def _job(config: Config, folder: Path, group: str, plan: Schedule, place: Point | None) -> Job:
    """A training run at one point, or over the ranges of the whole sweep."""
    leaves = {} if place is None else {k: np.asarray(v).tolist() for k, v in place.leaves.items()}
    own = {
        "checkpoint_episodes": 0,
        "env": config["env"] | sizes(group) | leaves,
        "scenario": group if place is None else place.scenario,
        "num_updates": plan.num_updates,
        "num_seeds": plan.num_seeds,
        "eval_episodes": plan.eval_episodes,
    }
    shared = ("agent", "seed", "eval_seed", "episodes_per_call", "precision", "plugins")
    job = training_job({k: config[k] for k in shared} | own, folder)
    if place is not None:
        return job
    return dataclasses.replace(job, params=randomized(group, job.params, job.learner.num_envs))


# ---- the figures -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Measured:
    """A group that was trained and measured: rows of ``evaluation.csv``, and training curves."""

    rows: list[tables.Row]
    learned: str
    curves: claims.Curves | None


_last: dict[str, tuple[str, Measured]] = {}


def measured_group(config: Config, group: str) -> Measured:
    """A group's measurements, kept for the other figures of the group in this process."""
    settings = repr(sorted((name, value) for name, value in config.items() if name != "figure"))
    if group not in _last or _last[group][0] != settings:
        _last[group] = (settings, run_group(config, group))
    return _last[group][1]


def run_group(config: Config, group: str) -> Measured:
    """Trains and measures a group.

    Within a program its output folder gets ``GROUP/evaluation.csv`` with every measurement, and
    ``GROUP/NAME/`` with the checkpoints and metrics of every training run.
    """
    # Marginal rewards hold all that a decision costs, so there is no future to look at.
    credited = config["env"].get("reward_mode") is None and config["agent"].get("discount") is None
    config = config | {
        "env": config["env"] | ({"reward_mode": "marginal"} if credited else {}),
        "agent": config["agent"] | ({"discount": 0.0} if credited else {}),
        "episodes_per_call": config["episodes_per_call"] or 256,
        "eval_seed": config.get("eval_seed", 0),
    }
    learned = config["agent"]["name"]
    num_envs = config["agent"].get("num_envs") or 64
    plan = schedule(config, group, num_envs)
    places = points(group)
    with output_folder() as folder:
        path = Path(folder) / group
        env, params, policies, per_point, runs = learned_policies(config, path, group, plan)
        names = BASELINES + (LOOK_AHEAD if config.get("lookahead") else ())
        measured = {learned: (policies, True, per_point)} | {
            name: (agents_registry.baseline(name, env), False, False) for name in names
        }
        key = evaluation.evaluation_key(config)
        chunk = min(config["episodes_per_call"], max(1, plan.eval_episodes // 4))
        rows, terms = measure(env, params, places, measured, key, plan.eval_episodes, chunk)
        curves = None
        if group == "training":
            curves = claims.curves(tables.read_csv(runs[0] / "metrics.csv")) if runs else None
        else:
            rows += gain_rows(places, terms)
        tables.write_csv(path / "evaluation.csv", tables.EVALUATION, rows)
    return Measured(rows, learned, curves)


def reproduce(figure: str, config: Config) -> Reproduction:
    """A figure of the paper: its data, its drawing and the verdicts on its claims.

    Args:
        figure: ``fig03`` to ``fig16``.
        config: of ``runs.reproduce``. ``scale``, ``env``, ``agent``, ``seed`` and what every
            program has; ``num_seeds``, ``num_updates``, ``eval_episodes`` replace the scale's own
            schedule; ``checkpoint`` replaces training; ``lookahead`` adds Greedy and Social.
    """
    group = next(group for group, figures in FIGURES.items() if figure in figures)
    measured = measured_group(config, group)
    verdicts = claims.judge(group, Table(measured.rows, measured.learned), measured.curves)
    if group == "training":
        if measured.curves is None:
            return Reproduction([], verdicts.get(figure, []))
        rows = plots.curve_rows(measured.curves)
        drawing = plots.draw_curves(figure, measured.curves)
        return Reproduction(rows, verdicts[figure], drawing)
    places = [(place.scenario, place.network, place.x) for place in points(group)]
    rows = plots.figure_rows(figure, measured.rows, places)
    return Reproduction(rows, verdicts[figure], plots.draw(figure, rows, measured.learned))


fig03, fig04, fig05, fig06, fig07, fig08, fig09, fig10, fig11, fig12, fig13, fig14, fig15, fig16 = (
    partial(reproduce, f"fig{number:02d}") for number in range(3, 17)
)
