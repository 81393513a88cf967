"""The claims about joint deployment, selection and configuration of inference services, judged.

The paper prints neither its accuracy tables nor its network, so absolute numbers are of the model's
own constants; what is judged is stated with every verdict. Judgements compare means of the greedy
policies, and the interval given is that of the number a verdict turns on. A claim about a learner
that was not trained in a scenario is not comparable there.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from runs.reproductions import FAILS, HOLDS, NOT_COMPARABLE, Verdict
from runs.reproductions.sweeps import Table, binned_metrics, listed, verdict
from runs.tables import BOUND

HISPER, HASAC, HAPPO = "HISPER", "HASAC", "HAPPO"
ONE_VALUE, INDEPENDENT = "HISPER, one value", "HISPER, independent"
LEARNED = (HISPER, HASAC, HAPPO, ONE_VALUE, INDEPENDENT)
SAMPLED = ", sampled"
RANDOM, HEURISTIC, PRICES, GREEDY, DESCENT = (
    "Random",
    "Heuristic",
    "PriceTable",
    "SeqGreedy",
    "CoordDescent",
)
BASELINES = (RANDOM, HEURISTIC, PRICES, GREEDY, DESCENT)
PUBLISHED = (HISPER, HASAC, HAPPO, HEURISTIC, RANDOM)
REWARD, ACCURACY, COST, DELAY = "reward", "accuracy", "cost_usd", "delay_s"
FAILURE = "failure_rate"
DEVIATION, SLACK = "reward_sd", "least_distance_to_bound"
SECONDS, ENTROPY = "seconds_per_slot", "entropy_share"
PRESETS, AGENTS, BATCHES = ("literal", "percent"), (8, 10), (1, 1000)
SLOTS, PENALTY = 100, 100.0
FLOAT32_SLACK = -1e-4  # relative


def at(preset: str, agents: int) -> str:
    """The scenario of a scale of accuracies and a number of agents."""
    return f"{preset}, {agents} agents"


def at_batch(agents: int, batch: int) -> str:
    """Where decision times are measured."""
    return f"{agents} agents, batch {batch}"


def at_alpha(scenario: str, alpha: float) -> str:
    """A scenario in which a temperature was trained."""
    return f"{scenario}, alpha {alpha:g}"


SCENARIOS = {at(preset, agents): (preset, agents) for preset in PRESETS for agents in AGENTS}
ALPHAS = {8: (2.0, 1.0, 0.5, 0.1, 0.05), 10: (2.5, 1.0, 0.5, 0.1, 0.05)}  # the paper's first


@dataclasses.dataclass(frozen=True)
class Expected:
    """What an independent slow version of the system gives; mean and deviation of episodes."""

    reward: float
    deviation: float
    failure: float | None = None


EXPECTED = {
    at("literal", 8): {
        RANDOM: Expected(-29156, 1172, 35.0),
        HEURISTIC: Expected(-7486, 1029, 9.1),
        GREEDY: Expected(-104.4, 1.8, 0),
        DESCENT: Expected(-97.6, 2.1, 0),
        BOUND: Expected(-70.1, 2.9),
    },
    at("literal", 10): {
        RANDOM: Expected(-37874, 1554, 36.4),
        HEURISTIC: Expected(-11330, 1157, 11.1),
        GREEDY: Expected(-143.4, 4.7, 0),
        DESCENT: Expected(-133.3, 4.9, 0),
        BOUND: Expected(-87.1, 4.7),
    },
    at("percent", 8): {
        RANDOM: Expected(-4774, 2220, 35.0),
        HEURISTIC: Expected(49636, 1757, 13.7),
        GREEDY: Expected(68479, 433, 0),
        DESCENT: Expected(68671, 411, 0),
        BOUND: Expected(68852, 397),
    },
    at("percent", 10): {
        RANDOM: Expected(-8083, 2203, 36.4),
        HEURISTIC: Expected(56293, 1560, 16.8),
        GREEDY: Expected(85300, 568, 0),
        DESCENT: Expected(85560, 562, 0),
        BOUND: Expected(85870, 548),
    },
}
STABLE_STEPS = {8: 1.08e5, 10: 9.8e4}
STABLE_MINUTES = {8: 5.84, 10: 6.72}
EVENT_S = {8: 6.64, 10: 8.38}


# ---- curves ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Curve:
    """A training run: ``[num_seeds, num_bins]``, bins of equal numbers of updates.

    steps: slots of all environments at the end of each bin. values: by metric, of episodes that
    ended in the bin, by actions drawn from the policy. update_steps: of an update. update_s: the
    median of its seconds without compiling, of all ``runs`` that were trained together.
    """

    steps: np.ndarray
    values: Mapping[str, np.ndarray]
    update_steps: int
    update_s: float
    runs: int


def curve(
    rows: Sequence[Mapping[str, str]],
    timing: Sequence[Mapping[str, str]],
    slots: int,
    update_steps: int,
    runs: int,
    num_bins: int = 100,
) -> Curve:
    """The curve of a run's ``metrics.csv`` and ``timing.csv``; slots: of an episode."""
    episodes, values = binned_metrics(rows, (REWARD, ACCURACY, COST, DELAY, FAILURE), num_bins)
    update, seconds = (
        np.array([float(row[name]) for row in timing]) for name in ("update", "seconds")
    )
    each = np.diff(seconds) / np.diff(update)
    return Curve(
        steps=episodes * slots,
        values=values,
        update_steps=update_steps,
        update_s=float(np.median(each)) if len(each) else float("nan"),
        runs=runs,
    )


