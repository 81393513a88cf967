"""Figures of joint deployment: tables, curves, training runs, measurement, verdicts."""

from __future__ import annotations

import itertools
from functools import partial

import jax
import numpy as np
import pytest

from agents import registry as agents_registry
from jaxenv.errors import ConfigError
from runs import reproductions, tables
from runs.reproduce import write_reproduction
from runs.reproductions import FAILS, HOLDS, NOT_COMPARABLE, groups
from runs.reproductions import services as system
from runs.reproductions.judging import Table
from runs.reproductions.services import measuring, plots, scenarios, training
from runs.reproductions.services.claims import policies, rewards
from runs.reproductions.services.claims import tables as embedded
from runs.reproductions.services.scenarios import (
    ACCURACY,
    AGENTS,
    ALPHAS,
    BASELINES,
    BATCHES,
    COST,
    DELAY,
    DESCENT,
    DEVIATION,
    ENTROPY,
    EXPECTED,
    FAILURE,
    GREEDY,
    HAPPO,
    HASAC,
    HEURISTIC,
    HISPER,
    INDEPENDENT,
    LEARNED,
    ONE_VALUE,
    PRICES,
    RANDOM,
    REWARD,
    SAMPLED,
    SCENARIOS,
    SECONDS,
    SLACK,
    at,
    at_alpha,
    at_batch,
)
from runs.reproductions.services.training import Curve
from runs.settings import CONF, stored_yaml
from runs.tables import BOUND

CONFIG = {
    "scale": "smoke",
    "seed": 0,
    "num_seeds": 1,
    "num_updates": 2,
    "eval_episodes": 2,
    "precision": "float32",
    "env": {"name": "services", "num_servers": 2, "max_steps": 2, "service_names": ["detection"]},
    "agent": {"name": "vehicular"},
}
SMALL = {"embedding": 2, "actor_hidden": [4], "critic_hidden": [4], "num_envs": 2}
SMALL_HISPER = SMALL | {"lstm_width": 3, "rounds": 2, "gradient_updates": 1, "batch_size": 4}
SMALL_HISPER |= {"buffer_size": 20, "prefill": 4}


def test_names():
    names = [f"services/fig{number:02d}" for number in range(4, 11)]
    every = ["services/ablation", *names, "services/temperature"]
    assert list(reproductions.selected("services/all")) == every
    assert list(reproductions.selected("services/tables")) == names[:3]
    own = ["services/ablation", names[3], names[4], names[6]]
    assert list(reproductions.selected("services/training")) == own


# ---- figures 4 to 6 ----------------------------------------------------------------------------


@pytest.mark.parametrize("figure", ["fig04", "fig05", "fig06"])
def test_published_tables_hold(figure):
    result = getattr(system, figure)(CONFIG)
    assert [v.verdict for v in result.verdicts] == [HOLDS] * len(result.verdicts)
    assert len(result.rows) == {"fig04": 64, "fig05": 48, "fig06": 32}[figure]


def test_configurations_count_the_second_setting_fastest():
    row = next(
        row
        for row in system.fig06(CONFIG).rows
        if (row["service"], row["scale"], row["setting_value"]) == ("tracking", 0.5, 30.0)
    )
    assert row["value"] == pytest.approx(0.5**1.7)


def test_tables_can_fail():
    table = np.array([[[0.42, 0.4], [0.3, 0.3]], [[0.2, 0.2], [0.097, 0.1]]])

    def words(table):
        judge = partial(
            embedded.accuracy_table, "fig04", "detection", "JPEG quality", (0.097, 0.42)
        )
        return [v.verdict for v in judge(table)]

    assert words(table) == [HOLDS, HOLDS]
    assert words(np.where(table == 0.42, 0.43, table)) == [FAILS, HOLDS]
    for place, level in (((1, 1, 1), 0.2), ((1, 0, 1), 0.4)):  # along the second axis, the first
        flat = table.copy()
        flat[place] = level
        assert words(flat) == [HOLDS, FAILS]
    sizes = np.array([[1.0, 0.5], [0.4, 0.2]])
    judge = partial(embedded.size_table, "detection", "JPEG quality")
    assert [v.verdict for v in judge(0.2, sizes)] == [HOLDS, HOLDS]
    assert [v.verdict for v in judge(0.21, sizes)] == [HOLDS, FAILS]
    assert judge(0.2, np.array([[1.0, 1.0], [0.4, 0.2]]))[0].verdict == FAILS
    assert judge(0.2, 0.9 * sizes)[0].verdict == FAILS


