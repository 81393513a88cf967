"""What bad input gets: one line naming the field, its value and what is valid, and status 2."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runs import benchmark, evaluate, render, report, reproduce, sweep, train, verify
from runs.logging import LOGGERS
from runs.program import fail
from runs.settings import stored_yaml
from runs.tables import read_csv
from tests.runs.conftest import HERE, PROBE, TRAIN, run_process, start_process

MAINS = {
    "train": train.main,
    "evaluate": evaluate.main,
    "benchmark": benchmark.main,
    "render": render.main,
    "report": report.main,
    "reproduce": reproduce.main,
    "sweep": sweep.main,
    "verify": verify.main,
}

TRAIN_CASES = [
    # unknown names
    (["evn=guess"], "evn: 'guess' is not valid; did you mean env? known names are agent, "),
    (["env.wrong_cots=2"], "env.wrong_cots: '2' is not valid; did you mean wrong_cost? "),
    (["agent.learning_rate=2"], "agent.learning_rate: '2' is not valid; known names are lr, "),
    (["env=gess"], "env: 'gess' is not valid; choose one of guess, "),
    (
        ["agent=sac"],
        "agent: 'sac' is not valid; choose one of a3c, a3c_paper, dqn, happo, hasac, hisper, ",
    ),
    (["experiment=nope"], "experiment: 'nope' is not valid; choose one of "),
    (["logger=paper"], "logger: 'paper' is not valid; choose one of csv, mlflow, tensorboard, "),
    (["launcher=nope"], "launcher: 'nope' is not valid; choose one of basic, joblib, "),
    (["logger=''"], "logger: '' is not valid; choose one of csv, mlflow, tensorboard, wandb"),
    (["logger=null"], "logger: None is not valid; choose one of csv, mlflow, tensorboard, wandb"),
    (["launcher=false"], "launcher: False is not valid; choose one of basic, joblib, "),
    (["plugins=[no_such_module]"], "plugins: 'no_such_module' is not valid; no such module "),
    (["plugins=[1]"], "plugins: [1] is not valid; give a list of names"),
    (["baselines=[dsl]"], "baselines: 'dsl' is not valid; known names are random, constant"),
    (["baselines=3"], "baselines: 3 is not valid; give a list of names"),
    (["+extra=1"], "argument: '+extra=1' is not valid; give the name of a setting, without +"),
    (["~seed"], "argument: '~seed' is not valid; give name=value"),
    (["~seed=0"], "argument: '~seed=0' is not valid; give the name of a setting, without +"),
    (["seed"], "argument: 'seed' is not valid; give name=value"),
    (["--seed=1"], "argument: '--seed=1' is not valid; give name=value"),
    (["hydra.run.dri=x"], "hydra.run.dri: 'x' is not valid; there is no such setting"),
    # wrong types and values
    (["seed=-1"], "seed: -1 is not valid; give an integer of at least 0"),
    (["seed=true"], "seed: True is not valid; give an integer of at least 0"),
    (["num_updates=0"], "num_updates: 0 is not valid; give an integer of at least 1"),
    (["num_updates=many"], "num_updates: 'many' is not valid; give an integer of at least 1"),
    (["num_updates=["], "argument: 'num_updates=[' is not valid; give name=value ("),
    (["num_updates=1e3"], "num_updates: 1000.0 is not valid; give an integer of at least 1"),
    (["num_seeds=1.5"], "num_seeds: 1.5 is not valid; give an integer of at least 1"),
    (["num_seeds=null"], "num_seeds: None is not valid; give an integer of at least 1"),
    (["eval_episodes=0"], "eval_episodes: 0 is not valid; give an integer of at least 1"),
    (["episodes_per_call=0"], "episodes_per_call: 0 is not valid; give an integer of at least 1"),
    (["log_interval=3"], "num_updates: 4 is not valid; give a multiple of log_interval=3"),
    (["log_interval=2", "checkpoint_interval=3"], "checkpoint_interval: 3 is not valid; give a "),
    (["precision=half"], "precision: 'half' is not valid; choose float32 or float64"),
    (["env.dtype=float64"], "dtype: 'float64' is not valid; enable 64-bit mode first"),
    (["env.wrong_cost=cheap"], "wrong_cost: 'cheap' is not valid; give a number"),
    (["env.wrong_cost=nan"], "wrong_cost: nan is not valid; give a number without NaN"),
    (["env.wrong_cost=-1"], "wrong_cost: -1.0 is not valid; give a positive number"),
    (["env.weights=[1,2]"], "weights: (1, 2) is not valid; give a number or an array of shape "),
    (["env.max_steps=2.5"], "max_steps: 2.5 is not valid; give an integer"),
    (["env.num_choices=1"], "num_choices: 1 is not valid; give an integer of at least 2"),
    (["env.num_choices=2.5"], "num_choices: 2.5 is not valid; give an integer, as its default 3"),
    (["agent.num_envs=few"], "num_envs: 'few' is not valid; give an integer, as its default 8"),
    (["agent.lr=fast"], "lr: 'fast' is not valid; give a number"),
    (["scenario=${nothing}"], "scenario: Interpolation key 'nothing' not found"),
    (["seed=0,1"], "seed: '0,1' is not valid; give one value; with -m every one of them is run"),
    # runs
    (["env.max_steps=4294967297"], "max_steps: 4294967297 is not valid; give an integer from -2"),
    (["env.base_cost=1e40"], "base_cost: 1e+40 is not valid; give a number from -3.4"),
    (["resume=nowhere"], "resume: 'nowhere' is not valid; no such folder; give the folder of"),
    (["resume=."], "resume: '.' is not valid; it holds no config.yaml of a run"),
    (["-m", "env.wrong_cost=1,-1"], "wrong_cost: -1.0 is not valid; give a positive number"),
]
OTHER_CASES = [
    ("evaluate", ["num_episodes=0"], "num_episodes: 0 is not valid; give an integer of at least"),
    ("evaluate", ["checkpoint=nowhere"], "checkpoint: 'nowhere' is not valid; no such folder"),
    ("evaluate", ["baselines=[x]"], "baselines: 'x' is not valid; known names are random, "),
    ("benchmark", ["suite=disk"], "suite: 'disk' is not valid; choose one of allocators, env, "),
    ("benchmark", ["num_envs=[0]"], "num_envs: [0] is not valid; give a list of positive"),
    ("benchmark", ["reference_s=-1"], "reference_s: -1 is not valid; give an integer of at"),
    ("benchmark", ["repeats=0"], "repeats: 0 is not valid; give an integer of at least 1"),
    ("render", [], "checkpoint: None is not valid; give either checkpoint=DIR or baseline=NAME"),
    ("render", ["baseline=best"], "baseline: 'best' is not valid; choose one of random, constant"),
    ("render", ["baseline=random", "format=bmp"], "format: 'bmp' is not valid; choose gif, mp4 "),
    ("reproduce", ["figure=guess/fig99"], "figure: 'guess/fig99' is not valid; choose one of "),
    ("reproduce", ["scale=huge"], "scale: 'huge' is not valid; choose one of smoke, paper"),
    ("reproduce", ["num_seeds=0"], "num_seeds: 0 is not valid; give an integer of at least 1"),
]


def refused(capsys, program: str, arguments: list[str]) -> str:
    """The one line with which a program refuses its arguments."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        MAINS[program](arguments)
    captured = capsys.readouterr()
    assert stopped.value.code == 2
    assert captured.err.count("\n") == 1 and captured.err.startswith("error: "), captured.err
    return captured.err[len("error: ") :]


