"""Instances of robust partitioning: the paper's networks, radio and risks as arrays.

Units are those of `allocators.robust`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from allocators import struct

Calibration = Literal["literal", "calibrated"]


MBIT_PER_MB = 8.388608
"""Mbit in one "MB" of Tables III and IV, which is a MiB of float32 data."""

TABLE_III: dict[str, tuple[float, ...]] = dict(
    d_MB=(0.574, 0.74, 0.18, 0.53, 0.12, 0.25, 0.17, 0.04, 0.001),
    w_GFLOP=(0.0, 0.1407, 0.1411, 0.5891, 0.5894, 0.8137, 1.3122, 1.3123, 1.4214),
    g_FLOP_per_cycle=(1.0, 6.8994, 6.3283, 13.6064, 13.1861, 14.6624, 16.4237, 16.1219, 7.1037),
    vloc_ms2=(0.0, 37.341, 43.084, 59.616, 63.942, 74.801, 95.073, 98.876, 105.886),
)
"""AlexNet on the CPU of a Jetson Xavier NX, partitioning points 0 to 8."""

TABLE_IV: dict[str, tuple[float, ...]] = dict(
    d_MB=(0.574, 3.06, 0.77, 1.53, 0.38, 0.19, 0.19, 0.19, 0.1, 0.001),
    w_GFLOP=(0.0, 0.2392, 1.4864, 3.6585, 5.3099, 9.9984, 13.9389, 17.8794, 21.9228, 23.1064),
    g_FLOP_per_cycle=(
        *(1.0, 315.4525, 309.6695, 323.7640, 329.8090),
        *(325.6815, 324.1615, 322.7340, 318.6457, 307.6753),
    ),
    vloc_ms2=(0.0, 0.097, 1.310, 5.677, 13.934, 14.076, 15.881, 23.408, 32.256, 32.727),
)
"""ResNet152 on the GPU of a Jetson Xavier NX, partitioning points 0 to 9."""


@dataclasses.dataclass(frozen=True)
class Model:
    """A network on its device, and its virtual machine at the edge.

    Attributes:
        table: Table III or IV: data `d_MB`, work `w_GFLOP`, `g_FLOP_per_cycle` and the variance
            `vloc_ms2` of the local time, per partitioning point.
        frequency_ghz: lowest and highest clock frequency (Table II).
        kappa: energy coefficient, W/GHz^3 (section VI-A).
        vm_overhead_s: time of the virtual machine per block; chosen, the paper gives none.
        vm_gflop_per_s: speed of the virtual machine; chosen, the paper gives none.
        worst_case_k: standard deviations that the worst-case policy adds, per calibration; fitted.
    """

    table: dict[str, tuple[float, ...]]
    frequency_ghz: tuple[float, float]
    kappa: float
    vm_overhead_s: float
    vm_gflop_per_s: float
    worst_case_k: dict[str, float]


MODELS = {
    "alexnet": Model(
        TABLE_III, (0.1, 1.2), 0.8, 0.08e-3, 2000.0, {"literal": 8.2, "calibrated": 10.0}
    ),
    "resnet152": Model(
        TABLE_IV, (0.2, 0.8), 2.8, 0.30e-3, 3000.0, {"literal": 5.2, "calibrated": 5.5}
    ),
}
"""The paper's two networks; `model_id` is the position in this dictionary."""

VM_CV = 0.10
"""Standard deviation over mean of the time of the virtual machine; chosen."""

GAIN_DB = {"literal": 0.0, "calibrated": 30.0}
"""Offset of the signal-to-noise ratio: the printed constants, or one that explains the results."""


