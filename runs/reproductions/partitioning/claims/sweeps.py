"""Claims about servers, blocks, rates, tolerated delays and links: figures 8 to 13."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from runs.reproductions import Verdict
from runs.reproductions.judging import Table, falls, listed, named, told, verdict
from runs.reproductions.partitioning.scenarios import (
    BLOCKS,
    EDGE,
    ENERGY,
    HEURISTICS,
    LINKS_MBPS,
    LOCAL,
    NETWORKS,
    OVER,
    PROPOSED,
    RATES,
    REWARD,
    SERVERS,
    TOLERANCES,
    TOTAL,
    at_blocks,
    at_link,
    at_rate,
    at_servers,
    at_tolerance,
)


def fig08(table: Table) -> list[Verdict]:
    """Delays with the number of servers."""
    places = [at_servers(n) for n in SERVERS]
    total, edge, local = (table.means(places, metric) for metric in (TOTAL, EDGE, LOCAL))
    # Where hardly anything runs on the device, its delay is as small as the tolerance of the total.
    falling = all(
        b <= a + 0.01 * t for (a, b), t in zip(itertools.pairwise(local), total[1:], strict=True)
    )
    return [
        verdict(
            "fig08a: the total delay falls with the number of servers",
            "falls",
            "monotone within 1 %; Opt1 37.2 to 23.0 s",
            table.row(places[-1], TOTAL),
            falls(total, 0.01),
            f"{_told(table, places, TOTAL)}, s per slot with {listed(SERVERS)} servers",
        ),
        verdict(
            "fig08b: the edge delay falls with the number of servers",
            "falls",
            "no expected value",
            table.row(places[-1], EDGE),
            falls(edge, 0.01),
            f"{_told(table, places, EDGE)}, s per slot with {listed(SERVERS)} servers",
        ),
        verdict(
            "fig08c: the local delay falls with the number of servers",
            "falls",
            "nonincreasing within 1 % of the total; Opt1 8.1, 0.8, 0.2, then 0 from 5 on",
            table.row(places[0], LOCAL),
            falling,
            f"{_told(table, places, LOCAL)}, s per slot with {listed(SERVERS)} servers",
        ),
        above_heuristics("fig08", table, places),
    ]


def fig09(table: Table) -> list[Verdict]:
    """Delays with the number of blocks."""
    places = [at_blocks(m) for m in BLOCKS]
    total, reward = (table.means(places, metric) for metric in (TOTAL, REWARD))
    return [
        verdict(
            "fig09a: the total delay falls with the number of blocks",
            "falls",
            "at 18 blocks at most 1.02 times that at 3; Opt1 -2.8 %",
            table.row(places[-1], TOTAL),
            total[-1] <= 1.02 * total[0],
            f"{_told(table, places, TOTAL)}, s per slot with {listed(BLOCKS)} blocks",
        ),
        verdict(
            "fig09: the reward rises with the number of blocks",
            "not shown",
            "Opt1 -26.1e3 to -16.3e3, as delays are tolerated per block",
            table.row(places[-1], REWARD),
            reward[-1] > reward[0],
            f"{_told(table, places, REWARD, 1e3)}, 1e3 s per episode with {listed(BLOCKS)} blocks",
        ),
        above_heuristics("fig09", table, places),
    ]


def fig10(table: Table) -> list[Verdict]:
    """Delays with the rate of tasks."""
    places = [at_rate(r) for r in RATES]
    total, greedy = (table.means(places, TOTAL, p) for p in (PROPOSED, "Greedy"))
    gap, relative = greedy - total, 100 * (1 - total / greedy)
    least = RATES[int(np.argmin(relative))], RATES[int(np.argmin(gap))]
    return [
        verdict(
            "fig10: the total delay grows with the rate of tasks",
            "grows",
            "monotone, convex",
            table.row(places[-1], TOTAL),
            falls(-total),
            f"{_told(table, places, TOTAL)}, s per slot at {listed(RATES)} tasks per slot",
        ),
        verdict(
            "fig10: the gap to the baselines is smallest at 50 tasks per slot",
            "smallest at 50",
            "Greedy - Opt1 rises from 3.0 to 10.9 s, and falls from 21 to 14 % of Greedy",
            table.row(places[RATES.index(50)], TOTAL),
            50 in least,
            f"under Greedy at {listed(RATES)} tasks per slot: {listed(gap)} s, {listed(relative)}"
            f" %; smallest at {least[1]} in s, at {least[0]} in %",
        ),
        above_heuristics("fig10", table, places),
    ]


def fig11(table: Table) -> list[Verdict]:
    """Energy with the numbers of servers and blocks and with the rate of tasks."""
    servers, blocks, rates = (
        [at(x) for x in values]
        for at, values in ((at_servers, SERVERS), (at_blocks, BLOCKS), (at_rate, RATES))
    )
    few = servers[: SERVERS.index(5) + 1]
    with_blocks = table.means(blocks, ENERGY)
    return [
        verdict(
            "fig11a: the energy falls with the number of servers",
            "falls",
            "nonincreasing up to 5; Opt1 167, 16, 4.5, 0.5, then flat",
            table.row(few[-1], ENERGY),
            falls(table.means(few, ENERGY)),
            f"{_told(table, servers, ENERGY)}, J per slot with {listed(SERVERS)} servers",
        ),
        verdict(
            "fig11b: the energy rises slightly with the number of blocks",
            "rises slightly",
            "18 blocks above 3; Opt1 4.2, 4.5, 2.9, 13.0, 14.8, 15.4",
            table.row(blocks[-1], ENERGY),
            with_blocks[-1] > with_blocks[0],
            f"{_told(table, blocks, ENERGY)}, J per slot with {listed(BLOCKS)} blocks",
        ),
        verdict(
            "fig11c: the energy rises with the rate of tasks",
            "rises",
            "monotone; Opt1 0.4, 2.0, 8.1, 21, 50",
            table.row(rates[-1], ENERGY),
            falls(-table.means(rates, ENERGY)),
            f"{_told(table, rates, ENERGY)}, J per slot at {listed(RATES)} tasks per slot",
        ),
    ]


def fig12(table: Table) -> list[Verdict]:
    """Delays and reward with the tolerated delay."""
    places = [at_tolerance(s) for s in TOLERANCES]
    total, reward = (table.means(places, metric) for metric in (TOTAL, REWARD))
    spread = total.max() / total.min() - 1
    lowest = int(np.argmin(total))
    delays = f"{_told(table, places, TOTAL)}, s per slot at {listed(TOLERANCES)} s"
    valley = 0 < lowest < len(total) - 1 and min(total[0], total[-1]) > 1.02 * total[lowest]
    return [
        verdict(
            "fig12: the total delay falls, then rises with the tolerated delay",
            "falls, then rises",
            "cannot hold: who ignores the tolerated delay has the same total; both ends more than"
            " 2 % above the least",
            table.row(places[lowest], TOTAL),
            valley,
            delays,
        ),
        verdict(
            "fig12: the total delay is within 2 % for all tolerated delays",
            "not shown",
            "Opt1 varies by 0.4 %",
            table.row(places[lowest], TOTAL),
            spread <= 0.02,
            f"varies by {spread:.1%}: {delays}",
        ),
        verdict(
            "fig12: the reward rises with the tolerated delay",
            "not shown",
            "monotone; Opt1 -29.0e3 to -16.4e3",
            table.row(places[-1], REWARD),
            falls(-reward),
            f"{_told(table, places, REWARD, 1e3)}, 1e3 s per episode at {listed(TOLERANCES)} s",
        ),
        above_heuristics("fig12", table, places),
    ]


def fig13(table: Table) -> list[Verdict]:
    """The total delay with the links' rate, for four networks."""
    series = {name: table.means([at_link(name, r) for r in LINKS_MBPS], TOTAL) for name in NETWORKS}
    changes = {name: 100 * (values[-1] / values[0] - 1) for name, values in series.items()}
    mean = {name: values.mean() for name, values in series.items()}
    delays = f"s per slot, mean over {listed(LINKS_MBPS)} MB/s: {named(mean)}"
    literal = (
        mean["ResNet32"] > max(mean[name] for name in NETWORKS if name != "ResNet32")
        and min(mean["AlexNet"], mean["VGG16"]) > mean["NiN"]
    )
    slow, fast = (at_link("VGG16", rate) for rate in (LINKS_MBPS[0], LINKS_MBPS[-1]))
    greedy = table.means([slow, fast], TOTAL, "Greedy")
    everywhere = [at_link(name, rate) for name in NETWORKS for rate in LINKS_MBPS]
    return [
        verdict(
            "fig13: the total delay falls with the rate of the links",
            "falls",
            "falls from 0.8 to 2 MB/s for every network; VGG16: Opt1 -0.7 %, Greedy -9 %",
            table.row(fast, TOTAL),
            all(change < 0 for change in changes.values()),
            "change in %: "
            + named(changes, "+.3g")
            + f"; Greedy, VGG16 {100 * (greedy[-1] / greedy[0] - 1):+.3g}",
        ),
        verdict(
            "fig13: ResNet32 has the longest delay, AlexNet and VGG16 have longer ones than NiN",
            "ResNet32 first, NiN last",
            "does not hold at 32 x 32: the delay follows the FLOPs",
            table.row(at_link("ResNet32", LINKS_MBPS[0]), TOTAL),
            bool(literal),
            delays,
        ),
        verdict(
            "fig13: the delay follows the FLOPs: VGG16, NiN, ResNet32, AlexNet",
            "a more complex network takes longer",
            "27, 19, 4.7, 4.2 s",
            table.row(slow, TOTAL),
            falls((mean[name] for name in NETWORKS), strict=True),
            delays,
        ),
        above_heuristics("fig13", table, everywhere),
    ]


def above_heuristics(figure: str, table: Table, places: Sequence[str]) -> Verdict:
    """Whether the trained policy has the largest reward at every point, but for optimisers."""
    best = [max(table.mean(place, REWARD, name) for name in HEURISTICS) for place in places]
    margin = [
        100 * (1 - table.mean(place, REWARD) / other)
        for place, other in zip(places, best, strict=True)
    ]
    over = [table.mean(place, OVER["Opt1"]) for place in places]
    worst = places[int(np.argmin(margin))]
    return verdict(
        f"{figure}: trained above all heuristics that do not search joint actions, at every point",
        "lowest delay of all schemes",
        "no expected value",
        table.row(worst, REWARD),
        min(margin) > 0,
        f"cost in % under that of the best heuristic: {listed(margin)}, least at {worst}; over"
        f" Opt1: {listed(over)}",
    )


def _told(table: Table, places: Sequence[str], metric: str, unit: float = 1.0) -> str:
    """``multi-task A3C 1, 2, 3; Greedy 4, 5, 6``."""
    shown = (PROPOSED, "Opt1", "Greedy", "GreedyES")
    return told({name: table.means(places, metric, name) / unit for name in shown})
