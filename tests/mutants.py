"""Changes the library on purpose, one small error at a time, and asks whether a test fails.

``make mutants`` draws a seeded sample of such mutants of every module of `TESTS`, runs the tests
named there on each and writes two tables: ``mutants.csv``, a row per mutant, and ``scores.csv``, a
row per module. A mutant that survives shows a number that no test checks, or computes what the
original computes; of the latter ``tests/equivalent_mutants.csv`` says why. The file of a module is
never touched: a child process imports the mutant in its place.

Mutants already in ``mutants.csv`` are not run again, except those that survived.
"""

from __future__ import annotations

import argparse
import ast
import csv
import functools
import importlib.machinery
import importlib.util
import itertools
import math
import os
import random
import resource
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# Imported before the processes divide, so that no mutant waits for it.
import flax.struct  # noqa: F401
import jax  # noqa: F401
import jaxopt  # noqa: F401
import pytest
import scipy.optimize  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
EQUIVALENT = ROOT / "tests" / "equivalent_mutants.csv"
RESULTS = ROOT / "docs" / "results" / "mutants"
KEY = ("module", "function", "line", "column", "change")
VERDICTS = ("killed", "timeout", "equivalent", "survived")
TIMEOUTS = (signal.SIGXCPU, signal.SIGKILL, signal.SIGALRM)
MEMORY_BYTES = 12 * 2**30
WALL_PER_CPU = 20

# The tests that concern a module, the cheapest first.
TESTS = {
    "allocators/choices.py": ["allocators/test_proportional.py", "allocators/test_rate.py"],
    "allocators/proportional.py": ["allocators/test_proportional.py"],
    "allocators/rate.py": ["allocators/test_rate.py"],
    "allocators/pools.py": ["allocators/test_pools.py"],
    "allocators/solvers.py": ["allocators/test_solvers.py", "allocators/test_proportional.py"],
    "allocators/lanes.py": ["allocators/test_lanes.py", "allocators/test_rate.py"],
    "allocators/insga.py": ["allocators/test_insga.py"],
    "allocators/robust/instance.py": ["allocators/test_robust.py"],
    "allocators/robust/links.py": ["allocators/test_robust.py"],
    "allocators/robust/prices.py": ["allocators/test_prices.py", "allocators/test_robust.py"],
    "allocators/robust/optimum.py": ["allocators/test_robust.py"],
    "allocators/robust/references.py": ["allocators/test_references.py"],
    "allocators/certificate.py": ["allocators/test_certificate.py"],
    "allocators/pccp/interior.py": ["allocators/test_pccp.py"],
    "allocators/pccp/partition.py": ["allocators/test_pccp.py"],
    "allocators/pccp/alternation.py": ["allocators/test_alternation.py"],
    "jaxenv/environment.py": ["test_environment.py"],
    "jaxenv/validation.py": ["test_validation.py"],
    "jaxenv/loop.py": ["test_loop.py"],
    "jaxenv/partitioning.py": [
        "partitioning/test_scenarios.py",
        "partitioning/test_partitioning.py",
    ],
    "jaxenv/robust.py": ["robust/test_robust_env.py", "dnn/test_flax_timing.py"],
    "jaxenv/physics/arrivals.py": ["physics/test_arrivals.py"],
    "jaxenv/physics/compute.py": ["physics/test_compute.py"],
    "jaxenv/physics/graphs.py": ["physics/test_graphs.py"],
    "jaxenv/physics/mobility.py": ["physics/test_mobility.py"],
    "jaxenv/physics/radio.py": ["physics/test_radio.py"],
    "jaxenv/services/catalogue.py": ["services/test_services.py", "services/test_scenarios.py"],
    "jaxenv/services/description.py": ["services/test_scenarios.py"],
    "jaxenv/services/environment.py": ["services/test_services.py"],
    "jaxenv/services/network.py": ["services/test_scenarios.py", "services/test_services.py"],
    "jaxenv/services/scenario.py": ["services/test_scenarios.py", "services/test_services.py"],
    "jaxenv/services/state.py": ["services/test_services.py"],
    "jaxenv/splitting/costs.py": ["splitting/test_splitting.py"],
    "jaxenv/splitting/description.py": ["splitting/test_scenarios.py"],
    "jaxenv/splitting/environment.py": ["splitting/test_splitting.py"],
    "jaxenv/splitting/scenario.py": ["splitting/test_scenarios.py", "splitting/test_splitting.py"],
    "jaxenv/splitting/simulation.py": ["splitting/test_splitting.py", "splitting/test_late.py"],
    "jaxenv/splitting/slots.py": ["splitting/test_splitting.py", "splitting/test_scenarios.py"],
    "jaxenv/splitting/state.py": ["splitting/test_splitting.py"],
    "jaxenv/vehicular/decisions.py": [
        "vehicular/test_vehicular.py",
        "vehicular/test_against_slow_version.py",
    ],
    "jaxenv/vehicular/description.py": ["vehicular/test_bad_scenarios.py"],
    "jaxenv/vehicular/environment.py": [
        "vehicular/test_vehicular.py",
        "vehicular/test_against_slow_version.py",
    ],
    "jaxenv/vehicular/events.py": [
        "vehicular/test_vehicular.py",
        "vehicular/test_against_slow_version.py",
    ],
    "jaxenv/vehicular/road.py": [
        "vehicular/test_vehicular.py",
        "vehicular/test_against_slow_version.py",
    ],
    "jaxenv/vehicular/scenario.py": [
        "vehicular/test_bad_scenarios.py",
        "vehicular/test_vehicular.py",
    ],
    "jaxenv/vehicular/shares.py": [
        "vehicular/test_vehicular.py",
        "vehicular/test_against_slow_version.py",
    ],
    "jaxenv/vehicular/state.py": [
        "vehicular/test_vehicular.py",
        "vehicular/test_against_slow_version.py",
    ],
}

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Add,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
FUNCTIONS = {"maximum": "minimum", "max": "min", "any": "all", "argmax": "argmin", "floor": "ceil"}
FUNCTIONS |= {other: name for name, other in FUNCTIONS.items()}
FUNCTIONS |= {"expm1": "exp", "log1p": "log"}
IDENTITIES = ("abs", "clip", "stop_gradient")  # functions that may be the identity
# Annotations and decorators compute nothing; of a message only that it is raised counts.
SKIPPED = ("annotation", "returns", "decorator_list")


