"""The gymnax adapter under the gymnax that is installed, 0.0.9 or 1.x: ``make test-adapters``."""

from __future__ import annotations

import copy
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.adapters.documented import run_block
from tests.toy_environments import LEFT, RIGHT, STAY, Corridor, Signal

gymnax = pytest.importorskip("gymnax")

from gymnax.environments import environment  # noqa: E402
from gymnax.environments import spaces as gymnax_spaces  # noqa: E402
from gymnax.wrappers import LogWrapper  # noqa: E402

from jaxenv.adapters.gymnax import to_gymnax  # noqa: E402

KEY = jax.random.key(1)
RAW = jax.random.PRNGKey(1)
INSTALLED = "0.x" if version("gymnax").startswith("0.") else "1.x"


def walk(env, params, actions, key=KEY):
    """The last of the values that ``step`` returned."""
    _, state = env.reset(key, params)
    for action in actions:
        out = env.step(key, state, jnp.int32(action), params)
        state = out[1]
    return out


def test_it_is_what_make_returns():
    ours, params = to_gymnax("partitioning", num_blocks=2)
    theirs, their_params = gymnax.make("CartPole-v1")
    assert isinstance(ours, environment.Environment)
    assert isinstance(params, environment.EnvParams)
    key, state_key = jax.random.split(RAW)
    for env, p in ((ours, params), (theirs, their_params)):
        _, state = env.reset(state_key, p)
        out = env.step(key, state, env.action_space(p).sample(key), p)
        assert isinstance(out[1], environment.EnvState)
        assert len(out) == (5 if INSTALLED == "0.x" else 6)
    assert isinstance(params.max_steps_in_episode + 1, jax.Array)


@pytest.mark.parametrize("api", ["0.x", "1.x"])
def test_the_terminal_observation_is_the_true_one(api):
    env, params = to_gymnax(Corridor(), api=api)
    start = env.reset(KEY, params)[1].inner.position
    observation, state, reward, *ends, info = walk(env, params, [RIGHT] * (5 - int(start)))
    assert [bool(end) for end in ends] == ([True] if api == "0.x" else [True, False])
    assert (bool(info["terminated"]), bool(info["truncated"])) == (True, False)
    np.testing.assert_array_equal(info["final_observation"], [1, 1])
    assert observation[0] in (0, np.float32(0.2)) and state.time == 0
    assert reward == -1 and info["discount"] == 0
    np.testing.assert_array_equal(info["action_mask"], [state.inner.position > 0, True, True])


@pytest.mark.parametrize("api", ["0.x", "1.x"])
def test_time_limits_truncate(api):
    env, params = to_gymnax(Corridor(), api=api)
    assert params.max_steps_in_episode == 50
    limited = params.replace(max_steps_in_episode=3)
    *_, info = walk(env, limited, [STAY] * 2)
    assert not info["truncated"]
    *ends, info = walk(env, limited, [STAY] * 3)[3:]
    assert [bool(end) for end in ends] == ([True] if api == "0.x" else [False, True])
    assert info["truncated"] and not info["terminated"] and info["discount"] == 1


def test_steps_without_reset_have_the_librarys_own_number_of_values():
    for api, ends in (("0.x", [True]), ("1.x", [False])):
        env, params = to_gymnax(Corridor(), api=api)
        params = params.replace(max_steps_in_episode=1)
        _, state = env.reset(KEY, params)
        out = env.step_env(KEY, state, jnp.int32(STAY), params)
        assert [bool(end) for end in out[3:-1]] == ends
        assert env.is_truncated(out[1], params) and not env.is_terminated(out[1], params)
        assert bool(env.is_terminal(out[1], params)) == ends[0]
        assert env.discount(out[1], params) == 1


def test_params_are_not_dropped():
    inner = Corridor()
    env, params = to_gymnax(inner, inner.make_params(step_reward=-3.0))
    _, state = env.reset(KEY)
    assert env.step(KEY, state, jnp.int32(STAY))[2] == -3
    assert env.default_params.scenario.step_reward == -3
    other = params.replace(scenario=params.scenario.replace(step_reward=jnp.float32(-7)))
    assert env.step(KEY, state, jnp.int32(STAY), other)[2] == -7


