"""Blocks run one by one are the module; their times as CSV, in robust and in splitting."""

import json
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxenv
from jaxenv import dnn
from jaxenv.dnn.flax_timing import block_calls, time_blocks
from jaxenv.errors import ConfigError
from runs import profile as program
from runs.profile import moments, time_table
from runs.tables import read_csv


class Skipping(nn.Module):
    """A skip connection over two submodules, and work of its own between them."""

    @nn.compact
    def __call__(self, x):
        first = nn.relu(nn.Dense(6, name="first")(x))
        second = jax.jit(nn.relu)(nn.Dense(5, name="second")(first))
        return nn.Dense(4, name="third")(jnp.concatenate([first, second], -1)) ** 2


@pytest.mark.quick
def test_blocks_one_after_the_other_are_the_module():
    profile, calls = block_calls(Skipping(), (3,), seed=7)
    assert profile.names == ("input", "first", "second", "third")
    *_, last = [call() for call in calls]
    keys = {name: jax.random.key(7) for name in ("params", "dropout")}
    x = np.random.default_rng(7).standard_normal((1, 3)).astype(np.float32)
    expected = Skipping().apply(Skipping().init(keys, x), x)
    np.testing.assert_allclose(last[0], expected, rtol=1e-6)
    np.testing.assert_array_equal(profile.output_elements, [3, 6, 11, 4])
    assert [sum(array.size for array in call()) for call in calls] == [6, 11, 4]


def test_times_are_of_the_passes_after_the_warm_up():
    pauses = iter([0.05] * 4 + [0.002, 0.004] * 3)
    passes = []
    seconds = time_blocks(
        *([lambda: time.sleep(next(pauses)) or jnp.zeros(())] * 2, 3),
        warm_up=2,
        on_pass=lambda: passes.append(1),
    )
    assert seconds.shape == (3, 2) and len(passes) == 5
    assert (seconds[:, 0] >= 0.002).all() and (seconds[:, 1] >= 0.004).all()


@pytest.mark.quick
def test_moments_as_worked_by_hand():
    """Passes (1, 4), (3, 2): means 2 and 3, variances 2, covariance -2; the input takes nothing."""
    times = moments(np.array([[1.0, 4.0], [3.0, 2.0]]))
    np.testing.assert_allclose(times.mean_s, [0, 2, 3])
    np.testing.assert_allclose(times.covariance_s2, [[0, 0, 0], [0, 2, -2], [0, -2, 2]])


PROFILE = dnn.Profile(
    "net", ("input", "a, b", "c"), np.array([0, 4e9, 2e9]), np.array([100, 50, 10]), np.zeros(3)
)
TIMES = dnn.Times(
    np.array([0, 0.02, 0.01]), np.array([[0, 0, 0], [0, 4e-6, 1e-6], [0, 1e-6, 9e-6]])
)


@pytest.fixture
def path(tmp_path):
    dnn.write_csv(PROFILE, tmp_path / "net.csv", TIMES)
    return tmp_path / "net.csv"


@pytest.mark.quick
def test_a_profile_and_its_times_are_read_as_written(path):
    again, times = dnn.read_csv(path), dnn.read_times(path)
    assert again.names == PROFILE.names
    for field in ("flops", "output_elements", "parameters"):
        np.testing.assert_array_equal(getattr(again, field), getattr(PROFILE, field))
    np.testing.assert_array_equal(times.mean_s, TIMES.mean_s)
    np.testing.assert_array_equal(times.covariance_s2, TIMES.covariance_s2)
    dnn.write_csv(PROFILE, path)
    assert dnn.read_times(path) is None


@pytest.mark.quick
def test_a_covariance_with_itself_may_be_the_variance_rounded(path):
    path.write_text(path.read_text().replace("0.02,4e-06", "0.02,4.000001e-06"))
    assert dnn.read_times(path).covariance_s2[1, 1] == 4e-6


@pytest.mark.quick
def test_an_input_that_takes_time_is_refused_at_its_line(path):
    path.write_text("\n" + path.read_text().replace("input,0,100,0,0", "input,0,100,0,1"))
    with pytest.raises(ValueError, match="line 3: the input takes time; give 0"):
        dnn.read_times(path)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("mean [s]", "mean [ms]", r"column 'mean \[ms\]' is not valid; give 'mean \[s\]'"),
        ("variance [s^2]", "var", r"column 'variance \[s\^2\]' is missing"),
        ("0.02", "-0.02", r"line 3, mean \[s\]: '-0.02' is not valid; give a finite number >= 0"),
        ("0.02", "fast", r"line 3, mean \[s\]: 'fast' is not valid"),
        (
            *("0.02,4e-06", "0.02,5e-06"),
            r"line 3, covariance with a, b \[s\^2\]: 4e-06 .* give the variance, 5e-06",
        ),
        ("9e-06,1e-06", "9e-06,2e-06", "the covariances are not symmetric"),
        ("1e-06", "1e-05", "a covariance is above what the variances allow; check the units"),
    ],
)
def test_bad_times_are_refused_in_one_line(path, old, new, message):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=message) as error:
        dnn.read_times(path)
    assert "\n" not in str(error.value)
    for name, option in (("robust", "profile"), ("splitting", "network")):
        with pytest.raises(ConfigError, match=message):
            jaxenv.make(name, **{option: str(path)})


