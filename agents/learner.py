"""The contracts of a policy, a learner and a bound, and the one way anything is measured.

A `Policy` decides; a `Learner` makes policies; a `Bound` says what no policy can beat. `evaluate`
runs a policy over many episodes in one compiled call and pools the environment's declared metrics.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from agents.choices import choices_of
from agents.histogram import Histogram
from agents.spread import mesh_for, spread
from jaxenv import spaces, struct
from jaxenv.environment import Constraint, Environment, Metric, as_key, cast_leaf
from jaxenv.errors import ConfigError


@struct.dataclass
class Policy:
    """A pytree that decides: learned policies, heuristics and optimisers alike.

    uses_state: True for a policy that reads the environment's state, not only the observation.
    max_episodes: the most episodes that a table spends on a slow policy; None = no limit.
    """

    uses_state: ClassVar[bool] = False
    max_episodes: ClassVar[int | None] = None

    @property
    def env_overrides(self) -> Mapping[str, Any]:
        """Static fields of the environment that belong to this policy (its allocation, say)."""
        return {}

    def init(self, key: chex.PRNGKey, env: Environment, params: Any) -> Any:
        """The policy's memory at the start of an episode; a pytree of fixed shape."""
        return ()

    def act(
        self,
        carry: Any,
        key: chex.PRNGKey,
        observation: chex.Array,
        mask: Any,
        state: Any,
        params: Any,
    ) -> tuple[Any, Any]:
        """``(action, carry)`` for one decision."""
        raise NotImplementedError


@struct.dataclass
class RandomPolicy(Policy):
    """Uniform over the valid actions of a Discrete or MultiDiscrete space."""

    def act(self, carry, key, observation, mask, state, params):
        logits = jnp.where(mask, jnp.float32(0.0), -jnp.inf)
        return jax.random.categorical(key, logits, axis=-1).astype(jnp.int32), carry


@struct.dataclass
class Bound:
    """A certified limit on one metric, computed on the very trace a policy met.

    metric: the name of the metric it limits. The limit itself is ``numerator / denominator``,
    summed over episodes like the metric's own terms.
    """

    metric: ClassVar[str] = ""

    def init(self, key: chex.PRNGKey, env: Environment, params: Any) -> Any:
        """Memory at the start of an episode."""
        return (jnp.zeros((), env.float_dtype), jnp.zeros((), env.float_dtype))

    def update(self, carry: Any, state: Any, action: Any, info: dict, params: Any) -> Any:
        """Memory after a step that left ``state`` by ``action`` and returned ``info``."""
        raise NotImplementedError

    def terms(self, carry: Any) -> tuple[chex.Array, chex.Array]:
        """``(numerator, denominator)`` of an episode."""
        return carry


@dataclasses.dataclass(frozen=True)
class Learner:
    """Static configuration of an algorithm on an environment; all that changes is in its state.

    Subclasses are frozen dataclasses of sizes. ``hp`` is a pytree of traced scalars, so grids of
    hyperparameters, scenarios and seeds train as one vmapped program.

    env: the environment it learns on.
    """

    env: Environment

    name: ClassVar[str] = ""

    @classmethod
    def build(cls, env: Environment, **options: Any) -> tuple[Learner, Any]:
        """``(learner, hp)`` from one flat set of names: sizes and hyperparameters.

        Raises:
            ConfigError: a name that is neither, or a value that cannot be used.
        """
        require_support(cls, env)
        sizes = {f.name for f in dataclasses.fields(cls)} - {"env"}
        learner = cls(env, **{k: v for k, v in options.items() if k in sizes})
        hp = learner.default_hp()
        known = {f.name for f in dataclasses.fields(hp)}
        for name, value in options.items():
            if name in sizes:
                continue
            if name not in known:
                valid = ", ".join(sorted(known | sizes))
                raise ConfigError(f"{cls.name}.{name}", value, f"known names are {valid}")
            hp = hp.replace(**{name: cast_leaf(name, value, getattr(hp, name))})
        learner.validate(hp)
        return learner, hp

    def scalars(self, hp: Any) -> Any:
        """``hp`` with every leaf in the environment's float dtype."""
        return jax.tree.map(lambda x: jnp.asarray(x, self.env.float_dtype), hp)

    def validate(self, hp: Any) -> None:
        """Refuses hyperparameters that cannot be used, with a `ConfigError`."""

    @classmethod
    def unsupported(cls, env: Environment) -> str | None:
        """Why this learner does not fit ``env``, or None where it does."""
        raise NotImplementedError

    def default_hp(self) -> Any:
        """The hyperparameters that learn best, as a pytree of scalars."""
        raise NotImplementedError

    def init(self, key: chex.PRNGKey, params: Any, hp: Any) -> Any:
        """The whole state of a training run, one pytree."""
        raise NotImplementedError

    def update(self, state: Any, params: Any, hp: Any) -> tuple[Any, dict[str, chex.Array]]:
        """One collect-and-learn iteration: pure, fixed shapes. Returns the state and metrics."""
        raise NotImplementedError

    def policy(self, state: Any) -> Policy:
        """The policy learned so far, greedy."""
        raise NotImplementedError


