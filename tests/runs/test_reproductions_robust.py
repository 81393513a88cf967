"""Figures of the robust system: single cells of their tables, verdicts, padding, plots."""

from __future__ import annotations

import math

import jax
import numpy as np
import pytest

from jaxenv.errors import ConfigError
from runs import reproductions
from runs.reproductions import FAILS, HOLDS, NOT_COMPARABLE, ONLY_CALIBRATED
from runs.reproductions import robust as system
from runs.reproductions.robust import claims as verdicts
from runs.reproductions.robust import expected, measuring, plots, scenarios
from runs.reproductions.robust.claims import convergence, energy, limits
from runs.solve import published_distances_m

CONFIG = {"scale": "smoke", "seed": 0, "num_seeds": None}
FIG12 = {"devices": 2, "seed": scenarios.SEEDS, "deadline_ms": 200.0, "risk": 0.02}


def fig12_cells(profile):
    return scenarios.grid(network="alexnet", profile=profile, bandwidth_mhz=5.0, **FIG12)


def test_names():
    names = [name.split("/")[1] for name in reproductions.selected("robust/all")]
    assert names == [*(f"fig{n:02d}" for n in range(9, 15)), "gap", "starts", "violation"]


def test_plan_of_a_scale():
    assert scenarios.plan_of(CONFIG).held_out == ()
    paper = scenarios.plan_of(CONFIG | {"scale": "paper"})
    assert paper.samples == 400_000 and paper.held_out == tuple(range(100, 110))
    with pytest.raises(ConfigError, match="^num_seeds: 2"):
        scenarios.plan_of(CONFIG | {"num_seeds": 2})


def test_positions():
    np.testing.assert_allclose(published_distances_m(0, 3), [107.15, 266.67, 207.27], atol=5e-3)
    np.testing.assert_array_equal(published_distances_m(5, 30)[:4], published_distances_m(5, 4))


@pytest.mark.parametrize(("network", "spent"), expected.LOCAL_ENERGY_J.items())
def test_energy_of_local_execution(network, spent):
    """kappa c fmax^2 at m = M: 0.8 (1.4214 / 7.1037) 1.2^2, 2.8 (23.1064 / 307.6753) 0.8^2."""
    found = energy.local_energy(network)
    assert found.verdict == HOLDS and found.measured == pytest.approx(spent, abs=5e-5)


def test_cells_of_figure_12_do_not_depend_on_padding():
    """Mean energies 0.0805 and 0.0466 J; double precision only inside."""
    cells = fig12_cells("literal") + fig12_cells("calibrated")
    before = measuring._solve._cache_size()
    allocation, proof = measuring.solve(cells, n_max=3)
    assert proof.ub.dtype == np.float64 and not jax.config.jax_enable_x64
    means = proof.ub.reshape(2, 4).mean(axis=1)
    for profile, mean in zip(scenarios.PROFILES, means, strict=True):
        target = expected.FIG12_ENERGIES["alexnet", profile, 0.02][0]
        assert verdicts.energies("N = 2", [mean], [target]).verdict == HOLDS
    assert measuring._solve._cache_size() == before + 1
    again, wider = measuring.solve(cells, n_max=5)
    np.testing.assert_allclose(wider.ub, proof.ub, rtol=1e-12)
    np.testing.assert_array_equal(again.m[:, :3], allocation.m)
    np.testing.assert_allclose(again.b[:, :3], allocation.b, rtol=1e-9)
    assert not again.b[:, 2:].any() and not allocation.b[:, 2].any()


def test_worst_case_has_its_standard_deviations():
    base = {**FIG12, "seed": 0, "bandwidth_mhz": 5.0}
    cells = [
        scenarios.Cell(network, profile, worst_case=flag, **base)
        for network, profile, flag in (
            ("alexnet", "calibrated", True),
            ("resnet152", "literal", True),
            ("alexnet", "literal", False),
        )
    ]
    with jax.enable_x64(True):
        made = scenarios.instances(cells, n_max=3)
        np.testing.assert_allclose(made.sigma[:, 0], [10, 5.2, 7], rtol=1e-12)
        np.testing.assert_allclose(made.P[0, 0] / made.P[2, 0], 1000, rtol=1e-12)
        np.testing.assert_array_equal(made.mask_n, [[True, True, False]] * 3)


def test_tables():
    """Within 0.1 % and half a unit of the print; infeasible only where expected."""
    assert verdicts.energies("", [0.08046, 0.4300], [0.0805, 0.4300]).verdict == HOLDS
    wrong = verdicts.energies("", [0.0805, 0.4310], [0.0805, 0.4300])
    assert wrong.verdict == FAILS
    assert wrong.measured == pytest.approx(1e-3 / (4.3e-4 + 5e-5))
    assert verdicts.percentages("", [20.74], [20.6]).verdict == HOLDS
    assert verdicts.percentages("", [20.76], [20.6]).verdict == FAILS
    assert verdicts.energies("", [math.inf], [None]).verdict == HOLDS
    assert verdicts.energies("", [1.0], [None]).verdict == FAILS
    assert verdicts.energies("", [math.inf], [1.0]).verdict == FAILS


