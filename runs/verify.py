"""``python -m runs.verify FOLDER``: runs a folder's configuration again and compares the tables."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path

from jaxenv import registry
from jaxenv.errors import ConfigError
from runs import evaluate, program, reproduce, tables, train
from runs.command_line import store_plugin_nodes
from runs.folders import run_folder, stored_config, versions
from runs.jobs import make_job
from runs.settings import Config, check_names, stored_yaml

NOT_COMPARED = ("timing.csv",)
DIFFERENCES = ("file", "row", "column", "published", "again", "difference")
IDENTICAL, EQUAL, DIFFERS, MISSING = "identical", "within tolerance", "differs", "not made again"


@dataclasses.dataclass
class Comparison:
    """Of one file: its cells, the rows of ``verify.csv``, and the verdict."""

    file: str
    cells: int
    unequal: list[tables.Row]
    verdict: str

    @property
    def largest(self) -> float:
        """The largest relative difference of a cell; infinite where cells cannot be compared."""
        return max((row["difference"] for row in self.unequal), default=0.0)


def main(argv: list[str] | None = None) -> None:
    """The program; a bare argument is the folder."""
    argv = list(sys.argv[1:] if argv is None else argv)
    argv = [a if "=" in a or a.startswith("-") else f"run='{a}'" for a in argv]
    program.run_program("verify", run, argv)


def run(config: Config, folder: Path) -> None:
    """Runs the configuration of ``config["run"]`` again.

    Raises:
        SystemExit: status 1 where a table differs by more than the tolerance.
    """
    source, tolerance = Path(config["run"]), config["tolerance"]
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or not tolerance >= 0:
        raise ConfigError("tolerance", tolerance, "give a number of at least 0")
    if not (source / "config.yaml").is_file():
        valid = "it holds no config.yaml that train, evaluate or reproduce wrote"
        raise ConfigError("run", str(source), valid if source.is_dir() else "no such folder")
    try:
        stored = stored_yaml(source / "config.yaml")
    except Exception as error:
        valid = f"its config.yaml cannot be read ({type(error).__name__})"
        raise ConfigError("run", str(source), valid) from None
    name = program_of(stored) if isinstance(stored, dict) else None
    if name is None:
        valid = "its configuration is of none of train, evaluate, reproduce"
        raise ConfigError("run", str(source), valid)
    files = sorted(p.name for p in source.glob("*.csv") if p.name not in NOT_COMPARED)
    if not files:
        raise ConfigError("run", str(source), "it holds no tables to compare")
    if not config["any_version"]:
        check_versions(source)
    again = folder / "again"
    training = None
    if name == "evaluate" and stored["checkpoint"] is not None:
        training = trained_again(source, stored, config["training"], folder / "training")
    carry_out(name, stored, again, training)
    compared = [compare(source / file, made_again(folder, file), tolerance) for file in files]
    rows = [row for comparison in compared for row in comparison.unequal]
    tables.write_csv(folder / "verify.csv", DIFFERENCES, rows)
    print(f"\n{source} and {again}")
    print(report(compared))
    print(origin(source))
    print(f"written to {folder}")
    if any(comparison.verdict in (DIFFERS, MISSING) for comparison in compared):
        raise SystemExit(1)


def program_of(stored: Config) -> str | None:
    """The program that wrote a configuration; None where it cannot be run again."""
    settings = {"figure": "reproduce", "checkpoint_interval": "train", "num_episodes": "evaluate"}
    return next((name for setting, name in settings.items() if setting in stored), None)


def check_versions(source: Path) -> None:
    """Refuses results of other versions than those installed."""
    path = source / "versions.json"
    tell = "any_version=true compares anyway"
    if not path.is_file():
        raise ConfigError("run", str(source), f"it holds no versions.json; {tell}")
    made, here = json.loads(path.read_text())["packages"], versions()["packages"]
    other = [f"{name} {made[name]} (here {here.get(name)})" for name in made]
    other = [text for name, text in zip(made, other, strict=True) if made[name] != here.get(name)]
    if other:
        raise ConfigError("run", str(source), f"it was made with {', '.join(other)}; {tell}")


def origin(source: Path) -> str:
    """Where the published results were made, and where those made again."""
    path = source / "versions.json"
    made = json.loads(path.read_text()) if path.is_file() else {}
    words = []
    for found in (made, versions()):
        hardware = found.get("hardware", {})
        words.append(f"revision {found.get('git_revision')} on {hardware.get('cpu')}")
    return f"published by {words[0]}, made again by {words[1]}"


def trained_again(source: Path, stored: Config, training: str | None, folder: Path) -> str:
    """The run whose checkpoint an evaluation measures: as it is, or trained again."""
    if training is not None:
        return training
    if (source / "training.yaml").is_file():
        carry_out("train", stored_yaml(source / "training.yaml"), folder)
        return str(folder)
    if not Path(stored["checkpoint"]).exists():
        valid = "the run that it measures is not there; give training=DIR"
        raise ConfigError("checkpoint", stored["checkpoint"], valid)
    return stored["checkpoint"]


def carry_out(name: str, stored: Config, folder: Path, training: str | None = None) -> None:
    """Runs a program on a stored configuration. training: the run that an evaluation measures."""
    config = completed(name, stored)
    program.set_up(config)
    if name == "train":
        train.train([make_job(config, folder)])
    elif name == "evaluate":
        config = config | {"checkpoint": training}
        run_of = None if training is None else run_folder(training, "training")
        evaluate.carry_out(config, folder, run_of and stored_config(run_of))
    else:
        reproduce.run(config, folder)


def completed(name: str, stored: Config) -> Config:
    """A stored configuration of a program with today's defaults of what it does not say.

    To be called within a job of any program.

    Raises:
        ConfigError: it has a setting that there no longer is.
    """
    from hydra import compose
    from omegaconf import OmegaConf

    registry.load_plugins(check_names("plugins", stored.get("plugins", [])))
    chosen = {g: v["name"] for g, v in stored.items() if isinstance(v, dict) and "name" in v}
    store_plugin_nodes(chosen.get("env"))
    config = compose(name, overrides=[f"{group}={choice}" for group, choice in chosen.items()])
    return _overlaid(OmegaConf.to_container(config, resolve=True), stored)


def _overlaid(config: Config, stored: Config, prefix: str = "") -> Config:
    """``config`` with stored values, dictionaries name by name."""
    for name, value in stored.items():
        if name not in config:
            raise ConfigError(f"{prefix}{name}", value, "this version has no such setting")
        both = isinstance(value, dict) and isinstance(config[name], dict)
        value = _overlaid(config[name], value, f"{prefix}{name}.") if both else value
        config = config | {name: value}
    return config


def made_again(folder: Path, file: str) -> Path | None:
    """The table of a name that lies least deep in a folder: some stand in folders of their own."""
    found = sorted(folder.rglob(file), key=lambda path: (len(path.parts), path))
    return found[0] if found else None


# ---- comparing ---------------------------------------------------------------------------------


def compare(published: Path, again: Path | None, tolerance: float = 0.0) -> Comparison:
    """Every cell of a published table with that of the same row and column made again."""
    name, old = published.name, tables.read_csv(published)
    cells = sum(len(row) for row in old)
    if again is None:
        return Comparison(name, cells, [], MISSING)
    new = tables.read_csv(again)
    unequal = []
    for number, row in enumerate(old):
        other = new[number] if number < len(new) else {}
        for column, value in row.items():
            made = other.get(column, "")
            if made != value:
                off = difference(value, made)
                cells_of = (name, number + 1, column, value, made, off)
                unequal.append(dict(zip(DIFFERENCES, cells_of, strict=True)))
    largest = max((row["difference"] for row in unequal), default=0.0)
    if len(new) != len(old) or largest > tolerance:
        return Comparison(name, cells, unequal, DIFFERS)
    return Comparison(name, cells, unequal, EQUAL if unequal else IDENTICAL)


def difference(one: str, other: str) -> float:
    """The relative difference of two numbers; infinite where a text is none."""
    try:
        a, b = float(one), float(other)
    except ValueError:
        return math.inf
    if a == b or (math.isnan(a) and math.isnan(b)):
        return 0.0
    off = abs(a - b) / max(abs(a), abs(b))
    return off if math.isfinite(off) else math.inf


def report(compared: list[Comparison]) -> str:
    """A line per table, then the cell that differs most in each that does."""
    lines, worst = [], []
    for c in compared:
        counts = [str(c.cells), str(len(c.unequal)), f"{c.largest:.3g}"]
        lines.append([c.file, *counts, c.verdict])
        if c.verdict == DIFFERS and c.unequal:
            row = max(c.unequal, key=lambda row: row["difference"])
            worst.append(
                f"{c.file}, unequal from row {c.unequal[0]['row']} on, most in row {row['row']}, "
                f"{row['column']}: {row['again']!r}, published {row['published']!r}"
            )
        elif c.verdict == DIFFERS:
            worst.append(f"{c.file}: there are more rows than published")
    header = ["table", "cells", "unequal", "largest relative difference", "verdict"]
    return "\n".join([tables.format_table(header, lines), *worst])


if __name__ == "__main__":
    main()
