"""JaxMARL: an environment of agents by name, for its wrappers and its learners."""

from __future__ import annotations

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxenv import spaces
from jaxenv.adapters.prepare import Actions, Adapted, needs, prepare
from jaxenv.environment import Environment
from jaxenv.errors import ConfigError

with needs("jaxmarl"):
    from jaxmarl.environments import spaces as jaxmarl_spaces
    from jaxmarl.environments.multi_agent_env import MultiAgentEnv

Dict = dict[str, Any]


class JaxMARLEnv(Adapted, MultiAgentEnv):
    """An environment of this library as one of JaxMARL; made by `to_jaxmarl`.

    All agents have the same spaces: observations and actions are padded already, and
    `get_avail_actions` says which exist. The reward is shared. Observations also have
    ``world_state``, ``[num_agents, size]``: the global state, once per agent.
    """

    def __init__(self, env: Environment, params: Any):
        Adapted.__init__(self, env, params)
        MultiAgentEnv.__init__(self, env.num_agents)
        self.observation_spaces = dict.fromkeys(self.agents, _space(env.observation_space))
        self.action_spaces = dict.fromkeys(self.agents, _space(env.action_space))

    __hash__ = Adapted.__hash__
    __eq__ = Adapted.__eq__

    @partial(jax.jit, static_argnums=0)
    def reset(self, key: chex.PRNGKey) -> tuple[Dict, Any]:
        """``(observations, state)`` of the episode that ``key`` determines."""
        observation, state = self.env.reset(key, self.scenario)
        return self._observations(observation, state), state

    @partial(jax.jit, static_argnums=0)
    def step(
        self, key: chex.PRNGKey, state: Any, actions: Dict, reset_state: Any = None
    ) -> tuple[Dict, Any, Dict, Dict, Dict]:
        """One step with automatic reset, or with ``reset_state`` as the new episode's start.

        Every leaf of the infos is ``[num_agents]``: what is not per agent is repeated, and arrays
        are split by component, ``name/0``. ``terminated`` and ``truncated`` tell both ends apart.
        """
        observations, after, rewards, dones, infos = self.step_env(key, state, actions)
        done = dones["__all__"]
        if reset_state is None:
            after = self.env.restart(key, after, done, self.scenario)
        else:
            after = jax.tree.map(lambda new, old: jnp.where(done, new, old), reset_state, after)
        fresh = self.get_obs(after)
        observations = jax.tree.map(lambda new, old: jnp.where(done, new, old), fresh, observations)
        return observations, after, rewards, dones, infos

    def step_env(
        self, key: chex.PRNGKey, state: Any, actions: Dict
    ) -> tuple[Dict, Any, Dict, Dict, Dict]:
        """One step without reset."""
        shape = self.env.action_space.shape
        action = jnp.stack([jnp.reshape(actions[agent], shape) for agent in self.agents])
        action = action.astype(self.env.action_space.dtype)
        observation, state, reward, terminated, truncated, info = self.env.transition(
            state, action if self.num_agents > 1 else action[0], self.scenario
        )
        dones = dict.fromkeys([*self.agents, "__all__"], terminated | truncated)
        rewards = dict.fromkeys(self.agents, reward)
        return self._observations(observation, state), state, rewards, dones, self._infos(info)

    def get_obs(self, state: Any) -> Dict:
        """Observations by agent, and ``world_state``."""
        return self._observations(self.env.observe(state, self.scenario), state)

    @partial(jax.jit, static_argnums=0)
    def get_avail_actions(self, state: Any) -> Dict:
        """bool masks by agent; of MultiDiscrete actions ``[heads, max_choices]``."""
        return self._by_agent(self.env.action_mask(state, self.scenario))

    def world_state_size(self) -> int:
        """Entries of ``world_state``."""
        return jax.eval_shape(self.reset, jax.random.key(0))[0]["world_state"].shape[-1]

    @property
    def name(self) -> str:
        return self.env.name

    @property
    def agent_classes(self) -> dict[str, list[str]]:
        return {"agents": list(self.agents)}

    def _by_agent(self, array: chex.Array) -> Dict:
        rows = array if self.num_agents > 1 else array[None]
        return {agent: rows[i] for i, agent in enumerate(self.agents)}

    def _observations(self, observation: chex.Array, state: Any) -> Dict:
        world = observation
        if self.num_agents > 1:
            world = self.env.global_state(state, self.scenario)
        world = jnp.broadcast_to(world.reshape(-1), (self.num_agents, world.size))
        return self._by_agent(observation) | {"world_state": world}

    def _infos(self, info: Dict) -> Dict:
        ends = ("final_observation", "final_action_mask")
        parts = {name: value for name, value in info.items() if name not in ends}
        for name in ("reward_parts", "agent_parts"):
            if name in parts and self.env.reward_parts:
                values = jnp.moveaxis(parts.pop(name), -1, 0)
                parts[name] = dict(zip(self.env.reward_parts, values, strict=True))
        infos = {}
        for path, leaf in jax.tree_util.tree_leaves_with_path(parts):
            name = "/".join(str(entry.key) for entry in path)
            if leaf.shape[:1] != (self.num_agents,):
                leaf = jnp.broadcast_to(leaf, (self.num_agents, *leaf.shape))
            for place in np.ndindex(leaf.shape[1:]):
                infos["/".join([name, *map(str, place)])] = leaf[:, *place]
        return infos


def to_jaxmarl(
    env: Environment | str,
    params: Any = None,
    *,
    actions: Actions = "flat",
    repair: bool = False,
    **options: Any,
) -> JaxMARLEnv:
    """A ``MultiAgentEnv`` as ``jaxmarl.make`` returns one.

    Args:
        env, params, actions, repair, options: see `jaxenv.adapters.prepare.prepare`. Flat actions
            are what JaxMARL's learners know.

    Raises:
        ConfigError: actions with a continuous part beside a choice.
    """
    env, params = prepare(env, params, options, actions, repair)
    if isinstance(env.action_space, spaces.Tuple):
        valid = "JaxMARL needs Discrete, MultiDiscrete or Box actions"
        raise ConfigError("env", f"{env.name} with Tuple actions", valid)
    return JaxMARLEnv(env, params)


def _space(space: spaces.Space) -> Any:
    if isinstance(space, spaces.Discrete):
        return jaxmarl_spaces.Discrete(space.num_values)
    if isinstance(space, spaces.MultiDiscrete):
        return jaxmarl_spaces.MultiDiscrete(space.num_values)
    return jaxmarl_spaces.Box(space.low, space.high, space.shape, space.dtype)
