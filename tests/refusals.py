"""What the tests of all systems do with a scenario that cannot be simulated."""

from __future__ import annotations

import pytest

import jaxenv
from jaxenv import ConfigError


def check_refused(name, options, field, words):
    """``make`` refuses the options in one line that names the field and what is valid."""
    with pytest.raises(ConfigError) as error:
        jaxenv.make(name, **options)
    text = str(error.value)
    assert text.startswith(f"{field}: ") and words in text and "\n" not in text
