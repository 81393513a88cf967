"""Alternation of partitioning and allocation, the published algorithm for robust partitioning.

Given bandwidths and frequencies, every device chooses its partitioning point (robust paper, problem
(29)). The paper relaxes the choice and solves it by the penalty convex-concave procedure (PCCP,
Algorithm 1): a sequence of convex problems (36), here each by a primal-dual interior-point method.
Algorithm 2 alternates this with the allocation of `allocators.robust`. Problem (29) also has a
closed form, `partition_exact`.

Units: MHz, Mbit, GHz, s, J as in `allocators.robust`. Inside the convex problems the unit of time
is 10 ms, so that variances are of order one, as are penalties on them.

The methods follow S. Boyd and L. Vandenberghe, "Convex Optimization", section 11.7; S. Mehrotra,
SIAM J. Optim. 2, 1992 (predictor-corrector steps); T. Lipp and S. Boyd, Optim. Eng. 17, 2016
(PCCP).
"""

from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from allocators import solvers, struct
from allocators.lanes import batched_last
from allocators.robust import Allocation, Instance, allocate, bmin_table, rate

Backend = Literal["direct", "jaxopt"]
Start = Literal["uniform", "current"]
Step = Literal["pccp", "exact"]

TIME_UNIT_S = 0.01
MIN_STD = 1e-6  # least standard deviation y of (33g), in units of 10 ms
PENALTY_START = 1e-3  # J per unit of constraint violation
PENALTY_GROWTH = 3.0
PENALTY_MAX = 10.0
TOLERANCE = 1e-3  # of the partition between two iterations, theta
SLACK_TOLERANCE = 1e-4
MAX_ITERATIONS = 50
MAX_OUTER_STEPS = 15
ENERGY_TOLERANCE = 1e-5
INTERIOR_STEPS = 40
BINARY = 0.99  # a device is binary when its largest share is at least this


@struct.dataclass
class Partitioning:
    """Problem (29): the partitioning of N devices at fixed bandwidths and frequencies.

    Attributes:
        energy: expected energy of each point, J, [N, M+1].
        time: mean inference time of each point, s, [N, M+1].
        variance: variance of that time, s^2, [N, M+1].
        deadline: s, [N].
        sigma: standard deviations of margin, sqrt((1 - eps) / eps), [N].
        available: points that can be chosen, bool [N, M+1]; a device without any is padding.
    """

    energy: jax.Array
    time: jax.Array
    variance: jax.Array
    deadline: jax.Array
    sigma: jax.Array
    available: jax.Array


class Iterate(NamedTuple):
    """Solution of the convex problem (36) of every device, time in units of 10 ms.

    Attributes:
        x: shares of the points, [N, M+1].
        y: standard deviation of the time, [N].
        alpha: violation of `sum w x^2 <= y^2`, [N].
        beta: violation of `y^2 <= sum w x^2`, [N].
    """

    x: jax.Array
    y: jax.Array
    alpha: jax.Array
    beta: jax.Array


class _Data(NamedTuple):
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


def _program(data: _Data) -> _Program:
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
def _interior_point(data: _Data) -> jax.Array:
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


def _kkt_residual(solution: jax.Array, data: _Data) -> jax.Array:
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


def _implicit(data: _Data) -> jax.Array:
    """`_interior_point` with the derivative of its KKT conditions."""
    return solvers.implicit_root(_kkt_residual, _interior_point, data)


_SOLVERS = {"direct": _interior_point, "jaxopt": _implicit}


