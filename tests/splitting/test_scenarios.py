"""Users' networks, boards and measured traces; what cannot be simulated is refused in one line."""

import jax
import numpy as np
import pytest

import jaxenv
from jaxenv import dnn
from jaxenv.data import measured
from jaxenv.errors import ConfigError
from runs.settings import build_env, environment_settings, stored_yaml
from tests.oracles import splitting as oracle
from tests.scenarios import check_leaves_are, check_refused

NAN, INF = float("nan"), float("inf")
PROFILE = """layer,work [FLOP],output [element],parameters [count]
input,0,3000,0
first,2000000,500,10
second,4000000,100,10
"""
KINDS = """layer,work [FLOP],output [element],parameters [count],convolution [MAC],\
convolution per output [MAC],linear [MAC]
input,0,3000,0,0,0,0
first,2000000,500,10,1000000,50000,0
second,4000000,100,10,500000,20000,1500000
"""
BAD = [
    # options, field that the message names, words of the message
    ({"num_splits": 1}, "num_splits", "at least 2"),
    ({"num_splits": 20.0}, "num_splits", "20.0"),
    ({"max_images": 0}, "max_images", "at least 1"),
    ({"num_slots": 1500}, "num_slots", "multiple of chunk_slots = 1000"),
    ({"burn_in": 500}, "burn_in", "multiple of chunk_slots"),
    ({"burn_in": 200_000}, "burn_in", "less than num_slots"),
    ({"action_mode": "rate"}, "action_mode", "choose one of split, split_rate"),
    ({"reward_mode": "energy"}, "reward_mode", "dpp, lagrangian"),
    ({"contexts": "iid"}, "contexts", "independent, markov, given"),
    ({"contexts": "given"}, "table_rows", "at least 1"),
    ({"observed": "early"}, "observed", "now, late"),
    ({"allocator": "scipy"}, "allocator", "closed, jaxopt"),
    ({"dtype": "float64"}, "dtype", "enable 64-bit mode first"),
    ({"tradeoff_v": 0}, "tradeoff_v", "0.0 is not valid; give a positive finite number"),
    ({"tradeoff_v": NAN}, "tradeoff_v", "NaN"),
    ({"bandwidth_hz": -1.0}, "bandwidth_hz", "-1.0"),
    ({"bandwidth_hz": "200 MHz"}, "bandwidth_hz", "'200 MHz'"),
    ({"bandwith_hz": 1e6}, "splitting.bandwith_hz", "known names are"),
    ({"local_flops": INF}, "local_flops", "positive finite"),
    ({"availability_max": 0.0}, "availability_max", "(0, 1]"),
    ({"availability_max": 1.5}, "availability_max", "(0, 1]"),
    ({"outage_eps": 1.0}, "outage_eps", "(0, 1)"),
    ({"power_max_w": 0.001}, "power_max_w", "at least power_min_w = 0.01"),
    ({"arrival_rate": 0}, "arrival_rate", "positive"),
    ({"arrival_rate": 30}, "arrival_rate", "raise max_images"),
    ({"fading_correlation": 1.0}, "fading_correlation", "[0, 1)"),
    ({"availability_correlation": -0.1}, "availability_correlation", "[0, 1)"),
    ({"energy_mac_j": -1e-10}, "energy_mac_j", "0 or more"),
    ({"z0": -1}, "z0", "0 or more"),
    ({"h0": 1e30}, "h0", "0 to 1e12"),
    ({"noise_w_per_hz": 2.4e16}, "signal-to-noise ratio", "noise_w_per_hz, bandwidth_hz have to"),
    ({"path_loss_exponent": 25.0}, "signal-to-noise ratio", "path_loss_exponent"),
    ({"path_loss_exponent": 3e38}, "signal-to-noise ratio", "to 200 dB"),
    ({"delay_price": -1}, "delay_price", "0 or more"),
    ({"max_steps": 0}, "max_steps", "at least 1"),
    ({"macs_convolution": [1.0] * 19}, "macs_convolution", "shape (20,)"),
    ({"macs_convolution": 0.0, "macs_linear": 0.0}, "macs_convolution", "some work"),
    ({"macs_convolution": [1.0] + [0] * 19, "macs_linear": 0.0}, "macs_convolution", "some work"),
    ({"macs_linear": -1.0}, "macs_linear", "0 or more"),
    ({"segment_s": INF}, "segment_s", "finite times"),
    ({"num_slots": 0, "burn_in": 0}, "num_slots", "at least 1"),
    ({"chunk_slots": 0}, "chunk_slots", "at least 1"),
    ({"outage_eps": 0.0}, "outage_eps", "(0, 1)"),
    ({"availability_correlation": 1.0}, "availability_correlation", "[0, 1)"),
    ({"table_fading": [0.5], "contexts": "markov"}, "table_fading", 'unless contexts="given"'),
    ({"table_fading": [0.5, 0.0]}, "table_fading", "positive finite numbers"),
    ({"table_fading": [[0.5]]}, "table_fading", "[rows]"),
    ({"table_fading": [[0.5], [0.5, 0.5]]}, "table_fading", "[rows]"),
    ({"table_availability": [1.5]}, "table_availability", "(0, 1]"),
    ({"table_num_images": [2.5]}, "table_num_images", "whole numbers"),
    ({"network": "mobilenet_v3"}, "network", "mobilenet_v2"),
    ({"network": "missing.csv"}, "network", "cannot be read"),
    ({"granularity": "pixel"}, "network", "block, layer, unit"),
    ({"board": 3}, "board", "path of a CSV file"),
    ({"board": "missing.csv"}, "board", "cannot be read"),
    ({"trace": "missing.csv"}, "trace", "cannot be read"),
]


