"""What the benchmarks time, and the rates they make of it, by a clock of the test."""

from __future__ import annotations

import importlib
import resource
from itertools import count

import jax
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import jaxenv
from runs import benchmarks
from runs.benchmarks import (
    Measurement,
    compilation_cache_off,
    environments,
    repeated_seconds,
    slow,
    splitting,
    training,
)
from runs.settings import CONF, build_env
from tests.oracles import robust as robust_oracle


class Clock:
    """Half a second passes between two looks at it; it keeps whether programs may be cached."""

    def __init__(self) -> None:
        self.ticks, self.cached = count(), []

    def perf_counter(self) -> float:
        self.cached.append(jax.config.jax_enable_compilation_cache)
        return next(self.ticks) / 2


def half_seconds(call, repeats):
    """In the place of `repeated_seconds`: every call takes half a second."""
    for _ in range(repeats):
        call()
    return [0.5] * repeats


def rates(measurements):
    return {m.name: m.value for m in measurements}


@pytest.mark.quick
def test_bandwidth_is_of_bytes_read_and_written(monkeypatch):
    monkeypatch.setattr(environments, "repeated_seconds", half_seconds)
    copy_bandwidths = environments.copy_bandwidths.__wrapped__
    assert copy_bandwidths(3) == pytest.approx([2 * 2**28 / 0.5 / 1e9] * 3)


@pytest.mark.quick
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="memory of a device has no page faults")
def test_bandwidth_is_not_that_of_new_pages(monkeypatch):
    """256 MiB are 65,536 pages of 4 KiB; none of them is new in a measured call."""
    faults = []

    def watched(call, repeats):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        seconds = repeated_seconds(call, repeats)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        return seconds

    monkeypatch.setattr(environments, "repeated_seconds", watched)
    environments.copy_bandwidths.__wrapped__(3)
    assert len(faults) == 1 and faults[0] < 500


SIMULATION = {"env": {"name": "splitting"}, "precision": "float32", "seed": 0, "reference_s": 0}


def test_slots_of_splitting_are_counted_and_compiled_afresh(monkeypatch):
    """One call is 1 x 2 x 20,000 slots; NumPy makes 400 slots, of one run and of 165 at once."""
    clock = Clock()
    monkeypatch.setattr(splitting, "time", clock)
    monkeypatch.setattr(splitting, "repeated_seconds", half_seconds)
    monkeypatch.setattr(splitting, "SHAPES", ((1, 2),))
    found = splitting.benchmark_simulation(SIMULATION | {"repeats": 1})
    name = "splitting, 1 seeds x 2 scenarios in one call"
    assert rates(found) == {
        "NumPy, one slot of one run at a time": 400 / 0.5,
        "NumPy, 165 runs at a time": 165 * 400 / 0.5,
        name: 2 * 20_000 / 0.5,
        f"{name}: compile time": 0.5,
    }
    assert clock.cached == [True] * 4 + [False] * 2


@pytest.mark.quick
@pytest.mark.parametrize("enabled", [True, False])
def test_the_compilation_cache_is_as_before(enabled):
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", enabled)
    try:
        with pytest.raises(ZeroDivisionError), compilation_cache_off():
            assert not jax.config.jax_enable_compilation_cache
            _ = 1 / 0
        assert jax.config.jax_enable_compilation_cache == enabled
    finally:
        jax.config.update("jax_enable_compilation_cache", before)


@pytest.mark.slow
def test_the_slow_robust_version_solves_instances_of_the_environment(monkeypatch):
    """Of 300 decisions as many are feasible as of 2,048 of the environment, 15 %, within 3 sd."""
    made, energies = [], []
    make, solve = robust_oracle.make, robust_oracle.fixed_partition

    def watched_make(*arguments):
        made.append(arguments[1:])
        return make(*arguments)

    def watched_solve(problem):
        found = solve(problem)
        energies.append(found[0])
        return found

    monkeypatch.setattr(robust_oracle, "make", watched_make)
    monkeypatch.setattr(robust_oracle, "fixed_partition", watched_solve)
    decisions = slow._robust(robust_oracle, np.random.default_rng(0))
    assert sum(next(decisions) for _ in range(300)) == len(energies) == 300

    env, params = jaxenv.make("robust")

    @jax.jit
    @jax.vmap
    def one(key):
        key_reset, key_action, key_step = jax.random.split(key, 3)
        _, state = env.reset(key_reset, params)
        action = env.action_space.sample(key_action, env.action_mask(state, params))
        instance = state.instance
        drawn = instance.B, instance.D[0], instance.eps[0], instance.r
        return env.step(key_step, state, action, params)[-1]["feasible"], drawn

    feasible, (B, D, eps, r) = one(jax.random.split(jax.random.key(0), 2048))
    assert abs(np.mean(np.isfinite(energies)) - np.mean(feasible)) < 0.07
    distances, bandwidths, deadlines, risks = (np.array(x) for x in zip(*made, strict=True))
    np.testing.assert_allclose(bandwidths, B[0], rtol=1e-6)
    for ours, theirs in ((deadlines, D), (risks, eps), (distances, r)):
        reach = np.ptp(theirs)
        np.testing.assert_allclose(ours.min(), theirs.min(), atol=0.03 * reach)
        np.testing.assert_allclose(ours.max(), theirs.max(), atol=0.03 * reach)


SYSTEMS = ("partitioning", "robust", "services", "splitting", "vehicular")


