"""Bounds and answers of the certified solver against slow NumPy, exhaustive search, and tables."""

import types
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from allocators import certificate, robust
from tests.oracles import robust as oracle

RESNET, ALEXNET = 1, 0
FLOATS = ("B", "D", "sigma", "P", "p", "kappa", "fmin", "fmax", "c", "d", "tvm", "vloc", "vvm")
solve_all = jax.jit(jax.vmap(certificate.solve))


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


def positions(seed, num):
    return np.hypot(*np.random.default_rng(seed).uniform(-200, 200, (num, 2)).T)


def problem(model, num, seed, deadline, eps, gain_db=0.0):
    B = num * (2.5 if model == RESNET else 10 / 12)
    r = positions(seed, num)
    return dict(model=model, r=r, B=B, D=deadline, eps=eps, gain_db=gain_db)


def batch(problems, n_max=12, dtype=np.float64):
    """Instances of one shape: 10 points, n_max devices."""
    insts = [
        robust.make_instance(**{**p, "r": jnp.asarray(p["r"], dtype)}, n_max=n_max)
        for p in problems
    ]
    return jax.tree.map(lambda *x: jnp.stack(x), *insts)


def slow(p):
    return oracle.make(**{**p, "model": ("alexnet", "resnet152")[p["model"]]})


def small_problems(count, seed):
    """Random instances of 2 to 4 devices, common or own deadlines and risks, both gains."""
    rng = np.random.default_rng(seed)
    problems = []
    for i in range(count):
        model, num = i % 2, int(rng.integers(2, 5))
        shape = num if i % 3 else ()
        deadline = rng.uniform(*((0.12, 0.18) if model == RESNET else (0.16, 0.28)), shape)
        p = problem(
            model, num, int(rng.integers(1 << 30)), deadline, rng.uniform(0.02, 0.08, shape)
        )
        problems.append({**p, "gain_db": float(rng.choice([0, 30]))})
    return problems


MIXED = [
    *(problem(RESNET, num, seed, 0.15, 0.02) for num in (2, 4, 8, 12) for seed in range(3)),
    *(problem(RESNET, num, seed, 0.16, 0.04) for num in (2, 4, 8, 12) for seed in range(3)),
    *(problem(ALEXNET, num, seed, 0.18, 0.02, 30.0) for num in (2, 4, 8, 12) for seed in range(3)),
    *(problem(ALEXNET, num, seed, 0.18, 0.02) for num in (2, 4, 8, 12) for seed in range(3)),
]
GAPS = [
    *(3.07e-2, 3.67e-4, 1.35e-3, 5.45e-4),
    *(1.74e-4, 1.80e-3, 1.38e-4, 5.13e-4),
    *(2.63e-4, 8.32e-4, 1.51e-4, 5.79e-5),
    *(0, 0, 0, 0),
]


@pytest.fixture(scope="module")
def mixed():
    """The specification's table of gaps: instances, allocations, certificates."""
    with jax.enable_x64(True):
        insts = batch(MIXED)
        return insts, *solve_all(insts)


def test_table_of_gaps(mixed):
    """Mean gaps by model, risk and number of devices, to 2 % or half a printed digit."""
    _, alloc, cert = mixed
    assert np.all(cert.feasible) and np.all(alloc.feasible)
    np.testing.assert_allclose(alloc.E, cert.ub, rtol=1e-12)
    np.testing.assert_allclose(cert.gap, (cert.ub - cert.lb) / cert.ub, atol=1e-15)
    gaps = np.asarray(cert.gap).reshape(-1, 3).mean(1)
    np.testing.assert_allclose(gaps, GAPS, rtol=0.02, atol=1e-12)


def test_bounds_equal_nested_bisection(mixed):
    _, alloc, cert = mixed
    for i in range(0, len(MIXED), 5):
        q = slow(MIXED[i])
        np.testing.assert_allclose(cert.lb[i], oracle.dual_bound(q), rtol=1e-8)
        least = oracle.least_bandwidth(q).min(1).sum()
        np.testing.assert_allclose(cert.b_min_total[i], least, rtol=1e-11)
        m = np.asarray(alloc.m[i])[: len(q.c)]
        np.testing.assert_allclose(alloc.E[i], oracle.fixed_partition(q.rows(m))[0], rtol=1e-11)


