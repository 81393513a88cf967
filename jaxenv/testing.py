"""A compliance test for environments, the library's own and anybody else's.

from jaxenv.testing import check_environment

def test_my_environment():
    check_environment(MyEnvironment(num_servers=3))
"""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxenv import spaces
from jaxenv.environment import Environment, as_key

POOLS = ("sum", "mean", "ratio", "quantile")
TIME_LIMIT = 5


def check_environment(
    env: Environment,
    params: Any = None,
    key: chex.PRNGKey | None = None,
    num_steps: int = 64,
    num_envs: int = 4,
    stochastic: bool = True,
) -> None:
    """Checks that an environment keeps the contract of `jaxenv.environment.Environment`.

    Plays random valid actions and checks spaces and dtypes, stable trees, masks, finite numbers,
    declared metrics, time limits, terminations and automatic resets, determinism in the key,
    jit = eager, vmap over states and scenarios = a loop, the same numbers in 64-bit mode, that
    nothing is traced twice, and that the environment is hashable and can be copied and pickled.

    Spaces describe one agent. Where ``env.num_agents > 1``, observations, masks and actions have a
    leading axis of agents, the reward is shared, and ``env.global_state(state, params)`` exists.

    Args:
        env: the environment.
        params: its scenario; the default one if None.
        key: seed of all that is random here.
        num_steps: steps played in the scenario as it is, and again with a time limit of 5.
        num_envs: lanes of the vmap that is compared with a loop.
        stochastic: whether two episode keys must give different episodes.

    Raises:
        AssertionError: one line that says what the environment does wrong.
    """
    _check_static(env)
    params = _eager(env, "default_params", env.default_params) if params is None else params
    _check_params(env, params)
    key = jax.random.key(0) if key is None else as_key(key)
    _check_trees(env, params, key)
    run = _Compiled(env)
    _check_determinism(run, params, key)
    _check_play(run, params, jax.random.fold_in(key, 1), num_steps)
    limit = jnp.full_like(params.max_steps, TIME_LIMIT)
    ended = _check_play(run, params.replace(max_steps=limit), jax.random.fold_in(key, 2), num_steps)
    _require(ended > 0, env, f"no episode ends in {num_steps} steps with max_steps = {TIME_LIMIT}")
    _check_time_limit(run, params, jax.random.fold_in(key, 3), num_steps)
    if stochastic:
        _check_randomness(run, params, jax.random.fold_in(key, 4))
    _check_transformations(run, params, jax.random.fold_in(key, 5), num_envs)
    for name, count in run.traces.items():
        _require(count <= 1, env, f"{name} was traced {count} times for the same shapes")
    _check_64_bit(run, params, jax.random.fold_in(key, 6))


def _check_static(env: Environment) -> None:
    """Frozen, hashable, equal to its copies; spaces and metrics that make sense."""
    frozen = dataclasses.is_dataclass(env) and type(env).__dataclass_params__.frozen
    _require(frozen, env, "the class is not a frozen dataclass")
    try:
        hash(env)
    except TypeError as error:
        _fail(env, f"not hashable ({error}); fields are numbers, strings and tuples", error)
    for name, clone in (("copy.deepcopy", copy.deepcopy), ("pickle", _pickled)):
        try:
            other = clone(env)
        except Exception as error:
            _fail(env, f"{name} fails: {_short(error)}", error)
        same = other == env and hash(other) == hash(env)
        _require(same, env, f"{name} gives an environment that is not equal or hashes differently")
    space = _eager(env, "observation_space", lambda: env.observation_space)
    _eager(env, "action_space.mask", lambda: env.action_space.mask())
    _require(isinstance(space, spaces.Box), env, f"observation_space is {space}, not a Box")
    _require(
        np.dtype(space.dtype) == env.float_dtype,
        env,
        f"observation_space has dtype {space.dtype}, the environment {env.dtype}",
    )
    names = [metric.name for metric in env.metrics]
    _require(len(set(names)) == len(names), env, f"metrics have repeated names: {names}")
    for metric in env.metrics:
        text = f"metric {metric.name!r}"
        _require(metric.direction in ("min", "max"), env, f"{text}: direction {metric.direction!r}")
        _require(metric.pool in POOLS, env, f"{text}: pool {metric.pool!r} is none of {POOLS}")
        over = ("sum", "mean", "quantile") if metric.over is None else ("ratio", "quantile")
        _require(metric.pool in over, env, f"{text}: `over` goes with pool='ratio' or 'quantile'")
        _require(0 <= metric.level <= 1, env, f"{text}: level {metric.level} is not in [0, 1]")
    names = [constraint.name for constraint in env.constraints]
    _require(len(set(names)) == len(names), env, f"constraints have repeated names: {names}")


