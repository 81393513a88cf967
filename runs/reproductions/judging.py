"""What verdicts are made of: measurements by place, bounds of a number, numbers in words."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from runs.reproductions import FAILS, HOLDS, Verdict


class Table:
    """Rows of ``evaluation.csv`` by scenario, policy and metric.

    learned: the name of the trained policy that is judged.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]], learned: str):
        self._rows = {(r["scenario"], r["policy"], r["metric"]): r for r in rows}
        self._measured = {key[:2] for key in self._rows}
        self.learned = learned

    def row(self, scenario: str, metric: str, policy: str | None = None) -> Mapping[str, Any]:
        """The row of a policy, of the trained one unless named; without numbers where it was not
        measured at all."""
        name = policy or self.learned
        if not self.has(scenario, name):
            return dict.fromkeys(("mean", "ci_low", "ci_high"), math.nan)
        return self._rows[scenario, name, metric]

    def has(self, scenario: str, policy: str) -> bool:
        """Whether a policy was measured in a scenario."""
        return (scenario, policy) in self._measured

    def mean(self, scenario: str, metric: str, policy: str | None = None) -> float:
        """The mean of a row."""
        return float(self.row(scenario, metric, policy)["mean"])

    def means(self, scenarios: Iterable[str], metric: str, policy: str | None = None) -> np.ndarray:
        """The means of a policy in several scenarios."""
        return np.array([self.mean(scenario, metric, policy) for scenario in scenarios])

    def text(self, scenario: str, metric: str, policies: Iterable[str]) -> str:
        """``Greedy 12.3, Opt1 45.6``, of the policies that were measured."""
        known = [name for name in policies if self.has(scenario, name)]
        return named({name: self.mean(scenario, metric, name) for name in known}, ".4g")


def verdict(
    claim: str,
    paper: str,
    expected: str,
    measured: Mapping[str, Any] | float | None,
    holds: Any,
    why: str = "",
) -> Verdict:
    """A verdict that turns on a row with its interval, or on a number, left out unless finite.

    holds: whether all of it is true, or the verdict itself.
    """
    row = measured
    if not isinstance(measured, Mapping):
        known = measured is not None and math.isfinite(measured)
        row = {"mean": measured if known else None, "ci_low": None, "ci_high": None}
    numbers = (None if row[n] is None else float(row[n]) for n in ("mean", "ci_low", "ci_high"))
    word = holds if isinstance(holds, str) else HOLDS if np.all(holds) else FAILS
    return Verdict(claim, paper, expected, *numbers, word, why)


def extent(values: Any) -> dict[str, float]:
    """Mean and range of several numbers, as a row has them."""
    values = np.asarray(values, np.float64)
    return {"mean": values.mean(), "ci_low": values.min(), "ci_high": values.max()}


def over_seeds(values: np.ndarray) -> dict[str, float]:
    """A mean over seeds with its bootstrapped interval, as a row has them."""
    drawn = np.random.default_rng(0).integers(len(values), size=(1000, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return {"mean": values.mean(), "ci_low": low, "ci_high": high}


def falls(values: Iterable[float], tolerance: float = 0.0, strict: bool = False) -> bool:
    """Whether no value is above the one before, but for a share of it; strict: none equals it."""
    pairs = itertools.pairwise(values)
    return all(b < a if strict else b <= a + tolerance * abs(a) for a, b in pairs)


def listed(values: Iterable[float]) -> str:
    """``1, 2.35, 30``, to three digits."""
    return ", ".join(f"{value:.3g}" for value in values)


def named(values: Mapping[str, float], form: str = ".3g") -> str:
    """``Greedy 1, Opt1 2.35``."""
    return ", ".join(f"{name} {value:{form}}" for name, value in values.items())


def told(series: Mapping[str, Iterable[float]]) -> str:
    """``Greedy 1, 2; Opt1 2.35, 3``."""
    return "; ".join(f"{name} {listed(values)}" for name, values in series.items())


def slashed(values: Any, digits: int = 2) -> str:
    """``1.00 / 2.00 / infeasible``, the last where there is no finite number."""

    def shown(x: float | None) -> str:
        known = x is not None and math.isfinite(x)
        return f"{round(float(x), digits) + 0.0:.{digits}f}" if known else "infeasible"

    return " / ".join(map(shown, np.ravel(values)))
