"""Baselines and the dual bound of the splitting system.

A policy here decides a splitting point and a rate in nats per channel use, elementwise in arrays of
any shape, so that `Splitting.simulate` runs all scenarios and seeds at once; as a `Policy` it acts
in the environment, where `evaluate` measures it.

Source: "Energy-efficient cooperative inference via adaptive deep neural network splitting at the
edge", IEEE ICC 2023; the bound is Lagrangian duality over the slots of a trace.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import i0e

from agents.learner import Bound, Policy, effective_env
from allocators import rate
from jaxenv import struct
from jaxenv.splitting import (
    Context,
    Costs,
    Queues,
    Slot,
    Splitting,
    first_minimum,
    job,
    rows,
    updated,
)

SAMPLE_SLOTS = 4096
PRICE_BOX = (15.0, 4.0)  # J/s, J
FIRST_PRICES = (5.0, 0.4)
LATE_FADINGS = np.geomspace(2e-3, 12, 64)
LATE_SHARES = 6


@struct.dataclass
class SplittingPolicy(Policy):
    """Base: `decide` says what to do in a slot."""

    env: Splitting = struct.field(pytree_node=False)

    uses_state: ClassVar[bool] = True

    @property
    def env_overrides(self) -> Mapping[str, Any]:
        return {"action_mode": "split_rate"}

    def act(self, carry, key, observation, mask, state, params):
        env = effective_env(self.env, self)
        costs = env.costs(params)
        decided = self.decide(env.seen_slot(state, costs, params), costs, params)
        return env.encode(*decided, state, costs, params), carry

    def decide(self, slot: Slot, costs: Costs, params: Any) -> tuple[chex.Array, chex.Array]:
        """``(split, nats)``: splitting point, int32, and nats per channel use."""
        raise NotImplementedError

    def full_power(self, slot: Slot, params: Any) -> chex.Array:
        """Nats per channel use at the largest power."""
        return self.env.nats_range(slot, params)[1]


@struct.dataclass
class FullLocal(SplittingPolicy):
    """The device computes everything."""

    def decide(self, slot, costs, params):
        nats = self.full_power(slot, params)
        return jnp.full(nats.shape, self.env.num_splits - 1, jnp.int32), nats


@struct.dataclass
class FullOffload(SplittingPolicy):
    """The host computes everything; images are sent at the largest power."""

    def decide(self, slot, costs, params):
        nats = self.full_power(slot, params)
        return jnp.zeros(nats.shape, jnp.int32), nats


@struct.dataclass
class StaticSplit(SplittingPolicy):
    """One splitting point, ``split`` (int32), at the largest power."""

    split: chex.Array

    def decide(self, slot, costs, params):
        nats = self.full_power(slot, params)
        return jnp.broadcast_to(
            self.split, jnp.broadcast_shapes(jnp.shape(self.split), nats.shape)
        ), nats


@struct.dataclass
class BestStaticSplit(SplittingPolicy):
    """The static splitting point that saves most among those within both limits.

    It is chosen at the start of an episode on drawn slots; full local where none is feasible.
    """

    def init(self, key, env, params):
        costs, slot = sample_slots(env, params)
        points = jnp.arange(env.num_splits, dtype=jnp.int32)[:, None]
        nats = self.full_power(slot, params)
        result = env.outcome(points, nats, slot, costs, params)
        feasible = jnp.mean(result.delay_s, axis=1) <= params.delay_avg_s
        feasible &= jnp.mean(result.outage, axis=1) <= params.outage_eps
        energy = jnp.where(feasible, jnp.mean(result.energy_j, axis=1), jnp.inf)
        best = jnp.argmin(energy).astype(jnp.int32)
        return jnp.where(jnp.any(feasible), best, env.num_splits - 1)

    def act(self, carry, key, observation, mask, state, params):
        return StaticSplit(self.env, carry).act((), key, observation, mask, state, params)[0], carry


@struct.dataclass
class CheapestWithinDelay(SplittingPolicy):
    """The least energy among the points that can meet a delay in this slot; else full local.

    Each point is sent at the least rate that meets the delay. limit: ``avg`` or ``max``, whose
    delay.
    """

    limit: Literal["avg", "max"] = struct.field(pytree_node=False, default="avg")

    def decide(self, slot, costs, params):
        theta = params.delay_avg_s if self.limit == "avg" else params.delay_max_s
        uplink = self.env.uplink(slot.snr_per_watt, params)
        least, most = rate.nats_range(uplink)

        def candidate(row):
            work = job(row, slot)
            needed = rate.nats_within(work, theta - work.other_delay_s, params.bandwidth_hz)
            nats = jnp.clip(needed, least, most)
            _, energy_j = rate.delay_and_energy(nats, work, uplink)
            usable = (needed <= most) | (row.bits == 0)
            return jnp.where(usable, energy_j, jnp.inf), nats

        return first_minimum(costs, candidate)


@struct.dataclass
class Binary(CheapestWithinDelay):
    """`CheapestWithinDelay` without partial splitting: the device computes everything or nothing.

    Y. Mao et al., "A survey on mobile edge computing: The communication perspective" (2017),
    doi:10.1109/COMST.2017.2745201, calls it binary offloading.
    """

    on_request: ClassVar[bool] = True

    def decide(self, slot, costs, params):
        ends = rows(costs)
        ends = jax.tree.map(lambda x: jnp.stack([x[0], x[-1]]), ends)._asdict()
        last, nats = CheapestWithinDelay.decide(self, slot, costs._replace(**ends), params)
        return last * (self.env.num_splits - 1), nats


def cheapest_within_maximum(env: Splitting) -> Policy:
    """`CheapestWithinDelay` for the largest delay allowed."""
    return CheapestWithinDelay(env, "max")


@struct.dataclass
class DriftPlusPenalty(SplittingPolicy):
    """The paper's controller: the rate of eq (19), then the point of least Z D + H o + V E."""

    @property
    def env_overrides(self) -> Mapping[str, Any]:
        return {}

    def decide(self, slot, costs, params):
        nats = self.env.closed_form_nats(slot, params)
        uplink = self.env.uplink(slot.snr_per_watt, params)
        prices = rate.Prices(slot.z, slot.h, params.tradeoff_v)

        def candidate(row):
            delay_s, energy_j = rate.delay_and_energy(nats, job(row, slot), uplink)
            return rate.objective(delay_s, energy_j, prices, params.delay_max_s), nats

        return first_minimum(costs, candidate, chained=True)


