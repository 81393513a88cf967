"""Jobs: what one training run trains, checked before anything is written or compiled."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp

from agents.learner import Learner
from jaxenv.environment import Environment, Metric
from jaxenv.errors import ConfigError
from runs.checkpoint import FOLDER as CHECKPOINTS
from runs.devices import wait_for_all
from runs.evaluate import check_evaluation
from runs.folders import claim_folder, hold_folder
from runs.logging import check_logger
from runs.settings import Config, build_env, build_learner, check_baselines, check_integer

MAY_CHANGE = {
    *("num_updates", "eval_episodes", "eval_seed", "episodes_per_call", "baselines"),
    *("keep_checkpoints", "plugins", "logger", "launcher", "devices", "distributed"),
    *("sweeper", "objective"),
}


@dataclasses.dataclass
class Job:
    """One training run: what it trains, and where its files go.

    alone: whether it is no part of a sweep, and prints its own table.
    """

    config: Config
    folder: Path
    env: Environment
    params: Any
    learner: Learner
    hp: Any
    baselines: tuple[str, ...]
    alone: bool = True

    @property
    def num_seeds(self) -> int:
        """Training seeds of this job."""
        return self.config["num_seeds"]

    def program_key(self) -> tuple[Any, ...]:
        """Jobs with equal keys differ in traced leaves and seeds alone: one program trains them."""
        own = {"env", "agent", "seed", "scenario", "resume"}
        shared = {name: value for name, value in self.config.items() if name not in own}
        return self.env, self.learner, repr(sorted(shared.items()))


def make_job(config: Config, folder: Path, alone: bool = True) -> Job:
    """Checks everything a job needs before anything is written or compiled."""
    results = (folder / "evaluation.csv").exists()
    if config["resume"] is not None and results and not (folder / CHECKPOINTS).exists():
        valid = "it holds results but no checkpoint to go on from; train into another folder"
        raise ConfigError("resume", str(folder), valid)
    config = with_intervals(config)
    check_logger(config)
    env, params = build_env(config)
    baselines = check_baselines(config, env)
    objective(config, env)
    agent = dict(config["agent"])
    if agent.get("schedule_updates", 0) is None:
        agent["schedule_updates"] = config["schedule_updates"]
    config = config | {"agent": agent}
    learner, hp = build_learner(config, env)
    if config["resume"] is None:
        claim_folder(folder)
    else:
        hold_folder(folder)
    wait_for_all("checked")  # nobody writes before all have looked
    return Job(config, folder, env, params, learner, hp, baselines, alone)


def with_intervals(config: Config) -> Config:
    """The configuration with checked numbers and its null intervals filled in."""
    num_updates = check_integer(config, "num_updates")
    for name in ("num_seeds", "keep_checkpoints"):
        check_integer(config, name)
    for name in ("seed", "checkpoint_episodes"):
        check_integer(config, name, low=0)
    check_evaluation(config, "eval_episodes")
    config = dict(config)
    if config["schedule_updates"] is None:
        config["schedule_updates"] = num_updates
    if config["log_interval"] is None:
        config["log_interval"] = largest_divisor(num_updates, max(1, num_updates // 200))
    length = check_integer(config, "log_interval")
    if config["checkpoint_interval"] is None:
        config["checkpoint_interval"] = length * max(1, num_updates // (10 * length))
    check_integer(config, "checkpoint_interval")
    check_integer(config, "schedule_updates")
    for name in ("num_updates", "checkpoint_interval"):
        if config[name] % length:
            raise ConfigError(name, config[name], f"give a multiple of log_interval={length}")
    return config


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of ``number`` that is at most ``limit``."""
    return next(d for d in range(limit, 0, -1) if number % d == 0)


def objective(config: Config, env: Environment) -> Metric | None:
    """The metric that a sweep improves: ``config["objective"]``, or the first of the environment.

    Raises:
        ConfigError: there is no such metric, or the sweeper takes it for better the other way.
    """
    from hydra.core.hydra_config import HydraConfig

    known = {metric.name: metric for metric in env.metrics}
    name = config["objective"] or next(iter(known), None)
    if name is None:
        return None
    if not isinstance(name, str) or name not in known:
        raise ConfigError("objective", name, f"choose one of {', '.join(known)}")
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    direction = hydra.sweeper.get("direction") if hydra is not None else None
    direction = getattr(direction, "name", direction)
    valid = {"min": "minimize", "max": "maximize"}[known[name].direction]
    if direction not in (None, valid):
        why = f"{name} of env={env.name} is better the other way; give {valid}"
        raise ConfigError("hydra.sweeper.direction", direction, why)
    return known[name]


def lane_keys(jobs: Sequence[Job]) -> chex.PRNGKey:
    """Keys ``[num_lanes]``: seed ``i`` of a job is ``fold_in(key(seed), i)``."""
    keys = [
        jax.random.fold_in(jax.random.key(job.config["seed"]), i)
        for job in jobs
        for i in range(job.num_seeds)
    ]
    return jnp.stack(keys)
