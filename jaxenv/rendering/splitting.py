"""Draws an episode of the splitting system: channel, splitting points, delay, energy, queues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxenv.rendering.base import Step, column, headline, series
from jaxenv.rendering.colours import BLUE, GREEN, ORANGE, PURPLE, RED, SKY

DELAYS_SHOWN = 2.5  # times the limit; longer ones are marked

if TYPE_CHECKING:
    from jaxenv.splitting import Splitting, SplittingParams


def draw_episode(
    figure: Any, env: Splitting, steps: Sequence[Step], now: int, params: SplittingParams
) -> None:
    """Draws steps 0 to ``now`` below each other; the axes fit the whole episode.

    Args:
        figure: a matplotlib ``Figure``; cleared by the caller.
        env: the environment.
        steps: of the episode.
        now: index of the last step shown.
        params: its scenario.
    """
    panels = figure.subplots(5, 1, sharex=True)
    context = [step.state.context for step in steps]
    fading = np.array([float(c.fading) for c in context])
    share = np.array([float(params.availability_max) * float(c.share) for c in context])
    level = 10 * np.log10(fading)
    channel = panels[0]
    series(channel, level, now, "fading [dB]", colours=(BLUE,))
    channel.set_ylim(min(level.min(), 0) - 1, max(level.max(), 0) + 1)
    host = channel.twinx()
    host.plot(np.arange(now + 1), share[: now + 1], color=ORANGE, linewidth=0.9)
    host.set_ylim(0, 1.02)
    host.set_ylabel("host free", color=ORANGE)
    host.grid(False)
    channel.yaxis.label.set_color(BLUE)
    split = column(steps, "split")
    series(panels[1], split, now, "splitting point", colours=(GREEN,), drawstyle="steps-mid")
    panels[1].set_ylim(-0.7, env.num_splits - 0.3)
    ends = ((0, "all at the host"), (env.num_splits - 1, "all on the device"))
    for place, name in ends:
        panels[1].text(
            1.008, place, name, transform=panels[1].get_yaxis_transform(), fontsize=7.5, va="center"
        )
    delay = np.stack(
        [column(steps, f"{part}_delay_s") for part in ("local", "tx", "remote")], axis=1
    )
    limits = (
        (1e3 * float(params.delay_max_s), "limit"),
        (1e3 * float(params.delay_avg_s), "limit of the mean"),
    )
    names = ("device", "sending", "host")
    colours = (GREEN, SKY, ORANGE)
    series(
        *(panels[2], 1e3 * delay, now, "delay [ms]"),
        colours=colours,
        names=names,
        limits=limits,
        stacked=True,
    )
    top = DELAYS_SHOWN * limits[0][0]
    beyond = np.flatnonzero(1e3 * delay[: now + 1].sum(axis=1) > top)
    panels[2].plot(beyond, np.full(len(beyond), 0.97 * top), "^", color=RED, markersize=4)
    panels[2].set_ylim(0, top)
    energy = np.stack([column(steps, f"{part}_energy_j") for part in ("local", "tx")], axis=1)
    series(
        *(panels[3], energy, now, "energy [J]"),
        colours=colours[:2],
        names=("computing", "sending"),
        stacked=True,
    )
    queues = np.stack([column(steps, name) for name in ("z", "h")], axis=1)
    series(
        *(panels[4], queues, now, "queues"),
        colours=(PURPLE, BLUE),
        names=("Z, mean delay [s]", "H, outage"),
    )
    panels[4].set_xlabel("slot")
    saved, full = (column(steps, f"{name}_energy_j")[: now + 1] for name in ("saved", "full_local"))
    late = column(steps, "outage")[: now + 1].mean()
    headline(
        figure,
        f"splitting, {now + 1} slots: {100 * saved.sum() / full.sum():.1f} % of the energy saved, "
        f"mean delay {1e3 * delay[: now + 1].sum(axis=1).mean():.1f} ms, {100 * late:.2f} % late",
    )
    figure.align_ylabels(panels)
