"""Meshes drawn without a graphics card: the largest neurons as pictures.

What it is: a reader of `petavox mesh`'s folders (one object, one level of detail), and an
orthographic renderer. What it is not: interactive; that is
`petavox view`.

Faces are painted from far to near; shading is Lambert's with a light from above, and depth
darkening (Luft et al. 2006: what lies behind a nearer edge is darker).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from petavox.errors import BadInput, MissingExtra
from petavox.neuron.sharding import Sharding


@dataclass(frozen=True)
class Surface:
    """vertices: (n, 3) nm, xyz.  faces: (m, 3)."""

    vertices: np.ndarray
    faces: np.ndarray


class Meshes:
    """A folder of multi-resolution meshes, as `petavox mesh` writes it."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            self.info = json.loads((self.folder / "info").read_text())
            spec = self.info["sharding"]
            self.sharding = Sharding(spec["shard_bits"], spec["minishard_bits"])
            if self.info["@type"] != "neuroglancer_multilod_draco" or spec["preshift_bits"]:
                raise KeyError("@type")
        except (OSError, ValueError, KeyError) as e:
            raise BadInput(f"{folder} holds no meshes of `petavox mesh`: {e}.") from None

    def read(self, id_: int, most_faces: int = 60_000) -> Surface | None:
        """The finest level of an object with at most so many faces, or its coarsest."""
        try:
            import DracoPy
        except ImportError:
            raise MissingExtra("meshes are read by DracoPy: pip install DracoPy.") from None
        found = self._find(id_)
        if found is None:
            return None
        file, at, size = found
        with open(file, "rb") as f:
            f.seek(at)
            said = _Manifest(f.read(size))
            level = 0
            while True:
                out = self._level(DracoPy, f, at, said, level)
                if len(out.faces) <= most_faces or level + 1 == said.levels:
                    return out
                level += 1

    def _level(self, draco, f, at: int, said: _Manifest, level: int) -> Surface:  # type: ignore[no-untyped-def]
        """One level; its pieces lie one after another before the manifest."""
        begin = at - sum(int(s.sum()) for s in said.sizes[level:])
        scale = 2.0**level * said.chunk / (2 ** self.info["vertex_quantization_bits"] - 1)
        vertices, faces, total = [np.zeros((0, 3))], [np.zeros((0, 3), np.int64)], 0
        if level:
            begin = at - sum(int(s.sum()) for s in said.sizes)
            begin += sum(int(s.sum()) for s in said.sizes[:level])
        f.seek(begin)
        for where, size in zip(said.places[level], said.sizes[level], strict=True):
            data = f.read(int(size))
            if not data:
                continue
            piece = draco.decode(data)
            points = np.asarray(piece.points, float).reshape(-1, 3)
            corner = said.origin + said.offsets[level] + 2.0**level * said.chunk * where
            vertices.append(corner + points * scale)
            faces.append(np.asarray(piece.faces, np.int64).reshape(-1, 3) + total)
            total += len(points)
        return Surface(np.concatenate(vertices), np.concatenate(faces))

    def _find(self, id_: int) -> tuple[Path, int, int] | None:
        """File, first byte and size of an object's manifest."""
        shard, minishard = (int(v[0]) for v in self.sharding.places(np.array([id_], np.uint64)))
        file = self.folder / self.sharding.file(shard)
        if not file.is_file():
            return None
        head = 16 << self.sharding.minishard_bits
        with open(file, "rb") as f:
            f.seek(16 * minishard)
            start, stop = np.frombuffer(f.read(16), "<u8").astype(int)
            if start == stop:
                return None
            f.seek(head + start)
            ids, gaps, sizes = np.frombuffer(f.read(stop - start), "<u8").reshape(3, -1)
        row = np.flatnonzero(np.cumsum(ids) == np.uint64(id_))
        if not len(row):
            return None
        n = int(row[0])
        at = head + int(gaps[: n + 1].sum() + sizes[:n].sum())
        return file, at, int(sizes[n])


