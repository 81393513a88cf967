"""What every program shares: Hydra's entry, one-line errors, plugins, precision and caches."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import errno
import functools
import importlib.metadata
import io
import json
import math
import os
import platform
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

import conf
import jaxenv
from agents import registry as agents_registry
from agents.learner import Learner
from jaxenv import registry
from jaxenv.environment import Environment
from jaxenv.errors import ConfigError

CONF = Path(conf.__file__).parent
IN_PROCESS = ("basic", "vmap")  # launchers that start no processes
# What JAX reads of memory and threads when it starts.
MEMORY = (
    *("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"),
    *("XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_PYTHON_CLIENT_ALLOCATOR"),
)
THREADS = "NPROC"
FLAGS = ("-m", "--multirun", "--cfg=job", "--cfg=hydra", "--resolve", "--help", "-h")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "chex", "numpy", "orbax-checkpoint")

UNWRITABLE = (errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EROFS)

Config = dict[str, Any]
Task = Callable[[Config, Path], Any]

_held: list[int] = []


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
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    argv = list(sys.argv[1:] if argv is None else argv)
    saved = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, and the error is explained here
    try:
        argv = _prepare(argv, name)
        sys.argv = [f"{name}.py", *argv]
        entry = hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)
        with contextlib.nullcontext() if writes() else contextlib.redirect_stdout(io.StringIO()):
            entry(functools.partial(_job, task))()
            after()
    except (ConfigError, HydraException, OmegaConfBaseException) as error:
        fail(_explain(error, name, argv))
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
        fail(str(ConfigError("launcher", _override(argv, "launcher"), valid)))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    finally:
        release_folders()
        sys.argv = saved[0]
        if saved[1] is None:
            os.environ.pop("HYDRA_FULL_ERROR", None)
        else:
            os.environ["HYDRA_FULL_ERROR"] = saved[1]


def fail(message: str, status: int = 2) -> None:
    """Ends the program: one line on stderr, and a status, 2 where a setting cannot be used."""
    print("error: " + " ".join(message.split()), file=sys.stderr)
    raise SystemExit(status)


def too_large(error: BaseException) -> ConfigError | None:
    """What does not fit in memory as a refusal; None for any other error."""
    text = str(error)
    exhausted = "RESOURCE_EXHAUSTED" in text and "os_error_code" not in text
    if isinstance(error, MemoryError) or exhausted:
        return ConfigError("memory", text[:100], "give smaller sizes")
    return None


def _job(task: Task, composed: Any) -> Any:
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        config = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
        config = with_scenario(config)
        set_up(config)
        folder = common_folder(folder)
        return task(config, folder)
    except (ConfigError, OmegaConfBaseException) as error:
        with contextlib.suppress(OSError, ConfigError):
            hold_folder(folder)  # it may be another run's, which has written nothing yet
            folder.rmdir()  # Hydra made it; if nothing was written there, nothing stays
        fail(_explain(error, "", []))


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
    started; `versions` has what is in force.
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


# ---- the command line, before Hydra sees it ----------------------------------------------------


def _prepare(argv: list[str], name: str) -> list[str]:
    """Refuses what is no override, adopts a stored run, and makes plugins known to Hydra."""
    for argument in argv:
        flag = argument.startswith("-")
        if argument not in FLAGS if flag else "=" not in argument:
            valid = "give name=value, -m for a sweep, or --help"
            raise ConfigError("argument", argument, valid)
        if argument.startswith(("+", "~")) and not argument[1:].startswith(("+hydra", "hydra")):
            raise ConfigError("argument", argument, "give the name of a setting, without + or ~")
    if not any(argument.startswith(("--cfg", "--help", "-h")) for argument in argv):
        _prepare_jax(argv, name)
    stored_at = _override(argv, "resume") or _override(argv, "checkpoint")
    if isinstance(stored_at, str):
        argv = _adopt(argv, stored_at, resume=bool(_override(argv, "resume")))
    _check_choices(argv)
    argv = sorted(argv, key=lambda argument: not argument.startswith("-"))
    registry.load_plugins(check_names("plugins", _override(argv, "plugins") or []))
    _store_plugin_nodes(_override(argv, "env"))
    return argv


def _prepare_jax(argv: list[str], name: str) -> None:
    """Devices and processes, before a plugin starts JAX."""
    import jax

    make_devices(_override(argv, "devices"))
    if "distributed" not in stored_yaml(CONF / f"{name}.yaml"):
        return
    settings = ("coordinator", "processes", "process")
    join_processes({key: _override(argv, f"distributed.{key}") for key in settings})
    launcher = _override(argv, "launcher") or "basic"
    if jax.distributed.is_initialized() and launcher not in IN_PROCESS:
        valid = f"of several processes, choose {' or '.join(IN_PROCESS)}"
        raise ConfigError("launcher", launcher, valid)


def _check_choices(argv: list[str]) -> None:
    """Refuses what is no name where a group is chosen; Hydra would end with a traceback."""
    for group in (path for path in CONF.iterdir() if path.is_dir()):
        given = any(argument.startswith(f"{group.name}=") for argument in argv)
        value = _override(argv, group.name) if given else ""
        if value is None and group.name == "experiment":
            continue
        if value is None or isinstance(value, bool | int | float | list | dict):
            names = ", ".join(sorted(path.stem for path in group.glob("*.yaml")))
            raise ConfigError(group.name, value, f"choose one of {names}")


def _override(argv: list[str], name: str) -> Any:
    """The value of ``name=value`` on the command line, or None."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    given = [argument for argument in argv if argument.startswith(f"{name}=")]
    return OverridesParser.create().parse_override(given[-1]).value() if given else None


