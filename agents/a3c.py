"""A3C: advantage actor-critic with asynchronous workers and one softmax branch per decision.

In multi-task A3C every entry of a MultiDiscrete action has a softmax branch of its own on a shared
trunk, so outputs grow with the sum of the entries' sizes and not with their product:
pi(a|x) = prod_m pi_m(a_m|x). Source: "Distributed DNN Inference with Fine-grained Model
Partitioning in Mobile Edge Computing Networks", IEEE Transactions on Mobile Computing, 2024
(`jaxenv.partitioning` has the full reference), eqs (16) to (24) and Algorithm 1; the method is of
V. Mnih et al., "Asynchronous Methods for Deep Reinforcement Learning", ICML 2016. Where the paper
cannot be meant literally:

- (18), (21) have V(A) and H(pi(A)): value and entropy are of the state;
- (18) to (22) ascend one term and descend the other: one loss is minimised here;
- (20) has 1/M before the actor's loss: ``branch_mean``; the sum over branches, the logarithm of the
  joint probability, is the policy gradient;
- Algorithm 1 keeps a replay memory: a rollout is used once, as its gradient is that of the policy
  that made it;
- an episode ends by time, so the value of its final state is bootstrapped.

Asynchrony is a clock: worker ``k mod W`` takes turn k. It makes a rollout with its own copy of the
parameters, applies the gradient at that copy to the global parameters, and copies those. From the
second round on every gradient is W - 1 updates old. A rollout depends on its own worker alone, so
all rollouts and gradients of a round are computed together and only applied one after the other.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import chex
import jax
import jax.numpy as jnp
import optax

from agents import branches, checks, collecting, steps, tally
from agents.branches import Branches
from agents.distributions import draw, masked_logits, masked_policy
from agents.learner import (
    Learner,
    Policy,
    scenario_axes,
    unsupported_observation,
    unsupported_reward,
)
from agents.networks import ActorCritic
from agents.spread import gathered, over_environments
from jaxenv import struct
from jaxenv.environment import Environment, as_key
from jaxenv.errors import ConfigError


@struct.dataclass
class Hyperparameters:
    """Traced scalars; a grid of them trains as one program.

    lr: of RMSProp. discount: per decision (gamma). trace_decay: weight of longer returns in the
    advantage (lambda of GAE); 1 is the return to the end of the rollout. entropy_weight,
    value_weight: of the loss. exploration: probability by which a branch acts uniformly instead.
    max_gradient_norm: where gradients are clipped. rms_decay, rms_epsilon: of RMSProp, the latter
    inside the root. trunk_penalty: weight of the distance between the trunks with
    ``sharing="soft"``. reward_scale: multiplies every reward that is learned from. averaging: share
    of the averaged parameters that one call of `update` keeps; the average is what `policy` gives,
    0 = the latest.
    """

    lr: chex.Array
    discount: chex.Array
    trace_decay: chex.Array
    entropy_weight: chex.Array
    value_weight: chex.Array
    exploration: chex.Array
    max_gradient_norm: chex.Array
    rms_decay: chex.Array
    rms_epsilon: chex.Array
    trunk_penalty: chex.Array
    reward_scale: chex.Array
    averaging: chex.Array


@struct.dataclass
class Lane(collecting.Lane):
    """A worker's environment; in `A3CState` every leaf has a leading axis ``num_workers``.

    key: of its draws. discounted: sum of its discounted rewards.
    """

    key: chex.PRNGKey
    discounted: chex.Array


@struct.dataclass
class Rollout:
    """What a worker met, in the order of time: leaves ``[T, ...]``, or ``[T, W, ...]`` of all.

    observation, mask: of the environment. choice: int32 ``[heads]``. reward: as learned from.
    deciding: whether the choice counted. final_observation: of the state it led to. discounting:
    whether that waits for a decision, or is the end. terminated, done: of the episode.
    """

    observation: chex.Array
    mask: chex.Array
    choice: chex.Array
    reward: chex.Array
    deciding: chex.Array
    final_observation: chex.Array
    discounting: chex.Array
    terminated: chex.Array
    done: chex.Array


@struct.dataclass
class Spread:
    """Running variance of discounted sums of rewards: ``count``, ``mean``, squared deviations."""

    count: chex.Array
    mean: chex.Array
    squares: chex.Array


@struct.dataclass
class A3CState:
    """A whole training run: one pytree, from which it resumes exactly.

    parameters: the global ones. copies: the workers' own, ``[num_workers, ...]``; None with
    ``synchronous``. average: of the parameters. rms: RMSProp's running squares, which all workers
    share. updates: calls of `update`.
    """

    parameters: Any
    copies: Any
    average: Any
    rms: Any
    lanes: Lane
    spread: Spread
    updates: chex.Array


@struct.dataclass
class A3CPolicy(Policy):
    """The learned policy: the most probable valid value of every branch, or drawn if ``sample``."""

    parameters: Any
    network: ActorCritic = struct.field(pytree_node=False)
    branches: Branches = struct.field(pytree_node=False)
    sample: bool = struct.field(pytree_node=False, default=False)

    def act(self, carry, key, observation, mask, state, params):
        logits, _ = self.network.apply(self.parameters, observation)
        logits = masked_logits(logits, self.branches.head_mask(mask))
        choice = (
            jax.random.categorical(key, logits, axis=-1)
            if self.sample
            else jnp.argmax(logits, axis=-1)
        )
        return self.branches.action(choice.astype(jnp.int32)), carry


@dataclasses.dataclass(frozen=True)
class A3C(Learner):
    """Advantage actor-critic on an environment with one Discrete or MultiDiscrete action space.

    hidden: widths of a trunk's hidden layers. num_workers: workers, each with one environment.
    rollout_length: t_max, steps of each per `update`. synchronous: one update with the mean
    gradient of all workers instead of one after the other. sharing: actor and critic have one trunk
    (``hard``), two that attract each other (``soft``) or two (``none``). head: a softmax branch per
    entry of the action (``branches``), or one softmax over all joint actions (``joint``).
    branch_mean: divides the actor's loss by the number of branches. rewards: over
    ``env.reward_unit(params)`` (``units``), over the running deviation of discounted sums
    (``running``), or as they are (``raw``). schedule_updates: calls of `update` after which
    learning rate, entropy weight and exploration have fallen linearly, the first to a twentieth,
    the others to 0; 0 = constant.

    Observations ``[branches, D]`` get one row network for all branches; any other is flattened.
    """

    hidden: tuple[int, ...] = (128, 128)
    num_workers: int = 8
    rollout_length: int = 30
    synchronous: bool = False
    sharing: Literal["hard", "soft", "none"] = "hard"
    head: Literal["branches", "joint"] = "branches"
    branch_mean: bool = False
    rewards: Literal["units", "running", "raw"] = "units"
    schedule_updates: int = 0

    name: ClassVar[str] = "a3c"

    def __post_init__(self) -> None:
        checks.check_fields(self)
        reason = branches.unsupported(self.env.action_space, joint=self.head == "joint")
        if reason is not None:
            raise ConfigError("head", self.head, reason)

    # ---- the contract -------------------------------------------------------------------------

    @property
    def shared_environments(self) -> int:
        return self.num_workers

    @classmethod
    def unsupported(cls, env: Environment) -> str | None:
        reason = unsupported_observation(env) or unsupported_reward(env)
        return reason or branches.unsupported(env.action_space)

    def default_hp(self) -> Hyperparameters:
        return self.scalars(
            Hyperparameters(
                lr=1e-3,
                discount=0.95,
                trace_decay=0.95,
                entropy_weight=0.01,
                value_weight=0.5,
                exploration=0.0,
                max_gradient_norm=0.5,
                rms_decay=0.99,
                rms_epsilon=1e-5,
                trunk_penalty=1e-3,
                reward_scale=1.0,
                averaging=0.0,
            )
        )

    def validate(self, hp: Hyperparameters) -> None:
        checks.check_hyperparameters(
            hp,
            {
                "lr": checks.POSITIVE,
                "discount": checks.UNIT,
                "trace_decay": checks.UNIT,
                "entropy_weight": checks.NOT_NEGATIVE,
                "value_weight": checks.POSITIVE,
                "exploration": checks.UNIT,
                "max_gradient_norm": (lambda x: x > 0, "give a positive number, inf = no clipping"),
                "rms_decay": checks.BELOW_ONE,
                "rms_epsilon": checks.POSITIVE,
                "trunk_penalty": checks.NOT_NEGATIVE,
                "reward_scale": checks.POSITIVE,
                "averaging": checks.BELOW_ONE,
            },
        )

    def init(self, key: chex.PRNGKey, params: Any, hp: Hyperparameters) -> A3CState:
        key_network, key_lanes = jax.random.split(as_key(key))
        space = self.env.observation_space
        parameters = self.network.init(key_network, jnp.zeros(space.shape, space.dtype))
        copies = None
        if not self.synchronous:
            copies = jax.tree.map(lambda x: jnp.stack([x] * self.num_workers), parameters)
        start = jax.vmap(self._first_lane, (0, scenario_axes(self.env, params)))
        zero = jnp.zeros((), self.env.float_dtype)
        return A3CState(
            parameters=parameters,
            copies=copies,
            average=jax.tree.map(jnp.copy, parameters),
            rms=_rms(hp).init(parameters),
            lanes=start(jax.random.split(key_lanes, self.num_workers), params),
            spread=Spread(zero, zero, zero),
            updates=jnp.int32(0),
        )

    def update(
        self, state: A3CState, params: Any, hp: Hyperparameters
    ) -> tuple[A3CState, dict[str, chex.Array]]:
        """A round: every worker's turn, or one turn of all with ``synchronous``.

        Args:
            state: of the run so far.
            params: the scenario; each leaf may carry a leading axis ``num_workers``.
            hp: the hyperparameters.

        Returns:
            The state and scalars. Means over the workers: ``policy_loss``, ``value_loss``,
            ``entropy`` (nat, of a branch), ``gradient_norm`` (before clipping). ``mean_reward``:
            per step. ``decisions`` taken. What `tally.add` counts.
        """
        dtype = self.env.float_dtype
        hp = self.scalars(hp)
        hp = self._scheduled(hp, state.updates)
        acting = state.parameters if self.synchronous else state.copies
        lanes, spread, rollout, metrics = self.collect(
            acting, state.lanes, state.spread, params, hp
        )
        if self.synchronous:
            gradient, losses = self.gradient(acting, rollout, hp)
            learned = self.apply(state.parameters, state.rms, gradient, hp)
            copies, losses = None, losses | {"gradient_norm": optax.tree.norm(gradient)}
        else:
            gradients, losses = jax.vmap(self.gradient, (0, 1, None))(acting, rollout, hp)
            losses |= {"gradient_norm": jax.vmap(optax.tree.norm)(gradients)}

            def turn(learned: Any, gradient: Any) -> tuple[Any, Any]:
                learned = self.apply(*learned, gradient, hp)
                return learned, learned[0]

            learned, copies = jax.lax.scan(turn, (state.parameters, state.rms), gradients)
        parameters, rms = learned
        # A plain mean of the first few, so that the untrained parameters leave no trace.
        keep = jnp.minimum(hp.averaging, 1 - 1 / (1 + state.updates.astype(dtype)))
        state = A3CState(
            parameters=parameters,
            copies=copies,
            average=jax.tree.map(lambda m, x: x + keep * (m - x), state.average, parameters),
            rms=rms,
            lanes=lanes,
            spread=spread,
            updates=state.updates + 1,
        )
        return state, {name: jnp.mean(value) for name, value in losses.items()} | metrics

    def policy(self, state: A3CState) -> A3CPolicy:
        return A3CPolicy(parameters=state.average, network=self.network, branches=self.branches)

    # ---- network and loss ---------------------------------------------------------------------

    @property
    def branches(self) -> Branches:
        """How an action is made of the network's choices."""
        return Branches.of(self.env.action_space, joint=self.head == "joint")

    @property
    def network(self) -> ActorCritic:
        """From an observation to the logits of all heads and the value."""
        heads, shape = self.branches.heads, self.env.observation_space.shape
        return ActorCritic(
            hidden=self.hidden,
            heads=heads,
            outputs=self.branches.outputs,
            shape=shape,
            rows=self.head == "branches" and len(shape) == 2 and shape[0] == heads,
            shared=self.sharing == "hard",
            dtype=self.env.float_dtype,
        )

    def gradient(
        self, parameters: Any, rollout: Rollout, hp: Hyperparameters
    ) -> tuple[Any, dict[str, chex.Array]]:
        """The gradient of `loss`, and its parts."""
        return jax.grad(self.loss, has_aux=True)(parameters, rollout, hp)

    def loss(
        self, parameters: Any, rollout: Rollout, hp: Hyperparameters
    ) -> tuple[chex.Array, dict[str, chex.Array]]:
        """-mean{sum_m [log pi_m(a_m|x) A + beta_H H(pi_m)]} + c_v mean{(R - V)^2}, A detached.

        With ``sharing="soft"`` also lambda_s times the squared distance between the trunks.
        """
        logits, value = self.network.apply(parameters, rollout.observation)
        _, next_value = self.network.apply(parameters, rollout.final_observation)
        seen = jax.lax.stop_gradient((value, next_value))
        advantage = steps.rollout_advantages(rollout, *seen, hp)
        target = advantage + jax.lax.stop_gradient(value)

        mask = self.branches.head_mask(rollout.mask)
        probability, log_probability = masked_policy(logits, mask)
        entropy = -jnp.sum(probability * log_probability, axis=-1)
        taken = jnp.take_along_axis(log_probability, rollout.choice[..., None], axis=-1)[..., 0]
        valid = jnp.sum(mask, axis=-1, dtype=taken.dtype)
        uniform = jnp.log(hp.exploration) - jnp.log(valid)
        taken = jnp.logaddexp(jnp.log1p(-hp.exploration) + taken, uniform)
        merge = jnp.mean if self.branch_mean else jnp.sum
        gain = merge(taken * advantage[..., None] + hp.entropy_weight * entropy, axis=-1)
        decisions = jnp.maximum(jnp.sum(rollout.deciding), 1)
        policy_loss = -jnp.sum(gain, where=rollout.deciding) / decisions
        value_loss = jnp.mean((target - value) ** 2)
        loss = policy_loss + hp.value_weight * value_loss
        if self.sharing == "soft":
            trunks = parameters["params"]["actor"], parameters["params"]["critic"]
            apart = optax.tree.sub(*trunks)
            loss += hp.trunk_penalty * optax.tree.norm(apart, squared=True)
        mean_entropy = jnp.sum(jnp.mean(entropy, -1), where=rollout.deciding) / decisions
        return loss, {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": mean_entropy,
        }

    def apply(
        self, parameters: Any, rms: Any, gradient: Any, hp: Hyperparameters
    ) -> tuple[Any, Any]:
        """One step of RMSProp, eqs (23), (24), on the clipped gradient."""
        gradient = steps.limited(gradient, hp.max_gradient_norm)
        return steps.descended(_rms(hp), parameters, rms, gradient, hp.lr)

    def _scheduled(self, hp: Hyperparameters, updates: chex.Array) -> Hyperparameters:
        if not self.schedule_updates:
            return hp
        of = (self.schedule_updates, updates, self.env.float_dtype)
        left = steps.left(*of)
        return hp.replace(
            lr=hp.lr * steps.falling(*of),
            entropy_weight=hp.entropy_weight * left,
            exploration=hp.exploration * left,
        )

    # ---- collecting ---------------------------------------------------------------------------

    def collect(
        self, parameters: Any, lanes: Lane, spread: Spread, params: Any, hp: Hyperparameters
    ) -> tuple[Lane, Spread, Rollout, dict[str, chex.Array]]:
        """``rollout_length`` steps of every worker by its own parameters, or by those of all.

        Args:
            parameters: the network's; ``[num_workers, ...]`` unless ``synchronous``.
            lanes: of the workers.
            spread: of the rewards.
            params: the scenario.
            hp: the hyperparameters.

        Returns:
            The lanes, the spread, the rollout ``[T, W, ...]`` and metrics.
        """
        axes = scenario_axes(self.env, params)
        network = self.network.apply
        if not self.synchronous:
            network = jax.vmap(network)
        shape = (self.rollout_length, self.branches.heads)

        def randomness(key: chex.PRNGKey) -> tuple[Any, ...]:
            key, key_choices, key_resets = jax.random.split(key, 3)
            uniform = jax.random.uniform(key_choices, shape, self.env.float_dtype)
            return key, uniform, jax.random.split(key_resets, self.rollout_length)

        key, uniform, resets = jax.vmap(randomness, out_axes=(0, 1, 1))(gathered(lanes.key))
        lanes = lanes.replace(key=key)

        def step(carry: tuple[Lane, Spread], drawn: tuple[Any, Any]) -> tuple[Any, Any]:
            lanes, spread = carry
            uniform, keys = drawn
            observation, mask = gathered(
                over_environments(self._shown, (0, axes))(lanes.env_state, params)
            )
            logits, _ = network(parameters, observation)
            valid = self.branches.head_mask(mask)
            probability, _ = masked_policy(logits, valid)
            even = valid / jnp.sum(valid, axis=-1, keepdims=True, dtype=logits.dtype)
            probability += hp.exploration * (even - probability)
            choice = draw(uniform, probability, valid)
            step_lanes = over_environments(self._lane_step, (0, 0, 0, axes, None))
            lanes, *rest = step_lanes(lanes, keys, self.branches.action(choice), params, hp)
            made, discounted, counts = gathered(rest)
            spread, made["reward"] = self._scaled(spread, made["reward"], discounted)
            record = Rollout(observation=observation, mask=mask, choice=choice, **made)
            return (lanes, spread), (record, counts)

        drawn = uniform, resets
        (lanes, spread), (rollout, counts) = jax.lax.scan(step, (lanes, spread), drawn)
        metrics = {name: jnp.sum(values, dtype=values.dtype) for name, values in counts.items()}
        metrics["mean_reward"] /= self.rollout_length * self.num_workers
        return lanes, spread, rollout, metrics

    def _shown(self, env_state: Any, params: Any) -> tuple[chex.Array, chex.Array]:
        return self.env.observe(env_state, params), self.env.action_mask(env_state, params)

    def _lane_step(
        self, lane: Lane, key: chex.PRNGKey, action: chex.Array, params: Any, hp: Hyperparameters
    ) -> tuple[Lane, dict[str, chex.Array], chex.Array, dict[str, chex.Array]]:
        """One step of one worker's environment.

        Returns:
            The lane, its part of the rollout, the discounted sum with this reward, and counts.
        """
        after, met, counts = collecting.step(self.env, lane, key, action, params)
        counts |= {"mean_reward": met.reward}
        unit = self.env.reward_unit(params) if self.rewards == "units" else 1.0
        reward = hp.reward_scale * met.reward / unit
        made = {
            "reward": reward,
            "deciding": lane.deciding,
            "final_observation": met.observation,
            "discounting": met.deciding,
            "terminated": met.terminated,
            "done": met.done,
        }
        discounted = reward + jnp.where(met.deciding, hp.discount, 1.0) * lane.discounted
        after = after.replace(discounted=jnp.where(met.done, 0.0, discounted))
        return after, made, discounted, counts

    def _scaled(
        self, spread: Spread, reward: chex.Array, discounted: chex.Array
    ) -> tuple[Spread, chex.Array]:
        """Rewards ``[W]`` over the deviation of all discounted sums so far, with ``running``.

        As long as these are equal, such as the one of a single worker's first step, rewards stay as
        they are.
        """
        if self.rewards != "running":
            return spread, reward
        spread, _ = jax.lax.scan(_spread_with, spread, discounted)
        deviation = jnp.sqrt(spread.squares / jnp.maximum(spread.count, 1))
        return spread, reward / jnp.where(deviation > 0, jnp.maximum(deviation, 1e-6), 1)

    def _first_lane(self, key: chex.PRNGKey, params: Any) -> Lane:
        key, key_env = jax.random.split(key)
        _, env_state = self.env.reset(key_env, params)
        return Lane(
            env_state=env_state,
            deciding=jnp.asarray(True),
            episode=tally.start(self.env),
            key=key,
            discounted=jnp.zeros((), self.env.float_dtype),
        )


def _spread_with(spread: Spread, value: chex.Array) -> tuple[Spread, None]:
    """The spread of one value more, by Welford's recurrence."""
    count = spread.count + 1
    mean = spread.mean + (value - spread.mean) / count
    squares = spread.squares + (value - spread.mean) * (value - mean)
    return Spread(count, mean, squares), None


def _rms(hp: Hyperparameters) -> optax.GradientTransformation:
    return optax.scale_by_rms(decay=hp.rms_decay, eps=hp.rms_epsilon, eps_in_sqrt=True)
