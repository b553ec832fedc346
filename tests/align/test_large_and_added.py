"""Sections wider than 32,767 px; sections matched by two processes; sections added to a result."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage as ndi

import petavox as pv
from petavox import volume
from petavox.align import field_file, matching
from petavox.align.frames import Field
from petavox.blocks import open_engine
from petavox.errors import BadInput
from petavox.space import Box
from petavox.stages import align, render, stitch
from petavox.volume import opening

WIDE = 40_000


def grain(rng, shape, sigma=1.5) -> np.ndarray:
    """Smooth noise around 128, uint8."""
    noise = ndi.gaussian_filter(rng.standard_normal(shape).astype("f4"), sigma)
    return np.clip(128 + 40 * noise / noise.std(), 1, 255).astype(np.uint8)


def test_a_row_of_tiles_wider_than_32767_px_is_stitched_and_rendered(tmp_path, rng):
    tissue = grain(rng, (80, WIDE))
    lines = ["file,section,x_nm,y_nm"]
    places = list(range(0, WIDE - 1100, 1000))
    for n, x in enumerate(places):
        Image.fromarray(tissue[:, x : x + 1100]).save(tmp_path / f"t{n:03d}.png")
        lines.append(f"t{n:03d}.png,0,{4.0 * (x + 3 * (n % 2))},0")  # the stage errs by 3 px
    (tmp_path / "tiles.csv").write_text("\n".join(lines) + "\n")
    settings = {"pixel_nm": 4.0, "pyramid": False, "match": {"lens": False, "elastic": False}}
    stitch.run(
        tmp_path / "tiles.csv",
        tmp_path / "s",
        stitch.StitchStageSettings.model_validate(settings),
    )
    sections = pv.open(tmp_path / "s" / "sections")
    width = sections.shape[2]
    assert width > 38_000
    made = field_file.load(tmp_path / "s" / "transforms" / "section_00000.npz")
    at = np.array([made[f"t{n:03d}.png"](np.array([[0.0, 0.0]]))[0, 1] for n in range(len(places))])
    # forty places one after another, each to a small part of a pixel
    assert np.abs(np.diff(at) / 4.0 - 1000).max() < 0.05
    # moved by half a pixel at the far end: cubic convolution there, as if the section began there
    field_file.save(tmp_path / "f.npz", {"section_00000": Field.translation([0.0, 2.0])})
    box = Box((0, 10, width - 600), (1, 70, width - 200))
    render.run(
        tmp_path / "s", tmp_path / "f.npz", tmp_path / "v",
        render.RenderSettings(box=box, chunk=(1, 64, 64), shard=(1, 64, 512), pyramid=False),
    )  # fmt: skip
    shown = pv.open(tmp_path / "v").read()[0].astype(float)
    source = sections.read(Box((0, 10, width - 604), (1, 70, width - 196)))[0].astype(float)
    want = ndi.map_coordinates(source, np.mgrid[0:60, 3.5:403.5], order=3)
    assert np.abs(shown - want).mean() < 1.0


class Pair:
    """Two thin sections, the second shifted; petavox.align.matching.Source."""

    def __init__(self, first, second):
        self.images = (first, second)

    def shape(self, k):
        return self.images[k].shape

    def level(self, k, factor):
        assert factor == 1
        return self.images[k], np.ones(self.images[k].shape, bool)

    def texture(self, k, factor):
        raise AssertionError("not asked for")


def test_matches_beyond_32767_px_are_as_exact_as_at_the_beginning(rng):
    tissue = grain(rng, (160, WIDE + 8))
    source = Pair(tissue[:, 8:], tissue[:, 3:-5])  # what is at x in the first is at x + 5
    still = {0: Field(), 1: Field.translation([0.0, 0.25])}
    found = {}
    for name, low in (("begin", 200.0), ("end", 38_000.0)):
        of = matching.Round(
            name, (0, 1), (0, 1), (0, 0), still, (0.0, low), (159.0, low + 1500), 1, 96, 32, 24,
            (1,), 256, 0.12, False,
        )  # fmt: skip
        (found[name],) = matching.matched(source, of, (0, 1))
    for m in found.values():
        assert len(m.p) > 60
        gap = m.q - m.p
        assert np.abs(gap - [0.0, 5.0]).max() < 0.1
    assert found["end"].p[:, 1].max() > 39_000


def stack(path, images) -> str:
    target = volume.create(
        path, box=Box.of_shape(images.shape), voxel_size=(40, 8, 8), dtype=images.dtype,
        kind="image", chunk=(1, 128, 128), shard=(1, 128, 128),
    )  # fmt: skip
    target.write(target.box, images)
    opening.finish(target, {})
    return str(path)


@pytest.fixture(scope="module")
def images():
    """Five sections of slowly changing tissue, each shifted by a few px."""
    rng = np.random.default_rng(5)
    noise = ndi.gaussian_filter(rng.standard_normal((17, 260, 260)).astype("f4"), (3, 3, 3))[6:11]
    tissue = np.clip(128 + 40 * noise / noise.std(), 1, 255).astype(np.uint8)
    moves = [(10, 10), (14, 9), (8, 13), (11, 6), (13, 12)]
    return np.stack([t[y : y + 230, x : x + 230] for t, (y, x) in zip(tissue, moves, strict=True)])


def same(one, other, names) -> bool:
    a, b = (field_file.load(p / "fields.npz") for p in (one, other))
    return all(
        np.array_equal(a[n].displacement, b[n].displacement)
        and np.array_equal(a[n].matrix, b[n].matrix)
        and np.array_equal(a[n].shift, b[n].shift)
        for n in names
    )


def test_two_processes_give_the_fields_of_one(tmp_path, images):
    path = stack(tmp_path / "in.zarr", images)
    settings = align.AlignStageSettings(slab=2, threads=1)
    align.run(path, tmp_path / "one", settings)
    with open_engine(workers=2) as engine:
        align.run(path, tmp_path / "two", settings, engine=engine)
    assert same(tmp_path / "one", tmp_path / "two", [f"section_{k:05d}" for k in range(5)])


def test_added_sections_join_a_result_that_stays_as_it_is(tmp_path, images):
    settings = align.AlignStageSettings(threads=1)
    align.run(stack(tmp_path / "old.zarr", images[:3]), tmp_path / "old", settings)
    whole = stack(tmp_path / "all.zarr", images)
    align.run(whole, tmp_path / "all", settings, fixed=tmp_path / "old")
    assert same(tmp_path / "old", tmp_path / "all", [f"section_{k:05d}" for k in range(3)])
    fields = align.read_fields(tmp_path / "all", 8.0)
    moves = np.array([(10, 10), (14, 9), (8, 13), (11, 6), (13, 12)], float)
    middle = np.array([[130.0, 130.0]])
    at = np.array([fields[k](middle - moves[k])[0] for k in range(5)])
    assert np.linalg.norm(np.diff(at, axis=0), axis=1).max() < 0.5


def test_a_window_that_memory_cannot_hold_is_refused_before_any_work(tmp_path, images, monkeypatch):
    path = stack(tmp_path / "in.zarr", images)
    monkeypatch.setattr(align, "memory_available", lambda: 1000)
    with pytest.raises(BadInput, match=r"match\.window"):
        align.run(path, tmp_path / "out", align.AlignStageSettings())
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.run").exists()
