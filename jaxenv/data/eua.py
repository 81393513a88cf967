"""Sites of edge servers from the EUA data sets: `edge-servers/site-optus-melbCBD.csv`, 125 sites.

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


def read_sites(path: str | PathLike[str]) -> np.ndarray:
    """Positions of sites, float64 ``[sites, 2]``: metres east and north of their mean.

    The file is CSV with the columns `LATITUDE` and `LONGITUDE` in degrees; further ones are
    ignored. Projection, in radians: ``x = R (lon - mean lon) cos(mean lat)``,
    ``y = R (lat - mean lat)`` with the mean radius R of the earth, for cities away from the date
    line.

    Raises:
        ConfigError: the file cannot be read, lacks a column, has no rows, or a cell is no number or
            no latitude or longitude.
    """
    path = Path(path)
    rows = read_columns(path, tuple(_LARGEST_DEG))
    degrees = [
        [_degrees(path, line, column, row[column]) for column in _LARGEST_DEG] for line, row in rows
    ]
    latitude, longitude = np.radians(degrees).T
    east = (longitude - longitude.mean()) * np.cos(latitude.mean())
    return _EARTH_RADIUS_M * np.stack([east, latitude - latitude.mean()], axis=1)


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