def _check_params(env: Environment, params: Any) -> None:
    """A scenario of arrays of the environment's dtype, accepted by ``validate``."""
    _check_arrays(env, "params", params)
    _check_dtypes(env, "params", params)
    limit = getattr(params, "max_steps", None)
    ok = limit is not None and limit.shape == () and limit.dtype == np.int32
    _require(ok, env, f"params.max_steps is {limit}, not an int32 scalar")
    try:
        env.validate(params)
    except Exception as error:
        _fail(env, f"validate refuses the scenario: {_short(error)}", error)


def _check_trees(env: Environment, params: Any, key: chex.PRNGKey) -> None:
    """Shapes and dtypes of everything returned, and the same tree after a reset and a step."""
    reset = _traced(env, "reset", env.reset, key, params)
    observation, state = reset
    for name, dtype in (("key", None), ("time", np.int32)):
        leaf = getattr(state, name, None)
        ok = leaf is not None and leaf.shape == () and (dtype is None or leaf.dtype == dtype)
        _require(ok, env, f"state.{name} is {leaf} after reset; make the state a jaxenv.State")
    mask = _traced(env, "action_mask", env.action_mask, state, params)
    _check_mask_shape(env, mask)
    action = _traced(env, "action_space.sample", lambda k, m: _sample(env, k, m), key, mask)
    moved = _traced(env, "transition", env.transition, state, action, params)[1]
    _same_tree(env, "the state returned by transition", moved, "by reset", state)
    returned = _traced(env, "step", env.step, key, state, action, params)
    _require(len(returned) == 6, env, f"step returns {len(returned)} values, not 6")
    next_observation, next_state, reward, terminated, truncated, info = returned
    _same_tree(env, "the state returned by step", next_state, "by reset", state)
    _same_tree(env, "the observation returned by step", next_observation, "by reset", observation)
    shape = (*_agent_axis(env), *env.observation_space.shape)
    _describe_leaf(env, "the observation", observation, shape, env.float_dtype)
    _describe_leaf(env, "the reward", reward, (), env.float_dtype)
    _describe_leaf(env, "terminated", terminated, (), np.bool_)
    _describe_leaf(env, "truncated", truncated, (), np.bool_)
    for name in ("terminated", "truncated", "decision_pending"):
        _require(name in info, env, f"info[{name!r}] is missing")
        _describe_leaf(env, f"info[{name!r}]", info[name], (), np.bool_)
    _require("final_observation" in info, env, "info['final_observation'] is missing")
    _describe_leaf(
        env, "info['final_observation']", info["final_observation"], shape, env.float_dtype
    )
    _check_dtypes(env, "state", state)
    _check_dtypes(env, "info", info)
    for metric in env.metrics:
        for source in (metric.of, metric.over):
            if source in (None, "reward"):
                continue
            text = f"metric {metric.name!r} needs info[{source!r}]"
            _require(source in info, env, f"{text}, which is missing; info has {sorted(info)}")
            _require(info[source].shape == (), env, f"{text} as a scalar, not {info[source].shape}")
    for constraint in env.constraints:
        text = f"constraint {constraint.name!r} needs"
        for source in (*constraint.of, *constraint.over):
            missing = f"{text} info[{source!r}], which is missing; info has {sorted(info)}"
            _require(source in info, env, missing)
        if constraint.limit is not None:
            leaf = getattr(params, constraint.limit, None)
            scalar = leaf is not None and jnp.shape(leaf) == ()
            _require(scalar, env, f"{text} the scalar params.{constraint.limit}")
    if env.num_agents > 1:
        _require(hasattr(env, "global_state"), env, "num_agents > 1 without global_state")
        world = _traced(env, "global_state", env.global_state, state, params)
        _check_dtypes(env, "global_state", world)


