"""Synapses found by a model, against the truth: on phantom tissue, and on real sections.

    python -m benchmarks.synapses phantom [--tissue FOLDER] [--model FILE] [--segmentation VOLUME]
                                          [--picture FILE.png]
    python -m benchmarks.synapses real --model FILE [--picture FILE.png]

phantom: tissue of a seed that the shipped model has not learned from (77), made here unless FOLDER
holds it (`petavox phantom FOLDER --shape 160 320 320 --voxel-size 10 10 10 --seed 77
--synapse-density 0.3`); FOLDER may hold other tissue, and the line says which it was. Partners are
assigned in the true segmentation, or in the one given; then its objects carry the name of the true
object that most of their voxels lie in. Detection: centres one to one, at most 200 nm apart; what
is not matched and lies within 125 nm of the box's faces does not count.

real: vnc_sstem/stack1, sections 12 to 19, with a model of recipes/synapses_vnc.yaml, which has
learned from sections 0 to 11. A synapse is a component (26 neighbours) of the annotated mask, and
of the network's cleft; one found may match one annotated that it shares a voxel with, one to one,
as many as possible. Components under MIN_NM3 do not count, on either side.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy.optimize import linear_sum_assignment

import petavox as pv
from benchmarks.common import data_folder, emit
from petavox.blocks import Ledger
from petavox.provenance import write_atomically
from petavox.score.overlap import majority
from petavox.score.pairs import pair_table
from petavox.score.synapses import detection
from petavox.score.wiring import SynapseRows, curve, report
from petavox.space import Box
from petavox.stages import phantom
from petavox.stages.synapses import SynapseSettings, find_synapses
from petavox.stages.synapses_train import predict_box
from petavox.synapse import clefts
from petavox.synapse.apply import SynapsePredictor
from petavox.synapse.model import load_model
from petavox.synapse.shipped import MODEL
from petavox.view.picture import png

PHANTOM = phantom.PhantomSettings(
    shape=(160, 320, 320), voxel_size=(10, 10, 10), seed=77, synapse_density=0.3
)
TEST = Box((12, 0, 0), (20, 1024, 1024))
MIN_NM3 = 1_000_000.0
"""About 950 voxels of 50 x 4.6 x 4.6 nm: a square of 140 nm in one section."""


def on_phantom(
    folder: Path, model: Path, segmentation: str | None, drawn: Path | None = None
) -> dict[str, Any]:
    """Detection, partners and edges."""
    if not (folder / "phantom.json").is_file():
        phantom.write(folder, PHANTOM)
    image, labels = (pv.open(folder / phantom.NAMES[n]) for n in ("image", "labels"))
    box, beside = image.box, {}
    if segmentation is not None:
        box = pv.open(segmentation).box.intersection(box)
    with tempfile.TemporaryDirectory() as work, Ledger(Path(work) / "ledger") as ledger:
        out = Path(work) / "synapses"
        figures = find_synapses(
            image.path, segmentation or labels.path, out, model=model, ledger=ledger,
            settings=SynapseSettings(precision="bf16", pyramid=False, box=box),
        )  # fmt: skip
        table = pq.read_table(out / "synapses.parquet")
        found = pv.open(out / "mitochondria.zarr").read() > 0
        if drawn is not None:
            draw_synapse(image, out, table, drawn)
    rows = {n: table[n].to_numpy() for n in ("id", "pre", "post", "z_nm", "y_nm", "x_nm")}
    if segmentation is not None:
        own = pv.open(segmentation)
        pairs = pair_table(own.read(box), labels.read(box))
        named = dict(zip(*(a.tolist() for a in majority(pairs)), strict=True))
        for side in ("pre", "post"):
            rows[side] = np.array([named.get(int(i), 0) for i in rows[side]], np.uint64)
        beside = {"segmented_share": round(float((own.read(box) > 0).mean()), 3)}
    at = np.stack([rows[f"{a}_nm"] for a in "zyx"], 1)
    result = SynapseRows(rows["id"], at, rows["pre"], rows["post"])
    size = np.array(list(image.voxel_size))
    low, high = np.array(box.start) * size, np.array(box.stop) * size
    scores = report(_within(result, low, high), _within(_true(folder), low, high), low, high)
    mito = pv.open(folder / phantom.NAMES["classes"]).read(box) == 4
    both = int((mito & found).sum())
    return {
        **{k: round(float(v), 3) for k, v in scores.items()},
        "mitochondria_voxel_f1": round(2 * both / int(mito.sum() + found.sum()), 3),
        "mitochondria": figures["mitochondria"],
        "seconds": figures["seconds"],
        **beside,
    }


COLOURS = {
    "mitochondria": (60, 180, 75), "pre": (230, 60, 60), "post": (70, 130, 255),
    "cleft": (255, 225, 60),
}  # fmt: skip


def draw_synapse(image: pv.Volume, out: Path, table: Any, file: Path) -> None:
    """A section through the synapse with most partners that lies well inside: as it is, and with
    what the network says in colour."""
    ids, count = np.unique(table["id"].to_numpy(), return_counts=True)
    columns = {n: table[n].to_numpy() for n in ("id", "z_nm", "y_nm", "x_nm")}
    size, half = list(image.voxel_size), np.array([0, 75, 75])
    for best in ids[np.argsort(-count, kind="stable")]:
        row = int(np.flatnonzero(columns["id"] == best)[0])
        at = np.array([columns[f"{a}_nm"][row] / v for a, v in zip("zyx", size, strict=True)])
        low = np.round(at).astype(int) - half
        box = Box(tuple(low.tolist()), tuple((low + 2 * half + [1, 0, 0]).tolist()))
        if image.box.contains(box):
            break
    grey = np.repeat(image.read(box)[0][..., None], 3, axis=2)
    marked = grey.astype(float)
    for name, colour in COLOURS.items():
        said = pv.open(out / "predictions" / f"{name}.zarr").read(box)[0]
        share = 0.55 * (said.astype(float)[..., None] / 255)
        marked = marked * (1 - share) + share * np.array(colour, float)
    both = np.concatenate([grey, np.rint(marked).astype(np.uint8)], axis=1)
    write_atomically(file, png(both.repeat(2, axis=0).repeat(2, axis=1)))


def draw_curve(points: list[list[float]], thresholds: dict[str, Any], file: Path) -> None:
    """Precision against recall: by the score of clefts, and by the threshold of voxels."""
    import io

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(4.2, 3.4))
    axes.plot([p[2] for p in points], [p[1] for p in points], label="score of clefts, at 0.5")
    axes.plot(
        [t["recall"] for t in thresholds.values()],
        [t["precision"] for t in thresholds.values()],
        "o--",
        label="threshold of voxels, 0.2 to 0.9",
    )
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="lower left", fontsize=8)
    held = io.BytesIO()
    figure.tight_layout()
    figure.savefig(held, format="png", dpi=90)
    write_atomically(file, held.getvalue())


def _true(folder: Path) -> SynapseRows:
    synapses = phantom.read_synapses(folder / phantom.NAMES["synapses"])
    flat = [(s["id"], *s["position"], s["pre"], p) for s in synapses for p in s["posts"]]
    ids, pre, post = (np.array([r[k] for r in flat], np.uint64) for k in (0, 4, 5))
    return SynapseRows(ids, np.array([r[1:4] for r in flat], float).reshape(-1, 3), pre, post)


def _within(rows: SynapseRows, low: np.ndarray, high: np.ndarray) -> SynapseRows:
    keep = np.all((rows.positions >= low) & (rows.positions < high), axis=1)
    return SynapseRows(rows.ids[keep], rows.positions[keep], rows.pre[keep], rows.post[keep])


def on_real(model: Path, drawn: Path | None = None) -> dict[str, Any]:
    """Detection by components, at the threshold 0.5, and the curve by score."""
    source = data_folder() / "vnc_sstem" / "stack1.h5"
    image = pv.open(f"{source}/raw")
    # the image before section 12 was learned from, but its greys are no annotation
    seen = Box((8, 0, 0), TEST.stop)
    predictor = SynapsePredictor(load_model(model), precision="bf16")
    said = predict_box(predictor, image.read(seen), seen)[:, TEST.start[0] - seen.start[0] :]
    classes = predictor.spec.classes
    mask = pv.open(f"{source}/synapses").read(TEST) > 0
    least = max(1, round(MIN_NM3 / image.voxel_size.volume))
    true_labels, true = clefts.components(mask.astype(np.uint8) * 255, 0.5, min_voxels=least)
    every = len(clefts.components(mask.astype(np.uint8) * 255, 0.5)[1])
    out: dict[str, Any] = {"annotated": len(true), "annotated_of_any_size": every}
    cleft = said[classes.index("cleft")]
    for threshold in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        labels, parts = clefts.components(cleft, threshold, min_voxels=least)
        pairs = _overlapping(labels, parts, true_labels, true)
        p, r = len(pairs) / max(len(parts), 1), len(pairs) / len(true)
        out[f"at_{threshold}"] = {
            "found": len(parts), "precision": round(p, 3), "recall": round(r, 3),
            "f1": round(2 * len(pairs) / (len(parts) + len(true)), 3),
        }  # fmt: skip
        if threshold == 0.5:
            right = np.zeros(len(parts), bool)
            right[pairs[:, 0]] = True
            near = detection(
                clefts.positions_nm(parts, image.voxel_size),
                clefts.positions_nm(true, image.voxel_size),
                within=300.0,
            )
            points = curve(clefts.scores(parts), right, len(true) - len(pairs))
            out |= {
                "f1": out["at_0.5"]["f1"],
                "f1_if_small_ones_are_missed": round(2 * len(pairs) / (len(parts) + every), 3),
                "f1_by_centres_300nm": round(near.f1, 3),
                "curve_score_precision_recall": [[round(v, 3) for v in x] for x in points],
                "best_f1_of_curve": round(max(_f1(p, r) for _, p, r in points), 3),
            }
    both = int((mask & (cleft > 127)).sum())
    out["cleft_voxel_f1"] = round(2 * both / int(mask.sum() + (cleft > 127).sum()), 3)
    if drawn is not None:
        by_threshold = {k: v for k, v in out.items() if k.startswith("at_")}
        draw_curve(out["curve_score_precision_recall"], by_threshold, drawn)
    if "mitochondria" in classes:
        mito = pv.open(f"{source}/mitochondria").read(TEST) > 0
        mine = said[classes.index("mitochondria")] > 127
        out["mitochondria_voxel_f1"] = round(
            2 * int((mito & mine).sum()) / int(mito.sum() + mine.sum()), 3
        )
    return out


def _overlapping(
    labels: np.ndarray, parts: np.ndarray, true_labels: np.ndarray, true: np.ndarray
) -> np.ndarray:
    """One-to-one pairs (rows of parts, rows of true) that share voxels: as many as possible, and
    of those the most voxels."""
    shared = np.zeros((len(parts), len(true)), np.int64)
    at = (labels > 0) & (true_labels > 0)
    np.add.at(
        shared,
        (np.searchsorted(parts["id"], labels[at]), np.searchsorted(true["id"], true_labels[at])),
        1,
    )
    one = int(shared.sum()) + 1
    a, b = linear_sum_assignment(np.where(shared > 0, -one - shared, 0))
    keep = shared[a, b] > 0
    return np.stack([a[keep], b[keep]], 1)


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / max(precision + recall, 1e-9)


def main() -> None:
    """Run what is asked for; one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.synapses")
    parser.add_argument("data", choices=["phantom", "real"])
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--tissue", type=Path)
    parser.add_argument("--segmentation")
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    steps = load_model(given.model).spec.provenance.get("steps")
    if given.data == "real":
        found = on_real(given.model, given.picture)
        emit("synapses", data="vnc_sstem/stack1, sections 12-19", steps=steps, **found)
        return
    with tempfile.TemporaryDirectory() as folder:
        place = given.tissue or Path(folder) / "tissue"
        found = on_phantom(place, given.model, given.segmentation, given.picture)
        made = json.loads((place / "phantom.json").read_text())["settings"]
    on = "its own segmentation" if given.segmentation else "the true segmentation"
    tissue = f"phantom {made['seed']}, {' x '.join(map(str, made['shape']))} voxels"
    emit("synapses", data=f"{tissue}, partners in {on}", steps=steps, **found)


if __name__ == "__main__":
    main()
