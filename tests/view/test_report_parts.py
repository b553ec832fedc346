"""Plots, slices and surfaces of the report, against what they must show."""

import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import petavox as pv
from petavox.errors import BadInput
from petavox.view.report import effort, parts, shots, surfaces, svg, svg_blocks
from petavox.view.status import STATUSES, Blocks
from petavox.volume import opening, pyramid
from tests.neuron import precomputed

from . import projects
from .conftest import BOX, ID, OBJECT, SIZE


def drawn(text):
    """The elements of a plot; it must be well-formed."""
    return list(ET.fromstring(text).iter())


def kinds(text, tag):
    return [e for e in drawn(text) if e.tag == tag]


# ---- plots


@given(
    st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=50),
    st.booleans(),
)
def test_a_histogram_counts_every_value(values, log):
    text = svg.histogram({"a": values}, x="<x>", y="n", log=log)
    counts = [int(e.text.split(":")[0]) for e in drawn(text) if e.tag == "title"]
    assert sum(counts) == len(values)


def test_whole_numbers_have_a_bar_each():
    text = svg.histogram({"a": [1, 1, 1, 3]}, x="x", y="n")
    said = [e.text for e in drawn(text) if e.tag == "title"]
    assert said == ["3: 0.5 to 1.5", "1: 2.5 to 3.5"]


def test_nothing_gives_no_plot():
    assert svg.histogram({"a": [np.nan]}, x="x", y="n") == ""
    assert svg.lines({"a": ([1], [np.nan])}, x="x", y="y") == ""
    assert (
        svg_blocks.timeline([])
        == svg.bars([], x="x")
        == svg.matrix(np.zeros((2, 2)), x="", y="")
        == ""
    )


def test_a_curve_has_gaps_where_there_is_no_value():
    text = svg.lines({"a": (range(6), [1, 2, np.nan, 3, 4, 5])}, x="x", y="y")
    points = [len(e.get("points").split()) for e in kinds(text, "polyline")]
    assert points == [2, 3]


def test_a_timeline_cuts_pauses_out():
    # ten seconds, a pause of a day, ten more
    rows = [("a", [(0.0, 10.0)], [5.0]), ("b", [(86_410.0, 10.0)], [])]
    bars = [
        (float(e.get("x")), float(e.get("width"))) for e in kinds(svg_blocks.timeline(rows), "rect")
    ]
    assert bars[0][1] == pytest.approx(bars[1][1], abs=0.2)
    assert bars[1][0] == pytest.approx(bars[0][0] + bars[0][1], abs=0.2)


@given(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9), st.booleans())
def test_ticks_lie_on_their_axis(a, b, log):
    axis = svg.Axis.of(np.array([a, b]), log=log)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 12
    assert all(-0.01 <= axis.at(t) <= 1.01 for t in ticks)
    assert 0 <= axis.at(a) <= 1


def test_a_cell_of_many_blocks_shows_the_worst():
    grid = pv.Grid(pv.Box((0, 0, 0), (1, 50, 50)), (1, 1, 1))
    states = np.full(len(grid), STATUSES.index("done"), np.uint8)
    states[[0, 2499]] = STATUSES.index("failed"), STATUSES.index("todo")
    maps, said = effort.block_map(Blocks("a", grid, states, {}))
    (_, cells), *rest = maps
    assert rest == []
    assert "2 × 2" in said
    assert cells.shape == (25, 25)
    assert cells[0, 0] == STATUSES.index("failed")
    assert cells[24, 24] == STATUSES.index("todo")
    assert (cells.ravel()[1:-1] == STATUSES.index("done")).all()


# ---- numbers and sources


def test_a_number_stands_with_its_source():
    fact = parts.Fact("a<b", 1234.5, parts.Source("x/y.json", "k.l"), "px")
    for text in (parts.facts([fact]), parts.tiles([fact, None])):
        assert "a&lt;b" in text.lower()
        assert "1,234 px" in text or "1,235 px" in text
        assert 'href="x/y.json"' in text
        assert "k.l" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (True, "yes"), (12345, "12,345"), (0.123456, "0.1235"), (float("nan"), "–"),
     (1e-7, "1e-07"), ([1, 2], "1, 2"), ([], "none"), ({"a": 1.5}, "a 1.5"), (5e10, "5e+10")],
)  # fmt: skip
def test_values_as_people_write_them(value, text):
    assert parts.shown(value) == text


# ---- slices


@pytest.mark.parametrize("plane", ["xy", "xz", "yz"])
def test_a_slice_shows_the_voxels_at_their_places(pair, plane):
    labels = pv.open(pair.labels)
    inside = np.array([0.5, -3.0, 27.5]) * SIZE  # within the object
    third = shots.Field(plane, 0, (0, 0), (1, 1), 1).third
    field = shots.field(labels, plane, 400, at=float(inside[third]))
    got = shots.sample(labels, field)
    assert got.shape == field.shape
    # every pixel's middle lies in a voxel: is that voxel one of the object?
    down, across = shots.ROWS_COLUMNS[plane]
    expected = np.zeros(got.shape, bool)
    for j in range(got.shape[0]):
        for i in range(0, got.shape[1], 7):
            voxel = np.zeros(3)
            voxel[third] = field.at
            voxel[down] = field.low[0] + (j + 0.5) * field.nm
            voxel[across] = field.low[1] + (i + 0.5) * field.nm
            voxel = np.floor(voxel / SIZE)
            expected[j, i] = all(
                a <= v < b for a, v, b in zip(OBJECT.start, voxel, OBJECT.stop, strict=True)
            )
    np.testing.assert_array_equal((got == ID)[:, ::7], expected[:, ::7])
    # in true proportion: as long as the box is
    long = [n * s for n, s in zip(BOX.shape, SIZE, strict=True)]
    assert got.shape[0] / got.shape[1] == pytest.approx(long[down] / long[across], rel=0.02)


