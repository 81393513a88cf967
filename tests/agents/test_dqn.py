"""DQN on environments with hand-known values, and its loss against NumPy."""

from __future__ import annotations

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import replay
from agents.branches import Branches
from agents.dqn import DQN
from agents.transitions import Transition
from jaxenv import make, spaces, struct
from jaxenv.environment import Environment, Params, State
from jaxenv.errors import ConfigError
from tests.learners import check_dtypes, start
from tests.probes import UNBOUNDED, Bandit, Convoy, Corridor, Pair, Steering

SIZES = dict(hidden=[16], batch_size=32, learning_starts=32, buffer_size=2000, target_interval=10)
RANDOM = dict(epsilon_end=1.0, lr=1e-2)


@struct.dataclass
class ClimbingParams(Params):
    """reward: of each pair, ``[3, 3]``. valid: bool ``[2, 3]``."""

    reward: chex.Array
    valid: chex.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Climbing(Environment):
    """Two entries choose, once. The best pair is (0, 0), but against a partner that chooses
    uniformly 0 pays either least: no entry finds it alone."""

    name = "climbing"

    def default_params(self):
        reward = jnp.asarray([[1.1, -3.0, 0.0], [-3.0, 0.7, 0.6], [0.0, 0.0, 0.5]], self.dtype)
        return ClimbingParams(jnp.int32(1), reward, jnp.ones((2, 3), bool))

    def reset_env(self, key, params):
        return State(key=key, time=jnp.int32(0))

    def step_env(self, key, state, action, params):
        return state, params.reward[action[0], action[1]], jnp.asarray(True), {}

    def observe(self, state, params):
        return jnp.ones((1,), self.dtype)

    def action_mask(self, state, params):
        return params.valid

    @property
    def observation_space(self):
        return spaces.Box(*UNBOUNDED, (1,), self.float_dtype)

    @property
    def action_space(self):
        return spaces.MultiDiscrete((3, 3))


@partial(jax.jit, static_argnames=("learner", "length"))
def chunk(learner, state, params, hp, length):
    return jax.lax.scan(lambda s, _: learner.update(s, params, hp), state, length=length)


def train(learner, params, hp, updates, seed=0):
    """The state after so many updates and the metrics of each."""
    state = start(learner, jax.random.key(seed), params, hp)
    return chunk(learner, state, params, hp, updates)


def values(learner, state):
    """Q at every one-hot observation, ``[observations, joint actions]``."""
    observations = jnp.eye(learner.env.observation_space.shape[0])
    return np.asarray(learner.network.apply(state.values, observations))


def stored(state):
    """The filled part of the replay buffer."""
    return jax.tree.map(lambda x: np.asarray(x[: int(state.replay.size)]), state.replay.rows)


# ---- values and policies -------------------------------------------------------------------------


def test_bandit_values_are_the_rewards_and_the_policy_takes_the_best_valid_one():
    env = Bandit(num_contexts=2)
    reward = np.array([[1.0, 0.5, 0.0, 5.0], [-1.0, 0.0, 1.0, 0.5]], np.float32)
    valid = np.array([[True, True, True, False], [True, True, True, True]])
    learner, hp = DQN.build(env, **SIZES, **RANDOM)
    params = env.make_params(reward=reward, valid=valid)
    state, metrics = train(learner, params, hp, 40)

    np.testing.assert_allclose(values(learner, state)[valid], reward[valid], atol=0.05)
    policy = learner.policy(state)
    for observation, mask, best in zip(jnp.eye(2), params.valid, (0, 2), strict=True):
        action, _ = policy.act((), None, observation, mask, None, params)
        assert int(action) == best and action.dtype == jnp.int32
    rows = stored(state)
    context = rows.observation.argmax(-1)
    assert np.all(valid[context, rows.action])
    np.testing.assert_array_equal(rows.mask, np.packbits(valid, axis=-1)[context])
    np.testing.assert_array_equal(rows.reward, reward[context, rows.action])
    # 40 updates of 8 rounds of 8 actors; 32 transitions are there after 4 rounds.
    assert metrics["gradient_updates"].tolist() == [5] + [8] * 39
    assert np.sum(metrics["transitions"]) == np.sum(metrics["episodes"]) == 40 * 64
    np.testing.assert_allclose(metrics["q"][-10:].mean(), rows.reward.mean(), atol=0.05)


