"""Published figures by name: functions from a configuration to rows, verdicts and a figure.

A figure registers as ``register_figure("system/fig05", "module:function")``. The function takes the
program's resolved configuration (``scale`` is ``smoke`` or ``paper``) and returns a `Reproduction`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxenv.errors import ConfigError
from jaxenv.registry import load_object
from runs import train
from runs.folders import claim_folder
from runs.jobs import Job, make_job
from runs.recorder import Recorder
from runs.settings import CONF, stored_yaml

HOLDS, FAILS, NOT_COMPARABLE = "holds", "fails", "not comparable"
ONLY_CALIBRATED = "holds only calibrated"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a published claim holds here.

    paper: what the paper reports. expected: what the claim demands of a measurement. measured:
    the number, with its interval. verdict: ``holds``, ``fails``, ``not comparable`` or, where a
    paper's printed constants cannot give its results, ``holds only calibrated``.
    """

    claim: str
    paper: str
    expected: str
    measured: float | None
    ci_low: float | None
    ci_high: float | None
    verdict: str
    why: str

    def __post_init__(self) -> None:
        if self.verdict not in (HOLDS, FAILS, ONLY_CALIBRATED, NOT_COMPARABLE):
            valid = f"choose {HOLDS}, {FAILS}, {ONLY_CALIBRATED} or {NOT_COMPARABLE}"
            raise ConfigError("verdict", self.verdict, valid)


@dataclasses.dataclass(frozen=True)
class Reproduction:
    """A reproduced figure.

    rows: the figure's data, one dictionary per point, all with the same names. figure: a
    matplotlib figure (see `runs.figures.new_figure`), or None where there is nothing to draw.
    """

    rows: list[dict[str, Any]]
    verdicts: list[Verdict]
    figure: Any = None


Function = Callable[[dict[str, Any]], Reproduction]


def _numbered(first: int, last: int) -> tuple[str, ...]:
    return tuple(f"fig{number:02d}" for number in range(first, last + 1))


_figures: dict[str, Function | str] = {
    f"{system}/{name}": f"runs.reproductions.{system}:{name}"
    for system, names in {
        "partitioning": _numbered(6, 13),
        "robust": (*_numbered(9, 14), "gap", "starts", "violation"),
        "services": (*_numbered(4, 10), "ablation", "temperature"),
        "splitting": ("fig1", "fig2", "fig3", "bound", "sensitivity", "learning"),
        "vehicular": _numbered(3, 16),
    }.items()
    for name in names
}
_by_name_alone = {"splitting/learning"}  # they train while all others of their system do not
_groups: dict[str, tuple[str, ...]] = {
    f"{system}/{group}": tuple(f"{system}/{name}" for name in names)
    for system, group, names in (
        ("partitioning", "sweeps", _numbered(7, 13)),
        ("services", "tables", _numbered(4, 6)),
        ("services", "training", ("fig07", "fig08", "fig10", "ablation")),
        ("vehicular", "training", _numbered(3, 4)),
        ("vehicular", "cores", _numbered(5, 8)),
        ("vehicular", "bandwidth", _numbered(9, 12)),
        ("vehicular", "mix", _numbered(13, 14)),
        ("vehicular", "scale", _numbered(15, 16)),
    )
}


def register_figure(name: str, function: Function | str) -> None:
    """Makes ``figure=name`` call ``function``, or what its path ``"module:function"`` names."""
    _figures[name] = function


def figures() -> tuple[str, ...]:
    """The names of all figures."""
    return tuple(sorted(_figures))


def selected(name: str | None) -> dict[str, Function]:
    """The figure ``name``, or a group's; ``system/all`` stands for every figure of a system but
    those that train where no other does."""
    group = _groups.get(name, (name,)) if isinstance(name, str) else ()
    system = name.removesuffix("all") if isinstance(name, str) and name.endswith("/all") else None
    chosen = [
        known
        for known in figures()
        if known in group or (system and known.startswith(system) and known not in _by_name_alone)
    ]
    if not chosen:
        systems = sorted({known.split("/")[0] + "/all" for known in figures()})
        valid = f"choose one of {', '.join([*systems, *_groups, *figures()]) or '(none)'}"
        raise ConfigError("figure", name, valid)
    return {known: load_object(_figures[known]) for known in chosen}


# Of every training inside a reproduction.
TRAINING: dict[str, Any] = {
    "schedule_updates": None,
    "log_interval": None,
    "checkpoint_interval": None,
    "keep_checkpoints": 1,
    "checkpoint_episodes": 0,
    "launcher": {"name": "basic"},
    "logger": {"name": "csv"},
    "baselines": (),
    "objective": None,
}


def preset(stem: str) -> dict[str, Any]:
    """The settings of an experiment preset and of those it builds on, ``env`` and ``agent`` too."""
    stored = stored_yaml(CONF / "experiment" / f"{stem}.yaml")
    merged: dict[str, Any] = {"env": {}, "agent": {}}
    for entry in stored.pop("defaults", []):
        if isinstance(entry, dict):
            for group, name in entry.items():
                part = group.removeprefix("override /")
                merged[part] = stored_yaml(CONF / part / f"{name}.yaml")
        elif entry != "_self_":
            merged = preset(entry)
    parts = {part: merged[part] | stored.get(part, {}) for part in ("env", "agent")}
    return merged | stored | parts


def training_job(config: dict[str, Any], folder: Path) -> Job:
    """A training run with ``TRAINING`` where ``config`` says nothing else.

    Where it was begun in ``folder`` by an interrupted reproduction, it goes on.
    """
    begun = str(folder) if (folder / "config.yaml").exists() else None
    return make_job(TRAINING | config | {"resume": begun}, folder)


def trained(jobs: Sequence[Job]) -> Any:
    """The states of `runs.train.fit`, recorded in the jobs' folders; an interruption ends all.

    Runs that are trained as one program start over where a kill left them at different updates.
    """
    recorders = [Recorder(job) for job in jobs]
    if len({recorder.newest() for recorder in recorders}) > 1:
        for recorder in recorders:
            recorder.close()
        jobs = [_afresh(job) for job in jobs]
        recorders = [Recorder(job) for job in jobs]
    try:
        return train.fit(jobs, recorders)
    except train.Interrupted:
        with output_folder() as folder:
            print(f"saved; go on with: resume={folder}")
        raise SystemExit(130) from None
    finally:
        for recorder in recorders:
            recorder.close()


def _afresh(job: Job) -> Job:
    """A job without what was recorded of it."""
    if job.config["resume"] is not None:
        shutil.rmtree(job.folder)
        claim_folder(job.folder)  # the lock went with the folder
    return dataclasses.replace(job, config=job.config | {"resume": None})


def output_folder() -> contextlib.AbstractContextManager[str]:
    """The running program's output folder; a temporary one outside of any program."""
    from hydra.core.hydra_config import HydraConfig

    if HydraConfig.initialized():
        return contextlib.nullcontext(HydraConfig.get().runtime.output_dir)
    return tempfile.TemporaryDirectory()
