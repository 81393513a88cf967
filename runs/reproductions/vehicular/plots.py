"""Data and drawings of figures 3 to 16 of the vehicular system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxenv.rendering import colours
from runs.figures import new_figure
from runs.reproductions import curves as binned
from runs.reproductions import plotting
from runs.reproductions.vehicular.scenarios import (
    COST,
    LATENCY,
    LATENCY_GAIN,
    NETWORKS,
    SUCCESS,
    SUCCESS_GAIN,
)
from runs.reproductions.vehicular.training import Curves
from runs.tables import BOUND, Row

STYLES = {
    "Local": (colours.BLACK, "s", "-"),
    "Edge": (colours.BLUE, "^", "-"),
    "DSL": (colours.GREEN, "D", "-"),
    "INSGA": (colours.PURPLE, "v", "-"),
    "Aware": (colours.ORANGE, "P", "-"),
    "Greedy": (colours.SKY, "X", "--"),
    "Social": (colours.BROWN, "*", "--"),
}
LEARNED = (colours.RED, "o", "-")
NAMES = {"sac_discrete": "SAC-D"}
LABELS = {
    COST: "cost per task [s]",
    SUCCESS: "success rate [%]",
    LATENCY: "latency of completed tasks [s]",
    SUCCESS_GAIN: "success gain over Edge [points]",
    LATENCY_GAIN: "latency gain over Local [%]",
}
AXES = (
    dict.fromkeys(("fig05", "fig06", "fig07", "fig08"), "cores per RSU")
    | dict.fromkeys(("fig09", "fig10", "fig11", "fig12"), "bandwidth per RSU [MHz]")
    | dict.fromkeys(("fig13", "fig14"), "AlexNet : VGG-16 : ResNet-50")
    | dict.fromkeys(("fig15", "fig16"), "vehicles")
)
SHOWN = (
    dict.fromkeys(("fig05", "fig09", "fig13", "fig15"), (SUCCESS,))
    | dict.fromkeys(("fig06", "fig10", "fig14", "fig16"), (LATENCY, COST))
    | dict.fromkeys(("fig07", "fig11"), (SUCCESS_GAIN,))
    | dict.fromkeys(("fig08", "fig12"), (LATENCY_GAIN,))
)
TRIVIAL = {SUCCESS_GAIN: ("Edge", "Local"), LATENCY_GAIN: ("Local",)}
PANEL = (3.4, 2.6)
Place = tuple[str, str, float]  # scenario, network, x


def figure_rows(figure: str, rows: Sequence[Row], places: Sequence[Place]) -> list[Row]:
    """The data of a figure: rows of ``evaluation.csv`` with where they stand.

    Figures 7, 8, 11 and 12 show every network, without the policy that gains nothing by
    definition; the other sweeps show VGG-16 or the mixes. Local never fails, so that its success
    gain says nothing either.
    """
    gains = figure in ("fig07", "fig08", "fig11", "fig12")
    chosen = {s: (n, x) for s, n, x in places if gains or n in ("VGG-16", "mixed")}
    return [
        {"network": chosen[row["scenario"]][0], "x": chosen[row["scenario"]][1]} | row
        for metric in SHOWN[figure]
        for row in rows
        if row["scenario"] in chosen
        and row["metric"] == metric
        and row["policy"] not in TRIVIAL.get(metric, ())
    ]


def curve_rows(curves: Curves) -> list[Row]:
    """The data of figures 3 and 4: one row per seed and bin."""
    columns = {
        "episodes": curves.episodes,
        "reward_s": curves.reward,
        "success_rate": curves.success,
        "latency_s": curves.latency_s,
    }
    return binned.curve_rows(columns, np.isfinite(curves.reward))


def draw(figure: str, rows: Sequence[Row], learned: str) -> Any:
    """A sweep: one panel per metric, or per network where several are shown; bars for mixes."""
    present = {row["network"] for row in rows}
    networks = [name for name in (*NETWORKS, "mixed") if name in present]
    panels = [(metric, network) for metric in SHOWN[figure] for network in networks]
    drawing, axes = new_figure(len(panels), size=PANEL)
    for (metric, network), ax in zip(panels, axes, strict=True):
        own = [row for row in rows if row["metric"] == metric and row["network"] == network]
        if network == "mixed":
            _bars(ax, own, learned)
        else:
            plotting.lines(ax, own, partial(_style, learned=learned), (learned,), NAMES)
        ax.set_xlabel(AXES[figure])
        ax.set_ylabel(LABELS[metric])
        if len(networks) > 1:
            ax.set_title(network, fontsize=9)
        if metric == COST and _spans(own):
            low = 0.85 * min(float(row["mean"]) for row in own)
            plotting.log_scale(ax, low, 1.15 * max(float(row["ci_high"]) for row in own))
        if metric == SUCCESS:
            ax.set_ylim(bottom=0, top=104)
    plotting.legend(drawing, axes, columns=4 if len(panels) < 3 else 8)
    return drawing


def draw_curves(figure: str, curves: Curves) -> Any:
    """Learning curves over episodes: mean over seeds, and their standard deviation."""
    panels = {
        "fig03": [(curves.reward, "reward per task [s]")],
        "fig04": [(curves.success, LABELS[SUCCESS]), (curves.latency_s, LABELS[LATENCY])],
    }[figure]
    drawing, axes = new_figure(len(panels), size=PANEL)
    for (values, label), ax in zip(panels, axes, strict=True):
        known = np.isfinite(values).all(axis=0)
        episodes, values = curves.episodes[:, known].mean(axis=0), values[:, known]
        mean, spread = values.mean(axis=0), values.std(axis=0)
        colour, marker, _ = LEARNED
        ax.fill_between(episodes, mean - spread, mean + spread, color=colour, alpha=0.2, lw=0)
        ax.plot(episodes, mean, color=colour, marker=marker, markersize=3, lw=1.3)
        ax.set_xlabel("training episodes")
        ax.set_ylabel(label)
        ax.set_title(f"mean and standard deviation, {len(values)} seeds", fontsize=8)
    return drawing


def _style(policy: str, learned: str) -> plotting.Style:
    return LEARNED if policy == learned else STYLES.get(policy, ("#777777", ".", ":"))


def _bars(ax: Any, rows: Sequence[Row], learned: str) -> None:
    """One group of bars per mix, with 95 % intervals."""
    names = plotting.policies_of(rows)
    width = 0.85 / len(names)
    for place, policy in enumerate(names):
        x, mean, error = plotting.series(rows, policy)
        colour, _, _ = _style(policy, learned)
        ax.bar(
            *(x + width * (place - (len(names) - 1) / 2), mean, width),
            yerr=error,
            color=colour,
            error_kw={"elinewidth": 0.7, "ecolor": "#444444"},
            label=NAMES.get(policy, policy),
        )
    x, mean, _ = plotting.series(rows, BOUND)
    if len(x):
        ax.hlines(mean, x - 0.45, x + 0.45, color="#555555", linestyle=":", lw=1.5, label="bound")
    scenarios = {row["x"]: row["scenario"].removeprefix("mix ") for row in rows}
    ax.set_xticks(sorted(scenarios), [scenarios[x] for x in sorted(scenarios)])
    ax.grid(axis="x", visible=False)


def _spans(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the means span more than a factor of five."""
    means = [float(row["mean"]) for row in rows if row["policy"] != BOUND]
    return max(means) > 5 * max(min(means), 1e-9)
