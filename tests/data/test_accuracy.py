"""Accuracy tables: order of configurations and models, round trip, refusals."""

import numpy as np
import pytest

from jaxenv.data import Accuracy, read_accuracy, write_accuracy
from jaxenv.errors import ConfigError

pytestmark = pytest.mark.quick

# Rows out of order, columns too; a value is 100 scale + second + model / 10.
GOOD = """model,scale,service,value,second,note
small,0.5,detection,140.1,90,x
large,0.5,detection,140.2,90,
small,1,detection,200.1,100,
large,1,detection,200.2,100,
SORT,1,tracking,130.1,30,
small,0.5,detection,150.1,100,
large,1,detection,190.2,90,
small,1,detection,190.1,90,
large,0.5,detection,150.2,100,
"""


def write(tmp_path, text):
    path = tmp_path / "accuracy.csv"
    path.write_text(text)
    return path


def test_configurations_descend_and_models_keep_their_order(tmp_path):
    services = read_accuracy(write(tmp_path, GOOD))
    assert list(services) == ["detection", "tracking"]
    detection, tracking = services["detection"], services["tracking"]
    assert detection.scales == (1.0, 0.5) and detection.seconds == (100.0, 90.0)
    assert detection.models == ("small", "large")
    expected = [[200.1, 200.2], [190.1, 190.2], [150.1, 150.2], [140.1, 140.2]]
    np.testing.assert_array_equal(detection.values, expected)
    assert tracking[:3] == ((1.0,), (30.0,), ("SORT",))
    np.testing.assert_array_equal(tracking.values, [[130.1]])


def test_what_is_written_is_read_exactly(tmp_path):
    rng = np.random.default_rng(3)
    given = {
        "detection, fast": Accuracy((1.0, 0.75, 1 / 3), (100.0, 70.0), ("a", 'b "c"'), None),
        "tracking": Accuracy((1.0,), (30.0, 15.0, 0.1), ("z", "y", "x"), None),
    }
    shapes = {"detection, fast": (6, 2), "tracking": (3, 3)}
    given = {s: table._replace(values=rng.normal(size=shapes[s])) for s, table in given.items()}
    write_accuracy(tmp_path / "table.csv", given)
    found = read_accuracy(tmp_path / "table.csv")
    assert list(found) == list(given)
    for service, table in given.items():
        assert found[service][:3] == table[:3]
        np.testing.assert_array_equal(found[service].values, table.values)


@pytest.mark.parametrize("shape", [(3, 2), (4, 3), (5, 2), (4, 1)])
def test_values_of_another_shape_are_not_written(tmp_path, shape):
    table = Accuracy((1.0, 0.5), (30.0, 15.0), ("a", "b"), np.zeros(shape))
    path = tmp_path / "table.csv"
    with pytest.raises(ConfigError, match=r"service 'tracking': shape of values: .* give \(4, 2\)"):
        write_accuracy(path, {"tracking": table})
    assert not path.exists()


BAD = {
    "empty file": ("", r"columns: \[\] is not valid; give service, scale, second, model, value"),
    "no scale": (GOOD.replace("scale", "size"), "'size', .* give service, scale"),
    "no rows": (GOOD.splitlines()[0] + "\n", "number of rows: 0"),
    "duplicate": (GOOD + "small,0.50,detection,1,90.0,\n", "line 11, value: 1.0 .* give each once"),
    "gap": (
        GOOD.replace("large,1,detection,190.2,90,\n", ""),
        "service 'detection', scale 1, second 90, model 'large': value: None",
    ),
    "gap in model": (
        GOOD + "tiny,1,detection,1,100,\n",
        "service 'detection', scale 1, second 90, model 'tiny': value: None",
    ),
    "not a number": (GOOD.replace("140.2", "good"), "line 3, value: 'good' is not valid"),
    "not finite": (GOOD.replace("130.1", "nan"), "line 6, value: 'nan' is not valid"),
    "scale": (GOOD.replace("SORT,1,", "SORT,full,"), "line 6, scale: 'full' is not valid"),
    "second": (GOOD.replace("130.1,30", "130.1,inf"), "line 6, second: 'inf' is not valid"),
    "no model": (GOOD.replace("SORT", ""), "line 6, model: '' is not valid; give a name"),
    "no service": (GOOD.replace("tracking", " "), "line 6, service: '' is not valid; give a name"),
    "short row": (GOOD + "tiny,1\n", "line 11, service: None is not valid"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_in_one_line(tmp_path, case):
    text, message = BAD[case]
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as error:
        read_accuracy(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.csv' is not valid; cannot be read"):
        read_accuracy(tmp_path / "absent.csv")
