"""Checks of volumes: axes, offsets, units.

What it is: what `petavox check` finds, from the middle of each volume: whether the format is read
and written right on this machine (petavox.volume.handmade), whether the declared voxel size fits
the image, and whether labels lie on the image as they are (petavox.volume.axes).
What it is not: a repair; it says what would fit, the user decides.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from petavox.errors import BadInput
from petavox.space import Box, Zyx, zyx
from petavox.volume import axes, handmade
from petavox.volume.formats.facts import same_size
from petavox.volume.opening import open
from petavox.volume.transfer import facts
from petavox.volume.volume import Kind, Volume

UNEVEN = 2.5
"""Lengths along the axes may differ by this factor, in nm; real tissue gave 1.2 to 2.0."""
FAINT = 0.03
"""Boundaries that correlate less than this with membranes follow nothing; real labels give 0.1
to 0.6, wrong turns up to 0.05."""
PLAUSIBLE_NM = (0.5, 1000.0)
"""Edges of voxels in electron and expansion microscopy; outside, the unit is likely wrong."""


@dataclass
class Report:
    """Figures by volume, and findings: each is (fits, sentence)."""

    figures: dict[str, Any] = field(default_factory=dict)
    findings: list[tuple[bool, str]] = field(default_factory=list)

    def say(self, fits: bool, sentence: str) -> None:
        """Add a finding."""
        self.findings.append((fits, sentence))

    @property
    def wrong(self) -> list[str]:
        """The findings that do not fit."""
        return [text for fits, text in self.findings if not fits]


def check(
    paths: Sequence[str],
    *,
    labels: Sequence[str] = (),
    voxel_size: Sequence[float] | None = None,
    sample: int = 256,
) -> Report:
    """Check volumes, and every labels volume against the first image.

    labels: paths that are labels whatever they say.  voxel_size: nm, zyx, for files that do not
    say it.  sample: voxels along each axis that are read, from the middle of a volume.
    """
    if sample < 8:
        raise BadInput(f"sample is {sample}: at least 8 voxels are needed to tell anything.")
    report = Report()
    images: list[Volume] = []
    objects: list[Volume] = []
    tried: set[str] = set()
    for path in [*paths, *labels]:
        volume = open(path, voxel_size=voxel_size)
        is_labels = volume.kind is Kind.LABELS or path in labels
        if is_labels and volume.dtype.kind != "u":
            raise BadInput(f"{path} holds {volume.dtype.name}; labels are whole numbers.")
        (objects if is_labels else images).append(volume)
        report.figures[path] = facts(volume)
        report.figures[path]["format_tried"] = volume.format in handmade.FORMATS
        if volume.format not in tried:
            tried.add(volume.format)
            _check_format(volume.format, report)
        _check_size(volume, is_labels, sample, report)
    for volume in objects:
        if images:
            _check_fit(images[0], volume, sample, report)
    return report


def _check_format(format: str, report: Report) -> None:
    if format not in handmade.FORMATS:
        return
    with tempfile.TemporaryDirectory(prefix="petavox-check-") as folder:
        wrong = handmade.tried(format, Path(folder))
    if wrong:
        report.say(False, f"{format} is not read or written right here: {'; '.join(wrong)}.")
    else:
        report.say(True, f"{format}: an asymmetric phantom comes back with its axes and offset.")


def _check_size(volume: Volume, is_labels: bool, sample: int, report: Report) -> None:
    path, size = volume.path, volume.voxel_size
    low, high = PLAUSIBLE_NM
    if not all(low <= v <= high for v in size):
        report.say(False, f"{path} has voxels of {size}: is the unit right? It must be nm.")
    values = volume.read(middle(volume.box, sample))
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        report.say(False, f"{path} holds values that are not finite numbers (NaN or infinity).")
        return
    lengths = axes.run_lengths(values) if is_labels else axes.likeness_lengths(values)
    nm = [n * v for n, v in zip(lengths, size, strict=True)]
    report.figures[path]["lengths_nm"] = [round(v, 1) for v in nm]
    if np.count_nonzero(np.isfinite(nm)) < 2:
        report.say(False, f"{path} is too even or too small in its middle to check its voxel size.")
        return
    uneven = axes.spread(lengths, size)
    order, better = axes.best_order(lengths, size)
    what = "runs of one label are" if is_labels else "voxels stay alike over"
    said = f"{what} {', '.join(f'{v:.0f}' for v in nm)} nm along z, y, x"
    swapped = [list(size)[i] for i in order]
    if uneven > 1.5 * better:
        report.say(
            False,
            f"{path}: {said} with voxels of {size} (z, y, x); with "
            f"{' x '.join(f'{v:g}' for v in swapped)} nm they would agree within a factor of "
            f"{better:.2f} instead of {uneven:.2f}. Is the order of axes or voxel size xyz?",
        )
    elif uneven > UNEVEN:
        report.say(
            False,
            f"{path}: {said}; a factor of {uneven:.1f} between axes is more than tissue has. "
            "Is the voxel size right?",
        )
    else:
        report.say(True, f"{path}: {said}; the voxel size {size} (z, y, x) fits.")


def _check_fit(image: Volume, labels: Volume, sample: int, report: Report) -> None:
    pair = f"{labels.path} on {image.path}"
    figures = report.figures[labels.path]
    if not same_size(image.voxel_size, labels.voxel_size):
        report.say(False, f"{pair}: voxels are {labels.voxel_size} and {image.voxel_size}.")
    boxes = _common(image.box, labels.box, sample)
    if boxes is None:
        report.say(
            False,
            f"{pair}: the boxes {labels.box} and {image.box} (z, y, x) have no voxel in common, "
            "and no order of axes gives them one shape.",
        )
        return
    a, b = image.read(boxes[0]), labels.read(boxes[1])
    found = axes.fits(a, b)
    best, correlation = found[0]
    as_is = next((c for turn, c in found if turn.is_identity), None)
    figures["fit"] = {
        "as_they_are": None if as_is is None else round(as_is, 4),
        "best": str(best),
        "best_correlation": round(correlation, 4),
        "next_best": round(found[1][1], 4),
    }
    if as_is is not None:
        shift, there, here = axes.best_shift(a, b)
        figures["fit"]["best_shift"] = list(shift)
        if max(abs(s) for s in shift) > 1 and abs(there) > max(1.1 * abs(correlation), 2 * FAINT):
            report.say(
                False,
                f"{pair}: the labels fit better moved by {shift} voxels (z, y, x): correlation "
                f"{there:.3f} instead of {here:.3f}. Is an offset wrong?",
            )
            return
    if abs(correlation) < FAINT:
        report.say(
            False,
            f"{pair}: label boundaries follow no membranes under any order or flip of axes (best "
            f"correlation {correlation:.3f}).",
        )
        return
    if not best.is_identity:
        now = "their shapes differ" if as_is is None else f"as they are, {as_is:.3f}"
        report.say(
            False,
            f"{pair}: the labels fit with {best} (correlation {correlation:.3f}; {now}). "
            "The axes of one of the two are not zyx, or were flipped.",
        )
        return
    report.say(
        True,
        f"{pair}: boundaries and membranes fit as they are (correlation {correlation:.3f}; the "
        f"next best order or flip has {found[1][1]:.3f}).",
    )


def middle(box: Box, sample: int) -> Box:
    """The middle of a box, at most `sample` voxels long on each axis."""
    shape = zyx([min(n, sample) for n in box.shape])
    start = [a + (n - m) // 2 for a, n, m in zip(box.start, box.shape, shape, strict=True)]
    return Box.of_shape(shape, start)


def _common(image: Box, labels: Box, sample: int) -> tuple[Box, Box] | None:
    """Boxes to compare: the same place, or the middles where the shapes are the same reordered."""
    shapes: tuple[Zyx, Zyx] = (image.shape, labels.shape)
    if sorted(shapes[0]) == sorted(shapes[1]) and shapes[0] != shapes[1]:
        return middle(image, sample), middle(labels, sample)
    common = image.intersection(labels)
    if not common.is_empty:
        return middle(common, sample), middle(common, sample)
    if shapes[0] == shapes[1]:
        return middle(image, sample), middle(labels, sample)
    return None
