"""Networks of the learners: layers with ReLU, of a whole observation or of each of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from agents.distributions import masked_logits, masked_policy

_hidden_init = nn.initializers.he_uniform()


def _head_init(scale: float, **axes: int) -> nn.initializers.Initializer:
    return nn.initializers.variance_scaling(scale**2, "fan_in", "uniform", **axes)


class MLP(nn.Module):
    """Dense layers with ReLU between them and a linear head.

    hidden: widths of the hidden layers. outputs: width of the head. head_scale: size of its outputs
    at the start; a small one makes a nearly uniform softmax policy. dtype: of the parameters and
    the arithmetic.
    """

    hidden: Sequence[int]
    outputs: int
    head_scale: float = 1.0
    dtype: np.dtype = np.dtype(np.float32)

    @nn.compact
    def __call__(self, x: chex.Array) -> chex.Array:
        """``[..., inputs]`` to ``[..., outputs]``."""
        x = Trunk(self.hidden, self.dtype, name="trunk")(x)
        init = _head_init(self.head_scale)
        return nn.Dense(
            self.outputs, dtype=self.dtype, param_dtype=self.dtype, kernel_init=init, name="head"
        )(x)


class Trunk(nn.Module):
    """The hidden layers of a network: ``[..., inputs]`` to ``[..., hidden[-1]]``."""

    hidden: Sequence[int]
    dtype: np.dtype = np.dtype(np.float32)

    @nn.compact
    def __call__(self, x: chex.Array) -> chex.Array:
        for width in self.hidden:
            x = nn.Dense(width, dtype=self.dtype, param_dtype=self.dtype, kernel_init=_hidden_init)(
                x
            )
            x = nn.relu(x)
        return x


class ActionValues(nn.Module):
    """Q(s, .) of a discrete action space.

    The head's weights are stored one row per action, so the value of one action and its gradient
    touch one row, not the whole head. level: adds a value of the state that all actions share and
    every transition teaches (Z. Wang et al., "Dueling Network Architectures", ICML 2016, eq (7)):
    else actions that were never tried keep their value of the start.
    """

    hidden: Sequence[int]
    num_actions: int
    dtype: np.dtype = np.dtype(np.float32)
    level: bool = False

    def setup(self) -> None:
        self.trunk = Trunk(self.hidden, self.dtype)
        init = _head_init(1.0, in_axis=-1, out_axis=-2)
        shape = (self.num_actions, self.hidden[-1])
        self.kernel = self.param("kernel", init, shape, self.dtype)
        self.bias = self.param("bias", nn.initializers.zeros, (self.num_actions,), self.dtype)
        if self.level:
            types = {"dtype": self.dtype, "param_dtype": self.dtype, "kernel_init": _head_init(1.0)}
            self.shared = nn.Dense(1, **types)

    def __call__(self, observation: chex.Array) -> chex.Array:
        """``[..., inputs]`` to the values of all actions ``[..., num_actions]``."""
        features = self.trunk(observation)
        return self._all(features, self.kernel, self.bias) + self._level(features)

    def taken_and_all(
        self, observation: chex.Array, action: chex.Array
    ) -> tuple[chex.Array, chex.Array]:
        """Q(s, a) of one action, differentiable, and Q(s, .) of all, detached, in one pass.

        Args:
            observation: ``[..., inputs]``.
            action: int32 ``[...]``.

        Returns:
            ``[...]`` and ``[..., num_actions]``.
        """
        features = self.trunk(observation)
        level = self._level(features)
        taken = jnp.sum(features * self.kernel[action], axis=-1) + self.bias[action]
        detached = jax.lax.stop_gradient((features, self.kernel, self.bias))
        return taken + level[..., 0], self._all(*detached) + jax.lax.stop_gradient(level)

    def _level(self, features: chex.Array) -> chex.Array:
        return self.shared(features) if self.level else jnp.zeros((1,), self.dtype)

    @staticmethod
    def _all(features: chex.Array, kernel: chex.Array, bias: chex.Array) -> chex.Array:
        return features @ kernel.T + bias


class RowTrunk(nn.Module):
    """Hidden layers of a set of rows, each of which also sees the mean over all.

    Permuting the rows permutes the output (M. Zaheer et al., "Deep Sets", NeurIPS 2017, eq (4)).
    """

    hidden: Sequence[int]
    dtype: np.dtype = np.dtype(np.float32)

    @nn.compact
    def __call__(self, x: chex.Array) -> chex.Array:
        """``[..., rows, inputs]`` to ``[..., rows, hidden[-1]]``."""

        def dense(width: int, x: chex.Array, **options: bool) -> chex.Array:
            types = {"dtype": self.dtype, "param_dtype": self.dtype, "kernel_init": _hidden_init}
            return nn.Dense(width, **types, **options)(x)

        for width in self.hidden:
            mean = jnp.mean(x, axis=-2, keepdims=True)
            x = nn.relu(dense(width, x) + dense(width, mean, use_bias=False))
        return x


class ActorCritic(nn.Module):
    """Logits of every head of a policy, and the value of the state.

    hidden: widths of the hidden layers of a trunk. heads, outputs: softmax distributions and values
    of each. shape: of an observation, which is flattened unless ``rows``: then it is
    ``[heads, inputs]``, one row per head, all with the same weights. shared: whether actor and
    critic have one trunk.
    """

    hidden: Sequence[int]
    heads: int
    outputs: int
    shape: Sequence[int]
    rows: bool = False
    shared: bool = True
    dtype: np.dtype = np.dtype(np.float32)

    def setup(self) -> None:
        trunk = RowTrunk if self.rows else Trunk
        self.actor = trunk(self.hidden, self.dtype)
        self.critic = self.actor if self.shared else trunk(self.hidden, self.dtype)
        types = {"dtype": self.dtype, "param_dtype": self.dtype, "kernel_init": _head_init(0.01)}
        self.logits = nn.Dense(self.outputs * (1 if self.rows else self.heads), **types)
        self.value = nn.Dense(1, **types)

    def __call__(self, observation: chex.Array) -> tuple[chex.Array, chex.Array]:
        """Of observations ``[..., *shape]``: logits ``[..., heads, outputs]``, values ``[...]``."""
        if not self.rows:
            lead = observation.shape[: observation.ndim - len(self.shape)]
            observation = observation.reshape(*lead, -1)
        features = self.actor(observation)
        judged = features if self.shared else self.critic(observation)
        logits = self.logits(features)
        if self.rows:
            return logits, self.value(jnp.mean(judged, axis=-2))[..., 0]
        logits = logits.reshape(*logits.shape[:-1], self.heads, self.outputs)
        return logits, self.value(judged)[..., 0]


class BranchActor(nn.Module):
    """Logits of every head of a policy that has no network in common with a critic.

    hidden: widths of the hidden layers. heads, outputs: softmax distributions and values of each.
    rows: whether an observation has one row per head, all with the same weights.
    """

    hidden: Sequence[int]
    heads: int
    outputs: int
    rows: bool = False
    dtype: np.dtype = np.dtype(np.float32)

    @nn.compact
    def __call__(self, x: chex.Array) -> chex.Array:
        """``[..., inputs]``, or ``[..., heads, inputs]`` of rows, to ``[..., heads, outputs]``."""
        features = (RowTrunk if self.rows else Trunk)(self.hidden, self.dtype, name="trunk")(x)
        types = {"dtype": self.dtype, "param_dtype": self.dtype, "kernel_init": _head_init(0.01)}
        width = self.outputs * (1 if self.rows else self.heads)
        logits = nn.Dense(width, name="logits", **types)(features)
        return logits if self.rows else logits.reshape(*x.shape[:-1], self.heads, self.outputs)


class StateCritic(nn.Module):
    """The value of a state: of a vector, or of rows, through the mean of their features."""

    hidden: Sequence[int]
    rows: bool = False
    dtype: np.dtype = np.dtype(np.float32)

    @nn.compact
    def __call__(self, x: chex.Array) -> chex.Array:
        """``[..., inputs]``, or ``[..., rows, inputs]``, to ``[..., 1]``."""
        features = (RowTrunk if self.rows else Trunk)(self.hidden, self.dtype, name="trunk")(x)
        if self.rows:
            features = jnp.mean(features, axis=-2)
        types = {"dtype": self.dtype, "param_dtype": self.dtype, "kernel_init": _head_init(0.01)}
        return nn.Dense(1, name="values", **types)(features)


class Inputs(nn.Module):
    """Inputs as distances from their mean in deviations, both of which `standardised` sets.

    They are parameters that no gradient moves: mean 0, deviation 1 until they are set.
    """

    dtype: np.dtype = np.dtype(np.float32)

    @nn.compact
    def __call__(self, x: chex.Array) -> chex.Array:
        """``[..., inputs]`` to the same."""
        mean = self.param("mean", nn.initializers.zeros, x.shape[-1:], self.dtype)
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], self.dtype)
        return (x - jax.lax.stop_gradient(mean)) * jax.lax.stop_gradient(scale)


def standardised(parameters: Any, inputs: chex.Array) -> Any:
    """Parameters of a network whose `Inputs` are those of a sample.

    Entries that are 0 or 1 in all rows stay as they are; other constant ones become 0.

    Args:
        parameters: of one network, or with a leading axis of networks.
        inputs: ``[rows, D]``, or ``[networks, rows, D]``.

    Returns:
        The parameters.
    """
    mean, deviation = jnp.mean(inputs, axis=-2), jnp.std(inputs, axis=-2)
    least = 1e-6 * (1 + jnp.abs(mean))
    scale = jnp.where(deviation > least, 1 / jnp.maximum(deviation, least), 0.0)
    binary = jnp.all((inputs == 0) | (inputs == 1), axis=-2)
    mean, scale = jnp.where(binary, 0.0, mean), jnp.where(binary, 1.0, scale)
    layers = parameters["params"]
    set_to = jax.tree.map(
        lambda new, old: jnp.broadcast_to(new, old.shape),
        {"mean": mean, "scale": scale},
        layers["inputs"],
    )
    return {"params": layers | {"inputs": set_to}}


def _embed(x: chex.Array, groups: Sequence[int], width: int, dtype: np.dtype) -> chex.Array:
    """Consecutive groups of the last axis, each through a layer of its own, side by side."""
    ends = np.cumsum(groups)[:-1]
    parts = [Trunk((width,), dtype)(part) for part in jnp.split(x, ends, axis=-1)]
    return jnp.concatenate(parts, axis=-1)


class SequentialActor(nn.Module):
    """One agent's policy of several sub-actions, each of which sees those before it.

    Each sub-action has an LSTM cell of its own that gets the features of the observation and the
    sub-action before, and hands its state on; with ``autoregressive=False`` all come from one
    layer, independent of each other. Source: HISPER (`agents.hisper` has the reference), Fig. 2(a),
    eqs (24), (25).

    groups: entries of the observation with an embedding of their own. embedding: its width. hidden:
    widths of the layers. width: of the cells. heads, choices: sub-actions, values of each. cell:
    ``lstm``, or a ``dense`` layer that gets the features and all sub-actions before: with few
    sub-actions there is nothing to forget, and it learns several times faster. feed: a cell gets
    the sub-action drawn before (``sample``), or its distribution (``probs``). standardise: whether
    there are `Inputs`. relaxed: whether gradients pass through draws.
    """

    groups: Sequence[int]
    embedding: int
    hidden: Sequence[int]
    width: int
    heads: int
    choices: int
    autoregressive: bool = True
    feed: str = "sample"
    dtype: np.dtype = np.dtype(np.float32)
    cell: str = "lstm"
    standardise: bool = False
    relaxed: bool = True

    @nn.compact
    def __call__(
        self,
        observation: chex.Array,
        mask: chex.Array,
        noise: chex.Array,
        temperature: chex.Array | float = 1.0,
    ) -> tuple[chex.Array, chex.Array]:
        """Draws a value of every sub-action by the Gumbel trick.

        Args:
            observation: ``[..., D]``.
            mask: bool ``[..., heads, choices]``.
            noise: Gumbel, likewise; 0 gives the most probable values.
            temperature: of the relaxation that the gradient is taken of.

        Returns:
            One-hots ``[..., heads, choices]``, through which gradients pass straight, and
            log pi(a|o) ``[..., heads, choices]`` of all values, 0 where masked.
        """
        types = {"dtype": self.dtype, "param_dtype": self.dtype}
        if self.standardise:
            observation = Inputs(self.dtype, name="inputs")(observation)
        features = _embed(observation, self.groups, self.embedding, self.dtype)
        features = Trunk(self.hidden, self.dtype)(features)
        small = _head_init(0.01)
        if not self.autoregressive:
            logits = nn.Dense(self.heads * self.choices, kernel_init=small, **types)(features)
            logits = logits.reshape(*logits.shape[:-1], self.heads, self.choices)
            one_hot, _, log_probability = _straight_through(logits, mask, noise, temperature)
            return one_hot, log_probability
        zero = jnp.zeros((*features.shape[:-1], self.width), self.dtype)
        carry, drawn = (zero, zero), []
        previous = jnp.zeros((*features.shape[:-1], self.choices), self.dtype)
        before = features
        for head in range(self.heads):
            if self.cell == "dense":
                h = Trunk((self.width,), self.dtype)(before)
            else:
                # Flax's default for the recurrent weights is orthogonal: QR decompositions that
                # run beside each other under vmap can block all threads of a CPU for ever.
                init = {"recurrent_kernel_init": _head_init(1.0)}
                cell = nn.OptimizedLSTMCell(self.width, **init, **types)
                carry, h = cell(carry, jnp.concatenate([features, previous], axis=-1))
            logits = nn.Dense(self.choices, kernel_init=small, **types)(h)
            one_hot, probability, log_probability = _straight_through(
                logits, mask[..., head, :], noise[..., head, :], temperature
            )
            if not self.relaxed:
                one_hot = jax.lax.stop_gradient(one_hot)
            previous = one_hot if self.feed == "sample" else probability
            before = jnp.concatenate([before, previous], axis=-1)
            drawn.append((one_hot, log_probability))
        one_hots, log_probabilities = zip(*drawn, strict=True)
        return jnp.stack(one_hots, axis=-2), jnp.stack(log_probabilities, axis=-2)


def _straight_through(
    logits: chex.Array, mask: chex.Array, noise: chex.Array, temperature: chex.Array | float
) -> tuple[chex.Array, chex.Array, chex.Array]:
    """A one-hot draw with the gradient of its relaxation; pi and log pi of all values."""
    noisy = masked_logits(logits + noise, mask)
    soft = jax.nn.softmax(noisy / temperature, axis=-1)
    hard = jax.nn.one_hot(jnp.argmax(noisy, axis=-1), logits.shape[-1], dtype=soft.dtype)
    return hard + soft - jax.lax.stop_gradient(soft), *masked_policy(logits, mask)


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
        self.first = self.param("first", _hidden_init, shape, self.dtype)
        self.bias = self.param("bias", nn.initializers.zeros, shape[1:], self.dtype)
        self.rows = Trunk((self.embedding,), self.dtype)
        self.actions = Trunk((self.embedding,), self.dtype)
        self.shared = [Trunk((self.embedding,), self.dtype) for _ in self.groups]
        self.rest = Trunk(self.hidden[1:], self.dtype)
        self.values = nn.Dense(self.outputs, kernel_init=_head_init(1.0), **types)

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
        def dense(width: int, scale: nn.initializers.Initializer = _hidden_init) -> nn.Dense:
            return nn.Dense(width, dtype=self.dtype, param_dtype=self.dtype, kernel_init=scale)

        shape = (self.num_agents, self.embedding)
        self.inputs = Inputs(self.dtype)
        self.identity = self.param("identity", _head_init(1.0), shape, self.dtype)
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
        self.values = dense(self.outputs, _head_init(1.0))

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
