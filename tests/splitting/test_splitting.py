"""The splitting environment: published check values, the slow version, draws, the contract."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxenv
from agents.baselines import splitting as baselines
from allocators import rate
from jaxenv.errors import ConfigError
from jaxenv.physics import arrivals
from jaxenv.splitting import Context, Queues, Slot, Splitting, simulated_metrics, updated
from jaxenv.testing import check_environment
from tests.oracles import splitting as oracle

DTYPES = ("float32", "float64")
POLICIES = {
    "surrogate": baselines.DriftPlusPenalty,
    "exact": baselines.DriftPlusPenaltyExact,
}
OFFLOAD = baselines.FullOffload


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


def decided(policy, slot, params):
    """Splitting points, nats and outcomes of slots ``[n]``, the scenario's leaves ``[n]`` too."""
    env = policy.env
    per_split = ("macs_convolution", "macs_per_output", "macs_linear", "elements", "segment_s")
    columns = {name: getattr(params, name)[:, None] for name in per_split}
    params = params.replace(**columns)
    costs = env.costs(params)
    slot = slot._replace(snr_per_watt=costs.snr_per_watt * slot.snr_per_watt)
    split, nats = policy.decide(slot, costs, params)
    result = env.outcome(split, nats, slot, costs, params)
    prices = rate.Prices(slot.z, slot.h, params.tradeoff_v)
    value = rate.objective(result.delay_s, result.energy_j, prices, params.delay_max_s)
    return split, rate.rate_bps(nats, params.bandwidth_hz), result, value


decided = jax.jit(decided)


def slots(dtype, *columns):
    return Slot(*(jnp.atleast_1d(jnp.asarray(x, dtype)) for x in columns))


def scenario(dtype, **leaves):
    env = Splitting(dtype=dtype)
    params = env.default_params()
    return env, params.replace(**{k: jnp.asarray(v, dtype) for k, v in leaves.items()})


# ---- the network --------------------------------------------------------------------------------

PROFILE = {  # MACs, bits, mJ, all cumulative but the bits
    1: (10_838_016, 12_845_056, 10.367134),
    2: (20_873_216, 6_422_528, 25.330548),
    5: (91_282_688, 802_816, 68.091441),
    8: (120_823_808, 401_408, 83.163796),
    10: (141_446_144, 401_408, 90.453968),
    12: (164_476_928, 602_112, 98.036367),
    15: (225_468_992, 250_880, 113.840629),
    17: (256_421_312, 250_880, 120.553326),
    18: (279_423_872, 501_760, 124.822883),
    19: (300_774_272, 0, 135.671297),
}


@pytest.mark.quick
@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-6), ("float64", 1e-12)])
def test_published_profile(dtype, rtol):
    env, params = scenario(dtype)
    costs = env.costs(params)
    macs = np.asarray(costs.local_s, np.float64) * 1.3e12 / 2
    for k, (cumulative, bits, energy_mj) in PROFILE.items():
        np.testing.assert_allclose(macs[k], cumulative, rtol=rtol)
        assert costs.bits[k] == bits
        np.testing.assert_allclose(1e3 * costs.energy_j[k], energy_mj, atol=6e-7, rtol=rtol)
    assert costs.bits[0] == 32 * 224 * 224 * 3
    assert costs.local_s[0] == costs.energy_j[0] == costs.remote_s[19] == 0
    own = oracle.System()
    np.testing.assert_allclose(macs, own.macs, rtol=rtol)
    np.testing.assert_array_equal(costs.bits, own.bits)
    np.testing.assert_allclose(costs.energy_j, own.energy, rtol=rtol)


@pytest.mark.quick
@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-5), ("float64", 0)])
def test_published_channel(dtype, rtol):
    """Section 3: g in 1/W, rates in Mbit/s at x = 1 for the three path loss exponents."""
    for beta, g, least, most in (
        (3, "466.816", "500.576", "1115.07"),
        (4, "9.33632", "25.7545", "190.263"),
        (4.7, "0.603805", "1.7370", "16.9164"),
    ):
        env, params = scenario(dtype, path_loss_exponent=beta)
        snr = env.costs(params).snr_per_watt
        ends = rate.rate_bps(jnp.stack(rate.nats_range(env.uplink(snr, params))), 200e6) / 1e6
        for found, printed in zip((snr, *ends), (g, least, most), strict=True):
            np.testing.assert_allclose(found, float(printed), rtol=rtol, atol=half_unit(printed))


