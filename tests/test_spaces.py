"""Spaces: shapes, masks, samples and membership against facts known by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxenv import spaces

KEYS = jax.random.split(jax.random.key(0), 400)


def test_discrete_shape_dtype_mask():
    space = spaces.Discrete(4)
    assert space.shape == ()
    assert space.dtype == np.int32
    np.testing.assert_array_equal(space.mask(), [True] * 4)


@pytest.mark.quick
def test_discrete_samples_every_allowed_value_uniformly_and_no_other():
    mask = jnp.asarray([True, False, True, True])
    values = np.asarray(jax.vmap(lambda key: spaces.Discrete(4).sample(key, mask))(KEYS))
    assert values.dtype == np.int32
    counts = np.bincount(values, minlength=4)
    assert counts[1] == 0
    # 400 draws of probability 1/3: mean 133, standard deviation 9.4; five of them are 47.
    assert np.abs(counts[[0, 2, 3]] - 400 / 3).max() < 47


@pytest.mark.quick
@pytest.mark.parametrize("size", [1, 31, 32, 33, 100])
def test_entries_are_found_by_their_rank_among_those_allowed(size):
    mask = np.random.default_rng(size).random(size) < 0.5
    mask[size // 2] = True
    found = jax.vmap(spaces.nth_allowed, (None, 0))(jnp.asarray(mask), jnp.arange(mask.sum()))
    np.testing.assert_array_equal(found, np.flatnonzero(mask))
    assert int(spaces.nth_allowed(jnp.asarray(mask), jnp.int32(-1))) == 0


@pytest.mark.quick
@pytest.mark.parametrize(("value", "inside"), [(0, True), (3, True), (-1, False), (4, False)])
def test_discrete_contains(value, inside):
    assert bool(spaces.Discrete(4).contains(value)) is inside


def test_multi_discrete_mask_is_false_beyond_the_range_of_an_entry():
    space = spaces.MultiDiscrete((2, 3, 1))
    assert space.shape == (3,)
    expected = [[True, True, False], [True, True, True], [True, False, False]]
    np.testing.assert_array_equal(space.mask(), expected)


@pytest.mark.quick
def test_multi_discrete_samples_cover_exactly_the_allowed_values():
    space = spaces.MultiDiscrete((2, 3))
    mask = jnp.asarray([[False, True, False], [True, False, True]])
    values = np.asarray(jax.vmap(lambda key: space.sample(key, mask))(KEYS))
    assert values.dtype == np.int32
    assert set(map(tuple, values)) == {(1, 0), (1, 2)}
    free = np.asarray(jax.vmap(space.sample)(KEYS))
    assert set(map(tuple, free)) == {(i, j) for i in range(2) for j in range(3)}


@pytest.mark.parametrize(
    ("value", "inside"), [([1, 2], True), ([0, 0], True), ([2, 0], False), ([0, -1], False)]
)
def test_multi_discrete_contains(value, inside):
    assert bool(spaces.MultiDiscrete((2, 3)).contains(value)) is inside


@pytest.mark.quick
def test_box_samples_stay_inside_and_spread():
    space = spaces.Box(-2.0, 3.0, (2, 3))
    assert space.size == 6
    values = np.asarray(jax.vmap(space.sample)(KEYS))
    assert values.shape == (400, 2, 3)
    assert values.dtype == np.float32
    assert values.min() >= -2.0
    assert values.max() <= 3.0
    # The mean of 2,400 uniform draws of width 5 has standard deviation 5 / sqrt(12 * 2400).
    assert abs(values.mean() - 0.5) < 5 * 5 / np.sqrt(12 * 2400)


def test_box_without_an_upper_bound_samples_above_its_lower_bound():
    values = np.asarray(jax.vmap(spaces.Box(0.0, np.inf, (5,)).sample)(KEYS))
    assert values.min() >= 0.0
    assert np.isfinite(values).all()


def test_box_draws_in_its_own_dtype_whatever_the_mode():
    space = spaces.Box(0.0, 1.0, (3,))
    narrow = np.asarray(space.sample(KEYS[0]))
    with jax.enable_x64(True):
        wide = np.asarray(space.sample(KEYS[0]))
        double = np.asarray(spaces.Box(0.0, 1.0, (3,), np.dtype(np.float64)).sample(KEYS[0]))
    np.testing.assert_array_equal(narrow, wide)
    assert double.dtype == np.float64


@pytest.mark.parametrize("space", [spaces.Discrete(5), spaces.MultiDiscrete((2, 4))])
def test_integer_samples_do_not_depend_on_64_bit_mode(space):
    narrow = np.asarray(space.sample(KEYS[1]))
    with jax.enable_x64(True):
        wide = np.asarray(space.sample(KEYS[1]))
    assert narrow.dtype == wide.dtype == np.int32
    np.testing.assert_array_equal(narrow, wide)


def test_box_contains():
    space = spaces.Box(0.0, 1.0, (2,))
    assert bool(space.contains(jnp.asarray([0.0, 1.0])))
    assert not bool(space.contains(jnp.asarray([0.0, 1.1])))
    assert not bool(space.contains(jnp.asarray([jnp.nan, 0.5])))


@pytest.mark.quick
def test_tuple_of_a_choice_and_a_level():
    space = spaces.Tuple((spaces.Discrete(3), spaces.Box(0.0, 1.0, (2,))))
    mask = space.mask()
    np.testing.assert_array_equal(mask[0], [True] * 3)
    assert mask[1] is None
    allowed = (jnp.asarray([False, True, False]), None)
    choice, level = jax.vmap(lambda key: space.sample(key, allowed))(KEYS)
    assert set(np.asarray(choice).tolist()) == {1}
    assert level.shape == (400, 2)
    assert bool(space.contains((choice[0], level[0])))
    assert not bool(space.contains((jnp.int32(3), level[0])))
    assert not bool(space.contains((choice[0], level[0] + 1)))


def test_spaces_are_hashable_values():
    assert len({spaces.Discrete(3), spaces.Discrete(3), spaces.Discrete(4)}) == 2
    assert spaces.MultiDiscrete((2, 3)) == spaces.MultiDiscrete((2, 3))
    both = spaces.Tuple((spaces.Discrete(3), spaces.Box(0.0, 1.0, (2,))))
    assert hash(both) == hash(spaces.Tuple((spaces.Discrete(3), spaces.Box(0.0, 1.0, (2,)))))


@pytest.mark.parametrize("size", [1, 31, 32, 33, 1125])
def test_the_nth_allowed_value(size):
    mask = np.random.default_rng(size).random(size) < 0.3
    mask[-1] = True
    ranks = np.arange(mask.sum())
    found = jax.vmap(lambda rank: spaces.nth_allowed(mask, rank))(ranks)
    np.testing.assert_array_equal(found, np.flatnonzero(mask))
    assert spaces.nth_allowed(np.zeros(size, bool), -1) == 0
