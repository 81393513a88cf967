"""Algorithm 1 against CVXPY, brute force, finite differences and numbers worked by hand.

All instances are padded to one shape, 12 devices with 10 points, and batches to one size, so that
few programs are compiled.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from allocators import pccp, solvers
from allocators.pccp import partition
from allocators.robust import allocate, bmin_table, make_instance, take
from tests.allocators.instances import (
    BATCH,
    DEVICES,
    distances,
    references,
    section9,
    stack,
    unpadded,
)
from tests.oracles.robust_cvxpy import solve_convex_problem

UNIT = pccp.TIME_UNIT_S

points_from_current = jax.jit(partial(pccp.pccp, start="current"))
batch_points = jax.jit(jax.vmap(lambda *args, **flags: pccp.pccp(*args, **flags)))
batch_allocate = jax.jit(jax.vmap(allocate))
batch_bmin = jax.jit(jax.vmap(bmin_table))
partitioning = jax.jit(pccp.partitioning)
convex_step = jax.jit(pccp.convex_step, static_argnames="backend")


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def batch_pccp(batch, b, f, m, literal_stop=False):
    """Algorithm 1; whether it stops literally is traced, so one program serves both."""
    return batch_points(batch, b, f, m, literal_stop=jnp.full(BATCH, literal_stop))


def to_float32(tree):
    return jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype == jnp.float64 else x, tree)


def starts_of(instance, table):
    """Feasible starts: least bandwidth, and every uniform one."""
    real = np.asarray(instance.mask_n)
    starts = [table.argmin(axis=1)]
    starts += [np.where(real, m, 0) for m in range(table.shape[1])]
    rows = np.arange(DEVICES)
    return [m for m in starts if table[rows, m][real].sum() <= float(instance.B)]


@pytest.fixture(scope="module")
def cases():
    """Number of cases, batch of instances, starts, and the allocations at the starts."""
    with jax.enable_x64(True):
        pool = section9(range(4))
        tables = np.asarray(batch_bmin(stack(pool)))
        pairs = [
            (instance, start)
            for instance, table in zip(pool, tables, strict=False)
            for start in starts_of(instance, table)
        ][:BATCH]
        batch = stack([instance for instance, _ in pairs])
        starts = [start for _, start in pairs]
        m = jnp.asarray(np.stack([*starts, *[starts[0]] * (BATCH - len(pairs))]))
        return len(pairs), batch, m, batch_allocate(batch, m)


def small_problem():
    """Problem (29) of 3 devices with 10 points, where many constraints of (36) are active."""
    instance = make_instance("resnet152", distances(3, 3), 10.0, 0.16, 0.04)
    return instance, partitioning(instance, jnp.array([2.0, 2.5, 3.0]), jnp.array([0.5, 0.6, 0.7]))


# --------------------------------------------------------------------------------------------------
# Problem (36)


def two_points():
    """One point costs 1 J and 10 ms, the other nothing and 30 ms; deadlines of 20 and of 40 ms.

    Nothing varies; the third device has no points.
    """
    dear = np.zeros((3, 10))
    dear[:, 0] = 1.0
    return pccp.Partitioning(
        energy=jnp.asarray(dear),
        time=jnp.asarray(0.03 - 0.02 * dear),
        variance=jnp.zeros((3, 10)),
        deadline=jnp.array([0.02, 0.04, 1.0]),
        sigma=jnp.full(3, 2.0),
        available=jnp.zeros((3, 10), bool).at[:2, :2].set(True),
    )


@pytest.mark.quick
def test_convex_problem_by_hand():
    """Shares meet the deadline exactly, or all is at the cheap point.

    By 20 ms and a billionth of them, less the margin of the least y, 1e-6 units and sigma = 2,
    `x_1 = (2 + 2e-9 - 2e-6 - 1) / 2`; by 40 ms, x_1 = 1.
    """
    problem = two_points()
    start = pccp.initial_iterate(problem)
    np.testing.assert_allclose(start.x[:2, :2], 0.5)
    np.testing.assert_allclose(start.y, 1e-3)
    solution = convex_step(problem, start, 10.0)
    np.testing.assert_allclose(solution.x[1, :2], [0.0, 1.0], atol=1e-9)
    expected = [0.500000999, 0.499999001]
    np.testing.assert_allclose(solution.x[0, :2], expected, rtol=0, atol=3e-10)
    np.testing.assert_allclose(solution.y[0], 1e-6, atol=1e-8)


@pytest.mark.quick
def test_algorithm1_by_hand():
    """By 21 ms most is at the cheap point, which alone is late: refused. By 40 ms all is.

    The first stays in between, so that it goes on to the highest penalty, the tenth from 1e-3 on.
    """
    problem = dataclasses.replace(two_points(), deadline=jnp.array([0.021, 0.04, 1.0]))
    zero = jnp.zeros(3, jnp.int32)
    found = jax.jit(partition.algorithm1, static_argnums=2)(problem, zero, "uniform", False, False)
    np.testing.assert_array_equal(found.m, [0, 1, 0])
    np.testing.assert_allclose(found.x[:2, 1], [0.55, 1], atol=2e-6)
    assert (found.iterations, found.rejected, found.nonbinary) == (10, 1, 1)


@pytest.mark.parametrize("penalty", [1e-3, 0.1, 3.0])
def test_convex_problem_equals_cvxpy_with_all_slacks(penalty):
    """At random linearisation points; gamma, which is eliminated, changes nothing."""
    _, problem = small_problem()
    rng = np.random.default_rng(int(1000 * penalty))
    x_hat = rng.dirichlet(np.ones(10), 3)
    y_hat = rng.uniform(0.1, 0.6, 3)
    previous = pccp.Iterate(jnp.asarray(x_hat), jnp.asarray(y_hat), None, None)
    solution = convex_step(problem, previous, penalty)
    x, y, value = solve_convex_problem(
        np.asarray(problem.energy),
        np.asarray(problem.time) / UNIT,
        np.asarray(problem.variance) / UNIT**2,
        np.asarray(problem.sigma),
        np.asarray(problem.deadline) / UNIT * (1 + 1e-9),
        x_hat,
        y_hat,
        penalty,
    )
    np.testing.assert_allclose(solution.x, x, atol=1e-6)
    np.testing.assert_allclose(solution.y, y, atol=1e-5)
    gamma = solution.x * (1 - solution.x) + (solution.x - x_hat) ** 2
    slack = jnp.sum(solution.alpha) + jnp.sum(solution.beta) + jnp.sum(gamma)
    found = jnp.sum(problem.energy * solution.x) + penalty * slack
    np.testing.assert_allclose(found, value, rtol=1e-8)


def test_masked_points_and_devices_change_nothing():
    """Points that are not available get no share, devices without points no part in anything."""
    _, problem = small_problem()
    wide = jax.tree.map(
        lambda x: jnp.pad(x, ((0, 2), (0, 3))[: x.ndim], constant_values=x.dtype.type(0.07)),
        problem,
    )
    wide = dataclasses.replace(wide, available=jnp.zeros((5, 13), bool).at[:3, :10].set(True))
    narrow = convex_step(problem, pccp.initial_iterate(problem), 0.1)
    masked = convex_step(wide, pccp.initial_iterate(wide), 0.1)
    np.testing.assert_allclose(masked.x[:3, :10], narrow.x, atol=1e-12)
    np.testing.assert_allclose(masked.alpha[:3], narrow.alpha, atol=1e-12)
    assert np.max(masked.x[:3, 10:]) < 1e-9
    np.testing.assert_array_equal(masked.x[3:], np.eye(13)[[0, 0]])
    np.testing.assert_array_equal(masked.alpha[3:], 0)
    np.testing.assert_array_equal(masked.beta[3:], 0)


@pytest.mark.slow
def test_derivative_of_the_convex_problem():
    """By its KKT conditions, against central differences in every entry of every argument."""
    _, problem = small_problem()
    start = pccp.initial_iterate(problem)
    rng = np.random.default_rng(0)
    weight = jnp.asarray(rng.normal(size=problem.energy.shape))
    scales = dict(energy=0.1, time=0.01, variance=1e-5, sigma=5.0, deadline=0.16)

    @jax.jit
    def output(floats, penalty):
        changed = dataclasses.replace(problem, **floats)
        solution = pccp.convex_step(changed, start, penalty, "jaxopt")
        return jnp.sum(weight * solution.x) + jnp.sum(solution.y)

    gradient = jax.jit(jax.grad(output))
    floats = {name: getattr(problem, name) for name in scales}
    flat, restore = jax.flatten_util.ravel_pytree(floats)
    scale, _ = jax.flatten_util.ravel_pytree(
        {name: jnp.full_like(floats[name], scales[name]) for name in scales}
    )

    @jax.jit
    def differences(penalty):
        steps = 1e-5 * jnp.diag(scale)
        change = jax.lax.map(
            lambda step: (
                output(restore(flat + step), penalty) - output(restore(flat - step), penalty)
            ),
            steps,
        )
        return change / 2e-5

    for penalty in (0.1, 1.0):
        found, _ = jax.flatten_util.ravel_pytree(gradient(floats, penalty))
        expected = differences(penalty)
        assert np.max(np.abs(expected)) > 0.1
        np.testing.assert_allclose(found * scale, expected, atol=1e-6)
    spread = convex_step(problem, start, 1.0).x
    assert np.all(np.sum(spread > 0.01, axis=1) >= 3)
    blocked = jax.grad(
        lambda e: jnp.sum(pccp.convex_step(dataclasses.replace(problem, energy=e), start, 1.0).x)
    )
    np.testing.assert_array_equal(blocked(problem.energy), 0)


@pytest.mark.quick
def test_implicit_root_by_hand():
    """The root of `(x - a, x y - b)` is `(a, b / a)`, with derivatives 1, -b/a^2 and 1/a."""

    def residual(point, args):
        return jnp.array([point[0] - args["a"], point[0] * point[1] - args["b"]])

    def second(args):
        solve = lambda args: jnp.array([args["a"], args["b"] / args["a"]])  # noqa: E731
        return solvers.implicit_root(residual, solve, args)[1]

    value, gradient = jax.value_and_grad(second)({"a": jnp.array(2.0), "b": jnp.array(3.0)})
    np.testing.assert_allclose(value, 1.5)
    np.testing.assert_allclose(gradient["a"], -0.75)
    np.testing.assert_allclose(gradient["b"], 0.5)


@pytest.mark.slow
def test_learning_through_the_relaxation():
    """Prices of local and radio energy are learned from the shares of two PCCP iterations.

    The target are the shares under prices exp(0.4) and exp(-0.3); Adam from prices of 1 brings the
    loss down by a factor of 1000 at least.
    """
    devices = 8
    instance = make_instance("resnet152", distances(3, devices), 20.0, 0.16, 0.04)
    f = jnp.linspace(0.5, 0.8, devices)
    problem = partitioning(instance, jnp.full(devices, 2.5), f)
    local = instance.kappa[:, None] * instance.c * f[:, None] ** 2
    radio = problem.energy - local

    def shares(log_price):
        energy = local * jnp.exp(log_price[0]) + radio * jnp.exp(log_price[1])
        return pccp.relax(dataclasses.replace(problem, energy=energy), 2, 0.3).x

    target = jax.jit(shares)(jnp.array([0.4, -0.3]))
    loss = jax.jit(jax.value_and_grad(lambda v: jnp.mean((shares(v) - target) ** 2)))
    optimizer = optax.adam(0.03)
    log_price = jnp.zeros(2)
    state = optimizer.init(log_price)
    first, _ = loss(log_price)
    for _ in range(60):
        _, gradient = loss(log_price)
        update, state = optimizer.update(gradient, state)
        log_price = optax.apply_updates(log_price, update)
    last, _ = loss(log_price)
    assert first > 0.01
    assert last < first / 1000
    assert log_price[0] > 0.2 and log_price[1] < -0.2


# --------------------------------------------------------------------------------------------------
# Problem (29)


def test_exact_partition_equals_brute_force(cases):
    """Least energy over the points that meet (28), by NumPy, one device at a time."""
    _, batch, _, allocation = cases
    found = jax.jit(jax.vmap(pccp.partition_exact))(batch, allocation.b, allocation.f)
    problems = jax.vmap(pccp.partitioning)(batch, allocation.b, allocation.f)
    moved = 0
    for k in range(BATCH):
        problem = jax.tree.map(lambda x, k=k: np.asarray(x[k]), problems)
        for n in range(DEVICES):
            used = problem.time[n] + problem.sigma[n] * np.sqrt(problem.variance[n])
            meets = (used <= problem.deadline[n] * (1 + 1e-7)) & problem.available[n]
            expected = min(np.flatnonzero(meets), key=lambda m: problem.energy[n, m])
            assert found[k, n] == expected
        moved += np.any(found[k] != allocation.m[k])
    assert moved > 3


def test_without_bandwidth_only_points_without_upload_are_available():
    """With `d_last=0` a device without bandwidth can only stay local."""
    instance = make_instance([0, 0], np.array([50.0, 150.0]), 10.0, 0.28, 0.08, d_last=0.0, n_max=3)
    b, f = jnp.array([0.0, 5.0, 0.0]), jnp.array([1.2, 1.2, 1.2])
    problem = partitioning(instance, b, f)
    np.testing.assert_array_equal(problem.available[0], np.arange(10) == 8)
    np.testing.assert_array_equal(problem.available[1], np.arange(10) <= 8)
    assert not np.any(problem.available[2])
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(problem))
    np.testing.assert_array_equal(pccp.partition_exact(instance, b, f)[::2], [8, 0])
    step = convex_step(problem, pccp.initial_iterate(problem), 1e-3)
    np.testing.assert_allclose(step.x[::2], np.eye(10)[[8, 0]], atol=1e-8)


@pytest.mark.quick
def test_partitioning_by_hand():
    """AlexNet's point 7 at 5 MHz and 1.1 GHz, 150 m away; one block of 0.08 ms is left."""
    instance = make_instance("alexnet", [150.0], 10.0, 0.28, 0.08, p=0.5)
    problem = partitioning(instance, jnp.array([5.0]), jnp.array([1.1]))
    cycles = 1.3123 / 16.1219
    upload_s = 0.04 * 8.388608 / (5 * np.log2(1 + 0.5 * 10**10.6 / 150**3 / 5))
    vm_s = 0.08e-3 + (1.4214 - 1.3123) / 2000
    np.testing.assert_allclose(problem.energy[0, 7], 0.8 * cycles * 1.1**2 + 0.5 * upload_s)
    np.testing.assert_allclose(problem.time[0, 7], cycles / 1.1 + upload_s + vm_s)
    np.testing.assert_allclose(problem.variance[0, 7], 98.876e-6 + (0.1 * vm_s) ** 2)


