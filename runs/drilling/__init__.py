"""Drills: what must never lose work, crash or compute nonsense, tried on purpose and counted.

A drill is a function from the program's configuration and an empty folder to its outcomes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from jaxenv.errors import ConfigError
from jaxenv.registry import load_object


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One line of the report.

    what: was tried. count: how often it went well, in ``unit``. failed: how often it did not. note:
    what else there is to know, of failures the first one.
    """

    what: str
    count: int
    unit: str
    failed: int = 0
    note: str = ""


Drill = Callable[[dict[str, Any], Path], Iterable[Outcome]]

DRILLS = {
    "kills": "runs.drilling.kills:drill",
    "checkpoints": "runs.drilling.folders:damaged_checkpoints",
    "disk": "runs.drilling.folders:full_and_read_only",
    "folder": "runs.drilling.folders:two_runs",
    "faults": "runs.drilling.faults:drill",
    "fuzz": "runs.drilling.fuzz:drill",
    "steps": "runs.drilling.steps:drill",
}


def drill(name: str) -> Drill:
    """The drill ``name``."""
    if name not in DRILLS:
        raise ConfigError("drills", name, f"known names are {', '.join(DRILLS)}")
    return load_object(DRILLS[name])
