"""A device that computes by itself or offloads: two queues, one decision per slot.

In every slot a task arrives and joins the queue of the device's processor (0) or that of its share
of an edge server (1), which are served first come, first served. To get to the edge it is sent over
a fading channel first. A slot costs the delay of its task and, at a price, the energy that the
device spends on it. An upload takes time, but no place in a queue: the work joins at once.
"""

from __future__ import annotations

import dataclasses

import chex
import jax.numpy as jnp

import jaxenv
from agents import registry
from agents.learner import Bound, Policy, RandomPolicy
from jaxenv import Metric, Params, State, spaces, struct, validation
from jaxenv.physics import compute, radio


@struct.dataclass
class TwoQueuesParams(Params):
    """The scenario.

    slot_s: length of a slot. task_bits: mean size of a task, exponential. cycles_per_bit: of work.
    local_hz, edge_hz: of the processor and of the share. kappa: of the processor, W/Hz^3.
    bandwidth_hz, power_w, snr: of the uplink; snr at fading 1. least_fading: weaker counts as this.
    energy_price: seconds of delay that a joule is worth, s/J.
    """

    slot_s: chex.Array
    task_bits: chex.Array
    cycles_per_bit: chex.Array
    local_hz: chex.Array
    edge_hz: chex.Array
    kappa: chex.Array
    bandwidth_hz: chex.Array
    power_w: chex.Array
    snr: chex.Array
    least_fading: chex.Array
    energy_price: chex.Array


@struct.dataclass
class TwoQueuesState(State):
    """queued: cycles that wait at the device and at the edge, ``[2]``.

    bits: of the task that is to be placed. fading: power gain of the channel.
    """

    queued: chex.Array
    bits: chex.Array
    fading: chex.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwoQueues(jaxenv.Environment[TwoQueuesState, TwoQueuesParams]):
    """The action is the queue: 0 the device's, 1 the edge's."""

    name = "two_queues"
    metrics = (
        Metric("cost", "s", "min", "mean", "cost"),
        Metric("delay_s", "s", "min", "mean", "delay_s"),
        Metric("energy_j", "J", "min", "mean", "energy_j"),
    )

    def default_params(self):
        leaves = dict(slot_s=0.3, task_bits=1e6, cycles_per_bit=500.0, local_hz=1e9, edge_hz=1.5e9)
        leaves |= dict(kappa=1e-27, bandwidth_hz=2e6, power_w=0.5, snr=10.0, least_fading=0.05)
        leaves = {name: self.as_leaf(value) for name, value in leaves.items()}
        return TwoQueuesParams(jnp.int32(100), energy_price=self.as_leaf(0.2), **leaves)

    def validate(self, params):
        names = {field.name for field in dataclasses.fields(params)}
        validation.check_leaves(params, sorted(names - {"energy_price"}), validation.POSITIVE)
        validation.check_leaves(params, ["energy_price"], validation.NOT_NEGATIVE)

    def reset_env(self, key, params):
        queued = jnp.zeros((2,), self.float_dtype)
        return TwoQueuesState(key, jnp.int32(0), queued, *self.arrival(key, params))

    def arrival(self, key, params):
        """Bits of a task and the fading that it meets."""
        task, fading = radio.rayleigh_power_gain(key, (2,), self.float_dtype)  # both exponential
        return params.task_bits * task, jnp.maximum(fading, params.least_fading)

    def delays_and_energies(self, state, params):
        """Delay in s and energy in J of the task in either queue, ``[2]`` each."""
        cycles = params.cycles_per_bit * state.bits
        rate_bps = radio.shannon_rate(params.bandwidth_hz, params.snr * state.fading)
        service_s = (state.queued + cycles) / jnp.stack([params.local_hz, params.edge_hz])
        delays = service_s.at[1].add(state.bits / rate_bps)
        local_j = compute.dvfs_energy_j(params.kappa, cycles, params.local_hz)
        sending_j = compute.transmit_energy_j(params.power_w, state.bits, rate_bps)
        return delays, jnp.stack([local_j, sending_j])

    def costs(self, state, params):
        """Cost in s of the task in either queue, ``[2]``."""
        delays, energies = self.delays_and_energies(state, params)
        return delays + params.energy_price * energies

    def step_env(self, key, state, action, params):
        delays, energies = self.delays_and_energies(state, params)
        cost = self.costs(state, params)[action]
        info = {"cost": cost, "delay_s": delays[action], "energy_j": energies[action]}
        joined = state.queued.at[action].add(params.cycles_per_bit * state.bits)
        served = params.slot_s * jnp.stack([params.local_hz, params.edge_hz])
        bits, fading = self.arrival(key, params)
        state = state.replace(queued=jnp.maximum(joined - served, 0), bits=bits, fading=fading)
        return state, -cost, jnp.asarray(False), info

    def observe(self, state, params):
        """Seconds of work in both queues, the task in mean sizes, the fading."""
        waiting_s = state.queued / jnp.stack([params.local_hz, params.edge_hz])
        return jnp.append(waiting_s, jnp.stack([state.bits / params.task_bits, state.fading]))

    @property
    def observation_space(self):
        return spaces.Box(0.0, jnp.inf, (4,), self.float_dtype)

    @property
    def action_space(self):
        return spaces.Discrete(2)


@struct.dataclass
class LeastCost(Policy):
    """The queue in which the task costs less; what that costs the tasks to come is ignored."""

    env: TwoQueues = struct.field(pytree_node=False)

    uses_state = True

    def act(self, carry, key, observation, mask, state, params):
        return jnp.argmin(self.env.costs(state, params)).astype(jnp.int32), carry


@struct.dataclass
class EmptyQueues(Bound):
    """Every task where it costs less if nothing waits: no policy changes sizes and channels."""

    env: TwoQueues = struct.field(pytree_node=False)

    metric = "cost"

    def update(self, carry, state, action, info, params):
        empty = state.replace(queued=jnp.zeros_like(state.queued))
        return carry[0] + jnp.min(self.env.costs(empty, params)), carry[1] + 1


jaxenv.register("two_queues", TwoQueues)
registry.register_baseline("two_queues", "Random", lambda env: RandomPolicy())
registry.register_baseline("two_queues", "LeastCost", LeastCost)
registry.register_bound("two_queues", EmptyQueues)
