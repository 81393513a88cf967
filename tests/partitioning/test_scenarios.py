"""Users' networks and tables; what cannot be simulated is refused in one line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxenv
from jaxenv import dnn
from jaxenv.errors import ConfigError
from runs.settings import build_env, environment_settings, stored_yaml
from tests.scenarios import check_leaves_are, check_refused

NAN, INF = float("nan"), float("inf")
PROFILE = """layer,work [FLOP],output [element],parameters [count]
input,0,3000,0
first,2000000,500,10
second,4000000,100,20
third,1000000,50,30
"""
BAD = [
    # options, field that the message names, words of the message
    ({"num_blocks": 0}, "num_blocks", "at least 1"),
    ({"num_blocks": 37}, "num_blocks", "at most 36"),
    ({"num_blocks": 6.0}, "num_blocks", "6.0"),
    ({"num_servers": 0}, "num_servers", "at least 1"),
    ({"max_tasks": 0}, "max_tasks", "at least 1"),
    ({"table_rows": -1}, "table_rows", "at least 0"),
    ({"source": "csv"}, "source", "choose one of generated, table"),
    ({"source": "table"}, "table_rows", "at least 1"),
    ({"downlink": "paid"}, "downlink", "charge, free"),
    ({"energy": "none"}, "energy", "literal, uplink"),
    ({"observation": "short"}, "observation", "full, compact, paper"),
    ({"dtype": "float64"}, "dtype", "enable 64-bit mode first"),
    ({"slot_s": 0}, "slot_s", "positive finite"),
    ({"slot_s": NAN}, "slot_s", "NaN"),
    ({"device_hz": -1.5e9}, "device_hz", "positive finite"),
    ({"device_hz": "1.5 GHz"}, "device_hz", "'1.5 GHz'"),
    ({"device_ghz": 1.5}, "partitioning.device_ghz", "known names are"),
    ({"server_hz": [2e9, 2e9]}, "server_hz", "shape (4,)"),
    ({"server_hz": [2e9, 2e9, 0, 2e9]}, "server_hz", "positive finite"),
    ({"server_enabled": [1, 0, 1, 0.5]}, "server_enabled", "true or false"),
    ({"wired_rate_bps": INF}, "wired_rate_bps", "positive finite"),
    ({"rate_range_bps": [16e6, 6.4e6]}, "rate_range_bps", "lowest rate first"),
    ({"rate_range_bps": [0, 6.4e6]}, "rate_range_bps", "positive finite"),
    ({"table_tasks": [60.0], "source": "generated"}, "table_tasks", 'unless source="table"'),
    ({"rate_range_bps": [4e-17, 6.4e6]}, "time of a transfer", "rate_range_bps, wired_rate_bps"),
    ({"device_hz": 1e-30}, "time of a block", "have to give 0 to 1e+06 s"),
    ({"correlation": 1.0}, "correlation", "[0, 1)"),
    ({"throttle": 0.0}, "throttle", "(0, 1]"),
    ({"throttle": 1.5}, "throttle", "(0, 1]"),
    ({"sharing": -1}, "sharing", "0 or more"),
    ({"penalty_weight": -1}, "penalty_weight", "0 or more"),
    ({"tolerated_delay_s": -1}, "tolerated_delay_s", "0 or more"),
    ({"battery_j": 0}, "battery_j", "positive finite"),
    ({"task_rate": 0}, "task_rate", "positive finite"),
    ({"task_rate": 150}, "task_rate", "raise max_tasks"),
    ({"max_steps": 0}, "max_steps", "at least 1 slot"),
    ({"block_flops": [1.0] * 5}, "block_flops", "shape (6,)"),
    ({"block_flops": -1.0}, "block_flops", "0 or more"),
    ({"table_tasks": [2.5]}, "table_tasks", "whole numbers"),
    ({"table_tasks": [-2]}, "table_tasks", "whole numbers"),
    ({"table_tasks": 60}, "table_tasks", "one row per slot"),
    ({"table_tasks": [[60], [60, 60]]}, "table_tasks", "one row per slot"),
    ({"table_rate_bps": [[1e7, 1e7]]}, "table_rate_bps", "shape (1, 4)"),
    ({"table_rate_bps": [[1e7, 1e7, 0, 1e7]]}, "table_rate_bps", "positive finite"),
    ({"table_background_s": [[-2, 0, 0, 0]]}, "table_background_s", "0 or more"),
    ({"network": "vgg17"}, "network", "vgg16_cifar10"),
    ({"network": "missing.csv"}, "network", "cannot be read"),
    ({"network": "resnet32", "num_blocks": 20}, "network", "integer in 1..19"),
    ({"input_shape": 32}, "network", "not valid"),
    ({"input_shape": (3, 0, 32)}, "network", "three positive integers"),
]


@pytest.mark.quick
@pytest.mark.parametrize(("options", "field", "words"), BAD, ids=str)
def test_refused_in_one_line(options, field, words):
    check_refused("partitioning", options, field, words)


@pytest.mark.quick
def test_the_edges_of_what_is_valid_are_accepted():
    """One slot, no memory of the slot before, no throttling, one rate, nothing that costs."""
    leaves = {
        "max_steps": 1,
        "correlation": 0,
        "throttle": 1,
        "rate_range_bps": [8e6, 8e6],
        "block_flops": 0,
        "background": 0,
        "sharing": 0,
        "tolerated_delay_s": 0,
        "penalty_weight": 0,
    }
    tables = {"table_tasks": [0], "table_background_s": [[0] * 4]}
    env, params = jaxenv.make("partitioning", **leaves, **tables)
    check_leaves_are(params, **{name: np.float32(value) for name, value in leaves.items()})
    assert env.source == "table" and (params.table_tasks == 0).all()


@pytest.mark.quick
def test_the_configuration_names_every_setting():
    import conf

    given = set(stored_yaml(next(iter(conf.__path__)) + "/env/partitioning.yaml"))
    known = set(environment_settings(jaxenv.registry.environment_class("partitioning")))
    assert given == known | {"name", "network", "input_shape", "trace"}
    node = dict.fromkeys(given) | {"name": "partitioning", "num_servers": 3, "sharing": 0.5}
    node |= {"network": "nin", "server_enabled": [True, True, False]}
    env, params = build_env({"env": node, "precision": "float32"})
    assert env.num_servers == 3 and float(params.sharing) == 0.5
    np.testing.assert_array_equal(params.server_enabled, [True, True, False])
    assert params.block_flops.sum() == 446_568_320


@pytest.mark.quick
def test_the_published_scenario():
    """Rates of 0.8 to 2 MB/s, clocks in Gcycle/s."""
    _, params = jaxenv.make("partitioning")
    check_leaves_are(
        params,
        max_steps=600,
        task_rate=60,
        cycles_per_flop=1,
        device_hz=1.5e9,
        server_hz=1e9 * np.array([2.1, 1.7, 2.5, 1.9]),
        capacitance=1e-26,
        transmit_power_w=0.5,
        rate_range_bps=[0.8 * 8e6, 2 * 8e6],
        wired_rate_bps=100e6,
        correlation=0.9,
        background=1,
        slot_s=15,
        sharing=1,
        backlog_max_s=60,
        tolerated_delay_s=[4] * 6,
        penalty_weight=1,
        battery_j=100e3,
        throttle=0.5,
        server_enabled=[True] * 4,
    )


@pytest.mark.quick
def test_networks_from_csv(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(PROFILE)
    for network in (str(path), dnn.read_csv(path)):
        env, params = jaxenv.make("partitioning", network=network, num_blocks=2, num_servers=3)
        np.testing.assert_array_equal(params.block_flops, [2e6, 5e6])
        np.testing.assert_array_equal(params.block_bytes, [40, 200])
        np.testing.assert_array_equal(params.block_input_bits, [24_000, 16_000])
        assert env.action_space.num_values == (4, 4)


def contexts(env, params, seed, slots):
    """The contexts of an episode with all blocks on the device."""
    _, state = env.reset(jax.random.key(seed), params)
    seen = [state.context]
    for _ in range(slots - 1):
        state = env.transition(state, jnp.zeros(env.num_blocks, jnp.int32), params)[1]
        seen.append(state.context)
    return jax.tree.map(lambda *x: np.stack(x), *seen)


def test_what_a_table_lacks_is_drawn_as_without_one():
    rates = np.full((3, 4), 8e6)
    rates[1, 2] = -1
    env, params = jaxenv.make("partitioning", table_rate_bps=rates, num_blocks=1)
    assert env.source == "table" and env.table_rows == 3
    seen = contexts(env, params, 3, 2)
    drawn = contexts(*jaxenv.make("partitioning", num_blocks=1), 3, 2)
    np.testing.assert_array_equal(seen.num_tasks, drawn.num_tasks)
    np.testing.assert_array_equal(seen.background_s, drawn.background_s)
    expected = np.where(rates[:2] < 0, drawn.rate_bps, 8e6)
    np.testing.assert_array_equal(seen.rate_bps, expected.astype(np.float32))


def test_measured_slots(tmp_path):
    """Each server's own rates, or those of one link; background and tasks if measured."""
    path = tmp_path / "slots.csv"
    path.write_text("rate 2 [bit/s],rate 1 [bit/s],tasks [1]\n2e6,4e6,50\n3e6,5e6,70\n")
    env, params = jaxenv.make("partitioning", trace=str(path), num_servers=2, num_blocks=1)
    seen = contexts(env, params, 0, 2)
    np.testing.assert_array_equal(seen.rate_bps, [[4e6, 2e6], [5e6, 3e6]])
    np.testing.assert_array_equal(seen.num_tasks, [50, 70])
    assert int(params.max_steps) == 2
    np.testing.assert_array_equal(params.rate_range_bps, [2e6, 5e6])
    path.write_text("rate [bit/s],background 1 [s],background 2 [s]\n7e6,0,1.5\n")
    sizes = {"num_servers": 2, "num_blocks": 1}
    env, params = jaxenv.make("partitioning", trace=str(path), max_steps=9, **sizes)
    seen = contexts(env, params, 0, 2)
    np.testing.assert_array_equal(seen.rate_bps, np.full((2, 2), 7e6))
    np.testing.assert_array_equal(seen.background_s, [[0, 1.5]] * 2)
    assert seen.num_tasks[0] != seen.num_tasks[1] and int(params.max_steps) == 9


