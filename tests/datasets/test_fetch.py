"""Fetching data sets, against a server on this machine."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from petavox.datasets import http as transfer
from petavox.datasets.catalogue import DataSet, catalogue, named, read
from petavox.datasets.fetch import fetch, write_bodies
from petavox.errors import BadInput, WorkFailed
from petavox.settings import parse

DATA = np.random.default_rng(7).bytes(3_000_000)


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; breaks off after `breaks` bytes of an answer, once for each number."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"/a.bin": DATA}
        self.breaks, self.requests, self.tag = [], [], '"one"'
        self.ranges, self.kind, self.status = True, "application/octet-stream", None

    def url(self, name):
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        s = self.server
        asked = self.headers.get("Range")
        s.requests.append(asked)
        data = s.files.get(self.path)
        if s.status or data is None:
            self.send_error(s.status or 404)
            return
        start = 0
        if asked and s.ranges and self.headers.get("If-Range") == s.tag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206)
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("Content-Type", s.kind)
        if s.tag:
            self.send_header("ETag", s.tag)
        self.end_headers()
        stop = start + s.breaks.pop(0) if s.breaks else len(data)
        self.wfile.write(data[start:stop])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as s:
        threading.Thread(target=s.serve_forever, args=(0.01,), daemon=True).start()
        yield s
        s.shutdown()


def a_set(server, data=DATA, **changes):
    file = {"name": "a.bin", "url": server.url("a.bin"), "sha256": hashlib.sha256(data).hexdigest()}
    values = {
        "name": "a", "what": "noise", "voxel_size": [8, 8, 8], "size": "3 MB", "licence": "CC0",
        "cite": "-", "volumes": {}, "read_in": "a test", "files": [file | changes],
    }  # fmt: skip
    return parse(DataSet, values, "test")


def go(wanted, folder, **options):
    waits = []
    return fetch(wanted, folder, wait=waits.append, quiet=True, **options), waits


def names(folder):
    return sorted(p.name for p in (folder / "a").iterdir())


def test_a_file_comes_whole_with_a_record_of_its_source(server, tmp_path):
    figures, waits = go(a_set(server), tmp_path)
    assert (tmp_path / "a" / "a.bin").read_bytes() == DATA
    assert names(tmp_path) == ["a.bin", "source.json"]
    record = json.loads((tmp_path / "a" / "source.json").read_text())
    assert record["files"]["a.bin"]["sha256"] == hashlib.sha256(DATA).hexdigest()
    assert record["set"]["licence"] == "CC0"
    assert figures["fetched_bytes"] == len(DATA)
    assert not waits


def test_a_broken_connection_is_continued_where_it_broke(server, tmp_path):
    server.breaks = [1_000_000, 500_000]
    figures, waits = go(a_set(server), tmp_path)
    assert (tmp_path / "a" / "a.bin").read_bytes() == DATA
    assert server.requests == [None, "bytes=1000000-", "bytes=1500000-"]
    assert figures["fetched_bytes"] == len(DATA)
    assert len(waits) == 2


def test_a_stopped_download_goes_on_in_the_next_call(server, tmp_path):
    server.breaks = [1_200_000, *[0] * transfer.ATTEMPTS]
    with pytest.raises(WorkFailed, match="goes on from there"):
        go(a_set(server), tmp_path)
    assert names(tmp_path) == [".a.bin.partial", ".a.bin.partial.json"]
    figures, _ = go(a_set(server), tmp_path)
    assert figures["fetched_bytes"] == len(DATA) - 1_200_000
    assert (tmp_path / "a" / "a.bin").read_bytes() == DATA


def test_a_server_that_is_not_there_leaves_nothing(tmp_path):
    with Server() as gone:
        wanted = a_set(gone)
    with pytest.raises(WorkFailed, match=r"could not be fetched.*--from FOLDER"):
        go(wanted, tmp_path)
    assert names(tmp_path) == []


def test_a_file_that_changed_meanwhile_is_begun_anew(server, tmp_path):
    server.breaks = [1_000_000]
    other = DATA[::-1]

    def changed(seconds):
        server.files["/a.bin"], server.tag = other, '"two"'

    fetch(a_set(server, other), tmp_path, wait=changed, quiet=True)
    assert (tmp_path / "a" / "a.bin").read_bytes() == other


@pytest.mark.parametrize("tag", [None, 'W/"weak"'])
def test_without_a_strong_tag_nothing_is_continued(server, tmp_path, tag):
    server.tag, server.breaks = tag, [1_000_000]
    go(a_set(server), tmp_path)
    assert server.requests == [None, None]
    assert (tmp_path / "a" / "a.bin").read_bytes() == DATA


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    server.ranges, server.breaks = False, [1_000_000]
    figures, _ = go(a_set(server), tmp_path)
    assert figures["fetched_bytes"] == 1_000_000 + len(DATA)
    assert (tmp_path / "a" / "a.bin").read_bytes() == DATA


def test_a_whole_partial_file_is_taken_without_a_byte_more(server, tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / ".a.bin.partial").write_bytes(DATA)
    said = {"url": server.url("a.bin"), "total": len(DATA), "same": server.tag}
    (folder / ".a.bin.partial.json").write_text(json.dumps(said))
    figures, _ = go(a_set(server), tmp_path)
    assert figures["fetched_bytes"] == 0
    assert names(tmp_path) == ["a.bin", "source.json"]


def test_wrong_bytes_never_take_the_name(server, tmp_path):
    server.files["/a.bin"] = DATA[:-1] + b"?"
    with pytest.raises(WorkFailed, match="sha256"):
        go(a_set(server), tmp_path)
    assert names(tmp_path) == []


def test_what_is_there_is_not_fetched_again(server, tmp_path):
    go(a_set(server), tmp_path)
    figures, _ = go(a_set(server), tmp_path)
    assert figures["fetched_bytes"] == 0
    assert len(server.requests) == 1


@pytest.mark.parametrize("known", [True, False], ids=["published", "recorded"])
def test_a_damaged_file_is_told(server, tmp_path, known):
    wanted = a_set(server) if known else a_set(server, sha256=None)
    go(wanted, tmp_path)
    (tmp_path / "a" / "a.bin").write_bytes(DATA[:-1])
    with pytest.raises(BadInput, match="delete it and fetch again"):
        go(wanted, tmp_path)


def test_a_web_page_is_no_data(server, tmp_path):
    server.kind = "text/html"
    with pytest.raises(WorkFailed, match="web page"):
        go(a_set(server, sha256=None), tmp_path)


def test_a_missing_file_is_not_tried_again(server, tmp_path):
    server.status = 404
    with pytest.raises(WorkFailed, match=r"said 404.*--from FOLDER"):
        go(a_set(server), tmp_path)
    assert len(server.requests) == 1


def test_a_server_in_trouble_is_tried_again(server, tmp_path):
    server.status = 503

    def better(seconds):
        server.status = None

    fetch(a_set(server), tmp_path, wait=better, quiet=True)
    assert (tmp_path / "a" / "a.bin").read_bytes() == DATA


def test_too_little_space_is_told_before_a_byte_is_written(server, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(BadInput, match=r"3 MB more, 1 MB are free"):
        go(a_set(server), tmp_path)


def test_two_processes_do_not_write_one_file(server, tmp_path):
    (tmp_path / "a").mkdir()
    with open(tmp_path / "a" / ".a.bin.partial", "ab") as held:
        transfer.fcntl.flock(held, transfer.fcntl.LOCK_EX)
        with pytest.raises(BadInput, match="another process"):
            go(a_set(server), tmp_path)


@pytest.mark.parametrize("below", ["a", "."])
def test_a_mirror_needs_no_network(server, tmp_path, below):
    (tmp_path / "mirror" / below).mkdir(parents=True, exist_ok=True)
    (tmp_path / "mirror" / below / "a.bin").write_bytes(DATA)
    go(a_set(server), tmp_path / "data", mirror=tmp_path / "mirror")
    assert (tmp_path / "data" / "a" / "a.bin").read_bytes() == DATA
    assert not server.requests


def test_a_mirror_with_another_file_is_refused(server, tmp_path):
    (tmp_path / "a.bin").write_bytes(DATA[1:])
    with pytest.raises(BadInput, match="is not the file of a"):
        go(a_set(server), tmp_path / "data", mirror=tmp_path)


def test_a_mirror_without_the_file_is_told(server, tmp_path):
    with pytest.raises(BadInput, match=r"holds neither a/a\.bin nor a\.bin"):
        go(a_set(server), tmp_path / "data", mirror=tmp_path)


def test_members_of_an_archive_lie_beside_it(server, tmp_path):
    archive = tmp_path / "made.zip"
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("image/train.tif", b"voxels")
        z.writestr("../evil.tif", b"?")
    server.files["/a.bin"] = archive.read_bytes()
    go(a_set(server, archive.read_bytes(), unpack=["train.tif"]), tmp_path / "data")
    assert (tmp_path / "data" / "a" / "train.tif").read_bytes() == b"voxels"
    assert not list(tmp_path.rglob("evil.tif"))


def test_an_archive_without_the_member_is_told(server, tmp_path):
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as z:
        z.writestr("other.tif", b"voxels")
    data = server.files["/a.bin"] = (tmp_path / "made.zip").read_bytes()
    with pytest.raises(WorkFailed, match="0 files named"):
        go(a_set(server, data, unpack=["train.tif"]), tmp_path / "data")


def test_bodies_are_the_supervoxels_of_each_body(tmp_path):
    with h5py.File(tmp_path / "g.h5", "w") as f:
        f["stack"] = np.array([[[0, 3, 5], [5, 9, 3]]], np.uint32)
        f["transforms"] = np.array([[3, 1], [5, 1], [9, 7]], np.uint64)
    write_bodies(tmp_path / "g.h5", tmp_path / "b.h5", (10, 10, 10))
    with h5py.File(tmp_path / "b.h5") as f:
        assert f["labels"][:].tolist() == [[[0, 1, 1], [1, 7, 1]]]
        assert f["labels"].dtype == np.uint64


def test_a_supervoxel_without_a_body_is_told(tmp_path):
    with h5py.File(tmp_path / "g.h5", "w") as f:
        f["stack"] = np.array([[[4]]], np.uint32)
        f["transforms"] = np.array([[9, 7]], np.uint64)
    with pytest.raises(BadInput, match="supervoxel 4"):
        write_bodies(tmp_path / "g.h5", tmp_path / "b.h5", (10, 10, 10))


# ---- the catalogue


def test_the_catalogue_names_https_addresses_and_where_they_were_read():
    for one in catalogue().values():
        assert one.licence
        assert one.read_in
        for file in one.files:
            assert file.url.startswith("https://")


def test_every_volume_of_the_catalogue_lies_in_a_file_that_is_fetched_or_made():
    for one in catalogue().values():
        made = {f.name for f in one.files} | {m for f in one.files for m in f.unpack}
        if one.bodies:
            made.add("bodies.h5")
        for place in one.volumes.values():
            assert Path(place).parts[0] in made


def test_an_unknown_set_is_told_with_the_names():
    with pytest.raises(BadInput, match=r"no data set 'cremi'.*cremi-a"):
        named("cremi")


def test_a_malformed_catalogue_is_told():
    text = "- {name: a, what: b, voxel_size: [1, 1, 1], size: s, licence: l, cite: c, volumes: {}"
    files = "files: [{name: ../x, url: u}], read_in: r}"
    with pytest.raises(BadInput, match="without folders"):
        read(f"{text}, {files}")
