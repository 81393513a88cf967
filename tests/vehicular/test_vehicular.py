"""Facts about the vehicular environment: check values, identities, bounds, invariances."""

import os
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxenv
from agents.baselines.vehicular import task_lower_bound_s
from allocators import insga
from jaxenv.physics import arrivals
from jaxenv.testing import check_environment
from jaxenv.vehicular import (
    DELIVERER,
    HELPER,
    IDLE,
    SUCCESS,
    UPLOAD,
    UPLOAD_FAILURE,
    Vehicular,
)
from tests.oracles import vehicular as oracle
from tests.scenarios import check_leaves_are

DATA = Path(os.environ.get("JAXENV_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
ROAD = DATA / "sumo" / "road.fcd.xml.gz"
VALID, ANY, ALL_LOCAL, GIVEN = range(4)
SUMMARY = (
    "num_tasks",
    "success_rate",
    "latency_s",
    "cost_s",
    "upload_failures",
    "delivery_failures",
    "left_road",
    "unfinished",
)


def episode(env, params, key, kind, actions, steps, projected):
    """One episode: random valid actions, any actions, Local, or given ones."""
    state = env.reset(key, params)[1]

    def step(state, t):
        mask = env.action_mask(state, params)
        choice_key = jax.random.fold_in(jax.random.fold_in(key, 99), state.decisions)
        allowed = mask | (kind == ANY)
        action = jax.random.categorical(choice_key, jnp.where(allowed, 0.0, -jnp.inf))
        depth = params.num_layers[state.progress.network[state.vehicle]]
        action = jnp.where(kind == ALL_LOCAL, env.encode(0, 0, depth, depth), action)
        action = jnp.where(kind == GIVEN, actions[t], action).astype(jnp.int32)
        log = {
            "action": action,
            "slot": state.progress.slot,
            "vehicle": state.vehicle,
            "network": state.progress.network[state.vehicle],
            "power_dbm": state.draws.power_dbm[state.vehicle],
            "asking": state.progress.asking,
            "idle": state.progress.phase == IDLE,
            "allowed": jnp.sum(mask),
            "bound_s": task_lower_bound_s(env, state, params),
            "carried_s": state.carried_cost,
        }
        if projected:
            log["projected_s"] = env.projected_cost(state, params)
        _, state, reward, terminated, truncated, info = env.transition(state, action, params)
        del info["final_action_mask"]
        log |= {"reward": reward, "terminated": terminated, "truncated": truncated, "info": info}
        return state, log

    return jax.lax.scan(step, state, jnp.arange(steps))[1]


@partial(jax.jit, static_argnames=("env", "steps", "projected"))
def episodes(env, params, keys, kind, actions, steps, projected):
    run = partial(episode, env, kind=kind, actions=actions, steps=steps, projected=projected)
    return jax.vmap(run, in_axes=(None, 0))(params, keys)


def play(env, params, kind=VALID, count=8, actions=None, steps=40, projected=False):
    """Logs ``[count, steps]`` of whole episodes."""
    actions = np.zeros(steps, np.int32) if actions is None else np.asarray(actions, np.int32)
    keys = jax.random.split(jax.random.key(1), count)
    log = jax.device_get(episodes(env, params, keys, kind, actions, steps, projected))
    assert log["truncated"].any(1).all(), "more steps are needed"
    assert not log["terminated"].any()
    return log


def each(log):
    """The episodes of a batched log."""
    count = len(log["reward"])
    return [jax.tree.map(lambda x, e=e: x[e], log) for e in range(count)]


def by_decision(log):
    """``(latency_s, success, cost_s)`` of every task, in the order of the decisions."""
    finished = log["info"]["finished"]
    mask = finished["mask"]
    assert (finished["decision"][~mask] == -1).all()
    decision = finished["decision"][mask]
    order = np.argsort(decision)
    np.testing.assert_array_equal(decision[order], np.arange(mask.sum()))
    columns = finished["latency_s"], finished["success"], -finished["reward"]
    return tuple(column[mask][order] for column in columns)


def last(log):
    """The step that ends the episode."""
    end = int(log["truncated"].argmax())
    return end, jax.tree.map(lambda x: x[end], log["info"])


# ---- the scenario -----------------------------------------------------------------------------


@pytest.mark.quick
def test_the_published_scenario():
    """Speeds of 36 to 72 km/h, RSUs of 12 cores of 5 GFLOP/s every 300 m."""
    env, params = jaxenv.make("vehicular")
    assert (env.num_rsus, env.num_vehicles, env.turns_per_step) == (5, 10, 0)
    check_leaves_are(
        params,
        max_steps=200,
        max_slots=800,
        slot_s=1,
        radius_m=300,
        zone_m=20,
        rsu_position_m=[150, 450, 750, 1050, 1350],
        road_period_m=1500,
        min_distance_m=10,
        tolerance_m=1e-3,
        speed_range_mps=[36 / 3.6, 72 / 3.6],
        power_range_dbm=[5, 10],
        vehicle_flops_range=[5e9, 5e9],
        path_loss_intercept_db=128.1,
        path_loss_slope_db=37.6,
        noise_dbm_per_hz=-174,
        bandwidth_hz=[10e6] * 5,
        wired_rate_bps=1e9,
        rsu_flops=[12 * 5e9] * 5,
        compression=0.5,
        arrival_probability=0.1,
        failure_weight=3,
        mix=[0, 1, 0],
        num_layers=[7, 9, 7],
        vehicle_enabled=[True] * 10,
        trace_start=-1,
    )


# ---- actions and masks ------------------------------------------------------------------------


@pytest.mark.quick
@pytest.mark.parametrize("size", [5, 10])
@pytest.mark.parametrize("layers", [7, 9])
def test_size_of_the_action_table(size, layers):
    env, _ = jaxenv.make(
        "vehicular", num_rsus=size, networks=["resnet50"] if layers == 7 else ["vgg16"]
    )
    assert env.max_layers == layers
    assert (
        env.num_actions == {(5, 7): 700, (5, 9): 1125, (10, 7): 2800, (10, 9): 4500}[size, layers]
    )


@pytest.mark.quick
def test_actions_and_decisions_are_one_to_one():
    env, _ = jaxenv.make("vehicular", num_rsus=5)
    actions = np.arange(env.num_actions)
    helper, deliverer, first, second = (np.asarray(x) for x in env.decode(jnp.asarray(actions)))
    np.testing.assert_array_equal(env.encode(helper, deliverer, first, second), actions)
    decisions = np.unique(np.stack([helper, deliverer, first, second]), axis=1).T
    assert len(decisions) == actions.size
    assert (first >= 1).all() and (first <= second).all() and (second <= 9).all()
    assert helper.max() == deliverer.max() == 4
    # The printed formula, and the lexicographic order it stands for.
    pairs = [(a, b) for a in range(1, 10) for b in range(a, 10)]
    for index, (a, b) in enumerate(pairs):
        assert index == (a - 1) * 9 - (a - 1) * (a - 2) // 2 + (b - a)
        assert index == env.pair_index(a, b)
        assert env.encode(2, 3, a, b) == (2 * 5 + 3) * 45 + index


def test_a_standing_vehicle_between_two_rsus_has_369_actions():
    env, params = jaxenv.make("vehicular", scenario="given", arrival_probability=1.0)
    params = params.replace(
        initial_position_m=jnp.asarray(np.full(10, 115.0, np.float32)),
        initial_speed_mps=jnp.zeros(10),
    )
    state = jax.jit(env.reset_env)(jax.random.key(0), params)
    mask = np.asarray(env.action_mask(state, params))
    assert mask.sum() == 369 == 2 * (4 * 44 + 8) + 1
    # Zone 110: rolled index 0 is RSU 4's copy at -150 m (260 m behind), index 1 is RSU 0 at 150 m.
    helper, deliverer, first, second = (np.asarray(x)[mask] for x in env.decode(np.arange(1125)))
    local = first == 9
    assert local.sum() == 1 and helper[local] == deliverer[local] == 0
    assert set(helper[~local]) == {0, 1}
    assert set(deliverer) == set(range(5))
    assert (second[(helper == deliverer) & ~local] == 9).all()
    np.testing.assert_allclose(env.road(state, params, 0)[1], [150, 450, 750, 1050, -150])
    np.testing.assert_array_equal(env.road(state, params, 0)[2], [4, 0, 1, 2, 3])


# ---- one vehicle or few, by hand ---------------------------------------------------------------


def test_an_upload_lasts_as_long_as_its_vehicle_is_in_reach():
    """22.1 Mbit at 0.1 MHz, 260 m past the RSU: standing it is sent; at 20 m/s it is cut off in the
    zone about 170 m, 320 m past the RSU, and counts as Local."""
    with jax.enable_x64(True):
        options = {"num_rsus": 1, "num_vehicles": 1, "arrival_probability": 1.0, "max_steps": 1}
        env, params = jaxenv.make(
            "vehicular",
            scenario="given",
            bandwidth_hz=1e5,
            max_slots=200,
            dtype="float64",
            **options,
        )
        params = params.replace(initial_position_m=jnp.array([115.0]))

        @jax.jit
        @jax.vmap
        def run(speed_mps):
            moving = params.replace(initial_speed_mps=speed_mps[None])
            state = env.submit(env.reset_env(jax.random.key(0), moving), moving, 0, 0, 1, 9)
            return env.project(state, moving, jnp.array([True]))

        found = run(jnp.array([0.0, 20.0]))
        rate_bps = 1e5 * float(env.spectral_efficiency(260.0, 7.5, 1e5, params))
    np.testing.assert_array_equal(found.outcome[:, 0], [SUCCESS, UPLOAD_FAILURE])
    sent_s = 22.1184e6 / rate_bps + 564.001 / 60
    np.testing.assert_allclose(found.latency_s[:, 0], [sent_s, 564.001 / 2 / 5], rtol=1e-5)
    assert sent_s > 10 and found.slot[1] == 3


@pytest.mark.quick
def test_speeds_on_a_trace_by_hand():
    """Over the next second, or over the last one where the vehicle leaves; of one row alone 0."""
    path = np.array([[0, 500, 0], [10, 480, 5], [25, 450, 10], [45, 410, 15]])
    active = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 0]], bool)
    leaves = {"trace_position_m": path, "trace_active": active, "trace_direction": [1, -1, 1]}
    env, params = jaxenv.make("vehicular", num_vehicles=3, mobility="trace", **leaves)

    @jax.jit
    def speeds(params):
        draws = env.reset_env(jax.random.key(0), params).draws
        return jax.vmap(lambda slot: env._speeds(draws, params, slot))(jnp.arange(4))

    found = np.asarray(speeds(params.replace(trace_start=jnp.int32(0))))
    np.testing.assert_allclose(found[active], [10, 15, 30, 20, 30, 0, 20])


