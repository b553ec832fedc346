"""Tile tables: which image lies where in which section.

What it is: reading and writing tables (CSV, TSV, FEABAS coordinate files, file-name patterns), and
checking them before any work. What it is not: reading pixels, but for an image's size.

    file,section,x_nm,y_nm           one line per tile; x_nm, y_nm: the centre of its first pixel
    s0000/t00.png,0,0,0              in the stage's frame; further columns `width`, `height` (px)
    s0000/t01.png,0,6624,0           are optional; paths are relative to the table
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from petavox.errors import BadInput
from petavox.provenance import write_atomically

IMAGES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
COLUMNS = ("file", "section", "x_nm", "y_nm")


@dataclass(frozen=True)
class Tile:
    """One tile: its image, its section, and where its first pixel lies, nm (y, x)."""

    file: Path
    section: int
    y_nm: float
    x_nm: float
    shape: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class TileTable:
    """All tiles; pixel_nm: edge of a pixel, or None if the table does not say."""

    tiles: tuple[Tile, ...]
    pixel_nm: float | None
    source: str

    @property
    def sections(self) -> dict[int, list[Tile]]:
        """Section number -> tiles, ascending."""
        out: dict[int, list[Tile]] = {}
        for t in sorted(self.tiles, key=lambda t: t.section):
            out.setdefault(t.section, []).append(t)
        return out


def read(path: str | Path) -> TileTable:
    """A table from a CSV or TSV file, a FEABAS coordinate file, or a folder of those.

    Raises BadInput naming the line, column and fix.
    """
    place = Path(path)
    if place.is_dir():
        files = sorted(place.glob("*.txt"))
        if not files:
            raise BadInput(
                f"{place} is a folder without coordinate files (*.txt); make a table with "
                f"`petavox tiles {place} --pattern ... --pixel-size ...`."
            )
        parts = [_feabas(f, n) for n, f in enumerate(files)]
        sizes = {p.pixel_nm for p in parts}
        if len(sizes) != 1:
            listed = ", ".join(sorted(map(str, sizes)))
            raise BadInput(f"the files of {place} have different {{RESOLUTION}}: {listed}.")
        return TileTable(sum((p.tiles for p in parts), ()), parts[0].pixel_nm, str(place))
    try:
        text = place.read_text()
    except (OSError, UnicodeDecodeError) as e:
        raise BadInput(f"cannot read the tile table {path}: {e}.") from None
    if text.lstrip().startswith("{ROOT_DIR}"):
        return _feabas(place, 0)
    return _delimited(place, text)


def _delimited(place: Path, text: str) -> TileTable:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise BadInput(f"{place} is empty: it needs the columns {','.join(COLUMNS)}.")
    rows = csv.DictReader(
        io.StringIO("\n".join(lines)), delimiter="\t" if "\t" in lines[0] else ","
    )
    names = [n.strip() for n in rows.fieldnames or []]
    rows.fieldnames = names
    missing = [c for c in COLUMNS if c not in names]
    if missing:
        units = [n for n in names if re.fullmatch(r"[xy]_?(px|um|µm|mm|pixels?)?", n)]
        hint = (
            f" It has {', '.join(units)}: positions must be in nm, in columns x_nm and y_nm."
            if units
            else ""
        )
        raise BadInput(
            f"{place} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)} (it has "
            f"{', '.join(names)}).{hint}"
        )
    tiles = []
    for number, row in enumerate(rows, start=2):
        try:
            x, y = float(row["x_nm"]), float(row["y_nm"])
            section = int(row["section"])
            shape = (int(row.get("height") or 0), int(row.get("width") or 0))
        except (TypeError, ValueError) as e:
            raise BadInput(
                f"{place}, line {number}: {e}; columns are {','.join(COLUMNS)}."
            ) from None
        if not (np.isfinite(x) and np.isfinite(y)):
            raise BadInput(f"{place}, line {number}: position ({x}, {y}) nm is not a number.")
        file = Path(row["file"].strip())
        tiles.append(
            Tile(file if file.is_absolute() else place.parent / file, section, y, x, shape)
        )
    return TileTable(tuple(tiles), None, str(place))


def _feabas(place: Path, section: int) -> TileTable:
    """A FEABAS coordinate file: {ROOT_DIR}, {RESOLUTION} (nm), {TILE_SIZE} (height, width), then
    file, x, y in pixels. The number in the file's name is the section, else its order."""
    root, resolution, shape = place.parent, None, (0, 0)
    tiles = []
    for number, line in enumerate(place.read_text().splitlines(), start=1):
        cells = line.strip().split("\t")
        try:
            if cells[0] == "{ROOT_DIR}":
                root = Path(cells[1])
            elif cells[0] == "{RESOLUTION}":
                resolution = float(cells[1])
            elif cells[0] == "{TILE_SIZE}":
                shape = (int(cells[1]), int(cells[2]))
            elif cells[0]:
                if resolution is None:
                    raise BadInput(f"{place} has no {{RESOLUTION}} line (nm) before its tiles.")
                x, y = float(cells[1]) * resolution, float(cells[2]) * resolution
                tiles.append(Tile(root / cells[0], section, y, x, shape))
        except (IndexError, ValueError) as e:
            raise BadInput(f"{place}, line {number}: '{line}' cannot be read ({e}).") from None
    found = re.search(r"(\d+)\D*$", place.stem)
    if found:
        tiles = [Tile(t.file, int(found[1]), t.y_nm, t.x_nm, t.shape) for t in tiles]
    return TileTable(tuple(tiles), resolution, str(place))


