"""What figures show is what the rows say: read from what was drawn."""

from __future__ import annotations

import importlib

import pytest

from jaxenv.rendering import colours

pytestmark = pytest.mark.quick


def test_one_name_is_one_colour():
    palette = {name: value for name, value in vars(colours).items() if name.isupper()}
    single = {name: value for name, value in palette.items() if isinstance(value, str)}
    assert len(set(single.values())) == len(single) == 12
    systems = ("vehicular", "partitioning", "splitting", "services", "robust")
    places = [f"jaxenv.rendering.{name}" for name in systems]
    places += [f"runs.reproductions.{name}.plots" for name in systems]
    for place in (*places, "runs.reproductions.plotting", "runs.benchmark", "runs.figures"):
        module = vars(importlib.import_module(place))
        own = {name: module[name] for name in single if name in module}
        assert own == {name: single[name] for name in own}, place