@pytest.mark.parametrize(
    ("terminal", "double", "expected"),
    [
        (True, False, (0.7, 1.0)),
        (False, False, (0.7 / 0.3, 1.0 / 0.3)),
        (False, True, (0.7 / 0.3, 1.0 / 0.3)),
    ],
)
def test_truncation_bootstraps_where_termination_does_not(terminal, double, expected):
    learner, hp = DQN.build(Corridor(), **SIZES, lr=1e-2, discount=0.7, double=double)
    params = learner.env.make_params(terminal=terminal)
    state, _ = train(learner, params, hp, 40)
    q = values(learner, state)
    np.testing.assert_allclose((q[0, 0], q[1, 1]), expected, rtol=0.02)


def test_a_joint_choice_finds_what_no_entry_finds_alone():
    env = Climbing()
    params = env.default_params()
    learner, hp = DQN.build(env, **SIZES, **RANDOM)
    state, _ = train(learner, params, hp, 40)
    np.testing.assert_allclose(values(learner, state)[0], params.reward.ravel(), atol=0.05)
    assert int(np.argmin(np.mean(params.reward, axis=1))) == 0

    policy, seen = learner.policy(state), jnp.ones(1)
    for barred, best in [((), (0, 0)), ((0, 0), (1, 1)), ((1, 0), (1, 1)), ((1, 1), (0, 0))]:
        mask = params.valid if barred == () else params.valid.at[barred].set(False)
        action, _ = policy.act((), None, seen, mask, None, params)
        assert tuple(action.tolist()) == best and action.dtype == jnp.int32
    mask = params.valid.at[0, 0].set(False).at[1, 1].set(False)
    assert policy.act((), None, seen, mask, None, params)[0].tolist() == [1, 2]


@pytest.mark.parametrize("env", [Climbing(), Bandit(num_arms=5)])
def test_random_actions_are_uniform_over_the_valid_ones_and_greedy_ones_are_not_random(env):
    params = env.default_params()
    valid = np.asarray(params.valid).copy()
    valid[0, 1] = False
    params = params.replace(valid=jnp.asarray(valid))
    # Before the first gradient update Q is that of the start.
    learner, hp = DQN.build(env, **SIZES | {"learning_starts": 2000}, epsilon_end=1.0)
    random, _ = train(learner, params, hp, 30)
    actions = stored(random).action.reshape(1920, -1)
    for entry, row in zip(actions.T, valid, strict=True):
        share = np.bincount(entry, minlength=row.size) / 1920
        np.testing.assert_allclose(share, row / row.sum(), atol=0.04)

    greedy, _ = train(learner, params, hp.replace(epsilon_end=jnp.float32(0.0)), 1)
    best, _ = learner.policy(greedy).act(
        (),
        None,
        jnp.ones(1),
        params.valid if actions.shape[1] > 1 else params.valid[0],
        None,
        params,
    )
    np.testing.assert_array_equal(stored(greedy).action, np.broadcast_to(best, (64, *best.shape)))

    mixed, _ = train(learner, params, hp.replace(epsilon_end=jnp.float32(0.3)), 30)
    others = np.any(stored(mixed).action.reshape(1920, -1) != np.atleast_1d(best), axis=-1)
    choices = np.prod(valid.sum(-1))
    assert np.mean(others) == pytest.approx(0.3 * (1 - 1 / choices), abs=0.04)


@pytest.mark.quick
@pytest.mark.parametrize("shape", [(4,), (3, 3), (2, 2, 2)])
def test_the_best_valid_joint_choice_is_the_first_of_the_largest(shape):
    rng = np.random.default_rng(0)
    space = spaces.Discrete(4) if len(shape) == 1 else spaces.MultiDiscrete(shape)
    branches = Branches.of(space, joint=True)
    values = rng.integers(0, 4, size=(200, branches.outputs)).astype(np.float32)  # many ties
    mask = rng.random((200, *space.mask().shape)) < 0.6
    mask[..., -1] |= ~mask.any(-1)
    choice, best = jax.jit(branches.best)(values, jnp.asarray(mask))
    allowed = np.asarray(branches.head_mask(jnp.asarray(mask)))[:, 0]
    for i in range(200):
        valid = [a for a in range(branches.outputs) if allowed[i, a]]
        first = max(valid, key=lambda a: (values[i, a], -a))
        assert (int(choice[i]), float(best[i])) == (first, values[i, first])


