"""The environment against an independent slow NumPy version, episode by episode."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxenv
from jaxenv.vehicular import (
    DELIVERY_FAILURE,
    LEFT_ROAD,
    SUCCESS,
    UNFINISHED,
    UPLOAD_FAILURE,
)
from tests.oracles.vehicular import Config, Scenario, SlowVehicular

OUTCOMES = {
    "success": SUCCESS,
    "upload_failure": UPLOAD_FAILURE,
    "delivery_failure": DELIVERY_FAILURE,
    "left_road": LEFT_ROAD,
    "unfinished": UNFINISHED,
}
SIZES = {"num_rsus": 4, "num_vehicles": 5}
SLOTS = 25
STEPS = 60


def scenario_of(config: Config, rng: np.random.Generator, trace: bool) -> Scenario:
    scenario = Scenario.random(config, rng)
    scenario.vehicle_flops = rng.uniform(4e9, 6e9, config.num_vehicles)
    if trace:
        rows = SLOTS + 10
        speed = rng.uniform(5, 20, (rows, config.num_vehicles))
        direction = rng.choice([-1.0, 1.0], config.num_vehicles)
        path = rng.uniform(0, 1200, config.num_vehicles) + direction * np.cumsum(speed, axis=0)
        active = np.ones((rows, config.num_vehicles), bool)
        for vehicle in range(config.num_vehicles):
            gap = rng.integers(1, rows - 3)
            active[gap : gap + rng.integers(1, 6), vehicle] = rng.random() < 0.3
        scenario = dataclasses.replace(
            scenario,
            trace_position_m=path,
            trace_active=active,
            trace_direction=direction,
            trace_start=int(rng.integers(0, 5)),
        )
    return scenario


def play_slowly(config: Config, scenario: Scenario, rng: np.random.Generator, mode: str) -> dict:
    """One episode under random actions, four in five of them valid ones."""
    slow = SlowVehicular(config, scenario)
    log = {name: [] for name in ("action", "observation", "mask", "valid", "elapsed", "ended")}
    log["marginal"] = []
    while not slow.done:
        mask = slow.mask()
        pool = np.flatnonzero(mask) if rng.random() < 0.8 else np.arange(mask.size)
        action = int(rng.choice(pool))
        log["action"].append(action)
        log["observation"].append(slow.observation("extended"))
        log["mask"].append(mask)
        if mode == "marginal":
            log["marginal"].append(slow.marginal_reward(action) if slow.decision_pending else 0.0)
        result = slow.step(action)
        log["valid"].append(result["action_valid"])
        log["elapsed"].append(result["elapsed_slots"])
        log["ended"].append(result["ended"])
    log["final"] = slow.final_observation(mode, "extended")
    return log


def params_of(env, params, config: Config, scenarios: list[Scenario], dtype):
    """The scenarios as one params pytree with a leading axis, and its vmap axes."""

    def stacked(name, kind=None):
        return jnp.asarray(np.stack([getattr(s, name) for s in scenarios]), kind or dtype)

    leaves = {
        "initial_position_m": stacked("position_m"),
        "initial_speed_mps": stacked("speed"),
        "initial_power_dbm": stacked("power_dbm"),
        "initial_vehicle_flops": stacked("vehicle_flops"),
        "arrival": stacked("arrival", bool),
        "model": stacked("model", jnp.int32),
    }
    if env.mobility == "trace":
        leaves |= {
            "trace_position_m": stacked("trace_position_m"),
            "trace_active": stacked("trace_active", bool),
            "trace_direction": stacked("trace_direction"),
            "trace_start": stacked("trace_start", jnp.int32),
        }
    axes = jax.tree.map(lambda _: None, params).replace(**dict.fromkeys(leaves, 0))
    return params.replace(**leaves), axes


@partial(jax.jit, static_argnums=0)
def play(env, params, actions):
    observation, state = env.reset(jax.random.key(0), params)

    def step(carry, action):
        observation, state = carry
        mask = env.action_mask(state, params)
        after, state, reward, _, truncated, info = env.transition(state, action, params)
        return (after, state), (observation, mask, reward, truncated, info)

    return jax.lax.scan(step, (observation, state), actions)[1]


CASES = [
    # allocation, share_weights, reward_mode, mobility, network mix, episodes
    ("kkt", "total", "completion", "constant", (1, 1, 1), 300),
    ("kkt", "total", "marginal", "constant", (1, 2, 1), 100),
    ("kkt", "remaining", "own", "constant", (1, 1, 1), 150),
    ("equal", "total", "completion", "constant", (0, 1, 0), 100),
    ("fifo", "total", "marginal", "constant", (1, 1, 1), 50),
    ("fifo", "total", "own", "constant", (1, 1, 1), 50),
    ("serial", "total", "completion", "constant", (1, 1, 1), 100),
    ("kkt", "total", "own", "trace", (1, 1, 1), 100),
    ("kkt", "total", "marginal", "trace", (1, 1, 1), 50),
]


@pytest.mark.parametrize(
    ("allocation", "weights", "mode", "mobility", "mix", "episodes"),
    CASES,
    ids=lambda value: str(value).replace(" ", ""),
)
def test_same_decisions_same_outcomes(allocation, weights, mode, mobility, mix, episodes):
    compare(allocation, weights, mode, mobility, mix, episodes, "float64", 1e-6)


def test_float32_agrees_with_the_slow_version():
    compare("kkt", "total", "marginal", "constant", (1, 1, 1), 60, "float32", 1e-4)


def compare(allocation, weights, mode, mobility, mix, episodes, dtype, tolerance):
    rng = np.random.default_rng(7)
    config = Config.default(
        **SIZES,
        num_slots=SLOTS,
        max_slots=70,
        allocation=allocation,
        share_weights=weights,
        arrival_probability=0.3,
        dnn_mix=mix,
        bandwidth_hz=rng.uniform(5e6, 20e6, SIZES["num_rsus"]),
        rsu_flops=rng.uniform(20e9, 80e9, SIZES["num_rsus"]),
        road_period_m=6000.0 if mobility == "trace" else 1200.0,
    )
    scenarios = [scenario_of(config, rng, mobility == "trace") for _ in range(episodes)]
    logs = [play_slowly(config, scenario, rng, mode) for scenario in scenarios]
    steps = max(len(log["action"]) for log in logs)
    assert steps <= STEPS
    actions = np.zeros((episodes, STEPS), np.int32)
    for row, log in zip(actions, logs, strict=True):
        row[: len(log["action"])] = log["action"]

    with jax.enable_x64(dtype == "float64"):
        env, params = jaxenv.make(
            "vehicular",
            **SIZES,
            dtype=dtype,
            allocation=allocation,
            share_weights=weights,
            reward_mode=mode,
            mobility=mobility,
            scenario="given",
            arrivals="given",
            model_onehot=False,
            max_steps=SLOTS,
            max_slots=70,
            table_rows=SLOTS,
            trace_rows=SLOTS + 10 if mobility == "trace" else 0,
            mix=mix,
            bandwidth_hz=config.bandwidth_hz,
            rsu_flops=config.rsu_flops,
            road_period_m=config.road_period_m,
            **(
                {"trace_active": np.ones((SLOTS + 10, 5), bool), "trace_position_m": 0.0}
                if mobility == "trace"
                else {}
            ),
        )
        stacked, axes = params_of(env, params, config, scenarios, env.float_dtype)
        out = jax.vmap(lambda p, a: play(env, p, a), in_axes=(axes, 0))(stacked, actions)
        observation, mask, reward, truncated, info = jax.device_get(out)

    close = partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance)
    scale = 564.0  # float32 states carry the rounding of work of this size, in GFLOP
    for e, log in enumerate(logs):
        count = len(log["action"])
        assert truncated[e, count - 1] and not truncated[e, : count - 1].any()
        np.testing.assert_allclose(
            observation[e, :count], log["observation"], rtol=tolerance, atol=tolerance * 10
        )
        np.testing.assert_array_equal(mask[e, :count], log["mask"])
        np.testing.assert_array_equal(info["action_valid"][e, :count], log["valid"])
        np.testing.assert_array_equal(info["elapsed_slots"][e, :count], log["elapsed"])
        close(info["final_observation"][e, count - 1], log["final"])
        finished = jax.tree.map(lambda x, e=e: x[e], info["finished"])
        for t, ended in enumerate(log["ended"]):
            assert sorted(np.flatnonzero(finished["mask"][t])) == sorted(r.vehicle for r in ended)
            for record in ended:
                v = record.vehicle
                assert finished["decision"][t, v] == record.decision
                assert finished["success"][t, v] == record.success
                close(finished["latency_s"][t, v], record.latency_s)
                close(-finished["reward"][t, v], record.cost_s)
        records = [record for ended in log["ended"] for record in ended]
        last = jax.tree.map(lambda x, e=e, last=count - 1: x[e, last], info)
        assert last["num_tasks"] == len(records)
        for name in ("upload_failure", "delivery_failure"):
            assert last[name + "s"] == sum(r.outcome == name for r in records)
        for name in ("left_road", "unfinished"):
            assert last[name] == sum(r.outcome == name for r in records)
        total = sum(record.cost_s for record in records)
        if mode == "marginal":
            np.testing.assert_allclose(
                reward[e, :count], log["marginal"], rtol=tolerance, atol=tolerance * scale
            )
        if mode != "own":
            np.testing.assert_allclose(
                reward[e, :count].sum(), -total, rtol=tolerance, atol=tolerance * scale
            )
        assert not reward[e, count:].any()
