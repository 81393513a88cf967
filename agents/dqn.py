"""DQN: Q-learning with one output per joint action, parallel actors and a shared replay buffer.

A MultiDiscrete action of M entries with K choices is one of K**M joint actions, so the head grows
exponentially: this is a baseline, and spaces beyond `branches.MAX_JOINT` are refused. Source:
V. Mnih et al., "Human-level control through deep reinforcement learning" (2015),
doi:10.1038/nature14236; ``double`` is H. van Hasselt et al., "Deep Reinforcement Learning with
Double Q-learning" (2016), arXiv:1509.06461; as a baseline of "Distributed DNN Inference with
Fine-grained Model Partitioning in Mobile Edge Computing Networks" (`jaxenv.partitioning` has the
full reference), which gives the range of the exploration; the defaults here are chosen.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
import optax

from agents import branches, checks, replay, steps, transitions
from agents.branches import Branches
from agents.learner import Learner, Policy
from agents.networks import ActionValues
from agents.transitions import Collector, Lane, Transition
from jaxenv import struct
from jaxenv.environment import Environment, as_key


@struct.dataclass
class Hyperparameters:
    """Traced scalars; a grid of them trains as one vmapped program.

    lr: Adam's learning rate. discount: per decision (gamma). epsilon: probability of a random
    action at the start; epsilon_end: after ``exploration_share`` of the schedule, linearly.
    reward_scale: multiplies every reward that is learned from.
    """

    lr: chex.Array
    discount: chex.Array
    epsilon: chex.Array
    epsilon_end: chex.Array
    exploration_share: chex.Array
    reward_scale: chex.Array


@struct.dataclass
class DQNState:
    """A whole training run: one pytree, from which it resumes exactly.

    values, target: parameters of Q and of the target network. rounds: int32, so far.
    """

    values: Any
    target: Any
    optimizer: Any
    replay: replay.Replay
    lanes: Lane
    rounds: chex.Array
    key: chex.PRNGKey


@struct.dataclass
class DQNPolicy(Policy):
    """The valid joint action of the largest value; the lowest index at ties."""

    values: Any
    network: ActionValues = struct.field(pytree_node=False)
    branches: Branches = struct.field(pytree_node=False)

    def act(self, carry, key, observation, mask, state, params):
        values = self.network.apply(self.values, observation)
        return _greedy(self.branches, values, mask), carry


@dataclasses.dataclass(frozen=True)
class DQN(Learner):
    """DQN on an environment with a Discrete or MultiDiscrete action space.

    hidden: widths of the hidden layers. num_envs: actors, which step in parallel.
    rounds_per_iteration: rounds per `update`; a round is one step of every actor, then one gradient
    update. batch_size, buffer_size: transitions. learning_starts: transitions to collect before the
    first gradient update. target_interval: gradient updates between two copies to the target
    network. double: choose the next action by the network, value it by the target. dueling: all
    actions share a learned value of the state; without it actions that were never tried keep their
    value of the start, 0, which is above all others where rewards are negative.
    reward_in_units: learn from rewards over ``env.reward_unit(params)``. schedule_updates: calls of
    `update` in the whole run, of which exploration has its share; 0 = ``epsilon_end`` throughout.
    """

    hidden: tuple[int, ...] = (128, 128)
    num_envs: int = 8
    rounds_per_iteration: int = 8
    batch_size: int = 32
    buffer_size: int = 50_000
    learning_starts: int = 1000
    target_interval: int = 500
    double: bool = True
    dueling: bool = True
    reward_in_units: bool = True
    schedule_updates: int = 0

    name: ClassVar[str] = "dqn"

    def __post_init__(self) -> None:
        checks.check_fields(self)
        self._collector.check_buffer(self.num_envs, self.buffer_size, self.learning_starts)

    # ---- the contract -------------------------------------------------------------------------

    @property
    def shared_environments(self) -> int:
        return self.num_envs

    @classmethod
    def unsupported(cls, env: Environment) -> str | None:
        return branches.unsupported(env.action_space, joint=True) or transitions.unsupported(env)

    def default_hp(self) -> Hyperparameters:
        return self.scalars(
            Hyperparameters(
                lr=1e-3,
                discount=0.95,
                epsilon=1.0,
                epsilon_end=0.01,
                exploration_share=0.6,
                reward_scale=1.0,
            )
        )

    def validate(self, hp: Hyperparameters) -> None:
        checks.check_hyperparameters(
            hp,
            {
                "lr": checks.POSITIVE,
                "discount": checks.UNIT,
                "epsilon": checks.UNIT,
                "epsilon_end": checks.UNIT,
                "exploration_share": checks.SHARE,
                "reward_scale": checks.POSITIVE,
            },
        )

    def init(self, key: chex.PRNGKey, params: Any, hp: Hyperparameters) -> DQNState:
        key, key_values, key_envs = jax.random.split(as_key(key), 3)
        space = self.env.observation_space
        values = self.network.init(key_values, jnp.zeros(space.shape, space.dtype))
        lanes = self._collector.start(jax.random.split(key_envs, self.num_envs), params)
        return DQNState(
            values=values,
            target=jax.tree.map(jnp.copy, values),
            optimizer=_adam.init(values),
            replay=replay.create(self.buffer_size, self._collector.row(lanes)),
            lanes=lanes,
            rounds=jnp.int32(0),
            key=key,
        )

    def update(
        self, state: DQNState, params: Any, hp: Hyperparameters
    ) -> tuple[DQNState, dict[str, chex.Array]]:
        """``rounds_per_iteration`` rounds: every actor steps, then Q learns from one batch.

        Args:
            state: of the run so far.
            params: the scenario; each leaf may carry a leading axis ``num_envs``.
            hp: the hyperparameters.

        Returns:
            The state and scalars. ``gradient_updates`` and means over them, zero as long as there
            are none: ``loss``, ``q`` (of the actions taken). ``epsilon``: of the last round.
            ``mean_reward``: over the ``transitions`` that entered the buffer. ``decisions`` taken.
            ``episodes`` that ended, and of those, for every declared metric that pools by sums, its
            ``numerator/NAME`` and ``denominator/NAME``: add them up over updates, then divide.
        """
        hp = self.scalars(hp)
        # One split for all: every other one would be compiled again.
        shape = (self.rounds_per_iteration, 2 + self.num_envs)
        keys = jax.random.split(state.key, 1 + shape[0] * shape[1])

        def one_round(state, keys):
            epsilon = self.epsilon(state.rounds, hp)
            state, counts = self._collect(state, keys[1:], epsilon, params)
            state, learned = self._learn(state, keys[0], hp)
            learned["epsilon"] = epsilon
            return state.replace(rounds=state.rounds + 1), (counts, learned)

        state, (counts, learned) = jax.lax.scan(one_round, state, keys[1:].reshape(shape))
        updates = jnp.sum(learned["gradient_updates"], dtype=jnp.int32)
        means = {name: jnp.sum(learned[name]) / jnp.maximum(updates, 1) for name in ("loss", "q")}
        means |= {"gradient_updates": updates, "epsilon": learned["epsilon"][-1]}
        return state.replace(key=keys[0]), transitions.totals(counts) | means

    def policy(self, state: DQNState) -> DQNPolicy:
        return DQNPolicy(values=state.values, network=self.network, branches=self._branches)

    # ---- values and exploration ---------------------------------------------------------------

    @property
    def network(self) -> ActionValues:
        """From an observation to Q of all joint actions."""
        outputs, dtype = self._branches.outputs, self.env.float_dtype
        return ActionValues(self.hidden, outputs, dtype, level=self.dueling)

    def epsilon(self, rounds: chex.Array, hp: Hyperparameters) -> chex.Array:
        """The probability of a random action after a number of rounds."""
        if not self.schedule_updates:
            return hp.epsilon_end
        horizon = hp.exploration_share * self.schedule_updates * self.rounds_per_iteration
        left = jnp.maximum(1 - rounds.astype(self.env.float_dtype) / horizon, 0)
        return hp.epsilon_end + (hp.epsilon - hp.epsilon_end) * left

    def loss(
        self, values: Any, target: Any, batch: Transition, hp: Hyperparameters
    ) -> tuple[chex.Array, chex.Array]:
        """Mean of 1/2*(y - Q(s, a))^2, y of `target_values`, and the mean Q(s, a)."""
        y = jax.lax.stop_gradient(self.target_values(values, target, batch, hp))
        choice = self._branches.choice(batch.action)[..., 0]
        taken, _ = self._taken_and_all(values, batch.observation, choice)
        return 0.5 * jnp.mean(jnp.square(y - taken)), jnp.mean(taken)

    def target_values(
        self, values: Any, target: Any, batch: Transition, hp: Hyperparameters
    ) -> chex.Array:
        """y = r + gamma*(1 - terminated)*max_a Q'(s', a) over the valid joint actions.

        With ``double``, Q'(s', argmax_a Q(s', a)). A truncated episode bootstraps from its final
        observation.
        """
        mask = self._collector.unpack(batch.next_mask)
        chooser = values if self.double else target
        ahead = self.network.apply(chooser, batch.next_observation)
        choice, best = self._branches.best(ahead, mask)
        if self.double:
            best, _ = self._taken_and_all(target, batch.next_observation, choice)
        return hp.reward_scale * batch.reward + hp.discount * jnp.where(batch.terminated, 0.0, best)

    def _taken_and_all(
        self, values: Any, observation: chex.Array, choice: chex.Array
    ) -> tuple[chex.Array, chex.Array]:
        return self.network.apply(values, observation, choice, method="taken_and_all")

    # ---- rounds -------------------------------------------------------------------------------

    def _collect(
        self, state: DQNState, keys: chex.PRNGKey, epsilon: chex.Array, params: Any
    ) -> tuple[DQNState, dict[str, chex.Array]]:
        """One step of every actor, random with probability ``epsilon``."""

        def act(observation, mask, key):
            key_explore, key_action = jax.random.split(key)
            sample_keys = jax.random.split(key_action, self.num_envs)
            drawn = jax.vmap(self.env.action_space.sample)(sample_keys, mask)
            greedy = _greedy(self._branches, self.network.apply(state.values, observation), mask)
            explore = jax.random.bernoulli(key_explore, epsilon, (self.num_envs,))
            explore = explore.reshape(-1, *(1,) * (drawn.ndim - 1))
            return jnp.where(explore, drawn, greedy)

        lanes, buffer, counts = self._collector.step(state.lanes, state.replay, act, keys, params)
        return state.replace(lanes=lanes, replay=buffer), counts

    def _learn(
        self, state: DQNState, key: chex.PRNGKey, hp: Hyperparameters
    ) -> tuple[DQNState, dict[str, chex.Array]]:
        """One gradient update, once the buffer holds enough."""

        def learn(learned):
            values, target, optimizer = learned
            batch = replay.sample(state.replay, key, self.batch_size)
            (loss, q), gradient = jax.value_and_grad(self.loss, has_aux=True)(
                values, target, batch, hp
            )
            values, optimizer = steps.descended(_adam, values, optimizer, gradient, hp.lr)
            copies = optimizer.count % self.target_interval == 0
            target = jax.lax.cond(copies, lambda: values, lambda: target)
            return (values, target, optimizer), {"loss": loss, "q": q}

        def wait(learned):
            zero = jnp.zeros((), self.env.float_dtype)
            return learned, {"loss": zero, "q": zero}

        ready = state.replay.size >= self.learning_starts
        learned = (state.values, state.target, state.optimizer)
        learned, metrics = jax.lax.cond(ready, learn, wait, learned)
        values, target, optimizer = learned
        metrics["gradient_updates"] = ready.astype(jnp.int32)
        return state.replace(values=values, target=target, optimizer=optimizer), metrics

    @property
    def _branches(self) -> Branches:
        return Branches.of(self.env.action_space, joint=True)

    @property
    def _collector(self) -> Collector:
        return Collector(self.env, self.reward_in_units)


_adam = optax.scale_by_adam()


def _greedy(branches: Branches, values: chex.Array, mask: chex.Array) -> chex.Array:
    """The valid action of the largest of ``values [..., joint actions]``."""
    choice, _ = branches.best(values, mask)
    return branches.action(choice[..., None])
