"""Environments by name, the library's own and those of plugins."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxenv.environment import Environment
from jaxenv.errors import ConfigError

_environments: dict[str, type[Environment] | str] = {
    "partitioning": "jaxenv.partitioning:Partitioning",
    "robust": "jaxenv.robust:Robust",
    "services": "jaxenv.services:Services",
    "splitting": "jaxenv.splitting:Splitting",
    "vehicular": "jaxenv.vehicular:Vehicular",
}


def register(name: str, environment: type[Environment] | str) -> None:
    """Makes ``make(name)`` build ``environment``: a class, or its path ``"module:Class"``."""
    _environments[name] = environment


def environments() -> tuple[str, ...]:
    """The names that `make` knows."""
    return tuple(sorted(_environments))


def environment_class(name: str) -> type[Environment]:
    """The class registered under ``name``."""
    if name not in _environments:
        raise ConfigError("env", name, f"choose one of {', '.join(environments())}")
    return load_object(_environments[name])


def make(name: str, **options: Any) -> tuple[Environment, Any]:
    """``(env, params)`` of a registered environment.

    Args:
        name: a registered name.
        **options: sizes of the environment and leaves of its scenario by name, for example
            ``num_vehicles=20, bandwidth_hz=5e6, dtype="float64"``. None is the default.

    Raises:
        ConfigError: one line naming the field, the value and what is valid.
    """
    given = {option: value for option, value in options.items() if value is not None}
    return environment_class(name).build(**given)


def load_object(target: Any) -> Any:
    """``target`` itself, or what its path ``"module:name"`` stands for."""
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def load_plugins(modules: Iterable[str] = ()) -> None:
    """Imports plugin modules (and installed ``jaxenv.plugins`` entry points): they register names.

    The working directory is searched last, so that a plugin beside the user's own files is found
    and a folder there never shadows an installed package.
    """
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    for entry in importlib.metadata.entry_points(group="jaxenv.plugins"):
        entry.load()
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name and module.split(".")[0] == error.name.split(".")[0]:
                valid = f"no such module can be imported from {folder}"
                raise ConfigError("plugins", module, valid) from None
            raise
