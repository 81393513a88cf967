"""IPPO on ``services`` through the JaxMARL adapter and JaxMARL's own `LogWrapper`.

JaxMARL's baselines are scripts of its repository, not part of its package; this is their scheme.
Independent PPO is PPO with every agent of every environment as a lane of one shared network: the
file `purejaxrl_ppo.py` with lanes of agents. Actions are flat, 1,024 numbers of which those that an
agent's service does not have are masked by ``get_avail_actions``.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp
import measure
from jaxmarl.wrappers.baselines import LogWrapper
from purejaxrl_ppo import Config, Seen, Step, greedy, make_train

import jaxenv
from jaxenv.adapters.jaxmarl import JaxMARLEnv, to_jaxmarl


def lanes_of(env: JaxMARLEnv, num_envs: int) -> tuple[Any, Any]:
    """``reset`` and ``step`` of all agents of many JaxMARL environments, agent by agent."""
    logged = LogWrapper(env)
    lanes = env.num_agents * num_envs

    def stacked(by_agent: dict[str, chex.Array]) -> chex.Array:
        rows = jnp.stack([by_agent[agent] for agent in env.agents])
        return rows.reshape(lanes, *rows.shape[2:])

    def seen_in(observation: dict[str, chex.Array], state: Any) -> Seen:
        available = jax.vmap(env.get_avail_actions)(state.env_state)
        return Seen(stacked(observation), stacked(available)[:, None, :])

    def reset(key: chex.PRNGKey) -> tuple[Seen, Any]:
        observation, state = jax.vmap(logged.reset)(jax.random.split(key, num_envs))
        return seen_in(observation, state), state

    def step(key: chex.PRNGKey, state: Any, action: chex.Array) -> tuple[Step, Any]:
        rows = action[:, 0].reshape(env.num_agents, num_envs)
        actions = {agent: rows[i] for i, agent in enumerate(env.agents)}
        observation, state, reward, done, _ = jax.vmap(logged.step)(
            jax.random.split(key, num_envs), state, actions
        )
        seen = seen_in(observation, state)
        ended = stacked({agent: done[agent] for agent in env.agents})
        return Step(seen, stacked(reward), seen.observation, ended, ended), state

    return reset, step


def main() -> None:
    given = measure.arguments(__doc__, steps=40_000, ours=20).parse_args()
    env, params = jaxenv.make("services", preset="percent")
    adapted = to_jaxmarl(env, params)
    num_envs = 16
    config = Config(
        lanes=num_envs * env.num_agents,
        heads=1,
        choices=adapted.action_space(adapted.agents[0]).n,
        steps=25,
        width=64,
    )
    updates = max(given.steps // (num_envs * config.steps), 1)
    config = dataclasses.replace(config, updates=updates)
    train = make_train(config, *lanes_of(adapted, num_envs))
    key = jax.random.key(given.seed)
    weights, rewards = measure.timed("jaxmarl_ippo", lambda: jax.jit(train)(key))
    print(f"mean reward of a slot: {rewards[0]:.4g} at first, {rewards[-1]:.4g} at last")
    first_head = greedy(config)

    def choose(weights: Any, key: chex.PRNGKey, observation: Any, mask: Any) -> chex.Array:
        return first_head(weights, key, observation, mask[..., None, :])[..., 0]

    policy = measure.Foreign(measure.one_seed(weights), choose, adapted.env)
    learned = {"jaxmarl_ippo": policy}
    learned |= measure.train_ours("happo", env, params, given.ours, given.seed, discount=0.0)
    baselines = ("Random", "Heuristic")
    measure.report(given, "jaxmarl_ippo", env, params, learned, baselines, ("jaxmarl",))


if __name__ == "__main__":
    main()
