"""Frozen dataclasses as pytrees."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from flax import struct as flax_struct

import jaxenv
from agents import registry
from agents.learner import Policy, rollout
from jaxenv import struct

pytestmark = pytest.mark.quick


@struct.dataclass
class Empty:
    size: int = struct.field(pytree_node=False, default=1)


@struct.dataclass
class AlsoEmpty:
    size: int = struct.field(pytree_node=False, default=1)


@struct.dataclass
class Pair:
    x: jax.Array
    y: jax.Array
    size: int = struct.field(pytree_node=False, default=1)


def test_trees_of_two_classes_differ_and_so_do_their_programs():
    assert jax.tree.structure(Empty()) != jax.tree.structure(AlsoEmpty())
    assert jax.tree.structure(Empty()) == jax.tree.structure(Empty())
    assert jax.tree.structure(Empty()) != jax.tree.structure(Empty(size=2))
    seen = []
    function = jax.jit(lambda tree: seen.append(type(tree).__name__))
    for tree in (Empty(), AlsoEmpty(), Empty(), AlsoEmpty()):
        function(tree)
    assert seen == ["Empty", "AlsoEmpty"]


def test_leaves_paths_and_changes():
    pair = Pair(x=1.0, y=jnp.arange(2), size=3)
    leaves, structure = jax.tree_util.tree_flatten_with_path(pair)
    assert [jax.tree_util.keystr(path) for path, _ in leaves] == [".x", ".y"]
    again = jax.tree.unflatten(structure, [leaf for _, leaf in leaves])
    assert again.size == 3 and again.x == 1.0
    doubled = jax.jit(lambda p: jax.tree.map(lambda leaf: 2 * leaf, p))(pair)
    assert (doubled.x, doubled.y.tolist(), doubled.size) == (2.0, [0, 2], 3)
    assert pair.replace(x=5.0).x == 5.0 and pair.x == 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        pair.x = 2.0


@pytest.mark.parametrize("name", ["vehicular", "robust"])
def test_no_two_baselines_have_equal_trees(name):
    env, _ = jaxenv.make(name)
    trees = [jax.tree.structure(registry.baseline(b, env)) for b in registry.baseline_names(name)]
    for i, tree in enumerate(trees):
        assert all(tree != other for other in trees[i + 1 :])


def flax_policy(action):
    class Constant(Policy):
        def act(self, carry, key, observation, mask, state, params):
            return jnp.int32(action), carry

    return flax_struct.dataclass(Constant)()


def test_policies_of_equal_trees_are_measured_apart():
    """JAX's own dataclasses of two classes may be equal; a table must not mix them up."""
    from tests.probes import Bandit

    env, params = Bandit.build()
    for action in range(4):
        terms = rollout(env, params, flax_policy(action), jax.random.key(0), 2)
        assert terms.numerator["regret"].tolist() == [(3 - action) / 4] * 2
