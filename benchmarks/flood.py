"""The flood of real tissue with the released network: objects, steps, scores, rates.

    python -m benchmarks.flood                                   # the whole block
    python -m benchmarks.flood --box 0:128,0:128,0:128 --precision f32
    python -m benchmarks.flood --agree a.zarr b.zarr             # two floods of one box compared

What it is: `petavox segment` on fib25/training_sample2, scored against its labels and against the
published result. Two figures of efficiency: `network_share`, the part of the flood's wall time
spent inside the network, which holds on a busy machine too; and `share_of_bare_rate`, the flood's
rate over that of the bare network, measured just before in the same process, for an idle one.
What it is not: a comparison with other programs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import petavox as pv
from benchmarks.common import data_folder, emit
from petavox.cli.model import import_
from petavox.score.reporting import Report
from petavox.space import Box
from petavox.stages import score
from petavox.stages.segment import SegmentSettings, segment


def released_model(folder: Path) -> Path:
    """The released FIB-25 network as a petavox model."""
    out = folder / "fib25.safetensors"
    if not out.exists():
        import_.__wrapped__(  # type: ignore[attr-defined]
            data_folder() / "fib25/released_model/model.ckpt-27465036.index",
            out,
            fov=(33, 33, 33),
            deltas=(8, 8, 8),
            image_mean=128,
            image_std=33,
            note="released FIB-25 network of google/ffn, Apache-2.0",
        )
    return out


def compared(result: str | Path, truth: str | Path, box: Box) -> Report:
    """Scores of a result against a truth on a box."""
    settings = score.ScoreSettings(box=box)
    return score.tables(pv.open(result), pv.open(truth), settings, quiet=True).report(oracle=True)


def flood(out: Path, box: str | None, precision: str, folder: Path) -> dict[str, Any]:
    """Flood, or take a finished flood at `out`; returns figures."""
    block = data_folder() / "fib25/training_sample2.h5"
    if not out.exists():
        segment(
            block / "raw",
            out,
            released_model(folder),
            SegmentSettings(box=box, precision=precision),  # type: ignore[arg-type]
        )
    made = json.loads((out / "petavox.json").read_text())["provenance"]["counters"]
    box_ = pv.open(out).box
    return {
        "box": str(box_),
        "asked": precision,  # auto: what is fastest here of f32 and bf16, which `precision` names
        **made,
        "share_of_bare_rate": made["fov_per_s"] / made["bare_network_fov_per_s"],
        "against_labels": compared(out, block / "labels", box_),
        "against_published": compared(
            out, data_folder() / "fib25/reference_result.h5/segmentation", box_
        ),
    }


def main() -> None:
    """Flood, score, print one line of JSON."""
    options = argparse.ArgumentParser(description="Flood fib25/training_sample2.")
    options.add_argument("--out", type=Path, help="labels volume to keep (or a finished flood)")
    options.add_argument("--box")
    options.add_argument("--precision", default="auto", choices=["auto", "f32", "bf16", "int8"])
    options.add_argument("--agree", nargs=2, type=Path, metavar="FLOOD")
    given = options.parse_args()
    if given.agree:
        first, second = map(pv.open, given.agree)
        box = first.box.intersection(second.box)
        found = compared(given.agree[0], given.agree[1], box)
        emit("flood_agreement", box=str(box), between=[p.name for p in given.agree], scores=found)
        return
    with tempfile.TemporaryDirectory() as folder:
        out = given.out or Path(folder) / "out.zarr"
        emit("flood", **flood(out, given.box, given.precision, Path(folder)))


if __name__ == "__main__":
    main()
