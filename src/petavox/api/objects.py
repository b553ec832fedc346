"""Verbs on objects: segment, consensus, reconcile, agglomerate, score.

What it is: thin functions over the stages. What it is not: how a network floods.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from petavox.api.arrays import at_path, like, sized_setting, volume_of
from petavox.api.running import blockwise, scratch, settings_of
from petavox.errors import BadInput
from petavox.space import Box
from petavox.volume import Kind, opening


def shipped_model() -> Path:
    """The network that comes with petavox: small, trained on synthetic tissue and FIB-SEM.

    >>> import petavox as pv
    >>> pv.shipped_model().suffix
    '.safetensors'
    """
    from petavox.ffn.shipped import MODEL

    return MODEL


def segment(
    image: Any,
    model: str | Path,
    out: str | Path | None = None,
    *,
    box: Box | str | None = None,
    voxel_size: Sequence[float] | None = None,
    blocks: Sequence[int] | None = None,
    workers: int = 0,
    site: str | None = None,
    overwrite: bool = False,
    quiet: bool = True,
    **settings: Any,
) -> Any:
    """Flood an image with a flood-filling network (Januszewski et al. 2018).

    image: path, Volume, array or DataArray, zyx; uint8, uint16 or float32.  model: a
    .safetensors file.  box: only these voxels.  voxel_size: nm, zyx, for an array.
    settings: further keys of SegmentSettings, such as precision="f32", seeds={"policy": "grid"}.
    Without `out` gives the objects, uint64 ids (0 = nothing) of the box, as an array, or as a
    DataArray for one. With `out` writes that labels volume, as `petavox segment` does, and gives
    the figures. blocks: shape, zyx, of subvolumes that are flooded each by itself, with `workers`
    processes or at a `site`; needs `out`, which `reconcile` then joins; settings are then keys of
    BlockwiseSettings.
    Raises BadInput before any work if something cannot be used.

    >>> import petavox as pv
    >>> tissue = pv.phantom(shape=(24, 40, 40), voxel_size=(10, 10, 10), seed=1)
    >>> labels = pv.segment(tissue.image, pv.shipped_model(), voxel_size=(10, 10, 10))
    >>> labels.shape, labels.dtype.name
    ((24, 40, 40), 'uint64')
    """
    wanted = {"box": None if box is None else str(box), **settings}
    with at_path(image, voxel_size=voxel_size, name="image", sized=True) as path:
        size = tuple(voxel_size) if voxel_size is not None and path == str(image) else None
        if blocks is not None:
            if out is None:
                raise BadInput("blocks are flooded into files: give `out`, then pv.reconcile.")
            from petavox.stages.blockwise_segment import BlockwiseSettings, segment_blocks

            parsed = settings_of(
                BlockwiseSettings,
                {"block": tuple(blocks), "voxel_size": size, **wanted},
                "segment",
            )
            with blockwise(Path(out), workers, site) as how:
                done = segment_blocks(
                    path, out, model=model, settings=parsed, overwrite=overwrite, **how
                )
                return done.figures()
        if workers or site:
            raise BadInput("workers and site need blocks=(z, y, x).")
        from petavox.stages import segment as stage

        one = settings_of(stage.SegmentSettings, wanted, "segment")
        options: dict[str, Any] = {"voxel_size": size, "quiet": quiet}
        if out is not None:
            return stage.segment(path, out, model, one, overwrite=overwrite, **options)
        with scratch() as folder:
            stage.segment(path, folder / "objects.zarr", model, one, **options)
            made = opening.open(folder / "objects.zarr")
            return like(image, made.read(), made.box, made.voxel_size)


def consensus(
    a: Any,
    b: Any,
    out: str | Path | None = None,
    *,
    others: Sequence[Any] = (),
    voxel_size: Sequence[float] | None = None,
    workers: int = 0,
    overwrite: bool = False,
    **settings: Any,
) -> Any:
    """One segmentation from two or more of the same voxels.

    a, b, others: labels (path, Volume, array or DataArray, zyx).  voxel_size: nm, zyx, for arrays.
    settings: keys of ConsensusSettings, such as min_size=1000 (voxels from which a common part is
    kept). Without share: only what both a and b hold together stays together. With share=0.1, say:
    parts are joined that more than this share of the segmentations holds together.
    Without `out` gives the agreed labels in the form of `a`; with it the figures.

    >>> import petavox as pv, numpy as np
    >>> a = np.ones((1, 2, 4), "uint64")
    >>> b = np.array([[[5, 5, 7, 7]] * 2], "uint64")
    >>> agreed = pv.consensus(a, b, voxel_size=(8, 8, 8), min_size=1)
    >>> agreed[0, 0].tolist()
    [1, 1, 2, 2]
    """
    from petavox.stages.consensus import consensus_of
    from petavox.stages.consensus_stages import ConsensusSettings

    parsed = settings_of(ConsensusSettings, settings, "consensus")
    with ExitStack() as held:
        named = [("a", a), ("b", b), *((f"others[{i}]", v) for i, v in enumerate(others))]
        passes = [
            held.enter_context(at_path(v, Kind.LABELS, voxel_size=voxel_size, name=n))
            for n, v in named
        ]
        folder = held.enter_context(scratch())
        place = folder / "agreed.zarr" if out is None else Path(out)
        with blockwise(place, workers) as how:
            figures = consensus_of(passes, place, settings=parsed, overwrite=overwrite, **how)
        if out is not None:
            return figures
        made = opening.open(place)
        return like(a, made.read(), made.box, made.voxel_size)


def reconcile(
    objects: str | Path,
    out: str | Path,
    *,
    workers: int = 0,
    site: str | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Join the objects of blocks, made by `segment(..., blocks=...)`, into one volume.

    objects: labels of blocks.  out: the volume.  site: where blocks run, instead of here.
    settings: keys of ReconcileSettings, such as share=0.5. Gives the proof of counts.
    Raises WorkFailed if the proof does not hold.

    >>> import petavox as pv
    >>> pv.reconcile("objects.blocks", "segmentation.zarr", workers=2)   # doctest: +SKIP
    """
    from petavox.stages import reconcile as stage

    parsed = settings_of(stage.ReconcileSettings, settings, "reconcile")
    with blockwise(Path(out), workers, site) as how:
        return stage.reconcile(objects, out, settings=parsed, overwrite=overwrite, **how)


