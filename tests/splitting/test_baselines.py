"""Policies and the dual bound of the splitting system: inequalities, optimality, evaluation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import registry
from agents.baselines import splitting as baselines
from agents.learner import bound_value, evaluate
from allocators import rate
from jaxenv import struct
from jaxenv.splitting import Queues, Slot, Splitting, simulated_metrics

SLOTS = 20_000
ENV = Splitting(num_slots=SLOTS, burn_in=2_000, chunk_slots=1_000)
AVAILABILITIES = (1.0, 0.5, 0.1)
KEYS = jax.random.split(jax.random.key(11), 2)
NAMES = ("FullLocal", "FullOffload", "CheapestAvg", "CheapestMax", "DPP", "DPPExact")

simulate = jax.jit(lambda policy, params, keys: policy.env.simulate(policy, params, keys))


def scenarios(**leaves):
    params = ENV.default_params()
    own = {"availability_max": AVAILABILITIES} | leaves
    return params.replace(**{k: jnp.asarray(v, jnp.float32) for k, v in own.items()})


@pytest.fixture(scope="module")
def measured():
    """Metrics ``[seeds, scenarios]`` of every policy at the three availabilities."""
    params = scenarios()
    return {
        name: simulated_metrics(ENV, simulate(registry.baseline(name, ENV), params, KEYS))
        for name in NAMES
    }


@pytest.fixture(scope="module")
def duals():
    """The bound of the first seed at the three availabilities."""
    base = ENV.default_params()
    return [
        baselines.solve_dual(ENV, base.replace(availability_max=jnp.float32(a)), KEYS[0])
        for a in AVAILABILITIES
    ]


# ---- whole trajectories -------------------------------------------------------------------------


def test_full_local(measured):
    """Saving 0; 4.63 ms at N = 10: the mean is that of ten images, no batch is late."""
    found = measured["FullLocal"]
    np.testing.assert_allclose(found["energy_saving_pct"], 0, atol=1e-4)
    np.testing.assert_allclose(found["mean_delay_s"], 4.627e-3, rtol=0.01)
    assert (found["outage"] == 0).all() and (found["split_mean"] == 19).all()


def test_full_offload_breaks_both_limits(measured, duals):
    found = measured["FullOffload"]
    assert (found["mean_delay_s"] > 0.05).all() and (found["outage"] > 0.1).all()
    np.testing.assert_allclose(found["outage"].mean(axis=0), [0.111, 0.119, 0.178], atol=0.008)
    assert (found["energy_saving_pct"][0] > [dual.bound_pct for dual in duals]).all()


def test_cheapest_within_the_mean_delay_is_feasible(measured, duals):
    found = measured["CheapestAvg"]
    assert (found["mean_delay_s"] <= 0.05).all() and (found["outage"] == 0).all()
    assert (found["energy_saving_pct"][0] <= [dual.bound_pct + 1e-3 for dual in duals]).all()
    np.testing.assert_allclose(
        found["energy_saving_pct"].mean(axis=0), [77.9, 76.8, 69.9], atol=0.5
    )
    delays = measured["CheapestMax"]["mean_delay_s"].mean(axis=0)
    np.testing.assert_allclose(delays, [0.0877, 0.0881, 0.0900], atol=0.0005)


def test_no_delay_above_the_limit_of_cheapest():
    """In float32 too: the margin of the rate covers the rounding."""
    params = ENV.make_params(availability_max=0.1)
    contexts = jax.jit(ENV.trace)(params, KEYS[0])
    zero = jnp.zeros(())
    costs = ENV.costs(params)
    columns = jax.tree.map(lambda x: x[:, None] if x.ndim else x, costs)
    slot = ENV.slot(contexts, Queues(zero, zero, zero, zero), costs, params)
    for limit, theta in (("avg", 0.05), ("max", 0.1)):
        policy = baselines.CheapestWithinDelay(ENV, limit)
        split, nats = policy.decide(slot, columns, params)
        delay = ENV.outcome(split, nats, slot, columns, params).delay_s
        assert (delay <= np.float32(theta)).all()
        assert (delay > 0.99 * theta).mean() > 0.3


def test_controller_is_near_the_bound(measured, duals):
    """At V = 3, on 2e4 slots: within 0.5 points of the bound, mean delay within 2 %."""
    for name in ("DPP", "DPPExact"):
        found = measured[name]
        limit = np.array([dual.bound_pct for dual in duals])
        gap = limit - found["energy_saving_pct"][0]
        assert (np.abs(gap) < 0.5).all()
        assert (found["mean_delay_s"] < 0.051).all() and (found["outage"] < 0.011).all()


def test_weak_duality(measured, duals):
    """mean E >= G(z, eta) - z (mean D - D_avg) - eta (mean o - eps), for every policy."""
    for name, found in measured.items():
        for i, dual in enumerate(duals):
            energy, delay, outage = (
                found[n][0, i] for n in ("mean_energy_j", "mean_delay_s", "outage")
            )
            correction = dual.z * (delay - 0.05) + dual.eta * (outage - 0.01)
            assert energy >= dual.value_j - correction - 1e-6, (name, i)


def test_weak_duality_at_any_prices(measured):
    rng = np.random.default_rng(5)
    contexts = jax.tree.map(
        lambda x: x[ENV.burn_in :], jax.jit(ENV.trace)(ENV.default_params(), KEYS[0])
    )
    for z, eta in [(0.0, 0.0), (0.0, 3.0), (14.0, 0.0), *rng.uniform(0, [15, 4], (4, 2))]:
        z, eta = np.float32(z), np.float32(eta)
        sums = baselines._dual_sums(ENV, contexts, ENV.default_params(), z, eta)
        value = np.asarray(sums[0], np.float64).sum() / (SLOTS - ENV.burn_in)
        value -= z * 0.05 + eta * 0.01
        for name, found in measured.items():
            energy, delay, outage = (
                found[n][0, 0] for n in ("mean_energy_j", "mean_delay_s", "outage")
            )
            floor = value - z * (delay - 0.05) - eta * (outage - 0.01)
            assert energy >= floor - 1e-5 * (1 + abs(floor)), (name, z, eta)


def test_bound_is_certified_and_published(duals):
    for dual, printed, tolerance in zip(duals, (94.50, 93.61, 87.36), (0.4, 0.4, 0.6), strict=True):
        assert 0 <= dual.gap_pp <= 0.005
        assert abs(dual.bound_pct - printed) < tolerance  # of a tenth of the published length
    np.testing.assert_allclose([d.z for d in duals], [5.65, 6.6, 9.56], rtol=0.1)
    np.testing.assert_allclose([d.eta for d in duals], [0.36, 0.32, 0.25], rtol=0.3)


def test_the_box_of_prices_widens():
    """Where a delay costs more than the first box allows, the bound is still certified."""
    env = Splitting(num_slots=4_000, burn_in=0, chunk_slots=1_000)
    params = env.make_params(delay_avg_s=0.006, outage_eps=0.0005)
    dual = baselines.solve_dual(env, params, KEYS[0])
    assert dual.z > 15 and dual.gap_pp <= 0.005
    found = simulated_metrics(env, simulate(baselines.FullLocal(env), params, KEYS[:1]))
    assert found["energy_saving_pct"][0, 0] <= dual.bound_pct


def test_multipliers_are_near_the_best():
    """The ellipsoid's prices give a bound within 0.1 points of the best one."""
    for availability in (1.0, 0.1):
        params = ENV.make_params(availability_max=availability)
        z, eta = jax.jit(lambda p: baselines.multipliers(ENV, p))(params)
        contexts = jax.tree.map(lambda x: x[ENV.burn_in :], jax.jit(ENV.trace)(params, KEYS[0]))
        sums = baselines._dual_sums(ENV, contexts, params, z, eta)
        value = np.asarray(sums[0], np.float64).sum() / (SLOTS - ENV.burn_in)
        value -= float(z) * 0.05 + float(eta) * 0.01
        full = float(ENV.costs(params).energy_j[-1] * jnp.mean(contexts.num_images))
        best = baselines.solve_dual(ENV, params, KEYS[0]).bound_pct
        assert best - 1e-3 <= 100 * (1 - value / full) <= best + 0.1


