"""What the tests of all laws of `jaxenv.physics` do with one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def check_law(law, values, rtol):
    """A law keeps the dtype of its arrays, broadcasts, and agrees across precisions."""
    with jax.enable_x64(True):
        single = law(*(jnp.float32(v) for v in values))
        double = law(*(jnp.float64(v) for v in values))
        assert single.dtype == jnp.float32
        assert double.dtype == jnp.float64
        np.testing.assert_allclose(single, double, rtol=rtol)
        for position, value in enumerate(values):
            mixed = (*values[:position], jnp.float32(value), *values[position + 1 :])
            assert law(*mixed).dtype == jnp.float32
        first = jnp.full((4, 1), values[0], jnp.float32)
        rest = [jnp.full((3,), v, jnp.float32) for v in values[1:]]
        grid = jax.jit(law)(first, *rest)
        assert grid.dtype == jnp.float32
        assert grid.shape == ((4, 3) if rest else (4, 1))
        np.testing.assert_allclose(grid, single, rtol=1e-6)
