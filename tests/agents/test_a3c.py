"""A3C on environments with hand-known values, its pieces against NumPy, and its clock."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.a3c import A3C, Rollout, Spread
from agents.steps import rollout_advantages
from jaxenv.errors import ConfigError
from jaxenv.robust import Robust
from jaxenv.vehicular import Vehicular
from tests.learners import check_dtypes, chunk, start
from tests.probes import Bandit, Convoy, Corridor, Placement

BANDIT = Bandit(num_contexts=2)
REWARD = np.array([[1.0, 0.5, 0.0, 5.0], [-1.0, 0.0, 1.0, 0.5]])
VALID = np.array([[True, True, True, False], [True, True, True, True]])
SIZES = dict(hidden=(16,), num_workers=4, rollout_length=32, synchronous=True)
CHUNK = 50


def train(learner, params, hp, updates, state=None):
    """The state after so many updates, a multiple of ``CHUNK``, and the metrics of each."""
    parts = []
    if state is None:
        state = start(learner, jax.random.key(0), params, hp)
    for _ in range(updates // CHUNK):
        state, metrics = chunk(learner, state, params, hp, CHUNK)
        parts.append(metrics)
    return state, jax.tree.map(lambda *x: np.concatenate(x), *parts)


def softmax(x):
    weight = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return weight / weight.sum(axis=-1, keepdims=True)


def seen(learner, state, observations):
    """Logits and values of the learned network."""
    return jax.tree.map(np.asarray, learner.network.apply(state.parameters, observations))


# ---- what it learns ----------------------------------------------------------------------------


@pytest.mark.parametrize("sharing", ["hard", "soft", "none"])
def test_a_bandits_policy_is_the_softmax_of_rewards_over_the_entropy_weight(sharing):
    options = dict(lr=1e-2, entropy_weight=0.5, trunk_penalty=1e-5, averaging=0.98)
    learner, hp = A3C.build(BANDIT, **SIZES, sharing=sharing, **options)
    params = BANDIT.make_params(reward=REWARD, valid=VALID)
    state, metrics = train(learner, params, hp, 300)
    state, metrics = train(learner, params, hp.replace(lr=hp.lr / 10), 300, state)

    logits, value = learner.network.apply(state.average, jnp.eye(2))
    for i, valid in enumerate(VALID):
        expected = softmax(REWARD[i, valid] / 0.5)
        np.testing.assert_allclose(softmax(np.asarray(logits)[i, 0, valid]), expected, atol=0.04)
        assert value[i] == pytest.approx(expected @ REWARD[i, valid], abs=0.1)
    # Every step is an episode; a hit is a pull of the best valid arm, never of a forbidden one.
    assert np.all(metrics["episodes"] == 128) and np.all(metrics["decisions"] == 128)
    assert np.all(metrics["denominator/hit_rate"] == 128)
    assert np.all(metrics["numerator/regret"] >= 0)
    per_step = np.mean(metrics["mean_reward"])
    assert per_step == pytest.approx(1 - np.mean(metrics["numerator/regret"]) / 128, rel=1e-4)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("terminal", "expected"), [(True, (0.7, 1.0)), (False, (0.7 / 0.3, 1.0 / 0.3))]
)
@pytest.mark.parametrize("trace_decay", [1.0, 0.3])
def test_values_bootstrap_through_a_time_limit_and_not_through_an_end(
    terminal, expected, trace_decay
):
    env = Corridor()
    # A rollout of 5 steps cuts the episodes of 2 in the middle.
    sizes = SIZES | dict(rollout_length=5)
    options = dict(lr=1e-2, discount=0.7, trace_decay=trace_decay)
    learner, hp = A3C.build(env, **sizes, rewards="raw", **options)
    params = env.make_params(terminal=terminal)
    state, _ = train(learner, params, hp, 400)
    state, _ = train(learner, params, hp.replace(lr=hp.lr / 20), 100, state)
    _, value = seen(learner, state, jnp.eye(2))
    np.testing.assert_allclose(value, expected, rtol=0.02)


@pytest.mark.parametrize("head", ["branches", "joint"])
def test_a_team_of_branches_finds_the_best_valid_pair(head):
    env = Placement(num_contexts=2)
    reward = np.array([[[0, 0.2], [0.3, 0], [9, 9]], [[0, 0.1], [0.2, 1], [9, 9]]])
    valid = np.array([[True, True, False], [True, True, False]])
    params = env.make_params(reward=reward, valid=valid)
    learner, hp = A3C.build(env, **SIZES, head=head, lr=1e-2, entropy_weight=0.02)
    state, metrics = train(learner, params, hp, 150)
    policy = learner.policy(state)
    act = jax.vmap(lambda x, mask: policy.act((), None, x, mask, None, params)[0], (0, None))
    actions = act(jnp.eye(2), params.valid)
    assert actions.tolist() == [[1, 0], [1, 1]] and actions.dtype == jnp.int32
    best_in_updates = metrics["numerator/reward"].max() / 128
    assert best_in_updates < 1.01, "a forbidden pair was taken"
    drawn = jax.vmap(
        lambda key: policy.replace(sample=True).act(
            (), key, jnp.eye(2)[0], params.valid, None, params
        )[0]
    )(jax.random.split(jax.random.key(1), 100))
    assert np.all(np.asarray(drawn)[:, 0] < 2)


# ---- its pieces --------------------------------------------------------------------------------


def a_rollout(rng, steps=7, heads=2, choices=3, size=4):
    """Random rollout of a `Placement`-like environment, with ends, gaps and masks."""
    mask = rng.random((steps, heads, choices)) < 0.7
    mask[..., 0] = True
    choice = np.array([[rng.choice(np.flatnonzero(row)) for row in rows] for rows in mask])
    terminated = rng.random(steps) < 0.2
    return Rollout(
        observation=rng.normal(size=(steps, size)),
        mask=mask,
        choice=choice.astype(np.int32),
        reward=rng.normal(size=steps),
        deciding=rng.random(steps) < 0.7,
        final_observation=rng.normal(size=(steps, size)),
        discounting=rng.random(steps) < 0.7,
        terminated=terminated,
        done=terminated | (rng.random(steps) < 0.2),
    )


def slow_advantages(rollout, value, next_value, discount, decay):
    """Advantages as sums of discounted returns, forward in time."""
    steps = len(value)
    gamma = np.where(rollout.discounting, discount, 1.0)
    follows = np.where(rollout.terminated, 0.0, next_value)
    result = np.zeros(steps)
    for t in range(steps):
        weight = 1.0
        for k in range(t, steps):
            result[t] += weight * (rollout.reward[k] + gamma[k] * follows[k] - value[k])
            weight *= gamma[k] * decay * (not rollout.done[k])
    return result


@pytest.mark.quick
@pytest.mark.parametrize("seed", range(3))
def test_advantages_against_forward_sums(seed, double):
    rng = np.random.default_rng(seed)
    rollout, value, next_value = a_rollout(rng), rng.normal(size=7), rng.normal(size=7)
    _, hp = A3C.build(Placement(dtype="float64"), discount=0.9, trace_decay=0.8)
    measured = rollout_advantages(rollout, value, next_value, hp)
    np.testing.assert_allclose(
        measured, slow_advantages(rollout, value, next_value, 0.9, 0.8), rtol=1e-12
    )


@pytest.mark.quick
def test_with_trace_decay_1_the_target_is_the_discounted_return_to_the_end_of_the_rollout(double):
    rollout = a_rollout(np.random.default_rng(0)).replace(
        terminated=np.zeros(7, bool), done=np.zeros(7, bool), discounting=np.ones(7, bool)
    )
    value = np.arange(8.0)
    _, hp = A3C.build(Placement(dtype="float64"), discount=0.9, trace_decay=1.0)
    advantage = rollout_advantages(rollout, value[:-1], value[1:], hp)
    returns = [
        sum(0.9 ** (k - t) * rollout.reward[k] for k in range(t, 7)) + 0.9 ** (7 - t) * value[7]
        for t in range(7)
    ]
    np.testing.assert_allclose(advantage + value[:-1], returns, rtol=1e-12)


@pytest.mark.parametrize("branch_mean", [False, True])
@pytest.mark.parametrize("exploration", [0.0, 0.3])
def test_loss_and_gradient_against_numpy_and_finite_differences(branch_mean, exploration, double):
    rng = np.random.default_rng(1)
    env = Placement(num_contexts=4, dtype="float64")
    options = dict(exploration=exploration, entropy_weight=0.1, discount=0.9, trace_decay=0.5)
    learner, hp = A3C.build(
        env, hidden=(5,), branch_mean=branch_mean, sharing="soft", trunk_penalty=0.2, **options
    )
    state = start(learner, jax.random.key(0), env.default_params(), hp)
    parameters = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), state.parameters)
    rollout = a_rollout(rng)

    def network(p, x):
        def dense(name, x):
            layer = p["params"][name]
            layer = layer if "kernel" in layer else layer["Dense_0"]
            return x @ layer["kernel"] + layer["bias"]

        actor, critic = (np.maximum(dense(name, x), 0) for name in ("actor", "critic"))
        return dense("logits", actor).reshape(-1, 2, 3), dense("value", critic)[:, 0]

    def expected(p, detached):
        logits, value = network(p, rollout.observation)
        _, old = network(detached, rollout.observation)
        _, following = network(detached, rollout.final_observation)
        advantage = slow_advantages(rollout, old, following, 0.9, 0.5)
        pi = softmax(np.where(rollout.mask, logits, -np.inf))
        logs = np.log(np.where(rollout.mask, pi, 1.0))
        entropy = -(pi * logs).sum(-1)
        valid = rollout.mask.sum(-1, keepdims=True)
        mixed = (1 - exploration) * pi + exploration / valid
        taken = np.take_along_axis(
            np.log(np.where(rollout.mask, mixed, 1)), rollout.choice[..., None], -1
        )
        gain = (taken[..., 0] * advantage[:, None] + 0.1 * entropy).sum(-1)
        gain = gain / 2 if branch_mean else gain
        policy = -gain[rollout.deciding].mean()
        fitted = ((advantage + old - value) ** 2).mean()
        apart = sum(
            np.sum((p["params"]["actor"]["Dense_0"][k] - p["params"]["critic"]["Dense_0"][k]) ** 2)
            for k in ("kernel", "bias")
        )
        return policy + 0.5 * fitted + 0.2 * apart

    gradient, parts = learner.gradient(parameters, rollout, hp)
    loss, _ = learner.loss(parameters, rollout, hp)
    start_at = jax.tree.map(np.asarray, parameters)
    assert float(loss) == pytest.approx(expected(start_at, start_at), rel=1e-10)
    assert set(parts) == {"policy_loss", "value_loss", "entropy"}
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape), start_at)

    def along(step):
        return jax.tree.map(lambda x, d: x + step * d, start_at, direction)

    difference = expected(along(1e-6), start_at) - expected(along(-1e-6), start_at)
    products = jax.tree.map(lambda g, d: float(np.sum(g * d)), gradient, direction)
    assert sum(jax.tree.leaves(products)) == pytest.approx(difference / 2e-6, rel=1e-6)


def test_exploration_of_1_is_uniform_over_the_valid_values_and_has_no_gradient(double):
    env = Placement(num_contexts=4, dtype="float64")
    learner, hp = A3C.build(env, hidden=(5,), exploration=1.0, entropy_weight=0.0)
    state = start(learner, jax.random.key(0), env.default_params(), hp)
    rollout = a_rollout(np.random.default_rng(2))
    gradient, _ = learner.gradient(state.parameters, rollout, hp)
    chex.assert_tree_all_finite(gradient)
    for leaf in jax.tree.leaves(gradient["params"]["logits"]):
        np.testing.assert_array_equal(leaf, 0.0)


def test_rmsprop_against_numpy(double):
    options = dict(lr=0.1, max_gradient_norm=2.0, rms_decay=0.9, rms_epsilon=0.01)
    learner, hp = A3C.build(Placement(dtype="float64"), **options)
    state = start(learner, jax.random.key(0), learner.env.default_params(), hp)
    rng = np.random.default_rng(0)
    parameters, rms = state.parameters, state.rms
    theta = jax.tree.leaves(jax.tree.map(np.asarray, parameters))
    squares = [np.zeros_like(x) for x in theta]
    for size in (10.0, 0.1):
        gradient = jax.tree.map(lambda x, size=size: size * rng.normal(size=x.shape), parameters)
        parameters, rms = learner.apply(parameters, rms, gradient, hp)
        leaves = jax.tree.leaves(gradient)
        norm = np.sqrt(sum((g**2).sum() for g in leaves))
        leaves = [g * min(1, 2 / norm) for g in leaves]
        squares = [0.9 * s + 0.1 * g**2 for s, g in zip(squares, leaves, strict=True)]
        theta = [
            x - 0.1 * g / np.sqrt(s + 0.01) for x, g, s in zip(theta, leaves, squares, strict=True)
        ]
    for learned, expected in zip(jax.tree.leaves(parameters), theta, strict=True):
        np.testing.assert_allclose(learned, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.quick
def test_the_schedule_falls_linearly():
    learner, hp = A3C.build(
        BANDIT, schedule_updates=100, lr=1.0, entropy_weight=2.0, exploration=0.5
    )
    half, end = (learner._scheduled(hp, jnp.int32(k)) for k in (50, 200))
    assert float(half.lr) == pytest.approx(0.525) and float(end.lr) == pytest.approx(0.05)
    assert float(half.entropy_weight) == 1.0 and float(half.exploration) == 0.25
    assert float(end.entropy_weight) == float(end.exploration) == 0.0
    assert float(end.discount) == float(hp.discount)


def test_running_scale_is_the_deviation_of_discounted_sums(double):
    learner, hp = A3C.build(Corridor(dtype="float64"), rewards="running")
    rng = np.random.default_rng(0)
    zero = jnp.zeros(())
    spread, sums = Spread(zero, zero, zero), []
    for _ in range(5):
        discounted, reward = rng.normal(3.0, 2.0, size=(2, 4))
        sums.extend(discounted)
        spread, scaled = learner._scaled(spread, jnp.asarray(reward), jnp.asarray(discounted))
        np.testing.assert_allclose(scaled, reward / np.std(sums), rtol=1e-9)
    state = start(learner, jax.random.key(0), learner.env.default_params(), hp)
    state, _ = jax.jit(learner.update)(state, learner.env.default_params(), hp)
    # Reward 0, then 1, then a new episode: sums are 0, 1, 0, 1, ...
    assert float(state.spread.mean) == pytest.approx(0.5)
    assert float(state.spread.count) == 240


@pytest.mark.quick
def test_rewards_are_unscaled_until_there_is_a_deviation(double):
    """One worker: sums 5, 5, 9; two equal ones deviate by 0, the three by sqrt(32) / 3."""
    learner, _ = A3C.build(Corridor(dtype="float64"), rewards="running", num_workers=1)
    spread, scaled = Spread(*jnp.zeros(3)), []
    for total in (5.0, 5.0, 9.0):
        spread, reward = learner._scaled(spread, jnp.asarray([2.0]), jnp.asarray([total]))
        scaled.append(float(reward[0]))
    assert scaled == pytest.approx([2.0, 2.0, 2.0 / (np.sqrt(32) / 3)], rel=1e-12)


@pytest.mark.quick
@pytest.mark.parametrize("workers", [1, 8])
def test_the_running_scale_is_bit_for_bit_that_of_values_one_by_one(workers):
    learner, _ = A3C.build(Corridor(), rewards="running", num_workers=workers)
    sums = np.random.default_rng(0).normal(-3e3, 1e3, (20, workers)).astype(np.float32)

    @jax.jit
    def one_by_one(count, mean, squares, values):
        for value in values:
            count, before = count + 1, mean
            mean = before + (value - before) / count
            squares = squares + (value - before) * (value - mean)
        return Spread(count, mean, squares)

    spread = expected = Spread(*jnp.zeros(3))
    scaled = jax.jit(learner._scaled)
    for row in sums:
        spread, reward = scaled(spread, jnp.asarray(row), jnp.asarray(row))
        expected = one_by_one(expected.count, expected.mean, expected.squares, row)
        chex.assert_trees_all_equal(spread, expected)
    deviation = np.sqrt(np.float32(spread.squares) / np.float32(spread.count))
    np.testing.assert_allclose(reward, sums[-1] / deviation, rtol=1e-6)


@pytest.mark.quick
def test_steps_between_decisions_neither_act_nor_discount():
    env = Convoy()
    sizes = SIZES | dict(num_workers=1, rollout_length=9)
    learner, hp = A3C.build(env, **sizes, rewards="raw")
    params = env.make_params(turns_per_step=1)
    state = start(learner, jax.random.key(0), params, hp)
    _, _, rollout, metrics = learner.collect(
        state.parameters, state.lanes, state.spread, params, hp
    )
    asked = [k >= 0 for k in env.asks]
    assert rollout.deciding[:8, 0].tolist() == asked and bool(rollout.deciding[8, 0])
    assert rollout.discounting[:8, 0].tolist() == [*asked[1:], True]
    assert rollout.done[:, 0].tolist() == [False] * 7 + [True, False]
    assert int(metrics["decisions"]) == sum(asked) + 1 and int(metrics["episodes"]) == 1


# ---- workers -----------------------------------------------------------------------------------


def test_a_round_equals_the_sequential_clock_with_gradients_w_minus_1_updates_old(double):
    env = Placement(num_contexts=3, dtype="float64")
    params = env.make_params(reward=np.random.default_rng(0).normal(size=(3, 3, 2)))
    workers, rounds = 3, 4
    options = dict(hidden=(4,), rollout_length=5, lr=1e-2)
    learner, hp = A3C.build(env, num_workers=workers, **options)
    alone, _ = A3C.build(env, num_workers=1, **options)
    state = start(learner, jax.random.key(0), params, hp)

    def one(tree, w):
        return jax.tree.map(lambda leaf: leaf[w : w + 1], tree)

    @jax.jit
    def turn(parameters, rms, copy, lane, spread):
        lane, spread, rollout, _ = alone.collect(copy, lane, spread, params, hp)
        own = jax.tree.map(lambda leaf: leaf[:, 0], rollout)
        gradient, _ = alone.gradient(jax.tree.map(lambda leaf: leaf[0], copy), own, hp)
        return *alone.apply(parameters, rms, gradient, hp), lane

    parameters, rms = state.parameters, state.rms
    copies = [one(state.copies, w) for w in range(workers)]
    lanes = [one(state.lanes, w) for w in range(workers)]
    copied_at = [0] * workers
    for clock in range(workers * rounds):
        w = clock % workers
        assert clock - copied_at[w] == (workers - 1 if clock >= workers else clock)
        parameters, rms, lanes[w] = turn(parameters, rms, copies[w], lanes[w], state.spread)
        copies[w], copied_at[w] = jax.tree.map(lambda leaf: leaf[None], parameters), clock + 1

    update = jax.jit(learner.update)
    for _ in range(rounds):
        state, _ = update(state, params, hp)
    chex.assert_trees_all_close(state.parameters, parameters, rtol=1e-6, atol=1e-12)
    for w in range(workers):
        chex.assert_trees_all_close(one(state.copies, w), copies[w], rtol=1e-6, atol=1e-12)


def test_one_worker_is_the_synchronous_learner_with_one_worker(double):
    env = Placement(num_contexts=3, dtype="float64")
    states = []
    for synchronous in (False, True):
        options = dict(hidden=(4,), num_workers=1, rollout_length=5, lr=1e-2, averaging=0.5)
        learner, hp = A3C.build(env, synchronous=synchronous, **options)
        params = env.default_params()
        state = start(learner, jax.random.key(0), params, hp)
        for _ in range(3):
            state, _ = jax.jit(learner.update)(state, params, hp)
        states.append((state.parameters, state.average, state.rms))
    chex.assert_trees_all_close(*states, rtol=1e-6, atol=1e-12)


def test_the_synchronous_gradient_is_the_mean_of_the_workers(double):
    env = Placement(num_contexts=3, dtype="float64")
    learner, hp = A3C.build(env, **SIZES | dict(hidden=(4,), rollout_length=5))
    params = env.default_params()
    state = start(learner, jax.random.key(0), params, hp)
    _, _, rollout, _ = learner.collect(state.parameters, state.lanes, state.spread, params, hp)
    together, _ = learner.gradient(state.parameters, rollout, hp)
    each, _ = jax.vmap(learner.gradient, (None, 1, None))(state.parameters, rollout, hp)
    mean = jax.tree.map(lambda g: jnp.mean(g, axis=0), each)
    chex.assert_trees_all_close(together, mean, rtol=1e-9, atol=1e-12)


def test_every_worker_may_have_its_own_scenario():
    learner, hp = A3C.build(BANDIT, **SIZES)
    best = np.arange(4.0)
    reward = np.stack([np.full((2, 4), r) for r in best])
    params = BANDIT.default_params().replace(reward=jnp.asarray(reward, jnp.float32))
    state = start(learner, jax.random.key(0), params, hp)
    _, _, rollout, _ = learner.collect(state.parameters, state.lanes, state.spread, params, hp)
    np.testing.assert_array_equal(rollout.reward, np.broadcast_to(best, (32, 4)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("synchronous", [False, True])
def test_states_keep_their_dtypes(dtype, synchronous, double):
    env = Placement(dtype=dtype)
    learner, hp = A3C.build(env, synchronous=synchronous, rewards="running", schedule_updates=9)
    assert check_dtypes(learner, hp) == {dtype, "int32", "bool", "key<fry>"}


# ---- which environments ------------------------------------------------------------------------


def test_one_row_per_branch_is_learned_with_the_same_weights():
    env = Robust(max_devices=3)
    learner, hp = A3C.build(env, hidden=(8, 8))
    assert learner.network.rows
    parameters = learner.network.init(jax.random.key(0), jnp.zeros((3, 49)))
    x = jax.random.normal(jax.random.key(1), (3, 49))
    logits, value = learner.network.apply(parameters, x)
    order = jnp.asarray([2, 0, 1])
    permuted, same = learner.network.apply(parameters, x[order])
    np.testing.assert_allclose(permuted, logits[order], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(same, value, rtol=1e-5, atol=1e-7)
    assert not np.allclose(learner.network.apply(parameters, x.at[0].add(1.0))[0][1], logits[1])


@pytest.mark.quick
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(num_workers=0), "num_workers: 0 is not valid; give a positive integer"),
        (dict(rollout_length=1.5), "rollout_length: 1.5 is not valid; give a positive integer"),
        (dict(sharing="all"), "sharing: 'all' is not valid; choose hard or soft or none"),
        (dict(synchronous="yes"), "synchronous: 'yes' is not valid; choose true or false"),
        (dict(hidden=()), "hidden: () is not valid; give a list of positive integers"),
        (dict(discount=1.5), "discount: 1.5 is not valid; give a number in [0, 1]"),
        (dict(max_gradient_norm=0), "max_gradient_norm: 0.0 is not valid; give a positive number"),
        (dict(schedule_updates=-1), "schedule_updates: -1 is not valid"),
        (dict(learning_rate=1), "a3c.learning_rate: 1 is not valid; known names are"),
    ],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(ConfigError) as error:
        A3C.build(BANDIT, **options)
    assert message in str(error.value)


@pytest.mark.quick
def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="10\\^5 joint actions are more than 20000"):
        A3C.build(Robust(max_devices=5), head="joint")
    with pytest.raises(ConfigError, match='0 with reward_mode="own"'):
        A3C.build(Vehicular(reward_mode="own"))
    assert A3C.unsupported(Vehicular(reward_mode="marginal")) is None
