"""``python -m runs.benchmark suite=env|train|allocators|all``: speed as JSON, table and figure."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

from tqdm import tqdm

from jaxenv.errors import ConfigError
from jaxenv.rendering.colours import BLUE, BROWN, GREEN, ORANGE, PURPLE, RED, SKY
from runs import benchmarks, figures, program, tables
from runs.benchmarks import Measurement
from runs.folders import claim_folder, versions, write_records
from runs.gpu import chosen
from runs.settings import Config, check_integer

ALL = "all"
STYLES = "-", "--", "-.", ":"  # of lines, by number of devices
COLOURS, MARKERS = (BLUE, ORANGE, GREEN, PURPLE, RED, SKY, BROWN), "os^DvPX*"  # by system
FILE = "benchmark.json"
SHARED = ("seed", "repeats", "num_envs", "num_steps", "reference_s")


def main(argv: list[str] | None = None) -> None:
    """The program."""
    program.run_program("benchmark", run, argv)


def run(config: Config, folder: Path) -> None:
    """Runs the benchmarks of a suite and writes ``benchmark.json``."""
    for name in ("num_steps", "num_seeds", "num_updates", "repeats", "num_instances"):
        check_integer(config, name)
    for name in ("seed", "reference_s", "num_reference"):
        check_integer(config, name, low=0)
    for name in ("num_envs", "num_devices", "batch_sizes"):
        sizes = config[name]
        if not isinstance(sizes, list) or not all(isinstance(n, int) and n > 0 for n in sizes):
            raise ConfigError(name, sizes, "give a list of positive integers")
    every = config["suite"] == ALL
    functions = {} if every else benchmarks.suite_benchmarks(config["suite"])
    if not every and not functions:
        raise ConfigError("suite", config["suite"], "no benchmark is registered in it")
    claim_folder(folder)
    write_records(folder, config)
    failed: list[str] = []
    if every:
        measurements, failed = run_pieces(config, folder)
    else:
        bar = tqdm(functions.values(), unit="benchmark", disable=None)
        measurements = [m for function in bar for m in function(config)]
    write_benchmark(folder / FILE, measurements)
    print(measurement_table(measurements))
    curves = throughputs(measurements)
    if curves:
        throughput_figure(curves, folder / "figures" / "throughput.png")
    print(f"written to {folder}")
    if failed:
        raise SystemExit(1)


def run_pieces(config: Config, folder: Path) -> tuple[list[Measurement], list[str]]:
    """What each piece measures in a process of its own, in its folder in ``folder``; which failed.

    ``SHARED`` settings hold in every piece that has no own one.
    """
    given = [f"{name}={json.dumps(config[name])}" for name in SHARED]
    measurements, failed = [], []
    for name, own in tqdm(chosen(config).items(), unit="piece", disable=None):
        place = folder / name
        arguments = [*given, *own, f"hydra.run.dir={place}"]
        status = subprocess.run([sys.executable, "-m", "runs.benchmark", *arguments]).returncode
        if status:
            print(f"{name} failed with status {status}: its measurements are missing")
            failed.append(name)
            continue
        measurements += read_benchmark(place / FILE)
    return measurements, failed


def write_benchmark(path: Path, measurements: list[Measurement]) -> None:
    """One record per measurement, each with the hardware and the versions it was made on."""
    made_on = versions()
    where = {"hardware": made_on.pop("hardware"), "versions": made_on}
    records = [dataclasses.asdict(measurement) | where for measurement in measurements]
    path.write_text(json.dumps(records, indent=2) + "\n")


def read_benchmark(path: Path) -> list[Measurement]:
    """What `write_benchmark` wrote."""
    names = [field.name for field in dataclasses.fields(Measurement)]
    records = json.loads(path.read_text())
    return [Measurement(**{k: r[k] for k in names if k in r}) for r in records]


def throughputs(
    measurements: list[Measurement],
) -> dict[tuple[str, int], dict[int, Measurement]]:
    """By system and number of devices, decisions per second by number of environments."""
    curves: dict[tuple[str, int], dict[int, Measurement]] = {}
    for m in measurements:
        match = re.fullmatch(r"(\w+) at (\d+)(?: on (\d+) devices)?", m.name)
        if match:
            curves.setdefault((match[1], int(match[3] or 1)), {})[int(match[2])] = m
    return curves


def throughput_figure(curves: dict[tuple[str, int], dict[int, Measurement]], path: Path) -> None:
    """Decisions per second over the number of environments, with the range of the repetitions.

    A color and a marker per system, a line style per number of devices.
    """
    figure, (ax,) = figures.new_figure(1, size=(4.8, 3.2))
    systems = list(dict.fromkeys(name for name, _ in curves))
    counts = sorted({count for _, count in curves})
    for (name, count), curve in curves.items():
        sizes = sorted(curve)
        value, least, most = (
            [getattr(curve[n], field) for n in sizes] for field in ("value", "least", "most")
        )
        place, style = systems.index(name), STYLES[counts.index(count) % len(STYLES)]
        color, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        label = name if count == 1 else f"{name}, {count} devices"
        ax.plot(sizes, value, style, marker=marker, markersize=4, color=color, label=label)
        ax.fill_between(sizes, least, most, color=color, alpha=0.2, linewidth=0)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xlabel("environments in one call")
    ax.set_ylabel("decisions per second")
    ax.legend(frameon=False, fontsize=8)
    figures.save_figure(figure, path)


TABLE = ("measurement", "value", "unit", "median of", "range", "ratios")


def table_lines(measurements: list[Measurement]) -> list[list[str]]:
    """The cells of a table under ``TABLE``: a line per name, with its ratios to all others."""
    by_name: dict[str, list[Measurement]] = {}
    for m in measurements:
        by_name.setdefault(m.name, []).append(m)
    lines = []
    for name, (m, *more) in by_name.items():
        spread = "" if m.least is None or m.most is None else f"{m.least:,.3g} to {m.most:,.3g}"
        ratios = [f"{x.ratio:.3g} x {x.ratio_to}" for x in (m, *more) if x.ratio is not None]
        lines.append([name, f"{m.value:,.4g}", m.unit, str(m.median_of), spread, "; ".join(ratios)])
    return lines


def measurement_table(measurements: list[Measurement]) -> str:
    """Measurements as the printed table."""
    return tables.format_table(list(TABLE), table_lines(measurements))


if __name__ == "__main__":
    main()
