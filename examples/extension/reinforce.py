"""REINFORCE with a baseline, for Discrete actions: whole episodes, and a learned value of states.

Source: R. J. Williams, "Simple statistical gradient-following algorithms for connectionist
reinforcement learning" (1992), doi:10.1007/BF00992696; the learned baseline is that of R. S. Sutton
and A. G. Barto, "Reinforcement Learning: An Introduction" (2nd ed., 2018), section 13.4.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from agents import checks, registry
from agents.distributions import masked_logits
from agents.learner import Learner, Policy, unsupported_observation
from agents.networks import MLP
from agents.steps import accumulated, descended
from jaxenv import spaces, struct


@struct.dataclass
class Hyperparameters:
    """lr: Adam's learning rate. discount: per step (gamma). baseline: 1 subtracts the learned value
    of a state from what followed it, 0 does not."""

    lr: chex.Array
    discount: chex.Array
    baseline: chex.Array


@struct.dataclass
class Training:
    """parameters: of the logits and of the value."""

    key: chex.PRNGKey
    parameters: Any
    optimiser: Any


@struct.dataclass
class Greedy(Policy):
    """The most probable action."""

    parameters: Any
    network: MLP = struct.field(pytree_node=False)

    def act(self, carry, key, observation, mask, state, params):
        logits = masked_logits(self.network.apply(self.parameters, observation), mask)
        return jnp.argmax(logits).astype(jnp.int32), carry


@dataclasses.dataclass(frozen=True)
class Reinforce(Learner):
    """num_envs: episodes per update. num_steps: steps of an episode that are learned from, at most.

    hidden: widths of the hidden layers of both networks.
    """

    num_envs: int = 64
    num_steps: int = 100
    hidden: tuple[int, ...] = (64,)

    name = "reinforce"

    def __post_init__(self):
        checks.check_fields(self)

    @classmethod
    def unsupported(cls, env):
        if not isinstance(env.action_space, spaces.Discrete):
            return f"it needs Discrete actions, not {type(env.action_space).__name__}"
        return unsupported_observation(env)

    def default_hp(self):
        return self.scalars(Hyperparameters(lr=1e-2, discount=0.95, baseline=1.0))

    def validate(self, hp):
        rules = {"lr": checks.POSITIVE, "discount": checks.UNIT, "baseline": checks.UNIT}
        checks.check_hyperparameters(hp, rules)

    @property
    def actor(self):
        return MLP(self.hidden, self.env.num_actions, 0.01, self.env.float_dtype)

    @property
    def critic(self):
        return MLP(self.hidden, 1, 1.0, self.env.float_dtype)

    def init(self, key, params, hp):
        key, key_actor, key_critic = jax.random.split(key, 3)
        observation = jnp.zeros(self.env.observation_space.shape, self.env.float_dtype)
        parameters = {
            "actor": self.actor.init(key_actor, observation),
            "critic": self.critic.init(key_critic, observation),
        }
        return Training(key, parameters, optax.scale_by_adam().init(parameters))

    def update(self, state, params, hp):
        key, key_episodes = jax.random.split(state.key)
        keys = jax.random.split(key_episodes, self.num_envs)
        run = jax.vmap(self.episode, (None, 0, None))
        episodes = run(state.parameters["actor"], keys, params)
        reward, counts = episodes["reward"], episodes["counts"]
        keep = jnp.broadcast_to(hp.discount, reward.shape)
        ahead = jax.vmap(accumulated)(reward, keep)  # after its end an episode pays 0
        steps = jnp.sum(counts)

        def loss(parameters):
            logits = self.actor.apply(parameters["actor"], episodes["observation"])
            logits = masked_logits(logits, episodes["mask"])
            taken = -optax.softmax_cross_entropy_with_integer_labels(logits, episodes["action"])
            value = self.critic.apply(parameters["critic"], episodes["observation"])[..., 0]
            advantage = ahead - hp.baseline * jax.lax.stop_gradient(value)
            squared = 0.5 * (ahead - value) ** 2
            return jnp.sum(jnp.where(counts, squared - advantage * taken, 0)) / steps

        gradient = jax.grad(loss)(state.parameters)
        adam = optax.scale_by_adam()
        parameters, optimiser = descended(adam, state.parameters, state.optimiser, gradient, hp.lr)
        metrics = {"return": jnp.sum(reward) / self.num_envs, "steps": steps}
        return Training(key, parameters, optimiser), metrics

    def episode(self, actor, key, params):
        """What an episode was, ``[num_steps, ...]``; counts: whether a step before its end decided
        anything."""
        key_reset, key_act = jax.random.split(key)
        observation, env_state = self.env.reset(key_reset, params)

        def step(carry, key):
            observation, env_state, going, deciding = carry
            mask = self.env.action_mask(env_state, params)
            logits = masked_logits(self.actor.apply(actor, observation), mask)
            action = jax.random.categorical(key, logits).astype(jnp.int32)
            following, env_state, reward, terminated, truncated, info = self.env.transition(
                env_state, action, params
            )
            met = {"observation": observation, "mask": mask, "action": action}
            met |= {"counts": going & deciding, "reward": jnp.where(going, reward, 0)}
            going = going & ~(terminated | truncated)
            return (following, env_state, going, info["decision_pending"]), met

        keys = jax.random.split(key_act, self.num_steps)
        start = (observation, env_state, jnp.asarray(True), jnp.asarray(True))
        return jax.lax.scan(step, start, keys)[1]

    def policy(self, state):
        return Greedy(state.parameters["actor"], self.actor)


registry.register_learner("reinforce", Reinforce)
