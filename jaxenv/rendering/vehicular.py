"""Draws states of the vehicular system: road, RSUs, vehicles by phase, and their links.

`draw_road` draws one state, `event_states` gives the states between two decisions, one per event,
and `frames_held` says how long each is to be seen.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxenv.rendering.colours import BLACK, BLUE, GREEN, GREY, INK, ORANGE, PURPLE, RED, SKY

if TYPE_CHECKING:
    from jaxenv.vehicular import Vehicular, VehicularParams, VehicularState

# By phase code.
PHASES = (
    ("no task", "#C8C8C8"),
    ("computes itself", BLACK),
    ("uploads", BLUE),
    ("helper computes", ORANGE),
    ("data on the wire", PURPLE),
    ("deliverer computes", GREEN),
)
ASKING, FAILED, COMPLETED = RED, "#E00000", "#007A3D"
ROAD, CURB, MAST, BEHIND = "#EFEFEF", GREY, INK, "#D9D9D9"
WORK = PHASES[3][1]
DASHES, DOTS = (0, (3, 2)), (0, (1, 1.5))
RSU_HEIGHT, REACH_HEIGHT, CLOCK_HEIGHT, TOP = 1.0, 0.82, 1.72, 1.8
SECONDS_SHOWN = 20.0
UPLOAD, HELPER, WIRED, DELIVERER = 2, 3, 4, 5
SUCCESS, LEFT_ROAD = 1, 4
REASONS = {
    2: "helper out of reach",
    3: "deliverer out of reach",
    4: "left the road",
    5: "not finished in time",
}
FRAMES_PER_SLOT, FRAMES_PER_END, MOST_FRAMES = 2.0, 6.0, 12.0


def event_states(
    env: Vehicular, state: VehicularState, action: Any, params: VehicularParams
) -> list[VehicularState]:
    """States from one decision to the next, one per event, so that nothing passes unseen.

    First the task just submitted, while no time has passed; then the state after every event or
    slot; last the next decision, or the end.

    Args:
        env: the environment.
        state: a state of it that waits for a decision.
        action: the decision.
        params: its scenario.
    """
    stepper = dataclasses.replace(env, turns_per_step=1)
    states = [_submitted(stepper, state, action, params)]
    turns, pending = 0, False
    while not pending and (env.turns_per_step == 0 or turns < env.turns_per_step):
        state, pending = _after_event(stepper, state, action, params)
        states.append(state)
        turns += 1
    return states


@partial(jax.jit, static_argnums=0)
def _submitted(
    env: Vehicular, state: VehicularState, action: Any, params: VehicularParams
) -> VehicularState:
    now = state.progress
    state = state.replace(progress=now.replace(outcome=jnp.zeros_like(now.outcome)))
    due = jnp.any(now.asking) & ~state.finished
    after = env.carry_out(state, action, params)
    ended = after.progress.outcome[:, None] == jnp.arange(after.totals.outcomes.shape[0])
    counts = jnp.sum(ended & (jnp.arange(ended.shape[1]) > 0), axis=0, dtype=jnp.int32)
    totals = after.totals.replace(outcomes=after.totals.outcomes + counts)
    after = after.replace(totals=totals)
    return jax.tree.map(lambda new, old: jnp.where(due, new, old), after, state)


@partial(jax.jit, static_argnums=0)
def _after_event(
    env: Vehicular, state: VehicularState, action: Any, params: VehicularParams
) -> tuple[VehicularState, jax.Array]:
    state, _, _, info = env.step_env(state.key, state, action, params)
    return state, info["decision_pending"]


def frames_held(
    state: VehicularState, following: VehicularState | None, params: VehicularParams
) -> float:
    """For how many frame times a state is to be seen before the one that follows.

    In proportion to the simulated time between them, two for a slot; but at least one, so that
    short uploads are seen, six where a task ends, and at most twelve, as the last state.
    """
    if following is None:
        return MOST_FRAMES
    passed = float(_seconds(following, params) - _seconds(state, params)) / float(params.slot_s)
    ends = bool(np.any(np.asarray(state.progress.outcome) > 0))
    return min(max(FRAMES_PER_SLOT * passed, FRAMES_PER_END if ends else 1.0), MOST_FRAMES)


def _seconds(state: VehicularState, params: VehicularParams) -> float:
    return int(state.progress.slot) * float(params.slot_s) + float(state.progress.tau)


def draw_road(axes: Any, env: Vehicular, state: VehicularState, params: VehicularParams) -> None:
    """Draws one state.

    The road is one period, left to right; what leaves it on the right enters on the left. Every
    vehicle has its own height and its index, its colour is the phase of its task; the one that asks
    has a ring, thick if it is decided now. A task that ends is marked at its vehicle in the frame
    in which it does, with the reason if it failed. The bar at the top is the time at which tasks
    arrive, the bar beside an RSU the work committed to it, full at 20 s of its capacity. The legend
    explains the rest.

    Args:
        axes: a matplotlib ``Axes``; cleared by the caller.
        env: the environment.
        state: a state of it.
        params: its scenario.
    """
    state, params = jax.device_get((state, params))
    position, on_road = env.place(state.draws, params, np.asarray(state.progress.slot))
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
    _endings(axes, env, state, params, place, height, start, length, sign)
    _clock(axes, state, params, start, length)
    _legend(axes, params)
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
    """The road, its zones and which way vehicles drive."""
    end = start + length
    axes.fill_between([start, end], -0.84, -0.06, color=ROAD, linewidth=0, zorder=0)
    zones = np.arange(np.ceil(start / params.zone_m), end / params.zone_m + 1e-6) * params.zone_m
    for edge, side in ((-0.84, -1), (-0.06, 1)):
        axes.plot([start, end], [edge, edge], color=CURB, linewidth=1, zorder=1)
        axes.vlines(zones, edge, edge + 0.03 * side, color=CURB, linewidth=0.5, zorder=1)
    for way in np.unique(np.asarray(params.trace_direction)):
        axes.annotate(
            "",
            xy=(start + length * (0.5 + 0.49 * way), -0.9),
            xytext=(start + length * (0.5 + 0.455 * way), -0.9),
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
            axes.fill(x, REACH_HEIGHT * np.sin(angle) - 0.06, color=SKY, alpha=0.09, lw=0)
            axes.plot(x, REACH_HEIGHT * np.sin(angle) - 0.06, color=SKY, alpha=0.5, lw=0.8)
        axes.plot([center, center], [-0.06, RSU_HEIGHT], color=MAST, linewidth=1.2, zorder=2)
        axes.plot(center, RSU_HEIGHT, "^", color=MAST, markersize=7, zorder=5)
        left, width, bottom, tall = center + 0.012 * length, 0.009 * length, RSU_HEIGHT - 0.42, 0.34
        frame = [left, left + width, left + width, left]
        axes.fill(
            *(frame, [bottom, bottom, bottom + tall, bottom + tall]),
            facecolor="white",
            edgecolor=MAST,
            linewidth=0.7,
            zorder=3,
        )
        level = bottom + tall * load[unit]
        axes.fill(frame, [bottom, bottom, level, level], color=WORK, linewidth=0, zorder=4)
        axes.text(center, RSU_HEIGHT + 0.08, f"RSU {unit}", ha="center", va="bottom", fontsize=8)


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
                    linestyle=DASHES if dashed else "-",
                    linewidth=(1.2 if dashed else 2.6) * thinner,
                    alpha=0.85,
                    zorder=3,
                )
            if phase[i] in (HELPER, WIRED) and tasks.helper[i] != tasks.deliverer[i]:
                along = np.linspace(0, 1, 40)
                arc = RSU_HEIGHT + 0.26 + 0.22 * np.sin(np.pi * along)
                axes.plot(
                    *(ends[2] + (ends[3] - ends[2]) * along, arc),
                    color=PHASES[WIRED][1],
                    linestyle="-" if phase[i] == WIRED else DOTS,
                    linewidth=2.6 if phase[i] == WIRED else 1.3,
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
    for i in np.flatnonzero(shown) if len(place) <= 20 else ():
        label = axes.annotate(
            str(i),
            (place[i], height[i]),
            xytext=(8, -7),
            textcoords="offset points",
            fontsize=6,
            color="#555555",
            zorder=6,
        )
        label.set_in_layout(False)  # else the axes would shrink as a vehicle reaches the end
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


def _endings(
    axes: Any,
    env: Vehicular,
    state: VehicularState,
    params: VehicularParams,
    place: np.ndarray,
    height: np.ndarray,
    start: float,
    length: float,
    sign: np.ndarray,
) -> None:
    """Marks the vehicles whose tasks ended; one that left the road, where it was last."""
    outcome = np.asarray(state.progress.outcome)
    gone = outcome == LEFT_ROAD
    if gone.any():
        before = np.asarray(state.progress.slot) - 1
        position = np.asarray(env.place(state.draws, params, before)[0])
        place = np.where(gone, start + np.mod(sign * position - start, length), place)
    for chosen, mark in ((outcome == SUCCESS, _DONE), (outcome > SUCCESS, _CROSS)):
        axes.plot(place[chosen], height[chosen], zorder=8, **mark)
    for i in np.flatnonzero(outcome > SUCCESS):
        right = place[i] > start + length / 2
        reason = axes.annotate(
            REASONS[outcome[i]],
            (place[i], height[i]),
            xytext=(-11 if right else 11, -3),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=8,
            color=FAILED,
            zorder=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
        reason.set_in_layout(False)


_DONE = {
    "marker": "$\\checkmark$",
    "color": COMPLETED,
    "markersize": 13,
    "markeredgewidth": 0.8,
    "linestyle": "",
}
_CROSS = {
    "marker": "x",
    "color": FAILED,
    "markersize": 13,
    "markeredgewidth": 3.2,
    "linestyle": "",
}


def _clock(
    axes: Any, state: VehicularState, params: VehicularParams, start: float, length: float
) -> None:
    """The title, and the bar of the time at which tasks arrive."""
    outcomes = np.asarray(state.totals.outcomes)
    in_flight = int(np.sum(np.asarray(state.progress.phase) > 0))
    now, end = _seconds(state, params), float(params.max_steps) * float(params.slot_s)
    part = min(now / end, 1.0)
    arriving = f"of {end:g} s" if now < end else "no more tasks arrive"
    axes.set_title(
        f"{now:.1f} s {arriving}   |   tasks: {int(state.decisions)} submitted, {in_flight} in "
        f"flight, {int(outcomes[SUCCESS])} completed, {int(outcomes[SUCCESS + 1 :].sum())} failed",
        fontsize=9,
        loc="left",
    )
    for x, colour in ((length, BEHIND), (part * length, MAST)):
        axes.fill_between(
            [start, start + x], CLOCK_HEIGHT, CLOCK_HEIGHT + 0.05, color=colour, linewidth=0
        )


def _legend(axes: Any, params: VehicularParams) -> None:
    from matplotlib.lines import Line2D

    square = {"marker": "s", "linestyle": "", "markeredgecolor": "#333333", "markersize": 6}
    ring = {"marker": "o", "linestyle": "", "markerfacecolor": "none", "markersize": 9}
    bar = {"linestyle": "-", "linewidth": 6, "solid_capstyle": "butt"}

    def entry(label: str, **look: Any) -> Any:
        return Line2D([], [], label=label, **look)

    handles = [entry(f"vehicle: {name}", color=colour, **square) for name, colour in PHASES]
    small = {"markersize": 9, "markeredgewidth": 2.2}
    handles += [
        entry("asks (thick: decided now)", color=ASKING, **ring),
        entry("task completed", **_DONE | {"markersize": 9}),
        entry("task failed", **_CROSS | small),
        entry("upload to the helper", color=PHASES[UPLOAD][1], linewidth=2.6),
        entry("computed by the helper", color=PHASES[HELPER][1], linewidth=1.2, linestyle=DASHES),
        entry(
            "computed by the deliverer",
            color=PHASES[DELIVERER][1],
            linewidth=1.2,
            linestyle=DASHES,
        ),
        entry("wire to the deliverer, in use", color=PHASES[WIRED][1], linewidth=2.6),
        entry("wire to be used", color=PHASES[WIRED][1], linewidth=1.3, linestyle=DOTS),
        entry("roadside unit, RSU", marker="^", linestyle="", color=MAST),
        entry(f"coverage of an RSU, {float(params.radius_m):g} m", color=SKY, alpha=0.35, **bar),
        entry(f"work of an RSU, full: {SECONDS_SHOWN:g} s", color=WORK, **bar),
        entry(f"zones, {float(params.zone_m):g} m", color=CURB, marker="|", linestyle=""),
        entry("time (bar at the top)", color=MAST, **bar),
        entry("driving direction", color=CURB, marker="$\\rightarrow$", linestyle="", markersize=9),
    ]
    axes.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.13),
        ncols=4,
        frameon=False,
        fontsize=7.5,
        handletextpad=0.6,
        columnspacing=1.4,
    )
