"""Layers as arithmetic: shapes, multiply-accumulates, operations and parameters without any array.

A shape is (channels, height, width), or (features,) after `Flatten`; there is no batch axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """Base of all layers. A layer without work or parameters only overrides `output`."""

    def output(self, shape: Shape) -> Shape:
        """Shape of the output for an input of the given shape."""
        return shape

    def macs(self, shape: Shape) -> int:
        """Multiply-accumulates of convolutions and fully connected layers."""
        return 0

    def other_operations(self, shape: Shape) -> int:
        """Operations beside the multiply-accumulates: biases, activations, pooling, additions."""
        return 0

    def parameters(self, shape: Shape) -> int:
        """Number of trained parameters (running statistics are not counted)."""
        return 0

    def leaves(self, shape: Shape) -> Iterator[tuple[Layer, Shape]]:
        """The elementary layers inside this one, each with the shape of its input."""
        yield self, shape


def _window(size: int, kernel: int, stride: int, padding: int) -> int:
    return (size + 2 * padding - kernel) // stride + 1


def _spatial(layer: Layer, shape: Shape, kernel: int, stride: int, padding: int) -> Shape:
    if len(shape) != 3:
        raise ValueError(f"input shape: {shape} is not valid for {layer}; give (C, H, W)")
    height, width = (_window(size, kernel, stride, padding) for size in shape[1:])
    if height < 1 or width < 1:
        raise ValueError(
            f"input shape: {shape} is too small for a window of {kernel} x {kernel}; "
            "give a larger network input"
        )
    return shape[0], height, width


@dataclass(frozen=True)
class Conv(Layer):
    """Square two-dimensional convolution; `groups` equal to the channels makes it depthwise."""

    features: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    bias: bool = True

    def output(self, shape: Shape) -> Shape:
        """(features, H', W') with floor((H + 2 padding - kernel) / stride) + 1.

        Raises:
            ValueError: `groups` does not divide both the input's channels and `features`.
        """
        channels, *size = _spatial(self, shape, self.kernel, self.stride, self.padding)
        if self.groups < 1 or channels % self.groups or self.features % self.groups:
            valid = f"give a divisor of {channels} channels and {self.features} features"
            raise ValueError(f"groups: {self.groups} is not valid; {valid}")
        return self.features, *size

    def macs(self, shape: Shape) -> int:
        """kernel^2 * (C / groups) per output element."""
        return self.kernel**2 * (shape[0] // self.groups) * prod(self.output(shape))

    def other_operations(self, shape: Shape) -> int:
        """One bias addition per output element."""
        return prod(self.output(shape)) if self.bias else 0

    def parameters(self, shape: Shape) -> int:
        """Weights and biases."""
        weights = self.kernel**2 * (shape[0] // self.groups) * self.features
        return weights + (self.features if self.bias else 0)


@dataclass(frozen=True)
class Linear(Layer):
    """Fully connected layer with bias."""

    features: int

    def output(self, shape: Shape) -> Shape:
        """(features,)."""
        if len(shape) != 1:
            raise ValueError(f"input shape: {shape} is not valid for {self}; flatten it first")
        return (self.features,)

    def macs(self, shape: Shape) -> int:
        """Inputs times outputs."""
        return shape[0] * self.features

    def other_operations(self, shape: Shape) -> int:
        """One bias addition per output element."""
        return self.features

    def parameters(self, shape: Shape) -> int:
        """Weights and biases."""
        return (shape[0] + 1) * self.features


@dataclass(frozen=True)
class MaxPool(Layer):
    """Square max pooling in floor mode."""

    kernel: int
    stride: int
    padding: int = 0

    def output(self, shape: Shape) -> Shape:
        """(C, H', W') with floor((H + 2 padding - kernel) / stride) + 1."""
        return _spatial(self, shape, self.kernel, self.stride, self.padding)

    def other_operations(self, shape: Shape) -> int:
        """kernel^2 per output element."""
        return self.kernel**2 * prod(self.output(shape))


def adaptive_windows(size: int, bins: int) -> list[tuple[int, int]]:
    """Start and end of each window of adaptive average pooling along one axis."""
    return [(i * size // bins, -(-(i + 1) * size // bins)) for i in range(bins)]


@dataclass(frozen=True)
class AdaptiveAvgPool(Layer):
    """Average pooling to a fixed `size` x `size`; size 1 is global average pooling."""

    size: int = 1

    def output(self, shape: Shape) -> Shape:
        """(C, size, size)."""
        return shape[0], self.size, self.size

    def other_operations(self, shape: Shape) -> int:
        """One per element of every window."""
        spans = [sum(b - a for a, b in adaptive_windows(n, self.size)) for n in shape[1:]]
        return shape[0] * prod(spans)


@dataclass(frozen=True)
class Relu(Layer):
    """Elementwise activation, clipped above at `maximum` where given (ReLU6)."""

    maximum: float | None = None

    def other_operations(self, shape: Shape) -> int:
        """One per element."""
        return prod(shape)


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Batch normalisation: folded into the convolution at inference, so no operations."""

    def parameters(self, shape: Shape) -> int:
        """Scale and offset per channel."""
        return 2 * shape[0]


