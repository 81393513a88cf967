"""Certified optima and Algorithm 2 on the instances of the robust partitioning figures."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from allocators import certificate, pccp, robust
from runs.benchmarks import allocators as benchmark
from runs.benchmarks import compilation_cache_off, median_seconds
from runs.reproductions.robust import expected, scenarios
from runs.solve import PUBLISHED_MHZ
from runs.tables import Row

BATCH = 64
LEAST_BANDWIDTH = -1  # a start of Algorithm 2
STATUSES = {
    pccp.CONVERGED: "converged",
    pccp.INFEASIBLE_START: "infeasible start",
    pccp.INFEASIBLE_STEP: "infeasible step",
    pccp.STEP_LIMIT: "step limit",
}


_solve = jax.jit(jax.vmap(certificate.solve))


def _alternate(
    inst: robust.Instance, start: jax.Array, literal_stop: jax.Array, step: pccp.Step
) -> pccp.Alternation:
    """Algorithm 2 from one point for all devices, or from their points of least bandwidth."""
    least = jnp.argmin(robust.bmin_table(inst), axis=1)
    m = jnp.where(start == LEAST_BANDWIDTH, least, start)
    return pccp.algorithm2(inst, m, step, literal_stop=literal_stop)


_alternations: dict[str, Callable[..., pccp.Alternation]] = {
    step: jax.jit(jax.vmap(partial(_alternate, step=step))) for step in ("pccp", "exact")
}


def _in_batches(function: Callable[..., Any], args: Any, label: str) -> Any:
    """``function(*args)``, `BATCH` instances in a call, as NumPy arrays."""
    args = jax.device_get(args)
    count = len(jax.tree.leaves(args)[0])
    parts = []
    with tqdm(total=count, desc=label, unit="instance", leave=False) as bar:
        for first in range(0, count, BATCH):
            index = np.minimum(np.arange(first, first + BATCH), count - 1)
            part = jax.device_get(function(*jax.tree.map(lambda x, i=index: x[i], args)))
            size = min(BATCH, count - first)
            parts.append(jax.tree.map(lambda x, n=size: x[:n], part))
            bar.update(size)
    return jax.tree.map(lambda *x: np.concatenate(x), *parts)


def solve(
    cells: Sequence[scenarios.Cell], n_max: int = scenarios.MOST_DEVICES
) -> tuple[robust.Allocation, certificate.Certificate]:
    """Certified optima of cells, arrays with a leading axis."""
    with jax.enable_x64(True):
        return _in_batches(_solve, (scenarios.instances(cells, n_max),), "certified optimum")


def alternate(
    cells: Sequence[scenarios.Cell],
    start: Sequence[int] | int = LEAST_BANDWIDTH,
    step: pccp.Step = "pccp",
    literal_stop: bool = False,
    n_max: int = scenarios.MOST_DEVICES,
) -> pccp.Alternation:
    """Algorithm 2 of cells from points ``start``, the same for all devices of a cell."""
    with jax.enable_x64(True):
        start = np.broadcast_to(np.asarray(start, np.int32), len(cells))
        stop = np.full(len(cells), literal_stop)
        args = scenarios.instances(cells, n_max), start, stop
        return _in_batches(_alternations[step], args, f"Algorithm 2, {step} step")


def measured(cells: Sequence[scenarios.Cell], alternating: bool = True) -> list[Row]:
    """A row per cell: its optimum and, but for the worst case, what Algorithm 2 finds."""
    proof = solve(cells)[1]
    rows = [
        dataclasses.asdict(cell)
        | {
            "energy_j": float(proof.ub[i]),
            "lower_bound_j": float(proof.lb[i]),
            "gap": float(proof.gap[i]),
            "least_bandwidth_mhz": float(proof.b_min_total[i]),
            "algorithm2_j": np.nan,
            "algorithm2_excess_pct": np.nan,
            "iterations": np.nan,
            "calls": 0,
        }
        for i, cell in enumerate(cells)
    ]
    asked = [i for i, cell in enumerate(cells) if alternating and not cell.worst_case]
    if asked:
        found = alternate([cells[i] for i in asked])
        for k, i in enumerate(asked):
            rows[i]["algorithm2_j"] = float(found.best.E[k])
            rows[i]["algorithm2_excess_pct"] = excess_pct(found.best.E[k], proof.ub[i])
            calls = found.iterations[k] > 0
            rows[i]["iterations"] = float(np.mean(found.iterations[k][calls])) if calls.any() else 0
            rows[i]["calls"] = int(calls.sum())
    return rows


def excess_pct(energy: Any, least: Any) -> float:
    """By how much an energy is above the least, %; infinite when infeasible."""
    return round(float(100 * (energy / least - 1)), 9) + 0.0 if np.isfinite(energy) else np.inf


def pooled(rows: Iterable[Row], shown: Sequence[str]) -> list[Row]:
    """Means over seeds 0 to 3 and over the held-out seeds; empty unless all are feasible.

    shown: what is averaged besides energies and bounds.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    names = [field.name for field in dataclasses.fields(scenarios.Cell) if field.name != "seed"]
    for row in rows:
        key = (*(row[name] for name in names), row["seed"] >= scenarios.HELD_OUT[0])
        groups.setdefault(key, []).append(row)

    def mean(own: list[Row], name: str) -> float | None:
        values = [row[name] for row in own]
        return float(np.mean(values)) if np.isfinite(values).all() else None

    result = []
    for key, own in groups.items():
        seeds = [row["seed"] for row in own]
        energies = [row["energy_j"] for row in own]
        complete = bool(np.isfinite(energies).all())
        result.append(
            dict(zip(names, key, strict=False))
            | {"seeds": f"{min(seeds)} to {max(seeds)}", "instances": len(own)}
            | {"feasible": int(np.isfinite(energies).sum())}
            | {name: mean(own, name) for name in ("energy_j", "lower_bound_j")}
            | {"energy_low_j": min(energies) if complete else None}
            | {"energy_high_j": max(energies) if complete else None}
            | {name: mean(own, name) for name in shown}
        )
    return result


