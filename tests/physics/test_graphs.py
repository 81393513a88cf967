"""Links, repair and shortest paths against check values, hand-worked graphs and SciPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse.csgraph import minimum_spanning_tree, shortest_path

from jaxenv.errors import ConfigError
from jaxenv.physics import graphs

pytestmark = pytest.mark.quick

METRICS = ("delay", "hops")
SITES_M = np.array(
    [
        *((12, 31), (455, -22), (841, 40), (1310, 18)),
        *((-35, 402), (402, 351), (905, 418), (1262, 369)),
        *((41, 741), (446, 802), (822, 745), (1325, 790)),
        *((-18, 1130), (471, 1118), (880, 1171), (1268, 1109)),
    ],
    float,
)
LINKS = """0-1:300 0-4:200 1-2:50 1-5:200 2-3:400 2-6:400 3-7:300 4-5:300 4-8:400 5-9:200 6-7:50
6-10:200 7-11:400 8-9:50 8-12:300 9-10:300 9-13:400 10-14:200 11-15:200 12-13:400 13-14:50
14-15:300"""


def bandwidths(text, servers):
    """Symmetric ``[K, K]`` of a text "server-server:Mbit/s ..."."""
    link_mbps = np.zeros((servers, servers))
    for link in text.split():
        ends, mbps = link.split(":")
        i, j = map(int, ends.split("-"))
        link_mbps[i, j] = link_mbps[j, i] = float(mbps)
    return link_mbps


def test_the_default_sites_have_the_links_of_the_check_scenario():
    linked = graphs.linked(SITES_M, 500.0)
    np.testing.assert_array_equal(linked, bandwidths(LINKS, 16) > 0)
    assert linked.sum() == 2 * 22
    assert graphs.is_connected(linked)


def test_a_server_at_the_reach_and_the_server_itself_are_not_linked():
    corner = np.array([[0.0, 0.0], [300.0, 400.0]])
    assert not graphs.linked(corner, 500.0).any()
    np.testing.assert_array_equal(graphs.linked(corner, 500.1), [[False, True], [True, False]])


@pytest.mark.parametrize(
    ("links", "connected"),
    [
        ("0-3:1 3-1:1 1-4:1 4-2:1", True),  # a path that visits the servers out of order
        ("0-3:1 1-4:1 4-2:1", False),
        ("0-1:1 1-2:1 2-3:1", False),  # server 4 alone
        ("", False),
    ],
)
def test_connectivity_of_hand_drawn_graphs(links, connected):
    assert graphs.is_connected(bandwidths(links, 5) > 0) is connected


def test_a_server_alone_is_connected():
    assert graphs.is_connected(np.zeros((1, 1), bool)) is True


def test_repair_adds_the_shortest_missing_link_first():
    """Pairs (0, 1) and (2, 3) and server 4: 1-2 is the nearest gap, then 3-4; 0-1 stays as is."""
    positions_m = np.array([[0, 0], [100, 0], [700, 0], [800, 0], [800, 650]], float)
    linked = graphs.linked(positions_m, 500.0)
    before = linked.copy()
    repaired = graphs.repair(positions_m, linked)
    expected = bandwidths("0-1:1 1-2:1 2-3:1 3-4:1", 5) > 0
    np.testing.assert_array_equal(repaired, expected)
    np.testing.assert_array_equal(linked, before)
    np.testing.assert_array_equal(graphs.repair(positions_m, expected), expected)


def test_repair_of_servers_without_links_is_the_minimum_spanning_tree():
    positions_m = np.random.default_rng(1).uniform(0, 3000, (12, 2))
    repaired = graphs.repair(positions_m, np.zeros((12, 12), bool))
    distance_m = np.hypot(*(positions_m[:, None] - positions_m).T)
    tree = minimum_spanning_tree(distance_m).toarray() > 0
    np.testing.assert_array_equal(repaired, tree | tree.T)


def float64_paths(metric):
    with jax.enable_x64(True):
        s_per_mbit, links = graphs.shortest_paths(bandwidths(LINKS, 16), metric)
    assert s_per_mbit.dtype == jnp.float64 and links.dtype == jnp.int32
    return np.asarray(s_per_mbit), np.asarray(links)


def test_check_values_of_two_paths():
    s_per_mbit, links = float64_paths("delay")
    np.testing.assert_allclose(s_per_mbit[0, 15], 0.025, rtol=1e-12)
    np.testing.assert_allclose(s_per_mbit[3, 12], 0.018333, atol=5e-7)
    assert links[0, 15] == links[3, 12] == 6


@pytest.mark.parametrize(
    ("metric", "mean_links", "most_links", "mean_ms", "most_ms"),
    [("delay", 3.140625, 8, 12.1940, 30.0), ("hops", 2.640625, 6, 14.5443, 48.3333)],
)
def test_check_values_of_all_paths(metric, mean_links, most_links, mean_ms, most_ms):
    s_per_mbit, links = float64_paths(metric)
    assert links.mean() == mean_links and links.max() == most_links
    np.testing.assert_allclose(1e3 * s_per_mbit.mean(), mean_ms, atol=5e-5)
    np.testing.assert_allclose(1e3 * s_per_mbit.max(), most_ms, atol=5e-5)
    assert not np.diag(s_per_mbit).any() and not np.diag(links).any()


@pytest.mark.parametrize("metric", METRICS)
def test_float32_has_the_same_links_and_rounded_times(metric):
    exact, exact_links = float64_paths(metric)
    with jax.enable_x64(True):
        link_mbps = bandwidths(LINKS, 16).astype(np.float32)
        s_per_mbit, links = graphs.shortest_paths(link_mbps, metric)
    assert s_per_mbit.dtype == jnp.float32 and links.dtype == jnp.int32
    np.testing.assert_array_equal(links, exact_links)
    np.testing.assert_allclose(s_per_mbit, exact, rtol=2e-7)


def test_equal_times_take_fewest_links_and_equal_links_least_time():
    """0-1-3 at 12 + 12, 0-2-4-3 at 8 + 8 + 8 and 0-5-3 at 3 + 24, in 1/1200 s/Mb."""
    link_mbps = bandwidths("0-1:100 1-3:100 0-2:150 2-4:150 4-3:150 0-5:400 5-3:50", 6)
    s_per_mbit, links = graphs.shortest_paths(link_mbps, "delay")
    assert links[0, 3] == 2
    np.testing.assert_allclose(s_per_mbit[0, 3], 0.02, rtol=1e-6)
    slower_direct = bandwidths("0-1:50 1-3:50 0-2:100 2-3:50 0-4:400 4-5:400 5-3:400", 6)
    s_per_mbit, links = graphs.shortest_paths(slower_direct, "hops")
    assert links[0, 3] == 2
    np.testing.assert_allclose(s_per_mbit[0, 3], 0.03, rtol=1e-6)
    s_per_mbit, links = graphs.shortest_paths(slower_direct, "delay")
    assert links[0, 3] == 3
    np.testing.assert_allclose(s_per_mbit[0, 3], 0.0075, rtol=1e-6)


def random_networks(count, servers):
    """Sparse networks, many disconnected, half of them one-way, with any bandwidths."""
    rng = np.random.default_rng(2)
    links = rng.uniform(size=(count, servers, servers)) < rng.uniform(0.1, 0.5, (count, 1, 1))
    choices = [50, 100, 200, 300, 400, 7.3, 33.3, 700, 5000]
    link_mbps = links * rng.choice(choices, links.shape)
    mirrored = np.triu(link_mbps, 1) + np.triu(link_mbps, 1).transpose(0, 2, 1)
    return np.where(np.arange(count)[:, None, None] % 2, link_mbps, mirrored)


def scipy_paths(link_mbps, metric):
    """Times and links by Dijkstra, with the second criterion as a small fraction of the first."""
    there = link_mbps > 0
    steps = np.rint(1200 / np.where(there, link_mbps, 1))
    weight = np.where(there, steps + 1e-5 if metric == "delay" else 1 + 1e-5 * steps, 0)
    np.fill_diagonal(weight, 0)
    total = shortest_path(weight, method="D")
    missing = np.isinf(total)
    total[missing] = 0
    first = np.floor(total + 1e-7)
    second = np.round(1e5 * (total - first))
    steps, hops = (first, second) if metric == "delay" else (second, first)
    return np.where(missing, np.inf, steps / 1200), np.where(missing, len(total), hops)


@pytest.mark.parametrize("metric", METRICS)
def test_random_networks_agree_with_scipy_under_jit_and_vmap(metric):
    networks = random_networks(count=64, servers=9)
    times, links = jax.jit(jax.vmap(partial(graphs.shortest_paths, metric=metric)))(networks)
    expected = [scipy_paths(link_mbps, metric) for link_mbps in networks]
    np.testing.assert_array_equal(links, [links for _, links in expected])
    np.testing.assert_allclose(times, [times for times, _ in expected], rtol=1e-6)
    disconnected = np.isinf(np.asarray(times)).any((1, 2))
    assert 10 < disconnected.sum() < 54


@pytest.mark.parametrize("metric", METRICS)
def test_the_slowest_links_neither_overflow_nor_carry(metric):
    """A chain of 16 servers at the slowest bandwidth there is, 1200/65535 Mbit/s."""
    chain = np.eye(16, k=1) + np.eye(16, k=-1)
    times, links = graphs.shortest_paths(chain * 1200 / 65535, metric)
    apart = np.abs(np.subtract.outer(np.arange(16), np.arange(16)))
    reached = apart <= (2 if metric == "delay" else 15)  # 2 links stay under 2^17, 3 do not
    np.testing.assert_array_equal(links, np.where(reached, apart, 16))
    expected = np.where(reached, apart * 65535 / 1200, np.inf)
    np.testing.assert_allclose(times, expected, rtol=1e-6)
    times, links = graphs.shortest_paths(chain * 1200 / 65536, metric)
    np.testing.assert_array_equal(np.isfinite(times), np.eye(16))
    np.testing.assert_array_equal(links, 16 - 16 * np.eye(16))


def test_derivatives_are_0():
    def total(link_mbps):
        return graphs.shortest_paths(link_mbps)[0].sum()

    np.testing.assert_array_equal(jax.grad(total)(bandwidths("0-1:50 1-2:300", 3)), 0.0)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("mbps", [-100.0, 0.0, 1e-30, np.nan])
def test_what_is_no_bandwidth_is_no_link(metric, mbps):
    times, links = graphs.shortest_paths(np.array([[mbps, mbps], [mbps, mbps]]), metric)
    np.testing.assert_array_equal(times, [[0, np.inf], [np.inf, 0]])
    np.testing.assert_array_equal(links, [[0, 2], [2, 0]])


@pytest.mark.parametrize("metric", METRICS)
def test_the_slowest_link_of_two_servers(metric):
    """2^17 steps of 1/1200 s/Mb are too many even where their sums would fit."""
    for steps, links in ((2**17 - 1, 1), (2**17, 2)):
        times, found = graphs.shortest_paths(bandwidths(f"0-1:{1200 / steps}", 2), metric)
        assert found[0, 1] == links and np.isfinite(times[0, 1]) == (links == 1)


def test_a_link_of_any_great_bandwidth_takes_no_time():
    times, links = graphs.shortest_paths(bandwidths("0-1:inf 1-2:1e30", 3))
    assert not np.asarray(times).any()
    assert int(links[0, 2]) == 2


@pytest.mark.parametrize(
    ("link_mbps", "metric", "message"),
    [
        (np.zeros((2, 2)), "fastest", "metric: 'fastest' is not valid; give one of delay, hops"),
        (np.zeros((2, 3)), "delay", r"\(2, 3\) is not valid; give one row and one column"),
        (np.zeros(4), "delay", r"\(4,\) is not valid"),
        (np.zeros((0, 0)), "delay", r"\(0, 0\) is not valid"),
        (np.zeros((513, 513)), "hops", r"\(513, 513\) is not valid; .* 1 to 512"),
    ],
)
def test_other_metrics_and_shapes_are_refused(link_mbps, metric, message):
    with pytest.raises(ConfigError, match=message):
        graphs.shortest_paths(link_mbps, metric)