# ---- given scenarios --------------------------------------------------------------------------

ROWS = 48
GIVEN_SIZES = {
    "num_vehicles": 4,
    "scenario": "given",
    "arrivals": "given",
    "table_rows": ROWS,
    "model_onehot": False,
}


def given(dtype="float64", **options):
    """An environment of given episodes; the tables hold twice as many slots as an episode."""
    return jaxenv.make("vehicular", **GIVEN_SIZES, dtype=dtype, max_steps=24, **options)


def scenario(params, seed, standing=False):
    """Random initial arrays and arrival tables."""
    rng = np.random.default_rng(seed)
    dtype = params.initial_position_m.dtype
    speed = np.zeros(4) if standing else rng.uniform(10, 20, 4)
    leaves = {
        "initial_position_m": jnp.asarray(rng.uniform(0, 1500, 4), dtype),
        "initial_speed_mps": jnp.asarray(speed, dtype),
        "initial_power_dbm": jnp.asarray(rng.uniform(5, 10, 4), dtype),
        "initial_vehicle_flops": jnp.asarray(rng.uniform(4e9, 6e9, 4), dtype),
        "arrival": jnp.asarray(rng.random((ROWS, 4)) < 0.25),
        "model": jnp.asarray(rng.integers(0, 3, (ROWS, 4)), jnp.int32),
    }
    return params.replace(**leaves)


