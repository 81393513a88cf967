"""Action and observation spaces: frozen, hashable descriptions of shapes, dtypes and ranges."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Discrete:
    """Integers ``0 .. num_values - 1``; a mask is ``bool[num_values]``."""

    num_values: int

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.int32)

    def mask(self) -> chex.Array:
        """The mask that allows every value."""
        return jnp.ones((self.num_values,), bool)

    def sample(self, key: chex.PRNGKey, mask: chex.Array | None = None) -> chex.Array:
        """One value, uniform over those allowed by ``mask``."""
        mask = self.mask() if mask is None else mask
        count = jnp.sum(mask, dtype=jnp.int32)
        drawn = jax.random.uniform(key, (), jnp.float32) * count.astype(jnp.float32)
        return nth_allowed(mask, jnp.minimum(drawn.astype(jnp.int32), count - 1))

    def contains(self, value: Any) -> chex.Array:
        value = jnp.asarray(value)
        return jnp.all((value >= 0) & (value < self.num_values))


@dataclasses.dataclass(frozen=True)
class MultiDiscrete:
    """A vector of integers, entry ``i`` in ``0 .. num_values[i] - 1``.

    A mask is ``bool[len(num_values), max(num_values)]``; columns beyond an entry's range are False.
    """

    num_values: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.num_values),)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.int32)

    def mask(self) -> chex.Array:
        """The mask that allows every value of every entry."""
        return jnp.arange(max(self.num_values)) < jnp.asarray(self.num_values)[:, None]

    def sample(self, key: chex.PRNGKey, mask: chex.Array | None = None) -> chex.Array:
        """One vector, each entry uniform over the values allowed by its row of ``mask``."""
        mask = self.mask() if mask is None else mask
        allowed = counts(mask)
        count = allowed[:, -1]
        drawn = jax.random.uniform(key, count.shape, jnp.float32) * count
        rank = jnp.minimum(jnp.floor(drawn), count - 1)
        return jnp.sum(allowed <= rank[:, None], axis=-1, dtype=jnp.int32)

    def contains(self, value: Any) -> chex.Array:
        value = jnp.asarray(value)
        return jnp.all((value >= 0) & (value < jnp.asarray(self.num_values)))


@dataclasses.dataclass(frozen=True)
class Box:
    """Arrays of one shape and float dtype with entries in ``[low, high]``."""

    low: float
    high: float
    shape: tuple[int, ...]
    dtype: np.dtype = dataclasses.field(default=np.dtype(np.float32))

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def mask(self) -> None:
        return None

    def sample(self, key: chex.PRNGKey, mask: None = None) -> chex.Array:
        """Uniform in the box; standard normal where the box is unbounded."""
        if math.isfinite(self.low) and math.isfinite(self.high):
            return jax.random.uniform(key, self.shape, self.dtype, self.low, self.high)
        return jnp.clip(jax.random.normal(key, self.shape, self.dtype), self.low, self.high)

    def contains(self, value: Any) -> chex.Array:
        value = jnp.asarray(value)
        return jnp.all((value >= self.low) & (value <= self.high))


@dataclasses.dataclass(frozen=True)
class Tuple:
    """A tuple of spaces; values and masks are tuples."""

    spaces: tuple[Any, ...]

    def mask(self) -> tuple[Any, ...]:
        return tuple(space.mask() for space in self.spaces)

    def sample(self, key: chex.PRNGKey, mask: tuple[Any, ...] | None = None) -> tuple[Any, ...]:
        masks = mask if mask is not None else (None,) * len(self.spaces)
        keys = jax.random.split(key, len(self.spaces))
        return tuple(s.sample(k, m) for s, k, m in zip(self.spaces, keys, masks, strict=True))

    def contains(self, value: Any) -> chex.Array:
        inside = [s.contains(v) for s, v in zip(self.spaces, value, strict=True)]
        return jnp.all(jnp.stack(inside))


ROW = 32
Space = Discrete | MultiDiscrete | Box | Tuple


def nth_allowed(mask: chex.Array, rank: chex.Array) -> chex.Array:
    """Index of the ``rank``-th True (from 0) of a vector, int32; 0 if ``rank`` is negative.

    Of a long vector it counts rows of `ROW` entries first.
    """
    if len(mask) <= ROW:
        return jnp.sum(counts(mask) <= rank, dtype=jnp.int32)
    rows = jnp.pad(mask, (0, -len(mask) % ROW)).reshape(-1, ROW)
    count = jnp.cumsum(jnp.sum(rows, axis=1, dtype=jnp.int32))
    row = jnp.sum(count <= rank, dtype=jnp.int32)
    left = rank - jnp.where(row > 0, count[row - 1], 0)
    return row * ROW + jnp.sum(counts(rows[row]) <= left, dtype=jnp.int32)


def counts(mask: chex.Array) -> chex.Array:
    """How many are True up to each entry of the last axis, float32 (exact below 2^24).

    A product with a triangular matrix: a cumulative sum is several times as slow on a CPU.
    """
    size = mask.shape[-1]
    return mask.astype(jnp.float32) @ np.triu(np.ones((size, size), np.float32))
