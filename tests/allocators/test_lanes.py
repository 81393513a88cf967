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


@pytest.mark.parametrize(
    ("size", "parts"),
    [
        (2 * LANES_PER_PART - 1, {2 * LANES_PER_PART - 1}),
        (2 * LANES_PER_PART, {LANES_PER_PART}),
        (3 * LANES_PER_PART + 5, {LANES_PER_PART, 5}),
    ],
)
def test_many_lanes_are_divided(size, parts, monkeypatch):
    """On a CPU from two parts on, the rest by itself; elsewhere never."""
    seen = set()

    @batched_last
    def doubled(x):
        seen.add(x.shape[-1])
        return 2 * x

    x = np.arange(3.0 * size, dtype=np.float32).reshape(size, 3)
    for backend, expected in (("cpu", parts), ("gpu", {size})):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        seen.clear()
        np.testing.assert_array_equal(jax.vmap(doubled)(x), 2 * x)
        assert seen - {1} == expected
