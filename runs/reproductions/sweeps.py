"""What figures that sweep a scenario share: points, paired measurements, curves, drawn lines."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from agents.estimates import EpisodeTerms
from agents.learner import Bound, Policy, rollout
from jaxenv.environment import Environment, cast_leaf
from runs.reproductions import FAILS, HOLDS, Verdict
from runs.tables import BOUND, Row

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


# ---- measuring ---------------------------------------------------------------------------------


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

    def at_point(leaves: dict[str, chex.Array], policy: Policy) -> EpisodeTerms:
        scenario = params.replace(**leaves)
        return rollout(env, scenario, policy, key, num_episodes, bound, seeds=seeds)

    if not varying:
        return jax.tree.map(lambda x: x[None], at_point({}, policy))
    return jax.vmap(at_point, (0, 0 if per_point else None))(varying, policy)


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


def resampled_row(
    scenario: str, policy: str, metric: str, unit: str, values: np.ndarray, terms: EpisodeTerms
) -> Row:
    """A row of ``evaluation.csv`` from a value and its resamples."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    shape = np.shape(next(iter(terms.numerator.values())))
    return {
        "scenario": scenario,
        "policy": policy,
        "metric": metric,
        "unit": unit,
        "mean": float(values[0]),
        "ci_low": float(low),
        "ci_high": float(high),
        "gap_to_bound": None,
        "episodes": shape[-1],
        "seeds": shape[1] if len(shape) == 3 else 1,
    }


def binned_metrics(
    rows: Sequence[Mapping[str, str]], metrics: Sequence[str], num_bins: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Training curves ``[num_seeds, num_bins]`` in bins of equal numbers of updates.

    Args:
        rows: of a run's ``metrics.csv`` (means per update over logged intervals).
        metrics: names of the environment's metrics.
        num_bins: at most so many.

    Returns:
        Episodes finished at the end of each bin, and every metric over the episodes that ended
        within it; NaN where none did.
    """
    updates = sorted({int(row["update"]) for row in rows})
    seeds = sorted({int(row["seed"]) for row in rows})
    place = {update: i for i, update in enumerate(updates)}
    length = updates[0]

    def read(name: str) -> np.ndarray:
        values = np.zeros((len(seeds), len(updates)))
        for row in rows:
            values[seeds.index(int(row["seed"])), place[int(row["update"])]] = float(row[name])
        return np.nan_to_num(values)

    def binned(values: np.ndarray) -> np.ndarray:
        parts = np.array_split(values * length, min(num_bins, len(updates)), axis=1)
        return np.stack([part.sum(axis=1) for part in parts], axis=1)

    def ratio(metric: str) -> np.ndarray:
        weight = read(f"denominator/{metric}")
        total, count = binned(read(metric) * weight), binned(weight)
        return np.where(count > 0, total / np.where(count > 0, count, 1), np.nan)

    episodes = np.cumsum(binned(read("episodes")), axis=1)
    return episodes, {metric: ratio(metric) for metric in metrics}


# ---- judging -----------------------------------------------------------------------------------


class Table:
    """Rows of ``evaluation.csv`` by scenario, policy and metric.

    learned: the name of the trained policy that is judged.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]], learned: str):
        self._rows = {(r["scenario"], r["policy"], r["metric"]): r for r in rows}
        self.learned = learned

    def row(self, scenario: str, metric: str, policy: str | None = None) -> Mapping[str, Any]:
        """The row of a policy; of the trained one unless named."""
        return self._rows[scenario, policy or self.learned, metric]

    def has(self, scenario: str, policy: str) -> bool:
        """Whether a policy was measured in a scenario."""
        return any(key[:2] == (scenario, policy) for key in self._rows)

    def mean(self, scenario: str, metric: str, policy: str | None = None) -> float:
        """The mean of a row."""
        return float(self.row(scenario, metric, policy)["mean"])


def verdict(
    claim: str, paper: str, expected: str, row: Mapping[str, Any], holds: bool | str, why: str
) -> Verdict:
    """A verdict that turns on a row; ``holds`` may be the verdict itself."""
    measured, low, high = (float(row[name]) for name in ("mean", "ci_low", "ci_high"))
    word = holds if isinstance(holds, str) else HOLDS if holds else FAILS
    return Verdict(claim, paper, expected, measured, low, high, word, why)


def listed(values: Iterable[float]) -> str:
    """``1, 2.35, 30``, to three digits."""
    return ", ".join(f"{value:.3g}" for value in values)


# ---- drawing -----------------------------------------------------------------------------------

Style = tuple[str, str, str]  # colour, marker, line


def policies_of(rows: Sequence[Row]) -> list[str]:
    """The policies of some rows in their order, without the bound."""
    return [p for p in dict.fromkeys(row["policy"] for row in rows) if p != BOUND]


def series(rows: Sequence[Row], policy: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(x, mean, error [2, points])`` of a policy."""
    own = sorted((row for row in rows if row["policy"] == policy), key=lambda row: row["x"])
    x, mean, low, high = (
        np.array([float(row[name]) for row in own]) for name in ("x", "mean", "ci_low", "ci_high")
    )
    return x, mean, np.maximum([mean - low, high - mean], 0)


def draw_lines(
    ax: Any,
    rows: Sequence[Row],
    style: Callable[[str], Style],
    front: Sequence[str],
    names: Mapping[str, str],
) -> None:
    """One line per policy with 95 % intervals, slightly apart so that intervals stay readable.

    front: policies drawn stronger than the others. names: as printed, where that differs.
    """
    policies = policies_of(rows)
    for place, policy in enumerate(reversed(policies)):
        x, mean, error = series(rows, policy)
        apart = 0.006 * np.ptp(x) * (place - (len(policies) - 1) / 2)
        colour, marker, line = style(policy)
        ax.errorbar(
            *(x + apart, mean, error),
            color=colour,
            marker=marker,
            linestyle=line,
            markersize=5.5 if policy in front else 4.5,
            linewidth=1.8 if policy in front else 1.1,
            elinewidth=0.9,
            capsize=2,
            zorder=3 if policy in front else 2,
            label=names.get(policy, policy),
        )
    x, mean, _ = series(rows, BOUND)
    if len(x):
        ax.plot(x, mean, color="#555555", linestyle=":", linewidth=1.3, label="bound")
    else:
        x, _, _ = series(rows, policies[0])
    ax.set_xticks(x, [f"{value:g}" for value in x])


def draw_legend(drawing: Any, axes: Sequence[Any], columns: int) -> None:
    """One legend above all panels."""
    handles = {
        label: handle
        for ax in axes
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    drawing.legend(
        handles.values(),
        handles.keys(),
        loc="outside upper center",
        ncols=columns,
        frameon=False,
        fontsize=8,
        handlelength=1.8,
        columnspacing=1.2,
    )


def log_scale(ax: Any, low: float, high: float) -> None:
    """A logarithmic vertical axis with ticks at 1, 2 and 5 times powers of ten, more if short."""
    ax.set_yscale("log")
    ax.set_ylim(low, high)
    digits = (1, 2, 5) if high > 8 * low else (1, 1.5, 2, 3, 4, 5, 7)
    ticks = [n * 10.0**k for k in range(-3, 6) for n in digits]
    ticks = [tick for tick in ticks if low < tick < high]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_yticks([], minor=True)
