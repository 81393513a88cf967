"""Loaders of measured and simulated data."""

from jaxenv.data.sumo import Trace, read_fcd

__all__ = ["Trace", "read_fcd"]
