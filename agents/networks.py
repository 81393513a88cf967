"""Networks of the learners: multilayer perceptrons with ReLU."""

from __future__ import annotations

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

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
    touch one row, not the whole head.
    """

    hidden: Sequence[int]
    num_actions: int
    dtype: np.dtype = np.dtype(np.float32)

    def setup(self) -> None:
        self.trunk = Trunk(self.hidden, self.dtype)
        init = _head_init(1.0, in_axis=-1, out_axis=-2)
        shape = (self.num_actions, self.hidden[-1])
        self.kernel = self.param("kernel", init, shape, self.dtype)
        self.bias = self.param("bias", nn.initializers.zeros, (self.num_actions,), self.dtype)

    def __call__(self, observation: chex.Array) -> chex.Array:
        """``[..., inputs]`` to the values of all actions ``[..., num_actions]``."""
        return self._all(self.trunk(observation), self.kernel, self.bias)

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
        taken = jnp.sum(features * self.kernel[action], axis=-1) + self.bias[action]
        detached = jax.lax.stop_gradient((features, self.kernel, self.bias))
        return taken, self._all(*detached)

    @staticmethod
    def _all(features: chex.Array, kernel: chex.Array, bias: chex.Array) -> chex.Array:
        return features @ kernel.T + bias
