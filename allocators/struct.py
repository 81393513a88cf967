"""Frozen dataclasses that are pytrees, as in `flax.struct` and compatible with it.

Importing Flax takes a third of the time that importing JAX takes; this is all that is needed. And
trees of two classes are never equal here, as they are with `jax.tree_util.register_dataclass`, of
which two classes without leaves, or with equally many, have equal structures: `jax.jit` may then
take one for the other, whenever their hashes happen to collide.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, dataclass_transform

import jax

T = TypeVar("T", bound=type)


def field(*, pytree_node: bool = True, **options: Any) -> Any:
    """A field; with ``pytree_node=False`` it is static: part of the tree's structure."""
    return dataclasses.field(metadata={"static": not pytree_node}, **options)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def dataclass(cls: T) -> T:
    """Makes ``cls`` a frozen dataclass, a pytree, with ``replace(**changes)``."""
    cls = dataclasses.dataclass(frozen=True)(cls)
    cls.replace = dataclasses.replace
    fields = [f for f in dataclasses.fields(cls) if f.init]
    static = tuple(f.name for f in fields if f.metadata.get("static", False))
    leaves = tuple(f.name for f in fields if f.name not in static)
    keys = tuple(jax.tree_util.GetAttrKey(name) for name in leaves)

    def flatten(x: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return tuple(getattr(x, name) for name in leaves), tuple(getattr(x, n) for n in static)

    def flatten_with_keys(x: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        children, structure = flatten(x)
        return tuple(zip(keys, children, strict=True)), structure

    def unflatten(structure: tuple[Any, ...], children: Any) -> Any:
        x = object.__new__(cls)  # JAX also builds trees of placeholders, which need no checks
        for name, value in zip((*leaves, *static), (*children, *structure), strict=True):
            object.__setattr__(x, name, value)
        return x

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
