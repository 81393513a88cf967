"""Environments with other actions, for libraries that know only Discrete ones, or no masks.

Each is an environment itself. `lift` turns what chooses for the wrapped environment into what
chooses for the one inside, so that a policy trained in any of them can be measured in the original:
``chooser(env, choose)(key, observation, mask)`` is an action of ``env``'s innermost environment.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from jaxenv import spaces, struct
from jaxenv.environment import ENDS, Constraint, Environment, Metric, State, steps_times
from jaxenv.errors import ConfigError

MAX_FLAT = 2**16

Choose = Callable[[chex.PRNGKey, chex.Array, chex.Array], chex.Array]


@dataclasses.dataclass(frozen=True)
class ActionWrapper(Environment):
    """An environment but for its actions. Everything else is that of ``env``, by explicit name."""

    env: Environment

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", self.env.dtype)

    name = property(lambda self: self.env.name)
    metrics = property(lambda self: self.env.metrics)
    constraints = property(lambda self: self.env.constraints)
    num_agents = property(lambda self: self.env.num_agents)
    reward_parts = property(lambda self: self.env.reward_parts)
    paid_by_agent = property(lambda self: self.env.paid_by_agent)
    observation_groups = property(lambda self: self.env.observation_groups)
    state_row = property(lambda self: self.env.state_row)
    state_groups = property(lambda self: self.env.state_groups)
    observation_space = property(lambda self: self.env.observation_space)
    action_space = property(lambda self: self.env.action_space)

    def default_params(self):
        return self.env.default_params()

    def validate(self, params):
        self.env.validate(params)

    def reset_env(self, key, params):
        return self.env.reset_env(key, params)

    def settle(self, state, params):
        return self.env.settle(state, params)

    def step_env(self, key, state, action, params):
        return self.env.step_env(key, state, self.inner_action(action, state, params), params)

    def inner_action(self, action: chex.Array, state: Any, params: Any) -> chex.Array:
        """The action of the environment inside."""
        raise NotImplementedError

    def lift(self, choose: Choose) -> Choose:
        """What chooses for the environment inside, from what chooses here."""
        raise NotImplementedError

    def observe(self, state, params):
        return self.env.observe(state, params)

    def action_mask(self, state, params):
        return self.env.action_mask(state, params)

    def is_truncated(self, state, params):
        return self.env.is_truncated(state, params)

    def most_steps(self, params):
        return self.env.most_steps(params)

    def reward_unit(self, params):
        return self.env.reward_unit(params)

    def for_evaluation(self):
        return dataclasses.replace(self, env=self.env.for_evaluation())

    def global_state(self, state, params):
        return self.env.global_state(state, params)


def chooser(env: Environment, choose: Choose) -> Choose:
    """What chooses for the innermost environment of ``env``, from what chooses for ``env``."""
    while isinstance(env, ActionWrapper):
        env, choose = env.env, env.lift(choose)
    return choose


def unwrapped(env: Environment) -> Environment:
    """The innermost environment."""
    while isinstance(env, ActionWrapper):
        env = env.env
    return env


@dataclasses.dataclass(frozen=True)
class FlatActions(ActionWrapper):
    """One number stands for all entries of a MultiDiscrete action; the first entry counts most.

    With agents, each has its own number. Refused beyond `MAX_FLAT` joint values.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_entries(self.env, "flat")
        total = math.prod(self.env.action_space.num_values)
        if total > MAX_FLAT:
            valid = f"{self.env.name} has {total} joint actions, more than {MAX_FLAT}"
            raise ConfigError("actions", "flat", f'{valid}; choose "sequential"')

    @property
    def action_space(self) -> spaces.Discrete:
        return spaces.Discrete(math.prod(self.env.action_space.num_values))

    def action_mask(self, state, params):
        return self.flat_mask(self.env.action_mask(state, params))

    def inner_action(self, action, state, params):
        return self.entries(action)

    def flat_mask(self, mask: chex.Array) -> chex.Array:
        """``[..., product]`` from a mask ``[..., heads, max_choices]``: every entry is allowed."""
        counts = self.env.action_space.num_values
        flat = mask[..., 0, : counts[0]]
        for head, count in enumerate(counts[1:], start=1):
            flat = flat[..., :, None] & mask[..., head, None, :count]
            flat = flat.reshape(*flat.shape[:-2], -1)
        return flat

    def entries(self, index: chex.Array) -> chex.Array:
        """int32 ``[..., heads]`` of a number ``[...]``."""
        counts = self.env.action_space.num_values
        return jnp.stack(jnp.unravel_index(index, counts), axis=-1).astype(jnp.int32)

    def index(self, entries: chex.Array) -> chex.Array:
        """int32 ``[...]``, the number of entries ``[..., heads]``."""
        index = jnp.zeros(entries.shape[:-1], jnp.int32)
        for head, count in enumerate(self.env.action_space.num_values):
            index = index * count + entries[..., head]
        return index

    def lift(self, choose):
        return lambda key, observation, mask: self.entries(
            choose(key, observation, self.flat_mask(mask))
        )


