"""PPO: proximal policy optimisation of one agent or several, with a softmax branch per sub-action.

A rollout of all environments is learned from several times, in minibatches, by the clipped
surrogate. Source: J. Schulman et al., "Proximal Policy Optimization Algorithms", 2017, eq (7), with
the advantages of "High-Dimensional Continuous Control Using Generalized Advantage Estimation", ICLR
2016, eq (16); of several agents, C. Yu et al., "The Surprising Effectiveness of PPO in Cooperative
Multi-Agent Games", NeurIPS 2022 (MAPPO): a critic of the global state and, with ``shared``, one
actor for all agents, which is told whose turn it is. What those leave open:

- The sub-actions of a decision are independent given the observation; its ratio is one number, that
  of the joint probabilities, so it is clipped as a whole. Every agent's decision has its own ratio.
- A time limit is no end: the value of the final state is bootstrapped. A step that reaches no
  decision does not discount, and an action that was ignored has no part in the actor's loss.
- Actor and critic have nothing in common, so each has its own limit of the gradient and no weight
  balances their losses. The critic learns normalised returns, so no reward is too large for it.
- Advantages are normalised over the whole rollout; minibatches are a permutation of it.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
import optax

from agents import branches, checks, collecting, steps, tally, team
from agents.branches import Branches
from agents.collecting import Lane
from agents.distributions import masked_logits, masked_policy
from agents.learner import (
    Learner,
    Policy,
    scenario_axes,
    unsupported_observation,
    unsupported_reward,
)
from agents.networks import BranchActor, StateCritic
from agents.spread import gathered, over_environments
from agents.team import Scale
from jaxenv import struct
from jaxenv.environment import Environment, as_key
from jaxenv.errors import ConfigError


@struct.dataclass
class Hyperparameters:
    """Traced scalars; a grid of them trains as one program.

    lr: of Adam. discount: per decision (gamma). trace_decay: lambda of GAE. clip: by how much the
    ratio of probabilities may leave 1. value_clip: by how much a value, in units of the deviation
    of the returns, may leave the old one; inf = no limit. entropy_weight: of the entropy of a joint
    action. max_gradient_norm: of the actor and of the critic. value_decay: share of the running
    mean and deviation of the returns that one call of `update` keeps.
    """

    lr: chex.Array
    discount: chex.Array
    trace_decay: chex.Array
    clip: chex.Array
    value_clip: chex.Array
    entropy_weight: chex.Array
    max_gradient_norm: chex.Array
    value_decay: chex.Array


@struct.dataclass
class Rollout:
    """What was met, ``[T, W, ...]``: T steps of W environments with n agents.

    observation, mask: ``[T, W, n, ...]``. choice: int32 ``[T, W, n, heads]``. log_probability: of
    each agent's choice, ``[T, W, n]``. world: what the critic sees. reward: over
    ``env.reward_unit``. deciding: whether the choices counted. final_world: of the state they led
    to. discounting: whether that waits for a decision, or is the end. terminated, done: of the
    episode.
    """

    observation: chex.Array
    mask: chex.Array
    choice: chex.Array
    log_probability: chex.Array
    world: chex.Array
    reward: chex.Array
    deciding: chex.Array
    final_world: chex.Array
    discounting: chex.Array
    terminated: chex.Array
    done: chex.Array


@struct.dataclass
class Batch:
    """Rows of a rollout, ``[B, ...]``, as they are learned from.

    gain: normalised advantage. old_value, target: of the critic, normalised.
    """

    observation: chex.Array
    mask: chex.Array
    choice: chex.Array
    log_probability: chex.Array
    deciding: chex.Array
    gain: chex.Array
    world: chex.Array
    old_value: chex.Array
    target: chex.Array


@struct.dataclass
class Parameters:
    """Of both networks; the actor's are ``[n, ...]`` where agents do not share them."""

    actor: Any
    critic: Any


@struct.dataclass
class PPOState:
    """A whole training run: one pytree, from which it resumes exactly.

    scale: of the returns. updates: calls of `update`.
    """

    parameters: Parameters
    optimizer: Any
    scale: Scale
    lanes: Lane
    updates: chex.Array
    key: chex.PRNGKey


