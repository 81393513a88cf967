"""Adaptive DNN splitting between a device and an edge host, under mean-delay and outage limits.

In every slot a device has N new images to classify. It computes the network up to a splitting point
k, sends the features at a rate R and the host computes the rest. Two virtual queues count how much
the mean delay and the frequency of late batches have exceeded their limits so far. The file reads:
scenario, state, costs of the splitting points, one slot, the contract, then `simulate`, which runs
hundreds of long trajectories in one call.

Source: "Energy-efficient cooperative inference via adaptive deep neural network splitting at the
edge", IEEE International Conference on Communications (ICC) 2023; equation numbers are the paper's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from allocators import rate
from jaxenv import dnn, spaces, struct
from jaxenv.data import measured
from jaxenv.dnn import csv_io
from jaxenv.environment import Environment, Metric, Params, State, as_key
from jaxenv.errors import ConfigError
from jaxenv.physics import arrivals, radio
from jaxenv.validation import check_array, check_fields

NETWORK = "mobilenet_v2"
NETWORK_MACS = 300_774_272
LEAST_FADING = 1e-12
MOST_BELOW_ONE = 1 - 2.0**-24
BLOCK = 256  # slots that share a stream of random words
_START_STREAM = -1


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


class Costs(NamedTuple):
    """What the splitting points cost per image, ``[K]``, and the channel at unit fading.

    local_s: on the device. remote_s: on the whole host. bits: sent. energy_j: of the device's
    computing. snr_per_watt: of x = 1.
    """

    local_s: chex.Array
    remote_s: chex.Array
    bits: chex.Array
    energy_j: chex.Array
    snr_per_watt: chex.Array


class Row(NamedTuple):
    """`Costs` of one splitting point."""

    local_s: chex.Array
    remote_s: chex.Array
    bits: chex.Array
    energy_j: chex.Array


class Slot(NamedTuple):
    """What a slot's decision is made on: the context (N, g, alpha) and the queues (Z, H).

    limits: of the rate, if they are at hand.
    """

    num_images: chex.Array
    snr_per_watt: chex.Array
    availability: chex.Array
    z: chex.Array
    h: chex.Array
    limits: rate.Limits | None = None


class Outcome(NamedTuple):
    """What a decision leads to: s and J of the batch, and their parts."""

    delay_s: chex.Array
    energy_j: chex.Array
    outage: chex.Array
    local_delay_s: chex.Array
    tx_delay_s: chex.Array
    remote_delay_s: chex.Array
    local_energy_j: chex.Array
    tx_energy_j: chex.Array


@struct.dataclass
class Context:
    """A slot's draws: images N, fading x, share alpha / alpha_max of the host.

    gain: real and imaginary part of the channel's gain, only with contexts="markov".
    """

    num_images: chex.Array
    fading: chex.Array
    share: chex.Array
    gain: tuple[chex.Array, chex.Array] | None


@struct.dataclass
class Queues:
    """The virtual queues Z (s) and H, each as an unevaluated sum of two floats."""

    z: chex.Array
    z_low: chex.Array
    h: chex.Array
    h_low: chex.Array


@struct.dataclass
class SplittingState(State):
    """context: of this slot. seen: of the last one, None where decisions see this one's.

    row: int32, of the tables in the first slot; None without tables.
    """

    context: Context
    seen: Context | None
    queues: Queues
    row: chex.Array | None


@struct.dataclass
class Totals:
    """Sums over chunks of slots of many trajectories: leaves ``[chunks, seeds, scenarios]``.

    split: int32 ``[chunks, K, seeds, scenarios]``, how often each point was chosen. z, h: sums of
    the queues after each slot; z_final, h_final: the queues at the end of the chunk.
    """

    energy_j: chex.Array
    full_local_energy_j: chex.Array
    delay_s: chex.Array
    outage: chex.Array
    z: chex.Array
    h: chex.Array
    z_final: chex.Array
    h_final: chex.Array
    split: chex.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Splitting(Environment[SplittingState, SplittingParams]):
    """One device, one edge host, one decision per slot.

    num_splits: splitting points, K. max_images: the most images of a slot.
    num_slots, burn_in, chunk_slots: of `simulate`; the last divides the others.
    action_mode: ``split`` decides the splitting point, at the rate of eq (19); ``split_rate`` also
    the rate. reward_mode: ``dpp`` (drift plus penalty), or ``lagrangian`` with given prices.
    contexts: ``independent`` over slots; ``markov``, correlated fading and availability; or
    ``given`` by tables. observed: ``now``, or ``late``: decisions see the fading and availability
    of the slot before. allocator: ``closed`` or ``jaxopt``, who solves for the rate.
    """

    num_splits: int = 20
    max_images: int = 40
    table_rows: int = 0
    num_slots: int = 200_000
    burn_in: int = 10_000
    chunk_slots: int = 1_000
    action_mode: Literal["split", "split_rate"] = "split"
    reward_mode: Literal["dpp", "lagrangian"] = "dpp"
    contexts: Literal["independent", "markov", "given"] = "independent"
    observed: Literal["now", "late"] = "now"
    allocator: Literal["closed", "jaxopt"] = "closed"

    name: ClassVar[str] = "splitting"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Energy saved against computing everything locally, and what the constraints limit."""
        cost = (Metric("mean_cost_j", "J", "min", "mean", "cost_j"),)
        saved = ("saved_energy_j", "full_local_energy_j")
        return (
            Metric("energy_saving", "%", "max", "ratio", *saved, scale=100),
            Metric("mean_energy_j", "J", "min", "mean", "energy_j"),
            Metric("mean_delay_s", "s", "min", "mean", "delay_s"),
            Metric("outage", "%", "min", "mean", "outage", scale=100),
            *(cost if self.reward_mode == "lagrangian" else ()),
        )

    # ---- sizes and scenario -------------------------------------------------------------------

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, _CHOICES, _LEAST)
        for name in ("num_slots", "burn_in"):
            if getattr(self, name) % self.chunk_slots:
                valid = f"give a multiple of chunk_slots = {self.chunk_slots}"
                raise ConfigError(name, getattr(self, name), valid)
        if self.burn_in >= self.num_slots:
            valid = f"give less than num_slots = {self.num_slots}"
            raise ConfigError("burn_in", self.burn_in, valid)
        if self.contexts == "given" and self.table_rows < 1:
            raise ConfigError("table_rows", self.table_rows, 'contexts="given" needs at least 1')

    @classmethod
    def build(cls, **options: Any) -> tuple[Splitting, SplittingParams]:
        """Sizes, leaves of the scenario, and these ways of describing one:

        network: a name of `jaxenv.dnn`, a `Profile`, or the path of a CSV profile; all its work is
        convolution unless the file also has the columns of `MAC_COLUMNS`, and the device takes the
        means of `mean [s]` if it has that one (``python -m runs.profile`` writes them).
        granularity, input_shape: of a network by name. board: path of a CSV file of settings
        (columns ``setting`` and ``value``), for example ``energy_mac_j,1.2e-10``; options given
        beside it win. trace: path of a CSV file of measured slots with some of the columns
        `TRACE_COLUMNS`; the rate is that at the largest power, the availability a share of
        ``availability_max``; what it lacks is drawn.
        """
        options = {name: value for name, value in options.items() if value is not None}
        network = options.pop("network", None)
        shape = options.pop("input_shape", (3, 224, 224))
        granularity = options.pop("granularity", "block")
        board, trace = options.pop("board", None), options.pop("trace", None)
        sizes = {f.name for f in dataclasses.fields(cls) if f.init}
        if board is not None:
            leaves = [f.name for f in dataclasses.fields(SplittingParams)]
            scalars = [n for n in leaves if n not in _PER_SPLIT and n not in _TABLES]
            settings = measured.read_setting("board", board, measured.read_settings, scalars)
            options = dict(settings) | options
        if network is not None or granularity != "block" or shape != (3, 224, 224):
            profile = _network(NETWORK if network is None else network, shape, granularity)
            options = {"num_splits": len(profile["elements"])} | profile | options
        series = None
        if trace is not None:
            series = measured.read_setting("trace", trace, measured.read_series, TRACE_COLUMNS)
            rows = len(next(iter(series.values())))
            options = {"contexts": "given", "table_rows": rows} | options
        for name in _TABLES:
            if name in options and "table_rows" not in options:
                if np.ndim(options[name]) != 1:
                    raise ConfigError(name, options[name], "give an array [rows]")
                options |= {"table_rows": len(options[name])}
                options = {"contexts": "given"} | options
        env = cls(**{k: v for k, v in options.items() if k in sizes})
        params = env.make_params(**{k: v for k, v in options.items() if k not in sizes})
        return env, params if series is None else env._with_trace(params, series)

    def _with_trace(
        self, params: SplittingParams, series: dict[str, np.ndarray]
    ) -> SplittingParams:
        """``params`` with the tables of a measured trace; a rate is turned into fading."""
        images, measured_rate, fading, share = (series.get(name) for name in TRACE_COLUMNS)
        if measured_rate is not None:
            if fading is not None:
                raise ConfigError("trace", "rate and fading", "give one of the two columns")
            if (measured_rate <= 0).any():
                raise ConfigError("trace", measured_rate.min(), "give positive rates in bit/s")
            bandwidth, power = float(params.bandwidth_hz), float(params.power_max_w)
            snr = np.expm1(measured_rate / bandwidth * math.log(2)) / power
            fading = snr / float(self.costs(params).snr_per_watt)
        tables = dict(zip(_TABLES, (images, fading, share), strict=True))
        tables = {k: jnp.asarray(v, self.float_dtype) for k, v in tables.items() if v is not None}
        params = params.replace(**tables)
        self.validate(params)
        return params

    def default_params(self) -> SplittingParams:
        """The constants of the paper and, where it is silent, of the model's specification.

        With 20 splitting points the network is MobileNetV2 at 224x224; otherwise give one through
        `build`.
        """
        if self.num_splits == 20:
            network = _network(NETWORK, (3, 224, 224), "block")
            total = int(network["macs_convolution"].sum() + network["macs_linear"].sum())
            if total != NETWORK_MACS:
                raise AssertionError(f"{NETWORK} has {total} MACs, not {NETWORK_MACS}")
        else:
            ones = np.ones(self.num_splits)
            network = dict.fromkeys(_PER_SPLIT, ones * (np.arange(self.num_splits) > 0))
            network["elements"] = ones * (np.arange(self.num_splits) < self.num_splits - 1)
            network["segment_s"] = -ones
        values: dict[str, Any] = {
            "max_steps": np.int32(10_000),
            "local_flops": 1.3e12,
            "remote_flops": 21e12,
            "flops_per_mac": 2.0,
            "energy_out_j": 2.6727e-8,
            "energy_mac_j": 1.21334e-10,
            "energy_fc_j": 6.2454e-9,
            "raw_bits": 32.0,
            "feature_bits": 32.0,
            "distance_m": 50.0,
            "carrier_hz": 3.5e9,
            "bandwidth_hz": 200e6,
            "noise_w_per_hz": 10**-20.4,
            "path_loss_exponent": 3.0,
            "fading_mean": 1.0,
            "power_min_w": 0.010,
            "power_max_w": 0.100,
            "arrival_rate": 10.0,
            "availability_max": 1.0,
            "delay_avg_s": 0.050,
            "delay_max_s": 0.100,
            "outage_eps": 0.01,
            "tradeoff_v": 3.0,
            "z0": 0.0,
            "h0": 0.0,
            "delay_price": 0.0,
            "outage_price": 0.0,
            "delay_clip_s": 1.0,
            "z_ref": 5.0,
            "eta_ref": 0.3,
            "fading_correlation": 0.9,
            "availability_correlation": 0.9,
            **network,
            **dict.fromkeys(_TABLES, np.full(self.table_rows, -1.0)),
            "table_start": np.int32(0),
        }
        return SplittingParams(**{k: self._leaf(v) for k, v in values.items()})

    def _leaf(self, value: Any) -> chex.Array:
        array = np.asarray(value)
        whole = array.dtype == np.int32
        return jnp.asarray(array, array.dtype if whole else self.float_dtype)

    def validate(self, params: SplittingParams) -> None:
        """Refuses what cannot be simulated; needs concrete values."""
        p = jax.tree.map(np.asarray, params)
        for name in _POSITIVE:
            check_array(name, getattr(p, name), lambda x: x > 0, "give a positive finite number")
        for name in _NOT_NEGATIVE:
            check_array(name, getattr(p, name), lambda x: x >= 0, "give a finite number, 0 or more")
        check_array("max_steps", p.max_steps, lambda x: x >= 1, "give at least 1 slot")
        check_array(
            "outage_eps", p.outage_eps, lambda x: (x > 0) & (x < 1), "give a number in (0, 1)"
        )
        valid = "give a number in (0, 1]"
        check_array("availability_max", p.availability_max, lambda x: (x > 0) & (x <= 1), valid)
        valid = f"give at least power_min_w = {float(p.power_min_w):g}"
        check_array("power_max_w", p.power_max_w, lambda x: x >= p.power_min_w, valid)
        for name in ("fading_correlation", "availability_correlation"):
            valid = "give a number in [0, 1)"
            check_array(name, getattr(p, name), lambda x: (x >= 0) & (x < 1), valid)
        tail = arrivals.poisson_tail(float(p.arrival_rate), self.max_images)
        valid = f"more than max_images = {self.max_images} come too often; raise max_images"
        check_array("arrival_rate", p.arrival_rate, lambda x: tail < 1e-9, valid)
        for name in _PER_SPLIT[:-1]:
            valid = "give finite numbers, 0 or more, one per splitting point"
            check_array(name, getattr(p, name), lambda x: x >= 0, valid)
        valid = "give finite times, or negative numbers for those of the work"
        check_array("segment_s", p.segment_s, lambda x: x == x, valid)
        if (p.macs_convolution + p.macs_linear)[1:].sum() <= 0:
            raise ConfigError("macs_convolution", 0, "give a network with some work")
        if self.contexts == "given":
            valid = "give whole numbers, or negative ones to draw"
            check_array("table_num_images", p.table_num_images, lambda x: x == np.round(x), valid)
            valid = "give positive finite numbers, or negative ones to draw"
            check_array("table_fading", p.table_fading, lambda x: x != 0, valid)
            valid = "give shares in (0, 1], or negative ones to draw"
            check_array(
                "table_availability", p.table_availability, lambda x: (x != 0) & (x <= 1), valid
            )

    @property
    def observation_space(self) -> spaces.Box:
        return spaces.Box(-np.inf, np.inf, (5,), self.float_dtype)

    @property
    def action_space(self) -> spaces.Discrete | spaces.Tuple:
        split = spaces.Discrete(self.num_splits)
        if self.action_mode == "split":
            return split
        return spaces.Tuple((split, spaces.Box(0.0, 1.0, (), self.float_dtype)))

    # ---- costs of the splitting points ---------------------------------------------------------

    def costs(self, params: SplittingParams) -> Costs:
        """`Costs` of a scenario; eqs (1) to (7), (9) and the channel of section II.

        Per-point leaves of ``params`` may have trailing axes that scalars have too.
        """
        p = params
        macs_of_segment = p.macs_convolution + p.macs_linear
        macs = jnp.cumsum(macs_of_segment, axis=0)
        by_work_s = p.flops_per_mac * macs / p.local_flops
        taken_s = p.flops_per_mac * macs_of_segment / p.local_flops
        measured_s = jnp.cumsum(jnp.where(p.segment_s < 0, taken_s, p.segment_s), axis=0)
        of_segment = (
            p.energy_out_j * p.macs_per_output
            + p.energy_mac_j * p.macs_convolution
            + p.energy_fc_j * p.macs_linear
        )
        index = jnp.arange(self.num_splits).reshape(-1, *(1,) * (p.elements.ndim - 1))
        wavenumber = p.carrier_hz * (4 * math.pi / radio.SPEED_OF_LIGHT_M_PER_S)
        path_loss = wavenumber**2 * p.distance_m**p.path_loss_exponent
        return Costs(
            local_s=jnp.where(jnp.any(p.segment_s >= 0, axis=0), measured_s, by_work_s),
            remote_s=p.flops_per_mac * (macs[-1] - macs) / p.remote_flops,
            bits=jnp.where(index == 0, p.raw_bits, p.feature_bits) * p.elements,
            energy_j=jnp.cumsum(of_segment, axis=0),
            snr_per_watt=p.fading_mean / (path_loss * p.noise_w_per_hz * p.bandwidth_hz),
        )

    # ---- one slot -------------------------------------------------------------------------------

    def uplink(self, snr_per_watt: chex.Array, params: SplittingParams) -> rate.Uplink:
        """The channel of a slot."""
        p = params
        return rate.Uplink(snr_per_watt, p.bandwidth_hz, p.power_min_w, p.power_max_w)

    def nats_range(self, slot: Slot, params: SplittingParams) -> tuple[chex.Array, chex.Array]:
        """Least and largest nats per channel use in a slot."""
        if slot.limits is not None:
            return slot.limits[:2]
        return rate.nats_range(self.uplink(slot.snr_per_watt, params))

    def closed_form_nats(self, slot: Slot, params: SplittingParams) -> chex.Array:
        """Nats per channel use of eq (19), for the paper's surrogate of the outage."""
        omega = slot.z + slot.h / params.delay_max_s
        uplink = self.uplink(slot.snr_per_watt, params)
        return rate.surrogate_nats(omega / params.tradeoff_v, uplink, self.allocator, slot.limits)

    def outcome(
        self,
        split: chex.Array,
        nats: chex.Array,
        slot: Slot,
        costs: Costs,
        params: SplittingParams,
    ) -> Outcome:
        """Delay, energy and outage of a decision in a slot; eqs (7) to (11), (8) times N.

        The rate is first brought into the slot's range.
        """
        uplink = self.uplink(slot.snr_per_watt, params)
        nats = jnp.clip(nats, *self.nats_range(slot, params))
        row = pick(costs, split)
        work = job(row, slot)
        delay_s, energy_j = rate.delay_and_energy(nats, work, uplink)
        tx_delay_s, tx_energy_j = rate.delay_and_energy(nats, rate.Job(work.bits, 0, 0), uplink)
        return Outcome(
            delay_s=delay_s,
            energy_j=energy_j,
            outage=(delay_s > params.delay_max_s).astype(delay_s.dtype),
            local_delay_s=slot.num_images * row.local_s,
            tx_delay_s=tx_delay_s,
            remote_delay_s=slot.num_images * row.remote_s * (1 / slot.availability),
            local_energy_j=work.other_energy_j,
            tx_energy_j=tx_energy_j,
        )

    # ---- contexts -----------------------------------------------------------------------------

    def _fresh(
        self, words: tuple[chex.Array, chex.Array], slot: chex.Array
    ) -> tuple[chex.Array, ...]:
        """A slot's draws, from the words of the stream of its block.

        Returns uniforms of the images and of the availability, the fading power and, with
        contexts="markov", uniforms of the phase and of whether the availability stays.
        """
        count = 5 if self.contexts == "markov" else 3

        def uniform(number: int) -> chex.Array:
            bits = arrivals.counted_bits(*words, (slot % BLOCK) * count + number)
            return (bits.astype(self.float_dtype) + 0.5) * 2.0**-32

        power = -jnp.log1p(-jnp.minimum(uniform(1), MOST_BELOW_ONE))
        fading = jnp.maximum(power, LEAST_FADING)
        return uniform(0), uniform(2), fading, *map(uniform, range(3, count))

    def _context(
        self,
        last: Context | None,
        fresh: tuple[chex.Array, ...],
        row: chex.Array | None,
        poisson: chex.Array,
        params: SplittingParams,
    ) -> Context:
        """The context that follows ``last`` (None for a stationary start).

        fresh: of `_fresh`. row: of the tables. poisson: the table of the arrivals.
        """
        uniform, share, fading, *correlated = fresh
        images = count_below(uniform, poisson)
        gain = None
        if self.contexts == "markov":
            phase, stay = correlated
            amplitude = jnp.sqrt(fading)
            gain = (
                amplitude * jnp.cos(2 * math.pi * phase),
                amplitude * jnp.sin(2 * math.pi * phase),
            )
            if last is not None:
                keep = params.fading_correlation
                renew = jnp.sqrt(1 - keep**2)
                gain = tuple(
                    keep * old + renew * new for old, new in zip(last.gain, gain, strict=True)
                )
                share = jnp.where(stay < params.availability_correlation, last.share, share)
            fading = jnp.maximum(gain[0] ** 2 + gain[1] ** 2, LEAST_FADING)
        if self.contexts == "given":
            drawn = (images, fading, share)
            images, fading, share = (
                _table(getattr(params, name), row, value)
                for name, value in zip(_TABLES, drawn, strict=True)
            )
        return Context(images, fading, share, gain)

    def _row(self, key_data: chex.Array, params: SplittingParams) -> chex.Array | None:
        """The row of the tables in the first slot; None without tables."""
        if self.contexts != "given":
            return None
        words = arrivals.stream_words(key_data, jnp.int32(_START_STREAM))
        drawn = arrivals.counted_bits(*words, 0)
        drawn = (drawn % np.uint32(self.table_rows)).astype(jnp.int32)
        return jnp.where(params.table_start < 0, drawn, params.table_start)

    def slot(self, context: Context, queues: Queues, costs: Costs, params: SplittingParams) -> Slot:
        """What a decision in a context knows."""
        return Slot(
            num_images=context.num_images,
            snr_per_watt=costs.snr_per_watt * context.fading,
            availability=params.availability_max * context.share,
            z=queues.z,
            h=queues.h,
        )

    def seen_slot(self, state: SplittingState, costs: Costs, params: SplittingParams) -> Slot:
        """What the decision of a state may know: with observed="late" the old channel and host."""
        return self.slot(self._seen(state.context, state.seen), state.queues, costs, params)

    def _seen(self, context: Context, last: Context | None) -> Context:
        if self.observed == "now":
            return context
        return context.replace(fading=last.fading, share=last.share)

    # ---- the contract -------------------------------------------------------------------------

    def reset_env(self, key: chex.PRNGKey, params: SplittingParams) -> SplittingState:
        key_data = jax.random.key_data(key)
        row = self._row(key_data, params)
        last = self._draw(key_data, jnp.int32(-1), row, None, params)
        context = self._draw(key_data, jnp.int32(0), row, last, params)
        zero = jnp.zeros((), self.float_dtype)
        return SplittingState(
            key=key,
            time=jnp.int32(0),
            context=context,
            seen=None if self.observed == "now" else last,
            queues=Queues(params.z0, zero, params.h0, zero),
            row=row,
        )

    def _draw(
        self,
        key_data: chex.Array,
        time: chex.Array,
        row: chex.Array | None,
        last: Context | None,
        params: SplittingParams,
    ) -> Context:
        """The context at a time, after ``last``; time -1 is the slot before the first one."""
        slot = time + 1
        fresh = self._fresh(arrivals.stream_words(key_data, slot // BLOCK), slot)
        poisson = arrivals.poisson_table(params.arrival_rate, self.max_images)
        return self._context(last, fresh, None if row is None else row + time, poisson, params)

    def step_env(
        self, key: chex.PRNGKey, state: SplittingState, action: Any, params: SplittingParams
    ) -> tuple[SplittingState, chex.Array, chex.Array, dict[str, Any]]:
        """Processes the slot's batch, updates the queues (13), (14) and draws the next context.

        Returns:
            The state, the reward, False, and ``info``: delays in s, energies in J, ``outage``,
            ``split``, ``rate_bps`` and ``power_w`` as used, ``saved_energy_j`` and
            ``full_local_energy_j`` (N E_J), ``cost_j`` (E + z D_c + eta o at the params' prices),
            and the queues ``z``, ``h`` after the update.
        """
        costs = self.costs(params)
        slot = self.slot(state.context, state.queues, costs, params)
        split, nats = self.decision(state, action, costs, params)
        uplink = self.uplink(slot.snr_per_watt, params)
        nats = jnp.clip(nats, *rate.nats_range(uplink))
        result = self.outcome(split, nats, slot, costs, params)
        queues = updated(state.queues, result.delay_s, result.outage, params)
        clipped = jnp.minimum(result.delay_s, params.delay_clip_s)
        cost = result.energy_j + params.delay_price * clipped + params.outage_price * result.outage
        drift = slot.z * (clipped - params.delay_avg_s)
        drift += slot.h * (result.outage - params.outage_eps)
        dpp = params.tradeoff_v * result.energy_j + drift
        reward = -(dpp if self.reward_mode == "dpp" else cost)
        full_local = slot.num_images * costs.energy_j[-1]
        info = result._asdict() | {
            "split": split.astype(self.float_dtype),
            "rate_bps": rate.rate_bps(nats, params.bandwidth_hz),
            "power_w": rate.power_w(nats, slot.snr_per_watt),
            "full_local_energy_j": full_local,
            "saved_energy_j": full_local - result.energy_j,
            "cost_j": cost,
            "z": queues.z,
            "h": queues.h,
        }
        following = state.replace(
            context=self._draw(
                jax.random.key_data(state.key), state.time + 1, state.row, state.context, params
            ),
            seen=None if self.observed == "now" else state.context,
            queues=queues,
        )
        return following, reward, jnp.asarray(False), info

    def decision(
        self, state: SplittingState, action: Any, costs: Costs, params: SplittingParams
    ) -> tuple[chex.Array, chex.Array]:
        """Splitting point and nats per channel use that an action stands for."""
        slot = self.seen_slot(state, costs, params)
        if self.action_mode == "split":
            return action, self.closed_form_nats(slot, params)
        split, place = action
        least, most = self.nats_range(slot, params)
        return split, least + place * (most - least)

    def encode(
        self,
        split: chex.Array,
        nats: chex.Array,
        state: SplittingState,
        costs: Costs,
        params: SplittingParams,
    ) -> Any:
        """The action of a decision; with action_mode="split" the rate is that of eq (19) anyway."""
        split = jnp.asarray(split, jnp.int32)
        if self.action_mode == "split":
            return split
        slot = self.seen_slot(state, costs, params)
        least, most = self.nats_range(slot, params)
        width = most - least
        place = jnp.where(width > 0, (nats - least) / jnp.where(width > 0, width, 1), 0)
        return split, jnp.clip(place, 0, 1).astype(self.float_dtype)

    def observe(self, state: SplittingState, params: SplittingParams) -> chex.Array:
        """``[5]``: N/10, log10 g, log10 alpha, Z/(V z_ref) and H/(V eta_ref), each at most 10."""
        return self.observation_of(self.seen_slot(state, self.costs(params), params), params)

    def observation_of(self, slot: Slot, params: SplittingParams) -> chex.Array:
        """`observe` of what a decision may know of a slot, ``[..., 5]``."""
        z = slot.z / (params.tradeoff_v * params.z_ref)
        h = slot.h / (params.tradeoff_v * params.eta_ref)
        parts = jnp.broadcast_arrays(
            slot.num_images / 10,
            jnp.log10(slot.snr_per_watt),
            jnp.log10(slot.availability),
            jnp.minimum(z, 10),
            jnp.minimum(h, 10),
        )
        return jnp.stack(parts, axis=-1).astype(self.float_dtype)

    def reward_unit(self, params: SplittingParams) -> chex.Array:
        """The energy of a mean batch computed locally, times V where the reward has it."""
        local = params.arrival_rate * self.costs(params).energy_j[-1]
        return local * (params.tradeoff_v if self.reward_mode == "dpp" else 1)

    # ---- many long trajectories in one call ----------------------------------------------------

    def simulate(self, policy: Any, params: SplittingParams, keys: chex.PRNGKey) -> Totals:
        """Trajectories of ``num_slots`` under every scenario and key, as sums over chunks.

        All scenarios meet the same draws under one key, so curves are paired, and drawing costs as
        if there were one scenario. Add chunks up in float64, see `simulated_metrics`.

        Args:
            policy: has ``decide(slot, costs, params) -> (split, nats)``, elementwise in all shapes.
                Its leaves are scalars, or ``[scenarios]``.
            params: each leaf may have a leading axis of scenarios.
            keys: ``[seeds]``, or one key.
        """
        keys = as_key(keys)
        key_data = jnp.atleast_2d(jax.random.key_data(keys))
        params, policy, scenarios = self._with_trailing_axes(params, policy)
        wide = scenarios > 1  # an innermost axis of one would keep the processor from vectorising
        shape = (len(key_data), scenarios) if wide else (len(key_data),)
        costs = self.costs(params)
        poisson = arrivals.poisson_table(params.arrival_rate, self.max_images)
        row = jax.vmap(lambda data: self._row(data, params))(key_data)
        row = row[:, None] if wide and row is not None else row
        # XLA fuses a result with all it depends on, and would repeat the whole decision for each of
        # its uses. It does not look into a conditional, even if only we know how that turns out.
        always = jnp.all(params.delay_max_s > 0)

        def once(function: Callable[..., Any], *arguments: Any) -> Any:
            nothing = jax.eval_shape(function, *arguments)
            skip = lambda *_: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), nothing)  # noqa: E731
            return jax.lax.cond(always, function, skip, *arguments)

        words_of = jax.vmap(
            lambda block: jax.vmap(arrivals.stream_words, (0, None))(key_data, block)
        )

        def fresh_of(slots: chex.Array) -> tuple[chex.Array, ...]:
            """Draws ``[slots, seeds(, 1)]``; the words of a block are made once."""
            first = slots[0] // BLOCK
            words = words_of(first + jnp.arange(len(slots) // BLOCK + 2, dtype=jnp.int32))
            words = jax.tree.map(lambda x: x[slots // BLOCK - first], words)
            if wide:
                return self._fresh(
                    jax.tree.map(lambda x: x[..., None], words), slots[:, None, None]
                )
            return self._fresh(words, slots[:, None])

        def context_of(last: Context | None, fresh: Any, time: chex.Array) -> Context:
            return self._context(last, fresh, None if row is None else row + time, poisson, params)

        def stepped(carry: tuple[Any, ...], drawn: Any) -> tuple[tuple[Any, ...], chex.Array]:
            queues, last, totals = carry
            if self.contexts == "markov":
                context, limits = context_of(last, *drawn), None
            else:
                context, limits = drawn
            slot = self.slot(context, queues, costs, params)._replace(limits=limits)
            seen = slot
            if self.observed == "late":
                seen = self.slot(self._seen(context, last), queues, costs, params)
            split, nats = once(policy.decide, seen, costs, params)
            delay, energy, outage = once(self.outcome, split, nats, slot, costs, params)[:3]
            queues = updated(queues, delay, outage, params)
            added = (energy, delay, outage, queues.z, queues.h)
            totals = tuple(total + x for total, x in zip(totals, added, strict=True))
            if last is not None:  # of all scenarios, even if none of them changes the draws
                last = jax.tree.map(lambda x: jnp.broadcast_to(x, shape), context)
            return (queues, last, totals), jnp.broadcast_to(split, shape).astype(jnp.int8)

        def chunk(carry: tuple[Any, Any], first: chex.Array) -> tuple[tuple[Any, Any], Totals]:
            times = first + jnp.arange(self.chunk_slots, dtype=jnp.int32)
            fresh = fresh_of(times + 1)
            context = jax.vmap(lambda f, t: context_of(None, f, t))(fresh, times)
            images = jnp.broadcast_to(jnp.sum(context.num_images, axis=0), shape)
            if self.contexts == "markov":  # only the numbers of images do not need the slot before
                drawn = (fresh, times)
            else:
                channel = self.uplink(costs.snr_per_watt * context.fading, params)
                drawn = (context, rate.limits(channel))
            zeros = jnp.zeros(shape, self.float_dtype)
            (queues, last, totals), splits = jax.lax.scan(stepped, (*carry, (zeros,) * 5), drawn)
            energy, delay, outage, z, h = totals
            at = lambda k: jnp.sum(splits == k, axis=0, dtype=jnp.int32)  # noqa: E731
            counts = jax.lax.map(at, jnp.arange(self.num_splits, dtype=jnp.int8))
            return (queues, last), Totals(
                energy_j=energy,
                full_local_energy_j=images * costs.energy_j[-1],
                delay_s=delay,
                outage=outage,
                z=z,
                h=h,
                z_final=queues.z,
                h_final=queues.h,
                split=counts,
            )

        zeros = jnp.zeros(shape, self.float_dtype)
        queues = Queues(zeros + params.z0, zeros, zeros + params.h0, zeros)
        last = None
        if self.contexts == "markov" or self.observed == "late":
            fresh = jax.tree.map(lambda x: x[0], fresh_of(jnp.zeros(1, jnp.int32)))
            last = context_of(None, fresh, jnp.int32(-1))
            last = jax.tree.map(lambda x: jnp.broadcast_to(x, shape), last)
        starts = jnp.arange(0, self.num_slots, self.chunk_slots, dtype=jnp.int32)
        totals = jax.lax.scan(chunk, (queues, last), starts)[1]
        return totals if wide else jax.tree.map(lambda x: x[..., None], totals)

    def _with_trailing_axes(
        self, params: SplittingParams, policy: Any
    ) -> tuple[SplittingParams, Any, int]:
        """Scenarios last: leaves ``[..., 1, scenarios or 1]``, and the number of scenarios.

        With one scenario ``[..., 1]``, for an axis of seeds alone.

        Tables stay as they are: all scenarios share them.
        """
        tables = {name: getattr(params, name) for name in (*_TABLES, "table_start")}
        leaves, structure = jax.tree.flatten(params)
        plain = jax.tree.leaves(jax.eval_shape(self.default_params))
        sizes = {1} | {len(x) for x, one in zip(leaves, plain, strict=True) if x.ndim > one.ndim}
        sizes |= {len(x) for x in jax.tree.leaves(policy) if jnp.ndim(x)}
        if len(sizes) > 2:
            raise ConfigError("scenarios", sorted(sizes - {1}), "give axes of one length")
        leaves = [
            jnp.moveaxis(x if x.ndim > one.ndim else x[None], 0, -1)
            for x, one in zip(leaves, plain, strict=True)
        ]
        if max(sizes) > 1:
            leaves = [x[..., None, :] for x in leaves]
        return jax.tree.unflatten(structure, leaves).replace(**tables), policy, max(sizes)

    def trace(self, params: SplittingParams, key: chex.PRNGKey) -> Context:
        """The contexts ``[num_slots]`` that `simulate` meets under a key."""
        key_data = jax.random.key_data(as_key(key))
        row, times = self._row(key_data, params), jnp.arange(self.num_slots, dtype=jnp.int32)

        def following(last: Context, time: chex.Array) -> tuple[Context, Context]:
            context = self._draw(key_data, time, row, last, params)
            return context, context

        if self.contexts == "markov":
            before = self._draw(key_data, jnp.int32(-1), row, None, params)
            return jax.lax.scan(following, before, times)[1]
        return jax.vmap(lambda time: self._draw(key_data, time, row, None, params))(times)

    def draw_episode(self, figure: Any, steps: Any, now: int, params: SplittingParams) -> None:
        """Draws an episode up to step ``now``; see `jaxenv.rendering.splitting`."""
        from jaxenv.rendering.splitting import draw_episode

        draw_episode(figure, self, steps, now, params)


# ---- splitting points ----------------------------------------------------------------------------


def job(row: Row, slot: Slot) -> rate.Job:
    """The transmission of a splitting point in a slot, and what computing costs besides."""
    images = slot.num_images
    return rate.Job(
        bits=images * row.bits,
        other_delay_s=images * (row.local_s + row.remote_s * (1 / slot.availability)),
        other_energy_j=images * row.energy_j,
    )


def rows(costs: Costs) -> Row:
    """The per-point part of `Costs`, ``[K, ...]``."""
    return Row(costs.local_s, costs.remote_s, costs.bits, costs.energy_j)


def pick(costs: Costs, split: chex.Array) -> Row:
    """The costs of chosen points, of the shape of ``split``.

    A chain of selections: a vector processor does it faster than it gathers.
    """
    first, others = _first_and_others(costs)
    first = jax.tree.map(
        lambda x: jnp.broadcast_to(x, jnp.broadcast_shapes(x.shape, jnp.shape(split))), first
    )

    def take(chosen: Row, item: tuple[chex.Array, Row]) -> tuple[Row, None]:
        here = split == item[0]
        return jax.tree.map(lambda new, old: jnp.where(here, new, old), item[1], chosen), None

    return jax.lax.scan(take, first, others, unroll=True)[0]


def first_minimum(
    costs: Costs,
    candidate: Callable[[Row], tuple[chex.Array, chex.Array]],
    chained: bool = False,
) -> tuple[chex.Array, chex.Array]:
    """``(split, nats)`` of the least objective over all splitting points, ties to the lowest.

    candidate: ``(objective, nats)`` of one point, or of all, ``[K, ...]``. chained: one point after
    the other in registers, faster for a cheap candidate and many runs, longer to compile.
    """
    if not chained:
        objective, nats = jnp.broadcast_arrays(*candidate(rows(costs)))
        split = jnp.argmin(objective, axis=0).astype(jnp.int32)
        return split, jnp.take_along_axis(nats, split[None], axis=0)[0]
    first, others = _first_and_others(costs)
    objective, nats = jnp.broadcast_arrays(*candidate(first))

    def better(best: tuple[chex.Array, ...], item: tuple[chex.Array, Row]) -> Any:
        objective, nats = candidate(item[1])
        new = (objective, nats, item[0])
        return tuple(
            jnp.where(objective < best[0], x, y) for x, y in zip(new, best, strict=True)
        ), None

    best = (objective, nats, jnp.zeros(objective.shape, jnp.int32))
    (_, nats, split), _ = jax.lax.scan(better, best, others, unroll=True)
    return split, nats


def _first_and_others(costs: Costs) -> tuple[Row, tuple[chex.Array, Row]]:
    """Point 0, and the others with their numbers."""
    every = rows(costs)
    index = jnp.arange(1, len(every.bits), dtype=jnp.int32)
    return Row(*(x[0] for x in every)), (index, Row(*(x[1:] for x in every)))


# ---- queues and draws ----------------------------------------------------------------------


def updated(
    queues: Queues, delay_s: chex.Array, outage: chex.Array, params: SplittingParams
) -> Queues:
    """The queues after a slot; eqs (13) and (14)."""
    z, z_low = _accumulated(queues.z, queues.z_low, delay_s - params.delay_avg_s)
    h, h_low = _accumulated(queues.h, queues.h_low, outage - params.outage_eps)
    return Queues(z, z_low, h, h_low)


def _accumulated(
    high: chex.Array, low: chex.Array, increment: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """``max(0, high + low + increment)`` as a sum of two floats (Knuth's exact addition)."""
    total = high + increment
    virtual = total - high
    error = (high - (total - virtual)) + (increment - virtual)
    low = low + error
    new_high = total + low
    new_low = low - (new_high - total)
    positive = new_high + new_low > 0
    return jnp.where(positive, new_high, 0), jnp.where(positive, new_low, 0)


def count_below(uniform: chex.Array, table: chex.Array) -> chex.Array:
    """How many entries of an increasing table ``[size, ...]`` are at most ``uniform``."""

    def add(count: chex.Array, entry: chex.Array) -> tuple[chex.Array, None]:
        return count + (uniform >= entry).astype(uniform.dtype), None

    shape = jnp.broadcast_shapes(uniform.shape, table.shape[1:])
    zero = jnp.zeros(shape, uniform.dtype)
    return jax.lax.scan(add, zero, table.astype(uniform.dtype), unroll=True)[0]


def _table(table: chex.Array, row: chex.Array, drawn: chex.Array) -> chex.Array:
    """The entry of a periodic table, or what was drawn where it is negative."""
    entry = table[row % table.shape[0]]
    return jnp.where(entry < 0, drawn, entry)


# ---- results of a simulation ------------------------------------------------------------------


def simulated_metrics(env: Splitting, totals: Totals, burn_in: int | None = None) -> dict[str, Any]:
    """Metrics of `Splitting.simulate` after the burn-in, float64 ``[seeds, scenarios]``.

    ``mean_energy_j``, ``energy_saving_pct`` (100 (1 - sum E / sum N E_J)), ``mean_delay_s``,
    ``outage``, ``split_mean``, ``split_std`` (population), ``split_hist`` ``[K, seeds,
    scenarios]`` (shares), ``z_final``, ``h_final``, ``z_mean``, ``h_mean``.
    """
    skip = (env.burn_in if burn_in is None else burn_in) // env.chunk_slots
    kept = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64)[skip:], jax.device_get(totals))
    slots = kept.energy_j.shape[0] * env.chunk_slots
    sums = jax.tree.map(lambda leaf: leaf.sum(axis=0), kept)
    share = sums.split / slots
    point = np.arange(share.shape[0]).reshape(-1, 1, 1)
    mean = (point * share).sum(axis=0)
    return {
        "mean_energy_j": sums.energy_j / slots,
        "energy_saving_pct": 100 * (1 - sums.energy_j / sums.full_local_energy_j),
        "mean_delay_s": sums.delay_s / slots,
        "outage": sums.outage / slots,
        "split_mean": mean,
        "split_std": np.sqrt(np.maximum((point**2 * share).sum(axis=0) - mean**2, 0)),
        "split_hist": share,
        "z_final": kept.z_final[-1],
        "h_final": kept.h_final[-1],
        "z_mean": sums.z / slots,
        "h_mean": sums.h / slots,
    }


# ---- reading scenarios --------------------------------------------------------------------------

TRACE_COLUMNS = ("images [1]", measured.RATE, "fading [1]", "availability [1]")
MAC_COLUMNS = csv_io.MAC_COLUMNS


def _network(network: Any, shape: Any, granularity: str) -> dict[str, np.ndarray]:
    """The per-point leaves of a network; the last layer's output is not sent."""
    times = None
    try:
        if isinstance(network, dnn.Profile):
            profile, kinds = network, None
        elif str(network).endswith(".csv"):
            profile, kinds = dnn.read_csv(network), _mac_columns(network)
            times = dnn.read_times(network)
        else:
            profile = dnn.profile(network, input_shape=tuple(shape), granularity=granularity)
            counts = dnn.mac_counts(network, tuple(shape), granularity)
            kinds = (counts.convolution, counts.convolution_per_output, counts.linear)
    except (ValueError, TypeError, OSError) as error:
        raise ConfigError("network", network, str(error)) from None
    if profile.num_layers < 2:
        raise ConfigError("network", network, "give a network of at least 2 layers")
    if kinds is None:
        kinds = (profile.macs, np.zeros(profile.num_layers), np.zeros(profile.num_layers))
    if not np.allclose(kinds[0] + kinds[2], profile.macs, rtol=1e-6):
        valid = "give MACs by kind that add up to half the work in FLOP"
        raise ConfigError("network", network, valid)
    elements = np.array(profile.output_elements, np.float64)
    elements[-1] = 0
    kinds = (np.asarray(kind, np.float64) for kind in kinds)
    segment_s = -np.ones(len(elements)) if times is None else times.mean_s
    return dict(zip(_PER_SPLIT, (*kinds, elements, segment_s), strict=True))


def _mac_columns(path: Any) -> tuple[np.ndarray, ...] | None:
    """MACs by kind from the further columns of a CSV profile; None where it has none."""
    with open(path, encoding="utf-8-sig") as file:
        present = [column for column in MAC_COLUMNS if column in file.readline()]
    if not present:
        return None
    series = measured.read_series(path, MAC_COLUMNS)
    if len(series) < len(MAC_COLUMNS):
        raise ValueError(f"columns {list(series)} are not enough; give {list(MAC_COLUMNS)}")
    return tuple(series[column] for column in MAC_COLUMNS)


_CHOICES = {
    "action_mode": ("split", "split_rate"),
    "reward_mode": ("dpp", "lagrangian"),
    "contexts": ("independent", "markov", "given"),
    "observed": ("now", "late"),
    "allocator": ("closed", "jaxopt"),
}
_LEAST = {
    "num_splits": 2,
    "max_images": 1,
    "table_rows": 0,
    "num_slots": 1,
    "burn_in": 0,
    "chunk_slots": 1,
}
_PER_SPLIT = ("macs_convolution", "macs_per_output", "macs_linear", "elements", "segment_s")
_TABLES = ("table_num_images", "table_fading", "table_availability")
_POSITIVE = (
    "local_flops",
    "remote_flops",
    "flops_per_mac",
    "raw_bits",
    "feature_bits",
    "distance_m",
    "carrier_hz",
    "bandwidth_hz",
    "noise_w_per_hz",
    "fading_mean",
    "power_min_w",
    "power_max_w",
    "arrival_rate",
    "delay_avg_s",
    "delay_max_s",
    "tradeoff_v",
    "delay_clip_s",
    "z_ref",
    "eta_ref",
)
_NOT_NEGATIVE = (
    "energy_out_j",
    "energy_mac_j",
    "energy_fc_j",
    "path_loss_exponent",
    "z0",
    "h0",
    "delay_price",
    "outage_price",
)
