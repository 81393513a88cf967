"""What a network costs, layer by layer: work, output, parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from jaxenv.dnn.layers import Conv, Layer, Linear, Network, Shape
from jaxenv.dnn.zoo import network as zoo_network


@dataclass(frozen=True, eq=False)
class Profile:
    """A network as a chain of K layers, the first of which is `input`.

    Attributes:
        name: name of the network.
        names: K layer names; the first is `input`.
        flops: float64[K], operations of each layer (0 for `input`).
        output_elements: int64[K], elements each layer hands to the next one.
        parameters: int64[K], trained parameters of each layer.

    Raises:
        ValueError: lengths differ, the first layer is not an `input` without work and parameters,
            or an entry is negative or not finite.
    """

    name: str
    names: tuple[str, ...]
    flops: np.ndarray
    output_elements: np.ndarray
    parameters: np.ndarray

    def __post_init__(self) -> None:
        """Fix the types and check the entries."""
        object.__setattr__(self, "names", tuple(self.names))
        for field, dtype in (("flops", float), ("output_elements", int), ("parameters", int)):
            given = np.asarray(getattr(self, field))
            if given.shape != (len(self.names),):
                raise ValueError(
                    f"{field}: shape {given.shape} is not valid; give ({len(self.names)},)"
                )
            for layer, value in zip(self.names, given, strict=True):
                if not np.isfinite(value) or value < 0:
                    raise ValueError(
                        f"{field} of {layer}: {value} is not valid; give a finite number >= 0"
                    )
                if dtype is int and int(value) != value:
                    raise ValueError(f"{field} of {layer}: {value} is not valid; give an integer")
            values = given.astype(np.float64 if dtype is float else np.int64)
            values.setflags(write=False)
            object.__setattr__(self, field, values)
        if not self.names or self.names[0] != "input":
            raise ValueError(f"names: {self.names[:1]} is not valid; the first layer is 'input'")
        for field in ("flops", "parameters"):
            if getattr(self, field)[0] != 0:
                raise ValueError(
                    f"{field} of input: {getattr(self, field)[0]} is not valid; give 0"
                )

    @property
    def num_layers(self) -> int:
        """K, counting `input`."""
        return len(self.names)

    @property
    def macs(self) -> np.ndarray:
        """float64[K], multiply-accumulates of each layer: half its FLOPs."""
        return self.flops / 2

    def output_bits(self, input_bits: float = 8, bits: float = 32) -> np.ndarray:
        """float64[K], size of each layer's output in bits.

        Args:
            input_bits: bits per element of the raw input (first entry).
            bits: bits per element of every other layer's output.
        """
        per_element = np.full(self.num_layers, float(bits))
        per_element[0] = input_bits
        return self.output_elements * per_element

    def merged(self, starts: Sequence[int]) -> Profile:
        """The same network with its layers merged into consecutive blocks.

        Args:
            starts: first layer of each block, counted without `input`; starts[0] is 0.

        Raises:
            ValueError: the starts do not begin with 0, do not increase or pass the last layer.
        """
        ends = [*starts[1:], self.num_layers - 1]
        if not starts or starts[0] != 0 or any(a >= b for a, b in zip(starts, ends, strict=True)):
            raise ValueError(
                f"starts: {list(starts)} is not valid; give increasing integers from 0 below "
                f"{self.num_layers - 1}"
            )
        spans = [(start + 1, end + 1) for start, end in zip(starts, ends, strict=True)]
        names = [_span_name(self.names[start:end]) for start, end in spans]
        return Profile(
            name=self.name,
            names=("input", *names),
            flops=np.array([0.0] + [self.flops[a:b].sum() for a, b in spans]),
            output_elements=self.output_elements[[0, *(b - 1 for _, b in spans)]],
            parameters=np.array([0] + [self.parameters[a:b].sum() for a, b in spans]),
        )


def _span_name(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]}..{names[-1]}"


def _check_input_shape(input_shape: Sequence[int]) -> Shape:
    shape = tuple(input_shape)
    if len(shape) != 3 or any(int(size) != size or size < 1 for size in shape):
        raise ValueError(
            f"input_shape: {shape} is not valid; give (channels, height, width), "
            "three positive integers"
        )
    return tuple(int(size) for size in shape)


def _resolve(name_or_network: str | Network) -> Network:
    return name_or_network if isinstance(name_or_network, Network) else zoo_network(name_or_network)


def _block_layers(
    network: Network, input_shape: Sequence[int], granularity: str
) -> list[tuple[str, list[tuple[Layer, Shape]], Shape]]:
    """(block, its elementary layers with their input shapes, its output shape) in order."""
    shape = _check_input_shape(input_shape)
    layers = dict(network.layers)
    blocks = []
    for block, members in network.blocks(granularity).items():
        leaves: list[tuple[Layer, Shape]] = []
        for member in members:
            try:
                leaves += layers[member].leaves(shape)
                shape = layers[member].output(shape)
            except ValueError as error:
                raise ValueError(
                    f"input_shape: {tuple(input_shape)} is not valid for {network.name}; "
                    f"at {member}: {error}"
                ) from None
        blocks.append((block, leaves, shape))
    return blocks


def profile(
    name_or_network: str | Network,
    input_shape: Sequence[int] = (3, 720, 1280),
    granularity: str = "block",
    operations: str = "macs",
) -> Profile:
    """Profile of a network of the zoo, or of a `Network`, computed by arithmetic.

    Args:
        name_or_network: a name from `networks()`, or a layer list.
        input_shape: (channels, height, width) of the input.
        granularity: `block`, `layer` or `unit`; see `Network.blocks`. Totals do not depend on it.
        operations: what counts as work. `macs`: 2 FLOPs per multiply-accumulate of convolutions
            and fully connected layers, all else 0. `all`: in addition 1 per bias, activation and
            residual addition and 1 per element of a pooling window.

    Raises:
        ValueError: unknown network, granularity or operations, or an input shape that does not
            pass through the network.
    """
    if operations not in ("macs", "all"):
        raise ValueError(f"operations: {operations!r} is not valid; give one of macs, all")
    network = _resolve(name_or_network)
    blocks = _block_layers(network, input_shape, granularity)
    work, elements, parameters = [0], [prod(input_shape)], [0]
    for _, leaves, output in blocks:
        flops = 2 * sum(layer.macs(shape) for layer, shape in leaves)
        if operations == "all":
            flops += sum(layer.other_operations(shape) for layer, shape in leaves)
        work.append(flops)
        elements.append(prod(output))
        parameters.append(sum(layer.parameters(shape) for layer, shape in leaves))
    return Profile(
        name=network.name,
        names=("input", *(block for block, _, _ in blocks)),
        flops=np.array(work, np.float64),
        output_elements=np.array(elements, np.int64),
        parameters=np.array(parameters, np.int64),
    )


@dataclass(frozen=True, eq=False)
class MacCounts:
    """Multiply-accumulates by kind, as MAC-based energy models need them.

    Attributes:
        convolution: int64[K], of convolutions, depthwise ones included.
        convolution_per_output: int64[K], of the same convolutions, each divided by its number of
            output channels.
        linear: int64[K], of fully connected layers.
    """

    convolution: np.ndarray
    convolution_per_output: np.ndarray
    linear: np.ndarray


def mac_counts(
    name_or_network: str | Network,
    input_shape: Sequence[int] = (3, 224, 224),
    granularity: str = "block",
) -> MacCounts:
    """Multiply-accumulates by kind for the layers of `profile` (first entry: `input`, 0).

    Raises:
        ValueError: as `profile`.
    """
    rows = [(0, 0, 0)]
    for _, leaves, _ in _block_layers(_resolve(name_or_network), input_shape, granularity):
        convolutions = [(x.macs(s), x.features) for x, s in leaves if isinstance(x, Conv)]
        rows.append(
            (
                sum(macs for macs, _ in convolutions),
                sum(macs // features for macs, features in convolutions),
                sum(x.macs(s) for x, s in leaves if isinstance(x, Linear)),
            )
        )
    return MacCounts(*np.array(rows, np.int64).T)


def balanced(fine: Profile, num_blocks: int) -> Profile:
    """Merge a profile's layers into the contiguous blocks with the least sum of squared FLOPs.

    Solved exactly by dynamic programming in integers (FLOPs are rounded to integers first). Ties go
    to the smallest start of the last block, then of the one before, and so on.

    Raises:
        ValueError: `num_blocks` is not in 1..K-1.
    """
    work = [round(value) for value in fine.flops[1:].tolist()]
    count = len(work)
    if int(num_blocks) != num_blocks or not 1 <= num_blocks <= count:
        raise ValueError(f"num_blocks: {num_blocks} is not valid; give an integer in 1..{count}")
    total = [0]
    for value in work:
        total.append(total[-1] + value)
    best: list[tuple[int, list[int]] | None] = [(value**2, [0]) for value in total]
    best[0] = None
    for _ in range(1, num_blocks):
        extended: list[tuple[int, list[int]] | None] = [None] * (count + 1)
        for end in range(1, count + 1):
            options = (
                (best[start][0] + (total[end] - total[start]) ** 2, start)
                for start in range(1, end)
                if best[start] is not None
            )
            cost, start = min(options, default=(0, 0))
            if start:
                extended[end] = (cost, [*best[start][1], start])
        best = extended
    return fine.merged(best[count][1])
