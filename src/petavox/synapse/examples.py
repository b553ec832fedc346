"""Examples: patches drawn from annotated volumes, some of them at clefts.

What it is: example number i of feeder k as a pure function of (seed, k, i), so that to resume is to
know i. What it is not: files; volumes are readers, functions from a Box to an array.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from petavox.errors import BadInput
from petavox.learn.augment import AugmentSettings, augmented
from petavox.learn.sample import Sample
from petavox.settings import Settings, ZyxSetting
from petavox.space import Box

Reader = Callable[[Box], np.ndarray]


class ExampleSettings(Settings):
    """How examples are drawn."""

    patch: ZyxSetting = (64, 64, 64)
    """Voxels; whole strides of the model."""
    near: float = Field(0.7, ge=0, le=1)
    """Share of the patches that hold a voxel of a cleft; the others lie anywhere."""


@dataclass(frozen=True)
class Source:
    """One annotated volume.

    image: greys.  targets: bits of classes (petavox.synapse.targets).  known: bits of the classes
    that the annotation speaks of.  clefts: (n, 3) voxels of clefts, volume coordinates.
    """

    name: str
    box: Box
    image: Reader
    targets: Reader
    known: int
    clefts: np.ndarray
    weight: float = 1.0


class Sampler:
    """Draws the examples of one feeder. Raises BadInput if a source is smaller than the patch."""

    def __init__(
        self,
        sources: Sequence[Source],
        settings: ExampleSettings,
        augment: AugmentSettings,
        *,
        seed: int = 0,
        feeder: int = 0,
    ) -> None:
        if not sources:
            raise BadInput("there is no volume to train on; give at least one under `volumes`.")
        for s in sources:
            if any(n < p for n, p in zip(s.box.shape, settings.patch, strict=True)):
                raise BadInput(
                    f"volume {s.name} has {s.box.shape} voxels to train on, the patch "
                    f"{settings.patch}: use a larger box or a smaller examples.patch."
                )
        if settings.near > 0 and not any(len(s.clefts) for s in sources):
            raise BadInput(
                "none of the volumes has a voxel of a cleft: check the masks, or set "
                "examples.near to 0."
            )
        self.sources, self.settings, self.augment = list(sources), settings, augment
        self.seed, self.feeder = seed, feeder
        weights = np.array([s.weight for s in sources], float)
        self._chances = weights / weights.sum()
        held = weights * np.array([len(s.clefts) > 0 for s in sources])
        self._near_chances = held / held.sum() if held.any() else self._chances

    def example(self, number: int) -> tuple[Sample, int]:
        """Example `number`, augmented: greys of 0 to 1 and bits; and the bits that are known."""
        rng = np.random.default_rng([self.seed, 1, self.feeder, number])
        near = rng.random() < self.settings.near
        which = int(rng.choice(len(self.sources), p=self._near_chances if near else self._chances))
        source = self.sources[which]
        patch = np.array(self.settings.patch)
        low, high = np.array(source.box.start), np.array(source.box.stop) - patch
        start = rng.integers(low, high + 1)
        if near:
            at = source.clefts[int(rng.integers(len(source.clefts)))]
            # the voxel lies anywhere in the middle three quarters of the patch
            start = np.clip(at - rng.integers(patch // 8, patch - patch // 8), low, high)
        core = Box.of_shape(self.settings.patch, start.tolist())
        return augmented(
            _cut(source, core, self.augment), self.augment, core.shape, rng
        ), source.known


def _cut(source: Source, core: Box, augment: AugmentSettings) -> Sample:
    """The patch with the context that augmentation wants; beyond the volume nothing is known."""
    wanted = core.grown(augment.context())
    inside = wanted.intersection(source.box)
    image, labels = source.image(inside), source.targets(inside)
    most = float(np.iinfo(image.dtype).max) if image.dtype.kind == "u" else 1.0
    grey = image.astype(np.float32) / np.float32(most)
    known = np.ones(inside.shape, bool)
    pads = [
        (a - w, v - b)
        for w, a, b, v in zip(wanted.start, inside.start, inside.stop, wanted.stop, strict=True)
    ]
    if any(p != (0, 0) for p in pads):
        grey = np.pad(grey, pads, mode="symmetric")
        labels, known = np.pad(labels, pads), np.pad(known, pads)
    return Sample(grey, labels, known)
