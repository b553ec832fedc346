"""All skeletons of the cortex segmentation, beside a plain loop over kimimaro.

    python -m benchmarks.skeletons [--box z0:z1,y0:y1,x0:x1] [--alone]
    python -m benchmarks.skeletons --blocks --box 128:256,128:320,128:320

The same TEASAR parameters in nm on both sides. The plain loop gives the whole volume to
kimimaro in one process (default box: an eighth of the volume, which it needs minutes for);
petavox works in blocks with two workers, joins, thins, and writes sharded precomputed skeletons.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import data_folder, emit
from benchmarks.measured import measured

FILE = "cloudvolume_seg/seg_16_16_40.h5"


def plain(box: str, out: str) -> dict[str, Any]:
    """kimimaro on the whole volume."""
    import h5py
    import kimimaro

    from petavox.neuron.teasar import TeasarSettings
    from petavox.space import Box

    with h5py.File(data_folder() / FILE) as f:
        labels = f["labels"][Box.parse(box).slices()]
    found = kimimaro.skeletonize(
        labels,
        TeasarSettings().kimimaro(),
        anisotropy=(40, 16, 16),
        dust_threshold=int(1e7 / (40 * 16 * 16)),
        progress=False,
        parallel=1,
    )
    for label, skeleton in found.items():
        (Path(out) / f"{label}").write_bytes(skeleton.to_precomputed())
    return {
        "objects": len(found),
        "cable_mm": float(sum(s.cable_length() for s in found.values())) / 1e6,
    }


def ours(box: str, out: str, workers: int) -> dict[str, Any]:
    """petavox skeletonize."""
    from petavox.blocks import open_engine
    from petavox.stages.skeletonize import SkeletonSettings, run

    with open_engine(workers=workers) as engine:
        return run(
            f"{data_folder() / FILE}/labels",
            Path(out),
            SkeletonSettings(box=box),
            engine=engine,
        )


def blocks(box: str) -> None:
    """Cable length and trees in blocks of three sizes, beside one block of everything."""
    import numpy as np
    import pyarrow.parquet as pq

    from petavox.stages.skeletonize import SkeletonSettings, run

    tables = {}
    for block in ((64, 96, 96), (64, 192, 192), (1024, 1024, 1024)):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "skeletons"
            run(f"{data_folder() / FILE}/labels", out, SkeletonSettings(box=box, block=block))
            tables[block] = pq.read_table(out / "skeletons.parquet")
    whole = tables.pop((1024, 1024, 1024))
    for block, table in tables.items():
        both = set(table["id"].to_pylist()) & set(whole["id"].to_pylist())
        a, b = (
            np.array([r["cable_nm"] for r in t.to_pylist() if r["id"] in both])
            for t in (table, whole)
        )
        some = b > 0
        emit(
            "skeletons",
            data=FILE,
            box=box,
            block=block,
            objects=table.num_rows,
            objects_of_one_block=whole.num_rows,
            trees=int(np.sum(table["trees"].to_numpy())),
            trees_of_one_block=int(np.sum(whole["trees"].to_numpy())),
            cable_ratio=float(a.sum() / b.sum()),
            median_difference=float(np.median(abs(a[some] - b[some]) / b[some])),
        )


def main() -> None:
    """Run both where asked for, emit one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--box", default="0:256,0:256,0:256")
    parser.add_argument("--alone", action="store_true", help="petavox only")
    parser.add_argument("--keep", type=Path, help="folder for petavox's skeletons")
    parser.add_argument("--blocks", action="store_true", help="compare block sizes instead")
    given = parser.parse_args()
    box = given.box
    if given.blocks:
        blocks(box)
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "plain").mkdir()
        mine = measured(ours, box, str(given.keep or Path(folder) / "skeletons"), 2)
        loop = None if given.alone else measured(plain, box, str(Path(folder) / "plain"))
    beside = {}
    if loop is not None:
        beside = {
            **loop.figures("plain_"),
            "plain_objects": loop.result["objects"],
            "plain_cable_mm": loop.result["cable_mm"],
        }
    emit(
        "skeletons",
        data=FILE,
        box=box,
        workers=2,
        load=round(os.getloadavg()[0], 1),
        **mine.figures(),
        **beside,
        **{k: v for k, v in mine.result.items() if k != "seconds"},
    )


if __name__ == "__main__":
    main()
