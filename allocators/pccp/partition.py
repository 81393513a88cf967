"""Partitioning at fixed bandwidths and frequencies, problem (29): by PCCP, and in closed form."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from allocators import struct
from allocators.choices import check_choice
from allocators.pccp.interior import MIN_STD, SOLVERS, Data
from allocators.robust import Instance, rate

Backend = Literal["direct", "jaxopt"]
Start = Literal["uniform", "current"]

TIME_UNIT_S = 0.01
PENALTY_START = 1e-3  # J per unit of constraint violation
PENALTY_GROWTH = 3.0
PENALTY_MAX = 10.0
TOLERANCE = 1e-3  # of the partition between two iterations, theta
SLACK_TOLERANCE = 1e-4
MAX_ITERATIONS = 50
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
    check_choice(backend, Backend, "backend")
    member, active = _members(problem)
    points = member.shape[1]
    penalty = jnp.asarray(penalty, problem.energy.dtype)
    widen, _ = _slack(problem.energy.dtype)

    def scale(values: jax.Array, unit: float, masked: float) -> jax.Array:
        return jnp.where(member & active[:, None], values / unit, masked)

    data = Data(
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
    z = jax.vmap(SOLVERS[backend])(data)[:, : points + 3]
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


def algorithm1(
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
    check_choice(start, Start, "start")
    return algorithm1(partitioning(instance, b, f), m, start, literal_stop, jnp.zeros((), bool))


def cheapest_in_time(problem: Partitioning) -> jax.Array:
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
    return cheapest_in_time(partitioning(instance, b, f))
