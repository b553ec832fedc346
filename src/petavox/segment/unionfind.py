"""Connected components of more links than memory holds.

What it is: `components` (links in one array), and `PartitionedUnion`, which takes links piece by
piece, keeps them in files by range of ids, and gives a lookup id -> smallest member of its object.
What it is not: a decision on links.

Ids are cut into ranges of 2^`span_bits`; sixteen neighbouring ranges make one of the next level.

    level 2   ┌──────────────────────── ... ┐     a link waits at the first level where both
    level 1   ├───────────┬───────────┬ ... ┤     of its ends lie in one range
    level 0   ├──┬──┬──┬──┼──┬──┬──┬──┼ ... ┤

A level is solved range by range: ends are replaced by what lower levels found, then merged. Ids
pack the block number, blocks lie in row-major order, and links join neighbours, so most links
are solved low and few climb.

Memory: about 160 bytes a link of the range with most links (measured by benchmarks/unionfind.py);
`solve` refuses to pass `max_links`. The result is the same for any order of links: components
are, and the smallest member is.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from petavox.errors import BadInput

FAN_BITS = 4
LEVELS = 16


def components(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(ids, roots): every id in the links, sorted, and the smallest id of its component.

    a, b: uint64 arrays of one length.
    """
    ids, place = np.unique(np.concatenate([a, b]), return_inverse=True)
    n = len(ids)
    if n == 0:
        return ids.astype(np.uint64), ids.astype(np.uint64)
    place = place.astype(np.int32 if n < 2**31 else np.int64)
    ones = np.ones(len(a), np.int8)
    graph = coo_array((ones, (place[: len(a)], place[len(a) :])), shape=(n, n)).tocsr()
    count, label = connected_components(graph, directed=False)
    # ids are sorted: the first place of a component holds its smallest id; of several values for
    # one place the last is kept, so the first place of each component is written last
    smallest = np.empty(count, ids.dtype)
    smallest[label[::-1]] = ids[::-1]
    return ids, smallest[label]


def look_up(ids: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """ids with each one found in the sorted `keys` replaced by its value."""
    if len(keys) == 0:
        return ids
    place = np.searchsorted(keys, ids)
    place[place == len(keys)] = 0
    return np.where(keys[place] == ids, values[place], ids)


def distinct(values: np.ndarray) -> np.ndarray:
    """The distinct values, sorted; by sorting, which is faster than hashing for distinct ids."""
    ordered = np.sort(values)
    keep = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=keep[1:])
    return ordered[keep]


