"""``python -m runs.train``: trains a learner over seeds, then measures it in one table.

Updates run in compiled chunks of a fixed length over *lanes*: the seeds of one job, or of all jobs
that ``launcher=vmap`` put together. Checkpoints are written at the ends of chunks alone, so a run
that was killed and resumed repeats exactly the program of one that was not.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from agents.lanes import compiled_chunk, split_lanes, stack_lanes, strong_init
from agents.spread import fetched, mesh_for, sharding, spread
from jaxenv.errors import ConfigError
from runs import evaluate as evaluation
from runs import figures, program, tables
from runs.command_line import IN_PROCESS, resumed
from runs.devices import wait_for_all, writes
from runs.divergence import Diverged, not_sound
from runs.jobs import MAY_CHANGE, Job, lane_keys, make_job, objective
from runs.policies import policies_of
from runs.recorder import Recorder
from runs.settings import Config
from runs.sweep import SweepFolder, write_sweep


class Interrupted(Exception):
    """A signal stopped training after a checkpoint."""


class StopSignal:
    """Within it, SIGINT and SIGTERM ask for a stop; a second signal stops at once."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> StopSignal:
        self._old = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _ask(self, number: int, frame: Any) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        tqdm.write("stopping at the end of this chunk; once more stops at once")

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)


# ---- the program -------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> None:
    """The program."""
    jobs: list[Job] = []
    program.run_program("train", partial(run, jobs), argv, after=partial(finish_sweep, jobs))


def run(jobs: list[Job], config: Config, folder: Path) -> float | None:
    """Trains the job, or gathers it where the jobs of a sweep run in this process.

    Returns:
        What the learned policy reaches of ``objective``, for sweepers that look for the best;
        None of a job that is trained later.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if config["resume"] is not None:
        config = resumed(config, folder, MAY_CHANGE)
    sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    sweeper, launcher = config["sweeper"]["name"], config["launcher"]["name"]
    if sweeper != "basic" and launcher == "vmap":
        valid = f"sweeper={sweeper} waits for every job: choose basic or one that starts processes"
        raise ConfigError("launcher", launcher, valid)
    job = make_job(config, folder, alone=not sweep)
    if sweep and sweeper == "basic" and launcher in IN_PROCESS:
        jobs.append(job)
        return None
    try:
        train([job])
    except SystemExit as stop:
        if sweeper == "basic" or stop.code != 1:
            raise
        raise RuntimeError(f"{folder}: the policy is not finite") from None  # a failed trial
    return reached(job)


def reached(job: Job) -> float | None:
    """The mean of the job's objective that was measured."""
    metric = objective(job.config, job.env)
    wait_for_all("measured")
    rows = tables.read_csv(job.folder / "evaluation.csv")
    wanted = (job.config["agent"]["name"], metric.name if metric else None)
    means = [float(row["mean"]) for row in rows if (row["policy"], row["metric"]) == wanted]
    return means[0] if means else None


def finish_sweep(jobs: list[Job]) -> None:
    """Trains gathered jobs, one by one or in groups of one compiled program; prints the table.

    Raises:
        SystemExit: status 130 at once after a signal; 1 at the end where a policy is not finite.
    """
    groups: dict[Any, list[Job]] = {}
    diverged = False
    for number, job in enumerate(jobs):
        together = job.config["launcher"]["name"] == "vmap"
        groups.setdefault(job.program_key() if together else number, []).append(job)
    for number, group in enumerate(groups.values()):
        names = ", ".join(job.folder.name for job in group)
        print(f"program {number + 1} of {len(groups)}: job {names}")
        try:
            train(group)
        except SystemExit as stop:
            if stop.code != 1:
                raise
            diverged = True
    if SweepFolder.folder is not None and writes():
        print(write_sweep([SweepFolder.folder], SweepFolder.folder))
        print(f"written to {SweepFolder.folder}/sweep.csv")
        SweepFolder.folder = None
    if diverged:
        raise SystemExit(1)


# ---- training ----------------------------------------------------------------------------------


def train(jobs: Sequence[Job]) -> None:
    """Trains jobs of one compiled program together, then measures each on its own.

    Raises:
        SystemExit: status 130 after SIGINT or SIGTERM, with everything saved; 1 where a policy
            is no longer finite, with the last good state saved and all other jobs finished.
    """
    recorders = [Recorder(job) for job in jobs]
    try:
        states = fit(jobs, recorders)
    except Interrupted:
        for job in jobs:
            print(f"saved; go on with: resume={job.folder}")
        raise SystemExit(130) from None
    except Diverged:
        raise SystemExit(1) from None
    finally:
        for recorder in recorders:
            recorder.close()
    parts = split_lanes(states, len(jobs))
    for job, recorder, state in zip(jobs, recorders, parts, strict=True):
        if recorder.diverged:
            continue
        if writes():
            figures.training_figure(
                tables.read_csv(job.folder / "metrics.csv"), job.folder / "figures" / "training.png"
            )
        learned = {job.config["agent"]["name"]: policies_of(job.learner, state)}
        try:
            evaluation.measure(
                *(job.config, job.folder, job.env, job.params, learned, job.baselines),
                job.config["eval_episodes"],
                show=job.alone,
            )
        except KeyboardInterrupt:
            print(f"trained but not measured; go on with: resume={job.folder}")
            raise
    if any(recorder.diverged for recorder in recorders):
        raise SystemExit(1)


