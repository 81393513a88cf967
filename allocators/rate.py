"""Uplink rate of one transmission: the closed form of drift-plus-penalty, and its exact variant.

A transmission of L bits over a band of B Hz at R bit/s takes D = L / R seconds and E = p(R) L / R
joules, p(R) = (e^u - 1) / g, where u = R ln2 / B (nats per channel use) is the form of the rate in
which everything here is written and g is the signal-to-noise ratio per watt. For weights Omega of
the delay and V of the energy

    minimise Omega D + V E    subject to    power_min <= p(R) <= power_max

has the stationary point f(u) = c, f(u) = 1 + (u - 1) e^u, c = Omega g / V, that is u = 1 + W0((c -
1) / e) with the principal branch of Lambert's W. L cancels, so one rate serves all transmissions of
a slot.

Source: splitting paper ("Energy-efficient cooperative inference via adaptive deep neural network
splitting at the edge", IEEE ICC 2023), eqs (17) to (19).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from allocators import solvers
from allocators.choices import Backend, check_choice

HALLEY_STEPS = 2
SERIES_BELOW = 0.5
_SERIES = tuple((-1) ** n / math.factorial(n) for n in range(14, 1, -1))
_SERIES_FLOAT32 = _SERIES[-7:]


class Uplink(NamedTuple):
    """A channel in one slot: SNR per watt g in 1/W, bandwidth B in Hz, least and most power in W.

    All > 0, power_min_w <= power_max_w; broadcast against each other.
    """

    snr_per_watt: ArrayLike
    bandwidth_hz: ArrayLike
    power_min_w: ArrayLike
    power_max_w: ArrayLike


class Limits(NamedTuple):
    """Of the rate in a slot: least and most nats per channel use, and c = f(u) at these.

    They depend on the channel alone, so that many decisions in one channel share them.
    """

    least: jax.Array
    most: jax.Array
    lowest: jax.Array
    highest: jax.Array


class Job(NamedTuple):
    """A transmission, and what its choice costs besides: bits, s, J; broadcast."""

    bits: ArrayLike
    other_delay_s: ArrayLike
    other_energy_j: ArrayLike


class Prices(NamedTuple):
    """Weights of a slot's objective Z D + H [D > delay_max] + V E, the queues Z, H and V > 0."""

    delay: ArrayLike
    outage: ArrayLike
    energy: ArrayLike


# ---- the closed form ---------------------------------------------------------------------------


def _phi(u: jax.Array) -> jax.Array:
    """``u - 1 + e^-u`` of u >= 0, accurate in relative terms down to 0."""
    return _phi_of(u, jnp.exp(-u))


def _phi_of(u: jax.Array, exp_minus_u: jax.Array) -> jax.Array:
    series = jnp.zeros_like(u)
    for coefficient in _SERIES_FLOAT32 if u.dtype == jnp.float32 else _SERIES:
        series = series * u + coefficient
    return jnp.where(u < SERIES_BELOW, series * u * u, (u - 1) + exp_minus_u)


@jax.custom_jvp
def stationary_nats(c: ArrayLike) -> jax.Array:
    """The u >= 0 with ``1 + (u - 1) e^u = c``, that is ``1 + W0((c - 1) / e)``, of c >= 0.

    Halley's method on ``phi(u) - c e^-u``, phi(u) = u - 1 + e^-u: a form that keeps its relative
    accuracy at the branch point of W, c = 0. It starts within 1 %: for c <= 1 from the fraction in
    ``p = sqrt(2 c)`` that agrees with W's series at the branch point up to p^3, else from
    Winitzki's approximation of W. Two steps leave 2e-15 in float64 and 2e-7 in float32 for c up to
    1e8. The derivative is ``e^-u / u``, by convention 0 at c = 0.

    Source: splitting paper, eq (19); E. Halley's iteration; S. Winitzki, "Uniform approximations
    for transcendental functions", ICCSA 2003.
    """
    c = jnp.asarray(c, jnp.result_type(float, c))
    root = jnp.sqrt(2 * c)
    small = root * (1 + root * (1 / 8)) / (1 + root * (11 / 24))
    log = jnp.log1p(jnp.maximum(c - 1, 0) / math.e)
    large = 1 + log * (1 - jnp.log1p(log) / (2 + log))
    u = jnp.where(c <= 1, small, large)
    for _ in range(HALLEY_STEPS):
        exp_minus_u = jnp.exp(-u)
        residual = _phi_of(u, exp_minus_u) - c * exp_minus_u
        u = jnp.maximum(u - 2 * u * residual / (2 * u * u - residual * (1 + u)), 0)
    return jnp.where(c > 0, u, 0)


@stationary_nats.defjvp
def _stationary_nats_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    u = stationary_nats(primals[0])
    inside = u > 0
    return u, jnp.where(inside, jnp.exp(-u) / jnp.where(inside, u, 1), 0) * tangents[0]


def nats_range(uplink: Uplink) -> tuple[jax.Array, jax.Array]:
    """Least and largest nats per channel use, ``ln(1 + p g)`` at the least and most power."""
    g = uplink.snr_per_watt
    return jnp.log1p(uplink.power_min_w * g), jnp.log1p(uplink.power_max_w * g)


def limits(uplink: Uplink) -> Limits:
    """The limits that the powers set to the rate."""
    least, most = nats_range(uplink)
    lowest = (1 + uplink.power_min_w * uplink.snr_per_watt) * _phi(least)
    highest = (1 + uplink.power_max_w * uplink.snr_per_watt) * _phi(most)
    return Limits(least, most, lowest, highest)


