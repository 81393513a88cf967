"""How fast an environment steps: decisions per second by batch size, and bytes per environment."""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp

from jaxenv.environment import Environment
from runs import program
from runs.benchmarks import Measurement, median_seconds

MOBILE_ENV = "mobile-medium-central-v0"


@partial(jax.jit, static_argnames=("env", "num_steps"))
def random_steps(
    env: Environment, params: Any, key: chex.PRNGKey, states: Any, num_steps: int
) -> tuple[Any, chex.Array, chex.Array]:
    """``num_steps`` steps of every state ``[num_envs, ...]`` under uniform valid actions.

    Returns:
        The states, the number of decisions made, automatic resets included, and the sum of all
        rewards, without which nothing but what the states depend on would be computed.
    """

    def one(key: chex.PRNGKey, state: Any) -> tuple[Any, chex.Array, chex.Array]:
        key_action, key_step = jax.random.split(key)
        action = env.action_space.sample(key_action, env.action_mask(state, params))
        _, state, reward, terminated, truncated, info = env.step(key_step, state, action, params)
        return state, info["decision_pending"] | terminated | truncated, reward

    def turn(carry: tuple[chex.PRNGKey, Any], _: None) -> tuple[tuple[chex.PRNGKey, Any], Any]:
        key, states = carry
        key, key_step = jax.random.split(key)
        num_envs = jax.tree.leaves(states)[0].shape[0]
        states, decided, reward = jax.vmap(one)(jax.random.split(key_step, num_envs), states)
        return (key, states), (jnp.sum(decided, dtype=jnp.int32), jnp.sum(reward))

    (_, states), sums = jax.lax.scan(turn, (key, states), None, length=num_steps)
    decided, reward = sums
    return states, jnp.sum(decided), jnp.sum(reward)


def state_bytes(state: Any) -> int:
    """Bytes of one environment's state."""
    leaves = jax.tree.leaves(jax.eval_shape(lambda x: jax.tree.map(_plain, x), state))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def _plain(leaf: chex.Array) -> chex.Array:
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def measure_mobile_env(config: dict[str, Any]) -> Measurement | None:
    """Steps per second of mobile-env, a Python simulator, under random actions, resets counted.

    None where its package (extra ``bench``) is not installed.
    """
    try:
        import gymnasium
        import mobile_env  # noqa: F401  (registers its environments)
    except ImportError:
        print("mobile-env is not installed; compare with it after: pip install 'jaxenv[bench]'")
        return None
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
    return Measurement(name, statistics.median(rates), "steps/s", config["repeats"])


def benchmark_steps(config: dict[str, Any]) -> list[Measurement]:
    """Decisions per second at each of ``num_envs``, after ``num_steps`` unmeasured steps.

    Ratios are to mobile-env, in steps per second, or else to the first size.
    """
    env, params = program.build_env(config)
    repeats, num_steps = config["repeats"], config["num_steps"]
    key = jax.random.key(config["seed"])
    first = measure_mobile_env(config) if config["mobile_env_s"] else None
    measurements = [] if first is None else [first]
    for size in config["num_envs"]:
        keys = jax.random.split(key, size)
        _, states = jax.jit(jax.vmap(lambda k: env.reset(k, params)))(keys)
        states, *_ = random_steps(env, params, key, states, num_steps)
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
