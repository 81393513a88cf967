"""``python -m runs.evaluate``: one table of a trained policy, every baseline and the bound."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from agents import registry as agents_registry
from agents import streaming
from agents.choices import COLLAPSED, choices_of, collapsed_agents
from agents.learner import EpisodeTerms, Learner, Policy, effective_env
from agents.spread import fetched
from jaxenv.environment import Environment
from jaxenv.errors import ConfigError
from runs import figures, program, tables
from runs.checkpoint import Checkpoints
from runs.program import Config

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
    env, params = program.build_env(config)
    policies: dict[str, Policy] = {}
    if stored is not None:
        policies[stored["agent"]["name"]] = stored_policy(config, stored, env, params)
    names = program.check_baselines(config, env)
    program.claim_folder(folder)
    program.wait_for_all("checked")  # nobody writes before all have looked
    program.write_records(folder, config)
    program.write_resolved(folder, env, params)
    measure(config, folder, env, params, policies, names, config["num_episodes"])
    for name, draw in (("quantiles", figures.quantile_figure), ("actions", figures.action_figure)):
        if program.writes() and (folder / f"{name}.csv").exists():
            draw(tables.read_csv(folder / f"{name}.csv"), folder / "figures" / f"{name}.png")


def with_stored_env(config: Config) -> tuple[Config, Config]:
    """``(stored, config)``: the run's configuration, and ours in the run's environment.

    ``env.*`` given on the command line replace the run's values; another environment is refused.
    """
    path = program.run_folder(config["checkpoint"])
    stored = program.stored_config(path)
    own = config["env"]["name"]
    if own != stored["env"]["name"]:
        valid = f"the policy of {path} was trained on env={stored['env']['name']}"
        raise ConfigError("env", own, valid)
    given = {name: config["env"][name] for name in program.given_env_settings(config["env"])}
    scenario = config["scenario"] if program.given_settings("scenario") else stored["scenario"]
    return stored, config | {"env": stored["env"] | given, "scenario": scenario}


def stored_policy(config: Config, stored: Config, env: Environment, params: Any) -> Policy:
    """The policies of every seed of a checkpoint, stacked."""
    path = program.run_folder(config["checkpoint"])
    step = config["step"] if path == Path(config["checkpoint"]) else _step_of(config["checkpoint"])
    if not isinstance(step, int) and step not in ("last", "best"):
        raise ConfigError("step", step, "choose last, best, or an update")
    trained_env, trained_params = program.build_env(stored)
    learner, hp = program.build_learner(stored, trained_env)
    fitted, _ = program.build_learner(stored, env)
    target = abstract_states(learner, trained_params, hp, stored["num_seeds"])
    shapes = jax.tree.map(jnp.shape, jax.eval_shape(learner.policy, target))
    other = jax.eval_shape(fitted.policy, abstract_states(fitted, params, hp, stored["num_seeds"]))
    if shapes != jax.tree.map(jnp.shape, other):
        sizes = [f.name for f in dataclasses.fields(env) if f.init]
        name = next((n for n in sizes if getattr(env, n) != getattr(trained_env, n)), "env")
        was = getattr(trained_env, name, stored["env"])
        valid = f"the policy of {path} was trained at {was}, and does not fit"
        raise ConfigError(name, getattr(env, name, config["env"]), valid)
    checkpoints = Checkpoints(path, identity(learner))
    update, state, skipped = checkpoints.restore(target, step)
    checkpoints.close()
    for line in skipped:
        print(f"{line}; using update {update}")
    return policies_of(fitted, state)


def abstract_states(learner: Learner, params: Any, hp: Any, num_seeds: int) -> Any:
    """Shapes and dtypes of the states of ``num_seeds`` training seeds."""
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), num_seeds))
    return jax.eval_shape(jax.vmap(lambda key: learner.init(key, params, hp)), keys)


def _step_of(checkpoint: str) -> int | str:
    name = Path(checkpoint).name
    return int(name) if name.isdigit() else "last"


def identity(learner: Learner) -> dict[str, str]:
    """What a checkpoint must have been written by, to be read again."""
    return {"env": learner.env.name, "agent": learner.name}


def policies_of(learner: Learner, states: Any) -> Policy:
    """The policies of states stacked over seeds, stacked likewise."""
    policies = jax.vmap(learner.policy)(states)
    return fetched(policies) if jax.process_count() > 1 else policies


def check_evaluation(config: Config, episodes: str) -> None:
    """Refuses settings of an evaluation that cannot be used."""
    program.check_integer(config, episodes)
    program.check_integer(config, "episodes_per_call")
    program.check_integer(config, "eval_seed", low=0)


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
    with tqdm(unit="episode", total=total, disable=not program.writes()) as bar:

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
    if not program.writes():
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
