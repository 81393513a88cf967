"""Programs of these tests run once, so compiling them fast matters more than fast programs."""

from __future__ import annotations

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def fast_compilation():
    """Compiles without most optimisations."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
