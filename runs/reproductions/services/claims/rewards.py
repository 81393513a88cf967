"""Claims about rewards, accuracy, cost, delay and training: figure 7."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from runs.reproductions import NOT_COMPARABLE, Verdict
from runs.reproductions.judging import Table, extent, falls, listed, named, verdict
from runs.reproductions.services.claims import judged
from runs.reproductions.services.scenarios import (
    ACCURACY,
    BASELINES,
    COST,
    DELAY,
    DESCENT,
    DEVIATION,
    EVENT_S,
    EXPECTED,
    FAILURE,
    GREEDY,
    HAPPO,
    HASAC,
    HEURISTIC,
    HISPER,
    LEARNED,
    PRESETS,
    PRICES,
    PUBLISHED,
    RANDOM,
    REWARD,
    SAMPLED,
    SCENARIOS,
    SLACK,
    STABLE_MINUTES,
    STABLE_STEPS,
    at,
)
from runs.reproductions.services.training import Curve, steps_to_final
from runs.tables import BOUND

SLOTS, PENALTY = 100, 100.0
FLOAT32_SLACK = -1e-4  # relative


def fig07(table: Table, curves: Mapping[tuple[str, str], Curve]) -> list[Verdict]:
    """Reward, accuracy, cost and delay of an episode in every scenario; training."""
    found = []
    for place, (preset, agents) in SCENARIOS.items():
        found += _rewards(table, place, preset, agents)
        found += _parts(table, place, preset)
        found += _impossible(table, place, preset, agents)
        found += _training(curves.get((place, HISPER)), place, agents)
    return [*found, *(_degrades(table, preset) for preset in PRESETS)]


def _rewards(table: Table, place: str, preset: str, agents: int) -> list[Verdict]:
    panel = "fig07a" if agents == 8 else "fig07e"

    mean, rewards = partial(table.mean, place, REWARD), partial(table.text, place, REWARD)
    ranked = (BOUND, DESCENT, GREEDY, PRICES, HEURISTIC, RANDOM)
    measured = [name for name in (*LEARNED, *BASELINES) if table.has(place, name)]
    measured += [name + SAMPLED for name in LEARNED if table.has(place, name + SAMPLED)]
    slack = {name: table.mean(place, SLACK, name) for name in measured}
    nearest = min(slack, key=slack.__getitem__)
    expected = EXPECTED[place]
    episodes = int(table.row(place, REWARD, RANDOM)["episodes"])
    off = {
        name: (mean(name) - value.reward) / (value.deviation * np.sqrt(1 / 10 + 1 / episodes))
        for name, value in expected.items()
    }
    return [
        verdict(
            f"{panel} ({place}): no policy above the bound, in any episode",
            "no bound",
            "distance to the bound at least -1e-4 of it",
            table.row(place, SLACK, nearest),
            slack[nearest] >= FLOAT32_SLACK,
            f"least distance of {len(measured)} policies, in shares of the bound: {nearest}"
            f" {slack[nearest]:.3g}",
        ),
        verdict(
            f"{panel} ({place}): the baselines' rewards",
            "no numbers",
            named({name: value.reward for name, value in expected.items()}, "g")
            + "; within 3 standard errors",
            table.row(place, REWARD, HEURISTIC),
            all(abs(value) <= 3 for value in off.values()),
            f"off by, in standard errors: {named(off, '+.2g')}",
        ),
        verdict(
            f"{panel} ({place}): {' > '.join(ranked)}",
            "Heuristic > Random",
            "order of means",
            table.row(place, REWARD, PRICES),
            falls(map(mean, ranked), strict=True),
            rewards(ranked),
        ),
        judged(
            table,
            place,
            (HISPER, HASAC, HAPPO),
            f"{panel} ({place}): HISPER highest, Heuristic between, Random lowest",
            "HISPER highest, Random lowest",
            "HISPER above all, Random below all of the paper's policies",
            REWARD,
            mean(HISPER) > max(map(mean, PUBLISHED[1:]))
            and mean(RANDOM) < min(map(mean, PUBLISHED[:-1])),
            rewards(PUBLISHED),
        ),
        judged(
            table,
            place,
            (HISPER,),
            f"{panel} ({place}): HISPER reaches what fixed prices reach",
            "highest reward",
            "at least PriceTable less a standard deviation of its episodes, at most the bound",
            REWARD,
            mean(PRICES) - table.mean(place, DEVIATION, PRICES) <= mean(HISPER) <= mean(BOUND),
            (
                rewards((HISPER, HISPER + SAMPLED, PRICES, DESCENT, BOUND))
                + f"; deviation of PriceTable {table.mean(place, DEVIATION, PRICES):.3g}"
                f"; {mean(BOUND) - mean(HISPER):.4g} below the bound"
            ),
        ),
        judged(
            table,
            place,
            (HISPER, HASAC, HAPPO),
            f"{panel} ({place}): HISPER >= HASAC > HAPPO",
            "HISPER >= HASAC > HAPPO",
            "order of means; no expected value",
            REWARD,
            mean(HISPER) >= mean(HASAC) > mean(HAPPO),
            rewards(name + kind for name in LEARNED[:3] for kind in ("", SAMPLED)),
        ),
    ]


def _parts(table: Table, place: str, preset: str) -> list[Verdict]:
    """Accuracy, cost and delay."""
    panels = ("fig07b", "fig07c", "fig07d") if " 8 " in place else ("fig07f", "fig07g", "fig07h")
    literal = preset == "literal"

    cost, delay = (partial(table.mean, place, metric) for metric in (COST, DELAY))

    def alike(names: Sequence[str]) -> bool:
        values = [delay(name) for name in names]
        return max(values) <= 1.25 * min(values)

    present = [name for name in (*LEARNED[:3], HEURISTIC, PRICES, RANDOM) if table.has(place, name)]
    by_reward, by_accuracy = (
        sorted(present, key=lambda name, metric=metric: -table.mean(place, metric, name))
        for metric in (REWARD, ACCURACY)
    )
    return [
        verdict(
            f"{panels[0]} ({place}): the accuracy follows the reward",
            "similar trends",
            "rank orders equal: the penalty dominates",
            table.row(place, ACCURACY, present[0]),
            by_reward == by_accuracy,
            f"by reward: {', '.join(by_reward)}; accuracy {table.text(place, ACCURACY, present)}",
        ),
        judged(
            table,
            place,
            (HISPER, HASAC, HAPPO),
            f"{panels[1]} ({place}): cost of Heuristic < Random < HISPER, HAPPO < HASAC",
            "Heuristic < Random < HISPER, HAPPO < HASAC; HASAC twice HISPER",
            "order of means"
            + ("; Random cannot be below who serves more for less" if literal else ""),
            COST,
            (
                cost(HEURISTIC)
                < cost(RANDOM)
                < min(cost(HISPER), cost(HAPPO))
                <= max(cost(HISPER), cost(HAPPO))
                < cost(HASAC)
            ),
            f"$ per episode: {table.text(place, COST, PUBLISHED)}",
        ),
        verdict(
            f"{panels[1]} ({place}): cost of Heuristic < Random < PriceTable, in HISPER's place",
            "Heuristic < Random < HISPER",
            "does not hold: 9 < PriceTable 22 < Random 56 (10 agents: 11, 30, 69)"
            if literal
            else "28 < 56 < 145 (10 agents: 34, 69, 186)",
            table.row(place, COST, RANDOM),
            cost(HEURISTIC) < cost(RANDOM) < cost(PRICES),
            f"$ per episode: {table.text(place, COST, (HEURISTIC, RANDOM, PRICES))}",
        ),
        judged(
            table,
            place,
            (HISPER, HASAC, HAPPO),
            f"{panels[2]} ({place}): delays of Heuristic, HISPER, HASAC alike; Random, HAPPO"
            " longer",
            "Heuristic, HISPER, HASAC nearly identical, Random, HAPPO significantly worse",
            "alike within 25 %, both others more than 25 % above",
            DELAY,
            (
                alike((HEURISTIC, HISPER, HASAC))
                and min(delay(RANDOM), delay(HAPPO))
                > 1.25 * max(delay(name) for name in (HEURISTIC, HISPER, HASAC))
            ),
            f"s per episode: {table.text(place, DELAY, PUBLISHED)}",
        ),
        verdict(
            f"{panels[2]} ({place}): delays of Heuristic and PriceTable alike, Random longer",
            "Heuristic, HISPER alike, Random significantly worse",
            "568, 520 against 1356 s (10 agents: 733, 676, 1706)"
            if literal
            else "reversed: 2325, 2512 against 1356 s (10 agents: 2863, 3140, 1706)",
            table.row(place, DELAY, RANDOM),
            alike((HEURISTIC, PRICES))
            and delay(RANDOM) > 1.25 * max(delay(HEURISTIC), delay(PRICES)),
            f"s per episode: {table.text(place, DELAY, (HEURISTIC, PRICES, RANDOM))}",
        ),
    ]


def _impossible(table: Table, place: str, preset: str, agents: int) -> list[Verdict]:
    """What no single reading of the paper's constants gives, with the numbers that say why."""
    panel = "fig07a" if agents == 8 else "fig07e"
    literal, requests = preset == "literal", agents * SLOTS

    mean = partial(table.mean, place, REWARD)
    failures = {name: table.mean(place, FAILURE, name) for name in (RANDOM, HEURISTIC)}
    served = {
        name: (table.mean(place, ACCURACY, name) + requests * PENALTY * rate / 100)
        / (requests * (1 - rate / 100))
        for name, rate in failures.items()
    }
    least = 100 * served[RANDOM] / (served[RANDOM] + PENALTY)
    zero = (
        f"an accuracy of 0 needs a failure rate of {least:.3g} % at Random's {served[RANDOM]:.3g}"
        f" per served request; Random fails {failures[RANDOM]:.3g} %"
    )
    gap = mean(BOUND) - mean(HEURISTIC)
    penalties = requests * PENALTY * failures[HEURISTIC] / 100
    delay, cost = (table.mean(place, metric, DESCENT) for metric in (DELAY, COST))
    range_ = mean(BOUND) - mean(RANDOM)

    def near(name: str, level: float) -> bool:
        return abs(mean(name) - level) <= 0.1 * range_

    happo = (
        f"{panel} ({place}): HAPPO's reward is close to zero",
        "close to zero",
        "within a tenth of the range from Random to the bound of 0",
        *(REWARD, near(HAPPO, 0.0)),
    )
    if agents == 10:
        happo = (
            f"{panel} ({place}): HAPPO's reward is only slightly above Random's",
            "only slightly better",
            "above, by at most a tenth of the range from Random to the bound",
            *(REWARD, mean(HAPPO) > mean(RANDOM) and near(HAPPO, mean(RANDOM))),
        )
    return [
        verdict(
            f"{panel} ({place}): HISPER's and Heuristic's rewards are positive",
            "positive",
            "cannot hold: the bound is negative, -70 (10 agents: -87)"
            if literal
            else "bound 68852 (10 agents: 85870), Heuristic 49636 (56293)",
            table.row(place, REWARD, HEURISTIC),
            min(mean(HISPER if table.has(place, HISPER) else BOUND), mean(HEURISTIC)) > 0,
            table.text(place, REWARD, (BOUND, HISPER, HEURISTIC)),
        ),
        judged(table, place, (HAPPO,), *happo, zero),
        verdict(
            f"{panel} ({place}): Random's reward is close to zero",
            "near zero beside Heuristic's",
            "cannot hold: -29156 (10 agents: -37874)"
            if literal
            else "-4774 (10 agents: -8083), within a tenth of the range from it to the bound",
            table.row(place, REWARD, RANDOM),
            near(RANDOM, 0.0),
            zero,
        ),
        verdict(
            f"text ({place}): rewards trade accuracy, delay and cost off against each other",
            "three-way trade-off",
            "penalties less than half of the gap from Heuristic to the bound",
            penalties / gap,
            penalties < 0.5 * gap,
            f"of the gap of {gap:.4g}, {100 * penalties / gap:.3g} % are penalties of rejected"
            f" requests; with CoordDescent the delay counts {delay / cost:.3g} times the cost, and"
            f" a rejection as much as {PENALTY * requests / (delay + cost):.3g} served requests'"
            " delay and cost",
        ),
    ]


