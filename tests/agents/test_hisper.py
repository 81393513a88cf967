"""HISPER and HASAC on games with known soft optima, and their pieces against NumPy."""

from __future__ import annotations

import dataclasses
import itertools
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from agents import replay
from agents.critics import JointCritic, PairwiseCritic
from agents.hisper import Hisper
from agents.sequential import SequentialActor
from jaxenv.errors import ConfigError
from jaxenv.services import Services
from runs.checkpoint import Checkpoints
from tests.learners import check_dtypes, start
from tests.probes import NO_TEAMS, Team
from tests.toy_environments import Crew

SIZES = dict(
    embedding=4,
    actor_hidden=(8,),
    critic_hidden=(16,),
    lstm_width=4,
    num_envs=8,
    rounds=2,
    gradient_updates=25,
    batch_size=64,
    buffer_size=2000,
    prefill=504,
)
RATES = dict(lr_actor=1e-2, lr_critic=1e-2, value_decay=0.99, target_decay=0.9)
TEAM = Team()
NUM_VALID = (2, 3, 4)
VALID = np.arange(4) < np.array(NUM_VALID)[:, None, None]


class Table(nn.Module):
    """The values of all joint actions in all places, linear in the one-hots of each agent."""

    outputs: int
    dtype: np.dtype
    num_agents: int

    def __call__(self, state, actions):
        return self.judge(self.prepare(state, actions))

    def prepare(self, state, actions):
        return state, actions

    def replaced(self, prepared, action, agent):
        return prepared[0], prepared[1].at[agent].set(action)

    @nn.compact
    def judge(self, prepared):
        state, actions = prepared
        joint = state[..., self.num_agents :]
        for one_hot in actions:
            for head in range(one_hot.shape[-2]):
                joint = joint[..., :, None] * one_hot[..., head, None, :]
                joint = joint.reshape(*joint.shape[:-2], -1)
        types = {"dtype": self.dtype, "param_dtype": self.dtype}
        zeros = {"kernel_init": nn.initializers.zeros}
        return nn.Dense(self.outputs, name="values", **types, **zeros)(joint)


@dataclasses.dataclass(frozen=True)
class Tabular(Hisper):
    """The learner with a table for each critic: nothing but its own rules decides what it learns.

    (A network's slope at one action says little of another action's value.)
    """

    @property
    def critic(self):
        return Table(self._team.num_parts, self.env.float_dtype, self.env.num_agents)


@partial(jax.jit, static_argnames=("learner", "length"), donate_argnames="state")
def chunk(learner, state, params, hp, length):
    return jax.lax.scan(lambda s, _: learner.update(s, params, hp), state, length=length)


def train(learner, params, hp, updates, seed=0):
    """The state after so many updates, the last third at a tenth of the rates; last metrics."""
    state = start(learner, jax.random.key(seed), params, hp)
    third = updates // 3
    state, _ = chunk(learner, state, params, hp, third)
    state, _ = chunk(learner, state, params, hp, third)
    slow = hp.replace(**{k: getattr(hp, k) / 10 for k in ("lr_actor", "lr_critic", "lr_alpha")})
    return chunk(learner, state, params, slow, third)


def seen(learner, params, place=0):
    """Observations and masks of the heads of a team in a place."""
    env = learner.env
    at = env.reset_env(jax.random.key(0), params).replace(place=jnp.int32(place))
    return env.observe(at, params), params.valid


def greedy(learner, state, params, place=0):
    observation, mask = seen(learner, params, place)
    mask = mask if learner.env.num_heads > 1 else mask[:, 0]
    return learner.policy(state).act((), None, observation, mask, None, params)[0].tolist()


def policies(learner, state, params, place=0, noise=0.0):
    """Probabilities ``[n, heads, K]`` of each head, given the draws by ``noise`` before it."""
    observation, mask = seen(learner, params, place)
    noise = noise + jnp.zeros(mask.shape)
    _, logs = jax.vmap(learner.actor.apply)(state.learned.actors, observation, mask, noise)
    return np.where(mask, np.exp(logs), 0)


# ---- what it learns ----------------------------------------------------------------------------


def servers(sharing=3.0):
    """Three agents choose one of 2, 3 or 4 servers; sharing one costs more than it is worth.

    ``[4, 4, 4, 2]``: worth minus sharing, and a small cost.
    """
    worth = np.array([[2.0, 1.2, 0, 0], [2.0, 0.8, 1.0, 0], [2.0, 0.5, 1.4, 0.3]])
    parts = np.zeros((4, 4, 4, 2))
    for a in itertools.product(range(4), repeat=3):
        parts[a][0] = worth[np.arange(3), a].sum() - sharing * (3 - len(set(a)))
        parts[a][1] = -0.05 * sum(a)
    return parts


def against(reward, policies, n):
    """Mean reward ``[K]`` of each action of agent n against the policies of the others."""
    others = [(m, p) for m, p in enumerate(policies) if m != n]
    for m, p in reversed(others):
        reward = np.tensordot(reward, p, (m, 0))
    return reward


def soft_best(reward, valid, alpha):
    """The product policy that is the soft best response to itself; with the damping it is found."""
    policies = [v / v.sum() for v in valid]
    for _ in range(500):
        for n, v in enumerate(valid):
            weight = np.where(v, np.exp(against(reward, policies, n) / alpha), 0)
            policies[n] = (policies[n] + weight / weight.sum()) / 2
    return policies


GAME = TEAM.make_params(reward=servers()[None], valid=VALID)
BEST = [1, 0, 2]


@pytest.mark.quick
def test_the_game_needs_coordination():
    reward = np.where(
        VALID[0, 0, :, None, None] & VALID[1, 0, :, None] & VALID[2, 0], servers().sum(-1), -np.inf
    )
    assert list(np.unravel_index(reward.argmax(), reward.shape)) == BEST
    uniform = [v[0] / v.sum() for v in VALID]
    alone = [against(servers().sum(-1), uniform, n) for n in range(3)]
    alone = [int(np.where(v[0], x, -np.inf).argmax()) for v, x in zip(VALID, alone, strict=True)]
    assert alone == [0, 2, 2] and reward[0, 2, 2] == pytest.approx(1.2)
    assert reward.max() == pytest.approx(4.45)


