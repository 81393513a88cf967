"""Evaluate, benchmark, render and reproduce on the probe; the shipped configuration."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxenv
from agents import registry as agents_registry
from agents.sac_discrete import SACDiscrete
from runs import benchmark, evaluate, program, render, reproduce, reproductions, train
from runs.benchmarks.environments import state_bytes
from runs.benchmarks.slow import measure_slow
from runs.benchmarks.training import gradient_operations
from runs.figures import new_figure
from runs.folders import release_folders
from runs.jobs import with_intervals
from runs.recorder import Recorder
from runs.reproductions import Reproduction, Verdict, register_figure
from runs.settings import (
    CONF,
    build_env,
    build_learner,
    check_baselines,
    environment_settings,
    learner_settings,
    stored_yaml,
)
from runs.tables import EVALUATION, read_csv
from tests.runs.conftest import HERE, PROBE, ROOT, TRAIN


def test_evaluate_measures_a_checkpoint_in_another_scenario(workplace, capsys):
    """The learned policy never errs: its cost stays base_cost while wrong_cost triples."""
    train.main([*TRAIN, "num_updates=200", "agent.lr=0.2", "num_seeds=2", "hydra.run.dir=run"])
    capsys.readouterr()
    options = ["num_episodes=20", "env.wrong_cost=3", "episodes_per_call=8"]
    evaluate.main(["checkpoint=run", *options, "hydra.run.dir=there"])
    rows = read_csv(workplace / "there/evaluation.csv")
    assert tuple(rows[0]) == EVALUATION
    cost = {row["policy"]: row for row in rows if row["metric"] == "cost"}
    assert list(cost) == ["reinforce", "random", "constant", "bound"]
    assert float(cost["reinforce"]["mean"]) == float(cost["bound"]["mean"]) == 0.5
    assert (cost["reinforce"]["episodes"], cost["reinforce"]["seeds"]) == ("20", "2")
    success = {row["policy"]: float(row["mean"]) for row in rows if row["metric"] == "success"}
    for policy in ("random", "constant"):  # cost = base_cost + wrong_cost * (1 - success)
        expected = 0.5 + 3 * (1 - success[policy] / 100)
        assert float(cost[policy]["mean"]) == pytest.approx(expected, rel=1e-5)
    assert "gap to bound" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("train", ["agent", "env", "experiment", "launcher", "logger", "sweeper"]),
        ("evaluate", ["env"]),
        ("solve", []),
        ("verify", []),
    ],
)
def test_help_lists_the_groups_that_a_program_takes(workplace, capsys, name, groups):
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(f"runs.{name}").main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert ("Groups, chosen as group=name:" in text) == bool(groups)
    before, _, after = text.partition("Settings, and what they are")
    listed = [line.split(": ") for line in before.splitlines() if ": " in line[:12]]
    assert [group for group, _ in listed] == groups and after
    for group, names in listed:
        shipped = {path.stem for path in (CONF / group).glob("*.yaml")}
        assert shipped <= set(names.split(", "))  # and those of plugins


def test_two_programs_meet_the_same_episodes(workplace):
    train.main([*TRAIN, "hydra.run.dir=run"])
    evaluate.main(["checkpoint=run", "num_episodes=8", "hydra.run.dir=again"])
    assert (workplace / "run/evaluation.csv").read_text() == (
        workplace / "again/evaluation.csv"
    ).read_text()


@pytest.mark.quick
def test_evaluate_without_a_checkpoint_measures_baselines(workplace):
    arguments = ["baselines=[constant]", "num_episodes=8", "hydra.run.dir=there"]
    evaluate.main([*PROBE, *arguments])
    rows = read_csv(workplace / "there/evaluation.csv")
    assert {row["policy"] for row in rows} == {"constant", "bound"}


def test_benchmark_writes_what_it_measured_and_where(workplace, capsys):
    sizes = ["num_envs=[1,8]", "num_steps=4", "repeats=3", "reference_s=0"]
    benchmark.main([*PROBE, "suite=env", *sizes, "hydra.run.dir=env"])
    records = json.loads((workplace / "env/benchmark.json").read_text())
    floor = "guess, floor by memory"
    assert [(r["name"], r["ratio_to"]) for r in records] == [
        ("memory", None),
        ("guess state", None),
        (floor, None),
        ("guess at 1", floor),
        ("guess at 8", "guess at 1"),
        ("guess at 8", floor),
    ]
    memory, state, least, one, eight, _ = records
    assert eight["ratio"] == pytest.approx(eight["value"] / one["value"])
    assert eight["median_of"] == 3 and eight["least"] <= eight["value"] <= eight["most"]
    assert state["value"] == 8 + 4 + 4  # key, time, context
    assert least["value"] == pytest.approx(1e9 * memory["value"] / (2 * 16))
    assert (workplace / "env/figures/throughput.png").stat().st_size > 10_000
    assert records[0]["versions"]["packages"]["jaxenv"] == jaxenv.__version__
    assert "guess at 8" in capsys.readouterr().out


@pytest.mark.slow
def test_benchmark_compares_with_mobile_env_where_installed(workplace):
    pytest.importorskip("mobile_env")
    sizes = ["num_envs=[8]", "num_steps=4", "repeats=1", "reference_s=1"]
    small = ["env.num_rsus=2", "env.num_vehicles=2", "env.max_steps=20"]
    benchmark.main([*sizes, *small, "hydra.run.dir=env"])
    rows = json.loads((workplace / "env/benchmark.json").read_text())
    records = {r["name"]: r for r in rows}
    theirs = records["mobile-env mobile-medium-central-v0"]
    assert SLOW.format("vehicular") not in records  # it has ten vehicles
    floor = records["vehicular at 8, floor by memory"]
    ours = {r["ratio_to"]: r for r in rows if r["name"] == "vehicular at 8"}
    ratio = ours[theirs["name"]]["value"] / theirs["value"]
    assert ours[theirs["name"]]["ratio"] == pytest.approx(ratio)
    turns, state = records["vehicular at 8, turns"], records["vehicular state"]
    moved = 2 * state["value"] * turns["value"]
    assert floor["value"] == pytest.approx(1e9 * records["memory"]["value"] / moved)
    assert 0 < records["vehicular at 8, lane use without compaction"]["value"] <= 100


SLOW = "slow NumPy version of {}"


@pytest.mark.parametrize("name", ["partitioning", "robust", "services", "splitting", "vehicular"])
def test_slow_versions_are_measured(name):
    found = measure_slow(name, seconds=0.01, repeats=2, seed=0)
    assert found.name == SLOW.format(name) and 0 < found.least <= found.value <= found.most
    assert measure_slow("guess", seconds=0.01, repeats=2, seed=0) is None


def test_benchmark_of_several_systems(workplace, monkeypatch, capfd):
    """Each piece in a process of its own; one that fails is named, the others are kept."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(HERE)]))
    good = "pieces.env_robust=['plugins=[probe_plugin]','env=guess','num_steps=2']"
    bad = "pieces.env_services=['env=nothing']"
    small = ["num_envs=[1,2]", "repeats=2", "reference_s=0", "hydra.run.dir=all"]
    with pytest.raises(SystemExit) as stop:
        benchmark.main(["suite=all", "only=[env_robust,env_services]", good, bad, *small])
    assert stop.value.code == 1
    records = json.loads((workplace / "all/benchmark.json").read_text())
    assert {r["name"] for r in records} >= {"guess at 1", "guess at 2", "memory"}
    assert "env_services failed with status 2" in capfd.readouterr().out


