"""The programs of docs/ run, and what they claim holds at a smaller size."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

DOCS = Path(__file__).parents[1] / "docs"
OPTIMIZED = True


def programs(page: str) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)


def test_the_price_of_a_mhz_is_what_a_tenth_of_it_saves(capsys):
    names: dict = {}
    exec(programs("gradients.md")[0], names)
    assert float(-names["per_mhz"]) == pytest.approx(10 * float(names["saved"]), rel=0.02)
    shown = capsys.readouterr().out.splitlines()
    assert shown == re.findall(r"^    (one more .*|device \d: .*)$", page_text(), flags=re.M)


def test_a_network_of_prices_saves_evaluations_and_costs_no_quality():
    source = programs("gradients.md")[1]
    small = source.replace(
        "UPDATES, BATCH, HELD_OUT = 600, 256, 1024", "UPDATES, BATCH, HELD_OUT = 150, 64, 64"
    )
    assert small != source
    names: dict = {}
    exec(small, names)
    cold, warm = names["cold"], names["warm"]
    assert np.all(np.asarray(names["bound"]) <= np.asarray(cold.ub))
    np.testing.assert_allclose(warm.ub, cold.ub, rtol=1e-5)
    assert names["share"] > 0.97
    assert names["evaluations"][1] < 0.95 * names["evaluations"][0]


def test_prices_are_learned_through_the_relaxation(capsys):
    names: dict = {}
    exec(programs("gradients.md")[2], names)
    assert names["loss"](names["log_price"]) < names["losses"][0] / 50
    ratio = float(np.exp(names["log_price"][0] - names["log_price"][1]))
    assert ratio == pytest.approx(np.exp(0.7), rel=0.05)
    shown = capsys.readouterr().out.splitlines()
    assert shown == re.findall(r"^    (loss .*|local / .*)$", page_text(), flags=re.M)


def page_text() -> str:
    return (DOCS / "gradients.md").read_text()
