"""The program that makes errors on purpose makes those it should, and its tables are up to date."""

from __future__ import annotations

import importlib
import sys

import pytest

from tests import mutants

TOY = '''"""Doc of 1."""
import jax.numpy as jnp

KINDS: tuple[int, ...] = (7,)


def doubled(x: int, by: float = 2.0) -> int:
    """Doc of 2."""
    check(x)
    if x > 0 and by:
        raise ValueError(f"{x + 1} is not valid")
    return jnp.maximum(jnp.where(x, x * by, -x), abs(x)) if x else x
'''
CHANGES = {
    ("", "7 -> 8"),
    ("", "7 -> 6"),
    ("doubled", "2.0 -> 4.0"),
    ("doubled", "check(x) -> pass"),
    ("doubled", "x > 0 and by -> not (x > 0 and by)"),
    ("doubled", "x > 0 and by -> x > 0 or by"),
    ("doubled", "x > 0 -> x >= 0"),
    ("doubled", "x > 0 -> x <= 0"),
    ("doubled", "0 -> 1"),
    ("doubled", "0 -> -1"),
    ("doubled", "jnp.where(x, x * by, -x) -> jnp.where(x, -x, x * by)"),
    ("doubled", "x * by -> x / by"),
    ("doubled", "-x -> x"),
    ("doubled", "abs(x) -> x"),
}


@pytest.fixture
def toy(tmp_path):
    path = tmp_path / "toy_of_mutants.py"
    path.write_text(TOY)
    return str(path)


def test_mutants_of_a_small_module(toy):
    """All changes but the two of the last expression, which are long; no annotation, no text."""
    found = mutants.mutants(toy)
    changes = {(mutant.function, mutant.change) for mutant in found}
    assert changes > CHANGES and len(found) == len(CHANGES) + 2
    longer = {change.split(" -> ")[1] for _, change in changes - CHANGES}
    whole = "jnp.maximum(jnp.where(x, x * by, -x), abs(x))"
    assert longer == {f"x if x else {whole}", whole.replace("maximum", "minimum")}
    assert len({mutant.key for mutant in found}) == len(found)


def test_a_mutant_is_imported_in_the_place_of_its_module(toy, tmp_path, monkeypatch):
    """With 7 changed to 8; the file stays as it is."""
    (mutant,) = (mutant for mutant in mutants.mutants(toy) if mutant.change == "7 -> 8")
    finder = mutants.MutantFinder(mutant)
    monkeypatch.setattr(finder, "name", "toy_of_mutants")
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.import_module("toy_of_mutants").KINDS == (8,)
    sys.modules.pop("toy_of_mutants")
    assert (tmp_path / "toy_of_mutants.py").read_text() == TOY


def test_scores_count_verdicts(toy):
    rows = [{"module": toy, "verdict": said} for said in ("killed", "killed", "survived")]
    expected = {"module": toy, "mutants": 16, "tried": 3, "killed": 2, "timeout": 0}
    assert mutants.scores(rows) == [expected | {"equivalent": 0, "survived": 1}]


def test_tests_and_modules_are_there_and_equivalent_mutants_still_exist():
    existing = {}
    for module, files in mutants.TESTS.items():
        existing |= {mutant.key: mutant for mutant in mutants.mutants(module)}
        assert all((mutants.ROOT / "tests" / file).exists() for file in files), module
    for row in mutants.read(mutants.EQUIVALENT):
        assert mutants.key(row) in existing and row["why"], row
