"""Damage of sections: injected folds, cracks, dust and blanks are found; sound tissue is left."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi

from petavox.align.damage import KINDS, find, masks
from petavox.align.damage_view import DamageSettings
from petavox.align.lines import line_opening
from petavox.align.reduced import Reduced, enlarged, factor_for
from petavox.errors import BadInput

PIXEL = 8.0  # nm


def tissue(_: np.random.Generator, n: int = 900) -> np.ndarray:
    """Cells with dark membranes, dark round mitochondria, noise; float."""
    return _tissue(n).copy()


@functools.lru_cache
def _tissue(n: int) -> np.ndarray:
    rng = np.random.default_rng(4)
    fields = np.stack([ndi.gaussian_filter(rng.normal(size=(n, n)), 14) for _ in range(6)])
    two = np.sort(fields / fields.std((1, 2), keepdims=True), axis=0)[-2:]
    membrane = np.exp(-(((two[1] - two[0]) / 0.12) ** 2))
    grain = ndi.gaussian_filter(rng.normal(size=(n, n)), 5)
    image = 150 + 14 * grain / grain.std() - 85 * membrane
    yy, xx = np.mgrid[:n, :n]
    for y, x in rng.uniform(30, n - 30, (25, 2)):
        image[np.hypot((yy - y) / 1.4, xx - x) < 22] = 85
    return image + rng.normal(0, 8, (n, n))


def grey(image: np.ndarray, dtype: type = np.uint8) -> np.ndarray:
    scaled = image if dtype is np.uint8 else image * 256
    return np.clip(np.rint(scaled), 1, np.iinfo(dtype).max).astype(dtype)


def distance(n: int, angle: float, offset: float) -> np.ndarray:
    yy, xx = np.mgrid[:n, :n] - (n - 1) / 2
    return yy * np.cos(angle) + xx * np.sin(angle) - offset


def everywhere(image: np.ndarray) -> np.ndarray:
    return np.ones(image.shape, bool)


def test_sound_tissue_is_left_alone(rng):
    image = grey(tissue(rng))
    found = masks(image, everywhere(image), PIXEL)
    assert found.match_mask.mean() > 0.998
    assert found.render_mask.all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("angle", [0.0, 0.6, 1.57, 2.4])
def test_a_fold_is_masked_for_matching_but_shown(rng, angle, dtype):
    image = tissue(rng)
    d = np.abs(distance(len(image), angle, 60))
    band = d < 12
    image[band] *= 0.4
    image = grey(image, dtype)
    found = masks(image, everywhere(image), PIXEL)
    assert found.count("fold") >= 1
    assert found.count("crack") == 0
    assert (~found.match_mask)[band].mean() > 0.9
    assert found.render_mask.mean() > 0.995
    assert found.match_mask[d > 60].mean() > 0.97


@pytest.mark.parametrize(("kind", "level"), [("fold", 45), ("crack", 235)])
def test_bands_of_a_hundred_nanometres_are_found(rng, kind, level):
    image = tissue(rng)
    band = np.abs(distance(len(image), 0.9, 20)) < 6
    image[band] = level + rng.normal(0, 12, band.sum())
    image = grey(image)
    found = masks(image, everywhere(image), PIXEL)
    assert found.count(kind) >= 1
    assert (~found.match_mask)[band].mean() > 0.9


@pytest.mark.parametrize("angle", [0.3, 1.9])
def test_a_bright_crack_is_neither_matched_nor_shown(rng, angle):
    image = tissue(rng)
    crack = np.abs(distance(len(image), angle, -40)) < 8
    image[crack] = 235 + rng.normal(0, 4, crack.sum())
    image = grey(image)
    found = masks(image, everywhere(image), PIXEL)
    assert found.count("crack") >= 1
    assert (~found.render_mask)[crack].mean() > 0.8
    assert (~found.match_mask)[crack].mean() > 0.9


def test_an_empty_gap_across_the_tissue_is_a_crack(rng):
    image = grey(tissue(rng))
    crack = np.abs(distance(len(image), 0.3, 0)) < 8
    xx = np.arange(900)[None]
    crack &= (xx > 60) & (xx < 840)
    image[crack] = 0
    found = masks(image, everywhere(image), PIXEL)
    assert found.count("crack") >= 1
    assert not found.render_mask[ndi.binary_erosion(crack, iterations=3)].any()


def test_dust_is_found_and_mitochondria_are_not(rng):
    image = tissue(rng)
    yy, xx = np.mgrid[:900, :900]
    spot = np.hypot(yy - 300, xx - 500) < 18
    image[spot] = 12 + rng.normal(0, 3, spot.sum())
    image = grey(image)
    found = masks(image, everywhere(image), PIXEL)
    dust = [f for f in found.findings if f.kind == "dust"]
    dust.sort(key=lambda f: -f.score)
    assert [f for f in dust[1:] if f.area_um2 > 0.01] == []  # a mitochondrion has 0.07 and more
    y0, x0, y1, x1 = dust[0].box
    assert y0 <= 300 < y1
    assert x0 <= 500 < x1
    assert not found.match_mask[spot].any()
    assert found.render_mask[spot].all()


def test_blank_and_saturated_areas(rng):
    image = grey(tissue(rng))
    image[:200] = 0
    image[600:700, 100:300] = 255
    found = masks(image, everywhere(image), PIXEL)
    assert found.count("blank") == 1
    assert found.count("saturated") == 1
    assert not found.render_mask[:198].any()
    assert not found.match_mask[602:698, 102:298].any()
    assert found.render_mask[602:698, 102:298].all()
    assert found.render_mask[204:].all()


def test_what_is_not_valid_is_neither_matched_nor_shown(rng):
    image = grey(tissue(rng))
    valid = everywhere(image)
    valid[:, :301] = False
    found = masks(image, valid, PIXEL)
    assert not found.render_mask[:, :300].any()
    assert not found.match_mask[:, :300].any()
    assert found.match_mask[:, 320:].mean() > 0.99


def test_an_all_zero_section_is_one_blank():
    image = np.zeros((300, 400), np.uint8)
    found = masks(image, everywhere(image), 10.0)
    assert [f.kind for f in found.findings] == ["blank"]
    assert not found.match_mask.any()
    assert not found.render_mask.any()


def test_the_same_section_gives_the_same_answer(rng):
    image = grey(tissue(rng, 500))
    image[200:215] //= 3
    a, b = (masks(image, everywhere(image), PIXEL) for _ in range(2))
    assert a.findings == b.findings
    assert (a.match == b.match).all()


def test_large_sections_are_seen_coarser(rng):
    image = grey(tissue(rng, 300))
    found = masks(image, everywhere(image), 4.0, DamageSettings(max_working_px=1000))
    assert found.factor == 10
    assert found.match.shape == (30, 30)
    assert factor_for(4.0, 20.0, (30_000, 30_000), 1 << 24) == 8


@settings(max_examples=40, deadline=None)
@given(
    y=st.integers(0, 40), x=st.integers(0, 40), nm=st.sampled_from([2.0, 4.6, 10.0, 50.0]),
    wide=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_masks_have_the_shape_of_any_section(y, x, nm, wide, seed):
    rng = np.random.default_rng(seed)
    dtype = np.uint16 if wide else np.uint8
    image = rng.integers(0, np.iinfo(dtype).max, (y, x), endpoint=True).astype(dtype)
    valid = rng.random((y, x)) > 0.2
    found = masks(image, valid, nm)
    assert found.match_mask.shape == found.render_mask.shape == (y, x)
    assert found.match_mask.dtype == bool
    assert not (found.match & ~found.render).any()  # what is not shown is not matched
    for f in found.findings:
        assert f.kind in KINDS
        assert 0 <= f.box[0] < f.box[2] <= y
        assert 0 <= f.box[1] < f.box[3] <= x


def test_reduced_pieces_equal_the_whole(rng):
    image = rng.integers(0, 65536, (50, 70)).astype(np.uint16)
    valid = rng.random(image.shape) > 0.3
    whole = Reduced.of(image, valid, 8)
    pieces = Reduced.blank((50, 70), np.uint16, 8)
    for y in (0, 16, 32):
        for x in (0, 40):
            window = np.s_[y : min(y + 16, 50) if y < 32 else 50, x : 40 if x == 0 else 70]
            pieces.put((y, x), image[window], valid[window])
    for name in ("mean", "low", "high", "cover"):
        assert (getattr(whole, name) == getattr(pieces, name)).all(), name
    block = image[8:16, 16:24].astype(float)[valid[8:16, 16:24]]
    assert whole.mean[1, 2] == pytest.approx(block.mean())
    assert (whole.low[1, 2], whole.high[1, 2]) == (block.min(), block.max())
    with pytest.raises(BadInput, match="cuts blocks"):
        pieces.put((4, 0), image[:8, :8], valid[:8, :8])


def test_a_reduced_copy_gives_the_findings_of_the_image(rng):
    image = grey(tissue(rng, 500))
    image[240:262] //= 3
    a = masks(image, everywhere(image), PIXEL)
    b = find(Reduced.of(image, everywhere(image), a.factor), PIXEL)
    assert a.findings == b.findings


def test_lines_are_kept_and_blobs_are_not():
    mask = np.zeros((120, 120), bool)
    mask[20:24, 5:115] = True  # a band
    mask[60:90, 60:90] = True  # a blob, as wide as it is long
    kept = line_opening(mask, 60, 0.9)
    assert kept[20:24, 10:110].all()
    assert not kept[50:].any()


def test_enlarged_parts_equal_the_whole(rng):
    mask = rng.random((7, 9)) > 0.5
    whole = enlarged(mask, 4, (26, 35))
    assert whole.shape == (26, 35)
    assert (enlarged(mask, 4, (10, 11), at=(8, 16)) == whole[8:18, 16:27]).all()


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.float32), np.zeros((2, 4, 4), np.uint8)])
def test_what_is_no_section_is_refused(bad):
    with pytest.raises(BadInput, match="uint8 or uint16"):
        masks(bad, np.ones(bad.shape, bool), 8.0)


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(BadInput, match="same shape"):
        masks(np.zeros((4, 4), np.uint8), np.ones((4, 5), bool), 8.0)


@pytest.mark.parametrize(
    ("name", "pixel"), [("vnc_sstem/stack1.h5", 4.6), ("fib25/validation_sample_z0-200.h5", 10.0)]
)
def test_real_sections_are_hardly_flagged(real_data, name, pixel):
    import h5py

    with h5py.File(real_data(name)) as f:
        raw = f["raw"]
        stack = raw[:: max(1, raw.shape[0] // 8)]
    shares = [masks(s, everywhere(s), pixel).match.mean() for s in stack]
    assert np.mean(shares) > 0.998
    assert min(shares) > 0.99


def test_a_large_grain_is_dust_where_membranes_touch_it(rng):
    """Its rim is less steep there on average, but no tissue is so dark over so much."""
    y, x = np.mgrid[:400, :400]
    image = np.full((400, 400), 160.0)
    for line in range(20, 400, 40):  # membranes as sharp as anything in the picture
        image[np.abs(y - line) < 3] = 70
        image[np.abs(x - line) < 3] = 70
    soft = ndi.gaussian_filter((np.hypot(y - 203, x - 196) < 30).astype(float), 4.0)
    image = image * (1 - soft) + 14 * soft + 6 * rng.standard_normal(image.shape)
    values, ok = np.clip(image, 1, 255).astype(np.uint8), np.ones((400, 400), bool)
    grains = [f for f in masks(values, ok, 8.0).findings if f.kind == "dust"]
    assert any(f.box[0] < 203 < f.box[2] and f.box[1] < 196 < f.box[3] for f in grains)
    without = DamageSettings(dust_large_rim=1.3)
    assert not [f for f in masks(values, ok, 8.0, without).findings if f.kind == "dust"]
