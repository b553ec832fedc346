"""Annotation sources, read back as their format says."""

import json
import struct
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import petavox as pv
from petavox.blocks.ledger import Ledger, Row
from petavox.errors import BadInput
from petavox.view import static, status, synapses
from petavox.view.annotations import LINE, POINT, Annotations, Property


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
    """All annotations, cell by cell; each must be there once."""
    found = {}
    for name in source.names():
        if name.startswith("level"):
            more = several(source.get(name)[0], floats, tail)
            assert not found.keys() & more.keys()
            found |= more
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


def test_too_many_annotations_for_a_folder_are_refused_for_what_they_are(tmp_path):
    source = Annotations(POINT, np.zeros((static.MOST_FILES + 1, 1, 3)))
    with pytest.raises(BadInput, match=r"200,001 annotations.*without --static") as e:
        static.write(tmp_path / "out", lambda host: host.add(source))
    assert "format" not in str(e.value)
    assert "\n" not in str(e.value)


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