def starts_of(network: str) -> tuple[int, ...]:
    """All points, each for all devices, and the points of least bandwidth."""
    return (*range(len(robust.MODELS[network].table["d_MB"])), LEAST_BANDWIDTH)


def from_starts(
    asked: dict[str, Sequence[int]], step: pccp.Step = "pccp", literal_stop: bool = False
) -> list[Row]:
    """A row per network, profile, seed and start of figure 10: how Algorithm 2 ends."""
    cells, starts = [], []
    for network, points in asked.items():
        bandwidth, deadline = expected.FIG10[network]
        own = scenarios.grid(
            network, scenarios.PROFILES, 12, expected.FIG10_SEEDS, bandwidth, deadline, 0.04
        )
        cells += [cell for cell in own for _ in points]
        starts += [start for _ in own for start in points]
    distinct = list(dict.fromkeys(cells))
    proof = solve(distinct)[1]
    found = alternate(cells, starts, step, literal_stop)
    rows = []
    for k, (cell, start) in enumerate(zip(cells, starts, strict=True)):
        i = distinct.index(cell)
        optimum, lower = float(proof.ub[i]), float(proof.lb[i])
        steps = max(int(found.steps[k]), 0)
        excess = excess_pct(found.best.E[k], lower)
        m, b = (x[k][: cell.devices] for x in (found.best.m, found.best.b))
        local = m == starts_of(cell.network)[-2]
        mixed = np.isfinite(excess) and excess > 0.1 and not local.all()
        rows.append(
            dataclasses.asdict(cell)
            | {
                "step": step,
                "start": start,
                "status": STATUSES[int(found.status[k])],
                "energy_j": float(found.best.E[k]),
                "lower_bound_j": lower,
                "excess_pct": excess,
                "outer_steps": steps,
                "iterations": [int(x) for x in found.iterations[k][:steps]],
                "rejected": int(found.rejected[k].sum()),
                "nonbinary": int(found.nonbinary[k].sum()),
                "trajectory_pct": [excess_pct(e, optimum) for e in found.history[k][: steps + 1]],
                "mixed_local_mhz": [float(x) for x in b[local]] if mixed else [],
            }
        )
    return rows