def half_unit(printed):
    """Half a unit of the last digit of a printed number."""
    digits, _, exponent = printed.partition("e")
    decimals = len(digits.partition(".")[2])
    return 0.51 * 10.0 ** (int(exponent or 0) - decimals)


# ---- one slot -----------------------------------------------------------------------------------

CASES = {  # Z, H, V, N, x, alpha, beta; k, R, D, E, objective, Z', H'
    "A": (
        "surrogate",
        (0.4, 0.1, 20, 12, 0.8, 0.03, 3),
        (0, "7.77947e8", ".0857597", "2.75015e-3", ".0893068", ".435760", ".09"),
    ),
    "A exact": (
        "exact",
        (0.4, 0.1, 20, 12, 0.8, 0.03, 3),
        (0, "6.52829e8", ".100000", "2.04073e-3", ".0808146", ".450000", ".09"),
    ),
    "B": (
        "surrogate",
        (2, 0.5, 1, 11, 2.5, 0.004, 4),
        (5, "3.47458e8", ".0818276", ".751547", ".915203", "2.03183", ".49"),
    ),
    "C": (
        "surrogate",
        (1, 1, 1, 0, 1.3, 0.2, 3),
        (0, "1.18937e9", "0", "0", "0", ".95", ".99"),
    ),
}


@pytest.mark.quick
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-4), ("float64", 1e-6)])
def test_published_slot(case, dtype, rtol):
    kind, (z, h, v, n, x, alpha, beta), (k, *expected) = CASES[case]
    env, params = scenario(dtype, path_loss_exponent=beta, tradeoff_v=v)
    split, bps, result, value = decided(
        POLICIES[kind](env), slots(dtype, n, x, alpha, z, h), params
    )
    after = max(0, z + float(result.delay_s[0]) - 0.05), max(0, h + float(result.outage[0]) - 0.01)
    found = (bps[0], result.delay_s[0], result.energy_j[0], value[0], *after)
    assert split[0] == k
    for number, printed in zip(found, expected, strict=True):
        tolerance = max(rtol * abs(float(printed)), half_unit(printed))
        assert abs(float(number) - float(printed)) <= tolerance, (number, printed)


@pytest.mark.quick
def test_other_points_of_case_a():
    env, params = scenario("float64", tradeoff_v=20)
    costs = env.costs(params)
    slot = Slot(12.0, costs.snr_per_watt * 0.8, 0.03, 0.4, 0.1)
    nats = env.closed_form_nats(slot, params)
    np.testing.assert_allclose(rate.power_w(nats, slot.snr_per_watt), 0.0370133, atol=6e-8)
    result = env.outcome(jnp.array([5, 19]), nats, slot, costs, params)
    np.testing.assert_allclose(result.delay_s, [0.0220495, 0.00555276], atol=6e-8)
    np.testing.assert_allclose(result.energy_j, [0.817556, 1.62806], atol=6e-6)
    value = 0.4 * result.delay_s + 20 * result.energy_j
    np.testing.assert_allclose(value[0], 16.3599, atol=6e-5)
    assert result.tx_delay_s[1] == result.tx_energy_j[1] == 0
    whole = result.local_delay_s + result.tx_delay_s + result.remote_delay_s
    np.testing.assert_allclose(whole, result.delay_s, rtol=1e-12)
    np.testing.assert_allclose(
        result.local_energy_j + result.tx_energy_j, result.energy_j, rtol=1e-12
    )


@pytest.mark.parametrize("kind", POLICIES)
def test_a_thousand_random_slots_against_the_slow_version(kind):
    rng = np.random.default_rng(7)
    size = 1000
    n, x = rng.poisson(10, size), rng.exponential(size=size)
    alpha_max = rng.choice([1, 0.1, 0.01, 0.001], size)
    alpha = alpha_max * (1 - rng.random(size))
    beta, v = rng.choice([3, 4, 4.7], size), 10 ** rng.uniform(-2, 2, size)
    z, h = v * rng.exponential(5, size), v * rng.exponential(0.4, size)
    rows = []
    for row in zip(beta, v, z, h, n, x, alpha, strict=True):
        system = oracle.System(beta=row[0], v=row[1], z=row[2], h=row[3], exact=kind == "exact")
        rows.append(system.step(*row[4:]))
    slow = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    assert len(set(slow["split"])) >= 8 and 20 < slow["outage"].sum() < 500
    for dtype, rtol in (("float64", 1e-9), ("float32", 1e-4)):
        env, params = scenario(dtype, path_loss_exponent=beta, tradeoff_v=v)
        split, bps, result, value = decided(
            POLICIES[kind](env), slots(dtype, n, x, alpha, z, h), params
        )
        same = np.asarray(split) == slow["split"]
        if dtype == "float64":
            assert same.all()
        else:  # a decision may differ where two points cost the same
            assert same.mean() > 0.995
        np.testing.assert_allclose(value, slow["objective"], rtol=rtol, atol=rtol * 1e-2)
        parts = {"rate_bps": bps, "delay_s": result.delay_s, "energy_j": result.energy_j}
        for name, found in parts.items():
            np.testing.assert_allclose(found[same], slow[name][same], rtol=rtol, atol=1e-12)
        late = np.asarray(result.outage)
        clear = np.abs(slow["delay_s"] - 0.1) > 1e-6
        np.testing.assert_array_equal(late[same & clear], slow["outage"][same & clear])