@pytest.mark.deep
@pytest.mark.parametrize("paper", [False, True])
def test_policies_are_the_soft_best_responses_to_each_other(paper):
    switches = dict(hybrid_reward=paper, autoregressive=paper, bootstrap=False)
    learner, hp = Tabular.build(TEAM, **SIZES, **RATES, **switches, alpha=1.0)
    state, metrics = train(learner, GAME, hp, 60)
    reward = servers().sum(-1)
    expected = soft_best(reward, VALID[:, 0], 1.0)
    learned = policies(learner, state, GAME)[:, 0]
    np.testing.assert_allclose(learned, expected, atol=0.03)
    assert greedy(learner, state, GAME) == BEST
    # The last actors' losses and entropies are those of the soft optimum, in its units.
    entropy = -sum(p[p > 0] @ np.log(p[p > 0]) for p in expected)
    assert metrics["entropy"].mean() == pytest.approx(entropy / 3, abs=0.06)
    soft = expected[0] @ against(reward, expected, 0) + entropy / 3
    unit = np.sqrt(np.sum(state.learned.scale.deviation**2))
    assert metrics["actor_loss"].mean() * unit == pytest.approx(-soft, abs=0.1)


def test_the_expected_gradient_coordinates_where_critics_are_networks():
    """On the game that `test_networks_coordinate` may miss."""
    options = dict(alpha=1.0, bootstrap=False, gradient="expected", cell="dense")
    sizes = SIZES | dict(embedding=16, critic_hidden=(32, 32))
    learner, hp = Hisper.build(TEAM, **sizes, **RATES, **options)
    state, metrics = train(learner, GAME, hp, 60)
    assert greedy(learner, state, GAME) == BEST
    expected = soft_best(servers().sum(-1), VALID[:, 0], 1.0)
    np.testing.assert_allclose(policies(learner, state, GAME)[:, 0], expected, atol=0.06)
    entropy = -sum(p[p > 0] @ np.log(p[p > 0]) for p in expected) / 3
    assert metrics["entropy"].mean() == pytest.approx(entropy, abs=0.06)


@pytest.mark.deep
def test_networks_coordinate():
    """A network's slope at an action is not its rise to the next: the best action may be missed."""
    learner, hp = Hisper.build(TEAM, **SIZES, **RATES, alpha=0.7, bootstrap=False)
    state, metrics = train(learner, GAME, hp, 60)
    assert servers()[tuple(greedy(learner, state, GAME))].sum() > 2.0
    assert metrics["mean_reward"].mean() > 1.6  # uniform actions get 1.52
    rows = state.replay.rows.action[: int(state.replay.size), :, 0]
    assert np.all(np.max(rows, axis=0) == np.array(NUM_VALID) - 1), "a forbidden action was taken"


@pytest.mark.parametrize(("hybrid_reward", "max_steps"), [(True, 1), (False, 9)])
def test_values_of_each_component_with_its_share_of_the_entropy(hybrid_reward, max_steps):
    """Place 0 leads to place 1 or 2, which end: a time limit of 1 changes nothing."""
    env = Team(num_agents=2, num_choices=2, num_places=3)
    first, second = np.indices((2, 2))
    here = np.stack([first, -second], -1)
    there = [np.stack([first + second, 1 + 0 * first], -1), np.stack([2 * first, second / 2], -1)]
    following = np.full((3, 2, 2), -1)
    following[0] = np.where(first == second, 1, 2)
    params = env.make_params(
        reward=np.stack([here, *there]), following=following, max_steps=max_steps
    )
    switches = dict(hybrid_reward=hybrid_reward, autoregressive=False)
    # Policies stay uniform, as they are at the start.
    hp = RATES | dict(lr_actor=1e-9, alpha=0.5, discount=0.7)
    learner, hp = Tabular.build(env, **SIZES, **switches, **hp)
    state, metrics = train(learner, params, hp, 45)

    joint = jax.nn.one_hot(np.indices((2, 2)).reshape(2, 4, 1), 2)
    world = jnp.concatenate([jnp.ones((3, 2)), jnp.eye(3)], axis=1)
    scale, critics = state.learned.scale, state.learned.critics
    q = [
        jnp.min(scale.value(learner._judged(critics, jnp.tile(place, (4, 1)), joint)), axis=0)
        for place in world
    ]
    # Means of the components in places 1 and 2: 1 and 1, 1 and 1/4.
    ahead = np.where((first == second)[..., None], [1.0, 1.0], [1.0, 0.25])
    bonus = 2 * np.log(2) * 0.5 / learner._team.num_parts
    if hybrid_reward:
        expected = [here + 0.7 * (ahead + bonus), *there]
    else:
        ahead = ahead.sum(-1, keepdims=True)
        parts = [x.sum(-1, keepdims=True) for x in (here, *there)]
        expected = [parts[0] + 0.7 * (ahead + bonus), *parts[1:]]
    np.testing.assert_allclose(np.reshape(q, np.shape(expected)), expected, atol=0.04)
    assert metrics["entropy"].mean() == pytest.approx(np.log(2), abs=0.01)


@pytest.mark.parametrize(
    ("autoregressive", "feed", "probability"),
    [(True, "sample", 1 / (1 + np.exp(-1 / 0.6))), (True, "probs", 0.5), (False, "sample", 0.5)],
)
@pytest.mark.deep
def test_only_sub_actions_that_see_each_other_correlate(autoregressive, feed, probability):
    """Agent 0 is paid 1 for two equal sub-actions, agent 1 for two different ones.

    At temperature 0.6 the soft optimum is equal with odds exp(1 / 0.6); of independent sub-actions
    the uniform ones are the only that are best responses to each other (above 1/2 there are none
    else).
    """
    env = Team(num_agents=2, num_heads=2, num_choices=2)
    a, b, c, d = np.indices((2, 2, 2, 2))
    params = env.make_params(reward=np.stack([a == b, c != d], -1)[None].astype(float))
    switches = dict(autoregressive=autoregressive, feed=feed, bootstrap=False)
    learner, hp = Tabular.build(env, **SIZES, **RATES, **switches, alpha=0.6)
    state, _ = train(learner, params, hp, 60)
    for first in (0, 1):
        noise = 1e3 * jax.nn.one_hot(first, 2) * jnp.array([1.0, 0.0])[:, None]
        learned = policies(learner, state, params, noise=noise)
        np.testing.assert_allclose(learned[:, 0], 0.5, atol=0.05)
        equal, different = learned[0, 1, first], learned[1, 1, 1 - first]
        np.testing.assert_allclose((equal, different), probability, atol=0.05)


