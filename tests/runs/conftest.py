"""Programs called in this process, with the probe plugin, into a folder of the test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROBE = ["plugins=[probe_plugin]", "env=guess"]
TRAIN = [*PROBE, "agent=reinforce", "num_updates=4", "eval_episodes=8"]


@pytest.fixture(autouse=True, scope="session")
def compilation_cache(tmp_path_factory):
    """One cache for all processes of these tests: every program compiles once."""
    import jax

    folder = str(tmp_path_factory.getbasetemp() / "cache")
    old = {name: jax.config.values[name] for name in CACHE}
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    jax.config.update(CACHE[0], folder)
    jax.config.update(CACHE[1], 0)
    yield
    for name, value in old.items():
        jax.config.update(name, value)
    del os.environ["JAX_COMPILATION_CACHE_DIR"]
    del os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"]


CACHE = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """An empty working directory that finds the probe plugin."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(HERE))
    return tmp_path


def run_process(module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """``python -m module arguments`` in the working directory."""
    paths = os.pathsep.join([str(ROOT), str(HERE)])
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | {"PYTHONPATH": paths} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def start_process(module: str, *arguments: str) -> subprocess.Popen:
    """``python -m module arguments`` in the working directory, not waited for."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
