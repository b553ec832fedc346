"""Parsl's interchange, ended when its driver is gone.

What it is: the module that an engine starts in place of Parsl's script. A driver killed with -9
cannot stop its interchange; without this it would live for ever, and keep the pools of workers.
What it is not: a change of what the interchange does.
"""

from __future__ import annotations

import os
import runpy
import threading
import time


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(3)


if __name__ == "__main__":
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    runpy.run_module("parsl.executors.high_throughput.interchange", run_name="__main__")
