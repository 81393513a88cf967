"""Programs of these tests run once, so compiling them fast matters more than fast programs."""

from __future__ import annotations

import jax
import pytest

COMPILE_HEAVY = ("test_robust", "test_certificate", "test_pccp")


@pytest.fixture(autouse=True, scope="module")
def fast_compilation(request):
    """Compiles without most optimisations, which takes a third of the time."""
    if request.module.__name__.rpartition(".")[2] not in COMPILE_HEAVY:
        yield
        return
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
