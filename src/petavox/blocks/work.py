"""What runs inside a worker: a bundle of blocks, one after another.

What it is: the one function that an engine sends to workers, and the worker's beacon: a small
file in which it says which block it is in, so that the driver of a killed worker knows the culprit.
What it is not: a writer of the ledger. Nothing here imports NumPy or torch before the worker is
pinned to its accelerator.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import platform
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from petavox.blocks.beacons import ALONE, Inside

Tell = Callable[[float, str], None]
"""How far a block is: share 0..1, and words such as "212 FOVs"; cheap, may be called often."""
Result = dict[str, Any]
"""Of one block: number, seconds, host, device; and counters, or error (type, message, trace)."""

_RECORD = 256
_TELL_EVERY = 1.0
"""Seconds between two records of how far a block is."""
_state: dict[str, Any] = {}


def run_bundle(
    job: dict[str, Any], listen: Callable[[list[Inside]], None] | None = None
) -> list[Result]:
    """Call the job's function on each of its blocks; errors of a block are results, not raised.

    listen: told now and then how far the block is, where the driver is this process.
    """
    _prepare(job["run"])
    results = []
    try:
        for number, attempt in zip(job["numbers"], job["attempts"], strict=True):
            results.append(_result(job, number, attempt, listen))
    except KeyboardInterrupt:
        # a person or a time limit ends the run: the next one must not take this for a crash
        _idle(job)
        raise
    _idle(job)
    return results


def _idle(job: Mapping[str, Any]) -> None:
    _say(f"idle {job['ticket']} -1 {time.time():.3f}")


def _result(
    job: Mapping[str, Any],
    number: int,
    attempt: int,
    listen: Callable[[list[Inside]], None] | None,
) -> Result:
    """Call the job's function on one block."""
    # only now: these may import NumPy, and the function's module torch
    from petavox.blocks.task import Context, grid_of, resolve

    limit = job["run"].get("timeout_s")
    started = time.perf_counter()
    result: Result = {
        "number": number,
        "host": _state["host"],
        "device": _state["device"],
        "pid": os.getpid(),
    }
    _say(f"running {job['ticket']} {number} {time.time():.3f}")
    _arm(limit)
    try:
        context = Context(
            settings=job["settings"],
            reads=job["reads"],
            writes=job["writes"],
            scratch=_state["scratch"],
            device=_state["device"],
            attempt=attempt,
            tell=_teller(job["ticket"], number, listen),
        )
        counters = resolve(job["function"])(grid_of(job)[number], context)
        result["counters"] = _plain(counters or {})
    except Exception as e:
        result["error"] = {
            "type": type(e).__name__,
            "message": str(e)[:2000],
            "trace": traceback.format_exc()[-8000:],
        }
    finally:
        _disarm(limit)
    result["seconds"] = time.perf_counter() - started
    return result


def _prepare(run: Mapping[str, Any]) -> None:
    """Once per process and run: pin, find scratch, open the beacon, watch the driver."""
    if _state.get("token") == run["token"]:
        return
    first = "token" not in _state
    _state["host"] = platform.node()
    if first and run.get("pin") is not None:
        from petavox.blocks import pinning

        rank = int(os.environ.get("PARSL_WORKER_RANK", "0"))
        pinned = pinning.from_site(rank, run["pin"], os.environ)
        os.environ.update(pinned)
        variable = pinning.VARIABLE.get(run["pin"]["kind"], "")
        _state["pinned"] = f"{variable}={pinned[variable]}" if variable else ""
        _state["kind"] = pinning.device_name(run["pin"]["kind"])
    _state["device"] = _state.get("kind", "cpu")
    scratch = os.path.expandvars(run.get("scratch") or "")
    _state["scratch"] = Path(scratch) if scratch else None
    if _state["scratch"] is not None:
        _state["scratch"].mkdir(parents=True, exist_ok=True)
    _open_beacon(run)
    if first and run.get("driver"):
        pid, host = run["driver"]
        if host == _state["host"] and pid != os.getpid():
            threading.Thread(target=_leave_with, args=(pid,), daemon=True).start()
    _state["token"] = run["token"]  # last: what failed is tried again with the next bundle


def _open_beacon(run: Mapping[str, Any]) -> None:
    """Open this process's files for one run, and close those of the run before."""
    for name in ("beacon", "trace"):
        if name in _state:
            os.close(_state.pop(name))
    if not run.get("beacons"):
        return
    folder = Path(run["beacons"])
    name = f"{ALONE if run.get('alone') else ''}{_state['host']}-{os.getpid()}"
    flags = os.O_RDWR | os.O_CREAT
    # as with a full disk later on: without a beacon the blocks are done all the same
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        _state["beacon"] = os.open(folder / name, flags, 0o600)
        _state["trace"] = os.open(folder / f"{name}.trace", flags | os.O_TRUNC, 0o600)


def _leave_with(driver: int) -> None:
    """End this worker when its driver on the same machine is gone: nobody wants its blocks."""
    while True:
        try:
            os.kill(driver, 0)
        except ProcessLookupError:
            os._exit(3)
        except PermissionError:
            pass
        time.sleep(0.5)


def _say(line: str) -> None:
    if "beacon" in _state:
        try:
            os.pwrite(_state["beacon"], line.encode().ljust(_RECORD), 0)
        except OSError:
            # a full disk must not fail the block; the driver then knows less of a crash
            return


def _teller(ticket: int, number: int, listen: Callable[[list[Inside]], None] | None) -> Tell:
    """What a block function calls to say how far it is; keeps one word a second."""
    began, last = f"{time.time():.3f}", time.monotonic()

    def tell(share: float, words: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _TELL_EVERY:
            return
        last = now
        share = min(max(share, 0.0), 1.0)
        _say(f"running {ticket} {number} {began} {share:.4f} {words[:120]}")
        if listen is not None:
            listen([(number, share, words)])

    return tell


def _arm(timeout_s: float | None) -> None:
    """End the process, with a traceback in the beacon's folder, if the block takes too long.

    faulthandler's watchdog needs no interpreter lock, so it also ends blocks hung in C code.
    """
    if timeout_s and "trace" in _state:
        faulthandler.dump_traceback_later(timeout_s, exit=True, file=_state["trace"])
    elif timeout_s:
        faulthandler.dump_traceback_later(timeout_s, exit=True)


def _disarm(timeout_s: float | None) -> None:
    if timeout_s:
        faulthandler.cancel_dump_traceback_later()


def _plain(counters: Mapping[str, Any]) -> dict[str, Any]:
    """Counters as plain values (NumPy scalars become Python numbers).

    Raises TypeError here, in the block that gave them, for what the ledger could not hold.
    """
    plain = {str(k): v.item() if hasattr(v, "item") else v for k, v in counters.items()}
    json.dumps(plain)
    return plain
