"""`runs.gpu`: every piece can be started, none runs twice, and a stopped training goes on."""

from __future__ import annotations

import pytest

from jaxenv.errors import ConfigError
from runs import gpu, program
from runs.jobs import with_intervals
from runs.settings import CONF, build_env, build_learner, stored_yaml
from runs.tables import read_csv
from tests.runs.conftest import HERE, TRAIN

SLOW = [*TRAIN, "num_updates=12", "checkpoint_interval=1", "log_interval=1"]


@pytest.fixture
def pieces(workplace, monkeypatch):
    """Runs pieces of the test in place of the configured ones, and says how it ended."""
    monkeypatch.setenv("PYTHONPATH", f"{HERE}:{HERE.parents[1]}")

    def run(pieces, **settings):
        config = {"minutes": 1, "total_minutes": None, "only": None, "publish": "published"}
        try:
            gpu.run(config | {"pieces": pieces} | settings, workplace / "gpu")
        except SystemExit as stop:
            return stop.code
        return 0

    return run


@pytest.mark.slow
def test_a_piece_is_done_once_and_its_small_files_are_published(pieces, workplace, capsys):
    one = {"probe": {"module": "runs.train", "arguments": TRAIN}}
    assert pieces(one) == 0
    rows = (workplace / "published/gpu_probe/evaluation.csv").read_bytes()
    assert rows == (workplace / "gpu/probe/evaluation.csv").read_bytes()
    assert not (workplace / "published/gpu_probe/checkpoints").exists()
    before = (workplace / "gpu/probe/versions.json").stat().st_mtime_ns
    assert pieces(one) == 0
    assert (workplace / "gpu/probe/versions.json").stat().st_mtime_ns == before
    assert "done before" in capsys.readouterr().out


@pytest.mark.slow
def test_a_training_that_was_stopped_goes_on(pieces, workplace, monkeypatch):
    """The probe stops itself at update 8, as the limit would, and saves; then it runs to 12."""
    one = {"probe": {"module": "runs.train", "arguments": SLOW}}
    monkeypatch.setenv("PROBE_AT", "8")
    monkeypatch.setenv("PROBE_SIGNAL", "SIGINT")
    assert pieces(one) == 1
    assert len(read_csv(workplace / "gpu/probe/metrics.csv")) < 12
    monkeypatch.delenv("PROBE_AT")
    assert pieces(one) == 0
    updates = [row["update"] for row in read_csv(workplace / "gpu/probe/metrics.csv")]
    assert updates == [str(n) for n in range(1, 13)]


@pytest.mark.quick
def test_what_takes_too_long_is_stopped_and_what_fails_is_told(pieces, workplace, capsys):
    sleeps = {"module": "timeit", "arguments": ["-n1", "-r1", "import time; time.sleep(60)"]}
    fails = {"module": "timeit", "arguments": ["1/0"]}
    assert gpu.run_piece(sleeps, workplace / "sleeps", 0.5)[0] == "stopped at its limit"
    assert pieces({"fails": fails, "quick": {"module": "timeit", "arguments": ["-n1"]}}) == 1
    out = capsys.readouterr().out
    assert "failed with status 1" in out and "quick" in out
    assert pieces({"quick": sleeps, "fails": fails}, total_minutes=1, only=["quick"]) == 0


def test_every_configured_piece_can_be_started():
    """Their settings exist, and trainings can be built."""
    path = CONF / "gpu.yaml"
    for name, piece in stored_yaml(path)["pieces"].items():
        if piece["module"] == "pytest":
            continue
        seen = []
        program.run_program(
            piece["module"].split(".")[1],
            lambda config, _, seen=seen: seen.append(config),
            piece["arguments"],
        )
        (config,) = seen
        if piece["module"] == "runs.train":
            env, _ = build_env(config)
            learner, _ = build_learner(with_intervals(config), env)
            assert learner.name == config["agent"]["name"], name


@pytest.mark.quick
def test_one_name_is_one_piece():
    pieces = {"env": {}, "env_robust": {}}
    assert gpu.chosen({"pieces": pieces, "only": "env_robust"}) == {"env_robust": {}}
    with pytest.raises(ConfigError, match="only: 5 is not valid; give a list of names"):
        gpu.chosen({"pieces": pieces, "only": 5})


@pytest.mark.quick
def test_an_unknown_piece_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        gpu.main(["only=[nothing]"])
    assert stop.value.code == 2
    assert "only: 'nothing' is not valid; known names are checks" in capsys.readouterr().err