# ---- curves ------------------------------------------------------------------------------------


def test_curve_by_hand():
    """Updates of 2 x 50 steps; rows are means over 2 updates; two seeds train for 2 s an update."""
    metrics = (REWARD, ACCURACY, COST, DELAY, FAILURE)
    rows = [
        {"update": str(u), "seed": str(seed), "episodes": "2"}
        | {name: str(value + seed) for name in metrics}
        | {f"denominator/{name}": "2" for name in metrics}
        for u, value in ((2, -10.0), (4, -6.0), (6, -5.0))
        for seed in (0, 1)
    ]
    seconds = zip((2, 4, 6), (50.0, 54.0, 58.0), strict=True)
    timing = [{"update": str(u), "seconds": str(s)} for u, s in seconds]
    one = training.curve(rows, timing, slots=50, update_steps=100, runs=2)
    np.testing.assert_array_equal(one.steps, [[200, 400, 600]] * 2)
    np.testing.assert_array_equal(one.values[COST], [[-10, -6, -5], [-9, -5, -4]])
    assert (one.update_steps, one.update_s, one.runs) == (100, 2.0, 2)


def test_steps_to_5_percent_by_hand():
    steps = np.arange(1.0, 21.0)
    reward = np.full(20, -20.0)
    reward[:7] = (*[-30.0] * 5, -21.1, -20.9)
    late = np.where(steps > 15, 20.0, 18.9)
    late[0] = np.nan
    one = Curve(np.stack([steps] * 2), {REWARD: np.stack([reward, late])}, 1, 1.0, 2)
    np.testing.assert_array_equal(training.steps_to_final(one), [7, 16])


# ---- verdicts ----------------------------------------------------------------------------------


def good() -> dict[tuple[str, str, str], float]:
    """Means for which every claim holds that can, by scenario, policy and metric."""
    values = {}
    for place, (preset, agents) in SCENARIOS.items():
        rewards = {name: one.reward for name, one in EXPECTED[place].items()}
        rewards |= {PRICES: rewards[GREEDY] - 5, HISPER: rewards[DESCENT] - 1}
        rewards[HASAC] = rewards[HISPER] - (1 if agents == 8 else 100)
        if agents == 8:
            rewards[HAPPO] = -200.0 if preset == "literal" else 0.0
        else:
            rewards[HAPPO] = rewards[RANDOM] + 100
        rewards |= dict.fromkeys((ONE_VALUE, INDEPENDENT), rewards[HASAC] + 0.5)
        rewards |= {name + SAMPLED: rewards[name] - 10 for name in LEARNED}
        failures = {name: one.failure for name, one in EXPECTED[place].items()}
        failures |= dict.fromkeys(LEARNED, 0.4) | {HISPER: 0.2, PRICES: 0.5, BOUND: 0.0}
        costs = dict.fromkeys(rewards, 20.0)
        costs |= {HEURISTIC: 10, RANDOM: 50, HISPER: 100, HAPPO: 110, HASAC: 200, PRICES: 100}
        delays = dict.fromkeys(rewards, 510.0) | {RANDOM: 1300.0, HAPPO: 1200.0}
        for name, reward in rewards.items():
            measured = {REWARD: reward, ACCURACY: reward, COST: costs[name], DELAY: delays[name]}
            measured |= {FAILURE: failures.get(name, 0.4), DEVIATION: 2.0, SLACK: 0.1}
            measured |= {"accuracy_detection": 0.9, "delay_s_tracking": 1.0}
            for i in range(agents):
                measured[f"accuracy_agent{i}"] = 0.9 if i < agents // 2 else 0.5
                measured[f"delay_s_agent{i}"] = 1.2 if name == HEURISTIC else 0.8
                measured[f"cost_usd_agent{i}"] = 0.01
            values |= {(place, name, metric): value for metric, value in measured.items()}
    for agents, batch in itertools.product(AGENTS, BATCHES):
        times = dict.fromkeys(BASELINES, 1e-3) | {HISPER: 2e-3, HASAC: 1e-3, HAPPO: 1e-3}
        times = {name: seconds * agents / 8 for name, seconds in times.items()}
        times[HEURISTIC] = 1e-2 * agents**2 / 64
        values |= {(at_batch(agents, batch), n, SECONDS): s for n, s in times.items()}
    for agents, alphas in ALPHAS.items():
        place = at("literal", agents)
        for i, alpha in enumerate(alphas):
            measured = {REWARD: -800.0 + 100 * i, DELAY: 1000.0 - 150 * i, FAILURE: 1.0}
            for kind in ("", SAMPLED):
                swept = at_alpha(place, alpha), HISPER + kind
                values |= {(*swept, n): v for n, v in (measured | {ENTROPY: 0.8}).items()}
    return values


