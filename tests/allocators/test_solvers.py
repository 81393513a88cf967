"""The bisection wrapper on roots known by hand, with their derivatives."""

import math
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from allocators import solvers


def exp_residual(x, target):
    return jnp.exp(x) - target


def log_by_bisection(target, **kwargs):
    lower = jnp.asarray(-1.5, target.dtype)
    upper = jnp.asarray(5.0, target.dtype)
    return solvers.bisect_root(exp_residual, lower, upper, target, **kwargs)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 2e-6), (np.float64, 1e-13)])
def test_root_and_derivatives_of_the_logarithm(dtype, rtol):
    """The root of `exp(x) = t` is log t, with derivatives 1/t, -1/t^2 and 2/t^3."""
    with jax.enable_x64(True):
        target = jnp.asarray(7.0, dtype)
        root = jax.jit(log_by_bisection)(target)
        assert root.dtype == dtype
        np.testing.assert_allclose(root, math.log(7), rtol=rtol)
        one = jnp.ones_like(target)
        np.testing.assert_allclose(
            jax.jvp(log_by_bisection, (target,), (one,))[1], 1 / 7, rtol=rtol
        )
        first = jax.grad(log_by_bisection)
        np.testing.assert_allclose(first(target), 1 / 7, rtol=rtol)
        np.testing.assert_allclose(jax.jvp(first, (target,), (one,))[1], -1 / 49, rtol=rtol)
        np.testing.assert_allclose(jax.grad(first)(target), -1 / 49, rtol=rtol)
        np.testing.assert_allclose(jax.grad(jax.grad(first))(target), 2 / 343, rtol=2 * rtol)


@pytest.mark.quick
def test_batch_equals_loop():
    """One element that converges early does not disturb the others; decreasing functions work."""
    with jax.enable_x64(True):
        targets = jnp.array([math.exp(1.75), 0.3, 100.0])
        batch = jax.vmap(log_by_bisection)(targets)
        np.testing.assert_allclose(batch, jnp.log(targets), rtol=1e-13)
        single = jax.jit(log_by_bisection)
        np.testing.assert_allclose(batch, [single(t) for t in targets], rtol=1e-15)
        falling = solvers.bisect_root(lambda x, t: t - jnp.exp(x), -1.5, 5.0, targets[2])
        np.testing.assert_allclose(falling, math.log(100), rtol=1e-13)


def test_a_bracket_that_depends_on_the_argument_has_no_part_in_the_derivative():
    with jax.enable_x64(True):
        root = lambda t: solvers.bisect_root(exp_residual, -t, 2 * t, t)  # noqa: E731
        for value, slope in (jax.value_and_grad(root)(7.0), jax.jvp(root, (7.0,), (1.0,))):
            np.testing.assert_allclose([value, slope], [math.log(7), 1 / 7], rtol=1e-13)


@pytest.mark.quick
def test_tolerance_and_iteration_limit():
    """Three halvings of [-1.5, 5] leave the midpoint of the third; a tolerance bounds |fun|."""
    with jax.enable_x64(True):
        # midpoints 1.75 (low), 3.375 (high), 2.5625 (low): log 7 = 1.9459
        limited = log_by_bisection(jnp.asarray(7.0), maxiter=3)
        assert limited == 2.5625
        rough = log_by_bisection(jnp.asarray(7.0), tol=1e-2)
        error = abs(float(exp_residual(rough, 7.0)))
        assert 1e-10 < error <= 1e-2


def test_the_notice_of_jaxopt_is_not_shown(tmp_path, monkeypatch):
    """A module in its place that gives such a notice when it is imported."""
    solvers._jaxopt()
    notice = "import warnings\nwarnings.warn('no longer maintained', DeprecationWarning)\n"
    (tmp_path / "jaxopt.py").write_text(notice)
    monkeypatch.delitem(sys.modules, "jaxopt")
    monkeypatch.syspath_prepend(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert solvers._jaxopt().__file__ == str(tmp_path / "jaxopt.py")
