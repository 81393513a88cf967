"""Baselines and the capacity bound of the vehicular system (SAFE).

Each is a policy; some bring their own allocation as an override of the environment. ``Greedy`` and
``Social`` look ahead: they simulate every candidate. The others decide from the state alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp

from agents.learner import Bound, Policy, RandomPolicy
from jaxenv import struct
from jaxenv.errors import ConfigError
from jaxenv.physics import mobility
from jaxenv.vehicular import GIGA, MEGA, UPLOAD, UPLOAD_FAILURE, Vehicular, task_costs


@struct.dataclass
class VehicularPolicy(Policy):
    """Base: decides ``(helper, deliverer, k1, k2)``, RSUs not rolled, for the asking vehicle."""

    env: Vehicular = struct.field(pytree_node=False)

    uses_state: ClassVar[bool] = True

    def act(self, carry, key, observation, mask, state, params):
        helper, deliverer, first, second = self.decide(state, params)
        _, _, order = self.env.road(state, params, state.vehicle)
        rolled = jnp.argsort(order)
        return self.env.encode(rolled[helper], rolled[deliverer], first, second), carry

    def decide(self, state: Any, params: Any) -> tuple[chex.Array, ...]:
        raise NotImplementedError

    def local(self, state: Any, params: Any) -> tuple[chex.Array, ...]:
        """The canonical Local decision: rolled RSU 0 twice, (K, K)."""
        _, _, order = self.env.road(state, params, state.vehicle)
        depth = network_depth(state, params)
        return order[0], order[0], depth, depth

    def or_local(
        self, offloads: chex.Array, decision: tuple[Any, ...], state: Any, params: Any
    ) -> tuple[chex.Array, ...]:
        """The decision where ``offloads``, else `local`."""
        pairs = zip(decision, self.local(state, params), strict=True)
        return tuple(jnp.where(offloads, a, b) for a, b in pairs)


def network_depth(state: Any, params: Any) -> chex.Array:
    """Number of layers of the asking vehicle's network."""
    return params.num_layers[state.progress.network[state.vehicle]]


def network_profile(env: Vehicular, state: Any, params: Any) -> tuple[chex.Array, chex.Array]:
    """GFLOP (0 beyond the network) and output Mbit of each layer of the asking vehicle's task."""
    network = state.progress.network[state.vehicle]
    inside = jnp.arange(1, env.max_layers + 1) <= params.num_layers[network]
    flops = jnp.where(inside, params.layer_flops[network], 0) * GIGA
    return flops, params.layer_output_bits[network] * MEGA


def nearest_rsu(env: Vehicular, state: Any, params: Any) -> chex.Array:
    """The RSU nearest to the asking vehicle, ties to the lowest index."""
    zone, copies, _ = env.road(state, params, state.vehicle)
    return jnp.argmin(jnp.abs(copies - zone)).astype(jnp.int32)


def upload_mbps(env: Vehicular, state: Any, params: Any) -> chex.Array:
    """Full-band uplink rate of the asking vehicle to every RSU in this slot, ``[S]`` in Mbit/s."""
    zone, copies, _ = env.road(state, params, state.vehicle)
    power = state.draws.power_dbm[state.vehicle]
    efficiency = env.spectral_efficiency(jnp.abs(copies - zone), power, params.bandwidth_hz, params)
    return params.bandwidth_hz * MEGA * efficiency


def local_latency_s(env: Vehicular, state: Any, params: Any) -> chex.Array:
    """Latency of computing the whole task in the vehicle."""
    flops, _ = network_profile(env, state, params)
    return params.compression * jnp.sum(flops) / state.draws.vehicle_gflops[state.vehicle]


@struct.dataclass
class Local(VehicularPolicy):
    """Everything in the vehicle: (K, K)."""

    def decide(self, state, params):
        return self.local(state, params)


@struct.dataclass
class Random(RandomPolicy):
    """Uniform over the valid actions."""

    env: Vehicular = struct.field(pytree_node=False)

    on_request: ClassVar[bool] = True


