"""NaN put where it hurts; and the cheapest environment and learner, a plugin that drills train."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxenv
from agents import checks, registry
from agents.learner import Learner, Policy
from jaxenv import Environment, Metric, Params, State, spaces, struct
from runs import tables
from runs.drilling import Outcome, processes
from runs.settings import Config

PLUGIN = [f"plugins=[{__name__}]", "env=drill", "agent=drill", "baselines=[]"]
INTERVAL = 5
SETTINGS = [*PLUGIN, "num_updates=30", "num_seeds=2", "eval_episodes=4"]
SETTINGS += [f"log_interval={INTERVAL}", f"checkpoint_interval={INTERVAL}"]
# By what is NaN: the setting, the update that meets it first, and what must be named.
FAULTS = {
    "reward": ("env.nan_step=12", 13, "reward"),
    "gradient of the actor": ("agent.nan_actor=13", 13, "optimizer/mu/actor"),
    "gradient of the critic": ("agent.nan_critic=13", 13, "optimizer/mu/critic"),
}


def drill(config: Config, folder: Path) -> list[Outcome]:
    """NaN in a reward or a gradient stops the training, is named, and is in no checkpoint."""
    outcomes = []
    for what, (setting, update, name) in FAULTS.items():
        wrong = fault(folder / what.replace(" ", "_"), setting, update, name)
        note = wrong or f"named {name} at update {update}; checkpoint {10} is the last, and finite"
        outcomes.append(
            Outcome(f"NaN in the {what}", int(not wrong), "runs", int(bool(wrong)), note)
        )
    return outcomes


def fault(folder: Path, setting: str, update: int, name: str) -> str:
    """What is wrong with how a training ends that meets NaN; nothing if nothing is."""
    good = (update - 1) // INTERVAL * INTERVAL
    ended = processes.finished([*SETTINGS, setting, f"hydra.run.dir={folder}"], folder.parent)
    if ended.status != 1 or len(ended.errors) != 1 or "Traceback" in ended.text:
        return f"status {ended.status}: {ended.text[-300:]}"
    expected = (
        f": {name}",
        f"of seed 0 is not finite after update {update}",
        f"the last good state is the checkpoint of update {good}",
    )
    if not all(part in ended.errors[0] for part in expected):
        return ended.errors[0]
    if processes.checkpoints_of(folder)[-1] != good:
        return f"the checkpoints are {processes.checkpoints_of(folder)}"
    if not all(np.isfinite(x).all() for x in processes.last_state(folder)):
        return f"checkpoint {good} holds what is not finite"
    logged = max(int(row["update"]) for row in tables.read_csv(folder / "metrics.csv"))
    return "" if logged == good else f"update {logged} is in metrics.csv"


# ---- the environment ---------------------------------------------------------------------------


@struct.dataclass
class GuessState(State):
    """context: int32, the action to be taken."""

    context: chex.Array


@struct.dataclass
class GuessParams(Params):
    """nan_step: int32, from which on rewards are NaN."""

    nan_step: chex.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guess(Environment[GuessState, GuessParams]):
    """Three contexts; the action that equals the one shown is paid 1."""

    name: ClassVar[str] = "drill"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("hits", "1", "max", "mean", "hits"),)

    def default_params(self) -> GuessParams:
        return GuessParams(max_steps=jnp.int32(50), nan_step=jnp.int32(2**31 - 1))

    def reset_env(self, key, params):
        return GuessState(key, jnp.int32(0), self._context(key))

    def step_env(self, key, state, action, params):
        hit = (action == state.context).astype(self.float_dtype)
        reward = jnp.where(state.time >= params.nan_step, jnp.nan, hit)
        return state.replace(context=self._context(key)), reward, jnp.asarray(False), {"hits": hit}

    def observe(self, state, params):
        return jax.nn.one_hot(state.context, 3, dtype=self.float_dtype)

    def _context(self, key):
        return jax.random.randint(key, (), 0, 3, jnp.int32)

    @property
    def observation_space(self):
        return spaces.Box(0.0, 1.0, (3,), self.float_dtype)

    @property
    def action_space(self):
        return spaces.Discrete(3)


# ---- the learner -------------------------------------------------------------------------------


@struct.dataclass
class Hyperparameters:
    """lr: of Adam. nan_actor, nan_critic: the update whose gradient is NaN; 0 = none."""

    lr: chex.Array
    nan_actor: chex.Array
    nan_critic: chex.Array


@struct.dataclass
class TrainState:
    """parameters: of ``actor`` and ``critic``. updates: int32, so far."""

    parameters: dict[str, chex.Array]
    optimizer: Any
    observation: chex.Array
    env_state: Any
    updates: chex.Array
    key: chex.PRNGKey


@struct.dataclass
class Greedy(Policy):
    """The context's most probable action."""

    weights: chex.Array

    def act(self, carry, key, observation, mask, state, params):
        return jnp.argmax(observation @ self.weights).astype(jnp.int32), carry


