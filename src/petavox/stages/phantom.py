"""Write phantom tissue: image, labels, classes, synapses, skeletons, connectome.

What it is: settings, the folder's names, and the loop over blocks. What it is not: the tissue,
which is a pure function in petavox.phantom.
"""

from __future__ import annotations

import concurrent.futures
import io
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from petavox import volume
from petavox.errors import AlreadyExists, BadInput
from petavox.phantom import Body, Skeletons, Synapse, Tissue, connectome, skeletons, tissue
from petavox.phantom.looks import look_of
from petavox.progress import Progress
from petavox.provenance import record, write_atomically, write_json
from petavox.settings import NmSetting, Settings, ZyxSetting
from petavox.space import Box, Grid
from petavox.volume import opening, state

NAMES = {
    "image": "image.zarr",
    "labels": "labels.zarr",
    "classes": "classes.zarr",
    "synapses": "synapses.csv",
    "connectome": "connectome.csv",
    "skeletons": "skeletons.npz",
}
"""What lies in the output folder; `phantom.json`, written after them, has the provenance, and
`petavox.json` says from the first moment on whether the folder is whole."""


class PhantomSettings(Settings):
    """What to make."""

    shape: ZyxSetting = (128, 256, 256)
    """voxels, zyx"""
    offset: ZyxSetting = (0, 0, 0)
    """the first voxel; another offset of the same seed is another part of the same world"""
    voxel_size: NmSetting = (8.0, 8.0, 8.0)
    seed: int = Field(default=1, ge=0)
    look: Literal["fib-sem", "serial-section", "x-ray"] = "fib-sem"
    grain: float = Field(default=165.0, ge=60, le=2000)
    """nm between fine neurites: larger makes larger profiles"""
    scale: float = Field(default=1.0, ge=0.1, le=20)
    """enlarges all of the tissue, organelles included"""
    synapse_density: float = Field(default=0.12, ge=0, le=1)
    """share of boutons that have a synapse"""
    soma: float = Field(default=0.0, ge=0, le=20000)
    """radius, nm, of a soma in the middle; 0 for none"""
    vessel: float = Field(default=0.0, ge=0, le=20000)
    """radius, nm, of a vessel along z through a corner; 0 for none"""

    @property
    def box(self) -> Box:
        """All voxels."""
        return Box.of_shape(self.shape, self.offset)

    @property
    def bodies(self) -> tuple[Body, ...]:
        """The soma and the vessel, in nm."""
        v = np.array(self.voxel_size)
        lo, hi = np.array(self.box.start) * v, np.array(self.box.stop) * v
        out = []
        if self.soma:
            middle = tuple(float(x) for x in (lo + hi) / 2)
            out.append(Body("soma", middle, middle, self.soma))  # type: ignore[arg-type]
        if self.vessel:
            y, x = (float(lo[k] + 0.15 * (hi[k] - lo[k])) for k in (1, 2))
            far = 4000.0 + 2 * self.vessel
            ends = (float(lo[0]) - far, y, x), (float(hi[0]) + far, y, x)
            out.append(Body("vessel", *ends, self.vessel))
        return tuple(out)

    def world(self) -> dict[str, Any]:
        """What `tissue` and `skeletons` need beside box, voxel size and seed."""
        return {"grain": self.grain, "scale": self.scale, "bodies": self.bodies}


