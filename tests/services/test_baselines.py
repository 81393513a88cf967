"""Baselines and the upper bound: equal to slow versions, certain inequalities, ties, evaluation."""

import dataclasses
import functools

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
    """Where servers are few, requests queue and are rejected: the comparisons show something."""
    if compared[0][0].servers > 4:
        pytest.skip("16 servers for 8 agents")
    results = [oracle.play(s, slot, f["heuristic"].tolist()) for s, slot, _, f in compared]
    assert any(any(result.memory_reject) for result in results)
    assert any(any(result.late) for result in results)
    shared = [len({k for _, _, k in f["coord_descent"].tolist()}) < 4 for *_, f in compared]
    assert any(shared)


def test_responses_equal_a_slow_version():
    """The joint reward of every change of one agent, where all share two servers."""
    rng = np.random.default_rng(6)
    with jax.enable_x64(True):
        scenario, env, params = crowded(dtype="float64")
        slots = [oracle.random_slot(scenario, rng) for _ in range(40)]
        joint = np.array([oracle.random_actions(scenario, rng) for _ in slots], np.int32)
        joint[:, :, 2] %= 2
        agents = jnp.arange(env.num_agents)

        def respond(slot, action):
            chosen = env.demand(slot, agents, *action.T, params)

            def one(load, row):
                agent, (demand, valid), asked = row
                later = agents > agent
                found = baselines.responses(env, demand, valid, load, chosen, later, params)
                return baselines.loaded(load, asked, params), found

            rows = (agents, baselines.offers(env, slot, params), chosen)
            return jax.lax.scan(one, baselines.unloaded(env), rows)[1]

        found = jax.device_get(jax.jit(jax.vmap(respond))(as_slot(slots), joint))
    found = found.reshape(len(slots), env.num_agents, env.max_configs, env.max_models, 4)
    for slot, actions, rewards in zip(slots, joint, found, strict=True):
        asked = oracle.options(scenario, slot)
        indices = [
            (c * len(scenario.service(u).tflop) + m) * 4 + k for u, (c, m, k) in enumerate(actions)
        ]
        for u, own in enumerate(rewards):
            service = scenario.service(u)
            valid = own[: len(service.size), : len(service.tflop)]
            expected = oracle.responses(scenario, asked, indices, u)
            np.testing.assert_allclose(valid.ravel(), expected, rtol=0, atol=1e-9)
            assert np.isneginf(own).sum() == own.size - valid.size


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
        one = jnp.arange(64)[:, None] % env.num_agents == agents
        joint = [
            best[None],
            baselines.heuristic(env, slot, params)[None],
            baselines.seq_greedy(env, slot, params)[None],
            jnp.where(one[..., None], some, best),
            some,
        ]
        rewards = jax.vmap(reward, in_axes=(None, 0))(slot, jnp.concatenate(joint))
        return rewards, found, baselines.upper_bound(env, slot, params)

    keys = jax.random.split(jax.random.key(3), 300)
    rewards, found, bound = jax.device_get(jax.jit(jax.vmap(compare))(keys))
    best, starts, changed, some = np.split(rewards, [1, 3, 67], axis=1)
    slack = 3e-6 * (1 + abs(best))
    np.testing.assert_allclose(found, best[:, 0], rtol=1e-5)
    assert (starts <= best + slack).all() and (changed <= best + slack).all()
    assert (starts.max(axis=1, keepdims=True) < best - slack).any()
    assert (best <= bound[:, None] + slack).all() and (some <= bound[:, None] + slack).all()


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
    prices = jnp.array([[1.0, 0.5, 0.5], [0.0, 0.0, 0.0]])
    found = jax.jit(lambda slot: decide(env, slot, prices, params))(alike)
    for name in ("heuristic", "seq_greedy", "coord_descent"):
        assert found[name].tolist() == [[0, 0, 0], [0, 0, 0]], name
    assert found["price_table"].tolist() == [[0, 0, 1], [0, 0, 0]]


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
    assert earned(fitted) > earned(jnp.zeros_like(start)) + 1


@pytest.mark.parametrize("name", POLICIES)
def test_evaluation_with_the_bound(name):
    """Registered; on episodes of 5 slots below the bound, the sum of that of the slots."""
    _, env, params = crowded(max_steps=5)
    given = {"prices": jnp.zeros((5, 4))} if name == "PriceTable" else {}
    policy = registry.baseline(name, env, **given)
    terms = rollout(env, params, policy, jax.random.key(0), 6, registry.bound(env))
    limit, ones = terms.bound
    assert (terms.numerator["reward"] < limit).all() and (ones == 1).all()
    if name != "Random":
        return

    def total(key):
        def after(state, _):
            following = env.transition(state, jnp.zeros((5, 3), jnp.int32), params)[1]
            return following, baselines.upper_bound(env, state.slot, params)

        return jnp.sum(jax.lax.scan(after, env.reset(key, params)[1], length=5)[1])

    keys = jax.random.split(jax.random.split(jax.random.key(0))[0], 6)
    np.testing.assert_allclose(limit, jax.jit(jax.vmap(total))(keys), rtol=1e-5)


def test_prices_of_an_evaluation_are_fitted_once():
    """And without an axis of episodes, on slots that belong to no evaluation."""
    _, env, params = crowded()
    policy = registry.baseline("PriceTable", env)
    keys = jax.random.split(jax.random.key(0), 7)
    start = jax.vmap(lambda key: policy.init(key, env, params))
    sizes = {"num_slots": 3, "num_partitions": 2, "num_proposals": 2}
    with pytest.MonkeyPatch.context() as patch:
        fit = functools.partial(baselines.fit_prices, **sizes)
        patch.setattr(baselines, "fit_prices", fit)
        program = jax.make_jaxpr(start)(keys)
        prices = start(keys)
    (inner,) = [e.params["jaxpr"] for e in program.eqns if e.params.get("name") == "fit_prices"]
    assert inner.out_avals[0].shape == (env.num_agents, env.num_servers)
    assert prices.shape == (7, env.num_agents, env.num_servers)
    assert (prices == fit(env, params, jax.random.key(baselines.FIT_SEED))).all()


# ---- measured where named ----------------------------------------------------------------------


def test_agents_with_servers_of_their_own_meet_nobody():
    """Every slot brings the sum of what each agent would have alone, on its own two servers."""
    env, params = Services.build(preset="percent")
    policy, agents = registry.baseline("OwnServers", env), np.arange(env.num_agents)

    def played(key):
        state = env.reset_env(key, params)
        action, _ = policy.act((), None, None, None, state, params)
        values = baselines.own_values(env, state.slot, params)
        reward = env.transition(state, action, params)[2]
        return action, values, reward, baselines.upper_bound(env, state.slot, params)

    keys = jax.random.split(jax.random.key(4), 50)
    actions, values, rewards, limits = jax.device_get(jax.jit(jax.vmap(played))(keys))
    owners = actions[..., 2] % env.num_agents
    np.testing.assert_array_equal(owners, np.broadcast_to(agents, owners.shape))
    values = values.reshape(*values.shape[:2], -1, env.num_servers)
    best = [values[:, i, :, [i, i + env.num_agents]].max(axis=(0, 2)) for i in agents]
    np.testing.assert_allclose(rewards, np.sum(best, axis=0), rtol=1e-4)
    assert (rewards <= limits * (1 + 1e-5)).all()


def test_few_servers_are_owned_by_several():
    _, env, params = crowded()
    slot = env.reset_env(jax.random.key(0), params).slot
    server = baselines.own_servers(env, slot, params)[:, 2]
    np.testing.assert_array_equal(server, [0, 1, 2, 3, 0])
