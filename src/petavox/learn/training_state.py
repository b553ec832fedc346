"""Checkpoints of a training: all of its state in a folder that is there whole or not at all.

    checkpoints/step-00004000/
        state.safetensors      weights, running mean, optimiser; facts as JSON in the header
        feeder-00000.safetensors   live patches and counters of each feeder

What it is: writing by all ranks, finding the newest, reading. No pickle is written or loaded.
What it is not: a model file; petavox.ffn.export makes one.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_arrays
from safetensors.torch import save as save_tensors
from torch import Tensor
from torch import distributed as dist

from petavox.errors import BadInput
from petavox.provenance import write_atomically
from petavox.settings import Settings

S = TypeVar("S", bound=Settings)

FORMAT = "petavox-training-1"
STATE = "state.safetensors"
LATE_S = 60.0
"""How long a rank looks for a checkpoint that the leading rank sees."""
_NAME = re.compile(r"step-(\d+)")


def folder_of(root: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return root / f"step-{step:08d}"


def partial_of(root: Path, step: int) -> Path:
    """Where it is being written."""
    return root / f".step-{step:08d}.partial"


def step_of(folder: Path) -> int:
    """The step of a checkpoint, from its name."""
    return int(folder.name.removeprefix("step-"))


def newest(root: Path) -> Path | None:
    """The latest whole checkpoint in a folder; None if there is none."""
    found = [p for p in root.glob("step-*") if _NAME.fullmatch(p.name) and (p / STATE).is_file()]
    return max(found, key=step_of, default=None)


def seen(root: Path, seconds: float, step: int | None = None) -> Path | None:
    """The checkpoint of a step, or the newest; if it is not there, looked for again for so long.

    A host may see what another wrote to a shared disk half a minute late.
    """
    end = time.monotonic() + seconds
    while True:
        # `newest` lists the folder, which makes a shared disk ask anew
        found = newest(root)
        if step is not None:
            asked = folder_of(root, step)
            found = asked if (asked / STATE).is_file() else None
        if found is not None or time.monotonic() >= end:
            return found
        time.sleep(min(0.5, seconds))


def write_feeder(folder: Path, number: int, arrays: Mapping[str, np.ndarray]) -> None:
    """One feeder's live patches, into the folder being written."""
    plain = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
    write_atomically(folder / f"feeder-{number:05d}.safetensors", save_arrays(plain))


def read_feeder(folder: Path, number: int) -> dict[str, np.ndarray]:
    """One feeder's live patches."""
    path = folder / f"feeder-{number:05d}.safetensors"
    with _opened(path, "np") as f:
        return {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118 (not a dict)


def publish(root: Path, step: int, keep: int) -> Path:
    """Give a folder that is written by all its final name; keep only the newest `keep`."""
    final = folder_of(root, step)
    if final.exists():
        # out of sight at once: a folder that is half deleted must not be taken for a checkpoint
        aside = root / f".{final.name}.old.partial"
        shutil.rmtree(aside, ignore_errors=True)
        final.rename(aside)
    partial_of(root, step).rename(final)
    old = sorted((p for p in root.glob("step-*") if _NAME.fullmatch(p.name)), key=step_of)
    for path in old[:-keep]:
        shutil.rmtree(path)
    for path in root.glob(".step-*.partial"):
        shutil.rmtree(path, ignore_errors=True)
    return final


def publish_together(root: Path, step: int, keep: int, *, leads: bool, ranks: int) -> Path | None:
    """Publish when every rank has written its part; all call this. The leading one gets the folder.

    Nobody leaves before it is done: a quick rank could begin the next one while this is renamed.
    """
    if ranks > 1:
        dist.barrier()
    folder = publish(root, step, keep) if leads else None
    if ranks > 1:
        dist.barrier()
    return folder


def require_unchanged(
    now: Mapping[str, Any], then: Mapping[str, Any], keys: Iterable[str], folder: Path
) -> None:
    """Raise BadInput, naming the key, if a setting that a checkpoint fixes is another now.

    keys: dotted.
    """
    for key in keys:
        # a checkpoint of before a key was there has None
        mine, theirs = (reduce(_entry, key.split("."), values) for values in (now, then))
        if mine != theirs:
            raise BadInput(
                f"{key} is {mine} but checkpoint {folder} was made with {theirs}; "
                "resume with the settings it was started with."
            )


def _entry(values: Any, key: str) -> Any:
    return None if values is None else values.get(key)


def facts_of(folder: Path) -> dict[str, Any]:
    """The facts of a checkpoint, without its tensors."""
    with _opened(folder / STATE, "pt") as f:
        return _facts(f.metadata(), folder / STATE)


def spec_in(facts: Mapping[str, Any], spec: type[S], folder: Path) -> S:
    """The spec that a checkpoint holds. Raises BadInput if it is of another kind of network."""
    try:
        return spec.model_validate(facts["spec"])
    except ValidationError:
        raise BadInput(
            f"checkpoint {folder} is of another kind of network; give the folder of the training "
            "that is meant."
        ) from None


def require_same_network(then: S, now: S, folder: Path) -> None:
    """Raise BadInput if a checkpoint is of another model than is trained now."""
    notes = {"provenance", "voxel_size"}  # they change nothing in the network
    if then.model_dump(exclude=notes) != now.model_dump(exclude=notes):
        raise BadInput(
            f"checkpoint {folder} is of another model than the settings describe; resume with "
            "the settings it was started with, or start anew with --init."
        )


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def write_state(folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Weights, running mean and optimiser, into the folder being written."""
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    header = {"format": FORMAT, "facts": json.dumps(facts, default=str)}
    write_atomically(folder / STATE, save_tensors(plain, metadata=header))


def read_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a checkpoint. Raises BadInput if it is none, or truncated."""
    path = folder / STATE
    with _opened(path, "pt") as f:
        facts = _facts(f.metadata(), path)
        return {name: f.get_tensor(name) for name in f.keys()}, facts  # noqa: SIM118


def _facts(header: Mapping[str, str] | None, path: Path) -> dict[str, Any]:
    if not header or header.get("format") != FORMAT:
        raise BadInput(f"{path} is no checkpoint of a petavox training.")
    return dict(json.loads(header["facts"]))


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as tensors, named by the place of the parameter."""
    state = optimiser.state_dict()["state"]
    return {
        f"optimiser.{i}.{name}": value
        for i, entries in state.items()
        for name, value in entries.items()
        if isinstance(value, Tensor)
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Take up a saved state."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, place, name = key.split(".", 2)
            state.setdefault(int(place), {})[name] = value
    whole = optimiser.state_dict()
    whole["state"] = state
    optimiser.load_state_dict(whole)


def _opened(path: Path, framework: str) -> Any:
    if not path.is_file():
        raise BadInput(f"there is no file {path}; it belongs to a checkpoint.")
    try:
        return safe_open(str(path), framework=framework, device="cpu")
    except (SafetensorError, OSError) as e:
        raise BadInput(
            f"{path} is damaged ({e}): delete the folder {path.parent.name}, then --resume takes "
            "the checkpoint before it."
        ) from None
