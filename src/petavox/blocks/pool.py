"""Parsl's pool of workers on a node, told how long its job has run already, and named by its node.

What it is: the module that a job starts in place of Parsl's script. Parsl counts the time to the
end of a job from the start of the pool; modules, `mpiexec` and a thousand nodes that import Python
from one file system come before that, and eat the time in which the last blocks should end. And
Parsl's interchange tells of a pool its name, but not where it is: so the name says it.
What it is not: a change of what the pool does.
"""

from __future__ import annotations

import os
import platform
import runpy
import sys
import time
import uuid
from collections.abc import Mapping

BEGAN = "PETAVOX_JOB_BEGAN"
"""Variable of the job script: unix time at which the job began."""
_DRAIN = "--drain_period="


def arguments(given: list[str], environment: Mapping[str, str], now: float) -> list[str]:
    """The pool's arguments, its time less what has passed since the job began."""
    began = environment.get(BEGAN, "")
    if not began.isdigit():
        return given
    passed = max(0, round(now - int(began)))
    return [
        f"{_DRAIN}{max(1, int(word.removeprefix(_DRAIN)) - passed)}"
        if word.startswith(_DRAIN) and word.removeprefix(_DRAIN).isdigit()
        else word
        for word in given
    ]


def named(host: str) -> str:
    """A name that no other pool has."""
    return f"{uuid.uuid4().hex[:8]}@{host}"


def host_of(pool: str) -> str:
    """Where a pool is, from its name."""
    return pool.partition("@")[2]


if __name__ == "__main__":
    given = arguments(sys.argv[1:], os.environ, time.time())
    sys.argv[1:] = [f"--uid={named(platform.node())}", *given]
    # as the main module: the pool's workers look up their function there
    runpy.run_module(
        "parsl.executors.high_throughput.process_worker_pool", run_name="__main__", alter_sys=True
    )
