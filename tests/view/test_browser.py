"""`petavox view` in real Chromium: what is drawn, and where."""

import dataclasses
import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import petavox as pv
from petavox.cli.app import app
from petavox.errors import MissingExtra, WorkFailed
from petavox.view import browser, volumes
from petavox.view.chunks import VolumeChunks
from petavox.view.layers import AnnotationLayer, ImageLayer, Source
from petavox.view.scene import Scene
from petavox.view.server import Server

from .conftest import BOX, ID, OBJECT

WINDOW = (480, 360)
BARE = {"showUIControls": False, "showPanelBorders": False}
PIXELS = 10  # of one voxel of 10 nm


@pytest.fixture
def chromium():
    try:
        return browser.chromium()
    except MissingExtra as e:
        pytest.skip(f"no browser to test in: {e}")


def drawn(shown, server, *, layout="xy", more=()):
    """The scene at 10 pixels a voxel of 10 nm, the object red; as an RGB array."""
    scene = volumes.scene(shown, server, layout=layout, size=WINDOW, more=more)
    layers = [
        dataclasses.replace(x, colours={ID: "#ff0000"}, opacity=1.0)
        if x.kind == "segmentation"
        else x
        for x in scene.layers
    ]
    scene = dataclasses.replace(scene, layers=layers, nm_per_pixel=1.0, bare=True)
    page = server.page(scene.fragment())
    picture = browser.screenshot(page, size=WINDOW, layers=[x.name for x in layers])
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)