def steps_to_final(one: Curve, share: float = 0.05) -> np.ndarray:
    """Steps ``[num_seeds]`` after which the reward is first within ``share`` of the final one.

    The final reward is the mean over the last tenth of the steps; NaN where no episode ended.
    """
    reached = []
    for steps, reward in zip(one.steps, one.values[REWARD], strict=True):
        known = np.isfinite(reward)
        steps, reward = steps[known], reward[known]
        if not len(reward):
            reached.append(np.nan)
            continue
        final = reward[steps >= 0.9 * steps[-1]].mean()
        reached.append(steps[np.argmax(reward >= final - share * abs(final))])
    return np.array(reached)


# ---- tables of services: figures 4 to 6 ---------------------------------------------------------


def falls_along_both(table: np.ndarray) -> bool:
    """Whether every value of ``[scales, seconds, ...]`` is above the next along both axes."""
    return all(bool((np.diff(table, axis=axis) < 0).all()) for axis in (0, 1))


def accuracy_table(
    figure: str, service: str, second: str, extremes: tuple[float, float], table: np.ndarray
) -> list[Verdict]:
    """Figures 4 and 5; table: accuracy ``[scales, seconds, models]``."""
    least, most = float(table.min()), float(table.max())
    exact = np.allclose((least, most), extremes, rtol=1e-9, atol=0)
    falls = falls_along_both(table)
    return [
        Verdict(
            f"{figure}: the accuracy of {service} ranges from {extremes[0]} to {extremes[1]}",
            f"{extremes[0]} to {extremes[1]}",
            "exact; the paper prints the extremes alone, the table is made to meet them",
            least,
            None,
            None,
            HOLDS if exact else FAILS,
            f"least {least:.6g}, highest {most:.6g}",
        ),
        Verdict(
            f"{figure}: the accuracy falls with the scale and with the {second}",
            "falls",
            "strictly, along both axes, for every model",
            None,
            None,
            None,
            HOLDS if falls else FAILS,
            f"{table.shape[0]} scales, {table.shape[1]} values of the {second},"
            f" {table.shape[2]} models",
        ),
    ]


def size_table(service: str, second: str, least: float, table: np.ndarray) -> list[Verdict]:
    """Figure 6; table: size factors ``[scales, seconds]``."""
    low, ones = float(table.min()), int((table == 1).sum())
    fast = falls_along_both(table) and table[0, 0] == 1 and ones == 1
    return [
        Verdict(
            f"fig06: the data of {service} shrink with the scale and with the {second}",
            "fall fast; only a plot",
            "strictly decreasing along both axes, 1 only at the top",
            None,
            None,
            None,
            HOLDS if fast else FAILS,
            f"{ones} of {table.size} configurations have the whole size",
        ),
        Verdict(
            f"fig06: the least size factor of {service}",
            "only a plot",
            f"{least}, to 5e-7",
            low,
            None,
            None,
            HOLDS if abs(low - least) <= 5e-7 else FAILS,
            f"{low:.7f}",
        ),
    ]


