"""The policies of stored training runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from agents import registry as agents_registry
from agents.learner import Learner, Policy
from agents.spread import fetched
from jaxenv.environment import Environment
from jaxenv.errors import ConfigError
from runs.checkpoint import Checkpoints
from runs.command_line import given_settings
from runs.folders import run_folder, stored_config
from runs.scenario_files import given_env_settings
from runs.settings import Config, build_env, build_learner


def with_stored_env(config: Config) -> tuple[Config, Config]:
    """``(stored, config)``: the run's configuration, and ours in the run's environment.

    ``env.*`` given on the command line replace the run's values; another environment is refused.
    """
    path = run_folder(config["checkpoint"])
    stored = stored_config(path)
    own = config["env"]["name"]
    if own != stored["env"]["name"]:
        valid = f"the policy of {path} was trained on env={stored['env']['name']}"
        raise ConfigError("env", own, valid)
    given = {name: config["env"][name] for name in given_env_settings(config["env"])}
    scenario = config["scenario"] if given_settings("scenario") else stored["scenario"]
    return stored, config | {"env": stored["env"] | given, "scenario": scenario}


def stored_policy(config: Config, stored: Config, env: Environment, params: Any) -> Policy:
    """The policies of every seed of a checkpoint, stacked."""
    path = run_folder(config["checkpoint"])
    step = config["step"] if path == Path(config["checkpoint"]) else _step_of(config["checkpoint"])
    if not isinstance(step, int) and step not in ("last", "best"):
        raise ConfigError("step", step, "choose last, best, or an update")
    trained_env, trained_params = build_env(stored)
    learner, hp = build_learner(stored, trained_env)
    fitted, _ = build_learner(stored, env)
    target = abstract_states(learner, trained_params, hp, stored["num_seeds"])
    shapes = jax.tree.map(jnp.shape, jax.eval_shape(learner.policy, target))
    other = jax.eval_shape(fitted.policy, abstract_states(fitted, params, hp, stored["num_seeds"]))
    if shapes != jax.tree.map(jnp.shape, other):
        sizes = [f.name for f in dataclasses.fields(env) if f.init]
        name = next((n for n in sizes if getattr(env, n) != getattr(trained_env, n)), "env")
        was = getattr(trained_env, name, stored["env"])
        valid = f"the policy of {path} was trained at {was}, and does not fit"
        raise ConfigError(name, getattr(env, name, config["env"]), valid)
    checkpoints = Checkpoints(path, identity(learner))
    update, state, skipped = checkpoints.restore(target, step)
    checkpoints.close()
    for line in skipped:
        print(f"{line}; using update {update}")
    return policies_of(fitted, state)


def abstract_states(learner: Learner, params: Any, hp: Any, num_seeds: int) -> Any:
    """Shapes and dtypes of the states of ``num_seeds`` training seeds."""
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), num_seeds))
    return jax.eval_shape(jax.vmap(lambda key: learner.init(key, params, hp)), keys)


def policies_of(learner: Learner, states: Any) -> Policy:
    """The policies of states stacked over seeds, stacked likewise."""
    policies = jax.vmap(learner.policy)(states)
    return fetched(policies) if jax.process_count() > 1 else policies


def identity(learner: Learner) -> dict[str, str]:
    """What a checkpoint must have been written by, to be read again."""
    return {"env": learner.env.name, "agent": learner.name}


def _step_of(checkpoint: str) -> int | str:
    name = Path(checkpoint).name
    return int(name) if name.isdigit() else "last"


def check_choice(config: Config) -> None:
    """Refuses neither, or both, of a checkpoint and a baseline."""
    if (config["checkpoint"] is None) == (config["baseline"] is None):
        given = config["checkpoint"] or config["baseline"]
        raise ConfigError("checkpoint", given, "give either checkpoint=DIR or baseline=NAME")


def chosen_policy(config: Config) -> tuple[Environment, Any, Policy]:
    """``(env, params, policy)``: one training seed of a checkpoint, or a baseline."""
    if config["checkpoint"] is None:
        env, params = build_env(config)
        return env, params, agents_registry.baseline(config["baseline"], env)
    stored, config = with_stored_env(config)
    seed = config["training_seed"]
    if seed >= stored["num_seeds"]:
        valid = f"the run has the seeds 0 to {stored['num_seeds'] - 1}"
        raise ConfigError("training_seed", seed, valid)
    env, params = build_env(config)
    policies = stored_policy(config, stored, env, params)
    return env, params, jax.tree.map(lambda leaf: leaf[seed], policies)
