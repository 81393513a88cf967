"""Decisions per second of the slow NumPy versions of the systems, that the tests compare with.

They are written as the equations read, one decision at a time in Python, and are found in the
repository's ``tests/oracles``; elsewhere nothing is compared with them. They play the default
scenarios, and only environments of these are compared with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any

import jax
import numpy as np

from jaxenv import registry
from jaxenv.environment import Environment
from jaxenv.robust import NUM_DRAWS
from runs.benchmarks import Measurement, counted_rates

Simulator = Callable[[ModuleType, np.random.Generator], Iterator[int]]


@lru_cache  # two benchmarks of one run compare with the same measurement
def measure_slow(name: str, seconds: float, repeats: int, seed: int) -> Measurement | None:
    """The rate of a system's slow version under random actions, its draws counted.

    Args:
        name: of the environment.
        seconds: per repetition; 0 = not measured.
        repeats: of which the median is taken.
        seed: of the draws.

    Returns:
        Decisions per second; None where there is none, or the tests are not at hand.
    """
    if not seconds or name not in _simulators:
        return None
    try:
        oracle = import_module(f"tests.oracles.{name}")
    except ImportError:
        print("the slow NumPy versions are in the repository: run from its folder to compare")
        return None
    decisions = _simulators[name](oracle, np.random.default_rng(seed))
    rates = counted_rates(lambda: next(decisions), seconds, repeats)
    return Measurement.over(f"slow NumPy version of {name}", rates, "decisions/s")


def comparable(env: Environment, params: Any) -> bool:
    """Whether an environment is the one that the slow version is of: the default one, any dtype."""
    if env.name not in _simulators:
        return False
    default = registry.make(env.name, dtype=env.dtype)
    found, known = jax.tree.leaves(params), jax.tree.leaves(default[1])
    same = env == default[0] and len(found) == len(known)
    return same and all(map(np.array_equal, found, known))


def measure_comparable(env: Environment, params: Any, config: dict[str, Any]) -> Measurement | None:
    """`measure_slow` with the program's settings; None where it is not `comparable`."""
    if not config["reference_s"] or env.name not in _simulators:
        return None
    if not comparable(env, params):
        print(f"the slow NumPy version of {env.name} is of its defaults: not compared with")
        return None
    return measure_slow(env.name, config["reference_s"], config["repeats"], config["seed"])


def _vehicular(oracle: ModuleType, rng: np.random.Generator) -> Iterator[int]:
    config = oracle.Config.default()
    while True:
        slow = oracle.SlowVehicular(config, oracle.Scenario.random(config, rng))
        while not slow.done:
            slow.step(int(rng.choice(np.flatnonzero(slow.mask()))))
            yield 1


def _partitioning(oracle: ModuleType, rng: np.random.Generator) -> Iterator[int]:
    system = oracle.System(*oracle.blocks("vgg16_cifar10", 6))
    places = system.servers + 1
    state = oracle.State([0.0] * places, system.battery_j, [], 0.0, [0.0] * places)
    while True:
        state.R = rng.uniform(6.4e6, 16e6, system.servers).tolist()
        state.lam = float(rng.poisson(60))
        state.b = [0.0, *(15 * rng.random(system.servers) ** 4).tolist()]
        met = oracle.run(system, state, rng.integers(places, size=len(system.flops)).tolist())
        state.W, state.E = met["backlog_s"], met["remaining_energy_j"]
        yield 1


def _splitting(oracle: ModuleType, rng: np.random.Generator) -> Iterator[int]:
    system = oracle.System()
    while True:
        system.step(rng.poisson(10), rng.exponential(), 1 - rng.random())
        yield 1


def _services(oracle: ModuleType, rng: np.random.Generator) -> Iterator[int]:
    scenario = oracle.Scenario()
    while True:
        slot = oracle.random_slot(scenario, rng)
        oracle.play(scenario, slot, oracle.random_actions(scenario, rng))
        yield 1


def _robust(oracle: ModuleType, rng: np.random.Generator) -> Iterator[int]:
    _, params = registry.make("robust")
    devices, side = int(params.num_devices), float(params.half_side_m)
    bandwidth = devices * float(params.bandwidth_per_device_mhz[0])
    deadlines, risks = np.asarray(params.deadline_range_s[0]), np.asarray(params.risk_range)
    while True:
        for _ in range(NUM_DRAWS):  # the first that is feasible
            r = np.hypot(*rng.uniform(-side, side, (2, devices)))
            D, eps = rng.uniform(*deadlines), rng.uniform(*risks)
            problem = oracle.make("alexnet", r, bandwidth, D, eps)
            least = oracle.least_bandwidth(problem)
            if least.min(axis=1).sum() <= bandwidth:
                break
        possible = np.isfinite(least)
        cuts = [int(rng.choice(np.flatnonzero(row))) if row.any() else 0 for row in possible]
        oracle.fixed_partition(problem.rows(cuts))
        yield 1


_simulators: dict[str, Simulator] = {
    "vehicular": _vehicular,
    "partitioning": _partitioning,
    "splitting": _splitting,
    "services": _services,
    "robust": _robust,
}
