"""What phantom tiles are cut from and how badly: settings, and the list of what is wrong.

What it is: plain values. What it is not: the random choice (petavox.phantom.tile_layout) or images
(petavox.phantom.tiles).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from petavox.settings import Settings


class TileSettings(Settings):
    """What to cut, and how badly. Lengths in px unless the name says nm; ranges are +-."""

    sections: int = Field(default=8, ge=1)
    grid: tuple[int, int] = (3, 3)
    """rows and columns of tiles"""
    tile: tuple[int, int] = (900, 900)
    """height and width of a tile"""
    overlap: int = Field(default=72, ge=0)
    pixel_nm: float = Field(default=8.0, gt=0)
    thickness_nm: float = Field(default=40.0, gt=0)
    seed: int = Field(default=0, ge=0)
    bits: Literal[8, 16] = 8
    look: Literal["serial-section", "fib-sem"] = "serial-section"
    """of the tissue; its own noise is left out, and that of the tiles put in"""
    jitter: float = Field(default=8.0, ge=0)
    """of the stage"""
    lens: float = Field(default=1.0, ge=-20, le=20)
    """displacement at the edges of a tile"""
    rotation: float = Field(default=3.0, ge=0, le=180)
    """degrees, per section"""
    shift: float = Field(default=30.0, ge=0)
    scale: float = Field(default=0.01, ge=0, le=0.2)
    elastic: float = Field(default=8.0, ge=0)
    """standard deviation of the smooth field of a section"""
    elastic_sigma: float = Field(default=250.0, ge=40)
    """over which it varies"""
    noise: float = Field(default=12.0, ge=0)
    """standard deviation, grey levels of 255"""
    shading: float = Field(default=0.05, ge=0, le=0.4)
    folds: int = Field(default=0, ge=0)
    cracks: int = Field(default=0, ge=0)
    dust: int = Field(default=0, ge=0)
    missing_tiles: int = Field(default=0, ge=0)
    missing_sections: int = Field(default=0, ge=0)
    swaps: int = Field(default=0, ge=0)
    turned: int = Field(default=0, ge=0)
    """sections turned by `turn` degrees"""
    turn: float = 170.0
    flipped: int = Field(default=0, ge=0)
    """sections mirrored, left to right"""
    defocused: int = Field(default=0, ge=0)
    """tiles out of focus"""
    fold_width: float = Field(default=14.0, gt=0)
    crack_width: float = Field(default=12.0, gt=0)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a section without jitter."""
        g, t = self.grid, self.tile
        return (
            t[0] * g[0] - self.overlap * (g[0] - 1),
            t[1] * g[1] - self.overlap * (g[1] - 1),
        )

    def with_damage(self) -> TileSettings:
        """The same with one of each kind of damage."""
        many = self.grid[0] * self.grid[1] > 1
        return self.model_copy(
            update={
                "folds": 1, "cracks": 1, "dust": 3, "missing_tiles": int(many),
                "missing_sections": 1, "swaps": 1, "turned": 1,
            }
        )  # fmt: skip


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong. section: as listed.  place: (y, x) px in section space, or None."""

    kind: str
    section: int
    tile: int | None = None
    place: tuple[float, float] | None = None
    note: str = ""