@struct.dataclass
class Instance:
    """One problem of N devices with M1 = M + 1 partitioning points; a pytree.

    Attributes:
        B: total bandwidth, MHz, [].
        D: deadlines, s, [N].
        eps: risk levels, [N].
        sigma: `sqrt((1 - eps) / eps)`, [N].
        P: received power over noise density, MHz, [N].
        p: transmit powers, W, [N].
        kappa: energy coefficients, W/GHz^3, [N].
        fmin, fmax: ends of the clock frequencies, GHz, [N].
        r: distances, m, [N].
        model_id: positions in `MODELS`, int32 [N].
        c: local work, Gcycle, [N, M1].
        d: data to upload, Mbit, [N, M1].
        tvm: mean times of the virtual machine, s, [N, M1].
        vloc, vvm: variances of the local and the virtual machine's time, s^2, [N, M1].
        mask_n: which devices exist, bool [N].
        mask_m: which partitioning points exist, bool [N, M1].
    """

    B: jax.Array
    D: jax.Array
    eps: jax.Array
    sigma: jax.Array
    P: jax.Array
    p: jax.Array
    kappa: jax.Array
    fmin: jax.Array
    fmax: jax.Array
    r: jax.Array
    model_id: jax.Array
    c: jax.Array
    d: jax.Array
    tvm: jax.Array
    vloc: jax.Array
    vvm: jax.Array
    mask_n: jax.Array
    mask_m: jax.Array


def _model_ids(model: str | Sequence[str] | ArrayLike, num_devices: int) -> tuple[Any, int]:
    """Model of every device, int [N], and the number of partitioning points of the tables."""
    names = list(MODELS)
    if isinstance(model, str):
        model = [model]
    if isinstance(model, (list, tuple)) and all(isinstance(name, str) for name in model):
        unknown = [name for name in model if name not in MODELS]
        if unknown:
            raise ValueError(f"model: {unknown[0]!r} is not valid; give one of {', '.join(names)}")
        points = max(len(MODELS[name].table["d_MB"]) for name in model)
        ids = np.array([names.index(name) for name in model], np.int32)
    else:
        points = max(len(entry.table["d_MB"]) for entry in MODELS.values())
        ids = jnp.asarray(model, jnp.int32)
    if ids.shape not in ((), (1,), (num_devices,)):
        raise ValueError(f"model: shape {ids.shape} is not valid; give one or {num_devices}")
    return jnp.broadcast_to(ids, (num_devices,)), points


def _tables(points: int) -> dict[str, np.ndarray]:
    """Columns of Tables III and IV, `[models, points]`, with zeros (g: ones) beyond a model."""
    columns = {}
    for name in TABLE_III:
        fill = 1.0 if name == "g_FLOP_per_cycle" else 0.0
        column = np.full((len(MODELS), points), fill)
        for row, entry in zip(column, MODELS.values(), strict=True):
            values = entry.table[name][:points]
            row[: len(values)] = values
        columns[name] = column
    return columns


def snr_exponent(r: ArrayLike, gain_db: ArrayLike) -> jax.Array:
    """log10 of received power over noise density, in MHz, at 1 W and distances r >= 1 in m.

    Source: section VI-A: path loss 38 + 30 log10 r dB, noise -174 dBm/Hz.
    """
    return (106 + gain_db) / 10 - 3 * jnp.log10(r)


