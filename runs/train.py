"""``python -m runs.train``: trains a learner over seeds, then measures it in one table.

Updates run in compiled chunks of a fixed length over *lanes*: the seeds of one job, or of all jobs
that ``launcher=vmap`` put together. Checkpoints are written at the ends of chunks alone, so a run
that was killed and resumed repeats exactly the program of one that was not.
"""

from __future__ import annotations

import csv
import dataclasses
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from tqdm import tqdm

from agents.learner import Learner, evaluate
from agents.spread import fetched, mesh_for, sharding, spread
from jaxenv.environment import Environment, Metric
from jaxenv.errors import ConfigError
from runs import evaluate as evaluation
from runs import figures, program, tables
from runs.checkpoint import FOLDER as CHECKPOINTS
from runs.checkpoint import Checkpoints
from runs.logging import Logger, check_logger, make_loggers, truncate_csv
from runs.program import Config, check_integer
from runs.sweep import SweepFolder, write_sweep

MAY_CHANGE = {
    *("num_updates", "eval_episodes", "eval_seed", "episodes_per_call", "baselines"),
    *("keep_checkpoints", "plugins", "logger", "launcher", "devices", "distributed"),
    *("sweeper", "objective"),
}
GRADIENTS = ("optimizer", "optimiser", "rms")
PROGRESS = ("update", "seed", "metric", "unit", "mean", "episodes")


@dataclasses.dataclass
class Job:
    """One training run: what it trains, and where its files go.

    alone: whether it is no part of a sweep, and prints its own table.
    """

    config: Config
    folder: Path
    env: Environment
    params: Any
    learner: Learner
    hp: Any
    baselines: tuple[str, ...]
    alone: bool = True

    @property
    def num_seeds(self) -> int:
        """Training seeds of this job."""
        return self.config["num_seeds"]

    def program_key(self) -> tuple[Any, ...]:
        """Jobs with equal keys differ in traced leaves and seeds alone: one program trains them."""
        own = {"env", "agent", "seed", "scenario", "resume"}
        shared = {name: value for name, value in self.config.items() if name not in own}
        return self.env, self.learner, repr(sorted(shared.items()))


class Interrupted(Exception):
    """A signal stopped training after a checkpoint."""


class Diverged(Exception):
    """No job has a policy of finite numbers left."""


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
        config = program.resumed(config, folder, MAY_CHANGE)
    sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    sweeper, launcher = config["sweeper"]["name"], config["launcher"]["name"]
    if sweeper != "basic" and launcher == "vmap":
        valid = f"sweeper={sweeper} waits for every job: choose basic or one that starts processes"
        raise ConfigError("launcher", launcher, valid)
    job = make_job(config, folder, alone=not sweep)
    if sweep and sweeper == "basic" and launcher in program.IN_PROCESS:
        jobs.append(job)
        return None
    try:
        train([job])
    except SystemExit as stop:
        if sweeper == "basic" or stop.code != 1:
            raise
        raise RuntimeError(f"{folder}: the policy is not finite") from None  # a failed trial
    return reached(job)


def objective(config: Config, env: Environment) -> Metric | None:
    """The metric that a sweep improves: ``config["objective"]``, or the first of the environment.

    Raises:
        ConfigError: there is no such metric, or the sweeper takes it for better the other way.
    """
    from hydra.core.hydra_config import HydraConfig

    known = {metric.name: metric for metric in env.metrics}
    name = config["objective"] or next(iter(known), None)
    if name is None:
        return None
    if name not in known:
        raise ConfigError("objective", name, f"choose one of {', '.join(known)}")
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    direction = hydra.sweeper.get("direction") if hydra is not None else None
    direction = getattr(direction, "name", direction)
    valid = {"min": "minimize", "max": "maximize"}[known[name].direction]
    if direction not in (None, valid):
        why = f"{name} of env={env.name} is better the other way; give {valid}"
        raise ConfigError("hydra.sweeper.direction", direction, why)
    return known[name]


def reached(job: Job) -> float | None:
    """The mean of the job's objective that was measured."""
    metric = objective(job.config, job.env)
    program.wait_for_all("measured")
    rows = tables.read_csv(job.folder / "evaluation.csv")
    wanted = (job.config["agent"]["name"], metric.name if metric else None)
    means = [float(row["mean"]) for row in rows if (row["policy"], row["metric"]) == wanted]
    return means[0] if means else None


