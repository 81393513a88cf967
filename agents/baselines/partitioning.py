"""Baselines and the no-wait bound of fine-grained partitioning.

The heuristics look at a slot alone and place one block after the other. The optimisers minimise the
cost of the slot; none of them is optimal over an episode, because what a slot leaves behind is
waited for later.

Source: "Distributed DNN Inference with Fine-grained Model Partitioning in Mobile Edge Computing
Networks", IEEE Transactions on Mobile Computing, 2024.
"""

from __future__ import annotations

import itertools
from typing import Any, ClassVar, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from agents.learner import Bound, Policy, RandomPolicy
from jaxenv import struct
from jaxenv.partitioning import Partitioning, PartitioningState, Slot

MAX_PLACEMENTS = 20_000
FORBIDDEN_S = 1e12  # backlog by which nobody places anything on a disabled server
LEAST_GAIN_S = 1e-12


# ---- costs of a slot ---------------------------------------------------------------------------


class Costs(NamedTuple):
    """What a slot's placements are made of, s. M blocks, N + 1 places.

    alone: ``[M, N + 1]`` computing of a block that has a place to itself. entry: transfer and wait
    from the place of the block before, ``[M, N + 1, N + 1]``. chain: likewise, cost C_m of a block
    that shares its place with background work only.
    """

    alone: chex.Array
    entry: chex.Array
    chain: chex.Array


def decision_slot(env: Partitioning, state: PartitioningState, params: Any) -> Slot:
    """The slot of a state, in which disabled servers have a prohibitive backlog."""
    slot = env.slot(state, params)
    return slot._replace(backlog_s=jnp.where(env.enabled(params), slot.backlog_s, FORBIDDEN_S))


def alone_s(slot: Slot) -> chex.Array:
    """``[M, N + 1]`` computing of each block that has a place to itself, s; eqs (3), (6)."""
    return slot.cycles[:, None] * slot.seconds_per_cycle


def costs(env: Partitioning, slot: Slot, params: Any) -> Costs:
    """`Costs` of a slot."""
    p, place = params, jnp.arange(env.num_servers + 1)
    per_bit = slot.seconds_per_bit
    per_bit = env.transfer_s_per_bit(place[:, None], place, per_bit[:, None], per_bit, p)
    first = (jnp.arange(env.num_blocks) == 0)[:, None, None]
    wait = jnp.where(first | (place[:, None] != place), slot.backlog_s, 0)
    alone = alone_s(slot)
    entry = slot.bits[:, None, None] * per_bit + wait
    share = 1 + p.sharing / p.slot_s * (alone + slot.background_s)
    delay = entry + (alone * share)[:, None]
    late = jnp.maximum(delay - p.tolerated_delay_s[:, None, None], 0)
    return Costs(alone, entry, delay + p.penalty_weight * late)


def slot_cost(
    env: Partitioning,
    placement: chex.Array,
    slot: Slot,
    params: Any,
    price: chex.Array | None = None,
) -> chex.Array:
    """Minus the reward of a placement, plus ``price`` times the backlog that its work adds to."""
    result = env.outcome(placement, slot, params)
    cost = env.cost(result.delay_s, params)
    return cost if price is None else cost + price * _burden(result.work_s, slot, params)


def _burden(work_s: chex.Array, slot: Slot, params: Any) -> chex.Array:
    """``sum_n w_n (W_n + w_n + b_n) / slot`` over the last axis, s."""
    ahead = slot.backlog_s + work_s + slot.background_s
    return jnp.sum(work_s * ahead, axis=-1) / params.slot_s


# ---- placements of a slot ----------------------------------------------------------------------


def least_loaded(load_s: chex.Array, work_s: chex.Array, own: bool = False) -> chex.Array:
    """Each block goes to the place of least load, which it adds to; int32 ``[M]``.

    load_s: ``[N + 1]``. work_s: ``[M, N + 1]``, of each block on each place. own: whether a block's
    own work counts when loads are compared.
    """

    def assign(load: chex.Array, work: chex.Array) -> tuple[chex.Array, chex.Array]:
        place = jnp.argmin(load + work if own else load).astype(jnp.int32)
        return load.at[place].add(work[place]), place

    return jax.lax.scan(assign, load_s, work_s)[1]


