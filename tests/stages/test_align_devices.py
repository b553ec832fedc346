"""A device that is not here is told before any work of stitch, align and render."""

from __future__ import annotations

import pytest
import torch

from petavox.errors import BadInput, MissingDevice
from petavox.stages import align, render, stitch

RUNS = {
    "stitch": lambda out, d: stitch.run("no.csv", out, stitch.StitchStageSettings(device=d)),
    "align": lambda out, d: align.run("no.zarr", out, align.AlignStageSettings(device=d)),
    "render": lambda out, d: render.run("no.zarr", "no", out, render.RenderSettings(device=d)),
}


@pytest.mark.parametrize("stage", RUNS)
def test_an_absent_or_unknown_device_is_refused_before_any_work(stage, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MissingDevice, match="'cuda' was asked for"):
        RUNS[stage](tmp_path / "out", "cuda")
    with pytest.raises(BadInput, match="abacus"):
        RUNS[stage](tmp_path / "out", "abacus")
    assert not list(tmp_path.iterdir())
