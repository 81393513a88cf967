"""What the examples share: other libraries' policies in this library's own evaluation table.

A policy trained elsewhere becomes an `agents.learner.Policy` and is measured by
`runs.evaluate.measure`, as every learner is: on the episodes that the baselines and the bound meet.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from agents import registry
from agents.learner import Policy
from jaxenv import struct
from jaxenv.adapters.actions import chooser
from jaxenv.environment import Environment
from runs.evaluate import measure
from runs.folders import write_records


@struct.dataclass
class Foreign(Policy):
    """A policy of another JAX library.

    weights: any pytree. choose: ``(weights, key, observation, mask)`` to an action of ``wrapped``,
    the environment it was trained in, whose own actions may be flat, sequential or repaired.
    """

    weights: Any
    choose: Callable[..., chex.Array] = struct.field(pytree_node=False)
    wrapped: Environment = struct.field(pytree_node=False)

    def act(self, carry, key, observation, mask, state, params):
        choose = chooser(self.wrapped, lambda *seen: self.choose(self.weights, *seen))
        return jnp.asarray(choose(key, observation, mask), jnp.int32), carry


@struct.dataclass
class OnHost(Policy):
    """A policy outside of JAX, asked by a callback.

    seed: its training seed. choose: ``(observations [n, ...], masks [n, ...])`` to actions ``[n]``,
    NumPy arrays all.
    """

    seed: chex.Array
    choose: Callable[[np.ndarray, np.ndarray], np.ndarray] = struct.field(pytree_node=False)

    def act(self, carry, key, observation, mask, state, params):
        def ask(observation: Any, mask: Any) -> np.ndarray:
            observation, mask = np.array(observation), np.array(mask)  # writable
            lead = mask.shape[:-1]
            chosen = self.choose(
                observation.reshape(-1, observation.shape[-1]), mask.reshape(-1, mask.shape[-1])
            )
            return np.asarray(chosen, np.int32).reshape(lead)

        shape = jax.ShapeDtypeStruct((), jnp.int32)
        action = jax.pure_callback(ask, shape, observation, mask, vmap_method="broadcast_all")
        return action, carry


def one_seed(tree: Any) -> Any:
    """``tree`` with the leading axis of training seeds that `report` expects of policies."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], tree)


def train_ours(
    name: str, env: Environment, params: Any, num_updates: int, seed: int, **options: Any
) -> dict[str, Policy]:
    """This library's learner ``name`` after ``num_updates`` with falling rates, by its name."""
    build = registry.learner_class(name).build
    learner, hp = build(env, schedule_updates=num_updates, **options)

    @jax.jit
    def train(key: chex.PRNGKey) -> Policy:
        state = learner.init(key, params, hp)
        state = jax.lax.fori_loop(
            0, num_updates, lambda _, state: learner.update(state, params, hp)[0], state
        )
        return learner.policy(state)

    return {name: one_seed(timed(name, lambda: train(jax.random.key(seed))))}


def arguments(description: str, **defaults: int) -> argparse.ArgumentParser:
    """The options of every example. defaults: of ``steps`` and ``ours``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--steps", type=int, help="environment steps of training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=32, help="episodes of the table")
    parser.add_argument("--ours", type=int, help="updates of this library's learner")
    parser.add_argument("--folder", type=Path, help="where evaluation.csv is written")
    parser.set_defaults(**defaults)
    return parser


def timed(what: str, call: Callable[[], Any]) -> Any:
    """What ``call`` returns, when it is there; says how long it took, compilation included."""
    began = time.perf_counter()
    out = jax.block_until_ready(call())
    print(f"{what}: {time.perf_counter() - began:.0f} s", flush=True)
    return out


def report(
    given: argparse.Namespace,
    name: str,
    env: Environment,
    params: Any,
    learned: dict[str, Policy],
    baselines: tuple[str, ...],
    packages: tuple[str, ...],
) -> None:
    """Measures policies (stacked over seeds), baselines and the bound; writes and shows the table.

    ``evaluation.csv`` is in ``given.folder``, by default ``outputs/examples/NAME``, beside the
    options in use, the versions of ``packages`` and the hardware.
    """
    folder = given.folder or Path("outputs/examples") / name
    folder.mkdir(parents=True, exist_ok=True)
    used = {key: value for key, value in vars(given).items() if key != "folder"}
    clients = {package: importlib.metadata.version(package) for package in packages}
    write_records(folder, {"example": name, **used, "clients": clients})
    config = {"scenario": env.name, "eval_seed": 0, "episodes_per_call": 64}
    measure(config, folder, env, params, learned, baselines, given.episodes)
