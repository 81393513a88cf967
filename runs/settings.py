"""Settings: read, checked, and made into an environment and a learner."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import conf
from agents import registry as agents_registry
from agents.learner import Learner
from jaxenv import registry
from jaxenv.environment import Environment
from jaxenv.errors import ConfigError, known_names

CONF = Path(conf.__file__).parent

Config = dict[str, Any]


def stored_yaml(path: Path) -> Config:
    """A YAML file as a dictionary."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(OmegaConf.load(path))


def check_integer(config: Config, name: str, low: int = 1) -> int:
    """``config[name]``, an integer of at least ``low``."""
    value = config[name]
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value < 2**31:
        raise ConfigError(name, value, f"give an integer of at least {low}")
    return value


def check_names(field: str, value: Any) -> list[str]:
    """A list of names, or one name as a list."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) for n in names):
        raise ConfigError(field, value, f"give a list of names, {field}=[my_module]")
    return list(names)


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


def check_baselines(config: Config, env: Environment) -> tuple[str, ...]:
    """The names of the baselines to measure: the usual ones of the environment, or those named."""
    known = agents_registry.baseline_names(env.name)
    if config["baselines"] is None:
        return agents_registry.usual_baselines(env.name)
    names = check_names("baselines", config["baselines"])
    for name in names:
        if name not in known:
            raise ConfigError("baselines", name, known_names(name, known))
        reason = agents_registry.baseline_unsupported(name, env)
        if reason is not None:
            raise ConfigError("baselines", name, reason)
    return tuple(names)


def build_env(config: Config) -> tuple[Environment, Any]:
    """``(env, params)`` of ``config["env"]``; nulls stay at their defaults."""
    options = options_of(config["env"])
    check_sizes(registry.environment_class(config["env"]["name"]), options)
    if options.get("dtype") is None and config["precision"] == "float64":
        options["dtype"] = "float64"
    return registry.make(config["env"]["name"], **options)


def build_learner(config: Config, env: Environment) -> tuple[Learner, Any]:
    """``(learner, hp)`` of ``config["agent"]`` on an environment."""
    learner = agents_registry.learner_class(config["agent"]["name"])
    options = options_of(config["agent"])
    check_sizes(learner, options)
    return learner.build(env, **options)


def options_of(node: Config) -> Config:
    """What a configuration group says: without its name and its nulls, lists as tuples."""
    return {
        key: _frozen(value) for key, value in node.items() if key != "name" and value is not None
    }


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


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