class _Compiled:
    """The compiled functions of an environment, and how often each was traced."""

    def __init__(self, env: Environment):
        self.env = env
        self.traces: dict[str, int] = {}
        self.reset = self._jit("reset", env.reset)
        self.step = self._jit("step", env.step)
        self.transition = self._jit("transition", self._transition)
        self.decide = self._jit("action_mask", self._decide)

    def _jit(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        self.traces[name] = 0

        def counted(*arguments: Any) -> Any:
            self.traces[name] += 1
            return function(*arguments)

        return jax.jit(counted)

    def _transition(self, state: Any, action: Any, params: Any) -> Any:
        env = self.env
        returned = env.transition(state, action, params)
        after = returned[1]
        return returned, env.observe(after, params), env.is_truncated(after, params)

    def _decide(self, key: chex.PRNGKey, state: Any, params: Any) -> Any:
        env = self.env
        mask = env.action_mask(state, params)
        action = _sample(env, key, mask)
        inside = env.action_space.contains
        inside = jax.vmap(inside)(action).all() if env.num_agents > 1 else inside(action)
        choices = [leaf.any(-1).all() for leaf in jax.tree.leaves(mask)]
        return action, inside, jnp.all(jnp.asarray(choices, bool))


def _check_determinism(run: _Compiled, params: Any, key: chex.PRNGKey) -> None:
    """Everything follows from the arguments, and jit = eager."""
    env = run.env
    reset = _check_eager(env, "reset", env.reset, run.reset, key, params)
    _check_arrays(env, "state", reset[1])
    action, _, _ = run.decide(key, reset[1], params)
    state = run.step(key, reset[1], action, params)[1]
    action, _, _ = run.decide(key, state, params)
    _check_eager(env, "step", env.step, run.step, key, state, action, params)


def _check_eager(
    env: Environment,
    name: str,
    function: Callable[..., Any],
    compiled: Callable[..., Any],
    *arguments: Any,
) -> Any:
    eager = _eager(env, name, function, *arguments)
    difference = _differs(compiled(*arguments), eager)
    if difference:
        again = _differs(eager, _eager(env, name, function, *arguments), exact=True)
        _require(not again, env, f"{name} is not determined by its arguments: {again}")
        _fail(env, f"{name} under jit differs from eager: {difference}")
    return eager


def _check_play(run: _Compiled, params: Any, key: chex.PRNGKey, num_steps: int) -> int:
    """Random valid play with automatic reset; every step is checked. Returns the episodes ended."""
    env, ended = run.env, 0
    observation, state = run.reset(key, params)
    _check_start(env, key, state)
    _check_numbers(env, "reset", observation, state, {})
    pending = True
    for index in range(num_steps):
        step_key, action_key = jax.random.split(jax.random.fold_in(key, index))
        action, inside, has_choice = run.decide(action_key, state, params)
        if pending:
            _require(has_choice, env, f"action_mask allows nothing at step {index}")
            _require(inside, env, f"the mask allows an action outside the space: {action}")
        before = state
        observation, state, reward, terminated, truncated, info = run.step(
            step_key, state, action, params
        )
        _check_numbers(env, f"step {index}", observation, state, info | {"reward": reward})
        _require(not (terminated and truncated), env, "terminated and truncated are both true")
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            _require(bool(info[name]) == bool(flag), env, f"info[{name!r}] differs from {name}")
        returned, last, limit_reached = run.transition(before, action, params)
        _check_transition(env, before, returned, params, limit_reached)
        text = "info['final_observation'] is not the observation of the last state"
        _same_values(env, text, info["final_observation"], last)
        text = "step differs from transition"
        _same_values(env, text, (reward, terminated, truncated), returned[2:5])
        _same_values(env, f"{text} in info", info, returned[5])
        if terminated or truncated:
            ended += 1
            fresh = run.reset(step_key, params)
            text = "at the end of an episode step does not return what reset(key) returns"
            _same_values(env, text, (observation, state), fresh)
        else:
            _same_values(env, text, (observation, state), returned[:2])
        pending = bool(info["decision_pending"] | terminated | truncated)
    return ended


def _check_time_limit(run: _Compiled, params: Any, key: chex.PRNGKey, num_steps: int) -> None:
    """A time limit truncates: it never terminates what a longer limit would let go on."""
    env = run.env
    short = params.replace(max_steps=jnp.full_like(params.max_steps, TIME_LIMIT))
    long = params.replace(max_steps=jnp.full_like(params.max_steps, 4 * TIME_LIMIT))
    for episode_key in jax.random.split(key, 4):
        states = [run.reset(episode_key, p)[1] for p in (short, long)]
        for index in range(num_steps):
            action, _, _ = run.decide(jax.random.fold_in(episode_key, index), states[0], short)
            pair = zip(states, (short, long), strict=True)
            (_, a, _, ended, cut, _), (_, b, _, long_ended, long_cut, _) = (
                run.transition(state, action, p)[0] for state, p in pair
            )
            text = f"terminated at step {index + 1} with max_steps = {TIME_LIMIT} but not with a "
            _require(long_ended or not ended, env, text + "longer limit; a time limit truncates")
            if ended or cut or long_ended or long_cut:
                break
            states = [a, b]


def _check_randomness(run: _Compiled, params: Any, key: chex.PRNGKey) -> None:
    """Two keys give two episodes."""
    env = run.env
    keys = jax.random.split(key)
    lanes = [run.reset(k, params) for k in keys]
    for index in range(4 * TIME_LIMIT):
        if _differs(*[(o, s.replace(key=key)) for o, s in lanes]):
            return
        action_key = jax.random.fold_in(key, index)
        actions = [run.decide(action_key, state, params)[0] for _, state in lanes]
        lanes = [
            run.transition(state, action, params)[0][:2]
            for (_, state), action in zip(lanes, actions, strict=True)
        ]
    _fail(env, "two keys give the same episode; say stochastic=False if nothing is random")


def _check_transformations(run: _Compiled, params: Any, key: chex.PRNGKey, num_envs: int) -> None:
    """vmap over states and scenarios = a loop, and params are optional."""
    env = run.env
    keys = jax.random.split(key, num_envs)
    lanes = []
    for index, lane_key in enumerate(keys):
        state = run.reset(lane_key, params)[1]
        for step in range(index):
            action, _, _ = run.decide(jax.random.fold_in(lane_key, step), state, params)
            state = run.step(lane_key, state, action, params)[1]
        action, _, _ = run.decide(lane_key, state, params)
        lanes.append((lane_key, state, action, params))
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *lanes)
    try:
        resets = jax.jit(jax.vmap(env.reset))(batch[0], batch[3])
        steps = jax.jit(jax.vmap(env.step))(*batch)
    except Exception as error:
        _fail(env, f"vmap over keys, states, actions and params fails: {_short(error)}", error)
    for index, lane in enumerate(lanes):
        for name, function, batched, arguments in (
            ("reset", run.reset, resets, (lane[0], lane[3])),
            ("step", run.step, steps, lane),
        ):
            own = jax.tree.map(lambda leaf: leaf[index], batched)  # noqa: B023
            text = f"{name} under vmap differs from a loop"
            _same_values(env, text, own, function(*arguments))
    default = _traced(env, "reset without params", env.reset, keys[0])[0]
    given = _traced(env, "reset", env.reset, keys[0], params)[0]
    _same_tree(env, "the observation of the default scenario", default, "given", given)


