"""The baselines against the slow version, by hand, and under the capacity bound."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxenv
from agents import registry
from agents.baselines import vehicular as baselines
from allocators import proportional
from jaxenv.vehicular import DELIVERY_FAILURE, HELPER, UPLOAD
from tests.oracles.vehicular import Config, Scenario, SlowVehicular

SIZES = {"num_rsus": 4, "num_vehicles": 4}
SLOTS, SEEDS = 14, range(5)
BANDS, SERVERS = [5e6, 20e6, 10e6, 10e6], [60e9, 30e9, 80e9, 45e9]
NAMES = ("Local", "Edge", "DSL", "Aware", "Greedy", "Social")


@pytest.fixture(scope="module")
def road():
    """``(env, params)`` of given episodes with four unlike RSUs, in float64."""
    with jax.enable_x64(True):
        return jaxenv.make(
            "vehicular",
            **SIZES,
            dtype="float64",
            scenario="given",
            arrivals="given",
            table_rows=SLOTS,
            max_steps=SLOTS,
            mix=(1, 1, 1),
            bandwidth_hz=BANDS,
            rsu_flops=SERVERS,
        )


@partial(jax.jit, static_argnums=0)
def reset(env, params):
    return env.reset(jax.random.key(0), params)[1]


@partial(jax.jit, static_argnums=0)
def advance(env, state, action, params):
    _, state, _, _, truncated, info = env.transition(state, action, params)
    return state, truncated, info["finished"]


@partial(jax.jit, static_argnums=0)
def decide(env, state, params):
    """Every policy's action, the candidates, Greedy's costs of three actions, the bound."""
    policies = {name: getattr(baselines, name)(env=env) for name in NAMES}
    greedy = policies["Greedy"]
    actions = {
        name: policy.act((), None, None, None, state, params)[0]
        for name, policy in policies.items()
    }

    def cost(action):
        helper, deliverer, first, second = env.decode(action)
        order = env.road(state, params, state.vehicle)[2]
        after = env.submit(state, params, order[helper], order[deliverer], first, second)
        return greedy.projected(after, state.vehicle, params)

    compared = jnp.stack([actions["Greedy"], actions["Edge"], actions["Local"]])
    costs = jax.vmap(cost)(compared)
    bound = baselines.task_lower_bound_s(env, state, params)
    return actions, greedy.candidates(state, params), costs, bound


def slow_road(seed):
    config = Config.default(
        **SIZES,
        num_slots=SLOTS,
        arrival_probability=0.4,
        dnn_mix=(1, 1, 1),
        bandwidth_hz=BANDS,
        rsu_flops=SERVERS,
    )
    rng = np.random.default_rng(seed)
    scenario = Scenario.random(config, rng)
    scenario.vehicle_flops = rng.uniform(4e9, 6e9, config.num_vehicles)
    return SlowVehicular(config, scenario), rng


def with_scenario(params, scenario):
    return params.replace(
        initial_position_m=jnp.asarray(scenario.position_m),
        initial_speed_mps=jnp.asarray(scenario.speed),
        initial_power_dbm=jnp.asarray(scenario.power_dbm),
        initial_vehicle_flops=jnp.asarray(scenario.vehicle_flops),
        arrival=jnp.asarray(scenario.arrival),
        model=jnp.asarray(scenario.model, jnp.int32),
    )


@pytest.fixture(scope="module")
def met(road):
    """States met under random actions: pairs of the slow version and what was decided there."""
    env, params = road
    pairs = []
    with jax.enable_x64(True):
        for seed in SEEDS:
            slow, rng = slow_road(seed)
            here = with_scenario(params, slow.scenario)
            state = reset(env, here)
            while not slow.done:
                assert slow.decision_pending and slow.vehicle == state.vehicle
                pairs.append((slow._copy(), jax.device_get(decide(env, state, here))))
                action = int(rng.choice(np.flatnonzero(slow.mask())))
                slow.step(action)
                state, _, _ = advance(env, state, jnp.int32(action), here)
    assert len(pairs) > 25
    assert {slow.model for slow, _ in pairs} == {0, 1, 2}
    return pairs


def test_decisions_of_local_edge_and_dsl(met):
    chosen = {"Local": set(), "Edge": set(), "DSL": set()}
    for slow, (actions, *_) in met:
        assert actions["Local"] == slow.local_action()
        assert actions["Edge"] == slow.edge_action()
        assert actions["DSL"] == slow.dsl_action()
        for name in chosen:
            chosen[name].add(int(actions[name]))
    assert len(chosen["Edge"]) > 3 and len(chosen["DSL"]) > 3


def test_candidates_of_greedy_and_social(met):
    for slow, (_, (actions, valid), *_) in met:
        found = actions[valid].tolist()
        assert len(found) == len(set(found))
        assert sorted(found) == slow.candidates()
        expected = {0: [1, 3], 1: [1, 6], 2: [1, 6]}[slow.model]
        assert slow.first_cuts() == expected


def test_greedy_and_social_choose_the_least_cost(met):
    loaded = 0
    for slow, (actions, _, costs, _) in met[::3]:
        own = {action: slow.own_cost(action) for action in slow.candidates()}
        total = {action: slow.phi_after(action) for action in slow.candidates()}
        assert own[int(actions["Greedy"])] == pytest.approx(min(own.values()), rel=1e-9)
        assert total[int(actions["Social"])] == pytest.approx(min(total.values()), rel=1e-9)
        assert costs[0] == pytest.approx(own[int(actions["Greedy"])], rel=1e-9)
        assert costs[1] == pytest.approx(slow.own_cost(slow.edge_action()), rel=1e-9)
        assert costs[2] == pytest.approx(own[slow.local_action()], rel=1e-9)
        loaded += len(slow._in_flight()) > 1
    assert loaded > 3


def test_alone_greedys_projected_cost_is_realised_and_beats_edge_and_local(road):
    env, params = road
    realised = 0
    with jax.enable_x64(True):
        for seed in SEEDS:
            here = with_scenario(params, slow_road(seed)[0].scenario)
            here = here.replace(vehicle_enabled=jnp.array([False, False, True, False]))
            state, truncated = reset(env, here), False
            while not truncated and state.progress.asking.any():
                actions, _, costs, _ = jax.device_get(decide(env, state, here))
                assert costs[0] <= costs[1] * (1 + 1e-12) and costs[0] <= costs[2] * (1 + 1e-12)
                state, truncated, finished = advance(env, state, actions["Greedy"], here)
                finished = jax.device_get(finished)
                assert finished["mask"][2]
                assert -finished["reward"][2] == pytest.approx(costs[0], rel=1e-9)
                realised += 1
    assert realised > 5


def test_kkt_objective_never_exceeds_the_equal_split():
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        eta = jnp.asarray(rng.uniform(0.1, 9, (200, 6)))
        mask = jnp.asarray(rng.random((200, 6)) < 0.7).at[:, 0].set(True)
        share = proportional.shares(eta, mask)
        optimum = proportional.objective(eta, share, mask)
        equal = proportional.objective(eta, proportional.equal_shares(mask, jnp.float64), mask)
        root = jnp.sum(jnp.where(mask, jnp.sqrt(eta), 0), -1)
        np.testing.assert_allclose(share.sum(-1), 1)
        np.testing.assert_allclose(optimum, root**2)
        np.testing.assert_allclose(equal, mask.sum(-1) * jnp.where(mask, eta, 0).sum(-1))
        assert (optimum <= equal * (1 + 1e-12)).all()
        several = np.asarray(mask.sum(-1) > 1)
        assert (np.asarray(optimum < equal * (1 - 1e-6))[several]).all()
        assert proportional.kkt_residual(eta, share, mask).max() < 1e-6
        alike = jnp.full((1, 6), 2.5)
        np.testing.assert_allclose(
            proportional.objective(alike, proportional.shares(alike, mask[:1]), mask[:1]),
            mask[0].sum() ** 2 * 2.5,
        )


# ---- Aware in hand-made states ----------------------------------------------------------------


@pytest.fixture
def standing(road):
    """A VGG-16 task of vehicle 0, standing at 305 m: RSU 0 is 160 m behind, RSU 1 140 m ahead.

    RSUs 2 and 3 are 440 m ahead and 460 m behind, out of coverage. All RSUs are alike.
    """
    env, params = road
    with jax.enable_x64(True):
        params = params.replace(
            initial_position_m=jnp.asarray(np.full(4, 305.0)),
            initial_speed_mps=jnp.zeros(4),
            arrival=jnp.zeros((SLOTS, 4), bool).at[0, 0].set(True),
            model=jnp.ones((SLOTS, 4), jnp.int32),
            bandwidth_hz=jnp.asarray(np.full(4, 10e6)),
            rsu_flops=jnp.asarray(np.full(4, 60e9)),
        )
        return env, params, reset(env, params)


def aware(env, state, params):
    """Aware's decision with RSUs not rolled."""
    helper, deliverer, first, second = env.decode(decide(env, state, params)[0]["Aware"])
    order = np.asarray(env.road(state, params, state.vehicle)[2])
    return int(order[helper]), int(order[deliverer]), int(first), int(second)


