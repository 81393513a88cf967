"""The random numbers of a slot: uniform, independent in every direction, the same in any dtype."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxenv.physics import arrivals

pytestmark = pytest.mark.quick

KEYS, SLOTS, COUNT = 100, 50, 20
SIZE = KEYS * SLOTS * COUNT


@partial(jax.jit, static_argnums=(2, 3))
def draws(key_data, slots, count, dtype):
    def one(key, slot):
        return arrivals.slot_uniforms(key, slot, count, dtype)

    return jax.vmap(jax.vmap(one, in_axes=(None, 0)), in_axes=(0, None))(key_data, slots)


def key_data(kind):
    if kind == "consecutive":  # raw words 0, 1, 2, ...: the least random keys there are
        return np.stack([np.zeros(KEYS), np.arange(KEYS)], axis=-1).astype(np.uint32)
    return jax.random.key_data(jax.random.split(jax.random.key(5), KEYS))


@pytest.fixture(scope="module", params=["split", "consecutive"])
def sample(request):
    return np.asarray(draws(key_data(request.param), np.arange(SLOTS), COUNT, "float32"), float)


def test_in_the_half_open_unit_interval(sample):
    assert sample.shape == (KEYS, SLOTS, COUNT)
    assert sample.min() >= 0 and sample.max() < 1
    assert sample.min() < 1e-4 and sample.max() > 1 - 1e-4


def test_mean_and_variance(sample):
    assert abs(sample.mean() - 1 / 2) < 4 * np.sqrt(1 / 12 / SIZE)
    # The fourth central moment of a uniform number is 1/80.
    assert abs(sample.var() - 1 / 12) < 4 * np.sqrt((1 / 80 - 1 / 144) / SIZE)


def test_chi_square_over_64_bins(sample):
    counts = np.histogram(sample, bins=64, range=(0, 1))[0]
    chi_square = np.sum((counts - SIZE / 64) ** 2) / (SIZE / 64)
    assert abs(chi_square - 63) < 4 * np.sqrt(2 * 63)


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["keys", "slots", "vehicles"])
@pytest.mark.parametrize("lag", [1, 2, 7])
def test_neighbours_are_uncorrelated(sample, axis, lag):
    centred = np.moveaxis(sample - 1 / 2, axis, 0)
    products = centred[lag:] * centred[:-lag]
    assert abs(products.mean()) < 4 / 12 / np.sqrt(products.size)


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["keys", "slots", "vehicles"])
def test_pairs_of_neighbours_fill_the_square(sample, axis):
    moved = np.moveaxis(sample, axis, 0)
    pairs = moved[: len(moved) // 2 * 2].reshape(-1, 2, *moved.shape[1:])
    counts = np.histogram2d(pairs[:, 0].ravel(), pairs[:, 1].ravel(), 8, [[0, 1], [0, 1]])[0]
    expected = counts.sum() / 64
    chi_square = np.sum((counts - expected) ** 2) / expected
    assert abs(chi_square - 63) < 4 * np.sqrt(2 * 63)


def test_low_bits_are_fair(sample):
    bits = (sample * 2**24).astype(np.int64)
    for bit in range(24):
        share = ((bits >> bit) & 1).mean()
        assert abs(share - 1 / 2) < 4.5 * np.sqrt(1 / 4 / SIZE), bit


def test_float64_gives_the_same_numbers():
    with jax.enable_x64(True):
        data, slots = key_data("split"), np.arange(SLOTS)
        double = np.asarray(draws(data, slots, COUNT, "float64"))
        single = np.asarray(draws(data, slots, COUNT, "float32"), float)
    assert double.dtype == np.float64
    difference = double - single
    assert difference.min() >= 0 and difference.max() < 2.0**-24
    assert len(np.unique(double)) > 0.999 * SIZE


def test_a_function_of_key_and_slot_alone():
    data = jax.random.key_data(jax.random.key(3))
    twice = [arrivals.slot_uniforms(data, 7, 5, jnp.float32) for _ in range(2)]
    np.testing.assert_array_equal(*twice)
    np.testing.assert_array_equal(
        arrivals.slot_uniforms(data, jnp.int32(7), 3, jnp.float32), twice[0][:3]
    )
    with jax.enable_x64(True):
        np.testing.assert_array_equal(arrivals.slot_uniforms(data, 7, 5, jnp.float32), twice[0])
    for other in (
        arrivals.slot_uniforms(data, 8, 5, jnp.float32),
        arrivals.slot_uniforms(jax.random.key_data(jax.random.key(4)), 7, 5, jnp.float32),
    ):
        assert (np.asarray(other) != np.asarray(twice[0])).all()


# ---- words and quantiles ------------------------------------------------------------------------


def slow_mix(x):
    """MurmurHash3's finaliser on Python integers."""
    x = (x ^ x >> 16) * 0x85EBCA6B % 2**32
    x = (x ^ x >> 13) * 0xC2B2AE35 % 2**32
    return x ^ x >> 16


