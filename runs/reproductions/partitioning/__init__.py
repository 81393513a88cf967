"""Figures 6 to 13 of "Distributed DNN Inference with Fine-grained Model Partitioning in Mobile Edge
Computing Networks".

Figures that show the same experiment form a group, and a group is measured once:

    training   figure 6          multi-task A3C, A3C and DQN at the default
    settings   figure 7          learning rates, workers, lengths of rollouts
    servers    figures 8, 11a    2 to 9 edge servers
    blocks     figures 9, 11b    3 to 18 blocks
    rate       figures 10, 11c   30 to 110 tasks per slot
    tolerance  figure 12         tolerated delays of 1 to 7 s
    links      figure 13         links of 0.8 to 2 MB/s, four networks

    python -m runs.reproduce figure=partitioning/fig10 scale=smoke
    python -m runs.reproduce figure=partitioning/all scale=paper

Learners are those of ``experiment=partitioning``, ``partitioning_a3c`` and ``partitioning_dqn``.
With ``smoke`` a sweep trains ONE policy, each worker at its own point, and takes minutes on 2
cores; numbers of blocks change sizes, so each has a short training of its own. ``paper`` trains
every learner that fits at every point, for a GPU. Either way all points of one size are evaluated
in one vmapped call per policy, on the same episodes. ``num_seeds``, ``num_updates`` and
``eval_episodes`` replace the scale's; ``agent=a3c`` and its settings those of the presets;
``env=partitioning`` and its settings those of every scenario.
"""

from __future__ import annotations

from functools import partial

from runs.reproductions import Reproduction
from runs.reproductions.judging import Table
from runs.reproductions.partitioning import plots
from runs.reproductions.partitioning.claims import learning, sweeps
from runs.reproductions.partitioning.measuring import measured
from runs.reproductions.partitioning.scenarios import PROPOSED, families
from runs.settings import Config

GROUPS = {
    "fig06": ("training",),
    "fig07": ("settings",),
    "fig08": ("servers",),
    "fig09": ("blocks",),
    "fig10": ("rate",),
    "fig11": ("servers", "blocks", "rate"),
    "fig12": ("tolerance",),
    "fig13": ("links",),
}


def reproduce(figure: str, config: Config) -> Reproduction:
    """A figure of the paper: its data, its drawing and the verdicts on its claims.

    Args:
        figure: ``fig06`` to ``fig13``.
        config: of ``runs.reproduce``.
    """
    found = [measured(config, group) for group in GROUPS[figure]]
    rows = [row for group in found for row in group.rows]
    table = Table(rows, PROPOSED)
    curves = {name: curve for group in found for name, curve in group.curves.items()}
    if figure in ("fig06", "fig07"):
        verdicts = getattr(learning, figure)(table, curves)
        drawing = plots.draw_training(curves, rows) if figure == "fig06" else None
        drawing = drawing or plots.draw_settings(curves, rows)
        return Reproduction(plots.curve_rows(curves), verdicts, drawing)
    places = {
        place.scenario: (group, place.network, place.x)
        for group in GROUPS[figure]
        for _, points in families(group)
        for place in points
    }
    data = plots.figure_rows(figure, rows, places)
    return Reproduction(data, getattr(sweeps, figure)(table), plots.draw(figure, data))


fig06, fig07, fig08, fig09, fig10, fig11, fig12, fig13 = (
    partial(reproduce, f"fig{number:02d}") for number in range(6, 14)
)
