"""The newest line of every benchmark, as the page docs/benchmarks.md.

    python -m benchmarks.table

What it is: results/*.jsonl turned into text, nothing typed by hand. What it is not: a measurement.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS

PAGE = RESULTS.parent.parent / "docs" / "benchmarks.md"
ABOUT = ("machine", "commit", "when", "petavox", "benchmark")
HEAD = """# Benchmarks

The newest line of each file in `benchmarks/results/`; `python -m benchmarks.table` makes this page.
The history is in those files. `commit` is the state of the code that was measured.
"""


def flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Names and texts of figures; nested ones with dotted names."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for i, item in enumerate(value):
                rows += flat(item, f"{prefix}{name}[{i}].")
        else:
            rows.append((prefix + name, f"{value:.4g}" if isinstance(value, float) else str(value)))
    return rows


def section(file: Path) -> str:
    """One benchmark's newest line."""
    line = json.loads(file.read_text().splitlines()[-1])
    figures = {k: v for k, v in line.items() if k not in ABOUT}
    about = ", ".join(str(line[k]) for k in ("machine", "commit", "when") if k in line)
    rows = "\n".join(f"| {name} | {text} |" for name, text in flat(figures))
    return f"## {file.stem}\n\n{about}\n\n| figure | value |\n|---|---|\n{rows}\n"


def main() -> None:
    """Write the page."""
    PAGE.write_text("\n".join([HEAD, *(section(f) for f in sorted(RESULTS.glob("*.jsonl")))]))
    print(PAGE)


if __name__ == "__main__":
    main()
