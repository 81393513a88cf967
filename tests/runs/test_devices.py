"""Several devices and processes: what comes out is what one device of one process gives."""

from __future__ import annotations

import re
import types
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from agents.spread import mesh_for, shape_for
from jaxenv.errors import ConfigError
from jaxenv.registry import load_plugins
from runs import devices, evaluate, program
from runs.folders import versions
from runs.tables import read_csv
from tests.runs.conftest import TRAIN, by_slurm, run_code, run_process, run_together
from tests.runs.test_train import assert_close, assert_same_run, final_state

EIGHT = [*TRAIN, "num_updates=12", "num_seeds=8", "checkpoint_interval=3", "log_interval=1"]


def trained(*arguments: str) -> None:
    done = run_process("runs.train", *arguments)
    assert done.returncode == 0, done.stderr


def run_two(module: str, *arguments: str, ends: tuple[int, str], **options: Any) -> None:
    """Runs two processes, of which the first alone speaks. ends: their status, and what it says."""
    status, said = ends
    (first, out, error), (second, silent, other) = run_together(2, module, *arguments, **options)
    assert (first, second) == (status, status), error + other
    assert said in out and said not in silent
    assert "Traceback" not in error + other


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    """A run of `EIGHT` on one device."""
    folder = tmp_path_factory.mktemp("one") / "run"
    trained(*EIGHT, f"hydra.run.dir={folder}")
    return folder


@pytest.mark.slow
def test_eight_devices_give_the_run_of_one_and_its_checkpoints_go_on_on_two(workplace, one):
    load_plugins(["probe_plugin"])
    trained(*EIGHT, "devices=8", "hydra.run.dir=eight")
    assert_same_run(one, workplace / "eight", 8, 12)
    versions = (workplace / "eight/versions.json").read_text()
    assert versions.count('"cpu: cpu"') == 8
    trained(*EIGHT, "devices=8", "num_updates=6", "schedule_updates=12", "hydra.run.dir=parts")
    trained("resume=parts", "devices=2", "num_updates=12")
    assert_same_run(one, workplace / "parts", 8, 12)


@pytest.mark.slow
def test_two_processes_that_one_signal_stops_give_the_run_of_one_which_goes_on(workplace, one):
    load_plugins(["probe_plugin"])
    signal = {"PROBE_AT": "5", "PROBE_SIGNAL": "SIGTERM"}  # the first process alone logs
    ends = 130, f"resume={workplace / 'two'}"
    run_two("runs.train", *EIGHT, "hydra.run.dir=two", ends=ends, **signal)
    assert sorted(p.name for p in workplace.iterdir()) == ["two"]
    assert (workplace / "two/versions.json").read_text().count('"cpu: cpu"') == 2
    saved = {int(path.name) for path in (workplace / "two/checkpoints").iterdir()}
    assert 5 <= max(saved) < 12
    trained("resume=two")
    assert_same_run(one, workplace / "two", 8, 12)


@pytest.mark.slow
@pytest.mark.parametrize("failing", [0, 1])
def test_one_of_two_processes_that_fails_ends_both(workplace, failing):
    ended = run_together(2, "runs.train", *TRAIN, "hydra.run.dir=two", PROBE_FAILS=str(failing))
    assert all(status not in (0, 2, 130) for status, _, _ in ended)
    assert "the disk of one process is broken" in ended[failing][2]


@pytest.mark.deep
def test_two_processes_go_on_with_the_checkpoint_of_one_and_measure_it(workplace, one):
    load_plugins(["probe_plugin"])
    trained(*EIGHT, "num_updates=6", "schedule_updates=12", "hydra.run.dir=two")
    run_two("runs.train", "resume=two", "num_updates=12", ends=(0, "gap to bound"))
    assert_same_run(one, workplace / "two", 8, 12)
    measure = ["checkpoint=two", "num_episodes=10", "episodes_per_call=7"]
    run_two("runs.evaluate", *measure, "hydra.run.dir=both", ends=(0, "gap to bound"))
    evaluate.main([*measure, "hydra.run.dir=alone"])
    for name in ("evaluation.csv", "evaluation_seeds.csv"):
        assert_close(*(read_csv(workplace / run / name) for run in ("alone", "both")))


