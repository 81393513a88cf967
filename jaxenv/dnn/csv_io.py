"""Profiles as CSV files with units in the header."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from jaxenv.dnn.profiles import MacCounts, Profile, profile

_COLUMNS = ("layer", "work [FLOP]", "output [element]", "parameters [count]")
MEAN, VARIANCE, COVARIANCE = "mean [s]", "variance [s^2]", "covariance with {} [s^2]"
MAC_COLUMNS = ("convolution [MAC]", "convolution per output [MAC]", "linear [MAC]")


@dataclass(frozen=True, eq=False)
class Times:
    """Measured times of the K layers of a profile; those of the input are 0.

    Attributes:
        mean_s: float64[K].
        covariance_s2: float64[K, K], symmetric; the variances are on its diagonal.
    """

    mean_s: np.ndarray
    covariance_s2: np.ndarray


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def write_csv(
    profile: Profile,
    path: str | PathLike[str],
    times: Times | None = None,
    macs: MacCounts | None = None,
) -> None:
    """Write a profile: one row per layer, columns `layer,work [FLOP],output [element],...`.

    Args:
        profile: of a network.
        path: of the file.
        times: adds the columns `mean [s]`, `variance [s^2]`, and for every layer but the input
            `covariance with LAYER [s^2]`.
        macs: adds the columns `MAC_COLUMNS`.
    """
    columns: dict[str, Sequence[float]] = dict(
        zip(_COLUMNS[1:], (profile.flops, profile.output_elements, profile.parameters), strict=True)
    )
    if macs is not None:
        kinds = (macs.convolution, macs.convolution_per_output, macs.linear)
        columns |= dict(zip(MAC_COLUMNS, kinds, strict=True))
    if times is not None:
        columns |= {MEAN: times.mean_s, VARIANCE: np.diag(times.covariance_s2)}
        named = zip(profile.names, times.covariance_s2.T, strict=True)
        columns |= {COVARIANCE.format(name): column for name, column in list(named)[1:]}
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([_COLUMNS[0], *columns])
        for name, *values in zip(profile.names, *columns.values(), strict=True):
            writer.writerow([name, *map(_number, values)])


def read_times(path: str | PathLike[str]) -> Times | None:
    """The measured times in a profile's CSV file; None where it has no column `mean [s]`.

    Without covariances layers are taken as uncorrelated.

    Raises:
        ValueError: as `read_csv`, a time that is no number, a negative mean, a missing variance, or
            a covariance that is not symmetric, larger than the variances allow or, of a layer with
            itself, not its variance.
    """
    path = Path(path)
    names = read_csv(path).names
    header, rows = read_rows(path)
    if MEAN not in header:
        other = [column for column in header if column.split("[")[0].strip() == "mean"]
        if other:
            raise ValueError(f"{path}: column {other[0]!r} is not valid; give {MEAN!r}")
        return None
    if VARIANCE not in header:
        raise ValueError(f"{path}: column {VARIANCE!r} is missing; give it beside {MEAN!r}")

    def column(name: str, least: float) -> np.ndarray:
        return np.array([_time(path, line, name, row[name], least) for line, row in rows])

    mean, variance = column(MEAN, 0.0), column(VARIANCE, 0.0)
    covariance = np.diag(variance)
    for index, name in enumerate(names[1:], start=1):
        if COVARIANCE.format(name) in header:
            covariance[:, index] = column(COVARIANCE.format(name), -math.inf)
    deviation = np.sqrt(variance)
    slack = 1e-9 * max(float(variance.max()), 0.0)
    own = np.diag(covariance)
    other = np.flatnonzero(~np.isclose(own, variance, rtol=1e-6, atol=slack))
    if other.size:
        index = int(other[0])
        where = f"{path}: line {rows[index][0]}, {COVARIANCE.format(names[index])}"
        valid = f"give the variance, {_number(variance[index])}"
        raise ValueError(f"{where}: {_number(own[index])} is not valid; {valid}")
    if not np.allclose(covariance, covariance.T, rtol=1e-6, atol=slack):
        raise ValueError(f"{path}: the covariances are not symmetric; give one number per pair")
    if (np.abs(covariance) > np.outer(deviation, deviation) * (1 + 1e-6) + slack).any():
        raise ValueError(f"{path}: a covariance is above what the variances allow; check the units")
    if mean[0] or covariance[0].any():
        raise ValueError(f"{path}: line {rows[0][0]}: the input takes time; give 0")
    return Times(mean, covariance)


def _time(path: Path, line: int, column: str, text: str | None, least: float) -> float:
    try:
        value = float(text if text is not None else "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < least:
        valid = "a finite number" + (" >= 0" if least == 0 else "")
        raise ValueError(f"{path}: line {line}, {column}: {text!r} is not valid; give {valid}")
    return value


def _check_header(path: Path, header: list[str]) -> None:
    if not header:
        raise ValueError(f"{path}: the file is empty; give the columns {', '.join(_COLUMNS)}")
    for column in _COLUMNS:
        if column in header:
            continue
        quantity = column.split(" [")[0]
        other = [given for given in header if given.split("[")[0].strip() == quantity]
        if other:
            raise ValueError(f"{path}: column {other[0]!r} is not valid; give {column!r}")
        raise ValueError(
            f"{path}: column {column!r} is missing; give the columns {', '.join(_COLUMNS)}"
        )


def _parse(path: Path, line: int, column: str, text: str | None) -> float:
    integer = column != "work [FLOP]"
    valid = "an integer >= 0" if integer else "a finite number >= 0"
    try:
        value = float(text if text is not None else "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0 or (integer and value != int(value)):
        raise ValueError(f"{path}: line {line}, {column}: {text!r} is not valid; give {valid}")
    return value


def read_rows(
    path: Path, check_header: Callable[[list[str]], None] = lambda header: None
) -> tuple[list[str], list[tuple[int, dict[str, str | None]]]]:
    """The header of a CSV file, and every row with its line number; spaces around cells go.

    Blank rows go as well; a cell that a row lacks is None. ``check_header`` may refuse the header,
    before the rows.

    Raises:
        ValueError: the file cannot be read, has a column twice, or a row with too many cells.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            stripped = ([cell.strip() for cell in row] for row in reader)
            numbered = ((reader.line_num, row) for row in stripped if any(row))
            _, header = next(numbered, (0, []))
            check_header(header)
            repeated = [column for column in header if header.count(column) > 1]
            if repeated:
                raise ValueError(f"{path}: column {repeated[0]!r} is not valid twice; give it once")
            rows = [(line, _named(path, line, header, row)) for line, row in numbered]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"{path}: cannot be read ({reason}); give a CSV file") from None
    return header, rows


