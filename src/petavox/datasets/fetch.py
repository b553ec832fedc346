"""Fetch the files of a data set: resumable, checked, and never half there.

What it is: https downloads with range requests, copies from an offline mirror, checksums, and
what is made of them (members of an archive, bodies of supervoxels). What it is not: the list of
sets.

A file grows as `.NAME.partial`; `.NAME.partial.json` keeps what the server said of it. It takes
its own name when its size and checksum fit. `source.json`, written last, says where all came from.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from petavox.datasets.catalogue import DataSet, SetFile
from petavox.datasets.http import download
from petavox.errors import BadInput, WorkFailed
from petavox.progress import Progress
from petavox.provenance import write_json

RECORD = "source.json"


def fetch(
    wanted: DataSet,
    folder: str | Path,
    *,
    mirror: str | Path | None = None,
    wait: Callable[[float], None] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Bring all files of a set into `folder`/NAME; returns figures.

    mirror: a folder that holds NAME/FILE or FILE; nothing is then asked of the network.
    wait: called with seconds between attempts (default: sleep).
    Files that are there and fit are kept; a stopped download goes on where it was. Raises BadInput
    for a mirror without the file, or too little space; WorkFailed where the network or a checksum
    fails.
    """
    target = Path(folder) / wanted.name
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise BadInput(f"cannot write to {target}: {e.strerror}.") from None
    known = _record(target)
    done: dict[str, Any] = {}
    fetched = 0
    with Progress(wanted.name, total=None, unit="MB", quiet=quiet) as progress:
        for file in wanted.files:
            there = target / file.name
            if there.exists():
                _check_kept(there, file, known)
                origin = known.get(file.name, {}).get("from", "was there already")
            elif mirror is not None:
                origin = str(_copied(file, wanted.name, Path(mirror), there))
                fetched += there.stat().st_size
            else:
                fetched += download(file, there, progress=progress, wait=wait, check=check)
                origin = file.url
            done[file.name] = {
                "from": origin,
                "bytes": there.stat().st_size,
                "sha256": digest(there, "sha256"),
                "checksum": "fits" if file.sha256 or file.md5 else "none published",
            }
            for member in file.unpack:
                _unpack(there, member)
    if wanted.bodies == "transforms" and not (target / "bodies.h5").exists():
        write_bodies(target / "groundtruth.h5", target / "bodies.h5", wanted.voxel_size)
    write_json(
        target / RECORD,
        {
            "set": wanted.model_dump(mode="json", exclude={"files"}),
            "files": done,
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
    )
    return {
        "folder": str(target),
        "files": len(done),
        "bytes": sum(f["bytes"] for f in done.values()),
        "fetched_bytes": fetched,
        "checksums": ", ".join(sorted({f["checksum"] for f in done.values()})),
        "licence": wanted.licence,
        "cite": wanted.cite,
        **{k: str(target / v) for k, v in wanted.volumes.items()},
    }


def digest(path: Path, algorithm: str) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, algorithm).hexdigest()


def check(path: Path, file: SetFile) -> str | None:
    """What is wrong with a whole file, as part of a sentence, or None."""
    size = path.stat().st_size
    if file.bytes is not None and size != file.bytes:
        return f"it has {size:,} bytes, the catalogue says {file.bytes:,}"
    for algorithm in ("sha256", "md5"):
        said = getattr(file, algorithm)
        if said is not None and (found := digest(path, algorithm)) != said:
            return f"its {algorithm} is {found}, the catalogue says {said}"
    return None


def write_bodies(groundtruth: Path, out: Path, voxel_size: tuple[float, float, float]) -> None:
    """The bodies of a NeuroProof ground truth: `labels` (uint64, zyx) of `stack` and `transforms`.

    `transforms` holds rows (supervoxel, body). Raises BadInput for a supervoxel without a body.
    """
    import h5py

    with h5py.File(groundtruth, "r") as f:
        stack, pairs = f["stack"][:], np.asarray(f["transforms"][:], np.uint64)
    table = np.zeros(int(max(stack.max(initial=0), pairs[:, 0].max(initial=0))) + 1, np.uint64)
    known = np.zeros(len(table), bool)
    table[pairs[:, 0]], known[pairs[:, 0]], known[0] = pairs[:, 1], True, True
    if not known[stack].all():
        first = int(stack[~known[stack]][0])
        raise BadInput(f"{groundtruth}: supervoxel {first} has no row in `transforms`.")
    partial = out.with_name(f".{out.name}.partial")
    with h5py.File(partial, "w") as f:
        made = f.create_dataset("labels", data=table[stack], chunks=True, compression="gzip")
        made.attrs["voxel_size_nm"] = voxel_size
        made.attrs["kind"] = "labels"
    os.replace(partial, out)


def _record(target: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((target / RECORD).read_text())["files"])
    except (OSError, ValueError, KeyError):
        return {}


def _check_kept(there: Path, file: SetFile, known: dict[str, Any]) -> None:
    wrong = check(there, file)
    said = known.get(file.name, {}).get("sha256")
    if wrong is None and said is not None and digest(there, "sha256") != said:
        wrong = "it is not what was fetched before"
    if wrong is not None:
        raise BadInput(f"{there} is there but {wrong}; delete it and fetch again.")


def _copied(file: SetFile, name: str, mirror: Path, there: Path) -> Path:
    places = [mirror / name / file.name, mirror / file.name]
    found = next((p for p in places if p.is_file()), None)
    if found is None:
        raise BadInput(f"{mirror} holds neither {name}/{file.name} nor {file.name}.")
    wrong = check(found, file)
    if wrong is not None:
        raise BadInput(f"{found} is not the file of {name}: {wrong}.")
    partial = there.with_name(f".{there.name}.copy")
    try:
        shutil.copyfile(found, partial)
        os.replace(partial, there)
    except OSError as e:
        raise WorkFailed(f"{found} could not be copied to {there}: {e.strerror}.") from None
    finally:
        partial.unlink(missing_ok=True)
    return found


def _unpack(archive: Path, member: str) -> None:
    """Write one member of a zip, named by its last part, beside the archive."""
    there = archive.with_name(member)
    if there.exists():
        return
    partial = archive.with_name(f".{member}.partial")
    try:
        with zipfile.ZipFile(archive) as z:
            inside = [n for n in z.namelist() if Path(n).name == member]
            if len(inside) != 1:
                raise WorkFailed(f"{archive} holds {len(inside)} files named {member}, not one.")
            with z.open(inside[0]) as source, open(partial, "wb") as to:
                shutil.copyfileobj(source, to, 1 << 20)
        os.replace(partial, there)
    except (zipfile.BadZipFile, OSError) as e:
        raise WorkFailed(f"{archive} could not be unpacked: {e}. Delete it, fetch again.") from None
    finally:
        partial.unlink(missing_ok=True)
