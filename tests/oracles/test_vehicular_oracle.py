"""The slow vehicular version against numbers worked by hand, identities and bounds."""

import dataclasses
import math

import numpy as np
import pytest

from .vehicular import (
    ALLOCATIONS,
    Config,
    Scenario,
    SlowVehicular,
    kkt_shares,
    local_latency_s,
    lower_bound,
    spectral_efficiency,
)

ALEXNET, VGG16, RESNET50 = range(3)


def scripted(
    config, position_m, speed, submissions, power_dbm=10.0, vehicle_flops=5e9, model=VGG16
):
    """A scenario in which vehicle i asks in slot k for each (k, i) of ``submissions``."""
    vehicles = config.num_vehicles
    arrival = np.zeros((config.num_slots, vehicles), bool)
    for slot, vehicle in submissions:
        arrival[slot, vehicle] = True
    return Scenario(
        position_m=np.broadcast_to(np.asarray(position_m, float), vehicles),
        speed=np.broadcast_to(np.asarray(speed, float), vehicles),
        power_dbm=np.full(vehicles, power_dbm),
        vehicle_flops=np.full(vehicles, vehicle_flops),
        arrival=arrival,
        model=np.full((config.num_slots, vehicles), model),
    )


def play(env, policy):
    """Runs an episode to its end; returns the results of its steps."""
    results = []
    while not env.done:
        results.append(env.step(policy(env)))
    return results


def random_valid(rng):
    """A policy that draws uniformly from the mask."""
    return lambda env: int(rng.choice(np.flatnonzero(env.mask())))


def random_any(rng):
    """A policy that draws from all actions, valid or not."""
    return lambda env: int(rng.integers(env.config.num_actions))


def mixed_config(**changes):
    """A small, busy setting with all three DNNs in which tasks share, fail and succeed."""
    values = dict(num_vehicles=6, num_slots=25, arrival_probability=0.3, dnn_mix=(1.0, 1.0, 1.0))
    values.update(changes)
    return Config.default(**values)


def moving_trace(config, scenario, direction=1, rows=None):
    """The scenario with its constant speeds written out as a mobility table."""
    rows = config.max_slots + 2 if rows is None else rows
    slots = np.arange(rows)[:, None]
    positions = scenario.position_m + scenario.speed * (slots * config.slot_s)
    return dataclasses.replace(
        scenario,
        trace_position_m=direction * positions,
        trace_active=np.ones(positions.shape, bool),
        trace_direction=np.full(config.num_vehicles, direction),
    )


# -- check values -----------------------------------------------------------------------------


@pytest.mark.quick
def test_kkt_shares():
    shares = kkt_shares([1.0, 4.0, 9.0])
    np.testing.assert_allclose(shares, [1 / 6, 1 / 3, 1 / 2], rtol=1e-15)
    assert np.sum(np.array([1.0, 4.0, 9.0]) / shares) == pytest.approx(36.0, rel=1e-14)


@pytest.mark.quick
@pytest.mark.parametrize(
    "power_dbm, distance_m, bandwidth_mhz, efficiency, rate_mbps",
    [
        (10.0, 100.0, 10.0, 7.812961, 78.129610),
        (10.0, 300.0, 10.0, 2.200910, 22.009101),
        (5.0, 300.0, 5.0, 1.711663, 8.558313),
        (7.5, 10.0, 20.0, 18.466503, 369.330052),
    ],
)
def test_spectral_efficiency(power_dbm, distance_m, bandwidth_mhz, efficiency, rate_mbps):
    e = spectral_efficiency(Config.default(), power_dbm, distance_m, bandwidth_mhz * 1e6)
    assert e == pytest.approx(efficiency, abs=5e-7)
    assert e * bandwidth_mhz == pytest.approx(rate_mbps, abs=5e-7)


@pytest.mark.quick
def test_two_vehicles_share_one_rsu():
    config = Config.default(num_vehicles=2)
    env = SlowVehicular(config, scripted(config, 145.0, 10.0, [(0, 0), (3, 1)]))
    assert (env.slot, env.vehicle) == (0, 0)
    assert env.rolled_order(0)[:2] == [4, 0]
    assert env.rsu_copies_m(0)[4] == -150.0
    env.step(env.encode(1, 1, 1, 9))
    assert (env.slot, env.vehicle) == (3, 1)
    assert env.rolled_order(1)[0] == 0
    result = env.step(env.encode(0, 0, 1, 9))
    assert result["truncated"]
    first, second = env.records
    assert (first.vehicle, second.vehicle) == (0, 1)
    assert first.outcome == second.outcome == "success"
    assert first.upload_end_s == pytest.approx(0.108974, abs=5e-7)
    assert first.end_s == pytest.approx(15.884232, abs=5e-7)
    assert first.latency_s == pytest.approx(15.884232, abs=5e-7)
    assert second.upload_end_s == pytest.approx(3.133751, abs=5e-7)
    assert second.end_s == pytest.approx(18.909009, abs=5e-7)
    assert second.latency_s == pytest.approx(15.909009, abs=5e-7)


