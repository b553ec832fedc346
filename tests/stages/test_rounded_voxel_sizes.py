"""Voxel sizes that differ by the rounding of decimals in a file are the same."""

from __future__ import annotations

import numpy as np
import pytest

from petavox.errors import BadInput
from petavox.space import Box
from petavox.stages.calibrate import require_truth
from petavox.stages.candidates import image_of
from petavox.stages.consensus_stages import ConsensusSettings, CountParts
from petavox.stages.training_volumes import require_same_voxels
from petavox.volume.opening import create, finish

SIZE = (40.0, 4.6, 4.6)


def stored(path, voxel_size, kind):
    dtype = np.dtype("uint8" if kind == "image" else "uint64")
    made = create(
        path, box=Box((0, 0, 0), (4, 8, 8)), voxel_size=voxel_size, dtype=dtype, kind=kind
    )
    made.write(made.box, np.ones((4, 8, 8), dtype))
    finish(made, {})
    return made


def parts_of_both(one, other):
    reads = {"pass1": one.path, "pass2": other.path}
    CountParts(ConsensusSettings(), reads=reads, writes={}).grid()


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        ("labels", parts_of_both),
        ("labels", lambda one, other: require_truth(one.path, other.path)),
        ("image", lambda one, other: image_of(other.path, one, None)),
        ("image", require_same_voxels),
    ],
    ids=["consensus", "truth", "image", "training"],
)
def test_float32_and_decimals_agree_and_other_voxels_do_not(tmp_path, kind, check):
    labels = stored(tmp_path / "labels", SIZE, "labels")
    rounded = stored(tmp_path / "rounded", tuple(float(np.float32(v)) for v in SIZE), kind)
    assert labels.voxel_size != rounded.voxel_size
    check(labels, rounded)
    with pytest.raises(BadInput):
        check(labels, stored(tmp_path / "other", (40.0, 4.6, 4.7), kind))
