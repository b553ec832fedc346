"""Which accelerator, and how many threads, a worker gets: an environment from its rank.

What it is: a pure function from a worker's rank on its node to environment variables, set before
torch or NumPy is imported. What it is not: a question to the driver of a device.

    rank      0 1 2 3 4 5 6 7
    device    0 0 1 1 2 2 3 3       4 devices, 2 processes each

Parsl's own pinning is not used: given a list with repeats it is right for Intel tiles and puts
all workers on GPU 0 for NVIDIA, given a number it is right for NVIDIA and wrong for Intel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from petavox.errors import BadInput

VARIABLE = {
    "cuda": "CUDA_VISIBLE_DEVICES",
    "xpu": "ZE_AFFINITY_MASK",
    "rocm": "ROCR_VISIBLE_DEVICES",
}
"""Kind of accelerator -> the variable that hides the others from a process."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def environment(
    rank: int,
    *,
    kind: str = "none",
    devices: int = 0,
    per_device: int = 1,
    threads: int = 1,
    outer: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Variables for the worker of place `rank` on its node.

    kind: none, cuda, xpu (Intel, flat tiles) or rocm.  devices: on a node.
    per_device: processes that share one.  threads: of the processor, for this worker.
    outer: the environment that the scheduler gave; devices it names are the ones used.
    Raises BadInput if there is no device for the rank.
    """
    pinned = dict.fromkeys(THREADS, str(max(1, threads)))
    if kind == "none":
        return pinned
    if kind not in VARIABLE:
        raise BadInput(f"accelerator kind '{kind}' is not one of none, {', '.join(VARIABLE)}.")
    variable = VARIABLE[kind]
    given = (outer or {}).get(variable, "")
    names = [n.strip() for n in given.split(",") if n.strip()] or [str(i) for i in range(devices)]
    place = rank // max(1, per_device)
    if place >= len(names):
        raise BadInput(
            f"worker {rank} has no {kind} device: {len(names)} devices with {per_device} processes "
            f"each hold {len(names) * per_device} workers. Lower workers_per_node of the site."
        )
    pinned[variable] = names[place]
    if kind == "cuda":
        pinned["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    if kind == "xpu":
        pinned["ZE_FLAT_DEVICE_HIERARCHY"] = "FLAT"
        if per_device > 1:
            # the mask leaves one tile, which the process sees as number 0
            pinned["ZEX_NUMBER_OF_CCS"] = f"0:{per_device}"
    return pinned


def device_name(kind: str) -> str:
    """The name a torch user gives the worker's one device."""
    return {"none": "cpu", "rocm": "cuda"}.get(kind, kind)


def from_site(rank: int, pin: Mapping[str, Any], outer: Mapping[str, str]) -> dict[str, str]:
    """`environment` from the plain values that travel in a job."""
    return environment(rank, outer=outer, **pin)
