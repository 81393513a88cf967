"""Figures 9 to 14 of "Robust DNN Partitioning and Resource Allocation Under Uncertain Inference
Time" (IEEE TMC, arXiv 2503.21476), and three figures that the paper lacks.

    python -m runs.reproduce figure=robust/fig13 scale=smoke
    python -m runs.reproduce figure=robust/all scale=paper

    fig09        iterations of Algorithm 1 over the number of devices
    fig10        Algorithm 2 from three starts
    fig11        its time per instance over the number of devices
    fig12        energy over the number of devices, and its excess over the certified optimum
    fig13        AlexNet: energy over the risk and over the deadline, beside the worst-case policy
    fig14        the same for ResNet152
    gap          certified gap over the number of devices
    starts       Algorithm 2 against its start
    violation    simulated deadline violation by law (figures 13c and 14c)

All in two profiles: `literal` has the printed constants, `calibrated` 30 dB more gain. Energies are
certified optima in float64 whatever the precision of the program. Instances are padded to 30
devices and 10 partitioning points, so that one compiled program of each solver serves all figures
but fig11, which times one program per number of devices.

Positions are those of seeds 0 to 3, on which the profile and the worst case were fitted, and in
``paper`` also of seeds 100 to 109, which were not used for that; ``seed`` is that of the simulated
violations. ``smoke`` takes some minutes on 2 cores: fewer samples, no held-out seeds.
"""

from __future__ import annotations

import dataclasses
import itertools
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
from jaxenv.errors import ConfigError
from runs.benchmarks import allocators as benchmark
from runs.benchmarks import median_seconds
from runs.benchmarks.training import compilation_cache_off
from runs.reproductions import Reproduction
from runs.reproductions import robust_claims as claims
from runs.reproductions import robust_expected as expected
from runs.reproductions import robust_figures as drawings
from runs.settings import Config
from runs.solve import PUBLISHED_MHZ, published_distances_m
from runs.tables import Row

NETWORKS = tuple(robust.MODELS)
PROFILES = tuple(robust.GAIN_DB)
SEEDS, HELD_OUT = (0, 1, 2, 3), tuple(range(100, 110))
MOST_DEVICES = 30
BATCH = 64
LEAST_BANDWIDTH = -1  # a start of Algorithm 2