# ---- figure 7 ----------------------------------------------------------------------------------


def judged(
    table: Table,
    place: str,
    needed: Sequence[str],
    words: tuple[str, str, str],
    metric: str,
    holds: Callable[[], bool],
    why: Callable[[], str],
    policy: str | None = None,
) -> Verdict:
    """A verdict that turns on a row, where all ``needed`` policies were measured.

    words: claim, what the paper reports, what is expected. policy: whose row; the first needed.
    """
    missing = [name for name in needed if not table.has(place, name)]
    if missing:
        told = f"not trained at this scale: {', '.join(missing)}"
        return Verdict(*words, None, None, None, NOT_COMPARABLE, told)
    row = table.row(place, metric, policy or needed[0])
    return verdict(*words, row, holds(), why())


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

    def mean(name: str) -> float:
        return table.mean(place, REWARD, name)

    def told(*names: str) -> Callable[[], str]:
        return lambda: _told(table, place, REWARD, names)

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
            ", ".join(f"{name} {value.reward:g}" for name, value in expected.items())
            + "; within 3 standard errors",
            table.row(place, REWARD, HEURISTIC),
            all(abs(value) <= 3 for value in off.values()),
            "off by, in standard errors: "
            + ", ".join(f"{name} {value:+.2g}" for name, value in off.items()),
        ),
        verdict(
            f"{panel} ({place}): {' > '.join(ranked)}",
            "Heuristic > Random",
            "order of means",
            table.row(place, REWARD, PRICES),
            _ordered(ranked, mean),
            told(*ranked)(),
        ),
        judged(
            table,
            place,
            (HISPER, HASAC, HAPPO),
            (
                f"{panel} ({place}): HISPER highest, Heuristic between, Random lowest",
                "HISPER highest, Random lowest",
                "HISPER above all, Random below all of the paper's policies",
            ),
            REWARD,
            lambda: (
                _highest(HISPER, PUBLISHED, mean)
                and _highest(RANDOM, PUBLISHED, lambda name: -mean(name))
            ),
            told(*PUBLISHED),
        ),
        judged(
            table,
            place,
            (HISPER,),
            (
                f"{panel} ({place}): HISPER reaches what fixed prices reach",
                "highest reward",
                "at least PriceTable less a standard deviation of its episodes, at most the bound",
            ),
            REWARD,
            lambda: (
                mean(PRICES) - table.mean(place, DEVIATION, PRICES) <= mean(HISPER) <= mean(BOUND)
            ),
            lambda: (
                _told(table, place, REWARD, (HISPER, HISPER + SAMPLED, PRICES, DESCENT, BOUND))
                + f"; deviation of PriceTable {table.mean(place, DEVIATION, PRICES):.3g}"
                f"; {mean(BOUND) - mean(HISPER):.4g} below the bound"
            ),
        ),
        judged(
            table,
            place,
            (HISPER, HASAC, HAPPO),
            (
                f"{panel} ({place}): HISPER >= HASAC > HAPPO",
                "HISPER >= HASAC > HAPPO",
                "order of means; no expected value",
            ),
            REWARD,
            lambda: mean(HISPER) >= mean(HASAC) > mean(HAPPO),
            told(*(name + kind for name in (HISPER, HASAC, HAPPO) for kind in ("", SAMPLED))),
        ),
    ]


