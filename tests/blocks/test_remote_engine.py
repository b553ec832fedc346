"""The engine of a site with a scheduler: its jobs, and the workers that outlive their driver.

The scheduler and Parsl's executor are stand-ins: nothing is started.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from petavox.blocks import BlockTask, Costs, launching, orphans, parsl_jobs, pool, sites
from petavox.blocks.parsl_engine import ParslEngine
from petavox.blocks.runner import check
from petavox.errors import BadInput
from petavox.space import Box, Grid

POOL = {
    "manager": "", "block_id": "0", "worker_count": 1, "tasks": 0, "idle_duration": 0.0,
    "active": True, "parsl_version": "1", "python_version": "3", "draining": False,
}  # fmt: skip
"""What Parsl's interchange says of a pool; tests/blocks/test_parsl_engine.py asks a real one."""
PBS = {"name": "pbs", "scheduler": "pbs", "walltime_s": 3600, "heartbeat_s": 1, "lost_after_s": 2}


class Executor:
    """Three jobs: one running, one queued, one that has ended."""

    def __init__(self) -> None:
        state = {"0": False, "1": False, "2": True}
        self.status_facade = {b: SimpleNamespace(terminal=t) for b, t in state.items()}
        self.blocks_to_job_id = {b: f"{b}.server" for b in state}
        self.provider = SimpleNamespace(cancel=self.cancel, script_dir="")
        self.interchange_proc = SimpleNamespace(poll=lambda: None, kill=lambda: None)
        self.command_client = SimpleNamespace(run=self.asked, ok=True, _lock=threading.Lock())
        self.outgoing_q = SimpleNamespace(zmq_socket=SimpleNamespace())
        self.pools: list[dict[str, Any]] = []
        self.held: list[str] = []
        self.cancelled: list[str] = []
        self.bad_state_is_set = False
        self.executor_exception: Exception | None = None

    def cancel(self, jobs: list[str]) -> list[bool]:
        self.cancelled += jobs
        return [True] * len(jobs)

    def asked(self, question: Any, *, timeout_s: float | None = None) -> Any:
        """What the interchange answers; it must not be waited for for ever."""
        assert timeout_s is not None
        if question == "MANAGERS":
            return self.pools
        self.held.append(question[1])
        return None

    def connected_managers(self) -> list[dict[str, Any]]:
        return self.command_client.run("MANAGERS")

    def _hold_manager(self, name: str) -> None:
        self.command_client.run(["HOLD_MANAGER", name])

    def start(self) -> None: ...

    def shutdown(self) -> None: ...


@pytest.fixture
def executor(monkeypatch):
    made = Executor()
    poller = SimpleNamespace(
        add_executors=lambda _: None,
        poll=lambda: None,
        _kill_event=threading.Event(),
        looking=threading.Lock(),
    )
    monkeypatch.setattr(launching, "executor", lambda *_, **__: made)
    monkeypatch.setattr(parsl_jobs, "poller", lambda **_: poller)
    return made


def opened(folder: Any, **site: Any) -> ParslEngine:
    return ParslEngine(sites.Site(**PBS | site), folder=folder)


def test_blocks_that_do_not_fit_in_a_node_are_refused_before_any_work(executor, tmp_path):
    grid = Grid(Box((0, 0, 0), (1, 1, 4)), (1, 1, 1))
    task = BlockTask("t", "petavox.blocks.testing:nothing", grid, costs=Costs(memory_bytes=9 << 30))
    engine = opened(tmp_path, workers_per_node=24, memory_gb_per_node=128)
    with pytest.raises(BadInput, match=r"216\.0 GiB for 24 workers; a node of pbs has 119\.2 GiB"):
        check(task, engine)
    check(task, opened(tmp_path, workers_per_node=12, memory_gb_per_node=128))


def test_a_node_is_held_back_if_another_is_at_work(executor, tmp_path):
    names = [pool.named(host) for host in ("n1", "n2", "n1", "n3")]
    executor.pools = [{**POOL, "manager": name} for name in names]
    executor.pools[3]["active"] = False
    engine = opened(tmp_path)
    assert engine.avoid("n1")
    assert executor.held == [names[0], names[2]]
    del executor.pools[1]
    assert not engine.avoid("n1")
    engine.close()


def test_a_dead_interchange_is_not_asked_which_nodes_there_are(executor, tmp_path):
    executor.command_client.run = lambda *_, **__: pytest.fail("this would wait for ever")
    engine = opened(tmp_path)
    executor.interchange_proc.poll = lambda: 3
    assert not engine.avoid("n1")
    engine.close()