@dataclasses.dataclass(frozen=True)
class Cell:
    """One instance: who, where, and under which limits.

    worst_case: whether K standard deviations replace those that the risk demands.
    """

    network: str
    profile: str
    devices: int
    seed: int
    bandwidth_mhz: float
    deadline_ms: float
    risk: float
    worst_case: bool = False


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a scale measures.

    held_out: seeds besides 0 to 3. samples: of a simulated violation. timed: numbers of devices of
    figure 11; timed_batch, repeats: instances per call, and rounds of calls. searched: random
    instances that are also searched exhaustively.
    """

    held_out: tuple[int, ...]
    samples: int
    timed: tuple[int, ...]
    timed_batch: int
    repeats: int
    searched: int
    seed: int


def plan_of(config: Config) -> Plan:
    """What a configuration asks for."""
    if config.get("num_seeds") is not None:
        valid = "the figures are means over seeds 0 to 3; leave it out"
        raise ConfigError("num_seeds", config["num_seeds"], valid)
    if config["scale"] == "paper":
        return Plan(HELD_OUT, 400_000, (2, 5, 12, 20, 30), 64, 15, 200, config["seed"])
    return Plan((), 40_000, (2, 12, 30), 16, 9, 20, config["seed"])


def grid(**axes: Any) -> list[Cell]:
    """All combinations of the fields of `Cell`; a field is a sequence or one value."""
    listed = [x if isinstance(x, (list, tuple, range)) else (x,) for x in axes.values()]
    return [Cell(**dict(zip(axes, x, strict=True))) for x in itertools.product(*listed)]


# ---- instances and their answers ----------------------------------------------------------------


@jax.jit
@jax.vmap
def _make(model, r, count, bandwidth, deadline, risk, gain_db, std) -> robust.Instance:
    made = robust.make_instance(model, r, bandwidth, deadline, risk, gain_db=gain_db)
    made = robust.only(made, jnp.arange(r.shape[0]) < count)
    worst = robust.worst_case(made, std)
    return made.replace(sigma=jnp.where(jnp.isnan(std), made.sigma, worst.sigma))


def instances(cells: Sequence[Cell], n_max: int = MOST_DEVICES) -> robust.Instance:
    """The instances of cells, with a leading axis, padded to ``n_max`` devices and 10 points."""

    def std(cell: Cell) -> float:
        fitted = robust.MODELS[cell.network].worst_case_k[cell.profile]
        return fitted if cell.worst_case else np.nan

    r = [published_distances_m(cell.seed, cell.devices) for cell in cells]
    ids = [[NETWORKS.index(cell.network)] * n_max for cell in cells]
    return _make(
        np.array(ids, np.int32),
        np.stack([np.pad(row, (0, n_max - len(row)), mode="edge") for row in r]),
        np.array([cell.devices for cell in cells], np.int32),
        np.array([cell.bandwidth_mhz for cell in cells]),
        np.array([cell.deadline_ms / 1e3 for cell in cells]),
        np.array([cell.risk for cell in cells]),
        np.array([robust.GAIN_DB[cell.profile] for cell in cells]),
        np.array([std(cell) for cell in cells]),
    )


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
    cells: Sequence[Cell], n_max: int = MOST_DEVICES
) -> tuple[robust.Allocation, certificate.Certificate]:
    """Certified optima of cells, arrays with a leading axis."""
    with jax.enable_x64(True):
        return _in_batches(_solve, (instances(cells, n_max),), "certified optimum")


def alternate(
    cells: Sequence[Cell],
    start: Sequence[int] | int = LEAST_BANDWIDTH,
    step: pccp.Step = "pccp",
    literal_stop: bool = False,
    n_max: int = MOST_DEVICES,
) -> pccp.Alternation:
    """Algorithm 2 of cells from points ``start``, the same for all devices of a cell."""
    with jax.enable_x64(True):
        start = np.broadcast_to(np.asarray(start, np.int32), len(cells))
        stop = np.full(len(cells), literal_stop)
        args = instances(cells, n_max), start, stop
        return _in_batches(_alternations[step], args, f"Algorithm 2, {step} step")


def measured(cells: Sequence[Cell], alternating: bool = True) -> list[Row]:
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
    names = [field.name for field in dataclasses.fields(Cell) if field.name != "seed"]
    for row in rows:
        key = (*(row[name] for name in names), row["seed"] >= HELD_OUT[0])
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


ALTERNATED = ("least_bandwidth_mhz", "gap", "algorithm2_j", "algorithm2_excess_pct")


# ---- convergence and time -----------------------------------------------------------------------


def fig09(config: Config) -> Reproduction:
    """Iterations of Algorithm 1, mean over its calls in Algorithm 2 from the least bandwidth."""
    plan_of(config)
    rows = measured(
        [
            cell
            for network, deadline in expected.FIG12_DEADLINE_MS.items()
            for devices in expected.FIG09_DEVICES
            for cell in grid(
                network=network,
                profile=PROFILES,
                devices=devices,
                seed=SEEDS,
                bandwidth_mhz=devices * PUBLISHED_MHZ[network],
                deadline_ms=deadline,
                risk=0.02,
            )
        ]
    )
    data = pooled(rows, ("iterations", "algorithm2_excess_pct"))
    for row in data:
        where = {name: row[name] for name in ("network", "profile", "devices")}
        row["iterations"] = claims.iterations(rows, **where)
    return Reproduction(data, claims.fig09(rows), drawings.fig09(data))


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
        own = grid(
            network=network,
            profile=PROFILES,
            devices=12,
            seed=expected.FIG10_SEEDS,
            bandwidth_mhz=bandwidth,
            deadline_ms=deadline,
            risk=0.04,
        )
        cells += [cell for cell in own for _ in points]
        starts += [start for _ in own for start in points]
    distinct = list(dict.fromkeys(cells))
    proof = solve(distinct)[1]
    found = alternate(cells, starts, step, literal_stop)
    return [
        _ending(cell, start, step, found, k, proof, distinct.index(cell))
        for k, (cell, start) in enumerate(zip(cells, starts, strict=True))
    ]


def _ending(
    cell: Cell,
    start: int,
    step: str,
    found: pccp.Alternation,
    k: int,
    proof: certificate.Certificate,
    i: int,
) -> Row:
    """Row of one run of Algorithm 2, number k, on the instance number i."""
    optimum, lower = float(proof.ub[i]), float(proof.lb[i])
    steps = max(int(found.steps[k]), 0)
    excess = excess_pct(found.best.E[k], lower)
    m, b = (x[k][: cell.devices] for x in (found.best.m, found.best.b))
    local = m == starts_of(cell.network)[-2]
    mixed = np.isfinite(excess) and excess > 0.1 and not local.all()
    return dataclasses.asdict(cell) | {
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


STATUSES = {
    pccp.CONVERGED: "converged",
    pccp.INFEASIBLE_START: "infeasible start",
    pccp.INFEASIBLE_STEP: "infeasible step",
    pccp.STEP_LIMIT: "step limit",
}


def fig10(config: Config) -> Reproduction:
    """Algorithm 2 from the starts of the paper, step by step, against the certified optimum."""
    plan_of(config)
    rows = from_starts(expected.FIG10_STARTS)
    names = ("network", "profile", "seed", "start", "status")
    data = [
        {name: row[name] for name in names}
        | {
            "outer_step": index,
            "excess_pct": value if np.isfinite(value) else None,
        }
        for row in rows
        for index, value in enumerate(row["trajectory_pct"])
    ]
    return Reproduction(data, claims.fig10(rows), drawings.fig10(data))


def fig11(config: Config) -> Reproduction:
    """Time of batched Algorithm 2 per instance over the number of devices, one program each."""
    plan = plan_of(config)
    with jax.enable_x64(True):
        rows = _timed(plan)
    return Reproduction(rows, claims.fig11(rows), drawings.fig11(rows))


def _timed(plan: Plan) -> list[Row]:
    """A row per number of devices and network; both networks share a program.

    Calls of different sizes alternate, so that a change of the machine's load meets all of them.
    """
    rows, calls = [], []
    for devices in tqdm(plan.timed, desc="compiling", unit="program", leave=False):
        compiled, compile_s = None, 0.0
        for network in NETWORKS:
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


# ---- energies -----------------------------------------------------------------------------------


def fig12(config: Config) -> Reproduction:
    """Energy over the number of devices at two risks, and Algorithm 2's excess."""
    plan_of(config)
    rows = measured(
        [
            cell
            for network, bandwidth in expected.FIG12_MHZ.items()
            for cell in grid(
                network=network,
                profile=PROFILES,
                devices=expected.FIG12_DEVICES,
                seed=SEEDS,
                bandwidth_mhz=bandwidth,
                deadline_ms=expected.FIG12_DEADLINE_MS[network],
                risk=(0.02, 0.04),
            )
        ]
    )
    data = pooled(rows, ALTERNATED)
    return Reproduction(data, claims.fig12(rows), drawings.fig12(data))


