"""Measurements as CSV files: series with units in the header, and lists of settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from jaxenv.data.rows import finite
from jaxenv.dnn.csv_io import read_rows
from jaxenv.errors import ConfigError

RATE = "rate [bit/s]"
BANDWIDTH = "bandwidth [Hz]"


def read_setting(name: str, path: Any, reader: Callable[..., Any], *arguments: Any) -> Any:
    """What ``reader`` makes of the file that the setting ``name`` is the path of.

    Raises:
        ConfigError: it is no path, or the reader refuses the file; the line names the setting.
    """
    if not isinstance(path, (str, PathLike)):
        raise ConfigError(name, path, "give the path of a CSV file")
    try:
        return reader(path, *arguments)
    except ValueError as error:
        raise ConfigError.of(name, str(path), error) from None


def read_rates(name: str, path: Any, others: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The column `RATE` and all ``others`` of the file that the setting ``name`` is the path of.

    Raises:
        ConfigError: as `read_setting`; a column is missing, or a value is not positive.
    """
    columns = (RATE, *others)
    series = read_setting(name, path, read_series, columns)
    for column in columns:
        if column not in series:
            raise ConfigError(name, str(path), f"it lacks the column {column!r}")
        if (series[column] <= 0).any():
            valid = f"{column}: give positive numbers, not {series[column].min():g}"
            raise ConfigError(name, str(path), valid)
    return series


def _rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str | None]]]]:
    """`read_rows` of a file that has some."""
    header, rows = read_rows(path)
    if not rows:
        raise ValueError(f"{path}: no rows; give a header and at least one row")
    return header, rows


def read_series(path: str | PathLike[str], columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Those of ``columns`` that a CSV file has, each float64 ``[rows]``.

    Columns may stand in any order; further ones are ignored.

    Raises:
        ValueError: the file cannot be read, has no rows, has none of the columns, states another
            unit for one of them, or holds a value that is not a finite number.
    """
    path = Path(path)
    header, rows = _rows(path)
    for column in columns:
        quantity = column.split(" [")[0]
        other = [x for x in header if x.split("[")[0].strip() == quantity and x not in columns]
        if other:
            raise ValueError(f"{path}: column {other[0]!r} is not valid; give {column!r}")
    known = [column for column in columns if column in header]
    if not known:
        raise ValueError(f"{path}: columns {header} are not valid; give some of {list(columns)}")
    return {
        column: np.array([finite(path, line, column, row[column]) for line, row in rows])
        for column in known
    }


def read_settings(path: str | PathLike[str], known: Sequence[str]) -> Mapping[str, float]:
    """Settings of a CSV file with the columns ``setting`` and ``value``, one setting per row.

    Raises:
        ValueError: the file cannot be read, lacks a column, or a row is no number, repeats a
            setting or names none of ``known``.
    """
    path = Path(path)
    header, rows = _rows(path)
    if not {"setting", "value"} <= set(header):
        raise ValueError(f"{path}: columns {header} are not valid; give setting and value")
    found: dict[str, float] = {}
    for line, row in rows:
        name = row["setting"] or ""
        if name not in known or name in found:
            valid = f"give one of {', '.join(known)}, each once"
            raise ValueError(f"{path}: line {line}, setting: {name!r} is not valid; {valid}")
        found[name] = finite(path, line, name, row["value"])
    return found