def test_a_slice_takes_the_level_that_is_fine_enough(tmp_path):
    values = np.zeros((4, 64, 64), np.uint8)
    values[:, ::2] = 200
    made = pv.create(
        tmp_path / "a", box=pv.Box((0, 0, 0), (4, 64, 64)), voxel_size=(40, 4, 4), dtype="uint8",
        kind="image", chunk=(4, 16, 16), shard=(4, 64, 64),
    )  # fmt: skip
    made.write(made.box, values)
    pyramid.build(tmp_path / "a", smallest=16, quiet=True)
    opening.finish(made, {})
    volume = pv.open(tmp_path / "a")
    fine = shots.sample(volume, shots.field(volume, "xy", 64))
    assert set(np.unique(fine)) == {0, 200}
    coarse = shots.sample(volume, shots.field(volume, "xy", 32))
    assert set(np.unique(coarse)) == {100}


def test_outside_of_a_volume_a_slice_is_0(pair):
    image = pv.open(pair.image)
    place = np.array([-100.0, 0.0, 1e6])
    field = shots.Field("xy", -100.0, (0.0, 1e6), (100.0, 1e6 + 100), 10.0)
    assert not shots.sample(image, field).any()
    # a field about a place is moved into the volume
    moved = shots.around(place, "xy", 100.0, 10, image)
    assert shots.sample(image, moved).all()


def test_a_scale_bar_is_as_long_as_it_says():
    rgb = shots.scale_bar(np.full((200, 400, 3), 90, np.uint8), 5.0)
    # 400 px of 5 nm: 28 % is 560 nm, so a bar of 500 nm, 100 px
    row = rgb[-8]
    assert (row == 255).all(-1).sum() == 101


def test_pngs_are_small_and_say_the_same():
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2).repeat(8, 0)
    got = np.asarray(Image.open(io.BytesIO(shots.png(grey))).convert("RGB")).astype(int)
    assert np.abs(got - grey).max() <= 3
    noise = np.random.default_rng(1).integers(0, 255, (512, 512, 1), np.uint8).repeat(3, 2)
    assert len(shots.png(noise)) < 512 * 512 * 0.95


# ---- surfaces


def test_meshes_are_read_as_their_format_says(tmp_path):
    folder = projects.meshes()
    got = surfaces.Meshes(folder).read(ID)
    vertices, faces, _ = precomputed.mesh(folder, ID)
    np.testing.assert_allclose(got.vertices, vertices, rtol=1e-5, atol=1e-2)
    np.testing.assert_array_equal(got.faces, faces)
    assert surfaces.Meshes(folder).read(12345) is None
    with pytest.raises(BadInput, match="no meshes"):
        surfaces.Meshes(tmp_path)


def box_surface(low, high):
    """A box of twelve triangles, outward."""
    corners = np.array([[(low, high)[b][k] for k, b in enumerate(n)] for n in np.ndindex(2, 2, 2)])
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))]
    return surfaces.Surface(corners.astype(float), np.array(faces))


@pytest.mark.parametrize("turned", [False, True])
def test_a_box_is_drawn_with_its_silhouette_and_colour(turned):
    box = box_surface((0, 0, 0), (200, 100, 50))
    if turned:  # faces that look inward: which side is out is found
        box = surfaces.Surface(box.vertices, box.faces[:, ::-1])
    rgba = surfaces.render([box], np.array([[200, 30, 30]], np.uint8), (240, 160), view=(0, 0))
    assert rgba.shape == (160, 240, 4)
    rows, columns = np.nonzero(rgba[..., 3] > 127)
    assert np.ptp(columns) / np.ptp(rows) == pytest.approx(2.0, abs=0.03)
    assert np.ptp(columns) + 1 == pytest.approx(0.96 * 240, abs=2)
    assert len(rows) == pytest.approx(np.ptp(columns) * np.ptp(rows), rel=0.05)
    middle = rgba[80, 120]
    assert middle[0] > 90
    assert middle[0] > 2 * middle[1]


def test_what_is_nearer_hides_what_is_farther():
    # z runs away from the reader
    near, far = box_surface((0, 0, 0), (50, 50, 10)), box_surface((0, 0, 60), (50, 50, 70))
    paint = np.array([[220, 20, 20], [20, 20, 220]], np.uint8)
    for order in ([0, 1], [1, 0]):
        both = [(near, far)[i] for i in order]
        rgba = surfaces.render(both, paint[order], (80, 80), view=(0, 0))
        assert rgba[40, 40, 0] > 2 * rgba[40, 40, 2]