class Mutant(NamedTuple):
    """One change of a module: where in its text, what, and where in its tree."""

    module: str
    function: str
    line: str
    column: int
    change: str
    place: int
    choice: int

    @property
    def key(self) -> tuple[str, ...]:
        """What names the mutant in tables, wherever its line moves to."""
        return self.module, self.function, self.line, str(self.column), self.change


def alternatives(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of a node."""
    match node:
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
            yield ast.Constant(value - 1)
        case ast.Constant(value=float(value)):
            yield ast.Constant(2 * value or 1.0)
        case ast.BinOp(op=op) | ast.AugAssign(op=op) | ast.BoolOp(op=op) if type(op) in SWAPS:
            yield changed(node, op=SWAPS[type(op)]())
        case ast.Compare(ops=[op]):
            yield from (changed(node, ops=[other()]) for other in COMPARISONS[type(op)])
        case ast.UnaryOp(operand=operand):
            yield operand
        case ast.IfExp(body=body, orelse=orelse):
            yield changed(node, body=orelse, orelse=body)
        case ast.If(test=test) if not isinstance(test, ast.Compare):
            yield changed(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.Expr(value=ast.Call()):
            yield ast.Pass()
        case ast.Call(func=ast.Name(id=name) as function) if name in FUNCTIONS:
            yield changed(node, func=changed(function, id=FUNCTIONS[name]))
        case ast.Call(func=ast.Name(id=name), args=[first]) if name in IDENTITIES:
            yield first
        case ast.Call(func=ast.Attribute(attr="where") as function, args=[test, yes, no]):
            yield changed(node, args=[test, no, yes])
        case ast.Call(func=ast.Attribute(attr=name) as function) if name in FUNCTIONS:
            yield changed(node, func=changed(function, attr=FUNCTIONS[name]))
        case ast.Call(func=ast.Attribute(attr=name), args=[first, *_]) if name in IDENTITIES:
            yield first


def changed(node: Any, **fields: Any) -> Any:
    """A copy of a node with other fields."""
    return type(node)(**{**dict(ast.iter_fields(node)), **fields})


def places(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Parent, field and index of every node that may be changed, depth first."""
    if isinstance(node, (ast.JoinedStr, ast.Import, ast.ImportFrom)):
        return
    for field, value in ast.iter_fields(node):
        children = enumerate(value) if isinstance(value, list) else [(None, value)]
        for index, child in children:
            if isinstance(child, ast.AST) and field not in SKIPPED:
                yield node, field, index
                yield from places(child)


def mutants(module: str) -> list[Mutant]:
    """All mutants of a module."""
    source = (ROOT / module).read_text()
    lines = source.splitlines()
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    found = []
    for number, (parent, field, index) in enumerate(places(tree)):
        node = getattr(parent, field) if index is None else getattr(parent, field)[index]
        for choice, other in enumerate(alternatives(node)):
            line = lines[node.lineno - 1]
            column = node.col_offset - (len(line) - len(line.lstrip()))
            change = f"{text(node)} -> {text(other)}"
            where = module, innermost(functions, node.lineno), line.strip(), column
            found.append(Mutant(*where, change, number, choice))
    return found


def innermost(functions: list[ast.FunctionDef], line: int) -> str:
    """The name of the innermost function that holds a line; nothing for one outside of all."""
    holders = [node for node in functions if node.lineno <= line <= node.end_lineno]
    return max(holders, key=lambda node: node.lineno).name if holders else ""


def text(node: ast.AST) -> str:
    """A node as source; of an `if` its test."""
    return ast.unparse(node.test if isinstance(node, ast.If) else node)


def mutated(mutant: Mutant) -> ast.Module:
    """The tree of a mutant's module."""
    tree = ast.parse((ROOT / mutant.module).read_text())
    parent, field, index = next(itertools.islice(places(tree), mutant.place, None))
    node = getattr(parent, field) if index is None else getattr(parent, field)[index]
    other = next(itertools.islice(alternatives(node), mutant.choice, None))
    other = ast.copy_location(other, node)
    if index is None:
        setattr(parent, field, other)
    else:
        getattr(parent, field)[index] = other
    return ast.fix_missing_locations(tree)


class MutantLoader(importlib.machinery.SourceFileLoader):
    """Imports a module's mutant."""

    def __init__(self, name: str, mutant: Mutant) -> None:
        super().__init__(name, str(ROOT / mutant.module))
        self.mutant = mutant

    def get_code(self, fullname: str) -> Any:
        return compile(mutated(self.mutant), self.path, "exec")


class MutantFinder:
    """Finds a mutant in the place of its module."""

    def __init__(self, mutant: Mutant) -> None:
        self.name = mutant.module.removesuffix(".py").replace("/", ".")
        self.mutant = mutant

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != self.name:
            return None
        loader = MutantLoader(name, self.mutant)
        return importlib.util.spec_from_file_location(name, loader.path, loader=loader)


def run_tests(
    tests: Sequence[str], mutant: Mutant | None, marks: str, limit_s: float
) -> tuple[int, float]:
    """Runs files of tests in a child process, on a mutant if given.

    Returns the exit status, negative for a signal, and the CPU time in s.
    """
    child = os.fork()
    if child:
        _, status, usage = os.wait4(child, 0)
        return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
    status = 1
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit_s),) * 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES,) * 2)
        signal.alarm(math.ceil(WALL_PER_CPU * limit_s))
        if mutant:
            sys.meta_path.insert(0, MutantFinder(mutant))
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
        files = [str(ROOT / "tests" / name) for name in tests]
        status = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-m", marks, *files]))
    finally:
        os._exit(status)


