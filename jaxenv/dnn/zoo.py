"""The networks by name, as layer lists.

`alexnet`, `vgg16`, `resnet50`, `resnet152` (v1.5: stride on the 3x3) and `mobilenet_v2` are the
torchvision architectures for 1000 classes. `nin` (Lin et al. 2014), `resnet32` (He et al. 2016,
parameter-free shortcuts), `alexnet_cifar10` and `vgg16_cifar10` are the CIFAR-10 architectures for
32 x 32 images, with batch normalisation folded into the convolutions.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxenv.dnn.layers import (
    AdaptiveAvgPool,
    BatchNorm,
    Chain,
    Conv,
    Flatten,
    Layer,
    Linear,
    MaxPool,
    Network,
    PadShortcut,
    Relu,
    Residual,
)

_Named = list[tuple[str, Layer]]


def _classifier(features: tuple[int, ...], first: int) -> _Named:
    layers: _Named = [("flatten", Flatten())]
    for index, size in enumerate(features, start=first):
        layers += [(f"fc{index}", Linear(size)), (f"relu{index}", Relu())]
    return layers[:-1]


def _alexnet() -> Network:
    convolutions = [
        Conv(64, 11, 4, 2),
        Conv(192, 5, 1, 2),
        Conv(384, 3, 1, 1),
        Conv(256, 3, 1, 1),
        Conv(256, 3, 1, 1),
    ]
    layers: _Named = []
    for index, conv in enumerate(convolutions, start=1):
        layers += [(f"conv{index}", conv), (f"relu{index}", Relu())]
        if index in (1, 2, 5):
            layers.append((f"pool{index}", MaxPool(3, 2)))
    layers.append(("avg", AdaptiveAvgPool(6)))
    layers += _classifier((4096, 4096, 1000), first=6)
    ends = (
        ("pool1", "pool1"),
        ("pool2", "pool2"),
        ("pool5+avg", "flatten"),
        ("fc6", "relu6"),
        ("fc7", "relu7"),
        ("fc8", "fc8"),
    )
    return Network("alexnet", tuple(layers), ends)


def _alexnet_cifar10() -> Network:
    channels = {1: 64, 2: 192, 3: 384, 4: 256, 5: 256}
    layers: _Named = []
    for index, features in channels.items():
        conv = Conv(features, 3, 2 if index == 1 else 1, 1)
        layers += [(f"conv{index}", conv), (f"relu{index}", Relu())]
        if index in (1, 2, 5):
            layers.append((f"pool{index}", MaxPool(2, 2)))
    layers += _classifier((4096, 4096, 10), first=6)
    ends = (
        ("pool1", "pool1"),
        ("pool2", "pool2"),
        ("pool5", "flatten"),
        ("fc6", "relu6"),
        ("fc7", "relu7"),
        ("fc8", "fc8"),
    )
    return Network("alexnet_cifar10", tuple(layers), ends)


def _vgg_stages() -> _Named:
    layers: _Named = []
    stages = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
    for stage, (features, repeats) in enumerate(stages, start=1):
        for repeat in range(1, repeats + 1):
            layers += [
                (f"conv{stage}_{repeat}", Conv(features, 3, 1, 1)),
                (f"relu{stage}_{repeat}", Relu()),
            ]
        layers.append((f"pool{stage}", MaxPool(2, 2)))
    return layers


def _vgg16() -> Network:
    layers = [*_vgg_stages(), ("avg", AdaptiveAvgPool(7))]
    layers += _classifier((4096, 4096, 1000), first=6)
    ends = tuple((f"pool{stage}", f"pool{stage}") for stage in range(1, 5))
    ends += (("pool5+avg", "flatten"), ("fc6", "relu6"), ("fc7", "relu7"), ("fc8", "fc8"))
    return Network("vgg16", tuple(layers), ends)


def _vgg16_cifar10() -> Network:
    layers = [*_vgg_stages(), *_classifier((512, 512, 10), first=6)]
    ends = tuple((f"pool{stage}", f"pool{stage}") for stage in range(1, 5))
    ends += (("pool5", "flatten"), ("fc6", "relu6"), ("fc7", "relu7"), ("fc8", "fc8"))
    return Network("vgg16_cifar10", tuple(layers), ends)


def _conv_bn(features: int, kernel: int, stride: int = 1, groups: int = 1) -> tuple[Layer, ...]:
    conv = Conv(features, kernel, stride, (kernel - 1) // 2, groups, bias=False)
    return conv, BatchNorm()


def _bottleneck(width: int, stride: int, project: bool) -> Layer:
    main = (
        *_conv_bn(width, 1),
        Relu(),
        *_conv_bn(width, 3, stride),
        Relu(),
        *_conv_bn(4 * width, 1),
    )
    shortcut = _conv_bn(4 * width, 1, stride) if project else ()
    return Chain((Residual(main, shortcut), Relu()))


def _resnet(name: str, repeats: tuple[int, ...]) -> Network:
    conv, norm = _conv_bn(64, 7, 2)
    layers: _Named = [
        ("conv1", conv),
        ("bn1", norm),
        ("relu1", Relu()),
        ("pool1", MaxPool(3, 2, 1)),
    ]
    for stage, count in enumerate(repeats, start=1):
        for block in range(1, count + 1):
            stride = 2 if block == 1 and stage > 1 else 1
            layer = _bottleneck(64 * 2 ** (stage - 1), stride, project=block == 1)
            layers.append((f"stage{stage}_{block}", layer))
    layers += [("avg", AdaptiveAvgPool(1)), *_classifier((1000,), first=1)]
    layers[-1] = ("fc", layers[-1][1])
    ends = [("stem", "pool1")]
    ends += [(f"stage{s}", f"stage{s}_{count}") for s, count in enumerate(repeats[:-1], start=1)]
    ends += [(f"stage{len(repeats)}+avg", "flatten"), ("fc", "fc")]
    return Network(name, tuple(layers), tuple(ends))


def _resnet50() -> Network:
    return _resnet("resnet50", (3, 4, 6, 3))


def _resnet152() -> Network:
    return _resnet("resnet152", (3, 8, 36, 3))


def _resnet32() -> Network:
    layers: _Named = [("conv1", Conv(16, 3, 1, 1)), ("relu1", Relu())]
    for stage, features in enumerate((16, 32, 64), start=1):
        for block in range(1, 6):
            stride = 2 if block == 1 and stage > 1 else 1
            main = (Conv(features, 3, stride, 1), Relu(), Conv(features, 3, 1, 1))
            shortcut = (PadShortcut(features, stride),) if stride > 1 else ()
            layers.append((f"stage{stage}_{block}", Chain((Residual(main, shortcut), Relu()))))
    layers += [("avg", AdaptiveAvgPool(1)), ("flatten", Flatten()), ("fc", Linear(10))]
    ends = (
        ("stem", "relu1"),
        ("stage1", "stage1_5"),
        ("stage2", "stage2_5"),
        ("stage3+avg", "flatten"),
        ("fc", "fc"),
    )
    return Network("resnet32", tuple(layers), ends)


def _nin() -> Network:
    stages = (
        ((192, 5), (160, 1), (96, 1)),
        ((192, 5), (192, 1), (192, 1)),
        ((192, 3), (192, 1), (10, 1)),
    )
    layers: _Named = []
    for stage, convolutions in enumerate(stages, start=1):
        for index, (features, kernel) in enumerate(convolutions, start=1):
            layers += [
                (f"conv{stage}_{index}", Conv(features, kernel, 1, (kernel - 1) // 2)),
                (f"relu{stage}_{index}", Relu()),
            ]
        layers.append((f"pool{stage}", MaxPool(3, 2, 1) if stage < 3 else AdaptiveAvgPool(1)))
    layers.append(("flatten", Flatten()))
    ends = (("mlpconv1", "pool1"), ("mlpconv2", "pool2"), ("mlpconv3", "flatten"))
    return Network("nin", tuple(layers), ends)


def _inverted_residual(inputs: int, outputs: int, stride: int, expansion: int) -> Layer:
    hidden = expansion * inputs
    expand = (*_conv_bn(hidden, 1), Relu(6.0)) if expansion > 1 else ()
    depthwise = (*_conv_bn(hidden, 3, stride, groups=hidden), Relu(6.0))
    layers = (*expand, *depthwise, *_conv_bn(outputs, 1))
    return Residual(layers) if stride == 1 and inputs == outputs else Chain(layers)


def _mobilenet_v2() -> Network:
    rows = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    conv, norm = _conv_bn(32, 3, 2)
    layers: _Named = [("conv1", conv), ("bn1", norm), ("relu1", Relu(6.0))]
    ends = [("stem", "relu1")]
    channels, index = 32, 0
    for expansion, features, repeats, first_stride in rows:
        for repeat in range(repeats):
            index += 1
            stride = first_stride if repeat == 0 else 1
            layer = _inverted_residual(channels, features, stride, expansion)
            layers.append((f"bottleneck{index}", layer))
            ends.append((f"bottleneck{index}", f"bottleneck{index}"))
            channels = features
    conv, norm = _conv_bn(1280, 1)
    layers += [("conv2", conv), ("bn2", norm), ("relu2", Relu(6.0)), ("avg", AdaptiveAvgPool(1))]
    layers += [("flatten", Flatten()), ("fc", Linear(1000))]
    return Network("mobilenet_v2", tuple(layers), (*ends, ("head", "fc")))


_NETWORKS: dict[str, Callable[[], Network]] = {
    "alexnet": _alexnet,
    "alexnet_cifar10": _alexnet_cifar10,
    "mobilenet_v2": _mobilenet_v2,
    "nin": _nin,
    "resnet32": _resnet32,
    "resnet50": _resnet50,
    "resnet152": _resnet152,
    "vgg16": _vgg16,
    "vgg16_cifar10": _vgg16_cifar10,
}


def networks() -> tuple[str, ...]:
    """Names of the networks in the zoo."""
    return tuple(_NETWORKS)


def network(name: str) -> Network:
    """The network of that name.

    Raises:
        ValueError: the name is not in `networks()`.
    """
    if name not in _NETWORKS:
        valid = ", ".join(_NETWORKS)
        raise ValueError(f"network: {name!r} is not valid; give one of {valid}")
    return _NETWORKS[name]()
