"""A volume is indexed by slices in voxel coordinates, or by a Box; both mean the same voxels."""

import numpy as np
import pytest

import petavox.volume as pv
from petavox.errors import BadInput
from petavox.space import Box


def test_a_box_reads_what_its_slices_read(tmp_path):
    box = Box((-3, 5, 0), (4, 16, 9))
    values = np.arange(box.size, dtype=np.uint16).reshape(box.shape)
    out = pv.create(tmp_path / "v", box=box, voxel_size=(40, 4, 4), dtype="uint16", kind="image")
    out.write(box, values)
    volume = pv.open(tmp_path / "v", incomplete=True)
    part = Box((-1, 6, 2), (3, 7, 9))
    np.testing.assert_array_equal(volume[part], volume[-1:3, 6:7, 2:9])
    np.testing.assert_array_equal(volume[part], values[2:6, 1:2, 2:9])
    with pytest.raises(BadInput, match="leaves"):
        volume[Box((0, 0, 0), (1, 1, 1))]
