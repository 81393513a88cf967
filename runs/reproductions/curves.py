"""Training curves: what a run's ``metrics.csv`` holds, in bins, and when a curve is at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from runs.tables import Row


def binned_metrics(
    rows: Sequence[Mapping[str, str]], metrics: Sequence[str], num_bins: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Training curves ``[num_seeds, num_bins]`` in bins of equal numbers of updates.

    Args:
        rows: of a run's ``metrics.csv`` (means per update over logged intervals).
        metrics: names of the environment's metrics.
        num_bins: at most so many.

    Returns:
        Episodes finished at the end of each bin, and every metric over the episodes that ended
        within it; NaN where none did.
    """
    updates = sorted({int(row["update"]) for row in rows})
    seeds = sorted({int(row["seed"]) for row in rows})
    place = {update: i for i, update in enumerate(updates)}
    length = updates[0]

    def read(name: str) -> np.ndarray:
        values = np.zeros((len(seeds), len(updates)))
        for row in rows:
            values[seeds.index(int(row["seed"])), place[int(row["update"])]] = float(row[name])
        return np.nan_to_num(values)

    def binned(values: np.ndarray) -> np.ndarray:
        parts = np.array_split(values * length, min(num_bins, len(updates)), axis=1)
        return np.stack([part.sum(axis=1) for part in parts], axis=1)

    def ratio(metric: str) -> np.ndarray:
        weight = read(f"denominator/{metric}")
        total, count = binned(read(metric) * weight), binned(weight)
        return np.where(count > 0, total / np.where(count > 0, count, 1), np.nan)

    episodes = np.cumsum(binned(read("episodes")), axis=1)
    return episodes, {metric: ratio(metric) for metric in metrics}


def curve_rows(columns: Mapping[str, np.ndarray], known: np.ndarray) -> list[Row]:
    """The data of curves ``[num_seeds, num_bins]``: a row per seed and bin that is known."""
    return [
        {"seed": seed} | {name: float(values[seed, i]) for name, values in columns.items()}
        for seed, i in np.argwhere(known).tolist()
    ]


def until_final(x: np.ndarray, curves: np.ndarray, least: Callable[[float], float]) -> np.ndarray:
    """Where each of several curves ``[num_seeds, num_bins]`` is first at least ``least(final)``.

    The final value is the mean over the last tenth of ``x``; NaN where a curve has no number.
    """
    reached = []
    for places, values in zip(x, curves, strict=True):
        known = np.isfinite(values)
        places, values = places[known], values[known]
        if not len(values):
            reached.append(np.nan)
            continue
        final = values[places >= 0.9 * places[-1]].mean()
        reached.append(places[np.argmax(values >= least(final))])
    return np.array(reached)