@functools.cache
def seconds(test: str, marks: str) -> float:
    """CPU time in s that a file of tests takes without a mutant; 0 where there are none.

    Raises:
        SystemExit: they fail.
    """
    status, taken = run_tests([test], None, marks, limit_s=3600)
    if status == pytest.ExitCode.NO_TESTS_COLLECTED:
        return 0.0
    if status:
        raise SystemExit(f"{test}: the tests marked {marks!r} fail without a mutant")
    return taken


def verdict(mutant: Mutant) -> str:
    """What the quick tests say of a mutant and, where they pass, the others, the slow ones last."""
    for marks in ("quick", "not quick and not slow and not deep", "slow"):
        taken = {test: seconds(test, marks) for test in TESTS[mutant.module]}
        tests = [test for test in taken if taken[test]]
        limit_s = 20 + 3 * sum(taken.values())
        status, _ = run_tests(tests, mutant, marks, limit_s) if tests else (0, 0.0)
        if status:
            return "timeout" if -status in TIMEOUTS else "killed"
    return "survived"


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes rows that have the same columns."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def key(row: dict[str, str]) -> tuple[str, ...]:
    """What names the mutant of a row."""
    return tuple(row[name] for name in KEY)


def main() -> None:
    """Runs the mutants of the modules asked for and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("modules", nargs="*", default=list(TESTS), help="files (default: all)")
    parser.add_argument("--sample", type=int, default=25, help="mutants of each module")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the tables")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    found = {key(row): row for row in read(args.out / "mutants.csv")}
    equivalent = {key(row) for row in read(EQUIVALENT)}
    for name in found.keys() & equivalent:
        found[name]["verdict"] = "equivalent"
    with tempfile.TemporaryDirectory() as cache:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
        for module in args.modules:
            everything = mutants(module)
            now = {mutant.key for mutant in everything}
            found = {name: row for name, row in found.items() if name[0] != module or name in now}
            random.Random(f"{args.seed} {module}").shuffle(everything)
            for number, mutant in enumerate(everything):
                name = mutant.key
                survived = name in found and found[name]["verdict"] == "survived"
                if not survived and (name in found or number >= args.sample):
                    continue
                said = "equivalent" if name in equivalent else verdict(mutant)
                found[name] = dict(zip(KEY, name, strict=True)) | {"verdict": said}
                write(args.out / "mutants.csv", list(found.values()))
                print(f"{said:10} {module}: {mutant.line}\n{'':11}{mutant.change}", flush=True)
    write(args.out / "scores.csv", scores(list(found.values())))


def scores(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    """How many mutants of each module there are, were tried, and met which verdict."""
    table = []
    for module in sorted({row["module"] for row in rows}):
        said = [row["verdict"] for row in rows if row["module"] == module]
        counts = {name: said.count(name) for name in VERDICTS}
        table.append(
            {"module": module, "mutants": len(mutants(module)), "tried": len(said), **counts}
        )
    return table


if __name__ == "__main__":
    main()
