"""Evolved shares: NSGA-II's parts against a small NumPy version, and facts about the weights."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from allocators import insga

pytestmark = pytest.mark.quick

NUM_POOLS = 4
#            pool 2: three members; pool 0: two; pool 3: one; two members in no pool
POOL = np.array([2, 0, 2, -1, 3, 2, 0, -1])
SIZE = POOL.size


@partial(jax.jit, static_argnames=("population", "generations"))
def evolve(key, base, after, leave, population=16, generations=8):
    return insga.evolve_weights(
        key, base, after, leave, jnp.asarray(POOL), NUM_POOLS, population, generations
    )


def problem(seed):
    rng = np.random.default_rng(seed)
    base = rng.uniform(0.1, 8, SIZE).astype(np.float32)
    after = rng.uniform(0, 5, SIZE).astype(np.float32)
    leave = rng.uniform(0, 40, SIZE).astype(np.float32)
    return base, after, leave


def objectives(weight, base, after, leave, pool):
    """f1 and f2 of one pool, in float64."""
    member = pool == POOL
    share = weight[member].astype(float) / weight[member].astype(float).sum()
    time = base[member] / share
    return time.sum(), np.maximum(time + after[member] - leave[member], 0).sum()


@pytest.mark.parametrize("seed", range(12))
def test_weights_are_no_worse_than_equal_shares(seed):
    base, after, leave = problem(seed)
    weight = np.asarray(evolve(jax.random.key(seed), base, after, leave))
    assert (weight >= 0.02).all() and (weight <= 1).all()
    np.testing.assert_array_equal(weight[[3, 4, 7]], 1)
    better = 0
    for pool in (0, 2):
        f1, f2 = objectives(weight, base, after, leave, pool)
        equal_f1, equal_f2 = objectives(np.ones(SIZE), base, after, leave, pool)
        assert f2 <= equal_f2 * (1 + 1e-5) + 1e-5
        if f2 >= equal_f2 * (1 - 1e-5):
            assert f1 <= equal_f1 * (1 + 1e-5)
        better += (f2, f1) < (equal_f2, equal_f1)
        # Cauchy-Schwarz: no shares can make the sum of times smaller.
        least = np.sqrt(base[pool == POOL].astype(float)).sum() ** 2
        assert f1 >= least * (1 - 1e-6)
    assert better > 0


def test_without_deadlines_the_sum_of_times_approaches_the_kkt_optimum():
    base, after, _ = problem(3)
    leave = np.full(SIZE, 1e6, np.float32)
    weight = np.asarray(evolve(jax.random.key(0), base, after, leave, generations=60))
    for pool in (0, 2):
        f1, f2 = objectives(weight, base, after, leave, pool)
        least = np.sqrt(base[pool == POOL].astype(float)).sum() ** 2
        assert f2 == 0 and f1 < 1.02 * least


def test_no_weight_is_below_the_smallest_gene():
    """Best shares of times 1 : 1e8 are 1 : 1e4, beyond 0.02 : 1 and 0.04 : 1."""
    base, never = jnp.array([1.0, 1e8]), jnp.full(2, 1e12)
    weight = insga.evolve_weights(
        jax.random.key(0), base, jnp.zeros(2), never, jnp.zeros(2, int), 1, generations=60
    )
    np.testing.assert_allclose(weight, [0.02, 1], rtol=1e-6)


def test_weights_follow_from_the_key():
    data = problem(1)
    first = np.asarray(evolve(jax.random.key(7), *data))
    np.testing.assert_array_equal(first, evolve(jax.random.key(7), *data))
    assert (np.asarray(evolve(jax.random.key(8), *data)) != first).any()


def test_nobody_in_a_pool():
    data = (jnp.ones(3), jnp.ones(3), jnp.ones(3))
    run = jax.jit(partial(insga.evolve_weights, num_pools=2, population=4, generations=2))
    np.testing.assert_array_equal(run(jax.random.key(0), *data, jnp.full(3, -1)), np.ones(3))


# ---- the parts of NSGA-II ---------------------------------------------------------------------


def slow_ranks(scores):
    """Fronts by repeated removal of the points that nobody left dominates."""
    left, ranks, level = set(range(len(scores))), np.zeros(len(scores), int), 0
    while left:
        front = {
            i
            for i in left
            if not any(
                (scores[j] <= scores[i]).all() and (scores[j] < scores[i]).any() for j in left
            )
        }
        for i in front:
            ranks[i] = level
        left, level = left - front, level + 1
    return ranks


def slow_crowding(scores, ranks):
    """Distance between the neighbours in each front and objective, over the population's spread."""
    total = np.zeros(len(scores))
    for objective in scores.T:
        spread = np.ptp(objective)
        for level in set(ranks):
            front = [i for i in np.argsort(objective, kind="stable") if ranks[i] == level]
            total[[front[0], front[-1]]] = np.inf
            for before, i, after in zip(front, front[1:], front[2:], strict=False):
                total[i] += (objective[after] - objective[before]) / (spread if spread > 0 else 1)
    return total