def fit(jobs: Sequence[Job], recorders: Sequence[Recorder]) -> Any:
    """The states of all lanes after ``num_updates`` updates, from the last checkpoints on."""
    config = jobs[0].config
    length, total = config["log_interval"], config["num_updates"]
    params, params_axes = stack_lanes([job.params for job in jobs], jobs[0].num_seeds)
    hp, hp_axes = stack_lanes([job.hp for job in jobs], jobs[0].num_seeds)
    axes = (0, params_axes, hp_axes)
    keys = lane_keys(jobs)
    mesh = mesh_for(len(keys), jobs[0].learner.shared_environments)
    first = jax.vmap(partial(strong_init, jobs[0].learner), in_axes=axes)
    where = None if mesh is None else sharding(mesh)
    init = jax.jit(spread(first, mesh, axes), out_shardings=where)
    chunk = compiled_chunk(jobs[0].learner, axes, length, mesh)

    target = jax.eval_shape(init, keys, params, hp)
    check_memory(target)
    update, states = begun(recorders, target, where)
    if states is None:
        states = init(keys, params, hp)
    learned = update > 0
    unsound = jax.jit(jax.vmap(partial(not_sound, jobs[0].learner)))
    meant = fetched(unsound(states))  # a threshold of a policy may be infinite
    silent = not writes()
    with (
        StopSignal() as stop,
        tqdm(total=total, initial=update, unit="update", disable=silent) as bar,
    ):
        while update < total:
            states, metrics = chunk(states, params, hp)
            metrics = pooled(fetched(metrics))
            update += length
            learned = learned or np.any(metrics.get("gradient_updates", 1))
            with np.errstate(over="ignore"):
                means = {k: np.mean(values) for k, values in metrics.items() if "/" not in k}
            shown = {name: f"{x:.4g}" for name, x in means.items() if np.isfinite(x)}
            shown = dict(list(shown.items())[:4])
            bar.set_postfix(shown, refresh=False)
            bar.update(length)
            unmeant = jax.tree.map(lambda now, was: now & ~was, fetched(unsound(states)), meant)
            for recorder, own in zip(recorders, split_lanes(unmeant, len(jobs)), strict=True):
                recorder.check(update, own)
            if all(recorder.diverged for recorder in recorders):
                raise Diverged
            due = update % config["checkpoint_interval"] == 0
            stopping = asked_anywhere(stop)  # read once: a later signal waits for the next chunk
            save = due or stopping or update >= total
            parts = split_lanes(states, len(jobs)) if save else [None] * len(jobs)
            for recorder, own, state in zip(
                recorders, split_lanes(metrics, len(jobs)), parts, strict=True
            ):
                if recorder.diverged:
                    continue
                recorder.log(update, own)
                if save:
                    recorder.save(update, state, measured=due)
            if stopping and update < total:
                raise Interrupted
    if not learned:
        print(f"warning: nothing was learned: no gradient update in {total} updates; give more")
    return states


def begun(recorders: Sequence[Recorder], target: Any, where: Any) -> tuple[int, Any]:
    """``(update, states)`` that jobs of one program go on from; ``(0, None)`` of new ones."""
    part = jax.eval_shape(lambda states: split_lanes(states, len(recorders))[0], target)
    alone = where if len(recorders) == 1 else None
    updates, parts = zip(*(recorder.start(part, alone) for recorder in recorders), strict=True)
    if parts[0] is None or len(parts) == 1:
        return updates[0], parts[0]
    states = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    return updates[0], states if where is None else jax.device_put(states, where)


def asked_anywhere(stop: StopSignal) -> bool:
    """Whether any of the processes is asked to stop."""
    return bool(np.any(multihost_utils.process_allgather(np.array(stop.requested))))


def check_memory(target: Any) -> None:
    """Refuses a training state (`jax.eval_shape`) that is larger than all memory there is."""
    devices = jax.local_devices()
    limits = [(device.memory_stats() or {}).get("bytes_limit") for device in devices]
    if None in limits:
        if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
            return
        limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    limits *= jax.process_count()
    needed = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(target))
    if needed > sum(limits):
        text = f"{needed / 2**30:,.1f} GiB of training state"
        grows = "it grows with num_seeds and with num_envs, buffer_size and hidden of the learner"
        valid = f"{grows}; this machine has {sum(limits) / 2**30:,.1f} GiB; give smaller sizes"
        raise ConfigError("memory", text, valid)


def pooled(metrics: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every pair ``numerator/NAME``, ``denominator/NAME`` as ``NAME``, their ratio, and the latter.

    The ratio, NaN where nothing was counted, comes before the other metrics.
    """
    ratios = {}
    for name in metrics:
        kind, _, metric = name.partition("/")
        if kind == "numerator":
            total, count = metrics[name], metrics[f"denominator/{metric}"]
            ratios[metric] = np.where(count > 0, total / np.where(count > 0, count, 1), np.nan)
    return ratios | {k: v for k, v in metrics.items() if not k.startswith("numerator/")}


if __name__ == "__main__":
    main()
