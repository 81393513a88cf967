"""What the drawings of whole episodes share: steps, colours, and series over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxenv.rendering.colours import COLOURS, GREY, RED


class Step(NamedTuple):
    """One step of an episode, NumPy: the state decided in, the action, and the step's info."""

    state: Any
    action: Any
    info: dict[str, Any]


def column(steps: Sequence[Step], name: str) -> np.ndarray:
    """``info[name]`` of every step, ``[steps, ...]``."""
    return np.stack([np.asarray(step.info[name], float) for step in steps])


def series(
    axes: Any,
    values: np.ndarray,
    now: int,
    label: str,
    *,
    colours: Sequence[str] = COLOURS,
    names: Sequence[str] = (),
    limits: Sequence[tuple[float, str]] = (),
    stacked: bool = False,
    drawstyle: str = "default",
) -> None:
    """Draws series ``[steps]`` or ``[steps, n]`` up to step ``now``; axes fit all steps.

    label: of the vertical axis. names: of the series, for a legend. limits: dashed lines, value and
    name. stacked: areas on top of each other instead of lines.
    """
    values = values.reshape(len(values), -1)
    time = np.arange(now + 1)
    shown = values[: now + 1]
    if stacked:
        axes.stackplot(time, shown.T, colors=colours, labels=names, linewidth=0, step="mid")
    for index in range(0 if stacked else values.shape[1]):
        name = names[index] if index < len(names) else None
        line = shown[:, index]
        axes.plot(time, line, color=colours[index], label=name, lw=1.1, drawstyle=drawstyle)
    for (limit, name), dashes in zip(limits, ("--", ":", "-."), strict=False):
        axes.axhline(limit, color=RED, linestyle=dashes, linewidth=1.1, label=name)
    whole = values.sum(axis=1) if stacked else values
    high = max([float(np.nanmax(whole)), *(limit for limit, _ in limits)])
    low = min(0.0, float(np.nanmin(whole)))
    span = (high - low) or 1.0
    axes.set_ylim(low - (0.04 * span if low < 0 else 0), high + 0.06 * span)
    over_time(axes, len(values), now)
    axes.set_ylabel(label)
    if names or limits:
        beside(axes)


def over_time(axes: Any, steps: int, now: int) -> None:
    """The horizontal axis of ``steps`` steps, with a line at ``now`` unless it is the last."""
    axes.set_xlim(0, max(steps - 1, 1))
    axes.xaxis.get_major_locator().set_params(integer=True)
    if now < steps - 1:
        axes.axvline(now, color=GREY, linewidth=0.8)


def headline(figure: Any, text: str) -> None:
    """The line above a drawing."""
    figure.suptitle(text, x=0.004, ha="left", fontsize=10)


def beside(axes: Any, **options: Any) -> None:
    """A legend to the right of the axes."""
    place = {"loc": "center left", "bbox_to_anchor": (1.005, 0.5), "fontsize": 7.5}
    axes.legend(**place | {"frameon": False, "handlelength": 1.4} | options)
