"""What cannot be simulated is refused in one line that names the field and the value."""

from functools import partial

import numpy as np
import pytest

import jaxenv
from agents.baselines.vehicular import Fixed
from jaxenv import dnn
from jaxenv.data.sumo import Trace
from jaxenv.errors import ConfigError
from tests.scenarios import check_leaves_are

pytestmark = pytest.mark.quick

NAN, INF = float("nan"), float("inf")
TABLE = np.ones((5, 10), bool)
PATH = np.zeros((5, 10))
UNEQUAL = [[True], [True, False]]


def trace(positions_m, *, rows=200, speed=10.0, jump_m=0.0):
    """Vehicles from ``positions_m`` on at a speed in m/s; after row 1 they jump ahead."""
    steps = np.arange(rows)[:, None]
    path = np.asarray(positions_m, float) + speed * steps + jump_m * (steps > 1)
    return Trace(path, np.ones(path.shape, bool), np.ones(path.shape[1], int), 1.0)


BAD = [
    # options, field that the message names, words of the message
    ({"num_rsus": 0}, "num_rsus", "0 is not valid; give an integer of at least 1"),
    ({"num_rsus": 2.0}, "num_rsus", "2.0"),
    ({"num_rsus": "5"}, "num_rsus", "'5'"),
    ({"num_rsus": True}, "num_rsus", "True"),
    ({"num_vehicles": -1}, "num_vehicles", "-1"),
    ({"num_networks": 2}, "num_networks", "networks has 3"),
    ({"max_layers": 8}, "max_layers", "8 is not valid; the networks need 9"),
    ({"max_layers": 1}, "max_layers", "at least 2"),
    ({"granularity": "layer", "max_layers": 9}, "max_layers", "the networks need 23"),
    ({"allocation": "greedy"}, "allocation", "choose one of kkt, equal, fifo, serial, insga"),
    ({"allocation": ["kkt"]}, "allocation", "['kkt']"),
    ({"allocator": "osqp"}, "allocator", "choose one of closed, jaxopt"),
    ({"allocator": "jaxopt", "allocation": "fifo"}, "allocator", 'allocation="kkt" only'),
    ({"share_weights": "half"}, "share_weights", "'half'"),
    ({"reward_mode": "dense"}, "reward_mode", "completion, own, marginal"),
    ({"observation": "full"}, "observation", "paper, extended"),
    ({"scenario": "random"}, "scenario", "drawn, given"),
    ({"arrivals": "poisson"}, "arrivals", "drawn, given"),
    ({"mobility": "walk"}, "mobility", "constant, trace"),
    ({"model_onehot": 1}, "model_onehot", "give true or false"),
    ({"turns_per_step": -1}, "turns_per_step", "-1"),
    ({"insga_population": 1}, "insga_population", "at least 2"),
    ({"insga_generations": 0}, "insga_generations", "at least 1"),
    ({"dtype": "float64"}, "dtype", "enable 64-bit mode first"),
    ({"dtype": "float16"}, "dtype", "choose float32 or float64"),
    ({"bandwidth_hz": -1.0}, "bandwidth_hz", "-1.0"),
    ({"bandwidth_hz": [1e6] * 4 + [0.0]}, "bandwidth_hz", "positive finite numbers"),
    ({"bandwidth_hz": NAN}, "bandwidth_hz", "nan"),
    ({"bandwidth_hz": INF}, "bandwidth_hz", "inf"),
    ({"bandwidth_hz": "10 MHz"}, "bandwidth_hz", "'10 MHz'"),
    ({"bandwidth_hz": [1e6] * 4}, "bandwidth_hz", "shape (5,), not shape (4,)"),
    ({"bandwidth_hz": {}}, "bandwidth_hz", "{}"),
    ({"bandwith_hz": 1e6}, "vehicular.bandwith_hz", "known names are"),
    ({"wired_rate_bps": 0}, "wired_rate_bps", "positive"),
    ({"rsu_flops": -6e10}, "rsu_flops", "positive"),
    ({"rsu_flops": 6e10, "num_cores": 12}, "num_cores", "not both"),
    ({"num_cores": 0}, "num_cores", "0 is not valid"),
    ({"num_cores": [12] * 4}, "num_cores", "shape (5,)"),
    ({"num_cores": "12"}, "num_cores", "'12'"),
    ({"speed_range_mps": [0, 0]}, "speed_range_mps", "positive"),
    ({"speed_range_mps": [20, 10]}, "speed_range_mps", "low <= high"),
    ({"speed_range_mps": [1, 2, 3]}, "speed_range_mps", "shape (2,)"),
    ({"power_range_dbm": [10, 5]}, "power_range_dbm", "low <= high"),
    ({"power_range_dbm": [-INF, 5]}, "power_range_dbm", "finite"),
    ({"vehicle_flops_range": [0, 5e9]}, "vehicle_flops_range", "positive"),
    ({"vehicle_flops_range": [1e-40, 5e9]}, "time of a network on a vehicle", "to 1e+06 s"),
    ({"path_loss_slope_db": -3e38}, "signal-to-noise ratio", "path_loss_slope_db"),
    ({"path_loss_intercept_db": 240}, "signal-to-noise ratio", "have to give -100 to 200 dB"),
    ({"spacing_m": 0}, "spacing_m", "0 is not valid; give a positive finite number"),
    ({"spacing_m": [300, 300]}, "spacing_m", "[300, 300]"),
    ({"spacing_m": "300"}, "spacing_m", "'300'"),
    ({"road_period_m": 0}, "road_period_m", "positive"),
    ({"radius_m": -1}, "radius_m", "-1.0"),
    ({"zone_m": 0}, "zone_m", "positive"),
    ({"min_distance_m": 0}, "min_distance_m", "positive"),
    ({"tolerance_m": 301}, "tolerance_m", "at most radius_m = 300"),
    ({"tolerance_m": -0.5}, "tolerance_m", "-0.5 is not valid; give at least 0"),
    ({"slot_s": 0}, "slot_s", "positive"),
    ({"max_steps": 0}, "max_steps", "at least 1"),
    ({"max_steps": 10.5}, "max_steps", "10.5 is not valid; give an integer"),
    ({"max_steps": "200"}, "max_steps", "'200'"),
    ({"max_steps": [10, 20]}, "max_steps", "[10, 20]"),
    ({"max_steps": [[10], [10, 20]]}, "max_steps", "[[10], [10, 20]]"),
    ({"max_steps": 100, "max_slots": 50}, "max_slots", "50 is not valid; give at least max_steps"),
    ({"max_slots": 10}, "max_slots", "give at least max_steps = 200"),
    ({"arrival_probability": 1.5}, "arrival_probability", "1.5 is not valid; give 0 to 1"),
    ({"arrival_probability": -0.5}, "arrival_probability", "-0.5"),
    ({"arrival_probability": "often"}, "arrival_probability", "'often'"),
    ({"failure_weight": 0.5}, "failure_weight", "at least 1"),
    ({"failure_weight": INF}, "failure_weight", "inf"),
    ({"compression": 0}, "compression", "positive"),
    ({"mix": (0, 0, 0)}, "mix", "at least one positive frequency"),
    ({"mix": (1, -1, 1)}, "mix", "frequencies of at least 0"),
    ({"mix": (NAN, 1, 0)}, "mix", "without NaN"),
    ({"mix": (1, 1)}, "mix", "shape (3,), not shape (2,)"),
    ({"mix": [[1, 1, 1], [1, 0, 0]]}, "mix", "shape (3,), not shape (2, 3)"),
    ({"mix": [0, [1, 1], 0]}, "mix", "[0, [1, 1], 0]"),
    ({"mix": "vgg16"}, "mix", "'vgg16'"),
    ({"networks": ["vgg19"]}, "networks", "vgg19"),
    ({"networks": "vgg16"}, "networks", "give a list of at least one network"),
    (
        {"networks": "vgg61"},
        "networks",
        "give a list of at least one network, [vgg16], of alexnet, ",
    ),
    (
        {"networks": ["vgg61"]},
        "networks",
        "networks: ['vgg61'] is not valid; give one of alexnet, ",
    ),
    ({"networks": ["nin", "vgg61"]}, "networks", "is not valid; 'vgg61': give one of alexnet, "),
    ({"networks": []}, "networks", "give a list of at least one network"),
    ({"networks": ["nowhere.csv"]}, "networks", "No such file"),
    ({"networks": 7}, "networks", "7 is not valid"),
    ({"networks": [3]}, "networks", "[3]"),
    ({"granularity": "neuron"}, "granularity", "block, layer, unit"),
    ({"frame_shape": (720, 1280)}, "frame_shape", "three positive integers"),
    ({"frame_shape": (3, -720, 1280)}, "frame_shape", "-720"),
    ({"frame_shape": 720}, "frame_shape", "720 is not valid"),
    ({"frame_shape": (3, 4, 4)}, "networks", "(3, 4, 4) is not valid for alexnet"),
    ({"input_bits": 0}, "input_bits", "positive"),
    ({"input_bits": "8"}, "input_bits", "'8'"),
    ({"vehicle_enabled": [True] * 9}, "vehicle_enabled", "shape (10,)"),
    ({"vehicle_enabled": 0.5}, "vehicle_enabled", "true or false"),
    ({"path_loss_slope_db": INF}, "path_loss_slope_db", "finite"),
    ({"noise_dbm_per_hz": "quiet"}, "noise_dbm_per_hz", "'quiet'"),
    ({"rsu_position_m": [0, 1, 2]}, "rsu_position_m", "shape (5,), not shape (3,)"),
    ({"layer_flops": -1.0}, "layer_flops", "FLOPs of at least 0"),
    ({"layer_flops": 0.0}, "layer_flops", "positive sum"),
    ({"layer_output_bits": 0.0}, "layer_output_bits", "positive number of bits"),
    ({"num_layers": [1, 9, 7]}, "num_layers", "give 2 to max_layers = 9"),
    ({"num_layers": 10}, "num_layers", "give 2 to max_layers = 9"),
    ({"initial_position_m": INF}, "initial_position_m", "finite"),
    ({"initial_speed_mps": -5.0}, "initial_speed_mps", "at least 0"),
    ({"initial_vehicle_flops": 0}, "initial_vehicle_flops", "positive"),
    ({"arrivals": "given"}, "table_rows", 'arrivals="given" needs at least 1'),
    ({"arrivals": "given", "arrival": True}, "arrival", "[table_rows, vehicles]"),
    ({"arrivals": "given", "arrival": UNEQUAL}, "arrival", "[table_rows, vehicles]"),
    ({"arrivals": "given", "arrival": TABLE[:, :9]}, "arrival", "not shape (5, 9)"),
    ({"arrivals": "given", "arrival": TABLE, "model": 3}, "model", "network indices 0 to 2"),
    ({"arrivals": "given", "arrival": TABLE * 1.0}, "arrival", "true or false"),
    ({"mobility": "trace"}, "trace_rows", 'mobility="trace" needs at least 2'),
    ({"mobility": "trace", "trace_position_m": PATH}, "trace_active", "one active vehicle"),
    ({"mobility": "trace", "trace_position_m": 0.0}, "trace_position_m", "[trace_rows, vehicles]"),
    ({"mobility": "trace", "trace_position_m": UNEQUAL}, "trace_position_m", "[trace_rows"),
    (
        {"mobility": "trace", "trace_position_m": PATH, "trace_active": True, "trace_direction": 2},
        "trace_direction",
        "give +1 or -1",
    ),
    ({"trace": "nowhere.xml"}, "trace", "nowhere.xml' is not valid; it cannot be read (No such"),
    ({"trace": 5}, "trace", "5 is not valid"),
    ({"trace": trace([0], rows=3)}, "max_steps", "200 is not valid; the trace has rows for 3"),
    ({"trace": trace([0]), "trace_start": 1}, "max_steps", "the trace has rows for 199"),
    ({"trace": trace([0], rows=3), "mobility": "constant"}, "mobility", 'needs mobility="trace"'),
    (
        {"trace": trace([0, 50], jump_m=880.0)},
        "trace_position_m",
        "[10.0, 900.0] is not valid; vehicle 0 jumps so from row 1 to row 2 within 1 s",
    ),
    (
        {"trace": trace([5000, 5100], speed=4.0)},
        "rsu_position_m",
        "the trace runs from 5000 m to 5896 m: give at least one RSU within radius_m = 300 m",
    ),
    ({"initial_position_m": 5.0}, "initial_position_m", 'no effect unless scenario="given"'),
    ({"initial_speed_mps": 5.0}, "initial_speed_mps", 'no effect unless scenario="given"'),
    ({"initial_power_dbm": 5.0}, "initial_power_dbm", 'no effect unless scenario="given"'),
    ({"initial_vehicle_flops": 5e9}, "initial_vehicle_flops", 'unless scenario="given"'),
    ({"arrival": TABLE}, "arrival", 'it has no effect unless arrivals="given"'),
    ({"trace_start": 3}, "trace_start", 'it has no effect unless mobility="trace"'),
    (
        {"trace": trace([0]), "scenario": "given", "initial_speed_mps": 5.0},
        "initial_speed_mps",
        'it has no effect unless mobility="constant"',
    ),
]