def pixel_of(y, x):
    """Where the corner of voxel (y, x) is in the picture: the middle of the window shows the
    centre of the middle voxel."""
    middle = [(a + b) // 2 + 0.5 for a, b in zip(BOX.start, BOX.stop, strict=True)]
    return (
        WINDOW[1] / 2 + (y - middle[1]) * PIXELS,
        WINDOW[0] / 2 + (x - middle[2]) * PIXELS,
    )


@pytest.mark.browser
@pytest.mark.parametrize("pair", ["HDF5", "ome-zarr", "precomputed"], indirect=True)
def test_layers_are_drawn_at_their_places(pair, chromium):
    with Server(config=BARE) as server:
        picture = drawn(volumes.opened([pair.image, pair.labels]), server)
        assert server.failures == []
    assert picture.shape == (*WINDOW[::-1], 3)
    red, green, blue = np.moveaxis(picture, 2, 0)
    # the object: red, and its edges on the corners of its voxels
    is_object = (red > 200) & (green < 60) & (blue < 60)
    is_object[:70, :30] = False  # the letters of the axes lie there
    rows, columns = np.nonzero(is_object)
    top, left = pixel_of(*OBJECT.start[1:])
    bottom, right = pixel_of(*OBJECT.stop[1:])
    found = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
    assert found == pytest.approx([top, left, bottom, right], abs=1)
    # above the object only the image is drawn: dark on the left, bright on the right of the middle
    row = picture[int(pixel_of(OBJECT.start[1] - 3, 0)[0])]
    border = round(pixel_of(0, BOX.start[2] + 20)[1])
    assert (np.abs(row[border - 100 : border - 2] - 30) <= 2).all()
    assert (np.abs(row[border + 2 : border + 100] - 220) <= 2).all()


@pytest.mark.browser
def test_the_command_writes_a_picture_that_is_not_blank(pair, tmp_path, chromium):
    file = tmp_path / "view.png"
    words = ["view", pair.image, "--labels", pair.labels, "--size", "640x480"]
    got = CliRunner().invoke(app, [*words, "--screenshot", str(file), "--json"])
    assert got.exit_code == 0, got.stderr
    figures = json.loads(got.stdout)
    assert figures["layers"] == ["image", "labels"]
    picture = np.asarray(Image.open(file).convert("RGB"))
    assert picture.shape == (480, 640, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
    again = CliRunner().invoke(app, [*words, "--screenshot", str(file)])
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr


@pytest.mark.browser
def test_points_are_drawn_and_a_layer_that_cannot_load_is_an_error(pair, tmp_path, chromium):
    with Server(config=BARE) as server:
        shown = volumes.opened([pair.image])
        middle = [((a + b) // 2 + 0.5) for a, b in zip(BOX.start, BOX.stop, strict=True)]
        nm = [m * s for m, s in zip(middle, shown[0].volume.voxel_size, strict=True)]
        notes = AnnotationLayer("notes", points=[(nm, "here")], colour="#00ff00")
        picture = drawn(shown, server, more=[notes])
        centre = picture[WINDOW[1] // 2 - 4 : WINDOW[1] // 2 + 5]
        assert ((centre[..., 1] > 200) & (centre[..., 0] < 60)).any()
        broken = dataclasses.replace(
            notes, name="broken", sources=[Source(f"precomputed://{server.add(tmp_path)}")]
        )
        with pytest.raises(WorkFailed, match="broken"):
            drawn(shown, server, more=[broken])


@pytest.mark.browser
def test_the_picture_waits_for_slow_chunks(pair, chromium):
    class Slow(VolumeChunks):
        def get(self, name):
            time.sleep(1.0)
            return super().get(name)

    image = volumes.opened([pair.image])[0].volume
    with Server(config=BARE) as server:
        source = Source(f"precomputed://{server.add(Slow([image], labels=False))}")
        scene = Scene([ImageLayer("slow", [source])], BOX, image.voxel_size, layout="xy")
        page = server.page(dataclasses.replace(scene, size=WINDOW, bare=True).fragment())
        picture = browser.screenshot(page, size=WINDOW, layers=["slow"])
    values = np.asarray(Image.open(io.BytesIO(picture)).convert("L")).astype(int)
    middle = values[WINDOW[1] // 2]
    assert np.abs(middle[WINDOW[0] // 4] - 30) <= 2
    assert np.abs(middle[3 * WINDOW[0] // 4] - 220) <= 2


@pytest.mark.browser
@pytest.mark.parametrize("layout", ["xy", "4panel"])
def test_a_hidden_layer_that_never_loads_does_not_hold_the_picture(pair, chromium, layout):
    with socket.create_server(("127.0.0.1", 0)) as silent, Server(config=BARE) as server:
        port = silent.getsockname()[1]  # takes connections and never answers
        hidden = AnnotationLayer(
            "hidden", [Source(f"precomputed://http://127.0.0.1:{port}/none")], visible=False
        )
        scene = volumes.scene(volumes.opened([pair.image]), server, layout=layout, size=WINDOW)
        scene = dataclasses.replace(scene, layers=[hidden, *scene.layers], bare=True)
        page = server.page(scene.fragment())
        picture = browser.screenshot(page, size=WINDOW, layers=["image"])
    values = np.asarray(Image.open(io.BytesIO(picture)).convert("L")).astype(int)
    assert (np.abs(values - 220) <= 2).sum() > 500


@pytest.mark.browser
def test_data_that_cannot_be_read_are_an_error_not_a_picture(pair, chromium):
    class Torn(VolumeChunks):
        def get(self, name):
            if name == "info":
                return super().get(name)
            raise OSError("the disk is gone")

    image = volumes.opened([pair.image])[0].volume
    with Server(config=BARE) as server:
        source = Source(f"precomputed://{server.add(Torn([image], labels=False))}")
        scene = Scene([ImageLayer("torn", [source])], BOX, image.voxel_size, size=WINDOW)
        page = server.page(scene.fragment())
        with pytest.raises(WorkFailed, match="the disk is gone"):
            browser.screenshot(page, size=WINDOW, layers=["torn"], server=server)


def test_without_a_browser_it_serves_until_stopped(pair):
    words = [sys.executable, "-m", "petavox", "view", pair.image, "--no-browser"]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # a suite started in the background passes on that Ctrl-C is to be ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        page = process.stdout.readline().strip()
        with urllib.request.urlopen(page.split("#")[0], timeout=30) as answer:
            assert b"neuroglancer" in answer.read()
        state = json.loads(urllib.parse.unquote(page.split("#!")[1]))
        assert [x["name"] for x in state["layers"]] == ["image"]
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "Ctrl-C" in said


def test_a_missing_chromium_says_how_to_install_it(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("PETAVOX_CHROMIUM", raising=False)
    with pytest.raises(MissingExtra, match="apt install chromium"):
        browser.chromium()
    monkeypatch.setenv("PETAVOX_CHROMIUM", "/nowhere/chrome")
    with pytest.raises(MissingExtra, match="/nowhere/chrome"):
        browser.chromium()


def test_a_chromium_that_dies_is_an_error_with_its_last_words(monkeypatch, tmp_path):
    program = tmp_path / "chromium"
    program.write_text("#!/bin/sh\necho cannot open display >&2\nexit 1\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PETAVOX_CHROMIUM", os.fspath(program))
    with pytest.raises(WorkFailed, match="cannot open display"):
        browser.screenshot("about:blank", size=(64, 64), layers=[], timeout=5)


BAD = {
    "nothing": ([], "nothing to view"),
    "missing file": (["nowhere.zarr"], "nowhere.zarr"),
    "layout": (["IMAGE", "--layout", "6panel"], "6panel"),
    "size": (["IMAGE", "--size", "big"], "WxH"),
    "size of nothing": (["IMAGE", "--size", "0x0"], "WxH"),
    "no png": (["IMAGE", "--screenshot", "a.gif"], ".png"),
    "port": (["IMAGE", "--port", "99999", "--no-browser"], "--port"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence(name, pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words, expected = BAD[name]
    before = set(tmp_path.iterdir())
    got = CliRunner().invoke(app, ["view", *(pair.image if w == "IMAGE" else w for w in words)])
    assert got.exit_code == 2
    assert expected in got.stderr
    assert set(tmp_path.iterdir()) == before


def test_the_pair_is_what_the_tests_say(pair):
    image, labels = pv.open(pair.image), pv.open(pair.labels)
    assert image.box == labels.box == BOX
    assert (labels[OBJECT.slices()] == ID).all()