def test_queues_settle_near_the_prices(measured, duals):
    """Backlogs are near V z* and V eta*: a warm start begins there."""
    params = scenarios(z0=[3 * dual.z for dual in duals], h0=[3 * dual.eta for dual in duals])
    warm = simulated_metrics(ENV, simulate(baselines.DriftPlusPenalty(ENV), params, KEYS[:1]))
    np.testing.assert_allclose(warm["z_mean"][0] / 3, [d.z for d in duals], rtol=0.3)
    assert (warm["mean_delay_s"] < 0.0502).all()


def test_static_splits():
    """Point 5 at full power saves 49.7 %, point 8 38.6 %; the mean delay of 5 decides by seed."""
    points = jnp.arange(20, dtype=jnp.int32)
    policy = baselines.StaticSplit(ENV, points)
    found = simulated_metrics(ENV, simulate(policy, ENV.default_params(), KEYS))
    saving = found["energy_saving_pct"].mean(axis=0)
    feasible = (found["mean_delay_s"] <= 0.05) & (found["outage"] <= 0.01)
    best = np.argmax(np.where(feasible, saving, -np.inf), axis=1)
    assert set(best) <= {5, 8}
    np.testing.assert_allclose(saving[[5, 8]], [49.7, 38.6], atol=0.3)
    assert saving[19] < 1e-4 and (np.diff(found["split_mean"][0]) == 1).all()
    carry = jax.jit(lambda p: baselines.BestStaticSplit(ENV).init(None, ENV, p))(
        ENV.default_params()
    )
    assert int(carry) in (5, 8)


