"""A scene: layers, a place to look at and how near, as one Neuroglancer state and URL.

What it is: the state. What it is not: a server or a browser.
"""

from __future__ import annotations

import json
import math
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from petavox.space import Box, VoxelSize
from petavox.view.layers import Layer, dimensions

LAYOUTS = ("4panel", "xy", "xz", "yz", "3d", "xy-3d", "xz-3d", "yz-3d")
"""Neuroglancer's arrangements of panels; "xy" is one section."""


@dataclass(frozen=True)
class Scene:
    """What is shown.

    box: the voxels that should fit into the window.  voxel_size: nm, zyx, of them.
    at: voxel to look at (default: the middle of the box).  nm_per_pixel: of sections; None: so
    that the box fits.  size: of the window in pixels, width and height.
    """

    layers: Sequence[Layer]
    box: Box
    voxel_size: VoxelSize
    layout: str = "4panel"
    at: tuple[float, float, float] | None = None
    nm_per_pixel: float | None = None
    size: tuple[int, int] = (1280, 960)
    bare: bool = False
    """Without axis lines, scale bar and slices in 3-D."""

    def state(self) -> dict[str, Any]:
        """JSON for Neuroglancer."""
        middle = [(a + b) // 2 for a, b in zip(self.box.start, self.box.stop, strict=True)]
        z, y, x = middle if self.at is None else self.at
        finest = min(self.voxel_size)
        out: dict[str, Any] = {
            "dimensions": dimensions(self.voxel_size),
            # the centre of a voxel: its corner may fall between two sections
            "position": [x + 0.5, y + 0.5, z + 0.5],
            "crossSectionScale": (self.nm_per_pixel or self.fitting()) / finest,
            "projectionScale": 0.9 * math.hypot(*self.extent()) / finest,
            "layers": [layer.state() for layer in self.layers],
            "layout": self.layout,
        }
        if self.layers:
            out["selectedLayer"] = {"layer": self.layers[-1].name, "visible": False}
        if self.bare:
            out |= {"showAxisLines": False, "showScaleBar": False, "showDefaultAnnotations": False}
        return out

    def extent(self) -> tuple[float, float, float]:
        """The box in nm, zyx."""
        z, y, x = (n * s for n, s in zip(self.box.shape, self.voxel_size, strict=True))
        return (z, y, x)

    def fitting(self) -> float:
        """nm per pixel at which the box fits into every panel that shows sections."""
        width, height = self.size
        if self.layout == "4panel":
            width, height = width // 2, height // 2
        elif self.layout.endswith("-3d"):
            width //= 2
        z, y, x = self.extent()
        panels = {"xy": (x, y), "xz": (x, z), "yz": (z, y)}
        shown = [panels[p] for p in panels if self.layout in ("4panel", "3d") or p in self.layout]
        return 1.02 * max(max(w / width, h / height) for w, h in shown)

    def fragment(self) -> str:
        """The state as the part of a URL behind the #."""
        text = json.dumps(self.state(), separators=(",", ":"))
        return "!" + urllib.parse.quote(text, safe="")
