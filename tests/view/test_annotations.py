"""Annotation sources, read back as their format says."""

import json
import struct
import time

import numpy as np
import pytest
import tensorstore as ts
from hypothesis import given
from hypothesis import strategies as st

import petavox as pv
from petavox.blocks.ledger import Ledger, Row
from petavox.errors import BadInput
from petavox.view import status, synapses
from petavox.view.annotations import BOX, LINE, POINT, Annotations, Property


def several(data, floats, tail=""):
    """Place, properties and id of each in a list of annotations; `tail` in struct's language."""
    (count,) = struct.unpack_from("<Q", data)
    one = struct.calcsize(f"<{floats}f{tail}")
    one += -one % 4
    assert len(data) == 8 + count * (one + 8)
    rows = [struct.unpack_from(f"<{floats}f{tail}", data, 8 + i * one) for i in range(count)]
    ids = struct.unpack_from(f"<{count}Q", data, 8 + count * one)
    return {i: (row[:floats], row[floats:]) for i, row in zip(ids, rows, strict=True)}


def everything(source, floats, tail=""):
    """All annotations, cell by cell."""
    found = {}
    for level, scale in enumerate(json.loads(source.get("info")[0])["spatial"]):
        for where in np.ndindex(*scale["grid_shape"]):
            name = f"level{level}/{'_'.join(map(str, where))}"
            found |= several(source.get(name)[0], floats, tail)
    return found


def test_lines_are_xyz_with_values_wide_ones_first_and_padding():
    places = np.array([[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12.5]]])
    small = Property(np.array([1, 0], np.uint8), ("no", "yes"))
    score = Property(np.array([0.25, 0.5], np.float32))
    source = Annotations(LINE, places, {"small": small, "score": score}, {"pre": [2**60, 0]})
    assert everything(source, 6, "fB") == {
        0: ((3, 2, 1, 6, 5, 4), (0.25, 1)),
        1: ((9, 8, 7, 12.5, 11, 10), (0.5, 0)),
    }
    # one alone: the same, then the objects it belongs to
    alone = source.get("by_id/0")[0]
    assert len(alone) == 6 * 4 + 4 + 1 + 3 + 4 + 8
    assert struct.unpack_from("<IQ", alone, 32) == (1, 2**60)
    assert struct.unpack_from("<I", source.get("by_id/1")[0], 32) == (0,)
    assert list(several(source.get(f"of_pre/{2**60}")[0], 6, "fB")) == [0]
    assert several(source.get("of_pre/77")[0], 6, "fB") == {}
    info = json.loads(source.get("info")[0])
    assert [p["id"] for p in info["properties"]] == ["score", "small"]
    assert info["properties"][1]["enum_labels"] == ["no", "yes"]


@given(st.integers(0, 60), st.integers(1, 9), st.integers(0, 2**31))
def test_every_place_is_in_one_cell_and_coarse_cells_are_bounded(count, limit, seed):
    rng = np.random.default_rng(seed)
    places = rng.uniform(-1e5, 1e5, (count, 1, 3)) * rng.choice([1e-3, 1, 1], 3)
    source = Annotations(POINT, places, limit=limit)
    found = everything(source, 3)
    assert sorted(found) == list(range(count))
    for i, (place, _) in found.items():
        np.testing.assert_allclose(place, places[i, 0, ::-1], rtol=1e-6, atol=1e-2)
    info = json.loads(source.get("info")[0])
    for scale in info["spatial"]:
        for where in np.ndindex(*scale["grid_shape"]):
            name = f"{scale['key']}/{'_'.join(map(str, where))}"
            cell = several(source.get(name)[0], 3)
            assert len(cell) <= scale["limit"]
            low = np.array(info["lower_bound"]) + np.array(where) * scale["chunk_size"]
            for place, _ in cell.values():
                assert (np.array(place) >= low - 1e-2).all()
                assert (np.array(place) <= low + scale["chunk_size"] + 1e-2).all()


def test_dealing_out_to_many_cells_takes_little_longer_than_to_few(rng):
    places = rng.uniform(0, 1e6, (60_000, 1, 3))
    before = time.process_time()
    source = Annotations(POINT, places, limit=1)
    # cells times places would be minutes
    assert time.process_time() - before < 15
    assert len(json.loads(source.get("info")[0])["spatial"]) > 5


