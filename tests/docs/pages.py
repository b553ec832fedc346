"""The pages and the lines of command in them.

A line that begins with `$` in a ```console block is run by test_run.py, in an empty folder, in the
order of the page. All others are parsed by test_commands.py.
"""

from __future__ import annotations

import re
import shlex

from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$|((?:^(?: {4}|\t).*\n)+)", re.M | re.S)
SHELLS = ("", "sh", "bash", "console")


def name_of(page):
    """A page's path below the project."""
    return str(page.relative_to(ROOT))


def blocks(page):
    """(language, text) of every block of commands; an indented one has the language ""."""
    for found in BLOCK.finditer(page.read_text()):
        language = found[1] or ""
        if language in SHELLS:
            yield language, found[2] if found[2] is not None else found[3]


def lines(text):
    """Lines of a block, continued ones joined, without prompts."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            yield line.strip().removeprefix("$ ")


def to_run(page):
    """The lines of a page that are run, in order."""
    found = []
    for language, text in blocks(page):
        if language == "console":
            found += [x.removeprefix("$ ") for x in text.splitlines() if x.startswith("$ ")]
    return found


def words_of(line):
    """The words of a line as a shell has them, without its comment."""
    return shlex.split(line, comments=True)
