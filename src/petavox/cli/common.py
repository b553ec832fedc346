"""What all commands share: errors as sentences, figures as a table or as JSON, log lines.

What it is: the wrapper around every command function. What it is not: any command.

A command is a plain function; it returns a mapping of figures, or None:

    @command
    def info(path: Annotated[str, typer.Argument(help="...")]) -> Figures: ...

The wrapper adds `--json` (where the function returns figures) and `--debug`.
"""

from __future__ import annotations

import functools
import inspect
import json
import logging
import signal
import sys
import threading
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from petavox.errors import PetavoxError

Figures = Mapping[str, Any]
"""Names and values that a command yields; nested mappings are shown indented."""

log = logging.getLogger("petavox")

_JSON = Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")]
_DEBUG = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def command(function: Callable[..., Any]) -> Callable[..., None]:
    """Turn a function into a command: adds --debug, and --json if it returns Figures."""
    hints = typing.get_type_hints(function, include_extras=True)
    gives_figures = hints.get("return", type(None)) is not type(None)
    signature = inspect.signature(function)
    extra = {"debug": _DEBUG} | ({"json_": _JSON} if gives_figures else {})

    @functools.wraps(function)
    def wrapped(**given: Any) -> None:
        debug, as_json = given.pop("debug"), given.pop("json_", False)
        _log_to_stderr()
        _terminated_is_an_interruption()
        try:
            _no_urls_as_paths(given)
            figures = function(**given)
        except PetavoxError as e:
            if debug:
                raise
            _fail(str(e), e.exit_code)
        except _Terminated as e:
            name = signal.Signals(e.number).name
            _fail(f"ended from outside ({name}); what was finished is kept.", 128 + e.number)
        except (KeyboardInterrupt, BrokenPipeError):
            _fail("stopped by the user; what was finished is kept.", 130)
        except Exception as e:
            if debug:
                raise
            _fail(
                f"unexpected {type(e).__name__}: {e}. This is a defect of petavox: run again with "
                "--debug and report the traceback.",
                70,
            )
        else:
            if figures is not None:
                show(figures, as_json=as_json)

    parameters = [
        p.replace(annotation=hints.get(p.name, p.annotation)) for p in signature.parameters.values()
    ]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in extra.items()
    ]
    wrapped.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=parameters, return_annotation=None
    )
    wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapped


def _no_urls_as_paths(given: Mapping[str, Any]) -> None:
    """Refuse a URL where a path is asked for: it would become a folder named "s3:" here."""
    if any(isinstance(v, Path) and ":/" in str(v) for v in given.values()):
        from petavox.volume import places  # only now: it loads TensorStore

        for value in given.values():
            if isinstance(value, Path):
                places.named(value)


_ENDINGS = (signal.SIGTERM, signal.SIGHUP)


class _Terminated(KeyboardInterrupt):
    """SIGTERM came, a scheduler's time limit or a person's kill; or SIGHUP, a closed terminal."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def _terminated_is_an_interruption() -> None:
    """Let SIGTERM and SIGHUP unwind the stack as Ctrl-C does: ledgers are saved, jobs are ended.

    A terminal that is closed must not leave the jobs of a driver in the scheduler's queue; under
    `nohup` and `tmux` it goes on.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for name in _ENDINGS:
        if signal.getsignal(name) == signal.SIG_DFL:
            signal.signal(name, _terminate)


def _terminate(number: int, _frame: FrameType | None) -> None:
    for name in _ENDINGS:
        signal.signal(name, signal.SIG_IGN)  # once is enough: the way out is short
    raise _Terminated(number)


def show(figures: Figures, *, as_json: bool) -> None:
    """Print figures on stdout: one JSON object, or an aligned table."""
    if as_json:
        sys.stdout.write(json.dumps(figures, default=str) + "\n")
        return
    # a Report says beside every figure by which convention it was counted
    notes: Mapping[str, str] = getattr(figures, "notes", {})
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for indented, name, value in _rows({k: v for k, v in figures.items() if v is not notes}):
        table.add_row(indented.replace("_", " "), value, notes.get(name, ""))
    # a file or a pipe has no width of its own: nothing there needs to be folded
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _rows(figures: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str, str]]:
    """(indented name, dotted name, value); a nested mapping is a heading, its names below it."""
    for key, value in figures.items():
        name = f"{within}{key}"
        indented = "  " * within.count(".") + str(key)
        if isinstance(value, Mapping):
            yield indented, name, ""
            yield from _rows(value, f"{name}.")
        else:
            yield indented, name, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.1f}"
    if isinstance(value, (list, tuple)):
        if any(isinstance(v, Mapping) for v in value):
            return f"{len(value)} entries (shown by --json)"
        return ", ".join(_text(v) for v in value)
    return str(value)


def _fail(sentence: str, code: int) -> typing.NoReturn:
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"[bold red]error:[/] {_escaped(sentence)}"
    )
    raise SystemExit(code)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


class _Stderr(logging.StreamHandler):
    """Writes to whatever stderr is now, not to what it was when the first command ran."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr


def _log_to_stderr() -> None:
    if not log.handlers:
        handler = _Stderr()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
