"""Formats of other programs are read as their own libraries write them."""

from __future__ import annotations

import functools
import http.server
import json
import pickle
import threading

import h5py
import mrcfile
import numpy as np
import pytest
import tensorstore as ts
import tifffile
from PIL import Image

import petavox as pv
from petavox.errors import AlreadyExists, BadInput, NotComplete, WorkFailed
from petavox.space import Box, VoxelSize
from petavox.volume import handmade, places, pyramid
from petavox.volume.about import about
from petavox.volume.formats.stacks import in_order
from petavox.volume.opening import create, finish
from petavox.volume.transfer import import_volume


@pytest.mark.parametrize("format", handmade.FORMATS)
def test_hand_made_files_are_read_with_their_axes_and_offset(format, tmp_path):
    assert handmade.tried(format, tmp_path) == []


def test_a_reader_that_swapped_axes_would_be_seen(monkeypatch, tmp_path):
    from petavox.volume.formats import precomputed

    monkeypatch.setattr(precomputed, "ORDER", (0, 1, 2))
    assert any("other voxels" in w or "box" in w for w in handmade.tried("precomputed", tmp_path))


def write_zarr(path, values, **metadata):
    v = ts.open(
        {
            "driver": "zarr",
            "kvstore": {"driver": "file", "path": str(path)},
            "metadata": {
                "dtype": values.dtype.str,
                "shape": values.shape,
                "chunks": [4] * values.ndim,
            }
            | metadata,
        },
        create=True,
    ).result()
    v.write(values).result()


