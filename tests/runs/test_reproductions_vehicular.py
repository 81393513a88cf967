"""Figures of the vehicular system: points, randomised training, measurement, verdicts."""

from __future__ import annotations

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import registry as agents_registry
from agents.learner import EpisodeTerms, rollout
from jaxenv.errors import ConfigError
from jaxenv.vehicular import Vehicular
from runs import reproductions, train
from runs.reproduce import write_reproduction
from runs.reproductions import FAILS, HOLDS, NOT_COMPARABLE, groups, sweeps
from runs.reproductions import vehicular as system
from runs.reproductions.judging import Table
from runs.reproductions.vehicular import measuring, plots, scenarios, training
from runs.reproductions.vehicular.claims.sweeps import LATENCY_GAINS
from runs.reproductions.vehicular.scenarios import (
    BANDWIDTHS_MHZ,
    CORES,
    COST,
    DEFAULT,
    FIGURES,
    LATENCY,
    LATENCY_GAIN,
    MIXES,
    NETWORKS,
    NOT_LOOKING_AHEAD,
    SUCCESS,
    SUCCESS_GAIN,
    VEHICLES,
    at_bandwidth,
    at_cores,
    at_mix,
    at_vehicles,
    points,
    sizes,
    sweep_of,
)
from runs.reproductions.vehicular.training import Curves
from runs.tables import BOUND

LEARNED = "learned"
POLICIES = (LEARNED, *NOT_LOOKING_AHEAD)

# ---- points ------------------------------------------------------------------------------------

SEPARATE = {
    "cores": [
        {"num_cores": cores, "mix": np.eye(3)[i].tolist()} for i in range(3) for cores in CORES
    ],
    "bandwidth": [
        {"bandwidth_hz": mhz * 1e6, "mix": np.eye(3)[i].tolist()}
        for i in range(3)
        for mhz in BANDWIDTHS_MHZ
    ],
    "mix": [{"mix": [float(n) for n in ratio]} for ratio in MIXES],
    "scale": [
        {"num_rsus": 10, "num_vehicles": 50, "vehicle_enabled": [i < v for i in range(50)]}
        for v in VEHICLES
    ],
}


@pytest.mark.parametrize("group", SEPARATE)
def test_points_are_the_scenarios_built_one_by_one(group):
    _, params = Vehicular.build(**sizes(group))
    places = points(group)
    varying = sweeps.stacked(params, places)
    assert len(places) == len(SEPARATE[group])
    for index, options in enumerate(SEPARATE[group]):
        _, alone = Vehicular.build(**options)
        leaves = {name: leaf[index] for name, leaf in varying.items()}
        jax.tree.map(np.testing.assert_array_equal, params.replace(**leaves), alone)


def test_points_evaluated_together_are_those_evaluated_alone():
    env, params = Vehicular.build(max_steps=12, num_vehicles=4, arrival_probability=0.5)
    places = [place for place in points("cores") if place.network == "VGG-16"][::3]
    policy = agents_registry.baseline("Edge", env)
    bound = agents_registry.bound(env)
    key = jax.random.key(3)
    varying = sweeps.stacked(params, places)
    together = sweeps.rollout_points(env, params, varying, policy, key, 3, bound)
    assert together.numerator[COST].shape == (2, 3)
    for index, cores in enumerate((4, 16)):
        _, alone = Vehicular.build(
            max_steps=12, num_vehicles=4, arrival_probability=0.5, num_cores=cores
        )
        expected = rollout(env, alone, policy, key, 3, bound)
        own = jax.tree.map(lambda leaf, index=index: leaf[index], together)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), own, expected)
    assert (together.numerator[COST][0] > together.numerator[COST][1]).all()


