"""PPO on environments with hand-known values, one agent and several, and its pieces by hand."""

from __future__ import annotations

import dataclasses
import itertools
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxenv
from agents.ppo import PPO, Batch, Parameters, Rollout
from agents.steps import rollout_advantages
from agents.team import Scale
from jaxenv.errors import ConfigError
from jaxenv.robust import Robust
from jaxenv.vehicular import Vehicular
from tests.learners import check_dtypes, start, train
from tests.probes import NO_TEAMS, Bandit, Convoy, Corridor, Placement, Team
from tests.toy_environments import Crew

SIZES = dict(hidden=(16,), num_envs=8, rollout_length=16, epochs=4, num_minibatches=2)
BANDIT = Bandit()
TEAM = Team(num_places=2)


def softmax(x):
    weight = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return weight / weight.sum(axis=-1, keepdims=True)


def act(learner, state, observation, mask):
    action, _ = learner.policy(state).act((), None, observation, mask, None, None)
    return action


# ---- what it learns ----------------------------------------------------------------------------


def test_a_bandits_policy_is_the_softmax_of_normalised_rewards_over_the_entropy_weight():
    """At rest E[A/s grad log pi] + beta grad H = 0, so pi ~ exp(r / (s beta)), s = std of A."""
    env = Bandit(num_contexts=2)
    reward = np.array([[1.0, 0.5, 0.0, 5.0], [-1.0, 0.0, 1.0, 0.5]])
    valid = np.array([[True, True, True, False], [True, True, True, True]])
    params = env.make_params(reward=reward, valid=valid)
    learner, hp = PPO.build(env, **SIZES, lr=1e-2, entropy_weight=0.8)
    state, metrics = train(learner, params, hp, 5)

    logits = learner.actors.logits(state.parameters.actor, jnp.eye(2)[:, None])[:, 0, 0]
    pi = softmax(np.where(valid, logits, -np.inf))
    value = state.scale.value(learner.critic.apply(state.parameters.critic, jnp.eye(2)))[:, 0]
    expected = (pi * reward).sum(-1)
    np.testing.assert_allclose(value, expected, atol=0.1)
    deviation = np.sqrt((pi * (reward - expected[:, None]) ** 2).sum(-1).mean())
    still = softmax(np.where(valid, reward / (0.8 * deviation), -np.inf))
    np.testing.assert_allclose(pi, still, atol=0.05)
    # Every step is an episode; a hit is a pull of the best valid arm, never of a forbidden one.
    assert np.all(metrics["episodes"] == 128) and np.all(metrics["decisions"] == 128)
    assert np.all(metrics["numerator/regret"] >= 0)
    missed = float(np.mean(metrics["numerator/regret"])) / 128
    assert float(np.mean(metrics["mean_reward"])) == pytest.approx(1 - missed, rel=1e-4)
    entropy = float(-np.sum(pi * np.log(np.where(valid, pi, 1)), axis=-1).mean())
    assert float(np.mean(metrics["entropy"])) == pytest.approx(entropy, abs=0.05)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("terminal", "expected"), [(True, (0.7, 1.0)), (False, (0.7 / 0.3, 1.0 / 0.3))]
)
def test_values_bootstrap_through_a_time_limit_and_not_through_an_end(terminal, expected):
    env = Corridor()
    # A rollout of 5 steps cuts the episodes of 2 in the middle.
    sizes = SIZES | dict(rollout_length=5)
    learner, hp = PPO.build(env, **sizes, lr=1e-2, discount=0.7, trace_decay=0.3, value_clip=0.5)
    state, _ = train(learner, env.make_params(terminal=terminal), hp, 4)
    value = state.scale.value(learner.critic.apply(state.parameters.critic, jnp.eye(2)))[:, 0]
    np.testing.assert_allclose(value, expected, rtol=0.02)


def test_sub_actions_find_the_best_valid_pair():
    env = Placement(num_contexts=2)
    reward = np.array([[[0, 0.2], [0.3, 0], [9, 9]], [[0, 0.1], [0.2, 1], [9, 9]]])
    valid = np.array([[True, True, False], [True, True, False]])
    params = env.make_params(reward=reward, valid=valid)
    learner, hp = PPO.build(env, **SIZES, lr=1e-2, entropy_weight=0.02)
    state, metrics = train(learner, params, hp, 3)
    actions = jax.vmap(partial(act, learner, state), (0, None))(jnp.eye(2), params.valid)
    assert actions.tolist() == [[1, 0], [1, 1]] and actions.dtype == jnp.int32
    best_in_updates = metrics["numerator/reward"].max() / 128
    assert 0.5 < best_in_updates < 1.01, "a forbidden pair was taken"


