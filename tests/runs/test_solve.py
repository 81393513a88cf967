"""Given instances: certified answers in a table, and one line for what cannot be read."""

from __future__ import annotations

import math

import pytest

from runs import solve
from runs.tables import read_csv

HEADER = "instance,model,distance_m,deadline_s,risk,bandwidth_mhz,power_w"
PUBLISHED = ["b,alexnet,80,0.20,0.04,2,1", "b,alexnet,160,0.20,0.04,2,1"]
TIGHT = ["late,alexnet,100,0.160,0.02,0.3,1"]
HOPELESS = ["never,resnet152,100,1e-6,0.02,30,1"]


def write(path, lines, header=HEADER):
    path.write_text("\n".join([header, *lines]) + "\n")
    return f"instances={path.name}"


def test_answers_and_what_infeasible_instances_lack(workplace, capsys):
    given = write(workplace / "mine.csv", [*TIGHT, *PUBLISHED, *HOPELESS])
    solve.main([given, "gap=1e-6", "hydra.run.dir=out"])
    late, found, never = read_csv(workplace / "out/solutions.csv")
    # A published check value: two devices, the optimum over all partitions.
    assert (found["instance"], found["devices"], found["feasible"]) == ("b", "2", "True")
    assert float(found["energy_j"]) == pytest.approx(0.0984111, abs=5e-8)
    assert float(found["price_j_per_mhz"]) == pytest.approx(0.0291415, rel=1e-4)
    assert 0 <= float(found["gap"]) < 1e-9
    first, second = read_csv(workplace / "out/allocation.csv")
    assert [row["partitioning_point"] for row in (first, second)] == ["7", "7"]
    assert float(first["bandwidth_mhz"]) == pytest.approx(0.948009, abs=5e-6)
    assert float(second["frequency_ghz"]) == pytest.approx(0.641238, abs=5e-6)

    assert (late["feasible"], late["energy_j"]) == ("False", "")
    least = float(late["least_bandwidth_mhz"])
    assert float(late["missing_bandwidth_mhz"]) == pytest.approx(least - 0.3) and least > 0.3
    assert never["least_bandwidth_mhz"] == "inf"
    text = capsys.readouterr().out
    assert f"needs {least:.4g} MHz, {least - 0.3:.4g} more than the 0.3 it has" in text
    assert "1 of 3 instances are feasible" in text

    # What it says suffices does suffice, and a little less does not.
    factor = float(late["deadline_factor"])
    lines = [
        f"{i},alexnet,100,{0.16 * factor * s!r},0.02,0.3,1" for i, s in ((1, 1.0001), (2, 0.9999))
    ]
    lines += [f"{i},alexnet,100,0.160,0.02,{least * s!r},1" for i, s in ((3, 1.0001), (4, 0.9999))]
    solve.main([write(workplace / "more.csv", lines), "hydra.run.dir=more"])
    feasible = [row["feasible"] for row in read_csv(workplace / "more/solutions.csv")]
    assert feasible == ["True", "False", "True", "False"]


def test_drawn_instances_are_those_of_the_published_tables(workplace):
    solve.main(["num_instances=1", "num_devices=3", "hydra.run.dir=out"])
    problem = solve.drawn(
        {"num_instances": 1, "num_devices": 3, "seed": 0, "model": "alexnet"}
        | {"bandwidth_mhz": None, "deadline_s": 0.18, "risk": 0.02, "power_w": 1.0}
    )[0]
    assert problem.distance_m == pytest.approx([107.15, 266.67, 207.27], abs=0.005)
    assert problem.bandwidth_mhz == pytest.approx(2.5)
    (row,) = read_csv(workplace / "out/solutions.csv")
    assert row["feasible"] == "True" and float(row["lower_bound_j"]) <= float(row["energy_j"])
    assert math.isclose(float(row["bandwidth_mhz"]), 2.5)


@pytest.mark.quick
def test_gaps_that_stay_above_what_was_asked_for_are_told():
    row = {"instance": "a", "devices": 2, "feasible": True, "energy_j": 1.0, "lower_bound_j": 0.9}
    rows = [row | {"gap": gap} for gap in (0.1, 1e-7, 2e-6)]
    assert solve.report(rows, 1e-6).endswith("\n2 of them above the gap asked for, 1e-06")
    assert "above the gap" not in solve.report(rows, 0.2) + solve.report(rows)


