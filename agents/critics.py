"""Critics of a team: values of the global state and of what all agents do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from agents.networks import Inputs, Trunk, head_init, hidden_init


class JointCritic(nn.Module):
    """Values of a global state and, with ``acting``, of the actions of all agents.

    Every agent's row of the state and its action pass through layers whose weights all agents
    share. The first hidden layer is a sum over its inputs, so the part of one agent's action can be
    replaced without the others being computed again. Source: HISPER (`agents.hisper` has the
    reference), Fig. 2(b).

    num_agents, row: agents, and entries of each at the start of the state, 0 = none. groups: the
    other entries, by embedding. embedding: its width. hidden: widths of the layers. outputs:
    values. standardise: whether there are `Inputs`.
    """

    num_agents: int
    row: int
    groups: Sequence[int]
    embedding: int
    hidden: Sequence[int]
    outputs: int
    acting: bool = True
    dtype: np.dtype = np.dtype(np.float32)
    standardise: bool = False

    def setup(self) -> None:
        types = {"dtype": self.dtype, "param_dtype": self.dtype}
        self.inputs = Inputs(self.dtype)
        owned = (self.num_agents if self.row else 0) + len(self.groups)
        acted = self.num_agents if self.acting else 0
        shape = (self.embedding * (owned + acted), self.hidden[0])
        self.first = self.param("first", hidden_init, shape, self.dtype)
        self.bias = self.param("bias", nn.initializers.zeros, shape[1:], self.dtype)
        self.rows = Trunk((self.embedding,), self.dtype)
        self.actions = Trunk((self.embedding,), self.dtype)
        self.shared = [Trunk((self.embedding,), self.dtype) for _ in self.groups]
        self.rest = Trunk(self.hidden[1:], self.dtype)
        self.values = nn.Dense(self.outputs, kernel_init=head_init(1.0), **types)

    def __call__(self, state: chex.Array, actions: chex.Array | None = None) -> chex.Array:
        """``[..., S]`` and one-hots ``[agents, ..., heads, choices]`` to ``[..., outputs]``."""
        return self.judge(self.prepare(state, actions))

    def prepare(
        self, state: chex.Array, actions: chex.Array | None = None
    ) -> tuple[chex.Array, Any]:
        """The first hidden layer before its ReLU, ``[..., hidden[0]]``, and the actions."""
        if self.standardise:
            state = self.inputs(state)
        owned = self.num_agents * self.row
        parts = []
        if owned:
            rows = state[..., :owned].reshape(*state.shape[:-1], self.num_agents, self.row)
            rows = self.rows(rows)
            parts.append(rows.reshape(*state.shape[:-1], -1))
        ends = owned + np.cumsum([0, *self.groups])
        parts += [
            layer(state[..., start:end])
            for layer, start, end in zip(self.shared, ends[:-1], ends[1:], strict=True)
        ]
        features = jnp.concatenate(parts, axis=-1)
        total = features @ self.first[: features.shape[-1]] + self.bias
        if self.acting:
            features = self.actions(_flat(actions))
            features = jnp.moveaxis(features, 0, -2).reshape(*total.shape[:-1], -1)
            total += features @ self.first[-features.shape[-1] :]
        return total, actions

    def replaced(
        self, prepared: tuple[chex.Array, chex.Array], action: chex.Array, agent: chex.Array | int
    ) -> tuple[chex.Array, chex.Array]:
        """`prepare` with one agent's one-hots ``[..., heads, choices]`` in place of its own."""
        total, actions = prepared
        start = self.first.shape[0] - (self.num_agents - agent) * self.embedding
        rows = jax.lax.dynamic_slice_in_dim(self.first, start, self.embedding)
        change = self.actions(_flat(action)) - self.actions(_flat(actions[agent]))
        return total + change @ rows, actions.at[agent].set(action)

    def judge(self, prepared: tuple[chex.Array, Any]) -> chex.Array:
        """Values ``[..., outputs]`` of what was prepared."""
        return self.values(self.rest(nn.relu(prepared[0])))


