"""The environment of the services system: a slot, an episode, and what is seen."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxenv import spaces
from jaxenv.environment import Constraint, Metric
from jaxenv.physics import arrivals
from jaxenv.services.params import ServicesParams
from jaxenv.services.scenario import Scenario
from jaxenv.services.state import Demand, Outcome, ServicesState, Slot, admit_next


@dataclasses.dataclass(frozen=True, kw_only=True)
class Services(Scenario):
    """Agents that serve one request each per slot, by one joint decision.

    Sizes and options are those of `jaxenv.services.scenario.Scenario`.

    Observations are ``[n, D]``, actions int32 ``[n, 3]``: configuration, model, server; masks
    ``[n, 3, max(C, M, K)]``.
    """

    name: ClassVar[str] = "services"
    reward_parts: ClassVar[tuple[str, ...]] = ("accuracy", "delay", "cost")
    paid_by_agent: ClassVar[bool] = True
    shared_choice: ClassVar[int | None] = 2  # the server
    choice_groups: ClassVar[int] = 2  # its work and memory in use
    constraints: ClassVar[tuple[Constraint, ...]] = (
        Constraint("rejected", ("late", "memory_reject")),
        Constraint("late", ("late",)),
        Constraint("memory", ("memory_reject",)),
    )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Reward and its parts, summed over an episode; shares of requests that are rejected.

        ``doubling``: agents on a server that one before them chose. Then, per service and, with
        ``agent_metrics``, per agent: rejections, and means of the accepted requests.
        """
        agents = [f"agent{i}" for i in range(self.num_agents)] if self.agent_metrics else []
        return (
            Metric("reward", "1", "max", "sum", "reward"),
            Metric("accuracy", "1", "max", "sum", "total_accuracy"),
            Metric("delay_s", "s", "min", "sum", "total_delay_s"),
            Metric("cost_usd", "$", "min", "sum", "total_cost_usd"),
            *(
                Metric(name, "%", "min", "mean", name, scale=100.0)
                for name in ("failure_rate", "late_rate", "memory_rate", "doubling")
            ),
            *(
                metric
                for group in (*self.service_names, *agents)
                for metric in (
                    Metric(
                        f"failure_rate_{group}",
                        "%",
                        "min",
                        "ratio",
                        f"rejected_{group}",
                        f"requests_{group}",
                        scale=100.0,
                    ),
                    *(
                        Metric(
                            f"{quantity}_{group}",
                            unit,
                            direction,
                            "ratio",
                            f"{quantity}_{group}",
                            f"accepted_{group}",
                        )
                        for quantity, unit, direction in (
                            ("accuracy", "1", "max"),
                            ("delay_s", "s", "min"),
                            ("cost_usd", "$", "min"),
                        )
                    ),
                )
            ),
        )

    @property
    def observation_space(self) -> spaces.Box:
        return spaces.Box(-np.inf, np.inf, (sum(self.observation_groups),), self.float_dtype)

    @property
    def action_space(self) -> spaces.MultiDiscrete:
        return spaces.MultiDiscrete((self.max_configs, self.max_models, self.num_servers))

    @property
    def observation_groups(self) -> tuple[int, ...]:
        """Entries of an observation that belong together: request; work, memory and links."""
        return (self.num_servers + 2, *self.state_groups)

    @property
    def state_row(self) -> int:
        """Entries of one agent in the global state."""
        return self.num_servers + 2 + self.num_services

    @property
    def state_groups(self) -> tuple[int, ...]:
        """Entries of the global state that belong to the servers: work, memory and links."""
        k = self.num_servers
        return (k, k, k * (k - 1) // 2)

    # ---- one slot -----------------------------------------------------------------------------

    def demand(
        self,
        slot: Slot,
        agent: chex.Array,
        config: chex.Array,
        model: chex.Array,
        server: chex.Array,
        params: ServicesParams,
    ) -> Demand:
        """What requests ask for; agent, config, model and server are int32 of one shape, or
        broadcast to it; eqs (2) to (4), (8), (10).
        """
        p, service, local = params, params.service[agent], slot.local_server[agent]
        data_mb = p.size_factor[service, config] * slot.data_mb[agent]
        data_mbit = p.bits_per_byte * data_mb
        work = p.model_tflop[service, model] * p.inferences[service, config]
        tflops = p.compute_tflops[server]
        path_s = p.path_s_per_mb[local, server]
        transfer_s = data_mbit / p.uplink_mbps[local] + data_mbit * path_s
        cost = p.compute_cost * work / tflops + p.memory_cost * data_mb / p.mb_per_gb
        return Demand(
            server=server,
            instance=(service * self.max_models + model) * self.num_servers + server,
            alone_s=transfer_s + (work + slot.system_tflop[server]) / tflops,
            deadline_s=slot.deadline_s[agent],
            data_mb=data_mb,
            model_mb=p.model_mb[service, model],
            room_mb=p.mb_per_gb * p.memory_gb[server] - slot.used_mb[server],
            work_tflop=work,
            tflops=tflops,
            accuracy=p.acc_std[service, config, model],
            cost_rou=p.routing_cost * data_mbit * p.path_links[local, server],
            cost_cmp=cost,
        )

    def admit(self, demand: Demand) -> Outcome:
        """Admits requests ``[n]`` one after another; eqs (5), (6), (14), (15).

        A rejected one leaves nothing behind. Two with the same model on the same server share it.
        """
        index = jnp.arange(demand.server.shape[0])
        before = index < index[:, None]
        beside = before & (demand.server == demand.server[:, None])
        alike = before & (demand.instance == demand.instance[:, None])
        nothing = jnp.zeros_like(demand.work_tflop)
        start = (jnp.zeros(index.shape, bool), nothing, nothing)
        rows = (index == index[:, None], beside, alike, demand)
        return jax.lax.scan(admit_next, start, rows, unroll=True)[1]

    def parts(self, demand: Demand, outcome: Outcome, params: ServicesParams) -> chex.Array:
        """Accuracy, minus delay, minus cost of all requests ``[3]``; eqs (7), (11), (20), (21)."""
        return jnp.sum(self.agent_parts(demand, outcome, params), axis=0)

    def agent_parts(self, demand: Demand, outcome: Outcome, params: ServicesParams) -> chex.Array:
        """What each request adds to `parts`, ``[n, 3]``; a model is paid by the first to use it."""
        p, ok = params, outcome.accepted
        accuracy = jnp.where(ok, p.acc_scale * demand.accuracy, p.penalty)
        model_cost = p.memory_cost * outcome.started_mb / p.mb_per_gb
        cost = jnp.where(ok, demand.cost_rou + demand.cost_cmp + model_cost, 0)
        delay_s = jnp.where(ok, outcome.delay_s, 0)
        return jnp.stack([accuracy, -delay_s, -cost], axis=1)

    def _draw(self, key: chex.PRNGKey, time: chex.Array, params: ServicesParams) -> Slot:
        """The slot at a time of the episode of ``key``."""
        p, n, k = params, self.num_agents, self.num_servers
        # The servers first, so that a sweep over the number of agents shares their numbers.
        count = 2 * k + 3 * n
        drawn = arrivals.slot_uniforms(jax.random.key_data(key), time, count, self.float_dtype)
        system, used = drawn[: 2 * k].reshape(2, k)
        where, deadline, data = drawn[2 * k :].reshape(n, 3).T
        choices = p.num_delays[p.service]

        def between(low_high: chex.Array, share: chex.Array) -> chex.Array:
            return low_high[..., 0] + (low_high[..., 1] - low_high[..., 0]) * share

        return Slot(
            local_server=_weighted(where, p.local_weight),
            deadline_s=p.delay_set_s[p.service, _nth(deadline, choices)],
            data_mb=between(p.data_range_mb[p.service], data),
            system_tflop=between(p.system_range_tflop, system),
            used_mb=between(p.used_range_mb, used),
        )

    # ---- the contract -------------------------------------------------------------------------

    def reset_env(self, key: chex.PRNGKey, params: ServicesParams) -> ServicesState:
        time = jnp.int32(0)
        return ServicesState(key=key, time=time, slot=self._draw(key, time, params))

    def step_env(
        self, key: chex.PRNGKey, state: ServicesState, action: chex.Array, params: ServicesParams
    ) -> tuple[ServicesState, chex.Array, chex.Array, dict[str, Any]]:
        """Admits the slot's requests and draws the next slot.

        Returns:
            The state, the shared reward (21), False, and ``info``: ``reward_parts`` ``[3]``, whose
            sum is the reward, and ``agent_parts`` ``[n, 3]``, whose sums they are; ``accepted``,
            ``late``, ``memory_reject``, ``delay_s`` (of a rejected request, what it would have
            been), ``accuracy``, ``cost_rou``, ``cost_cmp``, all ``[n]``; ``cost_mem``, and what the
            metrics are made of.
        """
        p, slot = params, state.slot
        asked = self.demand(slot, jnp.arange(self.num_agents), *action.T, p)
        outcome = self.admit(asked)
        agent_parts = self.agent_parts(asked, outcome, p)
        parts = jnp.sum(agent_parts, axis=0)
        ok = outcome.accepted
        memory_reject = ~ok & ~outcome.late
        share = lambda x: jnp.mean(x, dtype=self.float_dtype)  # noqa: E731
        distinct = jnp.any(action[:, 2] == jnp.arange(self.num_servers)[:, None], axis=1)
        info = {
            "reward_parts": parts,
            "agent_parts": agent_parts,
            "accepted": ok,
            "late": outcome.late,
            "memory_reject": memory_reject,
            "delay_s": outcome.delay_s,
            "accuracy": asked.accuracy,
            "cost_rou": asked.cost_rou,
            "cost_cmp": asked.cost_cmp,
            "cost_mem": p.memory_cost * jnp.sum(outcome.started_mb) / p.mb_per_gb,
            "total_accuracy": parts[0],
            "total_delay_s": -parts[1],
            "total_cost_usd": -parts[2],
            "failure_rate": share(~ok),
            "late_rate": share(outcome.late),
            "memory_rate": share(memory_reject),
            "doubling": 1 - jnp.sum(distinct, dtype=self.float_dtype) / self.num_agents,
        }
        info |= self._grouped(asked, outcome, p)
        time = state.time + 1
        following = state.replace(slot=self._draw(state.key, time, p))
        return following, jnp.sum(parts), jnp.asarray(False), info

    def _grouped(
        self, demand: Demand, outcome: Outcome, params: ServicesParams
    ) -> dict[str, chex.Array]:
        """Counts and sums over the requests of each service and, if asked for, of each agent."""
        member = [params.service == s for s in range(self.num_services)]
        names = list(self.service_names)
        if self.agent_metrics:
            member += [jnp.arange(self.num_agents) == i for i in range(self.num_agents)]
            names += [f"agent{i}" for i in range(self.num_agents)]
        ok = outcome.accepted
        sums = {}
        for name, inside in zip(names, member, strict=True):
            total = lambda x, of=inside: jnp.sum(jnp.where(of, x, 0), dtype=self.float_dtype)  # noqa: E731
            sums |= {
                f"requests_{name}": total(1),
                f"rejected_{name}": total(~ok),
                f"accepted_{name}": total(ok),
                f"accuracy_{name}": total(jnp.where(ok, demand.accuracy, 0)),
                f"delay_s_{name}": total(jnp.where(ok, outcome.delay_s, 0)),
                f"cost_usd_{name}": total(jnp.where(ok, demand.cost_rou + demand.cost_cmp, 0)),
            }
        return sums

    def action_mask(self, state: ServicesState, params: ServicesParams) -> chex.Array:
        """``[n, 3, max(C, M, K)]``: configurations and models that an agent's service has."""
        p, n = params, self.num_agents
        servers = jnp.full((n,), self.num_servers, jnp.int32)
        counts = jnp.stack([p.num_configs[p.service], p.num_models[p.service], servers], axis=1)
        width = max(self.action_space.num_values)
        return jnp.arange(width) < counts[..., None]

    def observe(self, state: ServicesState, params: ServicesParams) -> chex.Array:
        """``[n, K + 2 + 2 K + K (K - 1) / 2]``: one-hot of the local server, deadline/25, data/20;
        of all servers work/0.3, memory in use/900, and link rates/400, i < j row by row.
        """
        shared = self._shared(state.slot, params)
        shared = jnp.broadcast_to(shared, (self.num_agents, *shared.shape))
        return jnp.concatenate([self._requests(state.slot), shared], axis=1)

    def global_state(self, state: ServicesState, params: ServicesParams) -> chex.Array:
        """``[n (K + 2 + S) + 2 K + K (K - 1) / 2]``: per agent its request and the one-hot of its
        service; then what all agents see of the servers.
        """
        service = jax.nn.one_hot(params.service, self.num_services, dtype=self.float_dtype)
        rows = jnp.concatenate([self._requests(state.slot), service], axis=1)
        return jnp.concatenate([rows.reshape(-1), self._shared(state.slot, params)])

    def _requests(self, slot: Slot) -> chex.Array:
        local = jax.nn.one_hot(slot.local_server, self.num_servers, dtype=self.float_dtype)
        asked = jnp.stack([slot.deadline_s / 25, slot.data_mb / 20], axis=1)
        return jnp.concatenate([local, asked], axis=1)

    def _shared(self, slot: Slot, params: ServicesParams) -> chex.Array:
        links = params.link_mbps[np.triu_indices(self.num_servers, 1)]
        return jnp.concatenate([slot.system_tflop / 0.3, slot.used_mb / 900, links / 400])

    def draw_episode(self, figure: Any, steps: Any, now: int, params: ServicesParams) -> None:
        """Draws an episode up to step ``now``; see `jaxenv.rendering.services`."""
        from jaxenv.rendering.services import draw_episode

        draw_episode(figure, self, steps, now, params)


def _nth(share: chex.Array, count: chex.Array) -> chex.Array:
    """A number in [0, 1) as an index below ``count``, int32."""
    return jnp.minimum((share * count).astype(jnp.int32), count - 1)


def _weighted(share: chex.Array, weight: chex.Array) -> chex.Array:
    """Numbers in [0, 1), ``[n]``, as indices of ``weight``, int32, as often as it says."""
    ends = jnp.cumsum(weight)
    return jnp.sum(share[:, None] * ends[-1] >= ends[:-1], axis=1, dtype=jnp.int32)
