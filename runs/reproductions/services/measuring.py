"""Every policy of the figures of joint deployment in every scenario, and how fast each decides."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from agents import registry as agents_registry
from agents.estimates import EpisodeTerms
from agents.learner import Learner, Policy, evaluate
from jaxenv.environment import Environment
from runs import evaluate as evaluation
from runs import tables
from runs.reproductions.groups import Measured, trained_together
from runs.reproductions.services import scenarios, training
from runs.reproductions.sweeps import evaluation_row
from runs.settings import Config, build_env, build_learner

LEAST_TIMED_S, MOST_TIMED_S = 0.2, 2.0  # of all repeats together
REPEATS = 5, 100


def both(policies: dict[str, Policy]) -> dict[str, Policy]:
    """Learned policies, greedy and sampled."""
    return {
        name + kind: dataclasses.replace(policy, sample=bool(kind))
        for name, policy in policies.items()
        for kind in ("", scenarios.SAMPLED)
    }


def measure(
    config: Config, scenario: str, learned: dict[str, Policy], names: Sequence[str], episodes: int
) -> list[tables.Row]:
    """Rows of learned policies (stacked over seeds), baselines and the bound on the same episodes.

    names: of the baselines; the first also carries the bound, which depends on the trace alone.
    Beside the environment's metrics, of every agent too, each policy has the deviation of its
    episodes' rewards and the least distance of an episode to the bound, in shares of it.
    """
    env, params = build_env(
        config | {"env": scenarios.env_of(config, scenario, agent_metrics=True)}
    )
    bound = agents_registry.bound(env)
    key = evaluation.evaluation_key({"eval_seed": config.get("eval_seed", 0)})
    policies = {name: agents_registry.baseline(name, env) for name in names} | learned
    rows, limits = [], None
    with tqdm(policies.items(), unit="policy") as bar:
        for name, policy in bar:
            bar.set_description(f"evaluate {name}, {scenario}")
            carried = bound if limits is None else None
            how = {"chunk": episodes, "seeds": name in learned}
            terms = evaluate(env, params, policy, key, episodes, carried, **how)
            limits = limits or terms.bound
            terms = terms.replace(bound=limits)
            rows += tables.policy_rows(scenario, name, env.metrics, terms, bound.metric)
            rows += compared_rows(scenario, name, terms)
    return rows + tables.bound_rows(scenario, env.metrics, terms, bound.metric)


def compared_rows(scenario: str, policy: str, terms: EpisodeTerms) -> list[tables.Row]:
    """The deviation of a policy's episodes, and their least distance to the bound."""
    reward = np.atleast_2d(np.asarray(terms.numerator["reward"], np.float64))
    limit = np.asarray(terms.bound[0], np.float64)
    seeds, episodes = reward.shape
    variance = np.var(reward, axis=1, ddof=min(1, episodes - 1))
    values = {
        scenarios.DEVIATION: float(np.sqrt(np.mean(variance))),
        scenarios.SLACK: float(((limit - reward) / np.abs(limit)).min()),
    }
    return [
        evaluation_row(scenario, policy, metric, "1", (value, value, value), episodes, seeds)
        for metric, value in values.items()
    ]


def run_training(config: Config, path: Path) -> Measured:
    """Trains every learner where the scale says, and measures all policies everywhere."""
    plan = training.schedule(config)
    jobs = {}
    for scenario, name in itertools.product(plan.trained, training.learners(config)):
        folder = training.folder_of(path, scenario, name)
        jobs[scenario, name] = training.job_of(config, folder, scenario, name, plan, plan.num_seeds)
    runs = trained_together(jobs)
    baselines = agents_registry.usual_baselines("services")
    rows = []
    for scenario in scenarios.SCENARIOS:
        learned = {name: run.policies for (place, name), run in runs.items() if place == scenario}
        rows += measure(config, scenario, both(learned), baselines, plan.eval_episodes)
    return Measured(rows, {key: training.curve_of(run) for key, run in runs.items()})