@pytest.mark.quick
def test_empty_queues_and_no_images():
    """Z = H = 0: the least rate and the point of least energy; N = 0: point 0 at no cost."""
    env, params = scenario("float64")
    slot = slots("float64", [10, 0], [1, 1], [0.5, 0.5], 0, 0)
    split, bps, result, _ = decided(baselines.DriftPlusPenalty(env), slot, params)
    np.testing.assert_array_equal(split, [0, 0])
    np.testing.assert_allclose(bps, 500.576e6, rtol=1e-6)
    assert result.delay_s[1] == result.energy_j[1] == result.outage[1] == 0


# ---- the closed loop ----------------------------------------------------------------------------


def loop_tables():
    t = np.arange(1000)
    return {
        "table_num_images": 5 + (7 * t) % 11,
        "table_fading": -np.log(((37 * t) % 101 + 0.5) / 101),
        "table_availability": ((53 * t) % 97 + 0.5) / 97,
    }


@pytest.fixture(scope="module")
def slow_loop():
    system = oracle.System(v=1.0, alpha_max=0.1)
    tables = loop_tables()
    return [system.step(n, x, 0.1 * share) for n, x, share in zip(*tables.values(), strict=True)]


def closed_loop(dtype, **options):
    return jaxenv.make(
        "splitting",
        dtype=dtype,
        tradeoff_v=1.0,
        availability_max=0.1,
        max_steps=5000,
        **loop_tables(),
        **options,
    )


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-5), ("float64", 1e-8)])
def test_closed_loop(dtype, rtol, slow_loop):
    """The environment, step by step: the published sums and the slow version's every decision."""
    env, params = closed_loop(dtype)
    policy = baselines.DriftPlusPenalty(env)

    def step(state, _):
        action, _ = policy.act((), None, None, None, state, params)
        _, state, _, _, _, info = env.transition(state, action, params)
        return state, info

    state = env.reset(jax.random.key(0), params)[1]
    state, info = jax.jit(lambda s: jax.lax.scan(step, s, None, 1000))(state)
    split = np.asarray(info["split"]).astype(int)
    np.testing.assert_array_equal(split, [row["split"] for row in slow_loop])
    assert list(split[:12]) == [0] * 11 + [3]
    assert list(split[-12:]) == [5, 0, 0, 0, 3, 3, 0, 0, 3, 0, 0, 5]
    assert split.sum() == 1008 and np.sum(np.asarray(info["outage"], float)) == 11
    for name, printed in (("energy_j", 134.621), ("delay_s", 56.8501)):
        total = np.asarray(info[name], np.float64).sum()
        np.testing.assert_allclose(total, sum(row[name] for row in slow_loop), rtol=rtol)
        np.testing.assert_allclose(total, printed, rtol=5e-6)
    queues = state.queues
    for high, low, name, printed in (
        (queues.z, queues.z_low, "z", 6.85011),
        (queues.h, queues.h_low, "h", 1.01),
    ):
        whole = float(high) + float(low)
        np.testing.assert_allclose(whole, slow_loop[-1][name], rtol=rtol)
        np.testing.assert_allclose(whole, printed, rtol=1e-6)


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-5), ("float64", 1e-8)])
def test_closed_loop_simulated(dtype, rtol, slow_loop):
    """`simulate` on the same tables gives the same sums, for several scenarios and keys at once."""
    env, params = closed_loop(dtype, num_slots=1000, burn_in=0, chunk_slots=250)
    params = params.replace(tradeoff_v=jnp.asarray([2.0, 1.0], dtype))
    totals = jax.jit(env.simulate)(
        baselines.DriftPlusPenalty(env), params, jax.random.split(jax.random.key(0), 3)
    )
    assert totals.energy_j.shape == (4, 3, 2) and totals.split.shape == (4, 20, 3, 2)
    found = simulated_metrics(env, totals)
    for name, of in (("mean_energy_j", "energy_j"), ("mean_delay_s", "delay_s")):
        mean = sum(row[of] for row in slow_loop) / 1000
        np.testing.assert_allclose(found[name][:, 1], mean, rtol=rtol)
    np.testing.assert_allclose(found["split_mean"][:, 1], 1.008, rtol=1e-12)
    np.testing.assert_allclose(found["outage"][:, 1], 0.011, rtol=1e-6)
    splits = np.array([row["split"] for row in slow_loop])
    np.testing.assert_allclose(found["split_std"][:, 1], splits.std(), rtol=1e-9)
    counts = np.bincount(splits, minlength=20) / 1000
    np.testing.assert_allclose(found["split_hist"][:, 0, 1], counts, rtol=1e-12)
    for name, of in (("z_mean", "z"), ("h_mean", "h")):
        mean = np.mean([row[of] for row in slow_loop])
        np.testing.assert_allclose(found[name][:, 1], mean, rtol=rtol)
    np.testing.assert_allclose(found["z_final"][:, 1], 6.85011, rtol=1e-6)
    np.testing.assert_allclose(found["h_final"][:, 1], 1.01, rtol=1e-6)


