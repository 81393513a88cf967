"""Robust partitioning as an environment: one decision, the partition of every device, per instance.

N devices share an uplink; the action is the partitioning point of each, the resources are then
allocated optimally, and the reward is minus the expected energy under the probabilistic deadlines.
Instances are independent, so learners use discount 0. It puts learned, amortised policies beside
Algorithm 2 of the paper and beside the certified optimum.

Source: "Robust DNN Partitioning and Resource Allocation Under Uncertain Inference Time", IEEE
Transactions on Mobile Computing, arXiv 2503.21476; the allocation is problem (23), the whole is
problem (9) (`allocators.robust`, `allocators.certificate`).
"""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any, ClassVar, Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np

from allocators import certificate, robust
from jaxenv import dnn, spaces, struct
from jaxenv.data import measured
from jaxenv.dnn import csv_io
from jaxenv.environment import Constraint, Environment, Metric, Params, State
from jaxenv.errors import ConfigError
from jaxenv.validation import (
    NOT_NEGATIVE,
    POSITIVE,
    SNR_DB,
    check_array,
    check_derived,
    check_fields,
    check_leaves,
)

MODELS = tuple(robust.MODELS)
NUM_POINTS = max(len(model.table["d_MB"]) for model in robust.MODELS.values())
NUM_DRAWS = 8
PENALTY_J = 1.0
"""Least cost of a device in an infeasible decision."""


@struct.dataclass
class RobustParams(Params):
    """A distribution of instances.

    num_devices: how many of the ``max_devices`` exist, int32. resnet_share: probability that a
    device runs ResNet152 and not AlexNet. deadline_range_s: lowest and highest deadline of each
    model, s, ``[2, 2]``. risk_range: of the risk level eps, ``[2]``. bandwidth_per_device_mhz: what
    each device of a model adds to the total bandwidth, MHz, ``[2]``. half_side_m: devices are
    uniform in a square of twice this side, the edge node at its centre. power_w: transmit power.
    gain_db: offset of the signal-to-noise ratio (30 for the calibrated profile). vm_scale, vm_cv:
    of the virtual machine's times. link_mhz: received power over noise density at 1 W, of measured
    links, ``[num_links]``; where there are any, each device has one of them instead of a distance.

    What the two models are, ``[2, 10]`` per partitioning point, the work up to it: num_points:
    int32 ``[2]``, how many there are. local_gcycle: work on the device. data_mbit: to upload.
    vm_s: mean time of the rest on the virtual machine. local_var_s2: variance of the time on the
    device. frequency_ghz: lowest and highest clock, ``[2, 2]``. kappa: W/GHz^3, ``[2]``.
    """

    num_devices: chex.Array
    resnet_share: chex.Array
    deadline_range_s: chex.Array
    risk_range: chex.Array
    bandwidth_per_device_mhz: chex.Array
    half_side_m: chex.Array
    power_w: chex.Array
    gain_db: chex.Array
    vm_scale: chex.Array
    vm_cv: chex.Array
    link_mhz: chex.Array
    num_points: chex.Array
    local_gcycle: chex.Array
    data_mbit: chex.Array
    vm_s: chex.Array
    local_var_s2: chex.Array
    frequency_ghz: chex.Array
    kappa: chex.Array