def refusal(build):
    with pytest.raises(ConfigError) as caught:
        build()
    text = str(caught.value)
    assert "\n" not in text and len(text) < 1200
    assert text.startswith(f"{caught.value.field}: ") and " is not valid; " in text
    return caught.value.field, text


@pytest.mark.parametrize(
    ("options", "field", "words"), BAD, ids=[f"{i}-{case[1]}" for i, case in enumerate(BAD)]
)
def test_refused_by_make(options, field, words):
    named, text = refusal(lambda: jaxenv.make("vehicular", **options))
    assert named == field
    assert words in text


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("trace.xml", "no XML"),
        ("trace.xml", "<fcd-export><timestep time='0'>"),
        ("trace.xml", "<fcd-export><timestep time='0'><vehicle id='a'/></timestep></fcd-export>"),
        ("trace.csv", "place,when\n0,1\n"),
    ],
)
def test_a_file_that_is_no_trace_is_refused_by_the_setting(tmp_path, file, text):
    path = tmp_path / file
    path.write_text(text)
    field, line = refusal(lambda: jaxenv.make("vehicular", trace=str(path)))
    assert field == "trace" and line.startswith(f"trace: {str(path)!r} is not valid; ")
    assert line.count(str(path)) == 1 and "fcd file" not in line


