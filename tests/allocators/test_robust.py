"""Fixed partitions against the specification's numbers, slow NumPy, CVXPY, and identities."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from allocators import robust
from allocators.robust import links
from tests.oracles import robust as oracle

BACKENDS = ("closed", "jaxopt")
TOLERANCES = [(np.float32, 1e-5), (np.float64, 1e-6)]
FLOATS = ("B", "D", "sigma", "P", "p", "kappa", "fmin", "fmax", "c", "d", "tvm", "vloc", "vvm")
RESNET_R = [40.0, 90.0, 150.0, 220.0]
RESNET_M = (5, 5, 9, 5)


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


def v1(dtype=np.float64, **kwargs):
    r = jnp.array([50, 100, 200], dtype)
    return robust.make_instance("alexnet", r, 3.0, 0.18, 0.02, **kwargs)


def resnet(B=8.0, **kwargs):
    return robust.make_instance("resnet152", jnp.array(RESNET_R), B, 0.16, 0.04, **kwargs)


def tight(share=1.02):
    """ResNet devices with little more than their least bandwidth: one runs at fmax."""
    bmin = robust.take(robust.bmin_table(resnet()), jnp.array(RESNET_M))
    return resnet(float(share * jnp.sum(bmin)))


def random_positions(seed, num):
    return np.hypot(*np.random.default_rng(seed).uniform(-200, 200, (num, 2)).T)


def random_problem(rng, max_devices=30):
    """A model, its devices and a partition, with 1.02 to 4 times the least bandwidth."""
    model = rng.choice(["alexnet", "resnet152"])
    num = int(rng.integers(2, max_devices + 1))
    deadlines = (0.16, 0.28) if model == "alexnet" else (0.12, 0.18)
    r = np.hypot(*rng.uniform(-200, 200, (2, num)))
    D, eps = rng.uniform(*deadlines, num), rng.uniform(0.02, 0.08, num)
    gain_db = float(rng.choice([0, 30]))
    bmin = oracle.least_bandwidth(oracle.make(model, r, 1e3, D, eps, gain_db))
    good = bmin <= 6 * bmin.min(1, keepdims=True)
    m = np.array([rng.choice(np.flatnonzero(row)) for row in good])
    B = bmin[np.arange(num), m].sum() * rng.uniform(1.02, 4)
    return dict(model=model, r=r, B=B, D=D, eps=eps, gain_db=gain_db), m


def padded(problem, m, n_max=30):
    """The instance with 30 devices and 10 points, and the partition, as one shape for all."""
    ids = np.full(len(m), list(robust.MODELS).index(problem["model"]))
    inst = robust.make_instance(**{**problem, "model": ids}, n_max=n_max)
    return inst, np.pad(m, (0, n_max - len(m)))


def stacked(problems):
    """A multiple of `BATCH` instances and partitions, filled up with copies of the first."""
    pairs = [padded(*problem) for problem in problems]
    pairs += pairs[:1] * (-len(pairs) % BATCH)
    return jax.tree.map(lambda *x: jnp.stack(x), *pairs)


def in_batches(fun, insts, ms):
    """`fun` of all instances, compiled for one batch size."""
    parts = [
        fun(*jax.tree.map(lambda x, i=i: x[i : i + BATCH], (insts, ms)))
        for i in range(0, len(ms), BATCH)
    ]
    return jax.tree.map(lambda *x: np.concatenate(x), *parts)


BATCH = 64
allocate_all = jax.jit(jax.vmap(robust.allocate))
value_all = jax.jit(jax.vmap(robust.value))
SLOPES = {
    "value": jax.jit(jax.grad(robust.value, allow_int=True)),
    **{
        backend: jax.jit(
            jax.grad(lambda inst, m, k=backend: robust.allocate(inst, m, k).E, allow_int=True)
        )
        for backend in BACKENDS
    },
}
"""Derivatives of E with respect to an instance with a partition, in three ways."""


@pytest.mark.quick
def test_constants():
    for model, spent, vm_ms in (("alexnet", 0.2305, 1.35), ("resnet152", 0.1346, 10.4)):
        inst = robust.make_instance(model, jnp.array([100.0]), 1.0, 0.2, 0.05)
        np.testing.assert_allclose(inst.kappa * inst.c[0, -1] * inst.fmax**2, spent, atol=5e-5)
        np.testing.assert_allclose(inst.P, 39810.7, rtol=1e-6)
        np.testing.assert_allclose(inst.tvm[0, 0] * 1e3, vm_ms, rtol=1e-3)
        assert inst.tvm[0, -1] == inst.c[0, 0] == inst.vloc[0, 0] == 0
        q = oracle.make(model, [100.0], 1.0, 0.2, 0.05)
        links = robust.links_of(inst)
        for name, ours in (("c", links.c), ("d", links.d), ("T", links.time_left), ("P", links.P)):
            np.testing.assert_allclose(ours + 0 * q.c, getattr(q, name), rtol=1e-12)
    np.testing.assert_allclose(random_positions(0, 3), [107.15, 266.67, 207.27], atol=5e-3)


def test_options_of_an_instance():
    """MB, times of the virtual machine and the last data as given; 0.5 m counts as 1 m."""
    r = jnp.array([0.5, 1.0, 100.0])
    plain = robust.make_instance("alexnet", r, 3.0, 0.18, 0.02)
    other = robust.make_instance(
        "alexnet", r, 3.0, 0.18, 0.02, p=0.5, mb=8.0, vm_scale=3.0, vm_cv=0.2, d_last=0.25
    )
    np.testing.assert_array_equal(plain.r, [1, 1, 100])
    np.testing.assert_allclose(plain.P[:2], 10**10.6, rtol=1e-12)
    np.testing.assert_allclose(other.P, plain.P / 2, rtol=1e-12)
    np.testing.assert_allclose(other.d[2, :8], np.array(robust.TABLE_III["d_MB"])[:8] * 8)
    np.testing.assert_allclose(other.d[:, 8], 2.0)
    np.testing.assert_allclose(other.tvm, 3 * plain.tvm, rtol=1e-12)
    np.testing.assert_allclose(other.vvm, (0.2 * 3 * plain.tvm) ** 2, rtol=1e-12)
    np.testing.assert_allclose(plain.vvm, (0.1 * plain.tvm) ** 2, rtol=1e-12)
    np.testing.assert_array_equal(other.vloc, plain.vloc)


def test_some_of_the_devices_are_an_instance_of_their_own():
    """The others become padding: the same energy as without them, and nothing is theirs."""
    there = jnp.array([True, False, True, True])
    some = robust.only(resnet(), there)
    rows = np.flatnonzero(there)
    few = robust.make_instance("resnet152", jnp.array(RESNET_R)[rows], 8.0, 0.16, 0.04)
    m = jnp.array(RESNET_M)
    np.testing.assert_allclose(robust.value(some, m), robust.value(few, m[rows]), rtol=1e-12)
    np.testing.assert_array_equal(some.mask_n, there)
    for name in ("c", "d", "tvm", "vloc", "vvm"):
        np.testing.assert_array_equal(getattr(some, name)[1], 0)
        np.testing.assert_array_equal(getattr(some, name)[rows], getattr(few, name))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("dtype", "rtol"), TOLERANCES)
def test_check_values(backend, dtype, rtol):
    """V1, V3 and the envelope of the specification, or half a unit of the last printed digit."""
    one = robust.allocate(v1(dtype), [7, 7, 7], backend)
    assert one.E.dtype == one.b.dtype == dtype
    np.testing.assert_allclose(one.E, 0.235352, rtol=rtol, atol=5e-7)
    np.testing.assert_allclose(one.b, [0.891774, 0.987150, 1.121076], rtol=rtol, atol=5e-7)
    np.testing.assert_allclose(one.f, [0.905820, 0.924535, 0.951394], rtol=rtol, atol=5e-7)
    np.testing.assert_allclose(one.lam, 0.0461581, rtol=rtol, atol=5e-8)
    r = jnp.array([80, 160], dtype)
    inst = robust.make_instance("alexnet", r, 2.0, 0.2, 0.04, n_max=3)
    three = robust.allocate(inst, [7, 7, 0], backend)
    np.testing.assert_allclose(three.E, 0.0984111, rtol=rtol, atol=5e-8)
    np.testing.assert_allclose(three.b, [0.948009, 1.051991, 0], rtol=rtol, atol=5e-7)
    np.testing.assert_allclose(three.f[:2], [0.628712, 0.641238], rtol=rtol, atol=5e-7)
    np.testing.assert_allclose(three.lam, 0.0291415, rtol=rtol, atol=5e-8)


@pytest.mark.quick
@pytest.mark.parametrize(("dtype", "rtol"), TOLERANCES)
def test_envelope_check_values(dtype, rtol):
    inst = robust.make_instance("resnet152", jnp.array(RESNET_R, dtype), 8.0, 0.16, 0.04)
    slope = SLOPES["value"](inst, jnp.array(RESNET_M))
    np.testing.assert_allclose(slope.B, -0.0188991, rtol=rtol, atol=5e-8)
    np.testing.assert_allclose(slope.D[0], -0.179390, rtol=rtol, atol=5e-7)


@pytest.mark.quick
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_least_bandwidth_of_almost_unreachable_rates(dtype):
    """The rate tends to P / ln 2; 98.05 % of it take 25 P, so 99 % and more take more."""
    share = jnp.asarray(1 - np.logspace(-1, -6, 2000), dtype)
    P = jnp.full_like(share, 1e3)
    log_b, reachable = links._log_bandwidth(share * P / math.log(2), P)
    b, near = np.exp(np.asarray(log_b, float)), np.asarray(share > 0.99)
    assert np.all(reachable) and np.all(np.isfinite(b)) and np.all(b[near] > 25e3)
    rate = oracle.rate(b[~near], 1e3) * math.log(2) / 1e3
    np.testing.assert_allclose(rate, share[~near], rtol=1e-5)


def test_equals_nested_bisection():
    rng = np.random.default_rng(1)
    problems = [random_problem(rng, 12) for _ in range(12)]
    results = allocate_all(*stacked(problems))
    for i, (problem, m) in enumerate(problems):
        q = oracle.make(**problem)
        np.testing.assert_allclose(
            robust.bmin_table(padded(problem, m)[0])[: len(m), : q.c.shape[1]],
            oracle.least_bandwidth(q),
            rtol=1e-11,
        )
        E, b, f, lam = oracle.fixed_partition(q.rows(m))
        assert results.feasible[i]
        np.testing.assert_allclose(results.E[i], E, rtol=1e-12)
        np.testing.assert_allclose(results.b[i, : len(m)], b, rtol=1e-10)
        np.testing.assert_allclose(results.f[i, : len(m)], f, rtol=1e-9)
        np.testing.assert_allclose(results.lam[i], lam, rtol=1e-9)


def test_backends_agree():
    """E, b and lam, from least bandwidths that bind to four times as much."""
    rng = np.random.default_rng(8)
    insts, ms = stacked([random_problem(rng, 12) for _ in range(BATCH)])
    by_jaxopt = jax.jit(jax.vmap(lambda inst, m: robust.allocate(inst, m, "jaxopt")))
    ours, theirs = allocate_all(insts, ms), by_jaxopt(insts, ms)
    for name in ("E", "b", "lam"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-9)


def check_cone_programs(count, seed):
    """Energies of feasible partitions and verdicts, also with 0.7 to 0.98 of what is needed."""
    rng = np.random.default_rng(seed)
    problems = [random_problem(rng) for _ in range(count)]
    for problem, m in problems[::10]:
        q = oracle.make(**problem).rows(m)
        scarce = oracle.least_bandwidth(q).sum() * rng.uniform(0.7, 0.98)
        problems.append(({**problem, "B": scarce}, m))
    insts, ms = stacked(problems)
    results = in_batches(allocate_all, insts, ms)
    values = in_batches(value_all, insts, ms)
    np.testing.assert_allclose(values, results.E, rtol=1e-12)
    expected = np.array([oracle.cone_program(oracle.make(**p).rows(m)) for p, m in problems])
    assert np.all(np.isfinite(expected[:count])) and not np.any(np.isfinite(expected[count:]))
    np.testing.assert_array_equal(results.feasible[: len(problems)], np.isfinite(expected))
    np.testing.assert_allclose(results.E[: len(problems)], expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_equals_cone_programs():
    pytest.importorskip("clarabel")
    check_cone_programs(10, seed=2)


@pytest.mark.deep
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_equals_500_cone_programs():
    pytest.importorskip("clarabel")
    check_cone_programs(500, seed=3)


def identities(inst, alloc):
    """Derivatives of E by the envelope theorem, written out; entries of the chosen pairs."""
    d, vloc, vvm, c = (
        robust.take(getattr(inst, name), alloc.m) for name in ("d", "vloc", "vvm", "c")
    )
    s, speed = jnp.sqrt(vloc + vvm), robust.rate(alloc.b, inst.P)
    spread = inst.p + alloc.mu
    by_end = (2 * inst.kappa * alloc.f**3 - alloc.mu) * c / alloc.f**2
    at_fmax, at_fmin = alloc.f > inst.fmax - 1e-9, alloc.f < inst.fmin + 1e-9
    by_s = alloc.mu * inst.sigma / (2 * s)
    return dict(
        B=-alloc.lam,
        D=-alloc.mu,
        sigma=alloc.mu * s,
        P=-spread * d / speed**2 * alloc.b / ((alloc.b + inst.P) * math.log(2)),
        p=alloc.t_off,
        kappa=c * alloc.f**2,
        fmin=jnp.where(at_fmin, by_end, 0),
        fmax=jnp.where(at_fmax, by_end, 0),
        c=inst.kappa * alloc.f**2 + alloc.mu / alloc.f,
        d=spread / speed,
        tvm=alloc.mu,
        vloc=by_s,
        vvm=by_s,
    )


def alexnet():
    """Four AlexNet devices with their own deadlines and risks, padded to ResNet's 10 points."""
    D, eps = jnp.array([0.18, 0.2, 0.22, 0.25]), jnp.array([0.02, 0.04, 0.06, 0.08])
    return robust.make_instance([0] * 4, jnp.array(RESNET_R), 4.0, D, eps)