def _training(one: Curve | None, place: str, agents: int) -> list[Verdict]:
    """How many steps and seconds HISPER trains."""
    minutes = STABLE_MINUTES[agents]
    stable = (
        f"text ({place}): HISPER's reward is stable after {STABLE_STEPS[agents]:.3g} steps",
        f"{STABLE_STEPS[agents]:.3g} steps, {minutes} min on an RTX 4070 Ti",
        "steps until within 5 % of the final reward, within a factor 2",
    )
    event = (
        f"text ({place}): 2,000 steps and their training take {EVENT_S[agents]} s",
        f"{EVENT_S[agents]} s on an RTX 4070 Ti",
        "at most that for each training run",
    )
    if one is None:
        told = f"not trained at this scale: {HISPER}"
        return [verdict(*words, None, NOT_COMPARABLE, told) for words in (stable, event)]
    reached, trained = steps_to_final(one), one.steps[:, -1].mean()
    mean = float(reached.mean())
    step_s = one.update_s / one.runs / one.update_steps
    share = mean / STABLE_STEPS[agents]
    seconds = 2000 * step_s
    known = np.isfinite(mean) and np.isfinite(step_s)
    return [
        verdict(
            *stable,
            extent(reached) if np.isfinite(mean) else None,
            0.5 <= share <= 2 if np.isfinite(mean) else NOT_COMPARABLE,
            f"of {trained:.3g} steps trained; {listed(reached)} by seed, that is"
            f" {mean * step_s / 60:.3g} min of each run against {minutes} min; an update is"
            f" {one.update_steps} steps",
        ),
        verdict(
            *event,
            seconds if known else None,
            seconds <= EVENT_S[agents] if known else NOT_COMPARABLE,
            f"{one.update_s:.3g} s per update of all {one.runs} runs that are trained together,"
            f" {1 / step_s:.4g} slots trained per second; {seconds / EVENT_S[agents]:.3g} times the"
            " paper's time; hardware: versions.json",
        ),
    ]


def _degrades(table: Table, preset: str) -> Verdict:
    few, many = at(preset, 8), at(preset, 10)
    words = (
        f"fig07 ({preset}): HASAC falls behind HISPER with 10 agents",
        "its performance deteriorates as the number of agents increases",
        "its gap to HISPER, in shares of that of Random, is larger with 10 than with 8 agents",
    )
    missing = [
        place for place in (few, many) for name in (HISPER, HASAC) if not table.has(place, name)
    ]
    if missing:
        told = f"not trained at this scale: {'; '.join(dict.fromkeys(missing))}"
        return verdict(*words, None, NOT_COMPARABLE, told)

    def gap(place: str) -> float:
        hisper, hasac, random = (table.mean(place, REWARD, n) for n in (HISPER, HASAC, RANDOM))
        return (hisper - hasac) / (hisper - random)

    return verdict(
        *words,
        table.row(many, REWARD, HASAC),
        gap(many) > gap(few),
        f"gap {100 * gap(few):.3g} % with 8 agents, {100 * gap(many):.3g} % with 10",
    )