def play_given(env, params, **options):
    return each(play(env, params, count=1, steps=60, **options))[0]


@pytest.mark.quick
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-6), ("float32", 1e-4)])
def test_two_vehicles_share_one_rsu_as_worked_by_hand(dtype, tolerance):
    with jax.enable_x64(dtype == "float64"):
        env, params = given(dtype)
        arrival = np.zeros((ROWS, 4), bool)
        arrival[0, 0] = arrival[3, 1] = True
        params = params.replace(
            initial_position_m=jnp.full_like(params.initial_position_m, 145),
            initial_speed_mps=jnp.full_like(params.initial_speed_mps, 10),
            initial_power_dbm=jnp.full_like(params.initial_power_dbm, 10),
            arrival=jnp.asarray(arrival),
            model=jnp.ones_like(params.model),
        )
        # Rolled index of RSU 0: 1 in slot 0 (RSU 4's copy is exactly 300 m behind), 0 in slot 3.
        actions = np.zeros(60, np.int32)
        actions[:2] = env.encode(1, 1, 1, 9), env.encode(0, 0, 1, 9)
        log = play_given(env, params, kind=GIVEN, actions=actions)
        np.testing.assert_array_equal(log["slot"][:2], [0, 3])
        np.testing.assert_array_equal(log["info"]["action_valid"][:2], [True, True])
        latency_s, success, cost_s = by_decision(log)
        np.testing.assert_allclose(latency_s, [15.884232, 15.909009], rtol=tolerance)
        np.testing.assert_allclose(cost_s, [15.884232, 15.909009], rtol=tolerance)
        assert success.all()
        for distance_m, upload_s in ((10.0, 0.108974), (20.0, 0.133751)):
            efficiency = env.spectral_efficiency(distance_m, 10.0, 10e6, params)
            # The printed times have six decimals.
            assert 22.1184 / (10 * efficiency) == pytest.approx(upload_s, abs=6e-7)


SEEDS = range(6)


@pytest.fixture(scope="module")
def played():
    """Given scenarios in float64, the actions and the tasks of random valid play."""
    with jax.enable_x64(True):
        env, params = given()
        logs = [play_given(env, scenario(params, seed)) for seed in SEEDS]
    assert sum(log["info"]["num_tasks"].sum() for log in logs) > 40
    outcomes = np.concatenate([by_decision(log)[1] for log in logs])
    assert outcomes.any() and not outcomes.all()
    return logs