@pytest.mark.slow
def test_devices_of_two_processes_share_the_environments_of_one_seed(workplace):
    """Sums of floats that are compiled for others may end differently, worlds do not."""
    load_plugins(["probe_plugin"])
    seed = [*TRAIN, "agent.lr=0.01"]
    trained(*seed, "hydra.run.dir=one")
    ends = 0, "gap to bound"
    run_two(*("runs.train", *seed, "devices=4", "hydra.run.dir=two"), ends=ends, told=by_slurm)
    for name in ("metrics.csv", "evaluation.csv", "evaluation_seeds.csv"):
        assert_close(*(read_csv(workplace / run / name) for run in ("one", "two")))
    one, two = (final_state(workplace / run, 1, 4) for run in ("one", "two"))
    jax.tree.map(np.testing.assert_array_equal, one.env_state, two.env_state)
    np.testing.assert_allclose(one.weights, two.weights, rtol=1e-5, atol=1e-6)


LEARNERS = """
import jax, sys
jax.config.update("jax_num_cpu_devices", 4)
import numpy as np
import jaxenv
from agents import registry
from agents.lanes import compiled_chunk, strong_init
from agents.spread import mesh_for, sharding

def run(learner, params, hp, mesh):
    key = jax.random.split(jax.random.key(3), 1)
    state = jax.jit(jax.vmap(lambda k: strong_init(learner, k, params, hp)))(key)
    if mesh is not None:
        state = jax.device_put(state, sharding(mesh))
    chunk = compiled_chunk(learner, (0, None, None), 4, mesh)
    return jax.device_get(chunk(state, params, hp))

def numbers(key):
    is_key = jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(key) if is_key else key)

for name, env, sizes, options in CASES:
    env, params = jaxenv.make(env, **sizes)
    learner, hp = registry.learner_class(name).build(env, **options)
    mesh = mesh_for(1, learner.shared_environments)
    assert mesh.shape["environments"] == 4
    (one, told), (four, heard) = (run(learner, params, hp, m) for m in (None, mesh))
    states = (jax.tree.map(numbers, state.lanes.env_state) for state in (one, four))
    jax.tree.map(np.testing.assert_array_equal, *states)
    for metric in told:
        np.testing.assert_allclose(told[metric], heard[metric], rtol=1e-4, atol=1e-6)
    actors = (jax.tree.leaves(learner.policy(state)) for state in (one, four))
    for left, right in zip(*actors, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)
    print("same", name)
"""
SMALL = {"hidden": (8,)}
COLLECTS = SMALL | {"num_envs": 8, "learning_starts": 16, "batch_size": 8, "buffer_size": 64}
ROAD = {"num_rsus": 2, "num_vehicles": 3, "max_steps": 30, "arrival_probability": 0.3}
HISPER = {
    **{"actor_hidden": (8,), "critic_hidden": (8,), "embedding": 4, "lstm_width": 4},
    **{"num_envs": 8, "rounds": 2, "gradient_updates": 2, "batch_size": 16, "buffer_size": 64},
    **{"prefill": 32},
}
CASES = {
    "dqn": ("partitioning", {"num_blocks": 3}, COLLECTS),
    "ppo": ("partitioning", {}, SMALL | {"num_envs": 8, "rollout_length": 4}),
    "a3c": ("partitioning", {}, SMALL | {"num_workers": 8, "rollout_length": 4}),
    "sac_discrete": ("vehicular", ROAD, COLLECTS),
    "happo": ("services", {}, {"num_envs": 8, "rollout_length": 2}),
    "hisper": ("services", {}, HISPER),
}


