from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from petavox.errors import BadInput
from petavox.phantom import Body, connectome, skeletons, tissue
from petavox.phantom.drawing import CLEFT, MITO, NUCLEUS, POST, PRE
from petavox.phantom.tissue import world_of
from petavox.space import Box

SEED, NM = 3, (8.0, 8.0, 8.0)
BIG = Box((-30, 20, -40), (50, 105, 45))


@pytest.fixture(scope="module")
def big():
    return tissue(BIG, NM, SEED)


@pytest.fixture(scope="module")
def sites():
    """Synapses of ten cubic micrometres, found at coarse voxels: they do not depend on those."""
    return tissue(Box((0, 0, 0), (24, 110, 110)), (30.0, 30.0, 30.0), SEED, "x-ray").synapses


def same(part, whole):
    at = part.box.slices(whole.box.start)
    return all(
        np.array_equal(getattr(part, k), getattr(whole, k)[at])
        for k in ("image", "labels", "classes")
    )


@settings(max_examples=8, deadline=None)
@given(
    st.tuples(st.integers(-30, 45), st.integers(20, 100), st.integers(-40, 40)),
    st.tuples(*[st.integers(1, 24)] * 3),
)
def test_any_box_alone_equals_the_same_region_of_a_larger_one(big, start, shape):
    box = Box.of_shape(shape, start).intersection(BIG)
    assert same(tissue(box, NM, SEED), big)


def test_a_new_process_would_give_the_same(big):
    world_of.cache_clear()
    assert same(tissue(Box((-5, 31, -8), (12, 50, 9)), NM, SEED), big)


@pytest.mark.parametrize(
    ("look", "size"), [("serial-section", (40.0, 8.0, 8.0)), ("x-ray", (30.0, 30.0, 30.0))]
)
def test_blocks_meet_without_a_seam_in_every_look(look, size):
    whole = tissue(Box((-4, -9, 5), (5, 30, 40)), size, SEED, look)
    assert same(tissue(Box((-1, -2, 11), (2, 15, 30)), size, SEED, look), whole)
    assert same(tissue(Box((0, 3, 20), (1, 4, 21)), size, SEED, look), whole)


def test_synapses_cross_the_faces_of_boxes_without_a_seam(sites):
    for s in sites[:3]:
        at = np.floor(s.position / 8).astype(int)
        whole = tissue(Box(tuple(at - 16), tuple(at + 17)), NM, SEED)
        assert (whole.classes == CLEFT).any()
        for axis in range(3):
            stop = at + 17
            stop[axis] = at[axis] - 1
            assert same(tissue(Box(tuple(at - 16), tuple(stop)), NM, SEED), whole)


def test_seeds_and_places_differ(big):
    box = Box((0, 30, 0), (16, 46, 16))
    assert not np.array_equal(tissue(box, NM, SEED + 1).image, big.image[box.slices(BIG.start)])
    assert not np.array_equal(
        tissue(box.shifted((0, 0, 16)), NM, SEED).image, big.image[box.slices(BIG.start)]
    )


def test_every_voxel_has_a_neurite_and_each_is_in_one_piece_but_for_the_crop(big):
    assert (big.labels != 0).all()
    loose = 0
    for neurite in np.unique(big.labels):
        parts, n = ndimage.label(big.labels == neurite, np.ones((3, 3, 3)))
        for s in ndimage.find_objects(parts) if n > 1 else []:
            # a part that touches the rim may be joined to the others outside
            loose += all(q.start > 0 and q.stop < m for q, m in zip(s, parts.shape, strict=True))
    assert loose == 0


def test_skeleton_nodes_lie_in_their_own_label(big):
    s = skeletons(BIG, NM, SEED)
    voxel = np.floor(s.nodes / np.array(NM)).astype(int) - np.array(BIG.start)
    assert len(s.nodes) > 50
    assert (big.labels[tuple(voxel.T)] == s.ids).all()
    assert (s.ids[s.edges[:, 0]] == s.ids[s.edges[:, 1]]).all()
    length = np.linalg.norm(s.nodes[s.edges[:, 0]] - s.nodes[s.edges[:, 1]], axis=1)
    assert length.max() < 250


