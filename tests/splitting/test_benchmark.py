"""The NumPy versions that the benchmark compares with decide as the slow version does."""

import numpy as np
import pytest

import jaxenv
from runs.benchmarks.splitting import NumpyRun, NumpyRuns
from tests.oracles import splitting as oracle


@pytest.mark.parametrize("runs", [None, 3])
def test_numpy_versions_decide_as_the_slow_version(runs):
    env, params = jaxenv.make("splitting", availability_max=1.0, tradeoff_v=1.0)
    rng = np.random.default_rng(0)
    shape = (200, runs or 1)
    images, fading = rng.poisson(10, shape), rng.exponential(size=shape)
    share = 0.1 * (1 - rng.random(shape))
    fast = NumpyRun(env, params) if runs is None else NumpyRuns(env, params, runs)
    slow = [oracle.System(v=1.0) for _ in range(shape[1])]
    for row in zip(images, fading, share, strict=True):
        own = fast.step(*(x[0] for x in row)) if runs is None else fast.step(*row)
        theirs = [s.step(*draws)["split"] for s, draws in zip(slow, np.transpose(row), strict=True)]
        np.testing.assert_array_equal(own, theirs)
    np.testing.assert_allclose(fast.z, [s.z for s in slow], rtol=1e-5)
    np.testing.assert_allclose(fast.h, [s.h for s in slow], rtol=1e-5)
