"""Shares within pools against one pool at a time, and by hand."""

import jax
import numpy as np
import pytest

from allocators import pools, proportional

pytestmark = pytest.mark.quick

one_by_one = jax.jit(proportional.shares)
first = jax.jit(pools.first_shares)
pooled = jax.jit(pools.pooled_shares)


def random_pools(rng, shape, num_pools=4):
    weight = rng.uniform(0.1, 5.0, shape)
    pool = rng.integers(-1, num_pools, shape)
    return weight, pool


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-12)], ids=["float32", "float64"]
)
@pytest.mark.parametrize("size", [1, 2, 30])
def test_pooled_shares_are_the_kkt_shares_pool_by_pool(size, dtype, tolerance):
    rng = np.random.default_rng(size)
    with jax.enable_x64(dtype == np.float64):
        for _ in range(20):
            weight, pool = random_pools(rng, size)
            member = pool == np.arange(4)[:, None]
            each = np.asarray(one_by_one((weight**2).astype(dtype), member))
            expected = np.where(member, each, 0).sum(0)
            share = np.asarray(pooled(weight.astype(dtype), pool))
            assert share.dtype == dtype
            np.testing.assert_allclose(share, expected, rtol=tolerance * 10, atol=tolerance)
            for p in np.unique(pool[pool >= 0]):
                assert np.sum(share[pool == p]) == pytest.approx(1, abs=tolerance * 10)
            assert (share[pool < 0] == 0).all()


def test_check_value_of_the_kkt_rule():
    # eta = [1, 4, 9] in one pool, and a member alone in another: 1/6, 2/6, 3/6, and 1.
    weight = np.sqrt([1.0, 4.0, 9.0, 7.0])
    share = pools.pooled_shares(weight, np.array([2, 2, 2, 0]))
    np.testing.assert_allclose(share, [1 / 6, 1 / 3, 1 / 2, 1.0], rtol=1e-6)


def test_lanes_are_independent():
    rng = np.random.default_rng(0)
    weight, pool = random_pools(rng, (6, 5))
    slot = rng.integers(0, 3, (6, 5))
    tau = rng.choice([0.0, 0.25, 0.5], (6, 5)).astype(np.float32)
    share = np.asarray(pools.pooled_shares(weight, pool))
    first = pools.first_shares(pool, slot, tau)
    for lane in range(5):
        one = slice(None), lane
        np.testing.assert_allclose(share[one], pools.pooled_shares(weight[one], pool[one]))
        np.testing.assert_array_equal(
            first[one], pools.first_shares(pool[one], slot[one], tau[one])
        )


def test_nobody_in_a_pool():
    pool = np.array([-1, -1])
    np.testing.assert_array_equal(pools.pooled_shares(np.array([1.0, 2.0]), pool), [0, 0])
    no_time = np.zeros(2, np.float32)
    np.testing.assert_array_equal(pools.first_shares(pool, pool, no_time), [0, 0])


def test_a_pool_without_weight_gives_no_nan():
    share = pools.pooled_shares(np.array([0.0, 0.0, 1.0]), np.array([0, 0, 1]))
    np.testing.assert_array_equal(share, [0, 0, 1])


def test_derivatives_of_shares_by_hand_and_of_a_pool_without_weight():
    """d(w_0 / (w_0 + w_1)) is w_1 and -w_0 over (w_0 + w_1)^2; where nobody weighs anything, 0."""
    pool = np.array([0, 0, 1, 1, -1])
    slope = jax.grad(lambda weight: pools.pooled_shares(weight, pool) @ np.array([1.0, 0, 1, 2, 3]))
    found = slope(np.array([1.0, 3.0, 0.0, 0.0, 2.0], np.float32))
    np.testing.assert_allclose(found, [3 / 16, -1 / 16, 0, 0, 0], rtol=1e-6)


def test_first_come_first_served_by_hand():
    # Pool 0: slot 2 beats slot 3. Pool 1: members 2 and 3 tie at (1, 0.5), the lower index wins.
    # Pool 2: equal slots, the smaller tau wins. Member 4 is in no pool.
    pool = np.array([0, 0, 1, 1, -1, 1, 2, 2])
    slot = np.array([3, 2, 1, 1, 0, 1, 4, 4])
    tau = np.array([0.1, 0.9, 0.5, 0.5, 0.0, 0.7, 0.3, 0.2], np.float32)
    share = pools.first_shares(pool, slot, tau)
    np.testing.assert_array_equal(share, [0, 1, 1, 0, 0, 0, 0, 1])
    assert share.dtype == np.float32


def test_first_shares_against_sorting():
    rng = np.random.default_rng(1)
    for _ in range(50):
        pool = rng.integers(-1, 3, 9)
        slot = rng.integers(0, 3, 9)
        tau = rng.choice([0.0, 0.5], 9).astype(np.float32)
        share = np.asarray(first(pool, slot, tau))
        expected = np.zeros(9)
        for p in range(3):
            members = np.flatnonzero(pool == p)
            if members.size:
                expected[min(members, key=lambda i: (slot[i], tau[i], i))] = 1
        np.testing.assert_array_equal(share, expected)