class PartitionedUnion:
    """Links in, a lookup out; both piece by piece.

    folder: for the files of links and lookups; removed by `close`.
    span_bits: ids of one range of level 0.  max_links: of one range; the memory bound.
    """

    def __init__(self, folder: Path, *, span_bits: int = 34, max_links: int = 20_000_000) -> None:
        self.folder, self.span_bits, self.max_links = Path(folder), span_bits, max_links
        self.folder.mkdir(parents=True, exist_ok=True)
        self.links = 0
        self.most = 0
        self._counts: dict[tuple[int, int], int] = {}
        self._solved = False

    def add(self, a: np.ndarray, b: np.ndarray) -> None:
        """Take links between ids a[i] and b[i] (uint64, never 0)."""
        a, b = np.asarray(a, np.uint64), np.asarray(b, np.uint64)
        if a.shape != b.shape or a.ndim != 1:
            raise BadInput(f"links need two flat arrays of one length, not {a.shape}, {b.shape}.")
        if len(a) == 0:
            return
        if not (a.all() and b.all()):
            raise BadInput("a link has the id 0, which is no object.")
        differ = (a ^ b) >> np.uint64(self.span_bits)
        level = np.zeros(len(a), np.int64)
        for k in range(LEVELS):
            level += (differ >> np.uint64(k * FAN_BITS)) > 0
        for k in np.unique(level):
            here = level == k
            self._append(int(k), a[here], b[here])
        self.links += len(a)

    def _append(self, level: int, a: np.ndarray, b: np.ndarray) -> None:
        part = self._part(a, level)
        order = np.argsort(part, kind="stable")
        part, pairs = part[order], np.stack([a, b], 1)[order]
        names, starts = np.unique(part, return_index=True)
        for name, start, stop in zip(names, starts, [*starts[1:], len(part)], strict=True):
            key = (level, int(name))
            with open(self._file(*key, "links"), "ab") as f:
                f.write(np.ascontiguousarray(pairs[start:stop]).tobytes())
            self._counts[key] = self._counts.get(key, 0) + int(stop - start)

    def _shift(self, level: int) -> int:
        return min(self.span_bits + level * FAN_BITS, 64)

    def _part(self, ids: np.ndarray, level: int) -> np.ndarray:
        """The range of a level that holds each id."""
        shift = self._shift(level)
        # all ids are in one range then; NumPy shifts 64 bits by 64 to anything
        return np.zeros_like(ids) if shift == 64 else ids >> np.uint64(shift)

    def _file(self, level: int, part: int, what: str) -> Path:
        return self.folder / f"{what}-{level}-{part}.u64"

    def solve(self) -> None:
        """Merge all links, lowest level first."""
        self.most = max(self._counts.values(), default=0)
        if self.most > self.max_links:
            key = max(self._counts, key=lambda k: self._counts[k])
            raise BadInput(
                f"one range of ids holds {self.most:,} links (level {key[0]}), more than max_links "
                f"{self.max_links:,}: lower span_bits from {self.span_bits}, or raise max_links "
                f"({self.most * 160 / 2**30:.1f} GiB of memory)."
            )
        for level, part in sorted(self._counts):
            pairs = np.fromfile(self._file(level, part, "links"), np.uint64).reshape(-1, 2)
            a, b = pairs[:, 0].copy(), pairs[:, 1].copy()
            del pairs
            for low in range(level):
                a, b = self._followed(a, low), self._followed(b, low)
            ids, roots = components(a, b)
            moved = ids != roots
            ids, roots = ids[moved], roots[moved]
            np.stack([ids, roots]).tofile(self._file(level, part, "lookup"))
        self._solved = True

    def _followed(self, ids: np.ndarray, level: int) -> np.ndarray:
        """Ids after the merges of one level."""
        part = self._part(ids, level)
        out = ids
        for name in distinct(part):
            keys, values = self._lookup(level, int(name))
            if len(keys):
                here = part == name
                out = out.copy() if out is ids else out
                out[here] = look_up(ids[here], keys, values)
        return out

    def _lookup(self, level: int, part: int) -> tuple[np.ndarray, np.ndarray]:
        path = self._file(level, part, "lookup")
        if (level, part) not in self._counts or not path.exists() or path.stat().st_size == 0:
            empty = np.zeros(0, np.uint64)
            return empty, empty
        both = np.memmap(path, np.uint64, "r").reshape(2, -1)
        return both[0], both[1]

    def find(self, ids: np.ndarray) -> np.ndarray:
        """The smallest member of the object of each id."""
        if not self._solved:
            raise BadInput("find was called before solve.")
        out = np.asarray(ids, np.uint64)
        for level in range(max((k for k, _ in self._counts), default=-1) + 1):
            out = self._followed(out, level)
        return out

    def lookups(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(ids, roots) of all ids that change, range by range of level 0, sorted overall."""
        if not self._solved:
            raise BadInput("lookups was called before solve.")
        shift = self._shift(0)
        parts: set[int] = set()
        for level, part in self._counts:
            keys, _ = self._lookup(level, part)
            parts.update(int(p) for p in distinct(np.asarray(keys) >> np.uint64(shift)))
        top = max((k for k, _ in self._counts), default=-1)
        for part in sorted(parts):
            first, last = part << shift, ((part + 1) << shift) - 1
            found = []
            for level in range(top + 1):
                keys, _ = self._lookup(level, first >> self._shift(level))
                lo = np.searchsorted(keys, np.uint64(first))
                hi = np.searchsorted(keys, np.uint64(last), side="right")
                found.append(np.asarray(keys[lo:hi]))
            ids = distinct(np.concatenate(found))
            yield ids, self.find(ids)

    def accepted(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The links again, file by file."""
        for level, part in sorted(self._counts):
            pairs = np.fromfile(self._file(level, part, "links"), np.uint64).reshape(-1, 2)
            yield pairs[:, 0], pairs[:, 1]

    def close(self) -> None:
        """Remove the files."""
        shutil.rmtree(self.folder, ignore_errors=True)