class _Manifest:
    """What an object's manifest says."""

    def __init__(self, data: bytes) -> None:
        self.chunk = np.frombuffer(data, "<f4", 3).astype(float)
        self.origin = np.frombuffer(data, "<f4", 3, 12).astype(float)
        self.levels = int(np.frombuffer(data, "<u4", 1, 24)[0])
        n, at = self.levels, 28 + 4 * self.levels
        self.offsets = np.frombuffer(data, "<f4", 3 * n, at).reshape(n, 3).astype(float)
        at += 12 * n
        counts = np.frombuffer(data, "<u4", n, at).astype(int)
        at += 4 * n
        self.places: list[np.ndarray] = []
        self.sizes: list[np.ndarray] = []
        for count in counts.tolist():
            places = np.frombuffer(data, "<u4", 3 * count, at).reshape(3, count).T
            self.places.append(places.astype(float))
            at += 12 * count
            self.sizes.append(np.frombuffer(data, "<u4", count, at).astype(np.int64))
            at += 4 * count


FAR = 1e30
SMOOTH = 14.0
"""Pixels (of a picture of twice the size) over which shading may be flat."""
VIEW = (28.0, -24.0)
"""Turn about the vertical axis and tilt, degrees."""


def render(
    surfaces: Sequence[Surface],
    colours: np.ndarray,
    size: tuple[int, int],
    *,
    frame: tuple[np.ndarray, np.ndarray] | None = None,
    view: tuple[float, float] = VIEW,
) -> np.ndarray:
    """Surfaces as an (h, w, 4) uint8 picture with a transparent ground.

    colours: (n, 3) uint8, one a surface.  size: pixels, width and height.
    frame: corners (xyz, nm) of a box that is drawn around and fills the picture; else they fill it.
    """
    turn = _turn(view)
    width, height = 2 * size[0], 2 * size[1]
    corners = _corners(*frame) if frame is not None else None
    every = corners if corners is not None else np.concatenate([s.vertices for s in surfaces])
    seen = every @ turn.T
    low, high = seen.min(0), seen.max(0)
    scale = 0.96 * min(width / max(high[0] - low[0], 1e-9), height / max(high[1] - low[1], 1e-9))
    middle = (low + high) / 2
    flat = Image.new("RGB", (width, height))
    depths = Image.new("F", (width, height), FAR)
    ink, deep = ImageDraw.Draw(flat), ImageDraw.Draw(depths)
    parts = []
    for surface, own in zip(surfaces, colours, strict=True):
        points = (surface.vertices @ turn.T - middle) * scale
        points[:, :2] += (width / 2, height / 2)
        parts.append(_faces(points, surface.faces, own.astype(float)))
    corner, rgb = (np.concatenate(v) for v in zip(*parts, strict=True))
    far = corner[..., 2].mean(1)
    # far ones first: what is nearer is painted over them
    order = np.argsort(-far, kind="stable")
    outlines = corner[order, :, :2].reshape(-1, 6).round(1).tolist()
    for outline, paint, z in zip(
        outlines, map(tuple, rgb[order].tolist()), far[order].tolist(), strict=True
    ):
        ink.polygon(outline, fill=paint)
        deep.polygon(outline, fill=z)
    depth = np.asarray(depths)
    rgba = _shaded(depth, np.asarray(flat).astype(np.float32))
    if corners is not None:
        box = (corners @ turn.T - middle) * scale + (width / 2, height / 2, 0)
        _edges(rgba, box, depth)
    # two by two: colour counts by how much of it there is
    quads = rgba.reshape(size[1], 2, size[0], 2, 4)
    alpha = quads[..., 3:].sum((1, 3))
    mean = (quads[..., :3] * quads[..., 3:]).sum((1, 3)) / np.maximum(alpha, 1e-6)
    return np.rint(np.concatenate([mean, alpha / 4 * 255], -1)).clip(0, 255).astype(np.uint8)