@pytest.mark.quick
def test_queues_in_float32_do_not_drift():
    """Two floats hold a sum of 3000 increments as float64 does; one float is off by 1e-4."""
    env, params = scenario("float32")
    rng = np.random.default_rng(0)
    delays = rng.exponential(0.06, 3000).astype(np.float32)

    def step(queues, delay):
        return updated(queues, delay, jnp.float32(0.5), params), None

    start = Queues(jnp.float32(1e4), *[jnp.float32(0)] * 3)
    queues = jax.jit(lambda q: jax.lax.scan(step, q, delays)[0])(start)
    increments = (delays - np.float32(0.05)).astype(np.float64)
    exact = 1e4 + increments.sum()
    assert abs(float(queues.z) + float(queues.z_low) - exact) < 1e-6
    plain = np.float32(1e4)
    for increment in increments.astype(np.float32):
        plain += increment
    assert abs(plain - exact) > 1e-3
    spare = Queues(*map(jnp.float32, (0.01, 0, 0.005, 0)))
    assert jax.tree.leaves(updated(spare, jnp.float32(0), jnp.float32(0), params)) == [0] * 4


# ---- draws --------------------------------------------------------------------------------------


def test_draws_have_the_published_distributions():
    env = Splitting(num_slots=200_000, burn_in=0)
    params = env.make_params(availability_max=0.5, fading_mean=2.0)
    contexts = jax.jit(env.trace)(params, jax.random.key(1))
    images, fading, share = (
        np.asarray(x, np.float64) for x in (contexts.num_images, contexts.fading, contexts.share)
    )
    deviations = 4 / math.sqrt(len(images))
    assert abs(images.mean() - 10) < deviations * math.sqrt(10)
    assert abs(images.var() - 10) < deviations * 10 * math.sqrt(2.1)
    for count in (3, 10, 17):
        p = math.exp(-10) * 10**count / math.factorial(count)
        assert abs(np.mean(images == count) - p) < deviations * math.sqrt(p)
    assert abs(fading.mean() - 1) < deviations and abs((fading < 1e-2).mean() - 0.00995) < 1e-3
    assert fading.min() > 0 and share.min() > 0 and share.max() <= 1
    assert abs(share.mean() - 0.5) < deviations and abs(share.var() - 1 / 12) < deviations
    for a, b in ((images, fading), (images, share), (fading, share)):
        assert abs(np.corrcoef(a, b)[0, 1]) < deviations
    for values in (images, fading, share):
        for lag in (1, 2, 255, 256):
            assert abs(np.corrcoef(values[lag:], values[:-lag])[0, 1]) < deviations