@pytest.mark.quick
def test_block_profiles():
    table = {
        ALEXNET: (
            [0, 2.653141, 8.694374, 14.864155, 0.075497, 0.033554, 0.008192],
            [22.1184, 28.981248, 21.356544, 0.294912, 0.131072, 0.131072, 0.032],
        ),
        VGG16: (
            [0, 71.132774, 101.921587, 169.869312, 169.869312, 50.960794]
            + [0.205521, 0.033554, 0.008192],
            [22.1184, 471.8592, 235.9296, 117.9648, 58.9824, 0.802816]
            + [0.131072, 0.131072, 0.032],
        ),
        RESNET50: (
            [0, 4.335206, 24.536678, 37.748736, 53.791949, 30.303846, 0.004096],
            [22.1184, 117.9648, 471.8592, 235.9296, 117.9648, 0.065536, 0.032],
        ),
    }
    totals = {ALEXNET: 26.329, VGG16: 564.001, RESNET50: 150.721}
    for model, (flops, bits) in enumerate(Config.default().profiles):
        np.testing.assert_allclose(flops / 1e9, table[model][0], atol=5.1e-7)
        np.testing.assert_allclose(bits / 1e6, table[model][1], rtol=1e-12)
        assert flops.sum() / 1e9 == pytest.approx(totals[model], abs=5e-4)


@pytest.mark.parametrize("model, bound_s", [(VGG16, 9.51), (RESNET50, 2.63), (ALEXNET, 0.55)])
def test_lower_bound_at_the_defaults(model, bound_s):
    bound = lower_bound(Config.default(), 5e9, model)
    assert bound == pytest.approx(bound_s, abs=0.011)
    rest = Config.default().profiles[model][0].sum() / 60e9
    assert bound == pytest.approx(0.108974 + rest, abs=1e-6)


@pytest.mark.quick
def test_first_cuts_and_action_index():
    config = Config.default(num_vehicles=1)
    expected = {ALEXNET: [1, 3], VGG16: [1, 6], RESNET50: [1, 6]}
    for model, cuts in expected.items():
        env = SlowVehicular(config, scripted(config, 145.0, 10.0, [(0, 0)], model=model))
        assert env.first_cuts() == cuts
    assert config.num_actions == 1125
    for index in range(0, config.num_actions, 7):
        helper, deliverer, k1, k2 = env.decode(index)
        pair = (k1 - 1) * 9 - (k1 - 1) * (k1 - 2) // 2 + (k2 - k1)
        assert (helper * 5 + deliverer) * 45 + pair == index
        assert env.encode(helper, deliverer, k1, k2) == index


def test_mask_of_vgg16_with_two_rsus_in_reach():
    config = Config.default(num_vehicles=1)
    env = SlowVehicular(config, scripted(config, 175.0, 0.0, [(0, 0)]))
    assert env.mask().sum() == 2 * (4 * 44 + 8) + 1
    assert env.mask()[env.local_action()]
    assert not env.mask()[env.encode(1, 1, 9, 9)]
    assert not env.mask()[env.encode(0, 0, 1, 6)]


# -- hand-worked tasks ------------------------------------------------------------------------


def test_local_latency_is_exact():
    config = mixed_config()
    rng = np.random.default_rng(0)
    env = SlowVehicular(config, Scenario.random(config, rng))
    play(env, SlowVehicular.local_action)
    assert len(env.records) == env.num_decisions > 10
    for record in env.records:
        assert record.outcome == "success"
        assert record.latency_s == pytest.approx(
            0.5 * config.profiles[record.model][0].sum() / 5e9, rel=1e-12
        )


