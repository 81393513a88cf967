"""Profiles of the zoo against published numbers."""

import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest

import jaxenv.dnn as dnn
from jaxenv.dnn.layers import Conv, Flatten, Linear, MaxPool, Network, Relu, Residual

pytestmark = pytest.mark.quick

CIFAR = ("alexnet_cifar10", "nin", "resnet32", "vgg16_cifar10")
HD = (3, 720, 1280)


def native(name):
    return (3, 32, 32) if name in CIFAR else (3, 224, 224)


# Parameters as torchvision publishes them; multiply-accumulates in 1e6 at the printed precision.
PUBLISHED = {
    "alexnet": (61_100_840, 714.2, 0.05),
    "vgg16": (138_357_544, 15470.3, 0.05),
    "resnet50": (25_557_032, 4089.2, 0.05),
    "resnet152": (60_192_808, 11514, 0.5),
    "mobilenet_v2": (3_504_872, 300.774272, 1e-9),
    "resnet32": (463_018, 69, 0.5),
    "nin": (966_986, 222.5, 0.05),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_totals_are_the_published_ones(name):
    parameters, mega_macs, tolerance = PUBLISHED[name]
    profile = dnn.profile(name, native(name))
    assert profile.parameters.sum() == parameters
    assert abs(profile.macs.sum() / 1e6 - mega_macs) <= tolerance


@pytest.mark.parametrize("name", dnn.networks())
@pytest.mark.parametrize("operations", ["macs", "all"])
def test_totals_do_not_depend_on_granularity(name, operations):
    for shape in (native(name), HD):
        block, layer, unit = (
            dnn.profile(name, shape, granularity, operations)
            for granularity in ("block", "layer", "unit")
        )
        assert block.num_layers <= layer.num_layers <= unit.num_layers
        for other in (layer, unit):
            assert other.flops.sum() == block.flops.sum()
            assert other.parameters.sum() == block.parameters.sum()
            assert other.output_elements[-1] == block.output_elements[-1]


# Work in GFLOP (6 decimals) and output in Mbit of each block at 1280 x 720.
BLOCKS = {
    "vgg16": """input 0 22.1184
        pool1 71.132774 471.8592
        pool2 101.921587 235.9296
        pool3 169.869312 117.9648
        pool4 169.869312 58.9824
        pool5+avg 50.960794 0.802816
        fc6 0.205521 0.131072
        fc7 0.033554 0.131072
        fc8 0.008192 0.032""",
    "alexnet": """input 0 22.1184
        pool1 2.653141 28.981248
        pool2 8.694374 21.356544
        pool5+avg 14.864155 0.294912
        fc6 0.075497 0.131072
        fc7 0.033554 0.131072
        fc8 0.008192 0.032""",
    "resnet50": """input 0 22.1184
        stem 4.335206 117.9648
        stage1 24.536678 471.8592
        stage2 37.748736 235.9296
        stage3 53.791949 117.9648
        stage4+avg 30.303846 0.065536
        fc 0.004096 0.032""",
}
TOTAL_GFLOP = {"vgg16": 564.001, "alexnet": 26.329, "resnet50": 150.721}
NUM_FINE_LAYERS = {"vgg16": 23, "alexnet": 13, "resnet50": 21}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_at_1280x720(name):
    profile = dnn.profile(name)
    rows = [line.split() for line in BLOCKS[name].splitlines()]
    assert profile.names == tuple(row[0] for row in rows)
    gflop, mbit = (np.array([float(row[i]) for row in rows]) for i in (1, 2))
    np.testing.assert_allclose(profile.flops / 1e9, gflop, rtol=0, atol=0.5e-6)
    np.testing.assert_allclose(profile.output_bits() / 1e6, mbit, rtol=1e-12)
    assert abs(profile.flops.sum() / 1e9 - TOTAL_GFLOP[name]) <= 0.5e-3


@pytest.mark.parametrize("name", NUM_FINE_LAYERS)
def test_layer_granularity(name):
    fine = dnn.profile(name, granularity="layer")
    assert fine.num_layers == NUM_FINE_LAYERS[name]
    assert "avg" in fine.names


def test_vgg16_layers_by_hand():
    fine = dnn.profile("vgg16", (3, 32, 48), "layer")
    first = {name: i for i, name in enumerate(fine.names)}
    assert fine.macs[first["conv1_1"]] == 3 * 64 * 9 * 32 * 48
    assert fine.parameters[first["conv1_1"]] == 3 * 64 * 9 + 64
    assert fine.output_elements[first["pool1"]] == 64 * 16 * 24
    assert fine.macs[first["fc6"]] == 25088 * 4096


# 32 x 32 networks with every operation counted: units, FLOPs, parameters.
UNITS = {
    "alexnet_cifar10": (18, 125_620_234, 23_272_266),
    "nin": (21, 446_568_320, 966_986),
    "vgg16_cifar10": (36, 628_131_850, 15_245_130),
    "resnet32": (19, 138_478_858, 463_018),
}


@pytest.mark.parametrize("name", UNITS)
def test_units_and_operations_at_32x32(name):
    units, flops, parameters = UNITS[name]
    profile = dnn.profile(name, (3, 32, 32), "unit", "all")
    assert profile.num_layers == units + 1
    assert profile.flops.sum() == flops
    assert profile.parameters.sum() == parameters
    for num_blocks in (3, 6, 9, 12, 15, 18):
        blocks = dnn.balanced(profile, num_blocks)
        assert blocks.num_layers == num_blocks + 1
        assert blocks.flops.sum() == flops
        assert blocks.parameters.sum() == parameters


def test_balanced_blocks_of_vgg16():
    units = dnn.profile("vgg16_cifar10", (3, 32, 32), "unit", "all")
    blocks = dnn.balanced(units, 6)
    np.testing.assert_array_equal(
        blocks.flops[1:], [79364096, 113344512, 113360896, 75563008, 113278976, 133220362]
    )
    np.testing.assert_array_equal(
        4 * blocks.parameters[1:], [154880, 885760, 3540992, 2360320, 14159872, 39878696]
    )
    np.testing.assert_array_equal(
        blocks.output_bits()[:-1], [24576, 524288, 1048576, 524288, 131072, 262144]
    )
    cuts = [0, 5, 8, 13, 17, 21]
    np.testing.assert_array_equal(units.merged(cuts).flops, blocks.flops)
    assert blocks.names[1] == "conv1_1..pool1"


def test_balanced_is_the_best_of_all_contiguous_partitions():
    work = np.array([0, 5, 3, 0, 7, 2, 2, 0, 6], float)
    ones = np.ones(9, int)
    ones[0] = 0
    fine = dnn.Profile("p", ("input", *"abcdefgh"), work, np.ones(9), ones)
    for num_blocks in range(1, 9):
        cuts = [(0, *rest) for rest in combinations(range(1, 8), num_blocks - 1)]
        costs = {c: (fine.merged(c).flops ** 2).sum() for c in cuts}
        least = min(costs.values())
        expected = min((c for c in cuts if costs[c] == least), key=lambda c: c[::-1])
        np.testing.assert_array_equal(
            dnn.balanced(fine, num_blocks).names, fine.merged(expected).names
        )


def test_mobilenet_v2_splitting_points():
    profile = dnn.profile("mobilenet_v2", (3, 224, 224))
    counts = dnn.mac_counts("mobilenet_v2")
    assert profile.num_layers == 20
    macs = np.cumsum(counts.convolution + counts.linear)
    np.testing.assert_array_equal(macs, np.cumsum(profile.macs))
    per_output_j, per_mac_j, linear_j = 2.6727e-8, 1.21334e-10, 6.2454e-9
    energy_mj = 1e3 * np.cumsum(
        per_output_j * counts.convolution_per_output
        + per_mac_j * counts.convolution
        + linear_j * counts.linear
    )
    # Cumulative MACs, output bits and cumulative energy in mJ.
    printed = {
        1: (10_838_016, 12_845_056, 10.367134),
        2: (20_873_216, 6_422_528, 25.330548),
        5: (91_282_688, 802_816, 68.091441),
        8: (120_823_808, 401_408, 83.163796),
        10: (141_446_144, 401_408, 90.453968),
        12: (164_476_928, 602_112, 98.036367),
        15: (225_468_992, 250_880, 113.840629),
        17: (256_421_312, 250_880, 120.553326),
        18: (279_423_872, 501_760, 124.822883),
    }
    for point, (cumulative, bits, energy) in printed.items():
        assert macs[point] == cumulative
        assert profile.output_bits(8, 32)[point] == bits
        assert abs(energy_mj[point] - energy) <= 0.5e-6
    assert abs(energy_mj[19] - 135.671297) <= 0.5e-6
    assert macs[19] == 300_774_272
    assert counts.linear[19] == 1280 * 1000 and counts.linear[:19].sum() == 0


def test_macs_per_output_channel_by_hand():
    counts = dnn.mac_counts("mobilenet_v2")
    assert counts.convolution_per_output[1] == 112**2 * 9 * 3
    # First bottleneck: depthwise 32 channels, projection 32 to 16, both at 112 x 112.
    assert counts.convolution_per_output[2] == 112**2 * (9 + 32)
    assert counts.convolution_per_output[19] == 49 * 320


def test_output_bits_use_the_input_width_for_the_frame_only():
    profile = dnn.profile("nin", (3, 32, 32))
    np.testing.assert_array_equal(
        profile.output_bits(input_bits=8, bits=16),
        [8 * 3072, 16 * 96 * 256, 16 * 192 * 64, 160],
    )


def test_a_network_of_ones_own():
    layers = (
        ("conv", Conv(8, 3, padding=1)),
        ("relu", Relu()),
        ("mix", Residual((Conv(8, 1, bias=False),))),
        ("pool", MaxPool(2, 2)),
        ("flatten", Flatten()),
        ("fc", Linear(5)),
    )
    network = Network("own", layers, (("body", "flatten"), ("fc", "fc")))
    profile = dnn.profile(network, (2, 4, 6), operations="all")
    conv = 2 * 9 * 2 * 8 * 24 + 8 * 24
    mix = 2 * 64 * 24 + 8 * 24
    assert profile.flops.tolist() == [0, conv + 8 * 24 + mix + 4 * 48, 2 * 48 * 5 + 5]
    assert profile.parameters.tolist() == [0, 9 * 16 + 8 + 64, 49 * 5]
    assert profile.output_elements.tolist() == [48, 48, 5]


def own(layers, ends):
    return lambda: Network("own", layers, ends)


RELUS = (("a", Relu()), ("b", Relu()))
REFUSED = {
    "name": (lambda: dnn.profile("vgg17"), "network: 'vgg17' is not valid; give one of alexnet"),
    "granularity": (lambda: dnn.profile("nin", granularity="stage"), "one of block, layer, unit"),
    "operations": (lambda: dnn.profile("nin", operations="adds"), "give one of macs, all"),
    "two axes": (lambda: dnn.profile("nin", (3, 32)), r"input_shape: \(3, 32\) is not valid"),
    "zero": (lambda: dnn.profile("nin", (3, 0, 32)), r"input_shape: \(3, 0, 32\)"),
    "fraction": (lambda: dnn.profile("nin", (3, 32.5, 32)), "three positive integers"),
    "too small": (lambda: dnn.profile("vgg16", (3, 16, 16)), "not valid for vgg16; at pool5"),
    "groups of channels": (
        lambda: Conv(6, 3, groups=3).output((8, 5, 5)),
        "groups: 3 is not valid; give a divisor of 8 channels and 6 features",
    ),
    "groups of features": (lambda: Conv(6, 3, groups=4).output((8, 5, 5)), "groups: 4 is not"),
    "no groups": (lambda: Conv(6, 3, groups=0).output((8, 5, 5)), "groups: 0 is not valid"),
    "blocks": (lambda: dnn.balanced(dnn.profile("nin"), 4), "num_blocks: 4 .* 1..3"),
    "no block": (lambda: dnn.balanced(dnn.profile("nin"), 0), "num_blocks: 0 .* 1..3"),
    "starts": (lambda: dnn.profile("nin").merged([0, 2, 2]), r"starts: \[0, 2, 2\]"),
    "late start": (lambda: dnn.profile("nin").merged([1]), r"starts: \[1\]"),
    "twice": (own((("a", Relu()), ("a", Relu())), (("x", "a"),)), "layers: 'a' .* unique names"),
    "no end": (own(RELUS, (("x", "a"),)), "block_ends: .* in order"),
    "unordered": (own(RELUS, (("x", "b"), ("y", "a"))), "block_ends: .* in order"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_mistakes_are_refused_in_one_line(case):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_profiles_check_their_entries():
    names, one = ("input", "a"), np.array([0, 1])
    for flops, elements, parameters, message in (
        (np.array([0, -1.0]), one, one, "flops of a: -1.0"),
        (np.array([0, np.nan]), one, one, "flops of a: nan"),
        (one, np.array([1, 1.5]), one, "output_elements of a: 1.5"),
        (one, one, np.array([2, 1]), "parameters of input: 2"),
        (one[:1], one, one, "flops: shape"),
    ):
        with pytest.raises(ValueError, match=message):
            dnn.Profile("p", names, flops, elements, parameters)
    with pytest.raises(ValueError, match="the first layer is 'input'"):
        dnn.Profile("p", ("a", "b"), one, one, one)


def test_profiles_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        dnn.profile("nin").flops[0] = 1


def test_the_arithmetic_needs_neither_jax_nor_flax():
    code = (
        "import sys, types; p = types.ModuleType('jaxenv'); p.__path__ = ['jaxenv'];"
        "sys.modules['jaxenv'] = p; import jaxenv.dnn; jaxenv.dnn.profile('vgg16');"
        "assert not {'jax', 'flax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
