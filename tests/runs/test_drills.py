"""Short forms of the drills, and what they found: each refusal, name and count as it must be."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import agents.registry
import jaxenv.registry
from agents.ppo import PPO
from jaxenv import make
from jaxenv.errors import ConfigError
from runs import drilling, drills, program, train
from runs.checkpoint import Checkpoints
from runs.drilling import Outcome, faults, folders, fuzz, processes, steps
from runs.folders import write_text
from runs.logging import CSVLogger
from runs.tables import read_csv

QUICK = [*faults.PLUGIN, "num_updates=4", "eval_episodes=4", "checkpoint_interval=2"]


TABLES = (jaxenv.registry._environments, agents.registry._learners)
for table in TABLES:
    table.pop("drill")  # importing the plugin registered it; other tests list what there is


@pytest.fixture(autouse=True)
def plugin(monkeypatch):
    """What the plugin registers, for these tests alone."""
    for table in TABLES:
        monkeypatch.setitem(table, "drill", None)
    faults.register()


def one_error(capsys, arguments: list[str], status: int) -> str:
    """The one line on stderr with which a training ends."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        train.main(arguments)
    err = capsys.readouterr().err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert stop.value.code == status and "Traceback" not in err
    return line[len("error: ") :]


# ---- the program -------------------------------------------------------------------------------


def fake(outcomes: list[Outcome], config, folder) -> list[Outcome]:
    """A drill of the test."""
    return outcomes


def test_the_report_has_a_row_per_thing_tried_and_failures_end_with_status_1(
    workplace, monkeypatch, capsys
):
    good, bad = Outcome("this", 3, "times"), Outcome("that", 1, "times", failed=2, note="why")
    for name, outcome in (("good", good), ("bad", bad)):
        drill = partial(fake, [outcome])
        drill.__doc__ = "A drill."
        monkeypatch.setitem(drilling.DRILLS, name, drill)
    drills.main(["drills=good", "hydra.run.dir=fine"])
    with pytest.raises(SystemExit) as stop:
        drills.main(["drills=[good,bad]", "hydra.run.dir=both"])
    assert stop.value.code == 1
    rows = read_csv(workplace / "both/drills.csv")
    assert [(r["drill"], r["what"], r["count"], r["failed"], r["note"]) for r in rows] == [
        ("good", "this", "3", "0", ""),
        ("bad", "that", "1", "2", "why"),
    ]
    assert json.loads((workplace / "both/versions.json").read_text())["packages"]["jax"]
    with pytest.raises(SystemExit):
        drills.main(["drills=[nothing]"])
    assert "drills: 'nothing' is not valid; known names are kills" in capsys.readouterr().err


# ---- kills -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_at_random_moments_a_training_ends_as_if_it_had_not_been(workplace):
    drills.main(
        [
            *("drills=kills", "training_kills=2", "sweep_kills=0", "kill_updates=6", "workers=1"),
            "hydra.run.dir=drills",
        ]
    )
    kills = read_csv(workplace / "drills/kills.csv")
    assert len(kills) == 2
    assert all(int(row["lost_updates"] or 0) <= 3 for row in kills)
    first, second = read_csv(workplace / "drills/drills.csv")
    assert (first["count"], first["failed"], second["failed"]) == ("2", "0", "0")


def test_a_run_that_differs_is_told(workplace):
    for name, lr in (("one", 0.1), ("same", 0.1), ("other", 0.2)):
        train.main([*QUICK, f"agent.lr={lr}", f"hydra.run.dir={name}"])
    assert processes.differences(workplace / "same", workplace / "one") == []
    assert "the state differs" in processes.differences(workplace / "other", workplace / "one")


# ---- checkpoints and folders -------------------------------------------------------------------


@pytest.mark.slow
def test_damaged_and_foreign_checkpoints(tmp_path, monkeypatch):
    kept = ("eight bytes changed", "not a checkpoint")
    monkeypatch.setattr(folders, "DAMAGE", {name: folders.DAMAGE[name] for name in kept})
    outcomes = folders.damaged_checkpoints({}, tmp_path)
    assert [(o.count, o.failed, o.note) for o in outcomes if o.failed] == []
    assert [o.what for o in outcomes][:2] == list(kept) and len(outcomes) == 5


@pytest.mark.deep
def test_full_disks_and_read_only_folders(tmp_path):
    outcomes = folders.full_and_read_only({}, tmp_path)
    if outcomes[0].note.startswith("skipped"):
        pytest.skip(outcomes[0].note)
    assert len(outcomes) == 4
    assert [(o.count, o.failed) for o in outcomes] == [(1, 0)] * 4, outcomes


def test_a_full_disk_ends_a_run_in_one_line_and_keeps_the_last_checkpoint(
    workplace, monkeypatch, capsys
):
    log = CSVLogger.log

    def full(self, update, metrics):
        if update == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        log(self, update, metrics)

    with monkeypatch.context() as patch:
        patch.setattr(CSVLogger, "log", full)
        line = one_error(capsys, [*QUICK, "hydra.run.dir=run"], status=1)
    assert line == f"{workplace}/run/metrics.csv: No space left on device"
    assert processes.checkpoints_of(workplace / "run") == [2]
    train.main(["resume=run"])
    train.main([*QUICK, "hydra.run.dir=whole"])
    assert processes.differences(workplace / "run", workplace / "whole") == []


def test_what_a_full_disk_does_to_a_save_is_an_oserror(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, {})
    text = "RESOURCE_EXHAUSTED: Failed to write: No space left on device [os_error_code='28']"

    def full(*arguments, **options):
        raise ValueError(text)

    monkeypatch.setattr(checkpoints._manager, "save", full)
    with pytest.raises(OSError, match="No space left on device") as error:
        checkpoints.save(7, {"x": jnp.zeros(2)})
    assert (error.value.errno, error.value.filename) == (28, f"{checkpoints.folder}/7")
    assert program.too_large(error.value) is None