def require_support(learner: type[Learner], env: Environment) -> None:
    """Refuses a learner on an environment it does not fit."""
    reason = learner.unsupported(env)
    if reason is not None:
        raise ConfigError("agent", learner.name, f"it does not fit env={env.name}: {reason}")


def unsupported_observation(env: Environment) -> str | None:
    """Why ``env`` is not one agent that observes a Box, or None where it is."""
    if env.num_agents != 1:
        return f"it needs one agent, not {env.num_agents}"
    if not isinstance(env.observation_space, spaces.Box):
        return f"it needs a Box observation, not {type(env.observation_space).__name__}"
    return None


def unsupported_reward(env: Environment) -> str | None:
    """Why the scalar reward of ``env`` teaches nothing, or None where it does."""
    if getattr(env, "reward_mode", None) == "own":
        return 'it learns from the scalar reward, which is 0 with reward_mode="own"'
    return None


def scenario_axes(env: Environment, params: Any) -> Any:
    """Per leaf, 0 where ``params`` carries a leading axis of environments, else None."""
    return jax.tree.map(
        lambda leaf, one: 0 if jnp.ndim(leaf) > jnp.ndim(one) else None,
        params,
        jax.eval_shape(env.default_params),
    )


@struct.dataclass
class EpisodeTerms:
    """What `evaluate` measured: per metric and episode, a numerator and a denominator.

    Leaves have shape ``[..., num_episodes]``; leading axes are scenarios or seeds.
    bound: the same two for the bound, or None. Where they were counted, violations: of every
    constraint, violations and what could have violated, likewise; actions: decisions by action, a
    array for each part of an action, see `agents.choices`.
    Of many episodes that `agents.streaming` measured, leaves are sums over groups of consecutive
    ones; histograms: of every metric's value in each of the num_episodes episodes.
    """

    numerator: dict[str, chex.Array]
    denominator: dict[str, chex.Array]
    bound: tuple[chex.Array, chex.Array] | None = None
    violations: dict[str, tuple[chex.Array, chex.Array]] | None = None
    actions: tuple[chex.Array, ...] | None = None
    histograms: dict[str, Histogram] | None = None
    num_episodes: int | None = None

    @property
    def episodes(self) -> int:
        """How many episodes were measured."""
        return self.num_episodes or next(iter(self.numerator.values())).shape[-1]


def effective_env(env: Environment, policy: Policy) -> Environment:
    """The environment as a policy is measured in it: with the policy's own overrides."""
    return dataclasses.replace(env.for_evaluation(), **policy.env_overrides)


def rollout(
    env: Environment,
    params: Any,
    policy: Policy,
    key: chex.PRNGKey,
    num_episodes: int,
    bound: Bound | None = None,
    mesh: Mesh | None = None,
    count: bool = False,
) -> EpisodeTerms:
    """Runs ``num_episodes`` whole episodes in parallel and sums the terms of every metric.

    Episode ``i`` is the same for every policy under one key: same arrivals, channels and noise.
    mesh: of devices that share the episodes equally. count: also violations and actions.
    """
    kinds = (type(policy), type(bound))
    return _rollout(env, params, policy, key, num_episodes, bound, mesh, count, kinds)


@partial(jax.jit, static_argnames=("env", "num_episodes", "mesh", "count", "kinds"))
def _rollout(
    env: Environment,
    params: Any,
    policy: Policy,
    key: chex.PRNGKey,
    num_episodes: int,
    bound: Bound | None,
    mesh: Mesh | None,
    count: bool,
    kinds: tuple[type, type],
) -> EpisodeTerms:
    """`rollout`. kinds: the classes of policy and bound, which their trees may not tell apart."""
    keys = tuple(jax.random.split(k, num_episodes) for k in jax.random.split(as_key(key)))
    run = partial(_episodes, effective_env(env, policy), count)
    return spread(run, mesh, (None, None, None, 0))(params, policy, bound, keys)


