"""Numerical solvers by jaxopt: the one module that uses it, imported at a solver's first call."""

import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def _jaxopt() -> ModuleType:
    """Import jaxopt without its notice that it is no longer maintained."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import jaxopt
    return jaxopt


def bisect_root(
    fun: Callable[..., jax.Array],
    lower: ArrayLike,
    upper: ArrayLike,
    *args: jax.Array,
    maxiter: int = 64,
    tol: float = 0.0,
) -> jax.Array:
    """Root of a scalar function by `jaxopt.Bisection`, differentiable in both modes to any order.

    The derivative is implicit, `dx = -(df/dargs dargs) / (df/dx)` at the root
    (`jax.lax.custom_root`, as the implicit differentiation of jaxopt itself is reverse mode only);
    the iterations are never differentiated, and the bracket has no derivative. Works under `jit`
    and `vmap`.

    Args:
        fun: `fun(x, *args) -> scalar`, continuous, strictly monotone in the scalar x at its root.
        lower: lower end of the bracket, scalar. `fun` must be non-zero here and change its sign up
            to `upper`; this is not checked, and without a change of sign the result is an end.
        upper: upper end of the bracket, scalar.
        *args: arrays the root depends on.
        maxiter: most halvings of the bracket.
        tol: the halving stops when |fun| <= tol.

    Returns:
        The root, a scalar of the float dtype of `lower` and `upper`.

    Source: M. Blondel et al., "Efficient and modular implicit differentiation", NeurIPS
    2022, section 2.1.
    """
    dtype = jnp.result_type(float, lower, upper)
    bracket_dtype = jnp.result_type(float)

    def residual(x: jax.Array) -> jax.Array:
        return fun(x, *args)

    def solve(equation: Callable[[jax.Array], jax.Array], _: jax.Array) -> jax.Array:
        solver = _jaxopt().Bisection(
            optimality_fun=lambda x: equation(x.astype(dtype)).astype(bracket_dtype),
            lower=jax.lax.stop_gradient(lower),
            upper=jax.lax.stop_gradient(upper),
            maxiter=maxiter,
            tol=tol,
            check_bracket=False,
        )
        return solver.run().params.astype(dtype)

    def solve_tangent(linear: Callable[[jax.Array], jax.Array], y: jax.Array) -> jax.Array:
        return y / linear(jnp.ones_like(y))

    start = jnp.asarray(jax.lax.stop_gradient(lower), dtype)
    return jax.lax.custom_root(residual, start, solve, solve_tangent)


def implicit_root(
    residual: Callable[[jax.Array, Any], jax.Array],
    solve: Callable[[Any], jax.Array],
    args: Any,
) -> jax.Array:
    """Root of a vector function by any solver, with the implicit function theorem's derivative.

    The reverse-mode derivative is `-(dr/dargs)^T (dr/dx)^-T`, by `jaxopt.implicit_diff.custom_root`
    and a dense solve; the solver itself is never differentiated. Works under `jit` and `vmap`.

    Args:
        residual: `residual(x, args) -> [n]`, with a regular Jacobian at the root.
        solve: `solve(args) -> x [n]`, the root; not checked.
        args: pytree of float arrays.

    Returns:
        The root `[n]`.

    Source: M. Blondel et al., "Efficient and modular implicit differentiation", NeurIPS
    2022, section 2.1.
    """
    jaxopt = _jaxopt()
    decorate = jaxopt.implicit_diff.custom_root(residual, solve=jaxopt.linear_solve.solve_lu)
    return decorate(lambda _, args: solve(args))(None, args)
