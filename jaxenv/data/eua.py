"""Sites of edge servers and users from the EUA data sets: `edge-servers/site-optus-melbCBD.csv` has
125 sites, `users/users-melbcbd-generated.csv` 816 users.

Data: https://github.com/PhuLai/eua-dataset, MIT licence.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np

from jaxenv.data.rows import finite, read_columns
from jaxenv.errors import ConfigError
from jaxenv.physics import graphs

_EARTH_RADIUS_M = 6371008.8
_LARGEST_DEG = {"LATITUDE": 90.0, "LONGITUDE": 180.0}
_MOST_TRIES = 1000


def _degrees(path: Path, line: int, column: str, text: str | None) -> float:
    value, largest = finite(path, line, column, text), _LARGEST_DEG[column]
    if abs(value) > largest:
        valid = f"give degrees from {-largest:g} to {largest:g}"
        raise ConfigError(f"{path}: line {line}, {column}", value, valid)
    return value


def _read_degrees(path: Path) -> tuple[np.ndarray, list[int]]:
    """Latitudes and longitudes ``[places, 2]`` of a CSV file, and their lines."""
    rows = read_columns(path, tuple(_LARGEST_DEG), fold_case=True)
    degrees = [
        [_degrees(path, line, name, row[name]) for name in _LARGEST_DEG] for line, row in rows
    ]
    return np.array(degrees), [line for line, _ in rows]


def _metres_from(mean_deg: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    latitude, longitude = np.radians(degrees - mean_deg).T
    east = longitude * np.cos(np.radians(mean_deg[0]))
    return _EARTH_RADIUS_M * np.stack([east, latitude], axis=1)


def read_sites(path: str | PathLike[str]) -> np.ndarray:
    """Positions of sites, float64 ``[sites, 2]``: metres east and north of their mean.

    The file is CSV with the columns `LATITUDE` and `LONGITUDE`, in capitals or not, in degrees;
    further ones are ignored. Projection, in radians: ``x = R (lon - mean lon) cos(mean lat)``,
    ``y = R (lat - mean lat)`` with the mean radius R of the earth, for cities away from the date
    line.

    Raises:
        ConfigError: the file cannot be read, lacks a column, has no rows, a cell is no number or no
            latitude or longitude, or two sites are at the same place.
    """
    path = Path(path)
    degrees, lines = _read_degrees(path)
    _, first, group = np.unique(degrees, axis=0, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[group.reshape(-1)] != np.arange(len(degrees)))
    if again.size:
        row = int(again[0])
        known = lines[first[group.reshape(-1)[row]]]
        place = tuple(degrees[row].tolist())
        valid = f"the site of line {known} is at the same place; give each site once"
        raise ConfigError(f"{path}: line {lines[row]}, LATITUDE and LONGITUDE", place, valid)
    return _metres_from(degrees.mean(axis=0), degrees)


def read_users(path: str | PathLike[str], sites: str | PathLike[str]) -> np.ndarray:
    """Positions of users, float64 ``[users, 2]``: metres east and north of the mean of the sites.

    Args:
        path: of the users, a file with the same columns as one of sites.
        sites: of the sites, as for `read_sites`.

    Raises:
        ConfigError: as `read_sites`; users may be at the same place.
    """
    degrees, _ = _read_degrees(Path(path))
    return _metres_from(_read_degrees(Path(sites))[0].mean(axis=0), degrees)


def users_per_site(users_m: np.ndarray, sites_m: np.ndarray) -> np.ndarray:
    """How many users ``[users, 2]`` have each site ``[sites, 2]`` as their nearest, int64."""
    away = np.sum((users_m[:, None] - sites_m) ** 2, axis=-1)
    return np.bincount(np.argmin(away, axis=1), minlength=len(sites_m))


def draw_sites(
    positions_m: np.ndarray, seed: int, num_servers: int = 16, reach_m: float = 500.0
) -> tuple[np.ndarray, int]:
    """Positions ``[num_servers, 2]`` in m of a random connected subset of sites, and its tries.

    Subsets are drawn by NumPy's ``default_rng(seed)`` without replacement, in the order of the
    sites, until servers nearer than ``reach_m`` make a connected graph: the first connected one.

    Args:
        positions_m: float ``[sites, 2]``, m, as of `read_sites`. seed: integer >= 0.
        num_servers: at least 1, at most the number of sites.
        reach_m: m, > 0.

    Raises:
        ConfigError: one of these is not as said, or none of 1000 subsets is connected.
    """
    positions_m = np.asarray(positions_m)
    sites = len(positions_m)
    if seed < 0:
        raise ConfigError("seed", seed, "give an integer >= 0")
    if not 1 <= num_servers <= sites:
        raise ConfigError("num_servers", num_servers, f"give 1 to {sites}, the number of sites")
    if not reach_m > 0:
        raise ConfigError("reach_m", reach_m, "give a number > 0")
    rng = np.random.default_rng(seed)
    for tries in range(1, _MOST_TRIES + 1):
        drawn = positions_m[np.sort(rng.choice(sites, num_servers, replace=False))]
        if graphs.is_connected(graphs.linked(drawn, reach_m)):
            return drawn, tries
    valid = (
        f"none of {_MOST_TRIES} subsets of {num_servers} of {sites} sites is connected; "
        "give a greater reach or other sites"
    )
    raise ConfigError("reach_m", reach_m, valid)
