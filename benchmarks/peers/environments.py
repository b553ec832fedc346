"""Environments of peers: made once, kept in benchmarks/.peers.

What it is: `python_of`, and running a script there. What it is not: a package manager: a package
that its registry does not give is a row in the table, not an error.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
ROOM = HERE.parent / ".peers"
GENERATOR_NEEDS = ("numpy", "scipy", "opencv-python-headless")
"""Of the generator of the alignment set; opencv is not among petavox's own needs."""


class Unavailable(Exception):
    """A peer cannot be installed or run; the text says why."""


def python_of(name: str, packages: Sequence[str], seconds: float = 420) -> Path:
    """The Python of an environment that holds the packages. Raises Unavailable."""
    place = ROOM / name
    python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
    made = place / ".made"
    if made.exists() and made.read_text() == " ".join(packages):
        return python
    try:
        steps = [
            [sys.executable, "-m", "venv", "--clear", str(place)],
            [str(python), "-m", "pip", "install", "--quiet", *packages],
        ]
        for step in steps:
            subprocess.run(step, check=True, capture_output=True, text=True, timeout=seconds)
    except subprocess.CalledProcessError as e:
        raise Unavailable(f"cannot be installed: {_last(e.stderr)}") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"cannot be installed within {seconds:.0f} s") from None
    made.write_text(" ".join(packages))
    return python


def source_of(package: str, version: str, seconds: float = 120) -> Path:
    """The unpacked source distribution of a package, for scripts that its wheel leaves out.

    Raises Unavailable.
    """
    place = ROOM / f"{package}-source"
    unpacked = place / f"{package}-{version}"
    if unpacked.is_dir():
        return unpacked
    place.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary",
               package, "--dest", str(place), f"{package}=={version}"]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds)
    except subprocess.CalledProcessError as e:
        raise Unavailable(f"its source cannot be fetched: {_last(e.stderr)}") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"its source cannot be fetched within {seconds:.0f} s") from None
    try:
        with tarfile.open(place / f"{package}-{version}.tar.gz") as packed:
            packed.extractall(place, filter="data")
    except (OSError, tarfile.TarError) as e:
        raise Unavailable(f"its source cannot be unpacked: {e}") from None
    return unpacked


def run(python: Path, script: str, *arguments: str, seconds: float = 300) -> Any:
    """The last line, JSON, of a script of this folder run by `python`. Raises Unavailable."""
    command = [str(python), "-W", "ignore", str(HERE / script), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"did not end within {seconds:.0f} s") from None
    finally:
        _end(process)
    if process.returncode:
        raise Unavailable(f"fails: {_last(errors)}")
    try:
        return json.loads(out.strip().splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        raise Unavailable("gave no figures") from None


def _end(process: subprocess.Popen[str]) -> None:
    """End a script, and what it started."""
    if process.poll() is None:
        for child in [*psutil.Process(process.pid).children(recursive=True), process]:
            with contextlib.suppress(psutil.Error):
                child.kill()
        process.wait()


def version(python: Path, package: str) -> str:
    """The version installed there."""
    code = f"from importlib.metadata import version; print(version('{package}'))"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _last(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no message"
