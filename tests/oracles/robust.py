"""Slow NumPy version of robust partitioning under uncertain inference time.

It exists to be compared with the fast implementation, so it shares no code with it: float64, one
bisection inside another with fixed counts, and the fixed-partition problem as a cone program.
Units: MHz, Mbit, GHz, Gcycle, s, W, J. Source: arXiv 2503.21476; equation numbers are its.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

# Tables III and IV: data MB, work GFLOP, FLOP per cycle, variance of the local time ms^2.
ALEXNET = [
    (0.574, 0, 1, 0),
    (0.74, 0.1407, 6.8994, 37.341),
    (0.18, 0.1411, 6.3283, 43.084),
    (0.53, 0.5891, 13.6064, 59.616),
    (0.12, 0.5894, 13.1861, 63.942),
    (0.25, 0.8137, 14.6624, 74.801),
    (0.17, 1.3122, 16.4237, 95.073),
    (0.04, 1.3123, 16.1219, 98.876),
    (0.001, 1.4214, 7.1037, 105.886),
]
RESNET152 = [
    (0.574, 0, 1, 0),
    (3.06, 0.2392, 315.4525, 0.097),
    (0.77, 1.4864, 309.6695, 1.310),
    (1.53, 3.6585, 323.7640, 5.677),
    (0.38, 5.3099, 329.8090, 13.934),
    (0.19, 9.9984, 325.6815, 14.076),
    (0.19, 13.9389, 324.1615, 15.881),
    (0.19, 17.8794, 322.7340, 23.408),
    (0.1, 21.9228, 318.6457, 32.256),
    (0.001, 23.1064, 307.6753, 32.727),
]
# fmin, fmax GHz, kappa W/GHz^3, overhead s per block and speed GFLOP/s of the virtual machine.
DEVICES = {"alexnet": (0.1, 1.2, 0.8, 0.08e-3, 2000), "resnet152": (0.2, 0.8, 2.8, 0.3e-3, 3000)}
TABLES = {"alexnet": ALEXNET, "resnet152": RESNET152}


@dataclasses.dataclass
class Problem:
    """One instance: total bandwidth, and arrays [N, M + 1] of everything a pair needs."""

    B: float
    c: np.ndarray
    d: np.ndarray
    T: np.ndarray
    P: np.ndarray
    p: np.ndarray
    kappa: np.ndarray
    fmin: np.ndarray
    fmax: np.ndarray

    def rows(self, m) -> Problem:
        """The pairs of a partition, arrays [N]."""
        arrays = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)[1:]}
        return Problem(self.B, **{k: v[np.arange(len(m)), m] for k, v in arrays.items()})


def make(model, r, B, D, eps, gain_db=0.0, p=1.0) -> Problem:
    """Section 2 of the paper, device by device and point by point."""
    table = np.array(TABLES[model])
    fmin, fmax, kappa, overhead, speed = DEVICES[model]
    num, last = len(r), len(table) - 1
    shape = (num, last + 1)
    D, eps = np.broadcast_to(D, num), np.broadcast_to(eps, num)
    c, d, T, P = (np.zeros(shape) for _ in range(4))
    for n in range(num):
        for m, (mb, work, per_cycle, variance) in enumerate(table):
            c[n, m] = work / per_cycle if m else 0
            d[n, m] = mb * 8.388608
            vm = (last - m) * overhead + (table[last, 1] - work) / speed if m < last else 0
            s = math.sqrt(variance * 1e-6 + (0.1 * vm) ** 2)
            T[n, m] = D[n] - vm - math.sqrt((1 - eps[n]) / eps[n]) * s
            loss_db = 38 + 30 * math.log10(max(r[n], 1))
            noise_w_per_mhz = 10 ** (-174 / 10) * 1e-3 * 1e6
            P[n, m] = p * 10 ** ((gain_db - loss_db) / 10) / noise_w_per_mhz
    full = [np.full(shape, x) for x in (p, kappa, fmin, fmax)]
    return Problem(B, c, d, T, P, *full)


def rate(b, P):
    """R(b), Mbit/s, eq (4)."""
    return b * np.log1p(P / b) / math.log(2)


def energy(q: Problem, b):
    """phi(b) and phi'(b) of every pair; t, f from the deadline (22)."""
    t = q.d / rate(b, q.P)
    left = q.T - t
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.where(left > 0, q.c / left, np.where(q.c > 0, np.inf, 0))
    f = np.clip(needed, q.fmin, q.fmax)
    marginal = (np.log1p(q.P / b) - q.P / (b + q.P)) / math.log(2)
    working = (f > q.fmin) & (q.c > 0)
    slope = -(q.p + 2 * q.kappa * f**3 * working) * q.d * marginal / rate(b, q.P) ** 2
    return q.kappa * q.c * f**2 + q.p * t, slope, f


