"""Arrays, DataArrays, volumes and paths, taken for one another.

What it is: what a caller may hand over as a volume, turned into a Volume or into a path, and a
result turned into the form that came in. What it is not: a reader of files.

A numpy array says neither its voxel size nor its place: `voxel_size` is then needed, and its box
starts at 0. An xarray DataArray says both: by its attribute `voxel_size_nm` (zyx), or by its
coordinates z, y and x, in nm or in what their attribute `units` says.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from petavox.errors import BadInput, MissingExtra
from petavox.space import Box, VoxelSize, Zyx
from petavox.volume import Kind, Volume, opening

AXES = ("z", "y", "x")
_NM = {"nm": 1.0, "nanometer": 1.0, "nanometre": 1.0, "um": 1e3, "µm": 1e3, "micrometer": 1e3}
IN_MEMORY = "<array>"


class ArrayStore:
    """An array in memory, addressed by voxel coordinates."""

    def __init__(self, values: np.ndarray, box: Box) -> None:
        self.values, self._box = values, box

    @property
    def box(self) -> Box:
        """All voxels."""
        return self._box

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of one voxel."""
        return self.values.dtype

    @property
    def write_shape(self) -> Zyx:
        """Any piece may be written."""
        return (1, 1, 1)

    def read(self, box: Box) -> np.ndarray:
        """The voxels of a box."""
        return self.values[box.slices(self._box.start)]

    def write(self, box: Box, values: np.ndarray) -> None:
        """Set the voxels of a box."""
        self.values[box.slices(self._box.start)] = values


def volume_of(
    given: Any,
    kind: Kind | str = Kind.IMAGE,
    *,
    voxel_size: Sequence[float] | VoxelSize | None = None,
    name: str = "the array",
) -> Volume:
    """A Volume of a path, a Volume, a numpy array or a DataArray; arrays are not copied.

    kind: what an array's voxels mean; signed or boolean labels become unsigned.
    voxel_size: nm, zyx; needed for a numpy array, refused where it contradicts what is said.
    Raises BadInput for anything that is no volume.
    """
    if isinstance(given, Volume):
        return _agreeing(given, voxel_size)
    if isinstance(given, (str, Path)):
        return opening.open(given, voxel_size=voxel_size)
    said, start = _said(given, name)
    if said is not None and voxel_size is not None:
        _agree(name, said, VoxelSize.of(tuple(voxel_size)))
    size = said or (None if voxel_size is None else VoxelSize.of(tuple(voxel_size)))
    if size is None:
        raise BadInput(
            f"{name} does not say its voxel size; pass voxel_size=(z, y, x) in nm, such as "
            "(40, 4, 4)."
        )
    values = _values(given, Kind(kind), name)
    box = Box.of_shape(values.shape, start)
    return Volume(
        ArrayStore(values, box), path=IN_MEMORY, voxel_size=size, kind=Kind(kind), format="array"
    )


@contextmanager
def at_path(
    given: Any,
    kind: Kind | str = Kind.IMAGE,
    *,
    voxel_size: Sequence[float] | VoxelSize | None = None,
    name: str = "the array",
    sized: bool = False,
) -> Iterator[str]:
    """The path of a volume; an array is written to a temporary one for as long as it is needed.

    sized: whoever gets the path is told the voxel size too.
    Raises BadInput for a volume that is not what its path alone opens.
    """
    if isinstance(given, (str, Path)):
        if voxel_size is not None and not sized:
            _require_plain(opening.open(given, voxel_size=voxel_size), name)
        yield str(given)
        return
    volume = volume_of(given, kind, voxel_size=voxel_size, name=name)
    if volume.path != IN_MEMORY:
        _require_plain(volume, name)
        yield volume.path
        return
    with tempfile.TemporaryDirectory(prefix="petavox-") as folder:
        copy = opening.create(
            Path(folder) / "volume.zarr",
            box=volume.box,
            voxel_size=volume.voxel_size,
            dtype=volume.dtype,
            kind=volume.kind,
        )
        copy.write(volume.box, volume.read())
        opening.finish(copy, {"of": "an array in memory"})
        yield copy.path


def sized_setting(given: Any, voxel_size: Sequence[float] | None) -> dict[str, Any]:
    """The voxel size as a setting, for a path: an array that is written to one says it itself."""
    if voxel_size is None or not isinstance(given, (str, Path)):
        return {}
    return {"voxel_size": tuple(voxel_size)}


def _require_plain(volume: Volume, name: str) -> None:
    """A coarser level, or a voxel size that was given, is lost where only the path goes on."""
    try:
        plain = opening.open(volume.path)
        same = plain.voxel_size == volume.voxel_size and plain.box == volume.box
    except BadInput:
        same = False
    if not same:
        raise BadInput(
            f"{name} is {volume.path} at {volume.voxel_size}, which this path alone does not open: "
            "write it to a volume of its own, by `petavox import` with --resolution or "
            "--voxel-size, and give that."
        )


def like(given: Any, values: np.ndarray, box: Box, voxel_size: VoxelSize) -> Any:
    """Values in the form of what was given: a DataArray for a DataArray, else a numpy array."""
    if _is_dataarray(given):
        return to_xarray(values, box, voxel_size)
    return values


