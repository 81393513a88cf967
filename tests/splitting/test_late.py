"""Correlated contexts seen one slot late: what they say of the present, and who acts on it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from agents.baselines import splitting as baselines
from agents.sac_discrete import SACDiscrete
from jaxenv.splitting import Slot, Splitting, simulated_metrics
from runs.reproductions.splitting import training as figures

LATE = Splitting(num_slots=600, burn_in=0, chunk_slots=300, contexts="markov", observed="late")
KEYS = jax.random.split(jax.random.key(3), 2)
simulate = jax.jit(lambda policy, params, keys: policy.env.simulate(policy, params, keys))


def slot_of(env, params, fading, share, z=1.0, h=2.0, images=10.0):
    g = env.costs(params).snr_per_watt
    return Slot(*map(jnp.float32, (images, g * fading, params.availability_max * share, z, h)))


@pytest.mark.parametrize(("fading", "share"), [(0.05, 0.9), (1.0, 0.3), (3.0, 0.01)])
def test_the_present_given_a_late_observation(fading, share):
    """The power is a noncentral chi-square, |rho h + n|^2; the share stays, or it is uniform."""
    params = LATE.make_params(fading_correlation=0.9, availability_correlation=0.8)
    costs = LATE.costs(params)
    possible, weight = baselines.present_given_late(
        LATE, slot_of(LATE, params, fading, share), costs, params
    )
    weight = np.asarray(weight, np.float64)
    power = np.asarray(possible.snr_per_watt / costs.snr_per_watt, np.float64)
    np.testing.assert_allclose(weight.sum(), 1, rtol=1e-5)
    np.testing.assert_allclose(weight @ power, 0.81 * fading + 0.19, rtol=0.01)
    law = stats.ncx2(2, 2 * 0.81 * fading / 0.19, scale=0.19 / 2)
    points = np.unique(power)
    edges = points * np.sqrt(points[1] / points[0])  # of cells even in the logarithm
    below = np.array([weight[power < edge].sum() for edge in edges])
    np.testing.assert_allclose(below, law.cdf(edges), atol=2e-3 + law.cdf(points[0]))
    shares = np.asarray(possible.availability, np.float64)
    np.testing.assert_allclose(weight[np.isclose(shares, share)].sum(), 0.8, atol=1e-5)
    # The middles of (1/2, 1], (1/4, 1/2], ..., (0, 1/32], with their lengths.
    mean = sum(0.75 * 0.25**k / 2 for k in range(5)) + 0.75 / 2**5 / 2**5
    np.testing.assert_allclose(weight @ shares, 0.8 * share + 0.2 * mean, rtol=1e-4)


def test_independent_contexts_say_nothing_late():
    env = Splitting(observed="late")
    params = env.default_params()
    args = env.costs(params), params
    here, there = (
        baselines.present_given_late(env, slot_of(env, params, x, 0.5), *args) for x in (0.1, 2.0)
    )
    np.testing.assert_allclose(here[1], there[1], rtol=1e-6)
    mean = float(jnp.sum(here[1] * here[0].snr_per_watt) / args[0].snr_per_watt)
    np.testing.assert_allclose(mean, 1.0, rtol=0.01)


def test_rules_that_are_drift_plus_penalty():
    """Where the present is seen there is nothing to expect; a guard of 1 guards against nothing."""
    env = Splitting()
    params = env.make_params(availability_max=0.1)
    rng = np.random.default_rng(0)
    slot = slot_of(env, params, rng.exponential(size=300), rng.uniform(0.01, 1, 300))
    slot = slot._replace(num_images=jnp.full(300, 10.0), z=jnp.ones(300), h=jnp.ones(300))
    costs = jax.tree.map(lambda x: x[:, None] if x.ndim else x, env.costs(params))
    plain, *same = (
        policy.decide(slot, costs, params)
        for policy in (
            baselines.DriftPlusPenalty(env),
            baselines.DriftPlusPenaltyExpected(env),
            baselines.GuardedDriftPlusPenalty(env, jnp.float32(1)),
        )
    )
    for split, nats in same:
        np.testing.assert_array_equal(split, plain[0])
        np.testing.assert_array_equal(nats, plain[1])


def test_the_expectation_is_cheaper_than_stale_values():
    """At the prices it settles at, the expected rule's mean Z D_c + H o + V E is the least."""
    params = LATE.make_params(availability_max=0.1, tradeoff_v=1.0, z0=2.0, h0=21.0)
    params = params.replace(delay_clip_s=jnp.float32(0.3))
    env = dataclasses.replace(LATE, num_slots=3000)
    costs = env.costs(params)
    columns = jax.tree.map(lambda x: x[:, None] if x.ndim else x, costs)
    contexts = jax.jit(env.trace)(params, KEYS[0])
    late = jax.tree.map(lambda x: x[:-1], contexts)
    now = jax.tree.map(lambda x: x[1:], contexts)
    seen = now.replace(fading=late.fading, share=late.share)
    queues = baselines.Queues(*(jnp.float32(x) for x in (2, 0, 21, 0)))
    value = {}
    for rule in (baselines.DriftPlusPenalty, baselines.DriftPlusPenaltyExpected):
        split, nats = rule(env).decide(env.slot(seen, queues, costs, params), columns, params)
        result = env.outcome(split, nats, env.slot(now, queues, costs, params), columns, params)
        delay = jnp.minimum(result.delay_s, params.delay_clip_s)
        value[rule] = float(jnp.mean(2 * delay + 21 * result.outage + result.energy_j))
    assert value[baselines.DriftPlusPenaltyExpected] < 0.9 * value[baselines.DriftPlusPenalty]


