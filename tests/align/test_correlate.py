"""Shifts of windows: known shifts are found, noise is not believed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage as ndi

from petavox.align import correlate


def texture(rng: np.random.Generator, shape: tuple[int, int], sigma: float = 2.0) -> np.ndarray:
    return ndi.gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap").astype(np.float32)


def windows(images: list[np.ndarray], size: int) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.ascontiguousarray(i[:size, :size])) for i in images])


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.0, -2.0), (0.4, 0.3), (-5.5, 7.25)])
def test_a_known_shift_is_found_to_a_fraction_of_a_pixel(rng, shift):
    bases = [texture(rng, (160, 160)) for _ in range(8)]
    moved = [ndi.shift(b, shift, order=5, mode="grid-wrap") for b in bases]
    a, b = correlate.spectra(windows(bases, 64)), correlate.spectra(windows(moved, 64))
    found = correlate.peaks(a, b, correlate.band(a, b, 1.0), search=16)
    allowed = 0.06 + 0.015 * np.abs(shift).max()
    assert np.abs(found.shift.numpy() - shift).mean() < allowed
    assert float(found.confidence.min()) > 0.3


def test_unrelated_windows_are_not_believed(rng):
    a = correlate.spectra(windows([texture(rng, (64, 64)) for _ in range(16)], 64))
    b = correlate.spectra(windows([texture(rng, (64, 64)) for _ in range(16)], 64))
    found = correlate.peaks(a, b, correlate.band(a, b, 1.0), search=16)
    assert float(found.confidence.mean()) < 0.2


def test_coherence_gives_no_weight_where_only_noise_is(rng):
    base = [texture(rng, (64, 64), 4.0) for _ in range(32)]
    noisy = [
        [b + 0.3 * b.std() * rng.standard_normal((64, 64)).astype("f4") for b in base]
        for _ in (0, 1)
    ]
    a, b = (correlate.spectra(windows(n, 64)) for n in noisy)
    w, _ = correlate.coherent(a, b, torch.zeros(32, 2), torch.ones(32, dtype=torch.bool))
    low, high = float(w[0, 2:6].mean()), float(w[0, 22:].mean())
    assert high < 0.02 * low


def test_a_masked_part_does_not_count(rng):
    base = [texture(rng, (64, 64)) for _ in range(4)]
    spoiled = [b.copy() for b in base]
    for s in spoiled:
        s[:, 40:] = 50.0
    weight = torch.ones(4, 64, 64)
    weight[:, :, 38:] = 0
    a = correlate.spectra(windows(base, 64), weight)
    b = correlate.spectra(windows(spoiled, 64), weight)
    found = correlate.peaks(a, b, correlate.band(a, b, 1.0), search=16)
    assert np.abs(found.shift.numpy()).max() < 0.1


def test_windows_are_cut_where_asked(rng):
    image = torch.arange(12 * 20, dtype=torch.float32).reshape(12, 20)
    out = correlate.cut(image, np.array([0, 3]), np.array([5, 16]), 4)
    np.testing.assert_array_equal(out[1].numpy(), image[3:7, 16:20].numpy())


def test_good_sizes_are_even_and_smooth():
    assert [correlate.good_size(n) for n in (1, 7, 64, 97, 127)] == [2, 8, 64, 100, 128]


def test_a_window_tells_the_more_the_more_two_images_agree(rng):
    base = [texture(rng, (64, 64), 2.0) for _ in range(32)]
    there = torch.ones(32, dtype=torch.bool)

    def information(noise: float) -> float:
        a, b = (
            correlate.spectra(
                windows([b + noise * b.std() * texture(rng, (64, 64), 0.3) for b in base], 64)
            )
            for _ in (0, 1)
        )
        return correlate.coherent(a, b, torch.zeros(32, 2), there)[1]

    quiet, loud, lost = (information(noise) for noise in (0.3, 1.0, 30.0))
    assert quiet > 2 * loud > 0
    assert lost < 0.05 * loud


def test_the_shift_of_b_against_a_is_that_of_a_against_b_read_backwards(rng):
    """So a left-right check of windows cut at one place could never fail."""
    image = torch.as_tensor(rng.standard_normal((1, 70, 70)), dtype=torch.float32)
    windows = [image[:, 3 + d : 51 + d, 5:53] for d in (0, 4)]
    a, b = (correlate.spectra(w) for w in windows)
    weights = correlate.band(a, b, 1.5)
    there = correlate.peaks(a, b, weights, search=12)
    back = correlate.peaks(b, a, weights, search=12)
    assert torch.allclose(there.shift, -back.shift, atol=1e-3)
    assert abs(float(there.shift[0, 0]) + 4) < 0.3
