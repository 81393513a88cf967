"""Settings of all tests: most run small programs once, so they had better compile fast."""

from __future__ import annotations

import os

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")  # before JAX starts

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def fast_compilation(request):
    """Compiles without most optimisations, here and in child processes: a third of the time.

    Modules with ``OPTIMIZED = True`` run long enough to be worth optimising.
    """
    unoptimized = not getattr(request.module, "OPTIMIZED", False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", str(unoptimized))
        jax.config.update("jax_disable_most_optimizations", unoptimized)
        yield
    jax.config.update("jax_disable_most_optimizations", False)