def replay(logs, tolerance, dtype="float64", edit=lambda params: params, **options):
    """The same scenarios and actions in another environment give the same tasks."""
    with jax.enable_x64(dtype == "float64"):
        env, params = given(dtype, **options)
        for seed, log in zip(SEEDS, logs, strict=True):
            again = play_given(env, edit(scenario(params, seed)), kind=GIVEN, actions=log["action"])
            np.testing.assert_array_equal(again["vehicle"], log["vehicle"])
            for ours, expected in zip(by_decision(again), by_decision(log), strict=True):
                np.testing.assert_allclose(ours, expected, rtol=tolerance)
            np.testing.assert_allclose(
                again["reward"], log["reward"], rtol=tolerance, atol=100 * tolerance
            )
            yield log, again


def test_float32_agrees_with_float64(played):
    for log, again in replay(played, 1e-4, dtype="float32"):
        assert again["reward"].dtype == np.float32 and log["reward"].dtype == np.float64


def test_jaxopt_solves_the_same_shares(played):
    list(replay(played, 1e-5, allocator="jaxopt"))


def test_a_trace_of_constant_speeds_is_constant_mobility(played):
    rows = 30  # fewer than an episode lasts: beyond the last row vehicles keep their speed

    def as_trace(params):
        steps = jnp.arange(rows)[:, None]
        path = params.initial_position_m + params.initial_speed_mps * steps
        return params.replace(
            trace_position_m=path,
            trace_active=jnp.ones((rows, 4), bool),
            initial_position_m=jnp.zeros(4),
            initial_speed_mps=jnp.zeros(4),
        )

    options = {"mobility": "trace", "trace_position_m": np.zeros((rows, 4)), "trace_active": True}
    for log, again in replay(played, 1e-9, edit=as_trace, trace_start=0, **options):
        for name in ("final_observation", "elapsed_slots", "action_valid"):
            np.testing.assert_allclose(again["info"][name], log["info"][name], atol=1e-9)


def test_halving_the_slot_changes_no_latency_of_standing_vehicles():
    with jax.enable_x64(True):
        env, params = given()
        for seed in SEEDS:
            whole = scenario(params, seed, standing=True)
            log = play_given(env, whole)
            between = jnp.zeros_like(whole.arrival[:24])
            halved = whole.replace(
                slot_s=whole.slot_s / 2,
                max_steps=2 * whole.max_steps,
                max_slots=2 * whole.max_slots,
                arrival=jnp.stack([whole.arrival[:24], between], 1).reshape(ROWS, 4),
                model=jnp.repeat(whole.model[:24], 2, axis=0),
            )
            again = play_given(env, halved, kind=GIVEN, actions=log["action"])
            assert last(log)[1]["num_tasks"] > 0
            for ours, expected in zip(by_decision(again), by_decision(log), strict=True):
                np.testing.assert_allclose(ours, expected, rtol=1e-9)


# ---- identities and bounds --------------------------------------------------------------------

SMALL = {"num_rsus": 3, "num_vehicles": 4, "max_steps": 16, "arrival_probability": 0.3}
MIXED = SMALL | {"mix": (1, 1, 1), "vehicle_flops_range": (4e9, 6e9)}
ALLOCATIONS = ("kkt", "equal", "fifo", "serial", pytest.param("insga", marks=pytest.mark.slow))


def small(allocation, **options):
    sizes = {"insga_population": 4, "insga_generations": 2} if allocation == "insga" else {}
    settings = MIXED | sizes | options
    return jaxenv.make(
        "vehicular", dtype="float64", allocation=allocation, reward_mode="marginal", **settings
    )


@pytest.fixture(scope="module", params=ALLOCATIONS)
def random_play(request):
    """``(env, params, log)`` of valid and of arbitrary actions under one allocation."""
    with jax.enable_x64(True):
        env, params = small(request.param)
        logs = [play(env, params, kind, projected=True) for kind in (VALID, ANY)]
    return env, params, [log for batch in logs for log in each(batch)]


def test_marginal_rewards_add_up_to_minus_the_cost(random_play):
    for log in random_play[2]:
        _, summary = last(log)
        total = by_decision(log)[2].sum()
        assert summary["num_tasks"] > 0 and total > 0
        np.testing.assert_allclose(log["reward"].sum(), -total, rtol=1e-9)
        np.testing.assert_allclose(summary["cost_s"] * summary["num_tasks"], total, rtol=1e-9)
        np.testing.assert_allclose(log["info"]["cost_sum_s"].sum(), total, rtol=1e-9)


def test_carried_cost_is_a_fresh_projection_at_every_decision(random_play):
    for log in random_play[2]:
        due = log["info"]["decision"] >= 0
        np.testing.assert_allclose(
            log["carried_s"][due], log["projected_s"][due], rtol=1e-9, atol=1e-9
        )


