"""How fast robust partitioning is solved, with the quality of the answers beside every time.

Algorithm 2 of the paper in CVXPY, one instance at a time, against the batched Algorithm 2 and the
batched certified solver, on the same instances; and problem (23), the allocation for a fixed
partition, alone. AlexNet has 10/12 MHz per device, 180 ms and a risk of 0.02, ResNet152 2.5 MHz,
160 ms and 0.04. An instance counts as optimal within 1e-4 of what branch and bound finds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from allocators import certificate, pccp, robust
from runs.benchmarks import Measurement, compilation_cache_off, median_seconds
from runs.benchmarks.robust_cvxpy import Reference
from runs.solve import published_distances_m

SETTINGS = {"alexnet": (10 / 12, 0.18, 0.02), "resnet152": (2.5, 0.16, 0.04)}
OPTIMAL = 1e-4
KERNEL_SIZE = 2**18


Rates = dict[str, Measurement]
"""CVXPY's instances per second by method."""


class Problems(NamedTuple):
    """Feasible instances of one model and size, and what is known of them."""

    instances: robust.Instance
    best: np.ndarray
    lower: np.ndarray


def make_instances(model: str, num_devices: int, count: int, dtype: Any) -> robust.Instance:
    """The feasible ones of the instances of seeds 0 to count - 1; all models have 10 points."""
    bandwidth, deadline, eps = SETTINGS[model]
    r = [published_distances_m(seed, num_devices) for seed in range(count)]
    ids = np.full(num_devices, list(robust.MODELS).index(model))

    def make(r: chex.Array) -> robust.Instance:
        return robust.make_instance(ids, r, num_devices * bandwidth, deadline, eps)

    instances = jax.vmap(make)(jnp.asarray(np.array(r), dtype))
    possible = np.asarray(jax.vmap(robust.feasible)(instances))
    return jax.tree.map(lambda leaf: leaf[possible], instances)


def _one(tree: Any, index: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], tree)


def tiled(tree: Any, size: int) -> Any:
    """The first ``size`` instances, repeated where there are fewer."""
    return jax.tree.map(lambda leaf: leaf[np.arange(size) % leaf.shape[0]], tree)


def solve_exactly(instances: robust.Instance) -> Problems:
    """Energies by branch and bound, and its lower bounds."""
    proofs = [
        certificate.branch_and_bound(_one(instances, i), 1e-6)[1]
        for i in range(instances.B.shape[0])
    ]
    best, lower = (np.array([float(getattr(p, end)) for p in proofs]) for end in ("ub", "lb"))
    return Problems(instances, best, lower)


def quality(name: str, energy: np.ndarray, problems: Problems) -> list[Measurement]:
    """Mean energy, excess over the lower bound, and the share that is optimal."""
    count = len(energy)
    best, lower = problems.best[:count], problems.lower[:count]
    finite = np.where(np.isfinite(energy), energy, np.nan)
    return [
        Measurement(f"{name}: energy", float(np.nanmean(finite)), "J"),
        Measurement(f"{name}: excess over bound", 100 * float(np.nanmean(finite / lower - 1)), "%"),
        Measurement(f"{name}: optimal", 100 * float(np.mean(energy <= best * (1 + OPTIMAL))), "%"),
    ]


def _decide_all(instances: robust.Instance) -> robust.Allocation:
    return jax.vmap(certificate.solve)(instances)[0]


def _alternate_all(instances: robust.Instance) -> robust.Allocation:
    return jax.vmap(pccp.algorithm2)(instances).best


def _allocate_all(instances: robust.Instance) -> robust.Allocation:
    """Problem (23) at the partition of least bandwidth."""
    m = jnp.argmin(jax.vmap(robust.bmin_table)(instances), axis=-1)
    return jax.vmap(robust.allocate)(instances, m)


METHODS: dict[str, Callable[[robust.Instance], robust.Allocation]] = {
    "certified": _decide_all,
    "Algorithm 2": _alternate_all,
    "(23)": _allocate_all,
}


def measure_reference(
    name: str, problems: Problems, count: int
) -> tuple[dict[str, Measurement], list[Measurement], np.ndarray | None]:
    """CVXPY's Algorithm 2 and (23), one instance at a time.

    Returns:
        Instances per second by method, everything measured, and the partitions of Algorithm 2; all
        empty where its package (extra ``dev``) is not installed, or count is 0.
    """
    count = min(count, len(problems.best))
    if count == 0:
        return {}, [], None
    instances = jax.tree.map(np.asarray, problems.instances)
    points = int(instances.mask_m[0].sum(axis=1).max())

    def trimmed(i: int) -> robust.Instance:
        cut = lambda leaf: leaf[..., :points] if leaf.ndim == 2 else leaf  # noqa: E731
        return jax.tree.map(cut, _one(instances, i))

    try:
        reference = Reference(instances.D.shape[1], points)
    except ImportError:
        print("CVXPY is not installed; compare with it after: pip install 'jaxenv[dev]'")
        return {}, [], None
    starts = [np.asarray(robust.bmin_table(_one(instances, i))).argmin(1) for i in range(count)]
    began = time.perf_counter()
    solved = [reference.algorithm2(trimmed(i), starts[i]) for i in range(count)]
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    allocated = [reference.allocate(trimmed(i), starts[i]) for i in range(count)]
    seconds_23 = time.perf_counter() - began
    rates = {
        "Algorithm 2": Measurement(f"{name}, CVXPY Algorithm 2", count / seconds, "instances/s"),
        "(23)": Measurement(f"{name}, CVXPY (23)", count / seconds_23, "instances/s"),
    }
    built = Measurement(f"{name}, CVXPY: build time", reference.build_s, "s")
    energies = np.array([result.energy for result in solved])
    found = quality(f"{name}, CVXPY Algorithm 2", energies, problems)
    partitions = np.stack([result.m for result in solved])
    mean = float(np.mean([one.energy for one in allocated]))
    energy = Measurement(f"{name}, CVXPY (23): energy", mean, "J")
    return rates, [built, rates["Algorithm 2"], *found, rates["(23)"], energy], partitions


