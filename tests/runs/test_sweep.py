"""Sweeps: what sweepers are told, and finished jobs of any origin in one table and one figure."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from runs import figures, program, sweep, train
from runs.settings import stored_yaml
from runs.tables import EVALUATION, read_csv, write_csv
from tests.runs.conftest import TRAIN

CONFIG = {
    **{"env": {"name": "guess", "cost": 1.0}, "agent": {"name": "reinforce", "lr": 0.1}},
    **{"plugins": [], "seed": 0, "num_seeds": 1, "num_updates": 4, "precision": "float32"},
    "devices": None,
}


def finished(folder: Path, mean: float, **changes: object) -> None:
    """A folder as a training run leaves it; what the constant policy reaches is 9."""
    config = OmegaConf.create(CONFIG)
    for name, value in changes.items():
        OmegaConf.update(config, name.replace("__", "."), value)
    folder.mkdir(parents=True)
    OmegaConf.save(config, folder / "config.yaml")
    row = dict.fromkeys(EVALUATION, "") | {"scenario": "guess", "metric": "cost", "unit": "s"}
    rows = [
        row | {"policy": policy, "mean": value, "ci_low": value - 0.5, "ci_high": value + 0.25}
        for policy, value in (("reinforce", mean), ("constant", 9.0))
    ]
    write_csv(folder / "evaluation.csv", EVALUATION, rows)


@pytest.mark.quick
def test_finished_jobs_of_any_folders_are_one_table_and_one_figure(workplace, capsys):
    finished(workplace / "grid/10", 3.0, agent__lr=0.01)
    finished(workplace / "grid/9", 2.0, agent__lr=0.1)
    finished(workplace / "alone", 1.0, agent__lr=1.0, devices=8)
    (workplace / "grid/11").mkdir()  # not finished
    (workplace / "grid/measured").mkdir()  # by runs.evaluate
    (workplace / "grid/measured/config.yaml").write_text("num_episodes: 8\n")
    (workplace / "grid/measured/evaluation.csv").write_text("policy\nreinforce\n")
    sweep.main(["folders=[grid,alone]", "hydra.run.dir=out"])
    rows = read_csv(workplace / "out/sweep.csv")
    assert list(rows[0]) == ["job", "agent.lr", *EVALUATION]
    found = [(row["job"], row["agent.lr"], row["policy"], row["mean"]) for row in rows]
    assert found == [
        *(("grid/9", "0.1", "reinforce", "2.0"), ("grid/9", "0.1", "constant", "9.0")),
        *(("grid/10", "0.01", "reinforce", "3.0"), ("grid/10", "0.01", "constant", "9.0")),
        *(("alone", "1.0", "reinforce", "1.0"), ("alone", "1.0", "constant", "9.0")),
    ]
    out = capsys.readouterr().out.splitlines()
    cells = [line.split() for line in out if line.startswith(("grid/", "alone"))]
    assert cells == [
        ["grid/9", "0.1", "2", "[1.5,", "2.25]"],
        ["grid/10", "0.01", "3", "[2.5,", "3.25]"],
        ["alone", "1.0", "1", "[0.5,", "1.25]"],
    ]
    assert (workplace / "out/figures/sweep.png").read_bytes()[:4] == b"\x89PNG"
    sweep.main(["folders=grid", "hydra.run.dir=one"])
    assert {row["job"] for row in read_csv(workplace / "one/sweep.csv")} == {"9", "10"}


@pytest.fixture
def drawn(monkeypatch):
    """The figure that is saved."""
    saved = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: saved.append(figure))
    return saved


def learned(job: str, mean: float, **values: object) -> dict[str, object]:
    ends = {"ci_low": mean - 0.5, "ci_high": mean + 0.25}
    return {"job": job, "metric": "cost", "unit": "s", "mean": mean, **ends, **values}


@pytest.mark.quick
def test_the_figure_of_a_sweep_has_a_line_per_combination_of_the_rest(drawn, tmp_path):
    """lr has three values, width two; seeds of one combination are points of one line."""
    rows = [
        learned(f"{i}", mean=10 * k + i, lr=lr, width=width, seed=k)
        for k in range(2)
        for i, (lr, width) in enumerate((lr, w) for w in (8, 64) for lr in (0.1, 0.001, 0.01))
    ]
    figures.sweep_figure(["lr", "width", "seed"], rows, tmp_path / "sweep.png")
    (axes,) = drawn[0].axes
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_xscale()) == ("lr", "cost [s]", "log")
    lines = {line.get_label(): line.lines[0].get_xydata() for line in axes.containers}
    assert list(lines) == ["width=8", "width=64"]
    assert lines["width=8"].tolist() == [
        *([0.001, 1.0], [0.001, 11.0], [0.01, 2.0], [0.01, 12.0], [0.1, 0.0], [0.1, 10.0])
    ]


@pytest.mark.quick
def test_the_figure_of_names_has_a_bar_per_job(drawn, tmp_path):
    rows = [learned(f"{i}", float(i), agent=name) for i, name in enumerate(("ppo", "dqn"))]
    figures.sweep_figure(["agent"], rows, tmp_path / "sweep.png")
    (axes,) = drawn[0].axes
    assert [bar.get_width() for bar in axes.patches] == [0.0, 1.0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["agent=ppo", "agent=dqn"]


@pytest.mark.quick
def test_lists_are_swept_as_names_are(drawn, tmp_path):
    rows = [learned(f"{i}", 1.0, hidden=widths) for i, widths in enumerate(([8], [16, 16]))]
    figures.sweep_figure(["hidden"], rows, tmp_path / "sweep.png")
    (axes,) = drawn[0].axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["hidden=[8]", "hidden=[16, 16]"]
    assert sweep.swept([{"baselines": [], "lr": 1}, {"baselines": None, "lr": 2}]) == ["lr"]


@pytest.mark.quick
@pytest.mark.parametrize(
    ("folder", "why"), [("none", "no such folder"), ("empty", "no finished training run is in")]
)
def test_folders_without_finished_jobs_are_refused(workplace, capsys, folder, why):
    (workplace / "empty").mkdir()
    with pytest.raises(SystemExit) as stop:
        sweep.main([f"folders={folder}"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: folders: '{folder}' is not valid; {why}")


def test_a_sweeper_is_told_what_the_learned_policy_reaches(workplace):
    told = []

    def task(config, folder):
        told.append(train.run([], config, folder))

    program.run_program("train", task, [*TRAIN, "hydra.run.dir=one"])
    program.run_program("train", task, [*TRAIN, "objective=success", "hydra.run.dir=two"])
    rows = read_csv(workplace / "one/evaluation.csv")
    mean = {row["metric"]: float(row["mean"]) for row in rows if row["policy"] == "reinforce"}
    assert told == [mean["cost"], mean["success"]]


@pytest.mark.quick
@pytest.mark.parametrize(("given", "shown"), [("costs", "'costs'"), ("[a]", "['a']"), ("3", "3")])
def test_an_objective_that_is_no_metric_is_refused(workplace, capsys, given, shown):
    with pytest.raises(SystemExit):
        train.main([*TRAIN, f"objective={given}", "hydra.run.dir=run"])
    error = f"error: objective: {shown} is not valid; choose one of cost, success\n"
    assert capsys.readouterr().err == error
    assert not (workplace / "run").exists()


OPTUNA = [*TRAIN, "-m", "sweeper=optuna", "baselines=[]", "agent.lr=tag(log,interval(1e-3,1.0))"]


@pytest.mark.slow
def test_optuna_finds_the_best_of_its_trials(workplace):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    options = ["hydra.sweeper.n_trials=4", "num_updates=20", "hydra.sweep.dir=search"]
    train.main([*OPTUNA, *options])
    rows = [row for row in read_csv(workplace / "search/sweep.csv") if row["metric"] == "cost"]
    rows = [row for row in rows if row["policy"] == "reinforce"]
    best = stored_yaml(workplace / "search/optimization_results.yaml")
    assert len({row["agent.lr"] for row in rows}) == len(rows) == 4
    assert best["best_value"] == min(float(row["mean"]) for row in rows)
    first = next(row for row in rows if float(row["mean"]) == best["best_value"])
    assert best["best_params"] == {"agent.lr": pytest.approx(float(first["agent.lr"]))}


@pytest.mark.quick
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["objective=success"], "hydra.sweeper.direction: 'minimize' is not valid; success of"),
        (["launcher=vmap"], "launcher: 'vmap' is not valid; sweeper=optuna waits for every job"),
    ],
)
def test_a_search_that_cannot_be_is_refused(workplace, capsys, more, message):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    with pytest.raises(SystemExit) as stop:
        train.main([*OPTUNA, *more, "hydra.sweep.dir=search"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_a_sweeper_that_is_not_installed_is_one_line(workplace, capsys):
    import hydra.core.plugins

    found = hydra.core.plugins.Plugins.instance().class_name_to_class
    if any("optuna" in name for name in found):
        pytest.skip("it is installed")
    with pytest.raises(SystemExit) as stop:
        train.main([*OPTUNA, "hydra.sweep.dir=search"])
    assert stop.value.code == 2
    valid = "install it first: pip install 'jaxenv[optuna]'"
    assert capsys.readouterr().err == f"error: sweeper: 'optuna' is not valid; {valid}\n"
