"""`petavox tiles` does not replace a table that somebody may have edited."""

from __future__ import annotations

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from petavox.cli.app import app


def test_a_table_that_is_there_stays_unless_told_otherwise(tmp_path):
    for x in range(2):
        Image.fromarray(np.full((20, 20), 9, np.uint8)).save(tmp_path / f"c{x}_r0.png")
    table = tmp_path / "tiles.csv"
    given = ["tiles", str(tmp_path), "--pattern", "c{column}_r{row}.png", "--pixel-size", "4"]
    assert CliRunner().invoke(app, given).exit_code == 0
    table.write_text(made := table.read_text() + "# edited\n")
    again = CliRunner().invoke(app, given)
    assert again.exit_code != 0
    assert "--overwrite" in again.output
    assert table.read_text() == made
    assert CliRunner().invoke(app, [*given, "--overwrite"]).exit_code == 0
    assert "edited" not in table.read_text()