# ---- one slot -----------------------------------------------------------------------------------


def test_order_of_objectives():
    """exact <= surrogate <= every point at the rate of (19); exact <= any point and rate."""
    rng = np.random.default_rng(1)
    size = 500
    params = ENV.default_params()
    costs = ENV.costs(params)
    columns = jax.tree.map(lambda x: x[:, None] if x.ndim else x, costs)
    slot = Slot(
        *(
            jnp.asarray(x, jnp.float32)
            for x in (
                rng.poisson(10, size),
                float(costs.snr_per_watt) * rng.exponential(size=size),
                10 ** rng.uniform(-3, 0, size),
                rng.exponential(15, size),
                rng.exponential(1, size),
            )
        )
    )

    def value(split, nats):
        result = ENV.outcome(split, nats, slot, columns, params)
        prices = rate.Prices(slot.z, slot.h, params.tradeoff_v)
        return np.asarray(rate.objective(result.delay_s, result.energy_j, prices, 0.1), np.float64)

    exact = value(*baselines.DriftPlusPenaltyExact(ENV).decide(slot, columns, params))
    surrogate = value(*baselines.DriftPlusPenalty(ENV).decide(slot, columns, params))
    nats = ENV.closed_form_nats(slot, params)
    points = jnp.arange(20, dtype=jnp.int32)[:, None]
    rounding = 1e-5 * (1 + surrogate)
    assert (exact <= surrogate + rounding).all()
    assert (surrogate <= value(points, nats).min(axis=0) + rounding).all()
    assert (exact < surrogate - rounding).mean() > 0.01
    least, most = rate.nats_range(ENV.uplink(slot.snr_per_watt, params))
    for place in np.linspace(0, 1, 12):
        at = value(points, least + np.float32(place) * (most - least)).min(axis=0)
        assert (exact <= at + rounding).all()