def finish_sweep(jobs: list[Job]) -> None:
    """Trains gathered jobs, one by one or in groups of one compiled program; prints the table."""
    groups: dict[Any, list[Job]] = {}
    for number, job in enumerate(jobs):
        together = job.config["launcher"]["name"] == "vmap"
        groups.setdefault(job.program_key() if together else number, []).append(job)
    for number, group in enumerate(groups.values()):
        names = ", ".join(job.folder.name for job in group)
        print(f"program {number + 1} of {len(groups)}: job {names}")
        train(group)
    if SweepFolder.folder is not None and program.writes():
        print(write_sweep([SweepFolder.folder], SweepFolder.folder))
        print(f"written to {SweepFolder.folder}/sweep.csv")
        SweepFolder.folder = None


def make_job(config: Config, folder: Path, alone: bool = True) -> Job:
    """Checks everything a job needs before anything is written or compiled."""
    results = (folder / "evaluation.csv").exists()
    if config["resume"] is not None and results and not (folder / CHECKPOINTS).exists():
        valid = "it holds results but no checkpoint to go on from; train into another folder"
        raise ConfigError("resume", str(folder), valid)
    config = with_intervals(config)
    check_logger(config)
    env, params = program.build_env(config)
    baselines = program.check_baselines(config, env)
    objective(config, env)
    agent = dict(config["agent"])
    if agent.get("schedule_updates", 0) is None:
        agent["schedule_updates"] = config["schedule_updates"]
    config = config | {"agent": agent}
    learner, hp = program.build_learner(config, env)
    if config["resume"] is None:
        program.claim_folder(folder)
    else:
        program.hold_folder(folder)
    program.wait_for_all("checked")  # nobody writes before all have looked
    return Job(config, folder, env, params, learner, hp, baselines, alone)


