"""Settings drawn at random, every one of every group: each runs or is refused in one line.

Hypothesis draws in this process; another one tries, so that what hangs, dies or eats the memory
ends that one alone.
"""

from __future__ import annotations

import dataclasses
import queue
import random
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from agents import registry as agents_registry
from agents.lanes import strong_init
from agents.learner import Learner
from jaxenv import registry
from jaxenv.errors import ConfigError
from runs import program, tables, train
from runs.divergence import flags, not_sound
from runs.drilling import Outcome, processes
from runs.settings import (
    CONF,
    Config,
    build_env,
    build_learner,
    check_integer,
    options_of,
    stored_yaml,
)

COLUMNS = ("group", "name", "field", "value", "outcome", "what")
# Small sizes: an environment and a learner by the groups whose settings are drawn on them.
ENVS: dict[str, Config] = {
    "partitioning": {"num_servers": 2, "num_blocks": 3, "max_steps": 20},
    "robust": {"max_devices": 2},
    "services": {"num_servers": 3, "max_steps": 5},
    "splitting": {"max_steps": 20},
    "vehicular": {"num_rsus": 2, "num_vehicles": 3, "max_steps": 20},
}
PPO = {"hidden": [8], "num_envs": 4, "rollout_length": 4, "epochs": 1, "num_minibatches": 1}
OFF_POLICY = {
    "hidden": [8],
    "num_envs": 4,
    "batch_size": 8,
    "buffer_size": 64,
    "learning_starts": 8,
}
TEAM = {"embedding": 4, "actor_hidden": [8], "critic_hidden": [8], "num_envs": 4}
ENTROPY = {"lstm_width": 4, "rounds": 2, "gradient_updates": 2, "batch_size": 8}
ENTROPY |= {"buffer_size": 64, "prefill": 16}
AGENTS: dict[str, tuple[str, Config]] = {
    "ppo": ("partitioning", PPO),
    "dqn": ("partitioning", OFF_POLICY),
    "a3c": ("partitioning", {"hidden": [8], "num_workers": 2, "rollout_length": 4}),
    "sac_discrete": ("splitting", OFF_POLICY),
    "happo": ("services", TEAM | {"rollout_length": 4, "epochs": 1}),
    "hasac": ("services", TEAM | ENTROPY),
    "hisper": ("services", TEAM | ENTROPY),
}
# What a whole run of the program is given, where one of its own settings is drawn.
RUN = ["env=partitioning", "agent=ppo", "num_updates=2", "eval_episodes=2", "baselines=[]"]
RUN += [f"env.{name}={value}" for name, value in ENVS["partitioning"].items()]
RUN += [f"agent.{name}={value}" for name, value in PPO.items()]
LENGTHS = {"num_updates", "num_seeds", "eval_episodes", "checkpoint_episodes"}
SKIPPED = {"defaults", "hydra", "env", "agent", "experiment", "name"}


@dataclasses.dataclass(frozen=True)
class Field:
    """One setting. group: env, agent or train. static: whether it fixes shapes or code."""

    group: str
    name: str
    field: str
    default: Any
    static: bool


def drill(config: Config, folder: Path) -> Iterator[Outcome]:
    """Each draw trains two updates of finite numbers, or is refused in one line.

    Draws are counted by whether the setting is a traced number, whose program is compiled once, or
    fixes shapes or code, or is one of the program's own, with which the whole program runs.
    """
    workers, limit_s = check_integer(config, "workers"), 60 * check_integer(config, "fuzz_minutes")
    rows: list[tables.Row] = []
    for kind in ("traced", "static", "program"):
        draws = check_integer(config, f"{kind}_draws", low=0)
        found = fields(kind)
        random.Random(f"{kind} {config['seed']}").shuffle(found)
        before = len(rows)
        for row in attempts(found, draws, config["seed"], workers, limit_s):
            rows.append(row)
            tables.write_csv(folder.parent / "draws.csv", COLUMNS, rows)
        if draws:
            yield outcome(kind, found, rows[before:])


def outcome(kind: str, found: list[Field], tried: list[tables.Row]) -> Outcome:
    """The draws of a kind in numbers."""
    bad = [row for row in tried if row["outcome"] not in ("ran", "refused", "stopped")]
    counts = {name: sum(row["outcome"] == name for row in tried) for name in ("ran", "refused")}
    stopped = sum(row["outcome"] == "stopped" for row in tried)
    met = len({(row["group"], row["name"], row["field"]) for row in tried})
    note = f"{counts['ran']} ran, {counts['refused']} refused"
    note += f", {stopped} stopped as not finite" if stopped else ""
    note += f"; {met} of {len(found)} settings"
    note += "".join(f"; {r['field']}={r['value']}: {r['what']}" for r in bad[:1])
    return Outcome(f"{kind} settings", len(tried) - len(bad), "draws", len(bad), note)