@struct.dataclass
class SequentialState(State):
    """inner: of the environment inside. chosen: int32 ``[..., heads]``. head: int32, the next."""

    inner: Any
    chosen: chex.Array
    head: chex.Array


@dataclasses.dataclass(frozen=True)
class SequentialActions(ActionWrapper):
    """The entries of a MultiDiscrete action are chosen one per step; the last one steps ``env``.

    The observation is that of ``env``, flat, then the head one-hot, then the entries chosen so far,
    one-hot; the mask is the row of the head. The other steps pay 0 and take no time in ``env``.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_entries(self.env, "sequential")

    @property
    def num_heads(self) -> int:
        return len(self.env.action_space.num_values)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those of ``env``; means are over its own steps."""
        return tuple(
            dataclasses.replace(metric, pool="ratio", over="inner_steps")
            if metric.pool == "mean"
            else metric
            for metric in self.env.metrics
        )

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """Those of ``env``; what can violate can in its own steps alone."""
        return tuple(
            one if one.over else dataclasses.replace(one, over=(_trials(one),))
            for one in self.env.constraints
        )

    @property
    def action_space(self) -> spaces.Discrete:
        return spaces.Discrete(max(self.env.action_space.num_values))

    @property
    def observation_space(self) -> spaces.Box:
        inner = self.env.observation_space
        size = inner.size + self.num_heads * (1 + self.action_space.num_values)
        return spaces.Box(min(inner.low, 0.0), max(inner.high, 1.0), (size,), inner.dtype)

    @property
    def observation_groups(self) -> tuple[int, ...]:
        return ()

    def reset_env(self, key, params):
        return SequentialState(
            key=key,
            time=jnp.int32(0),
            inner=self.env.reset_env(key, params),
            chosen=self._nothing(),
            head=jnp.int32(0),
        )

    def _nothing(self) -> chex.Array:
        agents = (self.num_agents,) if self.num_agents > 1 else ()
        return jnp.full((*agents, self.num_heads), -1, jnp.int32)

    def settle(self, state, params):
        return state.replace(inner=self.env.settle(state.inner, params))

    def step_env(self, key, state, action, params):
        chosen = state.chosen.at[..., state.head].set(action)
        last = state.head == self.num_heads - 1
        before = (state.inner, *self._nothing_happened(state.inner, chosen, params))

        # A loop of at most one turn: under vmap a cond would step every environment every time.
        def turn(carry: tuple[chex.Array, Any]) -> tuple[chex.Array, Any]:
            _, inner, reward, terminated, _, info = self.env.transition(state.inner, chosen, params)
            return jnp.zeros_like(carry[0]), (inner, reward, terminated, _stripped(info))

        _, after = jax.lax.while_loop(lambda carry: carry[0], turn, (last, before))
        inner, reward, terminated, info = after
        state = state.replace(
            inner=inner,
            chosen=jnp.where(last, self._nothing(), chosen),
            head=jnp.where(last, 0, state.head + 1),
        )
        inner_steps = last.astype(self.float_dtype)
        counted = [one for one in self.env.constraints if not one.over]
        trials = {_trials(one): inner_steps * info[one.of[0]].size for one in counted}
        return state, reward, terminated, info | trials | {"inner_steps": inner_steps}

    def _nothing_happened(self, inner: Any, chosen: chex.Array, params: Any) -> tuple[Any, ...]:
        shapes = jax.eval_shape(self.env.transition, inner, chosen, params)
        _, _, reward, terminated, _, info = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), _without_state(shapes)
        )
        return reward, terminated, _stripped(info)

    def is_truncated(self, state, params):
        return (state.head == 0) & self.env.is_truncated(state.inner, params)

    def most_steps(self, params):
        return steps_times(self.env.most_steps(params), self.num_heads)

    def observe(self, state, params):
        return self._extended(self.env.observe(state.inner, params), state.chosen, state.head)

    def _extended(
        self, observation: chex.Array, chosen: chex.Array, head: chex.Array
    ) -> chex.Array:
        lead = chosen.shape[:-1]
        at = jnp.broadcast_to(jax.nn.one_hot(head, self.num_heads), (*lead, self.num_heads))
        so_far = jax.nn.one_hot(chosen, self.action_space.num_values).reshape(*lead, -1)
        parts = (observation.reshape(*lead, -1), at, so_far)
        return jnp.concatenate([part.astype(self.dtype) for part in parts], axis=-1)

    def action_mask(self, state, params):
        return self.env.action_mask(state.inner, params)[..., state.head, :]

    def global_state(self, state, params):
        return self.env.global_state(state.inner, params)

    def lift(self, choose):
        def choose_all(key: chex.PRNGKey, observation: chex.Array, mask: chex.Array) -> chex.Array:
            def choose_next(chosen: chex.Array, head: chex.Array) -> tuple[chex.Array, None]:
                seen = self._extended(observation, chosen, head)
                value = choose(jax.random.fold_in(key, head), seen, mask[..., head, :])
                return chosen.at[..., head].set(value), None

            return jax.lax.scan(choose_next, self._nothing(), jnp.arange(self.num_heads))[0]

        return choose_all


