"""Augmentation: each kind does what it says, and no more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petavox.errors import BadInput
from petavox.learn import augment, damage
from petavox.learn.augment import AugmentSettings
from petavox.learn.sample import Sample, flipped, permuted

ALL = AugmentSettings(
    slip_chance=0.5, shift_chance=0.5, missing_chance=0.5, blank_chance=0.5, blur_chance=0.5,
    contrast_chance=0.5, section_contrast_chance=0.5, noise_chance=0.5, elastic_chance=0.5,
    rotate_chance=0.5,
)  # fmt: skip


def sample(shape=(7, 21, 21), seed=0) -> Sample:
    rng = np.random.default_rng(seed)
    labels = (np.indices(shape)[2] // 5 + 1).astype(np.int32)
    return Sample(rng.random(shape, np.float32), labels, np.ones(shape, bool))


def same(a: Sample, b: Sample) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 7), st.integers(1, 15))
def test_augmented_is_a_pure_function_of_sample_and_generator(seed, depth, side):
    core = (depth, side, side)
    before = sample()
    a, b = (augment.augmented(before, ALL, core, np.random.default_rng(seed)) for _ in range(2))
    assert same(a, b)
    assert same(before, sample())
    assert a.image.shape == a.labels.shape == a.known.shape == core
    assert a.image.dtype == np.float32
    assert np.isfinite(a.image).all()
    assert 0 <= a.image.min() <= a.image.max() <= 1


def test_nothing_asked_for_nothing_done():
    off = AugmentSettings(transpose=False, flip=False)
    assert same(augment.augmented(sample(), off, (7, 21, 21), np.random.default_rng(1)), sample())


def test_symmetries_keep_which_voxel_has_which_label():
    s = sample()
    for axes in ([0, 2, 1], [2, 0, 1]):
        p = permuted(s, axes)
        i = (1, 2, 3)
        j = tuple(i[a] for a in axes)
        assert p.image[j] == s.image[i]
        assert p.labels[j] == s.labels[i]
    f = flipped(s, [True, False, True])
    assert f.image[0, 4, 0] == s.image[6, 4, 20]
    assert f.labels[0, 4, 0] == s.labels[6, 4, 20]


def test_a_slip_moves_one_section_of_the_image_only():
    s = sample()
    out = damage.slipped(s, 2, 3, -4)
    assert np.array_equal(out.labels, s.labels)
    assert np.array_equal(np.delete(out.image, 2, 0), np.delete(s.image, 2, 0))
    assert np.array_equal(out.image[2, 3:, :-4], s.image[2, :-3, 4:])


@pytest.mark.parametrize(("z", "moved"), [(5, slice(5, 7)), (2, slice(0, 2))])
def test_a_shift_moves_all_on_the_far_side_with_their_labels(z, moved):
    s = sample()
    out = damage.shifted(s, z, 2, 5)
    still = np.ones(7, bool)
    still[moved] = False
    for a, b in zip(out, s, strict=True):
        assert np.array_equal(a[still], b[still])
        assert np.array_equal(a[moved, 2:, 5:], b[moved, :-2, :-5])
    assert not out.known[moved, :2].any()
    assert not out.known[moved, :, :5].any()
    assert out.known[3].all()


def test_missing_and_blank_sections():
    s = sample()
    gone = damage.missing(s.image, 3, 2)
    assert (gone[3:5] == 0).all()
    assert np.array_equal(gone[:3], s.image[:3])
    shares = set()
    for seed in range(40):
        out = damage.blanked(s.image, 4, np.random.default_rng(seed))
        changed = out != s.image
        assert not np.delete(changed, 4, 0).any()
        assert len(np.unique(out[4][changed[4]])) == 1
        shares.add(bool(changed[4].mean() > 0.9))
    assert shares == {True, False}


def test_blur_lowers_the_contrast_of_its_section_only():
    s = sample()
    out = damage.blurred(s.image, 1, 2.0)
    assert out[1].std() < 0.5 * s.image[1].std()
    assert out[1].mean() == pytest.approx(s.image[1].mean(), abs=0.02)
    assert np.array_equal(np.delete(out, 1, 0), np.delete(s.image, 1, 0))


def test_regrading_follows_its_formula_by_section():
    image = np.full((2, 1, 1), 0.6, np.float32)
    out = damage.regraded(image, np.array([2.0, 1.0]), np.array([0.1, 0.0]), np.array([1.0, 2.0]))
    assert out.ravel().tolist() == pytest.approx([0.8, 0.36])


def test_elastic_fields_are_smooth_centred_and_as_large_as_asked():
    fields = [
        damage.elastic_field((3, 41, 41), 3.0, 6.0, np.random.default_rng(i)) for i in range(60)
    ]
    assert all((f[:, 1, 20, 20] == 0).all() for f in fields)
    # a difference of two distant, nearly independent places has twice the variance
    corners = np.array([f[:, 1, 0, 0] for f in fields])
    assert (corners**2).sum(1).mean() ** 0.5 == pytest.approx(3.0 * 2**0.5, rel=0.25)
    steps = np.abs(np.diff(np.array(fields), axis=3)).mean()
    assert steps < 0.6


def test_warping_takes_voxels_from_where_the_field_points():
    s = sample()
    field = np.zeros((2, 7, 21, 21), np.float32)
    field[0], field[1] = 2, -3
    out = damage.warped(s, field)
    assert np.allclose(out.image[:, :-2, 3:], s.image[:, 2:, :-3])
    assert np.array_equal(out.labels[:, :-2, 3:], s.labels[:, 2:, :-3])
    assert not out.known[:, -2:].any()
    assert not out.known[:, :, :3].any()
    assert out.known[:, :-2, 3:].all()


def test_a_rotation_by_a_right_angle_is_exact_and_keeps_the_centre():
    s = sample()
    out = damage.rotated(s, 90.0)
    turned = [np.rot90(s.image, k, (1, 2)) for k in (1, 3)]
    inner = (slice(None), slice(1, -1), slice(1, -1))
    assert any(np.allclose(out.image[inner], t[inner], atol=1e-4) for t in turned)
    assert np.array_equal(out.labels[:, 10, 10], s.labels[:, 10, 10])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_the_centre_keeps_its_object(seed):
    out = augment.augmented(sample((9, 31, 31)), ALL, (9, 21, 21), np.random.default_rng(seed))
    assert out.labels[4, 10, 10] == 4
    assert out.known[4, 10, 10]


def test_symmetries_that_the_network_lacks_are_refused():
    with pytest.raises(BadInput, match=r"augment\.isotropic"):
        augment.check_symmetry(AugmentSettings(isotropic=True), (17, 33, 33), (4, 8, 8))
    with pytest.raises(BadInput, match=r"augment\.transpose"):
        augment.check_symmetry(AugmentSettings(), (17, 33, 31), (4, 8, 8))
    augment.check_symmetry(AugmentSettings(), (17, 33, 33), (4, 8, 8))