def test_a_folder_held_by_another_run_is_refused(workplace, capsys):
    (workplace / "run").mkdir()
    held = os.open(workplace / "run", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    line = one_error(capsys, [*QUICK, "hydra.run.dir=run"], status=2)
    assert line == (
        f"hydra.run.dir: '{workplace}/run' is not valid; another run is writing into it; wait for "
        "its end, or give another folder"
    )
    assert list((workplace / "run").iterdir()) == []  # there still, for the first run
    os.close(held)
    train.main([*QUICK, "hydra.run.dir=run"])


def test_a_killed_write_leaves_the_previous_file(tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    write_text(path, "first")

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", killed)
        write_text(path, "second")
    assert path.read_text() == "first"
    write_text(path, "second")
    assert path.read_text() == "second"


# ---- NaN ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["reward", "gradient of the critic"])
def test_nan_is_named_where_it_came_from(workplace, capsys, what):
    """A critic's gradient leaves the policy finite in its own update: it must be seen there."""
    setting, update, name = faults.FAULTS[what]
    line = one_error(capsys, [*faults.SETTINGS, setting, "hydra.run.dir=run"], status=1)
    assert f": {name}" in line
    assert f"of seed 0 is not finite after update {update}" in line
    assert "the last good state is the checkpoint of update 10; " in line
    assert processes.checkpoints_of(workplace / "run") == [5, 10]
    assert all(np.isfinite(x).all() for x in processes.last_state(workplace / "run"))


# ---- fuzz --------------------------------------------------------------------------------------


def test_every_setting_is_drawn_and_of_every_kind():
    found = {kind: fuzz.fields(kind) for kind in ("traced", "program")}
    names = {(field.name, field.field) for field in found["traced"]}
    assert {("vehicular", "bandwidth_hz"), ("dqn", "epsilon")} <= names
    assert {"seed", "num_updates", "precision", "launcher"} <= {f.field for f in found["program"]}
    drawn = fuzz.examples(found["program"], 6, 0)
    assert {len(values) for values in drawn} == {len(found["program"])}
    kinds = {type(value) for values in drawn for value in values}
    assert {int, float, str, bool, list} <= kinds


@pytest.mark.slow
def test_draws_run_or_are_refused_in_one_line():
    found = [f for f in fuzz.fields("traced") if f.name == "partitioning"]
    tried = [
        (field.field, value, *fuzz.attempt(field, value))
        for values in fuzz.examples(found, 2, 1)
        for field, value in zip(found, values, strict=True)
    ]
    assert {outcome for *_, outcome, _ in tried} == {"ran", "refused"}, tried


def test_an_outcome_counts_what_is_neither():
    field = fuzz.Field("env", "robust", "kappa", 1.0, False)
    rows = [
        {"group": "env", "name": "robust", "field": "kappa", "value": "1", "outcome": o, "what": o}
        for o in ("ran", "refused", "traceback")
    ]
    outcome = fuzz.outcome("traced", [field], rows)
    assert (outcome.count, outcome.failed) == (2, 1)
    assert outcome.note.startswith("1 ran, 1 refused; 1 of 1 settings; kappa=1: traceback")


def test_what_is_larger_than_the_memory_is_refused(workplace, capsys):
    line = one_error(capsys, [*QUICK, "agent.num_envs=2000000000", "num_seeds=100"], status=2)
    assert line.startswith("memory: '")
    assert line.endswith("GiB; give smaller sizes")
    state = {"x": jax.ShapeDtypeStruct((2**50,), jnp.float32)}
    with pytest.raises(ConfigError, match="4,194,304.0 GiB of training state"):
        train.check_memory(state)
    assert "give smaller" in str(program.too_large(MemoryError("Unable to allocate 8 TiB")))


def test_sizes_are_integers_of_32_bits():
    """10^12 steps overflowed inside jit, with a traceback."""
    env, _ = make("partitioning")
    for build in (partial(PPO, env), partial(make, "partitioning")):
        name = "rollout_length" if build.func is PPO else "num_servers"
        with pytest.raises(ConfigError, match=f"^{name}: 1000000000000 is not valid; give an int"):
            build(**{name: 10**12})


# ---- steps -------------------------------------------------------------------------------------


def test_long_play_stops_at_the_first_bad_number():
    env = faults.Guess()
    states = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 5))[1]
    params = env.default_params()
    _, bad, turns = steps.play(env, params, jax.random.key(1), states, 20)
    assert int(turns) == 20 and not any(map(int, bad.values()))
    params = dataclasses.replace(params, nan_step=jnp.int32(3))
    _, bad, turns = steps.play(env, params, jax.random.key(1), states, 20)
    assert (int(turns), {n: int(x) for n, x in bad.items() if x}) == (4, {"reward": 5})


def test_steps_are_counted(tmp_path):
    config = {"seed": 0, "steps": 3000, "num_envs": 64, "minutes": 1, "envs": ["partitioning"]}
    (outcome,) = steps.drill(config, tmp_path)
    assert (outcome.what, outcome.count, outcome.failed) == ("partitioning", 3840, 0)


@pytest.mark.quick
def test_one_environment_is_a_list_of_one(tmp_path):
    config = {"seed": 0, "steps": 20, "num_envs": 1, "minutes": 1}
    (outcome,) = steps.drill(config | {"envs": "drill"}, tmp_path)
    assert (outcome.what, outcome.count, outcome.failed) == ("drill", 20, 0)
    with pytest.raises(ConfigError, match="envs: 5 is not valid; give a list of names"):
        steps.drill(config | {"envs": 5}, tmp_path)