def test_skeletons_are_trees_and_each_neurite_of_a_large_region_is_one():
    box = Box((0, 0, 0), (300, 300, 300))
    s = skeletons(box, NM, SEED)
    for neurite in np.unique(s.ids).tolist():
        one = s.of(neurite)
        n = len(one.nodes)
        links = np.zeros((n, n), bool)
        links[one.edges[:, 0], one.edges[:, 1]] = True
        reached, parts = np.zeros(n, bool), 0
        for i in range(n):
            if not reached[i]:
                parts += 1
                stack = [i]
                while stack:
                    j = stack.pop()
                    if not reached[j]:
                        reached[j] = True
                        stack += np.flatnonzero(links[j] | links[:, j]).tolist()
        assert len(one.edges) == n - parts  # no loops


def test_synapses_join_neighbours_and_show_their_classes(sites):
    assert len(sites) > 5
    assert {len(s.posts) > 1 for s in sites} == {True, False}
    for s in sites[:4]:
        at = np.floor(s.position / 8).astype(int)
        t = tissue(Box(tuple(at - 22), tuple(at + 23)), NM, SEED)
        assert [x.id for x in t.synapses if x.id == s.id] == [s.id]
        near_pre = ndimage.binary_dilation(t.labels == s.pre, np.ones((3, 3, 3)), iterations=2)
        for post in s.posts:
            assert (near_pre & (t.labels == post)).any()
        # the part of the cleft at the position itself lies between the partners
        places = (np.argwhere(t.classes == CLEFT) + np.array(t.box.start) + 0.5) * 8
        d = np.linalg.norm(places - s.position, axis=1)
        nearest = t.labels[t.classes == CLEFT][d.argsort()[:10]]
        assert d.min() < 20
        assert set(nearest.tolist()) <= {s.pre, *s.posts}
        assert {CLEFT, PRE, POST} <= set(np.unique(t.classes).tolist())
        assert (t.labels[t.classes == PRE] == s.pre).any()


def test_synapses_do_not_depend_on_voxels_or_boxes(sites):
    s = sites[0]
    # the world is where it was: half a voxel from the centre of voxel 0, of 30 nm and of 40, 8, 8
    place = s.position - 15 + np.array([20, 4, 4])
    at = np.floor(place / np.array([40, 8, 8])).astype(int)
    t = tissue(Box(tuple(at - 1), tuple(at + 2)), (40.0, 8.0, 8.0), SEED, "serial-section")
    again = next(x for x in t.synapses if x.id == s.id)
    assert (again.pre, again.posts) == (s.pre, s.posts)
    assert np.allclose(again.position, place)


def test_the_connectome_counts_pairs(sites):
    wires = connectome(sites)
    assert sum(wires.values()) == sum(len(s.posts) for s in sites)
    s = sites[0]
    assert wires[s.pre, s.posts[0]] >= 1


def test_grey_levels_membranes_and_mitochondria_are_dark(big):
    inner = big.labels
    wall = np.zeros(inner.shape, bool)
    for axis in range(3):
        a = np.moveaxis(inner, axis, 0)
        np.moveaxis(wall, axis, 0)[1:] |= a[1:] != a[:-1]
    plain = ~ndimage.binary_dilation(wall, iterations=4) & (big.classes == 0)
    assert big.image[plain].mean() > big.image[wall].mean() + 25
    assert big.image[plain].mean() > big.image[big.classes == MITO].mean() + 25


def test_a_soma_and_a_vessel_are_where_they_were_put():
    bodies = (
        Body("soma", (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 900.0),
        Body("vessel", (-9000.0, 0.0, 2500.0), (9000.0, 0.0, 2500.0), 600.0),
    )
    t = tissue(Box((-6, -8, -8), (6, 8, 8)), (30.0, 30.0, 30.0), SEED, bodies=bodies)
    assert (t.labels == 1).mean() > 0.99
    assert (t.classes == NUCLEUS).mean() > 0.9
    v = tissue(Box((-4, -3, 80), (4, 3, 86)), (30.0, 30.0, 30.0), SEED, bodies=bodies)
    assert (v.labels == 2).all()


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        ({"box": Box((0, 0, 0), (0, 4, 4))}, "holds no voxel"),
        ({"look": "tem"}, "look 'tem' is not known"),
        ({"grain": 5.0}, "grain is 5.0"),
        ({"scale": 0.0}, "scale is 0.0"),
        ({"synapse_density": 2.0}, "synapse_density is 2.0"),
        ({"voxel_size": (8.0, 8.0)}, "two|has 2 numbers"),
    ],
)
def test_impossible_requests_are_told_with_their_value(given_, says):
    with pytest.raises(BadInput, match=says):
        tissue(**({"box": Box((0, 0, 0), (4, 4, 4)), "voxel_size": NM, "seed": 1} | given_))
