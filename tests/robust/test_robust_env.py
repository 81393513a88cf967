"""Robust partitioning as an environment: check values, a slow observation, baselines, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxenv
from agents.baselines import robust as baselines
from agents.learner import pool, rollout
from allocators import certificate, robust
from jaxenv.errors import ConfigError
from jaxenv.robust import NUM_DRAWS, Robust, RobustState
from jaxenv.testing import check_environment
from runs.settings import check_baselines
from tests.oracles import robust as oracle
from tests.scenarios import check_leaves_are

DEVICES = 3
ENV = Robust(max_devices=DEVICES, certify=True)
PARAMS = ENV.default_params()
MODELS = ("alexnet", "resnet152")


def state_of(models, r, B, D, eps):
    """A state whose instance has the given devices, padded to `DEVICES`."""
    ids = np.array([MODELS.index(model) for model in models])
    r = jnp.asarray(r, jnp.float32)
    instance = robust.make_instance(ids, r, B, D, eps, n_max=DEVICES)
    key = jax.random.key(0)
    bmin = robust.bmin_table(instance)
    return RobustState(key=key, time=jnp.int32(0), instance=instance, bmin_mhz=bmin)


step = jax.jit(lambda state, action: ENV.step_env(jax.random.key(1), state, action, PARAMS))
observe = jax.jit(lambda state: (ENV.observe(state, PARAMS), ENV.action_mask(state, PARAMS)))
V1 = (["alexnet"] * 3, [50.0, 100.0, 200.0], 3.0, 0.18, 0.02)
V3 = (["alexnet"] * 2, [80.0, 160.0], 2.0, 0.2, 0.04)


@pytest.mark.quick
def test_the_published_scenario():
    """AlexNet and ResNet152: 10 and 30 MHz for 12 devices, deadlines in ms."""
    env, params = jaxenv.make("robust")
    assert (env.max_devices, env.mode) == (12, "common")
    check_leaves_are(
        params,
        max_steps=32,
        num_devices=12,
        resnet_share=0,
        deadline_range_s=1e-3 * np.array([[160, 280], [120, 180]]),
        risk_range=[0.02, 0.08],
        bandwidth_per_device_mhz=[10 / 12, 30 / 12],
        half_side_m=200,
        power_w=1,
        gain_db=0,
        vm_scale=1,
        vm_cv=0.1,
        num_points=[9, 10],
        frequency_ghz=[[0.1, 1.2], [0.2, 0.8]],
        kappa=[0.8, 2.8],
    )


@pytest.mark.parametrize("mode", ["common", "mixed"])
def test_contract(mode):
    env = Robust(max_devices=2, mode=mode)
    params = env.default_params().replace(resnet_share=jnp.float32(0.5))
    check_environment(env, params, num_steps=8, num_envs=2)


def test_contract_of_infeasible_instances():
    """No bandwidth suffices for deadlines of 50 ms: the least one is infinite, the rest finite."""
    env = Robust(max_devices=2)
    short = env.default_params().replace(deadline_range_s=jnp.full((2, 2), 0.05, jnp.float32))
    env.validate(short)
    check_environment(env, short, num_steps=6, num_envs=2)


@pytest.mark.quick
def test_an_infeasible_decision_costs_no_less_than_a_feasible_one():
    """Published: 1 J. With 20 W/GHz^3 the whole of AlexNet at 1.2 GHz, 28 ms of sending at 2 W."""
    env, params = jaxenv.make("robust")
    assert env.penalty_j(params) == 1 and env.reward_unit(params) == 12
    dear = params.replace(kappa=jnp.float32([20, 0.1]), power_w=jnp.float32(2))
    work = float(params.local_gcycle[0, 8])
    expected = 20 * work * 1.2**2 + 2 * 0.28
    assert expected > 2
    np.testing.assert_allclose(env.penalty_j(dear), expected, rtol=1e-6)
    np.testing.assert_allclose(env.reward_unit(dear), 12 * expected, rtol=1e-6)


def test_check_values():
    """V1 at m = 7 and its dual bound; V3 at its optimum, where the bound is tight."""
    following, reward, terminated, info = step(state_of(*V1), jnp.array([7, 7, 7]))
    np.testing.assert_allclose(reward, -0.235352, rtol=1e-5)
    np.testing.assert_allclose(info["energy_j"], 0.235352, rtol=1e-5)
    np.testing.assert_allclose(info["penalized_energy_j"], 0.235352, rtol=1e-5)
    np.testing.assert_allclose(info["lower_bound_j"], 0.235236, rtol=1e-5)
    np.testing.assert_allclose(info["regret"], 0.235352 / 0.235236 - 1, atol=1e-5)
    assert info["feasible"] == 1 and info["decisions"] == 1 and not terminated
    assert not np.array_equal(following.instance.r, state_of(*V1).instance.r)
    least = robust.bmin_table(following.instance)
    np.testing.assert_allclose(following.bmin_mhz, least, rtol=2e-6)  # compiled differently
    _, reward, _, info = step(state_of(*V3), jnp.array([7, 7, 9]))
    np.testing.assert_allclose(reward, -0.0984111, rtol=1e-5)
    np.testing.assert_allclose(info["lower_bound_j"], 0.0984111, rtol=1e-5)
    assert 0 <= info["regret"] < 1e-5


def test_infeasible_decisions_and_instances():
    """1 J per device; the bound stays where only the decision is at fault."""
    late = step(state_of(*V1), jnp.array([1, 7, 7]))
    assert late[1] == -3 and late[3]["feasible"] == 0 and late[3]["regret"] == 0
    assert late[3]["energy_j"] == 0
    np.testing.assert_allclose(late[3]["lower_bound_j"], 0.235236, rtol=1e-5)
    models, r, _, D, eps = V3
    none = step(state_of(models, r, 0.1, D, eps), jnp.array([7, 7, 0]))
    assert none[1] == -2 and none[3]["penalized_energy_j"] == 2
    assert none[3]["lower_bound_j"] == 0 and none[3]["regret"] == 0
    assert late[3]["solvable"] and not none[3]["solvable"]
    needed = oracle.least_bandwidth(oracle.make("alexnet", r, 1e3, D, eps)).min(1).sum()
    roomy = step(state_of(*V3), jnp.array([7, 7, 0]))[3]
    np.testing.assert_allclose(roomy["b_min_total_mhz"], needed, rtol=1e-5)


@pytest.mark.quick
def test_observation_and_mask_equal_a_slow_version():
    """One AlexNet and one ResNet device with their own deadlines and risks, and one padded."""
    r, B = [90.0, 150.0], 4.0
    D, eps = np.array([0.2, 0.15]), np.array([0.03, 0.06])
    found, mask = observe(state_of(MODELS, r, B, D, eps))
    expected = np.zeros((DEVICES, 49))
    allowed = np.zeros((DEVICES, 10), bool)
    total = 0.0
    for n, model in enumerate(MODELS):
        q = oracle.make(model, r[n : n + 1], B, D[n], eps[n])
        bmin = oracle.least_bandwidth(q)[0]
        total += bmin.min()
        sigma = np.sqrt((1 - eps[n]) / eps[n])
        head = [
            np.log10(q.P[0, 0]) / 5,
            D[n] / 0.2,
            eps[n] / 0.05,
            sigma / 5,
            model == "alexnet",
            1,
        ]
        expected[n, :6] = head
        for m in range(10):
            numbers = [0, 0, -2, 4]
            if m < q.c.shape[1]:
                numbers = [
                    q.c[0, m] / (0.1 * q.fmax[0, m]),
                    q.d[0, m] / 5,
                    np.clip(q.T[0, m] / 0.2, -2, 2),
                    min(bmin[m] * 2 / B, 4),
                ]
                allowed[n, m] = bmin[m] <= B
            expected[n, 6 + 4 * m : 10 + 4 * m] = numbers
    expected[2, 6:46] = [0, 0, -2, 4] * 10
    allowed[2, 0] = True
    expected[:, 46:] = [B / 2, min(total / B, 4), 2 / 30]
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_array_equal(mask, allowed)


def test_distribution():
    """Distances, deadlines, risks and bandwidths stay in their ranges; most draws are feasible."""
    env = Robust(max_devices=4, mode="mixed")
    params = env.default_params().replace(
        resnet_share=jnp.float32(0.5), num_devices=jnp.int32(3), half_side_m=jnp.float32(100)
    )
    sample = jax.jit(jax.vmap(lambda key: env.sample_instance(key, params)))
    insts = sample(jax.random.split(jax.random.key(3), 256))
    np.testing.assert_array_equal(insts.mask_n, np.tile([True] * 3 + [False], (256, 1)))
    resnet = np.asarray(insts.model_id == 1)
    assert 0.4 < resnet.mean() < 0.6
    first, last = (np.where(resnet, *ends) for ends in ((0.12, 0.16), (0.18, 0.28)))
    deadline = np.asarray(insts.D)
    assert np.all(deadline >= first - 1e-6) and np.all(deadline <= last + 1e-6)
    assert np.all((insts.eps >= 0.02) & (insts.eps <= 0.08)) and np.std(insts.eps, axis=1).min() > 0
    B = np.where(resnet, 2.5, 10 / 12)[:, :3].sum(1)
    np.testing.assert_allclose(insts.B, B, rtol=1e-6)
    assert np.all(insts.r <= 100 * np.sqrt(2)) and np.all(insts.r >= 1)
    assert np.mean(jax.vmap(robust.feasible)(insts)) > 0.95
    quantities = [insts.eps, (deadline - first) / (last - first), insts.r, resnet]
    quantities = np.stack([np.asarray(x)[:, :3].ravel() for x in quantities])
    assert np.abs(np.corrcoef(quantities) - np.eye(4)).max() < 0.15  # four deviations


def test_common_instances_have_one_risk_and_one_place_of_the_deadline():
    env = Robust(max_devices=4)
    params = env.default_params().replace(resnet_share=jnp.float32(0.5))
    insts = jax.vmap(lambda key: env.sample_instance(key, params))(
        jax.random.split(jax.random.key(4), 64)
    )
    eps, resnet = np.asarray(insts.eps), np.asarray(insts.model_id == 1)
    np.testing.assert_array_equal(eps, eps[:, :1] * np.ones(4, np.float32))
    place = np.where(resnet, (insts.D - 0.12) / 0.06, (insts.D - 0.16) / 0.12)
    np.testing.assert_allclose(place, place[:, :1] * np.ones(4), atol=1e-5)
    assert np.std(eps[:, 0]) > 0.01 and np.std(place[:, 0]) > 0.2


def test_where_no_draw_is_feasible_the_first_one_stays():
    """With a thousandth of the bandwidth; with enough, the first draw is the one."""
    env = Robust(max_devices=2)
    key, params = jax.random.key(6), env.default_params()
    scarce = params.replace(bandwidth_per_device_mhz=params.bandwidth_per_device_mhz / 1000)
    first = env._draw(jax.random.split(key, NUM_DRAWS)[0], scarce)
    found = env.sample_instance(key, scarce)
    assert not robust.feasible(found)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), found, first)


def test_the_first_feasible_draw_is_the_one():
    """Beside a padded device, in a band for which few draws are feasible; else the first one."""
    env = Robust(max_devices=2)
    params = env.default_params().replace(num_devices=jnp.int32(1))
    params = params.replace(bandwidth_per_device_mhz=params.bandwidth_per_device_mhz * 0.3)

    @jax.jit
    @jax.vmap
    def run(key):
        draws = jax.vmap(lambda key: env._draw(key, params))(jax.random.split(key, NUM_DRAWS))
        least = jax.vmap(robust.bmin_table)(draws)[:, 0].min(axis=-1)
        return draws, least <= draws.B, env.sample_instance(key, params)

    draws, feasible, found = jax.device_get(run(jax.random.split(jax.random.key(0), 16)))
    first = feasible.argmax(axis=1)
    assert first.max() > 0 and feasible.any(axis=1).mean() > 0.5
    expected = jax.tree.map(lambda x: x[np.arange(16), first], draws)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), found, expected)


def test_the_unit_of_the_reward_is_the_penalty():
    params = PARAMS.replace(num_devices=jnp.int32(2))
    assert float(ENV.reward_unit(params)) == 2.0


NAMES = (
    "AllEdge",
    "AllLocal",
    "LeastBandwidth",
    "BestCommon",
    "WorstCase",
    "EqualShare",
    "Algorithm2",
    "ExactStep",
    "Certified",
    "Exhaustive",
)


@pytest.fixture(scope="module")
def costs():
    """Penalised energies of every baseline on 32 instances of 3 devices, and the bounds."""
    env = Robust(max_devices=DEVICES)
    params = env.default_params().replace(resnet_share=jnp.float32(0.5))

    @jax.jit
    @jax.vmap
    def of(key):
        _, state = env.reset(key, params)
        mask, observation = env.action_mask(state, params), env.observe(state, params)
        policies = [baselines.RandomAvailable(env)] + [getattr(baselines, n)(env) for n in NAMES]
        actions = [p.act((), key, observation, mask, state, params)[0] for p in policies]
        alloc = jax.vmap(lambda m: robust.allocate(state.instance, m))(jnp.stack(actions))
        proof = certificate.solve(state.instance)[1]
        allowed = [mask[jnp.arange(DEVICES), m].all() for m in actions]
        return jnp.where(alloc.feasible, alloc.E, DEVICES), proof.lb, jnp.stack(allowed)

    energies, lower, allowed = of(jax.random.split(jax.random.key(5), 32))
    names = ("RandomAvailable", *NAMES)
    energies = dict(zip(names, np.asarray(energies).T, strict=True))
    return energies, np.asarray(lower), dict(zip(names, np.asarray(allowed).T, strict=True))


def test_order_of_baselines(costs):
    """The bound is below all, the certified answer at most 0.1 % above any; the rest as known."""
    energies, lower, allowed = costs
    assert np.all(np.isfinite(lower))
    for energy in energies.values():
        assert np.all(lower <= energy * (1 + 1e-6))
        assert np.all(energies["Certified"] <= energy * 1.001)
        assert np.all(energies["Exhaustive"] <= energy * (1 + 2e-6))
    assert np.mean(energies["Certified"] <= energies["Exhaustive"] * (1 + 2e-6)) >= 0.99
    assert np.all(energies["Certified"] <= energies["Algorithm2"] * (1 + 2e-6))
    mean = {name: energy.mean() for name, energy in energies.items()}
    names = ("RandomAvailable", *NAMES[:-2])
    assert all(mean["Certified"] < mean[name] for name in names if name != "ExactStep")
    assert mean["ExactStep"] <= mean["LeastBandwidth"] * (1 + 1e-6)
    assert mean["Algorithm2"] <= mean["LeastBandwidth"] * (1 + 1e-6)
    assert np.all(energies["BestCommon"] <= energies["AllLocal"] * (1 + 1e-6))
    assert np.all(energies["LeastBandwidth"] < DEVICES)
    for name in ("RandomAvailable", "LeastBandwidth", "Algorithm2", "ExactStep", *NAMES[-2:]):
        assert np.all(allowed[name]), name


def test_alone_an_equal_share_is_the_whole_band_and_the_partition_the_best():
    env = Robust(max_devices=1)
    params = env.default_params()

    @jax.jit
    @jax.vmap
    def compare(key):
        _, state = env.reset(key, params)
        point = baselines.EqualShare(env).decide(state)
        best = robust.exhaustive(state.instance)
        return robust.allocate(state.instance, point).E, best.E, best.feasible

    own, best, feasible = compare(jax.random.split(jax.random.key(6), 32))
    assert np.mean(feasible) > 0.9
    np.testing.assert_allclose(own[feasible], best[feasible], rtol=1e-5)


def test_planning_for_mean_times_is_right_where_nothing_varies():
    """Its partition of an instance is the best one of the same instance without any variance."""
    env = Robust(max_devices=2)
    params = env.default_params()

    @jax.jit
    @jax.vmap
    def compare(key):
        _, state = env.reset(key, params)
        nothing = jnp.zeros_like(state.instance.vloc)
        certain = state.instance.replace(vloc=nothing, vvm=nothing)
        planned = robust.allocate(certain, baselines.MeanTime(env).decide(state))
        return planned.E, robust.exhaustive(certain).E

    planned, best = compare(jax.random.split(jax.random.key(7), 16))
    np.testing.assert_allclose(planned, best, rtol=1e-3)


def test_exhaustive_search_is_for_few_devices_and_measured_where_named():
    few, many = Robust(max_devices=5), Robust()
    named = {"baselines": ["Certified", "Exhaustive"]}
    assert check_baselines(named, few) == ("Certified", "Exhaustive")
    for env in (few, many):
        usual = check_baselines({"baselines": None}, env)
        assert "Certified" in usual and "Exhaustive" not in usual
    with pytest.raises(ConfigError, match="^baselines: 'Exhaustive' .* max_devices of at most 5"):
        check_baselines(named, many)


def test_the_allocation_may_be_solved_by_jaxopt(monkeypatch):
    asked, allocate = [], robust.allocate

    def spy(instance, m, backend):
        asked.append(backend)
        return allocate(instance, m, backend)

    monkeypatch.setattr(robust, "allocate", spy)
    env = Robust(max_devices=DEVICES, allocator="jaxopt")
    reward = env.step_env(jax.random.key(1), state_of(*V1), jnp.array([7, 7, 7]), PARAMS)[1]
    np.testing.assert_allclose(reward, -0.235352, rtol=1e-5)
    assert asked == ["jaxopt"]


def test_bound_of_a_rollout():
    """The bound is the same from the environment's certificate and from its own."""
    terms = []
    for certify in (False, True):
        env = Robust(max_devices=2, certify=certify)
        params = env.default_params().replace(max_steps=jnp.int32(3))
        bound = baselines.DualBound(env)
        policy = baselines.LeastBandwidth(env)
        terms.append(rollout(env, params, policy, jax.random.key(2), 8, bound))
    np.testing.assert_allclose(terms[0].bound[0], terms[1].bound[0], rtol=1e-6)
    np.testing.assert_array_equal(terms[1].bound[1], 3)
    assert np.all(terms[1].bound[0] <= terms[1].numerator["penalized_energy_j"] * (1 + 1e-6))
    assert np.all(terms[1].denominator["regret"] == 3)
    np.testing.assert_array_equal(terms[1].denominator["regret_p95"], 3)


