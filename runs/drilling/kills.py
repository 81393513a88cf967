"""Processes killed at random moments and resumed: what is lost, and is the result the same?"""

from __future__ import annotations

import itertools
import random
import re
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from runs import tables
from runs.drilling import Outcome, faults, processes
from runs.settings import Config, check_integer

INTERVAL = 3
TRAINING = [
    *(*faults.PLUGIN, "num_seeds=2", "eval_episodes=4", "log_interval=1", "keep_checkpoints=2"),
    *(f"checkpoint_interval={INTERVAL}", "checkpoint_episodes=4"),
]
SWEPT = ("agent.lr=0.05", "agent.lr=0.1")
COLUMNS = ("run", "moment", "after_s", "logged_update", "checkpoint", "resumed_at", "lost_updates")


def drill(config: Config, folder: Path) -> list[Outcome]:
    """Kills at random moments of start, training, saving and measuring, each resumed.

    No resume may lose more than the interval of checkpoints, and the tables and the whole last
    state of every finished run must be those of the run that was never killed, bit for bit.
    """
    check_integer(config, "workers")
    for name in ("training_kills", "sweep_kills"):
        check_integer(config, name, low=0)
    updates = f"num_updates={check_integer(config, 'kill_updates', low=INTERVAL)}"
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[tables.Row] = []
    outcomes: list[Outcome] = []
    for what, Kind, kills in (
        ("training", Trainings, config["training_kills"]),
        ("sweep", Sweeps, config["sweep_kills"]),
    ):
        if not kills:
            continue
        drilled = Kind(folder / what, updates, kills, random.Random(f"{what} {config['seed']}"))
        drilled.run(config["workers"])
        rows += drilled.rows
        outcomes += drilled.outcomes(what)
    tables.write_csv(folder.parent / "kills.csv", COLUMNS, rows)
    return outcomes


