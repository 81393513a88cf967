"""Discrete and MultiDiscrete actions as branches, or as one joint choice.

A Discrete space has one branch; a MultiDiscrete space has one per entry. The joint choice of B
branches of K values numbers all K**B vectors, the last entry fastest.
"""

from __future__ import annotations

import dataclasses

import chex
import jax.numpy as jnp
import numpy as np

from agents.distributions import masked_logits
from jaxenv import spaces

MAX_JOINT = 20_000


@dataclasses.dataclass(frozen=True)
class Branches:
    """Shape of an action space: ``count`` entries of at most ``choices`` values each.

    scalar: whether an action is one number, not a vector. joint: one choice among all vectors.
    """

    count: int
    choices: int
    scalar: bool
    joint: bool = False

    @classmethod
    def of(cls, space: spaces.Space, joint: bool = False) -> Branches:
        """The branches of a Discrete or MultiDiscrete space."""
        if isinstance(space, spaces.Discrete):
            return cls(1, space.num_values, scalar=True, joint=joint)
        return cls(len(space.num_values), max(space.num_values), scalar=False, joint=joint)

    @property
    def heads(self) -> int:
        """Distributions that a policy has."""
        return 1 if self.joint else self.count

    @property
    def outputs(self) -> int:
        """Values of each of them."""
        return self.choices**self.count if self.joint else self.choices

    def head_mask(self, mask: chex.Array) -> chex.Array:
        """An environment's mask, ``[..., K]`` or ``[..., B, K]``, as ``[..., heads, outputs]``."""
        if self.scalar:
            return mask[..., None, :]
        if not self.joint:
            return mask
        lead = mask.shape[:-2]
        valid = jnp.ones((*lead, 1), bool)
        for branch in range(self.count):
            valid = (valid[..., :, None] & mask[..., branch, None, :]).reshape(*lead, -1)
        return valid[..., None, :]

    def action(self, choice: chex.Array) -> chex.Array:
        """The environment's action of a choice per head, int32 ``[..., heads]``."""
        if self.scalar:
            return choice[..., 0]
        return self._digits(choice[..., 0]) if self.joint else choice

    def choice(self, action: chex.Array) -> chex.Array:
        """The inverse of `action`."""
        if self.scalar:
            return action[..., None]
        if not self.joint:
            return action
        weights = jnp.asarray(self._weights, jnp.int32)
        return jnp.sum(action * weights, axis=-1, keepdims=True, dtype=jnp.int32)

    def best(self, values: chex.Array, mask: chex.Array) -> tuple[chex.Array, chex.Array]:
        """The valid joint choice of the largest value, the first at ties, and that value.

        It takes the maximum branch by branch, so no joint mask is built.

        Args:
            values: of the joint choices, ``[..., K**B]``.
            mask: the environment's, ``[..., K]`` or ``[..., B, K]``.

        Returns:
            int32 ``[...]`` and ``[...]``.
        """
        mask = mask[..., None, :] if self.scalar else mask
        levels = []
        for branch in reversed(range(self.count)):
            values = values.reshape(*values.shape[: mask.ndim - 2], -1, self.choices)
            levels.append(masked_logits(values, mask[..., branch, None, :]))
            values = jnp.max(levels[-1], axis=-1)
        choice = jnp.zeros(values.shape, jnp.int32)
        for level in reversed(levels):
            following = jnp.take_along_axis(level, choice[..., None], axis=-2)
            digit = jnp.argmax(following, axis=-1).astype(jnp.int32)
            choice = choice * self.choices + digit
        return choice[..., 0], values[..., 0]

    def _digits(self, number: chex.Array) -> chex.Array:
        return (number[..., None] // jnp.asarray(self._weights, jnp.int32)) % self.choices

    @property
    def _weights(self) -> np.ndarray:
        return self.choices ** np.arange(self.count - 1, -1, -1)


def unsupported(space: spaces.Space, joint: bool = False) -> str | None:
    """Why a space has no branches, or no joint choice, or None where it has."""
    if not isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        return f"it needs a Discrete or MultiDiscrete action space, not {type(space).__name__}"
    branches = Branches.of(space, joint)
    if joint and branches.outputs > MAX_JOINT:
        return f"{branches.choices}^{branches.count} joint actions are more than {MAX_JOINT}"
    return None
