"""Adaptive DNN splitting between a device and an edge host, under mean-delay and outage limits.

In every slot a device has N new images to classify. It computes the network up to a splitting point
k, sends the features at a rate R and the host computes the rest. Two virtual queues count how much
the mean delay and the frequency of late batches have exceeded their limits so far.

The environment is a class in layers; each has a file, which uses those before it alone: `params`,
`costs` and `state`, what there is; `description` and `scenario`, sizes and leaves, built and
checked; `slots`, what a slot brings and a decision leads to; `simulation`, which runs hundreds of
long trajectories in one call; `environment`, an episode and what is seen. All public names but the
layers are here, too.

Source: "Energy-efficient cooperative inference via adaptive deep neural network splitting at the
edge", IEEE International Conference on Communications (ICC) 2023; equation numbers are the paper's.
"""

from jaxenv.splitting.costs import Costs, Outcome, Row, Slot, first_minimum, job, pick, rows
from jaxenv.splitting.description import MAC_COLUMNS, TRACE_COLUMNS
from jaxenv.splitting.environment import Splitting
from jaxenv.splitting.params import SplittingParams
from jaxenv.splitting.scenario import NETWORK, NETWORK_MACS
from jaxenv.splitting.simulation import Totals, simulated_metrics
from jaxenv.splitting.slots import BLOCK, LEAST_FADING, MOST_BELOW_ONE, count_below
from jaxenv.splitting.state import Context, Queues, SplittingState, updated

__all__ = [
    "BLOCK",
    "LEAST_FADING",
    "MAC_COLUMNS",
    "MOST_BELOW_ONE",
    "NETWORK",
    "NETWORK_MACS",
    "TRACE_COLUMNS",
    "Context",
    "Costs",
    "Outcome",
    "Queues",
    "Row",
    "Slot",
    "Splitting",
    "SplittingParams",
    "SplittingState",
    "Totals",
    "count_below",
    "first_minimum",
    "job",
    "pick",
    "rows",
    "simulated_metrics",
    "updated",
]
