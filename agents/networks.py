"""Networks of the learners: layers with ReLU, of a whole observation or of each of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

hidden_init = nn.initializers.he_uniform()


def head_init(scale: float, **axes: int) -> nn.initializers.Initializer:
    """Of a layer whose outputs have about that size."""
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
        init = head_init(self.head_scale)
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
            x = nn.Dense(width, dtype=self.dtype, param_dtype=self.dtype, kernel_init=hidden_init)(
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
        init = head_init(1.0, in_axis=-1, out_axis=-2)
        shape = (self.num_actions, self.hidden[-1])
        self.kernel = self.param("kernel", init, shape, self.dtype)
        self.bias = self.param("bias", nn.initializers.zeros, (self.num_actions,), self.dtype)
        if self.level:
            types = {"dtype": self.dtype, "param_dtype": self.dtype, "kernel_init": head_init(1.0)}
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
            types = {"dtype": self.dtype, "param_dtype": self.dtype, "kernel_init": hidden_init}
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
        types = {"dtype": self.dtype, "param_dtype": self.dtype, "kernel_init": head_init(0.01)}
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
        types = {"dtype": self.dtype, "param_dtype": self.dtype, "kernel_init": head_init(0.01)}
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
        types = {"dtype": self.dtype, "param_dtype": self.dtype, "kernel_init": head_init(0.01)}
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


def embed(x: chex.Array, groups: Sequence[int], width: int, dtype: np.dtype) -> chex.Array:
    """Consecutive groups of the last axis, each through a layer of its own, side by side."""
    ends = np.cumsum(groups)[:-1]
    parts = [Trunk((width,), dtype)(part) for part in jnp.split(x, ends, axis=-1)]
    return jnp.concatenate(parts, axis=-1)
