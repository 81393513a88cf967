"""Proportional sharing: the square-root (KKT) rule that divides one resource among a pool.

The problem, for demands eta_i >= 0 of the members of a mask:

    minimise sum_i eta_i / share_i    subject to    sum_i share_i <= 1,  share_i >= 0

with 0/0 := 0. Its KKT point is share_i = sqrt(eta_i) / sum_j sqrt(eta_j), its value (sum_i
sqrt(eta_i))^2 is also the multiplier of the capacity. Source: vehicular paper (SAFE), eqs (5) to
(9), where eta_i is the time of a transfer or computation that has the whole resource, in s, so that
the objective is the sum of the times under sharing.

The pool is the last axis; leading axes broadcast. Members with eta = 0 get no share, unless all
members have eta = 0: then they share equally. The square root has infinite slope at 0; everything
here takes the derivative with respect to an eta that is 0 to be 0, so no derivative is infinite or
NaN.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from allocators import solvers
from allocators.choices import Backend, check_choice


@jax.custom_jvp
def _sqrt(x: jax.Array) -> jax.Array:
    return jnp.sqrt(x)


@_sqrt.defjvp
def _sqrt_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Square root whose derivative at 0 is 0, in every order and both modes."""
    root = _sqrt(primals[0])
    positive = root > 0
    return root, jnp.where(positive, 0.5 / jnp.where(positive, root, 1), 0) * tangents[0]


def _members(eta: ArrayLike, mask: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Broadcast float demands, 0 outside the mask, and the boolean mask."""
    eta = jnp.asarray(eta, jnp.result_type(float, eta))
    eta, mask = jnp.broadcast_arrays(eta, jnp.asarray(mask, bool))
    return jnp.where(mask, eta, 0), mask


def equal_shares(mask: ArrayLike, dtype: DTypeLike = float) -> jax.Array:
    """Shares `1/n` of the n members of each pool, 0 for the others; shape of `mask [..., n]`."""
    mask = jnp.asarray(mask, bool)
    count = jnp.sum(mask, axis=-1, keepdims=True).astype(dtype)
    return jnp.where(mask, 1 / jnp.maximum(count, 1), 0)


def _closed(eta: jax.Array) -> jax.Array:
    """Shares by the closed form, vehicular paper eqs (7) and (9); needs some eta > 0."""
    root = _sqrt(eta)
    return root / jnp.sum(root, axis=-1, keepdims=True)


@partial(jnp.vectorize, signature="(n)->(n)")
def _solved(eta: jax.Array) -> jax.Array:
    """Shares by root finding on the logarithm x of the multiplier; needs some eta > 0.

    Stationarity, vehicular paper eq (6), gives `share_i = sqrt(eta_i / exp(x))`; x solves `sum_i
    share_i = 1`. With the largest eta scaled to 1 the multiplier lies in [1, n^2].
    """
    scaled = eta / jax.lax.stop_gradient(jnp.max(eta))

    def shares_at(x: jax.Array, scaled: jax.Array) -> jax.Array:
        return _sqrt(scaled) * jnp.exp(-x / 2)

    def excess(x: jax.Array, scaled: jax.Array) -> jax.Array:
        return jnp.sum(shares_at(x, scaled)) - 1

    upper = jnp.asarray(2 * math.log(eta.size) + 1, eta.dtype)
    halvings = jnp.finfo(eta.dtype).nmant + 8
    x = solvers.bisect_root(excess, -jnp.ones_like(upper), upper, scaled, maxiter=halvings)
    return shares_at(x, scaled)


_SHARES = {"closed": _closed, "jaxopt": _solved}


def shares(eta: ArrayLike, mask: ArrayLike, backend: Backend = "closed") -> jax.Array:
    """Shares of one resource that minimise `sum_i eta_i / share_i` over the members of a mask.

    Differentiable with respect to `eta` in forward and reverse mode, twice and more.

    Args:
        eta: demands >= 0 and finite, `[..., n]`.
        mask: members of the pool, bool `[..., n]`, broadcast against `eta`.
        backend: "closed" is the square-root rule; "jaxopt" solves the stationarity conditions by
            root finding, much slower, as a reference. They agree to 1e-6 in float64 and to 1e-5
            in float32.

    Returns:
        Shares `[..., n]` in [0, 1] that sum to 1 over the last axis, exactly 0 outside the mask;
        all 0 for a pool without members.

    Raises:
        ValueError: unknown backend.

    Source: vehicular paper eqs (7) and (9).
    """
    check_choice(backend, Backend, "backend")
    eta, mask = _members(eta, mask)
    weighed = jnp.any(eta > 0, axis=-1, keepdims=True) & (jnp.sum(mask, axis=-1, keepdims=True) > 1)
    share = _SHARES[backend](jnp.where(weighed, eta, 1))
    return jnp.where(weighed, share, equal_shares(mask, eta.dtype))


def objective(eta: ArrayLike, share: ArrayLike, mask: ArrayLike) -> jax.Array:
    """Objective `sum_i eta_i / share_i` `[...]` over the members of a pool, in the unit of eta.

    A member with eta = 0 adds 0; one with eta > 0 and no share makes it infinite.

    Source: vehicular paper eqs (5) and (8).
    """
    eta, _ = _members(eta, mask)
    demands = eta > 0
    served = share > 0
    ratio = jnp.where(served, eta / jnp.where(served, share, 1), jnp.inf)
    return jnp.sum(jnp.where(demands, ratio, 0), axis=-1)


def optimal_value(eta: ArrayLike, mask: ArrayLike) -> jax.Array:
    """Least objective `(sum_i sqrt(eta_i))^2` `[...]` of a pool.

    It is also the multiplier of the capacity. Its derivative is `1/share_i` with respect to eta_i,
    and 0 where eta_i = 0.

    Source: vehicular paper eqs (5) and (8) at the optima (7) and (9).
    """
    eta, _ = _members(eta, mask)
    return jnp.sum(_sqrt(eta), axis=-1) ** 2


def kkt_residual(eta: ArrayLike, share: ArrayLike, mask: ArrayLike) -> jax.Array:
    """Largest relative violation `[...]` of the optimality conditions by given shares.

    0 at the optimum. With the multiplier m estimated by the objective (equal there), the largest of
    - stationarity: `|eta_i / share_i^2 - m| / m` over members with eta > 0 or a share > 0,
    - primal feasibility: excess of `sum share` over 1, negative shares, shares outside the mask,
    - complementarity, relative to m: `|1 - sum share|`, unused capacity of a pool with demand.

    It is infinite where a member with eta > 0 has no share.

    Source: Karush-Kuhn-Tucker conditions, vehicular paper eq (6).
    """
    multiplier = objective(eta, share, mask)
    eta, mask = _members(eta, mask)
    used = mask & ((eta > 0) | (share > 0))
    served = share > 0
    slope = jnp.where(served, eta / jnp.where(served, share, 1) ** 2, jnp.inf)
    wanted = multiplier > 0
    scale = jnp.where(wanted & jnp.isfinite(multiplier), multiplier, 1)
    stationarity = jnp.where(used & wanted[..., None], jnp.abs(slope / scale[..., None] - 1), 0)
    total = jnp.sum(jnp.where(mask, share, 0), axis=-1)
    complementarity = jnp.where(wanted, jnp.abs(1 - total), 0)
    infeasible = jnp.maximum(jnp.where(mask, -share, jnp.abs(share)), 0)
    terms = jnp.maximum(stationarity, infeasible)
    return jnp.maximum(jnp.max(terms, axis=-1), jnp.maximum(complementarity, total - 1))
