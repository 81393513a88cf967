"""Sharing within pools when every member knows its pool: what an event loop calls at every event.

Vectors are over members, ``[V]``, with any trailing axes of independent lanes, ``[V, ...]``. A pool
is a non-negative index; members with a negative index are in none and get share 0. Comparing all
pairs is cheaper than scattering into pools for the tens of members a road or a cell has.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def pooled_shares(weight: jax.Array, pool: jax.Array) -> jax.Array:
    """Shares ``w_i / sum_j w_j`` over the members of each pool.

    With ``weight = sqrt(eta)`` these are the shares that minimise ``sum_i eta_i / share_i``:
    vehicular paper eqs (7) and (9), and `allocators.proportional.shares` pool by pool.
    """
    together = (pool[:, None] == pool[None, :]) & (pool >= 0)[None, :]
    total = jnp.sum(jnp.where(together, weight[None, :], 0), axis=1)
    positive = (pool >= 0) & (total > 0)
    return jnp.where(positive, weight / jnp.where(positive, total, 1), 0)


def first_shares(pool: jax.Array, slot: jax.Array, tau: jax.Array) -> jax.Array:
    """Share 1 for the member of each pool with the smallest ``(slot, tau, index)``, else 0.

    First come, first served with arrival times ``slot`` (integer) and ``tau`` (within the slot).
    """
    index = jnp.arange(pool.shape[0]).reshape((-1,) + (1,) * (pool.ndim - 1))

    def pairs(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return x[None, :], x[:, None]

    (other_slot, own_slot), (other_tau, own_tau) = pairs(slot), pairs(tau)
    other_index, own_index = pairs(index)
    same_slot = other_slot == own_slot
    same_time = same_slot & (other_tau == own_tau)
    earlier = (
        (other_slot < own_slot)
        | (same_slot & (other_tau < own_tau))
        | (same_time & (other_index < own_index))
    )
    together = pool[None, :] == pool[:, None]
    waits = jnp.any(together & earlier, axis=1)
    return jnp.where((pool >= 0) & ~waits, 1, 0).astype(tau.dtype)
