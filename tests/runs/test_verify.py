"""A folder run again from its configuration: the same tables, or which cell differs by how much."""

from __future__ import annotations

import json
import shutil

import pytest

from runs import evaluate, program, reproduce, train, verify
from runs.reproductions import Reproduction, register_figure
from runs.settings import CONF, stored_yaml
from runs.tables import read_csv, write_csv
from runs.verify import completed
from tests.runs.conftest import TRAIN, run_process

TABLES = ("actions.csv", "evaluation.csv", "evaluation_seeds.csv", "metrics.csv", "quantiles.csv")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(CONF.parent / "tests" / "runs"))
        train.main([*TRAIN, "num_seeds=2", "hydra.run.dir=run"])
    return folder / "run"


@pytest.fixture
def run(trained, workplace):
    return shutil.copytree(trained, workplace / "run")


def status(*arguments: str) -> int:
    """Of the program, 0 where it returns."""
    try:
        verify.main([*arguments])
    except SystemExit as stop:
        return stop.code
    return 0


def change(path, name: str, row: int, column: str, value: str) -> None:
    """Writes another value into a cell."""
    rows = read_csv(path / name)
    rows[row][column] = value
    write_csv(path / name, list(rows[0]), rows)


@pytest.fixture
def copied(monkeypatch):
    """Nothing is run: what is made again is a copy of the folder ``run``."""

    def copy(name, stored, folder, training=None):
        shutil.copytree("run", folder)

    monkeypatch.setattr(verify, "carry_out", copy)


def test_the_same_seed_gives_the_same_tables_in_another_process(run, workplace):
    done = run_process("runs.verify", "run", "hydra.run.dir=there")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("identical") == len(TABLES)
    for name in TABLES:
        again = (workplace / "there/again" / name).read_bytes()
        assert again == (run / name).read_bytes()
    assert read_csv(workplace / "there/verify.csv") == []


def test_another_seed_does_not(run, workplace, capsys):
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("eval_seed: 0", "eval_seed: 1"))
    assert status("run", "hydra.run.dir=there") == 1
    out = capsys.readouterr().out
    assert "evaluation.csv" in out and "differs" in out
    rows = read_csv(workplace / "there/verify.csv")
    assert {row["file"] for row in rows} == set(TABLES) - {"metrics.csv"}


def test_an_evaluation_needs_the_run_that_it_measures(run, workplace, capsys):
    evaluate.main(["checkpoint=run", "num_episodes=8", "hydra.run.dir=measured"])
    assert status("measured", "hydra.run.dir=one") == 0
    (workplace / "run").rename(workplace / "moved")
    capsys.readouterr()
    assert status("measured", "hydra.run.dir=two") == 2
    assert "checkpoint: 'run' is not valid; the run that it measures" in capsys.readouterr().err
    assert status("measured", "training=moved", "hydra.run.dir=two") == 0


def test_an_evaluation_beside_its_training_is_trained_again(run, workplace, monkeypatch):
    evaluate.main(["checkpoint=run", "num_episodes=8", "hydra.run.dir=measured"])
    shutil.copy(run / "config.yaml", workplace / "measured/training.yaml")
    shutil.copy(run / "metrics.csv", workplace / "measured")
    shutil.rmtree(run)
    assert status("measured", "hydra.run.dir=there") == 0
    assert (workplace / "there/training/checkpoints").is_dir()


def figure(config):
    return Reproduction([{"x": x, "y": x * config["seed"]} for x in range(3)], [], None)


def test_a_reproduction_is_run_again(workplace, capsys):
    register_figure("probe/verified", figure)
    reproduce.main(["figure=probe/verified", "seed=2", "hydra.run.dir=run"])
    assert status("run", "hydra.run.dir=one") == 0
    change(workplace / "run", "probe_verified.csv", 2, "y", "5")
    assert status("run", "hydra.run.dir=two") == 1
    assert "most in row 3, y: '4', published '5'" in capsys.readouterr().out
    rows = read_csv(workplace / "two/verify.csv")
    assert [list(row.values()) for row in rows] == [
        ["probe_verified.csv", "3", "y", "5", "4", "0.2"]
    ]


def test_a_tolerance_is_relative(run, workplace, copied, capsys):
    value = float(read_csv(run / "evaluation.csv")[1]["mean"])
    shutil.copytree(run, workplace / "other")
    change(workplace / "other", "evaluation.csv", 1, "mean", str(value * (1 + 1e-6)))
    assert status("other", "hydra.run.dir=exact") == 1
    assert "1e-06" in capsys.readouterr().out
    assert status("other", "tolerance=2e-6", "hydra.run.dir=near") == 0
    assert "within tolerance" in capsys.readouterr().out
    assert status("other", "tolerance=5e-7", "hydra.run.dir=far") == 1


