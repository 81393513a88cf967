"""Claims about the tables of services: figures 4 to 6."""

from __future__ import annotations

import numpy as np

from runs.reproductions import Verdict
from runs.reproductions.judging import verdict


def falls_along_both(table: np.ndarray) -> bool:
    """Whether every value of ``[scales, seconds, ...]`` is above the next along both axes."""
    return all(bool((np.diff(table, axis=axis) < 0).all()) for axis in (0, 1))


def accuracy_table(
    figure: str, service: str, second: str, extremes: tuple[float, float], table: np.ndarray
) -> list[Verdict]:
    """Figures 4 and 5; table: accuracy ``[scales, seconds, models]``."""
    least, most = float(table.min()), float(table.max())
    exact = np.allclose((least, most), extremes, rtol=1e-9, atol=0)
    return [
        verdict(
            f"{figure}: the accuracy of {service} ranges from {extremes[0]} to {extremes[1]}",
            f"{extremes[0]} to {extremes[1]}",
            "exact; the paper prints the extremes alone, the table is made to meet them",
            least,
            exact,
            f"least {least:.6g}, highest {most:.6g}",
        ),
        verdict(
            f"{figure}: the accuracy falls with the scale and with the {second}",
            "falls",
            "strictly, along both axes, for every model",
            None,
            falls_along_both(table),
            f"{table.shape[0]} scales, {table.shape[1]} values of the {second},"
            f" {table.shape[2]} models",
        ),
    ]


def size_table(service: str, second: str, least: float, table: np.ndarray) -> list[Verdict]:
    """Figure 6; table: size factors ``[scales, seconds]``."""
    low, ones = float(table.min()), int((table == 1).sum())
    fast = falls_along_both(table) and table[0, 0] == 1 and ones == 1
    return [
        verdict(
            f"fig06: the data of {service} shrink with the scale and with the {second}",
            "fall fast; only a plot",
            "strictly decreasing along both axes, 1 only at the top",
            None,
            fast,
            f"{ones} of {table.size} configurations have the whole size",
        ),
        verdict(
            f"fig06: the least size factor of {service}",
            "only a plot",
            f"{least}, to 5e-7",
            low,
            abs(low - least) <= 5e-7,
            f"{low:.7f}",
        ),
    ]
