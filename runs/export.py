"""``python -m runs.export checkpoint=DIR``: a policy as a `jax.export` artifact.

Writes ``policy.jaxexport``, the decision as serialised StableHLO, which JAX alone loads and calls;
``policy.json``, what it takes and returns; and ``benchmark.json``, how long a decision takes on one
core of a CPU, measured on the written artifact by a process that does not have this library.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export
from jax.extend import core

from agents.learner import Policy, effective_env
from jaxenv import spaces
from jaxenv.environment import Environment
from jaxenv.errors import ConfigError
from runs import benchmark, latency, program
from runs.benchmarks import Measurement
from runs.folders import claim_folder, versions, write_records
from runs.policies import check_choice, chosen_policy
from runs.settings import Config, check_integer

ARTIFACT, SCHEMA = "policy.jaxexport", "policy.json"
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def main(argv: list[str] | None = None) -> None:
    """The program."""
    program.run_program("export", run, argv)


def run(config: Config, folder: Path) -> None:
    """Exports the policy of a checkpoint, or a baseline that decides on observations alone."""
    check_integer(config, "num_calls", low=100)
    check_integer(config, "training_seed", low=0)
    platforms = config["platforms"]
    several = isinstance(platforms, list) and platforms
    if not several or any(name not in PLATFORMS for name in platforms):
        raise ConfigError("platforms", platforms, f"give a list of {', '.join(PLATFORMS)}")
    check_choice(config)
    env, params, policy = chosen_policy(config)
    env = effective_env(env, policy)
    reason = unsupported(env, params, policy)
    if reason is not None:
        name = "checkpoint" if config["baseline"] is None else "baseline"
        raise ConfigError(name, config[name], reason)
    exported = exported_policy(env, params, policy, platforms)
    claim_folder(folder)
    write_records(folder, config)
    (folder / ARTIFACT).write_bytes(exported.serialize())
    described = schema(env, params, exported) | {
        "policy": config["baseline"] or f"{config['checkpoint']}, seed {config['training_seed']}",
        "config": config,
        "versions": versions(),
    }
    (folder / SCHEMA).write_text(json.dumps(described, indent=2) + "\n")
    print(f"{ARTIFACT} and {SCHEMA}, for {' and '.join(exported.platforms)}, written to {folder}")
    if "cpu" in exported.platforms:
        measurements = decision_latency(folder, config["num_calls"])
        benchmark.write_benchmark(folder / "benchmark.json", measurements)
        print(benchmark.measurement_table(measurements))


def unsupported(env: Environment, params: Any, policy: Policy) -> str | None:
    """Why a policy cannot be exported, or None where it can."""
    if policy.uses_state:
        return "it reads the environment's state, which nobody has outside the simulation"
    carry = jax.eval_shape(lambda: policy.init(jax.random.key(0), env, params))
    if jax.tree.leaves(carry):
        return "it remembers earlier decisions; only policies without a memory are exported"
    return None


def exported_policy(
    env: Environment, params: Any, policy: Policy, platforms: list[str]
) -> export.Exported:
    """The decision for a batch of any size, from the observation, the mask and maybe a key.

    Every argument and the result have a leading batch axis. The key is raw data of
    `jax.random.key_data`, one per decision; it is an argument only if the policy draws.
    """

    def decide(observation: Any, mask: Any, key: Any) -> Any:
        typed = jax.random.wrap_key_data(key)
        carry = policy.init(typed, env, params)
        return policy.act(carry, typed, observation, mask, None, params)[0]

    def decide_greedily(observation: Any, mask: Any) -> Any:
        return decide(observation, mask, jnp.zeros(key.shape, key.dtype))

    observation, mask, key = one = decision_inputs(env, params)
    chosen, inputs = (decide, one) if _draws(decide, one) else (decide_greedily, one[:2])
    (batch,) = export.symbolic_shape("batch")
    inputs = jax.tree.map(lambda x: jax.ShapeDtypeStruct((batch, *x.shape), x.dtype), inputs)
    return export.export(jax.jit(jax.vmap(chosen)), platforms=platforms)(*inputs)


def _draws(decide: Callable[..., Any], inputs: tuple[Any, Any, Any]) -> bool:
    """Whether what a policy decides depends on its key."""
    jaxpr = jax.make_jaxpr(decide)(*inputs).jaxpr
    needed = {var for var in jaxpr.outvars if not isinstance(var, core.Literal)}
    for equation in reversed(jaxpr.eqns):
        if needed & set(equation.outvars):
            needed |= {var for var in equation.invars if not isinstance(var, core.Literal)}
    return jaxpr.invars[-1] in needed


def decision_inputs(env: Environment, params: Any) -> tuple[Any, Any, Any]:
    """Shapes and dtypes of the observation, the mask and the key data of one decision."""

    def inputs(key: jax.Array) -> tuple[Any, Any, Any]:
        observation, state = env.reset(key, params)
        return observation, env.action_mask(state, params), jax.random.key_data(key)

    return jax.eval_shape(inputs, jax.random.key(0))


# ---- what it takes and returns -----------------------------------------------------------------


def schema(env: Environment, params: Any, exported: export.Exported) -> dict[str, Any]:
    """The artifact's arguments and result as JSON has them; shapes are without the batch axis."""
    observation, mask, key = decision_inputs(env, params)
    arguments = jax.tree.unflatten(exported.in_tree, exported.in_avals)[0]
    groups = list(env.observation_groups)
    return {
        "artifact": ARTIFACT,
        "format": "jax.export",
        "platforms": list(exported.platforms),
        "env": env.name,
        "num_agents": env.num_agents,
        "batch": "every argument and the action have a leading axis of any one size",
        "arguments": ["observation", "mask", "key"][: len(arguments)],
        "observation": {
            **_array(observation),
            "space": _space(env.observation_space),
            "groups": groups or None,
            "meaning": inspect.getdoc(type(env).observe),
        },
        "mask": jax.tree.map(_array, mask),
        "key": _array(key) if len(arguments) == 3 else None,
        "action": {
            "space": _space(env.action_space),
            "arrays": [
                {"shape": list(out.shape[1:]), "dtype": str(out.dtype)}
                for out in exported.out_avals
            ],
        },
    }


