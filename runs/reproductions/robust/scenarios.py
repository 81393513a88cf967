"""Instances of the robust partitioning figures: who, where, and under which limits."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from allocators import robust
from jaxenv.errors import ConfigError
from runs.settings import Config
from runs.solve import published_distances_m
from runs.tables import Row

LABELS = {"alexnet": "AlexNet", "resnet152": "ResNet152"}
NETWORKS = tuple(robust.MODELS)
PROFILES = tuple(robust.GAIN_DB)
SEEDS, HELD_OUT = (0, 1, 2, 3), tuple(range(100, 110))
MOST_DEVICES = 30


@dataclasses.dataclass(frozen=True)
class Cell:
    """One instance: who, where, and under which limits.

    worst_case: whether K standard deviations replace those that the risk demands.
    """

    network: str
    profile: str
    devices: int
    seed: int
    bandwidth_mhz: float
    deadline_ms: float
    risk: float
    worst_case: bool = False


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a scale measures.

    held_out: seeds besides 0 to 3. samples: of a simulated violation. timed: numbers of devices of
    figure 11; timed_batch, repeats: instances per call, and rounds of calls. searched: random
    instances that are also searched exhaustively.
    """

    held_out: tuple[int, ...]
    samples: int
    timed: tuple[int, ...]
    timed_batch: int
    repeats: int
    searched: int
    seed: int


def plan_of(config: Config) -> Plan:
    """What a configuration asks for."""
    if config.get("num_seeds") is not None:
        valid = "the figures are means over seeds 0 to 3; leave it out"
        raise ConfigError("num_seeds", config["num_seeds"], valid)
    if config["scale"] == "paper":
        return Plan(HELD_OUT, 400_000, (2, 5, 12, 20, 30), 64, 15, 200, config["seed"])
    return Plan((), 40_000, (2, 12, 30), 16, 9, 20, config["seed"])


def grid(*axes: Any, **named: Any) -> list[Cell]:
    """All combinations of the fields of `Cell`, in their order or by name; a field is a sequence or
    one value."""
    names = [*(field.name for field in dataclasses.fields(Cell)[: len(axes)]), *named]
    each = [x if isinstance(x, list | tuple | range) else (x,) for x in (*axes, *named.values())]
    return [Cell(**dict(zip(names, x, strict=True))) for x in itertools.product(*each)]


@jax.jit
@jax.vmap
def _make(model, r, count, bandwidth, deadline, risk, gain_db, std) -> robust.Instance:
    made = robust.make_instance(model, r, bandwidth, deadline, risk, gain_db=gain_db)
    made = robust.only(made, jnp.arange(r.shape[0]) < count)
    worst = robust.worst_case(made, std)
    return made.replace(sigma=jnp.where(jnp.isnan(std), made.sigma, worst.sigma))


def instances(cells: Sequence[Cell], n_max: int = MOST_DEVICES) -> robust.Instance:
    """The instances of cells, with a leading axis, padded to ``n_max`` devices and 10 points."""

    def std(cell: Cell) -> float:
        fitted = robust.MODELS[cell.network].worst_case_k[cell.profile]
        return fitted if cell.worst_case else np.nan

    r = [published_distances_m(cell.seed, cell.devices) for cell in cells]
    ids = [[NETWORKS.index(cell.network)] * n_max for cell in cells]
    return _make(
        np.array(ids, np.int32),
        np.stack([np.pad(row, (0, n_max - len(row)), mode="edge") for row in r]),
        np.array([cell.devices for cell in cells], np.int32),
        np.array([cell.bandwidth_mhz for cell in cells]),
        np.array([cell.deadline_ms / 1e3 for cell in cells]),
        np.array([cell.risk for cell in cells]),
        np.array([robust.GAIN_DB[cell.profile] for cell in cells]),
        np.array([std(cell) for cell in cells]),
    )


def pick(rows: Iterable[Row], **where: Any) -> list[Row]:
    """Rows with these values."""
    return [row for row in rows if all(row[name] == value for name, value in where.items())]


def fitted(rows: Iterable[Row]) -> list[Row]:
    """Rows of the seeds on which profile and worst case were fitted."""
    return [row for row in rows if row["seed"] < 100]


def held_out(rows: Iterable[Row]) -> list[Row]:
    """Rows of the other seeds."""
    return [row for row in rows if row["seed"] >= 100]


def mean(rows: Iterable[Row], name: str = "energy_j", **where: Any) -> float:
    """Mean over the rows with these values; infinite where one is infeasible."""
    return float(np.mean([row[name] for row in pick(rows, **where)]))
