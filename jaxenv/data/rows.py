"""Rows of a CSV file with required columns; what is wrong is named with its line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from jaxenv.dnn.csv_io import read_rows
from jaxenv.errors import ConfigError


def read_columns(
    path: Path, columns: Sequence[str], fold_case: bool = False
) -> list[tuple[int, dict[str, str | None]]]:
    """Every row of a CSV file that has those columns, and more at will, with its line number.

    With ``fold_case`` the file may write the ``columns``, given in capitals, in any case.

    Raises:
        ConfigError: the file cannot be read, lacks a column, has one twice, or has no rows.
    """
    try:
        header, rows = read_rows(path)
    except ValueError as error:
        raise ConfigError.of("CSV file", str(path), error) from None
    known = {column.upper() if fold_case else column: column for column in reversed(header)}
    if not set(columns) <= set(known):
        raise ConfigError(f"{path}: columns", header, f"give {', '.join(columns)}")
    if not rows:
        raise ConfigError(f"{path}: number of rows", 0, "give at least 1")
    return [(line, row | {name: row[known[name]] for name in columns}) for line, row in rows]


def finite(path: Path, line: int, column: str, text: str | None) -> float:
    """The number in a cell.

    Raises:
        ConfigError: it is no finite number.
    """
    try:
        value = float(text if text is not None else "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{path}: line {line}, {column}", text, "give a finite number")
    return value
