"""CSV files, the printed tables, and how evaluated policies become rows of them."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.estimates import EpisodeTerms, Estimate, bound_value, pool, summarize
from jaxenv.environment import Metric

EVALUATION = (
    *("scenario", "policy", "metric", "unit", "mean", "ci_low", "ci_high"),
    *("gap_to_bound", "episodes", "seeds"),
)
EVALUATION_SEEDS = ("scenario", "policy", "seed", "metric", "unit", "mean", "episodes")
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
    own = EpisodeTerms({metric.name: numerator}, {metric.name: denominator})
    (estimate,) = summarize((ratio,), own)
    return [_row(scenario, BOUND, estimate) | {"mean": bound_value(terms), "gap_to_bound": 0.0}]


def seed_rows(
    scenario: str, policy: str, metrics: tuple[Metric, ...], terms: EpisodeTerms
) -> list[Row]:
    """One row per seed and metric, for ``evaluation_seeds.csv``."""
    rows = []
    for metric in metrics:
        numerator = np.atleast_2d(np.asarray(terms.numerator[metric.name], np.float64))
        denominator = np.atleast_2d(np.asarray(terms.denominator[metric.name], np.float64))
        for seed, mean in enumerate(pool(metric, numerator, denominator)):
            rows.append(
                {
                    "scenario": scenario,
                    "policy": policy,
                    "seed": seed,
                    "metric": metric.name,
                    "unit": metric.unit,
                    "mean": float(mean),
                    "episodes": numerator.shape[-1],
                }
            )
    return rows


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
