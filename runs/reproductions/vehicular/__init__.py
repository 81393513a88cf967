"""Figures 3 to 16 of "SAFE: Intelligent Online Scheduling for Collaborative DNN Inference in
Vehicular Network".

Figures that show the same experiment form a group, and a group is measured once:

    training    figures 3, 4     learning curves on VGG-16
    cores       figures 5 to 8   4, 8, 12, 16 cores per RSU, three networks
    bandwidth   figures 9 to 12  5, 10, 15, 20 MHz per RSU, three networks
    mix         figures 13, 14   single networks and the mixes 1:1:1 and 1:2:1
    scale       figures 15, 16   10 RSUs with 20, 30, 40, 50 vehicles

    python -m runs.reproduce figure=vehicular/cores scale=smoke
    python -m runs.reproduce figure=vehicular/fig06 scale=smoke lookahead=true
    python -m runs.reproduce figure=vehicular/all scale=paper

``smoke`` trains ONE policy per group, each of the learner's environments at its own place in the
sweep, and takes minutes on 2 cores. ``paper`` trains one policy per point and seed, all in one
compiled program, for at least the paper's 3000 episodes, and is meant for a GPU. Either way all
points of a group are evaluated in one vmapped call per policy, on the same episodes.
``checkpoint=DIR`` takes the policy of a training run instead, whose sizes must be the group's.
Figures of one group that are asked for together share its training and its measurements.
"""

from __future__ import annotations

from functools import partial

from runs.reproductions import Reproduction, Verdict
from runs.reproductions.groups import measured_group
from runs.reproductions.judging import Table
from runs.reproductions.vehicular import plots
from runs.reproductions.vehicular.claims import learning, sweeps
from runs.reproductions.vehicular.measuring import run_group
from runs.reproductions.vehicular.scenarios import FIGURES, points
from runs.reproductions.vehicular.training import Curves, learned_name
from runs.settings import Config


def judge(group: str, table: Table, curves: Curves | None = None) -> dict[str, list[Verdict]]:
    """The verdicts of a group's claims, by figure."""
    if group == "training":
        return learning.judge(table, curves)
    return {figure: getattr(sweeps, figure)(table) for figure in FIGURES[group]}


def reproduce(figure: str, config: Config) -> Reproduction:
    """A figure of the paper: its data, its drawing and the verdicts on its claims.

    Args:
        figure: ``fig03`` to ``fig16``.
        config: of ``runs.reproduce``. ``scale``, ``env``, ``agent``, ``seed`` and what every
            program has; ``num_seeds``, ``num_updates``, ``eval_episodes`` replace the scale's own
            schedule; ``checkpoint`` replaces training; ``lookahead`` adds Greedy and Social.
    """
    group = next(group for group, figures in FIGURES.items() if figure in figures)
    found = measured_group(config, f"vehicular/{group}", partial(run_group, group=group))
    learned = learned_name(config)
    verdicts = judge(group, Table(found.rows, learned), found.curves)
    if group == "training":
        if found.curves is None:
            return Reproduction([], verdicts.get(figure, []))
        drawing = plots.draw_curves(figure, found.curves)
        return Reproduction(plots.curve_rows(found.curves), verdicts[figure], drawing)
    places = [(place.scenario, place.network, place.x) for place in points(group)]
    rows = plots.figure_rows(figure, found.rows, places)
    return Reproduction(rows, verdicts[figure], plots.draw(figure, rows, learned))


fig03, fig04, fig05, fig06, fig07, fig08, fig09, fig10, fig11, fig12, fig13, fig14, fig15, fig16 = (
    partial(reproduce, f"fig{number:02d}") for number in range(3, 17)
)