def test_disabled_vehicles_leave_the_tasks_of_a_smaller_fleet():
    given = {"scenario": "given", "max_steps": 30, "arrival_probability": 0.5}
    start = {"initial_position_m": [100.0, 400.0], "initial_speed_mps": [12.0, 18.0]}
    more = {name: [*values, 5.0, 15.0] for name, values in start.items()}
    small, small_params = Vehicular.build(num_vehicles=2, **given, **start)
    large, large_params = Vehicular.build(
        num_vehicles=4, vehicle_enabled=[True, True, False, False], **given, **more
    )
    key = jax.random.key(0)
    of_small = rollout(small, small_params, agents_registry.baseline("Edge", small), key, 4)
    of_large = rollout(large, large_params, agents_registry.baseline("Edge", large), key, 4)
    for metric in (COST, SUCCESS):
        np.testing.assert_allclose(
            of_small.numerator[metric], of_large.numerator[metric], rtol=1e-5
        )
        np.testing.assert_array_equal(of_small.denominator[metric], of_large.denominator[metric])


@pytest.mark.deep
def test_seeds_and_points_are_leading_axes():
    env, params = Vehicular.build(max_steps=4, num_vehicles=2, arrival_probability=0.9)
    learner = agents_registry.learner_class("sac_discrete")(env, hidden=(4,), num_envs=2)
    places = [place for place in points("cores") if place.network == "VGG-16"][:2]
    varying = sweeps.stacked(params, places)
    keys = jax.random.split(jax.random.key(0), 2)

    def policy_of(key):
        return learner.policy(learner.init(key, params, learner.default_hp()))

    seeds = jax.vmap(policy_of)(keys)
    run = lambda policy, per_point: sweeps.rollout_points(  # noqa: E731
        env, params, varying, policy, jax.random.key(1), 3, seeds=True, per_point=per_point
    )
    shared = run(seeds, False)
    assert shared.numerator[COST].shape == (2, 2, 3)
    own = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf[::-1]]), seeds)
    swapped = run(own, True).numerator[COST]
    np.testing.assert_array_equal(swapped[0], shared.numerator[COST][0])
    np.testing.assert_array_equal(swapped[1], shared.numerator[COST][1, ::-1])


# ---- randomised training -----------------------------------------------------------------------


def randomized(group: str, num_envs: int):
    _, params = Vehicular.build(**sizes(group))
    return params, scenarios.randomized(group, params, num_envs)


@pytest.mark.parametrize(
    ("group", "leaf", "low", "high"),
    [("cores", "rsu_flops", 20e9, 80e9), ("bandwidth", "bandwidth_hz", 5e6, 20e6)],
)
def test_every_network_trains_over_the_whole_range(group, leaf, low, high):
    params, lanes = randomized(group, 24)
    values = np.asarray(getattr(lanes, leaf))
    assert values.shape == (24, 5)
    np.testing.assert_array_equal(values, np.repeat(values[:, :1], 5, axis=1))
    mix = np.asarray(lanes.mix)
    assert mix.shape == (24, 3)
    for network in range(3):
        own = values[mix[:, network] == 1, 0]
        np.testing.assert_allclose(own, np.linspace(low, high, 8), rtol=1e-6)
    unchanged = {leaf: getattr(params, leaf), "mix": params.mix}
    jax.tree.map(np.testing.assert_array_equal, lanes.replace(**unchanged), params)


def test_the_number_of_vehicles_trains_from_20_to_50():
    _, lanes = randomized("scale", 31)
    enabled = np.asarray(lanes.vehicle_enabled)
    assert enabled.shape == (31, 50) and enabled.dtype == bool
    np.testing.assert_array_equal(enabled.sum(axis=1), np.arange(20, 51))
    assert (np.diff(enabled.astype(int), axis=1) <= 0).all()


def test_every_mix_has_its_environments():
    _, lanes = randomized("mix", 10)
    np.testing.assert_array_equal(lanes.mix, np.array(MIXES * 2, np.float32))