def busy(state, vehicle, phase, rsu, amount):
    """The state with another task in flight: ``amount`` of work left at an RSU."""
    now, tasks = state.progress, state.tasks
    work = tasks.work.at[phase - 1, vehicle].set(amount)
    tasks = dataclasses.replace(
        tasks, work=work, helper=tasks.helper.at[vehicle].set(rsu), deliverer=tasks.deliverer
    )
    now = now.replace(
        phase=now.phase.at[vehicle].set(phase), remaining=now.remaining.at[vehicle].set(amount)
    )
    return state.replace(tasks=tasks, progress=now)


def test_aware_uses_the_nearest_of_idle_rsus(standing):
    env, params, state = standing
    with jax.enable_x64(True):
        assert aware(env, state, params) == (1, 1, 1, 9)


def test_aware_relays_to_the_least_committed_rsu(standing):
    env, params, state = standing
    with jax.enable_x64(True):
        # 600 GFLOP wait at RSU 1: 19 s there, 9.4 s at RSU 0 although the frame goes by wire.
        loaded = busy(state, 1, HELPER, 1, 600.0)
        np.testing.assert_allclose(env.committed_gflop(loaded), [0, 600, 0, 0])
        assert aware(env, loaded, params) == (1, 0, 1, 1)
        # With 700 GFLOP at RSU 0 as well, RSU 1 is the sooner one again.
        assert aware(env, busy(loaded, 2, HELPER, 0, 700.0), params) == (1, 1, 1, 9)


