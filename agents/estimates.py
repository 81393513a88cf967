"""From the terms of episodes to estimates: pooled metrics, their intervals, gaps to a bound."""

from __future__ import annotations

import dataclasses

import chex
import numpy as np

from jaxenv import struct
from jaxenv.environment import Metric

MOST_UNITS = 4096


@struct.dataclass
class EpisodeTerms:
    """What `evaluate` measured: per metric and episode, a numerator and a denominator.

    Leaves have shape ``[..., num_episodes]``; leading axes are scenarios or seeds.
    bound: the same two for the bound, or None.
    """

    numerator: dict[str, chex.Array]
    denominator: dict[str, chex.Array]
    bound: tuple[chex.Array, chex.Array] | None = None


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
        counted = denominator != 0
        values = np.where(counted, numerator / np.where(counted, denominator, 1.0), np.nan)
        if counted.all():
            return np.quantile(values, metric.level, axis=-1)
        known = counted.any(axis=-1)
        rest = np.where(known[..., None], values, 0.0)  # nanquantile warns of nothing but NaN
        return np.where(known, np.nanquantile(rest, metric.level, axis=-1), np.nan)
    total = denominator.sum(-1)
    return np.where(total > 0, numerator.sum(-1) / np.where(total > 0, total, 1.0), np.nan)


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
    is resampled from a histogram of as many bins: memory does not grow with the resamples.
    """
    rows = []
    rng = np.random.default_rng(seed)
    seeds, episodes = np.atleast_2d(next(iter(terms.numerator.values()))).shape
    units = min(episodes, MOST_UNITS)
    drawn_seeds = rng.integers(seeds, size=(num_resamples, seeds))
    drawn_units = rng.integers(units, size=(num_resamples, seeds, units))
    for metric in metrics:
        numerator = np.atleast_2d(np.asarray(terms.numerator[metric.name], np.float64))
        denominator = np.atleast_2d(np.asarray(terms.denominator[metric.name], np.float64))
        mean = float(pool(metric, numerator.reshape(-1), denominator.reshape(-1)))
        if episodes > units and metric.pool == "quantile":
            resampled = _resampled_quantile(metric, numerator, denominator, drawn_seeds, rng)
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
            gap = abs(mean - limit) / abs(limit) if limit else None
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


def _resampled_quantile(
    metric: Metric,
    numerator: np.ndarray,
    denominator: np.ndarray,
    drawn_seeds: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """A quantile over episodes in every resample, from a histogram per seed of `MOST_UNITS` bins.

    Bins hold equally many episodes, so a quantile is off by one bin, 1/`MOST_UNITS` in its level.
    """
    counted = denominator != 0
    values = numerator / np.where(counted, denominator, 1.0)
    if not counted.any():
        return np.full(len(drawn_seeds), np.nan)
    middle = (np.arange(MOST_UNITS) + 0.5) / MOST_UNITS
    edges = np.quantile(values[counted], np.linspace(0, 1, MOST_UNITS + 1))
    centres = np.quantile(values[counted], middle)
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, MOST_UNITS - 1)
    counts = [np.bincount(b[c], minlength=MOST_UNITS) for b, c in zip(bins, counted, strict=True)]
    found = []
    for drawn in drawn_seeds:
        total = np.zeros(MOST_UNITS)
        for seed in drawn:
            size = counts[seed].sum()
            total += rng.multinomial(size, counts[seed] / size) if size else 0
        cumulative = np.cumsum(total)
        place = np.searchsorted(cumulative, metric.level * cumulative[-1])
        found.append(centres[place] if cumulative[-1] else np.nan)
    return np.array(found)


def bound_value(terms: EpisodeTerms) -> float:
    """The pooled bound of evaluated terms."""
    numerator, denominator = (np.asarray(x, np.float64).sum() for x in terms.bound)
    return float(numerator / denominator) if denominator else 0.0
