"""Arrays and DataArrays as volumes."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st

import petavox as pv
from petavox.api.arrays import at_path, like, volume_of
from petavox.errors import BadInput
from petavox.volume import pyramid
from petavox.volume.opening import create, finish

SIZES = st.tuples(*[st.sampled_from([0.5, 4.0, 4.6, 8.0, 40.0])] * 3)
SHAPES = st.tuples(*[st.integers(1, 5)] * 3)
STARTS = st.tuples(*[st.integers(-7, 7)] * 3)


def labelled(shape=(2, 3, 4), **coords):
    return xarray.DataArray(np.zeros(shape, "uint8"), coords, ("z", "y", "x"))


@given(SHAPES, STARTS, SIZES)
def test_a_data_array_keeps_its_place_and_voxel_size(shape, start, size):
    values = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    box = pv.Box.of_shape(shape, start)
    volume = volume_of(pv.to_xarray(values, box, size))
    assert volume.box == box
    assert volume.voxel_size == pv.VoxelSize(*size)
    assert np.array_equal(volume.read(), values)


@given(SHAPES, STARTS, SIZES)
def test_a_result_comes_back_where_its_data_array_lay(shape, start, size):
    given_ = pv.to_xarray(np.zeros(shape, np.uint8), pv.Box.of_shape(shape, start), size)
    back = like(given_, np.ones(shape, np.uint64), pv.Box.of_shape(shape, start), size)
    assert back.dims == given_.dims
    for axis in "zyx":
        assert np.array_equal(back[axis], given_[axis])


def test_named_dimensions_decide_the_order():
    values = np.random.default_rng(1).integers(0, 255, (2, 3, 4), np.uint8)
    turned = pv.to_xarray(values, voxel_size=(40, 4, 4)).transpose("x", "y", "z")
    volume = volume_of(turned)
    assert np.array_equal(volume.read(), values)
    assert volume.voxel_size == pv.VoxelSize(40, 4, 4)


def test_coordinates_in_micrometres_are_understood():
    axes = {a: (a, np.arange(n) * s, {"units": "um"}) for a, n, s in
            (("z", 2, 0.04), ("y", 3, 0.004), ("x", 4, 0.004))}  # fmt: skip
    assert tuple(volume_of(labelled(**axes)).voxel_size) == pytest.approx((40, 4, 4))


def test_coordinates_of_voxel_centres_mean_the_same_voxels():
    axes = {a: (np.arange(n) + 0.5 + 3) * 8 for a, n in (("z", 2), ("y", 3), ("x", 4))}
    assert volume_of(labelled(**axes)).box == pv.Box((3, 3, 3), (5, 6, 7))


def test_a_slice_of_one_section_needs_the_attribute():
    one = labelled((1, 3, 4), y=np.arange(3) * 4, x=np.arange(4) * 4)
    with pytest.raises(BadInput, match="does not say its voxel size"):
        volume_of(one)
    one.attrs["voxel_size_nm"] = (40, 4, 4)
    assert tuple(volume_of(one).voxel_size) == (40, 4, 4)


BAD = {
    "no voxel size": (np.zeros((2, 2, 2), "uint8"), {}, "pass voxel_size"),
    "two axes": (np.zeros((2, 2), "uint8"), {"voxel_size": (8, 8, 8)}, "has 2 dimensions"),
    "float64": (np.zeros((2, 2, 2)), {"voxel_size": (8, 8, 8)}, "convert it"),
    "negative ids": (np.full((2, 2, 2), -1), {"voxel_size": (8, 8, 8), "kind": "labels"}, "id -1"),
    "labels of floats": (
        np.zeros((2, 2, 2)), {"voxel_size": (8, 8, 8), "kind": "labels"}, "whole numbers"),
    "other names": (xarray.DataArray(np.zeros((2, 2, 2)), dims=("a", "b", "c")), {}, "name them"),
    "two sizes": (
        xarray.DataArray(np.zeros((2, 2, 2)), {a: [0, 8] for a in "zyx"}, list("zyx"),
                         attrs={"voxel_size_nm": (8, 8, 9)}), {}, "voxel_size_nm says 9"),
    "uneven": (
        xarray.DataArray(np.zeros((3, 2, 2)), {"z": [0, 8, 17]}, list("zyx")), {}, "evenly"),
    "a unit": (
        xarray.DataArray(np.zeros((2, 2, 2)), {"z": ("z", [0, 8], {"units": "inch"})}, list("zyx")),
        {}, "use nm or um"),
    "contradiction": (
        pv.to_xarray(np.zeros((2, 2, 2), "uint8"), voxel_size=(8, 8, 8)),
        {"voxel_size": (4, 8, 8)}, "but voxel_size is"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_volume_is_told(name):
    given_, options, words = BAD[name]
    with pytest.raises(BadInput, match=words):
        volume_of(given_, **options)


@pytest.mark.parametrize("dtype", [bool, "int8", "int32", "int64", "uint32"])
def test_labels_of_any_whole_type_are_taken(dtype):
    labels = np.array([[[0, 1]]], dtype)
    volume = volume_of(labels, "labels", voxel_size=(8, 8, 8))
    assert volume.dtype.kind == "u"
    assert volume.read().tolist() == [[[0, 1]]]


def test_an_array_becomes_a_file_for_as_long_as_it_is_needed(tmp_path):
    values = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    with at_path(values, voxel_size=(40, 4, 4)) as path:
        assert np.array_equal(pv.open(path).read(), values)
    with pytest.raises(BadInput):
        pv.open(path)


def test_a_volume_on_disk_is_not_copied(tmp_path):
    made = pv.write(np.zeros((2, 3, 4), "uint8"), tmp_path / "a.zarr", kind="image",
                    voxel_size=(40, 4, 4))  # fmt: skip
    with at_path(made) as path:
        assert path == made.path


def test_a_volume_that_its_path_alone_does_not_open_is_refused(tmp_path):
    """A stage reads the path: it would take the finest level, or miss the voxel size."""
    values = np.arange(16**3, dtype=np.uint64).reshape(16, 16, 16)
    made = create(
        tmp_path / "v.zarr", box=pv.Box.of_shape(values.shape), voxel_size=(8, 8, 8),
        dtype="uint64", kind="labels",
    )  # fmt: skip
    made.write(made.box, values)
    pyramid.build(tmp_path / "v.zarr", smallest=8, quiet=True)
    finish(made, {})
    coarse = pv.open(tmp_path / "v.zarr", resolution=(16, 16, 16))
    with pytest.raises(BadInput, match=r"at 16 x 16 x 16 nm.*--resolution"):
        pv.mesh(coarse, tmp_path / "m")
    with h5py.File(tmp_path / "v.h5", "w") as f:
        f["labels"] = values
    given = pv.open(tmp_path / "v.h5/labels", voxel_size=(8, 8, 8))
    with pytest.raises(BadInput, match="--voxel-size"):
        pv.mesh(given, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_voxel_size_that_a_stage_cannot_be_told_is_refused(tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as f:
        f["labels"] = np.ones((4, 4, 4), np.uint8)
    one = tmp_path / "v.h5/labels"
    with pytest.raises(BadInput, match="--voxel-size"):
        pv.consensus(one, one, voxel_size=(8, 8, 8))


def test_the_voxel_size_of_an_image_that_does_not_say_reaches_the_stage(tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as f:
        f["image"] = np.arange(2 * 64 * 64, dtype=np.uint8).reshape(2, 64, 64)
    pv.contrast(tmp_path / "v.h5/image", tmp_path / "even.zarr", voxel_size=(40, 8, 8))
    assert pv.open(tmp_path / "even.zarr").voxel_size == pv.VoxelSize(40, 8, 8)


def test_a_voxel_size_given_for_a_folder_of_stitch_is_that_of_its_sections(tmp_path):
    from petavox.api.images import _sections_at

    made = create(
        tmp_path / "stitched/sections", box=pv.Box.of_shape((2, 8, 8)), voxel_size=(40, 4, 4),
        dtype="uint8", kind="image",
    )  # fmt: skip
    finish(made, {})
    with _sections_at(tmp_path / "stitched", (40, 4, 4)) as path:
        assert path == str(tmp_path / "stitched")
    with pytest.raises(BadInput), _sections_at(tmp_path / "stitched", (40, 8, 8)):
        pass


def test_the_voxel_size_of_a_file_that_does_not_say_can_be_given(tmp_path):
    values = np.zeros((6, 6, 6), np.uint8)
    values[2:4, 2:4, 2:4] = 3
    with h5py.File(tmp_path / "v.h5", "w") as f:
        f["labels"] = values
    labels, size = tmp_path / "v.h5/labels", (40, 8, 8)
    assert pv.mesh(labels, tmp_path / "m", voxel_size=size)["objects"] == 1
    row = {
        "id": 1,
        "z_nm": 1.0,
        "y_nm": 1.0,
        "x_nm": 1.0,
        "pre": 3,
        "post": 3,
        "size": 1,
        "score": 1,
    }
    found = pv.connectome(labels, [row], voxel_size=size)
    assert found["neurons"]["volume_nm3"].to_pylist() == [8 * 40 * 8 * 8]


def test_ids_of_a_data_frame_that_were_rounded_are_refused():
    rows = {n: [1.0] for n in ("id", "z_nm", "y_nm", "x_nm", "post", "size", "score")}
    with pytest.raises(BadInput, match=r"'pre' of the synapses holds 1152921504606846976 as"):
        pv.connectome(
            np.ones((2, 2, 2), np.uint64), {**rows, "pre": [float(2**60 + 1)]}, voxel_size=(8, 8, 8)
        )


def test_a_volume_becomes_a_data_array(tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    made = pv.write(values, tmp_path / "a.zarr", kind="image", voxel_size=(40, 4, 4))
    part = pv.to_xarray(made, pv.Box((1, 0, 2), (2, 3, 4)))
    assert np.array_equal(part, values[1:, :, 2:])
    assert part.x.values.tolist() == [8.0, 12.0]
