"""Small environments whose values, policies and schedules are known by hand."""

from __future__ import annotations

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxenv import spaces, struct
from jaxenv.environment import Environment, Metric, Params, State

UNBOUNDED = (-np.inf, np.inf)


@struct.dataclass
class BanditParams(Params):
    """reward: of each action in each context, ``[contexts, arms]``. valid: bool, likewise."""

    reward: chex.Array
    valid: chex.Array


@struct.dataclass
class BanditState(State):
    """context: int32, observed one-hot."""

    context: chex.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bandit(Environment):
    """One step per episode, in a context drawn uniformly. Q(context, action) is the reward."""

    num_contexts: int = 1
    num_arms: int = 4

    name = "bandit"
    metrics = (
        Metric("regret", "1", "min", "sum", of="regret"),
        Metric("hit_rate", "%", "max", "ratio", of="hit", over="pull", scale=100.0),
    )

    def default_params(self):
        shape = (self.num_contexts, self.num_arms)
        reward = jnp.arange(self.num_contexts * self.num_arms, dtype=self.dtype).reshape(shape)
        return BanditParams(jnp.int32(1), reward / reward.size, jnp.ones(shape, bool))

    def reset_env(self, key, params):
        context = jax.random.randint(key, (), 0, self.num_contexts, jnp.int32)
        return BanditState(key=key, time=jnp.int32(0), context=context)

    def step_env(self, key, state, action, params):
        reward = params.reward[state.context, action]
        regret = jnp.max(
            params.reward[state.context], where=params.valid[state.context], initial=-9
        )
        one = jnp.ones((), self.dtype)
        info = {"regret": regret - reward, "hit": one * (regret == reward), "pull": one}
        return state, reward, jnp.asarray(True), info

    def observe(self, state, params):
        return jax.nn.one_hot(state.context, self.num_contexts, dtype=self.dtype)

    def action_mask(self, state, params):
        return params.valid[state.context]

    @property
    def observation_space(self):
        return spaces.Box(*UNBOUNDED, (self.num_contexts,), self.float_dtype)

    @property
    def action_space(self):
        return spaces.Discrete(self.num_arms)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Steering(Bandit):
    """A `Bandit` whose actions are no choices."""

    @property
    def action_space(self):
        return spaces.Box(-1.0, 1.0, (2,))


class Pair(Bandit):
    """A `Bandit` of two agents."""

    num_agents = 2


@struct.dataclass
class PlacementParams(Params):
    """reward: of each pair of entries in each context, ``[contexts, 3, 2]``. valid: ``[2, 3]``."""

    reward: chex.Array
    valid: chex.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Placement(Environment):
    """A bandit whose action is a pair, the first of 3 values and the second of 2."""

    num_contexts: int = 1

    name = "placement"
    metrics = (Metric("reward", "1", "max", "sum", of="reward"),)

    def default_params(self):
        shape = (self.num_contexts, 3, 2)
        reward = jnp.arange(6 * self.num_contexts, dtype=self.dtype).reshape(shape)
        return PlacementParams(jnp.int32(1), reward, self.action_space.mask())

    def reset_env(self, key, params):
        context = jax.random.randint(key, (), 0, self.num_contexts, jnp.int32)
        return BanditState(key=key, time=jnp.int32(0), context=context)

    def step_env(self, key, state, action, params):
        reward = params.reward[state.context, action[0], action[1]]
        return state, reward, jnp.asarray(True), {}

    def observe(self, state, params):
        return jax.nn.one_hot(state.context, self.num_contexts, dtype=self.dtype)

    def action_mask(self, state, params):
        return params.valid

    @property
    def observation_space(self):
        return spaces.Box(*UNBOUNDED, (self.num_contexts,), self.float_dtype)

    @property
    def action_space(self):
        return spaces.MultiDiscrete((3, 2))


@struct.dataclass
class CorridorParams(Params):
    """reward: paid for leaving each place, ``[2]``. terminal: whether leaving place 1 ends it."""

    reward: chex.Array
    terminal: chex.Array