def _sweeps(network: str, seeds: Sequence[int]) -> list[Cell]:
    """Both sweeps of figure 13 or 14: risks at one deadline, and deadlines at one risk."""
    common = {
        "network": network,
        "profile": PROFILES,
        "devices": 12,
        "seed": tuple(seeds),
        "bandwidth_mhz": expected.SWEEP_MHZ[network],
    }
    deadline, risk = expected.RISK_SWEEP_MS[network], expected.DEADLINE_SWEEP_RISK[network]
    deadlines = expected.DEADLINES_MS[network]
    cells = grid(**common, deadline_ms=deadline, risk=expected.RISKS)
    cells += grid(**common, deadline_ms=deadlines, risk=risk)
    cells += grid(**common, deadline_ms=deadlines, risk=risk, worst_case=True)
    return list(dict.fromkeys(cells))


def _energies(config: Config, network: str) -> tuple[list[Row], list[Row], list[Row]]:
    """Rows of the sweeps, rows of the required bandwidth over 20 seeds, and their means."""
    plan = plan_of(config)
    rows = measured(_sweeps(network, SEEDS + plan.held_out))
    required = grid(
        network=network,
        profile="literal",
        devices=12,
        seed=range(20),
        bandwidth_mhz=expected.SWEEP_MHZ[network],
        deadline_ms=expected.IMPOSSIBLE_MS[network],
        risk=0.02,
    )
    return rows, measured(required, alternating=False), pooled(rows, ALTERNATED)


def fig13(config: Config) -> Reproduction:
    """AlexNet: energy over the risk and over the deadline."""
    rows, required, data = _energies(config, "alexnet")
    return Reproduction(data, claims.fig13(rows, required), drawings.sweeps(data, "alexnet"))


def fig14(config: Config) -> Reproduction:
    """ResNet152: energy over the risk and over the deadline."""
    rows, required, data = _energies(config, "resnet152")
    return Reproduction(data, claims.fig14(rows, required), drawings.sweeps(data, "resnet152"))


