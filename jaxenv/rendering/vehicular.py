"""Draws a state of the vehicular system: road, RSUs, vehicles by phase, and their links."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

if TYPE_CHECKING:
    from jaxenv.vehicular import Vehicular, VehicularParams, VehicularState

# Colours of Okabe and Ito, which colour-blind readers tell apart; by phase code.
PHASES = (
    ("idle", "#C8C8C8"),
    ("local", "#000000"),
    ("upload", "#0072B2"),
    ("at helper", "#E69F00"),
    ("wired", "#CC79A7"),
    ("at deliverer", "#009E73"),
)
ASKING = "#D55E00"
ROAD, CURB = "#EFEFEF", "#9A9A9A"
RSU_HEIGHT, REACH_HEIGHT, TOP = 1.0, 0.82, 1.95
SECONDS_SHOWN = 20.0
UPLOAD, HELPER, WIRED, DELIVERER = 2, 3, 4, 5


def draw_road(axes: Any, env: Vehicular, state: VehicularState, params: VehicularParams) -> None:
    """Draws one state.

    The road is one period, left to right; what leaves it on the right enters on the left. Faint
    ticks are zones. Every vehicle has its own height, its colour is the phase of its task; the one
    that asks has a red ring. Solid lines are uploads, dashed ones point at the RSU that computes,
    arcs are wires from helper to deliverer. The bar beside an RSU is the work committed to it, full
    at 20 s of its capacity.

    Args:
        axes: a matplotlib ``Axes``; cleared by the caller.
        env: the environment.
        state: a state of it.
        params: its scenario.
    """
    state, params = jax.device_get((state, params))
    position, on_road = env._place(state.draws, params, np.asarray(state.progress.slot))
    position, on_road = np.asarray(position), np.asarray(on_road)
    shown = on_road & np.asarray(params.vehicle_enabled)
    length, start = _extent(env, params)
    sign = np.asarray(params.trace_direction) if env.mobility == "trace" else np.ones_like(position)
    place = start + np.mod(sign * position - start, length)
    height = -0.12 - 0.66 * (np.arange(env.num_vehicles) + 0.5) / env.num_vehicles

    _ground(axes, params, start, length)
    _units(axes, env, state, params, start, length)
    _links(axes, state, place, height, position, sign, shown, start, length)
    _vehicles(axes, state, place, height, shown)
    _words(axes, state, params)
    axes.set_xlim(start, start + length)
    axes.set_ylim(-0.95, TOP)
    axes.set_yticks([])
    axes.set_xlabel("position [m]")
    axes.grid(False)
    for side in ("left", "top", "right"):
        axes.spines[side].set_visible(False)


def _extent(env: Vehicular, params: VehicularParams) -> tuple[float, float]:
    """``(length, start)`` of the stretch of road that is shown, in m."""
    if env.mobility == "trace":
        positions = params.trace_position_m[np.asarray(params.trace_active)]
        low = min(positions.min(), np.min(params.rsu_position_m) - params.radius_m)
        high = max(positions.max(), np.max(params.rsu_position_m) + params.radius_m)
        return float(high - low), float(low)
    return float(params.road_period_m), 0.0


def _ground(axes: Any, params: VehicularParams, start: float, length: float) -> None:
    end = start + length
    axes.fill_between([start, end], -0.84, -0.06, color=ROAD, linewidth=0, zorder=0)
    zones = np.arange(np.ceil(start / params.zone_m), end / params.zone_m + 1e-6) * params.zone_m
    for edge, side in ((-0.84, -1), (-0.06, 1)):
        axes.plot([start, end], [edge, edge], color=CURB, linewidth=1, zorder=1)
        axes.vlines(zones, edge, edge + 0.03 * side, color=CURB, linewidth=0.5, zorder=1)

    axes.annotate(
        "",
        xy=(0.99, 0.11),
        xytext=(0.955, 0.11),
        xycoords="axes fraction",
        arrowprops={"arrowstyle": "->", "color": CURB, "linewidth": 1.5},
        zorder=1,
    )


def _units(
    axes: Any,
    env: Vehicular,
    state: VehicularState,
    params: VehicularParams,
    start: float,
    length: float,
) -> None:
    """RSUs with the half-ellipse of their coverage and the bar of their committed work."""
    angle = np.linspace(0, np.pi, 60)
    full = np.asarray(params.rsu_flops) * 1e-9 * SECONDS_SHOWN
    load = np.minimum(np.asarray(env.committed_gflop(state)) / full, 1)
    for unit, center in enumerate(np.asarray(params.rsu_position_m)):
        for lap in (-length, 0, length) if env.mobility == "constant" else (0,):
            x = center + lap + params.radius_m * np.cos(angle)
            axes.fill(x, REACH_HEIGHT * np.sin(angle) - 0.06, color="#56B4E9", alpha=0.09, lw=0)
            axes.plot(x, REACH_HEIGHT * np.sin(angle) - 0.06, color="#56B4E9", alpha=0.5, lw=0.8)
        axes.plot([center, center], [-0.06, RSU_HEIGHT], color="#444444", linewidth=1.2, zorder=2)
        axes.plot(center, RSU_HEIGHT, "^", color="#222222", markersize=7, zorder=5)
        left, width, bottom, tall = center + 0.012 * length, 0.009 * length, RSU_HEIGHT - 0.42, 0.34
        frame = [left, left + width, left + width, left]
        axes.fill(
            *(frame, [bottom, bottom, bottom + tall, bottom + tall]),
            facecolor="white",
            edgecolor="#444444",
            linewidth=0.7,
            zorder=3,
        )
        level = bottom + tall * load[unit]
        axes.fill(frame, [bottom, bottom, level, level], color="#E69F00", linewidth=0, zorder=4)
        axes.text(center, RSU_HEIGHT + 0.08, f"{unit}", ha="center", va="bottom", fontsize=8)


def _links(
    axes: Any,
    state: VehicularState,
    place: np.ndarray,
    height: np.ndarray,
    position: np.ndarray,
    sign: np.ndarray,
    shown: np.ndarray,
    start: float,
    length: float,
) -> None:
    """Uploads, who computes, and wires; drawn on every lap of the road that shows a part."""
    phase, tasks = np.asarray(state.progress.phase), state.tasks
    thinner = 1.0 if len(phase) <= 20 else 0.6
    for i in np.flatnonzero(shown & (phase >= UPLOAD)):
        helper, deliverer = (
            place[i] + sign[i] * (float(center[i]) - position[i])
            for center in (tasks.helper_position_m, tasks.deliverer_position_m)
        )
        colour = PHASES[phase[i]][1]
        target = deliverer if phase[i] == DELIVERER else helper
        dashed = phase[i] in (HELPER, DELIVERER)
        for lap in (-length, 0, length):
            ends = np.array([place[i], target, helper, deliverer]) + lap
            if ends.max() < start or ends.min() > start + length:
                continue
            if phase[i] != WIRED:
                axes.plot(
                    ends[:2],
                    [height[i], RSU_HEIGHT],
                    color=colour,
                    linestyle=(0, (3, 2)) if dashed else "-",
                    linewidth=(1.0 if dashed else 1.8) * thinner,
                    alpha=0.85,
                    zorder=3,
                )
            if phase[i] in (HELPER, WIRED) and tasks.helper[i] != tasks.deliverer[i]:
                along = np.linspace(0, 1, 40)
                arc = RSU_HEIGHT + 0.26 + 0.22 * np.sin(np.pi * along)
                axes.plot(
                    *(ends[2] + (ends[3] - ends[2]) * along, arc),
                    color=PHASES[WIRED][1],
                    linestyle="-" if phase[i] == WIRED else (0, (1, 1.5)),
                    linewidth=2.0 if phase[i] == WIRED else 1.1,
                    zorder=3,
                )


def _vehicles(
    axes: Any, state: VehicularState, place: np.ndarray, height: np.ndarray, shown: np.ndarray
) -> None:
    phase = np.asarray(state.progress.phase)
    asking = np.asarray(state.progress.asking)
    size = 46 if len(place) <= 20 else 22
    for code, (_, colour) in enumerate(PHASES):
        chosen = shown & (phase == code)
        axes.scatter(
            *(place[chosen], height[chosen]),
            s=size,
            marker="s",
            color=colour,
            edgecolor="#333333",
            linewidth=0.6,
            zorder=6,
        )
    current = np.arange(len(place)) == int(state.vehicle)
    for chosen, width in ((shown & asking, 1.2), (shown & asking & current, 2.2)):
        axes.scatter(
            *(place[chosen], height[chosen]),
            s=3.6 * size,
            facecolor="none",
            edgecolor=ASKING,
            linewidth=width,
            zorder=7,
        )


def _words(axes: Any, state: VehicularState, params: VehicularParams) -> None:
    from matplotlib.lines import Line2D

    outcomes = np.asarray(state.totals.outcomes)
    done, failed = int(outcomes[1]), int(outcomes[2:].sum())
    slot = int(state.progress.slot)
    seconds = slot * float(params.slot_s) + float(state.progress.tau)
    axes.set_title(
        f"slot {slot} ({seconds:.1f} s): {int(state.decisions)} tasks decided, {done} completed, "
        f"{failed} failed",
        fontsize=9,
        loc="left",
    )
    square = {"marker": "s", "linestyle": "", "markeredgecolor": "#333333", "markersize": 6}
    ring = {"marker": "o", "linestyle": "", "markerfacecolor": "none", "markersize": 8}
    handles = [Line2D([], [], color=colour, label=name, **square) for name, colour in PHASES]
    handles.append(Line2D([], [], color=ASKING, label="asks", **ring))
    axes.legend(
        handles=handles,
        loc="upper center",
        ncols=len(handles),
        frameon=False,
        fontsize=7,
        handletextpad=0.2,
        columnspacing=0.9,
    )
