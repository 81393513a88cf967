"""Seeds, jobs and episodes over several devices: what comes out is what one device gives."""

from __future__ import annotations

import jax
import pytest

from agents.spread import mesh_for
from jaxenv.registry import load_plugins
from runs import program
from runs.tables import read_csv
from tests.runs.conftest import TRAIN, run_process
from tests.runs.test_train import assert_close, assert_same_run

EIGHT = [*TRAIN, "num_updates=12", "num_seeds=8", "checkpoint_interval=3", "log_interval=1"]


def trained(*arguments: str) -> None:
    done = run_process("runs.train", *arguments)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_eight_devices_give_the_run_of_one_and_its_checkpoints_go_on_on_two(workplace):
    load_plugins(["probe_plugin"])
    trained(*EIGHT, "hydra.run.dir=one")
    trained(*EIGHT, "devices=8", "hydra.run.dir=eight")
    assert_same_run(workplace / "one", workplace / "eight", 8, 12)
    versions = (workplace / "eight/versions.json").read_text()
    assert versions.count('"cpu: cpu"') == 8
    trained(*EIGHT, "devices=8", "num_updates=6", "schedule_updates=12", "hydra.run.dir=parts")
    trained("resume=parts", "devices=2", "num_updates=12")
    assert_same_run(workplace / "one", workplace / "parts", 8, 12)


@pytest.mark.slow
def test_jobs_of_a_sweep_share_the_devices(workplace):
    sweep = [*TRAIN, "-m", "agent.lr=0.01,0.1", "launcher=vmap"]
    trained(*sweep, "hydra.sweep.dir=one")
    trained(*sweep, "devices=2", "hydra.sweep.dir=two")
    for job in ("0", "1"):
        for name in ("metrics.csv", "evaluation.csv"):
            assert_close(*(read_csv(workplace / run / job / name) for run in ("one", "two")))


def test_as_many_devices_as_share_the_lanes_equally_are_used():
    devices = jax.devices() * 4
    assert [mesh_for(n, devices) for n in (1, 5, 7)] == [None] * 3
    assert [mesh_for(n, devices[:4]).size for n in (2, 4, 6, 8, 12)] == [2, 4, 3, 4, 4]


@pytest.mark.parametrize("count", [0, -1, "two"])
def test_a_number_of_devices_that_cannot_be_made_is_refused(capsys, count):
    with pytest.raises(SystemExit) as stop:
        program.run_program("train", lambda *_: None, [f"devices={count}"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: devices: {count!r} is not valid")
