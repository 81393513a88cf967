"""The one exception a user sees for a bad configuration, scenario or file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class ConfigError(ValueError):
    """A setting that cannot be used: one line naming the field, its value and what is valid."""

    def __init__(self, field: str, value: object, valid: str):
        text = f"{field}: {_short(value)} is not valid; {valid}"
        super().__init__(" ".join(text.split()))
        self.field, self.value, self.valid = field, value, valid

    @classmethod
    def of(cls, field: str, value: object, error: Exception) -> ConfigError:
        """``error``, raised by what the setting ``field`` gave; its value is said once."""
        shown = "|".join({re.escape(text) for text in (_short(value), _short(str(value)))})
        reason = re.sub(rf"^[\w ]+: ({shown}) is not valid; ", "", " ".join(str(error).split()))
        return cls(field, value, reason.removeprefix(f"{value}: "))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, object, str]]:
        return ConfigError, (self.field, self.value, self.valid)


def known_names(name: str, names: Iterable[str]) -> str:
    """What is valid where ``name`` is none of ``names``: the closest one, then all of them."""
    names = list(names)
    close = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{hint}known names are {', '.join(names) or '(none)'}"


def _short(value: object, limit: int = 120) -> str:
    """An array or a NumPy number as the numbers it holds."""
    try:
        text = repr(value.tolist() if hasattr(value, "tolist") else value)
    except Exception:  # of a traced array
        text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