CASES = {
    "roomy": (resnet, RESNET_M),
    "tight": (tight, RESNET_M),
    "slow": (lambda: resnet(60.0).replace(D=jnp.full(4, 0.4)), RESNET_M),
    "alexnet": (alexnet, (7, 7, 6, 8)),
}
"""All free; some at their least bandwidth (f = fmax); some at fmin; the other network."""


@pytest.mark.parametrize("case", CASES)
def test_gradients(case):
    """Every identity, by `value`, `allocate`, jaxopt, and central differences of `allocate`."""
    make, m = CASES[case]
    inst, m = make(), jnp.array(m)
    alloc = robust.allocate(inst, m)
    at_fmax = np.asarray(alloc.f > inst.fmax - 1e-9)
    assert at_fmax.any() == (case == "tight")
    assert np.any(alloc.f == inst.fmin) == (case == "slow")
    if case == "tight":
        assert np.all(alloc.mu[at_fmax] > 1.01 * 2 * inst.kappa[at_fmax] * inst.fmax[at_fmax] ** 3)
    if case == "tight":
        by_B = jax.jit(jax.grad(lambda B: robust.allocate(inst.replace(B=B), m, "jaxopt").E))
        np.testing.assert_allclose(by_B(inst.B), -alloc.lam, rtol=1e-8)
    ways = ("value", "closed") if case == "tight" else SLOPES
    slopes = {way: SLOPES[way](inst, m) for way in ways}
    for name, identity in identities(inst, alloc).items():
        x = getattr(inst, name)
        pairs = jnp.zeros(inst.c.shape).at[jnp.arange(4), m].set(identity)
        expected = pairs if x.ndim == 2 else identity
        for slope in slopes.values():
            np.testing.assert_allclose(getattr(slope, name), expected, rtol=1e-8, atol=1e-12)
        devices = [()] if x.ndim == 0 else [(n, m[n]) if x.ndim == 2 else (n,) for n in range(4)]
        scale = np.max(np.abs(expected))
        for index in devices:
            if expected[index] == 0 or x[index] == 0:
                continue
            size = inst.vloc + inst.vvm if name == "vvm" else x  # alone it is too little to see
            step = 1e-5 * float(size[index])
            high, low = (
                robust.allocate(inst.replace(**{name: x.at[index].add(sign * step)}), m).E
                for sign in (1, -1)
            )
            np.testing.assert_allclose(
                (high - low) / (2 * step), expected[index], rtol=1e-5, atol=1e-6 * scale
            )


