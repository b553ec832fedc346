from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from petavox.errors import BadInput
from petavox.phantom import TileSet, TileSettings, TilesTruth, redistort
from petavox.phantom.tile_layout import layout

SMALL = TileSettings(
    sections=7, grid=(2, 3), tile=(120, 140), overlap=30, seed=4, shift=10, elastic=3,
    elastic_sigma=80, jitter=4, missing_tiles=2, missing_sections=1, swaps=1, turned=1,
    flipped=1, folds=2, cracks=1, dust=3, defocused=1,
)  # fmt: skip


def pattern(z, box):
    """Smooth tissue that is a function of aligned coordinates."""
    y = np.arange(box.start[1], box.stop[1])[:, None]
    x = np.arange(box.start[2], box.stop[2])[None]
    wave = np.sin(y / 5 + 0.3 * np.sin(x / 11)) + np.sin(x / 4 + 0.2 * z + 0.4 * np.cos(y / 9))
    return np.rint(128 + 45 * wave).astype(np.uint8)


@pytest.fixture(scope="module")
def made():
    return TileSet(SMALL, pattern)


@pytest.fixture(scope="module")
def truth(made):
    return TilesTruth(made.layout)


def test_the_damage_listed_is_the_damage_asked_for(truth):
    kinds = [d.kind for d in truth.damage]
    want = {
        "missing section": 1, "swapped": 2, "turned": 1, "flipped": 1, "missing tile": 2,
        "fold": 2, "crack": 1, "dust": 3, "defocus": 1,
    }  # fmt: skip
    assert {k: kinds.count(k) for k in want} == want
    assert len(kinds) == sum(want.values())


def test_the_damage_listed_is_the_damage_in_the_tiles(made, truth):
    lay = made.layout
    for k in range(7):
        listed = [d for d in truth.damage if d.section == k]
        gone = {d.tile for d in listed if d.kind == "missing tile"}
        lost = any(d.kind == "missing section" for d in listed)
        assert {i for i in range(6) if not lay.has(k, i)} == (set(range(6)) if lost else gone)
        mask, _ = made.mask(k)
        shown = {1: "fold", 2: "crack", 3: "dust"}
        if not lost:
            there = {v for n, v in shown.items() if (mask == n).any()}
            assert there <= {d.kind for d in listed}
    order = list(lay.order)
    a, b = (d.section for d in truth.damage if d.kind == "swapped")
    order[a], order[b] = order[b], order[a]
    assert order == list(range(7))
    for d in truth.damage:
        sign = np.linalg.det(lay.warps[d.section].matrix)
        if d.kind == "flipped":
            assert sign < 0
        if d.kind == "turned":
            m = lay.warps[d.section].matrix / np.sqrt(abs(sign))
            assert abs(np.degrees(np.arccos(m[0, 0])) - 170) < 3.1


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(range(7)), st.integers(0, 5), st.integers(0, 2**31))
@example(6, 1, 0)  # a crack in tissue that a fold beside it has moved
def test_every_transform_and_its_inverse_cancel(truth, k, i, seed):
    if not truth.layout.has(k, i):
        return
    p = np.random.default_rng(seed).uniform([0, 0], [119, 139], (40, 2))
    x = truth.tile_to_section(k, i, p)
    assert np.abs(truth.section_to_tile(k, i, x) - p).max() < 1e-3
    back = truth.aligned_to_section(k, truth.section_to_aligned(k, x))
    free = truth.layout.warps[k].damaged(x) == 0
    assert np.abs(back - x)[free].max(initial=0) < 1e-3
    nm = truth.section_to_aligned_nm(k, truth.tile_to_section_nm(k, i, p * 8.0))
    assert np.allclose(nm, truth.tile_to_aligned(k, i, p) * 8.0)


def test_tiles_show_the_tissue_where_the_truth_says_it_is(truth):
    plain = SMALL.model_copy(update={"noise": 0.0, "shading": 0.0, "dust": 0, "defocused": 0})
    made = TileSet(plain, pattern)
    y, x = np.mgrid[10:110:3, 10:130:3].astype(float)
    p = np.stack([y, x], -1).reshape(-1, 2)
    for k, i in ((0, 0), (0, 5), (6, 2), (truth.sections[2], 4)):
        if not made.layout.has(k, i):
            continue
        t = TilesTruth(made.layout)
        s = t.tile_to_section(k, i, p)
        free = t.clear_of_damage(k, s, 4.0)
        u = t.section_to_aligned(k, s)[free]
        # the tissue itself, straight from its formula
        z = made.layout.order[k]
        wave = np.sin(u[:, 0] / 5 + 0.3 * np.sin(u[:, 1] / 11))
        wave += np.sin(u[:, 1] / 4 + 0.2 * z + 0.4 * np.cos(u[:, 0] / 9))
        seen = made.tile(k, i)[tuple(p[free].astype(int).T)].astype(float)
        assert np.corrcoef(seen, wave)[0, 1] > 0.998


