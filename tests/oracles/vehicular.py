"""Slow NumPy version of the vehicular system (collaborative DNN inference over roadside units).

It exists to be compared with the fast implementation, so it shares no code with it: one ``Task``
object per vehicle, explicit phases, a Python loop over events, float64 throughout, plain SI units
(s, m, Hz, bit, bit/s, FLOP, FLOP/s; powers in dBm). Layers are counted from 1 to K as in the paper.

Source: "SAFE: Intelligent Online Scheduling for Collaborative DNN Inference in Vehicular Network";
equation numbers below are the paper's.

Where the model's text leaves a choice, this file takes the following readings.

Time
  R1  A slot boundary is one instant: a phase entered at ``tau = slot`` of slot k has the same entry
      time as a task submitted at the start of slot k + 1; the vehicle index breaks the tie.
  R2  The drain repeats (events of the slot, next slot, coverage tests) and looks after each round,
      and once before the first, whether all vehicles are idle or k = k_max. Coverage and left-road
      tests therefore run at slot k_max too, before the remaining tasks are counted as unfinished
      (the cost is the same either way, only the outcome's name differs).
  R3  The drained state is at the start of the slot where that loop stops, usually the slot after
      the one in which the last task ended. ``elapsed_slots`` counts to that slot.
  R4  k_max < T is refused.
Ends
  R5  A vehicle that is off the road at a slot start ends its task as ``left_road`` in any phase,
      also when its upload has lost coverage at the same instant.
  R6  A Local task alive at k_max is unfinished like any other.
Shares
  R7  ``serial`` with different helper and deliverer: a task stands in the helper's pool in phases
      2 and 3 and in the deliverer's in phase 5, each time with the entry time of its upload as key;
      it is in no pool while it computes locally or is on the wire.
Trace
  R8  The speed is measured in the driving direction (direction * difference of positions). The
      backward difference needs rows k - 1 and k active; the row after the last one does not exist,
      so the last row uses the backward difference. Beyond the last row an active vehicle keeps
      that speed, an inactive one its state.
Observation, mask
  R9  Order: 3S + 4 paper entries, then the DNN one-hot if wanted, then the 3S extended entries.
  R10 Without an asking vehicle (final observation, episode without a task) the one-hot is zero,
      the idle vehicle of lowest index (0 if none; disabled or off-road ones count) is observed
      and the mask allows only action 0.
Heuristics
  R11 Neighbours of an RSU are neighbours in rolled order, modulo S; K is the task's own number of
      layers; repeated candidates count once. DSL at k1 = K returns the canonical Local action.
  R12 The lower bound takes the given transmit power, by default the upper end of the power range.
"""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np

IDLE, LOCAL, UPLOAD, HELPER, WIRED, DELIVERER = range(6)
ALLOCATIONS = ("kkt", "equal", "fifo", "serial")
FAILURES = ("upload_failure", "delivery_failure", "left_road", "unfinished")


# --------------------------------------------------------------------------------------------------
# DNN profiles, from the shapes of the layers
# --------------------------------------------------------------------------------------------------


class _Shapes:
    """Walks through a network's layers and collects FLOPs and output bits of its blocks."""

    def __init__(self, channels, height, width, input_bits):
        self.shape = (channels, height, width)
        self.flops = [0]
        self.bits = [input_bits * channels * height * width]
        self.block_flops = 0

    @staticmethod
    def _side(size, kernel, stride, padding):
        return (size + 2 * padding - kernel) // stride + 1

    def conv(self, filters, kernel, stride=1, padding=0):
        channels, height, width = self.shape
        height = self._side(height, kernel, stride, padding)
        width = self._side(width, kernel, stride, padding)
        self.block_flops += 2 * filters * height * width * channels * kernel * kernel
        self.shape = (filters, height, width)

    def pool(self, kernel, stride, padding=0):
        channels, height, width = self.shape
        self.shape = (
            channels,
            self._side(height, kernel, stride, padding),
            self._side(width, kernel, stride, padding),
        )

    def average(self, size):
        self.shape = (self.shape[0], size, size)

    def dense(self, units):
        channels, height, width = self.shape
        self.block_flops += 2 * channels * height * width * units
        self.shape = (units, 1, 1)

    def end_block(self):
        channels, height, width = self.shape
        self.flops.append(self.block_flops)
        self.bits.append(32 * channels * height * width)
        self.block_flops = 0

    def profile(self):
        return np.array(self.flops, dtype=np.float64), np.array(self.bits, dtype=np.float64)


def alexnet_blocks(height=720, width=1280, input_bits=8):
    """FLOPs and output bits of AlexNet's 7 blocks: input, pool1, pool2, pool5 + avg, fc6..fc8."""
    net = _Shapes(3, height, width, input_bits)
    net.conv(64, 11, 4, 2)
    net.pool(3, 2)
    net.end_block()
    net.conv(192, 5, 1, 2)
    net.pool(3, 2)
    net.end_block()
    for filters in (384, 256, 256):
        net.conv(filters, 3, 1, 1)
    net.pool(3, 2)
    net.average(6)
    net.end_block()
    for units in (4096, 4096, 1000):
        net.dense(units)
        net.end_block()
    return net.profile()