def test_gradients_with_respect_to_risk_and_gain():
    """dE/deps = -mu s / (2 eps^2 sigma) and dE/dG = ln 10 / 10 sum P dE/dP, by `make_instance`;
    both also by central differences of `allocate`."""
    m = jnp.array(RESNET_M)

    def energy(eps, gain_db):
        r = jnp.array(RESNET_R)
        return robust.value(
            robust.make_instance("resnet152", r, 8.0, 0.16, eps, gain_db=gain_db), m
        )

    eps = jnp.full(4, 0.04)
    by_eps, by_gain = jax.jit(jax.grad(energy, (0, 1)))(eps, 0.0)
    inst = resnet()
    alloc = robust.allocate(inst, m)
    known = identities(inst, alloc)
    s = known["sigma"] / alloc.mu
    np.testing.assert_allclose(by_eps, -alloc.mu * s / (2 * eps**2 * inst.sigma), rtol=1e-9)
    np.testing.assert_allclose(by_gain, math.log(10) / 10 * jnp.sum(inst.P * known["P"]), rtol=1e-9)

    def allocated(eps, gain_db):
        r = jnp.array(RESNET_R)
        inst = robust.make_instance("resnet152", r, 8.0, 0.16, eps, gain_db=gain_db)
        return robust.allocate(inst, m).E

    high, low = (allocated(eps, step) for step in (1e-4, -1e-4))
    np.testing.assert_allclose(by_gain, (high - low) / 2e-4, rtol=1e-5)
    for n in range(4):
        high, low = (allocated(eps.at[n].multiply(1 + step), 0.0) for step in (1e-5, -1e-5))
        np.testing.assert_allclose(by_eps[n], (high - low) / (2e-5 * eps[n]), rtol=1e-5)