def _adopt(argv: list[str], folder: str, resume: bool) -> list[str]:
    """A stored run's environment, learner and plugins, as if they stood on the command line."""
    folder = str(run_folder(folder, "resume" if resume else "checkpoint"))
    stored = stored_config(Path(folder))
    given = {argument.split("=", 1)[0] for argument in argv}
    adopted = [f"env={stored['env']['name']}"] if "env" not in given else []
    if resume:
        if {"-m", "--multirun"} & set(argv):
            raise ConfigError("resume", folder, "a sweep cannot be resumed as a whole; drop -m")
        if "hydra.run.dir" in given:
            valid = "drop it: a resumed run goes on in its own folder"
            raise ConfigError("hydra.run.dir", _override(argv, "hydra.run.dir"), valid)
        adopted += [f"agent={stored['agent']['name']}"] if "agent" not in given else []
        adopted += [f"hydra.run.dir='{folder}'"]
    if "precision" not in given:
        adopted += [f"precision={stored['precision']}"]
    if "plugins" not in given and stored["plugins"]:
        adopted += [f"plugins=[{','.join(check_names('plugins', stored['plugins']))}]"]
    return adopted + argv


def given_settings(prefix: str = "") -> list[str]:
    """The names of the settings given on this job's command line."""
    names = [override.split("=", 1)[0] for override in _task_overrides()]
    return [name for name in names if name.startswith(prefix)]


def _task_overrides() -> list[str]:
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task)


def resumed(config: Config, folder: Path, may_change: Collection[str] = ()) -> Config:
    """The stored configuration of ``folder`` with the settings that may change."""
    stored = stored_config(folder)
    for name in given_settings():
        value, was = _select(config, name), _select(stored, name)
        top = name.split(".")[0]
        if top in may_change:
            stored[top] = config[top]
        elif value != was and name != "resume":
            names = ", ".join(sorted(may_change)) or "nothing"
            valid = f"the run in {folder} has {was}; resume may change {names}"
            raise ConfigError(name, value, valid)
    return config | stored | {"resume": config["resume"]}


