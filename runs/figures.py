"""Figures of runs, training curves and evaluation bars: the one module here with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxenv.rendering import colours
from runs.tables import BOUND, Row

STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "figure.dpi": 150,
    "savefig.bbox": "tight",
}
PANEL = (3.2, 2.4)
MOST_TICKS = 16  # of a panel's lines


def new_figure(panels: int, columns: int = 3, size: tuple[float, float] = PANEL) -> tuple[Any, Any]:
    """``(figure, flat array of axes)`` with one axes per panel, off screen."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max(1, min(columns, panels))
    rows = max(1, -(-panels // columns))
    with rc_context(STYLE):
        figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
        FigureCanvasAgg(figure)
        axes = np.atleast_1d(figure.subplots(rows, columns)).reshape(-1)
    for spare in axes[panels:]:
        spare.remove()
    return figure, axes[:panels]


def blank_figure(size: tuple[float, float]) -> Any:
    """A figure without axes, off screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def style() -> Any:
    """Within it, axes are made and saved in the style of all figures."""
    from matplotlib import rc_context

    return rc_context(STYLE)


def save_figure(figure: Any, path: Path) -> None:
    """Writes a figure as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=STYLE["figure.dpi"])


def training_figure(rows: Sequence[dict[str, str]], path: Path) -> None:
    """Every training metric over updates: the mean over seeds and the seeds' range.

    rows: of ``metrics.csv``; what is the same in all of them is left out, if anything changes.
    """
    names = [name for name in rows[0] if name not in ("update", "seed") and "/" not in name]
    names = [name for name in names if len({row[name] for row in rows}) > 1] or names
    updates = sorted({int(row["update"]) for row in rows})
    seeds = sorted({int(row["seed"]) for row in rows})
    where = {update: i for i, update in enumerate(updates)}
    figure, axes = new_figure(len(names))
    for name, ax in zip(names, axes, strict=True):
        curves = np.full((len(seeds), len(updates)), np.nan)
        for row in rows:
            curves[int(row["seed"]), where[int(row["update"])]] = float(row[name])
        mean, low, high = (_over_seeds(f, curves) for f in (np.mean, np.min, np.max))
        known = np.isfinite(mean)
        x = np.array(updates)[known]
        ax.plot(x, mean[known], color="C0", linewidth=1.2)
        if len(seeds) > 1:
            ax.fill_between(x, low[known], high[known], color="C0", alpha=0.2, linewidth=0)
        ax.set_title(name)
        ax.set_xlabel("update")
    if len(seeds) > 1:
        figure.suptitle(f"mean and range of {len(seeds)} seeds", fontsize=9)
    save_figure(figure, path)


def evaluation_figure(rows: Sequence[Row], path: Path) -> None:
    """Every metric of every policy as a bar with its interval; the bound as a dashed line."""
    metrics = list(dict.fromkeys((row["metric"], row["unit"]) for row in rows))
    policies = list(dict.fromkeys(row["policy"] for row in rows if row["policy"] != BOUND))
    height = max(PANEL[1], 0.28 * len(policies) + 0.9)
    columns = 2 if len(metrics) == 4 else 3
    figure, axes = new_figure(len(metrics), columns, (PANEL[0], height))
    for index, ((metric, unit), ax) in enumerate(zip(metrics, axes, strict=True)):
        own = {row["policy"]: row for row in rows if row["metric"] == metric}
        named = policies if index % columns == 0 else [""] * len(policies)
        places = [place for place, policy in enumerate(policies) if policy in own]
        _bars(ax, [own[policies[place]] for place in places], named, places)
        if BOUND in own:
            ax.axvline(float(own[BOUND]["mean"]), color="black", linestyle="--", label="bound")
            ax.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 0.98))
        ax.set_xlabel(f"{metric} [{unit}]")
    save_figure(figure, path)


def quantile_figure(rows: Sequence[dict[str, str]], path: Path) -> None:
    """How every metric is distributed over the episodes of every policy.

    A box from the 25 % to the 75 % quantile with the median, a line from 5 % to 95 %.
    rows: of ``quantiles.csv``.
    """
    metrics = list(dict.fromkeys((row["metric"], row["unit"]) for row in rows))
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    values = {(r["metric"], r["policy"], float(r["level"])): r["value"] for r in rows}
    height = max(PANEL[1], 0.28 * len(policies) + 0.9)
    figure, axes = new_figure(len(metrics), size=(PANEL[0], height))
    for index, ((metric, unit), ax) in enumerate(zip(metrics, axes, strict=True)):
        ax.use_sticky_edges = False  # a box without width is seen too
        for place, policy in enumerate(policies):
            own = [values[metric, policy, level] for level in (0.05, 0.25, 0.5, 0.75, 0.95)]
            if not all(own):
                continue
            least, low, median, high, most = map(float, own)
            ax.hlines(place, least, most, color="black", linewidth=1)
            ax.barh(place, high - low, left=low, color=f"C{place % 10}", height=0.6)
            ax.vlines(median, place - 0.3, place + 0.3, color="black", linewidth=1.5)
        ax.set_yticks(range(len(policies)), policies if index % 3 == 0 else [""] * len(policies))
        ax.invert_yaxis()
        ax.set_xlabel(f"{metric} [{unit}]")
    save_figure(figure, path)


