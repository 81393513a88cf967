"""Robust partitioning with a certificate: an answer, and how far it can be from the optimum.

Only the total bandwidth couples the devices of problem (9). At a price lam per MHz the problem
falls apart into N choices, and

    g(lam) = sum_n min_m min_{bmin <= b <= B} [phi_{n,m}(b) + lam b] - lam B

is a lower bound on the mixed-integer optimum. `solve` maximises it, repairs the partition that it
suggests, and reports both ends. `branch_and_bound` closes what is left between them.

Source: Lagrangian duality on problem (9) of the paper of `allocators.robust`, whose units hold.
"""

import dataclasses
import heapq
import itertools
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from allocators import robust
from allocators.robust import Allocation, Curves, Instance


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        *("lb", "ub", "gap", "lam_dual", "b_min_total", "n_tied", "survivors", "evaluations"),
        "feasible",
    ],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class Certificate:
    """What is proven of an answer; a pytree of scalars.

    Of an infeasible instance the bounds and the gap are +inf, and lam_dual, the counts are 0.

    Attributes:
        lb: lower bound on the energy of every partition and allocation, J.
        ub: energy of the answer, J.
        gap: `(ub - lb) / ub`.
        lam_dual: price of bandwidth that gives the bound, J/MHz.
        b_min_total: least total bandwidth at which the instance is feasible, MHz.
        n_tied: devices with two best partitioning points at that price, int32.
        survivors: pairs of device and partitioning point that a better answer could contain, int32.
        evaluations: slopes and energies of single pairs computed on the way, int32.
        feasible: bool.
    """

    lb: jax.Array
    ub: jax.Array
    gap: jax.Array
    lam_dual: jax.Array
    b_min_total: jax.Array
    n_tied: jax.Array
    survivors: jax.Array
    evaluations: jax.Array
    feasible: jax.Array


