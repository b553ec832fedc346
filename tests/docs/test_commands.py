"""Every line of command in the pages: the command, its options and its arguments exist.

What it is: a full parse by the command line's own parser, and a look at the few foreign programs.
What it is not: a run; that is test_run.py.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import tomllib

import pytest
import typer

from petavox.cli.app import COMMANDS
from tests.conftest import ROOT
from tests.docs.pages import PAGES, blocks, lines, name_of, words_of

FOREIGN = {
    "squeue", "sbatch", "qsub", "qstat", "kubectl", "torchrun", "mpiexec", "srun", "tensorboard",
    "source", "git", "cd", "head",
}  # fmt: skip
"""Programs of others: that they exist on the reader's machine is not ours to test."""


def command_of(words):
    """(the command that the words call, its name, the words left)."""
    assert words[0] in COMMANDS, f"there is no command petavox {words[0]}"
    found = typer.main.get_command(
        importlib.import_module(f"petavox.cli.{COMMANDS[words[0]][0]}").app
    )
    used = 1
    while getattr(found, "commands", None):
        assert " ".join(words[used : used + 1]) in found.commands, words
        found = found.commands[words[used]]
        used += 1
    return found, " ".join(words[:used]), words[used:]


def check_petavox(words):
    """The parser of the command itself takes the words."""
    if not words or words[0] in ("--help", "--version", "COMMAND"):
        return
    found, name, rest = command_of(words)
    if "--help" in rest:
        return
    found.make_context(name, list(rest))


def check_make(words):
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.M))
    for word in words:
        name, sign, value = word.partition("=")
        if sign:
            assert f"{name} ?=" in (ROOT / "Makefile").read_text(), word
            assert not value.endswith(".txt") or (ROOT / value).exists(), word
        else:
            assert word in targets, word


def check_pip(words):
    assert words[0] == "install", words
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for word in words[1:]:
        for extra in re.findall(r"\[([\w,]+)\]", word):
            assert set(extra.split(",")) <= set(project["optional-dependencies"]), word


def check_python(words):
    if words[:2] == ["-m", "venv"]:
        return
    if words[:1] == ["-c"]:
        compile(words[1], "docs", "exec")
        return
    assert words[0] == "-m", words
    ours = ROOT / f"{words[1].replace('.', '/')}.py"
    assert ours.exists() or importlib.util.find_spec(words[1]) is not None, words[1]


def check(line):
    """Check one line; an unknown program is an error."""
    words = words_of(line)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    for i, word in enumerate(words):
        if word == "&&":
            check(" ".join(words[:i]))
            words = words[i + 1 :]
            break
    if not words:
        return
    program = words[0].rsplit("/", 1)[-1]
    checks = {
        "petavox": check_petavox, "make": check_make, "pip": check_pip, "python": check_python,
        "python3": check_python,
    }  # fmt: skip
    if program in checks:
        checks[program](words[1:])
        return
    assert program in FOREIGN, f"{program} is no program the tests know: {line}"
    # what a foreign program is given to run
    for i, word in enumerate(words):
        if word.startswith("petavox "):
            check(word)
        if word == "-m" and words[i + 1] == "petavox":
            check_petavox(words[i + 2 :])


def commands(page):
    """The lines of a page that are commands: all of shells' blocks; of plain blocks, those that
    begin with a program that is checked."""
    for language, text in blocks(page):
        for line in lines(text):
            ours = re.match(r"(petavox|make|python3?|venv/bin/\w+|git) ", line)
            if ours or language in ("bash", "sh"):
                yield line


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_of_a_page_exists_with_its_options(page):
    for line in commands(page):
        try:
            check(line)
        except Exception as e:
            raise AssertionError(f"{name_of(page)}: `{line}`: {e}") from e


def test_the_pages_tell_of_every_command():
    text = "\n".join(p.read_text() for p in PAGES)
    told = set(re.findall(r"petavox ([a-z]+)", text)) | set(
        re.findall(r"<!-- command ([a-z]+)", text)
    )
    assert set(COMMANDS) <= told, set(COMMANDS) - told
