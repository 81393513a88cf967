"""How fast a learner trains: updates and decisions per second, compile time and peak memory."""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agents import replay
from agents.lanes import compiled_chunk, strong_init
from agents.sac_discrete import SACDiscrete
from runs.benchmarks import (
    Measurement,
    compilation_cache_off,
    median_seconds,
    others,
    repeated_seconds,
)
from runs.benchmarks.environments import RATE
from runs.settings import build_env, build_learner

DECISIONS = "decisions"  # the metric of a learner that counts those it took in an update
WARM_UP = 40  # updates before the parts of one are timed


def benchmark_updates(config: dict[str, Any]) -> list[Measurement]:
    """Times ``num_updates`` updates of ``num_seeds`` vmapped seeds, compiled afresh.

    Decisions are counted where the learner reports the metric ``decisions``, and compared with what
    Stable-Baselines3 trains on.
    """
    env, params = build_env(config)
    learner, hp = build_learner(config, env)
    seeds, repeats, length = config["num_seeds"], config["repeats"], config["num_updates"]
    keys = jax.random.split(jax.random.key(config["seed"]), seeds)
    axes = (0, None, None)
    chunk = compiled_chunk(learner, axes, length)

    with compilation_cache_off():
        began = time.perf_counter()
        init = jax.jit(jax.vmap(lambda *x: strong_init(learner, *x), in_axes=axes))
        states = init(keys, params, hp)
        compiled = chunk.lower(states, params, hp).compile()
        compile_s = time.perf_counter() - began
        states, _ = jax.block_until_ready(compiled(states, params, hp))
        first_s = time.perf_counter() - began

    decisions = []

    def call() -> Any:
        nonlocal states
        states, metrics = compiled(states, params, hp)
        if DECISIONS in metrics:
            decisions.append(float(metrics[DECISIONS].sum()) * length)
        return states

    taken = repeated_seconds(call, repeats)
    name = f"{learner.name} on {env.name}, {seeds} seeds"
    measurements = [
        Measurement.over(f"{name}: updates", [length / seconds for seconds in taken], "updates/s"),
        Measurement(f"{name}: compile time", compile_s, "s"),
        Measurement(f"{name}: time to first chunk of {length}", first_s, "s"),
        Measurement(f"{name}: peak memory of the process", peak_bytes() / 2**20, "MiB"),
    ]
    if decisions:
        trained = sum(decisions) / len(decisions)
        rates = [trained / seconds for seconds in taken]
        theirs = (
            others.measure_sb3(env, params, repeats, config["seed"])
            if config["reference_s"]
            else None
        )
        measurements.insert(1, Measurement.over(f"{name}: decisions", rates, RATE, theirs))
        measurements += [theirs] if theirs is not None else []
    for device in jax.devices():
        held = (device.memory_stats() or {}).get("peak_bytes_in_use")
        if held is not None:
            label = f"{name}: peak memory of {device.platform}:{device.id}"
            measurements.append(Measurement(label, held / 2**20, "MiB"))
    return measurements


def benchmark_parts(config: dict[str, Any]) -> list[Measurement]:
    """What of an update of SAC-Discrete is collecting, what is learning, and learning's floor.

    Updates with one gradient update and with the learner's own number of them are timed; what they
    differ by are gradient updates. The floor is the time of the operations that XLA counts in the
    gradient of the loss, at the rate of a large product of matrices.
    """
    env, params = build_env(config)
    learner, hp = build_learner(config, env)
    own, repeats = getattr(learner, "updates_per_iteration", 1), config["repeats"]
    if not isinstance(learner, SACDiscrete) or own == 1:
        return []
    one_s, _ = _update_seconds(learner, params, hp, config, 1)
    own_s, state = _update_seconds(learner, params, hp, config, own)
    gradient_s = (own_s - one_s) / (own - 1)
    floor_s = gradient_operations(learner, state, hp) / product_rate(repeats)
    name = f"{learner.name} on {env.name}"
    learning = f"{name}: {own} gradient updates"
    return [
        Measurement(f"{name}: collecting", 1e3 * (one_s - gradient_s), "ms/update", repeats),
        Measurement(learning, 1e3 * own * gradient_s, "ms/update", repeats),
        Measurement(
            f"{name}: floor of these by arithmetic",
            1e3 * own * floor_s,
            "ms/update",
            repeats,
            learning,
            floor_s / gradient_s,
        ),
    ]


def _update_seconds(
    learner: SACDiscrete, params: Any, hp: Any, config: dict[str, Any], gradient_updates: int
) -> tuple[float, Any]:
    """Seconds per update with a number of gradient updates, and a state after some of them."""
    variant = dataclasses.replace(
        learner, updates_per_iteration=gradient_updates, learning_starts=learner.num_envs
    )
    length = config["num_updates"]
    chunk = compiled_chunk(variant, (0, None, None), length)
    init = jax.jit(jax.vmap(lambda key: strong_init(variant, key, params, hp)))
    states = init(jax.random.key(config["seed"])[None])
    for _ in range(WARM_UP // length + 1):
        states, _ = chunk(states, params, hp)

    def call() -> Any:
        nonlocal states
        states, _ = chunk(states, params, hp)
        return states

    seconds = median_seconds(call, config["repeats"]) / length
    return seconds, jax.tree.map(lambda leaf: leaf[0], states)


def gradient_operations(learner: SACDiscrete, state: Any, hp: Any) -> float:
    """Floating-point operations of one gradient of the loss, as XLA counts them."""
    constant = jax.tree.map(np.asarray, hp)  # so that what discount 0 does not need falls away

    def gradient(networks: Any, target_critics: Any, batch: Any) -> Any:
        return jax.grad(learner.loss, has_aux=True)(networks, target_critics, batch, constant)

    batch = replay.sample(state.replay, jax.random.key(0), learner.batch_size)
    lowered = jax.jit(gradient).lower(state.networks, state.target_critics, batch)
    return lowered.compile().cost_analysis()["flops"]


def product_rate(repeats: int, size: int = 1024) -> float:
    """Floating-point operations per second of a product of two square float32 matrices."""
    matrix = jnp.ones((size, size), jnp.float32)
    product = jax.jit(lambda x: x @ x)
    jax.block_until_ready(product(matrix))
    return 2 * size**3 / median_seconds(lambda: product(matrix), repeats)


def peak_bytes() -> int:
    """The most memory this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