def _select(config: Config, name: str) -> Any:
    """The value of a dotted name; a group stands for its ``name``."""
    for part in name.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config.get("name") if isinstance(config, dict) else config


# ---- one file that names the inputs ------------------------------------------------------------


def with_scenario(config: Config) -> Config:
    """``config`` with the settings of its environment in the file ``scenario=FILE.yaml``, if given.

    What the command line sets wins. The scenario's name in tables is the stem of the file.
    """
    path = config.get("scenario")
    if not _is_file_name(path):
        return config
    given = [name[len("env.") :] for name in given_settings("env.")]
    settings = scenario_settings(path, config["env"])
    settings = {name: value for name, value in settings.items() if name not in given}
    return config | {"env": config["env"] | settings, "scenario": Path(path).stem}


def scenario_settings(path: str, env: Config) -> Config:
    """The settings of an environment in a scenario file.

    The file has a section per environment by name, with settings as ``conf/env/NAME.yaml`` has
    them. A text that names a file beside the scenario file means that file.

    Raises:
        ConfigError: the file cannot be read, has no section of the environment, or a section with a
            setting that there is not.
    """
    try:
        sections = stored_yaml(Path(path))
    except Exception as error:
        reason = getattr(error, "strerror", None) or f"it is no YAML ({type(error).__name__})"
        raise ConfigError("scenario", path, f"it cannot be read ({reason})") from None
    name = env["name"]
    if not isinstance(sections, dict) or not isinstance(sections.get(name), dict):
        has = ", ".join(map(str, sections)) if isinstance(sections, dict) else "none"
        raise ConfigError("scenario", path, f"give it a section {name!r} of settings; it has {has}")
    for setting in sections[name]:
        if setting == "name" or setting not in env:
            close = difflib.get_close_matches(str(setting), env, 1)
            hint = f"did you mean {close[0]}? " if close else ""
            valid = f"{hint}known names are {', '.join(sorted(set(env) - {'name'}))}"
            raise ConfigError(f"{path}: {name}.{setting}", sections[name][setting], valid)
    return _beside(Path(path).parent, sections[name])


def _is_file_name(value: Any) -> bool:
    return isinstance(value, str) and Path(value).suffix in (".yaml", ".yml")


def _beside(folder: Path, value: Any) -> Any:
    """``value`` with names of files in ``folder`` as their paths."""
    if isinstance(value, dict):
        return {name: _beside(folder, item) for name, item in value.items()}
    if isinstance(value, list):
        return [_beside(folder, item) for item in value]
    there = isinstance(value, str) and value and (folder / value).is_file()
    return str(folder / value) if there else value


def given_env_settings(env: Config) -> list[str]:
    """The names of the environment's settings that the command line or a scenario file gives."""
    names = [name[len("env.") :] for name in given_settings("env.")]
    path = _override(_task_overrides(), "scenario")
    return names + (list(scenario_settings(path, env)) if _is_file_name(path) else [])


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
        valid = f"it is a sweep; give one of its jobs: {', '.join(jobs[:20])}"
        raise ConfigError(setting, str(path), valid)
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


def completed(name: str, stored: Config) -> Config:
    """A stored configuration of a program with today's defaults of what it does not say.

    To be called within a job of any program.

    Raises:
        ConfigError: it has a setting that there no longer is.
    """
    from hydra import compose
    from omegaconf import OmegaConf

    registry.load_plugins(check_names("plugins", stored.get("plugins", [])))
    chosen = {g: v["name"] for g, v in stored.items() if isinstance(v, dict) and "name" in v}
    _store_plugin_nodes(chosen.get("env"))
    config = compose(name, overrides=[f"{group}={choice}" for group, choice in chosen.items()])
    return _overlaid(OmegaConf.to_container(config, resolve=True), stored)


