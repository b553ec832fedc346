"""A 16-bit isotropic volume that looks like x-ray, through the commands one after another."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from petavox import volume
from petavox.cli.app import app
from petavox.ffn.model import save_model
from petavox.phantom import tissue
from petavox.space import Box
from tests.ffn.brightness import brightness_spec, brightness_weights

SHAPE = (28, 40, 44)
NM = ("20", "20", "20")


def petavox(*arguments) -> dict:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    lines = [x for x in done.stdout.splitlines() if x.startswith("{")]
    return json.loads(lines[-1]) if lines else {}


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("xray")
    made = tissue(Box.of_shape(SHAPE), (20, 20, 20), 5, "x-ray")
    assert made.image.dtype == np.uint16
    assert made.image.max() > 255 * 100
    tifffile.imwrite(folder / "xray.tif", made.image)
    # the greys of this network are 16-bit too: brighter than the median is inside
    spec = brightness_spec(fov=(5, 5, 5), deltas=(1, 1, 1)).model_copy(
        update={"image_mean": 27000.0, "image_std": 1500.0, "voxel_size": (20, 20, 20)}
    )
    save_model(folder / "model.safetensors", spec, brightness_weights())
    return folder, made.image


def test_import_keeps_every_voxel(chain):
    folder, image = chain
    petavox("import", folder / "xray.tif", folder / "image.zarr", "--voxel-size", *NM, "--json")
    got = volume.open(folder / "image.zarr")
    assert got.dtype == np.uint16
    assert tuple(got.voxel_size) == (20, 20, 20)
    assert np.array_equal(got.read(), image)
    assert petavox("info", folder / "image.zarr", "--json")["dtype"] == "uint16"


def test_qc_judges_every_section(chain):
    folder, image = chain
    petavox("qc", folder / "image.zarr", folder / "qc", "--aligned", "--json")
    rows = (folder / "qc" / "sections.csv").read_text().splitlines()
    assert len(rows) == 1 + len(image)
    shown = volume.open(folder / "qc" / "render.zarr").read()
    assert shown.mean() > 0.99  # sound tissue: nothing is masked for its sixteen bits


def test_segment_floods_sixteen_bits(chain):
    folder, image = chain
    # in so small a box a neurite may well be half of it, which is no leak
    (folder / "segment.yaml").write_text("flood: {max_object_share: 1.0}")
    figures = petavox(
        "segment", folder / "image.zarr", folder / "objects.zarr", "--model",
        folder / "model.safetensors", "--seeds", "grid", "--precision", "f32", "--device", "cpu",
        "--settings", folder / "segment.yaml",
        "--json",
    )  # fmt: skip
    labels = volume.open(folder / "objects.zarr").read()
    assert figures["objects"] >= 1
    # the network calls inside what is bright, and nothing else
    inside = image[labels > 0]
    assert len(inside) > 500
    assert np.percentile(inside, 1) > 26500


def test_mesh_of_its_objects(chain):
    folder, _ = chain
    figures = petavox("mesh", folder / "objects.zarr", folder / "meshes", "--json")
    assert figures["objects"] >= 1
    assert (folder / "meshes" / "info").is_file()


def test_view_as_a_folder_for_any_web_server(chain):
    folder, _ = chain
    petavox(
        "view", folder / "image.zarr", folder / "meshes", "--labels", folder / "objects.zarr",
        "--static", folder / "site", "--url", "http://localhost:1/site",
    )  # fmt: skip
    kept = [json.loads(p.read_text()) for p in (folder / "site").rglob("zarr.json")]
    assert {"uint16", "uint64"} <= {k.get("data_type") for k in kept}
