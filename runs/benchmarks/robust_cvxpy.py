"""Algorithm 2 of the robust partitioning paper in CVXPY with Clarabel, one instance at a time.

The yardstick of `allocators.pccp` and `allocators.certificate`: plain NumPy around two problems
that CVXPY compiles once and solves many times. Shares no code with the allocators. Units: MHz,
Mbit, GHz, s, J; the partitioning problem counts time in units of 10 ms, the allocation of 0.1 s.

Instances are any object with the fields of `allocators.robust.Instance`, without padding.
"""

from __future__ import annotations

import math
import time
import warnings
from typing import Any, NamedTuple

import numpy as np

PARTITION_TIME_S = 0.01
ALLOCATION_TIME_S = 0.1
MIN_STD = 1e-6
PENALTY_START, PENALTY_GROWTH, PENALTY_MAX = 1e-3, 3.0, 10.0
TOLERANCE, SLACK_TOLERANCE, MAX_ITERATIONS = 1e-3, 1e-4, 50


class Partition(NamedTuple):
    """Result of Algorithm 1.

    Attributes:
        m: partitioning points after rounding, [N].
        x: shares before rounding, [N, M+1].
        iterations: convex problems solved.
        rejected: devices whose rounded point misses the deadline and that keep their old one.
    """

    m: np.ndarray
    x: np.ndarray
    iterations: int
    rejected: int


class Allocation(NamedTuple):
    """Result of problem (23): energy in J (infinite when infeasible), bandwidths, frequencies."""

    energy: float
    b: np.ndarray
    f: np.ndarray


class Alternation(NamedTuple):
    """Result of Algorithm 2: best energy and points, energies and Algorithm 1 iterations."""

    energy: float
    m: np.ndarray
    history: list[float]
    iterations: list[int]


