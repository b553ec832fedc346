"""What an input holds: digests that change when the content does."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from petavox.blocks.content import content_digest, made_by
from petavox.errors import BadInput
from petavox.space import Box
from petavox.volume import state
from petavox.volume.opening import create, finish


def volume(path, value, **provenance):
    made = create(
        path, box=Box((0, 0, 0), (4, 4, 4)), voxel_size=(8, 8, 8), dtype=np.uint8, kind="image"
    )
    made.write(made.box, np.full((4, 4, 4), value, np.uint8))
    finish(made, provenance)


def test_the_same_voxels_made_twice_by_the_same_key_have_one_digest(tmp_path):
    volume(tmp_path / "a", 1, key="k", finished="monday")
    volume(tmp_path / "b", 1, key="k", finished="tuesday")
    assert content_digest(tmp_path / "a") == content_digest(tmp_path / "b")
    assert made_by(tmp_path / "a") == "k"


def test_another_key_is_another_digest(tmp_path):
    volume(tmp_path / "a", 1, key="k")
    volume(tmp_path / "b", 1, key="other")
    assert content_digest(tmp_path / "a") != content_digest(tmp_path / "b")


def test_other_voxels_are_another_digest(tmp_path):
    volume(tmp_path / "a", 1)
    before = content_digest(tmp_path / "a")
    state.begin(tmp_path / "a")
    volume(tmp_path / "b", 2)
    assert content_digest(tmp_path / "b") != before


def test_data_sets_of_one_file_differ(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as f:
        f["raw"] = np.zeros((2, 2, 2))
        f["labels"] = np.zeros((2, 2, 2))
    one, two = content_digest(tmp_path / "x.h5/raw"), content_digest(tmp_path / "x.h5/labels")
    assert one != two
    assert one == content_digest(tmp_path / "x.h5/raw")


def test_nothing_there_is_an_error(tmp_path):
    with pytest.raises(BadInput, match="there is nothing at"):
        content_digest(tmp_path / "no")
