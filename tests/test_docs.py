"""The pages: their links lead somewhere, the commands and options they name exist."""

from __future__ import annotations

import importlib
import re

import pytest
import typer

from petavox.cli.app import COMMANDS
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def command_of(words):
    """The command that the words of a line call, or None."""
    if words[0] not in COMMANDS:
        return None
    module = importlib.import_module(f"petavox.cli.{COMMANDS[words[0]][0]}")
    found = typer.main.get_command(module.app)
    subs = getattr(found, "commands", None)
    return found if subs is None else subs.get(words[1])


def calls(page):
    """Calls of petavox in the code blocks of a page, as lists of words."""
    blocks = re.findall(r"```(?:sh|bash|console)?\n(.*?)```|((?:^    .*\n)+)", page, re.M | re.S)
    for block in (a or b for a, b in blocks):
        for line in block.replace("\\\n", " ").splitlines():
            found = re.match(r"\s*(?:\$ )?petavox ([a-z].*)", line.split("#")[0])
            if found:
                yield found[1].split()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "://" not in link:
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_and_their_options_exist(page):
    for words in calls(page.read_text()):
        found = command_of(words)
        assert found is not None, words
        known = {o for p in found.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
        for word in words:
            if re.match(r"--?[a-zA-Z]", word):
                assert word.split("=")[0] in known, (word, words)


def test_the_pages_do_call_commands():
    named = {w[0] for page in PAGES for w in calls(page.read_text())}
    assert len(named) > 15
