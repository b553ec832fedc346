"""The ledger and its lock, where many look at it, and where its file system is shared."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import threading
import time
import tracemalloc

import pytest

from petavox.blocks import database, holding, run
from petavox.blocks.engines import Event
from petavox.blocks.ledger import Ledger, Row
from petavox.errors import BadInput, WorkFailed
from tests.blocks.test_runner import pattern


def begun(path, blocks: int = 10) -> Ledger:
    made = Ledger(path)
    made.begin("t", key="k", parts={}, total=blocks)
    return made


def test_one_who_reads_the_ledger_for_long_does_not_end_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("petavox.blocks.ledger.SAVE_EVERY", 0.0)
    ledger = begun(tmp_path / "ledger.db")
    ledger.record("t", Row(0, "done"))
    reader = sqlite3.connect(tmp_path / "ledger.db", check_same_thread=False)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM blocks").fetchall()  # and holds on to what it saw
    began = time.monotonic()
    for n in range(1, 4):
        ledger.record("t", Row(n, "done"))
    assert time.monotonic() - began < 5  # the driver went on
    threading.Timer(0.5, reader.close).start()
    ledger.close()  # waits for the reader
    with Ledger(tmp_path / "ledger.db", readonly=True) as seen:
        assert sorted(seen.numbers("t", "done")) == [0, 1, 2, 3]


def test_a_reader_that_never_ends_is_named_at_last(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "WAIT_S", 0.0)
    with begun(tmp_path / "ledger.db") as ledger:
        reader = sqlite3.connect(tmp_path / "ledger.db")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM tasks").fetchall()
        ledger._db.execute("PRAGMA busy_timeout = 10")
        with pytest.raises(WorkFailed, match=r"cannot be written .*locked"):
            ledger.begin("t", key="k", parts={}, total=11)
        reader.close()


def test_looking_at_a_block_in_the_middle_of_a_list_keeps_no_driver_waiting(tmp_path):
    with begun(tmp_path / "ledger.db", 3000) as ledger:
        for n in range(3000):
            ledger.record("t", Row(n, "failed", error="x"))
        ledger.save()
        with Ledger(tmp_path / "ledger.db", readonly=True) as seen:
            rows = seen.rows("t", "failed")
            assert next(rows).number == 0
            ledger.record("t", Row(0, "done"))
            ledger._db.execute("PRAGMA busy_timeout = 10")
            ledger.save()
            assert [r.number for r in rows] == list(range(1, 3000))


class Slow:
    """Two blocks come back at once; the third, much later."""

    workers, name, limits = 1, "slow", None

    def __init__(self, look) -> None:
        self.sent, self.look, self.asked = [], look, 0

    def begin(self, **_):
        return []

    def inside(self):
        return []

    def avoid(self, host):
        return False

    def submit(self, ticket, job):
        self.sent.append((ticket, job["numbers"]))

    def events(self, wait_s):
        self.asked += 1
        if self.asked in (2, 3):
            time.sleep(0.05)
            return []
        if self.asked == 4:
            self.look()
        ticket, numbers = self.sent.pop(0)
        back = {"seconds": 0.1, "host": "h", "device": "cpu", "counters": {}}
        return [Event(ticket, [{"number": n, **back} for n in numbers])]


def test_finished_blocks_are_written_while_the_next_ones_take_long(tmp_path, monkeypatch):
    monkeypatch.setattr("petavox.blocks.ledger.SAVE_EVERY", 0.02)
    found = []

    def look() -> None:
        with Ledger(tmp_path / "ledger.db", readonly=True) as seen:
            found.extend(seen.numbers("t", "done"))

    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger._saved = time.monotonic() + 0.03  # the first block comes just after a commit
        run(pattern(3), ledger=ledger, engine=Slow(look), quiet=True)
    assert found == [0]


def test_counts_of_a_large_ledger_come_from_its_index(tmp_path):
    with begun(tmp_path / "ledger.db") as ledger:
        for query in (
            "SELECT status, COUNT(*), SUM(seconds), MAX(finished) FROM blocks WHERE task = 't' "
            "GROUP BY status",
            "SELECT COUNT(*) FROM blocks WHERE task = 't' AND status = 'done' AND finished >= 1",
            "SELECT number FROM blocks WHERE task = 't' AND status = 'done'",
            "SELECT seconds FROM blocks WHERE task = 't' AND status = 'done' AND seconds IS NOT "
            "NULL",
        ):
            plan = ledger._db.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
            assert all("COVERING INDEX blocks_by_status" in p[3] for p in plan), plan


def test_numbers_of_many_blocks_take_eight_bytes_each(tmp_path):
    n = 10_000
    with begun(tmp_path / "ledger.db", n) as ledger:
        for k in range(n):
            ledger.record("t", Row(k, "done", seconds=0.5 if k else None))
        ledger.save()
        tracemalloc.start()
        try:
            numbers = ledger.numbers("t", "done")
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert sorted(numbers) == list(range(n))
        assert most < 24 * n  # while it grows, the array is there twice
        assert ledger.seconds("t") == [0.5] * (n - 1)


def test_a_ledger_that_is_damaged_or_torn_is_told_so_and_not_called_a_defect(tmp_path):
    with begun(tmp_path / "ledger.db", 3000) as ledger:
        for n in range(3000):
            ledger.record("t", Row(n, "done", host="node" * 50))
    data = bytearray((tmp_path / "ledger.db").read_bytes())
    data[8 * 4096 :] = b"\xff" * (len(data) - 8 * 4096)
    (tmp_path / "ledger.db").write_bytes(data)
    with (
        Ledger(tmp_path / "ledger.db", readonly=True) as seen,
        pytest.raises(WorkFailed, match=r"cannot be read .*try again"),
    ):
        list(seen.rows("t"))


def test_the_second_driver_is_told_where_the_first_one_is(tmp_path):
    with (
        Ledger(tmp_path / "ledger.db"),
        pytest.raises(BadInput, match=r"another petavox is running on .*\(process \d+ on "),
    ):
        Ledger(tmp_path / "ledger.db")
    assert (tmp_path / "ledger.lock").read_bytes() == b""


def test_a_driver_on_another_node_is_seen_also_where_locks_do_not_reach(tmp_path, monkeypatch):
    monkeypatch.setattr(holding, "WATCH_S", 5.0)
    lock = tmp_path / "ledger.lock"
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    renewed = threading.Timer(0.7, lambda: lock.write_text(lock.read_text()))
    renewed.start()
    with pytest.raises(BadInput, match=r"process 1 on elsewhere\): wait for it"):
        Ledger(tmp_path / "ledger.db")


def test_a_driver_on_another_node_that_was_killed_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(holding, "WATCH_S", 0.1)
    (tmp_path / "ledger.lock").write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    Ledger(tmp_path / "ledger.db").close()


def test_a_process_that_is_gone_is_waited_for_once_not_at_each_of_its_files(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(holding, "WATCH_S", 0.1)
    gone = {"host": "elsewhere", "pid": 1, "run": "first"}
    for name, said in {"a": gone, "b": gone, "c": {**gone, "run": "second"}}.items():
        (tmp_path / name).write_text(json.dumps(said))
        holding.Holding(tmp_path / name, said="").close()
    assert [r.args[0].name for r in caplog.records] == ["a", "c"]


def test_who_only_asks_sees_a_holder_on_another_node_where_locks_do_not_reach(
    tmp_path, monkeypatch
):
    file = tmp_path / "lock"
    file.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    clock = time.time() + 3600  # this machine's is wrong, and does not matter
    monkeypatch.setattr(holding.time, "time", lambda: clock)
    assert holding.is_held(file)
    assert [p.name for p in tmp_path.iterdir()] == ["lock"]
    old = file.stat().st_mtime - 5 * holding.BEAT_S
    os.utime(file, (old, old))
    assert not holding.is_held(file)
    file.write_text("")  # it was closed
    assert not holding.is_held(file)


def test_who_only_asks_does_not_take_a_file_system_without_locks_for_a_holder(
    tmp_path, monkeypatch
):
    def none(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    with holding.Holding(tmp_path / "lock", said=""):
        assert holding.is_held(tmp_path / "lock")
    monkeypatch.setattr(holding.fcntl, "flock", none)
    assert not holding.is_held(tmp_path / "lock")


def test_a_folder_that_goes_away_is_not_called_a_file_system_without_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(holding, "WATCH_S", 5.0)
    lock = tmp_path / "ledger.lock"
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    threading.Timer(0.2, lock.unlink).start()
    with pytest.raises(BadInput, match=r"cannot be used as a ledger: No such file"):
        Ledger(tmp_path / "ledger.db")


def test_a_lock_that_cannot_be_written_is_let_go(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(holding.os, "pwrite", full)
        with pytest.raises(BadInput, match="No space left"):
            Ledger(tmp_path / "ledger.db")
    Ledger(tmp_path / "ledger.db").close()


def test_a_holder_renews_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(holding, "BEAT_S", 0.02)
    with Ledger(tmp_path / "ledger.db"):
        first = (tmp_path / "ledger.lock").stat().st_mtime_ns
        until = time.monotonic() + 10
        while (tmp_path / "ledger.lock").stat().st_mtime_ns == first:
            assert time.monotonic() < until
            time.sleep(0.02)


def test_a_file_system_without_locks_is_not_taken_for_another_driver(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(holding.fcntl, "flock", none)
    with pytest.raises(BadInput, match="file system has no locks"):
        Ledger(tmp_path / "ledger.db")