def rate(b: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Rate `b log2(1 + P/b)` in Mbit/s, 0 where b = 0."""
    safe = np.where(b > 0, b, 1.0)
    return np.where(b > 0, safe * np.log1p(gain / safe) / math.log(2), 0.0)


def moments(instance: Any, b: np.ndarray, f: np.ndarray) -> tuple[np.ndarray, ...]:
    """Energy, mean and variance of the time, and availability of each point, [N, M+1] each."""
    d, c = np.asarray(instance.d), np.asarray(instance.c)
    r, p = rate(b, np.asarray(instance.P))[:, None], np.asarray(instance.p)[:, None]
    upload = np.divide(d, r, out=np.zeros_like(d), where=(d > 0) & (r > 0))
    energy = np.asarray(instance.kappa)[:, None] * c * f[:, None] ** 2 + p * upload
    mean = c / f[:, None] + upload + np.asarray(instance.tvm)
    variance = np.asarray(instance.vloc) + np.asarray(instance.vvm)
    return energy, mean, variance, np.asarray(instance.mask_m) & ((d == 0) | (r > 0))


class Reference:
    """Algorithms 1 and 2 for N devices with M+1 points each; the problems are compiled once.

    Attributes:
        build_s: seconds CVXPY took to compile both problems.
    """

    def __init__(self, devices: int, points: int) -> None:
        """Compile the problems (36) and (23) for this size."""
        import cvxpy as cp

        self.shape = devices, points
        self._build_partition(cp)
        self._build_allocation(cp)
        began = time.perf_counter()
        for problem in (self.partition, self.allocation):
            for parameter in problem.parameters():
                parameter.value = np.full(parameter.shape, 0.5)
            problem.get_problem_data(cp.CLARABEL)
        self.build_s = time.perf_counter() - began
        self._solver = cp.CLARABEL

    def _build_partition(self, cp: Any) -> None:
        """Compile (36); gamma is eliminated: on the simplex it equals its bound in (36e)."""
        devices, points = self.shape
        self.x = cp.Variable(self.shape)
        self.y, self.alpha, self.beta = (cp.Variable(devices) for _ in range(3))
        self.cost, self.mean, self.slope = (cp.Parameter(self.shape) for _ in range(3))
        self.variance = cp.Parameter(self.shape, nonneg=True)
        self.sigma, self.deadline, self.y_hat, self.y_square, self.x_square = (
            cp.Parameter(devices) for _ in range(5)
        )
        self.penalty = cp.Parameter(nonneg=True)
        spread = cp.sum(cp.multiply(self.variance, cp.square(self.x)), axis=1)
        tangent = cp.sum(cp.multiply(self.slope, self.x), axis=1) - self.x_square
        margin = cp.multiply(self.sigma, self.y)
        self.partition = cp.Problem(
            cp.Minimize(
                cp.sum(cp.multiply(self.cost, self.x))
                + self.penalty * cp.sum(self.alpha + self.beta)
            ),
            [
                cp.sum(self.x, axis=1) == 1,
                self.x >= 0,
                self.y >= MIN_STD,
                self.alpha >= 0,
                self.beta >= 0,
                cp.sum(cp.multiply(self.mean, self.x), axis=1) + margin <= self.deadline,
                spread - 2 * cp.multiply(self.y_hat, self.y) + self.y_square <= self.alpha,
                cp.square(self.y) - tangent <= self.beta,
            ],
        )

    def _build_allocation(self, cp: Any) -> None:
        """Compile (23) with variables rate, upload time t and inverse frequency q."""
        devices, _ = self.shape
        self.b, self.f, r, t, q = (cp.Variable(devices) for _ in range(5))
        self.compute_weight, self.data = (cp.Parameter(devices, nonneg=True) for _ in range(2))
        self.compute, self.power = (cp.Parameter(devices, nonneg=True) for _ in range(2))
        self.inverse_gain = cp.Parameter(devices, nonneg=True)
        self.log_gain, self.left = cp.Parameter(devices), cp.Parameter(devices)
        self.f_min, self.f_max = cp.Parameter(devices), cp.Parameter(devices)
        self.total = cp.Parameter()
        entropy = cp.rel_entr(self.b, 1 + cp.multiply(self.inverse_gain, self.b))
        self.allocation = cp.Problem(
            cp.Minimize(
                cp.sum(
                    cp.multiply(self.compute_weight, cp.square(self.f)) + cp.multiply(self.power, t)
                )
            ),
            [
                r * math.log(2) <= -entropy + cp.multiply(self.log_gain, self.b),
                t >= cp.multiply(self.data, cp.inv_pos(r)),
                q >= cp.inv_pos(self.f),
                cp.multiply(self.compute, q) + t <= self.left,
                self.f >= self.f_min,
                self.f <= self.f_max,
                self.b >= 0,
                cp.sum(self.b) <= self.total,
            ],
        )

    def allocate(self, instance: Any, m: np.ndarray) -> Allocation:
        """Problem (23) at the points m, [N]; an infeasible one has infinite energy."""
        rows = np.arange(self.shape[0])
        c, d, tvm, vloc, vvm = (
            np.asarray(getattr(instance, name))[rows, m]
            for name in ("c", "d", "tvm", "vloc", "vvm")
        )
        gain, unit = np.asarray(instance.P), ALLOCATION_TIME_S
        self.compute_weight.value = np.asarray(instance.kappa) * c
        self.power.value = np.asarray(instance.p) * unit
        self.data.value, self.compute.value = d / unit, c / unit
        self.inverse_gain.value, self.log_gain.value = 1 / gain, np.log(gain)
        margin = np.asarray(instance.sigma) * np.sqrt(vloc + vvm)
        self.left.value = (np.asarray(instance.D) - tvm - margin) / unit
        self.f_min.value, self.f_max.value = np.asarray(instance.fmin), np.asarray(instance.fmax)
        self.total.value = float(instance.B)
        nothing = np.zeros(self.shape[0])
        tight = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-10)
        status = self._solve(self.allocation, tight)
        if status not in ("optimal", "optimal_inaccurate"):
            return Allocation(math.inf, nothing, np.asarray(instance.fmin))
        return Allocation(float(self.allocation.value), self.b.value, self.f.value)

    def _solve(self, problem: Any, options: dict[str, float]) -> str:
        """Solve and return the status; a failure of the solver counts as infeasible."""
        import cvxpy as cp

        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Solution may be inaccurate", UserWarning)
                problem.solve(solver=self._solver, **options)
        except cp.SolverError:
            return "failed"
        return problem.status

    def pccp(
        self,
        instance: Any,
        b: np.ndarray,
        f: np.ndarray,
        m: np.ndarray,
        *,
        literal_stop: bool = False,
    ) -> Partition:
        """Algorithm 1 from uniform shares at bandwidths b, frequencies f and old points m."""
        energy, mean, variance, available = moments(instance, b, f)
        mean, variance = mean / PARTITION_TIME_S, variance / PARTITION_TIME_S**2
        masked = ~available
        limit = np.asarray(instance.D) / PARTITION_TIME_S
        sigma = np.asarray(instance.sigma)
        self.mean.value = np.where(masked, 0.0, mean)
        self.variance.value = weights = np.where(masked, 0.0, variance)
        self.sigma.value, self.deadline.value = sigma, limit * (1 + 1e-9)
        x_hat = available / available.sum(axis=1, keepdims=True)
        y_hat = np.maximum(np.sqrt((weights * x_hat**2).sum(axis=1)), 1e-3)
        penalty, iterations = PENALTY_START, 0
        while iterations < MAX_ITERATIONS:
            iterations += 1
            self.cost.value = np.where(masked, 1e3, energy + penalty * (1 - 2 * x_hat))
            self.slope.value = 2 * weights * x_hat
            self.x_square.value = (weights * x_hat**2).sum(axis=1)
            self.y_hat.value, self.y_square.value = y_hat, y_hat**2
            self.penalty.value = penalty
            if self._solve(self.partition, {}) not in ("optimal", "optimal_inaccurate"):
                break
            x, y = np.clip(self.x.value, 0, 1), np.maximum(self.y.value, MIN_STD)
            gamma = (x * (1 - x) + (x - x_hat) ** 2).sum()
            slack = self.alpha.value.sum() + self.beta.value.sum() + gamma
            moved = np.linalg.norm(x - x_hat)
            x_hat, y_hat = x, y
            if moved < TOLERANCE and (
                literal_stop or slack < SLACK_TOLERANCE or penalty == PENALTY_MAX
            ):
                break
            penalty = min(PENALTY_GROWTH * penalty, PENALTY_MAX)
        rows, rounded = np.arange(self.shape[0]), x_hat.argmax(axis=1)
        used = mean[rows, rounded] + sigma * np.sqrt(variance[rows, rounded])
        kept = used > limit * (1 + 1e-7)
        return Partition(np.where(kept, m, rounded), x_hat, iterations, int(kept.sum()))

    def algorithm2(self, instance: Any, start: np.ndarray) -> Alternation:
        """Algorithm 2 from the points ``start``, [N]."""
        m = np.asarray(start)
        current = self.allocate(instance, m)
        energy, best = current.energy, m
        history, iterations = [energy], []
        for _ in range(15 if math.isfinite(energy) else 0):
            step = self.pccp(instance, current.b, current.f, m)
            iterations.append(step.iterations)
            following = self.allocate(instance, step.m)
            if not math.isfinite(following.energy):
                break
            change = abs(following.energy - current.energy)
            settled = change <= 1e-5 * current.energy
            current, m = following, step.m
            history.append(current.energy)
            if current.energy < energy:
                energy, best = current.energy, m
            if settled:
                break
        return Alternation(energy, best, history, iterations)
