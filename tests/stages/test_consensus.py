"""`petavox consensus` on volumes, in blocks, against the consensus of the whole array."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from petavox import volume
from petavox.blocks import Ledger, open_engine
from petavox.cli.app import app
from petavox.errors import BadInput
from petavox.segment.consensus import consensus
from petavox.segment.ensemble import ensemble
from petavox.space import Box
from petavox.stages import consensus as stage
from petavox.stages.candidates import overlaps_of
from petavox.stages.consensus import consensus_of
from petavox.stages.consensus_stages import ConsensusSettings
from petavox.volume.opening import create, finish
from tests.stages.changed_code import requires_again


def stored(path, values, start=(-4, 3, 0), voxel_size=(40, 4, 4)):
    made = create(
        path,
        box=Box.of_shape(values.shape, start),
        voxel_size=voxel_size,
        dtype=values.dtype,
        kind="labels",
        chunk=(8, 8, 8),
        shard=(16, 16, 16),
    )
    made.write(made.box, values)
    finish(made, {})
    return path


def two(rng, shape=(13, 22, 17)):
    """Two labellings of blobs that disagree, with gaps."""
    coarse = rng.integers(0, 6, [-(-n // 4) for n in shape])
    a = np.kron(coarse, np.ones((4, 4, 4), int))[tuple(slice(0, n) for n in shape)]
    b = np.roll(a, 2, axis=1) + 3 * (rng.random(shape) > 0.95)
    return a.astype(np.uint64), b.astype(np.uint64)


def go(folder, *passes, name="out", shuffle=None, engine=None, **settings):
    with Ledger(folder / f"{name}.run" / "ledger.db") as ledger:
        return consensus_of(
            passes,
            folder / name,
            ledger=ledger,
            settings=ConsensusSettings(**settings),
            shuffle=shuffle,
            engine=engine,
            quiet=True,
        )


@pytest.mark.parametrize("block", [(32, 32, 32), (8, 8, 8), (5, 22, 7)])
def test_blocks_give_the_consensus_of_the_whole(tmp_path, rng, block):
    a, b = two(rng)
    proof = go(
        tmp_path, stored(tmp_path / "a", a), stored(tmp_path / "b", b), block=block, min_size=5
    )
    out = volume.open(tmp_path / "out")
    expected = consensus(a, b, 5)
    assert np.array_equal(out.read(), expected)
    assert out.box == Box.of_shape(a.shape, (-4, 3, 0))
    assert tuple(out.voxel_size) == (40, 4, 4)
    assert proof["voxels_kept"] == np.count_nonzero(expected)
    assert proof["voxels_labelled_in_any"] == np.count_nonzero((a > 0) | (b > 0))
    assert proof["voxels_kept"] + proof["voxels_dropped"] == proof["voxels_labelled_in_any"]
    assert proof["objects"] == len(np.unique(expected[expected > 0]))
    assert proof["kept_their_id"] + proof["new_ids"] == proof["objects"]
    said = json.loads((tmp_path / "out" / "petavox.json").read_text())
    assert said["state"] == "complete"
    assert said["provenance"]["proof"] == proof


def test_the_order_of_blocks_does_not_matter_and_a_second_run_keeps_all(tmp_path, rng):
    a, b = two(rng)
    stored(tmp_path / "a", a), stored(tmp_path / "b", b)
    results = []
    for shuffle in (None, 3):
        go(
            tmp_path,
            tmp_path / "a",
            tmp_path / "b",
            name=f"o{shuffle}",
            shuffle=shuffle,
            block=8,
            min_size=2,
        )
        results.append(volume.open(tmp_path / f"o{shuffle}").read())
    assert np.array_equal(*results)
    mark = (tmp_path / "o3" / "0").stat().st_mtime_ns
    go(tmp_path, tmp_path / "a", tmp_path / "b", name="o3", block=8, min_size=2)
    assert (tmp_path / "o3" / "0").stat().st_mtime_ns == mark


def test_another_minimum_counts_nothing_again_but_writes_anew(tmp_path, rng):
    a, b = two(rng)
    stored(tmp_path / "a", a), stored(tmp_path / "b", b)
    go(tmp_path, tmp_path / "a", tmp_path / "b", block=8, min_size=2)
    go(tmp_path, tmp_path / "a", tmp_path / "b", block=8, min_size=40)
    assert np.array_equal(volume.open(tmp_path / "out").read(), consensus(a, b, 40))


def test_a_worker_that_lives_on_applies_the_new_ids(tmp_path, rng):
    passes = [stored(tmp_path / f"v{i}", v) for i, v in enumerate(two(rng))]
    with open_engine(workers=1) as engine:
        made = [
            (go(tmp_path, *passes, engine=engine, **s), volume.open(tmp_path / "out").read())[1]
            for s in (SMALL | {"share": 0.2}, SMALL | {"share": 0.9})
        ]
    go(tmp_path, *passes, name="fresh", share=0.9, **SMALL)
    assert np.array_equal(made[1], volume.open(tmp_path / "fresh").read())
    assert not np.array_equal(made[0], made[1])


SMALL = {"min_size": 3, "block": (8, 8, 8)}


def test_other_code_decides_again(tmp_path, rng, monkeypatch):
    passes = [stored(tmp_path / f"v{i}", v) for i, v in enumerate(two(rng))]
    for module in ("segment.consensus", "segment.ensemble", "segment.parts",
                   "stages.consensus_stages"):  # fmt: skip
        requires_again(
            monkeypatch, f"petavox.{module}", stage, "decided",
            lambda: go(tmp_path, *passes, share=0.5, **SMALL),
        )  # fmt: skip


def test_labels_of_blocks_are_agreed_on_block_by_block(tmp_path, rng):
    from petavox.stages.block_labels import BlockLabels
    from petavox.stages.blockwise_segment import BlockwiseSettings, segment_blocks

    a, b = two(rng)
    with Ledger(tmp_path / "ledger.db") as ledger:
        for name, values in (("a", a), ("b", b)):
            stored(tmp_path / name, values)
            segment_blocks(
                tmp_path / name,
                tmp_path / f"{name}.blocks",
                settings=BlockwiseSettings(block=8, context=2, method="components"),
                ledger=ledger,
                quiet=True,
            )
    go(tmp_path, tmp_path / "a.blocks", tmp_path / "b.blocks", min_size=3)
    made = {n: BlockLabels.open(tmp_path / n) for n in ("a.blocks", "b.blocks", "out")}
    for block in made["out"].grid:
        one, other, out = (made[n].read(block, block.read) for n in made)
        assert np.array_equal(out, consensus(one, other, 3))
    with pytest.raises(BadInput, match="all of one kind"):
        go(tmp_path, tmp_path / "a.blocks", tmp_path / "b", name="mixed")


@pytest.mark.parametrize("block", [(32, 32, 32), (5, 22, 7)])
def test_three_passes_in_blocks_give_the_ensemble_of_the_whole(tmp_path, rng, block):
    passes = [*two(rng), two(rng)[1]]
    paths = [stored(tmp_path / f"p{i}", p) for i, p in enumerate(passes)]
    how = {"share": 0.3, "least": 2, "min_size": 3}
    proof = go(tmp_path, *paths, block=block, **how)
    expected = ensemble(passes, **how)
    assert np.array_equal(volume.open(tmp_path / "out").read(), expected)
    assert proof["objects"] == len(np.unique(expected[expected > 0]))
    assert proof["voxels_kept"] == np.count_nonzero(expected)
    assert proof["objects_3"] == len(np.unique(passes[2][passes[2] > 0]))


def test_what_a_pass_held_together_is_told_to_agglomeration(tmp_path, rng):
    passes = two(rng)
    paths = [stored(tmp_path / n, p) for n, p in zip("ab", passes, strict=True)]
    go(tmp_path, *paths, share=0.6, min_size=5)
    out = volume.open(tmp_path / "out").read()
    told = overlaps_of(tmp_path / "out")
    # brute force: in each object of a pass, the smaller of what it holds of each of two
    expected = {}
    for values in passes:
        sums = {}
        for i in np.unique(values[values > 0]):
            ids, voxels = np.unique(out[(values == i) & (out > 0)], return_counts=True)
            for k, (a, m) in enumerate(zip(ids.tolist(), voxels.tolist(), strict=True)):
                for b, n in list(zip(ids.tolist(), voxels.tolist(), strict=True))[k + 1 :]:
                    sums[a, b] = sums.get((a, b), 0) + min(m, n)
        for pair, n in sums.items():
            expected[pair] = max(expected.get(pair, 0), n)
    assert expected
    assert told == expected


def test_another_share_counts_nothing_again_but_decides_anew(tmp_path, rng):
    a, b = two(rng)
    paths = [stored(tmp_path / "a", a), stored(tmp_path / "b", b)]
    go(tmp_path, *paths, block=8, share=0.1, min_size=1)
    mark = (tmp_path / "out.parts" / "petavox.json").stat().st_mtime_ns
    go(tmp_path, *paths, block=8, share=0.6, min_size=1)
    assert (tmp_path / "out.parts" / "petavox.json").stat().st_mtime_ns == mark
    out = volume.open(tmp_path / "out").read()
    assert np.array_equal(out, ensemble([a, b], share=0.6, min_size=1))


@pytest.mark.parametrize(
    ("names", "settings", "said"),
    [
        ("a", {}, "two segmentations or more"),
        ("aba", {}, "--share"),
        ("ab", {"share": 0.1, "least": 3}, "least is 3"),
    ],
)
def test_a_wrong_number_of_segmentations_is_refused(tmp_path, rng, names, settings, said):
    for name, values in zip("ab", two(rng), strict=True):
        stored(tmp_path / name, values)
    with pytest.raises(BadInput, match=said):
        go(tmp_path, *(tmp_path / n for n in names), **settings)
    assert not (tmp_path / "out").exists()


def test_volumes_of_other_voxels_are_refused_before_work(tmp_path, rng):
    a, b = two(rng)
    stored(tmp_path / "a", a)
    stored(tmp_path / "moved", b, start=(0, 0, 0))
    stored(tmp_path / "coarse", b, voxel_size=(40, 8, 8))
    for other in ("moved", "coarse"):
        with pytest.raises(BadInput, match="same voxels"):
            go(tmp_path, tmp_path / "a", tmp_path / other)
    assert not (tmp_path / "out").exists()


def test_more_parts_than_memory_may_hold_is_an_error(tmp_path, rng):
    a, b = two(rng)
    stored(tmp_path / "a", a), stored(tmp_path / "b", b)
    with pytest.raises(BadInput, match="more than max_parts 3"):
        go(tmp_path, tmp_path / "a", tmp_path / "b", max_parts=3)


def test_the_command_prints_the_proof(tmp_path, rng):
    a, b = two(rng)
    stored(tmp_path / "a", a), stored(tmp_path / "b", b)
    names = [str(tmp_path / n) for n in ("a", "b", "out")]
    done = CliRunner().invoke(app, ["consensus", *names, "--min-size", "5", "--json"])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    assert figures["voxels_kept"] == np.count_nonzero(consensus(a, b, 5))
    three = [names[0], names[1], names[0], str(tmp_path / "joined")]
    done = CliRunner().invoke(app, ["consensus", *three, "--share", "0.5", "--min-size", "1"])
    assert done.exit_code == 0, done.output
    expected = ensemble([a, b, a], share=0.5, min_size=1)
    assert np.array_equal(volume.open(tmp_path / "joined").read(), expected)
    again = CliRunner().invoke(app, ["consensus", names[0], str(tmp_path / "none"), names[2]])
    assert again.exit_code == 2