def test_bound_is_below_every_policy(mixed):
    """LB <= E <= every feasible uniform, least-bandwidth or random partition's energy."""
    insts, alloc, cert = mixed
    assert np.all(cert.lb <= alloc.E)
    rng = np.random.default_rng(0)
    bmin = np.asarray(jax.vmap(robust.bmin_table)(insts))
    partitions = [np.full((len(MIXED), 12), m) for m in range(10)] + [bmin.argmin(2)]
    good = bmin <= 3 * bmin.min(2, keepdims=True)
    partitions += [(rng.uniform(size=good.shape) * good).argmax(2) for _ in range(20)]
    energies = jax.jit(jax.vmap(jax.vmap(robust.value), (None, 0)))(insts, np.array(partitions))
    assert np.isfinite(energies).sum() > 300
    lb, ub = np.asarray(cert.lb), np.asarray(alloc.E)
    assert np.all(energies >= lb * (1 - 1e-12)) and np.all(energies * 1.001 >= ub)


def test_ties_and_survivors(mixed):
    """No gap: no tie. A gap: some device has two best points; both survive."""
    insts, _, cert = mixed
    num = np.asarray(insts.mask_n).sum(1)
    closed = np.asarray(cert.gap) < 1e-12
    assert closed.sum() >= 12 and np.all(cert.n_tied[closed] == 0)
    assert np.all(cert.n_tied[~closed] >= 1)
    assert np.all(cert.survivors >= num) and np.all(cert.survivors[~closed] > num[~closed])
    assert np.all(cert.survivors <= insts.mask_m.sum((1, 2)))
    # two bisections, 48 by 48 over all pairs, 40 by 40 over 2 N + 3 candidates
    plain = 48 * 48 * 120 + 27 * 40 * 40 * 12
    assert np.mean(cert.evaluations) < plain / 100


def check_values():
    r1, r3 = np.array([50.0, 100, 200]), np.array([80.0, 160])
    one = dict(model=ALEXNET, r=r1, B=3.0, D=0.18, eps=0.02)
    three = dict(model=ALEXNET, r=r3, B=2.0, D=0.2, eps=0.04)
    return [one, three, {**one, "B": 0.5}]


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-5), (np.float64, 1e-6)])
def test_check_values(dtype, rtol):
    """V1's bound, V3's optimum, and an instance with too little bandwidth."""
    alloc, cert = solve_all(batch((check_values() * 16)[: len(MIXED)], dtype=dtype))
    assert alloc.E.dtype == cert.lb.dtype == dtype
    np.testing.assert_allclose(cert.lb[0], 0.235236, rtol=rtol, atol=5e-7)
    np.testing.assert_allclose(cert.lb[1], 0.0984111, rtol=rtol, atol=5e-8)
    np.testing.assert_allclose(alloc.E[0], 0.235352, rtol=rtol, atol=5e-7)
    np.testing.assert_allclose(alloc.E[1], 0.0984111, rtol=rtol, atol=5e-8)
    np.testing.assert_allclose(alloc.b[1, :2], [0.948009, 1.051991], rtol=rtol, atol=5e-7)
    np.testing.assert_allclose(alloc.f[1, :2], [0.628712, 0.641238], rtol=rtol, atol=5e-7)
    np.testing.assert_allclose(alloc.lam[1], 0.0291415, rtol=rtol, atol=5e-8)
    np.testing.assert_array_equal(alloc.m[:2, :3], [[7, 7, 7], [7, 7, 0]])
    assert cert.gap[1] < (1e-9 if dtype == np.float64 else 1e-5)
    assert not cert.feasible[2] and not alloc.feasible[2]
    assert np.all(np.isposinf([cert.lb[2], cert.ub[2], cert.gap[2], alloc.E[2]]))
    least = oracle.least_bandwidth(slow({**check_values()[0], "B": 1e3}))
    close = 1e-9 if dtype == np.float64 else 1e-5
    np.testing.assert_allclose(cert.b_min_total[2], least.min(1).sum(), rtol=close)
    np.testing.assert_array_equal(alloc.m[2, :3], least.argmin(1))
    np.testing.assert_array_equal(alloc.b[2], 0)
    for leaf in jax.tree.leaves((alloc, cert)):
        assert not np.any(np.isnan(leaf))
    assert cert.lam_dual[2] == cert.n_tied[2] == cert.survivors[2] == 0
    # Of every pair two slopes at bends, a slope and an energy at equal shares; of every device the
    # energies of four candidates.
    assert cert.evaluations[2] == 4 * 120 + 4 * 12


