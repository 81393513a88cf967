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
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from agents import branches, checks, replay, tally
from agents.branches import Branches
from agents.learner import Learner, Policy, scenario_axes
from agents.networks import JointCritic, SequentialActor
from jaxenv import spaces, struct
from jaxenv.environment import Environment, as_key
from jaxenv.errors import ConfigError


@struct.dataclass
class Hyperparameters:
    """Traced scalars; a grid of them trains as one program.

    lr_actor, lr_critic, lr_alpha: of Adam. alpha: temperature, in units of the reward; the first
    one if it is learned. entropy_share: target of a learned temperature, in shares of the entropy
    of the uniform policy. discount: per step (phi). target_decay: share of the target networks that
    an update keeps (tau in (34)). max_gradient_norm: of an actor. value_decay: of the running mean
    and deviation of the targets. relaxation: temperature of the Gumbel-softmax.
    """

    lr_actor: chex.Array
    lr_critic: chex.Array
    lr_alpha: chex.Array
    alpha: chex.Array
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
class Lane:
    """An environment that collects; leaves have a leading axis ``num_envs``."""

    env_state: Any
    episode: tally.Tally


@struct.dataclass
class Scale:
    """Running mean and deviation of each component's targets, ``[parts]``.

    total, squares, weight: exponential averages before the correction of their bias.
    """

    total: chex.Array
    squares: chex.Array
    weight: chex.Array
    mean: chex.Array
    deviation: chex.Array


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