@struct.dataclass
class CorridorState(State):
    """place: 0 or 1, observed one-hot."""

    place: chex.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corridor(Environment):
    """From place 0 to place 1, where it stays; one action is valid, the place's own number.

    With discount g and ``terminal``: Q1 = r1, Q0 = r0 + g*r1. Else only the time limit of 2 steps
    ends an episode and Q1 = r1/(1 - g), Q0 = r0 + g*Q1. (Were the limit taken as a termination, Q1
    would be r1; were the next observation that of the reset, Q1 = (r1 + g*r0)/(1 - g**2).)
    """

    name = "corridor"

    def default_params(self):
        reward = jnp.asarray([0.0, 1.0], self.dtype)
        return CorridorParams(jnp.int32(2), reward, jnp.asarray(False))

    def reset_env(self, key, params):
        return CorridorState(key=key, time=jnp.int32(0), place=jnp.int32(0))

    def step_env(self, key, state, action, params):
        terminated = params.terminal & (state.place == 1)
        return state.replace(place=jnp.int32(1)), params.reward[state.place], terminated, {}

    def observe(self, state, params):
        return jax.nn.one_hot(state.place, 2, dtype=self.dtype)

    def action_mask(self, state, params):
        return jnp.arange(2) == state.place

    @property
    def observation_space(self):
        return spaces.Box(*UNBOUNDED, (2,), self.float_dtype)

    @property
    def action_space(self):
        return spaces.Discrete(2)


@struct.dataclass
class ConvoyParams(Params):
    """turns_per_step: int32, the most turns one step runs; it may return before a decision."""

    turns_per_step: chex.Array


@struct.dataclass
class ConvoyState(State):
    """turn: int32. vehicle: which asks now. decision: int32, index of the next decision.

    ends: int32[V], the turn at which each vehicle's task ends, -1 if it has none. started,
    decided: int32[V], the turn at which it was submitted and the index of its decision.
    """

    turn: chex.Array
    vehicle: chex.Array
    decision: chex.Array
    ends: chex.Array
    started: chex.Array
    decided: chex.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convoy(Environment):
    """Vehicles ask on a fixed schedule and are paid minus the duration when their task ends.

    In turn k, first the tasks that end in k are paid; then ``asks[k]`` (-1: nobody) asks, for a
    task of ``lasts[k]`` turns. The one valid action is the decision's index, modulo 4. After the
    last turn everything is paid at once and the episode is truncated. Observation: turn, vehicle.

    reward_mode: ``completion`` pays by the scalar reward, ``own`` by ``info["finished"]``.
    """

    num_vehicles: int = 3
    asks: tuple[int, ...] = (0, 1, -1, 2, -1, 1, 0, -1)
    lasts: tuple[int, ...] = (6, 1, 0, 9, 0, 1, 2, 0)
    reward_mode: str = "completion"

    name = "convoy"
    metrics = (
        Metric("waiting", "turn", "min", "sum", of="waiting"),
        Metric("mean_reward", "1", "max", "mean", of="reward"),
    )

    def default_params(self):
        return ConvoyParams(max_steps=jnp.int32(1000), turns_per_step=jnp.int32(100))

    def reset_env(self, key, params):
        none = jnp.full((self.num_vehicles,), -1, jnp.int32)
        zero = jnp.int32(0)
        return ConvoyState(key, zero, zero, jnp.int32(self.asks[0]), zero, none, none, none)

    def step_env(self, key, state, action, params):
        vehicle, turns = state.vehicle, len(self.asks)
        asks, lasts = (jnp.asarray(table, jnp.int32) for table in (self.asks, self.lasts))
        submits = self._is_decision(state)
        mine = (jnp.arange(self.num_vehicles) == vehicle) & submits
        state = state.replace(
            ends=jnp.where(mine, state.turn + lasts[state.turn], state.ends),
            started=jnp.where(mine, state.turn, state.started),
            decided=jnp.where(mine, state.decision, state.decided),
            decision=state.decision + submits,
        )

        def one_turn(carry):
            count, state, finished = carry
            turn = state.turn + 1
            drained = (state.ends >= 0) & (turn >= turns)
            ended = ((state.ends == turn) | drained) & (state.turn < turns)
            finished = {
                "mask": finished["mask"] | ended,
                "reward": finished["reward"]
                - jnp.where(ended, state.ends - state.started, 0).astype(self.dtype),
                "decision": jnp.where(ended, state.decided, finished["decision"]),
            }
            state = state.replace(
                turn=turn,
                vehicle=jnp.where(turn < turns, jnp.maximum(asks[turn % turns], 0), 0),
                ends=jnp.where(ended, -1, state.ends),
            )
            return count + 1, state, finished

        def going(carry):
            count, state, _ = carry
            waits = (count == 0) | ~self._is_decision(state)
            return waits & (count < params.turns_per_step) & (state.turn < turns)

        finished = {
            "mask": jnp.zeros((self.num_vehicles,), bool),
            "reward": jnp.zeros((self.num_vehicles,), self.dtype),
            "decision": jnp.full((self.num_vehicles,), -1, jnp.int32),
        }
        _, state, finished = jax.lax.while_loop(going, one_turn, (0, state, finished))
        paid = jnp.sum(finished["reward"])
        reward = paid if self.reward_mode == "completion" else jnp.zeros_like(paid)
        pending = self._is_decision(state)
        info = {"finished": finished, "decision_pending": pending, "waiting": -paid}
        return state, reward, jnp.asarray(False), info

    def _is_decision(self, state):
        turns = len(self.asks)
        return (state.turn < turns) & (jnp.asarray(self.asks)[state.turn % turns] >= 0)

    def is_truncated(self, state, params):
        return state.turn >= len(self.asks)

    def observe(self, state, params):
        return jnp.stack([state.turn, state.vehicle]).astype(self.dtype)

    def action_mask(self, state, params):
        return jnp.arange(4) == jnp.where(self._is_decision(state), state.decision % 4, 0)

    @property
    def observation_space(self):
        return spaces.Box(*UNBOUNDED, (2,), self.float_dtype)

    @property
    def action_space(self):
        return spaces.Discrete(4)


