"""Lanes: trainings of one program side by side, the seeds of one job or of several.

Every leaf of their states has a leading axis of lanes. Scenarios and hyperparameters have it where
jobs differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from agents.learner import Learner
from agents.spread import sharding, spread


def strong_init(learner: Learner, key: chex.PRNGKey, params: Any, hp: Any) -> Any:
    """``learner.init`` without weak types, as a state read from a checkpoint has none."""

    def strong(leaf: chex.Array) -> chex.Array:
        leaf = jnp.asarray(leaf)
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return leaf if is_key else jax.lax.convert_element_type(leaf, leaf.dtype)

    return jax.tree.map(strong, learner.init(key, params, hp))


def compiled_chunk(
    learner: Learner, axes: tuple[Any, Any, Any], length: int, mesh: Mesh | None = None
) -> Callable[..., Any]:
    """``(states, params, hp) -> (states, metrics)`` of ``length`` updates on every lane.

    mesh: of devices that share the lanes equally. Metrics are means over the chunk of what is not
    NaN, ``[num_lanes]`` each.
    """

    def chunk(state: Any, params: Any, hp: Any) -> tuple[Any, dict[str, chex.Array]]:
        def turn(state: Any, _: None) -> tuple[Any, dict[str, chex.Array]]:
            return learner.update(state, params, hp)

        state, metrics = jax.lax.scan(turn, state, None, length=length)
        return state, {name: jnp.nanmean(values, axis=0) for name, values in metrics.items()}

    function = spread(over_lanes(chunk, axes), mesh, axes)
    where = None if mesh is None else sharding(mesh)
    return jax.jit(function, donate_argnums=0, out_shardings=where)


def over_lanes(
    function: Callable[..., Any], axes: tuple[Any, ...], sequential: bool | None = None
) -> Callable[..., Any]:
    """``function`` on every lane.

    axes: of its arguments, 0 or None at each leaf or prefix. sequential: lane after lane, as suits
    a CPU, where products of batched matrices are slow; else all at once, as suits an accelerator.
    None decides by the default device.
    """
    if sequential is None:
        sequential = jax.default_backend() == "cpu"
    if not sequential:
        return jax.vmap(function, in_axes=axes)

    def absent(x: Any) -> bool:
        return x is None  # an axis that is None, or an argument's field without a value

    def run(*arguments: Any) -> Any:
        leaves, structure = jax.tree.flatten(arguments, is_leaf=absent)
        axis = jax.tree.leaves(jax.tree.broadcast(axes, arguments, is_leaf=absent), is_leaf=absent)
        split = [a == 0 and x is not None for x, a in zip(leaves, axis, strict=True)]
        lanes = [x for x, is_lane in zip(leaves, split, strict=True) if is_lane]

        def one(lane: list[chex.Array]) -> Any:
            own = iter(lane)
            mixed = [next(own) if is_lane else x for x, is_lane in zip(leaves, split, strict=True)]
            return function(*jax.tree.unflatten(structure, mixed))

        return jax.lax.map(one, lanes)

    return run


def stack_lanes(trees: Sequence[Any], num_seeds: int) -> tuple[Any, Any]:
    """One tree for all lanes and its ``vmap`` axes: leaves that no job changes stay shared."""
    structure = jax.tree.structure(trees[0])
    leaves, axes = [], []
    for versions in zip(*map(jax.tree.leaves, trees), strict=True):
        shared = all(np.array_equal(version, versions[0]) for version in versions)
        leaves.append(versions[0] if shared else jnp.repeat(jnp.stack(versions), num_seeds, axis=0))
        axes.append(None if shared else 0)
    return jax.tree.unflatten(structure, leaves), jax.tree.unflatten(structure, axes)


def split_lanes(tree: Any, count: int) -> list[Any]:
    """The lanes of each of ``count`` jobs that have equally many, one job after the other."""
    if count == 1:
        return [tree]

    def part(leaf: chex.Array, index: int) -> chex.Array:
        size = leaf.shape[0] // count
        return leaf[index * size : (index + 1) * size]

    return [jax.tree.map(partial(part, index=i), tree) for i in range(count)]