def curves(stable=1e5, update_s=60.0):
    """Of 15 runs of 300 updates, stable after some steps."""
    steps = np.linspace(6e3, 6e5, 100)[None]
    reward = np.where(steps >= stable, 60e3, 10e3)
    one = Curve(steps, dict.fromkeys((REWARD, ACCURACY, COST, DELAY), reward), 2000, update_s, 15)
    return {(place, name): one for place in SCENARIOS for name in LEARNED}


def rows_of(values):
    return [
        dict(scenario=s, policy=p, metric=m, unit="1", mean=x, ci_low=x - 1e-4, ci_high=x + 1e-4)
        | {"episodes": 10, "seeds": 1, "gap_to_bound": None}
        for (s, p, m), x in values.items()
    ]


def verdicts(values, drawn=None):
    table = Table(rows_of(values), HISPER)
    drawn = curves() if drawn is None else drawn
    swept = [at("literal", agents) for agents in AGENTS]
    found = rewards.fig07(table, drawn) + policies.fig08(table) + policies.fig09(table)
    found += policies.fig10(table) + policies.ablation(table) + policies.temperature(table, swept)
    by_claim = {one.claim: one.verdict for one in found}
    assert len(by_claim) == len(found)
    return by_claim


def excluded(claim: str) -> bool:
    """What contradicts the expected values, or another claim that holds."""
    literal = "literal" in claim and ("are positive" in claim or "Random's reward is" in claim)
    return literal or "trade accuracy" in claim or "has the highest reward" in claim


def test_every_claim_can_hold():
    found = verdicts(good())
    for claim, verdict in found.items():
        assert verdict == (FAILS if excluded(claim) else HOLDS), claim
    assert len(found) == 4 * 17 + 2 + 4 * 3 + 10 + 4 * 4 + 4 * 3 + 2 * 3


P8, L8 = at("percent", 8), at("literal", 8)
FAILING = {
    "no policy above the bound": {(P8, PRICES, SLACK): -2e-4},
    "the baselines' rewards": {(P8, GREEDY, REWARD): 70e3},
    "bound > CoordDescent": {(P8, PRICES, REWARD): 40e3},
    "HISPER highest, Heuristic between": {(P8, HEURISTIC, REWARD): 69e3},
    "HISPER reaches what fixed": {(P8, HISPER, REWARD): 68e3},
    "HISPER >= HASAC": {(P8, HASAC, REWARD): 68.7e3},
    "the accuracy follows": {(P8, RANDOM, ACCURACY): 60e3},
    "cost of Heuristic < Random < HISPER": {(P8, HASAC, COST): 105.0},
    "cost of Heuristic < Random < PriceTable": {(P8, RANDOM, COST): 120.0},
    "delays of Heuristic, HISPER, HASAC": {(P8, HAPPO, DELAY): 600.0},
    "delays of Heuristic and PriceTable": {(P8, RANDOM, DELAY): 600.0},
    "rewards are positive": {(P8, HEURISTIC, REWARD): -1.0},
    "HAPPO's reward is close to zero": {(P8, HAPPO, REWARD): 30e3},
    "Random's reward is close to zero": {(P8, RANDOM, REWARD): -30e3},
    "failures of HISPER < HASAC": {(P8, HASAC, FAILURE): 20.0},
    "HISPER hardly fails": {(P8, HISPER, FAILURE): 1.1},
    "failures of the baselines": {(P8, PRICES, FAILURE): 1.1},
    "HISPER detects": {(P8, HISPER, "accuracy_agent6"): 0.91},
    "Heuristic and CoordDescent detect": {(P8, DESCENT, "accuracy_agent0"): 0.4},
    "Heuristic has the longest": {(P8, HASAC, "delay_s_agent7"): 1.3},
    "Heuristic has a longer": {(P8, DESCENT, "delay_s_agent4"): 1.3},
    "one value per component": {(P8, ONE_VALUE, REWARD): 68.7e3},
    "sub-actions given": {(P8, INDEPENDENT, REWARD): 68.7e3},
    "both parts": {(P8, HASAC, REWARD): 68.7e3},
}


