"""Whether a training's numbers are finite, and where they first are not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from agents.lanes import compiled_chunk
from agents.learner import Learner
from runs.jobs import Job

GRADIENTS = ("optimizer", "optimiser", "rms")


class Diverged(Exception):
    """No job has a policy of finite numbers left."""


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
