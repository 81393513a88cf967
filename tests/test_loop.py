"""The loop over lanes against `jax.lax.while_loop`, under every mix of batched arguments."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxenv import loop


def cond(operands, carry):
    return carry["count"] < operands["limit"]


def body(operands, carry):
    count = carry["count"] + 1
    grown = carry["x"] * operands["factor"] + count.astype(carry["x"].dtype)
    total = jnp.sum(grown, axis=0)
    return {"count": count, "x": jnp.where(total > 50, grown / total, grown), "total": total}


def run(loop_function, limit, factor, count, x):
    operands = {"limit": limit, "factor": factor}
    carry = {"count": count, "x": x, "total": jnp.zeros((), x.dtype)}
    return loop_function(operands, carry)


def plain(operands, carry):
    return jax.lax.while_loop(lambda c: cond(operands, c), lambda c: body(operands, c), carry)


ours = partial(run, partial(loop.while_loop, cond, body))
reference = partial(run, plain)


def arguments(shapes, seed=0, high=30):
    """limit [], factor [4], count [], x [4], each with its own leading batch axes."""
    rng = np.random.default_rng(seed)
    limit, factor, count, x = shapes
    return (
        jnp.asarray(rng.integers(0, high, limit), jnp.int32),
        jnp.asarray(rng.uniform(0.8, 1.1, (*factor, 4)), jnp.float32),
        jnp.asarray(rng.integers(0, 5, count), jnp.int32),
        jnp.asarray(rng.uniform(0, 1, (*x, 4)), jnp.float32),
    )


def same(ours_fn, reference_fn, args):
    actual, expected = jax.jit(lambda *a: (ours_fn(*a), reference_fn(*a)))(*args)
    np.testing.assert_array_equal(actual["count"], expected["count"])
    for name in ("x", "total"):
        np.testing.assert_allclose(actual[name], expected[name], rtol=1e-5)


def same_under_vmap(axes, args):
    f, g = ours, reference
    for in_axes in reversed(axes):
        f, g = jax.vmap(f, in_axes=in_axes), jax.vmap(g, in_axes=in_axes)
    same(f, g, args)


@pytest.mark.quick
def test_unbatched():
    same(ours, reference, arguments(((), (), (), ())))


@pytest.mark.parametrize("size", [1, 33, 150, 1030])
def test_sizes_that_four_does_not_divide(size):
    same_under_vmap([0], arguments([(size,)] * 4, seed=size))


@pytest.mark.quick
@pytest.mark.parametrize(
    "batched",
    [(1, 1, 0, 0), (0, 0, 1, 1), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0)],
)
def test_some_arguments_batched(batched):
    shapes = [(150,) if b else () for b in batched]
    axes = tuple(0 if b else None for b in batched)
    same_under_vmap([axes], arguments(shapes, seed=3))


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ((0, 0, 0, 0), (0, 0, 0, 0)),
        ((0, None, None, None), (None, 0, None, 0)),
        ((None, 0, None, None), (0, None, None, None)),
        ((0, 0, None, None), (None, None, 0, 0)),
        ((None, None, 0, 0), (0, 0, None, None)),
        ((None, None, None, 0), (None, None, None, 0)),
    ],
)
def test_vmap_of_vmap(outer, inner):
    shapes = [
        (5,) * (o is not None) + (43,) * (i is not None) for o, i in zip(outer, inner, strict=True)
    ]
    same_under_vmap([outer, inner], arguments(shapes, seed=4))


def test_three_vmaps():
    shapes = [(2, 3, 30), (3,), (2, 30), (30,)]
    axes = [(0, None, 0, None), (0, 0, None, None), (0, None, 0, 0)]
    same_under_vmap(axes, arguments(shapes, seed=5))


@pytest.mark.quick
def test_all_lanes_done_at_the_start():
    limit, factor, count, x = arguments([(150,)] * 4)
    out = jax.vmap(ours)(jnp.zeros_like(limit), factor, count, x)
    np.testing.assert_array_equal(out["x"], x)
    np.testing.assert_array_equal(out["count"], count)


@pytest.mark.quick
@pytest.mark.parametrize("slow_lane", [0, 149])
def test_one_slow_lane(slow_lane):
    limit, factor, count, x = arguments([(150,)] * 4, high=6)
    limit = limit.at[slow_lane].set(400)
    same_under_vmap([0], (limit, factor, count, x))


def test_lanes_with_no_turn_keep_values_that_the_body_would_spoil():
    # The body divides by what is left: only lanes at 0, which are done, would become NaN.
    def countdown(operands, left):
        return left - operands / left

    start = jnp.asarray([0.0, 4.0, 9.0] * 40)
    finish = partial(loop.while_loop, lambda _, left: left > 1, countdown)
    out = np.asarray(jax.vmap(finish, in_axes=(None, 0))(jnp.float32(1), start))
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(out[::3], 0)
    assert (out <= 1).all()


def test_per_lane_maps_lanes_and_shares_what_has_none():
    table = jnp.arange(12.0).reshape(3, 4)
    pick = lambda table, row: table[row]  # noqa: E731
    one = loop.per_lane(pick, (2, 0), table, jnp.int32(1))
    np.testing.assert_array_equal(one, table[1])
    lanes = loop.per_lane(pick, (2, 0), table[..., None], jnp.asarray([2, 0, 1]))
    np.testing.assert_array_equal(lanes, table[jnp.asarray([2, 0, 1])].T)
    tables = jnp.stack([table, -table], axis=-1)
    np.testing.assert_array_equal(
        loop.per_lane(pick, (2, 0), tables, jnp.asarray([2, 0])),
        np.stack([table[2], -table[0]], axis=-1),
    )
    single = loop.per_lane(pick, (2, 0), table[..., None], jnp.asarray([1]))
    np.testing.assert_array_equal(single, table[1][:, None])


@pytest.mark.quick
@pytest.mark.parametrize("count", [5, 70])
@pytest.mark.parametrize("chance", [0.0, 0.3, 1.0])
def test_map_due_maps_the_due_and_leaves_zeros(count, chance):
    """Fewer indices than a chunk holds and more; none, some and all of them due."""
    due = np.random.default_rng(count).random(count) < chance
    index = np.arange(count)
    mapped = loop.map_due(lambda i: jnp.stack([i + 1, i * i]), jnp.asarray(due), 2, jnp.int32)
    np.testing.assert_array_equal(mapped, np.where(due, [index + 1, index**2], 0))
