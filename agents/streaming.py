"""`agents.learner.evaluate` over any number of episodes, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import numpy as np

from agents.choices import on_host
from agents.estimates import MOST_UNITS, EpisodeTerms, ratios
from agents.histogram import Histogram
from agents.learner import Bound, Policy, chunks
from jaxenv.environment import Environment


def measure(
    env: Environment,
    params: Any,
    policy: Policy,
    key: chex.PRNGKey,
    num_episodes: int,
    bound: Bound | None = None,
    chunk: int = 256,
    on_chunk: Callable[[int], None] | None = None,
    seeds: bool = False,
) -> EpisodeTerms:
    """As `agents.learner.evaluate`, on the same episodes; also violations, actions, distributions.

    Returns:
        Terms ``[num_seeds, groups]``, where a group is one episode, or of more than `MOST_UNITS`
        several consecutive ones. Numbers of decisions are exact, sums are of float64.
    """
    terms: EpisodeTerms | None = None
    groups = min(num_episodes, MOST_UNITS)
    starts = np.arange(groups) * num_episodes // groups
    finished = 0
    every = (env, params, policy, key, num_episodes, bound, chunk, on_chunk, seeds)
    for part in chunks(*every, count=True):
        terms = terms or _empty(part, groups, num_episodes)
        episodes = np.arange(finished, finished + part.episodes)
        _add(terms, part, np.searchsorted(starts, episodes, side="right") - 1)
        finished += part.episodes
    return terms


def _empty(part: EpisodeTerms, groups: int, num_episodes: int) -> EpisodeTerms:
    """The terms of no episode, of the form of a part."""
    seeds = len(np.atleast_2d(next(iter(part.numerator.values()))))
    return EpisodeTerms(
        *({name: np.zeros((seeds, groups)) for name in part.numerator} for _ in range(2)),
        bound=None if part.bound is None else tuple(np.zeros((2, seeds, groups))),
        violations={name: tuple(np.zeros((2, seeds, groups))) for name in part.violations},
        actions=tuple(np.zeros_like(on_host(counts)) for counts in part.actions),
        histograms={name: Histogram(seeds) for name in part.numerator},
        num_episodes=num_episodes,
    )


def _add(terms: EpisodeTerms, part: EpisodeTerms, group: np.ndarray) -> None:
    """Adds the episodes of a part, each to its group, in place."""

    def add(total: np.ndarray, values: chex.Array) -> None:
        values = np.atleast_2d(np.asarray(values, np.float64))
        np.add.at(total, (slice(None), group), values)

    for name, histogram in terms.histograms.items():
        numerator, denominator = part.numerator[name], part.denominator[name]
        add(terms.numerator[name], numerator)
        add(terms.denominator[name], denominator)
        histogram.add(ratios(*(np.asarray(x, np.float64) for x in (numerator, denominator))))
    for name, totals in terms.violations.items():
        for total, values in zip(totals, part.violations[name], strict=True):
            add(total, values)
    for total, values in zip(terms.bound or (), part.bound or (), strict=True):
        add(total, values)
    for total, counts in zip(terms.actions, part.actions, strict=True):
        total += on_host(counts)
