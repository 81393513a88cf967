"""Where the figures of joint deployment are measured: policies, metrics, scenarios."""

from __future__ import annotations

import dataclasses
from typing import Any

from runs.settings import Config
from runs.tables import BOUND

HISPER, HASAC, HAPPO = "HISPER", "HASAC", "HAPPO"
ONE_VALUE, INDEPENDENT = "HISPER, one value", "HISPER, independent"
LEARNED = (HISPER, HASAC, HAPPO, ONE_VALUE, INDEPENDENT)
SAMPLED = ", sampled"
RANDOM, HEURISTIC, PRICES, GREEDY, DESCENT = (
    "Random",
    "Heuristic",
    "PriceTable",
    "SeqGreedy",
    "CoordDescent",
)
BASELINES = (RANDOM, HEURISTIC, PRICES, GREEDY, DESCENT)
PUBLISHED = (HISPER, HASAC, HAPPO, HEURISTIC, RANDOM)
REWARD, ACCURACY, COST, DELAY = "reward", "accuracy", "cost_usd", "delay_s"
FAILURE = "failure_rate"
DEVIATION, SLACK = "reward_sd", "least_distance_to_bound"
SECONDS, ENTROPY = "seconds_per_slot", "entropy_share"
PRESETS, AGENTS, BATCHES = ("literal", "percent"), (8, 10), (1, 1000)


def at(preset: str, agents: int) -> str:
    """The scenario of a scale of accuracies and a number of agents."""
    return f"{preset}, {agents} agents"


def at_batch(agents: int, batch: int) -> str:
    """Where decision times are measured."""
    return f"{agents} agents, batch {batch}"


def at_alpha(scenario: str, alpha: float) -> str:
    """A scenario in which a temperature was trained."""
    return f"{scenario}, alpha {alpha:g}"


SCENARIOS = {at(preset, agents): (preset, agents) for preset in PRESETS for agents in AGENTS}
ALPHAS = {8: (2.0, 1.0, 0.5, 0.1, 0.05), 10: (2.5, 1.0, 0.5, 0.1, 0.05)}  # the paper's first


def env_of(config: Config, scenario: str, **options: Any) -> Config:
    """The settings of a scenario's environment."""
    kind, agents = SCENARIOS[scenario]
    given = config.get("env") or {}
    given = given if given.get("name") == "services" else {}
    return given | {"name": "services", "preset": kind, "num_agents": agents} | options


@dataclasses.dataclass(frozen=True)
class Expected:
    """What an independent slow version of the system gives; mean and deviation of episodes."""

    reward: float
    deviation: float
    failure: float | None = None


EXPECTED = {
    at("literal", 8): {
        RANDOM: Expected(-29156, 1172, 35.0),
        HEURISTIC: Expected(-7486, 1029, 9.1),
        GREEDY: Expected(-104.4, 1.8, 0),
        DESCENT: Expected(-97.6, 2.1, 0),
        BOUND: Expected(-70.1, 2.9),
    },
    at("literal", 10): {
        RANDOM: Expected(-37874, 1554, 36.4),
        HEURISTIC: Expected(-11330, 1157, 11.1),
        GREEDY: Expected(-143.4, 4.7, 0),
        DESCENT: Expected(-133.3, 4.9, 0),
        BOUND: Expected(-87.1, 4.7),
    },
    at("percent", 8): {
        RANDOM: Expected(-4774, 2220, 35.0),
        HEURISTIC: Expected(49636, 1757, 13.7),
        GREEDY: Expected(68479, 433, 0),
        DESCENT: Expected(68671, 411, 0),
        BOUND: Expected(68852, 397),
    },
    at("percent", 10): {
        RANDOM: Expected(-8083, 2203, 36.4),
        HEURISTIC: Expected(56293, 1560, 16.8),
        GREEDY: Expected(85300, 568, 0),
        DESCENT: Expected(85560, 562, 0),
        BOUND: Expected(85870, 548),
    },
}
STABLE_STEPS = {8: 1.08e5, 10: 9.8e4}
STABLE_MINUTES = {8: 5.84, 10: 6.72}
EVENT_S = {8: 6.64, 10: 8.38}
GIBBS = "joint optima of exp(r / alpha), 8 agents: 2: -820, 1: -617, .5: -469, .1: -194, .05: -145"
