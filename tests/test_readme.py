"""Every code block of the README runs, and its table is the one of the published results."""

import csv
import re
import sys
from pathlib import Path

import pytest

import jaxenv
from agents import registry
from runs import tables, train

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """The README's plugin as a module beside the user's files."""
    (source,) = (block for block in BLOCKS if block.startswith("# my_plugin.py"))
    (tmp_path / "my_plugin.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("my_plugin", None)


def test_an_environment_in_ten_lines():
    source = BLOCKS[0].replace("256", "2").replace("num_vehicles=10", "num_vehicles=2")
    assert len([line for line in BLOCKS[0].splitlines() if line.strip()]) <= 10
    names: dict = {}
    exec(source, names)
    assert names["observation"].shape == (2, 34)
    assert not names["truncated"].any()


@pytest.mark.quick
def test_the_plugin_passes_the_compliance_test(plugin):
    (source,) = (block for block in BLOCKS if "check_environment(" in block)
    exec(source, {})


def test_the_plugin_trains_and_is_measured_beside_its_baseline(plugin):
    train.main(
        [
            "plugins=[my_plugin]",
            "env=queue",
            "agent=random_search",
            "num_updates=20",
            "eval_episodes=64",
            f"hydra.run.dir={plugin / 'run'}",
        ]
    )
    rows = list(csv.DictReader((plugin / "run" / "evaluation.csv").open()))
    cost = {row["policy"]: float(row["mean"]) for row in rows if row["metric"] == "cost"}
    # By hand: serving always costs 1; serving a waiting job only, the queue is 0 or 1 and holds a
    # job in 0.4 of the steps, so the cost is 0.6 * 0.4 + 0.4 * (1 + 0.4) = 0.8.
    assert cost["ServeAlways"] == 1.0
    assert abs(cost["random_search"] - 0.8) < 0.05


@pytest.mark.quick
def test_the_tables_are_those_of_the_published_results():
    found = re.findall(r"<!-- table: (.*?) -->\n(.*?)\n<!-- end -->", README, flags=re.DOTALL)
    assert found
    for source, shown in found:
        path, *metrics = source.split()
        assert shown == tables.markdown_table(ROOT / path, metrics)


@pytest.mark.quick
def test_the_table_of_learners_is_that_of_the_registry():
    (shown,) = re.findall(r"<!-- compatibility -->\n(.*?)\n<!-- end -->", README, flags=re.DOTALL)
    header, _, *rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in shown.split("\n")
    ]
    fits = registry.compatibility({name: jaxenv.make(name)[0] for name in header[1:]})
    assert {row[0]: row[1:] for row in rows} == {
        name: ["" if reason else "yes" for reason in reasons.values()]
        for name, reasons in fits.items()
        if registry.learner_class(name).__module__.startswith("agents.")  # not of another test
    }
