"""Bandwidths and frequencies of least energy for a fixed partition, problem (23), and derivatives.

Units are those of `allocators.robust`.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from allocators import solvers, struct
from allocators.choices import Backend, check_choice
from allocators.lanes import batched_last
from allocators.robust.instance import Instance
from allocators.robust.links import (
    LN2,
    Curves,
    Links,
    curves,
    links_of,
    log_slope,
    only_where,
    rate,
    take_rows,
    upload,
)
from allocators.robust.prices import equilibrium, first_guess, share_rest


@struct.dataclass
class Allocation:
    """What every device does, and what it costs; a pytree.

    An infeasible one has `E = +inf`, `e_dev = +inf`, `b = 0`, `f = fmin` and 0 elsewhere.

    Attributes:
        m: partitioning points, int32 [N].
        b: bandwidths, MHz, [N].
        f: clock frequencies, GHz, [N].
        t_off: upload times, s, [N].
        e_dev: expected energies, J, [N].
        mu: multipliers of the deadlines (22), J/s, [N].
        slack: D minus the left side of (22), s, [N].
        E: total expected energy, J, [].
        lam: price of the bandwidth, J/MHz, [].
        feasible: whether the partition can meet every deadline, bool [].
    """

    m: jax.Array
    b: jax.Array
    f: jax.Array
    t_off: jax.Array
    e_dev: jax.Array
    mu: jax.Array
    slack: jax.Array
    E: jax.Array
    lam: jax.Array
    feasible: jax.Array


@struct.dataclass
class Optimum:
    """Solution of problem (23), with what its derivative holds fixed; a pytree.

    Attributes:
        log_price: logarithm of the price of bandwidth, J/MHz, `[L]`.
        b: bandwidths, MHz, `[N, L]`.
        available: links that B alone would suffice for, bool `[N, L]`.
        uploads: those of them with data, bool `[N, L]`.
        at_bmin: those at their least bandwidth, where f = fmax, bool `[N, L]`.
        above: those before their kink, where f > fmin, bool `[N, L]`.
        free: those neither at their least bandwidth nor at their kink, bool `[N, L]`.
        possible: whether every deadline can be met, bool `[L]`.
    """

    log_price: jax.Array
    b: jax.Array
    available: jax.Array
    uploads: jax.Array
    at_bmin: jax.Array
    above: jax.Array
    free: jax.Array
    possible: jax.Array


def optimum_of(k: Curves, B: jax.Array, log_price: jax.Array, b: jax.Array) -> Optimum:
    """What prices `[L]` and bandwidths `[N, L]` that solve problem (23) hold fixed."""
    at_bmin = k.uploads & (log_price >= k.log_slope_bmin)
    above = log_price > k.log_slope_above
    free = k.uploads & ~at_bmin & (above | (log_price < k.log_slope_below))
    possible = jnp.sum(k.bmin, axis=0) <= B
    return Optimum(log_price, b, k.available, k.uploads, at_bmin, above, free, possible)


@jax.custom_jvp
def _held(
    links: Links, B: jax.Array, log_price: jax.Array, b: jax.Array, found: Optimum
) -> tuple[jax.Array, jax.Array]:
    """The log price [] and bandwidths `[N]` of an optimum as functions of links `[N]` and B."""
    return log_price, b


@_held.defjvp
def _held_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """Implicit function theorem on the optimality conditions, with the active set held.

    `log(-phi'(b_n)) = log price` for a free device; `R(b_n)` is what the deadline needs at fmax or
    fmin for a device at its least bandwidth or at its kink; `sum b_n = B`.
    """
    links, _, _, _, found = primals
    d_links, d_B, _, _, _ = tangents
    log_price, b = _held(*primals)

    def residual(links: Links, log_b: jax.Array) -> jax.Array:
        safe = only_where(found.uploads, links)
        frequency = jnp.where(found.at_bmin, safe.fmax, safe.fmin)
        time = safe.time_left - safe.c / frequency
        late = jnp.log(rate(jnp.exp(log_b), safe.P) * jnp.where(found.free, 1, time) / safe.d)
        return jnp.where(found.free, log_slope(safe, log_b, found.above)[0], late)

    log_b = jnp.log(jnp.where(found.uploads, b, 1))
    ones = jnp.ones_like(log_b)
    _, by_b = jax.jvp(lambda log_b: residual(links, log_b), (log_b,), (ones,))
    _, by_links = jax.jvp(lambda links: residual(links, log_b), (links,), (d_links,))
    weight = jnp.where(found.uploads, b / by_b, 0)
    freedom = jnp.sum(jnp.where(found.free, weight, 0))
    moves = jnp.any(found.free)
    d_price = (d_B + jnp.sum(weight * by_links)) / jnp.where(moves, freedom, 1)
    d_price = jnp.where(moves, d_price, 0)
    d_b = weight * (jnp.where(found.free, d_price, 0) - by_links)
    return (log_price, b), (d_price, d_b)


def _solved(k: Curves, links: Links, B: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Log price [] and bandwidths `[N]` by nested root finding in `allocators.solvers`.

    Outer root in the log price of `sum b / B - 1`; inner roots, one per device, of `log(-phi')`
    minus the log price over u in [0, 1], where `log b = log bmin + u (log B - log bmin)`.
    """
    solvable = k.uploads & (jnp.sum(k.bmin) <= B)
    links = only_where(solvable, links)
    lowest = jnp.where(solvable, k.log_bmin, jnp.log(B) - 5)
    dtype = links.d.dtype
    tol = 1e-13 if dtype == jnp.float64 else 1e-6

    def bandwidths(log_price: jax.Array, links: Links, B: jax.Array) -> jax.Array:
        def of_device(links: Links, bend: tuple[jax.Array, ...]) -> jax.Array:
            solvable, low, kink = bend
            span = jnp.log(B) - low

            def excess(u: jax.Array, log_price: jax.Array, links: Links, span: jax.Array):
                log_b = low + u * span
                return log_slope(links, log_b, log_b < kink)[0] - log_price

            args = (log_price, links, span)
            zero, one = jnp.zeros((), dtype), jnp.ones((), dtype)
            root = solvers.bisect_root(excess, zero, one, *args, maxiter=60, tol=tol)
            u = jnp.where(excess(zero, *args) <= 0, 0, jnp.where(excess(one, *args) >= 0, 1, root))
            return jnp.where(solvable, jnp.exp(low + u * span), 0)

        return jax.vmap(of_device)(links, (solvable, lowest, k.log_kink))

    def excess(log_price: jax.Array, links: Links, B: jax.Array) -> jax.Array:
        total = jnp.sum(bandwidths(log_price, links, B))
        return jnp.where(jnp.any(solvable), total / B - 1, -log_price)

    ends = jnp.asarray(math.log(1e-9), dtype), jnp.asarray(math.log(1e6), dtype)
    log_price = solvers.bisect_root(excess, *ends, links, B, maxiter=60, tol=tol)
    return log_price, bandwidths(log_price, links, B)


