"""What all adapters share: the environment to adapt, missing libraries, equality by value."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import jax
import numpy as np

from jaxenv import spaces
from jaxenv.adapters.actions import FlatActions, SequentialActions, ValidActions
from jaxenv.environment import Environment
from jaxenv.errors import ConfigError
from jaxenv.registry import make

Actions = Literal["native", "flat", "sequential"]
ACTIONS = ("native", "flat", "sequential")


@contextlib.contextmanager
def needs(library: str, package: str | None = None) -> Iterator[None]:
    """Around the imports of an adapter: a missing library is one line that says what to install.

    package: its name for pip, if it has another one.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or library).partition(".")[0]
        wanted = package if package and missing == library else missing
        line = f"{missing} is not installed; install it first: pip install {wanted}"
        raise ModuleNotFoundError(line, name=error.name) from None


def prepare(
    env: Environment | str,
    params: Any = None,
    options: Mapping[str, Any] | None = None,
    actions: Actions = "native",
    repair: bool = False,
) -> tuple[Environment, Any]:
    """``(env, params)`` that an adapter adapts.

    Args:
        env: an environment, or a registered name.
        params: its scenario; of an environment, the default one if None.
        options: with a name, what `jaxenv.make` takes: sizes and leaves of the scenario.
        actions: ``native``; ``flat``: one number for all entries of an action
            (`FlatActions`); ``sequential``: one entry per step (`SequentialActions`). Discrete
            actions stay as they are.
        repair: an invalid action becomes the next valid one (`ValidActions`).

    Raises:
        ConfigError: one line naming what does not fit.
    """
    options = options or {}
    if isinstance(env, str):
        if params is not None:
            valid = "params go with an environment; with a name give their leaves by name"
            raise ConfigError("params", type(params).__name__, valid)
        env, params = make(env, **options)
    elif options:
        name, value = next(iter(options.items()))
        raise ConfigError(name, value, "no such option; sizes and leaves go with a name")
    params = env.default_params() if params is None else params
    if actions not in ACTIONS:
        raise ConfigError("actions", actions, f"choose one of {', '.join(ACTIONS)}")
    if actions != "native" and not isinstance(env.action_space, spaces.Discrete):
        env = FlatActions(env) if actions == "flat" else SequentialActions(env)
    return (ValidActions(env) if repair else env), params


def require_one_agent(env: Environment, library: str) -> None:
    """Refuses an environment of several agents."""
    if env.num_agents > 1:
        valid = f"{library} needs one agent; use jaxenv.adapters.pettingzoo or jaxmarl"
        raise ConfigError("env", f"{env.name} with {env.num_agents} agents", valid)


class Adapted:
    """An environment and its scenario under the interface of another library.

    Equal, and with equal hashes, where environment, scenario and class are: a deep copy is as good
    a static argument of `jax.jit` as the original.
    """

    def __init__(self, env: Environment, params: Any):
        self.env = env
        self.scenario = params
        leaves, tree = jax.tree.flatten(params)
        arrays = [np.asarray(leaf) for leaf in leaves]
        values = tuple((a.dtype.str, a.shape, a.tobytes()) for a in arrays)
        self._identity = (type(self), env, str(tree), values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Adapted) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)
