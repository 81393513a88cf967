"""Training: exact resume after kills and signals, seeds, sweeps, and what a run folder holds."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import registry as agents_registry
from agents.lanes import compiled_chunk, stack_lanes, strong_init
from agents.learner import EpisodeTerms, summarize
from jaxenv import make, struct
from jaxenv.environment import Metric
from jaxenv.registry import load_plugins
from runs import train
from runs.checkpoint import Checkpoints
from runs.folders import stored_config
from runs.policies import abstract_states, identity
from runs.settings import build_env, build_learner, stored_yaml
from runs.tables import EVALUATION, interval, read_csv
from tests.runs.conftest import HERE, TRAIN, run_process, start_process

LONG = [*TRAIN, "num_updates=12", "num_seeds=4", "checkpoint_interval=3", "log_interval=1"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of `LONG`."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        train.main([*LONG, "checkpoint_episodes=8", f"hydra.run.dir={folder}"])
    return folder


def final_state(folder: Path, num_seeds: int, update: int):
    env, params = make("guess")
    learner, hp = agents_registry.learner_class("reinforce").build(env)
    target = abstract_states(learner, params, hp, num_seeds)
    checkpoints = Checkpoints(folder, identity(learner))
    found, state, skipped = checkpoints.restore(target)
    checkpoints.close()
    assert (found, skipped) == (update, [])
    return jax.tree.map(
        lambda x: np.asarray(jax.random.key_data(x) if x.dtype.name.startswith("key") else x), state
    )


def assert_same_run(one: Path, other: Path, num_seeds: int, update: int) -> None:
    names = ("metrics", "evaluation", "evaluation_seeds", "quantiles", "actions")
    for name in (f"{name}.csv" for name in names):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    states = (final_state(folder, num_seeds, update) for folder in (one, other))
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(workplace, whole):
    arguments = [*LONG, "checkpoint_episodes=8", "hydra.run.dir=killed"]
    killed = run_process("runs.train", *arguments, PROBE_AT="8", PROBE_SIGNAL="SIGKILL")
    assert killed.returncode == -9
    assert not (workplace / "killed/evaluation.csv").exists()
    resumed = run_process("runs.train", "resume=killed")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_run(whole, workplace / "killed", 4, 12)
    progress = [(run / "progress.csv").read_bytes() for run in (whole, workplace / "killed")]
    assert progress[0] == progress[1]


def test_more_updates_continue_the_schedule_of_the_first_run(workplace, whole):
    train.main([*LONG, "num_updates=6", "schedule_updates=12", "hydra.run.dir=parts"])
    train.main(["resume=parts", "num_updates=12"])
    assert_same_run(whole, workplace / "parts", 4, 12)
    rates = {float(row["rate"]) for row in read_csv(workplace / "parts/metrics.csv")}
    np.testing.assert_allclose(sorted(rates), 0.1 * np.arange(1, 13) / 12, rtol=1e-6)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_saves_and_says_how_to_resume(workplace, whole, name):
    arguments = [*LONG, "checkpoint_interval=12", f"hydra.run.dir={name}"]
    stopped = run_process("runs.train", *arguments, PROBE_AT="5", PROBE_SIGNAL=name)
    assert stopped.returncode == 130
    assert f"resume={workplace / name}" in stopped.stdout
    assert "Traceback" not in stopped.stderr
    saved = [int(path.name) for path in (workplace / name / "checkpoints").iterdir()]
    assert 5 <= max(saved) < 12
    train.main([f"resume={name}"])
    assert_same_run(whole, workplace / name, 4, 12)


def test_a_finished_run_resumes_to_the_same_table(workplace):
    train.main([*TRAIN, "hydra.run.dir=run"])
    before = {p.name: p.read_bytes() for p in (workplace / "run").glob("*.csv")}
    train.main(["resume=run"])
    after = {p.name: p.read_bytes() for p in (workplace / "run").glob("*.csv")}
    assert before == after


@pytest.mark.quick
def test_a_run_folder_holds_what_other_programs_read(workplace, capsys):
    train.main([*TRAIN, "num_seeds=2", "agent.lr=0.2", "env.wrong_cost=2", "hydra.run.dir=run"])
    folder = workplace / "run"
    config = stored_config(folder)
    assert config["agent"] == {
        "name": "reinforce",
        "num_envs": None,
        "lr": 0.2,
        "schedule_updates": 4,
    }
    assert config["env"]["wrong_cost"] == 2 and config["log_interval"] == 1
    versions = json.loads((folder / "versions.json").read_text())
    assert versions["packages"]["jax"] == jax.__version__
    assert versions["hardware"]["devices"][0].startswith(jax.default_backend())
    metrics = read_csv(folder / "metrics.csv")
    assert list(metrics[0]) == ["update", "seed", "loss", "rate", "reward"]
    assert [(r["update"], r["seed"]) for r in metrics] == [
        (str(u), str(s)) for u in range(1, 5) for s in range(2)
    ]
    assert len(read_csv(folder / "timing.csv")) == 4
    rows = read_csv(folder / "evaluation.csv")
    assert tuple(rows[0]) == EVALUATION
    assert list(dict.fromkeys(r["policy"] for r in rows)) == [
        *("reinforce", "random", "constant", "bound")
    ]
    for row in rows:
        if row["metric"] == "cost":
            gap = (float(row["mean"]) - 0.5) / 0.5  # the bound is base_cost on every trace
            assert float(row["gap_to_bound"]) == pytest.approx(gap)
            assert float(row["ci_low"]) <= float(row["mean"]) <= float(row["ci_high"])
    seeds = [r for r in read_csv(folder / "evaluation_seeds.csv") if r["policy"] == "reinforce"]
    assert [r["seed"] for r in seeds if r["metric"] == "cost"] == ["0", "1"]
    mean = np.mean([float(r["mean"]) for r in seeds if r["metric"] == "cost"])
    assert float(rows[0]["mean"]) == pytest.approx(mean)
    for name in ("training", "evaluation"):
        assert (folder / f"figures/{name}.png").read_bytes()[:4] == b"\x89PNG"
    out = capsys.readouterr().out
    assert out.count("policy") == 1 and "bound" in out


def test_a_seed_is_the_same_among_others_as_alone(workplace, whole):
    """Seed i is fold_in(key(seed), i): the first of four seeds is the run with one seed."""
    train.main([*LONG, "num_seeds=1", "hydra.run.dir=one"])
    one = read_csv(workplace / "one/metrics.csv")
    four = [row for row in read_csv(whole / "metrics.csv") if row["seed"] == "0"]
    for left, right in zip(one, four, strict=True):
        assert float(left["loss"]) == pytest.approx(float(right["loss"]), rel=1e-4, abs=1e-6)
        assert left["reward"] == right["reward"]


def test_training_learns_the_probe(workplace):
    train.main([*TRAIN, "num_updates=200", "agent.lr=0.2", "hydra.run.dir=run"])
    cost = read_csv(workplace / "run/evaluation.csv")[0]
    assert (cost["policy"], cost["metric"], float(cost["mean"])) == ("reinforce", "cost", 0.5)


def test_a_sweep_ends_in_one_table_and_vmap_gives_the_same_numbers(workplace, capsys):
    """One vmapped program and four of their own differ in the order of float sums alone."""
    sweep = [*TRAIN, "-m", "agent.lr=0.01,0.1", "env.wrong_cost=1,2", "num_seeds=2"]
    train.main([*sweep, "hydra.sweep.dir=separate"])
    separate = capsys.readouterr().out
    train.main([*sweep, "hydra.sweep.dir=together", "launcher=vmap"])
    together = capsys.readouterr().out
    assert "program 4 of 4" in separate and "program 1 of 1: job 0, 1, 2, 3" in together
    assert separate.count("success [%]") == together.count("success [%]") == 1
    for name in ("separate", "together"):
        rows = read_csv(workplace / name / "sweep.csv")
        assert list(rows[0]) == ["job", "env.wrong_cost", "agent.lr", *EVALUATION]
        swept = {row["job"]: (row["agent.lr"], row["env.wrong_cost"]) for row in rows}
        assert sorted(swept.values()) == [("0.01", "1"), ("0.01", "2"), ("0.1", "1"), ("0.1", "2")]
        assert len(rows) == 4 * (3 * 2 + 1)
    for job in range(4):
        folders = [workplace / name / str(job) for name in ("separate", "together")]
        for file in ("metrics.csv", "evaluation.csv", "evaluation_seeds.csv"):
            assert_close(*(read_csv(folder / file) for folder in folders))
        states = (final_state(folder, 2, 4) for folder in folders)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *states)


def assert_close(left: list[dict[str, str]], right: list[dict[str, str]]) -> None:
    for one, other in zip(left, right, strict=True):
        for name in one:
            try:
                assert float(one[name]) == pytest.approx(float(other[name]), rel=1e-5, abs=1e-6)
            except ValueError:
                assert one[name] == other[name]


def test_vmap_puts_together_only_what_differs_in_traced_leaves(workplace, capsys):
    sweep = [*TRAIN, "-m", "env.num_choices=2,3", "seed=0,1", "launcher=vmap"]
    train.main([*sweep, "hydra.sweep.dir=sweep"])
    out = capsys.readouterr().out
    assert "program 1 of 2: job 0, 1" in out and "program 2 of 2: job 2, 3" in out
    train.main(["resume=sweep/3", "num_updates=8"])
    assert read_csv(workplace / "sweep/3/metrics.csv")[-1]["update"] == "8"


def test_checkpoints_keep_the_last_and_the_best(workplace):
    """The best is that of the lowest mean of the first metric, measured on the same episodes."""
    options = ["num_updates=40", "checkpoint_interval=4", "keep_checkpoints=2", "agent.lr=0.03"]
    train.main([*TRAIN, *options, "checkpoint_episodes=8", "hydra.run.dir=run"])
    costs = {
        int(row["update"]): float(row["mean"])
        for row in read_csv(workplace / "run/progress.csv")
        if row["metric"] == "cost"
    }
    assert list(costs) == list(range(4, 41, 4))
    kept = {int(path.name) for path in (workplace / "run/checkpoints").iterdir()}
    best = min(costs.values())
    assert {36, 40} < kept | {0} and len(kept) <= 3
    assert min(costs[update] for update in kept) == best


def test_the_chunk_compiles_once(workplace):
    load_plugins(["probe_plugin"])
    env, params = make("guess")
    learner, hp = agents_registry.learner_class("reinforce").build(env)
    axes = (0, None, None)
    chunk = compiled_chunk(learner, axes, 1)
    keys = jax.random.split(jax.random.key(0), 2)
    init = jax.jit(jax.vmap(lambda *x: strong_init(learner, *x), in_axes=axes))
    states = init(keys, params, hp)
    for _ in range(3):
        states, metrics = chunk(states, params, hp)
    assert chunk._cache_size() == 1
    assert {name: value.shape for name, value in metrics.items()} == dict.fromkeys(
        ("reward", "loss", "rate"), (2,)
    )


def test_arrays_of_a_checkpoint_are_found_by_name_whatever_their_order(tmp_path):
    @struct.dataclass
    class Before:
        rate: jax.Array
        count: jax.Array

    @struct.dataclass
    class After:
        count: jax.Array
        rate: jax.Array

    checkpoints = Checkpoints(tmp_path, {"env": "guess", "agent": "none"})
    checkpoints.save(3, Before(rate=jnp.array(0.5), count=jnp.int32(7)))
    target = jax.eval_shape(lambda: After(count=jnp.int32(0), rate=jnp.array(0.0)))
    update, state, _ = checkpoints.restore(target)
    checkpoints.close()
    assert (update, float(state.rate), int(state.count)) == (3, 0.5, 7)


@pytest.mark.quick
def test_lanes_share_what_no_job_changes():
    _, params = make("guess")
    trees = [params, params.replace(wrong_cost=params.wrong_cost * 2)]
    tree, axes = stack_lanes(trees, num_seeds=2)
    assert (axes.wrong_cost, axes.base_cost, axes.weights, axes.max_steps) == (0, None, None, None)
    np.testing.assert_array_equal(tree.wrong_cost, [1, 1, 2, 2])


@pytest.mark.quick
def test_terms_of_a_metric_are_pooled_by_hand():
    metrics = {
        "loss": np.array([1.0, 2.0]),
        "numerator/cost": np.array([6.0, 0.0]),
        "denominator/cost": np.array([4.0, 0.0]),
    }
    got = train.pooled(metrics)
    assert list(got) == ["cost", "loss", "denominator/cost"]
    np.testing.assert_array_equal(got["cost"], [1.5, np.nan])


def test_metrics_of_a_chunk_are_means_of_what_is_not_nan(workplace):
    train.main([*TRAIN, "log_interval=2", "hydra.run.dir=two"])
    train.main([*TRAIN, "log_interval=1", "hydra.run.dir=one"])
    one = [float(row["reward"]) for row in read_csv(workplace / "one/metrics.csv")]
    two = [float(row["reward"]) for row in read_csv(workplace / "two/metrics.csv")]
    np.testing.assert_allclose(two, np.reshape(one, (2, 2)).mean(1), rtol=1e-6)


def test_loggers_of_the_extras_get_every_row(workplace, monkeypatch):
    """A stand-in for TensorBoard's writer: means over seeds and each seed's own number."""
    import sys
    import types

    seen: list[tuple[str, float, int]] = []

    class Writer:
        def __init__(self, folder):
            assert folder.endswith("run/tensorboard")

        def add_scalar(self, name, value, update):
            seen.append((name, value, update))

        def close(self):
            pass

    package, summary = types.ModuleType("tensorboard"), types.ModuleType("tensorboard.summary")
    package.__spec__ = object()
    package.__path__, summary.Writer = [], Writer
    monkeypatch.setitem(sys.modules, "tensorboard", package)
    monkeypatch.setitem(sys.modules, "tensorboard.summary", summary)
    train.main([*TRAIN, "num_seeds=2", "logger=tensorboard", "hydra.run.dir=run"])
    rows = list(csv.DictReader((workplace / "run/metrics.csv").open()))
    for update in range(1, 5):
        own = [float(row["reward"]) for row in rows if row["update"] == str(update)]
        logged = {name: value for name, value, u in seen if u == update}
        assert [logged["reward/0"], logged["reward/1"]] == pytest.approx(own)
        assert logged["reward"] == pytest.approx(np.mean(own))


VEHICLES = [
    *("experiment=vehicular", "num_seeds=4", "num_updates=40", "checkpoint_interval=20"),
    *("log_interval=2", "baselines=[]", "eval_episodes=4", "env.num_rsus=2", "env.num_vehicles=3"),
    *("env.max_steps=30", "env.arrival_probability=0.3", "agent.hidden=[16]"),
    *("agent.num_envs=8", "agent.learning_starts=64", "agent.batch_size=32"),
    *("agent.buffer_size=1000", "agent.schedule_updates=40"),
]


def vehicular_state(folder: Path):
    env, params = build_env(stored_config(folder))
    learner, hp = build_learner(stored_config(folder), env)
    checkpoints = Checkpoints(folder, identity(learner))
    found, state, skipped = checkpoints.restore(abstract_states(learner, params, hp, 4))
    checkpoints.close()
    assert (found, skipped) == (40, [])
    return jax.tree.map(
        lambda x: np.asarray(jax.random.key_data(x) if x.dtype.name.startswith("key") else x), state
    )


@pytest.mark.deep
def test_the_scheduler_killed_after_20_of_40_updates_ends_bitwise_the_same(workplace):
    train.main([*VEHICLES, "hydra.run.dir=whole"])
    metrics = workplace / "killed/metrics.csv"
    process = start_process("runs.train", *VEHICLES, "hydra.run.dir=killed")
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        reached = len(metrics.read_text().splitlines()) - 1 if metrics.exists() else 0
        if reached >= 4 * 11:  # four seeds, and past the checkpoint at update 20
            process.kill()
        time.sleep(0.01)
    assert process.wait() == -9
    saved = sorted(int(p.name) for p in (workplace / "killed/checkpoints").iterdir())
    assert saved[-1] == 20 and not (workplace / "killed/evaluation.csv").exists()
    train.main(["resume=killed"])
    names = ("metrics", "evaluation", "evaluation_seeds", "quantiles", "actions")
    for name in (f"{name}.csv" for name in names):
        one, other = (workplace / run / name for run in ("whole", "killed"))
        assert one.read_bytes() == other.read_bytes(), name
    states = [vehicular_state(workplace / run) for run in ("whole", "killed")]
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert states[0].optimizer.count.tolist() == [states[0].optimizer.count[0]] * 4


def test_every_number_in_use_is_written_down(workplace):
    """Also where the configuration leaves it to its default."""
    train.main([*TRAIN, "env.wrong_cost=3", "hydra.run.dir=run"])
    used = stored_yaml(workplace / "run/resolved.yaml")
    env, params = make("guess", wrong_cost=3.0)
    learner, hp = agents_registry.learner_class("reinforce").build(env)
    assert used["env"]["wrong_cost"] == 3.0
    assert used["env"]["weights"] == pytest.approx(np.asarray(params.weights).tolist())
    assert used["env"]["num_choices"] == 3
    assert used["agent"]["lr"] == pytest.approx(float(hp.lr))


@pytest.mark.quick
def test_what_was_never_counted_has_no_mean():
    """Two episodes without a finished task: neither a cost nor a gap, and an empty cell."""
    metric = Metric("cost", "s", "min", "ratio", of="cost", over="tasks")
    nothing = EpisodeTerms({"cost": np.zeros(2)}, {"cost": np.zeros(2)}, (np.ones(2), np.ones(2)))
    (estimate,) = summarize((metric,), nothing, "cost")
    assert np.isnan([estimate.mean, estimate.ci_low, estimate.ci_high]).all()
    assert estimate.gap_to_bound is None
    assert interval({"mean": "nan", "ci_low": "nan", "ci_high": "nan"}) == ""
    one = EpisodeTerms({"cost": np.array([6.0, 0])}, {"cost": np.array([3.0, 0])})
    (estimate,) = summarize((metric,), one)
    assert (estimate.mean, estimate.ci_low, estimate.ci_high) == (2.0, 2.0, 2.0)


def test_a_policy_that_is_not_finite_ends_the_run_with_the_last_good_state(workplace, capsys):
    """Steps of 3e38 leave float32 at the second."""
    train.main([*TRAIN, "schedule_updates=40", "num_seeds=2", "hydra.run.dir=run"])
    before = {path.name: path.read_bytes() for path in (workplace / "run").glob("*.csv")}
    config = (workplace / "run/config.yaml").read_text()
    assert "lr: null" in config
    (workplace / "run/config.yaml").write_text(config.replace("lr: null", "lr: 3.0e+38"))
    with pytest.raises(SystemExit) as stop:
        train.main(["resume=run", "num_updates=40"])
    assert stop.value.code == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "weights of the policy of seed 0 is not finite after update" in error
    assert "the last good state is the checkpoint of update" in error
    assert "Traceback" not in error
    state = final_state(
        workplace / "run", 2, int(error.split("checkpoint of update ")[1].split(";")[0])
    )
    assert np.isfinite(state.weights).all()
    assert (workplace / "run/evaluation.csv").read_bytes() == before["evaluation.csv"]


def test_jobs_beside_one_that_is_not_finite_are_finished(workplace, capsys):
    sweep = [*TRAIN, "-m", "agent.lr=0.1,3e38", "launcher=vmap", "num_updates=12"]
    with pytest.raises(SystemExit) as stop:
        train.main([*sweep, "log_interval=4", "hydra.sweep.dir=sweep"])
    assert stop.value.code == 1
    assert "sweep/1: weights of the policy of seed 0 is not finite" in capsys.readouterr().err
    assert (workplace / "sweep/0/evaluation.csv").exists()
    assert not (workplace / "sweep/1/evaluation.csv").exists()
    assert {row["job"] for row in read_csv(workplace / "sweep/sweep.csv")} == {"0"}


def test_jobs_after_one_that_is_not_finite_are_trained(workplace, capsys):
    sweep = [*TRAIN, "-m", "agent.lr=3e38,0.1", "num_updates=12", "log_interval=4"]
    with pytest.raises(SystemExit) as stop:
        train.main([*sweep, "hydra.sweep.dir=sweep"])
    assert stop.value.code == 1
    assert "sweep/0: weights of the policy of seed 0 is not finite" in capsys.readouterr().err
    assert not (workplace / "sweep/0/evaluation.csv").exists()
    assert (workplace / "sweep/1/evaluation.csv").exists()
    assert {row["job"] for row in read_csv(workplace / "sweep/sweep.csv")} == {"1"}


@pytest.mark.quick
def test_a_schedule_of_no_updates_is_refused(workplace, capsys):
    with pytest.raises(SystemExit):
        train.main([*TRAIN, "schedule_updates=0", "hydra.run.dir=run"])
    assert "schedule_updates: 0 is not valid; give" in capsys.readouterr().err


@pytest.mark.quick
@pytest.mark.parametrize(("direction", "gap"), [("min", -0.25), ("max", 0.25)])
def test_what_is_better_than_the_bound_has_a_negative_gap(direction, gap):
    """A policy that breaks the limits of the bound: 3 of 4."""
    metric = Metric("cost", "s", direction, "sum", of="cost")
    terms = EpisodeTerms(
        {"cost": np.full(2, 3.0)}, {"cost": np.ones(2)}, (np.full(2, 4.0), np.ones(2))
    )
    (estimate,) = summarize((metric,), terms, "cost")
    assert estimate.gap_to_bound == gap