def _deadline_multipliers(
    links: Links, uploads: jax.Array, price: jax.Array, b: jax.Array, f: jax.Array
) -> jax.Array:
    """Multipliers of the deadlines (22), J/s, from the conditions of b, or of f without upload."""
    safe_b = jnp.where(uploads, b, 1)
    ratio = links.P / safe_b
    log_term = jnp.log1p(ratio)
    marginal = (log_term - ratio / (1 + ratio)) / LN2
    data = jnp.where(uploads, links.d, 1)
    by_bandwidth = price * (safe_b * log_term / LN2) ** 2 / (data * marginal) - links.p
    by_frequency = jnp.where(f > links.fmin, 2 * links.kappa * f**3, 0)
    return jnp.where(uploads, by_bandwidth, by_frequency)


@struct.dataclass
class _Report:
    """The floats of an `Allocation`."""

    b: jax.Array
    f: jax.Array
    t_off: jax.Array
    e_dev: jax.Array
    mu: jax.Array
    slack: jax.Array
    E: jax.Array
    lam: jax.Array


def _report(
    links: Links, active: jax.Array, found: Optimum, log_price: jax.Array, b: jax.Array
) -> _Report:
    """What follows from prices `[L]` and bandwidths `[N, L]`, section II of the paper."""
    safe = only_where(found.available, links)
    b = jnp.where(found.uploads, b, 0)
    t, f = upload(safe, b)
    price = jnp.where(jnp.any(found.uploads, axis=0), jnp.exp(log_price), 0)
    mu = _deadline_multipliers(safe, found.uploads, price, b, f)
    spent = safe.kappa * safe.c * f**2 + safe.p * t
    slack = safe.time_left - t - safe.c / f

    def kept(x: jax.Array, otherwise: ArrayLike = 0) -> jax.Array:
        return jnp.where(found.possible & active, x, jnp.where(active, otherwise, 0))

    return _Report(
        b=kept(b),
        f=jnp.where(found.possible & active, f, links.fmin),
        t_off=kept(t),
        e_dev=kept(spent, jnp.inf),
        mu=kept(mu),
        slack=kept(slack),
        E=jnp.where(found.possible, jnp.sum(kept(spent), axis=0), jnp.inf),
        lam=jnp.where(found.possible, price, 0),
    )


def reported(links: Links, active: jax.Array, found: Optimum) -> _Report:
    """The floats of the allocation of an optimum, `[N, L]` and `[L]`."""
    return _report(links, active, found, found.log_price, found.b)


@jax.custom_jvp
def _differentiable(
    links: Links, B: jax.Array, active: jax.Array, found: Optimum, report: _Report
) -> _Report:
    """A report of one instance as a function of its links `[N]` and B []."""
    return report


@_differentiable.defjvp
def _differentiable_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    links, B, active, found, _ = primals

    def again(links: Links, B: jax.Array) -> _Report:
        held = _held(links, B, found.log_price, found.b, found)
        return _report(links, active, found, *held)

    return jax.jvp(again, (links, B), tangents[:2])


