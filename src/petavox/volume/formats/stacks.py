"""Stacks of sections: a folder of TIFF, PNG or JPEG files, or one TIFF file with many pages.

What it is: reading, one section at a time, only the sections that are asked for. Files are taken
in natural order (2 before 10); type and size of every section are checked when the stack is
opened, from the headers alone; a number missing in the file names is an error, since all later
sections would lie one too low. The voxel size must be given: resolution tags of images are not
trusted, most programs write 72 dpi.
What it is not: a form to compute on; each read decodes whole sections. `petavox import` makes
one of these into OME-Zarr.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from petavox.errors import BadInput, WorkFailed
from petavox.space import Box, VoxelSize, Zyx
from petavox.volume.formats.facts import chosen, settled, three_axes, usable_dtype
from petavox.volume.volume import Kind, Level, Volume

TIFF = {".tif", ".tiff"}
SUFFIXES = {*TIFF, ".png", ".jpg", ".jpeg"}
Image.MAX_IMAGE_PIXELS = None  # sections of gigapixels are the trade here, not an attack

_GREY = {"L": "uint8", "I;16": "uint16", "I;16B": "uint16", "I;16L": "uint16"}


class _Sections:
    """Sections z = 0, 1, ...: each is one page of one file."""

    def __init__(
        self, pages: Sequence[tuple[Path, int]], shape: tuple[int, int], dtype: np.dtype[Any]
    ) -> None:
        self._pages, self._dtype = pages, dtype
        self._box = Box.of_shape((len(pages), *shape))

    @property
    def box(self) -> Box:
        return self._box

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    @property
    def write_shape(self) -> Zyx:
        return (1, self._box.shape[1], self._box.shape[2])

    def read(self, box: Box) -> np.ndarray:
        out = np.empty(box.shape, self._dtype)
        _, y, x = box.slices()
        for i, z in enumerate(range(box.start[0], box.stop[0])):
            path, page = self._pages[z]
            plane = _plane(path, page)
            if plane.shape != self._box.shape[1:] or plane.dtype != self._dtype:
                raise WorkFailed(f"section {path} has changed while it was being read.")
            out[i] = plane[y, x]
        return out

    def write(self, box: Box, values: np.ndarray) -> None:
        raise BadInput("stacks of sections are read only; import them into OME-Zarr first.")


def open_folder(
    path: Path, *, voxel_size: VoxelSize | None, resolution: VoxelSize | None
) -> Volume:
    """Open a folder of section files."""
    files = [p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()]
    if not files:
        raise BadInput(
            f"there is no volume at {path}: the folder holds no zarr, precomputed or N5 metadata, "
            "and no .tif, .png or .jpg sections."
        )
    kinds = {p.suffix.lower() for p in files}
    if len(kinds) > 1:
        raise BadInput(
            f"{path} holds {' and '.join(sorted(kinds))} files; keep one kind of section."
        )
    files = in_order(files)
    facts = [_facts(p) for p in files]
    for file, fact in zip(files, facts, strict=True):
        if fact.pages > 1 and len(files) > 1:
            raise BadInput(f"{file} has {fact.pages} pages; a folder of sections has one in each.")
    if len(files) == 1:
        return open_file(files[0], voxel_size=voxel_size, resolution=resolution, path=path)
    for file, fact in zip(files, facts, strict=True):
        _same(file.name, fact.shape, fact.dtype, files[0].name, facts[0].shape, facts[0].dtype)
    pages = [(p, 0) for p in files]
    return _volume(path, pages, facts[0].shape, facts[0].dtype, voxel_size, resolution)


def open_file(
    file: Path,
    *,
    voxel_size: VoxelSize | None,
    resolution: VoxelSize | None = None,
    path: Path | None = None,
) -> Volume:
    """Open one file: the pages of a TIFF are sections; any other image is one section."""
    first = _facts(file, pages=True)
    pages = [(file, i) for i in range(first.pages)]
    return _volume(path or file, pages, first.shape, first.dtype, voxel_size, resolution)


def _volume(
    path: Path,
    pages: Sequence[tuple[Path, int]],
    shape: Sequence[int],
    dtype: np.dtype[Any],
    voxel_size: VoxelSize | None,
    resolution: VoxelSize | None,
) -> Volume:
    where = str(path)
    three_axes(where, (len(pages), *shape))
    store = _Sections(pages, (shape[0], shape[1]), usable_dtype(where, dtype))
    size = settled(where, None, voxel_size)
    level = Level(store.box, size, "")
    chosen(where, [level], resolution)
    return Volume(
        store,
        path=where,
        voxel_size=size,
        kind=Kind.IMAGE,
        format=f"stack of {pages[0][0].suffix.lower().lstrip('.')} sections",
        levels=[level],
    )


class _Facts:
    """Pages, shape (y, x) and type of an image file, from its header."""

    def __init__(self, pages: int, shape: tuple[int, ...], dtype: Any) -> None:
        self.pages, self.shape, self.dtype = pages, shape, np.dtype(dtype)


def _facts(file: Path, *, pages: bool = False) -> _Facts:
    """Facts of a file; with `pages`, every page of it is checked to be like the first."""
    try:
        if file.suffix.lower() in TIFF:
            with tifffile.TiffFile(file) as tif:
                first = _grey(file, tif.pages[0])
                if pages:
                    for i, page in enumerate(tif.pages):
                        other = _grey(file, page)
                        _same(
                            f"page {i} of {file}", other.shape, other.dtype,
                            "page 0", first.shape, first.dtype,
                        )  # fmt: skip
                return _Facts(len(tif.pages), first.shape, first.dtype)
        with Image.open(file) as image:
            if image.mode not in _GREY:
                raise BadInput(
                    f"{file} is not an 8- or 16-bit grey image (its mode is {image.mode}); "
                    "convert it to grey first."
                )
            return _Facts(1, (image.height, image.width), _GREY[image.mode])
    except (OSError, ValueError, IndexError, SyntaxError) as e:
        raise BadInput(f"{file} is not a readable image ({e}).") from None


def _grey(file: Path, page: Any) -> Any:
    if len(page.shape) != 2:
        raise BadInput(
            f"{file} has pages of shape {page.shape}, not (y, x): convert it to grey, one section "
            "in each page."
        )
    if getattr(page, "photometric", None) == 0:
        raise BadInput(f"{file} stores white as 0; convert it so that black is 0.")
    return page


def _same(
    name: str, shape: Sequence[int], dtype: Any, first: str, want: Sequence[int], kind: Any
) -> None:
    if tuple(shape) != tuple(want) or dtype != kind:
        raise BadInput(
            f"sections differ: {name} is {tuple(shape)} (y, x) {np.dtype(dtype)}, {first} is "
            f"{tuple(want)} {np.dtype(kind)}. Crop or pad them to one size."
        )


def _plane(file: Path, page: int) -> np.ndarray:
    try:
        if file.suffix.lower() in TIFF:
            with tifffile.TiffFile(file) as tif:
                plane = np.asarray(tif.pages[page].asarray())
                return plane.astype(plane.dtype.newbyteorder("="), copy=False)
        with Image.open(file) as image:
            return np.asarray(image).astype(_GREY[image.mode], copy=False)
    except (OSError, ValueError, KeyError, IndexError, SyntaxError, RuntimeError) as e:
        raise WorkFailed(
            f"section {file} (page {page}) cannot be decoded, it may be damaged: {e}."
        ) from None


def in_order(files: Sequence[Path]) -> list[Path]:
    """Files in natural order. Raises BadInput if a number is missing or comes twice.

    The check applies where the names differ in one number only; steps other than 1 are fine as
    long as they are even (10, 20, 30).
    """
    ordered = sorted(files, key=lambda p: (_key(p.name), p.name))
    split = [re.split(r"(\d+)", p.stem) for p in ordered]
    if len(ordered) < 2 or len({len(s) for s in split}) > 1:
        return ordered
    varying = [i for i in range(len(split[0])) if len({s[i] for s in split}) > 1]
    if len(varying) != 1 or varying[0] % 2 == 0:
        return ordered
    numbers = [int(s[varying[0]]) for s in split]
    steps = [b - a for a, b in itertools.pairwise(numbers)]
    if min(steps) == 0:
        at = steps.index(0)
        raise BadInput(
            f"{ordered[at].name} and {ordered[at + 1].name} have the same number; keep one."
        )
    if max(steps) != min(steps):
        at = next(i for i, s in enumerate(steps) if s != min(steps))
        raise BadInput(
            f"sections are missing between {ordered[at].name} and {ordered[at + 1].name}: later "
            "sections would lie too low. Put blank sections there, or renumber the files."
        )
    return ordered


def _key(name: str) -> list[tuple[int, int, str]]:
    return [
        (0, int(part), "") if part.isdigit() else (1, 0, part.lower())
        for part in re.split(r"(\d+)", name)
        if part
    ]


def write(file: Path, plane: np.ndarray) -> None:
    """One section as a TIFF (deflate), y x."""
    try:
        tifffile.imwrite(
            file, plane, compression="zlib", compressionargs={"level": 1}, photometric="minisblack"
        )
    except OSError as e:
        raise WorkFailed(f"section {file} cannot be written: {e.strerror or e}.") from None
