"""Faults injected into blockwise runs: every run must end with the same voxels.

    python -m benchmarks.faults            all faults, a line of JSON each; the table goes to docs
    python -m benchmarks.faults --table    only write the table from the results

A case runs a small blockwise segmentation and its reconciliation (connected components on cut-out
labels, so that a run takes seconds), or a synthetic block function, in a driver process of its
own; kills something or spoils something; runs the same command again until it ends well; and
compares the digest of all voxels with an undisturbed run in one process.

What it is: the proof of "identical after any fault". What it is not: a test of speed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, data_folder, emit
from petavox import volume
from petavox.provenance import digest
from petavox.space import Box
from petavox.volume.opening import create, finish

SIDE, BLOCK, CONTEXT = 96, 32, 8
TABLE = Path(__file__).parent.parent / "docs" / "blocks.md"
MARKS = ("<!-- faults: begin -->", "<!-- faults: end -->")

DRIVER = """
import json, sys, logging
logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
from pathlib import Path
from petavox.blocks import *
from petavox.space import *
from petavox.stages.blockwise_segment import BlockwiseSettings, segment_blocks
from petavox.stages.reconcile import reconcile
a = json.loads(sys.argv[1])
folder = Path(a["folder"])
with Ledger(folder / "run" / "ledger.db") as ledger, open_engine(workers=a["workers"]) as engine:
    how = dict(ledger=ledger, engine=engine, shuffle=a["shuffle"], bundle=a.get("bundle"),
               limits=Limits(timeout_s=a.get("timeout")))
    if a["slow"]:
        grid = Grid(Box((0, 0, 0), (1, 1, 60)), (1, 1, 1))
        run(BlockTask("slow", "petavox.blocks.testing:pattern", grid,
                      settings={"seconds": 0.05, **a["slow"]}), **how)
    segment_blocks(a["image"], folder / "objects.blocks", settings=BlockwiseSettings(
        block=(32, 32, 32), context=(8, 8, 8), method="components"), **how)
    reconcile(folder / "objects.blocks", folder / "final", **how)
print("ended well")
"""


class Driver:
    """One driver process of the case's run."""

    def __init__(self, folder: Path, image: Path, **how: Any) -> None:
        told = {"folder": str(folder), "image": str(image), "workers": 2, "shuffle": None}
        told |= {"slow": {}} | how
        self.log = open(folder / "log", "ab")  # noqa: SIM115  closed by `wait`
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, json.dumps(told)],
            stdout=self.log,
            stderr=self.log,
            cwd=Path(__file__).parent.parent,
        )

    def wait(self, timeout: float = 240.0) -> int:
        """The exit code."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return -99
        finally:
            self.log.close()


def _cmdline(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                parents.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found


def _pool_of(run: Path) -> list[int]:
    """Processes of this run's pools and workers (they are not the driver's children)."""
    beacons = [p.name for p in (run / "run" / "workers").rglob("*") if not p.suffix]
    return [int(name.rpartition("-")[2]) for name in beacons if name.rpartition("-")[2].isdigit()]


def busy_worker(driver: Driver, folder: Path) -> int | None:
    """A worker that is inside a block."""
    for path in (folder / "run" / "workers").rglob("*"):
        with contextlib.suppress(OSError, ValueError):
            if path.is_file() and not path.suffix and path.read_text().startswith("running"):
                pid = int(path.name.rpartition("-")[2])
                if Path(f"/proc/{pid}").exists():
                    return pid
    return None


def any_worker(driver: Driver, folder: Path) -> int | None:
    """A worker, in a block or between two."""
    alive = [p for p in _pool_of(folder) if Path(f"/proc/{p}").exists()]
    return alive[0] if alive else None


def pool(driver: Driver, folder: Path) -> int | None:
    """The manager of the pool of workers: the parent of a worker."""
    worker = any_worker(driver, folder)
    if worker is None:
        return None
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return None


def interchange(driver: Driver, folder: Path) -> int | None:
    """Parsl's interchange: a child of the driver."""
    for pid in _descendants(driver.process.pid):
        # Parsl renames the process once it runs
        if "interchange" in _cmdline(pid):
            return pid
    return None


def itself(driver: Driver, folder: Path) -> int | None:
    """The driver."""
    return driver.process.pid


def shoot(
    target: Callable[[Driver, Path], int | None], *, after: int = 1, stop: bool = False
) -> Callable[[Driver, Path], str]:
    """Send SIGKILL (or SIGSTOP) to a process once `after` blocks were begun."""

    def act(driver: Driver, folder: Path) -> str:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and driver.process.poll() is None:
            if _blocks_begun(folder) >= after:
                pid = target(driver, folder)
                if pid is not None:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGSTOP if stop else signal.SIGKILL)
                        return "hit"
            time.sleep(0.01)
        return "missed"

    return act


def _blocks_begun(folder: Path) -> int:
    """Rows in the ledger's tables, plus blocks under way."""
    import sqlite3

    count = 0
    with contextlib.suppress(sqlite3.Error):
        db = sqlite3.connect(f"file:{folder / 'run' / 'ledger.db'}?mode=ro", uri=True)
        with contextlib.closing(db):
            count = int(db.execute("SELECT COUNT(*) FROM blocks").fetchone()[0])
    return count + len(_pool_of(folder))


