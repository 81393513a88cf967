"""The lines of ``docs/adapters.md``, which the tests of every client run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "adapters.md"


def run_block(heading: str) -> dict[str, Any]:
    """Runs the Python block under a heading; the names it leaves."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S)
    (block,) = re.findall(r"```python\n(.*?)```", section, re.S)
    names: dict[str, Any] = {}
    exec(block, names)
    return names
