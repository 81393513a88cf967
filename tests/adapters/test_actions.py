"""Other actions for libraries that know only Discrete ones, and what needs no client at all."""

from __future__ import annotations

import itertools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxenv
from agents.learner import Policy, evaluate, summarize
from agents.streaming import measure
from jaxenv import ConfigError, struct
from jaxenv.adapters import LIBRARIES
from jaxenv.adapters.actions import (
    FlatActions,
    SequentialActions,
    ValidActions,
    chooser,
    next_valid,
    unwrapped,
)
from jaxenv.adapters.prepare import Adapted, needs, prepare
from jaxenv.environment import Constraint
from jaxenv.testing import check_environment
from tests.probes import MovingTeam, Team
from tests.toy_environments import LEFT, RIGHT, Corridor, Signal

KEY = jax.random.key(0)


@pytest.mark.quick
def test_flat_actions_count_the_first_entry_most():
    env = FlatActions(Team(num_heads=3, num_choices=4))
    assert env.action_space.num_values == 64
    entries = np.array(list(itertools.product(range(4), repeat=3)))
    np.testing.assert_array_equal(env.entries(jnp.arange(64)), entries)
    np.testing.assert_array_equal(env.index(jnp.asarray(entries)), np.arange(64))


@pytest.mark.quick
def test_a_flat_action_is_allowed_where_all_its_entries_are():
    env = FlatActions(Signal())
    mask = jnp.asarray([[True, False, False], [True, False, True]])
    expected = [a == 0 and b != 1 for a, b in itertools.product(range(2), range(3))]
    np.testing.assert_array_equal(env.flat_mask(mask), expected)
    np.testing.assert_array_equal(env.flat_mask(jnp.stack([mask, ~mask]))[0], expected)


@pytest.mark.quick
def test_flat_actions_pay_as_their_entries_do():
    env = FlatActions(Signal())
    _, state = env.reset(KEY)
    rewards = [float(env.transition(state, jnp.int32(index))[2]) for index in range(6)]
    assert rewards == [a + b for a, b in itertools.product(range(2), range(3))]


def test_sequential_actions_are_an_environment():
    check_environment(SequentialActions(Signal()), num_steps=32)


def test_sequential_actions_play_the_episodes_of_the_environment():
    env, inner = SequentialActions(Signal()), Signal()
    seen, state = env.reset(KEY)
    expected, inner_state = inner.reset(KEY)
    rng = np.random.default_rng(0)
    ends = []
    for _ in range(7):
        action = rng.integers([2, 3]).astype(np.int32)
        np.testing.assert_array_equal(seen, [*expected, 1, 0, *np.zeros(6)])
        np.testing.assert_array_equal(env.action_mask(state, None), [True, True, False])
        seen, state, reward, *_ = env.transition(state, action[0])
        assert reward == 0
        np.testing.assert_array_equal(seen, [*expected, 0, 1, *np.eye(3)[action[0]], 0, 0, 0])
        np.testing.assert_array_equal(env.action_mask(state, None), [True, True, True])
        seen, state, reward, _, truncated, _ = env.transition(state, action[1])
        expected, inner_state, paid, _, end, _ = inner.transition(inner_state, action)
        assert reward == paid == action.sum()
        ends.append((bool(truncated), bool(end)))
    assert ends == [(False, False)] * 6 + [(True, True)]
    assert env.most_steps(env.default_params()) == 14


@struct.dataclass
class Largest(Policy):
    """The largest valid choice."""

    def act(self, carry, key, observation, mask, state, params):
        return mask.shape[-1] - 1 - jnp.argmax(mask[..., ::-1], axis=-1), carry


@pytest.mark.parametrize("wrapper", [FlatActions, SequentialActions])
def test_metrics_mean_what_they_mean_in_the_environment(wrapper):
    env = wrapper(Signal())
    terms = evaluate(env, env.default_params(), Largest(), KEY, 2)
    (estimate,) = summarize(env.metrics, terms)
    assert estimate.mean == 3.0


class Watched(Signal):
    """What may not happen: an entry of 2 among both, and of all entries those that are not 0."""

    constraints = (
        Constraint("two", ("late",)),
        Constraint("any", ("chosen",), over=("entries",)),
    )

    def step_env(self, key, state, action, params):
        state, reward, terminated, info = super().step_env(key, state, action, params)
        counts = {"chosen": jnp.sum(action > 0, dtype=jnp.int32), "entries": jnp.int32(2)}
        return state, reward, terminated, info | {"late": action == 2} | counts


@pytest.mark.parametrize("wrapper", [ValidActions, FlatActions, SequentialActions])
def test_violations_are_those_of_the_environment(wrapper):
    """Of 7 steps a second entry of 2, of two; all 14 entries are not 0."""
    env = wrapper(Watched())
    terms = measure(env, env.default_params(), Largest(), KEY, 2)
    found = {
        name: [float(np.sum(part)) for part in pair] for name, pair in terms.violations.items()
    }
    assert found == {"two": [14, 28], "any": [28, 28]}
    check_environment(env, num_steps=16)