@pytest.mark.quick
def test_what_is_barely_missing_is_told_with_enough_digits():
    row = {"instance": "a", "devices": 2, "feasible": False, "least_bandwidth_mhz": 10.2087184}
    row |= {"bandwidth_mhz": 10.2086, "missing_bandwidth_mhz": 0.0001184}
    text = solve.report([row | {"deadline_factor": 1.00000583}])
    assert "needs 10.208718 MHz, 0.0001184 more than the 10.2086 it has" in text
    assert "deadlines 1.00000583 times as long" in text
    row |= {"bandwidth_mhz": 10.20871812, "missing_bandwidth_mhz": 2.8e-7}
    text = solve.report([row | {"deadline_factor": 1.5432}])
    assert "needs 10.2087184 MHz, 2.8e-07 more than the 10.20871812 it has" in text
    assert "deadlines 1.543 times as long" in text


@pytest.mark.quick
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("b,vgg,80,0.2,0.04,2,1", "line 2, model: 'vgg' is not valid; choose one of alexnet"),
        ("b,alexnet,-80,0.2,0.04,2,1", "line 2, distance_m: '-80' is not valid; give a positive"),
        ("b,alexnet,80,nan,0.04,2,1", "line 2, deadline_s: 'nan' is not valid"),
        ("b,alexnet,80,0.2,1.5,2,1", "line 2, risk: '1.5' is not valid; give a probability"),
        ("b,alexnet,80,0.2,0.04,2", "line 2, power_w: None is not valid"),
        ("b,alexnet,80,0.2,0.04,2,1,9", "line 2: ['9'] is not valid; there is no such column"),
        (",alexnet,80,0.2,0.04,2,1", "line 2, instance: '' is not valid; give a label"),
        ("b,alexnet,80,0.2,0.04,x,1", "line 2, bandwidth_mhz: 'x' is not valid"),
    ],
)
def test_refuses_a_line(workplace, capsys, line, expected):
    refused(workplace, capsys, [write(workplace / "bad.csv", [line])], expected)


def test_settings_of_drawn_instances_are_not_for_a_file(workplace, capsys):
    file = write(workplace / "mine.csv", PUBLISHED)
    expected = "risk: 0.1 is not valid; it is for drawn instances"
    refused(workplace, capsys, [file, "risk=0.1"], expected)
    twice = write(workplace / "twice.csv", PUBLISHED, HEADER + ",risk")
    refused(workplace, capsys, [twice], "column 'risk' is not valid twice")


def refused(workplace, capsys, arguments, expected):
    with pytest.raises(SystemExit) as stop:
        solve.main([*arguments, "hydra.run.dir=out"])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and expected in error
    assert not (workplace / "out/solutions.csv").exists()


def test_refuses_files_and_settings(workplace, capsys):
    two = [*PUBLISHED, "b,alexnet,80,0.2,0.04,3,1"]
    clash = "line 4, bandwidth_mhz: 3.0 is not valid; instance b has 2 above"
    refused(workplace, capsys, [write(workplace / "two.csv", two)], clash)
    refused(workplace, capsys, ["instances=absent.csv"], "cannot be read (No such file")
    empty = write(workplace / "empty.csv", [])
    refused(workplace, capsys, [empty], "it has no rows; give instance, model")
    short = write(workplace / "short.csv", ["b,alexnet"], "instance,model")
    refused(workplace, capsys, [short], "columns ['distance_m', 'deadline_s', 'risk', 'bandwidth_")
    other = write(workplace / "other.csv", [PUBLISHED[0] + ",1"], HEADER + ",colour")
    refused(workplace, capsys, [other], "columns ['colour'] are unknown")
    for setting, expected in (
        ("instances=5", "instances: 5 is not valid; give the path of a CSV file, or null"),
        ("instances=[a.csv]", "give the path of a CSV file, or null"),
        ("problem=chess", "problem: 'chess' is not valid; choose robust"),
        ("model=vgg", "model: 'vgg' is not valid; choose one of alexnet, resnet152"),
        ("risk=0", "risk: 0 is not valid; give a probability in (0, 1)"),
        ("deadline_s=-1", "deadline_s: -1 is not valid; give a positive finite number"),
        ("gap=2", "gap: 2 is not valid; give a number in (0, 1), or null"),
        ("calibration=best", "calibration: 'best' is not valid; choose one of literal"),
        ("num_devices=0", "num_devices: 0 is not valid"),
    ):
        refused(workplace, capsys, [setting], expected)