def test_a_perfect_method_has_no_error_and_a_shifted_tile_has_just_its_shift(truth):
    stitch, align = truth.perfect()
    assert truth.seam(stitch)["max"] < 1e-6
    assert truth.adjacent(stitch, align, step=16, margin=50)["max"] < 1e-3
    assert truth.span(stitch, align, step=16, margin=50)["max"] < 1e-3
    first = truth.sections[0]

    def off(k, i, p):
        return stitch(k, i, p) + (np.array([3.0, 4.0]) if i == 0 and k == first else 0)

    seam = truth.seam(off, [first])
    assert abs(seam["max"] - 5) < 1e-6
    assert 0 < seam["mean"] < 5


def test_a_drift_of_one_pixel_per_section_is_seen_as_such(truth):
    stitch, align = truth.perfect()
    place = {k: n for n, k in enumerate(truth.sections)}
    drifting = truth.adjacent(
        stitch, lambda k, s: align(k, s) + np.array([0.6, 0.8]) * place[k], step=16, margin=50
    )
    assert abs(drifting["mean"] - 1) < 1e-3
    span = truth.span(
        stitch, lambda k, s: align(k, s) + np.array([0.6, 0.8]) * place[k], step=16, margin=50
    )
    assert abs(span["mean"] - (len(place) - 1)) < 1e-3


def test_seam_compares_the_two_images_of_one_point(truth):
    k = truth.sections[0]
    lay = truth.layout
    # stage positions alone: the seam error is the difference of jitters and lens, by hand
    x = np.array([[60.0, 125.0]])
    by_hand = np.linalg.norm(
        (lay.nominal[0] + lay.section_to_tile(k, 0, x))
        - (lay.nominal[1] + lay.section_to_tile(k, 1, x))
    )
    assert by_hand > 0.1
    got = truth.seam(lambda k, i, p: lay.nominal[i] + p, [k])
    assert got["n"] > 20
    assert got["max"] < 2 * np.sqrt(2) * 4 + 3


def test_tiles_are_the_same_whatever_was_asked_before(made):
    again = TileSet(SMALL, pattern)
    k = [k for k in range(7) if made.layout.has(k, 1)][-1]
    assert np.array_equal(again.tile(k, 1), made.tile(k, 1))
    assert made.tile(k, 1).dtype == np.uint8


def test_sixteen_bit_tiles_and_a_missing_tile(made):
    wide = TileSet(SMALL.model_copy(update={"bits": 16}), pattern)
    assert wide.tile(0, 0).dtype == np.uint16
    assert wide.tile(0, 0).max() > 5000
    gone = next(d for d in made.layout.damage if d.kind == "missing tile")
    with pytest.raises(BadInput, match="is missing"):
        made.tile(gone.section, gone.tile)


def test_real_sections_are_distorted_by_known_fields():
    rng = np.random.default_rng(1)
    images = np.stack(
        [ndimage.gaussian_filter(rng.uniform(0, 255, (150, 170)), 2) for _ in range(3)]
    )
    images = (np.clip((images - 127) * 6 + 127, 0, 255)).astype(np.uint8)
    bent, made = redistort(images, 5, elastic=3.0, elastic_sigma=60.0, shift=4.0, rotation=2.0)
    truth = TilesTruth(made.layout)
    for k in range(3):
        y, x = np.mgrid[30:120:2, 30:140:2].astype(float)
        p = np.stack([y, x], -1)
        u = truth.tile_to_aligned(k, 0, p)
        want = ndimage.map_coordinates(images[k].astype(float), [u[..., 0], u[..., 1]], order=3)
        assert np.abs(bent[k][30:120:2, 30:140:2] - want).mean() < 1.0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"overlap": 120}, "overlap is 120"),
        ({"lens": 9.0}, "lens is 9 px"),
        ({"missing_sections": 6}, "missing_sections is 6"),
        ({"swaps": 4}, "swaps is 4"),
        ({"missing_tiles": 400}, "missing_tiles is 400"),
    ],
)
def test_damage_that_does_not_fit_is_told(change, says):
    with pytest.raises(BadInput, match=says):
        layout(SMALL.model_copy(update=change))