@struct.dataclass
class GuardedDriftPlusPenalty(SplittingPolicy):
    """Drift plus penalty that counts a batch as late after ``guard`` times the largest delay: a
    margin against what a late observation does not say, for who does not know its law."""

    guard: chex.Array

    def decide(self, slot, costs, params):
        stricter = params.replace(delay_max_s=self.guard * params.delay_max_s)
        return DriftPlusPenalty(self.env).decide(slot, costs, stricter)


@struct.dataclass
class DriftPlusPenaltyExpected(SplittingPolicy):
    """Drift plus penalty on what a late observation says of the present: the point of least
    expected Z D + H o + V E, at the rate of eq (19) for the observed channel.

    It knows the law of contexts="markov" and its correlations, see `present_given_late`. Delays
    count up to ``delay_clip_s``: the expectation is infinite where fading and share may come near
    0. Where decisions see the present, or nothing is known of its law, it is `DriftPlusPenalty`.
    """

    @property
    def env_overrides(self) -> Mapping[str, Any]:
        return {}

    def decide(self, slot, costs, params):
        env = self.env
        if env.observed == "now" or env.contexts == "given":
            return DriftPlusPenalty(env).decide(slot, costs, params)
        nats = env.closed_form_nats(slot, params)
        possible, weight = present_given_late(env, slot, costs, params)
        uplink = env.uplink(possible.snr_per_watt, params)
        actual = jnp.clip(nats, *rate.nats_range(uplink))
        prices = rate.Prices(slot.z, slot.h, params.tradeoff_v)

        def expected(row):
            delay_s, energy_j = rate.delay_and_energy(actual, job(row, possible), uplink)
            late = delay_s > params.delay_max_s
            delay_s = jnp.minimum(delay_s, params.delay_clip_s)
            value = prices.delay * delay_s + prices.outage * late + prices.energy * energy_j
            return jnp.sum(weight * value, axis=0)

        objective = jax.lax.map(expected, rows(costs))
        return jnp.argmin(objective, axis=0).astype(jnp.int32), nats


