"""Networks as chains of layers: FLOPs, output elements and parameters by arithmetic."""

from jaxenv.dnn.layers import Network
from jaxenv.dnn.profiles import MacCounts, Profile, balanced, mac_counts, profile
from jaxenv.dnn.zoo import network, networks

__all__ = [
    "MacCounts",
    "Network",
    "Profile",
    "balanced",
    "mac_counts",
    "network",
    "networks",
    "profile",
]
