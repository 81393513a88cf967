"""Environments of several agents as their learners meet them: views, lanes, running scales."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from agents import branches, tally
from agents.branches import Branches
from agents.learner import scenario_axes
from agents.sequential import SequentialActor
from agents.spread import gathered, over_environments
from jaxenv import spaces, struct
from jaxenv.environment import Environment

LEAST_DEVIATION = 1e-3


@struct.dataclass
class Lane:
    """An environment that collects; in a learner's state leaves have an axis ``num_envs``."""

    env_state: Any
    episode: tally.Tally


class View(NamedTuple):
    """What B states show. observation, mask: ``[n, B, ...]``. world: the global state, ``[B, S]``.

    Masks are those of the heads of `Branches`.
    """

    observation: chex.Array
    mask: chex.Array
    world: chex.Array


class Step(NamedTuple):
    """What one step of B environments led to, leaves ``[B, ...]``.

    after: states before any reset. reward: ``[B, parts]``, or ``[B, n, parts]`` by agent; one part
    if there are no components.
    """

    after: Any
    reward: chex.Array
    terminated: chex.Array
    done: chex.Array


def unsupported(env: Environment) -> str | None:
    """Why ``env`` is not several agents that observe vectors and choose, or None where it is."""
    if env.num_agents < 2:
        return f"it needs several agents, not {env.num_agents}"
    if not isinstance(env.observation_space, spaces.Box):
        return f"it needs a Box observation, not {type(env.observation_space).__name__}"
    if len(env.observation_space.shape) != 1:
        return f"it needs a flat observation, not shape {env.observation_space.shape}"
    return branches.unsupported(env.action_space)


@dataclasses.dataclass(frozen=True)
class Team:
    """The agents of one environment.

    parts: whether rewards are kept by component, of ``info["reward_parts"]``. by_agent: whether
    they are kept by agent, of ``info["agent_parts"]``.
    """

    env: Environment
    parts: bool = False
    by_agent: bool = False

    @property
    def branches(self) -> Branches:
        """How an agent's action is made of its sub-actions."""
        return Branches.of(self.env.action_space)

    @property
    def num_parts(self) -> int:
        """Rewards of a step."""
        return len(self.env.reward_parts) if self.parts else 1

    @property
    def reward_shape(self) -> tuple[int, ...]:
        """Of what a step is paid: ``[parts]``, or ``[n, parts]`` by agent."""
        return (*((self.env.num_agents,) if self.by_agent else ()), self.num_parts)

    @property
    def state_size(self) -> int:
        """Entries of the global state."""
        params = jax.eval_shape(self.env.default_params)
        _, state = jax.eval_shape(self.env.reset, jax.eval_shape(jax.random.key, 0), params)
        return math.prod(jax.eval_shape(self.env.global_state, state, params).shape)

    def critic_shape(self) -> dict[str, Any]:
        """How a `critics.JointCritic` reads the global state."""
        env = self.env
        rest = self.state_size - env.num_agents * env.state_row
        groups = env.state_groups or ((rest,) if rest else ())
        return {"num_agents": env.num_agents, "row": env.state_row, "groups": groups}

    def meeting(self) -> dict[str, Any]:
        """How a `critics.PairwiseCritic` sees agents that share what they chose."""
        env = self.env
        return {"shared_choice": env.shared_choice, "choice_groups": env.choice_groups}

    def actor_shape(self) -> dict[str, Any]:
        """How a `sequential.SequentialActor` reads an observation, and what it chooses."""
        groups = self.env.observation_groups or (self.env.observation_space.size,)
        return {"groups": groups, "heads": self.branches.heads, "choices": self.branches.outputs}

    def first_actors(self, network: SequentialActor, key: chex.PRNGKey) -> Any:
        """Parameters of all agents' networks, ``[n, ...]``."""
        env, shape = self.env, (self.branches.heads, self.branches.outputs)
        inputs = (
            jnp.zeros(env.observation_space.shape, env.float_dtype),
            jnp.ones(shape, bool),
            jnp.zeros(shape, env.float_dtype),
        )
        keys = jax.random.split(key, env.num_agents)
        return jax.vmap(network.init, (0, None, None, None))(keys, *inputs)

    def start(self, keys: chex.PRNGKey, params: Any) -> Lane:
        """One lane per key; each leaf of ``params`` may carry a leading axis of lanes."""

        def one(key: chex.PRNGKey, params: Any) -> Lane:
            return Lane(self.env.reset(key, params)[1], tally.start(self.env))

        return jax.vmap(one, (0, scenario_axes(self.env, params)))(keys, params)

    def view(self, states: Any, params: Any) -> View:
        """What states with a leading axis show; each leaf of ``params`` may carry the same axis."""
        axes = scenario_axes(self.env, params)
        observation = jax.vmap(self.env.observe, (0, axes))(states, params)
        mask = jax.vmap(self.env.action_mask, (0, axes))(states, params)
        world = jax.vmap(self.env.global_state, (0, axes))(states, params)
        return View(
            observation=jnp.moveaxis(observation, 1, 0),
            mask=jnp.moveaxis(self.branches.head_mask(mask), 1, 0),
            world=world.reshape(len(world), -1),
        )

    def step(
        self, lanes: Lane, choice: chex.Array, keys: chex.PRNGKey, params: Any
    ) -> tuple[Lane, Step, dict[str, chex.Array]]:
        """One step of every lane.

        Args:
            lanes: leaves ``[B, ...]``.
            choice: of every head, int32 ``[n, B, heads]``.
            keys: of resets, ``[B]``.
            params: the scenario; each leaf may carry a leading axis ``B``.

        Returns:
            The lanes, what was met, and sums over the lanes of what `tally.add` counts,
            ``decisions`` and ``mean_reward``.
        """

        def one(lane: Lane, action: chex.Array, key: chex.PRNGKey, params: Any) -> tuple[Any, ...]:
            _, after, reward, terminated, truncated, info = self.env.transition(
                lane.env_state, action, params
            )
            done = terminated | truncated
            deciding = jnp.asarray(True)
            episode, counts = tally.add(lane.episode, self.env, info, reward, deciding, done)
            counts |= {"decisions": jnp.int32(1), "mean_reward": reward}
            if self.by_agent:
                parts = info["agent_parts"]
                parts = parts if self.parts else jnp.sum(parts, axis=-1, keepdims=True)
            else:
                parts = info["reward_parts"] if self.parts else reward[None]
            lane = Lane(self.env.restart(key, after, done, params), episode)
            return lane, Step(after, parts, terminated, done), counts

        action = self.branches.action(jnp.moveaxis(choice, 0, 1))
        axes = scenario_axes(self.env, params)
        step = over_environments(one, (0, 0, 0, axes))
        lanes, *rest = step(lanes, action, keys, params)
        made, counts = gathered(rest)
        return lanes, made, {k: jnp.sum(x, axis=0, dtype=x.dtype) for k, x in counts.items()}


