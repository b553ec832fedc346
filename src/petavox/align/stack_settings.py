"""How sections of a stack are matched and solved.

What it is: the settings, each with its meaning. What it is not: the steps (petavox.align.stack).
"""

from __future__ import annotations

from pydantic import model_validator

from petavox.settings import Settings


class AlignSettings(Settings):
    """How sections are aligned; lengths in pixels of the full image unless the name says nm."""

    window_px: int = 96
    """Side of the matching windows, pixels of the level; larger is more precise, less local."""
    texture: bool = True
    """Also match the fine texture between outlines, weighed by how far it persists."""
    stride: float = 0.34
    """Distance of windows, in sides of a window."""
    finest: int = 0
    """Finest level, as a downsampling factor; 0 chooses 1, 2 or 4 (from 1,000 and 2,000 px on)."""
    thumbnail_px: int = 192
    """Longest side of the thumbnails of the rough alignment."""
    spacing_px: float = 0.0
    """Distance of control points; 0: a quarter more than the longer of `smooth_px`, `jerk_px`."""
    smooth_px: float = 30.0
    """Resistance to bending; what varies over less than three times this is taken for noise."""
    slope_px: float = 12.0
    """Weak resistance to stretch and shear; keeps long stacks from drifting in scale."""
    jerk_px: float = 62.0
    """Resistance to changes of bending: cuts off more sharply at about three times this length."""
    tolerance_px: float = 9.0
    """Residual at which a match has lost three quarters of its weight."""
    rounds: int = 4
    """Rounds of reweighting."""
    passes: int = 2
    """Times the finest level is matched."""
    offsets: tuple[int, ...] = (1, 2)
    """Which neighbours are matched at all levels."""
    far_offsets: tuple[int, ...] = (4,)
    """Which are matched at all but the finest level."""
    narrow_degrees: float = 12.0
    """Rotation searched first; all round if nothing is found."""
    least_inliers: float = 0.2
    """Share of believed matches below which a pair counts as failed."""
    least_trust: float = 0.12
    """Confidence below which a window gives no match."""
    window: int = 64
    """Sections solved jointly."""
    margin: int = 12
    """Sections of the window before that are held fixed."""
    batch: int = 1024
    """Windows of a section held at once; bounds memory."""

    @model_validator(mode="after")
    def _windows_overlap(self) -> AlignSettings:
        least = max(self.offsets, default=1)
        if not least <= self.margin < self.window:
            raise ValueError(
                f"margin {self.margin} must be at least {least} (the farthest of offsets) and less "
                f"than window ({self.window}): a window begins with sections of the one before"
            )
        return self
