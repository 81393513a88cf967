"""``python -m runs.benchmark suite=env|train|allocators``: measured speed as JSON and a table."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from jaxenv.errors import ConfigError
from runs import benchmarks, program, tables
from runs.benchmarks import Measurement
from runs.program import Config, check_integer


def main(argv: list[str] | None = None) -> None:
    """The program."""
    program.run_program("benchmark", run, argv)


def run(config: Config, folder: Path) -> None:
    """Runs the benchmarks of a suite and writes ``benchmark.json``."""
    for name in ("num_steps", "num_seeds", "num_updates", "repeats", "num_instances"):
        check_integer(config, name)
    for name in ("seed", "mobile_env_s", "num_reference"):
        check_integer(config, name, low=0)
    for name in ("num_envs", "num_devices", "batch_sizes"):
        sizes = config[name]
        if not isinstance(sizes, list) or not all(isinstance(n, int) and n > 0 for n in sizes):
            raise ConfigError(name, sizes, "give a list of positive integers")
    functions = benchmarks.suite_benchmarks(config["suite"])
    if not functions:
        raise ConfigError("suite", config["suite"], "no benchmark is registered in it")
    program.claim_folder(folder)
    program.write_records(folder, config)
    measurements = [m for function in functions.values() for m in function(config)]
    write_benchmark(folder / "benchmark.json", measurements)
    print(measurement_table(measurements))
    print(f"written to {folder}")


def write_benchmark(path: Path, measurements: list[Measurement]) -> None:
    """One record per measurement, each with the hardware and the versions it was made on."""
    versions = program.versions()
    where = {"hardware": versions.pop("hardware"), "versions": versions}
    records = [dataclasses.asdict(measurement) | where for measurement in measurements]
    path.write_text(json.dumps(records, indent=2) + "\n")


def measurement_table(measurements: list[Measurement]) -> str:
    """Measurements as the printed table."""
    lines = []
    for m in measurements:
        ratio = f"{m.ratio:.3g} x {m.ratio_to}" if m.ratio is not None else ""
        lines.append([m.name, f"{m.value:,.4g}", m.unit, str(m.median_of), ratio])
    return tables.format_table(["measurement", "value", "unit", "median of", "ratio"], lines)


if __name__ == "__main__":
    main()
