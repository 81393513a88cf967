"""A plugin of the tests: contexts to be guessed, a policy-gradient learner, two baselines, a bound.

The right action is the context shown. A wrong one costs ``wrong_cost``, any one ``base_cost``: the
uniform policy's mean cost is ``base_cost + wrong_cost * (1 - 1/num_choices)``, the best one's, and
the bound's, ``base_cost``.
"""

from __future__ import annotations

import dataclasses
import os
import signal
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
import optax

import jaxenv
from agents import registry
from agents.learner import Bound, Learner, Policy, RandomPolicy
from agents.spread import gathered, over_environments
from jaxenv import spaces, struct
from jaxenv.environment import Environment, Metric, Params, State
from jaxenv.errors import ConfigError
from runs.checkpoint import Checkpoints
from runs.logging import CSVLogger


@struct.dataclass
class GuessState(State):
    context: chex.Array


@struct.dataclass
class GuessParams(Params):
    wrong_cost: chex.Array
    base_cost: chex.Array
    weights: chex.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guess(Environment[GuessState, GuessParams]):
    num_choices: int = 3

    name: ClassVar[str] = "guess"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("cost", "s", "min", "ratio", of="cost", over="tasks"),
        Metric("success", "%", "max", "mean", of="success", scale=100.0),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.num_choices, int) or self.num_choices < 2:
            raise ConfigError("num_choices", self.num_choices, "give an integer of at least 2")

    def default_params(self) -> GuessParams:
        one = jnp.ones((), self.float_dtype)
        weights = jnp.ones((self.num_choices,), self.float_dtype)
        return GuessParams(jnp.int32(5), wrong_cost=one, base_cost=one / 2, weights=weights)

    def validate(self, params: GuessParams) -> None:
        if not float(params.wrong_cost) > 0:
            raise ConfigError("wrong_cost", float(params.wrong_cost), "give a positive number")

    def reset_env(self, key, params):
        return GuessState(key, jnp.int32(0), self._context(key, params))

    def step_env(self, key, state, action, params):
        right = (action == state.context).astype(self.dtype)
        cost = params.base_cost + params.wrong_cost * (1 - right)
        info = {"cost": cost, "tasks": jnp.ones_like(cost), "success": right}
        return state.replace(context=self._context(key, params)), -cost, jnp.asarray(False), info

    def _context(self, key, params):
        return jax.random.categorical(key, jnp.log(params.weights)).astype(jnp.int32)

    def observe(self, state, params):
        return jax.nn.one_hot(state.context, self.num_choices, dtype=self.dtype)

    @property
    def observation_space(self):
        return spaces.Box(0.0, 1.0, (self.num_choices,), self.float_dtype)

    @property
    def action_space(self):
        return spaces.Discrete(self.num_choices)

    def draw(self, axes, state, params):
        axes.bar(range(self.num_choices), self.observe(state, params))
        axes.set_title(f"step {int(state.time)}")


@struct.dataclass
class LinearPolicy(Policy):
    weights: chex.Array

    def act(self, carry, key, observation, mask, state, params):
        return jnp.argmax(observation @ self.weights).astype(jnp.int32), carry


@struct.dataclass
class Constant(Policy):
    def act(self, carry, key, observation, mask, state, params):
        return jnp.int32(0), carry


@struct.dataclass
class BaseCost(Bound):
    metric: ClassVar[str] = "cost"

    def update(self, carry, state, action, info, params):
        return carry[0] + params.base_cost, carry[1] + 1


@struct.dataclass
class Hyperparameters:
    lr: chex.Array
    schedule_updates: chex.Array


@struct.dataclass
class TrainState:
    key: chex.PRNGKey
    weights: chex.Array
    optimiser: Any
    observation: chex.Array
    env_state: Any
    count: chex.Array


@dataclasses.dataclass(frozen=True)
class PolicyGradient(Learner):
    """REINFORCE on single decisions, with Adam and a learning rate that falls to zero."""

    num_envs: int = 8

    name: ClassVar[str] = "reinforce"

    @property
    def shared_environments(self):
        return self.num_envs

    @classmethod
    def unsupported(cls, env):
        return None if isinstance(env.action_space, spaces.Discrete) else "it needs Discrete"

    def default_hp(self):
        return Hyperparameters(lr=jnp.float32(0.1), schedule_updates=jnp.int32(100))

    def init(self, key, params, hp):
        key, key_weights, key_reset = jax.random.split(key, 3)
        reset_keys = jax.random.split(key_reset, self.num_envs)
        observation, state = jax.vmap(lambda k: self.env.reset(k, params))(reset_keys)
        size = (self.env.num_actions, self.env.num_actions)
        weights = 0.1 * jax.random.normal(key_weights, size, self.env.float_dtype)
        optimiser = optax.scale_by_adam().init(weights)
        return TrainState(key, weights, optimiser, observation, state, 0)

    def update(self, state, params, hp):
        key, key_act, key_step = jax.random.split(state.key, 3)
        logits = state.observation @ state.weights
        action = jax.random.categorical(key_act, logits, axis=-1)
        step = over_environments(self.env.step, (0, 0, 0, None))
        keys = jax.random.split(key_step, self.num_envs)
        observation, env_state, reward, *_ = step(keys, state.env_state, action, params)
        observation, reward = gathered((observation, reward))
        advantage = reward - reward.mean()

        def loss(weights):
            log_prob = jax.nn.log_softmax(state.observation @ weights)
            taken = jnp.take_along_axis(log_prob, action[:, None], axis=-1)[:, 0]
            return -(advantage * taken).mean()

        value, gradient = jax.value_and_grad(loss)(state.weights)
        direction, optimiser = optax.scale_by_adam().update(gradient, state.optimiser)
        rate = hp.lr * jnp.maximum(1 - state.count / hp.schedule_updates, 0)
        weights = (state.weights - rate * direction).astype(state.weights.dtype)
        state = TrainState(key, weights, optimiser, observation, env_state, state.count + 1)
        return state, {"reward": reward.mean(), "loss": value, "rate": rate}

    def policy(self, state):
        return LinearPolicy(state.weights)


def signal_after(update: int, name: str) -> None:
    """Sends this process the signal ``name`` when the row of ``update`` has been logged."""
    log = CSVLogger.log

    def log_and_signal(self: CSVLogger, logged: int, metrics: Any) -> None:
        log(self, logged, metrics)
        if logged == update:
            os.kill(os.getpid(), getattr(signal, name))

    CSVLogger.log = log_and_signal


def fail_in(process: int) -> None:
    """Has the process of this number fail where it saves its first checkpoint."""
    save = Checkpoints.save

    def fail_or_save(self: Checkpoints, *arguments: Any) -> None:
        if jax.process_index() == process:
            raise RuntimeError("the disk of one process is broken")
        save(self, *arguments)

    Checkpoints.save = fail_or_save


if "PROBE_FAILS" in os.environ:
    fail_in(int(os.environ["PROBE_FAILS"]))
if "PROBE_AT" in os.environ:
    signal_after(int(os.environ["PROBE_AT"]), os.environ["PROBE_SIGNAL"])
jaxenv.register("guess", Guess)
registry.register_learner("reinforce", PolicyGradient)
registry.register_baseline("guess", "random", lambda env: RandomPolicy())
registry.register_baseline("guess", "constant", lambda env: Constant())
registry.register_bound("guess", lambda env: BaseCost())