def test_one_training_scenario_has_no_axis():
    params, lanes = randomized("training", 8)
    jax.tree.map(np.testing.assert_array_equal, params, lanes)


@pytest.mark.parametrize(
    ("mix", "expected"),
    [((0, 1, 0), 56.40), ((0, 0, 1), 15.07), ((1, 0, 0), 2.63), ((1, 1, 1), 24.70)],
)
def test_rewards_are_divided_by_the_mean_local_latency(mix, expected):
    env, params = Vehicular.build(mix=[float(n) for n in mix])
    assert float(env.reward_unit(params)) == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize(
    ("scale", "group", "expected"),
    [("paper", "cores", 9375), ("paper", "scale", 46875), ("smoke", "cores", 1600)],
)
def test_schedule(scale, group, expected):
    config = {"scale": scale, "num_updates": None, "num_seeds": None, "eval_episodes": None}
    plan = training.schedule(config, group)
    assert plan.num_updates == expected
    assert plan.num_seeds == (5 if scale == "paper" else 1)
    given = training.schedule(config | {"num_updates": 7, "eval_episodes": 3}, group)
    assert (given.num_updates, given.eval_episodes) == (7, 3)


# ---- gains and curves --------------------------------------------------------------------------


def terms(successes, latency_s) -> EpisodeTerms:
    """Terms ``[points, episodes]`` of episodes of 10 tasks."""
    successes = np.asarray(successes, float)
    ten = np.full(successes.shape, 10.0)
    latency = np.asarray(latency_s, float)
    return EpisodeTerms(
        {COST: ten, SUCCESS: 100 * successes, LATENCY: latency * successes},
        {COST: ten, SUCCESS: ten, LATENCY: successes},
    )


def test_gains_by_hand():
    places = [place for place in points("cores") if place.network == "VGG-16"][:2]
    rows = measuring.gain_rows(
        places,
        {
            LEARNED: terms([[9, 9], [10, 8]], [[20, 20], [10, 10]]),
            "Local": terms([[10, 10], [10, 10]], [[50, 50], [50, 50]]),
            "Edge": terms([[5, 5], [9, 7]], [[20, 20], [20, 20]]),
        },
    )
    table = Table(rows, LEARNED)
    first, second = (place.scenario for place in places)
    got = table.row(first, SUCCESS_GAIN)
    assert (got["mean"], got["ci_low"], got["ci_high"]) == pytest.approx((40, 40, 40))
    got = table.row(second, SUCCESS_GAIN)  # 10 points in each episode: no interval when paired
    assert (got["mean"], got["ci_low"], got["ci_high"]) == pytest.approx((10, 10, 10))
    assert table.mean(first, LATENCY_GAIN) == pytest.approx(60)
    assert table.mean(sweep_of("VGG-16"), LATENCY_GAIN) == pytest.approx(20)
    assert table.mean(first, SUCCESS_GAIN, "Edge") == 0


def test_gains_of_fewer_episodes_compare_the_same_episodes():
    places = points("cores")[:1]
    all_episodes = terms([[2, 10, 10, 10]], [[9, 9, 9, 9]])
    rows = measuring.gain_rows(
        places,
        {"Edge": all_episodes, "Local": all_episodes, "INSGA": terms([[4]], [[9]])},
    )
    row = Table(rows, "INSGA").row(places[0].scenario, SUCCESS_GAIN)
    assert row["mean"] == pytest.approx(20)
    assert row["episodes"] == 1


def test_curves_by_hand():
    rows = []
    for update, (cost, tasks, episodes) in zip(
        (2, 4, 6), ((0, 0, 0), (30, 2, 1), (20, 4, 2)), strict=True
    ):
        for seed in (0, 1):
            row = {"update": update, "seed": seed, "episodes": episodes / (seed + 1)}
            for metric in (COST, SUCCESS, LATENCY):
                mean = cost / tasks if tasks else np.nan
                row |= {metric: mean, f"denominator/{metric}": tasks}
            rows.append({name: str(value) for name, value in row.items()})
    curves = training.curves(rows)
    np.testing.assert_array_equal(curves.episodes, [[0, 2, 6], [0, 1, 3]])
    np.testing.assert_array_equal(curves.reward, [[np.nan, -15, -5]] * 2)
    np.testing.assert_array_equal(curves.latency_s, [[np.nan, 15, 5]] * 2)


