"""The contract's base: time limits, resets, building and what bad scenarios get, known by hand."""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxenv
from jaxenv import ConfigError
from jaxenv.environment import Environment, Metric, as_key, cast_leaf, steps_times
from tests.toy_environments import LEFT, RIGHT, STAY, Corridor, Crew, Signal

pytestmark = pytest.mark.quick

KEY, NEXT = jax.random.key(1), jax.random.key(2)


def corridor(position: int, length: int = 6, **leaves):
    """An environment, its scenario and a state with the walker in a given cell."""
    env, params = Corridor.build(length=length, **leaves)
    _, state = env.reset(KEY, params)
    return env, params, state.replace(position=jnp.int32(position))


def test_a_step_inside_an_episode():
    env, params, state = corridor(2)
    observation, after, reward, terminated, truncated, info = env.step(NEXT, state, RIGHT, params)
    np.testing.assert_allclose(observation, [3 / 5, 1.0])
    assert (int(after.position), int(after.time), float(reward)) == (3, 1, -1.0)
    assert not terminated
    assert not truncated
    np.testing.assert_array_equal(info["final_observation"], observation)
    assert bool(info["decision_pending"])


def test_a_termination_starts_the_next_episode_and_keeps_the_last_observation():
    env, params, state = corridor(4)
    observation, after, reward, terminated, truncated, info = env.step(NEXT, state, RIGHT, params)
    fresh_observation, fresh = env.reset(NEXT, params)
    assert bool(terminated)
    assert not truncated
    np.testing.assert_allclose(info["final_observation"], [1.0, 1.0])
    np.testing.assert_array_equal(observation, fresh_observation)
    assert int(after.time) == 0
    assert int(after.position) == int(fresh.position)
    np.testing.assert_array_equal(jax.random.key_data(after.key), jax.random.key_data(NEXT))


def test_a_time_limit_truncates_at_exactly_that_step():
    env, params = Corridor.build(max_steps=3)
    _, state = env.reset(KEY, params)
    flags = []
    for _ in range(6):
        _, state, _, terminated, truncated, _ = env.step(KEY, state, STAY, params)
        flags.append((bool(terminated), bool(truncated)))
    assert flags == [(False, False), (False, False), (False, True)] * 2


def test_reaching_the_end_at_the_time_limit_is_a_termination_alone():
    env, params, state = corridor(4, max_steps=1)
    _, _, _, terminated, truncated, info = env.step(NEXT, state, RIGHT, params)
    assert (bool(terminated), bool(truncated)) == (True, False)
    assert (bool(info["terminated"]), bool(info["truncated"])) == (True, False)


def test_transition_does_not_reset():
    env, params, state = corridor(4)
    observation, after, _, terminated, _, _ = env.transition(state, RIGHT, params)
    assert bool(terminated)
    assert int(after.position) == 5
    np.testing.assert_allclose(observation, [1.0, 1.0])


def test_only_finished_lanes_are_reset_under_vmap():
    env, params, state = corridor(4)
    states = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), state)
    keys = jax.random.split(NEXT)
    actions = jnp.asarray([RIGHT, STAY], jnp.int32)
    step = jax.vmap(env.step, in_axes=(0, 0, 0, None))
    observation, after, _, terminated, _, _ = step(keys, states, actions, params)
    assert terminated.tolist() == [True, False]
    np.testing.assert_array_equal(observation[0], env.reset(keys[0], params)[0])
    np.testing.assert_allclose(observation[1], [4 / 5, 1.0])
    assert after.time.tolist() == [0, 1]


def test_randomness_of_a_step_follows_from_the_episode_and_the_time_only():
    env = Signal()
    _, first = env.reset(KEY)
    _, second = env.reset(KEY)
    for left, right in (([0, 0], [1, 2]), ([1, 1], [0, 0])):
        _, first, *_ = env.step(KEY, first, jnp.asarray(left, jnp.int32))
        _, second, *_ = env.step(NEXT, second, jnp.asarray(right, jnp.int32))
        np.testing.assert_array_equal(first.signal, second.signal)


def test_raw_and_typed_keys_are_the_same_key():
    raw = jax.random.PRNGKey(5)
    np.testing.assert_array_equal(jax.random.key_data(as_key(raw)), raw)
    observation, _ = Signal().reset(raw)
    np.testing.assert_array_equal(observation, Signal().reset(as_key(raw))[0])


