"""The environment of the splitting system: an episode, an action, and what is seen."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
import numpy as np

from allocators import rate
from jaxenv import spaces
from jaxenv.environment import Constraint, Metric
from jaxenv.splitting.costs import Costs, Slot
from jaxenv.splitting.params import SplittingParams
from jaxenv.splitting.simulation import Simulation
from jaxenv.splitting.state import Queues, SplittingState, updated


@dataclasses.dataclass(frozen=True, kw_only=True)
class Splitting(Simulation):
    """One device, one edge host, one decision per slot.

    Sizes and options are those of `jaxenv.splitting.scenario.Scenario`.
    """

    name: ClassVar[str] = "splitting"
    constraints: ClassVar[tuple[Constraint, ...]] = (
        Constraint("outage", ("outage",)),
        Constraint("outage_limit", ("outage",), limit="outage_eps"),
        Constraint("delay_limit", ("delay_s",), limit="delay_avg_s"),
    )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Energy saved against computing everything locally, and what the constraints limit."""
        cost = (Metric("mean_cost_j", "J", "min", "mean", "cost_j"),)
        saved = ("saved_energy_j", "full_local_energy_j")
        return (
            Metric("energy_saving", "%", "max", "ratio", *saved, scale=100),
            Metric("mean_energy_j", "J", "min", "mean", "energy_j"),
            Metric("mean_delay_s", "s", "min", "mean", "delay_s"),
            Metric("outage", "%", "min", "mean", "outage", scale=100),
            *(cost if self.reward_mode == "lagrangian" else ()),
        )

    @property
    def observation_space(self) -> spaces.Box:
        return spaces.Box(-np.inf, np.inf, (5,), self.float_dtype)

    @property
    def action_space(self) -> spaces.Discrete | spaces.Tuple:
        split = spaces.Discrete(self.num_splits)
        if self.action_mode == "split":
            return split
        return spaces.Tuple((split, spaces.Box(0.0, 1.0, (), self.float_dtype)))

    # ---- the contract --------------------------------------------------------------------------

    def reset_env(self, key: chex.PRNGKey, params: SplittingParams) -> SplittingState:
        key_data = jax.random.key_data(key)
        row = self._row(key_data, params)
        last = self._draw(key_data, jnp.int32(-1), row, None, params)
        context = self._draw(key_data, jnp.int32(0), row, last, params)
        zero = jnp.zeros((), self.float_dtype)
        return SplittingState(
            key=key,
            time=jnp.int32(0),
            context=context,
            seen=None if self.observed == "now" else last,
            queues=Queues(params.z0, zero, params.h0, zero),
            row=row,
        )

    def step_env(
        self, key: chex.PRNGKey, state: SplittingState, action: Any, params: SplittingParams
    ) -> tuple[SplittingState, chex.Array, chex.Array, dict[str, Any]]:
        """Processes the slot's batch, updates the queues (13), (14) and draws the next context.

        Returns:
            The state, the reward, False, and ``info``: delays in s, energies in J, ``outage``,
            ``split``, ``rate_bps`` and ``power_w`` as used, ``saved_energy_j`` and
            ``full_local_energy_j`` (N E_J), ``cost_j`` (E + z D_c + eta o at the params' prices),
            and the queues ``z``, ``h`` after the update.
        """
        costs = self.costs(params)
        slot = self.slot(state.context, state.queues, costs, params)
        split, nats = self.decision(state, action, costs, params)
        uplink = self.uplink(slot.snr_per_watt, params)
        nats = jnp.clip(nats, *rate.nats_range(uplink))
        result = self.outcome(split, nats, slot, costs, params)
        queues = updated(state.queues, result.delay_s, result.outage, params)
        clipped = jnp.minimum(result.delay_s, params.delay_clip_s)
        cost = result.energy_j + params.delay_price * clipped + params.outage_price * result.outage
        drift = slot.z * (clipped - params.delay_avg_s)
        drift += slot.h * (result.outage - params.outage_eps)
        dpp = params.tradeoff_v * result.energy_j + drift
        reward = -(dpp if self.reward_mode == "dpp" else cost)
        full_local = slot.num_images * costs.energy_j[-1]
        info = result._asdict() | {
            "split": split.astype(self.float_dtype),
            "rate_bps": rate.rate_bps(nats, params.bandwidth_hz),
            "power_w": rate.power_w(nats, slot.snr_per_watt),
            "full_local_energy_j": full_local,
            "saved_energy_j": full_local - result.energy_j,
            "cost_j": cost,
            "z": queues.z,
            "h": queues.h,
        }
        following = state.replace(
            context=self._draw(
                jax.random.key_data(state.key), state.time + 1, state.row, state.context, params
            ),
            seen=None if self.observed == "now" else state.context,
            queues=queues,
        )
        return following, reward, jnp.asarray(False), info

    def decision(
        self, state: SplittingState, action: Any, costs: Costs, params: SplittingParams
    ) -> tuple[chex.Array, chex.Array]:
        """Splitting point and nats per channel use that an action stands for."""
        slot = self.seen_slot(state, costs, params)
        if self.action_mode == "split":
            return action, self.closed_form_nats(slot, params)
        split, place = action
        least, most = self.nats_range(slot, params)
        return split, least + place * (most - least)

    def encode(
        self,
        split: chex.Array,
        nats: chex.Array,
        state: SplittingState,
        costs: Costs,
        params: SplittingParams,
    ) -> Any:
        """The action of a decision; with action_mode="split" the rate is that of eq (19) anyway."""
        split = jnp.asarray(split, jnp.int32)
        if self.action_mode == "split":
            return split
        slot = self.seen_slot(state, costs, params)
        least, most = self.nats_range(slot, params)
        width = most - least
        place = jnp.where(width > 0, (nats - least) / jnp.where(width > 0, width, 1), 0)
        return split, jnp.clip(place, 0, 1).astype(self.float_dtype)

    def observe(self, state: SplittingState, params: SplittingParams) -> chex.Array:
        """``[5]``: N/10, log10 g, log10 alpha, Z/(V z_ref) and H/(V eta_ref), each at most 10."""
        return self.observation_of(self.seen_slot(state, self.costs(params), params), params)

    def observation_of(self, slot: Slot, params: SplittingParams) -> chex.Array:
        """`observe` of what a decision may know of a slot, ``[..., 5]``."""
        z = slot.z / (params.tradeoff_v * params.z_ref)
        h = slot.h / (params.tradeoff_v * params.eta_ref)
        parts = jnp.broadcast_arrays(
            slot.num_images / 10,
            jnp.log10(slot.snr_per_watt),
            jnp.log10(slot.availability),
            jnp.minimum(z, 10),
            jnp.minimum(h, 10),
        )
        return jnp.stack(parts, axis=-1).astype(self.float_dtype)

    def reward_unit(self, params: SplittingParams) -> chex.Array:
        """The energy of a mean batch computed locally, times V where the reward has it."""
        local = params.arrival_rate * self.costs(params).energy_j[-1]
        return local * (params.tradeoff_v if self.reward_mode == "dpp" else 1)

    def draw_episode(self, figure: Any, steps: Any, now: int, params: SplittingParams) -> None:
        """Draws an episode up to step ``now``; see `jaxenv.rendering.splitting`."""
        from jaxenv.rendering.splitting import draw_episode

        draw_episode(figure, self, steps, now, params)
