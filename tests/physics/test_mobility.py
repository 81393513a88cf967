"""Positions, zones, coverage and traces against hand-worked numbers and brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxenv.physics import mobility

pytestmark = pytest.mark.quick

PERIOD_M, RADIUS_M, TOLERANCE_M, ZONE_M = 1500.0, 300.0, 1e-3, 20.0
CENTERS_M = 300.0 * (np.arange(5) + 0.5)


def test_constant_speed():
    np.testing.assert_array_equal(
        mobility.constant_speed_position(np.array([[0.0], [10.0]]), np.array([10.0, 20.0]), 3.0),
        [[30.0, 60.0], [40.0, 70.0]],
    )


def test_zone_center():
    position = jnp.array([0.0, 19.999, 20.0, 145.0, 150.0, -0.5])
    np.testing.assert_array_equal(
        mobility.zone_center(position, ZONE_M), [10.0, 10.0, 30.0, 150.0, 150.0, -10.0]
    )


def test_next_copy_of_the_check_scenario():
    """At 150 m the unit at 1350 m has its copy at -150 m, exactly 300 m behind, still in reach."""
    copies = mobility.next_road_copy(CENTERS_M, 150.0, PERIOD_M, RADIUS_M, TOLERANCE_M)
    np.testing.assert_array_equal(copies, [150.0, 450.0, 750.0, 1050.0, -150.0])
    covered = mobility.covers(copies, 150.0, RADIUS_M, TOLERANCE_M)
    np.testing.assert_array_equal(covered, [True, True, False, False, True])
    later = mobility.next_road_copy(CENTERS_M, 170.0, PERIOD_M, RADIUS_M, TOLERANCE_M)
    np.testing.assert_array_equal(later, [150.0, 450.0, 750.0, 1050.0, 1350.0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_next_copy_is_the_least_in_reach(dtype):
    """Against a search over copies; float32 and float64 pick the same copy at every zone centre."""
    position = (np.arange(-200, 900) + 0.5) * ZONE_M
    candidates = CENTERS_M[:, None] + PERIOD_M * np.arange(-5, 16)
    ahead = candidates[None] >= (position - RADIUS_M - TOLERANCE_M)[:, None, None]
    expected = np.where(ahead, candidates[None], np.inf).min(axis=-1)
    with jax.enable_x64(True):
        copies = mobility.next_road_copy(
            CENTERS_M.astype(dtype),
            position[:, None].astype(dtype),
            PERIOD_M,
            RADIUS_M,
            TOLERANCE_M,
        )
        assert copies.dtype == dtype
        np.testing.assert_array_equal(copies, expected)
        covered = mobility.covers(copies, position[:, None].astype(dtype), RADIUS_M, TOLERANCE_M)
    np.testing.assert_array_equal(covered.sum(axis=1), np.where(position % 300 == 150, 3, 2))
    np.testing.assert_array_equal(covered, expected - position[:, None] <= RADIUS_M)


def test_coverage_is_inclusive():
    position = jnp.array([-300.002, -300.0, 0.0, 300.0, 300.002])
    np.testing.assert_array_equal(
        mobility.covers(0.0, position, RADIUS_M, TOLERANCE_M), [False, True, True, True, False]
    )
    assert mobility.covers(0.0, 300.0, 300.0, 0.0) and mobility.covers(0.0, 300.5, 300.0, 0.5)


def test_trace_row_is_clipped():
    table = jnp.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(mobility.trace_row(table, 1), [2.0, 3.0])
    np.testing.assert_array_equal(mobility.trace_row(table, 99), [4.0, 5.0])
    np.testing.assert_array_equal(
        mobility.trace_row(table, jnp.array([0, 7])), [[0.0, 1.0], [4.0, 5.0]]
    )


def test_trace_speed_cases():
    """Rows 90, 100, 130 m at 2 s: forward 15 m/s, backward 5 m/s; inactive rows are never used."""
    cases = [
        # active now, next, previous, speed
        (True, True, True, 15.0),
        (True, True, False, 15.0),
        (True, False, True, 5.0),
        (True, False, False, 0.0),
        (False, True, True, 0.0),
    ]
    for now, after, before, speed in cases:
        result = mobility.trace_speed(
            jnp.where(now, 100.0, jnp.nan),
            jnp.where(after, 130.0, jnp.nan),
            jnp.where(before, 90.0, jnp.nan),
            now,
            after,
            before,
            2.0,
        )
        assert result == speed


def test_trace_position_goes_on_at_the_last_speed():
    """Vehicle 0 drives 10 m/s, vehicle 1 is gone in the last row, vehicle 2 appears in it."""
    position = jnp.array([[0.0, 0.0, 5.0], [20.0, 30.0, 5.0], [40.0, 60.0, 7.0]])
    active = jnp.array([[True, True, False], [True, True, False], [True, False, True]])
    for row, expected in (
        (0, [0.0, 0.0, 5.0]),
        (2, [40.0, 60.0, 7.0]),
        (3, [60.0, 60.0, 7.0]),
        (7, [140.0, 60.0, 7.0]),
    ):
        np.testing.assert_array_equal(mobility.trace_position(position, active, row, 2.0), expected)


def test_full_trace_equals_constant_speed():
    with jax.enable_x64(True):
        start, speed, slot_s = jnp.array([3.0, 700.0]), jnp.array([12.5, 20.0]), 1.0
        slots = jnp.arange(6)
        table = mobility.constant_speed_position(start, speed, slot_s * slots[:, None])
        active = jnp.ones(table.shape, bool)
        for row in range(12):
            now, after = (mobility.trace_position(table, active, r, slot_s) for r in (row, row + 1))
            np.testing.assert_allclose(now, start + speed * slot_s * row, rtol=1e-14)
            moving = mobility.trace_speed(now, after, now, active[0], active[0], active[0], slot_s)
            np.testing.assert_allclose(moving, speed, rtol=1e-12)


def test_single_row_trace_stands_still():
    table, active = jnp.array([[5.0, 6.0]]), jnp.array([[True, False]])
    np.testing.assert_array_equal(mobility.trace_position(table, active, 4, 1.0), [5.0, 6.0])


def test_dtype_is_kept_under_x64():
    with jax.enable_x64(True):
        x = jnp.float32(145.0)
        table, active = jnp.zeros((3, 2), jnp.float32), jnp.ones((3, 2), bool)
        results = [
            mobility.constant_speed_position(x, 10.0, 2.0),
            mobility.zone_center(x, ZONE_M),
            mobility.trace_row(table, 1),
            mobility.trace_position(table, active, jnp.int32(5), 1.0),
            mobility.trace_speed(x, x, x, True, True, True, 1.0),
            mobility.next_road_copy(150.0, x, PERIOD_M, RADIUS_M, TOLERANCE_M),
        ]
    assert [r.dtype for r in results] == [jnp.float32] * 6
