"""Gymnasium: one environment or a vector of them, with NumPy arrays outside and JAX inside."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np

from jaxenv import spaces
from jaxenv.adapters import host
from jaxenv.adapters.prepare import Actions, needs, prepare
from jaxenv.environment import ENDS, Environment

with needs("gymnasium"):
    import gymnasium
    from gymnasium.envs.registration import EnvSpec
    from gymnasium.vector import AutoresetMode, VectorEnv
    from gymnasium.vector.utils import batch_space


class GymnasiumEnv(gymnasium.Env):
    """One environment; made by `to_gymnasium`.

    ``info`` holds what the environment reports and ``action_mask``, int8, in the form that
    ``action_space.sample(mask)`` takes. Several agents act as one, with a leading axis.
    """

    metadata = {"render_modes": []}

    def __init__(self, env: Environment, params: Any):
        self.env = env
        self.params = params
        self.observation_space = to_space(env.observation_space, env.num_agents)
        self.action_space = to_space(env.action_space, env.num_agents)
        self.spec = EnvSpec(f"jaxenv/{env.name}-v0", partial(GymnasiumEnv, env, params))
        self._state = self._mask = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """The first observation of a new episode, and its mask in ``info``."""
        super().reset(seed=seed)
        key = host.draw_key(self.np_random)
        observation, self._state, mask = host.reset(self.env, self.params, key)
        return host.to_numpy(observation), {"action_mask": self._keep(mask)}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step; at the end of an episode the observation is its last one."""
        action = host.as_action(self.env.action_space, action)
        observation, self._state, reward, terminated, truncated, info = host.transition(
            self.env, self.params, self._state, action
        )
        mask = self._keep(info["final_action_mask"])
        info = host.to_numpy({k: v for k, v in info.items() if k not in ENDS})
        ends = bool(terminated), bool(truncated)
        info["action_mask"] = mask
        return host.to_numpy(observation), float(reward), *ends, info

    def action_masks(self) -> np.ndarray:
        """bool, the valid actions now, as sb3-contrib asks for them."""
        return host.flat_masks(self.env.action_space, self._mask)

    def _keep(self, mask: Any) -> Any:
        self._mask = jax.device_get(mask)
        return host.entry_masks(self.env.action_space, self._mask)


class GymnasiumVectorEnv(VectorEnv):
    """Many environments in one compiled call; made by `to_gymnasium` with ``num_envs``.

    An environment is reset in the very step that ends its episode: ``infos["final_obs"]`` and
    ``infos["final_info"]`` hold the last observation and what belongs to it. ``infos`` hold one
    array per name and, as Gymnasium has it, ``_name``: which environments have it.
    ``infos["action_mask"]`` is int8 ``[num_envs, ...]`` as wide as the longest entry.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(self, env: Environment, params: Any, num_envs: int):
        self.env = env
        self.params = params
        self.num_envs = num_envs
        self.single_observation_space = to_space(env.observation_space, env.num_agents)
        self.single_action_space = to_space(env.action_space, env.num_agents)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._state = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """The first observations of new episodes, and their masks in ``infos``."""
        super().reset(seed=seed)
        keys = jax.random.split(host.draw_key(self.np_random), self.num_envs)
        observation, self._state, mask = host.reset_batch(self.env, self.params, keys)
        everyone = np.ones(self.num_envs, bool)
        return host.to_numpy(observation), _with_owners({"action_mask": _int8(mask)}, everyone)

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """One step of all, and a new episode where one ends."""
        actions = host.as_action(self.env.action_space, actions)
        key = host.draw_key(self.np_random)
        observation, self._state, reward, terminated, truncated, info, mask = host.step_batch(
            self.env, self.params, key, self._state, actions
        )
        terminated, truncated = host.to_numpy((terminated, truncated))
        done = terminated | truncated
        own = host.to_numpy({k: v for k, v in info.items() if k not in ENDS})
        everyone = np.ones(self.num_envs, bool)
        infos = _with_owners(own | {"action_mask": _int8(mask)}, everyone)
        if done.any():
            final = np.full(self.num_envs, None, dtype=object)
            for index in np.flatnonzero(done):
                final[index] = np.array(info["final_observation"][index])
            last = host.to_numpy(own) | {"action_mask": _int8(info["final_action_mask"])}
            infos |= {"final_obs": final, "final_info": _with_owners(last, done)}
            infos |= {"_final_obs": done.copy(), "_final_info": done.copy()}
        reward = host.to_numpy(reward).astype(np.float64)
        return host.to_numpy(observation), reward, terminated, truncated, infos


def to_gymnasium(
    env: Environment | str,
    params: Any = None,
    *,
    num_envs: int | None = None,
    actions: Actions = "native",
    repair: bool = False,
    **options: Any,
) -> GymnasiumEnv | GymnasiumVectorEnv:
    """A ``gymnasium.Env``, or with ``num_envs`` a ``gymnasium.vector.VectorEnv``.

    Args:
        env, params, actions, repair, options: see `jaxenv.adapters.prepare.prepare`.
        num_envs: how many environments step in one compiled call; None: one, unbatched.
    """
    env, params = prepare(env, params, options, actions, repair)
    return (
        GymnasiumEnv(env, params) if num_envs is None else GymnasiumVectorEnv(env, params, num_envs)
    )


def to_space(space: spaces.Space, num_agents: int = 1) -> gymnasium.Space:
    """The same space of Gymnasium; of all agents together where there are several."""
    lead = (num_agents,) if num_agents > 1 else ()
    if isinstance(space, spaces.Tuple):
        return gymnasium.spaces.Tuple([to_space(part, num_agents) for part in space.spaces])
    if isinstance(space, spaces.Box):
        return gymnasium.spaces.Box(space.low, space.high, (*lead, *space.shape), space.dtype)
    if isinstance(space, spaces.Discrete) and not lead:
        return gymnasium.spaces.Discrete(space.num_values)
    counts = np.asarray(space.num_values)
    return gymnasium.spaces.MultiDiscrete(np.broadcast_to(counts, (*lead, *counts.shape)).copy())


def _int8(mask: Any) -> Any:
    return jax.tree.map(lambda leaf: np.array(leaf, np.int8), mask)


def _with_owners(infos: dict[str, Any], owners: np.ndarray) -> dict[str, Any]:
    return infos | {f"_{name}": owners.copy() for name in infos}
