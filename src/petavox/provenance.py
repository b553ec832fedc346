"""Provenance: what made an output, kept in a JSON beside it.

What it is: the record (version, settings, input digests, counters, seconds), and the atomic
writing of small files. What it is not: the ledger of blocks, or logging.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import petavox


def record(
    stage: str,
    *,
    settings: Any,
    inputs: Mapping[str, str],
    counters: Mapping[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """The provenance of one output.

    settings: a pydantic model or plain values.  inputs: name -> digest or URL.
    """
    dump = getattr(settings, "model_dump", None)
    return {
        "stage": stage,
        "petavox": petavox.__version__,
        "settings": dump(mode="json") if dump else settings,
        "inputs": dict(inputs),
        "counters": dict(counters),
        "seconds": round(seconds, 3),
        "host": platform.node(),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def digest(*parts: Any) -> str:
    """A stable hex digest (BLAKE2b, 128 bits) of bytes, or of JSON-like values."""
    h = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = (
            part
            if isinstance(part, bytes)
            else json.dumps(part, sort_keys=True, default=str).encode()
        )
        h.update(len(data).to_bytes(8, "little"))
        h.update(data)
    return h.hexdigest()


def file_digest(path: str | Path) -> str:
    """BLAKE2b (128 bits) of a file's bytes."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def write_atomically(path: str | Path, data: str | bytes) -> None:
    """Write a small file so that a reader sees the old one or the new one, never a half."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with open(temporary, "wb") as f:
            f.write(data.encode() if isinstance(data, str) else data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically, indented, with a final newline."""
    write_atomically(path, json.dumps(value, indent=1, default=str) + "\n")
