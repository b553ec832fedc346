"""The commands of benchmarks.scaling: every stage of petavox on small work, times one to eight.

What it is: chains of commands as words, each a function (factor along z, y and x; an empty folder)
-> commands, of which the last ones are measured and the others prepare them. Boxes of real data
where there are any; sections and steps of training grow by the product of the factors.
What it is not: a measurement. `suspects`, `edit`, `why` and `report` look at what other stages
made, and are not here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import data_folder
from petavox.ffn.shipped import MODEL
from petavox.space import Box

Factor = tuple[int, ...]
Commands = list[list[str]]
"""petavox commands as words."""
Place = tuple[int, int, int]


def _box(start: Place, side: Place, factor: Factor) -> str:
    return str(Box.of_shape([s * f for s, f in zip(side, factor, strict=True)], start))


def _fib(name: str) -> str:
    return f"{data_folder()}/fib25/{name}"


RESULT, LABELS = "reference_result.h5/segmentation", "training_sample2.h5/labels"
SAMPLE, SUPERVOXELS = "training_sample2.h5/raw", "training_sample2.h5/supervoxels"
VALIDATION = "validation_sample_z0-200.h5/raw"


def _cortex() -> str:
    return f"{data_folder()}/cloudvolume_seg/seg_16_16_40.h5/labels"


def _imported(source: str, out: Path, box: str, *more: str) -> list[str]:
    return ["import", source, str(out), "--box", box, "--no-pyramid", *more]


def _labels(source: str, out: Path, box: str) -> list[str]:
    return _imported(source, out, box, "--kind", "labels", "--dtype", "uint64")


def phantom(f: Factor, room: Path) -> Commands:
    """Synthetic tissue."""
    shape = [str(s * k) for s, k in zip((32, 48, 48), f, strict=True)]
    return [["phantom", str(room / "p"), "--shape", *shape]]


def copy(f: Factor, room: Path) -> Commands:
    """Import into OME-Zarr with its pyramid."""
    return [["import", _cortex(), str(room / "v"), "--box", _box((0, 0, 0), (128, 256, 256), f)]]


def export(f: Factor, room: Path) -> Commands:
    """Export to precomputed."""
    box = _box((0, 0, 0), (128, 256, 256), f)
    return [["export", _cortex(), str(room / "e"), "--format", "precomputed", "--box", box]]


def train(f: Factor, room: Path) -> Commands:
    """Steps of training, the shipped network in float32."""
    settings = room / "train.yaml"
    settings.write_text(
        f"volumes: [{{image: {data_folder()}/gala_fib/train.h5/raw, labels: "
        f"{data_folder()}/gala_fib/train.h5/labels, voxel_size: [10, 10, 10]}}]\n"
        "device: cpu\nthreads: 1\ntrainer: {batch: 2, live: 4, examples: {min_object_size: 1000}}\n"
    )
    steps = str(8 * math.prod(f))
    return [["train", str(settings), "--out", str(room / "t"), "--init", str(MODEL),
             "--steps", steps]]  # fmt: skip


def _tiles(f: Factor, room: Path) -> list[str]:
    return ["phantom", str(room / "tiles"), "--tiles", "--set", f"sections={2 * math.prod(f)}",
            "--set", "grid=[2,2]", "--set", "tile=[320,320]"]  # fmt: skip


def stitch(f: Factor, room: Path) -> Commands:
    """Sections of four tiles: 2, 4, 8 and 16 of them."""
    return [
        _tiles(f, room),
        [
            "stitch",
            str(room / "tiles/tiles.csv"),
            str(room / "s"),
            "--pixel-size",
            "8",
            "--thickness",
            "40",
        ],
    ]


def _sections(f: Factor, room: Path) -> list[str]:
    box = str(Box.of_shape((6 * math.prod(f), 256, 256), (40, 100, 100)))
    return _imported(_fib(VALIDATION), room / "i", box, "--voxel-size", "10", "10", "10")


def render(f: Factor, room: Path) -> Commands:
    """Sections of 256^2, 6 to 48 of them, aligned and rendered through their fields."""
    sections, fields = str(room / "i"), str(room / "a")
    return [_sections(f, room), ["align", sections, fields],
            ["render", sections, fields, str(room / "r")]]  # fmt: skip


def contrast(f: Factor, room: Path) -> Commands:
    """CLAHE."""
    box = _box((0, 0, 0), (64, 240, 240), f)
    return [["contrast", _fib(VALIDATION), str(room / "c"), "--method", "clahe", "--tile", "64",
             "--box", box, "--voxel-size", "10", "10", "10"]]  # fmt: skip


def quality(f: Factor, room: Path) -> Commands:
    """Sections judged, neighbours compared."""
    return [_sections(f, room), ["qc", str(room / "i"), str(room / "q"), "--aligned"]]


def segment(f: Factor, room: Path) -> Commands:
    """One flood, with the shipped network."""
    box = _box((40, 100, 100), (32, 40, 40), f)
    return [["segment", _fib(VALIDATION), str(room / "s"), "--model", str(MODEL), "--box", box,
             "--precision", "f32"]]  # fmt: skip


def reconcile(f: Factor, room: Path) -> Commands:
    """Connected components in overlapping blocks (what blocks cost without a network), joined."""
    settings = room / "components.yaml"
    settings.write_text(f"method: components\nbox: '{_box((0, 0, 0), (128, 128, 128), f)}'\n")
    cut = ["segment", _cortex(), str(room / "b"), "--model", str(MODEL), "--settings",
           str(settings), "--blocks", "64", "64", "64", "--context", "16", "16", "16"]  # fmt: skip
    return [cut, ["reconcile", str(room / "b"), str(room / "r")]]


def consensus(f: Factor, room: Path) -> Commands:
    """The consensus of two segmentations."""
    box, copies = _box((0, 0, 0), (120, 120, 120), f), (room / "a", room / "b")
    made = [_labels(_fib(s), c, box) for s, c in zip((RESULT, SUPERVOXELS), copies, strict=True)]
    return [*made, ["consensus", *map(str, copies), str(room / "c")]]


def agglomerate(f: Factor, room: Path) -> Commands:
    """Pairs of objects; the shipped network is asked about 3, 6, 12 and 24 of them."""
    box = _box((60, 60, 60), (24, 40, 40), f)
    return [
        _labels(_fib(SUPERVOXELS), room / "l", box),
        _imported(_fib(SAMPLE), room / "i", box),
        ["agglomerate", str(room / "l"), str(room / "i"), str(room / "n"), "--model", str(MODEL),
         "--most-asked", str(3 * math.prod(f))],
    ]  # fmt: skip


def synapses(f: Factor, room: Path) -> Commands:
    """Clefts and partners by the shipped network."""
    box = _box((60, 60, 60), (48, 64, 64), f)
    return [["synapses", _fib(SAMPLE), _fib(LABELS), str(room / "y"), "--box", box,
             "--voxel-size", "10", "10", "10"]]  # fmt: skip


def connectome(f: Factor, room: Path) -> Commands:
    """Tables of neurons and synapses of a phantom."""
    shape = [str(s * k) for s, k in zip((48, 64, 64), f, strict=True)]
    return [
        ["phantom", str(room / "p"), "--shape", *shape, "--synapse-density", "1"],
        ["connectome", str(room / "w"), "--labels", str(room / "p/labels.zarr"), "--synapses",
         str(room / "p/synapses.csv")],
    ]  # fmt: skip


def score(f: Factor, room: Path) -> Commands:
    """VI, adapted Rand and what belongs to them."""
    box = _box((0, 0, 0), (120, 120, 120), f)
    return [["score", _fib(RESULT), _fib(LABELS), "--box", box]]


def mesh(f: Factor, room: Path) -> Commands:
    """Meshes of a cortex segmentation."""
    box = _box((100, 100, 100), (64, 96, 96), f)
    return [["mesh", _cortex(), str(room / "m"), "--box", box]]


def skeletonize(f: Factor, room: Path) -> Commands:
    """Skeletons of a cortex segmentation."""
    box = _box((100, 100, 100), (64, 96, 96), f)
    return [["skeletonize", _cortex(), str(room / "k"), "--box", box]]


CHAINS: dict[tuple[str, ...], Callable[[Factor, Path], Commands]] = {
    ("phantom",): phantom,
    ("import",): copy,
    ("export",): export,
    ("train",): train,
    ("stitch",): stitch,
    ("align", "render"): render,
    ("contrast",): contrast,
    ("qc",): quality,
    ("segment",): segment,
    ("segment-blocks", "reconcile"): reconcile,
    ("consensus",): consensus,
    ("agglomerate",): agglomerate,
    ("synapses",): synapses,
    ("connectome",): connectome,
    ("score",): score,
    ("mesh",): mesh,
    ("skeletonize",): skeletonize,
}
"""Names of the stages that the last commands of a chain are, and the chain."""
