"""The claims of the robust partitioning paper, what is expected, and what is measured of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from allocators import robust
from runs.reproductions import Verdict
from runs.reproductions.robust_expected import (
    DEADLINE_SWEEP_RISK,
    DEADLINES_MS,
    FIG09_DEVICES,
    FIG10_SEEDS,
    FIG10_STARTS,
    FIG12_DEVICES,
    FIG12_ENERGIES,
    FIG12_EXCESS,
    FIG13_14_ENERGIES,
    GAP_DEVICES,
    GAP_SETTINGS,
    GAPS,
    HELD_OUT_CHANGE,
    HELD_OUT_SAVINGS,
    IMPOSSIBLE_MS,
    ITERATIONS,
    LATE,
    LOCAL_ENERGY_J,
    REQUIRED_MHZ,
    RISK_SWEEP_MS,
    RISKS,
    SAVINGS,
    SWEEP_MHZ,
    TRAJECTORIES,
    VIOLATION_MS,
    VIOLATION_RISKS,
    WORST_CASE_J,
)
from runs.reproductions.robust_verdicts import (
    LABELS,
    PROFILES,
    claim,
    energies,
    fact,
    fitted,
    held_out,
    mean,
    percentages,
    pick,
    table,
    text,
    unknown,
)
from runs.tables import Row

# ---- convergence and time -----------------------------------------------------------------------


def iterations(rows: Iterable[Row], **where: Any) -> float:
    """Mean number of iterations over all calls of Algorithm 1."""
    own = [row for row in pick(rows, **where) if row["calls"]]
    calls = np.array([row["calls"] for row in own])
    return float(np.sum(calls * [row["iterations"] for row in own]) / np.sum(calls))


def fig09(rows: list[Row]) -> list[Verdict]:
    """Iterations of Algorithm 1 over the number of devices."""

    def curve(network: str, profile: str) -> np.ndarray:
        where = {"network": network, "profile": profile}
        return np.array([iterations(rows, **where, devices=n) for n in FIG09_DEVICES])

    def most(profile: str) -> tuple[float, bool]:
        at_30 = max(curve(network, profile)[-1] for network in LABELS)
        return at_30, at_30 <= 10

    def growth(profile: str) -> tuple[float, bool]:
        risen = [curve(n, profile)[-1] - curve(n, profile)[0] for n in LABELS]
        return max(risen), min(risen) >= -0.5 and max(risen) <= 2.5

    def ratio(profile: str) -> tuple[float, bool]:
        largest = max(curve("resnet152", profile) / curve("alexnet", profile))
        return largest, 0.5 <= largest <= 2

    found = [
        claim("fig. 9: a few iterations even at N = 30", "a few", "at most 10", most),
        claim(
            "fig. 9: their number grows slightly with N",
            "slightly",
            "from N = 2 to 30 by -0.5 to 2.5",
            growth,
        ),
        claim(
            "fig. 9: both networks alike",
            "similar",
            "ResNet152 at most twice AlexNet",
            ratio,
            "with the penalty sequence chosen here; the paper gives none",
        ),
    ]
    for (network, profile), expected in ITERATIONS.items():
        name = f"fig. 9, iterations, {LABELS[network]} {profile}"
        own = curve(network, profile)
        found.append(table(name, own, expected, "within 0.3", lambda x: 0.3, digits=1))
    return found


FREE = (
    "; at m = 0 nothing is computed locally, so (23) leaves f free: at fmin, as here, Algorithm 1 "
    "is stuck, with the larger f that a conic solver returns it reaches the optimum (calibrated)"
)


def fig10(rows: list[Row]) -> list[Verdict]:
    """Where Algorithm 2 ends from the paper's starts."""
    found = []
    for letter, (network, starts) in zip("ab", FIG10_STARTS.items(), strict=True):
        own = pick(rows, network=network)

        def steps(profile: str, own: list[Row] = own) -> tuple[float, bool]:
            taken = max(
                row["outer_steps"] for row in pick(own, profile=profile) if row["outer_steps"]
            )
            return float(taken), taken <= 3

        def spread(profile: str, own: list[Row] = own) -> tuple[float, bool]:
            apart = max(spread_pct(pick(own, profile=profile, seed=seed)) for seed in FIG10_SEEDS)
            return apart, apart <= 1

        name = f"fig. 10{letter}, {LABELS[network]} from m = {', '.join(map(str, starts))}"
        found += [
            claim(f"{name}: fast", "fast early steps", "at most 3 outer steps", steps, digits=0),
            claim(
                f"{name}: one value",
                "almost the same",
                "largest less smallest excess at most 1 point",
                spread,
                f"infeasible starts left out{FREE if network == 'resnet152' else ''}",
            ),
        ]
        for profile in PROFILES:
            measured, expected = [], []
            ranges = TRAJECTORIES[network, profile]
            for start, ends in zip(starts, ranges, strict=True):
                at = [r["excess_pct"] for r in pick(own, profile=profile, start=start)]
                measured += [min(at), max(at)]
                expected += [None, None] if ends is None else list(ends)
            title = f"fig. 10{letter}, lowest and highest excess of each start, {profile}"
            found.append(
                table(title, measured, expected, "% within 1 point", lambda x: 1, digits=0)
            )
    return found


