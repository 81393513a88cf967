"""Profiles traced from Flax modules against the arithmetic and against hand-counted modules."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxenv.dnn as dnn
from jaxenv.dnn.layers import AdaptiveAvgPool, Conv, Flatten, MaxPool, Network, PadShortcut

CIFAR = ("alexnet_cifar10", "nin", "resnet32", "vgg16_cifar10")


@pytest.mark.parametrize("granularity", ["block", "unit"])
@pytest.mark.parametrize("name", dnn.networks())
def test_tracing_agrees_exactly_with_the_arithmetic(name, granularity):
    network = dnn.network(name)
    size = (32, 32) if name in CIFAR else (720, 1280)
    expected = dnn.profile(name, (3, *size), granularity)
    traced = dnn.profile_flax(dnn.to_flax(network), (*size, 3), blocks=network.blocks(granularity))
    assert (traced.name, traced.names) == (expected.name, expected.names)
    for field in ("flops", "output_elements", "parameters"):
        np.testing.assert_array_equal(getattr(traced, field), getattr(expected, field))


def test_no_parameter_is_ever_allocated():
    class Huge(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(10**7)(nn.Dense(10**7)(x))

    profile = dnn.profile_flax(Huge(), (10,))
    assert profile.parameters.tolist() == [0, 11 * 10**7, (10**7 + 1) * 10**7]
    assert profile.flops.tolist() == [0, 2e8, 2e14]


class Cell(nn.Module):
    @nn.compact
    def __call__(self, carry, _):
        return nn.Dense(8)(carry), None


class Everything(nn.Module):
    """Functions between submodules, remat, a skip across a cut, dropout and a lifted scan."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(4, (3, 3))(x)
        x = nn.gelu(nn.BatchNorm(use_running_average=not train)(x))
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = x + nn.remat(nn.Conv)(4, (3, 3), name="inner")(nn.Conv(4, (1, 1))(x))
        x = nn.Dropout(0.5, deterministic=not train)(x).reshape(x.shape[0], -1)
        x = nn.Dense(8)(x)
        scan = nn.scan(Cell, variable_axes={"params": 0}, split_rngs={"params": True}, length=5)
        return scan(name="cells")(x, None)[0]


@pytest.mark.quick
@pytest.mark.parametrize("train", [False, True])
def test_a_module_counted_by_hand(train):
    profile = dnn.profile_flax(Everything(), (8, 8, 3), train=train)
    expected = {
        "input": (0, 192, 0),
        "Conv_0": (2 * 64 * 27 * 4, 256, 112),
        "BatchNorm_0": (0, 64, 8),
        "Conv_1": (2 * 16 * 4 * 4, 64 + 64, 20),
        "inner": (2 * 16 * 36 * 4, 64, 148),
        "Dropout_0": (0, 64, 0),
        "Dense_0": (2 * 64 * 8, 8, 520),
        "cells": (5 * 2 * 64, 8, 5 * 72),
    }
    assert profile.names == tuple(expected)
    rows = zip(profile.flops, profile.output_elements, profile.parameters, strict=True)
    assert [tuple(map(int, row)) for row in rows] == list(expected.values())


class Attention(nn.Module):
    def setup(self):
        self.embed = nn.Embed(100, 16)
        self.attend = nn.MultiHeadDotProductAttention(4)

    def __call__(self, tokens):
        return self.embed.attend(self.attend(self.embed(tokens)))


@pytest.mark.quick
def test_attention_with_a_shared_embedding_by_hand():
    for module in (Attention(), nn.jit(Attention)(), nn.jit(Attention)()):
        profile = dnn.profile_flax(module, (12,), dtype="int32")
        assert profile.names == ("input", "embed", "attend", "embed#2")
        projections, scores = 4 * 2 * 12 * 16 * 16, 2 * 2 * 12 * 12 * 16
        assert profile.flops.tolist() == [0, 0, projections + scores, 2 * 12 * 16 * 100]
        assert profile.output_elements.tolist() == [12, 192, 192, 1200]
        assert profile.parameters.tolist() == [0, 1600, 4 * 16 * 17, 0]


def single(function):
    """Module that is one function of its input and a 6 x 6 parameter."""

    class Single(nn.Module):
        @nn.compact
        def __call__(self, x):
            return function(x, self.param("w", nn.initializers.ones, (6, 6)))

    return Single()


