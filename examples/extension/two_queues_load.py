"""A figure: what a slot of `two_queues` costs over the load, beside the bound.

The load is the mean work of a slot over what both processors do in one.
"""

from __future__ import annotations

import jax

import jaxenv
from agents import registry
from agents.learner import bound_value, evaluate, summarize
from runs.figures import new_figure
from runs.reproductions import FAILS, HOLDS, Reproduction, Verdict, register_figure

LOADS = (0.2, 0.4, 0.6, 0.8)
EPISODES = {"smoke": 64, "paper": 1024}


def load(config):
    env, params = jaxenv.make("two_queues")
    key = jax.random.key(config["eval_seed"])
    episodes = config["eval_episodes"] or EPISODES[config["scale"]]
    bound = registry.bound(env)
    slot_cycles = params.slot_s * (params.local_hz + params.edge_hz)
    rows = []
    for value in LOADS:
        scenario = params.replace(task_bits=value * slot_cycles / params.cycles_per_bit)
        for name in registry.baseline_names("two_queues"):
            policy = registry.baseline(name, env)
            terms = evaluate(env, scenario, policy, key, episodes, bound)
            cost = summarize(env.metrics, terms, bound.metric)[0]
            row = {"load": value, "policy": name, "cost_s": cost.mean}
            row |= {"ci_low": cost.ci_low, "ci_high": cost.ci_high, "bound_s": bound_value(terms)}
            rows.append(row)
    return Reproduction(rows, [judged(rows)], drawn(rows))


def judged(rows):
    """Whether waiting is worth avoiding: more so the higher the load."""
    saved = [
        1 - least["cost_s"] / random["cost_s"]
        for random, least in zip(of(rows, "Random"), of(rows, "LeastCost"), strict=True)
    ]
    return Verdict(
        claim="The higher the load, the more LeastCost saves against random choices",
        paper="none: an example",
        expected="a saving that grows with the load",
        measured=saved[-1],
        ci_low=None,
        ci_high=None,
        verdict=HOLDS if saved == sorted(saved) else FAILS,
        why="saves " + ", ".join(f"{s:.0%} at {x}" for s, x in zip(saved, LOADS, strict=True)),
    )


def of(rows, policy):
    return [row for row in rows if row["policy"] == policy]


def drawn(rows):
    figure, (ax,) = new_figure(1)
    for policy in dict.fromkeys(row["policy"] for row in rows):
        ax.plot(LOADS, [row["cost_s"] for row in of(rows, policy)], marker="o", label=policy)
    bounds = [row["bound_s"] for row in of(rows, "LeastCost")]
    ax.plot(LOADS, bounds, color="black", linestyle="--", label="bound")
    ax.set_xlabel("load")
    ax.set_ylabel("cost per slot [s]")
    ax.legend(frameon=False)
    return figure


register_figure("two_queues/load", load)
