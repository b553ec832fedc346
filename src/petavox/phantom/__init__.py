"""Synthetic tissue with exact truth, and its tiles; also a module to test other code with.

What it is: `tissue` (image, labels, organelles, synapses of any box), `skeletons`, `connectome`,
`tiles` (petavox.phantom.tiles), and small volumes for tests (petavox.phantom.small). All of it
arrays in, arrays out. What it is not: files; petavox.stages.phantom writes those.
"""

from petavox.phantom.capsules import Body
from petavox.phantom.drawing import CLASS_NAMES
from petavox.phantom.looks import LOOKS, Look
from petavox.phantom.organelles import Synapse
from petavox.phantom.tile_settings import TileSettings
from petavox.phantom.tiles import TileSet, redistort
from petavox.phantom.tiles_truth import TilesTruth
from petavox.phantom.tissue import Tissue, tissue
from petavox.phantom.truth import Skeletons, connectome, skeletons

__all__ = [
    "CLASS_NAMES",
    "LOOKS",
    "Body",
    "Look",
    "Skeletons",
    "Synapse",
    "TileSet",
    "TileSettings",
    "TilesTruth",
    "Tissue",
    "connectome",
    "redistort",
    "skeletons",
    "tissue",
]
