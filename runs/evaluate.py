"""``python -m runs.evaluate``: one table of a trained policy, every baseline and the bound."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from agents import registry as agents_registry
from agents import streaming
from agents.choices import COLLAPSED, choices_of, collapsed_agents
from agents.learner import EpisodeTerms, Policy, effective_env
from jaxenv.environment import Environment
from runs import figures, program, tables
from runs.devices import wait_for_all, writes
from runs.folders import claim_folder, write_records, write_resolved
from runs.policies import stored_policy, with_stored_env
from runs.settings import Config, build_env, check_baselines, check_integer

STREAM = 2**31 - 1  # evaluation episodes never meet the keys of a training seed
MAX_THREADS = 4


def main(argv: list[str] | None = None) -> None:
    """The program."""
    program.run_program("evaluate", run, argv)


def run(config: Config, folder: Path) -> None:
    """Measures the policy of ``config["checkpoint"]``, the baselines and the bound."""
    check_evaluation(config, "num_episodes")
    stored = None
    if config["checkpoint"] is not None:
        stored, config = with_stored_env(config)
    carry_out(config, folder, stored)


def carry_out(config: Config, folder: Path, stored: Config | None) -> None:
    """`run` in the environment of ``config``. stored: the configuration of the checkpoint's run."""
    env, params = build_env(config)
    policies: dict[str, Policy] = {}
    if stored is not None:
        policies[stored["agent"]["name"]] = stored_policy(config, stored, env, params)
    names = check_baselines(config, env)
    claim_folder(folder)
    wait_for_all("checked")  # nobody writes before all have looked
    write_records(folder, config)
    write_resolved(folder, env, params)
    measure(config, folder, env, params, policies, names, config["num_episodes"])
    for name, draw in (("quantiles", figures.quantile_figure), ("actions", figures.action_figure)):
        if writes() and (folder / f"{name}.csv").exists():
            draw(tables.read_csv(folder / f"{name}.csv"), folder / "figures" / f"{name}.png")


def check_evaluation(config: Config, episodes: str) -> None:
    """Refuses settings of an evaluation that cannot be used."""
    check_integer(config, episodes)
    check_integer(config, "episodes_per_call")
    check_integer(config, "eval_seed", low=0)


def evaluation_key(config: Config) -> jax.Array:
    """The key under which every policy of a table meets the same episodes."""
    return jax.random.fold_in(jax.random.key(config["eval_seed"]), STREAM)


def measure(
    config: Config,
    folder: Path,
    env: Environment,
    params: Any,
    learned: dict[str, Policy],
    baselines: Sequence[str],
    num_episodes: int,
    show: bool = True,
) -> list[tables.Row]:
    """Evaluates learned policies (stacked over seeds) and baselines, writes and shows the table.

    Returns:
        The rows of ``evaluation.csv``.
    """
    bound = agents_registry.bound(env)
    limited = bound.metric if bound is not None else None
    scenario = str(config["scenario"])
    rows: list[tables.Row] = []
    seeds: list[tables.Row] = []
    bounds: list[tables.Row] = []
    quantiles: list[tables.Row] = []
    violations: list[tables.Row] = []
    actions: list[tables.Row] = []
    policies = learned | {name: agents_registry.baseline(name, env) for name in baselines}
    episodes = {
        name: min(num_episodes, policy.max_episodes or num_episodes)
        for name, policy in policies.items()
    }
    total = sum(episodes.values())
    with tqdm(unit="episode", total=total, disable=not writes()) as bar:

        def terms_of(name: str) -> EpisodeTerms:
            terms = streaming.measure(
                *(env, params, policies[name], evaluation_key(config), episodes[name], bound),
                chunk=config["episodes_per_call"],
                on_chunk=bar.update,
                seeds=name in learned,
            )
            bar.set_description(f"evaluated {name}")
            return terms

        # One thread per policy: XLA compiles and runs the programs of several at a time. Several
        # processes must run them in one order.
        threads = min(MAX_THREADS, os.cpu_count() or 1) if jax.process_count() == 1 else 1
        with ThreadPoolExecutor(threads) as pool:
            measured = dict(zip(policies, pool.map(terms_of, policies), strict=True))
    for name, terms in measured.items():
        rows += tables.policy_rows(scenario, name, env.metrics, terms, limited)
        seeds += tables.seed_rows(scenario, name, env.metrics, terms)
        bounds = bounds or tables.bound_rows(scenario, env.metrics, terms, limited)
        quantiles += tables.quantile_rows(scenario, name, env.metrics, terms)
        violations += tables.violation_rows(scenario, name, env.constraints, terms, params)
        own = effective_env(env, policies[name])
        parts = choices_of(own.action_space, own.num_agents)
        actions += tables.action_rows(scenario, name, parts, terms)
        if name in learned:
            warn_of_collapse(name, collapsed_agents(parts, terms.actions))
    rows += bounds
    if not writes():
        return rows
    tables.write_csv(folder / "evaluation.csv", tables.EVALUATION, rows)
    tables.write_csv(folder / "evaluation_seeds.csv", tables.EVALUATION_SEEDS, seeds)
    for name, columns, own in (
        ("quantiles.csv", tables.QUANTILES, quantiles),
        ("violations.csv", tables.VIOLATIONS, violations),
        ("actions.csv", tables.ACTIONS, actions),
    ):
        if own:
            tables.write_csv(folder / name, columns, own)
    if rows:
        figures.evaluation_figure(rows, folder / "figures" / "evaluation.png")
    if show:
        print(f"{scenario}: {num_episodes} episodes, 95 % intervals")
        print(tables.evaluation_table(rows))
        if violations:
            print(f"\nviolations, 95 % intervals\n{tables.violation_table(violations)}\n")
        print(f"written to {folder}")
    return rows


def warn_of_collapse(name: str, collapsed: np.ndarray) -> None:
    """A line per seed with agents that take one action alone; collapsed: ``[seeds, agents]``."""
    for seed, agents in enumerate(collapsed):
        if agents.any():
            which = ", ".join(str(agent) for agent in np.nonzero(agents)[0])
            who = f"seed {seed}" + (f", agent {which}" if len(agents) > 1 else "")
            share = f"{COLLAPSED:.0%} of the decisions that leave a choice"
            tqdm.write(f"warning: {name}, {who}: one action in at least {share}; see actions.csv")


if __name__ == "__main__":
    main()
