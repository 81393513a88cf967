"""Radio laws against check values, hand-worked numbers, identities and distribution moments."""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxenv.physics import radio
from tests.laws import check_law

pytestmark = pytest.mark.quick

# power dBm, distance m, bandwidth MHz, efficiency bit/s/Hz, full-band rate Mbit/s
CHECK_VALUES = [
    (10.0, 100.0, 10.0, 7.812961, 78.129610),
    (10.0, 300.0, 10.0, 2.200910, 22.009101),
    (5.0, 300.0, 5.0, 1.711663, 8.558313),
    (7.5, 10.0, 20.0, 18.466503, 369.330052),
]


def link_snr_db(power_dbm, distance_m, bandwidth_hz):
    loss = radio.path_loss_db(distance_m, 128.1, 37.6, 10.0)
    return radio.snr_db(power_dbm, loss, radio.noise_power_dbm(bandwidth_hz, -174.0))


@pytest.mark.parametrize("row", CHECK_VALUES)
def test_vehicular_link_check_values(row):
    power_dbm, distance_m, bandwidth_mhz, efficiency, rate_mbps = row
    for x64, dtype, rtol in ((True, np.float64, 1e-6), (False, np.float32, 1e-5)):
        with jax.enable_x64(x64):
            bandwidth_hz = jnp.asarray(bandwidth_mhz * 1e6, dtype)
            snr_db = link_snr_db(
                jnp.asarray(power_dbm, dtype), jnp.asarray(distance_m, dtype), bandwidth_hz
            )
            assert snr_db.dtype == dtype
            np.testing.assert_allclose(radio.spectral_efficiency(snr_db), efficiency, rtol=rtol)
            rate = radio.shannon_rate(bandwidth_hz, radio.db_to_linear(snr_db))
            np.testing.assert_allclose(rate, rate_mbps * 1e6, rtol=rtol)


def test_hand_worked_values():
    with jax.enable_x64(True):
        np.testing.assert_allclose(
            radio.db_to_linear(jnp.array([0.0, 10.0, -30.0, 3.0])), [1, 10, 1e-3, 10**0.3]
        )
        np.testing.assert_allclose(
            radio.linear_to_db(jnp.array([1.0, 2.0, 1e-3])), [0, 3.010299957, -30]
        )
        np.testing.assert_allclose(
            radio.dbm_to_watt(jnp.array([0.0, 30.0, -174.0])), [1e-3, 1, 10**-20.4]
        )
        np.testing.assert_allclose(radio.watt_to_dbm(jnp.array([1e-3, 0.1])), [0, 20], atol=1e-12)
        np.testing.assert_allclose(radio.path_loss_db(1000.0, 128.1, 37.6, 10.0), 128.1)
        np.testing.assert_allclose(
            radio.path_loss_db(jnp.array([0.0, 5.0, 10.0]), 128.1, 37.6, 10.0), 52.9
        )
        np.testing.assert_allclose(radio.noise_power_dbm(10e6, -174.0), -104.0)
        np.testing.assert_allclose(radio.spectral_efficiency(0.0), 1.0)
        np.testing.assert_allclose(radio.shannon_rate(10.0, 3.0), 20.0)
        np.testing.assert_allclose(radio.snr_for_rate(20.0, 10.0), 3.0)


def test_splitting_and_robust_channels_are_instances():
    with jax.enable_x64(True):
        exponent = np.array([3.0, 4.0, 4.7])
        at_1_km = radio.free_space_path_loss_db(1.0, 3.5e9) + 30.0 * exponent
        loss_db = radio.path_loss_db(50.0, at_1_km, 10.0 * exponent, 1.0)
        np.testing.assert_allclose(loss_db, [94.298, 111.288, 123.181], atol=5e-4)
        noise_w = radio.dbm_to_watt(radio.noise_power_dbm(200e6, -174.0))
        snr_per_watt = radio.db_to_linear(-loss_db) / noise_w
        np.testing.assert_allclose(snr_per_watt, [466.816, 9.33632, 0.603805], rtol=2e-6)
        np.testing.assert_allclose(
            radio.shannon_rate(200e6, 0.010 * snr_per_watt),
            [500.576e6, 25.7545e6, 1.7370e6],
            rtol=3e-5,
        )
        # robust: received power over noise density at 100 m and 1 W is 39810.7 MHz
        gain = radio.db_to_linear(-radio.path_loss_db(100.0, 128.0, 30.0, 1.0))
        np.testing.assert_allclose(gain / radio.dbm_to_watt(-174.0), 39810.7e6, rtol=1e-6)


def test_inverses():
    with jax.enable_x64(True):
        rate = jnp.logspace(-6, 9.5, 40)
        snr = radio.snr_for_rate(rate, 200e6)
        np.testing.assert_allclose(radio.shannon_rate(200e6, snr), rate, rtol=1e-12)
        level = jnp.linspace(-200.0, 60.0, 27)
        np.testing.assert_allclose(radio.linear_to_db(radio.db_to_linear(level)), level, atol=1e-11)
        np.testing.assert_allclose(radio.watt_to_dbm(radio.dbm_to_watt(level)), level, atol=1e-11)
        np.testing.assert_allclose(
            radio.spectral_efficiency(level), np.log2(1 + 10 ** (level / 10)), rtol=1e-9, atol=1e-15
        )


