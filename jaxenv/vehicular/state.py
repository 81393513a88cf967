"""The state of the vehicular system: what an episode draws, tasks in flight, clock and sums."""

from __future__ import annotations

import chex
import jax.numpy as jnp

from jaxenv import struct
from jaxenv.environment import State
from jaxenv.vehicular.params import VehicularParams

IDLE, LOCAL, UPLOAD, HELPER, WIRED, DELIVERER, ENDED = range(7)
NONE, SUCCESS, UPLOAD_FAILURE, DELIVERY_FAILURE, LEFT_ROAD, UNFINISHED = range(6)
FAILURES = ("upload_failures", "delivery_failures", "left_road", "unfinished")


@struct.dataclass
class Draws:
    """What an episode draws at its start."""

    position_m: chex.Array  # [V] m at slot 0
    speed_mps: chex.Array  # [V] m/s
    power_dbm: chex.Array  # [V] dBm
    vehicle_gflops: chex.Array  # [V], GFLOP/s
    trace_row: chex.Array  # int32, row of slot 0


@struct.dataclass
class Tasks:
    """What a decision fixes, per vehicle."""

    helper: chex.Array  # [V] int32 RSU
    deliverer: chex.Array  # [V] int32 RSU
    helper_position_m: chex.Array  # [V] m, centre of the helper's copy of the road, y_h
    deliverer_position_m: chex.Array  # [V] m, y_d
    work: chex.Array  # [5, V] W_1..W_5 in GFLOP or Mbit; W_2 = 0 means Local
    bandwidth_mhz: chex.Array  # [V] MHz, B_h
    power_over_noise_db: chex.Array  # [V] dB, P_i over the noise of the band B_h
    helper_gflops: chex.Array  # [V] GFLOP/s, C_h
    deliverer_gflops: chex.Array  # [V] GFLOP/s, C_d
    local_s: chex.Array  # [V] s, latency of Local, sum x'/c
    slot: chex.Array  # [V] int32 slot of submission
    decision: chex.Array  # [V] int32 index of the decision in the episode, -1 if none


@struct.dataclass
class Progress:
    """What a turn of the event loop changes."""

    slot: chex.Array  # int32 k
    tau: chex.Array  # s since the start of the slot
    fresh: chex.Array  # bool: no event of this slot has run yet
    phase: chex.Array  # [V] int32, IDLE to DELIVERER
    remaining: chex.Array  # [V] GFLOP or Mbit left of the phase
    weight: chex.Array  # [V] share weight, kept by share_weights="remaining" and allocation="insga"
    entry_slot: chex.Array  # [V] int32, when the phase (fifo) or the upload (serial) began
    entry_tau: chex.Array  # [V] s into that slot
    asking: chex.Array  # [V] bool: waits for a decision in this slot
    network: chex.Array  # [V] int32 network of the task
    outcome: chex.Array  # [V] int32 how a task ended during this step, NONE to UNFINISHED
    latency_s: chex.Array  # [V] s, mu of that task
    turns: chex.Array  # int32 turns of this step


@struct.dataclass
class Totals:
    """Sums over the episode."""

    outcomes: chex.Array  # [6] int32 number of tasks by outcome
    latency_s: chex.Array  # s, of tasks that succeeded
    cost_s: chex.Array  # s, of all tasks


@struct.dataclass
class VehicularState(State):
    """The state: the episode's draws, tasks in flight, the event clock, and sums.

    vehicle: int32, the vehicle that asks. decisions: int32, taken so far. finished: bool, the
    episode is over. carried_cost: Phi, the cost in s of all tasks in flight if nobody else submits
    (reward_mode="marginal"). last_observation: seen when arrivals ended.
    """

    vehicle: chex.Array
    draws: Draws
    tasks: Tasks
    progress: Progress
    totals: Totals
    decisions: chex.Array
    finished: chex.Array
    carried_cost: chex.Array
    last_observation: chex.Array | None  # None with reward_mode="completion"


def next_phase(work: chex.Array, phase: chex.Array) -> tuple[chex.Array, chex.Array]:
    """The next phase with work and its work, from ``work [5, V]`` and ``phase [V]``.

    Phases without work take no time and are skipped; after the last one comes ``ENDED``.
    """
    following, entered = jnp.full_like(phase, ENDED), jnp.zeros_like(work[0])
    for candidate in reversed(range(LOCAL, ENDED)):
        amount = work[candidate - 1]
        opens = (phase < candidate) & (amount > 0)
        following = jnp.where(opens, candidate, following)
        entered = jnp.where(opens, amount, entered)
    return following, entered


def task_costs(now: Progress, params: VehicularParams) -> chex.Array:
    """Cost in s of every task that ended: mu on success, omega * mu on failure, ``[V]``."""
    failed = now.outcome > SUCCESS
    weight = jnp.where(failed, params.failure_weight, 1)
    return jnp.where(now.outcome > NONE, weight * now.latency_s, 0).astype(now.latency_s.dtype)
