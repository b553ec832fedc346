"""What was measured of one section's tiles, kept until the stitching is complete.

    OUT.run/seams/section_00012.npz

What it is: writing and reading of positions, seams and block matches, each file under the digest
of what it was made of. Sections with tiles that could not be read are not kept: perhaps they can
next time. What it is not: a result; it goes when OUT is complete.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from petavox.align.seams import Seam
from petavox.align.solve import Matches
from petavox.provenance import write_atomically


@dataclass(frozen=True)
class Measured:
    """good: which of the section's tiles can be used, by their place in it; the rest of these.

    places: (n, 2) px, of the good ones.  seams: their overlaps.  failures: tiles left out.
    dtype: of the tiles; None if none could be read.
    """

    good: list[int]
    places: np.ndarray
    seams: list[Seam]
    failures: list[dict[str, Any]]
    dtype: np.dtype[Any] | None


def save(path: Path, key: str, found: Measured) -> None:
    """Write what was measured under the digest `key`."""
    if found.failures:
        return
    none = np.zeros((0, 2))
    matches = [s.matches or Matches(s.a, s.b, none, none, np.zeros(0), 1.0) for s in found.seams]
    facts = {
        "key": key,
        "good": found.good,
        "dtype": None if found.dtype is None else found.dtype.name,
        "seams": [
            [s.a, s.b, bool(s.widened), s.matches is not None, len(m.p)]
            for s, m in zip(found.seams, matches, strict=True)
        ],
    }
    held = io.BytesIO()
    np.savez_compressed(
        held,
        facts=json.dumps(facts),
        places=found.places,
        shift=np.array([s.shift for s in found.seams], float).reshape(-1, 2),
        numbers=np.array(
            [
                [s.trust, s.score, *s.level, m.stride, m.information]
                for s, m in zip(found.seams, matches, strict=True)
            ],
            float,
        ).reshape(-1, 8),
        points=np.concatenate([np.zeros((0, 4)), *(np.hstack([m.p, m.q]) for m in matches)]),
        weight=np.concatenate([np.zeros(0), *(m.weight for m in matches)]),
    )
    write_atomically(path, held.getvalue())


def load(path: Path, key: str) -> Measured | None:
    """What `save` wrote under `key`; None if there is nothing, or of another key."""
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as z:
        facts = json.loads(str(z["facts"]))
        if facts["key"] != key:
            return None
        places, shift, numbers = z["places"], z["shift"], z["numbers"]
        points, weight = z["points"], z["weight"]
    seams, at = [], 0
    for (a, b, widened, matched, n), d, v in zip(facts["seams"], shift, numbers, strict=True):
        p = points[at : at + n]
        matches = Matches(
            a, b, p[:, :2], p[:, 2:], weight[at : at + n], float(v[6]), information=float(v[7])
        )
        at += n
        level = (float(v[2]), float(v[3]), float(v[4]), float(v[5]))
        seams.append(
            Seam(
                a, b, d, float(v[0]), float(v[1]), widened, level, matches if matched else None
            )
        )  # fmt: skip
    dtype = None if facts["dtype"] is None else np.dtype(facts["dtype"])
    return Measured(facts["good"], places, seams, [], dtype)