@pytest.mark.quick
def test_a_bound_of_nothing_is_a_bound():
    """Work that costs no energy: the optimum is 0 J, and no penalty stands in its place."""
    env = Robust(max_devices=2, certify=True)
    carry = (jnp.float32(0), jnp.float32(0))
    state = env.reset(jax.random.key(0), env.default_params())[1]
    for solvable, bound in ((True, 0.0), (False, 2.0)):
        info = {"lower_bound_j": jnp.float32(0), "solvable": jnp.asarray(solvable)}
        found = baselines.DualBound(env).update(carry, state, None, info, env.default_params())
        assert found == (bound, 1)


def test_the_95th_percentile_of_the_regret_is_over_feasible_decisions():
    regret_p95 = Robust(max_devices=2, certify=True).metrics[-1]
    numerator = np.array([0.0, 1.0, 2.0, 3.0, 50.0])
    feasible = np.array([1.0, 1.0, 1.0, 2.0, 0.0])
    assert pool(regret_p95, numerator, feasible) == pytest.approx(np.quantile([0, 1, 2, 1.5], 0.95))
    both = pool(regret_p95, np.stack([numerator] * 2), np.stack([feasible, 0 * feasible]))
    np.testing.assert_allclose(both, [np.quantile([0, 1, 2, 1.5], 0.95), np.nan])