@pytest.mark.parametrize(("arguments", "line"), TRAIN_CASES, ids=lambda x: str(x)[:40])
def test_train_refuses(workplace, capsys, arguments, line):
    given = {argument.split("=")[0] for argument in arguments}
    usual = [argument for argument in TRAIN if argument.split("=")[0] not in given]
    if "plugins" in given:
        usual = []
    assert refused(capsys, "train", [*usual, *arguments]).startswith(line)
    assert not list(workplace.rglob("*.csv")) and not list(workplace.rglob("checkpoints"))


@pytest.mark.quick
@pytest.mark.parametrize(("program", "arguments", "line"), OTHER_CASES, ids=lambda x: str(x)[:40])
def test_other_programs_refuse(workplace, capsys, program, arguments, line):
    assert refused(capsys, program, [*PROBE, *arguments]).startswith(line)
    assert not list(workplace.rglob("*.*"))


@pytest.mark.quick
def test_a_folder_that_cannot_be_is_named(workplace, capsys):
    (workplace / "file").write_text("no folder")
    for folder in ("file", "file/below"):
        with pytest.raises(SystemExit) as stop:
            train.main([*TRAIN, f"hydra.run.dir={folder}"])
        line = capsys.readouterr().err
        assert (stop.value.code, line.count("\n")) == (1, 1) and line.startswith(
            f"error: {folder}: "
        )
    assert (workplace / "file").read_text() == "no folder"


