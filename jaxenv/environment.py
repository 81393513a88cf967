"""The environment contract: what an author writes, and what every environment gets from the base.

An author writes a frozen dataclass of sizes with ``default_params``, ``reset_env``, ``step_env``,
``observe``, the two spaces and, where actions can be invalid, ``action_mask``. The base owns time
limits (truncation, never termination), automatic reset, the final observation, dtypes, and the
checks of a scenario when it is built.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Generic, Literal, TypeVar

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxenv import spaces, struct
from jaxenv.errors import ConfigError, known_names


@struct.dataclass
class State:
    """What every state carries.

    key: the episode's key; all exogenous randomness is derived from it and a time index.
    time: int32 number of steps taken in the episode.
    """

    key: chex.PRNGKey
    time: chex.Array


@struct.dataclass
class Params:
    """What every scenario carries: ``max_steps`` (int32), the time limit; never a shape."""

    max_steps: chex.Array


@dataclasses.dataclass(frozen=True)
class Metric:
    """How one quantity is measured over episodes.

    name, unit: as printed in every table. direction: whether ``min`` or ``max`` is better.
    pool: ``sum`` (per-episode sum of ``info[of]``, averaged over episodes), ``mean`` (mean over all
    steps), ``ratio`` (sum of ``info[of]`` over sum of ``info[over]``, over all episodes), or
    ``quantile`` (the ``level`` quantile over episodes of the per-episode sum of ``info[of]``, over
    that of ``info[over]`` if given; episodes where the latter is 0 are left out).
    """

    name: str
    unit: str
    direction: Literal["min", "max"]
    pool: Literal["sum", "mean", "ratio", "quantile"]
    of: str
    over: str | None = None
    level: float = 0.5
    scale: float = 1.0

    @property
    def sources(self) -> tuple[str, ...]:
        """The entries of ``info`` that are summed for it."""
        return (self.of,) if self.over is None else (self.of, self.over)

    def denominator(self, sums: dict[str, chex.Array], steps: chex.Array) -> chex.Array:
        """By what its sum over an episode is divided, from the sums of `sources` and the steps."""
        if self.pool == "mean":
            return steps
        one = self.pool == "sum" or self.over is None
        return jnp.ones_like(steps) if one else sums[self.over]


@dataclasses.dataclass(frozen=True)
class Constraint:
    """What should not happen, and how often it does.

    name: as printed in every table. of: entries of ``info``, numbers of violations in a step; their
    sums over all elements are added up. over: likewise, of what could have violated; () = every
    element of ``info[of[0]]`` in every step. limit: a leaf of the scenario that the episode's ratio
    of the two must not exceed; then it is episodes that violate.
    """

    name: str
    of: tuple[str, ...]
    over: tuple[str, ...] = ()
    limit: str | None = None


ENDS = ("final_observation", "final_action_mask", "terminated", "truncated")
"""Entries of ``info`` that the base adds: how a step ended."""
MOST_STEPS = np.iinfo(np.int32).max
TState = TypeVar("TState", bound=State)
TParams = TypeVar("TParams", bound=Params)
Timestep = tuple[chex.Array, Any, chex.Array, chex.Array, chex.Array, dict[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Environment(Generic[TState, TParams]):
    """Base of all environments. Fields are sizes and options that fix shapes or code: all static.

    dtype: ``float32`` or ``float64``, of every float leaf and every random draw.

    With ``num_agents`` above 1 an environment also has ``global_state(state, params)``, of one
    dimension. Learners may use: reward_parts, the names of the components of the reward, which then
    are in ``info["reward_parts"]`` and sum to it; paid_by_agent, whether ``info["agent_parts"]``,
    ``[num_agents, parts]``, says what each agent adds to them; observation_groups, the sizes of
    consecutive parts of an observation that belong together, () = one part; state_row, the entries
    of each agent, one after the other, at the start of the global state; state_groups, the parts of
    the rest; shared_choice, the sub-action by which agents meet: those that choose the same value
    of it share what it names; choice_groups, how many of the first state_groups have one entry for
    each of its values.
    """

    dtype: str = "float32"

    name: ClassVar[str] = ""
    metrics: ClassVar[tuple[Metric, ...]] = ()
    constraints: ClassVar[tuple[Constraint, ...]] = ()
    num_agents: ClassVar[int] = 1
    reward_parts: ClassVar[tuple[str, ...]] = ()
    paid_by_agent: ClassVar[bool] = False
    observation_groups: ClassVar[tuple[int, ...]] = ()
    state_row: ClassVar[int] = 0
    state_groups: ClassVar[tuple[int, ...]] = ()
    shared_choice: ClassVar[int | None] = None
    choice_groups: ClassVar[int] = 0

    def __post_init__(self) -> None:
        check_dtype(self.dtype)

    # ---- written by the author ----------------------------------------------------------------

    def default_params(self) -> TParams:
        """The published scenario at these sizes."""
        raise NotImplementedError

    def reset_env(self, key: chex.PRNGKey, params: TParams) -> TState:
        """The state at the start of the episode that ``key`` determines."""
        raise NotImplementedError

    def step_env(
        self, key: chex.PRNGKey, state: TState, action: Any, params: TParams
    ) -> tuple[TState, chex.Array, chex.Array, dict[str, Any]]:
        """``(state, reward, terminated, info)`` after one action.

        ``key`` is derived by the base from the episode's key and ``state.time``, so that two
        policies meet the same randomness.
        """
        raise NotImplementedError

    def observe(self, state: TState, params: TParams) -> chex.Array:
        """The observation of a state."""
        raise NotImplementedError

    @property
    def observation_space(self) -> spaces.Space:
        raise NotImplementedError

    @property
    def action_space(self) -> spaces.Space:
        raise NotImplementedError

    def action_mask(self, state: TState, params: TParams) -> Any:
        """True where an action is valid; everything, unless the author says otherwise."""
        return self.action_space.mask()

    def settle(self, state: TState, params: TParams) -> TState:
        """Brings a freshly reset state to its first decision; does nothing to any other state."""
        return state

    def for_evaluation(self) -> Environment:
        """The same system without what only learning needs; metrics must not depend on it."""
        return self

    def reward_unit(self, params: TParams) -> chex.Array:
        """The typical size of a reward, by which learners may divide; 1 unless the author says."""
        return jnp.ones((), self.float_dtype)

    def is_truncated(self, state: TState, params: TParams) -> chex.Array:
        """Whether the time limit has been reached."""
        return state.time >= params.max_steps

    def most_steps(self, params: TParams) -> chex.Array:
        """The most steps that an episode may take, int32; libraries that ask for a limit get it."""
        return params.max_steps

    def validate(self, params: TParams) -> None:
        """Refuses a scenario of concrete values that cannot be simulated, with a `ConfigError`."""

    # ---- owned by the base --------------------------------------------------------------------

    def reset(self, key: chex.PRNGKey, params: TParams | None = None) -> tuple[chex.Array, TState]:
        """``(observation, state)`` at the first decision of the episode that ``key`` determines."""
        params = self.default_params() if params is None else params
        state = self.settle(self.reset_env(as_key(key), params), params)
        return self.observe(state, params), state

    def transition(self, state: TState, action: Any, params: TParams | None = None) -> Timestep:
        """One step without automatic reset: ``obs, state, reward, terminated, truncated, info``."""
        params = self.default_params() if params is None else params
        key = jax.random.fold_in(state.key, state.time)
        time = state.time + 1
        state, reward, terminated, info = self.step_env(key, state, action, params)
        state = state.replace(time=time)
        truncated = self.is_truncated(state, params) & ~terminated
        observation = self.observe(state, params)
        info = {"decision_pending": jnp.asarray(True)} | info
        info |= {
            "final_observation": observation,
            "final_action_mask": self.action_mask(state, params),
            "terminated": terminated,
            "truncated": truncated,
        }
        return observation, state, reward, terminated, truncated, info

    def step(
        self, key: chex.PRNGKey, state: TState, action: Any, params: TParams | None = None
    ) -> Timestep:
        """One step with automatic reset.

        At the end of an episode the returned observation and state are those of a new episode drawn
        from ``key``; ``info["final_observation"]`` and ``info["final_action_mask"]`` are
        always those of the state the action led to.

        Returns:
            observation, state, reward, terminated, truncated, info. ``info`` also holds
            ``terminated``, ``truncated`` and ``decision_pending`` (False only for environments that
            may return before a decision is due: the next action is then ignored).
        """
        params = self.default_params() if params is None else params
        observation, state, reward, terminated, truncated, info = self.transition(
            state, action, params
        )

        done = terminated | truncated
        state = self.restart(key, state, done, params)
        observation = jnp.where(done, self.observe(state, params), observation)
        return observation, state, reward, terminated, truncated, info

    def restart(
        self, key: chex.PRNGKey, state: TState, done: chex.Array, params: TParams
    ) -> TState:
        """The first decision of a new episode drawn from ``key`` where ``done``, else ``state``.

        `step` is `transition`, then `restart`; a learner that needs more of the final state than
        its observation calls the two itself.
        """

        # A loop of at most one turn: under vmap a cond would reset every environment every step.
        def start(carry: tuple[chex.Array, TState]) -> tuple[chex.Array, TState]:
            return jnp.zeros_like(carry[0]), self.reset_env(as_key(key), params)

        _, state = jax.lax.while_loop(lambda carry: carry[0], start, (done, state))
        return self.settle(state, params)

    @property
    def float_dtype(self) -> np.dtype:
        """The dtype of every float leaf, as a NumPy dtype."""
        return np.dtype(self.dtype)

    @property
    def num_actions(self) -> int:
        """Number of actions of a `Discrete` action space."""
        space = self.action_space
        if not isinstance(space, spaces.Discrete):
            raise ConfigError("action_space", space, "num_actions needs a Discrete action space")
        return space.num_values

    @classmethod
    def build(cls, **options: Any) -> tuple[Environment, Any]:
        """An environment and its scenario from one flat set of names.

        Names of static fields size the environment; names of leaves of the scenario replace the
        defaults. Anything else is refused.
        """
        sizes, leaves = cls.sizes_and_leaves(options)
        env = cls(**sizes)
        return env, env.make_params(**leaves)

    @classmethod
    def size_names(cls) -> tuple[str, ...]:
        """The static fields that size an environment."""
        return tuple(f.name for f in dataclasses.fields(cls) if f.init)

    @classmethod
    def sizes_and_leaves(cls, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Options by name as those that size the environment, and all others."""
        names = cls.size_names()
        sizes = {name: value for name, value in options.items() if name in names}
        return sizes, {name: value for name, value in options.items() if name not in names}

    def as_leaf(self, value: Any) -> chex.Array:
        """A value of the default scenario: floats in ``dtype``, others as they are."""
        array = np.asarray(value)
        return jnp.asarray(array, self.float_dtype if array.dtype.kind == "f" else array.dtype)

    def make_params(self, **leaves: Any) -> TParams:
        """The default scenario with some leaves replaced, cast, broadcast and validated."""
        params = self.default_params()
        known = {f.name for f in dataclasses.fields(params)}
        for name, value in leaves.items():
            if name not in known:
                valid = known_names(name, sorted({*known, *self.size_names()}))
                raise ConfigError(f"{self.name}.{name}", value, valid)
            leaf = getattr(params, name)
            params = params.replace(**{name: cast_leaf(name, value, leaf)})
        self.validate(params)
        return params