def test_one_device_and_none(mixed):
    """Alone a device takes all of the bandwidth, at once; nobody costs nothing."""
    insts, _, _ = mixed
    first = jnp.arange(12) == 0
    alone = jax.vmap(robust.only, (0, None))(insts, first)
    alloc, cert = solve_all(alone)
    for i in range(0, len(MIXED), 5):
        q = slow({**MIXED[i], "r": MIXED[i]["r"][:1]})
        usable = np.isfinite(oracle.least_bandwidth(q))
        best = np.min(np.where(usable, oracle.energy(q, q.B)[0], np.inf))
        np.testing.assert_allclose([cert.lb[i], alloc.E[i]], best, rtol=1e-9)
        np.testing.assert_allclose(alloc.b[i, 0], q.B, rtol=1e-12)
    assert np.all(cert.lam_dual <= alloc.lam * (1 + 1e-9)) and np.all(cert.evaluations < 2000)
    alloc, cert = solve_all(jax.vmap(robust.only, (0, None))(insts, ~first & first))
    assert np.all(alloc.feasible)
    for nothing in (alloc.E, alloc.b, cert.lb, cert.ub, cert.gap, cert.lam_dual, cert.survivors):
        np.testing.assert_array_equal(nothing, 0)
    np.testing.assert_array_equal(cert.evaluations, 4 * 120 + 4 * 12)


@pytest.mark.slow
def test_permutation_and_padding(mixed):
    """Neither the order of the devices nor padded ones matter."""
    _, alloc, cert = mixed
    flipped = [{**p, "r": p["r"][::-1]} for p in MIXED]
    other, other_cert = solve_all(batch(flipped))
    np.testing.assert_allclose(other.E, alloc.E, rtol=1e-9)
    np.testing.assert_allclose(other_cert.lb, cert.lb, rtol=1e-9)
    for i, p in enumerate(MIXED):
        num = len(p["r"])
        np.testing.assert_array_equal(other.m[i, :num][::-1], alloc.m[i, :num])
        np.testing.assert_allclose(other.b[i, :num][::-1], alloc.b[i, :num], rtol=1e-9)
        np.testing.assert_allclose(other.f[i, :num][::-1], alloc.f[i, :num], rtol=1e-9)
    bare = robust.make_instance(**{**MIXED[3], "model": "resnet152", "r": jnp.array(MIXED[3]["r"])})
    alone, alone_cert = certificate.solve(bare)
    np.testing.assert_array_equal(alone.m, alloc.m[3, :4])
    np.testing.assert_allclose(alone.b, alloc.b[3, :4], rtol=1e-12)
    np.testing.assert_array_equal(alloc.b[3, 4:], 0)
    np.testing.assert_array_equal(alloc.m[3, 4:], 0)
    for name in ("lb", "ub", "lam_dual", "n_tied", "survivors"):
        ours, theirs = getattr(alone_cert, name), getattr(cert, name)[3]
        np.testing.assert_allclose(theirs, ours, rtol=1e-12)


@pytest.mark.slow
def test_gradient_is_that_of_the_partition(mixed):
    insts, alloc, _ = mixed
    i = 10
    inst, m = (jax.tree.map(lambda x: x[i], tree) for tree in (insts, alloc.m))
    ours = jax.jit(jax.grad(lambda inst: certificate.solve(inst)[0].E, allow_int=True))(inst)
    known = jax.grad(lambda inst: robust.value(inst, m), allow_int=True)(inst)
    for name in FLOATS:
        np.testing.assert_allclose(getattr(ours, name), getattr(known, name), rtol=1e-7, atol=1e-12)


