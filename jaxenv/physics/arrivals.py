"""Arrivals: random numbers of a slot as a pure function of an episode's key and the slot."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike


def _mix(x: jax.Array) -> jax.Array:
    """A bijection of 32-bit words in which every input bit flips each output bit half of the time.

    Source: the finaliser of A. Appleby's MurmurHash3.
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def stream_words(key_data: ArrayLike, stream: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """The two words of ``fold_in(key, stream)``, from which `counted_bits` makes many.

    Args:
        key_data: raw data of a threefry key, uint32 ``[2]``. stream: integer.
    """
    key = jax.random.fold_in(jax.random.wrap_key_data(key_data, impl="threefry2x32"), stream)
    first, second = jax.random.key_data(key)
    return first, second


def counted_bits(first: ArrayLike, second: ArrayLike, index: ArrayLike) -> jax.Array:
    """The random word, uint32, at each index of a stream, by counting and mixing.

    It costs a tenth of a cryptographic hash per number.
    """
    index = jnp.asarray(index, jnp.uint32) * jnp.uint32(0x9E3779B9)
    return _mix(_mix(index + first) ^ second)


def slot_uniforms(key_data: ArrayLike, slot: ArrayLike, count: int, dtype: DTypeLike) -> jax.Array:
    """``count`` uniform numbers in [0, 1) of a slot, ``[count]``.

    They are `counted_bits` of the stream of that number. float32 and float64 give the same numbers
    to 2^-24.

    Args:
        key_data: raw data of a threefry key, uint32 ``[2]``. slot: integer.
        count: how many. dtype: of the result.
    """
    bits = counted_bits(*stream_words(key_data, slot), jnp.arange(count, dtype=jnp.uint32))
    if jnp.dtype(dtype) == jnp.float32:
        return (bits >> 8).astype(dtype) * jnp.asarray(2.0**-24, dtype)
    return bits.astype(dtype) * jnp.asarray(2.0**-32, dtype)


def poisson_table(mean: ArrayLike, size: int) -> jax.Array:
    """``P(N <= n | N <= size)`` of a Poisson number for n = 0 .. size - 1, ``[size, ...]``.

    ``sum(u >= poisson_table(mean, size))`` over the first axis is the number whose quantile u is,
    u < 1, cut off at ``size``: many times faster than rejection, at the price of a finite table.
    In float32 its terms add up to 1 only to some 1e-6; the division by their sum leaves no u above
    all of them.

    Args:
        mean: > 0, float, of the shape of the other axes. size: the largest number.
    """
    mean = jnp.asarray(mean)
    n = jnp.arange(size + 1, dtype=mean.dtype).reshape(-1, *(1,) * mean.ndim)
    log_probability = n * jnp.log(mean) - mean - jax.lax.lgamma(n + 1)
    table = jnp.cumsum(jnp.exp(log_probability), axis=0)
    return table[:-1] / table[-1]


def poisson_tail(mean: float, size: int) -> float:
    """P(N > size) of a Poisson number, by NumPy: what `poisson_table` cuts off."""
    n = np.arange(size + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, size + 1)))])
    return 1 - float(np.exp(n * math.log(mean) - mean - log_factorial).sum())


def normal_quantile(uniform: ArrayLike) -> jax.Array:
    """Standard normal numbers from uniform ones in [0, 1), within +-5.3: finite, symmetric."""
    uniform = jnp.asarray(uniform)
    most = 1 - 2.0**-24
    return math.sqrt(2) * jax.lax.erf_inv(jnp.clip(2 * uniform - most, -most, most))
