import json

import numpy as np
import pytest

from petavox.ffn import seeds


def slab(shape=(20, 30, 40)):
    """Bright for x in 8..31, dark on both sides; edges at 7, 8 and 31, 32."""
    image = np.zeros(shape, np.uint8)
    image[:, :, 8:32] = 200
    return image


def test_seeds_lie_midway_between_edges_and_in_order():
    found = seeds.peaks(slab())
    assert len(found)
    assert set(found[:, 2].tolist()) <= {19, 20}
    assert [tuple(p) for p in found] == sorted(tuple(p) for p in found)


def test_seeds_are_the_same_every_time_and_leave_the_global_generator_alone():
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    first, second = seeds.peaks(slab()), seeds.peaks(slab())
    assert (first == second).all()
    assert (np.random.get_state()[1] == before).all()


def test_a_masked_half_has_no_seeds():
    mask = np.zeros((20, 30, 40), bool)
    mask[:, :, 20:] = True
    found = seeds.peaks(slab(), mask=mask)
    assert len(found)
    assert set(found[:, 2].tolist()) <= {13, 14}  # midway between the edge at 8 and the mask


def test_seeds_per_section_cover_every_section():
    found = seeds.peaks_2d(slab())
    assert set(found[:, 0].tolist()) == set(range(20))


def test_seeds_fill_only_what_is_empty():
    taken = np.zeros((16, 16, 32), np.int32)
    taken[:, :, :16] = 3
    rim = np.ones(taken.shape, bool)
    rim[4:-4, 4:-4, 4:-4] = False
    found = seeds.fill_empty(taken, mask=rim)
    assert len(found)
    assert (taken[tuple(found.T)] == 0).all()
    assert not rim[tuple(found.T)].any()


def test_distance_is_measured_in_nm():
    """A gap 5 voxels deep along z, 13 along y: at 40 nm sections z is the wide way out."""
    taken = np.ones((21, 21, 41), np.int32)
    taken[8:13, 4:17, 5:36] = 0
    iso = seeds.fill_empty(taken, (1, 1, 1))
    thick = seeds.fill_empty(taken, (40, 4, 4))
    assert (iso[:, 0] == 10).all()
    assert set(thick[:, 1].tolist()) == {10}


@pytest.mark.parametrize("shape", [(0, 4, 4), (1, 1, 1), (5, 5, 5)])
def test_a_picture_with_nothing_to_see_has_no_seeds(shape):
    assert seeds.peaks(np.zeros(shape, np.float32)).shape == (0, 3)


def test_a_grid_starts_where_told():
    assert seeds.grid((3, 5, 5), (2, 2, 3), (1, 1, 1)).tolist() == [
        [1, 1, 1], [1, 1, 4], [1, 3, 1], [1, 3, 4],
    ]  # fmt: skip


def test_every_published_origin_is_a_seed_in_the_published_order(real_data):
    import h5py

    with h5py.File(real_data("fib25/training_sample2.h5")) as f:
        image = (f["raw"][:].astype(np.float32) - 128) / 33
    origins = json.loads(real_data("fib25/reference_origins.json").read_text())
    place = {tuple(p): i for i, p in enumerate(seeds.peaks(image, (10, 10, 10)).tolist())}
    order = [place[tuple(origins[str(i)]["seed_zyx"])] for i in range(1, 255)]
    assert order == sorted(order)
