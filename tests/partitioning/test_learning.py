"""Multi-task A3C on a small scenario: above what does not search, below the bound."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
import pytest

from agents import registry
from agents.a3c import A3C
from agents.learner import evaluate
from jaxenv.partitioning import Partitioning

UPDATES = 600
HEURISTICS = ("RPDI", "APDI", "Blockwise", "Viterbi", "Greedy", "GreedyEFT", "GreedyES")


@pytest.mark.slow
def test_a_short_training_beats_every_heuristic_and_not_the_bound():
    options = {"num_blocks": 4, "num_servers": 3, "max_steps": 150, "task_rate": 50.0}
    env, params = Partitioning.build(observation="compact", **options)
    learner, hp = A3C.build(
        env,
        hidden=(64, 64),
        synchronous=True,
        schedule_updates=UPDATES,
        trace_decay=0.0,
        lr=2e-3,
        entropy_weight=0.01,
    )

    @partial(jax.jit, donate_argnums=0)
    def train(state):
        return jax.lax.scan(
            lambda s, _: (learner.update(s, params, hp)[0], None), state, length=UPDATES
        )[0]

    state = train(jax.jit(learner.init)(jax.random.key(0), params, hp))
    key = jax.random.key(1)
    bound = registry.bound(env)

    def reward(policy, bound=None):
        terms = evaluate(env, params, policy, key, 16, bound=bound)
        return np.mean(terms.numerator["reward"]), terms.bound

    learned, limit = reward(learner.policy(state), bound)
    rivals = {name: reward(registry.baseline(name, env))[0] for name in HEURISTICS}
    assert learned > max(rivals.values()), (learned, rivals)
    assert learned > 1.06 * reward(registry.baseline("Opt1", env))[0]
    assert learned <= np.mean(limit[0]) * (1 - 1e-4)