@pytest.mark.quick
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-6), (np.float64, 1e-7)])
def test_what_is_in_time(dtype, tolerance):
    """The cheap point misses the deadline by half of the tolerance, and by one and a half."""
    late = 0.1 * (1 + tolerance * np.array([[0, 0.5], [0, 1.5]]))
    problem = pccp.Partitioning(
        energy=jnp.array([[1, 0], [1, 0]], dtype),
        time=jnp.asarray(late, dtype),
        variance=jnp.zeros((2, 2), dtype),
        deadline=jnp.full(2, 0.1, dtype),
        sigma=jnp.full(2, 2, dtype),
        available=jnp.ones((2, 2), bool),
    )
    np.testing.assert_array_equal(partition.cheapest_in_time(problem), [1, 0])


@pytest.mark.slow
def test_pccp_equals_cvxpy_and_never_beats_the_exact_partition(cases):
    """Shares, iterations, points and rejections on 30 starts and more; energies of (29)."""
    reference, (count, batch, m, allocation) = references(), cases
    assert count >= 30
    found = batch_pccp(batch, allocation.b, allocation.f, m)
    exact = jax.vmap(pccp.partition_exact)(batch, allocation.b, allocation.f)
    problems = jax.vmap(pccp.partitioning)(batch, allocation.b, allocation.f)
    energy = jax.vmap(take)(problems.energy, found.m)
    assert np.all(jax.vmap(take)(problems.energy, exact) <= energy)
    for k in range(count):
        instance = jax.tree.map(lambda x, k=k: x[k], batch)
        points = int(instance.mask_m.sum(axis=1).max())
        expected = reference(points).pccp(
            unpadded(instance),
            np.asarray(allocation.b[k]),
            np.asarray(allocation.f[k]),
            np.asarray(m[k]),
        )
        np.testing.assert_allclose(found.x[k, :, :points], expected.x, atol=1e-6)
        np.testing.assert_array_equal(found.m[k], expected.m)
        assert (found.iterations[k], found.rejected[k]) == (expected.iterations, expected.rejected)
    assert np.max(found.rejected) > 0 and np.max(found.nonbinary) > 0
    assert len(set(np.asarray(found.iterations[:count]).tolist())) >= 5


