"""What splitting points cost, what a decision knows of a slot, and what it leads to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from allocators import rate


class Costs(NamedTuple):
    """What the splitting points cost per image, ``[K]``, and the channel at unit fading.

    local_s: on the device. remote_s: on the whole host. bits: sent. energy_j: of the device's
    computing. snr_per_watt: of x = 1.
    """

    local_s: chex.Array
    remote_s: chex.Array
    bits: chex.Array
    energy_j: chex.Array
    snr_per_watt: chex.Array


class Row(NamedTuple):
    """`Costs` of one splitting point."""

    local_s: chex.Array
    remote_s: chex.Array
    bits: chex.Array
    energy_j: chex.Array


class Slot(NamedTuple):
    """What a slot's decision is made on: the context (N, g, alpha) and the queues (Z, H).

    limits: of the rate, if they are at hand.
    """

    num_images: chex.Array
    snr_per_watt: chex.Array
    availability: chex.Array
    z: chex.Array
    h: chex.Array
    limits: rate.Limits | None = None


class Outcome(NamedTuple):
    """What a decision leads to: s and J of the batch, and their parts."""

    delay_s: chex.Array
    energy_j: chex.Array
    outage: chex.Array
    local_delay_s: chex.Array
    tx_delay_s: chex.Array
    remote_delay_s: chex.Array
    local_energy_j: chex.Array
    tx_energy_j: chex.Array


def job(row: Row, slot: Slot) -> rate.Job:
    """The transmission of a splitting point in a slot, and what computing costs besides."""
    images = slot.num_images
    return rate.Job(
        bits=images * row.bits,
        other_delay_s=images * (row.local_s + row.remote_s * (1 / slot.availability)),
        other_energy_j=images * row.energy_j,
    )


def rows(costs: Costs) -> Row:
    """The per-point part of `Costs`, ``[K, ...]``."""
    return Row(costs.local_s, costs.remote_s, costs.bits, costs.energy_j)


def pick(costs: Costs, split: chex.Array) -> Row:
    """The costs of chosen points, of the shape of ``split``.

    A chain of selections: a vector processor does it faster than it gathers.
    """
    first, others = _first_and_others(costs)
    first = jax.tree.map(
        lambda x: jnp.broadcast_to(x, jnp.broadcast_shapes(x.shape, jnp.shape(split))), first
    )

    def take(chosen: Row, item: tuple[chex.Array, Row]) -> tuple[Row, None]:
        here = split == item[0]
        return jax.tree.map(lambda new, old: jnp.where(here, new, old), item[1], chosen), None

    return jax.lax.scan(take, first, others, unroll=True)[0]


def first_minimum(
    costs: Costs,
    candidate: Callable[[Row], tuple[chex.Array, chex.Array]],
    chained: bool = False,
) -> tuple[chex.Array, chex.Array]:
    """``(split, nats)`` of the least objective over all splitting points, ties to the lowest.

    candidate: ``(objective, nats)`` of one point, or of all, ``[K, ...]``. chained: one point after
    the other in registers, faster for a cheap candidate and many runs, longer to compile.
    """
    if not chained:
        objective, nats = jnp.broadcast_arrays(*candidate(rows(costs)))
        split = jnp.argmin(objective, axis=0).astype(jnp.int32)
        return split, jnp.take_along_axis(nats, split[None], axis=0)[0]
    first, others = _first_and_others(costs)
    objective, nats = jnp.broadcast_arrays(*candidate(first))

    def better(best: tuple[chex.Array, ...], item: tuple[chex.Array, Row]) -> Any:
        objective, nats = candidate(item[1])
        new = (objective, nats, item[0])
        return tuple(
            jnp.where(objective < best[0], x, y) for x, y in zip(new, best, strict=True)
        ), None

    best = (objective, nats, jnp.zeros(objective.shape, jnp.int32))
    (_, nats, split), _ = jax.lax.scan(better, best, others, unroll=True)
    return split, nats


def _first_and_others(costs: Costs) -> tuple[Row, tuple[chex.Array, Row]]:
    """Point 0, and the others with their numbers."""
    every = rows(costs)
    index = jnp.arange(1, len(every.bits), dtype=jnp.int32)
    return Row(*(x[0] for x in every)), (index, Row(*(x[1:] for x in every)))
