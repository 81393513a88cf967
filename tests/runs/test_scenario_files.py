"""One file names the inputs of every system; the command line wins; what is wrong is one line."""

from __future__ import annotations

import re

import pytest

from runs import evaluate, traffic
from runs.scenario_files import scenario_settings
from runs.settings import CONF, build_env, stored_yaml
from runs.tables import read_csv
from tests.runs.conftest import PROBE, ROOT

FILE = """
guess:
  wrong_cost: 3.0
services:
  sites: sites.csv
  users: users.csv
  uplinks: rates.csv
  num_servers: 2
  num_agents: 2
vehicular:
  trace: road.fcd.csv
  route: [[0, 0], [0, 400]]
  networks: [net.csv]
splitting:
  network: net.csv
  trace: rates.csv
robust:
  profile: net.csv
  links: links.csv
partitioning:
  network: net.csv
  num_blocks: 1
  trace: rates.csv
"""
INPUTS = {
    "sites.csv": "LATITUDE,LONGITUDE\n60,10\n60.001,10\n",
    "users.csv": "Latitude,Longitude\n60,10\n60.0009,10\n60.001,10\n",
    "road.fcd.csv": "time,id,x,y,angle\n0,a,2,100,0\n1,a,2,110,0\n",
    "rates.csv": "rate [bit/s]\n1e6\n2e6\n",
    "links.csv": "rate [bit/s],bandwidth [Hz]\n1e6,1e6\n",
    "net.csv": "layer,work [FLOP],output [element],parameters [count],mean [s],variance [s^2]\n"
    "input,0,100,0,0,0\nall,2e9,10,5,0.02,1e-6\n",
}


@pytest.mark.quick
def test_the_file_of_the_documentation_names_settings_that_there_are(workplace):
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/data.md").read_text(), flags=re.DOTALL)
    (workplace / "city.yaml").write_text(text)
    sections = stored_yaml(workplace / "city.yaml")
    assert set(sections) == {"vehicular", "services", "splitting", "robust", "partitioning"}
    for name in sections:
        assert settings("city.yaml", name).items() >= sections[name].items()


@pytest.fixture
def scenario(workplace):
    """The path of the file, in a folder that is not the working one, with its inputs beside it."""
    folder = workplace / "data"
    folder.mkdir()
    for name, text in INPUTS.items():
        (folder / name).write_text(text)
    (folder / "measured.yaml").write_text(FILE)
    return folder / "measured.yaml"


def settings(path, name: str):
    """The environment's own settings, and those of the file."""
    env = stored_yaml(CONF / "env" / f"{name}.yaml")
    return env | scenario_settings(str(path), env)


@pytest.mark.quick
def test_one_file_swaps_the_inputs_of_every_system(scenario):
    built = {
        name: build_env({"env": settings(scenario, name), "precision": "float32"})
        for name in ("services", "splitting", "robust", "partitioning")
    }
    assert built["services"][1].local_weight.tolist() == [1, 2]
    assert built["services"][0].num_servers == 2
    assert built["splitting"][0].contexts == "given" and built["splitting"][0].num_splits == 2
    assert float(built["splitting"][1].segment_s[1]) == pytest.approx(0.02)
    assert built["services"][1].uplink_mbps.tolist() == [1, 2]
    assert built["robust"][1].num_points.tolist() == [2, 10]
    assert built["robust"][1].link_mhz.tolist() == pytest.approx([1])
    assert built["partitioning"][1].table_rate_bps[:, 0].tolist() == [1e6, 2e6]
    road = settings(scenario, "vehicular") | {"max_steps": 2, "num_rsus": 1}
    env, params = build_env({"env": road, "precision": "float32"})
    assert (env.num_vehicles, env.trace_rows, env.max_layers) == (1, 2, 2)
    assert params.trace_position_m[:, 0].tolist() == [100, 110]


def test_a_program_takes_the_file_and_the_command_line_wins(workplace, scenario):
    options = ["baselines=[constant]", "num_episodes=4", f"scenario={scenario}"]
    evaluate.main([*PROBE, *options, "hydra.run.dir=file"])
    evaluate.main([*PROBE, *options, "env.wrong_cost=5", "hydra.run.dir=line"])
    used = [stored_yaml(workplace / name / "resolved.yaml") for name in ("file", "line")]
    assert [resolved["env"]["wrong_cost"] for resolved in used] == [3.0, 5.0]
    rows = read_csv(workplace / "file/evaluation.csv")
    assert {row["scenario"] for row in rows} == {"measured"}
    cost, success = (
        float(next(r["mean"] for r in rows if r["metric"] == name and r["policy"] == "constant"))
        for name in ("cost", "success")
    )
    assert cost == pytest.approx(0.5 + 3 * (1 - success / 100), rel=1e-5)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "scenario: 'bad.yaml' is not valid; it cannot be read (No such file"),
        ("guess: [", "scenario: 'bad.yaml' is not valid; it cannot be read (it is no YAML"),
        ("- guess", "scenario: 'bad.yaml' is not valid; give it a section 'guess' of settings"),
        (
            "robust: {}",
            "scenario: 'bad.yaml' is not valid; give it a section 'guess' of settings; ",
        ),
        ("guess: {wrong_cots: 1}", "bad.yaml: guess.wrong_cots: 1 is not valid; did you mean wron"),
        ("guess: {wrong_cost: -1}", "wrong_cost: -1.0 is not valid; give a positive number"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(workplace, capsys, text, line):
    if text is not None:
        (workplace / "bad.yaml").write_text(text)
    with pytest.raises(SystemExit):
        evaluate.main([*PROBE, "scenario=bad.yaml", "num_episodes=1"])
    error = capsys.readouterr().err
    assert error.startswith(f"error: {line}") and error.count("\n") == 1


def test_a_simulated_road_is_read_back(workplace):
    pytest.importorskip("sumo", reason="needs the extra sumo")
    bend = "points=[[0,0],[300,0],[300,200]]"
    traffic.main([bend, "seconds=120", "format=csv", "hydra.run.dir=road"])
    road = settings(workplace / "road/scenario.yaml", "vehicular") | {"max_steps": 60}
    env, params = build_env({"env": road, "precision": "float32"})
    assert env.trace_rows == 120 and set(params.trace_direction.tolist()) == {1, -1}
    assert 300 < float(params.trace_position_m.max()) <= 500


@pytest.mark.quick
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["points=[[0,0]]"], "route: [[0, 0]] is not valid; give at least two points"),
        (["format=pdf"], "format: 'pdf' is not valid; choose one of xml, csv"),
        (["speed_mps=0"], "speed_mps: 0 is not valid; give a positive number"),
    ],
)
def test_bad_roads_are_refused(workplace, capsys, arguments, line):
    with pytest.raises(SystemExit):
        traffic.main(arguments)
    assert capsys.readouterr().err.startswith(f"error: {line}")