def present_given_late(
    env: Splitting, slot: Slot, costs: Costs, params: Any
) -> tuple[Slot, chex.Array]:
    """What the slot may be that was observed one slot late, on a grid.

    Given the old gain the new one is Gaussian around ``fading_correlation`` times it, so its power
    has the density ``exp(-(sqrt(y) - m)^2 / s) i0e(2 m sqrt(y) / s) / s``, m^2 = rho^2 x, s = 1 -
    rho^2. The share stays with probability ``availability_correlation``, else it is uniform. With
    contexts="independent" the observation says nothing.

    Returns:
        Slots and their probabilities, with a new leading axis.
    """
    markov = env.contexts == "markov"
    keep = params.fading_correlation if markov else jnp.zeros((), env.float_dtype)
    stay = params.availability_correlation if markov else jnp.zeros((), env.float_dtype)
    trailing = (1,) * jnp.ndim(slot.snr_per_watt)
    root = jnp.asarray(np.sqrt(LATE_FADINGS), env.float_dtype).reshape(-1, *trailing)
    old = keep * jnp.sqrt(slot.snr_per_watt / costs.snr_per_watt)
    fresh = 1 - keep**2
    # Points even in the logarithm: the density times y is their probability but for a constant.
    density = jnp.exp(-((root - old) ** 2) / fresh) * i0e(2 * old * root / fresh) * root**2
    density = density / jnp.sum(density, axis=0)
    shares = 0.75 * 0.5 ** np.arange(LATE_SHARES)  # the middles of (1/2, 1], (1/4, 1/2], ...
    chances = 0.5 ** np.minimum(np.arange(1, LATE_SHARES + 1), LATE_SHARES - 1)
    snr = costs.snr_per_watt * root**2
    points = [(density * stay, snr, slot.availability)]
    points += [
        (density * (1 - stay) * chance, snr, params.availability_max * share)
        for share, chance in zip(shares, chances, strict=True)
    ]
    points = [jnp.broadcast_arrays(*point) for point in points]
    weight, snr, availability = (jnp.concatenate(parts) for parts in zip(*points, strict=True))
    return slot._replace(snr_per_watt=snr, availability=availability), weight


@struct.dataclass
class DriftPlusPenaltyExact(SplittingPolicy):
    """Drift plus penalty that minimises Z D + H o + V E over the points and the rates."""

    def decide(self, slot, costs, params):
        return priced_decision(
            self.env, slot, costs, params, rate.Prices(slot.z, slot.h, params.tradeoff_v)
        )


@struct.dataclass
class DriftPlusPenaltyWarm(SplittingPolicy):
    """Drift plus penalty on queues of its own that start at V z*, V eta*, their usual level.

    The prices z*, eta* are those of `multipliers`.
    """

    def init(self, key, env, params):
        z, eta = multipliers(env, params)
        zero = jnp.zeros((), env.float_dtype)
        return Queues(params.tradeoff_v * z, zero, params.tradeoff_v * eta, zero)

    def act(self, carry, key, observation, mask, state, params):
        env = effective_env(self.env, self)
        costs = env.costs(params)
        slot = env.seen_slot(state, costs, params)._replace(z=carry.z, h=carry.h)
        split, nats = DriftPlusPenalty(env).decide(slot, costs, params)
        actual = env.slot(state.context, carry, costs, params)
        result = env.outcome(split, nats, actual, costs, params)
        queues = updated(carry, result.delay_s, result.outage, params)
        return env.encode(split, nats, state, costs, params), queues


def priced_decision(
    env: Splitting, slot: Slot, costs: Costs, params: Any, prices: rate.Prices
) -> tuple[chex.Array, chex.Array]:
    """``(split, nats)`` of the least ``Z D + H o + V E`` over all points and rates."""
    uplink = env.uplink(slot.snr_per_watt, params)
    nats = rate.surrogate_nats(prices.delay / prices.energy, uplink, env.allocator)

    def candidate(row):
        best, objective = rate.exact_nats(job(row, slot), prices, uplink, params.delay_max_s, nats)
        return objective, best

    return first_minimum(costs, candidate)


