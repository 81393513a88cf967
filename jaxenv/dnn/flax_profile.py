"""Profile any Flax module by tracing it with abstract values; the zoo as Flax modules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jex_core

from jaxenv.dnn import layers as arithmetic
from jaxenv.dnn.layers import Layer, Network
from jaxenv.dnn.profiles import Profile

_TAG = re.compile(r"submodule<(\d+):([^>]*)>")
_INLINED = frozenset(
    {
        "jit",
        "pjit",
        "closed_call",
        "core_call",
        "custom_jvp_call",
        "custom_vjp_call",
        "custom_vjp_call_jaxpr",
        "checkpoint",
        "remat",
        "remat2",
    }
)


# ------------------------------------------------------------------ FLOPs of a jaxpr


def _subjaxprs(eqn: jex_core.JaxprEqn) -> Iterator[tuple[jex_core.Jaxpr, Sequence[Any]]]:
    """The programs inside an operation, each with its constants."""
    for value in eqn.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, jex_core.ClosedJaxpr):
                yield item.jaxpr, item.consts
            elif isinstance(item, jex_core.Jaxpr):
                yield item, ()


def _conv_flops(eqn: jex_core.JaxprEqn) -> int:
    kernel, numbers = eqn.invars[1].aval.shape, eqn.params["dimension_numbers"]
    inputs, window = numbers.rhs_spec[1], numbers.rhs_spec[2:]
    per_output = kernel[inputs] * prod(kernel[axis] for axis in window)
    return 2 * prod(eqn.outvars[0].aval.shape) * per_output // prod(eqn.params["lhs_dilation"])


def _dot_flops(eqn: jex_core.JaxprEqn) -> int:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    summed = prod(eqn.invars[0].aval.shape[axis] for axis in contracted)
    return 2 * prod(eqn.outvars[0].aval.shape) * summed


def _eqn_flops(eqn: jex_core.JaxprEqn) -> int:
    name = eqn.primitive.name
    if name == "conv_general_dilated":
        return _conv_flops(eqn)
    if name == "dot_general":
        return _dot_flops(eqn)
    inner = [sum(map(_eqn_flops, jaxpr.eqns)) for jaxpr, _ in _subjaxprs(eqn)]
    if name == "scan":
        return eqn.params["length"] * sum(inner)
    if name == "cond":
        return max(inner)
    if name == "pallas_call" or (name == "while" and sum(inner)):
        raise ValueError(f"module: FLOPs of {name} cannot be counted; give a module without it")
    return sum(inner)


# ------------------------------------------------------------------ operations in a row


@dataclass
class _Operation:
    tags: list[tuple[int, str]]
    flops: int
    reads: list[int]
    writes: list[int]
    equation: jex_core.JaxprEqn
    operands: list[int | jex_core.Literal]


def _tags(eqn: jex_core.JaxprEqn, scope: str) -> list[tuple[int, str]]:
    """Tags of the enclosing calls, or of the calls inside where a lifted loop has none itself."""
    tags = [(int(index), name) for index, name in _TAG.findall(scope)]
    for jaxpr, _ in () if tags else _subjaxprs(eqn):
        for inner in jaxpr.eqns:
            tags += _tags(inner, str(inner.source_info.name_stack))
    return tags


class _Flattened:
    """A jaxpr with its calls inlined; values are numbered and know whether the input reaches them.

    Tags of nested calls are those of the enclosing calls followed by their own.
    """

    def __init__(self, closed: jex_core.ClosedJaxpr, data: Sequence[jex_core.Var]) -> None:
        self.operations: list[_Operation] = []
        self.sizes: list[int] = []
        self.from_input: list[bool] = []
        self.constants: dict[int, Any] = {}
        data, jaxpr = set(data), closed.jaxpr
        environment = {var: self._new(var, var in data) for var in jaxpr.invars}
        self.arguments = [environment[var] for var in jaxpr.invars]
        self.inputs = [environment[var] for var in jaxpr.invars if var in data]
        self.outputs = self._inline(jaxpr, closed.consts, environment, "")

    def _new(self, var: jex_core.Var, from_input: bool) -> int:
        self.sizes.append(prod(getattr(var.aval, "shape", ())))
        self.from_input.append(from_input)
        return len(self.sizes) - 1

    def _inline(
        self,
        jaxpr: jex_core.Jaxpr,
        constants: Sequence[Any],
        environment: dict[jex_core.Var, int | jex_core.Literal],
        stack: str,
    ) -> list[int | jex_core.Literal]:
        for var, value in zip(jaxpr.constvars, constants, strict=True):
            environment[var] = self._new(var, False)
            self.constants[environment[var]] = value

        def number(atom: Any) -> int | jex_core.Literal:
            return atom if isinstance(atom, jex_core.Literal) else environment[atom]

        for eqn in jaxpr.eqns:
            scope = f"{stack}/{eqn.source_info.name_stack}"
            given = [number(atom) for atom in eqn.invars]
            inner, constants = next(_subjaxprs(eqn), (None, ()))
            if eqn.primitive.name in _INLINED and inner is not None:
                inside = dict(zip(inner.invars, given, strict=True))
                results = self._inline(inner, constants, inside, scope)
            else:
                reads = [value for value in given if isinstance(value, int)]
                reached = any(self.from_input[value] for value in reads)
                results = [self._new(var, reached) for var in eqn.outvars]
                self.operations.append(
                    _Operation(_tags(eqn, scope), _eqn_flops(eqn), reads, results, eqn, given)
                )
            environment.update(zip(eqn.outvars, results, strict=True))
        return [number(atom) for atom in jaxpr.outvars]

    def crossing(self, boundary: int) -> int:
        """Elements computed from the input before operation `boundary` and needed from there on."""
        before = set(self.inputs)
        for operation in self.operations[:boundary]:
            before.update(operation.writes)
        after = {value for value in self.outputs if isinstance(value, int)}
        for operation in self.operations[boundary:]:
            after.update(operation.reads)
        return sum(self.sizes[value] for value in before & after if self.from_input[value])


# ------------------------------------------------------------------ rows of a module


@dataclass
class _Row:
    name: str
    start: int
    flops: int
    parameters: int


def _rows(
    called: list[tuple[int, str]], flattened: _Flattened, parameters: dict[str, int], whole: str
) -> list[_Row]:
    """One row per call of a top-level submodule, consecutive calls of one merged."""
    calls = dict(called or [op.tags[0] for op in flattened.operations if op.tags])
    starts: dict[int, int] = {}
    for position, operation in enumerate(flattened.operations):
        if operation.tags:
            starts.setdefault(operation.tags[0][0], position)
    end = len(flattened.operations)
    order = sorted(calls)
    for index in reversed(order):
        end = starts.setdefault(index, end)
    rows: list[_Row] = []
    times: dict[str, int] = {}
    last = None
    for index in order:
        name = calls[index]
        if name == last:
            continue
        last = name
        times[name] = times.get(name, 0) + 1
        label = name if times[name] == 1 else f"{name}#{times[name]}"
        rows.append(_Row(label, starts[index], 0, 0))
    rows = rows or [_Row(whole, 0, 0, 0)]
    rows[0].start = 0
    owner = {row.name: position for position, row in enumerate(rows)}
    current = 0
    for position, operation in enumerate(flattened.operations):
        while current + 1 < len(rows) and rows[current + 1].start <= position:
            current += 1
        rows[current].flops += operation.flops
        for _, name in operation.tags:
            owner.setdefault(name, current)
    for name, count in parameters.items():
        rows[owner.get(name, 0)].parameters += count
    return rows


def _grouped(rows: list[_Row], blocks: Mapping[str, Sequence[str]]) -> list[_Row]:
    names = [row.name for row in rows]
    given = [member for members in blocks.values() for member in members]
    if given != names or not all(blocks.values()):
        raise ValueError(
            f"blocks: {given} is not valid; give every submodule once, in order of call: {names}"
        )
    grouped = []
    remaining = iter(rows)
    for block, members in blocks.items():
        part = [next(remaining) for _ in members]
        flops, parameters = sum(r.flops for r in part), sum(r.parameters for r in part)
        grouped.append(_Row(block, part[0].start, flops, parameters))
    return grouped


def _count(tree: Any) -> int:
    return sum(prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def profile_flax(
    module: nn.Module,
    input_shape: Sequence[int],
    *,
    blocks: Mapping[str, Sequence[str]] | None = None,
    dtype: Any = "float32",
    **call_arguments: Any,
) -> Profile:
    """Profile of a Flax linen module, traced with abstract values: no parameter is allocated.

    There is one layer per top-level submodule in order of call (a submodule called again later is
    another layer, `name#2`, without parameters). Whatever the module computes between two
    submodules, such as activations or pooling, belongs to the one before; a loop over several
    submodules belongs to the first of them. FLOPs are 2 per multiply-accumulate of
    `conv_general_dilated` and `dot_general`, also inside jit, custom derivatives, remat, `scan`
    (times its length) and `cond` (the larger branch). The output of a layer is everything computed
    from the input up to there and needed later, so that a skip connection that spans a cut is
    counted.

    Args:
        module: unbound linen module whose `__call__` takes a batch as its first argument.
        input_shape: shape of one example as the module takes it, images (height, width, channels).
        blocks: submodule names of each block, in order, where coarser layers are wanted.
        dtype: type of the input.
        **call_arguments: further arguments of `__call__`, such as `train=False`.

    Raises:
        ValueError: the shape is not positive integers, `blocks` does not list the submodules in
            order of call, or the FLOPs cannot be counted (work inside a `while_loop`).
    """
    return trace(module, input_shape, blocks, dtype, call_arguments).profile


@dataclass
class Traced:
    """A module's forward pass, traced. starts: first operation of every layer but the input."""

    profile: Profile
    flattened: _Flattened
    starts: list[int]
    variables: Any


