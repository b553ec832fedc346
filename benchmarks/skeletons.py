"""All skeletons of the cortex segmentation, beside a plain loop over kimimaro.

    python -m benchmarks.skeletons [--box z0:z1,y0:y1,x0:x1] [--alone]
    python -m benchmarks.skeletons --blocks --box 320:448,300:428,300:428
    python -m benchmarks.skeletons --kept --box 320:448,300:428,300:428

The same TEASAR parameters in nm on both sides. The plain loop gives the whole volume to
kimimaro in one process (default box: an eighth of the volume, which it needs minutes for);
petavox works in blocks with two workers, joins, thins, and writes sharded precomputed skeletons.
--blocks compares block sizes; --kept says what the second selection keeps of kimimaro's own.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import data_folder, emit
from benchmarks.measured import measured

FILE = "cloudvolume_seg/seg_16_16_40.h5"


def traced(box: str) -> dict[int, Any]:
    """kimimaro's skeletons of the whole volume, in one call."""
    import h5py
    import kimimaro

    from petavox.neuron.teasar import TeasarSettings
    from petavox.space import Box

    with h5py.File(data_folder() / FILE) as f:
        labels = f["labels"][Box.parse(box).slices()]
    found: dict[int, Any] = kimimaro.skeletonize(
        labels,
        TeasarSettings().kimimaro(),
        anisotropy=(40, 16, 16),
        dust_threshold=int(1e7 / (40 * 16 * 16)),
        progress=False,
        parallel=1,
    )
    return found


def plain(box: str, out: str) -> dict[str, Any]:
    """kimimaro on the whole volume, a file for each object."""
    found = traced(box)
    for label, skeleton in found.items():
        (Path(out) / f"{label}").write_bytes(skeleton.to_precomputed())
    return {
        "objects": len(found),
        "cable_mm": float(sum(s.cable_length() for s in found.values())) / 1e6,
    }


def kept(box: str) -> None:
    """What the second selection keeps of kimimaro's skeletons, and how far off the rest lies.

    outside_um: cable farther from every kept vertex than the object's radius there: neurite that
    the skeleton does not show.  lost_branches: connected parts left out that have an end, and one
    farther along the graph from what is kept than the ball of the vertex it hangs on.
    """
    import numpy as np
    from scipy.spatial import cKDTree

    from petavox.neuron.skeleton import Skeleton, measure, thinned

    total = left = outside = longest = lost_um = 0.0
    lost = 0
    for trace in traced(box).values():
        graph = Skeleton(
            trace.vertices.astype(float), trace.edges.astype(int), trace.radii.astype(float)
        )
        small = thinned(graph, scale=1.5, const=300.0)
        total, left = total + measure(graph).cable, left + measure(small).cable
        v, e = graph.vertices, graph.edges
        step = np.linalg.norm(v[e[:, 0]] - v[e[:, 1]], axis=1)
        tree = cKDTree(v)
        shown = np.zeros(len(v), bool)
        for inside in tree.query_ball_point(small.vertices, np.maximum(small.radii, 40)):
            shown[inside] = True
        outside += float(step[(~shown[e]).all(1)].sum())
        for way, ball in _left_out(graph, step, tree.query(small.vertices)[1]):
            if way > ball:
                lost, lost_um, longest = lost + 1, lost_um + way, max(longest, way)
    emit(
        "skeletons",
        data=FILE,
        box=box,
        plain_cable_um=total / 1e3,
        kept_cable_um=left / 1e3,
        outside_um=outside / 1e3,
        lost_branches=lost,
        lost_branches_um=lost_um / 1e3,
        longest_lost_um=longest / 1e3,
    )


def _left_out(graph: Any, step: Any, at: Any) -> Iterator[tuple[float, float]]:
    """Of each part without kept vertices (`at`) that has an end: its length, and the ball (nm)."""
    import numpy as np
    from scipy.sparse import csgraph, csr_array

    n, e = len(graph.vertices), graph.edges
    keep = np.zeros(n, bool)
    keep[at] = True
    end = np.bincount(e.reshape(-1), minlength=n) == 1
    whole = csr_array((step, (e[:, 0], e[:, 1])), shape=(n, n))
    way, _, source = csgraph.dijkstra(
        whole, False, indices=np.flatnonzero(keep), min_only=True, return_predecessors=True
    )
    loose = ~keep[e].any(1)
    rest = csr_array((step[loose], (e[loose, 0], e[loose, 1])), shape=(n, n))
    part = csgraph.connected_components(rest, False)[1]
    for one in np.unique(part[~keep]):
        some = np.flatnonzero((part == one) & ~keep & end)
        if len(some):
            far = some[way[some].argmax()]
            yield float(way[far]), float(1.5 * graph.radii[source[far]] + 300)


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
    for block in ((32, 64, 64), (64, 96, 96), (1024, 1024, 1024)):
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
            end_points=int(np.sum(table["end_points"].to_numpy())),
            end_points_of_one_block=int(np.sum(whole["end_points"].to_numpy())),
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
    parser.add_argument("--kept", action="store_true", help="what the second selection keeps")
    given = parser.parse_args()
    box = given.box
    if given.kept:
        kept(box)
        return
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