@pytest.mark.quick
@pytest.mark.parametrize(("options", "field", "words"), BAD)
def test_refused_in_one_line(options, field, words):
    check_refused("splitting", options, field, words)


@pytest.mark.quick
def test_the_configuration_names_every_setting():
    import conf

    given = set(stored_yaml(next(iter(conf.__path__)) + "/env/splitting.yaml"))
    extra = {"name", "network", "granularity", "input_shape", "board", "trace"}
    known = set(environment_settings(jaxenv.registry.environment_class("splitting")))
    assert given == known | extra
    node = dict.fromkeys(given) | {"name": "splitting", "tradeoff_v": 2.0, "num_slots": 5000}
    env, params = build_env({"env": node | {"burn_in": 0}, "precision": "float32"})
    assert env.num_slots == 5000 and float(params.tradeoff_v) == 2.0


@pytest.mark.quick
def test_the_published_scenario():
    """1.3 and 21 TFLOP/s, 10 to 100 mW, -174 dBm/Hz; the fitted energies of the paper."""
    env, params = jaxenv.make("splitting")
    assert (env.num_slots, env.burn_in, env.chunk_slots) == (200_000, 10_000, 1_000)
    check_leaves_are(
        params,
        max_steps=10_000,
        local_flops=1.3e12,
        remote_flops=21e12,
        flops_per_mac=2,
        energy_out_j=26.727e-9,
        energy_mac_j=0.121334e-9,
        energy_fc_j=6.2454e-9,
        raw_bits=32,
        feature_bits=32,
        distance_m=50,
        carrier_hz=3.5e9,
        bandwidth_hz=200e6,
        noise_w_per_hz=3.981072e-21,
        path_loss_exponent=3,
        fading_mean=1,
        power_min_w=10e-3,
        power_max_w=100e-3,
        arrival_rate=10,
        availability_max=1,
        delay_avg_s=50e-3,
        delay_max_s=100e-3,
        outage_eps=0.01,
        tradeoff_v=3,
        z0=0,
        h0=0,
        delay_price=0,
        outage_price=0,
        delay_clip_s=1,
        z_ref=5,
        eta_ref=0.3,
        fading_correlation=0.9,
        availability_correlation=0.9,
        table_start=0,
    )


