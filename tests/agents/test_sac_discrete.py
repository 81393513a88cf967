"""SAC-Discrete on environments with hand-known values, and its losses against NumPy."""

from __future__ import annotations

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import replay
from agents.distributions import masked_policy
from agents.sac_discrete import SACDiscrete, Transition
from jaxenv.errors import ConfigError
from tests.learners import check_dtypes, start
from tests.probes import Bandit, Convoy, Corridor, Pair, Steering

SIZES = dict(
    hidden=[16],
    num_envs=8,
    updates_per_iteration=8,
    batch_size=32,
    learning_starts=32,
    buffer_size=2000,
)
RATES = dict(lr=1e-2, tau=0.1)
FIXED = dict(temperature=0.5, temperature_lr_ratio=0.0)
BANDIT = Bandit(num_contexts=2)
REWARD = np.array([[1.0, 0.5, 0.0, 5.0], [-1.0, 0.0, 1.0, 0.5]])
VALID = np.array([[True, True, True, False], [True, True, True, True]])
CHUNK = 10


@partial(jax.jit, static_argnames="learner", donate_argnames="state")
def chunk(learner, state, params, hp):
    """``CHUNK`` updates, and the metrics of each."""
    return jax.lax.scan(lambda s, _: learner.update(s, params, hp), state, length=CHUNK)


def train(learner, key, params, hp, updates):
    """The state after so many updates, a multiple of ``CHUNK``, and the metrics of each."""
    state, parts = start(learner, key, params, hp), []
    for _ in range(updates // CHUNK):
        state, metrics = chunk(learner, state, params, hp)
        parts.append(metrics)
    return state, jax.tree.map(lambda *x: np.concatenate(x), *parts)


def values(learner, state):
    """Q of both critics at every one-hot observation, ``[2, observations, actions]``."""
    observations = jnp.eye(learner.env.observation_space.shape[0])
    return jax.vmap(learner.critic.apply, (0, None))(state.networks.critics, observations)


def stored(state):
    """The filled part of the replay buffer."""
    return jax.tree.map(lambda x: np.asarray(x[: int(state.replay.size)]), state.replay.rows)


def softmax(rewards, temperature):
    weight = np.exp(np.asarray(rewards) / temperature)
    return weight / weight.sum()


# ---- values and policies -------------------------------------------------------------------------


def test_bandit_values_are_the_rewards_and_the_policy_their_softmax():
    learner, hp = SACDiscrete.build(BANDIT, **SIZES, **RATES, **FIXED)
    params = BANDIT.make_params(reward=REWARD, valid=VALID)
    state, metrics = train(learner, jax.random.key(0), params, hp, 200)

    for critic in values(learner, state):
        np.testing.assert_allclose(critic[VALID], REWARD[VALID], atol=0.05)
    logits = learner.actor.apply(state.networks.actor, jnp.eye(2))
    probability, _ = masked_policy(logits, params.valid)
    np.testing.assert_allclose(probability[0, :3], softmax(REWARD[0, :3], 0.5), atol=0.03)
    np.testing.assert_allclose(probability[1], softmax(REWARD[1], 0.5), atol=0.03)
    assert probability[0, 3] == 0.0
    assert np.all(metrics["temperature"] == np.float32(0.5))


def test_masked_actions_are_never_taken_and_the_greedy_policy_takes_the_best_valid_one():
    learner, hp = SACDiscrete.build(BANDIT, **SIZES, **RATES, temperature=0.2)
    params = BANDIT.make_params(reward=REWARD, valid=VALID)
    state, metrics = train(learner, jax.random.key(1), params, hp, 60)

    rows = stored(state)
    context = rows.observation.argmax(-1)
    assert np.all(VALID[context, rows.action])
    np.testing.assert_array_equal(rows.mask, np.packbits(VALID, axis=-1)[context])
    np.testing.assert_array_equal(rows.reward, REWARD[context, rows.action].astype(np.float32))
    policy = learner.policy(state)
    for observation, mask, best in zip(jnp.eye(2), params.valid, (0, 2), strict=True):
        action, _ = policy.act((), None, observation, mask, None, params)
        assert int(action) == best and action.dtype == jnp.int32
    keys = jax.random.split(jax.random.key(0), 200)
    drawn = jax.vmap(
        lambda key: policy.replace(sample=True).act(
            (), key, jnp.eye(2)[0], params.valid[0], None, params
        )[0]
    )(keys)
    assert set(drawn.tolist()) <= {0, 1, 2} and len(set(drawn.tolist())) > 1
    # 60 updates of 8 one-step episodes; a hit is a pull of the best valid arm.
    sums = {name: float(np.sum(x)) for name, x in metrics.items()}
    assert sums["episodes"] == sums["decisions"] == sums["transitions"] == 480
    assert sums["denominator/regret"] == sums["denominator/hit_rate"] == 480
    assert sums["numerator/hit_rate"] == 100 * np.sum(rows.reward == 1.0)
    assert sums["numerator/regret"] == pytest.approx(np.sum(1.0 - rows.reward), rel=1e-5)
    assert np.mean(metrics["mean_reward"]) == pytest.approx(np.mean(rows.reward), rel=1e-5)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("terminal", "expected"), [(True, (0.7, 1.0)), (False, (0.7 / 0.3, 1.0 / 0.3))]
)
def test_discounting_and_truncation_bootstraps_where_termination_does_not(terminal, expected):
    learner, hp = SACDiscrete.build(Corridor(), **SIZES, **RATES | {"tau": 0.2}, discount=0.7)
    params = learner.env.make_params(terminal=terminal)
    state, metrics = train(learner, jax.random.key(3), params, hp, 150)
    for critic in values(learner, state):
        np.testing.assert_allclose((critic[0, 0], critic[1, 1]), expected, rtol=0.02)
    assert metrics["entropy"][-1] == 0.0


