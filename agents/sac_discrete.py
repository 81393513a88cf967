"""SAC-Discrete: soft actor-critic with expectations over a masked discrete action space.

Two critics give Q(s, .) of all actions, so every expectation over the policy is an exact sum. The
temperature (lambda) is learned. Source: P. Christodoulou, "Soft Actor-Critic for Discrete Action
Settings" (2019), arXiv:1910.07207; as used for the scheduler of "SAFE: Intelligent Online
Scheduling for Collaborative DNN Inference in Vehicular Network" (`jaxenv.vehicular` has the full
reference), eqs (11) to (14). Where those differ from soft actor-critic they are corrected:

- (11) has Q and log pi without an action: the target takes their expectation over pi(.|s'), and
  bootstraps through a truncation, since the episode's end is a time limit;
- (12) has the minimum of both critics inside the loss, which leaves one of them without a gradient:
  each critic is fitted by its own Q(s, a) of the action taken;
- (13) detaches nothing: Q and lambda are constants in the actor's loss (and Algorithm 1, line 13,
  differentiates by the actor's parameters, not by pi);
- (14) has no expectation and mixes the policies of two steps: the mean over the batch of
  lambda*(H(pi(.|s)) - H_target), the policy detached, minimised over log lambda;
- Table II's target entropy -log(1 + actions) is negative, below any entropy, so lambda only falls:
  it is ``target_entropy="paper"``; ``valid`` has a fixed point.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, Literal

import chex
import jax
import jax.numpy as jnp
import optax

from agents import checks, replay, transitions
from agents.distributions import masked_logits, masked_policy
from agents.learner import Learner, Policy
from agents.networks import MLP, ActionValues
from agents.transitions import Collector, Lane, Transition
from jaxenv import spaces, struct
from jaxenv.environment import Environment, as_key


@struct.dataclass
class Hyperparameters:
    """Traced scalars; a grid of them trains as one vmapped program.

    lr: Adam's learning rate of actor and critics. temperature_lr_ratio: that of the temperature,
    relative to ``lr``; 0 keeps the temperature fixed. discount: per decision (gamma). tau: rate at
    which the target critics follow (tau_soft). temperature: lambda at the start.
    temperature_floor: least lambda. entropy_scale: kappa of ``target_entropy="valid"``.
    reward_scale: multiplies every reward that is learned from. averaging: share of the averaged
    actor that one call of `update` keeps; the average is what `policy` gives, 0 = the latest actor.
    """

    lr: chex.Array
    temperature_lr_ratio: chex.Array
    discount: chex.Array
    tau: chex.Array
    temperature: chex.Array
    temperature_floor: chex.Array
    entropy_scale: chex.Array
    reward_scale: chex.Array
    averaging: chex.Array


@struct.dataclass
class Networks:
    """All that is learned by gradients: parameters of the actor, of both critics (leading axis 2)
    and the logarithm of the temperature."""

    actor: Any
    critics: Any
    log_temperature: chex.Array


@struct.dataclass
class SACState:
    """A whole training run: one pytree, from which it resumes exactly.

    average_actor: exponential average of the actor's parameters, which smooths out the noise of
    the last few gradient updates.
    """

    networks: Networks
    average_actor: Any
    target_critics: Any
    optimizer: Any
    replay: replay.Replay
    lanes: Lane
    key: chex.PRNGKey


@struct.dataclass
class SACPolicy(Policy):
    """The learned policy: the most probable valid action, or one drawn if ``sample``."""

    actor: Any
    network: MLP = struct.field(pytree_node=False)
    sample: bool = struct.field(pytree_node=False, default=False)

    def act(self, carry, key, observation, mask, state, params):
        logits = masked_logits(self.network.apply(self.actor, observation), mask)
        if self.sample:
            action = jax.random.categorical(key, logits, axis=-1)
        else:
            action = jnp.argmax(logits, axis=-1)
        return action.astype(jnp.int32), carry


@dataclasses.dataclass(frozen=True)
class SACDiscrete(Learner):
    """SAC-Discrete on an environment with one Discrete action space.

    hidden: widths of the hidden layers of actor and critics. num_envs: environments that collect in
    parallel. steps_per_iteration: steps of each of them per `update`. updates_per_iteration:
    gradient updates per `update`. batch_size, buffer_size: transitions. learning_starts:
    transitions to collect before the first gradient update. target_entropy: ``valid`` is
    entropy_scale * log(valid actions of the state), which has a fixed point; ``paper`` is
    -log(1 + actions), below any entropy, so the temperature only falls. reward_in_units: learn from
    rewards over ``env.reward_unit(params)``, which makes one temperature fit every scenario.
    schedule_updates: calls of `update` after which the learning rate of actor and critics has
    fallen to a twentieth, linearly over the last four tenths; 0 = constant.
    """

    hidden: tuple[int, ...] = (256, 256)
    num_envs: int = 64
    steps_per_iteration: int = 1
    updates_per_iteration: int = 8
    batch_size: int = 256
    buffer_size: int = 100_000
    learning_starts: int = 1000
    target_entropy: Literal["paper", "valid"] = "valid"
    reward_in_units: bool = True
    schedule_updates: int = 0

    name: ClassVar[str] = "sac_discrete"

    def __post_init__(self) -> None:
        checks.check_fields(self)
        self._collector.check_buffer(self.num_envs, self.buffer_size, self.learning_starts)

    # ---- the contract -------------------------------------------------------------------------

    @property
    def shared_environments(self) -> int:
        return self.num_envs

    @classmethod
    def unsupported(cls, env: Environment) -> str | None:
        if not isinstance(env.action_space, spaces.Discrete):
            return f"it needs a Discrete action space, not {type(env.action_space).__name__}"
        return transitions.unsupported(env)

    def default_hp(self) -> Hyperparameters:
        return self.scalars(
            Hyperparameters(
                lr=1e-3,
                temperature_lr_ratio=4.0,
                discount=0.99,
                tau=0.01,
                temperature=1.0 if self.target_entropy == "paper" else 0.5,
                temperature_floor=1e-4,
                entropy_scale=0.1,
                reward_scale=1.0,
                averaging=0.99,
            )
        )

    def validate(self, hp: Hyperparameters) -> None:
        checks.check_hyperparameters(
            hp,
            {
                "lr": checks.POSITIVE,
                "temperature_lr_ratio": checks.NOT_NEGATIVE,
                "discount": checks.UNIT,
                "tau": checks.SHARE,
                "temperature": checks.POSITIVE,
                "temperature_floor": checks.POSITIVE,
                "entropy_scale": checks.SHARE,
                "reward_scale": checks.POSITIVE,
                "averaging": checks.BELOW_ONE,
            },
        )

    def init(self, key: chex.PRNGKey, params: Any, hp: Hyperparameters) -> SACState:
        key, key_actor, key_critics, key_envs = jax.random.split(as_key(key), 4)
        space, dtype = self.env.observation_space, self.env.float_dtype
        observation = jnp.zeros(space.shape, space.dtype)
        critics = jax.vmap(self.critic.init, (0, None))(jax.random.split(key_critics), observation)
        networks = Networks(
            actor=self.actor.init(key_actor, observation),
            critics=critics,
            log_temperature=jnp.log(jnp.asarray(hp.temperature, dtype)),
        )
        lanes = self._collector.start(jax.random.split(key_envs, self.num_envs), params)
        return SACState(
            networks=networks,
            average_actor=jax.tree.map(jnp.copy, networks.actor),
            target_critics=jax.tree.map(jnp.copy, critics),
            optimizer=_adam.init(networks),
            replay=replay.create(self.buffer_size, self._collector.row(lanes)),
            lanes=lanes,
            key=key,
        )

    def update(
        self, state: SACState, params: Any, hp: Hyperparameters
    ) -> tuple[SACState, dict[str, chex.Array]]:
        """Steps every environment ``steps_per_iteration`` times, then learns.

        Args:
            state: of the run so far.
            params: the scenario; each leaf may carry a leading axis ``num_envs``.
            hp: the hyperparameters.

        Returns:
            The state and scalars. Means over the gradient updates: ``critic_loss``,
            ``actor_loss``, ``temperature_loss``, ``entropy`` (nat), ``q`` (of the actions taken);
            zero as long as ``gradient_updates`` is. ``temperature`` after them. ``mean_reward``:
            over the ``transitions`` that entered the buffer. ``decisions`` taken. ``episodes``
            that ended, and of those, for every declared metric that pools by sums, its
            ``numerator/NAME`` and ``denominator/NAME``: add them up over updates, then divide.
        """
        hp = self.scalars(hp)
        # One split for all: every other one would be compiled again.
        shape = (self.steps_per_iteration, 1 + self.num_envs)
        keys = jax.random.split(state.key, 1 + math.prod(shape) + self.updates_per_iteration)
        key, keys_collect, keys_learn = jnp.split(keys, (1, 1 + math.prod(shape)))
        state, collected = self._collect(state, keys_collect.reshape(shape), params)
        state, learned = self._learn(state, keys_learn, hp)
        state = state.replace(key=key[0])
        temperature = jnp.exp(state.networks.log_temperature)
        return state, collected | learned | {"temperature": temperature}

    def policy(self, state: SACState) -> SACPolicy:
        return SACPolicy(actor=state.average_actor, network=self.actor)

    # ---- networks and losses ------------------------------------------------------------------

    @property
    def actor(self) -> MLP:
        """From an observation to the logits of all actions."""
        return MLP(self.hidden, self.env.num_actions, 0.01, self.env.float_dtype)

    @property
    def critic(self) -> ActionValues:
        """From an observation to Q of all actions."""
        return ActionValues(self.hidden, self.env.num_actions, self.env.float_dtype)

    def loss(
        self, networks: Networks, target_critics: Any, batch: Transition, hp: Hyperparameters
    ) -> tuple[chex.Array, dict[str, chex.Array]]:
        """The sum of the three losses, each with a gradient to its own part of ``networks`` only.

        With pi and H of the actor, H_target of the state, expectations over the batch:
        J_Q = sum_v mean 1/2*(y - Q_v(s, a))^2, y of `target_values`;
        J_pi = mean sum_a pi(a|s)*[lambda*log pi(a|s) - min_v Q_v(s, a)], lambda and Q detached;
        J(lambda) = mean lambda*(H - H_target), pi detached.

        Returns:
            The sum, and its terms with the mean entropy and the mean Q of the actions taken.
        """
        mask = self._collector.unpack(batch.mask)
        temperature = jnp.exp(networks.log_temperature)
        detached = jax.lax.stop_gradient(temperature)

        target = jax.lax.stop_gradient(
            self.target_values(networks.actor, target_critics, detached, batch, hp)
        )
        taken, values = jax.vmap(
            lambda critic: self.critic.apply(
                critic, batch.observation, batch.action, method="taken_and_all"
            )
        )(networks.critics)
        critic_loss = 0.5 * jnp.sum(jnp.mean(jnp.square(target - taken), axis=-1))

        probability, log_probability = masked_policy(
            self.actor.apply(networks.actor, batch.observation), mask
        )
        entropy = -jnp.sum(probability * log_probability, axis=-1)
        expected_value = jnp.sum(probability * jnp.min(values, axis=0), axis=-1)
        actor_loss = jnp.mean(-detached * entropy - expected_value)

        gap = jax.lax.stop_gradient(entropy) - self._entropy_goal(mask, hp)
        temperature_loss = jnp.mean(temperature * gap)

        return critic_loss + actor_loss + temperature_loss, {
            "critic_loss": critic_loss,
            "actor_loss": actor_loss,
            "temperature_loss": temperature_loss,
            "entropy": jnp.mean(entropy),
            "q": jnp.mean(taken),
        }

    def target_values(
        self,
        actor: Any,
        target_critics: Any,
        temperature: chex.Array,
        batch: Transition,
        hp: Hyperparameters,
    ) -> chex.Array:
        """y = r + gamma*(1 - terminated)*sum_a pi(a|s')*[min_v Q'_v(s', a) - lambda*log pi(a|s')].

        A truncated episode bootstraps from its final observation.
        """

        def bootstrap() -> chex.Array:
            mask = self._collector.unpack(batch.next_mask)
            probability, log_probability = masked_policy(
                self.actor.apply(actor, batch.next_observation), mask
            )
            values = jax.vmap(self.critic.apply, (0, None))(target_critics, batch.next_observation)
            soft = jnp.min(values, axis=0) - temperature * log_probability
            return jnp.where(batch.terminated, 0.0, jnp.sum(probability * soft, axis=-1))

        # Without a future to look at, a third of the work of a gradient update falls away.
        future = jax.lax.cond(hp.discount > 0, bootstrap, lambda: jnp.zeros_like(batch.reward))
        return hp.reward_scale * batch.reward + hp.discount * future

    def _entropy_goal(self, mask: chex.Array, hp: Hyperparameters) -> chex.Array:
        if self.target_entropy == "paper":
            return jnp.asarray(-math.log(1 + self.env.num_actions), self.env.float_dtype)
        valid = jnp.sum(mask, axis=-1, dtype=self.env.float_dtype)
        return hp.entropy_scale * jnp.log(valid)

    def _decay(self, gradient_updates: chex.Array) -> chex.Array:
        """The factor of the learning rate after a number of gradient updates."""
        if not self.schedule_updates:
            return jnp.ones((), self.env.float_dtype)
        horizon = self.schedule_updates * self.updates_per_iteration
        done = gradient_updates.astype(self.env.float_dtype) / horizon
        return jnp.clip((1 - done) / 0.4, 0.05, 1.0)

    # ---- learning -----------------------------------------------------------------------------

    def _learn(
        self, state: SACState, keys: chex.PRNGKey, hp: Hyperparameters
    ) -> tuple[SACState, dict[str, chex.Array]]:
        """``updates_per_iteration`` gradient updates, once the buffer holds enough."""
        learned = (state.networks, state.target_critics, state.optimizer)

        def gradient_update(learned, key):
            networks, target_critics, optimizer = learned
            batch = replay.sample(state.replay, key, self.batch_size)
            gradients, metrics = jax.grad(self.loss, has_aux=True)(
                networks, target_critics, batch, hp
            )
            directions, optimizer = _adam.update(gradients, optimizer)
            lr = hp.lr * self._decay(optimizer.count)
            rates = Networks(lr, lr, hp.lr * hp.temperature_lr_ratio)
            networks = jax.tree.map(
                lambda rate, part, direction: jax.tree.map(
                    lambda x, d: x - rate * d, part, direction
                ),
                rates,
                networks,
                directions,
            )
            floor = jnp.log(hp.temperature_floor)
            networks = networks.replace(
                log_temperature=jnp.maximum(networks.log_temperature, floor)
            )
            target_critics = jax.tree.map(
                lambda x, target: hp.tau * x + (1 - hp.tau) * target,
                networks.critics,
                target_critics,
            )
            return (networks, target_critics, optimizer), metrics

        def learn(learned):
            learned, metrics = jax.lax.scan(gradient_update, learned, keys)
            metrics = {name: jnp.mean(metrics[name]) for name in _LOSS_METRICS}
            return learned, metrics | {"gradient_updates": jnp.int32(self.updates_per_iteration)}

        def wait(learned):
            zeros = {name: jnp.zeros((), self.env.float_dtype) for name in _LOSS_METRICS}
            return learned, zeros | {"gradient_updates": jnp.int32(0)}

        ready = state.replay.size >= self.learning_starts
        learned, metrics = jax.lax.cond(ready, learn, wait, learned)
        networks, target_critics, optimizer = learned
        # A plain mean of the first few actors, so that the untrained one leaves no trace.
        calls = optimizer.count.astype(self.env.float_dtype) / self.updates_per_iteration
        keep = jnp.clip(1 - 1 / jnp.maximum(calls, 1), 0.0, hp.averaging)
        average = jax.tree.map(
            lambda mean, x: x + keep * (mean - x), state.average_actor, networks.actor
        )
        state = state.replace(
            networks=networks,
            average_actor=average,
            target_critics=target_critics,
            optimizer=optimizer,
        )
        return state, metrics

    # ---- collecting ---------------------------------------------------------------------------

    def _collect(
        self, state: SACState, keys: chex.PRNGKey, params: Any
    ) -> tuple[SACState, dict[str, chex.Array]]:
        """``steps_per_iteration`` steps of every environment, their transitions stored."""

        def act(observation, mask, key):
            logits = masked_logits(self.actor.apply(state.networks.actor, observation), mask)
            return jax.random.categorical(key, logits, axis=-1).astype(jnp.int32)

        def step(carry, keys):
            lanes, buffer, counts = self._collector.step(*carry, act, keys, params)
            return (lanes, buffer), counts

        (lanes, buffer), counts = jax.lax.scan(step, (state.lanes, state.replay), keys)
        return state.replace(lanes=lanes, replay=buffer), transitions.totals(counts)

    @property
    def _collector(self) -> Collector:
        return Collector(self.env, self.reward_in_units)


_adam = optax.scale_by_adam()
_LOSS_METRICS = ("critic_loss", "actor_loss", "temperature_loss", "entropy", "q")