def test_benchmark_of_training(workplace):
    sizes = ["agent=reinforce", "num_updates=2", "repeats=2", "num_seeds=2"]
    benchmark.main([*PROBE, "suite=train", *sizes, "hydra.run.dir=train"])
    records = json.loads((workplace / "train/benchmark.json").read_text())
    units = [record["unit"] for record in records]
    assert units[:4] == ["updates/s", "s", "s", "MiB"]
    assert all(record["value"] > 0 for record in records)


@pytest.mark.quick
def test_state_bytes_counts_keys():
    importlib.import_module("probe_plugin")
    env, params = jaxenv.make("guess")
    import jax

    assert state_bytes(env.reset(jax.random.key(0), params)[1]) == 16


def test_render_draws_every_frame_of_an_episode(workplace):
    render.main([*PROBE, "baseline=constant", "hydra.run.dir=there"])
    with Image.open(workplace / "there/figures/episode.gif") as image:
        assert image.n_frames == 6  # the first state and max_steps = 5 steps
    render.main([*PROBE, "baseline=constant", "format=png", "hydra.run.dir=still"])
    assert (workplace / "still/figures/episode.png").exists()


def test_render_refuses_an_environment_that_cannot_draw(workplace, monkeypatch, capsys):
    monkeypatch.setattr(jaxenv.registry.environment_class("guess"), "draw", None)
    with pytest.raises(SystemExit):
        render.main([*PROBE, "baseline=constant"])
    assert "it has no method draw(axes, state, params)" in capsys.readouterr().err


