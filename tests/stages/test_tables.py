"""Tables of blocks: what may be replaced, and what never is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from petavox.errors import AlreadyExists
from petavox.stages import tables
from petavox.volume import state


def test_a_folder_that_is_no_table_is_never_emptied(tmp_path):
    mine = tmp_path / "mine.graph"
    mine.mkdir()
    (mine / "thesis.tex").write_text("x")
    with pytest.raises(AlreadyExists, match="was not made by petavox"):
        tables.create(mine)
    assert [p.name for p in mine.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_place_of_a_table_is_never_removed(tmp_path):
    (tmp_path / "mine.graph").write_text("x")
    with pytest.raises(AlreadyExists, match=r"mine\.graph"):
        tables.create(tmp_path / "mine.graph")
    assert (tmp_path / "mine.graph").read_text() == "x"


def test_a_table_is_replaced_by_an_empty_one(tmp_path):
    tables.create(tmp_path / "t")
    tables.write(tables.part(tmp_path / "t", 3), {"a": np.arange(2)})
    state.finish(tmp_path / "t", {"key": "k"})
    tables.create(tmp_path / "t")
    assert [p.name for p in (tmp_path / "t").iterdir()] == [state.NAME]
    assert (state.read(tmp_path / "t") or {})["state"] == "writing"


def test_a_table_behind_a_link_is_replaced_where_it_lies(tmp_path):
    tables.create(tmp_path / "large-disk")
    tables.write(tmp_path / "large-disk" / "rows.parquet", {"a": np.arange(2)})
    (tmp_path / "t").symlink_to(tmp_path / "large-disk")
    tables.create(tmp_path / "t")
    assert [p.name for p in (tmp_path / "large-disk").iterdir()] == [state.NAME]


def test_an_empty_folder_and_one_whose_mark_was_cut_short_are_taken(tmp_path):
    for name in ("empty", "cut"):
        (tmp_path / name).mkdir()
    (tmp_path / "cut" / f".{state.NAME}.0123abcd.partial").write_text("{")
    for name in ("empty", "cut"):
        tables.create(tmp_path / name)
        assert [p.name for p in (tmp_path / name).iterdir()] == [state.NAME]


def test_a_table_whose_replacing_was_killed_can_be_replaced_again(tmp_path):
    tables.create(tmp_path / "t")
    for n in range(4):
        tables.write(tables.part(tmp_path / "t", n * tables.FAN), {"a": np.arange(2)})
    script = (
        "import os, shutil, signal; from petavox.stages import tables;"
        "real = shutil.rmtree;"
        "shutil.rmtree = lambda p: (real(p), os.kill(os.getpid(), signal.SIGKILL));"
        f"tables.create({str(tmp_path / 't')!r})"
    )
    done = subprocess.run([sys.executable, "-c", script], env=os.environ)
    assert done.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "t").iterdir())) > 1
    tables.create(tmp_path / "t")
    assert [p.name for p in (tmp_path / "t").iterdir()] == [state.NAME]
