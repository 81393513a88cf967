"""PettingZoo: a parallel environment of all agents, with NumPy arrays outside and JAX inside."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxenv.adapters import host
from jaxenv.adapters.prepare import Actions, needs, prepare
from jaxenv.environment import ENDS, Environment

with needs("pettingzoo"):
    import gymnasium
    from pettingzoo import ParallelEnv

    from jaxenv.adapters.gymnasium import to_space


class PettingZooEnv(ParallelEnv):
    """All agents of an environment, ``agent_0`` and so on; made by `to_pettingzoo`.

    Every agent gets the shared reward. ``infos[agent]`` holds all that the environment reports and
    ``action_mask``, int8, in the form that ``action_space(agent).sample(mask)`` takes.
    """

    def __init__(self, env: Environment, params: Any):
        self.env = env
        self.params = params
        self.metadata = {"name": env.name, "render_modes": [], "is_parallelizable": True}
        self.render_mode = None
        self.possible_agents = [f"agent_{i}" for i in range(env.num_agents)]
        self.agents: list[str] = []
        self.observation_spaces = {a: to_space(env.observation_space) for a in self.possible_agents}
        self.action_spaces = {a: to_space(env.action_space) for a in self.possible_agents}
        self._rng = np.random.default_rng()
        self._state = None

    def observation_space(self, agent: str) -> gymnasium.Space:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> gymnasium.Space:
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
        """The first observations of a new episode, and the masks in the infos."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self.agents = list(self.possible_agents)
        observation, self._state, mask = host.reset(self.env, self.params, host.draw_key(self._rng))
        return self._by_agent(observation), self._infos({}, mask)

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        """One step of all agents; all of them are gone at the end of the episode."""
        agents, space = self.agents, self.env.action_space
        if not agents:
            return {}, {}, {}, {}, {}
        chosen = [host.as_action(space, actions[agent]) for agent in agents]
        joint = jax.tree.map(lambda *parts: np.stack(parts), *chosen)
        action = joint if self.env.num_agents > 1 else chosen[0]
        observation, self._state, reward, terminated, truncated, info = host.transition(
            self.env, self.params, self._state, action
        )
        terminated, truncated = bool(terminated), bool(truncated)
        own = {k: v for k, v in info.items() if k not in ENDS}
        observations = self._by_agent(observation)
        infos = self._infos(own, info["final_action_mask"])
        if terminated or truncated:
            self.agents = []
        return (
            observations,
            dict.fromkeys(agents, float(reward)),
            dict.fromkeys(agents, terminated),
            dict.fromkeys(agents, truncated),
            infos,
        )

    def state(self) -> np.ndarray:
        """The global state; the observation where there is one agent."""
        if self.env.num_agents > 1:
            return host.to_numpy(self.env.global_state(self._state, self.params))
        return host.to_numpy(self.env.observe(self._state, self.params))

    def _by_agent(self, observation: Any) -> dict[str, np.ndarray]:
        rows = host.to_numpy(observation)
        if self.env.num_agents == 1:
            return {self.agents[0]: rows}
        return {agent: rows[index].copy() for index, agent in enumerate(self.agents)}

    def _infos(self, info: dict[str, Any], mask: Any) -> dict[str, dict[str, Any]]:
        count, space = self.env.num_agents, self.env.action_space
        masks = jax.device_get(mask)
        infos = {}
        for index, agent in enumerate(self.agents):
            row = jax.tree.map(lambda x, i=index: x[i], masks) if count > 1 else masks
            infos[agent] = host.to_numpy(info) | {"action_mask": host.entry_masks(space, row)}
        return infos


def to_pettingzoo(
    env: Environment | str,
    params: Any = None,
    *,
    actions: Actions = "native",
    repair: bool = False,
    **options: Any,
) -> PettingZooEnv:
    """A ``pettingzoo.ParallelEnv``.

    Args:
        env, params, actions, repair, options: see `jaxenv.adapters.prepare.prepare`.
    """
    return PettingZooEnv(*prepare(env, params, options, actions, repair))
