"""Baselines and the upper bound: equal to slow versions, certain inequalities, ties, evaluation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import registry
from agents.baselines import services as baselines
from agents.learner import RandomPolicy, rollout
from jaxenv.services import Service, Services, Slot
from tests.oracles import services as oracle

POLICIES = ("Random", "Heuristic", "PriceTable", "SeqGreedy", "CoordDescent")
MODELS = [
    # accuracy [C, M], size [C], inferences [C], MB [M], TFLOP [M], MB of data, tolerated s
    ([[0.9, 0.7], [0.8, 0.5], [0.6, 0.4]], [1, 0.5, 0.2], [1, 2, 1], [300, 90], [0.3, 0.2], (1, 9)),
    ([[50, 70, 61], [40, 66, 30]], [1, 0.3], [3, 1], [120, 250, 60], [0.2, 0.5, 0.1], (2, 12)),
    ([[0.5], [0.4], [0.3], [0.1]], [1, 0.6, 0.4, 0.1], [4, 3, 2, 1], [200], [0.25], (1, 20)),
]
LIMITS = [(0.001, 0.5, 1.5), (1, 3), (0.5, 2, 4, 8)]  # the first: late whatever is done
SERVERS = {
    "compute": (1.0, 0.5, 1.3, 0.8),
    "memory_gb": (0.6, 0.7, 0.5, 0.9),
    "uplink": (48, 64, 36, 72),
    "links": {(0, 1): 100, (1, 2): 50, (2, 3): 300, (0, 3): 200},
}


def matrix(scenario):
    w = np.zeros((scenario.servers, scenario.servers))
    for (i, j), bandwidth in scenario.links.items():
        w[i, j] = w[j, i] = bandwidth
    return w


def crowded(**options):
    """Five agents of three services on four small servers: they queue, share, do not fit."""
    services, offered = [], []
    for row, limits in zip(MODELS, LIMITS, strict=True):
        services.append(oracle.Service(*row, limits))
        offered.append(Service(f"service{len(offered)}", *row, limits))
    scenario = oracle.Scenario((2, 1, 2), services, **SERVERS)
    env, params = Services.build(
        services=offered,
        agents_per_service=(2, 1, 2),
        num_servers=4,
        link_mbps=matrix(scenario),
        compute_tflops=scenario.compute,
        memory_gb=scenario.memory_gb,
        uplink_mbps=scenario.uplink,
        used_range_mb=(50, 300),
        **options,
    )
    return dataclasses.replace(scenario, busy_mb=(50, 300)), env, params


def published():
    """The published services: both presets, and two random networks."""
    scenarios = [oracle.Scenario(), oracle.Scenario(preset="percent")]
    scenarios += [oracle.random_scenario(seed) for seed in (0, 1)]
    options = [{}, {"preset": "percent"}, {"scenario_seed": 0}, {"scenario_seed": 1}]
    built = [Services.build(dtype="float64", **given) for given in options]
    return scenarios, built[0][0], [params for _, params in built]


def as_slot(slots):
    names = ("local", "limit_s", "data_mb", "busy_tflop", "busy_mb")
    local, *rest = (np.array([getattr(slot, name) for slot in slots]) for name in names)
    return Slot(local.astype(np.int32), *rest)


def decide(env, slot, prices, params):
    """Everything of a slot."""
    best, reward = baselines.coord_descent(env, slot, params)
    return {
        "heuristic": baselines.heuristic(env, slot, params),
        "seq_greedy": baselines.seq_greedy(env, slot, params),
        "price_table": baselines.price_table(env, slot, prices, params),
        "coord_descent": best,
        "reward": reward,
        "upper_bound": baselines.upper_bound(env, slot, params),
    }


@pytest.fixture(scope="module", params=["crowded", "published"])
def compared(request):
    """Scenario, slot and prices of every case, and what the fast version makes of them."""
    rng = np.random.default_rng(5)
    with jax.enable_x64(True):
        if request.param == "crowded":
            scenario, env, params = crowded(dtype="float64")
            cases, params = [scenario] * 60, [params] * 60
        else:
            scenarios, env, params = published()
            cases, params = scenarios * 2, params * 2
        slots = [oracle.random_slot(scenario, rng) for scenario in cases]
        prices = rng.choice([0, 0.1, 0.5, 5], (len(cases), env.num_agents, env.num_servers))
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
        run = jax.jit(jax.vmap(lambda *args: decide(env, *args)))
        found = jax.device_get(run(as_slot(slots), prices, stacked))
    rows = [jax.tree.map(lambda x, i=i: x[i], found) for i in range(len(cases))]
    return list(zip(cases, slots, prices, rows, strict=True))


@pytest.mark.parametrize("name", ["heuristic", "seq_greedy", "price_table"])
def test_actions_equal_a_slow_version(compared, name):
    for scenario, slot, prices, found in compared:
        given = (prices,) if name == "price_table" else ()
        expected = getattr(oracle, name)(scenario, slot, *given)
        assert found[name].tolist() == [list(action) for action in expected]


def test_coordinate_descent_is_as_good_as_a_slow_version(compared):
    for scenario, slot, _, found in compared:
        expected = oracle.play(scenario, slot, oracle.coord_descent(scenario, slot)).r
        played = oracle.play(scenario, slot, found["coord_descent"].tolist()).r
        np.testing.assert_allclose([found["reward"], played], expected, rtol=0, atol=1e-9)


def test_bound_equals_a_slow_version(compared):
    for scenario, slot, _, found in compared:
        expected = oracle.upper_bound(scenario, slot)
        np.testing.assert_allclose(found["upper_bound"], expected, rtol=0, atol=1e-9)


def test_the_cases_are_hard(compared):
    """Requests queue, share models and are rejected, or the comparisons would show little."""
    for scenario, slot, _, found in compared:
        if len(scenario.services) == 2:
            return
    results = [oracle.play(s, slot, f["seq_greedy"].tolist()) for s, slot, _, f in compared]
    assert any(any(r.memory_reject) for r in results) or any(any(r.late) for r in results)
    assert any(
        oracle.doubling(found["coord_descent"].tolist()) > 0.2 for _, _, _, found in compared
    )


# ---- certain inequalities ----------------------------------------------------------------------


def test_certain_inequalities():
    """In float32: nothing above the bound, the descent not below its starts, no change gains."""
    _, env, params = crowded()
    agents = jnp.arange(env.num_agents)

    def reward(slot, action):
        demand = env.demand(slot, agents, *action.T, params)
        return jnp.sum(env.parts(demand, env.admit(demand), params))

    def compare(key):
        slot_key, action_key = jax.random.split(key)
        slot = env.reset_env(slot_key, params).slot
        mask = env.action_mask(None, params)
        policy = RandomPolicy()
        draw = lambda key: policy.act((), key, None, mask, None, params)[0]  # noqa: E731
        some = jax.vmap(draw)(jax.random.split(action_key, 64))
        best, found = baselines.coord_descent(env, slot, params)
        changed = jnp.where((jnp.arange(64) % env.num_agents == agents[:, None]).T[..., None], some, best)
        starts = jnp.stack([f(env, slot, params) for f in (baselines.heuristic, baselines.seq_greedy)])
        rewards = jax.vmap(reward, in_axes=(None, 0))
        return {
            "best": reward(slot, best),
            "found": found,
            "starts": rewards(slot, starts),
            "random": rewards(slot, some),
            "changed": rewards(slot, changed),
            "bound": baselines.upper_bound(env, slot, params),
        }

    found = jax.device_get(jax.jit(jax.vmap(compare))(jax.random.split(jax.random.key(3), 300)))
    best, slack = found["best"], 3e-6 * (1 + abs(found["best"]))
    np.testing.assert_allclose(found["found"], best, rtol=1e-5)
    for name in ("starts", "changed"):
        assert (found[name] <= (best + slack)[:, None]).all()
    assert (found["random"] <= found["bound"][:, None]).all()
    assert (best <= found["bound"] + slack).all()
    assert (best > found["starts"].max(axis=1) + slack).any()


# ---- ties --------------------------------------------------------------------------------------


def test_ties_go_to_the_lowest_action():
    """Equal models, configurations and servers; and a request that nothing can serve in time."""
    row = ([[1, 1], [1, 1]], [1, 1], [1, 1], [100, 100], [0.1, 0.1], (1, 1), (1,))
    env, params = Services.build(
        services=[Service("alike", *row)], num_agents=2, num_servers=3, compute_tflops=1.0
    )
    alike = Slot(
        local_server=jnp.array([2, 1]),
        deadline_s=jnp.array([1.0, 0.0]),
        data_mb=jnp.zeros(2),
        system_tflop=jnp.full(3, 0.2),
        used_mb=jnp.full(3, 100.0),
    )
    assert baselines.heuristic(env, alike, params).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert baselines.seq_greedy(env, alike, params).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert baselines.coord_descent(env, alike, params)[0].tolist() == [[0, 0, 0], [0, 0, 0]]
    prices = jnp.array([[1.0, 0.5, 0.5], [0.0, 0.0, 0.0]])
    table = baselines.price_table(env, alike, prices, params)
    assert table.tolist() == [[0, 0, 1], [0, 0, 0]]


# ---- prices and evaluation ---------------------------------------------------------------------


def test_fitted_prices_earn_more_than_where_the_search_starts():
    _, env, params = crowded()
    sizes = {"num_slots": 40, "num_partitions": 4}
    keys = jax.random.split(jax.random.key(8), 300)
    slots = jax.vmap(lambda key: env.reset_env(key, params).slot)(keys)

    def earned(prices):
        def reward(slot):
            action = baselines.price_table(env, slot, prices, params)
            demand = env.demand(slot, jnp.arange(env.num_agents), *action.T, params)
            return jnp.sum(env.parts(demand, env.admit(demand), params))

        return jnp.mean(jax.vmap(reward)(slots))

    start, fitted = (
        baselines.fit_prices(env, params, jax.random.key(1), **sizes, num_proposals=count)
        for count in (0, 200)
    )
    assert sorted(np.unique(start)) == [0, 5]
    assert ((start == 0).sum(axis=0) == 1).all()
    assert np.isin(fitted, np.float32(baselines.PRICES)).all()
    earned = jax.jit(earned)
    assert earned(fitted) > earned(start) + 1
    assert earned(start) > earned(jnp.zeros_like(start)) or earned(fitted) > earned(0 * start) + 1


@pytest.mark.parametrize("name", POLICIES)
def test_evaluation_with_the_bound(name):
    """Registered, on episodes of 5 slots; none above the bound, which is the same for all."""
    _, env, params = crowded(max_steps=5)
    given = {"prices": jnp.zeros((5, 4))} if name == "PriceTable" else {}
    policy = registry.baseline(name, env, **given)
    terms = rollout(env, params, policy, jax.random.key(0), 6, registry.bound(env))
    limit, ones = (np.asarray(x) for x in terms.bound)
    assert (terms.numerator["reward"] < limit).all() and (ones == 1).all()
    states = jax.random.split(jax.random.split(jax.random.key(0))[0], 6)
    state = jax.vmap(lambda key: env.reset_env(key, params))(states)
    slots = jax.vmap(
        lambda state: jax.vmap(lambda t: env._draw(state.key, t, params))(jnp.arange(5))
    )(state)
    bound = jax.vmap(jax.vmap(lambda slot: baselines.upper_bound(env, slot, params)))(slots)
    np.testing.assert_allclose(limit, bound.sum(axis=1), rtol=1e-5)
