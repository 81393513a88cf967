"""CSV files, the printed tables, and how evaluated policies become rows of them."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.choices import Choices
from agents.estimates import EpisodeTerms, Estimate, bound_value, pooled, summarize
from jaxenv.environment import Constraint, Metric

EVALUATION = (
    *("scenario", "policy", "metric", "unit", "mean", "ci_low", "ci_high"),
    *("gap_to_bound", "episodes", "seeds"),
)
EVALUATION_SEEDS = ("scenario", "policy", "seed", "metric", "unit", "mean", "episodes")
QUANTILES = (
    *("scenario", "policy", "metric", "unit", "level", "value", "error", "ci_low", "ci_high"),
    *("episodes", "seeds"),
)
LEVELS = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
VIOLATIONS = (
    *("scenario", "policy", "constraint", "unit", "rate", "ci_low", "ci_high"),
    *("violations", "trials", "limit", "episodes", "seeds"),
)
ACTIONS = (
    *("scenario", "policy", "seed", "agent", "head", "action", "decisions", "share"),
    *("free_decisions", "free_share"),
)
BOUND = "bound"

Row = dict[str, Any]


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Writes rows whole or not at all: a killed program leaves the previous file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    os.replace(partial, path)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, as strings by column."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain table: the first column left-aligned, the others right-aligned."""
    cells = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        first = row[0].ljust(widths[0])
        rest = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        return "  ".join([first, *rest]).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])


def policy_rows(
    scenario: str,
    policy: str,
    metrics: tuple[Metric, ...],
    terms: EpisodeTerms,
    bound_metric: str | None,
) -> list[Row]:
    """The rows of ``evaluation.csv`` of one policy, from terms ``[(num_seeds,) num_episodes]``."""
    return [
        _row(scenario, policy, estimate) for estimate in summarize(metrics, terms, bound_metric)
    ]


def bound_rows(
    scenario: str, metrics: tuple[Metric, ...], terms: EpisodeTerms, bound_metric: str | None
) -> list[Row]:
    """The bound's own row, on the trace of ``terms``; none where there is no bound."""
    metric = next((m for m in metrics if m.name == bound_metric), None)
    if terms.bound is None or metric is None:
        return []
    ratio = Metric(metric.name, metric.unit, metric.direction, "ratio", of="", over="")
    numerator, denominator = terms.bound
    own = EpisodeTerms(
        {metric.name: numerator}, {metric.name: denominator}, num_episodes=terms.num_episodes
    )
    (estimate,) = summarize((ratio,), own)
    return [_row(scenario, BOUND, estimate) | {"mean": bound_value(terms), "gap_to_bound": 0.0}]


def seed_rows(
    scenario: str, policy: str, metrics: tuple[Metric, ...], terms: EpisodeTerms
) -> list[Row]:
    """One row per seed and metric, for ``evaluation_seeds.csv``."""
    rows = []
    for metric in metrics:
        for seed, mean in enumerate(pooled(metric, terms, by_seed=True)):
            rows.append(
                {
                    "scenario": scenario,
                    "policy": policy,
                    "seed": seed,
                    "metric": metric.name,
                    "unit": metric.unit,
                    "mean": float(mean),
                    "episodes": terms.episodes,
                }
            )
    return rows


