"""Demands at given prices, prices at which they sum to the bandwidth, and what is left of it."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from allocators import robust
from allocators.robust import links, prices


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


def curves(B=60.0):
    """Those of four ResNet152 devices at every point, with time enough for the lowest frequency."""
    inst = robust.make_instance("resnet152", jnp.array([40.0, 90, 150, 220]), B, 0.3, 0.04)
    return links.curves(links.links_of(inst), inst.B)


@pytest.mark.quick
def test_share_rest_by_hand():
    """Least 1, 2, 3, 0 of 10 MHz: who is at the least stays, the others' 2 and 1 grow to 8/3, 4/3.

    Where all are at their least they stay there, with or without anything left.
    """
    uploads = jnp.array([True, True, True, False])[:, None]
    k = SimpleNamespace(uploads=uploads, bmin=jnp.array([1.0, 2, 3, 0])[:, None])
    b = jnp.array([[3, 2, 4, 5], [1, 2, 3, 0]]).T.astype(float)
    found = prices.share_rest(k, jnp.array([10.0, 10]), b)
    np.testing.assert_allclose(found.T, [[11 / 3, 2, 13 / 3, 0], [1, 2, 3, 0]], rtol=1e-15)
    exact = prices.share_rest(k, jnp.array([6.0, 6]), b)
    np.testing.assert_allclose(exact.T, [[1, 2, 3, 0]] * 2, rtol=1e-15)


def test_demand_is_cheapest():
    """Energy and price of the demanded bandwidth against 4000 others, from any start."""
    k = curves()
    log_price = jnp.log(jnp.array([1e-4, 1e-3, 5e-3, 2e-2, 0.1, 0.5]))[:, None, None]
    shape = (6, *k.bmin.shape)
    k = jax.tree.map(lambda x: jnp.broadcast_to(x, shape).reshape(-1), k)
    log_price = jnp.broadcast_to(log_price, shape).reshape(-1)
    find = jax.jit(prices.demand)
    skip = jnp.zeros(log_price.shape, bool)
    found, elasticity, _ = find(k, log_price, jnp.full(log_price.shape, -4.0), skip)
    again, _, _ = find(k, log_price, jnp.full(log_price.shape, 4.0), skip)
    np.testing.assert_allclose(again, found, atol=1e-9)
    assert np.all(found >= k.log_bmin)

    def cost(log_b):
        b = jnp.exp(log_b)
        return jnp.where(k.uploads, links.energy(k.links, b) + jnp.exp(log_price) * b, 0)

    offset = jnp.linspace(-5, 5, 4000)[:, None]
    others = jax.jit(jax.vmap(cost))(jnp.maximum(found + offset, k.log_bmin))
    assert np.all(cost(found) <= others.min(0) * (1 + 1e-12))
    moved, _, _ = find(k, log_price + 1e-6, found, skip)
    np.testing.assert_allclose((moved - found) / 1e-6, elasticity, rtol=1e-2, atol=1e-7)
    kinds = elasticity < 0, found == k.log_bmin, found == k.log_kink
    assert all(np.sum(np.asarray(kind & k.uploads)) > 5 for kind in kinds)


def test_equilibrium():
    """The demands at its price sum to B, wherever it starts."""
    for B in (4.0, 20.0, 100.0):
        k = robust.take(curves(B), jnp.array([5, 5, 8, 5]))
        k = jax.tree.map(lambda x: x[:, None], k)
        total = jnp.array([B])
        for start in ((jnp.array([-9.0]), jnp.zeros((4, 1))), prices.first_guess(k, total)):
            log_price, log_b, _ = jax.jit(prices.equilibrium)(k, total, *start)
            np.testing.assert_allclose(jnp.sum(jnp.exp(log_b)), B, rtol=1e-9)
            again, _, _ = prices.demand(k, log_price, log_b, jnp.zeros(1, bool))
            np.testing.assert_allclose(again, log_b, atol=1e-9)
