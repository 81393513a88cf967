"""Programs called in this process, with the probe plugin, into a folder of the test."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROBE = ["plugins=[probe_plugin]", "env=guess"]
TRAIN = [*PROBE, "agent=reinforce", "num_updates=4", "eval_episodes=8"]


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """An empty working directory that finds the probe plugin; the precision is put back."""
    import jax

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(HERE))
    x64 = jax.config.jax_enable_x64
    yield tmp_path
    jax.config.update("jax_enable_x64", x64)


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


def run_code(source: str, **environment: str) -> subprocess.CompletedProcess:
    """``python -c source`` with the library and the probe plugin."""
    return subprocess.run(
        [sys.executable, "-c", source],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)])} | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def given(index: int, count: int, port: int) -> tuple[list[str], dict[str, str]]:
    """Arguments, and nothing in the environment, that make a process one of several."""
    values = {"coordinator": f"localhost:{port}", "processes": count, "process": index}
    return [f"distributed.{name}={value}" for name, value in values.items()], {}


def by_slurm(index: int, count: int, port: int) -> tuple[list[str], dict[str, str]]:
    """No arguments, and what ``srun`` puts into the environment."""
    values = {"JOB_ID": 1, "STEP_NODELIST": "localhost", "STEP_NUM_TASKS": count, "NTASKS": count}
    values |= {"PROCID": index, "LOCALID": index}
    slurm = {f"SLURM_{name}": str(value) for name, value in values.items()}
    return [], slurm | {"JAX_COORDINATOR_PORT": str(port)}


def run_together(
    count: int, module: str, *arguments: str, told: Any = given, **environment: str
) -> list[tuple[int, str, str]]:
    """``(status, stdout, stderr)`` of processes that run one program together."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port = found.getsockname()[1]
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(HERE)])
    settings = [told(index, count, port) for index in range(count)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", module, *arguments, *more],
            env=os.environ | environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for more, variables in settings
    ]
    try:
        outputs = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(p.returncode, *output) for p, output in zip(processes, outputs, strict=True)]


def start_process(module: str, *arguments: str) -> subprocess.Popen:
    """``python -m module arguments`` in the working directory, not waited for."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