def trace(
    module: nn.Module,
    input_shape: Sequence[int],
    blocks: Mapping[str, Sequence[str]] | None,
    dtype: Any,
    call_arguments: Mapping[str, Any],
) -> Traced:
    """What `profile_flax` counts in."""
    shape = tuple(input_shape)
    if not shape or any(int(size) != size or size < 1 for size in shape):
        raise ValueError(f"input_shape: {shape} is not valid; give positive integers")
    example = jax.ShapeDtypeStruct((1, *shape), dtype)
    keys = {name: jax.random.key(0) for name in ("params", "dropout")}
    variables = jax.eval_shape(lambda x: module.init(keys, x, **call_arguments), example)
    called: list[tuple[int, str]] = []

    def tag_submodule(next_call, args, kwargs, context):
        path = context.module.path
        if len(path) != 1 or context.method_name == "setup":
            return next_call(*args, **kwargs)
        nested = bool(open_calls)
        index, name = len(called), str(path[0])
        if not nested:
            called.append((index, name))
        open_calls.append(name)
        try:
            with jax.named_scope(f"submodule<{index}:{name}>"):
                return next_call(*args, **kwargs)
        finally:
            open_calls.pop()

    open_calls: list[str] = []

    def forward(given, x):
        with nn.intercept_methods(tag_submodule):
            return module.apply(given, x, rngs=keys, mutable=True, **call_arguments)[0]

    closed = jax.make_jaxpr(forward)(variables, example)
    flattened = _Flattened(closed, closed.jaxpr.invars[-1:])
    parameters = {name: _count(tree) for name, tree in variables.get("params", {}).items()}
    class_name = type(module).__name__
    rows = _rows(called, flattened, parameters, module.name or class_name)
    if blocks is not None:
        rows = _grouped(rows, blocks)
    starts = [row.start for row in rows]
    cuts = [*starts[1:], len(flattened.operations)]
    profile = Profile(
        name=module.name or class_name,
        names=("input", *(row.name for row in rows)),
        flops=np.array([0, *(row.flops for row in rows)], np.float64),
        output_elements=np.array([prod(shape), *map(flattened.crossing, cuts)], np.int64),
        parameters=np.array([0, *(row.parameters for row in rows)], np.int64),
    )
    return Traced(profile, flattened, starts, variables)


