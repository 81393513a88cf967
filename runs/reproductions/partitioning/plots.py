"""Data and drawings of figures 6 to 13 of fine-grained partitioning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxenv.rendering import colours
from runs.figures import new_figure
from runs.reproductions import curves as binned
from runs.reproductions import plotting
from runs.reproductions.partitioning.scenarios import (
    DEFAULT,
    EDGE,
    ENERGY,
    LENGTHS,
    LOCAL,
    NETWORKS,
    PROPOSED,
    RATES_OF_LEARNING,
    REWARD,
    TOTAL,
    WORKERS,
)
from runs.reproductions.partitioning.training import Curve
from runs.tables import Row

STYLES: dict[str, plotting.Style] = {
    PROPOSED: (colours.RED, "o", "-"),
    "A3C": (colours.PURPLE, "v", "-"),
    "DQN": (colours.BROWN, "h", "-"),
    "RPDI": (colours.GREY, "x", "--"),
    "APDI": (colours.BLACK, "s", "--"),
    "Blockwise": (colours.SKY, "<", "--"),
    "Viterbi": (colours.SKY, ">", ":"),
    "Greedy": (colours.GREEN, "D", "-"),
    "GreedyEFT": (colours.GREEN, "d", "--"),
    "GreedyES": (colours.GREEN, "P", ":"),
    "LocalSearch": (colours.ORANGE, "1", ":"),
    "Opt1": (colours.BLUE, "^", "-"),
    "Priced": (colours.BLUE, "*", "--"),
}
TRAINED = (PROPOSED, "A3C", "DQN")
COST = "episode cost [1000 s]"
LABELS = {
    TOTAL: "total delay per slot [s]",
    EDGE: "edge delay per slot [s]",
    LOCAL: "local delay per slot [s]",
    ENERGY: "energy per slot [J]",
    REWARD: COST,
}
AXES = {
    "servers": "edge servers",
    "blocks": "blocks",
    "rate": "tasks per slot",
    "tolerance": "tolerated delay of a block [s]",
    "links": "rate of the links [MB/s]",
}
SHOWN = dict.fromkeys(("fig08", "fig09", "fig10", "fig12"), (TOTAL, EDGE, LOCAL, REWARD)) | {
    "fig11": (ENERGY, REWARD),
    "fig13": (TOTAL, REWARD),
}
PANEL = (3.4, 2.6)
COLOURS = (colours.RED, colours.BLUE, colours.GREEN, colours.PURPLE)
PANELS = {"learning rate": RATES_OF_LEARNING, "workers": WORKERS, "length of rollouts": LENGTHS}
Place = tuple[str, str, float]  # sweep, network, x


def figure_rows(figure: str, rows: Sequence[Row], places: Mapping[str, Place]) -> list[Row]:
    """The data of a sweep: rows of ``evaluation.csv`` with where they stand, by scenario."""
    return [
        dict(zip(("sweep", "network", "x"), places[row["scenario"]], strict=True)) | row
        for metric in SHOWN[figure]
        for row in rows
        if row["metric"] == metric and row["scenario"] in places
    ]


def curve_rows(curves: Mapping[str, Curve]) -> list[Row]:
    """The data of figures 6 and 7: one row per run, seed and bin."""
    return [
        {"run": name} | row
        for name, one in curves.items()
        for row in binned.curve_rows(
            {"episodes": one.episodes, "reward_s": one.reward}, np.isfinite(one.reward)
        )
    ]


def draw(figure: str, rows: Sequence[Row]) -> Any:
    """A sweep: a panel per metric and network, or per metric and sweep where there are several.

    Costs are minus rewards, so the bound is below all policies.
    """
    present = {(row["sweep"], row["network"]) for row in rows}
    columns = [(s, n) for s in AXES for n in NETWORKS if (s, n) in present]
    panels = [(metric, *place) for metric in SHOWN[figure] for place in columns]
    wide = 2 if len(columns) == 1 else len(columns)
    drawing, axes = new_figure(len(panels), columns=wide, size=PANEL)
    for (metric, sweep, network), ax in zip(panels, axes, strict=True):
        own = [_cost(row) if metric == REWARD else row for row in rows if row["metric"] == metric]
        own = [row for row in own if (row["sweep"], row["network"]) == (sweep, network)]
        plotting.lines(ax, own, STYLES.__getitem__, TRAINED, {})
        if metric != LOCAL:
            low = min(float(row["mean"]) for row in own)
            plotting.log_scale(
                ax, 0.85 * max(low, 0.05), 1.15 * max(float(r["ci_high"]) for r in own)
            )
        ax.set_xlabel(AXES[sweep])
        ax.set_ylabel(LABELS[metric])
        if len(present) > 1 and sweep == "links":
            ax.set_title(network, fontsize=9)
    plotting.legend(drawing, axes, columns=5 if wide == 2 else 6)
    return drawing


def _cost(row: Row) -> Row:
    """A row of rewards as one of costs in 1000 s."""
    values = {"mean": "mean", "ci_low": "ci_high", "ci_high": "ci_low"}
    return row | {name: -float(row[other]) / 1e3 for name, other in values.items()}


def draw_training(curves: Mapping[str, Curve], rows: Sequence[Row]) -> Any:
    """Figure 6: curves over episodes beside the other policies' levels, and final costs."""
    own = [_cost(row) for row in rows if row["metric"] == REWARD and row["scenario"] == DEFAULT]
    own.sort(key=lambda row: row["mean"])
    drawing, (ax, bars) = new_figure(2, size=(4.4, 3.4))
    for row in own:
        name = row["policy"]
        if name not in curves:
            colour, _, line = STYLES.get(name, ("#555555", "", ":"))
            ax.axhline(row["mean"], color=colour, linestyle=line, linewidth=1, zorder=1)
    for name, curve in curves.items():
        _draw_cost(ax, curve, STYLES[name][0], name)
    ax.legend(frameon=True, framealpha=0.9, fontsize=8, loc="upper right")
    ax.set_xlabel("training episodes of every worker")
    ax.set_ylabel(COST)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("")
    seeds = max(curve.reward.shape[0] for curve in curves.values())
    ax.set_title(f"training: mean and 95 % interval, {seeds} seeds; lines: as measured", fontsize=8)
    for place, row in enumerate(own):
        colour = STYLES.get(row["policy"], ("#555555",))[0]
        interval = row["mean"], row["ci_low"], row["ci_high"]
        plotting.bar(bars, place, interval, "{:.2f}", color=colour, height=0.7)
    plotting.bar_names(bars, [row["policy"] for row in own])
    bars.set_xlabel(COST)
    bars.set_title("measured: greedy policies, the same episodes", fontsize=8)
    return drawing