class PairwiseCritic(nn.Module):
    """Like `JointCritic`, but a value for every agent, which sees who chose the same.

    An agent's features are those of its row, of its action and of their products; agents that chose
    the same value of a sub-action send each other messages, which count as much as a weight of the
    two agents says: those admitted first may not feel those after them. All agents share the other
    weights, so what `JointCritic` has to learn for each pair of agents and each choice, a
    collision, is learned once.

    shared_choice: the sub-action by which agents meet; None = any of them. choice_groups: so many
    of the first ``groups`` have one entry for each of its values, of which an agent sees that of
    its choice.
    """

    num_agents: int
    row: int
    groups: Sequence[int]
    embedding: int
    hidden: Sequence[int]
    outputs: int
    shared_choice: int | None = None
    choice_groups: int = 0
    dtype: np.dtype = np.dtype(np.float32)
    standardise: bool = False

    def setup(self) -> None:
        def dense(width: int, scale: nn.initializers.Initializer = hidden_init) -> nn.Dense:
            return nn.Dense(width, dtype=self.dtype, param_dtype=self.dtype, kernel_init=scale)

        shape = (self.num_agents, self.embedding)
        self.inputs = Inputs(self.dtype)
        self.identity = self.param("identity", head_init(1.0), shape, self.dtype)
        self.rows = dense(self.embedding)
        self.shared = dense(self.embedding)
        self.actions = dense(self.embedding)
        self.products = dense(self.embedding)
        self.chosen = dense(self.embedding)
        self.deeper = dense(self.embedding)
        self.own = dense(self.embedding)
        self.message = dense(self.embedding // 2)
        shape = (self.num_agents, self.num_agents, self.embedding // 2)
        self.weights = self.param("weights", nn.initializers.ones, shape, self.dtype)
        self.rest = Trunk(self.hidden, self.dtype)
        self.values = dense(self.outputs, head_init(1.0))

    def __call__(self, state: chex.Array, actions: chex.Array) -> chex.Array:
        """Like `JointCritic`, but to ``[agents, ..., outputs]``."""
        return self.judge(self.prepare(state, actions))

    def prepare(self, state: chex.Array, actions: chex.Array) -> _Prepared:
        """What all agents put into the sum."""
        if self.standardise:
            state = self.inputs(state)
        owned = self.num_agents * self.row
        features = self.identity.reshape(self.num_agents, *(1,) * (state.ndim - 1), -1)
        rows = state[..., :owned].reshape(*state.shape[:-1], self.num_agents, self.row)
        rows = jnp.moveaxis(rows, -2, 0)
        if owned:
            features = features + self.rows(rows)
        if self.groups:
            features = features + self.shared(state[..., owned:])
        size = sum(self.groups[: self.choice_groups])
        choices = state[..., owned : owned + size]
        if size:
            choices = choices.reshape(*state.shape[:-1], self.choice_groups, -1)
        return _Prepared(
            rows, features, choices, actions, *self._acted(rows, features, choices, actions)
        )

    def replaced(
        self, prepared: _Prepared, action: chex.Array, agent: chex.Array | int
    ) -> _Prepared:
        """`prepare` with one agent's one-hots ``[..., heads, choices]`` in place of its own."""
        own, message = self._acted(
            prepared.rows[agent], prepared.features[agent], prepared.choices, action
        )
        return prepared._replace(
            actions=prepared.actions.at[agent].set(action),
            own=prepared.own.at[agent].set(own),
            message=prepared.message.at[agent].set(message),
        )

    def judge(self, prepared: _Prepared) -> chex.Array:
        """Values ``[agents, ..., outputs]`` of what was prepared."""
        meeting = self._meeting(prepared.actions)
        alike = jnp.einsum("n...hk,m...hk->nm...h", meeting, meeting)
        other = ~np.eye(self.num_agents, dtype=bool)
        alike = alike * other.reshape(*other.shape, *(1,) * (alike.ndim - 2))
        received = jnp.einsum("nm...h,nme,m...e->n...he", alike, self.weights, prepared.message)
        return self._value(prepared.own, _flat(received))

    def alternatives(
        self, prepared: _Prepared, action: chex.Array, agent: chex.Array | int
    ) -> chex.Array:
        """Mean values of all agents for every choice of one in the sub-action by which they meet.

        It needs ``shared_choice``, and computes anew only what a choice changes: the agent's own
        value, and of the others once with and once without it.

        Args:
            prepared: of all agents.
            action: one-hots ``[..., heads, choices]`` of the agent, in place of its own.
            agent: which.

        Returns:
            ``[..., choices, outputs]``.
        """
        head = self.shared_choice
        features = prepared.features[agent][..., None, :]
        rest = self._linear(
            prepared.rows[agent], prepared.choices, action.at[..., head, :].set(0.0)
        )
        x = self._seen(features, rest[..., None, :] + self._by_choice(prepared, agent, action))
        own, message = self.own(x), self.message(x)

        here = prepared.actions[..., head, :]
        absent = jnp.arange(self.num_agents) == agent
        others = jnp.where(absent.reshape(-1, *(1,) * (here.ndim - 1)), 0.0, here)
        received = jnp.einsum(
            "m...k,me,m...e->...ke", others, self.weights[agent], prepared.message
        )
        mine = self._value(own, received)

        alike = jnp.einsum("n...k,m...k->nm...", others, others)
        other = ~np.eye(self.num_agents, dtype=bool)
        alike = alike * other.reshape(*other.shape, *(1,) * (alike.ndim - 2))
        without = jnp.einsum("nm...,nme,m...e->n...e", alike, self.weights, prepared.message)
        joined = without + jnp.einsum(
            "n...k,ne,...ke->n...e", others, self.weights[:, agent], message
        )
        alone, met = self._value(prepared.own, without), self._value(prepared.own, joined)
        alone = jnp.where(absent.reshape(-1, *(1,) * (alone.ndim - 1)), 0.0, alone)
        change = jnp.einsum("n...k,n...o->...ko", others, met - alone)
        total = mine + jnp.sum(alone, axis=0)[..., None, :] + change
        return total / self.num_agents

    def _meeting(self, actions: chex.Array) -> chex.Array:
        """Of one-hots ``[..., heads, choices]`` the sub-actions by which agents meet."""
        if self.shared_choice is None:
            return actions
        return actions[..., self.shared_choice : self.shared_choice + 1, :]

    def _value(self, own: chex.Array, received: chex.Array) -> chex.Array:
        return self.values(self.rest(nn.relu(jnp.concatenate([own, received], axis=-1))))

    def _acted(
        self, rows: chex.Array, features: chex.Array, choices: chex.Array, actions: chex.Array
    ) -> tuple[chex.Array, chex.Array]:
        """Own part and message of agents from their rows, features and actions."""
        x = self._seen(features, self._linear(rows, choices, actions))
        return self.own(x), self.message(x)

    def _seen(self, features: chex.Array, acted: chex.Array) -> chex.Array:
        x = jnp.concatenate([nn.relu(features + acted), features * acted], axis=-1)
        return nn.relu(self.deeper(x))

    def _linear(self, rows: chex.Array, choices: chex.Array, actions: chex.Array) -> chex.Array:
        """What is linear in the actions: themselves, their products with rows and choices."""
        one_hots = _flat(actions)
        acted = self.actions(one_hots)
        if self.row:
            acted += self.products(_flat(rows[..., None] * one_hots[..., None, :]))
        if self.choice_groups:
            taken = actions[..., self.shared_choice, None, : choices.shape[-1]] * choices
            taken = jnp.concatenate([jnp.sum(taken, axis=-1), _flat(taken)], axis=-1)
            acted += self.chosen(taken)
        return acted

    def _by_choice(
        self, prepared: _Prepared, agent: chex.Array | int, action: chex.Array
    ) -> chex.Array:
        """What each value of ``shared_choice`` adds to `_linear`, ``[..., choices, embedding]``."""
        heads, choices = action.shape[-2:]

        def kernel(layer: nn.Dense, *shape: int) -> chex.Array:
            return layer.variables["params"]["kernel"].reshape(*shape, self.embedding)

        acted = kernel(self.actions, heads, choices)[self.shared_choice]
        if self.row:
            products = kernel(self.products, self.row, heads, choices)[:, self.shared_choice]
            acted = acted + jnp.einsum("...r,rke->...ke", prepared.rows[agent], products)
        if self.choice_groups:
            values = prepared.choices
            weights = kernel(self.chosen, -1)
            each = weights[self.choice_groups :].reshape(*values.shape[-2:], self.embedding)
            each = each + weights[: self.choice_groups, None]
            more = jnp.einsum("...gk,gke->...ke", values, each)
            spare = [(0, 0)] * (more.ndim - 2) + [(0, choices - more.shape[-2]), (0, 0)]
            acted = acted + jnp.pad(more, spare)
        return acted


class _Prepared(NamedTuple):
    """Of all agents: rows of the state, features of these, actions, own parts and messages.

    choices: of the values of the sub-action by which agents meet, ``[..., groups, values]``.
    """

    rows: chex.Array
    features: chex.Array
    choices: chex.Array
    actions: chex.Array
    own: chex.Array
    message: chex.Array


def _flat(x: chex.Array) -> chex.Array:
    """The last two axes as one."""
    return x.reshape(*x.shape[:-2], -1)
