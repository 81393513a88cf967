"""Alternation of partitioning and allocation, the published algorithm for robust partitioning.

Given bandwidths and frequencies, every device chooses its partitioning point (robust paper, problem
(29)). The paper relaxes the choice and solves it by the penalty convex-concave procedure (PCCP,
Algorithm 1): a sequence of convex problems (36), here each by a primal-dual interior-point method.
Algorithm 2 alternates this with the allocation of `allocators.robust`. Problem (29) also has a
closed form, `partition_exact`.

Units: MHz, Mbit, GHz, s, J as in `allocators.robust`. Inside the convex problems the unit of time
is 10 ms, so that variances are of order one, as are penalties on them.

The methods follow S. Boyd and L. Vandenberghe, "Convex Optimization", section 11.7; S. Mehrotra,
SIAM J. Optim. 2, 1992 (predictor-corrector steps); T. Lipp and S. Boyd, Optim. Eng. 17, 2016
(PCCP).
"""

import dataclasses
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from allocators import solvers

TIME_UNIT_S = 0.01
MIN_STD = 1e-6  # least standard deviation y of (33g), in units of 10 ms
PENALTY_START = 1e-3  # J per unit of constraint violation
PENALTY_GROWTH = 3.0
PENALTY_MAX = 10.0
TOLERANCE = 1e-3  # of the partition between two iterations, theta
SLACK_TOLERANCE = 1e-4
MAX_ITERATIONS = 50
INTERIOR_STEPS = 40
BINARY = 0.99  # a device is binary when its largest share is at least this


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["energy", "time", "variance", "deadline", "sigma", "available"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class Partitioning:
    """Problem (29): the partitioning of N devices at fixed bandwidths and frequencies.

    Attributes:
        energy: expected energy of each point, J, [N, M+1].
        time: mean inference time of each point, s, [N, M+1].
        variance: variance of that time, s^2, [N, M+1].
        deadline: s, [N].
        sigma: standard deviations of margin, sqrt((1 - eps) / eps), [N].
        available: points that can be chosen, bool [N, M+1]; a device without any is padding.
    """

    energy: jax.Array
    time: jax.Array
    variance: jax.Array
    deadline: jax.Array
    sigma: jax.Array
    available: jax.Array


class Iterate(NamedTuple):
    """Point of the convex problem (36) of every device, time in units of 10 ms.

    Attributes:
        x: shares of the points, [..., M+1].
        y: standard deviation of the time, [...].
        alpha: violation of `sum w x^2 <= y^2`, [...].
        beta: violation of `y^2 <= sum w x^2`, [...].
    """

    x: jax.Array
    y: jax.Array
    alpha: jax.Array
    beta: jax.Array
