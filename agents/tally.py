"""What a learner reports of the episodes that end while it collects: their declared metrics."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp

from jaxenv import struct
from jaxenv.environment import Environment, Metric


@struct.dataclass
class Tally:
    """Of one environment's episode so far.

    steps: that reached a decision or the end. sums: of the declared metrics' terms.
    """

    steps: chex.Array
    sums: dict[str, chex.Array]


def start(env: Environment) -> Tally:
    """The tally of an episode that begins."""
    zero = jnp.zeros((), env.float_dtype)
    sources = {source for metric in _pooled(env) for source in metric.sources}
    return Tally(steps=zero, sums=dict.fromkeys(sorted(sources), zero))


def add(
    tally: Tally,
    env: Environment,
    info: dict[str, Any],
    reward: chex.Array,
    deciding: chex.Array,
    done: chex.Array,
) -> tuple[Tally, dict[str, chex.Array]]:
    """One step more; deciding: whether it reached a decision or the end.

    Returns:
        The tally, empty again where ``done``, and of an episode that ended: ``episodes``, and for
        every declared metric that pools by sums ``numerator/NAME`` and ``denominator/NAME``; zeros
        else. Add them up over steps and updates, then divide.
    """
    terms = info | {"reward": reward}
    sums = {name: total + terms[name] for name, total in tally.sums.items()}
    steps = tally.steps + deciding
    counts = {"episodes": done.astype(jnp.int32)}
    for metric in _pooled(env):
        counts[f"numerator/{metric.name}"] = done * sums[metric.of] * metric.scale
        counts[f"denominator/{metric.name}"] = done * metric.denominator(sums, steps)
    after = Tally(steps=steps, sums=sums)
    return jax.tree.map(lambda x: jnp.where(done, jnp.zeros_like(x), x), after), counts


def _pooled(env: Environment) -> list[Metric]:
    return [metric for metric in env.metrics if metric.pool != "quantile"]
