"""What the viewer's server answers, and how a volume is cut into chunks."""

import gzip
import http.client
import json
import urllib.parse
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import petavox as pv
from petavox.errors import BadInput, MissingExtra, NotComplete
from petavox.view import server, volumes
from petavox.view.chunks import VolumeChunks
from petavox.volume import Kind, Volume


class InMemory:
    """A store over an array."""

    def __init__(self, values, start):
        self.values, self.box = values, pv.Box.of_shape(values.shape, start)
        self.dtype, self.write_shape = values.dtype, values.shape

    def read(self, box):
        return self.values[box.slices(self.box.start)]

    def write(self, box, values):
        raise AssertionError("a viewer does not write")


def volume(values, start=(0, 0, 0), size=(8.0, 8.0, 8.0), kind=Kind.IMAGE):
    store = InMemory(values, start)
    return Volume(store, path="memory", voxel_size=pv.VoxelSize(*size), kind=kind, format="memory")


@pytest.fixture
def http_server():
    with server.Server() as running:
        yield running


def get(running, path, **headers):
    where = urllib.parse.urlsplit(running.address)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=10)
    connection.request(headers.pop("method", "GET"), path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def path_of(url):
    return urllib.parse.urlsplit(url).path


def test_the_client_is_served_from_this_machine(http_server):
    answer, body = get(http_server, path_of(http_server.page("")))
    assert answer.status == 200
    assert b"neuroglancer" in body
    script = body.split(b'src="')[1].split(b'"')[0].decode()
    answer, _ = get(http_server, path_of(http_server.page("")) + script)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/javascript")


def test_files_are_served_whole_and_in_ranges(http_server, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(bytes(range(100)))
    path = path_of(http_server.add(tmp_path)) + "/a/b"
    answer, body = get(http_server, path)
    assert (answer.status, len(body)) == (200, 100)
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    for asked, first, stop in (
        ("10-19", 10, 20),
        ("90-", 90, 100),
        ("-5", 95, 100),
        ("0-999", 0, 100),
    ):
        answer, body = get(http_server, path, Range=f"bytes={asked}")
        assert answer.status == 206
        assert answer.headers["Content-Range"] == f"bytes {first}-{stop - 1}/100"
        assert body == bytes(range(first, stop))
    answer, _ = get(http_server, path, Range="bytes=100-")
    assert answer.status == 416
    answer, body = get(http_server, path, method="HEAD")
    assert (answer.headers["Content-Length"], body) == ("100", b"")


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 20))
def test_a_range_is_what_slicing_gives(first, last, size):
    data = bytes(range(size))
    expected = data[first : last + 1]
    if not expected or last < first:
        with pytest.raises(ValueError, match="bytes"):
            server.byte_range(f"bytes={first}-{last}", size)
    else:
        start, stop = server.byte_range(f"bytes={first}-{last}", size)
        assert data[start:stop] == expected


def test_gzipped_twins_say_so(http_server, tmp_path):
    (tmp_path / "c.gz").write_bytes(gzip.compress(b"chunk"))
    answer, body = get(http_server, path_of(http_server.add(tmp_path)) + "/c")
    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == b"chunk"


def test_nothing_outside_a_folder_or_without_the_secret_is_served(http_server, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_text("no")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "secret")
    base = path_of(http_server.add(tmp_path / "in"))
    (tmp_path / "in" / "file").write_text("yes")
    assert get(http_server, base + "/file")[0].status == 200
    for path in (
        base + "/../secret",
        base + "/%2e%2e/secret",
        base + "//" + str(tmp_path / "secret"),
        base + "/link",
        base + "/",
        base[:-1] + "7/file",
        base.replace(http_server.token, "guess") + "/file",
        "/",
        "/etc/passwd",
    ):
        assert get(http_server, path)[0].status == 404, path


