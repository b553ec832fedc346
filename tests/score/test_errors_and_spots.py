"""Which objects are wrong and where: worked by hand and against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from petavox.score import errors, overlap, spots
from petavox.score.pairs import pair_table

NM = (40.0, 4.0, 4.0)
LABELS = hnp.arrays(np.uint64, (3, 4, 5), elements=st.integers(0, 3))


def whole(array):
    return tuple(slice(0, n) for n in array.shape)


def all_spots(a, t, mask=None):
    mask = np.ones(a.shape, bool) if mask is None else mask
    start = (0, 0, 0)
    return {
        "overlaps": spots.overlaps(a, t, mask, start, NM),
        "mergers": spots.contacts(a, t, whole(a), start, NM),
        "splits": spots.contacts(t, a, whole(a), start, NM),
    }


def faces_by_brute_force(outer, inner):
    """(outer, lo, hi) -> set of pairs of touching voxels."""
    found = {}
    for p in np.ndindex(outer.shape):
        for axis in range(3):
            q = tuple(v - (i == axis) for i, v in enumerate(p))
            if min(q) < 0 or outer[p] == 0 or outer[p] != outer[q]:
                continue
            lo, hi = sorted((int(inner[p]), int(inner[q])))
            if 0 < lo < hi:
                found.setdefault((int(outer[p]), lo, hi), set()).update({(p, q)})
    return found


@given(LABELS, LABELS)
def test_contacts_count_every_face_once_and_lie_on_one(a, t):
    got = spots.contacts(a, t, whole(a), (10, -20, 30), NM)
    true = faces_by_brute_force(a, t)
    assert {tuple(k): int(w) for k, w in zip(got.keys.tolist(), got.weight, strict=True)} == {
        k: len(v) for k, v in true.items()
    }
    for key, place in zip(got.keys.tolist(), got.place, strict=True):
        here = tuple((place - [10, -20, 30]).tolist())
        assert any(here == p for p, _ in true[tuple(key)])


@given(LABELS, LABELS, st.integers(1, 4), st.randoms())
def test_blocks_add_up_in_any_order(a, t, step, random):
    parts_c, parts_o = [], []
    for corner in itertools.product(*(range(0, n, step) for n in a.shape)):
        stop = [min(c + step, n) for c, n in zip(corner, a.shape, strict=True)]
        low = [max(0, c - 1) for c in corner]
        read = tuple(slice(i, j) for i, j in zip(low, stop, strict=True))
        owned = tuple(slice(c - i, j - i) for c, i, j in zip(corner, low, stop, strict=True))
        here = tuple(slice(c, j) for c, j in zip(corner, stop, strict=True))
        parts_c.append(spots.contacts(a[read], t[read], owned, low, NM))
        parts_o.append(spots.overlaps(a[here], t[here], np.ones(a[here].shape, bool), corner, NM))
    for parts, columns, one in (
        (parts_c, 3, spots.contacts(a, t, whole(a), (0, 0, 0), NM)),
        (parts_o, 2, spots.overlaps(a, t, np.ones(a.shape, bool), (0, 0, 0), NM)),
    ):
        added = spots.added(parts, columns)
        assert added.keys.tolist() == one.keys.tolist()
        assert added.weight.tolist() == one.weight.tolist()
        # adding in another order, and by steps, changes nothing
        shuffled = parts[:]
        random.shuffle(shuffled)
        half = len(shuffled) // 2
        again = spots.added([spots.added(shuffled[:half], columns), *shuffled[half:]], columns)
        assert again.place.tolist() == added.place.tolist()
        assert again.weight.tolist() == added.weight.tolist()


@given(LABELS, LABELS, hnp.arrays(bool, (3, 4, 5)))
def test_overlap_places_lie_in_the_overlap(a, t, mask):
    got = spots.overlaps(a, t, mask, (1, 2, 3), NM)
    for (i, j), weight, place in zip(got.keys.tolist(), got.weight, got.place, strict=True):
        at = tuple(place - [1, 2, 3])
        assert (a[at], t[at], mask[at]) == (i, j, True)
        assert weight == ((a == i) & (t == j) & mask).sum()


def two_bodies():
    """Bodies 1 (6 wide) and 2 (4 wide) along x, both in object 8; body 3 in objects 5 and 6."""
    t = np.zeros((2, 4, 10), np.uint64)
    t[0, :, :6], t[0, :, 6:], t[1] = 1, 2, 3
    a = np.zeros_like(t)
    a[0], a[1, :3], a[1, 3:] = 8, 5, 6
    return a, t


def test_a_merger_and_a_split_are_found_with_their_places():
    a, t = two_bodies()
    got = errors.errors_table(pair_table(a, t), least=5, **all_spots(a, t), voxel_size=NM)
    rows = list(zip(*(c.tolist() for c in got.values()), strict=True))
    names = list(got)
    merger, split = (dict(zip(names, r, strict=True)) for r in rows)
    assert (merger["kind"], merger["object"], merger["main"], merger["part"]) == ("merger", 8, 1, 2)
    assert (merger["voxels"], merger["faces"]) == (16, 4)
    assert (merger["z"], merger["x"]) == (0, 6)
    assert merger["x_nm"] == 26.0
    assert (split["kind"], split["object"], split["main"], split["part"]) == ("split", 3, 5, 6)
    assert (split["z"], split["y"], split["faces"]) == (1, 3, 10)
    assert split["z_nm"] == 60.0
    assert errors.count_errors(pair_table(a, t), 5) == (1, 1)


def test_small_overlaps_are_no_errors():
    a, t = two_bodies()
    assert errors.count_errors(pair_table(a, t), 17) == (0, 0)
    got = errors.errors_table(pair_table(a, t), least=17, **all_spots(a, t), voxel_size=NM)
    assert all(len(c) == 0 for c in got.values())


def test_parts_that_do_not_touch_get_a_place_within_the_part():
    t = np.array([[[1, 1, 1, 0, 2, 2]]], np.uint64)
    a = np.array([[[7, 7, 7, 7, 7, 7]]], np.uint64)
    got = errors.errors_table(pair_table(a, t), least=1, **all_spots(a, t), voxel_size=NM)
    assert got["faces"].tolist() == [0]
    assert t[0, 0, got["x"][0]] == 2


@given(LABELS, LABELS)
def test_bits_of_objects_add_up_to_vi(a, t):
    table = pair_table(a, t)
    rows = errors.objects_table(table)
    if len(table.labelled()) == 0:
        return
    vi = overlap.variation_of_information(table.labelled())
    assert rows["bits"][rows["side"] == "result"].sum() == pytest.approx(vi.merge, abs=1e-12)
    assert rows["bits"][rows["side"] == "truth"].sum() == pytest.approx(vi.split, abs=1e-12)


@given(LABELS, LABELS)
def test_object_rows_equal_counting_by_hand(a, t):
    rows = errors.objects_table(pair_table(a, t))
    columns = [
        rows[k].tolist() for k in ("side", "id", "voxels", "voxels_matched", "parts", "main")
    ]
    for side, id_, voxels, matched, parts, main in zip(*columns, strict=True):
        own, other = (a, t) if side == "result" else (t, a)
        inside = other[(own == id_) & (other > 0)]
        assert (voxels, matched, parts) == ((own == id_).sum(), inside.size, len(set(inside)))
        if inside.size:
            ids, sizes = np.unique(inside, return_counts=True)
            assert main == ids[np.argmax(sizes)]
        else:
            assert main == 0