def test_reward_scale_multiplies_the_values():
    learner, hp = SACDiscrete.build(
        Corridor(), **SIZES, **RATES | {"tau": 0.2}, discount=0.7, reward_scale=0.1
    )
    params = learner.env.make_params(reward=[0.0, 10.0], terminal=True)
    state, _ = train(learner, jax.random.key(3), params, hp, 150)
    critic = values(learner, state)[0]
    np.testing.assert_allclose((critic[0, 0], critic[1, 1]), (0.7, 1.0), rtol=0.03)
    assert set(stored(state).reward) == {0.0, 10.0}


# ---- temperature ---------------------------------------------------------------------------------


def test_the_papers_target_entropy_only_anneals_the_temperature():
    learner, hp = SACDiscrete.build(
        BANDIT, **SIZES, target_entropy="paper", lr=1e-3, temperature_lr_ratio=1.0
    )
    assert float(hp.temperature) == 1.0
    _, metrics = train(learner, jax.random.key(4), BANDIT.default_params(), hp, 100)
    updates = np.cumsum(metrics["gradient_updates"])
    assert updates[2] == 0 and updates[3] == 8 and updates[-1] == 97 * 8
    assert np.all(metrics["temperature"][:3] == 1.0)
    assert np.all(np.diff(metrics["temperature"][2:]) < 0)
    # Adam moves log(temperature) by lr per update while the gradient changes slowly.
    expected = np.exp(-1e-3 * updates[-1])
    np.testing.assert_allclose(metrics["temperature"][-1], expected, rtol=0.15)
    # The gradient of J(lambda) is lambda*(H + log(1 + 4)) > 0.
    assert np.all(metrics["temperature_loss"][3:] > 0)


@pytest.mark.quick
def test_the_temperature_stops_at_its_floor():
    learner, hp = SACDiscrete.build(
        BANDIT, **SIZES, target_entropy="paper", lr=0.1, temperature_floor=0.05
    )
    _, metrics = train(learner, jax.random.key(4), BANDIT.default_params(), hp, 20)
    assert metrics["temperature"][-1] == np.min(metrics["temperature"])
    assert metrics["temperature"][-1] == pytest.approx(0.05, rel=1e-5)


@pytest.mark.quick
def test_the_valid_target_entropy_has_the_known_fixed_point():
    learner, hp = SACDiscrete.build(
        BANDIT, **SIZES, **RATES, entropy_scale=0.8, temperature=0.2, temperature_lr_ratio=1.0
    )
    params = BANDIT.make_params(reward=REWARD, valid=VALID)
    _, metrics = train(learner, jax.random.key(5), params, hp, 400)

    def entropy(temperature):
        """Mean over the two contexts."""
        p = np.concatenate([softmax(r[v], temperature) for r, v in zip(REWARD, VALID, strict=True)])
        return -np.sum(p * np.log(p)) / 2

    goal = 0.8 * (np.log(3) + np.log(4)) / 2
    low, high = 0.01, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if entropy(middle) < goal else (low, middle)
    np.testing.assert_allclose(np.mean(metrics["entropy"][-50:]), goal, rtol=0.03)
    np.testing.assert_allclose(np.mean(metrics["temperature"][-50:]), low, rtol=0.05)


