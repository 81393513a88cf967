"""Sizes and scenario of the splitting system: built, defaulted, checked; what points cost."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxenv.data import measured
from jaxenv.environment import Environment
from jaxenv.errors import ConfigError
from jaxenv.physics import arrivals, radio
from jaxenv.splitting.costs import Costs
from jaxenv.splitting.description import TRACE_COLUMNS, network_leaves
from jaxenv.splitting.params import PER_SPLIT, TABLES, SplittingParams
from jaxenv.splitting.state import SplittingState
from jaxenv.validation import (
    NOT_NEGATIVE,
    POSITIVE,
    SNR_DB,
    check_array,
    check_derived,
    check_fields,
    check_leaves,
    check_read,
    num_axes,
)

NETWORK = "mobilenet_v2"
NETWORK_MACS = 300_774_272


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenario(Environment[SplittingState, SplittingParams]):
    """Sizes and options of the splitting system, and the scenario at them.

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

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, _LEAST)
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
    def build(cls, **options: Any) -> tuple[Self, SplittingParams]:
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
        network = options.pop("network", None)
        shape = options.pop("input_shape", (3, 224, 224))
        granularity = options.pop("granularity", "block")
        board, trace = options.pop("board", None), options.pop("trace", None)
        asked = dict(options) if trace is None else options | {"trace": trace}
        if board is not None:
            names = {f.name for f in dataclasses.fields(SplittingParams)}
            scalars = sorted(names - {*PER_SPLIT, *TABLES, "max_steps", "table_start"})
            settings = measured.read_setting("board", board, measured.read_settings, scalars)
            options = dict(settings) | options
        if network is not None or granularity != "block" or shape != (3, 224, 224):
            profile = network_leaves(NETWORK if network is None else network, shape, granularity)
            options = {"num_splits": len(profile["elements"])} | profile | options
        series = None
        if trace is not None:
            series = measured.read_setting("trace", trace, measured.read_series, TRACE_COLUMNS)
            rows = len(next(iter(series.values())))
            options = {"contexts": "given", "table_rows": rows} | options
        for name in TABLES:
            if name in options and "table_rows" not in options:
                if num_axes(options[name]) != 1:
                    raise ConfigError(name, options[name], "give an array [rows]")
                options |= {"table_rows": len(options[name])}
                options = {"contexts": "given"} | options
        sizes, leaves = cls.sizes_and_leaves(options)
        env = cls(**sizes)
        check_read(env, asked, "contexts", "given", ("trace", *TABLES))
        params = env.make_params(**leaves)
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
        tables = dict(zip(TABLES, (images, fading, share), strict=True))
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
            network = network_leaves(NETWORK, (3, 224, 224), "block")
            total = int(network["macs_convolution"].sum() + network["macs_linear"].sum())
            if total != NETWORK_MACS:
                raise AssertionError(f"{NETWORK} has {total} MACs, not {NETWORK_MACS}")
        else:
            ones = np.ones(self.num_splits)
            network = dict.fromkeys(PER_SPLIT, ones * (np.arange(self.num_splits) > 0))
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
            **dict.fromkeys(TABLES, np.full(self.table_rows, -1.0)),
            "table_start": np.int32(0),
        }
        return SplittingParams(**{k: self.as_leaf(v) for k, v in values.items()})

    def validate(self, params: SplittingParams) -> None:
        """Refuses what cannot be simulated; needs concrete values."""
        p = jax.tree.map(np.asarray, params)
        check_leaves(p, _POSITIVE, POSITIVE)
        check_leaves(p, _NOT_NEGATIVE, NOT_NEGATIVE)
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
        valid = "give 0 to 1e12"
        for name in ("z0", "h0"):
            check_array(name, getattr(p, name), lambda x: x <= 1e12, valid)
        check_derived("signal-to-noise ratio", _snr_db(p), SNR_DB, "dB", ", ".join(_LINK))
        tail = arrivals.poisson_tail(float(p.arrival_rate), self.max_images)
        valid = f"more than max_images = {self.max_images} come too often; raise max_images"
        check_array("arrival_rate", p.arrival_rate, lambda x: tail < 1e-9, valid)
        for name in PER_SPLIT[:-1]:
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
        return Costs(
            local_s=jnp.where(jnp.any(p.segment_s >= 0, axis=0), measured_s, by_work_s),
            remote_s=p.flops_per_mac * (macs[-1] - macs) / p.remote_flops,
            bits=jnp.where(index == 0, p.raw_bits, p.feature_bits) * p.elements,
            energy_j=jnp.cumsum(of_segment, axis=0),
            snr_per_watt=_snr_per_watt(p),
        )


_LINK = (
    *("power_min_w", "power_max_w", "fading_mean", "carrier_hz", "distance_m"),
    *("path_loss_exponent", "noise_w_per_hz", "bandwidth_hz"),
)


def _snr_per_watt(params: SplittingParams) -> Any:
    """Signal-to-noise ratio of a watt at the mean fading, 1/W; section II."""
    p = params
    wavenumber = p.carrier_hz * (4 * math.pi / radio.SPEED_OF_LIGHT_M_PER_S)
    path_loss = wavenumber**2 * p.distance_m**p.path_loss_exponent
    return p.fading_mean / (path_loss * p.noise_w_per_hz * p.bandwidth_hz)


def _snr_db(params: SplittingParams) -> np.ndarray:
    """Signal-to-noise ratios at the mean fading and the least and most power."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    with np.errstate(over="ignore", divide="ignore"):
        return 10 * np.log10(np.stack([p.power_min_w, p.power_max_w]) * _snr_per_watt(p))


_LEAST = {
    "num_splits": 2,
    "max_images": 1,
    "table_rows": 0,
    "num_slots": 1,
    "burn_in": 0,
    "chunk_slots": 1,
}


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
