"""What learners do to gradients, rates and advantages on the way to a step."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax


def limited(gradient: Any, max_norm: chex.Array) -> Any:
    """A gradient whose global norm is at most ``max_norm``."""
    norm = optax.tree.norm(gradient)
    shrink = jnp.minimum(1.0, max_norm / jnp.maximum(norm, 1e-12))
    return jax.tree.map(lambda g: shrink * g, gradient)


def descended(
    optimizer: optax.GradientTransformation,
    parameters: Any,
    state: Any,
    gradient: Any,
    rate: chex.Array,
) -> tuple[Any, Any]:
    """``(parameters, state)`` after one step; state: of the optimiser, which has no rate itself."""
    direction, state = optimizer.update(gradient, state)
    return jax.tree.map(lambda x, d: x - rate * d, parameters, direction), state


def left(schedule_updates: int, updates: chex.Array, dtype: Any) -> chex.Array:
    """The share of a schedule that is left after ``updates``, from 1 to 0."""
    return jnp.clip(1 - updates.astype(dtype) / schedule_updates, 0.0, 1.0)


def falling(schedule_updates: int, updates: chex.Array, dtype: Any) -> chex.Array:
    """The share of a rate that is left: it falls linearly to a twentieth; 1 without a schedule."""
    if not schedule_updates:
        return jnp.ones((), dtype)
    return 0.05 + 0.95 * left(schedule_updates, updates, dtype)


def advantages(
    reward: chex.Array,
    value: chex.Array,
    ahead: chex.Array,
    terminated: chex.Array,
    done: chex.Array,
    discount: chex.Array,
    trace_decay: chex.Array,
) -> chex.Array:
    """A_t = delta_t + gamma*lambda*A_{t+1}, delta_t = r_t + gamma*V(x_{t+1}) - V(x_t).

    Generalised advantage estimation. A truncated episode bootstraps from its final state, a
    terminated one does not.

    Args:
        reward: of the steps, ``[T, ...]``. value: of the states met.
        ahead: value of the states that steps led to, also where time ran out.
        terminated, done: of the episode.
        discount: of each step, or of all (gamma). trace_decay: lambda.
    """
    delta = reward + jnp.where(terminated, 0.0, discount * ahead) - value
    return accumulated(delta, jnp.where(done, 0.0, discount * trace_decay))


def rollout_advantages(rollout: Any, value: chex.Array, ahead: chex.Array, hp: Any) -> chex.Array:
    """`advantages` of a learner's rollout; a step that reaches no decision does not discount."""
    discount = jnp.where(rollout.discounting, hp.discount, 1.0)
    ends = rollout.terminated, rollout.done
    return advantages(rollout.reward, value, ahead, *ends, discount, hp.trace_decay)


def accumulated(delta: chex.Array, keep: chex.Array) -> chex.Array:
    """``A_t = delta_t + keep_t A_{t+1}`` along the first axis, 0 after its end."""

    def back(later: chex.Array, step: tuple[chex.Array, chex.Array]) -> tuple[Any, chex.Array]:
        delta, keep = step
        total = delta + keep * later
        return total, total

    return jax.lax.scan(back, jnp.zeros_like(delta[0]), (delta, keep), reverse=True)[1]