# ---- what the paper lacks -----------------------------------------------------------------------


def gap(config: Config) -> Reproduction:
    """Certified gap over the number of devices, and exhaustive search on small instances."""
    plan = plan_of(config)
    cells = [
        cell
        for network, deadline, risk in expected.GAP_SETTINGS
        for devices in expected.GAP_DEVICES
        for cell in grid(
            network=network,
            profile=PROFILES,
            devices=devices,
            seed=expected.GAP_SEEDS,
            bandwidth_mhz=devices * PUBLISHED_MHZ[network],
            deadline_ms=deadline,
            risk=risk,
        )
    ]
    rows = measured(cells, alternating=False)
    data = pooled(rows, ("gap",))
    return Reproduction(data, claims.gap(rows, exhausted(plan)), drawings.gap(data))


def exhausted(plan: Plan) -> np.ndarray:
    """Energy of the certified solver over that of exhaustive search, less 1, per instance.

    Random networks, profiles, 2 to 4 devices, deadlines, risks and bandwidths; only feasible ones.
    """
    rng = np.random.default_rng(plan.seed)
    cells = []
    for seed in range(plan.searched):
        network, devices = str(rng.choice(NETWORKS)), int(rng.integers(2, 5))
        cells += grid(
            network=network,
            profile=str(rng.choice(PROFILES)),
            devices=devices,
            seed=seed,
            bandwidth_mhz=float(devices * PUBLISHED_MHZ[network] * rng.uniform(0.7, 2)),
            deadline_ms=float(rng.uniform(*expected.DEADLINE_RANGE_MS[network])),
            risk=float(rng.uniform(0.02, 0.08)),
        )
    found = solve(cells)[1].ub
    best = []
    with jax.enable_x64(True):
        made = instances(cells, n_max=4)
        for i in tqdm(range(len(cells)), desc="exhaustive search", leave=False):
            best.append(float(_exhaustive(jax.tree.map(lambda x, i=i: x[i], made))))
    possible = np.isfinite(best)
    return found[possible] / np.array(best)[possible] - 1


_exhaustive = jax.jit(lambda inst: robust.exhaustive(inst).E)


def starts(config: Config) -> Reproduction:
    """Algorithm 2 from every common point and from the least bandwidth, and how it fails."""
    plan_of(config)
    asked = {network: starts_of(network) for network in NETWORKS}
    rows = from_starts(asked) + from_starts(asked, "exact")
    literal = from_starts(asked, literal_stop=True)
    lists = ("iterations", "trajectory_pct", "mixed_local_mhz")
    data = [
        {name: row[name] for name in row if name not in lists}
        | {"energy_j": row["energy_j"] if np.isfinite(row["energy_j"]) else None}
        | {"excess_pct": row["excess_pct"] if np.isfinite(row["excess_pct"]) else None}
        for row in rows
    ]
    return Reproduction(data, claims.starts(rows, literal), drawings.starts(data))


_violations = jax.jit(
    lambda keys, inst, allocation, law, samples: jax.lax.map(
        lambda one: robust.violation(*one, law, samples), (keys, inst, allocation)
    ),
    static_argnames=("law", "samples"),
)


def violation(config: Config) -> Reproduction:
    """Simulated probability of a late inference at the optimum, by law of the inference times."""
    plan = plan_of(config)
    cells = []
    for network, (first, second) in expected.VIOLATION_MS.items():
        common = {
            "network": network,
            "profile": PROFILES,
            "devices": 12,
            "seed": 0,
            "bandwidth_mhz": expected.SWEEP_MHZ[network],
        }
        cells += grid(**common, deadline_ms=first, risk=expected.VIOLATION_RISKS)
        cells += grid(**common, deadline_ms=second, risk=expected.VIOLATION_RISKS[-1])
    allocation, proof = solve(cells)
    rows: list[Row] = []
    with jax.enable_x64(True):
        made = jax.tree.map(lambda x: x[:, :12] if x.ndim > 1 else x, instances(cells))
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
    return Reproduction(rows, claims.violation(rows), drawings.violation(rows))


@jax.jit
@jax.vmap
def _largest_share(inst: robust.Instance, m: jax.Array) -> jax.Array:
    """The larger of the two parts of each device's variance, ``[N]``."""
    local, edge = robust.take((inst.vloc, inst.vvm), m)
    return jnp.maximum(local, edge) / jnp.maximum(local + edge, robust.TINY)
