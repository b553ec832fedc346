"""Tune: measure what is fastest on this machine and write it into a settings file.

What it is: the settings file before and after, around petavox.ffn.tune. What it is not: the
measurement.

Lines of the file are edited in place: comments and the order of keys stay.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from petavox.errors import BadInput
from petavox.ffn import tune as measuring
from petavox.ffn.devices import device_of
from petavox.ffn.model import ModelSpec, load_spec
from petavox.provenance import write_atomically
from petavox.settings import parse, read_yaml_mapping
from petavox.stages.segment import SegmentSettings
from petavox.stages.training_settings import TrainSettings, read_settings


def tune(
    work: measuring.Work,
    settings: Path,
    *,
    model: Path | None = None,
    memory_gb: float | None = None,
    seconds: float = 3.0,
    device: str | None = None,
    write: bool = True,
    said: Callable[[measuring.Measured], None] = lambda m: None,
) -> dict[str, Any]:
    """Find the fastest way to train or segment here; write it into `settings`.

    device: to measure on; None: that of the settings.  model: whose geometry is measured; needed
    for segment, and for settings without `model`.  said: told of each measurement.
    Returns the table and the gain over the untuned f32 default.
    """
    read = _read(work, settings)
    spec = _spec(read, model)
    on = str(device_of(device or read.device))
    tries = measuring.knobs(
        work,
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        compiler=shutil.which("g++") is not None or shutil.which("clang++") is not None,
        processor=on == "cpu",
    )
    measure = measuring.measurer(
        work, spec, device=on, memory_mb=measuring.bound(memory_gb), seconds=seconds
    )
    found = []
    for one in measuring.search(work, tries, measure):
        found.append(one)
        said(one)
    if found[0].why_not:
        raise BadInput(f"even the default cannot be used: {found[0].why_not}.")
    best = measuring.winner(found)
    changes = _changes(read, best.candidate, on)
    if write:
        text = settings.read_text() if settings.exists() else ""
        write_atomically(settings, edited(text, changes))
    return {
        "table": measuring.table(found),
        "best": best.candidate.model_dump(),
        "fov_per_s": best.fov_per_s,
        "default_fov_per_s": found[0].fov_per_s,
        "ratio": best.fov_per_s / found[0].fov_per_s,
        "memory_mb": best.memory_mb,
        **({"lanes": best.candidate.lanes} if work == "segment" else {}),
        "written": changes if write else {},
    }


def _read(work: measuring.Work, settings: Path) -> TrainSettings | SegmentSettings:
    if work == "train":
        return read_settings(settings)
    values = read_yaml_mapping(settings) if settings.exists() else {}
    return parse(SegmentSettings, values, str(settings))


def _spec(read: TrainSettings | SegmentSettings, model: Path | None) -> ModelSpec:
    if model is not None:
        return load_spec(model)
    if isinstance(read, TrainSettings) and read.model is not None:
        return read.model
    raise BadInput("give --model: without it nothing says how large the network is.")


def _changes(
    read: TrainSettings | SegmentSettings, best: measuring.Candidate, device: str
) -> dict[str, Any]:
    """Dotted keys and values for the settings file.

    Several processes are not written: training takes them from its launcher, segmentation from
    its site; the table says how many pay. Lanes are for `--blocks --lanes`, not for one subvolume.
    """
    if isinstance(read, SegmentSettings):
        return {"precision": best.precision, "device": device}
    changes: dict[str, Any] = {
        "device": device,
        "trainer.batch": best.batch,
        "trainer.live": best.live,
        "trainer.precision": best.precision,
        "trainer.memory_format": best.memory_format,
        "trainer.compile": best.compile,
    }
    if best.threads or read.threads is not None:
        changes["threads"] = best.threads or None
    return changes


def edited(text: str, changes: dict[str, Any]) -> str:
    """YAML with some keys (dotted, at most one level down) set; all else stays as it was.

    Raises BadInput where the text is written in a way that cannot be edited by lines.
    """
    wanted = yaml.safe_load(text) or {}
    lines_before = len(text.splitlines())
    fresh = 0
    for key, value in changes.items():
        *above, name = key.split(".")
        fresh += bool(above) and above[0] not in wanted
        here = wanted
        for part in above:
            here = here.setdefault(part, {})
        fresh += name not in here
        here[name] = value
        text = _set(text, above[0] if above else None, name, _plain(value))
    # a key written in another style would now stand there twice
    twice = len(text.splitlines()) != lines_before + fresh
    if twice or yaml.safe_load(text) != wanted:
        raise BadInput(
            "the settings are not in plain `key: value` lines, so they were not changed; set "
            + ", ".join(f"{k}: {_plain(v)}" for k, v in changes.items())
            + " by hand."
        )
    return text


def _set(text: str, above: str | None, name: str, value: str) -> str:
    lines = text.splitlines()
    indent, first, last = "", 0, len(lines)
    if above is not None:
        heads = [i for i, x in enumerate(lines) if re.match(rf"{above}\s*:\s*(#.*)?$", x)]
        if not heads:
            return "\n".join([*lines, f"{above}:", f"  {name}: {value}"]) + "\n"
        first = heads[0] + 1
        last = next(
            (i for i in range(first, len(lines)) if re.match(r"[^\s#]", lines[i])), len(lines)
        )
        below = next((x for x in lines[first:last] if re.match(r"\s+[^\s#]", x)), "  x")
        indent = below[: len(below) - len(below.lstrip())]
    for i in range(first, last):
        found = re.match(rf"{indent}{name}\s*:\s*[^\s#]+(\s*#.*)?$", lines[i])
        if found:
            lines[i] = f"{indent}{name}: {value}{found[1] or ''}"
            return "\n".join(lines) + "\n"
    lines.insert(first if above is not None else last, f"{indent}{name}: {value}")
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
