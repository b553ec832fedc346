"""A whole project in the viewer, on this machine and as a folder."""

import dataclasses
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from petavox.blocks.ledger import Ledger
from petavox.cli.app import app
from petavox.errors import BadInput, MissingExtra
from petavox.project import load
from petavox.space import Box, VoxelSize
from petavox.view import browser, static, volumes
from petavox.view import project as view
from petavox.view.annotations import POINT, Annotations
from petavox.view.layers import AnnotationLayer, Source
from petavox.view.scene import Scene
from petavox.view.server import Server, client_licence

from . import projects
from .conftest import ID, SIZE

WINDOW = (400, 400)


@pytest.fixture
def chromium():
    try:
        return browser.chromium()
    except MissingExtra as e:
        pytest.skip(f"no browser to test in: {e}")


class Kept:
    """Takes data and keeps them."""

    def __init__(self):
        self.sources = []

    def add(self, source):
        self.sources.append(source)
        return f"http://kept/{len(self.sources) - 1}"


def test_a_project_has_a_layer_for_each_of_its_results(tmp_path):
    folder = projects.project(tmp_path / "p")
    with Ledger(folder / "run" / "ledger.db") as ledger:
        grid = [[-3, -16, 7], [5, 14, 47], [8, 30, 20], [0, 0, 0]]
        ledger.begin("segment/segment-blocks", key="k", parts={"grid": grid}, total=2)
        ledger.begin("mesh/mesh objects", key="k", parts={"grid": grid}, total=2)
    project = load(folder)
    shown = view.volumes(project)
    host = Kept()
    scene = volumes.scene(shown, host, more=view.notes(project, shown, host))
    state = scene.state()
    layers = {x["name"]: x for x in state["layers"]}
    assert list(layers) == [
        "image", "objects", "neurons", "synapses", "blocks segment/segment-blocks",
    ]  # fmt: skip
    hidden = [name for name, x in layers.items() if x.get("visible") is False]
    assert hidden == ["objects", "blocks segment/segment-blocks"]
    # the largest neuron is there in 3-D, the others still show in slices
    assert layers["neurons"]["segments"] == [str(ID)]
    assert layers["neurons"]["notSelectedAlpha"] > 0
    assert len(layers["neurons"]["source"]) == 2
    assert layers["synapses"]["linkedSegmentationLayer"] == {"pre": "neurons", "post": "neurons"}


def test_what_is_not_finished_is_left_out(tmp_path):
    folder = projects.project(tmp_path / "p", meshed=False)
    projects.unfinished(folder / "neurons.zarr")
    shown = view.volumes(load(folder))
    assert [s.name for s in shown] == ["image", "objects"]
    assert shown[-1].visible
    (folder / "image.zarr" / "zarr.json").unlink()
    with pytest.raises(BadInput, match="nothing to view yet"):
        view.volumes(load(folder))


def test_files_that_do_not_say_their_voxel_size_have_that_of_the_project(tmp_path):
    shown = view.volumes(load(projects.unsized(tmp_path / "p")))
    assert [s.name for s in shown] == ["image", "mask m"]
    assert {tuple(s.volume.voxel_size) for s in shown} == {SIZE}
    host = Kept()
    first = volumes.scene(shown, host).state()["layers"][0]["source"]
    assert first[0]["url"].startswith("precomputed://")  # cut into chunks: the files have no size


def red(picture):
    """Pixels of the object, which is shown red."""
    rgb = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)
    found = (rgb[..., 0] > 60) & (rgb[..., 1] < 30) & (rgb[..., 2] < 30)
    found[:70, :30] = False  # the letters of the axes lie there
    return found