def test_a_learned_temperature_reaches_the_target_of_each_agent():
    options = dict(temperature="learned", entropy_share=0.4, lr_alpha=3e-3, first_alpha=1.0)
    options |= dict(hybrid_reward=False, bootstrap=False)
    learner, hp = Tabular.build(TEAM, **SIZES, **RATES, **options)
    params = GAME.replace(reward=jnp.asarray(servers(sharing=0.0)[None], jnp.float32))
    state, metrics = train(learner, params, hp, 90)
    learned = policies(learner, state, params)[:, 0]
    logs = np.log(np.where(learned > 0, learned, 1.0))
    np.testing.assert_allclose(-np.sum(learned * logs, -1), 0.4 * np.log(NUM_VALID), atol=0.05)
    alpha = np.exp(state.learned.log_alpha)
    assert metrics["alpha"][-1] == pytest.approx(alpha.mean(), rel=0.05)
    assert np.ptp(alpha) > 0.03 and np.all(alpha > 0.1)


# ---- networks ----------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    weight = np.exp(x - x.max(-1, keepdims=True))
    return weight / weight.sum(-1, keepdims=True)


def dense(layer, x):
    return x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])


def embedded(p, x, sizes, first=0):
    parts = np.split(x, np.cumsum(sizes)[:-1], axis=-1)
    parts = [dense(p[f"Trunk_{first + i}"]["Dense_0"], part) for i, part in enumerate(parts)]
    return np.maximum(np.concatenate(parts, -1), 0)


def slow_actor(network, parameters, x, mask, noise, temperature=1.0, offset=None):
    """What `SequentialActor` computes, and hard minus soft draws; with such an ``offset`` given,
    its draws are soft ones plus that.
    """
    p = parameters["params"]
    z = embedded(p, x, network.groups)
    for i in range(len(network.hidden)):
        z = np.maximum(dense(p[f"Trunk_{len(network.groups)}"][f"Dense_{i}"], z), 0)
    lead, (heads, choices) = x.shape[:-1], mask.shape[-2:]
    h = c = np.zeros((*lead, network.width))
    previous = np.zeros((*lead, choices))
    draws, logs, offsets = [], [], []
    for head in range(heads):
        if network.autoregressive:
            cell, inputs = p[f"OptimizedLSTMCell_{head}"], np.concatenate([z, previous], -1)
            gate = {
                k: inputs @ np.asarray(cell[f"i{k}"]["kernel"]) + dense(cell[f"h{k}"], h)
                for k in "ifgo"
            }
            c = sigmoid(gate["f"]) * c + sigmoid(gate["i"]) * np.tanh(gate["g"])
            h = sigmoid(gate["o"]) * np.tanh(c)
            logits = dense(p[f"Dense_{head}"], h)
        else:
            logits = dense(p["Dense_0"], z)[..., head * choices : (head + 1) * choices]
        valid = mask[..., head, :]
        pi = softmax(np.where(valid, logits, -np.inf))
        noisy = np.where(valid, logits + noise[..., head, :], -np.inf)
        soft = softmax(noisy / temperature)
        hard = np.eye(choices)[noisy.argmax(-1)]
        offsets.append(hard - soft)
        draws.append(hard if offset is None else soft + offset[..., head, :])
        logs.append(np.log(np.where(valid, pi, 1.0)))
        previous = draws[-1] if network.feed == "sample" else pi
    return tuple(np.stack(x, -2) for x in (draws, logs, offsets))


def random_like(rng, tree, size=0.5):
    return jax.tree.map(lambda x: jnp.asarray(size * rng.normal(size=x.shape), x.dtype), tree)


def moved(tree, direction, step):
    return jax.tree.map(lambda x, d: np.asarray(x) + step * np.asarray(d), tree, direction)


def dot(tree, other):
    return sum(jax.tree.leaves(jax.tree.map(lambda x, y: float(np.sum(x * y)), tree, other)))


@pytest.mark.parametrize(
    ("autoregressive", "feed"), [(True, "sample"), (True, "probs"), (False, "sample")]
)
def test_draws_log_probabilities_and_straight_through_gradient(autoregressive, feed, double):
    rng = np.random.default_rng(3)
    network = SequentialActor(
        (2, 3), 4, (5, 6), 3, 3, 4, autoregressive, feed, np.dtype(np.float64)
    )
    x, noise = rng.normal(size=(7, 5)), rng.gumbel(size=(7, 3, 4))
    mask = rng.random((7, 3, 4)) < 0.7
    mask[..., 0], mask[..., -1] = True, False
    parameters = random_like(rng, network.init(jax.random.key(0), x, mask, noise), 1.0)
    one_hot, logs = jax.jit(network.apply)(parameters, x, mask, noise, 0.7)
    draws, slow_logs, offset = slow_actor(network, parameters, x, mask, noise, 0.7)
    np.testing.assert_allclose(one_hot, draws, atol=1e-12)
    np.testing.assert_allclose(logs, slow_logs, rtol=1e-9, atol=1e-12)
    assert np.all(np.where(mask, 0, one_hot) == 0)

    weight, log_weight = rng.normal(size=(2, 7, 3, 4))
    score = lambda one_hot, logs: (  # noqa: E731
        one_hot * weight + one_hot * logs + logs * log_weight
    ).sum()
    loss = lambda p: score(*network.apply(p, x, mask, noise, 0.7))  # noqa: E731
    gradient = jax.jit(jax.grad(loss))(parameters)
    chex.assert_tree_all_finite(gradient)
    direction = random_like(rng, parameters, 1.0)
    ends = [
        score(
            *slow_actor(network, moved(parameters, direction, e), x, mask, noise, 0.7, offset)[:2]
        )
        for e in (1e-6, -1e-6)
    ]
    assert dot(gradient, direction) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6)
    biases = [v["bias"] for k, v in gradient["params"].items() if k.startswith("Dense")]
    biases = np.concatenate([np.reshape(b, (-1, 4)) for b in biases])
    assert biases.shape == (3, 4) and np.all(biases[:, -1] == 0) and np.all(biases[:, 0] != 0)


