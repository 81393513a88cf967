"""Data and drawings of the figures of joint deployment."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxenv.rendering import colours
from runs.figures import new_figure
from runs.reproductions import plotting
from runs.reproductions.services.scenarios import (
    ACCURACY,
    AGENTS,
    ALPHAS,
    BASELINES,
    BATCHES,
    COST,
    DELAY,
    DESCENT,
    ENTROPY,
    FAILURE,
    GREEDY,
    HAPPO,
    HASAC,
    HEURISTIC,
    HISPER,
    INDEPENDENT,
    LEARNED,
    ONE_VALUE,
    PRESETS,
    PRICES,
    RANDOM,
    REWARD,
    SAMPLED,
    SCENARIOS,
    at,
    at_alpha,
    at_batch,
)
from runs.reproductions.services.training import Curve
from runs.tables import BOUND, Row

STYLES: dict[str, plotting.Style] = {
    HISPER: (colours.RED, "o", "-"),
    HASAC: (colours.BLUE, "s", "-"),
    HAPPO: (colours.PURPLE, "v", "-"),
    ONE_VALUE: (colours.ORANGE, "P", "-"),
    INDEPENDENT: (colours.SKY, "X", "-"),
    RANDOM: (colours.GREY, "x", "--"),
    HEURISTIC: (colours.BLACK, "D", "--"),
    PRICES: (colours.GREEN, "^", "--"),
    GREEDY: (colours.BROWN, "<", ":"),
    DESCENT: ("#332288", "*", ":"),
    BOUND: ("#555555", "", ":"),
}
MODEL_STYLES = (
    (colours.RED, "o", "-"),
    (colours.BLUE, "s", "-"),
    (colours.GREEN, "^", "-"),
    (colours.PURPLE, "v", "-"),
)
DETECTORS = ("R-50-FPN fp16", "R-50-C4", "X-101-64x4d-FPN", "R-101-FPN")
TRACKERS = ("ByteTrack", "SORT", "QDTrack")
LABELS = {
    REWARD: "reward per episode",
    ACCURACY: "accuracy per episode",
    COST: "cost per episode [$]",
    DELAY: "delay per episode [s]",
    FAILURE: "failure rate [%]",
    ENTROPY: "entropy / uniform policy's",
}
AGENT_LABELS = {
    "accuracy": "accuracy (standardised)",
    "delay_s": "delay [s]",
    "cost_usd": "cost [$]",
}
PARTS = (REWARD, ACCURACY, COST, DELAY)
PANEL = (3.0, 2.3)
DRAWN_AGENTS = (HISPER, HASAC, HAPPO, HEURISTIC, PRICES, DESCENT)


def table_rows(
    service: str,
    scales: Sequence[float],
    second: str,
    values: Sequence[float],
    models: Sequence[str],
    table: np.ndarray,
) -> list[Row]:
    """The data of figures 4 to 6, ``[scales, values, models]``."""
    return [
        {
            "service": service,
            "scale": float(scale),
            "setting": second,
            "setting_value": float(value),
            "model": model,
            "value": float(table[i, j, m]),
        }
        for m, model in enumerate(models)
        for i, scale in enumerate(scales)
        for j, value in enumerate(values)
    ]


def curve_rows(curves: Mapping[tuple[str, str], Curve]) -> list[Row]:
    """The data of figure 7: a row per run, seed, bin and metric."""
    return [
        _point(place, name, metric, float(one.steps[seed, i]), seed, float(values[seed, i]))
        for (place, name), one in curves.items()
        for metric, values in one.values.items()
        for seed, i in np.ndindex(values.shape)
        if np.isfinite(values[seed, i])
    ]


def level_rows(rows: Sequence[Row]) -> list[Row]:
    """Measured levels beside `curve_rows`: no steps, no seed."""
    return [
        _point(row["scenario"], row["policy"], row["metric"], None, None, row["mean"])
        | {name: row[name] for name in ("ci_low", "ci_high")}
        for row in rows
        if row["metric"] in PARTS
    ]


def _point(
    place: str, name: str, metric: str, steps: float | None, seed: int | None, value: float
) -> Row:
    where = {"scenario": place, "policy": name, "metric": metric, "steps": steps, "seed": seed}
    return where | {"mean": value, "ci_low": None, "ci_high": None}


def failure_rows(rows: Sequence[Row]) -> list[Row]:
    """The data of figure 8: failures, and what they are due to."""
    shown = (FAILURE, "late_rate", "memory_rate", "failure_rate_detection", "failure_rate_tracking")
    return [row for row in rows if row["metric"] in shown]


def agent_rows(rows: Sequence[Row]) -> list[Row]:
    """The data of figure 10: a row per scenario, policy, agent and quantity."""
    found = []
    for row in rows:
        match = re.fullmatch(r"(accuracy|delay_s|cost_usd)_agent(\d+)", row["metric"])
        if match:
            place = {"scenario": row["scenario"], "quantity": match[1], "x": int(match[2]) + 1}
            found.append(place | {n: row[n] for n in ("policy", "mean", "ci_low", "ci_high")})
    return found


def part_rows(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """The data of the ablation: rewards and failures of learners, greedy and sampled."""
    wanted = {name + kind for name in names for kind in ("", SAMPLED)}
    return [row for row in rows if row["policy"] in wanted and row["metric"] in (*PARTS, FAILURE)]


def temperature_rows(rows: Sequence[Row], places: Sequence[str]) -> list[Row]:
    """The data of the temperature: rows of HISPER with the temperature as ``x``."""
    alpha = {
        at_alpha(place, value): (place, value)
        for place in places
        for value in ALPHAS[SCENARIOS[place][1]]
    }
    return [
        dict(zip(("swept", "x"), alpha[row["scenario"]], strict=True)) | row
        for row in rows
        if row["scenario"] in alpha
        and row["policy"].startswith(HISPER)
        and row["metric"] in (*PARTS, FAILURE, ENTROPY)
    ]


def draw_accuracy(rows: Sequence[Row], second: str) -> Any:
    """Figures 4 and 5: a panel per model, a line per value of the second setting."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    low, high = (extreme(row["value"] for row in rows) for extreme in (min, max))
    drawing, axes = new_figure(len(models), columns=4, size=(2.6, 2.4))
    for model, ax in zip(models, axes, strict=True):
        _draw_table(ax, [row for row in rows if row["model"] == model], second)
        ax.set_title(model, fontsize=9)
        ax.set_ylim(max(0, low - 0.3 * (high - low)), high + 0.05 * (high - low))
    axes[0].set_ylabel("box AP" if second == "JPEG quality" else "MOTA")
    plotting.legend(drawing, axes, columns=4)
    return drawing


