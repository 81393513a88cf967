"""The scenario of the vehicular system: every physical constant, weight and table."""

from __future__ import annotations

import chex

from jaxenv import struct
from jaxenv.environment import Params

NETWORKS = ("alexnet", "vgg16", "resnet50")


GIGA = 1e-9
MEGA = 1e-6


@struct.dataclass
class VehicularParams(Params):
    """The scenario. SI units; S RSUs, V vehicles, M networks of at most K layers.

    The symbols in brackets are the paper's; where it is silent the default is ours.

    Time. max_steps: slots in which tasks arrive (T). max_slots: slot at which tasks still in flight
    are cut off and counted as unfinished. slot_s: length of a slot; tasks arrive and vehicles
    change zones only at slot starts.

    Road. radius_m: an RSU covers what is at most so far away along the road (r). zone_m: length of
    a zone; during a slot a vehicle counts as being at the centre of its zone. rsu_position_m:
    centres of the RSUs. road_period_m: the road repeats after this length. tolerance_m: added to
    the radius in every coverage test, so that a vehicle at exactly the radius is covered despite
    rounding. min_distance_m: shorter links have the path loss of this distance, since the model
    diverges at 0.

    Radio (below eq (1)). Path loss of d km is path_loss_intercept_db + path_loss_slope_db *
    log10(d); noise_dbm_per_hz: density over the whole band; bandwidth_hz: of each RSU (B_s), shared
    by its uploads. wired_rate_bps: from RSU to RSU (R), not shared.

    Compute. rsu_flops: capacity of each RSU (C_s), shared by its tasks. layer_flops: work of every
    layer of the whole network on an RSU (x_k), the first layer is the input with 0.
    compression: vehicles hold compressed networks, so a layer costs them compression * layer_flops
    (x'_k). layer_output_bits: what a layer hands on (d_k), not compressed. num_layers: layers in
    use of each network (K_i).

    Vehicles and tasks. speed_range_mps, power_range_dbm, vehicle_flops_range: ends ``[low, high]``
    of the uniform draws of speed (v_i), transmit power and capacity (c_i), once per episode.
    arrival_probability: that an idle vehicle asks at a slot start. mix: relative frequencies of
    the networks. vehicle_enabled: a disabled vehicle never asks. failure_weight: the cost of a
    failed task is so many times its latency (omega of eq (3), at least 1).
    """

    max_slots: chex.Array  # int32
    slot_s: chex.Array  # s
    radius_m: chex.Array  # m
    zone_m: chex.Array  # m
    rsu_position_m: chex.Array  # [S] m
    road_period_m: chex.Array  # m
    min_distance_m: chex.Array  # m
    tolerance_m: chex.Array  # m
    speed_range_mps: chex.Array  # [2] m/s
    power_range_dbm: chex.Array  # [2] dBm
    vehicle_flops_range: chex.Array  # [2] FLOP/s
    path_loss_intercept_db: chex.Array  # dB at 1 km
    path_loss_slope_db: chex.Array  # dB per decade
    noise_dbm_per_hz: chex.Array  # dBm/Hz
    bandwidth_hz: chex.Array  # [S] Hz
    wired_rate_bps: chex.Array  # bit/s
    rsu_flops: chex.Array  # [S] FLOP/s
    compression: chex.Array  # factor > 0
    arrival_probability: chex.Array  # 0 to 1, per slot
    failure_weight: chex.Array  # factor >= 1
    mix: chex.Array  # [M] >= 0
    layer_flops: chex.Array  # [M, K] FLOP
    layer_output_bits: chex.Array  # [M, K] bit
    num_layers: chex.Array  # [M] int32
    vehicle_enabled: chex.Array  # [V] bool
    initial_position_m: chex.Array  # [V] m at slot 0; the four are read with scenario="given"
    initial_speed_mps: chex.Array  # [V] m/s; position and speed with mobility="constant" only
    initial_power_dbm: chex.Array  # [V] dBm
    initial_vehicle_flops: chex.Array  # [V] FLOP/s
    arrival: chex.Array  # [rows, V] bool: whether an idle vehicle asks, read with arrivals="given"
    model: chex.Array  # [rows, V] int32: the network of the task
    trace_position_m: chex.Array  # [rows, V] m, one row per slot, read with mobility="trace"
    trace_active: chex.Array  # [rows, V] bool: on the road
    trace_direction: chex.Array  # [V] +1 or -1 along the road
    trace_start: chex.Array  # int32 row of slot 0; negative: drawn
