"""A replay buffer on the device: a ring of rows of any pytree, with masked insertion.

A buffer is used inside one jitted program, whose output replaces its input, so insertion happens in
place when the program's input is donated.
"""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp

from jaxenv import struct


@struct.dataclass
class Replay:
    """A ring of rows.

    rows: pytree with leaves ``[capacity, ...]``. position: int32, where the next row goes.
    size: int32, how many rows have been filled.
    """

    rows: Any
    position: chex.Array
    size: chex.Array

    @property
    def capacity(self) -> int:
        """The largest number of rows held."""
        return jax.tree.leaves(self.rows)[0].shape[0]


def create(capacity: int, row: Any) -> Replay:
    """An empty buffer for rows of the shapes and dtypes of the leaves of ``row``."""
    rows = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), row)
    return Replay(rows, jnp.int32(0), jnp.int32(0))


def add(replay: Replay, rows: Any, valid: chex.Array) -> Replay:
    """Writes the valid rows in their order; the oldest rows give way.

    Args:
        replay: the buffer.
        rows: pytree with leaves ``[n, ...]``, ``n`` at most the capacity.
        valid: bool ``[n]``; other rows are left out.
    """
    capacity, (n,) = replay.capacity, valid.shape
    if n > capacity:
        raise ValueError(f"rows: {n} is not valid; give at most the capacity, {capacity}")
    order = jnp.cumsum(valid, dtype=jnp.int32) - 1
    inside = (replay.position + order) % capacity
    # Invalid rows get distinct places beyond the end, where a scatter drops them.
    place = jnp.where(valid, inside, capacity + jnp.arange(n, dtype=jnp.int32))

    def write(stored: chex.Array, new: chex.Array) -> chex.Array:
        return stored.at[place].set(new, mode="drop", unique_indices=True)

    added = jnp.sum(valid, dtype=jnp.int32)
    return Replay(
        rows=jax.tree.map(write, replay.rows, rows),
        position=(replay.position + added) % capacity,
        size=jnp.minimum(replay.size + added, capacity),
    )


def sample(replay: Replay, key: chex.PRNGKey, num_rows: int) -> Any:
    """``num_rows`` rows drawn uniformly with replacement from the filled part.

    An empty buffer gives rows of zeros.
    """
    # The modulo's bias is below capacity / 2**32.
    bits = jax.random.bits(key, (num_rows,), jnp.uint32)
    index = (bits % jnp.maximum(replay.size, 1).astype(jnp.uint32)).astype(jnp.int32)
    return jax.tree.map(lambda leaf: leaf[index], replay.rows)


def pack_mask(mask: chex.Array) -> chex.Array:
    """bool ``[..., n]`` to uint8 ``[..., ceil(n / 8)]``, one bit per entry."""
    return jnp.packbits(mask, axis=-1)


def unpack_mask(packed: chex.Array, size: int) -> chex.Array:
    """The inverse of `pack_mask` for masks of ``size`` entries."""
    return jnp.unpackbits(packed, axis=-1, count=size).astype(bool)
