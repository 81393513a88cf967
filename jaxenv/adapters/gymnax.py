"""gymnax: environments for gymnax 0.0.9 and 1.x, rejax, PureJaxRL and whatever else speaks it."""

from __future__ import annotations

import importlib.metadata
from functools import partial
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
from flax import struct

from jaxenv import spaces
from jaxenv.adapters.prepare import Actions, Adapted, needs, prepare
from jaxenv.environment import Environment
from jaxenv.errors import ConfigError

with needs("gymnax"):
    from gymnax.environments import environment
    from gymnax.environments import spaces as gymnax_spaces


@struct.dataclass
class GymnaxState(environment.EnvState):
    """time: steps taken in the episode. inner: of the environment. terminated: not by a limit."""

    inner: Any = None
    terminated: chex.Array = False


@struct.dataclass
class GymnaxParams(environment.EnvParams):
    """max_steps_in_episode: a limit on the steps of an episode beside the scenario's own one.

    scenario: params of the environment; ``params.replace(scenario=params.scenario.replace(...))``.
    """

    scenario: Any = None


class GymnaxEnvironment(Adapted, environment.Environment):
    """An environment of this library as one of gymnax; made by `to_gymnax`."""

    def __init__(self, env: Environment, params: Any):
        super().__init__(env, params)
        _space(env.action_space)

    @property
    def default_params(self) -> GymnaxParams:
        """The scenario that the adapter was given."""
        return GymnaxParams(self.env.most_steps(self.scenario), self.scenario)

    def reset_env(self, key: chex.PRNGKey, params: GymnaxParams) -> tuple[Any, GymnaxState]:
        """``(observation, state)`` of the episode that ``key`` determines."""
        observation, inner = self.env.reset(key, params.scenario)
        return observation, _state(inner)

    def step(
        self, key: chex.PRNGKey, state: GymnaxState, action: Any, params: GymnaxParams | None = None
    ) -> tuple[Any, ...]:
        """Six values: observation, state, reward, terminated, truncated, info. Resets itself.

        ``info`` is that of the environment: with the true ``final_observation`` and its mask, and
        with ``action_mask``, of the state returned, and ``discount``, 0 where terminated.
        """
        return self._step(key, state, action, self.default_params if params is None else params)

    @partial(jax.jit, static_argnames="self")
    def _step(self, key, state, action, params):
        _, state, reward, terminated, truncated, info = self._transition(state, action, params)
        done = terminated | truncated
        inner = self.env.restart(key, state.inner, done, params.scenario)
        observation = jnp.where(
            done, self.env.observe(inner, params.scenario), info["final_observation"]
        )
        info["action_mask"] = self.env.action_mask(inner, params.scenario)
        return observation, _state(inner), reward, terminated, truncated, info

    def _transition(self, state, action, params):
        action = _joined(self.env.action_space, action)
        observation, inner, reward, terminated, truncated, info = self.env.transition(
            state.inner, action, params.scenario
        )
        limited = inner.time >= params.max_steps_in_episode
        truncated = (truncated | limited) & ~terminated
        info = info | {"truncated": truncated, "discount": 1.0 - terminated}
        state = _state(inner).replace(terminated=terminated)
        return observation, state, reward, terminated, truncated, info

    def step_env(self, key, state, action, params):
        """One step without reset: observation, state, reward, terminated, info."""
        observation, state, reward, terminated, _, info = self._transition(state, action, params)
        return observation, state, reward, terminated, info

    def action_mask(self, state: GymnaxState, params: GymnaxParams | None = None) -> Any:
        """True where an action is valid."""
        params = self.default_params if params is None else params
        return self.env.action_mask(state.inner, params.scenario)

    def get_obs(self, state, params=None, key=None):
        """The observation of a state."""
        params = self.default_params if params is None else params
        return self.env.observe(state.inner, params.scenario)

    def observe(self, key, state, action, params):
        """The observation of a state; neither the key nor the action matters."""
        return self.get_obs(state, params)

    def is_truncated(self, state: GymnaxState, params: GymnaxParams) -> chex.Array:
        """Whether a time limit has ended the episode."""
        limited = state.time >= params.max_steps_in_episode
        own = self.env.is_truncated(state.inner, params.scenario)
        return (own | limited) & ~state.terminated

    def is_terminated(self, state: GymnaxState, params: GymnaxParams) -> chex.Array:
        """Whether the episode has ended, other than by a time limit."""
        return state.terminated

    def is_terminal(self, state: GymnaxState, params: GymnaxParams) -> chex.Array:
        """`is_terminated`."""
        return state.terminated

    def discount(self, state: GymnaxState, params: GymnaxParams) -> chex.Array:
        """0 where the episode has terminated, else 1, also at a time limit."""
        return 1.0 - state.terminated

    @property
    def name(self) -> str:
        return self.env.name

    @property
    def num_actions(self) -> int:
        return self.env.num_actions

    def action_space(self, params: GymnaxParams | None = None) -> Any:
        """gymnax's Discrete; a Tuple of them for a MultiDiscrete space."""
        return _space(self.env.action_space)

    def observation_space(self, params: GymnaxParams | None = None) -> Any:
        """gymnax's Box; with agents, of all of them."""
        space = self.env.observation_space
        lead = (self.env.num_agents,) if self.env.num_agents > 1 else ()
        return gymnax_spaces.Box(space.low, space.high, (*lead, *space.shape), space.dtype)


