"""Frozen dataclasses that are pytrees: `allocators.struct` under the name that users import."""

from allocators.struct import dataclass, field

__all__ = ["dataclass", "field"]