def allocation(
    inst: Instance, m: jax.Array, links: Links, found: Optimum, report: _Report
) -> Allocation:
    """The allocation of one instance, differentiable, from its optimum and report."""
    report = _differentiable(links, inst.B, inst.mask_n, found, report)
    return Allocation(m=m, feasible=found.possible, **vars(report))


@batched_last
def _optimal(inst: Instance, m: jax.Array) -> tuple[Optimum, _Report]:
    """Solution of problem (23) at partitioning points `[N, L]` by Newton's method."""
    links = jax.tree.map(lambda x: x[:, 0], take_rows(links_of(inst), m[:, None]))
    k = curves(links, inst.B)
    log_price, log_b, _ = equilibrium(k, inst.B, *first_guess(k, inst.B))
    found = optimum_of(k, inst.B, log_price, share_rest(k, inst.B, jnp.exp(log_b)))
    return found, reported(links, inst.mask_n, found)


def links_at(inst: Instance, m: jax.Array) -> Links:
    """Links `[N]` of an instance at partitioning points m int `[N]`."""
    rows = jnp.arange(m.shape[0])
    table = links_of(inst)
    return jax.tree.map(lambda x: x[rows, m] if x.shape[1] > 1 else x[:, 0], table)


@partial(jax.jit, static_argnames="backend")
def allocate(inst: Instance, m: ArrayLike, backend: Backend = "closed") -> Allocation:
    """Bandwidths and frequencies of least expected energy for a fixed partition, problem (23).

    Differentiable in the floats of the instance by the implicit function theorem, where the
    active set is locally constant (no device passes its least bandwidth or the kink at fmin);
    where no deadline can be met all derivatives are 0.

    Args:
        inst: the instance.
        m: partitioning points, int `[N]`.
        backend: "closed" is a safeguarded Newton's method; "jaxopt" solves the same optimality
            conditions by nested bisection, much slower, as a reference.

    Returns:
        The optimum; `feasible` is False and `E = +inf` where the least bandwidths of the partition
        sum to more than B.

    Raises:
        ValueError: unknown backend.

    Source: problem (23), energy (15), deadline (22).
    """
    check_choice(backend, Backend, "backend")
    m = _points(inst, m)
    links = links_at(inst, m)
    if backend == "closed":
        return allocation(inst, m, links, *_optimal(jax.lax.stop_gradient(inst), m))
    k = curves(*jax.lax.stop_gradient((links, inst.B)))
    log_price, b = _solved(k, links, inst.B)
    found = optimum_of(k, inst.B, log_price, b)
    report = _report(links, inst.mask_n, found, log_price, b)
    return Allocation(m=m, feasible=found.possible, **vars(report))


def _points(inst: Instance, m: ArrayLike) -> jax.Array:
    """Partitioning points, int32 `[N]`, 0 for padding."""
    last = inst.c.shape[1] - 1
    return jnp.where(inst.mask_n, jnp.clip(jnp.asarray(m, jnp.int32), 0, last), 0)


@jax.custom_jvp
def _value(links: Links, B: jax.Array, active: jax.Array, found: Optimum, report: _Report):
    """Least energy E, J, [], as a function of links `[N]` and the total bandwidth."""
    return report.E


@_value.defjvp
def _value_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """Envelope theorem: the derivative of the Lagrangian at fixed b, f, price and multipliers.

    A frequency at one of its ends moves with that end.
    """
    links, B, _, found, _ = primals
    report = _differentiable(*primals)
    b, f, mu, price = report.b, report.f, report.mu, report.lam
    fastest = found.at_bmin | (f >= links.fmax)
    slowest = (found.uploads & ~found.above) | (f <= links.fmin)

    def lagrangian(links: Links, B: jax.Array) -> jax.Array:
        links = only_where(found.available & found.possible, links)
        frequency = jnp.where(fastest, links.fmax, jnp.where(slowest, links.fmin, f))
        served = found.uploads & (b > 0)
        speed = rate(jnp.where(served, b, 1), links.P)
        t = jnp.where(served, links.d / speed, 0)
        spent = links.kappa * links.c * frequency**2 + links.p * t
        lateness = links.c / frequency + t - links.time_left
        return jnp.sum(spent + mu * lateness) - price * B

    _, derivative = jax.jvp(lagrangian, (links, B), tangents[:2])
    return _value(*primals), jnp.where(found.possible, derivative, 0)


@jax.jit
def value(inst: Instance, m: ArrayLike) -> jax.Array:
    """Least expected energy E, J, [], of a fixed partition int `[N]`; +inf where infeasible.

    Equal to `allocate(inst, m).E`, but differentiable by the envelope theorem: dE/dB = -lam,
    dE/dD = -mu, and so on for every float of the instance. Infeasible: all derivatives are 0.

    Source: problem (23).
    """
    m = _points(inst, m)
    found, report = _optimal(jax.lax.stop_gradient(inst), m)
    return _value(links_at(inst, m), inst.B, inst.mask_n, found, report)
