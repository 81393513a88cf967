"""One file that names the inputs of a system: ``scenario=FILE.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxenv.errors import ConfigError, known_names
from runs.command_line import given_settings, override, task_overrides
from runs.settings import Config, stored_yaml


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
            valid = known_names(str(setting), sorted(set(env) - {"name"}))
            raise ConfigError(f"{path}: {name}.{setting}", sections[name][setting], valid)
    return _beside(Path(path).parent, sections[name])


def given_env_settings(env: Config) -> list[str]:
    """The names of the environment's settings that the command line or a scenario file gives."""
    names = [name[len("env.") :] for name in given_settings("env.")]
    path = override(task_overrides(), "scenario")
    return names + (list(scenario_settings(path, env)) if _is_file_name(path) else [])


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