WORTH = np.array([[2.0, 1.6, 99, 99], [2.0, 0.8, 1.0, 99], [2.0, 0.5, 1.4, 0.3]])
BEST = [1, 0, 2]


@pytest.mark.parametrize("shared", [True, False])
def test_a_game_of_different_action_counts_is_solved(shared):
    """Three agents choose one of 2, 3 or 4 servers; whoever shares one is paid 1 less.

    What an agent has not is worth 99. The agents see the same but for the share of actions that
    they have, in which agents differ; alone each would take server 0.
    """
    game = np.zeros((4, 4, 4))
    for a in itertools.product(range(4), repeat=3):
        game[a] = WORTH[np.arange(3), a].sum() - 2 * (3 - len(set(a)))
    assert game[:2, :3].max() == game[tuple(BEST)] == 5.0
    valid = np.arange(4) < np.array([2, 3, 4])[:, None, None]
    reward = np.stack([game, np.zeros_like(game)], -1)
    params = TEAM.make_params(reward=np.stack([reward, reward]), valid=valid)
    learner, hp = PPO.build(TEAM, **SIZES, shared=shared, lr=1e-2, entropy_weight=0.02)
    state, metrics = train(learner, params, hp, 3)
    for place in (0, 1):
        at = TEAM.reset_env(jax.random.key(0), params).replace(place=jnp.int32(place))
        action = act(learner, state, TEAM.observe(at, params), TEAM.action_mask(at, params))
        assert action.tolist() == BEST and action.dtype == jnp.int32
    assert 4.5 < metrics["mean_reward"][-1] < 5.0 + 1e-5
    assert np.all(metrics["decisions"] == 128)


# ---- its pieces --------------------------------------------------------------------------------


def slow_advantages(rollout, value, ahead, discount, decay):
    """Advantages ``[T, W]`` as sums over every later step of the same episode."""
    result = np.zeros(value.shape)
    for t, w in np.ndindex(*value.shape):
        weight = 1.0
        for k in range(t, len(value)):
            gamma = discount if rollout.discounting[k, w] else 1.0
            follows = 0.0 if rollout.terminated[k, w] else gamma * ahead[k, w]
            result[t, w] += weight * (rollout.reward[k, w] + follows - value[k, w])
            if rollout.done[k, w]:
                break
            weight *= gamma * decay
    return result


@pytest.mark.quick
def test_advantages_against_sums_over_later_steps(double):
    rng = np.random.default_rng(0)
    terminated, out_of_time = rng.random((2, 9, 6)) < 0.2
    reward, value, ahead = rng.normal(size=(3, 9, 6))
    rollout = Rollout(
        *[None] * 5,
        reward=reward,
        deciding=None,
        final_world=None,
        discounting=rng.random((9, 6)) < 0.7,
        terminated=terminated,
        done=terminated | out_of_time,
    )
    _, hp = PPO.build(Placement(dtype="float64"), discount=0.9, trace_decay=0.8)
    measured = rollout_advantages(rollout, value, ahead, hp)
    expected = slow_advantages(rollout, value, ahead, 0.9, 0.8)
    np.testing.assert_allclose(measured, expected, rtol=1e-12, atol=1e-14)


