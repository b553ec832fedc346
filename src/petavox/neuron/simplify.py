"""Fewer triangles: one mesh at several levels of detail.

What it is: quadric edge collapse (Garland & Heckbert 1997, by zmesh) on a whole object, after its
fragments were joined in canonical order, so that the result does not depend on blocks.
What it is not: the cutting of a level into octree nodes (`petavox.neuron.octree`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import zmesh

from petavox.neuron.mesh import Fragment, Mesh, clustered, join, measure, placed, sorted_faces
from petavox.space import VoxelSize

_SPAN = (1 << 19) - 2
"""The simplifier holds coordinates within this range; larger objects are scaled into it."""


def bounded(pieces: Iterable[Fragment], *, faces: int, most_faces: int) -> Fragment:
    """One surface from the fragments of an object, with at most about `most_faces` faces.

    faces: how many the fragments have in all. Where that is too many, each fragment is clustered
    on a lattice of 2, 4, 8, ... voxels as it comes (each doubling leaves about a quarter of the
    faces), which bounds memory; the result is that of clustering the whole.
    """
    cell = 2
    while faces > most_faces:
        faces, cell = faces // 4, cell * 2
    if cell == 2:
        return join(list(pieces))
    return clustered(join([clustered(p, cell) for p in pieces]), cell)


def simplified(mesh: Mesh, *, error: float, reduction: float) -> Mesh:
    """Fewer faces: vertices move at most about `error` nm, faces at most `reduction` times fewer.

    A surface without a rim has none afterwards.
    """
    if not len(mesh.faces):
        return mesh
    low = mesh.vertices.min(0)
    span = float((mesh.vertices.max(0) - low).max())
    scale = 2.0 ** max(0, math.ceil(math.log2(span / _SPAN))) if span > _SPAN else 1.0
    given = zmesh.Mesh(
        ((mesh.vertices - low) / scale).astype(np.float32), mesh.faces.astype(np.uint32), None
    )
    small = zmesh.Mesher((1, 1, 1)).simplify(
        given, reduction_factor=reduction, max_error=error / scale
    )
    if not len(small.faces):
        return mesh
    if len(small.faces) < 4 and measure(mesh).watertight:
        return mesh  # an object smaller than the error: so few faces enclose nothing
    return Mesh(
        small.vertices.astype(np.float64) * scale + low,
        sorted_faces(small.faces.astype(np.int64), len(small.vertices)),
    )


def levels(
    fragment: Fragment,
    voxel_size: VoxelSize,
    *,
    error: float,
    most_levels: int,
    fewest_faces: int = 1000,
) -> list[Mesh]:
    """Levels of detail of one object, finest first.

    error: nm that vertices may move on the finest level; doubled on each coarser one, which has
    about a quarter of the faces. No level is made from one of `fewest_faces` or fewer.
    """
    out = [simplified(placed(fragment, voxel_size), error=error, reduction=100)]
    while len(out) < most_levels and len(out[-1].faces) > fewest_faces:
        error *= 2
        coarse = simplified(out[-1], error=error, reduction=4)
        if len(coarse.faces) > 0.7 * len(out[-1].faces):
            break
        out.append(coarse)
    return out
