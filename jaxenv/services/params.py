"""The scenario of the services system: every table, range, cost and weight."""

from __future__ import annotations

import chex

from jaxenv import struct
from jaxenv.environment import Params


@struct.dataclass
class ServicesParams(Params):
    """The scenario. n agents, S services, C configurations, M models, L delays, K servers.

    Rows of a service that has fewer than C, M or L are padded; ``num_configs``, ``num_models`` and
    ``num_delays`` say how many it has. Mb is megabit, MB megabyte.

    max_steps: slots of an episode.
    """

    service: chex.Array  # [n] int32, of each agent
    num_configs: chex.Array  # [S] int32
    num_models: chex.Array  # [S] int32
    num_delays: chex.Array  # [S] int32
    acc_std: chex.Array  # [S, C, M] standardised accuracy (19)
    size_factor: chex.Array  # [S, C] eta
    inferences: chex.Array  # [S, C] I, per request
    model_mb: chex.Array  # [S, M]
    model_tflop: chex.Array  # [S, M], of one inference
    data_range_mb: chex.Array  # [S, 2]
    delay_set_s: chex.Array  # [S, L]
    link_mbps: chex.Array  # [K, K] w, 0 = no link
    path_s_per_mb: chex.Array  # [K, K] R, s per Mb along the shortest path
    path_links: chex.Array  # [K, K] int32, links of that path
    compute_tflops: chex.Array  # [K] A, TFLOP/s
    memory_gb: chex.Array  # [K] B
    uplink_mbps: chex.Array  # [K] rho
    local_weight: chex.Array  # [K] relative frequency with which a request arrives at the server
    system_range_tflop: chex.Array  # [2] work already on a server
    used_range_mb: chex.Array  # [2] memory already in use
    routing_cost: chex.Array  # psi_rou, $ per Mb and link
    compute_cost: chex.Array  # psi_comp, $/s
    memory_cost: chex.Array  # psi_mem, $/GB
    penalty: chex.Array  # in place of the accuracy of a rejected request
    acc_scale: chex.Array
    bits_per_byte: chex.Array
    mb_per_gb: chex.Array
