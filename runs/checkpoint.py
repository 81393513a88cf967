"""Checkpoints of whole training states: the one module that touches Orbax.

A checkpoint is every leaf of a pytree, by position, with the leaves' names, shapes and dtypes
beside it; PRNG keys are stored as their data. Saves are atomic: a killed save leaves no checkpoint.
A checkpoint that is not as it was saved, by the checksums of its files, is not read.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from agents import spread
from jaxenv.errors import ConfigError
from runs.devices import writes

FOLDER = "checkpoints"
SUMS = "files.json"


class Checkpoints:
    """The checkpoints of one run folder: the last ``keep`` and the best.

    Args:
        folder: the run's folder; checkpoints lie in its ``checkpoints/``.
        keep: how many of the last ones stay.
        direction: whether the ``value`` given to `save` is better ``min`` or ``max``.
        identity: small JSON-able facts (environment, learner) that a restore must find again.
    """

    def __init__(
        self, folder: Path, identity: dict[str, str], keep: int = 3, direction: str = "min"
    ):
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers as policies

        logging.getLogger("absl").setLevel(logging.CRITICAL)  # what is damaged is said here
        self.folder = Path(folder) / FOLDER
        self.identity = identity
        self._args = ocp.args
        best = policies.BestN(
            get_metric_fn=_value,
            reverse=direction == "min",
            n=1,
            keep_checkpoints_without_metrics=False,
        )
        self._manager = ocp.CheckpointManager(
            self.folder.absolute(),
            options=ocp.CheckpointManagerOptions(
                best_fn=_value,
                best_mode=direction,
                preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
                enable_async_checkpointing=False,
                cleanup_tmp_directories=True,
            ),
        )

    def save(self, update: int, state: Any, value: float | None = None) -> None:
        """Writes ``state`` as the checkpoint of ``update``, replacing an unreadable one.

        ``value`` ranks it among the best; None or a non-finite number leaves it unranked.

        Raises:
            OSError: it cannot be written; those before it stay.
        """
        try:
            self._save(update, state, value)
        except OSError:
            raise
        except ValueError as error:  # as Orbax's storage says that the operating system refuses
            found = re.search(r"os_error_code='(\d+)'", str(error))
            if found is None:
                raise
            number = int(found.group(1))
            path = str(self.folder / str(update))
            raise OSError(number, os.strerror(number), path) from error

    def _save(self, update: int, state: Any, value: float | None) -> None:
        if update in self._manager.all_steps():
            self._manager.delete(update)
        leaves, names = _plain_leaves(state)
        meta = self.identity | {"update": update, "leaves": _describe(leaves, names)}
        ranked = value is not None and math.isfinite(value)
        self._manager.save(
            update,
            args=self._args.Composite(
                leaves=self._args.StandardSave(dict(_numbered(leaves))),
                meta=self._args.JsonSave(meta),
            ),
            metrics={"value": float(value)} if ranked else None,
        )
        if not writes():
            return
        sums = self.folder / str(update) / SUMS
        partial = sums.with_name(f"{SUMS}.partial")
        partial.write_text(json.dumps(_sums(sums.parent)))
        os.replace(partial, sums)

    def updates(self) -> list[int]:
        """The updates whose checkpoints are complete on disk, oldest first."""
        return sorted(self._manager.all_steps())

    def newest(self) -> int:
        """The update of the newest checkpoint that is as it was saved; 0 = none."""
        for update in reversed(self.updates()):
            try:
                _check_sums(self.folder / str(update))
            except (OSError, ValueError):
                continue
            return update
        return 0

    def restore(
        self, target: Any, which: int | str = "last", sharding: Any = None
    ) -> tuple[int, Any, list[str]]:
        """``(update, state, skipped)`` of a checkpoint.

        Args:
            target: the abstract state (`jax.eval_shape`) to restore into.
            which: ``last`` (the newest readable one), ``best``, or an update.
            sharding: of every leaf, whatever it was when it was saved; None = whole in
                every process.

        Returns:
            The update, the state, and one line for every newer checkpoint that could not be read.

        Raises:
            ConfigError: none there, none readable, or one of another program.
        """
        updates = self.updates()
        if not updates:
            raise ConfigError("checkpoint", str(self.folder), "it holds no complete checkpoint")
        if which == "last":
            candidates = updates[::-1]
        else:
            chosen = self._manager.best_step() if which == "best" else which
            if chosen is None:
                valid = "none was measured; train with checkpoint_episodes=N, or choose last"
                raise ConfigError("step", which, valid)
            if chosen not in updates:
                valid = f"{self.folder} holds {', '.join(map(str, updates))}; or choose last, best"
                raise ConfigError("step", which, valid)
            candidates = [chosen]
        skipped, reason = [], ""
        for update in candidates:
            try:
                _check_sums(self.folder / str(update))
                return update, self._read(update, target, sharding), skipped
            except ConfigError:
                raise
            except Exception as error:  # whatever Orbax makes of a damaged folder
                reason = " ".join(str(error).split())[:80] or type(error).__name__
                skipped.append(f"checkpoint {self.folder / str(update)} is damaged ({reason})")
        valid = f"it is damaged ({reason}) and no other is left"
        raise ConfigError("checkpoint", str(self.folder / str(candidates[0])), valid)

    def _read(self, update: int, target: Any, sharding: Any) -> Any:
        path = self.folder / str(update)
        restored = self._manager.restore(
            update, args=self._args.Composite(meta=self._args.JsonRestore())
        )
        meta = restored["meta"]
        for name, value in self.identity.items():
            if meta.get(name) != value:
                valid = f"it holds {name}={meta.get(name)}, and {name}={value} is asked for"
                raise ConfigError("checkpoint", str(path), valid)
        leaves, names = _plain_leaves(target)
        wanted = _describe(leaves, names)
        if sorted(meta["leaves"]) != sorted(wanted):
            valid = f"its state does not fit this configuration: {_difference(meta, wanted)}"
            raise ConfigError("checkpoint", str(path), valid)
        sharding = sharding or spread.sharding(None)
        held = {name: number for number, (name, *_) in _numbered(meta["leaves"])}
        abstract = {
            held[name]: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
            for name, leaf in zip(names, leaves, strict=True)
        }
        restored = self._manager.restore(
            update, args=self._args.Composite(leaves=self._args.StandardRestore(abstract))
        )
        values = [restored["leaves"][held[name]] for name in names]
        return _typed(values, target)

    def close(self) -> None:
        """Waits for Orbax to finish."""
        self._manager.close()


def _sums(checkpoint: Path) -> dict[str, list[int]]:
    """Size and checksum of every file of a checkpoint, by its path within it."""
    files = sorted(p for p in checkpoint.rglob("*") if p.is_file() and SUMS not in p.name)
    contents = ((p.relative_to(checkpoint).as_posix(), p.read_bytes()) for p in files)
    return {name: [len(data), zlib.crc32(data)] for name, data in contents}


def _check_sums(checkpoint: Path) -> None:
    """Refuses what is not as it was saved; one without checksums, as older ones are, passes."""
    path = checkpoint / SUMS
    if not path.exists():
        return
    wanted, found = json.loads(path.read_text()), _sums(checkpoint)
    for name in wanted:
        if found.get(name) != wanted[name]:
            raise ValueError(f"{name} is not as it was saved")


def _value(metrics: dict[str, float]) -> float:
    return metrics["value"]


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain_leaves(tree: Any) -> tuple[list[Any], list[str]]:
    """Leaves with keys as their data (abstract ones too), and the leaves' names."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    abstract = any(isinstance(leaf, jax.ShapeDtypeStruct) for _, leaf in paths)
    data = partial(jax.eval_shape, jax.random.key_data) if abstract else jax.random.key_data
    leaves = [data(leaf) if _is_key(leaf) else leaf for _, leaf in paths]
    return leaves, [jax.tree_util.keystr(path) for path, _ in paths]


