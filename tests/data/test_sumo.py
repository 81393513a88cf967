"""SUMO floating-car data against hand-placed columns and the recorded road."""

import gzip
import os
import re
from pathlib import Path

import numpy as np
import pytest

from jaxenv.data import read_fcd
from jaxenv.errors import ConfigError

pytestmark = pytest.mark.quick

DATA = Path(os.environ.get("JAXENV_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
ROAD = DATA / "sumo" / "road.fcd.xml.gz"


def fcd(*steps, times=None):
    """FCD text of steps given as {vehicle: (x, angle)}."""
    times = range(len(steps)) if times is None else times
    body = []
    for time, vehicles in zip(times, steps, strict=True):
        body.append(f'<timestep time="{time:.2f}">')
        body += [f'<vehicle id="{v}" x="{x}" angle="{a}"/>' for v, (x, a) in vehicles.items()]
        body.append("</timestep>")
    return "<fcd-export>\n" + "\n".join(body) + "\n</fcd-export>\n"


def write(tmp_path, text, name="t.xml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_columns_are_assigned_as_worked_by_hand(tmp_path):
    # Forward: a takes column 0; b column 1; a leaves after row 1, so at row 2 its column has not
    # been inactive for a row and c opens column 2; at row 3 column 0 is free again for d.
    steps = [
        {"a": (1, 90), "z": (9, 270)},
        {"a": (2, 90), "b": (1, 90.6), "z": (8, 270)},
        {"b": (2, 90), "c": (1, 90)},
        {"b": (3, 90), "c": (2, 90), "d": (1, 90), "y": (9, 269.5)},
    ]
    trace = read_fcd(write(tmp_path, fcd(*steps)))
    assert trace.direction.tolist() == [1, 1, 1, -1]
    assert trace.slot_s == 1.0
    expected = [[1, 0, 0, 9], [2, 1, 0, 8], [0, 2, 1, 0], [1, 3, 2, 9]]
    np.testing.assert_array_equal(trace.position_m, expected)
    np.testing.assert_array_equal(trace.active, np.array(expected) > 0)


def test_two_arrivals_at_once_keep_the_order_of_the_file(tmp_path):
    steps = [{"b": (5, 90), "a": (4, 90)}, {"a": (5, 90), "b": (6, 90)}]
    trace = read_fcd(write(tmp_path, fcd(*steps)))
    np.testing.assert_array_equal(trace.position_m, [[5, 4], [6, 5]])


def test_a_vehicle_that_returns_after_an_absence_is_a_new_arrival(tmp_path):
    steps = [{"a": (1, 90)}, {"b": (2, 90)}, {"a": (3, 90), "b": (3, 90)}, {"a": (4, 90)}]
    trace = read_fcd(write(tmp_path, fcd(*steps)))
    np.testing.assert_array_equal(trace.position_m, [[1, 0], [0, 2], [3, 3], [4, 0]])


def test_gzip_and_step_length_are_recognised(tmp_path):
    text = fcd({"a": (1, 90)}, {"a": (2, 90)}, {}, times=(10.0, 10.5, 11.0))
    path = tmp_path / "trace.dat"
    path.write_bytes(gzip.compress(text.encode()))
    trace = read_fcd(path)
    assert trace.slot_s == 0.5
    assert trace.active.tolist() == [[True], [True], [False]]


GOOD = fcd({"a": (1, 90)}, {"a": (2, 90)}, {"a": (3, 90)})
BAD = {
    "truncated": (GOOD[:-30], "truncated"),
    "empty file": ("", "truncated"),
    "not XML": ("time,id,x", "truncated"),
    "no timesteps": ("<fcd-export></fcd-export>", "number of timesteps: 0"),
    "one timestep": (fcd({"a": (1, 90)}), "number of timesteps: 1"),
    "no vehicles": (fcd({}, {}), "number of vehicles: 0"),
    "gap": (fcd({"a": (1, 90)}, {}, {}, times=(0, 1, 3)), r"timestep 3: 3\.0 .* 2 s here"),
    "irregular": (fcd({"a": (1, 90)}, {}, {}, times=(0, 1, 1.5)), r"timestep 3: 1\.5 .* 2 s here"),
    "backwards": (fcd({"a": (1, 90)}, {}, times=(1, 0)), r"timestep 2: 0\.0 .* after 1 s"),
    "no time": (GOOD.replace(' time="1.00"', ""), "time: None .* attribute time"),
    "time not a number": (GOOD.replace("1.00", "noon"), "'noon' is not valid"),
    "no id": (GOOD.replace(' id="a"', ""), "id: None .* attribute id"),
    "no x": (GOOD.replace(' x="2"', ""), "'a' at time 1: x: None"),
    "x not finite": (GOOD.replace('x="2"', 'x="nan"'), "'a' at time 1: x: 'nan'"),
    "no angle": (GOOD.replace(' angle="90"', ""), "'a' at time 0: angle: None"),
    "crossing road": (GOOD.replace('x="2" angle="90"', 'x="2" angle="91.5"'), r"angle: 91\.5"),
    "north": (GOOD.replace('angle="90"', 'angle="0"'), r"angle: 0\.0"),
    "vehicle twice": (GOOD.replace("/>", '/><vehicle id="a" x="1" angle="90"/>', 1), "id: 'a'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_in_one_line(tmp_path, case):
    text, message = BAD[case]
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        read_fcd(path)
    assert re.search(message, str(error.value))
    assert str(path) in str(error.value).replace("'", "")
    assert "\n" not in str(error.value)


def test_truncated_gzip_and_missing_file_are_refused(tmp_path):
    path = tmp_path / "t.xml.gz"
    path.write_bytes(gzip.compress((GOOD * 50).encode())[:-20])
    with pytest.raises(ConfigError, match="truncated"):
        read_fcd(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_fcd(tmp_path / "absent.xml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_fcd(tmp_path)


@pytest.fixture(scope="module")
def road():
    """The recorded road and its records (row, id, x, angle), parsed independently."""
    if not ROAD.exists():
        pytest.skip(f"{ROAD} is absent; set JAXENV_DATA")
    records, row = [], -1
    with gzip.open(ROAD, "rt") as file:
        for line in file:
            row += "<timestep" in line
            if "<vehicle" in line:
                given = dict(re.findall(r'(\w+)="([^"]*)"', line))
                records.append((row, given["id"], float(given["x"]), float(given["angle"])))
    return read_fcd(ROAD), records, row + 1


def test_the_road_has_one_column_per_vehicle_at_once(road):
    trace, records, rows = road
    assert rows == 600 and trace.slot_s == 1.0
    assert trace.position_m.shape == (600, 31)
    assert trace.direction.tolist() == [1] * 18 + [-1] * 13
    forward = trace.direction == 1
    assert trace.active[:, forward].sum(1).max() == 18
    assert trace.active[:, ~forward].sum(1).max() == 13
    assert trace.active.sum() == len(records)


def test_the_road_holds_every_record_once(road):
    trace, records, _ = road
    for row in range(len(trace.active)):
        for direction, angle in ((1, 90.0), (-1, 270.0)):
            columns = trace.active[row] & (trace.direction == direction)
            given = sorted(x for r, _, x, a in records if r == row and a == angle)
            assert sorted(trace.position_m[row, columns]) == given


def test_no_column_of_the_road_hands_over_without_an_inactive_row(road):
    trace, records, _ = road
    column_of = {}
    for row, vehicle, x, angle in records:
        side = trace.direction == (1 if angle == 90.0 else -1)
        (columns,) = np.nonzero(trace.active[row] & side & (trace.position_m[row] == x))
        if len(columns) == 1:
            column_of.setdefault(vehicle, set()).add(int(columns[0]))
    assert all(len(columns) == 1 for columns in column_of.values())
    owner = np.full(trace.active.shape, "", object)
    for row, vehicle, _, _ in records:
        owner[row, next(iter(column_of[vehicle]))] = vehicle
    np.testing.assert_array_equal(owner != "", trace.active)
    both = trace.active[1:] & trace.active[:-1]
    assert (owner[1:] == owner[:-1])[both].all()
    advance = (np.diff(trace.position_m, axis=0) * trace.direction)[both]
    assert advance.min() >= 0 and advance.max() < 25
