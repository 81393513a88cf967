"""The state of the splitting system: a slot's draws, and the queues that count violations."""

from __future__ import annotations

import chex
import jax.numpy as jnp

from jaxenv import struct
from jaxenv.environment import State
from jaxenv.splitting.params import SplittingParams


@struct.dataclass
class Context:
    """A slot's draws: images N, fading x, share alpha / alpha_max of the host.

    gain: real and imaginary part of the channel's gain, only with contexts="markov".
    """

    num_images: chex.Array
    fading: chex.Array
    share: chex.Array
    gain: tuple[chex.Array, chex.Array] | None


@struct.dataclass
class Queues:
    """The virtual queues Z (s) and H, each as an unevaluated sum of two floats."""

    z: chex.Array
    z_low: chex.Array
    h: chex.Array
    h_low: chex.Array


@struct.dataclass
class SplittingState(State):
    """context: of this slot. seen: of the last one, None where decisions see this one's.

    row: int32, of the tables in the first slot; None without tables.
    """

    context: Context
    seen: Context | None
    queues: Queues
    row: chex.Array | None


def updated(
    queues: Queues, delay_s: chex.Array, outage: chex.Array, params: SplittingParams
) -> Queues:
    """The queues after a slot; eqs (13) and (14)."""
    z, z_low = _accumulated(queues.z, queues.z_low, delay_s - params.delay_avg_s)
    h, h_low = _accumulated(queues.h, queues.h_low, outage - params.outage_eps)
    return Queues(z, z_low, h, h_low)


def _accumulated(
    high: chex.Array, low: chex.Array, increment: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """``max(0, high + low + increment)`` as a sum of two floats (Knuth's exact addition)."""
    total = high + increment
    virtual = total - high
    error = (high - (total - virtual)) + (increment - virtual)
    low = low + error
    new_high = total + low
    new_low = low - (new_high - total)
    positive = new_high + new_low > 0
    return jnp.where(positive, new_high, 0), jnp.where(positive, new_low, 0)