def partitioning(instance: Instance, b: jax.Array, f: jax.Array) -> Partitioning:
    """Problem (29) of an instance at bandwidths b, MHz, and frequencies f, GHz, [N] each.

    Without bandwidth, points that upload are not available. Padded devices have no points.

    Source: robust paper, (24) and (28).
    """
    speed = rate(b, instance.P)[:, None]
    uploads = (instance.d > 0) & instance.mask_n[:, None]
    upload = jnp.where(uploads & (speed > 0), instance.d / jnp.where(speed > 0, speed, 1), 0)
    frequency = jnp.where(f > 0, f, 1)[:, None]
    return Partitioning(
        energy=instance.kappa[:, None] * instance.c * frequency**2 + instance.p[:, None] * upload,
        time=instance.c / frequency + upload + instance.tvm,
        variance=instance.vloc + instance.vvm,
        deadline=instance.D,
        sigma=instance.sigma,
        available=instance.mask_m & instance.mask_n[:, None] & (~uploads | (speed > 0)),
    )


def _members(problem: Partitioning) -> tuple[jax.Array, jax.Array]:
    """Points of the relaxed problem, [N, M+1], and devices with any, [N].

    A device without points gets point 0, so that its problem is well posed.
    """
    active = jnp.any(problem.available, axis=1)
    first = jnp.arange(problem.available.shape[1]) == 0
    return jnp.where(active[:, None], problem.available, first), active


def _slack(dtype: jnp.dtype) -> tuple[float, float]:
    """Relative widening of the deadline in (33c), and tolerance of (28)."""
    return (1e-9, 1e-7) if dtype == jnp.float64 else (1e-6, 2e-6)


def initial_iterate(problem: Partitioning, m: jax.Array | None = None) -> Iterate:
    """Start of Algorithm 1: uniform shares of the available points, or the points m, int [N]."""
    member, _ = _members(problem)
    dtype = problem.energy.dtype
    x = member / jnp.sum(member, axis=1, keepdims=True)
    if m is not None:
        x = m[:, None] == jnp.arange(member.shape[1])
    x = x.astype(dtype)
    variance = jnp.where(member, problem.variance, 0) / TIME_UNIT_S**2
    y = jnp.sqrt(jnp.maximum(jnp.sum(variance * x**2, axis=1), 1e-6))
    return Iterate(x, y, jnp.zeros_like(y), jnp.zeros_like(y))


def convex_step(
    problem: Partitioning,
    previous: Iterate,
    penalty: ArrayLike,
    backend: Backend = "direct",
) -> Iterate:
    """Convex problem (36), linearised at the previous iterate, solved by an interior-point method.

    Args:
        problem: the partitioning problem of N devices.
        previous: iterate at which concave terms are linearised; only x and y matter.
        penalty: J per unit of violation, rho > 0, scalar.
        backend: "direct" has no derivative; "jaxopt" has the reverse-mode derivative of the KKT
            conditions with respect to every float of the arguments. It is meaningless where the set
            of active constraints changes.

    Returns:
        The solution, accurate to about 1e-9 in float64 and 1e-5 in float32 for x, with x in [0, 1]
        and y >= 1e-6. Devices without points have all of their share at point 0, and no violation.

    Raises:
        ValueError: unknown backend.

    Source: robust paper, (36); the slack gamma is eliminated.
    """
    _check(backend, Backend, "backend")
    member, active = _members(problem)
    points = member.shape[1]
    penalty = jnp.asarray(penalty, problem.energy.dtype)
    widen, _ = _slack(problem.energy.dtype)

    def scale(values: jax.Array, unit: float, masked: float) -> jax.Array:
        return jnp.where(member & active[:, None], values / unit, masked)

    data = _Data(
        cost=jnp.where(member, problem.energy + penalty * (1 - 2 * previous.x), 1),
        time=scale(problem.time, TIME_UNIT_S, 0),
        variance=scale(problem.variance, TIME_UNIT_S**2, 0),
        sigma=jnp.where(active, problem.sigma, 1),
        deadline=jnp.where(active, problem.deadline / TIME_UNIT_S * (1 + widen), 1),
        member=member.astype(problem.energy.dtype),
        x_hat=previous.x,
        y_hat=previous.y,
        penalty=jnp.broadcast_to(penalty, active.shape),
    )
    if backend == "direct":
        data = jax.lax.stop_gradient(data)
    z = jax.vmap(_SOLVERS[backend])(data)[:, : points + 3]
    x = jnp.where(active[:, None], jnp.clip(z[:, :points], 0, 1), member)
    y = jnp.maximum(z[:, points], MIN_STD)
    alpha, beta = jnp.where(active[:, None], z[:, points + 1 :], 0).T
    return Iterate(x, y, alpha, beta)


