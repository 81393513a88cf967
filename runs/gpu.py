"""``python -m runs.gpu``: what is worth running on a GPU, piece by piece, and on where it stopped.

Every piece is a process of its own with a folder of its own below ``outputs/gpu``; a folder with a
file ``done`` is not run again. What is run is data, ``pieces`` of ``conf/gpu.yaml``.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from jaxenv.errors import ConfigError
from runs import program, tables
from runs.settings import Config, check_integer, check_names

DONE = "done"
SMALL = ("*.csv", "*.json", "*.yaml", "figures/*")
GRACE_S = 120


def main(argv: list[str] | None = None) -> None:
    """The program."""
    program.run_program("gpu", run, argv)


def run(config: Config, folder: Path) -> None:
    """Runs the pieces that are not done, prints what became of each, and publishes the results.

    Raises:
        SystemExit: status 1 if a piece failed, 130 if one was stopped or left for the next time.
    """
    limit = 60 * check_integer(config, "minutes")
    total = config["total_minutes"]
    budget = float("inf") if total is None else 60 * check_integer(config, "total_minutes")
    pieces = chosen(config)
    began, lines = time.perf_counter(), []
    for name, piece in pieces.items():
        own = folder / name
        if (own / DONE).exists():
            lines.append([name, "done before", (own / DONE).read_text().strip()])
        elif time.perf_counter() - began > budget:
            lines.append([name, "left for the next time", ""])
        else:
            print(f"{name}: {' '.join([piece['module'], *piece['arguments']])}", flush=True)
            state, seconds = run_piece(piece, own, limit)
            lines.append([name, state, f"{seconds:.0f}"])
        if config["publish"] is not None and (own / DONE).exists():
            publish(own, Path(config["publish"]) / f"gpu_{name}")
    print(tables.format_table(["piece", "state", "seconds"], lines))
    states = {line[1] for line in lines}
    if states - {"done", "done before"}:
        raise SystemExit(1 if any(state.startswith("failed") for state in states) else 130)


def chosen(config: Config) -> dict[str, Any]:
    """The pieces to run, by name."""
    pieces = config["pieces"]
    if config["only"] is None:
        return pieces
    names = check_names("only", config["only"])
    for name in names:
        if name not in pieces:
            raise ConfigError("only", name, f"known names are {', '.join(pieces)}")
    return {name: piece for name, piece in pieces.items() if name in names}


def run_piece(piece: Config, folder: Path, limit_s: float) -> tuple[str, float]:
    """``(state, seconds)`` of a piece in its folder: done, stopped, or failed with a status."""
    arguments = list(piece["arguments"])
    resumable = piece["module"] == "runs.train" and any(folder.glob("checkpoints/*/*"))
    if resumable:
        arguments = [f"resume={folder}"]
    elif folder.exists():
        shutil.rmtree(folder)
    if piece["module"].startswith("runs.") and not resumable:
        arguments.append(f"hydra.run.dir={folder}")
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", piece["module"], *arguments])
    try:
        status = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return "stopped at its limit", time.perf_counter() - began
    seconds = time.perf_counter() - began
    if status:
        return f"failed with status {status}", seconds
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DONE).write_text(f"{seconds:.0f}\n")
    return DONE, seconds


def publish(folder: Path, target: Path) -> None:
    """Copies a piece's small files."""
    for pattern in SMALL:
        for path in folder.glob(pattern):
            copy = target / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


if __name__ == "__main__":
    main()
