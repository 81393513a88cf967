"""Policies and bounds of the figures of adaptive splitting, all scenarios and seeds at once."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agents.baselines import splitting as baselines
from jaxenv import dnn
from jaxenv.dnn.layers import Conv
from jaxenv.splitting import NETWORK, Queues, Splitting, simulated_metrics
from runs.reproductions.splitting.scenarios import Plan
from runs.reproductions.sweeps import replaced

SHOWN = ("energy_saving_pct", "mean_delay_s", "outage", "mean_energy_j")


simulate = jax.jit(lambda policy, params, keys: policy.env.simulate(policy, params, keys))


def measure(
    plan: Plan, policy: Any, leaves: dict[str, Any], seeds: int | None = None
) -> dict[str, np.ndarray]:
    """Metrics ``[seeds, scenarios]`` of a policy; ``leaves`` are what the scenarios change."""
    params = replaced(plan.params, leaves)
    return simulated_metrics(plan.env, simulate(policy, params, keys_of(plan, seeds)))


def keys_of(plan: Plan, seeds: int | None = None) -> jax.Array:
    """The same first keys for every policy and figure."""
    base = jax.random.key(plan.seed)
    return jax.vmap(lambda i: jax.random.fold_in(base, i))(jnp.arange(seeds or plan.num_seeds))


def dual(plan: Plan, seed: int = 0, **leaves: float) -> baselines.DualSolution:
    """The certified bound of one scenario on one seed's slots."""
    params = replaced(plan.params, leaves)
    return baselines.solve_dual(plan.env, params, keys_of(plan)[seed])


def median_delay_s(plan: Plan, policy: Any, availability: float) -> float:
    """The median delay of a policy that looks at no queue, over the slots of the first seed."""
    params = replaced(plan.params, {"availability_max": availability})
    return float(_median_delay(plan.env, policy, params, keys_of(plan)[0]))


@partial(jax.jit, static_argnames="env")
def _median_delay(env: Splitting, policy: Any, params: Any, key: jax.Array) -> jax.Array:
    costs = env.costs(params)
    columns = jax.tree.map(lambda x: x[:, None] if x.ndim else x, costs)
    zero = jnp.zeros((), env.float_dtype)
    slot = env.slot(env.trace(params, key), Queues(zero, zero, zero, zero), costs, params)
    split, nats = policy.decide(slot, columns, params)
    delay = env.outcome(split, nats, slot, columns, params).delay_s
    return jnp.median(delay[env.burn_in :])


def depthwise_counts(shape: tuple[int, int, int] = (3, 224, 224)) -> np.ndarray:
    """MACs of the depthwise convolutions per segment of the network, and over their channels."""
    network = dnn.network(NETWORK)
    layers, out = dict(network.layers), [[0, 0]]
    size: Any = shape
    for members in network.blocks().values():
        macs = per_output = 0
        for member in members:
            for leaf, at in layers[member].leaves(size):
                if isinstance(leaf, Conv) and leaf.groups > 1:
                    macs += leaf.macs(at)
                    per_output += leaf.macs(at) // leaf.features
            size = layers[member].output(size)
        out.append([macs, per_output])
    return np.array(out, float)
