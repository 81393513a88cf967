"""Mobility traces from SUMO floating-car data (`--fcd-output`), as XML or CSV, plain or gzipped.

Files are streamed: beside the trace itself (9 bytes per row and column) reading takes some 20 bytes
per record.

Format: https://sumo.dlr.de/docs/Simulation/Output/FCDOutput.html
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import os
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import IO, Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from jaxenv.data import measured
from jaxenv.errors import ConfigError

ROUTE_COLUMNS = ("x [m]", "y [m]")
_ANGLE_TOLERANCE_DEG = 1.0
_ROUTE_TOLERANCE_DEG = 60.0
_TIME_TOLERANCE = 1e-6
_LEAST_MOVED_M = 10.0
_SPEED_RATIO = 2.0
_CSV_COLUMNS = {"time": "timestep_time"} | {
    name: f"vehicle_{name}" for name in ("id", "x", "y", "angle", "speed")
}


@dataclass(frozen=True, eq=False)
class Trace:
    """Vehicles on one road, one column each, one row per time step.

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


class _Step(NamedTuple):
    """The records of one time step, as they stand in the file; None: it lacks the cell."""

    time: float
    ids: list[str]
    cells: dict[str, list[str | None]]


# ---- files -------------------------------------------------------------------------------------


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if compressed else path.open("rb")


