"""Mobility traces from SUMO floating-car data (`--fcd-output`).

Format: https://sumo.dlr.de/docs/Simulation/Output/FCDOutput.html
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

import numpy as np

from jaxenv.errors import ConfigError

_ANGLE_TOLERANCE_DEG = 1.0
_TIME_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Trace:
    """Vehicles on a straight road, one column each, one row per time step.

    A column may carry another vehicle later; at least one inactive row lies between.

    Attributes:
        position_m: float64[rows, V], metres along the road; 0 where inactive.
        active: bool[rows, V], whether a vehicle is on the road.
        direction: int64[V], +1 or -1 along the road; columns of direction +1 come first.
        slot_s: seconds between two rows.
    """

    position_m: np.ndarray
    active: np.ndarray
    direction: np.ndarray
    slot_s: float


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if compressed else path.open("rb")


def _attribute(path: Path, element: ElementTree.Element, name: str, where: str) -> str:
    value = element.get(name)
    if value is None:
        raise ConfigError(f"{path}: {where}: {name}", None, f"give the attribute {name}")
    return value


def _number(path: Path, element: ElementTree.Element, name: str, where: str) -> float:
    text = _attribute(path, element, name, where)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{path}: {where}: {name}", text, "give a finite number")
    return value


def _direction(path: Path, element: ElementTree.Element, where: str) -> int:
    angle = _number(path, element, "angle", where)
    for direction, heading in ((1, 90.0), (-1, 270.0)):
        if abs(angle - heading) <= _ANGLE_TOLERANCE_DEG:
            return direction
    raise ConfigError(f"{path}: {where}: angle", angle, "give a road along x: 90 or 270 degrees")


def _vehicles(
    path: Path, timestep: ElementTree.Element, time: float
) -> dict[tuple[str, int], float]:
    positions: dict[tuple[str, int], float] = {}
    seen: set[str] = set()
    for element in timestep.iter("vehicle"):
        vehicle = _attribute(path, element, "id", f"a vehicle at time {time:g}")
        where = f"vehicle {vehicle!r} at time {time:g}"
        if vehicle in seen:
            raise ConfigError(
                f"{path}: {where}: id", vehicle, "give each vehicle once per timestep"
            )
        seen.add(vehicle)
        key = vehicle, _direction(path, element, where)
        positions[key] = _number(path, element, "x", where)
    return positions


def _timesteps(path: Path) -> Iterator[tuple[float, dict[tuple[str, int], float]]]:
    """(time, position of each (vehicle, direction)) of every time step, streamed."""
    try:
        with _open(path) as file:
            events = ElementTree.iterparse(file, ("start", "end"))
            _, root = next(events)
            for event, element in events:
                if event == "end" and element.tag == "timestep":
                    time = _number(path, element, "time", "a timestep")
                    yield time, _vehicles(path, element, time)
                    root.clear()
    except (ElementTree.ParseError, EOFError, zlib.error) as error:
        valid = f"the file is truncated or not XML ({error}); give a complete SUMO FCD file"
        raise ConfigError("fcd file", str(path), valid) from None
    except OSError as error:
        reason = error.strerror or str(error)
        valid = f"it cannot be read ({reason}); give a SUMO FCD file"
        raise ConfigError("fcd file", str(path), valid) from None


class _Columns:
    """Columns of one direction: a vehicle keeps its column; a new one gets the lowest free one."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, int, float]] = []
        self._last_active: list[int] = []
        self._column: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._last_active)

    def add_row(self, row: int, positions: dict[str, float]) -> None:
        self._column = {v: c for v, c in self._column.items() if v in positions}
        for vehicle, position in positions.items():
            if vehicle not in self._column:
                self._column[vehicle] = self._lowest_free(row)
            column = self._column[vehicle]
            self._last_active[column] = row
            self.entries.append((row, column, position))

    def _lowest_free(self, row: int) -> int:
        for column, last in enumerate(self._last_active):
            if last < row - 1 and column not in self._column.values():
                return column
        self._last_active.append(row)
        return len(self._last_active) - 1


def _check_step(path: Path, times: list[float]) -> None:
    step = times[1] - times[0]
    if step <= 0:
        valid = f"give a time after {times[0]:g} s"
        raise ConfigError(f"{path}: time of timestep 2", times[1], valid)
    if abs(times[-1] - times[-2] - step) > _TIME_TOLERANCE:
        valid = f"give regular timesteps without gaps: {times[-2] + step:g} s here"
        raise ConfigError(f"{path}: time of timestep {len(times)}", times[-1], valid)


def read_fcd(path: str | PathLike[str]) -> Trace:
    """Read SUMO floating-car data of a straight road along x, plain or gzipped, by streaming.

    Every time step is one row. A vehicle with angle 90 moves in direction +1, with angle 270 in
    direction -1 (within 1 degree). When a vehicle appears it takes the lowest column of its
    direction that has been inactive for at least one row, vehicles of one time step in the order of
    the file; it keeps the column until it disappears.

    Raises:
        ConfigError: the file cannot be read or is truncated, has fewer than two time steps or no
            vehicle at all, its times are irregular, an attribute (`time`, `id`, `x`, `angle`) is
            missing or not a number, or a vehicle's angle is neither 90 nor 270.
    """
    path = Path(path)
    sides = {1: _Columns(), -1: _Columns()}
    times: list[float] = []
    for row, (time, vehicles) in enumerate(_timesteps(path)):
        times.append(time)
        if row:
            _check_step(path, times)
        for direction, columns in sides.items():
            columns.add_row(row, {v: x for (v, side), x in vehicles.items() if side == direction})
    if len(times) < 2:
        raise ConfigError(f"{path}: number of timesteps", len(times), "give at least 2")
    forward, backward = sides[1], sides[-1]
    if not forward.entries and not backward.entries:
        raise ConfigError(f"{path}: number of vehicles", 0, "give a trace with at least one")
    position = np.zeros((len(times), len(forward) + len(backward)))
    active = np.zeros(position.shape, bool)
    for columns, offset in ((forward, 0), (backward, len(forward))):
        for row, column, x in columns.entries:
            position[row, offset + column] = x
            active[row, offset + column] = True
    direction = np.repeat([1, -1], [len(forward), len(backward)])
    return Trace(position, active, direction, (times[-1] - times[0]) / (len(times) - 1))