def test_a_chunk_that_fails_is_an_error_not_an_empty_chunk(http_server):
    class Broken:
        def get(self, name):
            raise OSError("disk gone")

    answer, body = get(http_server, path_of(http_server.add(Broken())) + "/info")
    assert (answer.status, body) == (500, b"disk gone")
    assert http_server.failures == ["OSError: disk gone"]


def test_a_port_in_use_is_refused(http_server):
    port = urllib.parse.urlsplit(http_server.address).port
    with pytest.raises(BadInput, match=str(port)):
        server.Server(port=port)


def test_a_missing_client_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(server.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"petavox\[view\]"):
        server.client_folder()


# ---- chunks made on demand


def whole(source, index=0):
    """A level put together from all of its chunks, as a client would read it; zyx."""
    info = json.loads(source.get("info")[0])
    scale = info["scales"][index]
    size, start, chunk = scale["size"], scale["voxel_offset"], scale["chunk_sizes"][0]
    out = np.zeros(size[::-1], info["data_type"])
    for z in range(0, size[2], chunk[2]):
        for y in range(0, size[1], chunk[1]):
            for x in range(0, size[0], chunk[0]):
                low = (x, y, z)
                high = [min(a + c, n) for a, c, n in zip(low, chunk, size, strict=True)]
                name = "_".join(
                    f"{a + s}-{b + s}" for a, b, s in zip(low, high, start, strict=True)
                )
                data, _ = source.get(f"{scale['key']}/{name}")
                shape = [b - a for a, b in zip(low, high, strict=True)][::-1]
                values = np.frombuffer(data, info["data_type"]).reshape(shape)
                out[z : high[2], y : high[1], x : high[0]] = values
    return out, scale


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_chunks_hold_the_voxels_of_an_image(rng, dtype):
    values = (rng.random((9, 70, 130)) * 200).astype(dtype)
    got, scale = whole(VolumeChunks([volume(values, (-5, 3, -70), (40, 4, 4))], labels=False))
    np.testing.assert_array_equal(got, values)
    assert scale["voxel_offset"] == [-70, 3, -5]
    assert scale["resolution"] == [4, 4, 40]


@pytest.mark.parametrize(("dtype", "served"), [("uint8", "uint32"), ("uint64", "uint64")])
def test_labels_are_served_as_uint32_or_uint64(rng, dtype, served):
    values = rng.integers(0, np.iinfo(dtype).max, (5, 6, 7), dtype, endpoint=True)
    source = VolumeChunks([volume(values)], labels=True)
    info = json.loads(source.get("info")[0])
    assert (info["type"], info["data_type"]) == ("segmentation", served)
    np.testing.assert_array_equal(whole(source)[0], values)


