"""Tiles and sections: tables, frames, matching, solving, blending.

What it is: functions of arrays. What it is not: files of images, volumes or stages; those are
petavox.stages.{stitch,align,render}.

Points are (y, x), float64. Lengths are pixels of the array at hand unless a name says nm.
"""