def hand_curves(reward_last: float) -> Curves:
    episodes = np.arange(1, 21)[None] * np.array([[5.0], [10.0]])
    reward = np.vstack([np.linspace(-60, reward_last, 20)] * 2)
    return Curves(episodes, reward, reward + 100, -reward)


def test_first_and_last_tenth_by_hand():
    curves = hand_curves(-41)  # one second per bin; a tenth is two bins
    early, late = training.first_and_last_tenth(curves, curves.reward)
    np.testing.assert_allclose(early, [-59.5, -59.5])
    np.testing.assert_allclose(late, [-41.5, -41.5])


# ---- verdicts ----------------------------------------------------------------------------------


def good() -> dict[tuple[str, str, str], float]:
    """Means for which every claim that can hold does, by scenario, policy and metric."""
    values = {}

    def put(scenario, metric, learned, others):
        values[scenario, LEARNED, metric] = learned
        for policy, value in zip(NOT_LOOKING_AHEAD, others, strict=True):
            values[scenario, policy, metric] = value

    put(DEFAULT, COST, 14, (56, 42, 36, 48, 20))
    put(DEFAULT, SUCCESS, 99, (100, 61, 72, 58, 95))
    for i, cores in enumerate(CORES):
        place = at_cores("VGG-16", cores)
        put(place, SUCCESS, 90 + i, (100, 10 + i, 20 + i, 10 + i, 80 + i))
        put(place, COST, (58, 30, 14, 9)[i], (56.4, 60, 60, 60, 60))
        put(place, LATENCY, (20, 17, 12, 9)[i], (56.4, 30, 29, 28, 27))
        for network, gain in zip(NETWORKS, (0.0, 20.0 + i, 5.0 - i), strict=True):
            put(at_cores(network, cores), SUCCESS_GAIN, gain, (0, 0, 0, 0, 0))
            expected = (55, *LATENCY_GAINS[network])[i]
            put(at_cores(network, cores), LATENCY_GAIN, expected, (0, 0, 0, 0, 0))
    for network in ("AlexNet", "ResNet-50"):
        put(at_cores(network, 12), SUCCESS, 100, (100, 99.9, 99.9, 99.9, 99.9))
        put(at_cores(network, 12), LATENCY, 3, (15, 5, 5, 5, 5))
    for i, mhz in enumerate(BANDWIDTHS_MHZ):
        put(at_bandwidth("VGG-16", mhz), SUCCESS, 96 + i, (100, 60, 70, 58, 90))
        put(at_bandwidth("VGG-16", mhz), LATENCY, 13 - i / 10, (56, 14, 13, 15, 13))
        for network in NETWORKS:
            put(at_bandwidth(network, mhz), SUCCESS_GAIN, 1.0, (0, 0, 0, 0, 0))
            put(at_bandwidth(network, mhz), LATENCY_GAIN, 60.0 + i, (0, 0, 0, 0, 0))
        put(at_bandwidth("AlexNet", mhz), SUCCESS, 100, (100, 90 + 3 * i, 100, 100, 100))
    for mhz, gains in ((5, (1.0, 4.0, 2.0)), (20, (9.0, 5.0, 6.0))):
        for network, gain in zip(NETWORKS, gains, strict=True):
            values[at_bandwidth(network, mhz), LEARNED, SUCCESS_GAIN] = gain
    for network, change in zip(NETWORKS, (13.0, 0.5, 2.0), strict=True):
        put(sweep_of(network), LATENCY_GAIN, change, (0, 0, 0, 0, 0))
    for ratio in MIXES[3:]:
        put(at_mix(ratio), SUCCESS, 99, (100, 92, 95, 91, 97))
        put(at_mix(ratio), SUCCESS_GAIN, 7, (8, 0, 3, -1, 5))
        put(at_mix(ratio), COST, 5, (24, 10, 9, 12, 6))
        put(at_mix(ratio), LATENCY, 2, (24, 5.5, 6.3, 6.2, 6))
    for i, vehicles in enumerate(VEHICLES):
        place = at_vehicles(vehicles)
        put(place, COST, (15, 24, 40, 59)[i], (56.4, 44, 60, 70, 57))
        put(place, SUCCESS, 95 - i, (100, 60, 70, 50, 90))
        put(place, LATENCY, 14, (56.4, 14, (13, 15.3, 17, 18)[i], (14, 14.3, 15, 15)[i], 15))
    return values