def test_params_are_optional():
    env = Corridor()
    params = env.default_params()
    observation, state = env.reset(KEY)
    np.testing.assert_array_equal(observation, env.reset(KEY, params)[0])
    ours, given = env.step(NEXT, state, STAY), env.step(NEXT, state, STAY, params)
    np.testing.assert_array_equal(ours[0], given[0])


def test_the_scenario_that_is_given_is_the_one_that_counts():
    seen = []

    class Watched(Corridor):
        def reset_env(self, key, params):
            seen.append(params)
            return super().reset_env(key, params)

    env, params = Watched.build(step_reward=-7)
    state = env.reset(KEY, params)[1]
    assert seen == [params]
    env.reset(KEY)
    assert float(seen[1].step_reward) == -1
    for call in (env.transition, partial(env.step, NEXT)):
        assert float(call(state, STAY, params)[2]) == -7 and float(call(state, STAY)[2]) == -1


def test_a_scenario_axis_gives_each_lane_its_own_reward():
    env, params, state = corridor(2)
    params = params.replace(step_reward=jnp.asarray([-1.0, -2.0, 5.0], jnp.float32))
    axes = jax.tree.map(lambda leaf: 0 if leaf.ndim else None, params)
    step = jax.vmap(env.step, in_axes=(None, None, None, axes))
    assert step(NEXT, state, STAY, params)[2].tolist() == [-1.0, -2.0, 5.0]


def test_masks():
    env, params, state = corridor(0)
    assert env.action_mask(state, params).tolist() == [False, True, True]
    state = state.replace(position=jnp.int32(1))
    assert env.action_mask(state, params)[LEFT]
    signal = Signal()
    expected = [[True, True, False], [True, True, True]]
    assert signal.action_mask(signal.reset(KEY)[1], signal.default_params()).tolist() == expected


def test_num_actions():
    assert Corridor().num_actions == 3
    with pytest.raises(ConfigError, match="num_actions needs a Discrete action space"):
        _ = Signal().num_actions


def test_agents_share_one_reward():
    env = Crew()
    observation, state = env.reset(KEY)
    assert observation.shape == (3, 2)
    reward = env.step(NEXT, state, jnp.asarray([1, 0, 1], jnp.int32))[2]
    assert reward.shape == ()
    assert float(reward) == 2.0