def test_sensitivities_of_the_decisions():
    """db/dB sums to 1 and equals jaxopt's and central differences; the Hessian is symmetric."""
    m, inst = jnp.array(RESNET_M), resnet()

    def decisions(B, backend):
        alloc = robust.allocate(inst.replace(B=B), m, backend)
        return alloc.b, alloc.f, alloc.lam

    ours, theirs = (jax.jacfwd(lambda B, k=k: decisions(B, k))(inst.B) for k in BACKENDS)
    high, low = (decisions(inst.B + step, "closed") for step in (1e-4, -1e-4))
    np.testing.assert_allclose(jnp.sum(ours[0]), 1, rtol=1e-12)
    for x, y, up, down in zip(ours, theirs, high, low, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-8)
        np.testing.assert_allclose(x, (up - down) / 2e-4, rtol=1e-6)
    hessian = jax.jit(jax.hessian(lambda D: robust.value(inst.replace(D=D), m)))(inst.D)
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-9)
    slope = jax.jit(jax.grad(lambda D: robust.value(inst.replace(D=D), m)))
    step = jnp.array([1e-6, 0, 0, 0])
    column = (slope(inst.D + step) - slope(inst.D - step)) / 2e-6
    np.testing.assert_allclose(hessian[0], column, rtol=1e-6)


