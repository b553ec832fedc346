"""Digests and small files that are there whole or not at all."""

from __future__ import annotations

import hashlib
import json

import pytest

from petavox import provenance


def test_a_digest_depends_on_every_part_and_on_their_borders():
    assert provenance.digest(b"ab", b"c") != provenance.digest(b"a", b"bc")
    assert provenance.digest({"a": 1, "b": 2}) == provenance.digest({"b": 2, "a": 1})
    assert provenance.digest("x") != provenance.digest("y")


def test_a_file_digest_is_blake2b_of_its_bytes(tmp_path):
    (tmp_path / "f").write_bytes(b"tissue")
    expected = hashlib.blake2b(b"tissue", digest_size=16).hexdigest()
    assert provenance.file_digest(tmp_path / "f") == expected


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    file = tmp_path / "f.json"
    provenance.write_json(file, {"old": 1})

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(provenance.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        provenance.write_json(file, {"new": 1})
    assert json.loads(file.read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["f.json"]


def test_a_record_says_what_made_an_output():
    import petavox as pv

    said = provenance.record(
        "segment", settings={"a": 1}, inputs={"image": "x"}, counters={"n": 2}, seconds=1.23456
    )
    assert said["petavox"] == pv.__version__
    assert (said["stage"], said["settings"], said["seconds"]) == ("segment", {"a": 1}, 1.235)
    assert said["finished"].endswith("+00:00")
