"""Exported policies decide as the policies do, for JAX alone; the program and its refusals."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxenv
from agents import registry as agents_registry
from agents.learner import Policy
from jaxenv import spaces, struct
from runs import export, latency, train
from runs.export import exported_policy, schema, unsupported
from tests.runs.conftest import PROBE, TRAIN
from tests.toy_environments import Dial

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
CALLER = re.search(r"```python\n(.*?)```", PAGE, flags=re.DOTALL).group(1)
DECISIONS = 12
SMALL = {
    "sac_discrete": dict(hidden=(8,), num_envs=1, batch_size=4, buffer_size=8, learning_starts=4),
    "a3c": dict(hidden=(8,), num_workers=1, rollout_length=2),
    "dqn": dict(hidden=(8,), num_envs=1, batch_size=4, buffer_size=8, learning_starts=4),
    "hisper": dict(
        embedding=4,
        actor_hidden=(8,),
        critic_hidden=(8,),
        lstm_width=8,
        num_envs=1,
        rounds=1,
        gradient_updates=1,
        batch_size=4,
        buffer_size=8,
        prefill=4,
    ),
}
ACTIONS = {  # 2 blocks on 2 servers or at home; servers, models and shares of services
    ("sac_discrete", "splitting"): {"kind": "Discrete", "num_values": 20},
    ("a3c", "partitioning"): {"kind": "MultiDiscrete", "num_values": [5] * 6},
    ("dqn", "partitioning"): {"kind": "MultiDiscrete", "num_values": [3, 3]},
    ("hisper", "services"): {"kind": "MultiDiscrete", "num_values": [16, 4, 4]},
}
PAIRS = [
    ("sac_discrete", "splitting", {}),
    ("a3c", "partitioning", {}),
    ("dqn", "partitioning", dict(num_blocks=2, num_servers=2)),
    ("hisper", "services", dict(num_agents=2, num_servers=4)),
]


def arbitrary(agent: str, env_name: str, options: dict):
    """An environment and a policy of a learner with random parameters."""
    env, params = jaxenv.make(env_name, **options)
    learner, hp = agents_registry.learner_class(agent).build(env, **SMALL[agent])
    start = lambda key: learner.policy(learner.init(key, params, hp))  # noqa: E731
    rng = np.random.default_rng(3)
    fill = lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype)  # noqa: E731
    return env, params, jax.tree.map(fill, jax.eval_shape(start, jax.random.key(0)))


def met(env, params, seed: int = 0):
    """Observations and masks of a random episode, stacked."""

    def decision(carry, key):
        observation, state = carry
        mask = env.action_mask(state, params)
        action = env.action_space.sample(key, mask) if env.num_agents == 1 else None
        if action is None:
            keys = jax.random.split(key, env.num_agents)
            action = jax.vmap(env.action_space.sample)(keys, mask)
        following = env.transition(state, action, params)
        return following[:2], (observation, mask)

    keys = jax.random.split(jax.random.key(seed), DECISIONS + 1)
    start = env.reset(keys[0], params)
    return jax.jit(lambda: jax.lax.scan(decision, start, keys[1:])[1])()


@pytest.mark.parametrize(("agent", "env_name", "options"), PAIRS)
def test_exported_actions_are_the_policys(agent, env_name, options):
    env, params, policy = arbitrary(agent, env_name, options)
    observation, mask = met(env, params)
    act = lambda o, m: policy.act((), jax.random.key(0), o, m, None, params)[0]  # noqa: E731
    expected = jax.jit(jax.vmap(act))(observation, mask)
    exported = exported_policy(env, params, policy, ["cpu", "cuda"])
    again = jax.export.deserialize(exported.serialize())
    assert again.platforms == ("cpu", "cuda")
    np.testing.assert_array_equal(again.call(observation, mask), expected)
    np.testing.assert_array_equal(again.call(observation[:1], mask[:1]), expected[:1])
    described = schema(env, params, again)
    assert described["arguments"] == ["observation", "mask"] and described["key"] is None
    assert tuple(described["observation"]["shape"]) == observation.shape[1:]
    assert tuple(described["mask"]["shape"]) == mask.shape[1:]
    assert described["action"]["space"] == ACTIONS[agent, env_name]
    box = {"kind": "Box", "low": None, "high": None, "shape": [observation.shape[-1]]}
    assert described["observation"]["space"] == box
    (action,) = described["action"]["arrays"]
    assert (tuple(action["shape"]), action["dtype"]) == (expected.shape[1:], "int32")
    if env.observation_groups:
        assert sum(described["observation"]["groups"]) == observation.shape[-1]
    json.dumps(described, allow_nan=False)


def test_a_policy_that_draws_takes_a_key():
    env, params, policy = arbitrary("a3c", "partitioning", {})
    policy = policy.replace(sample=True)
    observation, mask = met(env, params)
    keys = jax.random.split(jax.random.key(5), DECISIONS)
    act = lambda k, o, m: policy.act((), k, o, m, None, params)[0]  # noqa: E731
    expected = jax.vmap(act)(keys, observation, mask)
    exported = exported_policy(env, params, policy, ["cpu"])
    assert schema(env, params, exported)["arguments"] == ["observation", "mask", "key"]
    found = exported.call(observation, mask, jax.random.key_data(keys))
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found)) > 1


@struct.dataclass
class Middle(Policy):
    """The first choice, at half the level."""

    def init(self, key, env, params):
        return ()

    def act(self, carry, key, observation, mask, state, params):
        return (jnp.int32(0), jnp.full((1,), 0.5)), ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bounded(Dial):
    """Its observations have ends that differ, one of them infinite."""

    @property
    def observation_space(self):
        return spaces.Box(-2.0, np.inf, (2,))


@pytest.mark.quick
def test_the_schema_of_boxes_and_tuples_by_hand():
    env = Bounded()
    params = env.default_params()
    described = schema(env, params, exported_policy(env, params, Middle(), ["cpu"]))
    box = {"kind": "Box", "low": -2.0, "high": None, "shape": [2]}
    assert described["observation"]["space"] == box
    level = {"kind": "Box", "low": 0.0, "high": 1.0, "shape": [1]}
    both = [{"kind": "Discrete", "num_values": 3}, level]
    assert described["action"]["space"] == {"kind": "Tuple", "spaces": both}


@pytest.mark.quick
def test_times_of_decisions_are_of_the_calls_after_the_warm_up(tmp_path, monkeypatch, capsys):
    """50 calls of 1000 s to warm up, then 1 to 101 s: the median is 51, the 99th percentile 100."""
    one = jax.ShapeDtypeStruct((1, 2), jnp.float32)
    artifact = jax.export.export(jax.jit(jnp.negative))(one)
    (tmp_path / "policy.jaxexport").write_bytes(artifact.serialize())
    described = {"artifact": "policy.jaxexport", "observation": {"dtype": "float32"}}
    (tmp_path / "policy.json").write_text(json.dumps(described))
    lasting = itertools.chain([1000.0] * 50, range(1, 102))
    elapsed = [0.0]

    def decide(observation):
        elapsed.append(elapsed[-1] + next(lasting))
        return observation

    monkeypatch.setattr(jax, "jit", lambda call: decide)
    clock = types.SimpleNamespace(perf_counter=lambda: elapsed[-1])
    monkeypatch.setattr(latency, "time", clock)
    monkeypatch.setattr(latency, "os", types.SimpleNamespace())  # does not pin this process
    latency.main(tmp_path, 101)
    found = json.loads(capsys.readouterr().out)
    assert found == {"median_s": 51.0, "p99_s": 100.0, "calls": 101, "pinned": False}


@struct.dataclass
class Counting(Policy):
    """Remembers how often it has decided."""

    def init(self, key, env, params):
        return jnp.int32(0)

    def act(self, carry, key, observation, mask, state, params):
        return carry % 2, carry + 1


def test_what_reads_the_state_or_remembers_is_not_exported(workplace, capsys):
    env, params = jaxenv.make("vehicular", num_vehicles=2)
    local = agents_registry.baseline("Local", env)
    assert "reads the environment's state" in unsupported(env, params, local)
    assert "remembers earlier decisions" in unsupported(env, params, Counting())
    with pytest.raises(SystemExit):
        export.main(["baseline=Local"])
    line = capsys.readouterr().err
    assert line.startswith("error: baseline: 'Local' is not valid; it reads the environment's")
    assert line.count("\n") == 1 and not list(workplace.rglob("policy.*"))


@pytest.mark.quick
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "checkpoint: None is not valid; give either checkpoint=DIR or baseline=NAME"),
        (["baseline=constant", "num_calls=9"], "num_calls: 9 is not valid; give an integer of at"),
        (["baseline=constant", "platforms=[[cpu]]"], "platforms: [['cpu']] is not valid; give a"),
        (["baseline=constant", "platforms=[]"], "platforms: [] is not valid; give a list of cpu"),
        (["baseline=constant", "platforms=[gpu]"], "platforms: ['gpu'] is not valid; give a list"),
    ],
)
def test_bad_settings_are_refused(workplace, capsys, arguments, line):
    with pytest.raises(SystemExit):
        export.main([*PROBE, *arguments])
    assert capsys.readouterr().err.startswith(f"error: {line}")


def test_the_program_writes_what_ten_lines_of_jax_call(workplace):
    """The script of the documentation, run where this library cannot be imported."""
    train.main([*TRAIN, "num_updates=100", "agent.lr=0.2", "hydra.run.dir=run"])
    export.main(["checkpoint=run", "num_calls=100", "hydra.run.dir=there"])
    median, tail = json.loads((workplace / "there/benchmark.json").read_text())
    assert 0 < median["value"] <= tail["value"] < 1
    assert median["name"].startswith("decision on one core, median")
    assert len([line for line in CALLER.splitlines() if line.strip()]) <= 10
    blocked = workplace / "blocked"
    for name in ("jaxenv", "agents", "allocators", "runs", "flax"):
        (blocked / name).mkdir(parents=True)
        (blocked / name / "__init__.py").write_text("raise ImportError('it is not there')")
    (workplace / "there/caller.py").write_text(CALLER)
    done = subprocess.run(
        [sys.executable, "caller.py"],
        cwd=workplace / "there",
        env=os.environ | {"PYTHONPATH": str(blocked), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[0 0 0]"  # an untold context: ties go to the first choice
    again = jax.export.deserialize((workplace / "there/policy.jaxexport").read_bytes())
    contexts = np.eye(3, dtype=np.float32)
    np.testing.assert_array_equal(again.call(contexts, np.ones((3, 3), bool)), [0, 1, 2])