@struct.dataclass
class Edge(VehicularPolicy):
    """Everything at the nearest RSU, which divides its resources equally."""

    @property
    def env_overrides(self) -> Mapping[str, Any]:
        return {"allocation": "equal"}

    def decide(self, state, params):
        nearest = nearest_rsu(self.env, state, params)
        return nearest, nearest, jnp.int32(1), network_depth(state, params)


@struct.dataclass
class INSGA(Edge):
    """Edge's decisions with shares evolved by NSGA-II; costly, so tables give it fewer episodes."""

    max_episodes: ClassVar[int | None] = 32

    @property
    def env_overrides(self) -> Mapping[str, Any]:
        return {"allocation": "insga"}


@struct.dataclass
class DSL(VehicularPolicy):
    """Nearest RSU, the cut of least unloaded latency, one task at a time per RSU."""

    @property
    def env_overrides(self) -> Mapping[str, Any]:
        return {"allocation": "serial"}

    def decide(self, state, params):
        nearest = nearest_rsu(self.env, state, params)
        depth = network_depth(state, params)
        flops, mbit = network_profile(self.env, state, params)
        done = jnp.cumsum(flops)
        layer = jnp.arange(1, self.env.max_layers + 1)
        vehicle = params.compression * done / state.draws.vehicle_gflops[state.vehicle]
        upload = mbit / upload_mbps(self.env, state, params)[nearest]
        server = (done[-1] - done) / (params.rsu_flops[nearest] * GIGA)
        latency = vehicle + jnp.where(layer < depth, upload + server, 0)
        latency = jnp.where(layer <= depth, latency, jnp.inf)
        first = 1 + jnp.argmin(latency).astype(jnp.int32)
        return self.or_local(first != depth, (nearest, nearest, first, depth), state, params)


@struct.dataclass
class DSLPipelined(DSL):
    """DSL whose RSU pipelines: band and server each serve first come, first served."""

    @property
    def env_overrides(self) -> Mapping[str, Any]:
        return {"allocation": "fifo"}