@pytest.mark.quick
def test_the_ends_of_the_draws_are_finite(monkeypatch):
    """Of the least word the power is 2^-33, of the largest -ln 2^-24; without gain it is 1e-12."""
    env = Splitting()
    for word, power, share in ((0, 2.0**-33, 2.0**-33), (2**32 - 1, 24 * math.log(2), 1.0)):
        monkeypatch.setattr(arrivals, "counted_bits", lambda *_, word=word: jnp.uint32(word))
        _, found_share, found_power = env._fresh((0, 0), jnp.int32(0))
        np.testing.assert_allclose([found_power, found_share], [power, share], rtol=1e-6)
    env = Splitting(contexts="markov")
    table = arrivals.poisson_table(jnp.float32(10), 40)
    fresh = map(jnp.float32, (0.5, 0.5, 0.0, 0.25, 0.5))
    context = env._context(None, tuple(fresh), None, table, env.default_params())
    assert context.fading == jnp.float32(1e-12) and context.num_images == 10  # the median


@pytest.mark.quick
def test_a_correlated_context_by_hand():
    """An amplitude of 2, a quarter turn on: 0.6 (1, -0.5) + 0.8 (0, 2); the share stays at 0.69."""
    env = Splitting(contexts="markov", dtype="float64")
    params = env.make_params(fading_correlation=0.6, availability_correlation=0.7)
    table = arrivals.poisson_table(params.arrival_rate, env.max_images)
    last = Context(*map(jnp.float64, (3, 1.25, 0.3)), gain=(jnp.float64(1), jnp.float64(-0.5)))
    for stay, share in ((0.69, 0.3), (0.71, 0.9)):
        fresh = map(jnp.float64, (0.5, 0.9, 4, 0.25, stay))
        context = env._context(last, tuple(fresh), None, table, params)
        np.testing.assert_allclose(context.gain, (0.6, 1.3), rtol=1e-12)
        np.testing.assert_allclose([context.fading, context.share], [2.05, share], rtol=1e-12)
    key_data = jax.random.key_data(jax.random.key(0))
    drawn = env._fresh(arrivals.stream_words(key_data, jnp.int32(0)), jnp.int32(0))
    assert len(set(map(float, drawn))) == 5


def test_scenarios_under_one_key_meet_the_same_draws():
    env = Splitting(num_slots=1000, burn_in=0, chunk_slots=500)
    params = env.default_params().replace(
        tradeoff_v=jnp.float32([1, 3]), availability_max=jnp.float32([1, 0.1])
    )
    keys = jax.random.split(jax.random.key(0), 2)
    totals = jax.jit(env.simulate)(OFFLOAD(env), params, keys)
    full = np.asarray(totals.full_local_energy_j)
    np.testing.assert_array_equal(full[..., 0], full[..., 1])
    assert (full[:, 0] != full[:, 1]).all()
    trace = jax.jit(env.trace)(env.default_params(), keys[1])
    local = env.costs(env.default_params()).energy_j[-1]
    images = np.asarray(trace.num_images).reshape(2, 500).sum(axis=1)
    np.testing.assert_allclose(full[:, 1, 0], images * float(local), rtol=1e-6)


def test_each_scenario_is_simulated_as_if_alone():
    """Under a rule that compares all points of all seeds and scenarios at once."""
    env = Splitting(num_slots=40, burn_in=0, chunk_slots=20)
    leaves = {"delay_avg_s": [0.02, 0.1], "availability_max": [0.05, 0.02]}
    params = env.default_params()
    both = params.replace(**{name: jnp.float32(leaf) for name, leaf in leaves.items()})
    second = params.replace(**{name: jnp.float32(leaf[1]) for name, leaf in leaves.items()})
    policy, keys = baselines.CheapestWithinDelay(env), jax.random.split(jax.random.key(3), 3)
    simulate = jax.jit(env.simulate)
    together, alone = (
        simulated_metrics(env, simulate(policy, scenario, keys)) for scenario in (both, second)
    )
    assert together["split_mean"].shape == (3, 2) and np.ptp(together["split_mean"]) > 1
    for name in ("mean_energy_j", "mean_delay_s", "split_hist"):
        np.testing.assert_allclose(together[name][..., 1:], alone[name], rtol=1e-6)


def test_scenarios_of_two_lengths_are_refused():
    env = Splitting(num_slots=2, burn_in=0, chunk_slots=1)
    leaves = {"tradeoff_v": jnp.ones(3), "availability_max": jnp.ones(2)}
    with pytest.raises(ConfigError, match=r"^scenarios: \[2, 3\] .*; give axes of one length$"):
        env.simulate(OFFLOAD(env), env.default_params().replace(**leaves), jax.random.key(0))


