"""HAPPO on games and values known by hand, and its pieces against NumPy."""

from __future__ import annotations

import dataclasses
import itertools
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.happo import Happo, Rollout
from agents.steps import advantages
from agents.team import Scale
from jaxenv.errors import ConfigError
from jaxenv.services import Services
from runs.checkpoint import Checkpoints
from tests.learners import check_dtypes, start, train
from tests.probes import NO_TEAMS, Team
from tests.toy_environments import Crew

SIZES = dict(embedding=4, actor_hidden=(8,), critic_hidden=(8,), num_envs=8, rollout_length=8)
TEAM = Team(num_places=2)
NUM_VALID = (2, 3, 4)
VALID = np.arange(4) < np.array(NUM_VALID)[:, None, None]


def member(tree, n):
    return jax.tree.map(lambda x: x[n], tree)


# ---- what it learns ----------------------------------------------------------------------------


def servers():
    """Three agents choose one of 2, 3 or 4 servers; whoever shares one is paid 1 less.

    ``[4, 4, 4]``; what an agent has not is worth 99.
    """
    worth = np.array([[2.0, 1.6, 99, 99], [2.0, 0.8, 1.0, 99], [2.0, 0.5, 1.4, 0.3]])
    reward = np.zeros((4, 4, 4))
    for a in itertools.product(range(4), repeat=3):
        reward[a] = worth[np.arange(3), a].sum() - 2 * (3 - len(set(a)))
    return reward


BEST = (1, 0, 2)


def a_game():
    """It is played in both places, where it ends; the other component of the reward is 0."""
    reward = np.stack([servers(), np.zeros((4, 4, 4))], -1)
    return TEAM.make_params(reward=np.stack([reward, reward]), valid=VALID)


def test_a_game_of_different_action_counts_is_solved():
    reward = servers()[: NUM_VALID[0], : NUM_VALID[1]]
    assert np.unravel_index(reward.argmax(), reward.shape) == BEST and reward.max() == 5.0
    # Against uniform others, agents 0, 1 and 2 would all take server 0.
    alone = [reward.mean(tuple({0, 1, 2} - {n})).argmax() for n in range(3)]
    assert alone != list(BEST) and reward[tuple(alone)] < 5.0

    params = a_game()
    options = dict(lr_actor=1e-2, lr_critic=1e-2, entropy_weight=0.02)
    learner, hp = Happo.build(TEAM, **SIZES, **options)
    state, metrics = train(learner, params, hp, 4)
    policy = learner.policy(state)
    for place in (0, 1):
        at = TEAM.reset_env(jax.random.key(0), params).replace(place=jnp.int32(place))
        observation, mask = TEAM.observe(at, params), TEAM.action_mask(at, params)
        action, _ = policy.act((), None, observation, mask, None, params)
        assert tuple(action.tolist()) == BEST and action.dtype == jnp.int32
    assert 4.5 < metrics["mean_reward"][-1] < 5.0 + 1e-5
    assert np.all(metrics["decisions"] == 64) and np.all(metrics["episodes"] == 64)
    assert 0 < metrics["entropy"][-1] < 0.3


@pytest.mark.parametrize(
    ("ends", "expected"), [(True, (0.7, 1.0)), (False, (0.7 / 0.3, 1.0 / 0.3))]
)
def test_values_bootstrap_through_a_time_limit_and_not_through_an_end(ends, expected):
    """Place 0 leads to place 1, which is paid 1 and ends, or stays until a limit of 3 steps."""
    reward = np.zeros((2, 4, 4, 4, 2))
    reward[1, ..., 0] = 1.0
    following = np.ones((2, 4, 4, 4), int)
    if ends:
        following[1] = -1
    params = TEAM.make_params(reward=reward, following=following, max_steps=3)
    options = dict(lr_actor=1e-2, lr_critic=1e-2, discount=0.7, value_decay=0.9)
    learner, hp = Happo.build(TEAM, **SIZES, **options)
    state, _ = train(learner, params, hp, 3)
    world = jnp.concatenate([jnp.ones((2, 3)), jnp.eye(2)], axis=1)
    value = state.scale.value(learner.critic.apply(state.critic, world))[:, 0]
    np.testing.assert_allclose(value, expected, rtol=0.03)