@struct.dataclass
class RobustState(State):
    """instance: what is to be decided. bmin_mhz: least bandwidth of every pair, ``[N, 10]``."""

    instance: robust.Instance
    bmin_mhz: chex.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Robust(Environment[RobustState, RobustParams]):
    """The one-shot environment.

    max_devices: devices after padding, N. mode: ``common`` gives all devices of an instance one
    risk level and one place in the range of deadlines, ``mixed`` each its own. certify: adds the
    certified lower bound and the regret to ``info`` and to the metrics. allocator: ``closed`` or
    ``jaxopt``, who solves problem (23). num_links: measured links that devices draw from.

    Observations are ``[N, 49]``; an action is int32 ``[N]`` in 0..9, its mask ``[N, 10]``.
    """

    max_devices: int = 12
    mode: Literal["common", "mixed"] = "common"
    certify: bool = False
    allocator: Literal["closed", "jaxopt"] = "closed"
    num_links: int = 0

    name: ClassVar[str] = "robust"
    constraints: ClassVar[tuple[Constraint, ...]] = (
        Constraint("infeasible", ("infeasible",), over=("decisions",)),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, {"max_devices": 1, "num_links": 0})

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Penalised energy of all decisions; feasibility; energy and regret of feasible ones.

        ``regret_p95`` is the 95th percentile over episodes; over instances if ``max_steps`` is 1.
        """
        regret = (
            Metric("regret", "%", "min", "ratio", "regret", "feasible", scale=100.0),
            Metric("regret_p95", "%", "min", "quantile", "regret", "feasible", 0.95, 100.0),
        )
        return (
            Metric("penalized_energy_j", "J", "min", "mean", "penalized_energy_j"),
            Metric("feasible_rate", "%", "max", "ratio", "feasible", "decisions", scale=100.0),
            Metric("energy_j", "J", "min", "ratio", "energy_j", "feasible"),
            *(regret if self.certify else ()),
        )

    @classmethod
    def build(cls, **options: Any) -> tuple[Robust, RobustParams]:
        """Sizes, leaves of the scenario, and these ways of describing one:

        profile: the path of a CSV profile with measured times, as ``python -m runs.profile`` writes
        it, of at most 9 layers; it takes the place of AlexNet. profile_ghz: the clock at which it
        was measured; the highest of ``frequency_ghz`` by default. Point k is after layer k; its
        work is the mean time until then at that clock, its variance that of the sum of the layers'
        times, with their covariances. Values are uploaded with 32 bits. The virtual machine has the
        speed and the overhead per layer of AlexNet's. links: path of a CSV file with a row per
        measured uplink: ``rate [bit/s]`` over ``bandwidth [Hz]``, sent with ``power_w``. A device
        has one of them, drawn uniformly per instance: over a band b the rate b log2(1 + P/b), with
        the P that gives the measured rate.
        """
        path, clock = options.pop("profile", None), options.pop("profile_ghz", None)
        links = options.pop("links", None)
        if links is not None:
            snr_mhz = _snr_mhz(links)
            options["num_links"] = len(snr_mhz)
        env, params = super().build(**options)
        if links is not None and "link_mhz" not in options:
            link_mhz = jnp.asarray(snr_mhz, env.float_dtype) / params.power_w
            params = params.replace(link_mhz=link_mhz)
            env.validate(params)
        if path is None:
            if clock is not None:
                raise ConfigError("profile_ghz", clock, "it has no effect without a profile")
            return env, params
        clock = float(params.frequency_ghz[0, 1]) if clock is None else clock
        if isinstance(clock, bool) or not isinstance(clock, (int, float)) or not clock > 0:
            raise ConfigError("profile_ghz", clock, "give a positive number")
        measured = {
            name: getattr(params, name).at[0].set(values)
            for name, values in _measured(path, clock).items()
            if name not in options
        }
        params = params.replace(**measured)
        env.validate(params)
        return env, params

    def default_params(self) -> RobustParams:
        def array(x: Any) -> chex.Array:
            return jnp.asarray(x, self.float_dtype)

        models = robust.make_instance(
            np.arange(len(MODELS)),
            r=array([1.0] * len(MODELS)),
            B=array(1.0),
            D=array(1.0),
            eps=array(0.5),
            p=array(1.0),
            gain_db=array(0.0),
            vm_scale=array(1.0),
            vm_cv=array(0.0),
        )

        return RobustParams(
            max_steps=jnp.int32(32),
            num_devices=jnp.int32(self.max_devices),
            resnet_share=array(0.0),
            deadline_range_s=array([[0.16, 0.28], [0.12, 0.18]]),
            risk_range=array([0.02, 0.08]),
            bandwidth_per_device_mhz=array([10 / 12, 2.5]),
            half_side_m=array(200.0),
            power_w=array(1.0),
            gain_db=array(0.0),
            vm_scale=array(1.0),
            vm_cv=array(robust.VM_CV),
            link_mhz=array(np.ones(self.num_links)),
            num_points=jnp.sum(models.mask_m, axis=1, dtype=jnp.int32),
            local_gcycle=models.c,
            data_mbit=models.d,
            vm_s=models.tvm,
            local_var_s2=models.vloc,
            frequency_ghz=jnp.stack([models.fmin, models.fmax], axis=1),
            kappa=models.kappa,
        )

    def validate(self, params: RobustParams) -> None:
        """Refuses a distribution that no instance can be drawn from."""
        check_leaves(params, _POSITIVE, POSITIVE)
        check_array("gain_db", params.gain_db, np.isfinite, "give a finite number of dB")
        check_leaves(params, _NOT_NEGATIVE, NOT_NEGATIVE)
        valid = f"give an integer from 1 to max_devices ({self.max_devices})"
        most = self.max_devices
        check_array("num_devices", params.num_devices, lambda x: (x >= 1) & (x <= most), valid)
        valid = f"give 2 to {NUM_POINTS} points per model"
        check_array("num_points", params.num_points, lambda x: (x >= 2) & (x <= NUM_POINTS), valid)
        check_array(
            "frequency_ghz",
            params.frequency_ghz,
            lambda x: (x > 0) & (x[:, :1] <= x[:, 1:]),
            "give positive finite numbers, the lower one first",
        )
        valid = "give a number in [0, 1]"
        check_array("resnet_share", params.resnet_share, lambda x: (x >= 0) & (x <= 1), valid)
        check_array(
            "risk_range",
            params.risk_range,
            lambda x: (x > 0) & (x < 1) & (x[0] <= x[1]),
            "give probabilities in (0, 1), the lower one first",
        )
        check_array(
            "deadline_range_s",
            params.deadline_range_s,
            lambda x: (x > 0) & (x[:, :1] <= x[:, 1:]),
            "give positive finite numbers, the lower one first",
        )
        p = params
        farthest = max(1.0, math.sqrt(2) * float(p.half_side_m))
        drawn = robust.snr_exponent(np.array([1.0, farthest]), np.asarray(p.gain_db))
        given = np.asarray(p.gain_db) / 10 + np.log10(p.link_mhz)
        budget = 10 * (np.log10(p.power_w) + np.concatenate([drawn, given]))
        fields = "power_w, gain_db, half_side_m, link_mhz"
        check_derived("signal-to-noise ratio in 1 MHz", budget, SNR_DB, "dB", fields)

    # ---- instances ----------------------------------------------------------------------------

    def sample_instance(self, key: chex.PRNGKey, params: RobustParams) -> robust.Instance:
        """The first feasible of `NUM_DRAWS` drawn instances, else the first."""
        return self._sample(key, params)[0]

    def _sample(
        self, key: chex.PRNGKey, params: RobustParams
    ) -> tuple[robust.Instance, chex.Array]:
        """`sample_instance`, and the least bandwidth of every pair."""
        keys = jax.random.split(key, NUM_DRAWS)

        def draw(index: chex.Array) -> tuple[robust.Instance, chex.Array, chex.Array]:
            instance = self._draw(keys[index % NUM_DRAWS], params)
            bmin = robust.bmin_table(instance)
            least = jnp.where(instance.mask_n, jnp.min(bmin, axis=-1), 0)
            return instance, bmin, jnp.sum(least) <= instance.B

        nothing = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(draw, jnp.int32(0))
        )
        _, (instance, bmin, _) = jax.lax.while_loop(
            lambda drawn: ~drawn[1][2] & (drawn[0] <= NUM_DRAWS),  # the last one is the first again
            lambda drawn: (drawn[0] + 1, draw(drawn[0])),
            (jnp.int32(0), nothing),
        )
        return instance, bmin

    def _draw(self, key: chex.PRNGKey, params: RobustParams) -> robust.Instance:
        keys = jax.random.split(key, 4)
        n, dtype = self.max_devices, self.float_dtype
        place = jax.random.uniform(keys[0], (n, 2), dtype, -1, 1) * params.half_side_m
        shape = () if self.mode == "common" else (n,)
        deadline = jax.random.uniform(keys[1], shape, dtype)
        risk = jax.random.uniform(keys[2], shape, dtype)
        model = jax.random.uniform(keys[3], (n,), dtype) < params.resnet_share
        model = model.astype(jnp.int32)
        there = jnp.arange(n) < params.num_devices
        low, high = params.deadline_range_s[model].T
        lowest, highest = params.risk_range
        instance = robust.make_instance(
            model,
            jnp.hypot(place[:, 0], place[:, 1]),
            jnp.sum(params.bandwidth_per_device_mhz[model], where=there),
            low + (high - low) * deadline,
            lowest + (highest - lowest) * risk,
            p=params.power_w,
            gain_db=params.gain_db,
        )
        if self.num_links:
            drawn = jax.random.randint(jax.random.fold_in(keys[0], 1), (n,), 0, self.num_links)
            gain = params.power_w * 10 ** (params.gain_db / 10)
            instance = instance.replace(P=gain * params.link_mhz[drawn])
        mean = params.vm_s[model] * params.vm_scale
        instance = instance.replace(
            c=params.local_gcycle[model],
            d=params.data_mbit[model],
            tvm=mean,
            vvm=(params.vm_cv * mean) ** 2,
            vloc=params.local_var_s2[model],
            mask_m=jnp.arange(NUM_POINTS) < params.num_points[model][:, None],
            fmin=params.frequency_ghz[model, 0],
            fmax=params.frequency_ghz[model, 1],
            kappa=params.kappa[model],
        )
        return robust.only(instance, there)

    # ---- the contract -------------------------------------------------------------------------

    def reset_env(self, key: chex.PRNGKey, params: RobustParams) -> RobustState:
        # Steps use fold_in(key, time); this number is none of theirs.
        first = jax.random.fold_in(key, np.uint32(2**32 - 1))
        instance, bmin = self._sample(first, params)
        return RobustState(key=key, time=jnp.int32(0), instance=instance, bmin_mhz=bmin)

    def step_env(
        self, key: chex.PRNGKey, state: RobustState, action: chex.Array, params: RobustParams
    ) -> tuple[RobustState, chex.Array, chex.Array, dict[str, Any]]:
        """Allocates optimally for the chosen partition; then comes the next instance.

        Returns:
            The state, the reward (minus the energy in J; where the deadlines cannot be met minus
            `penalty_j`, by default 1 J, per device), False, and ``info``: ``energy_j`` (0 where
            infeasible), ``feasible``, ``infeasible``, ``penalized_energy_j``, ``decisions`` (1),
            ``b_min_total_mhz`` (+inf where no bandwidth suffices); with ``certify`` also
            ``solvable``, whether any decision is feasible, ``lower_bound_j``, 0 where none is, and
            ``regret``, 0 where the decision is infeasible.
        """
        instance = state.instance
        partition = jnp.where(instance.mask_n, action, 0)
        allocation = robust.allocate(instance, partition, self.allocator)
        devices = jnp.sum(instance.mask_n, dtype=self.float_dtype)
        feasible = allocation.feasible
        energy = jnp.where(feasible, allocation.E, 0)
        penalized = jnp.where(feasible, energy, self.penalty_j(params) * devices)
        info = {
            "energy_j": energy,
            "feasible": feasible.astype(self.float_dtype),
            "infeasible": ~feasible,
            "penalized_energy_j": penalized,
            "decisions": jnp.ones((), self.float_dtype),
            "b_min_total_mhz": least_total_bandwidth_mhz(state),
        }
        if self.certify:
            _, proof = certificate.solve(instance)
            info["lower_bound_j"] = jnp.where(proof.feasible, proof.lb, 0)
            info["solvable"] = proof.feasible
            info["regret"] = jnp.where(feasible, energy / jnp.where(feasible, proof.lb, 1) - 1, 0)
        following, bmin = self._sample(key, params)
        return (
            state.replace(instance=following, bmin_mhz=bmin),
            -penalized,
            jnp.asarray(False),
            info,
        )

    def action_mask(self, state: RobustState, params: RobustParams) -> chex.Array:
        """``[N, 10]``: points that exist and that the whole bandwidth would suffice for.

        A device without any, and one that does not exist, has point 0 alone.
        """
        mask = state.instance.mask_m & (state.bmin_mhz <= state.instance.B)
        mask &= state.instance.mask_n[:, None]
        none = ~jnp.any(mask, axis=-1, keepdims=True)
        return mask | (none & (jnp.arange(NUM_POINTS) == 0))

    def observe(self, state: RobustState, params: RobustParams) -> chex.Array:
        """``[N, 49]``: 6 numbers of the device, 4 of each of its 10 points, 3 of the instance.

        Device: log10(P)/5, D/0.2, eps/0.05, sigma/5, whether AlexNet, whether it exists. Point:
        c/(0.1 fmax), d/5, T/0.2 within [-2, 2], least bandwidth over B/N, at most 4; a point that
        does not exist has 0, 0, -2, 4. Instance: B/N, least total bandwidth over B, at most 4,
        N/30. A device that does not exist has zeros and no points.
        """
        inst, n = state.instance, self.max_devices
        there = inst.mask_n
        devices = jnp.sum(there, dtype=self.float_dtype)
        device = [
            jnp.log10(inst.P) / 5,
            inst.D / 0.2,
            inst.eps / 0.05,
            inst.sigma / 5,
            inst.model_id == MODELS.index("alexnet"),
            there,
        ]
        device = jnp.stack([jnp.where(there, x, 0) for x in device], axis=-1)
        s = jnp.sqrt(inst.vloc + inst.vvm)
        left = inst.D[:, None] - inst.tvm - inst.sigma[:, None] * s
        point = [
            (inst.c / (0.1 * inst.fmax[:, None]), 0),
            (inst.d / 5, 0),
            (jnp.clip(left / 0.2, -2, 2), -2),
            (jnp.minimum(state.bmin_mhz * devices / inst.B, 4), 4),
        ]
        exists = inst.mask_m & there[:, None]
        point = jnp.stack([jnp.where(exists, x, missing) for x, missing in point], axis=-1)
        point = point.reshape(n, -1)
        load = jnp.minimum(least_total_bandwidth_mhz(state) / inst.B, 4)
        whole = jnp.broadcast_to(jnp.stack([inst.B / devices, load, devices / 30]), (n, 3))
        return jnp.concatenate([device, point, whole], axis=-1).astype(self.float_dtype)

    def reward_unit(self, params: RobustParams) -> chex.Array:
        """The penalty of an infeasible decision."""
        return self.penalty_j(params) * params.num_devices.astype(self.float_dtype)

    def penalty_j(self, params: RobustParams) -> chex.Array:
        """Cost of a device in an infeasible decision, J: no less than that of any feasible one.

        It is `PENALTY_J` unless a device could spend more: kappa c fmax^2 + p D, at its largest
        work, highest clock and longest deadline.
        """
        p = params
        exists = jnp.arange(NUM_POINTS) < p.num_points[:, None]
        work = jnp.max(jnp.where(exists, p.local_gcycle, 0), axis=1)
        most = p.kappa * work * p.frequency_ghz[:, 1] ** 2 + p.power_w * p.deadline_range_s[:, 1]
        return jnp.maximum(PENALTY_J, jnp.max(most))

    @property
    def observation_space(self) -> spaces.Box:
        return spaces.Box(-np.inf, np.inf, (self.max_devices, 49), self.float_dtype)

    @property
    def action_space(self) -> spaces.MultiDiscrete:
        return spaces.MultiDiscrete((NUM_POINTS,) * self.max_devices)

    def draw_episode(self, figure: Any, steps: Any, now: int, params: RobustParams) -> None:
        """Draws an episode up to step ``now``; see `jaxenv.rendering.robust`."""
        from jaxenv.rendering.robust import draw_episode

        draw_episode(figure, self, steps, now, params)


def least_total_bandwidth_mhz(state: RobustState) -> chex.Array:
    """Least total bandwidth at which the instance is feasible, MHz; +inf where none is."""
    least = jnp.min(state.bmin_mhz, axis=-1)
    return jnp.sum(jnp.where(state.instance.mask_n, least, 0))


def _snr_mhz(path: Any) -> np.ndarray:
    """Received power over noise density of the uplinks of a CSV file, MHz."""
    series = measured.read_rates("links", path, [measured.BANDWIDTH])
    bandwidth_hz = series[measured.BANDWIDTH]
    snr = np.expm1(series[measured.RATE] / bandwidth_hz * math.log(2))
    return 1e-6 * bandwidth_hz * snr


def _measured(path: Any, clock_ghz: float) -> dict[str, np.ndarray]:
    """The leaves of a measured network, padded to `NUM_POINTS`."""
    if not isinstance(path, (str, os.PathLike)):
        raise ConfigError("profile", path, "give the path of a CSV file")
    try:
        profile, times = dnn.read_csv(path), dnn.read_times(path)
    except ValueError as error:
        raise ConfigError.of("profile", str(path), error) from None
    if times is None:
        raise ConfigError("profile", str(path), f"it lacks the column {csv_io.MEAN!r}")
    points = profile.num_layers
    if not 2 <= points <= NUM_POINTS:
        valid = f"it has {points - 1} layers; give 1 to {NUM_POINTS - 1} (blocks of runs.profile)"
        raise ConfigError("profile", str(path), valid)
    model = robust.MODELS[MODELS[0]]
    left = np.arange(points)[::-1]
    work_left = (profile.flops.sum() - np.cumsum(profile.flops)) * 1e-9
    variance = [times.covariance_s2[: k + 1, : k + 1].sum() for k in range(points)]
    leaves = {
        "local_gcycle": np.cumsum(times.mean_s) * clock_ghz,
        "data_mbit": profile.output_bits(input_bits=32) * 1e-6,
        "vm_s": left * model.vm_overhead_s + work_left / model.vm_gflop_per_s,
        "local_var_s2": np.maximum(variance, 0.0),
    }
    padded = {name: np.pad(x, (0, NUM_POINTS - points)) for name, x in leaves.items()}
    return padded | {"num_points": np.int32(points)}


_POSITIVE = (
    "max_steps",
    "bandwidth_per_device_mhz",
    "half_side_m",
    "power_w",
    "link_mhz",
    "kappa",
)
_NOT_NEGATIVE = ("vm_scale", "vm_cv", "local_gcycle", "data_mbit", "vm_s", "local_var_s2")