@struct.dataclass
class Fixed(VehicularPolicy):
    """The nearest RSU with one fixed pair of partition layers for every task.

    kappa1, kappa2: 1-based layers, 1 <= kappa1 <= kappa2 <= max_layers.
    """

    kappa1: int = struct.field(pytree_node=False, default=1)
    kappa2: int = struct.field(pytree_node=False, default=1)

    def __post_init__(self) -> None:
        most = self.env.max_layers
        for name, least in (("kappa1", 1), ("kappa2", self.kappa1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise ConfigError(name, value, f"give a layer from {least} to {most}")

    def decide(self, state, params):
        nearest = nearest_rsu(self.env, state, params)
        return nearest, nearest, jnp.int32(self.kappa1), jnp.int32(self.kappa2)


@struct.dataclass
class Aware(VehicularPolicy):
    """Looks at load and coverage, simulates nothing.

    The raw frame goes to the least busy RSU that covers the upload; by wire to the RSU that
    finishes first, counting the work already committed there, among those that will cover the
    vehicle at that predicted end. The vehicle computes itself where that is faster or no RSU fits.
    """

    def decide(self, state, params):
        env, j = self.env, state.vehicle
        zone, copies, _ = env.road(state, params, j)
        flops, mbit = network_profile(env, state, params)
        rate = upload_mbps(env, state, params)
        covered = mobility.covers(copies, zone, params.radius_m, params.tolerance_m)
        now, tasks = state.progress, state.tasks
        unit = jnp.arange(env.num_rsus)[:, None]
        uploading = (tasks.helper == unit) & (now.phase == UPLOAD)
        queued = jnp.sum(jnp.where(uploading, now.remaining, 0), axis=1)
        upload_s = jnp.where(covered, (queued + mbit[0]) / rate, jnp.inf)
        relay = jnp.argmin(upload_s).astype(jnp.int32)
        work = env.committed_gflop(state) + jnp.sum(flops)
        wired = jnp.where(jnp.arange(env.num_rsus) == relay, 0, mbit[0])
        end_s = (
            upload_s[relay]
            + wired / (params.wired_rate_bps * MEGA)
            + work / (params.rsu_flops * GIGA)
        )
        ahead = mobility.zone_center(zone + env.speeds(state, params)[j] * end_s, params.zone_m)
        fits = mobility.covers(copies, ahead, params.radius_m, params.tolerance_m)
        end_s = jnp.where(fits & jnp.isfinite(end_s), end_s, jnp.inf)
        target = jnp.argmin(end_s).astype(jnp.int32)
        remote = end_s[target] < local_latency_s(env, state, params)
        depth = network_depth(state, params)
        second = jnp.where(target == relay, depth, 1)
        return self.or_local(remote, (relay, target, jnp.int32(1), second), state, params)


@struct.dataclass
class LongestStay(VehicularPolicy):
    """Everything at the RSU that will cover the vehicle longest (its dwell or residence time), the
    farthest ahead of those that cover it now; the vehicle computes itself where none does."""

    on_request: ClassVar[bool] = True

    def decide(self, state, params):
        zone, copies, _ = self.env.road(state, params, state.vehicle)
        covered = mobility.covers(copies, zone, params.radius_m, params.tolerance_m)
        farthest = jnp.argmax(jnp.where(covered, copies, -jnp.inf)).astype(jnp.int32)
        remote = (farthest, farthest, jnp.int32(1), network_depth(state, params))
        return self.or_local(jnp.any(covered), remote, state, params)


@struct.dataclass
class LookAhead(VehicularPolicy):
    """Base of the policies that simulate every candidate without further arrivals.

    max_candidates: static length of the candidate list, enough for radius = spacing.
    max_first_cuts: static length of the list of first cuts K1.
    """

    max_candidates: int = struct.field(pytree_node=False, default=128)
    max_first_cuts: int = struct.field(pytree_node=False, default=4)

    def act(self, carry, key, observation, mask, state, params):
        actions, valid = self.candidates(state, params)

        def cost(action: chex.Array) -> chex.Array:
            helper, deliverer, first, second = self.env.decode(action)
            _, _, order = self.env.road(state, params, state.vehicle)
            after = self.env.submit(state, params, order[helper], order[deliverer], first, second)
            return self.projected(after, state.vehicle, params)

        def parked(action: chex.Array, valid: chex.Array) -> chex.Array:
            return jnp.where(valid, cost(action), jnp.inf)

        costs = jax.vmap(parked)(actions, valid)
        best = jnp.min(costs)
        tied = jnp.where(costs <= best, actions, self.env.num_actions)
        return jnp.min(tied).astype(jnp.int32), carry

    def projected(self, after: Any, vehicle: chex.Array, params: Any) -> chex.Array:
        """What the policy minimises, for the state after a candidate was submitted."""
        raise NotImplementedError

    def candidates(self, state: Any, params: Any) -> tuple[chex.Array, chex.Array]:
        """Flat actions ``[max_candidates]`` and whether each is a candidate.

        Local; and first cuts that shrink the upload, helpers that cover the vehicle or come next,
        deliverers up to two RSUs ahead, and second cuts before every layer with notable work.
        """
        env = self.env
        size, depth = env.num_rsus, network_depth(state, params)
        zone, copies, order = env.road(state, params, state.vehicle)
        covered = mobility.covers(copies, zone, params.radius_m, params.tolerance_m)[order]
        nearest = jnp.argmax(order == nearest_rsu(env, state, params))
        helpers = covered | (jnp.arange(size) == (nearest + 1) % size)

        flops, mbit = network_profile(env, state, params)
        first_cuts, used = self.first_cuts(flops, mbit, depth)
        share = flops / jnp.sum(flops)
        layer = jnp.arange(1, env.max_layers + 1)

        first = first_cuts[:, None, None, None]
        helper = jnp.arange(size)[None, :, None, None]
        offset = jnp.arange(min(3, size))[None, None, :, None]
        second = layer[None, None, None, :]
        ends = second == depth
        apart = ends | (second == first) | ((second > first) & (share > 0.02))
        apart = apart & (second <= depth) & (second >= first)
        wanted = used[:, None, None, None] & helpers[None, :, None, None]
        wanted = wanted & jnp.where(offset == 0, ends, apart)
        actions = env.encode(helper, (helper + offset) % size, first, second)
        actions, wanted = (jnp.broadcast_to(x, wanted.shape).ravel() for x in (actions, wanted))
        zero = jnp.int32(0)
        actions = jnp.concatenate([env.encode(zero, zero, depth, depth)[None], actions])
        wanted = jnp.concatenate([jnp.ones((1,), bool), wanted])
        index = jnp.nonzero(wanted, size=self.max_candidates, fill_value=wanted.size)[0]
        valid = index < wanted.size
        return jnp.where(valid, actions[jnp.minimum(index, wanted.size - 1)], actions[0]), valid

    def first_cuts(
        self, flops: chex.Array, mbit: chex.Array, depth: chex.Array
    ) -> tuple[chex.Array, chex.Array]:
        """K1: layers whose output is smaller than every earlier cut's, ``[max_first_cuts]``."""
        total, done = jnp.sum(flops), jnp.cumsum(flops)
        kept = jnp.zeros((self.env.max_layers,), bool).at[0].set(True)
        last, smallest = jnp.int32(1), mbit[0]
        for k in range(2, self.env.max_layers + 1):
            light = (done[k - 1] < 0.98 * total) | (last == 1)
            keep = (k < depth) & (mbit[k - 1] < smallest) & light
            kept = kept.at[k - 1].set(keep)
            last, smallest = jnp.where(keep, k, last), jnp.where(keep, mbit[k - 1], smallest)
        index = jnp.nonzero(kept, size=self.max_first_cuts, fill_value=-1)[0].astype(jnp.int32)
        return jnp.maximum(index, 0) + 1, index >= 0


@struct.dataclass
class Greedy(LookAhead):
    """The candidate with the least projected cost of the own task."""

    def projected(self, after, vehicle, params):
        own = jnp.arange(self.env.num_vehicles) == vehicle
        end = self.env.project(after, params, own)
        cut_off = end.outcome[vehicle] == UPLOAD_FAILURE
        return task_costs(end, params)[vehicle] + jnp.where(cut_off, 1000, 0)


@struct.dataclass
class Social(LookAhead):
    """The candidate with the least projected cost of all tasks in flight."""

    def projected(self, after, vehicle, params):
        at_once = task_costs(after.progress, params)[vehicle]
        return at_once + self.env.projected_cost(after, params)


@struct.dataclass
class CapacityBound(Bound):
    """No task can cost less than with every resource to itself at the closest distance."""

    env: Vehicular = struct.field(pytree_node=False)

    metric: ClassVar[str] = "cost_s"

    def update(self, carry, state, action, info, params):
        decided = info["decision"] >= 0
        least = jnp.where(decided, task_lower_bound_s(self.env, state, params), 0)
        return carry[0] + least, carry[1] + decided


def task_lower_bound_s(env: Vehicular, state: Any, params: Any) -> chex.Array:
    """Least possible cost in s of the asking vehicle's task, whatever the policy or allocation."""
    flops, mbit = network_profile(env, state, params)
    depth = network_depth(state, params)
    power = state.draws.power_dbm[state.vehicle]
    closest = env.spectral_efficiency(params.min_distance_m, power, params.bandwidth_hz, params)
    rate = jnp.max(params.bandwidth_hz * MEGA * closest)
    done = jnp.cumsum(flops)
    vehicle = params.compression * done / state.draws.vehicle_gflops[state.vehicle]
    remote = vehicle + mbit / rate + (done[-1] - done) / (jnp.max(params.rsu_flops) * GIGA)
    layer = jnp.arange(1, env.max_layers + 1)
    return jnp.minimum(vehicle[-1], jnp.min(jnp.where(layer < depth, remote, jnp.inf)))