def test_tables_of_several_scenarios_are_refused():
    env = Splitting(num_slots=2, burn_in=0, chunk_slots=1, contexts="given", table_rows=2)
    params = env.default_params()
    for name in ("table_start", "table_num_images"):
        many = params.replace(**{name: jnp.stack([getattr(params, name)] * 2)})
        with pytest.raises(ConfigError, match=rf"^{name}: \[2.*; all scenarios share one table$"):
            env.simulate(OFFLOAD(env), many, jax.random.key(0))


@pytest.mark.quick
def test_no_slot_has_images_that_never_come(monkeypatch):
    """Of the largest word: in float32 the uniform number rounds to 1, P(N <= 30) to 1 - 2^-24."""
    env, params = Splitting(), Splitting().default_params()
    table = arrivals.poisson_table(params.arrival_rate, env.max_images)
    monkeypatch.setattr(arrivals, "counted_bits", lambda *_: jnp.uint32(2**32 - 1))
    context = env._context(None, env._fresh((0, 0), jnp.int32(0)), None, table, params)
    assert 25 < context.num_images < 35


def test_environment_and_simulation_meet_the_same_slots():
    """Stepping the environment equals `simulate`, draws and all; blocks of draws are crossed."""
    for contexts, observed in (("independent", "late"), ("markov", "now")):
        env = Splitting(
            num_slots=600, burn_in=0, chunk_slots=300, contexts=contexts, observed=observed
        )
        params = env.make_params(availability_max=0.1)
        policy = baselines.DriftPlusPenalty(env)

        def step(state, _, env=env, params=params, policy=policy):
            action, _ = policy.act((), None, None, None, state, params)
            _, state, _, _, _, info = env.transition(state, action, params)
            return state, (info["energy_j"], info["delay_s"], info["split"], info["z"])

        state = env.reset(jax.random.key(5), params)[1]
        _, stepped = jax.jit(lambda s, f=step: jax.lax.scan(f, s, None, 600))(state)
        energy, delay, split, z = (np.asarray(x, np.float64) for x in stepped)
        found = simulated_metrics(env, jax.jit(env.simulate)(policy, params, jax.random.key(5)))
        np.testing.assert_allclose(found["mean_energy_j"], energy.mean(), rtol=1e-4)
        np.testing.assert_allclose(found["mean_delay_s"], delay.mean(), rtol=1e-4)
        np.testing.assert_allclose(found["split_mean"], split.mean(), rtol=1e-12)
        np.testing.assert_allclose(found["z_mean"], z.mean(), rtol=1e-4)


def test_hundreds_of_splitting_points_are_counted():
    """All at the last one, whose number does not fit into a byte."""
    count = 257
    env = Splitting(num_splits=count, num_slots=20, burn_in=0, chunk_slots=10)
    policy = baselines.FullLocal(env)
    totals = env.simulate(policy, env.default_params(), jax.random.key(0))
    found = simulated_metrics(env, totals)
    np.testing.assert_array_equal(found["split_mean"], count - 1)
    np.testing.assert_array_equal(found["split_hist"][:, 0, 0], np.arange(count) == count - 1)


def test_a_simulation_by_hand():
    """All on the device, in no time: the queues sink by 0.05 s and 0.01 in each of 20 slots."""
    env = Splitting(num_splits=3, num_slots=20, burn_in=0, chunk_slots=5, observed="late")
    params, key = env.make_params(z0=2.0, h0=1.0), jax.random.key(0)
    totals, trace = jax.jit(
        lambda params: (env.simulate(baselines.FullLocal(env), params, key), env.trace(params, key))
    )(params)
    found = simulated_metrics(env, totals)
    expected = {"split_mean": 2, "split_std": 0, "z_final": 1, "h_final": 0.8, "outage": 0}
    for name, value in (expected | {"z_mean": 1.475, "h_mean": 0.895}).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-9, err_msg=name)
    later = simulated_metrics(env, totals, burn_in=10)
    np.testing.assert_allclose(later["h_mean"], 0.845, rtol=1e-5)
    images = np.asarray(trace.num_images).reshape(4, 5).sum(axis=1)
    local_j = float(env.costs(params).energy_j[-1])
    np.testing.assert_allclose(totals.full_local_energy_j[:, 0, 0], images * local_j, rtol=1e-5)


