"""The JaxMARL adapter under the real library: ``make test-adapters``."""

from __future__ import annotations

import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxenv import ConfigError
from tests.adapters.documented import run_block
from tests.probes import MovingTeam, Team
from tests.toy_environments import RIGHT, Corridor, Crew

jaxmarl = pytest.importorskip("jaxmarl")

from jaxmarl.environments import spaces as jaxmarl_spaces  # noqa: E402
from jaxmarl.environments.multi_agent_env import MultiAgentEnv  # noqa: E402
from jaxmarl.wrappers.baselines import CTRolloutManager, LogWrapper  # noqa: E402

from jaxenv.adapters.jaxmarl import to_jaxmarl  # noqa: E402

KEY = jax.random.key(0)


def stay(env):
    return {agent: jnp.int32(1) for agent in env.agents}


def test_it_is_what_make_returns():
    env = to_jaxmarl(Crew())
    assert isinstance(env, MultiAgentEnv)
    assert env.agents == ["agent_0", "agent_1", "agent_2"]
    assert isinstance(env.action_space("agent_0"), jaxmarl_spaces.Discrete)
    assert env.observation_space("agent_2").shape == (2,)
    observations, state = env.reset(KEY)
    np.testing.assert_array_equal(observations["agent_1"], observations["agent_0"] / 2)
    _, state, rewards, dones, infos = env.step(KEY, state, stay(env))
    assert all(rewards[agent] == 3 for agent in env.agents)
    assert set(dones) == {*env.agents, "__all__"} and not dones["__all__"]
    assert all(leaf.shape == (3,) for leaf in jax.tree.leaves(infos))


def test_an_episode_ends_by_its_limit_and_the_next_begins():
    env = to_jaxmarl(Crew(), Crew().make_params(max_steps=2))
    _, state = env.reset(KEY)
    _, state, _, dones, infos = env.step(KEY, state, stay(env))
    assert not dones["__all__"] and state.time == 1
    observations, state, _, dones, infos = env.step(KEY, state, stay(env))
    assert all(dones.values()) and state.time == 0
    assert infos["truncated"].all() and not infos["terminated"].any()
    np.testing.assert_array_equal(observations["agent_0"], env.env.observe(state, env.scenario)[0])


def test_a_given_reset_state_begins_the_next_episode():
    env = to_jaxmarl(Crew(), Crew().make_params(max_steps=1))
    _, wanted = env.reset(jax.random.key(9))
    _, state = env.reset(KEY)
    observations, state, *_ = env.step(KEY, state, stay(env), wanted)
    np.testing.assert_array_equal(state.signal, wanted.signal)
    np.testing.assert_array_equal(observations["agent_0"], wanted.signal)


def test_params_are_not_dropped_and_copies_are_equal():
    env = to_jaxmarl(Corridor(), Corridor().make_params(step_reward=-4.0))
    _, state = env.reset(KEY)
    assert env.step(KEY, state, {"agent_0": jnp.int32(RIGHT)})[2]["agent_0"] == -4
    clone = copy.deepcopy(env)
    assert clone == env and hash(clone) == hash(env)
    assert env != to_jaxmarl(Corridor())


def test_services_have_equal_padded_spaces_and_available_actions():
    env = to_jaxmarl("services", num_agents=4)
    assert {env.action_space(a).n for a in env.agents} == {16 * 4 * 16}
    assert len({env.observation_space(a).shape for a in env.agents}) == 1
    observations, state = env.reset(KEY)
    available = env.get_avail_actions(state)
    # Detection has 4 models, tracking 3: of a tracking agent's 1024 numbers 768 exist.
    assert [int(available[a].sum()) for a in env.agents] == [1024, 1024, 768, 768]
    assert observations["world_state"].shape == (4, env.world_state_size())
    keys = jax.random.split(KEY, 4)
    actions = {a: env.action_space(a).sample(k) for a, k in zip(env.agents, keys, strict=True)}
    *_, infos = env.step(KEY, state, actions)
    parts = sum(infos[f"reward_parts/{name}"] for name in env.env.reward_parts)
    rewards = env.step(KEY, state, actions)[2]
    np.testing.assert_allclose(parts[0], rewards["agent_0"], rtol=1e-5)
    of_agents = sum(infos[f"agent_parts/{name}"] for name in env.env.reward_parts)
    np.testing.assert_allclose(of_agents.sum(), rewards["agent_0"], rtol=1e-4)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reporting(Crew):
    """Reports a vector of the crew, and a matrix with a row per agent."""

    def step_env(self, key, state, action, params):
        *step, info = super().step_env(key, state, action, params)
        rows = jnp.arange(6.0).reshape(3, 2)
        return *step, info | {"levels": jnp.array([7.0, 8.0]), "rows": rows}


