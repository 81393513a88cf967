"""Inference services: what configurations and models they offer; the two published ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxenv.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Service:
    """What one inference service offers; C configurations, M models.

    accuracy: ``[C, M]``, in the metric of the service. size_factor: ``[C]``, of a request's data.
    inferences: ``[C]`` per request. model_mb, model_tflop: ``[M]`` memory, work of one inference.
    data_range_mb: of a request before its configuration. delay_set_s: the delays it may tolerate.
    """

    name: str
    accuracy: np.ndarray
    size_factor: np.ndarray
    inferences: np.ndarray
    model_mb: np.ndarray
    model_tflop: np.ndarray
    data_range_mb: Sequence[float]
    delay_set_s: Sequence[float]

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self)[1:]:
            value = getattr(self, field.name)
            try:
                array = np.asarray(value, np.float64)
            except (TypeError, ValueError):
                array = np.full((), np.nan)
            rank = 2 if field.name == "accuracy" else 1
            if array.ndim != rank or not array.size or not np.isfinite(array).all():
                dimensions = "a table [C, M]" if rank == 2 else "a list"
                valid = f"give {dimensions} of finite numbers"
                raise ConfigError(f"services.{self.name}.{field.name}", value, valid)
            object.__setattr__(self, field.name, array)
        configs, models = self.accuracy.shape
        sizes = {"size_factor": configs, "inferences": configs, "data_range_mb": 2}
        sizes |= {"model_mb": models, "model_tflop": models}
        for name, size in sizes.items():
            value = getattr(self, name)
            if value.shape != (size,):
                raise ConfigError(
                    f"services.{self.name}.{name}", value.tolist(), f"give {size} numbers"
                )

    @property
    def standard_accuracy(self) -> np.ndarray:
        """Accuracies from 0, the least, to 1, the highest of the service; eq (19).

        1 where all are equal: none is better than what is chosen.
        """
        low, high = self.accuracy.min(), self.accuracy.max()
        if low == high:
            return np.ones_like(self.accuracy)
        return (self.accuracy - low) / (high - low)


SCALES = np.array([1.0, 0.75, 0.5, 0.25])
QUALITIES = np.array([100.0, 90.0, 80.0, 70.0])
FRAME_RATES = np.array([30.0, 15.0, 10.0, 5.0])


def _combine(scale: Any, second: Any) -> np.ndarray:
    """A value of every configuration ``[16]``, image scale times the other setting."""
    return np.outer(scale, second).reshape(-1)


def detection() -> Service:
    """Object detection: image scale, JPEG quality; R-50-FPN fp16, R-50-C4, X-101-FPN, R-101-FPN.

    Table II of the paper. The paper prints accuracy only as a range and data size only as a plot;
    box APs are of the mmdetection model zoo, scaled so that the range is met.
    """
    ap = np.array([0.375, 0.356, 0.420, 0.394])
    by_scale, by_quality = np.array([1.0, 0.93, 0.78, 0.46]), np.array([1.0, 0.97, 0.92, 0.85])
    steepest = (1 - 0.097 / (ap.min() * by_quality.min())) / (1 - by_scale.min())
    steepness = 1 + (steepest - 1) * (100 - QUALITIES) / 30
    factor = by_quality * (1 - np.outer(1 - by_scale, steepness))
    return Service(
        name="detection",
        accuracy=factor.reshape(-1, 1) * ap,
        size_factor=_combine(SCALES**1.7, [1.0, 0.45, 0.32, 0.26]),
        inferences=np.ones(16),
        model_mb=[159.48, 129.31, 380.91, 232.13],
        model_tflop=[0.1747, 0.8193, 0.3688, 0.2380],
        data_range_mb=(1.0, 10.0),
        delay_set_s=(0.5, 1.0, 1.5, 2.0),
    )


def tracking() -> Service:
    """Tracking of a clip of 1 s: image scale, frame rate; ByteTrack, SORT, QDTrack.

    Table III of the paper; MOTA of mmtracking on MOT17, scaled to the paper's range.
    """
    mota = 0.85 * np.array([78.6, 62.0, 68.2]) / 78.6
    by_scale = np.array([1.0, 0.995, 0.985, 0.93])
    slowest = 0.6 / (mota.min() * by_scale.min())
    by_rate = 1 - (1 - slowest) * np.log(30 / FRAME_RATES) / math.log(6)
    return Service(
        name="tracking",
        accuracy=_combine(by_scale, by_rate)[:, None] * mota,
        size_factor=_combine(SCALES**1.7, (FRAME_RATES / 30) ** 0.8),
        inferences=np.tile(FRAME_RATES, 4),
        model_mb=[378.02, 157.93, 216.95],
        model_tflop=[0.3959, 0.1448, 0.1416],
        data_range_mb=(5.0, 20.0),
        delay_set_s=(1.0, 5.0, 10.0, 15.0, 20.0, 25.0),
    )