def test_every_submitted_task_ends_once(random_play):
    for log in random_play[2]:
        end, summary = last(log)
        decisions = log["info"]["decision"]
        due = decisions >= 0
        np.testing.assert_array_equal(decisions[due], np.arange(due.sum()))
        assert summary["num_tasks"] == due.sum() == len(by_decision(log)[0])
        assert due[: end + 1].all() and not due[end + 1 :].any()
        failures = sum(summary[name] for name in SUMMARY[4:])
        successes = by_decision(log)[1].sum()
        assert failures + successes == summary["num_tasks"]
        assert summary["success_rate"] == pytest.approx(successes / due.sum())
        assert log["info"]["tasks_succeeded"].sum() == successes


def test_no_task_beats_the_capacity_bound(random_play):
    tightest = np.inf
    for log in random_play[2]:
        due = log["info"]["decision"] >= 0
        latency_s, success, cost_s = by_decision(log)
        bound_s = log["bound_s"][due]
        assert (cost_s >= bound_s * (1 - 1e-5)).all()
        assert (latency_s >= bound_s * (1 - 1e-5)).all()
        np.testing.assert_allclose(cost_s, np.where(success, 1, 3) * latency_s)
        tightest = min(tightest, np.min(cost_s / bound_s))
    assert tightest < 1.5


def test_steps_after_the_end_do_nothing(random_play):
    for log in random_play[2]:
        end, _ = last(log)
        after = jax.tree.map(lambda x, end=end: x[end + 1 :], log)
        assert len(after["reward"]) > 0
        assert not after["reward"].any() and after["truncated"].all()
        assert not after["info"]["finished"]["mask"].any()
        assert not after["info"]["num_tasks"].any() and not after["info"]["elapsed_slots"].any()
        assert len(np.unique(after["slot"])) == 1


def test_bound_agrees_with_the_slow_version():
    with jax.enable_x64(True):
        env, params = small("kkt", bandwidth_hz=[5e6, 20e6, 10e6], vehicle_flops_range=(5e9, 5e9))
        log = play(env, params, projected=True)
    config = oracle.Config.default(
        num_rsus=3, num_vehicles=4, bandwidth_hz=[5e6, 20e6, 10e6], dnn_mix=(1, 1, 1)
    )
    due = log["info"]["decision"] >= 0
    expected = [
        oracle.lower_bound(config, 5e9, model, power)
        for model, power in zip(log["network"][due], log["power_dbm"][due], strict=True)
    ]
    assert set(log["network"][due]) == {0, 1, 2}
    np.testing.assert_allclose(log["bound_s"][due], expected, rtol=1e-9)


# ---- arrivals ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kkt():
    with jax.enable_x64(True):
        return small("kkt")


def test_local_always_succeeds_in_the_time_of_its_work(kkt):
    env, params = kkt
    gflop = np.array([26.329, 564.001, 150.721])
    with jax.enable_x64(True):
        slow = params.replace(
            vehicle_flops_range=jnp.asarray(np.full(2, 4e9)), max_slots=jnp.int32(200)
        )
        logs = each(play(env, slow, ALL_LOCAL, projected=True))
        flops = np.asarray(params.layer_flops).sum(1)
    for log in logs:
        network = log["network"][log["info"]["decision"] >= 0]
        latency_s, success, cost_s = by_decision(log)
        assert success.all() and last(log)[1]["success_rate"] == 1
        assert log["info"]["action_valid"].all()
        np.testing.assert_allclose(latency_s, gflop[network] / 2 / 4, rtol=1e-5)
        np.testing.assert_allclose(latency_s, flops[network] / 8e9, rtol=1e-12)
        np.testing.assert_array_equal(cost_s, latency_s)


@pytest.mark.quick
def test_the_unit_of_the_reward_is_the_mean_time_of_local():
    """564 GFLOP of VGG-16 at half the work and 5 GFLOP/s; of a mix, as often as it says."""
    env, params = jaxenv.make("vehicular", vehicle_flops_range=(4e9, 6e9))
    np.testing.assert_allclose(env.reward_unit(params), 564.001 / 2 / 5, rtol=1e-5)
    mixed = params.replace(mix=jnp.float32([2, 1, 1]))
    gflop = (2 * 26.329 + 564.001 + 150.721) / 4
    np.testing.assert_allclose(env.reward_unit(mixed), gflop / 2 / 5, rtol=1e-5)
    beyond = jnp.arange(9) >= params.num_layers[:, None]
    padded = mixed.replace(layer_flops=jnp.where(beyond, 1e12, mixed.layer_flops))
    assert env.reward_unit(padded) == env.reward_unit(mixed)


