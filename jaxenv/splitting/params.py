"""The scenario of the splitting system: every physical constant, limit, price and table."""

from __future__ import annotations

import chex

from jaxenv import struct
from jaxenv.environment import Params


@struct.dataclass
class SplittingParams(Params):
    """The scenario. SI units; K splitting points 0 .. K - 1, rows of tables.

    max_steps: slots of an episode of the environment; `simulate` has its own length.
    """

    local_flops: chex.Array  # f_l, FLOP/s
    remote_flops: chex.Array  # f_r, FLOP/s
    flops_per_mac: chex.Array
    energy_out_j: chex.Array  # a, J x output channels / MAC
    energy_mac_j: chex.Array  # b, J/MAC
    energy_fc_j: chex.Array  # a', J/MAC
    raw_bits: chex.Array  # per element of the input
    feature_bits: chex.Array  # per element of every other layer
    distance_m: chex.Array
    carrier_hz: chex.Array
    bandwidth_hz: chex.Array
    noise_w_per_hz: chex.Array
    path_loss_exponent: chex.Array  # beta
    fading_mean: chex.Array
    power_min_w: chex.Array
    power_max_w: chex.Array
    arrival_rate: chex.Array  # lambda, images per slot
    availability_max: chex.Array  # alpha_max
    delay_avg_s: chex.Array  # D_avg
    delay_max_s: chex.Array  # D_max
    outage_eps: chex.Array  # eps
    tradeoff_v: chex.Array  # V
    z0: chex.Array  # s, queue of the mean delay at the start
    h0: chex.Array  # queue of the outage at the start
    macs_convolution: chex.Array  # [K] of each segment, 0 for the input
    macs_per_output: chex.Array  # [K] the same, each layer's over its output channels
    macs_linear: chex.Array  # [K]
    elements: chex.Array  # [K] sent when the cut is after the segment; 0 for the last
    segment_s: chex.Array  # [K] s per image on the device, measured; negative = work over f_l
    delay_price: chex.Array  # z in J/s, of reward_mode="lagrangian"
    outage_price: chex.Array  # eta in J
    delay_clip_s: chex.Array  # in the reward only
    z_ref: chex.Array  # J/s, scale of Z / V in the observation
    eta_ref: chex.Array  # J, scale of H / V
    fading_correlation: chex.Array  # of the complex gain in consecutive slots, contexts="markov"
    availability_correlation: chex.Array  # likewise: probability that it stays
    table_num_images: chex.Array  # [rows], read with contexts="given"; negative = drawn
    table_fading: chex.Array  # [rows] x, likewise
    table_availability: chex.Array  # [rows] alpha / alpha_max, likewise
    table_start: chex.Array  # int32 row of the first slot; negative: drawn


# Leaves [K] that a network gives, and leaves [rows] that a trace gives.
PER_SPLIT = ("macs_convolution", "macs_per_output", "macs_linear", "elements", "segment_s")
TABLES = ("table_num_images", "table_fading", "table_availability")