@struct.dataclass
class TeamParams(Params):
    """What the joint actions of a team do, ``[places, K, ..., K]``, one K for every sub-action.

    reward: of both components, ``[..., 2]``. following: int32, the next place, -1 = the end. valid:
    bool ``[agents, heads, K]``.
    """

    reward: chex.Array
    following: chex.Array
    valid: chex.Array


@struct.dataclass
class TeamState(State):
    """place: int32, observed one-hot."""

    place: chex.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Team(Environment):
    """Agents whose joint action pays a reward of two components and leads to the next place.

    Episodes start at any place. All rewards are 0 unless given.
    """

    num_agents: int = 3
    num_heads: int = 1
    num_choices: int = 4
    num_places: int = 1

    name = "team"
    metrics = (Metric("reward", "1", "max", "mean", of="reward"),)
    reward_parts = ("first", "second")
    state_row = 1

    def default_params(self):
        count = self.num_agents * self.num_heads
        shape = (self.num_places,) + (self.num_choices,) * count
        reward = jnp.zeros((*shape, 2), self.dtype)
        valid = jnp.ones((self.num_agents, self.num_heads, self.num_choices), bool)
        return TeamParams(jnp.int32(1), reward, jnp.full(shape, -1, jnp.int32), valid)

    def reset_env(self, key, params):
        place = jax.random.randint(key, (), 0, self.num_places, jnp.int32)
        return TeamState(key=key, time=jnp.int32(0), place=place)

    def step_env(self, key, state, action, params):
        taken = (state.place, *action.reshape(-1))
        parts, following = params.reward[taken], params.following[taken]
        state = state.replace(place=jnp.maximum(following, 0))
        return state, jnp.sum(parts), following < 0, {"reward_parts": parts}

    def observe(self, state, params):
        place = jax.nn.one_hot(state.place, self.num_places, dtype=self.dtype)
        place = jnp.broadcast_to(place, (self.num_agents, self.num_places))
        return jnp.concatenate([place, self._freedom(params)[:, None]], axis=1)

    def global_state(self, state, params):
        place = jax.nn.one_hot(state.place, self.num_places, dtype=self.dtype)
        return jnp.concatenate([self._freedom(params), place])

    def _freedom(self, params):
        return jnp.mean(params.valid, axis=(1, 2), dtype=self.dtype)

    def action_mask(self, state, params):
        return params.valid if self.num_heads > 1 else params.valid[:, 0]

    @property
    def observation_space(self):
        return spaces.Box(*UNBOUNDED, (self.num_places + 1,), self.float_dtype)

    @property
    def action_space(self):
        if self.num_heads == 1:
            return spaces.Discrete(self.num_choices)
        return spaces.MultiDiscrete((self.num_choices,) * self.num_heads)


class MovingTeam(Team):
    """Its agents choose a value and a level."""

    @property
    def action_space(self):
        return spaces.Tuple((spaces.Discrete(3), spaces.Box(0.0, 1.0, (1,))))


class WatchingTeam(Team):
    """Its agents observe images."""

    @property
    def observation_space(self):
        return spaces.Box(*UNBOUNDED, (4, 4, 3))


class CountingTeam(Team):
    """Its agents observe a number."""

    @property
    def observation_space(self):
        return spaces.Discrete(3)


# Environments that learners of several agents do not fit, and why.
NO_TEAMS = [
    (Bandit(), "it needs several agents, not 1"),
    (MovingTeam(), "it needs a Discrete or MultiDiscrete action space, not Tuple"),
    (WatchingTeam(), r"it needs a flat observation, not shape \(4, 4, 3\)"),
    (CountingTeam(), "it needs a Box observation, not Discrete"),
]