@pytest.mark.quick
def test_tables_with_other_rows_columns_or_texts_differ(tmp_path):
    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    rows = [{"policy": "a", "mean": 1.0}, {"policy": "b", "mean": float("nan")}]
    write_csv(old, ["policy", "mean"], rows)

    def verdict(rows, columns=("policy", "mean"), tolerance=0.5):
        write_csv(new, columns, rows)
        return verify.compare(old, new, tolerance).verdict

    assert verdict(rows) == "identical"
    assert verdict([row | {"more": 1} for row in rows], ["policy", "mean", "more"]) == "identical"
    assert verdict([rows[0] | {"mean": 1.4}, rows[1]]) == "within tolerance"
    assert verdict([rows[0] | {"mean": -1.0}, rows[1]]) == "differs"
    assert verdict([rows[0], rows[1] | {"mean": 1.0}]) == "differs"
    assert verdict([rows[0], rows[1] | {"mean": ""}]) == "differs"
    assert verdict([rows[0] | {"policy": "c"}, rows[1]]) == "differs"
    assert verdict([{"policy": r["policy"]} for r in rows], ["policy"]) == "differs"
    assert verdict(rows[:1]) == verdict([*rows, rows[0]]) == "differs"
    assert verify.compare(old, None).verdict == "not made again"


@pytest.mark.quick
def test_a_table_that_is_not_made_again_fails(run, copied, capsys):
    shutil.copytree("run", "other")
    write_csv(run.parent / "other/more.csv", ["x"], [{"x": 1}])
    assert status("other", "hydra.run.dir=there") == 1
    assert "more.csv" in capsys.readouterr().out


def refusal(capsys, *arguments: str) -> str:
    """The one line with which the program refuses."""
    capsys.readouterr()
    assert status(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("error: ")


def test_other_versions_are_refused_unless_told(run, copied, capsys):
    path = run / "versions.json"
    versions = json.loads(path.read_text())
    versions["packages"]["jax"] = "0.1"
    path.write_text(json.dumps(versions))
    line = refusal(capsys, "run")
    assert line.startswith("run: 'run' is not valid; it was made with jax 0.1 (here ")
    assert line.endswith("any_version=true compares anyway")
    path.unlink()
    assert "it holds no versions.json" in refusal(capsys, "run")
    assert status("run", "any_version=true", "hydra.run.dir=there") == 0


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("config.yaml", None, "it holds no config.yaml that train, evaluate or reproduce wrote"),
        ("config.yaml", "a: [", "its config.yaml cannot be read (ParserError)"),
        ("config.yaml", "- 1", "its configuration is of none of train, evaluate"),
        ("config.yaml", "suite: env\n", "its configuration is of none of train, evaluate"),
        ("config.yaml", "precision: float32\nplugins: []\nnum_episodes: 1\ncheckpoint: null\n"
         "eval_sed: 1\n", "eval_sed: 1 is not valid; this version has no such setting"),
        ("config.yaml", "precision: float32\nplugins: []\nnum_episodes: 1\ncheckpoint: null\n"
         "env:\n  name: vehicular\n  cores: 1\n", "env.cores: 1 is not valid; this version has"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_again_is_refused(run, capsys, name, text, line):
    (run / name).unlink()
    if text is not None:
        (run / name).write_text(text)
    assert line in refusal(capsys, "run")


@pytest.mark.quick
def test_settings_that_cannot_be_used_are_refused(run, capsys):
    assert "no such folder" in refusal(capsys, "nowhere")
    assert "give a number of at least 0" in refusal(capsys, "run", "tolerance=-1")
    for path in run.glob("*.csv"):
        path.unlink()
    assert "it holds no tables to compare" in refusal(capsys, "run")


def test_settings_of_today_complete_an_older_configuration(run, copied):
    """A configuration from before ``devices`` and ``eval_seed`` were settings."""
    text = (run / "config.yaml").read_text()
    lines = [x for x in text.splitlines() if not x.startswith(("devices:", "eval_seed:"))]
    (run / "config.yaml").write_text("\n".join(lines))
    seen = {}

    def task(config, folder):
        seen.update(completed("train", stored_yaml(run / "config.yaml")))

    program.run_program("verify", task, ["run=run"])
    assert (seen["devices"], seen["eval_seed"], seen["num_seeds"]) == (None, 0, 2)
    assert seen["env"]["name"] == "guess" and "experiment" not in seen