def write(
    out: str | Path,
    settings: PhantomSettings,
    *,
    workers: int = 1,
    swc: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Make the volumes and tables of `settings` in the folder `out`; returns figures.

    workers: processes that compute blocks; this one writes. The result does not depend on it.
    swc: also write one SWC file per neurite, in skeletons/.
    Raises AlreadyExists if the folder is there and `overwrite` is not set.
    """
    started, place = time.monotonic(), Path(out)
    if workers < 1:
        raise BadInput(f"workers is {workers}: at least one process is needed.")
    box, bits = settings.box, look_of(settings.look).bits
    if box.is_empty:
        raise BadInput(f"shape is {settings.shape}: a phantom of it would hold no voxel.")
    begin(place, overwrite=overwrite)
    made = {
        name: volume.create(
            place / NAMES[name],
            box=box,
            voxel_size=settings.voxel_size,
            dtype=dtype,
            kind=kind,
            chunk=(64, 64, 64),
            shard=(256, 256, 256) if max(box.shape) > 512 else (128, 128, 128),
        )
        for name, dtype, kind in (
            ("image", "uint16" if bits == 16 else "uint8", "image"),
            ("labels", "uint64", "labels"),
            ("classes", "uint8", "labels"),
        )
    }
    sites: dict[int, Synapse] = {}
    neurites: set[int] = set()
    grid = Grid(box, made["image"].write_shape)
    with Progress("phantom", total=box.size, unit="voxel") as progress:
        for t in _made(settings, [b.write for b in grid], workers):
            for name, values in (("image", t.image), ("labels", t.labels), ("classes", t.classes)):
                made[name].write(t.box, values)
            sites |= {s.id: s for s in t.synapses}
            neurites |= set(np.unique(t.labels).tolist())
            progress.advance(t.box.size, synapses=str(len(sites)))
    ordered = [sites[k] for k in sorted(sites)]
    bones = skeletons(box, settings.voxel_size, settings.seed, **settings.world())
    _tables(place, ordered, bones, swc=swc)
    figures = {
        "voxels": box.size,
        "neurites": len(neurites),
        "synapses": len(ordered),
        "skeleton_mm": _length_mm(bones),
        "seconds": round(time.monotonic() - started, 2),
    }
    said = record(
        "phantom", settings=settings, inputs={}, counters=figures, seconds=figures["seconds"]
    )
    for v in made.values():
        opening.finish(v, said)
    write_json(place / "phantom.json", said | {"files": NAMES})
    state.finish(place, said)
    return figures


def begin(place: Path, *, overwrite: bool) -> None:
    """Make an empty folder that is marked as being written, so that a phantom can be replaced.

    Raises AlreadyExists if the folder holds anything and `overwrite` is not set, BadInput if what
    it holds is no phantom and no volume.
    """
    if place.exists() and not overwrite and any(place.iterdir() if place.is_dir() else [place]):
        raise AlreadyExists(f"{place} is there already; choose another name, or pass --overwrite.")
    opening.begin(str(place), overwrite=True)


def _block(settings: PhantomSettings, box: Box) -> Tissue:
    return tissue(
        box, settings.voxel_size, settings.seed, settings.look,
        synapse_density=settings.synapse_density, **settings.world(),
    )  # fmt: skip


def _made(settings: PhantomSettings, boxes: list[Box], workers: int) -> Iterator[Tissue]:
    """The blocks in order, computed here or by processes, never more than 2 per process ahead."""
    if workers == 1 or len(boxes) == 1:
        yield from (_block(settings, b) for b in boxes)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        waiting = []
        for b in boxes:
            waiting.append(pool.submit(_block, settings, b))
            if len(waiting) >= 2 * workers:
                yield waiting.pop(0).result()
        for w in waiting:
            yield w.result()


def _tables(place: Path, sites: list[Synapse], bones: Skeletons, *, swc: bool) -> None:
    rows = ["id,pre,post,z_nm,y_nm,x_nm,size,score"]
    for s in sites:
        z, y, x = s.position
        # size: the area of the cleft's disc, square micrometres
        end = f"{z:.2f},{y:.2f},{x:.2f},{np.pi * (s.radius * 1e-3) ** 2:.5f},1"
        rows += [f"{s.id},{s.pre},{post},{end}" for post in s.posts]
    write_atomically(place / NAMES["synapses"], "\n".join(rows) + "\n")
    wires = [f"{a},{b},{n}" for (a, b), n in connectome(sites).items()]
    write_atomically(place / NAMES["connectome"], "\n".join(["pre,post,synapses", *wires]) + "\n")
    _npz(place / NAMES["skeletons"], bones)
    if swc:
        for neurite in np.unique(bones.ids).tolist():
            write_atomically(place / "skeletons" / f"{neurite}.swc", bones.of(neurite).swc())


def _npz(path: Path, bones: Skeletons) -> None:
    held = io.BytesIO()
    np.savez_compressed(
        held, nodes_nm=bones.nodes, edges=bones.edges, ids=bones.ids, radii_nm=bones.radii
    )
    write_atomically(path, held.getvalue())


def _length_mm(bones: Skeletons) -> float:
    if not len(bones.edges):
        return 0.0
    a, b = (bones.nodes[bones.edges[:, k]] for k in (0, 1))
    return float(np.linalg.norm(a - b, axis=1).sum() * 1e-6)


def read_synapses(path: str | Path) -> list[dict[str, Any]]:
    """The truth table: id, pre, posts (tuple), position (z, y, x in nm) of each synapse."""
    out: dict[int, dict[str, Any]] = {}
    for line in Path(path).read_text().splitlines()[1:]:
        i, pre, post, z, y, x, _, _ = line.split(",")
        place = (float(z), float(y), float(x))
        known = out.setdefault(
            int(i), {"id": int(i), "pre": int(pre), "posts": (), "position": place}
        )
        known["posts"] += (int(post),)
    return list(out.values())


def read_skeletons(path: str | Path) -> Skeletons:
    """The truth skeletons of a folder's skeletons.npz."""
    with np.load(path, allow_pickle=False) as f:
        return Skeletons(f["nodes_nm"], f["edges"], f["ids"], f["radii_nm"])