@pytest.mark.quick
def test_the_edges_of_what_is_valid_are_accepted():
    """One slot, the whole host, one power, no memory of the slot before, nothing that costs."""
    leaves = {
        "max_steps": 1,
        "availability_max": 1,
        "power_max_w": 0.01,
        "fading_correlation": 0,
        "availability_correlation": 0,
        "energy_out_j": 0,
        "z0": 1e12,
        "h0": 1e12,
        "table_num_images": [0],
        "table_availability": [1],
    }
    env, params = jaxenv.make("splitting", burn_in=0, num_slots=1000, **leaves)
    check_leaves_are(params, **leaves)
    assert (env.contexts, env.table_rows) == ("given", 1)


def test_networks_of_the_zoo():
    env, params = jaxenv.make("splitting", network="alexnet", input_shape=(3, 224, 224))
    profile = dnn.profile("alexnet", (3, 224, 224))
    counts = dnn.mac_counts("alexnet", (3, 224, 224))
    assert env.num_splits == profile.num_layers
    costs = env.costs(params)
    macs = np.cumsum(profile.macs)
    np.testing.assert_allclose(costs.local_s, 2 * macs / 1.3e12, rtol=1e-6)
    np.testing.assert_allclose(costs.bits[1:-1], 32 * profile.output_elements[1:-1], rtol=1e-6)
    assert costs.bits[-1] == 0
    energy = (
        2.6727e-8 * counts.convolution_per_output.sum()
        + 1.21334e-10 * counts.convolution.sum()
        + 6.2454e-9 * counts.linear.sum()
    )
    np.testing.assert_allclose(costs.energy_j[-1], energy, rtol=1e-6)
    fine, _ = jaxenv.make("splitting", granularity="layer")
    assert fine.num_splits > 20


@pytest.mark.quick
def test_networks_from_csv(tmp_path):
    plain, kinds = tmp_path / "plain.csv", tmp_path / "kinds.csv"
    plain.write_text(PROFILE)
    kinds.write_text(KINDS)
    env, params = jaxenv.make("splitting", network=str(plain), energy_mac_j=1e-9)
    costs = env.costs(params)
    assert env.num_splits == 3
    np.testing.assert_allclose(costs.energy_j, [0, 1e-3, 3e-3], rtol=1e-6)
    np.testing.assert_allclose(costs.bits, [96000, 16000, 0])
    again, other = jaxenv.make("splitting", network=dnn.read_csv(plain), energy_mac_j=1e-9)
    assert again == env
    jax.tree.map(np.testing.assert_array_equal, params, other)
    env, params = jaxenv.make("splitting", network=str(kinds))
    energy = 2.6727e-8 * 70_000 + 1.21334e-10 * 1_500_000 + 6.2454e-9 * 1_500_000
    np.testing.assert_allclose(env.costs(params).energy_j[2], energy, rtol=1e-6)
    kinds.write_text(KINDS.replace("1500000", "1500001"))  # half a millionth of the segment's work
    jaxenv.make("splitting", network=str(kinds))
    for linear in ("1500003", "2500000"):
        kinds.write_text(KINDS.replace("1500000", linear))
        with pytest.raises(ConfigError, match="^network: .*half the work"):
            jaxenv.make("splitting", network=str(kinds))
    for column, other, words in (
        (",linear [MAC]", ",other", "are not enough"),
        (",convolution [MAC]", ",other", "are not enough"),
        ("convolution per output [MAC],", "convolution per output [kMAC],", "[kMAC]' is not valid"),
    ):
        kinds.write_text(KINDS.replace(column, other))
        with pytest.raises(ConfigError, match="^network: ") as error:
            jaxenv.make("splitting", network=str(kinds))
        assert words in str(error.value)
    only = KINDS.replace(",convolution [MAC],", ",a,").replace("convolution per output [MAC]", "b")
    kinds.write_text(only)
    with pytest.raises(ConfigError, match="^network: .*are not enough"):
        jaxenv.make("splitting", network=str(kinds))


