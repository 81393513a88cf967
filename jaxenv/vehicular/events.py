"""The event loop: in which order uploads, computations, slots and arrivals follow each other.

Between two events everything advances at constant rates, so a turn is exact in continuous time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from jaxenv import loop
from jaxenv.physics import arrivals, mobility
from jaxenv.vehicular.params import VehicularParams
from jaxenv.vehicular.shares import Operands, Shares
from jaxenv.vehicular.state import (
    DELIVERY_FAILURE,
    ENDED,
    IDLE,
    LEFT_ROAD,
    NONE,
    SUCCESS,
    UNFINISHED,
    UPLOAD,
    UPLOAD_FAILURE,
    Progress,
    Tasks,
    VehicularState,
    next_phase,
    task_costs,
)


class Events(Shares):
    """Turns of the event loop, and runs of it: to the next decision, or to the end."""

    # ---- one turn ------------------------------------------------------------------------------
    # Everything here is written for arrays [V], and for [V, lanes] when the loop runs many lanes.

    def _turn(self, operands: Operands, now: Progress, arrivals: bool) -> Progress:
        """Runs to the next event or to the end of the slot, whichever comes first.

        Where slot starts change nothing (no uploads, no arrivals) it skips them.
        """
        params, draws, tasks, _ = operands
        dtype = self.float_dtype
        position, on_road = self.place(draws, params, now.slot)
        zone = mobility.zone_center(position, params.zone_m)
        distance = jnp.abs(tasks.helper_position_m - zone)
        efficiency = self._efficiency(distance, tasks.power_over_noise_db, params)
        now = self._refresh_weights(operands, now, efficiency)

        rate = self._rates(operands, now, efficiency)
        busy = now.phase > IDLE
        running = busy & (rate > 0)
        time_to_finish = jnp.where(running, now.remaining / jnp.where(running, rate, 1), jnp.inf)
        left = params.slot_s - now.tau
        first = jnp.min(time_to_finish, axis=0)
        slots_left = params.max_slots - now.slot
        if self._may_skip_slots:
            quiet = jnp.any(running, axis=0) & ~jnp.any(now.phase == UPLOAD, axis=0)
            quiet = quiet & ((now.slot >= params.max_steps) | (not arrivals))
            left = jnp.where(quiet, slots_left.astype(dtype) * params.slot_s - now.tau, left)
        slot_ends = left <= first
        step = jnp.where(slot_ends, left, first)
        tolerance = 1e-12 if self.dtype == "float64" else 1e-6
        done = running & (time_to_finish <= step * (1 + tolerance))
        remaining = jnp.where(busy, now.remaining - rate * step, now.remaining)
        remaining = jnp.maximum(jnp.where(done, 0, remaining), 0)
        tau = now.tau + step
        slot = now.slot
        if self._may_skip_slots:
            passed = jnp.maximum(jnp.ceil(tau / params.slot_s) - 1, 0)
            passed = jnp.where(slot_ends, slots_left - 1, passed.astype(jnp.int32))
            passed = jnp.where(quiet, passed, 0)
            slot, tau = slot + passed, tau - passed.astype(dtype) * params.slot_s
            position, _ = self.place(draws, params, slot)
            zone = mobility.zone_center(position, params.zone_m)
        tau = jnp.where(slot_ends, params.slot_s, tau).astype(dtype)

        # The done tasks enter their next phase with work, or end.
        following, entered = next_phase(tasks.work, now.phase)
        ends = done & (following == ENDED)
        local = tasks.work[UPLOAD - 1] == 0
        in_reach = self._covers(params, tasks.helper_position_m, zone)
        delivered = local | self._covers(params, tasks.deliverer_position_m, zone)
        cut_off = done & (following == UPLOAD) & ~in_reach
        outcome = jnp.where(ends, jnp.where(delivered, SUCCESS, DELIVERY_FAILURE), NONE)
        outcome = jnp.where(cut_off, UPLOAD_FAILURE, outcome).astype(jnp.int32)
        goes_on = done & ~ends & ~cut_off
        phase = jnp.where(done, jnp.where(goes_on, following, IDLE), now.phase).astype(jnp.int32)
        stamped = goes_on & (phase == UPLOAD) if self.allocation == "serial" else goes_on
        now = now.replace(
            slot=slot,
            tau=tau,
            fresh=jnp.zeros_like(now.fresh),
            phase=phase,
            remaining=jnp.where(goes_on, entered, remaining),
            weight=jnp.where(
                goes_on, self._entry_weight(tasks, efficiency, following, entered), now.weight
            ),
            entry_slot=jnp.where(stamped, slot + slot_ends, now.entry_slot),
            entry_tau=jnp.where(stamped, jnp.where(slot_ends, 0, tau), now.entry_tau),
            turns=now.turns + 1,
        )
        now = self._record(params, tasks, now, outcome)
        after = self._next_slot(operands, now, arrivals)
        return jax.tree.map(lambda new, old: jnp.where(slot_ends, new, old), after, now)

    @property
    def _may_skip_slots(self) -> bool:
        """Whether a slot start without uploads and arrivals changes nothing."""
        reweighs = self.share_weights == "remaining" or self.allocation == "insga"
        return self.mobility == "constant" and not reweighs

    def _record(
        self, params: VehicularParams, tasks: Tasks, now: Progress, outcome: chex.Array
    ) -> Progress:
        """Notes the tasks that end now, with their latency mu.

        It is the elapsed time, but at least that of Local where a task was cut off (`Vehicular`).
        """
        ended = outcome > NONE
        slots = (now.slot - tasks.slot).astype(self.float_dtype)
        elapsed = slots * params.slot_s + now.tau
        cut_off = outcome > DELIVERY_FAILURE
        cut_off = cut_off | (outcome == UPLOAD_FAILURE)
        latency = jnp.where(cut_off, jnp.maximum(elapsed, tasks.local_s), elapsed)
        return now.replace(
            phase=jnp.where(ended, IDLE, now.phase),
            outcome=jnp.where(ended, outcome, now.outcome),
            latency_s=jnp.where(ended, latency, now.latency_s),
        )

    def _next_slot(self, operands: Operands, now: Progress, arrivals: bool) -> Progress:
        """The start of the next slot: positions, lost uploads, vehicles gone, arrivals."""
        params, draws, tasks, key_data = operands
        slot = now.slot + 1
        now = now.replace(slot=slot, tau=jnp.zeros_like(now.tau), fresh=jnp.ones_like(now.fresh))
        position, on_road = self.place(draws, params, slot)
        zone = mobility.zone_center(position, params.zone_m)
        in_reach = self._covers(params, tasks.helper_position_m, zone)
        busy = now.phase > IDLE
        outcome = jnp.where(
            (now.phase == UPLOAD) & ~in_reach, UPLOAD_FAILURE, jnp.zeros_like(now.phase)
        )
        if self.mobility == "trace":
            gone = busy & ~on_road & (tasks.work[UPLOAD - 1] > 0)
            outcome = jnp.where(gone, LEFT_ROAD, outcome)
        cut = busy & (outcome == NONE) & (slot >= params.max_slots)
        outcome = jnp.where(cut, UNFINISHED, outcome)
        now = self._record(params, tasks, now, outcome.astype(jnp.int32))
        if arrivals:
            now = self._ask(params, key_data, now, on_road)
        return now

    def _ask(
        self, params: VehicularParams, key_data: chex.Array, now: Progress, on_road: chex.Array
    ) -> Progress:
        """Fixes which idle vehicles ask in this slot, and the network of each one's task."""
        size_v = self.num_vehicles
        if self.arrivals == "given":
            row = now.slot
            coin = loop.per_lane(mobility.trace_row, (2, 0), params.arrival, row)
            coin = coin & (row < self.table_rows)
            network = loop.per_lane(mobility.trace_row, (2, 0), params.model, row)
        else:

            def draw(key_data: chex.Array, slot: chex.Array) -> chex.Array:
                return arrivals.slot_uniforms(key_data, slot, size_v, self.float_dtype)

            # Given that a vehicle asks, uniform/p is uniform again: it draws the network.
            uniform = loop.per_lane(draw, (1, 0), key_data, now.slot)
            coin = uniform < params.arrival_probability
            ceiling = jnp.where(params.arrival_probability > 0, params.arrival_probability, 1)
            shares = params.mix / jnp.sum(params.mix, axis=0)
            edges = jnp.cumsum(shares, axis=0)[:-1]
            network = jnp.zeros(uniform.shape, jnp.int32)
            for edge in edges:
                network = network + (uniform / ceiling >= edge)
            # Never a network of frequency zero, whatever the rounding of the sums.
            positive = params.mix > 0
            index = jnp.arange(self.num_networks).reshape((-1,) + (1,) * (params.mix.ndim - 1))
            last = jnp.max(jnp.where(positive, index, -1), axis=0)
            network = jnp.minimum(network, last)
        able = params.vehicle_enabled & on_road & (now.slot < params.max_steps)
        asks = (now.phase == IDLE) & coin & able
        return now.replace(
            asking=asks, network=jnp.where(asks, network, now.network).astype(jnp.int32)
        )

    # ---- advancing -----------------------------------------------------------------------------

    def _run(
        self,
        params: VehicularParams,
        state: VehicularState,
        going: Callable[[VehicularParams, Progress], chex.Array],
    ) -> Progress:
        """Turns of the event loop while ``going`` and while the step has turns left."""
        limit = self.turns_per_step

        def cond(operands: Operands, now: Progress) -> chex.Array:
            more = going(operands.params, now)
            return more & (now.turns < limit) if limit else more

        def body(operands: Operands, now: Progress) -> Progress:
            return self._turn(operands, now, arrivals=True)

        return loop.while_loop(cond, body, self._operands(state, params), state.progress)

    def _operands(self, state: VehicularState, params: VehicularParams) -> Operands:
        return Operands(params, state.draws, state.tasks, jax.random.key_data(state.key))

    @staticmethod
    def _awaits_arrival(params: VehicularParams, now: Progress) -> chex.Array:
        return ~jnp.any(now.asking, axis=0) & (now.slot < params.max_steps)

    @staticmethod
    def _drains(params: VehicularParams, now: Progress) -> chex.Array:
        in_flight = jnp.any(now.phase > IDLE, axis=0) | ~now.fresh
        return in_flight & (now.slot >= params.max_steps) & (now.slot < params.max_slots)

    def _pick_vehicle(self, state: VehicularState) -> VehicularState:
        """The asking vehicle of lowest index, else the idle one of lowest index, else 0."""
        now = state.progress
        candidates = jnp.where(jnp.any(now.asking), now.asking, now.phase == IDLE)
        return state.replace(vehicle=jnp.argmax(candidates).astype(jnp.int32))

    def project(
        self, state: VehicularState, params: VehicularParams, watched: chex.Array
    ) -> Progress:
        """Runs on without arrivals or decisions until no watched vehicle ``bool[V]`` is in flight.

        What ended since the state's own step is in ``outcome`` and ``latency_s``.
        """

        def going(operands: Any, now: Progress) -> chex.Array:
            given, watched = operands
            in_flight = jnp.any(watched & (now.phase > IDLE), axis=0)
            return in_flight & (now.slot < given.params.max_slots)

        def body(operands: Any, now: Progress) -> Progress:
            return self._turn(operands[0], now, arrivals=False)

        operands = (self._operands(state, params), watched)
        return loop.while_loop(going, body, operands, state.progress)

    def projected_cost(self, state: VehicularState, params: VehicularParams) -> chex.Array:
        """Phi: total cost in s of all tasks in flight if nobody else submits."""
        start = state.progress
        clean = start.replace(outcome=jnp.zeros_like(start.outcome))
        everyone = jnp.ones_like(start.asking)
        return jnp.sum(
            task_costs(self.project(state.replace(progress=clean), params, everyone), params)
        )
