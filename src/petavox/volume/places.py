"""Paths and URLs: the places where volumes lie.

What it is: a local path or a URL (s3://, gs://, http://, https://, file://) turned into a
TensorStore key-value store, and the small metadata files beside voxels read and written there.
What it is not: a format; nothing here knows what the files mean.
"""

from __future__ import annotations

import functools
import json
import re
import urllib.parse
from pathlib import Path
from typing import Any

import tensorstore as ts

from petavox.errors import BadInput
from petavox.provenance import write_atomically

SCHEMES = {"s3", "gs", "http", "https"}
READ_ONLY = ("http://", "https://")


def is_url(path: str | Path) -> bool:
    """True for a place that is not on this machine's file system."""
    scheme = re.match(r"([a-z0-9]+)://", str(path))
    return scheme is not None and scheme[1] in SCHEMES


def named(path: str | Path) -> str:
    """The place as text: URLs without a final slash, file:// URLs as plain paths.

    Raises BadInput for a kind of URL that petavox does not read, and for a URL that was taken for
    a path: `Path("s3://bucket/x")` is "s3:/bucket/x", a folder of this machine.
    """
    text = str(path)
    taken = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):/(?!/)", text)
    if taken is not None:
        raise BadInput(_no_url_here(taken[1], text[taken.end() :]))
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    if scheme is None:
        return str(Path(text))
    if scheme[1] == "file":
        # as every URL, it writes a blank as %20
        return str(Path(urllib.parse.unquote(text[len("file://") :])))
    if not is_url(text):
        raise BadInput(
            f"{text}: petavox reads file paths, file://, s3://, gs://, http:// and https://, "
            f"not {scheme[1]}://."
        )
    return text.rstrip("/")


def _no_url_here(scheme: str, rest: str) -> str:
    """The sentence for a URL given where only a file path can be."""
    if scheme == "file":
        return f"file:///{rest}: give the path alone here, without 'file://'."
    return (
        f"{scheme}://{rest}: only a file path is possible here, not a URL. Give a path; "
        "`petavox import` copies a volume from and to URLs (s3://, gs://)."
    )


def joined(path: str | Path, *parts: str) -> str:
    """A place inside a place."""
    return "/".join([str(path).rstrip("/"), *(p.strip("/") for p in parts if p.strip("/"))])


def kvstore(path: str | Path) -> dict[str, Any] | str:
    """The TensorStore key-value store of a folder."""
    text = named(path)
    if is_url(text):
        return f"{text}/"
    return {"driver": "file", "path": f"{Path(text).resolve()}/"}  # it refuses ".."


@functools.cache
def context() -> Any:
    """The TensorStore context of all volumes: a small cache; a dead server is given up soon."""
    retries = {"max_retries": 4, "initial_delay": "200ms", "max_delay": "2s"}
    return ts.Context(
        {
            "cache_pool": {"total_bytes_limit": 64 << 20},
            "http_request_retries": retries,
            "s3_request_retries": retries,
            "gcs_request_retries": retries,
        }
    )


def read(path: str | Path, name: str) -> bytes | None:
    """The bytes of a small file in a folder, or None if it is not there or may not be seen.

    Raises BadInput if the place cannot be reached or the file cannot be read.
    """
    text = named(path)
    try:
        if not is_url(text):
            return (Path(text) / name).read_bytes()
        found = ts.KvStore.open(kvstore(text), context=context()).result().read(name).result()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RuntimeError) as e:
        if is_url(text) and str(e).startswith("PERMISSION_DENIED"):
            return None  # a public bucket that may not be listed says so of every missing file
        raise BadInput(f"cannot read {joined(text, name)}: {short(e)}.") from None
    return bytes(found.value) if found.state == "value" else None


def read_json(path: str | Path, name: str) -> dict[str, Any] | None:
    """The JSON mapping in a small file, or None if the file is not there."""
    data = read(path, name)
    if data is None:
        return None
    try:
        value = json.loads(data)
    except ValueError as e:
        raise BadInput(f"{joined(path, name)} is not valid JSON ({e}).") from None
    if not isinstance(value, dict):
        raise BadInput(f"{joined(path, name)} holds a JSON {type(value).__name__}, not a mapping.")
    return value


def write_json(path: str | Path, name: str, value: Any) -> None:
    """Write a small JSON file so that a reader sees the old or the new one, never a half."""
    text, data = named(path), json.dumps(value, indent=1, default=str) + "\n"
    try:
        if is_url(text):
            store = ts.KvStore.open(kvstore(text), context=context()).result()
            store.write(name, data).result()
        else:
            write_atomically(Path(text) / name, data)
    except (OSError, ValueError, RuntimeError) as e:
        raise BadInput(f"cannot write to {joined(text, name)}: {short(e)}.") from None


def exists(path: str | Path) -> bool:
    """True if something lies at a place; of a URL, if a volume's metadata does."""
    text = named(path)
    if not is_url(text):
        return Path(text).exists()
    return any(read(text, name) is not None for name in METADATA)


METADATA = ("petavox.json", "zarr.json", "info", ".zattrs", ".zgroup", ".zarray", "attributes.json")
"""Files that tell that a folder is a volume."""


def remove(path: str | Path) -> None:
    """Remove all keys under a URL."""
    ts.KvStore.open(kvstore(path), context=context()).result().delete_range(
        ts.KvStore.KeyRange()
    ).result()


def short(error: BaseException) -> str:
    """The part of a library's message that a person can use, on one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = re.sub(
        r"\s*\[(tensorstore_spec|source locations|source_location).*", "", str(error), flags=re.S
    )
    text = re.sub(r"^[A-Z_]+: ", "", " ".join(text.split())).rstrip(".")
    return text if len(text) < 300 else text[:297] + "..."
