"""Options of the solvers: refused by name where a `Literal` does not list them."""

from __future__ import annotations

from typing import Any, Literal, get_args

Backend = Literal["closed", "jaxopt"]
"""A closed form or a method of our own, or jaxopt's solver of the same conditions."""


def check_choice(value: str, valid: Any, name: str) -> None:
    """Refuse a value that a `Literal` does not list.

    Raises:
        ValueError: the value is none of them.
    """
    options = get_args(valid)
    if value not in options:
        raise ValueError(f"{name}: {value!r} is not valid; give one of {', '.join(options)}")
