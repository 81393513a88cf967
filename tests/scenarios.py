"""What the tests of all systems do with scenarios: published ones, and those that are refused."""

from __future__ import annotations

import numpy as np
import pytest

import jaxenv
from jaxenv import ConfigError


def check_refused(name, options, field, words):
    """``make`` refuses the options in one line that names the field and what is valid."""
    with pytest.raises(ConfigError) as error:
        jaxenv.make(name, **options)
    text = str(error.value)
    assert text.startswith(f"{field}: ") and words in text and "\n" not in text


def check_leaves_are(params, **leaves):
    """Leaves of a scenario have these values, to the rounding of float32."""
    for name, value in leaves.items():
        np.testing.assert_allclose(getattr(params, name), value, rtol=1e-6, err_msg=name)
