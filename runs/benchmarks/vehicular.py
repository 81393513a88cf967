"""Where the time of a step of the vehicular environment goes, and how far it is from the floor."""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp

from jaxenv.environment import Environment
from runs.benchmarks import Measurement
from runs.benchmarks.environments import copy_bandwidths, state_bytes
from runs.settings import build_env


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
    """Turns of the event loop per decision, the lanes busy without compaction, and the floor.

    The floor is the rate at which the state of an environment could be read and written once per
    turn at the bandwidth of the memory; a step cannot do less, whatever it computes.
    """
    env, params = build_env(config)
    if env.name != "vehicular":
        return []
    bandwidth = 1e9 * statistics.median(copy_bandwidths(config["repeats"]))
    state = jax.eval_shape(lambda k: env.reset(k, params)[1], jax.random.key(0))
    moved = 2 * state_bytes(state)
    measurements = []
    for size in config["num_envs"]:
        key = jax.random.key(config["seed"])
        mean, most = _turns(env, params, key, size, config["num_steps"])
        use = 100 * float(mean) / float(most)
        floor = bandwidth / (moved * float(mean))
        name = f"vehicular at {size}"
        measurements.append(Measurement(f"{name}, turns", float(mean), "turns/decision"))
        measurements.append(Measurement(f"{name}, lane use without compaction", use, "%"))
        measurements.append(Measurement(f"{name}, floor by memory", floor, "decisions/s"))
    return measurements
