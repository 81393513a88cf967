"""Loaders of measured and simulated data."""

from jaxenv.data.accuracy import Accuracy, read_accuracy, write_accuracy
from jaxenv.data.eua import draw_sites, read_sites, read_users, users_per_site
from jaxenv.data.sumo import Route, Trace, read_fcd

__all__ = [
    "Accuracy",
    "Route",
    "Trace",
    "draw_sites",
    "read_accuracy",
    "read_fcd",
    "read_sites",
    "read_users",
    "users_per_site",
    "write_accuracy",
]
