"""Times the blocks of a Flax module on this machine.

Blocks are the layers of `profile_flax`: each is compiled by itself and computes from what the
blocks before have left what the ones after need.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.extend import core as jex_core

from jaxenv.dnn.flax_profile import Traced, trace
from jaxenv.dnn.profiles import Profile


def block_calls(
    module: nn.Module,
    input_shape: Sequence[int],
    *,
    blocks: Mapping[str, Sequence[str]] | None = None,
    dtype: Any = "float32",
    seed: int = 0,
    on_block: Callable[[], None] = lambda: None,
    **call_arguments: Any,
) -> tuple[Profile, list[Callable[[], Any]]]:
    """The profile of a module, and a function per block that runs it once on one example.

    Parameters and the example, which is standard normal, are drawn by ``seed``. ``on_block`` is
    called whenever a block has been compiled. The other arguments are those of `profile_flax`; the
    last call returns what the module does.
    """
    traced = trace(module, input_shape, blocks, dtype, call_arguments)
    keys = {name: jax.random.key(seed) for name in ("params", "dropout")}
    rng = np.random.default_rng(seed)
    example = jax.numpy.asarray(rng.standard_normal((1, *input_shape)), dtype)
    variables = jax.jit(lambda x: module.init(keys, x, **call_arguments))(example)
    values = dict(traced.flattened.constants)
    leaves = [*jax.tree.leaves(variables), example]
    values |= dict(zip(traced.flattened.arguments, leaves, strict=True))
    calls = []
    for reads, writes, block in _blocks(traced):
        compiled = jax.jit(block)
        inputs = [values[number] for number in reads]
        outputs = jax.block_until_ready(compiled(inputs))
        values |= dict(zip(writes, outputs, strict=True))
        calls.append(lambda compiled=compiled, inputs=inputs: compiled(inputs))
        on_block()
    return traced.profile, calls


def _blocks(
    traced: Traced,
) -> list[tuple[list[int], list[int], Callable[[list[Any]], list[Any]]]]:
    """Per block the numbers of the values it reads and writes, and the function between them."""
    operations = traced.flattened.operations
    needed = {value for value in traced.flattened.outputs if isinstance(value, int)}
    found = []
    ends = [*traced.starts[1:], len(operations)]
    for start, end in reversed(list(zip(traced.starts, ends, strict=True))):
        part = operations[start:end]
        written = {value for operation in part for value in operation.writes}
        read = {value for operation in part for value in operation.reads} - written
        found.append((sorted(read), sorted(written & needed), part))
        needed |= read

    return [
        (reads, writes, partial(_evaluated, part, reads, writes))
        for reads, writes, part in reversed(found)
    ]


def _evaluated(
    part: Sequence[Any], reads: Sequence[int], writes: Sequence[int], given: Sequence[Any]
) -> list[Any]:
    """The values ``writes`` that operations compute from the values ``reads``."""
    values = dict(zip(reads, given, strict=True))
    for operation in part:
        operands = [
            operand.val if isinstance(operand, jex_core.Literal) else values[operand]
            for operand in operation.operands
        ]
        primitive = operation.equation.primitive
        bound = primitive.get_bind_params(operation.equation.params)
        functions, parameters = bound if isinstance(bound, tuple) else ((), bound)
        result = primitive.bind(*functions, *operands, **parameters)
        results = result if primitive.multiple_results else [result]
        values |= dict(zip(operation.writes, results, strict=True))
    return [values[number] for number in writes]


def time_blocks(
    calls: Sequence[Callable[[], Any]],
    repeats: int,
    warm_up: int = 3,
    on_pass: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Wall times of whole passes, block after block, float64 ``[repeats, blocks]`` in s.

    Every block is waited for. ``on_pass`` is called after each pass, also of the ``warm_up`` ones,
    which are not counted.
    """
    seconds = np.zeros((repeats, len(calls)))
    for repeat in range(-warm_up, repeats):
        for index, call in enumerate(calls):
            began = time.perf_counter()
            jax.block_until_ready(call())
            if repeat >= 0:
                seconds[repeat, index] = time.perf_counter() - began
        on_pass()
    return seconds
