"""The critics of HISPER: what they judge actions at, and how they learn it."""

from __future__ import annotations

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp

from agents import steps
from agents.hisper.sizes import Sizes
from agents.hisper.state import Hyperparameters, Learned, Transition, adam
from agents.team import Scale, View


@dataclasses.dataclass(frozen=True)
class Values(Sizes):
    """Values of the reward's components, of the team or of each agent."""

    def _judged(self, critics: Any, world: chex.Array, one_hot: chex.Array) -> chex.Array:
        """Normalised values by both critics, ``[2, *values]``, of one-hots of all agents.

        Values are ``[B, parts]``, or ``[B, n, parts]`` with ``credit="agents"``.
        """
        judge = jax.vmap(self.critic.apply, (0, None, None))
        return self._by_row(judge(critics, world, one_hot))

    def _by_row(self, output: chex.Array) -> chex.Array:
        """What the critics put out as normalised values ``[2, *values]``."""
        if self.critics == "joint":
            return output
        if self.credit == "team":
            return jnp.mean(output, axis=1)
        return jnp.moveaxis(output, 1, 2)

    def _worth(self, scale: Scale, output: chex.Array) -> chex.Array:
        """What normalised values ``[2, *values]`` are worth to the team, ``[B, parts]``."""
        return self._of_both(self._of_team(scale.value(output)))

    def _of_both(self, values: chex.Array) -> chex.Array:
        """The values of both critics ``[2, ...]`` as one: ``twins``."""
        return _smaller(values) if self.twins == "least" else jnp.mean(values, axis=0)

    def _of_team(self, values: chex.Array) -> chex.Array:
        """Values ``[2, *values]`` as those of the team, ``[2, B, parts]``."""
        return jnp.sum(values, axis=2) if self.credit == "agents" else values

    def _soft_value(
        self, learned: Learned, view: View, key: chex.PRNGKey, hp: Hyperparameters
    ) -> chex.Array:
        """min_j Q_j^i - w alpha sum_n log pi_n at new actions, ``[*values]``; (27), (31).

        With ``credit="agents"`` every agent has its own entropy.
        """
        one_hot, log_probability = self._draw(learned.actors, view, key, hp)
        output = self._judged(learned.targets, view.world, one_hot)
        value = self._of_both(learned.scale.value(output))
        if self.entropy_split == "none":
            return value
        weight = 1 / self._team.num_parts if self.entropy_split == "third" else 1.0
        alpha = jnp.mean(jnp.exp(learned.log_alpha))
        by_agent = self.credit == "agents"
        surprise = log_probability.T if by_agent else jnp.sum(log_probability, axis=0)
        return value - weight * alpha * surprise[..., None]

    def _rescaled(self, learned: Learned, target: chex.Array, hp: Hyperparameters) -> Learned:
        """Adds targets ``[*values]`` to the scale; the critics' values stay what they were."""
        rows = target.reshape(-1, target.shape[-1])
        scale = learned.scale.add(rows, hp.value_decay)
        return learned.replace(
            critics=learned.scale.carried(learned.critics, scale),
            targets=learned.scale.carried(learned.targets, scale),
            scale=scale,
        )

    def _learn_critics(
        self,
        learned: Learned,
        view: View,
        batch: Transition,
        key: chex.PRNGKey,
        params: Any,
        hp: Hyperparameters,
    ) -> tuple[Learned, dict[str, chex.Array]]:
        """One step of Adam on the squared error of both critics (32), and of the targets (34)."""
        target = batch.reward
        if self.bootstrap:
            following = self._view(batch.next_state, batch.lane, params)
            ahead = self._soft_value(learned, following, key, hp)
            going = ~batch.terminated.reshape(-1, *(1,) * (ahead.ndim - 1))
            target += hp.discount * jnp.where(going, ahead, 0.0)
        learned = self._rescaled(learned, target, hp)
        scale = learned.scale
        normalised = scale.normalised(target)
        one_hot = jax.nn.one_hot(
            jnp.moveaxis(batch.action, 1, 0),
            self._team.branches.outputs,
            dtype=self.env.float_dtype,
        )

        def loss(critics: Any) -> tuple[chex.Array, chex.Array]:
            value = self._judged(critics, view.world, one_hot)
            error = jnp.sum((normalised - value) ** 2, axis=-1)
            return jnp.sum(jnp.mean(error.reshape(2, -1), axis=1)), value

        (error, value), gradient = jax.value_and_grad(loss, has_aux=True)(learned.critics)
        critics, optimizer = steps.descended(
            adam, learned.critics, learned.critic_optimizer, gradient, hp.lr_critic
        )
        targets = jax.tree.map(
            lambda slow, new: hp.target_decay * slow + (1 - hp.target_decay) * new,
            learned.targets,
            critics,
        )
        value = self._of_team(scale.value(value))
        learned = learned.replace(critics=critics, critic_optimizer=optimizer, targets=targets)
        return learned, {"critic_loss": error, "q": jnp.mean(jnp.sum(value, axis=-1))}


def _smaller(values: chex.Array) -> chex.Array:
    """The elementwise smaller of two, ``[2, ...]``, with the gradient of one of them.

    That of `jnp.min` is 0/0 where a compiler rounds its operand and its result differently.
    """
    first, second = values
    return jnp.where(first < second, first, second)