@pytest.mark.quick
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vehicular", {"num_vehicles": 2}),
        ("vehicular", {"bandwidth_hz": 5e6}),
        ("robust", {"mode": "mixed"}),
        ("robust", {"gain_db": 30.0}),
        ("splitting", {"tradeoff_v": 2.0}),
    ],
)
def test_only_a_default_environment_has_a_slow_version(name, options, capsys):
    assert slow.comparable(*jaxenv.make(name))
    env, params = jaxenv.make(name, **options)
    assert not slow.comparable(env, params)
    config = {"reference_s": 0.01, "repeats": 2, "seed": 0}
    assert slow.measure_comparable(env, params, config) is None
    line = f"the slow NumPy version of {name} is of its defaults: not compared with"
    assert capsys.readouterr().out.splitlines() == [line]


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_shipped_environments_are_compared_with_slow_versions(name, monkeypatch):
    """Also in float64, in which the slow versions compute."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("benchmark", overrides=[f"env={name}"])
    config = OmegaConf.to_container(composed, resolve=True)
    monkeypatch.setattr(slow, "measure_slow", lambda *arguments: arguments)
    env, params = build_env(config)
    assert slow.measure_comparable(env, params, config) == (name, 3, 5, 0)
    assert slow.measure_comparable(env, params, config | {"reference_s": 0}) is None
    with jax.enable_x64(True):
        assert slow.comparable(*build_env(config | {"precision": "float64"}))


def test_rates_of_a_benchmark_stand_beside_the_same_scenario_only(monkeypatch):
    """In `benchmark_steps` and `benchmark_simulation` alike."""
    monkeypatch.setattr(slow, "measure_slow", lambda *_: Measurement("slow", 2.0, "decisions/s"))
    for module in (environments, splitting):
        monkeypatch.setattr(module, "repeated_seconds", half_seconds)
    monkeypatch.setattr(environments, "copy_bandwidths", lambda repeats: (1.0,))
    monkeypatch.setattr(splitting, "SHAPES", ((1, 1),))
    config = SIMULATION | {"repeats": 1, "reference_s": 1, "num_envs": [2], "num_steps": 4}
    for options, compared in (({}, True), ({"tradeoff_v": 2.0}, False)):
        own = config | {"env": {"name": "splitting"} | options}
        for benchmark in (environments.benchmark_steps, splitting.benchmark_simulation):
            found = benchmark(own)
            assert ("slow" in {m.name for m in found}) == compared
            assert ("slow" in {m.ratio_to for m in found}) == compared


@pytest.mark.quick
def test_clocked_rates(monkeypatch):
    """Two seconds are four looks at the clock after the first; the last look ends the time."""
    clock = Clock()
    monkeypatch.setattr(benchmarks, "time", clock)
    assert repeated_seconds(lambda: 0, 3) == [0.5] * 3
    assert len(clock.cached) == 6
    made = iter(range(1, 100))
    assert benchmarks.counted_rates(lambda: next(made), 2.0, 2) == [6 / 2.5, (4 + 5 + 6) / 2.5]


WORK = {
    "partitioning": "run",
    "robust": "fixed_partition",
    "services": "play",
    "splitting": "System.step",
    "vehicular": "SlowVehicular.step",
}


@pytest.mark.quick
@pytest.mark.parametrize("name", SYSTEMS)
def test_the_slow_version_is_that_of_the_named_system(name, monkeypatch):
    """Its rate is 4 decisions in half a second, each one call of its own module."""
    calls = []

    def watch(system):
        owner = importlib.import_module(f"tests.oracles.{system}")
        *outer, last = WORK[system].split(".")
        owner = getattr(owner, outer[0]) if outer else owner
        own = getattr(owner, last)
        called = lambda *x, **y: (calls.append(system), own(*x, **y))[1]  # noqa: E731
        monkeypatch.setattr(owner, last, called)

    def counted(count, seconds, repeats):
        return [sum(count() for _ in range(4)) / 0.5] * repeats

    for system in SYSTEMS:
        watch(system)
    monkeypatch.setattr(slow, "counted_rates", counted)
    found = slow.measure_slow.__wrapped__(name, 1.0, 1, 0)
    assert calls == [name] * 4
    assert (found.value, found.unit) == (8.0, "decisions/s")


def guesses(**more):
    importlib.import_module("probe_plugin")
    shared = {"env": {"name": "guess"}, "precision": "float32", "seed": 0, "reference_s": 0}
    return shared | {"repeats": 1} | more


def test_decisions_of_steps_are_counted(monkeypatch):
    """Every step of the probe is one decision: 8 environments make 32 in 4 steps."""
    monkeypatch.setattr(environments, "repeated_seconds", half_seconds)
    monkeypatch.setattr(environments, "copy_bandwidths", lambda repeats: (16.0,))
    monkeypatch.setattr(environments, "device_counts", lambda: [])
    found = environments.benchmark_steps(guesses(num_envs=[1, 8], num_steps=4))
    assert rates(found) == {
        "memory": 16.0,
        "guess state": 16,
        "guess, floor by memory": 16e9 / (2 * 16),
        "guess at 1": 4 / 0.5,
        "guess at 8": 32 / 0.5,
    }


def test_updates_of_training_are_counted(monkeypatch):
    """Three updates a call; SAC-Discrete takes num_envs decisions in each."""
    monkeypatch.setattr(training, "repeated_seconds", half_seconds)
    agent = {"name": "sac_discrete", "num_envs": 2, "batch_size": 4, "hidden": [4]}
    found = rates(training.benchmark_updates(guesses(agent=agent, num_seeds=2, num_updates=3)))
    name = "sac_discrete on guess, 2 seeds"
    assert found[f"{name}: updates"] == 3 / 0.5
    assert found[f"{name}: decisions"] == 2 * 3 * 2 / 0.5
