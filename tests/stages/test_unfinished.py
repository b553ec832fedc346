"""The folder of an unfinished flood: what may be gone on with, and what is begun anew."""

from __future__ import annotations

import json

import pytest

from petavox.errors import BadInput
from petavox.stages.unfinished import workplace

REQUEST = {"settings": {"box": None}, "code": {"petavox.ffn.canvas": "a"}}


def left(folder, *, checkpoint: bool):
    """What a killed run leaves."""
    work = folder / "out.zarr.unfinished"
    work.mkdir()
    (work / "request.json").write_text(json.dumps(REQUEST | {"precision": "bf16"}))
    if checkpoint:
        (work / "checkpoint.npz").write_bytes(b"of hours")
    return work


def kept(work, request, *, half_written=False, overwrite=False):
    with workplace(work, request, half_written=half_written, overwrite=overwrite) as found:
        return found


OTHERS = [REQUEST | {"settings": {"box": "0:8,0:8,0:8"}}, REQUEST | {"code": {}}]


@pytest.mark.parametrize("request_", OTHERS)
def test_a_run_that_was_killed_before_its_first_checkpoint_stands_in_nobodys_way(
    tmp_path, request_
):
    assert kept(left(tmp_path, checkpoint=False), request_) == {}


@pytest.mark.parametrize("request_", OTHERS)
def test_labels_that_another_request_half_wrote_are_not_replaced(tmp_path, request_):
    work = left(tmp_path, checkpoint=False)
    with pytest.raises(BadInput, match="--overwrite"):
        kept(work, request_, half_written=True)
    assert kept(work, REQUEST, half_written=True)["precision"] == "bf16"


def test_other_code_cannot_be_given_and_is_called_another_version(tmp_path):
    work = left(tmp_path, checkpoint=True)
    with pytest.raises(BadInput) as refused:
        kept(work, OTHERS[1])
    assert str(refused.value) == (
        f"{work} holds an unfinished run of another version of petavox; go on with that one, or "
        "pass --overwrite to start anew."
    )
    assert kept(work, REQUEST)["precision"] == "bf16"
    assert kept(work, OTHERS[1], overwrite=True) == {}