def _array(leaf: Any) -> dict[str, Any]:
    return {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}


def _space(space: spaces.Space) -> dict[str, Any]:
    """A space by its kind and its fields; an infinite end is null."""
    kind = {"kind": type(space).__name__}
    match space:
        case spaces.Discrete():
            return kind | {"num_values": space.num_values}
        case spaces.MultiDiscrete():
            return kind | {"num_values": list(space.num_values)}
        case spaces.Box():
            low, high = (x if math.isfinite(x) else None for x in (space.low, space.high))
            return kind | {"low": low, "high": high, "shape": list(space.shape)}
        case spaces.Tuple():
            return kind | {"spaces": [_space(part) for part in space.spaces]}
    raise TypeError(f"{kind['kind']} is no space of jaxenv.spaces")


# ---- latency -----------------------------------------------------------------------------------


def decision_latency(folder: Path, num_calls: int) -> list[Measurement]:
    """Median and 99th percentile of one decision on one core, by a process of its own."""
    command = [sys.executable, "-P", latency.__file__, str(folder), str(num_calls)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise ConfigError("policy", str(folder), f"it cannot be called: {done.stderr[-200:]}")
    measured = json.loads(done.stdout.splitlines()[-1])
    where = "one core" if measured["pinned"] else "all cores, which could not be limited"
    return [
        Measurement(f"decision on {where}, {name}", measured[field], "s", num_calls)
        for name, field in (("median", "median_s"), ("99th percentile", "p99_s"))
    ]


if __name__ == "__main__":
    main()
