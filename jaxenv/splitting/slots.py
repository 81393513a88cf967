"""One slot of the splitting system: its channel, the outcome of a decision, its draws."""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np

from allocators import rate
from jaxenv.physics import arrivals
from jaxenv.splitting.costs import Costs, Outcome, Slot, job, pick
from jaxenv.splitting.params import TABLES, SplittingParams
from jaxenv.splitting.scenario import Scenario
from jaxenv.splitting.state import Context, Queues, SplittingState

LEAST_FADING = 1e-12
MOST_BELOW_ONE = 1 - 2.0**-24
BLOCK = 256  # slots that share a stream of random words
_START_STREAM = -1


class Slots(Scenario):
    """What a slot brings, and what a decision in it leads to."""

    # ---- a decision ----------------------------------------------------------------------------

    def uplink(self, snr_per_watt: chex.Array, params: SplittingParams) -> rate.Uplink:
        """The channel of a slot."""
        p = params
        return rate.Uplink(snr_per_watt, p.bandwidth_hz, p.power_min_w, p.power_max_w)

    def nats_range(self, slot: Slot, params: SplittingParams) -> tuple[chex.Array, chex.Array]:
        """Least and largest nats per channel use in a slot."""
        if slot.limits is not None:
            return slot.limits[:2]
        return rate.nats_range(self.uplink(slot.snr_per_watt, params))

    def closed_form_nats(self, slot: Slot, params: SplittingParams) -> chex.Array:
        """Nats per channel use of eq (19), for the paper's surrogate of the outage."""
        omega = slot.z + slot.h / params.delay_max_s
        uplink = self.uplink(slot.snr_per_watt, params)
        return rate.surrogate_nats(omega / params.tradeoff_v, uplink, self.allocator, slot.limits)

    def outcome(
        self,
        split: chex.Array,
        nats: chex.Array,
        slot: Slot,
        costs: Costs,
        params: SplittingParams,
    ) -> Outcome:
        """Delay, energy and outage of a decision in a slot; eqs (7) to (11), (8) times N.

        The rate is first brought into the slot's range.
        """
        uplink = self.uplink(slot.snr_per_watt, params)
        nats = jnp.clip(nats, *self.nats_range(slot, params))
        row = pick(costs, split)
        work = job(row, slot)
        delay_s, energy_j = rate.delay_and_energy(nats, work, uplink)
        tx_delay_s, tx_energy_j = rate.delay_and_energy(nats, rate.Job(work.bits, 0, 0), uplink)
        return Outcome(
            delay_s=delay_s,
            energy_j=energy_j,
            outage=(delay_s > params.delay_max_s).astype(delay_s.dtype),
            local_delay_s=slot.num_images * row.local_s,
            tx_delay_s=tx_delay_s,
            remote_delay_s=slot.num_images * row.remote_s * (1 / slot.availability),
            local_energy_j=work.other_energy_j,
            tx_energy_j=tx_energy_j,
        )

    # ---- contexts ------------------------------------------------------------------------------

    def _fresh(
        self, words: tuple[chex.Array, chex.Array], slot: chex.Array
    ) -> tuple[chex.Array, ...]:
        """A slot's draws, from the words of the stream of its block.

        Returns uniforms of the images and of the availability, the fading power and, with
        contexts="markov", uniforms of the phase and of whether the availability stays.
        """
        count = 5 if self.contexts == "markov" else 3

        def uniform(number: int) -> chex.Array:
            bits = arrivals.counted_bits(*words, (slot % BLOCK) * count + number)
            return (bits.astype(self.float_dtype) + 0.5) * 2.0**-32

        power = -jnp.log1p(-jnp.minimum(uniform(1), MOST_BELOW_ONE))
        fading = jnp.maximum(power, LEAST_FADING)
        return uniform(0), uniform(2), fading, *map(uniform, range(3, count))

    def _context(
        self,
        last: Context | None,
        fresh: tuple[chex.Array, ...],
        row: chex.Array | None,
        poisson: chex.Array,
        params: SplittingParams,
    ) -> Context:
        """The context that follows ``last`` (None for a stationary start).

        fresh: of `_fresh`. row: of the tables. poisson: the table of the arrivals.
        """
        uniform, share, fading, *correlated = fresh
        images = count_below(jnp.minimum(uniform, MOST_BELOW_ONE), poisson)
        gain = None
        if self.contexts == "markov":
            phase, stay = correlated
            amplitude = jnp.sqrt(fading)
            gain = (
                amplitude * jnp.cos(2 * math.pi * phase),
                amplitude * jnp.sin(2 * math.pi * phase),
            )
            if last is not None:
                keep = params.fading_correlation
                renew = jnp.sqrt(1 - keep**2)
                gain = tuple(
                    keep * old + renew * new for old, new in zip(last.gain, gain, strict=True)
                )
                share = jnp.where(stay < params.availability_correlation, last.share, share)
            fading = jnp.maximum(gain[0] ** 2 + gain[1] ** 2, LEAST_FADING)
        if self.contexts == "given":
            drawn = (images, fading, share)
            images, fading, share = (
                _table(getattr(params, name), row, value)
                for name, value in zip(TABLES, drawn, strict=True)
            )
        return Context(images, fading, share, gain)

    def _row(self, key_data: chex.Array, params: SplittingParams) -> chex.Array | None:
        """The row of the tables in the first slot; None without tables."""
        if self.contexts != "given":
            return None
        words = arrivals.stream_words(key_data, jnp.int32(_START_STREAM))
        drawn = arrivals.counted_bits(*words, 0)
        drawn = (drawn % np.uint32(self.table_rows)).astype(jnp.int32)
        return jnp.where(params.table_start < 0, drawn, params.table_start)

    def slot(self, context: Context, queues: Queues, costs: Costs, params: SplittingParams) -> Slot:
        """What a decision in a context knows."""
        return Slot(
            num_images=context.num_images,
            snr_per_watt=costs.snr_per_watt * context.fading,
            availability=params.availability_max * context.share,
            z=queues.z,
            h=queues.h,
        )

    def seen_slot(self, state: SplittingState, costs: Costs, params: SplittingParams) -> Slot:
        """What the decision of a state may know: with observed="late" the old channel and host."""
        return self.slot(self._seen(state.context, state.seen), state.queues, costs, params)

    def _seen(self, context: Context, last: Context | None) -> Context:
        if self.observed == "now":
            return context
        return context.replace(fading=last.fading, share=last.share)

    def _draw(
        self,
        key_data: chex.Array,
        time: chex.Array,
        row: chex.Array | None,
        last: Context | None,
        params: SplittingParams,
    ) -> Context:
        """The context at a time, after ``last``; time -1 is the slot before the first one."""
        slot = time + 1
        fresh = self._fresh(arrivals.stream_words(key_data, slot // BLOCK), slot)
        poisson = arrivals.poisson_table(params.arrival_rate, self.max_images)
        return self._context(last, fresh, None if row is None else row + time, poisson, params)


def count_below(uniform: chex.Array, table: chex.Array) -> chex.Array:
    """How many entries of an increasing table ``[size, ...]`` are at most ``uniform``."""

    def add(count: chex.Array, entry: chex.Array) -> tuple[chex.Array, None]:
        return count + (uniform >= entry).astype(uniform.dtype), None

    shape = jnp.broadcast_shapes(uniform.shape, table.shape[1:])
    zero = jnp.zeros(shape, uniform.dtype)
    return jax.lax.scan(add, zero, table.astype(uniform.dtype), unroll=True)[0]


def _table(table: chex.Array, row: chex.Array, drawn: chex.Array) -> chex.Array:
    """The entry of a periodic table, or what was drawn where it is negative."""
    entry = table[row % table.shape[0]]
    return jnp.where(entry < 0, drawn, entry)
