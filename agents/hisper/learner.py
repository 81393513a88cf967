"""A run of HISPER: its start, collecting, learning."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
import numpy as np

from agents import checks, replay, steps, team
from agents.hisper.policies import Policies
from agents.hisper.state import HisperState, Hyperparameters, Learned, Transition, adam, packed
from agents.networks import standardised
from agents.sequential import SequentialPolicy
from agents.spread import gathered
from agents.team import Lane, Scale, View
from jaxenv.environment import Environment, as_key
from jaxenv.errors import ConfigError

STANDARD_ROWS = 20_000


@dataclasses.dataclass(frozen=True)
class Hisper(Policies):
    """HISPER on an environment of several agents with Discrete or MultiDiscrete actions.

    Sizes and options are those of `agents.hisper.sizes.Sizes`.
    """

    name: ClassVar[str] = "hisper"

    # ---- the contract ---------------------------------------------------------------------------

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

    def policy(self, state: HisperState) -> SequentialPolicy:
        return SequentialPolicy(state.learned.actors, self.actor, self._team.branches)

    # ---- the start ------------------------------------------------------------------------------

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
            actor_optimizer=jax.vmap(adam.init)(actors),
            critics=critics,
            critic_optimizer=adam.init(critics),
            targets=jax.tree.map(jnp.copy, critics),
            scale=Scale.start(self._team.num_parts, dtype),
            log_alpha=log_alpha,
            alpha_optimizer=jax.vmap(adam.init)(log_alpha),
        )

    def _standardised(self, learned: Learned, buffer: replay.Replay, params: Any) -> Learned:
        """Networks that see their inputs as they are spread over the oldest rows of a buffer."""
        count = min(self.prefill, self.buffer_size, STANDARD_ROWS)
        rows = jax.tree.map(lambda leaf: leaf[:count], buffer.rows)
        view = self._view(rows.state, rows.lane, params)
        critics = standardised(learned.critics, view.world)
        return learned.replace(
            actors=standardised(learned.actors, view.observation),
            critics=critics,
            targets=jax.tree.map(jnp.copy, critics),
        )

    # ---- collecting -----------------------------------------------------------------------------

    def _example(self, lanes: Lane) -> Transition:
        """A row of the shapes that `_step` stores."""
        state = packed(jax.tree.map(lambda leaf: leaf[0], lanes.env_state))
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
            state=packed(before),
            action=jnp.moveaxis(choice, 0, 1).astype(self._action_dtype),
            reward=made.reward,
            next_state=packed(made.after) if self.bootstrap else None,
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

    # ---- learning -------------------------------------------------------------------------------

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
