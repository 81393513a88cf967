"""The installed compiler computes what the library relies on, and a known bad one is named."""

import warnings

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest

from jaxenv import compiler

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("size", [1000, 4000])
def test_sums_of_products_are_right_at_any_size(size):
    a = np.eye(16, dtype=np.float32)[np.random.default_rng(0).integers(0, 16, (8, size, 3))]
    alike = jax.jit(lambda a: 2 * jnp.sum(a[:, None] * a[None], axis=-1))(a)
    np.testing.assert_array_equal(alike, 2 * np.einsum("nbhk,mbhk->nmbh", a, a))


def test_rows_of_many_matrix_products_are_right():
    rows = np.stack([np.arange(32_769), *np.zeros((2, 32_769))], axis=1).astype(np.float32)
    eye = jnp.eye(3)
    squares = jax.jit(jax.vmap(lambda row: jnp.sum((eye @ row) ** 2)))(rows)
    np.testing.assert_array_equal(squares, rows[:, 0] ** 2)


def test_unsound_version_is_named_once_it_is_met(monkeypatch):
    monkeypatch.setattr(jaxlib, "__version__", "0.10.2")
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    with pytest.warns(RuntimeWarning, match=r"jaxlib 0\.10\.2 .* install 0\.10\.1"):
        compiler.warn_of_unsound_compiler()
    monkeypatch.setenv("XLA_FLAGS", f"--xla_dump_to=/tmp {compiler.FLAG}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiler.warn_of_unsound_compiler()
        monkeypatch.setattr(jaxlib, "__version__", "0.10.1")
        monkeypatch.delenv("XLA_FLAGS")
        compiler.warn_of_unsound_compiler()
