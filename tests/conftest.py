"""Settings of all tests: most run small programs once, so they had better compile fast.

``make test-optimized`` compiles them as users' programs are compiled, which takes several times as
long.
"""

from __future__ import annotations

import gc
import os
from importlib.metadata import version
from pathlib import Path

MOST_MAPPINGS = 20_000

OPTIMIZED = os.environ.get("JAXENV_TEST_OPTIMIZED") == "1"
EMITTERS_ARE_OPTIONAL = tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 12)
if not OPTIMIZED and EMITTERS_ARE_OPTIONAL:
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")  # before JAX starts

import jax  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture(autouse=True, scope="session")
def compilation_cache(tmp_path_factory):
    """What one module, or child process, has compiled need not be compiled by the next."""
    own = str(tmp_path_factory.getbasetemp() / "cache")
    settings = {
        "jax_compilation_cache_dir": os.environ.get("JAX_COMPILATION_CACHE_DIR", own),
        "jax_persistent_cache_min_compile_time_secs": 0.2,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name.upper(), str(value))
            jax.config.update(name, value)
        yield


@pytest.fixture(autouse=True, scope="module")
def fast_compilation(request):
    """Compiles without most optimisations, here and in child processes: a third of the time.

    Modules with ``OPTIMIZED = True`` run long enough to be worth optimising, or compare what users
    compile with what is known.
    """
    unoptimized = not (OPTIMIZED or getattr(request.module, "OPTIMIZED", False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", str(unoptimized))
        jax.config.update("jax_disable_most_optimizations", unoptimized)
        yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(autouse=True, scope="module")
def forgotten_programs():
    """A compiled program takes some twenty mappings of memory, of which Linux allows a process
    65,530: a worker that kept all programs of all modules would end in a segmentation fault."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def double():
    """64-bit mode."""
    with jax.enable_x64(True):
        yield