def blockwise(chain: chex.Array) -> chex.Array:
    """Each block goes where it alone costs least; int32 ``[M]``."""
    return _followed(jnp.argmin(chain, axis=-1).astype(jnp.int32))


def _followed(choice: chex.Array) -> chex.Array:
    """The placement of choices ``[M, N + 1]``, given the place of the block before."""

    def follow(place: chex.Array, choices: chex.Array) -> tuple[chex.Array, chex.Array]:
        return choices[place], choices[place]

    return jax.lax.scan(follow, jnp.int32(0), choice)[1]


def shortest_path(chain: chex.Array) -> tuple[chex.Array, chex.Array]:
    """``(placement, value)`` of the least sum of chain costs, by dynamic programming."""

    def back(onward: chex.Array, cost: chex.Array) -> tuple[chex.Array, chex.Array]:
        total = cost + onward
        return jnp.min(total, axis=-1), jnp.argmin(total, axis=-1).astype(jnp.int32)

    onward, choice = jax.lax.scan(back, jnp.zeros_like(chain[0, 0]), chain, reverse=True)
    return _followed(choice), onward[0]


def contiguous(env: Partitioning, params: Any) -> chex.Array:
    """Equal numbers of consecutive blocks on every enabled server; int32 ``[M]``."""
    count = jnp.sum(params.server_enabled, dtype=jnp.int32)
    rank = jnp.arange(env.num_blocks) * count // env.num_blocks
    reached = jnp.cumsum(params.server_enabled) > rank[:, None]
    return jnp.where(count > 0, 1 + jnp.argmax(reached, axis=-1), 0).astype(jnp.int32)


def one_cut(env: Partitioning, slot: Slot, params: Any) -> chex.Array:
    """The best placement of a first part on the device and all the rest on one server; ``[M]``."""
    blocks, servers = env.num_blocks, np.arange(1, env.num_servers + 1)
    ahead = np.arange(blocks) < np.arange(blocks + 1)[:, None, None]
    placements = np.where(ahead, 0, servers[:, None]).reshape(-1, blocks).astype(np.int32)
    found = jax.vmap(lambda placement: slot_cost(env, placement, slot, params))(placements)
    return jnp.asarray(placements)[jnp.argmin(found)]


def is_enumerable(env: Partitioning) -> bool:
    """Whether a slot has few enough placements to try them all."""
    return (env.num_servers + 1) ** env.num_blocks <= MAX_PLACEMENTS


class Part(NamedTuple):
    """All placements of some consecutive blocks, G of them, and what they cost by themselves.

    placements: int32 ``[blocks, G]``, in lexicographic order. delay_s: ``[blocks, G]``, with the
    part's own work and the background, without the entry of the part's first block. work_s:
    ``[N + 1, G]`` on each place. slowed: ``[blocks, N + 1, G]``, delay of each block per second of
    work of the other part on each place.
    """

    placements: np.ndarray
    delay_s: chex.Array
    work_s: chex.Array
    slowed: chex.Array


def _part(table: Costs, slot: Slot, slowing: chex.Array, blocks: range) -> Part:
    places = np.arange(table.alone.shape[1])
    grid = itertools.product(places, repeat=len(blocks))
    grid = np.array(list(grid), np.int32).reshape(len(places) ** len(blocks), len(blocks)).T
    index = np.array(blocks, np.int32)[:, None]
    here = grid[:, None] == places[:, None]
    alone = table.alone[index, grid]
    own = jnp.where(here, alone[:, None], 0)
    work = jnp.sum(own, axis=0)
    beside = jnp.sum(jnp.where(here, work + slot.background_s[:, None], 0), axis=1)
    delay = alone * (1 + slowing * beside)
    delay = delay.at[1:].add(table.entry[index[1:], grid[:-1], grid[1:]])
    return Part(grid, delay, work, slowing * own)