def from_pattern(
    folder: str | Path, pattern: str, *, pixel_nm: float, overlap: Sequence[float]
) -> TileTable:
    """A table from file names. `pattern` is a path below `folder` with {column}, {row}, {section}
    (numbers, {section} may be missing) and * for anything, such as "col{column}_row{row}_*.tif".

    overlap: share of a tile's height and width that neighbours share, 0..0.9 (y, x).
    Columns and rows count from the lowest in each table.
    """
    place = Path(folder)
    parts = re.split(r"(\{\w+\}|\*)", pattern)
    known = {"{column}": "column", "{row}": "row", "{section}": "section"}
    expression = ""
    for part in parts:
        if part in known:
            expression += f"(?P<{known[part]}>\\d+)"
        elif part == "*":
            expression += "[^/]*"
        elif part.startswith("{"):
            raise BadInput(f"pattern '{pattern}' has {part}: use {', '.join(known)} and *.")
        else:
            expression += re.escape(part)
    if "{column}" not in pattern or "{row}" not in pattern:
        raise BadInput(f"pattern '{pattern}' needs both {{column}} and {{row}}.")
    if not place.is_dir():
        raise BadInput(f"there is no folder {place}.")
    found = []
    for file in sorted(p for p in place.rglob("*") if p.is_file()):
        m = re.fullmatch(expression, file.relative_to(place).as_posix())
        if m:
            groups = m.groupdict()
            found.append((file, int(groups.get("section") or 0), int(m["row"]), int(m["column"])))
    if not found:
        raise BadInput(f"no file below {place} fits the pattern '{pattern}'.")
    shape = image_shape(found[0][0])
    first_row, first_column = min(f[2] for f in found), min(f[3] for f in found)
    step = [n * (1 - o) * pixel_nm for n, o in zip(shape, overlap, strict=True)]
    tiles = tuple(
        Tile(f, s, (r - first_row) * step[0], (c - first_column) * step[1], shape)
        for f, s, r, c in found
    )
    return TileTable(tiles, pixel_nm, str(place))