def test_the_clipped_objective_by_hand(double):
    """One decision of two heads: new probabilities 1/2 and 1/3, the joint one is 1/6."""
    learner, hp = PPO.build(Placement(dtype="float64"), hidden=(3,), entropy_weight=0.0)
    state = jax.eval_shape(learner.init, jax.random.key(0), learner.env.default_params(), hp)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), state.parameters)
    mask = np.array([[[True, True, False], [True, True, True]]])

    def surrogate(old, gain, target=1.0):
        batch = Batch(
            observation=np.ones((1, 1, 1)),
            mask=mask[None],
            choice=np.array([[[1, 2]]], np.int32),
            log_probability=np.log([[old]]),
            deciding=np.array([True]),
            gain=np.array([gain]),
            world=np.ones((1, 1)),
            old_value=np.array([0.5]),
            target=np.array([target]),
        )
        (loss, parts), gradient = jax.value_and_grad(learner.loss, has_aux=True)(zeros, batch, hp)
        assert float(loss) == pytest.approx(float(parts["policy_loss"] + parts["value_loss"]))
        return -parts["policy_loss"], gradient.actor["params"]["logits"]["bias"], parts

    # Ratio 5/3: a gain counts 1.2 times and pulls no more, a loss counts whole.
    gained, pull, parts = surrogate(0.1, 2.0)
    assert float(gained) == pytest.approx(2.4) and not np.any(pull)
    assert float(parts["clipped"]) == 1.0
    assert float(parts["kl"]) == pytest.approx(2 / 3 - np.log(5 / 3))
    assert float(parts["entropy"]) == pytest.approx(np.log(2) + np.log(3))
    lost, pull, _ = surrogate(0.1, -2.0)
    assert float(lost) == pytest.approx(-10 / 3) and np.any(pull)
    # Ratio 5/6 is inside; 2/3 is outside: there only a gain pulls.
    assert float(surrogate(0.2, 2.0)[0]) == pytest.approx(5 / 3)
    assert float(surrogate(0.25, 2.0)[0]) == pytest.approx(4 / 3)
    lost, pull, _ = surrogate(0.25, -2.0)
    assert float(lost) == pytest.approx(-1.6) and not np.any(pull)
    # The pull of ratio 5/6 with gain 2 on the logits is -5/3 (1 - pi) of the chosen values.
    _, pull, _ = surrogate(0.2, 2.0)
    by_hand = -5 / 3 * np.array([-1 / 2, 1 / 2, 0, -1 / 3, -1 / 3, 2 / 3])
    np.testing.assert_allclose(pull, by_hand, rtol=1e-9, atol=1e-12)
    # The critic gives 0, and gave 0.5: at a limit of 0.4 it counts as 0.1 where that is worse.
    assert [float(surrogate(0.2, 2.0, t)[2]["value_loss"]) for t in (1.0, 0.0)] == [1.0, 0.0]
    hp = hp.replace(value_clip=jnp.float64(0.4))
    assert float(surrogate(0.2, 2.0, 1.0)[2]["value_loss"]) == 1.0
    assert float(surrogate(0.2, 2.0, 0.0)[2]["value_loss"]) == pytest.approx(0.01)


def dense(layer, x):
    return x @ layer["kernel"] + layer["bias"]


def network(p, x, head):
    return dense(p["params"][head], jnp.maximum(dense(p["params"]["trunk"]["Dense_0"], x), 0))


