"""HDF5: a data set addressed like a path, `block.h5/raw`.

What it is: reading through h5py, and writing one data set for other programs, into a new file or
beside those of a file that is there.
Attributes of the data set (or, for reading, of the file): `voxel_size_nm` (zyx), `offset` (first
voxel, zyx), `axes` ("zyx"), `kind`. Other programs, such as those of CREMI, keep `offset` as a
length beside `resolution`; it is then divided by it. What it is not: a form that many processes
write.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from petavox.errors import BadInput, WorkFailed
from petavox.space import Box, VoxelSize, Zyx, zyx
from petavox.volume.formats.facts import chosen, kind_of, settled, three_axes, usable_dtype
from petavox.volume.volume import Kind, Level, Volume

SUFFIXES = {".h5", ".hdf5", ".hdf"}
FORMAT = "HDF5"


def split(path: Path) -> tuple[Path, str] | None:
    """The file and the name of the data set in it, or None if no part of `path` is HDF5."""
    for i, part in enumerate(path.parts):
        if Path(part).suffix.lower() in SUFFIXES and not Path(*path.parts[: i + 1]).is_dir():
            return Path(*path.parts[: i + 1]), "/".join(path.parts[i + 1 :])
    return None


class _Dataset:
    def __init__(self, data: Any, start: Zyx, path: str) -> None:
        self._data, self._box, self._path = data, Box.of_shape(data.shape, start), path
        self._dtype = usable_dtype(path, data.dtype)

    def __reduce__(self) -> Any:
        # a handle cannot travel to a worker process; where the data set lies can
        file = str(Path(self._data.file.filename).resolve())
        return _again, (file, self._data.name, self._box.start, self._path)

    @property
    def box(self) -> Box:
        return self._box

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    @property
    def write_shape(self) -> Zyx:
        return zyx(self._data.chunks or self._data.shape)

    def read(self, box: Box) -> np.ndarray:
        try:
            return np.asarray(self._data[box.slices(self._box.start)], self._dtype)
        except (OSError, RuntimeError, ValueError) as e:
            raise WorkFailed(
                f"box {box} of {self._path} cannot be read, the file may be damaged: {e}."
            ) from None

    def write(self, box: Box, values: np.ndarray) -> None:
        raise BadInput(f"{self._path} is read only; import it into OME-Zarr first.")


def _again(file: str, name: str, start: Zyx, path: str) -> _Dataset:
    return _Dataset(_opened(Path(file))[name], start, path)


def datasets(file: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """All data sets of a file: name -> (shape, type)."""
    found: dict[str, tuple[tuple[int, ...], str]] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = (tuple(item.shape or ()), str(item.dtype))

    with _opened(file) as handle:
        handle.visititems(visit)
    return found


def require_place(file: Path, name: str) -> None:
    """Raise BadInput if a file cannot have a data set of this name and keep all its others."""
    with _opened(file) as handle:
        for i in range(1, name.count("/") + 1):
            if isinstance(handle.get("/".join(name.split("/")[:i])), h5py.Dataset):
                raise BadInput(f"{file / name} would lie in a data set; choose another name.")
        if isinstance(handle.get(name), h5py.Group):
            raise BadInput(
                f"{file / name} is a group with data sets of its own, not one data set; choose "
                "another name."
            )


def _opened(file: Path) -> Any:
    if not file.exists():
        raise BadInput(f"there is no file {file}.")
    try:
        return h5py.File(file, "r")
    except OSError as e:
        raise BadInput(f"{file} is not a readable HDF5 file ({e}).") from None


def open(
    path: Path, *, voxel_size: VoxelSize | None, resolution: VoxelSize | None = None
) -> Volume:
    """Open one data set for reading."""
    found = split(path)
    if found is None:
        raise BadInput(f"{path} names no HDF5 file.")
    file, name = found
    handle = _opened(file)
    data = handle.get(name) if name else None
    if not isinstance(data, h5py.Dataset):
        raise BadInput(
            f"{file} has no data set '{name}'. It holds: {', '.join(datasets(file)) or 'none'}. "
            f"Address one as {file}/NAME."
        )
    three_axes(str(path), data.shape or ())

    def said(key: str) -> Any:
        return data.attrs.get(key, handle.attrs.get(key))

    axes = said("axes")
    if axes is not None and (axes.decode() if isinstance(axes, bytes) else str(axes)) != "zyx":
        raise BadInput(f"{path} says its axes are '{axes}'; petavox reads zyx. Transpose it first.")
    given = said("voxel_size_nm")
    own = None
    if given is not None:
        own = VoxelSize.of([float(v) for v in np.ravel(given)], f"voxel_size_nm of {path}")
    size = settled(str(path), own, voxel_size)
    store = _Dataset(data, _start(path, data.attrs.get("offset"), said), str(path))
    level = Level(store.box, size, name)
    chosen(str(path), [level], resolution)
    kind = kind_of(store.dtype, data.attrs.get("kind"))
    return Volume(store, path=str(path), voxel_size=size, kind=kind, format=FORMAT, levels=[level])


def _start(path: Path, offset: Any, said: Callable[[str], Any]) -> Zyx:
    """The first voxel, zyx.

    offset: the attribute; in voxels beside `voxel_size_nm`, else a length in the unit of
    `resolution`.  said: an attribute of the data set or the file by name, or None.
    """
    if offset is None:
        return (0, 0, 0)
    given = _three(path, "offset", offset)
    if not any(given):
        return (0, 0, 0)
    if said("voxel_size_nm") is not None:
        return _whole(path, given, given, "voxels")
    if said("resolution") is None:
        raise BadInput(
            f"{path} has the offset {given} without its unit. Set the attribute voxel_size_nm (the "
            "offset is then in voxels) or resolution (in the offset's unit), or remove the offset."
        )
    step = _three(path, "resolution", said("resolution"))
    if min(step) <= 0:
        raise BadInput(f"{path} has the resolution {step}; correct it, all must be above 0.")
    voxels = tuple(o / r for o, r in zip(given, step, strict=True))
    return _whole(path, given, voxels, f"at the resolution {step}")


def _three(path: Path, name: str, value: Any) -> tuple[float, ...]:
    try:
        numbers = tuple(float(v) for v in np.ravel(value))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != 3 or not np.isfinite(numbers).all():
        raise BadInput(f"{path} has the {name} {value}; it must be three numbers, z y x.")
    return numbers


def _whole(path: Path, given: tuple[float, ...], voxels: tuple[float, ...], unit: str) -> Zyx:
    """Whole numbers of voxels, but for rounding of decimals in the file."""
    nearest = np.rint(voxels)
    if np.abs(voxels - nearest).max() > 1e-3:
        raise BadInput(
            f"{path} has the offset {given} {unit}, which is no whole number of voxels "
            f"({', '.join(f'{v:g}' for v in voxels)}). Correct the attribute, or remove it: "
            "the volume then begins at voxel 0 0 0."
        )
    return zyx(nearest.astype(np.int64).tolist())


class _Output(io.FileIO):
    """A new file that remembers a failed write instead of raising it.

    The HDF5 library keeps bytes that it could not write, tries again when it closes, and takes the
    process down if that fails too. Here it believes that all went well; `error` says it did not.
    """

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        rest = memoryview(data).cast("B")
        try:
            while len(rest):
                rest = rest[super().write(rest) :]
        except OSError as e:
            self.error = self.error or e
        return memoryview(data).nbytes

    def truncate(self, size: int | None = None, /) -> int:
        try:
            return super().truncate(size)
        except OSError as e:
            self.error = self.error or e
            return size or 0


class _Written(_Dataset):
    def __init__(self, data: Any, start: Zyx, path: str, output: _Output) -> None:
        super().__init__(data, start, path)
        self._output = output

    def write(self, box: Box, values: np.ndarray) -> None:
        self._data[box.slices(self._box.start)] = values
        self._data.file.flush()
        _require_written(self._output, self._path)


def _require_written(output: _Output, path: str) -> None:
    if output.error is not None:
        raise WorkFailed(
            f"{path} cannot be written: {output.error.strerror}. Make room, then run again."
        )


@contextmanager
def created(
    file: Path,
    name: str,
    *,
    box: Box,
    voxel_size: VoxelSize,
    dtype: np.dtype[Any],
    kind: Kind,
    beside: Path | None = None,
) -> Iterator[Volume]:
    """A new file with one data set, open for one process to write.

    beside: a file whose other data sets, groups and attributes the new one has, too
    (`require_place` says whether it can).
    Raises WorkFailed, in `write` or at the end, if storage refuses.
    """
    path = str(file / name)
    try:
        output = _Output(file, "x+")
    except OSError as e:
        raise BadInput(f"cannot write to {file}: {e.strerror}.") from None
    chunk = tuple(min(64, n) for n in box.shape)
    with output:
        if beside is not None:
            # all bytes: links and references stay what they are; the room of what is replaced is
            # used again for the new data set
            with beside.open("rb") as old:
                shutil.copyfileobj(old, output, 16 << 20)
            _require_written(output, path)
        with h5py.File(output, "w" if beside is None else "r+") as handle:
            if name in handle:
                del handle[name]
            data = handle.create_dataset(
                name, box.shape, dtype, chunks=chunk, compression="gzip", compression_opts=1
            )
            data.attrs["axes"] = "zyx"
            data.attrs["voxel_size_nm"] = list(voxel_size)
            data.attrs["offset"] = list(box.start)
            data.attrs["kind"] = str(kind)
            yield Volume(
                _Written(data, box.start, path, output),
                path=path,
                voxel_size=voxel_size,
                kind=kind,
                format=FORMAT,
                writable=True,
            )
        _require_written(output, path)