def make_instance(
    model: str | Sequence[str] | ArrayLike,
    r: ArrayLike,
    B: ArrayLike,
    D: ArrayLike,
    eps: ArrayLike,
    *,
    p: ArrayLike = 1.0,
    calibration: Calibration = "literal",
    gain_db: ArrayLike | None = None,
    mb: float = MBIT_PER_MB,
    vm_scale: ArrayLike = 1.0,
    vm_cv: ArrayLike | None = None,
    d_last: ArrayLike | None = None,
    n_max: int | None = None,
) -> Instance:
    """Instance of the paper's networks from distances, bandwidth, deadlines and risks.

    Traceable and differentiable in all numbers; float dtype of the arguments' promotion.

    Args:
        model: "alexnet", "resnet152", a sequence of N such names, or their positions in `MODELS`,
            an int or int array `[N]` (then M1 = 10, whatever the values, as they may be traced).
        r: distances to the edge node, m, `[N]`; less than 1 counts as 1.
        B: total bandwidth, MHz, scalar.
        D: deadlines, s, scalar or `[N]`.
        eps: risk levels in (0, 1), scalar or `[N]`.
        p: transmit powers, W, scalar or `[N]`.
        calibration: "literal" has the printed constants, "calibrated" 30 dB more gain.
        gain_db: offset of the signal-to-noise ratio, dB; overrides the calibration.
        mb: Mbit in one MB of the tables.
        vm_scale: factor on the mean times of the virtual machine.
        vm_cv: its standard deviation over its mean; `VM_CV` by default.
        d_last: data uploaded after the last block, in MB; the table's by default.
        n_max: number of devices after padding; N by default.

    Raises:
        ValueError: an unknown model or calibration, a wrong shape, n_max < N.

    Source: section VI-A, Tables II to IV; path loss 38 + 30 log10 r dB, noise -174 dBm/Hz.
    """
    dtype = jnp.result_type(float, jnp.asarray(r), B, D, jnp.asarray(eps), p)
    r = jnp.asarray(r, dtype)
    if r.ndim != 1:
        raise ValueError(f"r: shape {r.shape} is not valid; give distances of shape (N,)")
    if calibration not in GAIN_DB:
        raise ValueError(
            f"calibration: {calibration!r} is not valid; give one of {', '.join(GAIN_DB)}"
        )
    num_devices = r.shape[0]
    n_max = num_devices if n_max is None else n_max
    if n_max < num_devices:
        raise ValueError(f"n_max: {n_max} is not valid; give at least the {num_devices} devices")
    model_id, points = _model_ids(model, num_devices)

    def per_device(x: ArrayLike, fill: float = 1.0) -> jax.Array:
        x = jnp.broadcast_to(jnp.asarray(x, dtype), (num_devices,))
        return jnp.pad(x, (0, n_max - num_devices), constant_values=fill)

    mask_n = jnp.arange(n_max) < num_devices
    model_id = jnp.pad(model_id, (0, n_max - num_devices), mode="edge")

    def of_model(values: Sequence[Any]) -> jax.Array:
        return jnp.asarray(np.array(values), dtype)[model_id]

    models = list(MODELS.values())
    table = {name: of_model(column) for name, column in _tables(points).items()}
    last = np.array([len(entry.table["d_MB"]) - 1 for entry in models])[:, None]
    point = np.arange(points)
    work = table["w_GFLOP"]
    cycles = jnp.where(jnp.asarray(point > 0), work / table["g_FLOP_per_cycle"], 0)
    data_mb = table["d_MB"]
    if d_last is not None:
        data_mb = jnp.where(
            jnp.asarray(point == last)[model_id], jnp.asarray(d_last, dtype), data_mb
        )
    all_work = of_model([entry.table["w_GFLOP"][-1] for entry in models])[:, None]
    overhead = of_model([entry.vm_overhead_s for entry in models])[:, None]
    speed = of_model([entry.vm_gflop_per_s for entry in models])[:, None]
    blocks_left = of_model(np.maximum(last - point, 0))
    tvm = blocks_left * overhead + jnp.maximum(all_work - work, 0) / speed
    mask_m = jnp.asarray(point <= last)[model_id]
    there = mask_n[:, None] & mask_m
    tvm = jnp.where(there & (blocks_left > 0), tvm * jnp.asarray(vm_scale, dtype), 0)
    cv = jnp.asarray(VM_CV if vm_cv is None else vm_cv, dtype)

    gain = GAIN_DB[calibration] if gain_db is None else gain_db
    distance = jnp.maximum(per_device(r), 1)
    power = per_device(p)
    exponent = snr_exponent(distance, jnp.asarray(gain, dtype))
    eps = per_device(eps, 0.5)
    return Instance(
        B=jnp.asarray(B, dtype),
        D=per_device(D),
        eps=eps,
        sigma=jnp.sqrt((1 - eps) / eps),
        P=power * 10**exponent,
        p=power,
        kappa=of_model([entry.kappa for entry in models]),
        fmin=of_model([entry.frequency_ghz[0] for entry in models]),
        fmax=of_model([entry.frequency_ghz[1] for entry in models]),
        r=distance,
        model_id=model_id.astype(jnp.int32),
        c=jnp.where(there, cycles, 0),
        d=jnp.where(there, data_mb * mb, 0),
        tvm=tvm,
        vloc=jnp.where(there, table["vloc_ms2"] * 1e-6, 0),
        vvm=(cv * tvm) ** 2,
        mask_n=mask_n,
        mask_m=mask_m,
    )


def only(inst: Instance, there: jax.Array) -> Instance:
    """The instance with some of its devices, bool `[N]`; the others become padding."""
    names = ("c", "d", "tvm", "vloc", "vvm")
    kept = {name: jnp.where(there[:, None], getattr(inst, name), 0) for name in names}
    return inst.replace(mask_n=there, **kept)
