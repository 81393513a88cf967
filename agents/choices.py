"""Which actions a policy takes: counted inside compiled episodes, read and judged on the host."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxenv import spaces

COLLAPSED = 0.99
FEWEST_DECISIONS = 100  # of fewer, an agent's choices say nothing


@dataclasses.dataclass(frozen=True)
class Choices:
    """A part of an action that is Discrete or MultiDiscrete.

    heads: entries of an agent's. values: the most that one of them may take. agents: how many have
    it. path: indices that lead to it within a Tuple.
    """

    heads: int
    values: int
    agents: int
    path: tuple[int, ...] = ()

    def taken(self, action: Any, mask: Any, decides: chex.Array) -> tuple[chex.Array, ...]:
        """``(value, free, decides)`` of one decision: int32 and bool ``[agents * heads]``, bool.

        free: whether more than one value was valid.
        """
        for index in self.path:
            action, mask = action[index], mask[index]
        valid = jnp.reshape(mask, (-1, self.values))
        free = jnp.sum(valid, axis=-1, dtype=jnp.int32) > 1
        return jnp.reshape(action, (-1,)), free, decides

    def none(self) -> chex.Array:
        """The counts of no decision: uint32 ``[2, 2, agents * heads, values]``.

        The first axis are low and high words, the second all decisions and the free ones.
        """
        return jnp.zeros((2, 2, self.agents * self.heads, self.values), jnp.uint32)

    def add(self, counts: chex.Array, taken: tuple[chex.Array, ...]) -> chex.Array:
        """Counts after what was `taken` on every lane, leaves ``[lanes, ...]``."""
        value, free, decides = taken
        chosen = (value[..., None] == jnp.arange(self.values)) & decides[:, None, None]
        kinds = (chosen, chosen & free[..., None])
        more = jnp.stack([jnp.sum(kind, axis=0, dtype=jnp.uint32) for kind in kinds])
        low = counts[0] + more
        return jnp.stack([low, counts[1] + (low < more)])


def choices_of(space: spaces.Space, agents: int = 1, path: tuple[int, ...] = ()) -> list[Choices]:
    """The parts of an action space that are Discrete or MultiDiscrete; a Box has none."""
    if isinstance(space, spaces.Discrete):
        return [Choices(1, space.num_values, agents, path)]
    if isinstance(space, spaces.MultiDiscrete):
        return [Choices(math.prod(space.shape), max(space.num_values), agents, path)]
    if isinstance(space, spaces.Tuple):
        parts = enumerate(space.spaces)
        return [own for i, part in parts for own in choices_of(part, agents, (*path, i))]
    return []


def on_host(counts: chex.Array) -> np.ndarray:
    """Counts ``[(seeds,) devices, 2, 2, rows, values]`` as int64 ``[seeds, 2, rows, values]``."""
    words = np.asarray(jax.device_get(counts), np.int64)
    devices = words[..., 0, :, :, :] + (words[..., 1, :, :, :] << 32)
    return devices.sum(axis=-4).reshape(-1, *devices.shape[-3:])


def collapsed_agents(parts: list[Choices], counts: tuple[np.ndarray, ...]) -> np.ndarray:
    """Whether every entry of an agent's action has one value in nearly all of its free decisions.

    Args:
        parts: of the action space.
        counts: of each part, ``[seeds, 2, agents * heads, values]``.

    Returns:
        bool ``[seeds, agents]``: of at least `FEWEST_DECISIONS` free decisions, a share of at least
        `COLLAPSED`. Entries that were never free are not judged.
    """
    judged, same = [], []
    for part, own in zip(parts, counts, strict=True):
        free = own[:, 1].reshape(len(own), part.agents, part.heads, part.values)
        total = free.sum(-1)
        judged.append(total >= FEWEST_DECISIONS)
        same.append(free.max(-1) >= COLLAPSED * total)
    judged, same = np.concatenate(judged, axis=-1), np.concatenate(same, axis=-1)
    return judged.any(-1) & (same | ~judged).all(-1)
