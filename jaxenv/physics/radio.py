"""Radio laws: decibels, path loss, noise, signal-to-noise ratio, Shannon rate, fading.

Sources are named by system: "vehicular" is SAFE (collaborative DNN inference in vehicular
networks), "splitting" is energy-efficient cooperative inference via adaptive DNN splitting,
"robust" is robust DNN partitioning under uncertain inference time.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

SPEED_OF_LIGHT_M_PER_S = 299_792_458.0


def _promote(*values: ArrayLike) -> list[jax.Array]:
    """Arrays of one float dtype, that of the arrays among the values: numbers do not widen it."""
    dtype = jnp.result_type(float, *values)
    return [jnp.asarray(value, dtype) for value in values]


def db_to_linear(value_db: ArrayLike) -> jax.Array:
    """Ratio of powers `10^(x/10)` of a value in dB (the decibel, IEC 60027-3)."""
    return jnp.exp(jnp.asarray(value_db) * (math.log(10.0) / 10.0))


def linear_to_db(ratio: ArrayLike) -> jax.Array:
    """Value `10 log10(x)` in dB of a ratio of powers > 0 (the decibel, IEC 60027-3)."""
    return 10.0 * jnp.log10(ratio)


def dbm_to_watt(power_dbm: ArrayLike) -> jax.Array:
    """Power in W of a level in dBm, decibels over 1 mW (IEC 60027-3)."""
    return db_to_linear(jnp.asarray(power_dbm) - 30.0)


def watt_to_dbm(power_w: ArrayLike) -> jax.Array:
    """Level in dBm, decibels over 1 mW, of a power in W > 0 (IEC 60027-3)."""
    return linear_to_db(power_w) + 30.0


def path_loss_db(
    distance_m: ArrayLike,
    intercept_db: ArrayLike,
    slope_db: ArrayLike,
    min_distance_m: ArrayLike,
) -> jax.Array:
    """Log-distance path loss `intercept + slope * log10(d in km)` in dB.

    The channel gain in dB is its negative.

    Source: vehicular paper, section V, `g = -(128.1 + 37.6 log10 d)`, d in km. The robust paper's
    `38 + 30 log10 r`, r in m, is intercept 38 + 3*30 = 128 dB and slope 30 dB.

    Args:
        distance_m: distance, m, >= 0.
        intercept_db: loss at 1 km, dB.
        slope_db: loss per decade of distance, dB.
        min_distance_m: distances below this one count as this one, m, > 0.
    """
    distance_m, intercept_db, slope_db, min_distance_m = _promote(
        distance_m, intercept_db, slope_db, min_distance_m
    )
    return intercept_db + slope_db * jnp.log10(jnp.maximum(distance_m, min_distance_m) / 1000.0)


def free_space_path_loss_db(distance_m: ArrayLike, carrier_hz: ArrayLike) -> jax.Array:
    """Free-space loss `20 log10(4 pi f d/c0)` in dB at a distance in m and a carrier in Hz, > 0.

    Source: H. T. Friis, "A note on a simple transmission formula", Proc. IRE 34(5), 1946, eq (1)
    with isotropic antennas. The splitting paper's `(4 pi f/c0)^2 d^beta` is its value at 1 m plus
    `10 beta log10 d`.
    """
    wavenumber = jnp.asarray(carrier_hz) * (4.0 * math.pi / SPEED_OF_LIGHT_M_PER_S)
    return 2.0 * linear_to_db(wavenumber * distance_m)


def noise_power_dbm(bandwidth_hz: ArrayLike, density_dbm_per_hz: ArrayLike) -> jax.Array:
    """Noise power `N0 + 10 log10(B)` in dBm of a band of B Hz > 0, N0 in dBm/Hz.

    Source: sigma^2 of the vehicular paper, below eq (1), whose -174 dBm/Hz (section V) is a
    density: white noise over the whole band.
    """
    bandwidth_hz, density_dbm_per_hz = _promote(bandwidth_hz, density_dbm_per_hz)
    return density_dbm_per_hz + linear_to_db(bandwidth_hz)


def snr_db(power_dbm: ArrayLike, path_loss_db: ArrayLike, noise_dbm: ArrayLike) -> jax.Array:
    """Signal-to-noise ratio `rho g / sigma^2` in dB: power (dBm), path loss (dB), noise (dBm).

    Source: vehicular paper, the fraction in the Shannon formula below eq (1).
    """
    return jnp.asarray(power_dbm) - path_loss_db - noise_dbm


def spectral_efficiency(snr_db: ArrayLike) -> jax.Array:
    """Capacity per bandwidth `log2(1 + 10^(x/10))` in bit/s/Hz of an SNR of x dB.

    Finite for every finite x, and accurate in relative terms where the SNR is small.

    Source: vehicular paper, below eq (1): `r = beta B log2(1 + rho g / sigma^2)`.
    """
    snr_nats = jnp.asarray(snr_db) * (math.log(10.0) / 10.0)
    large = 80.0  # beyond it log(1 + e^x) is x in either precision, and e^x would overflow
    nats = jnp.log1p(jnp.exp(jnp.minimum(snr_nats, large))) + jnp.maximum(snr_nats - large, 0.0)
    return nats / math.log(2.0)


def shannon_rate(bandwidth_hz: ArrayLike, snr_linear: ArrayLike) -> jax.Array:
    """Rate `B log2(1 + snr)` in bit/s of a band of B Hz at a linear SNR >= 0.

    Source: C. E. Shannon, "Communication in the presence of noise", Proc. IRE 37(1), 1949, theorem
    2; vehicular paper, below eq (1); robust paper, above eq (3).
    """
    return bandwidth_hz * (jnp.log1p(snr_linear) / math.log(2.0))


def snr_for_rate(rate_bps: ArrayLike, bandwidth_hz: ArrayLike) -> jax.Array:
    """Linear SNR `2^(R/B) - 1` at which a band of B Hz > 0 carries R bit/s.

    The inverse of `shannon_rate`. Divided by the SNR per watt it is the transmit power of a rate.

    Source: splitting paper, transmit power in eq (11), `p(R) = (2^(R/B) - 1) N0 B / h`.
    """
    return jnp.expm1(jnp.asarray(rate_bps) / bandwidth_hz * math.log(2.0))


def rayleigh_power_gain(
    key: jax.Array, shape: tuple[int, ...] = (), dtype: DTypeLike = jnp.float32
) -> jax.Array:
    """Power gains of Rayleigh fading: unit-mean exponential draws of the given shape and dtype.

    All are > 0 and finite. Made from 32 random bits by the inverse distribution function, written
    for both tails, so that a key gives the same draws (to rounding) in float32 and float64, from
    1.2e-10 to 22.9; a float32 `jax.random.exponential` contains exact zeros.

    Source: splitting paper, section IV, "Rayleigh fading with unit variance" (amplitude Rayleigh,
    power Exp(1)).
    """
    bits = jax.random.bits(key, shape, jnp.uint32)
    below = (bits.astype(dtype) + 0.5) * 2.0**-32
    above = ((~bits).astype(dtype) + 0.5) * 2.0**-32
    return jnp.where(below < 0.5, -jnp.log1p(-below), -jnp.log(above))


def nakagami_power_gain(
    key: jax.Array, m: ArrayLike, shape: tuple[int, ...] = (), dtype: DTypeLike = jnp.float32
) -> jax.Array:
    """Power gains of Nakagami-m fading: unit-mean Gamma(m, 1/m) draws, of variance 1/m.

    Args:
        key: random key.
        m: fading figure, >= 0.5; 1 is Rayleigh. Broadcastable to `shape`.
        shape: shape of the result.
        dtype: float dtype of the result.

    Source: M. Nakagami, "The m-distribution, a general formula of intensity distribution of rapid
    fading", Statistical Methods in Radio Wave Propagation, 1960 (the square of its amplitude).
    """
    m = jnp.asarray(m, dtype)
    return jax.random.gamma(key, m, shape, dtype) / m
