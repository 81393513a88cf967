"""A while loop that `jax.vmap` turns into one loop over lanes which drops the lanes that are done.

Under plain vmap a while loop computes every lane until the slowest is done. Here the lanes still
active are gathered into a smaller array whenever only a fraction is left, and scattered back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

SHRINK = 4
SMALLEST = 32

Cond = Callable[[Any, Any], chex.Array]
Body = Callable[[Any, Any], Any]


def while_loop(cond: Cond, body: Body, operands: Any, carry: Any) -> Any:
    """``while cond(operands, carry): carry = body(operands, carry)``.

    ``cond`` and ``body`` must be written for leaves with an optional TRAILING batch axis: a vector
    over vehicles is ``[V]`` or ``[V, lanes]``, a scalar ``[]`` or ``[lanes]``; reductions name axis
    0. Vectors of ``operands`` that are the same for all lanes come as ``[V, 1]``. Batch-last arrays
    keep all lanes of one quantity contiguous. The result is that of `jax.lax.while_loop`.
    """

    @jax.custom_batching.custom_vmap
    def run(operands: Any, carry: Any) -> Any:
        return jax.lax.while_loop(lambda c: cond(operands, c), lambda c: body(operands, c), carry)

    @run.def_vmap
    def rule(size: int, batched: list[Any], operands: Any, carry: Any) -> tuple[Any, Any]:
        operand_batched, carry_batched = batched
        operands, carry = jax.tree.map(jnp.asarray, (operands, carry))
        carry = jax.tree.map(lambda b, x: _lanes_last(b, x, size), carry_batched, carry)
        operands = jax.tree.map(
            lambda b, x: jnp.moveaxis(x, 0, -1) if b else _shared(x), operand_batched, operands
        )
        carry = _run_lanes(cond, body, size, operand_batched, operands, carry)
        carry = jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), carry)
        return carry, jax.tree.map(lambda _: True, carry)

    return run(operands, carry)


def _lanes_last(batched: bool, x: chex.Array, size: int) -> chex.Array:
    """``x`` with its batch axis last; broadcast along a new one where it has none."""
    return jnp.moveaxis(x, 0, -1) if batched else jnp.broadcast_to(x[..., None], (*x.shape, size))


def _shared(x: chex.Array) -> chex.Array:
    """``x`` such that it broadcasts against lanes."""
    return x[..., None] if x.ndim else x


def per_lane(function: Callable[..., Any], ndims: tuple[int, ...], *args: chex.Array) -> Any:
    """``function(*args)`` within a body: once for one lane, or mapped over the trailing axis.

    ``ndims`` are the numbers of dimensions that ``function`` expects; an argument with one more has
    lanes, or is shared by all lanes if that axis has length 1.
    """
    extra = [a.ndim > n for a, n in zip(args, ndims, strict=True)]
    lanes = [more and a.shape[-1] > 1 for more, a in zip(extra, args, strict=True)]
    args = tuple(
        a[..., 0] if more and not many else a
        for more, many, a in zip(extra, lanes, args, strict=True)
    )
    if any(lanes):
        axes = tuple(-1 if many else None for many in lanes)
        return jax.vmap(function, in_axes=axes, out_axes=-1)(*args)
    out = function(*args)
    return jax.tree.map(lambda x: x[..., None], out) if any(extra) else out


def map_due(
    function: Callable[[chex.Array], chex.Array], due: chex.Array, size: int, dtype: Any
) -> chex.Array:
    """``function(i)``, a vector of ``size``, for the indices i with ``due[i]``; 0 for the others.

    Works off the due indices a chunk at a time, so that its cost follows their number.

    Returns:
        ``[size, len(due)]``.
    """
    count = due.shape[0]
    chunk = min(SMALLEST, count)

    def turn(carry: tuple[chex.Array, chex.Array]) -> tuple[chex.Array, chex.Array]:
        left, out = carry
        index = jnp.nonzero(left, size=chunk, fill_value=count)[0]
        part = jax.vmap(function, out_axes=-1)(jnp.minimum(index, count - 1))
        return left.at[index].set(False, mode="drop"), out.at[:, index].set(part, mode="drop")

    start = (due, jnp.zeros((size, count), dtype))
    return jax.lax.while_loop(lambda carry: jnp.any(carry[0]), turn, start)[1]


def _run_lanes(
    cond: Cond, body: Body, size: int, operand_batched: Any, operands: Any, carry: Any
) -> Any:
    """The loop over ``size`` lanes. An outer vmap is folded into the lanes."""

    @jax.custom_batching.custom_vmap
    def run(operands: Any, carry: Any) -> Any:
        valid = jnp.ones((size,), bool)
        return _compacting(cond, body, size, operand_batched, operands, carry, valid)

    @run.def_vmap
    def rule(outer: int, batched: list[Any], operands: Any, carry: Any) -> tuple[Any, Any]:
        outer_operand_batched, outer_carry_batched = batched
        operands, carry = jax.tree.map(jnp.asarray, (operands, carry))

        def fold(inner: bool, outer_batched: bool, x: chex.Array) -> chex.Array:
            if not inner and not outer_batched:
                return x
            x = x if outer_batched else jnp.broadcast_to(x, (outer, *x.shape))
            if not inner:
                x = x if x.ndim > 1 else x[..., None]
                x = jnp.broadcast_to(x, (*x.shape[:-1], size))
            x = jnp.moveaxis(x, 0, -2)
            return x.reshape(*x.shape[:-2], outer * size)

        operands = jax.tree.map(fold, operand_batched, outer_operand_batched, operands)
        either = jax.tree.map(lambda a, b: a or b, operand_batched, outer_operand_batched)
        carry = jax.tree.map(lambda b, x: fold(True, b, x), outer_carry_batched, carry)
        carry = _run_lanes(cond, body, outer * size, either, operands, carry)
        carry = jax.tree.map(
            lambda x: jnp.moveaxis(x.reshape(*x.shape[:-1], outer, size), -2, 0), carry
        )
        return carry, jax.tree.map(lambda _: True, carry)

    return run(operands, carry)


def _compacting(
    cond: Cond,
    body: Body,
    size: int,
    operand_batched: Any,
    operands: Any,
    carry: Any,
    valid: chex.Array,
) -> Any:
    """Runs all lanes until at most a quarter is active, then those alone, and so on."""
    smaller = math.ceil(size / SHRINK)
    target = smaller if smaller >= SMALLEST else 0

    def active(carry: Any) -> chex.Array:
        return cond(operands, carry) & valid

    def turn(carry_active: tuple[Any, chex.Array]) -> tuple[Any, chex.Array]:
        carry, mask = carry_active
        after = body(operands, carry)
        carry = jax.tree.map(lambda new, old: jnp.where(mask, new, old), after, carry)
        return carry, active(carry)

    def more(carry_active: tuple[Any, chex.Array]) -> chex.Array:
        if target == 0:
            return jnp.any(carry_active[1])
        return jnp.sum(carry_active[1], dtype=jnp.int32) > target

    carry, mask = jax.lax.while_loop(more, turn, (carry, active(carry)))
    if target == 0:
        return carry

    def gathered(carry: Any) -> Any:
        index = jnp.nonzero(mask, size=target, fill_value=size)[0]

        def take(x: chex.Array) -> chex.Array:
            return jnp.take(x, index, axis=-1, mode="clip")

        part_operands = jax.tree.map(lambda b, x: take(x) if b else x, operand_batched, operands)
        part = _compacting(
            cond,
            body,
            target,
            operand_batched,
            part_operands,
            jax.tree.map(take, carry),
            index < size,
        )
        return jax.tree.map(lambda x, y: x.at[..., index].set(y, mode="drop"), carry, part)

    return jax.lax.cond(jnp.any(mask), gathered, lambda carry: carry, carry)
