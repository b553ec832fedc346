"""States as Neuroglancer reads them."""

import json
import urllib.parse

import pytest

import petavox as pv
from petavox.view.layers import AnnotationLayer, ImageLayer, SegmentationLayer, Source
from petavox.view.scene import LAYOUTS, Scene

BOX = pv.Box((0, 10, -20), (50, 110, 180))
SIZE = pv.VoxelSize(40, 4, 8)


def test_dimensions_and_position_are_xyz():
    state = Scene([], BOX, SIZE).state()
    assert list(state["dimensions"]) == ["x", "y", "z"]
    assert [s for s, _ in state["dimensions"].values()] == pytest.approx([8e-9, 4e-9, 40e-9])
    # the centre of voxel z 25, y 60, x 80
    assert state["position"] == [80.5, 60.5, 25.5]
    assert Scene([], BOX, SIZE, at=(1, 2, 3)).state()["position"] == [3.5, 2.5, 1.5]


def test_the_box_fits_the_window():
    # 2000 x 400 x 1600 nm (zyx); one section in 800 x 400 pixels: x decides
    one = Scene([], BOX, SIZE, layout="xy", size=(800, 400))
    assert one.fitting() == pytest.approx(1.02 * 2.0)
    # panels of 400 x 200: z along y of the xz panel decides
    four = Scene([], BOX, SIZE, size=(800, 400))
    assert four.fitting() == pytest.approx(1.02 * 10.0)
    # Neuroglancer counts in the smallest voxel edge
    assert one.state()["crossSectionScale"] == pytest.approx(one.fitting() / 4)
    for layout in LAYOUTS:
        assert Scene([], BOX, SIZE, layout=layout).fitting() > 0


def test_fragment_is_the_state_quoted():
    scene = Scene([ImageLayer("a b#c", [Source("precomputed://x")])], BOX, SIZE)
    text = scene.fragment()
    assert text.startswith("!")
    assert "#" not in text
    assert json.loads(urllib.parse.unquote(text[1:])) == json.loads(json.dumps(scene.state()))


def test_a_shifted_source_names_its_axes_in_the_datas_order():
    state = Source("zarr3://x", SIZE, (0.5, 0.25, 0.0), "zyx").state()
    assert state["transform"]["matrix"] == [[1, 0, 0, 0.5], [0, 1, 0, 0.25], [0, 0, 1, 0]]
    assert list(state["transform"]["outputDimensions"]) == ["z", "y", "x"]
    assert "transform" not in Source("precomputed://x").state()


def test_ids_above_2_to_the_53_are_kept():
    big = 2**64 - 1
    state = SegmentationLayer("s", selected=[big], colours={big: "#ff0000"}).state()
    assert state["segments"] == [str(big)]
    assert state["segmentColors"] == {str(big): "#ff0000"}


def test_meshes_are_a_further_source_of_a_segmentation():
    layer = SegmentationLayer(
        "s", [Source("precomputed://a"), Source("precomputed://b", subsources={"mesh": True})]
    )
    sources = layer.state()["source"]
    assert sources[1]["subsources"] == {"mesh": True}
    assert sources[1]["enableDefaultSubsources"] is False


def test_annotations_are_in_nm_xyz():
    layer = AnnotationLayer("n", points=[((1, 2, 3), "split")], lines=[((0, 0, 0), (1, 2, 3), "")])
    point, line = layer.state()["annotations"]
    assert (point["point"], point["description"]) == ([3.0, 2.0, 1.0], "split")
    assert (line["pointA"], line["pointB"]) == ([0, 0, 0], [3, 2, 1])
    assert layer.state()["source"][-1]["transform"]["outputDimensions"]["x"] == [1e-9, "m"]


def test_hidden_layers_say_so():
    assert ImageLayer("a", visible=False).state()["visible"] is False
    assert "visible" not in ImageLayer("a").state()