@pytest.mark.quick
@pytest.mark.parametrize(("row", "groups"), [(2, (3, 1)), (0, (4,)), (2, ())])
def test_a_joint_critic_against_numpy(row, groups, double):
    rng = np.random.default_rng(0)
    network = JointCritic(3, row, groups, 4, (5, 6), 2, dtype=np.dtype(np.float64))
    state = rng.normal(size=(7, 3 * row + sum(groups)))
    actions = rng.normal(size=(3, 7, 2, 4))
    parameters = random_like(rng, network.init(jax.random.key(0), state, actions))
    p, parts = parameters["params"], []
    if row:
        rows = dense(p["rows"]["Dense_0"], state[:, : 3 * row].reshape(7, 3, row))
        parts.append(rows.reshape(7, -1))
    for i, part in enumerate(np.split(state[:, 3 * row :], np.cumsum(groups)[:-1], axis=-1)):
        parts.append(dense(p[f"shared_{i}"]["Dense_0"], part) if groups else part)
    acted = dense(p["actions"]["Dense_0"], actions.reshape(3, 7, 8))
    parts.append(np.moveaxis(acted, 0, 1).reshape(7, -1))
    x = np.maximum(np.concatenate(parts, -1), 0)
    x = np.maximum(x @ np.asarray(p["first"]) + np.asarray(p["bias"]), 0)
    x = np.maximum(dense(p["rest"]["Dense_0"], x), 0)
    expected = dense(p["values"], x)
    np.testing.assert_allclose(network.apply(parameters, state, actions), expected, rtol=1e-9)


@pytest.mark.parametrize("kind", [JointCritic, PairwiseCritic])
def test_one_agents_action_can_be_replaced(kind, double):
    rng = np.random.default_rng(0)
    network = kind(3, 2, (3, 1), 4, (5, 6), 2, dtype=np.dtype(np.float64))
    state = rng.normal(size=(7, 10))
    before, after = np.eye(4)[rng.integers(0, 4, size=(2, 3, 7, 2))]
    parameters = random_like(rng, network.init(jax.random.key(0), state, before))
    apply = partial(network.apply, parameters)
    prepared = apply(state, jnp.asarray(before), method="prepare")
    for n in (2, 0):
        prepared = apply(prepared, after[n], jnp.int32(n), method="replaced")
        before[n] = after[n]
        judged = apply(prepared, method="judge")
        np.testing.assert_allclose(judged, apply(state, jnp.asarray(before)), rtol=1e-9)


# ---- one gradient update against NumPy -----------------------------------------------------------


@partial(jax.jit, static_argnames="learner")
def learn(learner, learned, batch, key, params, hp):
    return learner.learn(learned, batch, key, params, hp)


@partial(jax.jit, static_argnames="learner")
def judge(learner, learned, batch, key, params, hp):
    view = learner._view(batch.state, batch.lane, params)
    return learner._learn_critics(learned, view, batch, key, params, hp)[0]


def a_run(rng, **options):
    """A learner of a random team, its random state, scenario, a batch and hyperparameters."""
    env = Team(num_agents=3, num_heads=2, num_choices=3, num_places=2, dtype="float64")
    following = rng.integers(-1, 2, size=(2, *(3,) * 6))
    valid = np.ones((3, 2, 3), bool)
    valid[0, 1, 2] = valid[2, 0, 0] = False
    params = env.make_params(
        reward=rng.normal(size=(2, *(3,) * 6, 2)) * [10, 0.1], following=following, valid=valid
    )
    sizes = SIZES | dict(prefill=64, critic_hidden=(7,), temperature="learned")
    rates = dict(lr_actor=0.3, lr_critic=0.1, lr_alpha=0.2, max_gradient_norm=1e9, relaxation=0.8)
    learner, hp = Hisper.build(env, **sizes, **rates | options)
    state = start(learner, jax.random.key(1), params, hp)
    learned = state.learned
    learned = learned.replace(
        actors=random_like(rng, learned.actors),
        critics=random_like(rng, learned.critics),
        targets=random_like(rng, learned.targets),
        log_alpha=jnp.asarray(rng.normal(size=3)),
        scale=learned.scale.replace(
            total=jnp.asarray([0.4, 0.05]),
            squares=jnp.asarray([2.0, 0.03]),
            weight=jnp.asarray(0.2),
            mean=jnp.asarray([2.0, 0.25]),
            deviation=jnp.sqrt(jnp.asarray([10.0, 0.15])),
        ),
    )
    return learner, learned, params, replay.sample(state.replay, jax.random.key(2), 6), hp


def slow_view(learner, states, params):
    """Observations ``[n, B, D]``, masks and global states of stored states, one by one."""
    env, rows = learner.env, []
    for i in range(len(states.place)):
        one = jax.tree.map(lambda x: x[i], states)  # noqa: B023
        rows.append([np.asarray(f(one, params)) for f in (env.observe, env.global_state)])
    observation, world = (np.stack(x) for x in zip(*rows, strict=True))
    mask = np.broadcast_to(np.asarray(params.valid)[:, None], (3, len(rows), 2, 3))
    return np.moveaxis(observation, 1, 0), mask, world


def member(tree, n):
    return jax.tree.map(lambda x: x[n], tree)


def gumbel(key):
    return np.asarray(jax.random.gumbel(key, (6, 2, 3), np.float64))


def slow_value(learner, critics, scale, world, one_hot, of_both=np.min):
    """min over the critics of Q, ``[B, parts]``; one_hot: ``[n, B, heads, K]``."""
    q = [learner.critic.apply(member(critics, j), world, one_hot) for j in (0, 1)]
    return of_both(np.asarray(scale.mean) + np.asarray(scale.deviation) * np.stack(q), axis=0)