def test_measured_tasks_alone_leave_the_rates_as_they_are_drawn(tmp_path):
    path = tmp_path / "slots.csv"
    path.write_text("tasks [1]\n50\n70\n")
    env, params = jaxenv.make("partitioning", trace=str(path), num_blocks=1)
    seen = contexts(env, params, 3, 2)
    np.testing.assert_array_equal(seen.num_tasks, [50, 70])
    drawn = contexts(*jaxenv.make("partitioning", num_blocks=1), 3, 2)
    np.testing.assert_array_equal(seen.rate_bps, drawn.rate_bps)


def test_rewards_are_seen_in_units_of_100_s():
    env, params = jaxenv.make("partitioning")
    assert env.reward_unit(params) == 100 and env.reward_unit(params).dtype == np.float32


@pytest.mark.quick
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("rate [Mbit/s]\n5\n", "give 'rate [bit/s]'"),
        ("rate 1 [bit/s]\n5e6\n", "it lacks the column 'rate 2 [bit/s]'"),
        ("rate [bit/s],rate 1 [bit/s]\n5e6,5e6\n", "give 'rate [bit/s]' or one per server"),
        ("rate [bit/s]\n5e6\n0\n", "rate [bit/s]: give positive numbers, not 0"),
        ("tasks [1]\n-1\n", "tasks [1]: give numbers, 0 or more, not -1"),
        ("rate [bit/s]\nfast\n", "line 2, rate [bit/s]: 'fast'"),
        ("speed\n5\n", "give some of"),
    ],
)
def test_bad_slots_are_refused(tmp_path, text, words):
    path = tmp_path / "slots.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError) as error:
        jaxenv.make("partitioning", trace=str(path), num_servers=2)
    assert str(error.value).startswith("trace: ") and words in str(error.value)
    assert "\n" not in str(error.value)


def test_more_than_nine_servers_repeat_the_clocks():
    _, params = jaxenv.make("partitioning", num_servers=11)
    np.testing.assert_array_equal(params.server_hz[9:], params.server_hz[:2])