# ---- its pieces --------------------------------------------------------------------------------


@pytest.mark.quick
def test_advantages_against_a_loop_over_every_later_step(double):
    rng = np.random.default_rng(0)
    steps, lanes = 9, 6
    terminated = rng.random((steps, lanes)) < 0.2
    done = terminated | (rng.random((steps, lanes)) < 0.2)
    reward, value, ahead = rng.normal(size=(3, steps, lanes))
    _, hp = Happo.build(Team(dtype="float64"), discount=0.9, trace_decay=0.8)
    ends = terminated, done
    measured = advantages(reward, value, ahead, *ends, hp.discount, hp.trace_decay)
    expected = np.zeros((steps, lanes))
    for t, w in np.ndindex(steps, lanes):
        weight = 1.0
        for k in range(t, steps):
            follows = 0.0 if terminated[k, w] else 0.9 * ahead[k, w]
            expected[t, w] += weight * (reward[k, w] + follows - value[k, w])
            if done[k, w]:
                break
            weight *= 0.9 * 0.8
    assert np.any(done & ~terminated) and np.any(terminated)
    np.testing.assert_allclose(measured, expected, rtol=1e-12, atol=1e-14)


def dense(layer, x):
    return x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])


def slow_policy(actor, observation, mask):
    """log pi of all values, 0 where masked, of an actor with one layer after its embedding."""
    p = actor["params"]
    for layer in ("Trunk_0", "Trunk_1"):
        observation = np.maximum(dense(p[layer]["Dense_0"], observation), 0)
    logits = np.where(mask, dense(p["Dense_0"], observation).reshape(mask.shape), -np.inf)
    pi = np.exp(logits - logits.max(-1, keepdims=True))
    return np.log(np.where(mask, pi / pi.sum(-1, keepdims=True), 1.0))


def slow_critic(critic, world):
    """Values ``[..., 1]`` by a critic of two layers, of an entry per agent and two for a place."""
    p = critic["params"]
    rows = dense(p["rows"]["Dense_0"], world[..., :-2, None]).reshape(*world.shape[:-1], -1)
    x = np.concatenate([rows, dense(p["shared_0"]["Dense_0"], world[..., -2:])], -1)
    x = np.maximum(np.maximum(x, 0) @ np.asarray(p["first"]) + np.asarray(p["bias"]), 0)
    return dense(p["values"], np.maximum(dense(p["rest"]["Dense_0"], x), 0))


PIECES = dict(embedding=3, actor_hidden=(4,), critic_hidden=(4, 3), num_envs=5, rollout_length=6)
RATES = dict(lr_actor=0.1, lr_critic=0.03, entropy_weight=0.3, huber=0.5, max_gradient_norm=1e9)


def random_like(rng, tree, size=1.0):
    return jax.tree.map(lambda x: jnp.asarray(size * rng.normal(size=x.shape), x.dtype), tree)


def moved(tree, direction, step):
    return jax.tree.map(lambda x, d: np.asarray(x) + step * np.asarray(d), tree, direction)


def dot(tree, other):
    return sum(jax.tree.leaves(jax.tree.map(lambda x, y: float(np.sum(x * y)), tree, other)))


def check_slope(loss, at, gradient, rng):
    """Along a random direction, the gradient against central differences of the loss."""
    direction = random_like(rng, at)
    ends = [loss(moved(at, direction, e)) for e in (1e-6, -1e-6)]
    assert dot(gradient, direction) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5)


def a_run(rng):
    """A learner of one epoch, its random networks with a scale under way, and hyperparameters."""
    env = Team(num_heads=2, num_choices=3, num_places=2, dtype="float64")
    learner, hp = Happo.build(env, **PIECES, **RATES, epochs=1)
    shapes = jax.eval_shape(learner.init, jax.random.key(0), env.default_params(), hp)
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes.replace(lanes=(), key=()))
    moments = Scale(total=0.4, squares=2.0, weight=0.2, mean=2.0, deviation=np.sqrt(10.0))
    state = state.replace(
        actors=random_like(rng, state.actors),
        critic=random_like(rng, state.critic),
        scale=jax.tree.map(lambda x, m: x + m, state.scale, moments),
    )
    return learner, hp, state