def test_words_are_those_of_the_hash_on_integers():
    """fmix32(1) = 0x514E28B7 is the published value; a key means the same for ever."""
    assert slow_mix(1) == 0x514E28B7
    first, second = 0x12345678, 0xFEDCBA98
    index = [0, 1, 2, 255, 2**31, 2**32 - 1]
    words = arrivals.counted_bits(jnp.uint32(first), jnp.uint32(second), np.uint32(index))
    expected = [slow_mix(slow_mix((i * 0x9E3779B9 + first) % 2**32) ^ second) for i in index]
    np.testing.assert_array_equal(words, np.uint32(expected))


def test_uniform_numbers_are_the_words_over_2_to_the_32():
    data = jax.random.key_data(jax.random.key(9))
    bits = arrivals.counted_bits(*arrivals.stream_words(data, 4), np.arange(6, dtype=np.uint32))
    words = [int(word) for word in bits]
    with jax.enable_x64(True):
        double = arrivals.slot_uniforms(data, 4, 6, "float64")
    np.testing.assert_array_equal(double, [word / 2**32 for word in words])
    single = arrivals.slot_uniforms(data, 4, 6, "float32")
    np.testing.assert_array_equal(single, [(word >> 8) / 2**24 for word in words])


def test_the_table_has_the_distribution_of_poisson_numbers():
    """P(N <= n | N <= 40), term by term, of two means at once."""
    mean = np.array([0.5, 10.0])
    with jax.enable_x64(True):
        table = np.asarray(arrivals.poisson_table(jnp.asarray(mean), 40))
    assert table.shape == (40, 2)
    for column, m in zip(table.T, mean, strict=True):
        exact = np.cumsum([math.exp(-m) * m**n / math.factorial(n) for n in range(41)])
        np.testing.assert_allclose(column, exact[:-1] / exact[-1], rtol=1e-12)


@pytest.mark.quick
@pytest.mark.parametrize(("mean", "size"), [(10.0, 40), (60.0, 192), (70.0, 2000), (5000.0, 6000)])
def test_the_largest_uniform_is_no_number_that_never_comes(mean, size):
    """In float32 too: 1 - 2^-24 is the quantile of a number within 6 deviations of the mean."""
    table = np.asarray(arrivals.poisson_table(jnp.float32(mean), size))
    assert (table <= 1 - 2.0**-24).sum() <= stats.poisson.isf(2.0**-26, mean) < size
    np.testing.assert_allclose(table, stats.poisson.cdf(np.arange(size), mean), atol=2e-4)


def test_the_tail_is_what_the_table_cuts_off():
    """P(N > 0) = 1 - e^-m and P(N > 2) = 1 - (1 + m + m^2/2) e^-m; beside the table's last row."""
    mean = 1.7
    np.testing.assert_allclose(arrivals.poisson_tail(mean, 0), 1 - math.exp(-mean), rtol=1e-12)
    within = (1 + mean + mean**2 / 2) * math.exp(-mean)
    np.testing.assert_allclose(arrivals.poisson_tail(mean, 2), 1 - within, rtol=1e-12)
    with jax.enable_x64(True):
        within = float(arrivals.poisson_table(mean, 6)[-1]) * (1 - arrivals.poisson_tail(mean, 6))
    np.testing.assert_allclose(arrivals.poisson_tail(mean, 5), 1 - within, rtol=1e-9)


def test_normal_numbers_are_the_quantiles():
    """Of (k + 1/2) 2^-24 for k = u 2^24: each float32 uniform stands for the middle of its cell."""
    k = np.array([0, 1000, 2**22, 2**23 - 1, 2**23, 3 * 2**22, 2**24 - 1])
    with jax.enable_x64(True):
        double = arrivals.normal_quantile(jnp.float64(k) / 2**24)
    np.testing.assert_allclose(double, stats.norm.ppf((k + 0.5) / 2**24), rtol=1e-9)
    single = np.asarray(arrivals.normal_quantile(jnp.float32(k / 2**24)))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single[1:-1], double[1:-1], rtol=1e-5)
    assert -5.5 < single[0] < -5.0 and np.isfinite(single).all()
    np.testing.assert_array_equal(single[[0, 3]], -single[[6, 4]])