def test_targets_scale_and_the_step_of_the_critics(double):
    rng = np.random.default_rng(0)
    learner, old, params, batch, hp = a_run(rng, discount=0.9, value_decay=0.8)
    batch = batch.replace(terminated=jnp.arange(6) % 3 == 0)
    key = jax.random.key(5)
    new, metrics = learn(learner, old, batch, key, params, hp)

    observation, mask, world = slow_view(learner, batch.next_state, params)
    keys = jax.random.split(jax.random.split(key)[0], 3)
    drawn = [
        slow_actor(learner.actor, member(old.actors, n), observation[n], mask[n], gumbel(keys[n]))
        for n in range(3)
    ]
    one_hot = np.stack([d[0] for d in drawn])
    log_pi = sum((d[0] * d[1]).sum((-2, -1)) for d in drawn)
    ahead = slow_value(learner, old.targets, old.scale, world, one_hot)
    bonus = -np.exp(old.log_alpha).mean() * log_pi[:, None]
    view = learner._view(batch.next_state, batch.lane, params)
    for split, weight in (("full", 1.0), ("none", 0.0)):
        other = dataclasses.replace(learner, entropy_split=split)
        value = other._soft_value(old, view, jax.random.split(key)[0], hp)
        np.testing.assert_allclose(value, ahead + weight * bonus, rtol=1e-9)
    mean = slow_value(learner, old.targets, old.scale, world, one_hot, np.mean)
    other = dataclasses.replace(learner, entropy_split="none", twins="mean")
    value = other._soft_value(old, view, jax.random.split(key)[0], hp)
    np.testing.assert_allclose(value, mean, rtol=1e-9)
    ahead += bonus / 2
    y = batch.reward + 0.9 * np.where(batch.terminated[:, None], 0, ahead)

    total = 0.8 * np.array([0.4, 0.05]) + 0.2 * y.mean(0)
    mean = total / 0.36
    squares = 0.8 * np.array([2.0, 0.03]) + 0.2 * ((y - mean) ** 2).mean(0)
    deviation = np.sqrt(squares / 0.36)
    np.testing.assert_allclose(new.scale.mean, mean, rtol=1e-9)
    np.testing.assert_allclose(new.scale.deviation, deviation, rtol=1e-9)

    _, _, world = slow_view(learner, batch.state, params)
    actions = np.moveaxis(np.eye(3)[np.asarray(batch.action)], 1, 0)
    rescaled = jax.jit(learner._rescaled)(old, y, hp)

    def loss(critics):
        q = [learner.critic.apply(member(critics, j), world, actions) for j in (0, 1)]
        return sum(jnp.mean(jnp.sum(((y - mean) / deviation - x) ** 2, -1)) for x in q)

    error, gradient = jax.value_and_grad(loss)(rescaled.critics)
    assert float(metrics["critic_loss"]) == pytest.approx(float(error), rel=1e-9)
    measured = jax.tree.map(lambda x: x / 0.1, new.critic_optimizer.mu)
    chex.assert_trees_all_close(measured, gradient, rtol=1e-6, atol=1e-9)
    stepped = jax.tree.map(
        lambda x, g: x - 0.1 * g / (np.abs(g) + 1e-8), rescaled.critics, gradient
    )
    chex.assert_trees_all_close(new.critics, stepped, rtol=1e-5, atol=1e-6)
    slow = jax.tree.map(lambda t, x: 0.995 * t + 0.005 * x, rescaled.targets, new.critics)
    chex.assert_trees_all_close(new.targets, slow, rtol=1e-9, atol=1e-12)
    q = [learner.critic.apply(member(old.critics, j), world, actions) for j in (0, 1)]
    q = np.asarray(old.scale.mean) + np.asarray(old.scale.deviation) * np.stack(q)
    assert float(metrics["q"]) == pytest.approx(q.sum(-1).mean(), rel=1e-9)


