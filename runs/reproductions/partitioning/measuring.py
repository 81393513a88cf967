"""Every policy of the figures of fine-grained partitioning, at every point of a group."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import chex
import numpy as np
from tqdm import tqdm

from agents import registry as agents_registry
from agents.baselines.partitioning import is_enumerable
from agents.estimates import EpisodeTerms, bound_value
from jaxenv.environment import Environment
from jaxenv.partitioning import Partitioning
from runs import evaluate as evaluation
from runs import tables
from runs.reproductions import groups, preset, sweeps
from runs.reproductions.partitioning import training
from runs.reproductions.partitioning.scenarios import (
    OPTIMISERS,
    OVER,
    PRESETS,
    PROPOSED,
    SLACK,
    families,
)
from runs.settings import Config, build_env


def rivals(env: Partitioning) -> list[str]:
    """The baselines; where placements cannot be enumerated Opt1 is LocalSearch, which goes."""
    names = agents_registry.usual_baselines(env.name)
    return [name for name in names if name != "LocalSearch" or is_enumerable(env)]


def measure(
    env: Environment,
    params: Any,
    places: Sequence[sweeps.Point],
    learned: dict[str, training.Trained],
    key: chex.PRNGKey,
    plan: training.Schedule,
) -> tuple[list[tables.Row], dict[str, EpisodeTerms]]:
    """Trained policies, every baseline and the bound at every point, on the same episodes.

    The optimisers are measured on the first ``plan.chunk`` of them alone. The bound's own row is of
    those or of all, whichever is higher, so that no policy is above it.

    Returns:
        Rows of ``evaluation.csv``, and every policy's terms ``[points, (seeds,) episodes]``.
    """
    bound = agents_registry.bound(env)
    policies = {name: (one.env, one.policies, True, one.per_point) for name, one in learned.items()}
    policies |= {
        name: (env, agents_registry.baseline(name, env), False, False) for name in rivals(env)
    }
    varying = sweeps.stacked(params, places)
    wanted = {n: plan.chunk if n in OPTIMISERS else plan.eval_episodes for n in policies}
    everything: dict[str, EpisodeTerms] = {}
    with tqdm(total=plan.eval_episodes + sum(wanted.values()), unit="episode") as bar:

        def run(name: str, limit: Any = None) -> EpisodeTerms:
            own, policy, seeds, per_point = policies[name]
            how = {"bound": limit, "seeds": seeds, "per_point": per_point}
            rollout = partial(sweeps.rollout_points, own, params, varying, policy, **how)
            return sweeps.in_chunks(rollout, key, wanted[name], plan.chunk, bar)

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
            own = sweeps.at_point(terms, index)
            rows += tables.policy_rows(place.scenario, name, env.metrics, own, bound.metric)
        own = max((sweeps.at_point(t, index) for t in everything.values()), key=bound_value)
        rows += tables.bound_rows(place.scenario, env.metrics, own, bound.metric)
    return rows, everything


def compared_rows(
    places: Sequence[sweeps.Point], terms: dict[str, EpisodeTerms]
) -> list[tables.Row]:
    """Cost over that of Opt1 and of Priced on the same episodes, and the least distance of an
    episode to the bound, in percent, of every policy at every point."""
    rows = []
    for index, place in enumerate(places):
        for name, own in terms.items():
            reward = np.asarray(own.numerator["reward"][index], np.float64)
            limit = np.asarray(own.bound[0][index], np.float64)
            slack = 100 * ((limit - reward) / np.abs(limit)).min()
            for rival, metric in OVER.items():
                episodes = min(reward.shape[-1], terms[rival].numerator["reward"].shape[-1])
                mine, other = (
                    sweeps.resampled(terms[n], "reward", index, episodes) for n in (name, rival)
                )
                over = 100 * (mine / other - 1)
                rows.append(sweeps.resampled_row(place.scenario, name, metric, "%", over, own))
            values = np.full(3, slack)
            rows.append(sweeps.resampled_row(place.scenario, name, SLACK, "%", values, own))
    return rows


def measured(config: Config, group: str) -> groups.Measured:
    """A group's measurements, and its training curves by name."""
    return groups.measured_group(config, f"partitioning/{group}", partial(run_group, group=group))


def run_group(config: Config, path: Path, group: str) -> groups.Measured:
    """Trains and measures a group."""
    plan = training.schedule(config, group)
    key = evaluation.evaluation_key(config | {"eval_seed": config.get("eval_seed", 0)})
    rows, curves = [], {}
    for sizes, places in families(group):
        own = preset(PRESETS[PROPOSED])
        options = own["env"] | groups.given(config, "env", own["env"]["name"]) | sizes
        env, params = build_env(config | {"env": options})
        if group == "settings":
            learned = training.train_settings(config, path, plan)
        else:
            learned = {
                name: training.train_learner(config, path, name, plan, sizes, places)
                for name in training.learners_of(config, group, env)
            }
        more, terms = measure(env, params, places, learned, key, plan)
        rows += more + compared_rows(places, terms)
        curves |= {name: one.curves[0] for name, one in learned.items()}
    return groups.Measured(rows, curves)