def table(values) -> Table:
    rows = [
        {
            "scenario": scenario,
            "policy": policy,
            "metric": metric,
            "mean": mean,
            "ci_low": mean - 0.01,
            "ci_high": mean + 0.01,
        }
        for (scenario, policy, metric), mean in values.items()
    ]
    return Table(rows, LEARNED)


def verdicts(values, curves=None):
    """All verdicts in order, by figure."""
    found: dict[str, list] = {}
    for group in FIGURES:
        for figure, judged in system.judge(
            group, table(values), curves or hand_curves(-10)
        ).items():
            found[figure] = judged
    return found


NEVER_COMPARABLE = {("fig07", 1)}


def test_every_claim_can_hold():
    found = verdicts(good())
    assert sorted(found) == [f"fig{number:02d}" for number in range(3, 17)]
    for figure, judged in found.items():
        for index, verdict in enumerate(judged):
            expected = NOT_COMPARABLE if (figure, index) in NEVER_COMPARABLE else HOLDS
            assert verdict.verdict == expected, (figure, index, verdict)


VGG4, VGG8, VGG12 = (at_cores("VGG-16", cores) for cores in (4, 8, 12))
BREAKS = {
    ("fig04", 2): {(DEFAULT, "Aware", COST): 13.9},
    ("fig04", 3): {(DEFAULT, LEARNED, SUCCESS): 97.9},
    ("fig05", 0): {(VGG8, "DSL", SUCCESS): 19.0},
    ("fig05", 1): {(VGG8, "INSGA", SUCCESS): 91.5},
    ("fig06", 0): {(VGG8, LEARNED, LATENCY): 20.5},
    ("fig06", 1): {(VGG8, "Aware", COST): 29.0},
    ("fig06", 2): {(VGG4, LEARNED, COST): 59.3},
    ("fig06", 4): {(at_cores("ResNet-50", 12), "DSL", LATENCY): 2.9},
    ("fig07", 0): {(at_cores("ResNet-50", 16), LEARNED, SUCCESS_GAIN): -1.5},
    ("fig08", 0): {(at_cores("AlexNet", 16), LEARNED, LATENCY_GAIN): 81.5},
    ("fig08", 1): {(at_cores("AlexNet", 4), LEARNED, LATENCY_GAIN): 49.0},
    ("fig09", 0): {(at_bandwidth("VGG-16", 20), LEARNED, SUCCESS): 95.0},
    ("fig10", 0): {(at_bandwidth("VGG-16", 20), LEARNED, LATENCY): 13.1},
    ("fig11", 0): {(at_bandwidth("AlexNet", 20), LEARNED, SUCCESS_GAIN): 1.5},
    ("fig12", 0): {(sweep_of("VGG-16"), LEARNED, LATENCY_GAIN): 2.5},
    ("fig13", 0): {(at_mix((1, 2, 1)), "Aware", SUCCESS): 99.0},
    ("fig14", 0): {(at_mix((1, 1, 1)), "DSL", COST): 4.9},
    ("fig14", 1): {(at_mix((1, 1, 1)), "Edge", LATENCY): 2.1},
    ("fig15", 0): {(at_vehicles(30), "Aware", COST): 23.0},
    ("fig15", 1): {(at_vehicles(50), LEARNED, COST): 59.3},
    ("fig16", 0): {(at_vehicles(30), "DSL", LATENCY): 14.2},
}


