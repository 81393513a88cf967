"""The command line before Hydra sees it, and Hydra's errors as one line."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from agents import registry as agents_registry
from jaxenv import registry
from jaxenv.errors import ConfigError, known_names
from runs.devices import join_processes, make_devices
from runs.folders import run_folder, stored_config
from runs.settings import (
    CONF,
    Config,
    check_names,
    environment_settings,
    learner_settings,
    stored_yaml,
)

IN_PROCESS = ("basic", "vmap")  # launchers that start no processes
REQUIRED = {  # settings without a default
    "folders": "the folder of a sweep or of runs, folders=DIR, or several, folders=[DIR1,DIR2]",
    "run": "the folder that a program wrote, run=DIR",
}
FOLDERS = ("run", "folders", "checkpoint", "resume", "training", "publish")
ELEMENT = re.compile(r"""'[^']*'|"[^"]*"|[^][,'"]+""")  # of a list, or a value by itself
FLAGS = ("-m", "--multirun", "--cfg=job", "--cfg=hydra", "--resolve", "--help", "-h")


def prepared(argv: list[str], name: str) -> list[str]:
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
    argv = [_folders_as_text(argument) for argument in argv]
    stored_at = override(argv, "resume") or override(argv, "checkpoint")
    if isinstance(stored_at, str):
        argv = _adopt(argv, stored_at, resume=bool(override(argv, "resume")))
    _check_choices(argv)
    argv = sorted(argv, key=lambda argument: not argument.startswith("-"))
    registry.load_plugins(check_names("plugins", override(argv, "plugins") or []))
    store_plugin_nodes(override(argv, "env"))
    return argv


def _folders_as_text(argument: str) -> str:
    """A setting that names folders, with those quoted that Hydra would read as something else."""
    name, equals, value = argument.partition("=")
    return name + equals + (ELEMENT.sub(_quoted, value) if name in FOLDERS else value)


def _quoted(element: re.Match[str]) -> str:
    text = element.group().strip()
    try:
        float(text)
    except ValueError:
        if text.lower() not in ("true", "false"):
            return element.group()
    return f"'{text}'"


def _prepare_jax(argv: list[str], name: str) -> None:
    """Devices and processes, before a plugin starts JAX."""
    import jax

    make_devices(override(argv, "devices"))
    if "distributed" not in stored_yaml(CONF / f"{name}.yaml"):
        return
    settings = ("coordinator", "processes", "process")
    join_processes({key: override(argv, f"distributed.{key}") for key in settings})
    launcher = override(argv, "launcher") or "basic"
    if jax.distributed.is_initialized() and launcher not in IN_PROCESS:
        valid = f"of several processes, choose {' or '.join(IN_PROCESS)}"
        raise ConfigError("launcher", launcher, valid)


def _check_choices(argv: list[str]) -> None:
    """Refuses what is no name where a group is chosen; Hydra would end with a traceback."""
    for group in (path for path in CONF.iterdir() if path.is_dir()):
        given = any(argument.startswith(f"{group.name}=") for argument in argv)
        value = override(argv, group.name) if given else ""
        if value is None and group.name == "experiment":
            continue
        if value is None or isinstance(value, bool | int | float | list | dict):
            names = ", ".join(sorted(path.stem for path in group.glob("*.yaml")))
            raise ConfigError(group.name, value, f"choose one of {names}")


def groups_paragraph(name: str) -> str:
    """The part of ``--help`` with the groups of ``conf/NAME.yaml``; empty where it has none."""
    from hydra.core.global_hydra import GlobalHydra

    loader, lines = GlobalHydra.instance().config_loader(), []
    for entry in stored_yaml(CONF / f"{name}.yaml")["defaults"]:
        for group in entry if isinstance(entry, dict) else ():
            lines.append(f"{group}: {', '.join(sorted(loader.get_group_options(group)))}")
    return "\n".join(["Groups, chosen as group=name:", "", *sorted(lines), "", ""]) if lines else ""


def override(argv: list[str], name: str) -> Any:
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
            raise ConfigError("hydra.run.dir", override(argv, "hydra.run.dir"), valid)
        adopted += [f"agent={stored['agent']['name']}"] if "agent" not in given else []
        adopted += [f"hydra.run.dir='{folder}'"]
    if "precision" not in given:
        adopted += [f"precision={stored['precision']}"]
    if "plugins" not in given and stored["plugins"]:
        adopted += [f"plugins=[{','.join(check_names('plugins', stored['plugins']))}]"]
    return adopted + argv


