"""Frozen dataclasses that are pytrees, as in `flax.struct` and compatible with it.

Importing Flax takes a third of the time that importing JAX takes; environments need only this.
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
    return jax.tree_util.register_dataclass(cls)