def _check_64_bit(run: _Compiled, params: Any, key: chex.PRNGKey) -> None:
    """With 64-bit mode on, the same dtypes and the same numbers."""
    env = run.env
    if jax.config.jax_enable_x64:
        return
    reset = run.reset(key, params)
    action, _, _ = run.decide(key, reset[1], params)
    step = run.step(key, reset[1], action, params)
    with jax.enable_x64(True):
        _check_dtypes(env, "params in 64-bit mode", env.default_params())
        wide = jax.jit(env.reset)(key, params)
        _check_dtypes(env, "state in 64-bit mode", wide[1])
        _check_dtypes(env, "observation in 64-bit mode", wide[0])
        text = "in 64-bit mode reset gives other numbers; give every draw a dtype"
        _same_values(env, text, wide, reset)
        wide = jax.jit(env.step)(key, reset[1], action, params)
        for name, part in (("state", wide[1]), ("reward", wide[2]), ("info", wide[5])):
            _check_dtypes(env, f"{name} in 64-bit mode", part)
        text = "in 64-bit mode step gives other numbers; give every draw a dtype"
        _same_values(env, text, wide, step)


# ---- one step ---------------------------------------------------------------------------------


def _check_start(env: Environment, key: chex.PRNGKey, state: Any) -> None:
    _require(state.time == 0, env, f"state.time is {state.time} after reset, not 0")
    kept = np.array_equal(jax.random.key_data(state.key), jax.random.key_data(key))
    _require(kept, env, "state.key after reset is not the key of the episode")


