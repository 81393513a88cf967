"""What drawings of several systems share: lines, curves, bars, legends, scales."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from runs.tables import BOUND, Row

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


def lines(
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


def legend(drawing: Any, axes: Sequence[Any], columns: int) -> None:
    """One legend above all panels."""
    handles = labelled(axes)
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


def labelled(axes: Sequence[Any]) -> dict[str, Any]:
    """What stands in the legend of several panels, each label once."""
    return {
        label: handle
        for ax in axes
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }


def curve(ax: Any, x: np.ndarray, values: np.ndarray, colour: str, name: str) -> None:
    """The mean over seeds, and its 95 % interval by a normal law where there are several."""
    known = np.isfinite(values).all(axis=0)
    x, values = x[:, known].mean(axis=0), values[:, known]
    mean, seeds = values.mean(axis=0), len(values)
    ax.plot(x, mean, color=colour, linewidth=1.4, label=name, zorder=3)
    if seeds > 1:
        half = 1.96 * values.std(axis=0, ddof=1) / np.sqrt(seeds)
        ax.fill_between(x, mean - half, mean + half, color=colour, alpha=0.25, linewidth=0)


def bar(
    ax: Any,
    place: float,
    interval: Sequence[float],
    form: str,
    size: float = 7,
    apart: float = 4,
    **style: Any,
) -> None:
    """A bar with its interval, ``(mean, low, high)``, and its mean beside it."""
    mean, low, high = interval
    ax.barh(place, mean, xerr=np.maximum([[mean - low], [high - mean]], 0), **style)
    beside = {"textcoords": "offset points", "va": "center", "size": size}
    ax.annotate(form.format(mean), (max(high, mean), place), (apart, 0), **beside)


def bar_names(ax: Any, names: Sequence[str]) -> None:
    """Names of bars from above, without lines between them."""
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
