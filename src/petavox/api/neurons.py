"""Verbs on neurons: meshes, skeletons, synapses, the connectome.

What it is: thin functions over the stages, and over the kernels where arrays come in.
What it is not: geometry.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from petavox.api.arrays import at_path, like, sized_setting, volume_of
from petavox.api.running import blockwise, scratch, settings_of
from petavox.volume import Kind, opening


def _folder(
    stage: Any,
    labels: Any,
    voxel_size: Sequence[float] | None,
    out: Path,
    settings: Any,
    workers: int,
    overwrite: bool,
) -> Any:
    """Figures of a stage that makes a folder from labels."""
    from petavox.blocks import open_engine

    with (
        at_path(labels, Kind.LABELS, voxel_size=voxel_size, name="labels", sized=True) as path,
        open_engine(workers=workers) as engine,
    ):
        return stage.run(path, out, settings, engine=engine, overwrite=overwrite)


def mesh(
    labels: Any,
    out: str | Path | None = None,
    *,
    voxel_size: Sequence[float] | None = None,
    workers: int = 0,
    overwrite: bool = False,
    **settings: Any,
) -> Any:
    """The surface of every object: closed, simplified.

    labels: path, Volume, array or DataArray, zyx.  voxel_size: nm, zyx, for an array, and
    for files that do not say.
    settings: keys of MeshSettings, such as only=(17,), error_nm=20, close_border=False.
    Without `out` gives {id: Mesh}, vertices (n, 3) nm zyx and faces (m, 3), of the finest level;
    with it writes Neuroglancer's multi-resolution meshes there and gives figures.

    >>> import petavox as pv, numpy as np
    >>> ball = (np.indices((9, 9, 9)) - 4)
    >>> labels = ((ball**2).sum(axis=0) <= 9).astype("uint64") * 7
    >>> meshes = pv.mesh(labels, voxel_size=(40, 4, 4))
    >>> list(meshes), meshes[7].vertices.shape[1]
    ([7], 3)
    """
    from petavox.stages import mesh as stage

    parsed = settings_of(stage.MeshSettings, settings | sized_setting(labels, voxel_size), "mesh")
    if out is not None:
        return _folder(stage, labels, voxel_size, Path(out), parsed, workers, overwrite)
    from petavox.neuron.mesh import fragments
    from petavox.neuron.simplify import levels

    volume = volume_of(labels, Kind.LABELS, voxel_size=voxel_size, name="labels")
    box = volume.box if parsed.box is None else parsed.box
    values, start = volume.read(box), box.start
    if parsed.close_border:
        values, start = np.pad(values, 1), (start[0] - 1, start[1] - 1, start[2] - 1)
    error = parsed.error_nm or max(volume.voxel_size)
    return {
        label: levels(found, volume.voxel_size, error=error, most_levels=1)[0]
        for label, found in fragments(values, start, parsed.only).items()
    }


def skeletonize(
    labels: Any,
    out: str | Path | None = None,
    *,
    voxel_size: Sequence[float] | None = None,
    workers: int = 0,
    overwrite: bool = False,
    **settings: Any,
) -> Any:
    """The skeleton of every object by TEASAR (Sato et al. 2000), with radii.

    labels: path, Volume, array or DataArray, zyx.  voxel_size: nm, zyx, for an array, and
    for files that do not say.
    settings: keys of SkeletonSettings, such as
    teasar={"scale": 1.5, "const_nm": 300}, dust_nm3=1e7, tick_nm=500.
    Without `out` gives {id: Skeleton}, vertices (n, 3) nm zyx, edges (m, 2), radii (n,) nm; with
    it writes Neuroglancer's skeletons there and gives figures.
    Needs petavox[skeletons] (MissingExtra).

    >>> import petavox as pv, numpy as np
    >>> rod = np.zeros((64, 9, 9), "uint64")
    >>> rod[:, 3:6, 3:6] = 5
    >>> skeletons = pv.skeletonize(rod, voxel_size=(40, 40, 40), dust_nm3=0)  # doctest: +SKIP
    >>> list(skeletons), skeletons[5].vertices.shape[1]                       # doctest: +SKIP
    ([5], 3)
    """
    from petavox.stages import skeletonize as stage

    parsed = settings_of(
        stage.SkeletonSettings, settings | sized_setting(labels, voxel_size), "skeletonize"
    )
    if out is not None:
        return _folder(stage, labels, voxel_size, Path(out), parsed, workers, overwrite)
    from petavox.neuron import skeleton as trees
    from petavox.neuron.teasar import block_pieces

    volume = volume_of(labels, Kind.LABELS, voxel_size=voxel_size, name="labels")
    box = volume.box if parsed.box is None else parsed.box
    values = volume.read(box)
    if parsed.only is not None:
        values = np.where(np.isin(values, np.array(parsed.only, values.dtype)), values, 0)
    pieces: dict[int, list[trees.Piece]] = {}
    for piece in block_pieces(
        values, box, box, box, volume.voxel_size, parsed.teasar, dust=parsed.dust_nm3
    ):
        pieces.setdefault(piece.label, []).append(piece)
    made = {
        label: trees.join(
            found,
            volume.voxel_size,
            scale=parsed.teasar.scale,
            const=parsed.teasar.const_nm,
            dust=parsed.dust_nm3,
            tick=parsed.tick_nm,
        )
        for label, found in sorted(pieces.items())
    }
    return {label: s for label, s in made.items() if len(s.vertices)}


def synapses(
    image: Any,
    labels: Any = None,
    out: str | Path | None = None,
    *,
    model: str | Path | None = None,
    voxel_size: Sequence[float] | None = None,
    workers: int = 0,
    site: str | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> Any:
    """Find clefts, the partners of each, and mitochondria.

    image, labels: path, Volume, array or DataArray, zyx, of the same voxels; without labels,
    clefts without partners.  model: a .safetensors file; default the shipped one.
    voxel_size: nm, zyx, for arrays.  site: where blocks run.  settings: keys of SynapseSettings,
    such as threshold=0.5.
    Without `out` gives {"synapses"} as an Arrow table, which `connectome` takes, and {"clefts",
    "mitochondria"} in the form of `image`, as far as the model knows them; with it writes that
    folder, as `petavox synapses`, and gives figures.

    >>> import petavox as pv
    >>> found = pv.synapses(image, labels, voxel_size=(8, 8, 8))   # doctest: +SKIP
    >>> pv.connectome(labels, found["synapses"], voxel_size=(8, 8, 8))   # doctest: +SKIP
    """
    import pyarrow.parquet as pq

    from petavox.stages import synapses as stage

    parsed = settings_of(
        stage.SynapseSettings, settings | sized_setting(image, voxel_size), "synapses"
    )
    if model is None:
        from petavox.synapse.shipped import MODEL

        model = MODEL
    with ExitStack() as held:
        raw = held.enter_context(at_path(image, voxel_size=voxel_size, name="image", sized=True))
        objects = None
        if labels is not None:
            objects = held.enter_context(
                at_path(labels, Kind.LABELS, voxel_size=voxel_size, name="labels")
            )
        place = held.enter_context(scratch()) / "synapses" if out is None else Path(out)
        with blockwise(place, workers, site) as how:
            figures = stage.find_synapses(
                raw, objects, place, model=model, settings=parsed, overwrite=overwrite, **how
            )
        if out is not None:
            return figures
        found: dict[str, Any] = {"synapses": pq.ParquetFile(place / stage.TABLE).read()}
        for name in stage.OBJECTS.values():
            if (place / name).exists():
                made = opening.open(place / name)
                found[name.removesuffix(".zarr")] = like(
                    image, made.read(), made.box, made.voxel_size
                )
        return found


def connectome(
    labels: Any,
    synapses: Any,
    out: str | Path | None = None,
    *,
    skeletons: str | Path | None = None,
    mapping: str | Path | None = None,
    voxel_size: Sequence[float] | None = None,
    workers: int = 0,
    overwrite: bool = False,
    **settings: Any,
) -> Any:
    """Tables of neurons, synapses and edges.

    labels: path, Volume, array or DataArray, zyx, of the neurons; voxel_size: nm, zyx, for an
    array.  settings: keys of ConnectomeSettings.  synapses: a Parquet or CSV
    file, or columns (a mapping, an Arrow table, a data frame): id, z_nm, y_nm, x_nm, pre, post,
    size, score.  skeletons: folder of `skeletonize`.  mapping: table id, neuron.
    Without `out` gives {"neurons", "synapses", "edges"} as Arrow tables; with it writes that
    folder, as `petavox connectome`, and gives figures.

    >>> import petavox as pv, numpy as np
    >>> labels = np.repeat(np.array([[[1, 1, 2, 2]]], "uint64"), 4, axis=1)
    >>> row = {"id": 1, "z_nm": 4, "y_nm": 16, "x_nm": 16, "pre": 1, "post": 2}
    >>> tables = pv.connectome(labels, [row | {"size": 9, "score": 1}], voxel_size=(8, 8, 8))
    >>> tables["edges"].to_pylist()
    [{'pre': 1, 'post': 2, 'count': 1, 'total_size': 9.0}]
    """
    import pyarrow.parquet as pq

    from petavox.blocks import open_engine
    from petavox.stages import connectome as stage
    from petavox.stages.asking import NAMES

    sized = sized_setting(labels, voxel_size)
    parsed = settings_of(stage.ConnectomeSettings, settings | sized, "connectome")
    with (
        at_path(labels, Kind.LABELS, voxel_size=voxel_size, name="labels", sized=True) as path,
        scratch() as folder,
        open_engine(workers=workers) as engine,
    ):
        rows = _table_file(synapses, folder)
        place = folder / "connectome" if out is None else Path(out)
        figures = stage.run(
            path,
            rows,
            place,
            parsed,
            skeletons=None if skeletons is None else Path(skeletons),
            mapping=None if mapping is None else Path(mapping),
            engine=engine,
            overwrite=overwrite,
        )
        if out is not None:
            return figures
        return {n: pq.ParquetFile(place / f"{n}.parquet").read() for n in NAMES}


def _table_file(given: Any, folder: Path) -> Path:
    """The path of a table; one in memory is written to `folder`, with the types of SYNAPSES."""
    if isinstance(given, (str, Path)):
        return Path(given)
    import pyarrow as pa
    import pyarrow.parquet as pq

    from petavox.errors import BadInput
    from petavox.neuron.tables import SYNAPSES, checked

    try:
        if isinstance(given, pa.Table):
            table = given
        elif isinstance(given, Sequence):
            table = pa.Table.from_pylist(list(given), SYNAPSES)
        else:
            columns = {str(k): np.asarray(given[k]) for k in given}
            table = pa.table({k: pa.array(v) for k, v in columns.items()})
    except (pa.ArrowException, TypeError, ValueError, KeyError) as e:
        raise BadInput(
            f"the synapses are no table of {', '.join(SYNAPSES.names)}: {' '.join(str(e).split())}."
        ) from None
    # not cast: ids that went through floating point numbers are refused there
    pq.write_table(checked(table, SYNAPSES, "the synapses"), folder / "synapses.parquet")
    return folder / "synapses.parquet"
