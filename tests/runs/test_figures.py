"""What figures show is what the rows say: read from what was drawn."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from jaxenv.rendering import colours
from runs import benchmark, figures
from runs.benchmarks import Measurement

pytestmark = pytest.mark.quick


@pytest.fixture
def saved(monkeypatch):
    """The figures that were saved."""
    kept = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: kept.append(figure))
    return kept


def test_evaluation_bars_are_means_with_their_intervals(saved):
    """Policy c was not measured in the second metric, and its place is empty."""
    numbers = {
        ("delay", "a"): (2.0, 1.0, 5.0),
        ("delay", "b"): (3.0, 2.5, 3.25),
        ("delay", "c"): (7.0, 7.0, 7.0),
        ("delay", "bound"): (1.5, 1.5, 1.5),
        ("energy", "a"): (-4.0, -5.0, -2.0),
        ("energy", "c"): (6.0, 5.0, 9.0),
    }
    rows = [
        {"metric": metric, "unit": "s", "policy": policy}
        | dict(zip(("mean", "ci_low", "ci_high"), map(str, values), strict=True))
        for (metric, policy), values in numbers.items()
    ]
    figures.evaluation_figure(rows, Path("unused.png"))
    for ax, metric in zip(saved[0].axes, ("delay", "energy"), strict=True):
        own = [(p, v) for (m, p), v in numbers.items() if m == metric and p != "bound"]
        bars = [bar for bar in ax.patches if bar.get_height() == 0.7]
        assert [bar.get_width() for bar in bars] == [mean for _, (mean, _, _) in own]
        places = [bar.get_y() + 0.35 for bar in bars]
        np.testing.assert_allclose(places, ["abc".index(policy) for policy, _ in own])
        (errors,) = ax.collections
        ends = [segment[:, 0].tolist() for segment in errors.get_segments()]
        assert ends == [[low, high] for _, (_, low, high) in own]
        assert ax.get_xlabel() == f"{metric} [s]"
        assert ax.get_ylim()[0] > ax.get_ylim()[1]
    names = [[label.get_text() for label in ax.get_yticklabels()] for ax in saved[0].axes]
    assert names == [["a", "b", "c"], ["", "", ""]]
    dashed = [line for line in saved[0].axes[0].lines if line.get_label() == "bound"]
    assert [line.get_xdata()[0] for line in dashed] == [1.5]


def test_a_quantile_box_has_the_quantiles_in_their_order(saved):
    quantiles = {0.95: 11.0, 0.05: 1.0, 0.5: 4.0, 0.25: 2.0, 0.75: 7.0}
    rows = [
        {"metric": "delay", "unit": "s", "policy": policy, "level": level, "value": str(value + k)}
        for policy, k in (("a", 0), ("b", 100))
        for level, value in quantiles.items()
    ]
    figures.quantile_figure(rows, Path("unused.png"))
    (ax,) = saved[0].axes
    assert [(bar.get_x(), bar.get_width()) for bar in ax.patches] == [(2, 5), (102, 5)]
    lines = [collection.get_segments()[0].tolist() for collection in ax.collections]
    for place, add in enumerate((0, 100)):
        whole, median = lines[2 * place : 2 * place + 2]
        assert whole == [[1 + add, place], [11 + add, place]]
        assert [x for x, _ in median] == [4 + add, 4 + add]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]


def action_rows(counts: dict[tuple[int, int], list[int]]) -> list[dict[str, str]]:
    """Rows by agent and head; half of the decisions are those of another seed."""
    names = ("policy", "seed", "agent", "head", "action", "decisions")
    return [
        dict(zip(names, ("p", *map(str, (seed, *place, action, count // 2))), strict=True))
        for place, own in counts.items()
        for action, count in enumerate(own)
        for seed in range(2)
    ]


def test_shares_of_actions_are_in_percent(saved):
    figures.action_figure(action_rows({(0, 0): [6, 2, 0, 8]}), Path("unused.png"))
    (ax,) = saved[0].axes
    assert [bar.get_height() for bar in ax.patches] == [37.5, 12.5, 0, 50]
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("decisions [%]", "action")


@pytest.mark.parametrize(
    ("places", "label", "names"),
    [
        (((0, 0), (0, 2)), "head", ["0", "2"]),
        (((0, 1), (0, 0), (3, 0)), "agent, head", ["0, 0", "0, 1", "3, 0"]),
    ],
)
def test_lines_of_actions_are_named_and_shades_reach_the_largest_share(saved, places, label, names):
    """Of 16 actions each is taken in a sixteenth of the decisions, one of head 0 in a quarter."""
    even, one = [10] * 16, [30, *[6] * 15]
    counts = {place: one if place == (0, 0) else even for place in places}
    figures.action_figure(action_rows(counts), Path("unused.png"))
    ax, bar = saved[0].axes
    assert ax.get_ylabel() == label
    assert [text.get_text() for text in ax.get_yticklabels()] == names
    assert ax.get_yticks().tolist() == list(range(len(names)))
    (image,) = ax.images
    expected = [100 / 120 * np.array(one)] + [[6.25] * 16] * (len(places) - 1)
    np.testing.assert_allclose(image.get_array(), expected)
    assert image.get_clim() == (0, 25)
    assert bar.get_ylabel() == "decisions [%]"


def test_many_lines_of_actions_are_named_in_part(saved):
    counts = {(agent, head): [2, 2] for agent in range(20) for head in range(2)}
    figures.action_figure(action_rows(counts), Path("unused.png"))
    ax = saved[0].axes[0]
    assert ax.get_yticks().tolist() == list(range(0, 40, 3))
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names == [f"{line // 2}, {line % 2}" for line in range(0, 40, 3)]


def test_systems_are_told_apart_by_colour_and_marker(saved):
    """Two systems may not share either; the devices of one differ by the style of the line."""
    systems = ("vehicular", "partitioning", "splitting", "services", "robust")
    measured = [
        Measurement(f"{name} at {n}{on}", 10.0 * n * k, "1/s", 3, None, None, 9.0 * n, 99.0 * n)
        for k, name in enumerate(systems, 1)
        for n in (1, 64)
        for on in ("", " on 2 devices")
    ]
    benchmark.throughput_figure(benchmark.throughputs(measured), Path("unused.png"))
    (ax,) = saved[0].axes
    lines = {line.get_label(): line for line in ax.lines}
    assert len(lines) == 10
    alone, both = ([lines[f"{name}{on}"] for name in systems] for on in ("", ", 2 devices"))
    for k, (line, other) in enumerate(zip(alone, both, strict=True), 1):
        assert line.get_ydata() == pytest.approx([10 * k, 640 * k])
        looks = [(x.get_color(), x.get_marker()) for x in (line, other)]
        assert looks[0] == looks[1]
        assert line.get_linestyle() != other.get_linestyle()
    assert {line.get_color() for line in alone} < set(colours.COLOURS)
    assert len({line.get_color() for line in alone}) == 5
    assert len({line.get_marker() for line in alone}) == 5


def test_one_name_is_one_colour():
    palette = {name: value for name, value in vars(colours).items() if name.isupper()}
    single = {name: value for name, value in palette.items() if isinstance(value, str)}
    assert len(set(single.values())) == len(single) == 12
    systems = ("vehicular", "partitioning", "splitting", "services", "robust")
    places = [f"jaxenv.rendering.{name}" for name in systems]
    places += [f"runs.reproductions.{name}.plots" for name in systems]
    for place in (*places, "runs.reproductions.plotting", "runs.benchmark", "runs.figures"):
        module = vars(importlib.import_module(place))
        own = {name: module[name] for name in single if name in module}
        assert own == {name: single[name] for name in own}, place
