"""Streamed measurements: those of `evaluate`, exact counts of actions and of violations."""

from __future__ import annotations

import dataclasses
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxenv
from agents import estimates as estimators
from agents import registry, streaming
from agents.choices import Choices, choices_of, collapsed_agents, on_host
from agents.learner import Policy, RandomPolicy, evaluate, summarize
from jaxenv import Constraint, Metric, Params, spaces, struct
from runs import tables
from runs.tables import LEVELS, wilson
from tests.probes import Bandit, Convoy, Placement

KEY = jax.random.key(5)


@struct.dataclass
class Always(Policy):
    """One action. action: int32."""

    action: jax.Array

    def act(self, carry, key, observation, mask, state, params):
        return self.action, carry


@struct.dataclass
class NoisyParams(Params):
    """ceiling: of what an episode keeps."""

    ceiling: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noisy(Bandit):
    """A bandit whose reward is lognormal; half of the pulls count for the ratio."""

    metrics = (
        Metric("reward", "1", "max", "sum", of="reward"),
        Metric("kept", "1", "max", "ratio", of="kept", over="keeps"),
        Metric("p95", "1", "max", "quantile", of="reward", level=0.95),
    )
    constraints = (
        Constraint("above_2", ("above",)),
        Constraint("limit", ("kept",), over=("keeps",), limit="ceiling"),
    )

    def default_params(self):
        return NoisyParams(jnp.int32(1), jnp.asarray(2.0, self.dtype))

    def action_mask(self, state, params):
        return self.action_space.mask()

    def step_env(self, key, state, action, params):
        drawn = jnp.exp(jax.random.normal(key, (2,), self.dtype))
        keeps = (drawn[1] > 1).astype(self.dtype)
        info = {"kept": keeps * drawn[0], "keeps": keeps, "above": drawn > 2}
        return state, drawn[0], jnp.asarray(True), info


def estimates(env, terms):
    return [dataclasses.astuple(row) for row in summarize(env.metrics, terms)]


def test_up_to_the_number_of_units_the_estimates_are_those_of_evaluate():
    env, policy = Noisy(), Always(jnp.int32(0))
    params = env.default_params()
    terms = evaluate(env, params, policy, KEY, 300, chunk=128)
    streamed = streaming.measure(env, params, policy, KEY, 300, chunk=128)
    assert estimates(env, streamed) == estimates(env, terms)


def test_of_more_episodes_means_are_exact_and_quantiles_within_their_error(monkeypatch):
    for module in (estimators, streaming):
        monkeypatch.setattr(module, "MOST_UNITS", 64)
    env, policy, episodes = Noisy(), Always(jnp.int32(0)), 4096
    params = env.default_params()
    terms = evaluate(env, params, policy, KEY, episodes, chunk=1000)
    streamed = streaming.measure(env, params, policy, KEY, episodes, chunk=1000)
    assert streamed.numerator["reward"].shape == (1, 64)
    ours, theirs = estimates(env, streamed), estimates(env, terms)
    for row, other in zip(ours[:2], theirs[:2], strict=True):  # mean and interval
        assert row[2:5] == pytest.approx(other[2:5], rel=1e-12)
        assert row[6:] == (episodes, 1)
    rows = tables.quantile_rows("", "", env.metrics, streamed)
    assert len(rows) == 3 * len(LEVELS)
    for metric in env.metrics:
        counted = np.asarray(terms.denominator[metric.name]) > 0
        values = np.asarray(terms.numerator[metric.name], np.float64)[counted]
        if metric.pool == "ratio":
            values /= terms.denominator[metric.name][counted]
        own = [row for row in rows if row["metric"] == metric.name]
        for row, exact in zip(own, np.quantile(values, LEVELS), strict=True):
            assert abs(row["value"] - exact) <= row["error"] + 1e-12
            assert row["error"] <= np.ptp(values) / 8191
            assert row["episodes"] == counted.sum()
    (p95,) = (row for row in rows if row["metric"] == "p95" and row["level"] == 0.95)
    assert ours[2][2] == p95["value"]
    assert p95["ci_low"] < p95["value"] < p95["ci_high"]
    assert ours[2][3:5] == pytest.approx(theirs[2][3:5], rel=1e-3)


