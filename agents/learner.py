"""The contracts of a policy, a learner and a bound, and the one way anything is measured.

A `Policy` decides; a `Learner` makes policies; a `Bound` says what no policy can beat. `evaluate`
runs a policy over many episodes in one compiled call and pools the environment's declared metrics.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from agents.spread import fetched, mesh_for, spread
from jaxenv import spaces, struct
from jaxenv.environment import Environment, Metric, as_key, cast_leaf
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

    @property
    def shared_environments(self) -> int:
        """Environments of a run that devices may share: those of `spread.over_environments`."""
        return 1

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
    bound: the same two for the bound, or None.
    """

    numerator: dict[str, chex.Array]
    denominator: dict[str, chex.Array]
    bound: tuple[chex.Array, chex.Array] | None = None


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
) -> EpisodeTerms:
    """Runs ``num_episodes`` whole episodes in parallel and sums the terms of every metric.

    Episode ``i`` is the same for every policy under one key: same arrivals, channels and noise.
    mesh: of devices that share the episodes equally.
    """
    kinds = (type(policy), type(bound))
    return _rollout(env, params, policy, key, num_episodes, bound, mesh, kinds)


@partial(jax.jit, static_argnames=("env", "num_episodes", "mesh", "kinds"))
def _rollout(
    env: Environment,
    params: Any,
    policy: Policy,
    key: chex.PRNGKey,
    num_episodes: int,
    bound: Bound | None,
    mesh: Mesh | None,
    kinds: tuple[type, type],
) -> EpisodeTerms:
    """`rollout`. kinds: the classes of policy and bound, which their trees may not tell apart."""
    keys = tuple(jax.random.split(k, num_episodes) for k in jax.random.split(as_key(key)))
    run = partial(_episodes, effective_env(env, policy))
    return spread(run, mesh, (None, None, None, 0))(params, policy, bound, keys)


def _episodes(
    env: Environment,
    params: Any,
    policy: Policy,
    bound: Bound | None,
    keys: tuple[chex.PRNGKey, chex.PRNGKey],
) -> EpisodeTerms:
    """Terms of the episodes of keys of episodes and of policies, ``[num_episodes]`` each."""
    episode_keys, policy_keys = keys
    sources = sorted({s for m in env.metrics for s in (m.of, m.over) if s is not None})

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
        }

    def step(policy_key: chex.PRNGKey, lane: dict[str, Any]) -> dict[str, Any]:
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
        }
        return jax.tree.map(lambda new, old: jnp.where(lane["done"], old, new), after, lane)

    lanes = jax.vmap(start)(episode_keys, policy_keys)
    lanes = jax.lax.while_loop(
        lambda lanes: ~jnp.all(lanes["done"]),
        lambda lanes: jax.vmap(step)(policy_keys, lanes),
        lanes,
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
    return EpisodeTerms(numerator, denominator, terms)


def rollout_seeds(
    env: Environment,
    params: Any,
    policies: Policy,
    key: chex.PRNGKey,
    num_episodes: int,
    bound: Bound | None = None,
    mesh: Mesh | None = None,
) -> EpisodeTerms:
    """`rollout` of policies stacked along a leading axis, all on the same episodes."""
    kinds = (type(policies), type(bound))
    return _rollout_seeds(env, params, policies, key, num_episodes, bound, mesh, kinds)


@partial(jax.jit, static_argnames=("env", "num_episodes", "mesh", "kinds"))
def _rollout_seeds(
    env: Environment,
    params: Any,
    policies: Policy,
    key: chex.PRNGKey,
    num_episodes: int,
    bound: Bound | None,
    mesh: Mesh | None,
    kinds: tuple[type, type],
) -> EpisodeTerms:
    run = lambda policy: rollout(env, params, policy, key, num_episodes, bound, mesh)  # noqa: E731
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
    if num_episodes < 1:
        raise ConfigError("num_episodes", num_episodes, "give a positive integer")
    if len(jax.devices()) > 1:  # arrays of one device do not go where several compute
        policy, params = jax.device_get((policy, params))
    parts, finished = [], 0
    while finished < num_episodes:
        size = min(chunk, num_episodes - finished)
        run = rollout_seeds if seeds else rollout
        part_key = jax.random.fold_in(as_key(key), finished)
        part = run(env, params, policy, part_key, size, bound, mesh_for(size))
        parts.append(fetched(part))
        finished += size
        if on_chunk is not None:
            on_chunk(size)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=-1), *parts)


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
        counted = denominator != 0
        values = np.where(counted, numerator / np.where(counted, denominator, 1.0), np.nan)
        if counted.all():
            return np.quantile(values, metric.level, axis=-1)
        known = counted.any(axis=-1)
        rest = np.where(known[..., None], values, 0.0)  # nanquantile warns of nothing but NaN
        return np.where(known, np.nanquantile(rest, metric.level, axis=-1), np.nan)
    total = denominator.sum(-1)
    return np.where(total > 0, numerator.sum(-1) / np.where(total > 0, total, 1.0), np.nan)


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
    is resampled from a histogram of as many bins: memory does not grow with the resamples.
    """
    rows = []
    rng = np.random.default_rng(seed)
    seeds, episodes = np.atleast_2d(next(iter(terms.numerator.values()))).shape
    units = min(episodes, MOST_UNITS)
    drawn_seeds = rng.integers(seeds, size=(num_resamples, seeds))
    drawn_units = rng.integers(units, size=(num_resamples, seeds, units))
    for metric in metrics:
        numerator = np.atleast_2d(np.asarray(terms.numerator[metric.name], np.float64))
        denominator = np.atleast_2d(np.asarray(terms.denominator[metric.name], np.float64))
        mean = float(pool(metric, numerator.reshape(-1), denominator.reshape(-1)))
        if episodes > units and metric.pool == "quantile":
            resampled = _resampled_quantile(metric, numerator, denominator, drawn_seeds, rng)
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


def _resampled_quantile(
    metric: Metric,
    numerator: np.ndarray,
    denominator: np.ndarray,
    drawn_seeds: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """A quantile over episodes in every resample, from a histogram per seed of `MOST_UNITS` bins.

    Bins hold equally many episodes, so a quantile is off by one bin, 1/`MOST_UNITS` in its level.
    """
    counted = denominator != 0
    values = numerator / np.where(counted, denominator, 1.0)
    if not counted.any():
        return np.full(len(drawn_seeds), np.nan)
    middle = (np.arange(MOST_UNITS) + 0.5) / MOST_UNITS
    edges = np.quantile(values[counted], np.linspace(0, 1, MOST_UNITS + 1))
    centres = np.quantile(values[counted], middle)
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, MOST_UNITS - 1)
    counts = [np.bincount(b[c], minlength=MOST_UNITS) for b, c in zip(bins, counted, strict=True)]
    found = []
    for drawn in drawn_seeds:
        total = np.zeros(MOST_UNITS)
        for seed in drawn:
            size = counts[seed].sum()
            total += rng.multinomial(size, counts[seed] / size) if size else 0
        cumulative = np.cumsum(total)
        place = np.searchsorted(cumulative, metric.level * cumulative[-1])
        found.append(centres[place] if cumulative[-1] else np.nan)
    return np.array(found)


def bound_value(terms: EpisodeTerms) -> float:
    """The pooled bound of evaluated terms."""
    numerator, denominator = (np.asarray(x, np.float64).sum() for x in terms.bound)
    return float(numerator / denominator) if denominator else 0.0