def test_the_places_of_an_object_are_found_in_their_order(rng):
    owners = rng.integers(0, 40, 500).astype(np.uint64) * 2**58
    source = Annotations(POINT, rng.uniform(0, 9, (500, 1, 3)), objects={"pre": owners})
    for owner in np.unique(owners).tolist():
        found = several(source.get(f"of_pre/{owner}")[0], 3)
        assert list(found) == np.flatnonzero(owners == owner).tolist()
    assert several(source.get(f"of_pre/{2**64}")[0], 3) == {}


def test_cells_are_drawn_in_an_order_without_pattern():
    # the client draws the first ones where all would be too many; in the order of a table that
    # goes through the volume these would lie in one corner of it
    places = np.arange(3000.0)[:, None, None] * np.ones((1, 1, 3))
    source = Annotations(POINT, places)
    first = list(several(source.get("level0/0_0_0")[0], 3))[:300]
    assert np.mean(first) == pytest.approx(1500, rel=0.1)
    assert np.std(first) == pytest.approx(3000 / 12**0.5, rel=0.1)


def test_a_box_is_in_every_cell_that_it_reaches_into(rng):
    low = rng.uniform(0, 900, (60, 3))
    places = np.stack([low, low + rng.uniform(0, 300, (60, 3))], axis=1)
    source = Annotations(BOX, places, limit=4)
    info = json.loads(source.get("info")[0])
    assert len(info["spatial"]) > 2
    origin = np.array(info["lower_bound"])
    seen = {i: set() for i in range(60)}  # cells of the finest level that find it, also in coarser
    for level, scale in enumerate(info["spatial"]):
        depth = 2 ** (len(info["spatial"]) - 1 - level)
        for where in np.ndindex(*scale["grid_shape"]):
            cell = several(source.get(f"level{level}/{'_'.join(map(str, where))}")[0], 6)
            assert len(cell) <= scale["limit"]
            for i in cell:
                seen[i] |= {tuple(np.array(where) * depth + f) for f in np.ndindex(*[depth] * 3)}
    side = info["spatial"][-1]["chunk_size"][0]
    for i, box in enumerate(places[:, :, ::-1]):
        first, last = ((corner - origin) // side for corner in box)
        for step in np.ndindex(*(last - first + 1).astype(int)):
            assert tuple((first + step).astype(int)) in seen[i]


def read_down(folder, key, info):
    """ids -> values of an index that was written down, read by tensorstore."""
    store = ts.KvStore.open(
        {"driver": "neuroglancer_uint64_sharded", "base": f"file://{folder / key}/",
         "metadata": info["sharding"]}
    ).result()  # fmt: skip
    return {int.from_bytes(k, "big"): store[k] for k in store.list().result()}


def test_a_source_that_is_written_down_holds_what_it_serves(rng, tmp_path):
    owners = np.r_[0, rng.integers(2**63, 2**63 + 40, 299, np.uint64)].astype(np.uint64)
    places = rng.uniform(-50, 900, (300, 2, 3)) * (1, 0.3, 0.1)
    source = Annotations(
        LINE, places, {"score": Property(rng.random(300).astype(np.float32))}, {"pre": owners},
        limit=20,
    )  # fmt: skip
    source.write(tmp_path / "out")
    info = json.loads((tmp_path / "out" / "info").read_text())
    plain = json.loads(source.get("info")[0])
    levels = [read_down(tmp_path / "out", s["key"], s) for s in info["spatial"]]
    assert len(levels) > 2
    for level, (scale, found) in enumerate(zip(info["spatial"], levels, strict=True)):
        for where in np.ndindex(*scale["grid_shape"]):
            value = source.get(f"level{level}/{'_'.join(map(str, where))}")[0]
            code, place = 0, 0  # the compressed Morton code, as the format says it
            for bit in range(10):
                for axis in range(3):
                    if 2**bit < scale["grid_shape"][axis]:
                        code |= (where[axis] >> bit & 1) << place
                        place += 1
            assert found.pop(code, bytes(8)) == value
        assert found == {}
    alone = read_down(tmp_path / "out", "by_id", info["by_id"])
    assert alone == {i: source.get(f"by_id/{i}")[0] for i in range(300)}
    (relation,) = info["relationships"]
    of = read_down(tmp_path / "out", relation["key"], relation)
    assert of == {i: source.get(f"of_pre/{i}")[0] for i in np.unique(owners[1:]).tolist()}
    for part in (info["by_id"], relation, *info["spatial"]):
        del part["sharding"]
    assert info == plain


def test_more_annotations_than_files_go_into_a_folder(rng, tmp_path):
    source = Annotations(POINT, rng.uniform(0, 1e6, (20_000, 1, 3)), limit=500)
    source.write(tmp_path / "out")
    assert len([p for p in (tmp_path / "out").rglob("*") if p.is_file()]) < 50


def test_no_annotations_are_written_down_as_none(tmp_path):
    Annotations(POINT, np.zeros((0, 1, 3)), objects={"pre": np.zeros(0)}).write(tmp_path / "out")
    info = json.loads((tmp_path / "out" / "info").read_text())
    assert [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()] == ["info"]
    assert info["spatial"][0]["limit"] == 1


@pytest.mark.parametrize("name", ["", "level9/0_0_0", "level0/1_0_0", "by_id/2", "of_x/1", "../a"])
def test_other_names_are_not_there(name):
    assert Annotations(POINT, np.ones((2, 1, 3))).get(name) is None


def test_the_sides_of_a_synapse_lie_in_their_partners(pair):
    labels = pv.open(pair.labels)
    z, y, x = labels.voxel_size
    # the object fills voxels -2..3, -10..4, 20..35; the cleft lies on its lower y face
    cleft = [1.0 * z, -10.0 * y, 28.0 * x]
    id_ = 2**53 + 1
    table = synapses.Synapses(
        np.array([cleft, cleft]),
        np.array([id_, 0], np.uint64),
        np.array([7, id_], np.uint64),
        np.array([np.nan, np.nan], np.float32),
        np.array([0.5, 1.0], np.float32),
    )
    ends = synapses.sides(table, labels)
    np.testing.assert_array_equal(ends[0, 1], cleft)  # 7 is not there
    np.testing.assert_array_equal(ends[1, 0], cleft)  # nobody
    for side in (ends[0, 0], ends[1, 1]):
        voxel = np.floor(side / (z, y, x)).astype(int)
        assert labels.read(pv.Box.of_shape((1, 1, 1), tuple(voxel))).item() == id_
        assert 0 < np.linalg.norm(side - cleft) <= synapses.REACH_NM
    source = synapses.lines(table, ends)
    assert list(source.properties) == ["score"]
    assert sorted(source.objects) == ["post", "pre"]


def test_what_is_no_table_of_synapses_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("id,z_nm\n1,2\n")
    with pytest.raises(BadInput, match="y_nm, x_nm, pre, post"):
        synapses.read(tmp_path / "a.csv")
    (tmp_path / "a.parquet").write_text("x")
    with pytest.raises(BadInput, match="no table"):
        synapses.read(tmp_path / "a.parquet")


def test_blocks_are_boxes_of_their_voxels_with_their_status(tmp_path):
    grid = [[-4, 0, 0], [6, 8, 8], [5, 8, 8], [1, 1, 1]]
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.begin("segment/flood", key="k", parts={"grid": grid}, total=2)
        ledger.begin("odd", key="k", parts={}, total=1)
        ledger.record("segment/flood", Row(1, "failed", seconds=2.5, error="torn"))
        ledger.save()
        blocks = status.of_task(ledger, "segment/flood")
        assert status.of_task(ledger, "odd") is None
        assert status.of_task(ledger, "never") is None
    assert [blocks.status(n) for n in range(2)] == ["todo", "failed"]
    source = status.boxes(blocks, pv.VoxelSize(40, 10, 5))
    found = everything(source, 6, "IfB3B")
    assert found[0] == ((0, 0, -160, 40, 80, 40), (0, 0, 0, *status.COLOURS["todo"]))
    assert found[1] == ((0, 0, 40, 40, 80, 240), (1, 2.5, 2, *status.COLOURS["failed"]))