def draw_sizes(rows: Sequence[Row]) -> Any:
    """Figure 6: a panel per service."""
    services = list(dict.fromkeys(row["service"] for row in rows))
    drawing, axes = new_figure(len(services), columns=2, size=(3.2, 2.6))
    for service, ax in zip(services, axes, strict=True):
        own = [row for row in rows if row["service"] == service]
        _draw_table(ax, own, own[0]["setting"])
        ax.set_yscale("log")
        ax.set_title(service, fontsize=9)
        ax.legend(frameon=False, fontsize=7)
    axes[0].set_ylabel("size factor")
    return drawing


def _draw_table(ax: Any, rows: Sequence[Row], second: str) -> None:
    for style, value in zip(
        MODEL_STYLES, dict.fromkeys(row["setting_value"] for row in rows), strict=True
    ):
        own = [row for row in rows if row["setting_value"] == value]
        colour, marker, line = style
        x, y = ([row[name] for row in own] for name in ("scale", "value"))
        label = f"{second} {value:g}"
        ax.plot(x, y, color=colour, marker=marker, linestyle=line, markersize=4, label=label)
    ax.set_xticks([0.25, 0.5, 0.75, 1.0])
    ax.set_xlabel("image scale")


def draw_training(curves: Mapping[tuple[str, str], Curve], rows: Sequence[Row]) -> Any:
    """Figure 7: a row of panels per scenario, learned policies over steps, others as lines."""
    drawing, axes = new_figure(len(SCENARIOS) * len(PARTS), columns=len(PARTS), size=PANEL)
    for place, row_axes in zip(SCENARIOS, axes.reshape(len(SCENARIOS), -1), strict=True):
        own = {key[1]: one for key, one in curves.items() if key[0] == place}
        for metric, ax in zip(PARTS, row_axes, strict=True):
            _draw_levels(ax, rows, place, metric)
            for name in (HISPER, HASAC, HAPPO):
                if name in own:
                    plotting.curve(
                        ax, own[name].steps, own[name].values[metric], STYLES[name][0], name
                    )
            _scale(ax, place, metric)
            ax.set_ylabel(LABELS[metric])
            if not own:
                ax.set_xticks([])
        row_axes[0].set_title(place, fontsize=10, loc="left", fontweight="bold")
        if not own:
            row_axes[0].set_xlabel("no learner trained here", fontsize=8)
        for ax in row_axes if own else ():
            ax.set_xlabel("training steps")
            ax.ticklabel_format(axis="x", scilimits=(0, 0))
    plotting.legend(drawing, axes, columns=9)
    return drawing