def test_slots_in_which_nothing_happens_take_no_turns():
    """Local of 56.4 s is one turn of a projection; three from the only slot with arrivals: to its
    end, to that of the task and to that of slot 56."""
    options = {"num_rsus": 1, "num_vehicles": 1, "arrival_probability": 1.0, "max_steps": 1}
    env, params = jaxenv.make("vehicular", max_slots=100, **options)

    @jax.jit
    def run(params):
        state = env.reset_env(jax.random.key(0), params)
        projected = env.project(env.submit(state, params, 0, 0, 9, 9), params, jnp.array([True]))
        return projected, env.step_env(state.key, state, env.encode(0, 0, 9, 9), params)

    projected, (_, reward, _, info) = run(params)
    assert projected.turns == 1 and projected.outcome[0] == SUCCESS
    assert info["turns"] == 3 and info["elapsed_slots"] == 57
    np.testing.assert_allclose(reward, -564.001 / 2 / 5, rtol=1e-5)


def test_two_policies_meet_the_same_coins(kkt):
    env, params = kkt
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(1), 8)
        coins = jax.vmap(
            lambda key: jax.vmap(
                lambda k: arrivals.slot_uniforms(jax.random.key_data(key), k, 4, jnp.float64)
            )(jnp.arange(16))
        )(keys)
        logs = [each(play(env, params, kind, projected=True)) for kind in (VALID, ALL_LOCAL)]
    for uniform, *pair in zip(np.asarray(coins), *logs, strict=True):
        met = []
        for log in pair:
            networks = {}
            due = np.flatnonzero(log["info"]["decision"] >= 0)
            for t in due:
                slot, vehicle = log["slot"][t], log["vehicle"][t]
                assert uniform[slot, vehicle] < 0.3
                assert np.argmax(log["asking"][t]) == vehicle
                networks[slot, vehicle] = log["network"][t]
                assert log["network"][t] == int(uniform[slot, vehicle] / 0.3 * 3)
                if t == due[0] or log["slot"][t - 1] < slot:  # the first decision of a slot
                    np.testing.assert_array_equal(
                        log["asking"][t], log["idle"][t] & (uniform[slot] < 0.3)
                    )
            met.append(networks)
        both = met[0].keys() & met[1].keys()
        assert both and all(met[0][k] == met[1][k] for k in both)


def test_an_episode_without_tasks(kkt):
    env, params = kkt
    with jax.enable_x64(True):
        log = play(env, params.replace(arrival_probability=jnp.zeros(())), projected=True)
    assert log["truncated"].all() and not log["reward"].any()
    assert (log["info"]["decision"] == -1).all() and (log["allowed"] >= 1).all()
    assert (log["slot"] == 16).all() and not log["info"]["elapsed_slots"].any()
    for name in SUMMARY:
        assert not log["info"][name].any()
    assert np.isfinite(log["info"]["final_observation"]).all()


def test_disabled_vehicles_never_ask(kkt):
    env, params = kkt
    with jax.enable_x64(True):
        log = play(
            env,
            params.replace(vehicle_enabled=jnp.array([False, True, False, True])),
            projected=True,
        )
    assert set(log["vehicle"][log["info"]["decision"] >= 0]) == {1, 3}
    assert not log["asking"][..., [0, 2]].any()


def test_frequencies_of_arrivals_and_networks():
    env, params = jaxenv.make("vehicular", num_vehicles=10, mix=(1, 2, 0))
    keys = jax.random.split(jax.random.key(4), 5000)
    state = jax.jit(jax.vmap(env.reset_env, in_axes=(0, None)))(keys, params)
    asking = np.asarray(state.progress.asking)
    network = np.asarray(state.progress.network)[asking]
    assert abs(asking.mean() - 0.1) < 4 * np.sqrt(0.1 * 0.9 / asking.size)
    assert abs((network == 0).mean() - 1 / 3) < 4 * np.sqrt(2 / 9 / network.size)
    assert set(network) == {0, 1}
    for values, low, high in (
        (state.draws.position_m, 0, 1500),
        (state.draws.speed_mps, 10, 20),
        (state.draws.power_dbm, 5, 10),
    ):
        unit = (np.asarray(values, float) - low) / (high - low)
        assert unit.min() >= 0 and unit.max() <= 1
        assert abs(unit.mean() - 1 / 2) < 4 * np.sqrt(1 / 12 / unit.size)
        assert abs(unit.var() - 1 / 12) < 4 * np.sqrt((1 / 80 - 1 / 144) / unit.size)
    draws = (state.draws.position_m, state.draws.speed_mps, state.draws.power_dbm)
    between = np.corrcoef([np.ravel(values) for values in draws])
    assert np.abs(between - np.eye(3)).max() < 4 / np.sqrt(asking.size)


def test_rows_of_a_trace_are_drawn_where_an_episode_fits():
    """Ten rows and four slots: rows 0 to 6 alike; a given row is that row."""
    sizes = {"num_rsus": 1, "num_vehicles": 1, "mobility": "trace", "max_steps": 4}
    env, params = jaxenv.make(
        "vehicular", trace_position_m=np.full((10, 1), 150.0), trace_active=True, **sizes
    )
    keys = jax.random.split(jax.random.key(8), 700)
    start = jax.jit(jax.vmap(lambda key, params: env.reset_env(key, params), (0, None)))
    counts = np.bincount(start(keys, params).draws.trace_row, minlength=10)
    np.testing.assert_allclose(counts, [100] * 7 + [0] * 3, atol=40)
    given_row = params.replace(trace_start=jnp.int32(3))
    assert set(np.asarray(start(keys, given_row).draws.trace_row)) == {3}