# ---- schedules -----------------------------------------------------------------------------------


def test_epsilon_falls_linearly_over_its_share_of_the_schedule():
    learner, hp = DQN.build(Bandit(), **SIZES, schedule_updates=100, rounds_per_iteration=5)
    # 0.6 of 100 updates of 5 rounds are 300 rounds.
    rounds = jnp.asarray([0, 1, 150, 299, 300, 10**6], jnp.int32)
    expected = [1.0, 1 - 0.99 / 300, 0.505, 0.01 + 0.99 / 300, 0.01, 0.01]
    np.testing.assert_allclose(learner.epsilon(rounds, hp), expected, atol=1e-6)
    _, metrics = train(learner, learner.env.default_params(), hp, 10)
    last = 5 * np.arange(10) + 4
    np.testing.assert_allclose(metrics["epsilon"], 1 - 0.99 * last / 300, rtol=1e-5)
    constant = dataclasses.replace(learner, schedule_updates=0)
    assert float(constant.epsilon(jnp.int32(0), hp)) == np.float32(0.01)


@pytest.mark.quick
def test_the_target_network_is_copied_every_target_interval_gradient_updates():
    options = SIZES | {"target_interval": 3, "learning_starts": 16}
    learner, hp = DQN.build(Bandit(), **options, rounds_per_iteration=1)
    params = learner.env.default_params()
    state = start(learner, jax.random.key(0), params, hp)
    expected, updates = state.values, 0
    update = jax.jit(learner.update)
    for call in range(10):
        state, metrics = update(state, params, hp)
        assert int(metrics["gradient_updates"]) == (call >= 1)
        updates += int(metrics["gradient_updates"])
        if updates and updates % 3 == 0:
            expected = state.values
        chex.assert_trees_all_equal(state.target, expected)
        if updates % 3:
            assert not np.array_equal(
                state.values["params"]["kernel"], state.target["params"]["kernel"]
            )
    assert updates == 9


# ---- loss ----------------------------------------------------------------------------------------