@pytest.mark.quick
def test_wired_hop_and_final_coverage():
    """A parked vehicle at 170 m: both RSUs in reach deliver, the third one does not."""
    config = Config.default(num_vehicles=1)
    rate_bps = 10e6 * spectral_efficiency(config, 10.0, 20.0, 10e6)
    flops, bits = config.profiles[VGG16]
    expected = bits[0] / rate_bps + flops[:6].sum() / 60e9 + bits[5] / 1e9 + flops[6:].sum() / 60e9
    for deliverer, outcome in [(1, "success"), (2, "delivery_failure")]:
        env = SlowVehicular(config, scripted(config, 175.0, 0.0, [(0, 0)]))
        env.step(env.encode(0, deliverer, 1, 6))
        (record,) = env.records
        assert record.outcome == outcome
        assert record.latency_s == pytest.approx(expected, rel=1e-12)
        assert record.cost_s == pytest.approx((1 if outcome == "success" else 3) * expected)


def test_upload_failures_cost_the_local_latency():
    """On entry with a far RSU; at a slot start when the vehicle leaves during the upload."""
    config = Config.default(num_vehicles=1)
    env = SlowVehicular(config, scripted(config, 175.0, 0.0, [(0, 0)]))
    env.step(env.encode(2, 2, 1, 9))
    (record,) = env.records
    assert record.outcome == "upload_failure" and record.end_s == 0.0
    assert record.cost_s == pytest.approx(3 * 0.5 * config.profiles[VGG16][0].sum() / 5e9)
    assert math.isnan(record.upload_end_s)

    env = SlowVehicular(config, scripted(config, 445.0, 10.0, [(0, 0)]))
    env.step(env.encode(0, 0, 2, 9))
    (record,) = env.records
    assert record.outcome == "upload_failure" and record.end_s == pytest.approx(35.566387 / 5)

    config = Config.default(num_vehicles=1, bandwidth_hz=1e6)
    env = SlowVehicular(config, scripted(config, 435.0, 10.0, [(0, 0)]))
    env.step(env.encode(0, 0, 1, 9))
    (record,) = env.records
    assert record.outcome == "upload_failure" and record.end_s == 3.0
    assert env.observation()[-1] == pytest.approx((2250 - 2430) / 300)


@pytest.mark.quick
def test_serial_and_fifo_order():
    """Two parked vehicles submit together: serial finishes 0 before 1 uploads, fifo pipelines."""
    uploads_s = {}
    for allocation in ("serial", "fifo"):
        config = Config.default(num_vehicles=2, allocation=allocation)
        env = SlowVehicular(config, scripted(config, 175.0, 0.0, [(0, 0), (0, 1)]))
        play(env, SlowVehicular.edge_action)
        first, second = env.records
        upload_s = 22.1184e6 / (10e6 * spectral_efficiency(config, 10.0, 20.0, 10e6))
        compute_s = config.profiles[VGG16][0].sum() / 60e9
        assert first.latency_s == pytest.approx(upload_s + compute_s, rel=1e-12)
        uploads_s[allocation] = second.upload_end_s
        wait_s = upload_s + compute_s if allocation == "serial" else compute_s
        assert second.latency_s == pytest.approx(wait_s + upload_s + compute_s, rel=1e-12)
    assert uploads_s["fifo"] == pytest.approx(2 * upload_s)
    assert uploads_s["serial"] == pytest.approx(2 * upload_s + compute_s)


def test_remaining_weights_follow_what_is_left():
    """Vehicle 1 joins in slot 3 with W = 564.001 G; the weight of vehicle 0 shrinks each slot."""
    config = Config.default(num_vehicles=2, share_weights="remaining")
    env = SlowVehicular(config, scripted(config, 145.0, 10.0, [(0, 0), (3, 1)]))
    env.step(env.edge_action())
    env.step(env.edge_action())
    total = config.profiles[VGG16][0].sum()
    left = [total, total]
    upload_s = [r.upload_end_s for r in sorted(env.records, key=lambda r: r.vehicle)]
    left[0] = total - 60e9 * (upload_s[1] - upload_s[0])
    root = [math.sqrt(total - 60e9 * (3.0 - upload_s[0])), math.sqrt(total)]
    now = upload_s[1]
    while min(left) > 0:
        slot_end = math.floor(now) + 1.0
        rates = [60e9 * r / sum(root) for r in root]
        dt = min(slot_end - now, left[0] / rates[0], left[1] / rates[1])
        left = [
            max(w - r * dt, 0.0) if w - r * dt > 1.0 else 0.0
            for w, r in zip(left, rates, strict=True)
        ]
        now += dt
        root = [math.sqrt(w) for w in left] if now == slot_end else root
    ends = {record.vehicle: record.end_s for record in env.records}
    finished = int(np.argmin(left))
    assert ends[finished] == pytest.approx(now, rel=1e-9)
    assert ends[1 - finished] == pytest.approx(now + left[1 - finished] / 60e9, rel=1e-9)