def as_key(key: chex.PRNGKey) -> chex.PRNGKey:
    """A typed key, whether ``key`` is typed or raw uint32 data."""
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key
    return jax.random.wrap_key_data(key)


def steps_times(steps: chex.Array, factor: int) -> chex.Array:
    """``steps * factor``, int32, at most `MOST_STEPS`."""
    return jnp.where(steps > MOST_STEPS // factor, jnp.int32(MOST_STEPS), steps * factor)


def check_dtype(dtype: str) -> None:
    """Refuses a dtype that is unknown, or float64 while JAX's 64-bit mode is off."""
    if dtype not in ("float32", "float64"):
        raise ConfigError("dtype", dtype, "choose float32 or float64")
    if dtype == "float64" and not jax.config.jax_enable_x64:
        raise ConfigError("dtype", dtype, "enable 64-bit mode first (precision=float64)")


def cast_leaf(name: str, value: Any, leaf: chex.Array) -> chex.Array:
    """``value`` as an array of the dtype and shape of ``leaf``; scalars are broadcast."""
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf" or (array.dtype.kind == "f" and leaf.dtype.kind in "iub"):
            raise TypeError
        if array.dtype.kind == "b" and leaf.dtype != np.bool_:
            raise TypeError
    except (TypeError, ValueError):
        raise ConfigError(name, value, f"give {_describe(leaf)}") from None
    if array.dtype.kind in "f" and np.isnan(array).any():
        raise ConfigError(name, value, f"give {_describe(leaf)} without NaN")
    if array.shape not in ((), leaf.shape):
        raise ConfigError(name, value, f"give {_describe(leaf)}, not shape {array.shape}")
    if leaf.dtype.kind in "iuf":
        limits = (np.finfo if leaf.dtype.kind == "f" else np.iinfo)(leaf.dtype)
        held = np.isinf(array) | ((array >= limits.min) & (array <= limits.max))
        if not held.all():
            valid = f"give {_describe(leaf)} from {limits.min} to {limits.max}"
            raise ConfigError(name, value, valid)
    return jnp.broadcast_to(jnp.asarray(array, leaf.dtype), leaf.shape)


def _describe(leaf: chex.Array) -> str:
    kind = {"f": "a number", "i": "an integer", "u": "an integer", "b": "true or false"}
    text = kind[np.dtype(leaf.dtype).kind]
    return text if leaf.ndim == 0 else f"{text} or an array of shape {tuple(leaf.shape)}"
