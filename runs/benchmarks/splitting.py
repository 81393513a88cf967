"""Slot decisions per second of the splitting system, beside two NumPy versions in the same run."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agents.baselines.splitting import DriftPlusPenalty
from jaxenv.splitting import Splitting
from runs.benchmarks import Measurement, compilation_cache_off, repeated_seconds, slow
from runs.settings import build_env

NUMPY_RUNS = 165  # as many as figure 2 has: eleven V, three availabilities, five seeds
RATE = "slot decisions/s"
SHAPES = ((5, 33), (32, 128), (4096, 1))  # seeds, scenarios


def benchmark_simulation(config: dict[str, Any]) -> list[Measurement]:
    """Slot decisions per second of drift plus penalty.

    Measured on figure 2 (165 runs) and on 4,096 runs in one call, once of 32 seeds and 128
    scenarios and once of as many seeds; the ratios are to NumPy in float64: tuned, one slot of one
    run at a time and 165 runs at a time, and the slow version that the tests compare with. All draw
    the images, fading and availability of each slot.
    """
    env, params = build_env(config)
    if env.name != "splitting":
        return []
    repeats = config["repeats"]
    scalar = Measurement.over(
        "NumPy, one slot of one run at a time", numpy_rates(env, params, None, 400, repeats), RATE
    )
    wide = Measurement.over(
        f"NumPy, {NUMPY_RUNS} runs at a time",
        numpy_rates(env, params, NUMPY_RUNS, 400, repeats),
        RATE,
    )
    plain = slow.measure_comparable(env, params, config)
    measurements = [scalar, wide] + ([plain] if plain else [])
    references = tuple(measurements)
    policy = DriftPlusPenalty(env)
    for seeds, scenarios in SHAPES:
        length = 2_000 if seeds * scenarios > 1_000 else 20_000
        short = dataclasses.replace(env, num_slots=length, burn_in=0, chunk_slots=length // 20)
        swept = params
        if scenarios > 1:
            grid = jnp.logspace(-2, 1, scenarios, dtype=env.float_dtype)
            swept = params.replace(tradeoff_v=grid)
        keys = jax.random.split(jax.random.key(config["seed"]), seeds)
        with compilation_cache_off():
            began = time.perf_counter()
            run = jax.jit(short.simulate).lower(policy, swept, keys).compile()
            compile_s = time.perf_counter() - began
        jax.block_until_ready(run(policy, swept, keys))
        taken = repeated_seconds(lambda run=run, p=swept, k=keys: run(policy, p, k), repeats)
        rates = [seeds * scenarios * length / seconds for seconds in taken]
        name = f"splitting, {seeds} seeds x {scenarios} scenarios in one call"
        measurements += [Measurement.over(name, rates, RATE, other) for other in references]
        measurements.append(Measurement(f"{name}: compile time", compile_s, "s"))
    return measurements


def numpy_rates(
    env: Splitting, params: Any, runs: int | None, slots: int, repeats: int
) -> list[float]:
    """Slots of all runs per second of `NumpyRuns`, draws included; ``runs`` None: of `NumpyRun`."""
    rates = []
    for repeat in range(repeats):
        rng = np.random.default_rng(repeat)
        system = NumpyRun(env, params) if runs is None else NumpyRuns(env, params, runs)
        began = time.perf_counter()
        for _ in range(slots):
            images, fading = rng.poisson(10, runs), rng.exponential(size=runs)
            system.step(images, fading, 1 - rng.random(runs))
        rates.append(slots * (runs or 1) / (time.perf_counter() - began))
    return rates


class NumpyRuns:
    """Drift plus penalty on many runs at once in NumPy, float64: what one writes without JAX."""

    def __init__(self, env: Splitting, params: Any, runs: int):
        costs = env.costs(params)
        column = (-1, 1)
        self.local_s = np.asarray(costs.local_s, float).reshape(column)
        self.remote_s = np.asarray(costs.remote_s, float).reshape(column)
        self.bits = np.asarray(costs.bits, float).reshape(column)
        self.energy_j = np.asarray(costs.energy_j, float).reshape(column)
        self.p = {
            name: float(getattr(params, name))
            for name in (
                "bandwidth_hz",
                "power_min_w",
                "power_max_w",
                "delay_avg_s",
                "delay_max_s",
                "outage_eps",
                "tradeoff_v",
            )
        }
        self.snr_per_watt = float(costs.snr_per_watt)
        self.z, self.h = np.zeros(runs), np.zeros(runs)
        self.energy, self.delay, self.outage = np.zeros(runs), np.zeros(runs), np.zeros(runs)
        self.each = np.arange(runs)

    def step(self, images: np.ndarray, fading: np.ndarray, share: np.ndarray) -> np.ndarray:
        """One slot of all runs; returns the splitting points."""
        p, v = self.p, self.p["tradeoff_v"]
        g = self.snr_per_watt * fading
        least, most = np.log1p(p["power_min_w"] * g), np.log1p(p["power_max_w"] * g)
        low = (1 + p["power_min_w"] * g) * _phi(least)
        high = (1 + p["power_max_w"] * g) * _phi(most)
        c = np.clip((self.z + self.h / p["delay_max_s"]) * g / v, low, high)
        u = np.clip(_stationary(c), least, most)
        power = np.expm1(u) / g
        sending = self.bits * (images * math.log(2) / (p["bandwidth_hz"] * u))
        delay = images * self.local_s + sending + self.remote_s * (images / share)
        energy = images * self.energy_j + power * sending
        value = self.z * delay + self.h * (delay > p["delay_max_s"]) + v * energy
        split = np.argmin(value, axis=0)
        delay, energy = delay[split, self.each], energy[split, self.each]
        late = delay > p["delay_max_s"]
        self.z = np.maximum(self.z + delay - p["delay_avg_s"], 0)
        self.h = np.maximum(self.h + late - p["outage_eps"], 0)
        self.energy += energy
        self.delay += delay
        self.outage += late
        return split


class NumpyRun(NumpyRuns):
    """The same of one run: Python floats, and NumPy over the splitting points."""

    def __init__(self, env: Splitting, params: Any):
        super().__init__(env, params, 1)
        names = ("local_s", "remote_s", "bits", "energy_j")
        self.rows = tuple(getattr(self, name).reshape(-1) for name in names)
        self.z = self.h = self.energy = self.delay = self.outage = 0.0

    def step(self, images: float, fading: float, share: float) -> int:
        """One slot; returns the splitting point."""
        local_s, remote_s, bits, energy_j = self.rows
        p, v = self.p, self.p["tradeoff_v"]
        g = self.snr_per_watt * fading
        least, most = math.log1p(p["power_min_w"] * g), math.log1p(p["power_max_w"] * g)
        low = (1 + p["power_min_w"] * g) * _phi_of_one(least)
        high = (1 + p["power_max_w"] * g) * _phi_of_one(most)
        c = min(max((self.z + self.h / p["delay_max_s"]) * g / v, low), high)
        u = min(max(_stationary_of_one(c), least), most)
        power = math.expm1(u) / g
        sending = bits * (images * math.log(2) / (p["bandwidth_hz"] * u))
        delay = images * local_s + sending + remote_s * (images / share)
        energy = images * energy_j + power * sending
        value = self.z * delay + self.h * (delay > p["delay_max_s"]) + v * energy
        split = int(np.argmin(value))
        taken, late = float(delay[split]), float(delay[split] > p["delay_max_s"])
        self.z = max(self.z + taken - p["delay_avg_s"], 0.0)
        self.h = max(self.h + late - p["outage_eps"], 0.0)
        self.energy += float(energy[split])
        self.delay += taken
        self.outage += late
        return split


def _phi(u: np.ndarray) -> np.ndarray:
    small = u * u * (0.5 - u / 6 * (1 - u / 4 * (1 - u / 5 * (1 - u / 6 * (1 - u / 7)))))
    return np.where(u < 0.05, small, u + np.expm1(-u))


def _stationary(c: np.ndarray) -> np.ndarray:
    u = np.where(c <= 1, np.sqrt(2 * c), 1 + np.log1p(np.maximum(c - 1, 0) / math.e))
    for _ in range(4):
        s = (_phi(u) - c * np.exp(-u)) / u
        u = u - s / (1 - s * (1 + u) / (2 * u))
    return u


def _phi_of_one(u: float) -> float:
    if u < 0.05:
        return u * u * (0.5 - u / 6 * (1 - u / 4 * (1 - u / 5 * (1 - u / 6 * (1 - u / 7)))))
    return u + math.expm1(-u)


def _stationary_of_one(c: float) -> float:
    u = math.sqrt(2 * c) if c <= 1 else 1 + math.log1p((c - 1) / math.e)
    for _ in range(4):
        s = (_phi_of_one(u) - c * math.exp(-u)) / u
        u -= s / (1 - s * (1 + u) / (2 * u))
    return u
