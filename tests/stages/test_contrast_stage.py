"""Contrast of whole volumes: blocks equal the whole, types and places are kept."""

from __future__ import annotations

import numpy as np
import pytest

import petavox as pv
from petavox import volume
from petavox.align import contrast as kernel
from petavox.errors import AlreadyExists, BadInput
from petavox.settings import parse
from petavox.space import Box
from petavox.stages import contrast
from petavox.volume import opening


def saved(path, values, start=(0, 0, 0)) -> str:
    target = volume.create(
        path, box=Box.of_shape(values.shape, start), voxel_size=(40, 8, 8), dtype=values.dtype,
        kind="image", chunk=(4, 32, 32), shard=(4, 64, 64),
    )  # fmt: skip
    target.write(target.box, values)
    opening.finish(target, {})
    return str(path)


def made(**values) -> contrast.ContrastSettings:
    return parse(contrast.ContrastSettings, values, "the test")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("method", ["normalize", "clahe"])
def test_blocks_equal_whole_sections(tmp_path, rng, monkeypatch, dtype, method):
    monkeypatch.setattr(contrast, "SHARD", 128)  # several blocks a section
    values = rng.normal(90, 15, (5, 150, 300)).clip(1, 255).astype(dtype)
    values[2] = 0
    values[:, :, :20] = 0
    path = saved(tmp_path / "in.zarr", values, start=(3, -10, 7))
    figures = contrast.run(path, tmp_path / "out.zarr", made(method=method, tile=64))
    out = pv.open(tmp_path / "out.zarr")
    assert figures["sections"] == 5
    assert out.dtype == dtype
    assert out.box == pv.open(path).box
    for k in range(5):
        if method == "clahe":
            want = kernel.clahe(values[k], tile=64)
        else:
            want = kernel.normalize(values[k])
        assert (out.read()[k] == want).all()
    assert ((out.read() == 0) == (values == 0)).all()


def test_neighbours_bring_a_dim_section_back(tmp_path, rng):
    values = rng.normal(120, 20, (9, 100, 100)).clip(1, 255).astype(np.uint8)
    values[4] = values[4] // 2 + 5
    path = saved(tmp_path / "in.zarr", values)
    contrast.run(path, tmp_path / "out.zarr", made(to="neighbours", window=4))
    means = pv.open(tmp_path / "out.zarr").read().mean((1, 2))
    assert np.ptp(means) < 3


def test_what_is_read_is_never_overwritten(tmp_path):
    path = saved(tmp_path / "in.zarr", np.full((2, 10, 10), 9, np.uint8))
    with pytest.raises(BadInput, match="choose another name"):
        contrast.run(path, path, made())
    contrast.run(path, tmp_path / "out.zarr", made())
    with pytest.raises(AlreadyExists):
        contrast.run(path, tmp_path / "out.zarr", made())


def test_settings_that_invert_are_refused(tmp_path):
    path = saved(tmp_path / "in.zarr", np.full((2, 10, 10), 9, np.uint8))
    with pytest.raises(BadInput, match="low must be the smaller"):
        contrast.run(path, tmp_path / "out.zarr", made(low=0.9, high=0.1))
