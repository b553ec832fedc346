"""One file over http(s), resumed by range requests.

What it is: the loop of attempts, what a partial file means, and when it may take its name.
What it is not: the choice of files.

A partial file is only continued if the server confirms that it is the same (ETag or
Last-Modified, by If-Range); else it starts anew.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import petavox
from petavox.datasets.catalogue import SetFile
from petavox.errors import BadInput, WorkFailed
from petavox.progress import Progress
from petavox.provenance import write_json

ATTEMPTS = 5
PIECE = 1 << 20
TIMEOUT = 60.0


def download(
    file: SetFile,
    target: Path,
    *,
    check: Callable[[Path, SetFile], str | None],
    progress: Progress,
    wait: Callable[[float], None] | None = None,
) -> int:
    """Bring the file at `file.url` to `target`; returns the bytes that travelled.

    A dropped connection is tried again, going on where it broke, up to ATTEMPTS times without
    a new byte in between. Raises WorkFailed when the network, the server or the checksum fails;
    then the partial file is kept for the next call, unless it was wrong.
    """
    wait = time.sleep if wait is None else wait
    partial = target.with_name(f".{target.name}.partial")
    travelled, failures = 0, 0
    with open(partial, "ab") as to:
        try:
            fcntl.flock(to, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput(
                f"{target} is being fetched by another process; wait for it, or stop it."
            ) from None
        while True:
            try:
                got, whole = _attempt(file, to, partial, progress)
                travelled += got
                if whole:
                    break
                failures = 0 if got else failures + 1
                reason = "the connection was closed early"
            except (urllib.error.URLError, http.client.HTTPException, OSError) as e:
                if isinstance(e, urllib.error.HTTPError) and e.code < 500 and e.code != 429:
                    raise WorkFailed(_refused(file, e)) from None
                if isinstance(e, OSError) and e.errno in (28, 122):
                    raise WorkFailed(f"no space is left for {target}; make room, repeat.") from None
                failures += 1
                reason = str(getattr(e, "reason", e))
            if failures >= ATTEMPTS:
                if os.fstat(to.fileno()).st_size == 0:
                    _forget(partial)
                raise WorkFailed(
                    f"{file.url} could not be fetched: {reason}. What came is kept; the same "
                    "command goes on from there. Offline, give --from FOLDER."
                )
            wait(min(2.0**failures, 30.0))
        to.flush()
        os.fsync(to.fileno())
        wrong = check(partial, file)
        if wrong is not None:
            _forget(partial)
            raise WorkFailed(
                f"what {file.url} sent is not the file that is expected: {wrong}. It was deleted. "
                "The set may have changed at its source; see `petavox data list`."
            )
        os.replace(partial, target)
        partial.with_name(partial.name + ".json").unlink(missing_ok=True)
    return travelled


def _attempt(file: SetFile, to: IO[bytes], partial: Path, progress: Progress) -> tuple[int, bool]:
    """One request; returns the bytes that came, and whether the file is whole."""
    said = _said(partial, file)
    have = os.fstat(to.fileno()).st_size
    headers = {"User-Agent": f"petavox/{petavox.__version__}", "Accept-Encoding": "identity"}
    if have and said.get("same"):
        headers |= {"Range": f"bytes={have}-", "If-Range": said["same"]}
    elif have:
        to.truncate(0)
        have = 0
    request = urllib.request.Request(file.url, headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as e:
        if e.code != 416:
            raise
        # nothing is left of the file: it is whole, or not the one we began
        if said.get("total") == have:
            return 0, True
        to.truncate(0)
        return 0, False
    with answer:
        if file.url.startswith("https:") and not answer.url.startswith("https:"):
            raise WorkFailed(f"{file.url} leads to {answer.url}, which is not https; not fetched.")
        if answer.headers.get_content_type() == "text/html":
            raise WorkFailed(f"{file.url} answered with a web page, not with {file.name}.")
        if answer.status != 206:
            to.truncate(0)
            have = 0
        length = answer.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        _room(partial, file, total, have)
        same = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        # a weak tag does not promise the same bytes
        same = "" if same.startswith("W/") else same
        write_json(
            partial.with_name(partial.name + ".json"),
            {"url": file.url, "total": total, "same": same},
        )
        got = 0
        try:
            while piece := answer.read(PIECE):
                to.write(piece)
                got += len(piece)
                progress.advance(len(piece) / 1e6, file=file.name)
        except (http.client.IncompleteRead, ConnectionError, TimeoutError):
            pass
        to.flush()
    return got, total is None or have + got == total


def _said(partial: Path, file: SetFile) -> dict[str, Any]:
    try:
        said = dict(json.loads(partial.with_name(partial.name + ".json").read_text()))
    except (OSError, ValueError):
        return {}
    return said if said.get("url") == file.url else {}


def _room(partial: Path, file: SetFile, total: int | None, have: int) -> None:
    if total is None:
        return
    free = shutil.disk_usage(partial.parent).free
    if total - have > free:
        raise BadInput(
            f"{file.name} needs {(total - have) / 1e6:,.0f} MB more, {free / 1e6:,.0f} MB are free "
            f"in {partial.parent}; choose another place with --to."
        )


def _refused(file: SetFile, e: urllib.error.HTTPError) -> str:
    return (
        f"the server of {file.url} said {e.code} {e.reason}; the file may have moved. If you have "
        "it, give --from FOLDER."
    )


def _forget(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    partial.with_name(partial.name + ".json").unlink(missing_ok=True)
