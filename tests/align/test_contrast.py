"""Contrast: never inverts, blank stays blank, blocks equal the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi

from petavox.align.contrast import (
    KNOTS,
    TileTables,
    clahe,
    histogram,
    knots,
    neighbour_targets,
    normalize,
    table_to_knots,
)
from petavox.errors import BadInput


def test_normalised_percentiles_lie_where_they_are_wanted(rng):
    image = rng.normal(90, 12, (300, 300)).clip(1, 255).astype(np.uint8)
    out = normalize(image, 30, 220)
    assert np.percentile(out, 1) == pytest.approx(30, abs=4)
    assert np.percentile(out, 99) == pytest.approx(220, abs=4)


levels = st.sampled_from([256, 65536])


@settings(max_examples=100, deadline=None)
@given(data=st.data(), n=levels)
def test_no_table_ever_falls(data, n):
    grey = st.integers(0, n - 1)
    own = np.sort(data.draw(st.lists(grey, min_size=7, max_size=7))).astype(float)
    wanted = np.sort(data.draw(st.lists(grey, min_size=7, max_size=7))).astype(float)
    table = table_to_knots(own, wanted, n).astype(int)
    assert table.shape == (n,)
    assert (np.diff(table) >= 0).all()
    assert table[0] == 0
    assert table[1:].min() >= 1


@settings(max_examples=40, deadline=None)
@given(
    y=st.integers(1, 60), x=st.integers(1, 60), tile=st.integers(8, 64),
    clip=st.floats(1, 20), wide=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_clahe_never_inverts_at_any_place(y, x, tile, clip, wide, seed):
    rng = np.random.default_rng(seed)
    n, dtype = (65536, np.uint16) if wide else (256, np.uint8)
    image = rng.integers(0, n, (y, x)).astype(dtype)
    tables = TileTables((y, x), n, tile=tile, clip=clip)
    tables.gather((0, 0), image)
    tables.finish()
    before = None
    for value in np.linspace(0, n - 1, 23).astype(dtype):
        after = tables.apply((0, 0), np.full((y, x), value, dtype)).astype(int)
        assert before is None or (after >= before).all()
        before = after
    out = tables.apply((0, 0), image)
    assert out.dtype == dtype
    assert ((out == 0) == (image == 0)).all()


def test_clahe_of_pieces_equals_the_whole(rng):
    image = rng.integers(0, 256, (131, 203)).astype(np.uint8)
    tables = TileTables(image.shape, 256, tile=40, clip=3)
    cuts = [(y, x) for y in range(0, 131, 37) for x in range(0, 203, 50)]
    for y, x in cuts:
        tables.gather((y, x), image[y : y + 37, x : x + 50])
    tables.finish()
    out = np.zeros_like(image)
    for y, x in cuts:
        out[y : y + 37, x : x + 50] = tables.apply((y, x), image[y : y + 37, x : x + 50])
    assert (out == clahe(image, tile=40, clip=3)).all()


def test_clahe_raises_local_contrast_as_much_as_the_well_known_one(rng):
    exposure = pytest.importorskip("skimage.exposure")
    detail = ndi.gaussian_filter(rng.normal(size=(512, 512)), 2)
    shade = np.linspace(60, 180, 512)[None]
    image = (shade + 12 * detail / detail.std()).clip(1, 255).astype(np.uint8)
    ours = clahe(image, tile=64, clip=2.56).astype(float)
    theirs = exposure.equalize_adapthist(image, kernel_size=64, clip_limit=0.01) * 255
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.9
    local = [(v - ndi.gaussian_filter(v, 12)).std() for v in (image.astype(float), ours, theirs)]
    assert local[1] > 1.3 * local[0]
    assert local[1] == pytest.approx(local[2], rel=0.35)


def test_clip_of_one_and_strength_of_none_change_next_to_nothing(rng):
    image = rng.integers(1, 256, (90, 90)).astype(np.uint8)
    assert np.abs(clahe(image, tile=32, clip=1.0).astype(int) - image).max() <= 1
    assert (clahe(image, tile=32, clip=4.0, strength=0.0) == image).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_blank_areas_stay_blank_and_do_not_pull(rng, dtype):
    image = rng.normal(100, 10, (200, 200)).clip(1, 255).astype(dtype)
    half = image.copy()
    half[:, :100] = 0
    for out in (normalize(half), clahe(half, tile=50)):
        assert (out[:, :100] == 0).all()
        assert (out[:, 100:] > 0).all()
    whole = normalize(image)[:, 100:].astype(float).mean()
    assert normalize(half)[:, 100:].astype(float).mean() == pytest.approx(whole, rel=0.03)


def test_an_all_zero_section_is_left_as_it_is():
    zero = np.zeros((50, 60), np.uint8)
    assert (normalize(zero) == 0).all()
    assert (clahe(zero) == 0).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 100), (3, 7), (0, 5)])
def test_tiny_sections(rng, shape):
    image = rng.integers(0, 65536, shape).astype(np.uint16)
    assert normalize(image).shape == shape
    assert clahe(image).shape == shape


def test_a_constant_section_stays_constant():
    flat = np.full((40, 40), 77, np.uint8)
    assert len(np.unique(normalize(flat))) == 1
    assert len(np.unique(clahe(flat))) == 1


def test_neighbours_say_what_a_dim_section_becomes(rng):
    stack = [rng.normal(120, 20, (200, 200)).clip(1, 255).astype(np.uint8) for _ in range(9)]
    stack[4] = (stack[4] * 0.5 + 10).astype(np.uint8)
    own = np.stack([knots(histogram(s)) for s in stack])
    wanted = neighbour_targets(own, 4, 4)
    out = table_to_knots(own[4], wanted, 256)[stack[4]]
    assert np.percentile(out, 50) == pytest.approx(120, abs=3)
    assert out.std() == pytest.approx(20, rel=0.1)


def test_sections_without_image_do_not_count_as_neighbours():
    own = np.array([[10.0] * len(KNOTS), [np.nan] * len(KNOTS), [30.0] * len(KNOTS)])
    assert neighbour_targets(own, 1, 1)[0] == 20
    assert np.isnan(neighbour_targets(own[1:2], 1, 0)).all()


def test_wrong_types_and_settings_are_refused():
    with pytest.raises(BadInput, match="uint8 or uint16"):
        clahe(np.zeros((4, 4), np.float32))
    with pytest.raises(BadInput, match=r"clip is 0\.5"):
        TileTables((4, 4), 256, tile=16, clip=0.5)
    with pytest.raises(BadInput, match="tile is 2"):
        TileTables((4, 4), 256, tile=2, clip=2)
