"""examples/extension: what its environment and its learner give where the answer is known."""

from __future__ import annotations

import copy
import csv
import importlib
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import agents.registry
import jaxenv.registry
from agents.learner import evaluate, pool
from jaxenv import ConfigError
from jaxenv.testing import check_environment
from runs import reproduce, reproductions, train
from tests.probes import Bandit, Convoy, Corridor, Pair, Steering

FOLDER = Path(__file__).parents[1] / "examples" / "extension"
MODULES = ("two_queues", "reinforce", "two_queues_load")


@pytest.fixture(autouse=True)
def plugins(tmp_path, monkeypatch):
    """The modules beside the user's files; what they register is forgotten."""
    monkeypatch.chdir(FOLDER)
    monkeypatch.syspath_prepend(FOLDER)
    for module, name in (
        (jaxenv.registry, "_environments"),
        (agents.registry, "_learners"),
        (agents.registry, "_baselines"),
        (agents.registry, "_bounds"),
        (reproductions, "_figures"),
    ):
        monkeypatch.setattr(module, name, copy.deepcopy(getattr(module, name)))
    yield {name: importlib.import_module(name) for name in MODULES}
    for name in MODULES:
        del sys.modules[name]


@pytest.mark.quick
def test_a_task_costs_what_is_worked_out_by_hand(plugins):
    """1 Mbit, 500 Mcycle; an SNR of 3 on 2 MHz carries 4 Mbit/s."""
    env, params = jaxenv.make("two_queues")
    _, state = env.reset(jax.random.key(0), params)
    state = state.replace(
        queued=jnp.array([3e8, 6e8]), bits=jnp.float32(1e6), fading=jnp.float32(0.3)
    )
    delays, energies = env.delays_and_energies(state, params)
    np.testing.assert_allclose(delays, [0.8, 0.25 + 1.1 / 1.5], rtol=1e-5)
    np.testing.assert_allclose(energies, [0.5, 0.125], rtol=1e-5)

    _, after, reward, terminated, _, info = env.transition(state, jnp.int32(0), params)
    assert float(reward) == pytest.approx(-0.9, rel=1e-5) and not terminated
    np.testing.assert_allclose(after.queued, [5e8, 1.5e8], rtol=1e-5)
    _, after, reward, *_ = env.transition(state, jnp.int32(1), params)
    assert float(reward) == pytest.approx(-0.25 - 1.1 / 1.5 - 0.2 * 0.125, rel=1e-5)
    np.testing.assert_allclose(after.queued, [0, 6.5e8], rtol=1e-5)


def test_two_queues_keeps_the_contract_and_refuses_what_it_cannot_simulate(plugins):
    check_environment(plugins["two_queues"].TwoQueues())
    with pytest.raises(ConfigError, match="local_hz: 0.0 is not valid; give a positive"):
        jaxenv.make("two_queues", local_hz=0.0)


def trained(learner, hp, params, updates):
    """The state after so many updates."""
    state = learner.init(jax.random.key(0), params, hp)
    step = jax.jit(
        lambda s: jax.lax.scan(lambda s, _: learner.update(s, params, hp), s, length=updates)
    )
    return step(state)[0]


@pytest.mark.quick
def test_reinforce_finds_the_best_arm_of_every_context_and_its_value(plugins):
    """The best arm pays 7, any other 6. Arm 3 is never valid."""
    env = Bandit(num_contexts=4, num_arms=4)
    best = jnp.array([1, 2, 0, 0])
    reward = 6.0 + jax.nn.one_hot(best, 4)
    valid = jnp.ones((4, 4), bool).at[:, 3].set(False)
    params = env.default_params().replace(reward=reward, valid=valid)
    learner, hp = plugins["reinforce"].Reinforce.build(env, num_steps=1)
    state = trained(learner, hp, params, 300)
    contexts, mask = jnp.eye(4), jnp.array([True, True, True, False])
    act = jax.vmap(lambda o: learner.policy(state).act((), None, o, mask, None, params)[0])
    np.testing.assert_array_equal(act(contexts), best)
    values = learner.critic.apply(state.parameters["critic"], contexts)[:, 0]
    np.testing.assert_allclose(values, 7.0, atol=0.1)


def test_what_follows_a_state_is_discounted_and_ends_with_the_episode(plugins):
    """Place 0 pays 0 and leads to place 1, which pays 1 and ends: values 0.5 and 1."""
    env = Corridor()
    params = env.default_params().replace(terminal=jnp.asarray(True), max_steps=jnp.int32(9))
    learner, hp = plugins["reinforce"].Reinforce.build(env, num_steps=6, num_envs=4, discount=0.5)
    state = trained(learner, hp, params, 300)
    values = learner.critic.apply(state.parameters["critic"], jnp.eye(2))[:, 0]
    np.testing.assert_allclose(values, [0.5, 1.0], atol=0.02)


