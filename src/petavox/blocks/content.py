"""What an input holds, as a short digest: the key by which finished work is kept or done again.

What it is: a digest of a volume, table or file. What it is not: a reading of voxels, where that
would take long; how the digest is made follows from the size:

    made by petavox         the key of what made it, and names and sizes of its files
    small (to 512 MiB)      all bytes
    large                   names, sizes and times of change of its files
    URL                     the URL and the small metadata file there
"""

from __future__ import annotations

import os
from pathlib import Path

from petavox.errors import BadInput
from petavox.provenance import digest, file_digest
from petavox.volume import places, state
from petavox.volume.formats import hdf5

SMALL = 512 << 20


def content_digest(path: str | Path) -> str:
    """Digest of what lies at a path or URL. Raises BadInput if nothing does."""
    place = places.named(path)
    if places.is_url(place):
        return digest(place, *(places.read(place, name) or b"" for name in places.METADATA))
    inside = hdf5.split(Path(place))
    file, name = inside if inside is not None else (Path(place), "")
    if not file.exists():
        raise BadInput(f"there is nothing at {file}.")
    if file.is_file():
        return digest(name, _bytes([file], file.parent))
    files = sorted(_files(file))
    said = state.read(place)
    key = made_by(place) if said is not None else None
    if key is not None:
        sizes = [
            (str(f.relative_to(file)), f.stat().st_size) for f in files if f.name != state.NAME
        ]
        return digest(key, sizes)
    return _bytes(files, file)


def made_by(folder: str | Path) -> str | None:
    """The key stamped into an output by the task that makes or made it."""
    said = state.read(folder) or {}
    key = said.get("key") or (said.get("provenance") or {}).get("key")
    return None if key is None else str(key)


def _files(folder: Path) -> list[Path]:
    return [Path(d) / name for d, _, names in os.walk(folder) for name in names]


def _bytes(files: list[Path], root: Path) -> str:
    stats = [(f, f.stat()) for f in files]
    if sum(s.st_size for _, s in stats) <= SMALL:
        return digest([(str(f.relative_to(root)), file_digest(f)) for f, _ in stats])
    return digest([(str(f.relative_to(root)), s.st_size, s.st_mtime_ns) for f, s in stats])