def test_actors_learn_in_a_fresh_order_against_the_new_actions_of_those_before(double):
    learner, old, params, batch, hp = a_run(np.random.default_rng(4), entropy_share=0.6)
    observation, mask, world = slow_view(learner, batch.state, params)
    rng, orders = np.random.default_rng(5), []
    for seed in (0, 2):
        key = jax.random.key(seed)
        new, metrics = learn(learner, old, batch, key, params, hp)
        key_order, *keys = jax.random.split(jax.random.split(key)[1], 4)
        key_old, key_own, key_new = (jax.random.split(k, 3) for k in keys)
        order = np.asarray(jax.random.permutation(key_order, 3))
        orders.append(order.tolist())
        unit = np.sqrt(np.sum(np.asarray(new.scale.deviation) ** 2))

        def draw(actors, n, key, temperature=0.8, offset=None):
            seen = observation[n], mask[n], gumbel(key), temperature, offset
            return slow_actor(learner.actor, actors, *seen)

        joint = np.stack([draw(member(old.actors, n), n, key_old[n])[0] for n in range(3)])
        losses, entropies = [], []
        for place, n in enumerate(order):
            actor, alpha = member(old.actors, n), np.exp(old.log_alpha[n])
            offset = draw(actor, n, key_own[place])[2]

            def loss(actor, n=n, key=key_own[place], alpha=alpha, offset=offset):
                own, logs, _ = draw(actor, n, key, offset=offset)
                taken = joint.copy()  # noqa: B023
                taken[n] = own
                value = slow_value(learner, new.critics, new.scale, world, taken)  # noqa: B023
                log_pi = (own * logs).sum((-2, -1))
                return (alpha * log_pi - value.sum(-1)).mean() / unit, -log_pi.mean()  # noqa: B023

            direction = random_like(rng, actor)
            ends = [loss(moved(actor, direction, e))[0] for e in (1e-6, -1e-6)]
            slope = (ends[0] - ends[1]) / 2e-6
            gradient = jax.tree.map(lambda x: x[n] / 0.1, new.actor_optimizer.mu)  # noqa: B023
            assert dot(gradient, direction) == pytest.approx(slope, rel=1e-5, abs=1e-8)
            stepped = jax.tree.map(lambda x, g: x - 0.3 * g / (np.abs(g) + 1e-8), actor, gradient)
            chex.assert_trees_all_close(member(new.actors, n), stepped, rtol=1e-6, atol=1e-6)
            cost, entropy = loss(actor)
            losses.append(cost)
            entropies.append(entropy)
            joint[n] = draw(member(new.actors, n), n, key_new[place])[0]
            # ln of 3 and 2, 3 and 3, 2 and 3 values.
            target = 0.6 * np.log([6, 9, 6])[n]
            fall = 0.2 * np.sign(entropy - target)
            assert float(new.log_alpha[n]) == pytest.approx(float(old.log_alpha[n]) - fall)
        assert float(metrics["actor_loss"]) == pytest.approx(np.mean(losses), rel=1e-9)
        assert float(metrics["entropy"]) == pytest.approx(np.mean(entropies), rel=1e-9)
    assert orders[0] != orders[1] and sorted(orders[0]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("autoregressive", "cell"), [(True, "dense"), (True, "lstm"), (False, "lstm")]
)
def test_the_expected_gradient_is_that_of_the_soft_value_of_all_actions(
    autoregressive, cell, double
):
    """Against the sum over all of an agent's actions, each with its own probability."""
    learner, old, params, batch, _ = a_run(
        np.random.default_rng(4),
        gradient="expected",
        autoregressive=autoregressive,
        cell=cell,
        draws=16_000,
    )
    observation, mask, world = slow_view(learner, batch.state, params)
    alpha, n = 0.7, 1
    joint = np.moveaxis(np.eye(3)[np.asarray(batch.action)], 1, 0)
    actor = member(old.actors, n)
    values = np.zeros((6, 3, 3))
    for first, last in itertools.product(range(3), repeat=2):
        taken = joint.copy()
        taken[n] = np.eye(3)[[first, last]]
        values[:, first, last] = slow_value(learner, old.critics, old.scale, world, taken).sum(-1)

    def exact(actor):
        value = 0.0
        for first in range(3):
            noise = np.zeros((6, 2, 3)) + 1e3 * np.eye(3)[first] * np.array([[1], [0]])
            _, logs = learner.actor.apply(actor, observation[n], mask[n], noise)
            p = jnp.where(mask[n], jnp.exp(logs), 0.0)
            inner = jnp.sum(p[:, 1] * (values[:, first] - alpha * logs[:, 1]), axis=-1)
            value += p[:, 0, first] * (inner - alpha * logs[:, 0, first])
        return jnp.mean(value)

    prepare, _, _ = learner._methods
    acted = prepare(old.critics, world, jnp.asarray(joint))
    of_last = partial(learner._values_of_last, old, acted, n)
    first_of_all = np.broadcast_to(np.eye(3)[[2, 0]], (6, 2, 3))
    np.testing.assert_allclose(of_last(jnp.asarray(first_of_all)), values[:, 2], rtol=1e-9)

    @jax.jit
    def estimated(actor, key):
        gain, log_probability = learner._expected_gain(
            actor, observation[n], mask[n], of_last, key, alpha
        )
        return jnp.mean(gain), jnp.mean(log_probability)

    (gain, log_probability), gradient = jax.value_and_grad(estimated, has_aux=True)(
        actor, jax.random.key(3)
    )
    slope = jax.grad(exact)(actor)
    assert float(gain) == pytest.approx(float(exact(actor)), rel=0.02)
    norm = np.sqrt(dot(slope, slope))
    error = jax.tree.map(jnp.subtract, gradient, slope)
    assert np.sqrt(dot(error, error)) < 0.05 * norm
    assert -np.log(9) < float(log_probability) < 0


def test_gradients_of_actors_are_clipped_by_their_global_norm(double):
    norms = []
    for limit in (1e9, 1e-3):
        rng = np.random.default_rng(6)
        learner, old, params, batch, hp = a_run(rng, max_gradient_norm=limit)
        new, _ = learn(learner, old, batch, jax.random.key(0), params, hp)
        gradient = jax.tree.map(lambda x: x / 0.1, new.actor_optimizer.mu)
        norms.append([np.sqrt(dot(member(gradient, n), member(gradient, n))) for n in range(3)])
    assert np.all(np.array(norms[0]) > 1e-3)
    np.testing.assert_allclose(norms[1], 1e-3, rtol=1e-9)


def test_rescaling_leaves_values_as_they_are(double):
    learner, learned, _, _, hp = a_run(np.random.default_rng(7), value_decay=0.9)
    zero = jnp.zeros(2)
    start_scale = learned.scale.replace(
        total=zero, squares=zero, weight=jnp.zeros(()), mean=zero, deviation=1 + zero
    )
    learned = learned.replace(scale=start_scale)
    rng = np.random.default_rng(8)
    world, one_hot = rng.normal(size=(5, 5)), rng.normal(size=(3, 5, 2, 3))

    def both(learned):
        return [
            learned.scale.mean + learned.scale.deviation * learner._judged(critics, world, one_hot)
            for critics in (learned.critics, learned.targets)
        ]

    before, rescale = both(learned), jax.jit(learner._rescaled)
    total = squares = np.zeros(2)
    for k in range(1, 6):
        target = rng.normal(size=(9, 2)) * [300.0, 0.1] - [3000.0, 0.6]
        learned = rescale(learned, target, hp)
        np.testing.assert_allclose(both(learned), before, rtol=1e-9, atol=1e-6)
        # Averages with weights 0.9**age, divided by the sum of the weights.
        total, weight = 0.9 * total + target.mean(0), (1 - 0.9**k) / 0.1
        mean = total / weight
        squares = 0.9 * squares + ((target - mean) ** 2).mean(0)
        np.testing.assert_allclose(learned.scale.mean, mean, rtol=1e-9)
        np.testing.assert_allclose(learned.scale.deviation, np.sqrt(squares / weight), rtol=1e-9)
    constant = rescale(learned.replace(scale=start_scale), jnp.ones((9, 2)), hp)
    np.testing.assert_array_equal(constant.scale.deviation, 1e-3)


