"""Ranks: who am I, how many are we, and how to speak to one another.

What it is: the place of a process among the processes of one training, found in the environment
that torchrun, mpiexec (MPICH, PALS, Open MPI, Intel MPI) or srun gives it; and the process group.
What it is not: the training itself.

One rank drives one device. A card that shows two tiles as two devices has two ranks and still
counts as one device for the batch: `tiles_per_device` says so, and nothing is doubled silently.
"""

from __future__ import annotations

import datetime
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed as dist

from petavox.errors import BadInput, WorkFailed

log = logging.getLogger("petavox")
T = TypeVar("T")

# (launcher, rank, ranks, rank on this node, ranks on this node); the first whose rank and ranks are
# set is taken
_LAUNCHERS = (
    ("torchrun", ("RANK",), ("WORLD_SIZE",), ("LOCAL_RANK",), ("LOCAL_WORLD_SIZE",)),
    (
        "mpiexec",
        ("PMI_RANK", "PMIX_RANK"),
        ("PMI_SIZE",),
        ("PALS_LOCAL_RANKID", "MPI_LOCALRANKID", "PMI_LOCAL_RANK"),
        ("MPI_LOCALNRANKS",),
    ),
    (
        "mpiexec (Open MPI)",
        ("OMPI_COMM_WORLD_RANK",),
        ("OMPI_COMM_WORLD_SIZE",),
        ("OMPI_COMM_WORLD_LOCAL_RANK",),
        ("OMPI_COMM_WORLD_LOCAL_SIZE",),
    ),
    ("srun", ("SLURM_PROCID",), ("SLURM_NTASKS",), ("SLURM_LOCALID",), ()),
)
_PINS = (
    "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK",
    "ONEAPI_DEVICE_SELECTOR",
)  # fmt: skip
"""Variables by which a launcher shows each rank a device of its own."""
BACKENDS = {"cpu": "gloo", "cuda": "nccl", "xpu": "xccl"}
"""Kind of device -> how its ranks speak."""


@dataclass(frozen=True)
class Place:
    """A process among `ranks`; `local` is its number on its node, None where nothing says it."""

    rank: int = 0
    ranks: int = 1
    local: int | None = 0
    launcher: str = "none"

    @property
    def leads(self) -> bool:
        """True for the one rank that writes, validates and talks."""
        return self.rank == 0


def place_in(environment: Mapping[str, str]) -> Place:
    """The place of a process, from its environment variables.

    Raises BadInput if a launcher's variables contradict one another, or if ranks are on several
    nodes, or may be, and there is no MASTER_ADDR.
    """

    def first(names: tuple[str, ...]) -> int | None:
        given = next((environment[n] for n in names if environment.get(n)), None)
        try:
            return None if given is None else int(given)
        except ValueError:
            raise BadInput(f"environment variable {names[0]} is '{given}', not a number.") from None

    for launcher, rank_names, ranks_names, local_names, here_names in _LAUNCHERS:
        rank, ranks = first(rank_names), first(ranks_names)
        if rank is None or ranks is None:
            continue
        if launcher == "srun" and "SLURM_STEP_ID" not in environment:
            continue  # an allocation, but not started by srun: one process
        if not 0 <= rank < ranks:
            raise BadInput(f"{launcher} gives rank {rank} of {ranks}; ranks are 0 to {ranks - 1}.")
        # on one node all ranks meet at this host, unless told otherwise
        one_node = ranks == 1 or first(here_names) == ranks
        if not one_node and not environment.get("MASTER_ADDR"):
            raise BadInput(
                f"{launcher} started {ranks} ranks, but MASTER_ADDR is not set: export the name of "
                "the first node (job scripts by `petavox train --write-job` do)."
            )
        local = first((*local_names, "LOCAL_RANK"))
        if local is None and first(("SLURM_PROCID",)) == rank:
            # srun tells it whatever else it sets (PMI_RANK with pmi2, RANK by a job script); where
            # the process is not srun's own, such as one by mpiexec in a job, the ranks differ
            local = first(("SLURM_LOCALID",))
        if local is None and one_node:
            local = rank
        return Place(rank, ranks, local, launcher)
    return Place()


def batch_of_rank(batch: int, tiles_per_device: int) -> int:
    """Fields of view in the batch of one rank, for `batch` on one device (one card)."""
    if batch % tiles_per_device:
        raise BadInput(
            f"batch is {batch} for each device, but a device has {tiles_per_device} tiles with a "
            f"rank each: make batch a multiple of {tiles_per_device}."
        )
    return batch // tiles_per_device