# ---- losses --------------------------------------------------------------------------------------


@pytest.mark.quick
@pytest.mark.parametrize("target_entropy", ["paper", "valid"])
def test_losses_and_their_gradients_against_numpy(target_entropy):
    env = Bandit(num_contexts=3, num_arms=10)
    learner, hp = SACDiscrete.build(
        env, hidden=(5, 6), target_entropy=target_entropy, discount=0.9, reward_scale=0.5
    )
    rng = np.random.default_rng(0)
    state = jax.eval_shape(learner.init, jax.random.key(0), env.default_params(), hp)

    def noise(x):
        return jnp.asarray(rng.normal(size=x.shape), x.dtype)

    networks = jax.tree.map(noise, state.networks).replace(log_temperature=jnp.float32(-0.7))
    target_critics = jax.tree.map(noise, state.target_critics)
    n = 12
    masks = [rng.random((n, 10)) < 0.5 for _ in range(2)]
    for mask in masks:
        mask[:, 3] = True
    masks[0][0] = np.arange(10) == 3
    batch = Transition(
        observation=jnp.asarray(rng.normal(size=(n, 3)), jnp.float32),
        mask=replay.pack_mask(jnp.asarray(masks[0])),
        action=jnp.asarray([rng.choice(np.flatnonzero(row)) for row in masks[0]], jnp.int32),
        reward=jnp.asarray(rng.normal(size=n), jnp.float32),
        next_observation=jnp.asarray(rng.normal(size=(n, 3)), jnp.float32),
        next_mask=replay.pack_mask(jnp.asarray(masks[1])),
        terminated=jnp.asarray(rng.random(n) < 0.4),
    )

    def trunk(p, x):
        for layer in ("Dense_0", "Dense_1"):
            x = np.maximum(x @ p["trunk"][layer]["kernel"] + p["trunk"][layer]["bias"], 0)
        return x

    def actor(x):
        p = numpy.actor["params"]
        return trunk(p, x) @ p["head"]["kernel"] + p["head"]["bias"]

    def critic(p, v, x):
        p = jax.tree.map(lambda leaf: leaf[v], p)["params"]
        return trunk(p, x) @ p["kernel"].T + p["bias"]

    def pi(x, row):
        z = actor(x)[row]
        e = np.exp(z - z.max())
        return e / e.sum()

    numpy = jax.tree.map(lambda x: np.asarray(x, np.float64), networks)
    numpy_target = jax.tree.map(lambda x: np.asarray(x, np.float64), target_critics)
    b = jax.tree.map(lambda x: np.asarray(x, np.float64), batch)
    temperature = np.exp(-0.7)
    expected = dict.fromkeys(("critic_loss", "actor_loss", "temperature_loss", "entropy", "q"), 0.0)
    for i in range(n):
        y = 0.5 * b.reward[i]
        valid = np.flatnonzero(masks[1][i])
        p = pi(b.next_observation[i], valid)
        q = np.minimum(*(critic(numpy_target, v, b.next_observation[i]) for v in range(2)))
        if not b.terminated[i]:
            y += 0.9 * sum(p * (q[valid] - temperature * np.log(p)))
        qs = [critic(numpy.critics, v, b.observation[i]) for v in range(2)]
        action = int(b.action[i])
        expected["critic_loss"] += sum(0.5 * (y - q[action]) ** 2 for q in qs) / n
        expected["q"] += sum(q[action] for q in qs) / (2 * n)
        valid = np.flatnonzero(masks[0][i])
        p = pi(b.observation[i], valid)
        least = np.minimum(*qs)[valid]
        entropy = -sum(p * np.log(p))
        goal = -np.log(11) if target_entropy == "paper" else 0.1 * np.log(len(valid))
        expected["actor_loss"] += sum(p * (temperature * np.log(p) - least)) / n
        expected["entropy"] += entropy / n
        expected["temperature_loss"] += temperature * (entropy - goal) / n

    @jax.jit
    def evaluate(networks):
        def term(name):
            return lambda x: learner.loss(x, target_critics, batch, hp)[1][name]

        whole = jax.value_and_grad(learner.loss, has_aux=True)(networks, target_critics, batch, hp)
        return whole, {name: jax.grad(term(name))(networks) for name in losses[:2]}

    losses = ("critic_loss", "actor_loss", "temperature_loss")
    ((total, terms), gradient), only = evaluate(networks)
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=2e-5, err_msg=name)
    np.testing.assert_allclose(total, sum(expected[name] for name in losses), rtol=2e-5)
    # d J(lambda) / d log(lambda) = J(lambda): nothing else reaches the temperature.
    np.testing.assert_allclose(gradient.log_temperature, expected["temperature_loss"], rtol=2e-5)

    # Each part's gradient is that of its own loss alone, and nothing else reaches it.
    for_critics, for_actor = only["critic_loss"], only["actor_loss"]
    chex.assert_trees_all_close(gradient.critics, for_critics.critics, rtol=1e-4, atol=1e-6)
    chex.assert_trees_all_close(gradient.actor, for_actor.actor, rtol=1e-4, atol=1e-6)
    assert not any(np.any(x) for x in jax.tree.leaves((for_critics.actor, for_actor.critics)))