OME_AXES = [
    {"name": "t", "type": "time"},
    {"name": "c", "type": "channel"},
    *[{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"],
]


def ome_group(path, datasets, axes=OME_AXES, **image):
    path.mkdir(parents=True, exist_ok=True)
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    multiscales = [{"version": "0.4", "axes": axes, "datasets": datasets, **image}]
    (path / ".zattrs").write_text(json.dumps({"multiscales": multiscales}))


def dataset(name, scale, translation=None):
    transforms = [{"type": "scale", "scale": scale}]
    if translation is not None:
        transforms.append({"type": "translation", "translation": translation})
    return {"path": name, "coordinateTransformations": transforms}


def test_ome_zarr_04_with_time_channel_micrometres_and_levels(tmp_path, rng):
    fine = rng.integers(0, 60000, (1, 1, 6, 10, 8)).astype(">u2")  # big-endian, Fortran order
    write_zarr(tmp_path / "v/0", fine, order="F", dimension_separator="/")
    write_zarr(tmp_path / "v/1", fine[..., ::2, ::2])
    ome_group(
        tmp_path / "v",
        [
            dataset("0", [1, 1, 0.04, 0.004, 0.004], [0, 0, 0.08, -0.012, 0]),
            dataset("1", [1, 1, 0.04, 0.008, 0.008], [0, 0, 0.08, -0.014, 0.002]),
        ],
    )
    v = pv.open(tmp_path / "v")
    assert v.voxel_size == VoxelSize(40, 4, 4)
    assert v.box == Box((2, -3, 0), (8, 7, 8))
    assert v.dtype == np.uint16
    np.testing.assert_array_equal(v.read(), fine[0, 0])
    coarse = pv.open(tmp_path / "v", resolution=(40, 8, 8))
    # its first voxel covers voxels -4 and -3 along y, with the common centre at -14 nm
    assert coarse.box == Box((2, -2, 0), (8, 3, 4))
    with pytest.raises(BadInput, match="has no level of 40 x 16 x 16 nm"):
        pv.open(tmp_path / "v", resolution=(40, 16, 16))
    with pytest.raises(BadInput, match="only reads"):
        pv.open(tmp_path / "v", writable=True)


def test_ome_axes_in_another_order_are_put_right(tmp_path, rng):
    values = rng.integers(0, 255, (5, 6, 7), np.uint8)  # x, y, z
    write_zarr(tmp_path / "v/0", values)
    axes = [{"name": a, "type": "space", "unit": "nanometer"} for a in "xyz"]
    ome_group(tmp_path / "v", [dataset("0", [4, 5, 40], [8, 0, -40])], axes)
    v = pv.open(tmp_path / "v")
    np.testing.assert_array_equal(v.read(), values.transpose(2, 1, 0))
    assert v.voxel_size == VoxelSize(40, 5, 4)
    assert v.box.start == (-1, 0, 2)


@pytest.mark.parametrize("start", [0, 1, 2, -3])
def test_translations_of_corners_are_the_same_voxels_and_told(tmp_path, rng, caplog, start):
    write_zarr(tmp_path / "v/0", rng.integers(0, 255, (4, 6, 8), np.uint8))
    write_zarr(tmp_path / "v/1", rng.integers(0, 255, (4, 3, 4), np.uint8))
    axes = [{"name": a, "type": "space", "unit": "nanometer"} for a in "zyx"]
    first = dataset("0", [40, 5, 4], [0, 0, (start + 0.5) * 4])
    ome_group(tmp_path / "v", [first, dataset("1", [40, 10, 8])], axes)
    v = pv.open(tmp_path / "v")
    assert v.box.start == (0, 0, start)
    assert v.levels[1].box.start == (0, 0, 0)
    assert sum("fraction of a voxel" in m for m in caplog.messages) == 1


def test_ome_without_units_needs_a_voxel_size(tmp_path, rng):
    write_zarr(tmp_path / "v/0", rng.integers(0, 255, (8, 8, 8), np.uint8))
    write_zarr(tmp_path / "v/1", rng.integers(0, 255, (8, 4, 4), np.uint8))
    axes = [{"name": a, "type": "space"} for a in "zyx"]
    ome_group(tmp_path / "v", [dataset("0", [1, 1, 1]), dataset("1", [1, 2, 2])], axes)
    with pytest.raises(BadInput, match="--voxel-size"):
        pv.open(tmp_path / "v")
    v = pv.open(tmp_path / "v", voxel_size=(40, 4, 4))
    assert [tuple(level.voxel_size) for level in v.levels] == [(40, 4, 4), (40, 8, 8)]


@pytest.mark.parametrize(
    ("datasets", "axes", "says"),
    [
        ([dataset("0", [1, 1])], None, "one number for each of 5 axes"),
        ([{"path": "0"}], None, "KeyError"),
        ([], None, "no data set"),
        ([dataset("0", [1, 1, 0, 1, 1])], None, "positive"),
        ([dataset("0", [1, 1, 1])], [{"name": a} for a in "cyx"], "needs z, y and x"),
    ],
)
def test_broken_ome_metadata_are_a_sentence(tmp_path, datasets, axes, says):
    ome_group(tmp_path / "v", datasets, axes or OME_AXES)
    with pytest.raises(BadInput, match=says):
        pv.open(tmp_path / "v")


def test_several_channels_are_refused(tmp_path, rng):
    write_zarr(tmp_path / "v/0", rng.integers(0, 255, (1, 3, 4, 4, 4), np.uint8))
    ome_group(tmp_path / "v", [dataset("0", [1, 1, 0.04, 0.004, 0.004])])
    with pytest.raises(BadInput, match="several channels"):
        pv.open(tmp_path / "v")


@pytest.mark.parametrize("driver", ["zarr", "zarr3", "n5"])
def test_a_bare_array_needs_a_voxel_size(tmp_path, rng, driver):
    values = rng.integers(0, 2**40, (5, 6, 7), np.uint64)
    spec = {
        "driver": driver,
        "kvstore": {"driver": "file", "path": str(tmp_path / "v")},
        "dtype": "uint64",
        "schema": {"domain": {"shape": values.T.shape if driver == "n5" else values.shape}},
    }
    array = ts.open(spec, create=True).result()
    array.write(values.T if driver == "n5" else values).result()
    with pytest.raises(BadInput, match="--voxel-size"):
        pv.open(tmp_path / "v")
    v = pv.open(tmp_path / "v", voxel_size=(40, 4, 4))
    np.testing.assert_array_equal(v.read(), values)
    assert v.kind == "labels"


def n5_group(path, values, **attributes):
    """s0, and s1 that is coarser by 1, 2, 2 (z, y, x)."""
    for name, part in (("s0", values), ("s1", values[:, ::2, ::2])):
        array = ts.open(
            {
                "driver": "n5",
                "kvstore": {"driver": "file", "path": str(path / name)},
                "metadata": {
                    "dimensions": part.T.shape,
                    "blockSize": [4, 4, 4],
                    "dataType": "uint8",
                    "compression": {"type": "gzip"},
                },
            },
            create=True,
        ).result()
        array.write(part.T).result()
    attributes["scales"] = [[1, 1, 1], [2, 2, 1]]
    (path / "attributes.json").write_text(json.dumps(attributes))


def test_an_n5_group_with_levels(tmp_path, rng):
    values = rng.integers(0, 255, (8, 9, 10), np.uint8)
    n5_group(tmp_path / "v", values, pixelResolution={"dimensions": [4.0, 5.0, 40.0], "unit": "nm"})
    v = pv.open(tmp_path / "v")
    np.testing.assert_array_equal(v.read(), values)
    assert v.voxel_size == VoxelSize(40, 5, 4)
    half = pv.open(tmp_path / "v", resolution=(40, 10, 8))
    np.testing.assert_array_equal(half.read(), values[:, ::2, ::2])


def test_a_level_of_an_n5_group_that_does_not_say_how_coarse_it_is_is_left_out(
    tmp_path, rng, caplog
):
    values = rng.integers(0, 255, (8, 9, 10), np.uint8)
    n5_group(tmp_path / "v", values, pixelResolution={"dimensions": [4.0, 5.0, 40.0], "unit": "nm"})
    said = json.loads((tmp_path / "v/attributes.json").read_text())
    del said["scales"]
    (tmp_path / "v/attributes.json").write_text(json.dumps(said))
    v = pv.open(tmp_path / "v")
    np.testing.assert_array_equal(v.read(), values)
    assert len(v.levels) == 1
    assert "v/s1 does not say how coarse it is" in caplog.text


def test_the_translation_of_an_n5_group_places_all_of_its_levels(tmp_path, rng):
    n5_group(
        tmp_path / "v",
        rng.integers(0, 255, (8, 9, 10), np.uint8),
        transform={
            "axes": ["z", "y", "x"],
            "scale": [40.0, 8.0, 8.0],
            "translate": [120.0, -808.0, 800.0],  # voxel 3, -101, 100 of s0
            "units": ["nm", "nm", "nm"],
        },
    )
    fine, half = pv.open(tmp_path / "v").levels
    assert fine.box.start == (3, -101, 100)
    assert half.voxel_size == VoxelSize(40, 16, 16)
    assert half.box.start == (3, -51, 50)
    v = pv.open(tmp_path / "v", resolution=(40, 16, 16))
    assert v.box.start == (3, -51, 50)


def test_sections_are_taken_in_natural_order_and_only_the_ones_asked_for(tmp_path, rng):
    values = rng.integers(0, 60000, (12, 9, 7), np.uint16)
    for z, plane in enumerate(values):
        tifffile.imwrite(tmp_path / f"s{z}.tif", plane, compression="lzw")
    (tmp_path / "notes.txt").write_text("not a section")
    v = pv.open(tmp_path, voxel_size=(40, 4, 4))
    np.testing.assert_array_equal(v.read(), values)
    (tmp_path / "s11.tif").write_bytes((tmp_path / "s11.tif").read_bytes()[:-60])
    np.testing.assert_array_equal(v[2:4, 1:3, 2:5], values[2:4, 1:3, 2:5])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_stacks_of_8_and_16_bit_grey(tmp_path, rng, dtype, suffix):
    values = rng.integers(0, np.iinfo(dtype).max, (3, 5, 4), dtype)
    for z, plane in enumerate(values):
        Image.fromarray(plane).save(tmp_path / f"a_{z}_b.{suffix}")
    found = pv.open(tmp_path, voxel_size=(40, 4, 4))
    np.testing.assert_array_equal(found.read(), values)
    assert found.dtype == dtype


def test_jpeg_sections_are_what_the_decoder_gives(tmp_path, rng):
    Image.fromarray(rng.integers(0, 255, (16, 24), np.uint8)).save(tmp_path / "1.jpg")
    v = pv.open(tmp_path / "1.jpg", voxel_size=(40, 4, 4))
    np.testing.assert_array_equal(v.read()[0], np.asarray(Image.open(tmp_path / "1.jpg")))


@pytest.mark.parametrize("how", [{}, {"imagej": True}, {"byteorder": ">"}, {"bigtiff": True}])
def test_the_pages_of_one_tiff_are_sections(tmp_path, rng, how):
    values = rng.integers(0, 60000, (5, 6, 7), np.uint16)
    tifffile.imwrite(tmp_path / "v.tif", values, photometric="minisblack", **how)
    v = pv.open(tmp_path / "v.tif", voxel_size=(40, 4, 4))
    np.testing.assert_array_equal(v.read(), values)
    np.testing.assert_array_equal(v[3:4, 1:2], values[3:4, 1:2])


def test_missing_double_and_unequal_sections_are_refused(tmp_path):
    def save(name, shape=(4, 5), dtype=np.uint8):
        tifffile.imwrite(tmp_path / name, np.zeros(shape, dtype))

    save("s1.tif")
    save("s2.tif")
    save("s4.tif")
    with pytest.raises(BadInput, match=r"missing between s2\.tif and s4\.tif"):
        pv.open(tmp_path, voxel_size=(40, 4, 4))
    save("s3.tif", (4, 6))
    with pytest.raises(BadInput, match=r"s3\.tif is \(4, 6\) \(y, x\) uint8, s1\.tif is \(4, 5\)"):
        pv.open(tmp_path, voxel_size=(40, 4, 4))
    save("s3.tif", dtype=np.uint16)
    with pytest.raises(BadInput, match="sections differ"):
        pv.open(tmp_path, voxel_size=(40, 4, 4))
    save("s3.tif")
    save("s03.tif")
    with pytest.raises(BadInput, match="same number"):
        pv.open(tmp_path, voxel_size=(40, 4, 4))
    (tmp_path / "s03.tif").unlink()
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "s5.png")
    with pytest.raises(BadInput, match="one kind"):
        pv.open(tmp_path, voxel_size=(40, 4, 4))


def test_even_steps_and_several_numbers_in_names_are_fine(tmp_path):
    names = ["a10", "a20", "a30"]
    assert [p.stem for p in in_order([tmp_path / f"{n}.tif" for n in names[::-1]])] == names
    names = ["run2_s1", "run2_s2", "run10_s1"]
    assert [p.stem for p in in_order([tmp_path / f"{n}.tif" for n in names[::-1]])] == names


def test_colour_and_damaged_sections_are_refused(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(BadInput, match="grey"):
        pv.open(tmp_path / "a.png", voxel_size=(40, 4, 4))
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((4, 4, 3), np.uint8), photometric="rgb")
    with pytest.raises(BadInput, match="grey"):
        pv.open(tmp_path / "b.tif", voxel_size=(40, 4, 4))
    (tmp_path / "c.tif").write_bytes(b"II*\0nonsense")
    with pytest.raises(BadInput, match="not a readable image"):
        pv.open(tmp_path / "c.tif", voxel_size=(40, 4, 4))
    Image.effect_noise((64, 64), 50).save(tmp_path / "d.png")
    (tmp_path / "d.png").write_bytes((tmp_path / "d.png").read_bytes()[:900])
    with pytest.raises(WorkFailed, match="damaged"):
        pv.open(tmp_path / "d.png", voxel_size=(40, 4, 4)).read()


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_mrc_files_of_mrcfile(tmp_path, rng, dtype):
    values = rng.integers(0, 60000, (4, 5, 6)).astype(dtype)
    with mrcfile.new(tmp_path / "v.mrc") as f:
        f.set_data(values)
        f.voxel_size = (40.0, 60.0, 400.0)  # x, y, z in angstrom
        f.nstart = (7, -2, 3)
    v = pv.open(tmp_path / "v.mrc")
    np.testing.assert_array_equal(v.read(), values)
    assert v.voxel_size == VoxelSize(40, 6, 4)
    assert v.box == Box((3, -2, 7), (7, 3, 13))
    with pytest.raises(BadInput, match=r"but 4 x 6 x 40 nm was given.*order x y z"):
        pv.open(tmp_path / "v.mrc", voxel_size=(4, 6, 40))


def test_mrc_files_that_do_not_fit_are_refused(tmp_path):
    with mrcfile.new(tmp_path / "signed.mrc") as f:
        f.set_data(np.zeros((2, 3, 4), np.int16))
    with pytest.raises(BadInput, match="mode 1"):
        pv.open(tmp_path / "signed.mrc", voxel_size=(4, 4, 4))
    with mrcfile.new(tmp_path / "short.mrc") as f:
        f.set_data(np.zeros((2, 3, 4), np.float32))
    whole = (tmp_path / "short.mrc").read_bytes()
    (tmp_path / "short.mrc").write_bytes(whole[:-1])
    with pytest.raises(BadInput, match="cut short"):
        pv.open(tmp_path / "short.mrc", voxel_size=(4, 4, 4))
    (tmp_path / "short.mrc").write_bytes(whole[:100])
    with pytest.raises(BadInput, match="100 bytes"):
        pv.open(tmp_path / "short.mrc", voxel_size=(4, 4, 4))
    (tmp_path / "noise.mrc").write_bytes(b"\x07" * 4096)
    with pytest.raises(BadInput, match="not an MRC file"):
        pv.open(tmp_path / "noise.mrc", voxel_size=(4, 4, 4))


@pytest.mark.parametrize("where", ["data set", "file"])
def test_an_hdf5_offset_beside_a_resolution_is_a_length(tmp_path, where):
    with h5py.File(tmp_path / "cremi.h5", "w") as f:
        f["raw"] = np.zeros((4, 5, 6), np.uint8)
        f["raw"].attrs["offset"] = [1520.0, 3648.0, -3648.0]
        (f if where == "file" else f["raw"]).attrs["resolution"] = [40.0, 4.0, 4.0]
    v = pv.open(tmp_path / "cremi.h5/raw", voxel_size=(40, 4, 4))
    assert v.box == Box.of_shape((4, 5, 6), (38, 912, -912))


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"offset": [1520, 3648, 3650], "resolution": [40, 4, 4]}, "38, 912, 912.5"),
        ({"offset": [2.5, 0, 0], "voxel_size_nm": [40, 4, 4]}, "2.5, 0, 0"),
        ({"offset": [0, 0, 8]}, "without its unit"),
        ({"offset": [0, 8], "voxel_size_nm": [40, 4, 4]}, "three numbers"),
        ({"offset": "left", "voxel_size_nm": [40, 4, 4]}, "three numbers"),
        ({"offset": [0, 0, 8], "resolution": [40, 4, 0]}, "above 0"),
        ({"offset": [0, 0, 8], "resolution": [4]}, "three numbers"),
    ],
)
def test_an_hdf5_offset_that_names_no_voxel_is_refused(tmp_path, attributes, says):
    with h5py.File(tmp_path / "v.h5", "w") as f:
        f["x"] = np.zeros((4, 5, 6), np.uint8)
        f["x"].attrs.update(attributes)
    with pytest.raises(BadInput, match=says) as e:
        pv.open(tmp_path / "v.h5/x", voxel_size=(40, 4, 4))
    assert f"{tmp_path / 'v.h5/x'} has the " in str(e.value)


