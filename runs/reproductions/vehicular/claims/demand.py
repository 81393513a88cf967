"""Claims about mixes of networks and numbers of vehicles: figures 13 to 16."""

from __future__ import annotations

import numpy as np

from runs.reproductions import Verdict
from runs.reproductions.judging import Table, listed, told, verdict
from runs.reproductions.vehicular.claims import LOCAL_MARGIN, best, text
from runs.reproductions.vehicular.scenarios import (
    COST,
    LATENCY,
    MIXES,
    NOT_LOOKING_AHEAD,
    OFFLOADING,
    SUCCESS,
    SUCCESS_GAIN,
    VEHICLES,
    at_mix,
    at_vehicles,
)


def fig13(table: Table) -> list[Verdict]:
    """Success with mixes of networks."""
    rivals = (*OFFLOADING, "Aware")
    places = [at_mix(ratio) for ratio in MIXES[3:]]
    margins = [table.mean(s, SUCCESS) - best(max, table, s, SUCCESS, rivals) for s in places]
    gains = table.means(places, SUCCESS_GAIN)
    worst = places[int(np.argmin(margins))]
    texts = "; ".join(f"{s}: {text(table, s, SUCCESS, rivals)}" for s in places)
    return [
        verdict(
            "fig13: mixed networks, success above every offloading baseline",
            "+10 to 20 %",
            "over Edge +7 points (1:1:1), +12 (1:2:1)",
            table.row(worst, SUCCESS),
            min(margins) > 0,
            f"success in %, {texts}; over Edge {listed(gains)} points",
        )
    ]


def fig14(table: Table) -> list[Verdict]:
    """Latency with mixes of networks."""
    places = [at_mix(ratio) for ratio in MIXES[3:]]
    ratios = [table.mean(s, COST) / best(min, table, s, COST, NOT_LOOKING_AHEAD) for s in places]
    worst = places[int(np.argmax(ratios))]
    texts = "; ".join(f"{s}: {text(table, s, COST)}" for s in places)
    under = {
        rival: 100 * (1 - table.means(places, LATENCY) / table.means(places, LATENCY, rival))
        for rival in ("Local", *OFFLOADING)
    }
    return [
        verdict(
            "fig14: mixed networks, the trained policy has the lowest cost",
            "lowest latency",
            "lowest cost",
            table.row(worst, COST),
            max(ratios) < 1,
            f"cost in s, {texts}",
        ),
        verdict(
            "fig14: mixed networks, latency 50 % under every baseline",
            "up to 50 % lower",
            "cannot hold: 78 % under Local, 1 to 5 % under Edge, 11 to 17 % under DSL",
            table.row(places[0], LATENCY),
            min(min(v) for v in under.values()) >= 50,
            f"% under the baseline at {', '.join(places)}: " + told(under),
        ),
    ]


def fig15(table: Table) -> list[Verdict]:
    """Figures 15 and 16, by cost."""
    places = [at_vehicles(v) for v in VEHICLES]
    ratios = [
        table.mean(s, COST) / best(min, table, s, COST, NOT_LOOKING_AHEAD) for s in places[:-1]
    ]
    worst = places[int(np.argmax(ratios))]
    crowded = places[-1]
    cost, local = table.mean(crowded, COST), table.mean(crowded, COST, "Local")
    success = {p: table.means(places, SUCCESS, p) for p in (table.learned, *OFFLOADING)}
    return [
        verdict(
            "fig15, fig16: 10 RSUs, the trained policy costs least with 20, 30, 40 vehicles",
            "best in both metrics, by a growing margin",
            "at most the least cost of the baselines that do not look ahead",
            table.row(worst, COST),
            max(ratios) <= 1,
            f"cost over the best baseline's: {listed(ratios)}; {worst}, cost in s: "
            f"{text(table, worst, COST)}; success in % at {listed(VEHICLES)} vehicles: "
            + told(success),
        ),
        verdict(
            "fig15, fig16: 10 RSUs, 50 vehicles, the trained policy costs at most 1.05 times Local",
            "best in both metrics",
            "Local is the best of the baselines",
            table.row(crowded, COST),
            cost <= LOCAL_MARGIN * local,
            f"cost in s: {text(table, crowded, COST)}",
        ),
    ]


def fig16(table: Table) -> list[Verdict]:
    """Latency at scale: where DSL becomes slower than INSGA."""
    places = [at_vehicles(v) for v in VEHICLES]
    series = {p: table.means(places, LATENCY, p) for p in ("DSL", "INSGA")}
    before, after = (d > i for d, i in zip(*(v[:2] for v in series.values()), strict=True))
    return [
        verdict(
            "fig16: the latency of DSL passes that of INSGA between 20 and 30 vehicles",
            "DSL becomes worse than INSGA as vehicles increase",
            "between 20 and 30 vehicles",
            table.row(at_vehicles(VEHICLES[1]), LATENCY, "DSL"),
            not before and after,
            f"latency of completed tasks in s at {listed(VEHICLES)} vehicles: {told(series)}",
        )
    ]
