"""Parsl's engine on this machine: workers, losses, quarantine, an engine that dies."""

from __future__ import annotations

import os
import platform
import signal
import threading
import time
from types import SimpleNamespace

import pytest

from petavox.blocks import BlockTask, Ledger, Limits, open_engine, parsl_jobs, pool, run
from petavox.errors import WorkFailed
from petavox.space import Box, Grid
from tests.blocks.test_remote_engine import POOL


def line(n: int) -> Grid:
    return Grid(Box((0, 0, 0), (1, 1, n)), (1, 1, 1))


@pytest.fixture(scope="module")
def engine():
    with open_engine(workers=2) as made:
        yield made


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger.db") as made:
        yield made


def task(name: str, n: int, **settings) -> BlockTask:
    return BlockTask(name, "petavox.blocks.testing:pattern", line(n), settings=settings)


def test_one_engine_serves_several_tasks(engine, ledger):
    for name in ("first", "second"):
        assert run(task(name, 300), ledger=ledger, engine=engine, quiet=True).complete


def test_workers_are_pinned_before_anything_heavy_is_imported_and_end_with_the_engine(ledger):
    with open_engine(workers=2) as fresh:
        pids = [int(j["remote_pid"]) for j in fresh._executor.provider.resources.values()]
        run(
            BlockTask(
                "env", "petavox.blocks.testing:environment", line(2), settings={"seconds": 1.0}
            ),
            ledger=ledger,
            engine=fresh,
            bundle=1,
            quiet=True,
        )
    seen = [r.counters for r in ledger.rows("env")]
    assert {c["PARSL_WORKER_RANK"] for c in seen} == {"0", "1"}
    assert all(c["OMP_NUM_THREADS"] and c["loaded"] == "" for c in seen)
    assert pids
    deadline = time.monotonic() + 10
    while any(_alive(p) for p in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(_alive(p) for p in pids)


def test_a_real_interchange_says_on_which_node_each_pool_is(engine, ledger):
    assert run(task("t", 4), ledger=ledger, engine=engine, quiet=True).complete
    pools = engine._executor.connected_managers()
    assert pools
    assert set(pools[0]) == set(POOL)
    hosts = {r.host for r in ledger.rows("t")} | {platform.node()}
    assert {pool.host_of(p["manager"]) for p in pools} == hosts
    assert not parsl_jobs.hold_back(engine._executor, platform.node())  # no other one is there
    assert parsl_jobs.hold_back(engine._executor, "elsewhere")


def test_a_block_that_kills_its_worker_twice_is_quarantined_and_the_others_finish(engine, ledger):
    with pytest.raises(WorkFailed, match=r"38 are done, 1 failed \(3\), 1 quarantined \(7\)"):
        run(task("t", 40, kills=[7], raises=[3]), ledger=ledger, engine=engine, quiet=True)
    (row,) = ledger.rows("t", "quarantined")
    assert (row.number, row.kills, row.attempts) == (7, 2, 2)
    assert "killed its worker" in row.error


def test_a_quarantined_block_stays_so_until_asked_for(engine, ledger, tmp_path):
    killer = task("t", 5, kills=[2], once=str(tmp_path / "never-made"))
    (tmp_path / "never-made").mkdir()
    bad = task("t", 5, kills=[2])
    with pytest.raises(WorkFailed, match="quarantined"):
        run(bad, ledger=ledger, engine=engine, quiet=True)
    with pytest.raises(WorkFailed, match=r"1 quarantined \(2\)"):
        run(bad, ledger=ledger, engine=engine, quiet=True)
    assert [r.attempts for r in ledger.rows("t", "quarantined")] == [2]
    assert run(killer, ledger=ledger, engine=engine, quiet=True).complete


def test_a_block_killed_once_is_done_by_another_worker(engine, ledger, tmp_path):
    outcome = run(
        task("t", 30, kills=[11], once=str(tmp_path / "once")),
        ledger=ledger,
        engine=engine,
        quiet=True,
    )
    assert outcome.complete
    assert outcome.losses == 1
    (row,) = (r for r in ledger.rows("t") if r.number == 11)
    assert (row.status, row.attempts, row.kills) == ("done", 2, 1)


def test_a_hanging_block_is_ended_named_and_shows_where_it_hung(engine, ledger):
    with pytest.raises(WorkFailed, match=r"1 quarantined \(4\).*limit of 1 s"):
        run(
            task("t", 8, hangs=[4]),
            ledger=ledger,
            engine=engine,
            limits=Limits(timeout_s=1),
            quiet=True,
        )
    (row,) = ledger.rows("t", "quarantined")
    assert "BlockTimeout" in row.error
    assert "_misbehave" in row.trace


def test_the_interchange_killed_in_mid_run_is_replaced(ledger):
    with open_engine(workers=2) as fresh:
        killer = threading.Timer(
            2.5, lambda: os.kill(fresh._executor.interchange_proc.pid, signal.SIGKILL)
        )
        killer.start()
        outcome = run(
            task("t", 80, seconds=0.08), ledger=ledger, engine=fresh, bundle=1, quiet=True
        )
        killer.join()
    assert outcome.complete
    assert outcome.losses > 0


def test_what_a_broken_off_run_left_at_work_is_not_taken_for_the_next_run(ledger, monkeypatch):
    def full(*_: object) -> None:
        raise WorkFailed("the disk is full")

    with open_engine(workers=2) as fresh:
        with monkeypatch.context() as m:
            m.setattr(ledger, "record", full)
            with pytest.raises(WorkFailed, match="disk is full"):
                run(task("t", 12, seconds=1.0), ledger=ledger, engine=fresh, quiet=True)
        outcome = run(task("t", 12, seconds=0.0), ledger=ledger, engine=fresh, quiet=True)
    assert outcome.complete
    assert max(ledger.seconds("t")) < 1.0


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_looks_at_the_same_moment_start_the_first_jobs_once() -> None:
    started: list[int] = []

    def scale_out(blocks: int) -> None:
        time.sleep(0.1)  # the others look meanwhile
        started.append(blocks)

    executor = SimpleNamespace(
        label="blocks",
        status_polling_interval=1,
        provider=SimpleNamespace(init_blocks=1),
        poll_facade=lambda: None,
        handle_errors=lambda status: None,
        status_facade={},
        scale_out_facade=scale_out,
    )
    poller = parsl_jobs.poller(strategy="none", max_idletime=1, strategy_period=600)
    try:
        poller.add_executors([executor])
        looks = [threading.Thread(target=poller.poll) for _ in range(4)]
        for look in looks:
            look.start()
        for look in looks:
            look.join()
    finally:
        parsl_jobs.end_looks(poller, executor, "engine")
    assert started == [1]
    poller._strategy.executors["blocks"]["first"] = True
    poller.poll()
    assert started == [1]  # nothing is started once the looks have ended
