"""Scores of a run: which synapses count, and how they are put together."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from petavox.space import Box, VoxelSize
from petavox.stages.run_scores import RunScoreSettings, _grouped, inside, run
from petavox.volume.opening import create, finish

NM = (40.0, 10.0, 10.0)


def table(*rows) -> pa.Table:
    """id, pre, post, z_nm, y_nm, x_nm."""
    names = ("id", "pre", "post", "z_nm", "y_nm", "x_nm")
    kinds = (pa.uint64(),) * 3 + (pa.float64(),) * 3
    return pa.table({n: pa.array([r[k] for r in rows], kinds[k]) for k, n in enumerate(names)})


def labels(path, start, shape):
    """Object 1 below y 8, object 2 from there on."""
    values = np.ones(shape, np.uint64)
    values[:, max(8 - start[1], 0) :] = 2
    made = create(
        path, box=Box.of_shape(shape, start), voxel_size=NM, dtype=np.uint64, kind="labels",
        chunk=(4, 8, 8), shard=(4, 16, 16),
    )  # fmt: skip
    made.write(made.box, values)
    finish(made, {})
    return path


@pytest.mark.parametrize("known", [True, False])
def test_synapses_count_only_where_the_segmentation_and_the_truth_are(tmp_path, known):
    own = labels(tmp_path / "own", (0, 0, 0), (4, 16, 16))
    whole = labels(tmp_path / "whole", (-4, 0, 0), (12, 16, 64))
    inner, outer = (1, 1, 2, 80.0, 80.0, 80.0), (2, 2, 1, 80.0, 80.0, 400.0)
    pq.write_table(table(inner, (3, 1, 2, 200.0, 80.0, 80.0)), tmp_path / "found.parquet")
    pq.write_table(table(inner, outer), tmp_path / "true.parquet")
    said = run(
        tmp_path / "scores",
        RunScoreSettings(within_nm=20),
        segmentations={"objects": own},
        labels=whole if known else None,
        synapses=tmp_path / "found.parquet",
        true_synapses=tmp_path / "true.parquet",
    )
    assert {k: said["synapses"][k] for k in ("found", "true", "matched")} == {
        "found": 1, "true": 1, "matched": 1,
    }  # fmt: skip
    assert said["synapses"]["f1"] == 1
    if known:
        assert (said["edges"]["found"], said["edges"]["true"]) == (1, 1)
        assert said["edges"]["edges"]["f1"] == 1


def test_a_synapse_is_inside_with_all_its_partners_or_not_at_all():
    rows = table(
        (9, 1, 2, -0.5, 5.0, 5.0),  # voxel -1, 0, 0
        (9, 1, 3, -0.5, 5.0, 5.0),
        (4, 1, 2, 0.0, 5.0, 5.0),  # the face of voxel 0 belongs to it
        (7, 1, 2, 40.0, 5.0, 5.0),
    )
    box = Box((-1, 0, 0), (1, 1, 1))
    assert inside(rows, box, VoxelSize(*NM))["id"].to_pylist() == [9, 9, 4]
    assert inside(rows.slice(0, 0), box, VoxelSize(*NM)).num_rows == 0


def test_rows_are_grouped_in_the_time_that_their_number_takes():
    rng = np.random.default_rng(0)
    n = 40_000
    rows = rng.permutation(np.repeat(np.arange(n), 2))
    ends = np.arange(2 * n)
    began = time.process_time()
    found = _grouped(rows, ends, ends + 1)
    assert time.process_time() - began < 3  # each number compared with every row took 8 s and more
    assert len(found) == n
    for k in (0, 1, n - 1):
        mine = np.flatnonzero(rows == k)
        assert found[k] == (mine.tolist(), (mine + 1).tolist())
