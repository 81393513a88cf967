"""The critics of several agents: a replaced action, messages, and what each agent is paid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxenv
from agents.critics import JointCritic, PairwiseCritic
from agents.hisper import Hisper
from agents.networks import standardised
from jaxenv.errors import ConfigError
from tests.toy_environments import Crew

AGENTS, ROW, HEADS, CHOICES = 3, 4, 2, 5
SHAPE = dict(num_agents=AGENTS, row=ROW, groups=(2, 3), embedding=6, hidden=(7, 5), outputs=2)
TINY = dict(
    embedding=4,
    actor_hidden=(4,),
    critic_hidden=(4,),
    lstm_width=4,
    num_envs=2,
    rounds=1,
    gradient_updates=1,
    batch_size=6,
    buffer_size=20,
    prefill=10,
    bootstrap=False,
)


def case(seed=0, batch=9):
    rng = np.random.default_rng(seed)
    state = jnp.asarray(rng.normal(size=(batch, AGENTS * ROW + 5)), jnp.float32)
    choice = rng.integers(CHOICES, size=(AGENTS, batch, HEADS))
    return state, jax.nn.one_hot(choice, CHOICES), choice


@pytest.mark.parametrize("kind", [JointCritic, PairwiseCritic])
def test_replaced_action_gives_what_all_computed_anew_gives(kind):
    critic = kind(**SHAPE)
    state, actions, _ = case()
    parameters = critic.init(jax.random.key(1), state, actions)
    other = case(seed=5)[1]
    prepared = critic.apply(parameters, state, actions, method="prepare")
    for agent in (2, 0):  # one replacement on top of the other
        actions = actions.at[agent].set(other[agent])
        prepared = critic.apply(parameters, prepared, other[agent], agent, method="replaced")
        anew = critic.apply(parameters, state, actions)
        judged = critic.apply(parameters, prepared, method="judge")
        np.testing.assert_allclose(judged, anew, rtol=1e-4, atol=1e-5)


def test_agents_hear_those_alone_that_chose_the_same():
    critic = PairwiseCritic(**SHAPE)
    state, actions, choice = case(batch=200)
    parameters = critic.init(jax.random.key(1), state, actions)
    before = critic.apply(parameters, state, actions)
    moved = (choice[2] + 1) % CHOICES
    after = critic.apply(parameters, state, actions.at[2].set(jax.nn.one_hot(moved, CHOICES)))
    changed = np.abs(after - before).max(axis=-1) > 1e-6
    assert changed[2].all()
    for agent in (0, 1):
        met = ((choice[agent] == choice[2]) | (choice[agent] == moved)).any(axis=-1)
        assert not changed[agent][~met].any() and not met.all()
        assert changed[agent][met].mean() > 0.5  # a ReLU may silence some


def test_alternatives_are_what_all_computed_anew_with_each_choice_gives():
    meeting = dict(groups=(CHOICES, 2), shared_choice=1, choice_groups=1, standardise=True)
    critic = PairwiseCritic(**SHAPE | meeting)
    rng = np.random.default_rng(3)
    state = jnp.asarray(rng.normal(size=(50, AGENTS * ROW + CHOICES + 2)), jnp.float32)
    actions, other = case(batch=50)[1], case(seed=5, batch=50)[1]
    parameters = critic.init(jax.random.key(1), state, actions)
    noise = [
        jnp.asarray(0.3 * rng.normal(size=x.shape), x.dtype) for x in jax.tree.leaves(parameters)
    ]
    treedef = jax.tree.structure(parameters)
    parameters = jax.tree.map(jnp.add, parameters, jax.tree.unflatten(treedef, noise))
    prepared = critic.apply(parameters, state, actions, method="prepare")
    for agent in (0, 2):
        found = critic.apply(parameters, prepared, other[agent], agent, method="alternatives")
        for choice in range(CHOICES):
            own = other[agent].at[:, 1].set(jax.nn.one_hot(choice, CHOICES))
            anew = critic.apply(parameters, state, actions.at[agent].set(own))
            expected = jnp.mean(anew, axis=0)
            np.testing.assert_allclose(found[:, choice], expected, rtol=1e-3, atol=1e-3)


def test_a_critic_hears_only_those_before_it_where_the_weights_say_so():
    critic = PairwiseCritic(**SHAPE)
    state, actions, choice = case(batch=200)
    parameters = critic.init(jax.random.key(1), state, actions)
    earlier = jnp.tril(jnp.ones((AGENTS, AGENTS)), -1)[..., None]
    weights = parameters["params"]["weights"] * earlier
    parameters = {"params": parameters["params"] | {"weights": weights}}
    before = critic.apply(parameters, state, actions)
    moved = jax.nn.one_hot((choice[1] + 1) % CHOICES, CHOICES)
    after = critic.apply(parameters, state, actions.at[1].set(moved))
    changed = np.abs(after - before).max(axis=-1) > 1e-6
    assert not changed[0].any() and changed[1].all() and changed[2].any()


def test_networks_see_inputs_as_they_are_spread():
    critic = JointCritic(**SHAPE, standardise=True)
    state, actions, _ = case(batch=400)
    state = state.at[:, 0].set(7.0).at[:, 1].set(state[:, 1] > 0).at[:, 2].multiply(1e-3)
    parameters = standardised(critic.init(jax.random.key(1), state, actions), state)
    inputs = parameters["params"]["inputs"]
    seen = (state - inputs["mean"]) * inputs["scale"]
    np.testing.assert_array_equal(seen[:, 0], 0.0)  # constant
    np.testing.assert_array_equal(seen[:, 1], state[:, 1])  # 0 or 1
    np.testing.assert_allclose(np.mean(seen[:, 2:], axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(np.std(seen[:, 2:], axis=0), 1.0, rtol=1e-3)
    gradient = jax.grad(lambda p: jnp.sum(critic.apply(p, state, actions)))(parameters)
    assert not np.any(gradient["params"]["inputs"]["mean"])
    assert not np.any(gradient["params"]["inputs"]["scale"])


def built(**options):
    env, params = jaxenv.make("services", num_servers=3, preset="percent")
    learner, hp = Hisper.build(env, **(TINY | options))
    return learner, hp, params, learner.init(jax.random.key(0), params, hp)


@pytest.mark.parametrize("credit", ["team", "agents"])
def test_another_scale_leaves_values_as_they_were(credit):
    learner, hp, params, state = built(critics="pairwise", credit=credit)
    rows = jax.tree.map(lambda leaf: leaf[:6], state.replay.rows)
    view = learner._view(rows.state, rows.lane, params)
    one_hot = jax.nn.one_hot(jnp.moveaxis(rows.action, 1, 0), 16)

    def values(learned):
        return learned.scale.value(learner._judged(learned.critics, view.world, one_hot))

    before = state.learned
    after = learner._rescaled(before, 100 + 30 * rows.reward, hp)
    assert not np.allclose(before.scale.mean, after.scale.mean)
    np.testing.assert_allclose(values(after), values(before), rtol=1e-3, atol=1e-2)


def test_each_agent_learns_what_it_is_paid():
    learner, hp, _, state = built(critics="pairwise", credit="agents")
    assert state.replay.rows.reward.shape == (20, 8, 3)
    team, *_, alone = built(critics="pairwise")
    np.testing.assert_allclose(
        jnp.sum(state.replay.rows.reward, axis=1)[:10], alone.replay.rows.reward[:10], rtol=1e-5
    )
    whole, *_, summed = built(critics="pairwise", credit="agents", hybrid_reward=False)
    np.testing.assert_allclose(
        jnp.sum(state.replay.rows.reward, axis=-1), summed.replay.rows.reward[..., 0], rtol=1e-5
    )


@pytest.mark.quick
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"credit": "agents"}, "critics=joint need team"),
        ({"credit": "nobody"}, "choose team or agents"),
        ({"critics": "several"}, "choose joint or pairwise"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options, words):
    env, _ = jaxenv.make("services")
    with pytest.raises(ConfigError, match=words):
        Hisper.build(env, **options)


@pytest.mark.quick
def test_an_environment_that_pays_the_team_has_no_credit_of_agents():
    with pytest.raises(ConfigError, match="env=crew pays the team only"):
        Hisper.build(Crew(), critics="pairwise", credit="agents", hybrid_reward=False)