def vgg16_blocks(height=720, width=1280, input_bits=8):
    """FLOPs and output bits of VGG-16's 9 blocks: input, pool1..pool4, pool5 + avg, fc6..fc8."""
    net = _Shapes(3, height, width, input_bits)
    for stage, (filters, repeats) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        for _ in range(repeats):
            net.conv(filters, 3, 1, 1)
        net.pool(2, 2)
        if stage == 4:
            net.average(7)
        net.end_block()
    for units in (4096, 4096, 1000):
        net.dense(units)
        net.end_block()
    return net.profile()


def resnet50_blocks(height=720, width=1280, input_bits=8):
    """FLOPs and output bits of ResNet-50 v1.5's 7 blocks: input, stem, stages 1..4, fc."""
    net = _Shapes(3, height, width, input_bits)
    net.conv(64, 7, 2, 3)
    net.pool(3, 2, 1)
    net.end_block()
    for stage, (filters, repeats) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for block in range(repeats):
            stride = 2 if block == 0 and stage > 0 else 1
            entry = net.shape
            if block == 0:
                net.conv(4 * filters, 1, stride)
                net.shape = entry
            net.conv(filters, 1)
            net.conv(filters, 3, stride, 1)
            net.conv(4 * filters, 1)
        if stage == 3:
            net.average(1)
        net.end_block()
    net.dense(1000)
    net.end_block()
    return net.profile()


def default_profiles():
    """The three block profiles in the order of the DNN mix: AlexNet, VGG-16, ResNet-50."""
    return [alexnet_blocks(), vgg16_blocks(), resnet50_blocks()]


# --------------------------------------------------------------------------------------------------
# Constants and scenario
# --------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Config:
    """All constants of the system; ``Config.default`` gives the published setting.

    ``profiles`` holds one pair (FLOPs per layer, output bits per layer) per DNN; layer 1 is the
    input. ``max_layers`` sizes the action index (None: the longest profile). ``max_slots`` is
    k_max (None: 4T). ``tolerance_m`` widens coverage, ``tol`` joins events that coincide.
    """

    num_rsus: int
    num_vehicles: int
    num_slots: int
    max_slots: int | None
    slot_s: float
    radius_m: float
    zone_m: float
    rsu_position_m: np.ndarray
    road_period_m: float
    min_distance_m: float
    tolerance_m: float
    path_loss_intercept_db: float
    path_loss_slope_db: float
    noise_dbm_per_hz: float
    bandwidth_hz: np.ndarray
    wired_rate_bps: float
    rsu_flops: np.ndarray
    compression: float
    failure_weight: float
    profiles: list[tuple[np.ndarray, np.ndarray]]
    max_layers: int | None = None
    allocation: str = "kkt"
    share_weights: str = "total"
    tol: float = 1e-12
    speed_range_mps: tuple[float, float] = (10.0, 20.0)
    power_range_dbm: tuple[float, float] = (5.0, 10.0)
    vehicle_flops: float = 5e9
    arrival_probability: float = 0.1
    dnn_mix: tuple[float, ...] = (0.0, 1.0, 0.0)

    def __post_init__(self):
        """Broadcasts the per-RSU arrays and refuses what the model does not define."""
        shape = (self.num_rsus,)
        self.rsu_position_m = np.broadcast_to(np.asarray(self.rsu_position_m, float), shape)
        self.bandwidth_hz = np.broadcast_to(np.asarray(self.bandwidth_hz, float), shape)
        self.rsu_flops = np.broadcast_to(np.asarray(self.rsu_flops, float), shape)
        self.profiles = [(np.asarray(x, float), np.asarray(d, float)) for x, d in self.profiles]
        longest = max(len(x) for x, _ in self.profiles)
        if self.max_layers is None:
            self.max_layers = longest
        if self.max_slots is None:
            self.max_slots = 4 * self.num_slots
        if self.max_layers < longest:
            raise ValueError(f"max_layers: {self.max_layers} is not valid; give at least {longest}")
        if self.max_slots < self.num_slots:
            raise ValueError(
                f"max_slots: {self.max_slots} is not valid; give at least {self.num_slots}"
            )
        if self.allocation not in ALLOCATIONS:
            raise ValueError(f"allocation: {self.allocation!r} is not valid; give {ALLOCATIONS}")
        if self.share_weights not in ("total", "remaining"):
            raise ValueError(
                f"share_weights: {self.share_weights!r} is not valid; give 'total' or 'remaining'"
            )

    @classmethod
    def default(cls, **changes):
        """The published setting with 5 RSUs and 10 vehicles, with ``changes`` to any field.

        RSU positions and the road's period follow ``num_rsus`` at a spacing of 300 m unless given.
        """
        num_rsus = changes.get("num_rsus", 5)
        values = dict(
            num_rsus=num_rsus,
            num_vehicles=10,
            num_slots=200,
            max_slots=None,
            slot_s=1.0,
            radius_m=300.0,
            zone_m=20.0,
            rsu_position_m=300.0 * (np.arange(num_rsus) + 0.5),
            road_period_m=300.0 * num_rsus,
            min_distance_m=10.0,
            tolerance_m=1e-3,
            path_loss_intercept_db=128.1,
            path_loss_slope_db=37.6,
            noise_dbm_per_hz=-174.0,
            bandwidth_hz=10e6,
            wired_rate_bps=1e9,
            rsu_flops=60e9,
            compression=0.5,
            failure_weight=3.0,
        )
        values.update(changes)
        if "profiles" not in values:
            values["profiles"] = default_profiles()
        return cls(**values)

    @property
    def num_pairs(self):
        """Number of partition pairs (k1, k2), P = K(K + 1)/2."""
        return self.max_layers * (self.max_layers + 1) // 2

    @property
    def num_actions(self):
        """Size of the action index, S * S * P."""
        return self.num_rsus**2 * self.num_pairs