@pytest.mark.parametrize("place", BREAKS, ids=lambda place: f"{place[0]}-{place[1]}")
def test_every_claim_can_fail(place):
    values = copy.copy(good()) | BREAKS[place]
    assert set(values) == set(good())
    figure, index = place
    changed = verdicts(values)[figure][index]
    assert changed.verdict == FAILS
    assert "\n" not in changed.why


def test_learning_can_fail():
    found = verdicts(good(), hand_curves(-70))
    assert found["fig03"][0].verdict == FAILS
    assert [v.verdict for v in found["fig04"]] == [FAILS, FAILS, HOLDS, HOLDS]
    assert found["fig03"][0].measured == pytest.approx(-9.5, abs=0.1)


def test_literal_latency_is_not_comparable_where_others_lose_their_tasks():
    values = good() | {(VGG4, "INSGA", LATENCY): 18.0}
    assert verdicts(values)["fig06"][3].verdict == NOT_COMPARABLE
    values |= {(VGG4, name, SUCCESS): 60.0 for name in ("Edge", "DSL", "INSGA")}
    assert verdicts(values)["fig06"][3].verdict == FAILS


def test_no_success_gain_where_edge_completes_everything():
    values = good() | {(at_bandwidth("AlexNet", mhz), "Edge", SUCCESS): 99.5 for mhz in (5, 20)}
    assert verdicts(values)["fig11"][0].verdict == NOT_COMPARABLE


def test_equal_within_one_percent_counts_as_beaten():
    place = at_cores("AlexNet", 12)
    values = good() | {(place, "DSL", LATENCY): 2.98}
    assert verdicts(values)["fig06"][4].verdict == HOLDS


# ---- figures and names -------------------------------------------------------------------------


def test_figures_show_their_networks_and_metrics():
    rows = [
        {"scenario": s, "policy": p, "metric": m, "mean": v, "ci_low": v - 1, "ci_high": v + 1}
        for (s, p, m), v in good().items()
    ]
    rows += [
        row | {"policy": BOUND, "mean": 5.0}
        for row in rows
        if row["policy"] == LEARNED and row["metric"] == COST
    ]
    panels = {"fig05": 1, "fig06": 2, "fig07": 3, "fig08": 3, "fig14": 2, "fig15": 1, "fig16": 2}
    for figure, number in panels.items():
        group = next(g for g, figures in FIGURES.items() if figure in figures)
        places = [(p.scenario, p.network, p.x) for p in points(group)]
        shown = plots.figure_rows(figure, rows, places)
        drawing = plots.draw(figure, shown, LEARNED)
        assert len(drawing.axes) == number
        for ax in drawing.axes:
            assert ax.get_xlabel() and ax.get_ylabel()
        (legend,) = drawing.legends
        labels = {text.get_text() for text in legend.get_texts()}
        hidden = {"fig07": {"Edge", "Local"}, "fig08": {"Local"}}.get(figure, set())
        bound = {"bound"} if figure in ("fig06", "fig14", "fig16") else set()
        assert labels == set(POLICIES) - hidden | bound


def test_groups_and_figures_by_name():
    chosen = reproductions.selected("vehicular/cores")
    assert list(chosen) == [f"vehicular/fig{number:02d}" for number in range(5, 9)]
    assert [f.args[0] for f in chosen.values()] == list(FIGURES["cores"])
    assert len(reproductions.selected("vehicular/all")) == 14
    for group, figures in FIGURES.items():
        names = [f"vehicular/{figure}" for figure in figures]
        assert list(reproductions.selected(f"vehicular/{group}")) == names
    with pytest.raises(ConfigError, match="figure: 'vehicular/fig17' is not valid"):
        reproductions.selected("vehicular/fig17")


