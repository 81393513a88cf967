"""Where the figures of fine-grained partitioning are measured: their points, metrics, policies."""

from __future__ import annotations

import numpy as np

from jaxenv.partitioning import Partitioning
from runs.reproductions.sweeps import Point
from runs.settings import Config

PROPOSED = "multi-task A3C"
PRESETS = {PROPOSED: "partitioning", "A3C": "partitioning_a3c", "DQN": "partitioning_dqn"}
SERVERS = tuple(range(2, 10))
BLOCKS = (3, 6, 9, 12, 15, 18)
RATES = (30, 50, 70, 90, 110)
TOLERANCES = tuple(range(1, 8))
LINKS_MBPS = (0.8, 1.2, 1.6, 2.0)
NETWORKS = {
    "VGG16": "vgg16_cifar10",
    "NiN": "nin",
    "ResNet32": "resnet32",
    "AlexNet": "alexnet_cifar10",
}  # most FLOPs first
MEGABYTE_BITS = 8e6
DEFAULT = "default"
REWARD, TOTAL, EDGE, LOCAL, PENALTY, ENERGY = (
    "reward",
    "total_delay_s_per_slot",
    "edge_delay_s_per_slot",
    "local_delay_s_per_slot",
    "penalty_s_per_slot",
    "energy_j_per_slot",
)
OVER = {"Opt1": "cost_over_opt1", "Priced": "cost_over_priced"}
SLACK = "least_distance_to_bound"
OPTIMISERS = ("LocalSearch", "Opt1", "Priced")
HEURISTICS = ("RPDI", "APDI", "Blockwise", "Viterbi", "Greedy", "GreedyEFT", "GreedyES")
RATES_OF_LEARNING = {"lr 0.01": 0.01, "lr 0.002": 0.002, "lr 0.001": 0.001}
WORKERS = {f"{n} workers": n for n in (2, 4, 8, 16)}
LENGTHS = {f"rollouts of {n}": n for n in (16, 32, 64)}
SETTINGS = (
    {name: {"lr": value} for name, value in RATES_OF_LEARNING.items()}
    | {name: {"num_workers": value} for name, value in WORKERS.items()}
    | {name: {"rollout_length": value} for name, value in LENGTHS.items()}
)


def at_servers(servers: int) -> str:
    """The scenario of a number of edge servers."""
    return f"{servers} servers"


def at_blocks(blocks: int) -> str:
    """The scenario of a number of blocks."""
    return f"{blocks} blocks"


def at_rate(rate: int) -> str:
    """The scenario of a mean number of tasks per slot."""
    return f"{rate} tasks per slot"


def at_tolerance(seconds: int) -> str:
    """The scenario of a tolerated delay of every block."""
    return f"tolerated delay {seconds} s"


def at_link(network: str, megabytes: float) -> str:
    """The scenario of a network and a rate of all links."""
    return f"{network}, {megabytes} MB/s"


def families(group: str) -> list[tuple[Config, list[Point]]]:
    """The sizes of a group's environments, each with the points that have these sizes."""
    if group == "servers":
        number = np.arange(max(SERVERS))
        points = [Point(at_servers(n), n, "VGG16", {"server_enabled": number < n}) for n in SERVERS]
        return [({"num_servers": max(SERVERS)}, points)]
    if group == "blocks":
        return [({"num_blocks": m}, [Point(at_blocks(m), m, "VGG16", {})]) for m in BLOCKS]
    if group == "rate":
        points = [Point(at_rate(r), r, "VGG16", {"task_rate": r}) for r in RATES]
        return [({}, points)]
    if group == "tolerance":
        points = [
            Point(at_tolerance(s), s, "VGG16", {"tolerated_delay_s": float(s)}) for s in TOLERANCES
        ]
        return [({}, points)]
    if group == "links":
        points = [
            Point(
                at_link(network, megabytes),
                megabytes,
                network,
                _blocks(network) | {"rate_range_bps": megabytes * MEGABYTE_BITS},
            )
            for network in NETWORKS
            for megabytes in LINKS_MBPS
        ]
        return [({}, points)]
    return [({}, [Point(DEFAULT, 0, "VGG16", {})])]


def _blocks(network: str) -> Config:
    """The leaves of a scenario that a network gives."""
    _, params = Partitioning.build(network=NETWORKS[network])
    names = ("block_flops", "block_bytes", "block_input_bits")
    return {name: np.asarray(getattr(params, name)) for name in names}
