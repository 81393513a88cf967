"""Learners, baselines and bounds by name, the library's own and those of plugins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agents.learner import Bound, Learner, Policy
from jaxenv.environment import Environment
from jaxenv.errors import ConfigError
from jaxenv.registry import load_object

_learners: dict[str, type[Learner] | str] = {
    "a3c": "agents.a3c:A3C",
    "dqn": "agents.dqn:DQN",
    "happo": "agents.happo:Happo",
    "hisper": "agents.hisper:Hisper",
    "ppo": "agents.ppo:PPO",
    "sac_discrete": "agents.sac_discrete:SACDiscrete",
}
_baselines: dict[str, dict[str, Callable[..., Policy] | str]] = {
    "partitioning": {
        "RPDI": "agents.baselines.partitioning:RPDI",
        "APDI": "agents.baselines.partitioning:APDI",
        "Blockwise": "agents.baselines.partitioning:Blockwise",
        "Viterbi": "agents.baselines.partitioning:Viterbi",
        "Neurosurgeon": "agents.baselines.partitioning:Neurosurgeon",
        "Greedy": "agents.baselines.partitioning:Greedy",
        "GreedyEFT": "agents.baselines.partitioning:GreedyEFT",
        "GreedyES": "agents.baselines.partitioning:GreedyES",
        "LocalSearch": "agents.baselines.partitioning:LocalSearch",
        "Opt1": "agents.baselines.partitioning:Optimum",
        "Priced": "agents.baselines.partitioning:Priced",
    },
    "robust": {
        "Random": "agents.baselines.robust:RandomAvailable",
        "AllLocal": "agents.baselines.robust:AllLocal",
        "AllEdge": "agents.baselines.robust:AllEdge",
        "LeastBandwidth": "agents.baselines.robust:LeastBandwidth",
        "BestCommon": "agents.baselines.robust:BestCommon",
        "WorstCase": "agents.baselines.robust:WorstCase",
        "EqualShare": "agents.baselines.robust:EqualShare",
        "MeanTime": "agents.baselines.robust:MeanTime",
        "Algorithm2": "agents.baselines.robust:Algorithm2",
        "ExactStep": "agents.baselines.robust:ExactStep",
        "Certified": "agents.baselines.robust:Certified",
        "Exhaustive": "agents.baselines.robust:Exhaustive",
    },
    "services": {
        "Random": "agents.baselines.services:Random",
        "Heuristic": "agents.baselines.services:Heuristic",
        "OwnServers": "agents.baselines.services:OwnServers",
        "PriceTable": "agents.baselines.services:PriceTable",
        "SeqGreedy": "agents.baselines.services:SeqGreedy",
        "CoordDescent": "agents.baselines.services:CoordDescent",
    },
    "splitting": {
        "FullLocal": "agents.baselines.splitting:FullLocal",
        "FullOffload": "agents.baselines.splitting:FullOffload",
        "BestStatic": "agents.baselines.splitting:BestStaticSplit",
        "Binary": "agents.baselines.splitting:Binary",
        "CheapestAvg": "agents.baselines.splitting:CheapestWithinDelay",
        "CheapestMax": "agents.baselines.splitting:cheapest_within_maximum",
        "DPP": "agents.baselines.splitting:DriftPlusPenalty",
        "DPPExpected": "agents.baselines.splitting:DriftPlusPenaltyExpected",
        "DPPExact": "agents.baselines.splitting:DriftPlusPenaltyExact",
        "DPPWarm": "agents.baselines.splitting:DriftPlusPenaltyWarm",
    },
    "vehicular": {
        "Local": "agents.baselines.vehicular:Local",
        "Random": "agents.baselines.vehicular:Random",
        "Edge": "agents.baselines.vehicular:Edge",
        "DSL": "agents.baselines.vehicular:DSL",
        "DSLpipe": "agents.baselines.vehicular:DSLPipelined",
        "LongestStay": "agents.baselines.vehicular:LongestStay",
        "INSGA": "agents.baselines.vehicular:INSGA",
        "Aware": "agents.baselines.vehicular:Aware",
        "Greedy": "agents.baselines.vehicular:Greedy",
        "Social": "agents.baselines.vehicular:Social",
    },
}
_bounds: dict[str, Callable[[Environment], Bound] | str] = {
    "partitioning": "agents.baselines.partitioning:NoWaitBound",
    "robust": "agents.baselines.robust:DualBound",
    "services": "agents.baselines.services:UpperBound",
    "splitting": "agents.baselines.splitting:DualBound",
    "vehicular": "agents.baselines.vehicular:CapacityBound",
}


def register_learner(name: str, learner: type[Learner] | str) -> None:
    """Makes ``agent=name`` train ``learner``: a class, or its path ``"module:Class"``."""
    _learners[name] = learner


def register_baseline(env: str, name: str, policy: Callable[..., Policy] | str) -> None:
    """Adds a baseline to every table of an environment.

    Args:
        env: the environment's registered name.
        name: as printed in tables.
        policy: called with the environment, returns a `Policy`; or its path ``"module:name"``.
    """
    _baselines.setdefault(env, {})[name] = policy


def register_bound(env: str, bound: Callable[[Environment], Bound] | str) -> None:
    """Sets the bound that stands beside every policy of an environment."""
    _bounds[env] = bound


def learners() -> tuple[str, ...]:
    """The names of all learners."""
    return tuple(sorted(_learners))


def learner_class(name: str) -> type[Learner]:
    """The learner registered under ``name``."""
    if name not in _learners:
        raise ConfigError("agent", name, f"choose one of {', '.join(learners())}")
    return load_object(_learners[name])


def baseline_names(env: str) -> tuple[str, ...]:
    """The names of an environment's baselines, in the order of its tables."""
    return tuple(_baselines.get(env, {}))


def baseline_unsupported(name: str, env: Environment) -> str | None:
    """Why a baseline does not fit an environment, by its own ``unsupported(env)``, else None."""
    policy = load_object(_baselines[env.name][name])
    return policy.unsupported(env) if hasattr(policy, "unsupported") else None


def usual_baselines(env: str) -> tuple[str, ...]:
    """The names of an environment's baselines but those whose class says ``on_request``: slow ones,
    and those that the published tables do not have."""
    known = _baselines.get(env, {})
    return tuple(n for n in known if not getattr(load_object(known[n]), "on_request", False))


def baseline(name: str, env: Environment, **options: Any) -> Policy:
    """The baseline ``name`` for an environment."""
    known = _baselines.get(env.name, {})
    if name not in known:
        raise ConfigError("baseline", name, f"choose one of {', '.join(known) or '(none)'}")
    return load_object(known[name])(env, **options)


def bound(env: Environment) -> Bound | None:
    """The bound of an environment, or None where there is none."""
    return load_object(_bounds[env.name])(env) if env.name in _bounds else None


def compatibility(envs: dict[str, Environment]) -> dict[str, dict[str, str | None]]:
    """For every learner and environment, None where they fit, else the reason why not."""
    return {
        name: {env_name: learner_class(name).unsupported(env) for env_name, env in envs.items()}
        for name in learners()
    }