# ---- the dual ---------------------------------------------------------------------------------


def sample_slots(env: Splitting, params: Any) -> tuple[Costs, Slot]:
    """The costs ``[K, 1]`` and `SAMPLE_SLOTS` slots, always the same draws, with empty queues."""
    short = dataclasses.replace(
        env,
        num_slots=SAMPLE_SLOTS,
        burn_in=0,
        chunk_slots=SAMPLE_SLOTS,
        contexts=_without_memory(env),
    )
    costs = env.costs(params)
    contexts = short.trace(params, jax.random.key(0))
    return _columns(costs), _queueless(env, contexts, costs, params)


def _queueless(env: Splitting, contexts: Context, costs: Costs, params: Any) -> Slot:
    """Slots with empty queues."""
    zero = jnp.zeros((), env.float_dtype)
    return env.slot(contexts, Queues(zero, zero, zero, zero), costs, params)


def _columns(costs: Costs) -> Costs:
    """Costs that broadcast against many slots."""
    return jax.tree.map(lambda x: x[:, None] if x.ndim else x, costs)


def _without_memory(env: Splitting) -> str:
    """How to draw single slots of the same distribution."""
    return "given" if env.contexts == "given" else "independent"


def lagrangian(
    env: Splitting, slot: Slot, costs: Costs, params: Any, z: chex.Array, eta: chex.Array
) -> tuple[chex.Array, chex.Array, chex.Array]:
    """Least ``E + z D + eta o`` of slots, and the delay and outage where it is taken."""
    prices = rate.Prices(z, eta, jnp.ones_like(z))
    split, nats = priced_decision(env, slot, costs, params, prices)
    result = env.outcome(split, nats, slot, costs, params)
    value = result.energy_j + z * result.delay_s + eta * result.outage
    return value, result.delay_s, result.outage


def multipliers(env: Splitting, params: Any, steps: int = 80) -> tuple[chex.Array, chex.Array]:
    """Prices (z*, eta*) of delay and outage, J/s and J, by the ellipsoid method on drawn slots.

    They maximise the dual of a sample, so that on any trace they give a bound that is nearly the
    best; every z, eta >= 0 gives a valid one.
    """
    costs, slot = sample_slots(env, params)
    limits = jnp.stack([params.delay_avg_s, params.outage_eps])

    def step(_, carry):
        center, shape = carry
        inside = jnp.maximum(center, 0)
        _, delay, outage = lagrangian(env, slot, costs, params, *inside)
        slope = jnp.stack([jnp.mean(delay), jnp.mean(outage)]) - limits
        # Outside of the quadrant the cut is the violated sign, else the supergradient.
        slope = jnp.where(jnp.any(center < 0), (center < 0).astype(slope.dtype), slope)
        along = shape @ slope
        width = jnp.sqrt(jnp.maximum(slope @ along, 1e-30))
        n = 2
        along = along / width
        center = center + along / (n + 1)
        shape = n**2 / (n**2 - 1) * (shape - 2 / (n + 1) * jnp.outer(along, along))
        return center, shape

    start = jnp.asarray(PRICE_BOX, env.float_dtype) / 2
    center, _ = jax.lax.fori_loop(0, steps, step, (start, jnp.diag(2 * start**2)))
    center = jnp.maximum(center, 0)
    return center[0], center[1]


@struct.dataclass
class DualBound(Bound):
    """The most energy that any policy within both limits can save on the trace it met.

    Weak duality at the prices of `multipliers`: the mean energy is at least the mean over the slots
    of the least E + z D + eta o, minus z D_avg + eta eps. A policy that breaks a limit may save
    more, by at most the price of what it breaks it by.
    """

    env: Splitting = struct.field(pytree_node=False)

    metric: ClassVar[str] = "energy_saving"

    def init(self, key, env, params):
        return super().init(key, env, params), multipliers(env, params)

    def update(self, carry, state, action, info, params):
        (saved, full_local), (z, eta) = carry
        costs = self.env.costs(params)
        slot = self.env.slot(state.context, state.queues, costs, params)
        least, _, _ = lagrangian(self.env, slot, costs, params, z, eta)
        least -= z * params.delay_avg_s + eta * params.outage_eps
        full = slot.num_images * costs.energy_j[-1]
        return (saved + 100 * (full - least), full_local + full), (z, eta)

    def terms(self, carry):
        return carry[0]


