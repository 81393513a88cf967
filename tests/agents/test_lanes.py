"""Trainings side by side: what each lane gets, and which lanes are whose."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from agents.lanes import over_lanes, split_lanes


@pytest.mark.parametrize("sequential", [False, True, None])
def test_lanes_one_by_one_or_at_once(sequential):
    axes = ({"x": 0, "y": None}, None, {"a": 0, "b": 0, "absent": None})
    trees = {"x": jnp.arange(6.0).reshape(3, 2), "y": jnp.array([1.0, 2.0])}, jnp.array(10.0)
    scale = {"a": jnp.arange(3.0), "b": jnp.arange(3), "absent": None}

    def function(tree, shift, scale):
        return tree["x"] @ tree["y"] * scale["a"] + shift, {"b": scale["b"] + 1}

    value, rest = over_lanes(function, axes, sequential)(*trees, scale)
    np.testing.assert_array_equal(value, [10.0, 10.0 + 8.0, 10.0 + 28.0])
    np.testing.assert_array_equal(rest["b"], [1, 2, 3])


def test_jobs_get_their_own_lanes():
    tree = {"x": np.arange(12).reshape(6, 2), "y": np.arange(6)}
    one, two, three = split_lanes(tree, 3)
    np.testing.assert_array_equal(one["x"], [[0, 1], [2, 3]])
    np.testing.assert_array_equal(two["y"], [2, 3])
    np.testing.assert_array_equal(three["x"], [[8, 9], [10, 11]])
    (whole,) = split_lanes(tree, 1)
    np.testing.assert_array_equal(whole["y"], tree["y"])