@struct.dataclass
class Scale:
    """Running mean and deviation of targets, ``[parts]``, by exponential averages.

    total, squares, weight: of targets, of their squared distances from the mean, and of one, before
    their bias towards the start is divided out.
    """

    total: chex.Array
    squares: chex.Array
    weight: chex.Array
    mean: chex.Array
    deviation: chex.Array

    @classmethod
    def start(cls, parts: int, dtype: Any) -> Scale:
        """Before any target: mean 0, deviation 1."""
        zero = jnp.zeros(parts, dtype)
        return cls(zero, zero, jnp.zeros((), dtype), mean=zero, deviation=jnp.ones(parts, dtype))

    def add(self, target: chex.Array, keep: chex.Array) -> Scale:
        """After targets ``[B, parts]``; keep: share of the average that stays."""
        weight = keep * self.weight + (1 - keep)
        total = keep * self.total + (1 - keep) * jnp.mean(target, axis=0)
        mean = total / weight
        squares = keep * self.squares + (1 - keep) * jnp.mean((target - mean) ** 2, axis=0)
        deviation = jnp.maximum(jnp.sqrt(squares / weight), LEAST_DEVIATION)
        return Scale(total, squares, weight, mean, deviation)

    def normalised(self, target: chex.Array) -> chex.Array:
        """``(target - mean) / deviation``."""
        return (target - self.mean) / self.deviation

    def value(self, output: chex.Array) -> chex.Array:
        """The inverse of `normalised`."""
        return self.mean + self.deviation * output

    def carried(self, critic: Any, following: Scale) -> Any:
        """A `critics.JointCritic`'s parameters whose `value` by ``following`` is what it was."""
        layers = critic["params"]
        head = {
            "kernel": layers["values"]["kernel"] * (self.deviation / following.deviation),
            "bias": following.normalised(self.value(layers["values"]["bias"])),
        }
        return {"params": layers | {"values": head}}