def with_intervals(config: Config) -> Config:
    """The configuration with checked numbers and its null intervals filled in."""
    num_updates = check_integer(config, "num_updates")
    for name in ("num_seeds", "keep_checkpoints"):
        check_integer(config, name)
    for name in ("seed", "checkpoint_episodes"):
        check_integer(config, name, low=0)
    evaluation.check_evaluation(config, "eval_episodes")
    config = config | {"schedule_updates": config["schedule_updates"] or num_updates}
    if config["log_interval"] is None:
        config["log_interval"] = largest_divisor(num_updates, max(1, num_updates // 200))
    length = check_integer(config, "log_interval")
    if config["checkpoint_interval"] is None:
        config["checkpoint_interval"] = length * max(1, num_updates // (10 * length))
    check_integer(config, "checkpoint_interval")
    check_integer(config, "schedule_updates")
    for name in ("num_updates", "checkpoint_interval"):
        if config[name] % length:
            raise ConfigError(name, config[name], f"give a multiple of log_interval={length}")
    return config


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of ``number`` that is at most ``limit``."""
    return next(d for d in range(limit, 0, -1) if number % d == 0)


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
    parts = split_lanes(states, jobs)
    for job, recorder, state in zip(jobs, recorders, parts, strict=True):
        if recorder.diverged:
            continue
        if program.writes():
            figures.training_figure(
                tables.read_csv(job.folder / "metrics.csv"), job.folder / "figures" / "training.png"
            )
        learned = {job.config["agent"]["name"]: evaluation.policies_of(job.learner, state)}
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
    starts = [recorder.start(target, sharding(mesh)) for recorder in recorders]
    update, states = starts[0]  # a resumed job is alone
    if states is None:
        states = init(keys, params, hp)
    if update > total:
        valid = f"{jobs[0].folder} is at update {update} already; give at least that"
        raise ConfigError("num_updates", total, valid)
    learned = update > 0
    unsound = jax.jit(jax.vmap(partial(not_sound, jobs[0].learner)))
    meant = fetched(unsound(states))  # a threshold of a policy may be infinite
    silent = not program.writes()
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
            for recorder, own in zip(recorders, split_lanes(unmeant, jobs), strict=True):
                recorder.check(update, own)
            if all(recorder.diverged for recorder in recorders):
                raise Diverged
            due = update % config["checkpoint_interval"] == 0
            stopping = asked_anywhere(stop)  # read once: a later signal waits for the next chunk
            save = due or stopping or update >= total
            parts = split_lanes(states, jobs) if save else [None] * len(jobs)
            for recorder, own, state in zip(
                recorders, split_lanes(metrics, jobs), parts, strict=True
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
        valid = f"this machine has {sum(limits) / 2**30:,.1f} GiB; give smaller sizes"
        raise ConfigError("memory", text, valid)


def not_sound(learner: Learner, state: Any) -> dict[str, chex.Array]:
    """Whether each float leaf, by its name, is what it must not be.

    That is not finite in the policy, NaN elsewhere: a state of an environment may hold infinity.
    """
    policy = flags(learner.policy(state), lambda leaf: ~jnp.isfinite(leaf))
    named = {f"{name} of the policy": flag for name, flag in policy.items()}
    return named | flags(state, jnp.isnan)


def flags(tree: Any, bad: Callable[[chex.Array], chex.Array]) -> dict[str, chex.Array]:
    """Whether ``bad`` holds anywhere in each float leaf, by its name."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): jnp.any(bad(leaf))
        for path, leaf in leaves
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    }


def first_unsound(
    job: Job, update: int, states: Any, until: int
) -> tuple[int, int, list[str]] | None:
    """``(update, seed, names)`` of what first is not finite, by updates one at a time.

    Args:
        job: the one whose states ``[num_seeds, ...]`` after ``update`` updates are sound.
        until: the update after which they are not.

    Returns:
        The names of metrics and leaves in the order in which one follows from the other: rewards,
        other metrics, what an optimiser has of gradients, everything else. None if every update is
        sound when it is not compiled with others.
    """
    step = compiled_chunk(job.learner, (0, None, None), 1)
    unsound = jax.jit(jax.vmap(partial(not_sound, job.learner)))
    before = jax.device_get(unsound(states))
    known: dict[str, np.ndarray] = {}
    for number in range(update + 1, until + 1):
        states, metrics = step(states, job.params, job.hp)
        metrics = {name: np.isfinite(x) for name, x in jax.device_get(metrics).items()}
        leaves = {n: now & ~before[n] for n, now in jax.device_get(unsound(states)).items()}
        if any(np.any(now) for now in leaves.values()):
            lost = {n: ~now & known.get(n, True) for n, now in metrics.items()}
            seed = int(np.argmax(np.any(list(leaves.values()), axis=0)))
            bad = [name for name, now in (lost | leaves).items() if now[seed]]
            return number, seed, sorted(bad, key=partial(_place, metrics))
        known = metrics
    return None


def _place(metrics: Any, name: str) -> int:
    if name in metrics:
        return 0 if "reward" in name else 1
    return 2 if name.startswith(GRADIENTS) or "_optimizer/" in name else 3


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


def strong_init(learner: Learner, key: chex.PRNGKey, params: Any, hp: Any) -> Any:
    """``learner.init`` without weak types, as a state read from a checkpoint has none."""

    def strong(leaf: chex.Array) -> chex.Array:
        leaf = jnp.asarray(leaf)
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return leaf if is_key else jax.lax.convert_element_type(leaf, leaf.dtype)

    return jax.tree.map(strong, learner.init(key, params, hp))


def compiled_chunk(
    learner: Learner, axes: tuple[Any, Any, Any], length: int, mesh: Mesh | None = None
) -> Callable[..., Any]:
    """``(states, params, hp) -> (states, metrics)`` of ``length`` updates on every lane.

    mesh: of devices that share the lanes equally. Metrics are means over the chunk of what is not
    NaN, ``[num_lanes]`` each.
    """

    def chunk(state: Any, params: Any, hp: Any) -> tuple[Any, dict[str, chex.Array]]:
        def turn(state: Any, _: None) -> tuple[Any, dict[str, chex.Array]]:
            return learner.update(state, params, hp)

        state, metrics = jax.lax.scan(turn, state, None, length=length)
        return state, {name: jnp.nanmean(values, axis=0) for name, values in metrics.items()}

    function = spread(over_lanes(chunk, axes), mesh, axes)
    where = None if mesh is None else sharding(mesh)
    return jax.jit(function, donate_argnums=0, out_shardings=where)


def over_lanes(
    function: Callable[..., Any], axes: tuple[Any, ...], sequential: bool | None = None
) -> Callable[..., Any]:
    """``function`` on every lane.

    axes: of its arguments, 0 or None at each leaf or prefix. sequential: lane after lane, as suits
    a CPU, where products of batched matrices are slow; else all at once, as suits an accelerator.
    None decides by the default device.
    """
    if sequential is None:
        sequential = jax.default_backend() == "cpu"
    if not sequential:
        return jax.vmap(function, in_axes=axes)

    def absent(x: Any) -> bool:
        return x is None  # an axis that is None, or an argument's field without a value

    def run(*arguments: Any) -> Any:
        leaves, structure = jax.tree.flatten(arguments, is_leaf=absent)
        axis = jax.tree.leaves(jax.tree.broadcast(axes, arguments, is_leaf=absent), is_leaf=absent)
        split = [a == 0 and x is not None for x, a in zip(leaves, axis, strict=True)]
        lanes = [x for x, is_lane in zip(leaves, split, strict=True) if is_lane]

        def one(lane: list[chex.Array]) -> Any:
            own = iter(lane)
            mixed = [next(own) if is_lane else x for x, is_lane in zip(leaves, split, strict=True)]
            return function(*jax.tree.unflatten(structure, mixed))

        return jax.lax.map(one, lanes)

    return run


def lane_keys(jobs: Sequence[Job]) -> chex.PRNGKey:
    """Keys ``[num_lanes]``: seed ``i`` of a job is ``fold_in(key(seed), i)``."""
    keys = [
        jax.random.fold_in(jax.random.key(job.config["seed"]), i)
        for job in jobs
        for i in range(job.num_seeds)
    ]
    return jnp.stack(keys)


def stack_lanes(trees: Sequence[Any], num_seeds: int) -> tuple[Any, Any]:
    """One tree for all lanes and its ``vmap`` axes: leaves that no job changes stay shared."""
    structure = jax.tree.structure(trees[0])
    leaves, axes = [], []
    for versions in zip(*map(jax.tree.leaves, trees), strict=True):
        shared = all(np.array_equal(version, versions[0]) for version in versions)
        leaves.append(versions[0] if shared else jnp.repeat(jnp.stack(versions), num_seeds, axis=0))
        axes.append(None if shared else 0)
    return jax.tree.unflatten(structure, leaves), jax.tree.unflatten(structure, axes)


def split_lanes(tree: Any, jobs: Sequence[Job]) -> list[Any]:
    """The lanes of each job."""
    if len(jobs) == 1:
        return [tree]
    size = jobs[0].num_seeds
    return [
        jax.tree.map(lambda leaf, first=i * size: leaf[first : first + size], tree)
        for i in range(len(jobs))
    ]


class Recorder:
    """The files and checkpoints of one job while it trains."""

    def __init__(self, job: Job):
        self.job = job
        metrics = job.env.metrics
        self._ranked = metrics[0] if metrics else None
        self._checkpoints = Checkpoints(
            job.folder,
            evaluation.identity(job.learner),
            job.config["keep_checkpoints"],
            metrics[0].direction if metrics else "min",
        )
        self._loggers: list[Logger] = []
        self.diverged = False

    def start(self, target: Any, sharding: Any = None) -> tuple[int, Any]:
        """``(update, state)`` of the last readable checkpoint; ``(0, None)`` for a new run."""
        job, update, state = self.job, 0, None
        if job.config["resume"] is not None:
            if self._checkpoints.updates():
                update, state, skipped = self._checkpoints.restore(target, sharding=sharding)
                for line in skipped:
                    print(line)
                print(f"{job.folder}: going on from update {update}")
            else:
                print(f"{job.folder} holds no complete checkpoint; starting from update 0")
        program.write_records(job.folder, job.config | {"resume": None})
        program.write_resolved(job.folder, job.env, job.params, job.learner, job.hp)
        if program.writes():
            for name in ("timing.csv", "progress.csv"):
                truncate_csv(job.folder / name, update)
            self._loggers = make_loggers(job.folder, job.config, update)
        self._began, self._first = time.perf_counter(), update
        return update, state

    def log(self, update: int, metrics: dict[str, np.ndarray]) -> None:
        """One row per seed in ``metrics.csv``, one row in ``timing.csv``."""
        if not program.writes():
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
        if not program.writes():
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
                evaluation.policies_of(self.job.learner, state),
                evaluation.evaluation_key(self.job.config),
                episodes,
                chunk=self.job.config["episodes_per_call"],
                seeds=True,
            )
            rows = tables.seed_rows("", "", self.job.env.metrics, terms)
            value = float(np.mean([r["mean"] for r in rows if r["metric"] == self._ranked.name]))
            rows = [{name: (row | {"update": update})[name] for name in PROGRESS} for row in rows]
            if program.writes():
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


if __name__ == "__main__":
    main()
