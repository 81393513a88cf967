"""Environments that collect: one step of one, whatever a learner makes of it."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import chex
import jax.numpy as jnp

from agents import tally
from jaxenv import struct
from jaxenv.environment import Environment


@struct.dataclass
class Lane:
    """An environment that collects; in a learner's state leaves have a leading axis of them.

    deciding: whether its state waits for a decision. episode: what its metrics are made of.
    """

    env_state: Any
    deciding: chex.Array
    episode: tally.Tally


AnyLane = TypeVar("AnyLane", bound=Lane)


class Outcome(NamedTuple):
    """What a step led to, before any reset.

    deciding: whether it reached a decision or the end. terminated, done: of the episode.
    """

    observation: chex.Array
    env_state: Any
    reward: chex.Array
    deciding: chex.Array
    terminated: chex.Array
    done: chex.Array
    info: dict[str, Any]


def step(
    env: Environment, lane: AnyLane, key: chex.PRNGKey, action: chex.Array, params: Any
) -> tuple[AnyLane, Outcome, dict[str, chex.Array]]:
    """One step of one environment, which starts again where it ended.

    key: of a reset.

    Returns:
        The lane after it, what it led to, and counts: ``decisions`` and those of `tally.add`.
    """
    observation, after, reward, terminated, truncated, info = env.transition(
        lane.env_state, action, params
    )
    done = terminated | truncated
    deciding = info["decision_pending"] | done
    episode, counts = tally.add(lane.episode, env, info, reward, deciding, done)
    counts |= {"decisions": lane.deciding.astype(jnp.int32)}
    env_state = env.restart(key, after, done, params)
    following = lane.replace(env_state=env_state, deciding=deciding, episode=episode)
    return following, Outcome(observation, after, reward, deciding, terminated, done, info), counts
