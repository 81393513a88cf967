"""The one exception a user sees for a bad configuration, scenario or file."""

from __future__ import annotations

import re


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


def _short(value: object, limit: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
