"""What a run of HISPER is made of: hyperparameters, stored transitions, what gradients change."""

from __future__ import annotations

from typing import Any

import chex
import jax
import optax

from agents import replay
from agents.team import Lane, Scale
from jaxenv import struct

adam = optax.scale_by_adam()


@struct.dataclass
class Hyperparameters:
    """Traced scalars; a grid of them trains as one program.

    lr_actor, lr_critic, lr_alpha: of Adam. alpha: temperature, in units of the reward. first_alpha:
    that of the start, from which it falls geometrically over ``fall_share`` of the schedule, or is
    learned; without both it is ``alpha`` from the start. entropy_share: target of a learned
    temperature, in shares of the entropy of the uniform policy. discount: per step (phi).
    target_decay: share of the target networks that an update keeps (tau in (34)).
    max_gradient_norm: of an actor. value_decay: of the running mean and deviation of the targets.
    relaxation: temperature of the Gumbel-softmax.
    """

    lr_actor: chex.Array
    lr_critic: chex.Array
    lr_alpha: chex.Array
    alpha: chex.Array
    first_alpha: chex.Array
    fall_share: chex.Array
    entropy_share: chex.Array
    discount: chex.Array
    target_decay: chex.Array
    max_gradient_norm: chex.Array
    value_decay: chex.Array
    relaxation: chex.Array


@struct.dataclass
class Transition:
    """A row of the replay buffer: states, from which all that is observed is computed again.

    state, next_state: of the environment, the latter None where nothing is bootstrapped. action:
    ``[n, heads]``. reward: components ``[parts]``. lane: int32, where it was made.
    """

    state: Any
    action: chex.Array
    reward: chex.Array
    next_state: Any
    terminated: chex.Array
    lane: chex.Array


@struct.dataclass
class Learned:
    """What gradients change. actors: ``[n, ...]``. critics, targets: ``[2, ...]``.

    log_alpha: ``[n]``.
    """

    actors: Any
    actor_optimizer: Any
    critics: Any
    critic_optimizer: Any
    targets: Any
    scale: Scale
    log_alpha: chex.Array
    alpha_optimizer: Any


@struct.dataclass
class HisperState:
    """A whole training run: one pytree, from which it resumes exactly. updates: so far."""

    learned: Learned
    replay: replay.Replay
    lanes: Lane
    updates: chex.Array
    key: chex.PRNGKey


def packed(states: Any) -> Any:
    """States whose key is plain data, as a buffer holds them."""
    return states.replace(key=jax.random.key_data(states.key))
