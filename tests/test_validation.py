"""The checks that environments share, at the edges of what they accept."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import pytest

from jaxenv import validation
from jaxenv.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Sizes:
    count: int = 1
    free: int = -5
    mode: Literal["fast", "slow"] = "fast"
    flag: bool = False


@dataclasses.dataclass(frozen=True)
class Leaves:
    power_w: float | np.ndarray
    share: float | np.ndarray = 0.5


def refusal(call, *args):
    with pytest.raises(ConfigError) as error:
        call(*args)
    return str(error.value)


def test_fields_by_their_annotations():
    validation.check_fields(Sizes(count=3, mode="slow", flag=True), {"count": 3})
    for changes, text in (
        ({"count": 2}, "count: 2 is not valid; give an integer of at least 3"),
        ({"mode": "idle"}, "mode: 'idle' is not valid; choose one of fast, slow"),
        ({"flag": 1}, "flag: 1 is not valid; give true or false"),
    ):
        sizes = dataclasses.replace(Sizes(count=3), **changes)
        assert refusal(validation.check_fields, sizes, {"count": 3}) == text


def test_integers_are_from_the_least_to_below_2_to_the_31():
    for value in (0, 2**31 - 1):
        validation.check_integer("rows", value, 0)
    for value in (-1, 1.0, "1", True, None):
        assert refusal(validation.check_integer, "rows", value, 0).endswith(
            "is not valid; give an integer of at least 0"
        )
    text = "rows: 2147483648 is not valid; give an integer below 2**31"
    assert refusal(validation.check_integer, "rows", 2**31, 0) == text


def test_rules_of_numbers_at_zero():
    for rule, good, bad in (
        (validation.POSITIVE, 1e-30, 0.0),
        (validation.NOT_NEGATIVE, 0.0, -1e-30),
        (validation.FINITE, -1e30, np.inf),
    ):
        validation.check_leaves(Leaves(good), ("power_w",), rule)
        for value in (bad, np.inf, -np.inf, np.nan):
            text = f"power_w: {value} is not valid; {rule.one}"
            assert refusal(validation.check_leaves, Leaves(value), ("power_w",), rule) == text


def test_one_array_among_the_leaves_asks_for_numbers():
    """All entries must hold; the wording is that of several wherever a leaf has an axis."""
    mixed = Leaves(np.array([1.0, 2.0]), 0.5)
    validation.check_leaves(mixed, ("power_w", "share"), validation.POSITIVE)
    text = "share: 0.0 is not valid; give positive finite numbers"
    mixed = dataclasses.replace(mixed, share=0.0)
    assert (
        refusal(validation.check_leaves, mixed, ("power_w", "share"), validation.POSITIVE) == text
    )
    validation.check_leaves(mixed, ("power_w",), validation.POSITIVE)
    some = Leaves(np.array([1.0, 0.0]))
    text = "power_w: [1.0, 0.0] is not valid; give positive finite numbers"
    assert refusal(validation.check_leaves, some, ("power_w",), validation.POSITIVE) == text