def _episodes(
    env: Environment,
    count: bool,
    params: Any,
    policy: Policy,
    bound: Bound | None,
    keys: tuple[chex.PRNGKey, chex.PRNGKey],
) -> EpisodeTerms:
    """Terms of the episodes of keys of episodes and of policies, ``[num_episodes]`` each."""
    episode_keys, policy_keys = keys
    sources = sorted({s for m in env.metrics for s in (m.of, m.over) if s is not None})
    constraints = env.constraints if count else ()
    choices = choices_of(env.action_space, env.num_agents) if count else ()

    def start(episode_key: chex.PRNGKey, policy_key: chex.PRNGKey) -> dict[str, Any]:
        observation, state = env.reset(episode_key, params)
        zero = jnp.zeros((), env.float_dtype)
        return {
            "observation": observation,
            "state": state,
            "carry": policy.init(policy_key, env, params),
            "bound": bound.init(policy_key, env, params) if bound is not None else (),
            "sums": dict.fromkeys(sources, zero),
            "steps": zero,
            "done": jnp.asarray(False),
            "count": jnp.int32(0),
            "violations": {c.name: (zero, zero) for c in constraints},
            "deciding": jnp.asarray(True) if count else (),
        }

    def step(policy_key: chex.PRNGKey, lane: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        state = lane["state"]
        mask = env.action_mask(state, params)
        action_key = jax.random.fold_in(policy_key, lane["count"])
        action, carry = policy.act(
            lane["carry"], action_key, lane["observation"], mask, state, params
        )
        observation, next_state, reward, terminated, truncated, info = env.transition(
            state, action, params
        )
        info = info | {"reward": reward}
        pending = info["decision_pending"] | terminated | truncated
        after = {
            "observation": observation,
            "state": next_state,
            "carry": carry,
            "bound": bound.update(lane["bound"], state, action, info, params) if bound else (),
            "sums": {name: lane["sums"][name] + info[name] for name in sources},
            "steps": lane["steps"] + pending,
            "done": terminated | truncated,
            "count": lane["count"] + pending,
            "violations": {
                c.name: tuple(map(jnp.add, lane["violations"][c.name], _trials(c, info, env)))
                for c in constraints
            },
            "deciding": info["decision_pending"] if count else (),
        }
        taken = [part.taken(action, mask, lane["deciding"] & ~lane["done"]) for part in choices]
        return jax.tree.map(lambda new, old: jnp.where(lane["done"], old, new), after, lane), taken

    def turn(carry: tuple[dict[str, Any], Any]) -> tuple[dict[str, Any], Any]:
        lanes, actions = carry
        lanes, taken = jax.vmap(step)(policy_keys, lanes)
        return lanes, [part.add(*own) for part, *own in zip(choices, actions, taken, strict=True)]

    lanes = jax.vmap(start)(episode_keys, policy_keys)
    lanes, actions = jax.lax.while_loop(
        lambda carry: ~jnp.all(carry[0]["done"]), turn, (lanes, [part.none() for part in choices])
    )
    ones = jnp.ones(episode_keys.shape, env.float_dtype)
    numerator, denominator = {}, {}
    for metric in env.metrics:
        numerator[metric.name] = lanes["sums"][metric.of] * metric.scale
        if metric.pool in ("ratio", "quantile") and metric.over is not None:
            denominator[metric.name] = lanes["sums"][metric.over]
        else:
            denominator[metric.name] = lanes["steps"] if metric.pool == "mean" else ones
    terms = None
    if bound is not None:
        terms = jax.vmap(bound.terms)(lanes["bound"])
    if not count:
        return EpisodeTerms(numerator, denominator, terms)
    return EpisodeTerms(
        numerator,
        denominator,
        terms,
        {c.name: _violations(c, *lanes["violations"][c.name], params) for c in constraints},
        tuple(counts[None] for counts in actions),  # an axis of devices
    )


def _trials(
    constraint: Constraint, info: dict[str, Any], env: Environment
) -> tuple[chex.Array, chex.Array]:
    """Violations of a step, or what is limited; and of how many."""
    every = jnp.asarray(jnp.size(info[constraint.of[0]]), env.float_dtype)
    found, trials = (
        sum(jnp.sum(info[name], dtype=env.float_dtype) for name in names)
        for names in (constraint.of, constraint.over)
    )
    return found, trials if constraint.over else every


def _violations(
    constraint: Constraint, sums: chex.Array, trials: chex.Array, params: Any
) -> tuple[chex.Array, chex.Array]:
    """Violations and trials of episodes; of a limited ratio an episode is one trial."""
    if constraint.limit is None:
        return sums, trials
    over = sums > getattr(params, constraint.limit) * trials
    return over.astype(sums.dtype), (trials > 0).astype(sums.dtype)


def rollout_seeds(
    env: Environment,
    params: Any,
    policies: Policy,
    key: chex.PRNGKey,
    num_episodes: int,
    bound: Bound | None = None,
    mesh: Mesh | None = None,
    count: bool = False,
) -> EpisodeTerms:
    """`rollout` of policies stacked along a leading axis, all on the same episodes."""
    kinds = (type(policies), type(bound))
    return _rollout_seeds(env, params, policies, key, num_episodes, bound, mesh, count, kinds)


@partial(jax.jit, static_argnames=("env", "num_episodes", "mesh", "count", "kinds"))
def _rollout_seeds(
    env: Environment,
    params: Any,
    policies: Policy,
    key: chex.PRNGKey,
    num_episodes: int,
    bound: Bound | None,
    mesh: Mesh | None,
    count: bool,
    kinds: tuple[type, type],
) -> EpisodeTerms:
    def run(policy: Policy) -> EpisodeTerms:
        return rollout(env, params, policy, key, num_episodes, bound, mesh, count)

    return jax.vmap(run)(policies)


def evaluate(
    env: Environment,
    params: Any,
    policy: Policy,
    key: chex.PRNGKey,
    num_episodes: int,
    bound: Bound | None = None,
    chunk: int = 256,
    on_chunk: Callable[[int], None] | None = None,
    seeds: bool = False,
) -> EpisodeTerms:
    """Measures a policy over ``num_episodes`` episodes, the one way anything is measured.

    Args:
        env, params: where. ``policy.env_overrides`` are applied to ``env``.
        policy: any `Policy`.
        key: two policies evaluated under one key meet the same episodes, for one ``chunk``.
        num_episodes: how many whole episodes.
        bound: evaluated on the same trace, if given.
        chunk: episodes that run in parallel in one compiled call, shared equally by as many devices
            as divide it.
        on_chunk: called with the number of episodes just finished (for a progress bar).
        seeds: whether every leaf of ``policy`` has a leading axis of training seeds.

    Returns:
        Terms of every metric with leaves ``[num_episodes]``, or ``[num_seeds, num_episodes]``
        with ``seeds``; pool them with `summarize`.
    """
    parts = []
    for part in chunks(env, params, policy, key, num_episodes, bound, chunk, seeds):
        parts.append(part)
        if on_chunk is not None:
            on_chunk(part.episodes)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=-1), *parts)


