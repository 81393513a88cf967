"""Alternation of partitioning and allocation, the published algorithm for robust partitioning.

Given bandwidths and frequencies, every device chooses its partitioning point (robust paper, problem
(29)). The paper relaxes the choice and solves it by the penalty convex-concave procedure (PCCP,
Algorithm 1): a sequence of convex problems (36), here each by a primal-dual interior-point method.
Algorithm 2 alternates this with the allocation of `allocators.robust`. Problem (29) also has a
closed form, `partition_exact`.

It reads, each on those before: `interior`, problem (36) of one device; `partition`, problem (29)
and Algorithm 1; `alternation`, Algorithm 2. All names are here, too.

Units: MHz, Mbit, GHz, s, J as in `allocators.robust`. Inside the convex problems the unit of time
is 10 ms, so that variances are of order one, as are penalties on them.

The methods follow S. Boyd and L. Vandenberghe, "Convex Optimization", section 11.7; S. Mehrotra,
SIAM J. Optim. 2, 1992 (predictor-corrector steps); T. Lipp and S. Boyd, Optim. Eng. 17, 2016
(PCCP).
"""

from allocators.pccp.alternation import (
    CONVERGED,
    ENERGY_TOLERANCE,
    INFEASIBLE_START,
    INFEASIBLE_STEP,
    MAX_OUTER_STEPS,
    STEP_LIMIT,
    Alternation,
    Step,
    algorithm2,
)
from allocators.pccp.interior import INTERIOR_STEPS, MIN_STD
from allocators.pccp.partition import (
    BINARY,
    MAX_ITERATIONS,
    PENALTY_GROWTH,
    PENALTY_MAX,
    PENALTY_START,
    SLACK_TOLERANCE,
    TIME_UNIT_S,
    TOLERANCE,
    Backend,
    Iterate,
    Partition,
    Partitioning,
    Start,
    convex_step,
    initial_iterate,
    partition_exact,
    partitioning,
    pccp,
    penalty_after,
    relax,
)

__all__ = [
    "BINARY",
    "CONVERGED",
    "ENERGY_TOLERANCE",
    "INFEASIBLE_START",
    "INFEASIBLE_STEP",
    "INTERIOR_STEPS",
    "MAX_ITERATIONS",
    "MAX_OUTER_STEPS",
    "MIN_STD",
    "PENALTY_GROWTH",
    "PENALTY_MAX",
    "PENALTY_START",
    "SLACK_TOLERANCE",
    "STEP_LIMIT",
    "TIME_UNIT_S",
    "TOLERANCE",
    "Alternation",
    "Backend",
    "Iterate",
    "Partition",
    "Partitioning",
    "Start",
    "Step",
    "algorithm2",
    "convex_step",
    "initial_iterate",
    "partition_exact",
    "partitioning",
    "pccp",
    "penalty_after",
    "relax",
]
