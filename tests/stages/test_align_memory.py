"""Memory of long stacks: what is freed goes back, and fields are not all kept."""

from __future__ import annotations

import ctypes
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

import petavox as pv
from petavox.align import field_file
from petavox.align.frames import Field, extent
from petavox.blocks.task import Context
from petavox.space import Box, Grid
from petavox.stages import align_blocks, memory, render
from petavox.stages.render_sections import Pulls, at_once, near, shown_at
from petavox.stages.threads import in_turn
from tests.stages.align_tissue import saved, tissue


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


def test_render_holds_the_fields_of_the_sections_at_work_only(tmp_path, monkeypatch):
    """Forty sections, of which a shard has two: not more than the fields of two layers of these."""
    values = tissue(40, 48)
    image = saved(tmp_path / "image.zarr", values)
    made = {f"section_{k:05d}": Field.translation([0.0, 0.0]) for k in range(40)}
    field_file.save(tmp_path / "f.npz", made)
    alive, most, real = [0], [0], field_file.FieldFile.__getitem__

    def gone():
        alive[0] -= 1

    def counted(self, name):
        f = real(self, name)
        weakref.finalize(f, gone)
        alive[0] += 1
        most[0] = max(most[0], alive[0])
        return f

    monkeypatch.setattr(Field, "scaled", lambda self, factor: self)
    monkeypatch.setattr(Field, "inverse", lambda self, lattice: self)
    monkeypatch.setattr(field_file.FieldFile, "__getitem__", counted)
    settings = render.RenderSettings(
        threads=1,
        pyramid=False,
        chunk=(2, 16, 16),
        shard=(2, 48, 16),
        box=Box((0, 0, 0), (40, 48, 48)),
    )
    render.run(image, tmp_path / "f.npz", tmp_path / "v", settings)
    np.testing.assert_array_equal(pv.open(tmp_path / "v").read(), values)
    assert most[0] <= 5


@pytest.mark.parametrize(("threads", "kept"), [(1, 4), (2, 4), (6, 8)])
def test_inverse_fields_of_as_many_layers_are_kept_as_threads_work_on(
    tmp_path, monkeypatch, threads, kept
):
    told = []

    class Told(Pulls):
        def __init__(self, fields, reach, most):
            told.append(most)
            super().__init__(fields, reach, most)

    image = saved(tmp_path / "image.zarr", tissue(24, 48))
    fields = {f"section_{k:05d}": Field() for k in range(24)}
    field_file.save(tmp_path / "f.npz", fields)
    monkeypatch.setattr(render, "Pulls", Told)
    settings = render.RenderSettings(
        threads=threads,
        pyramid=False,
        chunk=(2, 16, 16),
        shard=(2, 48, 32),  # two a layer
        box=Box((0, 0, 0), (24, 48, 48)),
    )
    render.run(image, tmp_path / "f.npz", tmp_path / "v", settings)
    assert told == [kept]


@pytest.mark.parametrize("shards", [(100, 10), (100, 1), (6, 3), (1, 1), (7, 7), (64, 5)])
@pytest.mark.parametrize("threads", [1, 2, 3, 8, 200])
def test_no_run_of_neighbouring_shards_lies_in_more_layers_than_is_said(shards, threads):
    count, per_layer = shards
    runs = [range(i, min(i + threads, count)) for i in range(count)]
    most = max(len({n // per_layer for n in run}) for run in runs)
    assert at_once(count, per_layer, threads) >= most


def test_work_is_given_to_a_pool_as_it_goes():
    given, gate = [], threading.Event()

    def items():
        for n in range(100):
            given.append(n)
            yield n

    def work(n):
        gate.wait(10)
        return n * n

    with ThreadPoolExecutor(2) as pool:
        out = in_turn(pool, work, items(), 8)
        threading.Timer(0.05, gate.set).start()
        assert next(out) == 0
        assert len(given) == 8
        assert list(out) == [n * n for n in range(1, 100)]


def test_what_has_not_begun_when_work_fails_is_not_begun():
    done = []

    def work(n):
        if n == 0:
            raise ValueError("the first")
        done.append(n)

    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="the first"):
        list(in_turn(pool, work, range(1000), 4))
    assert len(done) <= 3


def test_the_nearest_section_is_shown_for_one_that_is_missing():
    known = [2, 3, 7, 8]
    assert [shown_at(k, known, fill=False) for k in (1, 3, 5)] == [None, 3, None]
    assert [shown_at(k, known, fill=True) for k in (0, 2, 4, 5, 6, 20)] == [2, 2, 3, 3, 7, 8]
    assert near(5, known, 2) == [3, 7]
    assert near(7, known, 5) == [8, 3, 2]
    assert near(7, known, 0) == []
