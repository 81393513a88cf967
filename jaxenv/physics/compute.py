"""Compute and energy laws: execution time, DVFS, MACs, transmission.

DVFS is dynamic voltage and frequency scaling, a MAC one multiply-accumulate operation.

Sources are named by system: "vehicular" is SAFE (collaborative DNN inference in vehicular
networks), "splitting" is energy-efficient cooperative inference via adaptive DNN splitting,
"robust" is robust DNN partitioning under uncertain inference time, "partitioning" is distributed
DNN inference with fine-grained partitioning in mobile edge computing networks.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def execution_time_s(work: ArrayLike, rate: ArrayLike) -> jax.Array:
    """Time `work / rate` in s: FLOP over FLOP/s, cycles over Hz, or bit over bit/s; both >= 0.

    No work takes no time even at rate 0; work at rate 0 takes infinite time. Derivatives are finite
    everywhere.

    Source: terms of vehicular paper eq (1); splitting paper eqs (7), (9), (10); partitioning paper
    eqs (3), (5), (6).
    """
    work, rate = jnp.asarray(work), jnp.asarray(rate)
    runs = rate > 0
    stalled = jnp.where(work > 0, jnp.inf, 0)
    return jnp.where(runs, work / jnp.where(runs, rate, 1), stalled)


def dvfs_power_w(kappa: ArrayLike, frequency: ArrayLike) -> jax.Array:
    """Dynamic power `kappa f^3` in W of a processor at a frequency f.

    f in Hz and kappa in W/Hz^3, or f in GHz and kappa in W/GHz^3.

    Source: robust paper eq (2), `e = kappa f^3 t`.
    """
    return kappa * jnp.asarray(frequency) ** 3


def dvfs_energy_j(kappa: ArrayLike, cycles: ArrayLike, frequency: ArrayLike) -> jax.Array:
    """Energy `kappa c f^2` in J of c cycles at a frequency f.

    Cycles, Hz and W/Hz^3, or Gcycle, GHz and W/GHz^3. It is `dvfs_power_w` times the time c/f.

    Source: partitioning paper eq (4); robust paper eq (15).
    """
    return kappa * jnp.asarray(cycles) * jnp.asarray(frequency) ** 2


def mac_energy_j(macs: ArrayLike, energy_per_mac_j: ArrayLike) -> jax.Array:
    """Energy in J of multiply-accumulate operations at a fixed energy per MAC in J.

    Source: splitting paper eq (4) with `a'` J/MAC for fully connected layers, and both terms of eq
    (2), which for a convolution with d_o output channels is `a/d_o + b` J/MAC.
    """
    return jnp.asarray(macs) * energy_per_mac_j


def transmit_energy_j(power_w: ArrayLike, bits: ArrayLike, rate_bps: ArrayLike) -> jax.Array:
    """Energy `power * bits / rate` in J of sending bits; 0 without bits or power at any rate.

    Source: splitting paper eq (11); robust paper eq (4); partitioning paper eq (7).
    """
    return execution_time_s(jnp.asarray(power_w) * bits, rate_bps)
