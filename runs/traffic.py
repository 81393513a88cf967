"""``python -m runs.traffic``: a trace of vehicles on a road, simulated by SUMO.

Writes ``trace.fcd.xml.gz`` (or CSV), ``route.csv`` with the points of the road, and
``scenario.yaml``, with which the other programs run `vehicular` on it. It needs the extra ``sumo``.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jaxenv.data.sumo import ROUTE_COLUMNS, Route, read_fcd
from jaxenv.errors import ConfigError
from runs import program, tables
from runs.folders import claim_folder, write_records
from runs.settings import Config, check_integer

TRACES = {"xml": "trace.fcd.xml.gz", "csv": "trace.fcd.csv.gz"}


def main(argv: list[str] | None = None) -> None:
    """The program."""
    program.run_program("traffic", run, argv)


def run(config: Config, folder: Path) -> None:
    """Simulates a road with vehicles in both directions, and reads what SUMO wrote."""
    for name in ("lanes", "seconds"):
        check_integer(config, name)
    check_integer(config, "seed", low=0)
    for name in ("vehicles_per_hour", "speed_mps", "step_s"):
        value = config[name]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
            raise ConfigError(name, value, "give a positive number")
    if config["format"] not in TRACES:
        raise ConfigError("format", config["format"], f"choose one of {', '.join(TRACES)}")
    Route(config["points"])
    netconvert, sumo = (executable(name) for name in ("netconvert", "sumo"))
    claim_folder(folder)
    write_records(folder, config)
    _write_road(folder, config)
    trace = folder / TRACES[config["format"]]
    _call(
        *(netconvert, "--node-files", "road.nod.xml", "--edge-files", "road.edg.xml"),
        *("--offset.disable-normalization", "true", "--no-turnarounds", "true"),
        *("-o", "road.net.xml"),
        folder=folder,
    )
    _call(
        *(sumo, "-n", "road.net.xml", "-r", "road.rou.xml", "--fcd-output", trace.name),
        *("--fcd-output.attributes", "id,x,y,angle,speed", "--seed", str(config["seed"])),
        *("--end", str(config["seconds"]), "--step-length", str(config["step_s"])),
        *("--no-step-log", "true"),
        folder=folder,
    )
    points = [dict(zip(ROUTE_COLUMNS, point, strict=True)) for point in config["points"]]
    tables.write_csv(folder / "route.csv", ROUTE_COLUMNS, points)
    text = f"vehicular:\n  trace: {trace.name}\n  route: route.csv\n"
    (folder / "scenario.yaml").write_text(text)
    found = read_fcd(trace, folder / "route.csv")
    rows, columns = found.active.shape
    print(f"{rows} time steps of {found.slot_s:g} s, at most {columns} vehicles at once")
    print(f"written to {folder}; run it with: scenario={folder / 'scenario.yaml'}")


def executable(name: str) -> str:
    """The path of a program of SUMO: of the package eclipse-sumo, else the system's."""
    spec = importlib.util.find_spec("sumo")
    if spec is not None and spec.origin is not None:
        own = Path(spec.origin).parent / "bin" / name
        if own.exists():
            return str(own)
    found = shutil.which(name)
    if found is None:
        raise ConfigError("sumo", name, "it is not installed: pip install 'jaxenv[sumo]'")
    return found


def _write_road(folder: Path, config: Config) -> None:
    """The road as SUMO's node, edge and route files: one edge in each direction."""
    points = config["points"]
    ends = {"start": points[0], "end": points[-1]}
    nodes = [("node", {"id": name, "x": x, "y": y}) for name, (x, y) in ends.items()]
    ways = (("forward", "start", "end", points), ("backward", "end", "start", points[::-1]))
    edges, flows = [], [("vType", {"id": "car", "speedFactor": "normc(1,0.1,0.5,1.5)"})]
    for way, source, target, shape in ways:
        line = " ".join(f"{x},{y}" for x, y in shape)
        lanes, speed = config["lanes"], config["speed_mps"]
        edge = {"id": way, "from": source, "to": target, "numLanes": lanes, "speed": speed}
        edges.append(("edge", edge | {"shape": line}))
        flow = {"id": way, "type": "car", "from": way, "to": way, "begin": 0}
        flow |= {"end": config["seconds"], "departLane": "random", "departSpeed": "max"}
        rate = config["vehicles_per_hour"] / 2 / 3600
        flows.append(("flow", flow | {"period": f"exp({rate:.9g})"}))
    for name, root, elements in (
        ("road.nod.xml", "nodes", nodes),
        ("road.edg.xml", "edges", edges),
        ("road.rou.xml", "routes", flows),
    ):
        tree = ElementTree.Element(root)
        for tag, attributes in elements:
            ElementTree.SubElement(tree, tag, {key: str(x) for key, x in attributes.items()})
        ElementTree.ElementTree(tree).write(folder / name, encoding="utf-8")


def _call(*command: Any, folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise ConfigError("sumo", Path(command[0]).name, f"it failed: {lines[0]}")


if __name__ == "__main__":
    main()
