"""Several places of one contact: chosen by hand, by blocks as in one, and one row a pair after."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petavox.segment.candidates import contacts, joined, reach
from petavox.segment.places import best_places, further, with_places

NM = (10.0, 10.0, 10.0)


def walls():
    """Objects 1 and 2 meet along z, widely at both ends; 3 narrows the middle."""
    labels = np.ones((40, 13, 8), np.uint64)
    labels[:, :, 4:] = 2
    labels[14:26, :5] = labels[14:26, 8:] = 3
    return labels


def test_a_contact_has_a_place_in_each_cell_and_the_widest_come_first():
    cells = contacts(walls(), max_distance=0, voxel_size=NM, cell=(10, 20, 20))
    mine = (cells.a == 1) & (cells.b == 2)
    assert cells.faces[mine].tolist() == [130, 4 * 13 + 6 * 3, 6 * 3 + 4 * 13, 130]
    rows, numbers = further(cells, most=3, apart=60.0, voxel_size=NM, min_faces=10)
    of = [(int(cells.z[r]), int(n)) for r, n in zip(rows, numbers, strict=True) if mine[r]]
    assert [n for _, n in of] == [0, 1, 2]
    # both ends first; of the narrow middle one place remains that lies apart
    assert of[0][0] < 14
    assert of[1][0] > 25
    # places that lie too near are left out, as are cells with few faces
    rows, numbers = further(cells, most=4, apart=150.0, voxel_size=NM, min_faces=10)
    assert max(numbers[[mine[r] for r in rows]]) == 1
    rows, _ = further(cells, most=4, apart=10.0, voxel_size=NM, min_faces=100)
    assert len([r for r in rows if mine[r]]) == 2


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_blocks_give_the_cells_of_the_whole(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (4, 4, 5), np.uint64).repeat(3, 0).repeat(3, 1).repeat(3, 2)
    cell, start = (5, 4, 6), (-3, 7, 0)
    whole = contacts(labels, max_distance=20, voxel_size=NM, start=start, cell=cell)
    parts = []
    ring = reach(20, NM)
    for low in (0, 6):
        read = slice(max(0, low - ring[0]), min(12, low + 6 + ring[0]))
        own = (slice(low - read.start, low + 6 - read.start), slice(None), slice(None))
        at = (start[0] + read.start, *start[1:])
        parts.append(
            contacts(labels[read], max_distance=20, voxel_size=NM, start=at, own=own, cell=cell)
        )
    found = joined(parts, cell)
    for name in ("a", "b", "faces", "touching", "width", "distance", "tied"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
    one, plain = joined([whole]), contacts(labels, max_distance=20, voxel_size=NM, start=start)
    for name in ("a", "b", "faces", "touching", "width", "distance", "tied"):
        np.testing.assert_array_equal(getattr(one, name), getattr(plain, name))


def test_only_pairs_that_are_asked_about_get_more_places():
    cells = contacts(walls(), max_distance=0, voxel_size=NM, cell=(10, 20, 20))
    pairs = joined([cells])
    columns = {
        **{k: getattr(pairs, k) for k in ("a", "b", "z", "y", "x")},
        **{f"{k}_nm": (getattr(pairs, k) + 0.5) * 10 for k in "zyx"},
        "width_nm": pairs.width,
        "distance_nm": pairs.distance,
        "ask": (pairs.a == 1) & (pairs.b == 2),
    }
    how = {"apart": 60.0, "faces": 10, "voxel_size": NM}
    found = with_places(columns, cells, most=3, **how)
    assert found["place"].tolist() == [0] * len(pairs) + [1, 2]
    assert found["a"][-2:].tolist() == [1, 1]
    assert found["z_nm"][-1] == pytest.approx((found["z"][-1] + 0.5) * 10)
    assert with_places(columns, cells, most=1, **how)["place"].tolist() == [0] * len(pairs)


def test_the_place_with_the_best_scores_speaks_for_its_pair():
    nan = np.nan
    scores = {
        "a": np.array([1, 1, 1, 2, 2], np.uint64),
        "b": np.array([2, 2, 2, 3, 3], np.uint64),
        "place": np.array([2, 0, 1, 0, 1]),
        "iou": np.array([0.9, 0.1, nan, nan, nan]),
        **{k: np.array([0.9, 0.9, nan, nan, nan]) for k in ("aa", "ab", "ba", "bb")},
        **{k: np.array([0.0, 0.0, nan, nan, nan]) for k in ("deleted_a", "deleted_b")},
        "fovs": np.array([5, 7, 1, 0, 2]),
    }
    found = best_places(scores)
    assert found["place"].tolist() == [2, 0]
    assert found["iou"][0] == 0.9
    assert found["fovs"].tolist() == [13, 2]
    assert found["places"].tolist() == [3, 2]
