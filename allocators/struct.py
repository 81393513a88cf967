"""Frozen dataclasses of arrays that are pytrees.

Trees of two classes are never equal, as they are with `jax.tree_util.register_dataclass` where two
classes have equally many fields: `jax.jit` may then take one for the other.
"""

import dataclasses
from typing import Any, TypeVar, dataclass_transform

import jax

T = TypeVar("T", bound=type)


@dataclass_transform(frozen_default=True)
def dataclass(cls: T) -> T:
    """Makes ``cls`` a frozen dataclass and a pytree of its fields, with ``replace(**changes)``."""
    cls = dataclasses.dataclass(frozen=True)(cls)
    cls.replace = dataclasses.replace
    names = tuple(field.name for field in dataclasses.fields(cls))
    keys = tuple(jax.tree_util.GetAttrKey(name) for name in names)

    def flatten(x: Any) -> tuple[tuple[Any, ...], None]:
        return tuple(getattr(x, name) for name in names), None

    def flatten_with_keys(x: Any) -> tuple[tuple[Any, ...], None]:
        return tuple(zip(keys, flatten(x)[0], strict=True)), None

    def unflatten(_: None, children: Any) -> Any:
        return cls(*children)

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
