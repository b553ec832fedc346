"""Files of fields: read one at a time, and refused in a sentence where they are none."""

from __future__ import annotations

import numpy as np
import pytest

from petavox.align.field_file import FieldFile, load, save
from petavox.align.frames import Field
from petavox.errors import BadInput
from petavox.stages.section_fields import SectionFields


def some(n: int) -> dict[str, Field]:
    return {f"section_{k:05d}": Field.translation([8.0 * k, 16.0]) for k in range(n)}


def test_a_field_is_read_only_when_it_is_asked_for(tmp_path, monkeypatch):
    save(tmp_path / "f.npz", some(5))
    read, real = [], np.lib.npyio.NpzFile.__getitem__

    def counted(self, key):
        read.append(key)
        return real(self, key)

    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", counted)
    with SectionFields(tmp_path / "f.npz", 8.0) as fields:
        assert list(fields) == [0, 1, 2, 3, 4]
        assert 3 in fields
        assert 7 not in fields
        assert not read
        np.testing.assert_allclose(fields[3](np.array([[1.0, 1.0]])), [[4.0, 3.0]])
    assert read == ["section_00003.matrix", "section_00003.shift"]


def test_names_that_begin_alike_are_fields_of_their_own(tmp_path):
    made = {"a": Field.translation([1.0, 0.0]), "a.b": Field.translation([2.0, 0.0])}
    save(tmp_path / "f.npz", made)
    back = load(tmp_path / "f.npz")
    assert {name: float(f.shift[0]) for name, f in back.items()} == {"a": 1.0, "a.b": 2.0}


@pytest.mark.parametrize("size", [0, 10, 300])
def test_a_file_that_was_cut_off_is_told(tmp_path, size):
    save(tmp_path / "f.npz", some(3))
    (tmp_path / "f.npz").write_bytes((tmp_path / "f.npz").read_bytes()[:size])
    with pytest.raises(BadInput, match=r"cannot read the fields .*f\.npz"):
        FieldFile(tmp_path / "f.npz")


def test_bytes_that_changed_are_told(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "f.npz", **{"a.matrix": np.eye(2), "a.shift": rng.random(2)})
    held = bytearray((tmp_path / "f.npz").read_bytes())
    at = held.index(b"\x93NUMPY") + 128  # the first number of the first array
    held[at + 6] ^= 255
    (tmp_path / "f.npz").write_bytes(held)
    with FieldFile(tmp_path / "f.npz") as fields, pytest.raises(BadInput, match="field 'a' of"):
        fields["a"]


def test_an_array_or_nothing_is_told(tmp_path):
    np.save(tmp_path / "one.npy", np.eye(2))
    for name in ("one.npy", "none.npz"):
        with pytest.raises(BadInput, match=f"cannot read the fields .*{name}"):
            FieldFile(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("matrix", np.zeros((2, 2)), "`matrix` .* cannot be inverted"),
        ("matrix", np.full((2, 2), np.nan), "not finite"),
        ("shift", np.zeros(3), "no 2x2 `matrix` and `shift` of two"),
        ("shift", np.array(["a", "b"]), "is not of numbers"),
        ("origin", np.zeros(3), "`origin`"),
        ("spacing", np.asarray(0.0), "`spacing`"),
        ("spacing", np.asarray(-5.0), "`spacing`"),
        ("displacement", np.zeros((4, 4)), r"\(ny, nx, 2\)"),
        ("displacement", np.zeros((0, 4, 2)), r"\(ny, nx, 2\)"),
        ("displacement", np.full((4, 4, 2), np.nan), "not finite"),
    ],
)
def test_arrays_that_are_no_field_are_told(tmp_path, name, value, said):
    arrays = {
        "matrix": np.eye(2), "shift": np.zeros(2), "origin": np.zeros(2),
        "spacing": np.asarray(40.0), "displacement": np.zeros((4, 4, 2)),
    }  # fmt: skip
    arrays[name] = value
    np.savez(tmp_path / "f.npz", **{f"section_00000.{k}": v for k, v in arrays.items()})
    with pytest.raises(BadInput, match=f"(?s)section_00000.*{said}"):
        load(tmp_path / "f.npz")


def test_two_fields_of_one_section_are_refused(tmp_path):
    save(tmp_path / "f.npz", {"section_00001": Field(), "section_1": Field()})
    with pytest.raises(BadInput, match="two fields of section 1, 'section_00001' and 'section_1'"):
        SectionFields(tmp_path / "f.npz", 8.0)
