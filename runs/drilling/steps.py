"""Random valid play for a very long time: is any number ever not finite?"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp

import jaxenv
from jaxenv import registry
from jaxenv.environment import Environment
from runs.drilling import Outcome
from runs.settings import Config, check_integer, check_names

BLOCK = 20


def drill(config: Config, folder: Path) -> list[Outcome]:
    """Every environment, as published, under uniform valid actions, until ``steps`` or ``minutes``.

    Checked after every step: observation, reward and info are finite, no state has NaN, and every
    mask leaves a choice.
    """
    most, lanes = check_integer(config, "steps"), check_integer(config, "num_envs")
    limit = 60 * check_integer(config, "minutes")
    outcomes = []
    for name in check_names("envs", config["envs"] or registry.environments()):
        env, params = jaxenv.make(name)
        key = jax.random.key(config["seed"])
        states = jax.jit(jax.vmap(env.reset, (0, None)))(jax.random.split(key, lanes), params)[1]
        play(env, params, key, states, 0)  # compiles
        done, first, began = 0, {}, time.perf_counter()
        while done < most and time.perf_counter() - began < limit and not first:
            states, bad, turns = play(env, params, jax.random.fold_in(key, done), states, BLOCK)
            done += int(turns) * lanes
            first = {what: n for what, n in jax.device_get(bad).items() if n}
            print(f"{name}: {done:,} steps", end="\r", flush=True)
        seconds = time.perf_counter() - began
        note = f"{lanes} lanes, {seconds:.0f} s" + "".join(f"; {what}" for what in first)
        good = done if not first else done - lanes
        outcomes.append(Outcome(name, good, "steps without a non-finite value", len(first), note))
    return outcomes


@partial(jax.jit, static_argnames="env")
def play(
    env: Environment, params: Any, key: chex.PRNGKey, states: Any, most: chex.Array
) -> tuple[Any, dict[str, chex.Array], chex.Array]:
    """Up to ``most`` steps of all states ``[lanes, ...]``, until a number is bad.

    Returns:
        The states, the number of lanes by what is bad in them, and the number of turns.
    """
    step = jax.vmap(partial(checked_step, env, params))
    lanes = jax.tree.leaves(states)[0].shape[0]
    nothing = jax.eval_shape(step, jax.random.split(key, lanes), states)[1]
    nothing = {name: jnp.int32(0) for name in nothing}

    def more(carry: tuple[Any, dict[str, chex.Array], chex.Array]) -> chex.Array:
        _, bad, turns = carry
        return (turns < most) & ~jnp.any(jnp.stack(list(bad.values())) > 0)

    def turn(carry: tuple[Any, dict[str, chex.Array], chex.Array]) -> Any:
        states, _, turns = carry
        keys = jax.random.split(jax.random.fold_in(key, turns), lanes)
        states, bad = step(keys, states)
        bad = {name: jnp.sum(flags, dtype=jnp.int32) for name, flags in bad.items()}
        return states, bad, turns + 1

    return jax.lax.while_loop(more, turn, (states, nothing, jnp.int32(0)))


def checked_step(
    env: Environment, params: Any, key: chex.PRNGKey, state: Any
) -> tuple[Any, dict[str, chex.Array]]:
    """One step of one lane by a random valid action: the state, and what is bad by name."""
    key_action, key_step = jax.random.split(key)
    mask = env.action_mask(state, params)
    if env.num_agents == 1:
        action = env.action_space.sample(key_action, mask)
    else:
        keys = jax.random.split(key_action, env.num_agents)
        action = jax.vmap(env.action_space.sample)(keys, mask)
    observation, after, reward, _, _, info = env.step(key_step, state, action, params)
    finite = {"observation": observation, "reward": reward, "info": info}
    bad = _flags(finite, lambda x: ~jnp.isfinite(x)) | _flags({"state": after}, jnp.isnan)
    choices = [jnp.all(jnp.any(leaf, axis=-1)) for leaf in jax.tree.leaves(mask)]
    return after, bad | {"mask": ~jnp.all(jnp.stack(choices))}


def _flags(tree: Any, bad: Any) -> dict[str, chex.Array]:
    """Whether ``bad`` holds anywhere in each float leaf, by the leaf's name."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): jnp.any(bad(leaf))
        for path, leaf in leaves
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    }
