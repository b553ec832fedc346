"""The measures of a section against known blur, noise, saturation; outliers of a stack."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage as ndi

from petavox.align.quality import (
    MEASURES,
    Gathering,
    SectionQuality,
    measure,
    outliers,
    percentiles,
)


def tissue(rng: np.random.Generator, n: int = 512) -> np.ndarray:
    coarse = ndi.gaussian_filter(rng.normal(size=(n, n)), 6)
    fine = ndi.gaussian_filter(rng.normal(size=(n, n)), 1.0)
    image = 130 + 40 * coarse / coarse.std() + 15 * fine / fine.std()
    return np.clip(image + rng.normal(0, 4, (n, n)), 1, 254).astype(np.uint8)


def everywhere(image: np.ndarray) -> np.ndarray:
    return np.ones(image.shape, bool)


def test_blur_lowers_focus_and_gain_does_not(rng):
    image = tissue(rng)
    sharp = measure(image, everywhere(image)).focus
    blurred = ndi.gaussian_filter(image.astype(float), 2)
    blurred = (blurred + rng.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8)
    dim = (image * 0.7 + 20).astype(np.uint8)
    assert measure(blurred, everywhere(image)).focus < 0.3 * sharp
    assert measure(dim, everywhere(image)).focus == pytest.approx(sharp, rel=0.1)


@pytest.mark.parametrize("sigma", [3.0, 10.0])
def test_noise_is_found_in_grey_levels(rng, sigma):
    base = 128 + 30 * np.sin(np.arange(512) / 40)[:, None] * np.ones(512)
    image = np.rint(base + rng.normal(0, sigma, (512, 512))).clip(0, 255).astype(np.uint8)
    assert measure(image, everywhere(image)).noise == pytest.approx(sigma, rel=0.08)


def test_contrast_missing_and_entropy_by_hand():
    image = np.repeat(np.array([[51], [204]], np.uint8), 10, axis=1)
    valid = np.ones((2, 10), bool)
    valid[:, 8:] = False
    q = measure(image, valid)
    assert q.mean == 127.5
    assert q.contrast == pytest.approx((204 - 51) / 255)
    assert q.missing == pytest.approx(0.2)
    assert q.entropy == pytest.approx(1.0)  # two levels, even
    assert math.isnan(q.focus)


def test_saturation_counts_only_a_pile_at_the_ends():
    even = np.arange(256, dtype=np.uint8).repeat(4)[None]
    piled = np.concatenate([even, np.full((1, 1024), 255, np.uint8)], axis=1)
    assert measure(even, everywhere(even)).saturated == 0
    assert measure(piled, everywhere(piled)).saturated == pytest.approx(1028 / 2048)


def test_pieces_equal_the_whole(rng):
    image = tissue(rng).astype(np.uint16) * 200
    valid = rng.random(image.shape) > 0.02
    got = Gathering(image.shape, image.dtype)
    for y in range(0, 512, 128):
        for x in range(0, 512, 256):
            window = np.s_[y : y + 128, x : x + 256]
            got.put((y, x), image[window], valid[window])
    assert got.result() == measure(image, valid)


def test_an_all_zero_or_unseen_section_is_measured_without_error():
    zero = np.zeros((200, 200), np.uint8)
    q = measure(zero, everywhere(zero))
    assert (q.mean, q.contrast, q.entropy) == (0, 0, 0)
    nothing = measure(zero, np.zeros(zero.shape, bool))
    assert nothing.missing == 1
    assert all(math.isnan(getattr(nothing, m)) for m in MEASURES if m != "missing")


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (3, 2), (0, 5)])
def test_tiny_sections(rng, shape):
    image = rng.integers(1, 65535, shape).astype(np.uint16)
    q = measure(image, everywhere(image))
    assert math.isnan(q.focus)
    assert 0 <= q.missing <= 1


def test_percentiles_by_hand():
    counts = np.zeros(256, np.int64)
    counts[[10, 20, 30, 40]] = 25
    assert percentiles(counts, [1, 25, 26, 50, 99]) == [10, 10, 20, 20, 40]


def rows(n: int) -> list[SectionQuality]:
    wobble = np.sin(np.arange(n))
    return [SectionQuality(130 + w, 0.5, 0.0, 0.0, 5 + 0.1 * w, 0.02, 7.0) for w in wobble]


def test_outliers_are_named_in_words():
    table = rows(30)
    table[7] = SectionQuality(130, 0.5, 0.0, 0.0, 5, 0.005, 7.0)
    table[12] = SectionQuality(200, 0.2, 0.1, 0.4, 5, 0.02, 7.0)
    table[20] = SectionQuality(*[math.nan] * 3, 1.0, *[math.nan] * 3)
    words = outliers(table)
    assert words[7] == ("out of focus",)
    assert set(words[12]) == {"too bright", "low contrast", "saturated", "missing area"}
    assert "blank" in words[20]
    assert all(not w for k, w in enumerate(words) if k not in (7, 12, 20))


def test_a_slow_drift_is_no_outlier():
    table = [SectionQuality(80 + k, 0.5, 0, 0, 5, 0.02, 7.0) for k in range(100)]
    assert not any(outliers(table))


def test_few_sections_are_not_compared():
    assert outliers(rows(3)) == [(), (), ()]


def test_real_sections_stand_out_when_blurred(real_data):
    import h5py

    path = real_data("vnc_sstem/stack1.h5")
    with h5py.File(path) as f:
        stack = f["raw"][10:17, :512, :512]
    stack[3] = ndi.gaussian_filter(stack[3].astype(float), 2.5).astype(np.uint8)
    words = outliers([measure(s, everywhere(s)) for s in stack])
    assert "out of focus" in words[3]
    assert not any("out of focus" in w for k, w in enumerate(words) if k != 3)
