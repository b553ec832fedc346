"""Projections to a teravoxel and a petavoxel: the tables of docs/scale.md.

    python -m benchmarks.scale             measure small blocks here, project, write the tables
    python -m benchmarks.scale --table     only write the tables from the latest results

What it is: `petavox plan` for two volumes and many counts of nodes. The seconds of a flooded block
are not measured here but taken from the published run (a P100 floods 250^3 voxels in 393.8 s) and
a stated spread; those of reconciliation and relabelling are measured on this machine.
What it is not: a promise; docs/scale.md lists what each number rests on.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, emit
from petavox.blocks import Ledger
from petavox.blocks.projection import project_task
from petavox.blocks.sites import load
from petavox.space import Box
from petavox.stages.blockwise_segment import BlockwiseSettings, segment_blocks
from petavox.stages.reconcile import ReconcileSettings, reconcile
from petavox.volume.opening import create, finish

BLOCK, CONTEXT = (512, 512, 512), (32, 32, 32)
READ = math.prod(b + 2 * c for b, c in zip(BLOCK, CONTEXT, strict=True))
P100_VOXELS_PER_S = 250**3 / 393.8
"""The published run on training_sample2, one pass, f32."""
SPREAD = 0.35
"""Standard deviation of a block's seconds over their mean (assumed; dense tissue floods longer)."""
SPEED = 4.0
"""One of 24 workers of an Aurora node (half a tile, bf16) against a P100 in f32 (assumed)."""
VOLUMES = {"1 teravoxel": (10_000, 10_000, 10_000), "1 petavoxel": (100_000, 100_000, 100_000)}
NODES = (16, 128, 1024, 2048, 10_000)
PAGE = Path(__file__).parent.parent / "docs" / "scale.md"
MARKS = ("<!-- scale: begin -->", "<!-- scale: end -->")


def flood_seconds() -> list[float]:
    """A sample of block times: gamma with the stated mean and spread (seeded)."""
    mean = READ / P100_VOXELS_PER_S / SPEED
    shape = 1 / SPREAD**2
    return np.random.default_rng(0).gamma(shape, mean / shape, 500).tolist()  # type: ignore[no-any-return]


def measured() -> dict[str, list[float]]:
    """Seconds of blocks of 128^3 of boxes, scaled by voxels to the projected blocks."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 40, (16, 16, 16)).astype(np.uint32)
    values = values.repeat(16, 0).repeat(16, 1).repeat(16, 2)
    with tempfile.TemporaryDirectory(prefix="petavox-scale-") as place:
        folder = Path(place)
        image = create(
            folder / "image",
            box=Box.of_shape(values.shape),
            voxel_size=(8, 8, 8),
            dtype=np.uint32,
            kind="image",
        )
        image.write(image.box, values)
        finish(image, {})
        settings = BlockwiseSettings(block=(128, 128, 128), context=(8, 8, 8), method="components")
        with Ledger(folder / "ledger.db") as ledger:
            how: dict[str, Any] = {"ledger": ledger, "quiet": True}
            segment_blocks(folder / "image", folder / "objects", settings=settings, **how)
            reconcile(folder / "objects", folder / "final", settings=ReconcileSettings(), **how)
            times = {n: ledger.seconds(n) for n in ("reconcile-votes", "relabel")}
    scale = math.prod(BLOCK) / 128**3
    return {name: [s * scale for s in seconds] for name, seconds in times.items()}


def costs(stage: str) -> dict[str, int]:
    """What one projected block needs; the same formulas as the stages' own."""
    voxels = math.prod(BLOCK)
    slabs = 3 * 2 * (2 * CONTEXT[0]) * (BLOCK[0] + 2 * CONTEXT[0]) ** 2
    on_disk = 0.25  # bytes a voxel of compressed labels (assumed)
    table = {
        "segment": (48 * READ + (512 << 20), READ, int(on_disk * READ), 2),
        "reconcile-votes": (60 * READ, int(on_disk * (voxels + slabs)), 1 << 20, 3),
        "relabel": (40 * voxels, int(on_disk * voxels), int(on_disk * voxels), 1),
    }
    names = ("memory_bytes", "read_bytes", "write_bytes", "files")
    return dict(zip(names, table[stage], strict=True))


def main() -> None:
    """Project every stage for both volumes."""
    if "--table" not in sys.argv:
        site = load("aurora")
        samples = {"segment": flood_seconds(), **measured()}
        for name, shape in VOLUMES.items():
            blocks = math.prod(-(-n // b) for n, b in zip(shape, BLOCK, strict=True))
            for stage, seconds in samples.items():
                for nodes in NODES:
                    if nodes * site.workers_per_node > 4 * blocks:
                        continue  # most workers would never see a block
                    row = project_task(blocks, seconds, costs(stage), site, nodes=nodes)
                    emit("scale", volume=name, stage=stage, **row)
    write_tables()


def write_tables() -> None:
    """The latest rows into docs/scale.md."""
    rows: dict[tuple[str, str, int], dict[str, Any]] = {}
    for line in (RESULTS / "scale.jsonl").read_text().splitlines():
        row = json.loads(line)
        rows[row["volume"], row["stage"], row["nodes"]] = row
    out: list[str] = []
    for name in VOLUMES:
        mine = [r for (v, _, _), r in rows.items() if v == name]
        out += [
            f"### {name}, Aurora",
            "",
            "| stage | blocks | s a block | nodes | wall h | node-hours | efficiency | GiB/s |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for r in mine:
            out.append(
                f"| {r['stage']} | {r['blocks']:,} | {r['block_seconds_mean']:.0f} | "
                f"{r['nodes']:,} | {r['wall_hours']:,.2f} | {r['node_hours']:,.0f} | "
                f"{100 * r['efficiency']:.1f} % | {r['file_system_gib_per_s']:,.1f} |"
            )
        last = {r["stage"]: r for r in mine}
        out += [
            "",
            "Bytes and files, upper bounds: "
            + "; ".join(
                f"{s} reads {r['read_tib']:,.2f} TiB, writes {r['write_tib_at_most']:,.2f} TiB in "
                f"{r['files_at_most']:,} files, {r['memory_gib_per_worker']:.1f} GiB a worker"
                for s, r in last.items()
            )
            + ".",
            "",
        ]
    text = PAGE.read_text()
    before, rest = text.split(MARKS[0])
    PAGE.write_text(
        f"{before}{MARKS[0]}\n" + "\n".join(out).rstrip() + f"\n{MARKS[1]}{rest.split(MARKS[1])[1]}"
    )


if __name__ == "__main__":
    main()
