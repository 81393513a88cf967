"""Collaborative DNN inference over roadside units: the system of SAFE.

Source: R. Zhou, Z. Han, Y. Zeng, Z. Zhou, L. Wu and W. Wang, "SAFE: Intelligent Online Scheduling
for Collaborative DNN Inference in Vehicular Network", conference paper; record at
https://openreview.net/forum?id=6lg5I3uiHD. Equation numbers in this file are that paper's.

Vehicles on a road submit inference tasks. A controller chooses for each task a helper and a
deliverer roadside unit (RSU) and two partition layers: the vehicle computes the first part and
uploads to the helper, the helper computes the second part and passes the data by wire to the
deliverer, which computes the third part. Bandwidth and compute of an RSU are shared by the KKT rule
of eqs (7) and (9). One environment step is one task's decision; between decisions everything is
exact in continuous time. The file reads: sizes, scenario, state, then what happens in a turn of the
event loop, at a decision, and what is observed.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np

from allocators import insga, pools, proportional
from jaxenv import dnn, loop, spaces, struct
from jaxenv.environment import Constraint, Environment, Metric, Params, State
from jaxenv.errors import ConfigError
from jaxenv.physics import arrivals, mobility, radio
from jaxenv.validation import check_array, check_fields

NETWORKS = ("alexnet", "vgg16", "resnet50")
IDLE, LOCAL, UPLOAD, HELPER, WIRED, DELIVERER, ENDED = range(7)
NONE, SUCCESS, UPLOAD_FAILURE, DELIVERY_FAILURE, LEFT_ROAD, UNFINISHED = range(6)
FAILURES = ("upload_failures", "delivery_failures", "left_road", "unfinished")
GIGA = 1e-9
MEGA = 1e-6
_START_STREAM = -1


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


@struct.dataclass
class Draws:
    """What an episode draws at its start."""

    position_m: chex.Array  # [V] m at slot 0
    speed_mps: chex.Array  # [V] m/s
    power_dbm: chex.Array  # [V] dBm
    vehicle_gflops: chex.Array  # [V], GFLOP/s
    trace_row: chex.Array  # int32, row of slot 0


@struct.dataclass
class Tasks:
    """What a decision fixes, per vehicle."""

    helper: chex.Array  # [V] int32 RSU
    deliverer: chex.Array  # [V] int32 RSU
    helper_position_m: chex.Array  # [V] m, centre of the helper's copy of the road, y_h
    deliverer_position_m: chex.Array  # [V] m, y_d
    work: chex.Array  # [5, V] W_1..W_5 in GFLOP or Mbit; W_2 = 0 means Local
    bandwidth_mhz: chex.Array  # [V] MHz, B_h
    power_over_noise_db: chex.Array  # [V] dB, P_i over the noise of the band B_h
    helper_gflops: chex.Array  # [V] GFLOP/s, C_h
    deliverer_gflops: chex.Array  # [V] GFLOP/s, C_d
    local_s: chex.Array  # [V] s, latency of Local, sum x'/c
    slot: chex.Array  # [V] int32 slot of submission
    decision: chex.Array  # [V] int32 index of the decision in the episode, -1 if none


@struct.dataclass
class Progress:
    """What a turn of the event loop changes."""

    slot: chex.Array  # int32 k
    tau: chex.Array  # s since the start of the slot
    fresh: chex.Array  # bool: no event of this slot has run yet
    phase: chex.Array  # [V] int32, IDLE to DELIVERER
    remaining: chex.Array  # [V] GFLOP or Mbit left of the phase
    weight: chex.Array  # [V] share weight, kept by share_weights="remaining" and allocation="insga"
    entry_slot: chex.Array  # [V] int32, when the phase (fifo) or the upload (serial) began
    entry_tau: chex.Array  # [V] s into that slot
    asking: chex.Array  # [V] bool: waits for a decision in this slot
    network: chex.Array  # [V] int32 network of the task
    outcome: chex.Array  # [V] int32 how a task ended during this step, NONE to UNFINISHED
    latency_s: chex.Array  # [V] s, mu of that task
    turns: chex.Array  # int32 turns of this step


@struct.dataclass
class Totals:
    """Sums over the episode."""

    outcomes: chex.Array  # [6] int32 number of tasks by outcome
    latency_s: chex.Array  # s, of tasks that succeeded
    cost_s: chex.Array  # s, of all tasks


@struct.dataclass
class VehicularState(State):
    """The state: the episode's draws, tasks in flight, the event clock, and sums.

    vehicle: int32, the vehicle that asks. decisions: int32, taken so far. finished: bool, the
    episode is over. carried_cost: Phi, the cost in s of all tasks in flight if nobody else submits
    (reward_mode="marginal"). last_observation: seen when arrivals ended.
    """

    vehicle: chex.Array
    draws: Draws
    tasks: Tasks
    progress: Progress
    totals: Totals
    decisions: chex.Array
    finished: chex.Array
    carried_cost: chex.Array
    last_observation: chex.Array | None  # None with reward_mode="completion"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vehicular(Environment[VehicularState, VehicularParams]):
    """Online scheduling of collaborative inference on a road with RSUs.

    num_rsus, num_vehicles, num_networks, max_layers: S, V, M, K.
    table_rows: rows of ``arrival``/``model`` tables; trace_rows: rows of a mobility trace.
    allocation: ``kkt`` (eqs 7, 9), ``equal``, ``fifo``, ``serial`` or ``insga``.
    allocator: ``closed`` or ``jaxopt``, who solves the KKT problem.
    share_weights: ``total`` (the whole phase) or ``remaining`` (what is left at slot starts).
    reward_mode: ``completion``, ``own`` or ``marginal``, see below.
    observation: ``paper`` (3S + 4) or ``extended`` (6S + 4); model_onehot adds M.
    scenario, arrivals: ``drawn``, or ``given`` by the initial arrays, the tables, of the params.
    mobility: ``constant`` speeds on a ring road, or an external ``trace``.
    turns_per_step: 0 runs to the next decision; k > 0 runs at most k turns of the event loop.
    insga_population, insga_generations: of allocation="insga".

    Cost. A task has the latency mu: the time from its submission to its end. A task whose upload is
    cut off, whose vehicle leaves the road or that is unfinished at ``max_slots`` has no such end;
    it counts with max(time until then, latency of computing everything on the vehicle), so that
    failing early never pays. The cost of a task is mu if it succeeds and failure_weight * mu if it
    fails; minus the cost is r_{t,i} of eq (3), read with one minus sign as the text below it says.

    Reward in s, by reward_mode:

    - ``completion``: minus the costs of all tasks that end during the step; those that end after
      the last decision are paid by the last step. The undiscounted return is minus the total cost.
    - ``own``: the paper's, every decision is paid minus its own task's cost. It is known only when
      the task ends: the scalar reward is 0 and ``info["finished"]`` names decisions and rewards.
    - ``marginal``: Phi before the decision minus Phi after it, where Phi is the total cost of the
      tasks in flight if nobody else submits (`projected_cost`); so a decision is paid at once, with
      the harm that it does to others. The undiscounted return is again minus the total cost.
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

    name: ClassVar[str] = "vehicular"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("cost_s", "s", "min", "ratio", "cost_sum_s", "tasks_finished"),
        Metric("success_rate", "%", "max", "ratio", "tasks_succeeded", "tasks_finished", scale=100),
        Metric("latency_s", "s", "min", "ratio", "latency_sum_s", "tasks_succeeded"),
        Metric("num_tasks", "tasks", "max", "sum", "tasks_finished"),
    )
    constraints: ClassVar[tuple[Constraint, ...]] = (
        Constraint("failed_tasks", FAILURES, over=("tasks_finished",)),
        *(Constraint(cause, (cause,), over=("tasks_finished",)) for cause in FAILURES),
    )

    # ---- sizes and scenario -------------------------------------------------------------------

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, _CHOICES, _LEAST)
        if not isinstance(self.model_onehot, bool):
            raise ConfigError("model_onehot", self.model_onehot, "give true or false")
        if self.arrivals == "given" and self.table_rows < 1:
            raise ConfigError("table_rows", self.table_rows, 'arrivals="given" needs at least 1')
        if self.mobility == "trace" and self.trace_rows < 2:
            raise ConfigError("trace_rows", self.trace_rows, 'mobility="trace" needs at least 2')
        if self.allocator == "jaxopt" and self.allocation != "kkt":
            raise ConfigError("allocator", self.allocator, 'jaxopt solves allocation="kkt" only')

    @classmethod
    def build(cls, **options: Any) -> tuple[Vehicular, VehicularParams]:
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
        options = {name: value for name, value in options.items() if value is not None}
        networks = options.pop("networks", NETWORKS)
        networks = tuple(networks) if isinstance(networks, list) else networks
        granularity = options.pop("granularity", "block")
        frame = options.pop("frame_shape", (3, 720, 1280))
        input_bits = options.pop("input_bits", 8)
        spacing = options.pop("spacing_m", None)
        cores = options.pop("num_cores", None)
        trace, route = options.pop("trace", None), options.pop("route", None)
        profiles = _profiles(networks, granularity, frame)
        input_bits = _positive("input_bits", input_bits, ())
        longest = max(profile.num_layers for profile in profiles)
        options.setdefault("num_networks", len(profiles))
        options.setdefault("max_layers", max(longest, 9 if networks == NETWORKS else 1))
        mix = options.get("mix")
        if mix is None:
            mix = (0.0, 1.0, 0.0) if networks == NETWORKS else (1.0,) * len(profiles)
            options["mix"] = mix
        if "model_onehot" not in options and np.ndim(mix) < 2:
            alike = 1 if np.ndim(mix) else len(profiles)
            options["model_onehot"] = alike * int(np.count_nonzero(np.asarray(mix, object))) > 1
        for given, rows in (("arrival", "table_rows"), ("trace_position_m", "trace_rows")):
            if given in options and rows not in options:
                if np.ndim(options[given]) != 2:
                    raise ConfigError(given, options[given], f"give an array [{rows}, vehicles]")
                options[rows] = len(options[given])
        if route is not None and not isinstance(trace, (str, os.PathLike)):
            raise ConfigError("route", route, "it has no effect without the file of a trace")
        whole_road = trace is not None and "road_period_m" not in options
        if trace is not None:
            options = _trace_options(trace, route) | options
            if options["mobility"] != "trace":
                valid = 'a trace needs mobility="trace"'
                raise ConfigError("mobility", options["mobility"], valid)
        sizes = {f.name for f in dataclasses.fields(cls) if f.init}
        env = cls(**{k: v for k, v in options.items() if k in sizes})
        if longest > env.max_layers:
            raise ConfigError("max_layers", env.max_layers, f"the networks need {longest}")
        if env.num_networks != len(profiles):
            raise ConfigError("num_networks", env.num_networks, f"networks has {len(profiles)}")
        leaves = {k: v for k, v in options.items() if k not in sizes}
        flops, bits = _profile_tables(profiles, env.max_layers, input_bits)
        leaves.setdefault("layer_flops", flops)
        leaves.setdefault("layer_output_bits", bits)
        leaves.setdefault("num_layers", [profile.num_layers for profile in profiles])
        if cores is not None:
            if "rsu_flops" in leaves:
                raise ConfigError("num_cores", cores, "give num_cores or rsu_flops, not both")
            leaves["rsu_flops"] = _positive("num_cores", cores, (env.num_rsus,)) * 5e9
        if spacing is not None:
            spacing = _positive("spacing_m", spacing, ())
            leaves.setdefault("rsu_position_m", spacing * (np.arange(env.num_rsus) + 0.5))
            if not whole_road:
                leaves.setdefault("road_period_m", spacing * env.num_rsus)
        steps = np.asarray(leaves.get("max_steps"))
        if steps.dtype.kind in "iu":
            leaves.setdefault("max_slots", 4 * steps)
        if whole_road:
            leaves["road_period_m"] = _whole_road_m(env.make_params(**leaves))
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
            for name in names:
                if name in leaves and getattr(self, option) != needed:
                    valid = f'it has no effect unless {option}="{needed}"'
                    raise ConfigError(name, leaves[name], valid)

    def default_params(self) -> VehicularParams:
        """The constants of the paper and, where it is silent, of the model's specification.

        With ``max_layers`` of at least 9 and three networks, their profiles are AlexNet, VGG-16 and
        ResNet-50 at 1280x720; otherwise give profiles through `build`.
        """
        size_s, size_v, size_m = self.num_rsus, self.num_vehicles, self.num_networks
        names = NETWORKS[:size_m] if size_m != 1 else ("vgg16",)
        profiles = _profiles(names, "block", (3, 720, 1280))
        if size_m > len(NETWORKS) or self.max_layers < max(p.num_layers for p in profiles):
            profiles = []
        flops, bits = _profile_tables(profiles, self.max_layers, 8, rows=size_m)
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
        for name in _POSITIVE:
            check_array(name, getattr(p, name), lambda x: x > 0, "give positive finite numbers")
        for name in _FINITE:
            check_array(name, getattr(p, name), lambda x: x == x, "give finite numbers")
        check_array("max_steps", p.max_steps, lambda x: x >= 1, "give at least 1 slot")
        valid = f"give at least max_steps = {p.max_steps}"
        check_array("max_slots", p.max_slots, lambda x: x >= p.max_steps, valid)
        check_array("arrival_probability", p.arrival_probability, _is_fraction, "give 0 to 1")
        check_array("failure_weight", p.failure_weight, lambda x: x >= 1, "give at least 1")
        check_array("tolerance_m", p.tolerance_m, lambda x: x >= 0, "give at least 0")
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
            _check_trace(p)

    @property
    def observation_space(self) -> spaces.Box:
        """Of `observe`: unbounded, flat."""
        size = (6 if self.observation == "extended" else 3) * self.num_rsus + 4
        size += self.num_networks if self.model_onehot else 0
        return spaces.Box(-np.inf, np.inf, (size,), self.float_dtype)

    @property
    def action_space(self) -> spaces.Discrete:
        """S*S*P actions: helper, deliverer (rolled) and pair of partition layers; see `encode`."""
        return spaces.Discrete(self.num_rsus**2 * self.num_pairs)

    @property
    def num_pairs(self) -> int:
        """P, the number of pairs of partition layers k1 <= k2."""
        return self.max_layers * (self.max_layers + 1) // 2

    def pair_index(self, first: chex.Array, second: chex.Array) -> chex.Array:
        """Index of the partition layers (k1, k2), 1-based, in lexicographic order."""
        k = self.max_layers
        return (first - 1) * k - (first - 1) * (first - 2) // 2 + (second - first)

    def encode(
        self, helper: chex.Array, deliverer: chex.Array, first: chex.Array, second: chex.Array
    ) -> chex.Array:
        """Action index of rolled RSU indices and 1-based partition layers."""
        pair = self.pair_index(first, second)
        index = (helper * self.num_rsus + deliverer) * self.num_pairs + pair
        return jnp.asarray(index, jnp.int32)

    def decode(self, action: chex.Array) -> tuple[chex.Array, chex.Array, chex.Array, chex.Array]:
        """``(helper, deliverer, k1, k2)`` of an action index; the inverse of `encode`."""
        first, second = self._pairs()
        units, pair = action // self.num_pairs, action % self.num_pairs
        return (
            units // self.num_rsus,
            units % self.num_rsus,
            jnp.asarray(first)[pair],
            jnp.asarray(second)[pair],
        )

    def _pairs(self) -> tuple[np.ndarray, np.ndarray]:
        first, second = np.triu_indices(self.max_layers)
        return (first + 1).astype(np.int32), (second + 1).astype(np.int32)

    # ---- the road ------------------------------------------------------------------------------

    def _trace_at(self, params: VehicularParams, row: chex.Array) -> tuple[chex.Array, chex.Array]:
        """Positions along each vehicle's direction and activity, ``[V]`` (or ``[V, lanes]``)."""

        def read(position, active, direction, row, slot_s):
            here = mobility.trace_position(position, active, row, slot_s)
            return direction * here, mobility.trace_row(active, row)

        return loop.per_lane(
            read,
            (2, 2, 1, 0, 0),
            params.trace_position_m,
            params.trace_active,
            params.trace_direction,
            row,
            params.slot_s,
        )

    def _place(
        self, draws: Draws, params: VehicularParams, slot: chex.Array
    ) -> tuple[chex.Array, chex.Array]:
        """Positions along each vehicle's direction, and activity, at a slot."""
        if self.mobility == "trace":
            return self._trace_at(params, draws.trace_row + slot)
        elapsed = slot.astype(self.float_dtype) * params.slot_s
        position = mobility.constant_speed_position(draws.position_m, draws.speed_mps, elapsed)
        return position, jnp.ones(position.shape, bool)

    def speeds(self, state: VehicularState, params: VehicularParams) -> chex.Array:
        """Speed of every vehicle in this slot, ``[V]`` in m/s, along its direction."""
        return self._speeds(state.draws, params, state.progress.slot)

    def _speeds(self, draws: Draws, params: VehicularParams, slot: chex.Array) -> chex.Array:
        if self.mobility == "constant":
            return draws.speed_mps
        row = draws.trace_row + slot
        now, on_road = self._trace_at(params, row)
        following, stays = self._trace_at(params, row + 1)
        before, was = self._trace_at(params, jnp.maximum(row - 1, 0))
        was = was & (row > 0)
        return mobility.trace_speed(now, following, before, on_road, stays, was, params.slot_s)

    def spectral_efficiency(
        self,
        distance_m: chex.Array,
        power_dbm: chex.Array,
        bandwidth_hz: chex.Array,
        params: VehicularParams,
    ) -> chex.Array:
        """Spectral efficiency e in bit/s/Hz of a link over the whole band, below eq (1).

        Args:
            distance_m: between vehicle and RSU, m.
            power_dbm: transmit power, dBm.
            bandwidth_hz: the whole band, Hz.
            params: the scenario, for path loss and noise.
        """
        noise = radio.noise_power_dbm(bandwidth_hz, params.noise_dbm_per_hz)
        return self._efficiency(distance_m, power_dbm - noise, params)

    def _efficiency(
        self, distance_m: chex.Array, power_over_noise_db: chex.Array, params: VehicularParams
    ) -> chex.Array:
        loss = radio.path_loss_db(
            distance_m,
            params.path_loss_intercept_db,
            params.path_loss_slope_db,
            params.min_distance_m,
        )
        return radio.spectral_efficiency(power_over_noise_db - loss)

    def road(
        self, state: VehicularState, params: VehicularParams, vehicle: chex.Array
    ) -> tuple[chex.Array, chex.Array, chex.Array]:
        """What a vehicle has around it: ``(zone_m [], copy_m [S], order [S])``.

        copy_m: the first copy of each RSU that the vehicle has not left, Y_s. order: RSUs by Y_s,
        the rolled order of observations and actions.
        """
        position, _ = self._place(state.draws, params, self._seen_slot(state, params))
        zone = mobility.zone_center(position[vehicle], params.zone_m)
        copies = self._copies(params, zone, vehicle)
        return zone, copies, stable_order(copies)

    def _seen_slot(self, state: VehicularState, params: VehicularParams) -> chex.Array:
        """The slot an observer sees: after the end, that of the final observation."""
        slot = state.progress.slot
        if self.reward_mode == "completion":
            return slot
        return jnp.where(state.finished, params.max_steps, slot)

    def _copies(self, params: VehicularParams, zone: chex.Array, vehicle: chex.Array) -> chex.Array:
        centers = params.rsu_position_m
        if self.mobility == "trace":
            centers = centers * params.trace_direction[vehicle]
        return mobility.next_road_copy(
            centers, zone, params.road_period_m, params.radius_m, params.tolerance_m
        )

    # ---- one turn of the event loop ------------------------------------------------------------
    # Everything here is written for arrays [V], and for [V, lanes] when the loop runs many lanes.

    def _turn(
        self,
        operands: tuple[VehicularParams, Draws, Tasks, chex.Array],
        now: Progress,
        arrivals: bool,
    ) -> Progress:
        """Runs to the next event or to the end of the slot, whichever comes first.

        Where slot starts change nothing (no uploads, no arrivals) it skips them.
        """
        params, draws, tasks, key_data = operands
        dtype = self.float_dtype
        position, on_road = self._place(draws, params, now.slot)
        zone = mobility.zone_center(position, params.zone_m)
        distance = jnp.abs(tasks.helper_position_m - zone)
        efficiency = self._efficiency(distance, tasks.power_over_noise_db, params)
        now = self._refresh_weights(params, draws, tasks, key_data, now, efficiency)

        rate = self._rates(params, draws, tasks, now, efficiency)
        busy = now.phase > IDLE
        running = busy & (rate > 0)
        time_to_finish = jnp.where(running, now.remaining / jnp.where(running, rate, 1), jnp.inf)
        left = params.slot_s - now.tau
        first = jnp.min(time_to_finish, axis=0)
        slots_left = params.max_slots - now.slot
        if self._may_skip_slots:
            quiet = jnp.any(running, axis=0) & ~jnp.any(now.phase == UPLOAD, axis=0)
            quiet = quiet & ((now.slot >= params.max_steps) | (not arrivals))
            left = jnp.where(quiet, slots_left.astype(dtype) * params.slot_s - now.tau, left)
        slot_ends = left <= first
        step = jnp.where(slot_ends, left, first)
        tolerance = 1e-12 if self.dtype == "float64" else 1e-6
        done = running & (time_to_finish <= step * (1 + tolerance))
        remaining = jnp.where(busy, now.remaining - rate * step, now.remaining)
        remaining = jnp.maximum(jnp.where(done, 0, remaining), 0)
        tau = now.tau + step
        slot = now.slot
        if self._may_skip_slots:
            passed = jnp.maximum(jnp.ceil(tau / params.slot_s) - 1, 0)
            passed = jnp.where(slot_ends, slots_left - 1, passed.astype(jnp.int32))
            passed = jnp.where(quiet, passed, 0)
            slot, tau = slot + passed, tau - passed.astype(dtype) * params.slot_s
            position, _ = self._place(draws, params, slot)
            zone = mobility.zone_center(position, params.zone_m)
        tau = jnp.where(slot_ends, params.slot_s, tau).astype(dtype)

        # The done tasks enter their next phase with work, or end.
        following, entered = next_phase(tasks.work, now.phase)
        ends = done & (following == ENDED)
        local = tasks.work[UPLOAD - 1] == 0
        in_reach = self._covers(params, tasks.helper_position_m, zone)
        delivered = local | self._covers(params, tasks.deliverer_position_m, zone)
        cut_off = done & (following == UPLOAD) & ~in_reach
        outcome = jnp.where(ends, jnp.where(delivered, SUCCESS, DELIVERY_FAILURE), NONE)
        outcome = jnp.where(cut_off, UPLOAD_FAILURE, outcome).astype(jnp.int32)
        goes_on = done & ~ends & ~cut_off
        phase = jnp.where(done, jnp.where(goes_on, following, IDLE), now.phase).astype(jnp.int32)
        keeps_key = (phase != UPLOAD) if self.allocation == "serial" else jnp.zeros_like(done)
        stamped = goes_on & ~keeps_key
        now = now.replace(
            slot=slot,
            tau=tau,
            fresh=jnp.zeros_like(now.fresh),
            phase=phase,
            remaining=jnp.where(goes_on, entered, remaining),
            weight=jnp.where(
                goes_on, self._entry_weight(tasks, efficiency, following, entered), now.weight
            ),
            entry_slot=jnp.where(stamped, slot + slot_ends, now.entry_slot),
            entry_tau=jnp.where(stamped, jnp.where(slot_ends, 0, tau), now.entry_tau),
            turns=now.turns + 1,
        )
        now = self._record(params, tasks, now, outcome)
        after = self._next_slot(params, draws, tasks, key_data, now, arrivals)
        return jax.tree.map(lambda new, old: jnp.where(slot_ends, new, old), after, now)

    @property
    def _may_skip_slots(self) -> bool:
        """Whether a slot start without uploads and arrivals changes nothing."""
        reweighs = self.share_weights == "remaining" or self.allocation == "insga"
        return self.mobility == "constant" and not reweighs

    def _covers(
        self, params: VehicularParams, center_m: chex.Array, zone_m: chex.Array
    ) -> chex.Array:
        return mobility.covers(center_m, zone_m, params.radius_m, params.tolerance_m)

    def _record(
        self, params: VehicularParams, tasks: Tasks, now: Progress, outcome: chex.Array
    ) -> Progress:
        """Notes the tasks that end now, with their latency mu.

        It is the elapsed time, but at least that of Local where a task was cut off (`Vehicular`).
        """
        ended = outcome > NONE
        slots = (now.slot - tasks.slot).astype(self.float_dtype)
        elapsed = slots * params.slot_s + now.tau
        cut_off = outcome > DELIVERY_FAILURE
        cut_off = cut_off | (outcome == UPLOAD_FAILURE)
        latency = jnp.where(cut_off, jnp.maximum(elapsed, tasks.local_s), elapsed)
        return now.replace(
            phase=jnp.where(ended, IDLE, now.phase),
            outcome=jnp.where(ended, outcome, now.outcome),
            latency_s=jnp.where(ended, latency, now.latency_s),
        )

    def _next_slot(
        self,
        params: VehicularParams,
        draws: Draws,
        tasks: Tasks,
        key_data: chex.Array,
        now: Progress,
        arrivals: bool,
    ) -> Progress:
        """The start of the next slot: positions, lost uploads, vehicles gone, arrivals."""
        slot = now.slot + 1
        now = now.replace(slot=slot, tau=jnp.zeros_like(now.tau), fresh=jnp.ones_like(now.fresh))
        position, on_road = self._place(draws, params, slot)
        zone = mobility.zone_center(position, params.zone_m)
        in_reach = self._covers(params, tasks.helper_position_m, zone)
        busy = now.phase > IDLE
        outcome = jnp.where(
            (now.phase == UPLOAD) & ~in_reach, UPLOAD_FAILURE, jnp.zeros_like(now.phase)
        )
        if self.mobility == "trace":
            gone = busy & ~on_road & (tasks.work[UPLOAD - 1] > 0)
            outcome = jnp.where(gone, LEFT_ROAD, outcome)
        cut = busy & (outcome == NONE) & (slot >= params.max_slots)
        outcome = jnp.where(cut, UNFINISHED, outcome)
        now = self._record(params, tasks, now, outcome.astype(jnp.int32))
        if arrivals:
            now = self._ask(params, key_data, now, on_road)
        return now

    def _ask(
        self, params: VehicularParams, key_data: chex.Array, now: Progress, on_road: chex.Array
    ) -> Progress:
        """Fixes which idle vehicles ask in this slot, and the network of each one's task."""
        size_v = self.num_vehicles
        if self.arrivals == "given":
            row = now.slot
            coin = loop.per_lane(mobility.trace_row, (2, 0), params.arrival, row)
            coin = coin & (row < self.table_rows)
            network = loop.per_lane(mobility.trace_row, (2, 0), params.model, row)
        else:

            def draw(key_data: chex.Array, slot: chex.Array) -> chex.Array:
                return arrivals.slot_uniforms(key_data, slot, size_v, self.float_dtype)

            # Given that a vehicle asks, uniform/p is uniform again: it draws the network.
            uniform = loop.per_lane(draw, (1, 0), key_data, now.slot)
            coin = uniform < params.arrival_probability
            ceiling = jnp.where(params.arrival_probability > 0, params.arrival_probability, 1)
            shares = params.mix / jnp.sum(params.mix, axis=0)
            edges = jnp.cumsum(shares, axis=0)[:-1]
            network = jnp.zeros(uniform.shape, jnp.int32)
            for edge in edges:
                network = network + (uniform / ceiling >= edge)
            # Never a network of frequency zero, whatever the rounding of the sums.
            positive = params.mix > 0
            index = jnp.arange(self.num_networks).reshape((-1,) + (1,) * (params.mix.ndim - 1))
            last = jnp.max(jnp.where(positive, index, -1), axis=0)
            network = jnp.minimum(network, last)
        able = params.vehicle_enabled & on_road & (now.slot < params.max_steps)
        asks = (now.phase == IDLE) & coin & able
        return now.replace(
            asking=asks, network=jnp.where(asks, network, now.network).astype(jnp.int32)
        )

    # ---- shares --------------------------------------------------------------------------------

    def _pools(self, tasks: Tasks, phase: chex.Array) -> chex.Array:
        """Index of each vehicle's pool: bands 0..S-1, servers S..2S-1, none -1."""
        size = self.num_rsus
        server = 0 if self.allocation == "serial" else size
        pool = jnp.where(phase == UPLOAD, tasks.helper, -1)
        pool = jnp.where(phase == HELPER, server + tasks.helper, pool)
        return jnp.where(phase == DELIVERER, server + tasks.deliverer, pool)

    def _entry_weight(
        self, tasks: Tasks, efficiency: chex.Array, phase: chex.Array, amount: chex.Array
    ) -> chex.Array:
        """sqrt(eta) of eqs (7) and (9) for an amount of work of a phase."""
        if self.allocation != "kkt":
            return jnp.ones_like(amount)
        band = tasks.bandwidth_mhz * efficiency
        capacity = jnp.where(phase == UPLOAD, band, tasks.deliverer_gflops)
        capacity = jnp.where(phase == HELPER, tasks.helper_gflops, capacity)
        return jnp.sqrt(amount / capacity)

    def _refresh_weights(
        self,
        params: VehicularParams,
        draws: Draws,
        tasks: Tasks,
        key_data: chex.Array,
        now: Progress,
        efficiency: chex.Array,
    ) -> Progress:
        """Weights at the start of a slot, after its decisions, with this slot's gains."""
        if self.allocation == "kkt":
            amount = now.remaining
            if self.share_weights == "total":
                amount = tasks.work[UPLOAD - 1]
                for phase in (HELPER, DELIVERER):
                    amount = jnp.where(now.phase == phase, tasks.work[phase - 1], amount)
            weight = self._entry_weight(tasks, efficiency, now.phase, amount)
        elif self.allocation == "insga":
            weight = self._insga_weights(params, draws, tasks, key_data, now, efficiency)
        else:
            return now
        if self.allocation == "kkt" and self.share_weights == "total":
            return now.replace(weight=weight)  # a function of the phase and of this slot's gain
        return now.replace(weight=jnp.where(now.fresh, weight, now.weight))

    def _insga_weights(
        self,
        params: VehicularParams,
        draws: Draws,
        tasks: Tasks,
        key_data: chex.Array,
        now: Progress,
        efficiency: chex.Array,
    ) -> chex.Array:
        pool = self._pools(tasks, now.phase)
        upload = now.phase == UPLOAD
        capacity = jnp.where(now.phase == HELPER, tasks.helper_gflops, tasks.deliverer_gflops)
        capacity = jnp.where(upload, tasks.bandwidth_mhz * efficiency, capacity)
        base = now.remaining / capacity
        after = tasks.work[DELIVERER - 1] / tasks.deliverer_gflops
        with_helper = after + tasks.work[HELPER - 1] / tasks.deliverer_gflops
        after = jnp.where(upload, with_helper, jnp.where(now.phase == HELPER, after, 0))
        position, _ = self._place(draws, params, now.slot)
        zone = mobility.zone_center(position, params.zone_m)
        speed = jnp.maximum(self._speeds(draws, params, now.slot), 0.1)
        leave = jnp.maximum(tasks.deliverer_position_m + params.radius_m - zone, 0) / speed

        # Every pool of two or more, of every lane, is one problem; few of them are due at a time.
        single = pool.ndim == 1
        if single:
            base, after, leave, pool = (x[:, None] for x in (base, after, leave, pool))
        lanes = pool.shape[1]
        unit = jnp.arange(2 * self.num_rsus)[:, None]
        members = jnp.sum(pool[None] == unit[:, None], axis=1, dtype=jnp.int32)
        due = (members > 1) & jnp.atleast_1d(now.fresh)
        key_data = jnp.broadcast_to(key_data.reshape(2, -1), (2, lanes))
        slots = jnp.broadcast_to(now.slot, (lanes,))

        def solve(problem: chex.Array) -> chex.Array:
            which, lane = problem // lanes, problem % lanes
            key = jax.random.wrap_key_data(key_data[:, lane], impl="threefry2x32")
            key = jax.random.fold_in(jax.random.fold_in(key, slots[lane]), which)
            weight = insga.evolve_weights(
                key,
                base[:, lane],
                after[:, lane],
                leave[:, lane],
                jnp.where(pool[:, lane] == which, 0, -1),
                num_pools=1,
                population=self.insga_population,
                generations=self.insga_generations,
            )
            return jnp.where(pool[:, lane] == which, weight, 0)

        solved = loop.map_due(solve, due.reshape(-1), self.num_vehicles, base.dtype)
        solved = solved.reshape(self.num_vehicles, 2 * self.num_rsus, lanes)
        weight = jnp.sum(solved, axis=1)
        weight = jnp.where(weight > 0, weight, 1)
        return weight[:, 0] if single else weight

    def _rates(
        self,
        params: VehicularParams,
        draws: Draws,
        tasks: Tasks,
        now: Progress,
        efficiency: chex.Array,
    ) -> chex.Array:
        """GFLOP/s or Mbit/s at which every vehicle's phase advances."""
        pool = self._pools(tasks, now.phase)
        if self.allocation in ("fifo", "serial"):
            share = pools.first_shares(pool, now.entry_slot, now.entry_tau)
        elif self.allocator == "jaxopt":
            share = loop.per_lane(self._solved_shares, (1, 1), now.weight, pool)
        else:
            share = pools.pooled_shares(now.weight, pool)
        rate = share * jnp.where(
            now.phase == UPLOAD, tasks.bandwidth_mhz * efficiency, tasks.deliverer_gflops
        )
        rate = jnp.where(now.phase == HELPER, share * tasks.helper_gflops, rate)
        rate = jnp.where(now.phase == LOCAL, draws.vehicle_gflops, rate)
        return jnp.where(now.phase == WIRED, params.wired_rate_bps * MEGA, rate)

    def _solved_shares(self, weight: chex.Array, pool: chex.Array) -> chex.Array:
        """The KKT shares of every pool, solved by jaxopt."""
        members = pool[None, :] == jnp.arange(2 * self.num_rsus)[:, None]

        def solve(member: chex.Array) -> chex.Array:
            return proportional.shares(weight**2, member, backend="jaxopt")

        return jnp.sum(jnp.where(members, jax.vmap(solve)(members), 0), axis=0)

    # ---- advancing -----------------------------------------------------------------------------

    def _run(
        self,
        params: VehicularParams,
        state: VehicularState,
        going: Callable[[VehicularParams, Progress], chex.Array],
    ) -> Progress:
        """Turns of the event loop while ``going`` and while the step has turns left."""
        limit = self.turns_per_step

        def cond(operands: Any, now: Progress) -> chex.Array:
            more = going(operands[0], now)
            return more & (now.turns < limit) if limit else more

        def body(operands: Any, now: Progress) -> Progress:
            return self._turn(operands, now, arrivals=True)

        return loop.while_loop(cond, body, self._operands(state, params), state.progress)

    def _operands(self, state: VehicularState, params: VehicularParams) -> Any:
        return params, state.draws, state.tasks, jax.random.key_data(state.key)

    @staticmethod
    def _awaits_arrival(params: VehicularParams, now: Progress) -> chex.Array:
        return ~jnp.any(now.asking, axis=0) & (now.slot < params.max_steps)

    @staticmethod
    def _drains(params: VehicularParams, now: Progress) -> chex.Array:
        in_flight = jnp.any(now.phase > IDLE, axis=0) | ~now.fresh
        return in_flight & (now.slot >= params.max_steps) & (now.slot < params.max_slots)

    def _advance(self, state: VehicularState, params: VehicularParams) -> VehicularState:
        """To the next decision; beyond the last slot, until every task has ended."""
        if self.reward_mode == "completion":

            def going(params: VehicularParams, now: Progress) -> chex.Array:
                return self._awaits_arrival(params, now) | self._drains(params, now)

            state = state.replace(progress=self._run(params, state, going))
        else:
            past_end = state.progress.slot >= params.max_steps
            state = state.replace(progress=self._run(params, state, self._awaits_arrival))
            reached = ~past_end & (state.progress.slot >= params.max_steps)
            picked = self._pick_vehicle(state).vehicle
            state = state.replace(vehicle=jnp.where(past_end, state.vehicle, picked))
            undrained = self._observe(state, params)
            state = state.replace(
                last_observation=jnp.where(reached, undrained, state.last_observation)
            )
            state = state.replace(progress=self._run(params, state, self._drains))
        now = state.progress
        over = (now.slot >= params.max_steps) & ~self._drains(params, now)
        state = state.replace(finished=over)
        return self._pick_vehicle(state) if self.reward_mode == "completion" else state

    def _pick_vehicle(self, state: VehicularState) -> VehicularState:
        """The asking vehicle of lowest index, else the idle one of lowest index, else 0."""
        now = state.progress
        candidates = jnp.where(jnp.any(now.asking), now.asking, now.phase == IDLE)
        return state.replace(vehicle=jnp.argmax(candidates).astype(jnp.int32))

    def project(
        self, state: VehicularState, params: VehicularParams, watched: chex.Array
    ) -> Progress:
        """Runs on without arrivals or decisions until no watched vehicle ``bool[V]`` is in flight.

        What ended since the state's own step is in ``outcome`` and ``latency_s``.
        """

        def going(operands: Any, now: Progress) -> chex.Array:
            (params, *_), watched = operands
            in_flight = jnp.any(watched & (now.phase > IDLE), axis=0)
            return in_flight & (now.slot < params.max_slots)

        def body(operands: Any, now: Progress) -> Progress:
            return self._turn(operands[0], now, arrivals=False)

        operands = (self._operands(state, params), watched)
        return loop.while_loop(going, body, operands, state.progress)

    def projected_cost(self, state: VehicularState, params: VehicularParams) -> chex.Array:
        """Phi: total cost in s of all tasks in flight if nobody else submits."""
        start = state.progress
        clean = start.replace(outcome=jnp.zeros_like(start.outcome))
        everyone = jnp.ones_like(start.asking)
        return jnp.sum(
            task_costs(self.project(state.replace(progress=clean), params, everyone), params)
        )

    # ---- the contract --------------------------------------------------------------------------

    def reset_env(self, key: chex.PRNGKey, params: VehicularParams) -> VehicularState:
        """Slot 0, with the vehicles drawn or given, and who asks in it; `settle` runs on from here.

        The key stays in the state: whether a vehicle asks in slot k if it is idle, and for which
        network, depends on the key and k alone, so every policy meets the same arrivals.
        """
        dtype, size_v = self.float_dtype, self.num_vehicles
        stream = jnp.int32(_START_STREAM)
        drawn = arrivals.slot_uniforms(jax.random.key_data(key), stream, 4 * size_v + 1, dtype)
        unit, last = drawn[:-1].reshape(4, size_v), drawn[-1]
        if self.scenario == "given":
            position, speed = params.initial_position_m, params.initial_speed_mps
            power, flops = params.initial_power_dbm, params.initial_vehicle_flops
        else:

            def within(unit: chex.Array, ends: chex.Array) -> chex.Array:
                return ends[0] + unit * (ends[1] - ends[0])

            position = unit[0] * params.road_period_m
            speed = within(unit[1], params.speed_range_mps)
            power = within(unit[2], params.power_range_dbm)
            flops = within(unit[3], params.vehicle_flops_range)
        most = jnp.maximum(self.trace_rows - params.max_steps, 0)
        row = jnp.minimum((last * (most + 1).astype(dtype)).astype(jnp.int32), most)
        row = jnp.where(params.trace_start < 0, row, params.trace_start).astype(jnp.int32)
        zeros = jnp.zeros((size_v,), dtype)
        ints = jnp.zeros((size_v,), jnp.int32)
        zero = jnp.int32(0)
        ones = jnp.ones((size_v,), dtype)
        progress = Progress(
            slot=zero,
            tau=jnp.zeros((), dtype),
            fresh=jnp.asarray(True),
            phase=ints,
            remaining=zeros,
            weight=ones,
            entry_slot=ints,
            entry_tau=zeros,
            asking=jnp.zeros((size_v,), bool),
            network=ints,
            outcome=ints,
            latency_s=zeros,
            turns=zero,
        )
        draws = Draws(position, speed, power, flops * GIGA, row)
        _, on_road = self._place(draws, params, zero)
        progress = self._ask(params, jax.random.key_data(key), progress, on_road)
        tasks = Tasks(
            helper=ints,
            deliverer=ints,
            helper_position_m=zeros,
            deliverer_position_m=zeros,
            work=jnp.zeros((5, size_v), dtype),
            bandwidth_mhz=ones,
            power_over_noise_db=zeros,
            helper_gflops=ones,
            deliverer_gflops=ones,
            local_s=zeros,
            slot=ints,
            decision=ints - 1,
        )
        if self.reward_mode == "completion":
            last_observation = None
        else:
            last_observation = jnp.zeros(self.observation_space.shape, dtype)
        state = VehicularState(
            key=key,
            time=zero,
            vehicle=zero,
            draws=draws,
            tasks=tasks,
            progress=progress,
            totals=Totals(jnp.zeros((6,), jnp.int32), jnp.zeros((), dtype), jnp.zeros((), dtype)),
            decisions=zero,
            finished=jnp.asarray(False),
            carried_cost=jnp.zeros((), dtype),
            last_observation=last_observation,
        )
        return self._pick_vehicle(state)

    def settle(self, state: VehicularState, params: VehicularParams) -> VehicularState:
        """A state just reset, run on to its first decision; any other state unchanged.

        If nobody asks in the whole episode it is the end: the first step is a no-op with reward 0.
        """
        fresh = (state.time == 0) & (state.progress.turns == 0) & ~jnp.any(state.progress.asking)
        # Lanes that are not fresh enter with their turns used up, so the loop passes them by.
        start = state.progress
        parked = start.replace(asking=start.asking | ~fresh, slot=jnp.where(fresh, start.slot, -1))
        advanced = self._advance(state.replace(progress=parked), params)
        return jax.tree.map(lambda new, old: jnp.where(fresh, new, old), advanced, state)

    def for_evaluation(self) -> Vehicular:
        """With completion rewards, which need no projections."""
        return dataclasses.replace(self, reward_mode="completion")

    def reward_unit(self, params: VehicularParams) -> chex.Array:
        """Mean latency of Local over the mix, in s."""
        inside = jnp.arange(self.max_layers) < params.num_layers[:, None]
        flops = jnp.sum(jnp.where(inside, params.layer_flops, 0), axis=1)
        latency = params.compression * flops / jnp.mean(params.vehicle_flops_range)
        return jnp.sum(params.mix * latency) / jnp.sum(params.mix)

    def is_truncated(self, state: VehicularState, params: VehicularParams) -> chex.Array:
        """Whether arrivals are over and every task has ended, bool; no episode terminates."""
        return state.finished

    def most_steps(self, params: VehicularParams) -> chex.Array:
        """A vehicle asks at most once per slot, int32; unlimited with ``turns_per_step``."""
        if self.turns_per_step:
            return jnp.int32(np.iinfo(np.int32).max)
        return params.max_steps * self.num_vehicles

    def step_env(
        self, key: chex.PRNGKey, state: VehicularState, action: chex.Array, params: VehicularParams
    ) -> tuple[VehicularState, chex.Array, chex.Array, dict[str, Any]]:
        """Submits the task of ``state.vehicle`` and runs to the next decision or the end.

        Args:
            key: not used; the episode's key is in the state.
            state: with a vehicle that asks; else the action is ignored and time goes on.
            action: int32 index, see `encode`. One outside the mask is carried out too, with layers
                clipped to the network.
            params: the scenario.

        Returns:
            ``(state, reward, terminated, info)``. reward: float, s, by ``reward_mode``.
            terminated: False. info, of this step:

            - ``finished``: tasks that ended, one row per vehicle: ``mask`` bool[V] ended,
              ``decision`` int32[V] index of the task's decision in the episode or -1, ``reward``
              float[V] minus the cost in s, ``latency_s`` float[V] mu in s, ``success`` bool[V];
            - ``tasks_finished``, ``tasks_succeeded``: int32, number of tasks that ended;
            - ``latency_sum_s``: float, s, over tasks that succeeded; ``cost_sum_s``: float, s, over
              all that ended;
            - ``elapsed_slots``: int32, slots that passed;
            - ``decision``: int32, index of the decision just taken, -1 if none was due;
            - ``decision_pending``: bool, the new state waits for a decision or is the end (always
              with turns_per_step=0);
            - ``action_valid``: bool, the action was in the mask;
            - ``turns``: int32, turns of the event loop.

            And of the whole episode, 0 before its last step:

            - ``num_tasks``: int32; ``success_rate``: float, a fraction of 0 to 1 (the metric of the
              same name is in %);
            - ``latency_s``: float, s, mean over tasks that succeeded; ``cost_s``: float, s, mean
              over all tasks;
            - ``upload_failures``, ``delivery_failures``, ``left_road``, ``unfinished``: int32,
              number of failed tasks: helper out of reach before the upload was over, deliverer out
              of reach at the end, vehicle gone from the trace, in flight at ``max_slots``.
        """
        dtype = self.float_dtype
        before = state
        now = state.progress
        due = jnp.any(now.asking) & ~state.finished
        valid = self._is_valid(state, action, params) | ~due
        state = state.replace(
            progress=now.replace(
                outcome=jnp.zeros_like(now.outcome),
                latency_s=jnp.zeros_like(now.latency_s),
                turns=jnp.zeros_like(now.turns),
            )
        )
        state = jax.tree.map(
            lambda new, old: jnp.where(due, new, old), self._submit(state, action, params), state
        )
        marginal = jnp.zeros((), dtype)
        carried = state.carried_cost
        if self.reward_mode == "marginal":
            at_once = jnp.sum(task_costs(state.progress, params))
            projected = self.projected_cost(state, params)
            after = jnp.where(due, at_once + projected, carried)
            marginal, carried = carried - after, after
        state = self._advance(state, params)
        now = state.progress
        costs = task_costs(now, params)
        ended = now.outcome > NONE
        succeeded = now.outcome == SUCCESS
        counts = jnp.sum(
            (now.outcome[:, None] == jnp.arange(6)) & ended[:, None], axis=0, dtype=jnp.int32
        )
        latency = jnp.sum(jnp.where(succeeded, now.latency_s, 0))
        totals = Totals(
            state.totals.outcomes + counts,
            state.totals.latency_s + latency,
            state.totals.cost_s + jnp.sum(costs),
        )
        over = state.finished & ~before.finished
        state = state.replace(
            totals=totals, carried_cost=carried - jnp.sum(costs), decisions=state.decisions
        )
        rewards = {
            "completion": -jnp.sum(costs),
            "own": jnp.zeros((), dtype),
            "marginal": marginal,
        }
        info = {
            "finished": {
                "decision": jnp.where(ended, state.tasks.decision, -1),
                "reward": -costs,
                "mask": ended,
                "latency_s": jnp.where(ended, now.latency_s, 0),
                "success": succeeded,
            },
            "tasks_finished": jnp.sum(ended, dtype=jnp.int32),
            "tasks_succeeded": jnp.sum(succeeded, dtype=jnp.int32),
            "latency_sum_s": latency,
            "cost_sum_s": jnp.sum(costs),
            "elapsed_slots": now.slot - before.progress.slot,
            "decision": jnp.where(due, before.decisions, -1),
            "decision_pending": jnp.any(now.asking) | state.finished,
            "action_valid": valid,
            "turns": now.turns,
        } | self._episode_summary(totals, over)
        reward = rewards[self.reward_mode].astype(dtype)
        return state, reward, jnp.asarray(False), info

    def _episode_summary(self, totals: Totals, over: chex.Array) -> dict[str, chex.Array]:
        """Episode metrics, filled when the episode is over, else 0."""
        tasks = jnp.sum(totals.outcomes[1:], dtype=jnp.int32)
        succeeded = totals.outcomes[SUCCESS]
        dtype = self.float_dtype
        floor = jnp.maximum(tasks, 1).astype(dtype)
        summary = {
            "num_tasks": tasks,
            "success_rate": succeeded.astype(dtype) / floor,
            "latency_s": totals.latency_s / jnp.maximum(succeeded, 1).astype(dtype),
            "cost_s": totals.cost_s / floor,
            "upload_failures": totals.outcomes[UPLOAD_FAILURE],
            "delivery_failures": totals.outcomes[DELIVERY_FAILURE],
            "left_road": totals.outcomes[LEFT_ROAD],
            "unfinished": totals.outcomes[UNFINISHED],
        }
        return jax.tree.map(lambda x: jnp.where(over, x, jnp.zeros_like(x)), summary)

    # ---- a decision ----------------------------------------------------------------------------

    def _submit(
        self, state: VehicularState, action: chex.Array, params: VehicularParams
    ) -> VehicularState:
        """Submits the asking vehicle's task; the next one that asks becomes the asking vehicle."""
        helper, deliverer, first, second = self.decode(action)
        _, _, order = self.road(state, params, state.vehicle)
        state = self.submit(state, params, order[helper], order[deliverer], first, second)
        return self._pick_vehicle(state)

    def submit(
        self,
        state: VehicularState,
        params: VehicularParams,
        helper: chex.Array,
        deliverer: chex.Array,
        first: chex.Array,
        second: chex.Array,
    ) -> VehicularState:
        """The state once the asking vehicle's task is in flight.

        Args:
            state: a state in which ``state.vehicle`` asks.
            params: the scenario.
            helper, deliverer: RSU indices (not rolled).
            first, second: 1-based partition layers k1 <= k2, clipped to the network.
        """
        j, now = state.vehicle, state.progress
        network = now.network[j]
        depth = params.num_layers[network]
        first, second = jnp.minimum(first, depth), jnp.minimum(second, depth)
        local = first == depth
        layer = jnp.arange(1, self.max_layers + 1)
        flops = jnp.where(layer <= depth, params.layer_flops[network], 0) * GIGA
        bits = params.layer_output_bits[network] * MEGA

        def total(inside: chex.Array) -> chex.Array:
            return jnp.sum(jnp.where(inside, flops, 0))

        remote = jnp.where(local, 0, 1).astype(self.float_dtype)
        work = jnp.stack(
            [
                params.compression * total(layer <= first),
                remote * bits[first - 1],
                remote * total((layer > first) & (layer <= second)),
                remote * jnp.where(helper != deliverer, bits[second - 1], 0),
                remote * total(layer > second),
            ]
        )
        local_s = params.compression * total(layer <= depth) / state.draws.vehicle_gflops[j]
        zone, copies, _ = self.road(state, params, j)
        following, entered = next_phase(work, jnp.int32(IDLE))
        bandwidth = params.bandwidth_hz[helper]
        noise = radio.noise_power_dbm(bandwidth, params.noise_dbm_per_hz)
        in_reach = self._covers(params, copies[helper], zone)
        cut_off = (following == UPLOAD) & ~in_reach
        tasks = state.tasks
        mine = jnp.arange(self.num_vehicles) == j

        def put(old: chex.Array, new: chex.Array) -> chex.Array:
            return jnp.where(mine, new, old).astype(old.dtype)

        tasks = Tasks(
            helper=put(tasks.helper, helper),
            deliverer=put(tasks.deliverer, deliverer),
            helper_position_m=put(tasks.helper_position_m, copies[helper]),
            deliverer_position_m=put(tasks.deliverer_position_m, copies[deliverer]),
            work=put(tasks.work, work[:, None]),
            bandwidth_mhz=put(tasks.bandwidth_mhz, bandwidth * MEGA),
            power_over_noise_db=put(tasks.power_over_noise_db, state.draws.power_dbm[j] - noise),
            helper_gflops=put(tasks.helper_gflops, params.rsu_flops[helper] * GIGA),
            deliverer_gflops=put(tasks.deliverer_gflops, params.rsu_flops[deliverer] * GIGA),
            local_s=put(tasks.local_s, local_s),
            slot=put(tasks.slot, now.slot),
            decision=put(tasks.decision, state.decisions),
        )
        now = now.replace(
            phase=put(now.phase, following),
            remaining=put(now.remaining, entered),
            weight=put(now.weight, 1),
            entry_slot=put(now.entry_slot, now.slot),
            entry_tau=put(now.entry_tau, 0),
            asking=now.asking & ~mine,
        )
        outcome = jnp.where(mine & cut_off, UPLOAD_FAILURE, NONE)
        now = self._record(params, tasks, now, outcome)
        return state.replace(tasks=tasks, progress=now, decisions=state.decisions + 1)

    # ---- what is seen --------------------------------------------------------------------------

    def action_mask(self, state: VehicularState, params: VehicularParams) -> chex.Array:
        """Valid actions, ``bool[num_actions]``.

        A helper must cover the vehicle at the predicted start of the upload; helper and deliverer
        may be one RSU only without a second cut; Local is one canonical action.
        """
        covered, depth = self._helper_coverage(state, params)
        second = jnp.asarray(self._pairs()[1])
        # Column k1 of the coverage once for every pair (k1, k2), pairs in lexicographic order.
        repeats = [
            jnp.broadcast_to(covered[:, k, None], (self.num_rsus, self.max_layers - k))
            for k in range(self.max_layers)
        ]
        covered = jnp.concatenate(repeats, axis=1)
        same = jnp.eye(self.num_rsus, dtype=bool)[:, :, None]
        mask = covered[:, None, :] & (second <= depth) & (~same | (second == depth))
        index = jnp.arange(self.action_space.num_values, dtype=jnp.int32)
        canonical = self.encode(0, 0, depth, depth)
        mask = mask.reshape(-1) | (index == canonical)
        due = jnp.any(state.progress.asking) | state.finished
        return jnp.where(due, mask, index == 0)

    def _helper_coverage(
        self, state: VehicularState, params: VehicularParams
    ) -> tuple[chex.Array, chex.Array]:
        """Which rolled RSUs cover the predicted start of an upload after each first layer, and K_m.

        ``bool[S, K]``, False for k1 = K_m and beyond.
        """
        j = state.vehicle
        network = state.progress.network[j]
        depth = params.num_layers[network]
        layer = jnp.arange(1, self.max_layers + 1)
        flops = jnp.where(layer <= depth, params.layer_flops[network], 0) * GIGA
        start = params.compression * jnp.cumsum(flops) / state.draws.vehicle_gflops[j]
        slots = jnp.floor(start / params.slot_s)
        slot = self._seen_slot(state, params)
        position, on_road = self._place(state.draws, params, slot)
        speed = self._speeds(state.draws, params, slot)
        _, copies, order = self.road(state, params, j)
        ahead = mobility.constant_speed_position(position[j], speed[j], slots * params.slot_s)
        zones = mobility.zone_center(ahead, params.zone_m)
        covered = self._covers(params, copies[order][:, None], zones[None, :])
        return covered & on_road[j] & (layer < depth), depth

    def _is_valid(
        self, state: VehicularState, action: chex.Array, params: VehicularParams
    ) -> chex.Array:
        """The entry of `action_mask` for one action."""
        helper, deliverer, first, second = self.decode(action)
        covered, depth = self._helper_coverage(state, params)
        whole = second == depth
        remote = covered[helper, first - 1] & (second <= depth) & ((helper != deliverer) | whole)
        canonical = (helper == 0) & (deliverer == 0) & (first == depth) & whole
        return remote | canonical

    def observe(self, state: VehicularState, params: VehicularParams) -> chex.Array:
        """``float[3S + 4]`` (``paper``), M more with ``model_onehot``, 3S more if ``extended``.

        About the asking vehicle; RSUs in rolled order (`road`). The divisors are fixed numbers, so
        a sweep of the scenario stays visible. In this order:

        - ``[S]`` capacity of the RSUs / 60 GFLOP/s;
        - ``[S]`` bandwidth / 10 MHz;
        - ``[S]`` work committed and not executed (`committed_gflop`) / 10 s of the RSU's capacity;
        - speed / 20 m/s, capacity / 5 GFLOP/s, power in dBm / 10, and position of rolled RSU 0
          minus that of the vehicle's zone / 300 m;
        - ``model_onehot``: ``[M]`` 1 at the network of the task;
        - ``extended``: ``[S]`` bits left of the uploads to the RSU / 22.1184 Mbit (a raw frame),
          ``[S]`` number of these uploads / V, ``[S]`` tasks that the RSU computes now / V.

        After the end of an episode: with reward_mode="completion" the drained road; else the road
        when arrivals ended, with tasks still in flight.
        """
        observation = self._observe(state, params)
        if self.reward_mode == "completion":
            return observation
        return jnp.where(state.finished, state.last_observation, observation)

    def committed_gflop(self, state: VehicularState) -> chex.Array:
        """Work submitted to each RSU and not executed yet, ``[S]`` in GFLOP."""
        tasks, now = state.tasks, state.progress
        unit = jnp.arange(self.num_rsus)[:, None]
        busy = now.phase > IDLE
        second = jnp.where(now.phase == HELPER, now.remaining, tasks.work[HELPER - 1])
        second = jnp.where(busy & (now.phase <= HELPER), second, 0)
        third = jnp.where(now.phase == DELIVERER, now.remaining, tasks.work[DELIVERER - 1])
        third = jnp.where(busy, third, 0)
        at_helper = jnp.where(tasks.helper == unit, second, 0)
        return jnp.sum(at_helper + jnp.where(tasks.deliverer == unit, third, 0), axis=1)

    def _observe(self, state: VehicularState, params: VehicularParams) -> chex.Array:
        dtype = self.float_dtype
        j, now, tasks = state.vehicle, state.progress, state.tasks
        zone, copies, order = self.road(state, params, j)
        unit = jnp.arange(self.num_rsus)[:, None]
        parts = [
            params.rsu_flops[order] / 60e9,
            params.bandwidth_hz[order] / 10e6,
            self.committed_gflop(state)[order] / (params.rsu_flops[order] * GIGA * 10),
            jnp.stack(
                [
                    self.speeds(state, params)[j] / 20,
                    state.draws.vehicle_gflops[j] / 5,
                    state.draws.power_dbm[j] / 10,
                    (copies[order[0]] - zone) / 300,
                ]
            ),
        ]
        if self.model_onehot:
            parts.append(jax.nn.one_hot(now.network[j], self.num_networks, dtype=dtype))
        if self.observation == "extended":
            upload = now.phase == UPLOAD
            queued = jnp.where((tasks.helper == unit) & upload, now.remaining, 0)
            uploads = (tasks.helper == unit) & upload
            served = ((tasks.helper == unit) & (now.phase == HELPER)) | (
                (tasks.deliverer == unit) & (now.phase == DELIVERER)
            )
            parts += [
                jnp.sum(queued, axis=1)[order] / 22.1184,
                jnp.sum(uploads, axis=1).astype(dtype)[order] / self.num_vehicles,
                jnp.sum(served, axis=1).astype(dtype)[order] / self.num_vehicles,
            ]
        return jnp.concatenate(parts).astype(dtype)

    def draw(self, axes: Any, state: VehicularState, params: VehicularParams) -> None:
        """Draws a state into a matplotlib ``Axes``; see `jaxenv.rendering.vehicular`."""
        from jaxenv.rendering.vehicular import draw_road

        draw_road(axes, self, state, params)

    def event_states(
        self, state: VehicularState, action: chex.Array, params: VehicularParams
    ) -> list[VehicularState]:
        """The states to draw up to the next decision; see `jaxenv.rendering.vehicular`."""
        from jaxenv.rendering.vehicular import event_states

        return event_states(self, state, action, params)

    def frames_held(
        self, state: VehicularState, following: VehicularState | None, params: VehicularParams
    ) -> float:
        """For how many frame times to show a state; see `jaxenv.rendering.vehicular`."""
        from jaxenv.rendering.vehicular import frames_held

        return frames_held(state, following, params)


