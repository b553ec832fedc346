"""How far the blocks under way are: told by block functions, read and shown by the driver."""

import threading
import time

import pytest

from petavox.blocks import BlockTask, Ledger, run, runner, work
from petavox.blocks.beacons import Beacons
from petavox.blocks.engines import InlineEngine
from petavox.space import Box, Grid

TELLING = "petavox.blocks.testing:telling"


def line(n):
    return Grid(Box((0, 0, 0), (1, 1, n)), (1, 1, 1))


@pytest.fixture
def at_once(monkeypatch):
    """Every word is passed on, not one a second."""
    monkeypatch.setattr(work, "_TELL_EVERY", 0)


def job(tmp_path, **settings):
    task = BlockTask("t", TELLING, line(2), settings=settings)
    how = {"token": str(tmp_path), "beacons": str(tmp_path), "timeout_s": None}
    return {**task.job(), "numbers": [1], "attempts": [1], "ticket": 7, "run": how}


def test_a_block_tells_its_share_and_its_words(tmp_path, at_once):
    heard = []
    work.run_bundle(job(tmp_path, steps=4), heard.extend)
    assert heard == [(1, k / 4, f"{k} steps") for k in (1, 2, 3, 4)]


def test_the_driver_reads_from_beacons_how_far_workers_are(tmp_path, at_once):
    work_ = threading.Thread(target=work.run_bundle, args=(job(tmp_path, steps=4, seconds=0.2),))
    work_.start()
    seen, beacons = [], Beacons(tmp_path)
    while work_.is_alive():
        seen += beacons.inside({7})
        assert beacons.inside({8}) == []
        time.sleep(0.02)
    work_.join()
    assert (1, 0.25, "1 steps") in seen
    assert (1, 0.75, "3 steps") in seen
    assert beacons.inside({7}) == []


def test_words_do_not_hide_the_culprit_of_a_crash(tmp_path):
    (tmp_path / "host-1").write_text("running 7 3 1700000000.000 0.4100 12 FOVs, 3 objects")
    assert Beacons(tmp_path).inside({7}) == [(3, 0.41, "12 FOVs, 3 objects")]
    assert Beacons(tmp_path).culprit(7) == (3, "")


def test_words_come_once_a_second_at_most(tmp_path):
    heard = []
    work.run_bundle(job(tmp_path, steps=1000), heard.extend)
    assert len(heard) <= 1


class Bar:
    """A Progress that only remembers."""

    shown: list = []  # noqa: RUF012

    def __init__(self, *_, **__):
        Bar.shown = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def resume_at(self, done):
        pass

    def to(self, done, **facts):
        Bar.shown.append((done, facts.get("in_block")))


def test_the_bar_counts_the_shares_of_blocks_under_way(tmp_path, at_once, monkeypatch):
    monkeypatch.setattr(runner, "Progress", Bar)
    with Ledger(tmp_path / "ledger.db") as ledger:
        run(BlockTask("t", TELLING, line(2), settings={"steps": 2}), ledger=ledger)
    # 1.5: block 0 is done, half of block 1 too
    assert (0.5, "0: 50 % 1 steps") in Bar.shown
    assert (1.5, "1: 50 % 1 steps") in Bar.shown
    assert Bar.shown[-1] == (2, None)


def test_many_blocks_under_way_are_counted_and_a_few_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "Progress", Bar)
    with Ledger(tmp_path / "ledger.db") as ledger:
        task = BlockTask("t", "petavox.blocks.testing:nothing", line(9))
        known = runner.resume(task, ledger)
        at_work = runner._Run(task, ledger, InlineEngine(), runner.Limits(), known, False)
        at_work.size = runner.BundleSize(1)
        at_work._show(Bar(), [(n, 0.5, "") for n in range(5)])
    assert Bar.shown == [(2.5, "0: 50 %, 1: 50 %, 2: 50 % and 2 more")]
