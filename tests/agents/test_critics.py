"""The critics of several agents: a replaced action, messages, and what each agent is paid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxenv
from agents.hisper import Hisper
from agents.networks import JointCritic, PairwiseCritic
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


def test_an_environment_that_pays_the_team_has_no_credit_of_agents():
    with pytest.raises(ConfigError, match="env=crew pays the team only"):
        Hisper.build(Crew(), critics="pairwise", credit="agents", hybrid_reward=False)
