"""Figures of the splitting system on short runs: rows, drawings, and claims of any length."""

from __future__ import annotations

import numpy as np
import pytest

from jaxenv.errors import ConfigError
from runs import reproductions
from runs.reproduce import write_reproduction
from runs.reproductions import FAILS, HOLDS
from runs.reproductions import splitting as system

CONFIG = {
    "scale": "smoke",
    "seed": 0,
    "num_seeds": 2,
    "precision": "float32",
    "env": {"name": "splitting", "num_slots": 4000, "burn_in": 1000, "chunk_slots": 500},
}


def verdicts(result):
    return {v.claim: v for v in result.verdicts}


def test_names():
    names = reproductions.selected("splitting/all")
    assert [name.split("/")[1] for name in names] == [
        "bound",
        "fig1",
        "fig2",
        "fig3",
        "sensitivity",
    ]


def test_plan_of_a_scale():
    paper = system.plan_of({"scale": "paper", "seed": 1, "precision": "float32", "env": {}})
    assert (paper.env.num_slots, paper.num_seeds, paper.offload_seeds) == (200_000, 5, 20)
    own = system.plan_of(CONFIG | {"env": CONFIG["env"] | {"distance_m": 20.0}})
    assert own.env.num_slots == 4000 and float(own.params.distance_m) == 20.0


def test_figure_1_is_exact(tmp_path):
    result = system.fig1(CONFIG)
    assert {v.verdict for v in result.verdicts} == {HOLDS}
    assert len(result.rows) == 20 and result.rows[19]["cut_mbit"] == 0
    np.testing.assert_allclose(result.rows[8]["energy_mj"], 83.163796, rtol=1e-6)
    write_reproduction(tmp_path, "splitting/fig1", result)
    assert (tmp_path / "figures" / "splitting_fig1.png").stat().st_size > 10_000


def test_figure_2(tmp_path):
    result = system.fig2(CONFIG)
    found = verdicts(result)
    assert len(result.rows) == 3 * (len(system.TRADEOFFS) + 2)
    assert len({frozenset(row) for row in result.rows}) == 1
    assert found["weak duality, runs beyond the limits included"].verdict == HOLDS
    assert found["proposed at availability 0.1: saving at most about 85 %"].verdict == FAILS
    assert found["full offload: outage above 10 times the limit"].measured > 0.1
    local = [row for row in result.rows if row["policy"] == "FullLocal"]
    assert all(abs(row["energy_saving_pct"]) < 1e-3 and row["limits_met"] for row in local)
    offload = [row for row in result.rows if row["policy"] == "FullOffload"]
    assert not any(row["limits_met"] for row in offload)
    write_reproduction(tmp_path, "splitting/fig2", result)
    assert (tmp_path / "splitting_fig2.csv").exists()


def test_figure_3():
    result = system.fig3(CONFIG)
    found = verdicts(result)
    assert len(result.rows) == 24
    for claim in (
        "mean splitting point falls with the availability",
        "spread at beta 4.7 below that at beta 4",
    ):
        assert found[claim].verdict == HOLDS
    first = result.rows[0]
    assert first["path_loss_exponent"] == 3.0 and first["availability_max"] == 0.001
    assert abs(first["split_mean"] - 17.18) < 0.5


def test_depthwise_counts():
    """The stem's successor: a 3 x 3 depthwise convolution of 32 channels at 112 x 112."""
    counts = system.depthwise_counts()
    assert counts.shape == (20, 2)
    np.testing.assert_array_equal(counts[2], [112**2 * 9 * 32, 112**2 * 9])
    np.testing.assert_array_equal(counts[[0, 1, 19]], 0)


def test_sensitivity_is_of_the_published_network():
    with pytest.raises(ConfigError, match="^network: 'alexnet'"):
        system.sensitivity(CONFIG | {"env": CONFIG["env"] | {"network": "alexnet"}})