@dataclass(frozen=True)
class Flatten(Layer):
    """(C, H, W) to (C H W,)."""

    def output(self, shape: Shape) -> Shape:
        """(C H W,)."""
        return (prod(shape),)


@dataclass(frozen=True)
class PadShortcut(Layer):
    """Parameter-free shortcut: every `stride`-th pixel, zeros for the channels beyond the input."""

    features: int
    stride: int

    def output(self, shape: Shape) -> Shape:
        """(features, ceil(H / stride), ceil(W / stride))."""
        return self.features, *_spatial(self, shape, 1, self.stride, 0)[1:]


@dataclass(frozen=True)
class Chain(Layer):
    """Layers in sequence, used as one."""

    layers: tuple[Layer, ...]

    def output(self, shape: Shape) -> Shape:
        """Output of the last layer."""
        for layer in self.layers:
            shape = layer.output(shape)
        return shape

    def macs(self, shape: Shape) -> int:
        """Sum over the layers."""
        return sum(layer.macs(given) for layer, given in self.leaves(shape))

    def other_operations(self, shape: Shape) -> int:
        """Sum over the layers."""
        return sum(layer.other_operations(given) for layer, given in self.leaves(shape))

    def parameters(self, shape: Shape) -> int:
        """Sum over the layers."""
        return sum(layer.parameters(given) for layer, given in self.leaves(shape))

    def leaves(self, shape: Shape) -> Iterator[tuple[Layer, Shape]]:
        """Elementary layers in order."""
        for layer in self.layers:
            yield from layer.leaves(shape)
            shape = layer.output(shape)


@dataclass(frozen=True)
class Add(Layer):
    """Elementwise addition of two inputs of one shape."""

    def other_operations(self, shape: Shape) -> int:
        """One per element."""
        return prod(shape)


@dataclass(frozen=True)
class Residual(Chain):
    """The layers' output plus the shortcut's output; an empty shortcut is the identity."""

    shortcut: tuple[Layer, ...] = ()

    def output(self, shape: Shape) -> Shape:
        """Output of the last layer, which the shortcut must match."""
        main, side = super().output(shape), Chain(self.shortcut).output(shape)
        if main != side:
            raise ValueError(f"shortcut: its output {side} is not valid; the layers give {main}")
        return main

    def leaves(self, shape: Shape) -> Iterator[tuple[Layer, Shape]]:
        """Elementary layers of the main path, of the shortcut, and the addition."""
        yield from super().leaves(shape)
        yield from Chain(self.shortcut).leaves(shape)
        yield Add(), self.output(shape)


_JOINS_PREVIOUS = {
    "unit": (BatchNorm, Flatten),
    "layer": (BatchNorm, Flatten, Relu),
}


@dataclass(frozen=True)
class Network:
    """A chain of named layers.

    Attributes:
        name: name of the network.
        layers: (name, layer) pairs in order of execution.
        block_ends: (block name, name of its last layer) pairs in order; the default grouping.

    Raises:
        ValueError: layer or block names repeat, or the block ends are not layers in order of
            execution up to the last one.
    """

    name: str
    layers: tuple[tuple[str, Layer], ...]
    block_ends: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        """Check the names and the grouping."""
        names = [name for name, _ in self.layers]
        blocks = [block for block, _ in self.block_ends]
        for field, given in (("layers", names), ("block_ends", blocks)):
            repeated = sorted({name for name in given if given.count(name) > 1})
            if repeated:
                raise ValueError(f"{field}: {repeated[0]!r} is not valid twice; give unique names")
        ends = [end for _, end in self.block_ends]
        if ends != [name for name in names if name in ends] or ends[-1:] != names[-1:]:
            raise ValueError(
                f"block_ends: {ends} is not valid; give layers of {self.name} in order, "
                f"the last of them {names[-1:]}"
            )

    def blocks(self, granularity: str = "block") -> dict[str, tuple[str, ...]]:
        """Names of the layers in each block, in order.

        Args:
            granularity: `block`, the coarse grouping at which the network is usually cut; `layer`,
                every convolution, pooling, fully connected layer and residual block; `unit`, as
                `layer` with every activation on its own.

        Raises:
            ValueError: unknown granularity.
        """
        if granularity == "block":
            return self._blocks_until(self.block_ends)
        if granularity not in _JOINS_PREVIOUS:
            raise ValueError(
                f"granularity: {granularity!r} is not valid; give one of block, layer, unit"
            )
        ends: dict[str, str] = {}
        for name, layer in self.layers:
            joins = ends and isinstance(layer, _JOINS_PREVIOUS[granularity])
            ends[next(reversed(ends)) if joins else name] = name
        return self._blocks_until(tuple(ends.items()))

    def _blocks_until(self, ends: tuple[tuple[str, str], ...]) -> dict[str, tuple[str, ...]]:
        names = [name for name, _ in self.layers]
        stops = [names.index(last) + 1 for _, last in ends]
        starts = [0, *stops[:-1]]
        return {
            block: tuple(names[start:stop])
            for (block, _), start, stop in zip(ends, starts, stops, strict=True)
        }
