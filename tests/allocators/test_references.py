"""What answers are held against: every partition, the worst case, simulated times."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from allocators import robust
from allocators.robust import references
from tests.oracles import robust as oracle


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


def alexnet(D=0.18):
    return robust.make_instance("alexnet", jnp.array([50.0, 100, 200]), 3.0, D, 0.02)


def test_exhaustive_tries_every_partition():
    q = oracle.make("alexnet", [80, 160], 2.0, 0.2, 0.04)
    energies = {
        m: oracle.fixed_partition(q.rows(m), 40)[0] for m in np.ndindex(9, 9) if m[0] + m[1] >= 8
    }
    best = robust.exhaustive(
        robust.make_instance("alexnet", jnp.array([80.0, 160]), 2.0, 0.2, 0.04)
    )
    assert tuple(int(x) for x in best.m) == min(energies, key=energies.get) == (7, 7)
    np.testing.assert_allclose(best.E, min(energies.values()), rtol=1e-10)
    with pytest.raises(ValueError, match="give at most 200000"):
        robust.exhaustive(robust.make_instance("alexnet", jnp.ones(6), 2.0, 0.2, 0.04))


def test_exhaustive_in_parts(monkeypatch):
    """81 partitions, 32 at once."""
    monkeypatch.setattr(references, "PARTITIONS_AT_ONCE", 32)
    inst = robust.make_instance("alexnet", jnp.array([80.0, 160]), 2.0, 0.2, 0.04)
    partitions = jnp.asarray(np.indices((9, 9)).reshape(2, -1))
    best = jax.jit(references._cheapest)(inst, partitions)
    np.testing.assert_array_equal(best, [7, 7])


def test_worst_case_is_another_risk():
    """K standard deviations are the robust problem at eps = 1 / (1 + K^2)."""
    worst = robust.worst_case(alexnet())
    assert np.all(worst.sigma == 8.2) and np.all(worst.eps == 0.02)
    assert np.all(robust.worst_case(alexnet(), calibration="calibrated").sigma == 10)
    same = robust.make_instance("alexnet", worst.r, 3.0, 0.18, 1 / (1 + 8.2**2))
    np.testing.assert_allclose(
        robust.value(worst, [7, 7, 7]), robust.value(same, [7, 7, 7]), rtol=1e-12
    )


def test_every_sample_counts_once():
    """Always late or never, in less than a chunk of samples, and in one more than a chunk."""
    alloc = robust.allocate(alexnet(), [7, 7, 7])
    for deadline, expected in ((1e-3, 1), (10.0, 0)):
        inst = alexnet(deadline)
        for num in (3, references.SAMPLES_PER_CHUNK + 1):
            late = robust.violation(jax.random.key(0), inst, alloc, "gauss", num)
            np.testing.assert_array_equal(late, expected)


@pytest.mark.parametrize("law", robust.LAWS)
def test_violation(law):
    """Probabilities of a tight deadline: known limits of one part, never above eps."""
    eps = [0.02, 0.04, 0.06, 0.08]
    limits = dict(
        gauss=[1.3e-12, 4.8e-7, 3.8e-5, 3.5e-4],
        gamma=[3.4e-4, 2.7e-3, 7.0e-3, 1.24e-2],
        heavygamma=[3.8e-3, 9.2e-3, 1.41e-2, 1.84e-2],
        twopoint=eps,
    )
    inst = robust.make_instance("alexnet", jnp.full(4, 100.0), 8.0, 0.2, jnp.array(eps), n_max=5)
    alloc = robust.allocate(inst, [7, 7, 7, 7, 0])
    num = 200_000
    late = np.asarray(robust.violation(jax.random.key(0), inst, alloc, law, num))
    assert late[4] == 0
    error = 4 * np.sqrt(np.array(eps) / num)
    assert np.all(late[:4] <= eps + error)
    if law in limits:
        limit = np.array(limits[law])
        assert np.all(np.abs(late[:4] - limit) <= 0.1 * limit + 4 * np.sqrt(limit / num))
    else:  # between the normal and the exponential law
        assert np.all(late[:4] <= limits["gamma"]) and late[3] > limits["gauss"][3]
    if law != "twopoint":
        mean, std = jnp.array([0.05, 0.2]), jnp.array([0.01, 0])
        times = np.asarray(references._sample(jax.random.key(1), law, mean, std, num))
        assert np.all(times[:, 1] == 0.2)
        np.testing.assert_allclose(times[:, 0].mean(), 0.05, rtol=2e-3)
        np.testing.assert_allclose(times[:, 0].std(), 0.01, rtol=3e-2)


@pytest.mark.quick
def test_unknown_law():
    with pytest.raises(ValueError, match="law: 'cauchy' is not valid; give one of gauss, "):
        robust.violation(jax.random.key(0), alexnet(), None, "cauchy", 10)
