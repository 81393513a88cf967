"""How fast an environment steps: decisions per second by batch size, and bytes per environment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import chex
import jax
import jax.numpy as jnp

from agents.lanes import over_lanes
from agents.spread import mesh_for, spread
from jaxenv.environment import Environment
from runs.benchmarks import Measurement, others, repeated_seconds, slow
from runs.settings import build_env

RATE = "decisions/s"


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


def compiled_steps(
    env: Environment, params: Any, sizes: Sequence[int], num_steps: int
) -> list[Callable[..., Any]]:
    """``(params, key, states)`` to `random_steps` of each number of environments.

    They are compiled beside each other.
    """
    key = jax.random.key(0)

    def compiled(size: int) -> Callable[..., Any]:
        keys = jax.random.split(key, size)
        states = jax.eval_shape(jax.vmap(lambda k: env.reset(k, params)[1]), keys)
        return random_steps.lower(env, params, key, states, num_steps).compile()

    with ThreadPoolExecutor() as pool:
        return list(pool.map(compiled, sizes))


def spread_steps(
    env: Environment, params: Any, key: chex.PRNGKey, size: int, num_steps: int, count: int
) -> tuple[Any, chex.Array, Any]:
    """`random_steps` on ``count`` devices that share ``size`` environments equally.

    Returns:
        The compiled ``(keys, states) -> (states, decisions, rewards)``, its keys ``[count]``, and
        its states ``[count, size / count, ...]`` after ``num_steps`` steps.
    """
    axes = 0, 0
    steps = over_lanes(lambda k, x: random_steps(env, params, k, x, num_steps), axes, True)
    mesh = mesh_for(count, devices=jax.devices()[:count])
    call = jax.jit(spread(steps, mesh, axes))
    starts = jax.random.split(key, (count, size // count))
    states = jax.jit(jax.vmap(jax.vmap(lambda k: env.reset(k, params)[1])))(starts)
    keys = jax.random.split(key, count)
    return call, keys, call(keys, states)[0]


def device_counts() -> list[int]:
    """Numbers of devices beyond one, each twice the one before, and all."""
    every = jax.device_count()
    return sorted({2**n for n in range(1, every.bit_length())} | {every} - {1})


def state_bytes(state: Any) -> int:
    """Bytes of one environment's state."""
    leaves = jax.tree.leaves(jax.eval_shape(lambda x: jax.tree.map(_plain, x), state))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def _plain(leaf: chex.Array) -> chex.Array:
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def benchmark_steps(config: dict[str, Any]) -> list[Measurement]:
    """Decisions per second at each of ``num_envs``, after ``num_steps`` unmeasured steps.

    Where there are several devices, also of 2, 4, ... and all of them, beside one of them. Each is
    compared with mobile-env and the slow NumPy version, or else with the first size, and, at the
    same size, with a game of gymnax. The floor is the rate at which the state of an environment
    could be read and written once per step.
    """
    env, params = build_env(config)
    repeats, num_steps, seed = config["repeats"], config["num_steps"], config["seed"]
    reference_s, sizes = config["reference_s"], config["num_envs"]
    key = jax.random.key(seed)
    programs = compiled_steps(env, params, sizes, num_steps)
    theirs = others.measure_mobile_env(reference_s, repeats, seed)
    plain = slow.measure_comparable(env, params, config)
    against = [measurement for measurement in (theirs, plain) if measurement is not None]
    measurements = [*against]
    bandwidth = Measurement.over("memory", copy_bandwidths(repeats), "GB/s")
    state = jax.eval_shape(lambda k: env.reset(k, params)[1], key)
    moved = state_bytes(state)
    measurements.append(bandwidth)
    measurements.append(Measurement(f"{env.name} state", moved, "bytes/environment"))
    floor = Measurement(f"{env.name}, floor by memory", 1e9 * bandwidth.value / (2 * moved), RATE)
    measurements.append(floor)
    for size, steps in zip(sizes, programs, strict=True):
        keys = jax.random.split(key, size)
        _, states = jax.jit(jax.vmap(lambda k: env.reset(k, params)))(keys)
        states, *_ = steps(params, key, states)
        decided = int(steps(params, key, states)[1])
        call = partial(steps, params, key, states)
        rates = [decided / seconds for seconds in repeated_seconds(call, repeats)]
        game = others.measure_gymnax(size, num_steps, repeats, seed) if reference_s else None
        compared = [*against, game, floor] if game is not None else [*against, floor]
        measurements += [game] if game is not None else []
        name = f"{env.name} at {size}"
        measurements += [Measurement.over(name, rates, RATE, other) for other in compared]
        one = measurements[-1]
        against = against or [one]
        for count in (n for n in device_counts() if size % n == 0):
            call, keys, states = spread_steps(env, params, key, size, num_steps, count)
            decided = int(jnp.sum(call(keys, states)[1]))
            rates = [decided / s for s in repeated_seconds(partial(call, keys, states), repeats)]
            measurements.append(Measurement.over(f"{name} on {count} devices", rates, RATE, one))
    return measurements


@lru_cache
def copy_bandwidths(repeats: int) -> tuple[float, ...]:
    """GB/s at which the device reads and writes an array of 256 MiB in place.

    A new array for the sum would be timed with the pages that the system gives it.
    """
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    array = jax.block_until_ready(add(jnp.zeros(2**26, jnp.float32)))

    def call() -> chex.Array:
        nonlocal array
        array = add(array)
        return array

    taken = repeated_seconds(call, repeats)
    return tuple(2e-9 * array.nbytes / seconds for seconds in taken)
