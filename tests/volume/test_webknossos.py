"""A webKnossos dataset is read back by its own datasource-properties.json, without petavox.

The tables below are those of the published specification of that file (webknossos-libs).
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorstore as ts
from typer.testing import CliRunner

import petavox as pv
from petavox.cli.app import app
from petavox.errors import AlreadyExists, BadInput
from petavox.space import Box
from petavox.volume.export import export_volume
from petavox.volume.opening import create, finish

DATASET = {"id", "scale", "dataLayers", "version"}
LAYER = {"name", "category", "boundingBox", "elementClass", "dataFormat", "numChannels", "mags"}
ELEMENTS = {
    "color": {"uint8", "uint16", "uint24", "uint32", "int8", "int16", "int32", "float"},
    "segmentation": {"uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"},
}


def stored(path, values, kind, start=(0, 0, 0), voxel_size=(20, 10, 10)):
    box = Box.of_shape(values.shape, start)
    made = create(path, box=box, voxel_size=voxel_size, dtype=values.dtype, kind=kind)
    made.write(box, values)
    finish(made, {})
    return pv.open(path)


def read_as_webknossos(dataset):
    """(layer, mag) -> voxels (x, y, z) of the bounding box, as the json says where they lie."""
    said = json.loads((dataset / "datasource-properties.json").read_text())
    assert set(said) == DATASET
    assert said["version"] == 1
    assert set(said["id"]) == {"name", "team"}
    assert said["scale"]["unit"] == "nanometer"
    out = {}
    for layer in said["dataLayers"]:
        assert set(layer) - {"largestSegmentId"} == LAYER
        assert layer["elementClass"] in ELEMENTS[layer["category"]]
        assert layer["dataFormat"] == "zarr3"
        box = layer["boundingBox"]
        assert set(box) == {"topLeft", "width", "height", "depth"}
        low = np.array(box["topLeft"])
        high = low + np.array([box["width"], box["height"], box["depth"]])
        for mag in layer["mags"]:
            factor = np.array(mag["mag"])
            place = (dataset / mag["path"]).resolve()
            spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{place}/"}}
            array = ts.open(spec).result()
            order = [mag["axisOrder"][k] for k in "xyz"]
            a, b = low // factor, -(-high // factor)
            voxels = array.transpose(order)[a[0] : b[0], a[1] : b[1], a[2] : b[2]]
            name = {"float32": "float"}.get(array.dtype.name, array.dtype.name)
            assert name == layer["elementClass"]
            out[layer["name"], tuple(mag["mag"])] = voxels.read().result()
    return said, out


def test_image_and_objects_become_layers_that_lie_on_each_other(tmp_path, rng):
    image = stored(
        tmp_path / "i", rng.integers(0, 255, (9, 150, 141), np.uint8), "image", (-3, 7, 1)
    )
    ids = rng.integers(0, 1 << 40, (5, 40, 50), np.uint64)
    labels = stored(tmp_path / "l", ids, "labels", (-1, 20, 4))
    for source, name in ((image, "em"), (labels, "cells")):
        export_volume(source, str(tmp_path / "d" / name), format="webknossos", quiet=True)
    said, voxels = read_as_webknossos(tmp_path / "d")
    assert said["scale"]["factor"] == [10.0, 10.0, 20.0]
    first, second = said["dataLayers"]
    assert (first["name"], first["category"], first["elementClass"]) == ("em", "color", "uint8")
    assert second["boundingBox"] == {"topLeft": [3, 13, 2], "width": 50, "height": 40, "depth": 5}
    assert second["largestSegmentId"] == int(ids.max())
    np.testing.assert_array_equal(voxels["em", (1, 1, 1)].T, image.read())
    np.testing.assert_array_equal(voxels["cells", (1, 1, 1)].T, ids)
    # the coarser level halves x and y; z is twice as thick already
    coarse = voxels["em", (2, 2, 1)].T
    assert coarse.shape == (9, 75, 71)
    four = image.read()[:, :150, :140].astype(float).reshape(9, 75, 2, 70, 2).mean((2, 4))
    np.testing.assert_array_equal(coarse[:, :, :70], np.floor(four + 0.5))


def test_a_layer_replaced_or_refused_leaves_the_others(tmp_path, rng):
    labels = stored(tmp_path / "l", rng.integers(0, 9, (4, 5, 6), np.uint32), "labels")
    target = str(tmp_path / "d" / "cells")
    export_volume(labels, target, format="webknossos", quiet=True)
    with pytest.raises(AlreadyExists, match="has a layer 'cells'"):
        export_volume(labels, target, format="webknossos", quiet=True)
    part = Box((0, 1, 0), (4, 5, 6))
    export_volume(labels, target, format="webknossos", box=part, overwrite=True, quiet=True)
    said, voxels = read_as_webknossos(tmp_path / "d")
    assert [layer["name"] for layer in said["dataLayers"]] == ["cells"]
    np.testing.assert_array_equal(voxels["cells", (1, 1, 1)].T, labels.read(part))
    with pytest.raises(BadInput, match="begins before voxel"):
        export_volume(labels, str(tmp_path / "d" / "all"), format="webknossos", quiet=True)
    other = stored(tmp_path / "o", np.ones((4, 5, 6), np.uint8), "image", voxel_size=(10, 10, 10))
    with pytest.raises(BadInput, match="one voxel size"):
        export_volume(other, str(tmp_path / "d" / "em"), format="webknossos", quiet=True)


@pytest.mark.parametrize(
    ("values", "kind", "name", "said"),
    [
        (np.full((2, 2, 2), 1 << 53, np.uint64), "labels", "ids", "renumber the objects"),
        (np.ones((2, 2, 2), np.uint64), "image", "em", "holds uint8, uint16, uint32, float32"),
        (np.ones((2, 2, 2), np.uint8), "image", "e m", "no name for a layer"),
    ],
)
def test_what_webknossos_cannot_hold_is_refused(tmp_path, values, kind, name, said):
    source = stored(tmp_path / "v", values, kind)
    with pytest.raises(BadInput, match=said):
        export_volume(source, str(tmp_path / "d" / name), format="webknossos", quiet=True)
    assert not (tmp_path / "d" / "datasource-properties.json").exists()


def test_a_folder_of_other_things_is_not_made_a_dataset(tmp_path):
    source = stored(tmp_path / "v", np.ones((2, 2, 2), np.uint8), "image")
    with pytest.raises(BadInput, match="no webKnossos dataset"):
        export_volume(source, str(tmp_path / "em"), format="webknossos", quiet=True)


def test_the_command_makes_a_dataset(tmp_path):
    stored(tmp_path / "v", np.ones((2, 3, 4), np.uint8), "image")
    words = ["export", str(tmp_path / "v"), str(tmp_path / "d" / "em"), "--format", "webknossos"]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.strip().splitlines()[-1])["dataset"] == str(tmp_path / "d")
    read_as_webknossos(tmp_path / "d")
