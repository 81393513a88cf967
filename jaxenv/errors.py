"""The one exception a user sees for a bad configuration, scenario or file."""

from __future__ import annotations


class ConfigError(ValueError):
    """A setting that cannot be used: one line naming the field, its value and what is valid."""

    def __init__(self, field: str, value: object, valid: str):
        text = f"{field}: {_short(value)} is not valid; {valid}"
        super().__init__(" ".join(text.split()))
        self.field = field
        self._arguments = (field, value, valid)

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, object, str]]:
        return ConfigError, self._arguments


def _short(value: object, limit: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
