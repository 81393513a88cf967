"""Where vehicles are on the road, and what reaches them."""

from __future__ import annotations

import chex
import jax.numpy as jnp

from jaxenv import loop
from jaxenv.physics import mobility, radio
from jaxenv.vehicular.params import VehicularParams
from jaxenv.vehicular.scenario import Scenario
from jaxenv.vehicular.state import Draws, VehicularState


class Road(Scenario):
    """Positions, speeds, links and coverage.

    Methods but for `road` are written for arrays ``[V]``, and for ``[V, lanes]`` when the event
    loop runs many lanes.
    """

    def _trace_at(self, params: VehicularParams, row: chex.Array) -> tuple[chex.Array, chex.Array]:
        """Positions along each vehicle's direction and activity, ``[V]`` (or ``[V, lanes]``)."""

        def read(position, active, direction, row, slot_s):
            here = mobility.trace_position(position, active, row, slot_s)
            return direction * here, mobility.trace_row(active, row)

        return loop.per_lane(
            read,
            (2, 2, 1, 0, 0),
            params.trace_position_m,
            params.trace_active,
            params.trace_direction,
            row,
            params.slot_s,
        )

    def place(
        self, draws: Draws, params: VehicularParams, slot: chex.Array
    ) -> tuple[chex.Array, chex.Array]:
        """Positions along each vehicle's direction, and activity, at a slot."""
        if self.mobility == "trace":
            return self._trace_at(params, draws.trace_row + slot)
        elapsed = slot.astype(self.float_dtype) * params.slot_s
        position = mobility.constant_speed_position(draws.position_m, draws.speed_mps, elapsed)
        return position, jnp.ones(position.shape, bool)

    def speeds(self, state: VehicularState, params: VehicularParams) -> chex.Array:
        """Speed of every vehicle in this slot, ``[V]`` in m/s, along its direction."""
        return self._speeds(state.draws, params, state.progress.slot)

    def _speeds(self, draws: Draws, params: VehicularParams, slot: chex.Array) -> chex.Array:
        if self.mobility == "constant":
            return draws.speed_mps
        row = draws.trace_row + slot
        now, on_road = self._trace_at(params, row)
        following, stays = self._trace_at(params, row + 1)
        before, was = self._trace_at(params, jnp.maximum(row - 1, 0))
        was = was & (row > 0)
        return mobility.trace_speed(now, following, before, on_road, stays, was, params.slot_s)

    def spectral_efficiency(
        self,
        distance_m: chex.Array,
        power_dbm: chex.Array,
        bandwidth_hz: chex.Array,
        params: VehicularParams,
    ) -> chex.Array:
        """Spectral efficiency e in bit/s/Hz of a link over the whole band, below eq (1).

        Args:
            distance_m: between vehicle and RSU, m.
            power_dbm: transmit power, dBm.
            bandwidth_hz: the whole band, Hz.
            params: the scenario, for path loss and noise.
        """
        noise = radio.noise_power_dbm(bandwidth_hz, params.noise_dbm_per_hz)
        return self._efficiency(distance_m, power_dbm - noise, params)

    def _efficiency(
        self, distance_m: chex.Array, power_over_noise_db: chex.Array, params: VehicularParams
    ) -> chex.Array:
        loss = radio.path_loss_db(
            distance_m,
            params.path_loss_intercept_db,
            params.path_loss_slope_db,
            params.min_distance_m,
        )
        return radio.spectral_efficiency(power_over_noise_db - loss)

    def road(
        self, state: VehicularState, params: VehicularParams, vehicle: chex.Array
    ) -> tuple[chex.Array, chex.Array, chex.Array]:
        """What a vehicle has around it: ``(zone_m [], copy_m [S], order [S])``.

        copy_m: the first copy of each RSU that the vehicle has not left, Y_s. order: RSUs by Y_s,
        the rolled order of observations and actions.
        """
        position, _ = self.place(state.draws, params, self._seen_slot(state, params))
        zone = mobility.zone_center(position[vehicle], params.zone_m)
        copies = self._copies(params, zone, vehicle)
        return zone, copies, stable_order(copies)

    def _seen_slot(self, state: VehicularState, params: VehicularParams) -> chex.Array:
        """The slot an observer sees: after the end, that of the final observation."""
        slot = state.progress.slot
        if self.reward_mode == "completion":
            return slot
        return jnp.where(state.finished, params.max_steps, slot)

    def _copies(self, params: VehicularParams, zone: chex.Array, vehicle: chex.Array) -> chex.Array:
        centers = params.rsu_position_m
        if self.mobility == "trace":
            centers = centers * params.trace_direction[vehicle]
        return mobility.next_road_copy(
            centers, zone, params.road_period_m, params.radius_m, params.tolerance_m
        )

    def _covers(
        self, params: VehicularParams, center_m: chex.Array, zone_m: chex.Array
    ) -> chex.Array:
        return mobility.covers(center_m, zone_m, params.radius_m, params.tolerance_m)


def stable_order(values: chex.Array) -> chex.Array:
    """Indices that sort a short vector, ties by index: all pairs beat a sort of a few numbers."""
    index = jnp.arange(values.shape[0], dtype=jnp.int32)
    before = values[None, :] < values[:, None]
    tied = (values[None, :] == values[:, None]) & (index[None, :] < index[:, None])
    rank = jnp.sum(before | tied, axis=1, dtype=jnp.int32)
    return jnp.sum(jnp.where(rank[None, :] == index[:, None], index[None, :], 0), axis=1)