@pytest.mark.parametrize("claim", FAILING)
def test_every_claim_can_fail(claim):
    found = verdicts(good() | FAILING[claim])
    (verdict,) = (word for name, word in found.items() if claim in name and f"({P8})" in name)
    assert verdict == FAILS


@pytest.mark.parametrize(
    ("claim", "changed"),
    [
        ("fig07 (percent): HASAC falls", {(P8, HASAC, REWARD): 60e3}),
        (
            "fig07e (literal, 10 agents): HAPPO's reward is only",
            {(at("literal", 10), HAPPO, REWARD): -2e4},
        ),
        (
            f"fig09 ({at_batch(8, 1)}): Heuristic is slower",
            {(at_batch(8, 1), HEURISTIC, SECONDS): 1e-3},
        ),
        (
            f"fig09 ({at_batch(10, 1000)}): HISPER is slower",
            {(at_batch(10, 1000), HAPPO, SECONDS): 1.0},
        ),
        ("fig09 (batch 1): Heuristic's", {(at_batch(10, 1), HASAC, SECONDS): 1.0}),
        (
            f"temperature ({L8}): the reward of the sampled",
            {(at_alpha(L8, 0.1), HISPER + SAMPLED, REWARD): -750.0},
        ),
        (
            f"temperature ({L8}): at the paper's",
            {(at_alpha(L8, 2), HISPER + SAMPLED, DELAY): 500.0},
        ),
    ],
)
def test_claims_of_several_scenarios_can_fail(claim, changed):
    (verdict,) = (word for n, word in verdicts(good() | changed).items() if n.startswith(claim))
    assert verdict == FAILS


def test_claims_that_contradict_the_expected_values_can_hold():
    changed = {(L8, name, REWARD): value for name, value in ((HISPER, 8e4), (HEURISTIC, 1e3))}
    changed |= {(L8, BOUND, REWARD): 9e4}
    changed |= {(L8, RANDOM, REWARD): -100.0, (L8, HEURISTIC, FAILURE): 1.0}
    changed |= {(at_alpha(L8, 2.0), HISPER + SAMPLED, REWARD): 0.0}
    found = verdicts(good() | changed)
    held = [claim for claim in found if excluded(claim) and L8 in claim]
    assert len(held) == 4
    assert {found[claim] for claim in held} == {HOLDS}


def test_training_that_is_slow_fails():
    stable, event = (f"text ({P8}): {text}" for text in ("HISPER's reward is", "2,000 steps"))
    found = verdicts(good())
    for slow, wanted in (
        (curves(stable=3e5), (FAILS, HOLDS)),
        (curves(stable=2e4), (FAILS, HOLDS)),
        (curves(update_s=15 * 6.7), (HOLDS, FAILS)),
        (curves(update_s=float("nan")), (HOLDS, NOT_COMPARABLE)),
        ({}, (NOT_COMPARABLE, NOT_COMPARABLE)),
    ):
        found = verdicts(good(), slow)
        assert tuple(word for n, word in found.items() if n.startswith((stable, event))) == wanted


def test_what_was_not_trained_is_not_comparable():
    values = {key: value for key, value in good().items() if key[:2] != (P8, HISPER)}
    found = verdicts(values)
    about = [claim for claim, word in found.items() if word == NOT_COMPARABLE]
    assert len(about) == 13
    assert all(P8 in claim or "(percent): HASAC" in claim for claim in about)


# ---- drawings of made-up tables ----------------------------------------------------------------


def test_drawings(tmp_path):
    rows = rows_of(good())
    swept = [at("literal", agents) for agents in AGENTS]
    data = plots.temperature_rows(rows, swept)
    assert {row["x"] for row in data if row["swept"] == L8} == set(ALPHAS[8])
    agents = plots.agent_rows(rows)
    assert {row["x"] for row in agents if row["scenario"] == L8} == set(range(1, 9))
    parts = plots.part_rows(rows, (HISPER, HASAC))
    assert {row["policy"] for row in parts} == {HISPER, HASAC, HISPER + SAMPLED, HASAC + SAMPLED}
    for name, drawing in {
        "times": plots.draw_times([row for row in rows if row["metric"] == SECONDS]),
        "temperature": plots.draw_temperature(data, rows, swept),
    }.items():
        path = tmp_path / f"{name}.png"
        drawing.savefig(path)
        assert path.stat().st_size > 10_000


