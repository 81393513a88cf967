"""The closed-form rate against SciPy, bisection, finite differences and exhaustive search."""

import math
from decimal import Decimal, getcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import lambertw

from allocators import rate

BACKENDS = ("closed", "jaxopt")
DTYPES = [(np.float32, 7e-7), (np.float64, 2e-14)]
RANGE = np.logspace(-14, 8, 331)
CASE_A = rate.Uplink(466.816 * 0.8, 200e6, 0.010, 0.100)


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


nats = jax.jit(rate.stationary_nats)
surrogate = jax.jit(rate.surrogate_nats, static_argnames="backend")


def exactly(c):
    """The root of 1 + (u - 1) e^u = c to 40 digits, by Newton's method."""
    getcontext().prec = 50
    c = Decimal(float(c))
    u = (2 * c).sqrt() if c < 1 else Decimal(min(math.sqrt(2 * c), 1 + math.log(c + 1)))
    for _ in range(60):
        e = u.exp()
        u -= (1 + (u - 1) * e - c) / (u * e)
    return float(u)


@pytest.mark.quick
@pytest.mark.parametrize(("dtype", "rtol"), DTYPES)
def test_relative_accuracy_over_22_decades(dtype, rtol):
    c = RANGE.astype(dtype)
    u = nats(c)
    assert u.dtype == dtype
    np.testing.assert_allclose(u, [exactly(x) for x in c], rtol=rtol)


def test_against_lambert_w_where_that_keeps_its_digits():
    c = np.logspace(-3, 8, 200)
    np.testing.assert_allclose(nats(c), 1 + lambertw((c - 1) / math.e).real, rtol=2e-12)


def test_lambert_w_itself_loses_its_digits_at_the_branch_point():
    """Why the root is not found as 1 + W: for c around 1e-14 that is off by more than 1e-3."""
    c = np.logspace(-14, -13, 11)
    error = (1 + lambertw((c - 1) / math.e).real) / nats(c) - 1
    assert np.max(np.abs(error)) > 1e-3


@pytest.mark.quick
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_branch_point(dtype):
    """f(u) = u^2/2 + u^3/3 + ..., so u = sqrt(2c) - 2c/3 + ... near 0, and exactly 0 at 0."""
    assert nats(dtype(0)) == 0
    c = np.array([1e-14, 1e-12, 1e-10], dtype)
    np.testing.assert_allclose(nats(c), np.sqrt(2 * c) - 2 * c / 3, rtol=1e-6)
    assert np.all(np.diff(nats(RANGE.astype(dtype))) > 0)
    assert nats(dtype(1)) == 1


def test_derivatives_in_single_precision():
    c = jnp.logspace(-14, 8, 45, dtype=jnp.float32)
    slope = jax.jit(jax.vmap(jax.grad(rate.stationary_nats)))(c)
    u = np.array([exactly(x) for x in c])
    assert slope.dtype == np.float32
    np.testing.assert_allclose(slope, np.exp(-u) / u, rtol=2e-5)


def test_derivatives_in_both_modes_and_twice():
    c = jnp.array([1e-6, 1e-2, 1.0, 30.0, 1e5])
    u = nats(c)
    slope = np.exp(-u) / u
    np.testing.assert_allclose(
        jax.jit(jax.vmap(jax.grad(rate.stationary_nats)))(c), slope, rtol=1e-12
    )
    forward = jax.jit(jax.vmap(lambda x: jax.jvp(rate.stationary_nats, (x,), (1.0,))[1]))(c)
    np.testing.assert_allclose(forward, slope, rtol=1e-12)
    second = jax.jit(jax.vmap(jax.hessian(rate.stationary_nats)))(c)
    np.testing.assert_allclose(second, -slope * slope * (1 + 1 / u), rtol=1e-10)
    step = 1e-6 * c
    numeric = (nats(c + step) - nats(c - step)) / (2 * step)
    np.testing.assert_allclose(numeric, slope, rtol=1e-7)
    assert jax.jit(jax.grad(rate.stationary_nats))(0.0) == 0


@pytest.mark.quick
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-5), (np.float64, 1e-9)])
def test_minimises_delay_and_energy(backend, dtype, rtol):
    """Against SciPy's minimiser over the range, at inner optima and at both ends."""
    weight = np.array([1e-4, 0.05, 0.07, 0.2, 1.0, 50.0], dtype)
    uplink = rate.Uplink(dtype(200.0), *map(dtype, CASE_A[1:]))
    found = surrogate(weight, uplink, backend)
    assert found.dtype == dtype
    least, most = (float(x) for x in rate.nats_range(rate.Uplink(200.0, *CASE_A[1:])))

    def best(w):
        cost = lambda u: (w + math.expm1(u) / 200.0) / u  # noqa: E731
        options = {"xatol": 1e-12}
        inner = minimize_scalar(cost, bounds=(least, most), method="bounded", options=options).x
        return min((least, most, inner), key=cost)

    np.testing.assert_allclose(found, [best(float(w)) for w in weight], rtol=max(rtol, 3e-8))
    assert found[0] == np.asarray(least, dtype) and found[-1] == np.asarray(most, dtype)
    assert least < found[2] < most