def test_environments_are_values():
    assert Corridor(length=4) == Corridor(length=4)
    assert hash(Corridor(length=4)) == hash(Corridor(length=4))
    assert Corridor(length=4) != Corridor(length=5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Corridor().length = 3


def test_float64_reaches_every_float_leaf():
    with jax.enable_x64(True):
        env, params = Corridor.build(dtype="float64", slip_probability=0.1)
        observation, state = env.reset(KEY, params)
        reward = env.step(NEXT, state, STAY, params)[2]
        assert {observation.dtype, reward.dtype, params.slip_probability.dtype} == {
            np.dtype(np.float64)
        }
        assert float(params.slip_probability) == 0.1


def test_building_splits_sizes_from_leaves_casts_and_keeps_the_rest():
    env, params = Corridor.build(length=9, step_reward=-2, max_steps=7)
    assert env.length == 9
    assert params.step_reward.dtype == np.float32
    assert params.max_steps.dtype == np.int32
    assert (float(params.step_reward), int(params.max_steps)) == (-2.0, 7)
    assert float(params.slip_probability) == 0.0


def test_cast_leaf_broadcasts_a_scalar_to_the_shape_of_the_leaf():
    cast = cast_leaf("power_w", 2, jnp.zeros((3,), jnp.float32))
    np.testing.assert_array_equal(cast, [2.0, 2.0, 2.0])
    assert cast.dtype == np.float32


def test_a_leaf_takes_all_that_its_dtype_holds():
    """The largest integer and float, and infinity; one more is refused."""
    assert int(cast_leaf("rows", 2**31 - 1, INTEGER)) == 2**31 - 1
    assert int(cast_leaf("rows", -(2**31), INTEGER)) == -(2**31)
    assert np.isposinf(cast_leaf("limit_s", math.inf, FLOAT))
    most = float(np.finfo(np.float32).max)
    assert float(cast_leaf("limit_s", -most, FLOAT)) == -most
    assert float(cast_leaf("limit_s", 3, FLOAT)) == 3.0
    assert cast_leaf("on", True, FLAG).tolist() == [True, True]
    integers = "give an integer from -2147483648 to 2147483647"
    for value, leaf, valid in (
        (2**31, INTEGER, integers),
        (-(2**31) - 1, INTEGER, integers),
        (2 * most, FLOAT, "give a number from -3.4028234"),
        (
            [0, 2**31, 0],
            jnp.zeros(3, jnp.int32),
            integers.replace("from", "or an array of shape (3,) from"),
        ),
    ):
        with pytest.raises(ConfigError) as error:
            cast_leaf("rows", value, leaf)
        assert valid in str(error.value)


def test_what_a_metric_is_made_of():
    """By hand: sums over an episode of 4 steps, and what each kind of metric divides them by."""
    sums = {"late": jnp.float32(3), "tasks": jnp.float32(5)}
    steps = jnp.float32(4)
    for pool, over, sources, divisor in (
        ("sum", None, ("late",), 1),
        ("mean", None, ("late",), 4),
        ("ratio", "tasks", ("late", "tasks"), 5),
        ("quantile", None, ("late",), 1),
        ("quantile", "tasks", ("late", "tasks"), 5),
    ):
        metric = Metric("share", "%", "min", pool, "late", over)
        assert metric.sources == sources and (metric.level, metric.scale) == (0.5, 1)
        assert float(metric.denominator(sums, steps)) == divisor


def test_what_the_base_says_where_the_author_says_nothing():
    env, params = Corridor.build(max_steps=9)
    state = env.reset(KEY, params)[1]
    assert env.for_evaluation() is env
    assert float(env.reward_unit(params)) == 1.0 and env.reward_unit(params).dtype == np.float32
    assert int(env.most_steps(params)) == 9
    assert (env.paid_by_agent, env.shared_choice, env.choice_groups) == (False, None, 0)
    assert env.settle(state, params) is state
    assert env.as_leaf(1.5).dtype == np.float32 and env.as_leaf(True).dtype == bool
    assert env.as_leaf(np.int32(7)).dtype == np.int32


@pytest.mark.quick
def test_made_scenarios_are_validated():
    class Short(Corridor):
        def validate(self, params):
            if params.max_steps > 5:
                raise ConfigError("max_steps", params.max_steps, "give at most 5")

    assert Short().make_params(max_steps=5).max_steps == 5
    with pytest.raises(ConfigError, match="^max_steps: 6 is not valid; give at most 5$"):
        Short().make_params(max_steps=6)


@pytest.mark.quick
def test_the_most_steps_stay_in_32_bits():
    most = 2**31 - 1
    for steps, factor, expected in (
        (3, 4, 12),
        (most // 6, 6, most // 6 * 6),
        (most // 6 + 1, 6, most),
    ):
        found = steps_times(jnp.int32(steps), factor)
        assert found == expected and found.dtype == jnp.int32
    env, params = jaxenv.make("vehicular", max_steps=300_000_000)
    assert env.most_steps(params) == most


FLOAT = jnp.zeros((), jnp.float32)
FLOATS = jnp.zeros((3,), jnp.float32)
INTEGER = jnp.zeros((), jnp.int32)
FLAG = jnp.zeros((2,), bool)


@pytest.mark.parametrize(
    ("value", "leaf", "valid"),
    [
        ("fast", FLOAT, "'fast' is not valid; give a number"),
        (None, FLOAT, "None is not valid; give a number"),
        ({"a": 1}, FLOAT, "give a number"),
        (1j, FLOAT, "give a number"),
        (True, FLOAT, "True is not valid; give a number"),
        (float("nan"), FLOAT, "nan is not valid; give a number without NaN"),
        ([1.0, float("nan"), 2.0], FLOATS, "shape (3,) without NaN"),
        ([1.0, 2.0], FLOATS, "give a number or an array of shape (3,), not shape (2,)"),
        ([1.0], FLOAT, "[1.0] is not valid; give a number, not shape (1,)"),
        ([[1.0], [2.0, 3.0]], FLOATS, "give a number or an array of shape (3,)"),
        (1.5, INTEGER, "1.5 is not valid; give an integer"),
        ("7", INTEGER, "'7' is not valid; give an integer"),
        (False, INTEGER, "False is not valid; give an integer"),
        (0.5, FLAG, "give true or false or an array of shape (2,)"),
        ([True, False, True], FLAG, "not shape (3,)"),
        (object, FLOAT, "give a number"),
    ],
)
def test_a_value_that_does_not_fit_its_leaf_is_refused_in_one_line(value, leaf, valid):
    with pytest.raises(ConfigError) as error:
        cast_leaf("bandwidth_hz", value, leaf)
    text = str(error.value)
    assert text.startswith("bandwidth_hz: ")
    assert valid in text
    assert "\n" not in text
    assert error.value.field == "bandwidth_hz"


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"lenght": 4}, r"corridor.lenght: 4 .* known names are dtype, length, max_steps, "),
        ({"lenght": 4}, r"corridor.lenght: 4 is not valid; did you mean length\? known names are "),
        ({"dtype": "float16"}, "dtype: 'float16' is not valid; choose float32 or float64"),
        ({"dtype": "float64"}, "dtype: 'float64' is not valid; enable 64-bit mode first"),
        ({"slip_probability": "often"}, "slip_probability: 'often' is not valid; give a number"),
        ({"max_steps": 2.5}, "max_steps: 2.5 is not valid; give an integer"),
    ],
)
def test_an_impossible_scenario_is_refused_when_it_is_built(options, pattern):
    with pytest.raises(ConfigError, match=pattern):
        Corridor.build(**options)


