"""Checks that environments share: each refuses with a `jaxenv.errors.ConfigError`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import numpy as np

from jaxenv.errors import ConfigError


class Rule(NamedTuple):
    """What finite entries must be. one, several: what is valid, of a number and of more."""

    ok: Callable[[Any], Any]
    one: str
    several: str


POSITIVE = Rule(lambda x: x > 0, "give a positive finite number", "give positive finite numbers")
NOT_NEGATIVE = Rule(
    lambda x: x >= 0, "give a finite number, 0 or more", "give finite numbers, 0 or more"
)
FINITE = Rule(lambda x: x == x, "give a finite number", "give finite numbers")


def check_fields(env: Any, least: Mapping[str, int]) -> None:
    """Static fields of an environment, by their annotations.

    A ``Literal`` is one of its choices, a ``bool`` true or false; an integer is at least what
    ``least`` says of its name.
    """
    for name, kind in annotations(type(env)).items():
        value = getattr(env, name)
        if get_origin(kind) is Literal:
            check_choice(name, value, get_args(kind))
        elif kind is bool and not isinstance(value, bool):
            raise ConfigError(name, value, "give true or false")
        elif name in least:
            check_integer(name, value, least[name])


@functools.cache
def annotations(cls: type) -> dict[str, Any]:
    """The types of a dataclass's fields, by name."""
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """An option that is one of its choices."""
    choices = tuple(choices)
    if value not in choices:
        raise ConfigError(name, value, f"choose one of {', '.join(choices)}")


def check_integer(name: str, value: Any, least: int) -> None:
    """An integer of at least so much."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(name, value, f"give an integer of at least {least}")
    if value >= 2**31:
        raise ConfigError(name, value, "give an integer below 2**31")


def check_leaves(params: Any, names: Iterable[str], rule: Rule) -> None:
    """Leaves of a scenario, by name, to which one rule applies."""
    leaves = {name: np.asarray(getattr(params, name)) for name in names}
    numbers = all(value.ndim == 0 for value in leaves.values())
    for name, value in leaves.items():
        check_array(name, value, rule.ok, rule.one if numbers else rule.several)


def check_array(name: str, value: Any, ok: Callable[[Any], Any], valid: str) -> None:
    """A leaf whose entries must be finite and ``ok``."""
    value = np.asarray(value)
    if not (np.isfinite(value) & ok(value)).all():
        raise ConfigError(name, value.tolist(), valid)


def num_axes(value: Any) -> int | None:
    """How many axes a setting has that is to be an array; None of rows of unequal lengths."""
    try:
        return np.ndim(value)
    except ValueError:
        return None


def check_read(
    env: Any, given: Mapping[str, Any], option: str, needed: str, names: Iterable[str]
) -> None:
    """Of the given settings, those of ``names`` are read with ``option`` = ``needed`` alone."""
    if getattr(env, option) == needed:
        return
    for name in names:
        if name in given:
            raise ConfigError(name, given[name], f'it has no effect unless {option}="{needed}"')


SNR_DB = (-100.0, 200.0)
"""Signal-to-noise ratios of a link: beyond them float32 has no rate or no time."""
SECONDS = (0.0, 1e6)
"""Times of a computation or a transmission: beyond them squared gradients overflow float32."""


def check_derived(
    name: str, values: Any, limits: tuple[float, float], unit: str, fields: str
) -> None:
    """What follows from several leaves, each valid by itself, is within limits.

    fields: the leaves, for the message.
    """
    low, high = limits
    for value in (np.min(values), np.max(values)):
        if not low <= value <= high:
            valid = f"{fields} have to give {low:g} to {high:g} {unit}"
            raise ConfigError(name, f"{value:.3g} {unit}", valid)
