"""Batches along the last axis, for functions that are called on one instance and vmapped.

`jax.vmap` puts the batch first, so the innermost loops run over the few devices of an instance. On
a CPU, LLVM then unrolls every such loop and gathers across instances: compiling takes many times
longer, and so does running. A function that `batched_last` wraps sees the batch as the last axis,
contiguous, whatever the nesting of `jax.vmap` around it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

LANES_PER_PART = 256


def _in_parts(fun: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """``fun`` of many lanes; on a CPU part after part, so that the arrays stay in its cache."""
    lanes = jax.tree.leaves(args)[0].shape[-1]
    parts, rest = divmod(lanes, LANES_PER_PART)
    if parts < 2 or jax.default_backend() != "cpu":
        return fun(*args)
    whole = lanes - rest

    def divide(x: jax.Array) -> jax.Array:
        x = x[..., :whole].reshape(*x.shape[:-1], parts, LANES_PER_PART)
        return jnp.moveaxis(x, -2, 0)

    def unite(x: jax.Array) -> jax.Array:
        x = jnp.moveaxis(x, 0, -2)
        return x.reshape(*x.shape[:-2], whole)

    out = jax.tree.map(unite, jax.lax.map(lambda part: fun(*part), jax.tree.map(divide, args)))
    if not rest:
        return out
    last = fun(*jax.tree.map(lambda x: x[..., whole:], args))
    return jax.tree.map(lambda x, y: jnp.concatenate([x, y], axis=-1), out, last)


def batched_last(fun: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one instance from one of many, the instances along the last axis of all arrays.

    Reverse-mode derivatives do not pass; stop gradients before.

    Args:
        fun: pytrees of arrays ``[..., L]`` to a pytree of arrays ``[..., L]``; L is any number.

    Returns:
        The same function of arrays ``[...]``, for `jax.vmap`.
    """
    folded = jax.custom_batching.custom_vmap(fun)

    @folded.def_vmap
    def fold(size: int, is_batched: Any, *args: Any) -> tuple[Any, Any]:
        num = jax.tree.leaves(args)[0].shape[-1]

        def join(x: jax.Array, batched: bool) -> jax.Array:
            shape = x.shape[1:] if batched else x.shape
            x = (
                jnp.moveaxis(x, 0, -1)
                if batched
                else jnp.broadcast_to(x[..., None], (*shape, size))
            )
            return x.reshape(*shape[:-1], num * size)

        def split(x: jax.Array) -> jax.Array:
            return jnp.moveaxis(x.reshape(*x.shape[:-1], num, size), -1, 0)

        out = _in_parts(folded, jax.tree.map(join, args, tuple(is_batched)))
        return jax.tree.map(split, out), jax.tree.map(lambda _: True, out)

    def of_one(*args: Any) -> Any:
        out = folded(*jax.tree.map(lambda x: jnp.asarray(x)[..., None], args))
        return jax.tree.map(lambda x: x[..., 0], out)

    return of_one
