"""``python -m runs.reproduce figure=SYSTEM/FIGURE``: a figure, and a verdict per claim."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

from tqdm import tqdm

from jaxenv.errors import ConfigError
from runs import program, reproductions, tables
from runs.command_line import resumed
from runs.figures import save_figure
from runs.folders import claim_folder, hold_folder, write_records
from runs.reproductions import Reproduction, Verdict
from runs.settings import Config, check_integer

SCALES = ("smoke", "paper")
VERDICTS = tuple(field.name for field in dataclasses.fields(Verdict))


def main(argv: list[str] | None = None) -> None:
    """The program."""
    program.run_program("reproduce", run, argv)


def run(config: Config, folder: Path) -> None:
    """Reproduces the chosen figures; each has a CSV and a PNG, all share ``verdicts.csv``.

    A resumed run reads the trainings that were finished, goes on with the one that was begun, and
    measures everything again.
    """
    if config["resume"] is not None:
        config = resumed(config, folder)
    if config["scale"] not in SCALES:
        raise ConfigError("scale", config["scale"], f"choose one of {', '.join(SCALES)}")
    check_integer(config, "seed", low=0)
    for name in ("num_seeds", "num_updates", "eval_episodes", "episodes_per_call"):
        if config[name] is not None:
            check_integer(config, name)
    chosen = reproductions.selected(config["figure"])
    check_read(config, chosen)
    if config["resume"] is None:
        claim_folder(folder)
    else:
        hold_folder(folder)
    write_records(folder, config | {"resume": None})
    verdicts: list[Verdict] = []
    with tqdm(chosen.items(), unit="figure", disable=len(chosen) == 1) as bar:
        for name, function in bar:
            bar.set_description(name)
            verdicts += write_reproduction(folder, name, function(config))
            rows = [dataclasses.asdict(verdict) for verdict in verdicts]
            tables.write_csv(folder / "verdicts.csv", VERDICTS, rows)
    print(verdict_table(verdicts))
    print(f"written to {folder}")


def check_read(config: Config, chosen: Collection[str]) -> None:
    """Refuses what of the published systems only figures of the vehicular one read."""
    systems = ("partitioning", "robust", "services", "splitting")
    others = [name for name in chosen if name.split("/")[0] in systems]
    for name in ("checkpoint", "lookahead"):
        if config[name] and others:
            raise ConfigError(name, config[name], f"{others[0]} does not read it; vehicular does")


def write_reproduction(folder: Path, name: str, result: Reproduction) -> list[Verdict]:
    """Writes ``NAME.csv`` and ``figures/NAME.png``, slashes as underscores."""
    stem = name.replace("/", "_")
    if result.rows:
        tables.write_csv(folder / f"{stem}.csv", list(result.rows[0]), result.rows)
    if result.figure is not None:
        save_figure(result.figure, folder / "figures" / f"{stem}.png")
    return result.verdicts


def verdict_table(verdicts: list[Verdict]) -> str:
    """Verdicts as the printed table."""
    lines = []
    for v in verdicts:
        measured = "" if v.measured is None else f"{v.measured:.4g}"
        if v.ci_low is not None and v.ci_high is not None:
            measured += f" [{v.ci_low:.4g}, {v.ci_high:.4g}]"
        lines.append([v.claim, v.paper, v.expected, measured, v.verdict, v.why])
    header = ["claim", "paper", "expected", "measured", "verdict", "why"]
    return tables.format_table(header, lines)


if __name__ == "__main__":
    main()