def test_rates_and_the_temperature_fall():
    options = dict(schedule_updates=100, lr_actor=1.0, lr_critic=2.0, alpha=0.5, first_alpha=2.0)
    learner, hp = Hisper.build(TEAM, **SIZES | dict(prefill=8, autoregressive=False), **options)
    state = start(learner, jax.random.key(0), GAME, hp)
    for updates, share, alpha in [(0, 1.0, 2.0), (50, 0.525, 1.0), (200, 0.05, 0.5)]:
        now, learned = learner._scheduled(hp, state.replace(updates=jnp.int32(updates)))
        assert (float(now.lr_actor), float(now.lr_critic)) == pytest.approx((share, 2 * share))
        np.testing.assert_allclose(np.exp(learned.log_alpha), alpha, rtol=1e-5)
    sooner = hp.replace(fall_share=jnp.float32(0.5))
    for updates, alpha in [(25, 1.0), (50, 0.5), (80, 0.5)]:
        learned = learner._scheduled(sooner, state.replace(updates=jnp.int32(updates)))[1]
        np.testing.assert_allclose(np.exp(learned.log_alpha), alpha, rtol=1e-5)
    own = dataclasses.replace(learner, temperature="learned")
    kept = own._scheduled(hp, state.replace(updates=jnp.int32(50)))[1]
    np.testing.assert_allclose(np.exp(kept.log_alpha), 2.0, rtol=1e-5)


# ---- collecting --------------------------------------------------------------------------------

QUICK = SIZES | dict(rounds=1, gradient_updates=2, autoregressive=False)


def test_stored_states_show_what_was_observed_in_the_scenario_of_their_lane():
    env = Team(num_agents=2, num_heads=2, num_choices=3, num_places=2)
    rng = np.random.default_rng(0)
    valid = rng.random((8, 2, 2, 3)) < 0.6
    valid[..., 0] |= ~valid.any(-1)
    params = env.default_params().replace(
        reward=jnp.asarray(rng.normal(size=(8, 2, 3, 3, 3, 3, 2)), jnp.float32),
        following=jnp.asarray(rng.integers(-1, 2, size=(8, 2, 3, 3, 3, 3)), jnp.int32),
        valid=jnp.asarray(valid),
        max_steps=jnp.int32(3),
    )
    learner, hp = Hisper.build(env, **QUICK)
    state = start(learner, jax.random.key(0), params, hp)
    after, metrics = jax.jit(learner.update)(state, params, hp)
    assert (int(state.replay.size), int(after.replay.size)) == (504, 512)
    assert (int(state.updates), int(after.updates), int(metrics["decisions"])) == (0, 1, 8)

    rows = jax.tree.map(lambda x: x[504:512], after.replay.rows)
    view = learner._view(rows.state, rows.lane, params)
    following = learner._view(rows.next_state, rows.lane, params)
    done = []
    for lane in range(8):
        here = env.make_params().replace(max_steps=params.max_steps)
        here = here.replace(
            **{k: getattr(params, k)[lane] for k in ("reward", "following", "valid")}
        )
        before = member(state.lanes.env_state, lane)
        assert np.all(np.take_along_axis(valid[lane], rows.action[lane, ..., None], -1))
        np.testing.assert_array_equal(view.observation[:, lane], env.observe(before, here))
        np.testing.assert_array_equal(view.mask[:, lane], here.valid)
        np.testing.assert_array_equal(view.world[lane], env.global_state(before, here))
        observation, reached, reward, terminated, truncated, info = env.transition(
            before, rows.action[lane], here
        )
        np.testing.assert_array_equal(following.observation[:, lane], observation)
        np.testing.assert_array_equal(following.world[lane], env.global_state(reached, here))
        np.testing.assert_array_equal(rows.reward[lane], info["reward_parts"])
        assert bool(rows.terminated[lane]) == bool(terminated)
        done.append(bool(terminated | truncated))
        time = int(after.lanes.env_state.time[lane])
        assert time == (0 if done[-1] else int(before.time) + 1)
    assert int(metrics["episodes"]) == sum(done) > 0
    assert metrics["mean_reward"] == pytest.approx(float(rows.reward.sum()) / 8, rel=1e-5)


@pytest.mark.quick
def test_the_first_actions_are_uniform_over_the_valid_ones():
    learner, hp = Hisper.build(TEAM, **QUICK | dict(prefill=1600))
    rows = start(learner, jax.random.key(0), GAME, hp).replay.rows
    for n, count in enumerate(NUM_VALID):
        share = np.bincount(np.asarray(rows.action[:1600, n, 0]), minlength=4) / 1600
        np.testing.assert_allclose(share, VALID[n, 0] / count, atol=0.04)
    assert rows.action.dtype == jnp.int8


# ---- one program for many runs -----------------------------------------------------------------


@pytest.mark.deep
def test_runs_repeat_resume_and_stand_beside_each_other(tmp_path):
    learner, hp = Hisper.build(TEAM, **QUICK, critic_steps=2)
    keys = jax.random.split(jax.random.key(6), 2)
    grid = [hp, hp.replace(alpha=jnp.float32(0.3), lr_critic=jnp.float32(0.01))]
    starts = [start(learner, key, GAME, one) for key, one in zip(keys, grid, strict=True)]
    chex.clear_trace_counter()
    update = jax.jit(chex.assert_max_traces(learner.update, n=1))
    ends = [update(first, GAME, one)[0] for first, one in zip(starts, grid, strict=True)]

    stack = partial(jax.tree.map, lambda *x: jnp.stack(x))
    together, _ = jax.jit(jax.vmap(learner.update, (0, None, 0)))(
        stack(*starts), GAME, stack(*grid)
    )
    for i, alone in enumerate(ends):
        lane = member(together, i)
        np.testing.assert_array_equal(lane.replay.rows.action, alone.replay.rows.action)
        chex.assert_trees_all_close(lane.learned.actors, alone.learned.actors, rtol=1e-3, atol=1e-4)
        chex.assert_trees_all_close(
            lane.learned.critics, alone.learned.critics, rtol=1e-3, atol=1e-4
        )

    checkpoints = Checkpoints(tmp_path, {"agent": "hisper"})
    checkpoints.save(1, ends[0])
    target = jax.eval_shape(learner.init, keys[0], GAME, hp)
    _, restored, _ = checkpoints.restore(target)
    checkpoints.close()
    chex.assert_trees_all_equal(*(update(x, GAME, hp)[0] for x in (ends[0], restored)))

    # The same gradient updates, one after another, each of its own batch and draws.
    first, last = starts[0], ends[0]
    keys = jax.random.split(first.key, 1 + learner.rounds + 3 * learner.gradient_updates)
    learned = first.learned
    for key_batch, key, key_more in keys[1 + learner.rounds :].reshape(-1, 3):
        more_batch, more = jax.random.split(jax.random.split(key_more, 1)[0])
        batch = replay.sample(last.replay, more_batch, learner.batch_size)
        learned = judge(learner, learned, batch, more, GAME, hp)
        batch = replay.sample(last.replay, key_batch, learner.batch_size)
        learned, _ = learn(learner, learned, batch, key, GAME, hp)
    chex.assert_trees_all_close(learned, last.learned, rtol=1e-4, atol=1e-5)


