"""Training for the figures of the vehicular system: schedules, runs or a checkpoint, curves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.learner import Policy
from jaxenv.environment import Environment
from jaxenv.errors import ConfigError
from jaxenv.vehicular import Vehicular
from runs.folders import run_folder, stored_config
from runs.jobs import Job
from runs.policies import policies_of, stored_policy
from runs.reproductions import trained, training_job
from runs.reproductions.curves import binned_metrics
from runs.reproductions.groups import as_given, inherited, trained_apart, training_folder
from runs.reproductions.sweeps import Point
from runs.reproductions.vehicular.scenarios import COST, LATENCY, SUCCESS, points, randomized, sizes
from runs.settings import Config, build_env

PAPER_EPISODES = 3000


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long a group trains and how it is measured."""

    num_seeds: int
    num_updates: int
    eval_episodes: int


@dataclasses.dataclass(frozen=True)
class Curves:
    """Training curves: ``[num_seeds, num_bins]``, bins of equal numbers of updates.

    episodes: finished so far, at the end of each bin. reward: minus the mean cost of a task in s.
    success: in percent. latency_s: of completed tasks. Over the episodes that ended in the bin.
    """

    episodes: np.ndarray
    reward: np.ndarray
    success: np.ndarray
    latency_s: np.ndarray


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
    return as_given(own, config)


def learned_name(config: Config) -> str:
    """The name of the learner whose policy is measured: the configuration's, or a checkpoint's."""
    if config.get("checkpoint") is None:
        return config["agent"]["name"]
    return stored_config(run_folder(config["checkpoint"]))["agent"]["name"]


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
        path = training_folder(folder, "randomized" if place is None else place.scenario)
        jobs.append(_job(config, path, group, plan, place))
    policies = trained_apart(jobs) if alone else policies_of(jobs[0].learner, trained(jobs))
    env, params = build_env(config | {"env": config["env"] | sizes(group)})
    return env, params, policies, alone, [job.folder for job in jobs]


def _job(config: Config, folder: Path, group: str, plan: Schedule, place: Point | None) -> Job:
    """A training run at one point, or over the ranges of the whole sweep."""
    leaves = {} if place is None else {k: np.asarray(v).tolist() for k, v in place.leaves.items()}
    own = {
        "agent": config["agent"],
        "env": config["env"] | sizes(group) | leaves,
        "scenario": group if place is None else place.scenario,
        "num_updates": plan.num_updates,
        "num_seeds": plan.num_seeds,
        "eval_episodes": plan.eval_episodes,
        "episodes_per_call": config["episodes_per_call"],
    }
    job = training_job(inherited(config) | own, folder)
    if place is not None:
        return job
    return dataclasses.replace(job, params=randomized(group, job.params, job.learner.num_envs))


def curves(rows: Sequence[Mapping[str, str]], num_bins: int = 40) -> Curves:
    """Curves from the rows of a run's ``metrics.csv`` (means per update over logged intervals)."""
    episodes, found = binned_metrics(rows, (COST, SUCCESS, LATENCY), num_bins)
    return Curves(episodes, -found[COST], found[SUCCESS], found[LATENCY])


def first_and_last_tenth(curves: Curves, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of a curve over the first and the last tenth of its episodes, ``[num_seeds]`` each."""
    total = curves.episodes[:, -1:]
    before = np.hstack([np.zeros_like(total), curves.episodes[:, :-1]])
    early = (before < total / 10) & np.isfinite(values)
    late = (curves.episodes > total * 9 / 10) & np.isfinite(values)

    def mean(inside: np.ndarray) -> np.ndarray:
        return np.sum(np.where(inside, values, 0), axis=1) / np.maximum(inside.sum(axis=1), 1)

    return mean(early), mean(late)