@pytest.mark.quick
@pytest.mark.parametrize(("double", "dueling"), [(False, True), (True, True), (True, False)])
def test_loss_and_gradient_step_against_numpy(double, dueling):
    env = Climbing()
    options = dict(discount=0.9, reward_scale=0.5, double=double, dueling=dueling)
    learner, hp = DQN.build(env, **SIZES | {"hidden": (5, 6)}, **options)
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(learner.init, jax.random.key(0), env.default_params(), hp)

    def noise(x):
        return jnp.asarray(rng.normal(size=x.shape), x.dtype)

    online, target = (jax.tree.map(noise, x) for x in (shapes.values, shapes.target))
    n = 12
    next_mask = rng.random((n, 2, 3)) < 0.5
    next_mask[..., 1] |= ~next_mask.any(-1)
    batch = Transition(
        observation=jnp.asarray(rng.normal(size=(n, 1)), jnp.float32),
        mask=replay.pack_mask(jnp.ones((n, 6), bool)),
        action=jnp.asarray(rng.integers(0, 3, size=(n, 2)), jnp.int32),
        reward=jnp.asarray(rng.normal(size=n), jnp.float32),
        next_observation=jnp.asarray(rng.normal(size=(n, 1)), jnp.float32),
        next_mask=replay.pack_mask(jnp.asarray(next_mask.reshape(n, 6))),
        terminated=jnp.asarray(rng.random(n) < 0.4),
    )
    b = jax.tree.map(lambda x: np.asarray(x, np.float64), batch)

    def q(parameters, x):
        p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), parameters)["params"]
        for layer in ("Dense_0", "Dense_1"):
            x = np.maximum(x @ p["trunk"][layer]["kernel"] + p["trunk"][layer]["bias"], 0)
        level = x @ p["shared"]["kernel"] + p["shared"]["bias"] if dueling else 0
        return (p["kernel"] @ x + p["bias"] + level).reshape(3, 3)

    def goals(i):
        y = 0.5 * b.reward[i]
        if b.terminated[i]:
            return y
        pairs = [(j, k) for j in range(3) for k in range(3)]
        pairs = [(j, k) for j, k in pairs if next_mask[i, 0, j] and next_mask[i, 1, k]]
        chooser, judge = (q(x, b.next_observation[i]) for x in (online, target))
        best = max(pairs, key=lambda pair: (chooser if double else judge)[pair])
        return y + 0.9 * judge[best]

    y = np.array([goals(i) for i in range(n)])
    action = [tuple(map(int, pair)) for pair in b.action]

    def loss(parameters):
        taken = np.array([q(parameters, b.observation[i])[action[i]] for i in range(n)])
        return np.mean((y - taken) ** 2) / 2, taken

    expected, taken = loss(online)
    (got, mean), gradient = jax.jit(
        lambda x: jax.value_and_grad(learner.loss, has_aux=True)(x, target, batch, hp)
    )(online)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    np.testing.assert_allclose(mean, taken.mean(), rtol=1e-5)
    slope = np.zeros((3, 3))
    for i in range(n):
        slope[action[i]] += (taken[i] - y[i]) / n
    np.testing.assert_allclose(gradient["params"]["bias"], slope.ravel(), rtol=1e-4, atol=1e-6)
    if dueling:
        level = gradient["params"]["shared"]["bias"]
        np.testing.assert_allclose(level, slope.sum(), rtol=1e-4, atol=1e-6)
    # Along the gradient the NumPy loss falls as its square says: nothing else has a gradient.
    size = 1e-5
    moved = jax.tree.map(lambda x, g: np.float64(x) - size * np.float64(g), online, gradient)
    squared = sum(float(np.sum(np.float64(g) ** 2)) for g in jax.tree.leaves(gradient))
    np.testing.assert_allclose((expected - loss(moved)[0]) / size, squared, rtol=5e-3)


# ---- collecting ----------------------------------------------------------------------------------


@pytest.mark.parametrize("turns_per_step", [1, 100])
def test_late_rewards_are_credited_to_their_own_decisions(turns_per_step):
    env = Convoy(reward_mode="own")
    learner, hp = DQN.build(env, **SIZES | {"num_envs": 1, "rounds_per_iteration": 1})
    params = env.make_params(turns_per_step=turns_per_step)
    state, metrics = train(learner, params, hp, 8 if turns_per_step == 1 else 5)
    rows = stored(state)
    table = {
        (tuple(x), int(a), float(r), tuple(y))
        for x, a, r, y in zip(
            rows.observation, rows.action, rows.reward, rows.next_observation, strict=True
        )
    }
    # Vehicles ask in turns 0, 1, 3, 5, 6 and wait 6, 1, 9, 1, 2 turns; action = decision modulo 4.
    seen = [(0, 0), (1, 1), (3, 2), (5, 1), (6, 0), (8, 0)]
    waits = [6.0, 1.0, 9.0, 1.0, 2.0]
    assert table == {(seen[i], i % 4, -waits[i], seen[i + 1]) for i in range(5)}
    assert len(rows.action) == 5 and not rows.terminated.any()
    assert np.sum(metrics["decisions"]) == np.sum(metrics["transitions"]) == 5


@pytest.mark.quick
def test_masks_are_stored_as_the_environment_gives_them():
    env, params = make("partitioning", num_blocks=6, num_servers=4)
    params = params.replace(server_enabled=jnp.asarray([True, False, True, True]))
    learner, hp = DQN.build(env, hidden=[2], buffer_size=8, learning_starts=8, num_envs=2)
    state = jax.eval_shape(learner.init, jax.random.key(0), params, hp)
    assert state.replay.rows.mask.shape == (8, 4) and state.replay.rows.action.shape == (8, 6)
    assert state.values["params"]["kernel"].shape == (5**6, 2)
    mask = jnp.asarray(np.random.default_rng(0).random((3, 6, 5)) < 0.5)
    packed = replay.pack_mask(mask.reshape(3, 30))
    np.testing.assert_array_equal(learner._collector.unpack(packed), mask)


