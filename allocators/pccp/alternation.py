"""Algorithm 2: allocation and partitioning in turn."""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from allocators import struct
from allocators.choices import check_choice
from allocators.pccp.partition import (
    Start,
    algorithm1,
    cheapest_in_time,
    partitioning,
)
from allocators.robust import Allocation, Instance, allocate, bmin_table

Step = Literal["pccp", "exact"]


MAX_OUTER_STEPS = 15
ENERGY_TOLERANCE = 1e-5


@struct.dataclass
class Alternation:
    """Result of Algorithm 2.

    Attributes:
        best: allocation of least energy among the iterates; infeasible with the start.
        history: energies of the start and the accepted iterates, J, [16]; the last one repeats.
        steps: partition steps taken, int32 [].
        status: `CONVERGED`, `INFEASIBLE_START`, `INFEASIBLE_STEP` (the last partition does not fit
            into the bandwidth and is dropped) or `STEP_LIMIT`, int32 [].
        iterations: convex problems per partition step, int32 [15]; 0 after the last step, and for
            the exact step.
        rejected: rejected devices per partition step, int32 [15].
        nonbinary: devices that are not binary per partition step, int32 [15].
    """

    best: Allocation
    history: jax.Array
    steps: jax.Array
    status: jax.Array
    iterations: jax.Array
    rejected: jax.Array
    nonbinary: jax.Array


CONVERGED, INFEASIBLE_START, INFEASIBLE_STEP, STEP_LIMIT = range(4)


class _Outer(NamedTuple):
    """State of Algorithm 2: the last accepted allocation, and the points to allocate for next."""

    current: Allocation
    m: jax.Array
    result: Alternation
    done: jax.Array


def _outer_step(
    instance: Instance, step: Step, start: Start, literal_stop: ArrayLike, state: _Outer
) -> _Outer:
    """An allocation and the partition step after it; nothing changes where already done.

    The start is step 0 and counts as the step after -1.
    """
    current, m, result, done = state
    new = allocate(instance, m)
    first = result.steps < 0
    index = result.steps + 1
    settled = ~first & (jnp.abs(current.E - new.E) <= ENERGY_TOLERANCE * current.E)
    better = first | (new.E < result.best.E)
    later = jnp.arange(MAX_OUTER_STEPS + 1) >= index
    status = jnp.where(
        new.feasible,
        jnp.where(settled, CONVERGED, STEP_LIMIT),
        jnp.where(first, INFEASIBLE_START, INFEASIBLE_STEP),
    )
    stop = done | ~new.feasible | settled | (index >= MAX_OUTER_STEPS)
    problem = partitioning(instance, new.b, new.f)
    if step == "pccp":
        partition = algorithm1(problem, m, start, literal_stop, stop)
        m = partition.m
    else:
        partition, m = None, cheapest_in_time(problem)

    def record(log: jax.Array, name: str) -> jax.Array:
        here = (jnp.arange(MAX_OUTER_STEPS) == index) & ~stop
        return log if partition is None else jnp.where(here, getattr(partition, name), log)

    updated = Alternation(
        best=jax.tree.map(partial(jnp.where, better), new, result.best),
        history=jnp.where(later & (first | new.feasible), new.E, result.history),
        steps=index,
        status=status.astype(jnp.int32),
        iterations=record(result.iterations, "iterations"),
        rejected=record(result.rejected, "rejected"),
        nonbinary=record(result.nonbinary, "nonbinary"),
    )
    fresh = _Outer(new, m, updated, stop)
    return jax.tree.map(partial(jnp.where, done), state, fresh)


def algorithm2(
    instance: Instance,
    start: jax.Array | None = None,
    step: Step = "pccp",
    *,
    partition_start: Start = "uniform",
    literal_stop: bool = False,
) -> Alternation:
    """Algorithm 2: allocation and partitioning in turn, at most 15 times.

    It stops when a partition does not fit into the bandwidth, or when the energy changes by at most
    1e-5 of itself. An alternation is not a global method: it ends where it is stuck.

    Args:
        instance: N devices with M+1 points.
        start: first partitioning points, int [N]; by default those of least bandwidth, which are
            feasible whenever any are.
        step: "pccp" is Algorithm 1, "exact" the optimum of the same problem (29).
        partition_start: `start` of `pccp`.
        literal_stop: `literal_stop` of `pccp`.

    Raises:
        ValueError: unknown step or partition start.

    Source: robust paper, Algorithm 2.
    """
    check_choice(step, Step, "step")
    check_choice(partition_start, Start, "partition_start")
    if start is None:
        start = jnp.argmin(bmin_table(instance), axis=1)
    m = jnp.asarray(start).astype(jnp.int32)
    nothing = jax.eval_shape(allocate, instance, m)
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), nothing)
    none = jnp.zeros((MAX_OUTER_STEPS,), jnp.int32)
    history = jnp.zeros((MAX_OUTER_STEPS + 1,), nothing.E.dtype)
    result = Alternation(nothing, history, jnp.int32(-1), jnp.int32(STEP_LIMIT), none, none, none)
    body = partial(_outer_step, instance, step, partition_start, literal_stop)
    first = _Outer(nothing, m, result, jnp.zeros((), bool))
    return jax.lax.while_loop(lambda state: ~state.done, body, first).result
