"""Actions as branches and as one joint choice, against enumeration."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from agents.branches import Branches, unsupported
from jaxenv import spaces

pytestmark = pytest.mark.quick


def test_joint_choices_number_all_vectors_in_lexicographic_order():
    branches = Branches.of(spaces.MultiDiscrete((3, 3, 3)), joint=True)
    vectors = np.array(list(itertools.product(range(3), repeat=3)))
    numbers = jnp.arange(27)[:, None]
    assert (branches.heads, branches.outputs) == (1, 27)
    np.testing.assert_array_equal(branches.action(numbers), vectors)
    np.testing.assert_array_equal(branches.choice(jnp.asarray(vectors)), numbers)


def test_a_joint_choice_is_valid_where_all_its_entries_are():
    rng = np.random.default_rng(0)
    space = spaces.MultiDiscrete((3, 2, 3))
    mask = (rng.random((4, 3, 3)) < 0.6) & np.asarray(space.mask())
    joint = Branches.of(space, joint=True).head_mask(jnp.asarray(mask))
    expected = [
        [all(m[i, v] for i, v in enumerate(vector)) for vector in np.ndindex(3, 3, 3)] for m in mask
    ]
    np.testing.assert_array_equal(joint[:, 0], expected)


def test_branches_of_a_vector_and_of_a_number():
    vector = Branches.of(spaces.MultiDiscrete((3, 2)))
    assert (vector.heads, vector.outputs) == (2, 3)
    mask = jnp.ones((5, 2, 3), bool)
    assert vector.head_mask(mask) is mask
    np.testing.assert_array_equal(vector.action(jnp.asarray([[2, 1]])), [[2, 1]])
    np.testing.assert_array_equal(vector.choice(jnp.asarray([2, 1])), [2, 1])
    for joint in (False, True):
        number = Branches.of(spaces.Discrete(4), joint=joint)
        assert (number.heads, number.outputs) == (1, 4)
        assert number.head_mask(jnp.ones((5, 4), bool)).shape == (5, 1, 4)
        np.testing.assert_array_equal(number.action(jnp.asarray([[3], [1]])), [3, 1])
        np.testing.assert_array_equal(number.choice(jnp.asarray([3, 1])), [[3], [1]])


@pytest.mark.parametrize(
    ("space", "joint", "reason"),
    [
        (spaces.Box(0.0, 1.0, (2,)), False, "MultiDiscrete action space, not Box"),
        (spaces.MultiDiscrete((10,) * 5), True, "10^5 joint actions are more than 20000"),
    ],
)
def test_what_has_no_branches_says_why(space, joint, reason):
    assert reason in unsupported(space, joint)


def test_what_has_branches_says_nothing():
    assert unsupported(spaces.MultiDiscrete((10,) * 5)) is None
    assert unsupported(spaces.MultiDiscrete((5,) * 6), joint=True) is None
    assert unsupported(spaces.Discrete(100_000)) is None