@pytest.mark.slow
def test_float32_rounds_to_the_points_of_float64(cases):
    """On 95 % of the starts at least, all devices alike."""
    count, batch, m, allocation = cases
    double = batch_pccp(batch, allocation.b, allocation.f, m)
    single = batch_pccp(to_float32(batch), *map(to_float32, (allocation.b, allocation.f)), m)
    assert single.x.dtype == jnp.float32
    same = np.all(np.asarray(single.m == double.m), axis=1)[:count]
    assert np.mean(same) >= 0.95


@pytest.mark.slow
def test_literal_stop_ends_early_and_far_from_binary(cases):
    """The paper's test alone often ends after two problems, without any effect of the penalty."""
    count, batch, m, allocation = cases
    args = (batch, allocation.b, allocation.f, m)
    literal, full = batch_pccp(*args, literal_stop=True), batch_pccp(*args)
    assert np.all(literal.iterations <= full.iterations)
    early = np.asarray(literal.iterations == 2)[:count]
    assert np.sum(early) >= 10
    assert np.sum(np.asarray(literal.nonbinary > full.nonbinary)[:count][early]) >= 3


def test_current_start():
    """From the points themselves, one-hot, those that are optimal stay at once."""
    instance = section9((0,))[0]
    m = jnp.argmin(bmin_table(instance), axis=1)
    allocation = allocate(instance, m)
    np.testing.assert_array_equal(
        pccp.initial_iterate(partitioning(instance, allocation.b, allocation.f), m).x,
        np.eye(10)[np.asarray(m)],
    )
    np.testing.assert_array_equal(points_from_current(instance, allocation.b, allocation.f, m).m, m)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda i: pccp.pccp(i, i.P, i.fmax, i.model_id, start="zero"),
            "start: 'zero' is not valid; give one of uniform, current",
        ),
        (
            lambda i: pccp.relax(pccp.partitioning(i, i.P, i.fmax), 1, backend="scipy"),
            "backend: 'scipy' is not valid; give one of direct, jaxopt",
        ),
    ],
)
def test_invalid_choices(call, message):
    instance = make_instance("alexnet", [50.0], 1.0, 0.2, 0.04)
    with pytest.raises(ValueError, match=message):
        call(instance)
