"""`petavox demo`, start to end, in a folder of its own.

    python -m benchmarks.demo

What it is: seconds of the whole command, start of Python included, its peak memory with all its
processes, and the scores that it prints. What it is not: its picture.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import emit
from benchmarks.measured import measured


def demonstration(folder: str) -> dict[str, Any]:
    """Run it once; its figures."""
    done = subprocess.run(
        [sys.executable, "-m", "petavox", "demo", folder, "--json"],
        check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    return dict(json.loads(done.stdout))


def main() -> None:
    """Run it once, print one line of JSON."""
    with tempfile.TemporaryDirectory() as folder:
        run = measured(demonstration, str(Path(folder) / "demo"))
    load = round(os.getloadavg()[0], 1)
    emit("demo", **run.figures(), scores=run.result.get("scores"), load=load)


if __name__ == "__main__":
    main()
