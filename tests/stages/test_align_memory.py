"""Memory of long stacks: what is freed goes back, and inverse fields are not all kept."""

from __future__ import annotations

import ctypes
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from petavox.align.frames import Field, extent
from petavox.blocks.task import Context
from petavox.space import Box, Grid
from petavox.stages import align_blocks, memory
from petavox.stages.render import Pulls


def heap_bytes():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4096


@pytest.mark.skipif(memory._trim() is None, reason="needs glibc")
def test_free_memory_under_a_kept_array_goes_back():
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
    parts = [libc.malloc(100_000) for _ in range(2000)]  # below the size that is mapped by itself
    for part in parts:
        ctypes.memset(part, 1, 100_000)
    full = heap_bytes()
    for part in parts[:-1]:
        libc.free(part)
    assert memory.give_back()
    assert heap_bytes() < full - 150_000_000
    libc.free(parts[-1])


def test_without_glibc_nothing_is_done(monkeypatch):
    monkeypatch.setattr(memory, "_trim", lambda: None)
    assert not memory.give_back()


def test_every_slab_gives_back_what_it_freed(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(align_blocks, "give_back", lambda: calls.append(1))
    monkeypatch.setattr(align_blocks.matching, "matched", lambda *_, **__: [])
    monkeypatch.setattr(align_blocks, "read_round", lambda _: SimpleNamespace(group=(0,)))
    monkeypatch.setattr(align_blocks.Place, "open", lambda self: None)
    place = align_blocks.Place(volume="v", content="", run=str(tmp_path))
    (tmp_path / "place.json").write_text(place.model_dump_json())
    reads = {"round": "", "place": str(tmp_path / "place.json")}
    context = Context({}, reads, {"matches": str(tmp_path)})
    align_blocks.match_slab(next(iter(Grid(Box((0, 0, 0), (1, 1, 1)), (1, 1, 1)))), context)
    assert calls == [1]


def test_inverse_fields_are_made_when_asked_for_and_the_newest_kept():
    fields = {k: Field.translation([float(k), 0.0]) for k in range(9)}
    made, lock = [], threading.Lock()

    class Counted(dict):
        def __getitem__(self, k):
            with lock:
                made.append(k)
            return dict.__getitem__(self, k)

    reach = {k: extent(f, (50, 60)) for k, f in fields.items()}
    pulls = Pulls(Counted(fields), reach, 3)
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(pulls, [0, 0, 0, 1, 1, 2]))
    assert sorted(made) == [0, 1, 2]
    np.testing.assert_allclose(got[3](np.array([[10.0, 10.0]])), [[9.0, 10.0]])
    for k in range(9):
        pulls(k)
    assert len(pulls._kept) == 3
