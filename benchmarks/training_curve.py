"""The curve of a training as a picture: what `curve.jsonl` of its --out says.

    python -m benchmarks.training_curve shipped/curve.jsonl      # docs/images/training.png

Above: loss and F1 of patches, means over 20 lines. Below: the flooded validation box, adapted Rand
error (empty voxels as one object, and as an object each) and fill. Prints one line of JSON.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np

from benchmarks.common import emit
from petavox.provenance import write_atomically

mpl.use("Agg")

from matplotlib import pyplot as plt  # after the choice of a backend without a screen

IMAGE = Path(__file__).resolve().parent.parent / "docs" / "images" / "training.png"
WINDOW = 20
"""Lines that are averaged."""


def main(path: Path) -> None:
    """Draw the picture."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    steps = [r for r in rows if "loss" in r]
    checks = [r for r in rows if "validation_error" in r]
    fovs_a_step = steps[-1]["fovs"] / steps[-1]["step"]
    figure, (above, below) = plt.subplots(2, 1, figsize=(7, 6), sharex=True)
    x = smooth([r["fovs"] / 1000 for r in steps])
    above.plot(x, smooth([r["loss"] for r in steps]), label="loss")
    above.plot(x, smooth([r["f1"] for r in steps]), label="F1 of patches")
    at = [r["step"] * fovs_a_step / 1000 for r in checks]
    for key, name in (
        ("adapted_rand", "adapted Rand error"),
        ("error", "the same, each empty voxel an object"),
        ("fill", "fill"),
    ):
        below.plot(at, [r[f"validation_{key}"] for r in checks], "o-", label=name)
    below.set_xlabel("thousand fields of view seen")
    for axes, title in ((above, "patches learned from"), (below, "validation box, flooded")):
        axes.set_ylim(0, 1)
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.tight_layout()
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=110)
    write_atomically(IMAGE, drawn.getvalue())
    emit(
        "training_curve",
        fovs=steps[-1]["fovs"],
        minutes=round(steps[-1]["minutes"], 1),
        fov_per_s=round(steps[-1]["fovs"] / steps[-1]["minutes"] / 60, 1),
        loss=round(float(np.mean([r["loss"] for r in steps[-WINDOW:]])), 4),
        f1=round(float(np.mean([r["f1"] for r in steps[-WINDOW:]])), 4),
        validation=[
            {
                "fovs": round(r["step"] * fovs_a_step),
                **{k: round(r[f"validation_{k}"], 3) for k in ("adapted_rand", "error", "fill")},
            }
            for r in checks
        ],
    )


def smooth(values: list[float]) -> np.ndarray:
    """Running mean over WINDOW values."""
    width = min(WINDOW, len(values))
    return np.convolve(values, np.ones(width) / width, mode="valid")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