@pytest.mark.slow
def test_gradients_through_the_solver(mixed):
    """Central differences of the optimal energy in bandwidth, deadline, risk, gain, block times."""
    model, deadline, eps = MIXED[10]["model"], MIXED[10]["D"], MIXED[10]["eps"]
    r = jnp.asarray(MIXED[10]["r"])

    def energy(x):
        inst = robust.make_instance([model] * 12, r, x["B"], x["D"], x["eps"], gain_db=x["gain"])
        inst = inst.replace(tvm=inst.tvm * x["vm_time"], c=inst.c * x["local_time"])
        alloc, _ = certificate.solve(inst)
        return alloc.E, (alloc.m, alloc.lam, alloc.mu)

    x = dict(B=30.0, D=deadline, eps=eps, gain=0.0, vm_time=1.0, local_time=1.0)
    found, (m, lam, mu) = jax.jit(jax.grad(energy, has_aux=True))(x)
    steps = np.repeat(np.eye(len(x)), 2, axis=0) * np.tile([1, -1], len(x))[:, None]
    scale = 1e-6 * np.array([abs(value) or 1 for value in x.values()])
    moved = {name: value + (steps * scale)[:, i] for i, (name, value) in enumerate(x.items())}
    energies, (ms, *_) = jax.jit(jax.vmap(energy))(moved)
    assert np.all(ms == m)
    differences = (energies[::2] - energies[1::2]) / (2 * scale)
    np.testing.assert_allclose([found[name] for name in x], differences, rtol=1e-5)
    np.testing.assert_allclose([found["B"], found["D"]], [-lam, -np.sum(mu)], rtol=1e-9)


def test_no_gradient_of_an_infeasible_instance_is_nan(mixed):
    insts = jax.tree.map(lambda x: x[:1], mixed[0])
    short = jax.tree.map(lambda x: x[0], insts.replace(B=insts.B / 100))
    by_solve = jax.grad(lambda inst: certificate.solve(inst)[0].E, allow_int=True)(short)
    by_price = jax.grad(certificate.dual_value, argnums=(0, 1), allow_int=True)(short, -3.0)
    for name in FLOATS:
        np.testing.assert_array_equal(getattr(by_solve, name), 0)
        np.testing.assert_array_equal(getattr(by_price[0], name), 0)
    assert by_price[1] == 0 and np.isposinf(certificate.dual_value(short, -3.0))


def test_monotone():
    """More bandwidth, time, risk or gain never raises the bound or the energy of the answer."""
    steps = np.linspace(0, 1, 12)
    base = problem(RESNET, 12, 3, 0.15, 0.02)
    ends = dict(B=60.0, D=0.2, eps=0.08, gain_db=30.0)
    problems = [
        {**base, name: base[name] + step * (end - base[name])}
        for name, end in ends.items()
        for step in steps
    ]
    alloc, cert = solve_all(batch(problems))
    assert np.all(cert.feasible)
    bound, energy = (np.asarray(x).reshape(4, 12) for x in (cert.lb, alloc.E))
    assert np.all(np.diff(bound) <= 0) and np.all(energy[:, 1:] <= energy[:, :-1] * (1 + 1e-9))
    assert np.all(energy[:, -1] < 0.9 * energy[:, 0])


def test_float32(mixed):
    """The bound holds, and the partition is as good as that of float64."""
    _, double, cert = mixed
    single, rough = solve_all(batch(MIXED, dtype=np.float32))
    assert single.E.dtype == rough.lb.dtype == np.float32
    np.testing.assert_array_equal(rough.feasible, cert.feasible)
    assert np.all(np.asarray(rough.lb, np.float64) <= np.asarray(cert.lb) * (1 + 1e-7))
    np.testing.assert_allclose(rough.lb, cert.lb, rtol=1e-5)
    energies = jax.vmap(robust.value)(batch(MIXED), single.m)
    assert np.mean(energies <= double.E * (1 + 1e-5)) >= 0.99


@pytest.mark.slow
def test_branch_and_bound_closes_the_gap():
    """Twelve devices: the tree proves the optimum to 1e-6, and never worsens it."""
    closed = 0
    largest = [i for i, p in enumerate(MIXED) if len(p["r"]) == 12]
    for i in largest:
        inst = jax.tree.map(lambda x: x[0], batch(MIXED[i : i + 1]))
        alloc, root = certificate.solve(inst)
        best, cert = certificate.branch_and_bound(inst, 1e-6)
        assert cert.gap <= 1e-6 and (root.gap > 1e-6) == (cert.evaluations > root.evaluations)
        assert root.lb <= cert.lb <= cert.ub <= root.ub
        np.testing.assert_allclose(best.E, cert.ub, rtol=1e-12)
        closed += int(root.gap > 1e-5)
    assert closed >= 3


