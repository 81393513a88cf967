"""Settings of the robust partitioning figures, and what is expected of them.

The settings are the paper's where it gives them. Expected values were computed independently once,
at the seeds that the figures use; tuples follow the order of the settings they are about, and None
stands for infeasible.
"""

from __future__ import annotations

# ---- settings: those of the paper where it gives them -------------------------------------------

FIG09_DEVICES = (2, 5, 10, 20, 30)
FIG10 = {"alexnet": (10.0, 220.0), "resnet152": (30.0, 160.0)}  # MHz, ms
FIG10_STARTS = {"alexnet": (2, 6, 8), "resnet152": (0, 7, 8)}
FIG10_SEEDS = (0, 1, 2)
FIG12_MHZ = {"alexnet": 5.0, "resnet152": 15.0}
FIG12_DEADLINE_MS = {"alexnet": 200.0, "resnet152": 150.0}
FIG12_DEVICES = (2, 4, 6, 8, 10, 12)
SWEEP_MHZ = {"alexnet": 10.0, "resnet152": 30.0}
RISKS = (0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08)
RISK_SWEEP_MS = {"alexnet": 180.0, "resnet152": 120.0}
DEADLINES_MS = {
    "alexnet": (160.0, 180.0, 200.0, 220.0, 240.0, 260.0, 280.0),
    "resnet152": (120.0, 130.0, 140.0, 150.0, 160.0, 170.0, 180.0),
}
DEADLINE_SWEEP_RISK = {"alexnet": 0.02, "resnet152": 0.04}
IMPOSSIBLE_MS = {"alexnet": (160.0, 169.0), "resnet152": (120.0,)}
GAP_DEVICES = (2, 4, 8, 12, 20, 30)
GAP_SEEDS = (0, 1, 2)
GAP_SETTINGS = (
    ("alexnet", 180.0, 0.02),
    ("resnet152", 150.0, 0.02),
    ("resnet152", 160.0, 0.04),
)
DEADLINE_RANGE_MS = {"alexnet": (160.0, 280.0), "resnet152": (120.0, 180.0)}
VIOLATION_MS = {"alexnet": (180.0, 240.0), "resnet152": (150.0, 180.0)}
VIOLATION_RISKS = (0.02, 0.04, 0.06, 0.08)

# ---- expected values ----------------------------------------------------------------------------