BENCHMARK = """
import jax, json, pathlib
import numpy as np
import jaxenv
from runs import benchmark
from runs.benchmarks.environments import random_steps, spread_steps

small = ["env=partitioning", "num_envs=[4,7]", "num_steps=3", "repeats=2", "reference_s=0"]
benchmark.main(["devices=3", *small, "hydra.run.dir=there"])
assert pathlib.Path("there/figures/throughput.png").stat().st_size > 10_000
for record in json.loads(pathlib.Path("there/benchmark.json").read_text()):
    print("found", record["name"], "|", record["ratio_to"])

env, params = jaxenv.make("partitioning")
call, keys, states = spread_steps(env, params, jax.random.key(0), 6, 3, 3)
assert len(jax.tree.leaves(states)[0].devices()) == 3
after, decided, _ = call(keys, states)
for n in range(3):
    share = jax.tree.map(lambda x: x[n], (keys, states))
    one, count, _ = random_steps(env, params, *share, 3)
    assert decided[n] == count > 0
    for left, right in zip(*map(jax.tree.leaves, (one, after)), strict=True):
        is_key = jax.numpy.issubdtype(left.dtype, jax.dtypes.prng_key)
        left, right = (jax.random.key_data(x) if is_key else x for x in (left, right[n]))
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)
"""


@pytest.mark.slow
def test_a_benchmark_measures_devices_that_share_environments(workplace):
    done = run_code(BENCHMARK)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("found partitioning at")]
    floor = "partitioning, floor by memory"
    assert lines == [
        f"found partitioning at 4 | {floor}",
        "found partitioning at 4 on 2 devices | partitioning at 4",
        "found partitioning at 7 | partitioning at 4",
        f"found partitioning at 7 | {floor}",
    ]


THREADS = """
import contextlib, jax, pathlib
jax.devices()
count = 0
for path in pathlib.Path("/proc/self/task").glob("*/comm"):
    with contextlib.suppress(OSError):  # it has ended
        count += "Eigen" in path.read_text()
print(count)
"""


