"""A primal-dual interior-point method for the convex problem (36) of one device.

The Hessian is diagonal and there are four rows, so that a step solves four equations, whatever the
number of points. The unit of time is 10 ms.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from allocators import solvers
from allocators.lanes import batched_last

MIN_STD = 1e-6  # least standard deviation y of (33g), in units of 10 ms
INTERIOR_STEPS = 40


class Data(NamedTuple):
    """Problem (36) of one device: all that its solution depends on, time in units of 10 ms.

    This and all that solves it may have a last axis of L devices besides.
    """

    cost: jax.Array
    time: jax.Array
    variance: jax.Array
    sigma: jax.Array
    deadline: jax.Array
    member: jax.Array
    x_hat: jax.Array
    y_hat: jax.Array
    penalty: jax.Array


class _Program(NamedTuple):
    """Problem (36) as: minimise `cost z` subject to `z >= lower` and four quadratic rows.

    The variables are `z = (x, y, alpha, beta)`, [K]. Row i is `linear_i z + square_i z^2 +
    constant_i`; rows 0 to 2 (deadline, (36c), (36d)) are at most 0, row 3 (sum of shares) is 0.
    """

    cost: jax.Array
    lower: jax.Array
    linear: jax.Array
    square: jax.Array
    constant: jax.Array

    def rows(self, z: jax.Array) -> jax.Array:
        """Values of the four rows, [4]."""
        return jnp.sum((self.linear + self.square * z) * z, axis=1) + self.constant

    def jacobian(self, z: jax.Array) -> jax.Array:
        """Derivatives of the rows, [4, K]."""
        return self.linear + 2 * self.square * z


class _Point(NamedTuple):
    """Primal-dual point: z [K], slacks and multipliers of the K + 3 inequalities, of the equality.

    Inequalities are ordered as the K bounds, then the rows 0 to 2.
    """

    z: jax.Array
    slack: jax.Array
    multiplier: jax.Array
    price: jax.Array


def _program(data: Data) -> _Program:
    """Constraints of (36) with gamma eliminated: `x (1 - 2 x_hat) + x_hat^2` is never negative."""
    none = jnp.zeros_like(data.cost)

    def row(x: jax.Array, *rest: ArrayLike) -> jax.Array:
        ends = (jnp.broadcast_to(jnp.asarray(v, x.dtype), x.shape[1:]) for v in rest)
        return jnp.concatenate([x, *(v[None] for v in ends)])

    linear = (
        row(data.time, data.sigma, 0.0, 0.0),
        row(none, -2 * data.y_hat, -1.0, 0.0),
        row(-2 * data.variance * data.x_hat, 0.0, 0.0, -1.0),
        row(data.member, 0.0, 0.0, 0.0),
    )
    square = (
        row(none, 0.0, 0.0, 0.0),
        row(data.variance, 0.0, 0.0, 0.0),
        row(none, 1.0, 0.0, 0.0),
        row(none, 0.0, 0.0, 0.0),
    )
    spread = jnp.sum(data.variance * data.x_hat**2, axis=0)
    return _Program(
        cost=row(data.cost, 0.0, data.penalty, data.penalty),
        lower=row(none, MIN_STD, 0.0, 0.0),
        linear=jnp.stack(linear),
        square=jnp.stack(square),
        constant=jnp.stack([-data.deadline, data.y_hat**2, spread, -jnp.ones_like(spread)]),
    )


def _combine(weights: jax.Array, rows: jax.Array) -> jax.Array:
    """`weights rows`, [K].

    Term by term: XLA for CPU (jaxlib 0.10.2, float32) miscompiles the sum of the product where the
    arrays have one more axis.
    """
    return sum(weight * row for weight, row in zip(weights, rows, strict=True))


def _stationarity(
    program: _Program, z: jax.Array, multiplier: jax.Array, price: jax.Array
) -> jax.Array:
    """Gradient of the Lagrangian of (36) in z, [K]."""
    size = z.shape[0]
    weight = jnp.concatenate([multiplier[size:], price[None]])
    return program.cost - multiplier[:size] + _combine(weight, program.jacobian(z))


def _padded(rows: jax.Array) -> jax.Array:
    """One more entry, 0, for the equality."""
    return jnp.concatenate([rows, jnp.zeros_like(rows[:1])])


def _factor(matrix: jax.Array, extra: jax.Array) -> tuple[list[list[jax.Array]], list[jax.Array]]:
    """Factors L (below the unit diagonal) and D, `L D L^T`, of a matrix with an added diagonal."""
    size = matrix.shape[0]
    low: list[list[jax.Array]] = [[] for _ in range(size)]
    pivot: list[jax.Array] = []
    for i in range(size):
        for j in range(i):
            rest = sum(low[i][k] * low[j][k] * pivot[k] for k in range(j))
            low[i].append((matrix[i, j] - rest) / pivot[j])
        pivot.append(matrix[i, i] + extra[i] - sum(low[i][k] ** 2 * pivot[k] for k in range(i)))
    return low, pivot


def _substitute(
    factors: tuple[list[list[jax.Array]], list[jax.Array]], right: jax.Array
) -> jax.Array:
    """Solution of `L D L^T u = right`."""
    low, pivot = factors
    u = list(right)
    for i in range(len(u)):
        u[i] = u[i] - sum(low[i][k] * u[k] for k in range(i))
    u = [value / diagonal for value, diagonal in zip(u, pivot, strict=True)]
    for i in reversed(range(len(u))):
        u[i] = u[i] - sum(low[k][i] * u[k] for k in range(i + 1, len(u)))
    return jnp.stack(u)


def _reach(point: _Point, step: _Point) -> jax.Array:
    """Largest multiple of the step that keeps slacks and multipliers at least 0."""

    def ratio(value: jax.Array, change: jax.Array) -> jax.Array:
        falls = change < 0
        return jnp.min(jnp.where(falls, -value / jnp.where(falls, change, 1), jnp.inf), axis=0)

    return jnp.minimum(ratio(point.slack, step.slack), ratio(point.multiplier, step.multiplier))


class _Interior(NamedTuple):
    """State of the interior-point method."""

    point: _Point
    steps: jax.Array
    done: jax.Array


def _interior_step(program: _Program, state: _Interior) -> _Interior:
    """One predictor-corrector step. The Hessian is diagonal, so four unknowns remain.

    Done when a full step moves the variables by no more than rounding, or when none is finite.
    """
    point = state.point
    z, slack, multiplier, price = point
    size = z.shape[0]
    double = z.dtype == jnp.float64
    jacobian = program.jacobian(z)
    gradient = _stationarity(program, z, multiplier, price)
    bound_gap = program.lower - z + slack[:size]
    row_gap = program.rows(z) + _padded(slack[size:])
    mean = jnp.mean(multiplier * slack, axis=0)
    curvature = 2 * _combine(_padded(multiplier[size:]), program.square)
    inverse = 1 / (curvature + multiplier[:size] / slack[:size])
    scaled = jacobian * inverse
    schur = jnp.sum(scaled[:, None] * jacobian[None], axis=2)
    factors = _factor(schur, _padded(slack[size:] / multiplier[size:]))

    def newton(product: jax.Array) -> _Point:
        right = (multiplier[:size] * bound_gap - product[:size]) / slack[:size] - gradient
        offset = row_gap - _padded(product[size:] / multiplier[size:])
        rows = _substitute(factors, jnp.sum(scaled * right, axis=1) + offset)
        dz = inverse * (right - _combine(rows, jacobian))
        d_bound = (multiplier[:size] * (bound_gap - dz) - product[:size]) / slack[:size]
        d_row = -(row_gap + jnp.sum(jacobian * dz, axis=1))
        return _Point(
            dz,
            jnp.concatenate([dz - bound_gap, d_row[:3]]),
            jnp.concatenate([d_bound, rows[:3]]),
            rows[3],
        )

    affine = newton(multiplier * slack)
    length = jnp.minimum(_reach(point, affine), 1)
    ahead = (multiplier + length * affine.multiplier) * (slack + length * affine.slack)
    target = jnp.maximum((jnp.mean(ahead, axis=0) / mean) ** 3 * mean, 1e-13 if double else 1e-9)
    step = newton(multiplier * slack + affine.multiplier * affine.slack - target)
    length = jnp.minimum(0.99 * _reach(point, step), 1)
    moved = jax.tree.map(lambda old, change: old + length * change, point, step)
    finite = jnp.isfinite(sum(jnp.sum(leaf, axis=0) for leaf in moved[:3]) + moved.price)
    still = (length > 0.9) & (jnp.max(jnp.abs(step.z), axis=0) < (1e-10 if double else 1e-5))
    kept = jax.tree.map(partial(jnp.where, finite & ~state.done), moved, point)
    return _Interior(kept, state.steps + 1, state.done | still | ~finite)


@batched_last
def _interior_point(data: Data) -> jax.Array:
    """Primal-dual solution `(z, multipliers, price)` of (36), [2K + 4]."""
    program = _program(data)
    shares = data.member / jnp.sum(data.member, axis=0)
    one = jnp.ones_like(data.y_hat)
    z = jnp.concatenate([shares, jnp.stack([jnp.maximum(data.y_hat, 0.1), one, one])])
    slack = jnp.concatenate([z - program.lower, -program.rows(z)[:3]])
    slack = jnp.maximum(slack, 0.1)
    multiplier = jnp.full_like(slack, 0.1) * jnp.sqrt(jnp.maximum(data.penalty, 1e-3))
    start = _Point(z, slack, multiplier, jnp.zeros_like(one))
    end = jax.lax.while_loop(
        lambda state: jnp.any(~state.done) & (state.steps < INTERIOR_STEPS),
        partial(_interior_step, program),
        _Interior(start, jnp.int32(0), jnp.zeros(one.shape, bool)),
    ).point
    return jnp.concatenate([end.z, end.multiplier, end.price[None]])


def _kkt_residual(solution: jax.Array, data: Data) -> jax.Array:
    """Stationarity, complementarity and the equality of (36) for `_interior_point`, [2K + 4]."""
    program = _program(data)
    size = program.cost.shape[0]
    z, multiplier, price = solution[:size], solution[size:-1], solution[-1]
    rows = program.rows(z)
    inequality = jnp.concatenate([program.lower - z, rows[:3]])
    return jnp.concatenate(
        [
            _stationarity(program, z, multiplier, price),
            multiplier * inequality,
            rows[3:],
        ]
    )


def _implicit(data: Data) -> jax.Array:
    """`_interior_point` with the derivative of its KKT conditions."""
    return solvers.implicit_root(_kkt_residual, _interior_point, data)


SOLVERS = {"direct": _interior_point, "jaxopt": _implicit}