@dataclasses.dataclass(frozen=True)
class DualSolution:
    """The best dual bound of a trace.

    bound_pct: no policy within both limits saves more. gap_pp: how far, in points, the bound is
    from the best one at most. z, eta: its prices, J/s and J. value_j: G, the dual's value.
    """

    bound_pct: float
    gap_pp: float
    z: float
    eta: float
    value_j: float


@partial(jax.jit, static_argnames="env")
def _dual_sums(
    env: Splitting, contexts: Context, params: Any, z: chex.Array, eta: chex.Array
) -> tuple[chex.Array, ...]:
    """Sums over chunks of slots of the least Lagrangian, its delay and its outage."""
    costs = env.costs(params)
    slot = _queueless(env, contexts, costs, params)
    parts = lagrangian(env, slot, _columns(costs), params, z, eta)
    return tuple(jnp.sum(x.reshape(-1, env.chunk_slots), axis=1) for x in parts)


def solve_dual(env: Splitting, params: Any, key: chex.PRNGKey, steps: int = 60) -> DualSolution:
    """The best dual bound on the slots after the burn-in that `Splitting.simulate` meets.

    Cutting planes on the concave dual, each step a pass over the trace. ``params`` is one scenario.
    """
    contexts = jax.tree.map(lambda x: x[env.burn_in :], env.trace(params, key))
    images = np.asarray(contexts.num_images, np.float64)
    full_local = float(env.costs(params).energy_j[-1]) * images.mean()
    limits = np.array([float(params.delay_avg_s), float(params.outage_eps)])

    def evaluate(point: np.ndarray) -> tuple[float, np.ndarray]:
        z, eta = (jnp.asarray(x, env.float_dtype) for x in point)
        sums = _dual_sums(env, contexts, params, z, eta)
        value, *means = (np.asarray(x, np.float64).sum() / len(images) for x in sums)
        # The rounded prices are those that were used.
        point[:] = float(z), float(eta)
        return value - point @ limits, np.array(means) - limits

    box, point = np.array(PRICE_BOX), np.array(FIRST_PRICES)
    cuts: list[tuple[float, np.ndarray, np.ndarray]] = []
    best, at, model = -np.inf, point, np.inf
    for step in range(steps):
        value, slope = evaluate(point)
        cuts.append((value, slope, point.copy()))
        if value > best:
            best, at = value, point.copy()
        model, top = _model_maximum(cuts, box)
        if model - best <= 2e-5 * full_local:
            edge = at >= 0.99 * box
            if not edge.any():
                break
            box = np.where(edge, 4 * box, box)
            continue
        weight = 0.5 if step < 6 else 0.8
        point = weight * top + (1 - weight) * at
    return DualSolution(
        bound_pct=100 * (1 - best / full_local),
        gap_pp=100 * (model - best) / full_local,
        z=float(at[0]),
        eta=float(at[1]),
        value_j=float(best),
    )


def _model_maximum(
    cuts: list[tuple[float, np.ndarray, np.ndarray]], box: np.ndarray
) -> tuple[float, np.ndarray]:
    """The maximum over the box of the least of all cuts, and where it is."""
    from scipy.optimize import linprog

    slopes = np.array([slope for _, slope, _ in cuts])
    offsets = np.array([value - slope @ point for value, slope, point in cuts])
    rows = np.hstack([-slopes, np.ones((len(cuts), 1))])
    bounds = [(0, box[0]), (0, box[1]), (None, None)]
    found = linprog([0, 0, -1], A_ub=rows, b_ub=offsets, bounds=bounds, method="highs")
    return -found.fun, found.x[:2]