# ---- training and measuring --------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    """Two agents, tiny networks, two learners and two baselines; nothing measured before."""
    env_of, preset = scenarios.env_of, training.preset

    def tiny(stem):
        own = preset(stem)
        sizes = SMALL | {"rollout_length": 2}
        sizes = sizes if own["agent"]["name"] == "happo" else SMALL_HISPER
        return own | {"agent": own["agent"] | sizes}

    monkeypatch.setattr(scenarios, "LEARNED", (HISPER, HAPPO))
    monkeypatch.setattr(agents_registry, "usual_baselines", lambda env: (RANDOM, HEURISTIC))
    monkeypatch.setattr(training, "preset", tiny)
    monkeypatch.setattr(scenarios, "env_of", lambda *a, **o: env_of(*a, **o) | {"num_agents": 2})
    monkeypatch.setattr(groups, "_last", {})
    for place in (at("literal", 10), at("percent", 10)):
        monkeypatch.delitem(scenarios.SCENARIOS, place)
    monkeypatch.setattr(rewards, "fig07", lambda *_: [])  # the made-up tables judge


def test_paper_settings():
    config = CONFIG | {"scale": "paper", "agent": {"name": "hisper", "lr_actor": 1e-3}}
    for name, switches in (
        (HISPER, (None, None)),
        (HASAC, (False, False)),
        (ONE_VALUE, (False, None)),
        (INDEPENDENT, (None, False)),
    ):
        agent = training.agent_of(config, at("percent", 10), name)[1]
        found = tuple(agent[switch] for switch in ("hybrid_reward", "autoregressive"))
        assert (found, agent["alpha"], agent["lr_actor"]) == (switches, 2.5, 1e-3)
    assert training.agent_of(config, at("literal", 8), HISPER)[1]["alpha"] == 0.05
    happo = training.agent_of(config, P8, HAPPO)[1]
    assert (happo["name"], happo["discount"], happo["lr_actor"]) == ("happo", 0.99, None)
    given = config | {"agent": {"name": "hisper", "alpha": 7.0}}
    assert training.agent_of(given, P8, HISPER)[1]["alpha"] == 7.0


def test_the_yaml_file_of_a_learner_changes_no_figure():
    """agent=hasac says what HASAC is, and every file that rates are constant: no wish of a user."""
    config = CONFIG | {"scale": "smoke", "agent": {}}
    own = training.agent_of(config, P8, HISPER)
    for stem in ("hisper", "hasac"):
        chosen = config | {"agent": stored_yaml(CONF / "agent" / f"{stem}.yaml")}
        assert training.agent_of(chosen, P8, HISPER) == own
    shorter = {"name": "hisper", "schedule_updates": 9}
    assert training.agent_of(config | {"agent": shorter}, P8, HISPER)[1]["schedule_updates"] == 9


def test_the_learners_can_be_chosen():
    assert training.learners({}) == LEARNED
    assert training.learners({"learners": [HISPER, HAPPO]}) == (HISPER, HAPPO)
    with pytest.raises(ConfigError, match="learners: 'PPO' is not valid; choose from"):
        training.learners({"learners": [HISPER, "PPO"]})
    assert training.learners({"learners": HISPER}) == (HISPER,)
    with pytest.raises(ConfigError, match="learners: 5 is not valid; give a list of names"):
        training.learners({"learners": 5})


def test_temperatures_are_one_program(small, tmp_path):
    plan = training.schedule(CONFIG)
    jobs = [
        training.job_of(
            *(CONFIG, tmp_path / f"{alpha}", L8, HISPER, plan, 1),
            {"alpha": alpha, "schedule_updates": 0},
        )
        for alpha in ALPHAS[8]
    ]
    assert [float(job.hp.alpha) for job in jobs] == pytest.approx(ALPHAS[8])
    assert len({job.program_key() for job in jobs}) == 1
    percent = training.job_of(CONFIG, tmp_path / "percent", P8, HISPER, plan, 1)
    assert [float(job.params.acc_scale) for job in (jobs[0], percent)] == [1, 100]
    assert training.uniform_entropy(jobs[0]) == pytest.approx(np.log(16 * 4 * 2))


