"""What groups of figures share: the user's settings, training runs, one measurement of a group."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from agents.lanes import split_lanes
from agents.learner import Policy
from runs import tables
from runs.jobs import Job
from runs.policies import policies_of
from runs.reproductions import output_folder, trained
from runs.settings import Config


def given(config: Config, part: str, name: str) -> Config:
    """What the user set of ``env`` or ``agent``, where it is the one of this name.

    ``schedule_updates: 0`` is what the YAML files of learners say; it leaves a figure its schedule.
    """
    chosen = config.get(part) or {}
    if chosen.get("name") != name:
        return {}
    own = {key: value for key, value in chosen.items() if value is not None}
    return {key: value for key, value in own.items() if key != "schedule_updates" or value}


def as_given(plan: Any, config: Config) -> Any:
    """A schedule with its fields that the configuration gives."""
    own = {field.name: config.get(field.name) for field in dataclasses.fields(plan)}
    return dataclasses.replace(plan, **{k: v for k, v in own.items() if v is not None})


def inherited(config: Config) -> Config:
    """What every training run has of the program's configuration."""
    own = {name: config[name] for name in ("seed", "precision")}
    return own | {"eval_seed": config.get("eval_seed", 0), "plugins": config.get("plugins", [])}


@dataclasses.dataclass(frozen=True)
class Run:
    """A training run: its job, the states of its seeds, and how many runs were trained with it."""

    job: Job
    states: Any
    runs: int

    @property
    def policies(self) -> Policy:
        """Policies stacked over seeds."""
        return policies_of(self.job.learner, self.states)


def training_folder(path: Path, name: str) -> Path:
    """Where a training run of a group is written."""
    return path / "training" / re.sub(r"\W", "_", name)


def trained_together(jobs: dict[Any, Job]) -> dict[Any, Run]:
    """Trains jobs, those that differ in traced leaves alone as one program."""
    groups: dict[Any, list[Any]] = {}
    for name, job in jobs.items():
        groups.setdefault(job.program_key(), []).append(name)
    runs = {}
    for names in groups.values():
        group = [jobs[name] for name in names]
        parts = split_lanes(trained(group), len(group))
        count = sum(job.num_seeds for job in group)
        runs |= {
            name: Run(job, part, count) for name, job, part in zip(names, group, parts, strict=True)
        }
    return runs


def trained_apart(jobs: list[Job]) -> Policy:
    """Policies ``[num_jobs, num_seeds]`` of jobs that are trained as one program."""
    policies = policies_of(jobs[0].learner, trained(jobs))
    shape = len(jobs), jobs[0].num_seeds
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), policies)


@dataclasses.dataclass(frozen=True)
class Measured:
    """A group: rows of ``evaluation.csv``, and the system's training curves."""

    rows: list[tables.Row]
    curves: Any


_last: dict[str, tuple[str, Measured]] = {}


def measured_group(config: Config, name: str, run: Callable[[Config, Path], Measured]) -> Measured:
    """What ``run(config, folder)`` measures, kept for the other figures of this process.

    Within a program its output folder gets ``GROUP/evaluation.csv`` with every measurement, and
    ``GROUP/training/`` with the checkpoints and metrics of every training run.

    Args:
        config: of ``runs.reproduce``.
        name: ``SYSTEM/GROUP``.
        run: trains and measures the group.
    """
    settings = repr(sorted((key, value) for key, value in config.items() if key != "figure"))
    if name not in _last or _last[name][0] != settings:
        with output_folder() as folder:
            path = Path(folder) / name.partition("/")[2]
            measured = run(config, path)
            tables.write_csv(path / "evaluation.csv", tables.EVALUATION, measured.rows)
        _last[name] = (settings, measured)
    return _last[name][1]
