"""The spec of the network that a training is of: of the settings, of --init, or of a checkpoint.

What it is: which of them holds, for both kinds of network. What it is not: weights, or how a spec
is checked (petavox.ffn.model, petavox.synapse.model).
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from petavox.errors import BadInput
from petavox.ffn.model import ModelSpec
from petavox.learn import training_state
from petavox.learn.distributed import Place
from petavox.synapse.model import SynapseSpec

S = TypeVar("S", ModelSpec, SynapseSpec)


def spec_of(
    kind: type[S], given: S | None, start: S | None, out: Path, place: Place, *, resume: bool
) -> S | None:
    """The spec to train, without provenance; None if nothing says it.

    given: of the settings.  start: of the model of --init.  out: folder of the training, whose
    checkpoint says it if it goes on and was begun with --init, which need not be given again.
    Raises BadInput if `given` and `start` are of different networks.
    """
    if start is not None:
        # each model that a training writes has a voxel size; few settings give one
        notes = {"provenance"}
        if given is not None and given.voxel_size is None:
            notes = {"provenance", "voxel_size"}
        if given is not None and given.model_dump(exclude=notes) != start.model_dump(exclude=notes):
            raise BadInput(
                "the settings' `model` differs from that of --init; leave `model` out to take the "
                "model's own."
            )
        return start.model_copy(update={"provenance": {}})
    if given is not None or not resume:
        return given
    late = 0.0 if place.leads else training_state.LATE_S
    folder = training_state.seen(out / "checkpoints", late)
    if folder is None:
        raise BadInput(f"there is no checkpoint in {out}; start without --resume.")
    spec = training_state.spec_in(training_state.facts_of(folder), kind, folder)
    return spec.model_copy(update={"provenance": {}})