def test_a_large_volume_without_a_pyramid_gets_coarser_levels(rng):
    values = rng.integers(0, 255, (4, 6, 601), np.uint8)
    source = VolumeChunks([volume(values, (1, -3, 5), (40, 10, 10))], labels=False)
    # z is 4 times as long: y and x are halved twice before it
    assert [s.factors for s in source.scales] == [(1, 1, 1), (1, 2, 2), (1, 4, 4)]
    got, scale = whole(source, 2)
    # x of the level covers voxels 4..7 first, of which 5, 6, 7 exist: the first is repeated
    first = np.pad(values, ((0, 0), (1, 1), (1, 2)), mode="edge")
    assert scale["voxel_offset"] == [1, -1, 1]
    expected = first.reshape(4, 2, 4, -1, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(got, np.rint(expected))


def test_coarser_labels_are_ids_that_are_there(rng):
    values = rng.choice(np.array([1, 100], np.uint32), (4, 4, 600))
    source = VolumeChunks([volume(values, kind=Kind.LABELS)], labels=True)
    got, _ = whole(source, 1)
    np.testing.assert_array_equal(got, values[::2, ::2, ::2])


@pytest.mark.parametrize(
    "name", ["", "9/0-4_0-4_0-4", "0/0-9_0-4_0-4", "0/4-0_0-4_0-4", "0/0-4_0-4", "../info", "0/x"]
)
def test_what_is_no_chunk_is_not_there(name):
    assert VolumeChunks([volume(np.zeros((4, 4, 4), np.uint8))], labels=False).get(name) is None


def test_reading_errors_reach_the_client():
    class Torn(InMemory):
        def read(self, box):
            raise OSError("torn")

    torn = Volume(
        Torn(np.zeros((4, 4, 4), np.uint8), (0, 0, 0)),
        path="x",
        voxel_size=pv.VoxelSize(1, 1, 1),
        kind=Kind.IMAGE,
        format="memory",
    )
    with pytest.raises(OSError, match="torn"):
        VolumeChunks([torn], labels=False).get("0/0-4_0-4_0-4")


# ---- which layers, from which sources


@pytest.mark.parametrize("pair", ["ome-zarr", "precomputed"], indirect=True)
def test_native_formats_are_served_as_their_files(pair, http_server):
    layers = volumes.layers(volumes.opened([pair.labels, pair.image]), http_server)
    assert [x.kind for x in layers] == ["image", "segmentation"], "labels lie on top"
    for layer, path in zip(layers, (pair.image, pair.labels), strict=True):
        url = layer.sources[0].url.split("://", 1)[1]
        name = "info" if layer.sources[0].url.startswith("precomputed") else "zarr.json"
        served = get(http_server, path_of(url) + f"/{name}")[1]
        assert served == (Path(path) / name).read_bytes()


def test_other_formats_and_forced_labels_are_served_as_chunks(pair, http_server):
    shown = volumes.opened([pair.image], [pair.image])
    image, labels = volumes.layers(shown, http_server)
    assert (image.kind, labels.kind) == ("image", "segmentation")
    assert image.name != labels.name
    for layer, kind in ((image, "uint8"), (labels, "uint32")):
        url = path_of(layer.sources[0].url.removeprefix("precomputed://"))
        assert json.loads(get(http_server, url + "/info")[1])["data_type"] == kind


def objects(folder, kind):
    """A folder that calls itself meshes or skeletons."""
    folder.mkdir()
    (folder / "info").write_text(json.dumps({"@type": kind}))
    return str(folder)


def test_meshes_and_skeletons_go_to_the_labels(pair, http_server, tmp_path):
    mesh = objects(tmp_path / "mesh", "neuroglancer_multilod_draco")
    skeletons = objects(tmp_path / "skeletons", "neuroglancer_skeletons")
    shown = volumes.opened([pair.image, mesh, skeletons], [pair.labels], selected=[7])
    image, labels = volumes.layers(shown, http_server)
    assert len(image.sources) == 1
    assert labels.state()["segments"] == ["7"]
    for source, folder in zip(labels.sources[1:], (mesh, skeletons), strict=True):
        served = get(http_server, path_of(source.url.removeprefix("precomputed://")) + "/info")[1]
        assert served == (Path(folder) / "info").read_bytes()


def test_objects_without_labels_or_unfinished_are_refused(pair, tmp_path):
    mesh = objects(tmp_path / "mesh", "neuroglancer_multilod_draco")
    with pytest.raises(BadInput, match="labels"):
        volumes.opened([pair.image, mesh])
    with pytest.raises(BadInput, match="--select"):
        volumes.opened([pair.image], selected=[1])
    (tmp_path / "mesh" / "petavox.json").write_text('{"state": "writing"}')
    with pytest.raises(NotComplete):
        volumes.opened([pair.labels, mesh])


def test_nothing_to_view_and_floats_as_labels_are_refused(tmp_path):
    with pytest.raises(BadInput, match="nothing to view"):
        volumes.opened([])
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["a"] = np.zeros((3, 3, 3), np.float32)
    with pytest.raises(BadInput, match="float32"):
        volumes.opened([], [f"{tmp_path}/a.h5/a"], (8, 8, 8))
