"""What every program shares: Hydra's entry, what is set before anything is traced, and its end."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from jaxenv import registry
from jaxenv.errors import ConfigError
from runs.command_line import REQUIRED, explained, groups_paragraph, override, prepared
from runs.devices import (
    common_folder,
    join_processes,
    make_devices,
    not_waited_for,
    share_machine,
    writes,
)
from runs.folders import hold_folder, release_folders
from runs.scenario_files import with_scenario
from runs.settings import CONF, Config, check_names

UNWRITABLE = (
    *(errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EROFS),
    *(errno.EEXIST, errno.EISDIR, errno.ENOTDIR),
)
SIZES = "num_seeds, num_envs, batch_size, buffer_size, episodes_per_call or those of env"

Task = Callable[[Config, Path], Any]


@not_waited_for()
def run_program(
    name: str,
    task: Task,
    argv: list[str] | None = None,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Composes ``conf/NAME.yaml`` with the command line and calls ``task(config, folder)``.

    A configuration that cannot be used ends the program with one line on stderr and status 2.

    Args:
        name: of the program and of its YAML file.
        task: gets the resolved configuration and its output folder; called once per job.
        argv: the command line without the program; None takes the process's own.
        after: called when all jobs are done, in this process.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    argv = list(sys.argv[1:] if argv is None else argv)
    saved = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, and the error is explained here
    try:
        argv = prepared(argv, name)
        OmegaConf.register_new_resolver("groups", partial(groups_paragraph, name), replace=True)
        sys.argv = [f"{name}.py", *argv]
        entry = hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)
        with contextlib.nullcontext() if writes() else contextlib.redirect_stdout(io.StringIO()):
            entry(partial(_job, task))()
            after()
    except (ConfigError, HydraException, OmegaConfBaseException) as error:
        fail(explained(error, name, argv))
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        fail(f"{error.filename or 'a file'}: {error.strerror}", status=1)
    except (MemoryError, RuntimeError) as error:
        if (refusal := too_large(error)) is not None:
            fail(str(refusal))
        if "slurm" not in str(error):
            raise
        valid = "this machine has no SLURM; add hydra/launcher=submitit_local, or choose joblib"
        fail(str(ConfigError("launcher", override(argv, "launcher"), valid)))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    finally:
        HydraConfig.instance().cfg = None  # what is called later is outside of any program
        release_folders()
        sys.argv = saved[0]
        if saved[1] is None:
            os.environ.pop("HYDRA_FULL_ERROR", None)
        else:
            os.environ["HYDRA_FULL_ERROR"] = saved[1]


def _job(task: Task, composed: Any) -> Any:
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        config = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
        for name, valid in REQUIRED.items():
            if config.get(name, valid) is None:
                raise ConfigError(name, None, f"give {valid}")
        config = with_scenario(config)
        set_up(config)
        folder = common_folder(folder)
        return task(config, folder)
    except (ConfigError, OmegaConfBaseException) as error:
        with contextlib.suppress(OSError, ConfigError):
            hold_folder(folder)  # it may be another run's, which has written nothing yet
            folder.rmdir()  # Hydra made it; if nothing was written there, nothing stays
        fail(explained(error, "", []))
    except (MemoryError, RuntimeError) as error:
        refusal = too_large(error)
        if refusal is None or OmegaConf.select(composed, "sweeper.name") not in (None, "basic"):
            raise  # a search counts it as a failed trial
        fail(str(refusal))


def set_up(config: Config) -> None:
    """Precision, the compilation cache and plugins: before anything is traced."""
    import jax

    precision = config["precision"]
    if precision not in ("float32", "float64"):
        raise ConfigError("precision", precision, "choose float32 or float64")
    jax.config.update("jax_enable_x64", precision == "float64")
    make_devices(config["devices"])
    share_machine(config)
    if "distributed" in config:
        join_processes(config["distributed"])
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxenv"
        jax.config.update("jax_compilation_cache_dir", str(cache))
    registry.load_plugins(check_names("plugins", config["plugins"]))


def fail(message: str, status: int = 2) -> None:
    """Ends the program: one line on stderr, and a status, 2 where a setting cannot be used."""
    print("error: " + " ".join(message.split()), file=sys.stderr)
    raise SystemExit(status)


def too_large(error: BaseException) -> ConfigError | None:
    """What does not fit in memory as a refusal; None for any other error."""
    text = str(error)
    exhausted = "RESOURCE_EXHAUSTED" in text and "os_error_code" not in text
    if isinstance(error, MemoryError) or exhausted:
        return ConfigError("memory", text[:100], f"give smaller sizes: {SIZES}")
    return None
