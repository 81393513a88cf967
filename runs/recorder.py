"""The files and checkpoints of a job while it trains."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from agents.lanes import strong_init
from agents.learner import evaluate
from jaxenv.errors import ConfigError
from runs import tables
from runs.checkpoint import Checkpoints
from runs.devices import writes
from runs.divergence import first_unsound
from runs.evaluate import evaluation_key
from runs.folders import write_records, write_resolved
from runs.jobs import Job, lane_keys
from runs.logging import Logger, make_loggers, truncate_csv
from runs.policies import identity, policies_of

PROGRESS = ("update", "seed", "metric", "unit", "mean", "episodes")


class Recorder:
    """The files and checkpoints of one job while it trains."""

    def __init__(self, job: Job):
        self.job = job
        metrics = job.env.metrics
        self._ranked = metrics[0] if metrics else None
        self._checkpoints = Checkpoints(
            job.folder,
            identity(job.learner),
            job.config["keep_checkpoints"],
            metrics[0].direction if metrics else "min",
        )
        self._loggers: list[Logger] = []
        self.diverged = False

    def newest(self) -> int:
        """The update that a resumed run goes on from; 0 for a new run."""
        return self._checkpoints.newest() if self.job.config["resume"] is not None else 0

    def start(self, target: Any, sharding: Any = None) -> tuple[int, Any]:
        """``(update, state)`` of the last readable checkpoint; ``(0, None)`` for a new run."""
        job, update, state = self.job, 0, None
        if job.config["resume"] is not None:
            if self._checkpoints.updates():
                update, state, skipped = self._checkpoints.restore(target, sharding=sharding)
                if update > (total := job.config["num_updates"]):
                    valid = f"{job.folder} is at update {update} already; give at least that"
                    raise ConfigError("num_updates", total, valid)
                for line in skipped:
                    print(line)
                print(f"{job.folder}: going on from update {update}")
            else:
                print(f"{job.folder} holds no complete checkpoint; starting from update 0")
        write_records(job.folder, job.config | {"resume": None})
        write_resolved(job.folder, job.env, job.params, job.learner, job.hp)
        if writes():
            for name in ("timing.csv", "progress.csv"):
                truncate_csv(job.folder / name, update)
            self._loggers = make_loggers(job.folder, job.config, update)
        self._began, self._first = time.perf_counter(), update
        return update, state

    def log(self, update: int, metrics: dict[str, np.ndarray]) -> None:
        """One row per seed in ``metrics.csv``, one row in ``timing.csv``."""
        if not writes():
            return
        for logger in self._loggers:
            logger.log(update, metrics)
        seconds = time.perf_counter() - self._began
        rate = (update - self._first) / seconds
        row = {"update": update, "seconds": f"{seconds:.3f}", "updates_per_s": f"{rate:.4g}"}
        append_csv(self.job.folder / "timing.csv", [row])

    def check(self, update: int, unsound: dict[str, np.ndarray]) -> None:
        """Says so, once, if a seed's state is not sound; nothing is saved from then on."""
        name = next((name for name, seeds in unsound.items() if np.any(seeds)), None)
        if name is None or self.diverged:
            return
        self.diverged = True
        if not writes():
            return
        good = self._checkpoints.updates()
        found = self._first_unsound(update) if jax.process_count() == 1 else None
        number, seed, names = found or (update, int(np.argmax(unsound[name])), [name])
        also = f" (then {', '.join(names[1:4])})" if names[1:] else ""
        kept = f"the last good state is the checkpoint of update {good[-1]}" if good else ""
        tqdm.write(
            f"error: {self.job.folder}: {names[0]} of seed {seed} is not finite after "
            f"update {number}{also}; {kept or 'there is no checkpoint before that'}; "
            "give a smaller rate, or look at what the environment returns",
            file=sys.stderr,
        )

    def _first_unsound(self, until: int) -> tuple[int, int, list[str]] | None:
        """`first_unsound` from the last checkpoint, or from the start."""
        job = self.job
        init = jax.jit(jax.vmap(partial(strong_init, job.learner), in_axes=(0, None, None)))
        keys = lane_keys([job])
        if not self._checkpoints.updates():
            return first_unsound(job, 0, init(keys, job.params, job.hp), until)
        target = jax.eval_shape(init, keys, job.params, job.hp)
        update, states, _ = self._checkpoints.restore(target)
        return first_unsound(job, update, states, until)

    def save(self, update: int, state: Any, measured: bool) -> None:
        """A checkpoint; where ``measured``, ranked by the policy's mean first metric."""
        episodes, value = self.job.config["checkpoint_episodes"], None
        if measured and episodes and self._ranked is not None:
            terms = evaluate(
                self.job.env,
                self.job.params,
                policies_of(self.job.learner, state),
                evaluation_key(self.job.config),
                episodes,
                chunk=self.job.config["episodes_per_call"],
                seeds=True,
            )
            rows = tables.seed_rows("", "", self.job.env.metrics, terms)
            value = float(np.mean([r["mean"] for r in rows if r["metric"] == self._ranked.name]))
            rows = [{name: (row | {"update": update})[name] for name in PROGRESS} for row in rows]
            if writes():
                append_csv(self.job.folder / "progress.csv", rows)
        self._checkpoints.save(update, state, value)

    def close(self) -> None:
        """Closes files."""
        for logger in self._loggers:
            logger.close()
        self._checkpoints.close()


def append_csv(path: Path, rows: Sequence[tables.Row]) -> None:
    """Adds rows to a CSV file, the header first where it is new."""
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        if file.tell() == 0:
            writer.writeheader()
        writer.writerows(rows)