def test_hdf5_offset_kind_and_attributes_of_the_file(tmp_path, rng):
    values = rng.integers(0, 255, (3, 4, 5), np.uint8)
    with h5py.File(tmp_path / "v.h5", "w") as f:
        f.attrs["voxel_size_nm"] = [40, 4, 4]
        d = f.create_dataset("deep/er/x", data=values)
        d.attrs.update({"offset": [-1, 2, 3], "kind": "labels"})
        f["big"] = values.astype(">u4")
        f["xyz"] = values
        f["xyz"].attrs["axes"] = "xyz"
    v = pv.open(tmp_path / "v.h5/deep/er/x")
    assert v.box == Box((-1, 2, 3), (2, 6, 8))
    assert v.kind == "labels"
    np.testing.assert_array_equal(pv.open(tmp_path / "v.h5/big").read(), values)
    assert pv.open(tmp_path / "v.h5/big").read().dtype == np.uint32
    with pytest.raises(BadInput, match="axes are 'xyz'"):
        pv.open(tmp_path / "v.h5/xyz")


@pytest.mark.parametrize("format", handmade.FORMATS)
def test_volumes_travel_to_worker_processes(format, tmp_path):
    handmade.tried(format, tmp_path)
    names = ["v.zarr", "v2.zarr", "v.n5", "v.precomputed", "v.h5/v", "v.mrc", "tif", "png"]
    for name in names:
        if (tmp_path / name.split("/")[0]).exists():
            v = pv.open(tmp_path / name, voxel_size=handmade.SIZE)
            there = pickle.loads(pickle.dumps(v))
            np.testing.assert_array_equal(there.read(), handmade.phantom())
            assert there.box == v.box