def a_rollout(rng):
    """Random observations, masks, and choices that they allow: only what actors learn from."""
    lead = (6, 3, 5)
    mask = rng.random((*lead, 2, 3)) < 0.7
    mask[..., 0] = True
    choice = np.where(mask, rng.random(mask.shape), -1).argmax(-1).astype(np.int32)
    observation = rng.normal(size=(*lead, 3))
    return Rollout(observation, mask, choice, *[None] * 5)


@partial(jax.jit, static_argnames="learner")
def learn_actors(learner, state, rollout, gain, key, hp):
    return learner._learn_actors(state, rollout, gain, key, hp)


@partial(jax.jit, static_argnames="learner")
def learn_critic(learner, state, world, value, target, hp):
    return learner._learn_critic(state, world, value, target, hp)


def first_moments(optimizer):
    """Means of gradients, with weights 0.1 * 0.9**age."""
    return jax.tree.map(np.asarray, optimizer.mu)


def test_actors_ascend_a_clipped_surrogate_weighted_by_those_before_them(double):
    rng = np.random.default_rng(1)
    (once, hp, state), rollout, gain = a_run(rng), a_rollout(rng), rng.normal(size=(6, 5))

    def parts(actor, n):
        """log pi of what agent n did, and its entropy, ``[T, W]``."""
        mask, choice = rollout.mask[:, n], rollout.choice[:, n]
        logs = slow_policy(actor, rollout.observation[:, n], mask)
        taken = np.take_along_axis(logs, choice[..., None], -1).sum((-2, -1))
        return taken, -np.where(mask, np.exp(logs) * logs, 0).sum((-2, -1))

    def loss(actor, n, weight):
        new, entropy = parts(actor, n)
        ratio = np.exp(new - parts(member(state.actors, n), n)[0])
        surrogate = np.minimum(ratio * weight, np.clip(ratio, 0.8, 1.2) * weight)
        return -surrogate.mean() - 0.3 * entropy.mean()

    orders = []
    for seed in (0, 1):
        key = jax.random.key(seed)
        actors, optimizer, metrics = learn_actors(once, state, rollout, gain, key, hp)
        gradients = jax.tree.map(lambda x: x / 0.1, first_moments(optimizer))
        order = np.asarray(jax.random.permutation(key, 3))
        orders.append(order.tolist())
        weight, losses, entropies = gain, [], []
        for n in order:
            old, new = member(state.actors, n), member(actors, n)
            check_slope(partial(loss, n=n, weight=weight), old, member(gradients, n), rng)
            step = jax.tree.map(lambda g: -0.1 * g / (np.abs(g) + 1e-5), member(gradients, n))
            chex.assert_trees_all_close(new, moved(old, step, 1.0), rtol=1e-8)
            losses.append(loss(old, n, weight))
            entropies.append(parts(old, n)[1].mean())
            weight = weight * np.exp(parts(new, n)[0] - parts(old, n)[0])
        assert np.abs(weight / gain - 1).max() > 0.5
        assert float(metrics["actor_loss"]) == pytest.approx(np.mean(losses), rel=1e-9)
        assert float(metrics["entropy"]) == pytest.approx(np.mean(entropies), rel=1e-9)
        assert float(metrics["ratio"]) == pytest.approx(0, abs=1e-12)
    assert orders[0] != orders[1] and sorted(orders[0]) == [0, 1, 2]

    # In its second epoch the first agent has left its old policy, here and there by too much.
    n = orders[1][0]
    actor, before = member(actors, n), member(first_moments(optimizer), n)
    ratio = np.exp(parts(actor, n)[0] - parts(member(state.actors, n), n)[0])
    for sign in (1, -1):
        outside = sign * gain > 0
        assert np.any(ratio[outside] > 1.2) and np.any(ratio[outside] < 0.8)
    _, optimizer, _ = learn_actors(
        dataclasses.replace(once, epochs=2), state, rollout, gain, key, hp
    )
    after = member(first_moments(optimizer), n)
    gradient = jax.tree.map(lambda x, y: (x - 0.9 * y) / 0.1, after, before)
    check_slope(partial(loss, n=n, weight=gain), actor, gradient, rng)

    limited = hp.replace(max_gradient_norm=jnp.float64(1e-3))
    _, optimizer, _ = learn_actors(once, state, rollout, gain, key, limited)
    for n in range(3):
        gradient = member(first_moments(optimizer), n)
        assert np.sqrt(dot(gradient, gradient)) == pytest.approx(1e-4, rel=1e-9)


