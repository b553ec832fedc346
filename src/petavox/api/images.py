"""Verbs that make images: synthetic tissue, stitching, alignment, rendering, contrast.

What it is: thin functions over the stages. What it is not: how sections are matched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from petavox.api.arrays import at_path, like, sized_setting
from petavox.api.running import scratch, settings_of
from petavox.volume import opening


def phantom(
    out: str | Path | None = None,
    *,
    shape: Sequence[int] | int = (64, 64, 64),
    voxel_size: Sequence[float] = (8.0, 8.0, 8.0),
    seed: int = 1,
    workers: int = 1,
    overwrite: bool = False,
    **settings: Any,
) -> Any:
    """Synthetic neuropil with exact truth.

    shape: voxels, zyx.  voxel_size: nm, zyx.  seed: the world.  settings: further keys of
    PhantomSettings, such as look="serial-section" or grain=300.
    Without `out` gives a Tissue: image, labels, classes (arrays, zyx) and synapses. With `out`
    writes that folder, as `petavox phantom` does, and gives figures.
    Raises BadInput for settings that cannot be.

    >>> import petavox as pv
    >>> tissue = pv.phantom(shape=(8, 16, 16), voxel_size=(8, 8, 8), seed=1)
    >>> tissue.image.shape, tissue.image.dtype.name, tissue.labels.dtype.name
    ((8, 16, 16), 'uint8', 'uint64')
    """
    from petavox.stages import phantom as stage

    wanted = settings_of(
        stage.PhantomSettings,
        {"shape": shape, "voxel_size": tuple(voxel_size), "seed": seed, **settings},
        "phantom",
    )
    if out is not None:
        return stage.write(out, wanted, workers=workers, overwrite=overwrite)
    from petavox.phantom.tissue import tissue

    return tissue(
        wanted.box,
        wanted.voxel_size,
        wanted.seed,
        wanted.look,
        synapse_density=wanted.synapse_density,
        **wanted.world(),
    )


def stitch(
    table: str | Path,
    out: str | Path,
    *,
    pixel_size: float | None = None,
    thickness: float | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Stitch the tiles of a table into a folder of sections; gives the figures.

    table: tile table or FEABAS file.  out: the folder.  pixel_size, thickness: nm.
    settings: further keys of StitchStageSettings.
    Raises BadInput before any work for a table that cannot be used, WorkFailed after it if some
    tiles or sections failed.

    >>> import petavox as pv
    >>> pv.stitch("tiles.csv", "stitched", pixel_size=4, thickness=40)   # doctest: +SKIP
    """
    from petavox.stages import stitch as stage

    given = {"pixel_nm": pixel_size, "thickness_nm": thickness, **settings}
    parsed = settings_of(stage.StitchStageSettings, given, "stitch")
    return stage.run(table, out, parsed, overwrite=overwrite)


@contextmanager
def _sections_at(sections: Any, voxel_size: Sequence[float] | None) -> Iterator[str]:
    """As `at_path`; a folder of `stitch` stays that folder, whose volume lies in it."""
    from petavox.stages.section_folder import image_path

    given = image_path(sections) if isinstance(sections, (str, Path)) else sections
    with at_path(given, voxel_size=voxel_size, name="sections") as path:
        yield str(sections) if isinstance(sections, (str, Path)) else path


def align(
    sections: Any,
    out: str | Path | None = None,
    *,
    voxel_size: Sequence[float] | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> Any:
    """Align the sections of a volume.

    sections: a volume (path, Volume, array or DataArray, zyx, square pixels) or a folder of
    `stitch`.  voxel_size: nm, zyx, for an array.  settings: further keys of AlignStageSettings.
    With `out` writes the fields there, as `petavox align`, and gives figures. Without, gives the
    aligned image: an array, or a DataArray for one; its box is what the moved sections cover.
    Raises BadInput before any work, WorkFailed if some sections could not be aligned.

    >>> import petavox as pv
    >>> aligned = pv.align(sections, voxel_size=(40, 4, 4))   # doctest: +SKIP
    """
    from petavox.stages import align as stage

    parsed = settings_of(stage.AlignStageSettings, settings, "align")
    with _sections_at(sections, voxel_size) as path:
        if out is not None:
            return stage.run(path, out, parsed, overwrite=overwrite)
        with scratch() as folder:
            stage.run(path, folder / "aligned", parsed)
            render(path, folder / "aligned", folder / "image.zarr", pyramid=False)
            made = opening.open(folder / "image.zarr")
            return like(sections, made.read(), made.box, made.voxel_size)


def render(
    sections: Any,
    aligned: str | Path,
    out: str | Path,
    *,
    voxel_size: Sequence[float] | None = None,
    render_mask: str | Path | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Render sections through the fields of `align` into the volume `out`; gives the figures.

    sections, voxel_size: as for `align`.  aligned: folder of `align`.  render_mask: volume, 0
    where pixels are not shown.  settings: keys of RenderSettings, such as box="0:8,0:512,0:512".

    >>> import petavox as pv
    >>> pv.render("stitched", "aligned", "image.zarr")   # doctest: +SKIP
    """
    from petavox.stages import render as stage

    parsed = settings_of(stage.RenderSettings, settings, "render")
    with _sections_at(sections, voxel_size) as path:
        return stage.run(path, aligned, out, parsed, render_mask=render_mask, overwrite=overwrite)


def contrast(
    image: Any,
    out: str | Path | None = None,
    *,
    voxel_size: Sequence[float] | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> Any:
    """Even the contrast of the sections of an image.

    image: path, Volume, array or DataArray, zyx, uint8 or uint16.  settings: keys of
    ContrastSettings, such as method="clahe".
    With `out` writes that volume and gives figures; without, gives the evened image.

    >>> import petavox as pv
    >>> dark = pv.phantom(shape=(4, 64, 64)).image // 2
    >>> even = pv.contrast(dark, voxel_size=(8, 8, 8))
    >>> even.shape, bool(even.std() > dark.std())
    ((4, 64, 64), True)
    """
    from petavox.stages import contrast as stage

    sized = sized_setting(image, voxel_size)
    parsed = settings_of(stage.ContrastSettings, settings | sized, "contrast")
    with at_path(image, voxel_size=voxel_size, name="image", sized=True) as path:
        if out is not None:
            return stage.run(path, out, parsed, overwrite=overwrite)
        with scratch() as folder:
            stage.run(path, folder / "even.zarr", parsed)
            made = opening.open(folder / "even.zarr")
            return like(image, made.read(), made.box, made.voxel_size)
