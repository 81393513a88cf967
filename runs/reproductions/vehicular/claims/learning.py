"""Claims about training, and the policy at its end: figures 3 and 4."""

from __future__ import annotations

from runs.reproductions import Verdict
from runs.reproductions.judging import Table, over_seeds, verdict
from runs.reproductions.vehicular.claims import text
from runs.reproductions.vehicular.scenarios import (
    COST,
    DEFAULT,
    NOT_LOOKING_AHEAD,
    SUCCESS,
)
from runs.reproductions.vehicular.training import Curves, first_and_last_tenth

TARGET_COST_S, TARGET_SUCCESS = 14.5, 98.0


def judge(table: Table, curves: Curves | None) -> dict[str, list[Verdict]]:
    """The verdicts of figures 3 and 4; without a training those on the policy."""
    if curves is None:
        return {"fig04": final_policy(table)}
    fig03, *fig04 = rising(curves)
    return {"fig03": [fig03], "fig04": [*fig04, *final_policy(table)]}


def rising(training: Curves) -> list[Verdict]:
    """Last tenth of training against the first tenth: reward, then success and latency."""
    curves = {
        "fig03: the reward rises": ("reward", training.reward, 1, "s"),
        "fig04: the success rate rises": ("success", training.success, 1, "%"),
        "fig04: the latency falls": ("latency", training.latency_s, -1, "s"),
    }
    verdicts = []
    for claim, (name, values, sign, unit) in curves.items():
        early, late = first_and_last_tenth(training, values)
        change = late - early
        episodes = training.episodes[:, -1].mean()
        verdicts.append(
            verdict(
                claim,
                "rises until about 1800 episodes, then stable" if sign > 0 else "falls gradually",
                "no expected value",
                over_seeds(change),
                sign * change.mean() > 0,
                f"last minus first tenth of {episodes:.0f} episodes: {name} {early.mean():.4g} to "
                f"{late.mean():.4g} {unit}, {len(change)} seeds, actions drawn from the policy",
            )
        )
    return verdicts


def final_policy(table: Table) -> list[Verdict]:
    """The trained policy at the VGG-16 default, against baselines and the target."""
    cost, success = table.mean(DEFAULT, COST), table.mean(DEFAULT, SUCCESS)
    costs = text(table, DEFAULT, COST)
    return [
        verdict(
            "fig04: after training, lower cost than every baseline that does not look ahead",
            "small latency with a high success rate",
            "below all",
            table.row(DEFAULT, COST),
            all(cost < table.mean(DEFAULT, COST, name) for name in NOT_LOOKING_AHEAD),
            f"cost in s: {costs}",
        ),
        verdict(
            "fig04: after training, the target at the VGG-16 default is reached",
            "no number",
            f"cost <= {TARGET_COST_S} s, success >= {TARGET_SUCCESS:g} %",
            table.row(DEFAULT, COST),
            cost <= TARGET_COST_S and success >= TARGET_SUCCESS,
            f"cost {cost:.4g} s, success {success:.4g} %",
        ),
    ]