def test_a_device_at_its_least_bandwidth_keeps_it():
    """Of more bandwidth it takes nothing; with its deadline it follows its least bandwidth."""
    m, inst = jnp.array(RESNET_M), tight()

    def bandwidths(B, D):
        return robust.allocate(inst.replace(B=B, D=D), m).b

    by_B, by_D = jax.jit(jax.jacfwd(bandwidths, (0, 1)))(inst.B, inst.D)
    np.testing.assert_allclose(jnp.sum(by_B), 1, rtol=1e-12)
    np.testing.assert_allclose(jnp.sum(by_D, axis=0), 0, atol=1e-9 * jnp.max(jnp.abs(by_D)))

    def least(D):
        return robust.take(robust.bmin_table(inst.replace(D=D)), m)

    at_least = np.flatnonzero(robust.allocate(inst, m).b <= least(inst.D) * (1 + 1e-9))
    assert 0 < len(at_least) < 4
    by_deadline = (least(inst.D + 1e-6) - least(inst.D - 1e-6)) / 2e-6
    for n in at_least:
        assert by_B[n] == 0 and np.count_nonzero(by_D[n]) == 1
        np.testing.assert_allclose(by_D[n, n], by_deadline[n], rtol=1e-6)


def test_optimality_conditions():
    """sum b = B, tight deadlines unless f = fmin, stationarity off the ends and the kink."""
    rng = np.random.default_rng(4)
    insts, ms = stacked([random_problem(rng) for _ in range(BATCH)])
    alloc = allocate_all(insts, ms)
    assert np.all(alloc.feasible)
    np.testing.assert_allclose(jnp.sum(alloc.b, 1), insts.B, rtol=1e-12)
    assert np.all(alloc.slack >= -1e-15)
    tight = insts.mask_n & (alloc.f > insts.fmin)
    assert np.all(np.abs(np.where(tight, alloc.slack, 0)) < 1e-12)
    links = jax.vmap(lambda inst, m: robust.take(robust.links_of(inst), m))(insts, ms)
    bmin = jax.vmap(lambda inst, m: robust.take(robust.bmin_table(inst), m))(insts, ms)
    b = jnp.where(insts.mask_n, alloc.b, 1)
    above = alloc.f > insts.fmin * (1 + 1e-9)
    log_slope, _ = robust.log_slope(links, jnp.log(b), above)
    off_kink = above | (alloc.slack > 1e-9) | (links.c == 0)
    free = insts.mask_n & (b > bmin * (1 + 1e-9)) & off_kink
    lam = alloc.lam[:, None]
    assert np.sum(free) > 500
    assert np.all(np.where(free, np.abs(jnp.exp(log_slope) - lam), 0) <= 1e-8 * lam)
    interior = free & above
    np.testing.assert_allclose(
        alloc.mu[interior], (2 * insts.kappa * alloc.f**3)[interior], rtol=1e-7
    )
    assert np.all(alloc.mu[insts.mask_n] >= -1e-9)


