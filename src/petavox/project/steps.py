"""The steps of a run, as data: what each reads and writes, its settings, its function.

A new stage is one entry here. What it is: the table and its order. What it is not: the running of
it (petavox.project.driver), or the functions (petavox.project.calls).

Steps hand each other *things*, by name: a thing is a path, made by a step or given by the project.

    reads   "image"            the thing, from the last step that wrote it
            "neurons|objects"  the first of these that there is
            "mask?"            may be missing
    writes  thing -> its path in the project's folder
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """One arrow of the run.

    line: what it does.  settings: "module:Class".  function: "module:function", called with a
    petavox.project.calls.Call, gives figures.  code: the module whose source, with all of the
    science that it imports, decides the result.  model: key of the project's models.  on: runs
    unless switched off.  free: settings that do not change the result.  needs: modules without
    which it is left out.  boxed: works on `--subset`, in a folder of its own.
    """

    name: str
    line: str
    reads: tuple[str, ...]
    writes: Mapping[str, str]
    settings: str
    function: str
    code: str
    model: str | None = None
    on: bool = True
    free: tuple[str, ...] = ("threads", "memory_mb")
    needs: tuple[str, ...] = ()
    hint: str = ""
    boxed: bool = True

    @property
    def settings_class(self) -> Any:
        """The settings model, loaded now."""
        return resolve(self.settings)

    def call(self) -> Callable[..., dict[str, Any]]:
        """The function, loaded now."""
        found: Callable[..., dict[str, Any]] = resolve(self.function)
        return found

    def lacking(self) -> str:
        """The first module that is needed and not installed, or nothing."""
        return next((m for m in self.needs if not _there(m)), "")


def resolve(name: str) -> Any:
    """What "module:name" names."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


_CALLS = "petavox.project.calls:"

_TABLE = (
    Step(
        "stitch",
        "tiles to sections",
        ("tiles",),
        {"sections": "stitched"},
        "petavox.stages.stitch:StitchStageSettings",
        _CALLS + "stitch",
        "petavox.stages.stitch",
        boxed=False,
    ),
    Step(
        "align",
        "sections onto one another",
        ("sections",),
        {"fields": "aligned"},
        "petavox.stages.align:AlignStageSettings",
        _CALLS + "align",
        "petavox.stages.align",
        boxed=False,
    ),
    Step(
        "render",
        "aligned sections to an image volume",
        ("sections", "fields"),
        {"image": "image.zarr"},
        "petavox.stages.render:RenderSettings",
        _CALLS + "render",
        "petavox.stages.render",
        boxed=False,
    ),
    Step(
        "qc",
        "a look at every section and pair",
        ("image",),
        {"qc": "qc"},
        "petavox.stages.qc_settings:QcSettings",
        _CALLS + "qc",
        "petavox.stages.qc",
        on=False,
        boxed=False,
    ),
    Step(
        "contrast",
        "even contrast over the stack",
        ("image",),
        {"image": "image_even.zarr"},
        "petavox.stages.contrast:ContrastSettings",
        _CALLS + "contrast",
        "petavox.stages.contrast",
        on=False,
        boxed=False,
    ),
    Step(
        "segment",
        "floods, block by block",
        ("image", "mask?"),
        {"blocks": "objects.blocks"},
        "petavox.stages.blockwise_segment:BlockwiseSettings",
        _CALLS + "segment",
        "petavox.stages.blockwise_segment",
        model="segmentation",
    ),
    Step(
        "segment_again",
        "floods with the seeds in reverse, for a consensus",
        ("image", "mask?"),
        {"blocks_again": "objects_again.blocks"},
        "petavox.stages.blockwise_segment:BlockwiseSettings",
        _CALLS + "segment_again",
        "petavox.stages.blockwise_segment",
        model="segmentation",
        on=False,
    ),
    Step(
        "consensus",
        "what both floods hold together",
        ("blocks", "blocks_again"),
        {"blocks": "objects_agreed.blocks"},
        "petavox.stages.consensus_stages:ConsensusSettings",
        _CALLS + "consensus",
        "petavox.stages.consensus",
        on=False,
    ),
    Step(
        "reconcile",
        "one segmentation across the blocks",
        ("blocks",),
        {"objects": "objects.zarr"},
        "petavox.stages.reconcile:ReconcileSettings",
        _CALLS + "reconcile",
        "petavox.stages.reconcile",
    ),
    Step(
        "agglomerate",
        "objects to neurons",
        ("objects", "image"),
        {"neurons": "neurons.zarr"},
        "petavox.stages.agglomerate:AgglomerateSettings",
        _CALLS + "agglomerate",
        "petavox.stages.agglomerate",
        model="segmentation",
    ),
    Step(
        "synapses",
        "synapses and their partners",
        ("image", "neurons|objects"),
        {"synapses": "synapses"},
        "petavox.stages.synapses:SynapseSettings",
        _CALLS + "synapses",
        "petavox.stages.synapses",
        model="synapses",
        needs=("petavox.stages.synapses",),
    ),
    Step(
        "mesh",
        "surfaces of all neurons",
        ("neurons|objects",),
        {"meshes": "meshes"},
        "petavox.stages.mesh:MeshSettings",
        _CALLS + "mesh",
        "petavox.stages.mesh",
    ),
    Step(
        "skeletonize",
        "centre lines of all neurons",
        ("neurons|objects",),
        {"skeletons": "skeletons"},
        "petavox.stages.skeletonize:SkeletonSettings",
        _CALLS + "skeletonize",
        "petavox.stages.skeletonize",
        needs=("kimimaro",),
        hint="pip install petavox[skeletons]",
    ),
    Step(
        "connectome",
        "tables and graph of neurons and synapses",
        ("neurons|objects", "synapses", "skeletons?"),
        {"connectome": "connectome"},
        "petavox.stages.connectome:ConnectomeSettings",
        _CALLS + "connectome",
        "petavox.stages.connectome",
    ),
    Step(
        "truth",
        "the truth of phantom tiles, in the image's frame",
        ("truth_tiles", "sections", "fields", "image"),
        {"truth": "truth"},
        "petavox.stages.tile_truth:TileTruthSettings",
        _CALLS + "truth",
        "petavox.stages.tile_truth",
        boxed=False,
    ),
    Step(
        "score",
        "all that was made, against the truth",
        ("truth|truth_labels|truth_synapses", "truth_labels?", "truth_synapses?", "objects",
         "neurons?", "synapses?"),
        {"scores": "scores"},
        "petavox.stages.run_scores:RunScoreSettings",
        _CALLS + "score",
        "petavox.stages.run_scores",
    ),
    Step(
        "report",
        "one page about all of it",
        ("*",),
        {"report": "report.html"},
        "petavox.project.calls:ReportSettings",
        _CALLS + "report",
        "petavox.view.report",
        needs=("petavox.view.report",),
    ),
)  # fmt: skip

STEPS: dict[str, Step] = {s.name: s for s in _TABLE}
"""All steps by name, in the order of work."""
GIVEN = ("tiles", "sections", "image", "mask", "synapses")
"""Things that a project's input can be."""
TRUTH = ("tiles", "labels", "synapses")
"""Things that a project's truth can be; they are called truth_tiles and so on."""
