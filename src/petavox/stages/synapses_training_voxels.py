"""The annotated voxels that a synapse network learns from, or is judged by.

What it is: an image with masks, with a table, or phantom tissue, opened and checked before any
work; then held in memory as greys and bits of classes.
What it is not: how bits are made (petavox.synapse.targets), or how examples are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from petavox import volume
from petavox.errors import BadInput
from petavox.neuron.tables import SITES, checked
from petavox.phantom.drawing import CLEFT, MITO, POST, PRE, VESICLE
from petavox.space import Box
from petavox.stages import phantom as tissue_stage
from petavox.stages.connectome import read_table
from petavox.stages.synapses_training_settings import SynapseVolume
from petavox.stages.training_volumes import opened, phantom_folder, place_of, require_same_voxels
from petavox.synapse import clefts, targets
from petavox.synapse.examples import Source
from petavox.synapse.model import SynapseSpec
from petavox.volume import Volume

# vesicles tell the presynaptic side from the other better than its density does
PHANTOM_CLASSES = {
    "cleft": (CLEFT,), "pre": (PRE, VESICLE), "post": (POST,), "mitochondria": (MITO,)
}  # fmt: skip
MASKS = ("cleft", "pre", "post", "mitochondria")
_SITES = SITES.remove(SITES.get_field_index("id"))


@dataclass(frozen=True)
class Annotation:
    """An annotated volume that was opened: all its volumes hold `box`, in the same voxels.

    masks: volumes by class; of phantom tissue none, whose classes lie in one volume.
    """

    image: Volume
    box: Box
    masks: Mapping[str, Volume]
    labels: Volume | None
    table: Path | None
    tissue: Path | None

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """nm, zyx."""
        size = self.image.voxel_size
        return (size.z, size.y, size.x)

    @property
    def nbytes(self) -> int:
        """Memory of its voxels, greys and bits."""
        return self.box.size * (self.image.dtype.itemsize + 1)


def annotation(settings: SynapseVolume, phantoms: Path, base: Path) -> Annotation:
    """Open what some settings name. Raises BadInput if it does not fit together."""
    tissue = None if settings.phantom is None else phantom_folder(settings.phantom, phantoms)
    if tissue is not None:
        image = volume.open(tissue / tissue_stage.NAMES["image"])
    else:
        assert settings.image is not None
        image = opened(settings.image, base, settings.voxel_size)
    box = image.box if settings.box is None else settings.box
    if not image.box.contains(box):
        raise BadInput(f"box {box} leaves {image.path}, which has {image.box}.")

    def beside(path: str) -> Volume:
        drawn = opened(path, base, settings.voxel_size)
        require_same_voxels(image, drawn)
        if not drawn.box.contains(box):
            raise BadInput(
                f"{drawn.path} has {drawn.box}, which leaves out part of {box}: give a `box` that "
                "all of the annotation holds."
            )
        return drawn

    given = {name: getattr(settings, name) for name in MASKS}
    return Annotation(
        image=image,
        box=box,
        masks={name: beside(path) for name, path in given.items() if path is not None},
        labels=None if settings.labels is None else beside(settings.labels),
        table=None if settings.table is None else Path(place_of(settings.table, base)),
        tissue=tissue,
    )


class AnnotatedVoxels:
    """The voxels of an annotated volume in memory: greys and bits of classes."""

    def __init__(self, given: Annotation, spec: SynapseSpec) -> None:
        self.name, self.box, self.voxel_size = given.image.path, given.box, given.voxel_size
        self.image = given.image.read(self.box)
        self.truth_nm: np.ndarray | None = None
        if given.tissue is not None:
            masks = self._phantom_masks(given.tissue, spec)
        else:
            masks = self._masks(given, spec)
        self.known = targets.known_bits(list(masks), spec.classes)
        self.bits = targets.bits(masks, spec.classes)
        self.cleft_bit = 1 << spec.classes.index("cleft")

    def _phantom_masks(self, folder: Path, spec: SynapseSpec) -> dict[str, np.ndarray]:
        classes = volume.open(folder / tissue_stage.NAMES["classes"]).read(self.box)
        rows = tissue_stage.read_synapses(folder / tissue_stage.NAMES["synapses"])
        places = np.array([r["position"] for r in rows], float).reshape(-1, 3)
        self.truth_nm = places[_inside(places, self.box, self.voxel_size)]
        return {
            str(n): np.isin(classes, v) for n, v in PHANTOM_CLASSES.items() if n in spec.classes
        }

    def _masks(self, given: Annotation, spec: SynapseSpec) -> dict[str, np.ndarray]:
        masks: dict[str, np.ndarray] = {
            name: drawn.read(self.box) > 0
            for name, drawn in given.masks.items()
            if name in spec.classes
        }
        if given.table is not None and given.labels is not None:
            table = checked(read_table(given.table), _SITES, str(given.table))
            places = np.stack([table[f"{a}_nm"].to_numpy() for a in "zyx"], 1)
            drawn = targets.from_table(
                given.labels.read(self.box), self.box.start, self.voxel_size,
                places, table["pre"].to_numpy(), table["post"].to_numpy(),
            )  # fmt: skip
            masks = {n: m for n, m in drawn.items() if n in spec.classes} | masks
            each = np.unique(places, axis=0)
            self.truth_nm = each[_inside(each, self.box, self.voxel_size)]
        return masks

    def source(self, weight: float) -> Source:
        """For the sampler."""
        at = np.argwhere(self.bits & self.cleft_bit)
        # a sample is enough, and the same one each time
        at = at[:: max(1, len(at) // 100_000)] + np.array(self.box.start)
        return Source(
            name=self.name,
            box=self.box,
            image=lambda b: self.image[b.slices(self.box.start)],
            targets=lambda b: self.bits[b.slices(self.box.start)],
            known=self.known,
            clefts=at,
            weight=weight,
        )

    def truth(self) -> np.ndarray:
        """Places of the synapses, (n, 3) nm: of the table, else centroids of the clefts drawn."""
        if self.truth_nm is not None:
            return self.truth_nm
        said = np.where(self.bits & self.cleft_bit, np.uint8(255), np.uint8(0))
        _, parts = clefts.components(said, 0.5, self.box.start)
        return clefts.positions_nm(parts, self.voxel_size)


def _inside(places: np.ndarray, box: Box, voxel_size: tuple[float, float, float]) -> np.ndarray:
    """Which places (n, 3) nm lie in a box."""
    voxels = np.floor(places / np.array(voxel_size))
    return np.asarray(((voxels >= box.start) & (voxels < box.stop)).all(1))