def test_evolved_shares_are_asked_for_what_tasks_still_need(monkeypatch):
    """Two uploads to RSU 0 and two tasks in work at RSU 1: times by hand, pool by pool.

    Work left is 12, 6 Mbit and 60, 120 GFLOP; 0 and 1 upload 4 and 2 Mbit/s, RSU 0 does 30 and
    RSU 1 does 60 GFLOP/s. Of the uploads 0 has 90 GFLOP at RSU 0 before 120 at RSU 1, and 1 has 30
    at RSU 0 alone; 2 is at its helper with 180 GFLOP for RSU 0 afterwards, 3 at its deliverer.
    """
    env, params = jaxenv.make("vehicular", num_rsus=2, num_vehicles=4, allocation="insga")
    array = lambda *values: jnp.asarray(values, jnp.float32)  # noqa: E731
    index = lambda *values: jnp.asarray(values, jnp.int32)  # noqa: E731
    state = env.reset_env(jax.random.key(0), params)
    draws = state.draws.replace(
        position_m=array(110, 110, 405, 405), speed_mps=array(10, 0, 20, 15)
    )
    tasks = state.tasks.replace(
        helper=index(0, 0, 1, 0),
        deliverer=index(1, 0, 0, 1),
        deliverer_position_m=array(450, 150, 150, 90),
        work=jnp.zeros((5, 4)).at[2].set(array(90, 30, 60, 0)).at[4].set(array(120, 0, 180, 120)),
        bandwidth_mhz=array(4, 2, 1, 1),
        helper_gflops=array(30, 30, 60, 30),
        deliverer_gflops=array(60, 30, 30, 60),
    )
    progress = state.progress.replace(
        phase=index(UPLOAD, UPLOAD, HELPER, DELIVERER), remaining=array(12, 6, 60, 120)
    )
    state = state.replace(draws=draws, tasks=tasks, progress=progress)
    asked = {}
    for name in ("base_s", "after_s", "leave_s"):

        def spy(key, base_s, after_s, leave_s, pool, name=name, **sizes):
            assert sizes == {"num_pools": 1, "population": 16, "generations": 8}
            times = {"base_s": base_s, "after_s": after_s, "leave_s": leave_s}
            return jnp.where(pool == 0, times[name], jnp.inf)

        monkeypatch.setattr(insga, "evolve_weights", spy)
        asked[name] = env._insga_weights(env._operands(state, params), progress, array(1, 1, 1, 1))
    np.testing.assert_allclose(asked["base_s"], [3, 3, 1, 2])
    np.testing.assert_allclose(asked["after_s"], [90 / 30 + 120 / 60, 1, 180 / 30, 1])
    # From zone centres 110 and 410 m, radius 300 m, at 10, 0.1 (the least), 20 and 15 m/s; the
    # last one has left its deliverer. Where the time is 0, and after 3's phase, the weight is 1.
    np.testing.assert_allclose(asked["leave_s"], [64, 3400, 2, 1], rtol=1e-6)


# ---- vmap -------------------------------------------------------------------------------------


def test_a_sweep_is_one_vmapped_call(kkt):
    env, params = kkt
    with jax.enable_x64(True):
        leaves = {
            "bandwidth_hz": np.array([[5e6] * 3, [10e6] * 3, [20e6, 1e6, 3e6]]),
            "mix": np.array([[1.0, 0, 0], [1, 1, 1], [0, 1, 2]]),
            "failure_weight": np.array([3.0, 1.0, 5.0]),
        }
        axes = jax.tree.map(lambda _: None, params).replace(**dict.fromkeys(leaves, 0))
        keys = jax.random.split(jax.random.key(1), 8)
        nothing = np.zeros(40, np.int32)
        sweep = jax.vmap(
            lambda p: episodes(env, p, keys, VALID, nothing, 40, True), in_axes=(axes,)
        )(params.replace(**jax.tree.map(jnp.asarray, leaves)))
        for i in range(3):
            one = params.replace(**{name: jnp.asarray(leaf[i]) for name, leaf in leaves.items()})
            alone = play(env, one, projected=True)
            jax.tree.map(
                lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-9, atol=1e-9),
                jax.device_get(sweep),
                alone,
            )


# ---- turns per step ---------------------------------------------------------------------------


