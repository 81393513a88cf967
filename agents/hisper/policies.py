"""The actors of HISPER: how each learns, one after another."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp

from agents import steps
from agents.hisper.state import Hyperparameters, Learned, adam
from agents.hisper.values import Values
from agents.team import View


@dataclasses.dataclass(frozen=True)
class Policies(Values):
    """Policies that ascend the value of the team and their own entropy."""

    def _learn_actors(
        self, learned: Learned, view: View, key: chex.PRNGKey, hp: Hyperparameters
    ) -> tuple[Learned, dict[str, chex.Array]]:
        """One step of every actor, in a random order; (30), (33).

        Those before an agent act by their new policies, those after it by the old ones.
        """
        agents = self.env.num_agents
        key_order, key_old, key_own, key_new = jax.random.split(key, 4)
        one_hot, _ = self._draw(learned.actors, view, key_old, hp)
        unit = jnp.sqrt(jnp.sum(learned.scale.deviation**2))
        largest = jnp.sum(jnp.mean(jnp.log(jnp.sum(view.mask, axis=-1)), axis=1), axis=-1)
        goal = hp.entropy_share * largest.astype(self.env.float_dtype)
        critics = learned.critics
        prepare, replaced, judge = self._methods

        def one(carry: tuple[Any, ...], item: tuple[Any, ...]) -> tuple[Any, Any]:
            actors, optimizers, acted, log_alpha, alpha_optimizers = carry
            n, key_own, key_new = item
            observation, mask, alpha = view.observation[n], view.mask[n], jnp.exp(log_alpha[n])

            def straight_through(actor: Any) -> tuple[chex.Array, chex.Array]:
                own, log_probability = self._draw_one(actor, observation, mask, key_own, hp)
                output = self._by_row(judge(critics, replaced(critics, acted, own, n)))
                value = self._worth(learned.scale, output)
                gain = jnp.sum(value, axis=-1) - alpha * log_probability
                return -jnp.mean(gain) / unit, jnp.mean(log_probability)

            def expected(actor: Any) -> tuple[chex.Array, chex.Array]:
                values = partial(self._values_of_last, learned, acted, n)
                gain, log_probability = self._expected_gain(
                    actor, observation, mask, values, key_own, alpha
                )
                return -jnp.mean(gain) / unit, jnp.mean(log_probability)

            loss = expected if self.gradient == "expected" else straight_through

            actor, optimizer = jax.tree.map(lambda x: x[n], (actors, optimizers))
            (cost, log_probability), gradient = jax.value_and_grad(loss, has_aux=True)(actor)
            gradient = steps.limited(gradient, hp.max_gradient_norm)
            actor, optimizer = steps.descended(adam, actor, optimizer, gradient, hp.lr_actor)
            drawn, _ = self._draw_one(actor, observation, mask, key_new, hp)
            put = lambda whole, own: whole.at[n].set(own)  # noqa: E731
            actors, optimizers = jax.tree.map(put, (actors, optimizers), (actor, optimizer))
            if self.temperature == "learned":
                own = jax.tree.map(lambda x: x[n], alpha_optimizers)
                direction, own = adam.update(-(log_probability + goal[n]), own)
                log_alpha = log_alpha.at[n].add(-hp.lr_alpha * direction)
                alpha_optimizers = jax.tree.map(put, alpha_optimizers, own)
            acted = replaced(critics, acted, drawn, n)
            carry = (actors, optimizers, acted, log_alpha, alpha_optimizers)
            return carry, {"actor_loss": cost, "entropy": -log_probability, "alpha": alpha}

        order = jax.random.permutation(key_order, agents)
        items = (order, jax.random.split(key_own, agents), jax.random.split(key_new, agents))
        start = (
            learned.actors,
            learned.actor_optimizer,
            prepare(critics, view.world, one_hot),
            learned.log_alpha,
            learned.alpha_optimizer,
        )
        (actors, optimizers, _, log_alpha, alpha_optimizers), metrics = jax.lax.scan(
            one, start, items
        )
        learned = learned.replace(
            actors=actors,
            actor_optimizer=optimizers,
            log_alpha=log_alpha,
            alpha_optimizer=alpha_optimizers,
        )
        return learned, {name: jnp.mean(value) for name, value in metrics.items()}

    @property
    def _methods(self) -> tuple[Any, Any, Any]:
        """`prepare`, `replaced` and `judge` of both critics."""
        return tuple(
            jax.vmap(partial(self.critic.apply, method=name), axes)
            for name, axes in (
                ("prepare", (0, None, None)),
                ("replaced", (0, 0, None, None)),
                ("judge", (0, 0)),
            )
        )

    def _values_of_last(
        self, learned: Learned, acted: Any, agent: chex.Array, one_hot: chex.Array
    ) -> chex.Array:
        """What the team values each choice of an agent's last sub-action at, ``[B, choices]``.

        acted: what both critics prepared of all agents. one_hot: ``[B, heads, choices]``, of the
        agent; its last row does not matter.
        """
        heads, choices = one_hot.shape[-2:]
        if self.critics == "pairwise" and self.env.shared_choice == heads - 1:
            alternatives = jax.vmap(
                partial(self.critic.apply, method="alternatives"), (0, 0, None, None)
            )
            output = alternatives(learned.critics, acted, one_hot, agent)
            count = self.env.num_agents if self.credit == "agents" else 1
            value = self._of_both(count * learned.scale.value(output))
            return jnp.sum(value, axis=-1)
        _, replaced, judge = self._methods

        def value(last: chex.Array) -> chex.Array:
            own = one_hot.at[..., -1, :].set(last)
            output = self._by_row(
                judge(learned.critics, replaced(learned.critics, acted, own, agent))
            )
            return jnp.sum(self._worth(learned.scale, output), axis=-1)

        return jax.vmap(value, out_axes=-1)(jnp.eye(choices, dtype=one_hot.dtype))

    def _expected_gain(
        self,
        actor: Any,
        observation: chex.Array,
        mask: chex.Array,
        values: Any,
        key: chex.PRNGKey,
        alpha: chex.Array,
    ) -> tuple[chex.Array, chex.Array]:
        """An estimate of the soft value of one actor whose gradient is one of its gradient.

        Args:
            actor: of one agent.
            observation, mask: ``[B, ...]``.
            values: of all choices of the last sub-action ``[B, choices]``, given one-hots
                ``[B, heads, choices]``.
            key: of the draws.
            alpha: the temperature.

        Returns:
            The mean over the last sub-action of value - alpha log pi, and of log pi, ``[K, B]``.
        """
        shape = (self.draws, *mask.shape)
        noise = jax.random.gumbel(key, shape, self.env.float_dtype)
        draw = jax.vmap(lambda noise: self.actor.apply(actor, observation, mask, noise))
        one_hot, logs = draw(noise)
        one_hot = jax.lax.stop_gradient(one_hot)
        value = jax.lax.stop_gradient(jax.vmap(values)(one_hot))
        probability = jnp.where(mask[:, -1], jnp.exp(logs[..., -1, :]), 0.0)
        earlier = jnp.sum((one_hot * logs)[..., :-1, :], axis=(-2, -1))
        entropy = -jnp.sum(probability * logs[..., -1, :], axis=-1)
        gain = jnp.sum(probability * value, axis=-1) + alpha * entropy
        whole = jax.lax.stop_gradient(gain - alpha * earlier)
        others = (jnp.sum(whole, axis=0) - whole) / (self.draws - 1)
        score = (whole - others) * earlier
        gain += score - jax.lax.stop_gradient(score + alpha * earlier)
        return gain, earlier - entropy
