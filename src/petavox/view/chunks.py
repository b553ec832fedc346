"""Any volume as Neuroglancer precomputed, chunk by chunk, made on demand.

What it is: the `info` and the chunks that the client asks for, read from a Volume; levels of the
volume's own pyramid, or coarser ones computed on the way where it has none. What it is not: a
copy; nothing is written.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from petavox.errors import BadInput
from petavox.progress import Progress
from petavox.space import Box, Grid, VoxelSize, Zyx, zyx
from petavox.volume import Kind, Volume

CHUNK = (64, 64, 64)
COARSEST = 4
"""Factor of the coarsest computed level: a chunk of it reads COARSEST^3 chunks."""
LARGE = 512
"""Voxels along an axis from which coarser levels are computed."""
MOST_FILES = 200_000
"""Chunks that are written down, each a file."""


@dataclass(frozen=True)
class Scale:
    """One level: its voxels, and the volume and factors it is read from."""

    box: Box
    voxel_size: VoxelSize
    volume: Volume
    factors: Zyx
    chunk: Zyx


class VolumeChunks:
    """A volume served as precomputed.

    levels: the volume's levels, finest first, each opened as a Volume.
    labels: serve as a segmentation, uint32 or uint64, whatever the type.
    """

    def __init__(self, levels: Sequence[Volume], *, labels: bool) -> None:
        self.labels = labels
        finest = levels[0]
        if not labels:
            self.dtype = finest.dtype
        else:
            self.dtype = np.dtype(np.uint64 if finest.dtype.itemsize == 8 else np.uint32)
        self.scales = [Scale(v.box, v.voxel_size, v, (1, 1, 1), CHUNK) for v in levels]
        if len(levels) == 1:
            self.scales += _coarser(finest)
        # not every file format may be read by two threads at once
        self._lock = threading.Lock()

    def info(self) -> dict[str, object]:
        """The precomputed `info`; xyz, as the format has it."""
        return {
            "@type": "neuroglancer_multiscale_volume",
            "type": "segmentation" if self.labels else "image",
            "data_type": self.dtype.name,
            "num_channels": 1,
            "scales": [
                {
                    "key": str(i),
                    "size": list(s.box.shape[::-1]),
                    "voxel_offset": list(s.box.start[::-1]),
                    "resolution": list(s.voxel_size)[::-1],
                    "chunk_sizes": [list(s.chunk[::-1])],
                    "encoding": "raw",
                }
                for i, s in enumerate(self.scales)
            ],
        }

    def names(self) -> Iterator[str]:
        """Names of `info` and of all chunks."""
        yield "info"
        for key, scale in enumerate(self.scales):
            for block in Grid(scale.box, scale.chunk):
                ends = zip(block.write.start, block.write.stop, strict=True)
                z, y, x = (f"{a}-{b}" for a, b in ends)
                yield f"{key}/{x}_{y}_{z}"

    def write(self, out: Path) -> None:
        """Write `info` and all chunks. Raises BadInput if there are more than MOST_FILES."""
        names = list(itertools.islice(self.names(), MOST_FILES + 1))
        if len(names) > MOST_FILES:
            raise BadInput(
                f"the static view would have more than {MOST_FILES:,} files: the format of the "
                "volume is not one that a browser reads, and each piece of it is a file of its "
                "own; make it OME-Zarr first, by `petavox import`."
            )
        with Progress(f"view {out.name}", total=len(names), unit="file") as progress:
            for name in names:
                found = self.get(name)
                assert found is not None  # it named it itself
                path = out / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(found[0])
                progress.advance(1)

    def get(self, name: str) -> tuple[bytes, str] | None:
        """`info`, or a chunk named SCALE/x0-x1_y0-y1_z0-z1."""
        if name == "info":
            return json.dumps(self.info()).encode(), "application/json"
        part = r"(-?\d+)-(-?\d+)"
        found = re.fullmatch(rf"(\d+)/{part}_{part}_{part}", name)
        if found is None or int(found[1]) >= len(self.scales):
            return None
        x0, x1, y0, y1, z0, z1 = (int(g) for g in found.groups()[1:])
        scale = self.scales[int(found[1])]
        if not (z0 < z1 and y0 < y1 and x0 < x1):
            return None
        box = Box((z0, y0, x0), (z1, y1, x1))
        if not scale.box.contains(box) or any(
            n > c for n, c in zip(box.shape, scale.chunk, strict=True)
        ):
            return None
        with self._lock:
            values = _read(scale, box, labels=self.labels)
        little = values.astype(self.dtype.newbyteorder("<"), order="C")
        return little.tobytes(), "application/octet-stream"


def _coarser(volume: Volume) -> list[Scale]:
    """Levels computed on the way for a large volume without a pyramid.

    Axes with small voxels are halved first, until voxels are about as long as wide.
    """
    out: list[Scale] = []
    factors, size = (1, 1, 1), volume.voxel_size
    while max(volume.shape) > LARGE and max(factors) < COARSEST:
        shortest = min(size)
        step = zyx([2 if s < 2 * shortest else 1 for s in size])
        factors = zyx([f * s for f, s in zip(factors, step, strict=True)])
        size = volume.voxel_size.coarser(factors)
        low = zyx([a // f for a, f in zip(volume.box.start, factors, strict=True)])
        high = zyx([-(-b // f) for b, f in zip(volume.box.stop, factors, strict=True)])
        chunk = zyx([max(16, c // f) for c, f in zip(CHUNK, factors, strict=True)])
        out.append(Scale(Box(low, high), size, volume, factors, chunk))
    return out


def _read(scale: Scale, box: Box, *, labels: bool) -> np.ndarray:
    """Voxels of a level: labels by the first voxel of each cell, images by its mean."""
    f = scale.factors
    if f == (1, 1, 1):
        return scale.volume.read(box)
    fine = Box(
        zyx([a * n for a, n in zip(box.start, f, strict=True)]),
        zyx([b * n for b, n in zip(box.stop, f, strict=True)]),
    )
    inside = fine.intersection(scale.volume.box)
    values = scale.volume.read(inside)
    # cells that the volume's face cuts are filled up with what they hold
    pad = [
        (a - p, q - b)
        for a, b, p, q in zip(inside.start, inside.stop, fine.start, fine.stop, strict=True)
    ]
    values = np.pad(values, pad, mode="edge")
    if labels:
        return values[:: f[0], :: f[1], :: f[2]]
    z, y, x = box.shape
    means = values.reshape(z, f[0], y, f[1], x, f[2]).mean(axis=(1, 3, 5), dtype=np.float64)
    return means if values.dtype.kind == "f" else np.rint(means)


def is_labels(volume: Volume) -> bool:
    """True if a volume says that it holds objects."""
    return volume.kind is Kind.LABELS