def test_one_update_against_an_independent_computation(double):
    env = Placement(num_contexts=3, dtype="float64")
    rng = np.random.default_rng(0)
    params = env.make_params(reward=rng.normal(size=(3, 3, 2)))
    sizes = dict(hidden=(5,), num_envs=3, rollout_length=4, epochs=1, num_minibatches=1)
    options = dict(lr=0.03, entropy_weight=0.1, max_gradient_norm=0.2, value_decay=0.8)
    learner, hp = PPO.build(env, **sizes, **options)
    state = start(learner, jax.random.key(0), params, hp)
    random = lambda x: jnp.asarray(rng.normal(size=x.shape))  # noqa: E731
    state = state.replace(
        parameters=jax.tree.map(random, state.parameters),
        scale=jax.tree.map(
            lambda x, m: 0 * x + m, Scale.start(1, "float64"), Scale(0.4, 2.0, 0.2, 1.0, 2.0)
        ),
    )
    key, _, after_key = jax.random.split(state.key, 3)
    _, rollout, _ = jax.jit(learner.collect)(state.parameters.actor, state.lanes, key, params)
    after, metrics = jax.jit(learner.update)(state, params, hp)

    # Every step is an episode, so the return is the reward and the advantage reward - value.
    observation = rollout.observation.reshape(12, 3)
    choice = np.asarray(rollout.choice).reshape(12, 2)
    reward = params.reward[observation.argmax(-1), choice[:, 0], choice[:, 1]]
    np.testing.assert_allclose(rollout.reward.reshape(-1), reward)
    value = 1.0 + 2.0 * network(state.parameters.critic, observation, "values")[:, 0]
    gain = (reward - value - (reward - value).mean()) / ((reward - value).std() + 1e-8)
    mean = (0.8 * 0.4 + 0.2 * reward.mean()) / 0.36
    deviation = np.sqrt((0.8 * 2.0 + 0.2 * ((reward - mean) ** 2).mean()) / 0.36)

    def log_pi(actor):
        logits = network(actor, observation, "logits").reshape(12, 2, 3)
        logits = jnp.where(jnp.asarray([[True, True, True], [True, True, False]]), logits, -1e30)
        return logits - jnp.log(jnp.sum(jnp.exp(logits), axis=-1, keepdims=True))

    def taken(actor):
        return jnp.take_along_axis(log_pi(actor), choice[..., None], -1).sum((-2, -1))

    old = taken(state.parameters.actor)
    np.testing.assert_allclose(rollout.log_probability.reshape(-1), old, rtol=1e-9)

    def actor_loss(actor):
        logs = log_pi(actor)
        entropy = -(jnp.exp(logs) * jnp.where(logs < -1e20, 0, logs)).sum((-2, -1))
        return -(jnp.exp(taken(actor) - old) * gain + 0.1 * entropy).mean()

    def critic_loss(critic):
        value = mean + deviation * network(critic, observation, "values")[:, 0]
        return (((value - reward) / deviation) ** 2).mean()

    critic = jax.tree.map(jnp.copy, state.parameters.critic)
    head = critic["params"]["values"]
    head["kernel"] = head["kernel"] * 2.0 / deviation
    head["bias"] = (1.0 + 2.0 * head["bias"] - mean) / deviation

    def stepped(loss, at):
        cost, gradient = jax.value_and_grad(loss)(at)
        norm = np.sqrt(sum(float(jnp.sum(g**2)) for g in jax.tree.leaves(gradient)))
        assert norm > 0.2
        limited = jax.tree.map(lambda g: 0.2 / norm * g, gradient)
        # The first step of Adam is g / (|g| + eps).
        step = jax.tree.map(lambda x, g: x - 0.03 * g / (jnp.abs(g) + 1e-5), at, limited)
        return float(cost), step

    cost, actor = stepped(actor_loss, state.parameters.actor)
    assert float(metrics["policy_loss"]) == pytest.approx(cost, rel=1e-9)
    chex.assert_trees_all_close(after.parameters.actor, actor, rtol=1e-7, atol=1e-12)
    cost, critic = stepped(critic_loss, critic)
    assert float(metrics["value_loss"]) == pytest.approx(cost, rel=1e-9)
    chex.assert_trees_all_close(after.parameters.critic, critic, rtol=1e-7, atol=1e-12)
    assert float(metrics["kl"]) == pytest.approx(0, abs=1e-12)
    assert float(metrics["mean_reward"]) == pytest.approx(float(reward.mean()))
    assert float(after.scale.mean[0]) == pytest.approx(mean)
    assert jnp.all(jax.random.key_data(after.key) == jax.random.key_data(after_key))


@dataclasses.dataclass(frozen=True)
class Counting(PPO):
    """Its loss tells which rows it is given."""

    def loss(self, parameters, batch, hp):
        rows = jnp.sum(jax.nn.one_hot(batch.gain, self.num_rows), axis=0)
        return 0.0 * jnp.sum(parameters.critic), {"rows": rows}


@pytest.mark.quick
def test_minibatches_are_a_new_permutation_every_epoch():
    learner, hp = Counting.build(BANDIT, **SIZES | dict(num_minibatches=4, epochs=3))
    networks = Parameters(jnp.zeros(1), jnp.zeros(1))
    optimizer = optax.scale_by_adam().init(networks)
    batch = Batch(*[None] * 5, gain=jnp.arange(128), world=None, old_value=None, target=None)
    _, _, seen = learner.learn(networks, optimizer, batch, jax.random.key(0), hp)
    seen = np.asarray(seen["rows"]).reshape(3, 4, 128)
    assert np.all(seen.sum(1) == 1) and np.all(seen.sum(-1) == 32)
    assert not np.array_equal(seen[0], seen[1])


@pytest.mark.quick
def test_the_schedule_falls_linearly():
    learner, hp = PPO.build(BANDIT, schedule_updates=100, lr=1.0, entropy_weight=2.0)
    half, end = (learner._scheduled(hp, jnp.int32(k)) for k in (50, 200))
    assert float(half.lr) == pytest.approx(0.525) and float(end.lr) == pytest.approx(0.05)
    assert float(half.entropy_weight) == 1.0 and float(end.entropy_weight) == 0.0
    assert float(end.clip) == float(hp.clip)


