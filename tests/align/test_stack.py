"""Stacks of sections with known distortions: aligned, whatever was done to them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage as ndi

from petavox.align import stack, warp
from petavox.align.frames import Field, Lattice
from petavox.align.texture import texture

SIZE = 320


def tissue(seed: int, size: int, sections: int = 1) -> np.ndarray:
    """(sections, size, size) float32, 40..220; neighbours are alike, far ones are not."""
    rng = np.random.default_rng(seed)
    shape = (sections + 12, size, size)
    fields = [
        ndi.gaussian_filter(rng.standard_normal(shape).astype("f4"), (3, 9, 9)) for _ in range(5)
    ]
    stack = np.stack(fields)[:, 6 : 6 + sections]
    stack /= stack.std()
    order = np.sort(stack, 0)
    margin = order[-1] - order[-2]
    out = 130 + 12 * stack.argmax(0)
    out = out - 100 * np.exp(-((margin / 0.12) ** 2))
    grain = ndi.gaussian_filter(rng.standard_normal(shape).astype("f4"), (1.5, 1.5, 1.5))[
        6 : 6 + sections
    ]
    return (out + 8 * grain / grain.std()).astype(np.float32)


def bent(image: np.ndarray, pull) -> np.ndarray:
    """The image seen through a function of points (n, 2) -> (n, 2), uint8; 0 outside."""
    h, w = image.shape
    p = np.stack(np.meshgrid(np.arange(h), np.arange(w), indexing="ij"), -1).reshape(-1, 2)
    q = pull(p.astype(float)).T
    values = ndi.map_coordinates(image, q, order=3, mode="constant", cval=0.0)
    inside = ((q >= 0) & (q <= np.array([[h - 1], [w - 1]]))).all(0)
    return np.where(inside, np.clip(values, 1, 255), 0).reshape(h, w).astype(np.uint8)


class Arrays:
    """A Source of arrays in memory."""

    def __init__(self, images):
        self.images = images

    def shape(self, k):
        return self.images[k].shape

    def level(self, k, factor):
        image, valid = warp.average_down(self.images[k], self.images[k] > 0, factor)
        return image, valid

    def texture(self, k, factor):
        return texture(*self.level(k, factor))


def turned(degrees: float, shift, flip: bool = False) -> Field:
    t = np.deg2rad(degrees)
    m = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]) @ np.diag(
        [1, -1 if flip else 1]
    )
    c = np.array([SIZE / 2, SIZE / 2])
    return Field.affine(m, c - m @ c + shift)


def wavy(rng, size: float) -> Field:
    lattice = Lattice((-160.0, -160.0), 160.0, (5, 5))
    return Field(lattice=lattice, displacement=size * rng.standard_normal((5, 5, 2)))


def aligned(images, truths, **more):
    result = stack.align(
        Arrays(images), sorted(images), stack.AlignSettings(window=8, margin=3), **more
    )
    axis = np.arange(100, 221, 12.0)
    u = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    # section pixel s shows tissue at truth(s): the tissue point u lies at the inverse
    lattice = Lattice.covering((60, 60), (260, 260), 10.0)
    places = {k: result.fields[k](truths[k].inverse(lattice)(u)) for k in result.fields}
    known = sorted(places)
    steps = [
        np.linalg.norm(places[b] - places[a], axis=1).mean() for a, b in itertools.pairwise(known)
    ]
    return result, np.array(steps)


@pytest.fixture(scope="module")
def sections():
    return tissue(5, SIZE, 7)


def test_shifts_rotations_and_waves_are_undone_to_a_pixel(sections):
    rng = np.random.default_rng(0)
    lattice = Lattice.covering((-40, -40), (360, 360), 20.0)
    truths = {
        k: wavy(rng, 1.5).after(turned(rng.uniform(-4, 4), rng.uniform(-9, 9, 2)), lattice)
        for k in range(5)
    }
    images = {k: bent(sections[k], t) for k, t in truths.items()}
    result, steps = aligned(images, truths)
    assert not result.failures
    assert steps.mean() < 1.0
    assert not result.order


def test_a_section_upside_down_and_one_flipped_are_found(sections):
    truths = {
        0: turned(0, 0),
        1: turned(170, (4, -3)),
        2: turned(2, (0, 5)),
        3: turned(-20, (3, 3), flip=True),
        4: turned(0, 0),
    }
    images = {k: bent(sections[k], t) for k, t in truths.items()}
    result, steps = aligned(images, truths)
    assert not result.failures
    assert steps.max() < 2.0
    assert any("flipped" in n for n in result.notes)
    assert any("rotated by" in n for n in result.notes)


def test_a_lost_section_is_bridged_and_one_of_noise_is_told(sections):
    truths = {k: turned(0, (k, -k)) for k in (0, 1, 3, 4, 6)}
    images = {k: bent(sections[k], t) for k, t in truths.items()}
    noise = np.random.default_rng(1).integers(1, 255, (SIZE, SIZE)).astype(np.uint8)
    said: list[str] = []
    result, steps = aligned(images | {5: noise}, truths, say=said.append)
    assert set(result.failures) == {5}
    assert any("section 5 FAILED" in line for line in said)
    assert steps.max() < 1.5


def test_swapped_sections_are_reported(sections):
    order = [0, 1, 3, 2, 4, 5, 6]
    truths = {k: turned(0, (0, 0)) for k in range(7)}
    images = {k: bent(sections[j], truths[k]) for k, j in enumerate(order)}
    result, _ = aligned(images, truths)
    assert result.order == order


def test_added_sections_leave_the_solved_ones_alone(sections):
    truths = {k: turned(k, (k, 2 * k)) for k in range(5)}
    images = {k: bent(sections[k], t) for k, t in truths.items()}
    first, _ = aligned({k: images[k] for k in range(3)}, truths)
    result, steps = aligned(images, truths, fixed=first.fields)
    p = np.array([[50.0, 60.0], [200.0, 100.0]])
    for k in range(3):
        np.testing.assert_array_equal(result.fields[k](p), first.fields[k](p))
    assert steps.max() < 1.5


def test_one_section_alone_stays_where_it_is(sections):
    result, _ = aligned({3: bent(sections[3], turned(0, (0, 0)))}, {3: turned(0, (0, 0))})
    assert not result.failures
    p = np.array([[50.0, 60.0]])
    np.testing.assert_allclose(result.fields[3](p), p, atol=1e-6)


def test_two_sections_of_sixteen_bits_are_aligned(sections):
    truths = {0: turned(0, (0, 0)), 1: turned(3, (6, -4))}
    images = {k: bent(sections[k], t).astype(np.uint16) * 200 for k, t in truths.items()}
    _, steps = aligned(images, truths)
    assert steps.max() < 1.0
