"""Compute and energy laws against hand-worked numbers and identities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxenv.physics import compute
from tests.laws import check_law

pytestmark = pytest.mark.quick

LAWS = {
    compute.execution_time_s: (181.487, 60.0),
    compute.dvfs_power_w: (1e-26, 1.5e9),
    compute.dvfs_energy_j: (1e-26, 3e11, 1.5e9),
    compute.mac_energy_j: (1.28e6, 6.2454e-9),
    compute.transmit_energy_j: (0.1, 4.8e6, 5e8),
}


def test_hand_worked_values():
    with jax.enable_x64(True):
        np.testing.assert_allclose(compute.execution_time_s(564.0, 60.0), 9.4)
        np.testing.assert_allclose(compute.dvfs_power_w(1e-26, 2e9), 80.0)
        np.testing.assert_allclose(compute.dvfs_energy_j(1e-26, 1e10, 2e9), 400.0)
        # robust paper's units: W/GHz^3, Gcycle, GHz
        np.testing.assert_allclose(compute.dvfs_energy_j(0.8, 0.5, 1.2), 0.576)
        np.testing.assert_allclose(compute.mac_energy_j(1.28e6, 6.2454e-9), 7.994112e-3)
        np.testing.assert_allclose(compute.transmit_energy_j(0.5, 8e6, 16e6), 0.25)


def test_dvfs_energy_is_power_times_time():
    with jax.enable_x64(True):
        frequency = jnp.linspace(0.3, 3.0, 10)
        time = compute.execution_time_s(2.5, frequency)
        np.testing.assert_allclose(
            compute.dvfs_power_w(0.8, frequency) * time,
            compute.dvfs_energy_j(0.8, 2.5, frequency),
            rtol=1e-14,
        )


def test_mac_energy_of_a_convolution():
    """Splitting paper eq (2), `M (a/d_o + b)`, is the law at `a/d_o + b` joule per MAC."""
    with jax.enable_x64(True):
        macs, outputs = 112 * 112 * 3 * 9 * 32, 32
        expected = 2.6727e-8 * macs / outputs + 1.21334e-10 * macs
        np.testing.assert_allclose(
            compute.mac_energy_j(macs, 2.6727e-8 / outputs + 1.21334e-10), expected, rtol=1e-12
        )


def test_no_work_takes_no_time_and_no_rate_takes_forever():
    work, rate = jnp.array([0.0, 0.0, 2.0, 2.0]), jnp.array([0.0, 4.0, 0.0, 4.0])
    np.testing.assert_array_equal(compute.execution_time_s(work, rate), [0.0, 0.0, np.inf, 0.5])
    np.testing.assert_array_equal(compute.transmit_energy_j(0.0, work, rate), np.zeros(4))
    np.testing.assert_array_equal(
        compute.transmit_energy_j(3.0, work, rate), [0.0, 0.0, np.inf, 1.5]
    )
    assert compute.execution_time_s(1e-9, 0.0) == np.inf
    for argument in (0, 1):
        slopes = jax.vmap(jax.grad(compute.execution_time_s, argument))(work, rate)
        assert bool(jnp.all(jnp.isfinite(slopes)))
        np.testing.assert_allclose(slopes[jnp.array([1, 3])], ([0.25, 0.25], [0, -0.125])[argument])


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_laws_keep_dtype_broadcast_and_agree_across_precisions(law):
    check_law(law, LAWS[law], rtol=1e-6)
