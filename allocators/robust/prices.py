"""The price of bandwidth at which the demands of all devices sum to what there is.

Newton's method within brackets, on logarithms. Units are those of `allocators.robust`.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from allocators.robust.links import TINY, Curves, log_slope

MAX_ITERATIONS = 60


def tolerances(dtype: Any) -> tuple[float, float]:
    """Newton steps at which to stop: of log bandwidths and of log prices.

    Convergence is quadratic: the error after a step is about its square.
    """
    return (5e-7, 1e-7) if dtype == jnp.float64 else (1e-3, 2e-5)


def safeguarded(
    x: jax.Array, step: jax.Array, lower: jax.Array, upper: jax.Array, tolerance: float
) -> tuple[jax.Array, jax.Array]:
    """Newton's step inside a bracket, else to its midpoint; the new x and whether it converged."""
    small = jnp.abs(step) <= tolerance
    target = x + step
    inside = (target >= lower) & (target <= upper)
    target = jnp.where(inside | small, jnp.clip(target, lower, upper), (lower + upper) / 2)
    return target, small


def demand(
    k: Curves,
    log_price: jax.Array,
    log_b: jax.Array,
    skip: jax.Array,
    most: ArrayLike = MAX_ITERATIONS,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Bandwidths that minimise `phi(b) + price b` over `b >= bmin`.

    Args:
        k: curves `[..., L]`, L problems of any shape.
        log_price: logarithms of their prices, J/MHz, `[L]`.
        log_b: start values `[..., L]`, any.
        skip: problems that need not be solved, bool `[L]`.
        most: most iterations.

    Returns:
        log b `[..., L]` (0 where nothing is uploaded), its derivative with respect to log_price (0
        at bmin and at the kink), and evaluations of `log_slope` per curve, int32 `[L]`.
    """
    tolerance, _ = tolerances(log_b.dtype)
    at_bmin = log_price >= k.log_slope_bmin
    below = log_price < k.log_slope_below
    above = ~at_bmin & (log_price > k.log_slope_above)
    free = k.uploads & (above | below)
    fixed = jnp.where(k.uploads, jnp.where(at_bmin, k.log_bmin, k.log_kink), 0)
    lower = jnp.where(free, jnp.where(below, k.log_kink, k.log_bmin), fixed)
    upper = jnp.where(
        free, jnp.where(below, lower + 40, jnp.minimum(k.log_kink, lower + 40)), fixed
    )
    axes = tuple(range(lower.ndim - log_price.ndim))

    def searching(state: tuple[jax.Array, ...]) -> jax.Array:
        return jnp.any(~state[4] & (state[5] < most))

    def improve(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        x, lower, upper, _, done, count = state
        value, slope = log_slope(k.links, x, above)
        excess = value - log_price
        lower = jnp.where(free & (excess > 0), x, lower)
        upper = jnp.where(free & (excess <= 0), x, upper)
        x, small = safeguarded(x, -excess / slope, lower, upper, tolerance)
        new = x, lower, upper, slope, jnp.all(small | ~free, axis=axes), count + 1
        return tuple(jnp.where(done, old, fresh) for old, fresh in zip(state, new, strict=True))

    start = jnp.clip(log_b, lower, upper)
    done = ~jnp.any(free, axis=axes) | skip
    count = jnp.zeros(done.shape, jnp.int32)
    state = (start, lower, upper, -jnp.ones_like(start), done, count)
    x, _, _, slope, _, count = jax.lax.while_loop(searching, improve, state)
    return x, jnp.where(free, 1 / slope, 0), count


def first_guess(k: Curves, B: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Log prices `[L]` and log bandwidths `[N, L]` near the optimum, from equal shares."""
    num = jnp.maximum(jnp.sum(k.uploads, axis=0), 1)
    log_b = jnp.maximum(jnp.log(B / num), k.log_bmin)
    value, slope = log_slope(k.links, log_b, log_b < k.log_kink)
    log_price = jnp.sum(jnp.where(k.uploads, value, 0), axis=0) / num
    return log_price, log_b + jnp.clip((log_price - value) / slope, -1, 1)


def equilibrium(
    k: Curves, B: jax.Array, log_price: jax.Array, log_b: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Prices at which the demands of fixed curves `[N, L]` sum to B, where `sum bmin <= B`.

    Newton's method on the logarithm of the total demand as a function of the log price.

    Args:
        k: curves `[N, L]` of L problems of any shape.
        B: total bandwidths, MHz, `[L]`.
        log_price, log_b: start values, `[L]` and `[N, L]`.

    Returns:
        Log prices `[L]`, log bandwidths `[N, L]`, and evaluations of `log_slope` per device, int32
        `[L]`.
    """
    dtype = log_b.dtype
    _, tolerance = tolerances(dtype)
    lower = jnp.full_like(log_price, math.log(1e-9))
    upper = jnp.max(jnp.where(k.uploads, k.log_slope_bmin, lower), axis=0)
    impossible = jnp.sum(k.bmin, axis=0) > B

    def searching(state: tuple[jax.Array, ...]) -> jax.Array:
        return jnp.any(~state[4] & (state[6] < MAX_ITERATIONS))

    def improve(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        log_price, log_b, lower, upper, done, count, rounds = state
        log_b, elasticity, evaluations = demand(k, log_price, log_b, done)
        b = jnp.where(k.uploads, jnp.exp(log_b), 0)
        total = jnp.maximum(jnp.sum(b, axis=0), TINY)
        excess = jnp.log(total / B)
        slope = jnp.sum(b * elasticity, axis=0) / total
        lower = jnp.where(excess > 0, log_price, lower)
        upper = jnp.where(excess <= 0, log_price, upper)
        moves = slope < 0
        step = jnp.where(moves, -excess / jnp.where(moves, slope, -1), jnp.inf)
        target, small = safeguarded(log_price, step, lower, upper, tolerance)
        log_b = log_b + elasticity * (target - log_price)
        new = target, log_b, lower, upper, small, count + evaluations, rounds + 1
        return tuple(jnp.where(done, old, fresh) for old, fresh in zip(state, new, strict=True))

    zero = jnp.zeros(log_price.shape, jnp.int32)
    start = jnp.clip(log_price, lower, upper)
    done = ~jnp.any(k.uploads, axis=0) | impossible
    state = (start, log_b, lower, upper, done, zero, zero)
    log_price, log_b, _, _, _, count, _ = jax.lax.while_loop(searching, improve, state)
    return log_price, log_b, count


def share_rest(k: Curves, B: jax.Array, b: jax.Array) -> jax.Array:
    """Bandwidths `[N, L]` scaled above the least to sum to B; 0 where nothing is uploaded."""
    least = jnp.where(k.uploads, k.bmin, 0)
    room = jnp.where(k.uploads, jnp.maximum(b - least, 0), 0)
    total = jnp.sum(room, axis=0)
    spare = jnp.maximum(B - jnp.sum(least, axis=0), 0)
    return least + room * (spare / jnp.where(total > 0, total, 1))
