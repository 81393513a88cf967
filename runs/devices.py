"""What a program takes of a machine, and several processes that run one program."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxenv.errors import ConfigError
from runs.settings import Config, check_integer

# What JAX reads of memory and threads when it starts.
MEMORY = (
    *("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"),
    *("XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_PYTHON_CLIENT_ALLOCATOR"),
)
THREADS = "NPROC"
FLAGS = "XLA_FLAGS"


def make_devices(count: int | None) -> None:
    """Has JAX make ``count`` devices of this machine's processor, where it has not started yet."""
    import jax

    if count is None:
        return
    check_integer({"devices": count}, "devices")
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # it runs already
        if len(jax.devices("cpu")) != count:
            valid = f"JAX runs already, with {len(jax.devices('cpu'))}"
            raise ConfigError("devices", count, valid) from None


def share_machine(config: Config) -> None:
    """Has JAX take one job's share of threads and memory where a launcher runs several at a time.

    What the environment says already stays as it is. It works in processes where JAX has not
    started; `runs.folders.versions` has what is in force.
    """
    jobs = jobs_at_once(config)
    if jobs == 1:
        return
    if not any(name in os.environ for name in MEMORY):
        os.environ["XLA_CLIENT_MEM_FRACTION"] = f"{0.9 / jobs:.3f}"
    os.environ.setdefault(THREADS, str(max(1, _cores() // jobs)))


def jobs_at_once(config: Config) -> int:
    """Jobs that share this machine: ``launcher.jobs_at_once``, or joblib's own number of them."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    if "launcher" not in config or hydra.mode != RunMode.MULTIRUN:
        return 1
    if config["launcher"].get("jobs_at_once") is not None:
        return check_integer(config["launcher"], "jobs_at_once")
    if config["launcher"]["name"] != "joblib":
        return 1
    count = hydra.launcher.n_jobs or 1
    return count if count > 0 else max(1, _cores() + 1 + count)


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it
    return len(affinity(0)) if affinity else os.cpu_count() or 1


# ---- several processes that run one program ----------------------------------------------------


def join_processes(given: Config | None) -> None:
    """Makes this process one of several that run the program, where it is given or SLURM says so.

    given: ``coordinator`` (host:port of process 0), ``processes`` and ``process``, all or none.
    """
    import jax

    if jax.distributed.is_initialized():
        return
    if not isinstance(given, dict | None):
        valid = "give coordinator=HOST:PORT, processes=N and process=I, each as distributed.NAME"
        raise ConfigError("distributed", given, valid)
    named = {name: value for name, value in (given or {}).items() if value is not None}
    if not named:
        if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
            jax.distributed.initialize()  # JAX reads the rest from SLURM
        return
    for name in ("coordinator", "processes", "process"):
        if name not in named:
            valid = "give coordinator=HOST:PORT, processes=N and process=I together"
            raise ConfigError(f"distributed.{name}", None, valid)
    address, count, index = named["coordinator"], named["processes"], named["process"]
    if not re.fullmatch(r".+:\d+", str(address)):
        raise ConfigError("distributed.coordinator", address, "give HOST:PORT of process 0")
    check_integer({"distributed.processes": count}, "distributed.processes")
    check_integer({"distributed.process": index}, "distributed.process", low=0)
    if index >= count:
        valid = f"give 0 to {count - 1}, as there are {count} processes"
        raise ConfigError("distributed.process", index, valid)
    jax.distributed.initialize(address, count, index, cluster_detection_method="deactivate")


def writes() -> bool:
    """Whether this process writes files and shows what happens: of several, the first."""
    import jax

    return jax.process_index() == 0 if jax.distributed.is_initialized() else True


def wait_for_all(what: str) -> None:
    """Goes on when every process is here."""
    import jax
    from jax.experimental import multihost_utils

    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


@contextlib.contextmanager
def not_waited_for() -> Iterator[None]:
    """Of several processes, one that fails alone ends at once, so that the others end too.

    JAX would have it wait for them before it ends, and they wait for it.
    """
    import jax

    try:
        yield
    except BaseException as error:
        code = error.code if isinstance(error, SystemExit) else 1
        if code in (None, 0, 2, 130) or not jax.distributed.is_initialized():
            raise  # refusals and signals meet all of them
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


def common_folder(folder: Path) -> Path:
    """The output folder of the first process, whose clock may have named it differently."""
    import jax
    from jax.experimental import multihost_utils

    if not jax.distributed.is_initialized() or jax.process_count() == 1:
        return folder
    name = np.zeros(4096, np.uint8)
    text = os.fsencode(folder)
    name[: len(text)] = list(text)
    common = Path(os.fsdecode(bytes(multihost_utils.broadcast_one_to_all(name)).rstrip(b"\0")))
    if common != folder:
        with contextlib.suppress(OSError):
            folder.rmdir()
    return common
