"""The square-root rule against hand-worked numbers, jaxopt, finite differences, and bounds."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from allocators import proportional

BACKENDS = ("closed", "jaxopt")
TOLERANCES = [(np.float32, 1e-5), (np.float64, 1e-6)]
ALL = np.ones(3, bool)


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


def random_pool(seed, size=6, num_members=4):
    """Demands over four decades, and a mask of some of them."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(size, bool)
    mask[rng.permutation(size)[:num_members]] = True
    return 10.0 ** rng.uniform(-2, 2, size), mask


@pytest.mark.quick
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("dtype", "rtol"), TOLERANCES)
def test_check_values(backend, dtype, rtol):
    """Demands 1, 4, 9 get 1/6, 1/3, 1/2; the objective is 36, that of the equal split 42."""
    eta = jnp.array([1, 4, 9], dtype)
    share = proportional.shares(eta, ALL, backend)
    assert share.dtype == dtype
    np.testing.assert_allclose(share, [1 / 6, 1 / 3, 1 / 2], rtol=rtol)
    np.testing.assert_allclose(proportional.objective(eta, share, ALL), 36, rtol=rtol)
    assert proportional.optimal_value(eta, ALL) == 36
    equal = proportional.equal_shares(ALL, dtype)
    assert equal.dtype == dtype
    np.testing.assert_allclose(proportional.objective(eta, equal, ALL), 42, rtol=1e-6)


@pytest.mark.quick
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_masks(backend, dtype):
    eta = jnp.array([1, jnp.nan, 4, 9], dtype)
    inside = np.array([True, False, True, False])
    np.testing.assert_allclose(
        proportional.shares(eta, inside, backend), [1 / 3, 0, 2 / 3, 0], rtol=2e-7
    )
    assert proportional.shares(eta, inside, backend)[1] == 0
    nobody, one = np.zeros(4, bool), np.array([False, False, False, True])
    np.testing.assert_array_equal(proportional.shares(eta, nobody, backend), np.zeros(4))
    np.testing.assert_array_equal(proportional.shares(eta, one, backend), [0, 0, 0, 1])
    np.testing.assert_array_equal(proportional.equal_shares(inside), [0.5, 0, 0.5, 0])
    np.testing.assert_array_equal(proportional.equal_shares(nobody), np.zeros(4))
    assert proportional.optimal_value(eta, inside) == 9
    assert proportional.optimal_value(eta, nobody) == 0
    assert proportional.objective(eta, jnp.zeros(4), nobody) == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_zero_demand_has_finite_derivatives(backend):
    """Zero demand: no share, derivative 0 by convention; only zeros: equal shares."""
    weights = jnp.array([1.0, -2.0, 3.0, 5.0])

    @jax.jit
    def derivatives(eta, mask):
        def total(eta):
            return proportional.shares(eta, mask, backend) @ weights

        return jax.jacfwd(total)(eta), jax.jacrev(total)(eta), jax.hessian(total)(eta)

    for eta, mask, share in (
        ([0, 1, 4, 2], [1, 1, 1, 0], [0, 1 / 3, 2 / 3, 0]),
        ([0, 0, 4, 2], [1, 1, 0, 0], [0.5, 0.5, 0, 0]),
        ([0, 0, 4, 2], [1, 0, 0, 0], [1, 0, 0, 0]),
        ([0, 0, 4, 2], [0, 0, 0, 0], [0, 0, 0, 0]),
    ):
        eta, mask = jnp.array(eta, float), jnp.array(mask, bool)
        np.testing.assert_allclose(proportional.shares(eta, mask, backend), share, rtol=1e-12)
        for derivative in derivatives(eta, mask):
            assert bool(jnp.all(jnp.isfinite(derivative)))
            assert bool(jnp.all(derivative[~(mask & (eta > 0))] == 0))
    value_slope = jax.grad(proportional.optimal_value)(jnp.array([0.0, 1.0, 4.0]), ALL)
    np.testing.assert_allclose(value_slope, [0, 3, 1.5])


