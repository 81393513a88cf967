"""The claims of figures 3 to 16 of the vehicular system, each judged on a table of measurements.

The paper reports the mean latency of completed tasks. A scheme that loses its long tasks looks fast
by it, so claims about latency are judged by the mean cost of all tasks (``cost_s``: latency, three
times that for a failure) wherever schemes complete different tasks.

Judgements compare means; the interval given with a verdict is that of the number it turns on.
"""

from __future__ import annotations

from collections.abc import Sequence

from runs.reproductions.judging import Table
from runs.reproductions.vehicular.scenarios import NOT_LOOKING_AHEAD


def text(
    table: Table, scenario: str, metric: str, rivals: Sequence[str] = NOT_LOOKING_AHEAD
) -> str:
    """``learned 12.3, Edge 45.6``."""
    return table.text(scenario, metric, (table.learned, *rivals))
