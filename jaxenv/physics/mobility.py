"""Positions along a road, zones, coverage of roadside units, and external traces.

Source: the vehicular paper (SAFE), section V: "five RSUs whose signal coverage radius is 300 m",
zones of 20 m; the periodic road and the tolerance are this project's reading of it. All positions
are metres along the road, unwrapped.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def constant_speed_position(
    initial_m: ArrayLike, speed: ArrayLike, elapsed_s: ArrayLike
) -> jax.Array:
    """Position `x0 + v t` in m after a time in s at a constant speed in m/s.

    From the start in one expression, so that no error accumulates over slots.
    """
    return initial_m + jnp.asarray(speed) * elapsed_s


def zone_center(position_m: ArrayLike, zone_m: ArrayLike) -> jax.Array:
    """Centre `(floor(x/zone) + 1/2) zone` in m of the zone of length > 0 that holds a position."""
    return (jnp.floor(jnp.asarray(position_m) / zone_m) + 0.5) * zone_m


def next_road_copy(
    center_m: ArrayLike,
    position_m: ArrayLike,
    period_m: ArrayLike,
    radius_m: ArrayLike,
    tolerance_m: ArrayLike,
) -> jax.Array:
    """First copy of a roadside unit, on a periodic road, whose coverage has not been left.

    `X + L ceil((z - r - eps - X)/L)`: the least copy that is >= z - r - eps.

    Args:
        center_m: position X of the unit in the first period, m.
        position_m: position z along the unwrapped road, m.
        period_m: period L of the road, m, > 0.
        radius_m: coverage radius r, m.
        tolerance_m: eps, m: a position at exactly r is still covered.
    """
    center_m = jnp.asarray(center_m)
    behind = jnp.asarray(position_m) - radius_m - tolerance_m
    return center_m + period_m * jnp.ceil((behind - center_m) / period_m)


def covers(
    center_m: ArrayLike, position_m: ArrayLike, radius_m: ArrayLike, tolerance_m: ArrayLike
) -> jax.Array:
    """Whether a unit at `center_m` covers a position: `|y - z| <= r + eps`, inclusive; boolean."""
    return jnp.abs(jnp.asarray(center_m) - position_m) <= jnp.asarray(radius_m) + tolerance_m


def trace_row(table: ArrayLike, row: ArrayLike) -> jax.Array:
    """Rows `[..., V]` of a table `[rows, V]` at integer indices `[...]` clipped to the table."""
    return jnp.take(jnp.asarray(table), row, axis=0, mode="clip")


def trace_position(
    position_m: ArrayLike, active: ArrayLike, row: ArrayLike, slot_s: ArrayLike
) -> jax.Array:
    """Positions `[V]` in m of a trace at a row; beyond the last row the last speed goes on.

    Args:
        position_m: trace positions `[rows, V]`, m.
        active: whether a vehicle is on the road `[rows, V]`, bool.
        row: integer row index, a scalar >= 0.
        slot_s: time between rows, s, > 0.
    """
    position_m, row = jnp.asarray(position_m), jnp.asarray(row)
    last = position_m.shape[0] - 1
    now, previous = trace_row(position_m, last), trace_row(position_m, last - 1)
    on_road, was_on_road = trace_row(active, last), trace_row(active, last - 1)
    last_speed = trace_speed(now, now, previous, on_road, False, was_on_road, slot_s)
    beyond = jnp.maximum(row - last, 0).astype(position_m.dtype)
    return constant_speed_position(trace_row(position_m, row), last_speed, beyond * slot_s)


def trace_speed(
    position_now: ArrayLike,
    position_next: ArrayLike,
    position_previous: ArrayLike,
    active_now: ArrayLike,
    active_next: ArrayLike,
    active_previous: ArrayLike,
    slot_s: ArrayLike,
) -> jax.Array:
    """Speed in m/s of a slot of a trace: forward difference, else backward difference, else 0.

    The forward difference needs the vehicle active now and next, the backward one active now and
    before; positions of inactive rows are never used.

    Args:
        position_now: position in this row, m.
        position_next: position in the next row, m.
        position_previous: position in the row before, m.
        active_now: whether the vehicle is on the road in this row, bool.
        active_next: the same for the next row.
        active_previous: the same for the row before.
        slot_s: time between rows, s, > 0.
    """
    position_now = jnp.asarray(position_now)
    forward = jnp.logical_and(active_now, active_next)
    backward = jnp.logical_and(active_now, active_previous)
    step_m = jnp.where(
        forward,
        position_next - position_now,
        jnp.where(backward, position_now - position_previous, 0),
    )
    return step_m / slot_s