def probe_figure(config):
    rows = [{"x": x, "y": x * config["seed"]} for x in range(3)]
    holds = Verdict("y grows", "line 1", "slope > 0", 2.0, 1.5, 2.5, "holds", "")
    unknown = Verdict("y is fast", "none", "", None, None, None, "not comparable", "no hardware")
    figure, (axes,) = new_figure(1)
    axes.plot([row["x"] for row in rows], [row["y"] for row in rows])
    return Reproduction(rows, [holds, unknown], figure)


@pytest.mark.quick
def test_reproduce_writes_data_figure_and_verdicts(workplace, capsys):
    register_figure("probe/fig01", probe_figure)
    register_figure("probe/fig02", "tests.runs.test_programs:probe_figure")
    reproduce.main(["figure=probe/fig01", "seed=2", "hydra.run.dir=one"])
    rows = read_csv(workplace / "one/probe_fig01.csv")
    assert rows == [{"x": str(x), "y": str(2 * x)} for x in range(3)]
    assert (workplace / "one/figures/probe_fig01.png").exists()
    verdicts = read_csv(workplace / "one/verdicts.csv")
    columns = "claim paper expected measured ci_low ci_high verdict why"
    assert list(verdicts[0]) == columns.split()
    assert [v["verdict"] for v in verdicts] == ["holds", "not comparable"]
    assert "2 [1.5, 2.5]" in capsys.readouterr().out
    reproduce.main(["figure=probe/all", "hydra.run.dir=all"])
    assert len(read_csv(workplace / "all/verdicts.csv")) == 4
    assert (workplace / "all/probe_fig02.csv").exists()


@pytest.mark.quick
def test_after_a_program_there_is_no_output_folder(workplace):
    """Neither after one that ran nor after one that only helped."""
    register_figure("probe/fig01", probe_figure)
    reproduce.main(["figure=probe/fig01", "hydra.run.dir=one"])
    with reproductions.output_folder() as folder:
        assert not Path(folder).is_relative_to(workplace)
    with pytest.raises(SystemExit):
        reproduce.main(["--help"])
    with reproductions.output_folder() as folder:
        assert Path(folder).is_dir()


