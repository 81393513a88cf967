"""What an evaluation writes beside its table: distributions, actions, and who has collapsed."""

from __future__ import annotations

import importlib

import jax.numpy as jnp
import pytest

import jaxenv
from runs import evaluate
from runs.tables import ACTIONS, LEVELS, QUANTILES, read_csv
from tests.runs.conftest import PROBE


def test_an_evaluation_writes_distributions_and_actions(workplace):
    evaluate.main([*PROBE, "num_episodes=40", "episodes_per_call=16", "hydra.run.dir=there"])
    quantiles = read_csv(workplace / "there/quantiles.csv")
    assert tuple(quantiles[0]) == QUANTILES
    assert len(quantiles) == 2 * 2 * len(LEVELS)  # policies and metrics
    actions = read_csv(workplace / "there/actions.csv")
    assert tuple(actions[0]) == ACTIONS
    taken = dict.fromkeys(("random", "constant"), 0)
    for row in actions:
        taken[row["policy"]] += int(row["decisions"])
    assert taken == {"random": 200, "constant": 200}  # 40 episodes of 5 steps
    assert [row["share"] for row in actions if row["policy"] == "constant"] == ["1.0"]
    assert not (workplace / "there/violations.csv").exists()  # it declares no constraint
    for name in ("evaluation", "quantiles", "actions"):
        assert (workplace / f"there/figures/{name}.png").stat().st_size > 5000


@pytest.mark.quick
def test_a_learned_policy_that_takes_one_action_alone_is_named(workplace, capsys):
    plugin = importlib.import_module("probe_plugin")
    env, params = jaxenv.make("guess")
    weights = jnp.stack([jnp.eye(3), jnp.zeros((3, 3)).at[:, 1].set(1.0)])
    config = {"scenario": "guess", "eval_seed": 0, "episodes_per_call": 256}
    learned = {"reinforce": plugin.LinearPolicy(weights)}
    evaluate.measure(config, workplace, env, params, learned, ["constant"], 32)
    lines = [x for x in capsys.readouterr().out.splitlines() if x.startswith("warning")]
    assert lines == [
        "warning: reinforce, seed 1: one action in at least 99% of the decisions that leave a "
        "choice; see actions.csv"
    ]


def test_the_table_of_violations_is_printed(workplace, monkeypatch, capsys):
    importlib.import_module("probe_plugin")
    constraint = jaxenv.Constraint("wrong", ("wrong",))
    cls = jaxenv.registry.environment_class("guess")
    step = cls.step_env

    def step_env(self, *arguments):
        state, reward, terminated, info = step(self, *arguments)
        return state, reward, terminated, info | {"wrong": info["success"] == 0}

    monkeypatch.setattr(cls, "constraints", (constraint,))
    monkeypatch.setattr(cls, "step_env", step_env)
    evaluate.main([*PROBE, "env.max_steps=4", "num_episodes=50", "hydra.run.dir=there"])
    (random, constant) = read_csv(workplace / "there/violations.csv")
    success = {
        row["policy"]: float(row["mean"])
        for row in read_csv(workplace / "there/evaluation.csv")
        if row["metric"] == "success"
    }
    for row in (random, constant):
        assert float(row["rate"]) == pytest.approx(100 - success[row["policy"]])
        assert row["trials"] == "200"
        assert float(row["ci_low"]) < float(row["rate"]) < float(row["ci_high"])
    assert "wrong [%]" in capsys.readouterr().out
