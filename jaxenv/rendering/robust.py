"""Draws an episode of the robust system: what each device of an instance spends and has left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxenv.rendering.base import Step, beside, column, headline
from jaxenv.rendering.colours import BLUE, GREEN, GREY, INK, ORANGE, PALE, PURPLE, RED, SKY, text_on

if TYPE_CHECKING:
    from jaxenv.robust import Robust, RobustParams


def draw_episode(
    figure: Any, env: Robust, steps: Sequence[Step], now: int, params: RobustParams
) -> None:
    """Draws the decision of instance ``now`` by device, and the energies of instances 0 to ``now``.

    Of each device: energy of computing and of sending, bandwidth, and how its deadline is used:
    means of computing, sending and of the virtual machine, and the margin for their deviation.
    Arguments are those of `jaxenv.rendering.splitting.draw_episode`.
    """
    from allocators import robust

    step = steps[now]
    inst = step.state.instance
    point = np.where(inst.mask_n, np.asarray(step.action), 0)
    allocation = jax.device_get(robust.allocate(inst, point, env.allocator))
    there = np.flatnonzero(inst.mask_n)
    grid = figure.add_gridspec(2, 2)
    panels = [figure.add_subplot(grid[i // 2, i % 2]) for i in range(4)]
    for axes in panels:
        axes.set_axisbelow(True)
    feasible = bool(allocation.feasible)
    row = (there, point[there])
    if feasible:
        send = np.asarray(inst.p)[there] * np.asarray(allocation.t_off)[there]
        compute = np.asarray(allocation.e_dev)[there] - send
        _stacked(panels[0], there, {"computing": (compute, GREEN), "sending": (send, SKY)})
        mean = np.asarray(inst.c)[row] / np.asarray(allocation.f)[there]
        deviation = np.sqrt(np.asarray(inst.vloc)[row] + np.asarray(inst.vvm)[row])
        margin = np.asarray(inst.sigma)[there] * deviation
        upload = np.asarray(allocation.t_off)[there]
        parts = {
            "device, mean": (1e3 * mean, GREEN),
            "sending": (1e3 * upload, SKY),
            "host, mean": (1e3 * np.asarray(inst.tvm)[row], ORANGE),
            "margin": (1e3 * margin, PALE),
        }
        _stacked(panels[2], there, parts)
        panels[1].bar(there, np.asarray(allocation.b)[there], color=BLUE, width=0.7)
    for index, place in zip(there, point[there], strict=True):
        text = "host" if place == 0 else str(int(place))
        panels[1].annotate(
            *(text, (index, 0)),
            xytext=(0, 3),
            textcoords="offset points",
            fontsize=7,
            ha="center",
            color=text_on(BLUE) if feasible else INK,
            fontweight="bold",
        )
    deadline = 1e3 * np.asarray(inst.D)[there]
    panels[2].hlines(
        deadline, there - 0.42, there + 0.42, color=RED, linewidth=1.8, label="deadline"
    )
    panels[0].set_ylabel("energy [J]")
    panels[1].set_ylabel("bandwidth [MHz]")
    panels[1].set_title("number: partitioning point", fontsize=8, loc="right")
    panels[2].set_ylabel("time [ms]")
    for axes in panels[:3]:
        axes.set_xticks(there, [str(n) for n in there])
        axes.set_xlabel("device")
        axes.grid(axis="x", visible=False)
        axes.set_xlim(there[0] - 0.7, there[-1] + 0.7)
        axes.set_ylim(bottom=0)
        if not feasible:
            axes.text(
                *(0.5, 0.55, "deadlines cannot be met"),
                transform=axes.transAxes,
                ha="center",
                color=RED,
            )
    beside(panels[0]) if feasible else None
    beside(panels[2])
    _history(panels[3], steps, now)
    models = [list(robust.MODELS)[i] for i in np.unique(np.asarray(inst.model_id)[there])]
    risk = np.unique(np.round(np.asarray(inst.eps)[there], 4))
    shown = f"{risk[0]:.3g}" if len(risk) == 1 else f"{risk[0]:.3g} to {risk[-1]:.3g}"
    headline(
        figure,
        f"robust, instance {now}: {len(there)} devices with {' and '.join(models)}, "
        f"{float(inst.B):.3g} MHz, deadlines missed with probability at most {shown}",
    )


def _stacked(axes: Any, place: np.ndarray, parts: dict[str, tuple[np.ndarray, str]]) -> None:
    bottom = np.zeros(len(place))
    for name, (height, colour) in parts.items():
        axes.bar(place, height, bottom=bottom, color=colour, label=name, width=0.7)
        bottom = bottom + height


def _history(axes: Any, steps: Sequence[Step], now: int) -> None:
    """Energies of the instances so far; infeasible ones are crosses at 0."""
    energy, feasible = column(steps, "energy_j"), column(steps, "feasible") > 0
    index = np.arange(len(steps))
    shown = feasible & (index <= now)
    axes.bar(index[shown], energy[shown], color=PURPLE, width=0.7, label="energy")
    if "lower_bound_j" in steps[0].info:
        bound = column(steps, "lower_bound_j")
        axes.scatter(index[shown], bound[shown], marker="_", color=INK, label="lower bound")
    lost = ~feasible & (index <= now)
    axes.scatter(index[lost], np.zeros(lost.sum()), marker="x", color=RED, label="infeasible")
    if now < len(steps) - 1:
        axes.axvline(now, color=GREY, linewidth=0.8, zorder=0)
    axes.set_xlim(-0.7, len(steps) - 0.3)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylim(0, 1.1 * max(float(energy.max()), 1e-9))
    axes.set_xlabel("instance")
    axes.set_ylabel("energy of all devices [J]")
    beside(axes)