class FiveValueEnvironment(GymnaxEnvironment):
    """The form of gymnax before 1.0: one ``done``, whose reason is in ``info``."""

    def step(self, key, state, action, params=None):
        """Five values: observation, state, reward, done, info. Resets itself.

        ``info["terminated"]`` and ``info["truncated"]`` tell the two ends apart.
        """
        *first, terminated, truncated, info = super().step(key, state, action, params)
        return *first, terminated | truncated, info

    def step_env(self, key, state, action, params):
        """One step without reset: observation, state, reward, done, info."""
        *first, terminated, truncated, info = self._transition(state, action, params)
        return *first, terminated | truncated, info

    def is_terminal(self, state, params):
        """Whether the episode has ended, for whatever reason."""
        return state.terminated | self.is_truncated(state, params)


FORMS = {"0.x": FiveValueEnvironment, "1.x": GymnaxEnvironment}


def to_gymnax(
    env: Environment | str,
    params: Any = None,
    *,
    api: Literal["0.x", "1.x"] | None = None,
    actions: Actions = "native",
    repair: bool = False,
    **options: Any,
) -> tuple[GymnaxEnvironment, GymnaxParams]:
    """``(env, params)`` as ``gymnax.make`` returns them.

    Args:
        env, params, actions, repair, options: see `jaxenv.adapters.prepare.prepare`.
        api: ``0.x``, with five values per step, which rejax and PureJaxRL expect; ``1.x``, with
            six; None: that of the gymnax that is installed.
    """
    env, params = prepare(env, params, options, actions, repair)
    if api is None:
        api = "0.x" if importlib.metadata.version("gymnax").startswith("0.") else "1.x"
    if api not in FORMS:
        raise ConfigError("api", api, f"choose one of {', '.join(FORMS)}")
    adapted = FORMS[api](env, params)
    return adapted, adapted.default_params


def _state(inner: Any) -> GymnaxState:
    return GymnaxState(time=inner.time, inner=inner, terminated=jnp.asarray(False))


def _space(space: spaces.Space) -> Any:
    if isinstance(space, spaces.Discrete):
        return gymnax_spaces.Discrete(space.num_values)
    if isinstance(space, spaces.MultiDiscrete):
        return gymnax_spaces.Tuple([gymnax_spaces.Discrete(n) for n in space.num_values])
    if isinstance(space, spaces.Tuple):
        return gymnax_spaces.Tuple([_space(part) for part in space.spaces])
    return gymnax_spaces.Box(space.low, space.high, space.shape, space.dtype)


def _joined(space: spaces.Space, action: Any) -> Any:
    """One vector where the entries of a MultiDiscrete action come as a tuple."""
    if isinstance(space, spaces.MultiDiscrete) and isinstance(action, (tuple, list)):
        return jnp.stack(action, axis=-1).astype(jnp.int32)
    return action