# ---- collecting --------------------------------------------------------------------------------


def test_steps_between_decisions_neither_act_nor_discount():
    env = Convoy()
    learner, hp = PPO.build(
        env, **SIZES | dict(num_envs=1, rollout_length=9, num_minibatches=1), entropy_weight=0.0
    )
    params = env.make_params(turns_per_step=1)
    state = start(learner, jax.random.key(0), params, hp)
    collected = jax.jit(learner.collect)(
        state.parameters.actor, state.lanes, jax.random.key(1), params
    )
    _, rollout, counts = collected
    asked = [k >= 0 for k in env.asks]
    assert rollout.deciding[:8, 0].tolist() == asked and bool(rollout.deciding[8, 0])
    assert rollout.discounting[:8, 0].tolist() == [*asked[1:], True]
    assert rollout.done[:, 0].tolist() == [False] * 7 + [True, False]
    assert int(counts["decisions"].sum()) == sum(asked) + 1 and int(counts["episodes"].sum()) == 1

    # Gains are normalised over decisions alone; what was ignored does not move the actor.
    advantage = jnp.asarray(np.random.default_rng(0).normal(size=(9, 1)), jnp.float32)
    batch = learner.batch(rollout, jnp.zeros((9, 1)), advantage, state.scale)
    counted = np.asarray(batch.gain)[np.asarray(batch.deciding)]
    assert float(np.mean(counted)) == pytest.approx(0, abs=1e-6)
    assert float(np.std(counted)) == pytest.approx(1, rel=1e-4)
    louder = batch.replace(gain=jnp.where(batch.deciding, batch.gain, 1e6))
    losses = [learner.loss(state.parameters, b, hp)[1] for b in (batch, louder)]
    assert float(losses[0]["policy_loss"]) == float(losses[1]["policy_loss"])


