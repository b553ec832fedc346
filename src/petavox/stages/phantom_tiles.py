"""Write phantom tiles: PNG or TIFF files, the tile table, masks, and the truth.

What it is: the folder's names and the loop over sections. What it is not: the tiles
(petavox.phantom.tiles) or their truth (petavox.phantom.tiles_truth).

    OUT/tiles/s0003/t0002.png    tile 2 (row by row) of the section listed as 3
    OUT/tiles.csv                file,section,x_nm,y_nm: where the stage says each tile's first
                                 pixel is; a missing tile or section has no line
    OUT/masks/s0003.png          damage in section pixels: 1 fold, 2 crack, 3 dust, 4 no tile
    OUT/aligned/s0003.png        the undistorted section, if asked for
    OUT/truth.npz, truth.json    every transform (TilesTruth.load), the damage, the order
    OUT/phantom.json             provenance, written after them
    OUT/petavox.json             says from the first moment on whether the folder is whole
"""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any, Literal

import imageio.v3 as iio
import numpy as np

from petavox.phantom.tile_settings import TileSettings
from petavox.phantom.tiles import TileSet
from petavox.phantom.tiles_truth import TilesTruth
from petavox.progress import Progress
from petavox.provenance import record, write_atomically, write_json
from petavox.space import Box
from petavox.stages.phantom import begin
from petavox.volume import state


def write_tiles(
    out: str | Path,
    settings: TileSettings,
    *,
    format: Literal["png", "tif"] = "png",
    aligned: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Make the tiles of `settings` in the folder `out`; returns figures.

    aligned: also write the undistorted sections (their box is in truth.json).
    Raises AlreadyExists if the folder is there and `overwrite` is not set.
    """
    started, place = time.monotonic(), Path(out)
    made = TileSet(settings)  # impossible settings are told before anything is touched
    begin(place, overwrite=overwrite)
    lay, rows, origins, written = made.layout, ["file,section,x_nm,y_nm"], {}, 0
    tiles = len(lay.nominal)
    with Progress("phantom tiles", total=settings.sections * tiles, unit="tile") as progress:
        for k in range(settings.sections):
            for i in range(tiles):
                if lay.has(k, i):
                    name = f"tiles/s{k:04d}/t{i:04d}.{format}"
                    write_atomically(place / name, _encoded(made.tile(k, i), format))
                    y, x = lay.nominal[i] * settings.pixel_nm
                    rows.append(f"{name},{k},{x:.3f},{y:.3f}")
                    written += 1
                progress.advance(1)
            mask, origin = made.mask(k)
            origins[k] = origin
            write_atomically(place / "masks" / f"s{k:04d}.png", _encoded(mask, "png"))
            if aligned:
                box = Box.of_shape((1, *settings.size), (lay.order[k], 0, 0))
                image = made.aligned(k, box)[1]
                write_atomically(place / "aligned" / f"s{k:04d}.png", _encoded(image, "png"))
    truth = TilesTruth(lay)
    write_atomically(place / "truth.npz", truth.npz())
    write_json(place / "truth.json", truth.facts() | {"mask_origins_yx": origins})
    write_atomically(place / "tiles.csv", "\n".join(rows) + "\n")
    figures = {
        "tiles": written,
        "sections": len(truth.sections),
        "damage": len(truth.damage),
        "megapixels": round(written * settings.tile[0] * settings.tile[1] / 1e6, 3),
        "seconds": round(time.monotonic() - started, 2),
    }
    said = record(
        "phantom tiles", settings=settings, inputs={}, counters=figures, seconds=figures["seconds"]
    )
    write_json(place / "phantom.json", said)
    state.finish(place, said)
    return figures


def _encoded(image: np.ndarray, format: str) -> bytes:
    held = io.BytesIO()
    if format == "png":
        iio.imwrite(held, image, extension=".png", compress_level=1)
    else:
        iio.imwrite(held, image, extension=".tif")
    return held.getvalue()