def _overlaid(config: Config, stored: Config, prefix: str = "") -> Config:
    """``config`` with stored values, dictionaries name by name."""
    for name, value in stored.items():
        if name not in config:
            raise ConfigError(f"{prefix}{name}", value, "this version has no such setting")
        both = isinstance(value, dict) and isinstance(config[name], dict)
        value = _overlaid(config[name], value, f"{prefix}{name}.") if both else value
        config = config | {name: value}
    return config


def stored_yaml(path: Path) -> Config:
    """A YAML file as a dictionary."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(OmegaConf.load(path))


def check_names(field: str, value: Any) -> list[str]:
    """A list of names, or one name as a list."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) for n in names):
        raise ConfigError(field, value, f"give a list of names, {field}=[my_module]")
    return list(names)


def _store_plugin_nodes(env_choice: Any) -> None:
    """Gives Hydra the settings of registered environments and learners that have no YAML file."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    for name in registry.environments():
        if not (CONF / "env" / f"{name}.yaml").exists():
            names = environment_settings(registry.environment_class(name))
            store.store(group="env", name=name, node={"name": name} | dict.fromkeys(names))
    for name in agents_registry.learners():
        if not (CONF / "agent" / f"{name}.yaml").exists():
            names = learner_settings(agents_registry.learner_class(name), env_choice)
            store.store(group="agent", name=name, node={"name": name} | dict.fromkeys(names))


def environment_settings(environment: type[Environment]) -> list[str]:
    """Every size and scenario leaf a user may set."""
    sizes = [f.name for f in dataclasses.fields(environment) if f.init]
    leaves = [f.name for f in dataclasses.fields(environment().default_params())]
    return sizes + [name for name in leaves if name not in sizes]


def learner_settings(learner: type[Learner], env_choice: Any = None) -> list[str]:
    """Every size and hyperparameter a user may set."""
    sizes = [f.name for f in dataclasses.fields(learner) if f.init and f.name != "env"]
    known = registry.environments()
    for name in [env_choice] if env_choice in known else known:
        env, _ = registry.make(name)
        if learner.unsupported(env) is None:
            hp = learner(env).default_hp()
            return sizes + [f.name for f in dataclasses.fields(hp) if f.name not in sizes]
    return sizes


# ---- errors in one line ------------------------------------------------------------------------


def _explain(error: Exception, name: str, argv: list[str]) -> str:
    """Hydra's and OmegaConf's errors as one line naming the setting and what is valid."""
    from hydra.errors import OverrideParseException

    text = str(error).strip()
    if isinstance(error, OverrideParseException):
        reason = re.sub(r"^Error parsing override '.*'\s|\s*See https:\S+.*", "", text)
        return str(ConfigError("argument", error.override, f"give name=value ({reason})"))
    ambiguous = re.search(r"Ambiguous value for argument '([^=']+)=([^']*)'", text)
    if ambiguous:
        valid = "give one value; with -m every one of them is run"
        return str(ConfigError(ambiguous.group(1), ambiguous.group(2), valid))
    if "hydra/launcher" in text:
        choice = _override(argv, "launcher") or _override(argv, "hydra/launcher")
        valid = f"install it first: pip install 'jaxenv[{choice}]'"
        return str(ConfigError("launcher", choice, valid))
    if "hydra/sweeper" in text:
        choice = _override(argv, "sweeper") or _override(argv, "hydra/sweeper")
        valid = f"install it first: pip install 'jaxenv[{choice}]'"
        return str(ConfigError("sweeper", choice, valid))
    missing = re.search(r"Could not find '([\w/]+?)/([^/']+)'", text)
    if missing:
        group, choice = missing.groups()
        options = getattr(error, "options", None) or _options(text)
        return str(ConfigError(group, choice, f"choose one of {', '.join(sorted(options))}"))
    unknown = re.search(r"Could not override '([^']+)'", text)
    if unknown:
        key = unknown.group(1)
        given = next((a.split("=", 1)[1] for a in argv if a.split("=", 1)[0] == key), "")
        names = _known_names(name, key, argv)
        close = difflib.get_close_matches(key.split(".")[-1], names, 1)
        hint = f"did you mean {close[0]}? " if close else ""
        valid = f"known names are {', '.join(names)}" if names else "there is no such setting"
        return str(ConfigError(key, given, hint + valid))
    key = getattr(error, "full_key", None)
    return f"{key}: {text.splitlines()[0]}" if key else text


def _options(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.startswith("\t")]


def _known_names(name: str, key: str, argv: list[str]) -> list[str]:
    """The settings beside ``key``, composed with the choices of the command line alone."""
    from hydra import compose, initialize_config_dir
    from omegaconf import DictConfig, OmegaConf

    groups = {path.name for path in CONF.iterdir() if path.is_dir()}
    choices = [a for a in argv if a.split("=", 1)[0] in groups and "," not in a]
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose(name, overrides=choices)
        parent = OmegaConf.select(config, key.rpartition(".")[0]) if "." in key else config
        return sorted(str(k) for k in parent) if isinstance(parent, DictConfig) else []
    except Exception:
        return []


# ---- building ----------------------------------------------------------------------------------


def build_env(config: Config) -> tuple[Environment, Any]:
    """``(env, params)`` of ``config["env"]``; nulls stay at their defaults."""
    options = settings(config["env"])
    check_sizes(registry.environment_class(config["env"]["name"]), options)
    if options.get("dtype") is None and config["precision"] == "float64":
        options["dtype"] = "float64"
    return registry.make(config["env"]["name"], **options)


def build_learner(config: Config, env: Environment) -> tuple[Learner, Any]:
    """``(learner, hp)`` of ``config["agent"]`` on an environment."""
    learner = agents_registry.learner_class(config["agent"]["name"])
    options = settings(config["agent"])
    check_sizes(learner, options)
    return learner.build(env, **options)


def check_sizes(owner: type, options: Config) -> None:
    """Refuses a static field whose value has another type than the field's default."""
    for field in dataclasses.fields(owner):
        default, value = field.default, options.get(field.name)
        accepted = (int, float) if isinstance(default, float) else type(default)
        if value is None or default in (None, dataclasses.MISSING):
            continue
        if not isinstance(value, accepted) or isinstance(value, bool) > isinstance(default, bool):
            kinds = {bool: "true or false", int: "an integer", float: "a number", tuple: "a list"}
            valid = f"give {kinds.get(type(default), 'a name')}, as its default {default} is"
            raise ConfigError(field.name, value, valid)


