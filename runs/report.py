"""``python -m runs.report run=DIR``: one self-contained HTML file of whatever a program wrote."""

from __future__ import annotations

import base64
import csv
import json
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from jaxenv.errors import ConfigError
from runs import benchmark, program, tables
from runs.settings import Config, stored_yaml

IMAGES = {".png": "image/png", ".gif": "image/gif", ".svg": "image/svg+xml"}
TEXTS = {
    "config.yaml": "Configuration, as it was given",
    "resolved.yaml": "Every number in use, defaults included",
    "training.yaml": "Configuration of the training",
    "versions.json": "Versions and hardware",
}
MOST_ROWS = 400
PLAIN = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?")
NUMBER = re.compile(r"[-+]?[\d.,]+(e[-+]?\d+)?%?( \[.*\])?")
STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0.2rem; }
h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #8884; }
p.where { color: #777; margin-top: 0; }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.86rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid #8883; text-align: left; }
th.number, td.number { text-align: right; }
td.number { white-space: nowrap; }
tr.bound td { font-style: italic; }
td.holds { color: #18794e; } td.fails { color: #c62a2f; }
figure { margin: 1rem 0; } figcaption { color: #777; font-size: 0.86rem; }
img { max-width: 100%; background: white; }
pre { overflow-x: auto; font-size: 0.8rem; background: #8881; padding: 0.8rem; }
summary { cursor: pointer; margin: 0.6rem 0; }
"""


def main(argv: list[str] | None = None) -> None:
    """The program."""
    program.run_program("report", run, argv)


def run(config: Config, folder: Path) -> None:
    """Writes ``report.html`` of the folder ``config["run"]``."""
    source = Path(config["run"])
    if not source.is_dir():
        raise ConfigError("run", str(source), "no such folder")
    jobs = sorted(path.parent for path in source.glob("*/config.yaml"))
    if not jobs and not (source / "config.yaml").exists():
        raise ConfigError("run", str(source), "it holds no config.yaml that a program wrote")
    path = folder / "report.html"
    path.write_text(page(source, jobs), encoding="utf-8")
    print(f"written to {path}")


def page(source: Path, jobs: Sequence[Path] = ()) -> str:
    """The whole document. jobs: folders of a sweep, each shown below the sweep's own table."""
    parts = sections(source)
    for job in jobs:
        own = "\n".join(sections(job))
        parts.append(f"<details><summary>job {escape(job.name)}</summary>\n{own}\n</details>")
    title = escape(heading(source, jobs))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        f'<p class="where">{escape(origin(source, jobs))}</p>\n'
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def heading(source: Path, jobs: Sequence[Path]) -> str:
    """What the run is: learner and environment, or a figure, or a suite."""
    folder = _described(source, jobs)
    config = stored_yaml(folder / "config.yaml")
    names = {part: (config.get(part) or {}).get("name") for part in ("env", "agent")}
    for name in ("figure", "suite", "problem"):
        if config.get(name):
            return f"{name} {config[name]}"
    learned = "num_updates" in config and names["agent"]
    what = f"{names['agent']} on {names['env']}" if learned else str(names["env"] or source.name)
    return what if folder == source else f"sweep of {len(jobs)} jobs: {what}"


def origin(source: Path, jobs: Sequence[Path]) -> str:
    """Where the run was made, and with what."""
    path = _described(source, jobs) / "versions.json"
    if not path.exists():
        return source.name
    found = json.loads(path.read_text(encoding="utf-8"))
    packages = found.get("packages", {})
    words = [source.name] + [f"{n} {packages[n]}" for n in ("jaxenv", "jax") if n in packages]
    hardware = found.get("hardware", {})
    words += [f"{hardware.get('cpu_count')} x {hardware.get('cpu')}", *hardware.get("devices", [])]
    return ", ".join(str(word) for word in words)


def sections(source: Path) -> list[str]:
    """What one folder holds: tables, figures, then the configuration."""
    parts = []
    for name, title, table in (
        ("sweep.csv", "Sweep", _plain_table),
        ("evaluation.csv", "Evaluation", _evaluation_table),
        ("violations.csv", "Violations", _plain_table),
        ("quantiles.csv", "Quantiles over episodes", _folded_table),
        ("verdicts.csv", "Verdicts", _plain_table),
        ("progress.csv", "Measured while training", _plain_table),
    ):
        if (source / name).exists():
            parts.append(f"<h2>{title}</h2>\n{table(source / name)}")
    if (source / "benchmark.json").exists():
        parts.append(f"<h2>Speed</h2>\n{_benchmark_table(source / 'benchmark.json')}")
    images = sorted(p for p in source.glob("figures/*") if p.suffix in IMAGES)
    if images:
        parts.append("<h2>Figures</h2>\n" + "\n".join(map(_figure, images)))
    texts = [_text(source / name, title) for name, title in TEXTS.items()]
    return parts + ["<h2>How it was made</h2>", *filter(None, texts)]


# ---- parts -------------------------------------------------------------------------------------


def _described(source: Path, jobs: Sequence[Path]) -> Path:
    """The folder whose configuration tells what a run is: of a sweep, its first job."""
    own = not jobs or (source / "config.yaml").exists()
    return source if own else jobs[0]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], marked: Any = None) -> str:
    """An HTML table; marked: from a row to its class."""

    def kind_of(text: str) -> str:
        return text if text in ("holds", "fails") else "number" if NUMBER.fullmatch(text) else ""

    def cell(text: str) -> str:
        return f'<td class="{kind_of(text)}">{escape(text)}</td>'

    def heading_cell(column: int, name: str) -> str:
        numbers = any(kind_of(row[column]) == "number" for row in rows)
        return f'<th class="number">{escape(name)}</th>' if numbers else f"<th>{escape(name)}</th>"

    lines = []
    for row in rows[:MOST_ROWS]:
        kind = marked(row) if marked else ""
        lines.append(f'<tr class="{kind}">' + "".join(map(cell, row)) + "</tr>")
    if len(rows) > MOST_ROWS:
        lines.append(f"<tr><td>and {len(rows) - MOST_ROWS} rows more in the file</td></tr>")
    head = "".join(heading_cell(*named) for named in enumerate(header))
    body = "\n".join(lines)
    return f'<div class="wide"><table>\n<tr>{head}</tr>\n{body}\n</table></div>'


def _evaluation_table(path: Path) -> str:
    """One table per scenario: policies down, metrics across, with 95 % intervals."""
    rows = tables.read_csv(path)
    scenarios = list(dict.fromkeys(row["scenario"] for row in rows))
    parts = []
    for scenario in scenarios:
        header, lines = tables.evaluation_cells([r for r in rows if r["scenario"] == scenario])
        table = _table(header, lines, lambda row: "bound" if row[0] == tables.BOUND else "")
        name = f"<h3>{escape(scenario)}</h3>\n" if len(scenarios) > 1 else ""
        parts.append(name + table)
    return "\n".join(parts)


def _benchmark_table(path: Path) -> str:
    return _table(list(benchmark.TABLE), benchmark.table_lines(benchmark.read_benchmark(path)))


def _plain_table(path: Path) -> str:
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    return _table(header, [[_short(cell) for cell in row] for row in rows])


def _folded_table(path: Path) -> str:
    return f"<details><summary>{path.name}</summary>\n{_plain_table(path)}\n</details>"


def _short(text: str) -> str:
    """A number with four digits; other text as it is."""
    whole = text.lstrip("-").isdigit()
    return f"{float(text):.4g}" if PLAIN.fullmatch(text) and not whole else text


def _figure(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    name = escape(path.stem.replace("_", " "))
    image = f'<img alt="{name}" src="data:{IMAGES[path.suffix]};base64,{data}">'
    return f"<figure>{image}<figcaption>{name}</figcaption></figure>"


def _text(path: Path, title: str) -> str:
    if not path.exists():
        return ""
    text = escape(path.read_text(encoding="utf-8"))
    return f"<details><summary>{title}</summary><pre>{text}</pre></details>"


if __name__ == "__main__":
    main()
