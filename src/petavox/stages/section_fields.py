"""The fields of sections, section -> volume, as align leaves them: by number, in pixels.

What it is: the reading of OUT/fields.npz, or of an npz of that form that another program wrote.
What it is not: the form itself (petavox.align.field_file), or the making of fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from petavox.align.field_file import FieldFile
from petavox.align.frames import Field
from petavox.errors import BadInput
from petavox.volume import state

NAME = "fields.npz"


class SectionFields(Mapping[int, Field]):
    """Fields of an align folder or an npz, in pixels of `pixel` nm, by section number, ascending.

    Each is read when it is asked for, and not kept. Threads may ask at once.
    Raises BadInput for names that are no sections.
    """

    def __init__(self, path: str | Path, pixel: float) -> None:
        place = Path(path)
        if place.is_dir():
            state.require_complete(place)
            place = place / NAME
        self.pixel = pixel
        self._file = FieldFile(place)
        try:
            self._names = _by_number(place, self._file)
        except BadInput:
            self._file.close()
            raise

    def __getitem__(self, k: int) -> Field:
        """The field of section k."""
        return self._file[self._names[k]].scaled(1 / self.pixel)

    def __contains__(self, k: object) -> bool:
        return k in self._names  # without reading it

    def __iter__(self) -> Iterator[int]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __enter__(self) -> SectionFields:
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()


def _by_number(place: Path, names: Iterable[str]) -> dict[int, str]:
    """Names of fields by section number, ascending."""
    out: dict[int, str] = {}
    for name in names:
        try:
            number = int(name.removeprefix("section_"))  # may be negative
        except ValueError:
            raise BadInput(
                f"{place} holds a field '{name}'; names must be section_NUMBER."
            ) from None
        if number in out:
            raise BadInput(
                f"{place} holds two fields of section {number}, '{out[number]}' and '{name}': "
                "leave one out."
            )
        out[number] = name
    return dict(sorted(out.items()))


def read_fields(path: str | Path, pixel: float) -> dict[int, Field]:
    """All fields of an align folder or an npz, in pixels, by section number."""
    with SectionFields(path, pixel) as fields:
        return dict(fields)
