"""Masked categorical distributions over the last axis."""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp

_MASKED_LOGIT = -1e9


def masked_logits(logits: chex.Array, mask: chex.Array) -> chex.Array:
    """``logits`` with -1e9 where ``mask`` is False."""
    return jnp.where(mask, logits, jnp.asarray(_MASKED_LOGIT, logits.dtype))


def masked_policy(logits: chex.Array, mask: chex.Array) -> tuple[chex.Array, chex.Array]:
    """pi(a|s), exactly 0 where invalid, and log pi(a|s), set to 0 there (0*log 0 := 0)."""
    log_probability = jax.nn.log_softmax(masked_logits(logits, mask), axis=-1)
    log_probability = jnp.where(mask, log_probability, 0.0)
    return jnp.where(mask, jnp.exp(log_probability), 0.0), log_probability


def draw(uniform: chex.Array, probability: chex.Array, mask: chex.Array) -> chex.Array:
    """The value at which the cumulative probability passes ``uniform``: never a masked one.

    Args:
        uniform: in [0, 1), ``[...]``.
        probability: ``[..., n]``, 0 where masked.
        mask: bool, ``[..., n]``.

    Returns:
        int32 ``[...]``.
    """
    # Two levels: a cumulative sum over a long axis is slow.
    size = probability.shape[-1]
    row = max(8, math.isqrt(size))
    pad = [(0, 0)] * (probability.ndim - 1) + [(0, -size % row)]
    rows = jnp.pad(probability, pad).reshape(*probability.shape[:-1], -1, row)
    allowed = jnp.pad(mask, pad).reshape(rows.shape)
    before = jnp.cumsum(jnp.sum(rows, axis=-1), axis=-1)
    goal = uniform * before[..., -1]
    chosen = _first(before >= goal[..., None], jnp.any(allowed, axis=-1))
    inside, allowed = (
        jnp.take_along_axis(x, chosen[..., None, None], axis=-2)[..., 0, :] for x in (rows, allowed)
    )
    reached = jnp.take_along_axis(before, chosen[..., None], axis=-1)[..., 0]
    left = goal - (reached - jnp.sum(inside, axis=-1))
    place = _first(jnp.cumsum(inside, axis=-1) >= left[..., None], allowed)
    return (chosen * row + place).astype(jnp.int32)


def _first(passed: chex.Array, mask: chex.Array) -> chex.Array:
    """The first allowed index that has passed, or where rounding leaves none the last allowed."""
    last = mask.shape[-1] - 1 - jnp.argmax(mask[..., ::-1], axis=-1)
    first = jnp.argmax(passed & mask, axis=-1)
    return jnp.where(jnp.any(passed & mask, axis=-1), first, last)
