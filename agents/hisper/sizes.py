"""What is fixed of HISPER: its options and their checks, its networks, what these see and draw."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp

from agents import checks
from agents.critics import JointCritic, PairwiseCritic
from agents.hisper.state import Hyperparameters
from agents.learner import Learner, scenario_axes
from agents.sequential import SequentialActor
from agents.team import Team, View
from jaxenv.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Sizes(Learner):
    """Options of HISPER.

    hybrid_reward: one value per component of the reward, else one of their sum. autoregressive:
    sub-actions see those before them. critics: layers over all agents side by side (``joint``), or
    values of the agents with messages between those that choose the same (``pairwise``). credit:
    values are learned from the rewards of the team, or, with pairwise critics, of each agent, where
    ``env.paid_by_agent``; either way an actor ascends the value of the team. twins: the smaller of
    the values of both critics (``least``), or their mean, where nothing is bootstrapped and so
    nothing overestimated. gradient: of an actor, through the critics at its draw
    (``straight_through``), or (``expected``) of the mean value over all choices of its last
    sub-action, with the score function for those before it: critics are evaluated, not
    differentiated, and where values are right the gradient is unbiased. draws: of the sub-actions
    before the last, per row, with ``expected``; the mean of the others is the baseline of each.
    cell: of an actor, ``lstm`` or ``dense``. standardise: whether networks see the distances of
    their inputs from the mean of the prefill, in deviations. embedding: width of an embedded group.
    actor_hidden, critic_hidden: widths of the layers. lstm_width: of a cell. num_envs: that
    collect. rounds: steps of each per `update`. gradient_updates: of all actors per `update`.
    critic_steps: of the critics for each of them. batch_size, buffer_size, prefill: transitions,
    the last by random actions before the first `update`. bootstrap: False where the state does not
    depend on actions and the discount is 0: the targets are the rewards. entropy_split: weight of
    the entropy in the target of each component, alpha over their number (``third``), all of it
    (``full``) or ``none``. feed: what a cell gets of the sub-action before, its draw (``sample``)
    or its distribution (``probs``). temperature: ``fixed``, or ``learned`` for each agent, so that
    its entropy is ``entropy_share`` of the largest. schedule_updates: calls of `update` after which
    the learning rates have fallen linearly to a twentieth; 0 = constant.
    """

    hybrid_reward: bool = True
    autoregressive: bool = True
    critics: Literal["joint", "pairwise"] = "joint"
    credit: Literal["team", "agents"] = "team"
    twins: Literal["least", "mean"] = "least"
    gradient: Literal["straight_through", "expected"] = "straight_through"
    draws: int = 2
    cell: Literal["lstm", "dense"] = "lstm"
    standardise: bool = False
    embedding: int = 32
    actor_hidden: tuple[int, ...] = (256, 256)
    critic_hidden: tuple[int, ...] = (512, 512, 256, 256, 128)
    lstm_width: int = 128
    num_envs: int = 20
    rounds: int = 100
    gradient_updates: int = 100
    critic_steps: int = 1
    batch_size: int = 1000
    buffer_size: int = 370_000
    prefill: int = 90_000
    bootstrap: bool = True
    entropy_split: Literal["third", "full", "none"] = "third"
    feed: Literal["sample", "probs"] = "sample"
    temperature: Literal["fixed", "learned"] = "fixed"
    schedule_updates: int = 0

    def __post_init__(self) -> None:
        checks.check_fields(self)
        if self.gradient == "expected" and self.draws < 2:
            raise ConfigError("draws", self.draws, "give at least 2")
        if self.buffer_size < self.prefill or self.buffer_size < self.num_envs:
            least = max(self.prefill, self.num_envs)
            raise ConfigError("buffer_size", self.buffer_size, f"give at least {least}")
        if self.credit == "agents" and self.critics != "pairwise":
            raise ConfigError("credit", self.credit, "critics=joint need team")
        if self.credit == "agents" and not self.env.paid_by_agent:
            valid = f"env={self.env.name} pays the team only: give team"
            raise ConfigError("credit", self.credit, valid)

    @property
    def actor(self) -> SequentialActor:
        """From an agent's observation to its sub-actions."""
        return SequentialActor(
            **self._team.actor_shape(),
            embedding=self.embedding,
            hidden=self.actor_hidden,
            width=self.lstm_width,
            autoregressive=self.autoregressive,
            feed=self.feed,
            dtype=self.env.float_dtype,
            cell=self.cell,
            standardise=self.standardise,
            relaxed=self.gradient == "straight_through",
        )

    @property
    def critic(self) -> JointCritic | PairwiseCritic:
        """From the global state and all actions to the normalised value of each component."""
        shape = self._team.critic_shape()
        kind = JointCritic
        if self.critics == "pairwise":
            kind, shape = PairwiseCritic, shape | self._team.meeting()
        return kind(
            **shape,
            embedding=self.embedding,
            hidden=self.critic_hidden,
            outputs=self._team.num_parts,
            dtype=self.env.float_dtype,
            standardise=self.standardise,
        )

    @property
    def _team(self) -> Team:
        return Team(self.env, self.hybrid_reward, self.credit == "agents")

    def _view(self, states: Any, lane: chex.Array, params: Any) -> View:
        """What stored states show."""
        axes = scenario_axes(self.env, params)
        own = jax.tree.map(
            lambda axis, leaf: leaf if axis is None else leaf[lane],
            axes,
            params,
            is_leaf=lambda axis: axis is None,
        )
        states = states.replace(key=jax.random.wrap_key_data(states.key))
        return self._team.view(states, own)

    def _draw(
        self, actors: Any, view: View, key: chex.PRNGKey, hp: Hyperparameters
    ) -> tuple[chex.Array, chex.Array]:
        """One-hots of all agents ``[n, B, heads, choices]``, log pi of each ``[n, B]``."""
        keys = jax.random.split(key, self.env.num_agents)
        draw = jax.vmap(self._draw_one, (0, 0, 0, 0, None))
        return draw(actors, view.observation, view.mask, keys, hp)

    def _draw_one(
        self,
        actor: Any,
        observation: chex.Array,
        mask: chex.Array,
        key: chex.PRNGKey,
        hp: Hyperparameters,
    ) -> tuple[chex.Array, chex.Array]:
        """`_draw` of one agent."""
        noise = jax.random.gumbel(key, mask.shape, self.env.float_dtype)
        one_hot, log_probability = self.actor.apply(actor, observation, mask, noise, hp.relaxation)
        return one_hot, jnp.sum(one_hot * log_probability, axis=(-2, -1))
