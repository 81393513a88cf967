"""A Griffe extension: the comment behind a field of a class is its text on the API pages."""

from __future__ import annotations

import io
import re
import tokenize
from typing import Any

import griffe


class FieldComments(griffe.Extension):
    """Takes ``name: type  # comment`` for the documentation of a field that has no other."""

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """After the members of a class are known."""
        for field in cls.members.values():
            if not field.is_alias and field.is_attribute and not field.docstring:
                text = comment(field)
                if text:
                    field.docstring = griffe.Docstring(text, lineno=field.lineno, parent=field)


def comment(field: griffe.Attribute) -> str:
    """The comment in the statement of a field; shapes, ``[rows, N]``, are set as code."""
    source = "\n".join(field.lines)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    text = " ".join(token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT)
    return re.sub(r"\[[^\]]*\]", r"`\g<0>`", text)
