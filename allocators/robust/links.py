"""One device at one partitioning point: its energy as a function of its bandwidth.

Units are those of `allocators.robust`.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from allocators import struct
from allocators.lanes import batched_last
from allocators.robust.instance import Instance

LN2 = math.log(2)
TINY = 1e-30


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
    excess = jnp.maximum(target - 1, 1e-12)  # rounding can make it negative where s is almost 1
    start = 1 + jnp.sqrt(2 * excess) + excess

    def newton(_: int, w: jax.Array) -> jax.Array:
        return jnp.maximum(w - (w - jnp.log(w) - target) / (1 - 1 / w), 1 + 1e-6)

    w = jax.lax.fori_loop(0, 5, newton, start)
    return jnp.log(P / (w / s - 1)), reachable


def upload(links: Links, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Upload time t, s, and least frequency f in [fmin, fmax], GHz, at bandwidths b, MHz."""
    speed = rate(b, links.P)
    served = speed > 0
    t = jnp.where(served, links.d / jnp.where(served, speed, 1), 0)
    left = links.time_left - t
    in_time = left > 0
    f = jnp.where(in_time, links.c / jnp.where(in_time, left, 1), jnp.inf)
    f = jnp.where(links.c > 0, f, 0)
    return t, jnp.minimum(jnp.maximum(f, links.fmin), links.fmax)


def energy(links: Links, b: jax.Array) -> jax.Array:
    """Expected energy `phi(b) = kappa c f^2 + p t`, J, eqs (15) and (5)."""
    t, f = upload(links, b)
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


def only_where(condition: jax.Array, links: Links) -> Links:
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
    safe = only_where(uploads | idle, links)
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
