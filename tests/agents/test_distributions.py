"""Draws from masked distributions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.distributions import draw, masked_policy

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("size", [2, 5, 64, 300])
def test_draws_follow_the_probabilities_and_never_a_mask(size):
    rng = np.random.default_rng(size)
    mask = rng.random(size) < 0.5
    mask[rng.integers(size)] = True
    probability, _ = masked_policy(jnp.asarray(rng.normal(size=size)), jnp.asarray(mask))
    uniform = (jnp.arange(20_000) + 0.5) / 20_000
    drawn = jax.vmap(draw, (0, None, None))(uniform, probability, jnp.asarray(mask))
    counts = np.bincount(np.asarray(drawn), minlength=size) / 20_000
    assert drawn.dtype == jnp.int32
    np.testing.assert_allclose(counts, probability, atol=2e-4)
    assert np.all(np.diff(np.asarray(drawn)) >= 0), "not the inverse of the cumulative probability"


@pytest.mark.parametrize("only", [0, 3, 9])
def test_the_ends_of_the_unit_interval_draw_a_valid_value(only):
    mask = jnp.arange(10) == only
    for uniform in (0.0, 0.5, float(np.nextafter(np.float32(1), np.float32(0)))):
        assert int(draw(jnp.float32(uniform), mask / 1.0, mask)) == only
    # A cumulative sum that rounding keeps below 1, and a first valid value of probability 0.
    probability = jnp.asarray([0.0, 0.0, 0.7, 0.3], jnp.float32)
    allowed = jnp.asarray([False, True, True, True])
    assert int(draw(jnp.float32(1.0), probability * (1 - 1e-6), allowed)) == 3
    assert int(draw(jnp.float32(0.0), probability, allowed)) in (1, 2)


def test_a_batch_draws_row_by_row():
    probability = jnp.asarray([[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]])
    uniform = jnp.asarray([[0.9, 0.1], [0.2, 0.8]])
    mask = jnp.ones((2, 2, 2), bool)
    np.testing.assert_array_equal(draw(uniform, probability, mask), [[0, 1], [0, 1]])