def test_aware_uploads_where_the_band_is_free(standing):
    env, params, state = standing
    with jax.enable_x64(True):
        waiting = busy(state, 3, UPLOAD, 1, 200.0)  # Mbit before ours at RSU 1
        assert aware(env, waiting, params)[0] == 0


def test_aware_computes_at_home_where_no_rsu_fits_or_it_is_faster(standing):
    env, params, state = standing
    with jax.enable_x64(True):
        nowhere = params.replace(radius_m=jnp.asarray(np.float64(100)))
        assert decide(env, reset(env, nowhere), nowhere)[0]["Aware"] == env.encode(0, 0, 9, 9)
        # 9.8 s later a vehicle of 60 m/s is at about 900 m: RSUs 2 and 3 (750 m, 1050 m) cover it,
        # reached by wire, with RSU 1 as the helper.
        moving = params.replace(initial_speed_mps=jnp.asarray(np.full(4, 60.0)))
        assert aware(env, reset(env, moving), moving) == (1, 2, 1, 1)
        # A vehicle of 40 GFLOP/s needs 7.05 s.
        strong = params.replace(initial_vehicle_flops=jnp.asarray(np.full(4, 40e9)))
        assert decide(env, reset(env, strong), strong)[0]["Aware"] == env.encode(0, 0, 9, 9)