@dataclasses.dataclass
class Scenario:
    """Everything random of one episode.

    ``position_m``, ``speed`` (m/s), ``power_dbm``, ``vehicle_flops``: one entry per vehicle.
    ``arrival[k, i]``: vehicle i asks in slot k if it is idle. ``model[k, i]``: the DNN it then has.
    With ``trace_position_m[rows, V]`` the positions come from the table instead (row
    ``trace_start + k`` in slot k), together with ``trace_active`` and ``trace_direction`` (+1, -1).
    """

    position_m: np.ndarray
    speed: np.ndarray
    power_dbm: np.ndarray
    vehicle_flops: np.ndarray
    arrival: np.ndarray
    model: np.ndarray
    trace_position_m: np.ndarray | None = None
    trace_active: np.ndarray | None = None
    trace_direction: np.ndarray | None = None
    trace_start: int = 0

    @classmethod
    def random(cls, config: Config, rng: np.random.Generator):
        """Draws an episode with constant speeds from the ranges of ``config``."""
        vehicles = config.num_vehicles
        table = (config.num_slots, vehicles)
        mix = np.asarray(config.dnn_mix) / np.sum(config.dnn_mix)
        return cls(
            position_m=rng.uniform(0.0, config.road_period_m, vehicles),
            speed=rng.uniform(*config.speed_range_mps, vehicles),
            power_dbm=rng.uniform(*config.power_range_dbm, vehicles),
            vehicle_flops=np.full(vehicles, config.vehicle_flops),
            arrival=rng.random(table) < config.arrival_probability,
            model=rng.choice(len(mix), size=table, p=mix),
        )


# --------------------------------------------------------------------------------------------------
# Formulas
# --------------------------------------------------------------------------------------------------


def spectral_efficiency(config: Config, power_dbm, distance_m, bandwidth_hz):
    """Spectral efficiency e in bit/s/Hz at a distance; the noise covers the whole band."""
    kilometres = max(distance_m, config.min_distance_m) / 1000.0
    loss_db = config.path_loss_intercept_db + config.path_loss_slope_db * math.log10(kilometres)
    noise_dbm = config.noise_dbm_per_hz + 10.0 * math.log10(bandwidth_hz)
    return math.log2(1.0 + 10.0 ** ((power_dbm - loss_db - noise_dbm) / 10.0))


def kkt_shares(eta):
    """Shares proportional to sqrt(eta), the minimiser of sum eta/share (eqs 7, 9)."""
    weights = np.sqrt(np.asarray(eta, float))
    return weights / weights.sum()


def local_latency_s(config: Config, vehicle_flops, model):
    """Latency of running DNN ``model`` on the vehicle alone, sum x'/c."""
    return config.compression * float(config.profiles[model][0].sum()) / vehicle_flops


def lower_bound(config: Config, vehicle_flops, model, power_dbm=None):
    """Least cost (s) any decision can have, under any load and any allocation.

    ``power_dbm`` is the vehicle's transmit power (None: the upper end of the range).
    """
    if power_dbm is None:
        power_dbm = config.power_range_dbm[1]
    flops, bits = config.profiles[model]
    best_link_bps = max(
        b * spectral_efficiency(config, power_dbm, config.min_distance_m, b)
        for b in config.bandwidth_hz
    )
    best_rsu_flops = max(config.rsu_flops)
    bound = local_latency_s(config, vehicle_flops, model)
    for cut in range(1, len(flops)):
        on_vehicle_s = config.compression * flops[:cut].sum() / vehicle_flops
        upload_s = bits[cut - 1] / best_link_bps
        on_rsu_s = flops[cut:].sum() / best_rsu_flops
        bound = min(bound, on_vehicle_s + upload_s + on_rsu_s)
    return float(bound)


@dataclasses.dataclass
class Record:
    """A task that has ended. Times are absolute (s); ``upload_end_s`` is NaN if it never came."""

    vehicle: int
    decision: int
    slot: int
    model: int
    latency_s: float
    cost_s: float
    outcome: str
    upload_end_s: float
    end_s: float

    @property
    def success(self):
        """Whether the result reached the vehicle."""
        return self.outcome == "success"


