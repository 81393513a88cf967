"""`check_environment` accepts environments that keep the contract and names what others break."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxenv import spaces, struct
from jaxenv.environment import Metric, Params
from jaxenv.testing import check_environment
from tests.toy_environments import (
    TOYS,
    Corridor,
    CorridorParams,
    CorridorState,
    Crew,
    Signal,
    SignalState,
)

frozen = dataclasses.dataclass(frozen=True, kw_only=True)


@pytest.mark.parametrize("env", TOYS, ids=lambda env: env.name)
def test_accepts_an_environment_that_keeps_the_contract(env):
    check_environment(env, num_steps=16, num_envs=2)


@pytest.mark.quick
def test_accepts_a_given_scenario_and_key():
    env, params = Corridor.build(slip_probability=0.5, length=4)
    check_environment(env, params, jax.random.key(3), num_steps=16, num_envs=2)


def test_accepts_float64():
    with jax.enable_x64(True):
        check_environment(Corridor(dtype="float64"), num_steps=16, num_envs=2)


@frozen
class Ranked(Corridor):
    """A quantile of a ratio is measured, and an entry of ``info`` that nobody measures is +inf."""

    metrics: ClassVar = (Metric("median", "1", "max", "quantile", "reward", "number"),)

    def step_env(self, *arguments):
        *others, info = super().step_env(*arguments)
        return *others, info | {"number": jnp.float32(1), "limit": jnp.float32(jnp.inf)}


@pytest.mark.quick
def test_accepts_quantiles_of_ratios_and_unmeasured_infinities():
    check_environment(Ranked(), num_steps=16, num_envs=2)


@frozen
class Fixed(Corridor):
    """Nothing is random."""

    def reset_env(self, key, params):
        return CorridorState(key, jnp.int32(0), jnp.int32(0))


@pytest.mark.quick
def test_accepts_a_deterministic_environment_only_when_told():
    check_environment(Fixed(), num_steps=16, num_envs=2, stochastic=False)
    with pytest.raises(AssertionError, match="two keys give the same episode"):
        check_environment(Fixed(), num_steps=16, num_envs=2)


# ---- one broken environment for each check ------------------------------------------------------

CASES: list[tuple[type, str]] = []


def breaks(pattern: str):
    """Registers a broken environment with what `check_environment` must say of it."""

    def register(cls: type) -> type:
        CASES.append((cls, pattern))
        return cls

    return register


@breaks("not a frozen dataclass")
class Undecorated(Corridor):
    __dataclass_params__ = type("P", (), {"frozen": False})


@breaks("not hashable")
@frozen
class Unhashable(Corridor):
    weights: Any = dataclasses.field(default_factory=list)


@breaks("pickle fails")
@frozen
class Unpicklable(Corridor):
    rule: Callable = lambda x: x  # noqa: E731


@breaks("copy.deepcopy gives an environment that is not equal")
@frozen
class Changeling(Corridor):
    marker: object = dataclasses.field(default_factory=object)

    def __deepcopy__(self, memo):
        return type(self)()


@breaks("observation_space has dtype float64, the environment float32")
@frozen
class WideSpace(Corridor):
    @property
    def observation_space(self):
        return spaces.Box(0.0, 1.0, (2,), np.dtype(np.float64))


@breaks("not a Box")
@frozen
class DiscreteObservation(Corridor):
    @property
    def observation_space(self):
        return spaces.Discrete(6)


@breaks("observation_space fails: NotImplementedError")
@frozen
class NoSpace(Corridor):
    @property
    def observation_space(self):
        raise NotImplementedError


@breaks("repeated names")
@frozen
class RepeatedMetric(Corridor):
    metrics: ClassVar = Corridor.metrics * 2


@breaks("metric 'return': direction 'up'")
@frozen
class UndirectedMetric(Corridor):
    metrics: ClassVar = (Metric("return", "1", "up", "sum", "reward"),)


@breaks("metric 'return': pool 'median'")
@frozen
class UnpooledMetric(Corridor):
    metrics: ClassVar = (Metric("return", "1", "max", "median", "reward"),)


@breaks("metric 'return': `over` goes with pool='ratio'")
@frozen
class HalfRatio(Corridor):
    metrics: ClassVar = (Metric("return", "1", "max", "ratio", "reward"),)


@breaks("metric 'return': level 95")
@frozen
class PercentQuantile(Corridor):
    metrics: ClassVar = (Metric("return", "1", "max", "quantile", "reward", level=95),)


@breaks(r"metric 'return' needs info\['gone'\], which is missing")
@frozen
class MissingMetric(Corridor):
    metrics: ClassVar = (Metric("return", "1", "max", "sum", "gone"),)


@breaks(r"metric 'return' needs info\['moved'\] as a scalar, not \(1,\)")
@frozen
class VectorMetric(Corridor):
    metrics: ClassVar = (Metric("return", "1", "max", "sum", "moved"),)

    def step_env(self, *arguments):
        state, reward, terminated, info = super().step_env(*arguments)
        return state, reward, terminated, info | {"moved": info["moved"][None]}


@breaks(r"params.step_reward is -1.0, not an array")
@frozen
class PlainParams(Corridor):
    def default_params(self):
        return super().default_params().replace(step_reward=-1.0)


@breaks("params: step_reward has dtype float16, the environment float32")
@frozen
class HalfParams(Corridor):
    def default_params(self):
        return super().default_params().replace(step_reward=jnp.float16(-1))


@breaks("params.max_steps is 50.0, not an int32 scalar")
@frozen
class FloatLimit(Corridor):
    def default_params(self):
        return super().default_params().replace(max_steps=jnp.float32(50))


@breaks("validate refuses the scenario: ValueError: no")
@frozen
class Refusing(Corridor):
    def validate(self, params):
        raise ValueError("no")


@breaks("reset cannot be traced: TracerBoolConversionError")
@frozen
class PythonBranch(Corridor):
    def reset_env(self, key, params):
        state = super().reset_env(key, params)
        return state if params.step_reward < 0 else state.replace(position=jnp.int32(3))


@breaks("the state returned by transition: position is float32")
@frozen
class ChangingDtype(Corridor):
    def step_env(self, *arguments):
        state, *rest = super().step_env(*arguments)
        return state.replace(position=state.position.astype(self.dtype)), *rest


@breaks(r"the state returned by transition: position is int32\[\]; by reset it was .*weak type")
@frozen
class WeakType(Corridor):
    def reset_env(self, key, params):
        return super().reset_env(key, params).replace(position=jnp.asarray(1))


@struct.dataclass
class CountingState(CorridorState):
    count: int = struct.field(pytree_node=False, default=0)


@breaks("the state returned by transition is PyTreeDef")
@frozen
class StaticCounter(Corridor):
    def reset_env(self, key, params):
        state = super().reset_env(key, params)
        return CountingState(state.key, state.time, state.position)

    def step_env(self, key, state, action, params):
        after, *rest = super().step_env(key, state, action, params)
        return after.replace(count=after.count + 1), *rest


@breaks(r"the observation is .*shape=\(3,\).*, not float32\[2\]")
@frozen
class WrongShape(Corridor):
    def observe(self, state, params):
        return jnp.zeros((3,), self.dtype)


@breaks(r"the reward is .*, not float32\[\]")
@frozen
class IntegerReward(Corridor):
    def step_env(self, *arguments):
        state, reward, *rest = super().step_env(*arguments)
        return state, reward.astype(jnp.int32), *rest


@breaks("action_mask has shape")
@frozen
class ShortMask(Corridor):
    def action_mask(self, state, params):
        return jnp.ones((2,), bool)


@breaks("action_mask has dtype float32, not bool")
@frozen
class FloatMask(Corridor):
    def action_mask(self, state, params):
        return super().action_mask(state, params).astype(jnp.float32)


@breaks("num_agents > 1 without global_state")
@frozen
class Leaderless(Crew):
    @property
    def global_state(self):
        raise AttributeError


@breaks(r"the observation is .*, not float32\[3, 2\]")
@frozen
class OneView(Crew):
    def observe(self, state, params):
        return state.signal


@breaks("action_mask has shape")
@frozen
class OneMask(Crew):
    def action_mask(self, state, params):
        return self.action_space.mask()


@breaks("action_mask allows nothing at step")
@frozen
class DeadEnd(Corridor):
    def action_mask(self, state, params):
        return super().action_mask(state, params) & (state.time < 2)


@breaks("the mask allows an action outside the space")
@frozen
class LooseMask(Signal):
    def action_mask(self, state, params):
        return jnp.ones((2, 3), bool)


@breaks("info.reward is not finite after step")
@frozen
class InfiniteReward(Corridor):
    def step_env(self, *arguments):
        state, reward, *rest = super().step_env(*arguments)
        return state, reward / state.position, *rest


@breaks("info.limit has NaN after step")
@frozen
class NanInfo(Corridor):
    def step_env(self, *arguments):
        *others, info = super().step_env(*arguments)
        return *others, info | {"limit": jnp.float32(jnp.nan)}


@breaks("metric 'return': `over` goes with pool='ratio' or 'quantile'")
@frozen
class SumOfRatio(Corridor):
    metrics: ClassVar = (Metric("return", "1", "max", "sum", "reward", "reward"),)


@breaks("state.signal has NaN after step")
@frozen
class NanState(Signal):
    def step_env(self, key, state, action, params):
        after, *rest = super().step_env(key, state, action, params)
        return after.replace(signal=after.signal * jnp.nan), *rest

    def observe(self, state, params):
        return jnp.zeros((2,), self.dtype)


@breaks("the observation is outside its space after")
@frozen
class OutsideSpace(Corridor):
    def observe(self, state, params):
        return super().observe(state, params) * 2


@breaks(r"info\['final_observation'\] is not the observation of the last state")
@frozen
class FinalIsFirst(Corridor):
    def step(self, key, state, action, params=None):
        observation, state, reward, terminated, truncated, info = super().step(
            key, state, action, params
        )
        info = info | {"final_observation": observation}
        return observation, state, reward, terminated, truncated, info


@breaks(r"at the end of an episode step does not return what reset\(key\) returns")
@frozen
class NoReset(Corridor):
    def step(self, key, state, action, params=None):
        return self.transition(state, action, params or self.default_params())


@breaks(r"at the end of an episode step does not return what reset\(key\) returns")
@frozen
class StaleObservation(Signal):
    def step(self, *arguments):
        _, *rest = super().step(*arguments)
        return rest[-1]["final_observation"], *rest


@breaks("terminated at step 5 with max_steps = 5 but not with a longer limit")
@frozen
class TerminalLimit(Signal):
    def step_env(self, key, state, action, params):
        state, reward, _, info = super().step_env(key, state, action, params)
        return state, reward, state.time + 1 >= params.max_steps, info


@breaks("terminated and truncated are both true")
@frozen
class BothEndings(Signal):
    def step(self, *arguments):
        *rest, truncated, info = super().step(*arguments)
        rest[3] = truncated
        return *rest, truncated, info | {"terminated": truncated}


@breaks("truncated is False at time 7 with max_steps = 7")
@frozen
class LateLimit(Signal):
    def transition(self, state, action, params=None):
        params = self.default_params() if params is None else params
        later = params.replace(max_steps=params.max_steps + 1)
        return super().transition(state, action, later)


@breaks(r"no episode ends in 16 steps with max_steps = 5")
@frozen
class Endless(Signal):
    def is_truncated(self, state, params):
        return jnp.asarray(False)


@breaks(r"info\['terminated'\] differs from terminated")
@frozen
class WrongFlag(Corridor):
    def step(self, *arguments):
        *rest, info = super().step(*arguments)
        return *rest, info | {"terminated": jnp.asarray(True)}


@breaks("step differs from transition")
@frozen
class OtherReward(Corridor):
    def step(self, *arguments):
        observation, state, reward, *rest = super().step(*arguments)
        return observation, state, reward * 2, *rest


@breaks("step changes state.key, the key of the episode")
@frozen
class NewKey(Corridor):
    def step_env(self, key, state, *arguments):
        state, *rest = super().step_env(key, state, *arguments)
        return state.replace(key=jax.random.fold_in(state.key, 1)), *rest


@breaks("state.key after reset is not the key of the episode")
@frozen
class LostKey(Corridor):
    def reset_env(self, key, params):
        return super().reset_env(jax.random.fold_in(key, 1), params)


@breaks("state.time is 1 after reset")
@frozen
class LateStart(Corridor):
    def reset_env(self, key, params):
        return super().reset_env(key, params).replace(time=jnp.int32(1))


@breaks("reset is not determined by its arguments")
@frozen
class HostReset(Signal):
    def reset_env(self, key, params):
        signal = jnp.asarray(np.random.default_rng().uniform(size=2), self.dtype)
        return SignalState(key, jnp.int32(0), signal)


@breaks("step is not determined by its arguments")
@frozen
class HostStep(Signal):
    def step_env(self, key, state, action, params):
        state, reward, *rest = super().step_env(key, state, action, params)
        noise = jnp.asarray(np.random.default_rng().uniform(), self.dtype)
        return state.replace(signal=state.signal * noise), reward, *rest

    def transition(self, state, action, params=None):
        if not isinstance(state.time, jax.core.Tracer):
            return super().transition(state, action, params)
        quiet = Signal(dtype=self.dtype)
        return quiet.transition(state, action, params)


@breaks("two keys give the same episode")
@frozen
class OneEpisode(Signal):
    def reset_env(self, key, params):
        return super().reset_env(jax.random.key(0), params).replace(key=key)

    def _draw(self, key):
        return super()._draw(jax.random.key(0))


@breaks("step under jit differs from eager")
@frozen
class TracedOnly(Signal):
    def step_env(self, key, state, *arguments):
        after, reward, *rest = super().step_env(key, state, *arguments)
        traced = isinstance(state.time, jax.core.Tracer)
        return after, reward + (0.0 if traced else 1.0), *rest


@jax.custom_batching.custom_vmap
def half(x):
    return x / 2


@half.def_vmap
def _(size, batched, x):
    return x / 3, batched[0]


@breaks("reset under vmap differs from a loop")
@frozen
class BatchDependent(Signal):
    def reset_env(self, key, params):
        state = super().reset_env(key, params)
        return state.replace(signal=half(state.signal))


@breaks("vmap over keys, states, actions and params fails")
@frozen
class Unbatchable(Signal):
    def reset_env(self, key, params):
        state = super().reset_env(key, params)
        signal = unbatchable(state.signal)
        return state.replace(signal=signal)


@jax.custom_batching.custom_vmap
def unbatchable(x):
    return x / 2


@unbatchable.def_vmap
def _(size, batched, x):
    raise NotImplementedError("one at a time")


@breaks("params in 64-bit mode: step_reward has dtype float64, the environment float32")
@frozen
class WideDefaults(Corridor):
    def default_params(self):
        return super().default_params().replace(step_reward=jnp.asarray(-1.0))


@breaks("state in 64-bit mode: signal has dtype float64")
@frozen
class WideDraw(Signal):
    def _draw(self, key):
        return jax.random.uniform(key, (2,))


@breaks("in 64-bit mode reset gives other numbers; give every draw a dtype")
@frozen
class RoundedDraw(Signal):
    def _draw(self, key):
        return jax.random.uniform(key, (2,)).astype(self.dtype)


@breaks("info in 64-bit mode: count has dtype int64; integers are int32")
@frozen
class WideInteger(Signal):
    def step_env(self, *arguments):
        state, reward, terminated, info = super().step_env(*arguments)
        return state, reward, terminated, info | {"count": (state.signal > 0.5).sum()}


tags = itertools.count()


@struct.dataclass
class TaggedParams(Params):
    tag: int = struct.field(pytree_node=False, default=0)


TaggedParams.replace = lambda self, max_steps: TaggedParams(max_steps, next(tags))


@breaks("reset was traced [0-9]+ times for the same shapes")
@frozen
class Retraced(Signal):
    def default_params(self):
        return TaggedParams(jnp.asarray(7, jnp.int32), next(tags))


@pytest.mark.parametrize(("cls", "pattern"), CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_names_what_a_broken_environment_breaks(cls, pattern):
    with pytest.raises(AssertionError, match=pattern) as error:
        check_environment(cls(), num_steps=16, num_envs=2)
    text = str(error.value)
    assert text.startswith(f"{cls.__name__}: ")
    assert "\n" not in text


def test_scenario_is_checked_too():
    env = Corridor()
    params = env.default_params().replace(slip_probability=0.5)
    assert isinstance(params, CorridorParams)
    with pytest.raises(AssertionError, match="params.slip_probability is 0.5, not an array"):
        check_environment(env, params)
