"""Programs called in this process, with the probe plugin, into a folder of the test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROBE = ["plugins=[probe_plugin]", "env=guess"]
TRAIN = [*PROBE, "agent=reinforce", "num_updates=4", "eval_episodes=8"]


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """An empty working directory that finds the probe plugin."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(HERE))
    return tmp_path


def run_process(module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """``python -m module arguments`` in the working directory."""
    paths = os.pathsep.join([str(ROOT), str(HERE)])
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | {"PYTHONPATH": paths} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def start_process(module: str, *arguments: str) -> subprocess.Popen:
    """``python -m module arguments`` in the working directory, not waited for."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
