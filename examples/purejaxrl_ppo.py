"""PPO in one file, as in PureJaxRL, on ``partitioning`` through the gymnax adapter.

Environments, network, learning: a whole training run is one compiled function. The environment's
MultiDiscrete actions are used as they are, with one softmax per block, and its masks too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import measure
import optax

import jaxenv
from jaxenv.adapters.gymnax import GymnaxEnvironment, GymnaxParams, to_gymnax


@dataclasses.dataclass(frozen=True)
class Config:
    """lanes: decisions taken side by side, of environments or of agents."""

    lanes: int
    heads: int
    choices: int
    steps: int = 60
    updates: int = 100
    epochs: int = 4
    minibatches: int = 8
    width: int = 128
    lr: float = 1e-3
    discount: float = 0.0
    trace_decay: float = 0.95
    clip: float = 0.2
    entropy_weight: float = 0.003
    value_weight: float = 0.5
    max_gradient_norm: float = 0.5


class Seen(NamedTuple):
    """What a decision is made on: ``[lanes, features]``, bool ``[lanes, heads, choices]``."""

    observation: chex.Array
    mask: chex.Array


class Step(NamedTuple):
    """What follows a decision: what the next one is made on, and what this one led to.

    last_observation: before a reset. terminated: not by a time limit. Leaves are ``[lanes, ...]``.
    """

    seen: Seen
    reward: chex.Array
    last_observation: chex.Array
    terminated: chex.Array
    done: chex.Array


class Decision(NamedTuple):
    """One row of the batch that is learned from."""

    seen: Seen
    action: chex.Array
    log_probability: chex.Array
    value: chex.Array


class Outcome(NamedTuple):
    """What is learned from a `Step`. next_value: of its last observation."""

    reward: chex.Array
    next_value: chex.Array
    terminated: chex.Array
    done: chex.Array


class ActorCritic(nn.Module):
    """Logits ``[..., heads, choices]`` and a value ``[...]``, of two networks of two layers."""

    config: Config

    @nn.compact
    def __call__(self, observation: chex.Array) -> tuple[chex.Array, chex.Array]:
        c = self.config

        def network(size: int, scale: float) -> chex.Array:
            hidden = observation
            for _ in range(2):
                init = nn.initializers.orthogonal(2**0.5)
                hidden = nn.tanh(nn.Dense(c.width, kernel_init=init)(hidden))
            return nn.Dense(size, kernel_init=nn.initializers.orthogonal(scale))(hidden)

        logits = network(c.heads * c.choices, 0.01)
        logits = logits.reshape(*observation.shape[:-1], c.heads, c.choices)
        return logits, network(1, 1.0)[..., 0]


def log_probabilities(logits: chex.Array, mask: chex.Array) -> chex.Array:
    """Of every choice; the lowest number where it is not allowed."""
    return jax.nn.log_softmax(jnp.where(mask, logits, jnp.finfo(logits.dtype).min))


def of_action(every: chex.Array, action: chex.Array) -> chex.Array:
    """The log probability ``[...]`` of an action ``[..., heads]``."""
    return jnp.sum(jnp.take_along_axis(every, action[..., None], axis=-1)[..., 0], axis=-1)


def make_train(
    config: Config,
    reset: Callable[[chex.PRNGKey], tuple[Seen, Any]],
    step: Callable[[chex.PRNGKey, Any, chex.Array], tuple[Step, Any]],
) -> Callable[[chex.PRNGKey], Any]:
    """A function of a key that trains and returns the network's weights; jit- and vmap-able.

    reset, step: of all lanes; the latter gets actions int32 ``[lanes, heads]``.
    """
    c = config
    network = ActorCritic(c)
    rate = optax.linear_schedule(c.lr, 0.0, c.updates * c.epochs * c.minibatches)
    optimizer = optax.chain(optax.clip_by_global_norm(c.max_gradient_norm), optax.adam(rate))

    def collect(carry: tuple[Any, ...], key: chex.PRNGKey) -> tuple[Any, Any]:
        weights, seen, state = carry
        key_action, key_step = jax.random.split(key)
        logits, value = network.apply(weights, seen.observation)
        every = log_probabilities(logits, seen.mask)
        action = jax.random.categorical(key_action, every).astype(jnp.int32)
        out, state = step(key_step, state, action)
        decision = Decision(seen, action, of_action(every, action), value)
        _, next_value = network.apply(weights, out.last_observation)
        outcome = Outcome(out.reward, next_value, out.terminated, out.done)
        return (weights, out.seen, state), (decision, outcome)

    def advantages(values: chex.Array, out: Outcome, unit: chex.Array) -> chex.Array:
        next_values = jnp.where(out.terminated, 0.0, out.next_value)
        errors = out.reward / unit + c.discount * next_values - values
        decay = c.discount * c.trace_decay * (1.0 - out.done)

        def back(later: chex.Array, now: tuple[chex.Array, chex.Array]) -> tuple[Any, Any]:
            total = now[0] + now[1] * later
            return total, total

        return jax.lax.scan(back, jnp.zeros_like(errors[0]), (errors, decay), reverse=True)[1]

    def loss(weights: Any, batch: tuple[Decision, chex.Array, chex.Array]) -> chex.Array:
        decision, advantage, target = batch
        logits, value = network.apply(weights, decision.seen.observation)
        every = log_probabilities(logits, decision.seen.mask)
        ratio = jnp.exp(of_action(every, decision.action) - decision.log_probability)
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        clipped = jnp.clip(ratio, 1 - c.clip, 1 + c.clip)
        gain = jnp.mean(jnp.minimum(ratio * advantage, clipped * advantage))
        entropy = -jnp.sum(jnp.where(decision.seen.mask, jnp.exp(every) * every, 0.0), (-2, -1))
        error = jnp.mean((value - target) ** 2)
        return c.value_weight * error - gain - c.entropy_weight * jnp.mean(entropy)

    def learn(carry: tuple[Any, Any], batch: Any) -> tuple[tuple[Any, Any], None]:
        weights, momenta = carry
        changes, momenta = optimizer.update(jax.grad(loss)(weights, batch), momenta, weights)
        return (optax.apply_updates(weights, changes), momenta), None

    def update(carry: tuple[Any, ...], key: chex.PRNGKey) -> tuple[tuple[Any, ...], chex.Array]:
        weights, momenta, seen, state, unit = carry
        key_collect, key_shuffle = jax.random.split(key)
        keys = jax.random.split(key_collect, c.steps)
        (_, seen, state), (decisions, out) = jax.lax.scan(collect, (weights, seen, state), keys)
        unit = jnp.where(unit > 0, unit, jnp.std(out.reward))  # of the first, untrained, rollout
        gains = advantages(decisions.value, out, unit)
        rows = (decisions, gains, gains + decisions.value)
        rows = jax.tree.map(lambda x: x.reshape(c.steps * c.lanes, *x.shape[2:]), rows)

        def epoch(carry: tuple[Any, Any], key: chex.PRNGKey) -> tuple[tuple[Any, Any], None]:
            order = jax.random.permutation(key, c.steps * c.lanes)
            batches = jax.tree.map(
                lambda x: x[order].reshape(c.minibatches, -1, *x.shape[1:]), rows
            )
            return jax.lax.scan(learn, carry, batches)

        keys = jax.random.split(key_shuffle, c.epochs)
        (weights, momenta), _ = jax.lax.scan(epoch, (weights, momenta), keys)
        return (weights, momenta, seen, state, unit), jnp.mean(out.reward)

    def train(key: chex.PRNGKey) -> tuple[Any, chex.Array]:
        key_init, key_reset, key_run = jax.random.split(key, 3)
        seen, state = reset(key_reset)
        weights = network.init(key_init, seen.observation)
        carry = (weights, optimizer.init(weights), seen, state, jnp.zeros(()))
        keys = jax.random.split(key_run, c.updates)
        (weights, *_), rewards = jax.lax.scan(update, carry, keys)
        return weights, rewards

    return train


def greedy(config: Config) -> Callable[..., chex.Array]:
    """``(weights, key, observation, mask)`` to the likeliest action ``[..., heads]``."""

    def choose(weights: Any, key: chex.PRNGKey, observation: chex.Array, mask: chex.Array):
        logits, _ = ActorCritic(config).apply(weights, observation)
        return jnp.argmax(log_probabilities(logits, mask), axis=-1)

    return choose


def lanes_of(
    env: GymnaxEnvironment, params: GymnaxParams, lanes: int
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """``reset`` and ``step`` of many gymnax environments of the six-value form."""

    def reset(key: chex.PRNGKey) -> tuple[Seen, Any]:
        keys = jax.random.split(key, lanes)
        observation, state = jax.vmap(env.reset, (0, None))(keys, params)
        return Seen(observation, jax.vmap(env.action_mask, (0, None))(state, params)), state

    def step(key: chex.PRNGKey, state: Any, action: chex.Array) -> tuple[Step, Any]:
        keys = jax.random.split(key, lanes)
        observation, state, reward, terminated, truncated, info = jax.vmap(
            env.step, (0, 0, 0, None)
        )(keys, state, action, params)
        seen = Seen(observation, info["action_mask"])
        last = info["final_observation"]
        return Step(seen, reward, last, terminated, terminated | truncated), state

    return reset, step


def main() -> None:
    given = measure.arguments(__doc__, steps=384_000, ours=8000).parse_args()
    env, params = jaxenv.make("partitioning", observation="compact")
    adapted, adapted_params = to_gymnax(env, params, api="1.x")
    heads, choices = len(env.action_space.num_values), max(env.action_space.num_values)
    config = Config(lanes=128, heads=heads, choices=choices)
    updates = max(given.steps // (config.lanes * config.steps), 1)
    config = dataclasses.replace(config, updates=updates)
    train = make_train(config, *lanes_of(adapted, adapted_params, config.lanes))
    key = jax.random.key(given.seed)
    weights, rewards = measure.timed("purejaxrl_ppo", lambda: jax.jit(train)(key))
    print(f"mean reward of a slot: {rewards[0]:.4g} at first, {rewards[-1]:.4g} at last")
    policy = measure.Foreign(measure.one_seed(weights), greedy(config), env)
    learned = {"purejaxrl_ppo": policy}
    options = {"synchronous": True, "trace_decay": 0.0, "lr": 2e-3, "entropy_weight": 0.01}
    learned |= measure.train_ours("a3c", env, params, given.ours, given.seed, **options)
    baselines = ("RPDI", "APDI", "GreedyEFT", "LocalSearch")
    measure.report(given, "purejaxrl_ppo", env, params, learned, baselines, ("gymnax",))


if __name__ == "__main__":
    main()
