"""Profiles as CSV files with units in the header."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from jaxenv.dnn.profiles import Profile

_COLUMNS = ("layer", "work [FLOP]", "output [element]", "parameters [count]")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def write_csv(profile: Profile, path: str | PathLike[str]) -> None:
    """Write a profile: one row per layer, columns `layer,work [FLOP],output [element],...`."""
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        rows = zip(
            profile.names,
            profile.flops,
            profile.output_elements,
            profile.parameters,
            strict=True,
        )
        for name, *values in rows:
            writer.writerow([name, *map(_number, values)])


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

    A cell that a row lacks is None. ``check_header`` may refuse the header, before the rows.

    Raises:
        ValueError: the file cannot be read, has a column twice, or a row with too many cells.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = [column.strip() for column in reader.fieldnames or ()]
            reader.fieldnames = header
            check_header(header)
            repeated = [column for column in header if header.count(column) > 1]
            if repeated:
                raise ValueError(f"{path}: column {repeated[0]!r} is not valid twice; give it once")
            rows = [(reader.line_num, _stripped(path, reader.line_num, row)) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"{path}: cannot be read ({reason}); give a CSV file") from None
    return header, rows


def _stripped(path: Path, line: int, row: dict[str | None, Any]) -> dict[str, str | None]:
    if None in row:
        raise ValueError(f"{path}: line {line}: {row[None]} is not valid; there is no such column")
    return {name: text and text.strip() for name, text in row.items()}


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
        raise ValueError(f"{path}: line 2, layer: {names[0]!r} is not valid; give 'input' first")
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
            raise ValueError(
                f"{path}: line 2, {column}: {_number(value)} is not valid; the input has 0"
            )
    return Profile(
        name=path.stem,
        names=tuple(names),
        flops=np.array(work),
        output_elements=np.array(output, np.int64),
        parameters=np.array(parameters, np.int64),
    )