def test_an_interrupted_reproduction_goes_on(workplace, monkeypatch, capsys):
    """Its first training is read, its second goes on; the table is that of a run in one piece."""

    def figure(config):
        rows = []
        with reproductions.output_folder() as folder:
            for name, rate in (("slow", 0.01), ("fast", 0.1)):
                shared = {key: config[key] for key in ("env", "seed", "plugins", "precision")}
                own = {"agent": {"name": "reinforce", "lr": rate}, "num_seeds": 1}
                sizes = {"num_updates": 4, "checkpoint_interval": 2, "log_interval": 2}
                evaluation = {"eval_episodes": 8, "eval_seed": 0, "episodes_per_call": 8}
                more = {"checkpoint_episodes": 0, "scenario": "default"}
                job = reproductions.training_job(
                    shared | own | sizes | evaluation | more, Path(folder) / name
                )
                reproductions.trained([job])
                rows += read_csv(Path(folder) / name / "metrics.csv")
        return Reproduction(rows, [])

    def stopped(self, *arguments, **options):
        save(self, *arguments, **options)
        if self.job.folder.name == "fast":
            raise train.Interrupted

    register_figure("probe/training", figure)
    arguments = [*PROBE, "figure=probe/training"]
    reproduce.main([*arguments, "hydra.run.dir=whole"])
    save = Recorder.save
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(Recorder, "save", stopped)
        reproduce.main([*arguments, "hydra.run.dir=part"])
    assert stop.value.code == 130
    assert f"saved; go on with: resume={workplace / 'part'}" in capsys.readouterr().out
    assert [p.name for p in (workplace / "part/fast/checkpoints").glob("[0-9]*")] == ["2"]
    before = (workplace / "part/slow/timing.csv").read_text()
    reproduce.main(["resume=part"])
    assert (workplace / "part/slow/timing.csv").read_text() == before
    table = "probe_training.csv"
    assert (workplace / "part" / table).read_text() == (workplace / "whole" / table).read_text()
    with pytest.raises(SystemExit):
        reproduce.main(["resume=part", "seed=5"])
    refusal = (
        f"seed: 5 is not valid; the run in {workplace / 'part'} has 0; resume may change nothing"
    )
    assert refusal in capsys.readouterr().err


def test_runs_of_one_program_go_on_together(workplace, monkeypatch):
    """Finished ones are read; from one update they go on; from different ones they start over."""
    env = {"name": "guess"}
    more = {"env": env, "seed": 0, "plugins": [], "precision": "float32", "num_seeds": 1}
    more |= {"num_updates": 4, "eval_episodes": 8, "eval_seed": 0, "episodes_per_call": 8}
    more |= {"checkpoint_episodes": 0, "scenario": "default"}
    more |= {"log_interval": 1, "checkpoint_interval": 1}
    rates = (0.01, 0.1)
    importlib.import_module("probe_plugin")

    def jobs():
        return [
            reproductions.training_job(
                more | {"agent": {"name": "reinforce", "lr": rate}}, place / f"{rate}"
            )
            for rate in rates
        ]

    def written(name):
        return [(place / f"{rate}/{name}.csv").read_text() for rate in rates]

    def again():
        release_folders()
        begun = jobs()
        assert all(job.config["resume"] for job in begun)
        return reproductions.trained(begun)

    place = workplace / "whole"
    states = reproductions.trained(jobs())
    before, timing = written("metrics"), written("timing")
    jax.tree.map(np.testing.assert_array_equal, *map(plain, (states, again())))
    assert written("metrics") == before and written("timing") == timing
    save = Recorder.save

    def stopped(self, update, *arguments, **options):
        save(self, update, *arguments, **options)
        if self.job.folder.name == last and update == 2:
            raise KeyboardInterrupt

    for last, updates in (("0.1", (2, 2)), ("0.01", (2, 1))):  # of one program the second is last
        place = workplace / f"killed after {last}"
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Recorder, "save", stopped)
            reproductions.trained(jobs())
        saved = [sorted((place / f"{rate}/checkpoints").glob("[0-9]*")) for rate in rates]
        assert [int(paths[-1].name) for paths in saved] == list(updates)
        jax.tree.map(np.testing.assert_array_equal, *map(plain, (states, again())))
        assert written("metrics") == before
    release_folders()


def plain(states):
    """With the data of keys."""
    is_key = lambda x: jnp.issubdtype(x.dtype, jax.dtypes.prng_key)  # noqa: E731
    return jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, states)