def kernel_rate(dtype: Any, repeats: int) -> float:
    """Evaluations per second of `robust.log_slope`, the kernel of all solvers, on long vectors."""
    inst = robust.make_instance([0], jnp.asarray([100.0], dtype), 1.0, 0.2, 0.04)
    links = jax.tree.map(lambda x: jnp.full(KERNEL_SIZE, x), robust.links_at(inst, jnp.array([7])))
    log_b = jnp.linspace(-2, 2, KERNEL_SIZE, dtype=dtype)
    call = jax.jit(lambda links, x: robust.log_slope(links, x, x < 1))
    jax.block_until_ready(call(links, log_b))
    return KERNEL_SIZE / median_seconds(lambda: call(links, log_b), repeats)


def benchmark_robust(config: dict[str, Any]) -> list[Measurement]:
    """Every method on ``num_instances`` instances per model, for each of ``num_devices``.

    ``batch_sizes`` instances go through one call; ``num_reference`` of them through CVXPY. The
    floor is the rate at which the kernel alone could be evaluated as often as the certified solver
    does.
    """
    results: list[Measurement] = []
    references: dict[str, Rates] = {}
    for dtype_name in ("float64", "float32"):
        with jax.enable_x64(True):
            kernels = kernel_rate(np.dtype(dtype_name), config["repeats"])
        unit = f"kernel, {dtype_name}"
        results.append(Measurement(unit, kernels, "evaluations/s", config["repeats"]))
        for num_devices in config["num_devices"]:
            with jax.enable_x64(True):
                results += _measure(config, num_devices, dtype_name, kernels, references)
    return results


def _measure(
    config: dict[str, Any],
    num_devices: int,
    dtype_name: str,
    kernels: float,
    references: dict[str, Rates],
) -> list[Measurement]:
    """All models and methods at one size and precision; double precision fills references."""
    results, double = [], dtype_name == "float64"
    problems, partitions = {}, {}
    for model in SETTINGS:
        instances = make_instances(model, num_devices, config["num_instances"], np.float64)
        problems[model] = solve_exactly(instances)
        name = f"{model} N={num_devices}"
        if double:
            references[name], found, partitions[model] = measure_reference(
                name, problems[model], config["num_reference"]
            )
            count = Measurement(f"{name}: feasible instances", len(instances.B), "instances")
            results += [count, *found]
    methods = METHODS if double else {"certified": METHODS["certified"]}
    for method, function in methods.items():
        for size in config["batch_sizes"]:
            compiled = None
            for model, known in problems.items():
                label = f"{model} N={num_devices}, {method} {dtype_name} at {size}"
                batch = jax.tree.map(partial(_cast, dtype_name), tiled(known.instances, size))
                if compiled is None:
                    with compilation_cache_off():
                        began = time.perf_counter()
                        compiled = jax.jit(function).lower(batch).compile()
                        seconds = time.perf_counter() - began
                    results.append(Measurement(f"{label}: compile time", seconds, "s"))
                answer = jax.block_until_ready(compiled(batch))
                rate = size / median_seconds(partial(compiled, batch), config["repeats"])
                rates = references.get(f"{model} N={num_devices}", {})
                first = rates.get("(23)" if method == "(23)" else "Algorithm 2")
                results.append(
                    Measurement(
                        label,
                        rate,
                        "instances/s",
                        config["repeats"],
                        first.name if first else None,
                        rate / first.value if first else None,
                    )
                )
                count = min(size, len(known.best))
                if method == "(23)":
                    mean = float(jnp.mean(answer.E[:count]))
                    results.append(Measurement(f"{label}: energy", mean, "J"))
                    continue
                energy = answer.E[:count]
                if not double:  # what the partition costs, without this precision's rounding
                    first_ones = jax.tree.map(lambda x, n=count: x[:n], known.instances)
                    energy = jax.vmap(robust.value)(first_ones, answer.m[:count])
                results += quality(label, np.asarray(energy), known)
                reference = partitions.get(model)
                if method == "Algorithm 2" and reference is not None:
                    count = min(count, len(reference))
                    same = np.all(np.asarray(answer.m)[:count] == reference[:count], axis=1)
                    same = 100 * float(np.mean(same))
                    results.append(Measurement(f"{label}: CVXPY's partition", same, "%"))
        if method == "certified":
            for model, known in problems.items():
                batch = jax.tree.map(partial(_cast, dtype_name), known.instances)
                proof = jax.jit(jax.vmap(certificate.solve))(batch)[1]
                label = f"{model} N={num_devices}, certified {dtype_name}"
                evaluations = float(np.mean(proof.evaluations))
                points = batch.c.shape[-1]
                plain = 48 * 48 * num_devices * points
                plain += (2 * num_devices + 3) * 40 * 40 * num_devices
                results += [
                    Measurement(f"{label}: gap", float(np.mean(proof.gap)), "of the energy"),
                    Measurement(f"{label}: evaluations", evaluations, "per instance"),
                    Measurement(f"{label}: evaluations by bisection", plain, "per instance"),
                    Measurement(f"{label}: floor", kernels / evaluations, "instances/s"),
                ]
    return results


def _cast(dtype: str, leaf: chex.Array) -> chex.Array:
    return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
