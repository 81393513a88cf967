"""Evolved shares: the NSGA-II allocation that the vehicular paper's INSGA baseline uses.

Every member belongs to at most one pool, so one genome over all members evolves all pools at once:
objectives, ranks, tournaments and survival are per pool. Source: K. Deb et al., "A fast and elitist
multiobjective genetic algorithm: NSGA-II", IEEE Trans. Evol. Comput. 6(2), 2002, sections III A-C.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

SMALLEST_GENE = 0.02


def evolve_weights(
    key: jax.Array,
    base_s: jax.Array,
    after_s: jax.Array,
    leave_s: jax.Array,
    pool: jax.Array,
    num_pools: int,
    population: int = 16,
    generations: int = 8,
) -> jax.Array:
    """Weights of the members of every pool; shares are weights over their pool's sum.

    Minimises ``f1 = sum t_i`` and ``f2 = sum max(t_i + after_i - leave_i, 0)`` with
    ``t_i = base_i / share_i``; of the last population, the individual of smallest f2, then f1.

    Args:
        key: randomness. base_s: time with the whole resource, ``[V]``. after_s: time still needed
            afterwards, ``[V]``. leave_s: time until coverage ends, ``[V]``.
        pool: index of each member's pool, negative for none, ``[V]``.
        num_pools: static number of pools. population, generations: static sizes.

    Returns:
        Weights ``[V]`` in [0.02, 1]; 1 for members of pools with fewer than two.
    """
    size, dtype = pool.shape[0], base_s.dtype
    member = pool[:, None] == jnp.arange(num_pools)
    count = jnp.sum(member, axis=0)
    home = jnp.maximum(pool, 0)

    def in_pools(values: jax.Array) -> jax.Array:
        # "highest": by default a GPU rounds what it multiplies to ten bits.
        return jnp.matmul(values, member.astype(dtype), precision="highest")

    def objectives(genes: jax.Array) -> jax.Array:
        share = genes / jnp.where(pool >= 0, in_pools(genes)[:, home], genes)
        time = base_s / share
        late = jnp.maximum(time + after_s - leave_s, 0)
        return jnp.stack([in_pools(time), in_pools(late)], axis=-1)

    def generation(carry: tuple[jax.Array, jax.Array], key: jax.Array):
        genes, scores = carry
        keys = jax.random.split(key, 5)
        rank = _rank(scores)
        crowding = _crowding(scores, rank)
        picks = jax.random.randint(keys[0], (2, 2, population, num_pools), 0, population)
        first, second = picks[:, 0], picks[:, 1]
        pools = jnp.arange(num_pools)

        def better(a: jax.Array, b: jax.Array) -> jax.Array:
            lower = rank[a, pools] < rank[b, pools]
            tie = rank[a, pools] == rank[b, pools]
            return lower | (tie & (crowding[a, pools] > crowding[b, pools]))

        parents = jnp.where(better(second, first), second, first)
        members = jnp.arange(size)
        mother, father = (genes[parent[:, home], members] for parent in parents)
        blend = jax.random.uniform(keys[1], (population, size), dtype, -0.1, 1.1)
        child = blend * mother + (1 - blend) * father
        chance = 1 / jnp.maximum(count[home], 1).astype(dtype)
        mutates = jax.random.uniform(keys[2], (population, size), dtype) < chance
        noise = 0.15 * jax.random.normal(keys[3], (population, size), dtype)
        child = jnp.clip(jnp.where(mutates, child + noise, child), SMALLEST_GENE, 1)
        genes = jnp.concatenate([genes, child])
        scores = jnp.concatenate([scores, objectives(child)])
        rank = _rank(scores)
        crowding = _crowding(scores, rank)
        best = _order(rank, -crowding)[:population]
        genes = genes[best[:, home], members]
        return (genes, scores[best, pools]), None

    key, start = jax.random.split(key)
    genes = jax.random.uniform(start, (population, size), dtype, 0.05, 1.0)
    genes = genes.at[0].set(1)
    carry = (genes, objectives(genes))
    (genes, scores), _ = jax.lax.scan(generation, carry, jax.random.split(key, generations))
    winner = _order(scores[..., 1], scores[..., 0])[0]
    weight = genes[winner[home], jnp.arange(size)]
    return jnp.where((pool >= 0) & (count[home] > 1), weight, 1).astype(dtype)


def _rank(scores: jax.Array) -> jax.Array:
    """Non-dominated rank ``[n, pools]`` of objectives ``[n, pools, 2]``, 0 for the first front."""
    f1, f2 = scores[..., 0], scores[..., 1]
    no_worse = (f1[:, None] <= f1[None, :]) & (f2[:, None] <= f2[None, :])
    dominates = no_worse & ((f1[:, None] < f1[None, :]) | (f2[:, None] < f2[None, :]))

    def peel(carry: tuple[jax.Array, jax.Array, jax.Array]):
        rank, left, level = carry
        beaten = jnp.any(dominates & left[:, None], axis=0)
        front = left & ~beaten
        return jnp.where(front, level, rank), left & ~front, level + 1

    start = (jnp.zeros(f1.shape, jnp.int32), jnp.ones(f1.shape, bool), jnp.int32(0))
    return jax.lax.while_loop(lambda carry: jnp.any(carry[1]), peel, start)[0]


def _crowding(scores: jax.Array, rank: jax.Array) -> jax.Array:
    """Crowding distance ``[n, pools]`` within each front; infinite at its ends."""
    together = rank[:, None] == rank[None, :]

    def one(values: jax.Array) -> jax.Array:
        below = _before(values) & together
        lower = jnp.max(jnp.where(below, values[:, None], -jnp.inf), axis=0)
        upper = jnp.min(jnp.where(below.swapaxes(0, 1), values[:, None], jnp.inf), axis=0)
        spread = jnp.max(values, axis=0) - jnp.min(values, axis=0)
        return (upper - lower) / jnp.where(spread > 0, spread, 1)

    return one(scores[..., 0]) + one(scores[..., 1])


def _before(*keys: jax.Array) -> jax.Array:
    """Whether i stands before j, ``[n, n, ...]``, sorted by the keys ``[n, ...]``, then by index.

    All pairs at once: faster than sorting a few dozen numbers.
    """
    index = jnp.arange(keys[0].shape[0]).reshape((-1,) + (1,) * (keys[0].ndim - 1))
    before = index[:, None] < index[None, :]
    for key in reversed(keys):
        before = (key[:, None] < key[None, :]) | ((key[:, None] == key[None, :]) & before)
    return before


def _order(*keys: jax.Array) -> jax.Array:
    """Indices ``[n, ...]`` that sort by the keys ``[n, ...]``, then by index."""
    place = jnp.sum(_before(*keys), axis=0)
    index = jnp.arange(place.shape[0]).reshape((-1,) + (1,) * (place.ndim - 1))
    return jnp.sum(jnp.where(place[None] == index[:, None], index[None, :], 0), axis=1)
