"""Files of fields: written whole, read one field at a time.

    save("fields.npz", {"section_00000": field})
    with FieldFile("fields.npz") as fields:
        fields["section_00000"]

What it is: the npz form of docs/alignment.md. What it is not: the fields (petavox.align.frames), or
what their names mean. The fields of ten thousand large sections are tens of gigabytes, so that
`FieldFile` keeps none of them; `load` holds all, for files of a few.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from petavox.align.frames import Field, Lattice
from petavox.errors import BadInput
from petavox.provenance import write_atomically

UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


def save(path: Path | str, fields: Mapping[str, Field]) -> None:
    """Write fields (lengths in nm) as one npz: NAME.matrix, .shift, .origin, .spacing,
    .displacement for each; what a field lacks is left out. Form described in docs/alignment.md.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, f in fields.items():
        arrays[f"{name}.matrix"], arrays[f"{name}.shift"] = f.matrix, f.shift
        if f.lattice is not None and f.displacement is not None:
            arrays[f"{name}.origin"] = np.asarray(f.lattice.origin)
            arrays[f"{name}.spacing"] = np.asarray(f.lattice.spacing)
            arrays[f"{name}.displacement"] = f.displacement.astype(np.float32)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())


def load(path: Path | str) -> dict[str, Field]:
    """All fields of an npz that `save` (or another program) wrote. Raises BadInput if it is not."""
    with FieldFile(path) as file:
        return dict(file)


class FieldFile(Mapping[str, Field]):
    """The fields of an npz by name, in the order of the file; each is read when it is asked for.

    The file stays open until `close`. Threads may ask at once. Raises BadInput for what is no such
    file when it is opened, and for what is no field when that is asked for.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = path
        try:
            arrays = np.load(path, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError("it is one array, not an npz")
        except UNREADABLE as e:
            raise BadInput(f"cannot read the fields {path}: {e}.") from None
        self._arrays = arrays
        self._parts: dict[str, list[str]] = {}
        for key in arrays.files:
            self._parts.setdefault(key.rpartition(".")[0] or key, []).append(key)

    def __getitem__(self, name: str) -> Field:
        """The field of that name."""
        keys = self._parts[name]
        try:
            part = {key.rpartition(".")[2]: self._arrays[key] for key in keys}
        except UNREADABLE as e:
            raise BadInput(f"cannot read field '{name}' of {self.path}: {e}.") from None
        return _field(name, part, self.path)

    def __contains__(self, name: object) -> bool:
        return name in self._parts  # without reading it

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __enter__(self) -> FieldFile:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; no field can be read after that."""
        self._arrays.close()


def _field(name: str, part: Mapping[str, np.ndarray], path: Path | str) -> Field:
    """A field from its arrays. Raises BadInput for arrays that are none."""
    of = f"field '{name}' of {path}"
    for key, values in part.items():
        if values.dtype.kind not in "biuf":
            raise BadInput(f"{of}: its `{key}` is {values.dtype}, which is not of numbers.")
        if not np.isfinite(values).all():
            raise BadInput(f"{of}: its `{key}` is not finite.")
    matrix, shift = (part.get(key, np.zeros(0)).astype(float) for key in ("matrix", "shift"))
    if matrix.shape != (2, 2) or shift.shape != (2,):
        raise BadInput(f"{of} has no 2x2 `matrix` and `shift` of two numbers.")
    if abs(np.linalg.det(matrix)) < 1e-9:
        raise BadInput(f"{of}: its `matrix` {matrix.tolist()} cannot be inverted.")
    displacement = part.get("displacement")
    if displacement is None:
        return Field(matrix, shift)
    if displacement.ndim != 3 or displacement.shape[2] != 2 or 0 in displacement.shape:
        raise BadInput(
            f"{of} has a displacement of shape {displacement.shape}: it must be (ny, nx, 2), with "
            "`origin` and `spacing` in nm."
        )
    origin, spacing = part.get("origin", np.zeros(0)), part.get("spacing", np.zeros(0))
    if origin.shape != (2,) or spacing.size != 1 or spacing.item() <= 0:
        raise BadInput(
            f"{of} has a displacement, but no `origin` of two numbers and `spacing` above 0, in nm."
        )
    lattice = Lattice(
        (float(origin[0]), float(origin[1])), float(spacing.item()), displacement.shape[:2]
    )
    return Field(matrix, shift, lattice, displacement.astype(float))
