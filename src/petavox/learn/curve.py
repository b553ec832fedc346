"""The curve of a training: its figures by step, on disk.

What it is: OUT/curve.jsonl, one line of JSON for each time that figures are said, and the same for
TensorBoard. What it is not: the choice of figures, or pictures of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from petavox.errors import MissingExtra
from petavox.provenance import write_atomically


class Curve:
    """Figures by step. Raises MissingExtra if TensorBoard is asked for and not installed."""

    def __init__(self, out: Path, *, tensorboard: bool = False) -> None:
        self.path = out / "curve.jsonl"
        self.board = _board(out / "tensorboard") if tensorboard else None

    def begin_at(self, step: int) -> None:
        """Drop the lines of later steps: they will be made again. So will a line half written."""
        if self.path.is_file():
            lines = [x for x in self.path.read_text().splitlines() if x.endswith("}")]
            kept = [x for x in lines if json.loads(x)["step"] <= step]
            write_atomically(self.path, "".join(f"{x}\n" for x in kept))

    def write(self, step: int, facts: Mapping[str, float]) -> None:
        """Add a line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a") as f:
            f.write(json.dumps({"step": step, **facts}) + "\n")
        if self.board is not None:
            for name, value in facts.items():
                self.board.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what TensorBoard holds back."""
        if self.board is not None:
            self.board.close()


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtra(
            "`tensorboard: true` needs TensorBoard: pip install 'petavox[tensorboard]'."
        ) from None
    return SummaryWriter(str(folder))