def to_xarray(
    given: Any, box: Box | None = None, voxel_size: Sequence[float] | VoxelSize | None = None
) -> Any:
    """A DataArray with coordinates z, y, x in nm (of voxel corners) and `voxel_size_nm`.

    given: a path, a Volume, or an array.  box: only these voxels of a volume; for an array, where
    it lies.  Needs xarray (MissingExtra).

    >>> import petavox as pv, numpy as np
    >>> pv.to_xarray(np.zeros((2, 3, 4), "uint8"), voxel_size=(40, 4, 4)).z.values.tolist()
    [0.0, 40.0]
    """
    try:
        import xarray
    except ImportError:
        raise MissingExtra("a DataArray needs xarray: pip install xarray.") from None
    if isinstance(given, np.ndarray):
        if voxel_size is None:
            raise BadInput("an array does not say its voxel size; pass voxel_size=(z, y, x) in nm.")
        values, size = given, VoxelSize.of(tuple(voxel_size))
        box = Box.of_shape(values.shape) if box is None else box
    else:
        volume = volume_of(given, voxel_size=voxel_size)
        box = volume.box if box is None else box
        values, size = volume.read(box), volume.voxel_size
    coordinates = {
        axis: (axis, np.arange(a, b) * s, {"units": "nm"})
        for axis, a, b, s in zip(AXES, box.start, box.stop, size, strict=True)
    }
    return xarray.DataArray(values, coordinates, AXES, attrs={"voxel_size_nm": tuple(size)})


def _is_dataarray(given: Any) -> bool:
    # by its looks: xarray must not be loaded to see that something else is no DataArray
    return all(hasattr(given, a) for a in ("dims", "coords", "attrs", "values"))


def _said(given: Any, name: str) -> tuple[VoxelSize | None, Zyx]:
    """Voxel size and first voxel of a DataArray; of anything else, nothing and 0."""
    if not _is_dataarray(given):
        return None, (0, 0, 0)
    if sorted(given.dims) != sorted(AXES):
        raise BadInput(f"{name} has the dimensions {given.dims}; name them z, y and x.")
    own = given.attrs.get("voxel_size_nm")
    sizes: list[float | None] = list(VoxelSize.of(own)) if own is not None else [None] * 3
    first = [0.0, 0.0, 0.0]
    for i, axis in enumerate(AXES):
        if axis not in given.coords:
            continue
        at = np.asarray(given.coords[axis].values, np.float64)
        unit = str(given.coords[axis].attrs.get("units", "nm"))
        if unit not in _NM:
            raise BadInput(f"{name}: the unit of {axis} is '{unit}'; use nm or um.")
        at = at * _NM[unit]
        first[i] = float(at[0]) if len(at) else 0.0
        if len(at) > 1:
            step = float(at[1] - at[0])
            if not np.allclose(np.diff(at), step, rtol=1e-4):
                raise BadInput(f"{name}: the coordinates along {axis} are not evenly spaced.")
            known = sizes[i]
            if known is not None and not np.isclose(known, step, rtol=1e-4):
                raise BadInput(
                    f"{name}: voxel_size_nm says {known:g} nm along {axis}, its coordinates "
                    f"{step:g} nm."
                )
            sizes[i] = step if known is None else known
    if any(s is None for s in sizes):
        return None, (0, 0, 0)
    start = [int(np.floor(p / s + 1e-6)) for p, s in zip(first, sizes, strict=True)]  # type: ignore[operator]
    return VoxelSize.of([s for s in sizes if s is not None]), (start[0], start[1], start[2])


def _values(given: Any, kind: Kind, name: str) -> np.ndarray:
    values = np.asarray(given.transpose(*AXES).values if _is_dataarray(given) else given)
    if values.ndim != 3:
        raise BadInput(f"{name} has {values.ndim} dimensions; a volume has three: z, y, x.")
    if kind is Kind.LABELS:
        if values.dtype == bool:
            values = values.astype(np.uint8)
        elif values.dtype.kind == "i":
            if values.size and values.min() < 0:
                raise BadInput(f"{name} holds the id {values.min()}; ids are not negative.")
            values = values.astype(f"uint{8 * values.dtype.itemsize}")
        elif values.dtype.kind != "u":
            raise BadInput(f"{name} holds {values.dtype}; labels are whole numbers.")
    elif values.dtype.name not in ("uint8", "uint16", "float32"):
        raise BadInput(
            f"{name} holds {values.dtype}; an image is uint8, uint16 or float32: convert it, so "
            "that nothing is lost unseen."
        )
    return values


def _agreeing(volume: Volume, given: Sequence[float] | VoxelSize | None) -> Volume:
    if given is not None:
        _agree(volume.path, volume.voxel_size, VoxelSize.of(tuple(given)))
    return volume


def _agree(name: str, said: VoxelSize, given: VoxelSize) -> None:
    if not np.allclose(tuple(said), tuple(given), rtol=1e-5):
        raise BadInput(f"{name} says its voxels are {said}, but voxel_size is {given}.")
