"""The Gymnasium adapter under the real library: ``make test-adapters``."""

from __future__ import annotations

import warnings

import jax
import numpy as np
import pytest

from tests.adapters.documented import run_block
from tests.toy_environments import LEFT, RIGHT, STAY, Corridor, Crew, Signal

gymnasium = pytest.importorskip("gymnasium")

from gymnasium.utils.env_checker import check_env  # noqa: E402
from gymnasium.vector import AutoresetMode  # noqa: E402
from gymnasium.wrappers.vector import RecordEpisodeStatistics  # noqa: E402

from jaxenv.adapters.gymnasium import to_gymnasium  # noqa: E402


@pytest.mark.parametrize("env", [Corridor(), Signal(), Crew()])
def test_check_env_is_clean(env):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(to_gymnasium(env))
    assert [str(w.message) for w in caught] == []


@pytest.mark.parametrize("options", [{"env": "partitioning"}, {"env": "splitting"}])
def test_check_env_says_of_ours_only_that_observations_are_unbounded(options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(to_gymnasium(**options))
    assert all("observation space m" in str(w.message) for w in caught), caught


def test_the_terminal_observation_is_the_true_one():
    env = to_gymnasium(Corridor())
    observation, info = env.reset(seed=3)
    steps = 5 - round(observation[0] * 5)
    for step in range(steps):
        np.testing.assert_array_equal(info["action_mask"], [observation[0] > 0, 1, 1])
        observation, reward, terminated, truncated, info = env.step(np.int64(RIGHT))
        assert type(observation) is np.ndarray and type(reward) is float and reward == -1
        assert (terminated, truncated) == (step == steps - 1, False)
    np.testing.assert_array_equal(observation, [1, 1])


def test_time_limits_truncate():
    env = to_gymnasium(Corridor(), Corridor().make_params(max_steps=2, step_reward=-4.0))
    env.reset(seed=0)
    assert env.step(STAY)[1:4] == (-4.0, False, False)
    assert env.step(STAY)[1:4] == (-4.0, False, True)


@pytest.mark.parametrize("env", [Corridor(), Signal(), Crew()])
def test_masks_sample_valid_actions(env):
    adapted = to_gymnasium(env)
    adapted.action_space.seed(0)
    _, info = adapted.reset(seed=0)
    for _ in range(20):
        action = adapted.action_space.sample(info["action_mask"])
        assert adapted.action_space.contains(action)
        *_, terminated, truncated, info = adapted.step(action)
        if terminated or truncated:
            _, info = adapted.reset()
    if isinstance(env, Corridor):
        assert [adapted.action_masks()[choice] for choice in (RIGHT, STAY)] == [True, True]


def test_seeds_name_episodes():
    env = to_gymnasium("partitioning", num_blocks=2)
    first, _ = env.reset(seed=5)
    second, _ = env.reset()
    np.testing.assert_array_equal(env.reset(seed=5)[0], first)
    np.testing.assert_array_equal(env.reset()[0], second)
    assert (first != second).any()


def test_a_vector_resets_in_the_step_that_ends_an_episode():
    env = to_gymnasium(Corridor(), num_envs=16)
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    assert env.action_space.shape == (16,) and env.observation_space.shape == (16, 2)
    observation, infos = env.reset(seed=0)
    starts = np.round(observation[:, 0] * 5)
    assert set(starts) == {0, 1}
    for _ in range(4):
        np.testing.assert_array_equal(infos["action_mask"][:, LEFT], observation[:, 0] > 0)
        observation, rewards, terminated, truncated, infos = env.step(np.full(16, RIGHT))
    done = starts == 1
    np.testing.assert_array_equal(terminated, done)
    assert not truncated.any() and rewards.dtype == np.float64
    assert (observation[done, 0] < 0.5).all() and (observation[~done, 0] == np.float32(0.8)).all()
    np.testing.assert_array_equal(infos["_final_obs"], done)
    for index in range(16):
        if done[index]:
            np.testing.assert_array_equal(infos["final_obs"][index], [1, 1])
        else:
            assert infos["final_obs"][index] is None
    final = infos["final_info"]
    np.testing.assert_array_equal(final["_moved"], done)
    assert (final["moved"][done] == 1).all() and (final["action_mask"][done, LEFT] == 1).all()


def test_a_vector_works_with_gymnasiums_wrapper():
    env = RecordEpisodeStatistics(to_gymnasium(Corridor(), num_envs=4))
    observation, _ = env.reset(seed=1)
    steps = 5 - np.round(observation[:, 0] * 5)
    for _ in range(int(steps.min())):
        *_, infos = env.step(np.full(4, RIGHT))
    first = int(np.argmin(steps))
    assert infos["episode"]["r"][first] == -steps[first]


def test_a_vector_plays_the_episodes_of_its_seed():
    env = to_gymnasium("partitioning", num_envs=3, num_blocks=2)
    first, _ = env.reset(seed=7)
    np.testing.assert_array_equal(env.reset(seed=7)[0], first)
    assert len(np.unique(first[:, -8:], axis=0)) == 3
    out = env.step(np.zeros((3, 2), np.int64))
    assert all(isinstance(x, np.ndarray) for x in out[:4])
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(out[4]))


def test_the_documented_lines_run():
    names = run_block("Gymnasium")
    assert names["reward"] < 0
    assert names["many"].num_envs == 8