def stable_order(values: chex.Array) -> chex.Array:
    """Indices that sort a short vector, ties by index: all pairs beat a sort of a few numbers."""
    index = jnp.arange(values.shape[0], dtype=jnp.int32)
    before = values[None, :] < values[:, None]
    tied = (values[None, :] == values[:, None]) & (index[None, :] < index[:, None])
    rank = jnp.sum(before | tied, axis=1, dtype=jnp.int32)
    return jnp.sum(jnp.where(rank[None, :] == index[:, None], index[None, :], 0), axis=1)


def next_phase(work: chex.Array, phase: chex.Array) -> tuple[chex.Array, chex.Array]:
    """The next phase with work and its work, from ``work [5, V]`` and ``phase [V]``.

    Phases without work take no time and are skipped; after the last one comes ``ENDED``.
    """
    following, entered = jnp.full_like(phase, ENDED), jnp.zeros_like(work[0])
    for candidate in reversed(range(LOCAL, ENDED)):
        amount = work[candidate - 1]
        opens = (phase < candidate) & (amount > 0)
        following = jnp.where(opens, candidate, following)
        entered = jnp.where(opens, amount, entered)
    return following, entered


def task_costs(now: Progress, params: VehicularParams) -> chex.Array:
    """Cost in s of every task that ended: mu on success, omega * mu on failure, ``[V]``."""
    failed = now.outcome > SUCCESS
    weight = jnp.where(failed, params.failure_weight, 1)
    return jnp.where(now.outcome > NONE, weight * now.latency_s, 0).astype(now.latency_s.dtype)