def test_unknown_system():
    field, text = refusal(lambda: jaxenv.make("vehicle"))
    assert field == "env" and "'vehicle'" in text and "vehicular" in text


HEADER = "layer,work [FLOP],output [element],parameters [count]\ninput,0,12,0\n"
CSV_PROBLEMS = [
    ("layer,flops\ninput,0\n", "'work [FLOP]' is missing"),
    (HEADER + "conv,much,4,0\n", "much"),
    (HEADER + "conv,-5,4,0\n", "-5"),
    (HEADER + "conv,5,nan,0\n", "nan"),
    (HEADER, "at least 2 layers"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "word"), CSV_PROBLEMS, ids=range(len(CSV_PROBLEMS)))
def test_bad_profile_files(tmp_path, text, word):
    path = tmp_path / "net.csv"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        jaxenv.make("vehicular", networks=[str(path)])
    message = str(caught.value)
    assert "\n" not in message and "net.csv" in message and word in message


def test_a_profile_without_work_or_output_is_refused():
    def build(flops, elements):
        profile = dnn.Profile(
            name="toy",
            names=("input", "conv"),
            flops=np.array(flops, float),
            output_elements=np.array(elements),
            parameters=np.array([0, 0]),
        )
        return jaxenv.make("vehicular", networks=[profile])

    env, params = build([0, 1e9], [12, 4])
    assert env.max_layers == 2 and env.num_networks == 1
    np.testing.assert_allclose(params.layer_flops, [[0, 1e9]])
    np.testing.assert_allclose(params.layer_output_bits, [[96, 128]])
    with pytest.raises(ValueError, match="is not valid"):
        build([0, 0], [12, 4])
    with pytest.raises(ValueError, match="is not valid"):
        build([0, 1e9], [12, 0])


