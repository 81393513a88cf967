"""Accuracy of inference services as CSV files: one row per configuration and model.

A configuration is the scale of the image and a second setting: JPEG quality of a detection, frames
per second of a tracking service.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from itertools import product
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxenv.data.rows import finite, read_columns
from jaxenv.errors import ConfigError

_COLUMNS = ("service", "scale", "second", "model", "value")


class Accuracy(NamedTuple):
    """Accuracy of a service.

    Attributes:
        scales: scales of the image, descending.
        seconds: second settings, descending.
        models: names of the models.
        values: float64 ``[C, M]``, configurations by models; configuration ``len(seconds) i + j``
            is scale i with second setting j.
    """

    scales: tuple[float, ...]
    seconds: tuple[float, ...]
    models: tuple[str, ...]
    values: np.ndarray


def read_accuracy(path: str | PathLike[str]) -> dict[str, Accuracy]:
    """Accuracies by service of a CSV file: `service`, `scale`, `second`, `model`, `value`.

    Rows and columns may stand in any order and further columns are ignored; services and models are
    in order of first appearance. Each service has every scale with every second setting and model.

    Raises:
        ConfigError: the file cannot be read, lacks a column, has no rows, a cell is empty or no
            number, or a combination is given twice or is missing.
    """
    path = Path(path)
    found: dict[str, dict[tuple[float, float, str], float]] = {}
    for line, row in read_columns(path, _COLUMNS):
        service, model = (_name(path, line, name, row[name]) for name in ("service", "model"))
        scale, second, value = (
            finite(path, line, name, row[name]) for name in ("scale", "second", "value")
        )
        values = found.setdefault(service, {})
        if (scale, second, model) in values:
            valid = "this service, scale, second and model were given before; give each once"
            raise ConfigError(f"{path}: line {line}, value", value, valid)
        values[scale, second, model] = value
    return {service: _table(path, service, values) for service, values in found.items()}


def _name(path: Path, line: int, column: str, text: str | None) -> str:
    if not text:
        raise ConfigError(f"{path}: line {line}, {column}", text, "give a name")
    return text


def _table(path: Path, service: str, found: dict[tuple[float, float, str], float]) -> Accuracy:
    scales, seconds, models = (dict.fromkeys(names) for names in zip(*found, strict=True))
    scales, seconds = (tuple(sorted(numbers, reverse=True)) for numbers in (scales, seconds))
    keys = product(scales, seconds, models)
    values = np.array([_value(path, service, found, key) for key in keys])
    return Accuracy(scales, seconds, tuple(models), values.reshape(-1, len(models)))


def _value(
    path: Path,
    service: str,
    found: dict[tuple[float, float, str], float],
    key: tuple[float, float, str],
) -> float:
    if key not in found:
        scale, second, model = key
        where = f"service {service!r}, scale {scale:g}, second {second:g}, model {model!r}"
        raise ConfigError(f"{path}: {where}: value", None, "give a row for every combination")
    return found[key]


def write_accuracy(path: str | PathLike[str], services: Mapping[str, Accuracy]) -> None:
    """Write accuracies by service as `read_accuracy` reads them, every number exactly.

    Raises:
        ConfigError: values are not ``[C, M]``; nothing is written.
    """
    rows: list[tuple[str, float, float, str, float]] = []
    for service, (scales, seconds, models, values) in services.items():
        shape = len(scales) * len(seconds), len(models)
        if np.shape(values) != shape:
            field = f"service {service!r}: shape of values"
            raise ConfigError(field, np.shape(values), f"give {shape}")
        keys = product(scales, seconds, models)
        flat = np.ravel(values).tolist()
        rows += [(service, *key, value) for key, value in zip(keys, flat, strict=True)]
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([_COLUMNS, *rows])
