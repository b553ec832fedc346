"""Looks: what an imaging method makes of the tissue.

What it is: grey levels, blur and noise of three methods, as settings. What it is not: rendering.
Grey levels are those of an 8-bit image, 0..255; a 16-bit look stretches them at the end.
"""

from __future__ import annotations

from petavox.errors import BadInput
from petavox.settings import Settings


class Look(Settings):
    """How one imaging method shows the tissue. Lengths in nm, greys of 0..255."""

    name: str
    bits: int = 8
    cytoplasm: float = 158.0
    """mean grey of cytoplasm"""
    tone: float = 0.22
    """how far neurites differ in grey, relative"""
    texture: float = 14.0
    """grey amplitude of the grain of cytoplasm"""
    membrane: float = 78.0
    """grey of a membrane cut straight"""
    membrane_nm: float = 13.0
    """half width of the dark line between two neurites"""
    mitochondrion: float = 92.0
    cristae: float = 10.0
    density: float = 55.0
    """grey of synaptic densities"""
    blur_nm: float = 6.0
    """standard deviation of the blur within a section"""
    blur_z_nm: float = 6.0
    """the same along z; 0 for cut sections"""
    noise: float = 4.5
    """standard deviation of white noise"""
    streaks: float = 0.0
    """of noise that is the same along a line (ion beam curtaining)"""
    section_gain: float = 0.0
    """greatest relative change of contrast of one section"""
    section_offset: float = 0.0
    """greatest change of brightness of one section"""
    slices: int = 1
    """planes averaged within the thickness of a section"""


LOOKS = {
    "fib-sem": Look(
        name="fib-sem",
        tone=0.36,
        cytoplasm=154.0,
        membrane=76.0,
        mitochondrion=84.0,
        texture=15.0,
        membrane_nm=16.0,
        blur_nm=7.5,
        blur_z_nm=7.5,
        section_gain=0.02,
        section_offset=1.5,
        streaks=0.6,
    ),
    "serial-section": Look(
        name="serial-section",
        cytoplasm=168.0,
        tone=0.26,
        texture=30.0,
        membrane=22.0,
        membrane_nm=8.5,
        mitochondrion=95.0,
        cristae=34.0,
        density=18.0,
        blur_nm=3.2,
        blur_z_nm=0.0,
        noise=16.0,
        section_gain=0.10,
        section_offset=9.0,
        slices=3,
    ),
    "x-ray": Look(
        name="x-ray",
        bits=16,
        cytoplasm=140.0,
        tone=0.12,
        texture=7.0,
        membrane=92.0,
        membrane_nm=17.0,
        mitochondrion=104.0,
        cristae=0.0,
        density=88.0,
        blur_nm=24.0,
        blur_z_nm=24.0,
        noise=6.0,
    ),
}
"""The looks by name."""


def look_of(look: str | Look) -> Look:
    """A look by name, or as given. Raises BadInput for an unknown name."""
    if isinstance(look, Look):
        return look
    if look not in LOOKS:
        raise BadInput(f"look '{look}' is not known; choose one of {', '.join(LOOKS)}.")
    return LOOKS[look]