def _profiles(networks: Sequence[Any], granularity: str, frame: Sequence[int]) -> list[dnn.Profile]:
    if not isinstance(networks, tuple) or len(networks) < 1:
        raise ConfigError("networks", networks, "give a list of at least one network")
    if granularity not in ("block", "layer", "unit"):
        raise ConfigError("granularity", granularity, "choose one of block, layer, unit")
    sides = np.asarray(frame, object)
    if sides.shape != (3,) or any(not isinstance(n, (int, np.integer)) or n < 1 for n in sides):
        valid = "give (channels, height, width), three positive integers"
        raise ConfigError("frame_shape", frame, valid)

    def profile(network: Any) -> dnn.Profile:
        if isinstance(network, dnn.Profile):
            return network
        if str(network).endswith(".csv"):
            return dnn.read_csv(network)
        return dnn.profile(network, input_shape=tuple(frame), granularity=granularity)

    try:
        profiles = [profile(network) for network in networks]
    except (ValueError, OSError) as error:
        raise ConfigError("networks", list(networks), str(error)) from None
    for network, made in zip(networks, profiles, strict=True):
        if made.num_layers < 2:
            raise ConfigError("networks", network, "give networks of at least 2 layers")
    return profiles


def _profile_tables(
    profiles: Sequence[dnn.Profile], max_layers: int, input_bits: float, rows: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    rows = len(profiles) if rows is None else rows
    flops, bits = np.zeros((rows, max_layers)), np.ones((rows, max_layers))
    if not profiles:
        flops[:, 1] = 1.0
    for i, profile in enumerate(profiles):
        flops[i, : profile.num_layers] = profile.flops
        bits[i, : profile.num_layers] = profile.output_bits(input_bits=input_bits)
    return flops, bits


def _trace_options(trace: Any, route: Any) -> dict[str, Any]:
    from jaxenv.data import sumo

    if isinstance(trace, (str, os.PathLike)):
        trace = sumo.read_fcd(trace, route)
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


def _whole_road_m(params: VehicularParams) -> float:
    """A period of a trace's road in m, beyond which no copy of an RSU is in anybody's reach."""
    active = np.asarray(params.trace_active)
    places = np.append(np.asarray(params.trace_position_m)[active], params.rsu_position_m)
    reach = float(params.radius_m) + float(params.tolerance_m)
    return float(np.ptp(places)) + 2 * reach + float(params.zone_m)


def _check_trace(p: VehicularParams) -> None:
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


def _positive(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
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


def _is_fraction(value: Any) -> Any:
    return (value >= 0) & (value <= 1)


_CHOICES = {
    "allocation": ("kkt", "equal", "fifo", "serial", "insga"),
    "allocator": ("closed", "jaxopt"),
    "share_weights": ("total", "remaining"),
    "reward_mode": ("completion", "own", "marginal"),
    "observation": ("paper", "extended"),
    "scenario": ("drawn", "given"),
    "arrivals": ("drawn", "given"),
    "mobility": ("constant", "trace"),
}
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
_FASTEST_MPS = 100.0  # beyond any vehicle on a road: a faster move is a mistake in the trace
_FINITE = (
    "rsu_position_m",
    "power_range_dbm",
    "path_loss_intercept_db",
    "path_loss_slope_db",
    "noise_dbm_per_hz",
    "initial_position_m",
    "initial_power_dbm",
)
