"""The shift that is left between sections: known moves, blanks, and what cannot be told."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage as ndi

from petavox.align.shift import ShiftSettings, shift_field
from petavox.errors import BadInput

SMALL = ShiftSettings(patch=32, step=16, reach=6)


def texture(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Smooth noise: no part looks like another."""
    return ndi.gaussian_filter(rng.normal(size=shape), 2.0).astype(np.float32)


def seen(image: np.ndarray) -> np.ndarray:
    return np.ones(image.shape, bool)


@pytest.mark.parametrize("move", [(0.0, 0.0), (3.0, -2.0), (-1.5, 0.75)])
def test_a_known_move_is_found_everywhere_with_its_sign(rng, move):
    a = texture(rng, (120, 150))
    b = ndi.shift(a, move, order=3, mode="nearest")  # b at p + move shows a at p
    got = shift_field(a[None], b[None], seen(a)[None], seen(a)[None], settings=SMALL)
    inner = got.shift[0, :, 1:-1, 1:-1]
    assert np.abs(inner[0] - move[0]).max() < 0.25
    assert np.abs(inner[1] - move[1]).max() < 0.25
    assert got.shift.shape == (1, 2, 8, 10)


def test_masked_and_plain_correlation_agree_where_all_is_valid(rng):
    import torch

    from petavox.align import shift as module

    a, b = (torch.from_numpy(rng.normal(size=(3, n, n)).astype(np.float32)) for n in (32, 44))
    plain = module._plain_ncc(a, b, SMALL)
    masked, cover = module._masked_ncc(a, torch.ones_like(a), b, torch.ones_like(b), SMALL)
    assert torch.allclose(plain, masked, atol=1e-4)
    assert np.allclose(cover, 1)


def test_correlation_equals_numpys_at_every_shift(rng):
    import torch

    from petavox.align import shift as module

    a, b = rng.normal(size=(32, 32)), rng.normal(size=(44, 44))
    got = module._plain_ncc(
        torch.from_numpy(a.astype(np.float32))[None],
        torch.from_numpy(b.astype(np.float32))[None],
        SMALL,
    )[0].numpy()
    for y, x in ((0, 0), (6, 6), (12, 3)):
        oracle = np.corrcoef(a.ravel(), b[y : y + 32, x : x + 32].ravel())[0, 1]
        assert got[y, x] == pytest.approx(oracle, abs=1e-4)


def test_a_slip_of_one_half_is_seen_only_there(rng):
    a = texture(rng, (128, 128))
    b = a.copy()
    b[:, 64:] = np.roll(a, 5, axis=0)[:, 64:]
    got = shift_field(a[None], b[None], seen(a)[None], seen(a)[None], settings=SMALL)
    assert np.abs(got.shift[0, 0, 1:-1, :3]).max() < 0.3
    assert np.abs(got.shift[0, 0, 1:-1, 6:] - 5).max() < 0.3


def test_blank_areas_have_no_shift_and_no_trust(rng):
    a = texture(rng, (128, 128))
    valid = seen(a)
    valid[:, :64] = False
    got = shift_field(a[None], a[None], seen(a)[None], valid[None], settings=SMALL)
    assert not got.trusted[0, :, :3].any()
    assert (got.shift[0, :, :, :3] == 0).all()
    assert got.trusted[0, 1:-1, 5:-1].all()


def test_tissue_that_does_not_match_at_all_may_not_be_crossed(rng):
    a, b = texture(rng, (160, 160)), rng.normal(size=(160, 160))
    strict = SMALL.model_copy(update={"least_peak": 0.5})
    got = shift_field(a[None], b[None], seen(a)[None], seen(a)[None], settings=strict)
    assert not got.trusted.any()
    assert (got.magnitude >= SMALL.reach).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (7, 5), (0, 10)])
def test_tiny_sections_give_a_grid_of_their_size(rng, shape):
    a = rng.integers(0, 65536, shape).astype(np.uint16)
    got = shift_field(a[None], a[None], seen(a)[None], seen(a)[None], settings=SMALL)
    assert got.shift.shape == (1, 2, -(-shape[0] // 16), -(-shape[1] // 16))
    assert np.isfinite(got.shift).all()


def test_sixteen_bit_values_lose_nothing(rng):
    a = (texture(rng, (96, 96)) * 40 + 60000).astype(np.uint16)
    b = np.roll(a, 2, axis=1)
    got = shift_field(a[None], b[None], seen(a)[None], seen(a)[None], settings=SMALL)
    assert np.abs(got.shift[0, 1, 1:-1, 1:-1] - 2).max() < 0.3


def test_shapes_that_differ_are_refused():
    a = np.zeros((1, 8, 8))
    with pytest.raises(BadInput, match="all must be one"):
        shift_field(a, a[:, :7], a > 0, a > 0)