@pytest.mark.parametrize("value", [jnp.float32(1.5), np.float64(1.5), 1.5])
def test_a_number_is_shown_as_a_number(value):
    """Whatever holds it; an array as a list, a traced one by its kind."""
    assert str(ConfigError("rate", value, "no")) == "rate: 1.5 is not valid; no"
    assert str(ConfigError("rate", jnp.arange(3), "no")) == "rate: [0, 1, 2] is not valid; no"
    traced = jax.jit(lambda x: len(str(ConfigError("rate", x, "no"))))(value)
    assert traced > len("rate:  is not valid; no")


def test_a_long_value_is_shortened_in_the_message():
    text = str(ConfigError("trace", list(range(1000)), "give less"))
    assert len(text) < 200
    assert text.endswith("... is not valid; give less")


@pytest.mark.parametrize(
    ("error", "valid"),
    [
        (ValueError("network: 'a.csv' is not valid; give one of b, c"), "give one of b, c"),
        (ConfigError("CSV file", "a.csv", "it is empty"), "it is empty"),
        (ValueError("a.csv: line 3, work: 'x' is not valid"), "line 3, work: 'x' is not valid"),
        (ConfigError("CSV file", "b.csv", "it is empty"), "CSV file: 'b.csv' is not valid; it is "),
    ],
)
def test_a_refusal_of_what_a_setting_gave_says_its_value_once(error, valid):
    refusal = ConfigError.of("sites", "a.csv", error)
    assert str(refusal).startswith(f"sites: 'a.csv' is not valid; {valid}")
    assert (refusal.field, refusal.value) == ("sites", "a.csv")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("partitioning", {"network": "vgg61"}),
        ("splitting", {"network": "vgg61"}),
        ("splitting", {"board": "nowhere.csv"}),
        ("services", {"sites": "nowhere.csv"}),
        ("services", {"accuracy": "nowhere.csv"}),
        ("robust", {"profile": "nowhere.csv"}),
    ],
)
def test_a_refused_file_or_network_is_named_once(name, options):
    with pytest.raises(ConfigError) as error:
        jaxenv.make(name, **options)
    ((field, value),) = options.items()
    text = str(error.value)
    assert text.startswith(f"{field}: {value!r} is not valid; ")
    assert text.count(value) == text.count("is not valid") == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda env: env.default_params(),
        lambda env: env.reset_env(KEY, None),
        lambda env: env.step_env(KEY, None, None, None),
        lambda env: env.observe(None, None),
        lambda env: env.observation_space,
        lambda env: env.action_space,
    ],
)
def test_what_an_author_must_write_is_not_there_by_default(call):
    with pytest.raises(NotImplementedError):
        call(Environment())
