"""A run that ends itself by SIGKILL at a certain point of a certain step, for tests.

python -m tests.project.killed_run FOLDER STEP POINT WORKERS

begun: the step's record says that it runs, and nothing more was done
half: its first block, or first unit of progress, is done
ended: its outputs are complete, and its record does not know yet
"""

from __future__ import annotations

import os
import signal
import sys

from petavox.blocks.ledger import Ledger
from petavox.progress import Progress
from petavox.project import driver, load, records


def arm(step: str, point: str) -> None:
    """Make the process die there."""
    under_way = []

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    write = records.write

    def watched(file, said):
        write(file, said)
        if said.name == step and said.state == "running":
            if point == "begun":
                die()
            under_way.append(said.name)

    records.write = watched
    if point == "half":
        record, advance = Ledger.record, Progress.advance

        def recorded(self, task, row):
            record(self, task, row)
            if under_way:
                self.save()
                die()

        def advanced(self, *args, **facts):
            advance(self, *args, **facts)
            if under_way:
                die()

        Ledger.record, Progress.advance = recorded, advanced
    if point == "ended":
        stamp = driver._stamp

        def stamped(writes, key):
            if under_way:
                die()
            stamp(writes, key)

        driver._stamp = stamped


if __name__ == "__main__":
    folder, step, point, workers = sys.argv[1:]
    arm(step, point)
    driver.run(load(folder), workers=int(workers))
