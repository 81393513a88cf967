"""Sweeps: their jobs are gathered first, then trained, and end in one table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from runs.program import Config, stored_config
from runs.tables import BOUND, EVALUATION, Row, format_table, interval, read_csv, write_csv

IGNORED = {"resume", "scenario"}


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
        if name not in IGNORED and any(job.get(name) != jobs[0].get(name) for job in jobs)
    ]


def sweep_rows(folders: Iterable[Path]) -> tuple[list[str], list[Row]]:
    """``(swept names, rows)``: the evaluation of every finished job beside what was swept."""
    finished = [folder for folder in folders if (folder / "evaluation.csv").exists()]
    configs = [stored_config(folder) for folder in finished]
    names = swept(configs)
    rows = []
    for folder, config in zip(finished, configs, strict=True):
        values = flat(config)
        job = {"job": folder.name} | {name: values.get(name) for name in names}
        rows += [job | row for row in read_csv(folder / "evaluation.csv")]
    return names, rows


def write_sweep(folder: Path) -> str:
    """Writes ``sweep.csv`` (every policy of every job); returns the learned policies' table."""
    jobs = [path.parent for path in folder.rglob("evaluation.csv")]
    jobs.sort(key=lambda path: (len(path.name), path.name))
    names, rows = sweep_rows(jobs)
    write_csv(folder / "sweep.csv", ["job", *names, *EVALUATION], rows)
    learned = [row for row in rows if row["policy"] == rows[0]["policy"]] if rows else []
    metrics = list(dict.fromkeys((row["metric"], row["unit"]) for row in learned))
    lines = []
    for job in dict.fromkeys(row["job"] for row in rows if row["policy"] != BOUND):
        own = {row["metric"]: row for row in rows if row["job"] == job and row in learned}
        first = next(row for row in rows if row["job"] == job)
        cells = [interval(own[metric]) if metric in own else "" for metric, _ in metrics]
        lines.append([job, *[str(first[name]) for name in names], *cells])
    return format_table(["job", *names, *[f"{m} [{unit}]" for m, unit in metrics]], lines)
