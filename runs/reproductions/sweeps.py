"""What figures that sweep a scenario share: points, policies at them, paired differences."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from agents.estimates import EpisodeTerms
from agents.learner import Bound, Policy, rollout
from jaxenv.environment import Environment, cast_leaf
from runs.tables import Row

NUM_RESAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class Point:
    """One place of a sweep.

    scenario: as in every table. x: where it stands on the axis of the figures. network: whose
    panel it belongs to. leaves: those of the scenario that the sweep changes.
    """

    scenario: str
    x: float
    network: str
    leaves: Mapping[str, Any] = dataclasses.field(hash=False)


def stacked(params: Any, places: Sequence[Point]) -> dict[str, chex.Array]:
    """The leaves of ``params`` that the points change, ``[num_points, ...]``."""
    names = sorted({name for place in places for name in place.leaves})
    return {
        name: jnp.stack([cast_leaf(name, p.leaves[name], getattr(params, name)) for p in places])
        for name in names
    }


def replaced(params: Any, leaves: Mapping[str, Any]) -> Any:
    """``params`` with other leaves, each of the type of the one whose place it takes."""
    return params.replace(
        **{name: jnp.asarray(leaf, getattr(params, name).dtype) for name, leaf in leaves.items()}
    )


@partial(jax.jit, static_argnames=("env", "num_episodes", "seeds", "per_point"))
def rollout_points(
    env: Environment,
    params: Any,
    varying: dict[str, chex.Array],
    policy: Policy,
    key: chex.PRNGKey,
    num_episodes: int,
    bound: Bound | None = None,
    seeds: bool = False,
    per_point: bool = False,
) -> EpisodeTerms:
    """Terms ``[num_points, (num_seeds,) num_episodes]`` of a policy at every point of a sweep.

    varying: leaves of ``params`` with an axis of points. seeds: whether ``policy`` has an axis of
    seeds. per_point: whether it has an axis of points before that. Episode ``i`` has the same draws
    at all points.
    """

    def at(leaves: dict[str, chex.Array], policy: Policy) -> EpisodeTerms:
        scenario = params.replace(**leaves)
        return rollout(env, scenario, policy, key, num_episodes, bound, seeds=seeds)

    if not varying:
        return jax.tree.map(lambda x: x[None], at({}, policy))
    return jax.vmap(at, (0, 0 if per_point else None))(varying, policy)


def in_chunks(
    run: Callable[[chex.PRNGKey, int], EpisodeTerms],
    key: chex.PRNGKey,
    num_episodes: int,
    chunk: int,
    bar: tqdm,
) -> EpisodeTerms:
    """The terms of ``run(key, num_episodes)``, in calls of ``chunk`` episodes, as NumPy arrays."""
    parts = []
    for finished in range(0, num_episodes, chunk):
        size = min(chunk, num_episodes - finished)
        parts.append(jax.device_get(run(jax.random.fold_in(key, finished), size)))
        bar.update(size)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=-1), *parts)


def at_point(terms: EpisodeTerms, index: int) -> EpisodeTerms:
    """The terms ``[(num_seeds,) num_episodes]`` of one point."""
    return jax.tree.map(lambda leaf: leaf[index], terms)


def resampled(terms: EpisodeTerms, metric: str, index: int, episodes: int) -> np.ndarray:
    """The metric over the first episodes at a point, then over `NUM_RESAMPLES` resamples.

    The same episodes are drawn for all policies, so that differences of them are paired.
    """
    numerator, denominator = (
        np.atleast_2d(np.asarray(part[metric][index], np.float64))[:, :episodes]
        for part in (terms.numerator, terms.denominator)
    )
    seeds = numerator.shape[0]
    of_episode, of_seed = (np.random.default_rng(stream) for stream in (0, 1))
    times = of_episode.multinomial(episodes, np.full(episodes, 1 / episodes), NUM_RESAMPLES)
    chosen = of_seed.multinomial(seeds, np.full(seeds, 1 / seeds), NUM_RESAMPLES)
    times = np.vstack([np.ones((1, episodes)), times])
    chosen = np.vstack([np.ones((1, seeds)), chosen])
    total = np.einsum("rs,se,re->r", chosen, numerator, times)
    count = np.einsum("rs,se,re->r", chosen, denominator, times)
    return np.where(count > 0, total / np.where(count > 0, count, 1), 0.0)


def evaluation_row(
    scenario: str,
    policy: str,
    metric: str,
    unit: str,
    interval: Sequence[float],
    episodes: int | None = None,
    seeds: int | None = None,
) -> Row:
    """A row of ``evaluation.csv`` without a gap; interval: ``(mean, low, high)``."""
    place = {"scenario": scenario, "policy": policy, "metric": metric, "unit": unit}
    numbers = dict(zip(("mean", "ci_low", "ci_high"), map(float, interval), strict=True))
    return place | numbers | {"gap_to_bound": None, "episodes": episodes, "seeds": seeds}


def resampled_row(
    scenario: str, policy: str, metric: str, unit: str, values: np.ndarray, terms: EpisodeTerms
) -> Row:
    """A row of ``evaluation.csv`` from a value and its resamples."""
    interval = values[0], *np.quantile(values[1:], [0.025, 0.975])
    shape = np.shape(next(iter(terms.numerator.values())))
    seeds = shape[1] if len(shape) == 3 else 1
    return evaluation_row(scenario, policy, metric, unit, interval, shape[-1], seeds)
