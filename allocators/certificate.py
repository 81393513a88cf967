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
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from allocators import robust, struct
from allocators.lanes import batched_last
from allocators.robust import Allocation, Curves, Instance, Optimum, take


@struct.dataclass
class Certificate:
    """What is proven of an answer; a pytree of scalars.

    Of an infeasible instance the bounds and the gap are +inf; lam_dual, n_tied and survivors are 0.

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
ROUGH_ROUNDS = 2

# From here on arrays have a last axis of L instances: B [L], tables [N, M1, L], partitions [N, L].


def _bandwidths(
    k: Curves, B: jax.Array, log_b: jax.Array, elasticity: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Demands, at most B, and their derivatives with respect to the log price, MHz."""
    capped = log_b >= jnp.log(B)
    b = jnp.where(k.uploads, jnp.where(capped, B, jnp.exp(log_b)), 0)
    return b, jnp.where(capped, 0, b * elasticity)


def _cheapest(cost: jax.Array) -> jax.Array:
    return jnp.argmin(cost, axis=1).astype(jnp.int32)


def _price_step(
    table: jax.Array, B: jax.Array, price: jax.Array, m_low: jax.Array, m_high: jax.Array
) -> jax.Array:
    """Step of the log price to where the lower of two partitions' bounds is highest, by a model.

    table [N, M1, 3, L] holds costs, demands, and their derivatives with respect to the log price.
    m_low is a partition that demands more than B at a lower price, m_high one that demands less at
    a higher price. The bound of each has its maximum where its demand is B (Newton's step on the
    logarithm of the demand); the two are equal where their costs cross (Newton's step on the
    difference). The lower bound is highest at the middle one of these three prices.
    """

    def of(m: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        cost, b, slope = jnp.sum(take(table, m[:, None]), axis=0)
        total = jnp.maximum(b, robust.TINY)
        falls = slope < 0
        excess = jnp.log(total / B)
        step = jnp.where(falls, -excess * total / jnp.where(falls, slope, -1), excess * jnp.inf)
        return cost, b, jnp.where(excess == 0, 0, step)

    cost_low, b_low, step_low = of(m_low)
    cost_high, b_high, step_high = of(m_high)
    differs = b_low > b_high
    relative = (cost_high - cost_low) / jnp.where(differs, b_low - b_high, 1) / price
    crossing = jnp.where(differs, jnp.log1p(jnp.maximum(relative, -0.9)), step_low)
    first, last = jnp.minimum(step_low, step_high), jnp.maximum(step_low, step_high)
    return jnp.clip(crossing, first, last)


@struct.dataclass
class _Dual:
    """Prices, and what is known there.

    Attributes:
        log_price: logarithm of the price, J/MHz, [L].
        step: step of the log price to the highest bound, by a model, [L].
        lower, upper: bracket of the log price, [L].
        log_b: log demands, [N, M1, L].
        elasticity: their derivatives with respect to log_price, [N, M1, L].
        cost: `min_b phi + lam b`, J, [N, M1, L].
        m_low, m_high: a partition that demands more, and one that demands less than B, int32
            [N, L].
        done: whether the bound is at its highest, bool [L].
        count: evaluations of slope or energy per pair so far, int32 [L].
    """

    log_price: jax.Array
    step: jax.Array
    lower: jax.Array
    upper: jax.Array
    log_b: jax.Array
    elasticity: jax.Array
    cost: jax.Array
    m_low: jax.Array
    m_high: jax.Array
    done: jax.Array
    count: jax.Array


def _first_dual(k: Curves, B: jax.Array, possible: jax.Array, log_price: jax.Array | None) -> _Dual:
    """Equal shares for all devices, at a price that suits the points that are cheapest then."""
    uploads = jnp.any(k.uploads, axis=1)
    num = jnp.maximum(jnp.sum(uploads, axis=0), 1)
    log_b = jnp.maximum(jnp.log(B / num), k.log_bmin)
    value, _ = robust.log_slope(k.links, log_b, log_b < k.log_kink)
    cost = jnp.where(k.available, robust.energy(k.links, jnp.exp(log_b)), UNAVAILABLE)
    if log_price is None:
        log_price = jnp.sum(jnp.where(uploads, take(value, _cheapest(cost)), 0), axis=0) / num
    zero = jnp.zeros_like(log_price)
    nobody = jnp.zeros(uploads.shape, jnp.int32)
    return _Dual(
        log_price=log_price,
        step=zero,
        lower=zero + LOG_PRICES[0],
        upper=zero + LOG_PRICES[1],
        log_b=log_b,
        elasticity=jnp.zeros_like(log_b),
        cost=cost,
        m_low=nobody,
        m_high=nobody,
        done=~possible | ~jnp.any(uploads, axis=0),
        count=jnp.full(zero.shape, 2, jnp.int32),
    )


def _highest_bound(
    k: Curves, B: jax.Array, possible: jax.Array, log_price: jax.Array | None = None
) -> _Dual:
    """Prices that maximise the bound g of curves `[N, M1, L]`.

    `ROUGH_ROUNDS` of one Newton step for all demands and one for the price come first, one round if
    a log_price to start from is given. Then demands are exact, and the sign of their sum minus B
    brackets the price.
    """
    _, tolerance = robust.tolerances(k.bmin.dtype)
    rough_rounds = ROUGH_ROUNDS if log_price is None else 1

    def searching(state: tuple[_Dual, jax.Array]) -> jax.Array:
        return jnp.any(~state[0].done) & (state[1] < robust.MAX_ITERATIONS)

    def improve(state: tuple[_Dual, jax.Array]) -> tuple[_Dual, jax.Array]:
        dual, rounds = state
        rough = rounds < rough_rounds
        log_price = jnp.clip(dual.log_price + dual.step, dual.lower, dual.upper)
        guess = dual.log_b + dual.elasticity * dual.step
        most = jnp.where(rough, 1, robust.MAX_ITERATIONS)
        log_b, elasticity, count = robust.demand(k, log_price, guess, dual.done, most)
        b, slope = _bandwidths(k, B, log_b, elasticity)
        price = jnp.exp(log_price)
        cost = jnp.where(k.available, robust.energy(k.links, b) + price * b, UNAVAILABLE)
        m = _cheapest(cost)
        over = jnp.sum(take(b, m), axis=0) > B
        lower = jnp.where(over & ~rough, log_price, dual.lower)
        upper = jnp.where(over | rough, dual.upper, log_price)
        m_low = jnp.where(over | rough, m, dual.m_low)
        m_high = jnp.where(over & ~rough, dual.m_high, m)
        table = jnp.stack([cost, b, slope], axis=2)
        step = _price_step(table, B, price, m_low, m_high)
        target, small = robust.safeguarded(log_price, step, lower, upper, tolerance)
        step = jnp.where(rough, jnp.clip(step, -1, 1), target - log_price)
        new = _Dual(
            log_price,
            step,
            lower,
            upper,
            log_b,
            elasticity,
            cost,
            m_low,
            m_high,
            small & ~rough,
            dual.count + count + 1,
        )
        kept = jax.tree.map(lambda old, fresh: jnp.where(dual.done, old, fresh), dual, new)
        return kept, rounds + 1

    state = _first_dual(k, B, possible, log_price), jnp.int32(0)
    return jax.lax.while_loop(searching, improve, state)[0]


def _if_tied(cost: jax.Array, m: jax.Array) -> jax.Array:
    """A partition m where it costs no more than the cheapest one, which is taken elsewhere."""
    tie = 1e-6 if cost.dtype == jnp.float64 else 1e-4
    least = jnp.min(cost, axis=1)
    return jnp.where(take(cost, m) <= least + tie * jnp.abs(least), m, _cheapest(cost))


def _candidates(
    k: Curves,
    table: jax.Array,
    active: jax.Array,
    B: jax.Array,
    price: jax.Array,
    m_low: jax.Array,
    m_high: jax.Array,
) -> jax.Array:
    """The most promising partitions, int32 `[N, NUM_CANDIDATES, L]`, best first.

    table [N, M1, 4, L] holds costs, demands, their derivatives, and least bandwidths. Partitions
    are taken from: m_low and m_high with one device moved anywhere; the first n devices at
    m_low and the others at m_high, for every n; every device at its least bandwidth. A partition's
    energy is estimated by the maximum of the parabola through its bound's value, slope and
    curvature at the price, which takes no evaluation of any curve.
    """
    num_devices, points, _, lanes = table.shape
    least = jnp.argmin(k.bmin, axis=1).astype(jnp.int32)

    def estimate(sums: jax.Array, axis: int) -> jax.Array:
        cost, b, slope, bmin = (jnp.take(sums, i, axis) for i in range(4))
        bend = jnp.maximum(-slope, 1e-3 * b) + robust.TINY
        energy = cost - price * B + price * (b - B) ** 2 / (2 * bend)
        return jnp.where(bmin <= B, energy, jnp.inf)

    low, high, alone = (take(table, m[:, None]) for m in (m_low, m_high, least))

    def of_moves(m: jax.Array, entries: jax.Array) -> jax.Array:
        sums = jnp.sum(entries, axis=0) + (table - entries[:, None])
        stays = (jnp.arange(points)[:, None] == m[:, None]) | ~active[:, None]
        estimated = jnp.where(stays | ~k.available, jnp.inf, estimate(sums, 2))
        return estimated.reshape(num_devices * points, lanes)

    first = jnp.arange(num_devices)[:, None, None, None] < jnp.arange(num_devices + 1)[:, None]
    rows = jnp.sum(jnp.where(first, low[:, :, None], high[:, :, None]), axis=0)
    rows = estimate(jnp.concatenate([rows, jnp.sum(alone, axis=0)[:, None]], axis=1), 0)
    pool = jnp.concatenate([of_moves(m_high, high), of_moves(m_low, low), rows])
    moves = num_devices * points
    devices = jnp.arange(num_devices)[:, None]

    def pick(pool: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        index = jnp.argmin(pool, axis=0)
        best = jnp.min(pool, axis=0)
        same = pool <= best + 8 * jnp.finfo(pool.dtype).eps * jnp.abs(best)
        return jnp.where(same, jnp.inf, pool), index

    index = jax.lax.scan(pick, pool, None, length=NUM_CANDIDATES)[1]
    row = index - 2 * moves
    m_low, m_high, least = (m[:, None] for m in (m_low, m_high, least))
    base = jnp.where(index < moves, m_high, m_low)
    moved = jnp.where(index % moves // points == devices[:, None], index % points, base)
    split = jnp.where(row > num_devices, least, jnp.where(devices[:, None] < row, m_low, m_high))
    return jnp.where(row < 0, moved, split).astype(jnp.int32)


def _gap(lb: jax.Array, ub: jax.Array, possible: jax.Array) -> jax.Array:
    return jnp.where(possible, (ub - lb) / jnp.where(possible & (ub > 0), ub, 1), jnp.inf)


@struct.dataclass
class _Answer:
    """A partition with the optimum of problem (23) for it, and how good it is."""

    m: jax.Array
    found: Optimum
    report: Any
    certificate: Certificate
    m_low: jax.Array
    m_high: jax.Array


@batched_last
def _search(inst: Instance, log_price: jax.Array | None = None) -> _Answer:
    """The best partition found, its certificate, and the tied partitions."""
    k = robust.curves(robust.links_of(inst), inst.B)
    B = inst.B
    b_min_total = jnp.sum(jnp.min(k.needed, axis=1), axis=0)
    possible = jnp.sum(jnp.min(k.bmin, axis=1), axis=0) <= B
    dual = _highest_bound(k, B, possible, log_price)
    cost = dual.cost
    b, slope = _bandwidths(k, B, dual.log_b, dual.elasticity)
    price = jnp.where(jnp.any(k.uploads, axis=(0, 1)), jnp.exp(dual.log_price), 0)
    m_low, m_high = (_if_tied(cost, m) for m in (dual.m_low, dual.m_high))
    table = jnp.stack([cost, b, slope, k.bmin], axis=2)
    candidates = _candidates(k, table, inst.mask_n, B, price, m_low, m_high)

    rows = robust.take_rows((k, dual.log_b, dual.elasticity), candidates)
    row_k, log_b, elasticity = rows
    b, slope = _bandwidths(row_k, B, log_b, elasticity)
    total = jnp.maximum(jnp.sum(b, axis=0), robust.TINY)
    pace = jnp.minimum(jnp.sum(slope, axis=0) / total, -0.1)
    step = jnp.clip(-jnp.log(total / B) / pace, -2, 2)
    log_b = log_b + elasticity * step
    log_price, log_b, counts = robust.equilibrium(row_k, B, dual.log_price + step, log_b)
    found = robust.optimum_of(row_k, B, log_price, robust.share_rest(row_k, B, jnp.exp(log_b)))
    report = robust.reported(row_k.links, inst.mask_n[:, None], found)
    best = jnp.argmin(report.E, axis=0)

    def of_best(x: jax.Array) -> jax.Array:
        return take(x, best) if x.ndim == 3 else take(x[None], best[None])[0]

    m, found, report = jax.tree.map(of_best, (candidates, found, report))
    m = jnp.where(possible, m, jnp.argmin(k.needed, axis=1)).astype(jnp.int32)
    ub = report.E
    bound = jnp.sum(jnp.min(cost, axis=1), axis=0) - price * B
    if bound.dtype == jnp.float32:
        bound = bound - 2e-6 * jnp.abs(bound)
    lb = jnp.minimum(bound, ub)
    extra = cost - jnp.min(cost, axis=1, keepdims=True)
    surviving = k.available & (extra <= ub - lb) & inst.mask_n[:, None]
    num_devices, points, _ = cost.shape
    evaluations = dual.count * num_devices * points + jnp.sum(counts + 1, axis=0) * num_devices
    certificate = Certificate(
        lb=jnp.where(possible, lb, jnp.inf),
        ub=jnp.where(possible, ub, jnp.inf),
        gap=_gap(lb, ub, possible),
        lam_dual=jnp.where(possible, price, 0),
        b_min_total=b_min_total,
        n_tied=jnp.where(possible, jnp.sum(m_low != m_high, axis=0, dtype=jnp.int32), 0),
        survivors=jnp.where(possible, jnp.sum(surviving, axis=(0, 1), dtype=jnp.int32), 0),
        evaluations=(evaluations + 2 * num_devices * points).astype(jnp.int32),
        feasible=possible,
    )
    return _Answer(m, found, report, certificate, m_low, m_high)


@jax.jit
def solve(inst: Instance, log_price: ArrayLike | None = None) -> tuple[Allocation, Certificate]:
    """Partition, bandwidths and frequencies of least expected energy, with a proven bound.

    The allocation is differentiable like `robust.allocate` at its partition; the certificate is
    not. In float32 the bound is lowered by 2e-6 of itself, so that it holds despite rounding.

    Args:
        inst: the instance.
        log_price: a guess of the logarithm of the price of bandwidth, J/MHz, []. One within some
            0.1 saves evaluations, a bad one costs some; the bound holds for any.

    Returns:
        The best allocation found and its certificate. Infeasible: `E = lb = ub = +inf`, and the
        partition is the one of least bandwidth.

    Source: problem (9).
    """
    held = jax.lax.stop_gradient(inst)
    if log_price is None:
        answer = _search(held)
    else:
        guess = jnp.asarray(jax.lax.stop_gradient(log_price), inst.B.dtype)
        answer = _search(held, guess)
    return _allocation(inst, answer), answer.certificate


@jax.custom_jvp
def _dual_value(inst: Instance, log_price: jax.Array) -> jax.Array:
    return _dual_and_slope(inst, log_price)[0]


@_dual_value.defjvp
def _dual_value_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    value, slope = _dual_and_slope(*primals)
    return value, slope * tangents[1]


@batched_last
def _dual_and_slope(inst: Instance, log_price: jax.Array) -> tuple[jax.Array, jax.Array]:
    """g of a log price, and its derivative: demand minus supply, times the price."""
    k = robust.curves(robust.links_of(inst), inst.B)
    least = jnp.where(k.uploads, k.log_bmin, 0)
    log_b, elasticity, _ = robust.demand(k, log_price, least, jnp.zeros(log_price.shape, bool))
    b, _ = _bandwidths(k, inst.B, log_b, elasticity)
    price = jnp.exp(log_price)
    cost = jnp.where(k.available, robust.energy(k.links, b) + price * b, UNAVAILABLE)
    m = _cheapest(cost)
    possible = jnp.sum(jnp.min(k.bmin, axis=1), axis=0) <= inst.B
    bound = jnp.sum(take(cost, m), axis=0) - price * inst.B
    excess = jnp.sum(take(b, m), axis=0) - inst.B
    return jnp.where(possible, bound, jnp.inf), jnp.where(possible, price * excess, 0)


@jax.jit
def dual_value(inst: Instance, log_price: ArrayLike) -> jax.Array:
    """The lower bound g at a price, J, []; +inf where the instance is infeasible.

    Its derivative with respect to log_price is exact: by the envelope theorem, the price times
    demand minus supply; that with respect to the instance is 0. A network that predicts prices can
    therefore be trained by raising its own bounds, without solved instances.

    Args:
        inst: the instance.
        log_price: logarithm of the price of bandwidth, J/MHz, [].
    """
    log_price = jnp.asarray(log_price, inst.B.dtype)
    return _dual_value(jax.lax.stop_gradient(inst), log_price)


def _allocation(inst: Instance, answer: _Answer) -> Allocation:
    links = robust.links_at(inst, answer.m)
    return robust.allocation(inst, answer.m, links, answer.found, answer.report)


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
        answer = _relax(stopped.replace(mask_m=jnp.asarray(allowed)))
        return float(answer.certificate.lb), next(order), allowed, answer

    order = itertools.count()
    root = node(np.asarray(inst.mask_m))
    best = root[3]
    certificate = best.certificate
    ub, evaluations, nodes = float(certificate.ub), int(certificate.evaluations), 1
    heap, closed = [root], math.inf
    while heap and nodes + 2 <= max_nodes and heap[0][0] < ub * (1 - tolerance):
        lb, _, allowed, answer = heapq.heappop(heap)
        tied = np.flatnonzero(np.asarray(answer.m_low) != np.asarray(answer.m_high))
        if tied.size == 0:
            closed = min(closed, lb)
            continue
        device, point = tied[0], int(answer.m_high[tied[0]])
        for keep in (np.arange(allowed.shape[1]) == point, np.arange(allowed.shape[1]) != point):
            child = allowed.copy()
            child[device] &= keep
            entry = node(child)
            nodes += 1
            found = entry[3].certificate
            evaluations += int(found.evaluations)
            if float(found.ub) < ub:
                ub, best = float(found.ub), entry[3]
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
    return _allocation(inst, best), certificate