def _steps(path: Path, names: Sequence[str]) -> Iterator[_Step]:
    """Every time step with the cells ``names`` of its vehicles, streamed."""
    by_suffix = _csv_steps if ".csv" in path.suffixes else _xml_steps
    try:
        yield from by_suffix(path, names)
    except (ElementTree.ParseError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        valid = f"the file is truncated or not XML ({error}); give a complete SUMO FCD file"
        raise ConfigError("fcd file", str(path), valid) from None
    except OSError as error:
        reason = error.strerror or str(error)
        valid = f"it cannot be read ({reason}); give a SUMO FCD file"
        raise ConfigError("fcd file", str(path), valid) from None


def _xml_steps(path: Path, names: Sequence[str]) -> Iterator[_Step]:
    with _open(path) as file:
        events = ElementTree.iterparse(file, ("start", "end"))
        _, root = next(events)
        for event, element in events:
            if event == "end" and element.tag == "timestep":
                time = _time(f"{path}: a timestep: time", element.get("time"), "attribute")
                vehicles = list(element.iter("vehicle"))
                cells = {name: [vehicle.get(name) for vehicle in vehicles] for name in names}
                yield _Step(time, [vehicle.get("id") for vehicle in vehicles], cells)
                root.clear()


def _csv_steps(path: Path, names: Sequence[str]) -> Iterator[_Step]:
    """Rows of one time after another; steps without a vehicle, which SUMO leaves out, are empty."""
    slot_s = _least_step_s(path)
    previous = None
    for time, ids, rows in _csv_groups(path, ("id", *names)):
        if previous is not None and slot_s > 0:
            missing = round((time - previous) / slot_s) - 1
            for index in range(missing):
                yield _Step(previous + (index + 1) * slot_s, [], {name: [] for name in names})
        previous = time
        yield _Step(time, ids, dict(zip(names, rows, strict=True)))


def _least_step_s(path: Path) -> float:
    """The least time between two steps of a CSV file; 0 if it has not two."""
    least, previous = math.inf, None
    for time, *_ in _csv_groups(path, ()):
        if previous is not None:
            if time <= previous:
                valid = f"give rows in the order of time, after {previous:g} s"
                raise ConfigError(f"{path}: time", time, valid)
            least = min(least, time - previous)
        previous = time
    return least if math.isfinite(least) else 0.0


def _csv_groups(
    path: Path, names: Sequence[str]
) -> Iterator[tuple[float, list[str], list[list[str | None]]]]:
    """``(time, first cells, other cells)`` of consecutive rows with one time.

    A row without a vehicle makes a time known, no more; blank rows are left out.
    """
    with io.TextIOWrapper(_open(path), encoding="utf-8-sig", newline="") as file:
        filled = ((skipped, line) for skipped, line in enumerate(file) if line.strip())
        skipped, header = next(filled, (0, ""))
        reader = csv.reader(chain([header], file), delimiter=";" if ";" in header else ",")
        columns = [name.strip() for name in next(reader)] or [""]
        places = [_csv_place(path, columns, name) for name in ("time", *names)]
        text, group = None, []
        for row in reader:
            if not any(map(str.strip, row)):
                continue
            if len(row) != len(columns):
                where = f"{path}: line {skipped + reader.line_num}: number of cells"
                raise ConfigError(where, len(row), f"the file is truncated; give {len(columns)}")
            if row[places[0]] != text:
                if text is not None:
                    yield _group(path, text, group, len(names))
                text, group = row[places[0]], []
            group.append([None if place is None else row[place] for place in places[1:]])
        if text is not None:
            yield _group(path, text, group, len(names))


def _group(
    path: Path, text: str, rows: list[list[str | None]], count: int
) -> tuple[float, list[str], list[list[str | None]]]:
    time = _time(f"{path}: time", text, "column")
    there = [row for row in rows if row and row[0]]
    cells = [[cell or None for cell in column] for column in zip(*there, strict=True)]
    cells = cells or [[] for _ in range(count)]
    return time, (cells[0] if cells else []), cells[1:]


def _csv_place(path: Path, columns: list[str], name: str) -> int | None:
    """Where a column is, named as SUMO does, or without its prefix; speed may be absent."""
    for given in (_CSV_COLUMNS[name], name):
        if given in columns:
            return columns.index(given)
    if name == "speed":
        return None
    valid = f"give the column {_CSV_COLUMNS[name]} or {name}"
    raise ConfigError(f"{path}: columns", columns, valid)


def _time(where: str, text: str | None, kind: str) -> float:
    if text is None:
        raise ConfigError(where, None, f"give the {kind} time")
    value = _float(text)
    if not math.isfinite(value):
        raise ConfigError(where, text, "give a finite number")
    return value


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _numbers(path: Path, step: _Step, name: str) -> np.ndarray:
    """The cells ``name`` of a time step, float64."""
    texts = step.cells[name]
    try:
        values = np.array([float(text) for text in texts])
        if np.isfinite(values).all():
            return values
    except (TypeError, ValueError):
        pass
    for vehicle, text in zip(step.ids, texts, strict=True):
        where = f"{path}: vehicle {vehicle!r} at time {step.time:g}: {name}"
        if text is None:
            raise ConfigError(where, None, f"give the attribute {name}")
        if not math.isfinite(_float(text)):
            raise ConfigError(where, text, "give a finite number")
    raise AssertionError(name)


def _check_ids(path: Path, step: _Step) -> None:
    if None in step.ids:
        where = f"{path}: a vehicle at time {step.time:g}: id"
        raise ConfigError(where, None, "give the attribute id")
    if len(set(step.ids)) < len(step.ids):
        twice = next(x for i, x in enumerate(step.ids) if x in step.ids[:i])
        where = f"{path}: vehicle {twice!r} at time {step.time:g}: id"
        raise ConfigError(where, twice, "give each vehicle once per timestep")


# ---- roads -------------------------------------------------------------------------------------


def _along_x(path: Path, step: _Step) -> tuple[np.ndarray, np.ndarray]:
    """``(position_m, direction)`` on a straight road along x."""
    angle = _numbers(path, step, "angle")
    forward = np.abs(angle - 90.0) <= _ANGLE_TOLERANCE_DEG
    backward = np.abs(angle - 270.0) <= _ANGLE_TOLERANCE_DEG
    wrong = ~(forward | backward)
    if wrong.any():
        first = int(np.argmax(wrong))
        where = f"{path}: vehicle {step.ids[first]!r} at time {step.time:g}: angle"
        valid = "give a road along x, 90 or 270 degrees, or the route of another road"
        raise ConfigError(where, float(angle[first]), valid)
    return _numbers(path, step, "x"), np.where(forward, 1, -1)


class Route:
    """A road as the polyline through ``points`` ``[n, 2]``, x and y in m.

    Raises:
        ConfigError: fewer than two points, numbers that are not finite, or a point twice in a row.
    """

    def __init__(self, points: Any) -> None:
        try:
            array = np.asarray(points, np.float64)
        except (TypeError, ValueError):
            array = np.zeros(0)
        if array.ndim != 2 or array.shape[1] != 2 or len(array) < 2 or not np.isfinite(array).all():
            raise ConfigError("route", points, "give at least two points [x, y] in m")
        self._start, step = array[:-1], np.diff(array, axis=0)
        self._length = np.hypot(*step.T)
        if (self._length == 0).any():
            twice = array[int(np.argmin(self._length))].tolist()
            raise ConfigError("route", twice, "give each point once in a row")
        self._unit = step / self._length[:, None]
        self._before = np.cumsum(self._length) - self._length
        self._heading_deg = np.degrees(np.arctan2(*self._unit.T))

    def project(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of points ``[n]``: metres along the route, distance from it, heading of the route there.

        Headings are in degrees, clockwise from north (+y), as SUMO's angles are.
        """
        offset = np.stack([x, y], axis=-1)[:, None] - self._start
        along = np.clip(np.sum(offset * self._unit, axis=-1), 0, self._length)
        away = np.hypot(*np.moveaxis(offset - along[..., None] * self._unit, -1, 0))
        nearest = np.argmin(away, axis=1)
        row = np.arange(len(nearest))
        position = self._before[nearest] + along[row, nearest]
        return position, away[row, nearest], self._heading_deg[nearest]


def read_route(route: Any) -> Route:
    """A `Route` of points, or of the path of a CSV file with the columns `ROUTE_COLUMNS`."""
    if isinstance(route, Route):
        return route
    if isinstance(route, (str, os.PathLike)):
        try:
            series = measured.read_series(route, ROUTE_COLUMNS)
        except ValueError as error:
            raise ConfigError("route", str(route), str(error)) from None
        if len(series) < 2:
            raise ConfigError("route", str(route), f"give the columns {', '.join(ROUTE_COLUMNS)}")
        route = np.stack([series[name] for name in ROUTE_COLUMNS], axis=1)
    return Route(route)


def _along(route: Route, width_m: float) -> Callable[[Path, _Step], tuple[np.ndarray, np.ndarray]]:
    """Like `_along_x` on a route; direction 0: on another road."""

    def place(path: Path, step: _Step) -> tuple[np.ndarray, np.ndarray]:
        x, y, angle = (_numbers(path, step, name) for name in ("x", "y", "angle"))
        position, away, heading = route.project(x, y)
        turned = np.abs((angle - heading + 180.0) % 360.0 - 180.0)
        direction = np.where(turned <= _ROUTE_TOLERANCE_DEG, 1, 0)
        direction = np.where(turned >= 180.0 - _ROUTE_TOLERANCE_DEG, -1, direction)
        return position, np.where(away <= width_m, direction, 0)

    return place


# ---- columns -----------------------------------------------------------------------------------


class _Columns:
    """Columns of one direction: a vehicle keeps its column; a new one gets the lowest free one."""

    def __init__(self) -> None:
        self.columns, self.positions = array("i"), array("d")
        self.counts = array("i")
        self._last_active: list[int] = []
        self._column: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._last_active)

    def add_row(self, row: int, ids: list[str], positions: np.ndarray) -> None:
        there = set(ids)
        kept = {v: c for v, c in self._column.items() if v in there}
        arrived = [vehicle for vehicle in ids if vehicle not in kept]
        if arrived:
            taken = set(kept.values())
            free = (
                column
                for column, last in enumerate(self._last_active)
                if last < row - 1 and column not in taken
            )
            for vehicle in arrived:
                column = next(free, len(self._last_active))
                if column == len(self._last_active):
                    self._last_active.append(row)
                kept[vehicle] = column
        self._column = kept
        columns = [kept[vehicle] for vehicle in ids]
        for column in columns:
            self._last_active[column] = row
        self.columns.extend(columns)
        self.positions.frombytes(np.ascontiguousarray(positions, np.float64).tobytes())
        self.counts.append(len(columns))

    def fill(self, position: np.ndarray, active: np.ndarray) -> None:
        """Writes positions ``[rows, columns]`` and where they are known."""
        row = np.repeat(np.arange(len(self.counts), dtype=np.int32), self.counts)
        column = np.frombuffer(self.columns, np.int32)
        position[row, column] = np.frombuffer(self.positions)
        active[row, column] = True


def _check_step(path: Path, times: array) -> None:
    step = times[1] - times[0]
    if step <= 0:
        valid = f"give a time after {times[0]:g} s"
        raise ConfigError(f"{path}: time of timestep 2", times[1], valid)
    if abs(times[-1] - times[-2] - step) > _TIME_TOLERANCE:
        valid = f"give regular timesteps without gaps: {times[-2] + step:g} s here"
        raise ConfigError(f"{path}: time of timestep {len(times)}", times[-1], valid)


class _Odometer:
    """Metres moved against metres that the speeds of the file say, both summed over vehicles."""

    def __init__(self) -> None:
        self.moved_m = self.driven_m = 0.0
        self._position: dict[str, float] = {}

    def add_row(
        self, step: _Step, position: np.ndarray, on_road: np.ndarray, elapsed_s: float
    ) -> None:
        before, self._position = self._position, {}
        rows = zip(step.ids, step.cells["speed"], position.tolist(), on_road, strict=True)
        for vehicle, speed, place, there in rows:
            if not there or speed is None:
                continue
            self._position[vehicle] = place
            if vehicle in before:
                self.moved_m += abs(place - before[vehicle])
                self.driven_m += abs(_float(speed)) * elapsed_s

    def check(self, path: Path) -> None:
        """Refuses positions, speeds and times that cannot be in m, m/s and s."""
        if max(self.moved_m, self.driven_m) < _LEAST_MOVED_M:
            return
        low, high = self.driven_m / _SPEED_RATIO, self.driven_m * _SPEED_RATIO
        if not low <= self.moved_m <= high:
            valid = (
                f"at the speeds of the file it would be {self.driven_m:g} m; give x and y in m "
                "(not degrees), speed in m/s and time in s"
            )
            raise ConfigError(f"{path}: metres driven", round(self.moved_m, 3), valid)


def read_fcd(path: str | PathLike[str], route: Any = None, width_m: float = 20.0) -> Trace:
    """Read SUMO floating-car data of one road by streaming.

    The file is CSV if its name says so (`.csv`, `.csv.gz`), with commas or semicolons and columns
    named as SUMO names them (`timestep_time`, `vehicle_id`, ...) or without the prefix; else XML.
    Every time step is one row; in a CSV file, where SUMO leaves out steps without vehicles, the
    gaps become rows without vehicles.

    Without ``route`` the road is straight along x: a vehicle with angle 90 moves in direction +1,
    with angle 270 in direction -1 (within 1 degree). With it a vehicle is at the point of the
    polyline nearest to it, in direction +1 or -1 by its angle (within 60 degrees), and on the road
    while it is within ``width_m``; vehicles on other roads and crossing ones are left out.

    When a vehicle appears it takes the lowest column of its direction that has been inactive for at
    least one row, vehicles of one time step in the order of the file; it keeps the column until it
    disappears.

    Args:
        path: of the file, plain or gzipped.
        route: points [x, y] in m, or the path of a CSV file with the columns `ROUTE_COLUMNS`.
        width_m: how far from the route vehicles are on it.

    Raises:
        ConfigError: the file cannot be read or is truncated, has fewer than two time steps or no
            vehicle at all on the road, its times are irregular, an attribute (`time`, `id`, `x`,
            `angle`; with a route `y`) is missing or not a number, a vehicle's angle is neither 90
            nor 270 (without a route), or the distances driven do not fit the speeds, where the
            file has them, within a factor of 2.
    """
    path = Path(path)
    place = _along_x if route is None else _along(read_route(route), width_m)
    names = ("x", "angle", "speed", *(("y",) if route is not None else ()))
    sides = {1: _Columns(), -1: _Columns()}
    times, odometer = array("d"), _Odometer()
    for row, step in enumerate(_steps(path, names)):
        times.append(step.time)
        if row:
            _check_step(path, times)
        _check_ids(path, step)
        position, direction = place(path, step)
        for side, columns in sides.items():
            chosen = direction == side
            ids = [v for v, there in zip(step.ids, chosen, strict=True) if there]
            columns.add_row(row, ids, position[chosen])
        elapsed_s = times[-1] - times[-2] if row else 0.0
        odometer.add_row(step, position, direction != 0, elapsed_s)
    if len(times) < 2:
        raise ConfigError(f"{path}: number of timesteps", len(times), "give at least 2")
    forward, backward = sides[1], sides[-1]
    if not len(forward) + len(backward):
        where = "" if route is None else f" within {width_m:g} m of the route"
        raise ConfigError(f"{path}: number of vehicles{where}", 0, "give a trace with at least one")
    odometer.check(path)
    position = np.zeros((len(times), len(forward) + len(backward)))
    active = np.zeros(position.shape, bool)
    forward.fill(position[:, : len(forward)], active[:, : len(forward)])
    backward.fill(position[:, len(forward) :], active[:, len(forward) :])
    direction = np.repeat([1, -1], [len(forward), len(backward)])
    return Trace(position, active, direction, (times[-1] - times[0]) / (len(times) - 1))