def settings(node: Config) -> Config:
    """A configuration group without its name and its nulls, lists as tuples."""
    given = {key: _frozen(value) for key, value in node.items() if value is not None}
    given.pop("name", None)
    return given


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def check_integer(config: Config, name: str, low: int = 1) -> int:
    """``config[name]``, an integer of at least ``low``."""
    value = config[name]
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value < 2**31:
        raise ConfigError(name, value, f"give an integer of at least {low}")
    return value


def check_baselines(config: Config, env: Environment) -> tuple[str, ...]:
    """The names of the baselines to measure: the usual ones of the environment, or those named."""
    known = agents_registry.baseline_names(env.name)
    if config["baselines"] is None:
        return agents_registry.usual_baselines(env.name)
    names = check_names("baselines", config["baselines"])
    for name in names:
        if name not in known:
            valid = f"known names are {', '.join(known) or '(none)'}"
            raise ConfigError("baselines", name, valid)
        reason = agents_registry.baseline_unsupported(name, env)
        if reason is not None:
            raise ConfigError("baselines", name, reason)
    return tuple(names)


# ---- what every run folder holds ---------------------------------------------------------------


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
            "environment": {n: os.environ[n] for n in (*MEMORY, THREADS) if n in os.environ},
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


def finite(value: float | None) -> bool:
    """Whether a number is given and finite."""
    return value is not None and math.isfinite(value)
