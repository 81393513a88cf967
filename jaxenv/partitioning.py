"""Fine-grained DNN partitioning between a device and the edge servers of a MEC network.

A network is cut into M consecutive blocks. In every slot a device has a batch of new images; each
block is placed on the device (place 0) or on one of N edge servers (places 1..N). Delay is
computing, transfers between places and waiting for the work that earlier slots left behind; every
block has a tolerated delay. The file reads: scenario, state, one slot, exogenous processes, the
contract.

Source: "Distributed DNN Inference with Fine-grained Model Partitioning in Mobile Edge Computing
Networks", IEEE Transactions on Mobile Computing, 2024, doi 10.1109/TMC.2024.3357874; equation
numbers are the paper's.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxenv import dnn, spaces, struct
from jaxenv.data import measured
from jaxenv.environment import Constraint, Environment, Metric, Params, State
from jaxenv.errors import ConfigError
from jaxenv.physics import arrivals, compute
from jaxenv.validation import (
    NOT_NEGATIVE,
    POSITIVE,
    SECONDS,
    check_array,
    check_derived,
    check_fields,
    check_leaves,
    check_read,
    num_axes,
)

NETWORK = "vgg16_cifar10"
INPUT_SHAPE = (3, 32, 32)
MAX_STEPS = 600
MAX_BLOCKS = 36  # units of the default network
SERVER_HZ = (2.1e9, 1.7e9, 2.5e9, 1.9e9, 2.3e9, 1.8e9, 2.4e9, 2.0e9, 2.2e9)
IMAGE_BITS, FEATURE_BITS, PARAMETER_BYTES = 8, 32, 4


@struct.dataclass
class PartitioningParams(Params):
    """The scenario. SI units; M blocks, N edge servers, rows of tables.

    max_steps: T, slots of an episode.
    """

    block_flops: chex.Array  # [M], FLOP per image
    block_bytes: chex.Array  # [M] d_m, parameters; only observed
    block_input_bits: chex.Array  # [M] per image
    task_rate: chex.Array  # mean tasks per slot
    cycles_per_flop: chex.Array
    device_hz: chex.Array  # f_l, cycle/s
    server_hz: chex.Array  # [N] F_n
    capacitance: chex.Array  # kappa, J s^2/cycle^3
    transmit_power_w: chex.Array
    rate_range_bps: chex.Array  # [2] lowest and highest R_n, device <-> server
    wired_rate_bps: chex.Array  # R_max, server <-> server
    correlation: chex.Array  # rho of the latent processes in consecutive slots
    background: chex.Array  # bg, scale of the background work in slots
    slot_s: chex.Array
    sharing: chex.Array  # phi, by how much load slows a place down
    backlog_max_s: chex.Array  # W_cap
    tolerated_delay_s: chex.Array  # [M] tau_m
    penalty_weight: chex.Array  # beta
    battery_j: chex.Array  # E_max
    throttle: chex.Array  # share of device_hz left with an empty battery
    server_enabled: chex.Array  # [N] bool
    table_rate_bps: chex.Array  # [rows, N] R_n(t), read with source="table"; -1 = drawn
    table_background_s: chex.Array  # [rows, N] b_n(t), likewise
    table_tasks: chex.Array  # [rows] lambda(t), likewise


@struct.dataclass
class Context:
    """What a slot meets: ``[N]`` rates and background work, the number of tasks.

    latent: Gaussian processes ``[2, N]`` behind rates and background that are drawn.
    """

    rate_bps: chex.Array
    background_s: chex.Array
    num_tasks: chex.Array
    latent: chex.Array


@struct.dataclass
class PartitioningState(State):
    """context: of this slot. backlog_s: ``[N + 1]`` W_n. energy_j: what is left, E.

    float32 counts 100 kJ in steps of 8 mJ: a battery far too large for what is spent stays full.
    """

    context: Context
    backlog_s: chex.Array
    energy_j: chex.Array


class Slot(NamedTuple):
    """What a decision is made on. M blocks, N + 1 places, the device first.

    cycles, bits: ``[M]`` work and input of the batch. seconds_per_cycle, seconds_per_bit (of the
    radio link; 0 for the device), backlog_s, background_s: ``[N + 1]``.
    """

    cycles: chex.Array
    bits: chex.Array
    seconds_per_cycle: chex.Array
    seconds_per_bit: chex.Array
    backlog_s: chex.Array
    background_s: chex.Array


class Outcome(NamedTuple):
    """What a placement leads to: s of each block, ``[M]``; s of work on each place, ``[N + 1]``."""

    transfer_s: chex.Array
    wait_s: chex.Array
    compute_s: chex.Array
    work_s: chex.Array

    @property
    def delay_s(self) -> chex.Array:
        """L_m, ``[M]``; eqs (8), (9)."""
        return self.transfer_s + self.wait_s + self.compute_s


@dataclasses.dataclass(frozen=True, kw_only=True)
class Partitioning(Environment[PartitioningState, PartitioningParams]):
    """One device, N edge servers, one placement of all blocks per slot.

    num_blocks: M. num_servers: N. max_tasks: the most tasks of a drawn slot.
    source: exogenous processes are ``generated``, or read from a ``table`` as far as it has them.
    downlink: ``charge`` a transfer to the device at its link's rate, or literally eq (9): ``free``.
    energy: transmit power for every transfer to a server (``literal``), or only from the device
    (``uplink``).
    observation: ``full``; ``compact``, for one fixed network; or the ``paper``'s, without backlog
    and background.
    """

    num_blocks: int = 6
    num_servers: int = 4
    max_tasks: int = 192
    table_rows: int = 0
    source: Literal["generated", "table"] = "generated"
    downlink: Literal["charge", "free"] = "charge"
    energy: Literal["literal", "uplink"] = "literal"
    observation: Literal["full", "compact", "paper"] = "full"

    name: ClassVar[str] = "partitioning"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("reward", "s", "max", "sum", "reward"),
        *(
            Metric(f"{quantity}_per_slot", unit, "min", "mean", quantity)
            for quantity, unit in (
                ("total_delay_s", "s"),
                ("edge_delay_s", "s"),
                ("local_delay_s", "s"),
                ("transfer_s", "s"),
                ("wait_s", "s"),
                ("penalty_s", "s"),
                ("energy_j", "J"),
            )
        ),
    )
    constraints: ClassVar[tuple[Constraint, ...]] = (
        Constraint("late_blocks", ("late_blocks",)),
        Constraint("empty_battery", ("empty_battery",)),
    )

    # ---- sizes and scenario -------------------------------------------------------------------

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, _LEAST)
        if self.num_blocks > MAX_BLOCKS:
            raise ConfigError("num_blocks", self.num_blocks, f"give at most {MAX_BLOCKS}")
        if self.source == "table" and self.table_rows < 1:
            raise ConfigError("table_rows", self.table_rows, 'source="table" needs at least 1')

    @classmethod
    def build(cls, **options: Any) -> tuple[Partitioning, PartitioningParams]:
        """Sizes, leaves of the scenario, and these ways of describing one:

        network: a name of `jaxenv.dnn`, a `Profile`, or the path of a CSV profile; it is cut into
        ``num_blocks`` blocks of balanced work. input_shape: of a network by name. A table of the
        exogenous processes sets ``source`` and ``table_rows``; what is not given is drawn. trace:
        path of a CSV file with a row per slot and some of the columns ``tasks [1]``; ``rate 1
        [bit/s]`` to ``rate N [bit/s]``, or ``rate [bit/s]`` alone for a link that all servers are
        reached by; ``background 1 [s]`` to ``background N [s]``. An episode then has at most its
        rows, and observations show rates relative to the highest of them.
        """
        network, shape = options.pop("network", None), options.pop("input_shape", None)
        trace = options.pop("trace", None)
        asked = dict(options) if trace is None else options | {"trace": trace}
        if trace is not None:
            sized = cls(num_servers=options.get("num_servers", cls.num_servers))
            options = _trace(trace, sized.num_servers) | options
        given = [name for name in _TABLES if name in options]
        if given and "table_rows" not in options:
            if not num_axes(options[given[0]]):
                raise ConfigError(given[0], options[given[0]], "give one row per slot")
            options["table_rows"] = len(options[given[0]])
        if given:
            options = {"source": "table"} | options
        sizes, leaves = cls.sizes_and_leaves(options)
        env = cls(**sizes)
        check_read(env, asked, "source", "table", ("trace", *_TABLES))
        if network is not None or shape is not None:
            chosen = NETWORK if network is None else network
            shape = INPUT_SHAPE if shape is None else shape
            leaves = _blocks(chosen, shape, env.num_blocks) | leaves
        return env, env.make_params(**leaves)

    def default_params(self) -> PartitioningParams:
        """The constants of the paper and, where it is silent, of the model's specification.

        Servers beyond the ninth repeat the clocks of the first nine.
        """
        n, rows = self.num_servers, self.table_rows
        values: dict[str, Any] = {
            "max_steps": np.int32(MAX_STEPS),
            **_blocks(NETWORK, INPUT_SHAPE, self.num_blocks),
            "task_rate": 60.0,
            "cycles_per_flop": 1.0,
            "device_hz": 1.5e9,
            "server_hz": np.resize(SERVER_HZ, n),
            "capacitance": 1e-26,
            "transmit_power_w": 0.5,
            "rate_range_bps": np.array([6.4e6, 16e6]),
            "wired_rate_bps": 1e8,
            "correlation": 0.9,
            "background": 1.0,
            "slot_s": 15.0,
            "sharing": 1.0,
            "backlog_max_s": 60.0,
            "tolerated_delay_s": np.full(self.num_blocks, 4.0),
            "penalty_weight": 1.0,
            "battery_j": 1e5,
            "throttle": 0.5,
            "server_enabled": np.ones(n, bool),
            "table_rate_bps": np.full((rows, n), -1.0),
            "table_background_s": np.full((rows, n), -1.0),
            "table_tasks": np.full(rows, -1.0),
        }
        return PartitioningParams(**{name: self.as_leaf(value) for name, value in values.items()})

    def validate(self, params: PartitioningParams) -> None:
        """Refuses what cannot be simulated; needs concrete values."""
        p = jax.tree.map(np.asarray, params)
        check_array("max_steps", p.max_steps, lambda x: x >= 1, "give at least 1 slot")
        check_leaves(p, _POSITIVE, POSITIVE)
        check_leaves(p, _NOT_NEGATIVE, NOT_NEGATIVE)
        valid = "give the lowest rate first"
        check_array("rate_range_bps", p.rate_range_bps, lambda x: x[0] <= x[1], valid)
        valid = "give a number in [0, 1)"
        check_array("correlation", p.correlation, lambda x: (x >= 0) & (x < 1), valid)
        valid = "give a number in (0, 1]"
        check_array("throttle", p.throttle, lambda x: (x > 0) & (x <= 1), valid)
        valid = "give positive finite numbers; -1 = drawn"
        check_array("table_rate_bps", p.table_rate_bps, lambda x: (x > 0) | (x == -1), valid)
        valid = "give finite numbers, 0 or more; -1 = drawn"
        check_array("table_background_s", p.table_background_s, _given_or_drawn, valid)
        valid = "give whole numbers, 0 or more; -1 = drawn"
        check_array(
            "table_tasks", p.table_tasks, lambda x: _given_or_drawn(x) & (x == np.round(x)), valid
        )
        work = float(p.cycles_per_flop) * p.block_flops.astype(np.float64)
        slowest = min(float(p.device_hz * p.throttle), float(p.server_hz.min()))
        fields = "block_flops, cycles_per_flop, device_hz, throttle, server_hz"
        check_derived("time of a block", work / slowest, SECONDS, "s", fields)
        sent_s = p.block_input_bits / float(min(p.rate_range_bps[0], p.wired_rate_bps))
        fields = "block_input_bits, rate_range_bps, wired_rate_bps"
        check_derived("time of a transfer", sent_s, SECONDS, "s", fields)
        tail = arrivals.poisson_tail(float(p.task_rate), self.max_tasks)
        tasks_drawn = self.source == "generated" or (p.table_tasks < 0).any()
        if tasks_drawn and not tail < 1e-9:
            valid = f"more than max_tasks = {self.max_tasks} come too often; raise max_tasks"
            raise ConfigError("task_rate", float(p.task_rate), valid)

    @property
    def observation_space(self) -> spaces.Box:
        m, n = self.num_blocks, self.num_servers
        size = {"full": 4 * m + 3 * n + 3, "compact": 3 * n + 3, "paper": 2 * m + n + 1}
        return spaces.Box(-np.inf, np.inf, (size[self.observation],), self.float_dtype)

    @property
    def action_space(self) -> spaces.MultiDiscrete:
        return spaces.MultiDiscrete((self.num_servers + 1,) * self.num_blocks)

    # ---- one slot -------------------------------------------------------------------------------

    def slot(self, state: PartitioningState, params: PartitioningParams) -> Slot:
        """What the decision of a state is made on; the device slows down with an empty battery."""
        p, now = params, state.context
        clock = jnp.where(state.energy_j > 0, p.device_hz, p.throttle * p.device_hz)
        hz = jnp.concatenate([clock[None], p.server_hz])
        zero = jnp.zeros(1, self.float_dtype)
        return Slot(
            cycles=now.num_tasks * p.cycles_per_flop * p.block_flops,
            bits=now.num_tasks * p.block_input_bits,
            seconds_per_cycle=1 / hz,
            seconds_per_bit=jnp.concatenate([zero, 1 / now.rate_bps]),
            backlog_s=state.backlog_s,
            background_s=jnp.concatenate([zero, now.background_s]),
        )

    def outcome(self, placement: chex.Array, slot: Slot, params: PartitioningParams) -> Outcome:
        """Delays of a placement, int32 ``[M]``; eqs (3), (5), (6) with sharing and backlog."""
        here = [placement == place for place in range(self.num_servers + 1)]
        previous = jnp.concatenate([jnp.zeros(1, placement.dtype), placement[:-1]])
        alone_s = slot.cycles * _chosen(here, slot.seconds_per_cycle)
        work_s = jnp.stack([jnp.sum(jnp.where(at, alone_s, 0)) for at in here])
        share = 1 + params.sharing / params.slot_s * (work_s + slot.background_s)
        entered = (previous != placement) | (jnp.arange(self.num_blocks) == 0)
        per_bit = _chosen(here, slot.seconds_per_bit)
        before = jnp.concatenate([jnp.zeros(1, per_bit.dtype), per_bit[:-1]])
        return Outcome(
            transfer_s=slot.bits
            * self.transfer_s_per_bit(previous, placement, before, per_bit, params),
            wait_s=jnp.where(entered, _chosen(here, slot.backlog_s), 0),
            compute_s=alone_s * _chosen(here, share),
            work_s=work_s,
        )

    def transfer_s_per_bit(
        self,
        source: chex.Array,
        place: chex.Array,
        source_s: chex.Array,
        place_s: chex.Array,
        params: PartitioningParams,
    ) -> chex.Array:
        """Seconds that a bit takes from one place to another, of any shape; eq (5).

        source_s, place_s: their `Slot.seconds_per_bit`.
        """
        by_radio = source_s + place_s if self.downlink == "charge" else place_s
        by_wire = 1 / params.wired_rate_bps
        wired = (source > 0) & (place > 0)
        return jnp.where(source == place, 0, jnp.where(wired, by_wire, by_radio))

    def penalty_s(self, delay_s: chex.Array, params: PartitioningParams) -> chex.Array:
        """By how much the blocks exceed their tolerated delays, over the last axis; eq (13)."""
        return jnp.sum(jnp.maximum(delay_s - params.tolerated_delay_s, 0), axis=-1)

    def cost(self, delay_s: chex.Array, params: PartitioningParams) -> chex.Array:
        """Minus the reward of block delays ``[..., M]``; eq (14)."""
        late = params.penalty_weight * self.penalty_s(delay_s, params)
        return jnp.sum(delay_s, axis=-1) + late

    def energy_j(
        self,
        placement: chex.Array,
        transfer_s: chex.Array,
        slot: Slot,
        params: PartitioningParams,
    ) -> chex.Array:
        """What the device spends on a placement; eqs (4), (7)."""
        device_hz = 1 / slot.seconds_per_cycle[0]
        local = compute.dvfs_energy_j(params.capacitance, slot.cycles, device_hz)
        sending = placement > 0
        if self.energy == "uplink":
            sending &= jnp.concatenate([jnp.ones(1, bool), placement[:-1] == 0])
        sent = jnp.where(sending, params.transmit_power_w * transfer_s, 0)
        return jnp.sum(jnp.where(placement == 0, local, sent))

    # ---- exogenous processes ------------------------------------------------------------------

    def _context(
        self,
        last: Context | None,
        key_data: chex.Array,
        time: chex.Array,
        params: PartitioningParams,
    ) -> Context:
        """The context of a slot after ``last``; None for a stationary start."""
        p, n = params, self.num_servers
        # Numbered server by server, so that a sweep over N shares its random numbers.
        uniforms = arrivals.slot_uniforms(key_data, time, 1 + 2 * n, self.float_dtype)
        tasks = uniforms[0] >= arrivals.poisson_table(p.task_rate, self.max_tasks)
        latent = arrivals.normal_quantile(uniforms[1:]).reshape(n, 2).T
        if last is not None:
            latent = p.correlation * last.latent + jnp.sqrt(1 - p.correlation**2) * latent
        rate, background = 0.5 + 0.5 * jax.lax.erf(latent * math.sqrt(0.5))
        low, high = p.rate_range_bps
        context = Context(
            rate_bps=low + (high - low) * rate,
            background_s=p.background * p.slot_s * background**4,
            num_tasks=jnp.sum(tasks, dtype=self.float_dtype),
            latent=latent,
        )
        if self.source == "generated":
            return context
        row = jnp.minimum(time, self.table_rows - 1)
        rate, background, tasks = (getattr(p, name)[row] for name in _TABLES)
        return context.replace(
            rate_bps=jnp.where(rate < 0, context.rate_bps, rate),
            background_s=jnp.where(background < 0, context.background_s, background),
            num_tasks=jnp.where(tasks < 0, context.num_tasks, tasks),
        )

    # ---- the contract -------------------------------------------------------------------------

    def reset_env(self, key: chex.PRNGKey, params: PartitioningParams) -> PartitioningState:
        return PartitioningState(
            key=key,
            time=jnp.int32(0),
            context=self._context(None, jax.random.key_data(key), jnp.int32(0), params),
            backlog_s=jnp.zeros(self.num_servers + 1, self.float_dtype),
            energy_j=params.battery_j,
        )

    def step_env(
        self,
        key: chex.PRNGKey,
        state: PartitioningState,
        action: chex.Array,
        params: PartitioningParams,
    ) -> tuple[PartitioningState, chex.Array, chex.Array, dict[str, Any]]:
        """Processes the slot's batch, updates backlog and battery (11), draws the next context.

        Returns:
            The state, the reward, False, and ``info``: ``total_delay_s`` = ``edge_delay_s`` +
            ``local_delay_s`` = ``transfer_s`` + ``wait_s`` + ``compute_s``, ``penalty_s`` (psi),
            ``energy_j``, ``block_delay_s`` and ``late_blocks`` ``[M]``, ``backlog_s`` ``[N + 1]``,
            ``remaining_energy_j`` and ``empty_battery`` after the slot, ``num_tasks``.
        """
        p, slot = params, self.slot(state, params)
        result = self.outcome(action, slot, p)
        delay_s = result.delay_s
        total_s = jnp.sum(delay_s)
        local_s = jnp.sum(jnp.where(action == 0, delay_s, 0))
        energy_j = self.energy_j(action, result.transfer_s, slot, p)
        backlog_s = slot.backlog_s + result.work_s + slot.background_s - p.slot_s
        following = state.replace(
            context=self._context(state.context, jax.random.key_data(state.key), state.time + 1, p),
            backlog_s=jnp.clip(backlog_s, 0, p.backlog_max_s),
            energy_j=state.energy_j - energy_j,
        )
        info = {
            "total_delay_s": total_s,
            "edge_delay_s": total_s - local_s,
            "local_delay_s": local_s,
            "transfer_s": jnp.sum(result.transfer_s),
            "wait_s": jnp.sum(result.wait_s),
            "compute_s": jnp.sum(result.compute_s),
            "penalty_s": self.penalty_s(delay_s, p),
            "late_blocks": delay_s > p.tolerated_delay_s,
            "energy_j": energy_j,
            "block_delay_s": delay_s,
            "backlog_s": following.backlog_s,
            "remaining_energy_j": following.energy_j,
            "empty_battery": following.energy_j <= 0,
            "num_tasks": state.context.num_tasks,
        }
        return following, -self.cost(delay_s, p), jnp.asarray(False), info

    def action_mask(self, state: PartitioningState, params: PartitioningParams) -> chex.Array:
        """``[M, N + 1]``: disabled servers are forbidden, the device never is."""
        shape = (self.num_blocks, self.num_servers + 1)
        return jnp.broadcast_to(self.enabled(params), shape)

    def enabled(self, params: PartitioningParams) -> chex.Array:
        """``[N + 1]``: which places may be used."""
        return jnp.concatenate([jnp.ones(1, bool), params.server_enabled])

    def observe(self, state: PartitioningState, params: PartitioningParams) -> chex.Array:
        """``full``, ``[4 M + 3 N + 3]``: c/1e10, d/1e7, I/1e8, tau/7; R/R_hi, W/slot, b/slot;
        E/E_max, at least 0, lambda/100.

        ``compact``, ``[3 N + 3]``: 2 R/R_hi - 1.4, W/slot, b/slot, E/E_max, (lambda - rate)/20.
        ``paper``, ``[2 M + N + 1]``: c, d, R, E. A disabled server shows 0.
        """
        p, now = params, state.context
        seen = self.enabled(p)
        rate = now.rate_bps / p.rate_range_bps[1]
        if self.observation == "compact":
            rate = 2 * rate - 1.4
        rate = jnp.where(p.server_enabled, rate, 0)
        backlog = jnp.where(seen, state.backlog_s / p.slot_s, 0)
        background = jnp.where(p.server_enabled, now.background_s / p.slot_s, 0)
        energy = (jnp.maximum(state.energy_j, 0) / p.battery_j)[None]
        cycles = now.num_tasks * p.cycles_per_flop * p.block_flops / 1e10
        size = p.block_bytes / 1e7
        if self.observation == "paper":
            parts = [cycles, size, rate, energy]
        elif self.observation == "compact":
            tasks = (now.num_tasks - p.task_rate)[None] / 20
            parts = [rate, backlog, background, energy, tasks]
        else:
            bits = now.num_tasks * p.block_input_bits / 1e8
            blocks = [cycles, size, bits, p.tolerated_delay_s / 7]
            parts = [*blocks, rate, backlog, background, energy, now.num_tasks[None] / 100]
        return jnp.concatenate(parts)

    def reward_unit(self, params: PartitioningParams) -> chex.Array:
        """100 s: a slot of the published scenario costs about 30 s."""
        return jnp.full((), 100.0, self.float_dtype)

    def draw_episode(self, figure: Any, steps: Any, now: int, params: PartitioningParams) -> None:
        """Draws an episode up to step ``now``; see `jaxenv.rendering.partitioning`."""
        from jaxenv.rendering.partitioning import draw_episode

        draw_episode(figure, self, steps, now, params)


def _chosen(here: list[chex.Array], values: chex.Array) -> chex.Array:
    """The value at each block's place, ``[M]``; here: for every place, the blocks on it.

    A chain of selections: a vector processor does it faster than it gathers.
    """
    first, *others = zip(here, values, strict=True)
    chosen = jnp.broadcast_to(first[1], first[0].shape)
    for at, value in others:
        chosen = jnp.where(at, value, chosen)
    return chosen


def _blocks(network: Any, shape: Any, num_blocks: int) -> dict[str, np.ndarray]:
    """The per-block leaves of a network cut into blocks of balanced work."""
    try:
        options = {"input_shape": tuple(shape), "granularity": "unit", "operations": "all"}
        profile = dnn.profile_of(network, **options)
        blocks = dnn.balanced(profile, num_blocks)
    except (ValueError, TypeError, OSError) as error:
        raise ConfigError.of("network", network, error) from None
    return {
        "block_flops": blocks.flops[1:],
        "block_bytes": PARAMETER_BYTES * blocks.parameters[1:].astype(np.float64),
        "block_input_bits": blocks.output_bits(IMAGE_BITS, FEATURE_BITS)[:-1],
    }


def _trace(path: Any, num_servers: Any) -> dict[str, Any]:
    """The options that a CSV file of measured slots stands for."""
    rates = [f"rate {n} [bit/s]" for n in range(1, num_servers + 1)]
    backgrounds = [f"background {n} [s]" for n in range(1, num_servers + 1)]
    columns = ("tasks [1]", measured.RATE, *rates, *backgrounds)
    series = measured.read_setting("trace", path, measured.read_series, columns)
    for column, values in series.items():
        low, is_rate = values.min(), column.startswith("rate")
        if low < 0 or (low == 0 and is_rate):
            valid = "positive numbers" if is_rate else "numbers, 0 or more"
            raise ConfigError("trace", str(path), f"{column}: give {valid}, not {low:g}")
    if measured.RATE in series:
        if not set(rates).isdisjoint(series):
            raise ConfigError("trace", str(path), f"give {measured.RATE!r} or one per server")
        series |= dict.fromkeys(rates, series[measured.RATE])
    options: dict[str, Any] = {"max_steps": min(len(next(iter(series.values()))), MAX_STEPS)}
    for table, names in (("table_rate_bps", rates), ("table_background_s", backgrounds)):
        missing = [name for name in names if name not in series]
        if not missing:
            options[table] = np.stack([series[name] for name in names], axis=-1)
        elif len(missing) < len(names):
            raise ConfigError("trace", str(path), f"it lacks the column {missing[0]!r}")
    if "table_rate_bps" in options:
        measured_rates = options["table_rate_bps"]
        options["rate_range_bps"] = [measured_rates.min(), measured_rates.max()]
    if "tasks [1]" in series:
        options["table_tasks"] = series["tasks [1]"]
    return options


def _given_or_drawn(x: Any) -> Any:
    """Where entries of a table are given, or -1."""
    return (x >= 0) | (x == -1)


_LEAST = {"num_blocks": 1, "num_servers": 1, "max_tasks": 1, "table_rows": 0}
_TABLES = ("table_rate_bps", "table_background_s", "table_tasks")
_POSITIVE = (
    "task_rate",
    "cycles_per_flop",
    "device_hz",
    "server_hz",
    "rate_range_bps",
    "wired_rate_bps",
    "slot_s",
    "battery_j",
)
_NOT_NEGATIVE = (
    "block_flops",
    "block_bytes",
    "block_input_bits",
    "capacitance",
    "transmit_power_w",
    "background",
    "sharing",
    "backlog_max_s",
    "tolerated_delay_s",
    "penalty_weight",
)
