"""Quality control of whole volumes: tables, masks, shifts, suspects; slabs change nothing."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import ndimage as ndi

import petavox as pv
from petavox import volume
from petavox.errors import AlreadyExists, BadInput
from petavox.settings import parse
from petavox.space import Box
from petavox.stages.qc import run
from petavox.stages.qc_settings import QcSettings

SMALL = {
    "aligned": True,
    "correlation_patch": 64,
    "shift": {"patch": 64, "step": 32, "reach": 8},
    "worst": 2,
}


def stack(n: int = 14, side: int = 256) -> np.ndarray:
    """Sections of slowly changing texture, uint8."""
    rng = np.random.default_rng(7)
    # made longer than needed: at its ends the filter would change the look of sections
    field = ndi.gaussian_filter(rng.normal(size=(n + 12, side, side)), (1.5, 3, 3))[6:-6]
    image = 130 + 35 * field / field.std() + rng.normal(0, 5, field.shape)
    return np.clip(image, 1, 255).astype(np.uint8)


def saved(path, values, *, start=(0, 0, 0), voxel=(40.0, 10.0, 10.0)) -> str:
    target = volume.create(
        path, box=Box.of_shape(values.shape, start), voxel_size=voxel, dtype=values.dtype,
        kind="image", chunk=(4, 64, 64), shard=(4, 64, 64),
    )  # fmt: skip
    target.write(target.box, values)
    from petavox.volume import opening

    opening.finish(target, {})
    return str(path)


def settings(**more) -> QcSettings:
    return parse(QcSettings, {**SMALL, **more}, "the test")


def table(out) -> list[dict]:
    return pq.read_table(out / "sections.parquet").to_pylist()


def test_a_good_stack_has_a_row_per_section_and_no_suspects(tmp_path):
    path = saved(tmp_path / "image.zarr", stack())
    figures = run(path, tmp_path / "qc", settings())
    assert figures["sections"] == 14
    assert figures["suspects"] == 0
    assert figures["pairs"] == 13
    assert figures["shift_highest_px"] < 0.5
    rows = table(tmp_path / "qc")
    assert [r["z"] for r in rows] == list(range(14))
    assert rows[-1]["correlation_next"] is None
    assert (tmp_path / "qc" / "sections.csv").read_text().count("\n") == 15
    assert len(list((tmp_path / "qc").glob("overlay_*.png"))) == 2
    match = pv.open(tmp_path / "qc" / "match.zarr")
    assert tuple(match.voxel_size) == (40, 20, 20)
    assert match.shape == (14, 128, 128)
    assert match.read().mean() > 0.99


def test_a_blank_a_blurred_and_a_slipped_section_are_named(tmp_path):
    values = stack()
    values[3] = 0
    values[7] = ndi.gaussian_filter(values[7].astype(float), 4).astype(np.uint8)
    values[11:] = np.roll(values[11:], 6, axis=2)
    path = saved(tmp_path / "image.zarr", values)
    run(path, tmp_path / "qc", settings())
    rows = table(tmp_path / "qc")
    assert "blank" in rows[3]["flags"]
    assert "out of focus" in rows[7]["flags"]
    assert [r["z"] for r in rows if r["flags"]] == [3, 7]
    named = json.loads((tmp_path / "qc" / "suspects.json").read_text())
    assert {3, 7, 11} <= {s["section"] for s in named}
    assert next(s for s in named if s["section"] == 11)["cause"].startswith("step between")
    assert not pv.open(tmp_path / "qc" / "render.zarr")[3].any()
    damage = pv.open(tmp_path / "qc" / "damage.zarr")
    assert (damage.read() > 0).mean((1, 2)).round(2).tolist() == [float(z == 3) for z in range(14)]
    slip = pv.open(tmp_path / "qc" / "shift_x.zarr")
    assert tuple(slip.voxel_size) == (40, 320, 320)
    assert np.median(slip[11]) == pytest.approx(6, abs=0.3)
    assert abs(np.median(slip[10])) < 0.3
    assert (slip[3] == 0).all()


def test_slabs_and_negative_places_change_nothing(tmp_path):
    values = stack(20)
    values[5, 100:140, :] //= 4
    whole = saved(tmp_path / "a.zarr", values)
    moved = saved(tmp_path / "b.zarr", values, start=(-7, -64, 128))
    a = run(whole, tmp_path / "qa", settings())
    b = run(moved, tmp_path / "qb", settings())
    ignored = ("seconds",)
    assert {k: v for k, v in a.items() if k not in ignored} == {
        k: v for k, v in b.items() if k not in ignored
    }
    for name in ("match", "damage", "correlation", "shift_y"):
        va, vb = (pv.open(tmp_path / q / f"{name}.zarr") for q in ("qa", "qb"))
        assert vb.box.start[0] == -7
        assert (va.read() == vb.read()).all(), name
    # sections 16.. lie in a second slab; alone they must give the same shifts but for the first
    part = run(whole, tmp_path / "qp", settings(box="14:20,0:256,0:256"))
    assert part["sections"] == 6
    va, vp = (pv.open(tmp_path / q / "shift_x.zarr") for q in ("qa", "qp"))
    assert (va[15:20] == vp[15:20]).all()


def test_sixteen_bit_and_one_pixel_high_sections(tmp_path):
    values = stack(6).astype(np.uint16) * 250
    figures = run(saved(tmp_path / "a.zarr", values), tmp_path / "qa", settings())
    assert figures["sections"] == 6
    flat = saved(tmp_path / "b.zarr", values[:, :1])
    assert run(flat, tmp_path / "qb", settings())["sections"] == 6
    one = saved(tmp_path / "c.zarr", values[:1])
    assert run(one, tmp_path / "qc", settings())["pairs"] == 0


def test_what_is_there_is_kept_unless_told_otherwise(tmp_path):
    path = saved(tmp_path / "image.zarr", stack(3, 64))
    run(path, tmp_path / "qc", settings())
    with pytest.raises(AlreadyExists, match="--overwrite"):
        run(path, tmp_path / "qc", settings())
    run(path, tmp_path / "qc", settings(), overwrite=True)
    assert not (tmp_path / "qc.work").exists()


def test_labels_and_pixels_that_are_not_square_are_refused(tmp_path):
    labels = volume.create(
        tmp_path / "l.zarr", box=Box.of_shape((2, 8, 8)), voxel_size=(40, 8, 8), dtype=np.uint64,
        kind="labels",
    )  # fmt: skip
    from petavox.volume import opening

    opening.finish(labels, {})
    with pytest.raises(BadInput, match="uint8 or uint16"):
        run(str(tmp_path / "l.zarr"), tmp_path / "qc", settings())
    long = saved(tmp_path / "i.zarr", stack(2, 64), voxel=(40.0, 10.0, 5.0))
    with pytest.raises(BadInput, match="square"):
        run(long, tmp_path / "qc", settings())
    assert not (tmp_path / "qc").exists()


def test_the_damage_volume_and_shifts_are_read_by_segmentation_as_they_are(tmp_path):
    from petavox.stages.sampling import sampled

    path = saved(tmp_path / "image.zarr", stack(4, 130))
    run(path, tmp_path / "qc", settings())
    image = pv.open(path)
    for name in ("damage", "shift_y", "shift_x"):
        got = sampled(pv.open(tmp_path / "qc" / f"{name}.zarr"), image.box, image.voxel_size)
        assert got.shape == image.shape