@pytest.mark.quick
def test_the_critic_fits_normalised_returns_near_its_old_values(double):
    rng = np.random.default_rng(2)
    (once, hp, state), world = a_run(rng), rng.normal(size=(6, 5, 5))
    deviation = np.sqrt(10.0)
    value = 2.0 + deviation * slow_critic(state.critic, world)[..., 0]
    target = value + rng.normal(size=value.shape) * 3
    hp = hp.replace(value_decay=jnp.float64(0.8))
    critic, optimizer, scale, cost = learn_critic(once, state, world, value, target, hp)

    mean = (0.8 * 0.4 + 0.2 * target.mean()) / 0.36
    squares = 0.8 * 2.0 + 0.2 * ((target - mean) ** 2).mean()
    assert float(scale.mean[0]) == pytest.approx(mean, rel=1e-9)
    assert float(scale.deviation[0]) == pytest.approx(np.sqrt(squares / 0.36), rel=1e-9)
    rescaled = state.scale.carried(state.critic, scale)
    same = scale.mean + scale.deviation * slow_critic(rescaled, world)
    np.testing.assert_allclose(same[..., 0], value, rtol=1e-9)

    old, goal = ((x - mean) / float(scale.deviation[0]) for x in (value, target))

    def far_and_close(critic):
        new = slow_critic(critic, world)[..., 0]
        errors = [np.abs(x - goal) for x in (new, old + np.clip(new - old, -0.2, 0.2))]
        return [np.where(e < 0.5, e**2 / 2, 0.5 * (e - 0.25)) for e in errors]

    def loss(critic):
        return np.maximum(*far_and_close(critic)).mean()

    assert float(cost) == pytest.approx(loss(rescaled), rel=1e-9)
    before = first_moments(optimizer)
    gradient = jax.tree.map(lambda x: x / 0.1, before)
    check_slope(loss, rescaled, gradient, rng)
    step = jax.tree.map(lambda g: -0.03 * g / (np.abs(g) + 1e-5), gradient)
    chex.assert_trees_all_close(critic, moved(rescaled, step, 1.0), rtol=1e-8)

    far, close = far_and_close(critic)
    assert np.any(far > close) and np.any(far < close) and np.any(far == close)
    _, optimizer, _, cost = learn_critic(
        dataclasses.replace(once, epochs=2), state, world, value, target, hp
    )
    assert float(cost) == pytest.approx(loss(critic), rel=1e-9)
    after = first_moments(optimizer)
    gradient = jax.tree.map(lambda x, y: (x - 0.9 * y) / 0.1, after, before)
    check_slope(loss, critic, gradient, rng)


@pytest.mark.quick
def test_the_rates_fall():
    learner, hp = Happo.build(TEAM, schedule_updates=100, lr_actor=1.0, lr_critic=2.0)
    for updates, share in [(0, 1.0), (50, 0.525), (200, 0.05)]:
        now = learner._scheduled(hp, jnp.int32(updates))
        assert (float(now.lr_actor), float(now.lr_critic)) == pytest.approx((share, 2 * share))
        assert float(now.clip) == float(hp.clip)


# ---- collecting --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Idle(Happo):
    """It learns nothing; in place of networks and optimisers it returns what it would learn of."""

    def _learn_actors(self, state, rollout, gain, key, hp):
        return (rollout, gain), key, {}

    def _learn_critic(self, state, world, value, target, hp):
        return (world, value), target, state.scale, jnp.zeros(())


