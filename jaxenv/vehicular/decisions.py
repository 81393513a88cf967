"""Decisions of the vehicular system: what an action means, which are valid, what they start."""

from __future__ import annotations

import chex
import jax.numpy as jnp
import numpy as np

from jaxenv import spaces
from jaxenv.physics import mobility, radio
from jaxenv.vehicular.events import Events
from jaxenv.vehicular.params import GIGA, MEGA, VehicularParams
from jaxenv.vehicular.state import (
    IDLE,
    NONE,
    UPLOAD,
    UPLOAD_FAILURE,
    Tasks,
    VehicularState,
    next_phase,
)


class Decisions(Events):
    """A helper, a deliverer and two partition layers for the task of the asking vehicle."""

    # ---- actions -------------------------------------------------------------------------------

    @property
    def action_space(self) -> spaces.Discrete:
        """S*S*P actions: helper, deliverer (rolled) and pair of partition layers; see `encode`."""
        return spaces.Discrete(self.num_rsus**2 * self.num_pairs)

    @property
    def num_pairs(self) -> int:
        """P, the number of pairs of partition layers k1 <= k2."""
        return self.max_layers * (self.max_layers + 1) // 2

    def pair_index(self, first: chex.Array, second: chex.Array) -> chex.Array:
        """Index of the partition layers (k1, k2), 1-based, in lexicographic order."""
        k = self.max_layers
        return (first - 1) * k - (first - 1) * (first - 2) // 2 + (second - first)

    def encode(
        self, helper: chex.Array, deliverer: chex.Array, first: chex.Array, second: chex.Array
    ) -> chex.Array:
        """Action index of rolled RSU indices and 1-based partition layers."""
        pair = self.pair_index(first, second)
        index = (helper * self.num_rsus + deliverer) * self.num_pairs + pair
        return jnp.asarray(index, jnp.int32)

    def decode(self, action: chex.Array) -> tuple[chex.Array, chex.Array, chex.Array, chex.Array]:
        """``(helper, deliverer, k1, k2)`` of an action index; the inverse of `encode`."""
        first, second = self._pairs()
        units, pair = action // self.num_pairs, action % self.num_pairs
        return (
            units // self.num_rsus,
            units % self.num_rsus,
            jnp.asarray(first)[pair],
            jnp.asarray(second)[pair],
        )

    def _pairs(self) -> tuple[np.ndarray, np.ndarray]:
        first, second = np.triu_indices(self.max_layers)
        return (first + 1).astype(np.int32), (second + 1).astype(np.int32)

    def action_mask(self, state: VehicularState, params: VehicularParams) -> chex.Array:
        """Valid actions, ``bool[num_actions]``.

        A helper must cover the vehicle at the predicted start of the upload; helper and deliverer
        may be one RSU only without a second cut; Local is one canonical action.
        """
        covered, depth = self._helper_coverage(state, params)
        second = jnp.asarray(self._pairs()[1])
        # Column k1 of the coverage once for every pair (k1, k2), pairs in lexicographic order.
        repeats = [
            jnp.broadcast_to(covered[:, k, None], (self.num_rsus, self.max_layers - k))
            for k in range(self.max_layers)
        ]
        covered = jnp.concatenate(repeats, axis=1)
        same = jnp.eye(self.num_rsus, dtype=bool)[:, :, None]
        mask = covered[:, None, :] & (second <= depth) & (~same | (second == depth))
        index = jnp.arange(self.action_space.num_values, dtype=jnp.int32)
        canonical = self.encode(0, 0, depth, depth)
        mask = mask.reshape(-1) | (index == canonical)
        due = jnp.any(state.progress.asking) | state.finished
        return jnp.where(due, mask, index == 0)

    def _helper_coverage(
        self, state: VehicularState, params: VehicularParams
    ) -> tuple[chex.Array, chex.Array]:
        """Which rolled RSUs cover the predicted start of an upload after each first layer, and K_m.

        ``bool[S, K]``, False for k1 = K_m and beyond.
        """
        j = state.vehicle
        network = state.progress.network[j]
        depth = params.num_layers[network]
        layer = jnp.arange(1, self.max_layers + 1)
        flops = jnp.where(layer <= depth, params.layer_flops[network], 0) * GIGA
        start = params.compression * jnp.cumsum(flops) / state.draws.vehicle_gflops[j]
        slots = jnp.floor(start / params.slot_s)
        slot = self._seen_slot(state, params)
        position, on_road = self.place(state.draws, params, slot)
        speed = self._speeds(state.draws, params, slot)
        _, copies, order = self.road(state, params, j)
        ahead = mobility.constant_speed_position(position[j], speed[j], slots * params.slot_s)
        zones = mobility.zone_center(ahead, params.zone_m)
        covered = self._covers(params, copies[order][:, None], zones[None, :])
        return covered & on_road[j] & (layer < depth), depth

    def _is_valid(
        self, state: VehicularState, action: chex.Array, params: VehicularParams
    ) -> chex.Array:
        """The entry of `action_mask` for one action."""
        helper, deliverer, first, second = self.decode(action)
        covered, depth = self._helper_coverage(state, params)
        whole = second == depth
        remote = covered[helper, first - 1] & (second <= depth) & ((helper != deliverer) | whole)
        canonical = (helper == 0) & (deliverer == 0) & (first == depth) & whole
        return remote | canonical

    # ---- a task is submitted -------------------------------------------------------------------

    def carry_out(
        self, state: VehicularState, action: chex.Array, params: VehicularParams
    ) -> VehicularState:
        """Submits the asking vehicle's task; the next one that asks becomes the asking vehicle."""
        helper, deliverer, first, second = self.decode(action)
        _, _, order = self.road(state, params, state.vehicle)
        state = self.submit(state, params, order[helper], order[deliverer], first, second)
        return self._pick_vehicle(state)

    def submit(
        self,
        state: VehicularState,
        params: VehicularParams,
        helper: chex.Array,
        deliverer: chex.Array,
        first: chex.Array,
        second: chex.Array,
    ) -> VehicularState:
        """The state once the asking vehicle's task is in flight.

        Args:
            state: a state in which ``state.vehicle`` asks.
            params: the scenario.
            helper, deliverer: RSU indices (not rolled).
            first, second: 1-based partition layers k1 <= k2, clipped to the network.
        """
        j, now = state.vehicle, state.progress
        network = now.network[j]
        depth = params.num_layers[network]
        first, second = jnp.minimum(first, depth), jnp.minimum(second, depth)
        local = first == depth
        layer = jnp.arange(1, self.max_layers + 1)
        flops = jnp.where(layer <= depth, params.layer_flops[network], 0) * GIGA
        bits = params.layer_output_bits[network] * MEGA

        def total(inside: chex.Array) -> chex.Array:
            return jnp.sum(jnp.where(inside, flops, 0))

        remote = (~local).astype(self.float_dtype)
        work = jnp.stack(
            [
                params.compression * total(layer <= first),
                remote * bits[first - 1],
                remote * total((layer > first) & (layer <= second)),
                remote * jnp.where(helper != deliverer, bits[second - 1], 0),
                remote * total(layer > second),
            ]
        )
        local_s = params.compression * total(layer <= depth) / state.draws.vehicle_gflops[j]
        zone, copies, _ = self.road(state, params, j)
        following, entered = next_phase(work, jnp.int32(IDLE))
        bandwidth = params.bandwidth_hz[helper]
        noise = radio.noise_power_dbm(bandwidth, params.noise_dbm_per_hz)
        in_reach = self._covers(params, copies[helper], zone)
        cut_off = (following == UPLOAD) & ~in_reach
        tasks = state.tasks
        mine = jnp.arange(self.num_vehicles) == j

        def put(old: chex.Array, new: chex.Array) -> chex.Array:
            return jnp.where(mine, new, old).astype(old.dtype)

        tasks = Tasks(
            helper=put(tasks.helper, helper),
            deliverer=put(tasks.deliverer, deliverer),
            helper_position_m=put(tasks.helper_position_m, copies[helper]),
            deliverer_position_m=put(tasks.deliverer_position_m, copies[deliverer]),
            work=put(tasks.work, work[:, None]),
            bandwidth_mhz=put(tasks.bandwidth_mhz, bandwidth * MEGA),
            power_over_noise_db=put(tasks.power_over_noise_db, state.draws.power_dbm[j] - noise),
            helper_gflops=put(tasks.helper_gflops, params.rsu_flops[helper] * GIGA),
            deliverer_gflops=put(tasks.deliverer_gflops, params.rsu_flops[deliverer] * GIGA),
            local_s=put(tasks.local_s, local_s),
            slot=put(tasks.slot, now.slot),
            decision=put(tasks.decision, state.decisions),
        )
        now = now.replace(
            phase=put(now.phase, following),
            remaining=put(now.remaining, entered),
            weight=put(now.weight, 1),
            entry_slot=put(now.entry_slot, now.slot),
            entry_tau=put(now.entry_tau, 0),
            outcome=put(now.outcome, NONE),
            asking=now.asking & ~mine,
        )
        outcome = jnp.where(mine & cut_off, UPLOAD_FAILURE, NONE)
        now = self._record(params, tasks, now, outcome)
        return state.replace(tasks=tasks, progress=now, decisions=state.decisions + 1)
