"""The runner with the inline engine: what is kept, retried, counted and refused."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from petavox.blocks import BlockTask, Costs, Ledger, Limits, run
from petavox.blocks.engines import Event, InlineEngine
from petavox.blocks.ledger import Row
from petavox.blocks.outcome import Outcome
from petavox.blocks.resume import resume
from petavox.blocks.trouble import Trouble
from petavox.errors import BadInput, NotComplete, WorkFailed
from petavox.space import Box, Grid


def line(n: int) -> Grid:
    return Grid(Box((0, 0, 0), (1, 1, n)), (1, 1, 1))


def pattern(n: int = 10, **settings) -> BlockTask:
    return BlockTask("t", "petavox.blocks.testing:pattern", line(n), settings=settings)


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger.db") as made:
        yield made


def test_every_block_is_done_once_and_recorded(ledger):
    outcome = run(pattern(), ledger=ledger, quiet=True)
    assert outcome.complete
    assert (outcome.done, outcome.kept) == (10, 0)
    rows = list(ledger.rows("t"))
    assert [r.number for r in rows] == list(range(10))
    assert {r.status for r in rows} == {"done"}
    assert all(r.attempts == 1 and r.counters == {"voxels": 1} for r in rows)
    assert ledger.is_complete("t")


def test_the_second_run_keeps_all(ledger):
    run(pattern(), ledger=ledger, quiet=True)
    again = run(pattern(), ledger=ledger, quiet=True)
    assert (again.done, again.kept) == (0, 10)
    assert again.why == "same code, settings and inputs"


def test_a_changed_setting_recomputes_all_and_says_which(ledger):
    run(pattern(seed=1), ledger=ledger, quiet=True)
    again = run(pattern(seed=2), ledger=ledger, quiet=True)
    assert (again.done, again.kept) == (10, 0)
    assert "settings.seed (1 -> 2)" in again.why


def test_a_changed_input_digest_recomputes(ledger):
    task = BlockTask("t", "petavox.blocks.testing:nothing", line(3), inputs={"model": "aa"})
    run(task, ledger=ledger, quiet=True)
    other = BlockTask("t", "petavox.blocks.testing:nothing", line(3), inputs={"model": "bb"})
    assert "input model (aa -> bb)" in resume(other, ledger).why
    assert run(other, ledger=ledger, quiet=True).done == 3


def test_an_error_of_a_block_is_kept_with_its_traceback_and_others_finish(ledger):
    with pytest.raises(WorkFailed, match=r"9 are done, 1 failed \(3\)") as caught:
        run(pattern(raises=[3]), ledger=ledger, quiet=True)
    assert caught.value.exit_code == 5
    (row,) = ledger.rows("t", "failed")
    assert row.number == 3
    assert "block 3 was told to fail" in row.error
    assert "Traceback" in row.trace
    assert not ledger.is_complete("t")


def test_failed_blocks_are_tried_again_by_the_next_run(ledger, tmp_path):
    task = pattern(raises=[3, 5], once=str(tmp_path / "once"))
    with pytest.raises(WorkFailed):
        run(task, ledger=ledger, quiet=True)
    again = run(task, ledger=ledger, quiet=True)
    assert (again.done, again.kept) == (2, 8)
    assert [r.attempts for r in ledger.rows("t")] == [1, 1, 1, 2, 1, 2, 1, 1, 1, 1]


def test_the_same_error_many_times_stops_the_run(ledger):
    with pytest.raises(WorkFailed, match="4 blocks failed with the same error") as caught:
        run(
            pattern(1000, raises=list(range(1000))),
            ledger=ledger,
            limits=Limits(same_error=4),
            quiet=True,
        )
    assert "996 not tried" in str(caught.value)


def test_a_few_bad_blocks_among_many_do_not_stop_the_others(ledger):
    bad = [120, 240, 360, 480, 600, 720]
    with pytest.raises(WorkFailed, match=r"715 are done, 6 failed \(120, 240") as e:
        run(pattern(721, raises=bad), ledger=ledger, quiet=True)
    assert "stopped" not in str(e.value)


def test_bad_blocks_of_the_last_run_come_last_so_that_the_others_get_done(ledger, tmp_path):
    bad = list(range(5))
    for said in ("the same error", "15 are done, 5 failed"):
        with pytest.raises(WorkFailed, match=said):
            run(pattern(20, raises=bad), ledger=ledger, quiet=True)
    assert sorted(ledger.numbers("t", "done")) == list(range(5, 20))


def test_blocks_that_are_bad_for_good_do_not_keep_the_others_that_failed_from_being_tried(ledger):
    task = pattern(20, raises=list(range(12)))
    with pytest.raises(WorkFailed, match="12 failed"):
        run(task, ledger=ledger, limits=Limits(same_error=20), quiet=True)
    with pytest.raises(WorkFailed, match="8 are done, 12 failed") as e:
        run(task, ledger=ledger, quiet=True)
    assert "stopped" not in str(e.value)
    assert {r.attempts for r in ledger.rows("t", "failed")} == {2}


def test_blocks_that_failed_before_and_now_fail_in_a_new_way_stop_the_run(ledger):
    trouble = Trouble(Outcome("t", 1000), ledger, Limits())
    for number in range(10):
        trouble.remember(Row(number, "failed", 1, error=f"A: {number}"), retry_quarantined=False)
    for number in range(5):
        trouble.failed(number, f"A: {number}", "", None)
    assert not trouble.stopping
    for number in range(5, 10):
        trouble.failed(number, f"B: {number}", "", None)
    assert trouble.stopping == "5 blocks failed with the same error (B: 9)"


def test_the_first_lost_node_is_said_also_after_workers_have_died(ledger, caplog):
    trouble = Trouble(Outcome("t", 10), ledger, Limits())
    for number in (1, 2, 3):
        trouble.lost([number], Event(1, lost="worker", reason="died"))
    trouble.lost([4], Event(1, lost="engine", reason="started anew"))
    caplog.clear()
    caplog.set_level("WARNING", "petavox")
    trouble.lost([5, 6], Event(2, lost="node", reason="n7 is silent"))
    trouble.lost([5, 6], Event(2, lost="node", reason="n7 is silent"))
    assert [r.getMessage() for r in caplog.records] == [
        "t: n7 is silent; its blocks are sent again (lost in this way: 1)"
    ]


def test_blocks_that_all_kill_their_workers_stop_the_run(ledger):
    trouble = Trouble(Outcome("t", 1000), ledger, Limits())
    for number in range(5):
        for _ in range(2):
            lost = Event(1, lost="worker", reason=f"worker {number} on host n{number}")
            trouble.lost([number], lost)
    assert trouble.outcome.quarantined == [0, 1, 2, 3, 4]
    assert "5 blocks failed with the same error" in trouble.stopping


def test_blocks_that_lost_their_node_together_are_parted_the_second_time(ledger):
    trouble = Trouble(Outcome("t", 10), ledger, Limits())
    gone = Event(1, lost="node", reason="silent")
    trouble.lost([1, 2, 3], gone)
    assert list(trouble.again) == [[1, 2, 3]]
    trouble.lost(trouble.again.popleft(), gone)
    assert list(trouble.again) == [[1], [2], [3]]


def test_no_block_is_started_that_cannot_end_in_time(ledger):
    task = pattern(20, seconds=0.05)
    with pytest.raises(NotComplete, match="time was up"):
        run(task, ledger=ledger, limits=Limits(until=time.time() + 0.3), quiet=True)
    done = len(list(ledger.rows("t", "done")))
    assert 1 <= done < 20
    assert run(task, ledger=ledger, quiet=True).kept == done


def test_probes_do_some_blocks_without_complaint(ledger):
    outcome = run(pattern(), ledger=ledger, only=[0, 4, 9], quiet=True)
    assert (outcome.done, outcome.missing, outcome.complete) == (3, 7, False)
    assert list(ledger.numbers("t", "done")) == [0, 4, 9]
    assert run(pattern(), ledger=ledger, quiet=True).kept == 3


def test_shuffled_order_does_all(ledger):
    assert run(pattern(50), ledger=ledger, shuffle=7, quiet=True).complete


def test_a_function_that_is_not_there_is_refused_before_work(ledger):
    with pytest.raises(BadInput, match="cannot be imported"):
        run(BlockTask("t", "petavox.blocks.testing:no_such", line(2)), ledger=ledger, quiet=True)


def test_settings_that_are_no_plain_values_are_refused():
    with pytest.raises(BadInput, match="not plain values"):
        BlockTask("t", "a:b", line(2), settings={"x": object()})


def test_more_memory_than_there_is_is_refused_before_work(ledger):
    task = BlockTask(
        "t", "petavox.blocks.testing:nothing", line(2), costs=Costs(memory_bytes=1 << 50)
    )
    with pytest.raises(BadInput, match="GiB a worker"):
        run(task, ledger=ledger, quiet=True)


def test_a_hanging_block_inline_is_stopped_by_its_limit(ledger):
    with pytest.raises(WorkFailed, match="BlockTimeout"):
        run(pattern(3, hangs=[1]), ledger=ledger, limits=Limits(timeout_s=1.0), quiet=True)
    assert list(ledger.numbers("t", "done")) == [0, 2]


def test_limits_of_an_engine_hold_for_every_task_on_it(ledger):
    engine = InlineEngine()
    engine.limits = Limits(timeout_s=1.5, retry_quarantined=True)
    task = pattern(3, hangs=[1], once=str(ledger.path.parent))
    with pytest.raises(WorkFailed, match="BlockTimeout"):
        run(task, ledger=ledger, engine=engine, quiet=True)
    ledger.record("t", Row(1, "quarantined", attempts=2, kills=2))
    ledger.save()
    assert run(task, ledger=ledger, engine=engine, quiet=True).done == 1


def test_a_block_that_kills_the_driver_twice_is_quarantined_by_the_third_run(tmp_path):
    script = (
        "from petavox.blocks import *; from petavox.space import *;"
        "run(BlockTask('t', 'petavox.blocks.testing:pattern', "
        "Grid(Box((0,0,0),(1,1,5)),(1,1,1)), settings={'kills': [2]}),"
        f"ledger=Ledger({str(tmp_path / 'ledger.db')!r}), quiet=True)"
    )

    def go() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=os.environ
        )

    assert go().returncode == -9
    assert go().returncode == -9
    third = go()
    assert third.returncode == 1
    assert "1 quarantined (2)" in third.stderr


@pytest.mark.parametrize("how", ["stops", "ended"])
def test_a_run_that_is_interrupted_in_a_block_again_and_again_does_not_blame_the_block(
    tmp_path, how
):
    script = (
        "import signal; from petavox.blocks import *; from petavox.space import *\n"
        # what a shell starts in the background ignores Ctrl-C, and its children do
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"with Ledger({str(tmp_path / 'ledger.db')!r}) as ledger:\n"
        "    run(BlockTask('t', 'petavox.blocks.testing:pattern', "
        f"Grid(Box((0,0,0),(1,1,5)),(1,1,1)), settings={{{how!r}: [2]}}), ledger=ledger, "
        "quiet=True)"
    )
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
        )
        assert "KeyboardInterrupt" in done.stderr or "Ended" in done.stderr
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert list(ledger.numbers("t", "done")) == [0, 1]
        assert list(ledger.numbers("t", "quarantined")) == list(ledger.numbers("t", "lost")) == []


def test_blocks_that_workers_were_in_when_their_driver_ended_are_not_blamed(ledger):
    beacons = ledger.path.parent / "workers" / "t"
    beacons.mkdir(parents=True)
    for _ in range(3):
        for worker, number in enumerate((4, 7)):
            (beacons / f"host-{worker}").write_text(f"running 1 {number} 1700000000.000")
        run(pattern(), ledger=ledger, only=[0], quiet=True)
    assert list(ledger.numbers("t", "quarantined")) == list(ledger.numbers("t", "lost")) == []


def test_a_crash_in_a_block_of_another_grid_is_not_counted(ledger):
    beacons = ledger.path.parent / "workers" / "t"
    run(pattern(100), ledger=ledger, only=[0], quiet=True)
    for number in (50, 7):
        (beacons / f"alone-host-{number}").write_text(f"running 1 {number} 1700000000.000")
    assert run(pattern(10), ledger=ledger, quiet=True).complete
    assert all(r.kills == 0 for r in ledger.rows("t"))


def test_counters_that_the_ledger_cannot_hold_are_an_error_of_their_block(ledger, monkeypatch):
    monkeypatch.setattr("petavox.blocks.testing.nothing", lambda *_: {"where": Path("x")})
    with pytest.raises(WorkFailed, match=r"1 failed .* not JSON serializable"):
        run(BlockTask("t", "petavox.blocks.testing:nothing", line(1)), ledger=ledger, quiet=True)


@pytest.mark.parametrize("number", [-1, 10])
def test_a_block_that_is_not_there_is_refused(ledger, number):
    with pytest.raises(BadInput, match="has the blocks 0 to 9"):
        run(pattern(10), ledger=ledger, only=[0, number], quiet=True)
    assert ledger.tasks() == []


def test_a_lost_worker_that_names_a_block_it_was_not_sent_is_not_sent_for_ever(ledger):
    trouble = Trouble(Outcome("t", 10), ledger, Limits(kills=2))
    for _ in range(2):
        trouble.lost([3], Event(1, lost="worker", reason="died", culprit=8))
    assert trouble.outcome.quarantined == [3]


def test_a_run_begins_only_when_the_workers_of_a_killed_driver_have_ended(ledger):
    beacons = ledger.path.parent / "workers" / "t"
    beacons.mkdir(parents=True)
    # a worker deep in a computation, for half a second more; waited for, so that it is no zombie
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5)"])
    threading.Thread(target=worker.wait).start()
    (beacons / f"{platform.node()}-{worker.pid}").write_text("running 1 4 1700000000.000")
    run(pattern(1), ledger=ledger, quiet=True)
    assert worker.returncode == 0


def test_many_runs_in_one_process_leave_no_open_files(ledger):
    run(pattern(1), ledger=ledger, quiet=True)
    before = len(os.listdir("/proc/self/fd"))
    for seed in range(5):
        run(pattern(1, seed=seed), ledger=ledger, quiet=True)
    assert len(os.listdir("/proc/self/fd")) == before


def test_two_drivers_cannot_hold_one_ledger(tmp_path):
    with (
        Ledger(tmp_path / "ledger.db"),
        pytest.raises(BadInput, match="another petavox is running"),
    ):
        Ledger(tmp_path / "ledger.db")


def test_a_file_that_is_no_ledger_is_refused(tmp_path):
    (tmp_path / "ledger.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(BadInput, match="cannot be used as a ledger"):
        Ledger(tmp_path / "ledger.db")


def test_a_ledger_is_not_kept_in_a_folder_that_was_meant_to_be_a_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"s3://bucket/out\.run/ledger\.db: only a file path"):
        Ledger(Path("s3://bucket/out.run") / "ledger.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%20b", "a b"])
def test_a_ledger_in_a_folder_of_any_name_can_be_looked_at(tmp_path, name):
    with Ledger(tmp_path / name / "ledger.db") as ledger:
        run(pattern(), ledger=ledger, quiet=True)
    with Ledger(tmp_path / name / "ledger.db", readonly=True) as seen:
        assert seen.tasks()[0]["done"] == 10


def test_a_ledger_whose_driver_was_killed_while_it_saved_can_be_looked_at_unchanged(
    tmp_path,
):
    script = (
        "import os, signal\n"
        "from petavox.blocks.ledger import Ledger, Row\n"
        f"ledger = Ledger({str(tmp_path / 'ledger.db')!r})\n"
        "ledger.begin('t', key='k', parts={}, total=9000)\n"
        "for n in range(9000): ledger.record('t', Row(n, 'done'))\n"
        "ledger.save()\n"
        "ledger._db.execute('PRAGMA cache_size = 5')\n"
        "ledger._db.execute(\"UPDATE blocks SET status = 'lost', trace = hex(zeroblob(99))\")\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    left = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert "ledger.db-journal" in left
    with Ledger(tmp_path / "ledger.db", readonly=True) as seen:
        assert seen.tasks()[0]["done"] == 9000
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == left
    with Ledger(tmp_path / "ledger.db") as again:
        assert again.tasks()[0]["done"] == 9000


def test_a_ledger_that_was_only_begun_is_told_so_and_nobody_is_sent_to_move_it(tmp_path):
    (tmp_path / "ledger.db").touch()
    with pytest.raises(BadInput, match="nothing was run here"):
        Ledger(tmp_path / "ledger.db", readonly=True)


def test_a_place_where_no_ledger_can_be_is_refused_in_a_sentence_and_holds_no_lock(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"file/ledger\.db cannot be used as a ledger"):
        Ledger(tmp_path / "file" / "ledger.db")
    (tmp_path / "ledger.db").mkdir()
    with pytest.raises(BadInput, match=r"ledger\.db cannot be opened"):
        Ledger(tmp_path / "ledger.db")
    (tmp_path / "ledger.db").rmdir()
    Ledger(tmp_path / "ledger.db").close()
