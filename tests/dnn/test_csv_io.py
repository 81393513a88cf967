"""Profiles as CSV files: round trip and what is refused."""

import re

import numpy as np
import pytest

import jaxenv.dnn as dnn

pytestmark = pytest.mark.quick

HEADER = "layer,work [FLOP],output [element],parameters [count]\n"
GOOD = HEADER + "input,0,3072,0\nconv,1.5e9,4096,100\nfc,10,10,11\n"


@pytest.mark.parametrize("name", dnn.networks())
def test_round_trip(tmp_path, name):
    profile = dnn.profile(name, granularity="layer")
    path = tmp_path / f"{name}.csv"
    dnn.write_csv(profile, path)
    assert path.read_text().startswith(HEADER + "input,0,2764800,0\n")
    read = dnn.read_csv(path)
    assert (read.name, read.names) == (profile.name, profile.names)
    for field in ("flops", "output_elements", "parameters"):
        given, expected = getattr(read, field), getattr(profile, field)
        assert given.dtype == expected.dtype
        np.testing.assert_array_equal(given, expected)


def test_fractional_work_survives_exactly(tmp_path):
    profile = dnn.Profile("p", ("input", "a"), [0, 1e9 / 3], [4, 5], [0, 6])
    dnn.write_csv(profile, tmp_path / "p.csv")
    assert dnn.read_csv(tmp_path / "p.csv").flops[1] == 1e9 / 3


def test_columns_in_any_order_with_a_byte_order_mark_and_comments_of_ones_own(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_bytes(
        "\ufeffnote,parameters [count], layer,output [element],work [FLOP]\r\n"
        "x,0,input,12,0\r\ny,7,a,8,9\r\n".encode()
    )
    read = dnn.read_csv(path)
    assert (read.name, read.names) == ("mine", ("input", "a"))
    assert (read.flops[1], read.output_elements[1], read.parameters[1]) == (9, 8, 7)


def test_blank_rows_are_no_rows(tmp_path):
    """They are counted as lines, as an editor does."""
    expected, path = tmp_path / "good.csv", tmp_path / "blank.csv"
    expected.write_text(GOOD)
    spread = "\n  \n" + GOOD.replace("conv", " \t\n, ,\nconv") + "\n\n"
    path.write_text(spread)
    good, read = dnn.read_csv(expected), dnn.read_csv(path)
    assert read.names == good.names == ("input", "conv", "fc")
    np.testing.assert_array_equal(read.flops, good.flops)
    for old, new, message in (
        ("1.5e9", "much", "line 7, work .*: 'much'"),
        ("100", "100,7", r"line 7: \['7'\] is not valid; there is no such column"),
        ("input,0", "input,4", "line 4, work .*: 4 is not valid; the input has 0"),
        ("input", "conv0", "line 4, layer: 'conv0' .* give 'input' first"),
    ):
        path.write_text(spread.replace(old, new))
        with pytest.raises(ValueError, match=message):
            dnn.read_csv(path)


REFUSED = {
    "empty": ("", "the file is empty; give the columns layer, work"),
    "blank": ("\n , \n", "the file is empty; give the columns layer, work"),
    "header only": (HEADER, "no layers"),
    "missing column": (GOOD.replace(",parameters [count]", ""), r"'parameters \[count\]' is miss"),
    "missing work": (GOOD.replace("work", "effort"), r"column 'work \[FLOP\]' is missing"),
    "other unit": (GOOD.replace("[FLOP]", "[GFLOP]"), r"'work \[GFLOP\]' .* 'work \[FLOP\]'"),
    "no unit": (GOOD.replace("output [element]", "output"), r"'output' .* 'output \[element\]'"),
    "bytes": (GOOD.replace("[element]", "[byte]"), r"'output \[byte\]' is not valid"),
    "column twice": (GOOD.replace("layer,", "layer,layer,"), "'layer' is not valid twice"),
    "text": (GOOD.replace("1.5e9", "much"), r"line 3, work \[FLOP\]: 'much' is not valid"),
    "negative": (GOOD.replace("1.5e9", "-1"), r"line 3, work \[FLOP\]: '-1' .* finite number >= 0"),
    "NaN": (GOOD.replace("1.5e9", "nan"), "line 3, .*: 'nan'"),
    "infinite": (GOOD.replace("1.5e9", "inf"), "line 3, .*: 'inf'"),
    "fraction": (GOOD.replace("4096", "4096.5"), r"line 3, output .* '4096.5' .* integer >= 0"),
    "short row": (GOOD.replace(",10,11", ",10"), r"line 4, parameters \[count\]: None"),
    "empty cell": (GOOD.replace("4096", ""), r"line 3, output \[element\]: ''"),
    "no input": (HEADER + "conv,1,1,1\n", "line 2, layer: 'conv' .* give 'input' first"),
    "working input": (GOOD.replace("input,0", "input,4"), r"line 2, work \[FLOP\]: 4 is not"),
    "nameless": (GOOD.replace("conv", ""), "line 3, layer: '' .* unique name"),
    "name twice": (GOOD.replace("fc", "conv"), "line 3, layer: 'conv' .* unique name"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_files_are_refused_in_one_line(tmp_path, case):
    text, message = REFUSED[case]
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        dnn.read_csv(path)
    assert str(error.value).startswith(f"{path}: ")
    assert re.search(message, str(error.value))
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(ValueError, match="absent.csv: cannot be read"):
        dnn.read_csv(tmp_path / "absent.csv")
    path = tmp_path / "binary.csv"
    path.write_bytes(b"\xff\xfe\x00layer")
    with pytest.raises(ValueError, match="binary.csv: cannot be read"):
        dnn.read_csv(path)