def own_device(kind: str, place: Place) -> torch.device:
    """The device of this rank: its own card or tile, the processor, or the one named."""
    name = kind.partition(":")[0]
    if name not in ("cuda", "xpu") or place.ranks == 1:
        return torch.device(kind)
    if ":" in kind:
        raise BadInput(
            f"device is {kind}, but there are {place.ranks} ranks, which would all compute on it: "
            f"set device: {name}, and each takes its own."
        )
    module = torch.cuda if name == "cuda" else torch.xpu
    count, local = module.device_count(), place.local
    if local is None:
        # one card on each node or in each pod is what such launchers are for; of several, ranks
        # that are numbered node by node take one each
        local = place.rank % count if count > 1 else 0
        if count > 1:
            log.warning(
                "%s does not say the number of rank %d on its node: of %d %s devices it takes "
                "number %d; set LOCAL_RANK if that is wrong",
                place.launcher, place.rank, count, name, local,
            )  # fmt: skip
    if count > 1 and local >= count:
        raise BadInput(
            f"rank {place.rank} is number {local} on its node, but there are only {count} "
            f"{name} devices: start {count} ranks on each node."
        )
    if count == 1 and local > 0 and not any(os.environ.get(v) for v in _PINS):
        raise BadInput(
            f"rank {place.rank} is number {local} on its node, but there is only one {name} "
            "device: start 1 rank on each node."
        )
    device = torch.device(name, local if count > 1 else 0)
    module.set_device(device)
    return device


def largest(number: int, place: Place, device: torch.device) -> int:
    """The largest of all ranks' numbers; all ask together."""
    if place.ranks == 1:
        return number
    every = torch.tensor([number], device=device)
    dist.all_reduce(every, dist.ReduceOp.MAX)
    return int(every.item())


def led(place: Place, device: torch.device, work: Callable[[], T]) -> T | None:
    """What `work` gives the leading rank, which alone does it; None for the others.

    All call this together. If the work fails, all fail with the leading rank's sentence: none goes
    on to wait for one that has ended.
    """
    if place.ranks == 1:
        return work()
    made: T | None = None
    failed: Exception | None = None
    if place.leads:
        try:
            made = work()
        except WorkFailed:  # the launcher ends all ranks: nobody is left to be told
            raise
        except Exception as e:
            failed = e
    told = torch.zeros(_SENTENCE, dtype=torch.uint8)
    if failed is not None:
        said = (str(failed) or type(failed).__name__).encode()[:_SENTENCE]
        told[: len(said)] = torch.tensor(list(said), dtype=torch.uint8)
    told = told.to(device)
    dist.broadcast(told, 0)
    if failed is not None:
        raise failed
    text = bytes(told.tolist()).rstrip(b"\0").decode(errors="replace")
    if text:
        raise BadInput(text)
    return made


_SENTENCE = 2048  # bytes of a sentence that is told


@contextmanager
def joined(
    place: Place, kind: str = "cpu", *, timeout_s: float = 1800, address: str | None = None
) -> Iterator[None]:
    """All ranks meet here before work; nothing is done for a single rank.

    address: where they meet, `tcp://host:port`; without it MASTER_ADDR and MASTER_PORT say.
    timeout_s: a rank that is silent for so long is given up; it must exceed a validation.
    """
    if place.ranks == 1:
        yield
        return
    name = kind.partition(":")[0]
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29531")
    where = address or f"tcp://{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    try:
        dist.init_process_group(
            BACKENDS.get(name, "gloo"),
            init_method=where,
            rank=place.rank,
            world_size=place.ranks,
            timeout=datetime.timedelta(seconds=timeout_s),
        )
    except (RuntimeError, ValueError) as e:
        raise WorkFailed(
            f"rank {place.rank} could not meet the other {place.ranks - 1} ranks at {where}: {e}"
        ) from None
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def losses_told(place: Place, resume: str) -> Iterator[None]:
    """Turn the failure that a lost rank causes in the others into one clear sentence.

    Inside `joined`; ranks part together, so that one lost at the very end is noticed too. The
    others notice by a broken connection, or are ended by their launcher (SIGTERM), whichever comes
    first. resume: what to do, such as a command line.
    """

    def ended(signal_number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: the way out is short
        raise WorkFailed(
            f"rank {place.rank} of {place.ranks} was ended by its launcher: another rank was lost, "
            f"or the job was stopped. The last checkpoint is whole; {resume}."
        )

    handles = place.ranks > 1 and threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, ended) if handles else None
    try:
        yield
        if place.ranks > 1:
            dist.barrier()
    except (dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError) as e:
        raise _lost(place, resume, e) from None
    except RuntimeError as e:
        if place.ranks > 1 and any(s in str(e) for s in _SIGNS):
            raise _lost(place, resume, e) from None
        raise
    finally:
        # where a rank was lost the launcher may still follow: it must not cut off the sentence
        if handles and signal.getsignal(signal.SIGTERM) is ended:
            signal.signal(signal.SIGTERM, before)


_SIGNS = ("gloo", "Gloo", "NCCL", "ProcessGroup", "Connection closed", "Connection reset")


def _lost(place: Place, resume: str, error: Exception) -> WorkFailed:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    said = " ".join(str(error).split())[:160]
    return WorkFailed(
        f"a rank was lost: rank {place.rank} of {place.ranks} no longer reaches the others "
        f"({said}). The last checkpoint is whole; {resume}."
    )
