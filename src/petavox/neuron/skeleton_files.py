"""Skeleton files: Neuroglancer precomputed, and SWC.

What it is: bytes and text of one skeleton, xyz and nm. What it is not: shards.
"""

from __future__ import annotations

import numpy as np

from petavox.neuron.skeleton import Skeleton, parents

INFO = {
    "@type": "neuroglancer_skeletons",
    "transform": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0],
    "vertex_attributes": [{"id": "radius", "data_type": "float32", "num_components": 1}],
}
"""The info file of a folder of skeletons, but for its sharding; the stored space is nm, xyz."""


def precomputed(skeleton: Skeleton) -> bytes:
    """The encoded skeleton of one segment."""
    return b"".join(
        [
            np.array([len(skeleton.vertices), len(skeleton.edges)], "<u4").tobytes(),
            np.ascontiguousarray(skeleton.vertices[:, ::-1], "<f4").tobytes(),
            np.ascontiguousarray(skeleton.edges, "<u4").tobytes(),
            np.ascontiguousarray(skeleton.radii, "<f4").tobytes(),
        ]
    )


def swc(skeleton: Skeleton, label: int) -> str:
    """SWC (Cannon et al. 1998): id, type (0, undefined), x, y, z, radius, parent; in nm.

    Every tree is rooted at its thickest vertex; parents come before their children.
    """
    order, parent = parents(skeleton)
    number = np.zeros(len(order) + 1, np.int64)
    number[order] = np.arange(1, len(order) + 1)
    number[-1] = -1  # the parent of a root
    lines = [f"# object {label}, petavox; nm, xyz", "# id type x y z radius parent"]
    for k in order.tolist():
        z, y, x = skeleton.vertices[k]
        lines.append(
            f"{number[k]} 0 {x:.3f} {y:.3f} {z:.3f} {skeleton.radii[k]:.3f} {number[parent[k]]}"
        )
    return "\n".join(lines) + "\n"