def penalty_after(penalty: jax.Array) -> jax.Array:
    """Penalty of the next iteration of Algorithm 1, `min(nu rho, rho_max)`."""
    return jnp.minimum(PENALTY_GROWTH * penalty, PENALTY_MAX)


def relax(
    problem: Partitioning,
    iterations: int,
    penalty: ArrayLike = PENALTY_START,
    backend: Backend = "jaxopt",
) -> Iterate:
    """Algorithm 1 from uniform shares for a fixed number of iterations, without rounding.

    With `backend="jaxopt"` it can be trained through, as `convex_step`; a first penalty of the
    order of the energies spreads the shares, a small one leaves most of them at 0, where they do
    not respond to the energies.

    Args:
        problem: the partitioning problem of N devices.
        iterations: number of convex problems, at least 1.
        penalty: of the first convex problem, J per unit of violation.
        backend: see `convex_step`.
    """

    def step(carry: tuple[Iterate, jax.Array], _: None) -> tuple[tuple[Iterate, jax.Array], None]:
        iterate, penalty = carry
        return (convex_step(problem, iterate, penalty, backend), penalty_after(penalty)), None

    start = (initial_iterate(problem), jnp.asarray(penalty, problem.energy.dtype))
    return jax.lax.scan(step, start, length=iterations)[0][0]


@struct.dataclass
class Partition:
    """Result of Algorithm 1.

    Attributes:
        m: partitioning points after rounding, int32 [N]; 0 for padding.
        x: shares before rounding, [N, M+1].
        iterations: convex problems solved, int32 [].
        rejected: devices that keep their old point because the new one misses (28), int32 [].
        nonbinary: devices whose largest share is below 0.99, int32 [].
    """

    m: jax.Array
    x: jax.Array
    iterations: jax.Array
    rejected: jax.Array
    nonbinary: jax.Array


class _Search(NamedTuple):
    """State of Algorithm 1."""

    iterate: Iterate
    penalty: jax.Array
    iterations: jax.Array
    done: jax.Array


def _lateness(problem: Partitioning) -> jax.Array:
    """Left side of (28) at each point less the deadline with its tolerance, s, [N, M+1]."""
    _, tolerance = _slack(problem.energy.dtype)
    used = problem.time + problem.sigma[:, None] * jnp.sqrt(problem.variance)
    return used - problem.deadline[:, None] * (1 + tolerance)


def _pccp(
    problem: Partitioning, m: jax.Array, start: Start, literal_stop: ArrayLike, skip: jax.Array
) -> Partition:
    """Algorithm 1; nothing is iterated where `skip`."""

    def settled(old: Iterate, new: Iterate, penalty: jax.Array) -> jax.Array:
        change = new.x - old.x
        close = jnp.sqrt(jnp.sum(change**2)) < TOLERANCE
        slack = jnp.sum(new.alpha + new.beta) + jnp.sum(new.x * (1 - new.x) + change**2)
        return close & (literal_stop | (slack < SLACK_TOLERANCE) | (penalty >= PENALTY_MAX))

    def step(search: _Search) -> _Search:
        new = convex_step(problem, search.iterate, search.penalty)
        return _Search(
            new,
            penalty_after(search.penalty),
            search.iterations + 1,
            settled(search.iterate, new, search.penalty),
        )

    def going(search: _Search) -> jax.Array:
        return ~search.done & (search.iterations < MAX_ITERATIONS)

    penalty = jnp.asarray(PENALTY_START, problem.energy.dtype)
    first = initial_iterate(problem, m if start == "current" else None)
    zero = jnp.zeros((), jnp.int32)
    search = jax.lax.while_loop(going, step, _Search(first, penalty, zero, skip))
    x = search.iterate.x
    active = jnp.any(problem.available, axis=1)
    rounded = jnp.argmax(x, axis=1).astype(jnp.int32)
    late = jnp.take_along_axis(_lateness(problem), rounded[:, None], axis=1)[:, 0] > 0
    late = late & active
    return Partition(
        m=jnp.where(late, m, rounded).astype(jnp.int32),
        x=x,
        iterations=search.iterations,
        rejected=jnp.sum(late, dtype=jnp.int32),
        nonbinary=jnp.sum(active & (jnp.max(x, axis=1) < BINARY), dtype=jnp.int32),
    )


