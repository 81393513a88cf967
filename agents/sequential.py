"""Policies of several sub-actions, drawn one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from agents.branches import Branches
from agents.distributions import masked_logits, masked_policy
from agents.learner import Policy
from agents.networks import Inputs, Trunk, embed, head_init
from jaxenv import struct


class SequentialActor(nn.Module):
    """One agent's policy of several sub-actions, each of which sees those before it.

    Each sub-action has an LSTM cell of its own that gets the features of the observation and the
    sub-action before, and hands its state on; with ``autoregressive=False`` all come from one
    layer, independent of each other. Source: HISPER (`agents.hisper` has the reference), Fig. 2(a),
    eqs (24), (25).

    groups: entries of the observation with an embedding of their own. embedding: its width. hidden:
    widths of the layers. width: of the cells. heads, choices: sub-actions, values of each. cell:
    ``lstm``, or a ``dense`` layer that gets the features and all sub-actions before: with few
    sub-actions there is nothing to forget, and it learns several times faster. feed: a cell gets
    the sub-action drawn before (``sample``), or its distribution (``probs``). standardise: whether
    there are `Inputs`. relaxed: whether gradients pass through draws.
    """

    groups: Sequence[int]
    embedding: int
    hidden: Sequence[int]
    width: int
    heads: int
    choices: int
    autoregressive: bool = True
    feed: str = "sample"
    dtype: np.dtype = np.dtype(np.float32)
    cell: str = "lstm"
    standardise: bool = False
    relaxed: bool = True

    @nn.compact
    def __call__(
        self,
        observation: chex.Array,
        mask: chex.Array,
        noise: chex.Array,
        temperature: chex.Array | float = 1.0,
    ) -> tuple[chex.Array, chex.Array]:
        """Draws a value of every sub-action by the Gumbel trick.

        Args:
            observation: ``[..., D]``.
            mask: bool ``[..., heads, choices]``.
            noise: Gumbel, likewise; 0 gives the most probable values.
            temperature: of the relaxation that the gradient is taken of.

        Returns:
            One-hots ``[..., heads, choices]``, through which gradients pass straight, and
            log pi(a|o) ``[..., heads, choices]`` of all values, 0 where masked.
        """
        types = {"dtype": self.dtype, "param_dtype": self.dtype}
        if self.standardise:
            observation = Inputs(self.dtype, name="inputs")(observation)
        features = embed(observation, self.groups, self.embedding, self.dtype)
        features = Trunk(self.hidden, self.dtype)(features)
        small = head_init(0.01)
        if not self.autoregressive:
            logits = nn.Dense(self.heads * self.choices, kernel_init=small, **types)(features)
            logits = logits.reshape(*logits.shape[:-1], self.heads, self.choices)
            one_hot, _, log_probability = _straight_through(logits, mask, noise, temperature)
            return one_hot, log_probability
        zero = jnp.zeros((*features.shape[:-1], self.width), self.dtype)
        carry, drawn = (zero, zero), []
        previous = jnp.zeros((*features.shape[:-1], self.choices), self.dtype)
        before = features
        for head in range(self.heads):
            if self.cell == "dense":
                h = Trunk((self.width,), self.dtype)(before)
            else:
                # Flax's default for the recurrent weights is orthogonal: QR decompositions that
                # run beside each other under vmap can block all threads of a CPU for ever.
                init = {"recurrent_kernel_init": head_init(1.0)}
                cell = nn.OptimizedLSTMCell(self.width, **init, **types)
                carry, h = cell(carry, jnp.concatenate([features, previous], axis=-1))
            logits = nn.Dense(self.choices, kernel_init=small, **types)(h)
            one_hot, probability, log_probability = _straight_through(
                logits, mask[..., head, :], noise[..., head, :], temperature
            )
            if not self.relaxed:
                one_hot = jax.lax.stop_gradient(one_hot)
            previous = one_hot if self.feed == "sample" else probability
            before = jnp.concatenate([before, previous], axis=-1)
            drawn.append((one_hot, log_probability))
        one_hots, log_probabilities = zip(*drawn, strict=True)
        return jnp.stack(one_hots, axis=-2), jnp.stack(log_probabilities, axis=-2)


def _straight_through(
    logits: chex.Array, mask: chex.Array, noise: chex.Array, temperature: chex.Array | float
) -> tuple[chex.Array, chex.Array, chex.Array]:
    """A one-hot draw with the gradient of its relaxation; pi and log pi of all values."""
    noisy = masked_logits(logits + noise, mask)
    soft = jax.nn.softmax(noisy / temperature, axis=-1)
    hard = jax.nn.one_hot(jnp.argmax(noisy, axis=-1), logits.shape[-1], dtype=soft.dtype)
    return hard + soft - jax.lax.stop_gradient(soft), *masked_policy(logits, mask)


@struct.dataclass
class SequentialPolicy(Policy):
    """The learned policies: the most probable value of each sub-action in turn, or ``sample``."""

    actors: Any
    network: SequentialActor = struct.field(pytree_node=False)
    branches: Branches = struct.field(pytree_node=False)
    sample: bool = struct.field(pytree_node=False, default=False)

    def act(self, carry, key, observation, mask, state, params):
        mask = self.branches.head_mask(mask)
        noise = jnp.zeros(mask.shape, observation.dtype)
        if self.sample:
            noise = jax.random.gumbel(key, mask.shape, observation.dtype)
        one_hot, _ = jax.vmap(self.network.apply)(self.actors, observation, mask, noise)
        return self.branches.action(jnp.argmax(one_hot, axis=-1).astype(jnp.int32)), carry
