"""Functions of many lanes, called on one instance, on a batch of batches, and on many."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from allocators.lanes import LANES_PER_PART, batched_last

pytestmark = pytest.mark.quick


@batched_last
def centred(x, scale):
    """``x [N, L]`` about its mean over N, times ``scale [L]``, and the mean."""
    mean = jnp.mean(x, axis=0)
    return scale * (x - mean), mean


@pytest.mark.parametrize("size", [1, LANES_PER_PART + 1, 2 * LANES_PER_PART, 600])
def test_any_number_of_lanes(size):
    x = np.random.default_rng(size).normal(size=(size, 3)).astype(np.float32)
    deviation, mean = jax.jit(jax.vmap(centred, (0, None)))(x, 2.0)
    np.testing.assert_allclose(mean, x.mean(1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(deviation, 2 * (x - x.mean(1, keepdims=True)), atol=1e-6)


def test_batches_of_batches():
    x = np.random.default_rng(0).normal(size=(2, 300, 4)).astype(np.float32)
    scale = np.array([1.0, 3.0], np.float32)
    deviation, mean = jax.vmap(jax.vmap(centred, (0, None)))(x, scale)
    np.testing.assert_allclose(mean, x.mean(-1), rtol=1e-4, atol=1e-6)
    expected = scale[:, None, None] * (x - x.mean(-1, keepdims=True))
    np.testing.assert_allclose(deviation, expected, atol=1e-5)