def agglomerate(
    labels: Any,
    image: Any,
    model: str | Path,
    out: str | Path | None = None,
    *,
    voxel_size: Sequence[float] | None = None,
    workers: int = 0,
    site: str | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> Any:
    """Merge the objects that the network holds to be one, by resegmentation.

    labels, image: path, Volume, array or DataArray, zyx, of the same voxels; voxel_size: nm, zyx,
    for arrays.  model: .safetensors.  site: where blocks run.  settings: keys of
    AgglomerateSettings, such as rule={"odds": 1.5}.
    Without `out` gives the merged labels in the form of `labels`; with it the figures, and the
    graph of all pairs in OUT.graph.

    >>> import petavox as pv
    >>> pv.agglomerate("objects.zarr", "image.zarr", "m.safetensors", "n.zarr")  # doctest: +SKIP
    """
    from petavox.stages import agglomerate as stage

    sized = sized_setting(image, voxel_size)
    parsed = settings_of(stage.AgglomerateSettings, settings | sized, "agglomerate")
    with (
        at_path(labels, Kind.LABELS, voxel_size=voxel_size, name="labels") as what,
        at_path(image, voxel_size=voxel_size, name="image", sized=True) as raw,
        scratch() as folder,
    ):
        place = folder / "neurons.zarr" if out is None else Path(out)
        with blockwise(place, workers, site) as how:
            figures = stage.agglomerate(
                what, raw, place, model=model, settings=parsed, overwrite=overwrite, **how
            )
        if out is not None:
            return figures
        made = opening.open(place)
        return like(labels, made.read(), made.box, made.voxel_size)


def score(
    result: Any,
    truth: Any,
    *,
    where: Any = None,
    oracle: bool = False,
    voxel_size: Sequence[float] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Score a segmentation against a truth: VI, adapted Rand, fill, splits, mergers.

    result, truth: labels (path, Volume, array or DataArray, zyx) of the same voxels; 0 is
    nothing.  voxel_size: nm, zyx, for arrays.  where: count only voxels at
    which this volume is above 0.  oracle: also the floor, every object given to its majority
    body.  settings: keys of ScoreSettings, such as box="0:64,0:64,0:64", tolerance=2, large=1000.
    Gives the figures of `petavox score`; `.notes` says by which convention each is counted.
    Raises BadInput if the two do not speak of the same voxels.

    >>> import petavox as pv, numpy as np
    >>> truth = np.repeat(np.array([[[1, 1, 2, 2]]], "uint64"), 4, axis=1)
    >>> merged = np.ones_like(truth)
    >>> figures = pv.score(merged, truth, voxel_size=(8, 8, 8), tolerance=0)["raw"]
    >>> figures["vi_merge"], figures["vi_split"]
    (1.0, 0.0)
    """
    from petavox.stages import score as stage

    parsed = settings_of(stage.ScoreSettings, settings, "score")

    def labels(given: Any, name: str) -> Any:
        return volume_of(given, Kind.LABELS, voxel_size=voxel_size, name=name)

    found = stage.tables(
        labels(result, "the result"),
        labels(truth, "the truth"),
        parsed,
        where=None if where is None else labels(where, "the mask"),
        quiet=True,
    )
    return found.report(oracle=oracle)
