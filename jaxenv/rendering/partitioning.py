"""Draws an episode of the partitioning system: where blocks run, backlog and delay over time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxenv.rendering.base import Step, column, headline, over_time, series
from jaxenv.rendering.colours import COLOURS, GREY, ORANGE, PALE, RED, SKY, text_on

if TYPE_CHECKING:
    from jaxenv.partitioning import Partitioning, PartitioningParams

BAR = 0.34
LABEL = 0.36  # of the way to a server: left of the arrows between servers


def draw_episode(
    figure: Any, env: Partitioning, steps: Sequence[Step], now: int, params: PartitioningParams
) -> None:
    """Draws the slot ``now`` on the left, and slots 0 to ``now`` on the right.

    Left: the device and the servers, links as wide as their rates, the blocks in order of the
    network with the way of the data, and per place a bar of backlog and background work. Arguments
    are those of `jaxenv.rendering.splitting.draw_episode`.
    """
    grid = figure.add_gridspec(3, 2, width_ratios=(1.15, 1))
    placement = np.stack([np.asarray(step.action) for step in steps])
    names = ["device", *(f"server {n}" for n in range(1, env.num_servers + 1))]
    of_device, *of_servers = COLOURS
    colours = [of_device, *islice(cycle(of_servers), env.num_servers)]
    backlog = np.stack([np.asarray(step.state.backlog_s) for step in steps])
    background = np.stack([np.asarray(step.state.context.background_s) for step in steps])
    work = backlog + np.pad(background, ((0, 0), (1, 0)))
    full_s = max(float(np.ceil(work.max())), 1.0)
    places = figure.add_subplot(grid[:, 0])
    _places(places, env, steps[now], params, names, colours, full_s)

    where = figure.add_subplot(grid[0, 1])
    shown = np.full((env.num_blocks, len(steps)), np.nan)
    shown[:, : now + 1] = placement[: now + 1].T
    from matplotlib.colors import ListedColormap

    where.imshow(
        shown,
        aspect="auto",
        interpolation="nearest",
        cmap=ListedColormap(colours),
        vmin=-0.5,
        vmax=len(colours) - 0.5,
        extent=(-0.5, len(steps) - 0.5, env.num_blocks + 0.5, 0.5),
    )
    where.set_yticks(range(1, env.num_blocks + 1))
    where.set_ylabel("block")
    where.set_title("where the blocks run", fontsize=9, loc="left")
    where.grid(False)
    over_time(where, len(steps), now)
    axes = figure.add_subplot(grid[1, 1])
    series(axes, backlog, now, "backlog [s]", colours=colours, names=names)
    parts = ("transfer_s", "wait_s", "compute_s")
    delay = np.stack([column(steps, part) for part in parts], axis=1)
    axes = figure.add_subplot(grid[2, 1])
    series(
        *(axes, delay, now, "delay of the batch [s]"),
        colours=(SKY, GREY, ORANGE),
        names=("transfer", "waiting", "computing"),
        stacked=True,
    )
    axes.set_xlabel("slot")
    spent = column(steps, "energy_j")[: now + 1].sum()
    penalty = column(steps, "penalty_s")[: now + 1].mean()
    headline(
        figure,
        f"partitioning, {now + 1} slots: mean delay {delay[: now + 1].sum(axis=1).mean():.1f} s, "
        f"mean excess over tolerated delays {penalty:.1f} s, {spent:.0f} J spent",
    )


def _places(
    axes: Any,
    env: Partitioning,
    step: Step,
    params: PartitioningParams,
    names: Sequence[str],
    colours: Sequence[str],
    full_s: float,
) -> None:
    """The places of a slot: the device on the left, the servers on the right."""
    servers = env.num_servers
    x = np.array([0.0, *[1.0] * servers])
    y = np.array([0.0, *np.linspace((servers - 1) / 2, -(servers - 1) / 2, servers)])
    rate = np.asarray(step.state.context.rate_bps)
    most = float(params.rate_range_bps[1])
    enabled = np.asarray(params.server_enabled)
    for n in np.flatnonzero(enabled):
        width = 0.5 + 5 * rate[n] / most
        axes.plot([0, 1], [0, y[n + 1]], color=PALE, linewidth=width, zorder=1)
        label = f"{rate[n] * 1e-6:.1f} Mbit/s"
        axes.text(
            *(LABEL, LABEL * y[n + 1], label),
            fontsize=7,
            ha="center",
            va="center",
            color="#606060",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
            zorder=5.5,
        )
    scale = BAR / full_s
    backlog = np.asarray(step.state.backlog_s)
    background = np.array([0.0, *np.asarray(step.state.context.background_s)])
    for place, name in enumerate(names):
        there = place == 0 or enabled[place - 1]
        colour = colours[place] if there else "#C8C8C8"
        axes.scatter(x[place], y[place], s=420, marker="s", color=colour, zorder=3)
        side, align = (-0.09, "right") if place == 0 else (0.09, "left")
        axes.text(x[place] + side, y[place] + 0.16, name, ha=align, fontsize=8.5, fontweight="bold")
        left = x[place] + side - (BAR if place == 0 else 0)
        bottom, height = y[place] - 0.14, 0.16
        axes.barh(bottom, BAR, height, left=left, color="white", edgecolor=GREY, linewidth=0.7)
        axes.barh(bottom, backlog[place] * scale, height, left=left, color=colour)
        start = left + backlog[place] * scale
        wide = min(background[place] * scale, left + BAR - start)
        axes.barh(bottom, wide, height, left=start, color=colour, alpha=0.35)
    _chain(axes, np.asarray(step.action), x, y, colours)
    tasks = int(step.state.context.num_tasks)
    delay = float(step.info["total_delay_s"])
    title = f"slot {int(step.state.time)}: {tasks} images, delay {delay:.1f} s"
    axes.set_title(title, fontsize=9, loc="left")
    note = f"bars: backlog (dark) and background work (light), full at {full_s:g} s"
    axes.text(0.5, -0.02, note, transform=axes.transAxes, fontsize=7.5, ha="center", va="top")
    half = max((servers - 1) / 2, 0.5)
    axes.set_xlim(-0.6, 1.62)
    axes.set_ylim(-half - 0.5, half + 0.5)
    axes.axis("off")


def _chain(
    axes: Any, placement: np.ndarray, x: np.ndarray, y: np.ndarray, colours: Sequence[str]
) -> None:
    """Numbers of the blocks at their places, and arrows where the data move."""
    previous = 0
    bends = {True: 0.25, False: -0.45}  # between servers, both to the left of them
    for place in placement.tolist():
        if place != previous:
            bend = bends[y[place] < y[previous]] if place and previous else 0.12
            axes.annotate(
                "",
                xy=(x[place], y[place]),
                xytext=(x[previous], y[previous]),
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": RED,
                    "linewidth": 1.4,
                    "shrinkA": 12,
                    "shrinkB": 12,
                    "connectionstyle": f"arc3,rad={bend}",
                },
                zorder=5,
            )
        previous = place
    for place in range(len(x)):
        blocks = [str(block + 1) for block in np.flatnonzero(placement == place)]
        lines = [" ".join(blocks[i : i + 3]) for i in range(0, len(blocks), 3)]
        axes.text(
            *(x[place], y[place], "\n".join(lines)),
            fontsize=6.5,
            ha="center",
            va="center",
            color=text_on(colours[place]),
            fontweight="bold",
            zorder=6,
        )
