"""Drawings of figures 3 to 16 of the vehicular system: one colour and marker per policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from runs.figures import new_figure
from runs.reproductions.vehicular_claims import (
    COST,
    LATENCY,
    LATENCY_GAIN,
    NETWORKS,
    SUCCESS,
    SUCCESS_GAIN,
    Curves,
)
from runs.tables import BOUND, Row

# Colours of Okabe and Ito, told apart by colour-blind readers; markers differ as well.
STYLES = {
    "Local": ("#000000", "s", "-"),
    "Edge": ("#0072B2", "^", "-"),
    "DSL": ("#009E73", "D", "-"),
    "INSGA": ("#CC79A7", "v", "-"),
    "Aware": ("#E69F00", "P", "-"),
    "Greedy": ("#56B4E9", "X", "--"),
    "Social": ("#8C6D1F", "*", "--"),
}
LEARNED = ("#D55E00", "o", "-")
NAMES = {"sac_discrete": "SAC-D"}
LABELS = {
    COST: "cost per task [s]",
    SUCCESS: "success rate [%]",
    LATENCY: "latency of completed tasks [s]",
    SUCCESS_GAIN: "success gain over Edge [points]",
    LATENCY_GAIN: "latency gain over Local [%]",
}
AXES = {
    "fig05": "cores per RSU",
    "fig06": "cores per RSU",
    "fig07": "cores per RSU",
    "fig08": "cores per RSU",
    "fig09": "bandwidth per RSU [MHz]",
    "fig10": "bandwidth per RSU [MHz]",
    "fig11": "bandwidth per RSU [MHz]",
    "fig12": "bandwidth per RSU [MHz]",
    "fig13": "AlexNet : VGG-16 : ResNet-50",
    "fig14": "AlexNet : VGG-16 : ResNet-50",
    "fig15": "vehicles",
    "fig16": "vehicles",
}
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
    return [
        {
            "seed": seed,
            "episodes": float(curves.episodes[seed, i]),
            "reward_s": float(curves.reward[seed, i]),
            "success_rate": float(curves.success[seed, i]),
            "latency_s": float(curves.latency_s[seed, i]),
        }
        for seed in range(curves.episodes.shape[0])
        for i in range(curves.episodes.shape[1])
        if np.isfinite(curves.reward[seed, i])
    ]


def draw(figure: str, rows: Sequence[Row], learned: str) -> Any:
    """A sweep: one panel per metric, or per network where several are shown; bars for mixes."""
    present = {row["network"] for row in rows}
    networks = [name for name in (*NETWORKS, "mixed") if name in present]
    panels = [(metric, network) for metric in SHOWN[figure] for network in networks]
    drawing, axes = new_figure(len(panels), size=PANEL)
    for (metric, network), ax in zip(panels, axes, strict=True):
        own = [row for row in rows if row["metric"] == metric and row["network"] == network]
        (_bars if network == "mixed" else _lines)(ax, own, learned)
        ax.set_xlabel(AXES[figure])
        ax.set_ylabel(LABELS[metric])
        if len(networks) > 1:
            ax.set_title(network, fontsize=9)
        if metric == COST and _spans(own):
            low = 0.85 * min(float(row["mean"]) for row in own)
            high = 1.15 * max(float(row["ci_high"]) for row in own)
            ax.set_yscale("log")
            ax.set_ylim(low, high)
            ticks = [n * 10.0**k for k in range(-2, 5) for n in (1, 2, 5)]
            ticks = [tick for tick in ticks if low < tick < high]
            ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
            ax.set_yticks([], minor=True)
        if metric == SUCCESS:
            ax.set_ylim(bottom=0, top=104)
    handles = {
        label: handle
        for ax in axes
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    drawing.legend(
        handles.values(),
        handles.keys(),
        loc="outside upper center",
        ncols=4 if len(panels) < 3 else 8,
        frameon=False,
        fontsize=8,
        handlelength=1.8,
        columnspacing=1.2,
    )
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


def _style(policy: str, learned: str) -> tuple[str, str, str]:
    return LEARNED if policy == learned else STYLES.get(policy, ("#777777", ".", ":"))


def _policies(rows: Sequence[Row]) -> list[str]:
    return [p for p in dict.fromkeys(row["policy"] for row in rows) if p != BOUND]


def _series(rows: Sequence[Row], policy: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(x, mean, error [2, points])`` of a policy."""
    own = sorted((row for row in rows if row["policy"] == policy), key=lambda row: row["x"])
    x, mean, low, high = (
        np.array([float(row[name]) for row in own]) for name in ("x", "mean", "ci_low", "ci_high")
    )
    return x, mean, np.maximum([mean - low, high - mean], 0)


def _lines(ax: Any, rows: Sequence[Row], learned: str) -> None:
    """One line per policy with 95 % intervals, slightly apart so that intervals stay readable."""
    names = _policies(rows)
    for place, policy in enumerate(reversed(names)):
        x, mean, error = _series(rows, policy)
        apart = 0.006 * np.ptp(x) * (place - (len(names) - 1) / 2)
        colour, marker, line = _style(policy, learned)
        front = policy == learned
        ax.errorbar(
            *(x + apart, mean, error),
            color=colour,
            marker=marker,
            linestyle=line,
            markersize=5.5 if front else 4.5,
            linewidth=1.8 if front else 1.1,
            elinewidth=0.9,
            capsize=2,
            zorder=3 if front else 2,
            label=NAMES.get(policy, policy),
        )
    x, mean, _ = _series(rows, BOUND)
    if len(x):
        ax.plot(x, mean, color="#555555", linestyle=":", linewidth=1.3, label="bound")
    else:
        x, _, _ = _series(rows, names[0])
    ax.set_xticks(x, [f"{value:g}" for value in x])


def _bars(ax: Any, rows: Sequence[Row], learned: str) -> None:
    """One group of bars per mix, with 95 % intervals."""
    names = _policies(rows)
    width = 0.85 / len(names)
    for place, policy in enumerate(names):
        x, mean, error = _series(rows, policy)
        colour, _, _ = _style(policy, learned)
        ax.bar(
            *(x + width * (place - (len(names) - 1) / 2), mean, width),
            yerr=error,
            color=colour,
            error_kw={"elinewidth": 0.7, "ecolor": "#444444"},
            label=NAMES.get(policy, policy),
        )
    x, mean, _ = _series(rows, BOUND)
    if len(x):
        ax.hlines(mean, x - 0.45, x + 0.45, color="#555555", linestyle=":", lw=1.5, label="bound")
    scenarios = {row["x"]: row["scenario"].removeprefix("mix ") for row in rows}
    ax.set_xticks(sorted(scenarios), [scenarios[x] for x in sorted(scenarios)])
    ax.grid(axis="x", visible=False)


def _spans(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the means span more than a factor of five."""
    means = [float(row["mean"]) for row in rows if row["policy"] != BOUND]
    return max(means) > 5 * max(min(means), 1e-9)