def _parts(table: Table, place: str, preset: str) -> list[Verdict]:
    """Accuracy, cost and delay."""
    panels = ("fig07b", "fig07c", "fig07d") if " 8 " in place else ("fig07f", "fig07g", "fig07h")
    literal = preset == "literal"

    def cost(name: str) -> float:
        return table.mean(place, COST, name)

    def delay(name: str) -> float:
        return table.mean(place, DELAY, name)

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
            f"by reward: {', '.join(by_reward)}; accuracy {_told(table, place, ACCURACY, present)}",
        ),
        judged(
            table,
            place,
            (HISPER, HASAC, HAPPO),
            (
                f"{panels[1]} ({place}): cost of Heuristic < Random < HISPER, HAPPO < HASAC",
                "Heuristic < Random < HISPER, HAPPO < HASAC; HASAC twice HISPER",
                "order of means"
                + ("; Random cannot be below who serves more for less" if literal else ""),
            ),
            COST,
            lambda: (
                cost(HEURISTIC)
                < cost(RANDOM)
                < min(cost(HISPER), cost(HAPPO))
                <= max(cost(HISPER), cost(HAPPO))
                < cost(HASAC)
            ),
            lambda: f"$ per episode: {_told(table, place, COST, PUBLISHED)}",
        ),
        verdict(
            f"{panels[1]} ({place}): cost of Heuristic < Random < PriceTable, in HISPER's place",
            "Heuristic < Random < HISPER",
            "does not hold: 9 < PriceTable 22 < Random 56 (10 agents: 11, 30, 69)"
            if literal
            else "28 < 56 < 145 (10 agents: 34, 69, 186)",
            table.row(place, COST, RANDOM),
            cost(HEURISTIC) < cost(RANDOM) < cost(PRICES),
            f"$ per episode: {_told(table, place, COST, (HEURISTIC, RANDOM, PRICES))}",
        ),
        judged(
            table,
            place,
            (HISPER, HASAC, HAPPO),
            (
                f"{panels[2]} ({place}): delays of Heuristic, HISPER, HASAC alike; Random, HAPPO"
                " longer",
                "Heuristic, HISPER, HASAC nearly identical, Random, HAPPO significantly worse",
                "alike within 25 %, both others more than 25 % above",
            ),
            DELAY,
            lambda: (
                alike((HEURISTIC, HISPER, HASAC))
                and min(delay(RANDOM), delay(HAPPO))
                > 1.25 * max(delay(name) for name in (HEURISTIC, HISPER, HASAC))
            ),
            lambda: f"s per episode: {_told(table, place, DELAY, PUBLISHED)}",
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
            f"s per episode: {_told(table, place, DELAY, (HEURISTIC, PRICES, RANDOM))}",
        ),
    ]