def test_nothing_is_sent_to_a_dead_interchange(executor, tmp_path):
    executor.submit = lambda *_: pytest.fail("this would wait for ever")
    engine = opened(tmp_path)
    engine.begin(timeout_s=None, beacons=None)
    executor.interchange_proc.poll = lambda: 3
    engine.submit(1, {"numbers": [0]})
    (lost,) = engine.events(0.01)
    assert (lost.lost, lost.reason) == ("engine", "the interchange has died")
    engine.close()


def test_an_engine_whose_interchange_does_not_answer_is_started_anew(
    executor, tmp_path, monkeypatch
):
    engine = opened(tmp_path)
    engine.begin(timeout_s=None, beacons=None)
    executor.submit = lambda *_: Future()
    engine.submit(1, {"numbers": [0]})
    executor.command_client.ok = False
    (lost,) = engine.events(0.01)
    assert (lost.lost, lost.reason) == ("engine", "the interchange has not answered for 60 s")
    engine.close()


def test_a_look_that_waits_for_a_dead_interchange_is_not_waited_for(executor, tmp_path, caplog):
    engine = opened(tmp_path)
    executor.interchange_proc.poll = lambda: 3
    began = time.monotonic()
    with engine._poller.looking, executor.command_client._lock:
        engine.close()
    assert time.monotonic() - began < parsl_jobs.LOOK_S / 2
    assert executor.cancelled == ["0.server", "1.server"]
    assert "looked at" not in caplog.text


def test_jobs_that_are_submitted_while_an_engine_ends_are_taken_back(executor, tmp_path):
    engine = opened(tmp_path)
    looking = threading.Event()

    def look() -> None:
        with engine._poller.looking:
            looking.set()
            time.sleep(0.2)  # qsub
            executor.blocks_to_job_id["3"] = "3.server"

    thread = threading.Thread(target=look)
    thread.start()
    looking.wait()
    engine.close()
    thread.join()
    assert executor.cancelled == ["0.server", "1.server", "3.server"]


def test_closing_takes_back_the_jobs_that_run_or_wait(executor, tmp_path):
    opened(tmp_path).close()
    assert executor.cancelled == ["0.server", "1.server"]


def test_an_engine_that_is_ended_while_it_starts_takes_back_its_jobs(
    executor, tmp_path, monkeypatch
):
    def ended() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(executor, "start", ended)
    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path)
    assert executor.cancelled == ["0.server", "1.server"]


def test_jobs_that_cannot_be_cancelled_are_named(executor, tmp_path, monkeypatch, caplog):
    def away(_: list[str]) -> list[bool]:
        raise OSError("qdel: cannot connect to server")

    caplog.set_level(logging.WARNING, "petavox")
    monkeypatch.setattr(executor.provider, "cancel", away)
    opened(tmp_path).close()
    assert "the jobs 0.server 1.server could not be cancelled (qdel: cannot connect" in caplog.text


def test_an_engine_that_fails_while_a_bundle_is_sent_gives_the_bundle_back(executor, tmp_path):
    engine = opened(tmp_path)

    def submit(*_: Any) -> None:
        executor.bad_state_is_set = True  # set by the thread that looks after the jobs
        executor.executor_exception = OSError("qsub refused")
        raise executor.executor_exception

    executor.submit = submit
    engine.begin(timeout_s=None, beacons=None)
    engine.submit(1, {"numbers": [0]})
    lost = engine.events(0.01)
    assert [(e.ticket, e.lost) for e in lost] == [(1, "engine")]
    engine.close()


def test_the_next_driver_waits_for_the_workers_of_one_that_was_killed(
    executor, tmp_path, monkeypatch
):
    monkeypatch.setattr(orphans, "_ENDING_S", 0.0)
    killed = opened(tmp_path)
    killed.begin(timeout_s=None, beacons=None)
    killed.events(0.01)
    began = time.monotonic()
    again = opened(tmp_path)
    again.begin(timeout_s=None, beacons=None)
    assert time.monotonic() - began > 1.5
    again.close()
    assert not list(tmp_path.rglob(orphans.NAME))


def test_workers_of_a_driver_that_was_killed_long_ago_are_not_waited_for(executor, tmp_path):
    killed = opened(tmp_path)
    killed.begin(timeout_s=None, beacons=None)
    mark = next(tmp_path.rglob(orphans.NAME))
    os.utime(mark, (time.time() - 60, time.time() - 60))
    began = time.monotonic()
    again = opened(tmp_path)
    again.begin(timeout_s=None, beacons=None)
    assert time.monotonic() - began < 1.5
    again.close()


def test_the_next_run_after_one_that_was_closed_waits_for_nobody(executor, tmp_path):
    first = opened(tmp_path)
    first.begin(timeout_s=None, beacons=None)
    first.events(0.01)
    first.close()
    assert not list(tmp_path.rglob(orphans.NAME))
