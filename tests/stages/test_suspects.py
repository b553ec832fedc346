"""The table of suspects: ranking, places, files; decisions by hand are none."""

from __future__ import annotations

import csv
import json
import math

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from petavox.cli.app import app
from petavox.errors import AlreadyExists, BadInput
from petavox.stages import edit
from petavox.stages.suspects import suspects_table, write_suspects
from tests.stages.agglomerated_tissue import agglomerated


@pytest.fixture
def out(tmp_path):
    return agglomerated(tmp_path)


def test_the_worst_come_first_with_what_is_at_stake(out):
    table = suspects_table(out)
    pairs = list(zip(table["kind"], table["a"].tolist(), table["b"].tolist(), strict=True))
    # 3-4: 0.9 / 1.9 of 192 and 128 voxels; 2-3: 1 / 2.2 of 64 and 128; 1-2: 1 / 4 of the same;
    # 4-5: 1 / 3 of 64 and 64; 5-6: 1 / 11 of 64 and 128
    assert pairs == [
        ("split", 3, 4),
        ("merger", 2, 3),
        ("merger", 1, 2),
        ("merger", 4, 5),
        ("split", 5, 6),
    ]
    assert table["at_stake_um3"][0] == pytest.approx(128e-6)
    saved = 192 * math.log2(320 / 192) + 128 * math.log2(320 / 128)
    assert table["bits"][0] == pytest.approx(saved / 384 * 0.9 / 1.9)
    assert table["object_a"].tolist() == [1, 1, 1, 4, 4]
    assert table["x"].tolist() == [11, 7, 3, 15, 19]
    assert table["show"][0].endswith("--at 0 0 11 --select 3 --select 4")


def test_what_a_person_decided_is_no_suspect(out):
    edit.merge(out, "3", "4")
    table = suspects_table(out)
    assert (3, 4) not in set(zip(table["a"].tolist(), table["b"].tolist(), strict=True))
    # 2-3 now holds 128 voxels to 192
    assert table["at_stake_um3"][table["a"] == 2][0] == pytest.approx(128e-6)


def test_tables_are_written_whole_and_not_over_others(out, tmp_path):
    figures = write_suspects(out, tmp_path / "s.csv", top=2)
    assert (figures["suspects"], figures["written"]) == (5, 2)
    rows = list(csv.DictReader((tmp_path / "s.csv").open()))
    assert [(r["rank"], r["kind"]) for r in rows] == [("1", "split"), ("2", "merger")]
    write_suspects(out, tmp_path / "s.parquet")
    assert pq.read_table(tmp_path / "s.parquet").num_rows == 5
    with pytest.raises(AlreadyExists):
        write_suspects(out, tmp_path / "s.csv")
    with pytest.raises(BadInput, match=r"\.parquet or \.csv"):
        write_suspects(out, tmp_path / "s.txt")


def test_the_table_can_be_shown_as_points(out, tmp_path):
    from petavox.view.points import points_layer

    write_suspects(out, tmp_path / "s.csv")
    assert len(points_layer(tmp_path / "s.csv").points) == 5


def test_the_command(out, tmp_path):
    words = ["suspects", str(out), str(tmp_path / "t.csv"), "--top", "3", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.strip().splitlines()[-1])["written"] == 3
    words = ["suspects", str(out), str(tmp_path / "u.csv"), "--by"]
    assert CliRunner().invoke(app, [*words, "chance"]).exit_code == 0
    first = next(csv.DictReader((tmp_path / "u.csv").open()))
    assert (first["kind"], first["a"]) == ("split", "3")
    assert CliRunner().invoke(app, [*words, "luck", "--overwrite"]).exit_code == 2
