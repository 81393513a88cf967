"""Lanes of one program over several devices, also those of several processes.

Lanes are seeds, jobs and episodes, each on its own. Where there are more devices than lanes, they
share the environments of each lane: every device steps its own, and what decides and learns is
repeated on all of them, from all that was met. So results do not depend on the number of devices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import gcd, prod
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

LANES, ENVIRONMENTS, COPIES = AXES = ("lanes", "environments", "copies")


def mesh_for(
    lanes: int, environments: int = 1, devices: Sequence[Any] | None = None
) -> Mesh | None:
    """A mesh of devices that share ``lanes`` equally, and what is left of them ``environments``.

    None where that is one device. devices: None = all.
    """
    devices = jax.devices() if devices is None else devices
    shape = shape_for(lanes, environments, devices)
    count = prod(shape)
    if count == 1:
        return None
    automatic = (AxisType.Auto,) * len(AXES)
    return Mesh(np.array(devices[:count]).reshape(shape), AXES, axis_types=automatic)


def shape_for(lanes: int, environments: int, devices: Sequence[Any]) -> tuple[int, int, int]:
    """How many devices share lanes, the environments of each lane, and repeat what others do.

    The last is 1 but of several processes, where every device is in use.
    """
    count = len(devices)
    if len({device.process_index for device in devices}) > 1:
        most = gcd(lanes, count)
        share = gcd(environments, count // most)
        return most, share, count // (most * share)
    most = max(n for n in range(1, count + 1) if lanes % n == 0)
    return most, max(n for n in range(1, count // most + 1) if environments % n == 0), 1


def spread(function: Callable[..., Any], mesh: Mesh | None, axes: tuple[Any, ...]) -> Any:
    """``function`` of lanes, on every device's share of them; results have a leading axis of lanes.

    axes: of its arguments as for `jax.vmap`: 0 or None at each leaf or prefix.
    """
    if mesh is None:
        return function
    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=_specs(axes, LANES),
        out_specs=PartitionSpec(LANES),
        axis_names=set(AXES) - ({ENVIRONMENTS} if mesh.shape[ENVIRONMENTS] > 1 else set()),
        check_vma=False,
    )


def sharding(mesh: Mesh | None) -> Any:
    """Of arrays with a leading axis of lanes; without a mesh, of arrays that every process has."""
    if mesh is not None:
        return NamedSharding(mesh, PartitionSpec(LANES))
    if jax.process_count() > 1:
        return NamedSharding(Mesh(np.array(jax.devices()), (COPIES,)), PartitionSpec())
    return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])


def over_environments(function: Callable[..., Any], axes: tuple[Any, ...]) -> Callable[..., Any]:
    """``jax.vmap(function, axes)`` over the environments of a lane, which devices may share.

    axes: of its arguments as for `jax.vmap`: 0 or None at each leaf or prefix. Results are spread
    where the lane is; `gathered` has all of them on every device.
    """
    batched = jax.vmap(function, axes)
    if not _shared():
        return batched
    return jax.shard_map(
        batched,
        in_specs=_specs(axes, ENVIRONMENTS),
        out_specs=PartitionSpec(ENVIRONMENTS),
        axis_names={ENVIRONMENTS},
        check_vma=False,
    )


def gathered(tree: Any) -> Any:
    """What `over_environments` made, whole on every device of the lane."""
    if not _shared():
        return tree
    return jax.lax.with_sharding_constraint(tree, PartitionSpec())


def fetched(tree: Any) -> Any:
    """Arrays of all devices as NumPy arrays, in every process."""
    if jax.process_count() > 1:
        tree = multihost_utils.process_allgather(tree, tiled=True)
    return jax.device_get(tree)


def _shared() -> bool:
    """Whether what is being traced is of devices that share environments."""
    mesh = jax.sharding.get_abstract_mesh()
    return ENVIRONMENTS in mesh.auto_axes and mesh.shape[ENVIRONMENTS] > 1


def _specs(axes: tuple[Any, ...], name: str) -> Any:
    return jax.tree.map(
        lambda axis: PartitionSpec() if axis is None else PartitionSpec(name),
        axes,
        is_leaf=lambda axis: axis is None,
    )
