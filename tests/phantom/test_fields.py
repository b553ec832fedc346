from __future__ import annotations

import numpy as np
import pytest

from petavox.phantom.capsules import Capsules
from petavox.phantom.fields import (
    CAP,
    WARP_REACH,
    nearest,
    unwarp_points,
    warp_points,
    warped,
)
from petavox.space import Box


def some_capsules(rng, n, span):
    a = rng.uniform(-200, span + 200, (n, 3))
    b = a + rng.normal(0, 80, (n, 3))
    ids = np.sort(rng.integers(1, max(2, n // 3), n)).astype(np.uint64)
    return Capsules(
        a, b, rng.uniform(5, 60, n), rng.uniform(5, 60, n), ids, ids, np.zeros(n, np.int8)
    )


def brute(points, caps):
    """Straight from the definition, one capsule and one neurite at a time, float64."""
    each = {}
    for a, b, ra, rb, i in zip(caps.a, caps.b, caps.ra, caps.rb, caps.id.tolist(), strict=True):
        ab = b - a
        t = np.clip((points - a) @ ab / max(ab @ ab, 1e-9), 0, 1)
        f = np.linalg.norm(points - a - t[:, None] * ab, axis=1) - (ra + t * (rb - ra))
        each[i] = np.minimum(each.get(i, np.inf), f)
    ids = np.array(list(each))
    table = np.stack([each[i] for i in ids])
    order = np.sort(table, axis=0)
    return ids[table.argmin(0)], order[0], order[1] - order[0]


@pytest.mark.parametrize(
    ("box", "size"),
    [
        (Box((-3, 2, -7), (10, 15, 4)), (8.0, 8.0, 8.0)),
        (Box((-2, 5, 0), (3, 28, 31)), (40.0, 4.6, 4.6)),
        (Box((0, 0, 0), (1, 1, 1)), (30.0, 30.0, 30.0)),
    ],
)
def test_nearest_and_second_are_those_of_the_definition(rng, box, size):
    caps = some_capsules(rng, 60, 300)
    got = nearest(box, size, caps, seed=3)
    axes = [np.arange(a, b) * v for a, b, v in zip(box.start, box.stop, size, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    ids, f, margin = brute(warp_points(3, 1.0, grid), caps)
    clear = margin > 0.01  # at a tie either may win
    assert np.array_equal(caps.id[got.first].reshape(-1)[clear], ids[clear])
    assert np.allclose(got.depth.reshape(-1), f, atol=0.02)
    assert np.allclose(got.margin.reshape(-1), np.minimum(margin, CAP), atol=0.02)
    assert (got.second.reshape(-1)[margin > CAP + 0.01] == -1).all()


def test_one_neurite_alone_has_no_second(rng):
    caps = some_capsules(rng, 4, 50)
    caps = Capsules(caps.a, caps.b, caps.ra, caps.rb, np.ones(4, np.uint64), caps.key, caps.kind)
    got = nearest(Box((0, 0, 0), (3, 4, 5)), (8.0, 8.0, 8.0), caps, seed=1)
    assert (got.second == -1).all()
    assert (got.margin == CAP).all()


def test_warping_and_unwarping_cancel(rng):
    p = rng.uniform(-3000, 3000, (200, 3))
    assert np.abs(warp_points(9, 1.0, unwarp_points(9, 1.0, p)) - p).max() < 0.05
    assert np.abs(warp_points(9, 1.0, p) - p).max() < WARP_REACH


def test_shifts_of_voxels_are_those_of_points():
    shift = warped(4, 1.0, (-2, 3, 5), (3, 4, 5), (40.0, 8.0, 8.0))
    axes = [np.arange(-2, 1) * 40.0, np.arange(3, 7) * 8.0, np.arange(5, 10) * 8.0]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    p = np.stack([z, y, x], -1).reshape(-1, 3)
    assert np.allclose(np.stack(shift, -1).reshape(-1, 3), warp_points(4, 1.0, p) - p, atol=1e-3)
