"""Checks that environments share: each refuses with a `jaxenv.errors.ConfigError`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxenv.errors import ConfigError


def check_fields(env: Any, choices: Mapping[str, Sequence[str]], least: Mapping[str, int]) -> None:
    """Static fields of an environment: one of their choices, or an integer of at least so much."""
    for field in dataclasses.fields(env):
        value = getattr(env, field.name)
        valid = choices.get(field.name)
        if valid is not None and value not in valid:
            raise ConfigError(field.name, value, f"choose one of {', '.join(valid)}")
        low = least.get(field.name)
        if low is not None and (
            isinstance(value, bool) or not isinstance(value, int) or value < low
        ):
            raise ConfigError(field.name, value, f"give an integer of at least {low}")
        if low is not None and value >= 2**31:
            raise ConfigError(field.name, value, "give an integer below 2**31")


def check_array(name: str, value: Any, ok: Callable[[Any], Any], valid: str) -> None:
    """A leaf whose entries must be finite and ``ok``."""
    value = np.asarray(value)
    if not (np.isfinite(value) & ok(value)).all():
        raise ConfigError(name, value.tolist(), valid)