def between_decisions(log):
    """Actions, rewards summed between decisions, and the tasks, whatever the turns of a step."""
    due = np.flatnonzero(log["info"]["decision"] >= 0)
    end, summary = last(log)
    assert not log["reward"][: due[0]].any()
    starts = np.r_[due, len(log["reward"])]
    rewards = [log["reward"][a:b].sum() for a, b in zip(starts[:-1], starts[1:], strict=True)]
    elapsed = log["info"]["elapsed_slots"]
    slots = [elapsed[a:b].sum() for a, b in zip(starts[:-1], starts[1:], strict=True)]
    pending = log["info"]["decision_pending"]
    np.testing.assert_array_equal(np.flatnonzero(pending[:end]), due[due > 0] - 1)
    assert (log["allowed"][np.flatnonzero(~pending[:end]) + 1] == 1).all()
    return {
        "actions": log["action"][due],
        "vehicles": log["vehicle"][due],
        "rewards": np.array(rewards),
        "slots": np.array(slots),
        "tasks": np.stack(by_decision(log)),
        "metrics": np.array([summary[name] for name in SUMMARY]),
        "final": summary["final_observation"],
        "sums": np.array([log["info"][metric.of].sum() for metric in Vehicular.metrics]),
    }


@cache
def record_of_turns(mode, turns):
    """What happens in eight small episodes when a step runs so many turns (0: no limit)."""
    with jax.enable_x64(True):
        env, params = jaxenv.make(
            "vehicular",
            num_rsus=2,
            num_vehicles=3,
            max_steps=8,
            arrival_probability=0.4,
            mix=(1, 1, 1),
            dtype="float64",
            reward_mode=mode,
            turns_per_step=turns,
        )
        steps = 24 if turns == 0 else 24 + 150 // turns
        return [between_decisions(log) for log in each(play(env, params, steps=steps))]


@pytest.mark.parametrize("mode", ["completion", "own", "marginal"])
@pytest.mark.parametrize("turns", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_turns_per_step_change_nothing(mode, turns):
    for ours, expected in zip(record_of_turns(mode, turns), record_of_turns(mode, 0), strict=True):
        for name, value in expected.items():
            np.testing.assert_allclose(ours[name], value, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("mode", ["completion", "own"])
def test_return_of_an_episode(mode):
    for log in record_of_turns(mode, 0):
        total = log["tasks"][2].sum()
        assert total > 0
        goal = -total if mode == "completion" else 0
        np.testing.assert_allclose(log["rewards"].sum(), goal, rtol=1e-9)


# ---- edges ------------------------------------------------------------------------------------


def test_one_vehicle_and_one_rsu_by_hand():
    with jax.enable_x64(True):
        env, params = jaxenv.make(
            "vehicular",
            num_rsus=1,
            num_vehicles=1,
            scenario="given",
            arrival_probability=0.5,
            max_steps=100,
            dtype="float64",
        )
        params = params.replace(initial_position_m=jnp.array([115.0]))
        params = params.replace(initial_speed_mps=jnp.zeros(1))
        logs = each(play(env, params, kind=ANY))
    flops, bits = oracle.vgg16_blocks()
    # Zone 110, RSU at 150 m: its copy at -150 m has not been left, so the distance is 260 m.
    config = oracle.Config.default(num_rsus=1, num_vehicles=1)
    rate_bps = 10e6 * oracle.spectral_efficiency(config, 7.5, 260.0, 10e6)
    firsts = []
    for log in logs:
        due = log["info"]["decision"] >= 0
        latency_s, success, _ = by_decision(log)
        assert success.all()
        first = np.asarray(env.decode(log["action"][due])[2])
        firsts += first.tolist()
        expected = [
            0.5 * flops[:k].sum() / 5e9
            + (bits[k - 1] / rate_bps + flops[k:].sum() / 60e9 if k < 9 else 0)
            for k in first
        ]
        np.testing.assert_allclose(latency_s, expected, rtol=1e-9)
    assert len(set(firsts)) > 4


@pytest.mark.skipif(not ROAD.exists(), reason="the recorded road is not here")
def test_recorded_road():
    env, params = jaxenv.make("vehicular", trace=str(ROAD), max_steps=40, mix=(1, 1, 1))
    assert env.num_vehicles == params.trace_position_m.shape[1] >= 31
    assert params.road_period_m >= 2600
    logs = each(play(env, params, kind=ANY, count=4, steps=200))
    left = 0
    for log in logs:
        _, summary = last(log)
        assert summary["num_tasks"] > 20
        assert 0 < summary["success_rate"] <= 1 and 0 < summary["latency_s"] < summary["cost_s"]
        assert np.isfinite(log["info"]["final_observation"]).all()
        latency_s, success, cost_s = by_decision(log)
        assert np.isfinite(cost_s).all() and (cost_s > 0).all()
        assert summary["num_tasks"] == success.sum() + sum(summary[n] for n in SUMMARY[4:])
        left += summary["left_road"]
    assert left > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"turns_per_step": 2}, {"reward_mode": "marginal", "observation": "paper"}],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_keeps_the_contract_of_an_environment(options):
    env, params = jaxenv.make(
        "vehicular", num_rsus=2, num_vehicles=2, arrival_probability=0.5, **options
    )
    check_environment(env, params, num_steps=24, num_envs=2)