@pytest.mark.parametrize(
    ("kappa1", "kappa2", "field"),
    [(0, 1, "kappa1"), (10, 10, "kappa1"), (3, 2, "kappa2"), (1, 10, "kappa2"), (1.0, 2, "kappa1")],
)
def test_layers_beyond_the_network(kappa1, kappa2, field):
    env, _ = jaxenv.make("vehicular")
    named, _ = refusal(lambda: Fixed(env=env, kappa1=kappa1, kappa2=kappa2))
    assert named == field


def test_a_scalar_stands_for_every_entry():
    env, params = jaxenv.make("vehicular", mix=1, speed_range_mps=15, bandwidth_hz=5e6)
    assert env.model_onehot
    np.testing.assert_array_equal(params.mix, [1, 1, 1])
    np.testing.assert_array_equal(params.speed_range_mps, [15, 15])
    np.testing.assert_array_equal(params.bandwidth_hz, [5e6] * 5)
    env, params = jaxenv.make("vehicular", num_rsus=4, num_cores=8, spacing_m=200, max_steps=50)
    assert not env.model_onehot
    np.testing.assert_array_equal(params.rsu_flops, [40e9] * 4)
    np.testing.assert_array_equal(params.rsu_position_m, [100, 300, 500, 700])
    assert params.road_period_m == 800 and params.max_slots == 200


