"""Where the figures of the vehicular system are measured: points, metrics, policies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from runs.reproductions.sweeps import Point, replaced

FIGURES = {
    "training": ("fig03", "fig04"),
    "cores": ("fig05", "fig06", "fig07", "fig08"),
    "bandwidth": ("fig09", "fig10", "fig11", "fig12"),
    "mix": ("fig13", "fig14"),
    "scale": ("fig15", "fig16"),
}
NETWORKS = ("AlexNet", "VGG-16", "ResNet-50")
CORES = (4, 8, 12, 16)
BANDWIDTHS_MHZ = (5, 10, 15, 20)
MIXES = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (1, 2, 1))
VEHICLES = (20, 30, 40, 50)
DEFAULT = "VGG-16"
COST, SUCCESS, LATENCY = "cost_s", "success_rate", "latency_s"
SUCCESS_GAIN, LATENCY_GAIN = "success_gain_over_edge", "latency_gain_over_local"
BASELINES = ("Local", "Edge", "DSL", "INSGA", "Aware")
LOOK_AHEAD = ("Greedy", "Social")
SLOW = ("INSGA", *LOOK_AHEAD)  # simulate or evolve at every turn: measured on fewer episodes
OFFLOADING = ("Edge", "DSL", "INSGA")
NOT_LOOKING_AHEAD = ("Local", *OFFLOADING, "Aware")
ONE_HOT = np.eye(len(NETWORKS))


def at_cores(network: str, cores: int) -> str:
    """The scenario of a network and a number of cores per RSU."""
    return f"{network}, {cores} cores"


def at_bandwidth(network: str, mhz: int) -> str:
    """The scenario of a network and a bandwidth per RSU."""
    return f"{network}, {mhz} MHz"


def at_mix(ratio: Sequence[int]) -> str:
    """The scenario of a mix, AlexNet : VGG-16 : ResNet-50."""
    return "mix " + ":".join(map(str, ratio))


def at_vehicles(vehicles: int) -> str:
    """The scenario of a number of vehicles on the road of 10 RSUs."""
    return f"10 RSUs, {vehicles} vehicles"


def sweep_of(network: str) -> str:
    """The scenario of rows about the change from the first to the last point of a sweep."""
    return f"{network}, last minus first point"


def sizes(group: str) -> dict[str, Any]:
    """The static fields of a group's environment that differ from the defaults."""
    large = {"num_rsus": 10, "num_vehicles": max(VEHICLES)}
    return {"model_onehot": group in ("cores", "bandwidth", "mix")} | (
        large if group == "scale" else {}
    )


def points(group: str) -> list[Point]:
    """Where a group is measured."""
    if group == "cores":
        return [
            Point(at_cores(n, c), c, n, {"rsu_flops": c * 5e9, "mix": ONE_HOT[i]})
            for i, n in enumerate(NETWORKS)
            for c in CORES
        ]
    if group == "bandwidth":
        return [
            Point(at_bandwidth(n, b), b, n, {"bandwidth_hz": b * 1e6, "mix": ONE_HOT[i]})
            for i, n in enumerate(NETWORKS)
            for b in BANDWIDTHS_MHZ
        ]
    if group == "mix":
        return [
            Point(at_mix(ratio), i, "mixed", {"mix": np.array(ratio, float)})
            for i, ratio in enumerate(MIXES)
        ]
    if group == "scale":
        most = np.arange(max(VEHICLES))
        return [Point(at_vehicles(v), v, "VGG-16", {"vehicle_enabled": most < v}) for v in VEHICLES]
    return [Point(DEFAULT, 0, "VGG-16", {})]


def randomized(group: str, params: Any, num_envs: int) -> Any:
    """``params`` with swept leaves ``[num_envs, ...]`` that cover the sweep's ranges.

    Environments are spread evenly: over the networks (the mixes) in turn, and for each of them
    over the whole range of cores, bandwidth or vehicles, both ends included.
    """
    lane = np.arange(num_envs)
    if group == "training":
        return params
    if group == "mix":
        ratios = np.array(MIXES, float)
        return replaced(params, {"mix": ratios[lane % len(ratios)]})
    if group == "scale":
        count = np.round(_spread(lane, num_envs, VEHICLES))
        return replaced(params, {"vehicle_enabled": np.arange(max(VEHICLES)) < count[:, None]})
    name, unit, values = {
        "cores": ("rsu_flops", 5e9, CORES),
        "bandwidth": ("bandwidth_hz", 1e6, BANDWIDTHS_MHZ),
    }[group]
    turns = math.ceil(num_envs / len(NETWORKS))
    amount = unit * _spread(lane // len(NETWORKS), turns, values)
    each = np.broadcast_to(amount[:, None], (num_envs, *getattr(params, name).shape))
    return replaced(params, {name: each, "mix": ONE_HOT[lane % len(NETWORKS)]})


def _spread(place: np.ndarray, count: int, values: Sequence[float]) -> np.ndarray:
    """``place`` of 0..count-1 as a number from the least to the largest of ``values``."""
    return min(values) + (max(values) - min(values)) * place / max(count - 1, 1)
