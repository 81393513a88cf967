"""Environments small enough to follow by hand, one for each kind of action space and ending."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import chex
import jax
import jax.numpy as jnp

from jaxenv import spaces, struct
from jaxenv.environment import Environment, Metric, Params, State

LEFT, RIGHT, STAY = 0, 1, 2


@struct.dataclass
class CorridorState(State):
    """position: int32 in 0 .. length - 1."""

    position: chex.Array


@struct.dataclass
class CorridorParams(Params):
    """step_reward: paid every step. slip_probability: that a move does not happen."""

    step_reward: chex.Array
    slip_probability: chex.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corridor(Environment[CorridorState, CorridorParams]):
    """A walk to the right end, which terminates; no step to the left from cell 0.

    Discrete actions left, right, stay. The walk starts in cell 0 or 1. The observation is
    ``[position / (length - 1), 1]``.
    """

    length: int = 6

    name: ClassVar[str] = "corridor"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("return", "1", "max", "sum", "reward"),
        Metric("moved", "1", "max", "ratio", "moved", "tried"),
    )

    def default_params(self):
        return CorridorParams(
            max_steps=jnp.asarray(50, jnp.int32),
            step_reward=jnp.asarray(-1.0, self.dtype),
            slip_probability=jnp.asarray(0.0, self.dtype),
        )

    def reset_env(self, key, params):
        start = jax.random.bernoulli(jax.random.fold_in(key, 0), jnp.float32(0.5))
        return CorridorState(key, jnp.int32(0), start.astype(jnp.int32))

    def step_env(self, key, state, action, params):
        slip = jax.random.uniform(key, (), self.dtype) < params.slip_probability
        moves = jnp.asarray([-1, 1, 0], jnp.int32)
        move = jnp.where(slip, 0, moves[action])
        position = jnp.clip(state.position + move, 0, self.length - 1)
        info = {
            "moved": (move != 0).astype(self.dtype),
            "tried": jnp.asarray(action != STAY, self.dtype),
        }
        terminated = position == self.length - 1
        return state.replace(position=position), params.step_reward, terminated, info

    def observe(self, state, params):
        place = state.position.astype(self.dtype) / jnp.asarray(self.length - 1, self.dtype)
        return jnp.stack([place, jnp.ones_like(place)])

    @property
    def observation_space(self):
        return spaces.Box(0.0, 1.0, (2,), self.float_dtype)

    @property
    def action_space(self):
        return spaces.Discrete(3)

    def action_mask(self, state, params):
        return jnp.asarray([True, True, True]).at[LEFT].set(state.position > 0)


@struct.dataclass
class SignalState(State):
    """signal: float[2], what is seen."""

    signal: chex.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Signal(Environment[SignalState, Params]):
    """Never terminates: only the time limit ends an episode. Two heads of 2 and 3 choices.

    The reward is the sum of the chosen numbers; the next signal is uniform in [0, 1].
    """

    name: ClassVar[str] = "signal"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("sum", "1", "max", "mean", "chosen"),)

    def default_params(self):
        return Params(max_steps=jnp.asarray(7, jnp.int32))

    def reset_env(self, key, params):
        return SignalState(key, jnp.int32(0), self._draw(jax.random.fold_in(key, 0)))

    def _draw(self, key):
        return jax.random.uniform(key, (2,), self.dtype)

    def step_env(self, key, state, action, params):
        chosen = action.sum().astype(self.dtype)
        state = state.replace(signal=self._draw(key))
        return state, chosen, jnp.asarray(False), {"chosen": chosen}

    def observe(self, state, params):
        return state.signal

    @property
    def observation_space(self):
        return spaces.Box(0.0, 1.0, (2,), self.float_dtype)

    @property
    def action_space(self):
        return spaces.MultiDiscrete((2, 3))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crew(Signal):
    """Three agents, each with a Discrete(2) action and its own view; the reward is shared."""

    name: ClassVar[str] = "crew"
    num_agents: ClassVar[int] = 3

    def observe(self, state, params):
        return jnp.stack([state.signal, state.signal / 2, jnp.zeros_like(state.signal)])

    @property
    def action_space(self):
        return spaces.Discrete(2)

    def action_mask(self, state, params):
        return jnp.ones((self.num_agents, 2), bool)

    def global_state(self, state, params):
        return state.signal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dial(Signal):
    """A Tuple action: a choice of three and a level in [0, 1]; level above 0.9 terminates."""

    name: ClassVar[str] = "dial"

    def step_env(self, key, state, action, params):
        choice, level = action
        chosen = choice.astype(self.dtype) + level.sum()
        state = state.replace(signal=self._draw(key))
        return state, chosen, level[0] > 0.9, {"chosen": chosen}

    @property
    def action_space(self):
        return spaces.Tuple((spaces.Discrete(3), spaces.Box(0.0, 1.0, (1,), self.float_dtype)))


TOYS = (Corridor(), Signal(), Crew(), Dial())