def pccp(
    instance: Instance,
    b: jax.Array,
    f: jax.Array,
    m: jax.Array,
    *,
    start: Start = "uniform",
    literal_stop: bool = False,
) -> Partition:
    """Algorithm 1: partitioning points at fixed bandwidths and frequencies, by PCCP.

    At most 50 convex problems (36) with a penalty that grows from 1e-3 to 10. It stops when the
    shares of all devices together move by less than 1e-3 and, unless `literal_stop`, violations are
    below 1e-4 or the penalty is at its maximum. Then each device takes the point of largest share.

    Args:
        instance: N devices with M+1 points.
        b: bandwidths, MHz, [N].
        f: frequencies, GHz, [N].
        m: old points, int [N], kept by a device whose new point misses the deadline (28).
        start: "uniform" shares, or the "current" points m.
        literal_stop: stop by the paper's test alone; it tends to end at once, far from binary.

    Raises:
        ValueError: unknown start.

    Source: robust paper, Algorithm 1.
    """
    _check(start, Start, "start")
    return _pccp(partitioning(instance, b, f), m, start, literal_stop, jnp.zeros((), bool))


def _exact(problem: Partitioning) -> jax.Array:
    """Points of least energy that meet (28), int32 [N]."""
    late = jnp.where(problem.available, _lateness(problem), jnp.inf)
    energy = jnp.where(late <= 0, problem.energy, jnp.inf)
    best = jnp.where(jnp.any(late <= 0, axis=1), jnp.argmin(energy, 1), jnp.argmin(late, 1))
    return best.astype(jnp.int32)


def partition_exact(instance: Instance, b: jax.Array, f: jax.Array) -> jax.Array:
    """Optimum of problem (29): each device's point of least energy that meets (28), int32 [N].

    A device for which no point does takes the point that is least late; padding takes point 0.

    Args:
        instance: N devices with M+1 points.
        b: bandwidths, MHz, [N].
        f: frequencies, GHz, [N].
    """
    return _exact(partitioning(instance, b, f))


@struct.dataclass
class Alternation:
    """Result of Algorithm 2.

    Attributes:
        best: allocation of least energy among the iterates; infeasible with the start.
        history: energies of the start and the accepted iterates, J, [16]; the last one repeats.
        steps: partition steps taken, int32 [].
        status: `CONVERGED`, `INFEASIBLE_START`, `INFEASIBLE_STEP` (the last partition does not fit
            into the bandwidth and is dropped) or `STEP_LIMIT`, int32 [].
        iterations: convex problems per partition step, int32 [15]; 0 after the last step, and for
            the exact step.
        rejected: rejected devices per partition step, int32 [15].
        nonbinary: devices that are not binary per partition step, int32 [15].
    """

    best: Allocation
    history: jax.Array
    steps: jax.Array
    status: jax.Array
    iterations: jax.Array
    rejected: jax.Array
    nonbinary: jax.Array


CONVERGED, INFEASIBLE_START, INFEASIBLE_STEP, STEP_LIMIT = range(4)


class _Outer(NamedTuple):
    """State of Algorithm 2: the last accepted allocation, and the points to allocate for next."""

    current: Allocation
    m: jax.Array
    result: Alternation
    done: jax.Array