def test_runs_of_one_second_have_folders_of_their_own(workplace):
    """As those of a loop in a shell do."""
    several = [start_process("runs.train", *TRAIN, f"seed={seed}") for seed in range(2)]
    assert [process.wait(300) for process in several] == [0, 0]
    assert len(list((workplace / "outputs/train").glob("*/evaluation.csv"))) == 2


@pytest.mark.parametrize("extra", ["tensorboard", "wandb", "mlflow"])
def test_an_absent_logger_names_its_extra(workplace, capsys, monkeypatch, extra):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    line = refused(capsys, "train", [*TRAIN, f"logger={extra}"])
    assert line == f"logger: '{extra}' is not valid; install it first: pip install " + (
        f"'jaxenv[{extra}]'\n"
    )
    assert not list(workplace.rglob("config.yaml"))


def test_a_logger_that_cannot_start_says_why(workplace, capsys, monkeypatch):
    def no_key(*arguments, **options):
        raise RuntimeError("No API key configured.\nSee the documentation.")

    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setitem(LOGGERS, "wandb", no_key)
    line = refused(capsys, "train", [*TRAIN, "logger=wandb"])
    assert line == ("logger: 'wandb' is not valid; it could not start: No API key configured.\n")


def test_a_process_ends_with_status_2_and_one_line(workplace):
    ended = run_process("runs.train", *TRAIN, "env.wrong_cost=-1")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "error: wrong_cost: -1.0 is not valid; give a positive number\n"


@pytest.mark.quick
def test_a_message_of_many_lines_becomes_one(capsys):
    with pytest.raises(SystemExit):
        fail("first\n  second")
    assert capsys.readouterr().err == "error: first second\n"


# ---- runs and their checkpoints ----------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run; tests work on copies."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        train.main([*TRAIN, "checkpoint_interval=2", f"hydra.run.dir={folder}"])
    return folder


@pytest.fixture
def run(trained, workplace):
    return Path(shutil.copytree(trained, workplace / "run"))


NAMED = [("report", "run"), ("evaluate", "checkpoint"), ("verify", "run"), ("sweep", "folders")]


@pytest.mark.quick
@pytest.mark.parametrize(("program", "setting"), [*NAMED, ("train", "resume")])
@pytest.mark.parametrize("name", ["2024", "1e3", "nan", "true"])
def test_an_absent_folder_named_by_a_number_is_told(workplace, capsys, program, setting, name):
    line = refused(capsys, program, [f"{setting}={name}"])
    assert line.startswith(f"{setting}: '{name}' is not valid; no such folder")


def test_a_folder_may_be_named_by_a_number(run, workplace, capsys):
    run.rename("2024_11")
    evaluate.main(["checkpoint=2024_11", "num_episodes=8", "hydra.run.dir=7"])
    assert stored_yaml(workplace / "7/config.yaml")["checkpoint"] == "2024_11"
    verify.main(["run=7", "hydra.run.dir=again"])
    (workplace / "a,5").symlink_to("2024_11")
    sweep.main(["folders=[2024_11, 'a,5']", "hydra.run.dir=swept"])
    assert {row["job"] for row in read_csv(workplace / "swept/sweep.csv")} == {"2024_11", "a,5"}
    report.main(["run=2024_11", "hydra.run.dir=shown"])
    assert "identical" in capsys.readouterr().out
    assert (workplace / "shown/report.html").is_file()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def damage(checkpoint: Path) -> None:
    """Cuts every array file of a checkpoint short."""
    for path in checkpoint.rglob("*"):
        if path.is_file() and "ocdbt" in str(path.relative_to(checkpoint)):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_fresh_run_is_refused_in_a_folder_that_holds_one(run, capsys):
    before = contents(run)
    line = refused(capsys, "train", [*TRAIN, "hydra.run.dir=run"])
    assert "hydra.run.dir: " in line and "resume=DIR" in line
    evaluating = [*PROBE, "num_episodes=8", "hydra.run.dir=run"]
    assert "already holds a run" in refused(capsys, "evaluate", evaluating)
    assert contents(run) == before


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (["env=vehicular"], "env: 'vehicular' is not valid; the run in "),
        (["agent=sac_discrete"], "agent: 'sac_discrete' is not valid; the run in "),
        (["env.wrong_cost=3"], "env.wrong_cost: 3 is not valid; the run in "),
        (["experiment=splitting"], "experiment: 'splitting' is not valid; the run in "),
        (["agent.lr=1"], "agent.lr: 1 is not valid; the run in "),
        (["num_seeds=2"], "num_seeds: 2 is not valid; the run in "),
        (["seed=1"], "seed: 1 is not valid; the run in "),
        (["hydra.run.dir=other"], "hydra.run.dir: 'other' is not valid; drop it: a resumed run "),
        (["-m", "num_updates=8,16"], "resume: 'run' is not valid; a sweep cannot be resumed"),
        (["num_updates=2"], "num_updates: 2 is not valid; "),
    ],
    ids=lambda x: str(x)[:40],
)
def test_resume_refuses_to_train_something_else(run, capsys, change, line):
    before = {name: data for name, data in contents(run).items() if name.endswith("csv")}
    if change[0].startswith(("env=", "agent=")):
        change = [*change, "plugins=[probe_plugin]"]
    assert refused(capsys, "train", ["resume=run", *change]).startswith(line)
    after = contents(run)
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(
    ("setting", "used"),
    [("env.num_choices=5", 3), ("env.base_cost=0.25", 0.5), ("agent.num_envs=9", 8)],
)
def test_resume_says_what_the_library_chose(run, capsys, setting, used):
    name, value = setting.split("=")
    line = refused(capsys, "train", ["resume=run", setting])
    assert line.startswith(f"{name}: {value} is not valid; the run in {run} has {used}; ")
    train.main(["resume=run", f"{name}={used}"])
    assert "going on from update 4" in capsys.readouterr().out


