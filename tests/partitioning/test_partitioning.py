"""The partitioning environment: published check values, the slow version, draws, the contract."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxenv
from jaxenv.partitioning import Context, Partitioning, PartitioningState
from jaxenv.testing import check_environment
from tests.oracles import partitioning as oracle

T = np.arange(8)[:, None]
N = np.arange(1, 5)
TRACE = {
    "table_rate_bps": (1.4 + 0.6 * np.sin(0.7 * T + 1.3 * N)) * 8e6,
    "table_tasks": np.round(60 + 10 * np.cos(0.5 * T[:, 0])),
    "table_background_s": 15 * (0.5 + 0.5 * np.sin(0.3 * T + 2.1 * N)) ** 4,
}
ACTIONS = ([1, 1, 2, 0, 3, 3], [3, 3, 3, 3, 3, 3], [3, 3, 3, 3, 0, 0])
V1 = {
    "total_delay_s": 39.715705,
    "edge_delay_s": 32.676600,
    "local_delay_s": 7.039105,
    "transfer_s": 4.688155,
    "wait_s": 0,
    "compute_s": 35.027550,
    "penalty_s": 15.715705,
    "energy_j": 120.013886,
    "block_delay_s": [5.879721, 8.241921, 6.854442, 7.039105, 6.004760, 5.695756],
    "backlog_s": [0, 2.722045, 0, 0, 0],
    "remaining_energy_j": 99879.986114,
    "num_tasks": 70,
}
V2 = {
    "total_delay_s": 45.138345,
    "edge_delay_s": 25.667766,
    "local_delay_s": 19.470579,
    "transfer_s": 1.404158,
    "wait_s": 5.110393,
    "compute_s": 38.623795,
    "penalty_s": 21.138345,
    "energy_j": 360.616136,
    "block_delay_s": [9.561096, 6.039674, 6.040547, 4.026449, 9.586774, 9.883805],
    "backlog_s": [0, 0, 0, 5.852307, 0],
    "remaining_energy_j": 99519.238121,
    "num_tasks": 65,
}
V3 = [
    *(0.484121, 0.691402, 0.691501, 0.460934, 0.691002, 0.812644),
    *(0.015488, 0.088576, 0.354099, 0.236032, 1.415987, 3.987870),
    *(0.014991, 0.319816, 0.639631, 0.319816, 0.079954, 0.159908),
    *[0.571429] * 6,
    *(0.623338, 0.400023, 0.616175, 0.955131),
    *(0, 0, 0, 0.390154, 0),
    *(0.105975, 0.000002, 0.646916, 0.099919),
    *(0.995192, 0.610000),
]


def on_trace(dtype="float32", **options):
    env, params = jaxenv.make("partitioning", dtype=dtype, **TRACE, **options)
    observation, state = env.reset(jax.random.key(0), params)
    return env, params, observation, state


def state_of(env, R, lam, b, W, E):
    """A state of one slot; the background of the servers alone."""
    array = lambda x: jnp.asarray(x, env.float_dtype)  # noqa: E731
    latent = jnp.zeros((2, env.num_servers), env.float_dtype)
    context = Context(array(R), array(b), array(lam), latent)
    return PartitioningState(
        key=jax.random.key(0),
        time=jnp.int32(0),
        context=context,
        backlog_s=array(W),
        energy_j=array(E),
    )


# ---- published numbers -------------------------------------------------------------------------


@pytest.mark.quick
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_check_values(dtype):
    """V1, V2 and the observation of V3; half a unit of the last printed digit in float64."""
    with jax.enable_x64(dtype == "float64"):
        env, params, observation, state = on_trace(dtype)
        step = jax.jit(env.transition)
        infos, rewards = [], []
        for action in ACTIONS:
            observation, state, reward, _, _, info = step(state, jnp.array(action), params)
            infos.append(info)
            rewards.append(reward)
        wide = dtype == "float64"
        near = {"rtol": 1e-9, "atol": 5.1e-7} if wide else {"rtol": 1e-4, "atol": 1e-5}
        np.testing.assert_allclose(rewards[0], -55.431410, **near)
        np.testing.assert_allclose(rewards[2], -66.276691, **near)
        for info, expected in ((infos[0], V1), (infos[2], V2)):
            for name, value in expected.items():
                np.testing.assert_allclose(info[name], value, err_msg=name, **near)
        np.testing.assert_allclose(observation, V3, **near)


@pytest.mark.quick
@pytest.mark.parametrize("name", oracle.NETWORKS)
@pytest.mark.parametrize("count", [3, 6, 18])
def test_blocks_of_the_four_networks(name, count):
    _, params = jaxenv.make("partitioning", network=name, num_blocks=count)
    found = (params.block_flops, params.block_bytes, params.block_input_bits)
    for leaf, expected in zip(found, oracle.blocks(name, count), strict=True):
        np.testing.assert_array_equal(leaf, np.array(expected, np.float32))


# ---- the slow version --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "options"),
    [
        ("vgg16_cifar10", {}),
        ("alexnet_cifar10", {"downlink": "free"}),
        ("nin", {"energy": "uplink", "num_servers": 2, "num_blocks": 9}),
        ("resnet32", {"downlink": "free", "energy": "uplink", "num_servers": 9, "num_blocks": 3}),
    ],
)
def test_a_thousand_slots_equal_a_slow_version(network, options):
    """Random placements, states and constants, in float64."""
    with jax.enable_x64(True):
        env, params = jaxenv.make("partitioning", network=network, dtype="float64", **options)
        M, n, size = env.num_blocks, env.num_servers, 1000
        rng = np.random.default_rng(M * n)
        draw = rng.uniform
        leaves = {
            "device_hz": draw(1e9, 2e9, size),
            "server_hz": draw(1e9, 3e9, (size, n)),
            "cycles_per_flop": draw(0.5, 2, size),
            "capacitance": draw(1e-27, 2e-26, size),
            "transmit_power_w": draw(0.1, 1, size),
            "wired_rate_bps": draw(1e7, 1e9, size),
            "slot_s": draw(5, 20, size),
            "sharing": draw(0, 2, size),
            "backlog_max_s": draw(20, 70, size),
            "tolerated_delay_s": draw(1, 7, (size, M)),
            "penalty_weight": draw(0, 2, size),
            "throttle": draw(0.1, 1, size),
        }
        R, b = draw(6e6, 16e6, (size, n)), draw(0, 15, (size, n))
        W = draw(0, 20, (size, n + 1)) * (draw(size=(size, n + 1)) < 0.7)
        lam, E = np.floor(draw(0, 110, size)), draw(-1e4, 1e5, size)
        lam[:10] = 0
        action = rng.integers(n + 1, size=(size, M)).astype(np.int32)

        def one(leaves, action, *state):
            scenario = params.replace(**leaves)
            _, _, reward, _, _, info = env.transition(state_of(env, *state), action, scenario)
            return info | {"reward": reward}

        found = jax.device_get(jax.jit(jax.vmap(one))(leaves, action, R, lam, b, W, E))
        names = ("device_hz", "server_hz", "cycles_per_flop", "kappa", "transmit_w", "wired_bps")
        names += ("slot_s", "phi", "cap_s", "tau", "beta", "throttle")
        constants = dict(zip(names, leaves.values(), strict=True))
        own = {k: v for k, v in options.items() if k in ("downlink", "energy")}
        profile = oracle.blocks(network, M)
        for i in range(size):
            system = oracle.System(
                *profile, n, **own, **{k: v[i].tolist() for k, v in constants.items()}
            )
            state = oracle.State(W[i].tolist(), E[i], R[i].tolist(), lam[i], [0.0, *b[i].tolist()])
            expected = oracle.run(system, state, action[i].tolist())
            expected.pop("work_s")
            for name, value in expected.items():
                np.testing.assert_allclose(
                    found[name][i], value, rtol=1e-9, atol=1e-9, err_msg=name
                )


@pytest.mark.parametrize("observation", ["compact", "paper"])
def test_other_observations(observation):
    """By hand, after the three slots of V1 and V2."""
    env, params, _, state = on_trace(observation=observation)
    for action in ACTIONS:
        found, state, *_ = env.transition(state, jnp.array(action), params)
    full = np.array(V3)
    rate, backlog, background = full[24:28], full[28:33], full[33:37]
    if observation == "compact":
        expected = [*(2 * rate - 1.4), *backlog, *background, full[37], (61 - 60) / 20]
    else:
        expected = [*full[:12], *rate, full[37]]
    np.testing.assert_allclose(found, expected, atol=3e-6)
    assert found.shape == env.observation_space.shape


# ---- edge cases --------------------------------------------------------------------------------


def transition(state, action, **leaves):
    env = Partitioning()
    return env.transition(state, jnp.array(action), env.default_params().replace(**leaves))


def default_state(lam=60.0, W=(0.0,) * 5, E=1e5, b=(3.0,) * 4):
    return state_of(Partitioning(), np.full(4, 1e7), lam, b, W, E)


@pytest.mark.quick
def test_a_slot_without_tasks_pays_its_waits():
    info = transition(default_state(lam=0, W=(1, 2, 3, 4, 5)), [0, 0, 2, 4, 4, 2])[5]
    np.testing.assert_allclose(info["block_delay_s"], [1, 0, 3, 5, 0, 3])
    assert info["transfer_s"] == info["compute_s"] == info["energy_j"] == 0
    np.testing.assert_allclose(info["backlog_s"], 0)


@pytest.mark.quick
def test_an_empty_battery_halves_the_clock_and_the_episode_goes_on():
    local = [0] * 6
    fresh = transition(default_state(), local)
    empty = transition(default_state(E=0.0), local)
    share = lambda work: 1 + work / 15  # noqa: E731
    work = 60 * 628_131_850 / 1.5e9
    for found, slower in ((fresh, 1), (empty, 2)):
        total = slower * work * share(slower * work)
        np.testing.assert_allclose(found[5]["total_delay_s"], total, rtol=1e-5)
        energy = 1e-26 * (1.5e9 / slower) ** 2 * 60 * 628_131_850
        np.testing.assert_allclose(found[5]["energy_j"], energy, rtol=1e-5)
        assert not found[3] and not found[4]
    assert empty[1].energy_j < 0 and empty[0][37] == 0 and fresh[0][37] > 0.99


@pytest.mark.quick
def test_disabled_servers_are_masked_and_unseen():
    env, params = jaxenv.make("partitioning", server_enabled=[True, False, True, False])
    state = default_state(W=(1, 2, 3, 4, 5))
    mask = np.asarray(env.action_mask(state, params))
    np.testing.assert_array_equal(mask, [[True, True, False, True, False]] * 6)
    seen = np.asarray(env.observe(state, params))
    for start, length, off in ((24, 4, (1, 3)), (28, 5, (2, 4)), (33, 4, (1, 3))):
        expected = np.isin(np.arange(length), off)
        np.testing.assert_array_equal(seen[start : start + length] == 0, expected)


def test_a_table_repeats_its_last_row_and_episodes_are_truncated():
    env, params, _, state = on_trace(max_steps=10)
    for time in range(1, 11):
        observation, state, _, terminated, truncated, info = env.transition(
            state, jnp.array(ACTIONS[0]), params
        )
        row = min(time, 7)
        np.testing.assert_allclose(state.context.rate_bps, TRACE["table_rate_bps"][row], rtol=1e-6)
        assert not terminated and bool(truncated) == (time == 10)
    np.testing.assert_array_equal(info["final_observation"], env.observe(state, params))


# ---- generated episodes ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def episodes():
    """128 slots of 256 episodes under random placements: contexts, infos, rewards."""
    env, params = jaxenv.make("partitioning", task_rate=90)

    def one(key):
        def turn(state, number):
            action = env.action_space.sample(jax.random.fold_in(key, number))
            _, after, reward, _, _, info = env.transition(state, action, params)
            return after, (state.context, info, reward)

        return jax.lax.scan(turn, env.reset(key, params)[1], jnp.arange(128))[1]

    return jax.device_get(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(5), 256)))


def test_exogenous_processes(episodes):
    """Uniform marginals, correlation 0.9 in time, none between processes; Poisson tasks."""
    context = episodes[0]
    rate = (context.rate_bps - 6.4e6) / 9.6e6
    share = (context.background_s / 15) ** 0.25
    for u in (rate, share):
        counts = np.histogram(u, bins=10, range=(0, 1))[0] / u.size
        np.testing.assert_allclose(counts, 0.1, atol=0.007)
    np.testing.assert_allclose(context.background_s.mean(), 3, rtol=0.03)
    latent = context.latent
    np.testing.assert_allclose(latent[:, 0].std(), 1, atol=0.05)  # stationary from the start
    for lag in (1, 5):
        product = (latent[:, lag:] * latent[:, :-lag]).mean()
        np.testing.assert_allclose(product, 0.9**lag, atol=0.03)
    between = np.corrcoef(np.moveaxis(latent, 1, -1).reshape(256, 8, -1).mean(-1).T)
    assert np.abs(between - np.eye(8)).max() < 0.25
    tasks = context.num_tasks
    assert (tasks == np.round(tasks)).all()
    np.testing.assert_allclose([tasks.mean(), tasks.var()], 90, rtol=0.02)
    assert abs(np.corrcoef(tasks[:, 1:].ravel(), tasks[:, :-1].ravel())[0, 1]) < 0.02


def test_identities_of_every_slot(episodes):
    _, info, reward = episodes
    total = info["total_delay_s"]
    near = {"rtol": 1e-5, "atol": 1e-4}
    np.testing.assert_allclose(info["local_delay_s"] + info["edge_delay_s"], total, **near)
    parts = info["transfer_s"] + info["wait_s"] + info["compute_s"]
    np.testing.assert_allclose(parts, total, **near)
    np.testing.assert_allclose(-(total + info["penalty_s"]), reward, **near)
    backlog = info["backlog_s"]
    assert backlog.min() == 0 and backlog.max() <= 60 and (backlog > 0).mean() > 0.05
    spent = 1e5 - info["remaining_energy_j"][:, -1]
    np.testing.assert_allclose(info["energy_j"].sum(axis=1), spent, rtol=1e-4)


def test_fewer_servers_meet_the_same_numbers():
    contexts = []
    for n in (2, 9):
        env, params = jaxenv.make("partitioning", num_servers=n)
        state = env.reset(jax.random.key(3), params)[1]
        step = jax.jit(env.transition)
        for _ in range(3):
            state = step(state, jnp.zeros(6, jnp.int32), params)[1]
        contexts.append(state.context)
    few, many = contexts
    assert few.num_tasks == many.num_tasks
    np.testing.assert_array_equal(few.rate_bps, many.rate_bps[:2])
    np.testing.assert_array_equal(few.background_s, many.background_s[:2])


# ---- the contract ------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"num_blocks": 2, "num_servers": 3}, TRACE])
def test_contract(options):
    env, params = jaxenv.make("partitioning", **options)
    check_environment(env, params, num_steps=12, num_envs=2, stochastic=options is not TRACE)


def test_a_sweep_over_networks_is_one_call():
    env = Partitioning()
    scenarios = [jaxenv.make("partitioning", network=name)[1] for name in oracle.NETWORKS]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *scenarios)
    state, action = default_state(), jnp.array(ACTIONS[0])
    step = jax.jit(lambda params: env.transition(state, action, params)[2])
    found = jax.jit(jax.vmap(step))(stacked)
    np.testing.assert_allclose(found, [step(params) for params in scenarios], rtol=1e-6)
    assert dataclasses.replace(env) == env
