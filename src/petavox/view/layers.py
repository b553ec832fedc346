"""Layers of a scene, as Neuroglancer's state describes them.

What it is: one small class per kind of layer, each turning into JSON. What it is not: the data;
a source is a URL that somebody serves (petavox.view.server), or points held in the state itself.

Meshes and skeletons are further sources of a SegmentationLayer. A few notes stand in an
AnnotationLayer itself; many come from a source (petavox.view.annotations).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from petavox.space import VoxelSize


@dataclass(frozen=True)
class Source:
    """Where a layer's data are, and how many voxels (zyx) to move them by.

    url: in Neuroglancer's form, such as precomputed://http://127.0.0.1:8000/data/0.
    voxel_size: nm, zyx, of the finest data; only needed with a shift.
    axes: the data's own order of axes; only needed with a shift.
    subsources: which parts of the source to show, such as {"default": True, "mesh": False};
    None shows all.
    """

    url: str
    voxel_size: VoxelSize | None = None
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    axes: str = "xyz"
    subsources: Mapping[str, bool] | None = None

    def state(self) -> Any:
        """JSON for Neuroglancer."""
        out: dict[str, Any] = {"url": self.url}
        if self.voxel_size is not None and any(self.shift):
            shift = dict(zip("zyx", self.shift, strict=True))
            out["transform"] = {
                "matrix": [
                    [*(float(i == j) for j in range(3)), shift[axis]]
                    for i, axis in enumerate(self.axes)
                ],
                "outputDimensions": dimensions(self.voxel_size, self.axes),
            }
        if self.subsources is not None:
            out["subsources"] = dict(self.subsources)
            out["enableDefaultSubsources"] = False
        return out


@dataclass(frozen=True)
class Layer:
    """What all layers have: a name, sources, and whether they are shown at first."""

    name: str
    sources: Sequence[Source] = ()
    visible: bool = True

    kind = ""

    def state(self) -> dict[str, Any]:
        """JSON for Neuroglancer."""
        out: dict[str, Any] = {"type": self.kind, "name": self.name}
        if self.sources:
            out["source"] = [s.state() for s in self.sources]
        if not self.visible:
            out["visible"] = False
        return out


@dataclass(frozen=True)
class ImageLayer(Layer):
    """An image in grey. bounds: values shown black and white; None: the whole range of its type."""

    bounds: tuple[float, float] | None = None

    kind = "image"

    def state(self) -> dict[str, Any]:
        """JSON for Neuroglancer."""
        out = super().state() | {"blend": "default", "opacity": 1.0}
        if self.bounds is not None:
            out["shaderControls"] = {"normalized": {"range": list(self.bounds)}}
        return out


@dataclass(frozen=True)
class SegmentationLayer(Layer):
    """Objects in colour; meshes and skeletons are further sources.

    selected: ids shown also in 3-D; while none is selected, slices show all.
    colours: id -> "#rrggbb" instead of Neuroglancer's own.  opacity: in slices.  others: opacity
    of what is not selected.
    """

    selected: Sequence[int] = ()
    colours: Mapping[int, str] = field(default_factory=dict)
    opacity: float = 0.4
    others: float = 0.0

    kind = "segmentation"

    def state(self) -> dict[str, Any]:
        """JSON for Neuroglancer."""
        out = super().state() | {"selectedAlpha": self.opacity}
        # ids go as text: JSON numbers end at 2^53
        if self.selected and self.others:
            out["notSelectedAlpha"] = self.others
        if self.selected:
            out["segments"] = [str(i) for i in self.selected]
        if self.colours:
            out["segmentColors"] = {str(i): c for i, c in self.colours.items()}
        return out


@dataclass(frozen=True)
class AnnotationLayer(Layer):
    """Points, lines and boxes: those of its sources, or held in the state itself.

    points: (place, text) each; lines: (place, place, text) each; places in nm, zyx, a voxel of
    n nm at index i covering [i n, (i + 1) n).
    shader: how those of a source are drawn, in Neuroglancer's language.
    objects: relation of the source -> name of the layer of its ids.
    """

    points: Sequence[tuple[Sequence[float], str]] = ()
    lines: Sequence[tuple[Sequence[float], Sequence[float], str]] = ()
    colour: str = "#ffff00"
    shader: str = ""
    objects: Mapping[str, str] = field(default_factory=dict)

    kind = "annotation"

    def state(self) -> dict[str, Any]:
        """JSON for Neuroglancer."""
        out = super().state() | {"annotationColor": self.colour}
        if self.shader:
            out["shader"] = self.shader
        if self.objects:
            out["linkedSegmentationLayer"] = dict(self.objects)
        if self.sources and not (self.points or self.lines):
            return out
        nm = {"outputDimensions": {axis: [1e-9, "m"] for axis in "xyz"}}
        out["source"] = [*out.get("source", []), {"url": "local://annotations", "transform": nm}]
        notes: list[dict[str, Any]] = [
            {"type": "point", "id": f"p{i}", "point": _xyz(place), "description": text}
            for i, (place, text) in enumerate(self.points)
        ]
        notes += [
            {"type": "line", "id": f"l{i}", "pointA": _xyz(a), "pointB": _xyz(b)}
            | {"description": text}
            for i, (a, b, text) in enumerate(self.lines)
        ]
        return out | {"annotations": notes}


def dimensions(voxel_size: VoxelSize, axes: str = "xyz") -> dict[str, Any]:
    """Neuroglancer's dimensions: axis -> [metres, "m"]."""
    nm = dict(zip("zyx", voxel_size, strict=True))
    return {axis: [nm[axis] * 1e-9, "m"] for axis in axes}


def _xyz(place: Sequence[float]) -> list[float]:
    z, y, x = (float(v) for v in place)
    return [x, y, z]
