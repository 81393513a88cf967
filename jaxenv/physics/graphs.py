"""Networks of servers: links by distance, connectivity, repair, shortest paths.

Source: the services paper (HISPER: joint DNN model deployment, selection and configuration),
section VI-B; the metrics, the tie rules and the repair are this project's reading of it.

`linked`, `is_connected` and `repair` build a scenario and take NumPy arrays; `shortest_paths` works
under `jit` and `vmap`. Graphs are symmetric, except that `shortest_paths` allows any.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxenv.errors import ConfigError

_STEPS = 1200  # of 1/bandwidth in an s/Mb: whole for 50, 100, 200, 300 and 400 Mbit/s
_NO_LINK = 2**29  # twice this fits into int32
_FIRST = {"delay": 2**12, "hops": 2**20}  # weight of the metric's first criterion
_MOST_SERVERS = _NO_LINK // _FIRST["hops"]


def _distances_m(positions_m: np.ndarray) -> np.ndarray:
    return np.linalg.norm(positions_m[:, None] - positions_m, axis=-1)


def linked(positions_m: np.ndarray, reach_m: float) -> np.ndarray:
    """Which servers are strictly nearer to each other than a reach: bool ``[K, K]``.

    No server is linked to itself.

    Args:
        positions_m: float ``[K, 2]``, m. reach_m: m.
    """
    near = _distances_m(np.asarray(positions_m)) < reach_m
    np.fill_diagonal(near, False)
    return near


def _components(linked: np.ndarray) -> np.ndarray:
    """The lowest server that each server reaches: int ``[K]``."""
    adjacent = np.asarray(linked) | np.eye(len(linked), dtype=bool)
    lowest = np.arange(len(adjacent))
    while True:
        lower = np.where(adjacent, lowest, len(adjacent)).min(axis=1, initial=len(adjacent))
        if np.array_equal(lower, lowest):
            return lowest
        lowest = lower


def is_connected(linked: np.ndarray) -> bool:
    """Whether every server reaches every other one over links, bool ``[K, K]``, symmetric."""
    return not _components(linked).any()


def repair(positions_m: np.ndarray, linked: np.ndarray) -> np.ndarray:
    """The links, bool ``[K, K]``, with as many more as connect all servers.

    While the servers are disconnected, the shortest missing link between two components is added,
    of equally short ones that with the lowest indices.

    Args:
        positions_m: float ``[K, 2]``, m. linked: bool ``[K, K]``, symmetric; it is not changed.
    """
    linked = np.array(linked, bool)
    distance_m = _distances_m(np.asarray(positions_m))
    while not is_connected(linked):
        component = _components(linked)
        apart = np.argwhere(component[:, None] != component)
        i, j = apart[distance_m[tuple(apart.T)].argmin()]
        linked[i, j] = linked[j, i] = True
    return linked


def shortest_paths(link_mbps: ArrayLike, metric: str = "delay") -> tuple[jax.Array, jax.Array]:
    """Time per data in s/Mb and number of links, int32, of the shortest path between any servers.

    Both are ``[K, K]``, the time in the dtype of ``link_mbps``, from row to column; a server
    reaches itself in 0 s/Mb over 0 links. The metric "delay" takes the least sum of 1/bandwidth, of
    equal ones that with the fewest links; "hops" the fewest links, of equal ones the least sum.
    1/bandwidth of a link is rounded to 1/1200 s/Mb (exact at 50, 100, 200, 300 and 400 Mbit/s,
    0 above 2400 Mbit/s) and summed exactly; derivatives are 0.

    Where there is no path the time is inf and the number of links K. A bandwidth that is not > 0 is
    no link, nor is one under about max(K, 8)/874 Mbit/s, and by "delay" no path takes 2^17/1200 =
    109 s/Mb or more: int32 cannot overflow.

    Source: services paper section VI-B; Floyd and Warshall on the integers
    ``4096 (1200/w) + 1`` (delay) or ``2^20 + 1200/w`` (hops).

    Args:
        link_mbps: bandwidth w of each link ``[K, K]``, Mbit/s, 0 for no link; the diagonal is not
            used. At most 512 servers.
        metric: "delay" or "hops".

    Raises:
        ConfigError: another metric, or another shape.
    """
    if metric not in _FIRST:
        raise ConfigError("metric", metric, f"give one of {', '.join(_FIRST)}")
    dtype = jnp.result_type(float, link_mbps)
    link_mbps = jnp.asarray(link_mbps, dtype)
    shape = link_mbps.shape
    if len(shape) != 2 or shape[0] != shape[1] or not 1 <= shape[0] <= _MOST_SERVERS:
        valid = f"give one row and one column per server, of 1 to {_MOST_SERVERS}"
        raise ConfigError("shape of link_mbps", shape, valid)
    servers, first = shape[0], _FIRST[metric]

    slowest = min(_NO_LINK // _FIRST["delay"], _FIRST["hops"] // servers)
    has_bandwidth = link_mbps > 0
    steps = jnp.rint(_STEPS / jnp.where(has_bandwidth, link_mbps, 1))
    has_link = has_bandwidth & (steps < slowest)
    steps = jnp.where(has_link, steps, 0).astype(jnp.int32)
    key = first * steps + 1 if metric == "delay" else first + steps
    key = jnp.where(has_link, key, _NO_LINK)
    key = jnp.where(jnp.eye(servers, dtype=bool), 0, key)

    def by_way_of(via: jax.Array, key: jax.Array) -> jax.Array:
        return jnp.minimum(key, key[:, via, None] + key[via])

    key = jax.lax.fori_loop(0, servers, by_way_of, key)
    criteria = jnp.divmod(key, first)
    steps, hops = criteria if metric == "delay" else criteria[::-1]
    reached = key < _NO_LINK
    s_per_mbit = jnp.where(reached, steps.astype(dtype) / _STEPS, jnp.inf)
    return s_per_mbit, jnp.where(reached, hops, servers)