def test_scenarios_of_correlated_contexts_meet_the_trace():
    """Scenarios that share all draws: each as if alone, on the slots of `trace`."""
    params = LATE.default_params()
    policy = baselines.DriftPlusPenalty(LATE)
    both = params.replace(tradeoff_v=jnp.float32([1, 3]))
    together = simulated_metrics(LATE, simulate(policy, both, KEYS))
    alone = simulated_metrics(
        LATE, simulate(policy, params.replace(tradeoff_v=jnp.float32(3)), KEYS)
    )
    for name in ("mean_energy_j", "mean_delay_s", "split_mean"):
        np.testing.assert_allclose(together[name][:, 1], alone[name][:, 0], rtol=1e-5)
    local = simulated_metrics(LATE, simulate(baselines.FullLocal(LATE), params, KEYS))
    trace = jax.jit(LATE.trace)(params, KEYS[1])
    mean = float(LATE.costs(params).energy_j[-1]) * np.asarray(trace.num_images).mean()
    np.testing.assert_allclose(local["mean_energy_j"][1, 0], mean, rtol=1e-5)
    power = np.asarray(trace.gain[0]) ** 2 + np.asarray(trace.gain[1]) ** 2
    np.testing.assert_allclose(trace.fading, power, rtol=1e-5)


def test_a_learned_policy_is_simulated_as_it_acts():
    """A network simulated on slots makes the decisions it makes step by step."""
    params = LATE.make_params(availability_max=0.1, tradeoff_v=1.0)
    learner, hp = SACDiscrete.build(
        LATE, hidden=(8,), num_envs=2, batch_size=4, buffer_size=8, learning_starts=4
    )
    states = jax.vmap(lambda key: learner.init(key, params, hp))(KEYS)
    # The first actor is nearly indifferent, so decisions vary with the observation.
    policies = jax.vmap(learner.policy)(states)
    found = simulated_metrics(LATE, figures._simulate_learned(LATE, policies, params, KEYS))
    policy = jax.tree.map(lambda x: x[1], policies)

    def step(state, _):
        observation = LATE.observe(state, params)
        action, _ = policy.act((), None, observation, jnp.asarray(True), state, params)
        _, state, _, _, _, info = LATE.transition(state, action, params)
        return state, (info["energy_j"], info["split"])

    state = LATE.reset(KEYS[0], params)[1]
    _, (energy, split) = jax.jit(lambda s: jax.lax.scan(step, s, None, 600))(state)
    assert len(np.unique(split)) > 1
    np.testing.assert_allclose(found["mean_energy_j"][0, 1], np.mean(energy), rtol=1e-4)
    np.testing.assert_allclose(found["split_mean"][0, 1], np.mean(split), rtol=1e-5)
