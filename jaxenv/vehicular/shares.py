"""How vehicles share bands and servers: at which rate each task's phase advances."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from allocators import insga, pools, proportional
from jaxenv import loop
from jaxenv.physics import mobility
from jaxenv.vehicular.params import MEGA, VehicularParams
from jaxenv.vehicular.road import Road
from jaxenv.vehicular.state import DELIVERER, HELPER, LOCAL, UPLOAD, WIRED, Draws, Progress, Tasks


class Operands(NamedTuple):
    """What a turn of the event loop reads and does not change; key_data: of the episode's key."""

    params: VehicularParams
    draws: Draws
    tasks: Tasks
    key_data: chex.Array


class Shares(Road):
    """Shares by ``allocation``; written for arrays ``[V]`` and ``[V, lanes]``."""

    def _pools(self, tasks: Tasks, phase: chex.Array) -> chex.Array:
        """Index of each vehicle's pool: bands 0..S-1, servers S..2S-1, none -1."""
        size = self.num_rsus
        server = 0 if self.allocation == "serial" else size
        pool = jnp.where(phase == UPLOAD, tasks.helper, -1)
        pool = jnp.where(phase == HELPER, server + tasks.helper, pool)
        return jnp.where(phase == DELIVERER, server + tasks.deliverer, pool)

    def _entry_weight(
        self, tasks: Tasks, efficiency: chex.Array, phase: chex.Array, amount: chex.Array
    ) -> chex.Array:
        """sqrt(eta) of eqs (7) and (9) for an amount of work of a phase."""
        if self.allocation != "kkt":
            return jnp.ones_like(amount)
        band = tasks.bandwidth_mhz * efficiency
        capacity = jnp.where(phase == UPLOAD, band, tasks.deliverer_gflops)
        capacity = jnp.where(phase == HELPER, tasks.helper_gflops, capacity)
        return jnp.sqrt(amount / capacity)

    def _refresh_weights(
        self, operands: Operands, now: Progress, efficiency: chex.Array
    ) -> Progress:
        """Weights at the start of a slot, after its decisions, with this slot's gains."""
        tasks = operands.tasks
        if self.allocation == "kkt":
            amount = now.remaining
            if self.share_weights == "total":
                amount = tasks.work[UPLOAD - 1]
                for phase in (HELPER, DELIVERER):
                    amount = jnp.where(now.phase == phase, tasks.work[phase - 1], amount)
            weight = self._entry_weight(tasks, efficiency, now.phase, amount)
        elif self.allocation == "insga":
            weight = self._insga_weights(operands, now, efficiency)
        else:
            return now
        if self.allocation == "kkt" and self.share_weights == "total":
            return now.replace(weight=weight)  # a function of the phase and of this slot's gain
        return now.replace(weight=jnp.where(now.fresh, weight, now.weight))

    def _insga_weights(
        self, operands: Operands, now: Progress, efficiency: chex.Array
    ) -> chex.Array:
        params, draws, tasks, key_data = operands
        pool = self._pools(tasks, now.phase)
        upload = now.phase == UPLOAD
        capacity = jnp.where(now.phase == HELPER, tasks.helper_gflops, tasks.deliverer_gflops)
        capacity = jnp.where(upload, tasks.bandwidth_mhz * efficiency, capacity)
        base = now.remaining / capacity
        after = tasks.work[DELIVERER - 1] / tasks.deliverer_gflops
        with_helper = after + tasks.work[HELPER - 1] / tasks.helper_gflops
        after = jnp.where(upload, with_helper, jnp.where(now.phase == HELPER, after, 0))
        position, _ = self.place(draws, params, now.slot)
        zone = mobility.zone_center(position, params.zone_m)
        speed = jnp.maximum(self._speeds(draws, params, now.slot), 0.1)
        leave = jnp.maximum(tasks.deliverer_position_m + params.radius_m - zone, 0) / speed

        # Every pool of two or more, of every lane, is one problem; few of them are due at a time.
        single = pool.ndim == 1
        if single:
            base, after, leave, pool = (x[:, None] for x in (base, after, leave, pool))
        lanes = pool.shape[1]
        unit = jnp.arange(2 * self.num_rsus)[:, None]
        members = jnp.sum(pool[None] == unit[:, None], axis=1, dtype=jnp.int32)
        due = (members > 1) & jnp.atleast_1d(now.fresh)
        key_data = jnp.broadcast_to(key_data.reshape(2, -1), (2, lanes))
        slots = jnp.broadcast_to(now.slot, (lanes,))

        def solve(problem: chex.Array) -> chex.Array:
            which, lane = problem // lanes, problem % lanes
            key = jax.random.wrap_key_data(key_data[:, lane], impl="threefry2x32")
            key = jax.random.fold_in(jax.random.fold_in(key, slots[lane]), which)
            weight = insga.evolve_weights(
                key,
                base[:, lane],
                after[:, lane],
                leave[:, lane],
                jnp.where(pool[:, lane] == which, 0, -1),
                num_pools=1,
                population=self.insga_population,
                generations=self.insga_generations,
            )
            return jnp.where(pool[:, lane] == which, weight, 0)

        solved = loop.map_due(solve, due.reshape(-1), self.num_vehicles, base.dtype)
        solved = solved.reshape(self.num_vehicles, 2 * self.num_rsus, lanes)
        weight = jnp.sum(solved, axis=1)
        weight = jnp.where(weight > 0, weight, 1)
        return weight[:, 0] if single else weight

    def _rates(self, operands: Operands, now: Progress, efficiency: chex.Array) -> chex.Array:
        """GFLOP/s or Mbit/s at which every vehicle's phase advances."""
        params, draws, tasks, _ = operands
        pool = self._pools(tasks, now.phase)
        if self.allocation in ("fifo", "serial"):
            share = pools.first_shares(pool, now.entry_slot, now.entry_tau)
        elif self.allocator == "jaxopt":
            share = loop.per_lane(self._solved_shares, (1, 1), now.weight, pool)
        else:
            share = pools.pooled_shares(now.weight, pool)
        rate = share * jnp.where(
            now.phase == UPLOAD, tasks.bandwidth_mhz * efficiency, tasks.deliverer_gflops
        )
        rate = jnp.where(now.phase == HELPER, share * tasks.helper_gflops, rate)
        rate = jnp.where(now.phase == LOCAL, draws.vehicle_gflops, rate)
        return jnp.where(now.phase == WIRED, params.wired_rate_bps * MEGA, rate)

    def _solved_shares(self, weight: chex.Array, pool: chex.Array) -> chex.Array:
        """The KKT shares of every pool, solved by jaxopt."""
        members = pool[None, :] == jnp.arange(2 * self.num_rsus)[:, None]

        def solve(member: chex.Array) -> chex.Array:
            return proportional.shares(weight**2, member, backend="jaxopt")

        return jnp.sum(jnp.where(members, jax.vmap(solve)(members), 0), axis=0)