def test_fewer_updates_than_reached_are_refused_before_anything_is_done(run, capsys):
    before = contents(run)
    with pytest.raises(SystemExit):
        train.main(["resume=run", "num_updates=2"])
    captured = capsys.readouterr()
    assert "run is at update 4 already; give at least that" in captured.err
    assert "going on" not in captured.out and contents(run) == before


def test_what_does_not_fit_in_memory_is_one_line(workplace, capsys, monkeypatch):
    def too_much(*arguments):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.")

    monkeypatch.setattr(train, "fit", too_much)
    line = refused(capsys, "train", TRAIN)
    assert line.startswith("memory: 'RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.' is ")
    assert "give smaller sizes: num_seeds, num_envs, batch_size, " in line


def test_a_damaged_last_checkpoint_is_skipped_for_the_last_good_one(run, trained, capsys):
    damage(run / "checkpoints/4")
    train.main(["resume=run"])
    out = capsys.readouterr().out
    assert "checkpoints/4 is damaged" in out and "going on from update 2" in out
    for name in ("metrics.csv", "evaluation.csv"):
        assert (run / name).read_bytes() == (trained / name).read_bytes()
    evaluate.main(["checkpoint=run", "num_episodes=8"])  # checkpoint 4 was written again
    assert "is damaged" not in capsys.readouterr().out


def test_a_half_written_checkpoint_is_skipped(run, trained, capsys):
    """What a kill leaves: files without the mark that the save was finished."""
    last = run / "checkpoints/4"
    last.rename(last.with_name("4.orbax-checkpoint-tmp"))
    train.main(["resume=run"])
    for name in ("metrics.csv", "evaluation.csv"):
        assert (run / name).read_bytes() == (trained / name).read_bytes()


def test_only_damaged_checkpoints_are_refused(run, capsys):
    for checkpoint in (run / "checkpoints").iterdir():
        damage(checkpoint)
    before = (run / "metrics.csv").read_bytes()
    for program, setting in (("train", "resume=run"), ("evaluate", "checkpoint=run")):
        line = refused(capsys, program, [setting])
        assert line.startswith("checkpoint: ") and "it is damaged (" in line
    assert (run / "metrics.csv").read_bytes() == before


def test_what_the_storage_logs_of_damage_is_not_shown(run):
    for path in (run / "checkpoints").rglob("_CHECKPOINT_METADATA"):
        path.write_text("{")
    ended = run_process("runs.evaluate", "checkpoint=run")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert ended.stderr.startswith("error: checkpoint: ") and "it is damaged (" in ended.stderr


def test_a_run_without_checkpoints_is_refused(run, capsys):
    shutil.rmtree(run / "checkpoints")
    line = refused(capsys, "evaluate", ["checkpoint=run"])
    assert line == "checkpoint: 'run/checkpoints' is not valid; it holds no complete checkpoint\n"


