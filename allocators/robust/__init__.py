"""Robust partitioning: least expected energy under probabilistic deadlines.

N devices share an uplink of bandwidth B. Each runs the first m of M network blocks at a clock
frequency f, uploads the intermediate data over a bandwidth b, and an edge server runs the rest.
Inference times are random with known mean and variance; each deadline may be missed with
probability at most eps under every distribution with those moments, which is the deterministic
deadline (22) with the time left `T = D - tvm - sigma s`. This package holds the instance, and its
optimum for a fixed partition (problem (23)); `allocators.certificate` also chooses the partition.

It reads, each on those before: `instance`, the problem; `links`, one device at one point as a
function of its bandwidth; `prices`, bandwidth shared by a price; `optimum`, problem (23) and its
derivatives; `references`, what answers are held against. All names are here, too.

Everything takes one instance and is meant for `jax.vmap`; float32 and float64.

Units: bandwidths and `P` (received power over noise density) in MHz, rates in Mbit/s, data in Mbit,
frequencies in GHz, work in Gcycle, times in s, variances in s^2, powers in W, energies in J, prices
of bandwidth in J/MHz.

Source: "Robust DNN Partitioning and Resource Allocation Under Uncertain Inference Time", IEEE
Transactions on Mobile Computing, arXiv 2503.21476; equation and table numbers are its.
"""

from allocators.robust.instance import (
    GAIN_DB,
    MBIT_PER_MB,
    MODELS,
    TABLE_III,
    TABLE_IV,
    VM_CV,
    Calibration,
    Instance,
    Model,
    make_instance,
    only,
    snr_exponent,
)
from allocators.robust.links import (
    LN2,
    TINY,
    Curves,
    Links,
    bmin_table,
    curves,
    energy,
    feasible,
    links_of,
    log_slope,
    rate,
    take,
    take_rows,
)
from allocators.robust.optimum import (
    Allocation,
    Backend,
    Optimum,
    allocate,
    allocation,
    links_at,
    optimum_of,
    reported,
    value,
)
from allocators.robust.prices import (
    MAX_ITERATIONS,
    demand,
    equilibrium,
    first_guess,
    safeguarded,
    share_rest,
    tolerances,
)
from allocators.robust.references import (
    HEAVY_SHAPE,
    LAWS,
    MAX_PARTITIONS,
    PARTITIONS_AT_ONCE,
    SAMPLES_PER_CHUNK,
    Law,
    exhaustive,
    violation,
    worst_case,
)

__all__ = [
    "GAIN_DB",
    "HEAVY_SHAPE",
    "LAWS",
    "LN2",
    "MAX_ITERATIONS",
    "MAX_PARTITIONS",
    "MBIT_PER_MB",
    "MODELS",
    "PARTITIONS_AT_ONCE",
    "SAMPLES_PER_CHUNK",
    "TABLE_III",
    "TABLE_IV",
    "TINY",
    "VM_CV",
    "Allocation",
    "Backend",
    "Calibration",
    "Curves",
    "Instance",
    "Law",
    "Links",
    "Model",
    "Optimum",
    "allocate",
    "allocation",
    "bmin_table",
    "curves",
    "demand",
    "energy",
    "equilibrium",
    "exhaustive",
    "feasible",
    "first_guess",
    "links_at",
    "links_of",
    "log_slope",
    "make_instance",
    "only",
    "optimum_of",
    "rate",
    "reported",
    "safeguarded",
    "share_rest",
    "snr_exponent",
    "take",
    "take_rows",
    "tolerances",
    "value",
    "violation",
    "worst_case",
]
