"""A compiler that computes wrong numbers is named when the library is imported."""

from __future__ import annotations

import os
import warnings

import jaxlib

UNSOUND = ("0.10.2",)
FLAG = "--xla_cpu_experimental_ynn_fusion_type="


def warn_of_unsound_compiler() -> None:
    """Warns of a jaxlib whose CPU compiler gives wrong sums of products of large arrays.

    It says nothing where the pass at fault is switched off. Source: jax-ml/jax issue 39103.
    """
    version = jaxlib.__version__
    if version in UNSOUND and FLAG not in os.environ.get("XLA_FLAGS", "").split():
        warnings.warn(
            f"jaxlib {version} computes wrong sums of products on CPUs (jax issue 39103): install "
            f"0.10.1 or 0.11 and newer, or set XLA_FLAGS={FLAG}",
            RuntimeWarning,
            stacklevel=3,
        )