class View(NamedTuple):
    """What B states show. observation, mask: ``[n, B, ...]``. world: ``[B, S]``."""

    observation: chex.Array
    mask: chex.Array
    world: chex.Array


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
    sub-actions see those before them. embedding: width of an embedded group. actor_hidden,
    critic_hidden: widths of the layers. lstm_width: of a cell. num_envs: that collect. rounds:
    steps of each per `update`. gradient_updates: per `update`. batch_size, buffer_size, prefill:
    transitions, the last by random actions before the first `update`. bootstrap: False where the
    state does not depend on actions and the discount is 0: the targets are the rewards.
    entropy_split: weight of the entropy in the target of each component, alpha over their number
    (``third``), all of it (``full``) or ``none``. feed: what a cell gets of the sub-action before,
    its draw (``sample``) or its distribution (``probs``). temperature: ``fixed``, or ``learned``
    for each agent, so that its entropy is ``entropy_share`` of the largest. schedule_updates: calls
    of `update` after which the learning rates have fallen linearly to a twentieth; 0 = constant.
    """

    hybrid_reward: bool = True
    autoregressive: bool = True
    embedding: int = 32
    actor_hidden: tuple[int, ...] = (256, 256)
    critic_hidden: tuple[int, ...] = (512, 512, 256, 256, 128)
    lstm_width: int = 128
    num_envs: int = 20
    rounds: int = 100
    gradient_updates: int = 100
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
        sizes = ("embedding", "lstm_width", "num_envs", "rounds", "gradient_updates", "batch_size")
        checks.check_sizes(self, (*sizes, "buffer_size", "prefill"))
        for name in ("actor_hidden", "critic_hidden"):
            object.__setattr__(self, name, checks.hidden_widths(getattr(self, name), name))
        checks.check_choices(self, _CHOICES)
        checks.check_schedule(self)
        if self.buffer_size < self.prefill or self.buffer_size < self.num_envs:
            least = max(self.prefill, self.num_envs)
            raise ConfigError("buffer_size", self.buffer_size, f"give at least {least}")

    # ---- the contract -------------------------------------------------------------------------

    @classmethod
    def unsupported(cls, env: Environment) -> str | None:
        if env.num_agents < 2:
            return "it needs several agents, not 1"
        if not isinstance(env.observation_space, spaces.Box):
            return f"it needs a Box observation, not {type(env.observation_space).__name__}"
        if len(env.observation_space.shape) != 1:
            return f"it needs a flat observation, not shape {env.observation_space.shape}"
        return branches.unsupported(env.action_space)

    def default_hp(self) -> Hyperparameters:
        return self.scalars(
            Hyperparameters(
                lr_actor=2e-4,
                lr_critic=5e-4,
                lr_alpha=3e-4,
                alpha=2.0,
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
        positive = ("lr_actor", "lr_critic", "lr_alpha", "alpha", "max_gradient_norm", "relaxation")
        rules = dict.fromkeys(positive, checks.POSITIVE)
        rules |= {"entropy_share": checks.UNIT, "target_decay": checks.UNIT}
        rules |= {"discount": checks.UNIT, "value_decay": checks.BELOW_ONE}
        checks.check_hyperparameters(hp, rules)
        if not self.bootstrap and np.any(np.asarray(hp.discount) != 0):
            valid = "give 0, which bootstrap=false stands for"
            raise ConfigError("discount", np.asarray(hp.discount).tolist(), valid)

    def init(self, key: chex.PRNGKey, params: Any, hp: Hyperparameters) -> HisperState:
        """Networks, and a buffer of ``prefill`` random transitions."""
        keys = jax.random.split(as_key(key), 5)
        start = jax.vmap(self._first_lane, (0, scenario_axes(self.env, params)))
        lanes = start(jax.random.split(keys[0], self.num_envs), params)
        buffer = replay.create(self.buffer_size, self._example(lanes))
        rounds = -(-self.prefill // self.num_envs)

        def fill(carry: tuple[Any, Any], key: chex.PRNGKey) -> tuple[Any, None]:
            lanes, buffer = carry
            lanes, buffer, _ = self._step(lanes, buffer, self._random, key, params)
            return (lanes, buffer), None

        fill_keys = jax.random.split(keys[1], rounds)
        (lanes, buffer), _ = jax.lax.scan(fill, (lanes, buffer), fill_keys)
        return HisperState(
            learned=self._first_learned(keys[2], keys[3], hp),
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
        hp = self._scheduled(hp, state.updates)
        keys = jax.random.split(state.key, 1 + self.rounds + self.gradient_updates)
        actors = state.learned.actors

        def act(observation: chex.Array, mask: chex.Array, key: chex.PRNGKey) -> chex.Array:
            observation, mask = jnp.moveaxis(observation, 1, 0), jnp.moveaxis(mask, 1, 0)
            one_hot, _ = self._draw(actors, observation, mask, key, hp)
            return jnp.moveaxis(jnp.argmax(one_hot, axis=-1), 0, 1).astype(jnp.int32)

        def collect(carry: tuple[Any, Any], key: chex.PRNGKey) -> tuple[Any, Any]:
            lanes, buffer, counts = self._step(*carry, act, key, params)
            return (lanes, buffer), counts

        (lanes, buffer), counts = jax.lax.scan(
            collect, (state.lanes, state.replay), keys[1 : 1 + self.rounds]
        )

        def learn(learned: Learned, key: chex.PRNGKey) -> tuple[Learned, Any]:
            key_batch, key = jax.random.split(key)
            batch = replay.sample(buffer, key_batch, self.batch_size)
            return self.learn(learned, batch, key, params, hp)

        learned, losses = jax.lax.scan(learn, state.learned, keys[1 + self.rounds :])
        metrics = {name: jnp.sum(values, dtype=values.dtype) for name, values in counts.items()}
        metrics["mean_reward"] /= self.rounds * self.num_envs
        metrics |= {name: jnp.mean(values) for name, values in losses.items()}
        return HisperState(learned, buffer, lanes, state.updates + 1, keys[0]), metrics

    def policy(self, state: HisperState) -> HisperPolicy:
        return HisperPolicy(state.learned.actors, self.actor, self._branches)

    # ---- networks -----------------------------------------------------------------------------

    @property
    def actor(self) -> SequentialActor:
        """From an agent's observation to its sub-actions."""
        size = self.env.observation_space.size
        return SequentialActor(
            groups=self.env.observation_groups or (size,),
            embedding=self.embedding,
            hidden=self.actor_hidden,
            width=self.lstm_width,
            heads=self._branches.heads,
            choices=self._branches.outputs,
            autoregressive=self.autoregressive,
            feed=self.feed,
            dtype=self.env.float_dtype,
        )

    @property
    def critic(self) -> JointCritic:
        """From the global state and all actions to the normalised value of each component."""
        env = self.env
        return JointCritic(
            num_agents=env.num_agents,
            row=env.state_row,
            groups=env.state_groups or (self._state_size - env.num_agents * env.state_row,),
            embedding=self.embedding,
            hidden=self.critic_hidden,
            outputs=self.num_parts,
            dtype=env.float_dtype,
        )

    @property
    def num_parts(self) -> int:
        """Values that a critic learns."""
        return len(self.env.reward_parts) if self.hybrid_reward else 1

    @property
    def _branches(self) -> Branches:
        return Branches.of(self.env.action_space)

    @property
    def _state_size(self) -> int:
        params = jax.eval_shape(self.env.default_params)
        key = jax.eval_shape(lambda: jax.random.key(0))
        _, state = jax.eval_shape(self.env.reset, key, params)
        return math.prod(jax.eval_shape(self.env.global_state, state, params).shape)

    def _first_learned(
        self, key_actor: chex.PRNGKey, key_critic: chex.PRNGKey, hp: Hyperparameters
    ) -> Learned:
        env, dtype = self.env, self.env.float_dtype
        shape = (self._branches.heads, self._branches.outputs)
        observation = jnp.zeros(env.observation_space.shape, dtype)
        actor_inputs = observation, jnp.ones(shape, bool), jnp.zeros(shape, dtype)
        actors = jax.vmap(self.actor.init, (0, None, None, None))(
            jax.random.split(key_actor, env.num_agents), *actor_inputs
        )
        critics = jax.vmap(self.critic.init, (0, None, None))(
            jax.random.split(key_critic, 2),
            jnp.zeros(self._state_size, dtype),
            jnp.zeros((env.num_agents, *shape), dtype),
        )
        zero, one = jnp.zeros(self.num_parts, dtype), jnp.ones(self.num_parts, dtype)
        log_alpha = jnp.full(env.num_agents, jnp.log(hp.alpha), dtype)
        return Learned(
            actors=actors,
            actor_optimizer=jax.vmap(_adam.init)(actors),
            critics=critics,
            critic_optimizer=_adam.init(critics),
            targets=jax.tree.map(jnp.copy, critics),
            scale=Scale(zero, zero, jnp.zeros((), dtype), mean=zero, deviation=one),
            log_alpha=log_alpha,
            alpha_optimizer=jax.vmap(_adam.init)(log_alpha),
        )

    # ---- collecting ---------------------------------------------------------------------------

    def _first_lane(self, key: chex.PRNGKey, params: Any) -> Lane:
        _, env_state = self.env.reset(key, params)
        return Lane(env_state, tally.start(self.env))

    def _example(self, lanes: Lane) -> Transition:
        """A row of the shapes that `_step` stores."""
        state = _packed(jax.tree.map(lambda leaf: leaf[0], lanes.env_state))
        shape = (self.env.num_agents, self._branches.heads)
        return Transition(
            state=state,
            action=jnp.zeros(shape, self._action_dtype),
            reward=jnp.zeros(self.num_parts, self.env.float_dtype),
            next_state=state if self.bootstrap else None,
            terminated=jnp.asarray(False),
            lane=jnp.int32(0),
        )

    def _step(
        self, lanes: Lane, buffer: replay.Replay, act: Any, key: chex.PRNGKey, params: Any
    ) -> tuple[Lane, replay.Replay, dict[str, chex.Array]]:
        """One step of every environment, stored.

        act: from observations, masks of the heads (leaves ``[num_envs, n, ...]``) and a key to the
        choice of every head, int32.
        """
        axes = scenario_axes(self.env, params)
        key_act, key_resets = jax.random.split(key)
        before = lanes.env_state
        observation, mask = self._seen(before, params, axes)
        choice = act(observation, mask, key_act)

        def one(lane: Lane, action: chex.Array, key: chex.PRNGKey, params: Any) -> tuple[Any, ...]:
            _, after, reward, terminated, truncated, info = self.env.transition(
                lane.env_state, action, params
            )
            done = terminated | truncated
            episode, counts = tally.add(
                lane.episode, self.env, info, reward, jnp.asarray(True), done
            )
            counts |= {"decisions": jnp.int32(1), "mean_reward": reward}
            parts = info["reward_parts"] if self.hybrid_reward else reward[None]
            lane = Lane(self.env.restart(key, after, done, params), episode)
            return lane, parts, after, terminated, counts

        reset_keys = jax.random.split(key_resets, self.num_envs)
        action = self._branches.action(choice)
        lanes, parts, after, terminated, counts = jax.vmap(one, (0, 0, 0, axes))(
            lanes, action, reset_keys, params
        )
        rows = Transition(
            state=_packed(before),
            action=choice.astype(self._action_dtype),
            reward=parts,
            next_state=_packed(after) if self.bootstrap else None,
            terminated=terminated,
            lane=jnp.arange(self.num_envs, dtype=jnp.int32),
        )
        counts = {name: jnp.sum(values, dtype=values.dtype) for name, values in counts.items()}
        return lanes, replay.add(buffer, rows, jnp.ones(self.num_envs, bool)), counts

    def _random(self, observation: chex.Array, mask: chex.Array, key: chex.PRNGKey) -> chex.Array:
        noise = jax.random.gumbel(key, mask.shape, self.env.float_dtype)
        return jnp.argmax(jnp.where(mask, noise, -jnp.inf), axis=-1).astype(jnp.int32)

    def _seen(self, states: Any, params: Any, axes: Any) -> tuple[chex.Array, chex.Array]:
        """Observations and masks of the heads of all agents, of states with a leading axis."""
        observation = jax.vmap(self.env.observe, (0, axes))(states, params)
        mask = jax.vmap(self.env.action_mask, (0, axes))(states, params)
        return observation, self._branches.head_mask(mask)

    @property
    def _action_dtype(self) -> np.dtype:
        return np.dtype(np.int8 if self._branches.outputs <= 128 else np.int32)

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
        target = batch.reward
        if self.bootstrap:
            following = self._view(batch.next_state, batch.lane, params)
            ahead = self._soft_value(learned, following, key_next, hp)
            target += hp.discount * jnp.where(batch.terminated[:, None], 0.0, ahead)
        learned = self._rescaled(learned, target, hp)
        learned, metrics = self._learn_critics(learned, view, batch.action, target, hp)
        learned, acted = self._learn_actors(learned, view, key_actors, hp)
        targets = jax.tree.map(
            lambda slow, new: hp.target_decay * slow + (1 - hp.target_decay) * new,
            learned.targets,
            learned.critics,
        )
        return learned.replace(targets=targets), metrics | acted

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
        observation, mask = self._seen(states, own, axes)
        world = jax.vmap(self.env.global_state, (0, axes))(states, own)
        return View(
            observation=jnp.moveaxis(observation, 1, 0),
            mask=jnp.moveaxis(mask, 1, 0),
            world=world.reshape(len(world), -1),
        )

    def _draw(
        self,
        actors: Any,
        observation: chex.Array,
        mask: chex.Array,
        key: chex.PRNGKey,
        hp: Hyperparameters,
    ) -> tuple[chex.Array, chex.Array]:
        """One-hots of all agents ``[n, B, heads, choices]`` and their log-probabilities ``[n, B]``.

        observation, mask: ``[n, B, ...]``.
        """
        keys = jax.random.split(key, self.env.num_agents)
        draw = jax.vmap(self._draw_one, (0, 0, 0, 0, None))
        return draw(actors, observation, mask, keys, hp)

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

    def _values(
        self, critics: Any, scale: Scale, world: chex.Array, one_hot: chex.Array
    ) -> chex.Array:
        """min over the critics of Q, ``[B, parts]``, of one-hots ``[n, B, heads, choices]``."""
        first, second = scale.mean + scale.deviation * self._normalised(critics, world, one_hot)
        # jnp.min has the gradient 0/0 where a compiler rounds its operand and result differently.
        return jnp.where(first < second, first, second)

    def _normalised(self, critics: Any, world: chex.Array, one_hot: chex.Array) -> chex.Array:
        """What the critics put out, ``[2, B, parts]``."""
        actions = jnp.moveaxis(one_hot, 0, 1)
        return jax.vmap(self.critic.apply, (0, None, None))(critics, world, actions)

    def _soft_value(
        self, learned: Learned, view: View, key: chex.PRNGKey, hp: Hyperparameters
    ) -> chex.Array:
        """min_j Q_j^i - w alpha sum_n log pi_n at new actions, ``[B, parts]``; (27), (31)."""
        one_hot, log_probability = self._draw(learned.actors, view.observation, view.mask, key, hp)
        value = self._values(learned.targets, learned.scale, view.world, one_hot)
        if self.entropy_split == "none":
            return value
        weight = 1 / self.num_parts if self.entropy_split == "third" else 1.0
        alpha = jnp.mean(jnp.exp(learned.log_alpha))
        return value - weight * alpha * jnp.sum(log_probability, axis=0)[:, None]

    def _rescaled(self, learned: Learned, target: chex.Array, hp: Hyperparameters) -> Learned:
        """Adds targets ``[B, parts]`` to the scale; the critics' values stay what they were."""
        old, keep = learned.scale, hp.value_decay
        weight = keep * old.weight + (1 - keep)
        total = keep * old.total + (1 - keep) * jnp.mean(target, axis=0)
        mean = total / weight
        squares = keep * old.squares + (1 - keep) * jnp.mean((target - mean) ** 2, axis=0)
        deviation = jnp.maximum(jnp.sqrt(squares / weight), LEAST_DEVIATION)

        def rescale(critics: Any) -> Any:
            layers = critics["params"]
            head = layers["values"]
            head = {
                "kernel": head["kernel"] * (old.deviation / deviation),
                "bias": (old.deviation * head["bias"] + old.mean - mean) / deviation,
            }
            return {"params": layers | {"values": head}}

        return learned.replace(
            critics=rescale(learned.critics),
            targets=rescale(learned.targets),
            scale=Scale(total, squares, weight, mean, deviation),
        )

    def _learn_critics(
        self,
        learned: Learned,
        view: View,
        action: chex.Array,
        target: chex.Array,
        hp: Hyperparameters,
    ) -> tuple[Learned, dict[str, chex.Array]]:
        """One step of Adam on the squared error of both critics; (32)."""
        scale = learned.scale
        normalised = (target - scale.mean) / scale.deviation
        one_hot = jax.nn.one_hot(
            jnp.moveaxis(action, 1, 0), self._branches.outputs, dtype=self.env.float_dtype
        )

        def loss(critics: Any) -> tuple[chex.Array, chex.Array]:
            value = self._normalised(critics, view.world, one_hot)
            error = jnp.sum((normalised - value) ** 2, axis=-1)
            return jnp.sum(jnp.mean(error, axis=1)), value

        (error, value), gradient = jax.value_and_grad(loss, has_aux=True)(learned.critics)
        direction, optimizer = _adam.update(gradient, learned.critic_optimizer)
        critics = jax.tree.map(lambda x, d: x - hp.lr_critic * d, learned.critics, direction)
        value = jnp.sum(scale.mean + scale.deviation * value, axis=-1)
        metrics = {"critic_loss": error, "q": jnp.mean(value)}
        return learned.replace(critics=critics, critic_optimizer=optimizer), metrics

    def _learn_actors(
        self, learned: Learned, view: View, key: chex.PRNGKey, hp: Hyperparameters
    ) -> tuple[Learned, dict[str, chex.Array]]:
        """One step of every actor, in a random order; (30), (33).

        Those before an agent act by their new policies, those after it by the old ones.
        """
        agents = self.env.num_agents
        key_order, key_old, key_own, key_new = jax.random.split(key, 4)
        one_hot, _ = self._draw(learned.actors, view.observation, view.mask, key_old, hp)
        unit = jnp.sqrt(jnp.sum(learned.scale.deviation**2))
        largest = jnp.sum(jnp.mean(jnp.log(jnp.sum(view.mask, axis=-1)), axis=1), axis=-1)
        goal = hp.entropy_share * largest.astype(self.env.float_dtype)

        def one(carry: tuple[Any, ...], item: tuple[Any, ...]) -> tuple[Any, Any]:
            actors, optimizers, one_hot, log_alpha, alpha_optimizers = carry
            n, key_own, key_new = item
            observation, mask, alpha = view.observation[n], view.mask[n], jnp.exp(log_alpha[n])

            def loss(actor: Any) -> tuple[chex.Array, chex.Array]:
                own, log_probability = self._draw_one(actor, observation, mask, key_own, hp)
                value = self._values(
                    learned.critics, learned.scale, view.world, one_hot.at[n].set(own)
                )
                gain = jnp.sum(value, axis=-1) - alpha * log_probability
                return -jnp.mean(gain) / unit, jnp.mean(log_probability)

            actor, optimizer = jax.tree.map(lambda x: x[n], (actors, optimizers))
            (cost, log_probability), gradient = jax.value_and_grad(loss, has_aux=True)(actor)
            norm = optax.tree.norm(gradient)
            shrink = jnp.minimum(1.0, hp.max_gradient_norm / jnp.maximum(norm, 1e-12))
            gradient = jax.tree.map(lambda g: shrink * g, gradient)
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
            carry = (actors, optimizers, one_hot.at[n].set(drawn), log_alpha, alpha_optimizers)
            return carry, {"actor_loss": cost, "entropy": -log_probability, "alpha": alpha}

        order = jax.random.permutation(key_order, agents)
        items = (order, jax.random.split(key_own, agents), jax.random.split(key_new, agents))
        start = (
            learned.actors,
            learned.actor_optimizer,
            one_hot,
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

    def _scheduled(self, hp: Hyperparameters, updates: chex.Array) -> Hyperparameters:
        if not self.schedule_updates:
            return hp
        left = jnp.clip(1 - updates.astype(self.env.float_dtype) / self.schedule_updates, 0.0, 1.0)
        share = 0.05 + 0.95 * left
        return hp.replace(lr_actor=share * hp.lr_actor, lr_critic=share * hp.lr_critic)


LEAST_DEVIATION = 1e-3
_adam = optax.scale_by_adam()


def _packed(states: Any) -> Any:
    """States whose key is plain data, as a buffer holds them."""
    return states.replace(key=jax.random.key_data(states.key))


_CHOICES: dict[str, tuple[Any, ...]] = {
    "hybrid_reward": (False, True),
    "autoregressive": (False, True),
    "bootstrap": (False, True),
    "entropy_split": ("third", "full", "none"),
    "feed": ("sample", "probs"),
    "temperature": ("fixed", "learned"),
}