def test_without_bootstrapping_is_a_discount_of_0():
    learned = []
    for options in (dict(bootstrap=False), dict(discount=0.0)):
        learner, hp = Hisper.build(TEAM, **QUICK, **options)
        state = start(learner, jax.random.key(0), GAME, hp)
        state, _ = jax.jit(learner.update)(state, GAME, hp)
        learned.append(state.learned)
        assert (state.replay.rows.next_state is None) == (not learner.bootstrap)
    chex.assert_trees_all_close(*learned, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_states_keep_their_dtypes(dtype, double):
    env = Team(num_heads=2, num_choices=2, dtype=dtype)
    learner, hp = Hisper.build(env, **SIZES, schedule_updates=9, temperature="learned")
    dtypes = {dtype, "int32", "int8", "uint32", "bool", "key<fry>"}
    assert check_dtypes(learner, hp) == dtypes


def test_it_fits_the_services():
    env = Services()
    learner, hp = Hisper.build(env, **QUICK | dict(autoregressive=True))
    assert learner._team.num_parts == 3
    check_dtypes(learner, hp)
    assert learner.actor.groups == (18, 16, 16, 120)
    assert (learner.critic.row, learner.critic.groups) == (20, (16, 16, 120))


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.quick
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding": 0}, "embedding: 0 is not valid; give a positive integer"),
        ({"lstm_width": 1.5}, "lstm_width: 1.5 is not valid; give a positive integer"),
        ({"num_envs": -1}, "num_envs: -1 is not valid; give a positive integer"),
        ({"rounds": True}, "rounds: True is not valid; give a positive integer"),
        ({"gradient_updates": 0}, "gradient_updates: 0 is not valid; give a positive integer"),
        ({"critic_steps": 0}, "critic_steps: 0 is not valid; give a positive integer"),
        ({"critics": "own"}, "critics: 'own' is not valid; choose joint or pairwise"),
        ({"twins": "largest"}, "twins: 'largest' is not valid; choose least or mean"),
        ({"batch_size": 0}, "batch_size: 0 is not valid; give a positive integer"),
        ({"prefill": 0}, "prefill: 0 is not valid; give a positive integer"),
        ({"actor_hidden": ()}, r"actor_hidden: \(\) is not valid; give a list of positive integ"),
        ({"critic_hidden": 3}, "critic_hidden: 3 is not valid; give a list of positive integers"),
        ({"buffer_size": 9}, "buffer_size: 9 is not valid; give at least 90000"),
        ({"buffer_size": 9, "prefill": 9}, "buffer_size: 9 is not valid; give at least 20"),
        ({"hybrid_reward": 1}, "hybrid_reward: 1 is not valid; choose true or false"),
        ({"entropy_split": "half"}, "entropy_split: 'half' is not valid; choose third or full or"),
        ({"feed": "soft"}, "feed: 'soft' is not valid; choose sample or probs"),
        ({"gradient": "exact"}, "gradient: 'exact' is not valid; choose straight_through or expe"),
        ({"gradient": "expected", "draws": 1}, "draws: 1 is not valid; give at least 2"),
        ({"cell": "gru"}, "cell: 'gru' is not valid; choose lstm or dense"),
        ({"standardise": 1}, "standardise: 1 is not valid; choose true or false"),
        ({"draws": 0}, "draws: 0 is not valid; give a positive integer"),
        ({"fall_share": 0}, r"fall_share: 0.0 is not valid; give a number in \(0, 1\]"),
        ({"temperature": "auto"}, "temperature: 'auto' is not valid; choose fixed or learned"),
        ({"schedule_updates": -1}, "schedule_updates: -1 is not valid; give a positive integer"),
        ({"lr_actor": 0.0}, "lr_actor: 0.0 is not valid; give a positive finite number"),
        ({"alpha": -1.0}, "alpha: -1.0 is not valid; give a positive finite number"),
        ({"first_alpha": 0}, "first_alpha: 0.0 is not valid; give a positive finite number"),
        ({"relaxation": 0}, "relaxation: 0.0 is not valid; give a positive finite number"),
        ({"discount": 1.5}, r"discount: 1.5 is not valid; give a number in \[0, 1\]"),
        ({"target_decay": -1}, r"target_decay: -1.0 is not valid; give a number in \[0, 1\]"),
        ({"value_decay": 1.0}, r"value_decay: 1.0 is not valid; give a number in \[0, 1\)"),
        ({"entropy_share": 2.0}, r"entropy_share: 2.0 is not valid; give a number in \[0, 1\]"),
        ({"bootstrap": False, "discount": 0.5}, "discount: 0.5 is not valid; give 0, which"),
        ({"tau": 0.1}, "hisper.tau: 0.1 is not valid; known names are actor_hidden, alpha, "),
    ],
)
def test_settings_that_cannot_be_used_are_refused_in_one_line(options, message):
    with pytest.raises(ConfigError, match=message) as error:
        Hisper.build(TEAM, **options)
    assert "\n" not in str(error.value)


def test_environments_it_does_not_fit_are_named():
    assert Hisper.unsupported(TEAM) is None
    for env, reason in NO_TEAMS:
        with pytest.raises(ConfigError, match=f"agent: 'hisper' is not valid; .* {reason}$"):
            Hisper.build(env)
    with pytest.raises(ConfigError, match="hybrid_reward: True is not valid; env=crew has no comp"):
        Hisper.build(Crew())
    assert Hisper.unsupported(Crew()) is None
    # What names its settings needs no setting.
    assert Hisper(Crew()).default_hp()
    learner, hp = Hisper.build(Crew(), **SIZES, hybrid_reward=False)
    assert learner._team.num_parts == 1
    check_dtypes(learner, hp)