def test_binary_offloading_is_the_cheaper_of_both_ends_that_is_in_time():
    """Offloading costs less whenever it meets the mean delay; the device alone is its fallback."""
    rng = np.random.default_rng(2)
    params = ENV.default_params()
    costs = ENV.costs(params)
    columns = jax.tree.map(lambda x: x[:, None] if x.ndim else x, costs)
    snr = float(costs.snr_per_watt) * rng.exponential(size=300)
    drawn = (1 + rng.poisson(10, 300), snr, 10 ** rng.uniform(-2, 0, 300), *np.zeros((2, 300)))
    slot = Slot(*(jnp.asarray(x, jnp.float32) for x in drawn))
    split, nats = baselines.Binary(ENV).decide(slot, columns, params)
    found = ENV.outcome(split, nats, slot, columns, params)
    most = ENV.nats_range(slot, params)[1]
    fastest = ENV.outcome(jnp.zeros(300, jnp.int32), most, slot, columns, params).delay_s
    possible = np.asarray(fastest) <= float(params.delay_avg_s)
    np.testing.assert_array_equal(split, np.where(possible, 0, 19))
    assert 0.1 < possible.mean() < 0.9
    assert (found.delay_s <= params.delay_avg_s * (1 + 1e-4)).all()
    partial = baselines.CheapestWithinDelay(ENV).decide(slot, columns, params)
    energy = ENV.outcome(*partial, slot, columns, params).energy_j
    assert (energy <= found.energy_j * (1 + 1e-5)).all()
    assert (energy < 0.9 * found.energy_j).mean() > 0.05


# ---- as policies of the environment -----------------------------------------------------------


@pytest.fixture(scope="module")
def table():
    env = ENV
    params = env.make_params(availability_max=0.1, max_steps=1500)
    bound = registry.bound(env)
    names = ("FullOffload", "BestStatic", "DPP", "DPPWarm")
    return {
        name: evaluate(env, params, registry.baseline(name, env), jax.random.key(3), 2, bound)
        for name in names
    }


def pooled(terms, name):
    return terms.numerator[name].sum() / terms.denominator[name].sum()


def test_policies_are_evaluated_beside_the_bound(table):
    saving = {name: pooled(terms, "energy_saving") for name, terms in table.items()}
    bounds = [bound_value(terms) for terms in table.values()]
    np.testing.assert_allclose(bounds, bounds[0], rtol=1e-5)  # all met the same trace
    assert abs(bounds[0] - 87.4) < 2.5
    assert saving["BestStatic"] <= bounds[0] and saving["FullOffload"] > 98
    assert abs(saving["BestStatic"] - 16.05) < 1 or abs(saving["BestStatic"] - 13.6) < 1
    # From empty queues a controller still borrows from the constraints; started warm it does not.
    assert abs(saving["DPP"] - bounds[0]) < 6
    assert abs(saving["DPPWarm"] - bounds[0]) < 1.5
    assert pooled(table["DPPWarm"], "mean_delay_s") < 0.0525


def test_a_controller_may_also_decide_the_rate_itself(table):
    env = dataclasses.replace(ENV, action_mode="split_rate")
    params = env.make_params(availability_max=0.1, max_steps=1500)
    own = evaluate(env, params, registry.baseline("DPP", env), jax.random.key(3), 2)
    for name in ("energy_saving", "mean_delay_s", "outage"):
        np.testing.assert_allclose(pooled(own, name), pooled(table["DPP"], name), rtol=2e-3)


@struct.dataclass
class PricedSplit(baselines.SplittingPolicy):
    """Minimises E + z D + eta o in every slot, at fixed prices (``params.delay_price`` and
    ``params.outage_price``): with reward_mode="lagrangian" nothing earns more where decisions see
    the slot itself (but for the clipped delay)."""

    def decide(self, slot, costs, params):
        one = jnp.ones((), self.env.float_dtype)
        prices = rate.Prices(params.delay_price, params.outage_price, one)
        return baselines.priced_decision(self.env, slot, costs, params, prices)


def test_fixed_prices_earn_the_best_mean_reward():
    """With the Lagrangian reward nothing beats the exact minimum at the same prices."""
    env = Splitting(num_slots=4_000, burn_in=0, reward_mode="lagrangian")
    params = env.make_params(delay_price=5.65, outage_price=0.36, delay_clip_s=1e6)
    costs = {}
    for policy in (
        PricedSplit,
        *(getattr(baselines, n) for n in ("FullOffload", "FullLocal", "DriftPlusPenalty")),
    ):
        m = simulated_metrics(env, simulate(policy(env), params, KEYS[:1]))
        costs[policy.__name__] = float(
            (m["mean_energy_j"] + 5.65 * m["mean_delay_s"] + 0.36 * m["outage"])[0, 0]
        )
    best = costs.pop("PricedSplit")
    assert all(best <= other + 1e-6 for other in costs.values())
