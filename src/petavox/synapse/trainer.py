"""The trainer of the synapse network: batches in, weights out; one step at a time.

What it is: network, optimiser and sampler, one step of learning, and their whole state to save and
take up again exactly. What it is not: when to save, validate or stop: petavox.learn.training_run
runs it, as it runs the trainer of the flood-filling network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from petavox.errors import BadInput
from petavox.learn import training_state
from petavox.learn.augment import AugmentSettings
from petavox.learn.bf16 import autocast
from petavox.learn.distributed import Place
from petavox.learn.divergence import require_numbers
from petavox.learn.schedule import (
    OptimiserSettings,
    mean_decay_at,
    optimiser,
    rate_at,
    require_end,
)
from petavox.settings import Settings
from petavox.synapse.apply import normalised
from petavox.synapse.examples import ExampleSettings, Sampler, Source
from petavox.synapse.model import SynapseModel, SynapseSpec, save_model
from petavox.synapse.network import UNet, initialised

# what cannot change when a training is resumed: it would be another one
_FIXED = ("seed", "batch", "examples", "augment", "rare", "overlap", "optimiser.kind")


class SynapseTrainerSettings(Settings):
    """How the network is trained."""

    seed: int = Field(0, ge=0)
    batch: int = Field(1, ge=1)
    """Patches in one step, for each rank."""
    steps: int | None = Field(None, ge=1)
    """Steps of the whole training."""
    minutes: float | None = Field(None, gt=0)
    """Time of the whole training, validation not counted."""
    precision: Literal["f32", "bf16"] = "f32"
    rare: float = Field(5.0, gt=0)
    """Weight of the cross-entropy where a class is, against where it is not."""
    overlap: float = Field(0.5, ge=0)
    """Weight of the overlap (Dice) in the loss: it makes rare classes as heavy as common ones."""
    examples: ExampleSettings = ExampleSettings()
    augment: AugmentSettings = AugmentSettings(transpose=True)
    optimiser: OptimiserSettings = OptimiserSettings()


class SynapseTrainer:
    """A synapse network that learns.

    start: weights to begin with (default: fresh ones).
    Raises BadInput if the settings do not fit the spec or the sources.
    """

    def __init__(
        self,
        spec: SynapseSpec,
        sources: Sequence[Source],
        settings: SynapseTrainerSettings,
        *,
        device: torch.device | str = "cpu",
        place: Place | None = None,
        start: UNet | None = None,
    ) -> None:
        patch = settings.examples.patch
        if any(p % s for p, s in zip(patch, spec.stride, strict=True)):
            raise BadInput(
                f"examples.patch is {patch}, but the model's steps coarsen by {spec.stride}: make "
                "each side a multiple of that."
            )
        if settings.augment.isotropic and len(set(patch)) > 1:
            raise BadInput(
                f"augment.isotropic is set, but examples.patch is {patch}: make its sides equal, "
                "or set augment.isotropic: false."
            )
        if settings.augment.transpose and patch[1] != patch[2]:
            raise BadInput(
                f"augment.transpose is set, but examples.patch is {patch}: make y and x equal, or "
                "set augment.transpose: false."
            )
        require_end(settings.optimiser, settings.steps)
        self.spec, self.settings, self.place = spec, settings, place or Place()
        self.device = torch.device(device)
        self.network = initialised(spec.fresh(), settings.seed)
        if start is not None:
            self.network.load_state_dict(start.state_dict())
        self.network = cast(Any, self.network.to(self.device)).to(
            memory_format=torch.channels_last_3d
        )
        self._callable: nn.Module = self.network
        if self.place.ranks > 1:
            ids = [self.device] if self.device.type != "cpu" else None
            self._callable = DistributedDataParallel(self.network, device_ids=ids)
        self.optimiser = optimiser(self.network.parameters(), settings.optimiser)
        self.mean: dict[str, Tensor] | None = None
        if settings.optimiser.mean_decay > 0:
            self.mean = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.all_feeders = self.place.ranks
        self.sampler = Sampler(
            sources,
            settings.examples,
            settings.augment,
            seed=settings.seed,
            feeder=self.place.rank,
        )
        kinds = ("right", "spurious", "missed")
        self.counts: tuple[str, ...] = (
            "loss", "steps", "fovs", *(f"{c}_{k}" for c in spec.classes for k in kinds)
        )  # fmt: skip
        self.next_example = self.step_number = self.fovs = 0

    @property
    def fovs_a_step(self) -> int:
        """Patches that all ranks see in a step."""
        return self.settings.batch * self.place.ranks

    def step(self) -> Counter[str]:
        """Learn from one batch. Returns this rank's figures: loss, and voxels of each class.

        Raises WorkFailed if the weights diverge.
        """
        settings = self.settings.optimiser
        rate = rate_at(self.step_number, self.settings.steps, settings, self.place.ranks)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        image, target, known = (t.to(self.device) for t in self._batch())
        self.optimiser.zero_grad(set_to_none=True)
        with autocast(self.device, self.settings.precision):
            logits = self._callable(image.contiguous(memory_format=torch.channels_last_3d))
        logits = logits.float()
        loss = loss_of(logits, target, known, self.settings.rare, self.settings.overlap)
        loss.backward()
        nn.utils.clip_grad_value_(self.network.parameters(), settings.clip)
        self.optimiser.step()
        require_numbers(self.network.parameters(), self.step_number + 1)
        if self.mean is not None:
            decay = mean_decay_at(self.step_number, settings.mean_decay)
            with torch.no_grad():
                for name, tensor in self.network.state_dict().items():
                    if tensor.is_floating_point():
                        self.mean[name].lerp_(tensor, 1.0 - decay)
                    else:
                        self.mean[name].copy_(tensor)
        self.step_number += 1
        self.fovs += self.fovs_a_step
        return self._figures(float(loss.detach()), logits.detach(), target, known)

    def _batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """image (n, 1, z, y, x), target and known (n, classes, z, y, x), float32."""
        images, targets, knowns = [], [], []
        for _ in range(self.settings.batch):
            sample, of_source = self.sampler.example(self.next_example)
            self.next_example += 1
            images.append(normalised(sample.image, self.spec)[None])
            which = np.arange(len(self.spec.classes)).reshape(-1, 1, 1, 1)
            targets.append(((sample.labels[None] >> which) & 1).astype(np.float32))
            knowns.append((sample.known[None] & ((of_source >> which) & 1 > 0)).astype(np.float32))
        image, target, known = (
            torch.from_numpy(np.ascontiguousarray(np.stack(a))) for a in (images, targets, knowns)
        )
        return image, target, known

    def _figures(self, loss: float, logits: Tensor, target: Tensor, known: Tensor) -> Counter[str]:
        said, true = (logits > 0) & (known > 0), (target > 0) & (known > 0)
        figures: Counter[str] = Counter(steps=1, fovs=len(logits))
        figures["loss"] = loss  # type: ignore[assignment]
        axes = (0, 2, 3, 4)
        for kind, where in (
            ("right", said & true), ("spurious", said & ~true), ("missed", true & ~said),
        ):  # fmt: skip
            for name, n in zip(self.spec.classes, where.sum(axes).tolist(), strict=True):
                figures[f"{name}_{kind}"] = n
        return figures

    def shown(self, sums: dict[str, float]) -> dict[str, float]:
        """Loss, and the F1 of voxels of each class."""
        out = {"loss": sums["loss"] / max(sums["steps"], 1)}
        for name in self.spec.classes:
            right, wrong = (
                sums[f"{name}_right"],
                sums[f"{name}_spurious"] + sums[f"{name}_missed"],
            )
            out[f"{name}_f1"] = 2 * right / max(2 * right + wrong, 1)
        return out

    def annotated_voxels(self) -> int:
        """Voxels that examples are drawn from."""
        return sum(s.box.size for s in self.sampler.sources)

    def model(self) -> SynapseModel:
        """The network as it is now, or its running mean. A copy."""
        network = self.spec.fresh()
        network.load_state_dict(self.network.state_dict() if self.mean is None else self.mean)
        return SynapseModel(self.spec, network.eval().requires_grad_(False))

    def export(self, path: Path, provenance: dict[str, Any]) -> None:
        """Write the network as it is now as a model file."""
        spec = self.spec.model_copy(update={"provenance": provenance})
        save_model(path, spec, self.model().network.state_dict())

    def close(self) -> None:
        """There is no thread to end."""

    # -- state -----------------------------------------------------------------------------

    def save(self, root: Path, facts: dict[str, Any] | None = None, keep: int = 2) -> Path | None:
        """Write a checkpoint; all ranks call this together. The leading rank returns its folder."""
        partial = training_state.partial_of(root, self.step_number)
        partial.mkdir(parents=True, exist_ok=True)
        if self.place.leads:
            tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
            if self.mean is not None:
                tensors |= {f"mean.{k}": v for k, v in self.mean.items()}
            tensors |= training_state.optimiser_tensors(self.optimiser)
            training_state.write_state(
                partial,
                tensors,
                {
                    "step": self.step_number,
                    "fovs": self.fovs,
                    "feeders": self.all_feeders,
                    "next_example": self.next_example,
                    "spec": self.spec.model_dump(mode="json"),
                    "settings": self.settings.model_dump(mode="json"),
                    **(facts or {}),
                },
            )
        return training_state.publish_together(
            root, self.step_number, keep, leads=self.place.leads, ranks=self.place.ranks
        )

    def restore(self, folder: Path) -> dict[str, Any]:
        """Take up a checkpoint, exactly; returns its facts."""
        tensors, facts = training_state.read_state(folder)
        then_spec = training_state.spec_in(facts, SynapseSpec, folder)
        training_state.require_same_network(then_spec, self.spec, folder)
        now, then = self.settings.model_dump(mode="json"), facts["settings"]
        training_state.require_unchanged(now, then, _FIXED, folder)
        self.network.load_state_dict(training_state.part(tensors, "network."))
        if self.mean is not None:
            mean = training_state.part(tensors, "mean.") or training_state.part(tensors, "network.")
            self.mean = {k: v.to(self.device) for k, v in mean.items()}
        training_state.restore_optimiser(self.optimiser, tensors)
        self.step_number, self.fovs = facts["step"], facts["fovs"]
        self.next_example = facts["next_example"]
        return facts


def loss_of(logits: Tensor, target: Tensor, known: Tensor, rare: float, overlap: float) -> Tensor:
    """Cross-entropy, and how far what is said and what is true fail to overlap.

    All (n, classes, z, y, x) float32; target and known 0 or 1. Both parts are means over the
    classes that are known somewhere in the batch; the overlap is that of the whole batch
    (Milletari et al. 2016, arXiv:1606.04797).
    """
    axes = (0, 2, 3, 4)
    each = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    weight = known * (1 + (rare - 1) * target)
    spoken = (known.sum(axes) > 0).float()
    entropy = (each * weight).sum(axes) / weight.sum(axes).clamp(min=1)
    said = torch.sigmoid(logits) * known
    both, either = (said * target).sum(axes), said.sum(axes) + (target * known).sum(axes)
    # a few voxels of slack: a batch without the class must not weigh as much as one with it
    missed = 1 - (2 * both + _SLACK) / (either + _SLACK)
    classes = spoken.sum().clamp(min=1)
    return ((entropy + overlap * missed) * spoken).sum() / classes


_SLACK = 100.0  # voxels
