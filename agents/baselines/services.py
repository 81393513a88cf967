"""Baselines and the upper bound of joint configuration, model selection and deployment.

A slot leaves nothing behind, so each is decided by itself. Actions of one agent are numbered
``(c M + m) K + k`` for configuration c, model m and server k; equal values go to the lowest number
that the agent's service has.

Source: "Joint DNN Model Deployment, Selection, and Configuration for Heterogeneous Inference
Services Toward Edge Intelligence", IEEE Transactions on Mobile Computing, 2025, for the random and
the heuristic policy.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, NamedTuple

import chex
import jax
import jax.numpy as jnp

from agents.learner import Bound, Policy, RandomPolicy
from jaxenv import struct
from jaxenv.environment import Environment
from jaxenv.services import Demand, Services, Slot

MAX_SWEEPS = 30
LEAST_GAIN = {"float32": 1e-6, "float64": 1e-12}  # in float32 per 1 + abs(reward)
FOREIGN_PRICE = 5.0  # on the servers of others in a partition, per acc_scale
FIT_SEED = 20_250_101
PRICES = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)  # per acc_scale


# ---- one request -------------------------------------------------------------------------------


class Load(NamedTuple):
    """What requests have brought so far.

    queue_tflop, used_mb: ``[K]`` of accepted requests. held: bool ``[S M K]``, the instances that
    exist, by `Demand.instance`. reward: the sum of all requests.
    """

    queue_tflop: chex.Array
    used_mb: chex.Array
    held: chex.Array
    reward: chex.Array


class Reply(NamedTuple):
    """What becomes of a request. need_mb: memory it takes. reward: the penalty if rejected."""

    accepted: chex.Array
    delay_s: chex.Array
    need_mb: chex.Array
    reward: chex.Array


def reply(
    demand: Demand,
    queue_tflop: chex.Array,
    used_mb: chex.Array,
    held: chex.Array,
    params: Any,
) -> Reply:
    """What becomes of requests behind a queue, of any shapes that broadcast.

    held: whether the instance exists already.
    """
    p = params
    delay_s = demand.alone_s + queue_tflop / demand.tflops
    model_mb = jnp.where(held, 0, demand.model_mb)
    need_mb = demand.data_mb + model_mb
    accepted = (delay_s <= demand.deadline_s) & (used_mb + need_mb <= demand.room_mb)
    cost = demand.cost_rou + demand.cost_cmp + p.memory_cost * model_mb / p.mb_per_gb
    reward = jnp.where(accepted, p.acc_scale * demand.accuracy - delay_s - cost, p.penalty)
    return Reply(accepted, delay_s, need_mb, reward)


def unloaded(env: Services) -> Load:
    """The `Load` before any request."""
    zeros = jnp.zeros(env.num_servers, env.float_dtype)
    instances = env.num_services * env.max_models * env.num_servers
    return Load(zeros, zeros, jnp.zeros(instances, bool), jnp.zeros((), env.float_dtype))


def loaded(load: Load, demand: Demand, params: Any) -> Load:
    """The load after one more request."""
    k = demand.server
    held = load.held[demand.instance]
    result = reply(demand, load.queue_tflop[k], load.used_mb[k], held, params)
    ok = result.accepted
    return Load(
        load.queue_tflop.at[k].add(jnp.where(ok, demand.work_tflop, 0)),
        load.used_mb.at[k].add(jnp.where(ok, result.need_mb, 0)),
        load.held.at[demand.instance].set(held | ok),
        load.reward + result.reward,
    )


# ---- all actions of an agent -------------------------------------------------------------------


class Offers(NamedTuple):
    """All actions of all agents. demand: leaves ``[n, C, M, K]``, 1 where they do not differ.

    valid: bool ``[n, C, M, 1]``, what the agent's service has.
    """

    demand: Demand
    valid: chex.Array


def offers(env: Services, slot: Slot, params: Any) -> Offers:
    """`Offers` of a slot."""
    agent = jnp.arange(env.num_agents).reshape(-1, 1, 1, 1)
    config = jnp.arange(env.max_configs)[:, None, None]
    model, server = jnp.arange(env.max_models)[:, None], jnp.arange(env.num_servers)
    demand = env.demand(slot, agent, config, model, server, params)

    def per_agent(leaf: chex.Array) -> chex.Array:
        shape = (1, 1, 1, *leaf.shape)[-3:]
        return jnp.broadcast_to(leaf, (env.num_agents, *shape))

    service = params.service[agent]
    valid = (config < params.num_configs[service]) & (model < params.num_models[service])
    return Offers(jax.tree.map(per_agent, demand), valid)


def flat(env: Services, values: chex.Array, valid: chex.Array) -> chex.Array:
    """``[..., C M K]`` of values ``[..., C, M, K]``, -inf where an action is not valid."""
    shape = (*values.shape[:-3], env.max_configs, env.max_models, env.num_servers)
    values = jnp.broadcast_to(jnp.where(valid, values, -jnp.inf), shape)
    return values.reshape(*shape[:-3], -1)


def actions(env: Services, number: chex.Array) -> chex.Array:
    """int32 ``[..., 3]`` of numbers of actions."""
    shape = (env.max_configs, env.max_models, env.num_servers)
    return jnp.stack(jnp.unravel_index(number, shape), axis=-1).astype(jnp.int32)


def own_values(env: Services, slot: Slot, params: Any) -> chex.Array:
    """What each action would bring an agent alone in the network, ``[n, C M K]``, -inf: masked.

    A request that is rejected even so brings the penalty less its delay.
    """
    demand, valid = offers(env, slot, params)
    result = reply(demand, jnp.zeros(()), jnp.zeros(()), jnp.asarray(False), params)
    rejected = params.penalty - result.delay_s
    return flat(env, jnp.where(result.accepted, result.reward, rejected), valid)


def heuristic(env: Services, slot: Slot, params: Any) -> chex.Array:
    """Every agent for itself; int32 ``[n, 3]``."""
    return actions(env, jnp.argmax(own_values(env, slot, params), axis=-1))


def upper_bound(env: Services, slot: Slot, params: Any) -> chex.Array:
    """No joint action brings more: every agent at its best without queue and on given models."""
    demand, valid = offers(env, slot, params)
    result = reply(demand, jnp.zeros(()), jnp.zeros(()), jnp.asarray(True), params)
    best = jnp.max(flat(env, result.reward, valid), axis=-1)
    return jnp.sum(jnp.maximum(best, params.penalty))


# ---- joint decisions ---------------------------------------------------------------------------


def seq_greedy(env: Services, slot: Slot, params: Any) -> chex.Array:
    """Agents in order of admission, each at its best behind those before it; int32 ``[n, 3]``."""

    def choose(load: Load, row: tuple[chex.Array, Offers]) -> tuple[Load, chex.Array]:
        agent, (demand, valid) = row
        held = load.held[demand.instance]
        rewards = reply(demand, load.queue_tflop, load.used_mb, held, params).reward
        action = actions(env, jnp.argmax(flat(env, rewards, valid)))
        return loaded(load, env.demand(slot, agent, *action, params), params), action

    rows = (jnp.arange(env.num_agents), offers(env, slot, params))
    return jax.lax.scan(choose, unloaded(env), rows)[1]


def responses(
    env: Services,
    demand: Demand,
    valid: chex.Array,
    load: Load,
    chosen: Demand,
    later: chex.Array,
    params: Any,
) -> chex.Array:
    """Joint rewards of all actions of one agent, ``[C M K]``, -inf where masked.

    An action is felt only by later requests to the same server, so each of them is admitted once
    per action, and once without the agent.

    Args:
        demand, valid: of the agent, a row of `Offers`. load: of the agents before it.
        chosen: what the others ask for, ``[n]``. later: bool ``[n]``, who comes after it.
    """
    own = reply(demand, load.queue_tflop, load.used_mb, load.held[demand.instance], params)
    same_server = chosen.server == chosen.server[:, None]
    same_instance = chosen.instance == chosen.instance[:, None]

    def at_requests(leaf: chex.Array, absent: Any) -> chex.Array:
        """``[n, 1 + C M]``: of the agent's absence, then of its actions on each other's server."""
        shape = (env.max_configs, env.max_models, env.num_servers)
        here = jnp.broadcast_to(leaf, shape)[..., chosen.server].reshape(-1, env.num_agents)
        return jnp.pad(here.T, ((0, 0), (1, 0)), constant_values=absent)

    accepted = at_requests(own.accepted, False)
    queue_tflop = jnp.where(accepted, at_requests(demand.work_tflop, 0), 0)
    used_mb = jnp.where(accepted, at_requests(own.need_mb, 0), 0)
    held = accepted & (at_requests(demand.instance, -1) == chosen.instance[:, None])

    def admit(
        earlier: tuple[chex.Array, chex.Array], row: tuple[Any, ...]
    ) -> tuple[tuple[chex.Array, chex.Array], chex.Array]:
        served, taken_mb = earlier  # [n, 1 + C M]
        i, request, later, beside, alike, queue_tflop, used_mb, held = row
        work = jnp.where(served & beside[:, None], chosen.work_tflop[:, None], 0)
        taken = jnp.where(beside[:, None], taken_mb, 0)
        result = reply(
            request,
            load.queue_tflop[request.server] + queue_tflop + jnp.sum(work, axis=0),
            load.used_mb[request.server] + used_mb + jnp.sum(taken, axis=0),
            load.held[request.instance] | held | jnp.any(served & alike[:, None], axis=0),
            params,
        )
        ok = result.accepted & later
        earlier = served.at[i].set(ok), taken_mb.at[i].set(jnp.where(ok, result.need_mb, 0))
        return earlier, jnp.where(later, result.reward, 0)

    nothing = jnp.zeros_like(accepted), jnp.zeros_like(used_mb)
    rows = (jnp.arange(env.num_agents), chosen, later, same_server, same_instance)
    after = jax.lax.scan(admit, nothing, (*rows, queue_tflop, used_mb, held))[1]
    here = chosen.server[:, None, None] == jnp.arange(env.num_servers)
    felt = jnp.sum(jnp.where(here, (after[:, 1:] - after[:, :1])[..., None], 0), axis=0)
    rewards = load.reward + jnp.sum(after[:, 0]) + own.reward
    return flat(env, rewards + felt.reshape(rewards.shape), valid)


def coord_descent(env: Services, slot: Slot, params: Any) -> tuple[chex.Array, chex.Array]:
    """``(action, reward)`` that no change of one agent's action improves; int32 ``[n, 3]``.

    Best responses in order of admission, at most `MAX_SWEEPS` times, from three starts:
    `seq_greedy`, `heuristic`, and greedy in reverse order, in which agents choose from the last to
    the first and are admitted from the first to the last. The best of the three results.
    """
    agents, table = jnp.arange(env.num_agents), offers(env, slot, params)
    gain = LEAST_GAIN[env.float_dtype.name]

    def values(row: tuple[chex.Array, Offers], load: Load, action: chex.Array) -> chex.Array:
        agent, (demand, valid) = row
        chosen = env.demand(slot, agents, *action.T, params)
        return responses(env, demand, valid, load, chosen, agents > agent, params)

    def last_first(action: chex.Array, row: tuple[chex.Array, Offers]) -> tuple[chex.Array, None]:
        best = jnp.argmax(values(row, unloaded(env), action))
        return action.at[row[0]].set(actions(env, best)), None

    def respond(
        found: tuple[Load, chex.Array, chex.Array], row: tuple[chex.Array, Offers]
    ) -> tuple[tuple[Load, chex.Array, chex.Array], None]:
        load, action, changed = found
        agent = row[0]
        rewards = values(row, load, action)
        config, model, server = action[agent]
        reward = rewards[(config * env.max_models + model) * env.num_servers + server]
        least = gain if env.float_dtype == jnp.float64 else gain * (1 + jnp.abs(reward))
        best = jnp.argmax(rewards)
        gains = rewards[best] > reward + least
        action = action.at[agent].set(jnp.where(gains, actions(env, best), action[agent]))
        load = loaded(load, env.demand(slot, agent, *action[agent], params), params)
        return (load, action, changed | gains), None

    def sweep(found: tuple[chex.Array, ...]) -> tuple[chex.Array, ...]:
        action, _, _, count = found
        start = (unloaded(env), action, jnp.asarray(False))
        load, action, changed = jax.lax.scan(respond, start, (agents, table))[0]
        return action, load.reward, changed, count + 1

    def descend(action: chex.Array) -> tuple[chex.Array, chex.Array]:
        start = (action, jnp.zeros((), env.float_dtype), jnp.asarray(True), 0)
        more = lambda found: found[2] & (found[3] < MAX_SWEEPS)  # noqa: E731
        return jax.lax.while_loop(more, sweep, start)[:2]

    nothing = jnp.zeros((env.num_agents, 3), jnp.int32)
    starts = [
        seq_greedy(env, slot, params),
        heuristic(env, slot, params),
        jax.lax.scan(last_first, nothing, (agents, table), reverse=True)[0],
    ]
    found, reward = jax.vmap(descend)(jnp.stack(starts))
    best = jnp.argmax(reward)
    return found[best], reward[best]


# ---- prices ------------------------------------------------------------------------------------


def server_values(env: Services, slot: Slot, params: Any) -> tuple[chex.Array, chex.Array]:
    """The best own value on each server ``[n, K]``, and the action that has it ``[n, K, 3]``."""
    values = own_values(env, slot, params).reshape(env.num_agents, -1, env.num_servers)
    number = jnp.argmax(values, axis=1) * env.num_servers + jnp.arange(env.num_servers)
    return jnp.max(values, axis=1), actions(env, number)


def price_table(env: Services, slot: Slot, prices: chex.Array, params: Any) -> chex.Array:
    """Every agent at its best after prices ``[n, K]`` on the servers; int32 ``[n, 3]``."""
    values, best = server_values(env, slot, params)
    server = jnp.argmax(values - prices, axis=-1)
    return best[jnp.arange(env.num_agents), server]


@partial(jax.jit, static_argnames=("env", "num_slots", "num_partitions", "num_proposals"))
def fit_prices(
    env: Services,
    params: Any,
    key: chex.PRNGKey,
    num_slots: int = 400,
    num_partitions: int = 60,
    num_proposals: int = 6000,
) -> chex.Array:
    """Prices ``[n, K]`` by random search on the mean reward of ``num_slots`` slots of a key.

    From the best of random partitions of the servers among the agents, in which the servers of
    others cost `FOREIGN_PRICE`. A proposal swaps what two agents pay for a server, or sets what one
    pays to one of `PRICES`; it is accepted if the mean reward does not fall.
    """
    n, k = env.num_agents, env.num_servers
    slot_key, proposal_key = jax.random.split(key)
    slots = jax.vmap(lambda key: env.reset_env(key, params).slot)(
        jax.random.split(slot_key, num_slots)
    )

    def asked(slot: Slot) -> tuple[chex.Array, Demand]:
        values, best = server_values(env, slot, params)
        demand = env.demand(slot, jnp.arange(n)[:, None], *jnp.moveaxis(best, -1, 0), params)
        return values, jax.tree.map(lambda x: jnp.broadcast_to(x, (n, k)), demand)

    values, demands = jax.vmap(asked)(slots)

    def reward(server: chex.Array, demand: Demand) -> chex.Array:
        chosen = jax.tree.map(lambda x: jnp.take_along_axis(x, server[:, None], 1)[:, 0], demand)
        return jnp.sum(env.parts(chosen, env.admit(chosen), params))

    def score(prices: chex.Array) -> chex.Array:
        server = jnp.argmax(values - prices, axis=-1)
        return jnp.mean(jax.vmap(reward)(server, demands))

    def partition(key: chex.PRNGKey) -> chex.Array:
        owner = jax.random.permutation(key, jnp.arange(k) * n // k)
        own = owner == jnp.arange(n)[:, None]
        return jnp.where(own, 0, FOREIGN_PRICE * params.acc_scale)

    def moved(key: chex.PRNGKey, prices: chex.Array) -> chex.Array:
        keys = jax.random.split(key, 4)
        a, b = jax.random.randint(keys[0], (2,), 0, n)
        server = jax.random.randint(keys[1], (), 0, k)
        price = jax.random.choice(keys[2], jnp.asarray(PRICES, prices.dtype)) * params.acc_scale
        swapped = prices.at[a, server].set(prices[b, server]).at[b, server].set(prices[a, server])
        replaced = prices.at[a, server].set(price)
        return jnp.where(jax.random.bernoulli(keys[3]), swapped, replaced)

    def propose(
        found: tuple[chex.Array, chex.Array], row: tuple[chex.Array, chex.Array]
    ) -> tuple[tuple[chex.Array, chex.Array], None]:
        prices, best = found
        number, key = row
        trial = jnp.where(number < num_partitions, partition(key), moved(key, prices))
        value = score(trial)
        better = value >= best
        return (jnp.where(better, trial, prices), jnp.where(better, value, best)), None

    count = num_partitions + num_proposals
    start = jnp.zeros((n, k), env.float_dtype), jnp.asarray(-jnp.inf, env.float_dtype)
    rows = jnp.arange(count), jax.random.split(proposal_key, count)
    return jax.lax.scan(propose, start, rows)[0][0]


def own_servers(env: Services, slot: Slot, params: Any) -> chex.Array:
    """Every agent at its best among the servers k with k mod n its number; int32 ``[n, 3]``."""
    n, k = env.num_agents, env.num_servers
    owned = jnp.arange(k) % n == jnp.arange(n)[:, None] % k
    return price_table(env, slot, jnp.where(owned, 0, jnp.inf), params)


# ---- policies ----------------------------------------------------------------------------------


@struct.dataclass
class ServicesPolicy(Policy):
    """Base: decides the actions of a slot, int32 ``[n, 3]``."""

    env: Services = struct.field(pytree_node=False)

    uses_state: ClassVar[bool] = True

    def act(self, carry, key, observation, mask, state, params):
        return self.decide(state.slot, params), carry

    def decide(self, slot: Slot, params: Any) -> chex.Array:
        raise NotImplementedError


def Random(env: Services) -> Policy:
    """Configuration, model and server each uniform over what the agent's service has."""
    return RandomPolicy()