def _impossible(table: Table, place: str, preset: str, agents: int) -> list[Verdict]:
    """What no single reading of the paper's constants gives, with the numbers that say why."""
    panel = "fig07a" if agents == 8 else "fig07e"
    literal, requests = preset == "literal", agents * SLOTS

    def mean(name: str) -> float:
        return table.mean(place, REWARD, name)

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
        (
            f"{panel} ({place}): HAPPO's reward is close to zero",
            "close to zero",
            "within a tenth of the range from Random to the bound of 0",
        ),
        lambda: near(HAPPO, 0.0),
    )
    if agents == 10:
        happo = (
            (
                f"{panel} ({place}): HAPPO's reward is only slightly above Random's",
                "only slightly better",
                "above, by at most a tenth of the range from Random to the bound",
            ),
            lambda: mean(HAPPO) > mean(RANDOM) and near(HAPPO, mean(RANDOM)),
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
            _told(table, place, REWARD, (BOUND, HISPER, HEURISTIC)),
        ),
        judged(table, place, (HAPPO,), happo[0], REWARD, happo[1], lambda: zero),
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
        Verdict(
            f"text ({place}): rewards trade accuracy, delay and cost off against each other",
            "three-way trade-off",
            "penalties less than half of the gap from Heuristic to the bound",
            penalties / gap,
            None,
            None,
            HOLDS if penalties < 0.5 * gap else FAILS,
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
        return [
            Verdict(*words, None, None, None, NOT_COMPARABLE, told) for words in (stable, event)
        ]
    reached, trained = steps_to_final(one), one.steps[:, -1].mean()
    mean = float(reached.mean())
    step_s = one.update_s / one.runs / one.update_steps
    share = mean / STABLE_STEPS[agents]
    within = HOLDS if 0.5 <= share <= 2 else FAILS
    known = np.isfinite(mean) and np.isfinite(step_s)
    seconds = 2000 * step_s
    return [
        Verdict(
            *stable,
            mean if np.isfinite(mean) else None,
            float(reached.min()) if np.isfinite(mean) else None,
            float(reached.max()) if np.isfinite(mean) else None,
            within if np.isfinite(mean) else NOT_COMPARABLE,
            f"of {trained:.3g} steps trained; {listed(reached)} by seed, that is"
            f" {mean * step_s / 60:.3g} min of each run against {minutes} min; an update is"
            f" {one.update_steps} steps",
        ),
        Verdict(
            *event,
            seconds if known else None,
            None,
            None,
            (HOLDS if seconds <= EVENT_S[agents] else FAILS) if known else NOT_COMPARABLE,
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
        return Verdict(*words, None, None, None, NOT_COMPARABLE, told)

    def gap(place: str) -> float:
        hisper, hasac, random = (
            table.mean(place, REWARD, name) for name in (HISPER, HASAC, RANDOM)
        )
        return (hisper - hasac) / (hisper - random)

    return verdict(
        *words,
        table.row(many, REWARD, HASAC),
        gap(many) > gap(few),
        f"gap {100 * gap(few):.3g} % with 8 agents, {100 * gap(many):.3g} % with 10",
    )


# ---- figures 8 to 10 ---------------------------------------------------------------------------


def fig08(table: Table) -> list[Verdict]:
    """Failure rates."""
    found = []
    for place in SCENARIOS:

        def rate(name: str, place: str = place) -> float:
            return table.mean(place, FAILURE, name)

        expected = {n: e.failure for n, e in EXPECTED[place].items() if e.failure is not None}
        off = {name: rate(name) - value for name, value in expected.items()}
        learned = [name for name in LEARNED if table.has(place, name)]
        rates = f"%: {_told(table, place, FAILURE, (*learned, *BASELINES))}"
        found += [
            judged(
                table,
                place,
                (HISPER, HASAC),
                (
                    f"fig08 ({place}): failures of HISPER < HASAC < Heuristic",
                    "HISPER lowest, then HASAC and Heuristic",
                    "order of means; no expected value",
                ),
                FAILURE,
                lambda rate=rate: rate(HISPER) < rate(HASAC) < rate(HEURISTIC),
                lambda rates=rates: rates,
            ),
            judged(
                table,
                place,
                (HISPER,),
                (
                    f"fig08 ({place}): HISPER hardly fails",
                    "lowest",
                    "at most 1 %, and below Heuristic",
                ),
                FAILURE,
                lambda rate=rate: rate(HISPER) <= 1 and rate(HISPER) < rate(HEURISTIC),
                lambda rates=rates: rates,
            ),
            verdict(
                f"fig08 ({place}): failures of the baselines",
                "no numbers",
                ", ".join(f"{name} {value:g}" for name, value in expected.items())
                + " %, within 1.5 points; PriceTable's interval from at most 1 %",
                table.row(place, FAILURE, HEURISTIC),
                max(map(abs, off.values())) <= 1.5
                and float(table.row(place, FAILURE, PRICES)["ci_low"]) <= 1,
                rates,
            ),
        ]
    return found


def fig09(table: Table) -> list[Verdict]:
    """Seconds of a decision per slot."""
    found = []
    learned = (HISPER, HASAC, HAPPO)
    for agents, batch in itertools.product(AGENTS, BATCHES):
        place = at_batch(agents, batch)

        def seconds(name: str, place: str = place) -> float:
            return table.mean(place, SECONDS, name)

        names = (*learned, *BASELINES)
        times = {name: 1e3 * seconds(name) for name in names}
        told = "ms per slot: " + ", ".join(f"{name} {value:.3g}" for name, value in times.items())
        found += [
            verdict(
                f"fig09 ({place}): Heuristic is slower than all learned policies",
                "Heuristic slowest",
                "does not hold for 1024 actions in one array against networks of every agent"
                if batch == 1
                else "no expected value",
                table.row(place, SECONDS, HEURISTIC),
                seconds(HEURISTIC) > max(map(seconds, learned)),
                told,
            ),
            verdict(
                f"fig09 ({place}): HISPER is slower than HASAC and HAPPO",
                "slightly slower: an LSTM for three actions",
                "order of medians",
                table.row(place, SECONDS, HISPER),
                seconds(HISPER) > max(seconds(HASAC), seconds(HAPPO)),
                told,
            ),
        ]
    for batch in BATCHES:
        few, many = (at_batch(agents, batch) for agents in AGENTS)
        growth = {
            name: table.mean(many, SECONDS, name) / table.mean(few, SECONDS, name)
            for name in (HISPER, HASAC, HAPPO, HEURISTIC)
        }
        found.append(
            verdict(
                f"fig09 (batch {batch}): Heuristic's time grows fastest with the requests",
                "increases rapidly",
                "the largest ratio of 10 to 8 agents; both grow in proportion to the agents, 1.25",
                table.row(many, SECONDS, HEURISTIC),
                growth[HEURISTIC] > max(growth[name] for name in learned),
                "10 against 8 agents: "
                + ", ".join(f"{name} {value:.3g}" for name, value in growth.items()),
            )
        )
    return found


def fig10(table: Table) -> list[Verdict]:
    """Accuracy and delay of every agent."""
    found = []
    for place, (preset, agents) in SCENARIOS.items():
        half = agents // 2

        def each(name: str, metric: str, place: str = place, agents: int = agents) -> np.ndarray:
            return np.array([table.mean(place, f"{metric}_agent{i}", name) for i in range(agents)])

        def sharper(name: str, each=each, half: int = half) -> bool:
            accuracy = each(name, "accuracy")
            return accuracy[:half].min() > accuracy[half:].max()

        def slower(names: Sequence[str], first: int, each=each) -> bool:
            own = each(HEURISTIC, "delay_s")[first:]
            return all(bool((own > each(name, "delay_s")[first:]).all()) for name in names)

        def told(metric: str, names: Sequence[str], each=each) -> str:
            return "; ".join(f"{name} {listed(each(name, metric))}" for name in names)

        values = ".73 and .34" if preset == "literal" else ".92 and .86"
        delays = (
            "tracking .87 to 1.25 s against .79 to .83 s, detection .48 to .56 s against .48 to"
            " .49 s with 8 agents"
            if preset == "literal"
            else "no expected value"
        )
        found += [
            judged(
                table,
                place,
                (HISPER,),
                (
                    f"fig10 ({place}): HISPER detects more accurately than it tracks",
                    "agents 1 to 4 above agents 5 to 8",
                    f"every detecting agent above every tracking one; CoordDescent {values}",
                ),
                "accuracy_detection",
                lambda sharper=sharper: sharper(HISPER),
                lambda told=told: f"accuracy of accepted requests: {told('accuracy', [HISPER])}",
            ),
            verdict(
                f"fig10 ({place}): Heuristic and CoordDescent detect more accurately than they"
                " track",
                "agents 1 to 4 above agents 5 to 8",
                f"every detecting agent above every tracking one; CoordDescent {values}",
                table.row(place, "accuracy_detection", DESCENT),
                sharper(HEURISTIC) and sharper(DESCENT),
                "accuracy of accepted requests: " + told("accuracy", [HEURISTIC, DESCENT]),
            ),
            judged(
                table,
                place,
                (HISPER, HASAC),
                (
                    f"fig10 ({place}): Heuristic has the longest delay for every agent",
                    "longest for all agents, of HISPER, HASAC and Heuristic",
                    "longer for every tracking agent",
                ),
                "delay_s_tracking",
                lambda slower=slower, half=half: slower((HISPER, HASAC), half),
                lambda told=told: (
                    f"s, accepted requests: {told('delay_s', (HISPER, HASAC, HEURISTIC))}"
                ),
                policy=HEURISTIC,
            ),
            verdict(
                f"fig10 ({place}): Heuristic has a longer delay than CoordDescent for every"
                " tracking agent",
                "Heuristic longest for all agents",
                delays,
                table.row(place, "delay_s_tracking", HEURISTIC),
                slower((DESCENT,), half),
                f"s, accepted requests: {told('delay_s', (HEURISTIC, DESCENT))}",
            ),
        ]
    return found


# ---- the two parts, and the temperature ---------------------------------------------------------


def ablation(table: Table) -> list[Verdict]:
    """What each part of HISPER adds, where all four learners were trained."""
    found = []
    for place in SCENARIOS:

        def mean(name: str, place: str = place) -> float:
            return table.mean(place, REWARD, name)

        for part, without in (
            ("one value per component of the reward", ONE_VALUE),
            ("sub-actions given those before", INDEPENDENT),
            ("both parts together", HASAC),
        ):
            found.append(
                judged(
                    table,
                    place,
                    (HISPER, without),
                    (
                        f"ablation ({place}): {part} raises the reward",
                        "HISPER above HASAC; the parts are not shown apart",
                        "order of means; no expected value",
                    ),
                    REWARD,
                    lambda mean=mean, without=without: mean(HISPER) > mean(without),
                    lambda place=place: _told(
                        table,
                        place,
                        REWARD,
                        [name + kind for name in LEARNED for kind in ("", SAMPLED)],
                        intervals=True,
                    ),
                )
            )
    return found


GIBBS = "joint optima of exp(r / alpha), 8 agents: 2: -820, 1: -617, .5: -469, .1: -194, .05: -145"


def temperature(table: Table, places: Sequence[str]) -> list[Verdict]:
    """What the temperature does to sampled policies; places: scenarios in which it was swept."""
    found = []
    for place in places:
        alphas = ALPHAS[SCENARIOS[place][1]]
        published, least = (at_alpha(place, alphas[i]) for i in (0, -1))
        name = HISPER + SAMPLED

        def swept(metric: str, policy: str = name, place: str = place) -> np.ndarray:
            alphas = ALPHAS[SCENARIOS[place][1]]
            return np.array([table.mean(at_alpha(place, a), metric, policy) for a in alphas])

        reward, delay = swept(REWARD), swept(DELAY)
        told = (
            f"alpha {listed(alphas)}: reward sampled {listed(reward)}, greedy"
            f" {listed(swept(REWARD, HISPER))}, delay {listed(delay)} s, failures"
            f" {listed(swept(FAILURE))} %, entropy {listed(swept(ENTROPY))} of the uniform policy's"
        )
        found += [
            verdict(
                f"temperature ({place}): the paper's alpha = {alphas[0]:g} has the highest reward"
                " of the sweep",
                f"alpha = {alphas[0]:g}",
                f"cannot hold with accuracies in [0, 1]: {GIBBS}",
                table.row(published, REWARD, name),
                int(np.argmax(reward)) == 0,
                told,
            ),
            verdict(
                f"temperature ({place}): the reward of the sampled policy rises as alpha falls",
                "not shown",
                GIBBS,
                table.row(least, REWARD, name),
                bool((np.diff(reward) > 0).all()),
                told,
            ),
            verdict(
                f"temperature ({place}): at the paper's alpha the policy is nearly blind to delay",
                "not shown",
                "the delay is more than 1.5 times that at the least alpha; 1070 to 1120 s against"
                " 520 s with 8 agents",
                table.row(published, DELAY, name),
                bool(delay[0] > 1.5 * delay[-1]),
                told,
            ),
        ]
    return found


# ---- words and numbers -------------------------------------------------------------------------


def _ordered(names: Sequence[str], value: Callable[[str], float]) -> bool:
    return all(value(a) > value(b) for a, b in itertools.pairwise(names))


def _highest(name: str, names: Sequence[str], value: Callable[[str], float]) -> bool:
    return all(value(name) > value(other) for other in names if other != name)


def _told(
    table: Table, place: str, metric: str, names: Sequence[str], intervals: bool = False
) -> str:
    """``Heuristic -7486, Random -29156`` of what was measured."""

    def one(name: str) -> str:
        row = table.row(place, metric, name)
        text = f"{name} {float(row['mean']):.4g}"
        return text + f" [{row['ci_low']:.4g}, {row['ci_high']:.4g}]" if intervals else text

    return ", ".join(one(name) for name in names if table.has(place, name))
