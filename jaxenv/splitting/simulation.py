"""Many long trajectories in one call, and their metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from allocators import rate
from jaxenv import struct
from jaxenv.environment import as_key
from jaxenv.errors import ConfigError
from jaxenv.physics import arrivals
from jaxenv.splitting.params import TABLES, SplittingParams
from jaxenv.splitting.scenario import Scenario
from jaxenv.splitting.slots import BLOCK, Slots
from jaxenv.splitting.state import Context, Queues, updated


@struct.dataclass
class Totals:
    """Sums over chunks of slots of many trajectories: leaves ``[chunks, seeds, scenarios]``.

    split: int32 ``[chunks, K, seeds, scenarios]``, how often each point was chosen. z, h: sums of
    the queues after each slot; z_final, h_final: the queues at the end of the chunk.
    """

    energy_j: chex.Array
    full_local_energy_j: chex.Array
    delay_s: chex.Array
    outage: chex.Array
    z: chex.Array
    h: chex.Array
    z_final: chex.Array
    h_final: chex.Array
    split: chex.Array


class Simulation(Slots):
    """Trajectories without the environment's steps."""

    def simulate(self, policy: Any, params: SplittingParams, keys: chex.PRNGKey) -> Totals:
        """Trajectories of ``num_slots`` under every scenario and key, as sums over chunks.

        All scenarios meet the same draws under one key, so curves are paired, and drawing costs as
        if there were one scenario. Add chunks up in float64, see `simulated_metrics`.

        Args:
            policy: has ``decide(slot, costs, params) -> (split, nats)``, elementwise in all shapes.
                Its leaves are scalars, or ``[scenarios]``.
            params: each leaf but the tables and ``table_start`` may have a leading axis of
                scenarios.
            keys: ``[seeds]``, or one key.

        Raises:
            ConfigError: axes of different lengths, or tables of several scenarios.
        """
        keys = as_key(keys)
        key_data = jnp.atleast_2d(jax.random.key_data(keys))
        params, scenarios = self._with_trailing_axes(params, policy)
        wide = scenarios > 1  # an innermost axis of one would keep the processor from vectorising
        shape = (len(key_data), scenarios) if wide else (len(key_data),)
        costs = self.costs(params)
        poisson = arrivals.poisson_table(params.arrival_rate, self.max_images)
        row = jax.vmap(lambda data: self._row(data, params))(key_data)
        row = row[:, None] if wide and row is not None else row
        points = jnp.arange(self.num_splits, dtype=np.min_scalar_type(self.num_splits - 1))
        # XLA fuses a result with all it depends on, and would repeat the whole decision for each of
        # its uses. It does not look into a conditional, even if only we know how that turns out.
        always = jnp.all(params.delay_max_s > 0)

        def once(function: Callable[..., Any], *arguments: Any) -> Any:
            nothing = jax.eval_shape(function, *arguments)
            skip = lambda *_: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), nothing)  # noqa: E731
            return jax.lax.cond(always, function, skip, *arguments)

        words_of = jax.vmap(
            lambda block: jax.vmap(arrivals.stream_words, (0, None))(key_data, block)
        )

        def fresh_of(slots: chex.Array) -> tuple[chex.Array, ...]:
            """Draws ``[slots, seeds(, 1)]``; the words of a block are made once."""
            first = slots[0] // BLOCK
            words = words_of(first + jnp.arange(len(slots) // BLOCK + 2, dtype=jnp.int32))
            words = jax.tree.map(lambda x: x[slots // BLOCK - first], words)
            if wide:
                return self._fresh(
                    jax.tree.map(lambda x: x[..., None], words), slots[:, None, None]
                )
            return self._fresh(words, slots[:, None])

        def context_of(last: Context | None, fresh: Any, time: chex.Array) -> Context:
            return self._context(last, fresh, None if row is None else row + time, poisson, params)

        def stepped(carry: tuple[Any, ...], drawn: Any) -> tuple[tuple[Any, ...], chex.Array]:
            queues, last, totals = carry
            if self.contexts == "markov":
                context, limits = context_of(last, *drawn), None
            else:
                context, limits = drawn
            slot = self.slot(context, queues, costs, params)._replace(limits=limits)
            seen = slot
            if self.observed == "late":
                seen = self.slot(self._seen(context, last), queues, costs, params)
            split, nats = once(policy.decide, seen, costs, params)
            delay, energy, outage = once(self.outcome, split, nats, slot, costs, params)[:3]
            queues = updated(queues, delay, outage, params)
            added = (energy, delay, outage, queues.z, queues.h)
            totals = tuple(total + x for total, x in zip(totals, added, strict=True))
            if last is not None:  # of all scenarios, even if none of them changes the draws
                last = jax.tree.map(lambda x: jnp.broadcast_to(x, shape), context)
            return (queues, last, totals), jnp.broadcast_to(split, shape).astype(points.dtype)

        def chunk(carry: tuple[Any, Any], first: chex.Array) -> tuple[tuple[Any, Any], Totals]:
            times = first + jnp.arange(self.chunk_slots, dtype=jnp.int32)
            fresh = fresh_of(times + 1)
            context = jax.vmap(lambda f, t: context_of(None, f, t))(fresh, times)
            images = jnp.broadcast_to(jnp.sum(context.num_images, axis=0), shape)
            if self.contexts == "markov":  # only the numbers of images do not need the slot before
                drawn = (fresh, times)
            else:
                channel = self.uplink(costs.snr_per_watt * context.fading, params)
                drawn = (context, rate.limits(channel))
            zeros = jnp.zeros(shape, self.float_dtype)
            (queues, last, totals), splits = jax.lax.scan(stepped, (*carry, (zeros,) * 5), drawn)
            energy, delay, outage, z, h = totals
            at = lambda k: jnp.sum(splits == k, axis=0, dtype=jnp.int32)  # noqa: E731
            counts = jax.lax.map(at, points)
            return (queues, last), Totals(
                energy_j=energy,
                full_local_energy_j=images * costs.energy_j[-1],
                delay_s=delay,
                outage=outage,
                z=z,
                h=h,
                z_final=queues.z,
                h_final=queues.h,
                split=counts,
            )

        zeros = jnp.zeros(shape, self.float_dtype)
        queues = Queues(zeros + params.z0, zeros, zeros + params.h0, zeros)
        last = None
        if self.contexts == "markov" or self.observed == "late":
            fresh = jax.tree.map(lambda x: x[0], fresh_of(jnp.zeros(1, jnp.int32)))
            last = context_of(None, fresh, jnp.int32(-1))
            last = jax.tree.map(lambda x: jnp.broadcast_to(x, shape), last)
        starts = jnp.arange(0, self.num_slots, self.chunk_slots, dtype=jnp.int32)
        totals = jax.lax.scan(chunk, (queues, last), starts)[1]
        return totals if wide else jax.tree.map(lambda x: x[..., None], totals)

    def _with_trailing_axes(
        self, params: SplittingParams, policy: Any
    ) -> tuple[SplittingParams, int]:
        """Scenarios last: leaves ``[..., 1, scenarios or 1]``, and the number of scenarios.

        With one scenario ``[..., 1]``, for an axis of seeds alone.

        Tables stay as they are: all scenarios share them.
        """
        tables = {name: getattr(params, name) for name in (*TABLES, "table_start")}
        leaves, structure = jax.tree.flatten(params)
        shapes = jax.eval_shape(self.default_params)
        plain = jax.tree.leaves(shapes)
        sizes = {1} | {len(x) for x, one in zip(leaves, plain, strict=True) if x.ndim > one.ndim}
        sizes |= {len(x) for x in jax.tree.leaves(policy) if jnp.ndim(x)}
        if len(sizes) > 2:
            raise ConfigError("scenarios", sorted(sizes - {1}), "give axes of one length")
        for name, table in tables.items():
            if table.ndim > getattr(shapes, name).ndim:
                raise ConfigError(name, list(table.shape), "all scenarios share one table")
        leaves = [
            jnp.moveaxis(x if x.ndim > one.ndim else x[None], 0, -1)
            for x, one in zip(leaves, plain, strict=True)
        ]
        if max(sizes) > 1:
            leaves = [x[..., None, :] for x in leaves]
        return jax.tree.unflatten(structure, leaves).replace(**tables), max(sizes)

    def trace(self, params: SplittingParams, key: chex.PRNGKey) -> Context:
        """The contexts ``[num_slots]`` that `simulate` meets under a key."""
        key_data = jax.random.key_data(as_key(key))
        row, times = self._row(key_data, params), jnp.arange(self.num_slots, dtype=jnp.int32)

        def following(last: Context, time: chex.Array) -> tuple[Context, Context]:
            context = self._draw(key_data, time, row, last, params)
            return context, context

        if self.contexts == "markov":
            before = self._draw(key_data, jnp.int32(-1), row, None, params)
            return jax.lax.scan(following, before, times)[1]
        return jax.vmap(lambda time: self._draw(key_data, time, row, None, params))(times)


def simulated_metrics(env: Scenario, totals: Totals, burn_in: int | None = None) -> dict[str, Any]:
    """Metrics of `Splitting.simulate` after the burn-in, float64 ``[seeds, scenarios]``.

    ``mean_energy_j``, ``energy_saving_pct`` (100 (1 - sum E / sum N E_J)), ``mean_delay_s``,
    ``outage``, ``split_mean``, ``split_std`` (population), ``split_hist`` ``[K, seeds,
    scenarios]`` (shares), ``z_final``, ``h_final``, ``z_mean``, ``h_mean``.
    """
    skip = (env.burn_in if burn_in is None else burn_in) // env.chunk_slots
    kept = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64)[skip:], jax.device_get(totals))
    slots = kept.energy_j.shape[0] * env.chunk_slots
    sums = jax.tree.map(lambda leaf: leaf.sum(axis=0), kept)
    share = sums.split / slots
    point = np.arange(share.shape[0]).reshape(-1, 1, 1)
    mean = (point * share).sum(axis=0)
    return {
        "mean_energy_j": sums.energy_j / slots,
        "energy_saving_pct": 100 * (1 - sums.energy_j / sums.full_local_energy_j),
        "mean_delay_s": sums.delay_s / slots,
        "outage": sums.outage / slots,
        "split_mean": mean,
        "split_std": np.sqrt(np.maximum((point**2 * share).sum(axis=0) - mean**2, 0)),
        "split_hist": share,
        "z_final": kept.z_final[-1],
        "h_final": kept.h_final[-1],
        "z_mean": sums.z / slots,
        "h_mean": sums.h / slots,
    }
