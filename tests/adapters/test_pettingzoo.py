"""The PettingZoo adapter under the real library: ``make test-adapters``."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from tests.adapters.documented import run_block
from tests.toy_environments import Corridor, Crew, Signal

pettingzoo = pytest.importorskip("pettingzoo")

from pettingzoo import ParallelEnv  # noqa: E402
from pettingzoo.test import parallel_api_test, parallel_seed_test  # noqa: E402
from pettingzoo.utils import parallel_to_aec  # noqa: E402

from jaxenv.adapters.pettingzoo import to_pettingzoo  # noqa: E402


@pytest.mark.parametrize("env", [Crew(), Corridor(), Signal(), "services"])
def test_the_api_test_is_clean(env):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(to_pettingzoo(env), num_cycles=120)


def test_seeds_name_episodes():
    parallel_seed_test(lambda: to_pettingzoo("services", num_agents=3), num_cycles=5)


def test_agents_see_their_own_and_share_the_reward():
    env = to_pettingzoo(Crew(), Crew().make_params(max_steps=2))
    assert isinstance(env, ParallelEnv)
    observations, infos = env.reset(seed=0)
    agents = ["agent_0", "agent_1", "agent_2"]
    assert env.agents == agents == env.possible_agents and env.num_agents == 3
    np.testing.assert_array_equal(observations["agent_1"], observations["agent_0"] / 2)
    assert infos["agent_2"]["action_mask"].dtype == np.int8
    actions = {"agent_0": 1, "agent_1": 0, "agent_2": 1}
    _, rewards, terminated, truncated, _ = env.step(actions)
    assert rewards == dict.fromkeys(agents, 2.0)
    assert not any(terminated.values()) and not any(truncated.values())
    observations, _, terminated, truncated, infos = env.step(actions)
    assert not any(terminated.values()) and all(truncated.values())
    assert env.agents == [] and set(observations) == set(infos) == set(agents)


def test_masks_are_of_each_agents_service():
    env = to_pettingzoo("services", num_agents=2)
    _, infos = env.reset(seed=0)
    sizes = {agent: [int(row.sum()) for row in infos[agent]["action_mask"]] for agent in infos}
    # Detection has 4 models, tracking 3 (Tables II and III of the paper).
    assert sizes == {"agent_0": [16, 4, 16], "agent_1": [16, 3, 16]}
    action = env.action_space("agent_1").sample(infos["agent_1"]["action_mask"])
    assert action.shape == (3,) and action[1] < 3


def test_the_global_state_is_the_environments():
    env = to_pettingzoo("services", num_agents=2)
    env.reset(seed=0)
    expected = env.env.global_state(env._state, env.params)
    assert type(env.state()) is np.ndarray
    np.testing.assert_array_equal(env.state(), expected)


def test_it_converts_to_turns():
    env = parallel_to_aec(to_pettingzoo(Crew()))
    env.reset(seed=0)
    for _ in range(3):
        env.step(1)
    assert env.rewards == dict.fromkeys(env.agents, 3.0)


def test_the_documented_lines_run():
    names = run_block("PettingZoo")
    assert len(set(names["rewards"].values())) == 1
