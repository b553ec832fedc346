"""The catalogue of public data sets: addresses, licences, checksums, and where each was read.

What it is: the model of catalogue.yaml, and its reading. What it is not: the download.

>>> named("snemi3d").licence
'CC BY 4.0'
"""

from __future__ import annotations

import functools
import re
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator

from petavox.errors import BadInput
from petavox.settings import NmSetting, Settings, parse

_HEX = {"sha256": 64, "md5": 32}


class SetFile(Settings):
    """One file of a data set."""

    name: str
    """Its name on disk."""
    url: str
    bytes: int | None = Field(None, gt=0)
    """Exact size where one is published."""
    sha256: str | None = None
    md5: str | None = None
    unpack: tuple[str, ...] = ()
    """Members of a zip archive that are written beside it (by their last name)."""

    @field_validator("sha256", "md5")
    @classmethod
    def _hex(cls, value: str | None, info: Any) -> str | None:
        if value is not None and not re.fullmatch(f"[0-9a-f]{{{_HEX[info.field_name]}}}", value):
            raise ValueError(f"a {info.field_name} is {_HEX[info.field_name]} digits of 0-9a-f")
        return value

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        if Path(value).name != value or value.startswith("."):
            raise ValueError("a file name without folders, such as raw.h5, is needed")
        return value


class DataSet(Settings):
    """A public data set."""

    name: str
    what: str
    voxel_size: NmSetting
    """nm, zyx."""
    size: str
    """How large the download is, as far as it is published."""
    licence: str
    cite: str
    files: tuple[SetFile, ...] = Field(min_length=1)
    bodies: Literal["transforms"] | None = None
    """transforms: `groundtruth.h5` holds supervoxels (`stack`) and the body of each
    (`transforms`); `bodies.h5/labels` is made of them."""
    volumes: dict[str, str]
    """What can be opened once it is here: image, labels, ... -> path in the set's folder."""
    notes: str = ""
    read_in: str
    """Where addresses, checksums and licence were read; no download was tried."""


def read(text: str, where: str = "catalogue.yaml") -> dict[str, DataSet]:
    """The sets of a catalogue by name. Raises BadInput for anything malformed."""
    sets = [parse(DataSet, values, where) for values in yaml.safe_load(text)]
    found = {s.name: s for s in sets}
    if len(found) != len(sets):
        raise BadInput(f"{where} names a set twice.")
    return found


@functools.cache
def catalogue() -> dict[str, DataSet]:
    """The sets petavox knows, by name."""
    return read(resources.files("petavox.datasets").joinpath("catalogue.yaml").read_text())


def named(name: str) -> DataSet:
    """One set. Raises BadInput, listing the names, for an unknown one."""
    known = catalogue()
    if name not in known:
        raise BadInput(f"there is no data set '{name}'; petavox knows {', '.join(known)}.")
    return known[name]