def test_a_network_of_one_layer_cannot_be_split():
    """One of two can: all on the host, or all on the device."""
    two = dnn.Profile(
        name="two",
        names=("input", "all"),
        flops=np.array([0.0, 2e9]),
        output_elements=np.array([12, 4]),
        parameters=np.array([0, 1]),
    )
    env, params = jaxenv.make("splitting", network=two)
    np.testing.assert_allclose(env.costs(params).local_s, [0, 2e9 / 1.3e12], rtol=1e-6)
    sizes = {"flops": [0.0], "output_elements": [12], "parameters": [0]}
    arrays = {name: np.array(values) for name, values in sizes.items()}
    alone = dnn.Profile(name="alone", names=("input",), **arrays)
    with pytest.raises(ConfigError, match="^network: .* give a network of at least 2 layers$"):
        jaxenv.make("splitting", network=alone)


@pytest.mark.quick
def test_boards_from_csv(tmp_path):
    board = tmp_path / "board.csv"
    board.write_text("setting,value\nlocal_flops,44.3e9\nenergy_mac_j,2e-10\n")
    _, params = jaxenv.make("splitting", board=str(board), energy_mac_j=3e-10)
    np.testing.assert_allclose(params.local_flops, 44.3e9, rtol=1e-6)
    np.testing.assert_allclose(params.energy_mac_j, 3e-10, rtol=1e-6)
    for text, words in (
        ("setting,value\nlocal_flop,1\n", "line 2, setting: 'local_flop'"),
        ("setting,value\nlocal_flops,1\nlocal_flops,2\n", "line 3"),
        ("setting,value\nmax_steps,500\n", "line 2, setting: 'max_steps'"),
        ("setting,value\nlocal_flops,fast\n", "'fast' is not valid; give a finite number"),
        ("name,value\nlocal_flops,1\n", "give setting and value"),
        ("setting,value\n", "no rows"),
        ("setting,value\nlocal_flops,-1\n", "local_flops: -1.0"),
    ):
        board.write_text(text)
        with pytest.raises(ConfigError) as error:
            jaxenv.make("splitting", board=str(board))
        assert words in str(error.value) and "\n" not in str(error.value)


def test_measured_rates_and_availability(tmp_path):
    """A rate measured at full power becomes the fading that gives it; images are still drawn."""
    system = oracle.System()
    fading, share = np.array([0.3, 2.0, 0.05]), np.array([0.5, 0.25, 1.0])
    rates = [system.rates(x)[1] for x in fading]
    path = tmp_path / "trace.csv"
    lines = [f"{a},{r!r},x" for a, r in zip(share.tolist(), rates, strict=True)]
    path.write_text("\n".join(["availability [1],rate [bit/s],note", *lines]))
    env, params = jaxenv.make(
        "splitting", trace=str(path), num_slots=6, burn_in=0, chunk_slots=6, table_start=1
    )
    assert env.contexts == "given" and env.table_rows == 3
    context = jax.jit(env.trace)(params, jax.random.key(0))
    order = [1, 2, 0, 1, 2, 0]
    np.testing.assert_allclose(context.fading, fading[order], rtol=1e-5)
    np.testing.assert_allclose(context.share, share[order], rtol=1e-6)
    assert len(set(np.asarray(context.num_images).tolist())) > 1
    starts = {
        float(
            env.reset(jax.random.key(i), params.replace(table_start=np.int32(-1)))[1].context.share
        )
        for i in range(12)
    }
    assert starts == {0.5, 0.25, 1.0}
    for text, words in (
        ("availability\n0.5\n", "give 'availability [1]'"),
        ("rate [Mbit/s]\n100\n", "give 'rate [bit/s]'"),
        ("rate [bit/s]\n-3\n", "positive rates"),
        ("rate [bit/s],fading [1]\n1e8,1\n", "one of the two"),
        ("speed\n1\n", "give some of"),
        ("availability [1]\nhalf\n", "line 2, availability [1]: 'half'"),
        ("availability [1]\n1.5\n", "(0, 1]"),
        ("images [1]\n1.5\n", "whole numbers"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError) as error:
            jaxenv.make("splitting", trace=str(path))
        assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.quick
def test_series_keep_their_order(tmp_path):
    path = tmp_path / "series.csv"
    path.write_text("b [1],a [s]\n1,2\n3,4.5\n")
    series = measured.read_series(path, ("a [s]", "b [1]", "c [1]"))
    assert list(series) == ["a [s]", "b [1]"]
    np.testing.assert_array_equal(series["a [s]"], [2, 4.5])
