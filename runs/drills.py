"""``python -m runs.drills``: tries on purpose what must never lose work, and counts.

Each drill works below the program's folder, which ends with ``drills.csv``, a row per thing tried.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from runs import drilling, program, tables
from runs.folders import claim_folder, write_records
from runs.settings import Config, check_integer, check_names

COLUMNS = ("drill", "what", "count", "unit", "failed", "seconds", "note")


def main(argv: list[str] | None = None) -> None:
    """The program."""
    program.run_program("drills", run, argv)


def run(config: Config, folder: Path) -> None:
    """Runs the chosen drills, one after the other, and reports after each.

    Raises:
        SystemExit: status 1 if anything failed.
    """
    check_integer(config, "seed", low=0)
    drills = {name: drilling.drill(name) for name in check_names("drills", config["drills"])}
    claim_folder(folder)
    write_records(folder, config)
    rows: list[tables.Row] = []
    for name, drill in drills.items():
        print(f"{name}: {' '.join(drill.__doc__.split('.')[0].split())}", flush=True)
        began = time.perf_counter()
        for outcome in drill(config, folder / name):
            seconds = f"{time.perf_counter() - began:.0f}"
            rows.append({"drill": name, "seconds": seconds} | dataclasses.asdict(outcome))
            tables.write_csv(folder / "drills.csv", COLUMNS, rows)
    print(report(rows))
    print(f"written to {folder}")
    if any(row["failed"] for row in rows):
        raise SystemExit(1)


def report(rows: list[tables.Row]) -> str:
    """The rows as the printed table."""
    names = ("drill", "what", "count", "unit", "failed", "note")
    lines = [[f"{row[n]:,}" if isinstance(row[n], int) else row[n] for n in names] for row in rows]
    return tables.format_table(names, lines)


if __name__ == "__main__":
    main()