@pytest.mark.quick
def test_flops_inside_control_flow():
    one = 2 * 6 * 6
    cases = {
        "custom_jvp": (lambda x, w: jax.nn.relu(x @ w), one),
        "jit": (lambda x, w: jax.jit(lambda y: y @ w)(x), one),
        "vmap": (lambda x, w: jax.vmap(lambda y: w @ y)(x), one),
        "scan": (lambda x, w: jax.lax.scan(lambda c, _: (c @ w, None), x, length=7)[0], 7 * one),
        "fori": (lambda x, w: jax.lax.fori_loop(0, 3, lambda _, c: c @ w, x), 3 * one),
        "cond": (
            lambda x, w: jax.lax.cond(x.sum() > 0, lambda y: y @ w @ w, lambda y: y, x),
            2 * one,
        ),
        "elementwise": (lambda x, w: x * w[0], 0),
    }
    for name, (function, flops) in cases.items():
        profile = dnn.profile_flax(single(function), (6,))
        assert profile.names == ("input", "Single"), name
        assert profile.flops[1] == flops, name
        assert profile.parameters[1] == 36


def test_grouped_and_transposed_convolutions():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(8, (3, 5), strides=2, feature_group_count=2)(x)
            return nn.ConvTranspose(5, (4, 4), strides=(2, 2))(x)

    profile = dnn.profile_flax(Net(), (8, 8, 4))
    assert profile.flops.tolist() == [0, 2 * (4 * 4 * 8) * (15 * 2), 2 * (4 * 4 * 8) * (16 * 5)]
    assert profile.output_elements.tolist() == [256, 128, 320]


@pytest.mark.quick
def test_mistakes_are_refused_in_one_line():
    def endless(x, w):
        return jax.lax.while_loop(lambda y: y.sum() < 3, lambda y: y @ w, x)

    pair = nn.Sequential([nn.Dense(3), nn.Dense(4)])
    cases = [
        (lambda: dnn.profile_flax(single(endless), (6,)), "FLOPs of while cannot be counted"),
        (lambda: dnn.profile_flax(pair, (0,)), r"input_shape: \(0,\) is not valid"),
        (lambda: dnn.profile_flax(pair, ()), r"input_shape: \(\) is not valid"),
        (
            lambda: dnn.profile_flax(pair, (6,), blocks={"a": ["layers_1", "layers_0"]}),
            r"blocks: \['layers_1', 'layers_0'\] is not valid; .* \['layers_0', 'layers_1'\]",
        ),
        (lambda: dnn.profile_flax(pair, (6,), blocks={"a": ["layers_0"]}), "every submodule once"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


def run(layer, x):
    network = Network("one", (("layer", layer),), (("layer", "layer"),))
    return np.asarray(dnn.to_flax(network).apply({}, jnp.asarray(x)))


@pytest.mark.quick
def test_pooling_and_shortcut_compute_what_they_profile():
    x = np.random.default_rng(0).normal(size=(2, 7, 5, 3)).astype(np.float32)
    # Adaptive bins of 7 into 3 and of 5 into 3: [0, 3), [2, 5), [4, 7) and [0, 2), [1, 4), [3, 5).
    rows, columns = ((0, 3), (2, 5), (4, 7)), ((0, 2), (1, 4), (3, 5))
    expected = np.array([[x[:, a:b, c:d].mean((1, 2)) for c, d in columns] for a, b in rows])
    pooled = run(AdaptiveAvgPool(3), x)
    np.testing.assert_allclose(pooled, expected.transpose(2, 0, 1, 3), rtol=1e-5, atol=1e-6)

    padded = run(PadShortcut(5, 2), x)
    np.testing.assert_array_equal(padded[..., :3], x[:, ::2, ::2])
    assert padded.shape == (2, 4, 3, 5) and not padded[..., 3:].any()

    np.testing.assert_array_equal(run(MaxPool(3, 2, 1), x)[:, 0, 0], x[:, :2, :2].max((1, 2)))
    np.testing.assert_array_equal(run(Flatten(), x), x.transpose(0, 3, 1, 2).reshape(2, -1))


@pytest.mark.quick
def test_convolution_geometry_is_the_arithmetic_one():
    network = Network("one", (("c", Conv(1, 3, 2, 1, bias=False)),), (("c", "c"),))
    x = jnp.arange(25.0).reshape(1, 5, 5, 1)
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[1, 1] = 1  # the centre tap picks every second pixel
    y = dnn.to_flax(network).apply({"params": {"c": {"Conv_0": {"kernel": kernel}}}}, x)
    np.testing.assert_array_equal(y[0, :, :, 0], x[0, ::2, ::2, 0])
