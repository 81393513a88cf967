"""Damaged checkpoints, full disks, folders that cannot be written, two runs in one folder."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from runs.checkpoint import FOLDER as CHECKPOINTS
from runs.checkpoint import SUMS
from runs.drilling import Outcome, faults, processes
from runs.drilling.processes import Worker, called
from runs.settings import Config

UPDATES = 12
INTERVAL = 3
SETTINGS = [*faults.PLUGIN, f"num_updates={UPDATES}", "num_seeds=2", "eval_episodes=4"]
SETTINGS += ["log_interval=1", f"checkpoint_interval={INTERVAL}", "keep_checkpoints=100"]
LONG = [*SETTINGS, "num_updates=60"]
LAST, BEFORE = UPDATES, UPDATES - INTERVAL
SMALL_DISK = "400k"


# ---- checkpoints -------------------------------------------------------------------------------


def arrays_of(checkpoint: Path) -> list[Path]:
    """The files of a checkpoint that hold numbers."""
    files = [path for path in (checkpoint / "leaves").rglob("*") if path.is_file()]
    return [path for path in files if "/d/" in path.as_posix()]


def truncate(checkpoint: Path) -> None:
    for path in arrays_of(checkpoint):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite(checkpoint: Path) -> None:
    for path in arrays_of(checkpoint):
        data = bytearray(path.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 8] = bytes(x ^ 0xFF for x in data[middle : middle + 8])
        path.write_bytes(bytes(data))


def empty(checkpoint: Path) -> None:
    for path in checkpoint.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")


def lose_arrays(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint / "leaves")


def lose_description(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint / "meta")


def strange(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()
    (checkpoint / "notes.txt").write_text("of somebody else")


DAMAGE: dict[str, Callable[[Path], None]] = {
    "cut to half": truncate,
    "eight bytes changed": overwrite,
    "emptied": empty,
    "without arrays": lose_arrays,
    "without description": lose_description,
    "not a checkpoint": strange,
}


def damaged_checkpoints(config: Config, folder: Path) -> list[Outcome]:
    """A damaged last checkpoint is skipped by name, and the run ends as if it had been there.

    Those of another environment or configuration are refused, as is a run with damaged ones alone.
    """
    whole = folder / "whole"
    outcomes = []
    with Worker() as worker:
        ended = worker.call(called, [*SETTINGS, f"hydra.run.dir={whole}"])
        if ended.status:
            return [Outcome("training", 0, "runs", 1, ended.text[-300:])]
        for what, damage in DAMAGE.items():
            run = copied(whole, folder / what.replace(" ", "_"))
            damage(run / CHECKPOINTS / str(LAST))
            wrong = skipped(worker.call(called, [f"resume={run}"]), run, whole)
            outcomes.append(_outcome(what, wrong, "last one skipped by name"))
        for what, name, value in (
            ("of another learner", "agent", '"agent": "drill"'),
            ("of another environment", "env", '"env": "drill"'),
        ):
            run = copied(whole, folder / what.replace(" ", "_"))
            (run / CHECKPOINTS / str(LAST) / SUMS).unlink()  # whole, but somebody else's
            for path in (run / CHECKPOINTS / str(LAST) / "meta").rglob("*"):
                if path.is_file() and value in path.read_text():
                    path.write_text(path.read_text().replace(value, value[:-7] + '"other"'))
            wrong = refused(worker.call(called, [f"resume={run}"]), f"it holds {name}=other")
            outcomes.append(_outcome(what, wrong, "refused in one line"))
        run = copied(whole, folder / "all_damaged")
        for checkpoint in (run / CHECKPOINTS).iterdir():
            truncate(checkpoint)
        wrong = refused(worker.call(called, [f"resume={run}"]), "no other is left")
        outcomes.append(_outcome("all cut to half", wrong, "refused in one line"))
    return outcomes


def copied(run: Path, target: Path) -> Path:
    """A copy of a finished run, without what was measured."""
    shutil.copytree(run, target)
    (target / "evaluation.csv").unlink()
    return target


def skipped(ended: processes.Ended, run: Path, whole: Path) -> str:
    """What is wrong with a run that was resumed past its damaged last checkpoint."""
    if not isinstance(ended, processes.Ended) or ended.status:
        return f"{ended}"
    named = f"{CHECKPOINTS}/{LAST} is damaged" in ended.text
    if not named or f"going on from update {BEFORE}" not in ended.text:
        return f"it says {ended.text[:300]}"
    return "; ".join(processes.differences(run, whole))


def refused(ended: processes.Ended, *parts: str) -> str:
    """What is wrong with a program that was to refuse in one line that has one of the parts."""
    if not isinstance(ended, processes.Ended):
        return f"{ended}"
    one_line = len(ended.errors) == 1 and "Traceback" not in ended.text
    if ended.status and one_line and any(part in ended.errors[0] for part in parts):
        return ""
    return f"status {ended.status}: {ended.text[-400:]}"


def _outcome(what: str, wrong: str, note: str, unit: str = "runs") -> Outcome:
    return Outcome(what, int(not wrong), unit, int(bool(wrong)), wrong or note)


# ---- disks -------------------------------------------------------------------------------------


@contextlib.contextmanager
def disk(folder: Path, size: str) -> Iterator[None]:
    """A small file system in a folder.

    Raises:
        OSError: this machine or user cannot mount one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _mount(folder, "-t", "tmpfs", "-o", f"size={size}", "tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


def _mount(folder: Path, *options: str) -> None:
    command = ["mount", *options, str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise OSError(f"no file system can be mounted here ({error})") from error


def full_and_read_only(config: Config, folder: Path) -> list[Outcome]:
    """A full disk or a folder that cannot be written ends a run in one line, and loses nothing."""
    outcomes = []
    whole, own = folder / "whole", folder / "disk"
    with Worker() as worker:
        ended = worker.call(called, [*LONG, f"hydra.run.dir={whole}"])
        if ended.status:
            return [Outcome("training", 0, "runs", 1, ended.text[-300:])]
        try:
            with disk(own, SMALL_DISK):
                full = worker.call(called, [*LONG, f"hydra.run.dir={own}/run"])
                wrong = refused(full, "No space left on device")
                saved = processes.checkpoints_of(own / "run")
                note = f"one line; checkpoint {max(saved, default=0)} kept, resumed with more space"
                _mount(own, "-o", "remount,size=100m")
                wrong = wrong or resumed(worker, own / "run", whole, max(saved, default=0))
                outcomes.append(_outcome("full disk", wrong, note))
                _mount(own, "-o", "remount,ro")
                for what, arguments in (
                    ("new run in a read-only folder", [*SETTINGS, f"hydra.run.dir={own}/new"]),
                    ("resumed run in a read-only folder", [f"resume={own}/run"]),
                ):
                    wrong = refused(worker.call(called, arguments), "Read-only file system")
                    outcomes.append(_outcome(what, wrong, "one line"))
                arguments = [f"checkpoint={own}/run", f"hydra.run.dir={folder}/read"]
                read = worker.call(
                    called, [*arguments, "num_episodes=4", "baselines=[]"], "runs.evaluate"
                )
                wrong = f"{read}" if getattr(read, "status", 1) else ""
                outcomes.append(_outcome("evaluation of a run in a read-only folder", wrong, "ran"))
        except OSError as error:
            outcomes.append(Outcome("disks", 0, "runs", 0, f"skipped: {error}"))
    return outcomes


def resumed(worker: Worker, run: Path, whole: Path, least: int) -> str:
    """What is wrong with a run that goes on where it stopped, at update ``least`` or later."""
    arguments = (
        [f"resume={run}"] if (run / "config.yaml").exists() else [*LONG, f"hydra.run.dir={run}"]
    )
    ended = worker.call(called, arguments)
    if not isinstance(ended, processes.Ended) or ended.status:
        return f"{ended}"
    if least and f"going on from update {least}" not in ended.text:
        return f"it says {ended.text[:300]}"
    return "; ".join(processes.differences(run, whole))


# ---- two runs ----------------------------------------------------------------------------------


def two_runs(config: Config, folder: Path) -> list[Outcome]:
    """Of two runs in one folder at once, the second is refused, and the first is not disturbed."""
    own, whole = folder / "run", folder / "whole"
    slow = [*SETTINGS, "num_updates=300", "keep_checkpoints=2"]
    outcomes = []
    with Worker() as worker:
        process = processes.start([*slow, f"hydra.run.dir={own}"], folder / "log")
        wait_for(process, lambda: own.exists() and any(own.iterdir()))
        second = worker.call(called, [*slow, f"hydra.run.dir={own}"])
        outcomes.append(_second("second run, started while the first starts", process, second))
        wait_for(process, lambda: any(processes.checkpoints_of(own)))
        third = worker.call(called, [f"resume={own}"])
        outcomes.append(_second("second run, that resumes the first", process, third))
        status = processes.wait(process, processes.LONGEST_S)
        ended = worker.call(called, [*slow, f"hydra.run.dir={whole}"])
    process.kill()
    wrong = f"status {status}" if status or ended.status else ""
    wrong = wrong or "; ".join(processes.differences(own, whole))
    return [*outcomes, _outcome("first run", wrong, "bitwise as alone")]


def wait_for(process: subprocess.Popen, due: Callable[[], bool]) -> None:
    """Until ``due``, or the process ends."""
    while process.poll() is None and not due():
        time.sleep(0.01)


def _second(what: str, first: subprocess.Popen, second: processes.Ended) -> Outcome:
    if first.poll() is not None:
        return Outcome(what, 0, "runs", 0, "skipped: the first had ended before")
    wrong = refused(second, "another run is writing into it", "it already holds a run")
    return _outcome(what, wrong, "refused in one line")
