"""Checks of a learner's sizes and hyperparameters: one clear line for what cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxenv.errors import ConfigError

MOST = 2**31 - 1  # a size is an int32 wherever it is counted
POSITIVE = (lambda x: (x > 0) & np.isfinite(x), "give a positive finite number")
NOT_NEGATIVE = (lambda x: (x >= 0) & np.isfinite(x), "give a finite number, 0 or more")
UNIT = (lambda x: (x >= 0) & (x <= 1), "give a number in [0, 1]")
SHARE = (lambda x: (x > 0) & (x <= 1), "give a number in (0, 1]")
BELOW_ONE = (lambda x: (x >= 0) & (x < 1), "give a number in [0, 1)")
Rule = tuple[Callable[[np.ndarray], np.ndarray], str]


def is_positive_int(value: Any) -> bool:
    """Whether ``value`` is an integer above 0, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def check_sizes(learner: Any, names: Sequence[str]) -> None:
    """Refuses fields of a learner that are no positive integers of 32 bits."""
    for name in names:
        if not is_positive_int(getattr(learner, name)):
            raise ConfigError(name, getattr(learner, name), "give a positive integer")
        if getattr(learner, name) > MOST:
            raise ConfigError(name, getattr(learner, name), f"give an integer of at most {MOST}")


def check_schedule(learner: Any) -> None:
    """Refuses a ``schedule_updates`` that is no integer, 0 or more."""
    value = learner.schedule_updates
    if not is_positive_int(value) and (value != 0 or isinstance(value, bool)):
        raise ConfigError("schedule_updates", value, "give a positive integer, or 0")


def check_choices(learner: Any, choices: dict[str, tuple[Any, ...]]) -> None:
    """Refuses fields of a learner that are none of their choices."""
    for name, known in choices.items():
        value = getattr(learner, name)
        if value not in known or type(value) is not type(known[0]):
            names = ("true" if x is True else "false" if x is False else str(x) for x in known)
            raise ConfigError(name, value, f"choose {' or '.join(names)}")


def hidden_widths(value: Any, name: str = "hidden") -> tuple[int, ...]:
    """Widths of hidden layers as a tuple."""
    try:
        widths = tuple(value)
    except TypeError:
        widths = ()
    if not widths or not all(map(is_positive_int, widths)):
        raise ConfigError(name, value, "give a list of positive integers")
    return widths


def check_options(
    learner: Any,
    sizes: Sequence[str],
    choices: dict[str, tuple[Any, ...]],
    hidden: Sequence[str] = ("hidden",),
) -> None:
    """What every learner checks when it is made; ``hidden`` become tuples of widths."""
    check_sizes(learner, sizes)
    for name in hidden:
        object.__setattr__(learner, name, hidden_widths(getattr(learner, name), name))
    check_choices(learner, choices)
    check_schedule(learner)


def check_hyperparameters(hp: Any, rules: dict[str, Rule]) -> None:
    """Refuses leaves of ``hp`` for which the rule of their name does not hold."""
    for name, (holds, valid) in rules.items():
        value = np.asarray(getattr(hp, name))
        if not np.all(holds(value)):
            raise ConfigError(name, value.item() if value.ndim == 0 else value.tolist(), valid)