@pytest.mark.slow
def test_branch_and_bound_solves_no_more_nodes_than_allowed(mixed):
    """Two nodes are the root alone, as a node is split into two; three are a better bound.

    Nor does it solve more than a tolerance asks for.
    """
    i = next(i for i, p in enumerate(MIXED) if len(p["r"]) == 12 and mixed[2].gap[i] > 1e-5)
    inst = jax.tree.map(lambda x: x[i], mixed[0])
    root, two, three = (certificate.branch_and_bound(inst, 0.0, num)[1] for num in (1, 2, 3))
    assert root.evaluations == two.evaluations < three.evaluations
    assert root.lb == two.lb < three.lb <= three.ub <= two.ub == root.ub
    np.testing.assert_allclose(root.lb, mixed[2].lb[i], rtol=1e-9)
    easily, hardly = (
        certificate.branch_and_bound(inst, share * float(root.gap))[1] for share in (1.1, 0.9)
    )
    assert easily.evaluations == root.evaluations < hardly.evaluations


@pytest.mark.deep
def test_branch_and_bound_of_30_devices():
    """To 1e-7 within 40 nodes."""
    for seed in range(3):
        for case in ((RESNET, 30, seed, 0.15, 0.02), (ALEXNET, 30, seed, 0.18, 0.02, 30.0)):
            inst = jax.tree.map(lambda x: x[0], batch([problem(*case)], n_max=30))
            _, cert = certificate.branch_and_bound(inst, 1e-7, max_nodes=40)
            assert cert.gap <= 1e-7


def test_branch_and_bound_of_an_infeasible_instance_and_of_nobody():
    inst = jax.tree.map(lambda x: x[0], batch([{**MIXED[9], "B": 0.3}]))
    alloc, cert = certificate.branch_and_bound(inst)
    assert not alloc.feasible and np.isposinf(cert.gap) and np.isposinf(cert.lb)
    alloc, cert = certificate.branch_and_bound(robust.only(inst, jnp.zeros(12, bool)))
    assert alloc.feasible and alloc.E == cert.lb == cert.ub == cert.gap == 0


def check_exhaustive(count, seed):
    """`count` feasible instances, and the infeasible ones drawn on the way."""
    insts = batch(small_problems(2 * count, seed), n_max=4)
    some = np.flatnonzero(np.cumsum(jax.vmap(robust.feasible)(insts)) <= count)
    insts = jax.tree.map(lambda x: x[some], insts)
    alloc, cert = solve_all(insts)
    try_all = jax.jit(robust.exhaustive)
    best = np.empty(len(some))
    for i in range(len(some)):
        best[i] = try_all(jax.tree.map(lambda x, i=i: x[i], insts)).E
    possible = np.isfinite(best)
    np.testing.assert_array_equal(alloc.feasible, possible)
    assert possible.sum() == count
    excess = np.asarray(alloc.E)[possible] / best[possible] - 1
    assert np.all(excess >= -1e-10) and np.all(excess <= 1e-3)
    assert np.mean(excess <= 1e-9) >= 0.99
    assert np.all(np.asarray(cert.lb)[possible] <= best[possible] * (1 + 1e-12))
    closed = np.asarray(cert.gap)[possible] <= 1e-9
    assert np.all(excess[closed] <= 1e-9)
    for i in np.flatnonzero(possible)[~closed]:
        inst = jax.tree.map(lambda x, i=i: x[i], insts)
        closed, proof = certificate.branch_and_bound(inst, 1e-9)
        np.testing.assert_allclose(closed.E, best[i], rtol=1e-9)
        assert proof.gap <= 1e-9


@pytest.mark.slow
def test_equals_exhaustive_search():
    check_exhaustive(12, seed=5)


@pytest.mark.deep
def test_equals_exhaustive_search_200():
    check_exhaustive(200, seed=6)


@pytest.mark.slow
def test_4096_instances():
    """One call; LB <= E on all, mean root gap at N = 12 at most 1e-3, feasible by construction."""
    rng = np.random.default_rng(7)
    r = jnp.asarray(np.hypot(*rng.uniform(-200, 200, (2, 4096, 12))))
    B, D = jnp.asarray(rng.uniform(25, 35, 4096)), jnp.asarray(rng.uniform(0.13, 0.18, 4096))
    eps = jnp.asarray(rng.uniform(0.02, 0.08, 4096))
    make = jax.vmap(lambda *x: robust.make_instance(RESNET, *x))
    alloc, cert = solve_all(make(r, B, D, eps))
    ok = np.asarray(cert.feasible)
    assert ok.mean() > 0.9
    np.testing.assert_array_equal(ok, np.asarray(cert.b_min_total) <= B)
    assert np.all(np.asarray(cert.lb)[ok] <= np.asarray(alloc.E)[ok])
    assert np.asarray(cert.gap)[ok].mean() <= 1e-3
    assert np.all(np.asarray(alloc.slack)[ok] >= -1e-12)
    np.testing.assert_allclose(jnp.sum(alloc.b, 1)[ok], B[ok], rtol=1e-12)