def _key_impl(key: Any) -> Any:
    """The implementation of a key that may be abstract."""
    found = []

    def note(key: Any) -> Any:
        found.append(jax.random.key_impl(key))
        return key

    jax.eval_shape(note, key)
    return found[0]


def _typed(values: list[Any], target: Any) -> Any:
    """Values as the tree of ``target``, key data wrapped again."""
    leaves, structure = jax.tree.flatten(target)
    typed = [
        jax.random.wrap_key_data(value, impl=_key_impl(leaf)) if _is_key(leaf) else value
        for value, leaf in zip(values, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, typed)


def _numbered(leaves: list[Any]) -> list[tuple[str, Any]]:
    return [(f"{index:05d}", leaf) for index, leaf in enumerate(leaves)]


def _describe(leaves: list[Any], names: list[str]) -> list[list[Any]]:
    return [
        [name, list(leaf.shape), str(leaf.dtype)] for name, leaf in zip(names, leaves, strict=True)
    ]


def _difference(meta: dict[str, Any], wanted: list[list[Any]]) -> str:
    for (name, *held), (other, *asked) in zip(meta["leaves"], wanted, strict=False):
        if name != other:
            return f"it holds {name} where {other} is expected"
        if held != asked:
            return f"{name} is {held[1]}{held[0]}, expected {asked[1]}{asked[0]}"
    return f"it holds {len(meta['leaves'])} arrays, expected {len(wanted)}"
