"""Quantiles of histograms: within their stated error of the exact ones, whatever the parts."""

from __future__ import annotations

import numpy as np
import pytest

from agents.histogram import BINS, Histogram

pytestmark = pytest.mark.quick

LEVELS = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
RNG = np.random.default_rng(0)
SAMPLES = {
    "normal": RNG.normal(size=40_000),
    "far from 0": 64_130.0 + RNG.normal(size=40_000),
    "heavy tail": RNG.standard_cauchy(size=40_000),
    "lognormal": 1e-9 * RNG.lognormal(2, 3, size=40_000),
    "counts": RNG.poisson(3, size=40_000).astype(float),
    "two values": 100.0 * (RNG.random(40_000) < 0.97),
    "one value": np.full(1000, -1 / 3),
    "zeros": np.zeros(10),
    "float32": RNG.exponential(size=4096).astype(np.float32),
    "few": RNG.normal(size=7),
}


def histogram_of(*parts: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(part)
    return histogram


@pytest.mark.parametrize("values", SAMPLES.values(), ids=SAMPLES)
def test_quantiles_are_within_their_error_of_the_exact_ones(values):
    histogram = histogram_of(*np.array_split(values, 5))
    found, error = histogram.quantiles(LEVELS)
    exact = np.quantile(values.astype(np.float64), LEVELS)
    rounding = 1e-14 * np.abs(exact)
    assert (np.abs(found - exact) <= error + rounding).all()
    assert (error <= np.ptp(values) / (BINS - 1)).all()
    assert (found[[0, -1]] == exact[[0, -1]]).all()
    assert histogram.total() == len(values)


def test_a_distribution_of_few_values_has_no_error():
    for name in ("counts", "two values", "one value", "zeros"):
        found, error = histogram_of(SAMPLES[name]).quantiles(LEVELS)
        assert (error == 0).all()
        assert (found == np.quantile(SAMPLES[name], LEVELS)).all()


@pytest.mark.parametrize("values", SAMPLES.values(), ids=SAMPLES)
def test_neither_order_nor_parts_matter(values):
    whole = histogram_of(values)
    shuffled = RNG.permutation(values)
    for other in (
        histogram_of(*np.array_split(shuffled, 97)),
        histogram_of(np.sort(values), []),
        histogram_of(np.zeros(0), values[::-1]),
    ):
        assert other.width == whole.width
        for level_and_error in zip(other.quantiles(LEVELS), whole.quantiles(LEVELS), strict=True):
            assert np.array_equal(*level_and_error)


def test_what_is_not_finite_is_left_out_and_nothing_has_no_quantile():
    histogram = histogram_of(np.array([np.nan, np.inf, -np.inf]))
    assert histogram.total() == 0
    assert np.isnan(histogram.quantiles(LEVELS)).all()
    histogram.add([2.0, np.nan])
    assert histogram.quantiles([0.5])[0] == 2.0


def test_rows_are_quantiles_of_their_own_and_may_repeat():
    values = np.stack([np.arange(5.0), 10 + np.arange(5.0)])
    histogram = Histogram(2)
    histogram.add(values)
    assert histogram.quantiles([0.5], [1])[0] == 12
    repeated = np.concatenate([values[0], values[1], values[1]])
    assert histogram.quantiles([0.5], [0, 1, 1])[0] == np.quantile(repeated, 0.5)


def test_resampled_quantiles_spread_as_those_of_resamples():
    """Against the plain bootstrap, and theory: variance p (1 - p) / n where the density is 1."""
    values = (np.arange(2000) + 0.5) / 2000  # of density 1
    drawn = np.zeros((4000, 1), int)
    found = histogram_of(values).resampled([0.5, 0.9], drawn, np.random.default_rng(2))
    spread = found.std(axis=0)
    assert spread == pytest.approx([(0.25 / 2000) ** 0.5, (0.09 / 2000) ** 0.5], rel=0.1)
    picks = np.random.default_rng(3).integers(2000, size=(2000, 2000))
    plain = np.quantile(values[picks], [0.5, 0.9], axis=1)
    assert found.mean(axis=0) == pytest.approx(plain.mean(axis=1), abs=2e-3)
    assert spread == pytest.approx(plain.std(axis=1), rel=0.1)


def test_resamples_of_seeds_are_those_of_the_drawn_seeds():
    histogram = Histogram(2)
    histogram.add(np.stack([np.full(50, 1.0), np.full(50, 3.0)]))
    drawn = np.array([[0, 0], [1, 1]])
    found = histogram.resampled([0.5], drawn, np.random.default_rng(0))
    assert found[:, 0].tolist() == [1.0, 3.0]
