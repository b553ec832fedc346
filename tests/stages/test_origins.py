"""Where objects came from that no flood of their own volume made."""

from __future__ import annotations

import json

import numpy as np

from petavox.blocks import Ledger
from petavox.provenance import record
from petavox.stages.consensus import consensus_of
from petavox.stages.consensus_stages import ConsensusSettings
from petavox.stages.origins import origins
from petavox.volume import state
from tests.stages.agglomerated_tissue import read, stored


def flooded(folder, seeds, earlier=None, finished=None):
    """What `petavox segment` leaves beside voxels. seeds: id -> seed."""
    folder.mkdir(exist_ok=True)
    known = {str(i): {"seed": seed, "fovs": 10 * i} for i, seed in seeds.items()}
    (folder / "origins.json").write_text(json.dumps({"origins": known}))
    settings = {"earlier": None if earlier is None else str(earlier)}
    made = record("segment", settings=settings, inputs={}, counters={}, seconds=1.0)
    state.finish(folder, made | ({} if finished is None else {"finished": finished}))
    return folder


def test_objects_of_an_earlier_pass_have_the_seeds_of_that_pass(tmp_path):
    first = flooded(tmp_path / "first", {1: [4, 4, 4], 2: [8, 8, 8]})
    second = flooded(tmp_path / "second", {5: [1, 2, 3]}, first)
    third = flooded(tmp_path / "third", {7: [0, 0, 0]}, second)
    assert origins(str(third), np.array([2, 5, 7, 6], np.uint64)) == {
        2: {"seed": [8, 8, 8], "fovs": 20, "earlier": str(first)},
        5: {"seed": [1, 2, 3], "fovs": 50, "earlier": str(second)},
        6: {"seed": "not found beside the earlier labels", "earlier": str(first)},
        7: {"seed": [0, 0, 0], "fovs": 70},
    }
    flooded(first, {1: [5, 5, 5]}, finished="9999-01-01T00:00:00+00:00")
    again = origins(str(second), np.array([1], np.uint64))
    assert again == {1: {"seed": f"{first} was written again since", "earlier": str(first)}}


def test_a_consensus_is_of_the_objects_of_its_passes(tmp_path):
    one = np.full((4, 4, 24), 7, np.uint64)
    other = one.copy()
    other[:, :, :3] = 9
    other[:, :, 23] = 0
    stored(tmp_path / "one", one)
    stored(tmp_path / "other", other)
    with Ledger(tmp_path / "ledger.db") as ledger:
        consensus_of(
            [tmp_path / "one", tmp_path / "other"], tmp_path / "agreed", ledger=ledger,
            settings=ConsensusSettings(share=0.1, min_size=1), quiet=True,
        )  # fmt: skip
    (number,) = set(read(tmp_path / "agreed")[1:5])
    ids = np.array([number], np.uint64)
    said = {"pass 1, one": "7 (384 voxels)", "pass 2, other": "7 (320 voxels); 9 (48 voxels)"}
    assert origins(str(tmp_path / "agreed"), ids) == {number: {"consensus_of": said}}
    # one of an earlier version does not name its passes
    known = state.read(tmp_path / "agreed")["provenance"]
    state.finish(tmp_path / "agreed", {k: v for k, v in known.items() if k != "passes"})
    names = origins(str(tmp_path / "agreed"), ids)[number]["consensus_of"]
    assert list(names) == ["pass 1", "pass 2"]
    # the table is of another consensus
    state.finish(tmp_path / "agreed.ids", {"key": "of others"})
    assert origins(str(tmp_path / "agreed"), ids) == {}