def test_masked_actions_and_values_after_termination_do_not_enter_the_target():
    learner, hp = SACDiscrete.build(Bandit(), hidden=(4,), discount=0.5)
    shapes = jax.eval_shape(learner.init, jax.random.key(0), learner.env.default_params(), hp)
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    flat = state.target_critics
    bias = jnp.tile(jnp.array([2.0, 1e30, 4.0, -1e30]), (2, 1))
    critics = {"params": flat["params"] | {"bias": bias}}
    ones = jnp.ones(2, jnp.float32)
    batch = Transition(
        observation=ones[:, None],
        mask=replay.pack_mask(jnp.ones((2, 4), bool)),
        action=jnp.zeros(2, jnp.int32),
        reward=ones,
        next_observation=ones[:, None],
        next_mask=replay.pack_mask(jnp.array([[True, False, True, False]] * 2)),
        terminated=jnp.array([False, True]),
    )
    y = learner.target_values(state.networks.actor, critics, jnp.float32(0.1), batch, hp)
    # Uniform over two valid actions: 1 + 0.5*((2 + 4)/2 + 0.1*log 2); terminated: the reward.
    np.testing.assert_allclose(y, [1 + 0.5 * (3 + 0.1 * np.log(2)), 1.0], rtol=1e-6)


# ---- crediting -----------------------------------------------------------------------------------

OBSERVATIONS = [[0, 0], [1, 1], [3, 2], [5, 1], [6, 0], [8, 0]]


def convoy_rows(steps, reward_mode, **leaves):
    """What a learner stored after ``steps`` steps in one `Convoy`, and its metrics."""
    learner = SACDiscrete(
        Convoy(reward_mode=reward_mode),
        hidden=(4,),
        num_envs=1,
        updates_per_iteration=1,
        learning_starts=1,
        batch_size=2,
        buffer_size=60,
    )
    params = learner.env.make_params(**leaves)
    state, metrics = train(learner, jax.random.key(0), params, learner.default_hp(), steps)
    rows = stored(state)
    masks = [np.asarray(replay.unpack_mask(m, 4)) for m in (rows.mask, rows.next_mask)]
    table = [
        (
            tuple(rows.observation[i]),
            int(rows.action[i]),
            float(rows.reward[i]),
            tuple(rows.next_observation[i]),
            int(np.flatnonzero(masks[0][i]).item()),
            int(np.flatnonzero(masks[1][i]).item()),
            bool(rows.terminated[i]),
        )
        for i in range(len(rows.action))
    ]
    return table, metrics


def convoy_row(decision, reward):
    """The transition of one decision of the default `Convoy`, by hand."""
    following = decision + 1 if decision < 4 else 0  # the final state allows action 0 only
    return (
        tuple(OBSERVATIONS[decision]),
        decision % 4,
        reward,
        tuple(OBSERVATIONS[decision + 1]),
        decision % 4,
        following % 4,
        False,
    )


