"""Blockwise segmentation and reconciliation against the whole volume segmented at once."""

from __future__ import annotations

import json

import numpy as np
import pytest

from petavox import volume
from petavox.blocks import Ledger, open_engine
from petavox.errors import BadInput, NotComplete, WorkFailed
from petavox.provenance import digest
from petavox.segment.connected import components
from petavox.segment.links import block_of
from petavox.space import Box, Grid, VoxelSize
from petavox.stages import reconcile as stage
from petavox.stages import reconcile_proof, tables
from petavox.stages.block_labels import BlockLabels, chunk_of, room
from petavox.stages.blockwise_segment import BlockwiseSettings, segment_blocks
from petavox.stages.reconcile import ReconcileSettings, reconcile
from petavox.volume import state
from petavox.volume.opening import create, finish
from tests.stages.changed_code import requires_again

START = (-4, 3, 0)


def boxes(shape, n, rng) -> np.ndarray:
    """Objects that are boxes: what a block sees of one is always connected."""
    truth = np.zeros(shape, np.uint32)
    for i in range(1, n + 1):
        size = [min(s, int(rng.integers(min(2, s), max(3, s // 2)))) for s in shape]
        at = [int(rng.integers(0, s - k + 1)) for s, k in zip(shape, size, strict=True)]
        place = tuple(slice(a, a + k) for a, k in zip(at, size, strict=True))
        if not truth[place].any():
            truth[place] = i
    return truth


def stored(path, values, *, start=START, kind="image") -> volume.Volume:
    made = create(
        path,
        box=Box.of_shape(values.shape, start),
        voxel_size=(40, 4, 4),
        dtype=values.dtype,
        kind=kind,
        chunk=(8, 8, 8),
        shard=(16, 16, 16),
    )
    made.write(made.box, values)
    finish(made, {})
    return made


def same_objects(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal up to names."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


def go(folder, image, *, block, context, name="out", engine=None, shuffle=None):
    with Ledger(folder / f"{name}.run" / "ledger.db") as ledger:
        how = {"ledger": ledger, "engine": engine, "shuffle": shuffle, "quiet": True}
        segment_blocks(
            image,
            folder / f"{name}.blocks",
            settings=BlockwiseSettings(block=block, context=context, method="components"),
            **how,
        )
        proof = reconcile(folder / f"{name}.blocks", folder / name, **how)
    return proof, volume.open(folder / name)


@pytest.mark.parametrize(
    ("shape", "block", "context"),
    [
        ((17, 30, 25), (5, 8, 7), (2, 3, 2)),
        ((9, 9, 40), (9, 9, 8), (0, 0, 2)),
        ((1, 33, 20), (1, 16, 16), (0, 2, 3)),
        ((12, 12, 12), (16, 16, 16), (2, 2, 2)),
    ],
)
def test_blocks_joined_equal_the_whole(tmp_path, rng, shape, block, context):
    truth = boxes(shape, 40, rng)
    stored(tmp_path / "image", truth)
    proof, out = go(tmp_path, tmp_path / "image", block=block, context=context)
    assert out.box == Box.of_shape(shape, START)
    assert tuple(out.voxel_size) == (40, 4, 4)
    final = out.read()
    assert final.dtype == np.uint64
    assert same_objects(final, components(truth, None, 1))
    assert proof["share_cut_after"] == 0
    assert proof["objects_final"] == len(np.unique(final)) - (final == 0).any()
    n = [-(-s // b) for s, b in zip(shape, block, strict=True)]
    assert proof["faces_decided"] == (
        (n[0] - 1) * n[1] * n[2] + n[0] * (n[1] - 1) * n[2] + n[0] * n[1] * (n[2] - 1)
    )


def test_an_object_takes_the_id_of_its_smallest_member(tmp_path):
    truth = np.zeros((4, 4, 40), np.uint32)
    truth[1:3, 1:3, 2:38] = 9
    stored(tmp_path / "image", truth, start=(0, 0, 0))
    _, out = go(tmp_path, tmp_path / "image", block=(4, 4, 8), context=(0, 0, 2))
    final = np.unique(out.read())
    assert final.tolist() == [0, 1]
    assert block_of(final[1:]).tolist() == [0]


def test_the_result_does_not_depend_on_the_order_of_blocks(tmp_path, rng):
    truth = boxes((20, 20, 20), 40, rng)
    stored(tmp_path / "image", truth)
    results = []
    for shuffle in (None, 1, 2):
        _, out = go(
            tmp_path,
            tmp_path / "image",
            block=(8, 8, 8),
            context=(2, 2, 2),
            name=f"o{shuffle}",
            shuffle=shuffle,
        )
        results.append(digest(out.read().tobytes()))
    assert len(set(results)) == 1


def test_worker_processes_give_the_same_ids_as_one_process(tmp_path, rng):
    truth = boxes((20, 20, 20), 40, rng)
    stored(tmp_path / "image", truth)
    how = {"block": (8, 8, 8), "context": (2, 2, 2)}
    _, one = go(tmp_path, tmp_path / "image", **how)
    with open_engine(workers=2) as engine:
        _, two = go(tmp_path, tmp_path / "image", name="two", engine=engine, **how)
    assert np.array_equal(one.read(), two.read())


def test_a_second_run_keeps_everything(tmp_path, rng):
    stored(tmp_path / "image", boxes((12, 12, 12), 10, rng))
    how = {"block": (6, 6, 6), "context": (2, 2, 2)}
    go(tmp_path, tmp_path / "image", **how)
    mark = (tmp_path / "out" / "0").stat().st_mtime_ns
    go(tmp_path, tmp_path / "image", **how)
    assert (tmp_path / "out" / "0").stat().st_mtime_ns == mark
    with Ledger(tmp_path / "out.run" / "ledger.db", readonly=True) as ledger:
        assert all(len(ledger.runs(t["name"])) == 1 for t in ledger.tasks())


def test_a_worker_that_lives_on_applies_the_new_lookup(tmp_path):
    """Two blocks agree on 2 of 4 voxels: one object at a share of 0.3, two at 0.9."""
    a, b = np.zeros((2, 1, 1, 30), np.uint32)
    a[0, 0, 8:14], b[0, 0, 12:20] = 1, 1
    grid = Grid(Box.of_shape((1, 1, 30), START), (1, 1, 15), (0, 0, 5))
    kept = BlockLabels.create(tmp_path / "blocks", grid, VoxelSize(40, 4, 4))
    for block, values in zip(grid, (a, b), strict=True):
        kept.write(block, values[Box.of_shape(block.read.shape, shifted(block.read)).slices()])
    state.finish(tmp_path / "blocks", {})

    def finals(share, engine):
        settings = ReconcileSettings(share=share, inside=None, pyramid=False)
        with Ledger(tmp_path / "out.run" / "ledger.db") as ledger:
            reconcile(
                tmp_path / "blocks", tmp_path / "out", ledger=ledger, settings=settings,
                engine=engine, quiet=True,
            )  # fmt: skip
        return len(np.unique(volume.open(tmp_path / "out").read())) - 1

    with open_engine(workers=1) as engine:
        assert [finals(share, engine) for share in (0.9, 0.3, 0.9)] == [2, 1, 2]


def shifted(box):
    return tuple(a - b for a, b in zip(box.start, START, strict=True))


def test_labels_of_blocks_made_anew_in_another_grid_are_read_in_that_one(tmp_path):
    for side in (8, 4):
        grid = Grid(Box((0, 0, 0), (4, 4, 16)), (4, 4, side))
        made = BlockLabels.create(tmp_path / "blocks", grid, VoxelSize(8, 8, 8))
        state.finish(made.path, {})
        assert BlockLabels.open(tmp_path / "blocks").grid == grid


def test_final_objects_of_many_blocks_are_counted_without_a_merging_for_each(monkeypatch):
    """Even ids merge into the odd one before them; 1 lies in no write box."""
    blocks = [{"id": np.array([2 * k, 2 * k + 1], np.uint64)} for k in range(1, 201)]
    monkeypatch.setattr(reconcile_proof.tables, "parts", lambda *_: iter(blocks))
    monkeypatch.setattr(
        reconcile_proof, "final_ids", lambda _, ids: ids - (ids % 2 == 0).astype(np.uint64)
    )
    merged = []
    monkeypatch.setattr(
        reconcile_proof, "distinct", lambda v: merged.append(len(v)) or np.unique(v)
    )
    # 1, 3, ..., 399, which stand for the even ones too, and 401
    assert reconcile_proof._count_final("none", len(blocks), "none") == 201
    assert merged == [200]


def test_other_code_merges_again(tmp_path, rng, monkeypatch):
    stored(tmp_path / "image", boxes((9, 9, 20), 8, rng))

    def run():
        go(tmp_path, tmp_path / "image", block=(9, 9, 8), context=(0, 0, 2))

    for module in ("segment.unionfind", "stages.relabel"):
        requires_again(monkeypatch, f"petavox.{module}", stage, "write_lookup", run)


def test_a_changed_image_is_segmented_again(tmp_path, rng):
    how = {"block": (6, 6, 6), "context": (2, 2, 2)}
    stored(tmp_path / "image", boxes((12, 12, 12), 10, rng))
    go(tmp_path, tmp_path / "image", **how)
    import shutil

    shutil.rmtree(tmp_path / "image")
    other = boxes((12, 12, 12), 10, rng)
    stored(tmp_path / "image", other)
    _, out = go(tmp_path, tmp_path / "image", **how)
    assert same_objects(out.read(), components(other, None, 1))


def test_a_volume_cut_without_overlap_is_joined_by_its_planes(tmp_path):
    cut = np.zeros((4, 4, 12), np.uint64)
    cut[:2, :, :6], cut[2:, :, :6] = 11, 12
    cut[:2, :, 6:], cut[2:, :, 6:] = 50, 40
    stored(tmp_path / "cut", cut, start=(0, 0, 0), kind="labels")
    with Ledger(tmp_path / "ledger.db") as ledger:
        proof = reconcile(
            tmp_path / "cut",
            tmp_path / "out",
            ledger=ledger,
            settings=ReconcileSettings(block=(4, 4, 6)),
            quiet=True,
        )
    assert np.unique(volume.open(tmp_path / "out").read()).tolist() == [11, 12]
    assert (proof["cut_before"], proof["cut_after"], proof["links_accepted"]) == (4, 0, 2)


def test_a_volume_that_is_one_already_is_refused(tmp_path):
    stored(tmp_path / "v", np.full((4, 4, 8), 3, np.uint64), start=(0, 0, 0), kind="labels")
    with (
        Ledger(tmp_path / "ledger.db") as ledger,
        pytest.raises(WorkFailed, match="both sides of the face"),
    ):
        reconcile(
            tmp_path / "v",
            tmp_path / "out",
            ledger=ledger,
            settings=ReconcileSettings(block=(4, 4, 4)),
            quiet=True,
        )


def test_a_volume_without_a_block_shape_is_refused_before_work(tmp_path):
    stored(tmp_path / "v", np.ones((4, 4, 8), np.uint64), start=(0, 0, 0), kind="labels")
    with Ledger(tmp_path / "ledger.db") as ledger, pytest.raises(BadInput, match="in which blocks"):
        reconcile(tmp_path / "v", tmp_path / "out", ledger=ledger, quiet=True)


def test_damaged_links_are_named_and_the_volume_is_not_complete(tmp_path, rng):
    stored(tmp_path / "image", boxes((12, 12, 12), 10, rng))
    how = {"block": (6, 6, 6), "context": (2, 2, 2)}
    go(tmp_path, tmp_path / "image", **how)
    tables.part(tmp_path / "out.links", 3, "links").write_bytes(b"damaged")
    (tmp_path / "out.lookup" / "petavox.json").write_text(json.dumps({"state": "writing"}))
    with pytest.raises(WorkFailed, match="cannot be read"):
        go(tmp_path, tmp_path / "image", **how)


def test_unfinished_labels_of_blocks_are_no_input(tmp_path, rng):
    stored(tmp_path / "image", boxes((12, 12, 12), 10, rng))
    with Ledger(tmp_path / "ledger.db") as ledger:
        how = {"ledger": ledger, "quiet": True}
        segment_blocks(
            tmp_path / "image",
            tmp_path / "b",
            settings=BlockwiseSettings(block=(6, 6, 6), context=(2, 2, 2), method="components"),
            only=[0, 1],
            **how,
        )
        with pytest.raises((NotComplete, WorkFailed), match="not complete"):
            reconcile(tmp_path / "b", tmp_path / "out", **how)


@pytest.mark.parametrize(
    ("side", "most", "chunk"),
    [(256, 64, 64), (100, 64, 50), (13, 64, 13), (67, 64, 67), (134, 64, 67), (521, 512, 521),
     (600, 512, 300), (8 * 131, 64, 8)],
)  # fmt: skip
def test_chunks_fill_a_block_and_are_not_tiny(side, most, chunk):
    assert chunk_of(side, most) == chunk


def test_blocks_that_no_chunk_fills_are_refused_with_another_shape():
    with pytest.raises(BadInput, match=r"251 voxels .* Choose a multiple of 16, such as 256"):
        chunk_of(251, 64)


def test_labels_of_a_block_are_kept_whole_with_their_context(tmp_path, rng):
    stored(tmp_path / "image", boxes((17, 30, 25), 30, rng))
    grid_settings = BlockwiseSettings(block=(5, 8, 7), context=(2, 3, 2), method="components")
    with Ledger(tmp_path / "ledger.db") as ledger:
        segment_blocks(
            tmp_path / "image", tmp_path / "b", ledger=ledger, settings=grid_settings, quiet=True
        )
    labels = BlockLabels.open(tmp_path / "b")
    image = volume.open(tmp_path / "image")
    assert room(labels.grid) == (16, 16, 16)
    for block in labels.grid:
        expected = components(image.read(block.read), None, 1)
        assert np.array_equal(labels.read(block, block.read), expected)


def test_context_smaller_than_the_field_of_view_is_refused(tmp_path, rng):
    from petavox.ffn.model import ModelSpec, save_model
    from petavox.ffn.network import ConvStack

    spec = ModelSpec(
        fov=(9, 9, 9), deltas=(2, 2, 2), depth=2, features=2, image_mean=0, image_std=1
    )
    save_model(tmp_path / "m.safetensors", spec, ConvStack(2, 2, spec.norm).state_dict())
    stored(tmp_path / "image", boxes((12, 12, 12), 10, rng).astype(np.uint8))
    with (
        Ledger(tmp_path / "ledger.db") as ledger,
        pytest.raises(BadInput, match="Use at least \\(4, 4, 4\\)"),
    ):
        segment_blocks(
            tmp_path / "image",
            tmp_path / "b",
            model=tmp_path / "m.safetensors",
            settings=BlockwiseSettings(block=(8, 8, 8), context=(3, 4, 4)),
            ledger=ledger,
            quiet=True,
        )


def test_a_flood_in_blocks_runs_end_to_end(tmp_path, rng):
    from petavox.ffn.model import ModelSpec, save_model
    from petavox.ffn.network import ConvStack

    spec = ModelSpec(
        fov=(9, 9, 9), deltas=(2, 2, 2), depth=2, features=2, image_mean=100, image_std=50
    )
    save_model(tmp_path / "m.safetensors", spec, ConvStack(2, 2, spec.norm).state_dict())
    image = rng.integers(0, 255, (20, 20, 24)).astype(np.uint8)
    image[:, :, 12:] = 0  # the second block's half is not imaged
    stored(tmp_path / "image", image, start=(0, 0, 0))
    with Ledger(tmp_path / "ledger.db") as ledger:
        outcome = segment_blocks(
            tmp_path / "image",
            tmp_path / "b",
            model=tmp_path / "m.safetensors",
            settings=BlockwiseSettings(block=(20, 20, 12), context=(4, 4, 4)),
            ledger=ledger,
            quiet=True,
        )
        assert outcome.complete
        sums = ledger.counters("segment-blocks")
    assert sums["voxels"] == image.size
    assert sums["read_voxels"] == 20 * 20 * 16 * 2
    assert len(list(tables.parts(tmp_path / "b.origins", 2))) == 2
