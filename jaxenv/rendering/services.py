"""Draws an episode of the services system: the edge graph with its load, requests, rewards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxenv.rendering.base import Step, beside, column, headline, series
from jaxenv.rendering.colours import BLUE, GREEN, GREY, INK, ORANGE, PALE, PURPLE, RED, SKY

if TYPE_CHECKING:
    from jaxenv.services import Services, ServicesParams

SERVICES = (BLUE, ORANGE, GREEN, PURPLE, SKY)


def draw_episode(
    figure: Any, env: Services, steps: Sequence[Step], now: int, params: ServicesParams
) -> None:
    """Draws the slot ``now`` on the left, and slots 0 to ``now`` on the right.

    Left: servers and links, a server the darker the longer it computes; every request is a marker
    at the server where it arrives, with an arrow to the one that runs it, dashed and with a cross
    if it is rejected. Arguments are those of `jaxenv.rendering.splitting.draw_episode`.
    """
    grid = figure.add_gridspec(3, 2, width_ratios=(1.35, 1))
    loads = np.stack([computing_s(step, params) for step in steps])
    axes = figure.add_subplot(grid[:, 0])
    _graph(figure, axes, env, steps[now], params, loads[now], max(2.0, float(loads.max())))
    parts = column(steps, "reward_parts")
    axes = figure.add_subplot(grid[0, 1])
    names = ("accuracy", "minus delay", "minus cost")
    series(axes, parts, now, "reward parts", colours=(GREEN, BLUE, ORANGE), names=names)
    axes = figure.add_subplot(grid[1, 1])
    late, full = column(steps, "late").sum(axis=1), column(steps, "memory_reject").sum(axis=1)
    series(
        *(axes, np.stack([late, full], axis=1), now, "rejected requests"),
        colours=(RED, GREY),
        names=("too late", "no memory"),
        stacked=True,
    )
    axes.set_ylim(0, env.num_agents)
    axes = figure.add_subplot(grid[2, 1])
    accepted = column(steps, "accepted")
    delay = np.where(accepted > 0, column(steps, "delay_s"), np.nan)
    mean = np.array([np.nan if np.isnan(row).all() else np.nanmean(row) for row in delay])
    series(axes, mean, now, "mean delay [s]", colours=(BLUE,))
    axes.set_xlabel("slot")
    reward = parts[: now + 1].sum(axis=1).mean()
    rejected = 100 * (1 - accepted[: now + 1].mean())
    headline(
        figure,
        f"services, {now + 1} slots: mean reward {reward:.2f}, {rejected:.1f} % of the requests "
        "rejected",
    )


def computing_s(step: Step, params: ServicesParams) -> np.ndarray:
    """How long each server computes in a slot, ``[K]`` in s: what it has and what it accepts."""
    config, model, server = np.asarray(step.action).T
    service = np.asarray(params.service)
    work = np.asarray(params.model_tflop)[service, model]
    work = work * np.asarray(params.inferences)[service, config]
    load = np.array(step.state.slot.system_tflop, float)
    accepted = np.asarray(step.info["accepted"], bool)
    np.add.at(load, server[accepted], work[accepted])
    return load / np.asarray(params.compute_tflops)


def _graph(
    figure: Any,
    axes: Any,
    env: Services,
    step: Step,
    params: ServicesParams,
    load_s: np.ndarray,
    most_s: float,
) -> None:
    place = layout(np.asarray(params.link_mbps))
    rate = np.asarray(params.link_mbps)
    for i, j in zip(*np.nonzero(np.triu(rate)), strict=True):
        width = 0.5 + 2.5 * rate[i, j] / rate.max()
        axes.plot(*place[[i, j]].T, color=PALE, linewidth=width, zorder=1)
    slot, server = step.state.slot, np.asarray(step.action)[:, 2]
    service = np.asarray(params.service)
    accepted = np.asarray(step.info["accepted"], bool)
    nodes = axes.scatter(
        *place.T,
        c=load_s,
        cmap="YlOrBr",
        vmin=0,
        vmax=most_s,
        s=130 * np.sqrt(np.asarray(params.memory_gb)),
        edgecolor=INK,
        linewidth=0.8,
        zorder=3,
    )
    for k, (x, y) in enumerate(place):
        colour = "white" if load_s[k] > 0.6 * most_s else INK
        axes.text(x, y, str(k), fontsize=7, ha="center", va="center", color=colour, zorder=4)
    span = np.ptp(place, axis=0).max()
    local = np.asarray(slot.local_server)
    for agent, (source, target) in enumerate(zip(local, server, strict=True)):
        turn = 2 * np.pi * agent / env.num_agents
        start = place[source] + 0.045 * span * np.array([np.cos(turn), np.sin(turn)])
        colour = SERVICES[service[agent] % len(SERVICES)]
        ok = accepted[agent]
        axes.annotate(
            "",
            xy=place[target],
            xytext=start,
            arrowprops={
                "arrowstyle": "-|>",
                "color": colour,
                "linewidth": 1.3,
                "linestyle": "-" if ok else ":",
                "shrinkB": 7,
                "connectionstyle": "arc3,rad=0.1",
            },
            zorder=5,
        )
        axes.scatter(*start, s=30, marker="o", color=colour, edgecolor="white", lw=0.6, zorder=6)
        if not ok:
            axes.scatter(*start, s=60, marker="x", color=RED, linewidth=1.8, zorder=7)
    place = axes.inset_axes([0.22, -0.2, 0.56, 0.025])
    bar = figure.colorbar(nodes, cax=place, orientation="horizontal")
    bar.set_label("computing at the server [s]", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    _legend(axes, env)
    axes.set_title(
        f"slot {int(step.state.time)}: {int(accepted.sum())} of {env.num_agents} requests accepted",
        fontsize=9,
        loc="left",
    )
    axes.set_aspect("equal", anchor="N")
    axes.margins(0.08)
    axes.axis("off")


def _legend(axes: Any, env: Services) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=SERVICES[i % len(SERVICES)], marker="o", lw=1.3, label=name)
        for i, name in enumerate(env.service_names)
    ]
    handles += [
        Line2D([], [], color=RED, marker="x", linestyle="", label="rejected"),
        Line2D([], [], color=PALE, linewidth=2.5, label="link, by rate"),
        Line2D([], [], color="white", marker="o", markeredgecolor=INK, label="server, by memory"),
    ]
    beside(axes, handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3)


def layout(link_mbps: np.ndarray) -> np.ndarray:
    """Places ``[K, 2]`` of servers: of the published sites, else by their distances in hops.

    The latter by classical multidimensional scaling, deterministic up to rounding.
    """
    from jaxenv.physics import graphs
    from jaxenv.services import REACH_M, SITES_M

    sites = np.array(SITES_M, np.float64)
    if (
        len(link_mbps) == len(sites)
        and ((link_mbps > 0) == np.asarray(graphs.linked(sites, REACH_M))).all()
    ):
        return sites
    _, hops = graphs.shortest_paths(link_mbps, "hops")
    square = np.asarray(hops, np.float64) ** 2
    centred = square - square.mean(0) - square.mean(1)[:, None] + square.mean()
    values, vectors = np.linalg.eigh(-centred / 2)
    scale = np.sqrt(np.maximum(values, 0))
    if len(link_mbps) < 2:
        return np.zeros((len(link_mbps), 2))
    return (vectors * scale)[:, [-1, -2]]