@pytest.mark.parametrize("ties", [False, True])
def test_rank_and_crowding_against_numpy(ties):
    rng = np.random.default_rng(5)
    scores = rng.random((14, 6, 2)).astype(np.float32)
    if ties:
        scores[..., 0] = rng.integers(0, 4, scores.shape[:2])
        scores[:, 5] = scores[:1, 5]  # a population of equals
    rank = np.asarray(jax.jit(insga._rank)(scores))
    crowding = np.asarray(jax.jit(insga._crowding)(scores, rank))
    for pool in range(6):
        expected = slow_ranks(scores[:, pool])
        np.testing.assert_array_equal(rank[:, pool], expected)
        np.testing.assert_allclose(
            crowding[:, pool], slow_crowding(scores[:, pool], expected), rtol=1e-5
        )


def test_ranks_by_hand():
    # (1, 4), (2, 2), (4, 1) form the first front; (3, 3) is beaten by (2, 2); (5, 5) by all.
    scores = np.array([[5, 5], [1, 4], [3, 3], [2, 2], [4, 1]], np.float32)[:, None]
    rank = insga._rank(scores)
    np.testing.assert_array_equal(rank[:, 0], [2, 0, 1, 0, 0])
    # Inside the first front (2, 2): (4 - 1)/4 in f1 and (4 - 1)/4 in f2.
    crowding = insga._crowding(scores, rank)[:, 0]
    np.testing.assert_allclose(crowding, [np.inf, np.inf, np.inf, 1.5, np.inf])


def slow_generation(keys, genes, scores_of, pool):
    """One generation for the members of one pool, from the same draws: tournaments by rank, then by
    distance, blends, mutations, and the best half by the same order."""
    population, size = genes.shape
    scores = scores_of(genes)
    ranks = slow_ranks(scores)
    distance = slow_crowding(scores, ranks)
    drawn = np.asarray(jax.random.randint(keys[0], (2, 2, population, NUM_POOLS), 0, population))
    parents = []
    for first, second in drawn[..., pool]:
        lower = ranks[second] < ranks[first]
        lower |= (ranks[second] == ranks[first]) & (distance[second] > distance[first])
        parents.append(genes[np.where(lower, second, first)])
    blend = np.asarray(jax.random.uniform(keys[1], (population, size), minval=-0.1, maxval=1.1))
    child = blend * parents[0] + (1 - blend) * parents[1]
    count = np.array([max((other == POOL).sum(), 1) for other in np.maximum(POOL, 0)])
    mutates = np.asarray(jax.random.uniform(keys[2], (population, size))) < 1 / count
    noise = 0.15 * np.asarray(jax.random.normal(keys[3], (population, size)))
    child = np.clip(np.where(mutates, child + noise, child), 0.02, 1)
    genes = np.concatenate([genes, child])
    scores = scores_of(genes)
    ranks = slow_ranks(scores)
    best = np.lexsort((-slow_crowding(scores, ranks), ranks))
    return genes[best[:population]]


@pytest.mark.parametrize("seed", range(6))
def test_generations_against_numpy(seed):
    """The less crowded of two members of a front is the parent, and survives."""
    base, after, _ = problem(seed)
    population, generations = 8, 3
    # Between the times of equal and of no sharing: a long front of sum of times against lateness.
    leave = (base * np.random.default_rng(seed).uniform(1.2, 4, SIZE) + after).astype(np.float32)
    key = jax.random.key(seed)
    found = np.asarray(evolve(key, base, after, leave, population, generations))
    key, start = jax.random.split(key)
    first = np.array(jax.random.uniform(start, (population, SIZE), minval=0.05, maxval=1.0))
    first[0] = 1
    for pool in (0, 2):

        def scores_of(genes, pool=pool):
            return np.array([objectives(row, base, after, leave, pool) for row in genes])

        genes = first
        for one in jax.random.split(key, generations):
            genes = slow_generation(jax.random.split(one, 5), genes, scores_of, pool)
        f1, f2 = scores_of(genes).T
        member = pool == POOL
        np.testing.assert_allclose(found[member], genes[np.lexsort((f1, f2))[0], member], rtol=1e-4)
