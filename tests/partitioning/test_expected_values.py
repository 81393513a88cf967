"""Published expectations on whole episodes of 600 slots; paired, so orders are sharp."""

import functools

import jax
import numpy as np
import pytest

import jaxenv
from agents import registry
from agents.learner import rollout

OPTIMIZED = True
KEY = jax.random.key(2024)

# reward / 1e3 per episode, then total, edge, local, transfer, wait, penalty in s and energy in J
# per slot.
DEFAULT = {
    "RPDI": (-41.4, 46.07, 35.66, 10.41, 5.39, 7.75, 22.98, 167.3),
    "APDI": (-31.2, 37.15, 37.15, 0, 1.24, 8.12, 14.91, 0.62),
    "Blockwise": (-31.1, 37.72, 36.66, 1.06, 0.14, 0.06, 14.11, 13.5),
    "Viterbi": (-30.2, 36.96, 36.72, 0.24, 0.14, 0.74, 13.34, 3.1),
    "Greedy": (-25.0, 32.22, 27.44, 4.78, 4.28, 0.36, 9.44, 124.4),
    "GreedyEFT": (-24.8, 31.97, 25.13, 6.84, 4.16, 0.44, 9.30, 143.5),
    "GreedyES": (-23.5, 31.05, 31.05, 0, 1.63, 0.73, 8.15, 0.81),
    "LocalSearch": (-19.13, 27.30, 27.16, 0.14, 0.70, 0.12, 4.58, 3.4),
    "Opt1": (-19.06, 27.25, 27.05, 0.20, 0.71, 0.11, 4.52, 4.5),
    "Priced": (-19.04, 27.23, 26.87, 0.37, 0.78, 0.09, 4.49, 8.1),
}
BOUND = -18.82
OPTIMISERS = ("LocalSearch", "Opt1", "Priced")
SWEEPS = [
    # leaves of the scenario, rewards / 1e3 of RPDI, APDI, Greedy, GreedyES
    ({"task_rate": 30}, (-12.6, -9.8, -8.97, -8.40)),
    ({"task_rate": 110}, (-166, -102, -75.4, -75.0)),
    ({"tolerated_delay_s": 1}, (-51.7, -41.0, -35.1, -33.7)),
    ({"tolerated_delay_s": 7}, (-35.2, -27.2, -20.4, -19.4)),
]
LINKS = [
    # network, total s per slot of Greedy and Opt1 at 0.8 MB/s, then at 2 MB/s
    ("vgg16_cifar10", (34.3, 27.38), (31.2, 27.19)),
    ("nin", (83.0, 18.61), (47.2, 18.47)),
    ("resnet32", (10.8, 4.76), (7.9, 4.62)),
    ("alexnet_cifar10", (6.2, 4.27), (5.6, 4.13)),
]


@functools.cache
def measured(name, price=None, bounded=False, **options):
    """Means over episodes by metric, the reward of every episode, and the bound of every episode.

    Everything of one size runs in one program per policy: constants are traced.
    """
    env, params = jaxenv.make("partitioning", **options)
    policy = registry.baseline(name, env, **({} if price is None else {"price": price}))
    episodes = 8 if name in OPTIMISERS or bounded else 64
    bound = registry.bound(env) if bounded else None
    terms = rollout(env, params, policy, KEY, episodes, bound)
    means = {k: np.sum(v) / np.sum(terms.denominator[k]) for k, v in terms.numerator.items()}
    return means, np.asarray(terms.numerator["reward"]), terms.bound and np.asarray(terms.bound[0])


@pytest.mark.parametrize("name", DEFAULT)
def test_default_setting(name):
    found, _, _ = measured(name, task_rate=60.0)
    reward, total, edge, _, transfer, _, _, _ = DEFAULT[name]
    tolerance = 0.12 if name in ("RPDI", "APDI") else 0.03
    np.testing.assert_allclose(found["reward"] / 1e3, reward, rtol=tolerance)
    np.testing.assert_allclose(found["total_delay_s_per_slot"], total, rtol=tolerance)
    np.testing.assert_allclose(found["edge_delay_s_per_slot"], edge, rtol=tolerance)
    np.testing.assert_allclose(found["transfer_s_per_slot"], transfer, rtol=0.05)


@pytest.mark.parametrize(("leaves", "rewards"), SWEEPS, ids=str)
def test_sweeps_of_rate_and_tolerated_delay(leaves, rewards):
    for name, reward in zip(("RPDI", "APDI", "Greedy", "GreedyES"), rewards, strict=True):
        found = measured(name, **leaves)[0]["reward"] / 1e3
        # Single episodes of GreedyES at rate 110 differ by 9 %; the expectation is a mean of 8.
        tolerance = {"RPDI": 0.12, "APDI": 0.12, "GreedyES": 0.06}.get(name, 0.03)
        np.testing.assert_allclose(found, reward, rtol=tolerance, err_msg=name)


@pytest.mark.parametrize(("network", "slow", "fast"), LINKS)
def test_link_rates_and_networks(network, slow, fast):
    for rate, expected in ((6.4e6, slow), (16e6, fast)):
        for name, total in zip(("Greedy", "Opt1"), expected, strict=True):
            found = measured(name, network=network, rate_range_bps=rate)[0]
            np.testing.assert_allclose(found["total_delay_s_per_slot"], total, rtol=0.03)


def test_more_servers():
    """At N = 2, where single episodes differ by 10 %, and at N = 9; the expectation is of 8."""
    for servers, reward, tolerance in ((2, -42.5, 0.05), (9, -23.4, 0.03)):
        found = measured("Greedy", num_servers=servers)[0]["reward"] / 1e3
        np.testing.assert_allclose(found, reward, rtol=tolerance)


def test_a_price_on_backlog_pays_and_nothing_beats_the_bound():
    """A price pays in every episode at rate 110, on average at the default."""
    for rate, price in ((60.0, 0.5), (110.0, 1.0)):
        priced = measured("Priced", price, task_rate=rate)[1]
        myopic = measured("Opt1", task_rate=rate)[1]
        greedy, limit = measured("GreedyES", bounded=True, task_rate=rate)[1:]
        assert priced.mean() > myopic.mean()
        for reward in (priced, myopic, greedy):
            assert (reward <= limit).all()
        if rate == 60:
            np.testing.assert_allclose(limit.mean() / 1e3, BOUND, rtol=0.03)
    assert (priced > myopic).all()
    np.testing.assert_allclose(priced.mean(), -60.0e3, rtol=0.05)
    np.testing.assert_allclose(myopic.mean(), -62.2e3, rtol=0.05)


def test_without_sharing():
    for name, reward in (("Greedy", -16.4), ("Viterbi", -10.1)):
        found = measured(name, sharing=0.0)[0]["reward"] / 1e3
        np.testing.assert_allclose(found, reward, rtol=0.03)
