"""Every policy of the figures of the vehicular system, at every point of a group."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import chex
import numpy as np
from tqdm import tqdm

from agents import registry as agents_registry
from agents.estimates import EpisodeTerms
from agents.learner import Policy
from jaxenv.environment import Environment
from runs import evaluate as evaluation
from runs import tables
from runs.reproductions import groups, sweeps
from runs.reproductions.vehicular import training
from runs.reproductions.vehicular.scenarios import (
    BASELINES,
    LATENCY_GAIN,
    LOOK_AHEAD,
    SLOW,
    SUCCESS_GAIN,
    points,
    sweep_of,
)
from runs.settings import Config


def measure(
    env: Environment,
    params: Any,
    places: Sequence[sweeps.Point],
    policies: dict[str, tuple[Policy, bool, bool]],
    key: chex.PRNGKey,
    num_episodes: int,
    chunk: int = 256,
) -> tuple[list[tables.Row], dict[str, EpisodeTerms]]:
    """Every policy and the bound at every point, on the same episodes.

    Args:
        policies: by name, each with ``seeds`` and ``per_point`` of `rollout_points`.
        num_episodes: at each point, but `SLOW` policies run one chunk.
        chunk: episodes that run in parallel at each point.

    Returns:
        Rows of ``evaluation.csv``, and every policy's terms ``[points, (seeds,) episodes]``.
    """
    varying = sweeps.stacked(params, places)
    bound = agents_registry.bound(env)
    rows: list[tables.Row] = []
    everything: dict[str, EpisodeTerms] = {}
    wanted = {n: min(chunk, num_episodes) if n in SLOW else num_episodes for n in policies}
    with tqdm(total=sum(wanted.values()), unit="episode") as bar:
        for name, (policy, seeds, per_point) in policies.items():
            bar.set_description(f"evaluate {name} at {len(places)} points")
            how = {"bound": bound, "seeds": seeds, "per_point": per_point}
            rollout = partial(sweeps.rollout_points, env, params, varying, policy, **how)
            terms = sweeps.in_chunks(rollout, key, wanted[name], chunk, bar)
            everything[name] = terms
            for index, place in enumerate(places):
                own = sweeps.at_point(terms, index)
                rows += tables.policy_rows(place.scenario, name, env.metrics, own, bound.metric)
                if len(everything) == 1:
                    rows += tables.bound_rows(place.scenario, env.metrics, own, bound.metric)
    return rows, everything


def gain_rows(places: Sequence[sweeps.Point], terms: dict[str, EpisodeTerms]) -> list[tables.Row]:
    """Success gain over Edge in points and latency gain over Local in percent, of every policy.

    Intervals are bootstraps over seeds and over the episodes, which all policies share: both terms
    of a difference are resampled together. The change of the latency gain from the first to the
    last point of a network's sweep is a row of the scenario ``sweep_of(network)``.
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
                {
                    m: sweeps.resampled(terms[n], m, index, episodes)
                    for m in ("success_rate", "latency_s")
                }
                for n in ("Edge", "Local", name)
            )
            success = own["success_rate"] - edge["success_rate"]
            gains[index] = 100 * (1 - own["latency_s"] / local["latency_s"])
            rows.append(
                sweeps.resampled_row(
                    place.scenario, name, SUCCESS_GAIN, "points", success, terms[name]
                )
            )
            rows.append(
                sweeps.resampled_row(
                    place.scenario, name, LATENCY_GAIN, "%", gains[index], terms[name]
                )
            )
        for network, indices in of_network.items():
            if len(indices) > 1:
                change = gains[indices[-1]] - gains[indices[0]]
                scenario = sweep_of(network)
                rows.append(
                    sweeps.resampled_row(
                        scenario, name, LATENCY_GAIN, "points", change, terms[name]
                    )
                )
    return rows


def run_group(config: Config, path: Path, group: str) -> groups.Measured:
    """Trains and measures a group."""
    # Marginal rewards hold all that a decision costs, so there is no future to look at.
    credited = config["env"].get("reward_mode") is None and config["agent"].get("discount") is None
    config = config | {
        "env": config["env"] | ({"reward_mode": "marginal"} if credited else {}),
        "agent": config["agent"] | ({"discount": 0.0} if credited else {}),
        "episodes_per_call": config["episodes_per_call"] or 256,
        "eval_seed": config.get("eval_seed", 0),
    }
    learned = training.learned_name(config)
    num_envs = config["agent"].get("num_envs") or 64
    plan = training.schedule(config, group, num_envs)
    places = points(group)
    env, params, policies, per_point, runs = training.learned_policies(config, path, group, plan)
    names = BASELINES + (LOOK_AHEAD if config.get("lookahead") else ())
    compared = {learned: (policies, True, per_point)} | {
        name: (agents_registry.baseline(name, env), False, False) for name in names
    }
    key = evaluation.evaluation_key(config)
    chunk = min(config["episodes_per_call"], max(1, plan.eval_episodes // 4))
    rows, terms = measure(env, params, places, compared, key, plan.eval_episodes, chunk)
    curves = None
    if group == "training":
        curves = training.curves(tables.read_csv(runs[0] / "metrics.csv")) if runs else None
    else:
        rows += gain_rows(places, terms)
    return groups.Measured(rows, curves)
