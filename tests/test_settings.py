"""Settings: each wrong value is one sentence that names the key, the value and the file."""

from __future__ import annotations

import pytest

from petavox.errors import BadInput
from petavox.settings import BoxSetting, NmSetting, Settings, ZyxSetting, parse, read_yaml
from petavox.space import Box


class Inner(Settings):
    depth: int = 12


class Outer(Settings):
    voxel_size: NmSetting
    block: ZyxSetting = (64, 64, 64)
    box: BoxSetting = Box((0, 0, 0), (1, 1, 1))
    inner: Inner = Inner()


def test_good_values_are_read_from_yaml(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text("voxel_size: [40, 4, 4]\nblock: 32\nbox: -1:2,0:3,0:4\ninner: {depth: 9}\n")
    found = read_yaml(file, Outer)
    assert found.voxel_size == (40.0, 4.0, 4.0)
    assert found.block == (32, 32, 32)
    assert found.box == Box((-1, 0, 0), (2, 3, 4))
    assert found.inner.depth == 9


def test_settings_survive_the_way_through_json():
    settings = parse(Outer, {"voxel_size": [40, 4, 4], "box": "-1:2,0:3,0:4"}, "here")
    assert Outer.model_validate(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"voxel_size": [4, 40]}, ["voxel_size", "order z y x"]),
        ({"voxel_size": [4, 40, 0]}, ["voxel_size", "positive"]),
        ({"voxel_size": [1, 1, 1], "block": [1, 2]}, ["block", "order z y x"]),
        ({"voxel_size": [1, 1, 1], "block": [1, 2, 2.5]}, ["block", "whole"]),
        ({"voxel_size": [1, 1, 1], "box": "0:1"}, ["box", "z0:z1,y0:y1,x0:x1"]),
        ({"voxel_size": [1, 1, 1], "blok": 3}, ["unknown key 'blok'", "block"]),
        ({"voxel_size": [1, 1, 1], "inner": {"deep": 3}}, ["inner.deep", "depth"]),
        ({}, ["'voxel_size' is missing"]),
        ({"voxel_size": [1, 1, 1], "inner": {"depth": "many"}}, ["inner.depth", "'many'"]),
    ],
)
def test_a_wrong_value_is_a_sentence_that_names_key_and_file(values, parts):
    with pytest.raises(BadInput) as e:
        parse(Outer, values, "run.yaml")
    assert all(part in str(e.value) for part in [*parts, "run.yaml"])
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "a: [1\n", "a: !!python/object:os.system x\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    file = tmp_path / "s.yaml"
    file.write_text(text)
    with pytest.raises(BadInput, match=r"s\.yaml"):
        read_yaml(file, Outer)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match="cannot read the settings"):
        read_yaml(tmp_path / "none.yaml", Outer)


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Inner().depth = 3