def test_correlated_contexts():
    """The same marginals; the gain's correlation squared is that of its power, and shares stay."""
    env = Splitting(contexts="markov", observed="late")
    params = env.make_params(fading_correlation=0.9, availability_correlation=0.7)
    size = 40_000
    state = env.reset(jax.random.key(2), params)[1]

    def step(state, _):
        _, following, _, _, _, _ = env.transition(state, jnp.int32(0), params)
        seen = env.seen_slot(following, env.costs(params), params)
        return following, (state.context, seen.availability, seen.snr_per_watt)

    _, (context, seen, snr) = jax.jit(lambda s: jax.lax.scan(step, s, None, size))(state)
    fading, share = (np.asarray(x, np.float64) for x in (context.fading, context.share))
    assert abs(fading.mean() - 1) < 0.1 and abs(np.mean(fading < 0.1) - 0.0952) < 0.02
    assert abs(share.mean() - 0.5) < 0.03
    for lag, of_power, of_share in ((1, 0.81, 0.7), (3, 0.81**3, 0.7**3)):
        assert abs(np.corrcoef(fading[lag:], fading[:-lag])[0, 1] - of_power) < 0.04
        assert abs(np.corrcoef(share[lag:], share[:-lag])[0, 1] - of_share) < 0.04
    np.testing.assert_allclose(seen, share, rtol=1e-6)  # what the next decision sees
    gain = env.costs(params).snr_per_watt
    np.testing.assert_allclose(snr / float(gain), fading, rtol=1e-5)


# ---- actions, observations, rewards ------------------------------------------------------------


@pytest.mark.quick
def test_observation_and_rewards():
    env, params = jaxenv.make(
        "splitting",
        table_num_images=[12],
        table_fading=[0.8],
        table_availability=[0.03],
        tradeoff_v=20.0,
        z0=0.4,
        h0=0.1,
        delay_price=2.0,
        outage_price=0.5,
        delay_clip_s=0.08,
    )
    observation, state = env.reset(jax.random.key(0), params)
    expected = [1.2, math.log10(466.816 * 0.8), math.log10(0.03), 0.4 / 100, 0.1 / 6]
    np.testing.assert_allclose(observation, expected, rtol=1e-5)
    _, after, reward, terminated, truncated, info = env.transition(state, jnp.int32(0), params)
    delay, energy = 0.0857597, 2.75015e-3
    np.testing.assert_allclose(info["delay_s"], delay, rtol=1e-5)
    np.testing.assert_allclose(info["energy_j"], energy, rtol=1e-5)
    drift = 0.4 * (0.08 - 0.05) + 0.1 * (0 - 0.01)
    np.testing.assert_allclose(reward, -(20 * energy + drift), rtol=1e-4)
    np.testing.assert_allclose(info["full_local_energy_j"], 12 * 0.135671297, rtol=1e-6)
    np.testing.assert_allclose([after.queues.z, after.queues.h], [0.43576, 0.09], rtol=1e-5)
    np.testing.assert_allclose(info["power_w"], 0.0370133, rtol=1e-5)
    assert not terminated and not truncated and (state.time, after.time) == (0, 1)
    priced = dataclasses.replace(env, reward_mode="lagrangian")
    reward = priced.transition(state, jnp.int32(0), params)[2]
    np.testing.assert_allclose(reward, -(energy + 2 * 0.08), rtol=1e-5)
    np.testing.assert_allclose(env.reward_unit(params), 20 * 1.35671297, rtol=1e-6)
    info |= {"saved_energy_j": 0.4, "full_local_energy_j": 1.6, "outage": 0.25}
    found = {m.name: m.scale * info[m.of] / info.get(m.over, 1) for m in priced.metrics}
    seen = [info[name] for name in ("energy_j", "delay_s", "cost_j")]
    names = ("energy_saving", "mean_energy_j", "mean_delay_s", "outage", "mean_cost_j")
    assert found == dict(zip(names, (25, *seen[:2], 25, seen[2]), strict=True))


def test_the_second_action_form_decides_the_rate():
    env, params = jaxenv.make("splitting", action_mode="split_rate")
    state = env.reset(jax.random.key(0), params)[1]
    box = env.action_space.spaces[1]
    assert (box.low, box.high) == (0, 1)
    for place, power in ((0.0, 0.010), (1.0, 0.100), (1.5, 0.100)):
        info = env.transition(state, (jnp.int32(5), jnp.float32(place)), params)[5]
        np.testing.assert_allclose(info["power_w"], power, rtol=1e-5)
        assert info["split"] == 5
    least, half, most = (
        env.transition(state, (jnp.int32(5), jnp.float32(p)), params)[5]["rate_bps"]
        for p in (0, 0.5, 1)
    )
    np.testing.assert_allclose(half, (least + most) / 2, rtol=1e-6)