def surrogate_nats(
    weight: ArrayLike,
    uplink: Uplink,
    backend: Backend = "closed",
    within: Limits | None = None,
) -> jax.Array:
    """Nats per channel use that minimise ``weight D + E`` within the range of powers.

    Differentiable with respect to everything, by the closed form's own derivative inside the range
    and along its ends where the power is at a limit.

    Args:
        weight: Omega / V in J/s, >= 0; Omega = Z + H / delay_max is the paper's surrogate, in which
            the step of the outage is replaced by its bound D / delay_max.
        uplink: the channel; broadcast against ``weight``.
        backend: "closed" is eq (19); "jaxopt" finds the root of the stationarity condition by
            bisection, much slower, as a reference. They agree to 1e-6 in float64, 1e-5 in float32.
        within: `limits` of the uplink if already at hand.

    Raises:
        ValueError: unknown backend.

    Source: splitting paper, eqs (17) to (19).
    """
    check_choice(backend, Backend, "backend")
    least, most, lowest, highest = limits(uplink) if within is None else within
    c = jnp.asarray(weight) * uplink.snr_per_watt
    solve = stationary_nats if backend == "closed" else _solved_nats
    inner = jnp.clip(solve(jnp.clip(c, lowest, highest)), least, most)
    return jnp.where(c <= lowest, least, jnp.where(c >= highest, most, inner))


@jnp.vectorize
def _solved_nats(c: jax.Array) -> jax.Array:
    """`stationary_nats` by bisection; ``f(u) >= u^2 / 2`` bounds the root from above."""
    upper = jnp.sqrt(2 * jax.lax.stop_gradient(c)) + 1
    steps = jnp.finfo(c.dtype).nmant + 16
    residual = lambda u, c: _phi(u) - c * jnp.exp(-u)  # noqa: E731
    return solvers.bisect_root(residual, jnp.zeros_like(upper), upper, c, maxiter=steps)


# ---- what a rate costs ---------------------------------------------------------------------------


def rate_bps(nats: ArrayLike, bandwidth_hz: ArrayLike) -> jax.Array:
    """Rate ``B u / ln2`` in bit/s of u nats per channel use."""
    return bandwidth_hz * nats / math.log(2)


def power_w(nats: ArrayLike, snr_per_watt: ArrayLike) -> jax.Array:
    """Transmit power ``(e^u - 1) / g`` in W that u nats per channel use take."""
    return jnp.expm1(nats) / snr_per_watt


def delay_and_energy(nats: ArrayLike, job: Job, uplink: Uplink) -> tuple[jax.Array, jax.Array]:
    """``(s, J)`` of a job, its transmission at u > 0 nats per channel use included.

    Source: splitting paper, eqs (10) and (11).
    """
    transmission_s = job.bits * (math.log(2) / (uplink.bandwidth_hz * nats))
    power = power_w(nats, uplink.snr_per_watt)
    return job.other_delay_s + transmission_s, job.other_energy_j + power * transmission_s


def objective(
    delay_s: ArrayLike, energy_j: ArrayLike, prices: Prices, delay_max_s: ArrayLike
) -> jax.Array:
    """``Z D + H [D > delay_max] + V E`` of a delay and an energy.

    Source: splitting paper, the per-slot problem below eq (17).
    """
    late = jnp.where(delay_s > delay_max_s, prices.outage, 0)
    return prices.delay * delay_s + late + prices.energy * energy_j


def nats_within(job: Job, slack_s: ArrayLike, bandwidth_hz: ArrayLike) -> jax.Array:
    """Least nats per channel use that transmit within ``slack_s``; +inf where that is not > 0.

    A little more than exact (1e-6 in float32, 1e-12 in float64), so that the delay it leads to does
    not exceed the limit by rounding.
    """
    dtype = jnp.result_type(float, slack_s)
    margin = 1 + (1e-6 if dtype == jnp.float32 else 1e-12)
    possible = jnp.asarray(slack_s) > 0
    slack_s = jnp.where(possible, slack_s, 1)
    return jnp.where(
        possible, job.bits * (margin * math.log(2)) / (bandwidth_hz * slack_s), jnp.inf
    )


def exact_nats(
    job: Job,
    prices: Prices,
    uplink: Uplink,
    delay_max_s: ArrayLike,
    nats: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Nats per channel use that minimise `objective` itself, and the minimum.

    Without the step the objective is unimodal in the rate, so the minimum is at the stationary rate
    for Omega = Z or, where that is late, at the least rate that is not.

    Args:
        job: the transmission, of any shape ``[...]``.
        prices, uplink, delay_max_s: of the slot; broadcast against the job.
        nats: ``surrogate_nats(prices.delay / prices.energy, uplink)`` if already at hand.

    Returns:
        ``(nats, objective)``, ``[...]``; on a tie the lower rate.
    """
    if nats is None:
        nats = surrogate_nats(prices.delay / prices.energy, uplink)
    _, most = nats_range(uplink)
    needed = nats_within(job, delay_max_s - job.other_delay_s, uplink.bandwidth_hz)
    faster = jnp.where(needed <= most, jnp.maximum(nats, needed), nats)
    value, other = (
        objective(*delay_and_energy(u, job, uplink), prices, delay_max_s) for u in (nats, faster)
    )
    return jnp.where(other < value, faster, nats), jnp.minimum(other, value)
