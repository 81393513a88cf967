"""Figures 4 to 10 of "Joint DNN Model Deployment, Selection, and Configuration for Heterogeneous
Inference Services Toward Edge Intelligence", and what HISPER's parts and its temperature do.

Figures that show the same experiment form a group, and a group is measured once:

    services/tables     figures 4, 5, 6: accuracies and size factors, as embedded
    services/training   figures 7, 8, 10, ablation: every policy with literal and percent
                        accuracies, 8 and 10 agents
    fig09               seconds of a decision, one slot and 1000 at a time, of untrained networks
    temperature         HISPER at five temperatures, trained as one program, literal accuracies

    python -m runs.reproduce figure=services/training scale=smoke
    python -m runs.reproduce figure=services/all scale=paper

Learners are those of ``experiment=services``, ``services_hasac`` and ``services_happo``; with
``paper`` that of ``services_paper``, from which HASAC differs by its two switches. ``smoke`` trains
with percent accuracies and 8 agents alone, for 2 cores, and measures the baselines and the bound
everywhere; ``paper`` trains everywhere, by the paper's schedule, for a GPU. ``num_seeds``,
``num_updates`` and ``eval_episodes`` replace the scale's; ``learners`` are those that are trained;
``agent=hisper`` or ``agent=happo`` and its settings those of the presets of that learner;
``env=services`` and its settings those of every scenario. Every learned policy is measured greedy,
and as ``NAME, sampled``.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from jaxenv.services import FRAME_RATES, QUALITIES, SCALES, Service, detection, tracking
from runs.reproductions import Reproduction
from runs.reproductions.groups import Measured, measured_group
from runs.reproductions.judging import Table
from runs.reproductions.services import plots
from runs.reproductions.services.claims import policies, rewards, tables
from runs.reproductions.services.measuring import run_temperature, run_times, run_training
from runs.reproductions.services.scenarios import HASAC, HISPER, INDEPENDENT, ONE_VALUE
from runs.reproductions.services.training import schedule
from runs.settings import Config

RUNS = {"training": run_training, "time": run_times, "temperature": run_temperature}
SECOND_SETTING = {"detection": QUALITIES, "tracking": FRAME_RATES}


def measured(config: Config, group: str) -> Measured:
    """A group's measurements, and its training curves by scenario and policy."""
    return measured_group(config, f"services/{group}", RUNS[group])


def grid(service: Service, table: np.ndarray) -> np.ndarray:
    """``[scales, seconds, ...]`` of a table ``[configurations, ...]``."""
    return table.reshape(len(SCALES), len(SECOND_SETTING[service.name]), *table.shape[1:])


def accuracies(figure: str, config: Config) -> Reproduction:
    """Figures 4 and 5."""
    service, second, models, extremes = {
        "fig04": (detection(), "JPEG quality", plots.DETECTORS, (0.097, 0.42)),
        "fig05": (tracking(), "frame rate", plots.TRACKERS, (0.60, 0.85)),
    }[figure]
    table = grid(service, service.accuracy)
    verdicts = tables.accuracy_table(figure, service.name, second, extremes, table)
    values = SECOND_SETTING[service.name]
    rows = plots.table_rows(service.name, SCALES, second, values, models, table)
    return Reproduction(rows, verdicts, plots.draw_accuracy(rows, second))


def fig06(config: Config) -> Reproduction:
    """Figure 6."""
    rows, verdicts = [], []
    for service, second, least in (
        (detection(), "JPEG quality", 0.024630),
        (tracking(), "frame rate", 0.022593),
    ):
        table = grid(service, service.size_factor)
        verdicts += tables.size_table(service.name, second, least, table)
        values = SECOND_SETTING[service.name]
        rows += plots.table_rows(service.name, SCALES, second, values, ("all",), table[..., None])
    return Reproduction(rows, verdicts, plots.draw_sizes(rows))


def fig07(config: Config) -> Reproduction:
    """Reward, accuracy, cost and delay against training steps, beside every baseline."""
    found = measured(config, "training")
    verdicts = rewards.fig07(Table(found.rows, HISPER), found.curves)
    drawing = plots.draw_training(found.curves, found.rows)
    return Reproduction(
        plots.curve_rows(found.curves) + plots.level_rows(found.rows), verdicts, drawing
    )


def fig08(config: Config) -> Reproduction:
    """Failure rates."""
    rows = measured(config, "training").rows
    data = plots.failure_rows(rows)
    return Reproduction(data, policies.fig08(Table(rows, HISPER)), plots.draw_failures(data))


def fig09(config: Config) -> Reproduction:
    """Seconds of a decision."""
    rows = measured(config, "time").rows
    return Reproduction(rows, policies.fig09(Table(rows, HISPER)), plots.draw_times(rows))


def fig10(config: Config) -> Reproduction:
    """Accuracy, delay and cost of every agent's accepted requests."""
    rows = measured(config, "training").rows
    data = plots.agent_rows(rows)
    return Reproduction(data, policies.fig10(Table(rows, HISPER)), plots.draw_agents(data))


def ablation(config: Config) -> Reproduction:
    """HISPER with and without each of its two parts."""
    found = measured(config, "training")
    names = (HISPER, ONE_VALUE, INDEPENDENT, HASAC)
    rows = plots.part_rows(found.rows, names)
    curves = {key: curve for key, curve in found.curves.items() if key[1] in names}
    verdicts = policies.ablation(Table(found.rows, HISPER))
    return Reproduction(rows, verdicts, plots.draw_parts(curves, rows) if rows else None)


def temperature(config: Config) -> Reproduction:
    """HISPER at every temperature."""
    rows = measured(config, "temperature").rows
    places = schedule(config).swept
    data = plots.temperature_rows(rows, places)
    verdicts = policies.temperature(Table(rows, HISPER), places)
    return Reproduction(data, verdicts, plots.draw_temperature(data, rows, places))


fig04, fig05 = partial(accuracies, "fig04"), partial(accuracies, "fig05")