def test_how_the_last_task_ended_is_no_cost_of_the_next(road):
    """A delivery that failed after 1000 s, at the vehicle that asks, changes no decision."""
    env, params = road
    decisions = 0
    with jax.enable_x64(True):
        for seed in SEEDS:
            here = with_scenario(params, slow_road(seed)[0].scenario)
            here = here.replace(failure_weight=jnp.float64(1))
            state, truncated = reset(env, here), False
            while not truncated:
                mine = jnp.arange(env.num_vehicles) == state.vehicle
                outcome = jnp.where(mine, DELIVERY_FAILURE, state.progress.outcome)
                latency = jnp.where(mine, 1000.0, state.progress.latency_s)
                late = state.progress.replace(outcome=outcome, latency_s=latency)
                actions = decide(env, state, here)[0]
                after = decide(env, state.replace(progress=late), here)[0]
                assert jax.device_get(after) == jax.device_get(actions)
                state, truncated, _ = advance(env, state, actions["Edge"], here)
                decisions += 1
    assert decisions > 25


# ---- the bound --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Greedy", "Social", "Aware"])
def test_no_task_beats_the_capacity_bound(road, name):
    env, params = road
    bounds, costs = {}, {}
    with jax.enable_x64(True):
        for seed in SEEDS:
            here = with_scenario(params, slow_road(seed)[0].scenario)
            state, truncated = reset(env, here), False
            while not truncated:
                actions, *_, bound = jax.device_get(decide(env, state, here))
                bounds[seed, int(state.decisions)] = bound
                state, truncated, finished = advance(env, state, actions[name], here)
                finished = jax.device_get(finished)
                for vehicle in np.flatnonzero(finished["mask"]):
                    decision = seed, int(finished["decision"][vehicle])
                    costs[decision] = -finished["reward"][vehicle]
    assert costs.keys() == bounds.keys() and len(costs) > 25
    for decision, cost in costs.items():
        assert cost >= bounds[decision] * (1 - 1e-9)
    assert sum(costs.values()) < 10 * sum(bounds.values())


def test_baselines_bring_their_own_allocation():
    env, _ = jaxenv.make("vehicular")
    brings = {
        name: dict(getattr(baselines, name)(env=env).env_overrides)
        for name in (*NAMES, "DSLPipelined", "INSGA")
    }
    assert brings == {
        "Local": {},
        "Aware": {},
        "Greedy": {},
        "Social": {},
        "Edge": {"allocation": "equal"},
        "DSL": {"allocation": "serial"},
        "DSLPipelined": {"allocation": "fifo"},
        "INSGA": {"allocation": "insga"},
    }


# ---- measured where named ---------------------------------------------------------------------


def test_the_longest_stay_is_with_the_farthest_rsu_ahead(standing):
    """RSU 1, 140 m ahead, is left 160 m + 140 m later than RSU 0, 160 m behind."""
    env, params, state = standing
    policy = baselines.LongestStay(env)
    with jax.enable_x64(True):
        decided = jax.jit(policy.decide)(state, params)
        assert [int(x) for x in decided] == [1, 1, 1, 9]
        # Beyond RSU 1's middle, at 500 m, RSU 2 (750 m) covers too; RSU 0 (145 m) no more.
        later = params.replace(initial_position_m=jnp.asarray(np.full(4, 500.0)))
        assert [int(x) for x in jax.jit(policy.decide)(reset(env, later), later)] == [2, 2, 1, 9]
        nowhere = params.replace(radius_m=jnp.asarray(np.float64(100)))
        action = policy.act((), None, None, None, reset(env, nowhere), nowhere)[0]
        assert action == env.encode(0, 0, 9, 9)


def test_random_actions_are_valid_and_all_of_them_come(road):
    env, params = road
    with jax.enable_x64(True):
        state = reset(env, params)
        mask = np.asarray(env.action_mask(state, params))
        policy = registry.baseline("Random", env)
        draw = jax.jit(jax.vmap(lambda key: policy.act((), key, None, mask, None, None)[0]))
        drawn = np.asarray(draw(jax.random.split(jax.random.key(0), 20_000)))
    assert set(drawn) == set(np.flatnonzero(mask))


def test_what_joined_after_the_published_tables_is_measured_where_named(road):
    env, _ = road
    usual = registry.usual_baselines("vehicular")
    assert {"Random", "LongestStay"} == set(registry.baseline_names("vehicular")) - set(usual)