@pytest.mark.deep
def test_figures_from_training_to_file(small, tmp_path):
    result = system.fig07(CONFIG)
    write_reproduction(tmp_path, "services/fig07", result)
    assert (tmp_path / "figures" / "services_fig07.png").stat().st_size > 10_000
    found = system.measured(CONFIG, "training")
    table = Table(found.rows, HISPER)
    learned = [name + kind for name in (HISPER, HAPPO) for kind in ("", SAMPLED)]
    for name in (*learned, RANDOM, HEURISTIC):
        assert table.has(P8, name)
        assert table.has(L8, name) == (name not in learned)
        if table.has(L8, name):
            assert table.mean(L8, REWARD, name) <= table.mean(L8, REWARD, BOUND)
        gap = table.mean(P8, REWARD, BOUND) - table.mean(P8, REWARD, name)
        assert table.mean(P8, SLACK, name) <= gap / table.mean(P8, REWARD, BOUND) + 1e-6
    assert set(found.curves) == {(P8, HISPER), (P8, HAPPO)}
    for one in found.curves.values():
        np.testing.assert_array_equal(one.steps[0], [4, 8])
        assert one.update_steps == 4 and one.update_s > 0
        assert np.isfinite(one.values[REWARD]).all()
    curve = [row for row in result.rows if row["steps"] is not None and row["policy"] == HAPPO]
    assert len(curve) == 2 * 5
    parts = system.ablation(CONFIG)
    assert {row["scenario"] for row in parts.rows} == {P8}
    assert len(parts.verdicts) == 2 * 3


def test_measured_as_elsewhere(small):
    """The rows of a baseline, and the deviation and the distance to the bound, by hand."""
    rows = measuring.measure(CONFIG, L8, {}, (RANDOM, HEURISTIC), 2)
    config = CONFIG | {"env": scenarios.env_of(CONFIG, L8)}
    env, params = measuring.build_env(config)
    key = jax.random.fold_in(measuring.evaluation.evaluation_key({"eval_seed": 0}), 0)
    bound = agents_registry.bound(env)
    policy = agents_registry.baseline(HEURISTIC, env)
    terms = measuring.evaluate(env, params, policy, key, 2, bound, chunk=2)
    again = measuring.evaluate(
        *(env, params, policy, measuring.evaluation.evaluation_key({"eval_seed": 0}), 2, bound),
        chunk=2,
    )
    reward, limit = again.numerator[REWARD], again.bound[0]
    assert not np.allclose(terms.numerator[REWARD], reward)
    table = Table(rows, HISPER)
    assert table.mean(L8, REWARD, HEURISTIC) == pytest.approx(reward.mean(), rel=1e-5)
    assert table.mean(L8, DEVIATION, HEURISTIC) == pytest.approx(reward.std(ddof=1), rel=1e-4)
    least = ((limit - reward) / np.abs(limit)).min()
    assert table.mean(L8, SLACK, HEURISTIC) == pytest.approx(least, rel=1e-4)
    assert table.mean(L8, REWARD, BOUND) == pytest.approx(limit.mean(), rel=1e-5)
    assert {"accuracy_agent0", "delay_s_agent1"} <= {row["metric"] for row in rows}


def test_decision_times(small):
    env, params = measuring.build_env(CONFIG | {"env": scenarios.env_of(CONFIG, L8)})
    policy = measuring.untrained(CONFIG, L8, HISPER, env, params)
    kinds = measuring.both({HISPER: policy})
    assert [(name, own.sample) for name, own in kinds.items()] == [
        (HISPER, False),
        (HISPER + SAMPLED, True),
    ]
    found = dict(measuring.decision_times(env, params, policy, (1, 8)))
    assert set(found) == {1, 8}
    assert all(len(seconds) >= 5 and min(seconds) > 0 for seconds in found.values())
    for repeats, total_s, more in (
        (0, 0.0, True),
        (1, 9.0, False),
        (4, 1.9, True),
        (5, 0.3, False),
        (99, 0.1, True),
        (100, 0.1, False),
    ):
        assert measuring._once_more(repeats, total_s) == more


def test_entropy_share_by_hand(small, tmp_path):
    plan = training.schedule(CONFIG)
    job = training.job_of(CONFIG, tmp_path, L8, HISPER, plan, 2)
    rows = [
        {"update": u, "seed": seed, "entropy": (9.0 if u < 10 else 1.0 + seed) * np.log(128)}
        for u in (5, 10)
        for seed in (0, 1)
    ]
    tables.write_csv(tmp_path / "metrics.csv", list(rows[0]), rows)
    share = training.entropy_share(groups.Run(job, None, 2))
    assert share == pytest.approx((1.0, 1.5, 2.0))