def test_own_rewards_are_credited_to_their_own_decisions():
    # Vehicle 1's first task ends first; vehicles 0 and 1 end together; the rest at the end.
    episode = [(1, -1.0), (0, -6.0), (3, -1.0), (4, -2.0), (2, -9.0)]
    rows, metrics = convoy_rows(10, "own")
    assert rows == [convoy_row(*pair) for pair in episode] * 2
    assert metrics["transitions"].tolist() == [0, 1, 0, 2, 2] * 2
    assert metrics["decisions"].tolist() == [1] * 10
    assert metrics["episodes"].tolist() == [0, 0, 0, 0, 1] * 2
    assert metrics["numerator/waiting"].tolist() == [0, 0, 0, 0, 19.0] * 2
    np.testing.assert_allclose(metrics["mean_reward"], [0, -1, 0, -3.5, -5.5] * 2)


def test_scalar_rewards_are_credited_at_once():
    rewards = [0.0, -1.0, 0.0, -7.0, -11.0]
    rows, metrics = convoy_rows(10, "completion")
    assert rows == [convoy_row(i, reward) for i, reward in enumerate(rewards)] * 2
    assert metrics["transitions"].tolist() == [1] * 10
    assert np.sum(metrics["numerator/mean_reward"]) == -38.0
    assert np.sum(metrics["denominator/mean_reward"]) == 10.0


@pytest.mark.parametrize("reward_mode", ["completion", "own"])
def test_pending_transitions_are_joined(reward_mode):
    # An episode of 5 decisions takes 8 steps of one turn each.
    joined, joined_metrics = convoy_rows(80, reward_mode, turns_per_step=1)
    whole, whole_metrics = convoy_rows(50, reward_mode)
    assert len(whole) == 50
    if reward_mode == "completion":
        assert joined == whole
    # A task that ends between two decisions waits for the second; rows may enter in another order.
    assert sorted(joined) == sorted(whole)
    for name in whole_metrics:
        if name.startswith(("numerator", "denominator", "episodes", "decisions", "transitions")):
            assert np.sum(joined_metrics[name]) == np.sum(whole_metrics[name]), name


# ---- one program for many runs -------------------------------------------------------------------


def test_vmapped_seeds_and_hyperparameters_equal_separate_runs():
    learner, hp = SACDiscrete.build(BANDIT, **SIZES, **RATES)
    params = BANDIT.default_params()
    keys = jax.random.split(jax.random.key(6), 2)
    grid = [hp.replace(lr=jnp.float32(lr)) for lr in (1e-2, 1e-3)]
    starts = [start(learner, key, params, one) for key, one in zip(keys, grid, strict=True)]
    stack = partial(jax.tree.map, lambda *x: jnp.stack(x))
    together, _ = jax.vmap(chunk, (None, 0, None, 0))(learner, stack(*starts), params, stack(*grid))
    for i, (one, alone) in enumerate(zip(grid, starts, strict=True)):
        alone, _ = chunk(learner, alone, params, one)
        lane = jax.tree.map(lambda x: x[i], together)  # noqa: B023
        np.testing.assert_array_equal(lane.replay.rows.action, alone.replay.rows.action)
        chex.assert_trees_all_close(lane.networks, alone.networks, rtol=1e-3, atol=1e-5)


def test_same_seed_same_run_one_compilation_and_a_scenario_per_environment():
    learner, hp = SACDiscrete.build(BANDIT, **SIZES)
    params = BANDIT.default_params()
    params = params.replace(reward=jnp.arange(8.0)[:, None, None] + jnp.zeros((8, 2, 4)))
    chex.clear_trace_counter()
    update = jax.jit(chex.assert_max_traces(learner.update, n=1))

    def run(seed, hp):
        state = start(learner, jax.random.key(seed), params, hp)
        for _ in range(6):
            state, metrics = update(state, params, hp)
        return state, metrics

    first, second, other = run(0, hp), run(0, hp), run(1, hp.replace(lr=jnp.float32(1e-2)))
    chex.assert_trees_all_equal(first, second)
    assert not np.array_equal(first[0].replay.rows.action, other[0].replay.rows.action)
    # Environment i pays i.
    np.testing.assert_array_equal(stored(first[0]).reward, np.tile(np.arange(8.0), 6))