def test_small_and_large_snr_in_float32():
    """No cancellation at small SNR, no overflow at large SNR, in value and derivative."""
    tiny = radio.spectral_efficiency(jnp.float32(-200.0))
    np.testing.assert_allclose(tiny, 1e-20 / math.log(2), rtol=1e-5)
    np.testing.assert_allclose(
        radio.shannon_rate(1.0, jnp.float32(1e-12)), 1e-12 / math.log(2), rtol=1e-6
    )
    np.testing.assert_allclose(
        radio.snr_for_rate(jnp.float32(1e-9), 1.0), 1e-9 * math.log(2), rtol=1e-6
    )
    np.testing.assert_allclose(
        radio.spectral_efficiency(jnp.float32(500.0)), 50 / math.log10(2), rtol=1e-6
    )
    slope = jax.vmap(jax.grad(radio.spectral_efficiency))(jnp.float32([-400.0, 0.0, 500.0]))
    np.testing.assert_allclose(slope, [0.0, 0.05 / math.log10(2), 0.1 / math.log10(2)], rtol=1e-6)


LAWS = {
    radio.db_to_linear: (3.0,),
    radio.linear_to_db: (3.0,),
    radio.dbm_to_watt: (3.0,),
    radio.watt_to_dbm: (3.0,),
    radio.path_loss_db: (120.0, 128.1, 37.6, 10.0),
    radio.free_space_path_loss_db: (120.0, 3.5e9),
    radio.noise_power_dbm: (10e6, -174.0),
    radio.snr_db: (7.0, 90.0, -104.0),
    radio.spectral_efficiency: (7.0,),
    radio.shannon_rate: (10e6, 7.0),
    radio.snr_for_rate: (20e6, 10e6),
}


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_laws_keep_dtype_broadcast_and_agree_across_precisions(law):
    check_law(law, LAWS[law], rtol=2e-6)


def test_every_public_law_is_covered():
    public = {
        f
        for name, f in inspect.getmembers(radio, inspect.isfunction)
        if f.__module__ == radio.__name__ and not name.startswith("_")
    }
    assert public == set(LAWS) | {radio.rayleigh_power_gain, radio.nakagami_power_gain}


def assert_moments(draws, mean, variance, fourth_central_moment):
    """Sample mean and variance within 4 standard errors of the exact ones."""
    draws = np.asarray(draws, np.float64)
    count = draws.size
    assert abs(draws.mean() - mean) < 4 * math.sqrt(variance / count)
    variance_error = math.sqrt((fourth_central_moment - variance**2) / count)
    assert abs(np.mean((draws - mean) ** 2) - variance) < 4 * variance_error


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rayleigh_moments_and_distribution(dtype):
    with jax.enable_x64(True):
        gain = radio.rayleigh_power_gain(jax.random.key(1), (200_000,), dtype)
        assert gain.dtype == dtype
        assert bool(jnp.all((gain > 0) & jnp.isfinite(gain)))
        assert_moments(gain, 1.0, 1.0, 9.0)
        for quantile in (0.01, 0.5, 0.99):
            below = np.mean(np.asarray(gain) < -math.log1p(-quantile))
            assert abs(below - quantile) < 4 * math.sqrt(quantile * (1 - quantile) / gain.size)


def test_rayleigh_draws_mean_the_same_in_both_precisions():
    with jax.enable_x64(True):
        double = radio.rayleigh_power_gain(jax.random.key(2), (300, 300), np.float64)
        single = radio.rayleigh_power_gain(jax.random.key(2), (300, 300), np.float32)
        np.testing.assert_allclose(single, double, rtol=1e-6)
    np.testing.assert_array_equal(radio.rayleigh_power_gain(jax.random.key(2), (300, 300)), single)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_ends_of_rayleigh_draws(dtype, monkeypatch):
    """By the middles of the 2^32 cells: of the least and the largest word 2^-33 and 33 ln 2."""
    words = jnp.array([0, 1, 2**32 - 2, 2**32 - 1], jnp.uint32)
    monkeypatch.setattr(jax.random, "bits", lambda *_: words)
    with jax.enable_x64(True):
        gain = radio.rayleigh_power_gain(jax.random.key(0), (4,), dtype)
    tail = math.log(2**32)
    expected = [2.0**-33, 3 * 2.0**-33, tail - math.log(1.5), tail + math.log(2)]
    np.testing.assert_allclose(gain, expected, rtol=1e-6)


@pytest.mark.parametrize("m", [0.5, 1.0, 3.0])
def test_nakagami_moments(m):
    gain = radio.nakagami_power_gain(jax.random.key(3), m, (50_000,), jnp.float32)
    assert gain.dtype == jnp.float32
    assert_moments(gain, 1.0, 1 / m, (3 + 6 / m) / m**2)


def test_nakagami_figure_broadcasts():
    figure = jnp.array([0.5, 4.0], jnp.float32)
    gain = radio.nakagami_power_gain(jax.random.key(4), figure, (25_000, 2), jnp.float32)
    for column, m in enumerate((0.5, 4.0)):
        assert_moments(gain[:, column], 1.0, 1 / m, (3 + 6 / m) / m**2)
    with jax.enable_x64(True):
        assert (
            radio.nakagami_power_gain(jax.random.key(4), 2.0, (3,), jnp.float32).dtype
            == jnp.float32
        )