@pytest.mark.parametrize("shared", [True, False])
def test_agents_see_their_number_play_their_own_scenario_and_obey_masks(shared):
    env = Team(num_agents=2, num_heads=2, num_choices=3, num_places=2)
    rng, steps, lanes = np.random.default_rng(0), 40, 4
    valid = rng.random((lanes, 2, 2, 3)) < 0.6
    valid[..., 0] |= ~valid.any(-1)
    reward = rng.normal(size=(lanes, 2, 3, 3, 3, 3, 2))
    following = rng.integers(-1, 2, size=(lanes, 2, 3, 3, 3, 3))
    params = env.default_params().replace(
        reward=jnp.asarray(reward, jnp.float32),
        following=jnp.asarray(following, jnp.int32),
        valid=jnp.asarray(valid),
        max_steps=jnp.int32(3),
    )
    sizes = dict(hidden=(6,), num_envs=lanes, rollout_length=steps)
    learner, hp = PPO.build(env, **sizes, shared=shared)
    state = start(learner, jax.random.key(0), params, hp)
    actor = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), state.parameters.actor
    )
    collect = jax.jit(learner.collect)
    after, rollout, counts = jax.device_get(collect(actor, state.lanes, state.key, params))

    time, log_probability = np.zeros(lanes, int), np.zeros((steps, lanes, 2))
    for t, w in np.ndindex(steps, lanes):
        place = int(rollout.world[t, w, 2:].argmax())
        freedom = valid[w].mean((1, 2))
        np.testing.assert_allclose(rollout.world[t, w], [*freedom, *np.eye(2)[place]], rtol=1e-6)
        rows = [[*np.eye(2)[place], f] for f in freedom]
        np.testing.assert_allclose(rollout.observation[t, w], rows, rtol=1e-6)
        np.testing.assert_array_equal(rollout.mask[t, w], valid[w])
        taken = (w, place, *rollout.choice[t, w].reshape(-1))
        paid = float(reward[taken].sum())
        assert float(rollout.reward[t, w]) == pytest.approx(paid, rel=1e-5, abs=1e-6)
        time[w] += 1
        ends = following[taken] < 0
        assert bool(rollout.terminated[t, w]) == ends
        assert bool(rollout.done[t, w]) == (ends or time[w] == 3)
        reached = int(rollout.final_world[t, w, 2:].argmax())
        assert reached == max(following[taken], 0)
        if rollout.done[t, w]:
            time[w] = 0
        elif t + 1 < steps:
            assert rollout.world[t + 1, w, 2:].argmax() == reached
        for n in range(2):
            own = actor if shared else jax.tree.map(lambda x, n=n: x[n], actor)
            x = np.concatenate([rows[n], np.eye(2)[n]]) if shared else np.array(rows[n])
            logits = network(jax.tree.map(np.asarray, own), x, "logits").reshape(2, 3)
            pi = softmax(np.where(valid[w, n], logits, -np.inf))
            log_probability[t, w, n] = np.log(pi[[0, 1], rollout.choice[t, w, n]]).sum()
    np.testing.assert_allclose(rollout.log_probability, log_probability, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(after.env_state.time, time)
    assert np.all(np.take_along_axis(rollout.mask, rollout.choice[..., None], -1))
    assert int(counts["episodes"].sum()) == rollout.done.sum() > rollout.terminated.sum() > 0


def test_agents_with_their_own_actors_learn_as_if_alone(double):
    """Each from its own loss, with its own limit of the gradient."""
    env = Team(num_agents=2, num_choices=3, dtype="float64")
    sizes = dict(hidden=(4,), num_envs=5, rollout_length=2, epochs=1, num_minibatches=1)
    learner, hp = PPO.build(env, **sizes, shared=False, max_gradient_norm=1e-3)
    state = start(learner, jax.random.key(0), env.default_params(), hp)
    rng = np.random.default_rng(0)
    gain = rng.normal(size=10)
    batch = Batch(
        observation=rng.normal(size=(10, 2, 2)),
        mask=np.ones((10, 2, 1, 3), bool),
        choice=rng.integers(3, size=(10, 2, 1)).astype(np.int32),
        log_probability=np.full((10, 2), -np.log(3)),
        deciding=np.ones(10, bool),
        gain=gain,
        world=np.zeros((10, 3)),
        old_value=np.zeros(10),
        target=np.zeros(10),
    )
    batch = jax.tree.map(jnp.asarray, batch)
    learn = jax.jit(learner.learn)
    _, optimizer, _ = learn(state.parameters, state.optimizer, batch, jax.random.key(1), hp)
    for n in range(2):
        own = jax.tree.map(lambda x, n=n: x[n], state.parameters.actor)

        def loss(actor, n=n):
            logits = network(actor, batch.observation[:, n], "logits")
            logs = jax.nn.log_softmax(logits)
            ratio = 3 * jnp.exp(jnp.take_along_axis(logs, batch.choice[:, n], -1)[:, 0])
            near = jnp.clip(ratio, 0.8, 1.2)
            entropy = -jnp.sum(jnp.exp(logs) * logs, -1)
            return -jnp.mean(jnp.minimum(ratio * gain, near * gain) + 0.01 * entropy)

        gradient = jax.grad(loss)(own)
        norm = np.sqrt(sum(float(jnp.sum(g**2)) for g in jax.tree.leaves(gradient)))
        first = jax.tree.map(lambda g, norm=norm: 0.1 * 1e-3 / norm * g, gradient)
        moment = jax.tree.map(lambda x, n=n: x[n], optimizer.mu.actor)
        chex.assert_trees_all_close(moment, first, rtol=1e-6, atol=1e-12)


# ---- one program for many runs -----------------------------------------------------------------


def test_runs_of_a_grid_stand_beside_each_other_in_one_program():
    params = BANDIT.default_params()
    learner, hp = PPO.build(BANDIT, **SIZES)
    keys = jax.random.split(jax.random.key(6), 2)
    grid = [hp, hp.replace(clip=jnp.float32(0.01), lr=jnp.float32(0.01))]
    starts = [start(learner, key, params, one) for key, one in zip(keys, grid, strict=True)]
    chex.clear_trace_counter()
    update = jax.jit(chex.assert_max_traces(learner.update, n=1))
    ends = [update(first, params, one)[0] for first, one in zip(starts, grid, strict=True)]
    stack = partial(jax.tree.map, lambda *x: jnp.stack(x))
    together, _ = jax.jit(jax.vmap(learner.update, (0, None, 0)))(
        stack(*starts), params, stack(*grid)
    )
    for i, alone in enumerate(ends):
        lane = jax.tree.map(lambda x, i=i: x[i], together.parameters)
        chex.assert_trees_all_close(lane, alone.parameters, rtol=1e-3, atol=1e-4)
        assert int(alone.optimizer.count) == 8 and int(alone.updates) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shared", [True, False])
def test_states_keep_their_dtypes(dtype, shared, double):
    for env in (Placement(dtype=dtype), Team(num_heads=2, num_choices=2, dtype=dtype)):
        learner, hp = PPO.build(env, shared=shared, schedule_updates=9)
        assert check_dtypes(learner, hp) == {dtype, "int32", "bool", "key<fry>"}


# ---- which environments ------------------------------------------------------------------------


def test_it_fits_every_environment_of_the_library():
    for name in jaxenv.registry.environments():
        env, _ = jaxenv.make(name)
        assert PPO.unsupported(env) is None, name
    learner, hp = PPO.build(Crew(), **SIZES)
    check_dtypes(learner, hp)


def test_one_row_per_branch_is_learned_with_the_same_weights():
    learner, hp = PPO.build(Robust(max_devices=3), hidden=(8, 8))
    x = jax.random.normal(jax.random.key(1), (1, 1, 3, 49))
    actor = learner.actor.init(jax.random.key(0), x)
    critic = learner.critic.init(jax.random.key(0), x[0, 0])
    logits, value = learner.actors.logits(actor, x), learner.critic.apply(critic, x[0, 0])
    order = jnp.asarray([2, 0, 1])
    permuted = learner.actors.logits(actor, x[:, :, order])
    np.testing.assert_allclose(permuted, logits[:, :, order], rtol=1e-5, atol=1e-7)
    same = learner.critic.apply(critic, x[0, 0, order])
    np.testing.assert_allclose(same, value, rtol=1e-5, atol=1e-7)
    assert logits.shape == (1, 1, 3, 10) and value.shape == (1,)


@pytest.mark.quick
def test_a_policy_is_measured_wherever_its_sizes_fit():
    trees = []
    for mode in ("common", "mixed"):
        env = Robust(max_devices=2, mode=mode)
        learner, hp = PPO.build(env, hidden=(4,), num_envs=4, rollout_length=1)
        state = jax.eval_shape(learner.init, jax.random.key(0), env.default_params(), hp)
        trees.append(jax.tree.structure(learner.policy(state)))
    assert trees[0] == trees[1]


@pytest.mark.quick
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(num_envs=0), "num_envs: 0 is not valid; give a positive integer"),
        (dict(rollout_length=1.5), "rollout_length: 1.5 is not valid; give a positive integer"),
        (dict(epochs=True), "epochs: True is not valid; give a positive integer"),
        (
            dict(num_minibatches=3),
            "3 is not valid; give a divisor of num_envs * rollout_length = ",
        ),
        (dict(hidden=()), "hidden: () is not valid; give a list of positive integers"),
        (dict(shared=1), "shared: 1 is not valid; choose true or false"),
        (dict(schedule_updates=-1), "schedule_updates: -1 is not valid"),
        (dict(lr=0), "lr: 0.0 is not valid; give a positive finite number"),
        (dict(clip=0), "clip: 0.0 is not valid; give a positive finite number"),
        (dict(value_clip=0), "value_clip: 0.0 is not valid; give a positive number, inf = no lim"),
        (dict(max_gradient_norm=0), "max_gradient_norm: 0.0 is not valid; give a positive number"),
        (dict(discount=1.5), "discount: 1.5 is not valid; give a number in [0, 1]"),
        (dict(trace_decay=-1), "trace_decay: -1.0 is not valid; give a number in [0, 1]"),
        (dict(entropy_weight=-1), "entropy_weight: -1.0 is not valid; give a finite number, 0 or"),
        (dict(value_decay=1), "value_decay: 1.0 is not valid; give a number in [0, 1)"),
        (dict(learning_rate=1), "ppo.learning_rate: 1 is not valid; known names are clip, "),
    ],
)
def test_bad_settings_are_refused_in_one_line(options, message):
    with pytest.raises(ConfigError) as error:
        PPO.build(BANDIT, **options)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.quick
def test_what_does_not_fit_is_refused_in_one_line():
    for env, reason in NO_TEAMS[1:]:
        with pytest.raises(ConfigError, match=f"agent: 'ppo' is not valid; .* {reason}$") as error:
            PPO.build(env)
        assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match='0 with reward_mode="own"'):
        PPO.build(Vehicular(reward_mode="own"))