@pytest.mark.parametrize("dtype, tol", TOLERANCES)
@pytest.mark.parametrize("seed", range(3))
def test_backends_agree_in_value_and_derivatives(seed, dtype, tol):
    """Shares, jvp, grad and Hessian-vector product, relative to the largest component."""
    eta, mask = random_pool(seed)
    eta = jnp.asarray(eta, dtype)
    tangent, weights = jax.random.normal(jax.random.key(seed), (2, eta.size), dtype)

    def results(backend):
        def total(eta):
            return proportional.shares(eta, mask, backend) @ weights

        return (
            proportional.shares(eta, mask, backend),
            jax.jvp(total, (eta,), (tangent,))[1],
            jax.grad(total)(eta),
            jax.jvp(jax.grad(total), (eta,), (tangent,))[1],
        )

    results = jax.jit(results, static_argnums=0)
    for closed, solved in zip(results("closed"), results("jaxopt"), strict=True):
        assert closed.dtype == solved.dtype == dtype
        assert float(jnp.max(jnp.abs(closed - solved))) <= tol * float(jnp.max(jnp.abs(closed)))


@pytest.mark.quick
@pytest.mark.parametrize("backend", BACKENDS)
def test_derivatives_match_finite_differences(backend):
    eta, mask = random_pool(11)
    tangent, weights = np.random.default_rng(12).normal(size=(2, eta.size))
    tangent *= eta

    @jax.jit
    def total(eta):
        return proportional.shares(eta, mask, backend) @ weights

    def slope(fun, step=1e-5):
        return (fun(eta + step * tangent) - fun(eta - step * tangent)) / (2 * step)

    gradient = jax.jit(jax.grad(total))
    forward = jax.jvp(total, (eta,), (tangent,))[1]
    np.testing.assert_allclose(forward, slope(total), rtol=1e-7)
    np.testing.assert_allclose(gradient(eta) @ tangent, forward, rtol=1e-10)
    product = jax.jvp(gradient, (eta,), (tangent,))[1]
    np.testing.assert_allclose(product, slope(gradient), rtol=1e-6, atol=1e-9)
    assert float(jnp.max(jnp.abs(product))) > 1e-3


def test_value_derivative_is_the_envelope():
    """`d value / d eta_i = 1/share_i`, also through the objective at the optimal shares."""
    eta, mask = random_pool(5)
    expected = np.where(mask, 1 / np.where(mask, proportional.shares(eta, mask), 1), 0)
    np.testing.assert_allclose(
        jax.grad(proportional.optimal_value)(eta, mask), expected, rtol=1e-12
    )

    def attained(eta):
        return proportional.objective(eta, proportional.shares(eta, mask), mask)

    np.testing.assert_allclose(jax.grad(attained)(eta), expected, rtol=1e-9)


@pytest.mark.quick
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("dtype", "tol"), [(np.float32, 2e-6), (np.float64, 1e-12)])
def test_shares_satisfy_the_optimality_conditions(backend, dtype, tol):
    solve = jax.jit(lambda eta, mask: proportional.shares(eta, mask, backend))
    for seed in range(4):
        eta, mask = random_pool(seed)
        eta = jnp.asarray(eta, dtype)
        share = solve(eta, mask)
        assert float(proportional.kkt_residual(eta, share, mask)) < tol
        np.testing.assert_allclose(jnp.sum(share), 1, rtol=5e-7)