@pytest.mark.quick
def test_a_repaired_choice_is_shared_as_in_the_environment():
    inner = jaxenv.make("services")[0]
    env = ValidActions(inner)
    assert (env.shared_choice, env.choice_groups) == (inner.shared_choice, inner.choice_groups)
    assert env.shared_choice == 2 and FlatActions(Signal()).shared_choice is None


def largest(key, observation, mask):
    return mask.shape[-1] - 1 - jnp.argmax(mask[..., ::-1], axis=-1)


@pytest.mark.parametrize("wrap", [FlatActions, SequentialActions])
def test_a_lifted_choice_is_an_action_of_the_environment_inside(wrap):
    inner = Team(num_heads=2, num_choices=4, num_agents=2)
    env = ValidActions(wrap(inner))
    assert unwrapped(env) is inner
    mask = jnp.asarray([[[1, 1, 0, 0], [1, 0, 0, 0]], [[0, 0, 0, 1], [1, 1, 1, 1]]], bool)
    observation = inner.reset(KEY)[0]
    # The largest choice is repaired: the next valid one, cyclically.
    expected = {FlatActions: [[0, 0], [3, 3]], SequentialActions: [[0, 0], [3, 3]]}[wrap]
    action = chooser(env, largest)(KEY, observation, mask)
    np.testing.assert_array_equal(action, expected)
    plain = chooser(wrap(inner), largest)(KEY, observation, mask)
    np.testing.assert_array_equal(plain, [[1, 0], [3, 3]])


@pytest.mark.quick
def test_a_lifted_choice_decides_as_in_the_wrapped_environment():
    env = SequentialActions(Signal())

    def choose(key, observation, mask):
        return jnp.argmax(jnp.where(mask, jnp.sin(7 * jnp.cumsum(observation))[-3:], -9))

    seen, state = env.reset(KEY)
    inner_seen, inner_mask = seen[:2], Signal().action_space.mask()
    action = chooser(env, choose)(KEY, inner_seen, inner_mask)
    for entry in action:
        assert choose(KEY, seen, env.action_mask(state, None)) == entry
        seen, state, *_ = env.transition(state, entry)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("action", "mask", "expected"),
    [(1, "0110", 1), (3, "0110", 1), (0, "0001", 3), (2, "1001", 3), (2, "0000", 2)],
)
def test_the_next_valid_action(action, mask, expected):
    allowed = jnp.asarray([c == "1" for c in mask])
    assert next_valid(jnp.int32(action), allowed) == expected


def test_invalid_actions_are_repaired():
    env = ValidActions(Corridor())
    check_environment(env, num_steps=16)
    _, state = Corridor().reset(KEY)
    state = state.replace(position=jnp.int32(0))
    assert env.transition(state, jnp.int32(LEFT))[1].position == 1  # RIGHT is the next one
    assert LEFT + 1 == RIGHT


@pytest.mark.quick
@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: prepare("robust", actions="flat"), "joint actions, more than 65536"),
        (lambda: prepare(MovingTeam(), actions="sequential"), "has Tuple actions"),
        (lambda: prepare(MovingTeam(), repair=True), "has Tuple actions"),
        (lambda: prepare(Signal(), actions="all"), "choose one of native, flat, sequential"),
        (lambda: prepare(Signal(), options={"length": 3}), "length: 3 is not valid"),
        (lambda: prepare("robust", Signal().default_params()), "params go with an environment"),
        (lambda: prepare("roburst"), "choose one of"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(call, line):
    with pytest.raises(ConfigError, match=line) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.quick
def test_names_take_what_make_takes():
    env, params = prepare("partitioning", options={"num_blocks": 3, "slot_s": 7.0}, actions="flat")
    assert env.action_space.num_values == 5**3
    assert params.slot_s == 7.0
    vehicular, params = jaxenv.make("vehicular", num_vehicles=3, max_steps=20)
    assert vehicular.most_steps(params) == 60


@pytest.mark.quick
def test_adapted_environments_are_equal_by_value():
    env = Corridor()
    first = Adapted(env, env.make_params(step_reward=-2.0))
    assert first == Adapted(Corridor(), env.make_params(step_reward=-2.0))
    assert hash(first) == hash(Adapted(Corridor(), env.make_params(step_reward=-2.0)))
    assert first != Adapted(env, env.default_params())


@pytest.mark.quick
def test_a_missing_library_is_one_line():
    with pytest.raises(ModuleNotFoundError) as error, needs("not_there", "not-there"):
        import not_there.at_all  # noqa: F401
    line = "not_there is not installed; install it first: pip install not-there"
    assert str(error.value) == line
    with pytest.raises(ModuleNotFoundError, match="pip install of_its_own"), needs("not_there"):
        import of_its_own  # noqa: F401


@pytest.mark.quick
def test_importing_the_adapters_imports_no_library():
    libraries = ("gymnasium", "gymnax", "jaxmarl", "pettingzoo", "stable_baselines3", "stoa")
    code = f"import sys, jaxenv.adapters; print([x for x in {libraries} if x in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert len(LIBRARIES) == 6
