"""A distribution of values that come in parts: its quantiles, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BINS = 8192
SMALLEST = -500  # exponent of the narrowest bin
DIGITS = 52  # of a float64: bins are no narrower than its spacing


class Histogram:
    """Values in rows, one per training seed, counted in at most `BINS` bins of one width.

    The width is a power of two and bins start at its multiples. It doubles when the values so far
    span more bins, so what is counted depends on neither their order nor how they were divided into
    parts. Bins keep their least and greatest value: a quantile between the two is given as their
    middle, and its error, at most 1 / (`BINS` - 1) of the range, is known.
    """

    def __init__(self, rows: int = 1):
        self._exponent = SMALLEST
        self._first = 0  # number of the first bin: its start over the width
        self.counts = np.zeros((rows, BINS), np.int64)
        self._low = np.full((rows, BINS), np.inf)
        self._high = np.full((rows, BINS), -np.inf)

    @property
    def width(self) -> float:
        """Of a bin."""
        return float(np.ldexp(1.0, self._exponent))

    def add(self, values: np.ndarray) -> None:
        """Counts values ``[rows, n]``, or ``[n]`` of the only row; all that are finite."""
        values = np.atleast_2d(np.asarray(values, np.float64))
        row, column = np.nonzero(np.isfinite(values))
        if not row.size:
            return
        known = values[row, column]
        self._make_room(min(known.min(), self._low.min()), max(known.max(), self._high.max()))
        bins = self._number(known) - self._first
        np.add.at(self.counts, (row, bins), 1)
        np.minimum.at(self._low, (row, bins), known)
        np.maximum.at(self._high, (row, bins), known)

    def total(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    def quantiles(
        self, levels: Sequence[float], rows: Sequence[int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """`numpy.quantile` of all values, or of rows, which may repeat; and by how much it may err.

        NaN where nothing was counted.
        """
        counts, low, high = self._pooled(rows)
        total = counts.sum()
        if not total:
            return np.full((2, len(levels)), np.nan)
        place = np.asarray(levels) * (total - 1)
        below = np.floor(place).astype(np.int64)
        value, error = _ordered(counts, low, high, below)
        next_value, next_error = _ordered(counts, low, high, np.minimum(below + 1, total - 1))
        part = place - below
        return (1 - part) * value + part * next_value, (1 - part) * error + part * next_error

    def resampled(
        self, levels: Sequence[float], rows: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Quantiles of as many values drawn with return from drawn rows, ``[draws, levels]``.

        The share of values below an order statistic of n draws is a beta number, so none is drawn.

        Args:
            levels: strictly between 0 and 1.
            rows: those of each draw, ``[draws, n]``.
            rng: draws the shares.
        """
        found = np.full((len(rows), len(levels)), np.nan)
        kinds, kind = np.unique(np.sort(rows, axis=1), axis=0, return_inverse=True)
        for number, own in enumerate(kinds):
            counts, low, high = self._pooled(own)
            total = counts.sum()
            draws = np.nonzero(kind.reshape(-1) == number)[0]
            if not total:
                continue
            above = np.asarray(levels) * (total - 1)
            shares = rng.beta(above + 1, total - above, (len(draws), len(levels)))
            place = np.minimum((shares * total).astype(np.int64), total - 1)
            found[draws] = _ordered(counts, low, high, place)[0]
        return found

    def _pooled(self, rows: Sequence[int] | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Counts, least and greatest values of the bins, over rows."""
        rows = range(len(self.counts)) if rows is None else rows
        own = np.asarray(list(rows))
        return self.counts[own].sum(0), self._low[own].min(0), self._high[own].max(0)

    def _number(self, values: np.ndarray) -> np.ndarray:
        return np.floor(np.ldexp(values, -self._exponent)).astype(np.int64)

    def _make_room(self, low: float, high: float) -> None:
        """Widens and moves the bins such that they hold all from ``low`` to ``high``."""
        before, first = self._exponent, self._first
        largest, span = _exponent(max(abs(low), abs(high))), _exponent(high - low)
        self._exponent = max(before, largest - DIGITS, span - BINS.bit_length())
        while self._number(high) - self._number(low) >= BINS:
            self._exponent += 1
        start = int(self._number(low))
        if self._exponent == before and first <= start and self._number(high) < first + BINS:
            return
        self._first = start
        row, old = np.nonzero(self.counts)
        new = ((old + first) >> min(self._exponent - before, 63)) - start
        counts, lows, highs = self.counts[row, old], self._low[row, old], self._high[row, old]
        self.counts[:], self._low[:], self._high[:] = 0, np.inf, -np.inf
        np.add.at(self.counts, (row, new), counts)
        np.minimum.at(self._low, (row, new), lows)
        np.maximum.at(self._high, (row, new), highs)


def _exponent(value: float) -> int:
    """The least power of two above a value."""
    return int(np.frexp(value)[1]) if value > 0 else SMALLEST


def _ordered(
    counts: np.ndarray, low: np.ndarray, high: np.ndarray, place: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The values at places, from 0, of all in order; and by how much they may err."""
    ends = np.cumsum(counts)
    at = np.searchsorted(ends, place, side="right")
    is_first, is_last = place == ends[at] - counts[at], place == ends[at] - 1
    value = np.where(is_first, low[at], np.where(is_last, high[at], (low[at] + high[at]) / 2))
    return value, np.where(is_first | is_last, 0.0, (high[at] - low[at]) / 2)