BAD = [
    ({"max_devices": 0}, "max_devices: 0 is not valid; give an integer of at least 1"),
    ({"max_devices": 2.0}, "max_devices: 2.0"),
    ({"mode": "own"}, "mode: 'own' is not valid; choose one of common, mixed"),
    ({"allocator": "qp"}, "allocator: 'qp' is not valid; choose one of closed, jaxopt"),
    ({"certify": 1}, "certify: 1 is not valid; give true or false"),
    ({"num_devices": 13}, r"num_devices: 13 is not valid; give an integer from 1 to max_devices"),
    ({"resnet_share": 1.5}, "resnet_share: 1.5"),
    ({"risk_range": [0.08, 0.02]}, "risk_range"),
    ({"risk_range": [0.0, 0.02]}, "risk_range"),
    ({"deadline_range_s": [[0.2, 0.1], [0.1, 0.2]]}, "deadline_range_s"),
    ({"half_side_m": -1.0}, "half_side_m: -1.0 is not valid; give positive finite numbers"),
    ({"bandwidth_per_device_mhz": [0.0, 1.0]}, "bandwidth_per_device_mhz"),
    ({"gain_db": float("nan")}, "gain_db: nan"),
    ({"gain_db": -(2**31)}, "signal-to-noise ratio in 1 MHz: '-2.15e.09 dB' is not valid"),
    ({"half_side_m": 1e9}, "signal-to-noise ratio in 1 MHz: '-169 dB'"),
    ({"link_mhz": [5.0, -1.0], "num_links": 2}, "link_mhz: .* give positive finite numbers"),
    ({"vm_scale": -0.5}, "vm_scale: -0.5"),
    ({"vm_cv": -0.5}, "vm_cv: -0.5 is not valid; give finite numbers, 0 or more"),
    ({"max_devices": 0.5}, "max_devices: 0.5"),
    ({"num_links": -1}, "num_links: -1 is not valid; give an integer of at least 0"),
    ({"num_links": 2, "link_mhz": [1.0, 0.0]}, r"link_mhz: \[1.0, 0.0\] .* positive finite"),
    ({"max_steps": 0}, "max_steps: 0"),
    ({"num_devices": 0}, "num_devices: 0 is not valid; give an integer from 1 to max_devices"),
    ({"num_points": [1, 10]}, r"num_points: \[1, 10\] is not valid; give 2 to 10 points"),
    ({"num_points": [9, 11]}, r"num_points: \[9, 11\]"),
    ({"frequency_ghz": [[0.0, 1.0], [0.2, 0.8]]}, "frequency_ghz"),
    ({"frequency_ghz": [[0.1, 1.2], [0.8, 0.2]]}, "frequency_ghz: .* the lower one first"),
    ({"resnet_share": -0.1}, "resnet_share: -0.1"),
    ({"risk_range": [0.02, 1.0]}, "risk_range"),
    ({"deadline_range_s": [[0.0, 0.1], [0.1, 0.2]]}, "deadline_range_s"),
    ({"power_w": 0.0}, "power_w"),
    ({"kappa": [0.8, 0.0]}, "kappa"),
    ({"local_gcycle": -1.0}, "local_gcycle"),
]


