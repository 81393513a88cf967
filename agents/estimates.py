"""From the terms of episodes to estimates: pooled metrics, their intervals, gaps to a bound."""

from __future__ import annotations

import dataclasses

import chex
import numpy as np

from agents.histogram import Histogram
from jaxenv import struct
from jaxenv.environment import Metric

MOST_UNITS = 4096


@struct.dataclass
class EpisodeTerms:
    """What `evaluate` measured: per metric and episode, a numerator and a denominator.

    Leaves have shape ``[..., num_episodes]``; leading axes are scenarios or seeds.
    bound: the same two for the bound, or None. Where they were counted, violations: of every
    constraint, violations and what could have violated, likewise; actions: decisions by action, a
    array for each part of an action, see `agents.choices`.
    Of many episodes that `agents.streaming` measured, leaves are sums over groups of consecutive
    ones; histograms: of every metric's value in each of the num_episodes episodes.
    """

    numerator: dict[str, chex.Array]
    denominator: dict[str, chex.Array]
    bound: tuple[chex.Array, chex.Array] | None = None
    violations: dict[str, tuple[chex.Array, chex.Array]] | None = None
    actions: tuple[chex.Array, ...] | None = None
    histograms: dict[str, Histogram] | None = None
    num_episodes: int | None = None

    @property
    def episodes(self) -> int:
        """How many episodes were measured."""
        return self.num_episodes or next(iter(self.numerator.values())).shape[-1]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A pooled metric with its 95 % bootstrap interval and its relative gap to the bound."""

    metric: str
    unit: str
    mean: float
    ci_low: float
    ci_high: float
    gap_to_bound: float | None
    episodes: int
    seeds: int


def pool(metric: Metric, numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """One number per leading index from terms ``[..., num_episodes]``, as the metric declares.

    NaN where nothing was counted.
    """
    if metric.pool == "quantile":
        values = ratios(numerator, denominator)
        counted = denominator != 0
        if counted.all():
            return np.quantile(values, metric.level, axis=-1)
        known = counted.any(axis=-1)
        rest = np.where(known[..., None], values, 0.0)  # nanquantile warns of nothing but NaN
        return np.where(known, np.nanquantile(rest, metric.level, axis=-1), np.nan)
    total = denominator.sum(-1)
    return np.where(total > 0, numerator.sum(-1) / np.where(total > 0, total, 1.0), np.nan)


def ratios(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """What an episode counts for by itself; NaN where its denominator is 0."""
    counted = denominator != 0
    return np.where(counted, numerator / np.where(counted, denominator, 1.0), np.nan)


def pooled(metric: Metric, terms: EpisodeTerms, by_seed: bool = False) -> np.ndarray:
    """A metric of all seeds together, ``[1]``, or of each, ``[num_seeds]``."""
    numerator = np.atleast_2d(np.asarray(terms.numerator[metric.name], np.float64))
    denominator = np.atleast_2d(np.asarray(terms.denominator[metric.name], np.float64))
    if metric.pool == "quantile" and numerator.shape[1] < terms.episodes:
        histogram, seeds = terms.histograms[metric.name], np.arange(len(numerator))
        rows = seeds[:, None] if by_seed else seeds[None]
        return np.array([histogram.quantiles([metric.level], own)[0][0] for own in rows])
    rows = len(numerator) if by_seed else 1
    return pool(metric, numerator.reshape(rows, -1), denominator.reshape(rows, -1))


def summarize(
    metrics: tuple[Metric, ...],
    terms: EpisodeTerms,
    bound_metric: str | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> list[Estimate]:
    """Pools terms ``[num_seeds, num_episodes]`` (or ``[num_episodes]``) into estimates.

    Intervals are percentile bootstraps over seeds, then over episodes within each drawn seed. Of
    more than `MOST_UNITS` episodes, it is groups of consecutive ones that are drawn, and a quantile
    is resampled from a histogram: memory does not grow with the resamples.
    """
    rows = []
    rng = np.random.default_rng(seed)
    seeds = len(np.atleast_2d(next(iter(terms.numerator.values()))))
    episodes = terms.episodes
    units = min(episodes, MOST_UNITS)
    drawn_seeds = rng.integers(seeds, size=(num_resamples, seeds))
    drawn_units = rng.integers(units, size=(num_resamples, seeds, units))
    for metric in metrics:
        numerator = np.atleast_2d(np.asarray(terms.numerator[metric.name], np.float64))
        denominator = np.atleast_2d(np.asarray(terms.denominator[metric.name], np.float64))
        mean = float(pooled(metric, terms)[0])
        if episodes > units and metric.pool == "quantile":
            if terms.histograms is None:
                histogram = Histogram(seeds)
                histogram.add(ratios(numerator, denominator))
            else:
                histogram = terms.histograms[metric.name]
            resampled = histogram.resampled([metric.level], drawn_seeds, rng)[:, 0]
        else:
            picks = (drawn_seeds[:, :, None], drawn_units)
            resampled = pool(
                metric,
                _grouped(numerator, units)[picks].reshape(num_resamples, -1),
                _grouped(denominator, units)[picks].reshape(num_resamples, -1),
            )
        counted = resampled[~np.isnan(resampled)]
        low, high = np.quantile(counted, [0.025, 0.975]) if counted.size else (np.nan, np.nan)
        gap = None
        if terms.bound is not None and metric.name == bound_metric and np.isfinite(mean):
            limit = bound_value(terms)
            worse = mean - limit if metric.direction == "min" else limit - mean
            gap = worse / abs(limit) if limit else None
        rows.append(
            Estimate(metric.name, metric.unit, mean, float(low), float(high), gap, episodes, seeds)
        )
    return rows


def _grouped(terms: np.ndarray, units: int) -> np.ndarray:
    """Sums ``[seeds, units]`` of terms ``[seeds, episodes]`` over consecutive episodes."""
    episodes = terms.shape[1]
    if episodes == units:
        return terms
    return np.add.reduceat(terms, np.arange(units) * episodes // units, axis=1)


def bound_value(terms: EpisodeTerms) -> float:
    """The pooled bound of evaluated terms."""
    numerator, denominator = (np.asarray(x, np.float64).sum() for x in terms.bound)
    return float(numerator / denominator) if denominator else 0.0