@dataclasses.dataclass(frozen=True)
class ActorCritic(Learner):
    """One step of each environment per update, one step of Adam on linear actor and critic."""

    num_envs: int = 4

    name: ClassVar[str] = "drill"

    @classmethod
    def unsupported(cls, env):
        return None if env.name == "drill" else "it fits env=drill alone"

    def default_hp(self):
        return Hyperparameters(jnp.float32(0.05), jnp.int32(0), jnp.int32(0))

    def validate(self, hp):
        checks.check_hyperparameters(hp, {"lr": checks.POSITIVE})

    def init(self, key, params, hp):
        key, key_reset, key_actor = jax.random.split(key, 3)
        reset_keys = jax.random.split(key_reset, self.num_envs)
        observation, env_state = jax.vmap(self.env.reset, (0, None))(reset_keys, params)
        parameters = {"actor": jax.random.normal(key_actor, (3, 3)), "critic": jnp.zeros(3)}
        optimizer = optax.scale_by_adam().init(parameters)
        return TrainState(parameters, optimizer, observation, env_state, jnp.int32(0), key)

    def update(self, state, params, hp):
        key, key_act, key_step = jax.random.split(state.key, 3)
        action = jax.random.categorical(key_act, state.observation @ state.parameters["actor"])
        step = jax.vmap(self.env.step, (0, 0, 0, None))
        keys = jax.random.split(key_step, self.num_envs)
        observation, env_state, reward, *_ = step(keys, state.env_state, action, params)

        def losses(parameters):
            value = state.observation @ parameters["critic"]
            log_probability = jax.nn.log_softmax(state.observation @ parameters["actor"])
            taken = jnp.take_along_axis(log_probability, action[:, None], 1)[:, 0]
            gain = jax.lax.stop_gradient(reward - value)
            policy_loss, value_loss = -jnp.mean(gain * taken), jnp.mean((reward - value) ** 2)
            return policy_loss + value_loss, (policy_loss, value_loss)

        gradient, (policy_loss, value_loss) = jax.grad(losses, has_aux=True)(state.parameters)
        updates = state.updates + 1
        for name, when in (("actor", hp.nan_actor), ("critic", hp.nan_critic)):
            gradient[name] = jnp.where(updates == when, jnp.nan, gradient[name])
        direction, optimizer = optax.scale_by_adam().update(gradient, state.optimizer)
        parameters = jax.tree.map(lambda x, d: x - hp.lr * d, state.parameters, direction)
        state = TrainState(parameters, optimizer, observation, env_state, updates, key)
        metrics = {"policy_loss": policy_loss, "value_loss": value_loss, "reward": reward.mean()}
        return state, metrics

    def policy(self, state):
        return Greedy(state.parameters["actor"])


def register() -> None:
    """Makes ``env=drill`` and ``agent=drill`` known."""
    jaxenv.register("drill", Guess)
    registry.register_learner("drill", ActorCritic)


register()