def test_every_environment_plays_its_own_scenario_without_masked_actions():
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
    learner, hp = Idle.build(
        env, **SIZES | dict(critic_hidden=(6, 5), num_envs=lanes, rollout_length=steps)
    )
    state = start(learner, jax.random.key(0), params, hp)
    scale = jax.tree.map(lambda x, m: 0 * x + m, state.scale, Scale(2.0, 9.0, 1.0, 2.0, 3.0))
    state = state.replace(scale=scale)
    after, metrics = jax.jit(learner.update)(state, params, hp)
    rollout, gain = jax.device_get(after.actors)

    time = np.zeros(lanes, int)
    for t, w in np.ndindex(steps, lanes):
        place = int(rollout.world[t, w, 2:].argmax())
        freedom = valid[w].mean((1, 2))
        np.testing.assert_allclose(rollout.world[t, w], [*freedom, *np.eye(2)[place]], rtol=1e-6)
        rows = [[*np.eye(2)[place], f] for f in freedom]
        np.testing.assert_allclose(rollout.observation[t, :, w], rows, rtol=1e-6)
        np.testing.assert_array_equal(rollout.mask[t, :, w], valid[w])
        taken = (w, place, *np.asarray(rollout.choice[t, :, w]).reshape(-1))
        assert rollout.reward[t, w] == pytest.approx(reward[taken].sum(), rel=1e-5, abs=1e-6)
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
    np.testing.assert_array_equal(after.lanes.env_state.time, time)
    assert np.all(np.take_along_axis(rollout.mask, rollout.choice[..., None], -1))
    assert int(metrics["episodes"]) == rollout.done.sum() > rollout.terminated.sum() > 0
    assert int(metrics["decisions"]) == steps * lanes
    assert metrics["mean_reward"] == pytest.approx(float(rollout.reward.mean()), rel=1e-4)

    world, value = after.critic
    np.testing.assert_array_equal(world, rollout.world)
    judged, ahead = (
        2 + 3 * slow_critic(state.critic, x)[..., 0] for x in (rollout.world, rollout.final_world)
    )
    np.testing.assert_allclose(value, judged, rtol=1e-4)
    ends = rollout.terminated, rollout.done
    advantage = advantages(rollout.reward, judged, ahead, *ends, hp.discount, hp.trace_decay)
    advantage = np.asarray(advantage)
    np.testing.assert_allclose(after.critic_optimizer, judged + advantage, rtol=1e-3, atol=1e-4)
    gains = (advantage - advantage.mean()) / advantage.std()
    np.testing.assert_allclose(gain, gains, rtol=1e-3, atol=1e-4)
    keys = [jax.random.key_data(x).tolist() for x in (state.key, after.actor_optimizer, after.key)]
    assert len(set(map(tuple, keys))) == 3

    # Fresh actors are nearly uniform over what is valid.
    drawn = np.moveaxis(np.eye(3)[np.asarray(rollout.choice)].mean(0), 1, 0)
    np.testing.assert_allclose(drawn, valid / valid.sum(-1, keepdims=True), atol=0.3)


# ---- one program for many runs -----------------------------------------------------------------


