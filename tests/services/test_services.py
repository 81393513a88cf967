"""The services environment: published check values, the slow version, draws, the contract."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxenv
from jaxenv.services import ServicesState, Slot
from jaxenv.services.environment import _weighted
from jaxenv.testing import check_environment
from tests.oracles import services as oracle

CASES = {
    # accepted; delays, of a rejected request as it would have been; r1, r2, r3, r, c_mem
    0: (
        [1, 1, 1, 1, 1, 1, 0, 1],
        [0.210646, 0.268029, 0.725672, 0.340936, 4.481593, 1.739813, 1.718249, 1.628883],
        (-98.008147, -9.395574, -0.030010, -107.433731, 0.027687),
    ),
    2: (
        [1, 1, 0, 0, 0, 1, 1, 1],
        [0.593677, 0.878480, 1.138813, 1.223390, 1.656374, 1.731574, 2.128235, 2.736324],
        (-297.813603, -8.068290, -0.170469, -306.052363, 0.009342),
    ),
}


@functools.partial(jax.jit, static_argnames="env")
def decided(env, params, slots, actions):
    """What `step_env` says of slots ``[B]`` under actions ``[B, n, 3]`` in one scenario."""

    def one(slot, action):
        state = ServicesState(key=jax.random.key(0), time=jnp.int32(0), slot=slot)
        _, reward, _, info = env.step_env(state.key, state, action, params)
        return info | {"reward": reward}

    return jax.vmap(one)(slots, actions)


@functools.partial(jax.jit, static_argnames="env")
def decided_everywhere(env, params, slots, actions):
    """`decided` of slots ``[scenarios, B]``, each row in a scenario of its own."""
    return jax.vmap(functools.partial(decided, env))(params, slots, actions)


def stacked(trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def as_slot(slot, dtype):
    """A slot of the slow version."""
    return Slot(
        local_server=np.array(slot.local, np.int32),
        deadline_s=np.array(slot.limit_s, dtype),
        data_mb=np.array(slot.data_mb, dtype),
        system_tflop=np.array(slot.busy_tflop, dtype),
        used_mb=np.array(slot.busy_mb, dtype),
    )


def link_matrix(scenario):
    rates = np.zeros((scenario.servers, scenario.servers))
    for (i, j), rate in scenario.links.items():
        rates[i, j] = rates[j, i] = rate
    return rates


def described(scenario, **options):
    """``(env, params)`` of a scenario of the slow version."""
    return jaxenv.make(
        "services",
        agents_per_service=tuple(scenario.agents),
        preset=scenario.preset,
        path_metric=scenario.metric,
        num_servers=scenario.servers,
        link_mbps=link_matrix(scenario),
        compute_tflops=scenario.compute,
        memory_gb=scenario.memory_gb,
        uplink_mbps=scenario.uplink,
        **options,
    )


def compare(found, index, expected, near):
    """One slot of `decided` against the slow version."""
    for name in ("accepted", "late", "memory_reject"):
        np.testing.assert_array_equal(found[name][index], getattr(expected, name), name)
    for name in ("delay_s", "cost_rou", "cost_cmp", "cost_mem"):
        np.testing.assert_allclose(
            found[name][index], getattr(expected, name), err_msg=name, **near
        )
    parts = expected.r1, expected.r2, expected.r3
    np.testing.assert_allclose(found["reward_parts"][index], parts, **near)
    np.testing.assert_allclose(found["reward"][index], expected.r, **near)


# ---- published numbers -------------------------------------------------------------------------


@pytest.mark.quick
def test_published_paths():
    """Time in s/Mb and links: mean and maximum of both metrics, and two pairs of servers."""
    for metric, links, ms, largest in (
        ("delay", (3.140625, 8), 12.1940, 30.0),
        ("hops", (2.640625, 6), 14.5443, 48.3333),
    ):
        _, params = jaxenv.make("services", path_metric=metric)
        assert (params.path_links.mean(), params.path_links.max()) == links
        np.testing.assert_allclose(1e3 * params.path_s_per_mb.mean(), ms, atol=6e-5)
        np.testing.assert_allclose(1e3 * params.path_s_per_mb.max(), largest, atol=6e-5)
        if metric == "delay":
            np.testing.assert_allclose(params.path_s_per_mb[0, 15], 0.025, rtol=1e-6)
            np.testing.assert_allclose(params.path_s_per_mb[3, 12], 0.018333, atol=5.1e-7)
            assert params.path_links[0, 15] == params.path_links[3, 12] == 6


@pytest.mark.quick
def test_published_tables():
    _, params = jaxenv.make("services")
    near = {"rtol": 0, "atol": 5.5e-7}
    found = params.acc_std[:, 5]
    np.testing.assert_allclose(found[0], [0.740235, 0.687514, 0.865100, 0.792955], **near)
    np.testing.assert_allclose(found[1], [0.933573, 0.229536, 0.492490, 0], **near)
    found = params.size_factor[:, [5, 11, 15]]
    np.testing.assert_allclose(found[0], [0.275941, 0.080024, 0.024630], **near)
    np.testing.assert_allclose(found[1], [0.352193, 0.073405, 0.022593], **near)
    assert found.min() > 0 and params.size_factor.max() == 1


@pytest.mark.quick
def test_every_table_is_that_of_the_slow_version():
    env, params = jaxenv.make("services")
    for row, service in enumerate((oracle.detection(), oracle.tracking())):
        c, m = len(service.size), len(service.tflop)
        standard = [[service.standard(i, j) for j in range(m)] for i in range(c)]
        near = {"rtol": 1e-5, "atol": 1e-7}
        np.testing.assert_allclose(params.acc_std[row, :c, :m], standard, **near)
        np.testing.assert_allclose(params.size_factor[row, :c], service.size, **near)
        np.testing.assert_array_equal(params.inferences[row, :c], service.inferences)
        np.testing.assert_allclose(params.model_mb[row, :m], service.memory_mb, **near)
        np.testing.assert_allclose(params.model_tflop[row, :m], service.tflop, **near)
        np.testing.assert_array_equal(params.data_range_mb[row], service.data_mb)
        limits = params.delay_set_s[row, : len(service.limits_s)]
        np.testing.assert_array_equal(limits, service.limits_s)
        assert params.num_delays[row] == len(service.limits_s)
    assert params.model_mb[1, 3] == 1e9
    np.testing.assert_array_equal(params.service, [0, 0, 0, 0, 1, 1, 1, 1])


@pytest.mark.quick
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_check_values(dtype):
    """The slots without random numbers; half a unit of the last printed digit in float64."""
    wide = dtype == "float64"
    near = {"rtol": 0, "atol": 5.1e-7} if wide else {"rtol": 1e-4}
    with jax.enable_x64(wide):
        env, params = jaxenv.make("services", dtype=dtype)
        slots = [oracle.fixed_slot(oracle.Scenario(), case) for case in CASES]
        actions = [[(15, 0, v) for v in slots[0].local], [(11, 2, 11)] * 8]
        batch = stacked([as_slot(slot, dtype) for slot in slots])
        found = decided(env, params, batch, np.array(actions, np.int32))
        for i, (accepted, delay, numbers) in enumerate(CASES.values()):
            np.testing.assert_array_equal(found["accepted"][i], np.array(accepted, bool))
            np.testing.assert_allclose(found["delay_s"][i], delay, **near)
            np.testing.assert_allclose(found["reward_parts"][i], numbers[:3], **near)
            np.testing.assert_allclose(found["reward"][i], numbers[3], **near)
            np.testing.assert_allclose(found["cost_mem"][i], numbers[4], **near)
            for service, group in (("detection", slice(4)), ("tracking", slice(4, 8))):
                ok = found["accepted"][i, group]
                assert found[f"accepted_{service}"][i] == ok.sum()
                for quantity in ("accuracy", "delay_s"):
                    own = np.where(ok, found[quantity][i, group], 0).sum()
                    np.testing.assert_allclose(found[f"{quantity}_{service}"][i], own, rtol=1e-5)


# ---- the slow version --------------------------------------------------------------------------

SCENARIOS, SLOTS = 12, 209


def crowded_actions(scenario, rng):
    """Random valid actions; of every other slot, on three servers only."""
    actions = np.array(oracle.random_actions(scenario, rng), np.int32)
    if rng.random() < 0.5:
        actions[:, 2] = rng.choice(rng.choice(scenario.servers, 3), len(actions))
        actions[:, 0] = rng.integers(8, 16, len(actions))
    return actions


@pytest.mark.parametrize("agents", [8, 10])
def test_thousands_of_slots_equal_a_slow_version(agents):
    """Random scenarios, both presets, both metrics; float64, and float32 where nothing is close."""
    rng = np.random.default_rng(agents)
    scenarios = [
        oracle.random_scenario(
            seed,
            agents=(agents // 2,) * 2,
            preset=("literal", "percent")[seed % 2],
            metric=("delay", "hops")[seed % 3 == 0],
        )
        for seed in range(SCENARIOS)
    ]
    slots = [[oracle.random_slot(x, rng) for _ in range(SLOTS)] for x in scenarios]
    actions = np.array([[crowded_actions(x, rng) for _ in range(SLOTS)] for x in scenarios])

    def run(dtype, eases):
        """With deadlines longer by 1e-4 ``ease`` s and memory in use less by 1e-2 ``ease`` MB."""
        made = [described(x, dtype=dtype) for x in scenarios]
        params = stacked([params for _, params in made])
        batch = stacked([stacked([as_slot(s, dtype) for s in row]) for row in slots])
        for ease in eases:
            eased = batch.replace(
                deadline_s=batch.deadline_s + np.array(1e-4 * ease, dtype),
                used_mb=batch.used_mb - np.array(1e-2 * ease, dtype),
            )
            yield jax.device_get(decided_everywhere(made[0][0], params, eased, actions))

    with jax.enable_x64(True):
        found, *eased = run("float64", (0, -1, 1))
    seen = {"accepted": 0, "late": 0, "memory_reject": 0}
    shared = 0
    for i, scenario in enumerate(scenarios):
        for j in range(SLOTS):
            expected = oracle.play(scenario, slots[i][j], actions[i, j].tolist())
            compare(found, (i, j), expected, {"rtol": 1e-9, "atol": 1e-9})
            served = [
                (scenario.owner[u], *actions[i, j, u, 1:])
                for u in range(agents)
                if expected.accepted[u]
            ]
            shared += len(served) - len(set(served))
            for name in seen:
                seen[name] += sum(getattr(expected, name))
    assert shared > 200 and min(seen.values()) > 500, (shared, seen)

    clear = np.ones((SCENARIOS, SLOTS), bool)
    for other in eased:
        for name in ("accepted", "late"):
            clear &= (other[name] == found[name]).all(axis=-1)
    assert clear.mean() > 0.99
    (narrow,) = run("float32", (0,))
    for name in ("accepted", "late", "memory_reject"):
        np.testing.assert_array_equal(narrow[name][clear], found[name][clear])
    for name in ("delay_s", "cost_rou", "cost_cmp", "cost_mem", "reward_parts", "reward"):
        assert narrow[name].dtype == np.float32
        absolute = 2e-4 if name.startswith("reward") else 0  # of a sum that may cancel
        np.testing.assert_allclose(
            narrow[name][clear], found[name][clear], rtol=1e-4, atol=absolute, err_msg=name
        )
    for part in (1, 2):
        parts = (x["reward_parts"][clear][:, part] for x in (narrow, found))
        np.testing.assert_allclose(*parts, rtol=1e-4)


UNEQUAL = {
    # accuracy, size factors, inferences, MB and TFLOP of models, data, delays
    "words": ([[0.9, 0.5], [0.7, 0.45], [0.6, 0.2]], [1, 0.5, 0.2], [1, 1, 2], [50, 400])
    + ([0.1, 0.3], (2.0, 6.0), [0.4]),
    "scenes": ([[0.1, 0.2, 0.3, 0.4]] * 4 + [[0.1, 0.15, 0.2, 0.25]], [1, 0.8, 0.6, 0.4, 0.2])
    + ([3, 2, 2, 1, 1], [100, 200, 300, 600], [0.05, 0.1, 0.2, 0.4], (1.0, 4.0), [0.5, 1.0, 3.0]),
    "sounds": ([[30.0], [20.0]], [1.0, 0.25], [4, 1], [250], [0.15], (0.5, 30.0), [2.0, 5.0]),
}
FIELDS = ("accuracy", "size_factor", "inferences", "model_mb", "model_tflop")
FIELDS += ("data_range_mb", "delay_set_s")


def three_services(**options):
    """A scenario of three services of different sizes on five servers, twice."""
    scenario = oracle.Scenario(
        agents=(2, 1, 3),
        services=[oracle.Service(*tables) for tables in UNEQUAL.values()],
        links={(0, 1): 100, (1, 2): 300, (2, 3): 50, (3, 4): 200, (0, 4): 400, (1, 3): 400},
        compute=[0.5, 1.33, 1.26, 0.5, 1.33],
        memory_gb=[1, 1, 2, 1, 4],
        uplink=[36, 72, 48, 64, 36],
    )
    tables = zip(UNEQUAL, UNEQUAL.values(), strict=True)
    services = [{"name": name} | dict(zip(FIELDS, t, strict=True)) for name, t in tables]
    return scenario, *described(scenario, services=services, **options)


def test_three_unequal_services_equal_a_slow_version():
    rng = np.random.default_rng(3)
    with jax.enable_x64(True):
        scenario, env, params = three_services(dtype="float64")
        assert (env.max_configs, env.max_models, env.max_delays) == (5, 4, 3)
        assert env.service_names == tuple(UNEQUAL) and env.num_agents == 6
        slots = [oracle.random_slot(scenario, rng) for _ in range(500)]
        actions = np.array([oracle.random_actions(scenario, rng) for _ in slots], np.int32)
        batch = stacked([as_slot(slot, "float64") for slot in slots])
        found = jax.device_get(decided(env, params, batch, actions))
    for i, slot in enumerate(slots):
        expected = oracle.play(scenario, slot, actions[i].tolist())
        compare(found, i, expected, {"rtol": 1e-9, "atol": 1e-9})
    for name in ("accepted", "late", "memory_reject"):
        assert found[name].mean() > 0.03, name
    groups = {"words": slice(0, 2), "scenes": slice(2, 3), "sounds": slice(3, 6)}
    for name, group in groups.items():
        accepted = found["accepted"][:, group]
        np.testing.assert_array_equal(found[f"accepted_{name}"], accepted.sum(axis=1))
        assert (found[f"requests_{name}"] == accepted.shape[1]).all()


# ---- invariants --------------------------------------------------------------------------------


def random_batch(size, seed, width=4):
    """``(env, params, slots, actions)``: requests that meet on few servers, in float64."""
    rng = np.random.default_rng(seed)
    scenario = oracle.Scenario()
    env, params = jaxenv.make("services", dtype="float64")
    slots = stacked([as_slot(oracle.random_slot(scenario, rng), np.float64) for _ in range(size)])
    actions = np.array([oracle.random_actions(scenario, rng) for _ in range(size)], np.int32)
    actions[..., 2] = rng.integers(width, size=(size, 8))
    return env, params, slots, actions, rng


OWN = ("accepted", "late", "memory_reject", "delay_s", "accuracy", "cost_rou", "cost_cmp")


def test_later_requests_change_nothing():
    with jax.enable_x64(True):
        env, params, slots, actions, rng = random_batch(600, 1)
        u = rng.integers(8, size=600)
        later = np.arange(8) > u[:, None]
        other = np.where(later[..., None], np.roll(actions, 1, axis=0) % [16, 3, 4], actions)
        before, after = (
            jax.device_get(decided(env, params, slots, a.astype(np.int32)))
            for a in (actions, other)
        )
    for name in OWN:
        np.testing.assert_array_equal(before[name][~later], after[name][~later], name)
    assert (before["delay_s"][later] != after["delay_s"][later]).mean() > 0.5


def test_leaving_for_an_empty_server_hurts_nobody_else():
    """No other request is rejected or later, up to the first that is newly accepted.

    That one then takes the place, and what follows on its server may fare worse.
    """
    with jax.enable_x64(True):
        env, params, slots, actions, rng = random_batch(600, 2, width=3)
        u = rng.integers(8, size=600)
        moved = actions.copy()
        moved[np.arange(600), u, 2] = rng.integers(3, 16, size=600)
        before, after = (jax.device_get(decided(env, params, slots, a)) for a in (actions, moved))
    others = np.arange(8) != u[:, None]
    gained = after["accepted"] & ~before["accepted"] & others
    until = np.cumsum(gained, axis=1) - gained == 0
    helped = others & until
    assert (after["accepted"] >= before["accepted"])[helped].all()
    assert (after["delay_s"] <= before["delay_s"] + 1e-12)[helped].all()
    sooner = (after["delay_s"] < before["delay_s"] - 1e-9) & helped
    assert sooner.any(axis=1).mean() > 0.3 and gained.any(axis=1).mean() > 0.03
    assert (after["delay_s"] > before["delay_s"] + 1e-9)[others].any()


def test_the_reward_is_the_sum_of_its_parts():
    with jax.enable_x64(True):
        env, params, slots, actions, _ = random_batch(600, 4)
        found = jax.device_get(decided(env, params, slots, actions))
    parts, ok = found["reward_parts"], found["accepted"]
    np.testing.assert_allclose(parts.sum(axis=1), found["reward"], rtol=1e-12)
    accuracy = np.where(ok, found["accuracy"], -100).sum(axis=1)
    cost = np.where(ok, found["cost_rou"] + found["cost_cmp"], 0).sum(axis=1) + found["cost_mem"]
    delay = np.where(ok, found["delay_s"], 0).sum(axis=1)
    np.testing.assert_allclose(parts, np.stack([accuracy, -delay, -cost], 1), rtol=1e-12)
    by_agent = found["agent_parts"]
    np.testing.assert_allclose(by_agent.sum(axis=1), parts, rtol=1e-12)
    np.testing.assert_array_equal(by_agent[..., 0], np.where(ok, found["accuracy"], -100))
    np.testing.assert_array_equal(by_agent[..., 1], np.where(ok, -found["delay_s"], 0))
    np.testing.assert_array_equal(found["late"] | found["memory_reject"], ~ok)
    assert not (found["late"] & found["memory_reject"]).any()


def idle_slot(env, **changes):
    """Free servers, requests of 8 MB at server 0 with 1000 s to spare."""
    n, k, dtype = env.num_agents, env.num_servers, env.float_dtype
    slot = Slot(
        local_server=np.zeros(n, np.int32),
        deadline_s=np.full(n, 1000, dtype),
        data_mb=np.full(n, 8, dtype),
        system_tflop=np.full(k, 0.25, dtype),
        used_mb=np.zeros(k, dtype),
    )
    return slot.replace(**changes)


@pytest.mark.quick
def test_sharing_a_model_saves_its_memory_once():
    with jax.enable_x64(True):
        env, params = jaxenv.make("services", dtype="float64")
        apart = np.array([(15, 2, k) for k in range(8)], np.int32)
        shared, alike = apart.copy(), apart.copy()
        shared[1, 2] = 0  # of the same service: one instance
        alike[4, 2] = 0  # of the other service: two
        slots = stacked([idle_slot(env)] * 3)
        found = jax.device_get(decided(env, params, slots, np.stack([apart, shared, alike])))
    assert found["accepted"].all()
    cost = found["cost_mem"]
    every = 0.016 * 4 * (380.91 + 216.95) / 1024
    np.testing.assert_allclose(cost[0], every, rtol=1e-12)
    np.testing.assert_allclose(cost[0] - cost[1], 0.016 * 380.91 / 1024, rtol=1e-12)
    np.testing.assert_allclose(cost[2], cost[0], rtol=1e-12)


def test_equality_is_in_time_and_fits():
    """A deadline that is met to the last bit, and 128 + 8 MB into 1024 - 888 MB, but not 8 more."""
    env, params = jaxenv.make("services", model_mb=128.0, size_factor=1.0, memory_gb=1.0)
    action = np.array([(0, 0, k) for k in range(8)], np.int32)
    slot = idle_slot(env)
    delay = np.asarray(decided(env, params, stacked([slot]), action[None])["delay_s"][0])
    below = np.nextafter(delay, np.float32(0))
    used = np.full(16, 888, np.float32)
    slots = [
        slot.replace(deadline_s=delay, used_mb=used),
        slot.replace(deadline_s=below),
        slot.replace(used_mb=used + np.float32(2**-10)),
        slot.replace(used_mb=used),
    ]
    together = np.where(np.arange(8)[:, None] == 1, action[0], action)  # the second with the first
    found = decided(env, params, stacked(slots), np.stack([action] * 3 + [together]))
    alike = np.repeat([[True], [False], [False]], 8, 1)
    np.testing.assert_array_equal(found["accepted"][:3], alike)
    np.testing.assert_array_equal(found["late"][:3], np.repeat([[False], [True], [False]], 8, 1))
    np.testing.assert_array_equal(found["accepted"][3], np.arange(8) != 1)
    assert not found["late"][3].any()


@pytest.mark.parametrize("memory_gb", [4.0, 4.8e5])
def test_what_a_service_does_not_have_is_never_admitted(memory_gb):
    """Not with any time, and not in as much memory as a server may have."""
    _, env, params = three_services()
    params = params.replace(memory_gb=jnp.full(5, memory_gb))
    joint = np.indices((5, 4, 5)).reshape(3, -1).T.astype(np.int32)
    actions = np.repeat(joint[:, None], 6, axis=1)
    slot = idle_slot(env, deadline_s=np.full(6, 1e30, np.float32))
    slot = slot.replace(data_mb=np.array([2, 2, 1, 0.5, 0.5, 0.5], np.float32))
    found = jax.device_get(decided(env, params, stacked([slot] * len(joint)), actions))
    configs, models = np.repeat([(3, 2), (5, 4), (2, 1)], (2, 1, 3), axis=0).T
    exists = (actions[..., 0] < configs) & (actions[..., 1] < models)
    np.testing.assert_array_equal(found["accepted"], exists)
    assert all(np.isfinite(x).all() for x in found.values())


# ---- draws -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn():
    """The slots of 500 episodes of 12 slots."""
    env, params = jaxenv.make("services")

    def one(key):
        def turn(state, _):
            action = jnp.zeros((8, 3), jnp.int32)
            return env.transition(state, action, params)[1], state.slot

        return jax.lax.scan(turn, env.reset_env(key, params), None, length=12)[1]

    return jax.device_get(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(7), 500)))


def test_ranges_and_frequencies(drawn):
    counts = np.stack([(drawn.local_server == k).mean(axis=(0, 1)) for k in range(16)])
    np.testing.assert_allclose(counts, 1 / 16, atol=0.015)
    for agents, service in ((slice(0, 4), oracle.detection()), (slice(4, 8), oracle.tracking())):
        limits = drawn.deadline_s[..., agents]
        assert set(np.unique(limits)) == set(np.float32(service.limits_s))
        for limit in service.limits_s:
            np.testing.assert_allclose(
                (limits == np.float32(limit)).mean(axis=(0, 1)),
                1 / len(service.limits_s),
                atol=0.03,
            )
    uniform = {
        "detection": (drawn.data_mb[..., :4] - 1) / 9,
        "tracking": (drawn.data_mb[..., 4:] - 5) / 15,
        "work": (drawn.system_tflop - 0.1) / 0.2,
        "memory": (drawn.used_mb - 100) / 800,
    }
    for name, u in uniform.items():
        assert u.min() >= -1e-6 and u.max() <= 1 + 1e-6, name
        shares = np.histogram(u, bins=10, range=(-1e-6, 1 + 1e-6))[0] / u.size
        np.testing.assert_allclose(shares, 0.1, atol=0.01, err_msg=name)


def test_requests_arrive_as_often_as_the_weights_say():
    """2 to 0 to 1 to 5, whatever their sum; a server of weight 0 gets none."""
    env, params = jaxenv.make("services", num_servers=4, local_weight=[2, 0, 1, 5])
    draw = jax.vmap(lambda key: env.reset_env(key, params).slot.local_server)
    where = np.asarray(draw(jax.random.split(jax.random.key(2), 2000)))
    shares = np.bincount(where.ravel(), minlength=4) / where.size
    np.testing.assert_allclose(shares, np.array([2, 0, 1, 5]) / 8, atol=0.015)
    assert shares[1] == 0
    none = [_weighted(jnp.float32([u]), jnp.float32([0, 3, 0, 1, 0]))[0] for u in (0, 0.74, 0.75)]
    assert none == [1, 1, 3]


def test_draws_are_independent(drawn):
    """Between quantities, agents and servers of a slot, and between slots."""
    fields = (drawn.local_server, drawn.deadline_s, drawn.data_mb)
    fields += (drawn.system_tflop, drawn.used_mb)
    columns = np.concatenate(fields, axis=-1).astype(np.float64)
    now, next_slot = columns[:, :-1].reshape(-1, 56), columns[:, 1:].reshape(-1, 56)
    both = np.corrcoef(np.concatenate([now, next_slot], axis=1).T)
    assert np.abs(both - np.eye(112)).max() < 0.075  # 5.5 deviations of 5500 pairs


def second_slot(env, params, action):
    state = env.reset_env(jax.random.key(3), params)
    return env.step_env(state.key, state, action, params)[0].slot


def test_more_agents_meet_the_same_servers():
    slots = []
    for n in (8, 10, 3):
        env, params = jaxenv.make("services", num_agents=n)
        action = jnp.zeros((n, 3), jnp.int32)
        slots.append(jax.jit(second_slot, static_argnums=0)(env, params, action))
    first, *others = slots
    for other in others:
        np.testing.assert_array_equal(first.system_tflop, other.system_tflop)
        np.testing.assert_array_equal(first.used_mb, other.used_mb)
        np.testing.assert_array_equal(first.local_server[:3], other.local_server[:3])
    np.testing.assert_array_equal(first.data_mb[:4], others[0].data_mb[:4])
    np.testing.assert_array_equal(first.deadline_s[:4], others[0].deadline_s[:4])


# ---- metrics, observations, masks --------------------------------------------------------------


def test_metrics_of_an_episode():
    """Every metric against sums over the slow version, single agents included."""
    length = 40
    with jax.enable_x64(True):
        env, params = jaxenv.make(
            "services", dtype="float64", agent_metrics=True, preset="percent", max_steps=length
        )
        scenario, rng = oracle.Scenario(preset="percent"), np.random.default_rng(5)
        actions = np.array([crowded_actions(scenario, rng) for _ in range(length)])

        def turn(state, action):
            _, after, reward, _, truncated, info = env.transition(state, action, params)
            return after, (state.slot, truncated, info | {"reward": reward})

        start = env.reset_env(jax.random.key(1), params)
        play = jax.jit(lambda state: jax.lax.scan(turn, state, actions)[1])
        slots, truncated, info = jax.device_get(play(start))
    np.testing.assert_array_equal(truncated, np.arange(length) == length - 1)
    results = []
    for t in range(length):
        slot = jax.tree.map(lambda leaf: leaf[t].tolist(), slots)  # noqa: B023
        slot = oracle.Slot(
            slot.local_server, slot.deadline_s, slot.data_mb, slot.system_tflop, slot.used_mb
        )
        results.append(oracle.play(scenario, slot, actions[t].tolist()))

    accepted = np.array([r.accepted for r in results])
    total = lambda name: sum(getattr(r, name) for r in results)  # noqa: E731
    share = lambda name: 100 * np.mean([getattr(r, name) for r in results])  # noqa: E731
    expected = {
        "reward": total("r"),
        "accuracy": total("r1"),
        "delay_s": -total("r2"),
        "cost_usd": -total("r3"),
        "failure_rate": 100 * (1 - accepted.mean()),
        "late_rate": share("late"),
        "memory_rate": share("memory_reject"),
        "doubling": 100 * np.mean([oracle.doubling(a.tolist()) for a in actions]),
    }
    groups = {"detection": slice(0, 4), "tracking": slice(4, 8)}
    groups |= {f"agent{i}": slice(i, i + 1) for i in range(8)}
    own = {
        "accuracy": np.array([r.accuracy for r in results]) / 100,
        "delay_s": np.array([r.delay_s for r in results]),
        "cost_usd": np.array([np.add(r.cost_rou, r.cost_cmp) for r in results]),
    }
    for name, group in groups.items():
        ok = accepted[:, group]
        expected[f"failure_rate_{name}"] = 100 * (1 - ok.mean())
        for quantity, values in own.items():
            expected[f"{quantity}_{name}"] = values[:, group][ok].mean()
    assert [metric.name for metric in env.metrics] == list(expected)
    for metric in env.metrics:
        over = {"sum": 1, "mean": length}.get(metric.pool)
        value = info[metric.of].sum() / (info[metric.over].sum() if over is None else over)
        np.testing.assert_allclose(
            metric.scale * value, expected[metric.name], rtol=1e-9, err_msg=metric.name
        )
    without = jaxenv.make("services")[0].metrics
    assert without == env.metrics[: len(without)] and len(without) == 16


@pytest.mark.quick
@pytest.mark.parametrize("unequal", [False, True])
def test_layout_of_observations_and_of_the_global_state(unequal):
    if unequal:
        scenario, env, params = three_services()
    else:
        scenario, (env, params) = oracle.Scenario(), jaxenv.make("services")
    slot = oracle.random_slot(scenario, np.random.default_rng(0))
    state = ServicesState(key=jax.random.key(0), time=jnp.int32(0), slot=as_slot(slot, np.float32))
    k, n = scenario.servers, len(scenario.owner)
    rates = link_matrix(scenario)
    links = [rates[i, j] / 400 for i in range(k) for j in range(i + 1, k)]
    shared = [*(x / 0.3 for x in slot.busy_tflop), *(x / 900 for x in slot.busy_mb), *links]
    rows = [
        [*(float(slot.local[u] == i) for i in range(k)), slot.limit_s[u] / 25, slot.data_mb[u] / 20]
        for u in range(n)
    ]
    found = env.observe(state, params)
    np.testing.assert_allclose(found, [row + shared for row in rows], rtol=1e-6)
    assert found.shape == (n, *env.observation_space.shape) and found.dtype == np.float32
    assert sum(env.observation_groups) == found.shape[1]
    services = np.eye(env.num_services)[scenario.owner].tolist()
    whole = [x for row, one in zip(rows, services, strict=True) for x in (*row, *one)] + shared
    found = env.global_state(state, params)
    np.testing.assert_allclose(found, whole, rtol=1e-6)
    assert n * env.state_row + sum(env.state_groups) == len(found)
    if not unequal:
        assert (env.observation_space.shape, len(found)) == ((170,), 312)


@pytest.mark.quick
def test_masks():
    env, params = jaxenv.make("services")
    state = ServicesState(key=jax.random.key(0), time=jnp.int32(0), slot=idle_slot(env))
    expected = np.zeros((8, 3, 16), bool)
    expected[:, 0], expected[:, 2] = True, True
    expected[:4, 1, :4] = expected[4:, 1, :3] = True
    np.testing.assert_array_equal(env.action_mask(state, params), expected)
    _, env, params = three_services()
    counts = np.repeat([(3, 2, 5), (5, 4, 5), (2, 1, 5)], (2, 1, 3), axis=0)
    np.testing.assert_array_equal(env.action_mask(state, params), np.arange(5) < counts[..., None])


# ---- the contract ------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"num_agents": 10, "agent_metrics": True}, None], ids=str)
def test_contract(options):
    env, params = three_services()[1:] if options is None else jaxenv.make("services", **options)
    check_environment(env, params, num_steps=6, num_envs=2)