# ---- one program for many runs -------------------------------------------------------------------


def test_vmapped_hyperparameters_and_seeds_equal_separate_runs_and_compile_once():
    learner, hp = DQN.build(Climbing(), **SIZES, schedule_updates=4)
    params = learner.env.default_params()
    keys = jax.random.split(jax.random.key(6), 2)
    grid = [hp.replace(lr=jnp.float32(lr), epsilon=jnp.float32(e)) for lr, e in [(0.01, 1), (1, 0)]]
    starts = [start(learner, key, params, one) for key, one in zip(keys, grid, strict=True)]
    stack = partial(jax.tree.map, lambda *x: jnp.stack(x))
    together, _ = jax.jit(jax.vmap(learner.update, (0, None, 0)))(
        stack(*starts), params, stack(*grid)
    )
    chex.clear_trace_counter()
    update = jax.jit(chex.assert_max_traces(learner.update, n=1))
    for i, (one, first) in enumerate(zip(grid, starts, strict=True)):
        alone, _ = update(first, params, one)
        again, _ = update(first, params, one)
        chex.assert_trees_all_equal(alone, again)
        lane = jax.tree.map(lambda x: x[i], together)  # noqa: B023
        np.testing.assert_array_equal(lane.replay.rows.action, alone.replay.rows.action)
        chex.assert_trees_all_close(lane.values, alone.values, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_states_keep_their_dtypes(dtype):
    with jax.enable_x64(True):
        learner, hp = DQN.build(Climbing(dtype=dtype), **SIZES, schedule_updates=9, double=True)
        assert check_dtypes(learner, hp) == {dtype, "int32", "uint8", "bool", "key<fry>"}


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.quick
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": 0}, "num_envs: 0 is not valid; give a positive integer"),
        ({"rounds_per_iteration": 0}, "rounds_per_iteration: 0 is not valid; give a positive int"),
        ({"target_interval": 1.5}, "target_interval: 1.5 is not valid; give a positive integer"),
        ({"hidden": []}, r"hidden: \[\] is not valid; give a list of positive integers"),
        ({"double": 1}, "double: 1 is not valid; choose true or false"),
        ({"schedule_updates": -1}, "schedule_updates: -1 is not valid; give a positive integer"),
        ({"learning_starts": 10**6}, "learning_starts: 1000000 is not valid; give at most buffer"),
        ({"buffer_size": 4, "learning_starts": 1}, "buffer_size: 4 is not valid; give at least 8"),
        ({"lr": 0.0}, "lr: 0.0 is not valid; give a positive finite number"),
        ({"discount": 1.5}, r"discount: 1.5 is not valid; give a number in \[0, 1\]"),
        ({"epsilon": -0.1}, r"epsilon: -0.1\d* is not valid; give a number in \[0, 1\]"),
        ({"epsilon_end": 2.0}, r"epsilon_end: 2.0 is not valid; give a number in \[0, 1\]"),
        ({"exploration_share": 0}, r"exploration_share: 0.0 is not valid; give a number in \(0, 1"),
        ({"reward_scale": 0}, "reward_scale: 0.0 is not valid; give a positive finite number"),
        ({"tau": 0.1}, "dqn.tau: 0.1 is not valid; known names are batch_size, buffer_size"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_in_one_line(options, message):
    with pytest.raises(ConfigError, match=message) as error:
        DQN.build(Bandit(), **options)
    assert "\n" not in str(error.value)


@pytest.mark.quick
def test_environments_it_does_not_fit_are_named():
    assert DQN.unsupported(Bandit()) is None and DQN.unsupported(Climbing()) is None
    assert DQN.unsupported(make("partitioning")[0]) is None
    assert "Discrete or MultiDiscrete action space, not Box" in DQN.unsupported(Steering())
    assert "one agent, not 2" in DQN.unsupported(Pair())
    large, _ = make("partitioning", num_blocks=9)
    with pytest.raises(ConfigError, match=r"partitioning: 5\^9 joint actions are more than 20000$"):
        DQN.build(large)
