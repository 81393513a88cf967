"""How fast an environment steps: decisions per second by batch size, and bytes per environment."""

from __future__ import annotations

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp

from jaxenv.environment import Environment
from runs import program
from runs.benchmarks import Measurement, median_seconds


@partial(jax.jit, static_argnames=("env", "num_steps"))
def random_steps(
    env: Environment, params: Any, key: chex.PRNGKey, states: Any, num_steps: int
) -> tuple[Any, chex.Array]:
    """``num_steps`` steps of every state ``[num_envs, ...]`` under uniform valid actions.

    Returns:
        The states, and the number of decisions made, automatic resets included.
    """

    def one(key: chex.PRNGKey, state: Any) -> tuple[Any, chex.Array]:
        key_action, key_step = jax.random.split(key)
        action = env.action_space.sample(key_action, env.action_mask(state, params))
        _, state, _, terminated, truncated, info = env.step(key_step, state, action, params)
        return state, info["decision_pending"] | terminated | truncated

    def turn(carry: tuple[chex.PRNGKey, Any], _: None) -> tuple[tuple[chex.PRNGKey, Any], Any]:
        key, states = carry
        key, key_step = jax.random.split(key)
        num_envs = jax.tree.leaves(states)[0].shape[0]
        states, decided = jax.vmap(one)(jax.random.split(key_step, num_envs), states)
        return (key, states), jnp.sum(decided, dtype=jnp.int32)

    (_, states), decided = jax.lax.scan(turn, (key, states), None, length=num_steps)
    return states, jnp.sum(decided)


def state_bytes(state: Any) -> int:
    """Bytes of one environment's state."""
    leaves = jax.tree.leaves(jax.eval_shape(lambda x: jax.tree.map(_plain, x), state))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def _plain(leaf: chex.Array) -> chex.Array:
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def benchmark_steps(config: dict[str, Any]) -> list[Measurement]:
    """Decisions per second at each of ``num_envs``, after ``num_steps`` unmeasured steps."""
    env, params = program.build_env(config)
    repeats, num_steps = config["repeats"], config["num_steps"]
    key = jax.random.key(config["seed"])
    first: Measurement | None = None
    measurements = []
    for size in config["num_envs"]:
        keys = jax.random.split(key, size)
        _, states = jax.jit(jax.vmap(lambda k: env.reset(k, params)))(keys)
        states, _ = random_steps(env, params, key, states, num_steps)
        decided = int(random_steps(env, params, key, states, num_steps)[1])
        call = partial(random_steps, env, params, key, states, num_steps)
        rate = decided / median_seconds(call, repeats)
        name = f"{env.name} at {size}"
        ratio = rate / first.value if first else None
        against = first.name if first else None
        measurements.append(Measurement(name, rate, "decisions/s", repeats, against, ratio))
        first = first or measurements[0]
    state = jax.eval_shape(lambda k: env.reset(k, params)[1], key)
    measurements.append(Measurement(f"{env.name} state", state_bytes(state), "bytes/environment"))
    return measurements
