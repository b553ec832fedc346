"""Tables of places as points."""

import csv

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from petavox.errors import BadInput
from petavox.view.points import points_layer

ROWS = [
    {"kind": "split", "object": 2**60, "z": 1, "z_nm": 60.0, "y_nm": 4.5, "x_nm": -8.0},
    {"kind": "merger", "object": 3, "z": 2, "z_nm": 100.0, "y_nm": 0.0, "x_nm": 0.0},
]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_rows_become_points_with_their_other_columns_as_text(tmp_path, kind, caplog):
    file = tmp_path / f"errors.{kind}"
    if kind == "csv":
        with open(file, "w") as f:
            table = csv.DictWriter(f, list(ROWS[0]))
            table.writeheader()
            table.writerows(ROWS)
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), file, row_group_size=1)
    layer = points_layer(file)
    assert layer.name == "errors"
    assert layer.points[0] == ([60.0, 4.5, -8.0], f"kind split, object {2**60}")
    assert len(layer.points) == 2
    assert caplog.text == ""
    assert len(points_layer(file, most=2).points) == 2
    assert len(points_layer(file, most=1).points) == 1
    assert "has more than 1 rows: the first 1 are shown" in caplog.text


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("a.csv", "kind,z_nm,y_nm\nsplit,1,2\n", "x_nm"),
        ("a.csv", "z_nm,y_nm,x_nm\n1,2,three\n", "row 1"),
        ("a.csv", "z_nm,y_nm,x_nm\n1,2\n", "row 1"),
        ("a.csv", "z_nm,y_nm,x_nm\n1,2,nan\n", "row 1"),
        ("a.parquet", "no", "cannot read"),
        ("a.txt", "", ".csv or .parquet"),
    ],
)
def test_what_is_no_table_of_places_is_refused(tmp_path, name, text, word):
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match=word):
        points_layer(tmp_path / name)
    with pytest.raises(BadInput, match=r"gone\.csv"):
        points_layer(tmp_path / "gone.csv")