def exhaustive(
    env: Partitioning, slot: Slot, params: Any, price: chex.Array | None = None
) -> tuple[chex.Array, chex.Array]:
    """``(placement, cost)`` of the least `slot_cost` over all placements, ties to the first.

    The blocks are divided into two parts. What a placement of either costs by itself is a table;
    what the parts add to each other is bilinear in the tables.
    """
    places, half = env.num_servers + 1, env.num_blocks // 2
    table, slowing = costs(env, slot, params), params.sharing / params.slot_s
    first = _part(table, slot, slowing, range(half))
    start = table.entry[0, 0, first.placements[:1]]
    first = first._replace(delay_s=first.delay_s.at[:1].add(start))
    last = _part(table, slot, slowing, range(half, env.num_blocks))
    before = first.placements[-1] if half else np.zeros(1, np.int32)
    between = table.entry[half][before][:, last.placements[0]]
    ahead_s = slot.backlog_s + slot.background_s

    def row_of_costs(row: tuple[chex.Array, ...]) -> chex.Array:
        """Costs ``[G of the last part]`` of one placement of the first part."""
        own_s, slowed, work_s, enter_s = row
        total = jnp.zeros_like(enter_s)
        for block in range(env.num_blocks):
            if block < half:
                delay, left, right = own_s[block], slowed[block], last.work_s
            else:
                delay, left, right = last.delay_s[block - half], work_s, last.slowed[block - half]
            if block == half:
                delay = delay + enter_s
            for place in range(places):
                delay = delay + left[place] * right[place]
            late = jnp.maximum(delay - params.tolerated_delay_s[block], 0)
            total = total + delay + params.penalty_weight * late
        if price is not None:
            for place in range(places):
                work = work_s[place] + last.work_s[place]
                total = total + price / params.slot_s * work * (ahead_s[place] + work)
        return total

    def least(best: tuple[chex.Array, ...], row: tuple[chex.Array, ...]) -> tuple[Any, None]:
        """Least cost of every placement of the last part, and the row where it was first met."""
        cost, where, number = best
        total = row_of_costs(row)
        better = total < cost
        return (jnp.minimum(total, cost), jnp.where(better, number, where), number + 1), None

    size = last.placements.shape[1]
    nothing = (jnp.full(size, jnp.inf, between.dtype), jnp.zeros(size, jnp.int32), jnp.int32(0))
    rows = (first.delay_s.T, jnp.moveaxis(first.slowed, -1, 0), first.work_s.T, between)
    cost, where, count = jax.lax.scan(least, nothing, rows)[0]
    where = jnp.where(cost <= jnp.min(cost), where, count)
    ending = jnp.argmin(where)
    placements = [jnp.asarray(first.placements)[:, where[ending]]]
    placements.append(jnp.asarray(last.placements)[:, ending])
    return jnp.concatenate(placements), cost[ending]


def local_search(
    env: Partitioning, slot: Slot, params: Any, price: chex.Array | None = None
) -> tuple[chex.Array, chex.Array]:
    """``(placement, cost)`` that no move of consecutive blocks to one place improves.

    Best improvement from four starts: `shortest_path`, `least_loaded` with own work, `blockwise`
    and `contiguous`; the best of the four results, ties to the first.
    """
    table = costs(env, slot, params)
    blocks, places = env.num_blocks, env.num_servers + 1
    spans = [(i, j) for i in range(blocks) for j in range(i + 1, blocks + 1)]
    index = np.arange(blocks)
    inside = np.array([(i <= index) & (index < j) for i, j in spans])
    moved, target = np.repeat(inside, places, axis=0), np.tile(np.arange(places), len(spans))

    def cost_of(placement: chex.Array) -> chex.Array:
        return slot_cost(env, placement, slot, params, price)

    def improve(found: tuple[chex.Array, ...]) -> tuple[chex.Array, ...]:
        placement, cost, _ = found
        neighbours = jnp.where(moved, target[:, None], placement).astype(jnp.int32)
        neighbour_costs = jax.vmap(cost_of)(neighbours)
        best = jnp.argmin(neighbour_costs)
        gains = cost - neighbour_costs[best] > LEAST_GAIN_S
        return (
            jnp.where(gains, neighbours[best], placement),
            jnp.where(gains, neighbour_costs[best], cost),
            gains,
        )

    def search(start: chex.Array) -> tuple[chex.Array, chex.Array]:
        first = (start, cost_of(start), jnp.asarray(True))
        return jax.lax.while_loop(lambda found: found[2], improve, first)[:2]

    starts = [
        shortest_path(table.chain)[0],
        least_loaded(slot.backlog_s, table.alone, own=True),
        blockwise(table.chain),
        contiguous(env, params),
    ]
    placements, found = jax.vmap(search)(jnp.stack(starts))
    best = jnp.argmin(found)
    return placements[best], found[best]


