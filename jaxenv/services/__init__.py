"""Joint configuration, model selection and deployment for heterogeneous inference services.

Sixteen edge servers offer services such as object detection and object tracking. In every slot each
agent holds one request of its service and chooses a configuration, a DNN model and the server that
runs it. Requests are admitted one after another; one that would be late or does not fit into memory
is rejected. All agents share one reward: accuracy minus delay minus cost. Nothing is carried from
one slot to the next.

Each file uses those before it alone: `catalogue`, what services offer; `network`, servers and
links; `params` and `state`, what there is, and how requests are admitted; `description` and
`scenario`, sizes and leaves, built and checked; `environment`, a slot, an episode and what is seen.
All public names but the layer `Scenario` are here, too.

Source: "Joint DNN Model Deployment, Selection, and Configuration for Heterogeneous Inference
Services Toward Edge Intelligence", IEEE Transactions on Mobile Computing, 2025; equation numbers
are the paper's.
"""

from jaxenv.services.catalogue import FRAME_RATES, QUALITIES, SCALES, Service, detection, tracking
from jaxenv.services.environment import Services
from jaxenv.services.network import (
    COMPUTE_TFLOPS,
    LINK_MBPS,
    MEMORY_GB,
    REACH_M,
    SITES_M,
    UPLINK_MBPS,
    Network,
    default_network,
    draw_network,
)
from jaxenv.services.params import ServicesParams
from jaxenv.services.scenario import PRESETS, REFUSED
from jaxenv.services.state import Accepted, Demand, Outcome, ServicesState, Slot

__all__ = [
    "COMPUTE_TFLOPS",
    "FRAME_RATES",
    "LINK_MBPS",
    "MEMORY_GB",
    "PRESETS",
    "QUALITIES",
    "REACH_M",
    "REFUSED",
    "SCALES",
    "SITES_M",
    "UPLINK_MBPS",
    "Accepted",
    "Demand",
    "Network",
    "Outcome",
    "Service",
    "Services",
    "ServicesParams",
    "ServicesState",
    "Slot",
    "default_network",
    "detection",
    "draw_network",
    "tracking",
]