def test_steps_that_ask_nothing_are_not_learned_from(plugins):
    """Steps of one turn: the convoy asks in five of them."""
    env = Convoy()
    params = env.default_params().replace(turns_per_step=jnp.int32(1))
    learner, hp = plugins["reinforce"].Reinforce.build(env, num_steps=20, num_envs=2)
    _, metrics = learner.update(learner.init(jax.random.key(0), params, hp), params, hp)
    assert metrics["steps"] == 10


def test_the_baseline_takes_the_common_level_of_rewards_out_of_the_gradient(plugins):
    """With the true value as the baseline, an arm that pays what all pay has no gradient."""
    env = Bandit(num_arms=2)
    params = env.default_params().replace(reward=jnp.full((1, 2), 5.0))
    build = plugins["reinforce"].Reinforce.build
    moved = {}
    for baseline in (0.0, 1.0):
        learner, hp = build(env, num_steps=1, baseline=baseline)
        state = learner.init(jax.random.key(0), params, hp)
        critic = jax.tree.map(jnp.zeros_like, state.parameters["critic"])
        critic["params"]["head"]["bias"] = jnp.full((1,), 5.0)
        state = state.replace(parameters=state.parameters | {"critic": critic})
        after, _ = learner.update(state, params, hp)
        change = jax.tree.map(
            lambda a, b: jnp.abs(a - b).max(), after.parameters["actor"], state.parameters["actor"]
        )
        moved[baseline] = max(jax.tree.leaves(change))
    assert moved[1.0] == 0 < 1e-3 < moved[0.0]


@pytest.mark.quick
def test_reinforce_refuses_what_it_does_not_fit(plugins):
    build = plugins["reinforce"].Reinforce.build
    with pytest.raises(ConfigError, match="it needs Discrete actions, not Box"):
        build(Steering())
    with pytest.raises(ConfigError, match="it needs one agent, not 2"):
        build(Pair())
    with pytest.raises(ConfigError, match="discount: 2.0 is not valid"):
        build(Bandit(), discount=2.0)


def test_reinforce_beats_random_choices_and_no_policy_the_bound(plugins):
    env, params = jaxenv.make("two_queues", max_steps=30)
    learner, hp = plugins["reinforce"].Reinforce.build(env, num_steps=30)
    policies = {"learned": learner.policy(trained(learner, hp, params, 60))}
    for name in agents.registry.baseline_names("two_queues"):
        policies[name] = agents.registry.baseline(name, env)
    bound = agents.registry.bound(env)
    costs = {}
    for name, policy in policies.items():
        terms = evaluate(env, params, policy, jax.random.key(1), 64, bound)
        cost = terms.numerator["cost"] / terms.denominator["cost"]
        assert (cost >= terms.bound[0] / terms.bound[1] * (1 - 1e-5)).all()  # in every episode
        costs[name] = pool(env.metrics[0], terms.numerator["cost"], terms.denominator["cost"])
    assert costs["learned"] < 0.8 * costs["Random"]
    assert costs["LeastCost"] < 0.8 * costs["Random"]


def test_one_file_and_one_config_train_and_are_measured(plugins, tmp_path, capsys):
    train.main(
        [
            "plugins=[two_queues,reinforce]",
            "hydra.searchpath=[file://.]",
            "experiment=two_queues",
            "num_updates=2",
            "eval_episodes=4",
            "env.max_steps=8",
            f"hydra.run.dir={tmp_path}",
        ]
    )
    rows = list(csv.DictReader((tmp_path / "evaluation.csv").open()))
    assert {row["policy"] for row in rows} == {"reinforce", "Random", "LeastCost", "bound"}
    assert "agent:\n  name: reinforce" in (tmp_path / "config.yaml").read_text()
    capsys.readouterr()


@pytest.mark.quick
def test_the_figure_has_its_data_a_picture_and_a_verdict(plugins, tmp_path, capsys):
    plugged = "plugins=[two_queues,two_queues_load]"
    reproduce.main([plugged, "figure=two_queues/load", f"hydra.run.dir={tmp_path}"])
    rows = list(csv.DictReader((tmp_path / "two_queues_load.csv").open()))
    assert len(rows) == 8
    assert all(float(row["cost_s"]) >= float(row["bound_s"]) for row in rows)
    (verdict,) = csv.DictReader((tmp_path / "verdicts.csv").open())
    assert verdict["verdict"] == "holds"
    assert (tmp_path / "figures" / "two_queues_load.png").read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