# ------------------------------------------------------------------ the zoo in Flax


def _adaptive_avg_pool(x: jax.Array, size: int) -> jax.Array:
    for axis in (1, 2):
        windows = arithmetic.adaptive_windows(x.shape[axis], size)
        means = [jax.lax.slice_in_dim(x, *w, axis=axis).mean(axis, keepdims=True) for w in windows]
        x = jnp.concatenate(means, axis)
    return x


def _pad_shortcut(x: jax.Array, layer: arithmetic.PadShortcut) -> jax.Array:
    x = x[:, :: layer.stride, :: layer.stride, :]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, layer.features - x.shape[-1])))


def _apply(layer: Layer, x: jax.Array) -> jax.Array:
    match layer:
        case arithmetic.Residual():
            return _apply_all(layer.layers, x) + _apply_all(layer.shortcut, x)
        case arithmetic.Chain():
            return _apply_all(layer.layers, x)
        case arithmetic.Conv():
            return nn.Conv(
                layer.features,
                (layer.kernel, layer.kernel),
                strides=layer.stride,
                padding=layer.padding,
                feature_group_count=layer.groups,
                use_bias=layer.bias,
            )(x)
        case arithmetic.Linear():
            return nn.Dense(layer.features)(x)
        case arithmetic.MaxPool():
            window, strides = (layer.kernel,) * 2, (layer.stride,) * 2
            return nn.max_pool(x, window, strides, [(layer.padding,) * 2] * 2)
        case arithmetic.AdaptiveAvgPool():
            return _adaptive_avg_pool(x, layer.size)
        case arithmetic.Relu():
            return nn.relu(x) if layer.maximum is None else jnp.clip(x, 0, layer.maximum)
        case arithmetic.BatchNorm():
            return nn.BatchNorm(use_running_average=True)(x)
        case arithmetic.Flatten():
            return x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
        case arithmetic.PadShortcut():
            return _pad_shortcut(x, layer)
    raise ValueError(f"layer: {layer} is not valid; give a layer of jaxenv.dnn.layers")


def _apply_all(layers: Sequence[Layer], x: jax.Array) -> jax.Array:
    for layer in layers:
        x = _apply(layer, x)
    return x


class FlaxLayer(nn.Module):
    """One named layer of a network; input and output are NHWC or (N, features)."""

    layer: Layer

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply the layer."""
        return _apply(self.layer, x)


class FlaxNetwork(nn.Module):
    """A network with one submodule per named layer; input NHWC, output (N, features)."""

    network: Network

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits of a batch of images."""
        for name, layer in self.network.layers:
            x = FlaxLayer(layer, name=name)(x)
        return x


def to_flax(network: Network) -> FlaxNetwork:
    """Flax module of a layer list, in inference mode, with parameters named after the layers.

    `profile_flax(to_flax(net), (H, W, C), blocks=net.blocks(granularity))` equals
    `profile(net, (C, H, W), granularity)`. Fully connected layers take features in (C, H, W) order.
    """
    return FlaxNetwork(network, name=network.name)
