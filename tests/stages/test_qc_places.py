"""Quality control tells places in the volume's coordinates, wherever the volume begins."""

from __future__ import annotations

import numpy as np
import pytest

from petavox import volume
from petavox.settings import parse
from petavox.stages import qc
from petavox.stages.qc import run
from petavox.stages.qc_settings import QcSettings
from tests.stages.align_tissue import saved, tissue


def with_hole(side, low, high):
    """Three sections with nothing in low:high along y and x."""
    values = tissue(3, side)
    values[:, low:high, low:high] = 0
    return values


def looked_at(folder, values, start, **more):
    """The folder of qc of a volume at 4 nm; 20 nm is looked at, so blocks are of 5 px."""
    path = saved(folder / "image.zarr", values, (0, start, start), pixel=4.0)
    settings = parse(QcSettings, {"worst": 0, **more}, "the test")
    run(str(path), folder / "qc", settings)
    return folder / "qc"


@pytest.mark.parametrize("start", [0, 5, 7, -3])
def test_masks_lie_where_the_damage_is(tmp_path, start):
    out = looked_at(tmp_path, with_hole(300, 150, 200), start, aligned=True)
    damage = volume.open(out / "damage.zarr")
    assert damage.box.start[1] == start // 5
    found = np.argwhere(damage.read()[0][8:-8, 8:-8]) + 8 + damage.box.start[1:]
    # a block may be cut by the rim of the hole
    assert np.abs(found.min(0) * 5 - (start + 150)).max() <= 5
    assert np.abs((found.max(0) + 1) * 5 - (start + 200)).max() <= 5


@pytest.mark.parametrize("start", [0, 48, 64])
def test_correlations_lie_where_the_pair_does(tmp_path, start):
    # pairs are looked at at 8 nm (blocks of 2 px) in patches of 16: cells of 32 px
    more = {"correlation_patch": 16, "pair_nm": 8.0}
    out = looked_at(tmp_path, with_hole(320, 96, 192), start, aligned=True, **more)
    found = volume.open(out / "correlation.zarr")
    empty = np.argwhere(found.read()[0][1:-1, 1:-1] == -1) + 1 + found.box.start[1:]
    low, high = empty.min(0) * 32, (empty.max(0) + 1) * 32
    assert np.abs(low - (start + 96)).max() <= 16
    assert np.abs(high - (start + 192)).max() <= 16


def test_a_run_killed_before_its_volumes_were_complete_goes_on(tmp_path, monkeypatch):
    path, out = str(saved(tmp_path / "image.zarr", tissue(2))), tmp_path / "qc"

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(qc.state, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            qc.run(path, out, QcSettings())
    figures = qc.run(path, out, QcSettings())
    assert figures["sections"] == 2
    assert not (out / ".parts").exists()
