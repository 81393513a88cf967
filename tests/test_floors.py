"""Who may import whom: our floors, the one room of each third-party library, light imports."""

from __future__ import annotations

import ast
import graphlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[1]
OURS = ("jaxenv", "allocators", "agents", "runs", "conf")

# From the bottom to the top: a file may import from its own floor and those named here.
FLOORS = {
    "jaxenv/dnn": {"jaxenv.dnn", "jaxenv.errors"},
    "jaxenv/physics": {"jaxenv.physics", "jaxenv.errors"},
    "allocators": {"allocators"},
    "jaxenv": {"jaxenv", "allocators"},
    "agents": {"agents", "jaxenv", "allocators"},
    "runs": {"runs", "agents", "jaxenv", "allocators", "conf"},
    "conf": set(),
}
# The only files that may import a library, and those that may do so only inside a function.
ROOMS = {
    "jaxopt": (("allocators/solvers.py",), ()),
    "orbax": (("runs/checkpoint.py",), ()),
    "hydra": (("runs/",), ()),
    "omegaconf": (("runs/",), ()),
    "matplotlib": (("runs/figures.py", "runs/render.py", "runs/reproductions/"), ("jaxenv/",)),
    "gymnasium": (("jaxenv/adapters/",), ("runs/benchmarks/others.py",)),
    "gymnax": (("jaxenv/adapters/",), ("runs/benchmarks/others.py",)),
    "sb3_contrib": ((), ("runs/benchmarks/others.py",)),
    "stable_baselines3": (("jaxenv/adapters/",), ()),
    "pettingzoo": (("jaxenv/adapters/",), ()),
    "jaxmarl": (("jaxenv/adapters/",), ()),
    "stoa": (("jaxenv/adapters/",), ()),
    "mobile_env": ((), ("runs/benchmarks/others.py",)),
}


def imports(source: str) -> Iterator[tuple[str, bool, int]]:
    """Every imported module of a source text, whether at import time, and its line.

    ``from a import b`` counts as ``a.b``, which is what it is for a module b.
    """

    def walk(node: ast.AST, outside: bool) -> Iterator[tuple[str, bool, int]]:
        if isinstance(node, ast.Import):
            yield from ((alias.name, outside, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: import by the full name"
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from ((name, outside, node.lineno) for name in names)
        function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from walk(child, outside and not function)

    yield from walk(ast.parse(source), True)


def broken_rules(path: str, source: str) -> list[str]:
    """What the imports of the file at ``path`` (relative to the root) break."""
    floor = next(name for name in FLOORS if path.startswith(f"{name}/"))
    found = []
    for module, at_import, line in imports(source):
        top = module.partition(".")[0]
        if top in OURS and not any(f"{module}.".startswith(f"{ok}.") for ok in FLOORS[floor]):
            found.append(f"{path}:{line} imports {module}; {floor} may not")
        always, lazily = ROOMS.get(top, (("",), ()))
        rooms = always if at_import else always + lazily
        if not path.startswith(rooms):
            where = " and ".join(rooms) or "inside functions"
            found.append(f"{path}:{line} imports {module}; its place is {where}")
    return found


def sources() -> list[Path]:
    return [path for name in OURS for path in sorted((ROOT / name).rglob("*.py"))]


def test_nothing_imports_upward_and_libraries_stay_in_their_rooms():
    files = sources()
    assert {path.relative_to(ROOT).parts[0] for path in files} >= {"jaxenv", "allocators", "agents"}
    found = []
    for path in files:
        found += broken_rules(path.relative_to(ROOT).as_posix(), path.read_text())
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("jaxenv/physics/radio.py", "from jaxenv.environment import State"),
        ("jaxenv/dnn/zoo.py", "import jaxenv.physics.radio"),
        ("jaxenv/dnn/zoo.py", "from jaxenv import environment"),
        ("allocators/rate.py", "def f():\n    import jaxenv.errors"),
        ("jaxenv/vehicular.py", "from agents import learner"),
        ("jaxenv/testing.py", "import runs"),
        ("agents/dqn.py", "from runs.checkpoint import save"),
        ("agents/dqn.py", "import jaxopt"),
        ("allocators/rate.py", "from jaxopt import Bisection"),
        ("runs/train.py", "import orbax.checkpoint"),
        ("agents/dqn.py", "from hydra import compose"),
        ("jaxenv/registry.py", "from omegaconf import OmegaConf"),
        ("jaxenv/vehicular.py", "import matplotlib.pyplot"),
        ("agents/dqn.py", "def f():\n    import matplotlib"),
    ],
)
def test_a_breach_is_seen(path, source):
    assert len(broken_rules(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("jaxenv/vehicular.py", "def f():\n    import matplotlib.pyplot"),
        ("jaxenv/vehicular.py", "from allocators import proportional"),
        ("jaxenv/dnn/zoo.py", "from jaxenv.dnn.layers import Conv"),
        ("runs/checkpoint.py", "import orbax.checkpoint"),
        ("runs/train.py", "from agents.learner import evaluate"),
    ],
)
def test_what_is_allowed_is_not_reported(path, source):
    assert broken_rules(path, source) == []


def imports_between_modules() -> dict[str, set[str]]:
    """The modules of ours that each of ours needs when it is imported, itself left out.

    A package counts as its ``__init__.py``: what is imported from it is what that file names.
    """
    names = {}
    for path in sources():
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        needed = {module for module, at_import, _ in imports(path.read_text()) if at_import}
        graph[name] = {
            next(part for part in (module, module.rpartition(".")[0], "") if part in {*names, ""})
            for module in needed
        } - {name, ""}
    return graph


def test_no_modules_need_each_other():
    graph = imports_between_modules()
    assert "jaxenv.physics.arrivals" in graph["jaxenv.vehicular.events"]
    assert sum(map(len, graph.values())) > 400
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the modules


def imported_by(statement: str) -> set[str]:
    """Modules in memory after a statement in a fresh interpreter."""
    code = f"import sys\n{statement}\nimport json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("statement", ["import jaxenv", "import jaxenv.vehicular"])
def test_importing_the_library_loads_nothing_heavy(statement):
    heavy = ("jaxopt", "orbax", "hydra", "omegaconf", "matplotlib", "scipy", "tensorstore", "tqdm")
    loaded = imported_by(statement)
    assert not {name for name in loaded if name.partition(".")[0] in (*heavy, "agents", "runs")}


def test_importing_the_library_does_not_switch_to_64_bits():
    code = "import jaxenv, jax; assert not jax.config.jax_enable_x64"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