def chunks(
    env: Environment,
    params: Any,
    policy: Policy,
    key: chex.PRNGKey,
    num_episodes: int,
    bound: Bound | None = None,
    chunk: int = 256,
    seeds: bool = False,
    count: bool = False,
) -> Iterator[EpisodeTerms]:
    """The terms of `evaluate`, chunk by chunk and on the host. count: also violations, actions."""
    if num_episodes < 1:
        raise ConfigError("num_episodes", num_episodes, "give a positive integer")
    if len(jax.local_devices()) > 1:  # arrays of one device do not go where several compute
        policy, params = jax.device_get((policy, params))
    run = rollout_seeds if seeds else rollout
    for finished in range(0, num_episodes, chunk):
        size = min(chunk, num_episodes - finished)
        part_key = jax.random.fold_in(as_key(key), finished)
        part = run(env, params, policy, part_key, size, bound, mesh_for(size), count)
        yield jax.device_get(part)


MOST_UNITS = 4096


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A pooled metric with its 95 % bootstrap interval and its relative gap to the bound."""

    metric: str
    unit: str
    mean: float
    ci_low: float
    ci_high: float
    gap_to_bound: float | None
    episodes: int
    seeds: int


def pool(metric: Metric, numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """One number per leading index from terms ``[..., num_episodes]``, as the metric declares.

    NaN where nothing was counted.
    """
    if metric.pool == "quantile":
        values = ratios(numerator, denominator)
        counted = denominator != 0
        if counted.all():
            return np.quantile(values, metric.level, axis=-1)
        known = counted.any(axis=-1)
        rest = np.where(known[..., None], values, 0.0)  # nanquantile warns of nothing but NaN
        return np.where(known, np.nanquantile(rest, metric.level, axis=-1), np.nan)
    total = denominator.sum(-1)
    return np.where(total > 0, numerator.sum(-1) / np.where(total > 0, total, 1.0), np.nan)


def ratios(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """What an episode counts for by itself; NaN where its denominator is 0."""
    counted = denominator != 0
    return np.where(counted, numerator / np.where(counted, denominator, 1.0), np.nan)


def pooled(metric: Metric, terms: EpisodeTerms, by_seed: bool = False) -> np.ndarray:
    """A metric of all seeds together, ``[1]``, or of each, ``[num_seeds]``."""
    numerator = np.atleast_2d(np.asarray(terms.numerator[metric.name], np.float64))
    denominator = np.atleast_2d(np.asarray(terms.denominator[metric.name], np.float64))
    if metric.pool == "quantile" and numerator.shape[1] < terms.episodes:
        histogram, seeds = terms.histograms[metric.name], np.arange(len(numerator))
        rows = seeds[:, None] if by_seed else seeds[None]
        return np.array([histogram.quantiles([metric.level], own)[0][0] for own in rows])
    rows = len(numerator) if by_seed else 1
    return pool(metric, numerator.reshape(rows, -1), denominator.reshape(rows, -1))


def summarize(
    metrics: tuple[Metric, ...],
    terms: EpisodeTerms,
    bound_metric: str | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> list[Estimate]:
    """Pools terms ``[num_seeds, num_episodes]`` (or ``[num_episodes]``) into estimates.

    Intervals are percentile bootstraps over seeds, then over episodes within each drawn seed. Of
    more than `MOST_UNITS` episodes, it is groups of consecutive ones that are drawn, and a quantile
    is resampled from a histogram: memory does not grow with the resamples.
    """
    rows = []
    rng = np.random.default_rng(seed)
    seeds = len(np.atleast_2d(next(iter(terms.numerator.values()))))
    episodes = terms.episodes
    units = min(episodes, MOST_UNITS)
    drawn_seeds = rng.integers(seeds, size=(num_resamples, seeds))
    drawn_units = rng.integers(units, size=(num_resamples, seeds, units))
    for metric in metrics:
        numerator = np.atleast_2d(np.asarray(terms.numerator[metric.name], np.float64))
        denominator = np.atleast_2d(np.asarray(terms.denominator[metric.name], np.float64))
        mean = float(pooled(metric, terms)[0])
        if episodes > units and metric.pool == "quantile":
            if terms.histograms is None:
                histogram = Histogram(seeds)
                histogram.add(ratios(numerator, denominator))
            else:
                histogram = terms.histograms[metric.name]
            resampled = histogram.resampled([metric.level], drawn_seeds, rng)[:, 0]
        else:
            picks = (drawn_seeds[:, :, None], drawn_units)
            resampled = pool(
                metric,
                _grouped(numerator, units)[picks].reshape(num_resamples, -1),
                _grouped(denominator, units)[picks].reshape(num_resamples, -1),
            )
        counted = resampled[~np.isnan(resampled)]
        low, high = np.quantile(counted, [0.025, 0.975]) if counted.size else (np.nan, np.nan)
        gap = None
        if terms.bound is not None and metric.name == bound_metric and np.isfinite(mean):
            limit = bound_value(terms)
            gap = abs(mean - limit) / abs(limit) if limit else None
        rows.append(
            Estimate(metric.name, metric.unit, mean, float(low), float(high), gap, episodes, seeds)
        )
    return rows


def _grouped(terms: np.ndarray, units: int) -> np.ndarray:
    """Sums ``[seeds, units]`` of terms ``[seeds, episodes]`` over consecutive episodes."""
    episodes = terms.shape[1]
    if episodes == units:
        return terms
    return np.add.reduceat(terms, np.arange(units) * episodes // units, axis=1)


def bound_value(terms: EpisodeTerms) -> float:
    """The pooled bound of evaluated terms."""
    numerator, denominator = (np.asarray(x, np.float64).sum() for x in terms.bound)
    return float(numerator / denominator) if denominator else 0.0
