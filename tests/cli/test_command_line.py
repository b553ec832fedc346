"""What holds for every command: help with an example, version, errors without traceback."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from petavox.cli.app import COMMANDS
from petavox.cli.common import Figures, command, show
from petavox.errors import BadInput


def petavox(*words):
    return subprocess.run(
        [sys.executable, "-m", "petavox", *words], capture_output=True, text=True, check=False
    )


def loaded(name):
    import importlib

    return typer.main.get_command(importlib.import_module(f"petavox.cli.{COMMANDS[name][0]}").app)


def leaves(name):
    """(words, command) of a command, or of each command of a group."""
    found = loaded(name)
    subs = getattr(found, "commands", None)
    return [([name, k], v) for k, v in subs.items()] if subs else [([name], found)]


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help_with_an_example(name):
    for words, found in leaves(name):
        text = " ".join(f"{found.help} {found.epilog}".split())
        assert "petavox " + " ".join(words) in text, words
        assert any("--debug" in getattr(p, "opts", []) for p in found.params), words


def test_the_list_of_commands_loads_none_of_them():
    code = (
        "import sys; from typer.testing import CliRunner; from petavox.cli.app import app;"
        "r = CliRunner().invoke(app, ['--help']); assert r.exit_code == 0, r.output;"
        "print('torch' in sys.modules, 'scipy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_version():
    import petavox as pv

    assert petavox("--version").stdout.strip() == f"petavox {pv.__version__}"


def test_an_unknown_command_is_an_error():
    assert petavox("conquer").returncode == 2


def made(function):
    app = typer.Typer(add_completion=False)
    app.command()(command(function))
    return lambda *words: CliRunner().invoke(app, list(words))


def good(n: int = 3) -> Figures:
    return {"count": n, "nested": {"share": 0.25, "fine": True}}


def bad() -> Figures:
    raise BadInput("key 'x' in [y.yaml] is 3: give 4.")


def broken() -> None:
    raise ZeroDivisionError("oh")


def test_figures_are_one_json_object_or_a_table():
    run = made(good)
    assert json.loads(run("--json").stdout) == {"count": 3, "nested": {"share": 0.25, "fine": True}}
    table = run("--n", "1234").stdout
    assert "1,234" in table
    rows = [line.rstrip() for line in table.splitlines()]
    assert rows[1:] == ["nested", "  share  0.25", "  fine   yes"]


def test_an_error_is_a_sentence_with_its_brackets_and_its_code():
    result = made(bad)()
    assert result.exit_code == 2
    assert result.stderr.strip() == "error: key 'x' in [y.yaml] is 3: give 4."
    assert result.stdout == ""


def test_debug_shows_the_traceback():
    assert isinstance(made(bad)("--debug").exception, BadInput)
    assert isinstance(made(broken)("--debug").exception, ZeroDivisionError)


def test_a_defect_says_that_it_is_one():
    result = made(broken)()
    assert result.exit_code == 70
    assert "defect" in result.stderr
    assert "ZeroDivisionError: oh" in result.stderr


def test_values_that_json_does_not_know_are_written_as_words(capsys):
    import pathlib

    show({"path": pathlib.Path("a/b")}, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"path": "a/b"}


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_to_end_unwinds_like_an_interruption(name):
    script = """
import time, typer
from petavox.cli.common import command
def wait() -> None:
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("put away", flush=True)
app = typer.Typer()
app.command()(command(wait))
app()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.Signals[name])
        out, err = child.communicate(timeout=60)
    assert child.returncode == 128 + signal.Signals[name]
    assert out == "put away\n"
    assert err == f"error: ended from outside ({name}); what was finished is kept.\n"