def quantile_rows(
    scenario: str, policy: str, metrics: tuple[Metric, ...], terms: EpisodeTerms
) -> list[Row]:
    """The rows of ``quantiles.csv`` of one policy: how every metric is distributed over episodes.

    ``error`` is the most by which a value may differ from the quantile of all values. Intervals are
    bootstraps over seeds, then over episodes; the extremes have none. Episodes in which a metric
    counts nothing are left out.
    """
    rows = []
    rng = np.random.default_rng(0)
    for metric in metrics:
        histogram = terms.histograms[metric.name]
        seeds = len(histogram.counts)
        values, errors = histogram.quantiles(LEVELS)
        drawn = histogram.resampled(LEVELS[1:-1], rng.integers(seeds, size=(1000, seeds)), rng)
        drawn = drawn[~np.isnan(drawn).any(axis=1)]
        limits = np.full((2, len(LEVELS)), np.nan)
        if len(drawn):
            limits[:, 1:-1] = np.quantile(drawn, [0.025, 0.975], axis=0)
        for level, value, error, low, high in zip(LEVELS, values, errors, *limits, strict=True):
            own = (scenario, policy, metric.name, metric.unit, level, value, error, low, high)
            cells = [*own, histogram.total() // seeds, seeds]
            rows.append(dict(zip(QUANTILES, map(_plain, cells), strict=True)))
    return rows


def violation_rows(
    scenario: str,
    policy: str,
    constraints: tuple[Constraint, ...],
    terms: EpisodeTerms,
    params: Any,
) -> list[Row]:
    """The rows of ``violations.csv`` of one policy: rates with Wilson's 95 % intervals.

    What happens within an episode is no independent trial: the number of trials that the interval
    is made of is the one that explains how much rates differ between episodes.
    """
    rows = []
    for constraint in constraints:
        found, trials = (np.asarray(x).reshape(-1) for x in terms.violations[constraint.name])
        rate, low, high = wilson(found, trials)
        leaf = None if constraint.limit is None else np.asarray(getattr(params, constraint.limit))
        limit = None if leaf is None else float(str(leaf))  # 0.01 in float32 too
        numbers = (100 * rate, 100 * low, 100 * high, int(found.sum()), int(trials.sum()), limit)
        seeds = len(np.atleast_2d(terms.violations[constraint.name][0]))
        cells = (scenario, policy, constraint.name, "%", *numbers, terms.episodes, seeds)
        rows.append(dict(zip(VIOLATIONS, map(_plain, cells), strict=True)))
    return rows


def wilson(found: np.ndarray, trials: np.ndarray, z: float = 1.96) -> tuple[float, float, float]:
    """A rate and Wilson's interval, from counts of independent groups; NaN without trials."""
    total, groups = trials.sum(), np.count_nonzero(trials)
    if not total:
        return np.nan, np.nan, np.nan
    rate = found.sum() / total
    if 0 < rate < 1 and groups > 1:
        variance = ((found - rate * trials) ** 2).sum() * groups / (groups - 1) / total**2
        total = min(total, rate * (1 - rate) / variance) if variance else total
    centre = (rate + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * np.sqrt(rate * (1 - rate) / total + z**2 / (4 * total**2))
    return rate, centre - half if rate > 0 else 0.0, centre + half if rate < 1 else 1.0


def action_rows(
    scenario: str, policy: str, parts: Sequence[Choices], terms: EpisodeTerms
) -> list[Row]:
    """The rows of ``actions.csv`` of one policy: how often each value of each head was taken.

    A row per seed, agent, head and value that was taken; heads are the entries of an action, over
    all its parts. A decision is free where more than one value was valid.
    """
    rows = []
    first = 0
    for part, counts in zip(parts, terms.actions, strict=True):
        own = counts.reshape(len(counts), 2, part.agents, part.heads, part.values)
        totals = own.sum(-1)
        for seed, agent, head, value in zip(*np.nonzero(own[:, 0]), strict=True):
            taken, free = own[seed, :, agent, head, value]
            of, of_free = totals[seed, :, agent, head]
            shares = taken / of, free / of_free if of_free else np.nan
            place = (scenario, policy, seed, agent, first + head, value)
            cells = (*place, taken, shares[0], free, shares[1])
            rows.append(dict(zip(ACTIONS, map(_plain, cells), strict=True)))
        first += part.heads
    return rows


def violation_table(rows: Sequence[Row]) -> str:
    """Policies down, constraints across: the rate of violation with its interval."""
    return evaluation_table(
        [
            row | {"metric": row["constraint"], "mean": row["rate"], "gap_to_bound": None}
            for row in rows
        ]
    )


def _plain(value: Any) -> Any:
    """A number of NumPy as one of Python; nothing for NaN."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and np.isnan(value) else value


def evaluation_table(rows: Sequence[Row]) -> str:
    """The one table of an evaluation: policies down, metrics across, the gap to the bound last."""
    header, lines = evaluation_cells(rows)
    return format_table(header, lines)


def markdown_table(path: Path, metrics: Sequence[str] = ()) -> str:
    """The table of an ``evaluation.csv`` as Markdown, for documents that show it.

    metrics: those shown; none = all.
    """
    rows = [row for row in read_csv(path) if not metrics or row["metric"] in metrics]
    header, lines = evaluation_cells(rows)
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, rule, *lines])


def evaluation_cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and lines of `evaluation_table`."""
    metrics = list(dict.fromkeys((row["metric"], row["unit"]) for row in rows))
    has_gap = any(_given(row["gap_to_bound"]) for row in rows)
    header = ["policy", *[f"{name} [{unit}]" for name, unit in metrics]]
    lines = []
    for policy in dict.fromkeys(row["policy"] for row in rows):
        own = {row["metric"]: row for row in rows if row["policy"] == policy}
        cells = [policy, *[interval(own[name]) if name in own else "" for name, _ in metrics]]
        if has_gap:
            gaps = [row["gap_to_bound"] for row in own.values() if _given(row["gap_to_bound"])]
            cells.append(f"{float(gaps[0]):.1%}" if gaps else "")
        lines.append(cells)
    return [*header, "gap to bound"] if has_gap else header, lines


def interval(row: Row) -> str:
    """``mean [ci_low, ci_high]`` of a row; nothing where nothing was counted."""
    if np.isnan(float(row["mean"])):
        return ""
    mean, low, high = (f"{float(row[name]):.4g}" for name in ("mean", "ci_low", "ci_high"))
    return f"{mean} [{low}, {high}]"


def _given(value: Any) -> bool:
    return value not in (None, "")


def _row(scenario: str, policy: str, estimate: Estimate) -> Row:
    return {"scenario": scenario, "policy": policy} | {
        name: getattr(estimate, name) for name in EVALUATION[2:]
    }