def test_monotone():
    """More bandwidth, time, risk or gain never costs energy, and all of them save some."""
    r = jnp.array(RESNET_R)

    def energy(B, D, eps, gain_db):
        inst = robust.make_instance("resnet152", r, B, D, eps, gain_db=gain_db)
        return robust.value(inst, RESNET_M)

    base = np.array([8.0, 0.16, 0.04, 0.0])
    ends = np.array([30.0, 0.2, 0.08, 30.0])
    energies = jax.jit(jax.vmap(energy))
    for i in range(4):
        points = np.tile(base, (20, 1))
        points[:, i] = np.linspace(base[i], ends[i], 20)
        E = np.asarray(energies(*points.T))
        assert np.all(np.diff(E) < 0)


def test_permutation_padding_and_identical_devices():
    inst, m = resnet(), np.array(RESNET_M)
    alloc = robust.allocate(inst, m)
    order = np.array([2, 0, 3, 1])
    shuffled = robust.allocate(
        robust.make_instance("resnet152", jnp.array(RESNET_R)[order], 8.0, 0.16, 0.04), m[order]
    )
    np.testing.assert_allclose(shuffled.b, alloc.b[order], rtol=1e-12)
    ids = [1, 1, 1, 1]
    padded = robust.make_instance(ids, jnp.array(RESNET_R), 8.0, 0.16, 0.04, n_max=7)
    more = robust.allocate(padded, np.pad(m, (0, 3), constant_values=5))
    for field in dataclasses.fields(robust.Allocation):
        ours, theirs = getattr(alloc, field.name), getattr(more, field.name)
        np.testing.assert_allclose(theirs[:4] if theirs.ndim else theirs, ours, rtol=1e-12)
        if field.name in ("m", "b", "t_off", "e_dev"):
            np.testing.assert_array_equal(theirs[4:], 0)
    np.testing.assert_array_equal(more.f[4:], padded.fmin[4:])
    np.testing.assert_array_equal(robust.bmin_table(padded)[4:], 0)
    mixed = robust.make_instance(["alexnet", "resnet152"], jnp.array([90.0, 90]), 4.0, 0.17, 0.04)
    assert mixed.mask_m.shape == (2, 10) and np.isinf(robust.bmin_table(mixed)[0, 9])
    alone = robust.make_instance("alexnet", jnp.array([90.0]), 2.0, 0.2, 0.04)
    many = robust.make_instance("alexnet", jnp.full(5, 90.0), 10.0, 0.2, 0.04)
    np.testing.assert_allclose(
        robust.value(many, [7] * 5), 5 * robust.value(alone, [7]), rtol=1e-12
    )


