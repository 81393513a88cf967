"""The environment of the vehicular system: an episode, a decision, and what is seen."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxenv import spaces
from jaxenv.environment import MOST_STEPS, Constraint, Metric, steps_times
from jaxenv.physics import arrivals
from jaxenv.vehicular.decisions import Decisions
from jaxenv.vehicular.params import GIGA, VehicularParams
from jaxenv.vehicular.state import (
    DELIVERER,
    DELIVERY_FAILURE,
    FAILURES,
    HELPER,
    IDLE,
    LEFT_ROAD,
    NONE,
    SUCCESS,
    UNFINISHED,
    UPLOAD,
    UPLOAD_FAILURE,
    Draws,
    Progress,
    Tasks,
    Totals,
    VehicularState,
    task_costs,
)

_START_STREAM = -1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vehicular(Decisions):
    """Online scheduling of collaborative inference on a road with RSUs.

    Sizes and options are those of `jaxenv.vehicular.scenario.Scenario`.

    Cost. A task has the latency mu: the time from its submission to its end. A task whose upload is
    cut off, whose vehicle leaves the road or that is unfinished at ``max_slots`` has no such end;
    it counts with max(time until then, latency of computing everything on the vehicle), so that
    failing early never pays. The cost of a task is mu if it succeeds and failure_weight * mu if it
    fails; minus the cost is r_{t,i} of eq (3), read with one minus sign as the text below it says.

    Reward in s, by reward_mode:

    - ``completion``: minus the costs of all tasks that end during the step; those that end after
      the last decision are paid by the last step. The undiscounted return is minus the total cost.
    - ``own``: the paper's, every decision is paid minus its own task's cost. It is known only when
      the task ends: the scalar reward is 0 and ``info["finished"]`` names decisions and rewards.
    - ``marginal``: Phi before the decision minus Phi after it, where Phi is the total cost of the
      tasks in flight if nobody else submits (`projected_cost`); so a decision is paid at once, with
      the harm that it does to others. The undiscounted return is again minus the total cost.
    """

    name: ClassVar[str] = "vehicular"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("cost_s", "s", "min", "ratio", "cost_sum_s", "tasks_finished"),
        Metric("success_rate", "%", "max", "ratio", "tasks_succeeded", "tasks_finished", scale=100),
        Metric("latency_s", "s", "min", "ratio", "latency_sum_s", "tasks_succeeded"),
        Metric("num_tasks", "tasks", "max", "sum", "tasks_finished"),
    )
    constraints: ClassVar[tuple[Constraint, ...]] = (
        Constraint("failed_tasks", FAILURES, over=("tasks_finished",)),
        *(Constraint(cause, (cause,), over=("tasks_finished",)) for cause in FAILURES),
    )

    @property
    def observation_space(self) -> spaces.Box:
        """Of `observe`: unbounded, flat."""
        size = (6 if self.observation == "extended" else 3) * self.num_rsus + 4
        size += self.num_networks if self.model_onehot else 0
        return spaces.Box(-np.inf, np.inf, (size,), self.float_dtype)

    # ---- the contract --------------------------------------------------------------------------

    def reset_env(self, key: chex.PRNGKey, params: VehicularParams) -> VehicularState:
        """Slot 0, with the vehicles drawn or given, and who asks in it; `settle` runs on from here.

        The key stays in the state: whether a vehicle asks in slot k if it is idle, and for which
        network, depends on the key and k alone, so every policy meets the same arrivals.
        """
        dtype, size_v = self.float_dtype, self.num_vehicles
        stream = jnp.int32(_START_STREAM)
        drawn = arrivals.slot_uniforms(jax.random.key_data(key), stream, 4 * size_v + 1, dtype)
        unit, last = drawn[:-1].reshape(4, size_v), drawn[-1]
        if self.scenario == "given":
            position, speed = params.initial_position_m, params.initial_speed_mps
            power, flops = params.initial_power_dbm, params.initial_vehicle_flops
        else:

            def within(unit: chex.Array, ends: chex.Array) -> chex.Array:
                return ends[0] + unit * (ends[1] - ends[0])

            position = unit[0] * params.road_period_m
            speed = within(unit[1], params.speed_range_mps)
            power = within(unit[2], params.power_range_dbm)
            flops = within(unit[3], params.vehicle_flops_range)
        most = jnp.maximum(self.trace_rows - params.max_steps, 0)
        row = jnp.minimum((last * (most + 1).astype(dtype)).astype(jnp.int32), most)
        row = jnp.where(params.trace_start < 0, row, params.trace_start).astype(jnp.int32)
        zeros = jnp.zeros((size_v,), dtype)
        ints = jnp.zeros((size_v,), jnp.int32)
        zero = jnp.int32(0)
        ones = jnp.ones((size_v,), dtype)
        progress = Progress(
            slot=zero,
            tau=jnp.zeros((), dtype),
            fresh=jnp.asarray(True),
            phase=ints,
            remaining=zeros,
            weight=ones,
            entry_slot=ints,
            entry_tau=zeros,
            asking=jnp.zeros((size_v,), bool),
            network=ints,
            outcome=ints,
            latency_s=zeros,
            turns=zero,
        )
        draws = Draws(position, speed, power, flops * GIGA, row)
        _, on_road = self.place(draws, params, zero)
        progress = self._ask(params, jax.random.key_data(key), progress, on_road)
        tasks = Tasks(
            helper=ints,
            deliverer=ints,
            helper_position_m=zeros,
            deliverer_position_m=zeros,
            work=jnp.zeros((5, size_v), dtype),
            bandwidth_mhz=ones,
            power_over_noise_db=zeros,
            helper_gflops=ones,
            deliverer_gflops=ones,
            local_s=zeros,
            slot=ints,
            decision=ints - 1,
        )
        if self.reward_mode == "completion":
            last_observation = None
        else:
            last_observation = jnp.zeros(self.observation_space.shape, dtype)
        state = VehicularState(
            key=key,
            time=zero,
            vehicle=zero,
            draws=draws,
            tasks=tasks,
            progress=progress,
            totals=Totals(jnp.zeros((6,), jnp.int32), jnp.zeros((), dtype), jnp.zeros((), dtype)),
            decisions=zero,
            finished=jnp.asarray(False),
            carried_cost=jnp.zeros((), dtype),
            last_observation=last_observation,
        )
        return self._pick_vehicle(state)

    def settle(self, state: VehicularState, params: VehicularParams) -> VehicularState:
        """A state just reset, run on to its first decision; any other state unchanged.

        If nobody asks in the whole episode it is the end: the first step is a no-op with reward 0.
        """
        fresh = (state.time == 0) & (state.progress.turns == 0) & ~jnp.any(state.progress.asking)
        # Lanes that are not fresh enter with their turns used up, so the loop passes them by.
        start = state.progress
        parked = start.replace(asking=start.asking | ~fresh, slot=jnp.where(fresh, start.slot, -1))
        advanced = self._advance(state.replace(progress=parked), params)
        return jax.tree.map(lambda new, old: jnp.where(fresh, new, old), advanced, state)

    def for_evaluation(self) -> Vehicular:
        """With completion rewards, which need no projections."""
        return dataclasses.replace(self, reward_mode="completion")

    def reward_unit(self, params: VehicularParams) -> chex.Array:
        """Mean latency of Local over the mix, in s."""
        inside = jnp.arange(self.max_layers) < params.num_layers[:, None]
        flops = jnp.sum(jnp.where(inside, params.layer_flops, 0), axis=1)
        latency = params.compression * flops / jnp.mean(params.vehicle_flops_range)
        return jnp.sum(params.mix * latency) / jnp.sum(params.mix)

    def is_truncated(self, state: VehicularState, params: VehicularParams) -> chex.Array:
        """Whether arrivals are over and every task has ended, bool; no episode terminates."""
        return state.finished

    def most_steps(self, params: VehicularParams) -> chex.Array:
        """A vehicle asks at most once per slot, int32; unlimited with ``turns_per_step``."""
        if self.turns_per_step:
            return jnp.int32(MOST_STEPS)
        return steps_times(params.max_steps, self.num_vehicles)

    def step_env(
        self, key: chex.PRNGKey, state: VehicularState, action: chex.Array, params: VehicularParams
    ) -> tuple[VehicularState, chex.Array, chex.Array, dict[str, Any]]:
        """Submits the task of ``state.vehicle`` and runs to the next decision or the end.

        Args:
            key: not used; the episode's key is in the state.
            state: with a vehicle that asks; else the action is ignored and time goes on.
            action: int32 index, see `encode`. One outside the mask is carried out too, with layers
                clipped to the network.
            params: the scenario.

        Returns:
            ``(state, reward, terminated, info)``. reward: float, s, by ``reward_mode``.
            terminated: False. info, of this step:

            - ``finished``: tasks that ended, one row per vehicle: ``mask`` bool[V] ended,
              ``decision`` int32[V] index of the task's decision in the episode or -1, ``reward``
              float[V] minus the cost in s, ``latency_s`` float[V] mu in s, ``success`` bool[V];
            - ``tasks_finished``, ``tasks_succeeded``: int32, number of tasks that ended;
            - ``latency_sum_s``: float, s, over tasks that succeeded; ``cost_sum_s``: float, s, over
              all that ended;
            - ``elapsed_slots``: int32, slots that passed;
            - ``decision``: int32, index of the decision just taken, -1 if none was due;
            - ``decision_pending``: bool, the new state waits for a decision or is the end (always
              with turns_per_step=0);
            - ``action_valid``: bool, the action was in the mask;
            - ``turns``: int32, turns of the event loop.

            And of the whole episode, 0 before its last step:

            - ``num_tasks``: int32; ``success_rate``: float, a fraction of 0 to 1 (the metric of the
              same name is in %);
            - ``latency_s``: float, s, mean over tasks that succeeded; ``cost_s``: float, s, mean
              over all tasks;
            - ``upload_failures``, ``delivery_failures``, ``left_road``, ``unfinished``: int32,
              number of failed tasks: helper out of reach before the upload was over, deliverer out
              of reach at the end, vehicle gone from the trace, in flight at ``max_slots``.
        """
        dtype = self.float_dtype
        before = state
        now = state.progress
        due = jnp.any(now.asking) & ~state.finished
        valid = self._is_valid(state, action, params) | ~due
        state = state.replace(
            progress=now.replace(
                outcome=jnp.zeros_like(now.outcome),
                latency_s=jnp.zeros_like(now.latency_s),
                turns=jnp.zeros_like(now.turns),
            )
        )
        state = jax.tree.map(
            lambda new, old: jnp.where(due, new, old), self.carry_out(state, action, params), state
        )
        marginal = jnp.zeros((), dtype)
        carried = state.carried_cost
        if self.reward_mode == "marginal":
            at_once = jnp.sum(task_costs(state.progress, params))
            projected = self.projected_cost(state, params)
            after = jnp.where(due, at_once + projected, carried)
            marginal, carried = carried - after, after
        state = self._advance(state, params)
        now = state.progress
        costs = task_costs(now, params)
        ended = now.outcome > NONE
        succeeded = now.outcome == SUCCESS
        counts = jnp.sum(
            (now.outcome[:, None] == jnp.arange(6)) & ended[:, None], axis=0, dtype=jnp.int32
        )
        latency = jnp.sum(jnp.where(succeeded, now.latency_s, 0))
        totals = Totals(
            state.totals.outcomes + counts,
            state.totals.latency_s + latency,
            state.totals.cost_s + jnp.sum(costs),
        )
        over = state.finished & ~before.finished
        state = state.replace(totals=totals, carried_cost=carried - jnp.sum(costs))
        rewards = {
            "completion": -jnp.sum(costs),
            "own": jnp.zeros((), dtype),
            "marginal": marginal,
        }
        info = {
            "finished": {
                "decision": jnp.where(ended, state.tasks.decision, -1),
                "reward": -costs,
                "mask": ended,
                "latency_s": jnp.where(ended, now.latency_s, 0),
                "success": succeeded,
            },
            "tasks_finished": jnp.sum(ended, dtype=jnp.int32),
            "tasks_succeeded": jnp.sum(succeeded, dtype=jnp.int32),
            "latency_sum_s": latency,
            "cost_sum_s": jnp.sum(costs),
            "elapsed_slots": now.slot - before.progress.slot,
            "decision": jnp.where(due, before.decisions, -1),
            "decision_pending": jnp.any(now.asking) | state.finished,
            "action_valid": valid,
            "turns": now.turns,
        } | self._episode_summary(totals, over)
        reward = rewards[self.reward_mode].astype(dtype)
        return state, reward, jnp.asarray(False), info

    def _episode_summary(self, totals: Totals, over: chex.Array) -> dict[str, chex.Array]:
        """Episode metrics, filled when the episode is over, else 0."""
        tasks = jnp.sum(totals.outcomes[1:], dtype=jnp.int32)
        succeeded = totals.outcomes[SUCCESS]
        dtype = self.float_dtype
        floor = jnp.maximum(tasks, 1).astype(dtype)
        summary = {
            "num_tasks": tasks,
            "success_rate": succeeded.astype(dtype) / floor,
            "latency_s": totals.latency_s / jnp.maximum(succeeded, 1).astype(dtype),
            "cost_s": totals.cost_s / floor,
            "upload_failures": totals.outcomes[UPLOAD_FAILURE],
            "delivery_failures": totals.outcomes[DELIVERY_FAILURE],
            "left_road": totals.outcomes[LEFT_ROAD],
            "unfinished": totals.outcomes[UNFINISHED],
        }
        return jax.tree.map(lambda x: jnp.where(over, x, jnp.zeros_like(x)), summary)

    # ---- advancing -----------------------------------------------------------------------------

    def _advance(self, state: VehicularState, params: VehicularParams) -> VehicularState:
        """To the next decision; beyond the last slot, until every task has ended."""
        if self.reward_mode == "completion":

            def going(params: VehicularParams, now: Progress) -> chex.Array:
                return self._awaits_arrival(params, now) | self._drains(params, now)

            state = state.replace(progress=self._run(params, state, going))
        else:
            past_end = state.progress.slot >= params.max_steps
            state = state.replace(progress=self._run(params, state, self._awaits_arrival))
            reached = ~past_end & (state.progress.slot >= params.max_steps)
            picked = self._pick_vehicle(state).vehicle
            state = state.replace(vehicle=jnp.where(past_end, state.vehicle, picked))
            undrained = self._observe(state, params)
            state = state.replace(
                last_observation=jnp.where(reached, undrained, state.last_observation)
            )
            state = state.replace(progress=self._run(params, state, self._drains))
        now = state.progress
        over = (now.slot >= params.max_steps) & ~self._drains(params, now)
        state = state.replace(finished=over)
        return self._pick_vehicle(state) if self.reward_mode == "completion" else state

    # ---- what is seen --------------------------------------------------------------------------

    def observe(self, state: VehicularState, params: VehicularParams) -> chex.Array:
        """``float[3S + 4]`` (``paper``), M more with ``model_onehot``, 3S more if ``extended``.

        About the asking vehicle; RSUs in rolled order (`road`). The divisors are fixed numbers, so
        a sweep of the scenario stays visible. In this order:

        - ``[S]`` capacity of the RSUs / 60 GFLOP/s;
        - ``[S]`` bandwidth / 10 MHz;
        - ``[S]`` work committed and not executed (`committed_gflop`) / 10 s of the RSU's capacity;
        - speed / 20 m/s, capacity / 5 GFLOP/s, power in dBm / 10, and position of rolled RSU 0
          minus that of the vehicle's zone / 300 m;
        - ``model_onehot``: ``[M]`` 1 at the network of the task;
        - ``extended``: ``[S]`` bits left of the uploads to the RSU / 22.1184 Mbit (a raw frame),
          ``[S]`` number of these uploads / V, ``[S]`` tasks that the RSU computes now / V.

        After the end of an episode: with reward_mode="completion" the drained road; else the road
        when arrivals ended, with tasks still in flight (without those cut off then, where
        ``max_slots`` is ``max_steps``).
        """
        observation = self._observe(state, params)
        if self.reward_mode == "completion":
            return observation
        return jnp.where(state.finished, state.last_observation, observation)

    def committed_gflop(self, state: VehicularState) -> chex.Array:
        """Work submitted to each RSU and not executed yet, ``[S]`` in GFLOP."""
        tasks, now = state.tasks, state.progress
        unit = jnp.arange(self.num_rsus)[:, None]
        busy = now.phase > IDLE
        second = jnp.where(now.phase == HELPER, now.remaining, tasks.work[HELPER - 1])
        second = jnp.where(busy & (now.phase <= HELPER), second, 0)
        third = jnp.where(now.phase == DELIVERER, now.remaining, tasks.work[DELIVERER - 1])
        third = jnp.where(busy, third, 0)
        at_helper = jnp.where(tasks.helper == unit, second, 0)
        return jnp.sum(at_helper + jnp.where(tasks.deliverer == unit, third, 0), axis=1)

    def _observe(self, state: VehicularState, params: VehicularParams) -> chex.Array:
        dtype = self.float_dtype
        j, now, tasks = state.vehicle, state.progress, state.tasks
        zone, copies, order = self.road(state, params, j)
        unit = jnp.arange(self.num_rsus)[:, None]
        parts = [
            params.rsu_flops[order] / 60e9,
            params.bandwidth_hz[order] / 10e6,
            self.committed_gflop(state)[order] / (params.rsu_flops[order] * GIGA * 10),
            jnp.stack(
                [
                    self.speeds(state, params)[j] / 20,
                    state.draws.vehicle_gflops[j] / 5,
                    state.draws.power_dbm[j] / 10,
                    (copies[order[0]] - zone) / 300,
                ]
            ),
        ]
        if self.model_onehot:
            parts.append(jax.nn.one_hot(now.network[j], self.num_networks, dtype=dtype))
        if self.observation == "extended":
            upload = now.phase == UPLOAD
            queued = jnp.where((tasks.helper == unit) & upload, now.remaining, 0)
            uploads = (tasks.helper == unit) & upload
            served = ((tasks.helper == unit) & (now.phase == HELPER)) | (
                (tasks.deliverer == unit) & (now.phase == DELIVERER)
            )
            parts += [
                jnp.sum(queued, axis=1)[order] / 22.1184,
                jnp.sum(uploads, axis=1).astype(dtype)[order] / self.num_vehicles,
                jnp.sum(served, axis=1).astype(dtype)[order] / self.num_vehicles,
            ]
        return jnp.concatenate(parts).astype(dtype)

    def draw(self, axes: Any, state: VehicularState, params: VehicularParams) -> None:
        """Draws a state into a matplotlib ``Axes``; see `jaxenv.rendering.vehicular`."""
        from jaxenv.rendering.vehicular import draw_road

        draw_road(axes, self, state, params)

    def event_states(
        self, state: VehicularState, action: chex.Array, params: VehicularParams
    ) -> list[VehicularState]:
        """The states to draw up to the next decision; see `jaxenv.rendering.vehicular`."""
        from jaxenv.rendering.vehicular import event_states

        return event_states(self, state, action, params)

    def frames_held(
        self, state: VehicularState, following: VehicularState | None, params: VehicularParams
    ) -> float:
        """For how many frame times to show a state; see `jaxenv.rendering.vehicular`."""
        from jaxenv.rendering.vehicular import frames_held

        return frames_held(state, following, params)
