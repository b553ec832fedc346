"""Docstrings as Markdown: examples become blocks of code, arguments a list.

What it is: an extension of griffe, which mkdocstrings reads the code with. What it is not: a
style of docstrings; petavox writes `name: what it is.` and leaves the rest to the eye.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ENTRY = re.compile(r"^([a-z]\w*(?:, [a-z]\w*)*): +(\S.*)$")
"""A line that says what one argument, or several, are."""


class Docstrings(griffe.Extension):
    """Rewrites every docstring when it was read."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring is not None and not obj.is_attribute:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """A docstring with fences around its examples and dashes before its arguments."""
    text = re.sub(r"(?<=\S)  (?=[a-z]\w*(?:, [a-z]\w*)*: )", "\n", text)
    out: list[str] = []
    inside, listed = False, False
    for line in text.splitlines():
        if line.startswith(">>>") and not inside:
            out += ["", "```python"]
            inside, listed = True, False
        elif inside and not line.strip():
            out.append("```")
            inside = False
        entry = None if inside else ENTRY.match(line)
        if entry is not None:
            if not listed:
                out.append("")
            out.append(f"- **{entry[1]}**: {entry[2]}")
            listed = True
            continue
        starts = re.match(r"(Raises|Gives|Returns|Without|With|Needs|Source|Files) ?", line)
        if listed and (not line.strip() or starts):
            out.append("")
            listed = False
        out.append(("  " if listed and not inside else "") + re.sub(r"\s+# doctest:.*", "", line))
    if inside:
        out.append("```")
    return "\n".join(out)