def least_bandwidth(q: Problem):
    """bmin by 64 halvings of log b on [1e-9, B]; inf where B is not enough."""
    time = q.T - q.c / q.fmax
    need = np.where(time > 0, q.d / np.where(time > 0, time, 1), np.inf)
    low, high = np.full(need.shape, math.log(1e-9)), np.full(need.shape, math.log(q.B))
    for _ in range(64):
        middle = (low + high) / 2
        enough = rate(np.exp(middle), q.P) >= need
        high, low = np.where(enough, middle, high), np.where(enough, low, middle)
    return np.where(rate(q.B, q.P) >= need, np.exp(high), np.inf)


def demand(q: Problem, bmin, log_price, halvings=48):
    """argmin phi(b) + price b over [bmin, B] by halvings of log b; dummies where unavailable."""
    low = np.log(np.where(np.isfinite(bmin), bmin, q.B))
    high = np.full(low.shape, math.log(q.B))
    for _ in range(halvings):
        middle = (low + high) / 2
        falls = energy(q, np.exp(middle))[1] + math.exp(log_price) < 0
        low, high = np.where(falls, middle, low), np.where(falls, high, middle)
    return np.exp(high)


def fixed_partition(q: Problem, halvings=48):
    """E, b, f, price of problem (23) for arrays [N]; E = inf where infeasible."""
    bmin = least_bandwidth(q)
    if not bmin.sum() <= q.B:
        return math.inf, None, None, None
    low, high = math.log(1e-9), math.log(1e6)
    for _ in range(halvings):
        middle = (low + high) / 2
        if demand(q, bmin, middle, halvings).sum() > q.B:
            low = middle
        else:
            high = middle
    b = demand(q, bmin, high, halvings)
    room = np.maximum(b - bmin, 0)
    b = np.maximum(b + (q.B - b.sum()) * room / max(room.sum(), 1e-300), bmin)
    cost, _, f = energy(q, b)
    return cost.sum(), b, f, math.exp(high)


def dual_bound(q: Problem, halvings=48):
    """Best lower bound g(price) on problem (9) found by halvings of the log price."""
    bmin = least_bandwidth(q)
    low, high, best = math.log(1e-9), math.log(1e5), -math.inf
    for _ in range(halvings):
        middle = (low + high) / 2
        b = demand(q, bmin, middle, halvings)
        cost = np.where(np.isfinite(bmin), energy(q, b)[0] + math.exp(middle) * b, 1e30)
        m = cost.argmin(1)
        best = max(best, cost.min(1).sum() - math.exp(middle) * q.B)
        if b[np.arange(len(m)), m].sum() > q.B:
            low = middle
        else:
            high = middle
    return best


def cone_program(q: Problem):
    """E of problem (23) for arrays [N] by CVXPY and Clarabel; inf where it is infeasible."""
    import cvxpy as cp

    b, r, t, f, inverse = (cp.Variable(len(q.c)) for _ in range(5))
    constraints = [
        cp.sum(b) <= q.B,
        r * math.log(2)
        <= -cp.rel_entr(b, 1 + cp.multiply(1 / q.P, b)) + cp.multiply(np.log(q.P), b),
        t >= cp.multiply(q.d / 0.1, cp.inv_pos(r)),
        inverse >= cp.inv_pos(f),
        cp.multiply(q.c / 0.1, inverse) + t <= q.T / 0.1,
        f >= q.fmin,
        f <= q.fmax,
    ]
    cost = cp.sum(cp.multiply(q.kappa * q.c, f**2)) + cp.sum(cp.multiply(0.1 * q.p, t))
    problem = cp.Problem(cp.Minimize(cost), constraints)
    tolerances = dict(tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    problem.solve(solver=cp.CLARABEL, **tolerances)
    if problem.status in ("infeasible", "infeasible_inaccurate"):
        return math.inf
    assert problem.status in ("optimal", "optimal_inaccurate"), problem.status
    return float(problem.value)