@dataclasses.dataclass(frozen=True)
class Actors:
    """The actors of ``agents`` agents; separate: whether each has parameters of its own."""

    network: BranchActor
    agents: int
    separate: bool

    def seen(self, observation: chex.Array) -> chex.Array:
        """What the network sees of observations ``[B, n, ...]``; a shared one, also who it is."""
        if self.network.rows:
            return observation
        size = observation.shape[0]
        observation = observation.reshape(size, self.agents, -1)
        if self.agents == 1 or self.separate:
            return observation
        number = jnp.eye(self.agents, dtype=observation.dtype)
        number = jnp.broadcast_to(number, (size, *number.shape))
        return jnp.concatenate([observation, number], axis=-1)

    def logits(self, parameters: Any, observation: chex.Array) -> chex.Array:
        """Observations ``[B, n, ...]`` of all agents to ``[B, n, heads, outputs]``."""
        seen = self.seen(observation)
        if self.separate:
            return jax.vmap(self.network.apply, (0, 1), 1)(parameters, seen)
        return self.network.apply(parameters, seen)


@struct.dataclass
class PPOPolicy(Policy):
    """The learned policy: the most probable valid value of every sub-action."""

    parameters: Any
    actors: Actors = struct.field(pytree_node=False)
    branches: Branches = struct.field(pytree_node=False)

    def act(self, carry, key, observation, mask, state, params):
        alone = self.actors.agents == 1
        if alone:
            observation, mask = observation[None], mask[None]
        logits = self.actors.logits(self.parameters, observation[None])[0]
        logits = masked_logits(logits, self.branches.head_mask(mask))
        action = self.branches.action(jnp.argmax(logits, axis=-1).astype(jnp.int32))
        return (action[0] if alone else action), carry


