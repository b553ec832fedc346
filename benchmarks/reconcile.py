"""Reconciliation of real labels that were cut into blocks.

    python -m benchmarks.reconcile

What it is: the two segmentations that were computed in blocks of 128 (flyemflows_seg), joined by
their planes; and a cut-out of mouse cortex (cloudvolume_seg), segmented again in overlapping
blocks (connected components) and compared with the same at once. What it is not: a flood.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.common import data_folder, emit
from petavox import volume
from petavox.blocks import Ledger, open_engine
from petavox.segment.connected import components
from petavox.space import Box
from petavox.stages.blockwise_segment import BlockwiseSettings, segment_blocks
from petavox.stages.reconcile import ReconcileSettings, reconcile
from petavox.volume.opening import create, finish

CUT = 256


def stored(path: Path, values: np.ndarray, kind: str) -> Path:
    """A volume with these voxels."""
    box = Box.of_shape(values.shape)
    made = create(path, box=box, voxel_size=(40, 16, 16), dtype=values.dtype, kind=kind)
    made.write(box, values)
    finish(made, {})
    return path


def variation(a: np.ndarray, b: np.ndarray) -> float:
    """Variation of information in bits, over voxels labelled in both."""
    both = (a != 0) & (b != 0)
    _, x = np.unique(a[both], return_inverse=True)
    _, y = np.unique(b[both], return_inverse=True)
    n = len(x)

    def entropy(values: np.ndarray) -> float:
        p = np.unique(values, return_counts=True)[1] / n
        return float(-(p * np.log2(p)).sum())

    joint = x.astype(np.int64) * (int(y.max()) + 1) + y
    return 2 * entropy(joint) - entropy(x) - entropy(y)


def planes(folder: Path) -> None:
    """Volumes cut at the faces of blocks, without overlap."""
    for file in sorted((data_folder() / "flyemflows_seg").glob("*.npz")):
        with np.load(file) as f:
            values = f[f.files[0]]
        path = stored(folder / file.stem, values, "labels")
        for contact in (1, 50):
            out = folder / f"{file.stem}-{contact}"
            with Ledger(folder / f"{out.name}.db") as ledger:
                began = time.perf_counter()
                proof = reconcile(
                    path,
                    out,
                    ledger=ledger,
                    settings=ReconcileSettings(block=(128, 128, 128), min_contact=contact),
                    quiet=True,
                )
            report(file.stem, proof, time.perf_counter() - began, min_contact=contact)


def report(name: str, proof: dict[str, Any], seconds: float, **more: Any) -> None:
    """One line."""
    names = (
        "faces_decided", "links_accepted", "objects_of_blocks", "objects_final", "cut_before",
        "cut_after", "share_cut_before", "share_cut_after", "connected_through_links",
        "order_independent",
    )  # fmt: skip
    emit("reconcile", data=name, seconds=round(seconds, 1), **{k: proof[k] for k in names}, **more)


def overlapping(folder: Path) -> None:
    """Real labels segmented again in overlapping blocks, against at once."""
    with h5py.File(data_folder() / "cloudvolume_seg" / "seg_16_16_40.h5") as f:
        name = next(k for k in f if f[k].ndim == 3)
        values = np.asarray(f[name][:CUT, :CUT, :CUT], np.uint32)
    path = stored(folder / "cortex", values, "image")
    with Ledger(folder / "ledger.db") as ledger, open_engine(workers=2) as engine:
        began = time.perf_counter()
        how: dict[str, Any] = {"ledger": ledger, "engine": engine, "quiet": True}
        settings = BlockwiseSettings(
            block=(128, 128, 128), context=(16, 16, 16), method="components"
        )
        segment_blocks(path, folder / "objects", settings=settings, **how)
        proof = reconcile(folder / "objects", folder / "final", **how)
        seconds = time.perf_counter() - began
    final = volume.open(folder / "final").read()
    whole = components(values, None, 1)
    report(
        f"cortex {CUT}^3 in 8 overlapping blocks",
        proof,
        seconds,
        variation_of_information_bits=round(variation(final, whole), 4),
        objects_at_once=int(whole.max()),
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="petavox-reconcile-") as place:
        planes(Path(place))
        overlapping(Path(place))
