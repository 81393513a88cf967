"""Masked categorical distributions over the last axis."""

from __future__ import annotations

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