@dataclasses.dataclass(frozen=True)
class PPO(Learner):
    """Proximal policy optimisation on an environment with Discrete or MultiDiscrete actions.

    hidden: widths of the hidden layers of actor and critic. num_envs: that collect. rollout_length:
    steps of each per `update`. epochs: passes over them. num_minibatches: of a pass. shared:
    whether several agents have one actor, which also sees the agent's number, or one each.
    schedule_updates: calls of `update` after which the learning rate has fallen linearly to a
    twentieth and the entropy weight to 0; 0 = constant.

    The critic sees the global state, of one agent the observation. One agent's observation
    ``[branches, D]`` gets one row network for all branches; any other is flattened.
    """

    hidden: tuple[int, ...] = (128, 128)
    num_envs: int = 32
    rollout_length: int = 64
    epochs: int = 4
    num_minibatches: int = 4
    shared: bool = True
    schedule_updates: int = 0

    name: ClassVar[str] = "ppo"

    def __post_init__(self) -> None:
        checks.check_fields(self)
        if self.num_rows % self.num_minibatches:
            valid = f"give a divisor of num_envs * rollout_length = {self.num_rows}"
            raise ConfigError("num_minibatches", self.num_minibatches, valid)

    # ---- the contract -------------------------------------------------------------------------

    @property
    def shared_environments(self) -> int:
        return self.num_envs

    @classmethod
    def unsupported(cls, env: Environment) -> str | None:
        if env.num_agents > 1:
            return team.unsupported(env)
        reason = unsupported_observation(env) or unsupported_reward(env)
        return reason or branches.unsupported(env.action_space)

    def default_hp(self) -> Hyperparameters:
        return self.scalars(
            Hyperparameters(
                lr=1e-3,
                discount=0.99,
                trace_decay=0.95,
                clip=0.2,
                value_clip=jnp.inf,
                entropy_weight=0.01,
                max_gradient_norm=0.5,
                value_decay=0.99,
            )
        )

    def validate(self, hp: Hyperparameters) -> None:
        no_limit = (lambda x: x > 0, "give a positive number, inf = no limit")
        rules = {"lr": checks.POSITIVE, "clip": checks.POSITIVE}
        rules |= dict.fromkeys(("discount", "trace_decay"), checks.UNIT)
        rules |= dict.fromkeys(("value_clip", "max_gradient_norm"), no_limit)
        rules |= {"entropy_weight": checks.NOT_NEGATIVE, "value_decay": checks.BELOW_ONE}
        checks.check_hyperparameters(hp, rules)

    def init(self, key: chex.PRNGKey, params: Any, hp: Hyperparameters) -> PPOState:
        key_actor, key_critic, key_lanes, key = jax.random.split(as_key(key), 4)
        start = jax.vmap(self._first_lane, (0, scenario_axes(self.env, params)))
        lanes = start(jax.random.split(key_lanes, self.num_envs), params)
        view = self._view(lanes.env_state, params)
        seen = self.actors.seen(view["observation"])[0]
        if self._separate:
            keys = jax.random.split(key_actor, self.env.num_agents)
            actor = jax.vmap(self.actor.init)(keys, seen)
        else:
            actor = self.actor.init(key_actor, seen)
        parameters = Parameters(actor, self.critic.init(key_critic, view["world"][0]))
        return PPOState(
            parameters=parameters,
            optimizer=_adam.init(parameters),
            scale=Scale.start(1, self.env.float_dtype),
            lanes=lanes,
            updates=jnp.int32(0),
            key=key,
        )

    def update(
        self, state: PPOState, params: Any, hp: Hyperparameters
    ) -> tuple[PPOState, dict[str, chex.Array]]:
        """A rollout of every environment, then ``epochs`` passes over it.

        Args:
            state: of the run so far.
            params: the scenario; each leaf may carry a leading axis ``num_envs``.
            hp: the hyperparameters.

        Returns:
            The state and scalars. Means over the minibatches: ``policy_loss``, ``value_loss``,
            ``entropy`` (nat, of a decision), ``kl`` (nat, from the policy that collected),
            ``clipped`` (share of decisions). ``mean_reward``: per step. ``decisions`` taken: steps
            of all environments. What `tally.add` counts.
        """
        hp = self.scalars(hp)
        hp = self._scheduled(hp, state.updates)
        key_rollout, key_order, key = jax.random.split(state.key, 3)
        actor, critic = state.parameters.actor, state.parameters.critic
        lanes, rollout, counts = self.collect(actor, state.lanes, key_rollout, params)
        value, ahead = (
            state.scale.value(self.critic.apply(critic, world))[..., 0]
            for world in (rollout.world, rollout.final_world)
        )
        advantage = steps.rollout_advantages(rollout, value, ahead, hp)
        scale = state.scale.add((value + advantage).reshape(-1, 1), hp.value_decay)
        batch = self.batch(rollout, value, advantage, scale)
        parameters = state.parameters.replace(critic=state.scale.carried(critic, scale))
        parameters, optimizer, losses = self.learn(
            parameters, state.optimizer, batch, key_order, hp
        )
        metrics = {name: jnp.sum(x, dtype=x.dtype) for name, x in counts.items()}
        metrics["mean_reward"] /= self.num_rows
        state = PPOState(
            parameters=parameters,
            optimizer=optimizer,
            scale=scale,
            lanes=lanes,
            updates=state.updates + 1,
            key=key,
        )
        return state, {name: jnp.mean(x) for name, x in losses.items()} | metrics

    def policy(self, state: PPOState) -> PPOPolicy:
        return PPOPolicy(state.parameters.actor, self.actors, self.branches)

    # ---- networks -----------------------------------------------------------------------------

    @property
    def branches(self) -> Branches:
        """How an agent's action is made of its sub-actions."""
        return Branches.of(self.env.action_space)

    @property
    def actor(self) -> BranchActor:
        """From what an agent sees to the logits of its sub-actions."""
        return BranchActor(
            hidden=self.hidden,
            heads=self.branches.heads,
            outputs=self.branches.outputs,
            rows=self._rows,
            dtype=self.env.float_dtype,
        )

    @property
    def critic(self) -> StateCritic:
        """From the global state to its normalised value ``[..., 1]``."""
        return StateCritic(hidden=self.hidden, rows=self._rows, dtype=self.env.float_dtype)

    @property
    def num_rows(self) -> int:
        """Steps of all environments in a rollout."""
        return self.num_envs * self.rollout_length

    @property
    def actors(self) -> Actors:
        """How the actors of all agents are read."""
        return Actors(self.actor, self.env.num_agents, self._separate)

    @property
    def _rows(self) -> bool:
        shape = self.env.observation_space.shape
        return self.env.num_agents == 1 and len(shape) == 2 and shape[0] == self.branches.heads

    @property
    def _separate(self) -> bool:
        return self.env.num_agents > 1 and not self.shared

    # ---- collecting ---------------------------------------------------------------------------

    def collect(
        self, actor: Any, lanes: Lane, key: chex.PRNGKey, params: Any
    ) -> tuple[Lane, Rollout, dict[str, chex.Array]]:
        """``rollout_length`` steps of every environment; also counts ``[T, W]``."""
        axes = scenario_axes(self.env, params)

        def step(lanes: Lane, key: chex.PRNGKey) -> tuple[Lane, Any]:
            key_choice, key_resets = jax.random.split(key)
            view = self._view(lanes.env_state, params)
            logits, mask = self.actors.logits(actor, view["observation"]), view["mask"]
            choice = jax.random.categorical(key_choice, masked_logits(logits, mask), axis=-1)
            choice = choice.astype(jnp.int32)
            _, log_probability = masked_policy(logits, mask)
            action = self.branches.action(choice)
            if self.env.num_agents == 1:
                action = action[:, 0]
            resets = jax.random.split(key_resets, self.num_envs)
            step_lanes = over_environments(self._lane_step, (0, 0, 0, axes))
            lanes, *rest = step_lanes(lanes, resets, action, params)
            made, counts = gathered(rest)
            record = Rollout(
                **view,
                choice=choice,
                log_probability=_joint(log_probability, choice),
                **made,
            )
            return lanes, (record, counts)

        keys = jax.random.split(key, self.rollout_length)
        lanes, (rollout, counts) = jax.lax.scan(step, lanes, keys)
        return lanes, rollout, counts

    def _lane_step(
        self, lane: Lane, key: chex.PRNGKey, action: chex.Array, params: Any
    ) -> tuple[Lane, dict[str, chex.Array], dict[str, chex.Array]]:
        """One step of one environment: the lane, its part of the rollout, and counts."""
        after, met, counts = collecting.step(self.env, lane, key, action, params)
        made = {
            "reward": met.reward / self.env.reward_unit(params),
            "deciding": lane.deciding,
            "final_world": self._world(met.observation, met.env_state, params),
            "discounting": met.deciding,
            "terminated": met.terminated,
            "done": met.done,
        }
        return after, made, counts | {"mean_reward": met.reward}

    def _first_lane(self, key: chex.PRNGKey, params: Any) -> Lane:
        return Lane(self.env.reset(key, params)[1], jnp.asarray(True), tally.start(self.env))

    def _view(self, states: Any, params: Any) -> dict[str, chex.Array]:
        """What states ``[W, ...]`` show: ``observation``, ``mask`` and ``world`` of `Rollout`."""

        def one(state: Any, params: Any) -> dict[str, chex.Array]:
            observation = self.env.observe(state, params)
            mask = self.env.action_mask(state, params)
            world = self._world(observation, state, params)
            if self.env.num_agents == 1:
                observation, mask = observation[None], mask[None]
            mask = self.branches.head_mask(mask)
            return {"observation": observation, "mask": mask, "world": world}

        axes = scenario_axes(self.env, params)
        return gathered(over_environments(one, (0, axes))(states, params))

    def _world(self, observation: chex.Array, state: Any, params: Any) -> chex.Array:
        """What the critic sees of one state."""
        if self.env.num_agents > 1:
            observation = self.env.global_state(state, params)
        return observation if self._rows else observation.reshape(-1)

    # ---- learning -----------------------------------------------------------------------------

    def batch(
        self, rollout: Rollout, value: chex.Array, advantage: chex.Array, scale: Scale
    ) -> Batch:
        """The rows of a rollout; advantages are normalised over those that decided."""
        count = jnp.maximum(jnp.sum(rollout.deciding), 1)
        mean = jnp.sum(advantage, where=rollout.deciding) / count
        variance = jnp.sum((advantage - mean) ** 2, where=rollout.deciding) / count
        batch = Batch(
            observation=rollout.observation,
            mask=rollout.mask,
            choice=rollout.choice,
            log_probability=rollout.log_probability,
            deciding=rollout.deciding,
            gain=(advantage - mean) / (jnp.sqrt(variance) + 1e-8),
            world=rollout.world,
            old_value=scale.normalised(value),
            target=scale.normalised(value + advantage),
        )
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)

    def learn(
        self,
        parameters: Parameters,
        optimizer: Any,
        batch: Batch,
        key: chex.PRNGKey,
        hp: Hyperparameters,
    ) -> tuple[Parameters, Any, dict[str, chex.Array]]:
        """``epochs`` passes in minibatches; also the parts of every loss."""

        def one(learned: tuple[Parameters, Any], rows: chex.Array) -> tuple[Any, Any]:
            parameters, optimizer = learned
            part = jax.tree.map(lambda x: x[rows], batch)
            gradient, losses = jax.grad(self.loss, has_aux=True)(parameters, part, hp)
            limited = lambda g: steps.limited(g, hp.max_gradient_norm)  # noqa: E731
            gradient = Parameters(
                actor=(jax.vmap(limited) if self._separate else limited)(gradient.actor),
                critic=limited(gradient.critic),
            )
            return steps.descended(_adam, parameters, optimizer, gradient, hp.lr), losses

        order = jax.vmap(lambda key: jax.random.permutation(key, self.num_rows))
        rows = order(jax.random.split(key, self.epochs))
        rows = rows.reshape(self.epochs * self.num_minibatches, -1)
        (parameters, optimizer), losses = jax.lax.scan(one, (parameters, optimizer), rows)
        return parameters, optimizer, losses

    def loss(
        self, parameters: Parameters, batch: Batch, hp: Hyperparameters
    ) -> tuple[chex.Array, dict[str, chex.Array]]:
        """-mean{min(w A, clip(w, 1 - c, 1 + c) A) + beta H} + mean{(R - V)^2}, w the joint ratio.

        The first mean is over decisions, of all agents or, where each has its own actor, of each.
        """
        logits = self.actors.logits(parameters.actor, batch.observation)
        probability, log_probability = masked_policy(logits, batch.mask)
        entropy = -jnp.sum(probability * log_probability, axis=(-2, -1))
        log_ratio = _joint(log_probability, batch.choice) - batch.log_probability
        ratio, gain = jnp.exp(log_ratio), batch.gain[:, None]
        surrogate = jnp.minimum(ratio * gain, jnp.clip(ratio, 1 - hp.clip, 1 + hp.clip) * gain)
        policy_loss = self._mean(-surrogate - hp.entropy_weight * entropy, batch)

        value = self.critic.apply(parameters.critic, batch.world)[..., 0]
        near = batch.old_value + jnp.clip(value - batch.old_value, -hp.value_clip, hp.value_clip)
        far, close = ((x - batch.target) ** 2 for x in (value, near))
        value_loss = jnp.mean(jnp.maximum(far, close))
        loss = (jnp.sum if self._separate else jnp.mean)(policy_loss) + value_loss
        clipped = (jnp.abs(ratio - 1) > hp.clip).astype(ratio.dtype)
        parts = {
            "policy_loss": policy_loss,
            "entropy": self._mean(entropy, batch),
            "kl": self._mean(ratio - 1 - log_ratio, batch),
            "clipped": self._mean(clipped, batch),
        }
        return loss, {name: jnp.mean(x) for name, x in parts.items()} | {"value_loss": value_loss}

    def _mean(self, x: chex.Array, batch: Batch) -> chex.Array:
        """Of ``[B, n]`` over the rows that decided, ``[n]``."""
        total = jnp.sum(x, axis=0, where=batch.deciding[:, None])
        return total / jnp.maximum(jnp.sum(batch.deciding), 1)

    def _scheduled(self, hp: Hyperparameters, updates: chex.Array) -> Hyperparameters:
        if not self.schedule_updates:
            return hp
        of = (self.schedule_updates, updates, self.env.float_dtype)
        share = steps.left(*of)
        return hp.replace(lr=hp.lr * steps.falling(*of), entropy_weight=hp.entropy_weight * share)


_adam = optax.scale_by_adam(eps=1e-5)


def _joint(log_probability: chex.Array, choice: chex.Array) -> chex.Array:
    """log pi of choices ``[..., heads]``, the sum over the heads, of ``[..., heads, outputs]``."""
    taken = jnp.take_along_axis(log_probability, choice[..., None], axis=-1)
    return jnp.sum(taken, axis=(-2, -1))
