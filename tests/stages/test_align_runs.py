"""Runs of align that were stopped: what is kept counts only for what it was made of."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from petavox.blocks.task import Context
from petavox.space import Box, Grid
from petavox.stages import align, align_blocks
from petavox.stages.align import AlignStageSettings
from tests.stages.align_tissue import saved, tissue

ONE = AlignStageSettings(threads=1)


def stopped(monkeypatch, path, out, settings=ONE, **more):
    """Run align until the first round of matching, and stop it there."""

    def stop(self, of):
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(align_blocks.BlockMatcher, "__call__", stop)
        with pytest.raises(KeyboardInterrupt):
            align.run(path, out, settings, **more)
    align_blocks.forget()


def dark_places(out):
    """The boxes of damage.csv, by section."""
    with open(out / "damage.csv") as f:
        return [(r["section"], r["kind"], int(r["y0"])) for r in csv.DictReader(f)]


def near(out):
    return {(k, kind, (y + 10) // 20 * 20) for k, kind, y in dark_places(out)}


def with_dust(at):
    values = tissue(side=320)
    dark = np.random.default_rng(0).integers(1, 9, (40, 40))  # not constant: that would be blank
    values[1, at : at + 40, at : at + 40] = dark
    return values


def test_damage_that_was_found_in_another_volume_is_not_taken_for_this_one(tmp_path, monkeypatch):
    one = saved(tmp_path / "one.zarr", with_dust(40))
    other = saved(tmp_path / "other.zarr", with_dust(220))
    stopped(monkeypatch, one, tmp_path / "out")
    align.run(other, tmp_path / "out", ONE)
    align.run(other, tmp_path / "whole", ONE)
    assert dark_places(tmp_path / "out") == dark_places(tmp_path / "whole")
    assert ("1", "dust", 40) not in near(tmp_path / "out")
    assert ("1", "dust", 220) in near(tmp_path / "out")


def test_damage_that_was_found_with_other_settings_is_found_anew(tmp_path, monkeypatch):
    path = saved(tmp_path / "one.zarr", with_dust(40))
    none = ONE.model_copy(
        update={
            "damage": ONE.damage.model_copy(
                update={"flat_um2": 1e6, "empty_um2": 1e6, "dust_nm": 1e6}
            )
        }
    )
    stopped(monkeypatch, path, tmp_path / "out", none)
    align.run(path, tmp_path / "out", ONE)
    assert ("1", "dust", 40) in near(tmp_path / "out")


def slabs_done(monkeypatch, stop_after, path, out, settings, **more):
    """Run align; the (round, slab) that were matched. With stop_after, stop at that one."""
    done, real = [], align_blocks.match_slab

    def counted(block, context):
        if len(done) == stop_after:
            raise KeyboardInterrupt
        done.append((Path(context.reads["round"]).name, block.number))
        return real(block, context)

    with monkeypatch.context() as m:
        m.setattr(align_blocks, "match_slab", counted)
        if stop_after is None:
            align.run(path, out, settings, **more)
        else:
            with pytest.raises(KeyboardInterrupt):
                align.run(path, out, settings, **more)
    align_blocks.forget()
    return done


def test_other_threads_memory_and_device_do_again_nothing_that_was_matched(tmp_path, monkeypatch):
    path = saved(tmp_path / "image.zarr", tissue())
    one = AlignStageSettings(threads=1, slab=1, find_damage=False)
    first = slabs_done(monkeypatch, 4, path, tmp_path / "out", one)
    other = one.model_copy(update={"threads": 2, "memory_mb": 500, "device": "cpu:0"})
    again = slabs_done(monkeypatch, None, path, tmp_path / "out", other)
    assert len(first) == 4
    assert not set(first) & set(again)


def test_what_was_matched_with_another_mask_at_the_same_place_is_done_again(tmp_path, monkeypatch):
    path = saved(tmp_path / "image.zarr", tissue())
    mask = saved(tmp_path / "mask.zarr", np.ones((3, 200, 200), np.uint8))
    one = AlignStageSettings(threads=1, slab=1)
    first = slabs_done(monkeypatch, 4, path, tmp_path / "out", one, matches=mask)
    shutil.rmtree(mask)
    half = np.ones((3, 200, 200), np.uint8)
    half[:, :60] = 0
    saved(mask, half)
    again = slabs_done(monkeypatch, None, path, tmp_path / "out", one, matches=mask)
    assert set(first) <= set(again)


@pytest.mark.parametrize(("pinned", "used"), [("cpu", "cuda"), ("xpu", "xpu")])
def test_matching_runs_on_the_device_asked_for_unless_the_worker_has_its_own(
    tmp_path, monkeypatch, pinned, used
):
    seen = []

    def matched(source, of, own, *, device, run):
        seen.append(device)
        return []

    monkeypatch.setattr(align_blocks.matching, "matched", matched)
    path = saved(tmp_path / "image.zarr", tissue(2, 64))
    place = align_blocks.Place(volume=str(path), content="", run=str(tmp_path), device="cuda")
    (tmp_path / "place.json").write_text(place.model_dump_json())
    monkeypatch.setattr(align_blocks, "read_round", lambda _: SimpleNamespace(group=(0, 1)))
    reads = {"round": str(tmp_path / "one.npz"), "place": str(tmp_path / "place.json")}
    context = Context({}, reads, {"matches": str(tmp_path / "matches")}, device=pinned)
    align_blocks.match_slab(next(iter(Grid(Box((0, 0, 0), (2, 1, 1)), (2, 1, 1)))), context)
    assert seen == [used]


@pytest.mark.parametrize("other", ["volume", "mask"])
def test_sections_that_were_opened_are_opened_anew_when_others_lie_there(tmp_path, other):
    """One worker serves several runs; whatever the key of a run says, the files decide."""
    paths = {n: saved(tmp_path / f"{n}.zarr", tissue(2, 64)) for n in ("volume", "mask")}
    place = align_blocks.Place(
        volume=str(paths["volume"]), content="", mask=str(paths["mask"]), run=str(tmp_path / "run")
    )
    first = place.open()
    assert place.open() is first
    image, valid = first.level(1, 1)
    shutil.rmtree(paths[other])
    saved(paths[other], np.zeros((2, 64, 64), np.uint8))
    now = place.open()
    assert now is not first
    assert image.all()
    assert valid.all()
    assert not now.level(1, 1)[1].any()
    align_blocks.forget()
