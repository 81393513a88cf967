"""Collaborative DNN inference over roadside units: the system of SAFE.

Source: R. Zhou, Z. Han, Y. Zeng, Z. Zhou, L. Wu and W. Wang, "SAFE: Intelligent Online Scheduling
for Collaborative DNN Inference in Vehicular Network", conference paper; record at
https://openreview.net/forum?id=6lg5I3uiHD. Equation numbers in this package are that paper's.

Vehicles on a road submit inference tasks. A controller chooses for each task a helper and a
deliverer roadside unit (RSU) and two partition layers: the vehicle computes the first part and
uploads to the helper, the helper computes the second part and passes the data by wire to the
deliverer, which computes the third part. Bandwidth and compute of an RSU are shared by the KKT rule
of eqs (7) and (9). One environment step is one task's decision; between decisions everything is
exact in continuous time.

The environment is a class in layers; each has a file, which uses those before it alone: `params`
and `state`, what there is; `description` and `scenario`, sizes and leaves, built and checked;
`road`, where vehicles are; `shares`, at which rate tasks advance; `events`, what happens in which
order; `decisions`, what an action starts; `environment`, an episode and what is seen. All public
names but the layers are here, too.
"""

from jaxenv.vehicular.environment import Vehicular
from jaxenv.vehicular.params import GIGA, MEGA, NETWORKS, VehicularParams
from jaxenv.vehicular.road import stable_order
from jaxenv.vehicular.state import (
    DELIVERER,
    DELIVERY_FAILURE,
    ENDED,
    HELPER,
    IDLE,
    LEFT_ROAD,
    LOCAL,
    NONE,
    SUCCESS,
    UNFINISHED,
    UPLOAD,
    UPLOAD_FAILURE,
    WIRED,
    Draws,
    Progress,
    Tasks,
    Totals,
    VehicularState,
    next_phase,
    task_costs,
)

__all__ = [
    "DELIVERER",
    "DELIVERY_FAILURE",
    "ENDED",
    "GIGA",
    "HELPER",
    "IDLE",
    "LEFT_ROAD",
    "LOCAL",
    "MEGA",
    "NETWORKS",
    "NONE",
    "SUCCESS",
    "UNFINISHED",
    "UPLOAD",
    "UPLOAD_FAILURE",
    "WIRED",
    "Draws",
    "Progress",
    "Tasks",
    "Totals",
    "Vehicular",
    "VehicularParams",
    "VehicularState",
    "next_phase",
    "stable_order",
    "task_costs",
]
