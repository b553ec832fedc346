"""Labels replaced by a lookup, and labels made compact.

What it is: array functions. What it is not: the reading of lookups or volumes.
"""

from __future__ import annotations

import numpy as np

from petavox.segment.unionfind import look_up


def relabelled(labels: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Labels with every id in the sorted `keys` replaced by its value; uint64, same shape.

    Only the ids that occur are looked up, so the lookup may be far larger than the array.
    """
    ids, place = np.unique(labels, return_inverse=True)
    return look_up(ids.astype(np.uint64), keys, values)[place].reshape(labels.shape)


def compact(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(local labels uint32, ids): the ids that occur numbered from 1 in ascending order.

    `ids[local - 1]` is the original id; 0 stays 0.
    """
    ids, place = np.unique(labels, return_inverse=True)
    has_zero = len(ids) > 0 and ids[0] == 0
    local = place.reshape(labels.shape).astype(np.uint32)
    return (local, ids[1:]) if has_zero else (local + np.uint32(1), ids)
