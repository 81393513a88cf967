"""Loaders of measured and simulated data."""

from jaxenv.data.accuracy import Accuracy, read_accuracy, write_accuracy
from jaxenv.data.eua import draw_sites, read_sites
from jaxenv.data.sumo import Trace, read_fcd

__all__ = [
    "Accuracy",
    "Trace",
    "draw_sites",
    "read_accuracy",
    "read_fcd",
    "read_sites",
    "write_accuracy",
]
