"""Ways of describing a splitting scenario: networks, boards of settings, measured slots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxenv import dnn
from jaxenv.data import measured
from jaxenv.dnn import csv_io
from jaxenv.errors import ConfigError
from jaxenv.splitting.params import PER_SPLIT

TRACE_COLUMNS = ("images [1]", measured.RATE, "fading [1]", "availability [1]")
MAC_COLUMNS = csv_io.MAC_COLUMNS


def network_leaves(network: Any, shape: Any, granularity: str) -> dict[str, np.ndarray]:
    """The per-point leaves of a network; the last layer's output is not sent."""
    times = None
    try:
        if isinstance(network, dnn.Profile):
            profile, kinds = network, None
        elif str(network).endswith(".csv"):
            profile, kinds = dnn.read_csv(network), _mac_columns(network)
            times = dnn.read_times(network)
        else:
            profile = dnn.profile(network, input_shape=tuple(shape), granularity=granularity)
            counts = dnn.mac_counts(network, tuple(shape), granularity)
            kinds = (counts.convolution, counts.convolution_per_output, counts.linear)
    except (ValueError, TypeError, OSError) as error:
        raise ConfigError.of("network", network, error) from None
    if profile.num_layers < 2:
        raise ConfigError("network", network, "give a network of at least 2 layers")
    if kinds is None:
        kinds = (profile.macs, np.zeros(profile.num_layers), np.zeros(profile.num_layers))
    if not np.allclose(kinds[0] + kinds[2], profile.macs, rtol=1e-6):
        valid = "give MACs by kind that add up to half the work in FLOP"
        raise ConfigError("network", network, valid)
    elements = np.array(profile.output_elements, np.float64)
    elements[-1] = 0
    kinds = (np.asarray(kind, np.float64) for kind in kinds)
    segment_s = -np.ones(len(elements)) if times is None else times.mean_s
    return dict(zip(PER_SPLIT, (*kinds, elements, segment_s), strict=True))


def _mac_columns(path: Any) -> tuple[np.ndarray, ...] | None:
    """MACs by kind from the further columns of a CSV profile; None where it has none."""
    quantities = {column.split(" [")[0] for column in MAC_COLUMNS}
    header, _ = csv_io.read_rows(Path(path))
    if quantities.isdisjoint(column.split("[")[0].strip() for column in header):
        return None
    series = measured.read_series(path, MAC_COLUMNS)
    if len(series) < len(MAC_COLUMNS):
        raise ValueError(f"columns {list(series)} are not enough; give {list(MAC_COLUMNS)}")
    return tuple(series[column] for column in MAC_COLUMNS)
