"""What the tests of all learners do with one."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax


@partial(jax.jit, static_argnames="learner")
def start(learner, key, params, hp):
    return learner.init(key, params, hp)


@partial(jax.jit, static_argnames=("learner", "length"), donate_argnames="state")
def chunk(learner, state, params, hp, length=50):
    """``length`` updates, and the metrics of each."""
    return jax.lax.scan(lambda s, _: learner.update(s, params, hp), state, length=length)


def train(learner, params, hp, chunks):
    """The state after so many chunks, the last one at a tenth of the rates; its metrics."""
    state = start(learner, jax.random.key(0), params, hp)
    for _ in range(chunks - 1):
        state, _ = chunk(learner, state, params, hp)
    rates = [field.name for field in dataclasses.fields(hp) if field.name.startswith("lr")]
    slow = hp.replace(**{name: getattr(hp, name) / 10 for name in rates})
    return chunk(learner, state, params, slow)


def check_dtypes(learner, hp):
    """An update keeps shapes and dtypes of the state; the dtypes of state and metrics."""
    params, key = learner.env.default_params(), jax.random.key(0)
    state = jax.eval_shape(learner.init, key, params, hp)
    after, metrics = jax.eval_shape(learner.update, state, params, hp)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == jax.tree.map(
        lambda x: (x.shape, x.dtype), after
    )
    return {str(x.dtype) for x in jax.tree.leaves((state, metrics))}
