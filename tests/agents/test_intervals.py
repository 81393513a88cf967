"""Intervals of means, ratios and quantiles over many episodes: against theory, in little memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from agents.learner import MOST_UNITS, EpisodeTerms, summarize
from jaxenv.environment import Metric

pytestmark = pytest.mark.quick

EPISODES = 25 * MOST_UNITS + 7  # groups of 25 and of 26 episodes
METRICS = (
    Metric("mean", "s", "min", "sum", of="a"),
    Metric("ratio", "1", "min", "ratio", of="a", over="b"),
    Metric("p90", "s", "min", "quantile", of="c", level=0.9),
)


def terms_of(rng: np.random.Generator, seeds: int, episodes: int) -> EpisodeTerms:
    """Exponential lengths a, ratios of mean 1/2 with b, uniform c of which a tenth do not count."""
    a, noise, c = rng.exponential(size=(3, seeds, episodes))
    b = 2 * a + noise - 1 + 5
    counts = (rng.random((seeds, episodes)) < 0.9).astype(float)
    one = np.ones((seeds, episodes))
    return EpisodeTerms(
        {"mean": a, "ratio": a, "p90": (1 - np.exp(-c)) * counts},
        {"mean": one, "ratio": b, "p90": counts},
    )


def test_intervals_over_groups_of_episodes_are_those_of_theory():
    terms = terms_of(np.random.default_rng(0), 1, EPISODES)
    mean, ratio, p90 = summarize(METRICS, terms)
    half = lambda row: (row.ci_high - row.ci_low) / 2  # noqa: E731
    a, b = terms.numerator["ratio"][0], terms.denominator["ratio"][0]
    assert mean.mean == pytest.approx(a.mean(), rel=1e-12)
    assert half(mean) == pytest.approx(1.96 * a.std() / EPISODES**0.5, rel=0.1)
    assert ratio.mean == pytest.approx(a.sum() / b.sum(), rel=1e-12)
    spread = (a - ratio.mean * b).std() / b.mean()
    assert half(ratio) == pytest.approx(1.96 * spread / EPISODES**0.5, rel=0.1)
    counted = terms.denominator["p90"] > 0
    assert p90.mean == np.quantile(terms.numerator["p90"][counted], 0.9)
    theory = 1.96 * (0.9 * 0.1 / counted.sum()) ** 0.5  # the density of a uniform number is 1
    assert half(p90) == pytest.approx(theory, rel=0.15)
    assert p90.ci_low < 0.9 < p90.ci_high


def test_up_to_the_number_of_units_episodes_are_drawn_one_by_one():
    """Then the bootstrap of a mean of 0s and 1s is a binomial number."""
    value = (np.arange(MOST_UNITS) % 4 == 0).astype(float)[None]
    (row,) = summarize(METRICS[:1], EpisodeTerms({"mean": value}, {"mean": np.ones_like(value)}))
    assert (row.ci_high - row.ci_low) / 2 == pytest.approx(
        1.96 * (0.25 * 0.75 / MOST_UNITS) ** 0.5, rel=0.1
    )


def test_seeds_that_differ_widen_the_interval_of_many_episodes():
    terms = terms_of(np.random.default_rng(1), 3, 2 * MOST_UNITS)
    terms.numerator["p90"][:] += terms.denominator["p90"] * np.arange(3)[:, None]
    *_, p90 = summarize(METRICS, terms)
    # The 90 % quantile of seeds drawn with return is one seed's, 0.9 + 0, 1 or 2, or between them.
    assert p90.ci_low == pytest.approx(0.9, abs=0.02)
    assert p90.ci_high == pytest.approx(2.9, abs=0.02)


def test_a_million_episodes_take_little_memory():
    terms = terms_of(np.random.default_rng(2), 1, 1_000_000)
    tracemalloc.start()
    summarize(METRICS, terms, num_resamples=200)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6


def test_a_quantile_of_nothing_is_nothing():
    nothing = np.zeros((1, 2 * MOST_UNITS))
    (row,) = summarize(METRICS[2:], EpisodeTerms({"p90": nothing}, {"p90": nothing}))
    assert np.isnan([row.mean, row.ci_low, row.ci_high]).all()