def write(path: str | Path, table: TileTable) -> None:
    """Write a table as CSV; files below its folder are written relative to it."""
    place = Path(path)
    lines = [",".join([*COLUMNS, "width", "height"])]
    base = place.parent.resolve()
    for t in table.tiles:
        full = t.file.resolve()
        name = full.relative_to(base) if full.is_relative_to(base) else full
        lines.append(f"{name},{t.section},{t.x_nm:.10g},{t.y_nm:.10g},{t.shape[1]},{t.shape[0]}")
    write_atomically(place, "\n".join(lines) + "\n")


def image_shape(file: Path) -> tuple[int, int]:
    """Height and width of an image, from its header. Raises BadInput if it cannot be read."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(file) as image:
            return (image.height, image.width)
    except FileNotFoundError:
        raise BadInput(f"there is no file {file}.") from None
    except Exception as e:
        raise BadInput(f"{file} cannot be read as an image ({type(e).__name__}: {e}).") from None


def check(table: TileTable, pixel_nm: float) -> TileTable:
    """The table with all shapes filled in, if it can be worked on.

    Raises BadInput with one sentence for: no tiles, missing or unreadable files, duplicate files
    or places, a pixel size that contradicts the table, and positions whose unit cannot be nm.
    """
    where = table.source
    if not table.tiles:
        raise BadInput(f"{where} lists no tiles.")
    if not (np.isfinite(pixel_nm) and pixel_nm > 0):
        raise BadInput(f"pixel size is {pixel_nm} nm: it must be a positive number.")
    if table.pixel_nm is not None and abs(table.pixel_nm - pixel_nm) > 1e-3 * pixel_nm:
        raise BadInput(f"{where} says pixels are {table.pixel_nm} nm, but {pixel_nm} was given.")
    gone = [t.file for t in table.tiles if not t.file.is_file()]
    if gone:
        raise BadInput(
            f"{len(gone)} of {len(table.tiles)} files of {where} are missing, the first is "
            f"{gone[0]}; remove their lines, or correct the paths (relative to the table)."
        )
    seen: dict[Path, int] = {}
    for n, t in enumerate(table.tiles):
        if t.file in seen:
            raise BadInput(f"{where} lists {t.file} twice (tiles {seen[t.file] + 1} and {n + 1}).")
        seen[t.file] = n
    tiles = []
    for t in table.tiles:
        shape = image_shape(t.file)
        if t.shape != (0, 0) and t.shape != shape:
            raise BadInput(
                f"{t.file} is {shape[1]} x {shape[0]} px (width x height), but {where} says "
                f"{t.shape[1]} x {t.shape[0]}."
            )
        tiles.append(Tile(t.file, t.section, t.y_nm, t.x_nm, shape))
    out = TileTable(tuple(tiles), pixel_nm, where)
    for k, part in out.sections.items():
        _check_places(k, part, pixel_nm, where)
    return out


def _check_places(k: int, part: list[Tile], pixel_nm: float, where: str) -> None:
    if len(part) < 2:
        return
    at = np.array([[t.y_nm, t.x_nm] for t in part])
    places = {tuple(p) for p in at.round(3).tolist()}
    if len(places) < len(part):
        raise BadInput(f"{where}: two tiles of section {k} lie at one place; one is a duplicate.")
    size = np.array([t.shape for t in part], float) * pixel_nm
    from scipy.spatial import cKDTree

    # in units of a tile, neighbours lie 0.3 to 1 apart
    near = cKDTree(at / size.mean(0)).query(at / size.mean(0), k=2, p=np.inf)[0][:, 1]
    typical = float(np.median(near))
    if typical < 0.02 or typical > 30:
        found = typical * float(size.mean())
        raise BadInput(
            f"{where}: neighbouring tiles of section {k} lie {found:,.4g} nm apart, but a tile is "
            f"{size.mean():,.4g} nm wide at {pixel_nm:g} nm per pixel: x_nm and y_nm seem to be in "
            f"another unit ({'pixels or um' if typical < 0.02 else 'pm, or the pixel size'})."
        )