def spread_pct(rows: list[Row]) -> float:
    """Largest less smallest excess of the feasible starts, points; 0 for none."""
    ends = [row["excess_pct"] for row in rows if math.isfinite(row["excess_pct"])]
    return max(ends) - min(ends) if ends else 0.0


def linear_fit(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Slope, intercept and coefficient of determination of a line through points."""
    slope, intercept = np.polyfit(x, y, 1)
    rest = np.asarray(y) - (slope * np.asarray(x) + intercept)
    return float(slope), float(intercept), float(1 - np.var(rest) / np.var(y))


def fig11(rows: list[Row]) -> list[Verdict]:
    """Time over the number of devices."""
    fits, times, problems = {}, {}, {}
    for network in LABELS:
        own = pick(rows, network=network)
        times[network] = np.array([row["time_per_instance_ms"] for row in own])
        problems[network] = np.array([row["convex_problems_per_device"] for row in own])
        fits[network] = linear_fit([row["devices"] for row in own], times[network])
    ratio = times["resnet152"] / times["alexnet"]
    work = problems["resnet152"] / problems["alexnet"]
    total = times["resnet152"].sum() / times["alexnet"].sum()
    slopes = ", ".join(
        f"{LABELS[n]} {fit[0]:.3g} ms per device, R2 = {fit[2]:.3f}" for n, fit in fits.items()
    )
    batch, cores = (rows[0][name] for name in ("instances_per_call", "cores"))
    return [
        fact(
            "fig. 11: time grows linearly with N",
            "R2 of a line at least 0.95",
            [fit[2] for fit in fits.values()],
            [fit[2] >= 0.95 for fit in fits.values()],
            f"{slopes}; {batch} instances per call, {cores} core(s), float64",
            paper="linearly",
        ),
        fact(
            "fig. 11: ResNet152 slightly above AlexNet",
            "by 0 to 50 %, summed over N",
            total,
            1 <= total <= 1.5,
            f"ratios by N {text(ratio, 2)}, in convex problems {text(work, 2)}: all instances of a "
            "call wait for the slowest; both networks are padded to 10 points here",
            paper="slightly",
        ),
    ]


# ---- energies -----------------------------------------------------------------------------------


def fig12(rows: list[Row]) -> list[Verdict]:
    """Energy over the number of devices."""

    def curve(network: str, profile: str, risk: float, name: str = "energy_j") -> np.ndarray:
        own = pick(rows, network=network, profile=profile, risk=risk)
        return np.array([mean(own, name, devices=n) for n in FIG12_DEVICES])

    def growth(network: str, profile: str) -> float:
        own = curve(network, profile, 0.02)
        return own[-1] / own[0]

    def monotone(profile: str) -> tuple[float, bool]:
        steps = [np.diff(curve(n, profile, risk)).min() for n in LABELS for risk in (0.02, 0.04)]
        return min(steps), min(steps) > 0

    def faster(profile: str) -> tuple[float, bool]:
        ratio = growth("resnet152", profile) / growth("alexnet", profile)
        return ratio, ratio > 1

    def near(network: str, devices: Sequence[int]) -> Callable[[str], tuple[float, bool]]:
        chosen = [n in devices for n in FIG12_DEVICES]

        def judge(profile: str) -> tuple[float, bool]:
            worst = curve(network, profile, 0.02, "algorithm2_excess_pct")[chosen].max()
            return worst, worst <= 1

        return judge

    risen = {
        (network, profile): curve(network, profile, 0.02)[-1] - curve(network, profile, 0.02)[0]
        for network in LABELS
        for profile in PROFILES
    }
    close = "mean excess at most 1 % at each N"
    found = [
        claim(
            "fig. 12: energy grows with N",
            "yes",
            "every step > 0, both networks and risks",
            monotone,
            "smallest step, J",
            digits=4,
        ),
        claim(
            "fig. 12: ResNet152 rises faster",
            "yes",
            "E(12) / E(2) at risk 0.02 larger than that of AlexNet",
            faster,
            f"ratio of both; AlexNet {text([growth('alexnet', p) for p in PROFILES], 1)}, "
            f"ResNet152 {text([growth('resnet152', p) for p in PROFILES], 1)}; in J AlexNet rises "
            f"by {text([risen['alexnet', p] for p in PROFILES], 2)}, ResNet152 by "
            f"{text([risen['resnet152', p] for p in PROFILES], 2)}",
        ),
        *(
            claim(
                f"fig. 12: close to optimal for all N, {LABELS[network]}",
                "very close",
                close,
                near(network, FIG12_DEVICES),
                "largest mean excess of Algorithm 2 from the least bandwidth, %",
            )
            for network in LABELS
        ),
        claim(
            "fig. 12: close to optimal from N = 6 on, AlexNet",
            "very close",
            close,
            near("alexnet", FIG12_DEVICES[2:]),
            "largest mean excess, %",
        ),
    ]
    sizes = [FIG12_DEVICES.index(n) for n in (2, 6, 12)]
    for (network, profile, risk), expected in FIG12_ENERGIES.items():
        name = f"fig. 12, N = 2, 6, 12, {LABELS[network]} {profile}, risk {risk:g}"
        found.append(energies(name, curve(network, profile, risk)[sizes], expected))
    for (network, profile), expected in FIG12_EXCESS.items():
        name = f"fig. 12, excess of Algorithm 2 at risk 0.02, {LABELS[network]} {profile}"
        measured = curve(network, profile, 0.02, "algorithm2_excess_pct")
        found.append(percentages(name, measured, expected, points=1))
    return found


class Sweep:
    """Figure 13 or 14: energies of a network by risk and by deadline, in one profile."""

    def __init__(self, rows: Iterable[Row], network: str, profile: str):
        self.rows = pick(rows, network=network, profile=profile)
        self.deadline, self.risk = RISK_SWEEP_MS[network], DEADLINE_SWEEP_RISK[network]
        self.ends = DEADLINES_MS[network][0], DEADLINES_MS[network][-1]

    def at_risk(self, risk: float) -> float:
        """Energy at the deadline of the sweep over risks, J."""
        return mean(self.rows, risk=risk, deadline_ms=self.deadline, worst_case=False)

    def at_deadline(self, deadline: float, worst_case: bool = False) -> float:
        """Energy at the risk of the sweep over deadlines, J."""
        return mean(self.rows, risk=self.risk, deadline_ms=deadline, worst_case=worst_case)

    def worst(self) -> float:
        """Energy of the worst-case policy at the deadline of the sweep over risks, J."""
        return self.at_deadline(self.deadline, worst_case=True)

    def saving(self, risk: float) -> float:
        """Saved of the worst-case policy's energy, %; -inf where infeasible."""
        return 100 * (1 - self.at_risk(risk) / self.worst())

    def change(self, first: float | None = None) -> float:
        """Change of the energy from the first to the last deadline, %; nan where infeasible."""
        before = self.at_deadline(self.ends[0] if first is None else first)
        after = self.at_deadline(self.ends[1])
        return 100 * (after / before - 1) if math.isfinite(before) else math.nan


def _common(rows: list[Row], required: list[Row], network: str) -> list[Verdict]:
    """Verdicts that figures 13 and 14 share: expected values."""
    found = []
    figure = "fig. 13" if network == "alexnet" else "fig. 14"
    for profile in PROFILES:
        own = Sweep(fitted(rows), network, profile)
        key, name = (network, profile), f"{figure}, {profile}"
        found.append(energies(f"{name}, worst case", [own.worst()], [WORST_CASE_J[key]]))
        risks = SAVINGS[key]
        title = f"{name}, saving at risk {', '.join(f'{risk:g}' for risk in risks)}"
        found.append(percentages(title, [own.saving(risk) for risk in risks], [*risks.values()]))
        ends = FIG13_14_ENERGIES[key]
        title = f"{name}, energy at {', '.join(f'{d:g}' for d in ends)} ms"
        found.append(energies(title, [own.at_deadline(d) for d in ends], [*ends.values()]))
    other = held_out(rows)
    if other:
        own = Sweep(other, network, "calibrated")
        risks = HELD_OUT_SAVINGS[network]
        title = f"{figure}, held-out seeds, calibrated, saving at risk"
        title += f" {', '.join(f'{risk:g}' for risk in risks)}, change over all deadlines"
        measured = [*(own.saving(risk) for risk in risks), own.change()]
        found.append(percentages(title, measured, [*risks.values(), HELD_OUT_CHANGE[network]]))
    first = IMPOSSIBLE_MS[network][0]
    need = np.array([row["least_bandwidth_mhz"] for row in pick(required, deadline_ms=first)])
    have, (low, high) = SWEEP_MHZ[network], REQUIRED_MHZ[network]
    feasible = int(np.sum(need <= have))
    found.append(
        fact(
            f"{figure}: bandwidth required at {first:g} ms and risk 0.02, literal",
            f"{low} to {high} MHz over seeds 0 to 19, within 0.05 MHz",
            need,
            [abs(need.min() - low) <= 0.0501, abs(need.max() - high) <= 0.0501],
            f"{have:g} MHz are there: feasible for {feasible} of {len(need)} placements",
        )
    )
    return found


def local_energy(network: str) -> Verdict:
    """Energy of full local execution at the highest frequency."""
    model = robust.MODELS[network]
    cycles = model.table["w_GFLOP"][-1] / model.table["g_FLOP_per_cycle"][-1]
    spent = model.kappa * cycles * model.frequency_ghz[1] ** 2
    return energies(
        f"tables II to IV, {LABELS[network]} all local at the highest frequency",
        [spent],
        [LOCAL_ENERGY_J[network]],
    )


def fig13(rows: list[Row], required: list[Row]) -> list[Verdict]:
    """AlexNet: energy over the risk and over the deadline."""
    sweeps = {profile: Sweep(fitted(rows), "alexnet", profile) for profile in PROFILES}
    deadlines = DEADLINES_MS["alexnet"]

    def monotone(profile: str) -> tuple[float, bool]:
        steps = np.diff([sweeps[profile].at_risk(risk) for risk in RISKS])
        return float(steps.max()), bool((steps < 0).all())

    def ratio(profile: str) -> tuple[float, bool]:
        own = sweeps[profile].at_risk(0.08) / sweeps[profile].at_risk(0.02)
        return own, abs(own / 0.652 - 1) <= 0.05

    def below(profile: str) -> tuple[float, bool]:
        least = min(sweeps[profile].saving(risk) for risk in RISKS)
        return least, least > 0

    def change(profile: str) -> tuple[float, bool]:
        own = sweeps[profile].change()
        return own, abs(own + 61.7) <= 3

    def below_everywhere(profile: str) -> tuple[float, bool]:
        own = sweeps[profile]
        pairs = [(own.at_deadline(d), own.at_deadline(d, True)) for d in deadlines]
        holds = all(a < b for a, b in pairs)
        known = [100 * (1 - a / b) for a, b in pairs if math.isfinite(a) and math.isfinite(b)]
        return min(known), holds

    levels = ", ".join(
        f"{profile} {text([own.saving(r) for r in (0.02, 0.06, 0.08)], 1)} %"
        for profile, own in sweeps.items()
    )
    changes = text([own.change(180.0) for own in sweeps.values()], 1)
    late = pick(required, deadline_ms=169.0)
    found = [
        local_energy("alexnet"),
        unknown(
            "fig. 13a and abstract: saving over the worst case",
            "20.7 % at risk 0.02, 48.3 % at 0.08, about 40 % at 0.06",
            "",
            sweeps["literal"].saving(0.06),
            f"the worst case was fitted to this level; at risk 0.02, 0.06, 0.08 {levels}",
        ),
        claim(
            "fig. 13a: energy falls with the risk",
            "monotone",
            "every step < 0",
            monotone,
            "largest step, J",
            digits=4,
        ),
        claim(
            "fig. 13a: E(0.08) / E(0.02)",
            "0.652",
            "0.652 within 5 %",
            ratio,
            "free of the fitted worst case",
            digits=3,
        ),
        claim("fig. 13a: below the worst case", "always", "every risk", below, "least saving, %"),
        claim(
            "fig. 13b: energy from 160 to 280 ms",
            "-61.7 %",
            "within 3 points",
            change,
            f"literal: 160 ms are infeasible; from 180 ms {changes} %",
        ),
        claim(
            "fig. 13b: below the worst case everywhere",
            "yes",
            "every deadline, 160 ms included",
            below_everywhere,
            "least saving, %, where both are feasible",
        ),
        fact(
            "fig. 13b: deadline from which 10 MHz suffice, literal",
            "169 ms for all of seeds 0 to 19",
            [row["least_bandwidth_mhz"] for row in late],
            [row["least_bandwidth_mhz"] <= 10 for row in late],
            "bandwidth required at 169 ms, MHz",
        ),
    ]
    return found + _common(rows, required, "alexnet")


def fig14(rows: list[Row], required: list[Row]) -> list[Verdict]:
    """ResNet152: energy over the risk and over the deadline."""
    sweeps = {profile: Sweep(fitted(rows), "resnet152", profile) for profile in PROFILES}

    def above(profile: str) -> tuple[float, bool]:
        own = sweeps[profile].saving(0.02)
        return own, math.isfinite(own) and own < 0

    def savings(profile: str) -> tuple[float, bool]:
        own = [sweeps[profile].saving(risk) for risk in (0.04, 0.08)]
        return own[1], abs(own[0] - 2.4) <= 1 and abs(own[1] - 8.1) <= 1

    def slope(profile: str) -> tuple[float, bool]:
        own = sweeps[profile].saving(0.08) - sweeps[profile].saving(0.04)
        return own, abs(own - 5.7) <= 1

    def change(profile: str) -> tuple[float, bool]:
        own = sweeps[profile].change()
        return own, abs(own + 28.6) <= 3

    levels = ", ".join(
        f"{profile} {text([own.saving(risk) for risk in (0.04, 0.06, 0.08)], 1)} %"
        for profile, own in sweeps.items()
    )
    found = [
        local_energy("resnet152"),
        claim(
            "fig. 14a: above the worst case at risk 0.02",
            "yes",
            "feasible, saving < 0",
            above,
            "saving, %; K was fitted to the level",
        ),
        claim(
            "fig. 14a: savings at risk 0.04 and 0.08",
            "2.4 %, 8.1 %",
            "both within 1 point",
            savings,
            f"at 0.08; at 0.04, 0.06, 0.08 {levels}; K was fitted to the level",
        ),
        claim(
            "fig. 14a: saving at 0.08 less saving at 0.04",
            "5.7 points",
            "within 1 point",
            slope,
            "hardly depends on the fitted worst case",
        ),
        claim("fig. 14b: energy from 120 to 180 ms", "-28.6 %", "within 3 points", change),
        unknown(
            "abstract: saving at risk 0.06",
            "about 8 %",
            "",
            sweeps["calibrated"].saving(0.06),
            f"the worst case was fitted to this level; at 0.04, 0.06, 0.08 {levels}",
        ),
    ]
    return found + _common(rows, required, "resnet152")


# ---- what the paper lacks -----------------------------------------------------------------------


def gap(rows: list[Row], excess: np.ndarray) -> list[Verdict]:
    """Certified gaps, and the excess over exhaustive search."""

    def curve(network: str, profile: str, deadline: float) -> list[float]:
        own = pick(rows, network=network, profile=profile, deadline_ms=deadline)
        return [mean(own, "gap", devices=n) for n in GAP_DEVICES]

    found = []
    for (network, profile, deadline), expected in GAPS.items():
        measured = curve(network, profile, deadline)
        name = f"gap in 1e-4 at N = {', '.join(map(str, GAP_DEVICES))}, {LABELS[network]} {profile}"
        name += f", {deadline:g} ms"
        scaled = [[1e4 * x for x in values] for values in (measured, expected)]
        found.append(table(name, *scaled, "within 2 %", lambda x: 0.02 * x, digits=3))
    literal = curve("alexnet", "literal", 180.0)
    falls = [
        (own[-1], own[0])
        for network, deadline, _ in GAP_SETTINGS
        for profile in PROFILES
        if (own := curve(network, profile, deadline))[0] > 1e-9
    ]
    return [
        *found,
        fact(
            "gap of AlexNet literal, 180 ms",
            "below 1e-12 at every N",
            literal,
            [x < 1e-12 for x in literal],
        ),
        fact(
            "the gap closes with the number of devices",
            "smaller at N = 30 than at N = 2, where it is not 0 there",
            [last / first for last, first in falls],
            [last < first for last, first in falls],
            "measured: ratio of both",
        ),
        fact(
            "certified solver against exhaustive search, 2 to 4 devices",
            "equal on at least 99 %, never more than 0.1 % above",
            100 * excess,
            [np.mean(excess <= 1e-9) >= 0.99, excess.max() <= 1e-3, excess.min() >= -1e-9],
            f"{int(np.sum(excess <= 1e-9))} of {len(excess)} feasible instances equal; excess in %",
        ),
    ]


def starts(rows: list[Row], literal_stop: list[Row]) -> list[Verdict]:
    """Algorithm 2 from every start, and how it fails."""
    found = []
    for profile in PROFILES:
        for network in LABELS:
            own = pick(rows, network=network, profile=profile, step="pccp")
            ends = np.array([row["excess_pct"] for row in own])
            known = ends[np.isfinite(ends)]
            highest = own[int(np.argmax(np.where(np.isfinite(ends), ends, -1)))]
            found.append(
                fact(
                    f"Algorithm 2 from all starts, {LABELS[network]} {profile}",
                    "excess over the bound 0 to 169 % as from the starts of fig. 10, 1 point",
                    known,
                    [known.min() >= -1e-9, known.max() <= 170],
                    f"median {np.median(known):.2f} %, highest from m = {highest['start']}; of "
                    f"{len(ends)} runs {np.sum(np.isinf(ends))} start infeasible, "
                    f"{sum(row['rejected'] > 0 for row in own)} reject a device, "
                    f"{sum(row['nonbinary'] > 0 for row in own)} stay non-binary",
                )
            )
    exact = {
        (network, profile, seed): [
            row["excess_pct"]
            for row in pick(rows, network=network, profile=profile, seed=seed, step="exact")
            if row["start"] >= 0
        ]
        for network in LABELS
        for profile in PROFILES
        for seed in FIG10_SEEDS
    }
    best = np.array([min(ends) for ends in exact.values()])
    worst = np.array([max(x for x in ends if math.isfinite(x)) for ends in exact.values()])
    pccp = [row for row in rows if row["step"] == "pccp"]
    best_pccp = [
        min(row["excess_pct"] for row in pick(pccp, network=network, profile=profile, seed=seed))
        for network, profile, seed in exact
    ]
    held = np.array([b for row in rows for b in row["mixed_local_mhz"]])
    runs = [row for row in literal_stop if row["outer_steps"]]
    early = [row for row in runs if row["iterations"][0] == 2]
    nonbinary = [row for row in early if row["nonbinary"]]
    failures = (
        ("infeasible start", [row["status"] == "infeasible start" for row in pccp], ""),
        ("non-binary where the penalty is largest", [row["nonbinary"] > 0 for row in pccp], ""),
        (
            "rounding that violates (28)",
            [row["rejected"] > 0 for row in pccp],
            "; such devices keep their point",
        ),
    )
    return [
        *found,
        fact(
            "section V-A: alternating does not change optimality",
            "best of all starts within 0.1 % of the bound",
            best_pccp,
            [x <= 0.1 for x in best_pccp],
            "after (23) a deadline is tight, so b and f fit only the present point",
            paper="yes",
        ),
        fact(
            "the exact partition step gets stuck as well",
            "worst feasible start more than 1 % above the bound",
            worst,
            [worst.max() > 1],
            f"{int(np.sum(worst > 1))} of {len(worst)} instances",
        ),
        fact(
            "the best common start with the exact step",
            "0 to 19 % above the bound, within 1 point",
            best,
            [best.min() >= -1e-9, best.max() <= 20],
        ),
        *(
            fact(
                *(f"failure: {name}", "occurs", sum(failed), any(failed)),
                f"of {len(pccp)} runs{why}",
            )
            for name, failed, why in failures
        ),
        fact(
            "failure: the paper's stop test alone ends at iteration 2",
            "occurs",
            len(early),
            len(early) > 0,
            f"of {len(runs)} feasible runs, {len(nonbinary)} of them with non-binary shares",
        ),
        fact(
            "failure: all-local devices beside others hold 0.2 to 0.4 MHz and cannot leave",
            "every bandwidth between 0.2 and 0.4 MHz to one digit",
            held,
            (held >= 0.15) & (held < 0.45) if held.size else False,
            f"{len(held)} devices of runs that end above the optimum; where all devices are local "
            "they share everything and are stuck as well",
        ),
    ]


def violation(rows: list[Row]) -> list[Verdict]:
    """Simulated violations by law."""
    rows = [row for row in rows if row["feasible"]]
    samples = rows[0]["samples"]

    def error(probability: float) -> float:
        return 4 * math.sqrt(probability * (1 - probability) / samples)

    def worst(law: str, risk: float) -> float:
        return max(row["violation_worst"] for row in pick(rows, law=law, risk=risk))

    def largest(law: str) -> str:
        return text([100 * worst(law, risk) for risk in VIOLATION_RISKS], 2)

    within = [row["violation_worst"] <= row["risk"] + error(row["risk"]) for row in rows]
    others = [row["violation_worst"] / row["risk"] for row in rows if row["law"] != "twopoint"]
    found = [
        fact(
            "fig. 13c, 14c: violation at most the risk",
            "every law and device, within 4 standard errors",
            [row["violation_worst"] / row["risk"] for row in rows],
            within,
            "measured: worst device over the risk; " + f"{samples} samples",
            paper="always lower",
        ),
        fact(
            "fig. 13c, 14c: lower by a margin",
            "at most half of the risk for every law but the two-point one",
            others,
            [ratio <= 0.5 for ratio in others],
            "the two-point law attains the risk: the bound is sharp, the margin is the law's",
            paper="yes",
        ),
    ]
    sweep = [
        abs(math.log10(a["violation_worst"] / b["violation_worst"]))
        for deadlines in VIOLATION_MS.values()
        for a in pick(rows, deadline_ms=deadlines[0], law="heavygamma")
        for b in pick(
            rows,
            **{k: a[k] for k in ("network", "profile", "risk", "law")},
            deadline_ms=deadlines[1],
        )
        if a["violation_worst"] > 0 and b["violation_worst"] > 0
    ]
    found.append(
        unknown(
            "fig. 13c, 14c: larger for larger deadlines",
            "yes",
            "",
            float(10 ** max(sweep)) if sweep else None,
            "the paper's measured times are not published and the variance is constant in f here, "
            "so a tight deadline is missed as often whatever its length; measured: largest factor "
            "between two deadlines at risk 0.08, heavygamma",
        )
    )
    for laws, why in (
        (("gauss", "lognormal", "gamma"), "light tails"),
        (("heavygamma", "twopoint"), "heavy tail, worst case"),
    ):
        found.append(
            fact(
                f"abstract: violation below 1 % at risk 0.06, {', '.join(laws)}",
                "worst device < 0.01",
                [worst(law, 0.06) for law in laws],
                [worst(law, 0.06) < 0.01 for law in laws],
                f"{why}; "
                + "; ".join(f"{law} {largest(law)} %" for law in laws)
                + " at risk 0.02, 0.04, 0.06, 0.08",
                paper="yes",
            )
        )
    for law, expected in LATE.items():
        ratios, holds, seen = [], [], 0
        for risk, probability in zip(VIOLATION_RISKS, expected, strict=True):
            low, high = counts_within(probability, samples)
            for row in pick(rows, law=law, risk=risk):
                if row["one_part_devices"]:
                    ends = np.array([row["one_part_low"], row["one_part_high"]])
                    holds.append(
                        np.all((low - 0.5 <= samples * ends) & (samples * ends <= high + 0.5))
                    )
                    ratios += list(ends / probability) if samples * probability >= 10 else []
                    seen += row["one_part_devices"]
        found.append(
            fact(
                f"expected values: one random part, {law}",
                f"{' / '.join(f'{x:.3g}' for x in expected)} within 10 % and 4 standard errors",
                ratios,
                holds,
                f"over the expected where 10 events are; {seen} devices with 97 % of the variance "
                "in one part and a tight deadline",
            )
        )
    return found


def counts_within(probability: float, samples: int) -> tuple[float, float]:
    """Fewest and most events at a probability within 10 %, at the level of 4 standard errors."""
    from scipy.stats import binom, norm

    level = float(norm.sf(4))
    few = binom.ppf(level, samples, 0.9 * probability)
    return float(few), float(binom.isf(level, samples, 1.1 * probability))
