"""Baselines and the dual bound of the robust partitioning system.

Each chooses the partition of one instance; the environment then allocates the resources optimally.
"""

from __future__ import annotations

import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from agents.learner import Bound, Policy, RandomPolicy
from allocators import certificate, pccp, robust
from jaxenv import struct
from jaxenv.robust import NUM_POINTS, Robust, RobustState


@struct.dataclass
class RobustPolicy(Policy):
    """Base: decides partitioning points, int32 ``[N]``, for an instance."""

    env: Robust = struct.field(pytree_node=False)

    uses_state: ClassVar[bool] = True

    def act(self, carry, key, observation, mask, state, params):
        return self.decide(state).astype(jnp.int32), carry

    def decide(self, state: RobustState) -> jax.Array:
        raise NotImplementedError


def RandomAvailable(env: Robust) -> Policy:
    """Uniform over the points that the whole bandwidth would suffice for."""
    return RandomPolicy()


@struct.dataclass
class AllEdge(RobustPolicy):
    """Point 0: the edge computes everything."""

    def decide(self, state):
        return jnp.zeros_like(state.instance.model_id)


@struct.dataclass
class AllLocal(RobustPolicy):
    """The last point: every device computes everything itself."""

    def decide(self, state):
        return jnp.sum(state.instance.mask_m, axis=-1) - 1


@struct.dataclass
class LeastBandwidth(RobustPolicy):
    """The point that needs the least bandwidth: feasible whenever any partition is."""

    def decide(self, state):
        return jnp.argmin(state.bmin_mhz, axis=-1)


@struct.dataclass
class BestCommon(RobustPolicy):
    """The best of the partitions that give all devices one point.

    A device whose network ends before that point computes everything.
    """

    def decide(self, state):
        instance = state.instance
        last = jnp.sum(instance.mask_m, axis=-1) - 1
        common = jnp.minimum(jnp.arange(NUM_POINTS)[:, None], last).astype(jnp.int32)
        energy = jax.vmap(lambda m: robust.allocate(instance, m).E)(common)
        return common[jnp.argmin(energy)]


def partition_of(instance: robust.Instance, state: RobustState) -> jax.Array:
    """The certified optimum's partition of an instance, else that of least bandwidth; ``[N]``."""
    allocation, _ = certificate.solve(instance)
    return jnp.where(allocation.feasible, allocation.m, jnp.argmin(state.bmin_mhz, axis=-1))


@struct.dataclass
class WorstCase(RobustPolicy):
    """The certified optimum of the worst case: K standard deviations more, whatever the risk.

    Only its partition is taken; the resources are those of the robust problem. Where the worst case
    cannot be met it takes the partition of least bandwidth.

    calibration: whose fitted K.
    """

    calibration: str = struct.field(pytree_node=False, default="literal")

    def decide(self, state):
        worst = robust.worst_case(state.instance, calibration=self.calibration)
        return partition_of(worst, state)


@struct.dataclass
class EqualShare(RobustPolicy):
    """Every device for itself: its point of least energy if each had an equal share of the band.

    A device whose deadline no point meets there takes the point that needs the least bandwidth.
    """

    on_request: ClassVar[bool] = True

    def decide(self, state):
        instance, needed = state.instance, state.bmin_mhz
        share = instance.B / jnp.sum(instance.mask_n)
        energy = robust.energy(robust.links_of(instance), share)
        best = jnp.argmin(jnp.where(needed <= share, energy, jnp.inf), axis=-1)
        alone = jnp.min(needed, axis=-1) <= share
        return jnp.where(alone, best, jnp.argmin(needed, axis=-1))


@struct.dataclass
class MeanTime(RobustPolicy):
    """The certified optimum were every inference time its mean: plans without uncertainty.

    Only its partition is taken, as of `WorstCase`, to which it is the opposite.
    """

    on_request: ClassVar[bool] = True

    def decide(self, state):
        return partition_of(robust.worst_case(state.instance, K=0.0), state)


@struct.dataclass
class Algorithm2(RobustPolicy):
    """Algorithm 2 of the paper over PCCP, from the partition of least bandwidth."""

    def decide(self, state):
        return pccp.algorithm2(state.instance, step="pccp").best.m


@struct.dataclass
class ExactStep(RobustPolicy):
    """Algorithm 2 with the exact optimum of its partitioning step."""

    def decide(self, state):
        return pccp.algorithm2(state.instance, step="exact").best.m


@struct.dataclass
class Certified(RobustPolicy):
    """The certified solver."""

    def decide(self, state):
        return certificate.solve(state.instance)[0].m


@struct.dataclass
class Exhaustive(RobustPolicy):
    """The optimum by trying every partition, for a few devices; slow, so measured where named."""

    on_request: ClassVar[bool] = True

    @classmethod
    def unsupported(cls, env: Robust) -> str | None:
        """Why it cannot decide in an environment, or None."""
        most = int(math.log(robust.MAX_PARTITIONS, NUM_POINTS))
        return None if env.max_devices <= most else f"it needs max_devices of at most {most}"

    def decide(self, state):
        return robust.exhaustive(state.instance).m


@struct.dataclass
class DualBound(Bound):
    """The dual bound of every instance; of an infeasible one, what every policy pays."""

    env: Robust = struct.field(pytree_node=False)

    metric: ClassVar[str] = "penalized_energy_j"

    def update(self, carry, state, action, info, params):
        if self.env.certify:
            lower, feasible = info["lower_bound_j"], info["solvable"]
        else:
            _, proof = certificate.solve(state.instance)
            lower, feasible = proof.lb, proof.feasible
        devices = jnp.sum(state.instance.mask_n, dtype=carry[0].dtype)
        least = jnp.where(feasible, lower, self.env.penalty_j(params) * devices)
        return carry[0] + least, carry[1] + 1