def attempts(
    found: list[Field], draws: int, seed: int, workers: int, limit_s: float
) -> Iterator[tables.Row]:
    """What became of so many draws, which take the settings in turn; fewer after ``limit_s``.

    Draws on one environment or learner are tried by one process, which compiles their program once.
    """
    rounds = examples(found, -(-draws // len(found)), seed) if draws else []
    drawn = [pair for values in rounds for pair in zip(found, values, strict=True)][:draws]
    by_program: dict[str, list[tuple[Field, Any]]] = {}
    for field, value in drawn:
        by_program.setdefault(field.name, []).append((field, value))
    done: queue.SimpleQueue[tables.Row | None] = queue.SimpleQueue()
    end = time.monotonic() + limit_s

    def all_of(pairs: list[tuple[Field, Any]]) -> None:
        try:
            with processes.Worker() as worker:
                for field, value in pairs:
                    if time.monotonic() > end:
                        break
                    plain = dataclasses.replace(field, default=None)
                    result, what = worker.call(attempt, plain, value)
                    row = {"value": repr(value), "outcome": result, "what": what}
                    done.put({name: row.get(name, getattr(field, name, None)) for name in COLUMNS})
        finally:
            done.put(None)

    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(all_of, pairs) for pairs in by_program.values()]
        for _ in running:
            yield from iter(done.get, None)
        for future in running:
            future.result()


def examples(found: list[Field], count: int, seed: int) -> list[tuple[Any, ...]]:
    """So many examples of a value for every setting, as Hypothesis draws them."""
    from hypothesis import HealthCheck, Phase, given, settings, strategies
    from hypothesis import seed as seeded

    drawn: list[tuple[Any, ...]] = []

    @seeded(seed)
    @settings(
        max_examples=count + 1,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategies.tuples(*map(values, found)))
    def draw(example: tuple[Any, ...]) -> None:
        drawn.append(example)

    draw()
    return drawn[1:]  # the first has the simplest value everywhere


# ---- what is drawn -----------------------------------------------------------------------------


def fields(kind: str) -> list[Field]:
    """All settings of a kind: traced numbers, static ones, or those of the program itself."""
    if kind == "program":
        config = stored_yaml(CONF / "train.yaml") | stored_yaml(CONF / "base.yaml")
        config = {name: value for name, value in config.items() if name not in SKIPPED}
        groups = dict.fromkeys(("logger", "launcher"))
        return [Field("train", "", n, v, True) for n, v in (config | groups).items()]
    found: list[Field] = []
    for name, own in ENVS.items():
        env, params = registry.make(name, **options_of(own))
        found += _group("env", name, env, params)
    for name, (env_name, own) in AGENTS.items():
        env, _ = registry.make(env_name, **options_of(ENVS[env_name]))
        config = stored_yaml(CONF / "agent" / f"{name}.yaml")
        learner = agents_registry.learner_class(config["name"])
        found += _group("agent", name, *learner.build(env, **options_of(config | own)))
    return [field for field in found if field.static == (kind == "static")]


def _group(group: str, name: str, static: Any, traced: Any) -> list[Field]:
    """The settings that the YAML file of a group names, with their defaults."""
    known = stored_yaml(CONF / group / f"{name}.yaml")
    return [
        Field(group, name, field, getattr(traced, field, getattr(static, field, None)), static_one)
        for field in known
        if field not in SKIPPED
        for static_one in [not hasattr(traced, field)]
    ]


def values(field: Field) -> Any:
    """A strategy of values for a setting: near its default, of its type, and of no use at all."""
    from hypothesis import strategies as st

    wild = st.sampled_from(
        [
            *(None, True, False, "text", "", [], [1, 2, 3], [[1.5]], {"a": 1}, ["a"]),
            *(float("nan"), float("inf"), -float("inf"), -1, 0, -0.5, 1e40, 1e-40, 1e30, 1e-30),
            *(3e38, -3e38, 2**31, 2**31 - 1, 2**63, 10**12, -(2**31)),
        ]
    )
    near: Any = st.one_of(st.integers(-2, 6), st.text(max_size=5), st.booleans())
    default = field.default
    if field.static:  # a loop as long as that is no mistake, but has no end here
        wild = wild.filter(lambda x: x != 2**31 - 1)
    if field.field in LENGTHS:
        wild = wild.filter(lambda x: not isinstance(x, int) or x < 4 or x >= 2**31)
        near = st.integers(-1, 3)
    elif isinstance(default, str):
        near = st.sampled_from([default, default.upper(), default + "x"])
    elif isinstance(default, tuple | list):
        near = st.lists(st.integers(0, 6), max_size=3)
    elif hasattr(default, "dtype") and default.dtype.kind == "f":
        scale = st.floats(0.1, 10.0)
        near = scale.map(lambda x: (np.asarray(default, float) * x).tolist())
        near = st.one_of(near, st.floats(width=32), st.floats(0, 1, width=32))
    elif isinstance(default, int) or hasattr(default, "dtype"):
        near = st.integers(-1, 6)
    return st.one_of(near, wild)


# ---- the process that tries --------------------------------------------------------------------


def attempt(field: Field, value: Any) -> tuple[str, str]:
    """``(outcome, what)``: ran, refused, stopped or not as it must be, and its line."""
    jax.config.update("jax_enable_x64", False)
    jax.config.update("jax_disable_most_optimizations", True)
    if field.group == "train":
        return whole_program(field.field, value)
    try:
        return two_updates(field, value)
    except ConfigError as error:
        return ("refused" if "\n" not in str(error) else "many lines"), str(error)
    except MemoryError as error:  # as `runs.program` says it
        return "refused", str(program.too_large(error))
    except Exception as error:
        refusal = program.too_large(error)
        if refusal is not None:
            return "refused", str(refusal)
        return "traceback", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def two_updates(field: Field, value: Any) -> tuple[str, str]:
    """Builds what a training builds with one setting drawn, and trains two updates."""
    name, agent = field.name, "ppo"
    if field.group == "agent":
        name, agent = AGENTS[field.name][0], field.name
    config = {
        "precision": "float32",
        "env": {"name": name} | ENVS[name],
        "agent": stored_yaml(CONF / "agent" / f"{agent}.yaml") | AGENTS[agent][1],
    }
    if config["agent"].get("schedule_updates", 0) is None:
        config["agent"]["schedule_updates"] = 2
    config[field.group][field.field] = value
    env, params = build_env(config)
    learner, hp = build_learner(config, env)
    key = jax.random.key(0)
    train.check_memory(jax.eval_shape(learner.init, key, params, hp))
    found = jax.device_get(trained(learner)(key, params, hp))
    state, metrics = ([name for name, flag in flags.items() if flag] for flags in found)
    if metrics and not state:
        return "unnoticed", ", ".join(metrics[:5])
    return ("stopped" if state else "ran"), ", ".join([*metrics, *state][:5])


@lru_cache(maxsize=24)
def trained(learner: Learner) -> Any:
    """``(key, params, hp) -> (state, metrics)``, compiled: flags by name after two updates.

    Of the state, of what ends a training; of metrics, of what is not finite.
    """

    def run(key: chex.PRNGKey, params: Any, hp: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        state = strong_init(learner, key, params, hp)
        meant = not_sound(learner, state)
        state, metrics = jax.lax.scan(
            lambda state, _: learner.update(state, params, hp), state, length=2
        )
        found = not_sound(learner, state)
        unmeant = {name: flag & ~meant[name] for name, flag in found.items()}
        return unmeant, flags(metrics, lambda x: ~jnp.isfinite(x))

    return jax.jit(run)


def whole_program(name: str, value: Any) -> tuple[str, str]:
    """Runs ``runs.train`` with one of its own settings."""
    given = [argument for argument in RUN if argument.split("=")[0] != name]
    with tempfile.TemporaryDirectory() as folder:
        arguments = [*given, f"{name}={spelled(value)}", f"hydra.run.dir={folder}/run"]
        ended = processes.called(arguments)
    if ended.status == 0:
        return "ran", ""
    if ended.status not in (1, 2) or len(ended.errors) != 1 or "Traceback" in ended.text:
        return f"status {ended.status}", ended.text[-300:]
    line = ended.errors[0].replace(folder, "DIR")
    return "refused" if ended.status == 2 else "stopped", line


def spelled(value: Any) -> str:
    """A value as the command line has it."""
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if isinstance(value, list):
        return f"[{','.join(map(spelled, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{spelled(x)}" for name, x in value.items()) + "}"
    return "null" if value is None else str(value).lower()