def test_residual_reports_each_violation():
    """Hand-worked: stationarity, feasibility, complementarity, and shares outside the mask."""
    eta = jnp.array([1.0, 4.0, 9.0])
    optimum = jnp.array([1.0, 2.0, 3.0]) / 6
    residual = proportional.kkt_residual
    np.testing.assert_allclose(residual(eta, optimum, ALL), 0, atol=1e-15)
    # equal split: m = 42, eta/share^2 = 9, 36, 81
    np.testing.assert_allclose(residual(eta, jnp.full(3, 1 / 3), ALL), 39 / 42)
    # half the capacity: m = 72, eta/share^2 = 144
    np.testing.assert_allclose(residual(eta, optimum / 2, ALL), 1)
    # 10 % too much: m = 36/1.1, eta/share^2 = 36/1.21; the excess of 0.1 is the largest
    np.testing.assert_allclose(residual(eta, optimum * 1.1, ALL), 0.1)
    assert residual(eta, jnp.array([0.0, 0.4, 0.6]), ALL) == jnp.inf
    np.testing.assert_allclose(
        residual(eta, jnp.array([1 / 3, 2 / 3, 0.25]), np.array([True, True, False])), 0.25
    )
    # capacity wasted on a member without demand
    np.testing.assert_allclose(
        residual(jnp.array([4.0, 0.0]), jnp.array([0.5, 0.5]), np.ones(2, bool)), 1
    )
    assert residual(jnp.zeros(3), jnp.full(3, 1 / 4), ALL) == 0
    assert residual(eta, jnp.zeros(3), ~ALL) == 0


@pytest.mark.quick
def test_optimum_is_below_random_and_equal_shares():
    """`(sum sqrt eta)^2 <= n sum eta`, with equality iff all demands are equal."""
    rng = np.random.default_rng(0)
    for seed in range(5):
        eta, mask = random_pool(seed)
        best = proportional.optimal_value(eta, mask)
        others = np.where(mask, rng.dirichlet(np.ones(eta.size), 200), 0)
        others /= others.sum(axis=1, keepdims=True)
        assert bool(jnp.all(proportional.objective(eta, others, mask) >= best))
        equal = proportional.objective(eta, proportional.equal_shares(mask), mask)
        np.testing.assert_allclose(equal, mask.sum() * eta[mask].sum(), rtol=1e-12)
        assert best < equal * (1 - 1e-6)
    np.testing.assert_allclose(proportional.optimal_value(np.full(3, 2.5), ALL), 3 * 7.5)
    np.testing.assert_allclose(proportional.shares(np.full(3, 2.5), ALL), np.full(3, 1 / 3))


@pytest.mark.parametrize("backend", BACKENDS)
def test_batches_equal_loops(backend):
    """vmap, leading axes and a loop give the same; one demand vector serves many masks."""
    eta = jnp.asarray([random_pool(s)[0] for s in range(5)])
    mask = jnp.asarray([random_pool(s, num_members=s)[1] for s in range(5)])

    @jax.jit
    def one(eta, mask):
        return proportional.shares(eta, mask, backend)

    loop = np.array([one(e, m) for e, m in zip(eta, mask, strict=True)])
    np.testing.assert_allclose(jax.vmap(one)(eta, mask), loop, rtol=1e-12)
    np.testing.assert_allclose(one(eta, mask), loop, rtol=1e-12)
    np.testing.assert_allclose(one(eta[0], mask)[3], one(eta[0], mask[3]), rtol=1e-12)
    for law in (proportional.objective, proportional.kkt_residual):
        each = [law(e, s, m) for e, s, m in zip(eta, loop, mask, strict=True)]
        np.testing.assert_allclose(law(eta, loop, mask), each, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
def test_scale_of_demands_does_not_matter(backend):
    """float32 demands near both ends of its range give the shares of well-scaled ones."""
    for scale in (1e-30, 1e30):
        eta = jnp.array([1, 4, 9], jnp.float32) * jnp.float32(scale)
        share = proportional.shares(eta, ALL, backend)
        np.testing.assert_allclose(share, [1 / 6, 1 / 3, 1 / 2], rtol=1e-5)


@pytest.mark.quick
def test_unknown_backend_is_refused():
    with pytest.raises(
        ValueError, match=r"^backend: 'cvx' is not valid; give one of closed, jaxopt$"
    ):
        proportional.shares(np.ones(3), ALL, "cvx")


def test_jaxopt_is_imported_only_when_used():
    program = """
import sys
import numpy as np
from allocators import proportional, solvers
proportional.shares(np.ones(3), np.ones(3, bool))
assert "jaxopt" not in sys.modules
proportional.shares(np.ones(3), np.ones(3, bool), "jaxopt")
assert "jaxopt" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