def test_any_price_bounds_the_optimum_and_has_the_slope_of_its_excess_demand(mixed):
    """At the price of the certificate the bound is the certificate's; elsewhere it is below."""
    insts, _, proof = mixed
    best = jnp.log(proof.lam_dual)
    log_price = best + jnp.linspace(-2, 2, best.size)
    bound = jax.jit(jax.vmap(certificate.dual_value))
    np.testing.assert_allclose(bound(insts, best), proof.lb, rtol=1e-9)
    assert np.all(bound(insts, log_price) <= proof.lb * (1 + 1e-12))
    slope = jax.jit(jax.vmap(jax.grad(certificate.dual_value, argnums=1)))(insts, log_price)
    step = 1e-6
    ends = [bound(insts, log_price + sign * step) for sign in (1, -1)]
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-9)


def slow_candidates(cost, demand, slope, bmin, movable, B, price, m_low, m_high):
    """Partitions ``[N]`` of one instance, that of the least estimated energy first."""
    devices = np.arange(len(cost))
    found = {}
    for m in (m_low, m_high):
        for device, point in np.ndindex(*cost.shape):
            if point != m[device] and movable[device, point]:
                found[tuple(np.where(devices == device, point, m))] = None
    for count in range(len(cost) + 1):
        found[tuple(np.where(devices < count, m_low, m_high))] = None
    found[tuple(np.argmin(bmin, axis=1))] = None
    for m in found:
        total, b, db, least = (x[devices, m].sum() for x in (cost, demand, slope, bmin))
        # The highest point of bound + (b - B) x - curvature / 2 x^2, x the change of the price.
        bound, curvature = total - price * B, max(-db, 1e-3 * b) / price
        found[m] = bound + (b - B) ** 2 / (2 * curvature) if least <= B else np.inf
    return sorted(found, key=found.get)


def test_candidates_are_the_best_by_a_parabola_of_their_bound():
    """64 instances of up to four devices and five points; half of them are flat in the price."""
    rng = np.random.default_rng(5)
    shape, num = (4, 5, 64), certificate.NUM_CANDIDATES
    cost, demand, bmin = (rng.uniform(*ends, shape) for ends in ((1, 3), (0.5, 2), (0.1, 0.9)))
    slope = -demand * rng.uniform(0, 1, shape) * np.tile([1, 1e-4], 32)
    available, active = rng.random(shape) < 0.8, rng.random((4, 64)) < 0.8
    B, price = rng.uniform(2, 5, 64), rng.uniform(0.2, 1, 64)
    m_low, m_high = rng.integers(0, 5, (2, 4, 64))
    k = types.SimpleNamespace(bmin=jnp.asarray(bmin), available=jnp.asarray(available))
    table = jnp.stack([cost, demand, slope, bmin], axis=2)
    given = map(jnp.asarray, (active, B, price, m_low, m_high))
    found = jax.jit(partial(certificate._candidates, k))(table, *given)
    movable = available & active[:, None]
    for i in range(64):
        leaves = (cost, demand, slope, bmin, movable, B, price, m_low, m_high)
        expected = slow_candidates(*(x[..., i] for x in leaves))[:num]
        np.testing.assert_array_equal(found[..., i].T, expected)


@pytest.mark.slow
def test_a_guessed_price_changes_the_work_and_not_the_answer(mixed):
    insts, allocation, proof = mixed
    warm = jax.jit(jax.vmap(certificate.solve))
    for error in (0.03, 3.0):
        answer, certified = warm(insts, jnp.log(proof.lam_dual) + error)
        np.testing.assert_array_equal(answer.m, allocation.m)
        np.testing.assert_allclose(answer.E, allocation.E, rtol=1e-9)
        np.testing.assert_allclose(certified.lb, proof.lb, rtol=1e-7)
        fewer = certified.evaluations.mean() < proof.evaluations.mean()
        assert fewer == (error == 0.03)