def test_padded_devices_have_no_derivative():
    inst, m = resnet(n_max=7), jnp.pad(jnp.array(RESNET_M), (0, 3))
    slope, alone = SLOPES["closed"](inst, m), SLOPES["closed"](resnet(), m[:4])
    for name in FLOATS:
        ours, theirs = getattr(slope, name), getattr(alone, name)
        np.testing.assert_allclose(ours[:4] if ours.ndim else ours, theirs, rtol=1e-9)
        np.testing.assert_array_equal(ours[4:] if ours.ndim else 0, 0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_infeasible(backend, dtype):
    """E = +inf with derivative 0 in everything, for too little bandwidth and for no time."""
    inst = robust.make_instance("resnet152", jnp.array(RESNET_R, dtype), 8.0, 0.16, 0.04)
    short = inst.replace(B=jnp.asarray(0.5, dtype))
    late = inst.replace(D=jnp.full(4, 0.05, dtype))
    for inst in (short, late):
        alloc = robust.allocate(inst, RESNET_M, backend)
        assert np.isposinf(alloc.E) and np.isposinf(robust.value(inst, RESNET_M))
        for way in ("value", backend):
            slope = SLOPES[way](inst, jnp.array(RESNET_M))
            for name in FLOATS:
                np.testing.assert_array_equal(getattr(slope, name), 0)
        assert not alloc.feasible and not robust.feasible(inst, RESNET_M)
        np.testing.assert_array_equal(alloc.b, 0)
        np.testing.assert_array_equal(alloc.f, inst.fmin)
        for leaf in jax.tree.leaves(alloc):
            assert not np.any(np.isnan(leaf))


def test_no_upload():
    """`d_last=0`: a device that computes all itself takes no bandwidth; alone it needs none."""
    r = jnp.array([50.0, 100, 200])
    inst = robust.make_instance("alexnet", r, 3.0, 0.25, 0.02, d_last=0.0)
    assert np.all(robust.bmin_table(inst)[:, 8] == 0)
    alloc = robust.allocate(inst, [7, 8, 7])
    assert alloc.b[1] == alloc.t_off[1] == 0
    frequency = inst.c[1, 8] / (0.25 - 7 * math.sqrt(105.886e-6))
    np.testing.assert_allclose(alloc.f[1], frequency, rtol=1e-12)
    np.testing.assert_allclose(alloc.mu[1], 1.6 * frequency**3, rtol=1e-12)
    np.testing.assert_allclose(jnp.sum(alloc.b), 3, rtol=1e-12)
    others = robust.make_instance("alexnet", r[::2], 3.0, 0.25, 0.02)
    np.testing.assert_allclose(alloc.b[::2], robust.allocate(others, [7, 7]).b, rtol=1e-12)
    local = robust.allocate(inst, [8, 8, 8])
    assert local.lam == 0 and np.all(local.b == 0)
    slope = jax.grad(lambda inst: robust.value(inst, [8, 8, 8]), allow_int=True)(inst)
    np.testing.assert_allclose(slope.D, -local.mu, rtol=1e-12)
    by_allocate = jax.grad(lambda i: robust.allocate(i, [8, 8, 8]).E, allow_int=True)(inst)
    for name in FLOATS:
        np.testing.assert_allclose(getattr(slope, name), getattr(by_allocate, name), rtol=1e-9)


def test_float32_against_float64():
    """N = 12: E to 1e-6, sum b to 2e-5 MHz, deadlines to 1e-7 s."""
    positions = np.array([random_positions(seed, 12) for seed in range(64)])

    @jax.jit
    @jax.vmap
    def allocation(r):
        inst = robust.make_instance("resnet152", r, 30.0, 0.16, 0.04)
        m = jnp.argmin(robust.bmin_table(inst), axis=1)
        return robust.allocate(inst, jnp.where(jnp.arange(12) % 2, m, 5))

    double = allocation(jnp.asarray(positions))
    single = allocation(jnp.asarray(positions, jnp.float32))
    assert single.E.dtype == np.float32 and np.all(double.feasible)
    np.testing.assert_array_equal(single.feasible, double.feasible)
    np.testing.assert_allclose(single.E, double.E, rtol=1e-6)
    np.testing.assert_allclose(jnp.sum(single.b, 1), 30, atol=2e-5)
    assert np.all(single.slack >= -1e-7)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(model="vgg"), "model: 'vgg' is not valid; give one of alexnet, resnet152"),
        (dict(calibration="high"), "calibration: 'high' is not valid"),
        (dict(n_max=2), "n_max: 2 is not valid; give at least the 3 devices"),
        (dict(r=5.0), r"r: shape \(\) is not valid"),
        (dict(model=[0, 1]), r"model: shape \(2,\) is not valid; give one or 3"),
    ],
)
def test_errors(change, message):
    arguments = dict(model="alexnet", r=jnp.ones(3), B=3.0, D=0.2, eps=0.04)
    with pytest.raises(ValueError, match=message):
        robust.make_instance(**{**arguments, **change})


@pytest.mark.quick
def test_unknown_backend():
    with pytest.raises(ValueError, match="backend: 'qp' is not valid; give one of closed, jaxopt"):
        robust.allocate(v1(), [7, 7, 7], "qp")
