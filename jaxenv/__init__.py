"""Published systems for DNN inference at the network edge, as jit-compiled JAX environments."""

from jaxenv.compiler import warn_of_unsound_compiler
from jaxenv.environment import Constraint, Environment, Metric, Params, State
from jaxenv.errors import ConfigError
from jaxenv.registry import environments, load_plugins, make, register

__version__ = "0.1.0"

warn_of_unsound_compiler()

__all__ = [
    "ConfigError",
    "Constraint",
    "Environment",
    "Metric",
    "Params",
    "State",
    "environments",
    "load_plugins",
    "make",
    "register",
]
