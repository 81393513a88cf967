"""The vehicular environment beside a Python simulator of mobile networks, and busy lanes."""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp

from jaxenv.environment import Environment
from jaxenv.errors import ConfigError
from runs import program
from runs.benchmarks import Measurement

MOBILE_ENV = "mobile-medium-central-v0"


def benchmark_mobile_env(config: dict[str, Any]) -> list[Measurement]:
    """Steps per second of mobile-env under random actions, resets counted."""
    try:
        import gymnasium
        import mobile_env  # noqa: F401  (registers its environments)
    except ImportError:
        valid = "mobile-env is not installed; pip install 'jaxenv[bench]'"
        raise ConfigError("suite", config["suite"], valid) from None
    env = gymnasium.make(MOBILE_ENV)
    env.reset(seed=config["seed"])
    env.action_space.seed(config["seed"])
    rates = []
    for _ in range(config["repeats"]):
        steps, began = 0, time.perf_counter()
        while time.perf_counter() - began < config["mobile_env_s"]:
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            steps += 1
            if terminated or truncated:
                env.reset()
        rates.append(steps / (time.perf_counter() - began))
    name = f"mobile-env {MOBILE_ENV}"
    return [Measurement(name, statistics.median(rates), "steps/s", config["repeats"])]


@partial(jax.jit, static_argnames=("env", "size", "num_steps"))
def _turns(
    env: Environment, params: Any, key: chex.PRNGKey, size: int, num_steps: int
) -> tuple[chex.Array, chex.Array]:
    """Mean over the steps of the mean, and of the maximum, of turns over ``size`` environments."""
    _, states = jax.vmap(env.reset, (0, None))(jax.random.split(key, size), params)

    def one(key: chex.PRNGKey, state: Any) -> tuple[Any, chex.Array]:
        action = env.action_space.sample(key, env.action_mask(state, params))
        _, state, _, _, _, info = env.step(key, state, action, params)
        return state, info["turns"]

    def step(states: Any, key: chex.PRNGKey) -> tuple[Any, tuple[chex.Array, chex.Array]]:
        states, turns = jax.vmap(one)(jax.random.split(key, size), states)
        return states, (jnp.mean(turns, dtype=jnp.float32), jnp.max(turns))

    _, (mean, most) = jax.lax.scan(step, states, jax.random.split(key, num_steps))
    return jnp.mean(mean), jnp.mean(most, dtype=jnp.float32)


def benchmark_lanes(config: dict[str, Any]) -> list[Measurement]:
    """Turns of the event loop a decision needs, and what a loop to the slowest lane would run."""
    env, params = program.build_env(config)
    if env.name != "vehicular":
        return []
    measurements = []
    for size in config["num_envs"]:
        key = jax.random.key(config["seed"])
        mean, most = _turns(env, params, key, size, config["num_steps"])
        use = 100 * float(mean) / float(most)
        name = f"vehicular at {size}"
        measurements.append(Measurement(f"{name}, turns", float(mean), "turns/decision"))
        measurements.append(Measurement(f"{name}, lane use without compaction", use, "%"))
    return measurements