def timed(plan: scenarios.Plan) -> list[Row]:
    """A row per number of devices and network; both networks share a program.

    Calls of different sizes alternate, so that a change of the machine's load meets all of them.
    """
    with jax.enable_x64(True):
        rows, calls = [], []
        for devices in tqdm(plan.timed, desc="compiling", unit="program", leave=False):
            compiled, compile_s = None, 0.0
            for network in scenarios.NETWORKS:
                made = benchmark.make_instances(network, devices, 2 * plan.timed_batch, np.float64)
                batch = benchmark.tiled(made, plan.timed_batch)
                if compiled is None:
                    with compilation_cache_off():
                        began = time.perf_counter()
                        compiled = jax.jit(jax.vmap(pccp.algorithm2)).lower(batch).compile()
                        compile_s = time.perf_counter() - began
                problems = np.asarray(jax.block_until_ready(compiled(batch)).iterations)
                calls.append(partial(compiled, batch))
                rows.append(
                    {
                        "network": network,
                        "devices": devices,
                        "cores": cores(),
                        "instances_per_call": plan.timed_batch,
                        "distinct_instances": min(plan.timed_batch, len(made.B)),
                        "convex_problems_per_device": float(np.mean(problems.sum(axis=1))),
                        "partition_steps": float(np.mean((problems > 0).sum(axis=1))),
                        "compile_time_s": compile_s,
                    }
                )
        seconds = [
            [median_seconds(call, 1) for call in calls]
            for _ in tqdm(range(plan.repeats), desc="Algorithm 2, timed", unit="round", leave=False)
        ]
        for row, median in zip(rows, np.median(seconds, axis=0), strict=True):
            row["time_per_instance_ms"] = 1e3 * float(median) / plan.timed_batch
        return rows


def cores() -> int:
    """Cores that this process may use."""
    known = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1


def exhausted(plan: scenarios.Plan) -> np.ndarray:
    """Energy of the certified solver over that of exhaustive search, less 1, per instance.

    Random networks, profiles, 2 to 4 devices, deadlines, risks and bandwidths; only feasible ones.
    """
    rng = np.random.default_rng(plan.seed)
    cells = []
    for seed in range(plan.searched):
        network, devices = str(rng.choice(scenarios.NETWORKS)), int(rng.integers(2, 5))
        cells += scenarios.grid(
            network,
            str(rng.choice(scenarios.PROFILES)),
            devices,
            seed,
            float(devices * PUBLISHED_MHZ[network] * rng.uniform(0.7, 2)),
            float(rng.uniform(*expected.DEADLINE_RANGE_MS[network])),
            float(rng.uniform(0.02, 0.08)),
        )
    found = solve(cells)[1].ub
    best = []
    with jax.enable_x64(True):
        made = scenarios.instances(cells, n_max=4)
        for i in tqdm(range(len(cells)), desc="exhaustive search", leave=False):
            best.append(float(_exhaustive(jax.tree.map(lambda x, i=i: x[i], made))))
    possible = np.isfinite(best)
    return found[possible] / np.array(best)[possible] - 1


_exhaustive = jax.jit(lambda inst: robust.exhaustive(inst).E)
_violations = jax.jit(
    lambda keys, inst, allocation, law, samples: jax.lax.map(
        lambda one: robust.violation(*one, law, samples), (keys, inst, allocation)
    ),
    static_argnames=("law", "samples"),
)


def violated(cells: Sequence[scenarios.Cell], plan: scenarios.Plan) -> list[Row]:
    """A row per law and cell: how often inferences at the optimum are late."""
    allocation, proof = solve(cells)
    rows: list[Row] = []
    with jax.enable_x64(True):
        made = jax.tree.map(lambda x: x[:, :12] if x.ndim > 1 else x, scenarios.instances(cells))
        chosen = jax.tree.map(lambda x: x[:, :12] if x.ndim > 1 else x, allocation)
        largest = np.asarray(_largest_share(made, chosen.m))
        keys = jax.random.split(jax.random.key(plan.seed), len(cells))
        for law in tqdm(robust.LAWS, desc="violation", unit="law", leave=False):
            late = np.asarray(_violations(keys, made, chosen, law, plan.samples))
            for i, cell in enumerate(cells):
                tight = np.abs(chosen.slack[i]) < 1e-9
                alone = late[i][tight & (largest[i] >= 0.97)]
                rows.append(
                    dataclasses.asdict(cell)
                    | {"law": law, "samples": plan.samples, "feasible": bool(proof.feasible[i])}
                    | {"violation_worst": float(late[i].max())}
                    | {"violation_mean": float(late[i].mean())}
                    | {"tight_devices": int(tight.sum())}
                    | {"one_part_devices": len(alone)}
                    | {"one_part_low": float(alone.min()) if alone.size else None}
                    | {"one_part_high": float(alone.max()) if alone.size else None}
                )
    return rows


@jax.jit
@jax.vmap
def _largest_share(inst: robust.Instance, m: jax.Array) -> jax.Array:
    """The larger of the two parts of each device's variance, ``[N]``."""
    local, edge = robust.take((inst.vloc, inst.vvm), m)
    return jnp.maximum(local, edge) / jnp.maximum(local + edge, robust.TINY)