def _draw_levels(ax: Any, rows: Sequence[Row], place: str, metric: str) -> None:
    """Every baseline and the bound."""
    for row in rows:
        name = row["policy"]
        if row["scenario"] == place and row["metric"] == metric and name in (*BASELINES, BOUND):
            colour, _, line = STYLES[name]
            width = 1.6 if name == BOUND else 1.1
            ax.axhline(float(row["mean"]), color=colour, linestyle=line, lw=width, label=name)
            low, high = (float(row[end]) for end in ("ci_low", "ci_high"))
            ax.axhspan(low, high, color=colour, alpha=0.12, linewidth=0)


def _scale(ax: Any, place: str, metric: str) -> None:
    """Rewards of the literal preset span from hundreds to minus tens of thousands."""
    if metric == COST:
        low, high = ax.get_ylim()
        plotting.log_scale(ax, max(low, 1.0), high)
    elif place.startswith("literal") and metric in (REWARD, ACCURACY):
        ax.set_yscale("symlog", linthresh=100, linscale=0.6)
        ax.set_yticks([-10_000, -1000, -100, 0, 100, *([] if metric == REWARD else [500])])
        ax.set_yticklabels([f"{tick:g}" for tick in ax.get_yticks()])


def _draw_bars(ax: Any, rows: Sequence[Row], names: Sequence[str], form: str = "{:.3g}") -> None:
    """A bar per policy with its interval and its value."""
    values = {row["policy"]: row for row in rows}
    names = [name for name in names if name in values]
    for place, name in enumerate(names):
        interval = [float(values[name][key]) for key in ("mean", "ci_low", "ci_high")]
        faint = name.endswith(SAMPLED)
        style = {"color": STYLES[name.removesuffix(SAMPLED)][0], "alpha": 0.55 if faint else 1.0}
        plotting.bar(ax, place, interval, form, height=0.7, **style)
    plotting.bar_names(ax, names)
    ax.margins(x=0.15)


def draw_failures(rows: Sequence[Row]) -> Any:
    """Figure 8: a panel per scenario."""
    names = [name + kind for name in LEARNED for kind in ("", SAMPLED)] + list(BASELINES)
    most = max(
        len({row["policy"] for row in rows if row["scenario"] == place}) for place in SCENARIOS
    )
    size = (4.0, max(2.0, 0.24 * most + 0.7))
    drawing, axes = new_figure(len(SCENARIOS), columns=2, size=size)
    for place, ax in zip(SCENARIOS, axes, strict=True):
        own = [row for row in rows if row["scenario"] == place and row["metric"] == FAILURE]
        _draw_bars(ax, own, names)
        ax.set_title(place, fontsize=9)
        ax.set_xlabel(LABELS[FAILURE])
    return drawing


def draw_times(rows: Sequence[Row]) -> Any:
    """Figure 9: a panel per number of slots decided at once, two bars per policy."""
    drawing, axes = new_figure(len(BATCHES), columns=2, size=(4.2, 2.9))
    names = [name for name in (*LEARNED, *BASELINES) if any(r["policy"] == name for r in rows)]
    for batch, ax in zip(BATCHES, axes, strict=True):
        for shift, agents in zip((-0.2, 0.2), AGENTS, strict=True):
            own = {row["policy"]: row for row in rows if row["scenario"] == at_batch(agents, batch)}
            for place, name in enumerate(names):
                ms = [1e3 * float(own[name][key]) for key in ("mean", "ci_low", "ci_high")]
                pale = 0.55 if agents == AGENTS[0] else 1.0
                style = {"color": STYLES[name][0], "alpha": pale, "height": 0.36}
                plotting.bar(ax, place + shift, ms, "{:.2g}", size=6, apart=3, **style)
        ax.set_xscale("log")
        ax.margins(x=0.12)
        plotting.bar_names(ax, names)
        ax.set_xlabel("decision time per slot [ms]")
        slots = "one slot" if batch == 1 else f"{batch} slots"
        ax.set_title(f"{slots} at a time; pale: {AGENTS[0]} agents, full: {AGENTS[1]}", fontsize=8)
    return drawing