def test_an_unknown_step_is_refused(run, capsys):
    line = refused(capsys, "evaluate", ["checkpoint=run", "step=3"])
    assert line.startswith("step: 3 is not valid; run/checkpoints holds 2, 4; or choose last, best")
    line = refused(capsys, "evaluate", ["checkpoint=run", "step=first"])
    assert line == "step: 'first' is not valid; choose last, best, or an update\n"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("num_choices: null", "num_choices: 2", ".weights is float32[1, 3, 3], expected float32"),
        ("num_seeds: 1", "num_seeds: 2", "its state does not fit this configuration: "),
        ("name: reinforce", "name: nope", "agent: 'nope' is not valid; choose one of "),
        ("num_seeds: 1", "", "config.yaml: 'run/config.yaml' is not valid; it lacks num_seeds"),
        ("seed: 0", "seed: [", "config.yaml: 'run/config.yaml' is not valid; it cannot be read"),
    ],
)
def test_a_checkpoint_of_another_configuration_is_refused(run, capsys, old, new, line):
    config = run / "config.yaml"
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new, 1))
    assert line in refused(capsys, "evaluate", ["checkpoint=run", "num_episodes=8"])


def test_results_without_a_checkpoint_are_not_written_over(run, workplace, capsys):
    shutil.rmtree(workplace / "run/checkpoints")
    before = {path: path.read_bytes() for path in (workplace / "run").rglob("*.csv")}
    line = refused(capsys, "train", ["resume=run"])
    assert line.endswith(
        "it holds results but no checkpoint to go on from; train into another folder\n"
    )
    assert before == {path: path.read_bytes() for path in (workplace / "run").rglob("*.csv")}


def test_a_sweep_is_not_a_run(workplace, capsys):
    train.main(["-m", *TRAIN, "seed=0,1", "baselines=[]", "hydra.sweep.dir=both"])
    capsys.readouterr()
    line = refused(capsys, "evaluate", ["checkpoint=both"])
    assert line == "checkpoint: 'both' is not valid; it is a sweep; give one of its jobs: 0, 1\n"


def test_a_folder_of_runs_is_not_called_a_sweep(run, workplace, capsys):
    line = refused(capsys, "train", ["resume=."])
    assert line == "resume: '.' is not valid; it holds a run; give it: run\n"
    shutil.copytree(run, workplace / "again")
    for program, setting in (("train", "resume"), ("evaluate", "checkpoint")):
        line = refused(capsys, program, [f"{setting}=."])
        valid = "it holds several runs; give one of them: again, run"
        assert line == f"{setting}: '.' is not valid; {valid}\n"
    (workplace / "sweep.csv").touch()
    line = refused(capsys, "evaluate", ["checkpoint=."])
    assert line.endswith("; it is a sweep; give one of its jobs: again, run\n")


@pytest.mark.quick
@pytest.mark.parametrize(
    ("program", "line"),
    [
        ("verify", "run: nothing is given; give the folder that a program wrote, run=DIR\n"),
        ("report", "run: nothing is given; give the folder that a program wrote, run=DIR\n"),
        (
            "sweep",
            "folders: nothing is given; give the folder of a sweep or of runs, folders=DIR, ",
        ),
    ],
)
def test_a_setting_without_a_default_is_asked_for(workplace, capsys, program, line):
    assert refused(capsys, program, []).startswith(line)
    name = line.partition(":")[0]
    null = line.replace("nothing is given", "None is not valid")
    assert refused(capsys, program, [f"{name}=null"]).startswith(null)
    assert not list(workplace.rglob("*.*"))


def test_a_refusal_leaves_no_folder(workplace, capsys):
    refused(capsys, "train", [*TRAIN, "env.wrong_cost=-1"])
    assert not list(workplace.glob("outputs/train/*"))


def test_a_checkpoint_of_another_environment_is_refused(run, capsys):
    arguments = ["checkpoint=run", "env=vehicular", "plugins=[probe_plugin]"]
    line = refused(capsys, "evaluate", arguments)
    assert line == "env: 'vehicular' is not valid; the policy of run was trained on env=guess\n"
    arguments = ["checkpoint=run", "env.num_choices=2", "num_episodes=8"]
    line = refused(capsys, "evaluate", arguments)
    assert line.startswith("num_choices: 2 is not valid; the policy of run was trained at 3")
    line = refused(capsys, "render", ["checkpoint=run", "training_seed=1"])
    assert line == "training_seed: 1 is not valid; the run has the seeds 0 to 0\n"