def action_figure(rows: Sequence[dict[str, str]], path: Path) -> None:
    """How often every policy takes every action: bars, or shades with a line per head.

    rows: of ``actions.csv``; seeds are taken together, agents lie below each other, and the darkest
    and the brightest shade are 0 and the largest share of the policy.
    """
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    figure, axes = new_figure(len(policies))
    for policy, ax in zip(policies, axes, strict=True):
        names = ("agent", "head", "action", "decisions")
        own = [[int(row[name]) for name in names] for row in rows if row["policy"] == policy]
        lines = sorted({(agent, head) for agent, head, _, _ in own})
        taken = np.zeros((len(lines), 1 + max(action for _, _, action, _ in own)))
        for agent, head, action, decisions in own:
            taken[lines.index((agent, head)), action] += decisions
        share = 100 * taken / taken.sum(axis=1, keepdims=True)
        if len(lines) == 1:
            ax.bar(range(share.shape[1]), share[0], width=1.0)
            ax.set_ylabel("decisions [%]")
        else:
            most = share.max()
            shown = ax.imshow(share, aspect="auto", vmin=0, vmax=most, interpolation="nearest")
            figure.colorbar(shown, ax=ax, label="decisions [%]")
            several = len({agent for agent, _ in lines}) > 1
            ax.set_ylabel("agent, head" if several else "head")
            ticks = range(0, len(lines), -(-len(lines) // MOST_TICKS))
            names = [", ".join(map(str, lines[i] if several else lines[i][1:])) for i in ticks]
            ax.set_yticks(ticks, names, fontsize=7)
            ax.grid(False)
        ax.set_title(policy)
        ax.set_xlabel("action")
    save_figure(figure, path)


def sweep_figure(names: Sequence[str], rows: Sequence[Row], path: Path) -> None:
    """Every metric of the learned policies over what was swept, with intervals.

    The number with most values is the horizontal axis, and jobs that agree in everything else but
    the seed are one line; without such a number every job is a bar.

    names: what was swept. rows: of ``sweep.csv``, one per job and metric.
    """
    metrics = list(dict.fromkeys((row["metric"], row["unit"]) for row in rows))
    counts = {name: len({str(row[name]) for row in rows}) for name in names if name != "seed"}
    numeric = [name for name in counts if all(_number(row[name]) is not None for row in rows)]
    x = max(numeric, key=counts.get, default=None)
    rest = [name for name in counts if name != x]
    jobs = list(dict.fromkeys(row["job"] for row in rows))
    height = PANEL[1] if x else max(PANEL[1], 0.28 * len(jobs) + 0.9)
    figure, axes = new_figure(len(metrics), size=(PANEL[0], height))
    for index, ((metric, unit), ax) in enumerate(zip(metrics, axes, strict=True)):
        own = [row for row in rows if row["metric"] == metric]
        if x is None:
            labels = [_values(row, names) or row["job"] for row in own]
            _bars(ax, own, labels if index % 3 == 0 else [""] * len(own))
            ax.set_xlabel(f"{metric} [{unit}]")
            continue
        for label in dict.fromkeys(_values(row, rest) for row in own):
            _line(ax, [row for row in own if _values(row, rest) == label], x, label)
        values = [_number(row[x]) for row in own]
        if min(values) > 0 and max(values) >= 20 * min(values):
            ax.set_xscale("log")
        ax.set_xlabel(x)
        ax.set_ylabel(f"{metric} [{unit}]")
    if x and rest:
        axes[0].legend(frameon=False, fontsize=7)
    save_figure(figure, path)


def _line(ax: Any, rows: Sequence[Row], x: str, label: str) -> None:
    rows = sorted(rows, key=lambda row: _number(row[x]))
    places, (means, errors) = [_number(row[x]) for row in rows], _intervals(rows)
    ax.errorbar(places, means, yerr=errors, marker="o", markersize=3, capsize=2, label=label)


def _bars(
    ax: Any, rows: Sequence[Row], labels: Sequence[str], places: Sequence[int] | None = None
) -> None:
    """A bar per row, from above. labels: of all places. places: of the rows, if some are empty."""
    means, errors = _intervals(rows)
    places = range(len(rows)) if places is None else places
    ax.barh(places, means, xerr=errors, color=colours.SKY, capsize=2, height=0.7)
    ax.set_yticks(range(len(labels)), labels)
    ax.locator_params(axis="x", nbins=5)
    ax.invert_yaxis()


def _intervals(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Means ``[n]`` and how far their intervals reach below and above, ``[2, n]``."""
    mean, low, high = (np.array([float(r[k]) for r in rows]) for k in ("mean", "ci_low", "ci_high"))
    return mean, np.maximum([mean - low, high - mean], 0.0)


def _values(row: Row, names: Sequence[str]) -> str:
    return ", ".join(f"{name.split('.')[-1]}={row[name]}" for name in names)


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _over_seeds(statistic: Any, curves: np.ndarray) -> np.ndarray:
    """A statistic over the seeds that have a number at each update."""
    out = np.full(curves.shape[1], np.nan)
    for column in range(curves.shape[1]):
        values = curves[:, column][np.isfinite(curves[:, column])]
        if values.size:
            out[column] = statistic(values)
    return out
