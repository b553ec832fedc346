"""`petavox demo`, start to end, in a folder of its own.

    python -m benchmarks.demo

What it is: seconds of the whole command, start of Python included. What it is not: its picture.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import emit


def main() -> None:
    """Run it once, print one line of JSON."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "petavox", "demo", str(Path(folder) / "demo")],
            check=True, capture_output=True,
        )  # fmt: skip
        emit(
            "demo",
            seconds=round(time.perf_counter() - began, 1),
            load=round(os.getloadavg()[0], 1),
        )


if __name__ == "__main__":
    main()
