"""Every environment in the form that other libraries expect; each library is imported when used.

One module and one function per library: ``jaxenv.adapters.gymnax.to_gymnax``, and likewise for
`gymnasium`, `sb3`, `pettingzoo`, `jaxmarl` and `stoa`. All take an environment, or a registered
name and what `jaxenv.make` takes, and these options (see `jaxenv.adapters.prepare.prepare`):

- ``actions="flat"`` or ``"sequential"`` for libraries that know only Discrete actions;
- ``repair=True`` for libraries that know no masks.
"""

from __future__ import annotations

import importlib
from types import ModuleType

LIBRARIES = ("gymnasium", "gymnax", "jaxmarl", "pettingzoo", "sb3", "stoa")


def __getattr__(name: str) -> ModuleType:
    if name in LIBRARIES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
