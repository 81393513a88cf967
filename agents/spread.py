"""Lanes of one program over several devices: seeds, jobs and episodes, each on its own.

A lane computes what it would compute alone, so results do not depend on the number of devices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "lanes"


def mesh_for(lanes: int, devices: Sequence[Any] | None = None) -> Mesh | None:
    """A mesh of as many devices as share ``lanes`` equally; None where that is one.

    devices: None = all that this process sees.
    """
    devices = jax.local_devices() if devices is None else devices
    count = max(n for n in range(1, len(devices) + 1) if lanes % n == 0)
    return Mesh(np.array(devices[:count]), (AXIS,)) if count > 1 else None


def spread(function: Callable[..., Any], mesh: Mesh | None, axes: tuple[Any, ...]) -> Any:
    """``function`` of lanes, on every device's share of them; results have a leading axis of lanes.

    axes: of its arguments as for `jax.vmap`: 0 or None at each leaf or prefix.
    """
    if mesh is None:
        return function
    specs = jax.tree.map(
        lambda axis: PartitionSpec() if axis is None else PartitionSpec(AXIS),
        axes,
        is_leaf=lambda axis: axis is None,
    )
    return jax.shard_map(
        function, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(AXIS), check_vma=False
    )


def sharding(mesh: Mesh | None) -> Any:
    """Of arrays with a leading axis of lanes."""
    if mesh is None:
        return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return NamedSharding(mesh, PartitionSpec(AXIS))