@pytest.mark.quick
def test_the_edges_of_what_may_be_drawn_are_accepted():
    """One device, equal ends of every range, no spread of the virtual machine, two points."""
    _, params = jaxenv.make(
        "robust",
        max_devices=1,
        num_devices=1,
        resnet_share=1.0,
        risk_range=[0.05, 0.05],
        deadline_range_s=0.2,
        frequency_ghz=0.8,
        vm_cv=0.0,
        num_points=2,
        max_steps=1,
    )
    assert params.num_points.tolist() == [2, 2] and int(params.max_steps) == 1


@pytest.mark.quick
@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_scenarios_are_refused_in_one_line(options, message):
    with pytest.raises(ConfigError, match=message) as refused:
        jaxenv.make("robust", **options)
    assert "\n" not in str(refused.value)


@pytest.mark.quick
def test_measured_links_take_the_place_of_distances(tmp_path):
    """At the band and the power of the measurement every device has one of the measured rates."""
    path = tmp_path / "links.csv"
    path.write_text("rate [bit/s],bandwidth [Hz]\n3e6,1e6\n2.5e7,5e6\n")
    env, params = jaxenv.make("robust", links=str(path), power_w=0.2, max_devices=6)
    draw = jax.jit(lambda key, params: env.sample_instance(key, params).P)
    seen = np.concatenate([draw(jax.random.key(seed), params) for seed in range(6)])
    expected = np.array([1 * (2**3 - 1), 5 * (2**5 - 1)])  # P = b (2^(R/b) - 1), MHz
    which = seen > 50
    assert 0 < which.sum() < which.size
    np.testing.assert_allclose(seen, expected[which.astype(int)], rtol=1e-5)
    rates = np.array([1, 5])[which.astype(int)]
    rates = rates * np.log2(1 + seen / rates)
    np.testing.assert_allclose(rates, np.array([3, 25])[which.astype(int)], rtol=1e-5)
    stronger = params.replace(power_w=jnp.float32(0.4), gain_db=jnp.float32(10))
    seen = draw(jax.random.key(0), stronger)
    np.testing.assert_allclose(seen, 20 * expected[(seen > 1000).astype(int)], rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rate [bit/s]\n1e6\n", "it lacks the column 'bandwidth [Hz]'"),
        ("rate [Mbit/s],bandwidth [Hz]\n1,1e6\n", "give 'rate [bit/s]'"),
        ("rate [bit/s],bandwidth [Hz]\n1e6,0\n", "bandwidth [Hz]: give positive numbers, not 0"),
        ("rate [bit/s],bandwidth [Hz]\n1e6,wide\n", "line 2, bandwidth [Hz]: 'wide'"),
        ("rate [bit/s],bandwidth [Hz]\n", "no rows"),
    ],
)
def test_bad_links_are_refused(tmp_path, text, words):
    path = tmp_path / "links.csv"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        jaxenv.make("robust", links=str(path))
    assert str(refused.value).startswith("links: ") and words in str(refused.value)
    assert "\n" not in str(refused.value)