def _faces(points: np.ndarray, faces: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, ...]:
    """Corners (n, 3, 3; pixels and depth) and colours (n, 3) of the faces that look at us."""
    corner = points[faces]
    across = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    normals = np.zeros_like(points)
    for k in range(3):
        np.add.at(normals, faces[:, k], across)
    # which way is out: along the mean of what looks away from the middle
    middle = points.mean(0) if len(points) else 0
    out = np.sign(((corner.mean(1) - middle) * across).sum()) or 1.0
    seen = out * across[:, 2] < 0
    corner, normal = corner[seen], out * normals[faces[seen]]
    for _ in range(4):
        corner, normal = _divided(corner, normal)
    n = normal.sum(1)
    n /= np.maximum(np.linalg.norm(n, axis=1, keepdims=True), 1e-9)
    key, fill = np.array([-0.45, -0.65, -0.61]), np.array([0.7, 0.1, -0.7])
    half = key + np.array([0, 0, -1])
    half /= np.linalg.norm(half)
    light = 0.34 + 0.56 * np.maximum(n @ key, 0) + 0.16 * np.maximum(n @ fill, 0)
    shine = 38 * np.maximum(n @ half, 0) ** 24
    rgb = np.clip(own * light[:, None] + shine[:, None], 0, 255)
    return corner, np.rint(rgb).astype(int)


def _divided(corner: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Faces with an edge over SMOOTH pixels in four, so that shading runs smoothly over them."""
    edge = corner[:, [1, 2, 0], :2] - corner[:, :, :2]
    large = (edge**2).sum(-1).max(-1) > SMOOTH**2
    if not large.any():
        return corner, normal
    unit = normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    parts = []
    for values in (corner, unit):
        a, b, c = (values[large, k] for k in range(3))
        ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
        four = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        parts.append(np.concatenate([values[~large], *(np.stack(t, 1) for t in four)]))
    return parts[0], parts[1]


def _shaded(depth: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """RGBA (0-255, alpha 0-1) with depth darkening."""
    there = depth < FAR
    if not there.any():
        return np.zeros((*depth.shape, 4), np.float32)
    back = np.where(there, depth, depth[there].max())
    sigma = max(depth.shape) / 90
    near = ndimage.gaussian_filter(back, sigma) - back
    spread = max(float(np.ptp(depth[there])), 1.0)
    dark = np.clip(1 + 2.2 * np.minimum(near / spread, 0), 0.35, 1.0)
    rgb = np.clip(colour * dark[..., None], 0, 255)
    return np.concatenate([rgb, there[..., None].astype(np.float32)], -1)


def _turn(view: tuple[float, float]) -> np.ndarray:
    """Rows: right, down and away, in xyz; y runs down as in sections."""
    a, b = np.radians(view)
    about = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return np.asarray(tilt @ about)


def _corners(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    ends = np.array([low, high], float)
    return np.array([[ends[i, 0], ends[j, 1], ends[k, 2]] for i, j, k in np.ndindex(2, 2, 2)])


def _edges(rgba: np.ndarray, box: np.ndarray, depth: np.ndarray) -> None:
    """The twelve edges of a box, where nothing lies in front of them."""
    for a, b in ((i, j) for i in range(8) for j in range(i) if (i ^ j) in (1, 2, 4)):
        count = int(np.abs(box[a] - box[b]).max()) * 2 + 2
        line = box[a] + np.linspace(0, 1, count)[:, None] * (box[b] - box[a])
        for dx in (0, 1):
            x = np.clip(np.floor(line[:, 0]).astype(int) + dx, 0, depth.shape[1] - 1)
            y = np.clip(np.floor(line[:, 1]).astype(int), 0, depth.shape[0] - 1)
            free = line[:, 2] <= depth[y, x]
            rgba[y[free], x[free]] = (128, 134, 140, 0.8)
