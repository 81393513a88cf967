"""Traces of any road, as CSV or XML: hand-worked projections, units, and ten million records."""

import gzip
import re
import subprocess
import sys

import numpy as np
import pytest

from jaxenv.data import Route, read_fcd
from jaxenv.errors import ConfigError
from tests.data.test_sumo import fcd, write

pytestmark = pytest.mark.quick

HEADER = "timestep_time;vehicle_id;vehicle_x;vehicle_y;vehicle_angle;vehicle_speed\n"
STEPS = [{"a": (1, 90), "z": (9, 270)}, {"a": (2, 90)}, {}, {"b": (1, 90)}]


def as_csv(steps, times=None, separator=";"):
    """The CSV file that SUMO would write; steps without vehicles are left out."""
    text = HEADER
    for time, vehicles in zip(times or range(len(steps)), steps, strict=True):
        text += "".join(f"{time:.2f};{v};{x};0;{a};\n" for v, (x, a) in vehicles.items())
    return text.replace(";", separator)


@pytest.mark.parametrize("name", ["t.csv", "t.fcd.csv.gz"])
@pytest.mark.parametrize("separator", [";", ","])
def test_csv_is_what_xml_is(tmp_path, name, separator):
    expected = read_fcd(write(tmp_path, fcd(*STEPS)))
    text = as_csv(STEPS, separator=separator).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    trace = read_fcd(path)
    for field in ("position_m", "active", "direction", "slot_s"):
        np.testing.assert_array_equal(getattr(trace, field), getattr(expected, field))
    short = text.replace(b"vehicle_", b"").replace(b"timestep_", b"")
    path.write_bytes(short)
    np.testing.assert_array_equal(read_fcd(path).position_m, expected.position_m)


def test_steps_that_csv_leaves_out_are_rows_without_vehicles(tmp_path):
    """SUMO writes steps without vehicles as a row of a time alone, or not at all."""
    steps = [{"a": (1, 90)}, {"a": (2, 90)}, {"b": (1, 90)}]
    text = as_csv(steps, times=[3.0, 3.5, 6.0]) + "6.50;;;;;\n"
    trace = read_fcd(write(tmp_path, text, "t.csv"))
    assert trace.slot_s == 0.5
    np.testing.assert_array_equal(trace.position_m[:, 0], [1, 2, 0, 0, 0, 0, 1, 0])


def test_blank_rows_and_a_quoted_header_are_csv(tmp_path):
    text = as_csv(STEPS)
    header, *rows = text.splitlines()
    quoted = ";".join(f'"{name}"' for name in header.split(";"))
    expected = read_fcd(write(tmp_path, text, "t.csv"))
    for changed in (
        text + "\n",
        text + "  \n",
        "\n".join(["", header, "", ";;;;;", *rows]),
        text.replace(header, quoted),
        text.replace(header, header.replace(";", " ; ")),
    ):
        trace = read_fcd(write(tmp_path, changed, "t.csv"))
        np.testing.assert_array_equal(trace.position_m, expected.position_m)
        np.testing.assert_array_equal(trace.active, expected.active)


