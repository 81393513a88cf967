"""The claims of the robust partitioning paper, and how a verdict on them is reached.

A claim of the paper ``holds`` with the printed constants (profile `literal`), ``holds only
calibrated`` with 30 dB more gain, or ``fails``; it is ``not comparable`` where the constants were
fitted to it, or where it rests on data that is not published. A table of expected values holds when
every number is within its tolerance, to which half a unit of the last printed digit is added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from runs.reproductions import FAILS, HOLDS, ONLY_CALIBRATED, Verdict
from runs.reproductions.judging import extent, slashed, verdict
from runs.reproductions.robust.scenarios import PROFILES


def claim(
    name: str,
    paper: str,
    expected: str,
    of_profile: Callable[[str], tuple[float, bool]],
    why: str = "",
    digits: int = 2,
) -> Verdict:
    """A claim of the paper, judged in both profiles.

    of_profile: gives the measured number, and whether the claim holds. The verdict's number is that
    of the profile that decides.
    """
    values, holds = zip(*(of_profile(profile) for profile in PROFILES), strict=True)
    literal, calibrated = holds
    word = HOLDS if literal else ONLY_CALIBRATED if calibrated else FAILS
    measured = values[0] if literal or not calibrated else values[1]
    both = f"literal {slashed([values[0]], digits)}, calibrated {slashed([values[1]], digits)}"
    if literal and not calibrated:
        both += ", where it fails"
    return verdict(name, paper, expected, measured, word, f"{both}; {why}" if why else both)


def fact(
    name: str, expected: str, measured: Any, holds: Any, why: str = "", paper: str = "not printed"
) -> Verdict:
    """A statement about all the numbers measured, with their range as the interval."""
    values = np.asarray(measured, np.float64)
    values = values[np.isfinite(values)]
    measured = extent(values) if values.size > 1 else values.mean() if values.size else None
    return verdict(name, paper, expected, measured, holds, why)


def table(
    name: str,
    measured: Sequence[float],
    expected: Sequence[float | None],
    tolerance: str,
    allowed: Callable[[float], float],
    digits: int = 4,
) -> Verdict:
    """A table of expected values, None for infeasible.

    The verdict's number is the measured one, or the largest deviation where there are several.
    allowed: the tolerance of an expected number, to which half a unit of its last digit is added.
    """
    half = 0.5 * 10.0**-digits * (1 + 1e-9)
    off = []
    for value, target in zip(measured, expected, strict=True):
        if target is None:
            off.append(math.inf if math.isfinite(value) else 0.0)
        else:
            off.append(abs(value - target) / (allowed(target) + half))
    alone = len(measured) == 1
    return verdict(
        f"expected values: {name}",
        "not printed",
        f"{slashed(expected, digits)} {tolerance}",
        measured[0] if alone else max(off),
        max(off) <= 1,
        ""
        if alone
        else f"{slashed(measured, digits + 1)}; measured: largest deviation in tolerances",
    )


def energies(name: str, measured: Sequence[float], expected: Sequence[float | None]) -> Verdict:
    """A table of energies in J."""
    return table(name, measured, expected, "J within 0.1 %", lambda x: 1e-3 * abs(x))


def percentages(
    name: str,
    measured: Sequence[float],
    expected: Sequence[float | None],
    points: float = 0.1,
) -> Verdict:
    """A table of percentages."""
    tolerance = f"% within {points:g} point{'' if points == 1 else 's'}"
    return table(name, measured, expected, tolerance, lambda x: points, digits=1)
