"""``python -m runs.sweep``: the jobs of sweeps in one table and one figure.

A sweep of `runs.train` ends with the same, of its own folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from jaxenv.errors import ConfigError
from runs import program
from runs.figures import sweep_figure
from runs.folders import claim_folder, stored_config
from runs.settings import Config, stored_yaml
from runs.tables import BOUND, EVALUATION, Row, format_table, interval, read_csv, write_csv

# Settings that say how and where a job ran, not what it trained; the scenario follows the rest.
IGNORED = {
    *("resume", "scenario", "launcher", "sweeper", "devices", "distributed", "logger", "plugins"),
    *("objective", "keep_checkpoints", "baselines"),
}


class SweepFolder(Callback):
    """Remembers the folder of the sweep that this process has run."""

    folder: Path | None = None

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        SweepFolder.folder = Path(config.hydra.sweep.dir)


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """A nested configuration with dotted names."""
    if not isinstance(node, dict):
        return {prefix: node}
    parts = [flat(value, f"{prefix}.{key}".lstrip(".")) for key, value in node.items()]
    return {name: value for part in parts for name, value in part.items()}


def swept(configs: Sequence[Config]) -> list[str]:
    """The dotted names whose values differ between the jobs of a sweep."""
    jobs = [flat(config) for config in configs]
    names = dict.fromkeys(name for job in jobs for name in job)
    return [
        name
        for name in names
        if name.split(".")[0] not in IGNORED
        and any(job.get(name) != jobs[0].get(name) for job in jobs)
    ]


def job_folders(folders: Sequence[Path]) -> dict[str, Path]:
    """The folders of finished training runs in or below ``folders``, in order, by unique names.

    A name is the path below the folder, which itself is named where there are several.
    """
    jobs = {}
    for folder in folders:
        found = sorted(
            (path.parent for path in folder.rglob("evaluation.csv") if _trained(path.parent)),
            key=lambda path: [(len(part), part) for part in path.relative_to(folder).parts],
        )
        for path in found:
            name = path.relative_to(folder).as_posix()
            if len(folders) > 1 or name == ".":
                name = (Path(folder.resolve().name) / name).as_posix()
            jobs[name if name not in jobs else str(path)] = path
    return jobs


def _trained(folder: Path) -> bool:
    path = folder / "config.yaml"
    return path.exists() and "num_updates" in stored_yaml(path)


def sweep_rows(jobs: dict[str, Path]) -> tuple[list[str], list[Row]]:
    """``(swept names, rows)``: the evaluation of every finished job beside what was swept."""
    configs = {name: stored_config(folder) for name, folder in jobs.items()}
    names = swept(list(configs.values()))
    rows = []
    for job, folder in jobs.items():
        values = flat(configs[job])
        given = {"job": job} | {name: values.get(name) for name in names}
        rows += [given | row for row in read_csv(folder / "evaluation.csv")]
    return names, rows


def write_sweep(folders: Sequence[Path], into: Path) -> str:
    """Writes ``sweep.csv``, every policy of every job, and ``figures/sweep.png``, those learned.

    Returns:
        The learned policies' table.
    """
    jobs = job_folders(folders)
    names, rows = sweep_rows(jobs)
    write_csv(into / "sweep.csv", ["job", *names, *EVALUATION], rows)
    # A table begins with what was learned.
    first = {job: next((r["policy"] for r in rows if r["job"] == job), None) for job in jobs}
    learned = [row for row in rows if row["policy"] == first[row["job"]] != BOUND]
    if learned:
        sweep_figure(names, learned, into / "figures" / "sweep.png")
    metrics = list(dict.fromkeys((row["metric"], row["unit"]) for row in learned))
    lines = []
    for job in dict.fromkeys(row["job"] for row in learned):
        own = {row["metric"]: row for row in learned if row["job"] == job}
        given = next(iter(own.values()))
        cells = [interval(own[metric]) if metric in own else "" for metric, _ in metrics]
        lines.append([job, *[str(given[name]) for name in names], *cells])
    return format_table(["job", *names, *[f"{m} [{unit}]" for m, unit in metrics]], lines)


# ---- the program -------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> None:
    """The program."""
    program.run_program("sweep", run, argv)


def run(config: Config, folder: Path) -> None:
    """Collects the jobs of ``config["folders"]`` into one table and one figure."""
    given = config["folders"]
    folders = [Path(name) for name in ([given] if isinstance(given, str) else given)]
    for path in folders:
        if not path.is_dir():
            raise ConfigError("folders", str(path), "no such folder")
    if not job_folders(folders):
        valid = "no finished training run is in or below it; give the folders of sweeps or of runs"
        raise ConfigError("folders", given, valid)
    claim_folder(folder)
    print(write_sweep(folders, folder))
    print(f"written to {folder}/sweep.csv and {folder}/figures/sweep.png")


if __name__ == "__main__":
    main()