@pytest.mark.browser
def test_a_mesh_is_drawn_in_3d_and_a_static_folder_shows_the_same(tmp_path, chromium):
    project = load(projects.project(tmp_path / "p"))

    def scene(host):
        shown = view.volumes(project)
        whole = volumes.scene(shown[2:], host, layout="3d", size=WINDOW)
        (neurons,) = whole.layers
        coloured = dataclasses.replace(neurons, colours={ID: "#ff0000"})
        box = dataclasses.replace(whole, layers=[coloured], bare=True)
        # the middle of the object: voxels -2..3, -10..4, 20..35
        return dataclasses.replace(box, at=(0.5, -3.0, 27.5))

    with Server(config={"showUIControls": False, "showPanelBorders": False}) as server:
        page = server.page(scene(server).fragment())
        mesh = red(browser.screenshot(page, size=WINDOW, layers=["neurons"], server=server))
        assert server.failures == []
    # 15 x 16 voxels of 10 nm seen along z, about as high as wide, around the middle
    rows, columns = np.nonzero(mesh)
    assert rows.mean() == pytest.approx(WINDOW[1] / 2, abs=5)
    assert columns.mean() == pytest.approx(WINDOW[0] / 2, abs=5)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert height / width == pytest.approx(15 / 16, abs=0.05)
    assert mesh.sum() == pytest.approx(height * width, rel=0.05)
    assert height > 60

    out = tmp_path / "static"
    static.write(out, scene, title="p</title>")
    with Server() as server:
        page = f"{server.add(out)}/index.html"
        picture = browser.screenshot(page, size=WINDOW, layers=["neurons"], server=server)
        assert server.failures == []
    # with the controls around it the panel is smaller
    assert red(picture).sum() > mesh.sum() / 2


@pytest.mark.browser
def test_annotations_of_a_static_folder_are_drawn(tmp_path, chromium, rng):
    places = rng.uniform(0, 1000, (3000, 1, 3)) * (1, 0.5, 1)
    source = Annotations(POINT, places, limit=200)

    def scene(host):
        layer = AnnotationLayer(
            "dots", [Source(f"precomputed://{host.add(source)}")], colour="#ff0000"
        )
        box, size = Box((0, 0, 0), (100, 100, 100)), VoxelSize(10, 10, 10)
        return Scene([layer], box, size, layout="3d", size=WINDOW, bare=True)

    static.write(tmp_path / "static", scene)
    with Server() as server:
        page = f"{server.add(tmp_path / 'static')}/index.html"
        picture = browser.screenshot(page, size=WINDOW, layers=["dots"], server=server)
        assert server.failures == []
    shown = red(picture)[40:]
    middle = shown.shape[0] // 2 - 10
    assert shown[:middle].sum() > 2000  # y goes down, and the dots fill its upper half
    assert shown[middle + 40 :].sum() < 100


def test_a_static_folder_is_whole_and_names_no_machine(tmp_path):
    folder = projects.project(tmp_path / "p")
    out = tmp_path / "static"
    words = ["view", str(folder), "--static", str(out), "--url", "https://lab.example/a/", "--json"]
    got = CliRunner().invoke(app, words)
    assert got.exit_code == 0, got.stderr
    figures = json.loads(got.stdout)
    assert figures["link"] == "https://lab.example/a/index.html"
    assert figures["link_elsewhere"].endswith("#!https://lab.example/a/state.json")
    state = json.loads((out / "state.json").read_text())
    urls = [s["url"] if isinstance(s, dict) else s for x in state["layers"] for s in x["source"]]
    for url in urls:
        inside = re.search(r"https://lab\.example/a/(data/\d+)$", url)[1]
        names = ("info", "zarr.json")
        assert any((out / inside / name).is_file() for name in names), url
    assert (out / "v" / "static" / "LICENSE").read_text() == client_licence().read_text()
    assert "Apache License" in client_licence().read_text()
    assert not list(out.rglob("*.map"))
    text = (out / "index.html").read_text() + (out / "state.json").read_text()
    assert str(tmp_path) not in text
    assert "127.0.0.1" not in text
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr


def test_volumes_of_other_formats_become_files_in_a_static_folder(pair, tmp_path):
    out = tmp_path / "static"
    shown = volumes.opened([pair.image, pair.labels])
    static.write(out, lambda host: volumes.scene(shown, host))
    info = json.loads((out / "data" / "0" / "info").read_text())
    assert info["scales"][0]["size"] == [40, 30, 8]
    (chunk,) = [p for p in (out / "data" / "0" / "0").iterdir()]
    values = np.frombuffer(chunk.read_bytes(), np.uint8).reshape(8, 30, 40)
    np.testing.assert_array_equal(values, shown[0].volume.read())


BAD = {
    "picture too": (["--static", "s", "--screenshot", "a.png"], "one of them"),
    "address without folder": (["--url", "https://x"], "--static"),
    "no address": (["--static", "s", "--url", "lab/view"], "https://"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options_are_one_sentence(name, pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words, expected = BAD[name]
    got = CliRunner().invoke(app, ["view", pair.image, *words])
    assert got.exit_code == 2
    assert expected in got.stderr
    assert not (tmp_path / "s").exists()
