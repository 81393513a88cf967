"""HISPER and HASAC: heterogeneous agents that maximise one reward and the entropy of all.

Every agent has a policy of its own, of several sub-actions; the critics judge the joint action.
HISPER draws the sub-actions one after another, each given those before (``autoregressive``), and
learns one value per component of the reward (``hybrid_reward``). HASAC is the same learner without
the two. Actors are updated one after another in a random order, each against the new actions of
those before it, which is what makes the joint policy better at every step of soft policy iteration.

Source: HISPER is of "Joint DNN Model Deployment, Selection, and Configuration for Heterogeneous
Inference Services Toward Edge Intelligence", IEEE Transactions on Mobile Computing, 2025, eqs (23)
to (34), Algorithm 1; HASAC of J. Liu et al., "Maximum Entropy Heterogeneous-Agent Reinforcement
Learning", ICLR 2024; hybrid rewards of H. van Seijen et al., "Hybrid Reward Architecture for
Reinforcement Learning", NeurIPS 2017. Where the paper cannot be meant literally or is silent:

- (27), (31) add alpha times the entropy to each of the three values, which triples it:
  ``entropy_split``;
- the LSTM is fed "the distribution of the previous action", with which the sub-actions would be
  independent and (24) false: ``feed``;
- values are normalised per component, so that small ones are learned beside large ones, and the
  actors' loss is in units of the reward, so that the temperature is too;
- policies see what their agent observes, not the global state (Algorithm 1).

What the paper prescribes learns slowly; ``cell``, ``standardise``, ``critics`` and ``gradient``
have a faster choice each. The last changes what is ascended: the slope of a critic at the drawn
action says little of what another action is worth.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, ClassVar, Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from agents import checks, replay, steps, team
from agents.branches import Branches
from agents.learner import Learner, Policy, scenario_axes
from agents.networks import JointCritic, PairwiseCritic, SequentialActor, standardised
from agents.spread import gathered
from agents.team import Lane, Scale, Team, View
from jaxenv import struct
from jaxenv.environment import Environment, as_key
from jaxenv.errors import ConfigError


@struct.dataclass
class Hyperparameters:
    """Traced scalars; a grid of them trains as one program.

    lr_actor, lr_critic, lr_alpha: of Adam. alpha: temperature, in units of the reward. first_alpha:
    that of the start, from which it falls geometrically over ``fall_share`` of the schedule, or is
    learned; without both it is ``alpha`` from the start. entropy_share: target of a learned
    temperature, in shares of the entropy of the uniform policy. discount: per step (phi).
    target_decay: share of the target networks that an update keeps (tau in (34)).
    max_gradient_norm: of an actor. value_decay: of the running mean and deviation of the targets.
    relaxation: temperature of the Gumbel-softmax.
    """

    lr_actor: chex.Array
    lr_critic: chex.Array
    lr_alpha: chex.Array
    alpha: chex.Array
    first_alpha: chex.Array
    fall_share: chex.Array
    entropy_share: chex.Array
    discount: chex.Array
    target_decay: chex.Array
    max_gradient_norm: chex.Array
    value_decay: chex.Array
    relaxation: chex.Array


@struct.dataclass
class Transition:
    """A row of the replay buffer: states, from which all that is observed is computed again.

    state, next_state: of the environment, the latter None where nothing is bootstrapped. action:
    ``[n, heads]``. reward: components ``[parts]``. lane: int32, where it was made.
    """

    state: Any
    action: chex.Array
    reward: chex.Array
    next_state: Any
    terminated: chex.Array
    lane: chex.Array


@struct.dataclass
class Learned:
    """What gradients change. actors: ``[n, ...]``. critics, targets: ``[2, ...]``.

    log_alpha: ``[n]``.
    """

    actors: Any
    actor_optimizer: Any
    critics: Any
    critic_optimizer: Any
    targets: Any
    scale: Scale
    log_alpha: chex.Array
    alpha_optimizer: Any


@struct.dataclass
class HisperState:
    """A whole training run: one pytree, from which it resumes exactly. updates: so far."""

    learned: Learned
    replay: replay.Replay
    lanes: Lane
    updates: chex.Array
    key: chex.PRNGKey


@struct.dataclass
class HisperPolicy(Policy):
    """The learned policies: the most probable value of each sub-action in turn, or ``sample``."""

    actors: Any
    network: SequentialActor = struct.field(pytree_node=False)
    branches: Branches = struct.field(pytree_node=False)
    sample: bool = struct.field(pytree_node=False, default=False)

    def act(self, carry, key, observation, mask, state, params):
        mask = self.branches.head_mask(mask)
        noise = jnp.zeros(mask.shape, observation.dtype)
        if self.sample:
            noise = jax.random.gumbel(key, mask.shape, observation.dtype)
        one_hot, _ = jax.vmap(self.network.apply)(self.actors, observation, mask, noise)
        return self.branches.action(jnp.argmax(one_hot, axis=-1).astype(jnp.int32)), carry


@dataclasses.dataclass(frozen=True)
class Hisper(Learner):
    """HISPER on an environment of several agents with Discrete or MultiDiscrete actions.

    hybrid_reward: one value per component of the reward, else one of their sum. autoregressive:
    sub-actions see those before them. critics: layers over all agents side by side (``joint``), or
    values of the agents with messages between those that choose the same (``pairwise``). credit:
    values are learned from the rewards of the team, or, with pairwise critics, of each agent, where
    ``env.paid_by_agent``; either way an actor ascends the value of the team. twins: the smaller of
    the values of both critics (``least``), or their mean, where nothing is bootstrapped and so
    nothing overestimated. gradient: of an actor, through the critics at its draw
    (``straight_through``), or (``expected``) of the mean value over all choices of its last
    sub-action, with the score function for those before it: critics are evaluated, not
    differentiated, and where values are right the gradient is unbiased. draws: of the sub-actions
    before the last, per row, with ``expected``; the mean of the others is the baseline of each.
    cell: of an actor, ``lstm`` or ``dense``. standardise: whether networks see the distances of
    their inputs from the mean of the prefill, in deviations. embedding: width of an embedded group.
    actor_hidden, critic_hidden: widths of the layers. lstm_width: of a cell. num_envs: that
    collect. rounds: steps of each per `update`. gradient_updates: of all actors per `update`.
    critic_steps: of the critics for each of them. batch_size, buffer_size, prefill: transitions,
    the last by random actions before the first `update`. bootstrap: False where the state does not
    depend on actions and the discount is 0: the targets are the rewards. entropy_split: weight of
    the entropy in the target of each component, alpha over their number (``third``), all of it
    (``full``) or ``none``. feed: what a cell gets of the sub-action before, its draw (``sample``)
    or its distribution (``probs``). temperature: ``fixed``, or ``learned`` for each agent, so that
    its entropy is ``entropy_share`` of the largest. schedule_updates: calls of `update` after which
    the learning rates have fallen linearly to a twentieth; 0 = constant.
    """

    hybrid_reward: bool = True
    autoregressive: bool = True
    critics: Literal["joint", "pairwise"] = "joint"
    credit: Literal["team", "agents"] = "team"
    twins: Literal["least", "mean"] = "least"
    gradient: Literal["straight_through", "expected"] = "straight_through"
    draws: int = 2
    cell: Literal["lstm", "dense"] = "lstm"
    standardise: bool = False
    embedding: int = 32
    actor_hidden: tuple[int, ...] = (256, 256)
    critic_hidden: tuple[int, ...] = (512, 512, 256, 256, 128)
    lstm_width: int = 128
    num_envs: int = 20
    rounds: int = 100
    gradient_updates: int = 100
    critic_steps: int = 1
    batch_size: int = 1000
    buffer_size: int = 370_000
    prefill: int = 90_000
    bootstrap: bool = True
    entropy_split: Literal["third", "full", "none"] = "third"
    feed: Literal["sample", "probs"] = "sample"
    temperature: Literal["fixed", "learned"] = "fixed"
    schedule_updates: int = 0

    name: ClassVar[str] = "hisper"

    def __post_init__(self) -> None:
        checks.check_fields(self)
        if self.gradient == "expected" and self.draws < 2:
            raise ConfigError("draws", self.draws, "give at least 2")
        if self.buffer_size < self.prefill or self.buffer_size < self.num_envs:
            least = max(self.prefill, self.num_envs)
            raise ConfigError("buffer_size", self.buffer_size, f"give at least {least}")
        if self.credit == "agents" and self.critics != "pairwise":
            raise ConfigError("credit", self.credit, "critics=joint need team")
        if self.credit == "agents" and not self.env.paid_by_agent:
            valid = f"env={self.env.name} pays the team only: give team"
            raise ConfigError("credit", self.credit, valid)

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
                lr_alpha=3e-4,
                alpha=2.0,
                first_alpha=2.0,
                fall_share=1.0,
                entropy_share=0.3,
                discount=0.99 if self.bootstrap else 0.0,
                target_decay=0.995,
                max_gradient_norm=10.0,
                value_decay=0.999,
                relaxation=1.0,
            )
        )

    def validate(self, hp: Hyperparameters) -> None:
        if self.hybrid_reward and not self.env.reward_parts:
            valid = f"env={self.env.name} has no components of the reward: give false"
            raise ConfigError("hybrid_reward", self.hybrid_reward, valid)
        positive = ("lr_actor", "lr_critic", "lr_alpha", "alpha", "first_alpha", "relaxation")
        rules = dict.fromkeys((*positive, "max_gradient_norm"), checks.POSITIVE)
        rules |= {
            "fall_share": checks.SHARE,
            "entropy_share": checks.UNIT,
            "target_decay": checks.UNIT,
        }
        rules |= {"discount": checks.UNIT, "value_decay": checks.BELOW_ONE}
        checks.check_hyperparameters(hp, rules)
        if not self.bootstrap and np.any(np.asarray(hp.discount) != 0):
            valid = "give 0, which bootstrap=false stands for"
            raise ConfigError("discount", np.asarray(hp.discount).tolist(), valid)

    def init(self, key: chex.PRNGKey, params: Any, hp: Hyperparameters) -> HisperState:
        """Networks, and a buffer of ``prefill`` random transitions."""
        keys = jax.random.split(as_key(key), 5)
        lanes = self._team.start(jax.random.split(keys[0], self.num_envs), params)
        buffer = replay.create(self.buffer_size, self._example(lanes))
        rounds = -(-self.prefill // self.num_envs)

        def fill(carry: tuple[Any, Any], key: chex.PRNGKey) -> tuple[Any, None]:
            lanes, buffer = carry
            lanes, buffer, _ = self._step(lanes, buffer, self._random, key, params)
            return (lanes, buffer), None

        fill_keys = jax.random.split(keys[1], rounds)
        (lanes, buffer), _ = jax.lax.scan(fill, (lanes, buffer), fill_keys)
        learned = self._first_learned(keys[2], keys[3], hp)
        if self.standardise:
            learned = self._standardised(learned, buffer, params)
        return HisperState(
            learned=learned,
            replay=buffer,
            lanes=lanes,
            updates=jnp.int32(0),
            key=keys[4],
        )

    def update(
        self, state: HisperState, params: Any, hp: Hyperparameters
    ) -> tuple[HisperState, dict[str, chex.Array]]:
        """``rounds`` steps of every environment, then ``gradient_updates`` of everything.

        Args:
            state: of the run so far.
            params: the scenario; each leaf may carry a leading axis ``num_envs``.
            hp: the hyperparameters.

        Returns:
            The state and scalars. Means over the gradient updates: ``critic_loss``, ``actor_loss``,
            ``q`` (of the batch), ``entropy`` (nat, of an agent), ``alpha``. ``mean_reward``: per
            step. ``decisions`` taken: steps. What `tally.add` counts.
        """
        hp = self.scalars(hp)
        hp, learned = self._scheduled(hp, state)
        keys = jax.random.split(state.key, 1 + self.rounds + 3 * self.gradient_updates)
        actors = state.learned.actors

        def act(view: View, key: chex.PRNGKey) -> chex.Array:
            one_hot, _ = self._draw(actors, view, key, hp)
            return jnp.argmax(one_hot, axis=-1).astype(jnp.int32)

        def collect(carry: tuple[Any, Any], key: chex.PRNGKey) -> tuple[Any, Any]:
            lanes, buffer, counts = self._step(*carry, act, key, params)
            return (lanes, buffer), counts

        (lanes, buffer), counts = jax.lax.scan(
            collect, (state.lanes, state.replay), keys[1 : 1 + self.rounds]
        )

        def learn(learned: Learned, keys: chex.PRNGKey) -> tuple[Learned, Any]:
            key_batch, key_learn, key_more = keys

            def judge(learned: Learned, key: chex.PRNGKey) -> tuple[Learned, None]:
                key_batch, key_next = jax.random.split(key)
                batch = replay.sample(buffer, key_batch, self.batch_size)
                view = self._view(batch.state, batch.lane, params)
                return self._learn_critics(learned, view, batch, key_next, params, hp)[0], None

            if self.critic_steps > 1:
                more = jax.random.split(key_more, self.critic_steps - 1)
                learned, _ = jax.lax.scan(judge, learned, more)
            batch = replay.sample(buffer, key_batch, self.batch_size)
            return self.learn(learned, batch, key_learn, params, hp)

        learn_keys = keys[1 + self.rounds :].reshape(self.gradient_updates, 3)
        learned, losses = jax.lax.scan(learn, learned, learn_keys)
        metrics = {name: jnp.sum(values, dtype=values.dtype) for name, values in counts.items()}
        metrics["mean_reward"] /= self.rounds * self.num_envs
        metrics |= {name: jnp.mean(values) for name, values in losses.items()}
        return HisperState(learned, buffer, lanes, state.updates + 1, keys[0]), metrics

    def policy(self, state: HisperState) -> HisperPolicy:
        return HisperPolicy(state.learned.actors, self.actor, self._team.branches)

    # ---- networks -----------------------------------------------------------------------------

    @property
    def actor(self) -> SequentialActor:
        """From an agent's observation to its sub-actions."""
        return SequentialActor(
            **self._team.actor_shape(),
            embedding=self.embedding,
            hidden=self.actor_hidden,
            width=self.lstm_width,
            autoregressive=self.autoregressive,
            feed=self.feed,
            dtype=self.env.float_dtype,
            cell=self.cell,
            standardise=self.standardise,
            relaxed=self.gradient == "straight_through",
        )

    @property
    def critic(self) -> JointCritic | PairwiseCritic:
        """From the global state and all actions to the normalised value of each component."""
        shape = self._team.critic_shape()
        kind = JointCritic
        if self.critics == "pairwise":
            kind, shape = PairwiseCritic, shape | self._team.meeting()
        return kind(
            **shape,
            embedding=self.embedding,
            hidden=self.critic_hidden,
            outputs=self._team.num_parts,
            dtype=self.env.float_dtype,
            standardise=self.standardise,
        )

    @property
    def _team(self) -> Team:
        return Team(self.env, self.hybrid_reward, self.credit == "agents")

    def _first_learned(
        self, key_actor: chex.PRNGKey, key_critic: chex.PRNGKey, hp: Hyperparameters
    ) -> Learned:
        env, dtype = self.env, self.env.float_dtype
        shape = (self._team.branches.heads, self._team.branches.outputs)
        actors = self._team.first_actors(self.actor, key_actor)
        critics = jax.vmap(self.critic.init, (0, None, None))(
            jax.random.split(key_critic, 2),
            jnp.zeros(self._team.state_size, dtype),
            jnp.zeros((env.num_agents, *shape), dtype),
        )
        log_alpha = jnp.full(env.num_agents, jnp.log(hp.first_alpha), dtype)
        return Learned(
            actors=actors,
            actor_optimizer=jax.vmap(_adam.init)(actors),
            critics=critics,
            critic_optimizer=_adam.init(critics),
            targets=jax.tree.map(jnp.copy, critics),
            scale=Scale.start(self._team.num_parts, dtype),
            log_alpha=log_alpha,
            alpha_optimizer=jax.vmap(_adam.init)(log_alpha),
        )

    def _standardised(self, learned: Learned, buffer: replay.Replay, params: Any) -> Learned:
        """Networks that see their inputs as they are spread over the newest rows of a buffer."""
        count = min(self.prefill, self.buffer_size, STANDARD_ROWS)
        rows = jax.tree.map(lambda leaf: leaf[:count], buffer.rows)
        view = self._view(rows.state, rows.lane, params)
        critics = standardised(learned.critics, view.world)
        return learned.replace(
            actors=standardised(learned.actors, view.observation),
            critics=critics,
            targets=jax.tree.map(jnp.copy, critics),
        )

    # ---- collecting ---------------------------------------------------------------------------

    def _example(self, lanes: Lane) -> Transition:
        """A row of the shapes that `_step` stores."""
        state = _packed(jax.tree.map(lambda leaf: leaf[0], lanes.env_state))
        shape = (self.env.num_agents, self._team.branches.heads)
        return Transition(
            state=state,
            action=jnp.zeros(shape, self._action_dtype),
            reward=jnp.zeros(self._team.reward_shape, self.env.float_dtype),
            next_state=state if self.bootstrap else None,
            terminated=jnp.asarray(False),
            lane=jnp.int32(0),
        )

    def _step(
        self, lanes: Lane, buffer: replay.Replay, act: Any, key: chex.PRNGKey, params: Any
    ) -> tuple[Lane, replay.Replay, dict[str, chex.Array]]:
        """One step of every environment, stored; act: from a `View` and a key to a choice."""
        key_act, key_resets = jax.random.split(key)
        before = gathered(lanes.env_state)
        choice = act(self._team.view(before, params), key_act)
        reset_keys = jax.random.split(key_resets, self.num_envs)
        lanes, made, counts = self._team.step(lanes, choice, reset_keys, params)
        rows = Transition(
            state=_packed(before),
            action=jnp.moveaxis(choice, 0, 1).astype(self._action_dtype),
            reward=made.reward,
            next_state=_packed(made.after) if self.bootstrap else None,
            terminated=made.terminated,
            lane=jnp.arange(self.num_envs, dtype=jnp.int32),
        )
        return lanes, replay.add(buffer, rows, jnp.ones(self.num_envs, bool)), counts

    def _random(self, view: View, key: chex.PRNGKey) -> chex.Array:
        noise = jax.random.gumbel(key, view.mask.shape, self.env.float_dtype)
        return jnp.argmax(jnp.where(view.mask, noise, -jnp.inf), axis=-1).astype(jnp.int32)

    @property
    def _action_dtype(self) -> np.dtype:
        return np.dtype(np.int8 if self._team.branches.outputs <= 128 else np.int32)

    # ---- learning -----------------------------------------------------------------------------

    def learn(
        self,
        learned: Learned,
        batch: Transition,
        key: chex.PRNGKey,
        params: Any,
        hp: Hyperparameters,
    ) -> tuple[Learned, dict[str, chex.Array]]:
        """One step of the critics, of every actor and of the targets; Algorithm 1.

        Args:
            learned: so far.
            batch: rows ``[B]``.
            key: of the draws.
            params: the scenario; each leaf may carry a leading axis ``num_envs``.
            hp: the hyperparameters.

        Returns:
            The same after the step, and means over the batch.
        """
        key_next, key_actors = jax.random.split(key)
        view = self._view(batch.state, batch.lane, params)
        learned, metrics = self._learn_critics(learned, view, batch, key_next, params, hp)
        learned, acted = self._learn_actors(learned, view, key_actors, hp)
        return learned, metrics | acted

    def _view(self, states: Any, lane: chex.Array, params: Any) -> View:
        """What stored states show."""
        axes = scenario_axes(self.env, params)
        own = jax.tree.map(
            lambda axis, leaf: leaf if axis is None else leaf[lane],
            axes,
            params,
            is_leaf=lambda axis: axis is None,
        )
        states = states.replace(key=jax.random.wrap_key_data(states.key))
        return self._team.view(states, own)

    def _draw(
        self, actors: Any, view: View, key: chex.PRNGKey, hp: Hyperparameters
    ) -> tuple[chex.Array, chex.Array]:
        """One-hots of all agents ``[n, B, heads, choices]``, log pi of each ``[n, B]``."""
        keys = jax.random.split(key, self.env.num_agents)
        draw = jax.vmap(self._draw_one, (0, 0, 0, 0, None))
        return draw(actors, view.observation, view.mask, keys, hp)

    def _draw_one(
        self,
        actor: Any,
        observation: chex.Array,
        mask: chex.Array,
        key: chex.PRNGKey,
        hp: Hyperparameters,
    ) -> tuple[chex.Array, chex.Array]:
        """`_draw` of one agent."""
        noise = jax.random.gumbel(key, mask.shape, self.env.float_dtype)
        one_hot, log_probability = self.actor.apply(actor, observation, mask, noise, hp.relaxation)
        return one_hot, jnp.sum(one_hot * log_probability, axis=(-2, -1))

    def _judged(self, critics: Any, world: chex.Array, one_hot: chex.Array) -> chex.Array:
        """Normalised values by both critics, ``[2, *values]``, of one-hots of all agents.

        Values are ``[B, parts]``, or ``[B, n, parts]`` with ``credit="agents"``.
        """
        judge = jax.vmap(self.critic.apply, (0, None, None))
        return self._by_row(judge(critics, world, one_hot))

    def _by_row(self, output: chex.Array) -> chex.Array:
        """What the critics put out as normalised values ``[2, *values]``."""
        if self.critics == "joint":
            return output
        if self.credit == "team":
            return jnp.mean(output, axis=1)
        return jnp.moveaxis(output, 1, 2)

    def _worth(self, scale: Scale, output: chex.Array) -> chex.Array:
        """What normalised values ``[2, *values]`` are worth to the team, ``[B, parts]``."""
        return self._of_both(self._of_team(scale.value(output)))

    def _of_both(self, values: chex.Array) -> chex.Array:
        """The values of both critics ``[2, ...]`` as one: ``twins``."""
        return _smaller(values) if self.twins == "least" else jnp.mean(values, axis=0)

    def _of_team(self, values: chex.Array) -> chex.Array:
        """Values ``[2, *values]`` as those of the team, ``[2, B, parts]``."""
        return jnp.sum(values, axis=2) if self.credit == "agents" else values

    def _soft_value(
        self, learned: Learned, view: View, key: chex.PRNGKey, hp: Hyperparameters
    ) -> chex.Array:
        """min_j Q_j^i - w alpha sum_n log pi_n at new actions, ``[*values]``; (27), (31).

        With ``credit="agents"`` every agent has its own entropy.
        """
        one_hot, log_probability = self._draw(learned.actors, view, key, hp)
        output = self._judged(learned.targets, view.world, one_hot)
        value = self._of_both(learned.scale.value(output))
        if self.entropy_split == "none":
            return value
        weight = 1 / self._team.num_parts if self.entropy_split == "third" else 1.0
        alpha = jnp.mean(jnp.exp(learned.log_alpha))
        by_agent = self.credit == "agents"
        surprise = log_probability.T if by_agent else jnp.sum(log_probability, axis=0)
        return value - weight * alpha * surprise[..., None]

    def _rescaled(self, learned: Learned, target: chex.Array, hp: Hyperparameters) -> Learned:
        """Adds targets ``[*values]`` to the scale; the critics' values stay what they were."""
        rows = target.reshape(-1, target.shape[-1])
        scale = learned.scale.add(rows, hp.value_decay)
        return learned.replace(
            critics=learned.scale.carried(learned.critics, scale),
            targets=learned.scale.carried(learned.targets, scale),
            scale=scale,
        )

    def _learn_critics(
        self,
        learned: Learned,
        view: View,
        batch: Transition,
        key: chex.PRNGKey,
        params: Any,
        hp: Hyperparameters,
    ) -> tuple[Learned, dict[str, chex.Array]]:
        """One step of Adam on the squared error of both critics (32), and of the targets (34)."""
        target = batch.reward
        if self.bootstrap:
            following = self._view(batch.next_state, batch.lane, params)
            ahead = self._soft_value(learned, following, key, hp)
            going = ~batch.terminated.reshape(-1, *(1,) * (ahead.ndim - 1))
            target += hp.discount * jnp.where(going, ahead, 0.0)
        learned = self._rescaled(learned, target, hp)
        scale = learned.scale
        normalised = scale.normalised(target)
        one_hot = jax.nn.one_hot(
            jnp.moveaxis(batch.action, 1, 0),
            self._team.branches.outputs,
            dtype=self.env.float_dtype,
        )

        def loss(critics: Any) -> tuple[chex.Array, chex.Array]:
            value = self._judged(critics, view.world, one_hot)
            error = jnp.sum((normalised - value) ** 2, axis=-1)
            return jnp.sum(jnp.mean(error.reshape(2, -1), axis=1)), value

        (error, value), gradient = jax.value_and_grad(loss, has_aux=True)(learned.critics)
        direction, optimizer = _adam.update(gradient, learned.critic_optimizer)
        critics = jax.tree.map(lambda x, d: x - hp.lr_critic * d, learned.critics, direction)
        targets = jax.tree.map(
            lambda slow, new: hp.target_decay * slow + (1 - hp.target_decay) * new,
            learned.targets,
            critics,
        )
        value = self._of_team(scale.value(value))
        learned = learned.replace(critics=critics, critic_optimizer=optimizer, targets=targets)
        return learned, {"critic_loss": error, "q": jnp.mean(jnp.sum(value, axis=-1))}

    def _learn_actors(
        self, learned: Learned, view: View, key: chex.PRNGKey, hp: Hyperparameters
    ) -> tuple[Learned, dict[str, chex.Array]]:
        """One step of every actor, in a random order; (30), (33).

        Those before an agent act by their new policies, those after it by the old ones.
        """
        agents = self.env.num_agents
        key_order, key_old, key_own, key_new = jax.random.split(key, 4)
        one_hot, _ = self._draw(learned.actors, view, key_old, hp)
        unit = jnp.sqrt(jnp.sum(learned.scale.deviation**2))
        largest = jnp.sum(jnp.mean(jnp.log(jnp.sum(view.mask, axis=-1)), axis=1), axis=-1)
        goal = hp.entropy_share * largest.astype(self.env.float_dtype)
        critics = learned.critics
        prepare, replaced, judge = self._methods

        def one(carry: tuple[Any, ...], item: tuple[Any, ...]) -> tuple[Any, Any]:
            actors, optimizers, acted, log_alpha, alpha_optimizers = carry
            n, key_own, key_new = item
            observation, mask, alpha = view.observation[n], view.mask[n], jnp.exp(log_alpha[n])

            def straight_through(actor: Any) -> tuple[chex.Array, chex.Array]:
                own, log_probability = self._draw_one(actor, observation, mask, key_own, hp)
                output = self._by_row(judge(critics, replaced(critics, acted, own, n)))
                value = self._worth(learned.scale, output)
                gain = jnp.sum(value, axis=-1) - alpha * log_probability
                return -jnp.mean(gain) / unit, jnp.mean(log_probability)

            def expected(actor: Any) -> tuple[chex.Array, chex.Array]:
                values = partial(self._values_of_last, learned, acted, n)
                gain, log_probability = self._expected_gain(
                    actor, observation, mask, values, key_own, alpha
                )
                return -jnp.mean(gain) / unit, jnp.mean(log_probability)

            loss = expected if self.gradient == "expected" else straight_through

            actor, optimizer = jax.tree.map(lambda x: x[n], (actors, optimizers))
            (cost, log_probability), gradient = jax.value_and_grad(loss, has_aux=True)(actor)
            gradient = steps.limited(gradient, hp.max_gradient_norm)
            direction, optimizer = _adam.update(gradient, optimizer)
            actor = jax.tree.map(lambda x, d: x - hp.lr_actor * d, actor, direction)
            drawn, _ = self._draw_one(actor, observation, mask, key_new, hp)
            put = lambda whole, own: whole.at[n].set(own)  # noqa: E731
            actors, optimizers = jax.tree.map(put, (actors, optimizers), (actor, optimizer))
            if self.temperature == "learned":
                own = jax.tree.map(lambda x: x[n], alpha_optimizers)
                direction, own = _adam.update(-(log_probability + goal[n]), own)
                log_alpha = log_alpha.at[n].add(-hp.lr_alpha * direction)
                alpha_optimizers = jax.tree.map(put, alpha_optimizers, own)
            acted = replaced(critics, acted, drawn, n)
            carry = (actors, optimizers, acted, log_alpha, alpha_optimizers)
            return carry, {"actor_loss": cost, "entropy": -log_probability, "alpha": alpha}

        order = jax.random.permutation(key_order, agents)
        items = (order, jax.random.split(key_own, agents), jax.random.split(key_new, agents))
        start = (
            learned.actors,
            learned.actor_optimizer,
            prepare(critics, view.world, one_hot),
            learned.log_alpha,
            learned.alpha_optimizer,
        )
        (actors, optimizers, _, log_alpha, alpha_optimizers), metrics = jax.lax.scan(
            one, start, items
        )
        learned = learned.replace(
            actors=actors,
            actor_optimizer=optimizers,
            log_alpha=log_alpha,
            alpha_optimizer=alpha_optimizers,
        )
        return learned, {name: jnp.mean(value) for name, value in metrics.items()}

    @property
    def _methods(self) -> tuple[Any, Any, Any]:
        """`prepare`, `replaced` and `judge` of both critics."""
        return tuple(
            jax.vmap(partial(self.critic.apply, method=name), axes)
            for name, axes in (
                ("prepare", (0, None, None)),
                ("replaced", (0, 0, None, None)),
                ("judge", (0, 0)),
            )
        )

    def _values_of_last(
        self, learned: Learned, acted: Any, agent: chex.Array, one_hot: chex.Array
    ) -> chex.Array:
        """What the team values each choice of an agent's last sub-action at, ``[B, choices]``.

        acted: what both critics prepared of all agents. one_hot: ``[B, heads, choices]``, of the
        agent; its last row does not matter.
        """
        heads, choices = one_hot.shape[-2:]
        if self.critics == "pairwise" and self.env.shared_choice == heads - 1:
            alternatives = jax.vmap(
                partial(self.critic.apply, method="alternatives"), (0, 0, None, None)
            )
            output = alternatives(learned.critics, acted, one_hot, agent)
            count = self.env.num_agents if self.credit == "agents" else 1
            value = self._of_both(count * learned.scale.value(output))
            return jnp.sum(value, axis=-1)
        _, replaced, judge = self._methods

        def value(last: chex.Array) -> chex.Array:
            own = one_hot.at[..., -1, :].set(last)
            output = self._by_row(
                judge(learned.critics, replaced(learned.critics, acted, own, agent))
            )
            return jnp.sum(self._worth(learned.scale, output), axis=-1)

        return jax.vmap(value, out_axes=-1)(jnp.eye(choices, dtype=one_hot.dtype))

    def _expected_gain(
        self,
        actor: Any,
        observation: chex.Array,
        mask: chex.Array,
        values: Any,
        key: chex.PRNGKey,
        alpha: chex.Array,
    ) -> tuple[chex.Array, chex.Array]:
        """An estimate of the soft value of one actor whose gradient is one of its gradient.

        Args:
            actor: of one agent.
            observation, mask: ``[B, ...]``.
            values: of all choices of the last sub-action ``[B, choices]``, given one-hots
                ``[B, heads, choices]``.
            key: of the draws.
            alpha: the temperature.

        Returns:
            The mean over the last sub-action of value - alpha log pi, and of log pi, ``[K, B]``.
        """
        shape = (self.draws, *mask.shape)
        noise = jax.random.gumbel(key, shape, self.env.float_dtype)
        draw = jax.vmap(lambda noise: self.actor.apply(actor, observation, mask, noise))
        one_hot, logs = draw(noise)
        one_hot = jax.lax.stop_gradient(one_hot)
        value = jax.lax.stop_gradient(jax.vmap(values)(one_hot))
        probability = jnp.where(mask[:, -1], jnp.exp(logs[..., -1, :]), 0.0)
        earlier = jnp.sum((one_hot * logs)[..., :-1, :], axis=(-2, -1))
        entropy = -jnp.sum(probability * logs[..., -1, :], axis=-1)
        gain = jnp.sum(probability * value, axis=-1) + alpha * entropy
        whole = jax.lax.stop_gradient(gain - alpha * earlier)
        others = (jnp.sum(whole, axis=0) - whole) / (self.draws - 1)
        score = (whole - others) * earlier
        gain += score - jax.lax.stop_gradient(score + alpha * earlier)
        return gain, earlier - entropy

    def _scheduled(
        self, hp: Hyperparameters, state: HisperState
    ) -> tuple[Hyperparameters, Learned]:
        """Rates and, unless it is learned, the temperature at this point of the schedule."""
        share = steps.falling(self.schedule_updates, state.updates, self.env.float_dtype)
        hp = hp.replace(lr_actor=share * hp.lr_actor, lr_critic=share * hp.lr_critic)
        if self.temperature == "learned":
            return hp, state.learned
        log_alpha = jnp.log(hp.alpha)
        if self.schedule_updates:
            left = steps.left(self.schedule_updates, state.updates, self.env.float_dtype)
            left = jnp.maximum(1 - (1 - left) / hp.fall_share, 0.0)
            log_alpha += left * (jnp.log(hp.first_alpha) - log_alpha)
        log_alpha = jnp.full_like(state.learned.log_alpha, log_alpha)
        return hp, state.learned.replace(log_alpha=log_alpha)


_adam = optax.scale_by_adam()

STANDARD_ROWS = 20_000


def _smaller(values: chex.Array) -> chex.Array:
    """The elementwise smaller of two, ``[2, ...]``, with the gradient of one of them.

    That of `jnp.min` is 0/0 where a compiler rounds its operand and its result differently.
    """
    first, second = values
    return jnp.where(first < second, first, second)


def _packed(states: Any) -> Any:
    """States whose key is plain data, as a buffer holds them."""
    return states.replace(key=jax.random.key_data(states.key))
