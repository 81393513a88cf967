"""The Stable-Baselines3 adapter under the real library: ``make test-adapters``."""

from __future__ import annotations

import numpy as np
import pytest

from jaxenv import ConfigError
from tests.adapters.documented import run_block
from tests.probes import MovingTeam
from tests.toy_environments import LEFT, RIGHT, STAY, Corridor, Crew, Signal

stable_baselines3 = pytest.importorskip("stable_baselines3")
sb3_contrib = pytest.importorskip("sb3_contrib")

from sb3_contrib.common.maskable.utils import (  # noqa: E402
    get_action_masks,
    is_masking_supported,
)
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize  # noqa: E402

from jaxenv.adapters.sb3 import to_sb3  # noqa: E402


def test_thousands_of_environments_step_at_once():
    venv = to_sb3("partitioning", num_envs=4096, num_blocks=2)
    assert isinstance(venv, VecEnv)
    venv.seed(0)
    observation = venv.reset()
    assert observation.shape == (4096, *venv.observation_space.shape)
    observation, rewards, dones, infos = venv.step(np.zeros((4096, 2), np.int64))
    assert rewards.shape == dones.shape == (4096,) and len(infos) == 4096
    assert len(np.unique(observation, axis=0)) == 4096  # each its own episode
    assert observation.flags.writeable and rewards.dtype == np.float32


def test_the_terminal_observation_is_the_true_one():
    venv = to_sb3(Corridor(), num_envs=8)
    venv.seed(0)
    observation = venv.reset()
    starts = np.round(observation[:, 0] * 5)
    assert set(starts) == {0, 1}
    for _ in range(4):
        observation, _, dones, infos = venv.step(np.full(8, RIGHT))
    np.testing.assert_array_equal(dones, starts == 1)
    for done, info, seen in zip(dones, infos, observation, strict=True):
        if done:
            np.testing.assert_array_equal(info["terminal_observation"], [1, 1])
            assert info["TimeLimit.truncated"] is False
            assert (info["episode"]["r"], info["episode"]["l"]) == (-4, 4)
            assert seen[0] < 0.5
        else:
            assert info == {}


def test_time_limits_truncate():
    venv = to_sb3(Corridor(), Corridor().make_params(max_steps=2, step_reward=-4.0), num_envs=2)
    venv.reset()
    venv.step(np.full(2, STAY))
    _, rewards, dones, infos = venv.step(np.full(2, STAY))
    assert dones.all() and (rewards == -4).all()
    assert all(info["TimeLimit.truncated"] for info in infos)
    assert infos[0]["episode"]["r"] == -8


def test_masks_are_those_of_the_observations():
    venv = to_sb3(Corridor(), num_envs=32)
    venv.seed(0)
    observation = venv.reset()
    assert is_masking_supported(venv)
    for _ in range(9):
        masks = get_action_masks(venv)
        assert masks.dtype == bool and masks.shape == (32, 3)
        np.testing.assert_array_equal(masks[:, LEFT], observation[:, 0] > 0)
        observation, *_ = venv.step(np.full(32, RIGHT))


def test_masks_of_entries_stand_one_after_the_other():
    venv = to_sb3(Signal(), num_envs=2)
    venv.reset()
    np.testing.assert_array_equal(get_action_masks(venv), np.ones((2, 5), bool))


def test_seeds_name_episodes():
    venv = to_sb3("partitioning", num_envs=3, num_blocks=2)
    venv.seed(3)
    first = venv.reset()
    second = venv.reset()
    venv.seed(4)
    shifted = venv.reset()
    venv.seed(3)
    np.testing.assert_array_equal(venv.reset(), first)
    np.testing.assert_array_equal(venv.reset(), second)
    np.testing.assert_array_equal(shifted[0], first[1])  # environment i has seed + i


def test_stable_baselines_wrappers_work():
    venv = VecNormalize(VecMonitor(to_sb3(Corridor(), num_envs=4)))
    venv.reset()
    for _ in range(6):
        *_, infos = venv.step(np.full(4, RIGHT))
    assert get_action_masks(venv).shape == (4, 3)


@pytest.mark.parametrize("env", [Crew(), MovingTeam()])
def test_what_does_not_fit_is_refused_in_one_line(env):
    with pytest.raises(ConfigError, match="Stable-Baselines3 needs"):
        to_sb3(env)


def test_maskable_ppo_finds_the_way_out():
    venv = to_sb3(Corridor(), num_envs=16)
    model = sb3_contrib.MaskablePPO(
        "MlpPolicy", venv, n_steps=64, batch_size=256, learning_rate=3e-3, seed=0, device="cpu"
    )
    model.learn(16 * 64 * 6)
    venv.seed(0)
    observation = venv.reset()
    steps = 5 - np.round(observation[:, 0] * 5)
    for step in range(5):
        action, _ = model.predict(
            observation, action_masks=get_action_masks(venv), deterministic=True
        )
        observation, _, dones, _ = venv.step(action)
        np.testing.assert_array_equal(dones[steps == step + 1], True)


def test_the_documented_lines_run():
    names = run_block("Stable-Baselines3")
    assert names["model"].num_timesteps == 512