def test_robust_takes_times_and_covariances(path):
    """At 1.2 GHz 20 ms are 0.024 Gcycle; the variance of the sum is 4 + 9 + 2 * 1 square ms."""
    env, params = jaxenv.make("robust", profile=str(path), max_devices=1)
    assert params.num_points.tolist() == [3, 10]
    near = dict(rtol=1e-6)
    np.testing.assert_allclose(params.local_gcycle[0, :4], [0, 0.024, 0.036, 0], **near)
    np.testing.assert_allclose(params.local_var_s2[0, :4], [0, 4e-6, 15e-6, 0], **near)
    np.testing.assert_allclose(params.data_mbit[0, :4], [3.2e-3, 1.6e-3, 0.32e-3, 0], **near)
    of_rest = [2 * 8e-5 + 6 / 2000, 8e-5 + 2 / 2000, 0, 0]
    np.testing.assert_allclose(params.vm_s[0, :4], of_rest, **near)
    _, state = env.reset(jax.random.key(0), params)
    instance = state.instance
    np.testing.assert_array_equal(instance.mask_m[0], np.arange(10) < 3)
    np.testing.assert_allclose(instance.c[0, :3] / 1.2, [0, 0.02, 0.03], rtol=1e-5)
    np.testing.assert_allclose(instance.vloc[0, :3], [0, 4e-6, 15e-6], **near)
    slower = jaxenv.make("robust", profile=str(path), profile_ghz=0.6, max_devices=1)[1]
    np.testing.assert_allclose(2 * slower.local_gcycle[0], params.local_gcycle[0], **near)
    with pytest.raises(ConfigError, match="it has no effect without a profile"):
        jaxenv.make("robust", profile_ghz=0.6)


def test_splitting_takes_the_measured_means(path):
    env, params = jaxenv.make("splitting", network=str(path))
    costs = env.costs(params)
    np.testing.assert_allclose(costs.local_s, [0, 0.02, 0.03], rtol=1e-6)
    np.testing.assert_allclose(costs.remote_s, np.array([6e9, 2e9, 0]) / 21e12, rtol=1e-6)
    dnn.write_csv(PROFILE, path)
    unmeasured = jaxenv.make("splitting", network=str(path))
    np.testing.assert_allclose(
        unmeasured[0].costs(unmeasured[1]).local_s, np.array([0, 4e9, 6e9]) / 1.3e12, rtol=1e-6
    )


def test_the_program_measures_a_module_of_the_user(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["input_shape=[3]", "repeats=5", "warm_up=1", "hydra.run.dir=out"]
    program.main([f"model={__name__}:Skipping", *options])
    rows = read_csv(tmp_path / "out/profile.csv")
    assert [row["layer"] for row in rows] == ["input", "first", "second", "third"]
    assert all(float(row["mean [s]"]) > 0 for row in rows[1:])
    assert json.loads((tmp_path / "out/versions.json").read_text())["hardware"]["cpu_count"] >= 1
    whole = json.loads((tmp_path / "out/benchmark.json").read_text())
    total = sum(float(row["mean [s]"]) for row in rows)
    assert whole[0]["value"] == pytest.approx(total)
    read = dnn.read_times("out/profile.csv")
    assert whole[1]["value"] ** 2 == pytest.approx(read.covariance_s2.sum(), rel=1e-6)
    for name, option in (("robust", "profile"), ("splitting", "network")):
        jaxenv.make(name, **{option: "out/profile.csv"})


def test_the_passes_as_worked_by_hand(tmp_path, monkeypatch):
    """Passes of 1 to 101 ms: median 51, 99th percentile 100, sample variance 101 * 102 / 12."""
    share = np.array([0.5, 0.3, 0.2])
    fixed = lambda *arguments: np.arange(1, 102)[:, None] * share / 1e3  # noqa: E731
    monkeypatch.setattr("jaxenv.dnn.flax_timing.time_blocks", fixed)
    monkeypatch.chdir(tmp_path)
    program.main([f"model={__name__}:Skipping", "input_shape=[3]", "hydra.run.dir=out"])
    whole = json.loads((tmp_path / "out/benchmark.json").read_text())
    found = [1e3 * measurement["value"] for measurement in whole]
    np.testing.assert_allclose(found, [51, (101 * 102 / 12) ** 0.5, 51, 100], rtol=1e-9)


@pytest.mark.quick
def test_the_table_of_times_as_worked_by_hand():
    """4 GFLOP in 20 ms and 3 in 10 ms are 200 and 300 GFLOP/s."""
    profile = dnn.Profile("net", PROFILE.names, [0, 4e9, 3e9], [100, 50, 10], [0, 0, 0])
    _, *rows = time_table(profile, TIMES).splitlines()
    cells = [row.replace("a, b", "a").split() for row in rows]
    assert ["a", "4", "20", "2", "200"] in cells and ["c", "3", "10", "3", "300"] in cells


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["model=lenet"], "model: 'lenet' is not valid; give one of alexnet, "),
        (["model=nowhere:Net"], "model: 'nowhere:Net' is not valid; it cannot be imported: "),
        (["model=json:dumps"], "model: 'json:dumps' is not valid; give a flax.linen module"),
        (["model=pathlib:Path"], "model: 'pathlib:Path' is not valid; give a flax.linen module"),
        (["input_shape=[0,1]"], "input_shape: [0, 1] is not valid; give positive integers"),
        (
            ["input_shape=[3]"],
            "model: 'mobilenet_v2' is not valid; the networks of the ",
        ),
        (["repeats=1"], "repeats: 1 is not valid; give an integer of at least 2"),
    ],
)
def test_bad_settings_are_refused(tmp_path, monkeypatch, capsys, arguments, line):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        program.main(arguments)
    error = capsys.readouterr().err
    assert error.startswith(f"error: {line}") and error.count("\n") == 1
