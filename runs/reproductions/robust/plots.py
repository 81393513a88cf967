"""Drawings of the robust partitioning figures: AlexNet and ResNet152 side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import NullLocator

from jaxenv.rendering.colours import BLUE, GREEN, PURPLE, RED, SKY
from runs.figures import new_figure
from runs.reproductions.plotting import labelled
from runs.reproductions.robust.claims.convergence import linear_fit
from runs.reproductions.robust.expected import DEADLINE_SWEEP_RISK, RISK_SWEEP_MS, VIOLATION_MS
from runs.reproductions.robust.scenarios import LABELS, PROFILES, pick
from runs.tables import Row

PROFILE_STYLES = {
    "literal": {"color": BLUE, "marker": "o", "linestyle": "-"},
    "calibrated": {"color": RED, "marker": "s", "linestyle": "--"},
}
LAW_STYLES = {
    "gauss": (BLUE, "o", "normal"),
    "lognormal": (SKY, "v", "lognormal"),
    "gamma": (GREEN, "^", "exponential"),
    "heavygamma": (PURPLE, "D", "gamma, shape 0.1"),
    "twopoint": (RED, "s", "two-point (worst)"),
}
PANEL = (3.6, 2.8)
TALL = (3.6, 3.3)  # with a legend below
LINE = {"markersize": 4, "linewidth": 1.2}
SMALL = {"frameon": False, "fontsize": 7}
CROSSES = {"linestyle": "none", "marker": "+", "color": "black", "markersize": 6}


def _curve(ax: Any, rows: Iterable[Row], x: str, y: str, **style: Any) -> None:
    """A line through the rows that have a number."""
    known = sorted((row[x], row[y]) for row in rows if row[y] is not None)
    ax.plot(*zip(*known, strict=True) if known else ([], []), **(LINE | style))


def _panels(x: str, y: str, panels: int = 2, size: tuple[float, float] = PANEL) -> tuple[Any, Any]:
    """A column of panels per network."""
    figure, axes = new_figure(panels, columns=2, size=size)
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


def _legend_below(figure: Any, axes: Sequence[Any], columns: int) -> None:
    """One legend under all panels, each label once."""
    handles = labelled(axes)
    place = "outside lower center"
    figure.legend(handles.values(), handles, loc=place, ncols=columns, **SMALL)


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
    figure, axes = _panels("outer step of Algorithm 2", "excess over the optimum [%]", size=TALL)
    for ax, network in zip(axes, LABELS, strict=True):
        own = pick(rows, network=network)
        starts = list(dict.fromkeys(row["start"] for row in own))
        for start, colour in zip(starts, (BLUE, RED, GREEN), strict=True):
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
        ax.legend(**SMALL, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return figure


def _mean_path(rows: Sequence[Row]) -> list[Row]:
    """Mean over seeds at every step; a run that has ended stays where it is."""
    seeds = sorted({row["seed"] for row in rows})
    paths = [[row["excess_pct"] for row in pick(rows, seed=seed)] for seed in seeds]
    most = max(len(path) for path in paths)
    full = np.array([path + path[-1:] * (most - len(path)) for path in paths])
    return [{"outer_step": i, "excess_pct": x} for i, x in enumerate(full.mean(axis=0))]


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
    figure, axes = new_figure(2, columns=2, size=TALL)
    own = [row for row in pick(rows, network=network) if row["seeds"] == "0 to 3"]
    deadline, risk = RISK_SWEEP_MS[network], DEADLINE_SWEEP_RISK[network]
    over = (
        ("risk", "risk level", pick(own, deadline_ms=deadline), f"deadline {deadline:g} ms"),
        ("deadline_ms", "deadline [ms]", pick(own, risk=risk), f"risk {risk:g}"),
    )
    for ax, (name, label, there, title) in zip(axes, over, strict=True):
        for profile in PROFILES:
            at = pick(there, profile=profile)
            best, worst = (pick(at, worst_case=flag) for flag in (False, True))
            style = PROFILE_STYLES[profile]
            _curve(ax, best, name, "energy_j", **style, label=f"optimum, {profile}")
            dots = {"color": style["color"], "linestyle": ":", "label": f"worst case, {profile}"}
            if name == "risk":
                worst = [row | {"risk": x} for row in worst for x in (0.02, 0.08)]
            _curve(ax, worst, name, "energy_j", **dots)
            _curve(ax, best, name, "algorithm2_j", **CROSSES, label="Algorithm 2")
            missing = [row[name] for row in best if row["energy_j"] is None]
            bottom, height = ax.get_xaxis_transform(), np.full(len(missing), 0.03)
            ax.plot(missing, height, "x", color=style["color"], transform=bottom, markersize=5)
        ax.plot([], [], "x", color="black", markersize=5, label="infeasible for some placements")
        ax.set_xlabel(label)
        ax.set_ylabel("energy [J]")
        ax.set_title(f"{LABELS[network]}, {title}", fontsize=9)
        ax.set_ylim(0, None)
    _legend_below(figure, axes, columns=3)
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
    label = "start: the same point for all devices, or least bandwidth"
    figure, axes = _panels(label, "excess over the bound [%]", size=(4.4, 3.4))
    for ax, network in zip(axes, LABELS, strict=True):
        own = pick(rows, network=network)
        common = sorted({row["start"] for row in own if row["start"] >= 0})
        places = {start: i for i, start in enumerate([*common, -1])}
        ax.axhspan(-0.7, -0.2, color="0.93", linewidth=0)
        for k, (profile, step) in enumerate((p, s) for p in PROFILES for s in ("pccp", "exact")):
            there = pick(own, profile=profile, step=step)
            style = PROFILE_STYLES[profile] | {"linestyle": "none", "markersize": 4}
            style |= {"fillstyle": "full" if step == "pccp" else "none"}
            x = np.array([places[row["start"]] + (k - 1.5) * 0.2 for row in there])
            none = np.array([row["excess_pct"] is None for row in there])
            y = [-0.45 if row["excess_pct"] is None else row["excess_pct"] for row in there]
            name = f"{profile}, {'PCCP' if step == 'pccp' else 'exact step'}"
            ax.plot(x[~none], np.array(y)[~none], **style, label=name)
            ax.plot(x[none], np.array(y)[none], **(style | {"marker": "x"}))
        ax.plot([], [], "x", color="black", markersize=4, label="infeasible start")
        ax.set_xticks(range(len(places)), [*map(str, common), "least"])
        ax.set_yscale("symlog", linthresh=1)
        ax.set_ylim(-0.7, 400)
        ax.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
        ax.yaxis.set_minor_locator(NullLocator())
    _legend_below(figure, axes, columns=5)
    return figure


def violation(rows: Sequence[Row]) -> Any:
    """Worst device's probability of a late inference over the risk, at the first deadline."""
    figure, axes = _panels("risk level", "violation probability", size=TALL)
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
                _curve(ax, own, "risk", "violation_worst", **style, label=f"{name}, {profile}")
        risks = sorted({row["risk"] for row in rows})
        ax.plot(risks, risks, color="black", linewidth=0.8, label="risk level")
        ax.axhline(0.01, color="black", linestyle=":", linewidth=0.8, label="1 %")
        ax.set_yscale("log")
        ax.set_ylim(1e-6, 0.2)
        ax.set_xticks(risks)
        ax.set_title(f"{LABELS[network]}, {deadline:g} ms, worst of 12 devices", fontsize=9)
    _legend_below(figure, axes, columns=4)
    return figure