def test_the_edges_of_what_is_valid_are_accepted():
    """One slot, no tolerance and the whole radius, certain arrivals, failures that cost no more."""
    leaves = {
        "max_steps": 1,
        "max_slots": 1,
        "tolerance_m": 0,
        "arrival_probability": 1,
        "failure_weight": 1,
        "layer_output_bits": 1,
        "num_layers": 2,
        "layer_flops": [[0, 1] + [0] * 7] * 3,
        "initial_speed_mps": 0,
    }
    _, params = jaxenv.make("vehicular", scenario="given", **leaves)
    check_leaves_are(params, **leaves)
    never = {"tolerance_m": 300, "arrival_probability": 0}
    check_leaves_are(jaxenv.make("vehicular", **never)[1], **never)
    once = {"trace_position_m": [[0, 10], [0, 20]], "trace_active": [[False, True], [False, False]]}
    _, params = jaxenv.make("vehicular", num_vehicles=2, mobility="trace", **once)
    check_leaves_are(params, **once)


def test_a_vehicle_that_stands_in_reach_of_the_only_rsu_is_enough():
    """In the zone about 5010 m: an RSU at 5310 m reaches it, one at 5311 m does not."""
    standing = trace([5000], speed=0.0)
    for position_m in (5310.0, 4710.0):
        make = partial(jaxenv.make, "vehicular", num_rsus=1, trace=standing)
        _, params = make(rsu_position_m=[position_m])
        assert params.road_period_m == pytest.approx(abs(position_m - 5000) + 600.002 + 20)
    for position_m in (5311.0, 4709.0):
        field, _ = refusal(partial(make, rsu_position_m=[position_m]))
        assert field == "rsu_position_m"


def test_the_road_of_a_trace_lets_no_copy_of_an_rsu_within_reach():
    # Vehicles from 0 to 1194 m, RSUs from 150 to 1350 m; 2 * (500 + 0.001) m of reach, a zone.
    recorded = trace([0, 200], speed=994 / 199)
    env, params = jaxenv.make("vehicular", trace=recorded, radius_m=500.0)
    assert env.mobility == "trace" and env.trace_rows == 200
    assert params.road_period_m == pytest.approx(1350 + 1000.002 + 20)
    zones = np.arange(0, 1194 + 20, 20) + 10.0
    gap = np.abs(params.rsu_position_m[:, None] - zones)
    assert (params.road_period_m - gap > 500).all()
    _, params = jaxenv.make("vehicular", trace=recorded, spacing_m=100.0, zone_m=50.0)
    assert params.road_period_m == pytest.approx(1194 + 600.002 + 50)
    _, params = jaxenv.make("vehicular", trace=recorded, road_period_m=4000.0)
    assert params.road_period_m == 4000
    jaxenv.make("vehicular", trace=trace([0], rows=3), max_steps=3)
