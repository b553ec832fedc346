"""The jobs of an engine: watched, held back, and ended.

What it is: what Parsl's executor leaves to its user of the pools of workers that it starts, here
and through a scheduler. What it is not: the bundles (petavox.blocks.parsl_engine).
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from petavox.blocks import pool

log = logging.getLogger("petavox")

ANSWER_S = 60.0
"""Seconds that the interchange may take for an answer."""
LOOK_S = 15.0
"""Seconds that a look at the jobs, which may be submitting some, is waited for."""


def bound(executor: Any) -> None:
    """Let nothing that is asked of the interchange, or sent, wait for ever, as Parsl does."""
    client = executor.command_client
    client.run = functools.partial(client.run, timeout_s=ANSWER_S)
    executor.outgoing_q.zmq_socket.sndtimeo = int(1000 * ANSWER_S)


def hold_back(executor: Any, host: str) -> bool:
    """Send nothing more to the pools on a node; False if no other one is at work."""
    pools = [m["manager"] for m in executor.connected_managers() if m["active"]]
    there = [name for name in pools if pool.host_of(name) == host]
    if len(there) == len(pools):
        return False
    for name in there:
        executor._hold_manager(name)
    return True


def take_back(executor: Any, name: str) -> bool:
    """Cancel the jobs of a scheduler; a person is told of those that may stay. True if all went."""
    known = executor.status_facade
    jobs = [
        str(job)
        for block, job in executor.blocks_to_job_id.items()
        if block not in known or not known[block].terminal
    ]
    why = ""
    try:
        if jobs and not all(executor.provider.cancel(jobs)):
            why = "the scheduler refused"
    except Exception as e:
        why = str(e)
    if why:
        log.warning(
            "%s: the jobs %s could not be cancelled (%s): they end by themselves when they find no "
            "driver, or cancel them by hand",
            name, " ".join(jobs), why,
        )  # fmt: skip
    return not why


def shut_down(executor: Any) -> None:
    """End the interchange; of an executor that never started, parts are missing."""
    with contextlib.suppress(Exception):
        executor.shutdown()


def poller(**options: Any) -> Any:
    """Parsl's poller, which here looks once at a time.

    Its thread and `_start` both look at a fresh executor; at the same moment, both would find that
    its first jobs are not there yet, and start them twice. After `end_looks` it does not look.
    """
    from parsl.jobs.job_status_poller import JobStatusPoller

    class OneLookAtATime(JobStatusPoller):
        looking = threading.Lock()

        def poll(self) -> None:
            with self.looking:
                if not self._kill_event.is_set():
                    super().poll()

    return OneLookAtATime(**options)


def end_looks(poller: Any, executor: Any, name: str) -> None:
    """Start no more jobs: those of a look under way are waited for, so that they are known."""
    poller._kill_event.set()
    until = time.monotonic() + LOOK_S
    while time.monotonic() < until:
        if poller.looking.acquire(timeout=0.1):
            poller.looking.release()
            return
        if executor.interchange_proc.poll() is not None and executor.command_client._lock.locked():
            return  # it waits for an answer of the dead: without one it submits nothing
    log.warning(
        "%s: its jobs are still being looked at after %.0f s; one that is submitted only now is "
        "not cancelled, and ends by itself when it finds no driver",
        name, LOOK_S,
    )  # fmt: skip


def kill_pools(executor: Any) -> None:
    """End the pools of this machine and their workers, at once."""
    for job in list(executor.provider.resources.values()):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            group = os.getpgid(job["remote_pid"])
            if group != os.getpgid(0):
                os.killpg(group, signal.SIGKILL)


@contextlib.contextmanager
def interruptions_kept_here() -> Iterator[None]:
    """Children started inside ignore Ctrl-C: the driver decides when they end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
