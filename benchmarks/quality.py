"""Damage masks on real sections: how much sound tissue is flagged, how much damage is found.

    python -m benchmarks.quality

What it is: the flagged share of sections that a person finds sound, and the share of injected
folds and cracks (each across the section, 0.25 and 0.18 um wide, and 0.1 um) that is masked, with
the seconds per megapixel. What it is not: a test on natural folds; there are none in these data.
"""

from __future__ import annotations

import time
from typing import Any

import h5py
import numpy as np

from benchmarks.common import data_folder, emit
from petavox.align.damage import masks

SETS = {
    "vnc_sstem": ("vnc_sstem/stack1.h5", 4.6, 3),
    "fib25": ("fib25/validation_sample_z0-200.h5", 10.0, 25),
}


def injected(image: np.ndarray, pixel_nm: float, kind: str, width_nm: float, seed: int) -> Any:
    """A section with one straight band across it, and where the band is."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[: image.shape[0], : image.shape[1]]
    angle, off = rng.uniform(0, np.pi), rng.uniform(-0.15, 0.15, 2) * image.shape
    y, x = yy - image.shape[0] / 2 - off[0], xx - image.shape[1] / 2 - off[1]
    band = np.abs(y * np.cos(angle) + x * np.sin(angle)) < width_nm / pixel_nm / 2
    out = image.astype(np.float32)
    out[band] = out[band] * 0.4 if kind == "fold" else rng.normal(238, 5, int(band.sum()))
    return np.clip(out, 0, 255).astype(np.uint8), band


def main() -> None:
    """One line of JSON for each data set."""
    for name, (file, pixel, every) in SETS.items():
        with h5py.File(data_folder() / file) as f:
            stack = f["raw"][::every]
        ok = np.ones(stack.shape[1:], bool)
        began = time.monotonic()
        flagged = [1 - masks(s, ok, pixel).match.mean() for s in stack]
        seconds = (time.monotonic() - began) / (stack.size / 1e6)
        found: dict[str, float] = {}
        for kind, width in (("fold", 250.0), ("fold", 100.0), ("crack", 180.0), ("crack", 100.0)):
            shares = []
            for k, section in enumerate(stack):
                hurt, band = injected(section, pixel, kind, width, k)
                shares.append(float((~masks(hurt, ok, pixel).match_mask)[band].mean()))
            found[f"{kind}_{width:.0f}nm_masked"] = round(float(np.mean(shares)), 3)
        emit(
            "quality",
            data=name,
            sections=len(stack),
            sound_flagged_mean=round(float(np.mean(flagged)), 6),
            sound_flagged_worst=round(float(np.max(flagged)), 6),
            **found,
            seconds_per_megapixel=round(seconds, 3),
        )


if __name__ == "__main__":
    main()
