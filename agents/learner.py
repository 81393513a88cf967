"""The contracts of a policy, a learner and a bound, and the one way anything is measured.

A `Policy` decides; a `Learner` makes policies; a `Bound` says what no policy can beat. `evaluate`
runs a policy over many episodes in one compiled call and sums the terms of the environment's
declared metrics; `agents.estimates` pools them, and its names are here, too.
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
from agents.estimates import (  # noqa: F401
    MOST_UNITS,
    EpisodeTerms,
    Estimate,
    bound_value,
    pool,
    summarize,
)
from agents.spread import fetched, mesh_for, spread
from jaxenv import spaces, struct
from jaxenv.environment import Constraint, Environment, as_key, cast_leaf
from jaxenv.errors import ConfigError, known_names


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
                valid = known_names(name, sorted(known | sizes))
                raise ConfigError(f"{cls.name}.{name}", value, valid)
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
    seeds: bool = False,
    count: bool = False,
) -> EpisodeTerms:
    """Runs ``num_episodes`` whole episodes in parallel and sums the terms of every metric.

    Episode ``i`` is the same for every policy under one key: same arrivals, channels and noise.
    mesh: of devices that share the episodes equally. seeds: whether every leaf of ``policy`` has a
    leading axis of policies, all of which meet the same episodes. count: also violations and
    actions.
    """
    kinds = (type(policy), type(bound))
    return _rollout(env, params, policy, key, num_episodes, bound, mesh, seeds, count, kinds)


@partial(jax.jit, static_argnames=("env", "num_episodes", "mesh", "seeds", "count", "kinds"))
def _rollout(
    env: Environment,
    params: Any,
    policy: Policy,
    key: chex.PRNGKey,
    num_episodes: int,
    bound: Bound | None,
    mesh: Mesh | None,
    seeds: bool,
    count: bool,
    kinds: tuple[type, type],
) -> EpisodeTerms:
    """`rollout`. kinds: the classes of policy and bound, which their trees may not tell apart."""
    keys = tuple(jax.random.split(k, num_episodes) for k in jax.random.split(as_key(key)))
    run = partial(_episodes, effective_env(env, policy), count)
    run = spread(run, mesh, (None, None, None, 0))
    if seeds:
        return jax.vmap(lambda one: run(params, one, bound, keys))(policy)
    return run(params, policy, bound, keys)


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
    sources = sorted({source for metric in env.metrics for source in metric.sources})
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
    sums, steps = lanes["sums"], lanes["steps"]
    numerator = {m.name: sums[m.of] * m.scale for m in env.metrics}
    denominator = {m.name: m.denominator(sums, steps) for m in env.metrics}
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
    parts = list(chunks(env, params, policy, key, num_episodes, bound, chunk, on_chunk, seeds))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=-1), *parts)


def chunks(
    env: Environment,
    params: Any,
    policy: Policy,
    key: chex.PRNGKey,
    num_episodes: int,
    bound: Bound | None = None,
    chunk: int = 256,
    on_chunk: Callable[[int], None] | None = None,
    seeds: bool = False,
    count: bool = False,
) -> Iterator[EpisodeTerms]:
    """The terms of `evaluate`, chunk by chunk and on the host. count: also violations, actions."""
    if num_episodes < 1:
        raise ConfigError("num_episodes", num_episodes, "give a positive integer")
    if len(jax.devices()) > 1:  # arrays of one device do not go where several compute
        policy, params = jax.device_get((policy, params))
    for finished in range(0, num_episodes, chunk):
        size = min(chunk, num_episodes - finished)
        part_key = jax.random.fold_in(as_key(key), finished)
        part = rollout(env, params, policy, part_key, size, bound, mesh_for(size), seeds, count)
        part = fetched(part)
        if on_chunk is not None:
            on_chunk(size)
        yield part