def test_unfinished_tasks_are_scored_at_the_limit():
    config = Config.default(num_vehicles=1, num_slots=2, max_slots=4, rsu_flops=1e9)
    env = SlowVehicular(config, scripted(config, 175.0, 0.0, [(1, 0)]))
    result = env.step(env.edge_action())
    (record,) = env.records
    assert record.outcome == "unfinished" and record.end_s == 4.0
    assert record.cost_s == pytest.approx(3 * local_latency_s(config, 5e9, VGG16))
    assert result["truncated"] and result["elapsed_slots"] == 3


def test_episode_without_tasks():
    config = Config.default(num_vehicles=2)
    env = SlowVehicular(config, scripted(config, 0.0, 10.0, []))
    assert not env.done and not env.decision_pending
    np.testing.assert_array_equal(np.flatnonzero(env.mask()), [0])
    result = env.step(0)
    assert env.done and result["truncated"] and result["reward_completion"] == 0
    assert env.records == []


# -- observation ------------------------------------------------------------------------------


def test_observation_entries():
    config = Config.default(num_vehicles=2)
    env = SlowVehicular(config, scripted(config, 145.0, 10.0, [(0, 0), (3, 1)], power_dbm=8.0))
    empty = env.observation()
    np.testing.assert_allclose(empty[:15], [1] * 10 + [0] * 5)
    np.testing.assert_allclose(empty[15:], [0.5, 1.0, 0.8, -1.0], rtol=1e-12)
    env.step(env.edge_action())
    seen = env.observation("extended", model_onehot=True)
    assert seen.shape == (3 * 5 + 4 + 3 + 3 * 5,)
    upload_s = 22.1184e6 / (10e6 * spectral_efficiency(config, 8.0, 10.0, 10e6))
    left = config.profiles[VGG16][0].sum() - 60e9 * (3.0 - upload_s)
    np.testing.assert_allclose(seen[10:15], [left / 600e9, 0, 0, 0, 0], rtol=1e-12)
    assert seen[18] == pytest.approx((150 - 170) / 300)
    np.testing.assert_array_equal(seen[19:22], [0, 1, 0])
    np.testing.assert_array_equal(seen[22:], [0] * 10 + [0.5, 0, 0, 0, 0])


def test_final_observation_shows_the_load_only_before_the_drain():
    config = Config.default(num_vehicles=2, num_slots=3)
    env = SlowVehicular(config, scripted(config, 175.0, 0.0, [(1, 0)]))
    env.step(env.edge_action())
    assert env.final_observation("completion")[10:15].sum() == 0
    upload_s = 22.1184e6 / (10e6 * spectral_efficiency(config, 10.0, 20.0, 10e6))
    left = config.profiles[VGG16][0].sum() - 60e9 * (2.0 - upload_s)
    for mode in ("own", "marginal"):
        assert env.final_observation(mode)[10] == pytest.approx(left / 600e9, rel=1e-12)


# -- traces -----------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("short", [False, True])
def test_trace_of_constant_speeds_gives_the_same_tasks(direction, short):
    """Also driving the mirrored road backwards, and with a table that ends in slot 15."""
    config = mixed_config()
    mirrored = dataclasses.replace(config, rsu_position_m=direction * config.rsu_position_m)
    scenario = Scenario.random(config, np.random.default_rng(3))
    trace = moving_trace(config, scenario, direction, rows=15 if short else None)
    plain, traced = SlowVehicular(config, scenario), SlowVehicular(mirrored, trace)
    rng = np.random.default_rng(4)
    outcomes = set()
    while not plain.done:
        np.testing.assert_array_equal(plain.mask(), traced.mask())
        np.testing.assert_allclose(plain.observation(), traced.observation(), atol=1e-9)
        action = int(rng.choice(np.flatnonzero(plain.mask())))
        a, b = plain.step(action), traced.step(action)
        assert a["elapsed_slots"] == b["elapsed_slots"] and a["truncated"] == b["truncated"]
        for x, y in zip(a["ended"], b["ended"], strict=True):
            assert (x.vehicle, x.decision, x.outcome) == (y.vehicle, y.decision, y.outcome)
            assert x.latency_s == pytest.approx(y.latency_s, rel=1e-9)
            outcomes.add(x.outcome)
    assert {"success", "delivery_failure"} <= outcomes