def test_backends_agree_in_value_and_derivative():
    weight = jnp.logspace(-3, 2, 40)
    closed, solved = (surrogate(weight, CASE_A, backend) for backend in BACKENDS)
    np.testing.assert_allclose(closed, solved, rtol=1e-9)

    def derivatives(backend):
        def total(weight, g):
            return jnp.sum(rate.surrogate_nats(weight, CASE_A._replace(snr_per_watt=g), backend))

        return jax.jit(jax.grad(total, (0, 1)))(weight, jnp.full(40, 373.0))

    for own, other in zip(*map(derivatives, BACKENDS), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-7, atol=1e-12)


@pytest.mark.quick
def test_derivative_is_zero_beyond_the_ends_and_follows_them():
    """At full power u = ln(1 + p g): no change with the weight, dp/(1 + p g) with g."""
    value = lambda w, g: rate.surrogate_nats(w, CASE_A._replace(snr_per_watt=g))  # noqa: E731
    slopes = jax.jit(jax.grad(value, (0, 1)))
    for weight, power in ((1e-5, 0.010), (1e3, 0.100)):
        by_weight, by_snr = slopes(weight, 300.0)
        assert by_weight == 0
        np.testing.assert_allclose(by_snr, power / (1 + power * 300.0), rtol=1e-12)


@pytest.mark.quick
def test_published_slot():
    """Case A: weight (.4 + .1/.1)/20, g = 466.816 x .8: 7.77947e8 bit/s at 0.0370133 W."""
    u = surrogate((0.4 + 0.1 / 0.1) / 20, CASE_A)
    np.testing.assert_allclose(rate.rate_bps(u, 200e6), 7.77947e8, atol=500)
    np.testing.assert_allclose(rate.power_w(u, CASE_A.snr_per_watt), 0.0370133, atol=6e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exact_variant_against_a_fine_grid(dtype):
    rng = np.random.default_rng(3)
    size = 400
    g = 467 * rng.exponential(size=size)
    uplink = rate.Uplink(*(np.asarray(x, dtype) for x in (g, 200e6, 0.01, 0.1)))
    other_s, energy_j = rng.uniform(0, 0.12, size), rng.uniform(0, 1, size)
    # Rates that just meet the deadline lie around the range of the channel.
    bits = np.abs(0.1 - other_s) * 200e6 * rng.uniform(0, 1.2, size) * np.log1p(0.1 * g)
    job = rate.Job(*(x.astype(dtype) for x in (bits / math.log(2), other_s, energy_j)))
    weights = rng.uniform(0, 2, size), rng.uniform(0, 20, size), 10 ** rng.uniform(-1, 1.5, size)
    prices = rate.Prices(*(x.astype(dtype) for x in weights))
    limit = dtype(0.1)
    found, value = jax.jit(rate.exact_nats)(job, prices, uplink, limit)
    least, most = rate.nats_range(uplink)
    assert np.all(found >= least) and np.all(found <= most * (1 + 1e-6))
    delay, energy = rate.delay_and_energy(found, job, uplink)
    priced = jax.jit(rate.objective)
    np.testing.assert_allclose(priced(delay, energy, prices, limit), value, rtol=1e-5)
    place = np.linspace(0, 1, 2001, dtype=dtype)[:, None]
    grid = least + place * (most - least)
    on_grid = priced(*rate.delay_and_energy(grid, job, uplink), prices, limit)
    tolerance = 2e-6 if dtype == np.float32 else 1e-9
    assert np.all(value <= on_grid.min(axis=0) * (1 + tolerance) + tolerance)
    raised = found > surrogate(prices.delay / prices.energy, uplink) * (1 + 1e-5)
    assert raised.sum() > 20
    assert np.all(delay[raised] <= limit)  # the margin covers the rounding


def test_without_time_or_bits():
    uplink = CASE_A
    prices = rate.Prices(1.0, 1.0, 1.0)
    late = rate.Job(1e6, 0.2, 0.5)  # late whatever the rate
    u, value = rate.exact_nats(late, prices, uplink, 0.1)
    assert u == surrogate(1.0, uplink) and value > 1.2
    nothing = rate.Job(0.0, 0.02, 0.5)
    u, value = rate.exact_nats(nothing, prices, uplink, 0.1)
    assert u == surrogate(1.0, uplink) and value == 0.52
    assert rate.nats_within(late, -0.1, 200e6) == math.inf


@pytest.mark.quick
def test_unknown_backend():
    with pytest.raises(ValueError, match="^backend: 'scipy' is not valid; give one of closed, "):
        rate.surrogate_nats(1.0, CASE_A, "scipy")


def test_one_trace_for_all_values():
    traced = []

    def f(weight, uplink):
        traced.append(1)
        return rate.surrogate_nats(weight, uplink)

    compiled = jax.jit(f)
    for value in (0.1, 2.0):
        compiled(value, CASE_A)
    assert len(traced) == 1