@struct.dataclass
class Heuristic(ServicesPolicy):
    """Every agent takes what would be best if it were alone."""

    def decide(self, slot, params):
        return heuristic(self.env, slot, params)


@struct.dataclass
class SeqGreedy(ServicesPolicy):
    """Agents in order of admission, each at its best behind those before it."""

    def decide(self, slot, params):
        return seq_greedy(self.env, slot, params)


@struct.dataclass
class CoordDescent(ServicesPolicy):
    """Best responses on the joint reward until no agent gains: the centralised yardstick."""

    max_episodes: ClassVar[int | None] = 256

    def decide(self, slot, params):
        return coord_descent(self.env, slot, params)[0]


@struct.dataclass
class PriceTable(ServicesPolicy):
    """Every agent for itself, with fixed prices on the servers: the decentralised yardstick.

    prices: ``[n, K]``; None: those of `fit_prices` on slots that no evaluation meets. All episodes
    of one compiled call share one fit.
    """

    prices: chex.Array | None = None

    def init(self, key: chex.PRNGKey, env: Environment, params: Any) -> chex.Array:
        if self.prices is not None:
            return self.prices
        return fit_prices(self.env, params, jax.random.key(FIT_SEED))

    def act(self, carry, key, observation, mask, state, params):
        return price_table(self.env, state.slot, carry, params), carry


@struct.dataclass
class OwnServers(ServicesPolicy):
    """Every agent for itself on servers that are its own, see `own_servers`: with at least as many
    servers as agents nobody ever meets another, which needs no communication."""

    on_request: ClassVar[bool] = True

    def decide(self, slot, params):
        return own_servers(self.env, slot, params)


@struct.dataclass
class UpperBound(Bound):
    """The sum of `upper_bound` over the slots of an episode."""

    env: Services = struct.field(pytree_node=False)

    metric: ClassVar[str] = "reward"

    def update(self, carry, state, action, info, params):
        limit = upper_bound(self.env, state.slot, params)
        return carry[0] + limit, jnp.ones_like(carry[1])