def test_scenarios_can_be_mapped():
    env, params = to_gymnax(Corridor())
    rewards = jnp.arange(3.0)
    many = params.replace(scenario=params.scenario.replace(step_reward=rewards))
    axes = jax.tree.map(lambda _: None, params)
    axes = axes.replace(scenario=axes.scenario.replace(step_reward=0))
    _, state = env.reset(KEY, params)
    step = jax.vmap(lambda p: env.step(KEY, state, jnp.int32(STAY), p)[2], in_axes=(axes,))
    np.testing.assert_array_equal(step(many), rewards)


def test_copies_are_equal_and_compile_once():
    env, params = to_gymnax(Corridor())
    clone = copy.deepcopy(env)
    assert clone == env and hash(clone) == hash(env)
    traces = []

    def reset(env, key):
        traces.append(1)
        return env.reset(key, params)

    reset = jax.jit(reset, static_argnums=0)
    np.testing.assert_array_equal(reset(env, KEY)[0], reset(clone, KEY)[0])
    assert len(traces) == 1
    assert copy.deepcopy({"env": env, "params": params})["env"] == env


def test_episodes_are_those_of_the_environment():
    inner = Signal()
    env, params = to_gymnax(inner, actions="flat")
    seen, state = env.reset(RAW, params)
    expected, inner_state = inner.reset(RAW)
    for index in (5, 0, 3, 1, 2, 4):
        np.testing.assert_array_equal(seen, expected)
        seen, state, reward, *_ = env.step(KEY, state, jnp.int32(index), params)
        expected, inner_state, paid, *_ = inner.transition(
            inner_state, jnp.asarray([index // 3, index % 3])
        )
        assert reward == paid == index // 3 + index % 3


def test_spaces_are_gymnaxs_own():
    env, params = to_gymnax(Corridor())
    assert isinstance(env.action_space(params), gymnax_spaces.Discrete)
    assert env.num_actions == env.action_space(params).n == 3
    box = env.observation_space(params)
    assert isinstance(box, gymnax_spaces.Box) and box.shape == (2,) and box.dtype == np.float32
    env, params = to_gymnax(Signal())
    space = env.action_space(params)
    assert [part.n for part in space.spaces] == [2, 3]
    _, state = env.reset(KEY, params)
    action = space.sample(KEY)
    assert env.step(KEY, state, action, params)[2] == action[0] + action[1]
    assert env.step(KEY, state, jnp.stack(action), params)[2] == action[0] + action[1]


def test_gymnaxs_log_wrapper_counts_an_episode():
    env, params = to_gymnax(Corridor())
    env = LogWrapper(env)
    _, state = env.reset(KEY, params)
    steps = 5 - int(state.env_state.inner.position)
    for _ in range(steps):
        out = env.step(KEY, state, jnp.int32(RIGHT), params)
        state = out[1]
    info = out[-1]
    assert info["returned_episode"]
    assert info["returned_episode_returns"] == -steps
    assert info["returned_episode_lengths"] == steps


def test_repaired_actions_are_never_invalid():
    env, params = to_gymnax(Corridor(), repair=True)
    _, state = env.reset(KEY, params)
    state = state.replace(inner=state.inner.replace(position=jnp.int32(0)))
    assert env.step(KEY, state, jnp.int32(LEFT), params)[1].inner.position == 1


def test_rejax_finds_the_way_out():
    rejax = pytest.importorskip("rejax")
    env, params = to_gymnax(
        Corridor(), Corridor().make_params(max_steps=20), api="0.x", repair=True
    )
    ppo = rejax.get_algo("ppo").create(
        env=env,
        env_params=params,
        total_timesteps=8192,
        eval_freq=8192,
        num_envs=16,
        num_steps=32,
        num_minibatches=4,
        num_epochs=4,
        learning_rate=0.003,
        skip_initial_evaluation=True,
    )
    _, (lengths, returns) = jax.jit(ppo.train)(KEY)
    assert np.mean(lengths) < 5.5 and np.mean(returns) == -np.mean(lengths)


def test_the_documented_lines_run():
    names = run_block("gymnax")
    assert names["env"].num_actions == 5**3
    assert names["slower"].scenario.wired_rate_bps == 1e6
    assert names["reward"] < 0
