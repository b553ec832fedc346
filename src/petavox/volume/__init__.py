"""Where voxels live: open, create, read, write, pyramids, foreign formats.

What it is: the public names of the package. What it is not: code.
"""

from petavox.volume.opening import create, open
from petavox.volume.volume import Kind, Volume

__all__ = ["Kind", "Volume", "create", "open"]