def draw_settings(curves: Mapping[str, Curve], rows: Sequence[Row]) -> Any:
    """Figure 7: curves of every setting, and the measured levels of all other policies."""
    level = {
        row["policy"]: _cost(row)["mean"]
        for row in rows
        if row["metric"] == REWARD and row["policy"] not in curves
    }
    drawing, axes = new_figure(len(PANELS), size=PANEL)
    for (title, names), ax in zip(PANELS.items(), axes, strict=True):
        for colour, name in zip(COLOURS, names, strict=False):
            _draw_cost(ax, curves[name], colour, name)
        ax.legend(frameon=True, framealpha=0.9, fontsize=7, loc="upper right")
        levels = [
            ax.axhline(cost, color=colour, linestyle=line, linewidth=0.8, zorder=1, label=policy)
            for policy, cost in level.items()
            for colour, _, line in [STYLES.get(policy, ("#555555", "", ":"))]
        ]
        ax.set_xlabel("training episodes of every worker")
        ax.set_ylabel(COST)
        ax.set_title(title, fontsize=9)
    drawing.legend(handles=levels, loc="outside upper center", ncols=6, frameon=False, fontsize=8)
    return drawing


def _draw_cost(ax: Any, curve: Curve, colour: str, name: str) -> None:
    plotting.curve(ax, curve.episodes, -curve.reward / 1e3, colour, name)
