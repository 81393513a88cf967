"""Compiled calls and NumPy conversions for libraries whose environments live outside of JAX."""

from __future__ import annotations

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxenv import spaces
from jaxenv.environment import Environment


@partial(jax.jit, static_argnames="env")
def reset(env: Environment, params: Any, key: chex.PRNGKey) -> tuple[Any, Any, Any]:
    """``(observation, state, mask)`` of a new episode."""
    observation, state = env.reset(key, params)
    return observation, state, env.action_mask(state, params)


@partial(jax.jit, static_argnames="env")
def transition(env: Environment, params: Any, state: Any, action: Any) -> tuple[Any, ...]:
    """One step without reset: observation, state, reward, terminated, truncated, info."""
    return env.transition(state, action, params)


@partial(jax.jit, static_argnames="env")
def reset_batch(env: Environment, params: Any, keys: chex.PRNGKey) -> tuple[Any, Any, Any]:
    """`reset` of one environment per key."""
    return jax.vmap(partial(reset, env, params))(keys)


@partial(jax.jit, static_argnames="env")
def step_batch(
    env: Environment, params: Any, key: chex.PRNGKey, states: Any, actions: Any
) -> tuple[Any, ...]:
    """One step of every environment with automatic reset; the masks of the new states last."""

    def step(key: chex.PRNGKey, state: Any, action: Any) -> tuple[Any, ...]:
        observation, state, *rest = env.step(key, state, action, params)
        return observation, state, *rest, env.action_mask(state, params)

    keys = jax.random.split(key, jax.tree.leaves(actions)[0].shape[0])
    return jax.vmap(step)(keys, states, actions)


def draw_key(rng: np.random.Generator) -> chex.PRNGKey:
    """A key from a NumPy generator."""
    return jax.random.key(int(rng.integers(2**32)))


def as_action(space: spaces.Space, action: Any) -> Any:
    """An action of the environment from one of NumPy or Python."""
    if isinstance(space, spaces.Tuple):
        return tuple(as_action(s, a) for s, a in zip(space.spaces, action, strict=True))
    return jnp.asarray(action, space.dtype)


def to_numpy(tree: Any) -> Any:
    """Writable copies of all leaves; NumPy scalars of those without dimensions."""
    return jax.tree.map(lambda leaf: np.array(leaf)[()], jax.device_get(tree))


def entry_masks(space: spaces.Space, mask: Any) -> Any:
    """int8 masks in the form of Gymnasium's ``space.sample(mask)``.

    A vector for Discrete; a tuple with one per entry, each of its own length, for MultiDiscrete; a
    tuple for Tuple; tuples of these where ``mask`` has a leading axis of agents.
    """
    if mask is None:
        return None
    if isinstance(space, spaces.Tuple):
        return tuple(entry_masks(s, m) for s, m in zip(space.spaces, mask, strict=True))
    mask = np.asarray(mask)
    own = 1 if isinstance(space, spaces.Discrete) else 2
    if mask.ndim > own:
        return tuple(entry_masks(space, row) for row in mask)
    if own == 1:
        return mask.astype(np.int8)
    return tuple(
        row[:count].astype(np.int8) for row, count in zip(mask, space.num_values, strict=True)
    )


def flat_masks(space: spaces.Discrete | spaces.MultiDiscrete, mask: Any) -> np.ndarray:
    """bool ``[..., choices]``: choices of all entries, one after the other, as in sb3-contrib."""
    mask = np.array(mask, bool)
    if isinstance(space, spaces.Discrete):
        return mask
    parts = [mask[..., head, :count] for head, count in enumerate(space.num_values)]
    return np.concatenate(parts, axis=-1)
