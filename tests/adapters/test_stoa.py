"""The Stoa adapter under the real library and its wrappers: ``make test-adapters``."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.adapters.documented import run_block
from tests.toy_environments import LEFT, RIGHT, STAY, Corridor, Crew, Signal

stoa = pytest.importorskip("stoa")

from stoa import StepType  # noqa: E402
from stoa.core_wrappers.vmap import VmapWrapper  # noqa: E402

from jaxenv.adapters.stoa import to_stoa  # noqa: E402

KEY = jax.random.key(2)


def test_time_steps_tell_the_ends_apart():
    env = to_stoa(Corridor(), Corridor().make_params(max_steps=3))
    assert isinstance(env, stoa.Environment)
    state, first = env.reset(KEY)
    assert first.first() and first.discount == 1 and first.reward == 0
    walked = state
    for _ in range(3):
        walked, last = env.step(walked, jnp.int32(STAY))
        assert last.reward == -1
    assert last.truncated() and not last.terminated() and last.discount == 1
    assert jax.tree.structure(first) == jax.tree.structure(last)
    assert [x.dtype for x in jax.tree.leaves(first)] == [x.dtype for x in jax.tree.leaves(last)]
    long = to_stoa(Corridor())
    for _ in range(5 - int(state.base_env_state.position)):
        state, last = long.step(state, jnp.int32(RIGHT))
    assert last.step_type == StepType.TERMINATED and last.discount == 0
    np.testing.assert_array_equal(last.observation, [1, 1])


def test_params_are_not_dropped_and_can_be_given():
    env = to_stoa(Corridor(), Corridor().make_params(step_reward=-4.0))
    state, _ = env.reset(KEY)
    assert env.step(state, jnp.int32(STAY))[1].reward == -4
    other = Corridor().make_params(step_reward=-7.0)
    assert env.step(state, jnp.int32(STAY), other)[1].reward == -7


def test_spaces_are_stoas_own():
    env = to_stoa(Corridor())
    assert env.action_space().num_values == 3
    assert env.observation_space().shape == (2,)
    assert list(to_stoa(Signal()).action_space().num_values) == [2, 3]
    assert to_stoa(Signal(), actions="flat").action_space().num_values == 6
    crew = to_stoa(Crew())
    assert crew.observation_space().shape == (3, 2) and crew.action_space().shape == (3,)


def test_stoas_wrappers_reset_with_the_right_mask_and_the_true_last_observation():
    env = stoa.AddActionMaskWrapper(to_stoa(Corridor()))
    env = stoa.AutoResetWrapper(env, next_obs_in_extras=True)
    env = stoa.RecordEpisodeMetrics(env)
    env = VmapWrapper(env, num_envs=16)
    state, first = env.reset(KEY)
    start = np.round(np.asarray(first.observation["observation"])[:, 0] * 5)
    assert set(start) == {0, 1}

    def step(state, _):
        return env.step(state, jnp.full(16, RIGHT))

    _, steps = jax.jit(lambda s: jax.lax.scan(step, s, None, 12))(state)
    place, mask = steps.observation["observation"][..., 0], steps.observation["action_mask"]
    np.testing.assert_array_equal(mask[..., LEFT], place > 0)
    done = np.asarray(steps.last())
    np.testing.assert_array_equal(done[3], start == 1)
    last = np.asarray(steps.extras["next_obs"]["observation"])
    np.testing.assert_array_equal(last[done], np.ones((done.sum(), 2)))
    assert (place[done] < 0.5).all()
    metrics = steps.extras["episode_metrics"]
    np.testing.assert_array_equal(metrics["is_terminal_step"], done)
    np.testing.assert_array_equal(metrics["episode_return"][3][start == 1], -4.0)


def test_quantities_of_the_metrics_come_as_extras():
    env = to_stoa("partitioning", num_blocks=2)
    state, first = env.reset(KEY)
    assert first.extras["total_delay_s"] == 0
    _, step = jax.jit(env.step)(state, jnp.zeros(2, jnp.int32))
    assert step.extras["total_delay_s"] > 0
    np.testing.assert_array_equal(step.extras["action_mask"], np.ones((2, 5), bool))


def test_the_documented_lines_run():
    names = run_block("Stoa")
    assert names["timestep"].reward < 0 and names["timestep"].mid()