UNAVAILABLE = 1e30
LOG_PRICES = (math.log(1e-9), math.log(1e5))
NUM_CANDIDATES = 4
FEW_POINTS = 4
ROUGH_ROUNDS = 4


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["price", "cost", "b", "slope", "m", "bound"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class _Choices:
    """What every pair would do at one price.

    Attributes:
        price: lam, J/MHz, [].
        cost: `min_b phi + lam b`, J, [N, M1].
        b: the minimiser, MHz, [N, M1].
        slope: its derivative with respect to the log price, MHz, [N, M1].
        m: cheapest partitioning points, int32 [N].
        bound: g(lam), J, [].
    """

    price: jax.Array
    cost: jax.Array
    b: jax.Array
    slope: jax.Array
    m: jax.Array
    bound: jax.Array


def _choices(
    k: Curves, B: jax.Array, log_price: jax.Array, log_b: jax.Array, elasticity: jax.Array
) -> _Choices:
    """Costs and choices at a price, given the demands `exp(log_b)` for it."""
    price = jnp.exp(log_price)
    capped = log_b >= jnp.log(B)
    b = jnp.where(k.uploads, jnp.where(capped, B, jnp.exp(log_b)), 0)
    cost = jnp.where(k.available, robust.energy(k.links, b) + price * b, UNAVAILABLE)
    m = jnp.argmin(cost, axis=-1).astype(jnp.int32)
    bound = jnp.sum(jnp.min(cost, axis=-1)) - price * B
    return _Choices(price, cost, b, jnp.where(capped, 0, b * elasticity), m, bound)


def _price_step(
    at: _Choices, B: jax.Array, log_price: jax.Array, m_low: jax.Array, m_high: jax.Array
) -> jax.Array:
    """Step of the log price to where the lower of two partitions' bounds is highest, by a model.

    m_low is a partition that demands more than B at a lower price, m_high one that demands less at
    a higher price. The bound of each has its maximum where its demand is B (Newton's step on the
    logarithm of the demand); the two are equal where their costs cross (Newton's step on the
    difference). The lower bound is highest at the middle one of these three prices.
    """

    def of(m: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        cost, b, slope = (jnp.sum(x) for x in robust.take((at.cost, at.b, at.slope), m))
        total = jnp.maximum(b, robust.TINY)
        falls = slope < 0
        excess = jnp.log(total / B)
        step = jnp.where(falls, -excess * total / jnp.where(falls, slope, -1), excess * jnp.inf)
        return cost, b, jnp.where(excess == 0, 0, step)

    cost_low, b_low, step_low = of(m_low)
    cost_high, b_high, step_high = of(m_high)
    differs = b_low > b_high
    relative = (cost_high - cost_low) / jnp.where(differs, b_low - b_high, 1) / jnp.exp(log_price)
    crossing = jnp.where(differs, jnp.log1p(jnp.maximum(relative, -0.9)), step_low)
    first, last = jnp.minimum(step_low, step_high), jnp.maximum(step_low, step_high)
    return jnp.clip(crossing, first, last)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["log_price", "step", "log_b", "elasticity", "m_low", "m_high", "count"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class _Dual:
    """A price, and what is known there.

    Attributes:
        log_price: logarithm of the price, J/MHz, [].
        step: step of the log price to the highest bound, by a model, [].
        log_b: log demands, [N, K].
        elasticity: their derivatives with respect to log_price, [N, K].
        m_low, m_high: a partition that demands more, and one that demands less than B, int32 [N].
        count: evaluations of slope or energy per pair so far, int32 [].
    """

    log_price: jax.Array
    step: jax.Array
    log_b: jax.Array
    elasticity: jax.Array
    m_low: jax.Array
    m_high: jax.Array
    count: jax.Array


def _first_dual(k: Curves, B: jax.Array) -> tuple[_Dual, jax.Array]:
    """A price near the best one, and the cost of every pair there, J, [N, M1]; both roughly.

    From an equal share for every device, a few rounds of one Newton step for all demands and one
    for the price.
    """
    uploads = jnp.any(k.uploads, axis=-1)
    num = jnp.maximum(jnp.sum(uploads), 1)
    log_b = jnp.maximum(jnp.log(B / num), k.log_bmin)
    value, _ = robust.log_slope(k.links, log_b, log_b < k.log_kink)
    cost = jnp.where(k.available, robust.energy(k.links, jnp.exp(log_b)), UNAVAILABLE)
    cheapest = robust.take(value, jnp.argmin(cost, axis=-1))
    log_price = jnp.sum(jnp.where(uploads, cheapest, 0)) / num

    def improve(_: int, state: tuple[_Dual, jax.Array]) -> tuple[_Dual, jax.Array]:
        dual, _ = state
        log_price = jnp.clip(dual.log_price + dual.step, *LOG_PRICES)
        log_b = jnp.maximum(dual.log_b + dual.elasticity * dual.step, k.log_bmin)
        value, slope = robust.log_slope(k.links, log_b, log_b < k.log_kink)
        log_b = jnp.maximum(log_b + jnp.clip((log_price - value) / slope, -1, 1), k.log_bmin)
        at = _choices(k, B, log_price, log_b, 1 / slope)
        step = jnp.clip(_price_step(at, B, log_price, at.m, at.m), -1, 1)
        return _Dual(log_price, step, log_b, 1 / slope, at.m, at.m, dual.count + 2), at.cost

    nobody = jnp.zeros(k.bmin.shape[0], jnp.int32)
    zero = jnp.zeros_like(B)
    start = _Dual(log_price, zero, log_b, jnp.zeros_like(log_b), nobody, nobody, jnp.int32(2))
    return jax.lax.fori_loop(0, ROUGH_ROUNDS, improve, (start, cost))


def _highest_bound(k: Curves, B: jax.Array, start: _Dual, possible: jax.Array) -> _Dual:
    """Price that maximises the bound g of curves `[N, K]`.

    The sign of the demand minus B brackets the price; steps are those of `_price_step`.
    """
    dtype = k.bmin.dtype
    _, tolerance = robust.tolerances(dtype)

    def searching(state: tuple[Any, ...]) -> jax.Array:
        return ~state[3] & (state[4] < robust.MAX_ITERATIONS)

    def improve(state: tuple[Any, ...]) -> tuple[Any, ...]:
        dual, lower, upper, _, rounds = state
        log_price = dual.log_price + dual.step
        guess = dual.log_b + dual.elasticity * dual.step
        log_b, elasticity, count = robust.demand(k, log_price, guess)
        at = _choices(k, B, log_price, log_b, elasticity)
        over = jnp.sum(robust.take(at.b, at.m)) > B
        lower = jnp.where(over, log_price, lower)
        upper = jnp.where(over, upper, log_price)
        m_low = jnp.where(over, at.m, dual.m_low)
        m_high = jnp.where(over, dual.m_high, at.m)
        step = _price_step(at, B, log_price, m_low, m_high)
        target, done = robust.safeguarded(log_price, step, lower, upper, tolerance)
        count = dual.count + count + 1
        step = target - log_price
        dual = _Dual(log_price, step, log_b, elasticity, m_low, m_high, count)
        return dual, lower, upper, done, rounds + 1

    lower, upper = (jnp.asarray(end, dtype) for end in LOG_PRICES)
    state = (start, lower, upper, ~possible, jnp.int32(0))
    return jax.lax.while_loop(searching, improve, state)[0]


def _if_tied(at: _Choices, m: jax.Array) -> jax.Array:
    """A partition m where it costs no more than the cheapest one, which is taken elsewhere."""
    cost, least = robust.take(at.cost, m), robust.take(at.cost, at.m)
    tie = 1e-6 if cost.dtype == jnp.float64 else 1e-4
    return jnp.where(cost <= least + tie * jnp.abs(least), m, at.m)


def _candidates(
    k: Curves, at: _Choices, active: jax.Array, B: jax.Array, m_low: jax.Array, m_high: jax.Array
) -> jax.Array:
    """The most promising partitions, int32 `[NUM_CANDIDATES, N]`, best first.

    They are taken from: m_low and m_high with one device moved anywhere; the first n devices at
    m_low and the others at m_high, for every n; every device at its least bandwidth. A partition's
    energy is estimated by the maximum of the parabola through its bound's value, slope and
    curvature at the price, which takes no evaluation of any curve.
    """
    num_devices, points = at.cost.shape
    table = (at.cost, at.b, at.slope, k.bmin)
    price = at.price

    def estimate(cost: jax.Array, b: jax.Array, slope: jax.Array, bmin: jax.Array) -> jax.Array:
        excess = b - B
        bend = jnp.maximum(-slope, 1e-3 * b) + robust.TINY
        return jnp.where(bmin <= B, cost - price * B + price * excess**2 / (2 * bend), jnp.inf)

    def of_partition(m: jax.Array) -> jax.Array:
        return estimate(*(jnp.sum(x, axis=-1) for x in robust.take(table, m)))

    def of_moves(m: jax.Array) -> jax.Array:
        chosen = robust.take(table, m)
        moved = (
            jnp.sum(old) + (new - old[:, None]) for old, new in zip(chosen, table, strict=True)
        )
        stays = (jnp.arange(points) == m[:, None]) | ~active[:, None]
        return jnp.where(stays | ~k.available, jnp.inf, estimate(*moved)).reshape(-1)

    first = jnp.arange(num_devices) < jnp.arange(num_devices + 1)[:, None]
    rows = jnp.where(first, m_low, m_high)
    rows = jnp.concatenate([rows, jnp.argmin(k.bmin, axis=-1).astype(jnp.int32)[None]])
    pool = jnp.concatenate([of_moves(m_high), of_moves(m_low), jax.vmap(of_partition)(rows)])
    moves = num_devices * points

    def decode(index: jax.Array) -> jax.Array:
        base = jnp.where(index < moves, m_high, m_low)
        device, point = index % moves // points, index % points
        moved = jnp.where(jnp.arange(num_devices) == device, point, base)
        row = rows[jnp.clip(index - 2 * moves, 0, rows.shape[0] - 1)]
        return jnp.where(index < 2 * moves, moved, row).astype(jnp.int32)

    def pick(pool: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        index = jnp.argmin(pool)
        best = pool[index]
        same = pool <= best + 8 * jnp.finfo(pool.dtype).eps * jnp.abs(best)
        return jnp.where(same, jnp.inf, pool), decode(index)

    return jax.lax.scan(pick, pool, None, length=NUM_CANDIDATES)[1]


def _maximise(k: Curves, B: jax.Array, possible: jax.Array) -> tuple[_Dual, jax.Array]:
    """`_highest_bound` found among the few partitioning points that look best, then among all.

    Returns:
        The dual, and its evaluations over all pairs, int32 [].
    """
    first, cost = _first_dual(k, B)

    def cheapest(cost: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        m = jnp.argmin(cost, axis=-1)
        return jnp.where(jnp.arange(cost.shape[1]) == m[:, None], jnp.inf, cost), m

    few = jax.lax.scan(cheapest, cost, None, length=FEW_POINTS)[1].T
    rows = jnp.arange(cost.shape[0])[:, None]
    few_k, log_b, elasticity = jax.tree.map(
        lambda x: x[rows, few], (k, first.log_b, first.elasticity)
    )
    nobody = jnp.zeros_like(first.m_low)
    start = _Dual(first.log_price, first.step, log_b, elasticity, nobody, nobody, jnp.int32(0))
    coarse = _highest_bound(few_k, B, start, possible)
    moved = coarse.log_price - first.log_price
    log_b = (first.log_b + first.elasticity * moved).at[rows, few].set(coarse.log_b)
    elasticity = first.elasticity.at[rows, few].set(coarse.elasticity)
    m_low, m_high = robust.take(few, coarse.m_low), robust.take(few, coarse.m_high)
    start = _Dual(
        coarse.log_price,
        coarse.step,
        log_b,
        elasticity,
        m_low.astype(jnp.int32),
        m_high.astype(jnp.int32),
        first.count,
    )
    dual = _highest_bound(k, B, start, possible)
    return dual, dual.count * cost.size + coarse.count * few.size


def _gap(lb: jax.Array, ub: jax.Array, possible: jax.Array) -> jax.Array:
    return jnp.where(possible, (ub - lb) / jnp.where(possible & (ub > 0), ub, 1), jnp.inf)


def _search(inst: Instance) -> tuple[dict[str, jax.Array], Certificate, jax.Array, jax.Array]:
    """Partition with its price and bandwidths, its certificate, and the tied partitions."""
    k = robust.curves(robust.links_of(inst), inst.B)
    B = inst.B
    b_min_total = jnp.sum(jnp.min(k.needed, axis=-1))
    possible = jnp.sum(jnp.min(k.bmin, axis=-1)) <= B
    dual, count = _maximise(k, B, possible)
    log_price, log_b, elasticity = dual.log_price, dual.log_b, dual.elasticity
    at = _choices(k, B, log_price, log_b, elasticity)
    m_low, m_high = (_if_tied(at, m) for m in (dual.m_low, dual.m_high))
    candidates = _candidates(k, at, inst.mask_n, B, m_low, m_high)

    def solve_row(m: jax.Array) -> tuple[jax.Array, ...]:
        chosen, row_log_b, row_elasticity, b, slope = robust.take(
            (k, log_b, elasticity, at.b, at.slope), m
        )
        total = jnp.maximum(jnp.sum(b), robust.TINY)
        pace = jnp.minimum(jnp.sum(slope) / total, -0.1)
        step = jnp.clip(-jnp.log(total / B) / pace, -2, 2)
        start = row_log_b + row_elasticity * step
        return robust.partition_energy(chosen, B, log_price + step, start)

    energies, log_prices, log_bs, counts = jax.vmap(solve_row)(candidates)
    best = jnp.argmin(energies)
    least = jnp.argmin(k.needed, axis=-1).astype(jnp.int32)
    m = jnp.where(possible, candidates[best], least)
    ub = energies[best]
    bound = at.bound
    if bound.dtype == jnp.float32:
        bound = bound - 2e-6 * jnp.abs(bound)
    lb = jnp.minimum(bound, ub)
    extra = at.cost - jnp.min(at.cost, axis=-1, keepdims=True)
    surviving = k.available & (extra <= ub - lb) & inst.mask_n[:, None]
    certificate = Certificate(
        lb=jnp.where(possible, lb, jnp.inf),
        ub=jnp.where(possible, ub, jnp.inf),
        gap=_gap(lb, ub, possible),
        lam_dual=jnp.where(possible & jnp.any(k.uploads), at.price, 0),
        b_min_total=b_min_total,
        n_tied=jnp.where(possible, jnp.sum(m_low != m_high, dtype=jnp.int32), 0),
        survivors=jnp.where(possible, jnp.sum(surviving, dtype=jnp.int32), 0),
        evaluations=(count + 4 * at.cost.size + jnp.sum(counts + 1) * inst.D.size).astype(
            jnp.int32
        ),
        feasible=possible,
    )
    answer = dict(m=m, log_price=log_prices[best], log_b=log_bs[best])
    return answer, certificate, m_low, m_high


@jax.jit
def solve(inst: Instance) -> tuple[Allocation, Certificate]:
    """Partition, bandwidths and frequencies of least expected energy, with a proven bound.

    The allocation is differentiable like `robust.allocate` at its partition; the certificate is
    not. In float32 the bound is lowered by 2e-6 of itself, so that it holds despite rounding.

    Args:
        inst: the instance.

    Returns:
        The best allocation found and its certificate. Infeasible: `E = lb = ub = +inf`, and the
        partition is the one of least bandwidth.

    Source: problem (9).
    """
    answer, certificate, _, _ = _search(jax.lax.stop_gradient(inst))
    alloc = robust.allocate_from(inst, **answer)
    ub = jax.lax.stop_gradient(alloc.E)
    lb = jnp.minimum(certificate.lb, ub)
    gap = _gap(lb, ub, certificate.feasible)
    return alloc, dataclasses.replace(certificate, lb=lb, ub=ub, gap=gap)


_relax = jax.jit(_search)


def branch_and_bound(
    inst: Instance, tolerance: float = 1e-7, max_nodes: int = 200
) -> tuple[Allocation, Certificate]:
    """`solve` with the gap closed by best-first branch and bound, on the host; one instance.

    Each node has `solve`'s bound and answer for a part of the partitions. It is split on the first
    device with two tied partitioning points: one of these points alone, and all others.

    Args:
        inst: the instance, concrete.
        tolerance: relative gap `(ub - lb) / ub` to stop at.
        max_nodes: most nodes to solve.

    Returns:
        The best allocation, and its certificate: bounds of the whole tree, everything else of the
        root, evaluations of all nodes.

    Source: A. H. Land and A. G. Doig, "An automatic method of solving discrete programming
    problems", Econometrica 28, 1960, with the bound g on problem (9).
    """
    stopped = jax.lax.stop_gradient(inst)

    def node(allowed: np.ndarray) -> tuple[float, int, np.ndarray, Any]:
        solved = _relax(stopped.replace(mask_m=jnp.asarray(allowed)))
        return float(solved[1].lb), next(order), allowed, solved

    order = itertools.count()
    root = node(np.asarray(inst.mask_m))
    best, certificate = root[3][0], root[3][1]
    ub, evaluations, nodes = float(certificate.ub), int(certificate.evaluations), 1
    heap, closed = [root], math.inf
    while heap and nodes < max_nodes and heap[0][0] < ub * (1 - tolerance):
        lb, _, allowed, (_, _, m_low, m_high) = heapq.heappop(heap)
        tied = np.flatnonzero(np.asarray(m_low) != np.asarray(m_high))
        if tied.size == 0:
            closed = min(closed, lb)
            continue
        device, point = tied[0], int(m_high[tied[0]])
        for keep in (np.arange(allowed.shape[1]) == point, np.arange(allowed.shape[1]) != point):
            child = allowed.copy()
            child[device] &= keep
            entry = node(child)
            nodes += 1
            evaluations += int(entry[3][1].evaluations)
            if float(entry[3][1].ub) < ub:
                ub, best = float(entry[3][1].ub), entry[3][0]
            if entry[0] < ub:
                heapq.heappush(heap, (max(entry[0], lb), *entry[1:]))
    lb = min(ub, closed, heap[0][0] if heap else math.inf)
    dtype = certificate.ub.dtype
    certificate = dataclasses.replace(
        certificate,
        lb=jnp.asarray(lb, dtype),
        ub=jnp.asarray(ub, dtype),
        gap=jnp.asarray((ub - lb) / ub if math.isfinite(ub) and ub > 0 else ub, dtype),
        evaluations=jnp.asarray(evaluations, jnp.int32),
    )
    return robust.allocate_from(inst, **best), certificate
