"""Edge servers and the links between them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxenv.physics import graphs

REACH_M = 500.0
LINK_MBPS, UPLINK_MBPS = (50.0, 100.0, 200.0, 300.0, 400.0), (36.0, 48.0, 64.0, 72.0)
COMPUTE_TFLOPS, MEMORY_GB = (0.5, 1.26, 1.33), (1.0, 2.0, 4.0)


SITES_M = (
    ((12, 31), (455, -22), (841, 40), (1310, 18), (-35, 402), (402, 351), (905, 418), (1262, 369))
    + ((41, 741), (446, 802), (822, 745), (1325, 790))
    + ((-18, 1130), (471, 1118), (880, 1171), (1268, 1109))
)


class Network(NamedTuple):
    """Edge servers and the links between them; NumPy; K servers.

    link_mbps: ``[K, K]``, 0 = no link. compute_tflops (TFLOP/s), memory_gb, uplink_mbps: ``[K]``.
    """

    link_mbps: np.ndarray
    compute_tflops: np.ndarray
    memory_gb: np.ndarray
    uplink_mbps: np.ndarray


def default_network(size: int = 16) -> Network:
    """The embedded layout of 16 sites; of another size, its servers over again in a ring."""
    if size == len(SITES_M):
        near = graphs.linked(np.array(SITES_M, np.float64), REACH_M)
        i, j = np.triu_indices(size, 1)
        links = _symmetric(near, np.array(LINK_MBPS)[(7 * i + 3 * j + i * j) % 5])
    else:
        links = _ring(size)
    memory_gb = [2.0, 1, 4, 1, 4, 2, 1, 2, 1, 4, 2, 4, 4, 1, 2, 1]
    uplink_mbps = [48.0, 72, 36, 64, 64, 36, 72, 48, 36, 64, 48, 72, 72, 48, 64, 36]
    return Network(
        link_mbps=links,
        compute_tflops=np.resize(np.resize([1.33, 0.5, 1.26], 16), size),
        memory_gb=np.resize(memory_gb, size),
        uplink_mbps=np.resize(uplink_mbps, size),
    )


def _ring(size: int) -> np.ndarray:
    """Link rates of servers in a ring."""
    rates = np.zeros((size, size))
    for i in range(size if size > 2 else size - 1):
        j = (i + 1) % size
        rates[i, j] = rates[j, i] = LINK_MBPS[i % len(LINK_MBPS)]
    return rates


def draw_network(linked: np.ndarray, seed: int) -> Network:
    """A network of given links ``[K, K]``, its rates and servers drawn uniformly by ``seed``."""
    rng, size = np.random.default_rng(seed), len(linked)
    i, j = np.triu_indices(size, 1)
    rates = np.zeros(len(i))
    rates[linked[i, j]] = rng.choice(LINK_MBPS, int(linked[i, j].sum()))
    compute, memory, uplink = (
        rng.choice(values, size) for values in (COMPUTE_TFLOPS, MEMORY_GB, UPLINK_MBPS)
    )
    return Network(_symmetric(linked, rates), compute, memory, uplink)


def _symmetric(linked: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """``[K, K]`` link rates from those of the upper triangle, row-major."""
    rates = np.zeros(linked.shape)
    rates[np.triu_indices(len(linked), 1)] = upper
    return np.where(linked, rates + rates.T, 0.0)
