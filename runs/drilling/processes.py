"""Trainings as processes of their own, and what they leave on disk."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from runs import evaluate, program
from runs.checkpoint import FOLDER as CHECKPOINTS
from runs.checkpoint import Checkpoints
from runs.program import CONF

LONGEST_S = 900


@dataclasses.dataclass(frozen=True)
class Ended:
    """A process that has ended: its status and all it printed."""

    status: int
    text: str


def start(arguments: Sequence[str], log: Path, **options: Any) -> subprocess.Popen:
    """``python -m runs.train arguments``, whose output goes to the file ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    paths = [str(CONF.parent), os.environ.get("PYTHONPATH", "")]
    environment = {
        "JAX_COMPILATION_CACHE_DIR": str(log.parent.absolute() / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    with log.open("w") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "runs.train", *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
            **options,
        )


def wait(
    process: subprocess.Popen, seconds: float, due: Callable[[], bool] | None = None
) -> int | None:
    """The status of a process; None after ``seconds``, or as soon as ``due``."""
    end = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() > end or (due is not None and due()):
            return None
        time.sleep(0.0005 if due is not None else 0.01)
    return process.returncode


def finished(arguments: Sequence[str], folder: Path, **options: Any) -> Ended:
    """``python -m runs.train arguments`` up to its end; its output goes to ``folder/log``."""
    process = start(arguments, folder / "log", **options)
    status = wait(process, LONGEST_S)
    process.kill()
    process.wait()
    return Ended(-9 if status is None else status, (folder / "log").read_text())


def saving(run: Path) -> bool:
    """Whether a run is in the middle of writing a checkpoint."""
    folder = run / CHECKPOINTS
    try:
        return any("tmp" in entry.name for entry in os.scandir(folder))
    except FileNotFoundError:
        return False


def checkpoints_of(run: Path) -> list[int]:
    """The updates of the complete checkpoints of a run."""
    return sorted(int(p.name) for p in (run / CHECKPOINTS).glob("*") if p.name.isdigit())


def name_of(run: Path) -> str:
    """A run's folder within that of its drill."""
    return "/".join(run.parts[-2:])


def last_state(run: Path) -> list[np.ndarray]:
    """Every leaf of the state in a run's last checkpoint."""
    stored = program.stored_config(run)
    env, params = program.build_env(stored)
    learner, hp = program.build_learner(stored, env)
    checkpoints = Checkpoints(run, evaluate.identity(learner))
    target = evaluate.abstract_states(learner, params, hp, stored["num_seeds"])
    _, state, _ = checkpoints.restore(target)
    checkpoints.close()
    keys = jax.dtypes.prng_key
    return [
        np.asarray(jax.random.key_data(x) if jax.numpy.issubdtype(x.dtype, keys) else x)
        for x in jax.tree.leaves(state)
    ]