def run_temperature(config: Config, path: Path) -> Measured:
    """Trains HISPER at every temperature, constant from the start, and measures it.

    Adds the mean entropy of the sampled policies over the last tenth of the training, in shares of
    the uniform policy's.
    """
    plan = training.schedule(config)
    jobs = {}
    for scenario in plan.swept:
        for alpha in scenarios.ALPHAS[scenarios.SCENARIOS[scenario][1]]:
            place = scenarios.at_alpha(scenario, alpha)
            settings = {"alpha": alpha, "schedule_updates": 0, "temperature": "fixed"}
            folder = training.folder_of(path, place)
            jobs[scenario, place] = training.job_of(
                *(config, folder, scenario, scenarios.HISPER, plan, plan.sweep_seeds, settings)
            )
    rows = []
    runs = trained_together(jobs)
    for (scenario, place), run in runs.items():
        policies = both({scenarios.HISPER: run.policies})
        own = measure(config, scenario, policies, (scenarios.RANDOM,), plan.eval_episodes)
        low, mean, high = training.entropy_share(run)
        rows += [row | {"scenario": place} for row in own]
        sampled, shares = scenarios.HISPER + scenarios.SAMPLED, (mean, low, high)
        rows.append(evaluation_row(place, sampled, scenarios.ENTROPY, "1", shares))
    for scenario in plan.swept:
        baselines = agents_registry.usual_baselines("services")
        rows += measure(config, scenario, {}, baselines, plan.eval_episodes)
    return Measured(rows, {key: training.curve_of(run) for key, run in runs.items()})


def run_times(config: Config, path: Path) -> Measured:
    """Medians and quartiles of the seconds of a decision, of 1 slot and of 1000 at a time.

    Networks are those of the start: their weights do not change the time. Observations and masks
    are given, compilation is not timed, and fixed prices are fitted before. The repeats stand in
    the column ``episodes``.
    """
    rows = []
    for agents in scenarios.AGENTS:
        scenario = scenarios.at("literal", agents)
        env, params = build_env(config | {"env": scenarios.env_of(config, scenario)})
        policies = {
            name: untrained(config, scenario, name, env, params)
            for name in (scenarios.HISPER, scenarios.HASAC, scenarios.HAPPO)
        } | {
            name: agents_registry.baseline(name, env)
            for name in agents_registry.usual_baselines(env.name)
        }
        for name, policy in tqdm(policies.items(), desc=f"time of {agents} agents"):
            for batch, seconds in decision_times(env, params, policy):
                interval = np.quantile(seconds, [0.5, 0.25, 0.75]) / batch
                place, repeats = scenarios.at_batch(agents, batch), len(seconds)
                rows.append(evaluation_row(place, name, scenarios.SECONDS, "s", interval, repeats))
    return Measured(rows, {})


def untrained(config: Config, scenario: str, name: str, env: Environment, params: Any) -> Policy:
    """The greedy policy of a learner that has not learned."""
    settings = training.agent_of(config, scenario, name)[1]
    learner, hp = build_learner(
        {"agent": {k: v for k, v in settings.items() if k != "schedule_updates"}}, env
    )
    if hasattr(learner, "prefill"):
        learner = dataclasses.replace(learner, prefill=1, buffer_size=learner.num_envs)
    return _start(learner, params, hp)


@partial(jax.jit, static_argnums=0)
def _start(learner: Learner, params: Any, hp: Any) -> Policy:
    return learner.policy(learner.init(jax.random.key(0), params, hp))


def decision_times(
    env: Environment, params: Any, policy: Policy, batches: Iterable[int] = scenarios.BATCHES
) -> Iterable[tuple[int, list[float]]]:
    """Seconds of each of several decisions for so many slots at once."""
    key = jax.random.key(0)
    carry = jax.block_until_ready(jax.jit(partial(policy.init, env=env, params=params))(key))

    @jax.jit
    def slots(keys: jax.Array) -> tuple[Any, ...]:
        observation, state = jax.vmap(env.reset, (0, None))(keys, params)
        return keys, observation, jax.vmap(env.action_mask, (0, None))(state, params), state

    act = jax.jit(jax.vmap(_decide, (None, None, 0, 0, 0, 0, None)))
    for batch in batches:
        given = policy, carry, *slots(jax.random.split(key, batch)), params
        jax.block_until_ready(act(*given))
        seconds: list[float] = []
        while _once_more(len(seconds), sum(seconds)):
            began = time.perf_counter()
            jax.block_until_ready(act(*given))
            seconds.append(time.perf_counter() - began)
        yield batch, seconds


def _once_more(repeats: int, total_s: float) -> bool:
    """Some repeats for a median, many of short ones, but few of what takes long."""
    least, most = REPEATS
    short = repeats < least and total_s < MOST_TIMED_S
    return repeats == 0 or short or (repeats < most and total_s < LEAST_TIMED_S)


def _decide(
    policy: Policy, carry: Any, key: Any, observation: Any, mask: Any, state: Any, params: Any
) -> Any:
    return policy.act(carry, key, observation, mask, state, params)[0]
