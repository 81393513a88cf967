"""Expected values of the default scenario: both presets, 8 and 10 agents, 10 episodes each."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxenv
from agents import registry
from agents.learner import rollout
from jaxenv.services import PRESETS

OPTIMIZED = True
EPISODES = 10
# reward, its standard deviation between episodes, accuracy, cost $, delay s, failures %
EXPECTED = {
    (8, "literal"): {
        "Random": (-29156, 1172, -27744, 56.1, 1356, 35.0),
        "Heuristic": (-7486, 1029, -6909, 9.4, 568, 9.1),
        "PriceTable": (-581, 211, None, None, None, 0.54),
        "SeqGreedy": (-104.4, 1.8, 428, 12.8, 520, 0),
        "CoordDescent": (-97.6, 2.1, 431, 10.9, 518, 0),
        "bound": (-70.1, 2.9),
    },
    (8, "percent"): {
        "Random": (-4774, 2220, -3362, 56.1, 1356, 35.0),
        "Heuristic": (49636, 1757, 51989, 28.2, 2325, 13.7),
        "PriceTable": (66108, 631, None, None, None, 0.64),
        "SeqGreedy": (68479, 433, 70941, 43.0, 2420, 0),
        "CoordDescent": (68671, 411, 71143, 42.1, 2429, 0),
        "bound": (68852, 397),
    },
    (10, "literal"): {
        "Random": (-37874, 1554, -36099, 69.0, 1706, 36.4),
        "Heuristic": (-11330, 1157, -10586, 11.2, 733, 11.1),
        "PriceTable": (-592, 199, None, None, None, 0.37),
        "SeqGreedy": (-143.4, 4.7, 533, 16.3, 660, 0),
        "CoordDescent": (-133.3, 4.9, 537, 13.9, 656, 0),
        "bound": (-87.1, 4.7),
    },
    (10, "percent"): {
        "Random": (-8083, 2203, -6308, 69.0, 1706, 36.4),
        "Heuristic": (56293, 1560, 59189, 33.6, 2863, 16.8),
        "PriceTable": (81511, 909, None, None, None, 0.90),
        "SeqGreedy": (85300, 568, 88375, 57.3, 3018, 0),
        "CoordDescent": (85560, 562, 88646, 56.5, 3030, 0),
        "bound": (85870, 548),
    },
}
QUICK = ("Random", "Heuristic", "SeqGreedy")
SLOW = ("PriceTable", "CoordDescent")
CASES = [
    pytest.param(agents, name, marks=[pytest.mark.deep] if agents == 10 or name in SLOW else [])
    for agents in (8, 10)
    for name in QUICK + SLOW
]


@functools.cache
def measured(agents, name):
    """Means over episodes by preset and metric, and rewards and bounds ``[preset, episode]``."""
    env, params = jaxenv.make("services", num_agents=agents)
    policy, bound = registry.baseline(name, env), registry.bound(env)

    def run(acc_scale):
        scenario = params.replace(acc_scale=acc_scale)
        return rollout(env, scenario, policy, jax.random.key(2025), EPISODES, bound)

    terms = jax.device_get(jax.jit(jax.vmap(run))(jnp.array(list(PRESETS.values()))))
    means = [
        {m: np.sum(x[i]) / np.sum(terms.denominator[m][i]) for m, x in terms.numerator.items()}
        for i in range(len(PRESETS))
    ]
    return dict(zip(PRESETS, means, strict=True)), terms.numerator["reward"], terms.bound[0]


def within(value, expected, deviation):
    """Whether means over 10 and `EPISODES` episodes agree to three standard deviations."""
    return abs(value - expected) <= 3 * deviation * np.sqrt(1 / 10 + 1 / EPISODES)


@pytest.mark.parametrize(("agents", "name"), CASES)
def test_expected_values(agents, name):
    means, rewards, bounds = measured(agents, name)
    assert (rewards < bounds).all()
    for i, (preset, found) in enumerate(means.items()):
        rows = EXPECTED[agents, preset]
        reward, deviation, accuracy, cost, delay, failures = rows[name]
        assert within(bounds[i].mean(), *rows["bound"])
        if name == "PriceTable":  # another fit has other prices: .3 to 1.05 % by its seed
            assert found["failure_rate"] <= 1.5
            assert rows["Heuristic"][0] + 3 * rows["Heuristic"][1] < found["reward"]
            assert found["reward"] < rows["SeqGreedy"][0] - 3 * rows["SeqGreedy"][1]
            continue
        assert within(found["reward"], reward, deviation)
        np.testing.assert_allclose(found["accuracy"], accuracy, atol=3 * deviation)
        np.testing.assert_allclose(found["cost_usd"], cost, rtol=0.06)
        np.testing.assert_allclose(found["delay_s"], delay, rtol=0.04)
        np.testing.assert_allclose(found["failure_rate"], failures, atol=1.5 if failures else 0)


@pytest.mark.parametrize("agents", [8, pytest.param(10, marks=pytest.mark.deep)])
def test_order(agents):
    """Who communicates earns more, in every episode of both presets."""
    random, heuristic, greedy = (measured(agents, name)[1] for name in QUICK)
    assert (random < heuristic).all() and (heuristic < greedy).all()


@pytest.mark.deep
@pytest.mark.parametrize("agents", [8, 10])
def test_order_of_the_yardsticks(agents):
    heuristic, greedy, prices, descent = (
        measured(agents, name)[1] for name in ("Heuristic", "SeqGreedy", *SLOW)
    )
    assert (heuristic.mean(axis=1) < prices.mean(axis=1)).all()
    assert (prices.mean(axis=1) < greedy.mean(axis=1)).all()
    assert (greedy < descent).all()
