"""The folder of a run: whose it is, what every one holds, and what is read of it later."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

import jaxenv
from agents.learner import Learner
from jaxenv.environment import Environment
from jaxenv.errors import ConfigError
from runs.devices import FLAGS, MEMORY, THREADS, writes
from runs.settings import CONF, Config, stored_yaml

PACKAGES = ("jax", "jaxlib", "flax", "optax", "chex", "numpy", "orbax-checkpoint")
SWEEP = ("multirun.yaml", "sweep.csv", "optimization_results.yaml")  # a sweep's folder has one

_held: list[int] = []


def claim_folder(folder: Path) -> None:
    """Refuses a folder that already holds a run, or that another process writes into."""
    if (folder / "config.yaml").exists():
        valid = "it already holds a run; give another folder (resume=DIR goes on with a training)"
        raise ConfigError("hydra.run.dir", str(folder), valid)
    folder.mkdir(parents=True, exist_ok=True)
    hold_folder(folder)


def hold_folder(folder: Path) -> None:
    """Keeps other processes out of a folder until this program ends, however it ends.

    Raises:
        ConfigError: another one, or another job of this one, holds it.
    """
    if fcntl is None or not writes():
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        valid = "another run is writing into it; wait for its end, or give another folder"
        raise ConfigError("hydra.run.dir", str(folder), valid) from None
    except OSError:  # a file system without locks
        os.close(descriptor)
        return
    _held.append(descriptor)


def release_folders() -> None:
    """Lets go of what `hold_folder` holds."""
    while _held:
        os.close(_held.pop())


# ---- what every one holds ----------------------------------------------------------------------


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all: a killed program leaves the previous one."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    os.replace(partial, path)


def write_records(folder: Path, config: Config) -> None:
    """``config.yaml`` and ``versions.json``."""
    from omegaconf import OmegaConf

    if not writes():
        return
    if "distributed" in config:
        config = config | {"distributed": None}  # versions.json has the devices that ran it
    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))
    write_text(folder / "versions.json", json.dumps(versions(), indent=2) + "\n")


def write_resolved(
    folder: Path, env: Environment, params: Any, learner: Learner | None = None, hp: Any = None
) -> None:
    """``resolved.yaml``: every size and every number in use, defaults included."""
    from omegaconf import OmegaConf

    if not writes():
        return
    used = {"env": {"name": env.name} | _plain(env) | _plain(params)}
    if learner is not None:
        used["agent"] = {"name": learner.name} | _plain(learner) | _plain(hp)
    write_text(folder / "resolved.yaml", OmegaConf.to_yaml(OmegaConf.create(used)))


def _plain(values: Any, most: int = 1000) -> Config:
    """The fields of a dataclass as YAML has them; a large array as its shape."""
    plain = {}
    for field in dataclasses.fields(values):
        value = getattr(values, field.name)
        if isinstance(value, Environment):
            continue
        if hasattr(value, "dtype") and hasattr(value, "tolist"):
            array = np.asarray(value)
            value = array.tolist() if array.size <= most else f"array of shape {array.shape}"
        simple = value is None or isinstance(value, (bool, int, float, str, list, tuple))
        plain[field.name] = value if simple else str(value)
    return plain


def versions() -> dict[str, Any]:
    """Packages, Python, git revision of the library (if it is a checkout) and hardware."""
    import jax

    installed = {"jaxenv": jaxenv.__version__}
    for package in PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "packages": installed,
        "python": platform.python_version(),
        "git_revision": git_revision(),
        "hardware": {
            "machine": platform.machine(),
            "system": f"{platform.system()} {platform.release()}",
            "cpu": _cpu_model(),
            "cpu_count": os.cpu_count(),
            "environment": {n: os.environ[n] for n in (*MEMORY, THREADS, FLAGS) if n in os.environ},
            "devices": [f"{d.platform}: {d.device_kind}" for d in jax.devices()],
        },
    }


def git_revision() -> str | None:
    """The revision of the library's own checkout, ``+dirty`` where files differ from it."""
    root = CONF.parent
    if not (root / ".git").exists():
        return None
    try:
        run = functools.partial(
            subprocess.run, capture_output=True, text=True, check=True, timeout=10
        )
        revision = run(["git", "-C", str(root), "rev-parse", "HEAD"]).stdout.strip()
        changed = run(["git", "-C", str(root), "status", "--porcelain", "-uno"]).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return revision + ("+dirty" if changed else "")


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    model = re.search(r"model name\s*:\s*(.+)", text)
    return model.group(1) if model else platform.processor()


# ---- read later --------------------------------------------------------------------------------


def run_folder(path: str | Path, setting: str = "checkpoint") -> Path:
    """The run folder that ``path`` is, or lies in (its ``checkpoints`` or one of them).

    setting: the one that gave the path, for the refusal.
    """
    path = Path(path)
    for folder in (path, path.parent, path.parent.parent):
        if (folder / "config.yaml").is_file():
            return folder
    jobs = sorted(job.parent.name for job in path.glob("*/config.yaml"))
    if jobs:
        valid = "it holds several runs; give one of them" if jobs[1:] else "it holds a run; give it"
        if any((path / name).exists() for name in SWEEP):
            valid = "it is a sweep; give one of its jobs"
        raise ConfigError(setting, str(path), f"{valid}: {', '.join(jobs[:20])}")
    valid = "no such folder" if not path.exists() else "it holds no config.yaml of a run"
    raise ConfigError(setting, str(path), f"{valid}; give the folder of a training run")


def stored_config(folder: Path) -> Config:
    """The resolved configuration that a training run wrote into its folder."""
    path = folder / "config.yaml"
    try:
        config = stored_yaml(path)
        wanted = {"env", "agent", "plugins", "seed", "num_seeds", "precision"} - set(config)
    except Exception as error:
        valid = f"it cannot be read ({type(error).__name__}); give the folder of a training run"
        raise ConfigError("config.yaml", str(path), valid) from None
    if wanted:
        valid = f"it lacks {', '.join(sorted(wanted))}; give the folder of a training run"
        raise ConfigError("config.yaml", str(path), valid)
    return config
