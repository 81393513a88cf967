"""Robust partitioning: least expected energy under probabilistic deadlines.

N devices share an uplink of bandwidth B. Each runs the first m of M network blocks at a clock
frequency f, uploads the intermediate data over a bandwidth b, and an edge server runs the rest.
Inference times are random with known mean and variance; each deadline may be missed with
probability at most eps under every distribution with those moments, which is the deterministic
deadline (22) with the time left `T = D - tvm - sigma s`. This module holds the instance, and its
optimum for a fixed partition (problem (23)); `allocators.certificate` also chooses the partition.

Everything takes one instance and is meant for `jax.vmap`; float32 and float64.

Units: bandwidths and `P` (received power over noise density) in MHz, rates in Mbit/s, data in Mbit,
frequencies in GHz, work in Gcycle, times in s, variances in s^2, powers in W, energies in J, prices
of bandwidth in J/MHz.

Source: "Robust DNN Partitioning and Resource Allocation Under Uncertain Inference Time", IEEE
Transactions on Mobile Computing, arXiv 2503.21476; equation and table numbers are its.
"""

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from allocators import solvers, struct
from allocators.lanes import batched_last

Backend = Literal["closed", "jaxopt"]
Calibration = Literal["literal", "calibrated"]
Law = Literal["gauss", "lognormal", "gamma", "heavygamma", "twopoint"]

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


@struct.dataclass
class Allocation:
    """What every device does, and what it costs; a pytree.

    An infeasible one has `E = +inf`, `e_dev = +inf`, `b = 0`, `f = fmin` and 0 elsewhere.

    Attributes:
        m: partitioning points, int32 [N].
        b: bandwidths, MHz, [N].
        f: clock frequencies, GHz, [N].
        t_off: upload times, s, [N].
        e_dev: expected energies, J, [N].
        mu: multipliers of the deadlines (22), J/s, [N].
        slack: D minus the left side of (22), s, [N].
        E: total expected energy, J, [].
        lam: price of the bandwidth, J/MHz, [].
        feasible: whether the partition can meet every deadline, bool [].
    """

    m: jax.Array
    b: jax.Array
    f: jax.Array
    t_off: jax.Array
    e_dev: jax.Array
    mu: jax.Array
    slack: jax.Array
    E: jax.Array
    lam: jax.Array
    feasible: jax.Array


# --------------------------------------------------------------------------------------------------
# Instances


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
    exponent = (106 + jnp.asarray(gain, dtype)) / 10 - 3 * jnp.log10(distance)
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


# --------------------------------------------------------------------------------------------------
# One device and partition as a function of its bandwidth


@struct.dataclass
class Links:
    """Pairs of device and partition; arrays of one shape `[...]`.

    The energy of a pair is `phi(b) = kappa c f^2 + p t` with the upload time `t = d / R(b)` and the
    least frequency that meets the deadline (22), `f = max(fmin, c / (time_left - t))`. From the
    least bandwidth on, where f = fmax, it decreases and is convex; beyond a kink f = fmin.

    Attributes:
        time_left: `D - tvm - sigma s`, the time for computing and uploading, s; -inf for pairs that
            do not exist.
        others: as in `Instance`.
    """

    c: jax.Array
    d: jax.Array
    time_left: jax.Array
    P: jax.Array
    p: jax.Array
    kappa: jax.Array
    fmin: jax.Array
    fmax: jax.Array


@struct.dataclass
class Curves:
    """Links with the points where their energy phi bends; arrays `[...]`.

    Attributes:
        links: the links, with finite dummies where unavailable.
        needed: least bandwidth, MHz; +inf where none suffices, 0 without upload.
        bmin: the same, but +inf where unavailable.
        log_bmin, log_kink: logarithms of the least bandwidth and of that where f reaches fmin.
        log_slope_bmin: `log(-phi')` at the least bandwidth.
        log_slope_above, log_slope_below: `log(-phi')` at the kink, on its side f > fmin and on its
            side f = fmin; -inf where f never reaches fmin.
    """

    links: Links
    needed: jax.Array
    bmin: jax.Array
    log_bmin: jax.Array
    log_kink: jax.Array
    log_slope_bmin: jax.Array
    log_slope_above: jax.Array
    log_slope_below: jax.Array

    @property
    def available(self) -> jax.Array:
        """Whether `bmin <= B`, bool."""
        return jnp.isfinite(self.bmin)

    @property
    def uploads(self) -> jax.Array:
        """Whether available with d > 0, bool; the logarithms are dummies elsewhere."""
        return self.available & (self.links.d > 0)


LN2 = math.log(2)
TINY = 1e-30


def rate(b: ArrayLike, P: ArrayLike) -> jax.Array:
    """Rate `R = b log2(1 + P/b)`, Mbit/s, of bandwidths b and P in MHz; 0 at b = 0. Eq (4)."""
    used = jnp.asarray(b) > 0
    safe = jnp.where(used, b, 1)
    return jnp.where(used, safe * jnp.log1p(P / safe) / LN2, 0)


