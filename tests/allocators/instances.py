"""Instances of the tests of `allocators.pccp`, all of one shape: few programs are compiled."""

import jax
import jax.numpy as jnp
import numpy as np

from allocators.robust import make_instance
from tests.oracles.robust_cvxpy import Reference

DEVICES, BATCH = 12, 32
GAIN_DB = {"literal": 0.0, "calibrated": 30.0}


def distances(seed, devices):
    position = np.random.default_rng(seed).uniform(-200, 200, (devices, 2))
    return np.maximum(np.linalg.norm(position, axis=1), 1)


def instance_of(model, seed, devices, B, D, eps, calibration="literal"):
    """Padded instance; the model is given by its number, so all have 10 points."""
    model_id = np.full(devices, ["alexnet", "resnet152"].index(model))
    r = distances(seed, devices)
    return make_instance(model_id, r, B, D, eps, gain_db=GAIN_DB[calibration], n_max=DEVICES)


def stack(instances):
    """One batch of `BATCH` instances, filled up with copies of the first."""
    padded = [*instances, *[instances[0]] * (BATCH - len(instances))]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *padded)


def unpadded(instance):
    """The instance without padding, in NumPy, for CVXPY."""
    devices = int(instance.mask_n.sum())
    points = int(instance.mask_m.sum(axis=1).max())

    def cut(leaf):
        leaf = np.asarray(leaf)
        return leaf[:devices, :points] if leaf.ndim == 2 else leaf[:devices] if leaf.ndim else leaf

    return jax.tree.map(cut, instance)


def section9(seeds):
    """Instances of the speed comparison: AlexNet 180 ms, 0.02 and ResNet152 160 ms, 0.04."""
    return [
        instance_of(model, seed, 12, B, D, eps)
        for seed in seeds
        for model, B, D, eps in (
            ("alexnet", 10.0, 0.18, 0.02),
            ("resnet152", 30.0, 0.16, 0.04),
        )
    ]


def references():
    """CVXPY's problems by number of points, compiled once each."""
    built = {}

    def of(points):
        if points not in built:
            built[points] = Reference(DEVICES, points)
        return built[points]

    return of
