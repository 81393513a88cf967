"""Stable-Baselines3: a VecEnv whose environments all step in one compiled call on the device."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxenv import spaces
from jaxenv.adapters import host
from jaxenv.adapters.prepare import Actions, needs, prepare, require_one_agent
from jaxenv.environment import Environment
from jaxenv.errors import ConfigError

with needs("stable_baselines3", "stable-baselines3"):
    from stable_baselines3.common.vec_env import VecEnv

    from jaxenv.adapters.gymnasium import to_space


class SB3VecEnv(VecEnv):
    """Many environments for Stable-Baselines3; made by `to_sb3`.

    The infos of an environment are empty but in the step that ends an episode:
    ``terminal_observation``, ``TimeLimit.truncated`` and ``episode`` (return r, length l, seconds
    t). ``env_method("action_masks")`` gives the masks that sb3-contrib's MaskablePPO asks for.
    """

    def __init__(self, env: Environment, params: Any, num_envs: int):
        self.env = env
        self.params = params
        self.render_mode = None
        observation_space = to_space(env.observation_space)
        super().__init__(num_envs, observation_space, to_space(env.action_space))
        self._rng = np.random.default_rng()
        self._began = time.perf_counter()
        self._state = self._mask = self._actions = None

    def reset(self) -> np.ndarray:
        """The first observations of new episodes, of the seeds given to `seed`."""
        seeds = [seed for seed in self._seeds if seed is not None]
        if seeds:
            self._rng = np.random.default_rng(seeds)
            keys = jax.vmap(jax.random.key)(jnp.asarray(np.asarray(seeds) % 2**32, jnp.uint32))
        else:
            keys = jax.random.split(host.draw_key(self._rng), self.num_envs)
        self._reset_seeds()
        self._reset_options()
        observation, self._state, mask = host.reset_batch(self.env, self.params, keys)
        self._mask = jax.device_get(mask)
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, np.int64)
        return host.to_numpy(observation)

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = host.as_action(self.env.action_space, actions)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Observations, rewards, dones and infos after the actions given to `step_async`."""
        key = host.draw_key(self._rng)
        observation, self._state, reward, terminated, truncated, info, mask = host.step_batch(
            self.env, self.params, key, self._state, self._actions
        )
        self._mask, reward, terminated, truncated = jax.device_get(
            (mask, reward, terminated, truncated)
        )
        self._returns += reward
        self._lengths += 1
        done = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if done.any():
            last = np.asarray(info["final_observation"])
            seconds = time.perf_counter() - self._began
            for i in np.flatnonzero(done):
                episode = {"r": self._returns[i], "l": int(self._lengths[i]), "t": seconds}
                infos[i] = {
                    "terminal_observation": last[i].copy(),
                    "TimeLimit.truncated": bool(truncated[i]),
                    "episode": episode,
                }
            self._returns[done] = 0
            self._lengths[done] = 0
        return host.to_numpy(observation), np.array(reward, np.float32), done, infos

    def action_masks(self) -> np.ndarray:
        """bool ``[num_envs, choices]``, the valid actions now."""
        return host.flat_masks(self.env.action_space, self._mask)

    def close(self) -> None:
        self._state = None

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise AttributeError(f"{attr_name}: environments of one compiled call cannot be changed")

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        if method_name != "action_masks":
            raise AttributeError(
                f"{method_name}: the only method of an environment is action_masks"
            )
        masks = self.action_masks()
        return [masks[index] for index in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[np.ndarray | None]:
        return [None] * self.num_envs


def to_sb3(
    env: Environment | str,
    params: Any = None,
    *,
    num_envs: int = 1,
    actions: Actions = "native",
    repair: bool = False,
    **options: Any,
) -> SB3VecEnv:
    """A ``VecEnv`` of Stable-Baselines3.

    Args:
        env, params, actions, repair, options: see `jaxenv.adapters.prepare.prepare`.
        num_envs: how many environments step in one compiled call.

    Raises:
        ConfigError: several agents, or actions with a continuous part beside a choice.
    """
    env, params = prepare(env, params, options, actions, repair)
    require_one_agent(env, "Stable-Baselines3")
    if isinstance(env.action_space, spaces.Tuple):
        valid = "Stable-Baselines3 needs Discrete, MultiDiscrete or Box actions"
        raise ConfigError("env", f"{env.name} with Tuple actions", valid)
    return SB3VecEnv(env, params, num_envs)
