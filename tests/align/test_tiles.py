"""Tile tables: forms, and what is refused before work starts."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from petavox.align import tiles
from petavox.errors import BadInput


def image(path, shape=(40, 50)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros(shape, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    for r in range(2):
        for c in range(3):
            image(tmp_path / f"s007_r{r}_c{c}.png")
    return tmp_path


PATTERN = "s{section}_r{row}_c{column}.png"


def test_a_pattern_gives_a_table_that_reads_back(folder):
    made = tiles.from_pattern(folder, PATTERN, pixel_nm=4.0, overlap=(0.1, 0.2))
    tiles.write(folder / "t.csv", made)
    back = tiles.check(tiles.read(folder / "t.csv"), 4.0)
    assert [(t.section, t.y_nm, t.x_nm, t.shape) for t in back.tiles] == [
        (7, r * 40 * 0.9 * 4, c * 50 * 0.8 * 4, (40, 50)) for r in range(2) for c in range(3)
    ]


def test_tabs_comments_and_column_order_do_not_matter(folder):
    (folder / "t.tsv").write_text("# a\nx_nm\tfile\tsection\ty_nm\n10\ts007_r0_c0.png\t3\t20\n")
    (t,) = tiles.read(folder / "t.tsv").tiles
    assert (t.section, t.y_nm, t.x_nm) == (3, 20.0, 10.0)


def test_feabas_coordinates_are_pixels_times_resolution(folder):
    (folder / "sec0012.txt").write_text(
        f"{{ROOT_DIR}}\t{folder}\n{{RESOLUTION}}\t4\n{{TILE_SIZE}}\t40\t50\ns007_r0_c0.png\t7\t9\n"
    )
    table = tiles.read(folder / "sec0012.txt")
    assert table.pixel_nm == 4.0
    assert (table.tiles[0].section, table.tiles[0].x_nm, table.tiles[0].y_nm) == (12, 28.0, 36.0)


def refuse(folder, text, match, pixel=4.0):
    (folder / "t.csv").write_text(text)
    with pytest.raises(BadInput, match=match):
        tiles.check(tiles.read(folder / "t.csv"), pixel)


HEAD = "file,section,x_nm,y_nm\n"


def test_a_wrong_unit_is_seen(folder):
    rows = "".join(f"s007_r0_c{c}.png,0,{c * 0.16},0\n" for c in range(3))
    refuse(folder, HEAD + rows, "seem to be in another unit")


def test_columns_in_pixels_are_refused_with_the_reason(folder):
    refuse(folder, "file,section,x_px,y_px\na,0,0,0\n", "must be in nm, in columns x_nm and y_nm")


def test_missing_files_are_counted(folder):
    refuse(folder, HEAD + "gone.png,0,0,0\n", "1 of 1 files .* are missing")


def test_a_tile_listed_twice_is_refused(folder):
    refuse(folder, HEAD + "s007_r0_c0.png,0,0,0\n" * 2, "twice")


def test_two_tiles_at_one_place_are_refused(folder):
    refuse(folder, HEAD + "s007_r0_c0.png,0,0,0\ns007_r0_c1.png,0,0,0\n", "duplicate")


def test_a_file_that_is_no_image_is_refused(folder):
    (folder / "bad.png").write_bytes(b"nothing")
    refuse(folder, HEAD + "bad.png,0,0,0\n", "cannot be read as an image")


def test_a_size_that_contradicts_the_table_is_refused(folder):
    refuse(
        folder,
        "file,section,x_nm,y_nm,width,height\ns007_r0_c0.png,0,0,0,40,50\n",
        "50 x 40 px .* but .* says 40 x 50",
    )


def test_an_unknown_part_of_a_pattern_is_named(folder):
    with pytest.raises(BadInput, match=r"has \{tile\}"):
        tiles.from_pattern(folder, "{tile}_{row}_{column}.png", pixel_nm=4.0, overlap=(0, 0))
