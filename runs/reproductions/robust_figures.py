"""Drawings of the robust partitioning figures: AlexNet and ResNet152 side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from runs.figures import new_figure
from runs.reproductions.robust_claims import (
    DEADLINE_SWEEP_RISK,
    LABELS,
    PROFILES,
    RISK_SWEEP_MS,
    VIOLATION_MS,
    linear_fit,
    pick,
)
from runs.tables import Row

# Colours of Okabe and Ito, told apart by colour-blind readers; markers and lines differ as well.
BLUE, ORANGE, GREEN, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"
PROFILE_STYLES = {
    "literal": {"color": BLUE, "marker": "o", "linestyle": "-"},
    "calibrated": {"color": ORANGE, "marker": "s", "linestyle": "--"},
}
LAW_STYLES = {
    "gauss": (BLUE, "o", "normal"),
    "lognormal": (SKY, "v", "lognormal"),
    "gamma": (GREEN, "^", "exponential"),
    "heavygamma": (PURPLE, "D", "gamma, shape 0.1"),
    "twopoint": (ORANGE, "s", "two-point (worst)"),
}
PANEL = (3.6, 2.8)
LINE = {"markersize": 4, "linewidth": 1.2}
SMALL = {"frameon": False, "fontsize": 7}


def _curve(ax: Any, rows: Iterable[Row], x: str, y: str, **style: Any) -> None:
    """A line through the rows that have a number."""
    known = sorted((row[x], row[y]) for row in rows if row[y] is not None)
    ax.plot(*zip(*known, strict=True) if known else ([], []), **(LINE | style))


def _panels(x: str, y: str, panels: int = 2) -> tuple[Any, Any]:
    """A column of panels per network."""
    figure, axes = new_figure(panels, columns=2, size=PANEL)
    for ax, name in zip(axes, LABELS.values(), strict=False):
        ax.set_title(name, fontsize=9)
    for ax in axes:
        ax.set_xlabel(x)
        ax.set_ylabel(y)
    return figure, axes


def _by_profile(ax: Any, rows: Sequence[Row], x: str, y: str, label: str = "", **style: Any):
    for profile in PROFILES:
        own = pick(rows, profile=profile)
        name = f"{profile}{label}"
        _curve(ax, own, x, y, **(PROFILE_STYLES[profile] | style), label=name)


def fig09(rows: Sequence[Row]) -> Any:
    """Iterations of Algorithm 1 over the number of devices."""
    figure, axes = _panels("number of devices", "iterations of Algorithm 1")
    for ax, network in zip(axes, LABELS, strict=True):
        _by_profile(ax, pick(rows, network=network), "devices", "iterations")
        ax.set_ylim(0, 10)
    axes[0].legend(**SMALL)
    return figure


def fig10(rows: Sequence[Row]) -> Any:
    """Excess over the optimum by outer step: the mean over seeds of every start."""
    figure, axes = _panels("outer step of Algorithm 2", "excess over the optimum [%]")
    for ax, network in zip(axes, LABELS, strict=True):
        own = pick(rows, network=network)
        starts = list(dict.fromkeys(row["start"] for row in own))
        for start, colour in zip(starts, (BLUE, ORANGE, GREEN), strict=True):
            for profile in PROFILES:
                there = pick(own, start=start, profile=profile)
                label = f"m = {start}, {profile}"
                if any(row["excess_pct"] is None for row in there):
                    ax.plot([], [], color="none", label=f"{label}: infeasible")
                    continue
                style = PROFILE_STYLES[profile] | {"color": colour}
                _curve(ax, _mean_path(there), "outer_step", "excess_pct", label=label, **style)
        ax.set_xticks(range(1 + max(row["outer_step"] for row in own)))
        ax.set_ylim(-8, None)
        _legend_below(ax)
    return figure


def _mean_path(rows: Sequence[Row]) -> list[Row]:
    """Mean over seeds at every step; a run that has ended stays where it is."""
    seeds = sorted({row["seed"] for row in rows})
    paths = [[row["excess_pct"] for row in pick(rows, seed=seed)] for seed in seeds]
    most = max(len(path) for path in paths)
    full = np.array([path + path[-1:] * (most - len(path)) for path in paths])
    return [{"outer_step": i, "excess_pct": x} for i, x in enumerate(full.mean(axis=0))]


def _legend_below(ax: Any, columns: int = 2) -> None:
    ax.legend(**SMALL, ncols=columns, loc="upper center", bbox_to_anchor=(0.5, -0.22))


def fig11(rows: Sequence[Row]) -> Any:
    """Time per instance over the number of devices, and a line through it."""
    figure, axes = _panels("number of devices", "time per instance [ms]")
    most = max(row["time_per_instance_ms"] for row in rows)
    for ax, network in zip(axes, LABELS, strict=True):
        own = pick(rows, network=network)
        x = [row["devices"] for row in own]
        slope, intercept, r2 = linear_fit(x, [row["time_per_instance_ms"] for row in own])
        ends = np.array([0, max(x)])
        label = f"{slope:.3g} ms per device, $R^2$ = {r2:.3f}"
        ax.plot(ends, intercept + slope * ends, color="black", linewidth=0.8, label=label)
        style = {"color": BLUE, "marker": "o", "linestyle": "none"}
        _curve(ax, own, "devices", "time_per_instance_ms", **style, label="measured")
        ax.set_ylim(0, 1.15 * most)
        ax.legend(**SMALL, loc="upper left")
    return figure


def fig12(rows: Sequence[Row]) -> Any:
    """Energy over the number of devices above, excess of Algorithm 2 below."""
    figure, axes = _panels("number of devices", "energy [J]", panels=4)
    for column, network in enumerate(LABELS):
        for risk, fill in ((0.02, "full"), (0.04, "none")):
            own = pick(rows, network=network, risk=risk)
            label, style = f", risk {risk:g}", {"fillstyle": fill}
            _by_profile(axes[column], own, "devices", "energy_j", label, **style)
            below = axes[2 + column]
            _by_profile(below, own, "devices", "algorithm2_excess_pct", label, **style)
    for ax in axes[2:]:
        ax.set_ylabel("excess of Algorithm 2 [%]")
    axes[0].legend(**SMALL)
    axes[2].sharey(axes[3])
    return figure


def sweeps(rows: Sequence[Row], network: str) -> Any:
    """Energy of seeds 0 to 3 over the risk and over the deadline, beside the worst case."""
    figure, axes = new_figure(2, columns=2, size=PANEL)
    own = [row for row in pick(rows, network=network) if row["seeds"] == "0 to 3"]
    deadline, risk = RISK_SWEEP_MS[network], DEADLINE_SWEEP_RISK[network]
    over = (
        ("risk", "risk level", pick(own, deadline_ms=deadline), f"deadline {deadline:g} ms"),
        ("deadline_ms", "deadline [ms]", pick(own, risk=risk), f"risk {risk:g}"),
    )
    for ax, (name, label, there, title) in zip(axes, over, strict=True):
        for profile in PROFILES:
            style = PROFILE_STYLES[profile]
            at = pick(there, profile=profile)
            robust, worst = (pick(at, worst_case=flag) for flag in (False, True))
            _curve(ax, robust, name, "energy_j", **style, label=f"robust, {profile}")
            grey = {"color": style["color"], "linestyle": ":", "alpha": 0.8}
            if name == "risk":
                for row in worst:
                    ax.axhline(row["energy_j"], **grey, label=f"worst case, {profile}")
            else:
                grey |= {"marker": "x"}
                _curve(ax, worst, name, "energy_j", **grey, label=f"worst case, {profile}")
            crosses = {"linestyle": "none", "marker": "+", "color": "black", "markersize": 6}
            label_2 = "Algorithm 2" if profile == PROFILES[-1] else None
            _curve(ax, robust, name, "algorithm2_j", **crosses, label=label_2)
        ax.set_xlabel(label)
        ax.set_ylabel("energy [J]")
        ax.set_title(f"{LABELS[network]}, {title}", fontsize=9)
        ax.set_ylim(0, None)
    _legend_below(axes[0])
    _legend_below(axes[1])
    return figure


def gap(rows: Sequence[Row]) -> Any:
    """Mean certified gap over the number of devices."""
    figure, axes = _panels("number of devices", "certified gap, mean of 3 seeds")
    for ax, network in zip(axes, LABELS, strict=True):
        own = pick(rows, network=network)
        settings = list(dict.fromkeys((row["deadline_ms"], row["risk"]) for row in own))
        for (deadline, risk), fill in zip(settings, ("full", "none"), strict=False):
            there = [
                row
                for row in pick(own, deadline_ms=deadline, risk=risk)
                if row["gap"] is not None and row["gap"] > 1e-12
            ]
            label = f", {deadline:g} ms, risk {risk:g}"
            for profile in PROFILES:
                at = pick(there, profile=profile)
                style = PROFILE_STYLES[profile] | {"fillstyle": fill}
                name = profile + label + ("" if at else ": 0 throughout")
                _curve(ax, at, "devices", "gap", **style, label=name)
        ax.set_yscale("log")
        ax.set_ylim(1e-6, 1e-1)
        ax.set_xticks(sorted({row["devices"] for row in own}))
        ax.legend(**SMALL, loc="upper right")
    return figure


def starts(rows: Sequence[Row]) -> Any:
    """Excess over the bound by start; filled markers PCCP, open ones the exact step."""
    figure, axes = _panels("start: the same point for all devices", "excess over the bound [%]")
    for ax, network in zip(axes, LABELS, strict=True):
        own = pick(rows, network=network)
        common = sorted({row["start"] for row in own if row["start"] >= 0})
        places = {start: i for i, start in enumerate([*common, -1])}
        for k, (profile, step) in enumerate((p, s) for p in PROFILES for s in ("pccp", "exact")):
            there = pick(own, profile=profile, step=step)
            style = PROFILE_STYLES[profile] | {"linestyle": "none", "markersize": 4}
            style |= {"fillstyle": "full" if step == "pccp" else "none"}
            x = [places[row["start"]] + (k - 1.5) * 0.18 for row in there]
            y = [row["excess_pct"] for row in there]
            known = [(a, max(b, 0)) for a, b in zip(x, y, strict=True) if b is not None]
            name = f"{profile}, {'PCCP' if step == 'pccp' else 'exact step'}"
            ax.plot(*zip(*known, strict=True), **style, label=name)
            if step == "pccp":
                none = [a for a, b in zip(x, y, strict=True) if b is None]
                ax.plot(none, np.full(len(none), -0.06), marker="x", linestyle="none",
                        color=style["color"], markersize=4, clip_on=False,
                        transform=ax.get_xaxis_transform())  # fmt: skip
        ax.plot([], [], "x", color="black", markersize=4, label="infeasible")
        ax.set_xticks(range(len(places)), [*map(str, common), "least\nMHz"])
        ax.set_yscale("symlog", linthresh=1)
        ax.set_ylim(0, 300)
        ax.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
        _legend_below(ax, columns=3)
    return figure


def violation(rows: Sequence[Row]) -> Any:
    """Worst device's probability of a late inference over the risk, literal, first deadline."""
    figure, axes = _panels("risk level", "violation probability, worst device")
    for ax, network in zip(axes, LABELS, strict=True):
        deadline = VIOLATION_MS[network][0]
        for law, (colour, marker, name) in LAW_STYLES.items():
            for profile, fill in zip(PROFILES, ("full", "none"), strict=True):
                own = [
                    row
                    for row in pick(
                        rows, network=network, law=law, profile=profile, deadline_ms=deadline
                    )
                    if row["feasible"] and row["violation_worst"] > 0
                ]
                style = {"color": colour, "marker": marker, "fillstyle": fill}
                style |= {"linestyle": PROFILE_STYLES[profile]["linestyle"]}
                label = name if profile == PROFILES[0] else None
                _curve(ax, own, "risk", "violation_worst", **style, label=label)
        risks = sorted({row["risk"] for row in rows})
        ax.plot(risks, risks, color="black", linewidth=0.8, label="risk level")
        ax.axhline(0.01, color="black", linestyle=":", linewidth=0.8, label="1 %")
        ax.set_yscale("log")
        ax.set_ylim(1e-6, 0.2)
        ax.set_title(f"{LABELS[network]}, {deadline:g} ms", fontsize=9)
    _legend_below(axes[0], columns=3)
    axes[1].plot([], [], color="grey", marker="o", label="literal", **LINE)
    axes[1].plot([], [], color="grey", marker="o", fillstyle="none", linestyle="--",
                 label="calibrated", **LINE)  # fmt: skip
    handles = [line for line in axes[1].lines if line.get_label() in PROFILES]
    axes[1].legend(handles=handles, **SMALL, ncols=2, loc="upper center",
                   bbox_to_anchor=(0.5, -0.22))  # fmt: skip
    return figure