def _outer_step(
    instance: Instance, step: Step, start: Start, literal_stop: ArrayLike, state: _Outer
) -> _Outer:
    """An allocation and the partition step after it; nothing changes where already done.

    The start is step 0 and counts as the step after -1.
    """
    current, m, result, done = state
    new = allocate(instance, m)
    first = result.steps < 0
    index = result.steps + 1
    settled = ~first & (jnp.abs(current.E - new.E) <= ENERGY_TOLERANCE * current.E)
    better = first | (new.E < result.best.E)
    later = jnp.arange(MAX_OUTER_STEPS + 1) >= index
    status = jnp.where(
        new.feasible,
        jnp.where(settled, CONVERGED, STEP_LIMIT),
        jnp.where(first, INFEASIBLE_START, INFEASIBLE_STEP),
    )
    stop = done | ~new.feasible | settled | (index >= MAX_OUTER_STEPS)
    problem = partitioning(instance, new.b, new.f)
    if step == "pccp":
        partition = _pccp(problem, m, start, literal_stop, stop)
        m = partition.m
    else:
        partition, m = None, _exact(problem)

    def record(log: jax.Array, name: str) -> jax.Array:
        here = (jnp.arange(MAX_OUTER_STEPS) == index) & ~stop
        return log if partition is None else jnp.where(here, getattr(partition, name), log)

    updated = Alternation(
        best=jax.tree.map(partial(jnp.where, better), new, result.best),
        history=jnp.where(later & (first | new.feasible), new.E, result.history),
        steps=index,
        status=status.astype(jnp.int32),
        iterations=record(result.iterations, "iterations"),
        rejected=record(result.rejected, "rejected"),
        nonbinary=record(result.nonbinary, "nonbinary"),
    )
    fresh = _Outer(new, m, updated, stop)
    return jax.tree.map(partial(jnp.where, done), state, fresh)


def algorithm2(
    instance: Instance,
    start: jax.Array | None = None,
    step: Step = "pccp",
    *,
    partition_start: Start = "uniform",
    literal_stop: bool = False,
) -> Alternation:
    """Algorithm 2: allocation and partitioning in turn, at most 15 times.

    It stops when a partition does not fit into the bandwidth, or when the energy changes by at most
    1e-5 of itself. An alternation is not a global method: it ends where it is stuck.

    Args:
        instance: N devices with M+1 points.
        start: first partitioning points, int [N]; by default those of least bandwidth, which are
            feasible whenever any are.
        step: "pccp" is Algorithm 1, "exact" the optimum of the same problem (29).
        partition_start: `start` of `pccp`.
        literal_stop: `literal_stop` of `pccp`.

    Raises:
        ValueError: unknown step or partition start.

    Source: robust paper, Algorithm 2.
    """
    _check(step, Step, "step")
    _check(partition_start, Start, "partition_start")
    if start is None:
        start = jnp.argmin(bmin_table(instance), axis=1)
    m = jnp.asarray(start).astype(jnp.int32)
    nothing = jax.eval_shape(allocate, instance, m)
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), nothing)
    none = jnp.zeros((MAX_OUTER_STEPS,), jnp.int32)
    history = jnp.zeros((MAX_OUTER_STEPS + 1,), nothing.E.dtype)
    result = Alternation(nothing, history, jnp.int32(-1), jnp.int32(STEP_LIMIT), none, none, none)
    body = partial(_outer_step, instance, step, partition_start, literal_stop)
    first = _Outer(nothing, m, result, jnp.zeros((), bool))
    return jax.lax.while_loop(lambda state: ~state.done, body, first).result


def _check(value: str, valid: Any, name: str) -> None:
    """Refuse a value that a `Literal` does not list."""
    options = get_args(valid)
    if value not in options:
        raise ValueError(f"{name}: {value!r} is not valid; give one of {', '.join(options)}")