def test_vehicle_that_leaves_the_road():
    """Active in slots 0..2: its offloaded task ends at 3 s, its Local task goes on."""
    config = Config.default(num_vehicles=2)
    scenario = moving_trace(config, scripted(config, 145.0, 10.0, [(0, 0), (0, 1), (5, 0)]))
    scenario.trace_active[3:] = False
    env = SlowVehicular(config, scenario)
    env.step(env.edge_action())
    env.step(env.local_action())
    left, local = env.records
    assert (left.vehicle, left.outcome, left.end_s) == (0, "left_road", 3.0)
    assert left.cost_s == pytest.approx(3 * local.latency_s)
    assert (local.vehicle, local.outcome) == (1, "success")
    assert env.done and env.num_decisions == 2
    assert [env.speed(0, slot) for slot in (0, 2, 3, 500)] == [10.0, 10.0, 0.0, 0.0]


# -- identities and bounds --------------------------------------------------------------------


@pytest.mark.parametrize("share_weights", ["total", "remaining"])
@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_rewards_bound_and_projection(allocation, share_weights):
    config = mixed_config(allocation=allocation, share_weights=share_weights)
    rng = np.random.default_rng(7)
    env = SlowVehicular(config, Scenario.random(config, rng))
    draw_valid, draw_any = random_valid(rng), random_any(rng)
    carried, marginal, completion, records, failures = 0.0, 0.0, 0.0, [], 0
    while not env.done:
        fresh = env.phi()
        assert fresh == pytest.approx(carried, rel=1e-9, abs=1e-8)
        action = (draw_valid if rng.random() < 0.8 else draw_any)(env)
        before, after = env.phi(), env.phi_after(action)
        marginal += before - after
        assert env.marginal_reward(action) == before - after
        result = env.step(action)
        completion += result["reward_completion"]
        records += result["ended"]
        carried = after - sum(record.cost_s for record in result["ended"])
    assert carried == pytest.approx(0.0, abs=1e-7)
    total = sum(record.cost_s for record in env.records)
    assert marginal == pytest.approx(-total, rel=1e-9)
    assert completion == pytest.approx(-total, rel=1e-12)
    assert sorted(r.decision for r in records) == list(range(env.num_decisions))
    for record in records:
        bound = lower_bound(config, 5e9, record.model)
        assert record.cost_s >= bound * (1 - 1e-5)
        failures += not record.success
    assert 0 < failures < len(records)


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_capacity_bound_in_the_default_setting(allocation):
    config = Config.default(allocation=allocation)
    rng = np.random.default_rng(11)
    env = SlowVehicular(config, Scenario.random(config, rng))
    play(env, random_valid(rng))
    assert len(env.records) == env.num_decisions > 40
    for record in env.records:
        power_dbm = env.scenario.power_dbm[record.vehicle]
        assert record.cost_s >= lower_bound(config, 5e9, record.model, power_dbm) * (1 - 1e-5)


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_halving_the_slot_changes_no_latency_of_parked_vehicles(allocation):
    coarse = mixed_config(allocation=allocation, num_slots=80)
    fine = mixed_config(allocation=allocation, slot_s=0.5, num_slots=160)
    scenario = Scenario.random(coarse, np.random.default_rng(5))
    scenario = dataclasses.replace(scenario, speed=np.zeros(coarse.num_vehicles))
    arrival = np.zeros((160, coarse.num_vehicles), bool)
    arrival[::2] = scenario.arrival
    halved = dataclasses.replace(
        scenario, arrival=arrival, model=np.repeat(scenario.model, 2, axis=0)
    )
    tasks = []
    for config, case in ((coarse, scenario), (fine, halved)):
        env = SlowVehicular(config, case)
        play(env, random_valid(np.random.default_rng(6)))
        tasks.append(sorted(env.records, key=lambda record: record.decision))
    assert len(tasks[0]) > 20
    for a, b in zip(*tasks, strict=True):
        assert (a.vehicle, a.model, a.outcome) == (b.vehicle, b.model, b.outcome)
        assert a.slot * 1.0 == b.slot * 0.5
        assert a.latency_s == pytest.approx(b.latency_s, rel=1e-9)


def test_alone_on_the_road_greedy_realises_its_projection():
    config = Config.default(num_vehicles=1, num_slots=60, arrival_probability=0.5)
    env = SlowVehicular(config, Scenario.random(config, np.random.default_rng(8)))
    projected = []
    while not env.done:
        action = env.greedy_action()
        assert action == env.social_action()
        projected.append(env.own_cost(action))
        assert projected[-1] <= min(
            env.own_cost(env.edge_action()), env.own_cost(env.local_action())
        )
        env.step(action)
    realised = [r.cost_s for r in sorted(env.records, key=lambda r: r.decision)]
    np.testing.assert_allclose(realised, projected, rtol=1e-9)