def test_figures_of_a_group_share_one_measurement(monkeypatch, tmp_path):
    calls = []

    def policies(config, folder, group, plan):
        env, params = Vehicular.build(**sizes(group))
        return env, params, None, False, []

    def fake(env, params, varying, policy, key, num_episodes, bound, seeds, per_point):
        calls.append((type(policy).__name__, num_episodes))
        points = len(next(iter(varying.values()))) if varying else 1
        shape = (points, 3, num_episodes) if seeds else (points, num_episodes)
        rng = np.random.default_rng(0)
        done = np.full(shape, 8.0 + seeds)
        drawn = {COST: 20 - 5 * seeds, SUCCESS: 100, LATENCY: 12, "num_tasks": 1}
        numerator = {name: v * done + rng.random(shape) for name, v in drawn.items()}
        denominator = {name: np.full(shape, 10.0) for name in drawn} | {LATENCY: done}
        return EpisodeTerms(numerator, denominator, (5 * done, np.full(shape, 10.0)))

    monkeypatch.setattr(training, "learned_policies", policies)
    monkeypatch.setattr(sweeps, "rollout_points", fake)
    monkeypatch.setattr(groups, "_last", {})
    config = {
        "scale": "smoke",
        "env": {"name": "vehicular"},
        "agent": {"name": "sac_discrete"},
        "num_seeds": None,
        "num_updates": None,
        "eval_episodes": 8,
        "episodes_per_call": None,
    }
    for group, figures in FIGURES.items():
        calls.clear()
        for figure in figures:
            result = getattr(system, figure)(config | {"figure": f"vehicular/{figure}"})
            write_reproduction(tmp_path, f"vehicular/{figure}", result)
            if group != "training":
                assert (tmp_path / f"figures/vehicular_{figure}.png").stat().st_size > 1000
                assert {row["policy"] for row in result.rows} >= {"sac_discrete", "DSL", "Aware"}
                assert result.verdicts
        assert calls.count(("INSGA", 2)) == 1
        assert calls.count(("Edge", 2)) == calls.count(("NoneType", 2)) == 4
        assert len(calls) == 4 * 5 + 1


def test_a_checkpoint_takes_the_place_of_training(workplace):
    sizes = ["env.model_onehot=true", "env.mix=[1,1,1]", "env.max_steps=4"]
    small = ["agent=sac_discrete", "agent.hidden=[4]", "agent.num_envs=2", "num_updates=1"]
    rest = ["num_seeds=2", "eval_episodes=1", "baselines=[]", "hydra.run.dir=run"]
    train.main(["env=vehicular", *sizes, *small, *rest])
    config = {"checkpoint": "run", "precision": "highest"}
    config |= {"env": {"name": "vehicular"}, "agent": {"name": "sac_discrete"}}
    plan = training.Schedule(num_seeds=2, num_updates=1, eval_episodes=1)
    env, params, policies, per_point, runs = training.learned_policies(
        config, workplace / "out", "mix", plan
    )
    assert (env.model_onehot, per_point, runs) == (True, False, [])
    assert int(params.max_steps) == 4
    assert {leaf.shape[0] for leaf in jax.tree.leaves(policies)} == {2}
    other = config | {"agent": {"name": "ppo"}}
    assert training.learned_name(other) == "sac_discrete"  # the learner of the checkpoint
    assert training.learned_name(other | {"checkpoint": None}) == "ppo"
    with pytest.raises(ConfigError, match="checkpoint: 'run' is not valid; vehicular/scale needs"):
        training.learned_policies(config, workplace / "out", "scale", plan)