def test_runs_repeat_resume_and_stand_beside_each_other(tmp_path):
    params = a_game()
    learner, hp = Happo.build(TEAM, **SIZES, lr_actor=1e-2)
    keys = jax.random.split(jax.random.key(6), 2)
    grid = [hp, hp.replace(clip=jnp.float32(0.01), lr_critic=jnp.float32(0.01))]
    starts = [start(learner, key, params, one) for key, one in zip(keys, grid, strict=True)]
    chex.clear_trace_counter()
    update = jax.jit(chex.assert_max_traces(learner.update, n=1))
    ends, metrics = zip(
        *[update(first, params, one) for first, one in zip(starts, grid, strict=True)], strict=True
    )

    stack = partial(jax.tree.map, lambda *x: jnp.stack(x))
    together, _ = jax.jit(jax.vmap(learner.update, (0, None, 0)))(
        stack(*starts), params, stack(*grid)
    )
    for i, alone in enumerate(ends):
        lane = member(together, i)
        chex.assert_trees_all_close(lane.actors, alone.actors, rtol=1e-3, atol=1e-4)
        chex.assert_trees_all_close(lane.critic, alone.critic, rtol=1e-3, atol=1e-4)
        # Five epochs of one batch each.
        np.testing.assert_array_equal(alone.actor_optimizer.count, [5, 5, 5])
        assert int(alone.critic_optimizer.count) == 5 and int(alone.updates) == 1
        assert all(np.isfinite(x) for x in metrics[i].values())

    checkpoints = Checkpoints(tmp_path, {"agent": "happo"})
    checkpoints.save(1, ends[0])
    target = jax.eval_shape(learner.init, keys[0], params, hp)
    _, restored, _ = checkpoints.restore(target)
    checkpoints.close()
    chex.assert_trees_all_equal(*(update(x, params, hp)[0] for x in (ends[0], restored)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_states_keep_their_dtypes(dtype, double):
    env = Team(num_heads=2, num_choices=2, dtype=dtype)
    learner, hp = Happo.build(env, **SIZES, schedule_updates=9)
    assert check_dtypes(learner, hp) == {dtype, "int32", "key<fry>"}


def test_it_fits_the_services():
    learner, hp = Happo.build(Services())
    assert learner.actor.groups == (18, 16, 16, 120)
    assert (learner.critic.row, learner.critic.groups) == (20, (16, 16, 120))
    settings = ("discount", "trace_decay", "clip", "entropy_weight", "huber", "max_gradient_norm")
    measured = [float(getattr(hp, name)) for name in settings]
    assert measured == pytest.approx([0.99, 0.95, 0.2, 0.01, 10, 10])
    assert (learner.num_envs, learner.rollout_length, learner.epochs) == (20, 100, 5)


# ---- refusals ----------------------------------------------------------------------------------


@pytest.mark.quick
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding": 0}, "embedding: 0 is not valid; give a positive integer"),
        ({"num_envs": -1}, "num_envs: -1 is not valid; give a positive integer"),
        ({"rollout_length": 1.5}, "rollout_length: 1.5 is not valid; give a positive integer"),
        ({"epochs": True}, "epochs: True is not valid; give a positive integer"),
        ({"actor_hidden": ()}, r"actor_hidden: \(\) is not valid; give a list of positive integ"),
        ({"critic_hidden": 3}, "critic_hidden: 3 is not valid; give a list of positive integers"),
        ({"schedule_updates": -1}, "schedule_updates: -1 is not valid; give a positive integer"),
        ({"lr_actor": 0.0}, "lr_actor: 0.0 is not valid; give a positive finite number"),
        ({"lr_critic": -1}, "lr_critic: -1.0 is not valid; give a positive finite number"),
        ({"clip": 0}, "clip: 0.0 is not valid; give a positive finite number"),
        ({"huber": 0}, "huber: 0.0 is not valid; give a positive finite number"),
        ({"max_gradient_norm": np.inf}, "max_gradient_norm: inf is not valid; give a positive fin"),
        ({"discount": 1.5}, r"discount: 1.5 is not valid; give a number in \[0, 1\]"),
        ({"trace_decay": -1}, r"trace_decay: -1.0 is not valid; give a number in \[0, 1\]"),
        ({"entropy_weight": -1}, "entropy_weight: -1.0 is not valid; give a finite number, 0 or m"),
        ({"value_decay": 1.0}, r"value_decay: 1.0 is not valid; give a number in \[0, 1\)"),
        ({"lr": 0.1}, "happo.lr: 0.1 is not valid; known names are actor_hidden, clip, "),
    ],
)
def test_settings_that_cannot_be_used_are_refused_in_one_line(options, message):
    with pytest.raises(ConfigError, match=message) as error:
        Happo.build(TEAM, **options)
    assert "\n" not in str(error.value)


def test_environments_it_does_not_fit_are_named():
    for env, reason in NO_TEAMS:
        with pytest.raises(
            ConfigError, match=f"agent: 'happo' is not valid; .* {reason}$"
        ) as error:
            Happo.build(env)
        assert "\n" not in str(error.value)
    # Components of the reward, and rows of the state, are not needed.
    learner, hp = Happo.build(Crew(), **SIZES)
    assert (learner.critic.row, learner.critic.groups) == (0, (2,))
    check_dtypes(learner, hp)
