"""Ways of describing a vehicular scenario: networks by name, external traces."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxenv import dnn
from jaxenv.errors import ConfigError
from jaxenv.vehicular.params import VehicularParams

_FASTEST_MPS = 100.0  # beyond any vehicle on a road: a faster move is a mistake in the trace


def profiles_of(
    networks: Sequence[Any], granularity: str, frame: Sequence[int]
) -> list[dnn.Profile]:
    """The profiles of networks: names, CSV paths or profiles; refuses what cannot be cut."""
    if not isinstance(networks, tuple) or len(networks) < 1:
        names = ", ".join(dnn.networks())
        valid = f"give a list of at least one network, [vgg16], of {names}, or CSV files"
        raise ConfigError("networks", networks, valid)
    if granularity not in ("block", "layer", "unit"):
        raise ConfigError("granularity", granularity, "choose one of block, layer, unit")
    sides = np.asarray(frame, object)
    if sides.shape != (3,) or any(not isinstance(n, (int, np.integer)) or n < 1 for n in sides):
        valid = "give (channels, height, width), three positive integers"
        raise ConfigError("frame_shape", frame, valid)

    options = {"input_shape": tuple(frame), "granularity": granularity}
    profiles = []
    for network in networks:
        try:
            profiles.append(dnn.profile_of(network, **options))
        except (ValueError, OSError) as error:
            reason = ConfigError.of("networks", network, error).valid
            which = f"{network!r}: " if len(networks) > 1 else ""
            raise ConfigError("networks", list(networks), which + reason) from None
        if profiles[-1].num_layers < 2:
            raise ConfigError("networks", network, "give networks of at least 2 layers")
    return profiles


def profile_tables(
    profiles: Sequence[dnn.Profile], max_layers: int, input_bits: float, rows: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Work in FLOP and output in bits of every layer, ``[rows, max_layers]``."""
    rows = len(profiles) if rows is None else rows
    flops, bits = np.zeros((rows, max_layers)), np.ones((rows, max_layers))
    if not profiles:
        flops[:, 1] = 1.0
    for i, profile in enumerate(profiles):
        flops[i, : profile.num_layers] = profile.flops
        bits[i, : profile.num_layers] = profile.output_bits(input_bits=input_bits)
    return flops, bits


def trace_options(trace: Any, route: Any) -> dict[str, Any]:
    """Sizes, options and leaves of an external trace, or of the file that holds one."""
    from jaxenv.data import sumo

    if isinstance(trace, (str, os.PathLike)):
        try:
            trace = sumo.read_fcd(trace, route)
        except ConfigError as error:
            if error.field == "route":
                raise
            raise ConfigError.of("trace", str(trace), error) from None
    if not isinstance(trace, sumo.Trace):
        raise ConfigError("trace", trace, "give a jaxenv.data.sumo.Trace or a path")
    return {
        "mobility": "trace",
        "num_vehicles": trace.position_m.shape[1],
        "trace_rows": trace.position_m.shape[0],
        "trace_position_m": trace.position_m,
        "trace_active": trace.active,
        "trace_direction": np.asarray(trace.direction, np.float64),
        "slot_s": trace.slot_s,
    }


def whole_road_m(params: VehicularParams) -> float:
    """A period of a trace's road in m, beyond which no copy of an RSU is in anybody's reach."""
    active = np.asarray(params.trace_active)
    places = np.append(np.asarray(params.trace_position_m)[active], params.rsu_position_m)
    reach = float(params.radius_m) + float(params.tolerance_m)
    return float(np.ptp(places)) + 2 * reach + float(params.zone_m)


def check_trace(p: VehicularParams) -> None:
    """Refuses a trace in which vehicles jump, or that never meets an RSU; NumPy leaves."""
    position, active = p.trace_position_m, p.trace_active
    moved = np.where(active[1:] & active[:-1], np.abs(np.diff(position, axis=0)), 0)
    row, vehicle = np.unravel_index(np.argmax(moved), moved.shape)
    if moved[row, vehicle] > _FASTEST_MPS * p.slot_s:
        valid = (
            f"vehicle {vehicle} jumps so from row {row} to row {row + 1} within {p.slot_s:g} s; "
            f"give at most {_FASTEST_MPS:g} m/s, or an inactive row between two vehicles"
        )
        raise ConfigError("trace_position_m", position[row : row + 2, vehicle].tolist(), valid)
    zone = (np.floor(p.trace_direction * position / p.zone_m) + 0.5) * p.zone_m
    for center in p.rsu_position_m:
        gap = np.mod(zone - p.trace_direction * center, p.road_period_m)
        near = np.minimum(gap, p.road_period_m - gap) <= p.radius_m + p.tolerance_m
        if (near & active).any():
            return
    low, high = position[active].min(), position[active].max()
    valid = (
        f"the trace runs from {low:g} m to {high:g} m: give at least one RSU within "
        f"radius_m = {p.radius_m:g} m of a vehicle"
    )
    raise ConfigError("rsu_position_m", p.rsu_position_m.tolist(), valid)


def positive(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """``value`` as an array if it is a positive number, or positive numbers of ``shape``."""
    try:
        array = np.asarray(value)
        usable = array.dtype.kind in "iuf" and array.shape in ((), shape)
    except ValueError:
        usable = False
    if not usable or not (np.isfinite(array) & (array > 0)).all():
        several = f" or an array of shape {shape}" if shape else ""
        raise ConfigError(name, value, f"give a positive finite number{several}")
    return array