@pytest.fixture
def server(tmp_path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as s:
        threading.Thread(target=s.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{s.server_address[1]}"
        s.shutdown()


def test_a_bucket_that_denies_what_is_missing_can_be_read(tmp_path, rng):
    class Bucket(http.server.SimpleHTTPRequestHandler):
        def send_error(self, code, *args, **kwargs):
            super().send_error(403 if code == 404 else code, *args, **kwargs)

        def log_message(self, *_):
            pass

    assert handmade.tried("precomputed", tmp_path) == []  # leaves a volume without petavox.json
    handler = functools.partial(Bucket, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as s:
        threading.Thread(target=s.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{s.server_address[1]}"
        np.testing.assert_array_equal(pv.open(f"{url}/v.precomputed").read(), handmade.phantom())
        with pytest.raises(BadInput, match="without credentials"):
            pv.open(f"{url}/nothing")
        s.shutdown()


def test_volumes_are_read_over_http(tmp_path, server, rng):
    values = rng.integers(0, 2**40, (5, 6, 7), np.uint64)
    box = Box.of_shape(values.shape, (-2, 0, 4))
    for name, format in (("a.zarr", "ome-zarr"), ("b", "precomputed")):
        v = create(
            tmp_path / name, box=box, voxel_size=(40, 4, 4), dtype="uint64", kind="labels",
            chunk=(7, 7, 7), shard=(7, 7, 7), format=format,
        )  # fmt: skip
        v.write(box, values)
        finish(v, {})
        found = pv.open(f"{server}/{name}/")
        assert found.box == box
        assert found.kind == "labels"
    write_zarr(tmp_path / "c.zarr", values.astype(np.uint8))
    plain = pv.open(f"{server}/c.zarr", voxel_size=(40, 4, 4))
    np.testing.assert_array_equal(plain.read(), values.astype(np.uint8))
    with pytest.raises(BadInput, match="there is no volume at http"):
        pv.open(f"{server}/nothing")
    with pytest.raises(BadInput, match="http is for reading"):
        create(f"{server}/new", box=box, voxel_size=(1, 1, 1), dtype="uint8", kind="image")


@pytest.mark.parametrize("format", ["ome-zarr", "precomputed"])
def test_volumes_are_written_to_key_value_stores(monkeypatch, rng, format, tmp_path):
    # the way to s3:// and gs://, on TensorStore's store in memory
    monkeypatch.setattr(places, "SCHEMES", {*places.SCHEMES, "memory"})
    box = Box((-2, 0, 4), (5, 40, 30))
    values = rng.integers(0, 9, box.shape, np.uint64)
    how = {"box": box, "voxel_size": (40, 4, 4), "dtype": "uint64", "kind": "labels",
           "format": format}  # fmt: skip
    url = f"memory://bucket/{format}"
    v = create(url, **how)
    with pytest.raises(NotComplete):
        pv.open(url)
    v.write(box, values)
    pyramid.build(url, smallest=16, quiet=True)
    finish(v, {"stage": "test"})
    found = pv.open(url)
    np.testing.assert_array_equal(found.read(), values)
    assert found.box == box
    assert len(found.levels) > 1
    assert about(url)["complete"] is True
    with pytest.raises(AlreadyExists):
        create(url, **how)
    again = create(url, **how, overwrite=True)
    assert not again.read().any()
    import_volume(found, str(tmp_path / "copy"), quiet=True)


def test_file_urls_are_paths_and_other_schemes_are_refused(tmp_path):
    create(
        tmp_path / "v", box=Box((0, 0, 0), (1, 1, 1)), voxel_size=(1, 1, 1), dtype="uint8",
        kind="image",
    )  # fmt: skip
    assert pv.open(f"file://{tmp_path}/v", incomplete=True).shape == (1, 1, 1)
    (tmp_path / "v").rename(tmp_path / "v w")
    for name in ("v w", "v%20w"):
        assert pv.open(f"file://{tmp_path}/{name}", incomplete=True).shape == (1, 1, 1)
    with pytest.raises(BadInput, match="not ftp://"):
        pv.open("ftp://host/v")


def test_a_server_that_is_not_there_is_a_sentence():
    with pytest.raises(BadInput, match="cannot read http"):
        pv.open("http://127.0.0.1:9/v")