def test_rewards_are_learned_in_the_unit_of_each_environment():
    class Priced(Bandit):
        def reward_unit(self, params):
            return 2.0 * params.reward[0, 0]

    learner, hp = SACDiscrete.build(Priced(), **SIZES)
    pay = jnp.arange(1.0, 9.0)[:, None, None] + jnp.zeros((8, 2, 4))
    params = learner.env.default_params().replace(reward=pay)
    state, _ = train(learner, jax.random.key(0), params, hp, CHUNK)
    np.testing.assert_array_equal(stored(state).reward, 0.5)
    learner = dataclasses.replace(learner, reward_in_units=False)
    state, _ = train(learner, jax.random.key(0), params, hp, CHUNK)
    np.testing.assert_array_equal(stored(state).reward, np.tile(np.arange(1.0, 9.0), CHUNK))


@pytest.mark.parametrize("averaging", [0.0, 0.5, 0.9])
def test_the_policy_averages_past_actors(averaging):
    learner, hp = SACDiscrete.build(BANDIT, **SIZES, lr=1e-2, averaging=averaging)
    params = BANDIT.default_params()
    state = start(learner, jax.random.key(0), params, hp)
    update = jax.jit(learner.update)
    expected, calls = None, 0
    for _ in range(12):
        state, metrics = update(state, params, hp)
        if metrics["gradient_updates"] == 0:
            continue
        calls += 1
        keep = min(averaging, 1 - 1 / calls)
        actor = jax.tree.map(np.asarray, state.networks.actor)
        if expected is None:
            expected = actor
        expected = jax.tree.map(lambda e, a: keep * e + (1 - keep) * a, expected, actor)  # noqa: B023
    assert calls > 5
    chex.assert_trees_all_close(learner.policy(state).actor, expected, rtol=1e-4, atol=1e-6)


def test_without_a_discount_the_future_does_not_enter():
    learner, hp = SACDiscrete.build(Bandit(), hidden=(4,), discount=0.0, reward_scale=3.0)
    state = learner.init(jax.random.key(0), learner.env.default_params(), hp)
    critics = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), state.target_critics)
    row = jax.tree.map(lambda x: x[:2], state.replay.rows).replace(reward=jnp.array([1.0, -2.0]))
    y = learner.target_values(state.networks.actor, critics, jnp.float32(0.1), row, hp)
    np.testing.assert_array_equal(y, [3.0, -6.0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_states_keep_their_dtypes(dtype):
    with jax.enable_x64(True):
        learner, hp = SACDiscrete.build(Convoy(reward_mode="own", dtype=dtype), **SIZES)
        assert check_dtypes(learner, hp) == {dtype, "int32", "uint8", "bool", "key<fry>"}


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.quick
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": 0}, "num_envs: 0 is not valid; give a positive integer"),
        ({"batch_size": 2.5}, "batch_size: 2.5 is not valid; give a positive integer"),
        ({"hidden": []}, r"hidden: \[\] is not valid; give a list of positive integers"),
        ({"hidden": 64}, "hidden: 64 is not valid; give a list of positive integers"),
        ({"target_entropy": "auto"}, "target_entropy: 'auto' is not valid; choose paper or valid"),
        (
            {"buffer_size": 32, "learning_starts": 1},
            "buffer_size: 32 is not valid; give at least 64",
        ),
        ({"learning_starts": 10**6}, "learning_starts: 1000000 is not valid; give at most buffer"),
        ({"lr": 0.0}, "lr: 0.0 is not valid; give a positive finite number"),
        ({"discount": 1.5}, r"discount: 1.5 is not valid; give a number in \[0, 1\]"),
        ({"tau": 0.0}, r"tau: 0.0 is not valid; give a number in \(0, 1\]"),
        ({"temperature": -1.0}, "temperature: -1.0 is not valid; give a positive finite number"),
        ({"entropy_scale": 2.0}, r"entropy_scale: 2.0 is not valid; give a number in \(0, 1\]"),
        ({"averaging": 1.0}, r"averaging: 1.0 is not valid; give a number in \[0, 1\)"),
        (
            {"momentum": 0.9},
            "sac_discrete.momentum: 0.9 is not valid; known names are averaging, batch_size",
        ),
    ],
)
def test_settings_that_cannot_be_used_are_refused_in_one_line(options, message):
    with pytest.raises(ConfigError, match=message) as error:
        SACDiscrete.build(Bandit(), **options)
    assert "\n" not in str(error.value)


def test_environments_it_does_not_fit_are_named():
    assert SACDiscrete.unsupported(Bandit()) is None
    assert "Discrete action space, not Box" in SACDiscrete.unsupported(Steering())
    assert "one agent, not 2" in SACDiscrete.unsupported(Pair())
