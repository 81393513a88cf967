"""Where the figures of adaptive splitting are measured, and what a scale measures there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxenv.splitting import Splitting
from runs.reproductions.groups import given
from runs.settings import Config, build_env

AVAILABILITIES = (1.0, 0.5, 0.1)
TRADEOFFS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
LOW_AVAILABILITIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 1.0)
PATH_LOSSES = (3.0, 4.0, 4.7)
OFFLOAD_SEEDS = 20
PRESETS = {"now": "splitting", "late": "splitting_late"}
GUARDS = (0.8, 0.6, 0.5, 0.4, 0.35, 0.3, 0.25, 0.2)
TRAJECTORIES = 5
LEARNED = "SAC-Discrete"
EXPECTED = "DPP, law known"
GUARDED = "DPP, guarded"
# Expected values: V: (saving % at the three availabilities), tolerance in points.
TABLE_A = {
    0.001: ((77.0, 77.9, 71.5), 3.0),
    0.01: ((91.1, 90.3, 85.9), 3.0),
    0.03: ((93.83, 93.04, 86.90), 0.5),
    0.1: ((94.23, 93.36, 87.13), 0.15),
    1.0: ((94.38, 93.49, 87.26), 0.15),
    3.0: ((94.42, 93.53, 87.29), 0.15),
}
# Path loss: rows over LOW_AVAILABILITIES of saving %, mean and standard deviation of the point.
TABLE_B = {
    3.0: (
        (8.85, 23.22, 52.05, 73.96, 87.31, 92.41, 93.56, 94.45),
        (17.18, 12.71, 7.40, 3.67, 1.55, 0.81, 0.65, 0.53),
        (2.93, 6.82, 8.07, 6.28, 3.96, 2.65, 2.29, 1.97),
    ),
    4.0: (
        (6.68, 15.06, 28.16, 36.06, 40.43, 42.15, 42.56, 42.91),
        (17.49, 14.66, 10.95, 8.95, 7.92, 7.54, 7.45, 7.37),
        (2.67, 5.20, 6.34, 5.91, 5.51, 5.36, 5.33, 5.30),
    ),
    4.7: (
        (1.44, 2.50, 4.27, 5.26, 5.90, 6.17, 6.24, 6.30),
        (18.72, 18.36, 17.76, 17.41, 17.20, 17.11, 17.09, 17.07),
        (1.93, 2.40, 3.23, 3.65, 3.89, 3.99, 4.01, 4.03),
    ),
}
TOLERANCE_B = {3.0: (0.15, 0.05, 0.05), 4.0: (0.15, 0.05, 0.05), 4.7: (0.45, 0.1, 0.2)}
# (path loss, availability): bound %, tolerance in points.
TABLE_C = {
    (3.0, 1.0): (94.50, 0.15),
    (3.0, 0.5): (93.61, 0.15),
    (3.0, 0.1): (87.36, 0.15),
    (4.0, 1.0): (42.96, 0.15),
    (4.0, 0.1): (40.48, 0.15),
    (4.7, 1.0): (6.61, 0.35),
    (4.7, 0.1): (6.24, 0.35),
}
SENSITIVITY = {  # saving % at the three availabilities, V = 1
    "fading mean 2": (97.35, 96.92, 92.93),
    "8-bit input": (99.32, 99.14, 96.51),
    "depthwise with one output": (94.72, 93.78, 87.17),
    "depthwise without output term": (94.54, 93.66, 87.51),
    "44.3 GFLOP/s device": (87.8, 84.3, 72.2),
    "44.3 GFLOP/s device, 0.7 TFLOP/s host": (None, None, None),
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long and how often a scale measures. slack: how much wider its tolerances are."""

    env: Splitting
    params: Any
    num_seeds: int
    offload_seeds: int
    sensitivity_seeds: int
    slack: float
    seed: int


def plan_of(config: Config) -> Plan:
    """What a configuration asks for."""
    own = {"name": "splitting"} | given(config, "env", "splitting")
    paper = config["scale"] == "paper"
    lengths = {} if paper else {"num_slots": 50_000, "burn_in": 10_000}
    env, params = build_env(config | {"env": lengths | own})
    seeds = config.get("num_seeds") or (5 if paper else 2)
    return Plan(
        env=env,
        params=params,
        num_seeds=seeds,
        offload_seeds=OFFLOAD_SEEDS if paper else 5,
        sensitivity_seeds=15 if paper else 9,
        slack=1 if paper else 2,
        seed=config["seed"],
    )


def product(**axes: Sequence[float]) -> dict[str, np.ndarray]:
    """All combinations of the axes, the last one fastest."""
    grids = np.meshgrid(*axes.values(), indexing="ij")
    return {name: grid.reshape(-1) for name, grid in zip(axes, grids, strict=True)}
