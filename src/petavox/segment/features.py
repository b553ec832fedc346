"""What a rule may look at: numbers on a pair that do not change if its two objects are exchanged.

What it is: columns of scores in, a table of features out. What it is not: a rule, or the scores
(petavox.segment.candidates and petavox.segment.resegment make those).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Columns = Mapping[str, np.ndarray]
"""Scores of many pairs: name -> (n,) array; names as in petavox.segment.resegment.Scores and
petavox.segment.candidates.Contacts, and size_a, size_b (voxels), gray_a, gray_b (mean grey value),
overlap (voxels that one's flood would have taken from the other)."""

CHEAP = (
    "distance_nm", "log_faces", "log_faces_of_surface", "log_touching", "width_nm", "gray",
    "touching_gray", "bright", "log_smaller", "log_larger", "log_overlap", "log_overlap_share",
)  # fmt: skip
"""What is known of a pair before the network is asked. gray: of the contact, less that of the
darker object's inside."""
ASKED = (
    "iou", "own_least", "own_most", "other_least", "other_most", "deleted_least", "deleted_most",
)  # fmt: skip
"""What the network said."""
FEATURES = ASKED + CHEAP
"""What a logistic rule may look at; none changes if a and b are exchanged."""


def features(scores: Columns, names: Sequence[str] = FEATURES) -> np.ndarray:
    """(n, len(names)) float64; of a pair without scores, what the network says is 0."""
    found = _cheap(scores)
    if any(n in ASKED for n in names):
        found |= _said(scores)
    return np.stack([found[n] for n in names], 1)


def _said(scores: Columns) -> dict[str, np.ndarray]:
    s = {k: np.nan_to_num(np.asarray(scores[k], np.float64)) for k in _SCORES}
    own, other = np.stack([s["aa"], s["bb"]]), np.stack([s["ab"], s["ba"]])
    deleted = np.stack([s["deleted_a"], s["deleted_b"]])
    return {
        "iou": s["iou"],
        "own_least": own.min(0),
        "own_most": own.max(0),
        "other_least": other.min(0),
        "other_most": other.max(0),
        "deleted_least": deleted.min(0),
        "deleted_most": deleted.max(0),
    }


def _cheap(scores: Columns) -> dict[str, np.ndarray]:
    s = {k: np.asarray(scores[k], np.float64) for k in _KNOWN}
    faces, touching = np.maximum(s["faces"], 1), np.maximum(s["touching"], 1)
    smaller = np.maximum(np.minimum(s["size_a"], s["size_b"]), 1)
    inside = np.minimum(s["gray_a"], s["gray_b"])
    gray = s["gray"] / faces - inside
    return {
        "distance_nm": s["distance_nm"],
        "log_faces": np.log10(faces),
        "log_faces_of_surface": np.log10(faces / smaller ** (2 / 3)),
        "log_touching": np.log10(s["touching"] + 1),
        "width_nm": s["width_nm"],
        "gray": gray,
        "touching_gray": np.where(s["touching"] > 0, s["touching_gray"] / touching - inside, gray),
        "bright": s["bright"] - inside,
        "log_smaller": np.log10(smaller),
        "log_larger": np.log10(np.maximum(np.maximum(s["size_a"], s["size_b"]), 1)),
        "log_overlap": np.log10(s["overlap"] + 1),
        "log_overlap_share": np.log10(s["overlap"] / smaller + 1e-3),
    }


_SCORES = ("iou", "aa", "ab", "ba", "bb", "deleted_a", "deleted_b")
_KNOWN = ("faces", "touching", "distance_nm", "width_nm", "gray", "touching_gray", "bright",
          "size_a", "size_b", "gray_a", "gray_b", "overlap")  # fmt: skip