@dataclasses.dataclass
class Task:
    """A task in flight. ``work[p]`` is the work of phase p (FLOP or bit), p = 1..5."""

    vehicle: int
    decision: int
    slot: int
    model: int
    helper: int
    deliverer: int
    helper_position_m: float
    deliverer_position_m: float
    is_local: bool
    work: tuple[float, ...]
    phase: int = IDLE
    remaining: float = 0.0
    weight: float = 1.0
    entered: tuple[int, float] = (0, 0.0)
    upload_entered: tuple[int, float] = (0, 0.0)
    upload_end_s: float = math.nan


# --------------------------------------------------------------------------------------------------
# The state machine
# --------------------------------------------------------------------------------------------------


class SlowVehicular:
    """One episode of the vehicular system, one ``step`` per decision of an asking vehicle."""

    def __init__(self, config: Config, scenario: Scenario):
        self.config = config
        self.scenario = scenario
        self.reset()

    def reset(self):
        """Starts the episode and advances to its first decision."""
        self.slot = 0
        self.tau = 0.0
        self.tasks: list[Task | None] = [None] * self.config.num_vehicles
        self.waiting: list[int] = []
        self.records: list[Record] = []
        self.num_decisions = 0
        self.done = False
        self._before_drain: SlowVehicular | None = None
        self._find_asking_vehicles()
        self._advance_to_decision()

    # -- where vehicles and RSUs are ---------------------------------------------------------------

    def _direction(self, vehicle):
        return float(self.scenario.trace_direction[vehicle])

    def is_active(self, vehicle, slot=None):
        """Whether the vehicle is on the road in ``slot`` (default: now)."""
        if self.scenario.trace_position_m is None:
            return True
        slot = self.slot if slot is None else slot
        row = min(self.scenario.trace_start + slot, len(self.scenario.trace_position_m) - 1)
        return bool(self.scenario.trace_active[row, vehicle])

    def speed(self, vehicle, slot=None):
        """Speed in the driving direction in ``slot`` (default: now), m/s."""
        scenario = self.scenario
        if scenario.trace_position_m is None:
            return float(scenario.speed[vehicle])
        slot = self.slot if slot is None else slot
        last = len(scenario.trace_position_m) - 1
        row = min(scenario.trace_start + slot, last)
        position = scenario.trace_position_m[:, vehicle]
        active = scenario.trace_active[:, vehicle]
        if row < last and active[row] and active[row + 1]:
            difference = position[row + 1] - position[row]
        elif row > 0 and active[row] and active[row - 1]:
            difference = position[row] - position[row - 1]
        else:
            return 0.0
        return self._direction(vehicle) * float(difference) / self.config.slot_s

    def position_m(self, vehicle, slot=None):
        """Unwrapped position in the driving direction at the start of ``slot`` (default: now)."""
        scenario = self.scenario
        slot = self.slot if slot is None else slot
        if scenario.trace_position_m is None:
            elapsed_s = slot * self.config.slot_s
            return float(scenario.position_m[vehicle]) + float(scenario.speed[vehicle]) * elapsed_s
        row = scenario.trace_start + slot
        last = len(scenario.trace_position_m) - 1
        position = self._direction(vehicle) * float(
            scenario.trace_position_m[min(row, last), vehicle]
        )
        if row > last:
            position += self.speed(vehicle, slot) * ((row - last) * self.config.slot_s)
        return position

    def zone_centre_m(self, position_m):
        """Centre of the zone that contains a position."""
        zone_m = self.config.zone_m
        return (math.floor(position_m / zone_m) + 0.5) * zone_m

    def location_m(self, vehicle):
        """The vehicle's location during this slot: the centre of its zone."""
        return self.zone_centre_m(self.position_m(vehicle))

    def rsu_copies_m(self, vehicle):
        """For each RSU, the first of its periodic copies that the vehicle has not left."""
        config = self.config
        z = self.location_m(vehicle)
        sign = 1.0 if self.scenario.trace_position_m is None else self._direction(vehicle)
        copies = []
        for x in config.rsu_position_m:
            x = sign * float(x)
            laps = math.ceil((z - config.radius_m - config.tolerance_m - x) / config.road_period_m)
            copies.append(x + laps * config.road_period_m)
        return copies

    def rolled_order(self, vehicle):
        """RSU numbers from the furthest behind to the furthest ahead."""
        copies = self.rsu_copies_m(vehicle)
        return sorted(range(len(copies)), key=lambda s: (copies[s], s))

    def nearest_rsu(self, vehicle):
        """The RSU nearest to the vehicle's location, ties to the lowest number."""
        copies = self.rsu_copies_m(vehicle)
        z = self.location_m(vehicle)
        return min(range(len(copies)), key=lambda s: (abs(copies[s] - z), s))

    def _within_radius(self, rsu_m, location_m):
        return abs(rsu_m - location_m) <= self.config.radius_m + self.config.tolerance_m

    def _covered(self, vehicle, rsu_m):
        return self.is_active(vehicle) and self._within_radius(rsu_m, self.location_m(vehicle))

    # -- shares and rates --------------------------------------------------------------------------

    def _full_upload_bps(self, vehicle, rsu, rsu_m):
        bandwidth_hz = float(self.config.bandwidth_hz[rsu])
        distance_m = abs(rsu_m - self.location_m(vehicle))
        power_dbm = float(self.scenario.power_dbm[vehicle])
        return bandwidth_hz * spectral_efficiency(self.config, power_dbm, distance_m, bandwidth_hz)

    def _full_rate(self, task):
        """Rate of the task's phase if its share were 1, in FLOP/s or bit/s."""
        if task.phase == LOCAL:
            return float(self.scenario.vehicle_flops[task.vehicle])
        if task.phase == UPLOAD:
            return self._full_upload_bps(task.vehicle, task.helper, task.helper_position_m)
        if task.phase == HELPER:
            return float(self.config.rsu_flops[task.helper])
        if task.phase == WIRED:
            return self.config.wired_rate_bps
        return float(self.config.rsu_flops[task.deliverer])

    def _set_weight(self, task, amount):
        if self.config.allocation == "kkt" and task.phase in (UPLOAD, HELPER, DELIVERER):
            task.weight = math.sqrt(amount / self._full_rate(task))
        else:
            task.weight = 1.0

    def _refresh_weights(self):
        for task in self._in_flight():
            whole = self.config.share_weights == "total"
            self._set_weight(task, task.work[task.phase] if whole else task.remaining)

    def _pool(self, task):
        """Name of the shared resource the task uses now, None if its resource is its own."""
        if task.phase in (UPLOAD, HELPER):
            rsu = task.helper
        elif task.phase == DELIVERER:
            rsu = task.deliverer
        else:
            return None
        if self.config.allocation == "serial":
            return ("rsu", rsu)
        return ("band" if task.phase == UPLOAD else "server", rsu)

    def shares(self):
        """Share of each vehicle's task in its resource now, {vehicle: share}; 1 if not shared."""
        pools: dict[tuple[str, int], list[Task]] = {}
        shares = {}
        for task in self._in_flight():
            pool = self._pool(task)
            if pool is None:
                shares[task.vehicle] = 1.0
            else:
                pools.setdefault(pool, []).append(task)
        for members in pools.values():
            if self.config.allocation == "fifo":
                first = min(members, key=lambda task: (task.entered, task.vehicle))
                weights = [1.0 if task is first else 0.0 for task in members]
            elif self.config.allocation == "serial":
                first = min(members, key=lambda task: (task.upload_entered, task.vehicle))
                weights = [1.0 if task is first else 0.0 for task in members]
            else:
                weights = [task.weight for task in members]
            total = sum(weights)
            for task, weight in zip(members, weights, strict=True):
                shares[task.vehicle] = weight / total
        return shares

    # -- phases and ends ---------------------------------------------------------------------------

    def _in_flight(self):
        return [task for task in self.tasks if task is not None]

    def _elapsed_s(self, task):
        return (self.slot - task.slot) * self.config.slot_s + self.tau

    def _time_s(self):
        return self.slot * self.config.slot_s + self.tau

    def _instant(self):
        """Now as a sortable (slot, tau); the end of a slot is the start of the next."""
        if self.tau == self.config.slot_s:
            return (self.slot + 1, 0.0)
        return (self.slot, self.tau)

    def _enter_next_phase(self, task):
        """Moves the task to its next phase with work, or ends it."""
        if task.phase == UPLOAD:
            task.upload_end_s = self._time_s()
        for phase in range(task.phase + 1, DELIVERER + 1):
            if task.work[phase] > 0:
                break
        else:
            covered = self._covered(task.vehicle, task.deliverer_position_m)
            self._end(task, "success" if task.is_local or covered else "delivery_failure")
            return
        task.phase = phase
        task.remaining = task.work[phase]
        task.entered = self._instant()
        if phase == UPLOAD:
            task.upload_entered = task.entered
            if not self._covered(task.vehicle, task.helper_position_m):
                self._end(task, "upload_failure")
                return
        self._set_weight(task, task.work[phase])

    def _end(self, task, outcome):
        latency_s = self._elapsed_s(task)
        if outcome in ("upload_failure", "left_road", "unfinished"):
            vehicle_flops = float(self.scenario.vehicle_flops[task.vehicle])
            latency_s = max(latency_s, local_latency_s(self.config, vehicle_flops, task.model))
        factor = 1.0 if outcome == "success" else self.config.failure_weight
        self.records.append(
            Record(
                vehicle=task.vehicle,
                decision=task.decision,
                slot=task.slot,
                model=task.model,
                latency_s=latency_s,
                cost_s=factor * latency_s,
                outcome=outcome,
                upload_end_s=task.upload_end_s,
                end_s=self._time_s(),
            )
        )
        self.tasks[task.vehicle] = None

    # -- the course of a slot ----------------------------------------------------------------------

    def _test_coverage(self):
        """Slot start: tasks that left the road or lost the helper during the upload end."""
        for task in self._in_flight():
            if not task.is_local and not self.is_active(task.vehicle):
                self._end(task, "left_road")
            elif task.phase == UPLOAD and not self._covered(task.vehicle, task.helper_position_m):
                self._end(task, "upload_failure")

    def _find_asking_vehicles(self):
        """Slot start: who asks is fixed once, before anyone decides."""
        self.waiting = []
        if self.slot < self.config.num_slots:
            for i in range(self.config.num_vehicles):
                idle = self.tasks[i] is None
                if idle and self.is_active(i) and bool(self.scenario.arrival[self.slot, i]):
                    self.waiting.append(i)

    def _run_events(self):
        """Runs one slot from ``tau = 0`` to its end."""
        slot_s = self.config.slot_s
        self._refresh_weights()
        self.tau = 0.0
        events = 0
        while self.tau < slot_s:
            events += 1
            if events > 6 * self.config.num_vehicles + 2:
                raise RuntimeError(f"slot {self.slot} does not end")
            tasks = self._in_flight()
            shares = self.shares()
            rates = [shares[task.vehicle] * self._full_rate(task) for task in tasks]
            times = [
                task.remaining / rate if rate > 0 else math.inf
                for task, rate in zip(tasks, rates, strict=True)
            ]
            rest_s = slot_s - self.tau
            dt = min([rest_s, *times])
            self.tau = slot_s if dt == rest_s else self.tau + dt
            finished = []
            for task, rate, time_s in zip(tasks, rates, times, strict=True):
                if time_s <= dt * (1.0 + self.config.tol):
                    task.remaining = 0.0
                    finished.append(task)
                else:
                    task.remaining -= rate * dt
            for task in finished:
                self._enter_next_phase(task)

    def _next_slot(self):
        """Events of this slot, then the start of the next one without arrivals."""
        self._run_events()
        self.slot += 1
        self.tau = 0.0
        self._test_coverage()

    def _advance_to_decision(self):
        """Lets time pass until somebody asks or slot T is reached."""
        while not self.waiting and self.slot < self.config.num_slots:
            self._next_slot()
            self._find_asking_vehicles()

    def _drain(self):
        """Runs without arrivals until every task has ended."""
        while self._in_flight() and self.slot < self.config.max_slots:
            self._next_slot()
        for task in self._in_flight():
            self._end(task, "unfinished")

    # -- decisions ---------------------------------------------------------------------------------

    @property
    def decision_pending(self):
        """Whether a vehicle waits for its decision (false in an episode without tasks)."""
        return bool(self.waiting)

    @property
    def vehicle(self):
        """The asking vehicle; if nobody asks, the idle one of lowest index, 0 if none."""
        if self.waiting:
            return self.waiting[0]
        return next((i for i, task in enumerate(self.tasks) if task is None), 0)

    @property
    def model(self):
        """The DNN of the asking vehicle's task."""
        return int(self.scenario.model[self.slot, self.vehicle])

    @property
    def num_layers(self):
        """Number of layers K of the asking vehicle's task."""
        return len(self.config.profiles[self.model][0])

    def encode(self, helper, deliverer, first_cut, second_cut):
        """Flat action index; RSUs rolled from 0, cuts 1 <= k1 <= k2 <= ``max_layers``."""
        layers = self.config.max_layers
        pairs = [(a, b) for a in range(1, layers + 1) for b in range(a, layers + 1)]
        pair = pairs.index((first_cut, second_cut))
        return (helper * self.config.num_rsus + deliverer) * len(pairs) + pair

    def decode(self, index):
        """Rolled helper, rolled deliverer, k1, k2 of a flat action index, before clipping to K."""
        if not 0 <= index < self.config.num_actions:
            raise ValueError(
                f"index: {index} is not valid; give 0 to {self.config.num_actions - 1}"
            )
        layers = self.config.max_layers
        pairs = [(a, b) for a in range(1, layers + 1) for b in range(a, layers + 1)]
        rsus, pair = divmod(int(index), len(pairs))
        helper, deliverer = divmod(rsus, self.config.num_rsus)
        return (helper, deliverer, *pairs[pair])

    def _submit(self, index):
        """Submits the asking vehicle's task; returns its decision number."""
        vehicle, model, layers = self.vehicle, self.model, self.num_layers
        helper, deliverer, first_cut, second_cut = self.decode(index)
        first_cut, second_cut = min(first_cut, layers), min(second_cut, layers)
        order, copies = self.rolled_order(vehicle), self.rsu_copies_m(vehicle)
        flops, bits = self.config.profiles[model]
        on_vehicle = self.config.compression * float(flops[:first_cut].sum())
        if first_cut == layers:
            work = (0.0, on_vehicle, 0.0, 0.0, 0.0, 0.0)
        else:
            work = (
                0.0,
                on_vehicle,
                float(bits[first_cut - 1]),
                float(flops[first_cut:second_cut].sum()),
                float(bits[second_cut - 1]) if helper != deliverer else 0.0,
                float(flops[second_cut:].sum()),
            )
        task = Task(
            vehicle=vehicle,
            decision=self.num_decisions,
            slot=self.slot,
            model=model,
            helper=order[helper],
            deliverer=order[deliverer],
            helper_position_m=copies[order[helper]],
            deliverer_position_m=copies[order[deliverer]],
            is_local=first_cut == layers,
            work=work,
        )
        self.num_decisions += 1
        self.waiting.pop(0)
        self.tasks[vehicle] = task
        self._enter_next_phase(task)
        return task.decision

    def step(self, index):
        """Takes the asking vehicle's decision and advances to the next one.

        Returns ``reward_completion`` (minus the costs of the tasks that ended), ``ended`` (their
        records), ``elapsed_slots``, ``truncated``, ``decision`` (its number, -1 if there was none)
        and ``action_valid``. After the end, and in an episode without tasks, it does nothing.
        """
        num_records, slot = len(self.records), self.slot
        decision, action_valid = -1, True
        if not self.done:
            if self.decision_pending:
                action_valid = bool(self.mask()[index])
                decision = self._submit(index)
                self._advance_to_decision()
            if not self.waiting:
                self._before_drain = self._copy()
                self._drain()
                self.done = True
        ended = self.records[num_records:]
        return dict(
            reward_completion=-sum(record.cost_s for record in ended),
            ended=ended,
            elapsed_slots=self.slot - slot,
            truncated=self.done,
            decision=decision,
            action_valid=action_valid,
        )

    # -- what the controller sees ------------------------------------------------------------------

    def mask(self):
        """Valid actions, bool[num_actions]."""
        config = self.config
        mask = np.zeros(config.num_actions, bool)
        if not self.decision_pending:
            mask[0] = True
            return mask
        vehicle, layers = self.vehicle, self.num_layers
        order, copies = self.rolled_order(vehicle), self.rsu_copies_m(vehicle)
        flops, _ = self.config.profiles[self.model]
        pairs = [(a, b) for a in range(1, layers + 1) for b in range(a, layers + 1)]
        position_of_pair = {pair: self.encode(0, 0, *pair) for pair in pairs}
        mask[position_of_pair[layers, layers]] = True
        for first_cut in range(1, layers):
            local_s = (
                config.compression
                * float(flops[:first_cut].sum())
                / float(self.scenario.vehicle_flops[vehicle])
            )
            slots_ahead = math.floor(local_s / config.slot_s)
            upload_m = self.zone_centre_m(
                self.position_m(vehicle) + self.speed(vehicle) * slots_ahead * config.slot_s
            )
            for helper in range(config.num_rsus):
                if not self._within_radius(copies[order[helper]], upload_m):
                    continue
                for deliverer in range(config.num_rsus):
                    base = (helper * config.num_rsus + deliverer) * config.num_pairs
                    for second_cut in range(first_cut, layers + 1):
                        if helper != deliverer or second_cut == layers:
                            mask[base + position_of_pair[first_cut, second_cut]] = True
        return mask

    def observation(self, kind="paper", model_onehot=False):
        """Observation about the asking vehicle, RSUs in rolled order."""
        config, vehicle = self.config, self.vehicle
        order, copies = self.rolled_order(vehicle), self.rsu_copies_m(vehicle)
        size = config.num_rsus
        committed_flops = [0.0] * size
        upload_bits, uploads, computing = [0.0] * size, [0] * size, [0] * size
        for task in self._in_flight():
            if task.phase < HELPER:
                committed_flops[task.helper] += task.work[HELPER]
            elif task.phase == HELPER:
                committed_flops[task.helper] += task.remaining
                computing[task.helper] += 1
            if task.phase < DELIVERER:
                committed_flops[task.deliverer] += task.work[DELIVERER]
            else:
                committed_flops[task.deliverer] += task.remaining
                computing[task.deliverer] += 1
            if task.phase == UPLOAD:
                upload_bits[task.helper] += task.remaining
                uploads[task.helper] += 1
        entries = [config.rsu_flops[s] / 60e9 for s in order]
        entries += [config.bandwidth_hz[s] / 10e6 for s in order]
        entries += [committed_flops[s] / (config.rsu_flops[s] * 10.0) for s in order]
        entries += [
            self.speed(vehicle) / 20.0,
            self.scenario.vehicle_flops[vehicle] / 5e9,
            self.scenario.power_dbm[vehicle] / 10.0,
            (copies[order[0]] - self.location_m(vehicle)) / 300.0,
        ]
        if model_onehot:
            chosen = self.model if self.decision_pending else None
            entries += [1.0 if m == chosen else 0.0 for m in range(len(config.profiles))]
        if kind == "extended":
            entries += [upload_bits[s] / 22.1184e6 for s in order]
            entries += [uploads[s] / config.num_vehicles for s in order]
            entries += [computing[s] / config.num_vehicles for s in order]
        elif kind != "paper":
            raise ValueError(f"kind: {kind!r} is not valid; give 'paper' or 'extended'")
        return np.array(entries, dtype=np.float64)

    def final_observation(self, reward_mode="completion", kind="paper", model_onehot=False):
        """Observation after the last decision.

        ``completion``: of the drained state. ``own``, ``marginal``: of the state at slot T before
        the drain, since tasks in flight are credited to their decisions there.
        """
        if reward_mode not in ("completion", "own", "marginal"):
            raise ValueError(
                f"reward_mode: {reward_mode!r} is not valid; give 'completion', 'own' or 'marginal'"
            )
        if not self.done:
            raise ValueError("final_observation: the episode has not ended")
        state = self if reward_mode == "completion" else self._before_drain
        return state.observation(kind, model_onehot)

    # -- projections -------------------------------------------------------------------------------

    def _copy(self):
        twin = copy.copy(self)
        twin.tasks = [copy.copy(task) for task in self.tasks]
        twin.waiting = list(self.waiting)
        twin.records = list(self.records)
        return twin

    def _projected(self, index=None):
        """Records that end from now on if only the decision ``index`` (None: none) still comes."""
        twin = self._copy()
        twin.records = []
        if index is not None:
            twin._submit(index)
        twin.waiting = []
        twin._drain()
        return twin.records

    def phi(self):
        """Total cost (s) of the tasks in flight if nobody else submits."""
        return sum(record.cost_s for record in self._projected())

    def phi_after(self, index):
        """The same after the decision ``index``, with the new task, even if it ends on entry."""
        return sum(record.cost_s for record in self._projected(index))

    def marginal_reward(self, index):
        """Marginal reward of the decision ``index``: Phi before minus Phi after."""
        return self.phi() - self.phi_after(index)

    def own_cost(self, index):
        """Greedy's score of the decision ``index``: its own cost (s), +1000 s on a lost upload."""
        own = [r for r in self._projected(index) if r.decision == self.num_decisions]
        (record,) = own
        return record.cost_s + (1000.0 if record.outcome == "upload_failure" else 0.0)

    # -- heuristics --------------------------------------------------------------------------------

    def local_action(self):
        """Everything on the vehicle."""
        return self.encode(0, 0, self.num_layers, self.num_layers)

    def _nearest_rolled(self):
        return self.rolled_order(self.vehicle).index(self.nearest_rsu(self.vehicle))

    def edge_action(self):
        """Raw input to the nearest RSU."""
        nearest = self._nearest_rolled()
        return self.encode(nearest, nearest, 1, self.num_layers)

    def dsl_action(self):
        """Nearest RSU, cut of least unloaded latency."""
        vehicle, layers = self.vehicle, self.num_layers
        flops, bits = self.config.profiles[self.model]
        rsu = self.nearest_rsu(vehicle)
        link_bps = self._full_upload_bps(vehicle, rsu, self.rsu_copies_m(vehicle)[rsu])
        vehicle_flops = float(self.scenario.vehicle_flops[vehicle])
        latencies = []
        for cut in range(1, layers + 1):
            latency_s = self.config.compression * float(flops[:cut].sum()) / vehicle_flops
            if cut < layers:
                latency_s += float(bits[cut - 1]) / link_bps
                latency_s += float(flops[cut:].sum()) / float(self.config.rsu_flops[rsu])
            latencies.append(latency_s)
        best_cut = 1 + latencies.index(min(latencies))
        if best_cut == layers:
            return self.local_action()
        nearest = self._nearest_rolled()
        return self.encode(nearest, nearest, best_cut, layers)

    def first_cuts(self):
        """First cuts worth trying for the asking vehicle's DNN."""
        flops, bits = self.config.profiles[self.model]
        kept = [1]
        for cut in range(2, self.num_layers):
            smaller = bits[cut - 1] < bits[kept[-1] - 1]
            light = flops[:cut].sum() < 0.98 * flops.sum()
            if smaller and (light or kept[-1] == 1):
                kept.append(cut)
        return kept

    def candidates(self):
        """Flat indices, ascending, of the decisions that Greedy and Social compare."""
        vehicle, layers, size = self.vehicle, self.num_layers, self.config.num_rsus
        order, copies = self.rolled_order(vehicle), self.rsu_copies_m(vehicle)
        flops, _ = self.config.profiles[self.model]
        helpers = {h for h in range(size) if self._covered(vehicle, copies[order[h]])}
        helpers.add((self._nearest_rolled() + 1) % size)
        found = {self.local_action()}
        for first_cut in self.first_cuts():
            heavy = {
                k for k in range(first_cut + 1, layers + 1) if flops[k - 1] > 0.02 * flops.sum()
            }
            for helper in helpers:
                for deliverer in {helper, (helper + 1) % size, (helper + 2) % size}:
                    cuts = {layers} if helper == deliverer else {first_cut, layers} | heavy
                    for second_cut in cuts:
                        found.add(self.encode(helper, deliverer, first_cut, second_cut))
        return sorted(found)

    def greedy_action(self):
        """Candidate with the least projected cost of the own task, ties to the lowest index."""
        return min(self.candidates(), key=lambda index: (self.own_cost(index), index))

    def social_action(self):
        """Candidate with the least projected total cost, ties to the lowest index."""
        return min(self.candidates(), key=lambda index: (self.phi_after(index), index))