@pytest.mark.quick
def test_what_no_figure_reads_is_refused(workplace, capsys):
    """Of the published systems only the vehicular one measures a checkpoint or looks ahead."""
    with pytest.raises(SystemExit):
        reproduce.main(["figure=services/fig04", "lookahead=true", "hydra.run.dir=refused"])
    line = "lookahead: True is not valid; services/fig04 does not read it; vehicular does"
    assert line in capsys.readouterr().err
    assert not (workplace / "refused/config.yaml").exists()
    given = {"checkpoint": "run", "lookahead": True}
    with pytest.raises(jaxenv.ConfigError, match="^checkpoint: 'run' is not valid; robust/gap"):
        reproduce.check_read(given, ["vehicular/fig06", "robust/gap"])
    reproduce.check_read(given, ["vehicular/fig06", "probe/fig01"])


@pytest.mark.quick
def test_a_verdict_is_one_of_three():
    with pytest.raises(jaxenv.ConfigError, match="choose holds, fails, holds only calibrated or"):
        Verdict("claim", "", "", None, None, None, "maybe", "")


@pytest.mark.quick
@pytest.mark.parametrize("name", [p.stem for p in (CONF / "env").glob("*.yaml")])
def test_environment_yaml_lists_every_setting(name):
    text = stored_yaml(CONF / "env" / f"{name}.yaml")
    environment = jaxenv.registry.environment_class(text.pop("name"))
    assert set(environment_settings(environment)) <= set(text)


@pytest.mark.quick
@pytest.mark.parametrize("name", [p.stem for p in (CONF / "agent").glob("*.yaml")])
def test_agent_yaml_lists_every_setting(name):
    text = stored_yaml(CONF / "agent" / f"{name}.yaml")
    learner = agents_registry.learner_class(text.pop("name"))
    assert sorted(text) == sorted(learner_settings(learner))


@pytest.mark.parametrize("name", [p.stem for p in (CONF / "experiment").glob("*.yaml")])
def test_experiments_build(name):
    """Every preset composes into an environment and a learner that fits it."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("train", overrides=[f"experiment={name}"])
    config = with_intervals(OmegaConf.to_container(composed, resolve=True))
    env, params = build_env(config)
    learner, hp = build_learner(config, env)
    assert learner.unsupported(env) is None
    assert set(check_baselines(config, env)) <= set(agents_registry.baseline_names(env.name))
    rates = [value for name, value in vars(hp).items() if name.startswith("lr")]
    assert rates and np.all(np.isfinite(rates))


def test_operations_of_a_gradient_are_those_of_its_layers():
    """Forwards all layers of one actor and two critics; backwards all but the first layer's inputs,
    and of a critic's head, whose gradient meets one action per transition, next to nothing."""
    importlib.import_module("probe_plugin")
    env, params = jaxenv.make("guess")
    width, batch = 64, 128
    learner = SACDiscrete(env, hidden=(width, width), batch_size=batch, num_envs=4)
    hp = learner.default_hp().replace(discount=jnp.float32(0.0))
    state = learner.init(jax.random.key(0), params, hp)
    inputs, actions = env.observation_space.shape[0], env.num_actions
    first, second, head = inputs * width, width * width, width * actions
    forwards = 3 * (first + second + head)
    backwards = 3 * (first + 2 * second) + 2 * head
    by_hand = 2 * batch * (forwards + backwards)
    assert gradient_operations(learner, state, hp) == pytest.approx(by_hand, rel=0.1)


def test_a_launcher_that_finds_no_slurm_is_one_line(workplace, capsys):
    def task(config, folder):
        raise RuntimeError('Could not detect "srun", are you indeed on a slurm cluster?')

    with pytest.raises(SystemExit) as stop:
        program.run_program("solve", task, [])
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: launcher: None is not valid; this machine has no SLURM; add ")
