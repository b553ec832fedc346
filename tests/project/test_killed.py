"""Killed by SIGKILL in every step, at one worker and at two: the same command goes on, and ends
with the same segmentation and tables."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from petavox.project import load
from petavox.project.driver import run
from tests.project import small

ROOT = Path(__file__).parents[2]
POINTS = ("begun", "half", "ended")


def killed(project, step, point, workers=0):
    """Run the project in a process of its own until it kills itself."""
    words = [sys.executable, "-m", "tests.project.killed_run", project.folder, step, point, workers]
    return subprocess.run(
        [str(w) for w in words],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


def killed_everywhere(project, workers=0):
    """Kill it once in every step, at every point that the step passes; then let it end."""
    for step in project.steps:
        for point in POINTS:
            ended = killed(project, step.name, point, workers)
            # a step without blocks or progress is not killed half way: it ran through
            if ended.returncode == 0:
                assert point == "half", ended.stderr
                continue
            assert ended.returncode == -9, ended.stderr
            said = load(project.folder).state(step.name)
            assert said.state == "running"
    return run(load(project.folder))


def test_a_run_killed_between_two_blocks_keeps_the_first(done, tissue, tmp_path):
    project = small.project(tmp_path / "p", small.described(tissue))
    assert killed(project, "segment", "half").returncode == -9
    figures = run(project)
    assert "it was stopped" in figures["segment"]
    assert project.state("segment").figures["kept"] == 1
    assert small.made(project) == done[1]


def test_a_run_that_ends_in_an_exception_anywhere_goes_on(done, tissue, tmp_path, monkeypatch):
    """As above without processes: each step is broken off once as it begins, and as it ends."""
    from petavox.project import driver, records

    class Gone(BaseException):
        pass

    project = small.project(tmp_path / "p", small.described(tissue))
    write, stamp, left = records.write, driver._stamp, []
    for step in project.steps:
        left += [(step.name, "begun"), (step.name, "ended")]

    def written(file, said):
        write(file, said)
        if left and (said.name, "begun") == left[0] and said.state == "running":
            left.pop(0)
            raise Gone

    def stamped(writes, key):
        if left and left[0][1] == "ended":
            left.pop(0)
            raise Gone
        stamp(writes, key)

    monkeypatch.setattr(records, "write", written)
    monkeypatch.setattr(driver, "_stamp", stamped)
    for _ in range(len(left)):
        with pytest.raises(Gone):
            run(project)
    run(project)
    assert not left
    assert small.made(project) == done[1]


@pytest.mark.slow
def test_killed_in_every_step(done, tissue, tmp_path):
    project = small.project(tmp_path / "p", small.described(tissue))
    killed_everywhere(project)
    assert small.made(project) == done[1]


@pytest.mark.slow
def test_killed_in_every_step_from_tiles_on(tiles, tmp_path):
    values = small.described_tiles(tiles, qc=True, contrast=True)
    whole = small.project(tmp_path / "whole", values)
    run(whole)
    project = small.project(tmp_path / "p", values)
    killed_everywhere(project)
    assert small.made(project) == small.made(whole)


@pytest.mark.slow
def test_two_workers_also_killed_give_the_same_as_one(tissue, tmp_path):
    """With the shipped network, flooded for real."""
    values = small.described(tissue)
    values["stages"]["segment"] = {
        "block": [24, 24, 48],
        "context": [10, 10, 10],
        "flood": {"min_segment_size": 300},
    }
    one = small.project(tmp_path / "one", values)
    run(one, workers=1)
    made = small.made(one)
    alone = small.project(tmp_path / "alone", values)
    run(alone)
    assert small.made(alone) == made
    two = small.project(tmp_path / "two", values)
    for step in ("segment", "reconcile", "agglomerate", "mesh"):
        assert killed(two, step, "half", 2).returncode == -9
    run(load(two.folder), workers=2)
    assert small.made(two) == made
