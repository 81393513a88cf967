"""The state of the services system, and what becomes of the requests of a slot."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax.numpy as jnp

from jaxenv import struct
from jaxenv.environment import State


@struct.dataclass
class Slot:
    """What a slot brings.

    local_server: int32 ``[n]`` v, where each request arrives. deadline_s, data_mb: ``[n]``.
    system_tflop, used_mb: ``[K]`` work and memory already on the servers.
    """

    local_server: chex.Array
    deadline_s: chex.Array
    data_mb: chex.Array
    system_tflop: chex.Array
    used_mb: chex.Array


@struct.dataclass
class ServicesState(State):
    """slot: the one that is to be decided."""

    slot: Slot


class Demand(NamedTuple):
    """What actions ask for, of any shape: nothing in it depends on other requests.

    server, instance: int32, the latter numbers (service, model, server). alone_s: delay on an
    otherwise empty server. data_mb, model_mb: what it puts into memory. room_mb: what is free
    there. work_tflop, tflops: of the request and its server. accuracy: standardised, if accepted.
    cost_rou, cost_cmp: $.
    """

    server: chex.Array
    instance: chex.Array
    alone_s: chex.Array
    deadline_s: chex.Array
    data_mb: chex.Array
    model_mb: chex.Array
    room_mb: chex.Array
    work_tflop: chex.Array
    tflops: chex.Array
    accuracy: chex.Array
    cost_rou: chex.Array
    cost_cmp: chex.Array


class Outcome(NamedTuple):
    """Admission of all requests, ``[n]`` each.

    delay_s: of a rejected request, what it would have been. started_mb: memory of the model
    instance that a request starts.
    """

    accepted: chex.Array
    late: chex.Array
    delay_s: chex.Array
    started_mb: chex.Array


Accepted = tuple[chex.Array, chex.Array, chex.Array]


def admit_next(
    earlier: Accepted, row: tuple[chex.Array, chex.Array, chex.Array, Demand]
) -> tuple[Accepted, Outcome]:
    """Admits one request.

    Args:
        earlier: whether requests were accepted, with which work and into how much memory, ``[n]``.
        row: which request it is, which earlier ones are on its server, and which of these run its
            model, all bool ``[n]``; what it asks for.
    """
    accepted, work_tflop, memory_mb = earlier
    here, beside, alike, own = row
    queue_tflop = jnp.sum(jnp.where(beside, work_tflop, 0))
    used_mb = jnp.sum(jnp.where(beside, memory_mb, 0))
    model_mb = jnp.where(jnp.any(alike & accepted), 0, own.model_mb)
    delay_s = own.alone_s + queue_tflop / own.tflops
    late = delay_s > own.deadline_s
    need_mb = own.data_mb + model_mb
    ok = ~late & (used_mb + need_mb <= own.room_mb)
    earlier = (
        accepted | (here & ok),
        jnp.where(here & ok, own.work_tflop, work_tflop),
        jnp.where(here & ok, need_mb, memory_mb),
    )
    return earlier, Outcome(ok, late, delay_s, jnp.where(ok, model_mb, 0))