@pytest.mark.parametrize(
    ("literal", "calibrated", "verdict", "measured"),
    [
        (True, True, HOLDS, 1.0),
        (True, False, HOLDS, 1.0),
        (False, True, ONLY_CALIBRATED, 2.0),
        (False, False, FAILS, 1.0),
    ],
)
def test_profiles_decide(literal, calibrated, verdict, measured):
    judged = {"literal": (1.0, literal), "calibrated": (2.0, calibrated)}
    found = verdicts.claim("", "", "", judged.get)
    assert (found.verdict, found.measured) == (verdict, measured)
    assert ("fails" in found.why) == (literal and not calibrated)


def sweep_rows(scale):
    """A made-up figure 14: the paper's savings at risk 0.04 and 0.08, its change by deadline."""
    rows = []
    for cell in system._sweeps("resnet152", (0, 1)):
        energy = 1 / 0.976 if cell.worst_case else 1 - 1.43 * (cell.risk - 0.04) * scale
        energy *= 1 - 0.286 * (cell.deadline_ms - 120) / 60
        missing = cell.profile == "literal" and cell.risk < 0.03
        rows.append(vars(cell) | {"energy_j": math.inf if missing else energy})
    return rows


def test_claims_of_figure_14():
    required = [{"deadline_ms": 120.0, "least_bandwidth_mhz": x} for x in (28.6, 34.6)]
    found = {v.claim: v for v in energy.fig14(sweep_rows(1.0), required)}
    saving = found["fig. 14a: saving at 0.08 less saving at 0.04"]
    assert saving.verdict == HOLDS and saving.measured == pytest.approx(5.583, abs=1e-3)
    assert found["fig. 14a: above the worst case at risk 0.02"].verdict == ONLY_CALIBRATED
    change = found["fig. 14b: energy from 120 to 180 ms"]
    assert change.verdict == HOLDS and change.measured == pytest.approx(-28.6)
    assert found["abstract: saving at risk 0.06"].verdict == NOT_COMPARABLE
    assert not any("held-out" in name for name in found)
    steep = {v.claim: v for v in energy.fig14(sweep_rows(2.0), required)}
    assert steep["fig. 14a: saving at 0.08 less saving at 0.04"].verdict == FAILS


def test_pooled_rows():
    """One row per cell but its seed; the mean is empty where a placement is infeasible."""
    cells = scenarios.grid(
        network="alexnet",
        profile="literal",
        devices=2,
        seed=(0, 1, 100),
        bandwidth_mhz=5.0,
        deadline_ms=(160.0, 200.0),
        risk=0.02,
    )
    rows = [
        vars(cell)
        | {"energy_j": 1.0 + cell.seed if cell.deadline_ms > 160 or cell.seed else math.inf}
        | {"lower_bound_j": 1.0}
        for cell in cells
    ]
    found = {(row["deadline_ms"], row["seeds"]): row for row in measuring.pooled(rows, ())}
    assert found[200.0, "0 to 1"]["energy_j"] == 1.5
    assert found[200.0, "100 to 100"]["energy_j"] == 101
    tight = found[160.0, "0 to 1"]
    assert tight["energy_j"] is None and (tight["feasible"], tight["instances"]) == (1, 2)


def test_linear_fit():
    slope, intercept, r2 = convergence.linear_fit([2, 12, 30], [5, 25, 61])
    np.testing.assert_allclose([slope, intercept, r2], [2, 1, 1])
    assert convergence.linear_fit([1, 2, 3], [0, 1, 0])[2] == pytest.approx(0)


def test_counts_of_rare_events():
    """Poisson with mean 4e5 x 4.8e-7 = 0.19: 4 events are no surprise at 4 standard errors."""
    assert limits.counts_within(4.8e-7, 400_000) == (0, 4)
    low, high = limits.counts_within(0.02, 400_000)
    error = 4 * math.sqrt(400_000 * 0.02 * 0.98)
    assert low == pytest.approx(7200 - error, abs=25) and high == pytest.approx(
        8800 + error, abs=30
    )


def test_drawing_of_infeasible_cells(tmp_path):
    rows = [row | {"lower_bound_j": 0.0} for row in sweep_rows(1.0)]
    data = [row | {"algorithm2_j": row["energy_j"]} for row in measuring.pooled(rows, ())]
    figure = plots.sweeps([row | {"seeds": "0 to 3"} for row in data], "resnet152")
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert [len(line.get_xdata()) for line in crosses] == [1, 0, 0]