class Trainings:
    """One training, run again and again until it has been killed often enough.

    rows: what became of each kill, per run that it met. left: kills still to be done. finished: the
    runs that came to their end. wrong: what was not as it must be.
    """

    def __init__(self, folder: Path, updates: str, kills: int, rng: random.Random):
        self.folder, self.kills, self.left, self.rng = folder, kills, kills, rng
        self.arguments = [*TRAINING, updates]
        self.rows: list[tables.Row] = []
        self.finished = 0
        self.wrong: list[str] = []
        self.lifetime_s = 0.0
        self._lock = threading.Lock()
        self._numbers = itertools.count()

    def run(self, workers: int) -> None:
        """The training uninterrupted, twice, then others, some at a time, until all are killed."""
        whole = self.folder / "whole"
        for own in (whole, self.folder / "again"):
            began = time.monotonic()
            ended = processes.finished(self.whole_run(own), self.folder)
            if ended.status:
                self.wrong.append(f"uninterrupted: status {ended.status}: {ended.text[-300:]}")
                return
            self.lifetime_s = time.monotonic() - began
        self.compare(self.folder / "again", whole)
        with ThreadPoolExecutor(workers) as pool:
            for _ in pool.map(self._runs, range(workers)):
                pass

    def _runs(self, worker: int) -> None:
        while self.left > 0:
            own = self.folder / str(next(self._numbers))
            try:
                self.one(own)
            except RuntimeError as error:
                self.wrong.append(str(error))
                return
            self.finished += 1
            self.compare(own, self.folder / "whole")

    def whole_run(self, own: Path) -> list[str]:
        """The command line of the run in a folder."""
        return [*self.arguments, f"hydra.run.dir={own}"]

    def one(self, own: Path) -> None:
        """One run that is killed, and resumed, until it reaches its end."""
        self.finish(own, self.whole_run(own))

    def compare(self, own: Path, whole: Path) -> None:
        self.wrong += [f"{own.name}: {what}" for what in processes.differences(own, whole)]

    def finish(self, own: Path, fresh: list[str]) -> None:
        """Starts or resumes the run of a folder until it ends."""
        killed = True
        while killed:
            resuming = (own / "config.yaml").exists()
            killed = self.life([f"resume={own}"] if resuming else fresh, [own])

    def life(self, arguments: Sequence[str], runs: Sequence[Path]) -> bool:
        """Whether a process was killed: at a random moment of its life, or in the save after it."""
        with self._lock:
            due = self.left > 0
            self.left -= due
            moment, in_save = self.rng.uniform(0, self.lifetime_s), self.rng.random() < 0.4
        log = self.folder / f"{'_'.join(runs[0].relative_to(self.folder).parts)}.log"
        began = time.monotonic()
        process = processes.start(arguments, log)
        status = processes.wait(process, moment if due else processes.LONGEST_S)
        if status is None and in_save and due:
            status = processes.wait(process, processes.LONGEST_S, partial(any_saving, runs))
        seconds = time.monotonic() - began
        process.kill()
        status = process.wait()
        text = log.read_text()
        killed = status == -signal.SIGKILL
        if status and not (killed and due):
            raise RuntimeError(f"{' '.join(arguments)} ended with status {status}: {text[-1000:]}")
        for run in runs:
            self.note_resumed(run, text)
            if killed:
                self.rows.append(killed_row(run, seconds, text))
        self.left += due and not killed
        return killed

    def note_resumed(self, own: Path, text: str) -> None:
        """Completes the row of the last kill of a folder by the update at which it went on."""
        found = re.search(r"going on from update (\d+)|starting from update (0)", text)
        last = next(
            (row for row in reversed(self.rows) if row["run"] == processes.name_of(own)), None
        )
        if found is None or last is None or last["resumed_at"] != "":
            return
        last["resumed_at"] = int(found.group(1) or found.group(2))
        last["lost_updates"] = max(0, last["logged_update"] - last["resumed_at"])
        if last["lost_updates"] > INTERVAL or last["resumed_at"] < last["checkpoint"]:
            self.wrong.append(f"{last}")

    def outcomes(self, what: str) -> list[Outcome]:
        """What the kills came to."""
        moments = [row["moment"] for row in self.rows]
        counts = ", ".join(f"{moments.count(name)} {name}" for name in dict.fromkeys(moments))
        lost = max(
            (row["lost_updates"] for row in self.rows if row["lost_updates"] != ""), default=0
        )
        note = f"{counts}; at most {lost} updates lost, {INTERVAL} between checkpoints"
        same = f"bitwise as never killed, in {', '.join(processes.RESULTS)} and the last state"
        failed = len(self.wrong)
        return [
            Outcome(
                what,
                self.kills - self.left,
                "kills survived",
                failed,
                "; ".join([note, *self.wrong[:1]]),
            ),
            Outcome(what, self.finished, "killed runs finished", failed, same),
        ]


class Sweeps(Trainings):
    """The same for a sweep of two jobs in one program, whose jobs are resumed one by one."""

    def whole_run(self, own: Path) -> list[str]:
        name = SWEPT[0].split("=")[0]
        values = ",".join(setting.split("=")[1] for setting in SWEPT)
        return [
            "-m",
            *self.arguments,
            f"{name}={values}",
            f"hydra.sweep.dir={own}",
            "launcher=vmap",
        ]

    def one(self, own: Path) -> None:
        jobs = [own / str(number) for number in range(len(SWEPT))]
        if not self.life(self.whole_run(own), jobs):
            return
        for job, setting in zip(jobs, SWEPT, strict=True):
            self.finish(job, [*super().whole_run(job), setting])

    def compare(self, own: Path, whole: Path) -> None:
        for number in range(len(SWEPT)):
            super().compare(own / str(number), whole / str(number))


def any_saving(runs: Sequence[Path]) -> bool:
    """Whether one of the runs is in the middle of writing a checkpoint."""
    return any(map(processes.saving, runs))


def killed_row(run: Path, seconds: float, text: str) -> tables.Row:
    """What a killed run has left. text: what the process had printed."""
    metrics = run / "metrics.csv"
    rows = tables.read_csv(metrics) if metrics.exists() else []
    logged = [int(row["update"]) for row in rows if None not in row.values()]
    if processes.saving(run):
        moment = "saving"
    elif "episode/s" in text:
        moment = "measuring"
    else:
        moment = "training" if "update/s" in text else "starting"
    return {
        "run": processes.name_of(run),
        "moment": moment,
        "after_s": f"{seconds:.2f}",
        "logged_update": max(logged, default=0),
        "checkpoint": max(processes.checkpoints_of(run), default=0),
        "resumed_at": "",
        "lost_updates": "",
    }
