"""Runs of align that were stopped: what is kept counts only for what it was made of."""

from __future__ import annotations

import csv

import numpy as np
import pytest

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