def store_plugin_nodes(env_choice: Any) -> None:
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


def given_settings(prefix: str = "") -> list[str]:
    """The names of the settings given on this job's command line."""
    names = [given.split("=", 1)[0] for given in task_overrides()]
    return [name for name in names if name.startswith(prefix)]


def task_overrides() -> list[str]:
    """This job's ``name=value`` of the command line."""
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task)


def resumed(config: Config, folder: Path, may_change: Collection[str] = ()) -> Config:
    """The stored configuration of ``folder`` with the settings that may change."""
    from hydra.core.hydra_config import HydraConfig

    stored, choices = stored_config(folder), HydraConfig.get().runtime.choices
    for name in given_settings():
        value, was = choices.get(name, _select(config, name)), _select(stored, name)
        if was is None and value is not None:
            was = _used(folder, name)
        top = name.split(".")[0]
        if top in may_change:
            stored[top] = config[top]
        elif name in choices and value != was:
            valid = f"the run in {folder} keeps its own settings; drop it"
            raise ConfigError(name, value, valid)
        elif value != was and name != "resume":
            names = ", ".join(sorted(may_change)) or "nothing"
            valid = f"the run in {folder} has {was}; resume may change {names}"
            raise ConfigError(name, value, valid)
    return config | stored | {"resume": config["resume"]}


def _used(folder: Path, name: str) -> Any:
    """What a run had where its configuration says null, by ``resolved.yaml``; None if unknown."""
    path = folder / "resolved.yaml"
    value = _select(stored_yaml(path), name) if path.is_file() else None
    return float(f"{value:.7g}") if isinstance(value, float) else value  # digits of float32


def _select(config: Config, name: str) -> Any:
    """The value of a dotted name; a group stands for its ``name``."""
    for part in name.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config.get("name") if isinstance(config, dict) else config


# ---- errors in one line ------------------------------------------------------------------------


def explained(error: Exception, name: str, argv: list[str]) -> str:
    """Hydra's and OmegaConf's errors as one line naming the setting and what is valid."""
    from hydra.errors import OverrideParseException
    from omegaconf.errors import MissingMandatoryValue

    text = str(error).strip()
    if isinstance(error, OverrideParseException):
        reason = re.sub(r"^Error parsing override '.*'\s|\s*See https:\S+.*", "", text)
        return str(ConfigError("argument", error.override, f"give name=value ({reason})"))
    ambiguous = re.search(r"Ambiguous value for argument '([^=']+)=([^']*)'", text)
    if ambiguous:
        valid = "give one value; with -m every one of them is run"
        return str(ConfigError(ambiguous.group(1), ambiguous.group(2), valid))
    if "hydra/launcher" in text:
        choice = override(argv, "launcher") or override(argv, "hydra/launcher")
        valid = f"install it first: pip install 'jaxenv[{choice}]'"
        return str(ConfigError("launcher", choice, valid))
    if "hydra/sweeper" in text:
        choice = override(argv, "sweeper") or override(argv, "hydra/sweeper")
        valid = f"install it first: pip install 'jaxenv[{choice}]'"
        return str(ConfigError("sweeper", choice, valid))
    missing = re.search(r"Could not find '([\w/]+?)/([^/']*)'", text)
    if missing:
        group, choice = missing.groups()
        options = getattr(error, "options", None) or _options(text)
        return str(ConfigError(group, choice, f"choose one of {', '.join(sorted(options))}"))
    unknown = re.search(r"Could not override '([^']+)'", text)
    if unknown:
        key = unknown.group(1)
        given = next((a.split("=", 1)[1] for a in argv if a.split("=", 1)[0] == key), "")
        names = _known_names(name, key, argv)
        last = key.split(".")[-1]
        valid = known_names(last, names) if names else "there is no such setting"
        return str(ConfigError(key, given, valid))
    key = getattr(error, "full_key", None)
    if key and isinstance(error, MissingMandatoryValue):
        return f"{key}: nothing is given; give {REQUIRED.get(key, f'{key}=VALUE')}"
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
