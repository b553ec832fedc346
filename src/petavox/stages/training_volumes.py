"""Annotated volumes for training, opened and checked before any work; phantom tissue made once.

What it is: what the trainings of both networks ask of their volumes.
What it is not: reading of voxels, or what is learned from them.

Paths are relative to the settings file; `$NAME` and `${NAME}` are filled in from the environment.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from torch import distributed

from petavox.errors import AlreadyExists, BadInput
from petavox.learn import training_state
from petavox.learn.augment import AugmentSettings
from petavox.learn.distributed import Place
from petavox.provenance import digest
from petavox.space import VoxelSize
from petavox.stages import phantom as tissue_stage
from petavox.volume import Volume
from petavox.volume import open as open_volume
from petavox.volume.formats.facts import same_size


def require_new(out: Path) -> None:
    """Raise AlreadyExists if a folder holds a training that could be resumed."""
    if training_state.newest(out / "checkpoints") is not None:
        raise AlreadyExists(f"{out} holds a training; pass --resume, or choose another --out.")


def place_of(path: str, base: Path) -> str:
    """A path of the settings, filled in. base: folder that relative paths start from."""
    filled = os.path.expandvars(path)
    if "$" in filled:
        raise BadInput(f"{path} names an environment variable that is not set.")
    return filled if "://" in filled else str(base / filled)


def opened(path: str, base: Path, voxel_size: Sequence[float] | None) -> Volume:
    """The volume that a path of the settings names. voxel_size: nm, for files that do not say."""
    return open_volume(place_of(path, base), voxel_size=voxel_size)


def phantom_folder(settings: tissue_stage.PhantomSettings, phantoms: Path) -> Path:
    """Where the tissue of some settings lies, made or not."""
    return phantoms / digest(settings.model_dump(mode="json"))[:12]


def make_phantoms(
    asked: Sequence[tissue_stage.PhantomSettings], phantoms: Path, place: Place
) -> None:
    """Make the tissue that is not there yet; the leading rank does it, the others wait."""
    if place.leads:
        for settings in asked:
            folder = phantom_folder(settings, phantoms)
            if not (folder / "phantom.json").is_file():
                shutil.rmtree(folder, ignore_errors=True)  # half made by a run that died
                tissue_stage.write(folder, settings)
    if place.ranks > 1 and asked:
        distributed.barrier()


def require_same_voxels(image: Volume, other: Volume) -> None:
    """Raise BadInput if an annotation has other voxels than its image."""
    if not same_size(image.voxel_size, other.voxel_size):
        raise BadInput(
            f"{image.path} has voxels of {image.voxel_size}, {other.path} of "
            f"{other.voxel_size}; they must be equal."
        )


def require_trained_size(
    name: str, own: Sequence[float], asked: Sequence[float], *, any_voxel_size: bool
) -> None:
    """Raise BadInput if a volume has voxels that are not nearly those of the model, nm."""
    near = all(0.8 <= a / b <= 1.25 for a, b in zip(own, asked, strict=True))
    if not near and not any_voxel_size:
        raise BadInput(
            f"{name} has voxels of {VoxelSize.of(own)}, the model learns from those of "
            f"{VoxelSize.of(asked)}: use another level of the image, or set any_voxel_size: true."
        )


def require_symmetric_voxels(
    settings: AugmentSettings, name: str, voxel_size: Sequence[float]
) -> None:
    """Raise BadInput if axes are exchanged, or turned, along which voxels differ by a tenth."""
    in_plane = max(voxel_size[1:]) > 1.1 * min(voxel_size[1:])
    anywhere = max(voxel_size) > 1.1 * min(voxel_size)
    wrong = {
        "augment.isotropic: false": settings.isotropic and anywhere,
        "augment.transpose: false": settings.transpose and in_plane,
        "augment.rotate_chance: 0": settings.rotate_chance > 0 and in_plane,
    }
    if any(wrong.values()):
        raise BadInput(
            f"{name} has voxels of {VoxelSize.of(voxel_size)}; the axes that trainer.augment "
            f"exchanges must be alike: set {' and '.join(k for k, v in wrong.items() if v)}."
        )
