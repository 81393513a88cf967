"""Speed of what other people simulate and train with, where it is installed."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import jax

from jaxenv.environment import Environment
from runs.benchmarks import Measurement, counted_rates, repeated_seconds

MOBILE_ENV = "mobile-medium-central-v0"
GAME = "Breakout-MinAtar"
SB3_ENVS = 256
SB3_STEPS = 16  # of every environment between two updates


def measure_mobile_env(seconds: float, repeats: int, seed: int) -> Measurement | None:
    """Steps per second of mobile-env, a Python simulator, under random actions, resets counted.

    None where ``seconds``, per repetition, are 0 or its package (extra ``bench``) is not installed.
    """
    if not seconds:
        return None
    try:
        import gymnasium
        import mobile_env  # noqa: F401  (registers its environments)
    except ImportError:
        print("mobile-env is not installed; compare with it after: pip install 'jaxenv[bench]'")
        return None
    env = gymnasium.make(MOBILE_ENV)
    env.reset(seed=seed)
    env.action_space.seed(seed)

    def step() -> int:
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()
        return 1

    rates = counted_rates(step, seconds, repeats)
    return Measurement.over(f"mobile-env {MOBILE_ENV}", rates, "steps/s")


def measure_gymnax(size: int, num_steps: int, repeats: int, seed: int) -> Measurement | None:
    """Steps per second of ``size`` games of gymnax under random actions, resets counted.

    A game of MinAtar moves some hundred bytes on a grid and asks for no real numbers: a step of it
    is about the least that is asked of a simulator in JAX. None where gymnax (extra ``bench``) is
    not installed.
    """
    try:
        import gymnax
    except ImportError:
        return None
    env, params = gymnax.make(GAME)

    def one(key: jax.Array, state: Any) -> tuple[Any, jax.Array]:
        key_action, key_step = jax.random.split(key)
        action = env.action_space(params).sample(key_action)
        _, state, reward, *_ = env.step(key_step, state, action, params)
        return state, reward

    @jax.jit
    def steps(key: jax.Array, states: Any) -> tuple[Any, jax.Array]:
        def turn(states: Any, key: jax.Array) -> tuple[Any, jax.Array]:
            states, reward = jax.vmap(one)(jax.random.split(key, size), states)
            return states, reward.sum()

        states, rewards = jax.lax.scan(turn, states, jax.random.split(key, num_steps))
        return states, rewards.sum()

    key = jax.random.key(seed)
    _, states = jax.jit(jax.vmap(env.reset, (0, None)))(jax.random.split(key, size), params)
    states, _ = steps(key, states)
    taken = repeated_seconds(partial(steps, key, states), repeats)
    rates = [size * num_steps / seconds for seconds in taken]
    return Measurement.over(f"gymnax {GAME} at {size}", rates, "steps/s")


def measure_sb3(env: Environment, params: Any, repeats: int, seed: int) -> Measurement | None:
    """Decisions per second that MaskablePPO of Stable-Baselines3 trains on ``env``, on a CPU.

    Its environments are ours, through `jaxenv.adapters.sb3`: what differs is the learner, and that
    every step leaves the device. None where sb3-contrib (extra ``sb3``) is not installed, or where
    ``env`` has several agents.
    """
    try:
        from sb3_contrib import MaskablePPO
    except ImportError:
        print("sb3-contrib is not installed; compare with it after: pip install 'jaxenv[sb3]'")
        return None
    from jaxenv.adapters.sb3 import to_sb3

    if env.num_agents > 1:
        return None
    venv = to_sb3(env, params, num_envs=SB3_ENVS)
    venv.seed(seed)
    batch = SB3_ENVS * SB3_STEPS
    sizes = {"n_steps": SB3_STEPS, "batch_size": batch // 4, "n_epochs": 4}
    model = MaskablePPO("MlpPolicy", venv, seed=seed, device="cpu", **sizes)
    model.learn(batch)
    rates = []
    for _ in range(repeats):
        began = time.perf_counter()
        model.learn(2 * batch, reset_num_timesteps=False)
        rates.append(2 * batch / (time.perf_counter() - began))
    name = f"Stable-Baselines3 MaskablePPO on {env.name}"
    return Measurement.over(name, rates, "decisions/s")