def test_arrays_of_infos_are_split_by_component():
    env = to_jaxmarl(Reporting())
    _, state = env.reset(KEY)
    *_, infos = env.step(KEY, state, stay(env))
    assert {"levels", "rows"}.isdisjoint(infos)
    np.testing.assert_array_equal(infos["levels/0"], [7, 7, 7])
    np.testing.assert_array_equal(infos["levels/1"], [8, 8, 8])
    np.testing.assert_array_equal(infos["rows/0"], [0, 2, 4])
    np.testing.assert_array_equal(infos["rows/1"], [1, 3, 5])
    assert all(leaf.shape == (3,) for leaf in infos.values())


def test_partitioning_reports_every_server_and_block():
    """The device itself is a place of work beside the servers."""
    env = to_jaxmarl("partitioning", num_blocks=2, num_servers=3)
    _, state = env.reset(KEY)
    *_, infos = env.step(KEY, state, {"agent_0": jnp.int32(0)})
    expected = env.env.transition(state, jnp.int32(0), env.scenario)[-1]
    for name, size in (("backlog_s", 4), ("block_delay_s", 2), ("late_blocks", 2)):
        found = [infos[f"{name}/{place}"] for place in range(size)]
        assert f"{name}/{size}" not in infos
        np.testing.assert_allclose(np.stack(found)[:, 0], expected[name], rtol=1e-6)


def test_its_log_wrapper_counts_an_episode_under_vmap_and_scan():
    env = LogWrapper(to_jaxmarl(Crew(), Crew().make_params(max_steps=3)))
    keys = jax.random.split(KEY, 5)
    _, state = jax.vmap(env.reset)(keys)
    actions = {agent: jnp.ones(5, jnp.int32) for agent in env.agents}

    def step(state, _):
        _, state, _, _, info = jax.vmap(env.step)(keys, state, actions)
        return state, jax.tree.map(lambda x: x.reshape(15), info)

    _, infos = jax.jit(lambda s: jax.lax.scan(step, s, None, 3))(state)
    assert infos["returned_episode"][2].all() and not infos["returned_episode"][1].any()
    np.testing.assert_array_equal(infos["returned_episode_returns"][2], 9.0)
    np.testing.assert_array_equal(infos["returned_episode_lengths"][2], 3)


def test_its_rollout_manager_batches():
    manager = CTRolloutManager(to_jaxmarl(Crew()), batch_size=4)
    observations, state = manager.batch_reset(KEY)
    assert observations["agent_0"].shape == (4, 2 + 3)  # the agent's number, one-hot
    actions = {agent: jnp.ones(4, jnp.int32) for agent in manager.agents}
    _, _, rewards, _, _ = manager.batch_step(KEY, state, actions)
    np.testing.assert_array_equal(rewards["__all__"], 3 * 3.0)


def test_entries_stay_entries_where_asked():
    env = to_jaxmarl(Team(num_heads=2, num_choices=3), actions="native")
    space = env.action_space("agent_0")
    assert isinstance(space, jaxmarl_spaces.MultiDiscrete) and space.shape == (2,)
    with pytest.raises(ConfigError, match="Tuple actions"):
        to_jaxmarl(MovingTeam(), actions="native")


def test_the_documented_lines_run():
    names = run_block("JaxMARL")
    assert len({float(reward) for reward in names["rewards"].values()}) == 1
