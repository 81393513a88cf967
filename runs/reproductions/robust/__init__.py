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

from collections.abc import Sequence
from functools import partial

import numpy as np

from runs.reproductions import Reproduction
from runs.reproductions.robust import expected, measuring, plots
from runs.reproductions.robust.claims import convergence, energy, limits
from runs.reproductions.robust.scenarios import NETWORKS, PROFILES, SEEDS, Cell, grid, plan_of
from runs.settings import Config
from runs.solve import PUBLISHED_MHZ

ALTERNATED = ("least_bandwidth_mhz", "gap", "algorithm2_j", "algorithm2_excess_pct")


def fig09(config: Config) -> Reproduction:
    """Iterations of Algorithm 1, mean over its calls in Algorithm 2 from the least bandwidth."""
    plan_of(config)
    rows = measuring.measured(
        [
            cell
            for network, deadline in expected.FIG12_DEADLINE_MS.items()
            for devices in expected.FIG09_DEVICES
            for cell in grid(
                network, PROFILES, devices, SEEDS, devices * PUBLISHED_MHZ[network], deadline, 0.02
            )
        ]
    )
    data = measuring.pooled(rows, ("iterations", "algorithm2_excess_pct"))
    for row in data:
        where = {name: row[name] for name in ("network", "profile", "devices")}
        row["iterations"] = convergence.iterations(rows, **where)
    return Reproduction(data, convergence.fig09(rows), plots.fig09(data))


def fig10(config: Config) -> Reproduction:
    """Algorithm 2 from the starts of the paper, step by step, against the certified optimum."""
    plan_of(config)
    rows = measuring.from_starts(expected.FIG10_STARTS)
    names = ("network", "profile", "seed", "start", "status")
    data = [
        {name: row[name] for name in names}
        | {"outer_step": index, "excess_pct": value if np.isfinite(value) else None}
        for row in rows
        for index, value in enumerate(row["trajectory_pct"])
    ]
    return Reproduction(data, convergence.fig10(rows), plots.fig10(data))


def fig11(config: Config) -> Reproduction:
    """Time of batched Algorithm 2 per instance over the number of devices, one program each."""
    plan = plan_of(config)
    rows = measuring.timed(plan)
    return Reproduction(rows, convergence.fig11(rows), plots.fig11(rows))


def fig12(config: Config) -> Reproduction:
    """Energy over the number of devices at two risks, and Algorithm 2's excess."""
    plan_of(config)
    rows = measuring.measured(
        [
            cell
            for network, bandwidth in expected.FIG12_MHZ.items()
            for cell in grid(
                network,
                PROFILES,
                expected.FIG12_DEVICES,
                SEEDS,
                bandwidth,
                expected.FIG12_DEADLINE_MS[network],
                (0.02, 0.04),
            )
        ]
    )
    data = measuring.pooled(rows, ALTERNATED)
    return Reproduction(data, energy.fig12(rows), plots.fig12(data))


def _sweeps(network: str, seeds: Sequence[int]) -> list[Cell]:
    """Both sweeps of figure 13 or 14: risks at one deadline, and deadlines at one risk."""
    common = network, PROFILES, 12, tuple(seeds), expected.SWEEP_MHZ[network]
    deadline, risk = expected.RISK_SWEEP_MS[network], expected.DEADLINE_SWEEP_RISK[network]
    deadlines = expected.DEADLINES_MS[network]
    cells = grid(*common, deadline, expected.RISKS)
    cells += grid(*common, deadlines, risk)
    cells += grid(*common, deadlines, risk, True)
    return list(dict.fromkeys(cells))


def sweeps(network: str, config: Config) -> Reproduction:
    """Figure 13 or 14: energy over the risk and over the deadline, and the required bandwidth."""
    plan = plan_of(config)
    rows = measuring.measured(_sweeps(network, SEEDS + plan.held_out))
    bandwidth, deadlines = expected.SWEEP_MHZ[network], expected.IMPOSSIBLE_MS[network]
    cells = grid(network, "literal", 12, range(20), bandwidth, deadlines, 0.02)
    required = measuring.measured(cells, alternating=False)
    data = measuring.pooled(rows, ALTERNATED)
    judge = {"alexnet": energy.fig13, "resnet152": energy.fig14}[network]
    return Reproduction(data, judge(rows, required), plots.sweeps(data, network))


fig13, fig14 = partial(sweeps, "alexnet"), partial(sweeps, "resnet152")


def gap(config: Config) -> Reproduction:
    """Certified gap over the number of devices, and exhaustive search on small instances."""
    plan = plan_of(config)
    cells = [
        cell
        for network, deadline, risk in expected.GAP_SETTINGS
        for devices in expected.GAP_DEVICES
        for cell in grid(
            network,
            PROFILES,
            devices,
            expected.GAP_SEEDS,
            devices * PUBLISHED_MHZ[network],
            deadline,
            risk,
        )
    ]
    rows = measuring.measured(cells, alternating=False)
    data = measuring.pooled(rows, ("gap",))
    return Reproduction(data, limits.gap(rows, measuring.exhausted(plan)), plots.gap(data))


def starts(config: Config) -> Reproduction:
    """Algorithm 2 from every common point and from the least bandwidth, and how it fails."""
    plan_of(config)
    asked = {network: measuring.starts_of(network) for network in NETWORKS}
    rows = measuring.from_starts(asked) + measuring.from_starts(asked, "exact")
    literal = measuring.from_starts(asked, literal_stop=True)
    lists = ("iterations", "trajectory_pct", "mixed_local_mhz")
    data = [
        {name: row[name] for name in row if name not in lists}
        | {"energy_j": row["energy_j"] if np.isfinite(row["energy_j"]) else None}
        | {"excess_pct": row["excess_pct"] if np.isfinite(row["excess_pct"]) else None}
        for row in rows
    ]
    return Reproduction(data, limits.starts(rows, literal), plots.starts(data))


def violation(config: Config) -> Reproduction:
    """Simulated probability of a late inference at the optimum, by law of the inference times."""
    plan = plan_of(config)
    cells = []
    for network, (first, second) in expected.VIOLATION_MS.items():
        common = network, PROFILES, 12, 0, expected.SWEEP_MHZ[network]
        cells += grid(*common, first, expected.VIOLATION_RISKS)
        cells += grid(*common, second, expected.VIOLATION_RISKS[-1])
    rows = measuring.violated(cells, plan)
    return Reproduction(rows, limits.violation(rows), plots.violation(rows))
