"""Shows the `>>>` examples of docstrings as code: Markdown would take them for quotations.

An extension of griffe, which reads the docstrings for `docs/api.md`.
"""
# ruff: noqa: INP001 - loaded by its path, see .mkdocs.yml

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import griffe

if TYPE_CHECKING:
    from griffe import Object

_EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)  # up to the next blank line


class FenceDoctests(griffe.Extension):
    """Puts every paragraph that starts with a prompt into a fenced block."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub(lambda found: f"```pycon\n{found[0]}\n```", obj.docstring.value)
