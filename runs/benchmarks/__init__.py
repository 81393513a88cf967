"""Benchmarks by suite and name: functions from a configuration to measurements.

A benchmark registers as ``register_benchmark(suite, name, "module:function")``; the function takes
the program's resolved configuration and returns a list of `Measurement`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from jaxenv.errors import ConfigError
from jaxenv.registry import load_object


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One measured number.

    ratio_to: the name of the measurement in the same run that ``ratio`` compares it with.
    median_of: how many repetitions ``value`` is the median of. least, most: of them.
    """

    name: str
    value: float
    unit: str
    median_of: int = 1
    ratio_to: str | None = None
    ratio: float | None = None
    least: float | None = None
    most: float | None = None

    @classmethod
    def over(
        cls, name: str, values: Sequence[float], unit: str, against: Measurement | None = None
    ) -> Measurement:
        """The median of repetitions, their range, and the ratio to another measurement."""
        value = statistics.median(values)
        ratio = (against.name, value / against.value) if against is not None else (None, None)
        return cls(name, value, unit, len(values), *ratio, min(values), max(values))


Benchmark = Callable[[dict[str, Any]], list[Measurement]]

_benchmarks: dict[str, dict[str, Benchmark | str]] = {
    "env": {
        "steps": "runs.benchmarks.environments:benchmark_steps",
        "lanes": "runs.benchmarks.vehicular:benchmark_lanes",
        "simulation": "runs.benchmarks.splitting:benchmark_simulation",
    },
    "train": {
        "updates": "runs.benchmarks.training:benchmark_updates",
        "parts": "runs.benchmarks.training:benchmark_parts",
    },
    "allocators": {"robust": "runs.benchmarks.allocators:benchmark_robust"},
}


def register_benchmark(suite: str, name: str, benchmark: Benchmark | str) -> None:
    """Adds a benchmark, a function or its path ``"module:function"``, to a suite."""
    _benchmarks.setdefault(suite, {})[name] = benchmark


def suites() -> tuple[str, ...]:
    """The names of all suites."""
    return tuple(sorted(_benchmarks))


def suite_benchmarks(suite: str) -> dict[str, Benchmark]:
    """The benchmarks of a suite by name."""
    if suite not in _benchmarks:
        raise ConfigError("suite", suite, f"choose one of {', '.join(suites())} or all")
    return {name: load_object(target) for name, target in _benchmarks[suite].items()}


@contextlib.contextmanager
def compilation_cache_off() -> Iterator[None]:
    """Within it, programs are compiled and not read from the cache.

    JAX asks whether the cache is enabled once per process, unless it is reset.
    """
    enabled = jax.config.jax_enable_compilation_cache
    _switch_cache(False)
    try:
        yield
    finally:
        _switch_cache(enabled)


def _switch_cache(enabled: bool) -> None:
    jax.config.update("jax_enable_compilation_cache", enabled)
    compilation_cache.reset_cache()


def repeated_seconds(call: Callable[[], Any], repeats: int) -> list[float]:
    """Wall times of ``call``, each waited for; call it once before to compile."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - began)
    return seconds


def median_seconds(call: Callable[[], Any], repeats: int) -> float:
    """The median of `repeated_seconds`."""
    return statistics.median(repeated_seconds(call, repeats))


def counted_rates(count: Callable[[], int], seconds: float, repeats: int) -> list[float]:
    """How much ``count`` adds up to per second, called for ``seconds`` in each repetition."""
    rates = []
    for _ in range(repeats):
        made, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            made += count()
        rates.append(made / (time.perf_counter() - began))
    return rates
