"""Networks as chains of layers: FLOPs, output elements and parameters by arithmetic.

`profile_flax` and `to_flax` import Flax when they are first used.
"""

from typing import TYPE_CHECKING, Any

from jaxenv.dnn.csv_io import Times, profile_of, read_csv, read_times, write_csv
from jaxenv.dnn.layers import Network
from jaxenv.dnn.profiles import MacCounts, Profile, balanced, mac_counts, profile
from jaxenv.dnn.zoo import network, networks

if TYPE_CHECKING:
    from jaxenv.dnn.flax_profile import profile_flax, to_flax

__all__ = [
    "MacCounts",
    "Network",
    "Profile",
    "Times",
    "balanced",
    "mac_counts",
    "network",
    "networks",
    "profile",
    "profile_flax",
    "profile_of",
    "read_csv",
    "read_times",
    "to_flax",
    "write_csv",
]


def __getattr__(name: str) -> Any:
    """Load the functions that need Flax."""
    if name in ("profile_flax", "to_flax"):
        from jaxenv.dnn import flax_profile

        return getattr(flax_profile, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
