"""Learners of the splitting point: trained, and measured beside the controllers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agents.baselines import splitting as baselines
from agents.learner import Policy
from jaxenv import struct
from jaxenv.splitting import Splitting, simulated_metrics
from runs import tables
from runs.jobs import Job
from runs.policies import policies_of
from runs.reproductions import output_folder, preset, trained, training_job
from runs.reproductions.groups import given, inherited
from runs.reproductions.splitting import scenarios
from runs.reproductions.splitting.measuring import simulate
from runs.settings import Config


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting, measured.

    metrics: of `simulated_metrics`, by policy ``[trajectories, variants]``; a variant is a training
    seed or a guard. progress: rows of ``progress.csv``. slack: how much wider than for 2e5 slots
    the limits are judged: what queues hold at the end shrinks with the length.
    """

    metrics: dict[str, dict[str, np.ndarray]]
    dual: baselines.DualSolution
    params: Any
    progress: list[dict[str, str]]
    slack: float

    def median(self, policy: str, name: str) -> np.ndarray:
        """A metric of every variant of a policy."""
        return np.median(self.metrics[policy][name], axis=0)

    def limits_met(self, policy: str) -> np.ndarray:
        """Whether each variant keeps both limits."""
        delay, outage = self.median(policy, "mean_delay_s"), self.median(policy, "outage")
        met = delay <= float(self.params.delay_avg_s) + 5e-5 * self.slack
        return met & (outage <= float(self.params.outage_eps) + 1e-4 * self.slack)


def job_of(config: Config, name: str, folder: Path) -> Job:
    """The training run of a setting."""
    own, paper = preset(scenarios.PRESETS[name]), config["scale"] == "paper"
    lengths = {} if paper else {"num_slots": 100_000}
    updates = config.get("num_updates") or own["num_updates"] * (3 if paper else 1)
    return training_job(
        inherited(config)
        | {
            "env": own["env"] | lengths | given(config, "env", "splitting"),
            "agent": own["agent"] | given(config, "agent", own["agent"]["name"]),
            "num_updates": updates,
            "num_seeds": config.get("num_seeds") or (5 if paper else 3),
            "checkpoint_episodes": config.get("eval_episodes") or 4,
            "eval_episodes": 1,
            "episodes_per_call": config.get("episodes_per_call") or 16,
            "scenario": name,
        },
        folder,
    )


def run_setting(config: Config, name: str) -> Setting:
    """Trains the learner, and simulates it and the controllers on the same slots."""
    with output_folder() as folder:
        job = job_of(config, name, Path(folder) / "learning" / name)
        states = trained([job])
        progress = tables.read_csv(job.folder / "progress.csv")
    env, params = job.env, job.params
    keys = jax.random.split(jax.random.key(config["seed"]), scenarios.TRAJECTORIES)
    totals = {
        scenarios.LEARNED: _simulate_learned(env, policies_of(job.learner, states), params, keys),
        "DPP": simulate(baselines.DriftPlusPenalty(env), params, keys),
        "CheapestAvg": simulate(baselines.CheapestWithinDelay(env), params, keys),
        "FullOffload": simulate(baselines.FullOffload(env), params, keys),
    }
    if env.observed == "late":
        guards = jnp.asarray(scenarios.GUARDS, env.float_dtype)
        guarded = baselines.GuardedDriftPlusPenalty(env, guards)
        totals[scenarios.GUARDED] = simulate(guarded, params, keys)
        totals[scenarios.EXPECTED] = simulate(baselines.DriftPlusPenaltyExpected(env), params, keys)
    return Setting(
        metrics={policy: simulated_metrics(env, total) for policy, total in totals.items()},
        dual=baselines.solve_dual(env, params, keys[0]),
        params=params,
        progress=progress,
        slack=max(1.0, 200_000 / env.num_slots),
    )


@struct.dataclass
class Rule(baselines.SplittingPolicy):
    """A function ``(slot, costs, params) -> (split, nats)`` as a policy of `Splitting.simulate`."""

    function: Callable[..., Any] = struct.field(pytree_node=False)

    def decide(self, slot, costs, params):
        return self.function(slot, costs, params)


@partial(jax.jit, static_argnames="env")
def _simulate_learned(env: Splitting, policies: Policy, params: Any, keys: jax.Array) -> Any:
    """`Splitting.simulate` of learned policies, stacked over training seeds, as its scenarios."""

    def of_seed(policy: Policy) -> Any:
        def decide(slot, costs, params):
            observation = env.observation_of(slot, params)
            split, _ = policy.act((), None, observation, jnp.asarray(True), None, params)
            return split, env.closed_form_nats(slot, params)

        return jax.tree.map(lambda x: x[..., 0], env.simulate(Rule(env, decide), params, keys))

    return jax.vmap(of_seed, out_axes=-1)(policies)


def curves_of(progress: list[dict[str, str]], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Updates, and a metric of the policy at each ``[training seeds, updates]``."""
    rows = [row for row in progress if row["metric"] == metric]
    updates = sorted({int(row["update"]) for row in rows})
    seeds = sorted({int(row["seed"]) for row in rows})
    found = {(int(row["seed"]), int(row["update"])): float(row["mean"]) for row in rows}
    return np.array(updates), np.array([[found[seed, u] for u in updates] for seed in seeds])
