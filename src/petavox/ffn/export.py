"""A model file out of a checkpoint of a training.

What it is: the weights, or their running mean, taken from a training that goes on or was stopped.
What it is not: the model files that a training writes itself (petavox.learn.training_run).
"""

from __future__ import annotations

from pathlib import Path

from petavox.ffn.model import ModelSpec, save_model
from petavox.learn import training_state


def export_checkpoint(checkpoint: str | Path, out: str | Path) -> ModelSpec:
    """Make a model file of a checkpoint: the running mean of the weights if there is one.

    checkpoint: a folder `step-NNNNNNNN`, or a folder that holds such folders (the newest is
    taken), or the --out folder of a training. Returns the spec of the model.
    """
    folder = Path(checkpoint)
    for root in (folder, folder / "checkpoints"):
        if not (folder / training_state.STATE).is_file():
            folder = training_state.newest(root) or folder
    tensors, facts = training_state.read_state(folder)
    spec = training_state.spec_in(facts, ModelSpec, folder)
    provenance = {**spec.provenance, "steps": facts["step"], "fovs": facts["fovs"]}
    spec = spec.model_copy(update={"provenance": provenance})
    save_model(
        out, spec, training_state.part(tensors, "mean.") or training_state.part(tensors, "network.")
    )
    return spec
