"""The claims about joint deployment, selection and configuration of inference services, judged.

The paper prints neither its accuracy tables nor its network, so absolute numbers are of the model's
own constants; what is judged is stated with every verdict. Judgements compare means of the greedy
policies, and the interval given is that of the number a verdict turns on. A claim about a learner
that was not trained in a scenario is not comparable there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runs.reproductions import NOT_COMPARABLE, Verdict
from runs.reproductions.judging import Table, verdict


def judged(
    table: Table,
    place: str,
    needed: Sequence[str],
    claim: str,
    paper: str,
    expected: str,
    metric: str,
    holds: Any,
    why: str,
    policy: str | None = None,
) -> Verdict:
    """A verdict that turns on a row, where all ``needed`` policies were measured.

    policy: whose row; the first needed.
    """
    missing = [name for name in needed if not table.has(place, name)]
    if missing:
        told = f"not trained at this scale: {', '.join(missing)}"
        return verdict(claim, paper, expected, None, NOT_COMPARABLE, told)
    row = table.row(place, metric, policy or needed[0])
    return verdict(claim, paper, expected, row, holds, why)
