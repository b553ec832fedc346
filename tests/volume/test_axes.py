"""Checks of axes, units and fit: on synthetic textures with known answers, and on real tissue."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from typer.testing import CliRunner

from petavox.cli.app import app
from petavox.space import Box
from petavox.volume import axes
from petavox.volume.check import check, middle
from petavox.volume.opening import create, finish


def cells(shape, seed=0, every=12):
    """Voronoi cells, and an image with dark membranes between them, plus noise."""
    rng = np.random.default_rng(seed)
    seeds = np.zeros(shape, np.uint32)
    n = max(8, int(np.prod(shape) / every**3))
    at = tuple(rng.integers(0, s, n) for s in shape)
    seeds[at] = np.arange(1, n + 1)
    index = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    labels = seeds[tuple(index)]
    edge = axes.boundaries(labels)
    image = 170 - 90 * ndimage.gaussian_filter(edge, 1) + rng.normal(0, 8, shape)
    return image.clip(0, 255).astype(np.uint8), labels


def test_likeness_lengths_of_a_blurred_texture_are_the_blurs():
    # the autocorrelation of white noise blurred by s is exp(-d^2 / 4 s^2): 1/e at d = 2 s
    noise = np.random.default_rng(1).normal(size=(96, 96, 96))
    found = axes.likeness_lengths(ndimage.gaussian_filter(noise, (1, 2, 4)))
    np.testing.assert_allclose(found, (2, 4, 8), rtol=0.15)


def test_lengths_of_an_even_image_are_not_known():
    assert np.isnan(axes.likeness_lengths(np.full((9, 9, 9), 7, np.uint8))).all()
    assert np.isnan(axes.run_lengths(np.full((9, 9, 9), 7, np.uint8))).all()
    assert axes.spread((np.nan, 3, np.nan), (1, 1, 1)) == 1


def test_run_lengths_count_voxels_between_changes():
    labels = np.zeros((4, 12, 12), np.uint8)
    labels[:, 6:] = 1
    labels[:, :, ::3] += 2
    z, y, _ = axes.run_lengths(labels)
    assert np.isnan(z)
    assert y == 11  # 11 faces along y, 1 of them a change, in each line


@given(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
def test_a_turn_does_to_an_array_what_its_words_say(order, flipped):
    values = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    turned = axes.Turn(tuple(order), flipped).of(values)
    for i in np.ndindex(turned.shape):
        at = [n - 1 - k if f else k for k, n, f in zip(i, turned.shape, flipped, strict=True)]
        source = [0, 0, 0]
        for axis, k in zip(order, at, strict=True):
            source[axis] = k
        assert turned[i] == values[tuple(source)]


def test_as_many_turns_as_the_shapes_allow():
    assert len(list(axes.turns((5, 5, 5), (5, 5, 5)))) == 48
    assert len(list(axes.turns((3, 5, 5), (3, 5, 5)))) == 16
    assert len(list(axes.turns((3, 5, 7), (3, 5, 7)))) == 8
    assert [t.order for t in axes.turns((3, 5, 7), (7, 5, 3))] == [(2, 1, 0)] * 8
    assert list(axes.turns((3, 5, 7), (3, 5, 8))) == []


@settings(max_examples=12, deadline=None)
@given(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
def test_the_turn_that_was_done_is_the_one_found(order, flipped):
    image, labels = cells((48, 48, 48))
    wrong = axes.Turn(tuple(order), flipped)
    found, correlation = axes.fits(image, np.ascontiguousarray(wrong.of(labels)))[0]
    np.testing.assert_array_equal(found.of(wrong.of(labels)), labels)
    assert abs(correlation) > 0.3


def test_bright_membranes_fit_as_well():
    image, labels = cells((48, 48, 48))
    found, correlation = axes.fits(255 - image, labels)[0]
    assert found.is_identity
    assert correlation < -0.3


@pytest.mark.parametrize("shift", [(0, 0, 0), (3, -5, 0), (-2, 4, 7)])
def test_the_shift_that_was_done_is_the_one_found(shift):
    image, labels = cells((48, 56, 50))
    found, there, here = axes.best_shift(image, np.roll(labels, shift, (0, 1, 2)))
    assert found == tuple(-s for s in shift)
    assert there >= here


def test_the_middle_of_a_box():
    assert middle(Box((-10, 0, 5), (10, 4, 6)), 8) == Box((-4, 0, 5), (4, 4, 6))


@pytest.fixture
def tissue(tmp_path):
    """An image and labels of 8 x 4 x 4 nm voxels whose cells are round in nm."""
    image, labels = cells((56, 56, 56), every=14)
    image, labels = image[::2], labels[::2]
    for name, values in (("image", image), ("labels", labels)):
        v = create(tmp_path / name, box=Box.of_shape(values.shape, (-3, 0, 9)),
                   voxel_size=(8, 4, 4), dtype=values.dtype, kind=name)  # fmt: skip
        v.write(v.box, values)
        finish(v, {})
    with h5py.File(tmp_path / "bad.h5", "w") as f:
        f.attrs["voxel_size_nm"] = [8.0, 4.0, 4.0]
        f["zxy"] = labels.transpose(0, 2, 1)
        f["xyz"] = labels.transpose(2, 1, 0)
        f["flipped"] = labels[:, ::-1]
        f["moved"] = np.roll(labels, (0, 6, -4), (0, 1, 2))
        f["noise"] = np.random.default_rng(2).integers(1, 9, labels.shape, np.uint32)
        for name in ("zxy", "flipped", "moved", "noise"):
            f[name].attrs["offset"] = [-3, 0, 9]
        f["micrometres"] = image
        f["micrometres"].attrs["voxel_size_nm"] = [0.008, 0.004, 0.004]
        f["uneven"] = image
        f["uneven"].attrs["voxel_size_nm"] = [60.0, 4.0, 4.0]
        f["even"] = np.full((20, 20, 20), 3, np.uint8)
        f["elsewhere"] = labels[:5]
        f["elsewhere"].attrs["offset"] = [500, 0, 0]
        coarse = f.create_dataset("coarse", data=labels)
        coarse.attrs.update({"offset": [-3, 0, 9], "voxel_size_nm": [8.0, 8.0, 8.0]})
    return tmp_path


def test_good_volumes_pass_and_wrong_ones_are_told(tissue):
    good = check([str(tissue / "image"), str(tissue / "labels")])
    assert good.wrong == []
    assert good.figures[str(tissue / "labels")]["fit"]["best"] == "as they are"

    def wrong(name):
        report = check([str(tissue / "image"), str(tissue / "bad.h5" / name)])
        return " ".join(report.wrong)

    assert "axes taken in the order z x y" in wrong("zxy")
    assert "axes taken in the order x y z" in wrong("xyz")
    assert "y reversed" in wrong("flipped")
    assert "moved by (0, -6, 4)" in wrong("moved")
    assert "follow no membranes" in wrong("noise")
    assert "no voxel in common" in wrong("elsewhere")
    assert "is the unit right" in wrong("micrometres")
    assert "more than tissue has" in wrong("uneven")
    assert "too even" in wrong("even")
    assert "voxels are 8 x 8 x 8 nm and 8 x 4 x 4 nm" in wrong("coarse")


def test_a_voxel_size_in_the_order_xyz_is_told(tmp_path):
    rng = np.random.default_rng(0)
    thick = ndimage.gaussian_filter(rng.normal(size=(24, 96, 96)), (0.6, 4, 4))
    with h5py.File(tmp_path / "b.h5", "w") as f:
        f["x"] = thick.astype(np.float32)
        f["x"].attrs["voxel_size_nm"] = [4.0, 4.0, 32.0]
    (sentence,) = check([str(tmp_path / "b.h5/x")]).wrong
    assert "with 32 x 4 x 4 nm they would agree" in sentence


def test_the_command_fails_where_something_does_not_fit(tissue):
    run = CliRunner().invoke
    good = run(app, ["check", f"{tissue}/image", f"{tissue}/labels", "--json"])
    assert good.exit_code == 0
    assert json.loads(good.stdout)["wrong"] == 0
    bad = run(app, ["check", f"{tissue}/image", "--labels", f"{tissue}/bad.h5/zxy"])
    assert bad.exit_code == 1
    assert "WRONG" in bad.stdout
    assert "1 of 5 checks do not fit" in bad.stderr


def test_real_labels_fit_and_a_permuted_copy_does_not(real_data, tmp_path):
    folder = real_data("fib25/training_sample2.h5")
    good = check([f"{folder}/raw", f"{folder}/labels"], sample=96)
    assert good.wrong == []
    with h5py.File(folder) as f, h5py.File(tmp_path / "p.h5", "w") as g:
        g.attrs["voxel_size_nm"] = f.attrs["voxel_size_nm"]
        g["labels"] = f["labels"][:].transpose(2, 1, 0)
    bad = check([f"{folder}/raw", str(tmp_path / "p.h5/labels")], sample=96)
    assert "axes taken in the order x y z" in " ".join(bad.wrong)


def test_real_sections_tell_a_voxel_size_in_the_wrong_order(real_data, tmp_path):
    file = real_data("vnc_sstem/stack1.h5")
    assert check([f"{file}/raw"], sample=200).wrong == []
    with h5py.File(file) as f, h5py.File(tmp_path / "p.h5", "w") as g:
        g["raw"] = f["raw"][:, :200, :200]
    wrong = check([str(tmp_path / "p.h5/raw")], voxel_size=(4.6, 4.6, 50)).wrong
    assert "with 50 x 4.6 x 4.6 nm they would agree" in " ".join(wrong)