def test_the_bounds_row_counts_episodes_and_not_groups(monkeypatch):
    for module in (estimators, streaming):
        monkeypatch.setattr(module, "MOST_UNITS", 4)
    metric = Noisy.metrics[0]
    limit = np.arange(4.0)
    terms = estimators.EpisodeTerms({}, {}, bound=(limit, np.full(4, 3.0)), num_episodes=12)
    (row,) = tables.bound_rows("", (metric,), terms, metric.name)
    assert (row["mean"], row["episodes"], row["seeds"]) == (0.5, 12, 1)
    assert row["ci_low"] <= row["mean"] <= row["ci_high"]


def test_violations_are_counted_one_by_one_or_by_episode():
    env = Noisy()
    params = env.default_params()
    streamed = streaming.measure(env, params, Always(jnp.int32(0)), KEY, 200, chunk=64)
    terms = evaluate(env, params, Always(jnp.int32(0)), KEY, 200, chunk=64)
    found, trials = streamed.violations["above_2"]
    assert (trials == 2).all()  # two numbers of every step
    assert set(np.unique(found)) == {0, 1, 2}
    found, trials = (x[0] for x in streamed.violations["limit"])
    kept, keeps = terms.numerator["kept"], terms.denominator["kept"]
    assert (trials == (keeps > 0)).all()
    assert (found == ((kept > 2) & (keeps > 0))).all()
    rows = tables.violation_rows("", "", env.constraints, streamed, params)
    assert [row["limit"] for row in rows] == [None, 2.0]
    assert rows[1]["rate"] == pytest.approx(100 * found.sum() / trials.sum())
    assert rows[1]["trials"] == trials.sum() < 200


@pytest.mark.quick
def test_wilson_is_that_of_independent_trials_and_wider_where_groups_are_alike():
    """8 of 40: Wilson's interval by hand."""
    found = np.array([0, 0, 0, 0, 1] * 8)
    expected = (0.2 + 1.96**2 / 80) / (1 + 1.96**2 / 40)
    half = 1.96 / (1 + 1.96**2 / 40) * (0.2 * 0.8 / 40 + 1.96**2 / 6400) ** 0.5
    rate, low, high = wilson(found, np.ones(40))
    assert rate == 0.2
    assert (low, high) == pytest.approx((expected - half, expected + half), rel=0.02)
    alike = wilson(10 * found, np.full(40, 10))  # ten slots of an episode, all or none
    assert alike == pytest.approx((rate, low, high), rel=1e-6)
    none, every = wilson(np.zeros(5), np.full(5, 20)), wilson(np.full(5, 20), np.full(5, 20))
    assert none == (0, 0, pytest.approx(1.96**2 / 103.8416))
    assert every == (1, pytest.approx(1 - 1.96**2 / 103.8416), 1)
    assert np.isnan(wilson(np.zeros(3), np.zeros(3))).all()


def test_actions_are_counted_over_seeds_and_free_ones_apart():
    env = Placement()
    params = env.default_params()
    policies = Always(jnp.asarray([[2, 1], [0, 0]], jnp.int32))
    params = params.replace(valid=jnp.asarray([[True, False, True], [True, False, False]]))
    streamed = streaming.measure(env, params, policies, KEY, 130, chunk=64, seeds=True)
    (counts,) = streamed.actions
    taken = np.zeros((2, 2, 2, 3), np.int64)  # seed; all, free; head; value
    taken[0, :, 0, 2] = taken[0, 0, 1, 1] = 130
    taken[1, :, 0, 0] = taken[1, 0, 1, 0] = 130
    assert (counts == taken).all()
    (part,) = choices_of(env.action_space)
    assert collapsed_agents([part], streamed.actions).tolist() == [[True], [True]]
    rows = tables.action_rows("s", "p", [part], streamed)
    assert len(rows) == 4
    assert list(rows[0].values()) == ["s", "p", 0, 0, 0, 2, 130, 1.0, 130, 1.0]
    assert list(rows[1].values())[-2:] == [0, None]
    random = streaming.measure(env, env.default_params(), RandomPolicy(), KEY, 300)
    assert not collapsed_agents([part], random.actions).any()
    assert random.actions[0].sum(-1).tolist() == [[[300, 300]] * 2]


@pytest.mark.quick
def test_only_decisions_are_counted():
    """Steps of one turn: the convoy asks in five of them, and one action is valid each time."""
    env = Convoy()
    params = env.default_params().replace(turns_per_step=jnp.int32(1))
    streamed = streaming.measure(env, params, RandomPolicy(), KEY, 3)
    assert streamed.actions[0][0].tolist() == [[[6, 3, 3, 3]], [[0, 0, 0, 0]]]