def draw_agents(rows: Sequence[Row]) -> Any:
    """Figure 10: 8 agents, a row of panels per preset, the quantities of accepted requests."""
    drawing, axes = new_figure(len(PRESETS) * len(AGENT_LABELS), columns=3, size=(3.2, 2.5))
    panels = [(at(kind, 8), quantity) for kind in PRESETS for quantity in AGENT_LABELS]
    for (place, quantity), ax in zip(panels, axes, strict=True):
        own = [
            row
            for name in DRAWN_AGENTS
            for row in rows
            if (row["scenario"], row["quantity"], row["policy"]) == (place, quantity, name)
        ]
        plotting.lines(ax, own, STYLES.__getitem__, (HISPER,), {})
        ax.axvline(4.5, color="#BBBBBB", linewidth=0.8)
        ax.set_ylabel(AGENT_LABELS[quantity])
        ax.set_xlabel("agent: 1 to 4 detect, 5 to 8 track")
        ax.set_title(place, fontsize=9)
    plotting.legend(drawing, axes, columns=6)
    return drawing


def draw_parts(curves: Mapping[tuple[str, str], Curve], rows: Sequence[Row]) -> Any:
    """The ablation: per scenario, rewards over steps, and measured rewards as bars."""
    places = [place for place in SCENARIOS if any(key[0] == place for key in curves)]
    drawing, axes = new_figure(2 * len(places), columns=2, size=(4.2, 2.9))
    names = (HISPER, ONE_VALUE, INDEPENDENT, HASAC)
    for place, (ax, bars) in zip(places, axes.reshape(-1, 2), strict=True):
        for name in names:
            if (place, name) in curves:
                one = curves[place, name]
                plotting.curve(ax, one.steps, one.values[REWARD], STYLES[name][0], name)
        ax.legend(frameon=False, fontsize=7, loc="lower right")
        ax.set_xlabel("training steps")
        ax.ticklabel_format(axis="x", scilimits=(0, 0))
        ax.set_ylabel(LABELS[REWARD])
        ax.set_title(f"{place}: mean and 95 % interval over seeds", fontsize=8)
        own = [row for row in rows if row["scenario"] == place and row["metric"] == REWARD]
        _draw_bars(bars, own, [n + kind for n in names for kind in ("", SAMPLED)], "{:.5g}")
        bars.set_xlabel(LABELS[REWARD])
        bars.set_title("measured on the same episodes", fontsize=8)
    return drawing


def draw_temperature(rows: Sequence[Row], measured: Sequence[Row], places: Sequence[str]) -> Any:
    """Rewards, failures, delays and entropy of HISPER over the temperature, beside baselines."""
    shown = (REWARD, FAILURE, DELAY, ENTROPY)
    drawing, axes = new_figure(len(shown) * len(places), columns=len(shown), size=PANEL)
    panels = [(place, metric) for place in places for metric in shown]
    for (place, metric), ax in zip(panels, axes, strict=True):
        for name, line in ((HISPER + SAMPLED, "-"), (HISPER, "--")):
            own = [row for row in rows if (row["swept"], row["metric"]) == (place, metric)]
            x, mean, error = plotting.series(own, name)
            if len(x):
                style = {"color": STYLES[HISPER][0], "marker": "o", "markersize": 4, "capsize": 2}
                label = "HISPER, sampled" if line == "-" else "HISPER, greedy"
                ax.errorbar(x, mean, error, linestyle=line, label=label, **style)
        _draw_levels(ax, measured, place, metric)
        ax.set_xscale("log")
        alphas = ALPHAS[SCENARIOS[place][1]]
        ax.set_xticks(alphas, [f"{alpha:g}" for alpha in alphas])
        ax.set_xticks([], minor=True)
        _scale(ax, place, metric)
        ax.set_xlabel("temperature alpha")
        ax.set_ylabel(LABELS[metric])
    for place, ax in zip(places, axes[:: len(shown)], strict=True):
        ax.set_title(place, fontsize=10, loc="left", fontweight="bold")
    plotting.legend(drawing, axes, columns=8)
    return drawing