def _check_transition(
    env: Environment, before: Any, returned: Any, params: Any, limit_reached: Any
) -> None:
    _, after, _, terminated, truncated, _ = returned
    _require(after.time == before.time + 1, env, f"state.time goes {before.time} -> {after.time}")
    kept = np.array_equal(jax.random.key_data(before.key), jax.random.key_data(after.key))
    _require(kept, env, "step changes state.key, the key of the episode")
    if type(env).is_truncated is Environment.is_truncated:
        limit_reached = after.time >= params.max_steps
    expected = bool(limit_reached & ~terminated)
    text = f"truncated is {truncated} at time {after.time} with max_steps = {params.max_steps}"
    _require(bool(truncated) == expected, env, f"{text} and terminated = {terminated}")


def _check_numbers(env: Environment, where: str, observation: Any, state: Any, info: Any) -> None:
    """No NaN; what is learned from or measured is finite."""
    sources = {"reward", *(name for metric in env.metrics for name in metric.sources)}
    measured = {name: info[name] for name in sources & set(info)}
    for path, leaf in _leaves({"observation": observation, "info": measured}):
        if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
            _fail(env, f"{path} is not finite after {where}: {leaf}")
    for path, leaf in _leaves({"state": state, "info": info}):
        if leaf.dtype.kind == "f" and np.isnan(leaf).any():
            _fail(env, f"{path} has NaN after {where}: {leaf}")
    if not env.observation_space.contains(observation):
        _fail(env, f"the observation is outside its space after {where}: {observation}")


def _sample(env: Environment, key: chex.PRNGKey, mask: Any) -> Any:
    if env.num_agents == 1:
        return env.action_space.sample(key, mask)
    return jax.vmap(env.action_space.sample)(jax.random.split(key, env.num_agents), mask)


def _agent_axis(env: Environment) -> tuple[int, ...]:
    return (env.num_agents,) if env.num_agents > 1 else ()


def _check_mask_shape(env: Environment, mask: Any) -> None:
    full = env.action_space.mask()
    expected = jax.tree.map(lambda leaf: (*_agent_axis(env), *leaf.shape), full)
    shapes = jax.tree.map(lambda leaf: tuple(leaf.shape), mask)
    _require(shapes == expected, env, f"action_mask has shape {shapes}, the space {expected}")
    for leaf in jax.tree.leaves(mask):
        _require(leaf.dtype == np.bool_, env, f"action_mask has dtype {leaf.dtype}, not bool")


# ---- leaves -----------------------------------------------------------------------------------


def _leaves(tree: Any) -> list[tuple[str, Any]]:
    """Names and NumPy values of the leaves of a tree; typed keys as their data."""
    named = jax.tree_util.tree_leaves_with_path(tree)
    values = [_numbers(leaf) for _, leaf in named]
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in named]
    return list(zip(names, values, strict=True))


