"""Sizes and scenario of the vehicular system: built, defaulted, checked."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Literal, Self

import jax
import numpy as np

from jaxenv.environment import Environment, cast_leaf
from jaxenv.errors import ConfigError
from jaxenv.validation import (
    FINITE,
    POSITIVE,
    SECONDS,
    SNR_DB,
    check_array,
    check_derived,
    check_fields,
    check_leaves,
    check_read,
    num_axes,
)
from jaxenv.vehicular.description import (
    check_trace,
    positive,
    profile_tables,
    profiles_of,
    trace_options,
    whole_road_m,
)
from jaxenv.vehicular.params import NETWORKS, VehicularParams
from jaxenv.vehicular.state import VehicularState


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenario(Environment[VehicularState, VehicularParams]):
    """Sizes and options of the vehicular system, and the scenario at them.

    num_rsus, num_vehicles, num_networks, max_layers: S, V, M, K.
    table_rows: rows of ``arrival``/``model`` tables; trace_rows: rows of a mobility trace.
    allocation: ``kkt`` (eqs 7, 9), ``equal``, ``fifo``, ``serial`` or ``insga``.
    allocator: ``closed`` or ``jaxopt``, who solves the KKT problem.
    share_weights: ``total`` (the whole phase) or ``remaining`` (what is left at slot starts).
    reward_mode: ``completion``, ``own`` or ``marginal``, see `Vehicular`.
    observation: ``paper`` (3S + 4) or ``extended`` (6S + 4); model_onehot adds M.
    scenario, arrivals: ``drawn``, or ``given`` by the initial arrays, the tables, of the params.
    mobility: ``constant`` speeds on a ring road, or an external ``trace``.
    turns_per_step: 0 runs to the next decision; k > 0 runs at most k turns of the event loop.
    insga_population, insga_generations: of allocation="insga".
    """

    num_rsus: int = 5
    num_vehicles: int = 10
    num_networks: int = 3
    max_layers: int = 9
    table_rows: int = 0
    trace_rows: int = 0
    allocation: Literal["kkt", "equal", "fifo", "serial", "insga"] = "kkt"
    allocator: Literal["closed", "jaxopt"] = "closed"
    share_weights: Literal["total", "remaining"] = "total"
    reward_mode: Literal["completion", "own", "marginal"] = "completion"
    observation: Literal["paper", "extended"] = "extended"
    model_onehot: bool = False
    scenario: Literal["drawn", "given"] = "drawn"
    arrivals: Literal["drawn", "given"] = "drawn"
    mobility: Literal["constant", "trace"] = "constant"
    turns_per_step: int = 0
    insga_population: int = 16
    insga_generations: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, _LEAST)
        if self.arrivals == "given" and self.table_rows < 1:
            raise ConfigError("table_rows", self.table_rows, 'arrivals="given" needs at least 1')
        if self.mobility == "trace" and self.trace_rows < 2:
            raise ConfigError("trace_rows", self.trace_rows, 'mobility="trace" needs at least 2')
        if self.allocator == "jaxopt" and self.allocation != "kkt":
            raise ConfigError("allocator", self.allocator, 'jaxopt solves allocation="kkt" only')

    @classmethod
    def build(cls, **options: Any) -> tuple[Self, VehicularParams]:
        """Sizes, leaves of the scenario, and these ways of describing one:

        networks, granularity, frame_shape, input_bits: the profiles of `jaxenv.dnn` (names, CSV
        paths or `Profile` objects), the camera's frame (channels, height, width) and the bits of
        each of its values. spacing_m: distance between RSUs. num_cores: of an RSU, of 5 GFLOP/s
        each.
        trace: a `jaxenv.data.sumo.Trace`, or the path of a SUMO file, XML or CSV; it needs at least
        max_steps rows. route: of the road in the file, points [x, y] in m or the path of a CSV file
        (`jaxenv.data.sumo.read_fcd`); without it the road is along x. While tasks drain after the
        last row, vehicles keep their last speed. road_period_m defaults to S * spacing_m; with
        ``trace`` to the extent of vehicles and RSUs plus twice the reach of an RSU and one zone, so
        that no copy of an RSU can be reached.

        Raises:
            ConfigError: a value that cannot be simulated, or one that would have no effect:
                initial arrays without scenario="given", arrival tables without arrivals="given",
                a trace without mobility="trace".
        """
        networks = options.pop("networks", NETWORKS)
        networks = tuple(networks) if isinstance(networks, list) else networks
        granularity = options.pop("granularity", "block")
        frame = options.pop("frame_shape", (3, 720, 1280))
        input_bits = options.pop("input_bits", 8)
        spacing = options.pop("spacing_m", None)
        cores = options.pop("num_cores", None)
        trace, route = options.pop("trace", None), options.pop("route", None)
        profiles = profiles_of(networks, granularity, frame)
        input_bits = positive("input_bits", input_bits, ())
        longest = max(profile.num_layers for profile in profiles)
        options.setdefault("num_networks", len(profiles))
        options.setdefault("max_layers", max(longest, 9 if networks == NETWORKS else 1))
        mix = options.get("mix")
        if mix is None:
            mix = (0.0, 1.0, 0.0) if networks == NETWORKS else (1.0,) * len(profiles)
            options["mix"] = mix
        frequencies = np.asarray(mix, object)
        alike = 1 if frequencies.ndim else len(profiles)
        options.setdefault("model_onehot", alike * int(np.count_nonzero(frequencies)) > 1)
        for given, rows in (("arrival", "table_rows"), ("trace_position_m", "trace_rows")):
            if given in options and rows not in options:
                if num_axes(options[given]) != 2:
                    raise ConfigError(given, options[given], f"give an array [{rows}, vehicles]")
                options[rows] = len(options[given])
        if route is not None and not isinstance(trace, (str, os.PathLike)):
            raise ConfigError("route", route, "it has no effect without the file of a trace")
        whole_road = trace is not None and "road_period_m" not in options
        if trace is not None:
            options = trace_options(trace, route) | options
            if options["mobility"] != "trace":
                valid = 'a trace needs mobility="trace"'
                raise ConfigError("mobility", options["mobility"], valid)
        sizes, leaves = cls.sizes_and_leaves(options)
        env = cls(**sizes)
        if longest > env.max_layers:
            raise ConfigError("max_layers", env.max_layers, f"the networks need {longest}")
        if env.num_networks != len(profiles):
            raise ConfigError("num_networks", env.num_networks, f"networks has {len(profiles)}")
        flops, bits = profile_tables(profiles, env.max_layers, input_bits)
        leaves.setdefault("layer_flops", flops)
        leaves.setdefault("layer_output_bits", bits)
        leaves.setdefault("num_layers", [profile.num_layers for profile in profiles])
        if cores is not None:
            if "rsu_flops" in leaves:
                raise ConfigError("num_cores", cores, "give num_cores or rsu_flops, not both")
            leaves["rsu_flops"] = positive("num_cores", cores, (env.num_rsus,)) * 5e9
        if spacing is not None:
            spacing = positive("spacing_m", spacing, ())
            leaves.setdefault("rsu_position_m", spacing * (np.arange(env.num_rsus) + 0.5))
            if not whole_road:
                leaves.setdefault("road_period_m", spacing * env.num_rsus)
        if "max_steps" in leaves:
            steps = cast_leaf("max_steps", leaves["max_steps"], np.int32(0))
            leaves.setdefault("max_slots", 4 * int(steps))
        if whole_road:
            leaves["road_period_m"] = whole_road_m(env.make_params(**leaves))
        params = env.make_params(**leaves)
        env._refuse_unread(leaves)
        rows = env.trace_rows - max(int(params.trace_start), 0)
        if trace is not None and rows < params.max_steps:
            valid = f"the trace has rows for {rows} slots"
            raise ConfigError("max_steps", int(params.max_steps), valid)
        return env, params

    def _refuse_unread(self, leaves: dict[str, Any]) -> None:
        """Refuses leaves that this environment would not read."""
        readers = (
            ("scenario", "given", _INITIAL),
            ("arrivals", "given", ("arrival", "model")),
            ("mobility", "trace", _TRACE),
            ("mobility", "constant", ("initial_position_m", "initial_speed_mps")),
        )
        for option, needed, names in readers:
            check_read(self, leaves, option, needed, names)

    def default_params(self) -> VehicularParams:
        """The constants of the paper and, where it is silent, of the model's specification.

        With ``max_layers`` of at least 9 and three networks, their profiles are AlexNet, VGG-16 and
        ResNet-50 at 1280x720; otherwise give profiles through `build`.
        """
        size_s, size_v, size_m = self.num_rsus, self.num_vehicles, self.num_networks
        names = NETWORKS[:size_m] if size_m != 1 else ("vgg16",)
        profiles = profiles_of(names, "block", (3, 720, 1280))
        if size_m > len(NETWORKS) or self.max_layers < max(p.num_layers for p in profiles):
            profiles = []
        flops, bits = profile_tables(profiles, self.max_layers, 8, rows=size_m)
        mix = (0.0, 1.0, 0.0) if size_m == 3 else (1.0,) * size_m
        values: dict[str, Any] = {
            "max_steps": np.int32(200),
            "max_slots": np.int32(800),
            "slot_s": 1.0,
            "radius_m": 300.0,
            "zone_m": 20.0,
            "rsu_position_m": 300.0 * (np.arange(size_s) + 0.5),
            "road_period_m": 300.0 * size_s,
            "min_distance_m": 10.0,
            "tolerance_m": 1e-3,
            "speed_range_mps": [10.0, 20.0],
            "power_range_dbm": [5.0, 10.0],
            "vehicle_flops_range": [5e9, 5e9],
            "path_loss_intercept_db": 128.1,
            "path_loss_slope_db": 37.6,
            "noise_dbm_per_hz": -174.0,
            "bandwidth_hz": np.full(size_s, 10e6),
            "wired_rate_bps": 1e9,
            "rsu_flops": np.full(size_s, 60e9),
            "compression": 0.5,
            "arrival_probability": 0.1,
            "failure_weight": 3.0,
            "mix": mix,
            "layer_flops": flops,
            "layer_output_bits": bits,
            "num_layers": np.array([p.num_layers for p in profiles] or [2] * size_m, np.int32),
            "vehicle_enabled": np.ones(size_v, bool),
            "initial_position_m": np.zeros(size_v),
            "initial_speed_mps": np.full(size_v, 15.0),
            "initial_power_dbm": np.full(size_v, 7.5),
            "initial_vehicle_flops": np.full(size_v, 5e9),
            "arrival": np.zeros((self.table_rows, size_v), bool),
            "model": np.zeros((self.table_rows, size_v), np.int32),
            "trace_position_m": np.zeros((self.trace_rows, size_v)),
            "trace_active": np.zeros((self.trace_rows, size_v), bool),
            "trace_direction": np.ones(size_v),
            "trace_start": np.int32(-1),
        }
        return VehicularParams(**{k: self.as_leaf(v) for k, v in values.items()})

    def validate(self, params: VehicularParams) -> None:
        """Refuses what cannot be simulated; needs concrete values."""
        p = jax.tree.map(np.asarray, params)
        check_leaves(p, _POSITIVE, POSITIVE)
        check_leaves(p, _FINITE, FINITE)
        check_array("max_steps", p.max_steps, lambda x: x >= 1, "give at least 1 slot")
        valid = f"give at least max_steps = {p.max_steps}"
        check_array("max_slots", p.max_slots, lambda x: x >= p.max_steps, valid)
        check_array("arrival_probability", p.arrival_probability, _is_fraction, "give 0 to 1")
        check_array("failure_weight", p.failure_weight, lambda x: x >= 1, "give at least 1")
        valid = f"give at least 0 and at most radius_m = {p.radius_m:g}"
        check_array("tolerance_m", p.tolerance_m, lambda x: (x >= 0) & (x <= p.radius_m), valid)
        speeds = p.initial_speed_mps
        check_array(
            "initial_speed_mps", speeds, lambda x: x >= 0, "give finite speeds of at least 0"
        )
        for name in ("speed_range_mps", "power_range_dbm", "vehicle_flops_range"):
            low, high = getattr(p, name)
            if low > high:
                raise ConfigError(name, [float(low), float(high)], "give [low, high], low <= high")
        check_array("mix", p.mix, lambda x: x >= 0, "give frequencies of at least 0")
        if p.mix.sum() <= 0:
            raise ConfigError("mix", p.mix.tolist(), "give at least one positive frequency")
        least, most = p.num_layers.min(), p.num_layers.max()
        if least < 2 or most > self.max_layers:
            valid = f"give 2 to max_layers = {self.max_layers} layers for every network"
            raise ConfigError("num_layers", p.num_layers.tolist(), valid)
        inside = np.arange(self.max_layers) < p.num_layers[:, None]
        valid = "give FLOPs of at least 0 with 0 for the input layer and a positive sum"
        flops = np.where(inside, p.layer_flops, 0.0)
        if not (np.isfinite(flops).all() and (flops >= 0).all() and (flops[:, 0] == 0).all()):
            raise ConfigError("layer_flops", p.layer_flops.tolist(), valid)
        if (flops.sum(1) <= 0).any():
            raise ConfigError("layer_flops", p.layer_flops.tolist(), valid)
        check_array(
            "layer_output_bits",
            np.where(inside, p.layer_output_bits, 1.0),
            lambda x: x > 0,
            "give a positive number of bits for every layer",
        )
        local_s = flops.sum(1)[:, None] / p.vehicle_flops_range.astype(np.float64)
        fields = "layer_flops, vehicle_flops_range"
        check_derived("time of a network on a vehicle", local_s, SECONDS, "s", fields)
        check_derived("signal-to-noise ratio", _snr_db(p), SNR_DB, "dB", ", ".join(_LINK))
        if self.arrivals == "given" and (
            (p.model < 0).any() or (p.model >= self.num_networks).any()
        ):
            valid = f"give network indices 0 to {self.num_networks - 1}"
            raise ConfigError("model", p.model.tolist(), valid)
        if self.mobility == "trace":
            check_array(
                "trace_direction", p.trace_direction, lambda x: abs(x) == 1, "give +1 or -1"
            )
            check_array(
                "trace_position_m", p.trace_position_m, lambda x: x == x, "give finite metres"
            )
            if not p.trace_active.any():
                raise ConfigError("trace_active", "all false", "give at least one active vehicle")
            check_trace(p)


_LINK = (
    *("power_range_dbm", "path_loss_intercept_db", "path_loss_slope_db", "min_distance_m"),
    *("radius_m", "noise_dbm_per_hz", "bandwidth_hz"),
)


def _snr_db(params: VehicularParams) -> np.ndarray:
    """Signal-to-noise ratios of the least and most power, nearest and farthest, in every band."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    distance_km = np.stack([p.min_distance_m, np.maximum(p.radius_m, p.min_distance_m)]) / 1e3
    loss = p.path_loss_intercept_db + p.path_loss_slope_db * np.log10(distance_km)
    noise = p.noise_dbm_per_hz + 10 * np.log10(p.bandwidth_hz)
    return p.power_range_dbm[:, None, None] - loss[:, None] - noise


def _is_fraction(value: Any) -> Any:
    return (value >= 0) & (value <= 1)


_LEAST = {
    "num_rsus": 1,
    "num_vehicles": 1,
    "num_networks": 1,
    "max_layers": 2,
    "table_rows": 0,
    "trace_rows": 0,
    "turns_per_step": 0,
    "insga_population": 2,
    "insga_generations": 1,
}
_POSITIVE = (
    "slot_s",
    "radius_m",
    "zone_m",
    "road_period_m",
    "min_distance_m",
    "speed_range_mps",
    "vehicle_flops_range",
    "bandwidth_hz",
    "wired_rate_bps",
    "rsu_flops",
    "compression",
    "initial_vehicle_flops",
)
_INITIAL = (
    "initial_position_m",
    "initial_speed_mps",
    "initial_power_dbm",
    "initial_vehicle_flops",
)
_TRACE = ("trace_position_m", "trace_active", "trace_direction", "trace_start")


_FINITE = (
    "rsu_position_m",
    "power_range_dbm",
    "path_loss_intercept_db",
    "path_loss_slope_db",
    "noise_dbm_per_hz",
    "initial_position_m",
    "initial_power_dbm",
)
