"""Problem (36) of the robust partitioning paper in CVXPY, with every slack the paper has.

A reference for `allocators.pccp`, which eliminates gamma and splits the problem by device. Whole
Algorithms 1 and 2 in CVXPY are those of the benchmark.
"""

import numpy as np

from runs.benchmarks.robust_cvxpy import Reference

__all__ = ["Reference", "solve_convex_problem"]


def solve_convex_problem(
    energy: np.ndarray,
    time: np.ndarray,
    variance: np.ndarray,
    sigma: np.ndarray,
    deadline: np.ndarray,
    x_hat: np.ndarray,
    y_hat: np.ndarray,
    penalty: float,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Optimal x [N, M+1], y [N] and value of (36), times in units of 10 ms; (24d) is constant."""
    import cvxpy as cp

    x, gamma = cp.Variable(x_hat.shape), cp.Variable(x_hat.shape)
    y, alpha, beta = (cp.Variable(y_hat.shape) for _ in range(3))
    objective = cp.sum(cp.multiply(energy, x)) + penalty * (
        cp.sum(alpha) + cp.sum(beta) + cp.sum(gamma)
    )
    constraints = [
        cp.sum(x, axis=1) == 1,
        x >= 0,
        x <= 1,
        y >= 1e-6,
        alpha >= 0,
        beta >= 0,
        gamma >= 0,
        cp.sum(cp.multiply(time, x), axis=1) + cp.multiply(sigma, y) <= deadline,
        cp.sum(cp.multiply(variance, cp.square(x)), axis=1) - cp.multiply(y_hat, 2 * y - y_hat)
        <= alpha,
        cp.square(y) - cp.sum(cp.multiply(variance * x_hat, 2 * x - x_hat), axis=1) <= beta,
        cp.multiply(x, 1 - 2 * x_hat) + x_hat**2 <= gamma,
    ]
    problem = cp.Problem(cp.Minimize(objective), constraints)
    tight = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-10)
    problem.solve(solver=cp.CLARABEL, **tight)
    return x.value, y.value, float(problem.value)