def _numbers(leaf: Any) -> np.ndarray:
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def _check_arrays(env: Environment, name: str, tree: Any) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        text = jax.tree_util.keystr(path, simple=True, separator=".")
        ok = isinstance(leaf, (jax.Array, np.ndarray))
        _require(ok, env, f"{name}.{text} is {leaf!r}, not an array")


def _check_dtypes(env: Environment, name: str, tree: Any) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        place = jax.tree_util.keystr(path, simple=True, separator=".")
        text = f"{name}: {place} has dtype {leaf.dtype}"
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            _require(
                leaf.dtype == env.float_dtype,
                env,
                f"{text}, the environment {env.dtype}",
            )
        wide = leaf.dtype in (np.dtype("int64"), np.dtype("uint64"), np.dtype("complex128"))
        _require(not wide, env, f"{text}; integers are int32")


def _describe_leaf(env: Environment, name: str, leaf: Any, shape: Any, dtype: Any) -> None:
    ok = hasattr(leaf, "shape") and tuple(leaf.shape) == tuple(shape) and leaf.dtype == dtype
    _require(ok, env, f"{name} is {leaf}, not {np.dtype(dtype).name}{list(shape)}")


def _same_tree(env: Environment, name: str, tree: Any, other_name: str, other: Any) -> None:
    """The same structure, and leaves of the same shape, dtype and weak type."""
    structures = jax.tree.structure(tree), jax.tree.structure(other)
    if structures[0] != structures[1]:
        _fail(env, f"{name} is {structures[0]}; {other_name} it was {structures[1]}")
    named = jax.tree_util.tree_leaves_with_path(tree)
    for (path, leaf), before in zip(named, jax.tree.leaves(other), strict=True):
        text = jax.tree_util.keystr(path, simple=True, separator=".")
        _require(
            _aval(leaf) == _aval(before),
            env,
            f"{name}: {text} is {_aval(leaf)}; {other_name} it was {_aval(before)}",
        )


def _aval(leaf: Any) -> str:
    weak = " (weak type: give it a dtype)" if leaf.weak_type else ""
    return f"{leaf.dtype}{list(leaf.shape)}{weak}"


def _same_values(env: Environment, text: str, tree: Any, other: Any) -> None:
    difference = _differs(tree, other)
    _require(not difference, env, f"{text}: {difference}")


def _differs(tree: Any, other: Any, exact: bool = False) -> str:
    """The first difference of two trees, or nothing. Integers and flags are compared exactly."""
    if jax.tree.structure(tree) != jax.tree.structure(other):
        return f"{jax.tree.structure(tree)} against {jax.tree.structure(other)}"
    for (name, a), (_, b) in zip(_leaves(tree), _leaves(other), strict=True):
        if a.shape != b.shape or a.dtype.kind != b.dtype.kind or not _close(a, b, exact):
            return f"{name or 'value'} is {a} against {b}"
    return ""


def _close(a: np.ndarray, b: np.ndarray, exact: bool) -> bool:
    if exact or a.dtype.kind != "f":
        return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    tolerance = 1e-9 if a.dtype == np.float64 else 1e-4
    finite = np.abs(b[np.isfinite(b)])
    scale = finite.max() if finite.size else 0.0
    return np.allclose(a, b, rtol=tolerance, atol=tolerance * scale, equal_nan=True)


# ---- failing ----------------------------------------------------------------------------------


def _require(ok: Any, env: Environment, text: str) -> None:
    if not ok:
        _fail(env, text)


def _fail(env: Environment, text: str, cause: BaseException | None = None) -> None:
    raise AssertionError(" ".join(f"{type(env).__name__}: {text}".split())) from cause


def _traced(env: Environment, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return jax.eval_shape(function, *arguments)
    except Exception as error:
        _fail(env, f"{name} cannot be traced: {_short(error)}", error)


def _eager(env: Environment, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception as error:
        _fail(env, f"{name} fails: {_short(error)}", error)


def _pickled(env: Environment) -> Environment:
    return pickle.loads(pickle.dumps(env))


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]
