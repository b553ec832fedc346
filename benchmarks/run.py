"""All benchmarks that fit into 40 minutes on two cores, then the page: `make bench`.

    python -m benchmarks.run [NAME ...] [--list]

What it is: a list of claims, the most telling first, each a script run in a process of its own with
a time limit; what a script cannot do (data not here, a peer not installed, out of time) becomes a
row that says so, and the next one runs. Each prints one line of JSON per result and keeps it in
benchmarks/results/. The first run installs the peers (benchmarks/.peers), which takes minutes.
What it is not: the long ones: benchmarks.flood on the whole block (22 minutes), accuracy, faults,
unionfind and blocks with a million of each, gates, unet, the shipped model's training: run those by
hand.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

from benchmarks import table
from benchmarks.common import emit
from benchmarks.peers.environments import GENERATOR_NEEDS, ROOM, Unavailable, python_of

BUDGET = 2280.0
"""Seconds for all claims, two minutes less than 40; what does not start in time is told."""


@dataclass(frozen=True)
class Claim:
    """One script: what it shows, its words, and the most it may take in seconds."""

    name: str
    shows: str
    words: tuple[str, ...]
    seconds: float = 300.0


GENERATOR = "{python with opencv}"
"""Stands for a Python that can make the alignment set."""
CORNER = "0:64,0:96,0:96"
CLAIMS = (
    Claim("network", "the bare network: f32, bf16, int8; one process, and one a core",
          ("network", "--variants", "f32", "bf16", "int8"), 180.0),
    Claim("tensorflow", "the same network in TensorFlow", ("peers", "tensorflow"), 300.0),
    Claim("flood", "a flood runs at the bare network's rate", ("flood", "--box", CORNER), 300.0),
    Claim("flood-int8", "the same in int8: rate and scores",
          ("flood", "--box", CORNER, "--precision", "int8"), 240.0),
    Claim("align", "alignment of the set with exact truth",
          ("align", "--seeds", "0", "--python", GENERATOR, "--keep", str(ROOM / "sets")), 240.0),
    Claim("feabas", "FEABAS on that set", ("peers", "feabas"), 420.0),
    Claim("volumes", "reading and writing of each format", ("volumes",), 180.0),
    Claim("zarr", "zarr-python on the same arrays", ("peers", "zarr"), 180.0),
    Claim("cloudvolume", "cloud-volume on the same arrays", ("peers", "cloudvolume"), 180.0),
    Claim("blocks", "what a block costs beyond its work", ("blocks",), 120.0),
    Claim("reconcile", "objects of blocks become one", ("reconcile",), 120.0),
    Claim("meshes", "meshes beside a loop over zmesh",
          ("meshes", "--box", "0:256,0:256,0:128"), 120.0),
    Claim("skeletons", "skeletons beside a loop over kimimaro",
          ("skeletons", "--box", "320:448,300:428,300:428"), 120.0),
    Claim("skimage", "scores are those of scikit-image", ("peers", "skimage"), 90.0),
    Claim("training", "training steps per second", ("training", "4"), 180.0),
    Claim("lanes", "lanes give the plain driver's labels",
          ("lanes", "--lanes", "1", "3", "--side", "40"), 180.0),
    Claim("int8", "what int8 costs in one step", ("int8",), 90.0),
    Claim("demo", "the demo, start to end", ("demo",), 560.0),
    Claim("scaling", "no stage grows faster than n log n", ("scaling", "--seconds", "150"), 300.0),
)  # fmt: skip


def main() -> None:
    """Run what is asked for, in order; then write the page."""
    options = argparse.ArgumentParser(description="The benchmarks of `make bench`.")
    options.add_argument("names", nargs="*", help="claims; default all")
    options.add_argument("--list", action="store_true", help="show the claims and end")
    given = options.parse_args()
    if unknown := set(given.names) - {c.name for c in CLAIMS}:
        options.error(f"unknown: {', '.join(sorted(unknown))}; see --list")
    if given.list:
        for claim in CLAIMS:
            print(f"{claim.name:12} {claim.shows}")
        return
    began, outcomes = time.monotonic(), dict[str, str]()
    try:
        for claim in CLAIMS:
            if given.names and claim.name not in given.names:
                continue
            outcomes[claim.name] = one(claim, BUDGET - (time.monotonic() - began))
            print(f"# {claim.name}: {outcomes[claim.name]}", file=sys.stderr, flush=True)
        if not given.names:
            minutes = round((time.monotonic() - began) / 60, 1)
            emit("bench", minutes=minutes, load=round(os.getloadavg()[0], 1), claims=outcomes)
    finally:  # what was measured before an interrupt is on the page too
        table.main()


def command(claim: Claim) -> list[str]:
    """The words that run a claim's script. Raises Unavailable."""
    words = list(claim.words[1:])
    if GENERATOR in words:
        words[words.index(GENERATOR)] = str(python_of("generator", GENERATOR_NEEDS))
    return [sys.executable, "-W", "ignore", "-m", f"benchmarks.{claim.words[0]}", *words]


def one(claim: Claim, left: float) -> str:
    """Run one script; how it ended, in words. What it started ends with it."""
    if left <= 0:
        return "not run: out of time"
    limit, started = min(claim.seconds, left), time.monotonic()
    try:
        process = subprocess.Popen(
            command(claim), stderr=subprocess.PIPE, text=True, start_new_session=True
        )
    except Unavailable as e:
        return f"not measured: {e}"
    try:
        errors = process.communicate(timeout=limit)[1]
    except subprocess.TimeoutExpired:
        return f"not measured: over {limit:.0f} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        said = [line for line in errors.strip().splitlines() if line.strip()]
        return f"not measured: {said[-1][:200] if said else f'exit code {process.returncode}'}"
    return f"{time.monotonic() - started:.0f} s"


if __name__ == "__main__":
    main()
