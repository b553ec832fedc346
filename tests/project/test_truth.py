"""The truth of phantom tiles in the frame of the run's volume, and the scores of a run."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

import petavox as pv
from petavox.phantom import TilesTruth, tissue
from petavox.phantom.looks import LOOKS
from petavox.project.driver import run
from petavox.stages.run_scores import partners
from petavox.stages.tile_truth import Followed
from tests.project import small


@pytest.fixture(scope="module")
def followed(rendered, all_tiles):
    truth = TilesTruth.load(all_tiles)
    return Followed(truth, rendered.folder / "stitched", rendered.folder / "aligned")


def test_points_of_tiles_followed_forward_have_the_labels_that_were_followed_back(
    rendered, followed
):
    truth, s = followed.truth, followed.truth.settings
    labels = pv.open(rendered.folder / "truth" / "labels.zarr")
    rng = np.random.default_rng(0)
    same = seen = 0
    for k in range(s.sections):
        p = rng.uniform(8, np.array(s.tile) - 9, (400, 2))
        u = np.rint(truth.tile_to_aligned(k, 0, p)).astype(int)
        low, high = u.min(0), u.max(0) + 1
        box = pv.Box((truth.layout.order[k], *low.tolist()), (truth.layout.order[k] + 1,
                                                             *high.tolist()))  # fmt: skip
        look = LOOKS["serial-section"].model_copy(update={"slices": 1})
        own = tissue(box, (s.thickness_nm, s.pixel_nm, s.pixel_nm), s.seed, look).labels[0]
        expected = own[tuple((u - low).T)]
        at = np.rint(followed.align(k, followed.stitch(k, 0, p))).astype(int)
        plane = labels.read(pv.Box((k, *labels.box.start[1:]), (k + 1, *labels.box.stop[1:])))[0]
        found = plane[tuple((at - np.array(labels.box.start[1:])).T)]
        seen += len(p)
        same += int((found == expected).sum())
    # they differ by rounding, within a pixel of a boundary
    assert same / seen > 0.93


def test_alignment_is_scored_and_no_truth_is_claimed_where_no_tile_is(rendered):
    figures = rendered.state("truth").figures
    assert figures["alignment"]["seam_px"]["mean"] < 0.5
    assert figures["alignment"]["adjacent_px"]["mean"] < 2
    image, labels = (pv.open(rendered.folder / p) for p in ("image.zarr", "truth/labels.zarr"))
    a, b = image.read(), labels.read()
    assert image.box == labels.box
    assert (b[a == 0] != 0).mean() < 0.02
    assert (b[a > 0] != 0).mean() > 0.97


def test_true_synapses_lie_between_their_partners(rendered):
    table = pa.csv.read_csv(rendered.folder / "truth" / "synapses.csv")
    labels = pv.open(rendered.folder / "truth" / "labels.zarr")
    all_ = labels.read()
    for row in table.to_pylist():
        at = [int(row[f"{a}_nm"] // n) for a, n in zip("zyx", labels.voxel_size, strict=True)]
        near = tuple(
            slice(max(p - o - 12, 0), p - o + 13) for p, o in zip(at, labels.box.start, strict=True)
        )
        assert row["pre"] in all_[near]
        assert row["post"] in all_[near]


def test_the_truth_as_a_result_scores_as_perfect(rendered, all_tiles, tmp_path):
    """A run on the tiles' image whose segmentation is the truth itself."""
    from petavox.stages import run_scores

    labels = rendered.folder / "truth" / "labels.zarr"
    found = run_scores.run(
        tmp_path / "scores",
        run_scores.RunScoreSettings(),
        segmentations={"objects": labels},
        labels=labels,
        synapses=rendered.folder / "truth" / "synapses.csv",
        true_synapses=rendered.folder / "truth" / "synapses.csv",
    )
    assert found["objects"]["raw"]["vi"] == 0
    synapses = found["synapses"]
    assert synapses["found"] == synapses["true"] == synapses["matched"]
    if synapses["true"]:
        assert synapses["both_right"] == 1
        assert found["edges"]["edges"]["f1"] == 1


def rows(*values):
    names = ("id", "pre", "post", "z_nm", "y_nm", "x_nm")
    columns = list(zip(*values, strict=True)) if values else [()] * 6
    return pa.table({n: pa.array(c) for n, c in zip(names, columns, strict=True)})


def test_partners_and_edges_by_hand():
    truth = rows(
        (1, 10, 20, 0, 0, 0), (1, 10, 30, 0, 0, 0), (2, 10, 20, 0, 500, 0), (3, 20, 10, 0, 900, 0)
    )
    # objects 1 and 2 lie on body 10, 3 on body 20, 4 on nothing
    named = (np.array([1, 2, 3], np.uint64), np.array([10, 10, 20], np.uint64))
    found = rows(
        (7, 1, 3, 0, 10, 0),  # right, one of two partners
        (8, 2, 4, 0, 510, 0),  # the partner is on no body
        (9, 1, 3, 0, 5000, 0),  # there is none
    )
    figures, edges = partners(found, truth, named, 200.0)
    assert (figures["found"], figures["true"], figures["matched"]) == (3, 3, 2)
    assert figures["precision"] == figures["recall"] == pytest.approx(2 / 3, abs=1e-4)
    assert (figures["pre_right"], figures["post_right"], figures["both_right"]) == (1, 0.5, 0.5)
    # found: 10 -> 20 twice; true: 10 -> 20 twice, 10 -> 30, 20 -> 10
    assert edges["edges"] == {"precision": 1.0, "recall": pytest.approx(1 / 3, abs=1e-4), "f1": 0.5}
    assert edges["synapses_on_edges"]["recall"] == 0.5


def test_scores_of_nothing_found():
    truth = rows((1, 10, 20, 0, 0, 0))
    figures, edges = partners(rows(), truth, (np.zeros(0, np.uint64),) * 2, 200.0)
    assert figures["recall"] == 0
    assert figures["both_right"] is None
    assert edges["edges"]["recall"] == 0


def test_a_run_scores_its_own_alignment(rendered, all_tiles, tmp_path):
    values = small.described_tiles(
        all_tiles, segment=small.SEGMENT | {"block": [4, 128, 256], "context": [0, 0, 0]},
        reconcile=True,
    ) | {"truth": {"tiles": str(all_tiles)}}  # fmt: skip
    import json
    import shutil

    shutil.copytree(rendered.folder, tmp_path / "p")
    project = small.project(tmp_path / "p", values)
    figures = run(project)
    assert figures["truth"].startswith("kept")
    said = json.loads((project.folder / "scores" / "scores.json").read_text())
    assert said["seam_px"] == rendered.state("truth").figures["alignment"]["seam_px"]
    assert 0 < said["objects"]["fill"] <= 1
