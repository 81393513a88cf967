"""Transitions from environments that step in parallel, for learners with a replay buffer.

With ``reward_mode="own"`` an environment pays each decision when its own task ends, in
``info["finished"]``; a transition is held until then.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from agents import collecting, replay, tally
from agents.learner import scenario_axes, unsupported_observation
from agents.spread import gathered, over_environments
from jaxenv import struct
from jaxenv.environment import Environment
from jaxenv.errors import ConfigError

Act = Callable[[chex.Array, chex.Array, chex.PRNGKey], chex.Array]


@struct.dataclass
class Transition:
    """Rows of the replay buffer. Masks are packed, one bit per entry. Rewards are unscaled but for
    the environment's unit.

    Shapes behind leading axes of rows; D numbers in an observation, A of an action's shape, B =
    ceil(entries of a mask / 8) bytes.
    """

    observation: chex.Array  # [..., D] float
    mask: chex.Array  # [..., B] uint8
    action: chex.Array  # [..., *A] int32
    reward: chex.Array  # [...] float
    next_observation: chex.Array  # [..., D] float
    next_mask: chex.Array  # [..., B] uint8
    terminated: chex.Array  # [...] bool


@struct.dataclass
class Held:
    """Transitions of one environment that are not complete yet.

    One row per vehicle where each decision is paid on its own, else one.

    transition: as far as known. decision: index of the decision in its episode. open: the row is in
    use. paid: its reward is complete. followed: its next observation is known.
    """

    transition: Transition  # [rows, ...]
    decision: chex.Array  # [rows] int32
    open: chex.Array  # [rows] bool
    paid: chex.Array  # [rows] bool
    followed: chex.Array  # [rows] bool


@struct.dataclass
class Lane(collecting.Lane):
    """A lane with its transitions; in a learner's state leaves have an axis ``num_envs``.

    decisions: taken so far in the episode.
    """

    decisions: chex.Array  # [] int32
    held: Held  # [rows, ...]


def unsupported(env: Environment) -> str | None:
    """Why transitions of ``env`` cannot be stored, or None where they can."""
    reason = unsupported_observation(env)
    if reason is None and len(env.observation_space.shape) != 1:
        reason = f"it needs a flat observation, not shape {env.observation_space.shape}"
    return reason


@dataclasses.dataclass(frozen=True)
class Collector:
    """Steps lanes of one environment and stores what completes.

    reward_in_units: whether rewards are stored over ``env.reward_unit(params)``.
    """

    env: Environment
    reward_in_units: bool = True

    @property
    def held_rows(self) -> int:
        """The most transitions that one step of one environment can complete."""
        return self.env.num_vehicles if self._pays_own else 1

    def check_buffer(self, num_envs: int, buffer_size: int, learning_starts: int) -> None:
        """Refuses a buffer that cannot hold one step of every environment, or a start it cannot."""
        if learning_starts > buffer_size:
            valid = f"give at most buffer_size ({buffer_size})"
            raise ConfigError("learning_starts", learning_starts, valid)
        rows = num_envs * self.held_rows
        if buffer_size < rows:
            valid = f"give at least {rows}, which one step can add"
            raise ConfigError("buffer_size", buffer_size, valid)

    def start(self, keys: chex.PRNGKey, params: Any) -> Lane:
        """One lane per key; each leaf of ``params`` may carry a leading axis of lanes."""
        return jax.vmap(self._first_lane, (0, scenario_axes(self.env, params)))(keys, params)

    def row(self, lanes: Lane) -> Transition:
        """A transition of the shapes that `step` stores."""
        return jax.tree.map(lambda leaf: leaf[0, 0], lanes.held.transition)

    def step(
        self, lanes: Lane, buffer: replay.Replay, act: Act, keys: chex.PRNGKey, params: Any
    ) -> tuple[Lane, replay.Replay, dict[str, chex.Array]]:
        """One step of every environment, its complete transitions stored.

        Args:
            lanes: leaves ``[num_envs, ...]``.
            buffer: where transitions go.
            act: from observations, masks (leaves ``[num_envs, ...]``) and a key to actions.
            keys: of ``act``, then one per environment, ``[1 + num_envs]``.
            params: the scenario; each leaf may carry a leading axis ``num_envs``.

        Returns:
            Lanes, buffer and counts for `totals`.
        """
        axes = scenario_axes(self.env, params)
        env_states = lanes.env_state
        observation, mask = gathered(over_environments(self._shown, (0, axes))(env_states, params))
        action = act(observation, mask, keys[0])
        lanes, *made = over_environments(self._lane_step, (0, 0, 0, 0, 0, axes))(
            lanes,
            keys[1:],
            observation,
            mask,
            action,
            params,
        )
        rows, complete, ended = gathered(made)
        rows, complete = jax.tree.map(
            lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), (rows, complete)
        )
        counts = {
            "mean_reward": jnp.sum(rows.reward, where=complete),
            "transitions": jnp.sum(complete, dtype=jnp.int32),
        }
        counts |= {name: _total(values) for name, values in ended.items()}
        return lanes, replay.add(buffer, rows, complete), counts

    def unpack(self, packed: chex.Array) -> chex.Array:
        """Packed masks ``[..., B]`` of transitions as masks of the environment."""
        shape = jax.eval_shape(self.env.action_space.mask).shape
        flat = replay.unpack_mask(packed, math.prod(shape))
        return flat.reshape(*packed.shape[:-1], *shape)

    def _shown(self, env_state: Any, params: Any) -> tuple[chex.Array, chex.Array]:
        return self.env.observe(env_state, params), self.env.action_mask(env_state, params)

    def _lane_step(
        self,
        lane: Lane,
        key: chex.PRNGKey,
        observation: chex.Array,
        mask: chex.Array,
        action: chex.Array,
        params: Any,
    ) -> tuple[Lane, Transition, chex.Array, dict[str, chex.Array]]:
        """One step of one environment: the lane after it, rows, which are complete, and counts."""
        slot = lane.env_state.vehicle if self._pays_own else 0
        held = _open(lane.held, slot, lane.deciding, observation, mask, action, lane.decisions)
        after, met, counts = collecting.step(self.env, lane, key, action, params)
        unit = self.env.reward_unit(params) if self.reward_in_units else 1.0
        if self._pays_own:
            finished = met.info["finished"]
            held = _pay_own(held, finished | {"reward": finished["reward"] / unit})
        else:
            held = _pay(held, met.reward / unit, met.deciding)
        final_mask = met.info["final_action_mask"]
        held = _follow(held, met.deciding, met.observation, final_mask, met.terminated)
        complete = held.open & held.paid & held.followed
        after = after.replace(
            decisions=jnp.where(met.done, 0, lane.decisions + lane.deciding),
            held=held.replace(open=held.open & ~complete & ~met.done),
        )
        return after, held.transition, complete, counts

    def _first_lane(self, key: chex.PRNGKey, params: Any) -> Lane:
        observation, env_state = self.env.reset(key, params)
        packed = _pack(jnp.zeros_like(self.env.action_mask(env_state, params)))
        zero, no = jnp.zeros((), self.env.float_dtype), jnp.asarray(False)
        empty = Transition(
            observation=jnp.zeros_like(observation),
            mask=packed,
            action=jnp.zeros(self.env.action_space.shape, jnp.int32),
            reward=zero,
            next_observation=jnp.zeros_like(observation),
            next_mask=packed,
            terminated=no,
        )
        held = Held(empty, decision=jnp.int32(-1), open=no, paid=no, followed=no)
        return Lane(
            env_state=env_state,
            deciding=jnp.asarray(True),
            decisions=jnp.int32(0),
            held=jax.tree.map(lambda x: jnp.stack([x] * self.held_rows), held),
            episode=tally.start(self.env),
        )

    @property
    def _pays_own(self) -> bool:
        return getattr(self.env, "reward_mode", None) == "own"


def totals(counts: dict[str, chex.Array]) -> dict[str, chex.Array]:
    """Sums counts ``[steps]`` of `Collector.step`; ``mean_reward`` is then that of a transition."""
    metrics = {name: _total(values) for name, values in counts.items()}
    metrics["mean_reward"] /= jnp.maximum(metrics["transitions"], 1)
    return metrics


# ---- held transitions of one environment ----------------------------------------------------


def _open(
    held: Held,
    slot: chex.Array,
    deciding: chex.Array,
    observation: chex.Array,
    mask: chex.Array,
    action: chex.Array,
    decision: chex.Array,
) -> Held:
    """Row ``slot`` starts a transition, if a decision is being taken."""
    rows = held.open.shape[0]
    place = jnp.where(deciding, slot, rows)

    def write(leaf: chex.Array, value: Any) -> chex.Array:
        return leaf.at[place].set(value, mode="drop")

    transition = held.transition
    transition = transition.replace(
        observation=write(transition.observation, observation),
        mask=write(transition.mask, _pack(mask)),
        action=write(transition.action, action),
        reward=write(transition.reward, 0.0),
    )
    return Held(
        transition=transition,
        decision=write(held.decision, decision),
        open=write(held.open, True),
        paid=write(held.paid, False),
        followed=write(held.followed, False),
    )


def _pay(held: Held, reward: chex.Array, deciding: chex.Array) -> Held:
    """Adds a scalar reward; all of it is paid when the next decision is reached."""
    total = held.transition.reward + reward
    return held.replace(transition=held.transition.replace(reward=total), paid=held.paid | deciding)


def _pay_own(held: Held, finished: dict[str, chex.Array]) -> Held:
    """Pays the rows whose own tasks have ended."""
    paid = finished["mask"] & held.open & (finished["decision"] == held.decision)
    reward = jnp.where(paid, finished["reward"], held.transition.reward)
    return held.replace(transition=held.transition.replace(reward=reward), paid=held.paid | paid)


def _follow(
    held: Held,
    deciding: chex.Array,
    observation: chex.Array,
    mask: chex.Array,
    terminated: chex.Array,
) -> Held:
    """Gives the latest row its next observation, if that of a decision or an end was reached."""
    follow = deciding & held.open & ~held.followed
    transition = held.transition

    def write(leaf: chex.Array, value: chex.Array) -> chex.Array:
        chosen = follow.reshape(-1, *(1,) * value.ndim)
        return jnp.where(chosen, value, leaf)

    transition = transition.replace(
        next_observation=write(transition.next_observation, observation),
        next_mask=write(transition.next_mask, _pack(mask)),
        terminated=write(transition.terminated, terminated),
    )
    return held.replace(transition=transition, followed=held.followed | follow)


def _total(values: chex.Array) -> chex.Array:
    return jnp.sum(values, axis=0, dtype=values.dtype)


def _pack(mask: chex.Array) -> chex.Array:
    return replay.pack_mask(mask.reshape(-1))