@dataclasses.dataclass(frozen=True)
class ValidActions(ActionWrapper):
    """Every action is allowed: an invalid entry becomes the next valid one, the last the first."""

    shared_choice = property(lambda self: self.env.shared_choice)
    choice_groups = property(lambda self: self.env.choice_groups)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.env.action_space, (spaces.Discrete, spaces.MultiDiscrete)):
            valid = f"{self.env.name} has {type(self.env.action_space).__name__} actions"
            raise ConfigError("repair", True, f"{valid}; it needs Discrete or MultiDiscrete")

    def action_mask(self, state, params):
        mask = self.env.action_space.mask()
        return (
            jnp.broadcast_to(mask, (self.num_agents, *mask.shape)) if self.num_agents > 1 else mask
        )

    def inner_action(self, action, state, params):
        return next_valid(action, self.env.action_mask(state, params))

    def lift(self, choose):
        def choose_valid(
            key: chex.PRNGKey, observation: chex.Array, mask: chex.Array
        ) -> chex.Array:
            everything = jnp.broadcast_to(self.env.action_space.mask(), mask.shape)
            return next_valid(choose(key, observation, everything), mask)

        return choose_valid


def next_valid(action: chex.Array, mask: chex.Array) -> chex.Array:
    """``action``, int32 ``[...]``, where ``mask``, ``[..., choices]``, allows it, else the next.

    After the last choice comes the first; where nothing is allowed the action stays.
    """
    choices = mask.shape[-1]
    ahead = (jnp.arange(choices) - action[..., None]) % choices
    steps = jnp.min(jnp.where(mask, ahead, choices), axis=-1)
    return ((action + steps) % choices).astype(jnp.int32)


def _require_entries(env: Environment, actions: str) -> None:
    if not isinstance(env.action_space, spaces.MultiDiscrete):
        valid = f"{env.name} has {type(env.action_space).__name__} actions, not MultiDiscrete"
        raise ConfigError("actions", actions, valid)


def _trials(constraint: Constraint) -> str:
    """The entry of ``info`` that counts what could have violated a constraint."""
    return f"{constraint.name}_trials"


def _without_state(timestep: tuple[Any, ...]) -> tuple[Any, ...]:
    observation, _, *rest = timestep
    return (observation, None, *rest)


def _stripped(info: dict[str, Any]) -> dict[str, Any]:
    """``info`` without what the base adds anew."""
    return {name: value for name, value in info.items() if name not in ENDS}
