"""Training for the figures of fine-grained partitioning: schedules, runs, curves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.baselines.partitioning import is_enumerable
from agents.learner import Policy
from jaxenv.environment import Environment
from jaxenv.partitioning import Partitioning
from runs import tables
from runs.jobs import Job
from runs.policies import policies_of
from runs.reproductions import preset, trained, training_job
from runs.reproductions.curves import binned_metrics, until_final
from runs.reproductions.groups import (
    as_given,
    given,
    inherited,
    trained_apart,
    trained_together,
    training_folder,
)
from runs.reproductions.partitioning.scenarios import PRESETS, PROPOSED, REWARD, SETTINGS
from runs.reproductions.sweeps import Point, stacked
from runs.settings import Config, build_env, build_learner

LEAST_WORKERS = 8


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
class Curve:
    """A training curve: ``[num_seeds, num_bins]``, bins of equal numbers of updates.

    episodes: of every worker, finished at the end of each bin. reward: s per episode, of those that
    ended in the bin, by actions drawn from the policy.
    """

    episodes: np.ndarray
    reward: np.ndarray


@dataclasses.dataclass(frozen=True)
class Trained:
    """Policies with an axis of seeds, after one of points where ``per_point``, and where they act.

    curves: of training, by training run.
    """

    env: Environment
    policies: Policy
    per_point: bool
    curves: list[Curve]


def schedule(config: Config, group: str) -> Schedule:
    """What the configuration gives, else the scale's own: minutes on 2 cores, or for a GPU."""
    if config["scale"] == "paper":
        own = Schedule(5, {PROPOSED: 1600, "A3C": 1600, "DQN": 2000}, 64, 64)
    else:
        seeds = 3 if group == "training" else 1
        length = {"settings": 100, "blocks": 150}.get(group, 400)
        sizes = (64, 64) if group == "training" else (16, 4)
        own = Schedule(seeds, {PROPOSED: length, "A3C": 60, "DQN": 60}, *sizes)
    own = as_given(own, config)
    return dataclasses.replace(own, chunk=min(own.chunk, own.eval_episodes))


def learners_of(config: Config, group: str, env: Partitioning) -> list[str]:
    """With ``smoke`` one in sweeps; joint actions only where they can be enumerated."""
    every = group == "training" or config["scale"] == "paper"
    return list(PRESETS) if every and is_enumerable(env) else [PROPOSED]


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
    options = own["env"] | given(config, "env", own["env"]["name"]) | env
    settings = (
        {"schedule_updates": None}
        | own["agent"]
        | given(config, "agent", own["agent"]["name"])
        | agent
    )
    probe, params = build_env(config | {"env": options})
    built, _ = build_learner({"agent": settings}, probe)
    steps = plan.episodes[learner] * int(params.max_steps)
    return training_job(
        inherited(config)
        | {
            "env": options,
            "agent": settings,
            "num_updates": config.get("num_updates") or _updates(steps, built),
            "num_seeds": plan.num_seeds,
            "eval_episodes": plan.eval_episodes,
            "episodes_per_call": plan.chunk,
            "scenario": scenario,
        },
        folder,
    )


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
        path = training_folder(folder, f"{learner}_{scenario}")
        leaves = {k: np.asarray(v).tolist() for k, v in place.leaves.items()} if alone else {}
        jobs.append(job_of(config, path, learner, plan, scenario, env | leaves, agent))
    if shared:
        jobs = [dataclasses.replace(jobs[0], params=randomized(jobs[0].params, places))]
    policies = trained_apart(jobs) if alone else policies_of(jobs[0].learner, trained(jobs))
    return Trained(jobs[0].env, policies, alone, [curve_of(job) for job in jobs])


def train_settings(config: Config, folder: Path, plan: Schedule) -> dict[str, Trained]:
    """The proposed learner with every setting of figure 7; equal ones are trained once."""
    jobs: dict[str, Job] = {}
    of_variant = {}
    for variant, agent in SETTINGS.items():
        path = training_folder(folder, variant)
        job = job_of(config, path, PROPOSED, plan, variant, {}, agent)
        of_variant[variant] = repr((job.learner, job.hp))
        if jobs.setdefault(of_variant[variant], job) is not job:
            path.rmdir()
    learned = {
        name: Trained(run.job.env, run.policies, False, [curve_of(run.job)])
        for name, run in trained_together(jobs).items()
    }
    return {variant: learned[name] for variant, name in of_variant.items()}


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
    return curve(tables.read_csv(job.folder / "metrics.csv"), number)


def curve(rows: Sequence[Mapping[str, str]], num_workers: int, num_bins: int = 100) -> Curve:
    """The curve of a run's ``metrics.csv``."""
    episodes, found = binned_metrics(rows, (REWARD,), num_bins)
    return Curve(episodes / num_workers, found[REWARD])


def episodes_to_final(one: Curve, share: float = 0.95) -> np.ndarray:
    """Episodes ``[num_seeds]`` after which the cost is first at most ``1 / share`` of the final.

    The final cost is the mean over the last tenth of the episodes; NaN where no episode ended.
    """
    return until_final(one.episodes, one.reward, lambda final: final / share)
