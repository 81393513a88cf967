"""What the pages of the site take from ``docs/results`` when it is built, so no number is copied.

A line ``<!-- table: docs/results/NAME/evaluation.csv METRIC ... -->`` of a page becomes that table,
``<!-- verdicts: docs/results/NAME -->`` the verdicts of that folder that do not hold,
``<!-- speed: docs/results/NAME NAME, NAME ... -->`` the measurements whose names begin so,
``<!-- rows: docs/results/NAME/FILE.csv -->`` the rows of a file as they are,
``<!-- compatibility: all -->`` the table of learners and environments, and a link to
``results/NAME`` one to its page, which shows all there is of that run. Equations become MathML, so
that a browser needs nothing more.
"""

from __future__ import annotations

import html
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from latex2mathml.converter import convert  # noqa: E402
from mkdocs.structure.files import File, Files  # noqa: E402

from agents.registry import compatibility  # noqa: E402
from jaxenv.registry import environment_class, environments  # noqa: E402
from runs import benchmark, tables  # noqa: E402

RESULTS = ROOT / "docs" / "results"
MARKER = re.compile(
    r"^<!-- (table|verdicts|speed|rows|compatibility): (\S+) ?(.*?) -->$", flags=re.MULTILINE
)
EQUATION = re.compile(
    r'<(?:span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</(?:span|div)>', flags=re.DOTALL
)
FOLDER = re.compile(r"\]\(((?:\.\./)*)(?:docs/)?results/(\w+)/?\)")


def on_files(files: Files, config: Any) -> Files:
    """Adds a page for every folder of published results."""
    for folder in sorted(path for path in RESULTS.iterdir() if path.is_dir()):
        content = results_page(folder)
        files.append(File.generated(config, f"results/{folder.name}/index.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replaces the markers, and points links to folders at the folders' pages."""
    markdown = MARKER.sub(expand, markdown)
    if page.file.src_uri == "results/README.md":
        return re.sub(r"`(\w+)`(?=[^|]*\|[^|]*\|[^|]*\|$)", linked_folder, markdown, flags=re.M)
    return FOLDER.sub(r"](\1results/\2/index.md)", markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Sets the equations."""
    return EQUATION.sub(equation, content)


def equation(tex: re.Match[str]) -> str:
    """An equation in TeX as MathML."""
    return convert(html.unescape(tex[2]), display="block" if tex[1] == "[" else "inline")


def expand(marker: re.Match[str]) -> str:
    """The Markdown that a marker stands for."""
    kind, path, rest = marker.groups()
    if kind == "compatibility":
        return compatibility_table()
    if kind == "table":
        return tables.markdown_table(ROOT / path, rest.split())
    if kind == "rows":
        return rows_table(ROOT / path)
    if kind == "speed":
        return speed_table(ROOT / path, rest.split(", "))
    return verdicts_table(ROOT / path, failing=True)


def linked_folder(name: re.Match[str]) -> str:
    """A folder's name as a link to its page."""
    is_folder = (RESULTS / name[1]).is_dir()
    return f"[`{name[1]}`]({name[1]}/index.md)" if is_folder else name[0]


def results_page(folder: Path) -> str:
    """Figures, table, verdicts and files of one published run."""
    parts = ["---", "search:", "  exclude: true", "---", f"# {folder.name}"]
    parts += ["[All published results](../README.md)"]
    if (folder / "evaluation.csv").exists():
        rows = tables.read_csv(folder / "evaluation.csv")
        if len({row["scenario"] for row in rows}) == 1:
            parts += [tables.markdown_table(folder / "evaluation.csv")]
    if (folder / benchmark.FILE).exists():
        parts += [speed_table(folder)]
    if (folder / "verdicts.csv").exists():
        parts += ["## Verdicts", verdicts_table(folder)]
    figures = sorted(folder.glob("figures/*.png"))
    if figures:
        parts += ["## Figures", *[f"![{path.stem}](figures/{path.name})" for path in figures]]
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    return "\n\n".join([*parts, "## Files", "\n".join(f"- [{name}]({name})" for name in files)])


def compatibility_table() -> str:
    """Which learner fits which environment, and why not."""
    envs = {name: environment_class(name)() for name in environments()}
    rows = [
        [f"`{learner}`", *[why or "yes" for why in reasons.values()]]
        for learner, reasons in compatibility(envs).items()
    ]
    lines = [["learner", *[f"`{name}`" for name in envs]], ["---"] * (len(envs) + 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def speed_table(folder: Path, begins: Sequence[str] = ("",)) -> str:
    """The measurements of a folder whose names begin with one of ``begins`` as Markdown."""
    lines = benchmark.table_lines(benchmark.read_benchmark(folder / benchmark.FILE))
    lines = [line for line in lines if line[0].startswith(tuple(begins))]
    rows = [list(benchmark.TABLE), ["---"] * len(benchmark.TABLE), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def rows_table(path: Path) -> str:
    """The rows of a CSV file as Markdown."""
    rows = tables.read_csv(path)
    lines = [list(rows[0]), ["---"] * len(rows[0]), *[list(row.values()) for row in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def verdicts_table(folder: Path, failing: bool = False) -> str:
    """The verdicts of a folder as Markdown; failing: only those that do not hold."""
    rows = tables.read_csv(folder / "verdicts.csv")
    shown = [row for row in rows if not failing or row["verdict"] != "holds"]
    cells = [[row[name] for name in ("claim", "paper", "verdict", "why")] for row in shown]
    lines = [["claim", "paper", "verdict", "measured here"], ["---"] * 4, *cells]
    return "\n".join(f"| {' | '.join(c.replace('|', '/') for c in line)} |" for line in lines)
