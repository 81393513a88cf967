"""Stoa, the interface of Stoix: state and time step, to be wrapped by Stoa's own wrappers."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp

from jaxenv import spaces
from jaxenv.adapters.prepare import Actions, Adapted, needs, prepare
from jaxenv.environment import Environment

with needs("stoa", "stoa-env"):
    import stoa
    from stoa import StepType, TimeStep, WrapperState
    from stoa.stoa_struct import dataclass


@dataclass
class StoaState(WrapperState):
    """The environment's state, and the key of resets that Stoa's wrappers look for."""

    rng_key: chex.PRNGKey


class StoaEnv(Adapted, stoa.Environment):
    """An environment of this library as one of Stoa; made by `to_stoa`.

    It does not reset itself: `stoa.AutoResetWrapper` does. A time limit is ``TRUNCATED`` with
    discount 1. Extras, of one structure at reset and step: ``action_mask``, and the quantities of
    which the environment's metrics are made. `stoa.AddActionMaskWrapper` moves the mask into the
    observation; put it inside of `stoa.AutoResetWrapper`, which renews observations only.
    """

    def __init__(self, env: Environment, params: Any):
        Adapted.__init__(self, env, params)
        of = {source for metric in env.metrics for source in (metric.of, metric.over)}
        self._sources = sorted(of - {"reward", None})

    __hash__ = Adapted.__hash__
    __eq__ = Adapted.__eq__

    def reset(self, rng_key: chex.PRNGKey, env_params: Any = None) -> tuple[StoaState, TimeStep]:
        """The first time step of the episode that ``rng_key`` determines."""
        params = self._params(env_params)
        episode_key, rng_key = jax.random.split(rng_key)
        observation, inner = self.env.reset(episode_key, params)
        dtype = self.env.float_dtype
        extras = dict.fromkeys(self._sources, jnp.zeros((), dtype))
        timestep = TimeStep(
            step_type=StepType.FIRST,
            reward=jnp.zeros((), dtype),
            discount=jnp.ones((), dtype),
            observation=observation,
            extras=extras | {"action_mask": self.env.action_mask(inner, params)},
        )
        return StoaState(base_env_state=inner, rng_key=rng_key), timestep

    def step(
        self, state: StoaState, action: Any, env_params: Any = None
    ) -> tuple[StoaState, TimeStep]:
        """One step without reset."""
        params = self._params(env_params)
        observation, inner, reward, terminated, truncated, info = self.env.transition(
            state.base_env_state, action, params
        )
        end = jnp.where(truncated, StepType.TRUNCATED, StepType.MID)
        dtype = self.env.float_dtype
        extras = {name: jnp.asarray(info[name], dtype) for name in self._sources}
        timestep = TimeStep(
            step_type=jnp.where(terminated, StepType.TERMINATED, end),
            reward=reward,
            discount=1 - terminated.astype(dtype),
            observation=observation,
            extras=extras | {"action_mask": info["final_action_mask"]},
        )
        rng_key, _ = jax.random.split(state.rng_key)
        return StoaState(base_env_state=inner, rng_key=rng_key), timestep

    def _params(self, env_params: Any) -> Any:
        return self.scenario if env_params is None else env_params

    def observation_space(self, env_params: Any = None) -> stoa.Space:
        space = self.env.observation_space
        lead = (self.env.num_agents,) if self.env.num_agents > 1 else ()
        return stoa.ArraySpace((*lead, *space.shape), space.dtype, "observation")

    def action_space(self, env_params: Any = None) -> stoa.Space:
        return _space(self.env.action_space, self.env.num_agents)

    def state_space(self, env_params: Any = None) -> stoa.Space:
        """Not described: states are pytrees of the environment's own."""
        raise NotImplementedError(f"{self.env.name} does not describe its states by a space")


def to_stoa(
    env: Environment | str,
    params: Any = None,
    *,
    actions: Actions = "native",
    repair: bool = False,
    **options: Any,
) -> StoaEnv:
    """A ``stoa.Environment``.

    Args:
        env, params, actions, repair, options: see `jaxenv.adapters.prepare.prepare`.
    """
    return StoaEnv(*prepare(env, params, options, actions, repair))


def _space(space: spaces.Space, num_agents: int = 1) -> stoa.Space:
    if isinstance(space, spaces.Tuple):
        return stoa.TupleSpace([_space(part, num_agents) for part in space.spaces])
    lead = (num_agents,) if num_agents > 1 else ()
    if isinstance(space, spaces.Box):
        shape = (*lead, *space.shape)
        return stoa.BoundedArraySpace(shape, space.dtype, space.low, space.high, "action")
    if isinstance(space, spaces.Discrete) and not lead:
        return stoa.DiscreteSpace(space.num_values, jnp.int32, "action")
    counts = jnp.asarray(space.num_values, jnp.int32)
    return stoa.MultiDiscreteSpace(
        jnp.broadcast_to(counts, (*lead, *counts.shape)), jnp.int32, "action"
    )