@pytest.mark.quick
def test_counts_go_on_beyond_32_bits():
    part = Choices(heads=1, values=2, agents=1)
    counts = part.none().at[0, :, 0, 1].set(2**32 - 2)
    lanes = (jnp.ones((5, 1), jnp.int32), jnp.ones((5, 1), bool), jnp.ones(5, bool))
    counts = part.add(counts, lanes)
    assert on_host(counts[None]).tolist() == [[[[0, 2**32 + 3]], [[0, 2**32 + 3]]]]
    two_devices = on_host(jnp.stack([counts, counts]))
    assert two_devices[0, 0, 0, 1] == 2 * (2**32 + 3)


@pytest.mark.quick
def test_parts_of_a_tuple_are_counted_and_a_box_is_not():
    space = spaces.Tuple((spaces.Box(0, 1, (2,)), spaces.Discrete(3)))
    (part,) = choices_of(space)
    assert part == Choices(1, 3, 1, path=(1,))
    mask = (None, jnp.asarray([True, True, False]))
    value, free, _ = part.taken((jnp.zeros(2), jnp.int32(1)), mask, jnp.asarray(True))
    assert (value.tolist(), free.tolist()) == ([1], [True])


@pytest.mark.quick
def test_an_agent_has_collapsed_if_all_its_heads_have():
    part = Choices(heads=2, values=2, agents=2)
    free = np.array([[200, 0], [199, 1], [200, 0], [150, 50]])  # agent 0, agent 1
    counts = np.stack([free, free])[None]
    assert collapsed_agents([part], (counts,)).tolist() == [[True, False]]
    assert not collapsed_agents([part], (counts // 10,)).any()  # too few to say
    assert not collapsed_agents([part], (0 * counts,)).any()


@pytest.mark.quick
def test_memory_does_not_grow_with_the_episodes():
    """Of what is kept on the host; arrays of single episodes would take 5 MB more."""
    env, policy = Noisy(), Always(jnp.int32(0))
    params = env.default_params()

    def peak(episodes: int) -> float:
        tracemalloc.start()
        streaming.measure(env, params, policy, KEY, episodes, chunk=5000)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(5000)
    few, many = peak(10_000), peak(200_000)
    assert many < few + 1e6


SYSTEMS = {
    "partitioning": dict(num_blocks=2, num_servers=2, max_steps=8, task_rate=60.0),
    "services": dict(num_agents=3, num_servers=3, max_steps=4),
    "splitting": dict(max_steps=40),
    "robust": dict(max_devices=2, num_devices=2, max_steps=3),
    "vehicular": dict(num_rsus=2, num_vehicles=3, max_steps=30),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_constraints_of_the_systems_agree_with_their_metrics(name):
    env, params = jaxenv.make(name, **SYSTEMS[name])
    baselines = {"splitting": "FullLocal", "vehicular": "Edge", "robust": "AllLocal"}
    policy = registry.baseline(baselines[name], env) if name in baselines else RandomPolicy()
    terms = streaming.measure(env, params, policy, KEY, 12)
    rate = {
        row["constraint"]: row["rate"]
        for row in tables.violation_rows("", "", env.constraints, terms, params)
    }
    mean = {row.metric: row.mean for row in summarize(env.metrics, terms)}
    if name == "partitioning":
        assert (rate["late_blocks"] > 0) == (mean["penalty_s_per_slot"] > 0)
    elif name == "services":
        for constraint, metric in zip(
            ("rejected", "late", "memory"),
            ("failure_rate", "late_rate", "memory_rate"),
            strict=True,
        ):
            assert rate[constraint] == pytest.approx(mean[metric], rel=1e-5)
    elif name == "splitting":
        assert rate["outage"] == pytest.approx(mean["outage"], rel=1e-5)
        slots = terms.denominator["mean_delay_s"]
        late = terms.numerator["mean_delay_s"] > float(params.delay_avg_s) * slots
        assert rate["delay_limit"] == pytest.approx(100 * late.mean())
    elif name == "robust":
        assert rate["infeasible"] == pytest.approx(100 - mean["feasible_rate"], rel=1e-5)
    else:
        assert rate["failed_tasks"] == pytest.approx(100 - mean["success_rate"], rel=1e-4)
        causes = [rate[cause] for cause in rate if cause != "failed_tasks"]
        assert sum(causes) == pytest.approx(rate["failed_tasks"], rel=1e-6)
        assert rate["failed_tasks"] > 0