def test_queues_are_seen_up_to_ten_times_their_reference():
    """Z/(V z_ref) = 2 and 10 beyond; the same of H."""
    env = Splitting()
    params = env.make_params(tradeoff_v=2.0)
    for z, h, seen in ((20.0, 1.2, (2, 2)), (500.0, 0.3, (10, 0.5)), (0.0, 60.0, (0, 10))):
        slot = Slot(*map(jnp.float32, (5, 1.0, 0.5, z, h)))
        np.testing.assert_allclose(env.observation_of(slot, params)[3:], seen, rtol=1e-6)


def test_the_unit_of_prices_is_the_energy_of_a_mean_batch():
    env, params = jaxenv.make("splitting", reward_mode="lagrangian", tradeoff_v=20.0)
    np.testing.assert_allclose(env.reward_unit(params), 1.35671297, rtol=1e-6)


@pytest.mark.parametrize("least", [0.01, 0.1], ids=["a range of powers", "one power"])
def test_a_decision_is_what_its_action_stands_for(least):
    """Nats per channel use as a place in the slot's range and back; beyond it, its ends."""
    env, params = jaxenv.make("splitting", action_mode="split_rate", power_min_w=least)
    costs, state = env.costs(params), env.reset(jax.random.key(2), params)[1]
    low, high = env.nats_range(env.seen_slot(state, costs, params), params)
    for wanted, nats in ((low + 0.3 * (high - low),) * 2, (low / 2, low), (2 * high, high)):
        action = env.encode(jnp.int32(7), wanted, state, costs, params)
        split, found = env.decision(state, action, costs, params)
        assert split == 7 and 0 <= action[1] <= 1
        np.testing.assert_allclose(found, nats, rtol=1e-6)


def test_units_of_work_and_of_values():
    """Of a chain of four points with 1 MAC per segment and 1 element each but the last."""
    env = Splitting(num_splits=4)
    params = env.make_params(
        flops_per_mac=3.0, local_flops=6.0, remote_flops=10.0, raw_bits=8.0, feature_bits=16.0
    )
    costs = env.costs(params)
    np.testing.assert_allclose(costs.local_s, [0, 1, 2, 3])
    np.testing.assert_allclose(costs.remote_s, [1.8, 1.2, 0.6, 0])
    np.testing.assert_array_equal(costs.bits, [8, 16, 16, 0])
    timed = env.costs(params.replace(segment_s=jnp.float32([0, -1, 0.5, 0.25])))
    np.testing.assert_allclose(timed.local_s, [0, 1, 1.5, 1.75])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            "action_mode": "split_rate",
            "contexts": "markov",
            "observed": "late",
            "reward_mode": "lagrangian",
        },
        {"table_fading": [0.5, -1.0], "table_availability": [0.2, 0.3], "observed": "late"},
    ],
)
def test_contract(options):
    with jax.enable_x64(False):
        env, params = jaxenv.make("splitting", **options)
        check_environment(env, params, num_steps=16)


def test_the_rate_may_be_solved_by_jaxopt():
    env, params = scenario("float64")
    slot = Slot(10.0, env.costs(params).snr_per_watt, 0.5, 2.0, 0.3)
    other = dataclasses.replace(env, allocator="jaxopt")
    np.testing.assert_allclose(
        env.closed_form_nats(slot, params), other.closed_form_nats(slot, params), rtol=1e-9
    )


def test_a_cut_larger_than_the_image_can_be_the_best():
    """Point 2 sends more than the raw image, yet spares a very slow host just enough work to meet
    the deadline: on 1.3e-4 of the slots at availability 0.001, by the slow version as well."""
    n, x, alpha, z, h = 2.0, 0.58957577, 0.00062397426, 3.0, 3.0
    system = oracle.System(z=z, h=h)
    assert system.decide(n, x, alpha)[0] == 2
    env, params = scenario("float64")
    split, _, result, _ = decided(
        baselines.DriftPlusPenalty(env), slots("float64", n, x, alpha, z, h), params
    )
    assert split[0] == 2 and result.delay_s[0] < 0.1
    rate_bps = system.decide(n, x, alpha)[1]
    assert system.outcome(0, rate_bps, n, x, alpha)[0] > 0.1