def _log_bandwidth(needed_rate: jax.Array, P: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Logarithm of the b that solves `R(b) = needed_rate`, and whether there is one.

    With `s = needed_rate ln 2 / P` and x = P/b the equation is `ln(1 + x) = s x`, whose solution is
    `x = w / s - 1` with `w - ln w = s - ln s`, w > 1 (the lower branch of the Lambert function).
    Newton's method on this convex function starts at a bound above the root.
    """
    s = needed_rate * LN2 / P
    reachable = (s > 0) & (s < 1)
    s = jnp.where(reachable, s, 0.5)
    target = s - jnp.log(s)
    start = 1 + jnp.sqrt(2 * (target - 1)) + (target - 1)

    def newton(_: int, w: jax.Array) -> jax.Array:
        return jnp.maximum(w - (w - jnp.log(w) - target) / (1 - 1 / w), 1 + 1e-6)

    w = jax.lax.fori_loop(0, 5, newton, start)
    return jnp.log(P / (w / s - 1)), reachable


def _upload(links: Links, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Upload time t, s, and least frequency f in [fmin, fmax], GHz, at bandwidths b, MHz."""
    speed = rate(b, links.P)
    served = speed > 0
    t = jnp.where(served & (links.d > 0), links.d / jnp.where(served, speed, 1), 0)
    left = links.time_left - t
    in_time = left > 0
    f = jnp.where(in_time, links.c / jnp.where(in_time, left, 1), jnp.inf)
    f = jnp.where(links.c > 0, f, 0)
    return t, jnp.minimum(jnp.maximum(f, links.fmin), links.fmax)


def energy(links: Links, b: jax.Array) -> jax.Array:
    """Expected energy `phi(b) = kappa c f^2 + p t`, J, eqs (15) and (5)."""
    t, f = _upload(links, b)
    return links.kappa * links.c * f**2 + links.p * t


def log_slope(links: Links, log_b: jax.Array, above: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`log(-phi'(b))` and its derivative with respect to log b; needs d > 0.

    `-phi' b = (p + 2 kappa f^3) t e` where `above` (f > fmin), `p t e` elsewhere, with the
    elasticity `e = b R'/R` of the rate. Of the energy, log1p is all that is computed.
    """
    inverse = jnp.exp(-log_b)
    x = links.P * inverse
    log_term = jnp.log1p(x)
    ratio = x / (1 + x)
    marginal = jnp.maximum(log_term - ratio, ratio**2 / 2)
    per_log = 1 / log_term
    elasticity = marginal * per_log
    t = links.d * LN2 * inverse * per_log
    per_left = 1 / jnp.maximum(links.time_left - t, jnp.maximum(links.c / links.fmax, TINY))
    boost = jnp.where(above, 2 * links.kappa * (links.c * per_left) ** 3, 0)
    power = links.p + boost
    value = jnp.log(power * t * elasticity) - log_b
    slope = -3 * boost / power * t * elasticity * per_left - ratio**2 / marginal - 2 * elasticity
    return value, slope


def _where(condition: jax.Array, links: Links) -> Links:
    """The links where a condition holds, elsewhere a harmless upload without computation."""
    return dataclasses.replace(
        links,
        c=jnp.where(condition, links.c, 0),
        d=jnp.where(condition, links.d, 1),
        time_left=jnp.where(condition, links.time_left, 1),
    )


def curves(links: Links, B: jax.Array) -> Curves:
    """Where the energies of links bend, given the total bandwidth B, MHz."""
    data = links.d > 0
    times = jnp.stack([links.time_left - links.c / f for f in (links.fmax, links.fmin)])
    in_time = data & (times > 0)
    log_b, reachable = _log_bandwidth(links.d / jnp.where(in_time, times, 1), links.P)
    reachable = reachable & in_time
    uploads = reachable[0] & (log_b[0] <= jnp.log(B))
    idle = ~data & (times[0] >= 0)
    needed = jnp.where(reachable[0], jnp.exp(log_b[0]), jnp.where(idle, 0, jnp.inf))
    bends = reachable[1]
    log_bmin = jnp.where(uploads, log_b[0], 0)
    log_kink = jnp.where(uploads & bends, jnp.maximum(log_b[1], log_bmin), log_bmin)
    safe = _where(uploads | idle, links)
    at_fmin, _ = log_slope(safe, jnp.stack([log_bmin, log_kink]), jnp.asarray(False))
    extra = [jnp.log1p(2 * links.kappa * f**3 / links.p) for f in (links.fmax, links.fmin)]
    works = safe.c > 0
    return Curves(
        links=safe,
        needed=needed,
        bmin=jnp.where(uploads | idle, needed, jnp.inf),
        log_bmin=log_bmin,
        log_kink=jnp.where(bends, log_kink, jnp.inf),
        log_slope_bmin=at_fmin[0] + jnp.where(works, extra[0], 0),
        log_slope_above=jnp.where(bends, at_fmin[1] + jnp.where(works, extra[1], 0), -jnp.inf),
        log_slope_below=jnp.where(bends, at_fmin[1], -jnp.inf),
    )


def links_of(inst: Instance) -> Links:
    """All pairs `[N, M1]` of an instance; padded devices have neither work nor data."""
    variance = inst.vloc + inst.vvm
    random = variance > 0
    s = jnp.where(random, jnp.sqrt(jnp.where(random, variance, 1)), 0)
    time_left = inst.D[:, None] - inst.tvm - inst.sigma[:, None] * s
    there = inst.mask_n[:, None]
    return Links(
        c=jnp.where(there, inst.c, 0),
        d=jnp.where(there, inst.d, 0),
        time_left=jnp.where(inst.mask_m, jnp.where(there, time_left, 1), -jnp.inf),
        P=inst.P[:, None],
        p=inst.p[:, None],
        kappa=inst.kappa[:, None],
        fmin=inst.fmin[:, None],
        fmax=inst.fmax[:, None],
    )


def take(table: Any, m: jax.Array) -> Any:
    """Entries at partitioning points m int `[N, ...]` of a pytree of tables `[N, M1, ...]`.

    Trailing axes of m and the tables broadcast; so does an axis M1 of size 1. By comparison with
    every point: a few vector operations, where a gather would go entry by entry.
    """

    def of(x: jax.Array) -> jax.Array:
        entry = x[:, 0]
        for point in range(1, x.shape[1]):
            entry = jnp.where(m == point, x[:, point], entry)
        return entry

    return jax.tree.map(of, table)


def take_rows(table: Any, rows: jax.Array) -> Any:
    """Entries `[N, C, L]` of C partitions int `[N, C, L]` from a pytree of tables `[N, M1, L]`."""
    table = jax.tree.map(lambda x: x[:, :, None], table)
    leaves, tree = jax.tree.flatten(table)
    full = [i for i, x in enumerate(leaves) if x.shape[1] > 1]
    start = [jnp.broadcast_to(leaves[i][:, 0], rows.shape) for i in full]

    def at_point(point: jax.Array, entries: list[jax.Array]) -> list[jax.Array]:
        return [
            jnp.where(rows == point, jax.lax.dynamic_index_in_dim(leaves[i], point, 1, False), x)
            for i, x in zip(full, entries, strict=True)
        ]

    taken = [x[:, 0] for x in leaves]
    points = leaves[full[0]].shape[1]
    for i, x in zip(full, jax.lax.fori_loop(1, points, at_point, start), strict=True):
        taken[i] = x
    return jax.tree.unflatten(tree, taken)


_bmin_table = batched_last(lambda inst: curves(links_of(inst), inst.B).bmin)


@jax.jit
def bmin_table(inst: Instance) -> jax.Array:
    """Least bandwidth of every pair, MHz, `[N, M1]`; +inf where it exceeds B or none suffices."""
    return _bmin_table(jax.lax.stop_gradient(inst))


@jax.jit
def feasible(inst: Instance, m: ArrayLike | None = None) -> jax.Array:
    """Whether a partition m int `[N]`, or any partition, can meet every deadline; bool []."""
    bmin = bmin_table(inst)
    least = jnp.min(bmin, axis=-1) if m is None else take(bmin, jnp.asarray(m))
    return jnp.sum(jnp.where(inst.mask_n, least, 0)) <= inst.B


# --------------------------------------------------------------------------------------------------
# Fixed partition: problem (23)


MAX_ITERATIONS = 60


def tolerances(dtype: Any) -> tuple[float, float]:
    """Newton steps at which to stop: of log bandwidths and of log prices.

    Convergence is quadratic: the error after a step is about its square.
    """
    return (5e-7, 1e-7) if dtype == jnp.float64 else (1e-3, 2e-5)


def safeguarded(
    x: jax.Array, step: jax.Array, lower: jax.Array, upper: jax.Array, tolerance: float
) -> tuple[jax.Array, jax.Array]:
    """Newton's step inside a bracket, else to its midpoint; the new x and whether it converged."""
    small = jnp.abs(step) <= tolerance
    target = x + step
    inside = (target >= lower) & (target <= upper)
    target = jnp.where(inside | small, jnp.clip(target, lower, upper), (lower + upper) / 2)
    return target, small


def demand(
    k: Curves,
    log_price: jax.Array,
    log_b: jax.Array,
    skip: jax.Array,
    most: ArrayLike = MAX_ITERATIONS,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Bandwidths that minimise `phi(b) + price b` over `b >= bmin`.

    Args:
        k: curves `[..., L]`, L problems of any shape.
        log_price: logarithms of their prices, J/MHz, `[L]`.
        log_b: start values `[..., L]`, any.
        skip: problems that need not be solved, bool `[L]`.
        most: most iterations.

    Returns:
        log b `[..., L]` (0 where nothing is uploaded), its derivative with respect to log_price (0
        at bmin and at the kink), and evaluations of `log_slope` per curve, int32 `[L]`.
    """
    tolerance, _ = tolerances(log_b.dtype)
    at_bmin = log_price >= k.log_slope_bmin
    below = log_price < k.log_slope_below
    above = ~at_bmin & (log_price > k.log_slope_above)
    free = k.uploads & (above | below)
    fixed = jnp.where(k.uploads, jnp.where(at_bmin, k.log_bmin, k.log_kink), 0)
    lower = jnp.where(free, jnp.where(below, k.log_kink, k.log_bmin), fixed)
    upper = jnp.where(
        free, jnp.where(below, lower + 40, jnp.minimum(k.log_kink, lower + 40)), fixed
    )
    axes = tuple(range(lower.ndim - log_price.ndim))

    def searching(state: tuple[jax.Array, ...]) -> jax.Array:
        return jnp.any(~state[4] & (state[5] < most))

    def improve(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        x, lower, upper, _, done, count = state
        value, slope = log_slope(k.links, x, above)
        excess = value - log_price
        lower = jnp.where(free & (excess > 0), x, lower)
        upper = jnp.where(free & (excess <= 0), x, upper)
        x, small = safeguarded(x, -excess / slope, lower, upper, tolerance)
        new = x, lower, upper, slope, jnp.all(small | ~free, axis=axes), count + 1
        return tuple(jnp.where(done, old, fresh) for old, fresh in zip(state, new, strict=True))

    start = jnp.clip(log_b, lower, upper)
    done = ~jnp.any(free, axis=axes) | skip
    count = jnp.zeros(done.shape, jnp.int32)
    state = (start, lower, upper, -jnp.ones_like(start), done, count)
    x, _, _, slope, _, count = jax.lax.while_loop(searching, improve, state)
    return x, jnp.where(free, 1 / slope, 0), count


def first_guess(k: Curves, B: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Log prices `[L]` and log bandwidths `[N, L]` near the optimum, from equal shares."""
    num = jnp.maximum(jnp.sum(k.uploads, axis=0), 1)
    log_b = jnp.maximum(jnp.log(B / num), k.log_bmin)
    value, slope = log_slope(k.links, log_b, log_b < k.log_kink)
    log_price = jnp.sum(jnp.where(k.uploads, value, 0), axis=0) / num
    return log_price, log_b + jnp.clip((log_price - value) / slope, -1, 1)


def equilibrium(
    k: Curves, B: jax.Array, log_price: jax.Array, log_b: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Prices at which the demands of fixed curves `[N, L]` sum to B, where `sum bmin <= B`.

    Newton's method on the logarithm of the total demand as a function of the log price.

    Args:
        k: curves `[N, L]` of L problems of any shape.
        B: total bandwidths, MHz, `[L]`.
        log_price, log_b: start values, `[L]` and `[N, L]`.

    Returns:
        Log prices `[L]`, log bandwidths `[N, L]`, and evaluations of `log_slope` per device, int32
        `[L]`.
    """
    dtype = log_b.dtype
    _, tolerance = tolerances(dtype)
    lower = jnp.full_like(log_price, math.log(1e-9))
    upper = jnp.max(jnp.where(k.uploads, k.log_slope_bmin, lower), axis=0)
    impossible = jnp.sum(k.bmin, axis=0) > B

    def searching(state: tuple[jax.Array, ...]) -> jax.Array:
        return jnp.any(~state[4] & (state[6] < MAX_ITERATIONS))

    def improve(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        log_price, log_b, lower, upper, done, count, rounds = state
        log_b, elasticity, evaluations = demand(k, log_price, log_b, done)
        b = jnp.where(k.uploads, jnp.exp(log_b), 0)
        total = jnp.maximum(jnp.sum(b, axis=0), TINY)
        excess = jnp.log(total / B)
        slope = jnp.sum(b * elasticity, axis=0) / total
        lower = jnp.where(excess > 0, log_price, lower)
        upper = jnp.where(excess <= 0, log_price, upper)
        moves = slope < 0
        step = jnp.where(moves, -excess / jnp.where(moves, slope, -1), jnp.inf)
        target, small = safeguarded(log_price, step, lower, upper, tolerance)
        log_b = log_b + elasticity * (target - log_price)
        new = target, log_b, lower, upper, small, count + evaluations, rounds + 1
        return tuple(jnp.where(done, old, fresh) for old, fresh in zip(state, new, strict=True))

    zero = jnp.zeros(log_price.shape, jnp.int32)
    start = jnp.clip(log_price, lower, upper)
    done = ~jnp.any(k.uploads, axis=0) | impossible
    state = (start, log_b, lower, upper, done, zero, zero)
    log_price, log_b, _, _, _, count, _ = jax.lax.while_loop(searching, improve, state)
    return log_price, log_b, count


def share_rest(k: Curves, B: jax.Array, b: jax.Array) -> jax.Array:
    """Bandwidths `[N, L]` scaled above the least to sum to B; 0 where nothing is uploaded."""
    least = jnp.where(k.uploads, k.bmin, 0)
    room = jnp.where(k.uploads, jnp.maximum(b - least, 0), 0)
    total = jnp.sum(room, axis=0)
    spare = jnp.maximum(B - jnp.sum(least, axis=0), 0)
    return least + room * jnp.where(total > 0, spare / jnp.where(total > 0, total, 1), 0)


@struct.dataclass
class Optimum:
    """Solution of problem (23), with what its derivative holds fixed; a pytree.

    Attributes:
        log_price: logarithm of the price of bandwidth, J/MHz, `[L]`.
        b: bandwidths, MHz, `[N, L]`.
        available: links that B alone would suffice for, bool `[N, L]`.
        uploads: those of them with data, bool `[N, L]`.
        at_bmin: those at their least bandwidth, where f = fmax, bool `[N, L]`.
        above: those before their kink, where f > fmin, bool `[N, L]`.
        free: those neither at their least bandwidth nor at their kink, bool `[N, L]`.
        possible: whether every deadline can be met, bool `[L]`.
    """

    log_price: jax.Array
    b: jax.Array
    available: jax.Array
    uploads: jax.Array
    at_bmin: jax.Array
    above: jax.Array
    free: jax.Array
    possible: jax.Array


def optimum_of(k: Curves, B: jax.Array, log_price: jax.Array, b: jax.Array) -> Optimum:
    """What prices `[L]` and bandwidths `[N, L]` that solve problem (23) hold fixed."""
    at_bmin = k.uploads & (log_price >= k.log_slope_bmin)
    above = log_price > k.log_slope_above
    free = k.uploads & ~at_bmin & (above | (log_price < k.log_slope_below))
    possible = jnp.sum(k.bmin, axis=0) <= B
    return Optimum(log_price, b, k.available, k.uploads, at_bmin, above, free, possible)


@jax.custom_jvp
def _held(
    links: Links, B: jax.Array, log_price: jax.Array, b: jax.Array, found: Optimum
) -> tuple[jax.Array, jax.Array]:
    """The log price [] and bandwidths `[N]` of an optimum as functions of links `[N]` and B."""
    return log_price, b


@_held.defjvp
def _held_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """Implicit function theorem on the optimality conditions, with the active set held.

    `log(-phi'(b_n)) = log price` for a free device; `R(b_n)` is what the deadline needs at fmax or
    fmin for a device at its least bandwidth or at its kink; `sum b_n = B`.
    """
    links, _, _, _, found = primals
    d_links, d_B, _, _, _ = tangents
    log_price, b = _held(*primals)

    def residual(links: Links, log_b: jax.Array) -> jax.Array:
        safe = _where(found.uploads, links)
        frequency = jnp.where(found.at_bmin, safe.fmax, safe.fmin)
        time = safe.time_left - safe.c / frequency
        late = jnp.log(rate(jnp.exp(log_b), safe.P) * jnp.where(found.free, 1, time) / safe.d)
        return jnp.where(found.free, log_slope(safe, log_b, found.above)[0], late)

    log_b = jnp.log(jnp.where(found.uploads, b, 1))
    ones = jnp.ones_like(log_b)
    _, by_b = jax.jvp(lambda log_b: residual(links, log_b), (log_b,), (ones,))
    _, by_links = jax.jvp(lambda links: residual(links, log_b), (links,), (d_links,))
    weight = jnp.where(found.uploads, b / by_b, 0)
    freedom = jnp.sum(jnp.where(found.free, weight, 0))
    moves = jnp.any(found.free)
    d_price = (d_B + jnp.sum(weight * by_links)) / jnp.where(moves, freedom, 1)
    d_price = jnp.where(moves, d_price, 0)
    d_b = weight * (jnp.where(found.free, d_price, 0) - by_links)
    return (log_price, b), (d_price, d_b)


def _solved(k: Curves, links: Links, B: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Log price [] and bandwidths `[N]` by nested root finding in `allocators.solvers`.

    Outer root in the log price of `sum b / B - 1`; inner roots, one per device, of `log(-phi')`
    minus the log price over u in [0, 1], where `log b = log bmin + u (log B - log bmin)`.
    """
    solvable = k.uploads & (jnp.sum(k.bmin) <= B)
    links = _where(solvable, links)
    lowest = jnp.where(solvable, k.log_bmin, jnp.log(B) - 5)
    dtype = links.d.dtype
    tol = 1e-13 if dtype == jnp.float64 else 1e-6

    def bandwidths(log_price: jax.Array, links: Links, B: jax.Array) -> jax.Array:
        def of_device(links: Links, bend: tuple[jax.Array, ...]) -> jax.Array:
            solvable, low, kink = bend
            span = jnp.log(B) - low

            def excess(u: jax.Array, log_price: jax.Array, links: Links, span: jax.Array):
                log_b = low + u * span
                return log_slope(links, log_b, log_b < kink)[0] - log_price

            args = (log_price, links, span)
            zero, one = jnp.zeros((), dtype), jnp.ones((), dtype)
            root = solvers.bisect_root(excess, zero, one, *args, maxiter=60, tol=tol)
            u = jnp.where(excess(zero, *args) <= 0, 0, jnp.where(excess(one, *args) >= 0, 1, root))
            return jnp.where(solvable, jnp.exp(low + u * span), 0)

        return jax.vmap(of_device)(links, (solvable, lowest, k.log_kink))

    def excess(log_price: jax.Array, links: Links, B: jax.Array) -> jax.Array:
        total = jnp.sum(bandwidths(log_price, links, B))
        return jnp.where(jnp.any(solvable), total / B - 1, -log_price)

    ends = jnp.asarray(math.log(1e-9), dtype), jnp.asarray(math.log(1e6), dtype)
    log_price = solvers.bisect_root(excess, *ends, links, B, maxiter=60, tol=tol)
    return log_price, bandwidths(log_price, links, B)


def _deadline_multipliers(
    links: Links, uploads: jax.Array, price: jax.Array, b: jax.Array, f: jax.Array
) -> jax.Array:
    """Multipliers of the deadlines (22), J/s, from the conditions of b, or of f without upload."""
    safe_b = jnp.where(uploads, b, 1)
    ratio = links.P / safe_b
    log_term = jnp.log1p(ratio)
    marginal = (log_term - ratio / (1 + ratio)) / LN2
    data = jnp.where(uploads, links.d, 1)
    by_bandwidth = price * (safe_b * log_term / LN2) ** 2 / (data * marginal) - links.p
    by_frequency = jnp.where(f > links.fmin, 2 * links.kappa * f**3, 0)
    return jnp.where(uploads, by_bandwidth, by_frequency)


@struct.dataclass
class _Report:
    """The floats of an `Allocation`."""

    b: jax.Array
    f: jax.Array
    t_off: jax.Array
    e_dev: jax.Array
    mu: jax.Array
    slack: jax.Array
    E: jax.Array
    lam: jax.Array


def _report(
    links: Links, active: jax.Array, found: Optimum, log_price: jax.Array, b: jax.Array
) -> _Report:
    """What follows from prices `[L]` and bandwidths `[N, L]`, section II of the paper."""
    safe = _where(found.available, links)
    b = jnp.where(found.uploads, b, 0)
    t, f = _upload(safe, b)
    price = jnp.where(jnp.any(found.uploads, axis=0), jnp.exp(log_price), 0)
    mu = _deadline_multipliers(safe, found.uploads, price, b, f)
    spent = safe.kappa * safe.c * f**2 + safe.p * t
    slack = safe.time_left - t - safe.c / f

    def kept(x: jax.Array, otherwise: ArrayLike = 0) -> jax.Array:
        return jnp.where(found.possible & active, x, jnp.where(active, otherwise, 0))

    return _Report(
        b=kept(b),
        f=jnp.where(found.possible & active, f, links.fmin),
        t_off=kept(t),
        e_dev=kept(spent, jnp.inf),
        mu=kept(mu),
        slack=kept(slack),
        E=jnp.where(found.possible, jnp.sum(kept(spent), axis=0), jnp.inf),
        lam=jnp.where(found.possible, price, 0),
    )


def reported(links: Links, active: jax.Array, found: Optimum) -> _Report:
    """The floats of the allocation of an optimum, `[N, L]` and `[L]`."""
    return _report(links, active, found, found.log_price, found.b)


@jax.custom_jvp
def _differentiable(
    links: Links, B: jax.Array, active: jax.Array, found: Optimum, report: _Report
) -> _Report:
    """A report of one instance as a function of its links `[N]` and B []."""
    return report


@_differentiable.defjvp
def _differentiable_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    links, B, active, found, _ = primals

    def again(links: Links, B: jax.Array) -> _Report:
        held = _held(links, B, found.log_price, found.b, found)
        return _report(links, active, found, *held)

    return jax.jvp(again, (links, B), tangents[:2])


def allocation(
    inst: Instance, m: jax.Array, links: Links, found: Optimum, report: _Report
) -> Allocation:
    """The allocation of one instance, differentiable, from its optimum and report."""
    report = _differentiable(links, inst.B, inst.mask_n, found, report)
    fields = {field.name: getattr(report, field.name) for field in dataclasses.fields(report)}
    return Allocation(m=m, feasible=found.possible, **fields)


@batched_last
def _optimal(inst: Instance, m: jax.Array) -> tuple[Optimum, _Report]:
    """Solution of problem (23) at partitioning points `[N, L]` by Newton's method."""
    links = jax.tree.map(lambda x: x[:, 0], take_rows(links_of(inst), m[:, None]))
    k = curves(links, inst.B)
    log_price, log_b, _ = equilibrium(k, inst.B, *first_guess(k, inst.B))
    found = optimum_of(k, inst.B, log_price, share_rest(k, inst.B, jnp.exp(log_b)))
    return found, reported(links, inst.mask_n, found)


def links_at(inst: Instance, m: jax.Array) -> Links:
    """Links `[N]` of an instance at partitioning points m int `[N]`."""
    rows = jnp.arange(m.shape[0])
    table = links_of(inst)
    return jax.tree.map(lambda x: x[rows, m] if x.shape[1] > 1 else x[:, 0], table)


BACKENDS = ("closed", "jaxopt")


@partial(jax.jit, static_argnames="backend")
def allocate(inst: Instance, m: ArrayLike, backend: Backend = "closed") -> Allocation:
    """Bandwidths and frequencies of least expected energy for a fixed partition, problem (23).

    Differentiable in the floats of the instance by the implicit function theorem, where the
    active set is locally constant (no device passes its least bandwidth or the kink at fmin);
    where no deadline can be met all derivatives are 0.

    Args:
        inst: the instance.
        m: partitioning points, int `[N]`.
        backend: "closed" is a safeguarded Newton's method; "jaxopt" solves the same optimality
            conditions by nested bisection, much slower, as a reference.

    Returns:
        The optimum; `feasible` is False and `E = +inf` where the least bandwidths of the partition
        sum to more than B.

    Raises:
        ValueError: unknown backend.

    Source: problem (23), energy (15), deadline (22).
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend: {backend!r} is not valid; give one of {', '.join(BACKENDS)}")
    m = _points(inst, m)
    links = links_at(inst, m)
    if backend == "closed":
        return allocation(inst, m, links, *_optimal(jax.lax.stop_gradient(inst), m))
    k = curves(*jax.lax.stop_gradient((links, inst.B)))
    log_price, b = _solved(k, links, inst.B)
    found = optimum_of(k, inst.B, log_price, b)
    report = _report(links, inst.mask_n, found, log_price, b)
    fields = {field.name: getattr(report, field.name) for field in dataclasses.fields(report)}
    return Allocation(m=m, feasible=found.possible, **fields)


def _points(inst: Instance, m: ArrayLike) -> jax.Array:
    """Partitioning points, int32 `[N]`, 0 for padding."""
    last = inst.c.shape[1] - 1
    return jnp.where(inst.mask_n, jnp.clip(jnp.asarray(m, jnp.int32), 0, last), 0)


@jax.custom_jvp
def _value(links: Links, B: jax.Array, active: jax.Array, found: Optimum, report: _Report):
    """Least energy E, J, [], as a function of links `[N]` and the total bandwidth."""
    return report.E


@_value.defjvp
def _value_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """Envelope theorem: the derivative of the Lagrangian at fixed b, f, price and multipliers.

    A frequency at one of its ends moves with that end.
    """
    links, B, _, found, _ = primals
    report = _differentiable(*primals)
    b, f, mu, price = report.b, report.f, report.mu, report.lam
    fastest = found.at_bmin | (f >= links.fmax)
    slowest = (found.uploads & ~found.above) | (f <= links.fmin)

    def lagrangian(links: Links, B: jax.Array) -> jax.Array:
        links = _where(found.available & found.possible, links)
        frequency = jnp.where(fastest, links.fmax, jnp.where(slowest, links.fmin, f))
        served = found.uploads & (b > 0)
        speed = rate(jnp.where(served, b, 1), links.P)
        t = jnp.where(served, links.d / speed, 0)
        spent = links.kappa * links.c * frequency**2 + links.p * t
        lateness = links.c / frequency + t - links.time_left
        return jnp.sum(spent + mu * lateness) - price * B

    _, derivative = jax.jvp(lagrangian, (links, B), tangents[:2])
    return _value(*primals), jnp.where(found.possible, derivative, 0)


@jax.jit
def value(inst: Instance, m: ArrayLike) -> jax.Array:
    """Least expected energy E, J, [], of a fixed partition int `[N]`; +inf where infeasible.

    Equal to `allocate(inst, m).E`, but differentiable by the envelope theorem: dE/dB = -lam,
    dE/dD = -mu, and so on for every float of the instance. Infeasible: all derivatives are 0.

    Source: problem (23).
    """
    m = _points(inst, m)
    found, report = _optimal(jax.lax.stop_gradient(inst), m)
    return _value(links_at(inst, m), inst.B, inst.mask_n, found, report)


# --------------------------------------------------------------------------------------------------
# References: exhaustive search, worst case, simulated violation


MAX_PARTITIONS = 200_000
PARTITIONS_AT_ONCE = 4096


@jax.jit
def exhaustive(inst: Instance) -> Allocation:
    """Optimum over all partitions by trying each: `M1^N` problems (23), for N up to 4 or 5.

    Raises:
        ValueError: more than `MAX_PARTITIONS` partitions.

    Source: problem (9).
    """
    num_devices, points = inst.c.shape
    if points**num_devices > MAX_PARTITIONS:
        raise ValueError(
            f"inst: {points}^{num_devices} partitions are not valid; "
            f"give at most {MAX_PARTITIONS} to exhaustive"
        )
    partitions = np.indices((points,) * num_devices).reshape(num_devices, -1)
    best = _cheapest(jax.lax.stop_gradient(inst), jnp.asarray(partitions, jnp.int32))
    return allocate(inst, best)


def _cheapest(inst: Instance, partitions: jax.Array) -> jax.Array:
    """The partition of least energy, int32 `[N]`, of those in `[N, count]`."""
    k = curves(links_of(inst), inst.B)
    num_devices, count = partitions.shape
    size = min(count, PARTITIONS_AT_ONCE)
    chunks = jnp.pad(partitions, ((0, 0), (0, -count % size)), mode="edge")

    def costs(m: jax.Array) -> jax.Array:
        chunk = take(jax.tree.map(lambda x: x[..., None], k), m)
        log_price, log_b, _ = equilibrium(chunk, inst.B, *first_guess(chunk, inst.B))
        spent = jnp.sum(energy(chunk.links, share_rest(chunk, inst.B, jnp.exp(log_b))), axis=0)
        return jnp.where(jnp.sum(chunk.bmin, axis=0) <= inst.B, spent, jnp.inf)

    chunks = jnp.moveaxis(chunks.reshape(num_devices, -1, size), 1, 0)
    return partitions[:, jnp.argmin(jax.lax.map(costs, chunks).reshape(-1)[:count])]


def worst_case(
    inst: Instance, K: ArrayLike | None = None, calibration: Calibration = "literal"
) -> Instance:
    """The instance of the worst-case policy: K standard deviations instead of sigma.

    It is the robust problem at `eps = 1 / (1 + K^2)`; `eps` itself is left as it is.

    Args:
        inst: the instance.
        K: standard deviations added to the mean times, scalar or `[N]`; by default those fitted to
            the paper's results, by model and calibration.
        calibration: that of the instance, for the default of K.
    """
    if K is None:
        fitted = [entry.worst_case_k[calibration] for entry in MODELS.values()]
        K = jnp.asarray(fitted, inst.sigma.dtype)[inst.model_id]
    return inst.replace(sigma=jnp.broadcast_to(jnp.asarray(K, inst.sigma.dtype), inst.sigma.shape))


def _sample(key: jax.Array, law: str, mean: jax.Array, std: jax.Array, num: int) -> jax.Array:
    """Times `[num, N]` of one part with a mean and a standard deviation `[N]`, s."""
    shape = (num, *mean.shape)
    random = std > 0
    std = jnp.where(random, std, 1)
    if law == "gauss":
        drawn = mean + std * jax.random.normal(key, shape, mean.dtype)
    elif law == "lognormal":
        log_mean = jnp.log(jnp.where(random, mean, 1))
        variance = jnp.log1p((std / jnp.exp(log_mean)) ** 2)
        normal = jax.random.normal(key, shape, mean.dtype)
        drawn = jnp.exp(log_mean - variance / 2 + jnp.sqrt(variance) * normal)
    elif law == "gamma":
        drawn = mean - std + std * jax.random.exponential(key, shape, mean.dtype)
    else:
        root = math.sqrt(HEAVY_SHAPE)
        gamma = jax.random.gamma(key, HEAVY_SHAPE, shape, mean.dtype)
        drawn = mean - std * root + gamma * std / root
    return jnp.where(random, drawn, mean)


HEAVY_SHAPE = 0.1
LAWS = ("gauss", "lognormal", "gamma", "heavygamma", "twopoint")
SAMPLES_PER_CHUNK = 10_000


@partial(jax.jit, static_argnames=("law", "n_samples"))
def violation(
    key: jax.Array, inst: Instance, alloc: Allocation, law: Law, n_samples: int = 400_000
) -> jax.Array:
    """Simulated probability `[N]` that a device's inference takes longer than its deadline.

    The local time and that of the virtual machine are independent and follow one law with the
    instance's means and variances: normal; lognormal; "gamma", a shifted exponential; "heavygamma",
    a shifted gamma law of shape 0.1; "twopoint", the distribution of the sum that attains the
    bound eps of (18). Padded devices have 0.

    Raises:
        ValueError: unknown law.
    """
    if law not in LAWS:
        raise ValueError(f"law: {law!r} is not valid; give one of {', '.join(LAWS)}")
    links = links_at(inst, alloc.m)
    chosen = take((inst.tvm, inst.vloc, inst.vvm), alloc.m)
    mean_vm, var_local, var_vm = (jnp.where(inst.mask_n, x, 0) for x in chosen)
    mean_local = links.c / alloc.f

    def lateness(key: jax.Array, num: int) -> jax.Array:
        if law == "twopoint":
            mean, variance = alloc.t_off + mean_local + mean_vm, var_local + var_vm
            above = jnp.maximum(inst.D - mean, 0) + 1e-6
            chance = variance / (variance + above**2)
            late = jax.random.uniform(key, (num, *mean.shape), mean.dtype) < chance
            return jnp.where(late, mean + above, mean - variance / above) - inst.D
        keys = jax.random.split(key)
        local = _sample(keys[0], law, mean_local, jnp.sqrt(var_local), num)
        return alloc.t_off + local + _sample(keys[1], law, mean_vm, jnp.sqrt(var_vm), num) - inst.D

    def count(total: jax.Array, chunk: jax.Array) -> tuple[jax.Array, None]:
        late = lateness(jax.random.fold_in(key, chunk), SAMPLES_PER_CHUNK) > 0
        left = n_samples - chunk * SAMPLES_PER_CHUNK
        counted = jnp.arange(SAMPLES_PER_CHUNK)[:, None] < left
        return total + jnp.sum(late & counted, axis=0, dtype=jnp.int32), None

    chunks = jnp.arange(-(-n_samples // SAMPLES_PER_CHUNK))
    total, _ = jax.lax.scan(count, jnp.zeros(inst.D.shape, jnp.int32), chunks)
    return jnp.where(inst.mask_n, total / n_samples, 0).astype(inst.D.dtype)
