"""HAPPO: proximal policy optimisation of heterogeneous agents, one after another.

Agents with policies of their own share one advantage. Each, in a random order, ascends a clipped
surrogate in which the advantage is weighted by how much the agents before it have already changed
the probability of what was done. Source: J. Kuba et al., "Trust Region Policy Optimisation in
Multi-Agent Reinforcement Learning", ICLR 2022; as a baseline of "Joint DNN Model Deployment,
Selection, and Configuration for Heterogeneous Inference Services Toward Edge Intelligence", IEEE
Transactions on Mobile Computing, 2025 (HISPER, `agents.hisper`). Sub-actions are independent.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
import optax

from agents import checks, steps, team
from agents.critics import JointCritic
from agents.learner import Learner
from agents.sequential import SequentialActor, SequentialPolicy
from agents.spread import gathered
from agents.team import Lane, Scale, Team
from jaxenv import struct
from jaxenv.environment import Environment, as_key


@struct.dataclass
class Hyperparameters:
    """Traced scalars; a grid of them trains as one program.

    lr_actor, lr_critic: of Adam. discount: per step. trace_decay: lambda of GAE. clip: by how much
    the ratio of probabilities, and a value in units of the deviation, may leave the old one.
    entropy_weight: of the mean entropy of a joint action. huber: where the value's loss becomes
    linear. max_gradient_norm: of actors and critic. value_decay: of the running mean and deviation
    of the returns.
    """

    lr_actor: chex.Array
    lr_critic: chex.Array
    discount: chex.Array
    trace_decay: chex.Array
    clip: chex.Array
    entropy_weight: chex.Array
    huber: chex.Array
    max_gradient_norm: chex.Array
    value_decay: chex.Array


@struct.dataclass
class HappoState:
    """A whole training run: one pytree, from which it resumes exactly.

    actors, actor_optimizer: ``[n, ...]``. updates: calls of `update`.
    """

    actors: Any
    actor_optimizer: Any
    critic: Any
    critic_optimizer: Any
    scale: Scale
    lanes: Lane
    updates: chex.Array
    key: chex.PRNGKey


@struct.dataclass
class Rollout:
    """What was met, ``[T, W]`` of each: T steps of W environments, agents first where there are.

    observation, mask: ``[T, n, W, ...]``. choice: int32 ``[T, n, W, heads]``. world, final_world:
    of the state and of the one it led to.
    """

    observation: chex.Array
    mask: chex.Array
    choice: chex.Array
    world: chex.Array
    final_world: chex.Array
    reward: chex.Array
    terminated: chex.Array
    done: chex.Array


@dataclasses.dataclass(frozen=True)
class Happo(Learner):
    """HAPPO on an environment of several agents with Discrete or MultiDiscrete actions.

    embedding: width of an embedded group. actor_hidden, critic_hidden: widths of the layers.
    num_envs: that collect. rollout_length: steps of each per `update`. epochs: passes over them.
    schedule_updates: calls of `update` after which the learning rates have fallen linearly to a
    twentieth; 0 = constant.
    """

    embedding: int = 32
    actor_hidden: tuple[int, ...] = (256, 256)
    critic_hidden: tuple[int, ...] = (512, 512, 256, 256, 128)
    num_envs: int = 20
    rollout_length: int = 100
    epochs: int = 5
    schedule_updates: int = 0

    name: ClassVar[str] = "happo"

    def __post_init__(self) -> None:
        checks.check_fields(self)

    # ---- the contract -------------------------------------------------------------------------

    @property
    def shared_environments(self) -> int:
        return self.num_envs

    @classmethod
    def unsupported(cls, env: Environment) -> str | None:
        return team.unsupported(env)

    def default_hp(self) -> Hyperparameters:
        return self.scalars(
            Hyperparameters(
                lr_actor=2e-4,
                lr_critic=5e-4,
                discount=0.99,
                trace_decay=0.95,
                clip=0.2,
                entropy_weight=0.01,
                huber=10.0,
                max_gradient_norm=10.0,
                value_decay=0.999,
            )
        )

    def validate(self, hp: Hyperparameters) -> None:
        positive = ("lr_actor", "lr_critic", "clip", "huber", "max_gradient_norm")
        rules = dict.fromkeys(positive, checks.POSITIVE)
        rules |= dict.fromkeys(("discount", "trace_decay"), checks.UNIT)
        rules |= {"entropy_weight": checks.NOT_NEGATIVE, "value_decay": checks.BELOW_ONE}
        checks.check_hyperparameters(hp, rules)

    def init(self, key: chex.PRNGKey, params: Any, hp: Hyperparameters) -> HappoState:
        key_actor, key_critic, key_lanes, key = jax.random.split(as_key(key), 4)
        dtype = self.env.float_dtype
        actors = self._team.first_actors(self.actor, key_actor)
        critic = self.critic.init(key_critic, jnp.zeros(self._team.state_size, dtype))
        return HappoState(
            actors=actors,
            actor_optimizer=jax.vmap(_adam.init)(actors),
            critic=critic,
            critic_optimizer=_adam.init(critic),
            scale=Scale.start(1, dtype),
            lanes=self._team.start(jax.random.split(key_lanes, self.num_envs), params),
            updates=jnp.int32(0),
            key=key,
        )

    def update(
        self, state: HappoState, params: Any, hp: Hyperparameters
    ) -> tuple[HappoState, dict[str, chex.Array]]:
        """A rollout of every environment, then ``epochs`` over it for every agent and the critic.

        Args:
            state: of the run so far.
            params: the scenario; each leaf may carry a leading axis ``num_envs``.
            hp: the hyperparameters.

        Returns:
            The state and scalars: ``actor_loss``, ``entropy`` (nat, of an agent), ``ratio`` (mean
            distance from 1 of the last epoch), ``critic_loss``. ``mean_reward``: per step.
            ``decisions`` taken: steps. What `tally.add` counts.
        """
        hp = self.scalars(hp)
        hp = self._scheduled(hp, state.updates)
        key_rollout, key_order, key = jax.random.split(state.key, 3)
        lanes, rollout, counts = self.collect(state.actors, state.lanes, key_rollout, params)
        value = state.scale.value(self.critic.apply(state.critic, rollout.world))[..., 0]
        ahead = state.scale.value(self.critic.apply(state.critic, rollout.final_world))[..., 0]
        ends = rollout.terminated, rollout.done
        advantage = steps.advantages(
            rollout.reward, value, ahead, *ends, hp.discount, hp.trace_decay
        )
        actors, actor_optimizer, acted = self._learn_actors(
            state, rollout, _standard(advantage), key_order, hp
        )
        critic, critic_optimizer, scale, loss = self._learn_critic(
            state, rollout.world, value, value + advantage, hp
        )
        metrics = {name: jnp.sum(x, dtype=x.dtype) for name, x in counts.items()}
        metrics["mean_reward"] /= self.rollout_length * self.num_envs
        state = HappoState(
            actors=actors,
            actor_optimizer=actor_optimizer,
            critic=critic,
            critic_optimizer=critic_optimizer,
            scale=scale,
            lanes=lanes,
            updates=state.updates + 1,
            key=key,
        )
        return state, metrics | acted | {"critic_loss": loss}

    def policy(self, state: HappoState) -> SequentialPolicy:
        return SequentialPolicy(state.actors, self.actor, self._team.branches)

    # ---- networks -----------------------------------------------------------------------------

    @property
    def actor(self) -> SequentialActor:
        """From an agent's observation to its sub-actions."""
        return SequentialActor(
            **self._team.actor_shape(),
            embedding=self.embedding,
            hidden=self.actor_hidden,
            width=0,
            autoregressive=False,
            dtype=self.env.float_dtype,
        )

    @property
    def critic(self) -> JointCritic:
        """From the global state to its normalised value."""
        return JointCritic(
            **self._team.critic_shape(),
            embedding=self.embedding,
            hidden=self.critic_hidden,
            outputs=1,
            acting=False,
            dtype=self.env.float_dtype,
        )

    @property
    def _team(self) -> Team:
        return Team(self.env)

    # ---- collecting ---------------------------------------------------------------------------

    def collect(
        self, actors: Any, lanes: Lane, key: chex.PRNGKey, params: Any
    ) -> tuple[Lane, Rollout, dict[str, chex.Array]]:
        """``rollout_length`` steps of every environment; also counts ``[T]`` of `Team.step`."""
        act = jax.vmap(self.actor.apply)

        def one(lanes: Lane, key: chex.PRNGKey) -> tuple[Lane, Any]:
            key_act, key_resets = jax.random.split(key)
            view = self._team.view(gathered(lanes.env_state), params)
            noise = jax.random.gumbel(key_act, view.mask.shape, self.env.float_dtype)
            one_hot, _ = act(actors, view.observation, view.mask, noise)
            choice = jnp.argmax(one_hot, axis=-1).astype(jnp.int32)
            resets = jax.random.split(key_resets, self.num_envs)
            lanes, made, counts = self._team.step(lanes, choice, resets, params)
            record = Rollout(
                **view._asdict(),
                choice=choice,
                final_world=self._team.view(made.after, params).world,
                reward=made.reward[:, 0],
                terminated=made.terminated,
                done=made.done,
            )
            return lanes, (record, counts)

        keys = jax.random.split(key, self.rollout_length)
        lanes, (rollout, counts) = jax.lax.scan(one, lanes, keys)
        return lanes, rollout, counts

    # ---- learning -----------------------------------------------------------------------------

    def _learn_actors(
        self,
        state: HappoState,
        rollout: Rollout,
        gain: chex.Array,
        key: chex.PRNGKey,
        hp: Hyperparameters,
    ) -> tuple[Any, Any, dict[str, chex.Array]]:
        """``epochs`` of every actor, in a random order; gain: normalised advantage ``[T, W]``."""
        agents = self.env.num_agents

        def rows(x: chex.Array) -> chex.Array:
            """``[T, n, W, ...]`` to ``[n, T W, ...]``."""
            x = jnp.moveaxis(x, 1, 0)
            return x.reshape(agents, -1, *x.shape[3:])

        observation, mask, choice = map(rows, (rollout.observation, rollout.mask, rollout.choice))

        def probabilities(actor: Any, n: chex.Array) -> tuple[chex.Array, chex.Array]:
            """log pi of what was done, and the entropy, ``[T W]``."""
            noise = jnp.zeros(mask.shape[1:], self.env.float_dtype)
            _, log_probability = self.actor.apply(actor, observation[n], mask[n], noise)
            taken = jnp.take_along_axis(log_probability, choice[n][..., None], axis=-1)
            probability = jnp.where(mask[n], jnp.exp(log_probability), 0)
            entropy = -jnp.sum(probability * log_probability, axis=(-2, -1))
            return jnp.sum(taken, axis=(-2, -1)), entropy

        def one(carry: tuple[Any, ...], n: chex.Array) -> tuple[Any, Any]:
            actors, optimizers, gain = carry
            actor, optimizer = jax.tree.map(lambda x: x[n], (actors, optimizers))
            old, _ = probabilities(actor, n)

            def loss(actor: Any) -> tuple[chex.Array, tuple[chex.Array, chex.Array]]:
                new, entropy = probabilities(actor, n)
                ratio = jnp.exp(new - old)
                near = jnp.clip(ratio, 1 - hp.clip, 1 + hp.clip)
                surrogate = jnp.mean(jnp.minimum(ratio * gain, near * gain))
                entropy = jnp.mean(entropy)
                return -surrogate - hp.entropy_weight * entropy, (ratio, entropy)

            def epoch(learned: tuple[Any, Any], _: None) -> tuple[Any, Any]:
                actor, optimizer = learned
                (cost, (ratio, entropy)), gradient = jax.value_and_grad(loss, has_aux=True)(actor)
                learned = _descend(actor, optimizer, gradient, hp.lr_actor, hp)
                return learned, (cost, entropy, jnp.mean(jnp.abs(ratio - 1)))

            (actor, optimizer), (cost, entropy, away) = jax.lax.scan(
                epoch, (actor, optimizer), length=self.epochs
            )
            new, _ = probabilities(actor, n)
            put = lambda whole, own: whole.at[n].set(own)  # noqa: E731
            actors, optimizers = jax.tree.map(put, (actors, optimizers), (actor, optimizer))
            metrics = {"actor_loss": cost[-1], "entropy": entropy[-1], "ratio": away[-1]}
            return (actors, optimizers, jnp.exp(new - old) * gain), metrics

        order = jax.random.permutation(key, agents)
        start = (state.actors, state.actor_optimizer, gain.reshape(-1))
        (actors, optimizers, _), metrics = jax.lax.scan(one, start, order)
        return actors, optimizers, {name: jnp.mean(x) for name, x in metrics.items()}

    def _learn_critic(
        self,
        state: HappoState,
        world: chex.Array,
        value: chex.Array,
        target: chex.Array,
        hp: Hyperparameters,
    ) -> tuple[Any, Any, Scale, chex.Array]:
        """``epochs`` of the critic on returns ``[T, W]``, near its old values."""
        scale = state.scale.add(target.reshape(-1, 1), hp.value_decay)
        critic = state.scale.carried(state.critic, scale)
        old, goal = scale.normalised(value[..., None]), scale.normalised(target[..., None])

        def loss(critic: Any) -> chex.Array:
            new = self.critic.apply(critic, world)
            near = old + jnp.clip(new - old, -hp.clip, hp.clip)
            far, close = (optax.losses.huber_loss(x, goal, delta=hp.huber) for x in (new, near))
            return jnp.mean(jnp.maximum(far, close))

        def epoch(learned: tuple[Any, Any], _: None) -> tuple[Any, Any]:
            critic, optimizer = learned
            cost, gradient = jax.value_and_grad(loss)(critic)
            return _descend(critic, optimizer, gradient, hp.lr_critic, hp), cost

        (critic, optimizer), cost = jax.lax.scan(
            epoch, (critic, state.critic_optimizer), length=self.epochs
        )
        return critic, optimizer, scale, cost[-1]

    def _scheduled(self, hp: Hyperparameters, updates: chex.Array) -> Hyperparameters:
        share = steps.falling(self.schedule_updates, updates, self.env.float_dtype)
        return hp.replace(lr_actor=share * hp.lr_actor, lr_critic=share * hp.lr_critic)


_adam = optax.scale_by_adam(eps=1e-5)


def _standard(x: chex.Array) -> chex.Array:
    return (x - jnp.mean(x)) / (jnp.std(x) + 1e-8)


def _descend(
    parameters: Any, optimizer: Any, gradient: Any, lr: chex.Array, hp: Hyperparameters
) -> tuple[Any, Any]:
    """One step of Adam on a gradient of limited norm."""
    gradient = steps.limited(gradient, hp.max_gradient_norm)
    return steps.descended(_adam, parameters, optimizer, gradient, lr)