ROWS = as_csv(STEPS)
BAD_CSV = {
    "empty": ("", r"columns: \[''\] is not valid; give the column timestep_time or time"),
    "no rows": (HEADER, "number of timesteps: 0"),
    "no y": (ROWS.replace("vehicle_y", "lane"), "give the column vehicle_y or y"),
    "no angle": (ROWS.replace("vehicle_angle", "a"), "give the column vehicle_angle or angle"),
    "truncated": (ROWS[:-6], r"line 5: number of cells: 4 .* the file is truncated; give 6"),
    "truncated after blanks": ("\n\n" + ROWS[:-6], "line 7: number of cells: 4"),
    "open quote": ('"' + ROWS + "x" * 2**17, "the file is truncated or not XML"),
    "empty cell": (ROWS.replace(";2;", ";;"), "'a' at time 1: x: None"),
    "words": (ROWS.replace(";2;", ";far;"), "'a' at time 1: x: 'far'"),
    "time": (ROWS.replace("1.00", "noon"), "time: 'noon' is not valid; give a finite number"),
    "order": (ROWS + "2.00;b;2;0;90;\n", r"time: 2\.0 .* in the order of time, after 3 s"),
    "irregular": (ROWS + "3.40;b;2;0;90;\n", "give regular timesteps"),
    "no vehicle": (HEADER + "0.00;;;;;\n1.00;;;;;\n", "number of vehicles within 20 m of .*: 0"),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_bad_csv_is_refused_in_one_line(tmp_path, case):
    text, message = BAD_CSV[case]
    path = write(tmp_path, text, "t.csv")
    with pytest.raises(ConfigError) as error:
        read_fcd(path, route=[[0, 0], [20, 0]])
    assert re.search(message, str(error.value)), error.value
    assert str(path) in str(error.value).replace("'", "") and "\n" not in str(error.value)


def test_truncated_csv_gzip_is_refused(tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress((ROWS * 50).encode())[:-20])
    with pytest.raises(ConfigError, match="truncated"):
        read_fcd(path)


def test_a_corner_is_projected_as_worked_by_hand():
    """North for 100 m, then east: (3, 40) is at 40 m, 3 m away; (30, 96) at 130 m, 4 m away."""
    route = Route([[0, 0], [0, 100], [50, 100]])
    x, y = np.array([[3, 40], [30, 96], [0, -5], [60, 100], [-3, 104]]).T
    position, away, heading = route.project(x, y)
    np.testing.assert_allclose(position, [40, 130, 0, 150, 100])
    np.testing.assert_allclose(away, [3, 4, 5, 10, 5])
    np.testing.assert_allclose(heading[:4], [0, 90, 0, 90])


def on_road(*steps):
    """FCD text of steps given as {vehicle: (x, y, angle)}."""
    body = []
    for time, vehicles in enumerate(steps):
        records = (
            f'<vehicle id="{v}" x="{x}" y="{y}" angle="{a}"/>' for v, (x, y, a) in vehicles.items()
        )
        body.append(f'<timestep time="{time}">{"".join(records)}</timestep>')
    return f"<fcd-export>{''.join(body)}</fcd-export>"


def test_other_roads_and_crossing_vehicles_are_left_out(tmp_path):
    """a follows the corner, b comes against it, c crosses, d drives 30 m beside it."""
    corner = [[0, 0], [0, 100], [50, 100]]
    steps = [
        {"a": (2, 80, 0), "b": (40, 103, 270), "c": (1, 50, 90), "d": (-30, 50, 0)},
        {"a": (2, 98, 40), "b": (20, 103, 271), "c": (15, 50, 90), "d": (-30, 60, 0)},
        {"a": (20, 98, 90), "b": (-2, 90, 181)},
    ]
    path = write(tmp_path, on_road(*steps))
    trace = read_fcd(path, route=corner)
    assert trace.direction.tolist() == [1, -1]
    np.testing.assert_allclose(trace.position_m, [[80, 140], [98, 120], [120, 90]], atol=2)
    assert trace.active.all()
    points = tmp_path / "route.csv"
    points.write_text("x [m],y [m]\n0,0\n0,100\n50,100\n")
    np.testing.assert_array_equal(read_fcd(path, route=points).position_m, trace.position_m)
    wider = read_fcd(path, route=corner, width_m=40.0)
    assert wider.active.sum() == trace.active.sum() + 2


@pytest.mark.parametrize(
    ("route", "message"),
    [
        ([[0, 0]], "give at least two points"),
        ([[0, 0], [0, 0]], r"route: \[0\.0, 0\.0\] is not valid; give each point once in a row"),
        ([[0, 0], [0, float("nan")]], "give at least two points"),
        ("0,0", r"route: '0,0' is not valid; 0,0: cannot be read"),
        (7, "give at least two points"),
    ],
)
def test_what_is_no_route_is_refused(tmp_path, route, message):
    with pytest.raises(ConfigError, match=message):
        read_fcd(write(tmp_path, on_road({}, {})), route=route)


@pytest.mark.parametrize(
    ("per_second", "speed", "step", "fits"),
    [(20, 20, 1, True), (2e-4, 20, 1, False), (20, 72, 1, False), (20, 20, 1000, False)],
    ids=["m and m/s", "degrees", "km/h", "ms"],
)
def test_positions_speeds_and_times_must_fit_each_other(tmp_path, per_second, speed, step, fits):
    records = [
        f'<timestep time="{t * step}"><vehicle id="a" x="{t * per_second}" angle="90" '
        f'speed="{speed}"/></timestep>'
        for t in range(10)
    ]
    path = write(tmp_path, f"<fcd-export>{''.join(records)}</fcd-export>")
    if fits:
        assert read_fcd(path).active.all()
        return
    with pytest.raises(ConfigError, match="metres driven: .* give x and y in m") as error:
        read_fcd(path)
    assert "\n" not in str(error.value)


READ = """
import resource, sys
from jaxenv.data import read_fcd
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
trace = read_fcd(sys.argv[1])
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(trace.active.sum(), (after - before) // 1024, trace.active.shape)
"""


@pytest.mark.deep
@pytest.mark.parametrize("suffix", [".xml", ".csv"])
def test_ten_million_records_are_read_within_600_mb(tmp_path, suffix):
    """10,000 steps of 1000 vehicles: a file of some 400 MB, and 90 MB for the trace itself."""
    path = tmp_path / f"long{suffix}"
    xml = suffix == ".xml"
    record = '<vehicle id="v{}" x="{}" angle="90"/>\n' if xml else "{},v{},{},90\n"
    with path.open("w") as file:
        file.write("<fcd-export>\n" if xml else "time,id,x,angle\n")
        for row in range(10_000):
            file.write(f'<timestep time="{row}">\n' if xml else "")
            for v in range(1000):
                x = (row + v) % 1000
                file.write(record.format(v, x) if xml else record.format(row, v, x))
            file.write("</timestep>\n" if xml else "")
        file.write("</fcd-export>\n" if xml else "")
    command = [sys.executable, "-c", READ, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    records, grown_mb, *_ = done.stdout.split()
    assert int(records) == 10_000_000
    assert int(grown_mb) < 600