def _named(path: Path, line: int, header: list[str], row: list[str]) -> dict[str, str | None]:
    more = row[len(header) :]
    if more:
        raise ValueError(f"{path}: line {line}: {more} is not valid; there is no such column")
    return dict.fromkeys(header) | dict(zip(header, row, strict=False))


def read_csv(path: str | PathLike[str]) -> Profile:
    """Read a profile written by `write_csv` or by hand; its name is the file's stem.

    The columns may stand in any order; further columns are ignored. The first row is `input`, with
    no work and no parameters.

    Raises:
        ValueError: the file cannot be read, is empty, lacks a column or a row, states another unit,
            or holds a value that is not a finite number >= 0 (integers for elements and counts).
    """
    path = Path(path)
    _, rows = read_rows(path, partial(_check_header, path))
    if not rows:
        raise ValueError(f"{path}: no layers; give one row per layer, the first named 'input'")
    names = [row["layer"] or "" for _, row in rows]
    if names[0] != "input":
        where = f"{path}: line {rows[0][0]}, layer"
        raise ValueError(f"{where}: {names[0]!r} is not valid; give 'input' first")
    for (line, _), name in zip(rows, names, strict=True):
        if not name or names.count(name) > 1:
            raise ValueError(
                f"{path}: line {line}, layer: {name!r} is not valid; give a unique name"
            )
    work, output, parameters = (
        [_parse(path, line, column, row[column]) for line, row in rows] for column in _COLUMNS[1:]
    )
    for column, value in ((_COLUMNS[1], work[0]), (_COLUMNS[3], parameters[0])):
        if value:
            where = f"{path}: line {rows[0][0]}, {column}"
            raise ValueError(f"{where}: {_number(value)} is not valid; the input has 0")
    return Profile(
        name=path.stem,
        names=tuple(names),
        flops=np.array(work),
        output_elements=np.array(output, np.int64),
        parameters=np.array(parameters, np.int64),
    )


def profile_of(network: Any, **options: Any) -> Profile:
    """The profile that a scenario names.

    Args:
        network: a `Profile`; the path of a CSV file, which ends in ``.csv``; or what `profile`
            takes.
        **options: of `profile`.

    Raises:
        ValueError: as `read_csv` or `profile`.
    """
    if isinstance(network, Profile):
        return network
    return read_csv(network) if str(network).endswith(".csv") else profile(network, **options)
