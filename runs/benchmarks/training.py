"""How fast a learner trains: updates and decisions per second, compile time and peak memory."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import jax

from runs import program
from runs.benchmarks import Measurement, median_seconds
from runs.train import compiled_chunk, strong_init

DECISIONS = "transitions"  # the metric of a learner that counts what it collected in an update


def benchmark_updates(config: dict[str, Any]) -> list[Measurement]:
    """Times ``num_updates`` updates of ``num_seeds`` vmapped seeds, compiled afresh.

    Decisions are counted where the learner reports the metric ``transitions``.
    """
    env, params = program.build_env(config)
    learner, hp = program.build_learner(config, env)
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

    rate = length / median_seconds(call, repeats)
    name = f"{learner.name} on {env.name}, {seeds} seeds"
    measurements = [
        Measurement(f"{name}: updates", rate, "updates/s", repeats),
        Measurement(f"{name}: compile time", compile_s, "s"),
        Measurement(f"{name}: time to first chunk of {length}", first_s, "s"),
        Measurement(f"{name}: peak memory of the process", peak_bytes() / 2**20, "MiB"),
    ]
    if decisions:
        trained = rate / length * sum(decisions) / len(decisions)
        measurements.insert(1, Measurement(f"{name}: decisions", trained, "decisions/s", repeats))
    for device in jax.devices():
        held = (device.memory_stats() or {}).get("peak_bytes_in_use")
        if held is not None:
            label = f"{name}: peak memory of {device.platform}:{device.id}"
            measurements.append(Measurement(label, held / 2**20, "MiB"))
    return measurements


class compilation_cache_off:  # noqa: N801
    """Within it, programs are compiled and not read from the cache."""

    def __enter__(self) -> None:
        self._enabled = jax.config.jax_enable_compilation_cache
        jax.config.update("jax_enable_compilation_cache", False)

    def __exit__(self, *exception: object) -> None:
        jax.config.update("jax_enable_compilation_cache", self._enabled)


def peak_bytes() -> int:
    """The most memory this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
