"""The pages of docs/: their code runs and does what they say, their commands are commands."""

from __future__ import annotations

import copy
import importlib
import re
import shlex
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import agents.registry
import jaxenv.registry
from runs import reproductions

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
EXTENSION = ROOT / "examples" / "extension"
# Pages whose code runs elsewhere: it needs other libraries, other files or smaller sizes.
ELSEWHERE = {"adapters.md": "tests/adapters", "export.md": "tests/runs", "gradients.md": "tests"}
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def blocks(page: str) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)


WITH_CODE = [page for page in PAGES if blocks(page) and page not in ELSEWHERE]


@pytest.fixture(autouse=True)
def registries(monkeypatch) -> None:
    """What a page registers is forgotten after it."""
    for module, name in (
        (jaxenv.registry, "_environments"),
        (agents.registry, "_learners"),
        (agents.registry, "_baselines"),
        (agents.registry, "_bounds"),
        (reproductions, "_figures"),
    ):
        monkeypatch.setattr(module, name, copy.deepcopy(getattr(module, name)))


def falls_with_the_load(names: dict) -> bool:
    means = names["sweep"](names["keys"], names["params"].replace(task_rate=names["loads"])).mean(1)
    return bool((means[1:] < means[:-1]).all())


def learns(names: dict) -> bool:
    """The last policy measured is random; the learned one leaves less than half of its gap."""
    gaps = []
    for policy in (names["learner"].policy(names["state"]), names["policy"]):
        args = (names["env"], names["params"], policy, names["key"], 32)
        terms = names["evaluate"](*args, names["registry"].bound(names["env"]))
        (reward,) = names["summarize"](names["env"].metrics[:1], terms, "reward")
        gaps.append(reward.gap_to_bound)
    return gaps[0] < gaps[1] / 2


CLAIMS = {
    "index.md": lambda names: float(names["reward"]) < 0,
    "tutorials/environment.md": lambda names: names["env"].capacity == 8,
    "tutorials/figure.md": lambda names: names["result"].verdicts[0].verdict == names["HOLDS"],
    "tutorials/evaluation.md": lambda names: names["paired"] < names["unpaired"],
    "tutorials/importing.md": falls_with_the_load,
    "tutorials/learner.md": learns,
    "tutorials/sweeps.md": lambda names: names["best"] in names["learned"],
}


@pytest.mark.parametrize("page", WITH_CODE)
def test_the_code_of_a_page_runs(page, monkeypatch, capsys):
    module = types.ModuleType("documented")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # its classes can be pickled
    monkeypatch.chdir(ROOT)
    for source in blocks(page):
        exec(source, vars(module))
    assert page in CLAIMS, "say in CLAIMS what the page shows"
    assert CLAIMS[page](vars(module))
    text = (DOCS / page).read_text()
    for output in re.findall(r"```\n\n((?:    .*\n)+)", text):
        shown = re.sub(r"^    ", "", output, flags=re.MULTILINE)
        assert shown in capsys.readouterr().out


@pytest.mark.quick
def test_the_api_pages_name_modules_that_there_are_each_once():
    named = [
        name
        for page in sorted((DOCS / "api").glob("*.md"))
        for name in re.findall(r"^::: ([\w.]+)$", page.read_text(), flags=re.MULTILINE)
    ]
    assert len(named) == len(set(named)) > 80
    paths = [ROOT.joinpath(*name.split(".")) for name in named]
    assert [p for p in paths if not (p.with_suffix(".py").exists() or p.is_dir())] == []
    for path in filter(Path.is_dir, paths):
        parts = {part.stem for part in path.glob("*.py")} - {"__init__"}
        shown = {p.name for p in paths if p.parent == path}
        assert shown in (set(), parts), f"{path.name}: name all of its modules or none"


def commands() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """``(page, program, arguments)`` of every command line of the READMEs and the pages."""
    seen = set()
    readmes = (ROOT / "README.md", EXTENSION / "README.md")
    for path in (*readmes, *(DOCS / page for page in PAGES)):
        for name, rest in re.findall(r"python -m runs\.([a-z]+)\b([^`\n]*)", path.read_text()):
            arguments = tuple(shlex.split(rest, comments=True))
            if (name, arguments) not in seen:
                seen.add((name, arguments))
                yield path.name, name, arguments


def one_job(argument: str) -> str:
    """The first job of a sweep's argument."""
    name, _, value = argument.partition("=")
    return argument if value[:1] in "[{'\"" else f"{name}={value.split(',')[0]}"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with a finished run and with the plugins of the pages."""
    for name in ("outputs/train/RUN", "DIR"):
        (tmp_path / name).mkdir(parents=True)
        shutil.copy(DOCS / "results" / "robust_learning" / "training.yaml", tmp_path / name)
        (tmp_path / name / "training.yaml").rename(tmp_path / name / "config.yaml")
    readme = (ROOT / "README.md").read_text()
    plugins = {
        "my_plugin": re.findall(r"```python\n(# my_plugin.*?)```", readme, flags=re.DOTALL),
        "my_sensor": blocks("tutorials/environment.md")[:2],
        "my_learner": blocks("tutorials/learner.md")[:2],
        "my_figure": blocks("tutorials/figure.md")[:1],
    }
    for name, sources in plugins.items():
        (tmp_path / f"{name}.py").write_text("\n".join(sources))
    shutil.copytree(EXTENSION, tmp_path, dirs_exist_ok=True)
    guide = (DOCS / "tutorials" / "environment.md").read_text()
    (experiment,) = re.findall(r"```yaml\n(.*?)```", guide, flags=re.DOTALL)
    (tmp_path / "experiment" / "sensor_dqn.yaml").write_text(experiment)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


def test_every_command_is_understood(folder, capsys):
    known = list(commands())
    assert len(known) > 40
    for page, name, arguments in known:
        if not arguments:
            continue
        given = [one_job(argument) for argument in arguments if argument != "-m"]
        main = importlib.import_module(f"runs.{name}").main
        try:
            main([*given, "--cfg=job"])
        except SystemExit as stop:
            pytest.fail(f"{page}: runs.{name} {' '.join(arguments)}: {stop}")
        for argument in given:
            if argument.startswith("figure="):
                reproductions.selected(argument.removeprefix("figure="))
    capsys.readouterr()