def optimum(
    env: Partitioning, slot: Slot, params: Any, price: chex.Array | None = None
) -> tuple[chex.Array, chex.Array]:
    """`exhaustive` where that is possible, else `local_search`."""
    return (exhaustive if is_enumerable(env) else local_search)(env, slot, params, price)


# ---- policies ----------------------------------------------------------------------------------


@struct.dataclass
class PartitioningPolicy(Policy):
    """Base: decides the placement of a slot, int32 ``[M]``."""

    env: Partitioning = struct.field(pytree_node=False)

    uses_state: ClassVar[bool] = True

    def act(self, carry, key, observation, mask, state, params):
        return self.decide(decision_slot(self.env, state, params), params), carry

    def decide(self, slot: Slot, params: Any) -> chex.Array:
        raise NotImplementedError


def RPDI(env: Partitioning) -> Policy:
    """Each block uniformly on any place."""
    return RandomPolicy()


@struct.dataclass
class APDI(PartitioningPolicy):
    """Equal numbers of consecutive blocks on every server, whatever the state."""

    def decide(self, slot, params):
        return contiguous(self.env, params)


@struct.dataclass
class Greedy(PartitioningPolicy):
    """Each block to the place of least load: backlog, and what this slot already put there."""

    def decide(self, slot, params):
        return least_loaded(slot.backlog_s, alone_s(slot))


@struct.dataclass
class GreedyES(PartitioningPolicy):
    """`Greedy` on the servers alone; on the device where none is enabled."""

    def decide(self, slot, params):
        device_s = jnp.where(jnp.any(params.server_enabled), 2 * FORBIDDEN_S, slot.backlog_s[0])
        return least_loaded(slot.backlog_s.at[0].set(device_s), alone_s(slot))


@struct.dataclass
class GreedyEFT(PartitioningPolicy):
    """`Greedy` that counts the block's own work: the place that would finish first."""

    def decide(self, slot, params):
        return least_loaded(slot.backlog_s, alone_s(slot), own=True)


@struct.dataclass
class Blockwise(PartitioningPolicy):
    """Each block, in order, where it alone costs least."""

    def decide(self, slot, params):
        return blockwise(costs(self.env, slot, params).chain)


@struct.dataclass
class Viterbi(PartitioningPolicy):
    """The optimum of a slot in which blocks of one place would not slow each other down."""

    def decide(self, slot, params):
        return shortest_path(costs(self.env, slot, params).chain)[0]


@struct.dataclass
class Neurosurgeon(PartitioningPolicy):
    """The best single cut of the slot, see `one_cut`: what partitioning was before it was fine.

    Y. Kang et al., "Neurosurgeon: Collaborative intelligence between the cloud and mobile edge",
    ASPLOS 2017, doi:10.1145/3037697.3037698, which has one server and no queues.
    """

    on_request: ClassVar[bool] = True

    def decide(self, slot, params):
        return one_cut(self.env, slot, params)


@struct.dataclass
class LocalSearch(PartitioningPolicy):
    """`local_search`, for any number of blocks and servers."""

    def decide(self, slot, params):
        return local_search(self.env, slot, params)[0]


@struct.dataclass
class Optimum(PartitioningPolicy):
    """The optimum of the slot; price: s of cost per burden of backlog, None for the slot alone."""

    price: chex.Array | None = None

    def decide(self, slot, params):
        return optimum(self.env, slot, params, self.price)[0]


def Priced(env: Partitioning, price: float = 0.5) -> Policy:
    """The optimum of the slot with a price on the backlog that it leaves to later slots."""
    return Optimum(env, jnp.asarray(price, env.float_dtype))


@struct.dataclass
class NoWaitBound(Bound):
    """Every slot at its own optimum, without backlog and with a full battery.

    Cost never falls with backlog or with a slower device, so no policy has a larger reward. Where
    not all placements can be tried it is the value of `shortest_path`, which is never above it.
    """

    env: Partitioning = struct.field(pytree_node=False)

    metric: ClassVar[str] = "reward"

    def update(self, carry, state, action, info, params):
        rested = state.replace(backlog_s=jnp.zeros_like(state.backlog_s), energy_j=params.battery_j)
        slot = decision_slot(self.env, rested, params)
        if is_enumerable(self.env):
            least = exhaustive(self.env, slot, params)[1]
        else:
            least = shortest_path(costs(self.env, slot, params).chain)[1]
        return carry[0] - least, jnp.ones_like(carry[1])