def shared(*names: str) -> None:
    cases = [(name, *CASES[name]) for name in names]
    done = run_code(f"CASES = {cases!r}\n{LEARNERS}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [word for name in names for word in ("same", name)]


@pytest.mark.slow
def test_environments_of_a_learner_are_those_of_one_device():
    shared("dqn", "a3c")


@pytest.mark.deep
def test_environments_of_every_learner_are_those_of_one_device():
    shared(*CASES)


@pytest.mark.slow
def test_jobs_of_a_sweep_share_the_devices(workplace):
    sweep = [*TRAIN, "-m", "agent.lr=0.01,0.1", "launcher=vmap"]
    trained(*sweep, "hydra.sweep.dir=one")
    trained(*sweep, "devices=2", "hydra.sweep.dir=two")
    for job in ("0", "1"):
        for name in ("metrics.csv", "evaluation.csv"):
            assert_close(*(read_csv(workplace / run / job / name) for run in ("one", "two")))


@pytest.mark.quick
def test_as_many_devices_as_share_the_lanes_equally_are_used():
    devices = jax.devices() * 4
    assert [mesh_for(n, devices=devices) for n in (1, 5, 7)] == [None] * 3
    assert [mesh_for(n, devices=devices[:4]).size for n in (2, 4, 6, 8, 12)] == [2, 4, 3, 4, 4]


@pytest.mark.quick
@pytest.mark.parametrize(
    ("lanes", "environments", "shape"),
    [(1, 32, (1, 8, 1)), (2, 32, (2, 4, 1)), (3, 32, (3, 2, 1)), (8, 32, (8, 1, 1))],
)
def test_devices_beyond_the_lanes_share_environments(lanes, environments, shape):
    assert tuple(mesh_for(lanes, environments, jax.devices() * 8).shape.values()) == shape


@pytest.mark.quick
@pytest.mark.parametrize(
    ("lanes", "environments", "shape"),
    [(1, 1, (1, 1, 8)), (3, 32, (1, 8, 1)), (6, 6, (2, 2, 2)), (16, 1, (8, 1, 1))],
)
def test_every_device_of_several_processes_is_in_use(lanes, environments, shape):
    devices = [types.SimpleNamespace(process_index=i // 4) for i in range(8)]
    assert shape_for(lanes, environments, devices) == shape


@pytest.mark.parametrize("count", [0, -1, "two"])
def test_a_number_of_devices_that_cannot_be_made_is_refused(capsys, count):
    with pytest.raises(SystemExit) as stop:
        program.run_program("train", lambda *_: None, [f"devices={count}"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: devices: {count!r} is not valid")


@pytest.mark.quick
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (-2, "distributed: -2 is not valid; give coordinator=HOST:PORT, processes=N and process=I"),
        ("here:1", "distributed: 'here:1' is not valid; give coordinator=HOST:PORT"),
        ({"processes": 2}, "distributed.coordinator: None is not valid; give coordinator="),
        ({"coordinator": "here:1", "processes": 2}, "distributed.process: None is not valid"),
        (
            {"coordinator": "here", "processes": 2, "process": 0},
            "distributed.coordinator: 'here' is not valid; give HOST:PORT of process 0",
        ),
        (
            {"coordinator": "here:1", "processes": 0, "process": 0},
            "distributed.processes: 0 is not valid; give an integer of at least 1",
        ),
        (
            {"coordinator": "here:1", "processes": 2, "process": 2},
            "distributed.process: 2 is not valid; give 0 to 1, as there are 2 processes",
        ),
    ],
)
def test_processes_that_cannot_be_are_refused(given, message):
    with pytest.raises(ConfigError, match="^" + re.escape(message)):
        devices.join_processes(given)


@pytest.mark.quick
def test_a_task_alone_in_its_step_is_no_process_of_several(monkeypatch):
    monkeypatch.setattr(jax.distributed, "initialize", lambda: pytest.fail("started"))
    monkeypatch.setenv("SLURM_NTASKS", "4")  # of the allocation
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    devices.join_processes({"coordinator": None, "processes": None, "process": None})


def test_processes_of_one_program_start_no_further_ones(monkeypatch, capsys):
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    with pytest.raises(SystemExit):
        program.run_program("train", lambda *_: None, ["-m", "launcher=joblib"])
    message = "error: launcher: 'joblib' is not valid; of several processes, choose basic or vmap"
    assert capsys.readouterr().err.startswith(message)


def hydra(n_jobs: int) -> types.SimpleNamespace:
    """A job of a sweep by joblib."""
    return types.SimpleNamespace(
        mode=RunMode.MULTIRUN, launcher=types.SimpleNamespace(n_jobs=n_jobs)
    )


@pytest.mark.parametrize(
    ("launcher", "n_jobs", "count"),
    [
        ({"name": "joblib", "jobs_at_once": None}, 3, 3),
        ({"name": "joblib", "jobs_at_once": None}, -1, 8),
        ({"name": "joblib", "jobs_at_once": None}, -2, 7),
        ({"name": "joblib", "jobs_at_once": 2}, -1, 2),
        ({"name": "ray", "jobs_at_once": 4}, None, 4),
        ({"name": "submitit", "jobs_at_once": None}, None, 1),
        ({"name": "vmap"}, None, 1),
    ],
)
def test_jobs_that_share_a_machine_are_counted(monkeypatch, launcher, n_jobs, count):
    monkeypatch.setattr(devices, "_cores", lambda: 8)
    monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: hydra(n_jobs)))
    assert devices.jobs_at_once({"launcher": launcher}) == count


def test_a_job_takes_its_share_of_a_machine_and_what_is_set_stays(monkeypatch):
    for name in (*devices.MEMORY, devices.THREADS, devices.FLAGS):
        monkeypatch.setenv(name, "")  # put back after the test
        monkeypatch.delenv(name)
    monkeypatch.setattr(devices, "_cores", lambda: 8)
    monkeypatch.setattr(devices, "jobs_at_once", lambda config: config["jobs"])
    devices.share_machine({"jobs": 1})
    assert versions()["hardware"]["environment"] == {}
    devices.share_machine({"jobs": 3})
    shares = {"XLA_CLIENT_MEM_FRACTION": "0.300", "NPROC": "2"}
    assert versions()["hardware"]["environment"] == shares
    monkeypatch.delenv("XLA_CLIENT_MEM_FRACTION")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    monkeypatch.setenv("NPROC", "5")
    devices.share_machine({"jobs": 3})
    kept = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "NPROC": "5"}
    assert versions()["hardware"]["environment"] == kept


def test_xla_starts_the_threads_it_is_told():
    """``NPROC`` is no documented setting of JAX."""
    for count in (1, 3):
        done = run_code(THREADS, NPROC=str(count))
        assert done.stdout.split() == [str(count)], done.stderr
