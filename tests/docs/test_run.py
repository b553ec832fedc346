"""The pages' ```console blocks are run, in an empty folder, in the order of the page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from petavox.cli.app import app
from tests.docs.pages import PAGES, blocks, name_of, to_run, words_of

RUN = [page for page in PAGES if to_run(page)]


def run(line, folder):
    """Run a line; commands of petavox in this process, which saves the loading of torch."""
    words = words_of(line)
    if words[0] == "petavox":
        told = CliRunner().invoke(app, words[1:])
        assert told.exit_code == 0, f"{line}\n{told.output}\n{told.exception!r}"
        return
    here = str(Path(sys.executable).parent)
    env = os.environ | {"PATH": here + os.pathsep + os.environ["PATH"]}
    told = subprocess.run(
        ["bash", "-ec", line], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, f"{line}\n{told.stdout}\n{told.stderr}"


@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_what_a_page_shows_can_be_done(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for line in to_run(page):
        run(line, tmp_path)


def test_every_line_of_a_console_block_has_a_prompt_or_is_output():
    for page in PAGES:
        for language, text in blocks(page):
            if language == "console":
                assert "$ " in text, (name_of(page), text)


def test_the_first_ten_minutes_are_run():
    assert len(to_run(next(p for p in PAGES if p.name == "first.md"))) > 8
