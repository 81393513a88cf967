"""Checks of a learner's sizes and hyperparameters: one clear line for what cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

import numpy as np

from jaxenv.errors import ConfigError
from jaxenv.validation import annotations

MOST = 2**31 - 1  # a size is an int32 wherever it is counted
POSITIVE = (lambda x: (x > 0) & np.isfinite(x), "give a positive finite number")
NOT_NEGATIVE = (lambda x: (x >= 0) & np.isfinite(x), "give a finite number, 0 or more")
UNIT = (lambda x: (x >= 0) & (x <= 1), "give a number in [0, 1]")
SHARE = (lambda x: (x > 0) & (x <= 1), "give a number in (0, 1]")
BELOW_ONE = (lambda x: (x >= 0) & (x < 1), "give a number in [0, 1)")
Rule = tuple[Callable[[np.ndarray], np.ndarray], str]


def check_fields(learner: Any) -> None:
    """Static fields of a learner, by their annotations.

    A ``Literal`` or a ``bool`` is one of its choices. An ``int`` is a positive size, but
    ``schedule_updates`` may be 0. A ``tuple[int, ...]`` is widths of hidden layers, and becomes a
    tuple where it was a list.
    """
    for name, kind in annotations(type(learner)).items():
        value = getattr(learner, name)
        if kind is bool:
            _check_choice(name, value, (True, False))
        elif kind is int:
            _check_size(name, value)
        elif kind == tuple[int, ...]:
            object.__setattr__(learner, name, _hidden_widths(name, value))
        elif get_origin(kind) is Literal:
            _check_choice(name, value, get_args(kind))


def _check_size(name: str, value: Any) -> None:
    """A positive integer of 32 bits; ``schedule_updates`` may be 0."""
    if name == "schedule_updates":
        if not _is_positive_int(value) and (value != 0 or isinstance(value, bool)):
            raise ConfigError(name, value, "give a positive integer, or 0")
    elif not _is_positive_int(value):
        raise ConfigError(name, value, "give a positive integer")
    elif value > MOST:
        raise ConfigError(name, value, f"give an integer of at most {MOST}")


def _check_choice(name: str, value: Any, known: tuple[Any, ...]) -> None:
    if value not in known or type(value) is not type(known[0]):
        names = ("true" if x is True else "false" if x is False else str(x) for x in known)
        raise ConfigError(name, value, f"choose {' or '.join(names)}")


def _hidden_widths(name: str, value: Any) -> tuple[int, ...]:
    try:
        widths = tuple(value)
    except TypeError:
        widths = ()
    if not widths or not all(map(_is_positive_int, widths)):
        raise ConfigError(name, value, "give a list of positive integers")
    return widths


def _is_positive_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def check_hyperparameters(hp: Any, rules: dict[str, Rule]) -> None:
    """Refuses leaves of ``hp`` for which the rule of their name does not hold."""
    for name, (holds, valid) in rules.items():
        value = np.asarray(getattr(hp, name))
        if not np.all(holds(value)):
            raise ConfigError(name, value.item() if value.ndim == 0 else value.tolist(), valid)
