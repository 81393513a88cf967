"""Trainings as processes of their own, and what they leave on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import multiprocessing
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from runs.checkpoint import FOLDER as CHECKPOINTS
from runs.checkpoint import Checkpoints
from runs.folders import stored_config
from runs.policies import abstract_states, identity
from runs.settings import CONF, build_env, build_learner

RESULTS = ("metrics.csv", "evaluation.csv", "evaluation_seeds.csv", "progress.csv")
LONGEST_S = 900
MEMORY = 12 * 2**30  # bytes of address space that a `Worker` may have


@dataclasses.dataclass(frozen=True)
class Ended:
    """A program that has ended: its status and all it printed."""

    status: int
    text: str

    @property
    def errors(self) -> list[str]:
        """The lines in which it says what is wrong."""
        lines = self.text.splitlines()
        return [x.removeprefix("error: ") for x in lines if x.startswith("error: ")]


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


def called(arguments: Sequence[str], module: str = "runs.train") -> Ended:
    """A program called in this process."""
    text, status = io.StringIO(), 0
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            importlib.import_module(module).main(list(arguments))
        except SystemExit as stop:
            status = stop.code
        except Exception:
            status = 1
            traceback.print_exc()
    return Ended(status, text.getvalue())


class Worker:
    """A process that calls functions, one at a time; a lost one is replaced."""

    def __enter__(self) -> Worker:
        self._process = None
        return self

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """``function(*arguments)``; ``("hung", why)`` or ``("died", why)`` if it is lost."""
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._ours, theirs = context.Pipe()
            own = (theirs, jax.config.jax_compilation_cache_dir)
            self._process = context.Process(target=_answer, args=own, daemon=True)
            self._process.start()
            theirs.close()
        try:
            self._ours.send((function, arguments))
            if self._ours.poll(LONGEST_S):
                return self._ours.recv()
            lost = "hung", f"no end after {LONGEST_S} s"
        except (EOFError, ConnectionError):
            self._process.join()
            lost = "died", f"the process ended with {self._process.exitcode}"
        self.__exit__()
        return lost

    def __exit__(self, *exception: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def _answer(pipe: Any, cache: str | None) -> None:
    """Calls what comes through a pipe until the other side closes it."""
    with contextlib.suppress(ImportError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    jax.config.update("jax_compilation_cache_dir", cache)
    with contextlib.suppress(EOFError):
        while True:
            function, arguments = pipe.recv()
            pipe.send(function(*arguments))


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
    stored = stored_config(run)
    env, params = build_env(stored)
    learner, hp = build_learner(stored, env)
    checkpoints = Checkpoints(run, identity(learner))
    target = abstract_states(learner, params, hp, stored["num_seeds"])
    _, state, _ = checkpoints.restore(target)
    checkpoints.close()
    keys = jax.dtypes.prng_key
    return [
        np.asarray(jax.random.key_data(x) if jax.numpy.issubdtype(x.dtype, keys) else x)
        for x in jax.tree.leaves(state)
    ]


def differences(run: Path, whole: Path) -> list[str]:
    """What of a finished run is not what it is in another, bit for bit."""
    found = [name for name in RESULTS if _bytes(run / name) != _bytes(whole / name)]
    states = last_state(run), last_state(whole)
    one, other = ([(x.dtype, x.shape, x.tobytes()) for x in state] for state in states)
    return [f"{name} differs" for name in found] + ([] if one == other else ["the state differs"])


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
