"""The ring buffer against a Python list."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import replay

pytestmark = pytest.mark.quick


def _rows(start, n):
    number = np.arange(start, start + n, dtype=np.int32)
    return {"id": number, "pair": np.stack([number * 2.0, number * 3.0], axis=-1)}


def test_ring_holds_the_last_valid_rows_like_a_list():
    capacity, n = 7, 5
    rng = np.random.default_rng(0)
    buffer = replay.create(capacity, {"id": np.int32(0), "pair": np.zeros(2, np.float32)})
    add = jax.jit(replay.add)
    kept = []
    for step in range(12):
        valid = rng.random(n) < (0.0, 1.0, 0.6)[step % 3]
        buffer = add(buffer, _rows(step * n, n), jnp.asarray(valid))
        kept += [step * n + i for i in range(n) if valid[i]]
        assert int(buffer.size) == min(len(kept), capacity)
        assert int(buffer.position) == len(kept) % capacity
        stored = jax.device_get(buffer.rows)
        places = {p % capacity: number for p, number in enumerate(kept)}
        for place, number in places.items():
            assert stored["id"][place] == number
            np.testing.assert_array_equal(stored["pair"][place], [number * 2, number * 3])


def test_samples_are_uniform_over_the_filled_part_only():
    buffer = replay.create(100, {"id": jnp.int32(0)})
    buffer = replay.add(buffer, {"id": jnp.arange(10, 20, dtype=jnp.int32)}, jnp.arange(10) < 8)
    drawn = np.asarray(replay.sample(buffer, jax.random.key(1), 8000)["id"])
    counts = np.bincount(drawn, minlength=20)
    assert counts[:10].sum() == 0 and counts[18:].sum() == 0
    # 1000 expected each, standard deviation 29.6.
    assert np.all(np.abs(counts[10:18] - 1000) < 150)


def test_more_rows_than_the_capacity_are_refused():
    buffer = replay.create(3, {"id": jnp.int32(0)})
    with pytest.raises(ValueError, match="rows: 4 is not valid; give at most the capacity, 3"):
        replay.add(buffer, {"id": jnp.arange(4)}, jnp.ones(4, bool))


@pytest.mark.parametrize("size", [1, 8, 9, 1125])
def test_masks_take_one_bit_per_entry_and_come_back(size):
    mask = np.random.default_rng(size).random((5, size)) < 0.3
    packed = jax.jit(replay.pack_mask)(mask)
    assert packed.dtype == jnp.uint8 and packed.shape == (5, -(-size // 8))
    np.testing.assert_array_equal(jax.jit(replay.unpack_mask, static_argnums=1)(packed, size), mask)
