"""Small projects for tests, and what a run made, as digests that do not depend on time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml

import petavox as pv
from petavox.phantom.tile_settings import TileSettings
from petavox.project import Project, load
from petavox.provenance import digest, file_digest
from petavox.stages import phantom
from petavox.stages.block_labels import BlockLabels
from petavox.stages.phantom_tiles import write_tiles

SHAPE = (24, 48, 48)
SEGMENT = {
    "block": [24, 24, 48],
    "context": [10, 10, 10],
    "method": "components",
    "threshold": 120.0,
    "min_size": 300,
}
"""Bright components in two blocks: every stage has work, and no network is needed."""
AGGLOMERATE = {
    "candidates": {"block": [24, 24, 48], "min_faces": 900, "min_size": 900, "max_distance": 20},
    "resegment": {"tries": 1},
}


def tissue(folder: Path) -> Path:
    """A little phantom tissue with its truth."""
    wanted = phantom.PhantomSettings(shape=SHAPE, voxel_size=(10, 10, 10), seed=5)
    phantom.write(folder, wanted)
    return folder


def described(tissue: Path, **more: Any) -> dict[str, Any]:
    """A project that begins at that tissue's image, as values of petavox.yaml."""
    values: dict[str, Any] = {
        "name": "small",
        "input": {
            "image": str(tissue / "image.zarr"),
            "synapses": str(tissue / "synapses.csv"),
        },
        "truth": {"labels": str(tissue / "labels.zarr")},
        "stages": {
            "segment": dict(SEGMENT),
            "agglomerate": AGGLOMERATE,
            "mesh": {"block": [24, 48, 48]},
            "skeletonize": {"dust_nm3": 1e5, "block": [24, 48, 48]},
            "report": False,
        },
    }
    return values | more


def project(folder: Path, values: dict[str, Any]) -> Project:
    """The project of these values in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "petavox.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return load(folder)


def tiles(folder: Path, seed: int = 3) -> Path:
    """A few small phantom tiles, hardly distorted."""
    write_tiles(
        folder,
        TileSettings(
            sections=4, grid=(1, 2), tile=(128, 128), overlap=40, pixel_nm=10.0, thickness_nm=10.0,
            seed=seed, jitter=2.0, lens=0.0, shift=3.0, rotation=0.5, scale=0.0, elastic=1.0,
            elastic_sigma=100.0, noise=3.0, shading=0.0,
        ),
    )  # fmt: skip
    return folder


def described_tiles(place: Path, **stages: Any) -> dict[str, Any]:
    """A project that begins at tiles and ends at an image, unless stages say more."""
    off = dict.fromkeys(
        ("segment", "reconcile", "agglomerate", "mesh", "skeletonize", "report"), False
    )
    return {
        "name": "tiles",
        "voxel_size": [10, 10, 10],
        "input": {"tiles": str(place / "tiles.csv")},
        "stages": off | stages,
    }


def made(project: Project) -> dict[str, str]:
    """Step.thing -> digest of what it holds: voxels, tables, files; no times, no paths."""
    return {
        f"{step.name}.{thing}": _content(path)
        for step in project.steps
        for thing, path in project.outputs(step.name).items()
    }


def _content(path: Path) -> str:
    if path.is_file():
        return file_digest(path)
    if (path / "blocks.json").is_file():
        blocks = BlockLabels.open(path)
        return digest(*(blocks.read(b, b.read).tobytes() for b in blocks.grid))
    if path.name == "stitched":
        return _voxels(path / "sections")
    if path.suffix == ".zarr":
        return _voxels(path)
    found = []
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        name = str(file.relative_to(path))
        if file.suffix == ".zarr" or any(p.suffix == ".zarr" for p in file.parents):
            continue
        if file.suffix == ".parquet":
            table = pq.read_table(file, partitioning=None)
            found.append([name, table.column_names, digest(json.dumps(table.to_pylist()))])
        elif file.suffix == ".npz":
            with np.load(file) as arrays:
                found.append([name, *(digest(k, arrays[k].tobytes()) for k in arrays.files)])
        elif name not in ("petavox.json", "report.json", "scores.json"):
            found.append([name, file_digest(file)])
    return digest(found)


def _voxels(path: Path) -> str:
    volume = pv.open(path)
    return digest(str(volume.box), str(volume.voxel_size), volume.read().tobytes())
