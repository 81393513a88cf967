"""`runs.report`: what a run wrote, in one file that refers to nothing else."""

import base64
import json
import re
from html.parser import HTMLParser

import pytest

from runs import report

pytestmark = pytest.mark.quick

PNG = bytes.fromhex("89504e470d0a1a0a") + bytes(range(256))
EVALUATION = """scenario,policy,metric,unit,mean,ci_low,ci_high,gap_to_bound,episodes,seeds
default,a3c,cost,s,12.34567,12.0,12.5,0.25,8,3
default,a3c,share,%,50.0,49.0,51.0,,8,3
default,bound,cost,s,9.87654,9.8,9.9,0.0,8,3
"""


class Tables(HTMLParser):
    """Cells of all rows, and the tags left open."""

    VOID = {"meta", "img"}

    def __init__(self, text):
        super().__init__()
        self.rows, self.open, self.inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        self.inside = tag in ("td", "th")
        if self.inside:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


@pytest.fixture
def folder(tmp_path):
    run = tmp_path / "run"
    (run / "figures").mkdir(parents=True)
    (run / "config.yaml").write_text("env: {name: queue}\nagent: {name: a3c}\nnum_updates: 5\n")
    (run / "evaluation.csv").write_text(EVALUATION)
    (run / "verdicts.csv").write_text("claim,verdict,why\na < b & c,fails,1 of 3 <script>\n")
    (run / "figures" / "evaluation.png").write_bytes(PNG)
    return run


def written(run, out):
    report.main([f"run={run}", f"hydra.run.dir={out}"])
    return (out / "report.html").read_text()


def test_a_report_holds_tables_figures_and_settings_and_refers_to_nothing(folder, tmp_path):
    text = written(folder, tmp_path / "out")
    tables = Tables(text)
    assert tables.open == []
    assert ["policy", "cost [s]", "share [%]", "gap to bound"] in tables.rows
    assert ["a3c", "12.35 [12, 12.5]", "50 [49, 51]", "25.0%"] in tables.rows
    assert ["bound", "9.877 [9.8, 9.9]", "", "0.0%"] in tables.rows
    assert ["a < b & c", "fails", "1 of 3 <script>"] in tables.rows
    (data,) = re.findall(r"data:image/png;base64,([^\"]+)", text)
    assert base64.b64decode(data) == PNG
    assert "<h1>a3c on queue</h1>" in text
    assert "num_updates: 5" in text
    assert "<script" not in text
    assert not re.search(r"(src|href)=\"(?!data:)", text)


def test_numbers_are_below_their_headings_and_quantiles_are_folded(folder, tmp_path):
    (folder / "quantiles.csv").write_text("policy,level,value\na3c,0.05,1.23456\n")
    text = written(folder, tmp_path / "out")
    assert '<th class="number">cost [s]</th>' in text
    assert "<th>policy</th>" in text
    (folded,) = re.findall(r"<details><summary>quantiles.csv</summary>(.*?)</details>", text, re.S)
    assert ["a3c", "0.05", "1.235"] in Tables(folded).rows


def test_a_sweep_has_its_table_and_every_job(folder, tmp_path):
    sweep = tmp_path / "sweep"
    for job in ("0", "1"):
        (sweep / job).mkdir(parents=True)
        (sweep / job / "config.yaml").write_text((folder / "config.yaml").read_text())
    (sweep / "sweep.csv").write_text("job,agent.lr,cost\n0,0.001,3.14159\n1,0.003,2.71828\n")
    text = written(sweep, tmp_path / "out")
    assert ["1", "0.003", "2.718"] in Tables(text).rows
    assert "<h1>sweep of 2 jobs: a3c on queue</h1>" in text
    assert re.findall(r"<summary>job (\d)</summary>", text) == ["0", "1"]


def test_a_run_with_pieces_below_it_is_titled_by_its_own_configuration(folder, tmp_path):
    whole = tmp_path / "benchmark"
    pieces = ((whole, "all", "1.0"), (whole / "allocators", "allocators", "2.0"))
    for path, suite, version in pieces:
        path.mkdir()
        (path / "config.yaml").write_text(f"suite: {suite}\n")
        (path / "versions.json").write_text(json.dumps({"packages": {"jax": version}}))
    text = written(whole, tmp_path / "out")
    assert "<h1>suite all</h1>" in text
    assert '<p class="where">benchmark, jax 1.0, None x None</p>' in text
    assert re.findall(r"<summary>job (\w+)</summary>", text) == ["allocators"]


def test_verdicts_of_a_figure_without_claims_are_a_heading(folder, tmp_path):
    (folder / "verdicts.csv").write_text("claim,verdict,why\n")
    assert ["claim", "verdict", "why"] in Tables(written(folder, tmp_path / "out")).rows


def test_measured_speed_is_shown_with_its_ratio(folder, tmp_path):
    record = {"name": "queue at 64", "value": 123456.7, "unit": "steps/s", "median_of": 5}
    others = {"NumPy": 51.2, "mobile-env": 600.0}
    records = [record | {"ratio_to": name, "ratio": ratio} for name, ratio in others.items()]
    (folder / "benchmark.json").write_text(json.dumps(records))
    rows = Tables(written(folder, tmp_path / "out")).rows
    ratios = "51.2 x NumPy; 600 x mobile-env"
    assert ["queue at 64", "1.235e+05", "steps/s", "5", "", ratios] in rows


@pytest.mark.parametrize(
    ("run", "valid"), [("nowhere", "no such folder"), ("", "it holds no config.yaml")]
)
def test_what_is_no_run_is_refused_in_one_line(tmp_path, capsys, run, valid):
    with pytest.raises(SystemExit) as stop:
        report.main([f"run={tmp_path / run}", f"hydra.run.dir={tmp_path / 'out'}"])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert valid in message
