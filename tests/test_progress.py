"""Progress as a log shows it, and as a terminal would."""

from __future__ import annotations

import io
import logging
import os
import re

import pytest

from petavox import progress
from petavox.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    now = {"s": 100.0}
    monkeypatch.setattr(progress.time, "monotonic", lambda: now["s"])
    return now


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, logger="petavox")
    return caplog


def test_without_a_terminal_lines_come_at_intervals_with_rate_and_time_left(clock, lines):
    with Progress("flood", total=100, unit="voxel", every=10) as bar:
        for done in range(1, 31):
            clock["s"] += 1
            bar.to(done, FOV_per_s=2.5)
    said = lines.messages
    assert len(said) == 4  # at 10, 20 and 30 s, and at the end
    assert "10 of 100 voxel (10.0 %), 1 voxel/s, 10 s, about 90 s left; FOV/s 2.5" in said[0]


def test_what_an_earlier_run_finished_does_not_count_for_the_rate(clock, lines):
    with Progress("flood", total=100, unit="block", every=1) as bar:
        bar.resume_at(50)
        clock["s"] += 10
        bar.advance(10)
    assert "60 of 100 block (60.0 %), 1 block/s, 10 s, about 40 s left" in lines.messages[0]


def test_an_unknown_total_shows_a_count(clock, lines):
    with Progress("read", total=None, unit="byte", every=1) as bar:
        clock["s"] += 2
        bar.advance(8)
    assert "8 byte, 4 byte/s, 2 s" in lines.messages[0]


def test_quiet_says_nothing_and_an_error_no_last_line(clock, lines):
    with Progress("x", total=1, unit="y", quiet=True) as bar:
        bar.advance(1)
    with pytest.raises(ValueError, match="oh"), Progress("x", total=1, unit="y"):
        raise ValueError("oh")
    assert lines.messages == []


def test_a_terminal_sees_a_bar_whose_total_may_come_late(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with Progress("flood", total=None, unit="seed") as bar:
        bar.total = 4
        bar.to(1, objects="3")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "25%" in text
    assert "objects 3" in text


def test_a_terminal_that_was_closed_does_not_hide_what_ended_the_work(monkeypatch):
    far, near = os.openpty()
    screen = io.TextIOWrapper(io.FileIO(near, "w"), write_through=True)  # nothing left to flush
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")

    def work():
        with Progress("flood", total=2, unit="seed") as bar:
            bar.to(1)
            os.close(far)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    with pytest.raises(OSError, match="Input/output"):
        os.write(near, b"so it was closed")
    screen.close()