ITERATIONS = {
    ("alexnet", "literal"): (3.0, 3.0, 3.0, 3.0, 3.0),
    ("alexnet", "calibrated"): (3.0, 3.0, 3.0, 3.0, 3.0),
    ("resnet152", "literal"): (5.6, 6.5, 6.6, 7.6, 6.9),
    ("resnet152", "calibrated"): (4.5, 4.5, 4.5, 4.5, 4.5),
}
# Lowest and highest excess over seeds 0 to 2 of every start; None: infeasible.
TRAJECTORIES: dict[tuple[str, str], tuple[tuple[float, float] | None, ...]] = {
    ("alexnet", "literal"): ((162, 169), None, (0, 0)),
    ("alexnet", "calibrated"): ((117, 121), (0, 0), (77, 94)),
    ("resnet152", "literal"): (None, (19, 26), (17, 20)),
    ("resnet152", "calibrated"): ((142, 143), (0, 0), (0, 0)),
}
# Energies, J, at N = 2, 6, 12.
FIG12_ENERGIES = {
    ("alexnet", "literal", 0.02): (0.0805, 0.4300, 1.5288),
    ("alexnet", "calibrated", 0.02): (0.0466, 0.3032, 0.9234),
    ("alexnet", "literal", 0.04): (0.0677, 0.3502, 1.1893),
    ("alexnet", "calibrated", 0.04): (0.0446, 0.2453, 0.7511),
    ("resnet152", "literal", 0.02): (0.0604, 0.3963, 1.0133),
    ("resnet152", "calibrated", 0.02): (0.0354, 0.2336, 0.8100),
    ("resnet152", "literal", 0.04): (0.0578, 0.3504, 0.8542),
    ("resnet152", "calibrated", 0.04): (0.0335, 0.2239, 0.7160),
}
# Excess of Algorithm 2, %, over FIG12_DEVICES at risk 0.02.
FIG12_EXCESS = {
    ("alexnet", "literal"): (5.3, 0.0, 0.0, 0.0, 0.0, 0.0),
    ("alexnet", "calibrated"): (9.9, 4.8, 0.0, 0.0, 0.0, 0.0),
    ("resnet152", "literal"): (34.0, 0.0, 5.3, 22.0, 24.0, 18.0),
    ("resnet152", "calibrated"): (82.0, 47.0, 0.0, 0.0, 2.0, 8.8),
}
# Energy of the worst case, J, and savings, %, by risk.
WORST_CASE_J = {
    ("alexnet", "literal"): 1.4175,
    ("alexnet", "calibrated"): 0.9595,
    ("resnet152", "literal"): 1.1459,
    ("resnet152", "calibrated"): 0.5695,
}
SAVINGS: dict[tuple[str, str], dict[float, float | None]] = {
    ("alexnet", "literal"): {0.02: 20.6, 0.04: 40.8, 0.06: 46.4, 0.08: 49.1},
    ("alexnet", "calibrated"): {0.02: 21.3, 0.04: 37.9, 0.06: 43.9, 0.08: 46.9},
    ("resnet152", "literal"): {0.02: None, 0.03: None, 0.04: 2.4, 0.06: 17.7, 0.08: 21.1},
    ("resnet152", "calibrated"): {0.02: -8.1, 0.03: -0.9, 0.04: 2.7, 0.06: 6.4, 0.08: 8.3},
}
# Energies, J, by deadline, ms.
FIG13_14_ENERGIES: dict[tuple[str, str], dict[float, float | None]] = {
    ("alexnet", "literal"): {160.0: None, 180.0: 1.1254, 280.0: 0.5021},
    ("alexnet", "calibrated"): {160.0: 0.9077, 180.0: 0.7547, 280.0: 0.3391},
    ("resnet152", "literal"): {120.0: 1.1187, 150.0: 0.6885, 180.0: 0.5099},
    ("resnet152", "calibrated"): {120.0: 0.5542, 150.0: 0.4429, 180.0: 0.3920},
}
# Held-out seeds, calibrated: savings by risk, and the change over all deadlines, %.
HELD_OUT_SAVINGS = {
    "alexnet": {0.02: 21.5, 0.08: 47.2},
    "resnet152": {0.02: -8.1, 0.04: 2.7, 0.08: 8.3},
}
HELD_OUT_CHANGE = {"alexnet": -62.8, "resnet152": -29.3}
# Total bandwidth, MHz, that seeds 0 to 19 need: lowest and highest.
REQUIRED_MHZ = {"alexnet": (12.1, 14.4), "resnet152": (28.6, 34.6)}
GAPS = {
    ("resnet152", "literal", 150.0): (3.07e-2, 3.67e-4, 1.35e-3, 5.45e-4, 2.21e-4, 5.28e-5),
    ("resnet152", "literal", 160.0): (1.74e-4, 1.80e-3, 1.38e-4, 5.13e-4, 1.72e-4, 4.21e-5),
    ("alexnet", "calibrated", 180.0): (2.63e-4, 8.32e-4, 1.51e-4, 5.79e-5, 3.50e-5, 4.23e-6),
}
# Probability that one part alone is late at a tight deadline, by risk.
LATE = {
    "gauss": (1.3e-12, 4.8e-7, 3.8e-5, 3.5e-4),
    "gamma": (3.4e-4, 2.7e-3, 7.0e-3, 1.24e-2),
    "heavygamma": (3.8e-3, 9.2e-3, 1.41e-2, 1.84e-2),
    "twopoint": (0.02, 0.04, 0.06, 0.08),
}
LOCAL_ENERGY_J = {"alexnet": 0.2305, "resnet152": 0.1346}
