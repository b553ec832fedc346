"""Tables of blocks: a folder of Parquet files, one for each block, marked like a volume.

What it is: writing a block's rows at once, and reading them in the order of blocks. What it is
not: knowledge of columns.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from petavox.errors import AlreadyExists, WorkFailed
from petavox.provenance import write_atomically
from petavox.volume import state

FAN = 1000
"""Files of one folder: a million blocks make a thousand folders."""


def create(folder: str | Path) -> None:
    """An empty table, marked as being written; replaces a table that is there.

    Raises AlreadyExists as `require_room`.
    """
    path = Path(folder)
    require_room(path)
    path.mkdir(parents=True, exist_ok=True)
    # the mark first: a table whose emptying is cut short must still be known as ours
    state.begin(path)
    for inside in path.iterdir():
        if inside.name != state.NAME:
            _remove(inside)


def require_room(folder: str | Path) -> None:
    """Raise AlreadyExists for a file, and for a folder that is neither a table nor empty.

    The names beside an output (OUT.graph, OUT.lookup) may be someone else's.
    """
    path = Path(folder)
    if path.exists() and not _ours(path):
        raise AlreadyExists(
            f"{path} is there already and was not made by petavox; it is not removed, even with "
            "--overwrite. Move it away, or choose another name for the output."
        )


def _ours(path: Path) -> bool:
    """May this be emptied? A marked folder, or one that holds nothing but a mark cut short."""
    if not path.is_dir():
        return False
    if (path / state.NAME).is_file():
        return True
    return all(p.name.startswith(f".{state.NAME}.") for p in path.iterdir())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def part(folder: str | Path, number: int, name: str = "part") -> Path:
    """The file of one block."""
    return Path(folder) / f"{number // FAN:06d}" / f"{name}-{number:010d}.parquet"


def write(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write rows so that the file is whole or not there."""
    write_arrow(path, pa.table({k: pa.array(v) for k, v in columns.items()}), compression="zstd")


def write_arrow(path: Path, table: pa.Table, **how: Any) -> None:
    """The same for a table of Arrow. how: of pyarrow.parquet.write_table."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **how)
    write_atomically(path, buffer.getvalue())


def read(path: Path) -> dict[str, np.ndarray]:
    """The columns of one file. Raises WorkFailed, naming it, if it is missing or damaged."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as e:
        raise WorkFailed(f"the table {path} cannot be read ({e}); run its stage again.") from None
    return {name: table[name].to_numpy() for name in table.column_names}


def parts(folder: str | Path, blocks: int, name: str = "part") -> Iterator[dict[str, np.ndarray]]:
    """The columns of every block's file, in order."""
    for number in range(blocks):
        yield read(part(folder, number, name))
