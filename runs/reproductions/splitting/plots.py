"""Drawings of the figures of adaptive splitting."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxenv.rendering.colours import BLUE, GREEN, PURPLE, RED
from runs.figures import new_figure
from runs.reproductions.splitting import scenarios
from runs.reproductions.splitting.measuring import SHOWN
from runs.reproductions.splitting.training import Setting, curves_of
from runs.tables import Row

COLOURS = (BLUE, RED, GREEN, PURPLE)
MARKERS = ("o", "s", "^", "D")
TITLES = {"now": "present seen", "late": "correlated, seen one slot late"}
OF_POLICY = {
    "CheapestAvg": ("^", COLOURS[3], 28),
    scenarios.GUARDED: ("s", COLOURS[0], 12),
    "DPP": ("s", COLOURS[0], 45),
    scenarios.EXPECTED: ("D", COLOURS[2], 45),
    scenarios.LEARNED: ("o", COLOURS[1], 18),
}
REFERENCE = {"now": "DPP", "late": scenarios.EXPECTED}


def fig1(rows: list[Row]) -> Any:
    """Cumulative work, energy and size of the cut at every splitting point."""
    figure, axes = new_figure(3)
    x = np.arange(len(rows))
    for ax, name, label, colour in zip(
        axes,
        ("macs", "energy_mj", "cut_mbit"),
        ("cumulative MACs [1e6]", "device energy per image [mJ]", "cut per image [Mbit]"),
        COLOURS,
        strict=False,
    ):
        ax.bar(
            x, [row[name] / (1e6 if name == "macs" else 1) for row in rows], color=colour, width=0.8
        )
        ax.set_xlabel("splitting point")
        ax.set_ylabel(label)
        ax.set_xticks(x[:: max(1, len(x) // 5)])
    return figure


def fig2(dpp: dict[str, np.ndarray], offload: dict[str, np.ndarray], bound: np.ndarray) -> Any:
    """Savings over mean delay, outage and V; hollow where a limit is exceeded."""
    figure, axes = new_figure(3, size=(3.4, 3.0))
    saving, delay, outage = (dpp[name] for name in SHOWN[:3])
    limits = (50, 0.01, None)
    for i, (availability, colour, marker) in enumerate(
        zip(scenarios.AVAILABILITIES, COLOURS, MARKERS, strict=False)
    ):
        label = rf"$\alpha_{{max}}$ = {availability:g}"
        met = (delay.mean(axis=0)[i] <= 0.05005) & (outage.mean(axis=0)[i] <= 0.0101)
        for ax, x in zip(axes, (1e3 * delay[:, i], outage[:, i], None), strict=True):
            across = np.array(scenarios.TRADEOFFS) if x is None else x.mean(axis=0)
            y = saving[:, i].mean(axis=0)
            ax.plot(across, y, color=colour, linewidth=1, label=label)
            ax.plot(across[met], y[met], marker, color=colour, markersize=4)
            ax.plot(across[~met], y[~met], marker, color=colour, markersize=4, markerfacecolor="w")
            ax.axhline(bound[i], color=colour, linestyle=":", linewidth=1)
        at = offload["mean_delay_s"][:, i].mean() * 1e3, offload["outage"][:, i].mean()
        for ax, x in zip(axes, at, strict=False):
            ax.plot(x, np.median(offload["energy_saving_pct"][:, i]), "*", color=colour)
    for ax, label, limit, scale in zip(
        axes, ("mean delay [ms]", "outage", "V"), limits, ("linear", "log", "log"), strict=True
    ):
        ax.set_xscale(scale)
        ax.set_xlabel(label)
        if limit is not None:
            ax.axvline(limit, color="black", linestyle="--", linewidth=0.8)
    axes[0].set_ylabel("energy saving [%]")
    axes[2].legend(frameon=False, fontsize=8, loc="lower right")
    axes[0].set_title("stars: full offload; dotted: bound", fontsize=8)
    axes[1].set_title("hollow: beyond a limit", fontsize=8)
    return figure


def fig3(mean: np.ndarray, std: np.ndarray) -> Any:
    """Mean and standard deviation of the splitting point over the availability."""
    figure, axes = new_figure(2, size=(3.6, 2.8))
    for i, beta in enumerate(scenarios.PATH_LOSSES):
        for ax, values in zip(axes, (mean[i], std[i]), strict=True):
            style = {"color": COLOURS[i], "marker": MARKERS[i], "markersize": 4, "linewidth": 1.2}
            ax.plot(scenarios.LOW_AVAILABILITIES, values, label=rf"$\beta$ = {beta:g}", **style)
    for ax, label in zip(axes, ("mean splitting point", "standard deviation"), strict=True):
        ax.set_xscale("log")
        ax.set_xlabel(r"$\alpha_{max}$")
        ax.set_ylabel(label)
    axes[1].legend(frameon=False, fontsize=8)
    return figure


def bound(found: dict[str, dict[str, np.ndarray]], limit: np.ndarray) -> Any:
    """Savings of every policy as bars, under the bound."""
    figure, axes = new_figure(1, size=(6.6, 3.0))
    ax = axes[0]
    names = [name for name in found if name not in ("FullOffload", "CheapestMax")]
    width = 0.8 / len(names)
    for k, name in enumerate(names):
        x = np.arange(len(scenarios.TABLE_C)) + (k - (len(names) - 1) / 2) * width
        ax.bar(x, found[name]["energy_saving_pct"][0], width, label=name, color=f"C{k}")
    for i, value in enumerate(limit):
        ax.hlines(value, i - 0.45, i + 0.45, color="black", linewidth=1.2)
    ax.set_xticks(
        range(len(scenarios.TABLE_C)),
        [rf"$\beta$ {b:g}, $\alpha$ {a:g}" for b, a in scenarios.TABLE_C],
    )
    ax.tick_params(axis="x", labelsize=7)
    ax.set_ylabel("energy saving [%]")
    ax.set_title("black: certified bound", fontsize=8)
    ax.legend(frameon=False, fontsize=7, ncols=2, loc="upper right")
    return figure


def sensitivity(changes: list[str], saving: np.ndarray, outage: np.ndarray) -> Any:
    """Savings and outages ``[changes, availabilities]`` as bars."""
    figure, axes = new_figure(2, size=(4.2, 3.0))
    y = np.arange(len(changes))
    for ax, values, label in zip(
        axes, (saving, outage), ("energy saving [%]", "outage"), strict=True
    ):
        for j, availability in enumerate(scenarios.AVAILABILITIES):
            where = y + (j - 1) * 0.25
            ax.barh(
                where,
                values[:, j],
                0.25,
                color=COLOURS[j],
                label=rf"$\alpha_{{max}}$ = {availability:g}",
            )
        ax.set_xlabel(label)
        ax.set_yticks(y, list(changes) if ax is axes[0] else [""] * len(y), fontsize=7)
        ax.invert_yaxis()
    axes[1].axvline(0.01, color="black", linestyle="--", linewidth=0.8)
    axes[1].legend(frameon=False, fontsize=7)
    return figure


def learning(found: dict[str, Setting]) -> Any:
    """Saving against outage in both settings, filled where both limits are kept; then learning.

    Full offload, beyond an outage of 17 %, is left out.
    """
    figure, axes = new_figure(4, columns=2, size=(3.6, 2.7))
    for ax, (name, setting) in zip(axes[:2], found.items(), strict=True):
        _draw_policies(ax, setting)
        ax.annotate(
            "bound, sees the present" if name == "late" else "bound",
            (0.1, setting.dual.bound_pct),
            (0, 2),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=7,
        )
        ax.set_ylim(top=setting.dual.bound_pct + 6)
        ax.set_xlabel("outage [%]; vertical: the limit")
        ax.set_ylabel("energy saving [%]")
        ax.set_title(TITLES[name], fontsize=9)
    inset = axes[0].inset_axes((0.3, 0.18, 0.5, 0.5))
    _draw_policies(inset, found["now"])
    limit = 100 * float(found["now"].params.outage_eps)
    inset.set_xlim(0.95 * limit, 1.05 * limit)
    inset.set_ylim(found["now"].dual.bound_pct - 1, found["now"].dual.bound_pct + 0.2)
    inset.tick_params(labelsize=6)
    axes[1].legend(frameon=False, fontsize=7, loc="lower right")
    for ax, metric, label in (
        (axes[2], "energy_saving", "energy saving [%]"),
        (axes[3], "outage", "outage [%]"),
    ):
        for colour, (name, setting) in zip(COLOURS, found.items(), strict=False):
            updates, curves = curves_of(setting.progress, metric)
            ax.plot(updates, curves.mean(axis=0), color=colour, label=TITLES[name])
            low, high = curves.min(axis=0), curves.max(axis=0)
            ax.fill_between(updates, low, high, color=colour, alpha=0.2, linewidth=0)
        ax.set_xlabel("update")
        ax.set_ylabel(label)
    for colour, (name, setting) in zip(COLOURS, found.items(), strict=False):
        level = setting.median(REFERENCE[name], "energy_saving_pct")[0]
        axes[2].axhline(level, color=colour, linestyle=":", linewidth=1)
    axes[2].set_title("learning; dotted: DPP, DPP with the law", fontsize=9)
    axes[3].axhline(limit, color="grey", linewidth=0.8)
    axes[3].set_ylim(0.8 * limit, 1.4 * limit)
    axes[2].legend(frameon=False, fontsize=7, loc="lower right")
    return figure


def _draw_policies(ax: Any, setting: Setting) -> None:
    """Every policy in the plane of outage and saving, with the limit and the bound."""
    for policy, (marker, colour, size) in OF_POLICY.items():
        if policy not in setting.metrics:
            continue
        outage = 100 * setting.median(policy, "outage")
        saving = setting.median(policy, "energy_saving_pct")
        faces = [colour if met else "white" for met in setting.limits_met(policy)]
        if policy == scenarios.GUARDED:
            ax.plot(outage, saving, color=colour, linewidth=0.8, linestyle=":", zorder=1)
        ax.scatter([], [], size, marker=marker, color=colour, label=policy)
        ax.scatter(outage, saving, size, c=faces, marker=marker, edgecolors=colour, zorder=2)
    ax.axhline(setting.dual.bound_pct, color="black", linestyle="--", linewidth=1)
    ax.axvline(100 * float(setting.params.outage_eps), color="grey", linewidth=0.8)