def result_digest(folder: Path) -> str:
    """Digest of the voxels of every level of the final segmentation."""
    out = volume.open(folder / "final")
    parts = [
        volume.open(folder / "final", resolution=level.voxel_size).read().tobytes()
        for level in out.levels
    ]
    return digest(*parts)


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """A folder for one case."""
    folder = Path(tempfile.mkdtemp(prefix="petavox-faults-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_image(folder: Path) -> Path:
    """Real labels if they are here (mouse cortex), cut out; else boxes."""
    real = data_folder() / "cloudvolume_seg" / "seg_16_16_40.h5"
    box = Box((100, 100, 100), (100 + SIDE,) * 3)
    if real.exists():
        import h5py

        with h5py.File(real) as f:
            name = next(k for k in f if f[k].ndim == 3)
            values = np.asarray(f[name][box.slices()], np.uint32)
    else:
        values = np.random.default_rng(0).integers(0, 5, (SIDE // 16,) * 3).astype(np.uint32)
        values = values.repeat(16, 0).repeat(16, 1).repeat(16, 2)
    path = folder / "image"
    made = create(
        path, box=Box.of_shape(values.shape), voxel_size=(40, 16, 16), dtype=np.uint32, kind="image"
    )
    made.write(made.box, values)
    finish(made, {})
    return path


CASES: list[tuple[str, dict[str, Any], list[Any]]] = [
    ("1 worker, no fault", {"workers": 1}, []),
    ("2 workers, no fault", {}, []),
    ("3 workers, no fault", {"workers": 3}, []),
    ("2 workers, shuffled, seed 1", {"shuffle": 1}, []),
    ("2 workers, shuffled, seed 2", {"shuffle": 2}, []),
    ("worker in a block killed -9, early", {}, [shoot(busy_worker)]),
    ("worker in a block killed -9, later", {}, [shoot(busy_worker, after=20)]),
    (
        "three workers killed -9, one after another",
        {},
        [shoot(busy_worker, after=k) for k in (3, 15, 30)],
    ),
    ("worker killed -9 at any moment", {}, [shoot(any_worker, after=12)]),
    ("worker killed -9 at any moment, later", {}, [shoot(any_worker, after=40)]),
    ("pool of workers killed -9, early", {}, [shoot(pool)]),
    ("pool of workers killed -9, later", {}, [shoot(pool, after=30)]),
    ("pool of workers frozen (SIGSTOP)", {}, [shoot(pool, after=10, stop=True)]),
    ("interchange killed -9, early", {}, [shoot(interchange)]),
    ("interchange killed -9, later", {}, [shoot(interchange, after=30)]),
    ("interchange killed twice", {}, [shoot(interchange), shoot(interchange, after=30)]),
    ("driver killed -9, early", {}, [shoot(itself)]),
    ("driver killed -9, in mid-run", {}, [shoot(itself, after=25)]),
    ("driver killed -9, late", {}, [shoot(itself, after=55)]),
    ("driver killed -9, one process", {"workers": 0}, [shoot(itself, after=20)]),
    ("driver killed -9, shuffled", {"shuffle": 3}, [shoot(itself, after=25)]),
    (
        "worker, interchange and driver killed -9",
        {},
        [shoot(busy_worker, after=3), shoot(interchange, after=15), shoot(itself, after=30)],
    ),
]


def run_case(
    name: str, how: dict[str, Any], acts: list[Any], image: Path, expected: str
) -> dict[str, Any]:
    """One row of the table."""
    how = dict(how)
    if acts:
        how["slow"] = {"_": 0}
    with workspace() as folder:
        began = time.monotonic()
        driver = Driver(folder, image, **how)
        hits = [act(driver, folder) for act in acts]
        codes = [driver.wait()]
        while codes[-1] != 0 and len(codes) < 5:
            codes.append(Driver(folder, image, **how).wait())
        same = codes[-1] == 0 and result_digest(folder) == expected
        log = (folder / "log").read_text(errors="replace")
        if not same:
            sys.stderr.write(log[-3000:])
        return {
            "fault": name,
            "injected": len(hits),
            "hit": hits.count("hit"),
            "exit_codes": codes,
            "runs": len(codes),
            "identical": same,
            "seconds": round(time.monotonic() - began, 1),
        }


def full_disk(image: Path, expected: str) -> dict[str, Any]:
    """The outputs on a small tmpfs that fills up; then it is made larger, and the run goes on."""
    name = "disk full (tmpfs), then enlarged"
    with workspace() as folder:
        began = time.monotonic()
        place = folder / "small"
        place.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=320k", "tmpfs", str(place)]
        if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            return {"fault": name, "skipped": "a tmpfs cannot be mounted here"}
        try:
            codes = [Driver(place, image).wait()]
            full = codes[0] != 0
            subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
            codes.append(Driver(place, image).wait())
            same = codes[-1] == 0 and result_digest(place) == expected
            if not same:
                sys.stderr.write((place / "log").read_text(errors="replace")[-3000:])
        finally:
            subprocess.run(["umount", "-l", str(place)], check=False)
        return {
            "fault": name, "injected": 1, "hit": int(full), "exit_codes": codes, "runs": 2,
            "identical": same, "seconds": round(time.monotonic() - began, 1),
        }  # fmt: skip


def bad_block(
    name: str, settings: dict[str, Any], timeout: float | None, image: Path, expected: str
) -> dict[str, Any]:
    """A block that misbehaves until it is told not to: named, isolated, exit code not 0."""
    with workspace() as folder:
        began = time.monotonic()
        codes = [Driver(folder, image, slow=settings, timeout=timeout, bundle=1).wait()]
        said = (folder / "log").read_text(errors="replace")
        named = "17" in said and codes[0] != 0
        codes.append(Driver(folder, image).wait())
        same = codes[-1] == 0 and result_digest(folder) == expected
        if not (named and same):
            sys.stderr.write(said[-3000:])
        return {
            "fault": name, "injected": 1, "hit": int(named), "exit_codes": codes, "runs": 2,
            "identical": same, "seconds": round(time.monotonic() - began, 1),
        }  # fmt: skip


def corrupt_chunk(image: Path, expected: str) -> dict[str, Any]:
    """A damaged shard of the labels of blocks, found by reconcile; repaired by a new run."""
    name = "corrupt shard in the input"
    with workspace() as folder:
        began = time.monotonic()
        spoiled = folder / "spoiled"
        shutil.copytree(image, spoiled)
        files = [p for p in (spoiled / "0").rglob("*") if p.is_file() and p.suffix != ".json"]
        shard = max(files, key=lambda p: p.stat().st_size)
        good = shard.read_bytes()
        shard.write_bytes(good[: len(good) // 3] + b"\0" * 4000 + good[len(good) // 3 + 4000 :])
        codes = [Driver(folder, spoiled).wait()]
        said = (folder / "log").read_text(errors="replace")
        named = codes[0] != 0 and "failed" in said and "segment-blocks" in said
        shard.write_bytes(good)
        codes.append(Driver(folder, spoiled).wait())
        same = codes[-1] == 0 and result_digest(folder) == expected
        if not (named and same):
            sys.stderr.write(said[-3000:])
        return {
            "fault": name, "injected": 1, "hit": int(named), "exit_codes": codes, "runs": 2,
            "identical": same, "seconds": round(time.monotonic() - began, 1),
        }  # fmt: skip


def write_table() -> None:
    """The latest result of every fault, as a table in docs/blocks.md."""
    rows: dict[str, dict[str, Any]] = {}
    for line in (RESULTS / "faults.jsonl").read_text().splitlines():
        row = json.loads(line)
        rows[row["fault"]] = row
    lines = [
        "| fault | injected | exit codes of the runs | identical voxels | seconds |",
        "|---|---|---|---|---|",
    ]
    for row in rows.values():
        if "skipped" in row:
            lines.append(f"| {row['fault']} | - | {row['skipped']} | - | - |")
            continue
        codes = ", ".join(str(c) for c in row["exit_codes"])
        good = "yes" if row["identical"] else "NO"
        lines.append(
            f"| {row['fault']} | {row['hit']} of {row['injected']} | {codes} | {good} | "
            f"{row['seconds']} |"
        )
    injected = sum(r.get("hit", 0) for r in rows.values())
    good = sum(bool(r.get("identical")) for r in rows.values())
    lines.append(f"\n{injected} faults hit in {len(rows)} cases; {good} cases ended identical.")
    text = TABLE.read_text()
    before, rest = text.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    TABLE.write_text(f"{before}{MARKS[0]}\n" + "\n".join(lines) + f"\n{MARKS[1]}{after}")


def main() -> None:
    """Run every case."""
    if "--table" in sys.argv:
        write_table()
        return
    only = [a for a in sys.argv[1:] if not a.startswith("-")]
    with workspace() as shared:
        image = make_image(shared)
        with workspace() as folder:
            if Driver(folder, image, workers=0).wait() != 0:
                raise SystemExit((folder / "log").read_text())
            expected = result_digest(folder)
        for name, how, acts in CASES:
            if not only or any(o in name for o in only):
                emit("faults", **run_case(name, how, acts, image, expected))
        extra: list[tuple[str, Callable[[], dict[str, Any]]]] = [
            ("disk full", lambda: full_disk(image, expected)),
            ("corrupt", lambda: corrupt_chunk(image, expected)),
            ("block that always kills its worker", lambda: bad_block(
                "block that always kills its worker", {"kills": [17]}, None, image, expected)),
            ("block that always raises", lambda: bad_block(
                "block that always raises", {"raises": [17]}, None, image, expected)),
            ("block that hangs", lambda: bad_block(
                "block that hangs", {"hangs": [17]}, 2.0, image, expected)),
        ]  # fmt: skip
        for name, case in extra:
            if not only or any(o in name for o in only):
                emit("faults", **case())


if __name__ == "__main__":
    main()
